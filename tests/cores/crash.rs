//! Fails as its argument says, three calls deep, while a second thread waits two calls deep: what its core file must
//! show.

use std::{
    arch::asm,
    env, hint,
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

fn main() {
    let kind = env::args().nth(1).unwrap_or_default();
    let (sender, receiver) = channel();
    let waiter = thread::spawn(move || waiter(&receiver));
    // The other thread is in its wait by then.
    thread::sleep(Duration::from_millis(50));
    outer(&kind, 0x1234_5678);
    drop(sender);
    waiter.join().expect("the waiter ends");
}

#[inline(never)]
fn waiter(receiver: &Receiver<u64>) {
    waits_for_ever(receiver);
}

#[inline(never)]
fn waits_for_ever(receiver: &Receiver<u64>) {
    let _ = hint::black_box(receiver.recv());
}

#[inline(never)]
fn outer(kind: &str, number: u64) {
    let on_heap = vec![number; 3];
    inner(kind, hint::black_box(&on_heap));
    hint::black_box(on_heap);
}

#[inline(never)]
fn inner(kind: &str, numbers: &[u64]) {
    let first = numbers[0];
    match kind {
        // SAFETY: it is meant to fail.
        "load" => unsafe { asm!("mov {0}, [{0}]", inout(reg) 0x8000_0000_0000_0000_u64 => _) },
        // SAFETY: it is meant to fail.
        "null" => unsafe { asm!("mov {0}, [{0}]", inout(reg) 0_u64 => _) },
        // SAFETY: it is meant to fail.
        "ud2" => unsafe { asm!("ud2") },
        // SAFETY: it is meant to fail.
        "divide" => unsafe { asm!("div {0:e}", in(reg) 0, inout("eax") 1 => _, inout("edx") 0 => _) },
        "stack" => drop(hint::black_box(endless(first))),
        _ => std::process::abort(),
    }
    hint::black_box(first);
}

#[inline(never)]
#[allow(unconditional_recursion)]
fn endless(depth: u64) -> u64 {
    let room = hint::black_box([depth; 64]);
    endless(depth + 1) + room[1]
}
