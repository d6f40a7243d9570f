//! One thread, and the call it waits in. A thread waits in one call at most; whatever else refers to that call (a
//! queue, a timer, a family) is taken back by [`Proc::release`], so that no answer is given twice.

use alloc::boxed::Box;
use alloc::vec::Vec;

use libipc::abi::syscall::{Restart, When};
use libipc::abi::{CallId, Handle};
use libipc::linux::errno::EINTR;
use libipc::server::ForeignReply;
use libipc::server::effect::{Operation, Output, Reason};
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::futex::FutexWait;
use crate::id::{Pid, Tid};
use crate::rites::Rites;
use crate::signal::{AlternateStack, Pending, SignalSet};
use crate::time::{Timer, timespec};
use crate::trace::Trace;
use crate::turn::Turn;
use crate::wait::WaitFor;

/// A call that is parked, and why.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Waiting {
    /// The call.
    pub call: CallId,
    /// What it waits for.
    pub on: On,
}

/// What a parked call waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum On {
    /// wait4(2), waitid(2): news of a child.
    Child(WaitFor),
    /// futex(2).
    Futex(FutexWait),
    /// nanosleep(2), clock_nanosleep(2).
    Sleep {
        /// Until when, ns since boot.
        deadline_ns: u64,
        /// Where the time that is left goes when a signal comes; 0 for nowhere.
        remainder: u64,
        /// TIMER_ABSTIME: the call can simply be made again.
        absolute: bool,
    },
    /// rt_sigtimedwait(2), read(2) of a descriptor of signalfd(2).
    Signal {
        /// One of these.
        set: SignalSet,
        /// Where its siginfo goes; 0 for nowhere.
        info: u64,
        /// Until when; `None` for ever.
        deadline_ns: Option<u64>,
        /// It is a read.
        record: bool,
    },
    /// pause(2), rt_sigsuspend(2): any signal that does something.
    Pause,
    /// vfork(2): the child's exec or end.
    Vfork {
        /// The child.
        child: Pid,
    },
    /// Another server works on it: fork(2), execve(2), pidfd_open(2). It ends soon and is not interrupted.
    Server,
    /// An attention or fault call, held while the process is stopped or ends.
    Held {
        /// How the call goes on that the thread was taken out of.
        restart: u64,
    },
    /// Any call, held while the thread is stopped for its tracer.
    Traced {
        /// It is a system call.
        foreign: bool,
    },
}

/// What `restart_syscall` goes on with: the end of the wait does not move when a stop interrupts it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Resume {
    /// A relative sleep.
    Sleep {
        /// Until when.
        deadline_ns: u64,
        /// Where the time that is left goes.
        remainder: u64,
    },
    /// A futex wait with a timeout.
    Futex(FutexWait),
}

/// A thread.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Thread {
    /// Its number.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
    /// The kernel's thread.
    pub handle: Handle,
    /// Its name, at most 15 bytes.
    pub name: Vec<u8>,
    /// Signals it does not take now.
    pub blocked: SignalSet,
    /// The mask to go back to after rt_sigsuspend(2), or another call with a mask of its own.
    pub saved_mask: Option<SignalSet>,
    /// Signals for this thread alone.
    pub pending: Pending,
    /// sigaltstack(2).
    pub alternate: AlternateStack,
    /// Where 0 is stored and a futex woken when it ends (CLONE_CHILD_CLEARTID); 0 for nowhere.
    pub clear_tid: u64,
    /// Where its number is stored before it first runs (CLONE_CHILD_SETTID); 0 for nowhere.
    pub set_tid: u64,
    /// set_robust_list(2).
    pub robust_list: u64,
    /// It has been interrupted, and its attention call has not come yet.
    pub called: bool,
    /// The call it waits in.
    pub waiting: Option<Waiting>,
    /// The restart word of a call it was taken out of, kept while it was stopped.
    pub carried: u64,
    /// What `restart_syscall` would go on with.
    pub resume: Option<Resume>,
    /// Its last writes are under way; when it comes in next, it ends.
    pub rites: Option<Rites>,
    /// It is traced.
    pub trace: Option<Box<Trace>>,
}

impl Thread {
    /// A thread of a process, with nothing set.
    pub fn new(tid: Tid, pid: Pid, handle: Handle) -> Thread {
        Thread {
            tid,
            pid,
            handle,
            name: Vec::new(),
            blocked: SignalSet::default(),
            saved_mask: None,
            pending: Pending::default(),
            alternate: AlternateStack::default(),
            clear_tid: 0,
            set_tid: 0,
            robust_list: 0,
            called: false,
            waiting: None,
            carried: 0,
            resume: None,
            rites: None,
            trace: None,
        }
    }

    /// Whether a stop or an end of its process holds it.
    pub fn is_held(&self) -> bool {
        matches!(self.waiting, Some(Waiting { on: On::Held { .. }, .. }))
            || self.trace.as_deref().is_some_and(Trace::is_counted)
    }

    /// Whether it has come in and is held, for whatever reason.
    pub fn is_in(&self) -> bool {
        matches!(self.waiting, Some(Waiting { on: On::Held { .. } | On::Traced { .. }, .. }))
    }
}

impl On {
    fn reason(&self) -> Reason {
        match self {
            On::Child(_) => Reason::Child,
            On::Futex(_) => Reason::Futex,
            On::Sleep { .. } => Reason::Timer,
            On::Signal { .. } | On::Pause => Reason::Signal,
            On::Vfork { .. } => Reason::Vfork,
            On::Server => Reason::Server,
            On::Held { .. } | On::Traced { .. } => Reason::Stopped,
        }
    }

