//! compare
//!
//! Everything about waiting at once: threads that reap in two ways, threads that peek, children that stop and change
//! their group, parents that exit and leave orphans, and a signal handler that interrupts all of it.
//!
//! `wait_storm [FAMILIES]`: each family is a child that makes another and exits without waiting for it. Every process
//! must be reaped exactly once, with its own status, whoever reaps it.

use std::{
    env,
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    thread,
};

use libc::{
    P_ALL, PR_SET_CHILD_SUBREAPER, SIGCHLD, SIGCONT, SIGHUP, SIGSTOP, WEXITED, WNOHANG, WNOWAIT, WSTOPPED,
};
use linux_tests::{
    call, equal,
    errno::{ECHILD, EINTR},
    memory::shared,
    ok,
    process::{self, Keeper, Pid, Status, fork, kill, wait, waitid},
    run, say,
    signals::{self, Do},
    times::sleep_ms,
};

/// A page of ids has room for so many families.
const FAMILIES_MAX: usize = 500;
const REAPERS: usize = 8;
const ALIVE_MAX: u32 = 48;

fn main() -> ExitCode {
    run(&[storm])
}

/// Where every process of the storm notes its id: the parents, and then the orphans they leave.
struct Register {
    parents: &'static [AtomicU32],
    orphans: &'static [AtomicU32],
}

impl Register {
    fn new(families: usize) -> Register {
        let (parents, orphans) = shared().split_at(FAMILIES_MAX);
        Register { parents: &parents[..families], orphans: &orphans[..families] }
    }

    /// Who should end how: parents and orphans exit with different codes, by their number.
    fn expected(&self) -> Vec<(Pid, i32)> {
        let with_codes = |ids: &'static [AtomicU32], first| {
            (0..).zip(ids).map(move |(number, id)| (id.load(SeqCst) as Pid, first + number % 100))
        };
        with_codes(self.parents, 0).chain(with_codes(self.orphans, 100)).collect()
    }

    fn ids(&self) -> impl Iterator<Item = Pid> {
        self.parents.iter().chain(self.orphans).map(|id| id.load(SeqCst) as Pid).filter(|&id| id != 0)
    }
}

/// What a process of the storm does before it exits, by its number.
fn misbehave(number: usize) {
    match number % 7 {
        0 => signals::raise(SIGSTOP),
        1 => {
            let _ = call!(setpgid(0, 0));
        }
        2 => sleep_ms(1),
        3 => thread::yield_now(),
        _ => {}
    }
}

fn family(register: &Register, number: usize) -> i32 {
    register.parents[number].store(process::me() as u32, SeqCst);
    fork(|| {
        register.orphans[number].store(process::me() as u32, SeqCst);
        misbehave(number + 3);
        100 + (number % 100) as i32
    });
    misbehave(number);
    (number % 100) as i32
}

/// Reaps by `waitpid` or by `waitid`, until there is nobody left.
fn reap(by_waitid: bool, reaped: &AtomicU32) -> Vec<(Pid, i32)> {
    let mut harvest = Vec::new();
    loop {
        let child = if by_waitid {
            waitid(P_ALL, 0, WEXITED).map(|info| (info.pid, info.status))
        } else {
            wait(-1, 0).map(|child| match child {
                Some((pid, Status::Exited(code))) => (pid, code),
                other => panic!("only ends are waited for: {other:?}"),
            })
        };
        match child {
            Ok(child) => {
                harvest.push(child);
                reaped.fetch_add(1, SeqCst);
            }
            Err(EINTR) => {}
            Err(error) => {
                equal("a reaper ends with ECHILD", error, ECHILD);
                return harvest;
            }
        }
    }
}

/// Looks at zombies and stops without taking any.
fn peek(done: &AtomicBool) {
    while !done.load(SeqCst) {
        for news in [WEXITED, WSTOPPED, WEXITED | WSTOPPED] {
            let _ = waitid(P_ALL, 0, news | WNOWAIT | WNOHANG);
        }
        thread::yield_now();
    }
}

/// Continues whoever has stopped, and moves children between groups.
fn meddle(register: &Register, done: &AtomicBool) {
    let group = call!(getpgrp()).unwrap_or(0);
    while !done.load(SeqCst) {
        for pid in register.ids() {
            let _ = kill(pid, SIGCONT);
            let _ = call!(setpgid(pid, group));
        }
        sleep_ms(2);
    }
}

fn storm() {
    let families = env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(150).min(FAMILIES_MAX);
    call!(prctl(PR_SET_CHILD_SUBREAPER, 1)).expect("a process can be a sub-reaper");
    signals::set(SIGCHLD, Do::Count);
    // A group that is orphaned with a stopped member gets SIGHUP, which is not what this is about: this group is its
    // own, so that whoever started the storm does not get it either.
    call!(setpgid(0, 0)).expect("a process can lead a group");
    signals::set(SIGHUP, Do::Ignore);
    let register = Register::new(families);
    let (reaped, done) = (AtomicU32::new(0), AtomicBool::new(false));
    // It stays to the end, so that no reaper sees ECHILD before.
    let keeper = Keeper::new();
    let (keeper, harvest) = thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(|| peek(&done))));
        scope.spawn(|| meddle(&register, &done));
        let reapers: Vec<_> = (0..REAPERS)
            .map(|number| {
                let reaped = &reaped;
                scope.spawn(move || reap(number % 2 == 0, reaped))
            })
            .collect();
        for number in 0..families {
            while 2 * number as u32 - reaped.load(SeqCst) >= ALIVE_MAX {
                thread::yield_now();
            }
            fork(|| family(&register, number));
        }
        while reaped.load(SeqCst) < 2 * families as u32 {
            sleep_ms(1);
        }
        let keeper = keeper.leave();
        let harvest: Vec<_> =
            reapers.into_iter().flat_map(|reaper| reaper.join().expect("a thread ends")).collect();
        done.store(true, SeqCst);
        (keeper, harvest)
    });
    let mut wanted = register.expected();
    wanted.push((keeper, Keeper::CODE));
    judge(families, wanted, harvest);
}

fn judge(families: usize, mut wanted: Vec<(Pid, i32)>, mut harvest: Vec<(Pid, i32)>) {
    say(&format!("{families} families, {REAPERS} reapers, two who peek and one who meddles"));
    equal("as many were reaped as were made", harvest.len(), wanted.len());
    wanted.sort_unstable();
    harvest.sort_unstable();
    ok("each once, with its own status, orphans as well", harvest == wanted);
    equal("there is nobody left to wait for", wait(-1, WNOHANG), Err(ECHILD));
    ok("SIGCHLD came now and then", signals::seen(SIGCHLD) > 0);
}
