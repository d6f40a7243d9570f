//! compare
//!
//! Futexes: waiting, waking, moving waiters, limits, and masks.

use std::{
    process::ExitCode,
    ptr,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use libc::{
    CLOCK_MONOTONIC, CLOCK_REALTIME, FUTEX_CLOCK_REALTIME, FUTEX_CMP_REQUEUE, FUTEX_PRIVATE_FLAG,
    FUTEX_REQUEUE, FUTEX_WAIT, FUTEX_WAIT_BITSET, FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_WAKE_OP, SYS_futex,
    c_int, c_long, timespec,
};
use linux_tests::{
    Errno, call, equal,
    errno::{EAGAIN, EFAULT, EINVAL, ENOSYS, ETIMEDOUT},
    memory::{Pages, shared},
    ok,
    process::{self, Status, fork},
    run,
    times::{settle, until},
};

fn main() -> ExitCode {
    run(&[
        values,
        limits,
        one_by_one,
        waking_counts,
        moving,
        moving_if_equal,
        masks,
        two_words,
        between_processes,
        private_words,
        lock,
        ping_pong,
        errors,
    ])
}

type Answer = Result<c_long, Errno>;

/// The raw call: the third argument is a count or a value, the fourth a count or a limit.
fn futex(
    word: &AtomicU32,
    operation: c_int,
    value: u32,
    other: usize,
    second: *const u32,
    last: u32,
) -> Answer {
    call!(syscall(SYS_futex, word.as_ptr(), operation, value, other, second, last))
}

fn wait(word: &AtomicU32, value: u32) -> Answer {
    futex(word, FUTEX_WAIT, value, 0, ptr::null(), 0)
}

fn wake(word: &AtomicU32, count: u32) -> Answer {
    futex(word, FUTEX_WAKE, count, 0, ptr::null(), 0)
}

fn wait_until(word: &AtomicU32, value: u32, limit: &timespec) -> Answer {
    futex(word, FUTEX_WAIT, value, &raw const *limit as usize, ptr::null(), 0)
}

/// Waits, but not for ever, should nobody come.
fn wait_patiently(word: &AtomicU32, value: u32) -> bool {
    wait_until(word, value, &timespec { tv_sec: 20, tv_nsec: 0 }) == Ok(0)
}

fn values() {
    let word = AtomicU32::new(5);
    equal("waiting for a value that is not there says EAGAIN", wait(&word, 4), Err(EAGAIN));
    equal("waking nobody wakes nobody", wake(&word, 10), Ok(0));
    equal(
        "a wake is not remembered",
        wait_until(&word, 5, &timespec { tv_sec: 0, tv_nsec: 1_000_000 }),
        Err(ETIMEDOUT),
    );
}

fn now(clock: c_int) -> timespec {
    let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
    call!(clock_gettime(clock, &raw mut time)).expect("a clock can be read");
    time
}

/// A moment some milliseconds from now.
fn soon(clock: c_int, milliseconds: i64) -> timespec {
    let time = now(clock);
    let nanoseconds = time.tv_nsec + milliseconds * 1_000_000;
    timespec { tv_sec: time.tv_sec + nanoseconds / 1_000_000_000, tv_nsec: nanoseconds % 1_000_000_000 }
}

fn limits() {
    let word = AtomicU32::new(0);
    let start = Instant::now();
    let nap = timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    equal("a wait ends with its time", wait_until(&word, 0, &nap), Err(ETIMEDOUT));
    ok("not before", start.elapsed() >= Duration::from_millis(20));
    for (clock, flag, name) in
        [(CLOCK_MONOTONIC, 0, "monotonic"), (CLOCK_REALTIME, FUTEX_CLOCK_REALTIME, "real")]
    {
        let moment = soon(clock, 20);
        let answer =
            futex(&word, FUTEX_WAIT_BITSET | flag, 0, &raw const moment as usize, ptr::null(), u32::MAX);
        let after = now(clock);
        equal(&format!("a wait ends at a moment of the {name} clock"), answer, Err(ETIMEDOUT));
        ok("not before it", (after.tv_sec, after.tv_nsec) >= (moment.tv_sec, moment.tv_nsec));
        let past = timespec { tv_sec: 0, tv_nsec: 0 };
        let answer =
            futex(&word, FUTEX_WAIT_BITSET | flag, 0, &raw const past as usize, ptr::null(), u32::MAX);
        equal("at once when it is past", answer, Err(ETIMEDOUT));
    }
    let bad = timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    equal("a time that is none is refused", wait_until(&word, 0, &bad), Err(EINVAL));
    equal("also where nobody would wait", wait_until(&word, 1, &bad), Err(EINVAL));
}

fn one_by_one() {
    let word = AtomicU32::new(0);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| wait_patiently(&word, 0));
        ok("a waiter is woken", until(|| wake(&word, 1) == Ok(1)));
        ok("and told so", waiter.join().unwrap_or(false));
        equal("then nobody is there", wake(&word, 1), Ok(0));
    });
}

