//! The frames of the machine that are not the kernel's: which are free, and how many hold each of the others.
//!
//! A frame has one holder for every space that maps it and one for the page cache; it is free when the last lets go.
//! The index of free frames follows from the counts, so a snapshot stores the counts alone, as runs. Nothing here
//! touches the contents of a frame.

use alloc::vec;
use alloc::vec::Vec;

use libipc::abi::Frame;
use serde::{Deserialize, Serialize, Serializer};

/// All frames, free or held.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Frames {
    ranges: Vec<Range>,
    holders: Vec<u32>,
    free: FreeIndex,
}

/// Frames that follow each other, and where their counts begin in the common list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Range {
    first: u32,
    count: u32,
    base: u32,
}

/// The stored form: runs of (how many frames, holders each).
#[derive(Serialize, Deserialize)]
struct Stored {
    ranges: Vec<Range>,
    runs: Vec<(u32, u32)>,
}

impl Frames {
    /// All frames of these ranges, free.
    pub fn new(ranges: &[(Frame, u32)]) -> Frames {
        let mut sorted = ranges.to_vec();
        sorted.sort_unstable();
        let mut base = 0;
        let mut list = Vec::with_capacity(sorted.len());
        for (first, count) in sorted {
            list.push(Range { first: first.0, count, base });
            base += count;
        }
        Frames {
            ranges: list,
            holders: vec![0; base as usize],
            free: FreeIndex::new(base, core::iter::once(0..base)),
        }
    }

    /// How many there are.
    pub fn total(&self) -> u32 {
        self.holders.len() as u32
    }

    /// How many are free.
    pub fn free(&self) -> u32 {
        self.free.count
    }

    /// Takes the lowest free frame, with one holder. What it contains is left over from its last use.
    pub fn take(&mut self) -> Option<Frame> {
        let index = self.free.first()?;
        self.free.remove(index);
        self.holders[index as usize] = 1;
        let range = self.ranges.partition_point(|range| range.base <= index) - 1;
        Some(Frame(self.ranges[range].first + (index - self.ranges[range].base)))
    }

    /// Adds a holder.
    pub fn share(&mut self, frame: Frame) {
        if let Some(index) = self.index(frame) {
            self.holders[index as usize] += 1;
        }
    }

    /// Whether a frame is one of these.
    pub fn owns(&self, frame: Frame) -> bool {
        self.index(frame).is_some()
    }

    /// How many hold a frame; none for one that is free or not vm's.
    pub fn holders(&self, frame: Frame) -> u32 {
        self.index(frame).map_or(0, |index| self.holders[index as usize])
    }

    /// Takes a holder away; the frame is free when it was the last.
    pub fn release(&mut self, frame: Frame) {
        let Some(index) = self.index(frame) else { return };
        let holders = &mut self.holders[index as usize];
        debug_assert!(*holders > 0, "frame {frame:?} is released more often than it is held");
        *holders -= 1;
        if *holders == 0 {
            self.free.insert(index);
        }
    }

    fn index(&self, frame: Frame) -> Option<u32> {
        let range = self.ranges[..self.ranges.partition_point(|range| range.first <= frame.0)].last()?;
        let offset = frame.0 - range.first;
        (offset < range.count).then_some(range.base + offset)
    }
}

impl Serialize for Frames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut push = |count, holders| match runs.last_mut() {
            Some((length, value)) if *value == holders => *length += count,
            _ => runs.push((count, holders)),
        };
        // Most frames are free, and a word tells of 64 of them.
        for (part, free) in self.holders.chunks(64).zip(self.free.words()) {
            if *free == u64::MAX {
                push(part.len() as u32, 0);
            } else {
                part.iter().for_each(|holders| push(1, *holders));
            }
        }
        Stored { ranges: self.ranges.clone(), runs }.serialize(serializer)
    }
}

impl TryFrom<Stored> for Frames {
    type Error = &'static str;

    fn try_from(Stored { ranges, runs }: Stored) -> Result<Frames, &'static str> {
        let count = ranges.iter().map(|range| range.count).try_fold(0, u32::checked_add);
        let count = count.ok_or("too many frames")?;
        if runs.iter().map(|(length, _)| *length).try_fold(0, u32::checked_add) != Some(count) {
            return Err("not as many counts as frames");
        }
        let mut holders = Vec::with_capacity(count as usize);
        let mut free = Vec::new();
        for (length, value) in runs {
            let first = holders.len() as u32;
            holders.resize(holders.len() + length as usize, value);
            if value == 0 {
                free.push(first..first + length);
            }
        }
        Ok(Frames { ranges, holders, free: FreeIndex::new(count, free) })
    }
}

/// A set of numbers below a bound that finds its lowest member in a few steps: one bit per number, and above it one
/// bit per word that is not zero, until one word remains.
#[derive(Clone, PartialEq, Eq, Debug)]
struct FreeIndex {
    levels: Vec<Vec<u64>>,
    count: u32,
}

