//! One address space: its regions, the pages that are there, and a mirror of what the kernel's page tables say.
//!
//! Every change here is paired with the effect that makes it true in the kernel. A page may be present without being
//! mapped; then the next access faults and is mapped without further ado. Nothing here decides what a page contains:
//! that is `fault`'s, `fork`'s and `build`'s.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::mem::take;
use core::ops::Range;

use libipc::abi::{Frame, Handle, Protection};
use libipc::proto::space::Limits;
use libipc::server::effect::PageMap;
use libipc::server::{Effects, Operation};
use serde::{Deserialize, Serialize};

use crate::extents::{self, Follow};
use crate::frames::Frames;
use crate::object::Objects;
use crate::region::{Backing, Purpose, Region, Regions};
use crate::runs::Runs;
use crate::tables::{Tables, address_of, ceil, floor, page_of};

/// Most pages in one map operation.
pub const MAP_MAX: usize = 256;
/// Most tables in one map operation.
const TABLES_MAX: usize = 64;
/// Bytes that stay free below the stack, Linux's `stack_guard_gap`.
const STACK_GUARD: u64 = 256 * 4096;

/// The most that is ever granted to a stack.
pub const STACK_MOST: u64 = 64 << 30;

/// What the spaces take their pages from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Memory {
    /// The frames of the machine.
    pub frames: Frames,
    /// Files and shared memory.
    pub objects: Objects,
    /// There is hardly any room for more state.
    #[serde(skip)]
    pub crowded: bool,
}

/// A page of a space that has contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Page {
    /// Where they are.
    pub frame: Frame,
    /// How the kernel has it mapped now; nothing when it does not.
    pub mapped: Protection,
    /// It is the space's, or was its parent's: not just an object's page shown, which could be found again.
    pub own: bool,
    /// A child touched it after the last fork; the next one will too.
    pub wanted: bool,
    /// Whether it will be written after the next fork by parent or child.
    pub heat: Heat,
}

/// What is known of a page's being written after forks. A page that was written once is copied at once by the next
/// forks, which spares the fault but does not tell whether it was written again; so after some such forks one lets it
/// be shared again. If that ends in a fault the page is trusted for twice as long, else it has gone cold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Heat {
    /// So many forks more copy it at once.
    left: u8,
    /// So many did or will since it was last found to be written.
    trust: u8,
    /// A fork has shared it since.
    tried: bool,
}

impl Heat {
    const FIRST: u8 = 4;
    const MOST: u8 = 64;

    /// Of a page that is certain to be written soon.
    pub const HOT: Heat = Heat { left: Heat::FIRST, trust: Heat::FIRST, tried: false };

    /// It was found to be written after a fork.
    pub fn rise(&mut self) {
        if self.left == 0 {
            self.trust = (2 * self.trust).clamp(Heat::FIRST, Heat::MOST);
            (self.left, self.tried) = (self.trust, false);
        }
    }

    /// Whether the next fork is to copy it at once.
    pub fn is_hot(self) -> bool {
        self.left > 0
    }

    /// A fork has copied it at once, or shared it.
    pub fn fall(&mut self) {
        match self.left {
            0 if self.tried => self.trust = 0,
            0 => self.tried = true,
            _ => self.left -= 1,
        }
    }
}

impl Page {
    /// A page of the space's own that is not mapped yet.
    pub fn own(frame: Frame) -> Page {
        Page { frame, mapped: Protection::empty(), own: true, wanted: false, heat: Heat::default() }
    }

    /// A page of an object that is not mapped yet.
    pub fn of_object(frame: Frame) -> Page {
        Page { own: false, ..Page::own(frame) }
    }
}

impl Follow for Page {
    fn after(self, distance: u64) -> Page {
        Page { frame: self.frame.after(distance), ..self }
    }
}

/// What /proc shows of a program in memory.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Marks {
    /// Its code.
    pub code: Range<u64>,
    /// The stack pointer with which it started.
    pub stack: u64,
    /// Start and end of its argument strings, and of its environment.
    pub strings: [u64; 4],
}

/// An address space.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Space {
    /// The number by which kernel and process server know it.
    pub badge: u64,
    /// The kernel's object.
    pub handle: Handle,
    /// The space it is a copy of; 0 for a program's first.
    pub parent: u64,
    /// How many of its next faults tell what its parent's next child will touch.
    pub lessons: u8,
    /// What is mapped.
    pub regions: Regions,
    /// What is there, by number of page.
    #[serde(with = "extents")]
    pub pages: BTreeMap<u64, Page>,
    /// The kernel's page tables for it.
    pub tables: Tables,
    /// From where the break started to where it is.
    pub heap: Range<u64>,
    /// The lowest address to which the stack may grow.
    pub stack_floor: u64,
    /// For /proc.
    pub marks: Marks,
    /// What its processes may use.
    pub limits: Limits,
    /// What is mapped from now on is locked (MCL_FUTURE).
    pub locks: bool,
    /// Memory has ended, and this was the largest program: what it touches next ends it.
    pub doomed: bool,
}

