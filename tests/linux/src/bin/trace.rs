//! compare
//!
//! Tracing another process: what a tracer sees and changes of registers, memory and system calls.

use std::{
    arch::asm,
    process::ExitCode,
    ptr,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
};

use libc::{
    __WALL, CLONE_VFORK, CLONE_VM, PTRACE_CONT, PTRACE_DETACH, PTRACE_EVENT_CLONE, PTRACE_EVENT_EXIT,
    PTRACE_EVENT_FORK, PTRACE_EVENT_STOP, PTRACE_EVENT_VFORK, PTRACE_EVENT_VFORK_DONE, PTRACE_GETEVENTMSG,
    PTRACE_GETREGS, PTRACE_GETREGSET, PTRACE_GETSIGINFO, PTRACE_INTERRUPT, PTRACE_KILL, PTRACE_O_TRACECLONE,
    PTRACE_O_TRACEEXIT, PTRACE_O_TRACEFORK, PTRACE_O_TRACESYSGOOD, PTRACE_O_TRACEVFORK,
    PTRACE_O_TRACEVFORKDONE, PTRACE_PEEKDATA, PTRACE_PEEKUSER, PTRACE_POKEDATA, PTRACE_POKETEXT,
    PTRACE_SEIZE, PTRACE_SETOPTIONS, PTRACE_SETREGS, PTRACE_SINGLESTEP, PTRACE_SYSCALL, PTRACE_TRACEME,
    SIGCHLD, SIGKILL, SIGSTOP, SIGTRAP, SIGUSR1, c_long, c_uint, iovec, siginfo_t, user_regs_struct,
};
use linux_tests::{
    Errno, apart, call, equal,
    errno::{ECHILD, EFAULT, EINVAL, EIO, EPERM, ESRCH},
    memory::shared,
    ok,
    process::{self, Pid, Status, Waited, fork, kill, wait},
    run,
    signals::{self, Do},
    times::{settle, until},
};

const GET_SYSCALL_INFO: c_uint = 0x420e;
const NT_PRSTATUS: usize = 1;
const SYSCALL_STOP: i32 = SIGTRAP | 0x80;

fn main() -> ExitCode {
    run(&[
        || apart(system_calls),
        || apart(changed_calls),
        || apart(interrupted_calls),
        || apart(registers),
        || apart(steps),
        || apart(breakpoints),
        || apart(memory),
        || apart(families),
        || apart(ends),
        || apart(informed),
        || apart(refusals),
        || apart(letting_go),
    ])
}

fn ptrace(request: c_uint, pid: Pid, address: usize, data: usize) -> Result<c_long, Errno> {
    call!(syscall(libc::SYS_ptrace, c_long::from(request), c_long::from(pid), address, data))
}

fn stopped(pid: Pid, word: i32) -> Waited {
    Ok(Some((pid, Status::Stopped(word))))
}

const fn event(number: i32) -> i32 {
    number << 8 | SIGTRAP
}

/// A child that asks to be traced, stops, and then does something.
fn traced(options: i32, body: impl FnOnce() -> i32) -> Pid {
    let child = fork(|| {
        ptrace(PTRACE_TRACEME, 0, 0, 0).expect("a child can ask to be traced");
        signals::raise(SIGSTOP);
        body()
    });
    equal("a traced child stops", wait(child, 0), stopped(child, SIGSTOP));
    ptrace(PTRACE_SETOPTIONS, child, 0, options as usize).expect("options can be set");
    child
}

fn go(request: c_uint, pid: Pid) -> Waited {
    ptrace(request, pid, 0, 0).expect("a stopped thread goes on");
    wait(pid, __WALL)
}

fn regs(pid: Pid) -> user_regs_struct {
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut regs: user_regs_struct = unsafe { std::mem::zeroed() };
    ptrace(PTRACE_GETREGS, pid, 0, &raw mut regs as usize).expect("a stopped thread has registers");
    regs
}

fn set_regs(pid: Pid, regs: &user_regs_struct) -> Result<c_long, Errno> {
    ptrace(PTRACE_SETREGS, pid, 0, ptr::from_ref(regs) as usize)
}

