//! compare
//!
//! poll and select: what is ready, and waking when it becomes so.

use std::{mem, process::ExitCode, ptr, thread, time::Instant};

use libc::{
    EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLET, EPOLLIN, EPOLLONESHOT, EPOLLOUT, O_RDONLY, POLLERR,
    POLLHUP, POLLIN, POLLNVAL, POLLOUT, c_int, epoll_event, fd_set, pollfd, timespec, timeval,
};
use linux_tests::{
    Errno, apart, call, equal,
    errno::{EBADF, EEXIST, EINVAL, ENOENT, EPERM},
    files::{self, Fd, close, pipe, poll, poll_now, read, set_blocking, write},
    ok, run,
    times::settle,
};

fn main() -> ExitCode {
    run(&[
        pipes_by_poll,
        ends_by_poll,
        several,
        limits,
        wake_up,
        bad_descriptors,
        by_select,
        select_limits,
        || apart(by_epoll),
        edges,
        events,
    ])
}

fn pipes_by_poll() {
    let (from, to) = pipe();
    equal("an empty pipe is not readable", poll_now(from, POLLIN), 0);
    equal("but writable", poll_now(to, POLLOUT), POLLOUT);
    write(to, b"x").expect("a pipe takes bytes");
    equal("with a byte it is readable", poll_now(from, POLLIN), POLLIN);
    equal("which is only told when asked for", poll_now(from, 0), 0);
    set_blocking(to, false);
    while write(to, &[0; 4096]).is_ok() {}
    equal("full it is not writable", poll_now(to, POLLOUT), 0);
    read(from, 4096).expect("there is something");
    equal("with room for PIPE_BUF it is again", poll_now(to, POLLOUT), POLLOUT);
    close(from);
    close(to);
}

fn ends_by_poll() {
    let (from, to) = pipe();
    write(to, b"x").expect("a pipe takes bytes");
    close(to);
    equal("without writers a pipe hangs up, after what it holds", poll_now(from, POLLIN), POLLIN | POLLHUP);
    read(from, 1).expect("there is something");
    equal("then it only hangs up", poll_now(from, POLLIN), POLLHUP);
    equal("which needs no asking", poll_now(from, 0), POLLHUP);
    close(from);
    let (from, to) = pipe();
    close(from);
    equal("without readers it is an error", poll_now(to, POLLOUT), POLLOUT | POLLERR);
    close(to);
    let file = call!(open(c"/bin/busybox".as_ptr(), O_RDONLY)).expect("it opens");
    equal("a file is always ready", poll_now(file, POLLIN | POLLOUT), POLLIN | POLLOUT);
    close(file);
}

fn poll_all(entries: &mut [pollfd], limit_ms: c_int) -> Result<c_int, Errno> {
    call!(poll(entries.as_mut_ptr(), entries.len() as u64, limit_ms))
}

fn several() {
    let pipes: Vec<(Fd, Fd)> = (0..50).map(|_| pipe()).collect();
    let mut entries: Vec<pollfd> =
        pipes.iter().map(|&(from, _)| pollfd { fd: from, events: POLLIN, revents: 99 }).collect();
    equal("of fifty pipes none is ready", poll_all(&mut entries, 0), Ok(0));
    ok("and all are told so", entries.iter().all(|entry| entry.revents == 0));
    for at in [3, 17, 44] {
        write(pipes[at].1, b"x").expect("a pipe takes bytes");
    }
    equal("then three are", poll_all(&mut entries, -1), Ok(3));
    let ready: Vec<usize> = (0..50).filter(|&at| entries[at].revents != 0).collect();
    equal("the right ones", ready, vec![3, 17, 44]);
    entries[3].fd = -1;
    equal("a negative descriptor is left out", (poll_all(&mut entries, 0), entries[3].revents), (Ok(2), 0));
    let twice = pollfd { fd: pipes[17].0, events: POLLIN, revents: 0 };
    equal("one that is named twice counts twice", poll_all(&mut [twice, twice], 0), Ok(2));
    pipes.into_iter().for_each(|(from, to)| {
        close(from);
        close(to);
    });
}

