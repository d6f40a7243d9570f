//! compare
//!
//! Stopping and continuing: who hears of it, how often, and what waits meanwhile.

use std::{
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
};

use libc::{
    SA_NOCLDSTOP, SIGCHLD, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, SIGTSTP, SIGUSR1, WCONTINUED, WNOHANG,
    WUNTRACED,
};
use linux_tests::{
    apart, equal,
    errno::EINVAL,
    memory::shared,
    ok,
    process::{self, Pid, Status, fork, kill, kill_and_reap, sleeper, until_stopped, wait},
    run,
    signals::{self, Do, seen},
    times::{settle, until},
};

fn main() -> ExitCode {
    run(&[
        || apart(stops_without_signal),
        reported_once,
        only_the_last_news,
        pending_while_stopped,
        continue_always_works,
        stop_and_continue_cancel,
        stop_cannot_be_avoided,
        again_and_again,
    ])
}

fn stop(pid: Pid) {
    kill(pid, SIGSTOP).expect("a child can be stopped");
    until_stopped(pid);
}

fn resume(pid: Pid) {
    kill(pid, SIGCONT).expect("a child can be continued");
}

fn stops_without_signal() {
    signals::set_with(SIGCHLD, Do::Count, SA_NOCLDSTOP, &[]).expect("an action can be set");
    let child = sleeper();
    stop(child);
    settle();
    equal("16 with SA_NOCLDSTOP no SIGCHLD comes for a stop", seen(SIGCHLD), 0);
    equal(
        "16 WUNTRACED still reports it",
        wait(child, WUNTRACED),
        Ok(Some((child, Status::Stopped(SIGSTOP)))),
    );
    resume(child);
    settle();
    equal("16 no SIGCHLD comes for a continue", seen(SIGCHLD), 0);
    equal("16 WCONTINUED still reports it", wait(child, WCONTINUED), Ok(Some((child, Status::Continued))));
    kill(child, SIGKILL).expect("a child can be killed");
    ok("16 its end sends SIGCHLD", until(|| seen(SIGCHLD) == 1));
    process::end_of(child);

    signals::set(SIGCHLD, Do::Count);
    let child = sleeper();
    stop(child);
    ok("16 without SA_NOCLDSTOP a stop sends SIGCHLD", until(|| seen(SIGCHLD) == 2));
    resume(child);
    ok("16 and so does a continue", until(|| seen(SIGCHLD) == 3));
    kill_and_reap(child);
}

fn reported_once() {
    let child = sleeper();
    stop(child);
    equal("17 a stop is reported", wait(-1, WUNTRACED), Ok(Some((child, Status::Stopped(SIGSTOP)))));
    equal("17 once", wait(-1, WUNTRACED | WNOHANG), Ok(None));
    kill(child, SIGSTOP).expect("a stopped child can be signalled");
    settle();
    equal("17 a stop of a stopped child is no news", wait(-1, WUNTRACED | WNOHANG), Ok(None));
    equal("17 without WUNTRACED it is not reported at all", wait(-1, WNOHANG), Ok(None));
    resume(child);
    equal("17 a continue is reported", wait(-1, WCONTINUED), Ok(Some((child, Status::Continued))));
    equal("17 once", wait(-1, WCONTINUED | WNOHANG), Ok(None));
    resume(child);
    settle();
    equal("17 SIGCONT to a running child is no news", wait(-1, WCONTINUED | WNOHANG), Ok(None));
    kill_and_reap(child);
}

fn only_the_last_news() {
    let child = sleeper();
    stop(child);
    resume(child);
    let all = WUNTRACED | WCONTINUED | WNOHANG;
    equal(
        "18 of a stop and a continue only the continue is reported",
        wait(-1, all),
        Ok(Some((child, Status::Continued))),
    );
    equal("18 and then nothing", wait(-1, all), Ok(None));
    stop(child);
    resume(child);
    stop(child);
    equal("18 stopped again, only the stop", wait(-1, all), Ok(Some((child, Status::Stopped(SIGSTOP)))));
    equal("18 and then nothing", wait(-1, all), Ok(None));
    kill(child, SIGKILL).expect("a child can be killed");
    process::until_zombie(child);
    equal("18 ended, only the end", wait(-1, all), Ok(Some((child, Status::Killed(SIGKILL)))));
}