impl FreeIndex {
    /// Of the numbers in these ranges.
    fn new(bound: u32, members: impl IntoIterator<Item = core::ops::Range<u32>>) -> FreeIndex {
        let mut bits = vec![0u64; (bound as usize).div_ceil(64).max(1)];
        let mut count = 0;
        for mut range in members {
            count += range.end - range.start;
            while let Some(first) = range.next() {
                // The rest of its word at once.
                let more = (63 - first % 64).min(range.end - range.start);
                bits[first as usize / 64] |= (u64::MAX >> (63 - more)) << (first % 64);
                range.start += more;
            }
        }
        let mut levels = vec![bits];
        while let Some(last) = levels.last().filter(|level| level.len() > 1) {
            let mut above = vec![0u64; last.len().div_ceil(64)];
            for (index, _) in last.iter().enumerate().filter(|(_, word)| **word != 0) {
                above[index / 64] |= 1 << (index % 64);
            }
            levels.push(above);
        }
        FreeIndex { levels, count }
    }

    /// A bit for each number.
    fn words(&self) -> &[u64] {
        self.levels.first().map_or(&[], Vec::as_slice)
    }

    fn first(&self) -> Option<u32> {
        let mut index = 0;
        for level in self.levels.iter().rev() {
            let word = level[index];
            if word == 0 {
                return None;
            }
            index = index * 64 + word.trailing_zeros() as usize;
        }
        Some(index as u32)
    }

    fn insert(&mut self, index: u32) {
        self.count += 1;
        let mut index = index as usize;
        for level in &mut self.levels {
            let word = &mut level[index / 64];
            let was_empty = *word == 0;
            *word |= 1 << (index % 64);
            if !was_empty {
                return;
            }
            index /= 64;
        }
    }

    fn remove(&mut self, index: u32) {
        self.count -= 1;
        let mut index = index as usize;
        for level in &mut self.levels {
            let word = &mut level[index / 64];
            *word &= !(1 << (index % 64));
            if *word != 0 {
                return;
            }
            index /= 64;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_frame_is_free_again_when_its_last_holder_lets_go() {
        let mut frames = Frames::new(&[(Frame(16), 2)]);
        let frame = frames.take().unwrap();
        frames.share(frame);
        frames.release(frame);
        assert_eq!((frames.holders(frame), frames.free()), (1, 1));
        frames.release(frame);
        assert_eq!((frames.holders(frame), frames.free()), (0, 2));
    }

    #[test]
    fn every_frame_of_every_range_is_given_out_once() {
        let mut frames = Frames::new(&[(Frame(1000), 3), (Frame(10), 2)]);
        let taken: Vec<u32> = core::iter::from_fn(|| frames.take()).map(|frame| frame.0).collect();
        assert_eq!(taken, [10, 11, 1000, 1001, 1002]);
        assert_eq!((frames.free(), frames.total()), (0, 5));
    }

    #[test]
    fn frames_that_are_not_its_own_have_no_holders_and_are_never_given_out() {
        let mut frames = Frames::new(&[(Frame(10), 2), (Frame(20), 1)]);
        for stranger in [0, 9, 12, 19, 21, u32::MAX] {
            frames.share(Frame(stranger));
            assert_eq!(frames.holders(Frame(stranger)), 0);
            frames.release(Frame(stranger));
        }
        assert_eq!(frames.free(), 3);
    }

    #[test]
    fn counts_that_are_not_those_of_the_frames_are_refused() {
        let frames = Frames::new(&[(Frame(10), 200), (Frame(500), 3)]);
        let stored = |runs: &[(u32, u32)]| {
            let bytes = postcard::to_allocvec(&Stored { ranges: frames.ranges.clone(), runs: runs.to_vec() });
            postcard::from_bytes::<Frames>(&bytes.unwrap())
        };
        assert_eq!(stored(&[(203, 0)]), Ok(frames.clone()));
        for runs in [&[(202, 0)][..], &[(204, 0)], &[(u32::MAX, 0), (204, 0)], &[]] {
            assert!(stored(runs).is_err(), "{runs:?}");
        }
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_list_of_counts_and_survives_a_snapshot(
            size in 1u32..9000,
            script in prop::collection::vec((0u8..4, 0u32..9000), 1..200),
        ) {
            let mut frames = Frames::new(&[(Frame(7), size)]);
            let mut model = vec![0u32; size as usize];
            for (action, which) in script {
                let which = (which % size) as usize;
                let frame = Frame(which as u32 + 7);
                match action {
                    0 | 1 => {
                        let lowest = model.iter().position(|count| *count == 0);
                        prop_assert_eq!(frames.take().map(|frame| frame.0 as usize - 7), lowest);
                        if let Some(lowest) = lowest {
                            model[lowest] = 1;
                        }
                    }
                    2 if model[which] > 0 => {
                        frames.share(frame);
                        model[which] += 1;
                    }
                    _ if model[which] > 0 => {
                        frames.release(frame);
                        model[which] -= 1;
                    }
                    _ => {}
                }
                prop_assert_eq!(frames.holders(frame), model[which]);
            }
            prop_assert_eq!(frames.free() as usize, model.iter().filter(|count| **count == 0).count());
            let stored = postcard::to_allocvec(&frames).unwrap();
            prop_assert_eq!(postcard::from_bytes::<Frames>(&stored).unwrap(), frames);
        }
    }
}
