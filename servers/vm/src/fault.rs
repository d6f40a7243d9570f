//! What happens when a program touches a page that is not mapped, or not so.
//!
//! A fault is resolved from what is in memory: zeroes, a page of the cache, a copy of a page that others share. What
//! is not in memory is asked of the file's server, and the fault is taken again when it is. Neighbours that are
//! likely to be touched next are mapped along, so that walking through memory does not fault at every page. Nothing
//! here waits, and nothing here looks for free frames: the caller has made sure that there are some, if there can be.

use alloc::collections::btree_map::Entry;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use libipc::abi::{Frame, Handle, PAGE_SIZE, Protection};
use libipc::linux::errno::{EAGAIN, EIO, ENOMEM};
use libipc::linux::signal::{BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR, SI_KERNEL, SIGBUS, SIGKILL, SIGSEGV};
use libipc::server::effect::PageMap;
use libipc::server::{Effects, Operation};

use crate::region::{Backing, Purpose, Region};
use crate::runs::Runs;
use crate::space::{Heat, Memory, Page, Space, hardware, in_place};
use crate::tables::{address_of, floor, page_of};

/// Pages mapped, zeroed or asked for at a time, at most.
pub const AROUND: u64 = 16;
/// Frames that one fault may need: the pages at a time, and tables for one of them.
pub const FRAMES_NEEDED: u32 = AROUND as u32 + 8;

/// An access that faulted.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Where.
    pub address: u64,
    /// How.
    pub access: Protection,
    /// When.
    pub now: u64,
}

/// What became of a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The access may be tried again.
    Resolved,
    /// A file's server has to bring pages first.
    Fetch {
        /// The file's session.
        session: Handle,
        /// The object's number.
        object: u64,
        /// First page.
        page: u64,
        /// How many are wanted at most.
        count: u64,
    },
    /// The program gets a signal.
    Signal {
        /// Which.
        number: u8,
        /// Its si_code.
        code: i32,
    },
}

const NO_FRAMES: Outcome = Outcome::Signal { number: SIGKILL, code: SI_KERNEL };
const BEYOND_FILE: Outcome = Outcome::Signal { number: SIGBUS, code: BUS_ADRERR };

/// Resolves a fault as far as memory allows.
pub fn resolve(space: &mut Space, memory: &mut Memory, fault: &Fault, effects: &mut Effects) -> Outcome {
    if space.doomed {
        return NO_FRAMES;
    }
    let region = match space.regions.find(fault.address) {
        Some(region) => *region,
        None => match space.grow_stack(fault.address) {
            Some(region) => region,
            None => return Outcome::Signal { number: SIGSEGV, code: SEGV_MAPERR },
        },
    };
    if !region.permits(fault.access) {
        return Outcome::Signal { number: SIGSEGV, code: SEGV_ACCERR };
    }
    let number = page_of(fault.address);
    let mut site = Site { space, memory, region, fault, number, effects };
    if let Some(page) = site.space.pages.get(&number).copied() {
        return site.present(page);
    }
    match region.backing {
        Backing::Anonymous => site.zeroes(),
        Backing::Object { object, page, limit } => site.object_contents(object, page, limit),
    }
}

/// Writes bytes to a page as a tracer does, whom no protection keeps out: a private mapping has a page of its own from
/// then on.
///
/// # Errors
/// `EIO` where nothing is mapped or a shared mapping may not be written; `EAGAIN` when the page is not there now.
pub fn poke(
    space: &mut Space,
    memory: &mut Memory,
    address: u64,
    bytes: &[u8],
    effects: &mut Effects,
) -> Result<(), i32> {
    let (number, offset) = (page_of(address), (address % PAGE_SIZE) as u32);
    let region = *space.regions.find(address).ok_or(EIO)?;
    if region.shared && !region.permits(Protection::WRITE) {
        return Err(EIO);
    }
    let page = *space.pages.get(&number).ok_or(EAGAIN)?;
    let mut frame = page.frame;
    if !in_place(&region, frame, &memory.frames) {
        let access = region.protection.intersection(Protection::EXECUTE);
        let fault = Fault { address, access, now: 0 };
        let mut site = Site { space, memory, region, fault: &fault, number, effects };
        if site.copy_on_write(page) != Outcome::Resolved {
            return Err(ENOMEM);
        }
        frame = space.pages.get(&number).map_or(frame, |page| page.frame);
    }
    if !memory.frames.owns(frame) {
        return Err(EIO);
    }
    effects.act(Operation::FrameWrite { frame, offset, bytes: bytes.to_vec() });
    Ok(())
}

