//! Which pages of the arena are free.
//!
//! The arena holds the bytes of files and pipes; this server only keeps the books, and the kernel moves the bytes.
//! The first pages stay zero for ever: holes are read from there.

use alloc::{collections::BTreeMap, vec::Vec};
use libipc::abi::Frame;
use serde::{Deserialize, Serialize};

/// Bytes in a page of the arena.
pub const PAGE: u64 = 4096;
/// Most bytes that one effect moves.
pub const WINDOW: u64 = 65536;
/// Pages at the start of the arena that are never given out and always zero.
const ZERO_PAGES: u32 = (WINDOW / PAGE) as u32;
/// Most pages kept back from files, so that pipes work while files fill the arena.
const RESERVE_MAX: u32 = 256;

/// A page of the arena by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Page(u32);

impl Page {
    /// Its frame, in an arena that begins at this one.
    pub fn frame(self, first: Frame) -> Frame {
        Frame(first.0 + self.0)
    }

    /// Where it begins in the arena.
    pub fn offset(self) -> u64 {
        u64::from(self.0) * PAGE
    }
}

/// A run of bytes in the arena.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Where it begins.
    pub offset: u64,
    /// How long it is.
    pub length: u64,
}

impl Span {
    /// All of the pages that stay zero: what is read from a hole, [`WINDOW`] bytes at a time.
    pub const ZEROES: Span = Span { offset: 0, length: WINDOW };
}

/// Appends a span to a list, as part of the last one where they touch.
pub fn join(spans: &mut Vec<Span>, span: Span) {
    match spans.last_mut() {
        Some(last) if last.offset + last.length == span.offset && last.offset >= WINDOW => {
            last.length += span.length;
        }
        _ => spans.push(span),
    }
}

/// What a page is wanted for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Use {
    /// A file: some pages stay out of its reach.
    File,
    /// A pipe.
    Pipe,
}

/// The free pages, as runs. Pages are taken behind the last one taken, so that what was just given back lies idle
/// longest and files written in one go lie in one piece.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Arena {
    /// First page and length of each free run; no two of them touch.
    free: BTreeMap<u32, u32>,
    free_pages: u32,
    total_pages: u32,
    cursor: u32,
    /// Pages that are given back but may still be shown to programs.
    retired: Vec<Page>,
}

impl Arena {
    /// An arena of so many bytes, all free but for the zero pages.
    pub fn new(bytes: u64) -> Arena {
        let pages = u32::try_from(bytes / PAGE).unwrap_or(u32::MAX);
        let total_pages = pages.saturating_sub(ZERO_PAGES);
        let mut free = BTreeMap::new();
        if total_pages > 0 {
            free.insert(ZERO_PAGES, total_pages);
        }
        Arena { free, free_pages: total_pages, total_pages, cursor: ZERO_PAGES, retired: Vec::new() }
    }

    /// Pages that can be given out at all.
    pub fn total(&self) -> u64 {
        u64::from(self.total_pages)
    }

    /// Pages free for this use.
    pub fn available(&self, purpose: Use) -> u64 {
        let reserve = match purpose {
            Use::File => RESERVE_MAX.min(self.total_pages / 8),
            Use::Pipe => 0,
        };
        u64::from(self.free_pages.saturating_sub(reserve))
    }

    /// Takes a page, whose contents are whatever they were.
    pub fn take(&mut self, purpose: Use) -> Option<Page> {
        if self.available(purpose) == 0 {
            return None;
        }
        let (start, length, page) = self.next_free()?;
        self.free.remove(&start);
        if page > start {
            self.free.insert(start, page - start);
        }
        if page + 1 < start + length {
            self.free.insert(page + 1, start + length - page - 1);
        }
        self.free_pages -= 1;
        self.cursor = page + 1;
        Some(Page(page))
    }

    /// The run to take from, and the page in it: the first free one at or behind the cursor, else the first of all.
    fn next_free(&self) -> Option<(u32, u32, u32)> {
        let around = self.free.range(..=self.cursor).next_back();
        if let Some((start, length)) = around
            && self.cursor < start + length
        {
            return Some((*start, *length, self.cursor));
        }
        let (start, length) = self.free.range(self.cursor..).next().or_else(|| self.free.iter().next())?;
        Some((*start, *length, *start))
    }

    /// Gives a page back that vm may still show to programs.
    pub fn retire(&mut self, page: Page) {
        self.retired.push(page);
    }

    /// The pages retired since the last time: to be given back when vm has let go of them.
    pub fn retired(&mut self) -> Vec<Page> {
        core::mem::take(&mut self.retired)
    }

    /// Gives a page back.
    pub fn give_back(&mut self, page: Page) {
        let (mut start, mut length) = (page.0, 1);
        if let Some((before, run)) = self.free.range(..start).next_back().map(|(at, run)| (*at, *run))
            && before + run == start
        {
            self.free.remove(&before);
            (start, length) = (before, run + 1);
        }
        if let Some(run) = self.free.remove(&(page.0 + 1)) {
            length += run;
        }
        self.free.insert(start, length);
        self.free_pages += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGES: u64 = 64;

    fn arena() -> Arena {
        Arena::new((PAGES + u64::from(ZERO_PAGES)) * PAGE)
    }

    #[test]
    fn every_page_is_given_out_once_and_never_a_zero_page() {
        let mut arena = arena();
        let mut taken: Vec<u64> =
            core::iter::from_fn(|| arena.take(Use::Pipe)).map(|page| page.offset()).collect();
        taken.sort_unstable();
        taken.dedup();
        assert_eq!(taken.len() as u64, PAGES);
        assert!(taken.iter().all(|offset| *offset >= WINDOW));
    }

    #[test]
    fn files_leave_pages_for_pipes() {
        let mut arena = arena();
        while arena.take(Use::File).is_some() {}
        assert_eq!(arena.available(Use::Pipe), PAGES / 8);
        assert!(arena.take(Use::Pipe).is_some());
    }

    #[test]
    fn a_page_given_back_is_the_last_to_be_taken_again() {
        let mut arena = arena();
        let first = arena.take(Use::Pipe).expect("a page");
        arena.give_back(first);
        for _ in 1..PAGES {
            assert_ne!(arena.take(Use::Pipe), Some(first));
        }
        assert_eq!(arena.take(Use::Pipe), Some(first));
    }

    #[test]
    fn runs_grow_together_again() {
        let mut arena = arena();
        let pages: Vec<Page> = core::iter::from_fn(|| arena.take(Use::Pipe)).collect();
        for page in pages.iter().step_by(2).chain(pages.iter().skip(1).step_by(2)) {
            arena.give_back(*page);
        }
        assert_eq!(arena.free.len(), 1);
        assert_eq!(arena.available(Use::Pipe), PAGES);
    }
}
