//! Segment, task state and interrupt descriptor tables.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::mem::size_of;

use super::cpu;
use super::entry::interrupt_stubs;

/// Selector of user data.
pub const USER_DATA: u16 = 0x1b;
/// Selector of user code.
pub const USER_CODE: u16 = 0x23;
/// Vectors with an entry: exceptions, interrupt lines, timer, spurious.
pub const VECTORS: usize = 66;

const KERNEL_CODE: u16 = 0x08;
const TASK_STATE: u16 = 0x28;
const DOUBLE_FAULT: usize = 8;

#[repr(C, packed)]
struct TaskState {
    reserved0: u32,
    stacks: [u64; 3],
    reserved1: u64,
    interrupt_stacks: [u64; 7],
    reserved2: [u16; 5],
    io_map: u16,
}

#[repr(C, align(16))]
struct Tables {
    segments: [u64; 7],
    interrupts: [[u64; 2]; 256],
    task: TaskState,
}

struct Shared(UnsafeCell<Tables>);

// SAFETY: written once at boot, before any interrupt; read by the CPU afterwards.
unsafe impl Sync for Shared {}

static TABLES: Shared = Shared(UnsafeCell::new(Tables {
    segments: [
        0,
        0x00af_9b00_0000_ffff, // kernel code
        0x00cf_9300_0000_ffff, // kernel data
        0x00cf_f300_0000_ffff, // user data
        0x00af_fb00_0000_ffff, // user code
        0,
        0, // task state, two words
    ],
    interrupts: [[0; 2]; 256],
    task: TaskState {
        reserved0: 0,
        stacks: [0; 3],
        reserved1: 0,
        interrupt_stacks: [0; 7],
        reserved2: [0; 5],
        io_map: size_of::<TaskState>() as u16,
    },
}));

#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Fills and loads all three.
pub fn load() {
    // SAFETY: called once at boot with interrupts off; every descriptor refers to static memory and to the entry
    // code.
    unsafe {
        let tables = &mut *TABLES.0.get();
        tables.task.stacks[0] = cpu::STACK.top();
        tables.task.interrupt_stacks[0] = cpu::FAULT_STACK.top();
        let base = &raw const tables.task as u64;
        let limit = size_of::<TaskState>() as u64 - 1;
        tables.segments[5] = limit | (base & 0xff_ffff) << 16 | 0x89 << 40 | (base >> 24 & 0xff) << 56;
        tables.segments[6] = base >> 32;
        for (vector, gate) in tables.interrupts.iter_mut().enumerate().take(VECTORS) {
            let handler = interrupt_stubs as *const () as u64 + vector as u64 * 16;
            let stack = u64::from(vector == DOUBLE_FAULT);
            // Breakpoint and overflow may be raised by user code; the rest only by the CPU.
            let privilege: u64 = if vector == 3 || vector == 4 { 3 } else { 0 };
            gate[0] = handler & 0xffff
                | u64::from(KERNEL_CODE) << 16
                | stack << 32
                | (0x8e | privilege << 5) << 40
                | (handler >> 16 & 0xffff) << 48;
            gate[1] = handler >> 32;
        }
        let segments =
            Pointer { limit: size_of::<[u64; 7]>() as u16 - 1, base: tables.segments.as_ptr() as u64 };
        let interrupts = Pointer {
            limit: size_of::<[[u64; 2]; 256]>() as u16 - 1,
            base: tables.interrupts.as_ptr() as u64,
        };
        asm!(
            "lgdt [{segments}]",
            "lidt [{interrupts}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ds, {data:x}",
            "mov es, {data:x}",
            "mov ss, {data:x}",
            "ltr {task:x}",
            segments = in(reg) &raw const segments,
            interrupts = in(reg) &raw const interrupts,
            code = const KERNEL_CODE,
            data = in(reg) 0x10u64,
            task = in(reg) u64::from(TASK_STATE),
            scratch = out(reg) _,
        );
    }
}