/// `struct ptrace_syscall_info`: its length, which kind, architecture, and the words behind the addresses.
fn info(pid: Pid) -> (c_long, u8, u32, [u64; 7]) {
    let mut words = [0_u64; 11];
    let length =
        ptrace(GET_SYSCALL_INFO, pid, 88, words.as_mut_ptr() as usize).expect("a stop has information");
    (length, words[0] as u8, (words[0] >> 32) as u32, words[3..10].try_into().expect("there are eleven"))
}

fn message(pid: Pid) -> u64 {
    let mut message = 0_u64;
    ptrace(PTRACE_GETEVENTMSG, pid, 0, &raw mut message as usize).expect("an event has a message");
    message
}

fn peek(pid: Pid, address: usize) -> Result<u64, Errno> {
    let mut word = 0_u64;
    ptrace(PTRACE_PEEKDATA, pid, address, &raw mut word as usize).map(|_| word)
}

fn raw_getpgid(argument: c_long) -> c_long {
    call!(syscall(libc::SYS_getpgid, argument)).unwrap_or(-1)
}

/// Lets a traced child run to the entry of the call with a number.
fn to_entry(child: Pid, number: u64) -> bool {
    for _ in 0..40 {
        if go(PTRACE_SYSCALL, child) != stopped(child, SYSCALL_STOP) {
            return false;
        }
        if info(child).1 == 1 && regs(child).orig_rax == number {
            return true;
        }
    }
    false
}

fn system_calls() {
    let child = traced(PTRACE_O_TRACESYSGOOD, || i32::from(raw_getpgid(0x1234_5678) != -1));
    ok("a call stops at its entry", to_entry(child, libc::SYS_getpgid as u64));
    let (length, kind, arch, words) = info(child);
    equal("which tells number and argument", (length, kind, arch), (80, 1, 0xc000_003e));
    equal("as they are", (words[0], words[1]), (libc::SYS_getpgid as u64, 0x1234_5678));
    equal("its result is not there yet", regs(child).rax as i64, -38);
    equal("then at its exit", go(PTRACE_SYSCALL, child), stopped(child, SYSCALL_STOP));
    let (length, kind, _, words) = info(child);
    equal("which tells the result", (length, kind, words[0] as i64, words[1] as u8), (33, 2, -3, 1));
    equal(
        "as the registers do",
        (regs(child).rax as i64, regs(child).orig_rax),
        (-3, libc::SYS_getpgid as u64),
    );
    ptrace(PTRACE_CONT, child, 0, 0).expect("it goes on");
    equal("and it ends", process::end_of(child), Status::Exited(0));
}

fn changed_calls() {
    let child = traced(PTRACE_O_TRACESYSGOOD, || {
        let first = call!(syscall(libc::SYS_getpgid, 0)).unwrap_or(-1);
        let second = call!(syscall(libc::SYS_getpgid, 0)).unwrap_or(-1);
        i32::from(first == 77) | i32::from(second == c_long::from(std::process::id())) << 1
    });
    ok("a call stops", to_entry(child, libc::SYS_getpgid as u64));
    let mut changed = regs(child);
    changed.orig_rax = u64::MAX;
    equal("and can be made none", set_regs(child, &changed), Ok(0));
    equal("it stops at its exit all the same", go(PTRACE_SYSCALL, child), stopped(child, SYSCALL_STOP));
    equal("without a result", regs(child).rax as i64, -38);
    let mut changed = regs(child);
    changed.rax = 77;
    set_regs(child, &changed).expect("a result can be given");
    ok("the next stops", to_entry(child, libc::SYS_getpgid as u64));
    let mut changed = regs(child);
    changed.orig_rax = libc::SYS_getpid as u64;
    set_regs(child, &changed).expect("it can be made another");
    ptrace(PTRACE_CONT, child, 0, 0).expect("it goes on");
    equal("and both are what they were made", process::end_of(child), Status::Exited(3));
}

