//! A sample of what `cargo xtask chaos` does: crashes of every server, one at a time, in pairs and at random, and
//! messages that their servers cannot bear.

use anyhow::Result;

use super::report::Report;
use crate::chaos;

/// Samples: what each proves, and the simulator's arguments.
const SAMPLES: [(&str, &[&str]); 5] = [
    (
        "sim: no program notices a crash, nor a second one soon after it",
        &["--exhaustive", "--start", "--stride", "23", "--window", "4", "--rounds", "2", "--limit", "30"],
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

/// Runs the samples whose names contain `filter`.
pub fn run(filter: Option<&str>, report: &mut Report) {
    let chosen = SAMPLES.iter().filter(|(name, _)| name.contains(filter.unwrap_or_default()));
    for (name, arguments) in chosen {
        match prove(arguments) {
            Ok(None) => report.passed(name),
            Ok(Some(output)) => report.failed(name, &output),
            Err(error) => report.failed(name, &format!("{error:#}")),
        }
    }
}

/// What the simulator printed, if anything was different.
fn prove(arguments: &[&str]) -> Result<Option<String>> {
    let (output, equal) = chaos::sample(arguments)?;
    Ok((!equal).then_some(output))
}
