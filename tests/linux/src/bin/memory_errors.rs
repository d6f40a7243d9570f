//! compare
//!
//! The error of every way to ask for memory wrongly.

use std::{process::ExitCode, ptr};

use libc::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED, MREMAP_FIXED, MREMAP_MAYMOVE, MS_ASYNC, MS_INVALIDATE,
    MS_SYNC, O_CREAT, O_RDONLY, O_RDWR, O_WRONLY, PROT_READ, PROT_WRITE, c_void,
};
use linux_tests::{
    Errno, call, equal,
    errno::{EACCES, EBADF, EBUSY, EFAULT, EINVAL, ENODEV, ENOMEM},
    files::{self, Fd, Scratch},
    memory::{PAGE, Pages, map},
    run,
};

const PRIVATE: i32 = MAP_PRIVATE | MAP_ANONYMOUS;
const BOTH: i32 = PROT_READ | PROT_WRITE;
const ODD: *mut c_void = 0x1001 as *mut c_void;
/// The first address that no program may use.
const TOP: usize = 0x7fff_ffff_f000;

fn main() -> ExitCode {
    run(&[mapping, mapping_files, unmapping, protecting, remapping, advice, synchronising, locking])
}

fn anywhere(len: usize, prot: i32, flags: i32, fd: Fd, offset: i64) -> Result<(), Errno> {
    map(ptr::null_mut(), len, prot, flags, fd, offset).map(drop)
}

fn mapping() {
    equal("mmap of nothing", anywhere(0, BOTH, PRIVATE, -1, 0), Err(EINVAL));
    equal("mmap that is neither private nor shared", anywhere(PAGE, BOTH, MAP_ANONYMOUS, -1, 0), Err(EINVAL));
    equal("mmap of too much", anywhere(usize::MAX - PAGE, BOTH, PRIVATE, -1, 0), Err(ENOMEM));
    equal(
        "mmap of so much that its pages cannot be counted",
        anywhere(usize::MAX, BOTH, PRIVATE, -1, 0),
        Err(ENOMEM),
    );
    equal("mmap of half of all addresses", anywhere(1 << 47, BOTH, PRIVATE, -1, 0), Err(ENOMEM));
    let fixed = |at: usize, len| map(at as *mut c_void, len, BOTH, PRIVATE | MAP_FIXED, -1, 0).map(drop);
    equal("mmap at an odd address", fixed(ODD as usize, PAGE), Err(EINVAL));
    equal("mmap where the kernel is", fixed(TOP, PAGE), Err(ENOMEM));
    equal("mmap that ends there", fixed(TOP - PAGE, 2 * PAGE), Err(ENOMEM));
    equal("mmap that wraps around", fixed(TOP - PAGE, usize::MAX - PAGE), Err(ENOMEM));
    equal("mmap at an odd offset", anywhere(PAGE, BOTH, PRIVATE, -1, 77), Err(EINVAL));
}

fn mapping_files() {
    let _scratch = Scratch::new();
    let open = |flags| call!(open(c"file".as_ptr(), flags | O_CREAT, 0o600)).expect("a file can be opened");
    let (read, write, both) = (open(O_RDONLY), open(O_WRONLY), open(O_RDWR));
    let ask = |prot, flags, fd| anywhere(PAGE, prot, flags, fd, 0);
    equal("mmap of a closed descriptor", ask(PROT_READ, MAP_PRIVATE, 77), Err(EBADF));
    equal("mmap of -1", ask(PROT_READ, MAP_SHARED, -1), Err(EBADF));
    equal("mmap of a file that cannot be read", ask(PROT_READ, MAP_PRIVATE, write), Err(EACCES));
    equal("shared as well", ask(BOTH, MAP_SHARED, write), Err(EACCES));
    equal("mmap to write a file that is read-only", ask(BOTH, MAP_SHARED, read), Err(EACCES));
    equal("which privately is allowed", ask(BOTH, MAP_PRIVATE, read), Ok(()));
    equal("mmap of an empty file is allowed", ask(BOTH, MAP_SHARED, both), Ok(()));
    equal("mmap of a file at an odd offset", anywhere(PAGE, BOTH, MAP_SHARED, both, 100), Err(EINVAL));
    equal("mmap of no bytes of a file", anywhere(0, BOTH, MAP_SHARED, both, 0), Err(EINVAL));
    let (from, to) = files::pipe();
    equal("mmap of a pipe", ask(PROT_READ, MAP_PRIVATE, from), Err(ENODEV));
    let folder = call!(open(c".".as_ptr(), O_RDONLY)).expect("a folder can be opened");
    equal("mmap of a folder", ask(PROT_READ, MAP_PRIVATE, folder), Err(ENODEV));
    [read, write, both, from, to, folder].into_iter().for_each(files::close);
}

fn unmapping() {
    let pages = Pages::new(1);
    equal("munmap of nothing", call!(munmap(pages.address(0), 0)), Err(EINVAL));
    equal("munmap at an odd address", call!(munmap(ODD, PAGE)), Err(EINVAL));
    equal("munmap where the kernel is", call!(munmap(TOP as *mut c_void, PAGE)), Err(EINVAL));
    equal("munmap of too much", call!(munmap(pages.address(0), usize::MAX - PAGE)), Err(EINVAL));
    equal("munmap where nothing is", call!(munmap(0x10_0000 as *mut c_void, PAGE)), Ok(0));
}

