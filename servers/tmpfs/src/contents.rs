//! The contents of a regular file: its size and the arena pages that hold it.
//!
//! Pages that are missing are holes and read as zeroes. What lies behind the size in an allotted page is zero too, so
//! that a file can grow without touching anything. Nothing here moves bytes: the functions tell which spans of the
//! arena to copy and which to clear.

use alloc::{
    collections::{BTreeMap, btree_map::Entry},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

use libipc::linux::errno::ENOSPC;

use crate::arena::{Arena, PAGE, Page, Span, Use, join};

/// The largest size a file can have.
pub const SIZE_MAX: u64 = i64::MAX as u64;

/// Size and pages of a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Contents {
    size: u64,
    pages: BTreeMap<u64, Page>,
    /// vm may show its pages to programs: one that is taken away is out of use until vm has let go of it.
    pub lent: bool,
}

/// Room made for a write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Room {
    /// Where the bytes go, in order.
    pub spans: Vec<Span>,
    /// What of the new pages they do not cover and must be cleared first.
    pub clear: Vec<Span>,
    /// How many bytes there is room for; fewer than asked when the arena is full.
    pub length: u64,
}

impl Contents {
    /// Bytes in the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Pages it occupies.
    pub fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    /// Where `length` bytes from `offset` on lie, as far as the file goes.
    pub fn read(&self, offset: u64, length: u64) -> Vec<Span> {
        let end = self.size.min(offset.saturating_add(length));
        let mut spans = Vec::new();
        let mut at = offset;
        while at < end {
            let index = at / PAGE;
            if let Some(page) = self.pages.get(&index) {
                let length = ((index + 1) * PAGE).min(end) - at;
                join(&mut spans, Span { offset: page.offset() + at % PAGE, length });
                at += length;
                continue;
            }
            let next = self.pages.range(index..).next().map_or(end, |(next, _)| (next * PAGE).min(end));
            let length = (next - at).min(Span::ZEROES.length);
            spans.push(Span { length, ..Span::ZEROES });
            at += length;
        }
        spans
    }

    /// Makes room for `length` bytes at `offset`, as far as the arena goes, and moves the end of the file behind
    /// them.
    pub fn write(&mut self, offset: u64, length: u64, arena: &mut Arena) -> Room {
        let mut room = Room::default();
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let index = at / PAGE;
            let within = at % PAGE;
            let length = (PAGE - within).min(end - at);
            let page = match self.pages.get(&index) {
                Some(page) => *page,
                None => {
                    let Some(page) = arena.take(Use::File) else { break };
                    self.pages.insert(index, page);
                    clear_around(&mut room.clear, page, within, length);
                    page
                }
            };
            join(&mut room.spans, Span { offset: page.offset() + within, length });
            at += length;
        }
        room.length = at - offset;
        if room.length > 0 {
            self.size = self.size.max(at);
        }
        room
    }

    /// Sets the size. What is beyond it is gone: its pages are given back, and the answer is what to clear.
    pub fn resize(&mut self, size: u64, arena: &mut Arena) -> Vec<Span> {
        let clear = if size < self.size { self.punch(size, SIZE_MAX, arena) } else { Vec::new() };
        self.size = size;
        clear
    }

    /// Makes a hole from `start` to before `end`. The answer is what to clear in pages that are kept.
    pub fn punch(&mut self, start: u64, end: u64, arena: &mut Arena) -> Vec<Span> {
        let mut clear = Vec::new();
        let whole = start.div_ceil(PAGE)..(end / PAGE).max(start.div_ceil(PAGE));
        let gone: Vec<u64> = self.pages.range(whole).map(|(index, _)| *index).collect();
        for index in gone {
            if let Some(page) = self.pages.remove(&index) {
                if self.lent { arena.retire(page) } else { arena.give_back(page) }
            }
        }
        let edges = [start / PAGE, end / PAGE];
        let edges = if edges[0] == edges[1] { &edges[..1] } else { &edges[..] };
        for index in edges {
            if let Some(page) = self.pages.get(index) {
                let from = start.max(index * PAGE) - index * PAGE;
                let to = end.min((index + 1) * PAGE) - index * PAGE;
                if from < to {
                    clear.push(Span { offset: page.offset() + from, length: to - from });
                }
            }
        }
        clear
    }

    /// Allots all pages from `start` to before `end`, all zero, or none when the arena has too few. The answer is
    /// what to clear.
    pub fn allot(&mut self, start: u64, end: u64, arena: &mut Arena) -> Option<Vec<Span>> {
        let range = start / PAGE..end.div_ceil(PAGE);
        let missing = range.end - range.start - self.pages.range(range.clone()).count() as u64;
        if missing > arena.available(Use::File) {
            return None;
        }
        let mut clear = Vec::new();
        for index in range {
            if let Entry::Vacant(vacant) = self.pages.entry(index) {
                let page = arena.take(Use::File)?;
                vacant.insert(page);
                join(&mut clear, Span { offset: page.offset(), length: PAGE });
            }
        }
        Some(clear)
    }

    /// The page of index `first` and those that follow it without a hole, at most so many, to be shown to programs.
    /// Where the first is a hole it gets a page, which is to be cleared. None beyond the end of the file, an error
    /// when the arena is full.
    pub fn lend(&mut self, first: u64, most: u64, arena: &mut Arena) -> Result<(Vec<Page>, Vec<Span>), i32> {
        let end = self.size.div_ceil(PAGE).min(first.saturating_add(most));
        let mut clear = Vec::new();
        if first >= end {
            return Ok((Vec::new(), clear));
        }
        if let Entry::Vacant(vacant) = self.pages.entry(first) {
            let page = arena.take(Use::File).ok_or(ENOSPC)?;
            vacant.insert(page);
            clear.push(Span { offset: page.offset(), length: PAGE });
        }
        self.lent = true;
        let row = self.pages.range(first..end).zip(first..).take_while(|((index, _), next)| *index == next);
        Ok((row.map(|((_, page), _)| *page).collect(), clear))
    }

    /// Moves the end of the file forward, if it is before `size`.
    pub fn grow(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    /// The first byte at or behind `offset` that is no hole, if there is one before the end.
    pub fn next_data(&self, offset: u64) -> Option<u64> {
        let (index, _) = self.pages.range(offset / PAGE..).next()?;
        Some(offset.max(index * PAGE)).filter(|at| *at < self.size)
    }

    /// The first byte at or behind `offset` that is in a hole; the end of the file counts as one.
    pub fn next_hole(&self, offset: u64) -> u64 {
        let mut index = offset / PAGE;
        for (present, _) in self.pages.range(index..) {
            if *present != index {
                break;
            }
            index += 1;
        }
        offset.max(index * PAGE).min(self.size)
    }

    /// Gives all pages back.
    pub fn release(&mut self, arena: &mut Arena) {
        for (_, page) in core::mem::take(&mut self.pages) {
            arena.give_back(page);
        }
        self.size = 0;
    }
}

