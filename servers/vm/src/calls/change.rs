//! mprotect(2) and brk(2).

use core::ops::Range;

use libipc::abi::Protection;
use libipc::linux::errno::{EACCES, EINVAL, ENOMEM};

use super::{Errno, Target, protection_of, range_of};
use crate::region::{Backing, Purpose, Region};
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
        if !regions.is_covered(range.clone()) || regions.too_many_after_cuts(&[range.start, range.end]) {
            return Err(Errno(ENOMEM));
        }
        if protection.contains(Protection::WRITE) {
            self.check_writable(range.clone())?;
        }
        self.space.regions.change(range.clone(), |region| region.protection = protection);
        self.space.reprotect(range, &self.memory.frames, self.effects);
        Ok(0)
    }

    /// Whether all of a range may become writable: shared files may not, and memory must be able to hold what is
    /// private.
    fn check_writable(&self, range: Range<u64>) -> Result<(), Errno> {
        let mut bytes = 0;
        for region in self.space.regions.overlapping(range.clone()) {
            if region.shared && self.is_file(region) {
                return Err(Errno(EACCES));
            }
            if !region.shared && !region.protection.contains(Protection::WRITE) {
                bytes += region.end.min(range.end) - region.start.max(range.start);
            }
        }
        self.affordable(bytes)
    }

    fn is_file(&self, region: &Region) -> bool {
        let Backing::Object { object, .. } = region.backing else { return false };
        self.memory.objects.get(object).is_some_and(|object| object.file.is_some())
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
        if !fits || self.affordable(range.end - range.start).is_err() {
            return false;
        }
        let zeroes = Region::anonymous(range, Protection::READ | Protection::WRITE);
        self.space.place(Region { purpose: Purpose::Heap, ..zeroes }, self.memory, self.effects);
        true
    }
}