fn interrupted_calls() {
    let child = traced(PTRACE_O_TRACESYSGOOD, || {
        signals::set(SIGUSR1, Do::Count);
        let paused = call!(pause());
        i32::from(paused.is_ok())
    });
    ok("a call stops", to_entry(child, libc::SYS_pause as u64));
    ptrace(PTRACE_SYSCALL, child, 0, 0).expect("it goes on");
    settle();
    kill(child, SIGUSR1).expect("a child can be signalled");
    equal("a signal ends it", wait(child, __WALL), stopped(child, SYSCALL_STOP));
    equal("with the code of a restart", regs(child).rax as i64, -514);
    equal("then the signal is told", go(PTRACE_SYSCALL, child), stopped(child, SIGUSR1));
    equal("and nothing has changed", (regs(child).rax as i64, regs(child).orig_rax as i64), (-514, 34));
    equal("taken away, the call is made again", go(PTRACE_SYSCALL, child), stopped(child, SYSCALL_STOP));
    equal("at its entry", (info(child).1, regs(child).orig_rax), (1, 34));
    ptrace(PTRACE_KILL, child, 0, 0).expect("it can be killed");
    equal("and killed it ends", process::end_of(child), Status::Killed(SIGKILL));
}

fn registers() {
    let child = traced(0, || {
        let result: u64;
        // SAFETY: a breakpoint, with a value in a register that is its own output.
        unsafe { asm!("mov r12, 5", "int3", "mov {}, r12", out(reg) result, out("r12") _) };
        result as i32
    });
    equal("a breakpoint is SIGTRAP", go(PTRACE_CONT, child), stopped(child, SIGTRAP));
    let mut changed = regs(child);
    equal("registers are as they were", (changed.r12, changed.cs, changed.ss), (5, 0x33, 0x2b));
    equal("no call is under way", changed.orig_rax as i64, -1);
    let mut word = 0_u64;
    let peeked = ptrace(PTRACE_PEEKUSER, child, 24, &raw mut word as usize);
    equal("one by one too", (peeked, word), (Ok(0), 5));
    let peeked = ptrace(PTRACE_PEEKUSER, child, 4, &raw mut word as usize);
    equal("if they are registers", peeked, Err(EIO));
    let mut set = [0_u64; 27];
    let mut vector = iovec { iov_base: set.as_mut_ptr().cast(), iov_len: 4096 };
    let got = ptrace(PTRACE_GETREGSET, child, NT_PRSTATUS, &raw mut vector as usize);
    equal("as a set they are as many", (got, vector.iov_len, set[3]), (Ok(0), 216, 5));
    changed.r12 = 9;
    equal("and can be changed", set_regs(child, &changed), Ok(0));
    changed.fs_base = 1 << 63;
    equal("to what a program can have", set_regs(child, &changed), Err(EIO));
    ptrace(PTRACE_CONT, child, 0, 0).expect("it goes on");
    equal("it goes on with them", process::end_of(child), Status::Exited(9));
}

fn steps() {
    let child = traced(0, || {
        // SAFETY: a breakpoint and three instructions without effect.
        unsafe { asm!("int3", "nop", "nop", "nop") };
        0
    });
    equal("a breakpoint", go(PTRACE_CONT, child), stopped(child, SIGTRAP));
    let start = regs(child).rip;
    for step in 1..=3 {
        equal("a step is a trap", go(PTRACE_SINGLESTEP, child), stopped(child, SIGTRAP));
        equal("one instruction on", regs(child).rip - start, step);
    }
    equal("whose flag is not seen", regs(child).eflags & 0x100, 0);
    ptrace(PTRACE_CONT, child, 0, 0).expect("it goes on");
    equal("and it runs freely again", process::end_of(child), Status::Exited(0));
}

#[unsafe(no_mangle)]
extern "C" fn a_place_to_stop() -> i32 {
    std::hint::black_box(6)
}

