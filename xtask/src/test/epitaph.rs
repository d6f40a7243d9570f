//! The kernel's own end: a machine whose kernel panics, because it was asked to, says where and what came last.

use anyhow::{Context, Result, ensure};
use libipc::manifest::PANIC_LINE;

use super::TIMEOUT_S;
use crate::{cli::RunArgs, machine::Ending, run::Built, script};

const PANIC_S: u32 = 5;
/// There is no host that reads along: what came last is in the kernel's own ring.
const SCRIPT: &str = "echo on >/proc/naiad/trace; while :; do ls -l /bin >/dev/null; done";
/// What panics, and what has called it.
const FRAMES: [&str; 2] = ["watch_current", "microkernel::arch::x86_64::trap"];
const RECORDS: usize = 12;

/// Reads the end of a machine's log.
pub fn prove(built: &Built) -> Result<()> {
    let args = RunArgs { panic: Some(PANIC_S), ..RunArgs::limited(TIMEOUT_S) };
    let ran = script::run(built, &args, SCRIPT)?;
    ensure!(ran.ending == Ending::Panic, "the machine ended with {:?}; {}", ran.ending, ran.last_words());
    let symbols = built.symbols();
    let explained = |line: &String| [vec![line.clone()], symbols.explain(line)].concat();
    epitaph(&ran.log.iter().flat_map(explained).collect::<Vec<_>>()).with_context(|| ran.last_words())
}

/// Looks at what stands behind the line that a panic begins with.
fn epitaph(log: &[String]) -> Result<()> {
    let start = log.iter().position(|line| line.starts_with(PANIC_LINE)).context("there is no epitaph")?;
    let mut rest = log[start..].iter();
    for wanted in ["the command line has asked for a panic", "  running: server ", "  backtrace: 0x"] {
        rest.find(|line| line.contains(wanted)).with_context(|| format!("`{wanted}` is missing"))?;
    }
    for frame in FRAMES {
        rest.find(|line| line.contains(frame)).with_context(|| format!("{frame} is missing"))?;
    }
    let records: Vec<f64> = rest.filter_map(|line| line.trim().split_once(" us ")?.0.parse().ok()).collect();
    ensure!(records.len() == RECORDS && records.is_sorted(), "the last records are of {records:?}");
    ensure!(records.last().is_some_and(|time_us| *time_us > 1e6), "the last record is too old: {records:?}");
    Ok(())
}