/// What the kernel is to allow on a page of a region for an access. `in_place`: whether stores may go to the frame
/// itself. Writable and executable together become the one that is wanted now; the other faults and flips the page.
pub fn hardware(region: &Region, in_place: bool, access: Protection) -> Protection {
    let mut allowed = region.protection;
    if allowed.is_empty() {
        return allowed;
    }
    allowed |= Protection::READ;
    if !in_place {
        allowed -= Protection::WRITE;
    }
    if allowed.contains(Protection::WRITE | Protection::EXECUTE) {
        allowed -= if access.contains(Protection::EXECUTE) { Protection::WRITE } else { Protection::EXECUTE };
    }
    allowed
}

/// Whether stores to a page may go to its frame: nobody else has it, or they are meant to be seen.
pub fn in_place(region: &Region, frame: Frame, frames: &Frames) -> bool {
    region.shared || frames.holders(frame) == 1
}

impl Space {
    /// An empty space; the frame is its top table.
    pub fn new(badge: u64, handle: Handle, top: Frame, window: Range<u64>) -> Space {
        Space {
            badge,
            handle,
            parent: 0,
            lessons: 0,
            regions: Regions::new(window),
            pages: BTreeMap::new(),
            tables: Tables::new(top),
            heap: 0..0,
            stack_floor: u64::MAX,
            marks: Marks::default(),
            limits: Limits::default(),
            locks: false,
            doomed: false,
        }
    }

    /// The objects behind its regions, and how many pages each region spends on its one.
    pub fn objects(&self) -> impl Iterator<Item = (u64, u64)> {
        self.regions.iter().filter_map(|region| match region.backing {
            Backing::Object { object, .. } => Some((object, region.page_count())),
            Backing::Anonymous => None,
        })
    }

    /// Adds a region, in place of whatever was there.
    pub fn place(&mut self, region: Region, memory: &mut Memory, effects: &mut Effects) {
        // First, so that an object does not end in between when it replaces itself.
        if let Backing::Object { object, .. } = region.backing {
            memory.objects.attach(object, self.badge, region.page_count());
        }
        self.unmap(region.start..region.end, memory, effects);
        self.regions.insert(region);
    }

    /// Takes away regions and pages of a range of addresses.
    pub fn unmap(&mut self, range: Range<u64>, memory: &mut Memory, effects: &mut Effects) {
        let taken = self.regions.carve(range);
        for region in &taken {
            self.drop_pages(region.pages(), &mut memory.frames, effects);
        }
        self.detach(&taken, memory, effects);
    }

    /// Tells the objects behind regions that they are mapped no more.
    pub fn detach(&mut self, regions: &[Region], memory: &mut Memory, effects: &mut Effects) {
        for region in regions {
            if let Backing::Object { object, .. } = region.backing {
                memory.objects.detach(object, self.badge, region.page_count(), &mut memory.frames, effects);
            }
        }
    }

    /// Lets go of the pages in a range; what is touched there afterwards starts afresh.
    pub fn drop_pages(&mut self, range: Range<u64>, frames: &mut Frames, effects: &mut Effects) {
        for (_, page) in self.take_pages(range, effects) {
            frames.release(page.frame);
        }
    }

    /// Unmaps the pages in a range and takes them out, frames and all.
    pub fn take_pages(&mut self, range: Range<u64>, effects: &mut Effects) -> Vec<(u64, Page)> {
        let taken: Vec<(u64, Page)> = self.pages.extract_if(range, |_, _| true).collect();
        let mut unmap = Runs::new();
        for (number, _) in taken.iter().filter(|(_, page)| !page.mapped.is_empty()) {
            unmap.push(*number, ());
        }
        self.unmap_runs(unmap, effects);
        taken
    }

    fn unmap_runs(&self, runs: Runs<()>, effects: &mut Effects) {
        for (run, ()) in runs.finish() {
            let (address, pages) = (address_of(run.start), run.end - run.start);
            effects.act(Operation::Unmap { space: self.handle, address, pages });
        }
    }

    /// Tells the kernel of runs of pages whose protection has changed.
    pub fn protect_runs(&self, runs: Runs<Protection>, effects: &mut Effects) {
        for (run, protection) in runs.finish() {
            let (address, pages) = (address_of(run.start), run.end - run.start);
            effects.act(Operation::Protect { space: self.handle, address, pages, protection });
        }
    }

