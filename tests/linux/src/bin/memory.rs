//! compare
//!
//! Mapping, unmapping, protecting, moving and forgetting pages, and the break.

use std::{process::ExitCode, ptr};

use libc::{
    MADV_DONTNEED, MADV_WILLNEED, MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_POPULATE,
    MAP_PRIVATE, MAP_SHARED, MREMAP_FIXED, MREMAP_MAYMOVE, PROT_NONE, PROT_READ, PROT_WRITE, SIGSEGV,
    SYS_brk, c_void,
};
use linux_tests::{
    apart, call, equal,
    errno::{EEXIST, EFAULT, ENOMEM},
    files,
    memory::{PAGE, Pages, map, peek, poke},
    ok,
    process::{self, Status, fork},
    run,
    signals::{self, Do},
};

const PRIVATE: i32 = MAP_PRIVATE | MAP_ANONYMOUS;
const BOTH: i32 = PROT_READ | PROT_WRITE;

fn main() -> ExitCode {
    run(&[
        fresh_pages,
        holes,
        splitting_and_joining,
        fixed,
        protection,
        moving,
        forgetting,
        residence,
        || apart(the_break),
        || apart(the_stack),
        large,
        many,
    ])
}

/// Whether the kernel can read a byte there: it says EFAULT where we would fault.
fn readable(at: *const u8) -> bool {
    kernel_reads(at) == Ok(1)
}

fn kernel_reads(at: *const u8) -> Result<isize, linux_tests::Errno> {
    let (from, to) = files::pipe();
    let answer = call!(write(to, at.cast(), 1));
    files::close(from);
    files::close(to);
    answer
}

fn fresh_pages() {
    let pages = Pages::new(16);
    equal("a mapping starts at a page", pages.page(0) as usize % PAGE, 0);
    ok("fresh pages are zeros", pages.iter().all(|&byte| byte == 0));
    (0..16).for_each(|page| pages.set(page, page as u8 + 1));
    ok("and keep what is written", (0..16).all(|page| pages.get(page) == page as u8 + 1));
    let odd = map(ptr::null_mut(), 5000, BOTH, PRIVATE, -1, 0).expect("pages can be mapped");
    poke(odd.cast::<u8>().wrapping_add(8191), 7);
    equal("a length is rounded up to pages", peek(odd.cast::<u8>().wrapping_add(8191)), 7);
    equal("also when unmapping", call!(munmap(odd, 4097)), Ok(0));
    ok("so that nothing is left", !readable(odd.cast::<u8>().wrapping_add(8191)));
    let populated = Pages::with(8, BOTH, PRIVATE | MAP_POPULATE | MAP_NORESERVE, -1);
    ok("pages can be asked for at once", populated.iter().all(|&byte| byte == 0));
}

fn holes() {
    let pages = Pages::new(5);
    (0..5).for_each(|page| pages.set(page, 9));
    equal("the middle of a mapping can go", call!(munmap(pages.address(2), PAGE)), Ok(0));
    equal("and leaves a hole", [1, 2, 3].map(|page| readable(pages.page(page))), [true, false, true]);
    equal("with EFAULT for the kernel", kernel_reads(pages.page(2)), Err(EFAULT));
    equal("the rest is as it was", [0, 1, 3, 4].map(|page| pages.get(page)), [9; 4]);
    equal("unmapping what is not there is no error", call!(munmap(pages.address(2), PAGE)), Ok(0));
    equal("nor is unmapping across a hole", call!(munmap(pages.address(1), 3 * PAGE)), Ok(0));
    equal("which takes all of it", [1, 2, 3].map(|page| readable(pages.page(page))), [false; 3]);
    let child = fork(|| {
        signals::set(SIGSEGV, Do::Default);
        i32::from(peek(pages.page(2)))
    });
    let end = process::end_of(child);
    ok(
        "a program that touches a hole dies",
        matches!(end, Status::Killed(SIGSEGV) | Status::Dumped(SIGSEGV)),
    );
    let again = map(pages.address(2), PAGE, BOTH, PRIVATE, -1, 0);
    equal("a hint is followed where there is room", again, Ok(pages.address(2)));
    equal("with a fresh page", pages.get(2), 0);
    let other = map(pages.address(0), PAGE, BOTH, PRIVATE, -1, 0).expect("pages can be mapped");
    ok("and not where there is none", other != pages.address(0) && pages.get(0) == 9);
    call!(munmap(other, PAGE)).expect("it can be unmapped");
}

