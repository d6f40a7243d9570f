//! Pages in ascending order gathered into runs, so that one kernel operation serves many of them.

use alloc::vec::Vec;
use core::ops::Range;

/// Holes of up to so many pages are bridged: the kernel skips what is not mapped faster than it takes a second call.
const BRIDGED: u64 = 16;
/// Longest run, which bounds the work of one kernel operation.
const LONGEST: u64 = 512;

/// Runs of pages that share a value.
pub struct Runs<T> {
    list: Vec<(Range<u64>, T)>,
}

impl<T: PartialEq> Runs<T> {
    /// None yet.
    pub fn new() -> Runs<T> {
        Runs { list: Vec::new() }
    }

    /// Adds a page above all others. Every mapped page of the space between the first and the last must be added, or the
    /// hole that it leaves might be bridged.
    pub fn push(&mut self, page: u64, value: T) {
        if let Some((run, last)) = self.list.last_mut()
            && *last == value
            && page <= run.end + BRIDGED
            && page - run.start < LONGEST
        {
            run.end = page + 1;
            return;
        }
        self.list.push((page..page + 1, value));
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
}