    /// Takes the page out of reach of the program if it shows this frame.
    pub fn forget_page(&mut self, number: u64, frame: Frame, frames: &mut Frames, effects: &mut Effects) {
        if self.pages.get(&number).is_some_and(|page| page.frame == frame) {
            self.drop_pages(number..number + 1, frames, effects);
        }
    }

    /// Maps pages that are present. False when frames for tables ran out; then some stay unmapped.
    pub fn enter(
        &mut self,
        wanted: &[(u64, Protection)],
        frames: &mut Frames,
        effects: &mut Effects,
    ) -> bool {
        let mut list = Vec::with_capacity(wanted.len());
        for (number, protection) in wanted {
            let Some(page) = self.pages.get_mut(number) else { continue };
            page.mapped = *protection;
            list.push(PageMap { address: address_of(*number), frame: page.frame, protection: *protection });
        }
        self.map(list, frames, effects)
    }

    /// Has the kernel map pages that are marked so already, with the frames for tables that they lack. False when
    /// frames for tables ran out; then the rest is marked unmapped again.
    pub fn map(&mut self, mut list: Vec<PageMap>, frames: &mut Frames, effects: &mut Effects) -> bool {
        let space = self.handle;
        while !list.is_empty() {
            let mut tables = Vec::new();
            let addresses = list.iter().take(MAP_MAX).map(|page| page.address);
            let count = self.tables.cover(addresses, TABLES_MAX, frames, &mut tables);
            if count == 0 {
                break;
            }
            let rest = list.split_off(count);
            let pages = core::mem::replace(&mut list, rest);
            effects.act(Operation::Map { space, tables, pages });
        }
        for page in &list {
            if let Some(page) = self.pages.get_mut(&page_of(page.address)) {
                page.mapped = Protection::empty();
            }
        }
        list.is_empty()
    }

    /// Makes the kernel's tables follow regions whose protection has changed.
    pub fn reprotect(&mut self, range: Range<u64>, frames: &Frames, effects: &mut Effects) {
        let (mut protect, mut unmap) = (Runs::new(), Runs::new());
        for region in self.regions.overlapping(range.clone()) {
            let part =
                region.pages().start.max(page_of(range.start))..region.pages().end.min(page_of(range.end));
            for (number, page) in self.pages.range_mut(part).filter(|(_, page)| !page.mapped.is_empty()) {
                let before = page.mapped;
                page.mapped = hardware(region, in_place(region, page.frame, frames), Protection::empty());
                if page.mapped.is_empty() {
                    unmap.push(*number, ());
                } else if page.mapped == before {
                    protect.pass(before);
                } else {
                    protect.push(*number, page.mapped);
                }
            }
        }
        self.protect_runs(protect, effects);
        self.unmap_runs(unmap, effects);
    }

    /// Whether so many more bytes may be mapped, and of data.
    pub fn may_grow(&self, bytes: u64, data: u64) -> bool {
        let total = self.regions.total();
        total.bytes.saturating_add(bytes) <= self.limits.address_space
            && (data == 0 || total.data.saturating_add(data) <= self.limits.data)
    }

    /// Sets what its processes may use.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        let stack = self.regions.find(self.marks.stack).filter(|region| region.purpose == Purpose::Stack);
        if let Some(top) = stack.map(|stack| stack.end) {
            // Below what was kept free for it there may be mappings.
            let room = limits.stack.min(STACK_MOST);
            self.stack_floor = ceil(top.saturating_sub(room)).unwrap_or(top);
        }
    }

    /// Lets the stack grow down to an address, if it may. The new region, if so.
    pub fn grow_stack(&mut self, address: u64) -> Option<Region> {
        let stack = *self.regions.next(address).filter(|region| region.purpose == Purpose::Stack)?;
        let lower = floor(address);
        let clear_of = |region: &Region| region.protection.is_empty() || region.end + STACK_GUARD <= lower;
        if lower < self.stack_floor
            || !self.may_grow(stack.start - lower, 0)
            || !self.regions.before(lower).is_none_or(clear_of)
        {
            return None;
        }
        self.regions.extend_down(stack.start, lower);
        self.regions.find(address).copied()
    }

    /// Takes the whole space down. No task uses it any more.
    pub fn destroy(mut self, memory: &mut Memory, effects: &mut Effects) {
        effects.act(Operation::SpaceDestroy { space: self.handle });
        effects.act(Operation::Close { handle: self.handle });
        for page in take(&mut self.pages).into_values() {
            memory.frames.release(page.frame);
        }
        let regions: Vec<Region> = self.regions.iter().copied().collect();
        self.detach(&regions, memory, effects);
        self.tables.release(&mut memory.frames);
    }
}
