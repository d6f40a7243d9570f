//! compare
//!
//! The resources of children: who is billed for them, and when.

use std::{
    mem,
    process::ExitCode,
    time::{Duration, Instant},
};

use libc::{RUSAGE_CHILDREN, RUSAGE_SELF, SIGCHLD, WEXITED, WNOHANG, rusage, timeval};
use linux_tests::{
    apart, call, equal,
    errno::{ECHILD, EINVAL},
    memory::{PAGE, Pages},
    ok,
    process::{self, Pid, Status, fork},
    run,
    signals::{self, Do},
};

const BURNT: Duration = Duration::from_millis(30);

fn main() -> ExitCode {
    run(&[
        || apart(questions),
        || apart(time),
        || apart(grandchildren),
        || apart(memory),
        || apart(reaped_by_nobody),
    ])
}

fn usage(whom: i32) -> rusage {
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut usage: rusage = unsafe { mem::zeroed() };
    call!(getrusage(whom, &raw mut usage)).expect("resources can be asked for");
    usage
}

fn cpu(usage: &rusage) -> Duration {
    let one =
        |time: timeval| Duration::new(time.tv_sec as u64, 0) + Duration::from_micros(time.tv_usec as u64);
    one(usage.ru_utime) + one(usage.ru_stime)
}

fn children_cpu() -> Duration {
    cpu(&usage(RUSAGE_CHILDREN))
}

/// Computes until it has been billed for it.
fn burn() {
    let start = Instant::now();
    let before = cpu(&usage(RUSAGE_SELF));
    while cpu(&usage(RUSAGE_SELF)) < before + BURNT && start.elapsed() < Duration::from_secs(3) {}
}

fn burner() -> Pid {
    fork(|| {
        burn();
        0
    })
}

/// `wait4`, for what it says of the child's resources.
fn wait4(pid: Pid, options: i32) -> rusage {
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut usage: rusage = unsafe { mem::zeroed() };
    call!(wait4(pid, std::ptr::null_mut(), options, &raw mut usage)).expect("there is a child");
    usage
}

fn questions() {
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut rusage: rusage = unsafe { mem::zeroed() };
    equal("42 an unknown whom is refused", call!(getrusage(5, &raw mut rusage)), Err(EINVAL));
    ok("42 without children, nothing is billed", children_cpu() == Duration::ZERO);
    equal("42 not even memory", usage(RUSAGE_CHILDREN).ru_maxrss, 0);
}

fn time() {
    let child = burner();
    process::until_zombie(child);
    ok("42 an end alone adds nothing to RUSAGE_CHILDREN", children_cpu() == Duration::ZERO);
    let _ = process::waitid(libc::P_PID, child as u32, WEXITED | libc::WNOWAIT);
    ok("42 nor does WNOWAIT", children_cpu() == Duration::ZERO);
    let billed = cpu(&wait4(child, 0));
    ok("42 wait4 tells what the child used", billed >= BURNT);
    ok("42 and the reap adds it", children_cpu() >= billed && billed > Duration::ZERO);
    let before = children_cpu();
    let child = burner();
    let billed = cpu(&wait4(child, 0));
    ok("42 a second child adds its own", children_cpu() >= before + billed - Duration::from_millis(1));
}

fn grandchildren() {
    let child = fork(|| {
        let inner = burner();
        process::end_of(inner);
        0
    });
    ok("42 a child is billed for the children it reaped", cpu(&wait4(child, 0)) >= BURNT);
    let child = fork(|| {
        signals::set(SIGCHLD, Do::Ignore);
        let _ = process::wait(burner(), 0);
        0
    });
    ok("42 and not for those that reaped themselves", cpu(&wait4(child, 0)) < BURNT);
}

fn memory() {
    const MIB: usize = (1 << 20) / PAGE;
    let touch = |mebibytes: usize| {
        let child = fork(|| {
            let pages = Pages::new(mebibytes * MIB);
            (0..mebibytes * MIB).for_each(|page| pages.set(page, 1));
            0
        });
        wait4(child, 0).ru_maxrss
    };
    let large = touch(24);
    ok("42 maxrss is at least what was touched", large >= 24 << 10);
    equal("42 and goes to the parent", usage(RUSAGE_CHILDREN).ru_maxrss, large);
    let small = touch(4);
    ok("42 a smaller child has less", small < large);
    equal("42 and the maximum stays", usage(RUSAGE_CHILDREN).ru_maxrss, large);
}

fn reaped_by_nobody() {
    signals::set(SIGCHLD, Do::Ignore);
    let child = burner();
    equal("42 a child that nobody reaps", process::wait(child, 0), Err(ECHILD));
    ok("42 adds nothing", children_cpu() == Duration::ZERO);
    signals::set(SIGCHLD, Do::Default);
    let child = fork(|| 0);
    equal("42 wait4 answers without news too", wait4_now(), true);
    equal("42 and the child can be reaped", process::end_of(child), Status::Exited(0));
}

fn wait4_now() -> bool {
    let sleeper = process::sleeper();
    let answer = call!(wait4(sleeper, std::ptr::null_mut(), WNOHANG, std::ptr::null_mut()));
    process::kill_and_reap(sleeper);
    answer == Ok(0)
}
