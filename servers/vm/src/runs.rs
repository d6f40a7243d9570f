//! Pages in ascending order gathered into runs, so that one kernel operation serves many of them.

use alloc::vec::Vec;
use core::ops::Range;

/// Holes of up to so many pages are bridged: the kernel skips what is not mapped faster than it takes a second call.
const BRIDGED: u64 = 16;
/// Longest run, which bounds the work of one kernel operation.
const LONGEST: u64 = 512;

/// Runs of pages that are to get the same value. A run may bridge what is not mapped, so every mapped page between
/// its ends must be told: by [`Runs::push`] if it changes, by [`Runs::pass`] if it does not.
pub struct Runs<T> {
    list: Vec<(Range<u64>, T)>,
    open: bool,
}

impl<T: PartialEq> Runs<T> {
    /// None yet.
    pub fn new() -> Runs<T> {
        Runs { list: Vec::new(), open: false }
    }

    /// The next page gets this value.
    pub fn push(&mut self, page: u64, value: T) {
        match self.list.last_mut() {
            Some((run, last))
                if self.open && *last == value && page <= run.end + BRIDGED && page - run.start < LONGEST =>
            {
                run.end = page + 1;
            }
            _ => self.list.push((page..page + 1, value)),
        }
        self.open = true;
    }

    /// The next page has this value already, so a run of the same value may cover it and no other may.
    pub fn pass(&mut self, value: T) {
        self.open &= self.list.last().is_some_and(|(_, last)| *last == value);
    }

    /// The runs, in order.
    pub fn finish(self) -> impl Iterator<Item = (Range<u64>, T)> {
        self.list.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(pages: &[(u64, u8)]) -> Vec<(Range<u64>, u8)> {
        let mut runs = Runs::new();
        for (page, value) in pages {
            runs.push(*page, *value);
        }
        runs.finish().collect()
    }

    #[test]
    fn pages_with_one_value_and_small_holes_are_one_run() {
        assert_eq!(runs(&[(3, 1), (4, 1), (9, 1), (30, 1), (31, 2)]), [(3..10, 1), (30..31, 1), (31..32, 2)]);
    }

    #[test]
    fn no_run_is_longer_than_one_operation_should_be() {
        let pages: Vec<(u64, u8)> = (0..1025).map(|page| (page, 0)).collect();
        assert_eq!(runs(&pages), [(0..512, 0), (512..1024, 0), (1024..1025, 0)]);
    }

    #[test]
    fn a_run_covers_unchanged_pages_of_its_value_and_stops_at_others() {
        let mut runs = Runs::new();
        runs.pass(1);
        runs.push(2, 1);
        runs.pass(1);
        runs.push(4, 1);
        runs.pass(2);
        runs.push(6, 1);
        assert_eq!(runs.finish().collect::<Vec<_>>(), [(2..5, 1), (6..7, 1)]);
    }
}
