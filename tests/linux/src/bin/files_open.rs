//! compare
//!
//! Opening files and what a descriptor is: flags, copies, locks, and what fork and exec do to it.

use std::{
    ffi::{CStr, CString},
    fs,
    process::ExitCode,
};

use libc::{
    AT_FDCWD, AT_SYMLINK_FOLLOW, F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_GETFL, F_SETFD, F_SETFL, FD_CLOEXEC,
    LOCK_EX, LOCK_NB, LOCK_SH, LOCK_UN, O_ACCMODE, O_APPEND, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL,
    O_NOFOLLOW, O_NONBLOCK, O_PATH, O_RDONLY, O_RDWR, O_TMPFILE, O_TRUNC, O_WRONLY, SEEK_CUR, SEEK_SET,
};
use linux_tests::{
    Errno, call, equal,
    errno::{EAGAIN, EBADF, EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR},
    exec_self,
    files::{Fd, Scratch, close, read, write},
    ok,
    process::{self, Status, fork},
    run_with,
};

fn main() -> ExitCode {
    run_with(
        &[("is-open", |arguments| {
            let fd = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(-1);
            i32::from(call!(fcntl(fd, F_GETFD)).is_ok())
        })],
        &[
            creating,
            without_a_name,
            kinds_of_files,
            access_modes,
            appending,
            truncating,
            copies,
            lowest_free,
            flags,
            across_fork,
            across_exec,
            locks,
            closing,
        ],
    )
}

fn open(name: &CStr, flags: i32) -> Result<Fd, Errno> {
    call!(open(name.as_ptr(), flags, 0o644))
}

fn content(name: &str) -> Vec<u8> {
    fs::read(name).expect("a file can be read")
}

fn position(fd: Fd) -> i64 {
    call!(lseek(fd, 0, SEEK_CUR)).expect("a file has a position")
}

fn creating() {
    let _scratch = Scratch::new();
    equal("a file that is not there is not opened", open(c"new", O_RDWR), Err(ENOENT));
    let made = open(c"new", O_RDWR | O_CREAT | O_EXCL).expect("it can be made");
    equal("O_EXCL makes it once", open(c"new", O_RDWR | O_CREAT | O_EXCL), Err(EEXIST));
    let again = open(c"new", O_RDWR | O_CREAT).expect("O_CREAT opens it too");
    write(made, b"one file").expect("it can be written");
    equal("both are the same file", read(again, 100), Ok(b"one file".to_vec()));
    equal(
        "O_EXCL does not follow a link",
        {
            call!(symlink(c"nowhere".as_ptr(), c"dangling".as_ptr())).expect("a link can be made");
            open(c"dangling", O_RDWR | O_CREAT | O_EXCL)
        },
        Err(EEXIST),
    );
    let through = open(c"dangling", O_RDWR | O_CREAT);
    ok(
        "O_CREAT does, and makes what it names",
        through.is_ok() && fs::exists("nowhere").is_ok_and(|there| there),
    );
    equal("O_CREAT in a folder that is not there", open(c"no/new", O_RDWR | O_CREAT), Err(ENOENT));
    equal("a name of nothing", open(c"", O_RDWR | O_CREAT), Err(ENOENT));
    equal("a name that ends as a folder's", open(c"other/", O_RDWR | O_CREAT), Err(EISDIR));
    equal(
        "a new file opened to read only can be empty",
        open(c"empty", O_RDONLY | O_CREAT).map(|fd| read(fd, 1)),
        Ok(Ok(vec![])),
    );
    let mode_less =
        call!(open(c"secret".as_ptr(), O_WRONLY | O_CREAT, 0)).expect("a file can be made without leave");
    equal("who made a file without leave can still write it", write(mode_less, b"x"), Ok(1));
}

