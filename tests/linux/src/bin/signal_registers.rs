//! compare
//!
//! The state of the processor: kept across system calls, handlers, other threads and processes, and fork.

use std::{
    arch::asm,
    process::ExitCode,
    ptr,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
};

use libc::{
    ITIMER_REAL, SIGALRM, SIGUSR1, SYS_gettid, SYS_sched_yield, SYS_tgkill, c_int, itimerval, timeval,
};
use linux_tests::{
    apart, call, equal,
    memory::shared,
    ok,
    process::{self, Status, fork},
    run,
    signals::{self, Do, seen},
};

/// Sixteen registers of sixteen bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(16))]
struct Vectors([u128; 16]);

impl Vectors {
    fn of(seed: u128) -> Vectors {
        Vectors(std::array::from_fn(|at| seed.wrapping_mul(0x1_0001_0001_0001) + at as u128))
    }
}

fn main() -> ExitCode {
    run(&[
        || apart(across_calls),
        || apart(across_handlers),
        || apart(general_registers),
        || apart(below_the_stack),
        || apart(control_words),
        || apart(between_threads),
        || apart(between_processes),
        || apart(preempted),
        || apart(into_children),
        || apart(clean_handlers),
    ])
}

/// Fills the vector registers, makes a system call with two or three arguments, and reads them back.
fn through(call: i64, arguments: [i64; 3], vectors: Vectors) -> Vectors {
    let mut back = Vectors([0; 16]);
    // SAFETY: the call is one that touches no memory of ours; everything it and we change is declared.
    unsafe {
        asm!(
            "movaps xmm0, [{from}]", "movaps xmm1, [{from}+16]", "movaps xmm2, [{from}+32]",
            "movaps xmm3, [{from}+48]", "movaps xmm4, [{from}+64]", "movaps xmm5, [{from}+80]",
            "movaps xmm6, [{from}+96]", "movaps xmm7, [{from}+112]", "movaps xmm8, [{from}+128]",
            "movaps xmm9, [{from}+144]", "movaps xmm10, [{from}+160]", "movaps xmm11, [{from}+176]",
            "movaps xmm12, [{from}+192]", "movaps xmm13, [{from}+208]", "movaps xmm14, [{from}+224]",
            "movaps xmm15, [{from}+240]",
            "syscall",
            "movaps [{to}], xmm0", "movaps [{to}+16], xmm1", "movaps [{to}+32], xmm2",
            "movaps [{to}+48], xmm3", "movaps [{to}+64], xmm4", "movaps [{to}+80], xmm5",
            "movaps [{to}+96], xmm6", "movaps [{to}+112], xmm7", "movaps [{to}+128], xmm8",
            "movaps [{to}+144], xmm9", "movaps [{to}+160], xmm10", "movaps [{to}+176], xmm11",
            "movaps [{to}+192], xmm12", "movaps [{to}+208], xmm13", "movaps [{to}+224], xmm14",
            "movaps [{to}+240], xmm15",
            from = in(reg) &raw const vectors, to = in(reg) &raw mut back,
            inout("rax") call => _, in("rdi") arguments[0], in("rsi") arguments[1], in("rdx") arguments[2],
            out("rcx") _, out("r11") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
        );
    }
    back
}

fn tid() -> i64 {
    i64::from(call!(gettid()).unwrap_or(0))
}

/// The arguments of a `tgkill` of this thread by SIGUSR1.
fn own_signal() -> [i64; 3] {
    [i64::from(process::me()), tid(), i64::from(SIGUSR1)]
}

fn across_calls() {
    let vectors = Vectors::of(0x1234_5678_9abc_def0_1111_2222_3333_4444);
    equal("vector registers survive a system call", through(SYS_gettid, [0; 3], vectors), vectors);
    let all = (1..200).all(|seed| through(SYS_sched_yield, [0; 3], Vectors::of(seed)) == Vectors::of(seed));
    ok("and two hundred yields", all);
}

/// A handler that leaves its own values in the registers.
extern "C" fn scribble(_: c_int) {
    let vectors = Vectors::of(0xffff_0000_ffff_0000_5555_aaaa_5555_aaaa);
    through(SYS_gettid, [0; 3], vectors);
    let (mode, control) = (0x7f80_u32, 0x0f7f_u16);
    // SAFETY: both words mask all exceptions; the kernel restores the old ones when the handler returns.
    unsafe { asm!("ldmxcsr [{}]", "fldcw [{}]", in(reg) &raw const mode, in(reg) &raw const control) }
    signals_came();
}

