//! The regions of a space: what a program has mapped, where, from what, and how it may be accessed.
//!
//! A region says what *may* be there; which pages *are* there is the space's page list. Regions never overlap, and
//! neighbours that continue each other are one. Gaps are kept by size, so that finding room costs the same with ten
//! mappings and with ten thousand. No frame, no handle and no effect is known here.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::ops::Range;

use libipc::abi::Protection;
use serde::{Deserialize, Serialize};

use crate::tables::page_of;

/// Most regions that a space may have, Linux's `vm.max_map_count`.
pub const REGIONS_MAX: u64 = 65_530;

/// Where the contents of a region come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Backing {
    /// Zeroes, the region's own.
    Anonymous,
    /// An object: a file, or anonymous memory that several spaces share.
    Object {
        /// Its number.
        object: u64,
        /// The page of the object at the start of the region.
        page: u64,
        /// Bytes of the object from here on show as zeroes: the end of an ELF segment's file part. `u64::MAX` for
        /// none.
        limit: u64,
    },
}

/// What a region is for, as /proc/PID/maps shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Purpose {
    /// Anything.
    Plain,
    /// The memory below the break.
    Heap,
    /// The first thread's stack, which grows.
    Stack,
    /// The code the system lends to programs.
    Vdso,
    /// The page before the vdso, with the time.
    Vvar,
}

/// What a child gets of a region when its parent forks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Inherit {
    /// The region: shared or copied on write.
    Copy,
    /// Nothing (MADV_DONTFORK).
    Nothing,
    /// Zeroes (MADV_WIPEONFORK).
    Zeroes,
}

/// A range of addresses that was mapped as one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Region {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// What the program asked for.
    pub protection: Protection,
    /// Whether stores are seen by others (MAP_SHARED).
    pub shared: bool,
    /// Where the contents come from.
    pub backing: Backing,
    /// What it is for.
    pub purpose: Purpose,
    /// What a child gets.
    pub inherit: Inherit,
    /// It shows a file that was not opened for writing, and may never be written (VM_MAYWRITE).
    pub read_only: bool,
    /// It is to stay in memory (mlock(2)).
    pub locked: bool,
}

impl Region {
    /// A private region of zeroes.
    pub fn anonymous(range: Range<u64>, protection: Protection) -> Region {
        Region {
            start: range.start,
            end: range.end,
            protection,
            shared: false,
            backing: Backing::Anonymous,
            purpose: Purpose::Plain,
            inherit: Inherit::Copy,
            read_only: false,
            locked: false,
        }
    }

    /// Whether it counts as the program's data (RLIMIT_DATA).
    pub fn is_data(&self) -> bool {
        !self.shared && self.protection.contains(Protection::WRITE) && self.purpose != Purpose::Stack
    }

    /// Its numbers of pages.
    pub fn pages(&self) -> Range<u64> {
        page_of(self.start)..page_of(self.end)
    }

    /// How many pages it has.
    pub fn page_count(&self) -> u64 {
        page_of(self.end - self.start)
    }

    /// Whether the program may access it so. The machine cannot write or execute what it cannot read, so either
    /// allows loads.
    pub fn permits(&self, access: Protection) -> bool {
        let granted =
            if self.protection.is_empty() { self.protection } else { self.protection | Protection::READ };
        granted.contains(access)
    }

    /// The part from `at` on.
    fn tail(&self, at: u64) -> Region {
        let backing = match self.backing {
            Backing::Object { object, page, limit } => {
                Backing::Object { object, page: page + page_of(at - self.start), limit }
            }
            Backing::Anonymous => Backing::Anonymous,
        };
        Region { start: at, backing, ..*self }
    }

    /// Whether `next` is what the region would be if it went on.
    fn continues_as(&self, next: &Region) -> bool {
        self.end == next.start
            && Region { end: next.end, ..*next } == Region { end: next.end, ..self.tail(self.end) }
    }
}