fn limits() {
    let (from, to) = pipe();
    let start = Instant::now();
    equal("poll waits its time", poll(from, POLLIN, 30), 0);
    ok("not less", start.elapsed().as_millis() >= 30);
    let start = Instant::now();
    equal("without descriptors it is a sleep", poll_all(&mut [], 20), Ok(0));
    ok("of that length", start.elapsed().as_millis() >= 20);
    let start = Instant::now();
    write(to, b"x").expect("a pipe takes bytes");
    equal("what is ready is told at once", poll(from, POLLIN, 20_000), POLLIN);
    ok("without waiting", start.elapsed().as_secs() < 10);
    close(from);
    close(to);
}

fn wake_up() {
    let (from, to) = pipe();
    let waiter = thread::spawn(move || poll(from, POLLIN, 20_000));
    settle();
    write(to, b"x").expect("a pipe takes bytes");
    equal("poll wakes when a byte comes", waiter.join().ok(), Some(POLLIN));
    read(from, 1).expect("there is something");
    let waiters: Vec<_> = (0..4).map(|_| thread::spawn(move || poll(from, POLLIN, 20_000))).collect();
    settle();
    write(to, b"x").expect("a pipe takes bytes");
    let woken = waiters
        .into_iter()
        .filter_map(|waiter| waiter.join().ok())
        .filter(|&events| events == POLLIN)
        .count();
    equal("and all who wait", woken, 4);
    read(from, 1).expect("there is something");
    let waiter = thread::spawn(move || poll(from, POLLIN, 20_000));
    settle();
    close(to);
    equal("and when the writer goes", waiter.join().ok(), Some(POLLHUP));
    close(from);
    let (from, to) = pipe();
    set_blocking(to, false);
    while write(to, &[0; 4096]).is_ok() {}
    let waiter = thread::spawn(move || poll(to, POLLOUT, 20_000));
    settle();
    read(from, 8192).expect("there is something");
    equal("and when there is room", waiter.join().ok(), Some(POLLOUT));
    close(from);
    close(to);
}

fn bad_descriptors() {
    equal("a closed descriptor is told as such", poll_now(77, POLLIN), POLLNVAL);
    let limit = libc::rlimit { rlim_cur: 16, rlim_max: 16 };
    let child = linux_tests::process::fork(|| {
        let _ = call!(setrlimit(libc::RLIMIT_NOFILE, &raw const limit));
        let mut entries = vec![pollfd { fd: -1, events: 0, revents: 0 }; 17];
        i32::from(poll_all(&mut entries, 0) == Err(EINVAL))
    });
    let end = linux_tests::process::end_of(child);
    equal("more entries than descriptors can be are refused", end, linux_tests::process::Status::Exited(1));
    let (from, to) = pipe();
    let bad = timespec { tv_sec: 0, tv_nsec: -1 };
    let mut entry = pollfd { fd: from, events: POLLIN, revents: 0 };
    equal(
        "ppoll refuses a time that is none",
        call!(ppoll(&raw mut entry, 1, &raw const bad, ptr::null())),
        Err(EINVAL),
    );
    close(from);
    close(to);
}

fn set_of(fds: &[Fd]) -> fd_set {
    // SAFETY: the set is plain bits, of which zero is valid, and the descriptors are small.
    unsafe {
        let mut set: fd_set = mem::zeroed();
        fds.iter().for_each(|&fd| libc::FD_SET(fd, &raw mut set));
        set
    }
}

fn in_set(set: &fd_set, fd: Fd) -> bool {
    // SAFETY: the set is valid and the descriptor small.
    unsafe { libc::FD_ISSET(fd, set) }
}

