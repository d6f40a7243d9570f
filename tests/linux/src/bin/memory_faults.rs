//! compare
//!
//! System calls that are handed addresses where nothing is: EFAULT, and nothing done.

use std::{cell::Cell, process::ExitCode};

use libc::{
    AT_FDCWD, F_GETLK, F_SETLK, FIONREAD, FUTEX_WAIT, O_CREAT, O_RDONLY, O_RDWR, P_PID, PROT_NONE,
    RLIMIT_NOFILE, SIG_SETMASK, SIGUSR1, WEXITED, WNOHANG, c_long, iovec,
};
use linux_tests::{
    Errno, call, equal,
    errno::EFAULT,
    files::{self, Fd, Scratch},
    memory::{PAGE, Pages},
    ok,
    process::{self, fork},
    run,
};

/// Nowhere near the start, where the kernel is, and where no address can be.
const NOWHERE: [usize; 3] = [0x18, 0xffff_8000_0000_1000, 0x1234_5678_0000_0000];

/// What the calls work on.
struct World {
    file: Fd,
    folder: Fd,
    from: Fd,
    path: usize,
    /// Room for any answer.
    room: Pages,
}

impl World {
    fn room(&self) -> usize {
        self.room.address(0) as usize
    }
}

/// A call: its name, and its number and arguments with one that is bad.
type Row = (&'static str, fn(&World, usize) -> (c_long, [usize; 5]));

const FILES: &[Row] = &[
    ("read", |world, bad| (libc::SYS_read, [world.file as usize, bad, 8, 0, 0])),
    ("write", |world, bad| (libc::SYS_write, [world.file as usize, bad, 8, 0, 0])),
    ("pread64", |world, bad| (libc::SYS_pread64, [world.file as usize, bad, 8, 0, 0])),
    ("pwrite64", |world, bad| (libc::SYS_pwrite64, [world.file as usize, bad, 8, 0, 0])),
    ("read from a pipe", |world, bad| (libc::SYS_read, [world.from as usize, bad, 1, 0, 0])),
    ("readv of bad ranges", |world, bad| (libc::SYS_readv, [world.file as usize, bad, 2, 0, 0])),
    ("writev of bad ranges", |world, bad| (libc::SYS_writev, [world.file as usize, bad, 2, 0, 0])),
    ("readv into a bad range", |world, bad| {
        (libc::SYS_readv, [world.file as usize, range(world, bad), 1, 0, 0])
    }),
    ("writev from a bad range", |world, bad| {
        (libc::SYS_writev, [world.file as usize, range(world, bad), 1, 0, 0])
    }),
    ("fstat", |world, bad| (libc::SYS_fstat, [world.file as usize, bad, 0, 0, 0])),
    ("getdents64", |world, bad| (libc::SYS_getdents64, [world.folder as usize, bad, 512, 0, 0])),
    ("fcntl F_GETLK", |world, bad| (libc::SYS_fcntl, [world.file as usize, F_GETLK as usize, bad, 0, 0])),
    ("fcntl F_SETLK", |world, bad| (libc::SYS_fcntl, [world.file as usize, F_SETLK as usize, bad, 0, 0])),
    ("ioctl FIONREAD", |world, bad| (libc::SYS_ioctl, [world.from as usize, FIONREAD as usize, bad, 0, 0])),
    ("sendfile", |world, bad| (libc::SYS_sendfile, [1, world.file as usize, bad, 0, 0])),
    ("pipe2", |_, bad| (libc::SYS_pipe2, [bad, 0, 0, 0, 0])),
    ("socketpair", |_, bad| (libc::SYS_socketpair, [1, 1, 0, bad, 0])),
    ("poll", |_, bad| (libc::SYS_poll, [bad, 1, 0, 0, 0])),
    ("select", |_, bad| (libc::SYS_select, [1, bad, 0, 0, 0])),
];

const NAMES: &[Row] = &[
    ("open", |_, bad| (libc::SYS_open, [bad, O_RDONLY as usize, 0, 0, 0])),
    ("openat", |_, bad| (libc::SYS_openat, [AT_FDCWD as usize, bad, 0, 0, 0])),
    ("stat of a bad name", |world, bad| (libc::SYS_stat, [bad, world.room(), 0, 0, 0])),
    ("stat into a bad place", |world, bad| (libc::SYS_stat, [world.path, bad, 0, 0, 0])),
    ("lstat", |world, bad| (libc::SYS_lstat, [world.path, bad, 0, 0, 0])),
    ("newfstatat", |world, bad| (libc::SYS_newfstatat, [AT_FDCWD as usize, world.path, bad, 0, 0])),
    ("access", |_, bad| (libc::SYS_access, [bad, 0, 0, 0, 0])),
    ("mkdir", |_, bad| (libc::SYS_mkdir, [bad, 0o700, 0, 0, 0])),
    ("rmdir", |_, bad| (libc::SYS_rmdir, [bad, 0, 0, 0, 0])),
    ("unlink", |_, bad| (libc::SYS_unlink, [bad, 0, 0, 0, 0])),
    ("rename from", |world, bad| (libc::SYS_rename, [bad, world.path, 0, 0, 0])),
    ("rename to", |world, bad| (libc::SYS_rename, [world.path, bad, 0, 0, 0])),
    ("link from", |world, bad| (libc::SYS_link, [bad, world.path, 0, 0, 0])),
    ("link to", |world, bad| (libc::SYS_link, [world.path, bad, 0, 0, 0])),
    ("symlink to", |world, bad| (libc::SYS_symlink, [bad, world.path, 0, 0, 0])),
    ("symlink at", |world, bad| (libc::SYS_symlink, [world.path, bad, 0, 0, 0])),
    ("readlink of", |world, bad| (libc::SYS_readlink, [bad, world.room(), 64, 0, 0])),
    ("readlink into", |_, bad| (libc::SYS_readlink, [c"link".as_ptr() as usize, bad, 64, 0, 0])),
    ("chmod", |_, bad| (libc::SYS_chmod, [bad, 0o600, 0, 0, 0])),
    ("chown", |_, bad| (libc::SYS_chown, [bad, 0, 0, 0, 0])),
    ("truncate", |_, bad| (libc::SYS_truncate, [bad, 0, 0, 0, 0])),
    ("utimensat", |world, bad| (libc::SYS_utimensat, [AT_FDCWD as usize, world.path, bad, 0, 0])),
    ("chdir", |_, bad| (libc::SYS_chdir, [bad, 0, 0, 0, 0])),
    ("getcwd", |_, bad| (libc::SYS_getcwd, [bad, 100, 0, 0, 0])),
    ("statfs", |world, bad| (libc::SYS_statfs, [world.path, bad, 0, 0, 0])),
    ("execve of a bad name", |world, bad| (libc::SYS_execve, [bad, world.room(), world.room(), 0, 0])),
    ("execve with bad arguments", |_, bad| {
        (libc::SYS_execve, [c"/bin/busybox".as_ptr() as usize, bad, 0, 0, 0])
    }),
    ("execve with a bad environment", |world, bad| {
        (libc::SYS_execve, [c"/bin/busybox".as_ptr() as usize, world.room(), bad, 0, 0])
    }),
];

const SIGNALS_AND_TIME: &[Row] = &[
    ("rt_sigaction to set", |_, bad| (libc::SYS_rt_sigaction, [SIGUSR1 as usize, bad, 0, 8, 0])),
    ("rt_sigaction to get", |_, bad| (libc::SYS_rt_sigaction, [SIGUSR1 as usize, 0, bad, 8, 0])),
    ("rt_sigprocmask to set", |_, bad| (libc::SYS_rt_sigprocmask, [SIG_SETMASK as usize, bad, 0, 8, 0])),
    ("rt_sigprocmask to get", |_, bad| (libc::SYS_rt_sigprocmask, [SIG_SETMASK as usize, 0, bad, 8, 0])),
    ("rt_sigpending", |_, bad| (libc::SYS_rt_sigpending, [bad, 8, 0, 0, 0])),
    ("rt_sigsuspend", |_, bad| (libc::SYS_rt_sigsuspend, [bad, 8, 0, 0, 0])),
    ("rt_sigtimedwait", |_, bad| (libc::SYS_rt_sigtimedwait, [bad, 0, 0, 8, 0])),
    ("sigaltstack", |_, bad| (libc::SYS_sigaltstack, [bad, 0, 0, 0, 0])),
    ("sigaltstack to get", |_, bad| (libc::SYS_sigaltstack, [0, bad, 0, 0, 0])),
    ("nanosleep", |_, bad| (libc::SYS_nanosleep, [bad, 0, 0, 0, 0])),
    ("clock_nanosleep", |_, bad| (libc::SYS_clock_nanosleep, [1, 0, bad, 0, 0])),
    ("clock_gettime", |_, bad| (libc::SYS_clock_gettime, [1, bad, 0, 0, 0])),
    ("gettimeofday", |_, bad| (libc::SYS_gettimeofday, [bad, 0, 0, 0, 0])),
    ("time", |_, bad| (libc::SYS_time, [bad, 0, 0, 0, 0])),
    ("times", |_, bad| (libc::SYS_times, [bad, 0, 0, 0, 0])),
    ("getitimer", |_, bad| (libc::SYS_getitimer, [0, bad, 0, 0, 0])),
    ("setitimer", |_, bad| (libc::SYS_setitimer, [1, bad, 0, 0, 0])),
    ("futex", |_, bad| (libc::SYS_futex, [bad & !3, FUTEX_WAIT as usize, 0, 0, 0])),
];

const PROCESSES: &[Row] = &[
    ("wait4", |_, bad| (libc::SYS_wait4, [zombie(), bad, 0, 0, 0])),
    ("wait4 for resources", |_, bad| (libc::SYS_wait4, [zombie(), 0, 0, bad, 0])),
    ("waitid", |_, bad| (libc::SYS_waitid, [P_PID as usize, zombie(), bad, WEXITED as usize, 0])),
    ("getrusage", |_, bad| (libc::SYS_getrusage, [0, bad, 0, 0, 0])),
    ("prlimit64 to set", |_, bad| (libc::SYS_prlimit64, [0, RLIMIT_NOFILE as usize, bad, 0, 0])),
    ("prlimit64 to get", |_, bad| (libc::SYS_prlimit64, [0, RLIMIT_NOFILE as usize, 0, bad, 0])),
    ("uname", |_, bad| (libc::SYS_uname, [bad, 0, 0, 0, 0])),
    ("sysinfo", |_, bad| (libc::SYS_sysinfo, [bad, 0, 0, 0, 0])),
    ("getrandom", |_, bad| (libc::SYS_getrandom, [bad, 8, 0, 0, 0])),
    ("sched_getaffinity", |_, bad| (libc::SYS_sched_getaffinity, [0, 128, bad, 0, 0])),
    ("getresuid", |_, bad| (libc::SYS_getresuid, [bad, bad, bad, 0, 0])),
    ("setgroups", |_, bad| (libc::SYS_setgroups, [1, bad, 0, 0, 0])),
];

fn main() -> ExitCode {
    run(&[all_rows, nothing_leaks, at_the_edge, hidden_pages])
}

thread_local! {
    static RANGE: Cell<iovec> = const { Cell::new(iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }) };
}

