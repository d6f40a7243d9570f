//! Traces of machines: what programs do is in them, nothing is lost, and they are there however the machine ends.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result, ensure};
use libipc::abi::trace::{Reader, What, Who};

use super::TIMEOUT_S;
use crate::{
    cli::RunArgs,
    machine::Ending,
    run::Built,
    script::{self, Ran},
};

/// Reads and writes of one byte each: with their answers four times as many messages.
const CALLS: u64 = 250_000;
/// Long enough for the machine to start.
const SHORT_S: u64 = 20;
const READ: u32 = 0;
const WRITE: u32 = 1;
const OPENAT: u32 = 257;

/// Runs a script in a machine that is traced: how it went, and the trace.
fn traced(built: &Built, timeout_s: u64, script: &str) -> Result<(Ran, Vec<u8>)> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("trace");
    let args = RunArgs { trace: Some(path.clone()), ..RunArgs::limited(timeout_s) };
    let ran = script::run(built, &args, script)?;
    Ok((ran, fs::read(path).context("the machine left no trace")?))
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

/// Of half a million messages none is lost.
pub fn streams(built: &Built) -> Result<()> {
    let script = format!("dd if=/dev/zero of=/dev/null bs=1 count={CALLS} 2>/dev/null; echo $?; exit 7");
    let (ran, trace) = traced(built, TIMEOUT_S, &script)?;
    ran.must(7, b"0\n")?;
    let calls = calls(&trace)?;
    for number in [READ, WRITE] {
        let (made, over) = calls.get(&number).copied().unwrap_or_default();
        ensure!(
            made >= CALLS && over == made,
            "{made} calls with the number {number}, of which {over} are over"
        );
    }
    Ok(())
}

/// A machine that is ended by its time limit leaves its trace.
pub fn survives(built: &Built) -> Result<()> {
    let (ran, file) = traced(built, SHORT_S, "while :; do :; done")?;
    ensure!(ran.ending == Ending::Timeout, "the run ended otherwise: {:?}", ran.ending);
    calls(&file)?;
    let started =
        Reader::new(&file)?.flatten().filter(|record| matches!(record.what(), What::ServerStarted { .. }));
    ensure!(started.count() > 0, "no server's start is in the trace");
    Ok(())
}

/// What was recorded inside can be read inside.
pub fn shows(built: &Built) -> Result<()> {
    let script = "echo 'on calls=openat' >/proc/naiad/trace; ls / >/dev/null; head -c 3 /etc/passwd \
                   >/dev/null; echo off >/proc/naiad/trace; cat /proc/naiad/trace >/tmp/trace; \
                   (echo servers=xfs >/proc/naiad/trace) 2>/dev/null && exit 1; echo --; gzip -c /tmp/trace";
    let (_, file) = script::succeed(built, &RunArgs::limited(TIMEOUT_S), script)?.unpacked()?;
    let reader = Reader::new(&file)?;
    ensure!(reader.names.number("vfs").is_some(), "the trace names no servers");
    let calls = calls(&file)?;
    ensure!(calls.get(&OPENAT).is_some_and(|(made, _)| *made >= 2), "the calls are not in it: {calls:?}");
    ensure!(calls.len() == 1, "it has calls that were not asked for: {calls:?}");
    Ok(())
}
