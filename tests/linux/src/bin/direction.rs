//! compare
//!
//! The direction flag: a program may fault and be interrupted while string instructions run backwards in it, and
//! nobody's copies but its own go backwards.

use std::{arch::asm, process::ExitCode};

use linux_tests::{
    equal,
    memory::{PAGE, Pages},
    ok,
    process::{Status, fork, wait},
    run,
};

const COUNT: usize = 64;
const FILLER: u8 = 0xa5;

fn main() -> ExitCode {
    run(&[fill_fresh_pages_backwards, be_interrupted])
}

/// Every page faults with the flag set.
fn fill_fresh_pages_backwards() {
    let pages = Pages::new(COUNT);
    let last = pages.page(COUNT).wrapping_sub(1);
    // SAFETY: it fills the pages just mapped from their last byte to their first, and clears the flag again.
    unsafe {
        asm!("std", "rep stosb", "cld", inout("rdi") last => _, inout("rcx") COUNT * PAGE => _, in("al") FILLER)
    }
    // SAFETY: they are mapped, and were written just now.
    let bytes = unsafe { std::slice::from_raw_parts(pages.page(0), COUNT * PAGE) };
    ok("fresh pages are filled backwards", bytes.iter().all(|byte| *byte == FILLER));
}

/// Children spin with the flag set, for many slices; their parent makes others and waits for them.
fn be_interrupted() {
    let spinners: Vec<_> = (0..4).map(|code| fork(|| spin(code))).collect();
    let mut seen = 0;
    for code in 0..100 {
        let child = fork(|| code);
        loop {
            match wait(-1, 0) {
                Ok(Some((pid, Status::Exited(status)))) if pid == child && status == code => break,
                Ok(Some((pid, _))) if spinners.contains(&pid) => seen += 1,
                other => panic!("a wait brought {other:?}"),
            }
        }
    }
    while seen < spinners.len() {
        seen += usize::from(matches!(wait(-1, 0), Ok(Some((_, Status::Exited(0..4))))));
    }
    equal("every spinner ended by itself", seen, spinners.len());
}

fn spin(code: i32) -> i32 {
    // SAFETY: it counts a register down with the flag set, and clears it again.
    unsafe { asm!("std", "2:", "dec {}", "jnz 2b", "cld", inout(reg) 20_000_000_u64 => _) }
    code
}
