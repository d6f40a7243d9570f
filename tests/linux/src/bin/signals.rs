//! compare
//!
//! Handlers and their flags, masks, pending signals, and who may signal whom.

use std::{
    process::ExitCode,
    ptr,
    sync::atomic::{AtomicI32, AtomicU32, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use libc::{
    SA_NODEFER, SA_ONSTACK, SA_RESETHAND, SIG_DFL, SIG_IGN, SIGALRM, SIGHUP, SIGKILL, SIGPIPE, SIGTERM,
    SIGUSR1, SIGUSR2, SS_DISABLE, SS_ONSTACK, c_int, c_void, siginfo_t, sigval, stack_t,
};
use linux_tests::{
    apart, call, equal,
    errno::{EAGAIN, EINTR, EINVAL, ENOMEM, EPERM, EPIPE, ESRCH},
    exec_self, files,
    memory::Pages,
    ok,
    process::{self, Pid, Status, fork, kill},
    run_with,
    signals::{self, Do, block, code, forget, mask, pending, raise, seen, set, set_with, take, unblock},
    times::until,
};

/// The first two real-time signals that the C library leaves to programs.
const REAL_TIME: [c_int; 2] = [34, 35];
const NOW: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    run_with(
        &[("state", |_| state())],
        &[
            || apart(information),
            || apart(nesting),
            || apart(one_shot),
            || apart(other_stack),
            || apart(masks),
            || apart(queues),
            || apart(waiting),
            || apart(threads),
            || apart(fork_and_exec),
            || apart(broken_pipes),
            || apart(who_may),
            refused,
        ],
    )
}

static VALUE: AtomicUsize = AtomicUsize::new(0);
static SENDER: AtomicI32 = AtomicI32::new(0);

extern "C" fn keep(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel hands a handler a structure that is valid until it returns.
    let (value, sender) = unsafe { ((*info).si_value(), (*info).si_pid()) };
    VALUE.store(value.sival_ptr as usize, SeqCst);
    SENDER.store(sender, SeqCst);
}

fn information() {
    set(SIGUSR1, Do::Count);
    let _ = kill(process::me(), SIGUSR1);
    equal("kill says SI_USER", (seen(SIGUSR1), code(SIGUSR1)), (1, libc::SI_USER));
    raise(SIGUSR1);
    equal("tgkill says SI_TKILL", (seen(SIGUSR1), code(SIGUSR1)), (2, libc::SI_TKILL));
    let value = sigval { sival_ptr: 0x1234_5678 as *mut c_void };
    let _ = call!(sigqueue(process::me(), SIGUSR1, value));
    equal("sigqueue says SI_QUEUE", (seen(SIGUSR1), code(SIGUSR1)), (3, libc::SI_QUEUE));
    set(SIGUSR1, Do::Inform(keep));
    let _ = call!(sigqueue(process::me(), SIGUSR1, value));
    equal("and brings its value", VALUE.load(SeqCst), 0x1234_5678);
    let parent = process::me();
    SENDER.store(0, SeqCst);
    let child = fork(|| kill(parent, SIGUSR1).map_or(1, |()| 0));
    process::end_of(child);
    ok("a signal tells its sender", until(|| SENDER.load(SeqCst) == child));
}

static DEPTH: AtomicU32 = AtomicU32::new(0);
static DEEPEST: AtomicU32 = AtomicU32::new(0);
static CALLS: AtomicU32 = AtomicU32::new(0);

extern "C" fn recurse(signal: c_int) {
    let depth = DEPTH.fetch_add(1, SeqCst) + 1;
    DEEPEST.fetch_max(depth, SeqCst);
    if CALLS.fetch_add(1, SeqCst) < 4 {
        raise(signal);
    }
    DEPTH.fetch_sub(1, SeqCst);
}

fn nesting() {
    let deepest = |flags| {
        DEEPEST.store(0, SeqCst);
        CALLS.store(0, SeqCst);
        set_with(SIGUSR1, Do::Handle(recurse), flags, &[]).expect("an action can be set");
        raise(SIGUSR1);
        (DEEPEST.load(SeqCst), CALLS.load(SeqCst))
    };
    equal("a handler's own signal waits until it returns", deepest(0), (1, 5));
    equal("with SA_NODEFER it does not", deepest(SA_NODEFER), (5, 5));
    set_with(SIGUSR1, Do::Handle(inner_mask), 0, &[SIGUSR2]).expect("an action can be set");
    set(SIGUSR2, Do::Count);
    raise(SIGUSR1);
    equal("a handler's mask holds other signals back", INNER.load(SeqCst), 0);
    equal("until it returns", seen(SIGUSR2), 1);
    ok(
        "and then nothing is blocked",
        !signals::contains(&mask(), SIGUSR1) && !signals::contains(&mask(), SIGUSR2),
    );
}

static INNER: AtomicU32 = AtomicU32::new(9);

extern "C" fn inner_mask(_: c_int) {
    raise(SIGUSR2);
    INNER.store(seen(SIGUSR2), SeqCst);
}

fn one_shot() {
    set_with(SIGUSR1, Do::Count, SA_RESETHAND, &[]).expect("an action can be set");
    raise(SIGUSR1);
    equal("with SA_RESETHAND a handler runs once", (seen(SIGUSR1), signals::action(SIGUSR1)), (1, SIG_DFL));
    let child = fork(|| {
        raise(SIGUSR1);
        99
    });
    equal("and then the default holds", process::end_of(child), Status::Killed(SIGUSR1));
}

static STACK_SEEN: AtomicUsize = AtomicUsize::new(0);
static STACK_FLAGS: AtomicI32 = AtomicI32::new(0);
static STACK_CHANGE: AtomicI32 = AtomicI32::new(0);

extern "C" fn where_am_i(_: c_int) {
    let here = 0_u8;
    STACK_SEEN.store(&raw const here as usize, SeqCst);
    let mut now = alternate(ptr::null_mut(), 0, 0);
    let _ = call!(sigaltstack(ptr::null(), &raw mut now));
    STACK_FLAGS.store(now.ss_flags, SeqCst);
    let none = alternate(ptr::null_mut(), 0, SS_DISABLE);
    let change = call!(sigaltstack(&raw const none, ptr::null_mut()));
    STACK_CHANGE.store(change.map_or_else(|error| error.0, |_| 0), SeqCst);
}

fn alternate(at: *mut c_void, len: usize, flags: c_int) -> stack_t {
    stack_t { ss_sp: at, ss_flags: flags, ss_size: len }
}

fn other_stack() {
    let pages = Pages::new(16);
    let stack = alternate(pages.address(0), pages.len(), 0);
    call!(sigaltstack(&raw const stack, ptr::null_mut())).expect("a stack can be given");
    let range = pages.address(0) as usize..pages.address(16) as usize;
    set(SIGUSR1, Do::Handle(where_am_i));
    raise(SIGUSR1);
    ok("without SA_ONSTACK a handler runs where it was called", !range.contains(&STACK_SEEN.load(SeqCst)));
    set_with(SIGUSR1, Do::Handle(where_am_i), SA_ONSTACK, &[]).expect("an action can be set");
    raise(SIGUSR1);
    ok("with SA_ONSTACK it runs on the other stack", range.contains(&STACK_SEEN.load(SeqCst)));
    equal("which is in use meanwhile", STACK_FLAGS.load(SeqCst), SS_ONSTACK);
    equal("and cannot be changed", STACK_CHANGE.load(SeqCst), EPERM.0);
    let mut now = alternate(ptr::null_mut(), 0, 0);
    call!(sigaltstack(ptr::null(), &raw mut now)).expect("it can be asked for");
    ok(
        "afterwards it is as before",
        (now.ss_sp, now.ss_size, now.ss_flags) == (pages.address(0), pages.len(), 0),
    );
    let short = alternate(pages.address(0), 1024, 0);
    equal(
        "one that is too small is refused",
        call!(sigaltstack(&raw const short, ptr::null_mut())),
        Err(ENOMEM),
    );
    let odd = alternate(pages.address(0), pages.len(), 0x40);
    equal("so are unknown flags", call!(sigaltstack(&raw const odd, ptr::null_mut())), Err(EINVAL));
    let other = thread::spawn(|| {
        // The library gives its threads a stack for handlers: only that it is another one is of interest.
        let mut now = alternate(ptr::null_mut(), 0, 0);
        call!(sigaltstack(ptr::null(), &raw mut now)).map(|_| now.ss_sp as usize)
    });
    ok("another thread has its own", other.join().is_ok_and(|at| at != Ok(pages.address(0) as usize)));
    let none = alternate(ptr::null_mut(), 0, SS_DISABLE);
    equal("it can be given up", call!(sigaltstack(&raw const none, ptr::null_mut())), Ok(0));
}

fn masks() {
    set(SIGUSR1, Do::Count);
    block(&[SIGUSR1]);
    raise(SIGUSR1);
    ok("a blocked signal is pending", pending(SIGUSR1) && seen(SIGUSR1) == 0);
    unblock(&[SIGUSR1]);
    ok("and is delivered before the unblocking returns", !pending(SIGUSR1) && seen(SIGUSR1) == 1);
    block(&[SIGUSR1, SIGUSR2]);
    raise(SIGUSR1);
    set(SIGUSR1, Do::Ignore);
    ok("ignoring a signal discards it where it is pending", !pending(SIGUSR1));
    set(SIGUSR1, Do::Count);
    forget(SIGUSR1);
    unblock(&[SIGUSR1]);
    equal("for good", seen(SIGUSR1), 0);
    let only = signals::set_of(&[SIGTERM]);
    let mut before = signals::set_of(&[]);
    call!(sigprocmask(libc::SIG_SETMASK, &raw const only, &raw mut before)).expect("a mask can be set");
    let is = |set, signals: [bool; 3]| {
        [SIGUSR1, SIGUSR2, SIGTERM].map(|signal| signals::contains(&set, signal)) == signals
    };
    ok("setting a mask gives the one before", is(before, [false, true, false]));
    ok("and replaces all of it", is(mask(), [false, false, true]));
}

static ORDER: AtomicU32 = AtomicU32::new(0);

extern "C" fn note(signal: c_int) {
    ORDER.store(ORDER.load(SeqCst) * 100 + signal as u32, SeqCst);
}

fn queues() {
    set(SIGUSR1, Do::Count);
    block(&[SIGUSR1]);
    (0..5).for_each(|_| raise(SIGUSR1));
    unblock(&[SIGUSR1]);
    equal("five times the same pending signal is one", seen(SIGUSR1), 1);
    let [first, second] = REAL_TIME;
    block(&REAL_TIME);
    for value in 1..=3_usize {
        let _ = call!(sigqueue(process::me(), second, sigval { sival_ptr: value as *mut c_void }));
        let _ = call!(sigqueue(process::me(), first, sigval { sival_ptr: (value * 10) as *mut c_void }));
    }
    let next = || take(&REAL_TIME, NOW).map(|info| (info.signal, info.status)).ok();
    let six: Vec<_> = (0..6).filter_map(|_| next()).collect();
    let wanted = vec![(first, 10), (first, 20), (first, 30), (second, 1), (second, 2), (second, 3)];
    equal("real-time signals queue, the lowest first, each in order", six, wanted);
    equal("and then there are none", next(), None);

    let all = [SIGUSR2, SIGHUP, SIGTERM];
    block(&all);
    all.iter().for_each(|&signal| {
        set_with(signal, Do::Handle(note), 0, &all).expect("an action can be set");
        raise(signal);
    });
    unblock(&all);
    equal("several pending signals come lowest first", ORDER.load(SeqCst), 11_215);
}

fn waiting() {
    set(SIGUSR1, Do::Count);
    block(&[SIGUSR1]);
    equal("sigtimedwait without a signal says EAGAIN", take(&[SIGUSR1], NOW).map(drop), Err(EAGAIN));
    let limit = Duration::from_millis(10);
    equal("also when it waited", take(&[SIGUSR1], limit).map(drop), Err(EAGAIN));
    raise(SIGUSR1);
    equal("a pending one is taken", take(&[SIGUSR1], NOW).map(|info| info.signal), Ok(SIGUSR1));
    ok("without a handler", seen(SIGUSR1) == 0 && !pending(SIGUSR1));
    let me = process::me();
    let child = fork(|| kill(me, SIGUSR1).map_or(1, |()| 0));
    equal("one that comes later is waited for", take(&[SIGUSR1], SOON).map(|info| info.pid), Ok(child));
    process::end_of(child);
    set(SIGUSR2, Do::Count);
    raise(SIGUSR1);
    let all_but = signals::set_of(&[SIGUSR2]);
    equal("sigsuspend ends with EINTR", call!(sigsuspend(&raw const all_but)), Err(EINTR));
    equal("after the handler of a signal that it let in", seen(SIGUSR1), 1);
    ok(
        "and the mask is as before",
        signals::contains(&mask(), SIGUSR1) && !signals::contains(&mask(), SIGUSR2),
    );
    let bad = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000_000 };
    let set = signals::set_of(&[SIGUSR1]);
    equal(
        "sigtimedwait refuses a time that is none",
        call!(sigtimedwait(&raw const set, ptr::null_mut(), &raw const bad)),
        Err(EINVAL),
    );
}