fn by_select() {
    let ((from, to), (other, writer)) = (pipe(), pipe());
    write(to, b"x").expect("a pipe takes bytes");
    let (mut readable, mut writable) = (set_of(&[from, other]), set_of(&[to, writer]));
    let none = ptr::null_mut();
    let mut long = timeval { tv_sec: 20, tv_usec: 0 };
    let top = writer.max(to) + 1;
    let count = call!(select(top, &raw mut readable, &raw mut writable, none, &raw mut long));
    equal("select counts what is ready", count, Ok(3));
    equal("to read", (in_set(&readable, from), in_set(&readable, other)), (true, false));
    equal("and to write", (in_set(&writable, to), in_set(&writable, writer)), (true, true));
    close(to);
    read(from, 1).expect("there is something");
    let mut readable = set_of(&[from]);
    equal("an end is readable", call!(select(top, &raw mut readable, none, none, none.cast())), Ok(1));
    let mut closed = set_of(&[to]);
    equal(
        "a closed descriptor is refused",
        call!(select(top, &raw mut closed, none, none, none.cast())),
        Err(EBADF),
    );
    [from, other, writer].into_iter().for_each(close);
}

fn select_limits() {
    let none = ptr::null_mut();
    let mut nap = timeval { tv_sec: 0, tv_usec: 20_000 };
    let start = Instant::now();
    equal("select without descriptors is a sleep", call!(select(0, none, none, none, &raw mut nap)), Ok(0));
    ok("of that length", start.elapsed().as_millis() >= 20);
    equal("and tells that no time is left", (nap.tv_sec, nap.tv_usec), (0, 0));
    equal(
        "fewer than no descriptors are refused",
        call!(select(-1, none, none, none, &raw mut nap)),
        Err(EINVAL),
    );
    let mut bad = timeval { tv_sec: -1, tv_usec: 0 };
    equal("and so is a time that is none", call!(select(0, none, none, none, &raw mut bad)), Err(EINVAL));
}

fn control(epoll: Fd, what: c_int, fd: Fd, events: c_int) -> Result<c_int, Errno> {
    let mut event = epoll_event { events: events as u32, u64: fd as u64 };
    call!(epoll_ctl(epoll, what, fd, &raw mut event))
}

/// What is ready: descriptors and events, in order.
fn ready(epoll: Fd, limit_ms: c_int) -> Vec<(u64, c_int)> {
    let mut events = [epoll_event { events: 0, u64: 0 }; 8];
    let count = call!(epoll_wait(epoll, events.as_mut_ptr(), 8, limit_ms)).unwrap_or(0);
    let mut ready: Vec<_> =
        events.iter().take(count as usize).map(|event| (event.u64, event.events as c_int)).collect();
    ready.sort_unstable();
    ready
}

fn by_epoll() {
    let epoll = call!(epoll_create1(0)).expect("an epoll can be made");
    let ((from, to), (other, writer)) = (pipe(), pipe());
    control(epoll, EPOLL_CTL_ADD, from, EPOLLIN).expect("it can be watched");
    control(epoll, EPOLL_CTL_ADD, other, EPOLLIN).expect("it can be watched");
    equal("at first nothing is ready", ready(epoll, 0), vec![]);
    write(to, b"x").expect("a pipe takes bytes");
    equal("then what was written to", ready(epoll, -1), vec![(from as u64, EPOLLIN)]);
    equal("as long as it is not read", ready(epoll, 0), vec![(from as u64, EPOLLIN)]);
    read(from, 1).expect("there is something");
    equal("and then no more", ready(epoll, 0), vec![]);
    control(epoll, EPOLL_CTL_ADD, writer, EPOLLOUT).expect("it can be watched");
    equal("room to write is told", ready(epoll, 0), vec![(writer as u64, EPOLLOUT)]);
    control(epoll, EPOLL_CTL_MOD, writer, 0).expect("it can be changed");
    equal("until it is not asked for", ready(epoll, 0), vec![]);
    equal("what is watched is not added", control(epoll, EPOLL_CTL_ADD, from, EPOLLIN), Err(EEXIST));
    equal("it can be left", control(epoll, EPOLL_CTL_DEL, from, 0), Ok(0));
    equal("once", control(epoll, EPOLL_CTL_DEL, from, 0), Err(ENOENT));
    equal("and then not changed", control(epoll, EPOLL_CTL_MOD, from, 0), Err(ENOENT));
    let file = call!(open(c"/bin/busybox".as_ptr(), O_RDONLY)).expect("it opens");
    equal("a file is not watched", control(epoll, EPOLL_CTL_ADD, file, EPOLLIN), Err(EPERM));
    equal("nor a closed descriptor", control(epoll, EPOLL_CTL_ADD, 77, EPOLLIN), Err(EBADF));
    equal("nor itself", control(epoll, EPOLL_CTL_ADD, epoll, EPOLLIN), Err(EINVAL));
    write(writer, b"x").expect("a pipe takes bytes");
    close(other);
    equal(
        "a descriptor that is closed is forgotten",
        ready(epoll, 0).iter().filter(|(fd, _)| *fd == other as u64).count(),
        0,
    );
    let mut event = epoll_event { events: 0, u64: 0 };
    equal("room for no events is refused", call!(epoll_wait(epoll, &raw mut event, 0, 0)), Err(EINVAL));
}

