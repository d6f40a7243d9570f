//! Free frames, given out from the low end. What root has given it never takes back.

use libipc::abi::{Frame, PAGE_SIZE};

/// What is left of the machine's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Free {
    next: u32,
    end: u32,
}

impl Free {
    /// All frames from `first` up to `end`.
    pub fn new(first: Frame, end: Frame) -> Free {
        Free { next: first.0, end: end.0 }
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.end - self.next
    }

    /// The first of so many frames in one piece.
    pub fn take(&mut self, count: u32) -> Option<Frame> {
        let first = self.next;
        self.next = first.checked_add(count).filter(|next| *next <= self.end)?;
        Some(Frame(first))
    }

    /// All that is left.
    pub fn rest(&mut self) -> (Frame, u32) {
        let rest = (Frame(self.next), self.count());
        self.next = self.end;
        rest
    }
}

/// Pages for so many KiB.
pub fn pages(kib: u32) -> u32 {
    kib.div_ceil(PAGE_SIZE as u32 / 1024)
}
