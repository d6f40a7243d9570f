//! The frames of the machine that are not the kernel's: which are free, and how many hold each of the others.
//!
//! A frame has one holder for every space that maps it and one for the page cache; it is free when the last lets go.
//! The index of free frames follows from the counts, so a snapshot stores the counts alone, as runs; behind it those
//! of the blocks of frames in which some have changed. Nothing here touches the contents of a frame.

use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;
use core::iter::repeat_n;
use core::mem::take;

use libipc::abi::Frame;
use libipc::server::Table;
use libipc::server::rows::{Sink, give, take_from};
use serde::{Deserialize, Serialize, Serializer};

/// Frames whose counts are saved together: a word of the index of free ones.
const BLOCK: usize = 64;

/// All frames, free or held.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Frames {
    ranges: Vec<Range>,
    holders: Vec<u32>,
    free: FreeIndex,
    /// The blocks that the last snapshot does not have as they are.
    changed: Changed,
    /// The rest of the state is being saved without the counts.
    aside: bool,
}

/// Frames that follow each other, and where their counts begin in the common list.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Range {
    first: u32,
    count: u32,
    base: u32,
}

/// The stored form.
#[derive(Serialize, Deserialize)]
struct Stored {
    ranges: Vec<Range>,
    runs: Vec<Run>,
}

/// How many frames follow each other that have so many holders each.
type Run = (u32, u32);

/// A set of blocks: a bit for each, and those whose bit is set.
#[derive(Clone, Debug)]
struct Changed {
    bits: Vec<u64>,
    list: Vec<u32>,
}

impl Changed {
    /// None of those that so many frames make.
    fn new(frames: usize) -> Changed {
        Changed { bits: vec![0; frames.div_ceil(BLOCK).div_ceil(64)], list: Vec::new() }
    }

    /// Adds the block of a frame.
    #[inline]
    fn add(&mut self, index: u32) {
        let block = index / BLOCK as u32;
        let (word, bit) = (&mut self.bits[block as usize / 64], 1 << (block % 64));
        if *word & bit == 0 {
            *word |= bit;
            self.list.push(block);
        }
    }

    fn clear(&mut self) {
        for block in take(&mut self.list) {
            self.bits[block as usize / 64] = 0;
        }
    }
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
        Frames::with(list, vec![0; base as usize], FreeIndex::new(base, core::iter::once(0..base)))
    }

    fn with(ranges: Vec<Range>, holders: Vec<u32>, free: FreeIndex) -> Frames {
        let changed = Changed::new(holders.len());
        Frames { ranges, holders, free, changed, aside: false }
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
        self.changed.add(index);
        let range = self.ranges.partition_point(|range| range.base <= index) - 1;
        Some(Frame(self.ranges[range].first + (index - self.ranges[range].base)))
    }

    /// Adds a holder.
    pub fn share(&mut self, frame: Frame) {
        if let Some(index) = self.index(frame) {
            self.holders[index as usize] += 1;
            self.changed.add(index);
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
        self.changed.add(index);
    }

    fn index(&self, frame: Frame) -> Option<u32> {
        let range = self.ranges[..self.ranges.partition_point(|range| range.first <= frame.0)].last()?;
        let offset = frame.0 - range.first;
        (offset < range.count).then_some(range.base + offset)
    }
}

impl PartialEq for Frames {
    fn eq(&self, other: &Frames) -> bool {
        (&self.ranges, &self.holders, &self.free) == (&other.ranges, &other.holders, &other.free)
    }
}

impl Eq for Frames {}

/// Adds frames with so many holders to runs.
fn push(runs: &mut Vec<Run>, count: u32, holders: u32) {
    match runs.last_mut() {
        Some((length, value)) if *value == holders => *length += count,
        _ => runs.push((count, holders)),
    }
}

impl Serialize for Frames {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (mut ranges, mut runs) = (Vec::new(), Vec::new());
        if !self.aside {
            ranges.clone_from(&self.ranges);
            // Most frames are free, and a word tells of a block of them.
            for (part, free) in self.holders.chunks(BLOCK).zip(self.free.words()) {
                if *free == u64::MAX {
                    push(&mut runs, BLOCK as u32, 0);
                } else {
                    part.iter().for_each(|holders| push(&mut runs, 1, *holders));
                }
            }
        }
        Stored { ranges, runs }.serialize(serializer)
    }
}

impl TryFrom<Stored> for Frames {
    type Error = &'static str;

    fn try_from(Stored { ranges, runs }: Stored) -> Result<Frames, &'static str> {
        let count = ranges.iter().map(|range| range.count).try_fold(0, u32::checked_add);
        let count = count.ok_or("too many frames")?;
        if frames_in(&runs) != Some(count) {
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
        Ok(Frames::with(ranges, holders, FreeIndex::new(count, free)))
    }
}

