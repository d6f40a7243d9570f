//! What a test run tells: a line a test on stdout, progress on a terminal, and all failures together at the end.

use std::{fmt::Write as _, io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};
use similar::TextDiff;

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

/// Collects results.
#[derive(Default)]
pub struct Report {
    tally: Tally,
    failures: Vec<(String, String)>,
    bar: Option<ProgressBar>,
}

impl Report {
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
    fn the_sum_counts_single_tests_and_reported_ones() {
        let mut report = Report::default();
        report.passed("one");
        report.failed("two", "why");
        report.add(Tally { passed: 10, failed: 1 });
        assert_eq!(report.finish(), Tally { passed: 11, failed: 2 });
    }
}
