//! What a test run tells: a line a test on stdout, progress on a terminal, and all failures together at the end.

use std::{fmt::Write as _, io::IsTerminal, time::Duration};

use anyhow::{Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use similar::TextDiff;

use crate::machine;

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Says which tests are asked for, and collects their results.
#[derive(Default)]
pub struct Report {
    filter: String,
    tally: Tally,
    failures: Vec<(String, String)>,
    bar: Option<ProgressBar>,
}

impl Report {
    /// One for the tests whose names contain `filter`.
    pub fn new(filter: Option<&str>) -> Self {
        Self { filter: filter.unwrap_or_default().to_owned(), ..Self::default() }
    }

    /// What the names of tests that are asked for contain.
    pub fn filter(&self) -> &str {
        &self.filter
    }

    /// Whether a test is asked for.
    pub fn wants(&self, name: &str) -> bool {
        name.contains(&self.filter)
    }

    /// Runs a test, if it is asked for and nobody has ended xtask.
    pub fn prove(&mut self, name: &str, prove: impl FnOnce() -> Result<()>) {
        if self.wants(name) && machine::interrupted().is_none() {
            let verdict = prove();
            self.judge(name, verdict);
        }
    }

    /// One test passed or failed.
    pub fn judge(&mut self, name: &str, verdict: Result<()>) {
        match verdict {
            Ok(()) => self.passed(name),
            Err(error) => self.failed(name, &format!("{error:#}")),
        }
    }

    /// Announces work that gives `count` results.
    pub fn start(&mut self, what: &str, count: usize) {
        if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{spinner} {msg} {pos}/{len} {elapsed}");
            let bar = ProgressBar::new(count as u64).with_message(what.to_owned());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(100));
            self.bar = Some(bar);
        }
    }

    /// Adds the results of tests that have reported themselves.
    pub fn add(&mut self, tally: Tally) {
        self.tally += tally;
    }

    /// One test passed.
    pub fn passed(&mut self, name: &str) {
        self.tally.passed += 1;
        self.line("ok    ", name);
    }

    /// One test failed; `why` is shown at the end.
    pub fn failed(&mut self, name: &str, why: &str) {
        self.tally.failed += 1;
        self.line("FAILED", name);
        self.failures.push((name.to_owned(), why.to_owned()));
    }

    fn line(&self, result: &str, name: &str) {
        let print = || println!("{result} {name}");
        match &self.bar {
            Some(bar) => {
                bar.suspend(print);
                bar.inc(1);
            }
            None => print(),
        }
    }

    /// Shows the failures and gives the sum.
    pub fn finish(self) -> Tally {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        for (name, why) in self.failures {
            println!("\n---- {name}\n{}", why.trim_end());
        }
        self.tally
    }
}

/// What differs between an output and the wanted one, as a unified diff; nothing when they are equal.
pub fn difference(wanted: &[u8], got: &[u8]) -> Option<String> {
    if wanted == got {
        return None;
    }
    let (wanted, got) = (String::from_utf8_lossy(wanted), String::from_utf8_lossy(got));
    let diff = TextDiff::from_lines(wanted.as_ref(), got.as_ref());
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{}", diff.unified_diff().context_radius(3).header("wanted", "got"));
    Some(text)
}

/// Fails with the difference between an output and the wanted one.
pub fn same(wanted: &[u8], got: &[u8]) -> Result<()> {
    difference(wanted, got).map_or(Ok(()), |difference| bail!("{difference}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_outputs_have_no_difference_and_others_show_their_lines() {
        assert_eq!(difference(b"a\nb\n", b"a\nb\n"), None);
        let text = difference(b"a\nb\n", b"a\nc\n").unwrap();
        assert!(text.contains("-b\n") && text.contains("+c\n"), "{text}");
    }

    #[test]
    fn a_missing_newline_at_the_end_is_a_difference() {
        assert!(difference(b"a\n", b"a").is_some());
    }

    #[test]
    fn only_what_is_asked_for_is_run_and_judged_by_what_it_says() {
        let mut report = Report::new(Some("b"));
        report.prove("a", || panic!("nobody asked for it"));
        report.prove("ab", || Ok(()));
        report.prove("b", || same(b"x", b"y"));
        assert_eq!(report.finish(), Tally { passed: 1, failed: 1 });
    }

    #[test]
    fn the_sum_counts_single_tests_and_reported_ones() {
        let mut report = Report::default();
        report.passed("one");
        report.failed("two", "why");
        report.add(Tally { passed: 10, failed: 1 });
        assert_eq!(report.finish(), Tally { passed: 11, failed: 2 });
    }
}
