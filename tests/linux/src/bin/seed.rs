//! compare
//!
//! The race that Naiad exists to survive: eight threads of one process wait for any child while a thousand exit.
//!
//! `seed [CHILDREN [SEED [THREADS [ALIVE]]]]`: a seed other than 0 adds delays and yields that look random, to
//! children before they exit and to threads between waits. At most ALIVE children are there at a time. Every child
//! must be seen exactly once, with its own status, and every thread must end with ECHILD. The summary is the same
//! everywhere.

use std::{
    collections::BTreeMap,
    env,
    process::ExitCode,
    sync::{
        Barrier,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    thread,
};

use linux_tests::{
    Errno, equal,
    errno::{ECHILD, ESRCH},
    ok,
    process::{self, Keeper, Pid, Status, fork, wait},
    run, say,
    times::sleep_ms,
};

fn main() -> ExitCode {
    run(&[storm])
}

/// What is asked for on the command line.
struct Plan {
    children: u32,
    seed: u64,
    threads: usize,
    alive: u32,
}

impl Plan {
    fn from_arguments() -> Plan {
        let number = |at, default| env::args().nth(at).and_then(|text| text.parse().ok()).unwrap_or(default);
        Plan {
            children: number(1, 1000) as u32,
            seed: number(2, 0),
            threads: number(3, 8) as usize,
            alive: number(4, 64) as u32,
        }
    }
}

/// Numbers that look random and follow from a seed (xorshift64*). Seed 0 gives no delays at all.
struct Dice(u64);

impl Dice {
    /// The dice of one child or thread.
    fn of(seed: u64, number: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_mul(2 * number + 1))
    }

    /// Lets others run, some of the time, and a little longer now and then.
    fn dawdle(&mut self) {
        if self.0 == 0 {
            return;
        }
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        match self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 60 {
            0 => sleep_ms(1),
            yields @ 1..4 => (0..yields).for_each(|_| thread::yield_now()),
            _ => {}
        }
    }
}

/// What one thread got before its wait failed, and how it failed.
struct Harvest {
    reaped: Vec<(Pid, Status)>,
    end: Errno,
}

fn reap(seed: u64, number: u64, count: &AtomicU32) -> Harvest {
    let mut dice = Dice::of(seed, number);
    let mut reaped = Vec::new();
    loop {
        match wait(-1, 0) {
            Ok(Some(child)) => {
                reaped.push(child);
                count.fetch_add(1, SeqCst);
            }
            Ok(None) => say("FAILED: a wait without WNOHANG answered 0"),
            Err(end) => return Harvest { reaped, end },
        }
        dice.dawdle();
    }
}

/// Forks the children, never letting more than `alive` of them be there, and says which should exit with what.
fn sow(plan: &Plan, reaped: &AtomicU32) -> Vec<(Pid, Status)> {
    let mut sown = Vec::new();
    for number in 0..plan.children {
        while number - reaped.load(SeqCst) >= plan.alive {
            thread::yield_now();
        }
        let code = (number % 251) as i32;
        let child = fork(|| {
            Dice::of(plan.seed, 1000 + u64::from(number)).dawdle();
            code
        });
        sown.push((child, Status::Exited(code)));
    }
    sown
}

fn storm() {
    let plan = Plan::from_arguments();
    let keeper = Keeper::new();
    let reaped = AtomicU32::new(0);
    let start = Barrier::new(plan.threads + 1);
    let (sown, harvests) = thread::scope(|scope| {
        let reaper = |number| {
            let (start, reaped, seed) = (&start, &reaped, plan.seed);
            scope.spawn(move || {
                start.wait();
                reap(seed, number, reaped)
            })
        };
        let threads: Vec<_> = (0..plan.threads as u64).map(reaper).collect();
        start.wait();
        let mut sown = sow(&plan, &reaped);
        sown.push((keeper.leave(), Status::Exited(Keeper::CODE)));
        let harvests: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("a thread ends")).collect();
        (sown, harvests)
    });
    judge(&plan, &sown, &harvests);
}

/// An id may be given out again once its child is reaped, so children are counted as pairs of id and status.
fn judge(plan: &Plan, sown: &[(Pid, Status)], harvests: &[Harvest]) {
    let mut balance: BTreeMap<(Pid, String), i32> = BTreeMap::new();
    let mut book = |&(pid, status): &(Pid, Status), amount| {
        *balance.entry((pid, format!("{status:?}"))).or_default() += amount;
    };
    sown.iter().for_each(|child| book(child, 1));
    harvests.iter().flat_map(|harvest| &harvest.reaped).for_each(|child| book(child, -1));
    let reaped: usize = harvests.iter().map(|harvest| harvest.reaped.len()).sum();
    let lost: i32 = balance.values().filter(|&&left| left > 0).sum();
    let invented: i32 = balance.values().filter(|&&left| left < 0).sum();

    say(&format!("{} threads, {} children, one that stays to the end", plan.threads, plan.children));
    equal("every child was made", sown.len(), plan.children as usize + 1);
    equal("every child was reaped", reaped, sown.len());
    equal("none was lost, and each had its own status", lost, 0);
    equal("none was seen twice or made up", invented, 0);
    ok("every thread ended with ECHILD", harvests.iter().all(|harvest| harvest.end == ECHILD));
    equal("there is nobody left to wait for", wait(-1, libc::WNOHANG), Err(ECHILD));
    ok("not even a zombie", sown.iter().all(|&(pid, _)| process::kill(pid, 0) == Err(ESRCH)));
}
