//! A sample of what `cargo xtask chaos --qemu` does: every server of a machine fails a few times, in every way.

use anyhow::{Result, ensure};
use clap::Parser;

use crate::{chaos::storm, cli::StormArgs, run::Built};

const ARGUMENTS: [&str; 5] = ["storm", "--kills", "63", "--timeout", "240"];

/// Runs the sample.
pub fn prove(built: &Built) -> Result<()> {
    let storm = storm::rage(built, &StormArgs::try_parse_from(ARGUMENTS)?)?;
    ensure!(storm.differences().is_empty(), "{}", storm.describe());
    Ok(())
}