/// The regions of one space.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Regions {
    list: BTreeMap<u64, Region>,
    /// Gaps inside the window, as (length, start).
    gaps: BTreeSet<(u64, u64)>,
    /// Where mappings are placed that may lie anywhere.
    window: Range<u64>,
    /// Bytes that are mapped, and how many of them are data.
    total: Total,
}

/// How much is mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Total {
    /// Bytes in all.
    pub bytes: u64,
    /// Bytes of data, as [`Region::is_data`] says.
    pub data: u64,
}

impl Total {
    fn add(&mut self, region: &Region) {
        let bytes = region.end - region.start;
        self.bytes += bytes;
        self.data += if region.is_data() { bytes } else { 0 };
    }

    fn take(&mut self, region: &Region) {
        let bytes = region.end - region.start;
        self.bytes -= bytes;
        self.data -= if region.is_data() { bytes } else { 0 };
    }
}

impl Regions {
    /// None yet; mappings without an address of their own go into `window`.
    pub fn new(window: Range<u64>) -> Regions {
        let gaps = BTreeSet::from([(window.end - window.start, window.start)]);
        Regions { list: BTreeMap::new(), gaps, window, total: Total::default() }
    }

    /// How much is mapped.
    pub fn total(&self) -> Total {
        self.total
    }

    /// How much of a range is mapped.
    pub fn total_in(&self, range: Range<u64>) -> Total {
        let mut total = Total::default();
        for region in self.overlapping(range.clone()) {
            let (start, end) = (region.start.max(range.start), region.end.min(range.end));
            total.add(&Region { start, end, ..*region });
        }
        total
    }

    /// All, in order of addresses.
    pub fn iter(&self) -> impl Iterator<Item = &Region> {
        self.list.values()
    }

    /// The one at an address.
    pub fn find(&self, address: u64) -> Option<&Region> {
        self.before(address.checked_add(1)?).filter(|region| address < region.end)
    }

    /// The lowest one that starts at or after an address.
    pub fn next(&self, address: u64) -> Option<&Region> {
        self.list.range(address..).next().map(|(_, region)| region)
    }

    /// The highest one that starts before an address.
    pub fn before(&self, address: u64) -> Option<&Region> {
        self.list.range(..address).next_back().map(|(_, region)| region)
    }

