//! compare
//!
//! What processes share and what they copy: fork, shared mappings, and files in memory.

use std::{fs, process::ExitCode, sync::atomic::Ordering::SeqCst};

use libc::{
    MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, MS_SYNC, O_CREAT, O_RDONLY, O_RDWR, PROT_READ, PROT_WRITE,
};
use linux_tests::{
    call, equal,
    files::{self, Fd, Scratch},
    memory::{PAGE, Pages, shared},
    ok,
    process::{self, Status, fork},
    run,
    times::until,
};

const BOTH: i32 = PROT_READ | PROT_WRITE;
const BUSYBOX: &std::ffi::CStr = c"/bin/busybox";

fn main() -> ExitCode {
    run(&[
        copies,
        copies_of_copies,
        read_only_and_unmapped,
        shared_pages,
        concurrent_additions,
        program_file,
        private_file,
        shared_file,
        written_through_its_own_mapping,
    ])
}

fn copies() {
    let pages = Pages::new(64);
    (0..64).for_each(|page| pages.set(page, page as u8));
    let [step, ..] = shared();
    let child = fork(|| {
        let same = (0..64).all(|page| pages.get(page) == page as u8);
        (0..32).for_each(|page| pages.set(page, 100));
        step.store(1, SeqCst);
        until(|| step.load(SeqCst) == 2);
        let first = (0..32).all(|page| pages.get(page) == 100);
        let second = (32..64).all(|page| pages.get(page) == page as u8);
        i32::from(same) | i32::from(first) << 1 | i32::from(second) << 2
    });
    until(|| step.load(SeqCst) == 1);
    ok("a child's writes are not its parent's", (0..64).all(|page| pages.get(page) == page as u8));
    (16..64).for_each(|page| pages.set(page, 200));
    step.store(2, SeqCst);
    equal("nor a parent's its child's", process::end_of(child), Status::Exited(7));
    ok(
        "the parent has its own to the end",
        (0..16).all(|page| pages.get(page) == page as u8) && pages.get(63) == 200,
    );
}

fn copies_of_copies() {
    let pages = Pages::new(8);
    pages.set(0, 1);
    let child = fork(|| {
        pages.set(1, 2);
        let grandchild = fork(|| {
            pages.set(2, 3);
            let sum = [0, 1, 2, 3].map(|page| i32::from(pages.get(page)));
            sum.iter().sum()
        });
        let inner = process::end_of(grandchild) == Status::Exited(6);
        i32::from(inner && pages.get(2) == 0 && pages.get(1) == 2)
    });
    equal("a grandchild has the pages of both, and its own", process::end_of(child), Status::Exited(1));
    equal("and the first none of theirs", [0, 1, 2].map(|page| pages.get(page)), [1, 0, 0]);
    let rounds = (0..50).all(|round| {
        pages.set(3, round);
        let child = fork(|| {
            let seen = pages.get(3);
            pages.set(3, 255);
            i32::from(seen == round)
        });
        process::end_of(child) == Status::Exited(1) && pages.get(3) == round
    });
    ok("fifty children each see the page as it was when they were made", rounds);
}

fn read_only_and_unmapped() {
    let pages = Pages::new(3);
    pages.set(0, 5);
    pages.protect(0, PROT_READ);
    let child = fork(|| {
        pages.protect(0, BOTH);
        pages.set(0, 6);
        call!(munmap(pages.address(1), PAGE)).map_or(0, |_| i32::from(pages.get(0)))
    });
    equal("a child can unprotect and unmap its copies", process::end_of(child), Status::Exited(6));
    pages.set(1, 7);
    equal("and its parent has what it had", (pages.get(0), pages.get(1)), (5, 7));
}

fn shared_pages() {
    let pages = Pages::with(16, BOTH, MAP_SHARED | MAP_ANONYMOUS, -1);
    pages.set(3, 9);
    let child = fork(|| {
        let seen = pages.get(3);
        (8..16).for_each(|page| pages.set(page, page as u8));
        i32::from(seen)
    });
    equal("a child sees a shared page", process::end_of(child), Status::Exited(9));
    ok("its parent sees what it wrote", (8..16).all(|page| pages.get(page) == page as u8));
    let child = fork(|| {
        let grandchild = fork(|| {
            pages.set(0, 77);
            0
        });
        process::end_of(grandchild);
        0
    });
    process::end_of(child);
    equal("also what a grandchild wrote", pages.get(0), 77);
}

fn concurrent_additions() {
    let [sum, ..] = shared();
    let children: Vec<_> = (0..8)
        .map(|_| {
            fork(|| {
                for _ in 0..2000 {
                    sum.fetch_add(1, SeqCst);
                }
                0
            })
        })
        .collect();
    for child in children {
        process::end_of(child);
    }
    equal("eight processes add sixteen thousand times to one word", sum.load(SeqCst), 16_000);
}