fn clear_around(clear: &mut Vec<Span>, page: Page, within: u64, length: u64) {
    if within > 0 {
        clear.push(Span { offset: page.offset(), length: within });
    }
    let behind = within + length;
    if behind < PAGE {
        clear.push(Span { offset: page.offset() + behind, length: PAGE - behind });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arena() -> Arena {
        Arena::new(1 << 20)
    }

    #[test]
    fn a_write_past_the_end_leaves_a_hole_that_reads_as_zeroes() {
        let (mut arena, mut file) = (arena(), Contents::default());
        let room = file.write(3 * PAGE, 10, &mut arena);
        assert_eq!((room.length, file.size(), file.pages()), (10, 3 * PAGE + 10, 1));
        assert_eq!(file.read(0, PAGE), [Span { offset: 0, length: PAGE }]);
        assert_eq!(file.next_data(0), Some(3 * PAGE));
        assert_eq!(file.next_hole(3 * PAGE), 3 * PAGE + 10);
    }

    #[test]
    fn what_a_write_leaves_of_a_new_page_is_cleared() {
        let (mut arena, mut file) = (arena(), Contents::default());
        let room = file.write(100, 50, &mut arena);
        assert_eq!(room.clear.iter().map(|span| span.length).sum::<u64>(), PAGE - 50);
        assert!(file.write(120, 50, &mut arena).clear.is_empty());
    }

    #[test]
    fn pages_written_in_one_go_move_in_one_piece() {
        let (mut arena, mut file) = (arena(), Contents::default());
        assert_eq!(file.write(0, 8 * PAGE, &mut arena).spans.len(), 1);
        assert_eq!(file.read(0, 8 * PAGE).len(), 1);
    }

    #[test]
    fn shrinking_clears_the_tail_and_gives_pages_back() {
        let (mut arena, mut file) = (arena(), Contents::default());
        let before = arena.available(Use::File);
        let _ = file.write(0, 3 * PAGE, &mut arena);
        let clear = file.resize(PAGE + 1, &mut arena);
        assert_eq!(clear.iter().map(|span| span.length).sum::<u64>(), PAGE - 1);
        assert_eq!(file.pages(), 2);
        file.release(&mut arena);
        assert_eq!(arena.available(Use::File), before);
    }

    #[test]
    fn allotting_more_than_there_is_changes_nothing() {
        let (mut arena, mut file) = (arena(), Contents::default());
        assert_eq!(file.allot(0, SIZE_MAX, &mut arena), None);
        assert_eq!(file.pages(), 0);
        let clear = file.allot(10, 20, &mut arena).expect("room");
        assert_eq!(clear.iter().map(|span| span.length).sum::<u64>(), PAGE);
    }
}