fn threads() {
    set(SIGUSR1, Do::Handle(who));
    block(&[SIGUSR1]);
    let [tid, done] = [const { AtomicI32::new(0) }; 2];
    thread::scope(|scope| {
        scope.spawn(|| {
            ok("a new thread has its creator's mask", signals::contains(&mask(), SIGUSR1));
            unblock(&[SIGUSR1]);
            tid.store(call!(gettid()).unwrap_or(0), SeqCst);
            until(|| done.load(SeqCst) == 1);
        });
        until(|| tid.load(SeqCst) != 0);
        let _ = kill(process::me(), SIGUSR1);
        ok(
            "a signal to the process goes to a thread that lets it in",
            until(|| WHO.load(SeqCst) == tid.load(SeqCst)),
        );
        raise(SIGUSR1);
        ok("one to a thread waits for that thread", pending(SIGUSR1));
        WHO.store(0, SeqCst);
        unblock(&[SIGUSR1]);
        equal("which handles it", Ok(WHO.load(SeqCst)), call!(gettid()));
        block(&[SIGUSR1]);
        let other = tid.load(SeqCst);
        let _ = call!(syscall(libc::SYS_tgkill, process::me(), other, SIGUSR1));
        ok("tgkill reaches one thread", until(|| WHO.load(SeqCst) == other));
        done.store(1, SeqCst);
    });
    let gone = tid.load(SeqCst);
    let tgkill =
        |pid: Pid, tid: Pid, signal: c_int| call!(syscall(libc::SYS_tgkill, pid, tid, signal)).map(drop);
    ok("tgkill to a thread that ended says ESRCH", until(|| tgkill(process::me(), gone, 0) == Err(ESRCH)));
    equal(
        "and to one of another process",
        tgkill(process::me(), call!(getppid()).unwrap_or(0), 0),
        Err(ESRCH),
    );
    equal("and refuses thread 0", tgkill(process::me(), 0, 0), Err(EINVAL));
}

