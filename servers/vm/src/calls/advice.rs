//! madvise(2), msync(2), mincore(2) and mlock(2): advice and questions about pages.

use alloc::vec;
use core::ops::Range;

use libipc::abi::CallId;
use libipc::linux::errno::{EAGAIN, EBUSY, EINVAL, ENOMEM, EPERM};
use libipc::server::Effect;

use super::{Errno, Target, range_of};
use crate::region::{Backing, Inherit, Region};
use crate::tables::{MACHINE, ceil, floor, page_of};

/// Advice of madvise (uapi/asm-generic/mman-common.h).
mod madv {
    pub const NORMAL: u64 = 0;
    pub const DONTNEED: u64 = 4;
    pub const FREE: u64 = 8;
    pub const DONTFORK: u64 = 10;
    pub const DOFORK: u64 = 11;
    pub const MERGEABLE: u64 = 12;
    pub const DODUMP: u64 = 17;
    pub const WIPEONFORK: u64 = 18;
    pub const KEEPONFORK: u64 = 19;
    pub const COLD: u64 = 20;
    pub const PAGEOUT: u64 = 21;
}

const MS_ASYNC: u64 = 1;
const MS_INVALIDATE: u64 = 2;
const MS_SYNC: u64 = 4;

const MCL_CURRENT: u64 = 1;
const MCL_FUTURE: u64 = 2;
const MCL_ONFAULT: u64 = 4;

/// Most pages that mincore tells of at a time: 1 GiB.
const MINCORE_MAX: u64 = 1 << 18;
/// Most bytes in one copy to a caller.
const COPY_MAX: u64 = 64 << 10;