fn splitting_and_joining() {
    let pages = Pages::new(64);
    (0..64).for_each(|page| pages.set(page, page as u8));
    (0..64).step_by(2).for_each(|page| pages.protect(page, PROT_READ));
    ok("every second page is read-only and as it was", (0..64).all(|page| pages.get(page) == page as u8));
    (1..64).step_by(2).for_each(|page| pages.set(page, 200));
    equal("the others can be written", pages.get(33), 200);
    call!(mprotect(pages.address(0), 64 * PAGE, BOTH)).expect("a protection can be changed");
    (0..64).for_each(|page| pages.set(page, 1));
    ok("one change over many pieces reaches all", (0..64).all(|page| pages.get(page) == 1));
    (0..64).filter(|page| page % 3 == 0).for_each(|page| {
        call!(munmap(pages.address(page), PAGE)).expect("a page can be unmapped");
    });
    let right = (0..64).all(|page| readable(pages.page(page)) == (page % 3 != 0));
    ok("every third page can be unmapped", right);
}

fn fixed() {
    let pages = Pages::new(4);
    (0..4).for_each(|page| pages.set(page, 5));
    let taken = map(pages.address(1), PAGE, BOTH, PRIVATE | MAP_FIXED, -1, 0);
    equal("MAP_FIXED replaces what was there", taken, Ok(pages.address(1)));
    equal("and no more", [0, 1, 2, 3].map(|page| pages.get(page)), [5, 0, 5, 5]);
    let refused = map(pages.address(0), 2 * PAGE, BOTH, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0);
    equal("MAP_FIXED_NOREPLACE replaces nothing", refused, Err(EEXIST));
    equal("and all is as it was", [0, 1, 2, 3].map(|page| pages.get(page)), [5, 0, 5, 5]);
    call!(munmap(pages.address(3), PAGE)).expect("a page can be unmapped");
    let free = map(pages.address(3), PAGE, BOTH, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0);
    equal("where nothing is it maps", free, Ok(pages.address(3)));
}

fn protection() {
    let dies = |page: *mut u8, write: bool| {
        let child = fork(|| {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            let _ = call!(setrlimit(libc::RLIMIT_CORE, &raw const none));
            signals::set(SIGSEGV, Do::Default);
            if write {
                poke(page, 1);
            }
            i32::from(peek(page))
        });
        process::end_of(child) == Status::Killed(SIGSEGV)
    };
    let pages = Pages::new(2);
    pages.set(0, 8);
    let effect = |prot| {
        pages.protect(0, prot);
        (dies(pages.page(0), false), dies(pages.page(0), true))
    };
    equal("a page that may be read and written", effect(BOTH), (false, false));
    equal("one that may be read", effect(PROT_READ), (false, true));
    equal("one that may be nothing", effect(PROT_NONE), (true, true));
    equal("one that may be written can be read too", effect(PROT_WRITE), (false, false));
    equal("one that may be executed as well", effect(libc::PROT_EXEC), (false, true));
    equal("its content is there again in the end", (effect(BOTH), pages.get(0)), ((false, false), 8));
    call!(munmap(pages.address(1), PAGE)).expect("a page can be unmapped");
    let beyond = call!(mprotect(pages.address(0), 2 * PAGE, PROT_READ));
    equal("a change that runs into a hole says ENOMEM", beyond, Err(ENOMEM));
    equal("and has changed what comes before", dies(pages.page(0), true), true);
}