/// Runs `body` while `count` threads wait on a word; it can see how many of them have been woken.
fn with_waiters(word: &AtomicU32, count: u32, body: impl FnOnce(&AtomicU32)) {
    let (ready, woken) = (AtomicU32::new(0), AtomicU32::new(0));
    thread::scope(|scope| {
        for _ in 0..count {
            scope.spawn(|| {
                ready.fetch_add(1, SeqCst);
                if wait_patiently(word, 0) {
                    woken.fetch_add(1, SeqCst);
                }
            });
        }
        until(|| ready.load(SeqCst) == count);
        // All have come; a moved waiter counts as one, so moving a word's waiters to itself counts them.
        until(|| {
            futex(word, FUTEX_CMP_REQUEUE, 0, count as usize, word.as_ptr(), 0) == Ok(c_long::from(count))
                || {
                    settle();
                    false
                }
        });
        body(&woken);
        until(|| woken.load(SeqCst) == count || wake(word, count).is_err());
    });
}

fn waking_counts() {
    let word = AtomicU32::new(0);
    with_waiters(&word, 8, |woken| {
        equal("of eight waiters three are woken", wake(&word, 3), Ok(3));
        ok("who go on", until(|| woken.load(SeqCst) == 3));
        settle();
        equal("and no more", woken.load(SeqCst), 3);
        equal("then all the rest", wake(&word, i32::MAX as u32), Ok(5));
        ok("who go on", until(|| woken.load(SeqCst) == 8));
    });
}

fn moving() {
    let (word, other) = (AtomicU32::new(0), AtomicU32::new(0));
    with_waiters(&word, 6, |woken| {
        let moved = futex(&word, FUTEX_REQUEUE, 1, 3, other.as_ptr(), 0);
        equal(
            "FUTEX_REQUEUE counts only those it wakes or moves as asked",
            moved.is_ok_and(|count| count == 1 || count == 4),
            true,
        );
        ok("one is woken", until(|| woken.load(SeqCst) == 1));
        equal("three wait at the other word", wake(&other, 10), Ok(3));
        ok("and are woken there", until(|| woken.load(SeqCst) == 4));
        equal("two stayed", wake(&word, 10), Ok(2));
        ok("and are woken here", until(|| woken.load(SeqCst) == 6));
    });
}

fn moving_if_equal() {
    let (word, other) = (AtomicU32::new(0), AtomicU32::new(0));
    with_waiters(&word, 4, |woken| {
        let unequal = futex(&word, FUTEX_CMP_REQUEUE, 1, 3, other.as_ptr(), 7);
        equal("FUTEX_CMP_REQUEUE with another value says EAGAIN", unequal, Err(EAGAIN));
        equal(
            "with the value it counts all",
            futex(&word, FUTEX_CMP_REQUEUE, 1, 3, other.as_ptr(), 0),
            Ok(4),
        );
        ok("one is woken", until(|| woken.load(SeqCst) == 1));
        equal("nobody is left here", wake(&word, 10), Ok(0));
        equal("three are there", wake(&other, 10), Ok(3));
        ok("and are woken", until(|| woken.load(SeqCst) == 4));
    });
}

