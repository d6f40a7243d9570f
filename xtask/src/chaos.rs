//! `cargo xtask chaos`: servers crash in a machine (`--qemu`) or in the simulator (`tests/sim`), which is built apart,
//! with unwinding, since it outlives the servers that panic in it.

pub mod storm;

use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use clap::Parser;

use crate::{
    cli::{ChaosArgs, StormArgs},
    house,
    run::Built,
};

/// Runs the simulator or the machine; its status is the status to end with.
pub fn run(args: &ChaosArgs) -> Result<u8> {
    if args.qemu {
        // Words before the first are those of this command itself.
        let args =
            StormArgs::parse_from(["chaos"].into_iter().chain(args.arguments.iter().map(String::as_str)));
        let storm = storm::rage(&Built::new()?, &args)?;
        print!("{}", storm.describe());
        return Ok(u8::from(!storm.differences().is_empty()));
    }
    let status = simulator(&args.arguments).status().context("cannot run cargo")?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(crate::FAILED))
}

/// Runs the simulator and gives what it printed, and whether nothing was different.
pub fn sample(arguments: &[&str]) -> Result<(String, bool)> {
    let mut command = simulator(arguments);
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success()))
}

fn simulator(arguments: &[impl AsRef<std::ffi::OsStr>]) -> Command {
    let mut command = house::cargo(&["run", "--quiet", "--profile", "sim", "--package", "sim", "--"]);
    command.args(arguments);
    command
}
