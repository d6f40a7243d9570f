//! Objects: what can be mapped and holds pages of its own. Files, whose pages are a cache of what their server has,
//! and anonymous memory that several spaces share, whose pages are all there is of it.
//!
//! A page here is one holder of its frame, each space that maps it another. A file's session is kept as long as a
//! space maps the file; its pages stay longer, under the file's identity, until frames are short. Pages that were
//! copied from their server are never dirty: only files whose server lends its own can be opened for writing.
//!
//! Who maps what follows from the regions of the spaces, and which object is a file's from the objects. Neither is
//! saved; a restored state makes both again.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem::take;
use core::ops::Range;

use libipc::abi::{Frame, Handle};
use libipc::server::{Effects, Operation, Rows, Table};
use serde::{Deserialize, Serialize};

use crate::extents::{self, Follow};
use crate::frames::Frames;

/// The mapper that is no space: it keeps an object for as long as the system runs.
pub const SYSTEM: u64 = 0;
/// For how long the word of a file server that a page lies beyond the end of its file holds for the thread that
/// asked.
const ABSENT_NS: u64 = 1_000_000_000;

/// A file's identity: its server's number, and what that server calls it.
pub type FileId = (u64, u64);

/// A page that an object holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cached {
    /// Its frame.
    pub frame: Frame,
    /// Mapped since the clock hand last came by.
    pub used: bool,
}

impl Follow for Cached {
    fn after(self, distance: u64) -> Cached {
        Cached { frame: self.frame.after(distance), ..self }
    }
}

/// Something that can be mapped.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Object {
    /// The file; none for anonymous memory.
    pub file: Option<FileId>,
    /// The session by which its pages are asked for; none while nobody maps the file.
    pub session: Option<Handle>,
    /// The session was opened to run the file: while it is kept nobody may write it.
    runs: bool,
    /// Another session that was, when the first was not.
    pub running: Option<Handle>,
    /// What is in memory, by page.
    #[serde(with = "extents")]
    pub pages: BTreeMap<u64, Cached>,
    /// Its pages lie in its server's memory, where stores are seen at once. They are nobody's to hold: they go with
    /// the last mapping.
    pub lent: bool,
    /// Pages that were asked for and lie beyond the file's end, and when that was said.
    absent: BTreeMap<u64, u64>,
}

impl Object {
    /// Whether its pages are copies of what its server has, and could be given up.
    pub fn is_cache(&self) -> bool {
        self.file.is_some() && !self.lent
    }

    /// Adds a page; the object becomes the frame's one holder.
    pub fn add_page(&mut self, page: u64, frame: Frame) {
        self.pages.insert(page, Cached { frame, used: true });
        self.absent.remove(&page);
    }

    /// How many pages from `page` on, at most `most`, are not here.
    pub fn missing_from(&self, page: u64, most: u64) -> u64 {
        self.pages.range(page..page + most).next().map_or(most, |(next, _)| next - page)
    }

    /// Remembers that a page was asked for and lies beyond the file's end.
    pub fn note_absent(&mut self, page: u64, now: u64) {
        self.absent.insert(page, now);
    }

    /// Whether the file server has just said that this page lies beyond the file's end. The word is good for one
    /// fault: the file may grow, so the next one asks again.
    pub fn take_absent(&mut self, page: u64, now: u64) -> bool {
        self.absent.remove(&page).is_some_and(|said| now <= said + ABSENT_NS)
    }
}

/// All objects.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Objects {
    list: Rows<u64, Object>,
    #[serde(skip)]
    by_file: BTreeMap<FileId, u64>,
    /// How many pages of address space are spent on an object by a space.
    #[serde(skip)]
    mappers: BTreeMap<(u64, u64), u64>,
    last: u64,
    /// Where the clock hand stands: object and page.
    hand: (u64, u64),
}

impl Objects {
    /// The object of this number.
    pub fn get(&self, number: u64) -> Option<&Object> {
        self.list.get(&number)
    }

    /// The object of this number.
    pub fn get_mut(&mut self, number: u64) -> Option<&mut Object> {
        self.list.get_mut(&number)
    }

    /// The objects as the snapshot has them.
    pub fn table(&mut self) -> &mut dyn Table {
        &mut self.list
    }

    /// Makes again what follows from the objects, and from what the spaces map: object, space and pages.
    pub fn restored(&mut self, mapped: impl Iterator<Item = (u64, u64, u64)>) {
        let files = self.list.iter().filter_map(|(number, object)| Some((object.file?, *number)));
        self.by_file = files.collect();
        self.mappers.clear();
        for (number, space, pages) in mapped {
            self.attach(number, space, pages);
        }
    }