fn mremap(
    at: *mut c_void,
    old: usize,
    new: usize,
    flags: i32,
    to: *mut c_void,
) -> Result<*mut c_void, linux_tests::Errno> {
    call!(mremap(at, old, new, flags, to))
}

fn moving() {
    let pages = Pages::new(8);
    (0..8).for_each(|page| pages.set(page, page as u8 + 1));
    let null = ptr::null_mut();
    let shrunk = mremap(pages.address(0), 8 * PAGE, 3 * PAGE, 0, null);
    equal("a mapping can shrink where it is", shrunk, Ok(pages.address(0)));
    equal("and loses its end", [2, 3, 7].map(|page| readable(pages.page(page))), [true, false, false]);
    let grown = mremap(pages.address(0), 3 * PAGE, 5 * PAGE, 0, null);
    equal("it can grow into the hole", grown, Ok(pages.address(0)));
    equal("with fresh pages", [0, 2, 3, 4].map(|page| pages.get(page)), [1, 3, 0, 0]);
    let wall = map(pages.address(5), PAGE, BOTH, PRIVATE | MAP_FIXED, -1, 0);
    equal("up to the next mapping", wall, Ok(pages.address(5)));
    pages.protect(5, PROT_READ);
    let stuck = mremap(pages.address(0), 5 * PAGE, 7 * PAGE, 0, null);
    equal("which it does not pass", stuck, Err(ENOMEM));
    let moved = mremap(pages.address(0), 5 * PAGE, 7 * PAGE, MREMAP_MAYMOVE, null).expect("it can move");
    let at = |page: usize| peek(moved.cast::<u8>().wrapping_add(page * PAGE));
    ok("unless it may move", moved != pages.address(0));
    equal("with all it holds", [0, 1, 2, 3, 6].map(at), [1, 2, 3, 0, 0]);
    equal("and nothing is left behind", [0, 4].map(|page| readable(pages.page(page))), [false; 2]);
    let target = Pages::new(2);
    target.set(0, 99);
    let exact = mremap(moved, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, target.address(0));
    equal("a part can be moved to a given place", exact, Ok(target.address(0)));
    equal("over what was there", [0, 1].map(|page| target.get(page)), [1, 2]);
    call!(munmap(moved, 7 * PAGE)).expect("the rest can be unmapped");
}

fn forgetting() {
    let pages = Pages::new(4);
    (0..4).for_each(|page| pages.set(page, 6));
    let forget = |at, len| call!(madvise(at, len, MADV_DONTNEED));
    equal("pages can be given back", forget(pages.address(1), 2 * PAGE), Ok(0));
    equal("and are zeros then", [0, 1, 2, 3].map(|page| pages.get(page)), [6, 0, 0, 6]);
    pages.set(1, 3);
    equal("and can be used again", pages.get(1), 3);
    let shared = Pages::with(2, BOTH, MAP_SHARED | MAP_ANONYMOUS, -1);
    shared.set(0, 4);
    equal("pages that are shared", forget(shared.address(0), PAGE), Ok(0));
    equal("keep what they hold", shared.get(0), 4);
    equal(
        "advice that asks for nothing is taken",
        call!(madvise(pages.address(0), PAGE, MADV_WILLNEED)),
        Ok(0),
    );
    call!(munmap(pages.address(2), PAGE)).expect("a page can be unmapped");
    equal("advice across a hole says ENOMEM", forget(pages.address(0), 4 * PAGE), Err(ENOMEM));
    equal("and is followed on both sides of it", [0, 1, 3].map(|page| pages.get(page)), [0; 3]);
}

fn residence() {
    let pages = Pages::new(4);
    pages.set(1, 1);
    pages.set(3, 1);
    let mut resident = [9_u8; 4];
    equal("mincore answers", call!(mincore(pages.address(0), 4 * PAGE, resident.as_mut_ptr())), Ok(0));
    equal("with the pages that were touched", resident.map(|byte| byte & 1), [0, 1, 0, 1]);
    equal(
        "synchronising memory without a file is no error",
        call!(msync(pages.address(0), PAGE, libc::MS_SYNC)),
        Ok(0),
    );
}

