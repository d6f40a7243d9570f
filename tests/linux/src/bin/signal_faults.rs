//! compare
//!
//! What a program is told of its own faults, and how a handler can mend them.

use std::{
    arch::asm,
    hint::black_box,
    process::ExitCode,
    ptr,
    sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst},
};

use libc::{
    MAP_ANONYMOUS, MAP_PRIVATE, PROT_EXEC, PROT_NONE, PROT_READ, PROT_WRITE, REG_RIP, SA_ONSTACK, SIGBUS,
    SIGFPE, SIGILL, SIGSEGV, SIGTRAP, c_int, c_void, siginfo_t, stack_t, ucontext_t,
};
use linux_tests::{
    apart, call, equal,
    files::{self, Scratch},
    memory::{PAGE, Pages, peek, poke},
    ok,
    process::{self, Status, exit, fork},
    run,
    signals::{self, Do},
};

const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const SI_KERNEL: i32 = 0x80;
const FPE_INTDIV: i32 = 1;
const FPE_FLTDIV: i32 = 3;
const ILL_ILLOPN: i32 = 2;

fn main() -> ExitCode {
    run(&[
        || apart(segments),
        || apart(arithmetic),
        || apart(instructions),
        || apart(files_that_end),
        || apart(mended),
        || apart(skipped),
        || apart(not_handled),
        || apart(overflow),
    ])
}

static SIGNAL: AtomicI32 = AtomicI32::new(0);
static CODE: AtomicI32 = AtomicI32::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);
/// How many bytes to go on behind the instruction that faulted.
static SKIP: AtomicUsize = AtomicUsize::new(0);

/// Notes what happened and goes on behind the instruction.
extern "C" fn step_over(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands a handler structures that are valid until it returns.
    unsafe {
        SIGNAL.store(signal, SeqCst);
        CODE.store((*info).si_code, SeqCst);
        ADDRESS.store((*info).si_addr() as usize, SeqCst);
        (*context.cast::<ucontext_t>()).uc_mcontext.gregs[REG_RIP as usize] += SKIP.load(SeqCst) as i64;
    }
}

/// What a handler is told when `fault` runs an instruction of `skip` bytes that faults: signal, code, address.
fn told(skip: usize, fault: impl FnOnce()) -> (i32, i32, usize) {
    for signal in [SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGTRAP] {
        signals::set(signal, Do::Inform(step_over));
    }
    SKIP.store(skip, SeqCst);
    SIGNAL.store(0, SeqCst);
    fault();
    (SIGNAL.load(SeqCst), CODE.load(SeqCst), ADDRESS.load(SeqCst))
}

/// `mov al, [rdi]`: two bytes that read.
fn read_at(at: usize) {
    // SAFETY: it may fault, and the handler steps over it.
    unsafe { asm!("mov al, byte ptr [rdi]", in("rdi") at, out("al") _) }
}

/// `mov [rdi], al`: two bytes that write.
fn write_at(at: usize) {
    // SAFETY: it may fault, and the handler steps over it.
    unsafe { asm!("mov byte ptr [rdi], al", in("rdi") at, in("al") 0_u8) }
}

fn segments() {
    let pages = Pages::new(3);
    pages.protect(1, PROT_NONE);
    pages.protect(2, PROT_READ);
    let at = |page| pages.address(page) as usize;
    equal("a read where nothing is: SEGV_MAPERR", told(2, || read_at(0x10)), (SIGSEGV, SEGV_MAPERR, 0x10));
    equal("a write there", told(2, || write_at(0x20)), (SIGSEGV, SEGV_MAPERR, 0x20));
    let hidden = at(1) + 123;
    equal(
        "a read of a hidden page: SEGV_ACCERR",
        told(2, || read_at(hidden)),
        (SIGSEGV, SEGV_ACCERR, hidden),
    );
    let constant = at(2) + 4095;
    equal("a write of a constant page", told(2, || write_at(constant)), (SIGSEGV, SEGV_ACCERR, constant));
    equal("which can be read", told(2, || read_at(constant)).0, 0);
    let wild = 0x8000_0000_0000_1234;
    equal("an address that cannot be has no address", told(2, || read_at(wild)), (SIGSEGV, SI_KERNEL, 0));
    let kernel = 0xffff_8000_0000_0000;
    let (signal, code, _) = told(2, || read_at(kernel));
    equal("the kernel's half is not mapped for us", (signal, code), (SIGSEGV, SEGV_MAPERR));
    pages.set(0, RETURN);
    let call_data = || {
        signals::set(SIGSEGV, Do::Inform(make_executable));
        // SAFETY: the page holds a return instruction, and the handler lets it be executed.
        unsafe { asm!("call {}", in(reg) at(0), clobber_abi("C")) }
    };
    equal("a jump to data: SEGV_ACCERR", told(0, call_data), (SIGSEGV, SEGV_ACCERR, at(0)));
}