static CAME: AtomicU32 = AtomicU32::new(0);

fn signals_came() {
    CAME.fetch_add(1, SeqCst);
}

fn across_handlers() {
    signals::set(SIGUSR1, Do::Handle(scribble));
    let all = (1..=100).all(|seed| through(SYS_tgkill, own_signal(), Vectors::of(seed)) == Vectors::of(seed));
    ok("vector registers survive a handler that uses them", all);
    equal("a hundred times", CAME.load(SeqCst), 100);
}

fn general_registers() {
    signals::set(SIGUSR1, Do::Handle(scribble));
    let [pid, tid, signal] = own_signal();
    let (mut kept, mut flags, mut answer): ([u64; 7], u64, i64) = ([0; 7], 0, SYS_tgkill);
    // SAFETY: rbx and rbp are saved by hand; everything else that changes is declared. The flag set is carry.
    unsafe {
        asm!(
            "push rbx", "push rbp",
            "mov rbx, 11", "mov rbp, 12", "mov r12, 13", "mov r13, 14", "mov r14, 15", "mov r15, 16",
            "stc",
            "syscall",
            "pushfq", "pop r9",
            "mov [r8], rbx", "mov [r8+8], rbp", "mov [r8+16], r12", "mov [r8+24], r13",
            "mov [r8+32], r14", "mov [r8+40], r15", "mov [r8+48], r10",
            "pop rbp", "pop rbx",
            in("r8") kept.as_mut_ptr(), inout("r9") 0_u64 => flags, in("r10") 17_u64,
            inout("rax") answer, in("rdi") pid, in("rsi") tid, in("rdx") signal,
            out("rcx") _, out("r11") _, out("r12") _, out("r13") _, out("r14") _, out("r15") _,
        );
    }
    equal("the call before a handler has its answer", answer, 0);
    equal("the general registers survive the handler", kept, [11, 12, 13, 14, 15, 16, 17]);
    equal("and so does the carry flag", flags & 1, 1);
}

fn below_the_stack() {
    signals::set(SIGUSR1, Do::Handle(scribble));
    let [pid, tid, signal] = own_signal();
    let (mut near, mut far) = (0_u64, 0_u64);
    // SAFETY: a step down makes room, so that the 128 bytes below are nobody's; all that changes is declared.
    unsafe {
        asm!(
            "sub rsp, 512",
            "mov qword ptr [rsp-8], 111", "mov qword ptr [rsp-128], 222",
            "syscall",
            "mov r8, [rsp-8]", "mov r9, [rsp-128]",
            "add rsp, 512",
            inout("rax") SYS_tgkill => _, in("rdi") pid, in("rsi") tid, in("rdx") signal,
            out("rcx") _, out("r11") _, out("r8") near, out("r9") far,
        );
    }
    equal("a handler keeps off the 128 bytes below the stack", (near, far), (111, 222));
}

fn modes() -> (u32, u16) {
    let (mut mode, mut control) = (0_u32, 0_u16);
    // SAFETY: both store to places of ours.
    unsafe { asm!("stmxcsr [{}]", "fnstcw [{}]", in(reg) &raw mut mode, in(reg) &raw mut control) }
    (mode & !0x3f, control)
}

fn set_modes(mode: u32, control: u16) {
    // SAFETY: the words mask all exceptions, and nothing here computes with fractions meanwhile.
    unsafe { asm!("ldmxcsr [{}]", "fldcw [{}]", in(reg) &raw const mode, in(reg) &raw const control) }
}

const USUAL: (u32, u16) = (0x1f80, 0x37f);

fn control_words() {
    equal("a program starts with the usual rounding", modes(), USUAL);
    signals::set(SIGUSR1, Do::Handle(scribble));
    set_modes(0x3f80, 0x77f);
    signals::raise(SIGUSR1);
    let after = modes();
    let child = fork(|| i32::from(modes() == (0x3f80, 0x77f)));
    let other = thread::spawn(modes).join().ok();
    set_modes(USUAL.0, USUAL.1);
    equal("rounding survives a handler that changes it", after, (0x3f80, 0x77f));
    equal("a child has its parent's", process::end_of(child), Status::Exited(1));
    equal("and a thread its creator's", other, Some((0x3f80, 0x77f)));
}

