//! compare
//!
//! ppoll, pselect and epoll_pwait: the signal mask holds for the wait and no longer.

use std::{process::ExitCode, ptr, thread};

use libc::{
    EPOLL_CTL_ADD, EPOLLIN, POLLIN, SIG_SETMASK, SIGUSR1, c_int, c_void, epoll_event, pollfd, sigset_t,
    timespec,
};
use linux_tests::{
    Errno, apart, call, equal,
    errno::{EBADF, EFAULT, EINTR, EINVAL},
    files::{Fd, pipe, write},
    ok, run,
    signals::{self, Do, contains, pending, raise, seen, set_of},
    times::{settle, sleep_ms},
};

fn main() -> ExitCode {
    let waits: [(&str, Wait); 4] = [
        ("ppoll", ppoll),
        ("pselect6", pselect),
        ("epoll_pwait", epoll_pwait),
        ("epoll_pwait2", epoll_pwait2),
    ];
    for (name, wait) in waits {
        apart(|| pending_before(name, wait));
        apart(|| coming_meanwhile(name, wait));
        apart(|| not_let_through(name, wait));
        apart(|| ready_first(name, wait));
        apart(|| blocked_for_the_wait(name, wait));
        apart(|| made_again(name, wait));
    }
    apart(bad_masks);
    run(&[])
}

/// Waits for input on a descriptor, so many milliseconds, with a signal mask.
type Wait = fn(Fd, i64, &sigset_t) -> Result<i64, Errno>;

const SET_BYTES: usize = 8;

fn limit(ms: i64) -> timespec {
    timespec { tv_sec: ms / 1000, tv_nsec: ms % 1000 * 1_000_000 }
}

fn ppoll(fd: Fd, ms: i64, mask: &sigset_t) -> Result<i64, Errno> {
    let (mut entry, limit) = (pollfd { fd, events: POLLIN, revents: 0 }, limit(ms));
    call!(syscall(libc::SYS_ppoll, &raw mut entry, 1, &raw const limit, ptr::from_ref(mask), SET_BYTES))
}

fn pselect(fd: Fd, ms: i64, mask: &sigset_t) -> Result<i64, Errno> {
    let (mut set, limit) = ([1_u64 << fd; 16], limit(ms));
    let pair = [ptr::from_ref(mask) as usize, SET_BYTES];
    let nothing = ptr::null_mut::<c_void>();
    call!(syscall(
        libc::SYS_pselect6,
        fd + 1,
        set.as_mut_ptr(),
        nothing,
        nothing,
        &raw const limit,
        pair.as_ptr()
    ))
}

fn epoll(fd: Fd) -> Fd {
    let set = call!(epoll_create1(0)).expect("a set can be made");
    let mut event = epoll_event { events: EPOLLIN as u32, u64: 1 };
    call!(epoll_ctl(set, EPOLL_CTL_ADD, fd, &raw mut event)).expect("a pipe can be watched");
    set
}

fn epoll_pwait(fd: Fd, ms: i64, mask: &sigset_t) -> Result<i64, Errno> {
    let mut event = epoll_event { events: 0, u64: 0 };
    call!(syscall(
        libc::SYS_epoll_pwait,
        epoll(fd),
        &raw mut event,
        1,
        ms as c_int,
        ptr::from_ref(mask),
        SET_BYTES
    ))
}

fn epoll_pwait2(fd: Fd, ms: i64, mask: &sigset_t) -> Result<i64, Errno> {
    let (mut event, limit) = (epoll_event { events: 0, u64: 0 }, limit(ms));
    let set = epoll(fd);
    call!(syscall(
        libc::SYS_epoll_pwait2,
        set,
        &raw mut event,
        1,
        &raw const limit,
        ptr::from_ref(mask),
        SET_BYTES
    ))
}

fn prepare() -> (Fd, Fd) {
    signals::set(SIGUSR1, Do::Count);
    signals::block(&[SIGUSR1]);
    pipe()
}

fn still_blocked() -> bool {
    contains(&signals::mask(), SIGUSR1)
}

fn pending_before(name: &str, wait: Wait) {
    let (from, _) = prepare();
    raise(SIGUSR1);
    equal(&format!("{name}: a pending signal ends the wait"), wait(from, 5000, &set_of(&[])), Err(EINTR));
    equal(&format!("{name}: and its handler has run"), seen(SIGUSR1), 1);
    ok(&format!("{name}: it is blocked again"), still_blocked());
}

fn coming_meanwhile(name: &str, wait: Wait) {
    let (from, _) = prepare();
    let this = call!(gettid()).expect("a thread has a number");
    let process = std::process::id();
    let sender = thread::spawn(move || {
        settle();
        call!(syscall(libc::SYS_tgkill, process, this, SIGUSR1)).expect("a thread can be signalled");
    });
    equal(&format!("{name}: a signal that comes ends the wait"), wait(from, 5000, &set_of(&[])), Err(EINTR));
    sender.join().expect("it ends");
    equal(&format!("{name}: once"), (seen(SIGUSR1), still_blocked()), (1, true));
}

