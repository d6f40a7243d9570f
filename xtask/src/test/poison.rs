//! A server with a bug on purpose: a system call that kills it each time, and one at which it loops for ever, are
//! errors to their callers alone; and what led to each death does the same on the host.

use std::{env, ffi::OsString, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use clap::Parser;

use super::{
    Arguments,
    replay::gunzip,
    report::{Report, difference},
};
use crate::{
    house,
    machine::{Ending, Terminal},
    run::{self, Built},
};

const NAME: &str =
    "poison: a call that kills its server each time is an error to its caller, and can be replayed";
const TIMEOUT_S: u64 = 240;
/// Ends the text on the terminal; what follows it is compressed.
const MARK: &[u8] = b"--\n";
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

/// Runs the test, if its name contains `filter`.
pub fn run(built: &Built, filter: Option<&str>, report: &mut Report) -> Result<()> {
    if !NAME.contains(filter.unwrap_or_default()) {
        return Ok(());
    }
    report.start("poison", 1);
    match prove(built.clone()) {
        Ok(()) => report.passed(NAME),
        Err(error) => report.failed(NAME, &format!("{error:#}")),
    }
    Ok(())
}

fn prove(built: Built) -> Result<()> {
    let built = built.with_seeded_bug()?;
    let mut args = Arguments::try_parse_from([""; 0])?.run;
    args.timeout = Some(TIMEOUT_S);
    let session = run::session(Some(SCRIPT), (24, 80), "dumb");
    let (mut output, mut log) = (Vec::new(), Vec::new());
    let mut note = |line: &str| log.push(line.to_owned());
    let ending = built.boot(&args, &session, Terminal::Captured(&mut output), &mut note)?;
    let log = log.join("\n");
    ensure!(
        ending == Ending::Status(0),
        "the machine ended with status {}; its log:\n{log}",
        ending.status()
    );
    let mark = output.windows(MARK.len()).position(|bytes| bytes == MARK);
    let mark = mark.with_context(|| format!("the script broke off; the log:\n{log}"))?;
    let (text, rest) = output.split_at(mark);
    let text = String::from_utf8_lossy(text);
    let (shown, table) = text.split_at(text.find("crash ").unwrap_or(text.len()));
    if let Some(difference) = difference(SHOWN.as_bytes(), shown.as_bytes()) {
        anyhow::bail!("{difference}\nthe log:\n{log}");
    }
    for words in
        ["exception", "watchdog", "system call", "caller got an error", "\n1\n2\n", "4 (0 from outside"]
    {
        ensure!(table.contains(words), "`{words}` is missing in\n{table}");
    }
    let file = tempfile::Builder::new().prefix("reproducers-").tempfile_in(house::target())?;
    fs::write(file.path(), gunzip(&rest[MARK.len()..])?)?;
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
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command
        .args(["run", "--quiet", "--package", "xtask", "--features", "seeded-bug", "--", "replay"])
        .arg(file)
        .args(arguments);
    let output = command.current_dir(house::root()).output().context("cannot run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "the replay says\n{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}
