//! A bounded queue of bytes: what waits to leave for a device, or for the reader of a pseudoterminal's other
//! end.
//!
//! It never grows past its capacity; a byte that does not fit is refused and stays with whoever offered it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// A first-in first-out queue of at most `capacity` bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByteQueue {
    bytes: VecDeque<u8>,
    capacity: u32,
}

impl ByteQueue {
    /// An empty queue with room for `capacity` bytes.
    pub fn new(capacity: u32) -> Self {
        Self { bytes: VecDeque::new(), capacity }
    }

    /// How many bytes wait.
    pub fn len(&self) -> u32 {
        // A push past `capacity`, a u32, is refused, so the length fits.
        self.bytes.len() as u32
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many more bytes fit.
    pub fn room(&self) -> u32 {
        self.capacity.saturating_sub(self.len())
    }

    /// Appends one byte, or changes nothing and answers false where there is no room.
    #[must_use]
    pub fn push(&mut self, byte: u8) -> bool {
        self.push_all(&[byte])
    }

    /// Appends all of `bytes`, or changes nothing and answers false where they do not all fit.
    #[must_use]
    pub fn push_all(&mut self, bytes: &[u8]) -> bool {
        let fits = bytes.len() <= self.room() as usize;
        if fits {
            self.bytes.extend(bytes);
        }
        fits
    }

    /// Removes the oldest byte.
    pub fn pop(&mut self) -> Option<u8> {
        self.bytes.pop_front()
    }

    /// Removes the oldest bytes, at most `max_bytes` of them.
    pub fn take(&mut self, max_bytes: u32) -> Vec<u8> {
        let count = self.bytes.len().min(max_bytes as usize);
        self.bytes.drain(..count).collect()
    }

    /// Throws everything away.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_leave_in_the_order_they_came() {
        let mut queue = ByteQueue::new(8);
        assert!(queue.push_all(b"abc") && queue.push(b'd'));
        assert_eq!(queue.pop(), Some(b'a'));
        assert_eq!(queue.take(2), b"bc");
        assert_eq!(queue.take(9), b"d");
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn what_does_not_fit_whole_is_refused_whole() {
        let mut queue = ByteQueue::new(4);
        assert!(queue.push_all(b"abc"));
        assert!(!queue.push_all(b"de"));
        assert_eq!((queue.len(), queue.room()), (3, 1));
        assert!(queue.push(b'd'));
        assert!(!queue.push(b'e'));
        assert_eq!(queue.take(4), b"abcd");
    }
}
