//! A mirror of a space's page tables: which table frames the kernel already has for a space, and which it lacks.
//!
//! The kernel never allocates: a map operation brings the frames of every table that is missing, topmost first. This
//! is the only module that knows how deep the tables of a machine are; the rest counts in pages.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::abi::{Frame, PAGE_SIZE};
use serde::{Deserialize, Serialize};

use crate::frames::Frames;

/// The shape of a machine's page tables and the part of its address space that programs have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// For each level of tables below the top one, topmost first: log2 of the bytes that one table covers.
    pub covers: &'static [u8],
    /// One past the last address of a program.
    pub user_end: u64,
    /// Where a position-independent program without an interpreter's wish is put: two thirds up, as Linux has it.
    pub program_base: u64,
}

/// Four levels: below the top table come those that cover 512 GiB, 1 GiB and 2 MiB.
const X86_64: Geometry =
    Geometry { covers: &[39, 30, 21], user_end: 0x7fff_ffff_f000, program_base: 0x5555_5555_4000 };

/// The machine this server is for.
pub const MACHINE: Geometry = X86_64;

/// The page of an address, by number.
pub fn page_of(address: u64) -> u64 {
    address / PAGE_SIZE
}

/// The address of a page.
pub fn address_of(page: u64) -> u64 {
    page * PAGE_SIZE
}

/// Rounds down to a page.
pub fn floor(address: u64) -> u64 {
    address & !(PAGE_SIZE - 1)
}

/// Rounds up to a page; `None` past the end of all addresses.
pub fn ceil(address: u64) -> Option<u64> {
    address.checked_add(PAGE_SIZE - 1).map(floor)
}

/// The tables of one space.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tables {
    top: Frame,
    below: BTreeMap<(u8, u64), Frame>,
}

impl Tables {
    /// Of a space that has nothing but its top table.
    pub fn new(top: Frame) -> Tables {
        Tables { top, below: BTreeMap::new() }
    }

    /// Takes frames for the tables that these pages lack and adds them to `taken`, topmost first, page by page. Stops
    /// before the page for which there are not enough frames, or when `most` could be exceeded; returns how many are
    /// covered.
    pub fn cover(
        &mut self,
        pages: impl Iterator<Item = u64>,
        most: usize,
        frames: &mut Frames,
        taken: &mut Vec<Frame>,
    ) -> usize {
        self.cover_with(&MACHINE, pages, most, frames, taken)
    }

    fn cover_with(
        &mut self,
        geometry: &Geometry,
        pages: impl Iterator<Item = u64>,
        most: usize,
        frames: &mut Frames,
        taken: &mut Vec<Frame>,
    ) -> usize {
        let lowest = geometry.covers.last().copied().unwrap_or_default();
        let mut covered = None;
        let mut count = 0;
        for address in pages {
            // Neighbours have the same table, so most pages need no search.
            let area = address >> lowest;
            if covered != Some(area) {
                if taken.len() + geometry.covers.len() > most
                    || !self.cover_one(geometry, address, frames, taken)
                {
                    break;
                }
                covered = Some(area);
            }
            count += 1;
        }
        count
    }

    fn cover_one(
        &mut self,
        geometry: &Geometry,
        address: u64,
        frames: &mut Frames,
        taken: &mut Vec<Frame>,
    ) -> bool {
        // A table exists only below one that exists, so the search goes upward from the lowest and stops at the
        // first.
        let missing = |shift: &&u8| !self.below.contains_key(&(**shift, address >> **shift));
        let lacking = geometry.covers.iter().rev().take_while(missing).count();
        if frames.free() < lacking as u32 {
            return false;
        }
        for shift in &geometry.covers[geometry.covers.len() - lacking..] {
            let Some(frame) = frames.take() else { return false };
            self.below.insert((*shift, address >> shift), frame);
            taken.push(frame);
        }
        true
    }

    /// Their frames.
    #[cfg(test)]
    pub fn frames(&self) -> impl Iterator<Item = Frame> {
        core::iter::once(self.top).chain(self.below.values().copied())
    }

    /// Gives all frames back, once the kernel has let go of them.
    pub fn release(self, frames: &mut Frames) {
        frames.release(self.top);
        for frame in self.below.into_values() {
            frames.release(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const I386: Geometry = Geometry { covers: &[22], user_end: 0xc000_0000, program_base: 0x5655_5000 };

    fn cover(tables: &mut Tables, geometry: &Geometry, address: u64, frames: &mut Frames) -> usize {
        let mut taken = Vec::new();
        assert_eq!(tables.cover_with(geometry, core::iter::once(address), 64, frames, &mut taken), 1);
        taken.len()
    }

    #[test]
    fn a_page_needs_one_table_per_level_and_its_neighbours_share_them() {
        let mut frames = Frames::new(&[(Frame(0), 20)]);
        let mut tables = Tables::new(frames.take().unwrap());
        assert_eq!(cover(&mut tables, &X86_64, 0x40_0000, &mut frames), 3);
        assert_eq!(cover(&mut tables, &X86_64, 0x5f_f000, &mut frames), 0);
        assert_eq!(cover(&mut tables, &X86_64, 0x60_0000, &mut frames), 1);
        assert_eq!(cover(&mut tables, &X86_64, 0x4000_0000, &mut frames), 2);
        assert_eq!(cover(&mut tables, &X86_64, 0x7fff_0000_0000, &mut frames), 3);
        assert_eq!(tables.frames().count(), 10);
        tables.release(&mut frames);
        assert_eq!(frames.free(), 20);
    }

    #[test]
    fn a_machine_with_two_levels_needs_one_table_per_4_mib() {
        let mut frames = Frames::new(&[(Frame(0), 5)]);
        let mut tables = Tables::new(frames.take().unwrap());
        assert_eq!(cover(&mut tables, &I386, 0x40_0000, &mut frames), 1);
        assert_eq!(cover(&mut tables, &I386, 0x7f_f000, &mut frames), 0);
        assert_eq!(cover(&mut tables, &I386, 0xbfff_f000, &mut frames), 1);
    }

    #[test]
    fn when_frames_do_not_suffice_the_pages_before_are_covered_and_no_frame_is_lost() {
        let mut frames = Frames::new(&[(Frame(0), 6)]);
        let mut tables = Tables::new(frames.take().unwrap());
        let mut taken = Vec::new();
        let pages = [0x1000, 0x2000, 0x4000_0000, 0x8000_0000];
        assert_eq!(tables.cover(pages.into_iter(), 64, &mut frames, &mut taken), 3);
        assert_eq!((taken.len(), frames.free(), tables.frames().count()), (5, 0, 6));
    }

    #[test]
    fn no_more_tables_are_taken_than_one_operation_may_bring() {
        let mut frames = Frames::new(&[(Frame(0), 100)]);
        let mut tables = Tables::new(frames.take().unwrap());
        let mut taken = Vec::new();
        assert_eq!(tables.cover((0..20).map(|page| page << 39), 10, &mut frames, &mut taken), 3);
        assert_eq!(taken.len(), 9);
    }
}
