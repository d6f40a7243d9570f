//! DMA memory and device registers, as the virtio library asks for them.
//!
//! Root has mapped both before the start and says where. DMA memory is given out page by page and never comes back:
//! what has it lives as long as the incarnation. Buffers already lie in it, so that nothing is ever copied to share
//! it.

use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use libipc::abi::{Frame, PAGE_SIZE};
use libipc::server::boot::DMA_ADDRESS;
use spin::Once;
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

/// Where a run of device registers is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Physical address, as the BAR has it.
    pub physical: u64,
    /// Where root has mapped it.
    pub address: u64,
    /// Its length.
    pub bytes: u64,
}

/// What this incarnation was given.
struct Given {
    dma_physical: u64,
    dma_pages: u64,
    dma_taken: AtomicU64,
    windows: Vec<Window>,
}

static GIVEN: Once<Given> = Once::new();

/// Says what there is; before anything else of this module is used.
pub fn prepare(dma: Option<(Frame, u32)>, windows: Vec<Window>) {
    let (first, count) = dma.unwrap_or_default();
    GIVEN.call_once(|| Given {
        dma_physical: u64::from(first.0) * PAGE_SIZE,
        dma_pages: u64::from(count),
        dma_taken: AtomicU64::new(0),
        windows,
    });
}

/// Zeroed pages that the device and the driver share, for the rest of this incarnation.
pub fn pages(count: usize) -> Option<&'static mut [u8]> {
    let offset = take(count)?;
    let start = (DMA_ADDRESS + offset) as *mut u8;
    // SAFETY: root has mapped these pages for this server alone, `take` gives each out once, and the devices, which
    // were reset, know nothing of them.
    unsafe {
        start.write_bytes(0, count * PAGE_SIZE as usize);
        Some(core::slice::from_raw_parts_mut(start, count * PAGE_SIZE as usize))
    }
}

/// The offset of pages of DMA memory that nobody has.
fn take(count: usize) -> Option<u64> {
    let given = GIVEN.get()?;
    let taken = given.dma_taken.load(Ordering::Relaxed);
    let after = taken.checked_add(count as u64).filter(|after| *after <= given.dma_pages)?;
    given.dma_taken.store(after, Ordering::Relaxed);
    Some(taken * PAGE_SIZE)
}

/// The physical address of memory that [`pages`] gave out.
fn physical(pointer: NonNull<u8>) -> PhysAddr {
    let given = GIVEN.get().expect("prepared before the first device");
    let offset = pointer.as_ptr() as u64 - DMA_ADDRESS;
    assert!(offset < given.dma_pages * PAGE_SIZE, "only DMA memory is shared with a device");
    given.dma_physical + offset
}

/// The library's way to this memory.
pub struct Memory;

// SAFETY: pages are zeroed, page-aligned and given out once; windows are the devices' registers as root mapped them.
unsafe impl Hal for Memory {
    fn dma_alloc(count: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        match pages(count) {
            Some(pages) => {
                let start = NonNull::from(pages).cast();
                (physical(start), start)
            }
            // The library takes address 0 as "there is none".
            None => (0, NonNull::dangling()),
        }
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(physical: PhysAddr, length: usize) -> NonNull<u8> {
        let windows = GIVEN.get().map_or(&[][..], |given| &given.windows);
        let address = windows.iter().find_map(|window| {
            let offset = physical.checked_sub(window.physical)?;
            let end = offset.checked_add(length as u64)?;
            (end <= window.bytes).then_some(window.address + offset)
        });
        address
            .and_then(|address| NonNull::new(address as *mut u8))
            .expect("a device whose registers are not mapped is not brought up")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        physical(buffer.cast())
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