fn breakpoints() {
    let place = a_place_to_stop as *const () as usize;
    let child = traced(0, || {
        let function = std::hint::black_box(a_place_to_stop as extern "C" fn() -> i32);
        let first = function();
        first + function()
    });
    let original = peek(child, place).expect("code can be read");
    let patched = original & !0xff | 0xcc;
    equal("code can be written", ptrace(PTRACE_POKETEXT, child, place, patched as usize), Ok(0));
    equal("as the child sees it", peek(child, place), Ok(patched));
    // SAFETY: the first instruction of a function of this program.
    let own = unsafe { ptr::read_volatile(place as *const u64) };
    ok("and nobody else", own == original);
    equal("it stops there", go(PTRACE_CONT, child), stopped(child, SIGTRAP));
    let mut at = regs(child);
    equal("behind the breakpoint", at.rip, place as u64 + 1);
    ptrace(PTRACE_POKETEXT, child, place, original as usize).expect("code can be written");
    at.rip = place as u64;
    set_regs(child, &at).expect("it can be set back");
    equal("a step over it", go(PTRACE_SINGLESTEP, child), stopped(child, SIGTRAP));
    ptrace(PTRACE_POKETEXT, child, place, patched as usize).expect("code can be written");
    equal("it stops there again", go(PTRACE_CONT, child), stopped(child, SIGTRAP));
    ptrace(PTRACE_POKETEXT, child, place, original as usize).expect("code can be written");
    let mut at = regs(child);
    at.rip = place as u64;
    set_regs(child, &at).expect("it can be set back");
    ptrace(PTRACE_CONT, child, 0, 0).expect("it goes on");
    equal("and what it does is what it did", process::end_of(child), Status::Exited(12));
}

fn memory() {
    let mut value = Box::new([7_u64, 8]);
    let address = value.as_mut_ptr() as usize;
    let child = traced(0, || {
        // SAFETY: the box is this process's own copy, which its tracer changes.
        unsafe { ptr::read_volatile(address as *const u64) as i32 }
    });
    equal("a word can be read", peek(child, address), Ok(7));
    equal("between two words, too", peek(child, address + 4), Ok(8 << 32));
    equal("not where nothing is", peek(child, 16), Err(EIO));
    equal("nor written", ptrace(PTRACE_POKEDATA, child, 16, 1), Err(EIO));
    equal("a word can be written", ptrace(PTRACE_POKEDATA, child, address, 55), Ok(0));
    ok("in the child alone", value[0] == 7);
    equal("the answer goes where it can", ptrace(PTRACE_PEEKDATA, child, address, 0), Err(EFAULT));
    ptrace(PTRACE_CONT, child, 0, 0).expect("it goes on");
    equal("and the child finds it", process::end_of(child), Status::Exited(55));
}

fn families() {
    let options = PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACECLONE;
    let child = traced(options, || {
        let first = fork(|| 1);
        process::end_of(first);
        let second = process::clone(CLONE_VM | CLONE_VFORK | SIGCHLD, || 2, ptr::null_mut());
        let second = second.expect("a process can be made");
        process::end_of(second);
        let _ = thread::spawn(|| 3).join();
        4
    });
    let forked = go(PTRACE_CONT, child);
    equal("a fork is an event", forked, stopped(child, event(PTRACE_EVENT_FORK)));
    let first = message(child) as Pid;
    equal("its child stops first of all", wait(first, __WALL), stopped(first, SIGSTOP));
    ptrace(PTRACE_CONT, child, 0, 0).expect("it goes on");
    ptrace(PTRACE_CONT, first, 0, 0).expect("it goes on");
    equal("its end is told", wait(first, __WALL), Ok(Some((first, Status::Exited(1)))));
    equal("and its parent's signal", wait(child, __WALL), stopped(child, SIGCHLD));
    let vforked = go(PTRACE_CONT, child);
    equal("a vfork is an event", vforked, stopped(child, event(PTRACE_EVENT_VFORK)));
    let second = message(child) as Pid;
    equal("its child stops, too", wait(second, __WALL), stopped(second, SIGSTOP));
    ptrace(PTRACE_CONT, child, 0, 0).expect("it goes on");
    equal("the parent waits", wait(child, __WALL | libc::WNOHANG), Ok(None));
    ptrace(PTRACE_CONT, second, 0, 0).expect("it goes on");
    equal("until its end", wait(second, __WALL), Ok(Some((second, Status::Exited(2)))));
    let done = wait(child, __WALL);
    equal("which is an event", done, stopped(child, event(PTRACE_EVENT_VFORK_DONE)));
    ok("with the same message", message(child) as Pid == second);
    equal("and a signal", go(PTRACE_CONT, child), stopped(child, SIGCHLD));
    let cloned = go(PTRACE_CONT, child);
    equal("a thread is an event", cloned, stopped(child, event(PTRACE_EVENT_CLONE)));
    let thread = message(child) as Pid;
    equal("it stops, too", wait(thread, __WALL), stopped(thread, SIGSTOP));
    ptrace(PTRACE_CONT, child, 0, 0).expect("it goes on");
    ptrace(PTRACE_CONT, thread, 0, 0).expect("it goes on");
    // Its last act may be that of the whole process.
    ok("its end is told", matches!(wait(thread, __WALL), Ok(Some((of, Status::Exited(_)))) if of == thread));
    equal("as that of all", wait(child, __WALL), Ok(Some((child, Status::Exited(4)))));
    equal("and that is all", wait(-1, __WALL), Err(ECHILD));
}

