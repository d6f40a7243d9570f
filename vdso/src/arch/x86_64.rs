//! The x86_64 processor: its counter, its system calls, and addresses relative to the code.

use core::arch::asm;

use vdso::TimePage;

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
