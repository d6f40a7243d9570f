//! compare
//!
//! Threads of one process that wait at the same time, and what fork and wait mean to each of them.

use std::{
    collections::BTreeSet,
    process::ExitCode,
    ptr,
    sync::{
        Barrier,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    thread,
};

use libc::{__WALL, __WNOTHREAD, P_ALL, P_PID, WEXITED, WNOHANG, WNOWAIT, WUNTRACED};
use linux_tests::{
    apart, call, equal,
    errno::{ECHILD, EINTR},
    memory::shared,
    ok,
    process::{self, Pid, Status, Waited, fork, sleeper, wait},
    run,
    signals::{self, Do},
    times::{settle, until},
};

fn main() -> ExitCode {
    run(&[
        || apart(four_wait_for_one),
        || apart(any_thread_reaps),
        || apart(own_children_only),
        || apart(no_false_echild),
        || apart(a_stop_has_one_reader),
        || apart(fork_of_a_threaded_process),
        || apart(an_interrupted_waiter_takes_nothing),
    ])
}

/// Runs `body` in `count` threads at once, each with its number, and gathers what they return.
fn in_threads<T: Send>(count: usize, body: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(count);
    thread::scope(|scope| {
        let enter = |number| {
            let (start, body) = (&start, &body);
            scope.spawn(move || {
                start.wait();
                body(number)
            })
        };
        let threads: Vec<_> = (0..count).map(enter).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread ends")).collect()
    })
}

fn four_wait_for_one() {
    for late in [false, true] {
        let right = (0..20).all(|_| one_winner(late));
        let when = if late { "that is still alive" } else { "that has perhaps ended" };
        ok(&format!("8 of four threads waiting for one child {when}, one gets it and three ECHILD"), right);
    }
}

fn one_winner(late: bool) -> bool {
    let [go, ..] = shared();
    go.store(u32::from(!late), SeqCst);
    let child = fork(|| {
        until(|| go.load(SeqCst) == 1);
        5
    });
    let answers = thread::scope(|scope| {
        if late {
            scope.spawn(|| {
                settle();
                go.store(1, SeqCst);
            });
        }
        in_threads(4, |_| wait(child, 0))
    });
    let won = |answer: &&Waited| **answer == Ok(Some((child, Status::Exited(5))));
    let lost = |answer: &&Waited| **answer == Err(ECHILD);
    answers.iter().filter(won).count() == 1 && answers.iter().filter(lost).count() == 3
}

fn any_thread_reaps() {
    const THREADS: usize = 8;
    const EACH: usize = 50;
    let all_forked = Barrier::new(THREADS);
    let reaped = in_threads(THREADS, |_| {
        let forked: Vec<Pid> = (0..EACH).map(|_| fork(|| 0)).collect();
        all_forked.wait();
        let mut reaped = Vec::new();
        let end = loop {
            match wait(-1, 0) {
                Ok(Some((pid, Status::Exited(0)))) => reaped.push(pid),
                other => break other,
            }
        };
        (forked, reaped, end)
    });
    let forked: BTreeSet<Pid> = reaped.iter().flat_map(|(forked, ..)| forked.clone()).collect();
    let all: Vec<Pid> = reaped.iter().flat_map(|(_, reaped, _)| reaped.clone()).collect();
    let distinct: BTreeSet<Pid> = all.iter().copied().collect();
    equal("9 eight threads with 400 children reap 400 times", all.len(), 400);
    ok("9 each child once, whoever forked it", distinct == forked && distinct.len() == 400);
    ok("9 and all end with ECHILD", reaped.iter().all(|(.., end)| *end == Err(ECHILD)));
}

fn own_children_only() {
    let child = fork(|| 6);
    process::until_zombie(child);
    let other = thread::spawn(move || {
        let first = wait(-1, __WNOTHREAD | WNOHANG);
        let own = fork(|| 7);
        (first, wait(-1, __WNOTHREAD) == Ok(Some((own, Status::Exited(7)))), wait(-1, __WNOTHREAD))
    });
    let answer = other.join().expect("a thread ends");
    equal("10 with __WNOTHREAD a thread does not see another thread's child", answer.0, Err(ECHILD));
    ok("10 it sees its own", answer.1);
    equal("10 and then none", answer.2, Err(ECHILD));
    equal("10 who forked it sees it", wait(-1, __WNOTHREAD), Ok(Some((child, Status::Exited(6)))));
}

fn no_false_echild() {
    let current = AtomicU32::new(0);
    let done = AtomicBool::new(false);
    let peek = || {
        while !done.load(SeqCst) {
            let pid = current.load(SeqCst);
            let _ = process::waitid(P_PID, pid.max(1), WEXITED | WNOWAIT | WNOHANG);
            let _ = process::waitid(P_ALL, 0, WEXITED | WNOWAIT | WNOHANG);
        }
    };
    let round = |_| {
        let child = fork(|| 8);
        current.store(child as u32, SeqCst);
        process::until_zombie(child);
        wait(-1, WNOHANG) == Ok(Some((child, Status::Exited(8))))
    };
    let right = thread::scope(|scope| {
        scope.spawn(peek);
        scope.spawn(peek);
        let right = (0..100).all(round);
        done.store(true, SeqCst);
        right
    });
    ok("55 while two threads peek at a zombie with WNOWAIT, a third always gets it", right);
}

fn a_stop_has_one_reader() {
    let child = sleeper();
    process::kill(child, libc::SIGSTOP).expect("a child can be stopped");
    process::until_stopped(child);
    let answers = in_threads(4, |_| wait(child, WUNTRACED | WNOHANG));
    let stops = answers.iter().filter(|answer| matches!(answer, Ok(Some(_)))).count();
    let nothings = answers.iter().filter(|answer| **answer == Ok(None)).count();
    equal("17 of four threads asking for one stop, one is told", (stops, nothings), (1, 3));
    let waiting = thread::spawn(move || wait(child, 0));
    settle();
    let _ = process::kill(child, libc::SIGKILL);
    let answer = waiting.join().expect("a thread ends");
    equal("8 a wait sleeps through a stop", answer, Ok(Some((child, Status::Killed(libc::SIGKILL)))));
}

fn fork_of_a_threaded_process() {
    let parent = process::me();
    let ticks = AtomicU32::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                ticks.fetch_add(1, SeqCst);
                thread::yield_now();
            }
        });
        until(|| ticks.load(SeqCst) > 10);
        let forker = scope.spawn(|| {
            fork(|| {
                let before = ticks.load(SeqCst);
                settle();
                let alone = ticks.load(SeqCst) == before;
                let leads = call!(gettid()) == Ok(process::me());
                let parent_is_process = call!(getppid()) == Ok(parent);
                i32::from(alone) | i32::from(leads) << 1 | i32::from(parent_is_process) << 2
            })
        });
        let child = forker.join().expect("a thread ends");
        let Status::Exited(bits) = process::end_of(child) else { panic!("the child exits") };
        ok("34 the child of a threaded process has one thread", bits & 1 != 0);
        ok("34 which leads it", bits & 2 != 0);
        ok("34 and its parent is the process, not the thread", bits & 4 != 0);
        done.store(true, SeqCst);
    });
}

extern "C" fn nothing(_: i32) {}

fn an_interrupted_waiter_takes_nothing() {
    signals::set(libc::SIGUSR1, Do::Handle(nothing));
    let round = |code: i32| {
        let child = fork(|| code & 0x7f);
        let first = AtomicU32::new(0);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| {
                first.store(call!(gettid()).unwrap_or(0) as u32, SeqCst);
                let mut taken = wait(child, __WALL);
                while taken == Err(EINTR) {
                    taken = wait(child, __WALL);
                }
                taken
            });
            until(|| first.load(SeqCst) != 0);
            let _ = call!(syscall(libc::SYS_tgkill, process::me(), first.load(SeqCst), libc::SIGUSR1));
            waiter.join().expect("a thread ends") == Ok(Some((child, Status::Exited(code & 0x7f))))
        })
    };
    ok("53 a signal to a waiting thread loses no status, in a hundred races", (0..100).all(round));
    equal("53 and leaves none behind", call!(waitpid(-1, ptr::null_mut(), 0)), Err(ECHILD));
}
