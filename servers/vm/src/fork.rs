//! Fork: a copy-on-write copy of a space.
//!
//! Pages of the parent's own that it could write are write-protected in it and held by both. What is an object's is
//! not copied: the child finds it where the parent did. What earlier children touched soon is mapped for the next at
//! once, and what they or the parent wrote is copied at once, which spares both sides the faults. The other pages are
//! mapped when they are touched. Nothing here can fail for want of frames.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::abi::{Frame, Handle, Protection};
use libipc::server::effect::PageMap;
use libipc::server::{Effects, Operation};

use crate::region::{Inherit, Region};
use crate::runs::Runs;
use crate::space::{MAP_MAX, Memory, Page, Space, hardware};
use crate::tables::{Tables, address_of};

/// Most pages that are copied at once rather than on write.
const COPIES_MAX: usize = 16;
/// How many faults of a child its parent learns from: those of the time between fork and exec.
const LESSONS: u8 = 64;
/// Frames that copying at once leaves free.
const FRAMES_LEFT: u32 = 256;

/// Makes the child of a space; `top` is its top table and `handle` the kernel's object, both fresh.
pub fn fork(
    parent: &mut Space,
    badge: u64,
    handle: Handle,
    top: Frame,
    memory: &mut Memory,
    effects: &mut Effects,
) -> Space {
    let regions: Vec<Region> = parent.regions.iter().copied().collect();
    let mut child = Space {
        badge,
        handle,
        parent: parent.badge,
        lessons: LESSONS,
        regions: parent.regions.clone(),
        pages: BTreeMap::new(),
        tables: Tables::new(top),
        heap: parent.heap.clone(),
        stack_floor: parent.stack_floor,
        marks: parent.marks.clone(),
        limits: parent.limits,
        // Locks are not inherited.
        locks: false,
        doomed: false,
    };
    if parent.regions.iter().any(|region| region.locked) {
        child.regions.change(0..u64::MAX, |region| region.locked = false);
    }
    let (pages, wanted) = (Vec::with_capacity(parent.pages.len()), Vec::new());
    let mut copier = Copier { parent, memory, protect: Runs::new(), copies: Vec::new(), pages, wanted };
    for region in &regions {
        match region.inherit {
            Inherit::Copy => copier.copy_region(region),
            Inherit::Zeroes => copier.keep_region(region),
            Inherit::Nothing => {
                copier.keep_region(region);
                child.regions.carve(region.start..region.end);
            }
        }
    }
    let Copier { parent, memory, protect, copies, pages, wanted } = copier;
    child.pages = pages.into_iter().collect();
    for (object, pages) in child.objects() {
        memory.objects.attach(object, badge, pages);
    }
    parent.protect_runs(protect, effects);
    for (from, to) in copies {
        effects.act(Operation::FrameCopy { from, to });
    }
    child.map(wanted, &mut memory.frames, effects);
    child
}

/// A child has faulted on a page soon after the fork: the next child will, too.
pub fn learn(parent: &mut Space, number: u64, write: bool) {
    if let Some(page) = parent.pages.get_mut(&number) {
        page.wanted = true;
        if write && page.own {
            page.heat.rise();
        }
    }
}

/// Copies a parent's pages, region by region.
struct Copier<'a> {
    parent: &'a mut Space,
    memory: &'a mut Memory,
    protect: Runs<Protection>,
    copies: Vec<(Frame, Frame)>,
    /// The child's pages.
    pages: Vec<(u64, Page)>,
    /// Those of them that are to be mapped at once.
    wanted: Vec<PageMap>,
}

impl Copier<'_> {
    /// The child gets none of the region's pages.
    fn keep_region(&mut self, region: &Region) {
        for (_, page) in self.parent.pages.range(region.pages()).filter(|(_, page)| !page.mapped.is_empty()) {
            self.protect.pass(page.mapped);
        }
    }

    fn copy_region(&mut self, region: &Region) {
        let frames = &mut self.memory.frames;
        for (number, page) in self.parent.pages.range_mut(region.pages()) {
            if !page.own && !page.wanted {
                if !page.mapped.is_empty() {
                    self.protect.pass(page.mapped);
                }
                continue;
            }
            let hot = page.heat.is_hot();
            page.heat.fall();
            let copy_now = hot
                && !region.shared
                && self.copies.len() < COPIES_MAX
                && frames.free() > FRAMES_LEFT
                && frames.holders(page.frame) == 1;
            let copied = if copy_now { frames.take() } else { None };
            let frame = copied.unwrap_or(page.frame);
            match copied {
                Some(to) => self.copies.push((page.frame, to)),
                None => frames.share(frame),
            }
            let in_place = region.shared || copied.is_some();
            if !in_place && page.mapped.contains(Protection::WRITE) {
                page.mapped -= Protection::WRITE;
                self.protect.push(*number, page.mapped);
            } else if !page.mapped.is_empty() {
                self.protect.pass(page.mapped);
            }
            let mut mapped = Protection::empty();
            if (page.wanted || hot) && self.wanted.len() < MAP_MAX {
                mapped = hardware(region, in_place, Protection::empty());
            }
            if !mapped.is_empty() {
                self.wanted.push(PageMap { address: address_of(*number), frame, protection: mapped });
            }
            self.pages.push((*number, Page { frame, mapped, ..*page }));
        }
    }
}
