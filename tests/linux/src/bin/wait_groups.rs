//! compare
//!
//! Process groups as something to wait for, to signal and to join.

use std::{
    process::ExitCode,
    ptr,
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use libc::{P_PGID, SIGALRM, SIGKILL, SIGTERM, WEXITED, WNOHANG, WNOWAIT};
use linux_tests::{
    apart, call, equal,
    errno::{EACCES, ECHILD, EINTR, EINVAL, EPERM, ESRCH},
    exec_self, files,
    memory::shared,
    ok,
    process::{self, Pid, Status, fork, kill, sleeper, wait, waitid},
    run_with,
    signals::{self, Do},
    times::{settle, until},
};

fn main() -> ExitCode {
    run_with(
        &[("sleep", |_| {
            loop {
                let _ = call!(pause());
            }
        })],
        &[
            || apart(waiting_for_groups),
            || apart(own_group_by_waitid),
            || apart(leaving_the_group),
            || apart(joining),
            || apart(joining_after_exec),
            || apart(sessions),
            || apart(group_without_leader),
        ],
    )
}

/// Puts a child into a group.
fn join(child: Pid, group: Pid) {
    call!(setpgid(child, group)).expect("a child can be put into a group");
}

fn own_group() -> Pid {
    join(0, 0);
    process::me()
}

fn waiting_for_groups() {
    let own = own_group();
    let leader = sleeper();
    join(leader, leader);
    let exits = |code, group| {
        let child = fork(|| code);
        // It may have ended, but a zombie has a group too.
        join(child, group);
        child
    };
    let (theirs, ours) = (exits(1, leader), exits(2, own));
    process::until_zombie(theirs);
    process::until_zombie(ours);
    equal("24 waitpid(0) takes the child of the own group", wait(0, 0), Ok(Some((ours, Status::Exited(2)))));
    equal("24 and sees no other", wait(0, WNOHANG), Err(ECHILD));
    equal(
        "24 waitpid(-pgid) takes the child of that group",
        wait(-leader, 0),
        Ok(Some((theirs, Status::Exited(1)))),
    );
    equal("24 and waits for the others of it", wait(-leader, WNOHANG), Ok(None));
    equal("24 a group without children of ours says ECHILD", wait(-theirs, WNOHANG), Err(ECHILD));
    process::kill_and_reap(leader);
}

fn own_group_by_waitid() {
    own_group();
    let (ours, other) = (fork(|| 3), fork(|| 4));
    join(other, other);
    process::until_zombie(other);
    let ask = |group, options| waitid(P_PGID, group, WEXITED | options);
    equal("51 waitid(P_PGID, 0) is the own group", ask(0, 0).map(|info| info.pid), Ok(ours));
    equal("51 only", ask(0, 0).map(drop), Err(ECHILD));
    let news = ask(other as u32, WNOWAIT).map(|info| (info.pid, info.status));
    equal("51 waitid(P_PGID, group) is that group", news, Ok((other, 4)));
    process::end_of(other);
}

extern "C" fn wake(_: i32) {}

/// Here Naiad answers ECHILD at once and Linux sleeps until something interrupts it: only what is common is shown.
fn leaving_the_group() {
    let [go, ..] = shared();
    own_group();
    let child = fork(|| {
        settle();
        join(0, 0);
        until(|| go.load(SeqCst) == 1);
        6
    });
    signals::set(SIGALRM, Do::Handle(wake));
    let start = Instant::now();
    let beat = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: 200_000 },
        it_value: libc::timeval { tv_sec: 0, tv_usec: 200_000 },
    };
    call!(setitimer(libc::ITIMER_REAL, &raw const beat, ptr::null_mut())).expect("a timer can be set");
    let answer = wait(0, 0);
    let _ = call!(alarm(30));
    ok(
        "25 a wait for a group that the child leaves ends without it",
        answer == Err(ECHILD) || answer == Err(EINTR),
    );
    ok("25 soon", start.elapsed() < Duration::from_secs(5));
    equal("25 and asked again there is none", wait(0, WNOHANG), Err(ECHILD));
    go.store(1, SeqCst);
    equal("25 the child is there for a wait by its id", process::end_of(child), Status::Exited(6));
}

fn joining() {
    let own = own_group();
    let (first, second) = (sleeper(), sleeper());
    equal("26 a child is born into its parent's group", call!(getpgid(first)), Ok(own));
    join(first, 0);
    equal("26 setpgid(child, 0) makes it a leader", call!(getpgid(first)), Ok(first));
    join(second, first);
    equal("26 another can join it", call!(getpgid(second)), Ok(first));
    join(second, own);
    equal("26 and leave it", call!(getpgid(second)), Ok(own));
    let ask = |pid, group| call!(setpgid(pid, group)).map(drop);
    equal("26 a negative group is refused", ask(second, -5), Err(EINVAL));
    equal("26 a group that does not exist is refused", ask(second, second + 0x10_0000), Err(EPERM));
    equal("26 only children and oneself can be put", ask(call!(getppid()).unwrap_or(0), 0), Err(ESRCH));
    equal("26 an unknown process has no group", call!(getpgid(0x40_0000)), Err(ESRCH));
    process::kill_and_reap(first);
    process::kill_and_reap(second);
}

fn joining_after_exec() {
    let (from, to) = files::pipe();
    call!(fcntl(to, libc::F_SETFD, libc::FD_CLOEXEC)).expect("a descriptor can close on exec");
    let child = fork(|| {
        exec_self("sleep", &[]);
        99
    });
    files::close(to);
    equal("26 a child runs another program", files::read(from, 1), Ok(vec![]));
    equal(
        "26 setpgid on a child after its exec says EACCES",
        call!(setpgid(child, child)).map(drop),
        Err(EACCES),
    );
    process::kill_and_reap(child);
}

fn sessions() {
    let [ready, ..] = shared();
    let child = fork(|| {
        let led = call!(setsid()) == Ok(process::me());
        let again = call!(setsid()).map(drop) == Err(EPERM);
        ready.store(1 + u32::from(led && again), SeqCst);
        loop {
            let _ = call!(pause());
        }
    });
    until(|| ready.load(SeqCst) != 0);
    equal("26 setsid makes a session once", ready.load(SeqCst), 2);
    equal("26 its leader leads a group as well", call!(getpgid(child)), Ok(child));
    equal("26 and the session has its id", call!(getsid(child)), Ok(child));
    equal("26 setpgid on a session leader says EPERM", call!(setpgid(child, 0)).map(drop), Err(EPERM));
    let other = sleeper();
    equal("26 setpgid into another session says EPERM", call!(setpgid(other, child)).map(drop), Err(EPERM));
    let own = own_group();
    equal("26 the leader of a group cannot make a session", call!(setsid()).map(drop), Err(EPERM));
    equal("26 and stays where it was", call!(getpgrp()), Ok(own));
    process::kill_and_reap(child);
    process::kill_and_reap(other);
}

fn group_without_leader() {
    let leader = fork(|| 0);
    join(leader, leader);
    let members = [sleeper(), sleeper()];
    members.iter().for_each(|&member| join(member, leader));
    process::end_of(leader);
    equal("27 a group lives on after its leader is reaped", kill(-leader, 0), Ok(()));
    equal("27 although the leader does not", kill(leader, 0), Err(ESRCH));
    equal("27 kill(-pgid) reaches its members", kill(-leader, SIGTERM), Ok(()));
    let ends = members.map(process::end_of);
    equal("27 all of them", ends, [Status::Killed(SIGTERM); 2]);
    equal("27 and then there is no group", kill(-leader, SIGKILL), Err(ESRCH));
}