fn not_let_through(name: &str, wait: Wait) {
    let (from, _) = prepare();
    raise(SIGUSR1);
    let mask = set_of(&[SIGUSR1]);
    equal(&format!("{name}: a signal that stays blocked does not end it"), wait(from, 20, &mask), Ok(0));
    equal(&format!("{name}: it is pending"), (seen(SIGUSR1), pending(SIGUSR1)), (0, true));
}

fn ready_first(name: &str, wait: Wait) {
    let (from, to) = prepare();
    write(to, b"x").expect("a pipe takes bytes");
    raise(SIGUSR1);
    equal(&format!("{name}: what is ready comes before a signal"), wait(from, 5000, &set_of(&[])), Ok(1));
    equal(&format!("{name}: which waits on, blocked"), (seen(SIGUSR1), pending(SIGUSR1)), (0, true));
    signals::unblock(&[SIGUSR1]);
    equal(&format!("{name}: and comes when it is let through"), seen(SIGUSR1), 1);
}

fn blocked_for_the_wait(name: &str, wait: Wait) {
    let (from, _) = prepare();
    signals::unblock(&[SIGUSR1]);
    let this = call!(gettid()).expect("a thread has a number");
    let process = std::process::id();
    let sender = thread::spawn(move || {
        settle();
        call!(syscall(libc::SYS_tgkill, process, this, SIGUSR1)).expect("a thread can be signalled");
    });
    let answer = wait(from, 100, &set_of(&[SIGUSR1]));
    equal(&format!("{name}: a signal blocked for the wait alone does not end it"), answer, Ok(0));
    sender.join().expect("it ends");
    equal(&format!("{name}: and comes right after"), (seen(SIGUSR1), still_blocked()), (1, false));
}

fn made_again(name: &str, wait: Wait) {
    let (from, to) = prepare();
    let mask = signals::mask();
    let child = linux_tests::process::fork(|| {
        settle();
        let _ = linux_tests::process::kill(std::os::unix::process::parent_id() as i32, libc::SIGSTOP);
        sleep_ms(30);
        let _ = linux_tests::process::kill(std::os::unix::process::parent_id() as i32, libc::SIGCONT);
        sleep_ms(30);
        i32::from(write(to, b"x").is_err())
    });
    let answer = wait(from, 5000, &set_of(&[]));
    // Of these calls Linux makes those of poll's family again after a stop.
    let again = if name.starts_with("epoll") { Err(EINTR) } else { Ok(1) };
    equal(&format!("{name}: a stop and its end"), answer, again);
    linux_tests::process::end_of(child);
    let now = signals::mask();
    ok(&format!("{name}: leave the mask as it was"), contains(&now, SIGUSR1) == contains(&mask, SIGUSR1));
}

fn bad_masks() {
    let (from, _) = prepare();
    let mask = set_of(&[]);
    let limit = limit(10);
    let mut entry = pollfd { fd: from, events: POLLIN, revents: 0 };
    let ppoll = |entry: &mut pollfd, mask: usize, size: usize| {
        call!(syscall(libc::SYS_ppoll, ptr::from_mut(entry), 1, &raw const limit, mask, size))
    };
    let good = &raw const mask as usize;
    equal("a mask has eight bytes", ppoll(&mut entry, good, 16), Err(EINVAL));
    equal("at an address that is there", ppoll(&mut entry, 16, SET_BYTES), Err(EFAULT));
    equal("or none, whatever its size", ppoll(&mut entry, 0, 16), Ok(0));
    let nothing = ptr::null_mut::<c_void>();
    let pselect = |pair: [usize; 2]| {
        call!(syscall(libc::SYS_pselect6, 0, nothing, nothing, nothing, &raw const limit, pair.as_ptr()))
    };
    equal("pselect6 may name none", pselect([0, 0]), Ok(0));
    equal("or one of the wrong size", pselect([good, 4]), Err(EINVAL));
    let mut event = epoll_event { events: 0, u64: 0 };
    let mut epoll =
        |fd: Fd| call!(syscall(libc::SYS_epoll_pwait, fd, &raw mut event, 1, 10, good, SET_BYTES));
    equal("what is no set is not waited for", epoll(from), Err(EINVAL));
    equal("nor what is not open", epoll(999), Err(EBADF));
    let unblocked = call!(sigprocmask(SIG_SETMASK, ptr::null(), ptr::null_mut()));
    ok("and the mask is what it was", unblocked == Ok(0) && still_blocked());
}
