//! Getting frames back from the page cache when few are free.
//!
//! A clock hand goes round the file pages. The machine does not tell what programs touch, so a page that is mapped is
//! unmapped when the hand comes by and stays in the cache: if it is touched again it is mapped again, and the hand
//! spares it once more. What was not touched for a whole round is given up. Pages of files that are given up are
//! never dirty, so nothing is written and nothing waits.
//!
//! A step takes pages out of sight in so many places and no more, so that neither its time nor its part of the journal
//! grows with the number of processes; the next one goes on where the hand is. A page that very many show counts as
//! in use.

use alloc::vec::Vec;

use libipc::server::{Effects, Rows};

use crate::object::SYSTEM;
use crate::region::{Backing, Region};
use crate::shortage;
use crate::space::{Memory, Space};

/// So many more than needed are freed at a time, which spreads the cost of going round.
const BATCH: u32 = 64;
/// In so many places a step unmaps pages at most.
const PLACES: usize = 2048;
/// A page of an object that more spaces map than this is left where it is.
const MANY: usize = 128;

/// Makes sure that so many frames are free, if the page cache can give them without ending itself.
pub fn reserve(need: u32, memory: &mut Memory, spaces: &mut Rows<u64, Space>, effects: &mut Effects) {
    if memory.frames.free() >= need {
        return;
    }
    if shortage::is_due(memory) {
        shortage::relieve(memory, spaces, effects);
    }
    let mut steps = 3 * memory.objects.cached();
    let most = effects.list.len() + PLACES;
    while steps > 0 && memory.frames.free() < need + BATCH && effects.list.len() < most {
        steps -= 1;
        let Some((object, page, used)) = memory.objects.advance_hand() else { return };
        if used {
            continue;
        }
        let Some(shown) = memory.objects.get(object) else { return };
        let Some(cached) = shown.pages.get(&page) else { return };
        if memory.frames.holders(cached.frame) > 1 {
            if memory.objects.mappers(object).nth(MANY).is_some() {
                continue;
            }
            unmap_everywhere(object, page, memory, spaces, effects);
        } else if let Some(frame) = memory.objects.remove_page(object, page) {
            memory.frames.release(frame);
        }
    }
}

/// Drops pages of a file whose contents have changed, from the cache and from every space that shows them. Private
/// copies that programs have written to stay.
pub fn forget(
    object: u64,
    pages: core::ops::Range<u64>,
    memory: &mut Memory,
    spaces: &mut Rows<u64, Space>,
    effects: &mut Effects,
) {
    let Some(found) = memory.objects.get(object) else { return };
    let cached: Vec<u64> = found.pages.range(pages).map(|(page, _)| *page).collect();
    for page in cached {
        unmap_everywhere(object, page, memory, spaces, effects);
        if let Some(frame) = memory.objects.remove_page(object, page) {
            memory.frames.release(frame);
        }
    }
}

fn unmap_everywhere(
    number: u64,
    page: u64,
    memory: &mut Memory,
    spaces: &mut Rows<u64, Space>,
    effects: &mut Effects,
) {
    let Some(object) = memory.objects.get(number) else { return };
    let Some(frame) = object.pages.get(&page).map(|cached| cached.frame) else { return };
    for (badge, _) in memory.objects.mappers(number).filter(|(badge, _)| *badge != SYSTEM) {
        let Some(space) = spaces.get_mut(&badge) else { continue };
        let shown: Vec<u64> =
            space.regions.iter().filter_map(|region| place_of(region, number, page)).collect();
        for number in shown {
            space.forget_page(number, frame, &mut memory.frames, effects);
        }
    }
}

/// Where a region shows a page of an object.
fn place_of(region: &Region, number: u64, page: u64) -> Option<u64> {
    match region.backing {
        Backing::Object { object, page: first, .. } if object == number => {
            let place = page.checked_sub(first)?.checked_add(region.pages().start)?;
            (place < region.pages().end).then_some(place)
        }
        _ => None,
    }
}