fn without_a_name() {
    let _scratch = Scratch::new();
    fs::write("file", "x").expect("a file can be made");
    let link = |fd: Fd, name: &CStr| {
        let own = CString::new(format!("/proc/self/fd/{fd}")).expect("a path");
        call!(linkat(AT_FDCWD, own.as_ptr(), AT_FDCWD, name.as_ptr(), AT_SYMLINK_FOLLOW))
    };
    let count = || fs::read_dir(".").map(Iterator::count).ok();
    let made = open(c".", O_TMPFILE | O_RDWR).expect("a file can do without a name");
    equal("it can be written", write(made, b"nobody's"), Ok(8));
    equal("it is not in the folder", count(), Some(1));
    equal(
        "until it is given a name",
        link(made, c"somebody").map(|_| content("somebody")),
        Ok(b"nobody's".to_vec()),
    );
    equal("a second one is as good", link(made, c"another"), Ok(0));
    equal("and then there are three", count(), Some(3));
    equal("a name that is taken", link(made, c"file"), Err(EEXIST));
    let private = open(c".", O_TMPFILE | O_RDWR | O_EXCL).expect("so can a private one");
    equal("which never gets one", link(private, c"private"), Err(ENOENT));
    equal("it is there to be written", open(c".", O_TMPFILE | O_RDONLY), Err(EINVAL));
    equal("O_CREAT wants a name", open(c".", O_TMPFILE | O_RDWR | O_CREAT), Err(EINVAL));
    equal("it needs a folder", open(c"file", O_TMPFILE | O_RDWR), Err(ENOTDIR));
    equal("that is there", open(c"no", O_TMPFILE | O_RDWR), Err(ENOENT));
}

fn kinds_of_files() {
    let _scratch = Scratch::new();
    fs::create_dir("folder").expect("a folder can be made");
    fs::write("file", "x").expect("a file can be made");
    call!(symlink(c"file".as_ptr(), c"link".as_ptr())).expect("a link can be made");
    call!(symlink(c"loop".as_ptr(), c"loop".as_ptr())).expect("a link can be made");
    equal("a folder is not opened to write", open(c"folder", O_WRONLY), Err(EISDIR));
    equal("nor to read and write", open(c"folder", O_RDWR), Err(EISDIR));
    equal("nor made", open(c"folder", O_RDWR | O_CREAT), Err(EISDIR));
    equal("but to read", open(c"folder", O_RDONLY).map(|fd| read(fd, 1)), Ok(Err(EISDIR)));
    equal("O_DIRECTORY refuses a file", open(c"file", O_RDONLY | O_DIRECTORY), Err(ENOTDIR));
    ok("and takes a folder", open(c"folder", O_RDONLY | O_DIRECTORY).is_ok());
    equal("a file is no folder", open(c"file/x", O_RDONLY), Err(ENOTDIR));
    equal("also with a slash behind it", open(c"file/", O_RDONLY), Err(ENOTDIR));
    equal("O_NOFOLLOW refuses a link", open(c"link", O_RDONLY | O_NOFOLLOW), Err(ELOOP));
    equal("a link to itself leads nowhere", open(c"loop", O_RDONLY), Err(ELOOP));
    let by_path = open(c"file", O_PATH).expect("O_PATH opens anything");
    equal("what O_PATH opened is not read", read(by_path, 1), Err(EBADF));
    equal("nor written", write(by_path, b"x"), Err(EBADF));
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    equal("but asked about", call!(fstat(by_path, &raw mut stat)).map(|_| stat.st_size), Ok(1));
}

fn access_modes() {
    let _scratch = Scratch::new();
    fs::write("file", "abc").expect("a file can be made");
    let [reader, writer, both] =
        [O_RDONLY, O_WRONLY, O_RDWR].map(|mode| open(c"file", mode).expect("it opens"));
    equal("O_RDONLY reads", read(reader, 3), Ok(b"abc".to_vec()));
    equal("and does not write", write(reader, b"x"), Err(EBADF));
    equal("O_WRONLY writes", write(writer, b"x"), Ok(1));
    equal("and does not read", read(writer, 1), Err(EBADF));
    equal("O_RDWR does both", (read(both, 1), write(both, b"y")), (Ok(b"x".to_vec()), Ok(1)));
    equal("at one position", content("file"), b"xyc".to_vec());
    let mode = |fd| call!(fcntl(fd, F_GETFL)).map(|flags| flags & O_ACCMODE);
    equal(
        "F_GETFL tells the mode",
        [reader, writer, both].map(mode),
        [Ok(O_RDONLY), Ok(O_WRONLY), Ok(O_RDWR)],
    );
    equal("nothing is read from a closed descriptor", read(77, 1), Err(EBADF));
    equal("nor from -1", read(-1, 1), Err(EBADF));
}