fn masks() {
    let word = AtomicU32::new(0);
    let woken = AtomicU32::new(0);
    let moment = soon(CLOCK_MONOTONIC, 20_000);
    thread::scope(|scope| {
        for mask in [0b001, 0b010, 0b110] {
            let (word, woken, moment) = (&word, &woken, &moment);
            scope.spawn(move || {
                let answer =
                    futex(word, FUTEX_WAIT_BITSET, 0, &raw const *moment as usize, ptr::null(), mask);
                if answer == Ok(0) {
                    woken.fetch_add(mask, SeqCst);
                }
            });
        }
        let wake_mask = |mask| futex(&word, FUTEX_WAKE_BITSET, 10, 0, ptr::null(), mask);
        ok("a mask wakes whom it meets", until(|| wake_mask(0b001) == Ok(1)));
        ok("and nobody else", until(|| woken.load(SeqCst) == 0b001));
        equal("one that meets nobody wakes nobody", wake_mask(0b1000), Ok(0));
        ok("one that meets two wakes two", {
            let mut sum = 0;
            until(|| {
                sum += wake_mask(0b010).unwrap_or(0);
                sum == 2
            })
        });
        ok("who go on", until(|| woken.load(SeqCst) == 0b001 + 0b010 + 0b110));
    });
    let none = futex(&word, FUTEX_WAIT_BITSET, 0, 0, ptr::null(), 0);
    equal("a mask of nothing is refused", none, Err(EINVAL));
    equal("for waking too", futex(&word, FUTEX_WAKE_BITSET, 1, 0, ptr::null(), 0), Err(EINVAL));
}

fn two_words() {
    let (first, second) = (AtomicU32::new(0), AtomicU32::new(3));
    // Add 1 to the second word; wake one there if it was 3 before.
    let operation = 1 << 28 | 1 << 12 | 3;
    thread::scope(|scope| {
        let waiters = [scope.spawn(|| wait_patiently(&first, 0)), scope.spawn(|| wait_patiently(&second, 3))];
        settle();
        let woken = until(|| {
            second.store(3, SeqCst);
            let count = futex(&first, FUTEX_WAKE_OP, 1, 1, second.as_ptr(), operation);
            second.load(SeqCst) == 4 && count.is_ok() && waiters.iter().all(|waiter| waiter.is_finished())
        });
        ok("FUTEX_WAKE_OP changes a word and wakes at two", woken);
        second.store(3, SeqCst);
        waiters.into_iter().for_each(|waiter| drop(waiter.join()));
    });
    second.store(9, SeqCst);
    let answer = futex(&first, FUTEX_WAKE_OP, 1, 1, second.as_ptr(), operation);
    equal("and changes it whether or not anybody waits", (answer, second.load(SeqCst)), (Ok(0), 10));
}

fn between_processes() {
    let [word, ..] = shared();
    let child = fork(|| i32::from(wait_patiently(word, 0)));
    ok("a process wakes another at shared memory", until(|| wake(word, 1) == Ok(1)));
    equal("which is told so", process::end_of(child), Status::Exited(1));
    let child = fork(|| {
        let private = FUTEX_WAIT | FUTEX_PRIVATE_FLAG;
        let limit = timespec { tv_sec: 0, tv_nsec: 60_000_000 };
        i32::from(futex(word, private, 0, &raw const limit as usize, ptr::null(), 0) == Err(ETIMEDOUT))
    });
    settle();
    let private = FUTEX_WAKE | FUTEX_PRIVATE_FLAG;
    equal("but not where each says it is private", futex(word, private, 9, 0, ptr::null(), 0), Ok(0));
    equal("so that it waits on", process::end_of(child), Status::Exited(1));
}

