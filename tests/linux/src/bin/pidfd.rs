//! compare
//!
//! Descriptors of processes: when they are readable, waiting by them, and signals by them.

use std::{
    ffi::{CStr, CString},
    process::ExitCode,
    ptr,
};

use libc::{CLONE_PIDFD, P_PIDFD, POLLIN, SIGCHLD, SIGTERM, WEXITED, WNOHANG, WNOWAIT, c_void};
use linux_tests::{
    Errno, call, equal,
    errno::{EAGAIN, EBADF, ECHILD, EINVAL, ESRCH},
    files,
    files::Fd,
    ok,
    process::{self, Pid, Status, clone, fork, sleeper, wait, waitid},
    run,
    times::settle,
};

fn main() -> ExitCode {
    run(&[readiness, waiting, by_directory, signalling, questions, from_clone, not_blocking])
}

fn open(pid: Pid, flags: u32) -> Result<Fd, Errno> {
    call!(syscall(libc::SYS_pidfd_open, pid, flags)).map(|fd| fd as Fd)
}

fn send(fd: Fd, signal: i32) -> Result<(), Errno> {
    call!(syscall(libc::SYS_pidfd_send_signal, fd, signal, ptr::null::<c_void>(), 0)).map(drop)
}

fn readiness() {
    let child = sleeper();
    let fd = open(child, 0).expect("a child has a descriptor");
    equal("50 a pidfd closes on exec", call!(fcntl(fd, libc::F_GETFD)), Ok(libc::FD_CLOEXEC));
    equal("50 it is not readable while the process lives", files::poll_now(fd, POLLIN), 0);
    equal("50 a signal goes through it", send(fd, SIGTERM), Ok(()));
    equal("50 it is readable when the process is dead", files::poll(fd, POLLIN, 10_000) & POLLIN, POLLIN);
    equal("50 which is still to be reaped", process::end_of(child), Status::Killed(SIGTERM));
    equal("50 it stays readable after the reap", files::poll_now(fd, POLLIN) & POLLIN, POLLIN);
    files::close(fd);
}

fn waiting() {
    let child = fork(|| 4);
    let fd = open(child, 0).expect("a child has a descriptor");
    let ask = |options| waitid(P_PIDFD, fd as u32, WEXITED | options).map(|info| (info.pid, info.status));
    equal("50 waitid(P_PIDFD) with WNOWAIT peeks", ask(WNOWAIT), Ok((child, 4)));
    equal("50 waitid(P_PIDFD) reaps", ask(0), Ok((child, 4)));
    equal("50 once", ask(0), Err(ECHILD));
    equal("50 nothing is left for others", wait(-1, WNOHANG), Err(ECHILD));
    files::close(fd);
}

fn by_directory() {
    let child = sleeper();
    let path = CString::new(format!("/proc/{child}")).expect("a path");
    let at = |path: &CStr| call!(open(path.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY)).expect("it opens");
    let fd = at(&path);
    equal("50 a process's folder in /proc is as good to send to", send(fd, 0), Ok(()));
    equal("50 another one is not", send(at(c"/proc"), 0), Err(EBADF));
    equal("50 the signal goes through it", send(fd, SIGTERM), Ok(()));
    equal("50 and is taken", process::end_of(child), Status::Killed(SIGTERM));
    equal("50 after the reap it says ESRCH", send(fd, 0), Err(ESRCH));
    files::close(fd);
}

fn signalling() {
    let child = fork(|| 0);
    let fd = open(child, 0).expect("a child has a descriptor");
    process::until_zombie(child);
    equal("50 a zombie can be signalled", send(fd, 0), Ok(()));
    process::end_of(child);
    equal("50 after the reap a signal says ESRCH", send(fd, 0), Err(ESRCH));
    equal("50 even a deadly one", send(fd, SIGTERM), Err(ESRCH));
    files::close(fd);
    let own = open(process::me(), 0).expect("a process has a descriptor of itself");
    equal("50 a process can signal itself", send(own, 0), Ok(()));
    equal("50 but not wait for itself", waitid(P_PIDFD, own as u32, WEXITED).map(drop), Err(ECHILD));
    equal("50 a signal that does not exist is refused", send(own, 65), Err(EINVAL));
    files::close(own);
}

fn questions() {
    equal("50 process 0 has none", open(0, 0), Err(EINVAL));
    equal("50 unknown flags are refused", open(process::me(), 1), Err(EINVAL));
    let gone = fork(|| 0);
    process::end_of(gone);
    equal("50 a process that is gone has none", open(gone, 0), Err(ESRCH));
    equal("50 a closed descriptor is refused", send(77, 0), Err(EBADF));
    equal("50 by waitid too", waitid(P_PIDFD, 77, WEXITED).map(drop), Err(EBADF));
    let (from, to) = files::pipe();
    equal("50 as is one of something else", send(from, 0), Err(EBADF));
    equal("50 by waitid too", waitid(P_PIDFD, to as u32, WEXITED).map(drop), Err(EBADF));
    files::close(from);
    files::close(to);
}

fn from_clone() {
    let mut fd = -1;
    let child = clone(CLONE_PIDFD | SIGCHLD, || 5, &raw mut fd).expect("clone gives a descriptor");
    ok("50 clone gives a pidfd", fd > 2);
    let news = waitid(P_PIDFD, fd as u32, WEXITED).map(|info| (info.pid, info.status));
    equal("50 of the new child", news, Ok((child, 5)));
    files::close(fd);
}

fn not_blocking() {
    let child = sleeper();
    let fd = open(child, libc::O_NONBLOCK as u32).expect("a descriptor can be non-blocking");
    let ask = |options| waitid(P_PIDFD, fd as u32, WEXITED | options).map(|info| info.pid);
    equal("50 waitid by a non-blocking pidfd says EAGAIN", ask(0), Err(EAGAIN));
    equal("50 and with WNOHANG 0", ask(WNOHANG), Ok(0));
    files::set_blocking(fd, true);
    let killer = process::fork(|| {
        settle();
        i32::from(process::kill(child, libc::SIGKILL).is_err())
    });
    equal("50 made blocking it waits", ask(WNOWAIT), Ok(child));
    process::end_of(killer);
    files::set_blocking(fd, false);
    equal("50 and says what there is, made non-blocking again", ask(WNOWAIT), Ok(child));
    process::kill_and_reap(child);
    files::close(fd);
}
