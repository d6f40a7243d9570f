//! Input that was typed and not read yet: finished lines, then the line being edited.
//!
//! A line's end of file is stored as a zero byte in its last place, where no other byte can be zero, since a
//! control character of zero is switched off. So switching to raw mode loses nothing, as on Linux.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// How many bytes of input are held.
pub(super) const CAPACITY: u32 = 4096;

/// The byte that stands for an end of file in a line's last place.
pub(super) const END_OF_FILE: u8 = 0;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InputBuffer {
    bytes: VecDeque<u8>,
    /// The lengths of the finished lines at the front, their ends included; none is zero.
    lines: VecDeque<u32>,
    /// The sum of `lines`.
    finished: u32,
}

impl InputBuffer {
    pub(super) fn len(&self) -> u32 {
        // Never more than `CAPACITY`.
        self.bytes.len() as u32
    }

    /// How many bytes may still come before the sender should wait. One place stays back for the end of a
    /// line, and with `marking` each byte may take three places.
    pub(super) fn room(&self, marking: bool) -> u32 {
        let free = CAPACITY.saturating_sub(self.len());
        let units = if marking { free.div_ceil(3) } else { free };
        units.saturating_sub(1)
    }

    pub(super) fn has_line(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Makes a place in a full buffer by giving up the last byte of the unfinished line.
    pub(super) fn make_place(&mut self) {
        if self.len() >= CAPACITY {
            self.pop_unfinished();
        }
    }

    pub(super) fn push(&mut self, byte: u8) {
        self.make_place();
        if self.len() < CAPACITY {
            self.bytes.push_back(byte);
        }
    }

    /// Adds a line's last byte and finishes the line.
    pub(super) fn finish_line(&mut self, end: u8) {
        self.push(end);
        self.finish_all();
    }

    fn finish_all(&mut self) {
        let length = self.len() - self.finished;
        if length > 0 {
            self.lines.push_back(length);
            self.finished += length;
        }
    }

    /// How many bytes the unfinished line has.
    pub(super) fn unfinished_len(&self) -> u32 {
        self.len() - self.finished
    }

    /// The bytes of the unfinished line.
    pub(super) fn unfinished(&self) -> impl DoubleEndedIterator<Item = u8> + '_ {
        self.bytes.iter().skip(self.finished as usize).copied()
    }

    /// Removes the last byte of the unfinished line.
    pub(super) fn pop_unfinished(&mut self) -> Option<u8> {
        if self.unfinished_len() > 0 { self.bytes.pop_back() } else { None }
    }

    pub(super) fn drop_unfinished(&mut self) {
        self.bytes.truncate(self.finished as usize);
    }

    /// How many bytes reads of the finished lines will return: their ends of file return none.
    pub(super) fn line_bytes(&self) -> u32 {
        let mut at = 0;
        let mut ends_of_file = 0;
        for length in &self.lines {
            at += length;
            ends_of_file += u32::from(self.bytes.get(at as usize - 1) == Some(&END_OF_FILE));
        }
        self.finished - ends_of_file
    }

    /// Takes at most `max_bytes` of the first finished line. Its end of file is taken along with the last
    /// byte before it, so that it is not seen a second time; an empty answer is an end of file.
    pub(super) fn take_line(&mut self, max_bytes: u32) -> Option<Vec<u8>> {
        let length = *self.lines.front()?;
        let ends_file = self.bytes.get(length as usize - 1) == Some(&END_OF_FILE);
        let content = length - u32::from(ends_file);
        let count = content.min(max_bytes);
        let bytes: Vec<u8> = self.bytes.drain(..count as usize).collect();
        let mut taken = count;
        if count == content && ends_file {
            self.bytes.pop_front();
            taken += 1;
        }
        self.finished -= taken;
        self.lines.pop_front();
        if taken < length {
            self.lines.push_front(length - taken);
        }
        Some(bytes)
    }

    /// Takes at most `max_bytes`, where lines do not matter.
    pub(super) fn take_bytes(&mut self, max_bytes: u32) -> Vec<u8> {
        let count = self.len().min(max_bytes);
        self.bytes.drain(..count as usize).collect()
    }

    /// Forgets where lines end; going into canonical mode, what is there becomes one finished line.
    pub(super) fn reframe(&mut self, canonical: bool) {
        self.lines.clear();
        self.finished = 0;
        if canonical {
            self.finish_all();
        }
    }

    pub(super) fn clear(&mut self) {
        *self = InputBuffer::default();
    }
}
