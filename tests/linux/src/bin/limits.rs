//! compare
//!
//! What happens at the ends: no more descriptors, memory, arguments, names, links; and programs that are none.

use std::{
    ffi::{CStr, CString},
    fs,
    os::unix::fs::PermissionsExt,
    process::ExitCode,
    ptr,
};

use libc::{
    MAP_ANONYMOUS, MAP_PRIVATE, O_CREAT, O_RDONLY, O_RDWR, PROT_READ, PROT_WRITE, RLIMIT_AS, RLIMIT_CPU,
    RLIMIT_FSIZE, RLIMIT_NOFILE, RLIMIT_STACK, SIGXCPU, SIGXFSZ, rlimit,
};
use linux_tests::{
    Errno, call, equal,
    errno::{
        E2BIG, EACCES, EFBIG, EINVAL, EISDIR, ELOOP, EMFILE, ENAMETOOLONG, ENOENT, ENOEXEC, ENOMEM, ENOTDIR,
        EPERM, ETXTBSY,
    },
    files::{Scratch, close, pipe, write},
    memory::map,
    ok,
    process::{self, Status, fork},
    run,
    signals::{self, Do},
};

fn main() -> ExitCode {
    run(&[
        descriptors,
        descriptors_in_the_middle,
        address_space,
        file_size,
        processor_time,
        questions,
        privileges,
        programs_that_are_none,
        scripts,
        arguments,
        busy_programs,
        names,
    ])
}

fn limit(what: u32, soft: u64, hard: u64) -> Result<i32, Errno> {
    let limit = rlimit { rlim_cur: soft, rlim_max: hard };
    call!(setrlimit(what, &raw const limit))
}

fn limits_of(what: u32) -> (u64, u64) {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    call!(getrlimit(what, &raw mut limit)).expect("a limit can be asked for");
    (limit.rlim_cur, limit.rlim_max)
}

/// Runs a test in a child, because limits stay, and says which of its answers was the first wrong one.
fn first_wrong(test: impl FnOnce() -> Vec<bool>) -> Status {
    let child = fork(|| test().iter().position(|&right| !right).map_or(100, |at| at as i32));
    process::end_of(child)
}

const ALL_RIGHT: Status = Status::Exited(100);

fn descriptors() {
    let test = || {
        limit(RLIMIT_NOFILE, 16, 16).expect("a limit can be set");
        let mut open = Vec::new();
        let end = loop {
            match call!(dup(1)) {
                Ok(fd) => open.push(fd),
                Err(error) => break error,
            }
        };
        let mut ends = [-1; 2];
        let answers = vec![
            end == EMFILE,
            open.last() == Some(&15),
            call!(open(c"/bin/busybox".as_ptr(), O_RDONLY)) == Err(EMFILE),
            call!(pipe(ends.as_mut_ptr())) == Err(EMFILE),
            ends == [-1; 2],
            call!(socketpair(1, 1, 0, ends.as_mut_ptr())) == Err(EMFILE),
            call!(fcntl(1, libc::F_DUPFD, 16)) == Err(EINVAL),
            call!(dup2(1, 16)) == Err(linux_tests::errno::EBADF),
            call!(dup2(1, 15)) == Ok(15),
            fs::read_dir("/tmp").is_err(),
        ];
        close(15);
        let after = vec![call!(dup(1)) == Ok(15), call!(dup(1)) == Err(EMFILE)];
        [answers, after].concat()
    };
    equal("with 16 descriptors the next says EMFILE", first_wrong(test), ALL_RIGHT);
}