    /// The spaces that map an object, and how many pages of address space each spends on it.
    pub fn mappers(&self, number: u64) -> impl Iterator<Item = (u64, u64)> {
        self.mappers.range((number, 0)..=(number, u64::MAX)).map(|((_, space), pages)| (*space, *pages))
    }

    /// Whether nobody maps an object.
    fn is_unmapped(&self, number: u64) -> bool {
        self.mappers(number).next().is_none()
    }

    /// The frame of a page, which is about to be mapped.
    pub fn use_page(&mut self, number: u64, page: u64) -> Option<Frame> {
        let mut found = None;
        self.use_pages(number, page..page.checked_add(1)?, |_, frame| {
            found = Some(frame);
            true
        });
        found
    }

    /// Shows the pages in a range that are in memory, of which some are about to be mapped.
    pub fn use_pages(&mut self, number: u64, pages: Range<u64>, mut maps: impl FnMut(u64, Frame) -> bool) {
        let Some(object) = self.list.get(&number) else { return };
        let mut unused = Vec::new();
        for (page, cached) in object.pages.range(pages) {
            if maps(*page, cached.frame) && !cached.used {
                unused.push(*page);
            }
        }
        // Most were used before, and what does not change need not be saved again.
        if let Some(object) = self.list.get_mut(&number).filter(|_| !unused.is_empty()) {
            for page in unused {
                object.pages.entry(page).and_modify(|cached| cached.used = true);
            }
        }
    }

    /// The object of a file that is in the cache.
    pub fn of_file(&self, file: FileId) -> Option<u64> {
        self.by_file.get(&file).copied()
    }

    /// File pages in the cache.
    pub fn cached(&self) -> u64 {
        self.list.values().filter(|object| object.is_cache()).map(|object| object.pages.len() as u64).sum()
    }

    /// The object of a file that is about to be mapped. The session becomes the object's, or is closed when it has
    /// one; it has a second one when it is mapped to be run.
    pub fn open(&mut self, file: FileId, session: Handle, runs: bool, effects: &mut Effects) -> u64 {
        let number = match self.by_file.get(&file) {
            Some(number) => *number,
            None => self.add(Some(file)),
        };
        if let Some(object) = self.list.get_mut(&number) {
            if object.session.is_none() {
                (object.session, object.runs) = (Some(session), runs);
            } else if runs && !object.runs && object.running.is_none() {
                object.running = Some(session);
            } else {
                effects.act(Operation::Close { handle: session });
            }
        }
        number
    }

    /// Anonymous memory to be shared.
    pub fn open_anonymous(&mut self) -> u64 {
        self.add(None)
    }

    fn add(&mut self, file: Option<FileId>) -> u64 {
        self.last += 1;
        let object = Object {
            file,
            session: None,
            runs: false,
            running: None,
            pages: BTreeMap::new(),
            lent: false,
            absent: BTreeMap::new(),
        };
        self.list.insert(self.last, object);
        if let Some(file) = file {
            self.by_file.insert(file, self.last);
        }
        self.last
    }

    /// A space spends so many more pages on an object.
    pub fn attach(&mut self, number: u64, space: u64, pages: u64) {
        if self.list.contains_key(&number) {
            *self.mappers.entry((number, space)).or_default() += pages;
        }
    }

    /// A space spends so many pages fewer on an object. When nobody maps it any more, anonymous memory is gone, and a
    /// file's session is closed.
    pub fn detach(
        &mut self,
        number: u64,
        space: u64,
        pages: u64,
        frames: &mut Frames,
        effects: &mut Effects,
    ) {
        let Some(spent) = self.mappers.get_mut(&(number, space)) else { return };
        *spent = spent.saturating_sub(pages);
        if *spent > 0 {
            return;
        }
        self.mappers.remove(&(number, space));
        if !self.is_unmapped(number) {
            return;
        }
        let Some(object) = self.list.get_mut(&number) else { return };
        for session in [object.session.take(), object.running.take()].into_iter().flatten() {
            effects.act(Operation::Close { handle: session });
        }
        if object.file.is_none() || object.lent {
            for cached in take(&mut object.pages).into_values() {
                frames.release(cached.frame);
            }
        }
        self.forget_if_idle(number);
    }

    /// Takes a page out of the cache and returns its frame, of which the caller is now the holder.
    pub fn remove_page(&mut self, number: u64, page: u64) -> Option<Frame> {
        let cached = self.list.get_mut(&number)?.pages.remove(&page)?;
        self.forget_if_idle(number);
        Some(cached.frame)
    }

    fn forget_if_idle(&mut self, number: u64) {
        let empty = self.list.get(&number).is_some_and(|object| object.pages.is_empty());
        if empty
            && self.is_unmapped(number)
            && let Some(object) = self.list.remove(&number)
            && let Some(file) = object.file
        {
            self.by_file.remove(&file);
        }
    }