fn private_words() {
    let word = AtomicU32::new(0);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            let limit = timespec { tv_sec: 20, tv_nsec: 0 };
            futex(&word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, 0, &raw const limit as usize, ptr::null(), 0)
                == Ok(0)
        });
        let wake = || futex(&word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0, ptr::null(), 0);
        ok("threads of a process wake each other at private words", until(|| wake() == Ok(1)));
        ok("who are told so", waiter.join().unwrap_or(false));
    });
    let copied = Pages::new(1);
    // SAFETY: the page is ours, aligned and mapped for as long as this part runs.
    let word: &AtomicU32 = unsafe { &*copied.page(0).cast() };
    word.store(0, SeqCst);
    let child = fork(|| {
        let limit = timespec { tv_sec: 0, tv_nsec: 60_000_000 };
        i32::from(wait_until(word, 0, &limit) == Err(ETIMEDOUT))
    });
    settle();
    equal("a copy in a child is another word", wake(word, 9), Ok(0));
    equal("at which nobody wakes it", process::end_of(child), Status::Exited(1));
}

/// The usual lock of one word: 0 free, 1 held, 2 held and waited for.
struct Lock(AtomicU32);

impl Lock {
    fn with(&self, body: impl FnOnce()) {
        if self.0.compare_exchange(0, 1, SeqCst, SeqCst).is_err() {
            while self.0.swap(2, SeqCst) != 0 {
                let _ = wait(&self.0, 2);
            }
        }
        body();
        if self.0.swap(0, SeqCst) == 2 {
            let _ = wake(&self.0, 1);
        }
    }
}

fn lock() {
    let lock = Lock(AtomicU32::new(0));
    let counter = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 0..400 {
                    lock.with(|| {
                        let seen = counter.load(SeqCst);
                        if round % 20 == 0 {
                            thread::yield_now();
                        }
                        counter.store(seen + 1, SeqCst);
                    });
                }
            });
        }
    });
    equal("eight threads count under a lock of one word", counter.load(SeqCst), 3200);
}

fn ping_pong() {
    const ROUNDS: u32 = 500;
    let ball = AtomicU32::new(0);
    thread::scope(|scope| {
        for side in 0..2 {
            let ball = &ball;
            scope.spawn(move || {
                loop {
                    let now = ball.load(SeqCst);
                    if now >= ROUNDS {
                        break;
                    }
                    if now % 2 == side {
                        ball.store(now + 1, SeqCst);
                        let _ = wake(ball, 1);
                    } else {
                        let _ = wait(ball, now);
                    }
                }
            });
        }
    });
    equal("a ball goes five hundred times between two threads", ball.load(SeqCst), ROUNDS);
}

fn errors() {
    let word = AtomicU32::new(0);
    equal("an unknown operation", futex(&word, 99, 0, 0, ptr::null(), 0), Err(ENOSYS));
    let odd = (word.as_ptr() as usize + 1) as *const u32;
    equal("a word at an odd address", call!(syscall(SYS_futex, odd, FUTEX_WAIT, 0, 0)), Err(EINVAL));
    equal("also to wake", call!(syscall(SYS_futex, odd, FUTEX_WAKE, 1, 0)), Err(EINVAL));
    let nowhere = 0x1000 as *const u32;
    equal("a word where nothing is", call!(syscall(SYS_futex, nowhere, FUTEX_WAIT, 0, 0)), Err(EFAULT));
    equal(
        "also to wake, where it is shared",
        call!(syscall(SYS_futex, nowhere, FUTEX_WAKE, 1, 0)),
        Err(EFAULT),
    );
    let answer = futex(&word, FUTEX_CMP_REQUEUE, 1, 1, nowhere, 0);
    equal("a second word where nothing is", answer, Err(EFAULT));
}
