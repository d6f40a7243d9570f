//! compare
//!
//! Rust's own threads: starting, joining, locking, waiting, parking, and memory of their own.

use std::{
    cell::{Cell, RefCell},
    process::ExitCode,
    sync::{
        Arc, Barrier, Condvar, Mutex, Once, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use linux_tests::{equal, ok, process, run, times::settle};

fn main() -> ExitCode {
    run(&[
        results,
        scoped,
        thread_locals,
        mutual_exclusion,
        readers_and_writers,
        conditions,
        channels,
        parking,
        barriers,
        timeouts,
        generations,
        panics,
    ])
}

fn results() {
    let threads: Vec<_> = (0..32_u64).map(|number| thread::spawn(move || number * number)).collect();
    let sum: u64 = threads.into_iter().map(|thread| thread.join().expect("a thread ends")).sum();
    equal("32 threads return what they computed", sum, (0..32).map(|number| number * number).sum());
    let name = thread::Builder::new()
        .name("naiad".into())
        .spawn(|| thread::current().name().map(str::to_owned))
        .map(|thread| thread.join().expect("a thread ends"));
    equal("a thread knows its name", name.ok().flatten().as_deref(), Some("naiad"));
    let deep = thread::Builder::new().stack_size(16 << 20).spawn(|| depth(100_000));
    equal(
        "a thread can have a large stack",
        deep.map(|thread| thread.join().ok()).ok().flatten(),
        Some(100_000),
    );
}

fn depth(left: u32) -> u32 {
    let here = std::hint::black_box([left; 16]);
    if left == 0 { 0 } else { depth(left - 1) + here[3] - here[5] + 1 }
}

fn scoped() {
    let mut numbers = [0_u32; 64];
    thread::scope(|scope| {
        for (part, chunk) in (0..).zip(numbers.chunks_mut(8)) {
            scope.spawn(move || (0..).zip(chunk).for_each(|(at, number)| *number = part * 8 + at));
        }
    });
    ok(
        "scoped threads fill parts of their parent's memory",
        (0..64).zip(numbers).all(|(at, number)| at == number),
    );
}

thread_local! {
    static OWN: Cell<u64> = const { Cell::new(7) };
    static LOUD: RefCell<Option<Loud>> = const { RefCell::new(None) };
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);

struct Loud;

impl Drop for Loud {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, SeqCst);
    }
}

fn thread_locals() {
    let threads: Vec<_> = (0..8)
        .map(|number| {
            thread::spawn(move || {
                LOUD.set(Some(Loud));
                let first = OWN.get();
                for _ in 0..100 {
                    OWN.set(OWN.get() + number);
                    thread::yield_now();
                }
                (first, OWN.get() == 7 + 100 * number)
            })
        })
        .collect();
    let answers: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a thread ends")).collect();
    ok(
        "every thread starts with its own copy of a thread-local",
        answers.iter().all(|&(first, _)| first == 7),
    );
    ok("and nobody else writes it", answers.iter().all(|&(_, right)| right));
    equal("thread-locals are dropped when their threads end", DROPPED.load(SeqCst), 8);
}

fn mutual_exclusion() {
    let counter = Mutex::new(0_u64);
    let atomic = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for round in 0..500 {
                    let mut held = counter.lock().expect("nobody panicked");
                    let seen = *held;
                    if round % 50 == 0 {
                        thread::yield_now();
                    }
                    *held = seen + 1;
                    drop(held);
                    atomic.fetch_add(1, SeqCst);
                }
            });
        }
    });
    equal("a mutex admits one thread at a time", counter.into_inner().ok(), Some(8000));
    equal("atomic additions are not lost", atomic.into_inner(), 8000);
    static ONCE: Once = Once::new();
    let runs = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                ONCE.call_once(|| {
                    settle();
                    runs.fetch_add(1, SeqCst);
                });
                assert_eq!(runs.load(SeqCst), 1);
            });
        }
    });
    equal("what is to run once runs once, and all wait for it", runs.into_inner(), 1);
}

fn readers_and_writers() {
    let pair = RwLock::new((0_u32, 0_u32));
    let torn = AtomicBool::new(false);
    let write = || {
        for _ in 0..200 {
            let mut pair = pair.write().expect("nobody panicked");
            pair.0 += 1;
            thread::yield_now();
            pair.1 += 1;
        }
    };
    let read = || {
        for _ in 0..200 {
            let pair = pair.read().expect("nobody panicked");
            if pair.0 != pair.1 {
                torn.store(true, SeqCst);
            }
        }
    };
    thread::scope(|scope| {
        (0..4).for_each(|_| drop(scope.spawn(write)));
        (0..4).for_each(|_| drop(scope.spawn(read)));
    });
    ok("readers never see half of what a writer does", !torn.into_inner());
    equal("and no write is lost", *pair.read().expect("nobody panicked"), (800, 800));
}