    /// Moves the clock hand to the next file page and returns it: object, page, and whether it was used since the
    /// hand last came by. `None` when no file page is in memory.
    pub fn advance_hand(&mut self) -> Option<(u64, u64, bool)> {
        let (object, page) = self.hand;
        let found = self.file_page_after(object, page).or_else(|| self.file_page_after(0, 0))?;
        self.hand = (found.0, found.1 + 1);
        let used = self.list.get(&found.0)?.pages.get(&found.1)?.used;
        if used {
            self.list.get_mut(&found.0)?.pages.get_mut(&found.1)?.used = false;
        }
        Some((found.0, found.1, used))
    }

    /// The first file page at or after a place.
    fn file_page_after(&self, object: u64, page: u64) -> Option<(u64, u64)> {
        self.list.from(object).filter(|(_, candidate)| candidate.is_cache()).find_map(
            |(number, candidate)| {
                let from = if *number == object { page } else { 0 };
                candidate.pages.range(from..).next().map(|(page, _)| (*number, *page))
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use libipc::server::Effect;

    use super::*;

    const FILE: FileId = (4, 77);

    fn closed(effects: &Effects) -> usize {
        effects.list.iter().filter(|effect| matches!(effect, Effect::Do(Operation::Close { .. }))).count()
    }

    #[test]
    fn a_file_keeps_its_pages_but_not_its_session_when_nobody_maps_it() {
        let mut frames = Frames::new(&[(Frame(0), 4)]);
        let (mut objects, mut effects) = (Objects::default(), Effects::none());
        let number = objects.open(FILE, Handle(60), false, &mut effects);
        objects.attach(number, 1, 10);
        objects.get_mut(number).unwrap().add_page(3, frames.take().unwrap());
        objects.detach(number, 1, 4, &mut frames, &mut effects);
        assert_eq!(closed(&effects), 0);
        objects.detach(number, 1, 6, &mut frames, &mut effects);
        assert_eq!((closed(&effects), objects.cached()), (1, 1));
        assert_eq!(objects.open(FILE, Handle(61), false, &mut effects), number);
        assert_eq!(objects.get(number).unwrap().session, Some(Handle(61)));
    }

    #[test]
    fn a_second_session_of_a_mapped_file_is_closed_at_once() {
        let (mut objects, mut effects) = (Objects::default(), Effects::none());
        let number = objects.open(FILE, Handle(60), false, &mut effects);
        objects.attach(number, 1, 1);
        objects.open(FILE, Handle(61), false, &mut effects);
        assert_eq!(effects.list, [Effect::Do(Operation::Close { handle: Handle(61) })]);
    }

    #[test]
    fn shared_anonymous_memory_ends_with_its_last_mapper() {
        let mut frames = Frames::new(&[(Frame(0), 4)]);
        let (mut objects, mut effects) = (Objects::default(), Effects::none());
        let number = objects.open_anonymous();
        objects.attach(number, 1, 1);
        objects.attach(number, 2, 1);
        objects.get_mut(number).unwrap().add_page(0, frames.take().unwrap());
        objects.detach(number, 1, 1, &mut frames, &mut effects);
        assert_eq!(frames.free(), 3);
        objects.detach(number, 2, 1, &mut frames, &mut effects);
        assert!(frames.free() == 4 && objects.get(number).is_none());
    }

    #[test]
    fn a_page_beyond_the_end_is_absent_for_one_fault_and_not_for_long() {
        let mut objects = Objects::default();
        let number = objects.open(FILE, Handle(60), false, &mut Effects::none());
        let object = objects.get_mut(number).unwrap();
        object.note_absent(9, 100);
        assert!(object.take_absent(9, 200) && !object.take_absent(9, 200));
        object.note_absent(9, 100);
        assert!(!object.take_absent(9, 101 + ABSENT_NS));
    }

    #[test]
    fn the_clock_hand_visits_every_file_page_and_no_other() {
        let (mut objects, mut effects) = (Objects::default(), Effects::none());
        let shared = objects.open_anonymous();
        let first = objects.open(FILE, Handle(60), false, &mut effects);
        let second = objects.open((4, 78), Handle(61), false, &mut effects);
        for (number, page) in [(shared, 0), (first, 2), (first, 5), (second, 0)] {
            objects.get_mut(number).unwrap().add_page(page, Frame(page as u32));
        }
        let mut visit = || objects.advance_hand().unwrap();
        assert_eq!([visit(), visit(), visit()], [(first, 2, true), (first, 5, true), (second, 0, true)]);
        assert_eq!([visit(), visit()], [(first, 2, false), (first, 5, false)]);
    }
}