fn appending() {
    let _scratch = Scratch::new();
    fs::write("log", "start ").expect("a file can be made");
    let one = open(c"log", O_RDWR | O_APPEND).expect("it opens");
    let two = open(c"log", O_RDWR | O_APPEND).expect("it opens");
    write(one, b"one ").expect("it can be written");
    write(two, b"two ").expect("it can be written");
    write(one, b"three").expect("it can be written");
    equal("O_APPEND always writes at the end", content("log"), b"start one two three".to_vec());
    equal("and leaves the position there", position(one), 19);
    call!(lseek(one, 0, SEEK_SET)).expect("it can be moved");
    equal("a read is where it was moved", read(one, 5), Ok(b"start".to_vec()));
    call!(fcntl(one, F_SETFL, 0)).expect("flags can be changed");
    write(one, b"!").expect("it can be written");
    equal("without O_APPEND so is a write", content("log"), b"start!one two three".to_vec());
    let child =
        fork(|| (0..200).map(|_| write(two, b"child\n").is_ok()).filter(|&done| !done).count() as i32);
    let own = (0..200).all(|_| write(two, b"parent").is_ok());
    let both = process::end_of(child) == Status::Exited(0) && own;
    let lines = content("log").len() - 19;
    equal("two that append at once lose nothing", (both, lines), (true, 2400));
}

fn truncating() {
    let _scratch = Scratch::new();
    fs::write("file", "something").expect("a file can be made");
    let reader = open(c"file", O_RDONLY).expect("it opens");
    read(reader, 4).expect("it can be read");
    let fd = open(c"file", O_WRONLY | O_TRUNC).expect("it opens");
    equal("O_TRUNC empties a file", content("file"), vec![]);
    equal("also for those who had it open", read(reader, 4), Ok(vec![]));
    write(fd, b"0123456789").expect("it can be written");
    equal("who stay where they were", read(reader, 4), Ok(b"4567".to_vec()));
}

fn copies() {
    let _scratch = Scratch::new();
    fs::write("file", "0123456789").expect("a file can be made");
    let first = open(c"file", O_RDWR).expect("it opens");
    let second = call!(dup(first)).expect("a descriptor can be copied");
    read(first, 3).expect("it can be read");
    equal("copies share a position", read(second, 2), Ok(b"34".to_vec()));
    let own = open(c"file", O_RDWR).expect("it opens");
    equal("another opening has its own", read(own, 2), Ok(b"01".to_vec()));
    call!(fcntl(first, F_SETFL, O_APPEND)).expect("flags can be changed");
    let has_append = |fd| call!(fcntl(fd, F_GETFL)).map(|flags| flags & O_APPEND != 0);
    equal("copies share their flags", [second, own].map(has_append), [Ok(true), Ok(false)]);
    close(first);
    equal("a copy stays open when the other closes", read(second, 1), Ok(b"5".to_vec()));
    equal("dup2 copies to a given number", call!(dup2(second, 50)), Ok(50));
    equal("which is then that file", read(50, 1), Ok(b"6".to_vec()));
    equal("dup2 closes what was there", call!(dup2(own, 50)).map(|fd| read(fd, 1)), Ok(Ok(b"2".to_vec())));
    equal("dup2 onto itself does nothing", call!(dup2(50, 50)), Ok(50));
    equal("unless it is closed", call!(dup2(77, 77)), Err(EBADF));
    equal("dup of a closed descriptor", call!(dup(77)), Err(EBADF));
    equal(
        "dup2 of a closed one changes nothing",
        (call!(dup2(77, 50)), read(50, 1)),
        (Err(EBADF), Ok(b"3".to_vec())),
    );
    equal("dup2 to a number that cannot be", call!(dup2(own, -1)), Err(EBADF));
    equal("dup3 onto itself is refused", call!(dup3(50, 50, 0)), Err(EINVAL));
    equal("so are unknown flags", call!(dup3(50, 51, O_APPEND)), Err(EINVAL));
    close(50);
}

