//! The epitaph: what is said when the kernel itself has failed, and the end of the machine.

use core::fmt::Write;
use core::panic::PanicInfo;

use libipc::manifest::{DEBUG_EXIT_PORT, PANIC_LINE};

use super::super::x86::{port, serial::Log};
use super::{cpu, trap};

/// Deepest backtrace.
const FRAMES_MAX: u32 = 24;
/// What QEMU's exit code is made of after a panic.
const PANIC_EXIT: u32 = 0x7f;

/// A fault in kernel mode.
pub fn fault(vector: u64, code: u64, ip: u64, frame: u64) -> ! {
    // SAFETY: reading CR2 has no effect.
    let address = unsafe { x86::controlregs::cr2() };
    let _ = writeln!(Log, "{PANIC_LINE}: exception {vector} code {code:#x} at {ip:#x}, cr2 {address:#x}");
    epitaph(frame)
}

/// A failed assertion.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    let _ = writeln!(Log, "{PANIC_LINE}: {info}");
    let frame: u64;
    // SAFETY: reading the frame pointer.
    unsafe { core::arch::asm!("mov {}, rbp", out(reg) frame, options(nomem, nostack)) };
    epitaph(frame)
}

fn epitaph(frame: u64) -> ! {
    // SAFETY: nothing else runs any more. Before `install` the memory is zero, which the fields read here survive.
    let kernel = unsafe { trap::kernel() };
    if let Some(thread) = kernel.current() {
        let (server, pid, tid) = kernel.describe(thread);
        let _ = writeln!(Log, "  running: server {server}, process {pid}, thread {tid}");
    }
    backtrace(frame);
    let _ = kernel.trace.tell_last(&mut Log);
    port::write(DEBUG_EXIT_PORT, 4, PANIC_EXIT);
    loop {
        cpu::halt();
    }
}

fn backtrace(mut frame: u64) {
    let stack = cpu::STACK.bottom()..cpu::STACK.top() - 16;
    let _ = write!(Log, "  backtrace:");
    for _ in 0..FRAMES_MAX {
        if !stack.contains(&frame) || !frame.is_multiple_of(8) {
            break;
        }
        // SAFETY: two words within the kernel's stack.
        let [next, ip] = unsafe { *(frame as *const [u64; 2]) };
        let _ = write!(Log, " {ip:#x}");
        frame = next;
    }
    let _ = writeln!(Log);
}