/// How many frames there are in runs.
fn frames_in(runs: &[Run]) -> Option<u32> {
    runs.iter().map(|(length, _)| *length).try_fold(0, u32::checked_add)
}

/// Its rows are the blocks.
impl Table for Frames {
    fn set_aside(&mut self, aside: bool) {
        self.aside = aside;
    }

    fn save(&mut self, sink: Sink<'_>) -> postcard::Result<()> {
        give(&(self.changed.list.len() as u64), sink)?;
        let mut runs = Vec::with_capacity(BLOCK);
        for block in &self.changed.list {
            runs.clear();
            let first = *block as usize * BLOCK;
            let part = self.holders[first..].iter().take(BLOCK);
            part.for_each(|holders| push(&mut runs, 1, *holders));
            give(&(*block, &runs), sink)?;
        }
        Ok(())
    }

    fn saved(&mut self) {
        self.changed.clear();
    }

    fn adopt(&mut self, old: &mut dyn Table) {
        let old: &mut dyn Any = old;
        if let Some(old) = old.downcast_mut::<Frames>() {
            *self = Frames::with(take(&mut old.ranges), take(&mut old.holders), take(&mut old.free));
        }
    }

    fn load(&mut self, bytes: &mut &[u8]) -> postcard::Result<()> {
        let count: u64 = take_from(bytes)?;
        for _ in 0..count {
            let (block, runs): (u32, Vec<Run>) = take_from(bytes)?;
            let first = block as usize * BLOCK;
            let part = self.holders.iter_mut().skip(first).take(BLOCK);
            if frames_in(&runs) != Some(part.len() as u32) {
                return Err(postcard::Error::DeserializeBadEncoding);
            }
            let counts = runs.iter().flat_map(|(length, value)| repeat_n(*value, *length as usize));
            for ((index, holders), count) in (first as u32..).zip(part).zip(counts) {
                match (*holders, count) {
                    (0, 1..) => self.free.remove(index),
                    (1.., 0) => self.free.insert(index),
                    _ => {}
                }
                *holders = count;
            }
        }
        Ok(())
    }
}

/// A set of numbers below a bound that finds its lowest member in a few steps: one bit per number, and above it one
/// bit per word that is not zero, until one word remains.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
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
    use libipc::server::rows::changes;
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

    /// An older state of some frames, brought up to date as a restart does.
    fn with_changes(mut older: Frames, frames: &mut Frames) -> Frames {
        let bytes = changes(frames).unwrap();
        let mut rest = &bytes[..];
        older.load(&mut rest).unwrap();
        assert!(rest.is_empty());
        frames.set_aside(true);
        let mut latest: Frames = postcard::from_bytes(&postcard::to_allocvec(&frames).unwrap()).unwrap();
        frames.set_aside(false);
        latest.adopt(&mut older);
        latest
    }

    #[test]
    fn what_is_saved_of_the_changes_does_not_grow_with_the_frames_in_use() {
        let written = |used: u32| {
            let mut frames = Frames::new(&[(Frame(0), 100_000)]);
            (0..used).for_each(|_| assert!(frames.take().is_some()));
            changes(&mut frames).unwrap();
            frames.share(Frame(2));
            frames.release(Frame(200));
            changes(&mut frames).unwrap().len()
        };
        assert_eq!(written(90_000), written(300));
        assert!(written(300) < 20);
    }

    #[test]
    fn changes_of_other_frames_are_refused() {
        let mut frames = Frames::new(&[(Frame(10), 200)]);
        let mut load = |block: u32, runs: &[Run]| {
            let bytes = postcard::to_allocvec(&(1_u64, block, runs)).unwrap();
            frames.load(&mut &bytes[..])
        };
        for (block, runs) in
            [(0, &[(63, 1)][..]), (0, &[(65, 1)]), (3, &[(64, 1)]), (4, &[(8, 1)]), (u32::MAX, &[(64, 1)])]
        {
            assert!(load(block, runs).is_err(), "{block} {runs:?}");
        }
        assert_eq!(load(3, &[(8, 1)]), Ok(()));
        assert_eq!(frames.free(), 192);
    }

    proptest! {
        #[test]
        fn it_behaves_like_a_list_of_counts_and_survives_a_snapshot(
            size in 1u32..9000,
            script in prop::collection::vec((0u8..5, 0u32..9000), 1..200),
        ) {
            let mut frames = Frames::new(&[(Frame(7), size)]);
            let mut restored = frames.clone();
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
                    4 => {
                        restored = with_changes(restored, &mut frames);
                        prop_assert_eq!(&restored, &frames);
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