fn lowest_free() {
    let _scratch = Scratch::new();
    let all: Vec<Fd> = (0..6).map(|_| open(c"file", O_RDWR | O_CREAT).expect("it opens")).collect();
    ok("descriptors are given out in order", all.windows(2).all(|pair| pair[0] < pair[1]));
    close(all[4]);
    close(all[1]);
    equal("the lowest free one comes first", open(c"file", O_RDONLY), Ok(all[1]));
    equal("then the next", call!(dup(all[0])), Ok(all[4]));
    equal("F_DUPFD starts where it is told", call!(fcntl(all[0], F_DUPFD, 40)), Ok(40));
    equal("and takes the next free one", call!(fcntl(all[0], F_DUPFD, 40)), Ok(41));
    equal("F_DUPFD below 0 is refused", call!(fcntl(all[0], F_DUPFD, -1)), Err(EINVAL));
    equal("and so is one far too high", call!(fcntl(all[0], F_DUPFD, i32::MAX)), Err(EINVAL));
    all.into_iter().chain([40, 41]).for_each(close);
}

fn flags() {
    let _scratch = Scratch::new();
    let fd = open(c"file", O_RDWR | O_CREAT).expect("it opens");
    let get = |fd| call!(fcntl(fd, F_GETFD));
    equal("a descriptor stays open across exec", get(fd), Ok(0));
    equal("unless it is told to close", call!(fcntl(fd, F_SETFD, FD_CLOEXEC)).and(get(fd)), Ok(FD_CLOEXEC));
    let copy = call!(dup(fd)).expect("a descriptor can be copied");
    equal("which a copy does not inherit", get(copy), Ok(0));
    let closing = call!(fcntl(fd, F_DUPFD_CLOEXEC, 0)).expect("a descriptor can be copied");
    equal("unless asked for", get(closing), Ok(FD_CLOEXEC));
    equal("by dup3 too", call!(dup3(fd, 60, O_CLOEXEC)).and(get(60)), Ok(FD_CLOEXEC));
    let opened = open(c"file", O_RDONLY | O_CLOEXEC).expect("it opens");
    equal("or when opening", get(opened), Ok(FD_CLOEXEC));
    call!(fcntl(fd, F_SETFL, O_NONBLOCK | O_RDONLY | O_CREAT)).expect("flags can be set");
    let flags = call!(fcntl(fd, F_GETFL)).unwrap_or(0);
    equal(
        "F_SETFL sets what can be set and keeps the mode",
        flags & (O_NONBLOCK | O_ACCMODE | O_APPEND),
        O_NONBLOCK | O_RDWR,
    );
    equal("an unknown command is refused", call!(fcntl(fd, 999)), Err(EINVAL));
    equal("a closed descriptor has no flags", get(77), Err(EBADF));
    [fd, copy, closing, opened, 60].into_iter().for_each(close);
}

fn across_fork() {
    let _scratch = Scratch::new();
    fs::write("file", "0123456789").expect("a file can be made");
    let fd = open(c"file", O_RDONLY).expect("it opens");
    let child = fork(|| {
        let right = read(fd, 4) == Ok(b"0123".to_vec());
        close(fd);
        i32::from(right)
    });
    equal("a child has its parent's descriptors", process::end_of(child), Status::Exited(1));
    equal("and moves their position", read(fd, 2), Ok(b"45".to_vec()));
    close(fd);
}