/// The address of a range that is itself at a good place.
fn range(_: &World, bad: usize) -> usize {
    RANGE.with(|range| {
        range.set(iovec { iov_base: bad as *mut libc::c_void, iov_len: 8 });
        range.as_ptr() as usize
    })
}

/// A child that has ended.
fn zombie() -> usize {
    let child = fork(|| 0);
    process::until_zombie(child);
    child as usize
}

fn all_rows() {
    let _scratch = Scratch::new();
    let file = call!(open(c"file".as_ptr(), O_RDWR | O_CREAT, 0o600)).expect("a file can be made");
    files::write(file, b"many bytes to be read").expect("it can be written");
    call!(lseek(file, 0, libc::SEEK_SET)).expect("it can be read from the start");
    call!(symlink(c"file".as_ptr(), c"link".as_ptr())).expect("a link can be made");
    let folder = call!(open(c".".as_ptr(), O_RDONLY)).expect("a folder can be opened");
    let (from, to) = files::pipe();
    files::write(to, b"abcdefgh").expect("a pipe takes bytes");
    let world = World { file, folder, from, path: c"file".as_ptr() as usize, room: Pages::new(1) };
    for (name, row) in [FILES, NAMES, SIGNALS_AND_TIME, PROCESSES].into_iter().flatten() {
        let answers = NOWHERE.map(|bad| {
            let (number, [a, b, c, d, e]) = row(&world, bad);
            let answer: Result<c_long, Errno> = call!(syscall(number, a, b, c, d, e));
            let _ = process::wait(-1, WNOHANG);
            answer.map_or_else(|error| error, |_| Errno(0))
        });
        equal(&format!("{name} says EFAULT"), answers, [EFAULT; 3]);
    }
    let position = call!(lseek(file, 0, libc::SEEK_CUR));
    equal("the file is where it was", position, Ok(0));
    equal("and as it was", std::fs::read("file").ok().as_deref(), Some(&b"many bytes to be read"[..]));
    [file, folder, from, to].into_iter().for_each(files::close);
}

