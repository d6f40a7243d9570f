//! Patience with a server that loops without making a trap, as one may over whose memory something has written. On the
//! machine a timer interrupts it; here it would keep its host thread for ever.
//!
//! A thread of its own looks at all others now and then. One that has been in the same step of a server for long is
//! sent a signal, whose handler leaves the step as a trap does. The incarnation is never resumed and its stack never
//! unwound, for it may stand anywhere; what it has on the host's heap is lost.

use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use crate::incarnation::Gate;

/// How often all threads are looked at. A step takes microseconds.
const PERIOD: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 5000 });

/// A host thread that runs servers.
struct Worker {
    thread: libc::pthread_t,
    /// Odd inside a step of a server.
    steps: AtomicU64,
}

static WORKERS: Mutex<Vec<Arc<Worker>>> = Mutex::new(Vec::new());

/// Takes its worker out of those that are looked at when the thread ends.
struct Registered(Arc<Worker>);

impl Drop for Registered {
    fn drop(&mut self) {
        if let Ok(mut workers) = WORKERS.lock() {
            workers.retain(|worker| !Arc::ptr_eq(worker, &self.0));
        }
    }
}

thread_local! {
    static OWN: Registered = register();
    /// The way out of the step that runs; null outside.
    static GATE: Cell<*const Gate> = const { Cell::new(ptr::null()) };
}

fn register() -> Registered {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: an empty action is valid, and the handler has the signature that no SA_SIGINFO asks for.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = leave as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = libc::SA_NODEFER | libc::SA_RESTART;
            libc::sigaction(libc::SIGUSR2, &action, ptr::null_mut());
        }
        std::thread::spawn(watch);
    });
    // SAFETY: it has no preconditions.
    let thread = unsafe { libc::pthread_self() };
    let worker = Arc::new(Worker { thread, steps: AtomicU64::new(0) });
    if let Ok(mut workers) = WORKERS.lock() {
        workers.push(worker.clone());
    }
    Registered(worker)
}

/// Looks at all threads for ever.
fn watch() {
    let mut seen: Vec<(libc::pthread_t, u64)> = Vec::new();
    loop {
        std::thread::sleep(PERIOD);
        let Ok(workers) = WORKERS.lock() else { return };
        let now: Vec<_> = workers.iter().map(|one| (one.thread, one.steps.load(Ordering::Relaxed))).collect();
        for stuck in now.iter().filter(|one| one.1 % 2 == 1 && seen.contains(one)) {
            // SAFETY: the thread lives: it takes itself out of the list, which is locked, before it ends.
            unsafe { libc::pthread_kill(stuck.0, libc::SIGUSR2) };
        }
        seen = now;
    }
}

extern "C" fn leave(_: libc::c_int) {
    let gate = GATE.replace(ptr::null());
    // SAFETY: it is set only while the coroutine runs that the gate leads out of, and so while the gate is there.
    if let Some(gate) = unsafe { gate.as_ref() } {
        gate.suspend(None);
    }
}

/// A step begins, which can be left by this gate.
pub(crate) fn begin(gate: &Gate) {
    OWN.with(|own| own.0.steps.fetch_add(1, Ordering::Relaxed));
    GATE.set(gate);
}

/// The step has come to a trap.
pub(crate) fn end() {
    GATE.set(ptr::null());
}

/// The step is over, however it ended.
pub(crate) fn over() {
    GATE.set(ptr::null());
    OWN.with(|own| {
        let steps = &own.0.steps;
        steps.store((steps.load(Ordering::Relaxed) + 1) & !1, Ordering::Relaxed);
    });
}
