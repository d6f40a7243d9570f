//! Rows about memory, faults and signals.

use std::{ptr, sync::atomic::Ordering::SeqCst};

use libc::{
    MAP_ANONYMOUS, MAP_PRIVATE, PROT_NONE, PROT_READ, PROT_WRITE, SIGSEGV, SIGUSR1, c_int, c_void, siginfo_t,
};
use linux_tests::{
    call,
    memory::{PAGE, Pages, map, poke, shared},
    process::{self, fork},
    signals::{self, Do},
};

use crate::{Row, median, nanoseconds, per_operation};

const BOTH: i32 = PROT_READ | PROT_WRITE;
const PAGES: usize = 256;

pub const ROWS: &[Row] = &[
    ("mmap + touch + munmap one page", |_| per_operation(7, 50, || (0..50).for_each(|_| map_touch_unmap(1)))),
    ("mmap + touch + munmap, per page in a batch of 256", |_| {
        per_operation(5, PAGES as u64, || map_touch_unmap(PAGES))
    }),
    ("anonymous fault, per page", |_| median((0..5).map(|_| anonymous_faults()))),
    ("copy-on-write fault, per page", |_| median((0..5).map(|_| copy_faults()))),
    ("signal to self with handler", |_| {
        signals::set(SIGUSR1, Do::Handle(nothing));
        let me = process::me();
        per_operation(7, 200, || {
            for _ in 0..200 {
                let _ = process::kill(me, SIGUSR1);
            }
        })
    }),
    ("SEGV handler that mprotects and retries", |_| mended_faults()),
];

extern "C" fn nothing(_: c_int) {}

fn map_touch_unmap(pages: usize) {
    let at = map(ptr::null_mut(), pages * PAGE, BOTH, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        .expect("pages can be mapped");
    touch(at.cast(), pages);
    call!(munmap(at, pages * PAGE)).expect("and unmapped");
}

fn touch(start: *mut u8, pages: usize) {
    (0..pages).for_each(|page| poke(start.wrapping_add(page * PAGE), 1));
}

fn anonymous_faults() -> u64 {
    let pages = Pages::new(PAGES);
    nanoseconds(|| touch(pages.page(0), PAGES)) / PAGES as u64
}

/// The child writes to pages that its parent, which only waits, has as well.
fn copy_faults() -> u64 {
    let pages = Pages::new(PAGES);
    touch(pages.page(0), PAGES);
    let [answer, ..] = shared();
    let child = fork(|| {
        let time = nanoseconds(|| touch(pages.page(0), PAGES)) / PAGES as u64;
        answer.store(time as u32, SeqCst);
        0
    });
    process::end_of(child);
    u64::from(answer.load(SeqCst))
}

extern "C" fn unprotect(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel hands a handler a structure that is valid until it returns.
    let at = unsafe { (*info).si_addr() } as usize & !(PAGE - 1);
    let _ = call!(mprotect(at as *mut c_void, PAGE, BOTH));
}

/// The pages are there already, so that what is measured is the handler's way and not the filling of pages.
fn mended_faults() -> u64 {
    const PAGES: usize = 64;
    let pages = Pages::new(PAGES);
    touch(pages.page(0), PAGES);
    signals::set(SIGSEGV, Do::Inform(unprotect));
    let round = || {
        call!(mprotect(pages.address(0), PAGES * PAGE, PROT_NONE)).expect("pages can be protected");
        nanoseconds(|| touch(pages.page(0), PAGES)) / PAGES as u64
    };
    median((0..7).map(|_| round()))
}