fn descriptors_in_the_middle() {
    let test = || {
        let high = call!(fcntl(1, libc::F_DUPFD, 30)).is_ok();
        limit(RLIMIT_NOFILE, 16, 16).expect("a limit can be set");
        let free = (3..16).filter(|&fd| call!(fcntl(fd, libc::F_GETFD)).is_err()).count();
        let kept: Vec<_> = (1..free).map(|_| call!(dup(1))).collect();
        let mut ends = [-1; 2];
        vec![
            high,
            kept.iter().all(|fd| fd.is_ok()),
            call!(pipe(ends.as_mut_ptr())) == Err(EMFILE),
            call!(dup(1)).is_ok(),
            write(30, b"").is_ok(),
            call!(dup(30)) == Err(EMFILE),
        ]
    };
    equal("a pipe takes two or none, and what is above a new limit stays", first_wrong(test), ALL_RIGHT);
}

fn address_space() {
    let both = PROT_READ | PROT_WRITE;
    let ask = |len| map(ptr::null_mut(), len, both, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0).map(drop);
    equal("memory for all addresses is not there", ask(1 << 47), Err(ENOMEM));
    let test = || {
        limit(RLIMIT_AS, 256 << 20, 256 << 20).expect("a limit can be set");
        let large = ask(512 << 20) == Err(ENOMEM);
        let many = (0..64).map(|_| ask(16 << 20)).find(|answer| answer.is_err()) == Some(Err(ENOMEM));
        vec![large, many]
    };
    equal("nor more than the limit allows, at once or in parts", first_wrong(test), ALL_RIGHT);
}

fn file_size() {
    let _scratch = Scratch::new();
    signals::set(SIGXFSZ, Do::Ignore);
    let test = || {
        limit(RLIMIT_FSIZE, 1000, 1000).expect("a limit can be set");
        let fd = call!(open(c"file".as_ptr(), O_RDWR | O_CREAT, 0o600)).expect("a file can be made");
        vec![
            write(fd, &[1; 900]) == Ok(900),
            write(fd, &[1; 900]) == Ok(100),
            write(fd, &[1; 1]) == Err(EFBIG),
            call!(ftruncate(fd, 1001)) == Err(EFBIG),
            call!(ftruncate(fd, 1000)) == Ok(0),
            call!(truncate(c"file".as_ptr(), 1001)) == Err(EFBIG),
            call!(truncate(c"file".as_ptr(), 900)) == Ok(0),
            call!(truncate(c"none".as_ptr(), 1001)) == Err(ENOENT),
        ]
    };
    equal("a file does not grow past its limit", first_wrong(test), ALL_RIGHT);
    let child = fork(|| {
        signals::set(SIGXFSZ, Do::Default);
        let none = limit(libc::RLIMIT_CORE, 0, 0).and(limit(RLIMIT_FSIZE, 10, 10));
        let fd = call!(open(c"other".as_ptr(), O_RDWR | O_CREAT, 0o600)).expect("a file can be made");
        let _ = none.map(|_| write(fd, &[1; 10])).map(|_| write(fd, &[1; 10]));
        99
    });
    equal("and by default its writer ends", process::end_of(child), Status::Killed(SIGXFSZ));
    let child = fork(|| {
        signals::set(SIGXFSZ, Do::Default);
        let none = limit(libc::RLIMIT_CORE, 0, 0).and(limit(RLIMIT_FSIZE, 10, 10));
        let _ = none.map(|_| call!(truncate(c"other".as_ptr(), 11)));
        99
    });
    equal("as does who makes it longer by its name", process::end_of(child), Status::Killed(SIGXFSZ));
}

fn processor_time() {
    let child = fork(|| {
        signals::set(SIGXCPU, Do::Default);
        let _ = limit(libc::RLIMIT_CORE, 0, 0).and(limit(RLIMIT_CPU, 1, 5));
        loop {
            std::hint::black_box(0);
        }
    });
    equal("who computes longer than allowed is ended", process::end_of(child), Status::Killed(SIGXCPU));
}

