//! The kernel's own address space: the image with each part's own rights, and the direct map of physical memory.

use core::cell::UnsafeCell;

use libipc::abi::Frame;

use super::cpu;

/// Where physical memory is mapped in the kernel.
pub const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// What the direct map reaches.
pub const DIRECT_BYTES: u64 = 4 << 30;
/// Virtual minus physical address of the kernel image.
pub const IMAGE_OFFSET: u64 = 0xffff_ffff_8000_0000;

/// Present.
pub const PRESENT: u64 = 1;
/// Writable.
pub const WRITABLE: u64 = 2;
/// Reachable from user mode.
pub const USER: u64 = 4;
/// Not cached.
pub const UNCACHED: u64 = 1 << 4;
/// Written to since the bit was cleared.
pub const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
/// A bit the CPU ignores: this entry names a lower table.
pub const TABLE_MARK: u64 = 1 << 9;
/// No instruction fetches.
pub const NO_EXECUTE: u64 = 1 << 63;
/// The physical address in an entry.
pub const ADDRESS_MASK: u64 = 0x000f_ffff_ffff_f000;

const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
/// Lowest-level tables for the image: 8 MiB.
const IMAGE_TABLES: usize = 4;
/// Where the interrupt controllers' windows are.
const CONTROLLERS: core::ops::Range<u64> = 0xfec0_0000..0xff00_0000;

/// Page tables in the kernel image.
#[repr(C, align(4096))]
pub struct Tables<const COUNT: usize>(UnsafeCell<[[u64; 512]; COUNT]>);

// SAFETY: written at boot on one CPU, and by the CPU's own walks afterwards.
unsafe impl<const COUNT: usize> Sync for Tables<COUNT> {}

/// The tables the machine starts with: top, second level, one of large pages.
pub static BOOT_TABLES: Tables<3> = Tables(UnsafeCell::new([[0; 512]; 3]));
/// Top, direct map's second level, four of large pages, image's second and third level, its lowest tables.
static KERNEL_TABLES: Tables<{ 8 + IMAGE_TABLES }> = Tables(UnsafeCell::new([[0; 512]; 8 + IMAGE_TABLES]));

unsafe extern "C" {
    static __boot_end: u8;
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __kernel_end: u8;
    static __load_end: u8;
}

fn address(symbol: *const u8) -> u64 {
    symbol as u64
}

/// The physical address past the kernel image.
pub fn image_end() -> u64 {
    address(&raw const __kernel_end) - IMAGE_OFFSET
}

/// The physical address of a kernel table.
fn physical(table: &[u64; 512]) -> u64 {
    table.as_ptr() as u64 - IMAGE_OFFSET
}

fn image_rights(at: u64) -> Option<u64> {
    let text = address(&raw const __text_start)..address(&raw const __text_end);
    let guard = cpu::STACK.bottom()..cpu::STACK.bottom() + PAGE;
    if at < text.start || at >= address(&raw const __kernel_end) || guard.contains(&at) {
        None
    } else if text.contains(&at) {
        Some(PRESENT)
    } else if at < address(&raw const __rodata_end) {
        Some(PRESENT | NO_EXECUTE)
    } else {
        Some(PRESENT | WRITABLE | NO_EXECUTE)
    }
}

/// Builds the final tables and switches to them. The identity map is gone afterwards.
pub fn initialise() {
    // SAFETY: called once at boot; the tables are static and not in use yet.
    let tables = unsafe { &mut *KERNEL_TABLES.0.get() };
    let (upper, image) = tables.split_at_mut(8);
    let [top, direct, large0, large1, large2, large3, image_second, image_third] = upper else { return };
    for (gigabyte, large) in [large0, large1, large2, large3].into_iter().enumerate() {
        for (index, entry) in large.iter_mut().enumerate() {
            let at = (gigabyte as u64) << 30 | index as u64 * LARGE_PAGE;
            let uncached = if CONTROLLERS.contains(&at) { UNCACHED } else { 0 };
            *entry = at | PRESENT | WRITABLE | LARGE | NO_EXECUTE | uncached;
        }
        direct[gigabyte] = physical(large) | PRESENT | WRITABLE;
    }
    for (index, table) in image.iter_mut().enumerate() {
        for (page, entry) in table.iter_mut().enumerate() {
            let at = IMAGE_OFFSET + index as u64 * LARGE_PAGE + page as u64 * PAGE;
            *entry = image_rights(at).map_or(0, |rights| (at - IMAGE_OFFSET) | rights);
        }
        image_third[index] = physical(table) | PRESENT | WRITABLE;
    }
    image_second[510] = physical(image_third) | PRESENT | WRITABLE;
    top[256] = physical(direct) | PRESENT | WRITABLE;
    top[511] = physical(image_second) | PRESENT | WRITABLE;
    let top = physical(top);
    activate(top);
}

/// The kernel's half of the top table, for new address spaces.
pub fn kernel_half() -> [(usize, u64); 2] {
    // SAFETY: the top table is not written after boot.
    let top = unsafe { &(*KERNEL_TABLES.0.get())[0] };
    [(256, top[256]), (511, top[511])]
}

/// The kernel's own top table.
pub fn kernel_top() -> Frame {
    // SAFETY: only its address is taken.
    let top = unsafe { &(*KERNEL_TABLES.0.get())[0] };
    Frame((physical(top) / PAGE) as u32)
}

/// Makes a top table the one in force.
pub fn activate(top: u64) {
    // SAFETY: every top table maps the kernel's half as this code runs in it.
    unsafe { x86::controlregs::cr3_write(top) };
}

/// Physical memory through the direct map, if it reaches so far.
pub fn read_physical(start: u64, length: u64) -> Option<&'static [u8]> {
    let end = start.checked_add(length)?;
    if end > DIRECT_BYTES {
        return None;
    }
    // SAFETY: the direct map covers it; only boot reads through this, memory that nothing writes meanwhile.
    Some(unsafe { core::slice::from_raw_parts((DIRECT_MAP + start) as *const u8, length as usize) })
}