/// A sum whose every step depends on the last, and whose result on how it is rounded.
fn series(start: f64, steps: u32) -> f64 {
    (0..steps).fold(start, |sum, step| (sum * 1.000_1 + f64::from(step)).sqrt() + sum / 3.0)
}

fn between_threads() {
    const STEPS: u32 = 20_000;
    let wanted: Vec<u64> = (1..=4).map(|start| series(f64::from(start), STEPS).to_bits()).collect();
    let compute = |start: u32| {
        let mut sum = f64::from(start);
        for step in 0..STEPS {
            sum = (sum * 1.000_1 + f64::from(step)).sqrt() + sum / 3.0;
            if step % 64 == 0 {
                thread::yield_now();
            }
        }
        sum.to_bits()
    };
    let got: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = (1..=4).map(|start| scope.spawn(move || compute(start))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).collect()
    });
    equal("four threads that take turns compute as one alone", got, wanted);
    let keep = |seed: u128| {
        (0..300).all(|_| through(SYS_sched_yield, [0; 3], Vectors::of(seed)) == Vectors::of(seed))
    };
    let kept = thread::scope(|scope| {
        let threads: Vec<_> = (1..=3).map(|seed| scope.spawn(move || keep(seed))).collect();
        threads.into_iter().all(|thread| thread.join().unwrap_or(false))
    });
    ok("three threads that take turns keep their vector registers", kept);
}

fn between_processes() {
    let children: Vec<_> = (1..=4_u128)
        .map(|seed| {
            fork(move || {
                let vectors = Vectors::of(seed << 70);
                i32::from((0..300).all(|_| through(SYS_sched_yield, [0; 3], vectors) == vectors))
            })
        })
        .collect();
    let kept = children.into_iter().all(|child| process::end_of(child) == Status::Exited(1));
    ok("four processes that take turns keep their vector registers", kept);
}

/// Spins with values in registers while a timer's handler and other threads run: nothing here calls the kernel.
fn preempted() {
    signals::set(SIGALRM, Do::Count);
    let often = timeval { tv_sec: 0, tv_usec: 2000 };
    let value = itimerval { it_interval: often, it_value: often };
    call!(setitimer(ITIMER_REAL, &raw const value, ptr::null_mut())).expect("a timer can be set");
    let wanted: Vec<u64> = (1..=3).map(|start| series(f64::from(start), 400_000).to_bits()).collect();
    let got: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> =
            (1..=3).map(|start| scope.spawn(move || series(f64::from(start), 400_000).to_bits())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(0)).collect()
    });
    equal("threads interrupted at any place compute the same", got, wanted);
    ok("while handlers run", linux_tests::times::until(|| seen(SIGALRM) > 3));
}

fn into_children() {
    let [same, ..] = shared();
    let vectors = Vectors::of(0x77 << 90);
    let parent = process::me();
    // A raw fork inside the registers' reach: both sides come back from the same call.
    let back = through(libc::SYS_fork, [0; 3], vectors);
    if process::me() != parent {
        same.store(1 + u32::from(back == vectors), SeqCst);
        process::exit(0);
    }
    ok("a parent keeps its vector registers across fork", back == vectors);
    let _ = process::wait(-1, 0);
    equal("and its child has the same", same.load(SeqCst), 2);
}

static AT_ENTRY: AtomicU32 = AtomicU32::new(9);

extern "C" fn look_at_flags(_: c_int) {
    let flags: u64;
    // SAFETY: it reads the flags by the stack.
    unsafe { asm!("pushfq", "pop {}", out(reg) flags) }
    let local = 0_u128;
    let aligned = (&raw const local as usize).is_multiple_of(16);
    AT_ENTRY.store((flags >> 10 & 1) as u32 | u32::from(!aligned) << 1, SeqCst);
}

fn clean_handlers() {
    signals::set(SIGUSR1, Do::Handle(look_at_flags));
    let [pid, tid, signal] = own_signal();
    let after: u64;
    // SAFETY: the direction flag is set for the length of one system call, and cleared again.
    unsafe {
        asm!(
            "std", "syscall", "pushfq", "cld", "pop r8",
            inout("rax") SYS_tgkill => _, in("rdi") pid, in("rsi") tid, in("rdx") signal,
            out("rcx") _, out("r11") _, out("r8") after,
        );
    }
    equal("a handler starts with the direction flag clear and an aligned stack", AT_ENTRY.load(SeqCst), 0);
    equal("and the interrupted code has its own again", after >> 10 & 1, 1);
}
