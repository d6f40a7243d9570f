//! The kernel's own end: a machine whose kernel panics, because it was asked to, says where and what came last.

use anyhow::{Context, Result, ensure};
use clap::Parser;
use libipc::manifest::PANIC_LINE;

use super::{Arguments, report::Report};
use crate::{
    machine::{Ending, Terminal},
    run::{self, Built},
};

const NAME: &str = "epitaph: a kernel that panics tells the line of code, who ran, and the last records";
const PANIC_S: u32 = 5;
const TIMEOUT_S: u64 = 120;
/// There is no host that reads along: what came last is in the kernel's own ring.
const SCRIPT: &str = "echo on >/proc/naiad/trace; while :; do ls -l /bin >/dev/null; done";
/// What panics, and what has called it.
const FRAMES: [&str; 2] = ["watch_current", "microkernel::arch::x86_64::trap"];
const RECORDS: usize = 12;

/// Runs the test, if its name contains `filter`.
pub fn run(built: &Built, filter: Option<&str>, report: &mut Report) -> Result<()> {
    if !NAME.contains(filter.unwrap_or_default()) {
        return Ok(());
    }
    report.start("epitaph", 1);
    match prove(built) {
        Ok(()) => report.passed(NAME),
        Err(error) => report.failed(NAME, &format!("{error:#}")),
    }
    Ok(())
}

fn prove(built: &Built) -> Result<()> {
    let mut args = Arguments::try_parse_from([""; 0])?.run;
    (args.timeout, args.panic) = (Some(TIMEOUT_S), Some(PANIC_S));
    let session = run::session(Some(SCRIPT), (24, 80), "dumb");
    let (mut output, mut log, symbols) = (Vec::new(), Vec::new(), built.symbols());
    let mut note = |line: &str| {
        log.push(line.to_owned());
        log.extend(symbols.explain(line));
    };
    let ending = built.boot(&args, &session, Terminal::Captured(&mut output), &mut note)?;
    let text = log.join("\n");
    ensure!(ending == Ending::Panic, "the machine ended with {ending:?}; its log:\n{text}");
    epitaph(&log).with_context(|| format!("the log:\n{text}"))
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
