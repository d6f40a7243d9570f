//! mremap(2).

use alloc::vec::Vec;
use core::ops::Range;

use libipc::abi::{PAGE_SIZE, Protection};
use libipc::linux::errno::{EFAULT, EINVAL, ENOMEM};

use super::{Errno, Target, is_charged, range_of};
use crate::region::{Backing, Region};
use crate::space::{MAP_MAX, Page, hardware, in_place};
use crate::tables::{MACHINE, ceil, page_of};

const MAY_MOVE: u64 = 1;
const FIXED: u64 = 2;

impl Target<'_> {
    /// mremap(2), for a range that lies in one mapping. MREMAP_DONTUNMAP and an old length of 0 are refused.
    pub(super) fn mremap(
        &mut self,
        address: u64,
        old_length: u64,
        new_length: u64,
        flags: u64,
        wish: u64,
    ) -> Result<u64, Errno> {
        if flags & !(MAY_MOVE | FIXED) != 0 || flags == FIXED {
            return Err(Errno(EINVAL));
        }
        let old = range_of(address, old_length, EINVAL)?;
        let new_length = ceil(new_length).filter(|length| *length > 0).ok_or(Errno(EINVAL))?;
        if old.is_empty() {
            return Err(Errno(EINVAL));
        }
        if flags & FIXED != 0 {
            return self.move_to(old, range_of(wish, new_length, EINVAL)?);
        }
        let old_bytes = old.end - old.start;
        if new_length <= old_bytes {
            let tail = old.start + new_length..old.end;
            return if tail.is_empty() {
                Ok(address)
            } else {
                self.munmap(tail.start, tail.end - tail.start).map(|_| address)
            };
        }
        let region = self.movable(&old)?;
        self.may_extend(&region, new_length - old_bytes)?;
        let more = old.end..old.start.checked_add(new_length).ok_or(Errno(ENOMEM))?;
        if region.end == old.end && more.end <= MACHINE.user_end && self.space.regions.is_free(more.clone()) {
            self.space.place(continuation(&region, more), self.memory, self.effects);
            return Ok(address);
        }
        if flags & MAY_MOVE == 0 {
            return Err(Errno(ENOMEM));
        }
        let start = self.space.regions.room(new_length).ok_or(Errno(ENOMEM))?;
        self.move_to(old, start..start + new_length)
    }

    /// Whether memory and the process's limits allow so many more bytes of a region.
    fn may_extend(&self, region: &Region, more: u64) -> Result<(), Errno> {
        if is_charged(region) {
            self.affordable(more)?;
        }
        if region.locked && more > 0 {
            self.may_lock(more)?;
        }
        let data = if region.is_data() { more } else { 0 };
        if more == 0 || self.space.may_grow(more, data) { Ok(()) } else { Err(Errno(ENOMEM)) }
    }

    /// The region that holds all of a range.
    fn movable(&self, range: &Range<u64>) -> Result<Region, Errno> {
        let holds_all = |region: &&Region| region.end >= range.end;
        self.space.regions.find(range.start).filter(holds_all).copied().ok_or(Errno(EFAULT))
    }

    /// Moves a mapping with its pages, in place of whatever is at its new range.
    fn move_to(&mut self, mut old: Range<u64>, new: Range<u64>) -> Result<u64, Errno> {
        if old.start < new.end && new.start < old.end || new.start < PAGE_SIZE {
            return Err(Errno(EINVAL));
        }
        let (old_bytes, new_bytes) = (old.end - old.start, new.end - new.start);
        let region = self.movable(&old)?;
        self.may_extend(&region, new_bytes.saturating_sub(old_bytes))?;
        let cuts = [old.start, old.end, new.start, new.end];
        if self.space.regions.full() || self.space.regions.too_many_after_cuts(&cuts) {
            return Err(Errno(ENOMEM));
        }
        if new_bytes < old_bytes {
            let kept = old.start + new_bytes;
            self.space.unmap(kept..old.end, self.memory, self.effects);
            old.end = kept;
        }
        let taken = self.space.regions.carve(old.clone());
        let pages = self.space.take_pages(page_of(old.start)..page_of(old.end), self.effects);
        if let Some(moved) = taken.first() {
            let moved = Region { start: new.start, end: new.end, ..*moved };
            self.space.place(moved, self.memory, self.effects);
            self.put_pages(&moved, page_of(old.start), &pages);
        }
        self.space.detach(&taken, self.memory, self.effects);
        Ok(new.start)
    }

    /// Puts pages that were at page `from` and above into a region, and maps as many as go into one operation.
    fn put_pages(&mut self, region: &Region, from: u64, pages: &[(u64, Page)]) {
        let frames = &mut self.memory.frames;
        let mut wanted = Vec::new();
        for (number, page) in pages {
            let number = number - from + region.pages().start;
            let allowed = hardware(region, in_place(region, page.frame, frames), Protection::empty());
            self.space.pages.insert(number, Page { mapped: Protection::empty(), ..*page });
            if !page.mapped.is_empty() && !allowed.is_empty() && wanted.len() < MAP_MAX {
                wanted.push((number, allowed));
            }
        }
        self.space.enter(&wanted, frames, self.effects);
    }
}

/// What follows a region when it grows.
fn continuation(region: &Region, range: Range<u64>) -> Region {
    let backing = match region.backing {
        Backing::Object { object, page, limit } => {
            Backing::Object { object, page: page + page_of(range.start - region.start), limit }
        }
        Backing::Anonymous => Backing::Anonymous,
    };
    Region { start: range.start, end: range.end, backing, ..*region }
}