static WHO: AtomicI32 = AtomicI32::new(0);

extern "C" fn who(_: c_int) {
    WHO.store(call!(gettid()).unwrap_or(-1), SeqCst);
}

/// The signal state of a process, as bits.
fn state() -> i32 {
    let own = mask();
    i32::from(signals::contains(&own, SIGUSR1))
        | i32::from(pending(SIGUSR1)) << 1
        | i32::from(signals::action(SIGUSR2) == SIG_DFL) << 2
        | i32::from(signals::action(SIGHUP) == SIG_IGN) << 3
}

fn fork_and_exec() {
    block(&[SIGUSR1]);
    set(SIGUSR2, Do::Count);
    set(SIGHUP, Do::Ignore);
    raise(SIGUSR1);
    equal("a mask, a pending signal, a handler and an ignored signal are set", state(), 0b1011);
    let child = fork(state);
    equal("fork keeps all but the pending signal", process::end_of(child), Status::Exited(0b1001));
    let child = fork(|| {
        raise(SIGUSR1);
        exec_self("state", &[]);
        99
    });
    equal(
        "exec keeps mask, pending and ignored, and drops the handler",
        process::end_of(child),
        Status::Exited(0b1111),
    );
}

fn broken_pipes() {
    let (from, to) = files::pipe();
    files::close(from);
    set(SIGPIPE, Do::Count);
    equal("a write to a pipe without readers says EPIPE", files::write(to, b"x"), Err(EPIPE));
    equal("after SIGPIPE", seen(SIGPIPE), 1);
    set(SIGPIPE, Do::Ignore);
    equal("or without it when it is ignored", files::write(to, b"x"), Err(EPIPE));
    let child = fork(|| {
        set(SIGPIPE, Do::Default);
        let _ = files::write(to, b"x");
        99
    });
    equal("by default it ends the writer", process::end_of(child), Status::Killed(SIGPIPE));
}

