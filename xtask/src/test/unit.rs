//! Formatting, lints, and the crates' own tests, on the host.

use std::{
    io::{self, BufRead, Write},
    process::Stdio,
};

use anyhow::{Context, Result};

use super::report::{Report, Tally};
use crate::house;

/// Runs them; with a filter, only the crates' tests whose names contain it.
pub fn run(report: &mut Report) {
    if report.filter().is_empty() {
        check("cargo fmt", &["fmt", "--all", "--check"], report);
        let lints = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
        check("cargo clippy", &lints, report);
    }
    match crate_tests(report.filter()) {
        Ok(tally) => report.add(tally),
        Err(error) => report.failed("cargo test", &format!("{error:#}")),
    }
}

fn check(name: &str, args: &[&str], report: &mut Report) {
    match house::cargo(args).status() {
        Ok(status) if status.success() => report.passed(name),
        Ok(_) => report.failed(name, &format!("`cargo {}` complains above", args.join(" "))),
        Err(error) => report.failed(name, &format!("cannot run cargo: {error}")),
    }
}

/// Runs the crates' tests, lets their output through, and adds up what they say.
fn crate_tests(filter: &str) -> Result<Tally> {
    let mut command = house::cargo(&["test", "--quiet", "--workspace", "--no-fail-fast"]);
    command.arg(filter).stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot run cargo")?;
    let stdout = child.stdout.take().context("cargo has no stdout")?;
    let mut tally = Tally::default();
    for line in io::BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        tally += test_result(&line).unwrap_or_default();
        writeln!(io::stdout(), "{line}")?;
    }
    if !child.wait()?.success() && tally.failed == 0 {
        // What does not compile has no result of its own.
        tally.failed = 1;
    }
    Ok(tally)
}

/// Reads `test result: ok. 4 passed; 0 failed; …`.
fn test_result(line: &str) -> Option<Tally> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let count = |what: &str| {
        let mut parts = counts.split("; ").filter_map(|part| part.split_once(' '));
        parts.find(|(_, name)| *name == what).and_then(|(number, _)| number.parse().ok())
    };
    Some(Tally { passed: count("passed")?, failed: count("failed")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_of_the_test_harness_are_understood() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(test_result(line), Some(Tally { passed: 12, failed: 3 }));
        assert_eq!(test_result("test result: ok. 0 passed; 0 failed; 0 ignored"), Some(Tally::default()));
    }

    #[test]
    fn other_lines_are_not_results() {
        for line in ["", "test a ... ok", "test result: ok", "12 passed; 3 failed"] {
            assert_eq!(test_result(line), None, "{line}");
        }
    }
}
