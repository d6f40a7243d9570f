//! The numbers of a server's own handles. They are chosen by the server, so that they follow from its events alone.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::abi::Handle;

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
