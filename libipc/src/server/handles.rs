//! The numbers of a server's own handles. They are chosen by the server, so that they follow from its events alone.

use alloc::collections::BTreeSet;
use serde::{Deserialize, Serialize};

use crate::abi::Handle;

/// Free slots of a capability space.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HandleSlots {
    free: BTreeSet<u32>,
    next: u32,
}

impl HandleSlots {
    /// All slots from `first` on are free.
    pub fn new(first: u32) -> HandleSlots {
        HandleSlots { free: BTreeSet::new(), next: first }
    }

    /// Takes the lowest free slot.
    pub fn take(&mut self) -> Handle {
        if let Some(slot) = self.free.pop_first() {
            return Handle(slot);
        }
        let slot = self.next;
        self.next += 1;
        Handle(slot)
    }

    /// Gives a slot back.
    pub fn give_back(&mut self, handle: Handle) {
        if handle.0 < self.next {
            self.free.insert(handle.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_slot_is_taken_first() {
        let mut slots = HandleSlots::new(5);
        assert_eq!((slots.take(), slots.take()), (Handle(5), Handle(6)));
        slots.give_back(Handle(5));
        assert_eq!((slots.take(), slots.take()), (Handle(5), Handle(7)));
    }
}
