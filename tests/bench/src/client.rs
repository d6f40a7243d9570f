//! The side that measures.

use alloc::format;
use alloc::vec::Vec;

use libipc::abi::syscall::{Info, Syscall};
use libipc::abi::trace::Filter;
use libipc::abi::{Handle, PAGE_SIZE, Protection};
use libipc::server::Boot;
use libipc::sys::Traps;
use zerocopy::IntoBytes;

use crate::native::{Native, Received};
use crate::program::{DATA, Frames, Program, TOUCH, YIELD};

/// How a row begins on the console log.
const ROW: &str = "bench: ";
/// Times each row is measured; the median counts.
const ROUNDS: usize = 9;
/// Operations in one measurement.
const OPERATIONS: u64 = 200;
/// Faults that are answered with nothing in a row: a pager that answers so many more is doubted.
const FAULTS: u64 = 50;
/// Lengths of messages that are measured, in words. Four of them travel in registers.
const LENGTHS: [u32; 5] = [0, 4, 10, 32, 100];
const REGISTER_WORDS: u32 = 4;

/// Measures every row, then ends the machine.
pub fn measure<T: Traps>(mut native: Native<T>, boot: &Boot) -> ! {
    row(&mut native, "smallest system call", |native| repeat(native, |native| null(native)));
    for (server, name) in [("echo", "journal off"), ("recorder", "journal on")] {
        let handle = boot.server(server);
        for words in LENGTHS {
            let name = format!("call + reply, {words} words, {name}");
            let arguments = message(handle, words);
            row(&mut native, &name, |native| repeat(native, |native| call(native, arguments)));
        }
        let name = format!("signal + wait, {name}");
        row(&mut native, &name, |native| repeat(native, |native| signal(native, handle)));
    }
    let mut frames = Frames::new(boot.frames.first().expect("the manifest gives the bench frames").0);
    let program = Program::new(&mut native, &mut frames, TOUCH);
    row(&mut native, "map + unmap one page", |native| {
        let frame = frames.take();
        repeat(native, |native| {
            program.map(native, &[], DATA, frame, Protection::READ);
            program.unmap(native, DATA, 1);
        })
    });
    faults(&mut native, &mut frames, &program);
    yields(&mut native, &mut frames);
    traced(&mut native, boot);
    native.must(Syscall::PowerOff, [0; 6]);
    loop {
        native.receive();
    }
}

/// The median of some rounds, said on the log. A round returns nanoseconds per operation.
fn row<T: Traps>(native: &mut Native<T>, name: &str, mut round: impl FnMut(&mut Native<T>) -> u64) {
    let mut rounds: Vec<u64> = (0..ROUNDS).map(|_| round(native)).collect();
    rounds.sort_unstable();
    native.say(&format!("{ROW}{name}\t{}\n", rounds[ROUNDS / 2]));
}

fn repeat<T: Traps>(native: &mut Native<T>, operation: impl FnMut(&mut Native<T>)) -> u64 {
    each(native, OPERATIONS, operation)
}

/// Nanoseconds for each of so many operations.
fn each<T: Traps>(native: &mut Native<T>, count: u64, mut operation: impl FnMut(&mut Native<T>)) -> u64 {
    let start = native.now();
    (0..count).for_each(|_| operation(native));
    (native.now() - start) / count
}

fn null<T: Traps>(native: &mut Native<T>) {
    native.must(Syscall::Null, [0; 6]);
}

/// The arguments of a call with so many words.
fn message(server: Handle, words: u32) -> [u64; 6] {
    let payload_len = words.saturating_sub(REGISTER_WORDS) * 8;
    [u64::from(server.0), Info { payload_len, ..Info::default() }.pack(), 1, 2, 3, 4]
}

fn call<T: Traps>(native: &mut Native<T>, arguments: [u64; 6]) {
    native.must(Syscall::Call, arguments);
}

fn signal<T: Traps>(native: &mut Native<T>, server: Handle) {
    native.notify_receive(server);
}

/// A thread that touches page after page: first none is mapped, so that it faults at one address, until the round is
/// over; then each fault is answered with a page, and all are taken away between rounds.
fn faults<T: Traps>(native: &mut Native<T>, frames: &mut Frames, program: &Program) {
    program.start(native, DATA, 0);
    let mut fault = as_fault(native.receive());
    row(native, "page fault, without mapping", |native| {
        let each = each(native, FAULTS, |native| fault = next_fault(native, fault.0));
        program.map(native, &[], fault.1, frames.take(), Protection::READ | Protection::WRITE);
        fault = next_fault(native, fault.0);
        each
    });
    let pages: Vec<_> = (0..OPERATIONS).map(|_| frames.take()).collect();
    row(native, "page fault, with mapping a page", |native| {
        let start = native.now();
        for page in &pages {
            program.map(native, &[], fault.1, *page, Protection::READ | Protection::WRITE);
            fault = next_fault(native, fault.0);
        }
        let spent = native.now() - start;
        program.unmap(native, fault.1 - OPERATIONS * PAGE_SIZE, OPERATIONS);
        spent / OPERATIONS
    });
}

/// Token and address of a fault.
fn as_fault(event: Received) -> (u64, u64) {
    match event {
        Received::Fault { token, address } => (token, address),
        other => panic!("a thread that touches pages made {other:?}"),
    }
}

fn next_fault<T: Traps>(native: &mut Native<T>, token: u64) -> (u64, u64) {
    as_fault(native.reply_receive(token, 0, [0; 4]))
}

/// Messages while they are traced, into a ring that nobody reads.
fn traced<T: Traps>(native: &mut Native<T>, boot: &Boot) {
    let task = boot.tasks.values().next().expect("the manifest lets the bench observe").0;
    native.payload(Filter::default().as_bytes());
    native.must(Syscall::TraceSet, [u64::from(task), 1, 0, 0, 0, 0]);
    for (server, name) in [("echo", "journal off"), ("recorder", "journal on")] {
        let arguments = message(boot.server(server), REGISTER_WORDS);
        let name = format!("call + reply, {REGISTER_WORDS} words, {name}, trace ring");
        row(native, &name, |native| repeat(native, |native| call(native, arguments)));
    }
}

/// Two threads of equal priority that yield to each other.
fn yields<T: Traps>(native: &mut Native<T>, frames: &mut Frames) {
    let program = Program::new(native, frames, YIELD);
    row(native, "yield to another thread", |native| {
        let start = native.now();
        let threads = [program.start(native, DATA, OPERATIONS), program.start(native, DATA, OPERATIONS)];
        let ends = [native.receive(), native.receive()];
        let spent = native.now() - start;
        for (thread, end) in threads.into_iter().zip(ends) {
            native.must(Syscall::Reply, [as_fault(end).0, 0, 0, 0, 0, 0]);
            native.must(Syscall::ThreadEnd, [u64::from(thread.0), 0, 0, 0, 0, 0]);
            native.must(Syscall::Close, [u64::from(thread.0), 0, 0, 0, 0, 0]);
        }
        spent / (2 * OPERATIONS)
    });
}