/// A child that counts SIGUSR1 in shared memory.
fn counter(count: &AtomicU32, ready: &AtomicU32) -> Pid {
    let child = fork(|| {
        signals::set(SIGUSR1, Do::Count);
        ready.store(1, SeqCst);
        loop {
            count.store(seen(SIGUSR1), SeqCst);
            settle();
        }
    });
    until(|| ready.load(SeqCst) == 1);
    child
}

fn pending_while_stopped() {
    let [count, ready, ..] = shared();
    let child = counter(count, ready);
    stop(child);
    kill(child, SIGUSR1).expect("a stopped child can be signalled");
    settle();
    settle();
    equal("19 a signal to a stopped process waits", count.load(SeqCst), 0);
    resume(child);
    ok("19 until it is continued", until(|| count.load(SeqCst) == 1));
    stop(child);
    kill(child, SIGTERM).expect("a stopped child can be signalled");
    settle();
    equal("19 a deadly one waits too", wait(child, WNOHANG), Ok(None));
    resume(child);
    equal("19 and then kills", process::end_of(child), Status::Killed(SIGTERM));
    let child = sleeper();
    stop(child);
    equal("19 SIGKILL ends a stopped process", kill_and_reap(child), Status::Killed(SIGKILL));
}

fn continue_always_works() {
    let ways: [(&str, fn()); 4] = [
        ("by default", || signals::set(SIGCONT, Do::Default)),
        ("ignored", || signals::set(SIGCONT, Do::Ignore)),
        ("blocked", || signals::block(&[SIGCONT])),
        ("caught", || signals::set(SIGCONT, Do::Count)),
    ];
    for (name, prepare) in ways {
        let child = fork(|| {
            prepare();
            signals::raise(SIGSTOP);
            20 + 2 * seen(SIGCONT) as i32 + i32::from(signals::pending(SIGCONT))
        });
        until_stopped(child);
        resume(child);
        let wanted = match name {
            "caught" => 22,
            "blocked" => 21,
            _ => 20,
        };
        equal(
            &format!("20 SIGCONT resumes when it is {name}"),
            process::end_of(child),
            Status::Exited(wanted),
        );
    }
}

fn stop_and_continue_cancel() {
    let child = fork(|| {
        signals::block(&[SIGTSTP, SIGCONT]);
        signals::raise(SIGTSTP);
        let stop = signals::pending(SIGTSTP);
        signals::raise(SIGCONT);
        let after = (signals::pending(SIGTSTP), signals::pending(SIGCONT));
        signals::raise(SIGTSTP);
        let last = (signals::pending(SIGTSTP), signals::pending(SIGCONT));
        signals::raise(SIGCONT);
        signals::unblock(&[SIGTSTP, SIGCONT]);
        i32::from((stop, after, last) != (true, (false, true), (true, false)))
    });
    equal("20 SIGCONT and a stop signal discard each other", process::end_of(child), Status::Exited(0));
}

fn stop_cannot_be_avoided() {
    equal("20 SIGSTOP cannot be caught", signals::set_with(SIGSTOP, Do::Count, 0, &[]), Err(EINVAL));
    equal("20 SIGSTOP cannot be ignored", signals::set_with(SIGSTOP, Do::Ignore, 0, &[]), Err(EINVAL));
    equal("20 SIGKILL cannot be caught", signals::set_with(SIGKILL, Do::Count, 0, &[]), Err(EINVAL));
    let child = fork(|| {
        signals::block(&[SIGSTOP, SIGKILL]);
        let mask = signals::mask();
        signals::raise(SIGSTOP);
        i32::from(signals::contains(&mask, SIGSTOP) || signals::contains(&mask, SIGKILL))
    });
    until_stopped(child);
    ok("20 SIGSTOP stops although it was blocked", true);
    resume(child);
    equal("20 and is not in the mask", process::end_of(child), Status::Exited(0));
}

fn again_and_again() {
    let [count, ready, ..] = shared();
    let child = counter(count, ready);
    let round = |_| {
        kill(child, SIGSTOP).expect("a child can be stopped");
        let stopped = wait(child, WUNTRACED) == Ok(Some((child, Status::Stopped(SIGSTOP))));
        resume(child);
        stopped && wait(child, WCONTINUED) == Ok(Some((child, Status::Continued)))
    };
    ok("17 fifty stops and continues are reported fifty times", (0..50).all(round));
    kill_and_reap(child);
}
