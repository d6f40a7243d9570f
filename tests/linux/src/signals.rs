//! Handlers, masks, and a memory of the signals that came.

use std::{
    mem, ptr,
    sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst},
    time::Duration,
};

use libc::{c_int, c_void, sighandler_t, siginfo_t, sigset_t, timespec};

use crate::{Errno, call, process::Info};

static SEEN: [AtomicU32; 65] = [const { AtomicU32::new(0) }; 65];
static CODES: [AtomicI32; 65] = [const { AtomicI32::new(0) }; 65];

/// What is to be done with a signal.
#[derive(Clone, Copy)]
pub enum Do {
    /// The default action.
    Default,
    /// Nothing.
    Ignore,
    /// Count it, for [`seen`].
    Count,
    /// Call this.
    Handle(extern "C" fn(c_int)),
    /// Call this with information.
    Inform(extern "C" fn(c_int, *mut siginfo_t, *mut c_void)),
}

/// A handler that remembers how often a signal came, and with which code.
extern "C" fn count(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: the kernel hands a handler a structure that is valid until it returns.
    let code = unsafe { (*info).si_code };
    CODES[signal as usize].store(code, SeqCst);
    SEEN[signal as usize].fetch_add(1, SeqCst);
}

/// How often a counted signal came.
pub fn seen(signal: c_int) -> u32 {
    SEEN[signal as usize].load(SeqCst)
}

/// With which code a counted signal came last.
pub fn code(signal: c_int) -> i32 {
    CODES[signal as usize].load(SeqCst)
}

/// Forgets how often a signal came.
pub fn forget(signal: c_int) {
    SEEN[signal as usize].store(0, SeqCst);
}

/// Sets what is done with a signal, with flags, and with more signals blocked meanwhile.
pub fn set_with(signal: c_int, what: Do, flags: c_int, blocked: &[c_int]) -> Result<(), Errno> {
    let (handler, flags): (sighandler_t, c_int) = match what {
        Do::Default => (libc::SIG_DFL, flags),
        Do::Ignore => (libc::SIG_IGN, flags),
        Do::Count => (count as *const () as usize, flags | libc::SA_SIGINFO),
        Do::Handle(handler) => (handler as *const () as usize, flags),
        Do::Inform(handler) => (handler as *const () as usize, flags | libc::SA_SIGINFO),
    };
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    action.sa_mask = set_of(blocked);
    call!(sigaction(signal, &raw const action, ptr::null_mut())).map(drop)
}

/// Sets what is done with a signal.
pub fn set(signal: c_int, what: Do) {
    set_with(signal, what, 0, &[]).expect("a signal's action can be set");
}

/// The action of a signal as the kernel has it: SIG_DFL, SIG_IGN or an address.
pub fn action(signal: c_int) -> sighandler_t {
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    call!(sigaction(signal, ptr::null(), &raw mut action)).expect("an action can be asked for");
    action.sa_sigaction
}

/// A set of signals.
pub fn set_of(signals: &[c_int]) -> sigset_t {
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut set: sigset_t = unsafe { mem::zeroed() };
    let _ = call!(sigemptyset(&raw mut set));
    for &signal in signals {
        let _ = call!(sigaddset(&raw mut set, signal));
    }
    set
}

/// Whether a signal is in a set.
pub fn contains(set: &sigset_t, signal: c_int) -> bool {
    call!(sigismember(set, signal)) == Ok(1)
}

/// Blocks signals in this thread.
pub fn block(signals: &[c_int]) {
    change_mask(libc::SIG_BLOCK, signals);
}

/// Unblocks signals in this thread; one that is pending is delivered before this returns.
pub fn unblock(signals: &[c_int]) {
    change_mask(libc::SIG_UNBLOCK, signals);
}

fn change_mask(how: c_int, signals: &[c_int]) {
    let set = set_of(signals);
    call!(sigprocmask(how, &raw const set, ptr::null_mut())).expect("a mask can be changed");
}

/// The signals this thread blocks.
pub fn mask() -> sigset_t {
    let mut set = set_of(&[]);
    call!(sigprocmask(libc::SIG_BLOCK, ptr::null(), &raw mut set)).expect("a mask can be asked for");
    set
}

/// Whether a signal is pending for this thread or its process.
pub fn pending(signal: c_int) -> bool {
    let mut set = set_of(&[]);
    call!(sigpending(&raw mut set)).expect("pending signals can be asked for");
    contains(&set, signal)
}

/// Takes a pending signal out of `signals`, or waits for one until `limit`.
pub fn take(signals: &[c_int], limit: Duration) -> Result<Info, Errno> {
    let set = set_of(signals);
    let limit = timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut info: siginfo_t = unsafe { mem::zeroed() };
    call!(sigtimedwait(&raw const set, &raw mut info, &raw const limit))?;
    Ok(Info::from(&info))
}

/// Sends a signal to this thread.
pub fn raise(signal: c_int) {
    let (pid, tid) = (std::process::id(), call!(gettid()).unwrap_or(0));
    call!(syscall(libc::SYS_tgkill, pid, tid, signal)).expect("a thread can signal itself");
}