const RETURN: u8 = 0xc3;

extern "C" fn make_executable(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    step_over(signal, info, context);
    let page = ADDRESS.load(SeqCst) & !(PAGE - 1);
    let _ = call!(mprotect(page as *mut c_void, PAGE, PROT_READ | PROT_EXEC));
}

fn arithmetic() {
    let divide = |high: u64, low: u64, by: u64| {
        // SAFETY: it may fault, and the handler steps over it. `div rcx` is three bytes.
        unsafe { asm!("div rcx", inout("rdx") high => _, inout("rax") low => _, in("rcx") by) }
    };
    let (signal, code, at) = told(3, || divide(0, 7, black_box(0)));
    equal("a division by zero: FPE_INTDIV", (signal, code), (SIGFPE, FPE_INTDIV));
    ok("at the instruction", at != 0 && at.abs_diff(arithmetic as *const () as usize) < 1 << 20);
    equal("a quotient that is too large is one too", told(3, || divide(9, 0, 3)).1, FPE_INTDIV);
    // The word lets a division by zero trap; the trap comes at the next instruction that waits for it, one byte long.
    let word = 0x37f_u16 & !4;
    let quotient = || {
        // SAFETY: the handler steps over the wait; the unit's state is as it was in the end.
        unsafe {
            asm!(
                "fldcw [{}]", "fld1", "fldz", "fdivp st(1), st", "fwait", "fnclex", "fninit", in(reg) &raw const word,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _, out("st(4)") _, out("st(5)") _,
                out("st(6)") _, out("st(7)") _,
            );
        }
    };
    let (signal, code, _) = told(1, quotient);
    equal("a trapped division of fractions: FPE_FLTDIV", (signal, code), (SIGFPE, FPE_FLTDIV));
}

fn instructions() {
    // SAFETY: it faults, and the handler steps over its two bytes.
    let (signal, code, at) = told(2, || unsafe { asm!("ud2") });
    equal("an illegal instruction: ILL_ILLOPN", (signal, code), (SIGILL, ILL_ILLOPN));
    ok("at the instruction", at != 0);
    // SAFETY: it faults, and the handler steps over its one byte.
    equal("a privileged one", told(1, || unsafe { asm!("hlt") }), (SIGSEGV, SI_KERNEL, 0));
    // SAFETY: the fault comes when the instruction is done.
    let (signal, code, _) = told(0, || unsafe { asm!("int3") });
    equal("a breakpoint, after the instruction", (signal, code), (SIGTRAP, SI_KERNEL));
    // SAFETY: it faults, and the handler steps over its one byte.
    let port = || unsafe { asm!("in al, dx", out("al") _, in("dx") 0x80_u16) };
    equal("a port that is not ours", told(1, port), (SIGSEGV, SI_KERNEL, 0));
}

fn files_that_end() {
    let _scratch = Scratch::new();
    let fd = call!(open(c"short".as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600)).expect("a file can be made");
    files::write(fd, b"some bytes").expect("it can be written");
    let pages = Pages::with(2, PROT_READ | PROT_WRITE, libc::MAP_SHARED, fd);
    equal(
        "the last page of a file is filled with zeros",
        (pages.get(0), pages[10], pages[4095]),
        (b's', 0, 0),
    );
    let beyond = pages.address(1) as usize + 5;
    equal("a page behind it: BUS_ADRERR", told(2, || read_at(beyond)), (SIGBUS, libc::BUS_ADRERR, beyond));
    call!(ftruncate(fd, 0)).expect("it can be cut");
    let first = pages.address(0) as usize;
    equal("also when the file shrank later", told(2, || read_at(first)), (SIGBUS, libc::BUS_ADRERR, first));
    call!(ftruncate(fd, 2 * PAGE as i64)).expect("it can be extended");
    equal("and not when it grew again", (told(2, || read_at(beyond)).0, pages.get(0)), (0, 0));
    files::close(fd);
}