fn questions() {
    equal("an unknown limit", limit(99, 0, 0), Err(EINVAL));
    equal("a soft limit above the hard one", limit(RLIMIT_STACK, 2 << 20, 1 << 20), Err(EINVAL));
    let test = || {
        limit(RLIMIT_STACK, 1 << 20, 2 << 20).expect("a limit can be set");
        vec![limits_of(RLIMIT_STACK) == (1 << 20, 2 << 20), limit(RLIMIT_STACK, 2 << 20, 2 << 20).is_ok()]
    };
    equal("a soft limit can be raised to the hard one", first_wrong(test), ALL_RIGHT);
    let before = limits_of(RLIMIT_CPU);
    let child = fork(|| i32::from(limits_of(RLIMIT_CPU) == before));
    equal("a child has its parent's limits", process::end_of(child), Status::Exited(1));
    let mut old = rlimit { rlim_cur: 1, rlim_max: 1 };
    let answer = call!(prlimit(0, RLIMIT_CPU, ptr::null(), &raw mut old));
    equal("they can be asked for by another call", (answer, (old.rlim_cur, old.rlim_max)), (Ok(0), before));
}

/// Whether root may raise them is a matter of its capabilities, which are not the same everywhere.
fn privileges() {
    let test = || {
        limit(RLIMIT_NOFILE, 100, 200).expect("a limit can be set");
        call!(setresuid(1234, 1234, 1234)).expect("root can change its user");
        vec![
            limit(RLIMIT_NOFILE, 100, 201) == Err(EPERM),
            limit(RLIMIT_NOFILE, 200, 200).is_ok(),
            limit(RLIMIT_NOFILE, 50, 60).is_ok(),
            limit(RLIMIT_NOFILE, 50, 61) == Err(EPERM),
            limits_of(RLIMIT_NOFILE) == (50, 60),
        ]
    };
    equal("a user lowers hard limits and never raises them", first_wrong(test), ALL_RIGHT);
}

fn exec(path: &CStr) -> Errno {
    let argv = [path.as_ptr(), ptr::null()];
    let envp = [ptr::null()];
    call!(execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr())).expect_err("it is no program")
}

fn program(name: &str, content: &[u8]) {
    fs::write(name, content).expect("a file can be made");
    fs::set_permissions(name, PermissionsExt::from_mode(0o755)).expect("a mode can be set");
}

fn programs_that_are_none() {
    let _scratch = Scratch::new();
    program(
        "garbage",
        b"this is no program at all, and long enough to be looked at twice or even three times",
    );
    program("empty", b"");
    program("short", b"\x7fELF");
    program("headless", &[&b"\x7fELF\x02\x01\x01"[..], &[0; 57]].concat());
    let busybox = fs::read("/bin/busybox").expect("there is busybox");
    let mut other = busybox[..4096].to_vec();
    other[18] = 243;
    program("foreign", &other);
    fs::write("plain", &busybox[..4096]).expect("a file can be made");
    fs::create_dir("folder").expect("a folder can be made");
    call!(mkfifo(c"fifo".as_ptr(), 0o755)).expect("a fifo can be made");
    equal("a file of garbage is no program", exec(c"garbage"), ENOEXEC);
    equal("nor an empty one", exec(c"empty"), ENOEXEC);
    equal("nor the beginning of one", exec(c"short"), ENOEXEC);
    equal("nor one without segments", exec(c"headless"), ENOEXEC);
    equal("nor one for another machine", exec(c"foreign"), ENOEXEC);
    equal("one that may not be executed", exec(c"plain"), EACCES);
    equal("a folder", exec(c"folder"), EACCES);
    equal("a fifo", exec(c"fifo"), EACCES);
    equal("a file that is not there", exec(c"no"), ENOENT);
    equal("no name", exec(c""), ENOENT);
    equal("below a file", exec(c"plain/x"), ENOTDIR);
    ok("after all that this program goes on", true);
}

