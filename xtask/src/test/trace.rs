//! Traces of machines: what programs do is in them, nothing is lost, and they are there however the machine ends.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use libipc::abi::trace::{Reader, What, Who};

use super::{Arguments, replay::gunzip, report::Report};
use crate::{
    machine::{Ending, Terminal},
    run::{self, Built},
};

type Proof = fn(&Built, &Path) -> Result<()>;

const TESTS: [(&str, Proof); 3] = [
    ("trace: of a million messages none is lost", streams),
    ("trace: a machine that is ended by its time limit leaves its trace", survives),
    ("trace: what was recorded inside can be read inside", shows),
];
const TIMEOUT_S: u64 = 240;
/// Reads and writes of one byte each: with their answers four times as many messages.
const CALLS: u64 = 250_000;
/// Long enough for the machine to start.
const SHORT_S: u64 = 20;
const READ: u32 = 0;
const WRITE: u32 = 1;
const OPENAT: u32 = 257;

/// Runs those whose names contain `filter`.
pub fn run(built: &Built, filter: Option<&str>, report: &mut Report) -> Result<()> {
    let wanted: Vec<_> = TESTS.iter().filter(|(name, _)| name.contains(filter.unwrap_or_default())).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    report.start("traces", wanted.len());
    for (name, prove) in wanted {
        let folder = tempfile::tempdir()?;
        match prove(built, &folder.path().join("trace")) {
            Ok(()) => report.passed(name),
            Err(error) => report.failed(name, &format!("{error:#}")),
        }
    }
    Ok(())
}

/// Runs a command in a machine: how it ended, and what it printed.
fn boot(built: &Built, trace: Option<&Path>, timeout_s: u64, command: &str) -> Result<(Ending, Vec<u8>)> {
    let mut args = Arguments::try_parse_from([""; 0])?.run;
    args.timeout = Some(timeout_s);
    args.trace = trace.map(Path::to_owned);
    let mut output = Vec::new();
    let session = run::session(Some(command), (24, 80), "dumb");
    let ending = built.boot(&args, &session, Terminal::Captured(&mut output), &mut |_| {})?;
    Ok((ending, output))
}

/// Programs' calls by number in a trace that is whole, and how many of them are over.
fn calls(file: &[u8]) -> Result<BTreeMap<u32, (u64, u64)>> {
    let (mut calls, mut open) = (BTreeMap::<u32, (u64, u64)>::new(), BTreeMap::new());
    for record in Reader::new(file)? {
        let record = record?;
        match (record.what(), record.stamp.call, record.stamp.who) {
            (What::Lost { records }, ..) => anyhow::bail!("{records} records are lost"),
            (What::Linux { number, .. }, Some(call), Who::Program { .. }) => {
                calls.entry(number).or_default().0 += 1;
                ensure!(open.insert(call, number).is_none(), "{call:?} is made twice");
            }
            _ => {}
        }
        if let (Some(call), Some(_)) = (record.stamp.call, record.result())
            && let Some(number) = open.remove(&call)
        {
            calls.entry(number).or_default().1 += 1;
        }
    }
    Ok(calls)
}

fn streams(built: &Built, trace: &Path) -> Result<()> {
    let command = format!("dd if=/dev/zero of=/dev/null bs=1 count={CALLS} 2>/dev/null; echo $?; exit 7");
    let (ending, output) = boot(built, Some(trace), TIMEOUT_S, &command)?;
    ensure!(ending == Ending::Status(7) && output == b"0\n", "the run ended otherwise: {ending:?}");
    let calls = calls(&fs::read(trace)?)?;
    for number in [READ, WRITE] {
        let (made, over) = calls.get(&number).copied().unwrap_or_default();
        ensure!(
            made >= CALLS && over == made,
            "{made} calls with the number {number}, of which {over} are over"
        );
    }
    Ok(())
}

fn survives(built: &Built, trace: &Path) -> Result<()> {
    let (ending, _) = boot(built, Some(trace), SHORT_S, "while :; do :; done")?;
    ensure!(ending == Ending::Timeout, "the run ended otherwise: {ending:?}");
    let file = fs::read(trace)?;
    calls(&file)?;
    let started =
        Reader::new(&file)?.flatten().filter(|record| matches!(record.what(), What::ServerStarted { .. }));
    ensure!(started.count() > 0, "no server's start is in the trace");
    Ok(())
}

fn shows(built: &Built, _: &Path) -> Result<()> {
    let command = "echo 'on calls=openat' >/proc/naiad/trace; ls / >/dev/null; head -c 3 /etc/passwd \
                   >/dev/null; echo off >/proc/naiad/trace; cat /proc/naiad/trace >/tmp/trace; \
                   (echo servers=xfs >/proc/naiad/trace) 2>/dev/null && exit 1; gzip -c /tmp/trace";
    let (ending, output) = boot(built, None, TIMEOUT_S, command)?;
    ensure!(ending == Ending::Status(0), "the run ended otherwise: {ending:?}");
    let file = gunzip(&output).context("what was read in the machine")?;
    let reader = Reader::new(&file)?;
    ensure!(reader.names.number("vfs").is_some(), "the trace names no servers");
    let calls = calls(&file)?;
    ensure!(calls.get(&OPENAT).is_some_and(|(made, _)| *made >= 2), "the calls are not in it: {calls:?}");
    ensure!(calls.len() == 1, "it has calls that were not asked for: {calls:?}");
    Ok(())
}
