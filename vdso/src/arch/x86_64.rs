//! The x86_64 processor: its counter, its system calls, and addresses relative to the code.

use core::arch::{asm, global_asm};

use vdso::TimePage;

use crate::dump::{SCRATCH_BYTES, leave_core};

/// The page before the object. The linker script says where that is.
pub fn time_page() -> &'static TimePage {
    let page: *const TimePage;
    // SAFETY: it computes an address and touches nothing.
    unsafe {
        asm!("lea {}, [rip + time_page]", out(reg) page, options(pure, nomem, nostack, preserves_flags))
    };
    // SAFETY: vm maps the page, which it has written once, before the object, and a program that unmaps it does so at
    // its own risk.
    unsafe { &*page }
}

/// Where the time stamp counter stands, no earlier than what the program has done before.
pub fn count() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: LFENCE and RDTSC change nothing but the two registers.
    unsafe { asm!("lfence", "rdtsc", out("rax") low, out("rdx") high, options(nostack, preserves_flags)) };
    low | high << 32
}

/// A system call of Linux with two arguments.
pub fn system_call(number: u64, first: u64, second: u64) -> i32 {
    let result: u64;
    // SAFETY: the kernel writes only where the arguments say, which are the program's own.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result as i32
}

/// A system call of Linux with six arguments.
pub fn call(number: u64, arguments: [u64; 6]) -> i64 {
    let [first, second, third, fourth, fifth, sixth] = arguments;
    let result: i64;
    // SAFETY: the kernel writes only where the arguments say, which the caller has set aside for that.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") fifth,
            in("r9") sixth,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    result
}

// The object's entry point, where the process server lets a thread go on that is to leave a core; rdi is where the
// program's stack began. There is no stack that could be trusted: the first thing is memory of its own (mmap, 9), and
// the last to give it back (munmap, 11), for it may be another process's too. Then exit_group (231).
global_asm!(
    ".globl naiad_core",
    "naiad_core:",
    "mov r12, rdi",
    "mov eax, 9",
    "xor edi, edi",
    "mov esi, {bytes}",
    "mov edx, 3",
    "mov r10d, 0x22",
    "mov r8, -1",
    "xor r9d, r9d",
    "syscall",
    "mov r13, rax",
    "mov r14d, 1",
    "cmp rax, -4096",
    "ja 2f",
    "lea rsp, [rax + {bytes}]",
    "mov rdi, rax",
    "mov rsi, r12",
    "call {leave_core}",
    "mov r14, rax",
    "mov eax, 11",
    "mov rdi, r13",
    "mov esi, {bytes}",
    "syscall",
    "2:",
    "mov eax, 231",
    "mov rdi, r14",
    "syscall",
    "ud2",
    bytes = const SCRATCH_BYTES,
    leave_core = sym leave_core,
);
