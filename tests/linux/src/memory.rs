//! Memory shared between processes, and mappings.

use std::{ops::Deref, ptr, slice, sync::atomic::AtomicU32};

use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_READ, PROT_WRITE, c_void};

use crate::{Errno, call};

/// The size of a page of the smallest size.
pub const PAGE: usize = 4096;

/// A page of counters that a process shares with the children it makes later.
pub fn shared() -> &'static [AtomicU32; PAGE / 4] {
    let page = map(ptr::null_mut(), PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)
        .expect("a page can be shared");
    // SAFETY: the page is ours, zeroed, aligned, and stays mapped to the end.
    unsafe { &*page.cast() }
}

/// `mmap` with its arguments as they are.
pub fn map(
    at: *mut c_void,
    len: usize,
    prot: i32,
    flags: i32,
    fd: i32,
    offset: i64,
) -> Result<*mut c_void, Errno> {
    call!(mmap(at, len, prot, flags, fd, offset))
}

/// Pages of private memory, unmapped at the end.
pub struct Pages {
    start: *mut u8,
    len: usize,
}

impl Pages {
    /// Maps `count` pages that can be read and written.
    pub fn new(count: usize) -> Pages {
        Pages::with(count, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1)
    }

    /// Maps `count` pages of a file or, with -1, of none.
    pub fn with(count: usize, prot: i32, flags: i32, fd: i32) -> Pages {
        let start = map(ptr::null_mut(), count * PAGE, prot, flags, fd, 0).expect("pages can be mapped");
        Pages { start: start.cast(), len: count * PAGE }
    }

    /// The address of page `index`.
    pub fn page(&self, index: usize) -> *mut u8 {
        self.start.wrapping_add(index * PAGE)
    }

    /// The same as the C library wants it.
    pub fn address(&self, index: usize) -> *mut c_void {
        self.page(index).cast()
    }

    /// The first byte of page `index`.
    pub fn get(&self, index: usize) -> u8 {
        peek(self.page(index))
    }

    /// Writes the first byte of page `index`.
    pub fn set(&self, index: usize, value: u8) {
        poke(self.page(index), value);
    }

    /// Changes the protection of one page.
    pub fn protect(&self, index: usize, prot: i32) {
        call!(mprotect(self.address(index), PAGE, prot)).expect("a protection can be changed");
    }
}

impl Deref for Pages {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the pages are mapped for as long as this value lives; who protects them does not read them so.
        unsafe { slice::from_raw_parts(self.start, self.len) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        let _ = call!(munmap(self.start.cast(), self.len));
    }
}

/// Reads a byte wherever it is: a fault is part of the test.
pub fn peek(at: *const u8) -> u8 {
    // SAFETY: the byte is in a mapping of this test, or the fault is what it is about.
    unsafe { at.read_volatile() }
}

/// Writes a byte wherever it is: a fault is part of the test.
pub fn poke(at: *mut u8, value: u8) {
    // SAFETY: as for reading; mappings of a test are shared with nobody who holds references.
    unsafe { at.write_volatile(value) }
}