fn ends() {
    let child = traced(PTRACE_O_TRACEEXIT, || 21);
    let end = go(PTRACE_CONT, child);
    equal("an exit is an event", end, stopped(child, event(PTRACE_EVENT_EXIT)));
    equal("whose message is the status", message(child), 21 << 8);
    equal("then it ends", go(PTRACE_CONT, child), Ok(Some((child, Status::Exited(21)))));
}

fn informed() {
    let child = traced(0, || {
        signals::raise(SIGUSR1);
        0
    });
    equal("a signal is told", go(PTRACE_CONT, child), stopped(child, SIGUSR1));
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut info: siginfo_t = unsafe { std::mem::zeroed() };
    let got = ptrace(PTRACE_GETSIGINFO, child, 0, &raw mut info as usize);
    equal("with what it says", (got, info.si_signo, info.si_code), (Ok(0), SIGUSR1, libc::SI_TKILL));
    signals::set(SIGCHLD, Do::Count);
    ptrace(PTRACE_CONT, child, 0, SIGUSR1 as usize).expect("it can be passed on");
    equal("passed on it ends the child", process::end_of(child), Status::Killed(SIGUSR1));
    equal(
        "of which the tracer is told",
        (signals::seen(SIGCHLD), signals::code(SIGCHLD)),
        (1, libc::CLD_KILLED),
    );
}

fn refusals() {
    let this = std::process::id() as Pid;
    equal("nobody traces himself", ptrace(PTRACE_SEIZE, this, 0, 0), Err(EPERM));
    equal("nor who is not there", ptrace(PTRACE_SEIZE, 4_000_000, 0, 0), Err(ESRCH));
    let child = process::sleeper();
    equal("what is not traced is left alone", ptrace(PTRACE_CONT, child, 0, 0), Err(ESRCH));
    equal("options are known", ptrace(PTRACE_SEIZE, child, 0, 1 << 30), Err(EIO));
    equal("it can be traced", ptrace(PTRACE_SEIZE, child, 0, 0), Ok(0));
    equal("once", ptrace(PTRACE_SEIZE, child, 0, 0), Err(EPERM));
    equal("while it runs it is left alone", ptrace(PTRACE_CONT, child, 0, 0), Err(ESRCH));
    equal("but can be interrupted", ptrace(PTRACE_INTERRUPT, child, 0, 0), Ok(0));
    equal("and stops", wait(child, __WALL), stopped(child, event(PTRACE_EVENT_STOP)));
    equal("a signal has a number", ptrace(PTRACE_CONT, child, 0, 99), Err(EIO));
    equal("options have meanings", ptrace(PTRACE_SETOPTIONS, child, 0, 1 << 30), Err(EINVAL));
    equal("requests are known", ptrace(0x7777, child, 0, 0), Err(EIO));
    process::kill_and_reap(child);
}

fn letting_go() {
    let [word, ..] = shared();
    let child = traced(PTRACE_O_TRACESYSGOOD, || {
        until(|| word.load(SeqCst) == 1);
        ended(word)
    });
    ptrace(PTRACE_DETACH, child, 0, 0).expect("a stopped thread can be let go");
    equal("what is let go is not traced", ptrace(PTRACE_CONT, child, 0, 0), Err(ESRCH));
    word.store(1, SeqCst);
    equal("and ends as it likes", process::end_of(child), Status::Exited(2));
}

fn ended(word: &AtomicU32) -> i32 {
    word.load(SeqCst) as i32 + 1
}
