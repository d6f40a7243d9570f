//! How far many runs have come, told on stderr while they are made: in one line that is written over on a terminal, now
//! and then in a line of its own elsewhere. Results are not its business.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::{Duration, Instant};

use crate::explore::Tally;
use crate::oracle::Class;

/// How often a terminal is written to.
const LIVELY: Duration = Duration::from_millis(250);
/// How often a file is.
const CALM: Duration = Duration::from_secs(20);

/// Tells how far a group of runs has come.
pub struct Ticker<'w> {
    what: &'w str,
    lively: bool,
    begin: Instant,
    next: Duration,
}

impl<'w> Ticker<'w> {
    /// One for the runs of this name, which begin now.
    pub fn new(what: &'w str) -> Ticker<'w> {
        let lively = std::io::stderr().is_terminal();
        Ticker { what, lively, begin: Instant::now(), next: if lively { Duration::ZERO } else { CALM } }
    }

    /// Says how far they have come, if it is time to.
    pub fn tick(&mut self, tally: &Tally, all: usize) {
        let elapsed = self.begin.elapsed();
        if elapsed < self.next {
            return;
        }
        let line = describe(self.what, tally, all, elapsed);
        if self.lively {
            self.next = elapsed + LIVELY;
            eprint!("\r\x1b[K{line}");
            let _ = std::io::stderr().flush();
        } else {
            self.next = elapsed + CALM;
            eprintln!("{line}");
        }
    }

    /// Makes room for what is to be kept on a terminal.
    pub fn clear(&self) {
        if self.lively {
            eprint!("\r\x1b[K");
        }
    }
}

/// The line: how many, how fast, how long still, and what has been found.
fn describe(what: &str, tally: &Tally, all: usize, elapsed: Duration) -> String {
    let rate = tally.runs as f64 / elapsed.as_secs_f64().max(0.001);
    let left = all.saturating_sub(tally.runs) as f64 / rate.max(0.001);
    let mut line =
        format!("{what}: {} of {all}, {rate:.0} a second, {} left", tally.runs, in_words(left as u64));
    let _ = write!(line, "; {} different", tally.failures.len());
    for class in &Class::ALL[1..] {
        let count: u64 = tally.classes.values().map(|counts| counts[*class as usize]).sum();
        if count > 0 {
            let _ = write!(line, ", {count} {}", class.name());
        }
    }
    line
}

/// A time, as precisely as somebody who waits wants to know it.
fn in_words(seconds: u64) -> String {
    match seconds {
        0..=90 => format!("{seconds} s"),
        91..=5400 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Kind;

    #[test]
    fn the_line_says_how_far_how_fast_how_long_still_and_what_was_found() {
        let classes = [(Kind::Wild, [40, 7, 3, 0]), (Kind::Torn, [45, 5, 0, 0])];
        let tally = Tally { runs: 100, classes: classes.into_iter().collect(), ..Tally::default() };
        assert_eq!(
            describe("random", &tally, 4100, Duration::from_secs(5)),
            "random: 100 of 4100, 20 a second, 4 min left; 0 different, 12 contained, 3 wrong"
        );
    }
}
