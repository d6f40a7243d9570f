//! The numbers of a server's own handles. They are chosen by the server, so that they follow from its events alone.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::ops::Range;

use serde::{Deserialize, Serialize};

use crate::abi::Handle;

/// Slots of a capability space, as many as the kernel has for a server.
pub const SLOTS_MAX: u32 = 1 << 16;

/// Free slots of a capability space.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HandleSlots {
    /// The last one given back is taken first.
    free: Vec<u32>,
    next: u32,
}

impl HandleSlots {
    /// All slots from `first` on are free.
    pub fn new(first: u32) -> HandleSlots {
        HandleSlots { free: Vec::new(), next: first }
    }

    /// Takes a free slot.
    pub fn take(&mut self) -> Handle {
        if let Some(slot) = self.free.pop() {
            return Handle(slot);
        }
        let slot = self.next;
        self.next += 1;
        Handle(slot)
    }

    /// Gives a slot back that may be free already.
    pub fn reclaim(&mut self, handle: Handle) {
        if !self.free.contains(&handle.0) {
            self.give_back(handle);
        }
    }

    /// Makes true what is said of the slots at some places, and of those that are offered for handles to come: none
    /// that is used, or below `first`, is free or offered then, and none is so twice.
    pub(super) fn correct(
        &mut self,
        first: u32,
        places: Range<u64>,
        used: impl Iterator<Item = u64>,
        offered: &mut [Handle],
    ) {
        let here = |slot: &u32| places.contains(&u64::from(*slot));
        let used = used.filter_map(|slot| u32::try_from(slot).ok());
        let mut taken: BTreeSet<u32> =
            used.filter(|slot| (first..SLOTS_MAX).contains(slot) && here(slot)).collect();
        let known = first..self.next.min(SLOTS_MAX);
        let promised = offered.iter().map(|slot| slot.0).filter(|slot| known.contains(slot));
        let begun = places.start.min(SLOTS_MAX.into()) as u32;
        let above =
            taken.iter().copied().chain(promised).map(|slot| slot + 1).fold(first.max(begun), u32::max);
        let last = places.end >= u32::MAX.into();
        self.next = if last && self.next > SLOTS_MAX { above } else { self.next.max(above) };
        let mut is_free = |slot: &u32| known.contains(slot) && (!here(slot) || taken.insert(*slot));
        let renewed: Vec<&mut Handle> = offered.iter_mut().filter(|slot| !is_free(&slot.0)).collect();
        self.free.retain(is_free);
        renewed.into_iter().for_each(|slot| *slot = self.take());
    }

    /// Gives a slot back.
    pub fn give_back(&mut self, handle: Handle) {
        if handle.0 < self.next {
            self.free.push(handle.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_given_back_is_taken_before_a_new_one() {
        let mut slots = HandleSlots::new(5);
        assert_eq!((slots.take(), slots.take()), (Handle(5), Handle(6)));
        slots.give_back(Handle(5));
        assert_eq!((slots.take(), slots.take()), (Handle(5), Handle(7)));
    }

    /// What slots come to be of these, after a sweep that has found what is used.
    fn corrected(
        slots: HandleSlots,
        offered: &[u32],
        places: [Range<u64>; 2],
        used: &[u64],
    ) -> (HandleSlots, Vec<u32>) {
        let mut slots = slots;
        let mut offered: Vec<Handle> = offered.iter().copied().map(Handle).collect();
        for part in places {
            let used = used.iter().copied().filter(|slot| part.contains(slot));
            slots.correct(5, part.clone(), used, &mut offered);
        }
        (slots, offered.iter().map(|slot| slot.0).collect())
    }

    const PARTS: [Range<u64>; 2] = [5..10, 10..u32::MAX as u64];

    #[test]
    fn slots_that_are_right_are_left_as_they_are() {
        let slots = HandleSlots { free: alloc::vec![12, 6, 8], next: 15 };
        let right = corrected(slots.clone(), &[7, 10, 11, 14], PARTS, &[5, 9, 13]);
        assert_eq!(right, (slots, alloc::vec![7, 10, 11, 14]));
    }

    #[test]
    fn what_is_used_is_not_free_and_nothing_is_so_twice() {
        let slots = HandleSlots { free: alloc::vec![12, 3, 6, 9, 6, 99, 13, 8], next: 15 };
        let (slots, offered) = corrected(slots, &[7, 13, 8, 2], PARTS, &[5, 9, 13, 20, 1 << 40]);
        assert_eq!((slots.free, slots.next), (alloc::vec![], 21));
        assert_eq!(offered, [7, 6, 8, 12]);
    }

    #[test]
    fn slots_that_the_kernel_does_not_have_are_never_given_out() {
        for next in [SLOTS_MAX + 1, u32::MAX] {
            let slots = HandleSlots { free: alloc::vec![70_000, 6], next };
            let (mut slots, offered) = corrected(slots, &[7, 12, 80_000, 14], PARTS, &[5, 9, 13]);
            assert_eq!(offered, [7, 12, 6, 14]);
            assert_eq!((slots.take(), slots.take()), (Handle(15), Handle(16)));
        }
    }

    #[test]
    fn a_slot_reclaimed_is_given_out_once_whether_or_not_it_was_free() {
        let mut slots = HandleSlots::new(5);
        let (taken, free) = (slots.take(), slots.take());
        slots.give_back(free);
        for handle in [taken, free, Handle(9)] {
            slots.reclaim(handle);
        }
        let next: Vec<Handle> = (0..3).map(|_| slots.take()).collect();
        assert_eq!(next, [taken, free, Handle(7)]);
    }
}