static MENDED: AtomicU32 = AtomicU32::new(0);

extern "C" fn unprotect(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel hands a handler a structure that is valid until it returns.
    let at = unsafe { (*info).si_addr() } as usize & !(PAGE - 1);
    let _ = call!(mprotect(at as *mut c_void, PAGE, PROT_READ | PROT_WRITE));
    MENDED.fetch_add(1, SeqCst);
}

fn mended() {
    let pages = Pages::with(64, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    signals::set(SIGSEGV, Do::Inform(unprotect));
    (0..64).for_each(|page| pages.set(page, page as u8 + 1));
    equal("a handler that unprotects is called once a page", MENDED.load(SeqCst), 64);
    ok("and every write is done", (0..64).all(|page| pages.get(page) == page as u8 + 1));
    pages.protect(5, PROT_READ);
    // SAFETY: the bytes are pages of this test, and the handler makes them writable.
    unsafe { ptr::copy(pages.page(10), pages.page(5), PAGE) };
    equal("a copy goes on where it faulted", (MENDED.load(SeqCst), pages.get(5)), (65, 11));
}

fn skipped() {
    let before = SIGNAL.load(SeqCst);
    let rounds = (0..200).filter(|_| told(2, || read_at(0x40)).2 == 0x40).count();
    equal("two hundred faults are stepped over", (before, rounds), (0, 200));
}

fn not_handled() {
    let ends = |prepare: fn()| {
        let child = fork(|| {
            let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            let _ = call!(setrlimit(libc::RLIMIT_CORE, &raw const none));
            signals::set(SIGSEGV, Do::Default);
            prepare();
            poke(ptr::null_mut(), 1);
            99
        });
        process::end_of(child)
    };
    equal("a fault without handler ends the process", ends(|| {}), Status::Killed(SIGSEGV));
    equal("also where it is ignored", ends(|| signals::set(SIGSEGV, Do::Ignore)), Status::Killed(SIGSEGV));
    equal(
        "or blocked, whatever the handler",
        ends(|| {
            signals::set(SIGSEGV, Do::Inform(step_over));
            signals::block(&[SIGSEGV]);
        }),
        Status::Killed(SIGSEGV),
    );
    equal("or in the handler", ends(|| signals::set(SIGSEGV, Do::Handle(faulty))), Status::Killed(SIGSEGV));
}

extern "C" fn faulty(_: c_int) {
    peek(ptr::null());
}

extern "C" fn rescue(_: c_int) {
    exit(5);
}

fn deeper(level: u64) -> u64 {
    let frame = black_box([level; 128]);
    if level == u64::MAX { 0 } else { deeper(level + 1) + frame[7] }
}

fn overflow() {
    let overflow = |flags, limit: u64| {
        let child = fork(|| {
            let cap = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            let _ = call!(setrlimit(libc::RLIMIT_CORE, &raw const cap));
            let cap = libc::rlimit { rlim_cur: limit, rlim_max: limit };
            let _ = call!(setrlimit(libc::RLIMIT_STACK, &raw const cap));
            let pages = Pages::new(16);
            let stack = stack_t { ss_sp: pages.address(0), ss_flags: 0, ss_size: pages.len() };
            let _ = call!(sigaltstack(&raw const stack, ptr::null_mut()));
            let _ = signals::set_with(SIGSEGV, Do::Handle(rescue), flags, &[]);
            deeper(0) as i32
        });
        process::end_of(child)
    };
    equal(
        "a handler on another stack survives the end of the first",
        overflow(SA_ONSTACK, 1 << 20),
        Status::Exited(5),
    );
    equal("a handler without one does not", overflow(0, 1 << 20), Status::Killed(SIGSEGV));
}
