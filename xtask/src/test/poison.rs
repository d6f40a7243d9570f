//! A server with a bug on purpose: a system call that kills it each time, and one at which it loops for ever, are
//! errors to their callers alone; and what led to each death does the same on the host.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

use super::{TIMEOUT_S, report::same};
use crate::{cli::RunArgs, house, run::Built, script};

const SCRIPT: &str = "cd /tmp
hostname panic 2>&1; echo panic: $?
hostname spin 2>&1; echo spin: $?
hostname works; hostname
echo a b | tr a b
sed -n '/^crash/,$p' /proc/naiad/crashes
ls -1 /proc/naiad/reproducers
sed -n 's/^deaths: *//p' /proc/naiad/servers/proc/status
echo --
cat /proc/naiad/reproducers/1 /proc/naiad/reproducers/2 | gzip -c
";
const SHOWN: &str = "hostname: sethostname: Input/output error
panic: 1
hostname: sethostname: Input/output error
spin: 1
works
b b
";
const SEEDED_BUG: &str = include_str!("../../../servers/proc/src/seeded_bug.rs");
/// What the host says of the two replays.
const REPLAYED: [&str; 2] = ["a host is called panic", "does not come to an end with message"];

/// Poisons a machine and looks at what is left of it.
pub fn prove(built: &Built) -> Result<()> {
    let ran = script::succeed(&built.clone().with_seeded_bug()?, &RunArgs::limited(TIMEOUT_S), SCRIPT)?;
    let (text, reproducers) = ran.unpacked()?;
    let (shown, table) = text.split_at(text.find("crash ").unwrap_or(text.len()));
    same(SHOWN.as_bytes(), shown.as_bytes()).with_context(|| ran.last_words())?;
    for words in
        ["exception", "watchdog", "system call", "caller got an error", "\n1\n2\n", "4 (0 from outside"]
    {
        ensure!(table.contains(words), "`{words}` is missing in\n{table}");
    }
    let file = tempfile::Builder::new().prefix("reproducers-").tempfile_in(house::target())?;
    fs::write(file.path(), reproducers)?;
    replayed(file.path())?;
    debugged(file.path())
}

/// Replays a file with servers that have the bug, too.
fn replayed(file: &Path) -> Result<()> {
    let text = replay(file, &[])?;
    for (line, words) in text.lines().zip(REPLAYED) {
        ensure!(line.contains(words), "`{line}` does not say `{words}`");
    }
    ensure!(text.lines().count() == REPLAYED.len(), "the replay says\n{text}");
    Ok(())
}

/// Under gdb a replay stops where the server panics, in the server's own code.
fn debugged(file: &Path) -> Result<()> {
    let text = replay(file, &["--gdb", "--", "-batch", "-ex", "info line", "-ex", "print name"])?;
    let line = SEEDED_BUG.lines().position(|line| line.contains("panic!(")).unwrap_or_default() + 1;
    let place = format!("seeded_bug.rs:{line}");
    for words in ["stopped in proc::seeded_bug::trip_over", place.as_str(), "[112, 97, 110, 105, 99]"] {
        ensure!(text.contains(words), "gdb does not say `{words}`:\n{text}");
    }
    Ok(())
}

/// What a replay with servers that have the bug prints.
fn replay(file: &Path, arguments: &[&str]) -> Result<String> {
    let mut command =
        house::cargo(&["run", "--quiet", "--package", "xtask", "--features", "seeded-bug", "--", "replay"]);
    let output = command.arg(file).args(arguments).output().context("cannot run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "the replay says\n{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}
