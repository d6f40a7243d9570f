//! A server's heap: talc, and in front of it a list of free blocks for each small size.
//!
//! Steps allocate and free small things all the time, and what one step frees the next one takes, so most of it never
//! reaches talc. When talc runs out, it gets the lists back and is asked again.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::ptr;

use talc::locking::AssumeUnlockable;
use talc::{ErrOnOom, Span, Talc, Talck};

/// Small sizes are multiples of this.
const GRAIN: usize = 16;
/// The largest small size, in grains.
const CLASSES: usize = 128;

/// A free block; the link to the next of its size lies in the block itself.
#[repr(C)]
struct Free {
    next: *mut Free,
}

/// The heap of a program with one thread.
pub struct Heap {
    talc: Talck<AssumeUnlockable, ErrOnOom>,
    /// The free blocks of each small size; the first stands for one grain.
    free: UnsafeCell<[*mut Free; CLASSES]>,
}

// SAFETY: a server has one thread.
unsafe impl Sync for Heap {}

/// The size class of a layout, if it is small.
fn class_of(layout: Layout) -> Option<usize> {
    let grains = layout.size().div_ceil(GRAIN).max(1);
    (grains <= CLASSES && layout.align() <= GRAIN).then_some(grains - 1)
}

/// What talc is asked for when a block of a class is needed.
fn layout_of(class: usize) -> Layout {
    // SAFETY: a power of two, and far from overflow.
    unsafe { Layout::from_size_align_unchecked((class + 1) * GRAIN, GRAIN) }
}

impl Heap {
    /// A heap without memory.
    pub const fn new() -> Heap {
        Heap { talc: Talc::new(ErrOnOom).lock(), free: UnsafeCell::new([ptr::null_mut(); CLASSES]) }
    }

    /// Gives it memory.
    ///
    /// # Safety
    /// The span is mapped, writable and nobody else's.
    pub unsafe fn claim(&self, span: Span) -> Result<(), ()> {
        // SAFETY: the caller's promise.
        unsafe { self.talc.lock().claim(span) }.map(|_| ())
    }

    /// The list of a class.
    #[allow(clippy::mut_from_ref, reason = "one thread, and no list is kept across a call")]
    fn list(&self, class: usize) -> &mut *mut Free {
        // SAFETY: one thread; `class` comes from `class_of`.
        unsafe { &mut (*self.free.get())[class] }
    }

    /// Asks talc, and again when it has got back what the lists hold.
    #[cold]
    fn from_talc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the layout is not empty.
        let block = unsafe { self.talc.alloc(layout) };
        if !block.is_null() {
            return block;
        }
        for class in 0..CLASSES {
            let mut next = core::mem::replace(self.list(class), ptr::null_mut());
            while !next.is_null() {
                let block = next;
                // SAFETY: a free block of this class, which came from talc with this layout.
                unsafe {
                    next = (*block).next;
                    self.talc.dealloc(block.cast(), layout_of(class));
                }
            }
        }
        // SAFETY: as above.
        unsafe { self.talc.alloc(layout) }
    }
}

impl Default for Heap {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: blocks come from talc or from a list of blocks that came from talc with at least that size and alignment,
// and are in no list while they are in use.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(class) = class_of(layout) else { return self.from_talc(layout) };
        let list = self.list(class);
        let block = *list;
        if block.is_null() {
            return self.from_talc(layout_of(class));
        }
        // SAFETY: a free block holds its link.
        *list = unsafe { (*block).next };
        block.cast()
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let Some(class) = class_of(layout) else {
            // SAFETY: it came from talc with this layout.
            return unsafe { self.talc.dealloc(block, layout) };
        };
        let list = self.list(class);
        let free: *mut Free = block.cast();
        // SAFETY: the block is at least a grain, aligned to one, and nobody's any more.
        unsafe { (*free).next = *list };
        *list = free;
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise about `size`.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        let (old, new) = (class_of(layout), class_of(wanted));
        if old.is_none() && new.is_none() {
            // SAFETY: it came from talc with this layout.
            return unsafe { self.talc.realloc(block, layout, size) };
        }
        if old == new {
            return block;
        }
        // SAFETY: both blocks hold the smaller of the two sizes, and are different.
        unsafe {
            let moved = self.alloc(wanted);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}
