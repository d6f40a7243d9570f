//! From entry code to the core and back.

use core::cell::UnsafeCell;
use core::fmt::Write;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicU64, Ordering};

use libipc::abi::Protection;
use libipc::manifest::{DEBUG_EXIT_PORT, OFF_LINE, REBOOT_LINE};

use super::super::x86::{apic, port, serial};
use super::cpu;
use super::machine::Pc;
use crate::core::object::ThreadId;
use crate::core::{Kernel, Machine, Resume, Trap};

/// The kernel's place.
#[repr(transparent)]
pub struct Core(UnsafeCell<MaybeUninit<Kernel<Pc>>>);

// SAFETY: one CPU enters the kernel, with interrupts off, and never again before it has left it.
unsafe impl Sync for Core {}

/// The kernel, once it is installed.
pub static CORE: Core = Core(UnsafeCell::new(MaybeUninit::uninit()));
/// Interrupts that came while the CPU was idle in the kernel, one bit per vector from 32 on.
static PENDING: AtomicU64 = AtomicU64::new(0);

const PAGE_FAULT: u64 = 14;
const WRITE_ACCESS: u64 = 2;
const FETCH_ACCESS: u64 = 16;
const FIRST_LINE: u64 = apic::LINE_VECTOR as u64;
const TIMER: u64 = apic::TIMER_VECTOR as u64;
const SPURIOUS: u64 = apic::SPURIOUS_VECTOR as u64;

/// Puts the kernel where the entries find it.
pub fn install(kernel: Kernel<Pc>) {
    // SAFETY: called once at boot, before any entry.
    unsafe { (*CORE.0.get()).write(kernel) };
}

/// The kernel, for the epitaph and for boot.
///
/// # Safety
/// After [`install`]; the reference must be gone before anything else enters the kernel.
pub unsafe fn kernel() -> &'static mut Kernel<Pc> {
    // SAFETY: the caller's promise.
    unsafe { (*CORE.0.get()).assume_init_mut() }
}

/// SYSCALL from user mode while nothing is unusual. Returns the register block of the thread to run.
pub extern "C" fn system_call() -> u64 {
    // SAFETY: entry code calls this once per entry, with interrupts off.
    let kernel = unsafe { kernel() };
    match kernel.call() {
        None => cpu::registers(),
        Some(resume) => leave(kernel, resume),
    }
}

/// The same while it is traced, which entry code looks at: so neither has to make room for the other.
pub extern "C" fn traced_system_call() -> u64 {
    // SAFETY: entry code calls this once per entry, with interrupts off.
    let kernel = unsafe { kernel() };
    match kernel.traced_call() {
        None => cpu::registers(),
        Some(resume) => leave(kernel, resume),
    }
}

/// The same while anything else is unusual.
pub extern "C" fn unusual_system_call() -> u64 {
    // SAFETY: entry code calls this once per entry, with interrupts off.
    let kernel = unsafe { kernel() };
    let resume = kernel.trap(Trap::Call);
    leave(kernel, resume)
}

/// An exception or interrupt from user mode.
pub extern "C" fn user_interrupt(vector: u64, code: u64) -> u64 {
    // SAFETY: entry code calls this once per entry, with interrupts off.
    let kernel = unsafe { kernel() };
    let trap = match vector {
        PAGE_FAULT => {
            // SAFETY: reading CR2 has no effect.
            let address = unsafe { x86::controlregs::cr2() } as u64;
            let access = if code & WRITE_ACCESS != 0 {
                Protection::WRITE
            } else if code & FETCH_ACCESS != 0 {
                Protection::EXECUTE
            } else {
                Protection::READ
            };
            Trap::PageFault { address, access: access.bits() }
        }
        0..FIRST_LINE => Trap::Exception { vector: vector as u8, code },
        _ => {
            note(vector);
            return next(kernel);
        }
    };
    let resume = kernel.trap(trap);
    leave(kernel, resume)
}

/// Anything that happens in kernel mode: an interrupt while idle, or a fault, which is the end.
pub extern "C" fn kernel_interrupt(vector: u64, code: u64, ip: u64, frame: u64) {
    if vector < FIRST_LINE {
        super::panic::fault(vector, code, ip, frame);
    }
    note(vector);
}

fn note(vector: u64) {
    if vector != SPURIOUS {
        PENDING.fetch_or(1 << (vector - FIRST_LINE), Ordering::Relaxed);
        apic::end_of_interrupt();
    }
}

/// Serves the interrupts noted down: what the core says to the last of them.
fn serve(kernel: &mut Kernel<Pc>) -> Option<Resume> {
    let mut pending = PENDING.swap(0, Ordering::Relaxed);
    let mut resume = None;
    while pending != 0 {
        let vector = FIRST_LINE + u64::from(pending.trailing_zeros());
        pending &= pending - 1;
        resume = Some(match vector {
            TIMER => kernel.trap(Trap::Timer),
            _ => kernel.trap(Trap::Interrupt((vector - FIRST_LINE) as u8)),
        });
    }
    resume
}

/// Serves the interrupts noted down, then runs what the core says.
fn next(kernel: &mut Kernel<Pc>) -> u64 {
    let resume = serve(kernel).unwrap_or_else(|| kernel.trap(Trap::Timer));
    leave(kernel, resume)
}

/// Readies the CPU for what the core says, waiting while there is nothing. Returns the register block to run.
pub fn leave(kernel: &mut Kernel<Pc>, mut resume: Resume) -> u64 {
    loop {
        match resume {
            Resume::Thread(thread) => return ready(kernel, thread),
            Resume::Off { status, reboot } => off(status, reboot),
            Resume::Idle => {
                while PENDING.load(Ordering::Relaxed) == 0 {
                    cpu::wait_for_interrupt();
                }
                resume = serve(kernel).unwrap_or(Resume::Idle);
            }
        }
    }
}

/// Readies the CPU for a thread. Returns its register block.
fn ready(kernel: &mut Kernel<Pc>, thread: ThreadId) -> u64 {
    let Some(state) = kernel.threads.get(thread) else {
        panic!("the core resumes a thread that is not there")
    };
    kernel.machine.enter(thread, state);
    cpu::registers()
}

fn off(status: u32, reboot: bool) -> ! {
    if reboot {
        let _ = writeln!(serial::Log, "{REBOOT_LINE}");
        // The keyboard controller's reset line.
        port::write(0x64, 1, 0xfe);
    } else {
        let _ = writeln!(serial::Log, "{OFF_LINE}{status}");
        port::write(DEBUG_EXIT_PORT, 4, 0);
        // ACPI's S5 on the machines QEMU emulates, where there is no exit device.
        port::write(0x604, 2, 0x2000);
        port::write(0xb004, 2, 0x2000);
    }
    loop {
        cpu::halt();
    }
}
