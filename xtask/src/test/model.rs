//! The model of waits (`tests/model`): every state of every configuration, with the counts on stdout.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use super::report::Report;
use crate::house;

/// Explores it, if it is asked for.
pub fn run(report: &mut Report) {
    report.prove("model: the sentences about waits hold in every state", explore);
}

fn explore() -> Result<()> {
    let mut command = house::cargo(&["run", "--quiet", "--release", "--package", "model"]);
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{text}");
    print!("{text}");
    Ok(())
}
