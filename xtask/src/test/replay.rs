//! Journals that leave the machine: every journaled server, run again on the host over its own history, must come to
//! the digests that it told in the machine.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use libipc::server::replay::{History, Outcome};

use super::{Arguments, report::Report};
use crate::{
    house,
    machine::{Ending, Terminal},
    replay::{self, Replayed, Wanted},
    run::{self, Built},
};

const NAME: &str = "replay: every journaled server ends on the host in the state it had in the machine";
/// Every journaled server but root, which is not made of the shell that is replayed.
const SERVERS: [&str; 6] = ["proc", "procfs", "tmpfs", "tty", "vfs", "vm"];
const BUSYBOX: &str = "/bin/busybox";
const TIMEOUT_S: u64 = 240;

/// Runs the test, if its name contains `filter`.
pub fn run(built: &Built, filter: Option<&str>, report: &mut Report) -> Result<()> {
    if !NAME.contains(filter.unwrap_or_default()) {
        return Ok(());
    }
    report.start("replay", 1);
    match prove(built) {
        Ok(()) => report.passed(NAME),
        Err(error) => report.failed(NAME, &format!("{error:#}")),
    }
    Ok(())
}

/// Makes the servers work and die, takes their journals out, and runs each twice.
fn prove(built: &Built) -> Result<()> {
    let histories = replay::histories(&journals(built)?)?;
    let names: Vec<&str> = histories.iter().map(|history| history.boot.name.as_str()).collect();
    ensure!(names == SERVERS, "the machine gave journals of {names:?}");
    ensure!(histories.iter().any(|history| history.snapshots > 0), "no journal begins with a snapshot");
    histories.iter().try_for_each(|history| {
        repeat(history).with_context(|| format!("the journal of {}", history.boot.name))
    })
}

fn repeat(history: &History) -> Result<()> {
    let first = ended(replay::serve(history, &Wanted::default())?)?;
    ensure!(first.told.is_some(), "it has no digest that was told in the machine");
    let (_, at) = first.told.unwrap_or_default();
    let until = ended(replay::serve(history, &Wanted::until(Some(at)))?)?;
    ensure!(
        first.told == Some((until.digest, at)),
        "the state after {at} messages is not the one in the machine"
    );
    ensure!(ended(replay::serve(history, &Wanted::default())?)? == first, "a second replay ends otherwise");
    Ok(())
}

fn ended(ending: Replayed) -> Result<Outcome> {
    match ending {
        Replayed::Ended(outcome) => Ok(outcome),
        other => bail!("the replay ends with {other:?}"),
    }
}

fn journals(built: &Built) -> Result<Vec<u8>> {
    let servers = SERVERS.join(" ");
    // A server that begins its journal anew while it is read makes the copy fail; the next one is whole.
    let script = format!(
        "cd /tmp\n\
         seq 1 500 | sort -r | md5sum >/dev/null\n\
         /usr/lib/naiad/tests/seed >/dev/null\n\
         /usr/lib/naiad/tests/strike 1 60 {} kill,ud2,load,stack,heap,divide &\n\
         while kill -0 $! 2>/dev/null; do seq 1 500 | sort -r | md5sum; ls -lR /proc/naiad; done >/dev/null\n\
         for name in {servers}; do echo crash >/proc/naiad/servers/$name/ctl; ls -lR /proc/naiad >/dev/null; done\n\
         for name in {servers}; do\n\
         until cat /proc/naiad/servers/$name/journal >$name 2>/dev/null; do :; done\n\
         done\n\
         cat {servers} | gzip -c\n",
        SERVERS.join(",")
    );
    let mut args = Arguments::try_parse_from([""; 0])?.run;
    args.timeout = Some(TIMEOUT_S);
    let (mut output, mut log) = (Vec::new(), Vec::new());
    let mut note = |line: &str| log.push(line.to_owned());
    let session = run::session(Some(&script), (24, 80), "dumb");
    let ending = built.boot(&args, &session, Terminal::Captured(&mut output), &mut note)?;
    if ending != Ending::Status(0) {
        bail!("the machine ended with status {}; its log:\n{}", ending.status(), log.join("\n"));
    }
    gunzip(&output)
}

pub fn gunzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let file = tempfile::Builder::new().prefix("journals-").tempfile_in(house::target())?;
    fs::write(file.path(), bytes)?;
    let mut command = Command::new(BUSYBOX);
    command.args(["gunzip", "-c"]).stdin(fs::File::open(file.path())?).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("cannot run {BUSYBOX}"))?;
    ensure!(output.status.success(), "what the machine printed is not what gzip writes");
    Ok(output.stdout)
}
