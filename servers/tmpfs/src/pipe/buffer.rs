//! The bytes in a pipe. Small writes are kept here in the state, where they cost the fewest steps; larger ones lie in
//! pages of the arena, between the writer's copy and the reader's.

use alloc::{collections::VecDeque, vec::Vec};
use serde::{Deserialize, Serialize};

use crate::arena::{Arena, PAGE, Page, Span, Use, join};

/// Bytes a pipe holds at first.
pub const CAPACITY: u64 = 65536;
/// Most bytes that are kept in the state for one write.
pub const INLINE_MAX: u64 = 512;
/// Most bytes of one piece in the state: small writes are collected up to here.
const PIECE_MAX: u64 = 4096;

/// A piece of the queue.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Piece {
    /// Bytes, the first `taken` of which are read already.
    Inline { bytes: Vec<u8>, taken: u64 },
    /// The bytes from `start` to before `end` of a page.
    Paged { page: Page, start: u64, end: u64 },
}

impl Piece {
    fn length(&self) -> u64 {
        match self {
            Piece::Inline { bytes, taken } => bytes.len() as u64 - taken,
            Piece::Paged { start, end, .. } => end - start,
        }
    }
}

/// Bytes taken out of a pipe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// These.
    Bytes(Vec<u8>),
    /// Those in a span of the arena.
    Span(Span),
}

/// Where bytes put into a pipe have to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Put {
    /// Nowhere: they are in the state.
    Kept,
    /// Into the arena, with an effect.
    Write(u64, Vec<u8>),
}

/// A bounded queue of bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Buffer {
    pieces: VecDeque<Piece>,
    length: u64,
    capacity: u64,
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer { pieces: VecDeque::new(), length: 0, capacity: CAPACITY }
    }
}

impl Buffer {
    /// Bytes in it.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes it may hold.
    pub fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Changes how many bytes it may hold; false when there are more in it.
    pub fn set_capacity(&mut self, capacity: u64) -> bool {
        let fits = capacity >= self.length;
        if fits {
            self.capacity = capacity;
        }
        fits
    }

    /// Bytes that still fit.
    pub fn room(&self) -> u64 {
        self.capacity - self.length
    }

    /// Takes bytes off the front, at most `length`. Pages read to their end are given back: what is in them stays as
    /// it is until the effects of this step are carried out.
    pub fn take(&mut self, length: u64, arena: &mut Arena) -> Vec<Taken> {
        let mut taken = Vec::new();
        let mut left = length;
        while left > 0 {
            let Some(piece) = self.pieces.pop_front() else { break };
            let length = piece.length();
            let part = left.min(length);
            self.take_part(piece, part, &mut taken, arena);
            left -= part;
            self.length -= part;
        }
        taken
    }

    /// The first `length` bytes, which stay.
    pub fn peek(&self, length: u64) -> Vec<Taken> {
        let mut seen = Vec::new();
        let mut left = length;
        for piece in &self.pieces {
            let part = left.min(piece.length());
            if part == 0 {
                break;
            }
            match piece {
                Piece::Inline { bytes, taken } => {
                    let from = bytes.iter().skip(*taken as usize).take(part as usize);
                    seen.push(Taken::Bytes(from.copied().collect()));
                }
                Piece::Paged { page, start, .. } => {
                    join_taken(&mut seen, Span { offset: page.offset() + start, length: part });
                }
            }
            left -= part;
        }
        seen
    }

    fn take_part(&mut self, piece: Piece, part: u64, taken: &mut Vec<Taken>, arena: &mut Arena) {
        let whole = part == piece.length();
        match piece {
            Piece::Inline { bytes, taken: 0 } if whole => taken.push(Taken::Bytes(bytes)),
            Piece::Inline { bytes, taken: before } => {
                let from = bytes.iter().skip(before as usize).take(part as usize);
                taken.push(Taken::Bytes(from.copied().collect()));
                if !whole {
                    self.pieces.push_front(Piece::Inline { bytes, taken: before + part });
                }
            }
            Piece::Paged { page, start, end } => {
                join_taken(taken, Span { offset: page.offset() + start, length: part });
                if whole {
                    arena.give_back(page);
                } else {
                    self.pieces.push_front(Piece::Paged { page, start: start + part, end });
                }
            }
        }
    }

    /// Appends bytes that fit.
    pub fn put_bytes(&mut self, bytes: Vec<u8>) -> Put {
        let length = bytes.len() as u64;
        self.length += length;
        match self.pieces.back_mut() {
            Some(Piece::Paged { page, end, .. }) if PAGE - *end >= length => {
                let offset = page.offset() + *end;
                *end += length;
                Put::Write(offset, bytes)
            }
            Some(Piece::Inline { bytes: last, .. }) if last.len() as u64 + length <= PIECE_MAX => {
                last.extend(bytes);
                Put::Kept
            }
            _ => {
                self.pieces.push_back(Piece::Inline { bytes, taken: 0 });
                Put::Kept
            }
        }
    }

