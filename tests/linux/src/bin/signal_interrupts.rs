//! compare
//!
//! Which calls a signal's handler interrupts, and which of them go on with SA_RESTART.

use std::{
    mem,
    process::ExitCode,
    ptr,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
    time::Duration,
};

use libc::{
    FUTEX_WAIT, FUTEX_WAKE, ITIMER_REAL, LOCK_EX, O_CREAT, O_RDONLY, O_RDWR, POLLIN, SA_RESTART, SIGALRM,
    SIGCONT, SIGSTOP, SIGWINCH, SYS_futex, c_int, c_void, itimerval, timespec, timeval,
};
use linux_tests::{
    Errno, apart, call, equal,
    errno::EINTR,
    files::{self, Fd, Scratch},
    memory::shared,
    ok,
    process::{self, Status, fork, kill},
    run,
    signals::{self, Do, seen, set_with},
    times::{settle, until},
};

fn main() -> ExitCode {
    run(&[
        || apart(interrupted),
        || apart(never_restarted),
        || apart(restarted),
        || apart(rest_of_a_sleep),
        || apart(part_of_a_write),
        || apart(part_of_a_read),
        || apart(locks),
        || apart(without_handler),
    ])
}

/// Lets SIGALRM's handler run every few milliseconds, from now on.
fn beat(flags: c_int) {
    set_with(SIGALRM, Do::Count, flags, &[]).expect("an action can be set");
    let often = timeval { tv_sec: 0, tv_usec: 4000 };
    let value = itimerval { it_interval: often, it_value: often };
    call!(setitimer(ITIMER_REAL, &raw const value, ptr::null_mut())).expect("a timer can be set");
}

