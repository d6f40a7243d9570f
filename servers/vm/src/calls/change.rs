//! mprotect(2) and brk(2).

use core::ops::Range;

use libipc::abi::Protection;
use libipc::linux::errno::{EACCES, EINVAL, ENOMEM};

use super::{Errno, Target, protection_of, range_of};
use crate::region::{Purpose, Region};
use crate::tables::{MACHINE, ceil};

impl Target<'_> {
    /// mprotect(2).
    pub(super) fn mprotect(&mut self, address: u64, length: u64, bits: u64) -> Result<u64, Errno> {
        let range = range_of(address, length, ENOMEM)?;
        let protection = protection_of(bits).ok_or(Errno(EINVAL))?;
        if range.is_empty() {
            return Ok(0);
        }
        let regions = &self.space.regions;
        if regions.too_many_after_cuts(&[range.start, range.end]) {
            return Err(Errno(ENOMEM));
        }
        // What lies before a hole, or before what may not be changed so, is changed all the same.
        let (changed, refusal) = self.changeable(range, protection);
        if !changed.is_empty() {
            self.space.regions.change(changed.clone(), |region| region.protection = protection);
            self.space.reprotect(changed, &self.memory.frames, self.effects);
        }
        refusal.map_or(Ok(0), Err)
    }

    /// How much of a range, from its start on, can be given a protection, and why no more.
    fn changeable(&self, range: Range<u64>, protection: Protection) -> (Range<u64>, Option<Errno>) {
        let mut reached = range.start;
        for region in self.space.regions.overlapping(range.clone()) {
            let part = region.start.max(range.start)..region.end.min(range.end);
            if part.start > reached {
                break;
            }
            if protection.contains(Protection::WRITE)
                && let Err(refusal) = self.check_writable(region, part.end - range.start)
            {
                return (range.start..reached, Some(refusal));
            }
            reached = part.end;
        }
        let whole = reached >= range.end;
        (range.start..reached, (!whole).then_some(Errno(ENOMEM)))
    }

    /// Whether a region, with what comes before it so many bytes, may become writable: not a shared file that was
    /// not opened for writing, and memory must be able to hold what is private.
    fn check_writable(&self, region: &Region, bytes: u64) -> Result<(), Errno> {
        if region.read_only {
            return Err(Errno(EACCES));
        }
        if region.shared || region.protection.contains(Protection::WRITE) {
            return Ok(());
        }
        self.affordable(bytes)?;
        if self.space.may_grow(0, bytes) { Ok(()) } else { Err(Errno(ENOMEM)) }
    }

    /// brk(2): the new break, or the old one if it cannot be moved.
    pub(super) fn brk(&mut self, wanted: u64) -> u64 {
        let heap = self.space.heap.clone();
        let (Some(old_end), Some(new_end)) = (ceil(heap.end), ceil(wanted)) else { return heap.end };
        if wanted < heap.start || wanted > MACHINE.user_end {
            return heap.end;
        }
        if new_end < old_end {
            self.space.unmap(new_end..old_end, self.memory, self.effects);
        } else if new_end > old_end && !self.extend_heap(old_end..new_end) {
            return heap.end;
        }
        self.space.heap.end = wanted;
        wanted
    }

    fn extend_heap(&mut self, range: Range<u64>) -> bool {
        let regions = &self.space.regions;
        let fits = regions.is_free(range.clone()) && !regions.full();
        let bytes = range.end - range.start;
        if !fits || self.affordable(bytes).is_err() || !self.space.may_grow(bytes, bytes) {
            return false;
        }
        let zeroes = Region::anonymous(range, Protection::READ | Protection::WRITE);
        let locked = self.space.locks;
        self.space.place(Region { purpose: Purpose::Heap, locked, ..zeroes }, self.memory, self.effects);
        true
    }
}
