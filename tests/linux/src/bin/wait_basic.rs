//! compare
//!
//! What `waitpid` and `waitid` answer to one thread: no children, none ready, bad questions, peeking.

use std::{process::ExitCode, ptr};

use libc::{P_ALL, P_PID, WCONTINUED, WEXITED, WNOHANG, WNOWAIT, WSTOPPED, WUNTRACED, siginfo_t};
use linux_tests::{
    Errno, call, equal,
    errno::{ECHILD, EINVAL, ESRCH},
    ok,
    process::{self, Info, Status, fork, sleeper, wait, waitid},
    run,
};

fn main() -> ExitCode {
    run(&[without_children, none_ready, bad_questions, odd_but_allowed, codes, peeking])
}

fn without_children() {
    equal("1 without children, wait says ECHILD", wait(-1, 0), Err(ECHILD));
    equal("1 and with WNOHANG too", wait(-1, WNOHANG), Err(ECHILD));
    equal("1 and for the own group", wait(0, WNOHANG), Err(ECHILD));
    equal("1 and for a process that is no child", wait(process::me(), 0), Err(ECHILD));
    equal("1 and waitid", waitid(P_ALL, 0, WEXITED).map(drop), Err(ECHILD));
    equal("1 and waitid with WNOHANG", waitid(P_ALL, 0, WEXITED | WNOHANG).map(drop), Err(ECHILD));
}

fn none_ready() {
    let child = sleeper();
    equal("2 with none ready, WNOHANG answers 0", wait(-1, WNOHANG), Ok(None));
    equal("2 also for all kinds of news", wait(child, WNOHANG | WUNTRACED | WCONTINUED), Ok(None));
    let answer = waitid(P_ALL, 0, WEXITED | WNOHANG);
    equal("2 waitid then zeroes si_pid and si_signo", answer.map(|info| (info.pid, info.signal)), Ok((0, 0)));
    equal("2 and the child is there to kill", process::kill_and_reap(child), Status::Killed(libc::SIGKILL));
}

fn bad_questions() {
    let child = sleeper();
    for option in [0x10, 0x100, 0x1000_0000] {
        equal(&format!("3 waitpid refuses option {option:#x}"), wait(child, option), Err(EINVAL));
    }
    equal("3 waitpid refuses WEXITED", wait(child, WEXITED | WNOHANG), Err(EINVAL));
    equal("3 waitpid refuses WNOWAIT", wait(child, WNOWAIT | WNOHANG), Err(EINVAL));
    let ask = |kind, id: u32, options| waitid(kind, id, options).map(drop);
    equal("3 waitid refuses to wait for nothing", ask(P_ALL, 0, 0), Err(EINVAL));
    equal("3 and WNOHANG alone", ask(P_ALL, 0, WNOHANG), Err(EINVAL));
    equal("3 and WNOWAIT alone", ask(P_PID, child as u32, WNOWAIT | WNOHANG), Err(EINVAL));
    equal("3 and unknown options", ask(P_ALL, 0, WEXITED | 0x10), Err(EINVAL));
    equal("3 and an unknown kind of id", ask(9, 0, WEXITED | WNOHANG), Err(EINVAL));
    equal("3 and process 0", ask(P_PID, 0, WEXITED | WNOHANG), Err(EINVAL));
    equal("3 a bad question consumed nothing", wait(child, WNOHANG), Ok(None));
    process::kill_and_reap(child);
}

fn odd_but_allowed() {
    equal("4 waitpid(INT_MIN) says ESRCH", wait(i32::MIN, 0), Err(ESRCH));
    let child = fork(|| 3);
    let answer = call!(waitid(P_PID, child as u32, ptr::null_mut::<siginfo_t>(), WEXITED));
    equal("4 waitid needs no place for its answer", answer, Ok(0));
    equal("4 and has reaped", wait(child, 0), Err(ECHILD));
    let child = fork(|| 3);
    equal(
        "4 waitpid needs no place for the status",
        call!(waitpid(child, ptr::null_mut(), 0)) == Ok(child),
        true,
    );
}

fn codes() {
    let child = fork(|| 0x1234);
    equal("6 _exit(0x1234) is 0x34", process::end_of(child), Status::Exited(0x34));
    let child = fork(|| 0x1234);
    equal("6 through waitid too", waitid(P_PID, child as u32, WEXITED).map(|info| info.status), Ok(0x34));
    let child = fork(|| -1);
    equal("6 _exit(-1) is 0xff", process::end_of(child), Status::Exited(0xff));
}

fn peeking() {
    let child = fork(|| 7);
    let wanted = Info { pid: child, uid: 0, signal: libc::SIGCHLD, code: libc::CLD_EXITED, status: 7 };
    for round in 1..=4 {
        equal(
            &format!("7 WNOWAIT shows the child, time {round}"),
            waitid(P_PID, child as u32, WEXITED | WNOWAIT),
            Ok(wanted),
        );
    }
    equal("7 by any kind of id", waitid(P_ALL, 0, WEXITED | WNOWAIT), Ok(wanted));
    equal("7 and leaves it reapable", wait(-1, 0), Ok(Some((child, Status::Exited(7)))));
    equal("7 once", wait(-1, 0), Err(ECHILD));
    stops_can_be_peeked_at();
}

fn stops_can_be_peeked_at() {
    let child = sleeper();
    let ask = |options| waitid(P_PID, child as u32, options | WNOHANG).map(|info| info.code);
    process::kill(child, libc::SIGSTOP).expect("a child can be stopped");
    process::until_stopped(child);
    equal("7 a stop can be peeked at again", ask(WSTOPPED | WNOWAIT), Ok(libc::CLD_STOPPED));
    equal("7 and then be taken", ask(WSTOPPED), Ok(libc::CLD_STOPPED));
    equal("7 once", ask(WSTOPPED), Ok(0));
    process::kill(child, libc::SIGCONT).expect("a child can be continued");
    ok("7 a continue can be peeked at", ask(WCONTINUED | WNOWAIT) == Ok(libc::CLD_CONTINUED));
    equal("7 and then be taken", ask(WCONTINUED), Ok(libc::CLD_CONTINUED));
    equal("7 once", ask(WCONTINUED), Ok(0));
    process::kill_and_reap(child);
    let nobody: Result<i32, Errno> = call!(waitpid(-1, ptr::null_mut(), 0));
    equal("1 a wait after the last reap says ECHILD again", nobody, Err(ECHILD));
}