fn across_exec() {
    let _scratch = Scratch::new();
    let fd = open(c"file", O_RDONLY | O_CREAT).expect("it opens");
    let closing = open(c"file", O_RDONLY | O_CLOEXEC).expect("it opens");
    let open_after = |fd: Fd| {
        let child = fork(|| {
            exec_self("is-open", &[&fd.to_string()]);
            99
        });
        process::end_of(child)
    };
    equal("a descriptor is open after exec", open_after(fd), Status::Exited(1));
    equal("one that closes on exec is not", open_after(closing), Status::Exited(0));
    let child = fork(|| {
        let argv = [std::ptr::null()];
        let _ = call!(execve(c"/nothing/here".as_ptr(), argv.as_ptr(), argv.as_ptr()));
        i32::from(call!(fcntl(closing, F_GETFD)).is_ok())
    });
    equal("but it is after an exec that failed", process::end_of(child), Status::Exited(1));
    close(fd);
    close(closing);
}

fn locks() {
    let _scratch = Scratch::new();
    let [first, second] = [(); 2].map(|()| open(c"file", O_RDWR | O_CREAT).expect("it opens"));
    let lock = |fd, how| call!(flock(fd, how | LOCK_NB));
    equal("two can share a lock", [lock(first, LOCK_SH), lock(second, LOCK_SH)], [Ok(0), Ok(0)]);
    equal("and neither has it alone", lock(first, LOCK_EX), Err(EAGAIN));
    equal("until the other gives up", [lock(second, LOCK_UN), lock(first, LOCK_EX)], [Ok(0), Ok(0)]);
    equal("then nobody else gets in", [lock(second, LOCK_SH), lock(second, LOCK_EX)], [Err(EAGAIN); 2]);
    let copy = call!(dup(first)).expect("a descriptor can be copied");
    close(first);
    equal("a lock lasts as long as a copy", lock(second, LOCK_SH), Err(EAGAIN));
    let child = fork(|| lock(copy, LOCK_UN).map_or(1, |_| 0));
    process::end_of(child);
    equal("a child can give it up", lock(second, LOCK_EX), Ok(0));
    equal("an unknown lock is refused", call!(flock(second, 0x40)), Err(EINVAL));
    equal("a closed descriptor has none", lock(77, LOCK_SH), Err(EBADF));
    let child = fork(|| {
        let own = open(c"file", O_RDWR).expect("it opens");
        // A child's copies keep a lock as well as any.
        [second, copy].into_iter().for_each(close);
        call!(flock(own, LOCK_EX)).map_or(1, |_| 0)
    });
    linux_tests::times::settle();
    equal("who asks waits", process::wait(child, libc::WNOHANG), Ok(None));
    close(second);
    equal("until the last copy closes", process::end_of(child), Status::Exited(0));
    close(copy);
}

fn closing() {
    let _scratch = Scratch::new();
    let fd = open(c"file", O_RDWR | O_CREAT).expect("it opens");
    equal("a descriptor closes", call!(close(fd)), Ok(0));
    equal("once", call!(close(fd)), Err(EBADF));
    equal("-1 is none", call!(close(-1)), Err(EBADF));
    let fd = open(c"file", O_RDWR).expect("it opens");
    call!(unlink(c"file".as_ptr())).expect("a file can be removed");
    write(fd, b"still here").expect("it can be written");
    call!(lseek(fd, 6, SEEK_SET)).expect("it can be moved");
    equal("a file that is removed lives until it is closed", read(fd, 10), Ok(b"here".to_vec()));
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    equal("without any name", call!(fstat(fd, &raw mut stat)).map(|_| stat.st_nlink), Ok(0));
    close(fd);
    equal(
        "close_range closes many",
        {
            let _ = call!(dup2(1, 90)).and(call!(dup2(1, 92)));
            call!(syscall(libc::SYS_close_range, 90, 95, 0)).map(drop)
        },
        Ok(()),
    );
    equal("and they are closed", [90, 92].map(|fd| call!(fcntl(fd, F_GETFD))), [Err(EBADF); 2]);
}
