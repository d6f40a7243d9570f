//! The model of waits (`tests/model`): every state of every configuration, with the counts on stdout.

use std::{
    env,
    ffi::OsString,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use super::report::Report;
use crate::house;

const NAME: &str = "model: the sentences about waits hold in every state";

/// Explores it; the filter chooses it by its name alone.
pub fn run(filter: Option<&str>, report: &mut Report) {
    if !NAME.contains(filter.unwrap_or_default()) {
        return;
    }
    match explore() {
        Ok((output, true)) => {
            print!("{output}");
            report.passed(NAME);
        }
        Ok((output, false)) => report.failed(NAME, &output),
        Err(error) => report.failed(NAME, &format!("{error:#}")),
    }
}

/// What was printed, and whether everything held.
fn explore() -> Result<(String, bool)> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.args(["run", "--quiet", "--release", "--package", "model"]).current_dir(house::root());
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success()))
}