fn brk(to: usize) -> usize {
    call!(syscall(SYS_brk, to)).unwrap_or(0) as usize
}

fn the_break() {
    let start = brk(0);
    ok("the break is somewhere", start != 0);
    equal("asking twice changes nothing", brk(0), start);
    equal("it can be raised", brk(start + 3 * PAGE + 100), start + 3 * PAGE + 100);
    let base = start as *mut u8;
    ok("over zeros", (0..3 * PAGE + 100).all(|at| peek(base.wrapping_add(at)) == 0));
    poke(base.wrapping_add(3 * PAGE), 5);
    equal("it can be lowered", brk(start + 10), start + 10);
    let next_page = (start + 10).next_multiple_of(PAGE) as *mut u8;
    ok("and its pages go", !readable(next_page));
    equal("raised again", brk(start + 4 * PAGE), start + 4 * PAGE);
    equal("it has fresh ones", peek(base.wrapping_add(3 * PAGE)), 0);
    equal("an impossible break changes nothing", brk(0x10), start + 4 * PAGE);
    equal("nor does one that is far too high", brk(1 << 60), start + 4 * PAGE);
    let child = fork(|| i32::from(brk(0) == start + 4 * PAGE));
    equal("a child has its parent's", process::end_of(child), Status::Exited(1));
}

fn deep(level: u32) -> u32 {
    let frame = std::hint::black_box([level; 256]);
    if level == 0 { 0 } else { deep(level - 1) + frame[9] - frame[11] + 1 }
}

fn the_stack() {
    equal("the stack grows by itself, for five megabytes here", deep(5000), 5000);
    equal("and can be used again", deep(5000), 5000);
    let child = fork(|| i32::from(deep(5000) == 5000));
    equal("a child's too", process::end_of(child), Status::Exited(1));
}

fn large() {
    const GIB: usize = 1 << 30;
    let huge = map(ptr::null_mut(), 64 * GIB, PROT_NONE, PRIVATE | MAP_NORESERVE, -1, 0);
    let huge = huge.expect("room costs nothing").cast::<u8>();
    call!(mprotect(huge.wrapping_add(33 * GIB).cast(), PAGE, BOTH)).expect("a part of it can be used");
    poke(huge.wrapping_add(33 * GIB), 1);
    equal(
        "sixty-four gigabytes of room can be had and one page of it used",
        peek(huge.wrapping_add(33 * GIB)),
        1,
    );
    equal("and given back", call!(munmap(huge.cast(), 64 * GIB)), Ok(0));
    let sparse = map(ptr::null_mut(), 4 * GIB, BOTH, PRIVATE | MAP_NORESERVE, -1, 0);
    let sparse = sparse.expect("room costs nothing").cast::<u8>();
    (0..64).for_each(|at| poke(sparse.wrapping_add(at * (GIB / 16)), at as u8));
    ok(
        "pages far apart do not meet",
        (0..64).all(|at| peek(sparse.wrapping_add(at * (GIB / 16))) == at as u8),
    );
    call!(munmap(sparse.cast(), 4 * GIB)).expect("it can be unmapped");
}

fn many() {
    let mut all: Vec<Pages> = Vec::new();
    for at in 0..500 {
        let prot = if at % 2 == 0 { BOTH } else { PROT_READ };
        all.push(Pages::with(1 + at % 3, prot, PRIVATE, -1));
        if at % 5 == 4 {
            all.swap_remove(at / 3);
        }
    }
    let mut ranges: Vec<_> = all.iter().map(|pages| pages.as_ptr_range()).collect();
    ranges.sort_by_key(|range| range.start);
    let apart = ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
    ok("four hundred mappings do not overlap", apart && ranges.len() == 400);
    ok("and are zeros", all.iter().all(|pages| pages.iter().all(|&byte| byte == 0)));
}