    /// When the wait ends by itself.
    fn deadline_ns(&self) -> Option<u64> {
        match self {
            On::Sleep { deadline_ns, .. } => Some(*deadline_ns),
            On::Signal { deadline_ns, .. } => *deadline_ns,
            On::Futex(wait) => wait.deadline_ns,
            _ => None,
        }
    }
}

impl Proc {
    /// Parks the call a thread makes.
    pub(crate) fn park(&mut self, tid: Tid, call: CallId, on: On, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        turn.park(call, on.reason());
        if let Some(deadline_ns) = on.deadline_ns() {
            self.timers.insert((deadline_ns, Timer::Thread(tid)));
        }
        match &on {
            On::Child(wait) => {
                let family = self.processes.get_mut(&thread.pid).map(|process| &mut process.family);
                family.into_iter().for_each(|family| family.enlist(wait));
            }
            On::Futex(wait) => self.futexes.enter(wait, tid),
            _ => {}
        }
        self.calls.insert(call, tid);
        thread.waiting = Some(Waiting { call, on });
    }

    /// Takes a thread's parked call out of every place that knows it. The caller answers it.
    pub(crate) fn release(&mut self, tid: Tid) -> Option<Waiting> {
        let thread = self.threads.get_mut(&tid)?;
        let waiting = thread.waiting.take()?;
        self.calls.remove(&waiting.call);
        if let Some(deadline_ns) = waiting.on.deadline_ns() {
            self.timers.remove(&(deadline_ns, Timer::Thread(tid)));
        }
        match &waiting.on {
            On::Child(wait) => {
                let family = self.processes.get_mut(&thread.pid).map(|process| &mut process.family);
                family.into_iter().for_each(|family| family.discharge(wait));
            }
            On::Futex(wait) => self.futexes.leave(wait),
            On::Vfork { child } => {
                if let Some(child) = self.processes.get_mut(child) {
                    child.vfork_parent = None;
                }
            }
            _ => {}
        }
        Some(waiting)
    }

    /// Answers a parked call with a value or minus an errno.
    pub(crate) fn finish_wait(&mut self, tid: Tid, result: i64, outputs: Vec<Output>, turn: &mut Turn) {
        if let Some(waiting) = self.release(tid) {
            turn.out.foreign(waiting.call, ForeignReply { result, outputs, ..ForeignReply::default() });
        }
    }

    /// The kernel wants a parked call back: a signal is there for its thread, or the thread is gone.
    pub(crate) fn cancel(&mut self, call: CallId, turn: &mut Turn) {
        let Some(tid) = self.calls.get(&call).copied() else { return };
        let Some(Waiting { on, .. }) = self.threads.get(&tid).and_then(|thread| thread.waiting.clone())
        else {
            return;
        };
        let (restart, resume) = match &on {
            On::Child(_) => (Restart::IfAsked, None),
            On::Futex(wait) if wait.deadline_ns.is_some() => {
                (Restart::IfNoHandler, Some(Resume::Futex(wait.clone())))
            }
            On::Futex(_) => (Restart::IfAsked, None),
            On::Sleep { absolute: true, .. } | On::Pause => (Restart::IfNoHandler, None),
            On::Sleep { deadline_ns, remainder, .. } => {
                let resume = Resume::Sleep { deadline_ns: *deadline_ns, remainder: *remainder };
                (Restart::IfNoHandler, Some(resume))
            }
            On::Signal { record: true, .. } => (Restart::IfAsked, None),
            On::Signal { .. } => (Restart::Never, None),
            // vfork's caller sleeps on through signals, but for one that ends it.
            On::Vfork { .. } if self.is_doomed(tid) => (Restart::Never, None),
            On::Vfork { .. } | On::Held { .. } | On::Traced { .. } => return turn.park(call, on.reason()),
            On::Server => return,
        };
        let outputs = self.remainder(&on, turn);
        self.release(tid);
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.resume = resume;
        }
        let result = -i64::from(EINTR);
        turn.out.foreign(call, ForeignReply { result, outputs, restart, ..ForeignReply::default() });
    }

    /// The time a sleep had left, for its caller.
    fn remainder(&self, on: &On, turn: &Turn) -> Vec<Output> {
        match on {
            On::Sleep { deadline_ns, remainder, absolute: false } => {
                crate::turn::piece(*remainder, timespec(deadline_ns.saturating_sub(turn.env.now())))
            }
            _ => Vec::new(),
        }
    }

    /// Answers the parked call of a thread that is no more; the answer goes nowhere, but frees the call.
    pub(crate) fn drop_wait(&mut self, tid: Tid, turn: &mut Turn) {
        match self.release(tid) {
            Some(Waiting { call, on: On::Held { .. } | On::Traced { foreign: false } }) => turn.go_on(call),
            Some(Waiting { call, .. }) => turn.result(call, -i64::from(EINTR)),
            None => {}
        }
    }

    /// Has a thread come in before it next runs its program. One that is held is in already.
    pub(crate) fn interrupt(&mut self, tid: Tid, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&tid).filter(|thread| !thread.is_in()) else { return };
        if !thread.called {
            thread.called = true;
            turn.act(Operation::ThreadInterrupt { thread: thread.handle, when: When::Now });
        }
        // The kernel asks for a call back once. One that slept on through an earlier signal must still end.
        if let Some(Waiting { call, on: On::Vfork { .. } }) = thread.waiting {
            self.cancel(call, turn);
        }
    }

    /// Has every thread of a process come in.
    pub(crate) fn interrupt_all(&mut self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.get(&pid) else { return };
        for tid in process.threads.clone() {
            self.interrupt(tid, turn);
        }
    }
}
