//! What system calls cost, one line each: a name, a tab, nanoseconds per operation (the median of some rounds).
//!
//! `bench [--crowd N] [--children N] [FILTER]`. In a machine where one instruction takes one nanosecond these are
//! instructions, stubs and loops included. With `--crowd` there are N sleeping processes around, and for everything
//! but the making of processes also N open descriptors, mappings and files: the figures should not change.
//! `--children` is how many children the eight threads reap. A row that cannot be measured has a dash and says why on
//! the error output. Every row runs in a process of its own, so that none disturbs or stops another.

#[path = "bench/files.rs"]
mod files;
#[path = "bench/memory.rs"]
mod memory;
#[path = "bench/processes.rs"]
mod processes;
#[path = "bench/restarts.rs"]
mod restarts;

use std::{env, fs, process::ExitCode, ptr, time::Instant};

use libc::{MAP_ANONYMOUS, MAP_PRIVATE, PROT_NONE, PROT_READ, RLIMIT_NOFILE, rlimit};
use linux_tests::{
    call,
    files::{Fd, Scratch, close, pipe, read},
    memory::{PAGE, map},
    process::{self, Pid, Status, fork},
    run, say,
};

/// One row of the table: what is measured, and how.
type Row = (&'static str, fn(&Plan) -> u64);

/// What is asked for on the command line.
struct Plan {
    crowd: usize,
    children: u32,
    filter: String,
}

impl Plan {
    fn from_arguments() -> Plan {
        let mut plan = Plan { crowd: 0, children: 250, filter: String::new() };
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            let mut number = || words.next().and_then(|text| text.parse().ok());
            match word.as_str() {
                "--crowd" => plan.crowd = number().expect("--crowd has a number") as usize,
                "--children" => plan.children = number().expect("--children has a number"),
                _ => plan.filter = word,
            }
        }
        plan
    }
}

fn main() -> ExitCode {
    run(&[measure_all])
}

fn measure_all() {
    let plan = Plan::from_arguments();
    let boot = "boot to the first program";
    if boot.contains(&plan.filter) {
        say(&format!("{boot}\t{}", since_boot()));
    }
    let _scratch = Scratch::new();
    // Every row has a limit of its own.
    let _ = call!(alarm(0));
    let sleepers = Sleepers::new(plan.crowd);
    processes::ROWS.iter().for_each(|row| measure(row, &plan));
    restarts::measure(&plan.filter);
    surround(plan.crowd);
    memory::ROWS.iter().chain(files::ROWS).for_each(|row| measure(row, &plan));
    sleepers.end();
}

fn measure((name, row): &Row, plan: &Plan) {
    if !name.contains(&plan.filter) {
        return;
    }
    let child = fork(|| {
        say(&format!("{name}\t{}", row(plan)));
        0
    });
    let end = process::end_of(child);
    if end != Status::Exited(0) {
        say(&format!("{name}\t-"));
        eprintln!("{name}: {end:?}");
    }
}

/// Processes that sleep until their pipe ends.
struct Sleepers {
    children: Vec<Pid>,
    release: Fd,
}

impl Sleepers {
    fn new(count: usize) -> Sleepers {
        let (from, release) = pipe();
        let sleep = |_| {
            fork(|| {
                // They stay for as long as it takes.
                let _ = call!(alarm(0));
                close(release);
                let _ = read(from, 1);
                0
            })
        };
        let children = (0..count).map(sleep).collect();
        close(from);
        Sleepers { children, release }
    }

    fn end(self) {
        close(self.release);
        for child in self.children {
            process::end_of(child);
        }
    }
}

/// Fills this process's tables and the working folder.
fn surround(count: usize) {
    let mut limit = rlimit { rlim_cur: 0, rlim_max: 0 };
    call!(getrlimit(RLIMIT_NOFILE, &raw mut limit)).expect("a limit can be asked for");
    limit.rlim_cur = limit.rlim_max;
    call!(setrlimit(RLIMIT_NOFILE, &raw const limit)).expect("a soft limit can be raised");
    for number in 0..count {
        call!(dup(1)).expect("there are so many descriptors");
        // Neighbours differ, so that each stays a mapping of its own.
        let prot = if number % 2 == 0 { PROT_NONE } else { PROT_READ };
        map(ptr::null_mut(), PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
            .expect("there are so many mappings");
        fs::write(format!("crowd-{number}"), "").expect("there are so many files");
    }
}

/// The median over some rounds of what one of `operations` takes, when `body` does them all.
fn per_operation(rounds: usize, operations: u64, mut body: impl FnMut()) -> u64 {
    median((0..rounds).map(|_| nanoseconds(&mut body) / operations))
}

/// How long the machine has been busy since it was started, in hundredths of a second made nanoseconds.
fn since_boot() -> u64 {
    let text = fs::read_to_string("/proc/uptime").expect("there is /proc/uptime");
    let seconds: Vec<f64> =
        text.split_whitespace().map(|word| word.parse().expect("it has numbers")).collect();
    ((seconds[0] - seconds[1]) * 100.0).round() as u64 * 10_000_000
}

/// How long something takes.
fn nanoseconds(body: impl FnOnce()) -> u64 {
    let start = Instant::now();
    body();
    start.elapsed().as_nanos() as u64
}

fn median(times: impl Iterator<Item = u64>) -> u64 {
    let mut times: Vec<u64> = times.collect();
    times.sort_unstable();
    times[times.len() / 2]
}
