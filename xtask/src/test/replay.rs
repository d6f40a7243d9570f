//! Journals that leave the machine: every journaled server, run again on the host over its own history, must come to
//! the digests that it told in the machine.

use anyhow::{Context, Result, bail, ensure};
use libipc::server::replay::{History, Outcome};

use super::TIMEOUT_S;
use crate::{
    cli::RunArgs,
    replay::{self, Replayed, Wanted},
    run::Built,
    script,
};

/// Every journaled server.
const SERVERS: [&str; 7] = ["proc", "procfs", "root", "tmpfs", "tty", "vfs", "vm"];
/// Makes the servers work and die, takes their journals out, and runs each twice.
pub fn prove(built: &Built) -> Result<()> {
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
         echo --; cat {servers} | gzip -c\n",
        SERVERS.join(",")
    );
    Ok(script::succeed(built, &RunArgs::limited(TIMEOUT_S), &script)?.unpacked()?.1)
}
