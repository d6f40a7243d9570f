//! compare
//!
//! Signals of clocks: alarm, interval timers, and timers made by name.

use std::{
    mem,
    process::ExitCode,
    ptr,
    time::{Duration, Instant},
};

use libc::{
    CLOCK_MONOTONIC, CLOCK_REALTIME, ITIMER_PROF, ITIMER_REAL, ITIMER_VIRTUAL, SIGALRM, SIGPROF, SIGUSR1,
    SIGVTALRM, c_int, itimerspec, itimerval, timespec, timeval,
};
use linux_tests::{
    Errno, apart, call, equal,
    errno::EINVAL,
    exec_self, ok,
    process::{self, Status, exit, fork},
    run_with,
    signals::{Do, code, forget, seen, set},
    times::until,
};

fn main() -> ExitCode {
    run_with(
        &[("remaining", |_| i32::from(call!(alarm(0)).unwrap_or(0) > 0))],
        &[
            || apart(alarms),
            || apart(intervals),
            || apart(one_shot),
            || apart(processor_time),
            || apart(inheritance),
            || apart(named_timers),
            || apart(sleeping),
            refused,
        ],
    )
}

fn alarms() {
    let _ = call!(alarm(0));
    equal("without an alarm none is left", call!(alarm(100)), Ok(0));
    let left = call!(alarm(50)).unwrap_or(0);
    ok("a new alarm tells what was left of the old", (99..=100).contains(&left));
    let left = call!(alarm(0)).unwrap_or(0);
    ok("alarm(0) cancels it", (49..=50).contains(&left));
    equal("for good", call!(alarm(0)), Ok(0));
    let child = fork(|| {
        set(SIGALRM, Do::Default);
        let _ = call!(alarm(1));
        loop {
            let _ = call!(pause());
        }
    });
    equal("an alarm ends the process by default", process::end_of(child), Status::Killed(SIGALRM));
}

fn milliseconds(interval: i64, first: i64) -> itimerval {
    let one = |count: i64| timeval { tv_sec: count / 1000, tv_usec: count % 1000 * 1000 };
    itimerval { it_interval: one(interval), it_value: one(first) }
}

fn set_timer(which: c_int, interval: i64, first: i64) -> Result<(), Errno> {
    let value = milliseconds(interval, first);
    call!(setitimer(which, &raw const value, ptr::null_mut())).map(drop)
}

fn timer(which: c_int) -> itimerval {
    let mut value = milliseconds(1, 1);
    call!(getitimer(which, &raw mut value)).expect("a timer can be asked for");
    value
}

fn micros(time: timeval) -> i64 {
    time.tv_sec * 1_000_000 + time.tv_usec
}

fn intervals() {
    set(SIGALRM, Do::Count);
    set_timer(ITIMER_REAL, 5, 5).expect("a timer can be set");
    ok("an interval timer fires again and again", until(|| seen(SIGALRM) >= 5));
    equal("as the kernel", code(SIGALRM), libc::SI_KERNEL);
    let now = timer(ITIMER_REAL);
    ok("its interval can be asked for", micros(now.it_interval) == 5000 && micros(now.it_value) <= 5000);
    set_timer(ITIMER_REAL, 5, 0).expect("a timer can be cancelled");
    forget(SIGALRM);
    linux_tests::times::settle();
    equal("a first time of 0 cancels it", seen(SIGALRM), 0);
    equal("and all of it", micros(timer(ITIMER_REAL).it_value), 0);
}

fn one_shot() {
    set(SIGALRM, Do::Count);
    let start = Instant::now();
    set_timer(ITIMER_REAL, 0, 20).expect("a timer can be set");
    ok("a timer without interval fires", until(|| seen(SIGALRM) == 1));
    ok("not too early", start.elapsed() >= Duration::from_millis(20));
    linux_tests::times::settle();
    equal("once", seen(SIGALRM), 1);
    set_timer(ITIMER_REAL, 0, 90_000).expect("a timer can be set");
    let left = call!(alarm(0)).unwrap_or(0);
    ok("alarm and the real interval timer are one", (89..=90).contains(&left));
}

/// Computes until `done`, but not for ever.
fn compute(done: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    while !done() && start.elapsed() < Duration::from_secs(8) {
        std::hint::black_box((0..1000_u64).fold(1, |sum, number| sum ^ number.wrapping_mul(sum)));
    }
    done()
}

