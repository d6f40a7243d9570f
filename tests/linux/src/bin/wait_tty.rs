//! A terminal whose session or process group is left alone. It needs a pseudo-terminal.
//!
//! Both sides of it are made here, so that no terminal outside has a part in it.

use std::{
    ffi::CStr,
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use libc::{O_NOCTTY, O_RDWR, PR_SET_CHILD_SUBREAPER, SIGHUP, SIGTTIN, SIGTTOU, TIOCSCTTY, WUNTRACED};
use linux_tests::{
    apart, call, equal,
    errno::{EIO, ENXIO},
    files::{self, Fd},
    memory::shared,
    ok,
    process::{self, Pid, Status, fork, wait},
    run,
    signals::{self, Do, seen},
    times::until,
};

fn main() -> ExitCode {
    run(&[|| apart(reading_in_the_background), || apart(orphans_read), || apart(the_leader_exits)])
}

/// The master of a new pseudo-terminal, and its other side.
fn terminal() -> (Fd, Fd) {
    let master = call!(posix_openpt(O_RDWR | O_NOCTTY)).expect("there are pseudo-terminals");
    call!(grantpt(master)).expect("one can be granted");
    call!(unlockpt(master)).expect("and unlocked");
    let mut name = [0_u8; 64];
    call!(ptsname_r(master, name.as_mut_ptr().cast(), name.len())).expect("it has a name");
    let name = CStr::from_bytes_until_nul(&name).expect("the name ends");
    let slave = call!(open(name.as_ptr(), O_RDWR | O_NOCTTY)).expect("its other side can be opened");
    (master, slave)
}

/// Runs `leader` as the leader of a session with this terminal.
fn session(slave: Fd, leader: impl FnOnce() -> i32) -> Pid {
    fork(|| {
        call!(setsid()).expect("a child can make a session");
        call!(ioctl(slave, TIOCSCTTY, 0)).expect("it can take the terminal");
        leader()
    })
}

fn own_group() {
    call!(setpgid(0, 0)).expect("a child can have a group");
}

fn reading_in_the_background() {
    let (_master, slave) = terminal();
    let leader = session(slave, || {
        let reader = fork(|| {
            own_group();
            i32::from(files::read(slave, 1).is_ok())
        });
        let stopped = wait(reader, WUNTRACED) == Ok(Some((reader, Status::Stopped(SIGTTIN))));
        process::kill_and_reap(reader);
        i32::from(stopped)
    });
    equal("40 a read in the background stops its group", process::end_of(leader), Status::Exited(1));
}

fn orphans_read() {
    let [go, answer, ..] = shared();
    let (_master, slave) = terminal();
    call!(prctl(PR_SET_CHILD_SUBREAPER, 1)).expect("a process can be a sub-reaper");
    let leader = session(slave, || {
        let middle = fork(|| {
            own_group();
            fork(|| {
                until(|| go.load(SeqCst) == 1);
                answer.store(1 + u32::from(files::read(slave, 1) == Err(EIO)), SeqCst);
                0
            });
            0
        });
        process::end_of(middle);
        go.store(1, SeqCst);
        until(|| answer.load(SeqCst) != 0);
        0
    });
    process::end_of(leader);
    equal("40 in an orphaned group the read gives EIO", answer.load(SeqCst), 2);
    let _ = wait(-1, 0);
}

fn the_leader_exits() {
    let [ready, hangups, no_terminal, ..] = shared();
    let (_master, slave) = terminal();
    call!(prctl(PR_SET_CHILD_SUBREAPER, 1)).expect("a process can be a sub-reaper");
    let leader = session(slave, || {
        signals::set(SIGTTOU, Do::Ignore);
        let member = fork(|| foreground(ready, hangups, no_terminal));
        call!(setpgid(member, member)).expect("a child can have a group");
        call!(tcsetpgrp(slave, member)).expect("it can have the foreground");
        until(|| ready.load(SeqCst) == 1);
        0
    });
    equal("41 the leader of a session ends", process::end_of(leader), Status::Exited(0));
    let _ = wait(-1, 0);
    equal("41 the foreground group gets SIGHUP", hangups.load(SeqCst), 1);
    equal("41 the terminal is nobody's", no_terminal.load(SeqCst), 2);
    let next = session(slave, || i32::from(call!(tcgetpgrp(slave)) == Ok(process::me())));
    equal("41 and can be another session's", process::end_of(next), Status::Exited(1));
}

fn foreground(ready: &AtomicU32, hangups: &AtomicU32, no_terminal: &AtomicU32) -> i32 {
    signals::set(SIGHUP, Do::Count);
    ok("41 a member of a session can open its terminal", call!(open(c"/dev/tty".as_ptr(), O_RDWR)).is_ok());
    ready.store(1, SeqCst);
    until(|| seen(SIGHUP) > 0);
    hangups.store(seen(SIGHUP), SeqCst);
    let has = call!(open(c"/dev/tty".as_ptr(), O_RDWR)).map(drop);
    no_terminal.store(1 + u32::from(has == Err(ENXIO)), SeqCst);
    0
}