    /// Appends `length` bytes that fit and tells where in the arena they are to be copied; fewer when it is full.
    pub fn put_pages(&mut self, length: u64, arena: &mut Arena) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut left = length;
        while left > 0 {
            let (page, end) = match self.pieces.back_mut() {
                Some(Piece::Paged { page, end, .. }) if *end < PAGE => (*page, end),
                _ => {
                    let Some(page) = arena.take(Use::Pipe) else { break };
                    self.pieces.push_back(Piece::Paged { page, start: 0, end: 0 });
                    continue;
                }
            };
            let part = left.min(PAGE - *end);
            join(&mut spans, Span { offset: page.offset() + *end, length: part });
            *end += part;
            left -= part;
            self.length += part;
        }
        spans
    }

    /// Empties it.
    pub fn release(&mut self, arena: &mut Arena) {
        for piece in core::mem::take(&mut self.pieces) {
            if let Piece::Paged { page, .. } = piece {
                arena.give_back(page);
            }
        }
        self.length = 0;
    }
}

fn join_taken(taken: &mut Vec<Taken>, span: Span) {
    match taken.last_mut() {
        Some(Taken::Span(last)) if last.offset + last.length == span.offset => last.length += span.length,
        _ => taken.push(Taken::Span(span)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> Arena {
        Arena::new(1 << 20)
    }

    #[test]
    fn small_writes_are_collected_and_need_no_page() {
        let (mut arena, mut buffer) = (arena(), Buffer::default());
        let pages = arena.available(Use::Pipe);
        assert_eq!(buffer.put_bytes(b"ab".to_vec()), Put::Kept);
        assert_eq!(buffer.put_bytes(b"cd".to_vec()), Put::Kept);
        assert_eq!(buffer.take(3, &mut arena), [Taken::Bytes(b"abc".to_vec())]);
        assert_eq!(buffer.take(9, &mut arena), [Taken::Bytes(b"d".to_vec())]);
        assert_eq!((buffer.length(), arena.available(Use::Pipe)), (0, pages));
    }

    #[test]
    fn a_page_is_filled_before_the_next_one_is_taken() {
        let (mut arena, mut buffer) = (arena(), Buffer::default());
        let pages = arena.available(Use::Pipe);
        for _ in 0..8 {
            let _ = buffer.put_pages(PAGE / 4, &mut arena);
        }
        assert_eq!(arena.available(Use::Pipe), pages - 2);
        assert!(matches!(buffer.put_bytes(b"x".to_vec()), Put::Kept));
    }

    #[test]
    fn a_small_write_behind_a_started_page_goes_into_it() {
        let (mut arena, mut buffer) = (arena(), Buffer::default());
        let spans = buffer.put_pages(1000, &mut arena);
        let Put::Write(offset, bytes) = buffer.put_bytes(b"xyz".to_vec()) else { panic!("kept") };
        assert_eq!((offset, bytes.as_slice()), (spans[0].offset + 1000, b"xyz".as_slice()));
        let whole = Span { offset: spans[0].offset, length: 1003 };
        assert_eq!(buffer.take(5000, &mut arena), [Taken::Span(whole)]);
    }

    #[test]
    fn peeking_shows_what_taking_takes() {
        let (mut arena, mut buffer) = (arena(), Buffer::default());
        let _ = buffer.put_bytes(b"abcd".to_vec());
        let _ = buffer.take(1, &mut arena);
        let _ = buffer.put_pages(PAGE + 10, &mut arena);
        for length in [2, 3, 50, PAGE + 13] {
            assert_eq!(
                buffer.peek(length),
                buffer.clone().take(length, &mut arena.clone()),
                "{length} bytes"
            );
        }
        assert_eq!(buffer.length(), PAGE + 13);
    }

    #[test]
    fn pages_come_back_when_they_are_read_or_the_pipe_goes() {
        let (mut arena, mut buffer) = (arena(), Buffer::default());
        let pages = arena.available(Use::Pipe);
        let _ = buffer.put_pages(CAPACITY, &mut arena);
        assert_eq!(buffer.room(), 0);
        let _ = buffer.take(PAGE + 1, &mut arena);
        assert_eq!(arena.available(Use::Pipe), pages - CAPACITY / PAGE + 1);
        buffer.release(&mut arena);
        assert_eq!(arena.available(Use::Pipe), pages);
    }
}