fn who_may() {
    let me = process::me();
    let child = fork(|| {
        call!(setresuid(1234, 1234, 1234)).expect("root can change its user");
        let stranger = kill(me, 0) == Err(EPERM) && kill(me, SIGKILL) == Err(EPERM);
        let own = kill(process::me(), 0) == Ok(());
        i32::from(stranger && own)
    });
    equal("another user may not signal us", process::end_of(child), Status::Exited(1));
    call!(setpgid(0, 0)).expect("a child can have a group");
    set(SIGUSR1, Do::Count);
    let child = fork(|| i32::from(kill(0, SIGUSR1).is_ok() && seen(SIGUSR1) == 1));
    equal("kill(0) signals the own group, with its sender", process::end_of(child), Status::Exited(1));
    ok("and the others of it", until(|| seen(SIGUSR1) == 1));
    equal("signal 0 only asks", kill(0, 0), Ok(()));
}

fn refused() {
    equal("signal 65 does not exist", kill(process::me(), 65), Err(EINVAL));
    equal("nor does -1", kill(process::me(), -1), Err(EINVAL));
    equal("an unknown process says ESRCH", kill(0x40_0000, SIGALRM), Err(ESRCH));
    equal("so does an unknown group", kill(-0x40_0000, SIGALRM), Err(ESRCH));
    equal("and the group that cannot be", kill(i32::MIN, SIGALRM), Err(ESRCH));
    for signal in [0, 65, SIGKILL, libc::SIGSTOP] {
        equal(&format!("signal {signal} takes no action"), set_with(signal, Do::Count, 0, &[]), Err(EINVAL));
    }
    let rest = call!(syscall(libc::SYS_rt_sigaction, SIGUSR1, 0, 0, 4));
    equal("a mask of another size is refused", rest, Err(EINVAL));
    let set = signals::set_of(&[]);
    equal(
        "so is an unknown way to change it",
        call!(sigprocmask(9, &raw const set, ptr::null_mut())),
        Err(EINVAL),
    );
}