/// A permitted access to a page of a region, and all that may be changed to satisfy it.
struct Site<'a> {
    space: &'a mut Space,
    memory: &'a mut Memory,
    region: Region,
    fault: &'a Fault,
    number: u64,
    effects: &'a mut Effects,
}

impl Site<'_> {
    fn writes(&self) -> bool {
        self.fault.access.contains(Protection::WRITE)
    }

    fn hardware(&self, in_place: bool) -> Protection {
        hardware(&self.region, in_place, self.fault.access)
    }

    fn map(&mut self, list: Vec<PageMap>) -> Outcome {
        if self.space.map(list, &mut self.memory.frames, self.effects) {
            Outcome::Resolved
        } else {
            NO_FRAMES
        }
    }

    /// The pages around the fault that may be mapped along with it.
    fn around(&self) -> Range<u64> {
        let (block, region) = (self.number & !(AROUND - 1), self.region.pages());
        block.max(region.start)..(block + AROUND).min(region.end)
    }

    /// The page has contents: it is only not mapped, or not so.
    fn present(&mut self, page: Page) -> Outcome {
        let in_place = in_place(&self.region, page.frame, &self.memory.frames);
        if self.writes() && !in_place {
            return self.copy_on_write(page);
        }
        if page.mapped.is_empty() || page.mapped.contains(self.fault.access) {
            return self.map_present_around();
        }
        let hot = self.writes() && !self.region.shared;
        if let Some(page) = self.space.pages.get_mut(&self.number).filter(|_| hot) {
            page.heat.rise();
        }
        self.allow_around(self.hardware(in_place));
        Outcome::Resolved
    }

    /// Maps the faulting page, and others around it that are present but not mapped, as after a fork.
    fn map_present_around(&mut self) -> Outcome {
        let (region, frames) = (self.region, &self.memory.frames);
        let target =
            |page: &Page| hardware(&region, in_place(&region, page.frame, frames), self.fault.access);
        let wanted: Vec<(u64, Protection)> = self
            .space
            .pages
            .range(self.around())
            .filter(|(number, page)| **number == self.number || page.mapped.is_empty())
            .map(|(number, page)| (*number, target(page)))
            .collect();
        let mapped = self.space.enter(&wanted, &mut self.memory.frames, self.effects);
        if mapped { Outcome::Resolved } else { NO_FRAMES }
    }

    /// Allows more on the faulting page, and on those next to it that are in the same state: after a fork whose child
    /// has gone, a program has all its pages to itself again.
    fn allow_around(&mut self, target: Protection) {
        let (region, frames) = (self.region, &self.memory.frames);
        let both = Protection::WRITE | Protection::EXECUTE;
        let (around, number) = (self.around(), self.number);
        let state = self.space.pages.get(&number).map(|page| page.mapped);
        let same = |page: &Page| {
            !region.protection.contains(both)
                && Some(page.mapped) == state
                && in_place(&region, page.frame, frames)
        };
        let pages = &self.space.pages;
        let up = pages.range(number + 1..around.end).zip(number + 1..);
        let end =
            up.take_while(|((key, page), next)| **key == *next && same(page)).count() as u64 + number + 1;
        let down = pages.range(around.start..number).rev().zip((around.start..number).rev());
        let below = down.take_while(|((key, page), next)| **key == *next && same(page)).count() as u64;
        let mut runs = Runs::new();
        for (key, page) in self.space.pages.range_mut(number - below..end) {
            page.mapped = target;
            runs.push(*key, target);
        }
        self.space.protect_runs(runs, self.effects);
    }

    /// Gives the space a frame of its own with the contents of one that others hold too.
    fn copy_on_write(&mut self, page: Page) -> Outcome {
        let Page { frame: from, mut heat, .. } = page;
        let Some(to) = self.memory.frames.take() else { return NO_FRAMES };
        self.effects.act(Operation::FrameCopy { from, to });
        self.memory.frames.release(from);
        heat.rise();
        self.show(Page { heat, ..Page::own(to) })
    }

    /// Puts a page of the space's own where the fault was.
    fn show(&mut self, page: Page) -> Outcome {
        let protection = self.hardware(true);
        self.space.pages.insert(self.number, Page { mapped: protection, ..page });
        self.map(vec![PageMap { address: address_of(self.number), frame: page.frame, protection }])
    }

    /// Pages of zeroes: as many as were already touched in a row just below, so that a walk upward soon faults only
    /// at every sixteenth.
    fn zeroes(&mut self) -> Outcome {
        let stack = self.region.purpose == Purpose::Stack;
        let count = if stack { 1 } else { self.ahead() };
        let heat = if stack { Heat::HOT } else { Heat::default() };
        let protection = self.hardware(true);
        let mut list = Vec::with_capacity(count as usize);
        for number in self.number..self.number + count {
            let Some(frame) = self.memory.frames.take() else { break };
            self.effects.act(Operation::FrameZero { frame });
            let page = Page { mapped: protection, heat, ..Page::own(frame) };
            self.space.pages.insert(number, page);
            list.push(PageMap { address: address_of(number), frame, protection });
        }
        if list.is_empty() { NO_FRAMES } else { self.map(list) }
    }

    fn ahead(&self) -> u64 {
        let pages = &self.space.pages;
        let first = self.number.saturating_sub(AROUND).max(self.region.pages().start);
        let below = pages.range(first..self.number).rev().zip((first..self.number).rev());
        let touched = below.take_while(|((key, _), next)| **key == *next).count() as u64;
        if touched < 2 || self.memory.frames.free() < 2 * FRAMES_NEEDED {
            return 1;
        }
        let end = (self.number + touched).min(self.region.pages().end);
        pages.range(self.number + 1..end).next().map_or(end, |(next, _)| *next) - self.number
    }

    /// A page of an object: the object's own frame, or a private copy of it.
    fn object_contents(&mut self, object: u64, first: u64, limit: u64) -> Outcome {
        let index = first + (self.number - self.region.pages().start);
        let shown = limit.saturating_sub(address_of(index)).min(PAGE_SIZE);
        if shown == 0 {
            return self.zeroes();
        }
        let frame = match self.object_page(object, index) {
            Ok(frame) => frame,
            Err(outcome) => return outcome,
        };
        if !self.region.shared && (self.writes() || shown < PAGE_SIZE) {
            return self.private_copy(frame, shown as u32);
        }
        self.map_object_around(object, first, limit)
    }

    /// The object's frame for one of its pages, if it is in memory.
    fn object_page(&mut self, number: u64, index: u64) -> Result<Frame, Outcome> {
        if let Some(frame) = self.memory.objects.use_page(number, index) {
            return Ok(frame);
        }
        let Some(object) = self.memory.objects.get_mut(number) else { return Err(BEYOND_FILE) };
        if object.file.is_none() {
            let frame = self.memory.frames.take().ok_or(NO_FRAMES)?;
            self.effects.act(Operation::FrameZero { frame });
            object.add_page(index, frame);
            return Ok(frame);
        }
        if object.take_absent(index, self.fault.now) {
            return Err(BEYOND_FILE);
        }
        if self.memory.frames.free() == 0 {
            return Err(NO_FRAMES);
        }
        let Some(session) = object.session else { return Err(BEYOND_FILE) };
        let most = (self.region.pages().end - self.number).min(AROUND);
        let count = object.missing_from(index, most);
        Err(Outcome::Fetch { session, object: number, page: index, count })
    }

    /// A copy of a file's page, of which so many bytes are the file's and the rest is zeroes.
    fn private_copy(&mut self, from: Frame, shown: u32) -> Outcome {
        let Some(to) = self.memory.frames.take() else { return NO_FRAMES };
        self.effects.act(Operation::FrameCopy { from, to });
        if u64::from(shown) < PAGE_SIZE {
            let bytes = vec![0; (PAGE_SIZE - u64::from(shown)) as usize];
            self.effects.act(Operation::FrameWrite { frame: to, offset: shown, bytes });
        }
        let heat = if self.writes() { Heat::HOT } else { Heat::default() };
        self.show(Page { heat, ..Page::own(to) })
    }

    /// Maps the object's own frames, those of its pages around the fault that are in memory too.
    fn map_object_around(&mut self, object: u64, first: u64, limit: u64) -> Outcome {
        let (around, base) = (self.around(), self.region.pages().start);
        let whole = if self.region.shared { u64::MAX } else { page_of(floor(limit)) };
        let indices = first + (around.start - base)..(first + (around.end - base)).min(whole);
        let target = hardware(&self.region, self.region.shared, self.fault.access);
        let mut list = Vec::with_capacity(AROUND as usize);
        let Memory { frames, objects, .. } = &mut *self.memory;
        objects.use_pages(object, indices, |index, frame| {
            let number = index - first + base;
            let Entry::Vacant(entry) = self.space.pages.entry(number) else { return false };
            entry.insert(Page { mapped: target, ..Page::of_object(frame) });
            frames.share(frame);
            list.push(PageMap { address: address_of(number), frame, protection: target });
            true
        });
        self.map(list)
    }
}