fn scripts() {
    let _scratch = Scratch::new();
    program("no-interpreter", b"#!/nothing/here\n");
    program("no-name", b"#!\n");
    program("garbage", b"nothing");
    program("by-garbage", b"#!./garbage\n");
    program("own", b"#!./own\n");
    program("works", b"#!/bin/busybox true\n");
    equal("a script whose interpreter is not there", exec(c"no-interpreter"), ENOENT);
    equal("one that names none", exec(c"no-name"), ENOEXEC);
    equal("one whose interpreter is garbage", exec(c"by-garbage"), ENOEXEC);
    equal("one that is its own", exec(c"own"), ELOOP);
    let child = fork(|| exec(c"works").0);
    equal("and one that works", process::end_of(child), Status::Exited(0));
}

fn arguments() {
    let exec_with = |argument: usize, count: usize| {
        let child = fork(|| {
            let long = CString::new(vec![b'x'; argument]).expect("it has no zero");
            let mut argv = vec![c"busybox".as_ptr(), c"true".as_ptr()];
            argv.extend((0..count).map(|_| long.as_ptr()));
            argv.push(ptr::null());
            let envp = [ptr::null()];
            let error = call!(execve(c"/bin/busybox".as_ptr(), argv.as_ptr(), envp.as_ptr()));
            error.map_or_else(|error| error.0, |_| 99)
        });
        process::end_of(child)
    };
    equal("an argument of 131071 bytes", exec_with(131_071, 1), Status::Exited(0));
    equal("one byte more says E2BIG", exec_with(131_072, 1), Status::Exited(E2BIG.0));
    equal("a megabyte in all", exec_with(100_000, 10), Status::Exited(0));
    equal("ten megabytes in all say E2BIG", exec_with(100_000, 100), Status::Exited(E2BIG.0));
    equal("ten thousand arguments", exec_with(1, 10_000), Status::Exited(0));
}

fn busy_programs() {
    let _scratch = Scratch::new();
    fs::copy("/bin/busybox", "busybox").expect("busybox can be copied");
    let writer = call!(open(c"busybox".as_ptr(), O_RDWR)).expect("it opens");
    equal("a program that is being written says ETXTBSY", exec(c"busybox"), ETXTBSY);
    close(writer);
    let (from, to) = pipe();
    let child = fork(|| {
        close(to);
        call!(dup2(from, 0)).expect("a descriptor can be copied");
        let argv = [c"busybox".as_ptr(), c"cat".as_ptr(), ptr::null()];
        let envp = [ptr::null()];
        let error = call!(execve(c"busybox".as_ptr(), argv.as_ptr(), envp.as_ptr()));
        error.map_or_else(|error| error.0, |_| 99)
    });
    close(from);
    let busy =
        linux_tests::times::until(|| call!(open(c"busybox".as_ptr(), O_RDWR)).map(close) == Err(ETXTBSY));
    ok("one that runs cannot be opened to write", busy);
    equal("but removed", call!(unlink(c"busybox".as_ptr())), Ok(0));
    close(to);
    equal("and runs to its end", process::end_of(child), Status::Exited(0));
}

fn names() {
    let _scratch = Scratch::new();
    call!(symlink(c"loop".as_ptr(), c"loop".as_ptr())).expect("a link can be made");
    let long = CString::new(vec![b'n'; 256]).expect("it has no zero");
    let path = CString::new("./".repeat(2048) + "x").expect("it has no zero");
    let open = |name: &CStr| call!(open(name.as_ptr(), O_RDONLY)).map(close);
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    let mut look = |name: &CStr| call!(stat(name.as_ptr(), &raw mut stat)).map(drop);
    for (name, error, what) in [
        (c"loop", ELOOP, "a loop of links"),
        (&long, ENAMETOOLONG, "a long name"),
        (&path, ENAMETOOLONG, "a long path"),
    ] {
        equal(&format!("{what} is not opened"), open(name), Err(error));
        equal("nor looked at", look(name), Err(error));
        equal("nor executed", exec(name), error);
        equal("nor entered", call!(chdir(name.as_ptr())), Err(error));
    }
    equal("a folder is not written", call!(open(c".".as_ptr(), O_RDWR)), Err(EISDIR));
}
