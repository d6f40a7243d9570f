//! compare
//!
//! vfork: the caller sleeps until its child runs another program or ends, and both use the same memory.

use std::{
    process::ExitCode,
    ptr,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    thread,
};

use libc::{CLONE_VFORK, CLONE_VM, SIGCHLD, SIGKILL, SIGTERM, SIGUSR1, WNOHANG};
use linux_tests::{
    apart, call, equal,
    errno::ENOENT,
    exec_self, files, ok,
    process::{self, Pid, Status, clone, exit, wait},
    run_with,
    signals::{self, Do, seen},
    times::settle,
};

fn main() -> ExitCode {
    run_with(
        &[("read", |arguments| {
            let fd = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(-1);
            i32::from(files::read(fd, 1) == Ok(vec![]))
        })],
        &[until_exit, until_exec, until_death, other_threads_run, failed_exec, signals_wait, || {
            apart(the_parent_can_be_killed)
        }],
    )
}

fn vfork(child: impl FnOnce() -> i32) -> Pid {
    clone(CLONE_VM | CLONE_VFORK | SIGCHLD, child, ptr::null_mut()).expect("vfork works")
}

fn until_exit() {
    let steps = AtomicU32::new(0);
    let child = vfork(|| {
        steps.store(1, SeqCst);
        settle();
        steps.store(2, SeqCst);
        exit(6)
    });
    equal("43 vfork returns when the child has exited, and memory is shared", steps.load(SeqCst), 2);
    equal("43 the child is a zombie then or soon", process::end_of(child), Status::Exited(6));
}

fn until_exec() {
    let (from, to) = files::pipe();
    call!(fcntl(to, libc::F_SETFD, libc::FD_CLOEXEC)).expect("a descriptor can close on exec");
    let before = AtomicBool::new(false);
    let child = vfork(|| {
        settle();
        before.store(true, SeqCst);
        exec_self("read", &[&from.to_string()]);
        exit(99)
    });
    ok("43 vfork returns when the child runs another program", before.load(SeqCst));
    equal("43 which goes on", wait(child, WNOHANG), Ok(None));
    files::close(to);
    equal("43 by itself", process::end_of(child), Status::Exited(1));
    files::close(from);
}

fn until_death() {
    let child = vfork(|| {
        settle();
        let _ = process::kill(process::me(), SIGKILL);
        99
    });
    equal("43 or is killed", process::end_of(child), Status::Killed(SIGKILL));
}

fn other_threads_run() {
    let ticks = AtomicU32::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                ticks.fetch_add(1, SeqCst);
                thread::yield_now();
            }
        });
        let seen = AtomicU32::new(0);
        let child = vfork(|| {
            let before = ticks.load(SeqCst);
            settle();
            settle();
            seen.store(ticks.load(SeqCst).wrapping_sub(before), SeqCst);
            exit(0)
        });
        ok("43 only the calling thread is suspended", seen.load(SeqCst) > 0);
        process::end_of(child);
        done.store(true, SeqCst);
    });
}

fn failed_exec() {
    let child = vfork(|| {
        let argv = [ptr::null()];
        let error = call!(execve(c"/nothing/here".as_ptr(), argv.as_ptr(), argv.as_ptr()));
        exit(if error.map(drop) == Err(ENOENT) { 7 } else { 8 })
    });
    equal("43 an exec that fails leaves the child where it was", process::end_of(child), Status::Exited(7));
}

fn signals_wait() {
    signals::set(SIGUSR1, Do::Count);
    let parent = process::me();
    let early = AtomicU32::new(0);
    let child = vfork(|| {
        let _ = process::kill(parent, SIGUSR1);
        settle();
        early.store(seen(SIGUSR1), SeqCst);
        exit(0)
    });
    equal("43 a handler of the suspended thread waits", early.load(SeqCst), 0);
    equal("43 until vfork returns", seen(SIGUSR1), 1);
    process::end_of(child);
}

fn the_parent_can_be_killed() {
    call!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1)).expect("a process can be a sub-reaper");
    let parent = process::fork(|| {
        vfork(|| {
            settle();
            settle();
            exit(5)
        });
        99
    });
    settle();
    process::kill(parent, SIGTERM).expect("a child can be killed");
    equal("43 the suspended process can be killed", process::end_of(parent), Status::Killed(SIGTERM));
    let orphan = wait(-1, 0).map(|news| news.map(|(_, status)| status));
    equal("43 and its child goes on to its end", orphan, Ok(Some(Status::Exited(5))));
}