fn protecting() {
    let pages = Pages::new(1);
    let protect = |at, len, prot| call!(mprotect(at, len, prot));
    equal("mprotect of nothing is allowed", protect(pages.address(0), 0, PROT_READ), Ok(0));
    equal("mprotect at an odd address", protect(ODD, PAGE, PROT_READ), Err(EINVAL));
    equal("mprotect where nothing is", protect(0x10_0000 as *mut c_void, PAGE, PROT_READ), Err(ENOMEM));
    equal("mprotect of too much", protect(pages.address(0), usize::MAX - PAGE, PROT_READ), Err(ENOMEM));
    equal("mprotect with unknown bits", protect(pages.address(0), PAGE, 0x100), Err(EINVAL));
    let _scratch = Scratch::new();
    let fd = call!(open(c"file".as_ptr(), O_RDONLY | O_CREAT, 0o600)).expect("a file can be opened");
    let constant = Pages::with(1, PROT_READ, MAP_SHARED, fd);
    equal(
        "mprotect to write a file that is read-only",
        protect(constant.address(0), PAGE, BOTH),
        Err(EACCES),
    );
    files::close(fd);
}

fn remapping() {
    let pages = Pages::new(4);
    let remap = |at, old, new, flags, to: *mut c_void| call!(mremap(at, old, new, flags, to)).map(drop);
    let (at, null) = (pages.address(0), ptr::null_mut());
    equal("mremap to nothing", remap(at, PAGE, 0, 0, null), Err(EINVAL));
    equal("mremap at an odd address", remap(ODD, PAGE, PAGE, 0, null), Err(EINVAL));
    equal("mremap with unknown flags", remap(at, PAGE, PAGE, 0x40, null), Err(EINVAL));
    equal(
        "mremap to a place without leave to move",
        remap(at, PAGE, PAGE, MREMAP_FIXED, pages.address(2)),
        Err(EINVAL),
    );
    let to = MREMAP_FIXED | MREMAP_MAYMOVE;
    equal("mremap to an odd place", remap(at, PAGE, PAGE, to, ODD), Err(EINVAL));
    equal("mremap onto itself", remap(at, 2 * PAGE, 2 * PAGE, to, pages.address(1)), Err(EINVAL));
    equal(
        "mremap where nothing is",
        remap(0x10_0000 as *mut c_void, PAGE, 2 * PAGE, MREMAP_MAYMOVE, null),
        Err(EFAULT),
    );
    equal("mremap of more than there is", remap(at, 64 * PAGE, 65 * PAGE, MREMAP_MAYMOVE, null), Err(EFAULT));
    equal("mremap to too much", remap(at, PAGE, 1 << 46, MREMAP_MAYMOVE, null), Err(ENOMEM));
}

fn advice() {
    let pages = Pages::new(1);
    let advise = |at, len, advice| call!(madvise(at, len, advice));
    equal("unknown advice", advise(pages.address(0), PAGE, 999), Err(EINVAL));
    equal("advice at an odd address", advise(ODD, PAGE, libc::MADV_DONTNEED), Err(EINVAL));
    equal(
        "advice where nothing is",
        advise(0x10_0000 as *mut c_void, PAGE, libc::MADV_DONTNEED),
        Err(ENOMEM),
    );
    equal("advice of nothing is allowed", advise(pages.address(0), 0, libc::MADV_DONTNEED), Ok(0));
    let mut residence = [0_u8; 4];
    let mut ask = |at, len| call!(mincore(at, len, residence.as_mut_ptr()));
    equal("mincore at an odd address", ask(ODD, PAGE), Err(EINVAL));
    equal("mincore where nothing is", ask(0x10_0000 as *mut c_void, PAGE), Err(ENOMEM));
    equal(
        "mincore with no place for its answer",
        call!(mincore(pages.address(0), PAGE, ptr::null_mut())),
        Err(EFAULT),
    );
}

fn synchronising() {
    let pages = Pages::new(1);
    let sync = |at, len, flags| call!(msync(at, len, flags));
    equal("msync at once and later", sync(pages.address(0), PAGE, MS_SYNC | MS_ASYNC), Err(EINVAL));
    equal("msync with unknown flags", sync(pages.address(0), PAGE, 0x40), Err(EINVAL));
    equal("msync at an odd address", sync(ODD, PAGE, MS_SYNC), Err(EINVAL));
    equal("msync where nothing is", sync(0x10_0000 as *mut c_void, PAGE, MS_SYNC), Err(ENOMEM));
    equal("msync of nothing is allowed", sync(pages.address(0), 0, MS_SYNC), Ok(0));
    call!(mlock(pages.address(0), PAGE)).expect("a page can be locked");
    equal("invalidating a locked page", sync(pages.address(0), PAGE, MS_INVALIDATE), Err(EBUSY));
}

fn locking() {
    let pages = Pages::new(2);
    equal("mlock where nothing is", call!(mlock(0x10_0000 as *const c_void, PAGE)), Err(ENOMEM));
    equal("mlock of a page", call!(mlock(pages.address(0), PAGE)), Ok(0));
    equal("munlock of it", call!(munlock(pages.address(0), PAGE)), Ok(0));
    equal("mlockall with unknown flags", call!(mlockall(0x40)), Err(EINVAL));
}