fn conditions() {
    let turn = (Mutex::new(0_u32), Condvar::new());
    let order = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..8 {
            let (turn, order) = (&turn, &order);
            scope.spawn(move || {
                for round in 0..20 {
                    let wanted = round * 8 + number;
                    let mut now = turn.0.lock().expect("nobody panicked");
                    while *now != wanted {
                        now = turn.1.wait(now).expect("nobody panicked");
                    }
                    order.lock().expect("nobody panicked").push(wanted);
                    *now += 1;
                    turn.1.notify_all();
                }
            });
        }
    });
    let order = order.into_inner().unwrap_or_default();
    ok("eight threads take 160 turns in order by a condition", (0..160).eq(order));
}

fn channels() {
    let (sender, receiver) = mpsc::channel();
    for number in 0..8_u64 {
        let sender = sender.clone();
        thread::spawn(move || (0..250).for_each(|at| sender.send((number, at)).expect("it is received")));
    }
    drop(sender);
    let mut next = [0; 8];
    let mut in_order = true;
    for (number, at) in receiver {
        in_order &= next[number as usize] == at;
        next[number as usize] += 1;
    }
    ok("a channel keeps the order of each sender", in_order);
    ok("delivers everything, and ends with the last sender", next == [250; 8]);

    let (sender, receiver) = mpsc::sync_channel(2);
    let producer = thread::spawn(move || (0..500).try_for_each(|at| sender.send(at)));
    let taken: Vec<u32> = receiver.iter().take(300).collect();
    drop(receiver);
    ok("a channel of two holds its sender back", (0..300).eq(taken));
    ok("which fails when nobody receives any more", producer.join().is_ok_and(|result| result.is_err()));
}

fn parking() {
    let woken = Arc::new(AtomicUsize::new(0));
    let sleeper = thread::spawn({
        let woken = Arc::clone(&woken);
        move || {
            for round in 1..=50 {
                while woken.load(SeqCst) < round {
                    thread::park();
                }
            }
        }
    });
    for _ in 0..50 {
        woken.fetch_add(1, SeqCst);
        sleeper.thread().unpark();
        thread::yield_now();
    }
    ok("a parked thread is woken fifty times", sleeper.join().is_ok());
    thread::current().unpark();
    let start = Instant::now();
    thread::park_timeout(Duration::from_secs(20));
    ok("an unpark that comes first is remembered", start.elapsed() < Duration::from_secs(10));
}

fn barriers() {
    let barrier = Barrier::new(8);
    let arrived = AtomicUsize::new(0);
    let leaders = AtomicUsize::new(0);
    let early = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for round in 1..=20 {
                    arrived.fetch_add(1, SeqCst);
                    leaders.fetch_add(usize::from(barrier.wait().is_leader()), SeqCst);
                    early.fetch_or(arrived.load(SeqCst) < round * 8, SeqCst);
                    barrier.wait();
                }
            });
        }
    });
    ok("nobody passes a barrier before all have come", !early.into_inner());
    equal("and each time one of them leads", leaders.into_inner(), 20);
}

fn timeouts() {
    let wait = Duration::from_millis(20);
    let (sender, receiver) = mpsc::channel::<()>();
    let start = Instant::now();
    let answer = receiver.recv_timeout(wait);
    ok(
        "a receive with a limit ends",
        answer == Err(mpsc::RecvTimeoutError::Timeout) && start.elapsed() >= wait,
    );
    drop(sender);
    let start = Instant::now();
    thread::park_timeout(wait);
    thread::sleep(wait);
    ok("a sleep is never too short", start.elapsed() >= wait);
    let pair = (Mutex::new(()), Condvar::new());
    let held = pair.0.lock().expect("nobody panicked");
    let (_held, answer) = pair.1.wait_timeout(held, wait).expect("nobody panicked");
    ok("a wait for a condition with a limit ends", answer.timed_out());
}

fn generations() {
    let all = (0..200).all(|round: u32| thread::spawn(move || round).join().ok() == Some(round));
    ok("two hundred threads come and go one after the other", all);
    let tree = thread::spawn(|| {
        let inner = thread::spawn(|| thread::spawn(process::me).join().ok());
        inner.join().ok().flatten()
    });
    equal("threads of threads are of the same process", tree.join().ok().flatten(), Some(process::me()));
}

/// Only where panics unwind: where they abort there is nothing to catch.
fn panics() {
    if cfg!(panic = "unwind") {
        std::panic::set_hook(Box::new(|_| {}));
        let shared = Arc::new(Mutex::new(0));
        let inner = Arc::clone(&shared);
        let answer = thread::spawn(move || {
            let _held = inner.lock();
            panic!("on purpose");
        });
        let message =
            answer.join().err().and_then(|cause| cause.downcast_ref::<&str>().map(|text| text.to_string()));
        equal("a thread's panic is its result", message.as_deref(), Some("on purpose"));
        ok("and poisons the lock it held", shared.is_poisoned());
    } else {
        let child = process::fork(|| {
            std::panic::set_hook(Box::new(|_| {}));
            linux_tests::signals::set(libc::SIGABRT, linux_tests::signals::Do::Default);
            panic!("on purpose")
        });
        let end = process::end_of(child);
        ok("a panic aborts", matches!(end, process::Status::Killed(6) | process::Status::Dumped(6)));
        ok("and only its process", true);
    }
}