    /// Those that have a part of a range, in order.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = &Region> {
        let first = self.find(range.start).map_or(range.start, |region| region.start);
        self.list.range(first..range.end.max(first)).map(|(_, region)| region)
    }

    /// Whether nothing is mapped in a range.
    pub fn is_free(&self, range: Range<u64>) -> bool {
        self.overlapping(range).next().is_none()
    }

    /// Whether all of a range is mapped.
    pub fn is_covered(&self, range: Range<u64>) -> bool {
        let mut reached = range.start;
        for region in self.overlapping(range.clone()) {
            if region.start > reached {
                return false;
            }
            reached = region.end;
        }
        reached >= range.end
    }

    /// Room for so many bytes: the top of the smallest gap that has it.
    pub fn room(&self, length: u64) -> Option<u64> {
        let (gap, start) = self.gaps.range((length, 0)..).next()?;
        Some(start + gap - length)
    }

    /// Whether cutting at these addresses would make more regions than a space may have.
    pub fn too_many_after_cuts(&self, cuts: &[u64]) -> bool {
        let new =
            cuts.iter().filter(|cut| self.find(**cut).is_some_and(|region| region.start < **cut)).count();
        new > 0 && self.list.len() as u64 + new as u64 > REGIONS_MAX
    }

    /// Whether there are as many as a space may have.
    pub fn full(&self) -> bool {
        self.list.len() as u64 >= REGIONS_MAX
    }

    /// Adds a region where nothing is mapped; it grows together with neighbours that it continues.
    pub fn insert(&mut self, mut region: Region) {
        self.total.add(&region);
        let below = self.before(region.start).copied();
        let above = self.next(region.end).copied();
        let below_end = below.map_or(0, |below| below.end);
        let above_start = above.map_or(u64::MAX, |above| above.start);
        self.drop_gap(below_end, above_start);
        self.add_gap(below_end, region.start);
        self.add_gap(region.end, above_start);
        if let Some(below) = below.filter(|below| below.continues_as(&region)) {
            region = Region { end: region.end, ..below };
        }
        if let Some(above) = above.filter(|above| region.continues_as(above)) {
            self.list.remove(&above.start);
            region.end = above.end;
        }
        self.list.insert(region.start, region);
    }

    /// Takes out everything in a range and returns it, in order.
    pub fn carve(&mut self, range: Range<u64>) -> Vec<Region> {
        if self.before(range.end).is_none_or(|region| region.end <= range.start) {
            return Vec::new();
        }
        self.cut(range.start);
        self.cut(range.end);
        let taken: Vec<Region> = self.list.range(range.clone()).map(|(_, region)| *region).collect();
        let (below, above) = self.neighbours(range.start, range.end);
        let mut reached = below;
        for region in &taken {
            self.list.remove(&region.start);
            self.total.take(region);
            self.drop_gap(reached, region.start);
            reached = region.end;
        }
        self.drop_gap(reached, above);
        self.add_gap(below, above);
        taken
    }

    /// Changes every region in a range, and joins those that continue each other afterwards. Ends do not change.
    pub fn change(&mut self, range: Range<u64>, change: impl Fn(&mut Region)) {
        self.cut(range.start);
        self.cut(range.end);
        for (_, region) in self.list.range_mut(range.clone()) {
            self.total.take(region);
            change(region);
            self.total.add(region);
        }
        self.join(range);
    }

    /// Lets the region at `start` begin lower; nothing may be mapped in between.
    pub fn extend_down(&mut self, start: u64, lower: u64) {
        let (below, _) = self.neighbours(start, start);
        if let Some(mut region) = self.list.remove(&start) {
            self.drop_gap(below, start);
            self.add_gap(below, lower);
            self.total.bytes += start - lower;
            region.start = lower;
            self.list.insert(lower, region);
        }
    }

    /// The end of what lies below a range, and the start of what lies above it.
    fn neighbours(&self, start: u64, end: u64) -> (u64, u64) {
        let below = self.before(start).map_or(0, |region| region.end);
        let above = self.next(end).map_or(u64::MAX, |region| region.start);
        (below, above)
    }

    fn cut(&mut self, at: u64) {
        if let Some((_, region)) = self.list.range_mut(..at).next_back()
            && at < region.end
        {
            let tail = region.tail(at);
            region.end = at;
            self.list.insert(at, tail);
        }
    }

    /// Joins what continues each other around and in a range.
    fn join(&mut self, range: Range<u64>) {
        let mut at = self.before(range.start).map_or(range.start, |region| region.start);
        while let Some(region) = self.next(at).copied().filter(|region| region.start < range.end) {
            match self.list.get(&region.end).copied().filter(|next| region.continues_as(next)) {
                Some(next) => {
                    self.list.remove(&next.start);
                    self.list.insert(region.start, Region { end: next.end, ..region });
                }
                None => at = region.end,
            }
        }
    }

    fn clipped(&self, start: u64, end: u64) -> Option<(u64, u64)> {
        let (start, end) = (start.max(self.window.start), end.min(self.window.end));
        (start < end).then(|| (end - start, start))
    }

    fn add_gap(&mut self, start: u64, end: u64) {
        if let Some(gap) = self.clipped(start, end) {
            self.gaps.insert(gap);
        }
    }

    fn drop_gap(&mut self, start: u64, end: u64) {
        if let Some(gap) = self.clipped(start, end) {
            self.gaps.remove(&gap);
        }
    }
}

#[cfg(test)]
mod tests;
