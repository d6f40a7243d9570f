//! A sample of what `cargo xtask chaos` does: crashes of every server, one at a time, in pairs and at random, and
//! messages that their servers cannot bear.

use anyhow::ensure;

use super::report::Report;
use crate::chaos;

/// Samples: what each proves, and the simulator's arguments.
const SAMPLES: [(&str, &[&str]); 5] = [
    (
        "sim: no program notices a crash, nor a second one soon after it",
        &["--exhaustive", "--stride", "23", "--window", "4", "--rounds", "2", "--limit", "30"],
    ),
    (
        "sim: no program notices crashes, faults and loops at random",
        &["--faults", "kill,fault,loop", "--runs", "4000", "--kills", "12", "--rounds", "2", "--limit", "30"],
    ),
    (
        "sim: damage and a failing disk are borne, and what was made durable outlives a power cut",
        &["--faults", "torn,disk,power", "--runs", "2000", "--rounds", "2", "--limit", "30"],
    ),
    (
        "sim: a message that kills its server each time takes no server away, and one that is given up no other",
        &["--poison", "--stride", "7", "--limit", "20"],
    ),
    (
        "sim: a message at which its server loops for ever takes no server away",
        &["--hang", "--stride", "37", "--limit", "20"],
    ),
];

/// Runs the samples that are asked for.
pub fn run(report: &mut Report) {
    for (name, arguments) in SAMPLES {
        report.prove(name, || {
            let (output, equal) = chaos::sample(arguments)?;
            ensure!(equal, "{output}");
            Ok(())
        });
    }
}
