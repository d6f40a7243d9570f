//! Fork: a copy-on-write copy of a space.
//!
//! Private pages that the parent could write are write-protected in it and held by both. Pages that were written soon
//! after earlier forks are copied at once instead, which spares both sides a fault. The child's pages are mapped for it
//! up to a bound; the others are present and are mapped when touched. Nothing here can fail for want of frames.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::abi::{Frame, Handle, Protection};
use libipc::server::{Effects, Operation};

use crate::region::{Backing, Inherit, Region};
use crate::runs::Runs;
use crate::space::{MAP_MAX, Memory, Page, Space, hardware};
use crate::tables::Tables;

/// Most pages that are copied at once rather than on write.
const COPIES_MAX: usize = 16;
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
    let mut child = Space {
        badge,
        handle,
        regions: parent.regions.clone(),
        pages: BTreeMap::new(),
        tables: Tables::new(top),
        heap: parent.heap.clone(),
        stack_floor: parent.stack_floor,
        marks: parent.marks.clone(),
    };
    let regions: Vec<Region> = parent.regions.iter().copied().collect();
    let mut copier = Copier::new(parent, memory);
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
    let Copier { parent, memory, protect, copies, pages, first, rest } = copier;
    child.pages = pages.into_iter().collect();
    for region in child.regions.iter() {
        if let Backing::Object { object, .. } = region.backing {
            memory.objects.attach(object, badge, region.page_count());
        }
    }
    parent.protect_runs(protect, effects);
    for (from, to) in copies {
        effects.act(Operation::FrameCopy { from, to });
    }
    let wanted: Vec<(u64, Protection)> = first.into_iter().chain(rest).take(MAP_MAX).collect();
    child.enter(&wanted, &mut memory.frames, effects);
    child
}

/// Copies a parent's pages, region by region.
struct Copier<'a> {
    parent: &'a mut Space,
    memory: &'a mut Memory,
    protect: Runs<Protection>,
    copies: Vec<(Frame, Frame)>,
    /// The child's pages.
    pages: Vec<(u64, Page)>,
    /// What is to be mapped for the child: memory that it can write first, since it is touched first.
    first: Vec<(u64, Protection)>,
    rest: Vec<(u64, Protection)>,
}

impl<'a> Copier<'a> {
    fn new(parent: &'a mut Space, memory: &'a mut Memory) -> Copier<'a> {
        let pages = Vec::with_capacity(parent.pages.len());
        let (first, rest, copies) = (Vec::new(), Vec::new(), Vec::new());
        Copier { parent, memory, protect: Runs::new(), copies, pages, first, rest }
    }

    /// The child gets none of the region's pages.
    fn keep_region(&mut self, region: &Region) {
        for (_, page) in self.parent.pages.range(region.pages()).filter(|(_, page)| !page.mapped.is_empty()) {
            self.protect.pass(page.mapped);
        }
    }

    fn copy_region(&mut self, region: &Region) {
        let writable = region.protection.contains(Protection::WRITE);
        let frames = &mut self.memory.frames;
        for (number, page) in self.parent.pages.range_mut(region.pages()) {
            let copy_now = page.hot
                && !region.shared
                && self.copies.len() < COPIES_MAX
                && frames.holders(page.frame) == 1
                && frames.free() > FRAMES_LEFT;
            let copied = if copy_now { frames.take() } else { None };
            let frame = match copied {
                Some(to) => {
                    self.copies.push((page.frame, to));
                    to
                }
                None => {
                    frames.share(page.frame);
                    page.frame
                }
            };
            let in_place = region.shared || copied.is_some();
            let target = hardware(region, in_place, Protection::empty());
            if !in_place && page.mapped.contains(Protection::WRITE) {
                page.mapped -= Protection::WRITE;
                self.protect.push(*number, page.mapped);
            } else if !page.mapped.is_empty() {
                self.protect.pass(page.mapped);
            }
            self.pages.push((*number, Page { hot: page.hot, ..Page::unmapped(frame) }));
            if !target.is_empty() {
                let list = if writable { &mut self.first } else { &mut self.rest };
                list.push((*number, target));
            }
        }
    }
}
