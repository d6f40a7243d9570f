//! When memory ends: the largest program dies, not whoever asks next.
//!
//! Its memory is taken away at once, whatever it is doing, and its next access ends it. So nobody has to be told, and a
//! program that sleeps on all of memory is no obstacle. Some of memory is kept for the page cache: without it every
//! program would fetch its own code again and again, and the machine would stand still long before memory ended.

use libipc::server::{Effects, Operation, Rows};

use crate::region::{Backing, Region};
use crate::space::{Memory, Space};

/// The part of memory that is kept free, or in the page cache.
const KEPT: u64 = 32;
/// But no fewer pages than a shell and a program like it need to get on, if they are no more than a part of memory.
const KEPT_LEAST: (u64, u64) = (384, 4);

/// Whether programs hold so much that the rest would not do.
pub fn is_due(memory: &Memory) -> bool {
    let total = u64::from(memory.frames.total());
    let (pages, part) = KEPT_LEAST;
    let kept = (total / KEPT).max(pages.min(total / part));
    u64::from(memory.frames.free()) + memory.objects.cached() < kept
}

/// Takes from the largest program all that it has.
pub fn relieve(memory: &mut Memory, spaces: &mut Rows<u64, Space>, effects: &mut Effects) {
    let largest = spaces.iter().map(|(badge, space)| (held(space, memory), *badge)).max();
    let Some((pages, badge)) = largest.filter(|(pages, _)| *pages > 0) else { return };
    let Some(space) = spaces.get_mut(&badge) else { return };
    space.doomed = true;
    space.unmap(0..u64::MAX, memory, effects);
    let text = alloc::format!("vm: memory has ended: a program of {} KiB dies\n", 4 * pages);
    effects.act(Operation::Log { text: text.into_bytes() });
}

/// Pages that would be gained: of its own, and of memory that it shares, but not those which are a file's.
fn held(space: &Space, memory: &Memory) -> u64 {
    let of_region = |region: &Region| {
        let shared = match region.backing {
            Backing::Anonymous => true,
            Backing::Object { object, .. } => {
                memory.objects.get(object).is_some_and(|object| object.file.is_none())
            }
        };
        space.pages.range(region.pages()).filter(|(_, page)| shared || page.own).count() as u64
    };
    space.regions.iter().map(of_region).sum()
}