/// A call that waits, by name.
type LongCall = (&'static str, fn() -> Result<(), Errno>);
/// A read in one of its forms, by name.
type Reader = (&'static str, fn(Fd) -> bool);

/// Calls that would wait for ever, or for half a minute.
fn long_calls() -> [LongCall; 7] {
    [
        ("nanosleep", || {
            let long = timespec { tv_sec: 30, tv_nsec: 0 };
            call!(nanosleep(&raw const long, ptr::null_mut())).map(drop)
        }),
        ("poll", || {
            let (from, _to) = files::pipe();
            let mut entry = libc::pollfd { fd: from, events: POLLIN, revents: 0 };
            call!(poll(&raw mut entry, 1, 30_000)).map(drop)
        }),
        ("select", || {
            let (from, _to) = files::pipe();
            // SAFETY: the set is plain bits, of which zero is valid, and the descriptor is small.
            let mut set = unsafe {
                let mut set: libc::fd_set = mem::zeroed();
                libc::FD_SET(from, &raw mut set);
                set
            };
            let none = ptr::null_mut();
            call!(select(from + 1, &raw mut set, none, none, ptr::null_mut())).map(drop)
        }),
        ("pause", || call!(pause()).map(drop)),
        ("sigsuspend", || {
            let none = signals::set_of(&[]);
            call!(sigsuspend(&raw const none)).map(drop)
        }),
        ("sigtimedwait", || signals::take(&[libc::SIGUSR2], Duration::from_secs(30)).map(drop)),
        ("futex with a limit", || {
            let word = AtomicU32::new(0);
            let limit = timespec { tv_sec: 30, tv_nsec: 0 };
            call!(syscall(SYS_futex, word.as_ptr(), FUTEX_WAIT, 0, &raw const limit)).map(drop)
        }),
    ]
}

fn interrupted() {
    beat(0);
    for (name, long_call) in long_calls() {
        equal(&format!("{name} ends with EINTR"), long_call(), Err(EINTR));
    }
    let (from, to) = files::pipe();
    equal("read of an empty pipe ends with EINTR", files::read(from, 1), Err(EINTR));
    files::set_blocking(to, false);
    while files::write(to, &[0; 4096]).is_ok() {}
    files::set_blocking(to, true);
    equal("write to a full pipe ends with EINTR", files::write(to, b"x"), Err(EINTR));
    let word = AtomicU32::new(0);
    let wait = call!(syscall(SYS_futex, word.as_ptr(), FUTEX_WAIT, 0, ptr::null::<c_void>())).map(drop);
    equal("futex without a limit ends with EINTR", wait, Err(EINTR));
}

fn never_restarted() {
    beat(SA_RESTART);
    for (name, long_call) in long_calls() {
        equal(&format!("{name} ends with EINTR even with SA_RESTART"), long_call(), Err(EINTR));
    }
}

/// Runs `long_call` while the handler runs, and `relief` in another thread when it has run a few times.
fn through_signals<T, U>(long_call: impl FnOnce() -> T, relief: impl FnOnce() -> U + Send) -> T {
    thread::scope(|scope| {
        let before = seen(SIGALRM);
        scope.spawn(move || {
            signals::block(&[SIGALRM]);
            until(|| seen(SIGALRM) >= before + 4);
            let _ = relief();
        });
        long_call()
    })
}

fn restarted() {
    beat(SA_RESTART);
    let (from, to) = files::pipe();
    let read = through_signals(|| files::read(from, 8), || files::write(to, b"late"));
    equal("read of a pipe goes on with SA_RESTART", read, Ok(b"late".to_vec()));
    files::set_blocking(to, false);
    while files::write(to, &[0; 4096]).is_ok() {}
    files::set_blocking(to, true);
    let write = through_signals(|| files::write(to, b"x"), || files::read(from, 8192));
    equal("write to a full pipe goes on", write, Ok(1));
    let word = AtomicU32::new(0);
    let futex = |operation: c_int, value: c_int| {
        call!(syscall(SYS_futex, word.as_ptr(), operation, value, ptr::null::<timespec>()))
    };
    let wait = through_signals(|| futex(FUTEX_WAIT, 0), || until(|| futex(FUTEX_WAKE, 1) == Ok(1)));
    equal("futex without a limit goes on", wait, Ok(0));
    let mut pair = [0; 2];
    call!(socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr())).expect("a pair can be made");
    let read = through_signals(|| files::read(pair[0], 8), || files::write(pair[1], b"late"));
    equal("read of a socket goes on", read, Ok(b"late".to_vec()));
    let _scratch = Scratch::new();
    call!(mkfifo(c"fifo".as_ptr(), 0o600)).expect("a fifo can be made");
    let open = || call!(open(c"fifo".as_ptr(), O_RDONLY));
    let opened = through_signals(open, || call!(open(c"fifo".as_ptr(), libc::O_WRONLY)));
    ok("opening a fifo goes on", opened.is_ok());
}

fn rest_of_a_sleep() {
    beat(0);
    let long = timespec { tv_sec: 30, tv_nsec: 0 };
    let mut rest = timespec { tv_sec: 0, tv_nsec: 0 };
    equal("a sleep is interrupted", call!(nanosleep(&raw const long, &raw mut rest)), Err(EINTR));
    ok("and tells what is left of it", rest.tv_sec == 29 && rest.tv_nsec > 0);
    let start = std::time::Instant::now();
    thread::sleep(Duration::from_millis(50));
    ok("so it can be slept in parts", start.elapsed() >= Duration::from_millis(50));
}

fn part_of_a_write() {
    let (from, to) = files::pipe();
    let capacity = call!(fcntl(to, libc::F_GETPIPE_SZ)).expect("a pipe has a size");
    beat(SA_RESTART);
    let much = vec![7; capacity as usize + 1000];
    equal(
        "a write that has done a part tells the part, even with SA_RESTART",
        files::write(to, &much),
        Ok(capacity as isize),
    );
    files::close(from);
    files::close(to);
}

fn part_of_a_read() {
    beat(0);
    let (from, to) = files::pipe();
    files::write(to, b"abc").expect("a pipe takes bytes");
    equal("a read takes what is there", files::read(from, 100), Ok(b"abc".to_vec()));
    let beats = seen(SIGALRM);
    until(|| seen(SIGALRM) > beats + 2);
    equal("a call that does not wait is not interrupted", files::write(to, b"d"), Ok(1));
}

fn open_locked() -> Fd {
    call!(open(c"locked".as_ptr(), O_RDWR | O_CREAT, 0o600)).expect("a file can be made")
}

fn locks() {
    let _scratch = Scratch::new();
    let [state, ..] = shared();
    let child = fork(|| {
        let fd = open_locked();
        call!(flock(fd, LOCK_EX)).expect("a file can be locked");
        state.store(1, SeqCst);
        until(|| state.load(SeqCst) == 2);
        0
    });
    until(|| state.load(SeqCst) == 1);
    let fd = open_locked();
    beat(0);
    equal("a wait for a lock ends with EINTR", call!(flock(fd, LOCK_EX)), Err(EINTR));
    beat(SA_RESTART);
    let lock = through_signals(|| call!(flock(fd, LOCK_EX)), || state.store(2, SeqCst));
    equal("and goes on with SA_RESTART", lock, Ok(0));
    process::end_of(child);
}

/// What has no handler interrupts nothing: signals that are ignored, and stopping and continuing.
fn without_handler() {
    let calls: [Reader; 3] = [
        ("read", |fd| files::read(fd, 1) == Ok(b"x".to_vec())),
        ("poll", |fd| {
            let mut entry = libc::pollfd { fd, events: POLLIN, revents: 0 };
            call!(poll(&raw mut entry, 1, 20_000)) == Ok(1)
        }),
        ("nanosleep", |_| {
            let nap = timespec { tv_sec: 0, tv_nsec: 60_000_000 };
            call!(nanosleep(&raw const nap, ptr::null_mut())) == Ok(0)
        }),
    ];
    for (name, long_call) in calls {
        let (from, to) = files::pipe();
        let child = fork(|| i32::from(long_call(from)));
        for _ in 0..3 {
            settle();
            let _ = kill(child, SIGWINCH);
            let _ = kill(child, SIGSTOP);
            settle();
            let _ = kill(child, SIGCONT);
        }
        files::write(to, b"x").expect("a pipe takes a byte");
        equal(
            &format!("{name} goes on through stops and ignored signals"),
            process::end_of(child),
            Status::Exited(1),
        );
    }
}