fn edges() {
    let epoll = call!(epoll_create1(libc::EPOLL_CLOEXEC)).expect("an epoll can be made");
    let (from, to) = pipe();
    control(epoll, EPOLL_CTL_ADD, from, EPOLLIN | EPOLLET).expect("it can be watched");
    write(to, b"x").expect("a pipe takes bytes");
    equal("with EPOLLET a byte is told", ready(epoll, 0), vec![(from as u64, EPOLLIN)]);
    equal("once", ready(epoll, 0), vec![]);
    write(to, b"y").expect("a pipe takes bytes");
    equal("and the next too", ready(epoll, 0), vec![(from as u64, EPOLLIN)]);
    control(epoll, EPOLL_CTL_MOD, from, EPOLLIN | EPOLLONESHOT).expect("it can be changed");
    equal("with EPOLLONESHOT it is told", ready(epoll, 0), vec![(from as u64, EPOLLIN)]);
    write(to, b"z").expect("a pipe takes bytes");
    equal("once for all", ready(epoll, 0), vec![]);
    control(epoll, EPOLL_CTL_MOD, from, EPOLLIN | EPOLLONESHOT).expect("it can be changed");
    equal("until it is asked for again", ready(epoll, 0), vec![(from as u64, EPOLLIN)]);
    let waiter = thread::spawn(move || ready(epoll, 20_000));
    control(epoll, EPOLL_CTL_MOD, from, EPOLLIN).expect("it can be changed");
    equal(
        "a waiter hears of what is added meanwhile",
        waiter.join().ok(),
        Some(vec![(from as u64, EPOLLIN)]),
    );
    [epoll, from, to].into_iter().for_each(close);
}

fn events() {
    let fd = call!(eventfd(0, libc::EFD_NONBLOCK)).expect("an eventfd can be made");
    equal(
        "an eventfd of 0 is not readable",
        (poll_now(fd, POLLIN), read(fd, 8)),
        (0, Err(linux_tests::errno::EAGAIN)),
    );
    write(fd, &5_u64.to_le_bytes()).expect("it can be added to");
    write(fd, &7_u64.to_le_bytes()).expect("it can be added to");
    equal("what is added is readable", poll_now(fd, POLLIN), POLLIN);
    equal("as one sum", read(fd, 8), Ok(12_u64.to_le_bytes().to_vec()));
    equal("and is gone then", poll_now(fd, POLLIN | POLLOUT), POLLOUT);
    equal("less than eight bytes are refused", (write(fd, b"1234"), read(fd, 4)), (Err(EINVAL), Err(EINVAL)));
    close(fd);
    let counter = call!(eventfd(2, libc::EFD_SEMAPHORE)).expect("an eventfd can be made");
    let one = 1_u64.to_le_bytes().to_vec();
    equal(
        "as a semaphore it is read one by one",
        (read(counter, 8), read(counter, 8)),
        (Ok(one.clone()), Ok(one)),
    );
    equal("until it is empty", files::poll_now(counter, POLLIN), 0);
    close(counter);
}
