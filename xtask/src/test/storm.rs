//! A sample of what `cargo xtask chaos --qemu` does: every server of a machine fails a few times, in every way.

use anyhow::Result;
use clap::Parser;

use super::report::Report;
use crate::{chaos::storm, cli::StormArgs, run::Built};

const NAME: &str =
    "storm: programs do not notice servers that fail at any instruction, and nothing is left of it";
const ARGUMENTS: [&str; 5] = ["storm", "--kills", "63", "--timeout", "240"];

/// Runs the sample, if its name contains `filter`.
pub fn run(built: &Built, filter: Option<&str>, report: &mut Report) -> Result<()> {
    if !NAME.contains(filter.unwrap_or_default()) {
        return Ok(());
    }
    report.start("storm", 1);
    match storm::rage(built, &StormArgs::try_parse_from(ARGUMENTS)?) {
        Ok(storm) if storm.differences().is_empty() => report.passed(NAME),
        Ok(storm) => report.failed(NAME, &storm.describe()),
        Err(error) => report.failed(NAME, &format!("{error:#}")),
    }
    Ok(())
}