fn nothing_leaks() {
    let lowest = || {
        let fd = call!(dup(1)).expect("a descriptor can be copied");
        files::close(fd);
        fd
    };
    let before = lowest();
    for bad in NOWHERE {
        let _ = call!(syscall(libc::SYS_pipe2, bad, 0));
        let _ = call!(syscall(libc::SYS_socketpair, 1, 1, 0, bad));
    }
    equal("a pipe that nobody was told of has no descriptors", lowest(), before);
}

/// A range that begins well and ends badly: a part is done, or nothing, but never more.
fn at_the_edge() {
    let _scratch = Scratch::new();
    let pages = Pages::new(2);
    call!(munmap(pages.address(1), PAGE)).expect("a page can be unmapped");
    let edge = pages.page(1).wrapping_sub(4);
    let file = call!(open(c"file".as_ptr(), O_RDWR | O_CREAT, 0o600)).expect("a file can be made");
    let written = call!(write(file, edge.cast(), 8));
    ok("a write over an edge writes a part or says EFAULT", written == Ok(4) || written == Err(EFAULT));
    let len = call!(lseek(file, 0, libc::SEEK_END));
    ok("and the file has no more", len == Ok(written.unwrap_or(0) as i64));
    call!(pwrite(file, b"abcdefgh".as_ptr().cast(), 8, 0)).expect("it can be written");
    let read = call!(pread(file, edge.cast(), 8, 0));
    ok("a read over an edge reads a part or says EFAULT", read == Ok(4) || read == Err(EFAULT));
    let path = edge;
    b"abcd".iter().enumerate().for_each(|(at, &byte)| linux_tests::memory::poke(path.wrapping_add(at), byte));
    let open = call!(open(path.cast::<libc::c_char>().cast_const(), O_RDONLY));
    equal("a name that runs over an edge says EFAULT", open.map(drop), Err(EFAULT));
    linux_tests::memory::poke(path.wrapping_add(3), 0);
    call!(rename(c"file".as_ptr(), c"abc".as_ptr())).expect("a file can be renamed");
    let open = call!(open(path.cast::<libc::c_char>().cast_const(), O_RDONLY));
    ok("one that ends just before it does not", open.is_ok());
    files::close(file);
}

fn hidden_pages() {
    let pages = Pages::new(1);
    pages.protect(0, libc::PROT_READ);
    let (from, to) = files::pipe();
    files::write(to, b"abc").expect("a pipe takes bytes");
    equal("the kernel does not write where we may not", call!(read(from, pages.address(0), 3)), Err(EFAULT));
    pages.protect(0, PROT_NONE);
    equal("nor read", call!(write(to, pages.address(0), 3)), Err(EFAULT));
    pages.protect(0, libc::PROT_READ | libc::PROT_WRITE);
    equal("with leave it does", call!(read(from, pages.address(0), 3)), Ok(3));
}
