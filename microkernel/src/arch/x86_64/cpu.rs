//! The one CPU: its stacks, the block that entry code finds through gs, and model specific registers.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::cell::UnsafeCell;

use x86::controlregs::{Cr4, cr4, cr4_write};
use x86::msr;

/// Bytes of the kernel stack; its lowest page is left unmapped as a guard.
pub const STACK_BYTES: usize = 64 * 1024;
/// Bytes of the stack for double faults.
pub const FAULT_STACK_BYTES: usize = 16 * 1024;

/// Memory that is a stack.
#[repr(C, align(4096))]
pub struct Stack<const BYTES: usize>(UnsafeCell<[u8; BYTES]>);

// SAFETY: only the CPU's stack pointer refers to it.
unsafe impl<const BYTES: usize> Sync for Stack<BYTES> {}

impl<const BYTES: usize> Stack<BYTES> {
    const fn new() -> Self {
        Stack(UnsafeCell::new([0; BYTES]))
    }

    /// The address past its end.
    pub fn top(&self) -> u64 {
        self.0.get() as u64 + BYTES as u64
    }

    /// Its lowest address.
    pub fn bottom(&self) -> u64 {
        self.0.get() as u64
    }
}

/// The kernel's one stack: every entry starts at its top.
pub static STACK: Stack<STACK_BYTES> = Stack::new();
/// The stack for double faults.
pub static FAULT_STACK: Stack<FAULT_STACK_BYTES> = Stack::new();

/// What entry code finds through gs.
#[repr(C)]
pub struct CpuBlock {
    scratch: u64,
    stack: u64,
    registers: u64,
    interrupt_stack: u64,
}

/// The CPU's block.
#[repr(transparent)]
pub struct Block(UnsafeCell<CpuBlock>);

// SAFETY: one CPU, and interrupts are off in the kernel.
unsafe impl Sync for Block {}

static BLOCK: Block =
    Block(UnsafeCell::new(CpuBlock { scratch: 0, stack: 0, registers: 0, interrupt_stack: 0 }));

/// User code segment base for SYSRET: +16 is code, +8 is data.
const STAR: u64 = 0x08 << 32 | 0x10 << 48;
/// Flags that SYSCALL clears: trap, interrupt, direction, nested task, alignment check.
const FLAG_MASK: u64 = 0x4_4700;

/// Readies gs and SYSCALL.
pub fn initialise() {
    // SAFETY: the block is static; entry code and `set_registers` are its only users, on this CPU, interrupts off.
    unsafe {
        (*BLOCK.0.get()).stack = STACK.top();
        msr::wrmsr(msr::IA32_GS_BASE, BLOCK.0.get() as u64);
        msr::wrmsr(msr::IA32_KERNEL_GSBASE, 0);
        msr::wrmsr(msr::IA32_STAR, STAR);
        msr::wrmsr(msr::IA32_LSTAR, super::entry::system_call_entry as *const () as u64);
        msr::wrmsr(msr::IA32_FMASK, FLAG_MASK);
    }
    shut_out_user_memory();
}

/// Has the CPU fault when the kernel runs code of user memory or reads it other than through the direct map (SMEP and
/// SMAP), where the CPU can.
fn shut_out_user_memory() {
    const EXTENDED_FEATURES: u32 = 7;
    if __cpuid(0).eax < EXTENDED_FEATURES {
        return;
    }
    let features = __cpuid_count(EXTENDED_FEATURES, 0).ebx;
    let wanted = [(7, Cr4::CR4_ENABLE_SMEP), (20, Cr4::CR4_ENABLE_SMAP)];
    let found = wanted.into_iter().filter(|(bit, _)| features & 1 << bit != 0).map(|(_, flag)| flag);
    // SAFETY: the CPU has what is switched on, and the kernel's own pages are not user pages.
    unsafe { cr4_write(cr4() | found.collect::<Cr4>()) };
}

/// Tells entry code where the registers of the thread about to run are kept.
pub fn set_registers(block: u64) {
    // SAFETY: as in `initialise`.
    unsafe { (*BLOCK.0.get()).registers = block };
}

/// Where the registers are kept of the thread that ran last.
pub fn registers() -> u64 {
    // SAFETY: as in `initialise`.
    unsafe { (*BLOCK.0.get()).registers }
}

/// Sets the user's fs base.
pub fn set_fs_base(base: u64) {
    // SAFETY: the core only lets user addresses through; the kernel does not use fs.
    unsafe { msr::wrmsr(msr::IA32_FS_BASE, base) };
}

/// Sets what gs will be in user mode.
pub fn set_user_gs_base(base: u64) {
    // SAFETY: swapgs brings it into force only on the way out; the core only lets user addresses through.
    unsafe { msr::wrmsr(msr::IA32_KERNEL_GSBASE, base) };
}

/// Waits for an interrupt, which [`super::trap::kernel_interrupt`] notes down, and returns with interrupts off.
pub fn wait_for_interrupt() {
    // SAFETY: the interrupt handlers for kernel mode only note the vector and return.
    unsafe { core::arch::asm!("sti", "hlt", "cli", options(nomem, nostack)) };
}

/// Stops until something that never comes.
pub fn halt() {
    // SAFETY: interrupts are off in the kernel; nothing happens any more.
    unsafe { core::arch::asm!("hlt", options(nomem, nostack)) };
}