fn program_file() {
    let bytes = fs::read("/bin/busybox").expect("there is busybox");
    let fd = call!(open(BUSYBOX.as_ptr(), O_RDONLY)).expect("it can be opened");
    let count = bytes.len().div_ceil(PAGE);
    let mapped = Pages::with(count, PROT_READ, MAP_PRIVATE, fd);
    files::close(fd);
    ok("a mapped file is what is read", mapped.starts_with(&bytes));
    ok("and zeros behind its end", mapped[bytes.len()..].iter().all(|&byte| byte == 0));
    drop(mapped);
    let fd = call!(open(BUSYBOX.as_ptr(), O_RDONLY)).expect("it can be opened");
    let offset = 5 * PAGE;
    let part =
        linux_tests::memory::map(std::ptr::null_mut(), 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, offset as i64);
    let part = part.expect("a part can be mapped").cast::<u8>();
    let same = (0..2 * PAGE).all(|at| linux_tests::memory::peek(part.wrapping_add(at)) == bytes[offset + at]);
    ok("a part of it from an offset on as well", same);
    files::close(fd);
}

fn new_file(name: &std::ffi::CStr, pages: usize) -> Fd {
    let fd = call!(open(name.as_ptr(), O_RDWR | O_CREAT, 0o600)).expect("a file can be made");
    for page in 1..=pages as u8 {
        files::write(fd, &[page; PAGE]).expect("it can be written");
    }
    fd
}

fn private_file() {
    let _scratch = Scratch::new();
    let fd = new_file(c"file", 4);
    let mapped = Pages::with(4, BOTH, MAP_PRIVATE, fd);
    mapped.set(1, 99);
    equal("a write to a private mapping is seen in it", [0, 1, 2].map(|page| mapped.get(page)), [1, 99, 3]);
    let file = fs::read("file").expect("it can be read");
    equal("and not in the file", file[PAGE], 2);
    let child = fork(|| {
        mapped.set(2, 55);
        i32::from(mapped.get(1))
    });
    equal("a child has a copy of it", process::end_of(child), Status::Exited(99));
    equal("of its own", mapped.get(2), 3);
    let forgotten = call!(madvise(mapped.address(1), PAGE, libc::MADV_DONTNEED));
    equal("when it is forgotten the file's page is there again", (forgotten, mapped.get(1)), (Ok(0), 2));
    call!(unlink(c"file".as_ptr())).expect("a file can be removed");
    files::close(fd);
    equal("a file that is gone and closed stays mapped", [0, 3].map(|page| mapped.get(page)), [1, 4]);
}

fn shared_file() {
    let _scratch = Scratch::new();
    let fd = new_file(c"file", 3);
    let (mapped, other) = (Pages::with(3, BOTH, MAP_SHARED, fd), Pages::with(3, BOTH, MAP_SHARED, fd));
    mapped.set(1, 42);
    equal("a write to a shared mapping is in every other", other.get(1), 42);
    equal("and in the file", fs::read("file").expect("it can be read")[PAGE], 42);
    call!(pwrite(fd, b"X".as_ptr().cast(), 1, 2 * PAGE as i64)).expect("it can be written");
    equal("a write to the file is in the mappings", (mapped.get(2), other.get(2)), (b'X', b'X'));
    let child = fork(|| {
        other.set(0, 33);
        0
    });
    process::end_of(child);
    equal("a child's write too", (mapped.get(0), fs::read("file").expect("it can be read")[0]), (33, 33));
    equal("msync is done", call!(msync(mapped.address(0), 3 * PAGE, MS_SYNC)), Ok(0));
    files::close(fd);
    drop((mapped, other));
    let file = fs::read("file").expect("it can be read");
    equal("all of it is there when nobody maps it", [0, PAGE, 2 * PAGE].map(|at| file[at]), [33, 42, b'X']);
}

/// Once it was that the machine stopped: a file is written from a mapping of itself.
fn written_through_its_own_mapping() {
    let _scratch = Scratch::new();
    let fd = new_file(c"file", 4);
    let mapped = Pages::with(4, BOTH, MAP_SHARED, fd);
    let written = call!(pwrite(fd, mapped.address(2), PAGE, 0));
    equal("a file can be written from its own mapping", written, Ok(PAGE as isize));
    equal("with what was there", [0, 1, 2].map(|page| mapped.get(page)), [3, 2, 3]);
    let read = call!(pread(fd, mapped.address(1), PAGE, 3 * PAGE as i64));
    equal("and read into it", read, Ok(PAGE as isize));
    equal("which changes the file", fs::read("file").expect("it can be read")[PAGE], 4);
    let overlap = call!(pwrite(fd, mapped.address(0), 2 * PAGE, 100));
    equal("even onto itself", overlap, Ok(2 * PAGE as isize));
    files::close(fd);
}