fn processor_time() {
    set(SIGVTALRM, Do::Count);
    set(SIGPROF, Do::Count);
    set_timer(ITIMER_VIRTUAL, 0, 10).expect("a timer can be set");
    linux_tests::times::settle();
    linux_tests::times::settle();
    equal("a timer of the processor's time stands while the process sleeps", seen(SIGVTALRM), 0);
    ok("and fires when it has computed", compute(|| seen(SIGVTALRM) == 1));
    set_timer(ITIMER_PROF, 0, 10).expect("a timer can be set");
    ok("so does that of all its time", compute(|| seen(SIGPROF) == 1));
    equal("the virtual one fired once", seen(SIGVTALRM), 1);
}

fn inheritance() {
    let _ = call!(alarm(20));
    // The helper gives a child an alarm, so this one is made by hand.
    let child = match call!(fork()) {
        Ok(0) => exit(call!(alarm(0)).map_or(9, |left| left as i32)),
        child => child.expect("a process can be made"),
    };
    equal("a child has no alarm of its parent's", process::end_of(child), Status::Exited(0));
    let child = fork(|| {
        let _ = call!(alarm(20));
        exec_self("remaining", &[]);
        99
    });
    equal("an alarm survives exec", process::end_of(child), Status::Exited(1));
}

fn named_timers() {
    set(SIGUSR1, Do::Count);
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut event: libc::sigevent = unsafe { mem::zeroed() };
    event.sigev_notify = libc::SIGEV_SIGNAL;
    event.sigev_signo = SIGUSR1;
    let mut id: libc::timer_t = ptr::null_mut();
    call!(timer_create(CLOCK_MONOTONIC, &raw mut event, &raw mut id)).expect("a timer can be made");
    let beat = timespec { tv_sec: 0, tv_nsec: 4_000_000 };
    let value = itimerspec { it_interval: beat, it_value: beat };
    call!(timer_settime(id, 0, &raw const value, ptr::null_mut())).expect("it can be set");
    ok("a timer made by name fires again and again", until(|| seen(SIGUSR1) >= 3));
    equal("with SI_TIMER", code(SIGUSR1), libc::SI_TIMER);
    equal("it can be deleted", call!(timer_delete(id)), Ok(0));
    equal("once", call!(timer_delete(id)), Err(EINVAL));
}

fn sleeping() {
    let nap = timespec { tv_sec: 0, tv_nsec: 10_000_000 };
    for clock in [CLOCK_MONOTONIC, CLOCK_REALTIME] {
        let start = Instant::now();
        let slept = call!(clock_nanosleep(clock, 0, &raw const nap, ptr::null_mut()));
        ok(
            &format!("a sleep by clock {clock} is long enough"),
            slept == Ok(0) && start.elapsed().as_millis() >= 10,
        );
    }
    let mut until_then = timespec { tv_sec: 0, tv_nsec: 0 };
    call!(clock_gettime(CLOCK_MONOTONIC, &raw mut until_then)).expect("a clock can be read");
    let start = Instant::now();
    let slept =
        call!(clock_nanosleep(CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &raw const until_then, ptr::null_mut()));
    ok("a sleep until a time that is past ends at once", slept == Ok(0) && start.elapsed().as_secs() < 5);
    let (mut before, mut after) = (until_then, until_then);
    let monotonic = (0..1000).all(|_| {
        let _ = call!(clock_gettime(CLOCK_MONOTONIC, &raw mut after));
        let ordered = (before.tv_sec, before.tv_nsec) <= (after.tv_sec, after.tv_nsec);
        before = after;
        ordered
    });
    ok("the monotonic clock never goes back", monotonic);
}

fn refused() {
    equal("an unknown timer is refused", set_timer(7, 1, 1), Err(EINVAL));
    let mut bad = milliseconds(0, 1);
    bad.it_value.tv_usec = 1_000_000;
    let answer = call!(setitimer(ITIMER_VIRTUAL, &raw const bad, ptr::null_mut()));
    equal("so are a million microseconds", answer, Err(EINVAL));
    bad.it_value.tv_usec = -1;
    let answer = call!(setitimer(ITIMER_VIRTUAL, &raw const bad, ptr::null_mut()));
    equal("and fewer than none", answer, Err(EINVAL));
    let nap = |nanoseconds| timespec { tv_sec: 0, tv_nsec: nanoseconds };
    for wrong in [-1, 1_000_000_000] {
        let request = nap(wrong);
        let answer = call!(nanosleep(&raw const request, ptr::null_mut()));
        equal(&format!("a sleep of {wrong} nanoseconds is refused"), answer, Err(EINVAL));
    }
    let mut time = nap(0);
    equal("an unknown clock is refused", call!(clock_gettime(77, &raw mut time)), Err(EINVAL));
}