impl Target<'_> {
    /// madvise(2). What only hints is taken note of by doing nothing: there is no swap and no read-ahead to steer.
    pub(super) fn madvise(&mut self, address: u64, length: u64, advice: u64) -> Result<u64, Errno> {
        let range = range_of(address, length, EINVAL)?;
        let inherit = match advice {
            madv::NORMAL..=madv::DONTNEED | madv::FREE => None,
            madv::MERGEABLE..=madv::DODUMP | madv::COLD | madv::PAGEOUT => None,
            madv::DONTFORK => Some(Inherit::Nothing),
            madv::DOFORK | madv::KEEPONFORK => Some(Inherit::Copy),
            madv::WIPEONFORK => Some(Inherit::Zeroes),
            _ => return Err(Errno(EINVAL)),
        };
        if range.is_empty() {
            return Ok(0);
        }
        if let Some(inherit) = inherit {
            self.change_inherit(range.clone(), inherit)?;
        } else if advice == madv::DONTNEED {
            // What is not mapped is skipped, and then reported.
            self.space.drop_pages(
                page_of(range.start)..page_of(range.end),
                &mut self.memory.frames,
                self.effects,
            );
        }
        self.covered(range)
    }

    fn change_inherit(&mut self, range: Range<u64>, inherit: Inherit) -> Result<(), Errno> {
        let private_zeroes = |region: &Region| !region.shared && region.backing == Backing::Anonymous;
        let regions = &self.space.regions;
        if inherit == Inherit::Zeroes && !regions.overlapping(range.clone()).all(private_zeroes) {
            return Err(Errno(EINVAL));
        }
        if regions.too_many_after_cuts(&[range.start, range.end]) {
            return Err(Errno(ENOMEM));
        }
        self.space.regions.change(range, |region| region.inherit = inherit);
        Ok(())
    }

    /// msync(2). No page of a file is ever dirty, so there is nothing to write.
    pub(super) fn msync(&mut self, address: u64, length: u64, flags: u64) -> Result<u64, Errno> {
        let known = flags & !(MS_ASYNC | MS_INVALIDATE | MS_SYNC) == 0;
        if !known || flags & MS_ASYNC != 0 && flags & MS_SYNC != 0 {
            return Err(Errno(EINVAL));
        }
        let range = range_of(address, length, ENOMEM)?;
        let mut locked = self.space.regions.overlapping(range.clone()).filter(|region| region.locked);
        if flags & MS_INVALIDATE != 0 && locked.next().is_some() {
            return Err(Errno(EBUSY));
        }
        self.covered(range)
    }

    /// mlock(2) and munlock(2). A program's own pages are never taken from it, and those of files come back when
    /// touched, so that a lock is only remembered.
    pub(super) fn mlock(&mut self, address: u64, length: u64, lock: bool) -> Result<u64, Errno> {
        let start = floor(address);
        let end = address.checked_add(length).and_then(ceil).ok_or(Errno(EINVAL))?;
        let range = start..end.min(MACHINE.user_end.max(start));
        if lock {
            let unlocked = self.space.regions.overlapping(range.clone()).filter(|region| !region.locked);
            let more = unlocked.map(|region| region.end.min(range.end) - region.start.max(range.start)).sum();
            self.may_lock(more)?;
        }
        if self.space.regions.too_many_after_cuts(&[range.start, range.end]) {
            return Err(Errno(ENOMEM));
        }
        let mut reached = range.start;
        for region in self.space.regions.overlapping(range.clone()) {
            if region.start > reached {
                break;
            }
            reached = region.end.min(range.end);
        }
        if reached > range.start {
            self.space.regions.change(range.start..reached, |region| region.locked = lock);
        }
        self.covered(range)
    }

    /// Whether so many more bytes may be locked: as many as the limit says, or any number for the superuser.
    pub(super) fn may_lock(&self, more: u64) -> Result<(), Errno> {
        let limit = self.space.limits.locked;
        if self.uid == 0 || more == 0 {
            return Ok(());
        }
        if limit == 0 {
            return Err(Errno(EPERM));
        }
        let locked = self.space.regions.iter().filter(|region| region.locked);
        let sum: u64 = locked.map(|region| region.end - region.start).sum();
        if sum.saturating_add(more) > limit { Err(Errno(ENOMEM)) } else { Ok(()) }
    }

    /// mlockall(2).
    pub(super) fn mlockall(&mut self, flags: u64) -> Result<u64, Errno> {
        if flags == 0 || flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 || flags == MCL_ONFAULT {
            return Err(Errno(EINVAL));
        }
        let limit = self.space.limits.locked;
        if self.uid != 0 && limit == 0 {
            return Err(Errno(EPERM));
        }
        if flags & MCL_CURRENT != 0 {
            if self.uid != 0 && self.space.regions.total().bytes > limit {
                return Err(Errno(ENOMEM));
            }
            self.space.regions.change(0..u64::MAX, |region| region.locked = true);
        }
        self.space.locks = flags & MCL_FUTURE != 0;
        Ok(0)
    }

    /// munlockall(2).
    pub(super) fn munlockall(&mut self) -> u64 {
        self.space.locks = false;
        self.space.regions.change(0..u64::MAX, |region| region.locked = false);
        0
    }

    /// mincore(2): a byte for each page, 1 if it is in memory.
    pub(super) fn mincore(
        &mut self,
        call: CallId,
        address: u64,
        length: u64,
        vector: u64,
    ) -> Result<u64, Errno> {
        let range = range_of(address, length, ENOMEM)?;
        self.covered(range.clone())?;
        let pages = page_of(range.start)..page_of(range.end);
        if pages.end - pages.start > MINCORE_MAX {
            return Err(Errno(EAGAIN));
        }
        let mut resident = vec![0u8; (pages.end - pages.start) as usize];
        for (number, _) in self.space.pages.range(pages.clone()) {
            resident[(number - pages.start) as usize] = 1;
        }
        for region in self.space.regions.overlapping(range) {
            self.note_cached(region, &pages, &mut resident);
        }
        for (index, part) in resident.chunks(COPY_MAX as usize).enumerate() {
            let (address, bytes) = (vector.wrapping_add(index as u64 * COPY_MAX), part.to_vec());
            self.effects.push(Effect::CopyOut { call, address, bytes });
        }
        Ok(0)
    }

    /// Pages of files that are in memory, mapped here or not.
    fn note_cached(&self, region: &Region, pages: &Range<u64>, resident: &mut [u8]) {
        let Backing::Object { object, page: first, .. } = region.backing else { return };
        let Some(object) = self.memory.objects.get(object) else { return };
        let own = region.pages();
        let shown = own.start.max(pages.start)..own.end.min(pages.end);
        let indices = first + (shown.start - own.start)..first + (shown.end - own.start);
        for (index, _) in object.pages.range(indices) {
            resident[(index - first + own.start - pages.start) as usize] = 1;
        }
    }

    /// 0 if all of a range is mapped, ENOMEM if not.
    fn covered(&self, range: Range<u64>) -> Result<u64, Errno> {
        if self.space.regions.is_covered(range) { Ok(0) } else { Err(Errno(ENOMEM)) }
    }
}
