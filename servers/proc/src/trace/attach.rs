//! Who traces whom: how it begins, what children inherit of it, and how it ends.

use alloc::vec::Vec;

use libipc::abi::syscall::When;
use libipc::linux::errno::{EINVAL, EIO, EPERM, ESRCH};
use libipc::linux::ptrace::*;
use libipc::linux::signal::{SI_USER, SIGCHLD, SIGKILL, SIGSTOP, SIGTRAP};
use libipc::server::effect::Operation;

use super::{After, Departed, Event, Kind, Trace};
use crate::Proc;
use crate::id::{INIT, Pgid, Pid, Tid};
use crate::process::Life;
use crate::signal::{Aim, SigInfo};
use crate::status::Status;
use crate::thread::On;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno};

/// All options there are.
pub(super) const OPTIONS: u32 = 0xff | PTRACE_O_EXITKILL | PTRACE_O_SUSPEND_SECCOMP;
/// Those that speak of what is not there.
pub(super) const NOT_OFFERED: u32 = PTRACE_O_SUSPEND_SECCOMP;

impl Proc {
    /// PTRACE_TRACEME: the parent traces the caller.
    pub(super) fn trace_me(&mut self, asked: &Asked) -> Outcome {
        let parent = self.processes.get(&asked.pid).map(|process| (process.creator, process.parent));
        let tracer = parent.filter(|(tid, _)| self.threads.contains_key(tid));
        let thread = self.threads.get(&asked.tid).ok_or(Refusal::Errno(ESRCH))?;
        if thread.trace.is_some() {
            return errno(EPERM);
        }
        // A child of init, which traces nobody, has nobody to be traced by.
        if let Some(tracer) = tracer {
            self.begin_trace(asked.tid, Trace::new(tracer, 0, false));
        }
        Reply::DONE
    }

    /// PTRACE_ATTACH and PTRACE_SEIZE.
    pub(super) fn attach(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let (tid, seize) = (Tid(asked.unsigned(1)), asked.unsigned(0) == PTRACE_SEIZE);
        let options = if seize { asked.word(3) } else { 0 };
        if seize && asked.word(2) != 0 {
            return errno(EIO);
        }
        if options & !u64::from(OPTIONS) != 0 {
            return errno(EIO);
        }
        if asked.unsigned(1) == INIT.0 {
            return errno(EPERM);
        }
        let thread = self.threads.get(&tid).ok_or(Refusal::Errno(ESRCH))?;
        let (pid, traced) = (thread.pid, thread.trace.is_some());
        let ending = self.processes.get(&pid).is_none_or(|process| process.is_ending());
        if pid == asked.pid || traced || ending || !self.may_trace(asked.pid, pid) {
            return errno(EPERM);
        }
        self.begin_trace(tid, Trace::new((asked.tid, asked.pid), options as u32, seize));
        self.take_over_stop(tid, turn);
        if !seize {
            self.send(Aim::Thread(tid), SigInfo::kernel(SIGSTOP), turn);
        }
        Reply::DONE
    }

    /// Whether a process may look into another: it is the superuser's, or both are one user's and the other hides
    /// nothing.
    fn may_trace(&self, from: Pid, to: Pid) -> bool {
        let (Some(own), Some(other)) = (self.processes.get(&from), self.processes.get(&to)) else {
            return false;
        };
        let (mine, theirs) = (&own.credentials, &other.credentials);
        let same_user = [theirs.uid, theirs.euid, theirs.suid].iter().all(|uid| *uid == mine.uid);
        let same_group = [theirs.gid, theirs.egid, theirs.sgid].iter().all(|gid| *gid == mine.gid);
        mine.euid == 0 || same_user && same_group && other.settings.dumpable == 1
    }

    pub(super) fn begin_trace(&mut self, tid: Tid, trace: Trace) {
        if let Some(tracer) = self.processes.get_mut(&trace.by) {
            tracer.tracees.insert(tid);
        }
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.trace = Some(trace.into());
        }
    }

    /// A thread that a stop of its process holds is stopped for its tracer from now on.
    fn take_over_stop(&mut self, tid: Tid, turn: &mut Turn) {
        let Some(thread) = self.threads.get(&tid) else { return };
        let life = self.processes.get(&thread.pid).map(|process| process.life);
        let Some(Life::Stopped { signal } | Life::Stopping { signal }) = life else { return };
        if let Some(waiting) = thread.waiting.clone()
            && let On::Held { restart } = waiting.on
        {
            self.release(tid);
            self.count_held(tid, -1);
            self.stop_for_tracer(tid, waiting.call, Kind::Group(signal), After::ComeIn { restart }, turn);
        }
    }

    /// Whether a new thread is traced as its maker is, and of what its maker's tracer is to be told.
    pub(crate) fn follow(&mut self, maker: Tid, child: Tid, ask: Follow) -> Option<u8> {
        let trace = self.threads.get(&maker)?.trace.as_deref()?;
        let (number, option) = match ask {
            Follow { vfork: true, .. } => (PTRACE_EVENT_VFORK, PTRACE_O_TRACEVFORK),
            Follow { exit_signal: SIGCHLD, .. } => (PTRACE_EVENT_FORK, PTRACE_O_TRACEFORK),
            _ => (PTRACE_EVENT_CLONE, PTRACE_O_TRACECLONE),
        };
        let told = trace.wants(option) && !ask.untraced;
        if !told && !ask.traced {
            return None;
        }
        let mut inherited = Trace::new((trace.tracer, trace.by), trace.options, trace.seized);
        inherited.trap = trace.seized;
        let seized = trace.seized;
        self.begin_trace(child, inherited);
        if !seized && let Some(thread) = self.threads.get_mut(&child) {
            thread.pending.add(SigInfo::user(SIGSTOP, SI_USER, 0, 0));
        }
        told.then_some(number)
    }

    /// An event for a thread's tracer: it stops for it when the call it is in is over.
    pub(crate) fn note_event(&mut self, tid: Tid, number: u8, message: u64, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let Some(trace) = thread.trace.as_deref_mut() else { return };
        trace.event = Some(Event { number, message });
        turn.act(Operation::ThreadInterrupt { thread: thread.handle, when: When::AfterCall });
    }

    /// The end of a vfork, if the maker's tracer wants to know.
    pub(crate) fn note_vfork_done(&mut self, tid: Tid, child: Pid, turn: &mut Turn) {
        let trace = self.threads.get(&tid).and_then(|thread| thread.trace.as_deref());
        if trace.is_some_and(|trace| trace.wants(PTRACE_O_TRACEVFORKDONE)) {
            self.note_event(tid, PTRACE_EVENT_VFORK_DONE, u64::from(child.0), turn);
        }
    }

    /// A traced thread runs another program: its tracer is told by an event, or by a signal if it never asked.
    pub(crate) fn note_exec(&mut self, tid: Tid, former: Tid, turn: &mut Turn) {
        let Some(trace) = self.threads.get(&tid).and_then(|thread| thread.trace.as_deref()) else { return };
        if trace.wants(PTRACE_O_TRACEEXEC) {
            self.note_event(tid, PTRACE_EVENT_EXEC, u64::from(former.0), turn);
        } else if !trace.seized {
            let uid = self.processes.get(&Pid(tid.0)).map_or(0, |process| process.credentials.uid);
            self.send(Aim::Thread(tid), SigInfo::user(SIGTRAP, SI_USER, tid.0, uid), turn);
        }
    }

    /// A first thread takes the place of the one that executes a program: as tracer and as traced.
    pub(crate) fn inherit_trace(&mut self, from: Tid, to: Tid) -> Option<alloc::boxed::Box<Trace>> {
        let first = self.threads.get_mut(&to).and_then(|first| first.trace.take()).map(|trace| trace.by);
        let first = first.or_else(|| self.departed.remove(&to).map(|departed| departed.by));
        self.forget_tracee(first, to);
        let thread = self.threads.get_mut(&from)?;
        let (pid, trace) = (thread.pid, thread.trace.take());
        if let Some(tracer) = trace.as_ref().and_then(|trace| self.processes.get_mut(&trace.by)) {
            tracer.tracees.remove(&from);
            tracer.tracees.insert(to);
        }
        for tracee in self.processes.get(&pid).map(|it| it.tracees.clone()).unwrap_or_default() {
            if let Some(trace) = self.threads.get_mut(&tracee).and_then(|it| it.trace.as_deref_mut())
                && trace.tracer == from
            {
                trace.tracer = to;
            }
            if let Some(departed) = self.departed.get_mut(&tracee).filter(|it| it.tracer == from) {
                departed.tracer = to;
            }
        }
        trace
    }

    /// A process traces a thread no more.
    fn forget_tracee(&mut self, tracer: Option<Pid>, tid: Tid) {
        if let Some(tracer) = tracer.and_then(|pid| self.processes.get_mut(&pid)) {
            tracer.tracees.remove(&tid);
        }
    }

    /// PTRACE_DETACH, or the tracer is gone: the thread goes on as if nothing had been.
    pub(super) fn detach(&mut self, tid: Tid, signal: u8, turn: &mut Turn) {
        self.pass(tid, signal, turn);
        self.set_calls(tid, false, turn);
        self.set_step(tid, false, turn);
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let Some(trace) = thread.trace.as_deref_mut() else { return };
        if let Some(info) = trace.passed.take() {
            thread.pending.add(info);
        }
        (trace.trap, trace.stepped, trace.event, trace.leaving) = (false, false, None, false);
        let (pid, tracer) = (thread.pid, trace.by);
        self.go_on(tid, turn);
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.trace = None;
        }
        self.forget_tracee(Some(tracer), tid);
        let Some(process) = self.processes.get(&pid) else { return };
        let pgid = process.pgid;
        if process.is_stopping() {
            self.interrupt(tid, turn);
        }
        self.disappoint_tracer(tracer, tid, pgid, turn);
    }

    /// A thread has ended: those it traced are free, or die with it.
    pub(crate) fn release_tracees(&mut self, tracer: Tid, pid: Pid, turn: &mut Turn) {
        let tracees = self.processes.get(&pid).map(|process| process.tracees.clone()).unwrap_or_default();
        for tid in tracees {
            if self.departed.get(&tid).is_some_and(|departed| departed.tracer == tracer) {
                self.forget_departed(tid, false, turn);
                continue;
            }
            let Some(thread) = self.threads.get(&tid) else { continue };
            let Some(trace) = thread.trace.as_deref().filter(|trace| trace.tracer == tracer) else {
                continue;
            };
            let (tracee, kill) = (thread.pid, trace.wants(PTRACE_O_EXITKILL));
            self.detach(tid, 0, turn);
            if kill {
                self.send(Aim::Process(tracee), SigInfo::kernel(SIGKILL), turn);
            }
        }
    }

    /// A traced thread ends: its tracer is told, a first thread's when all are gone (`status` is `None` until then).
    pub(crate) fn depart(&mut self, tid: Tid, status: Option<Status>, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let (pid, Some(trace)) = (thread.pid, thread.trace.take()) else { return };
        let Some(process) = self.processes.get(&pid) else { return };
        let (pgid, uid) = (process.pgid, process.credentials.uid);
        let told = status.filter(|_| tid.0 != pid.0);
        let (tracer, by) = (trace.tracer, trace.by);
        self.departed.insert(tid, Departed { tracer, by, pid, pgid, uid, status: told });
        if told.is_some() {
            self.tell_of_departure(tid, turn);
        }
    }

    /// A process has ended whose first thread is or was traced: its tracer is told before its parent. Whether that is
    /// so.
    pub(crate) fn depart_first(&mut self, pid: Pid, status: Status, turn: &mut Turn) -> bool {
        let first = Tid(pid.0);
        match self.departed.get_mut(&first).filter(|departed| departed.pid == pid) {
            // It has been told; its parent only changes.
            Some(departed) if departed.status.is_some() => return true,
            Some(departed) => departed.status = Some(status),
            None => return false,
        }
        self.update(pid, turn, |process| {
            process.life = Life::Zombie { status };
            process.news = None;
        });
        self.post_pidfds(pid, turn);
        self.tell_of_departure(first, turn);
        true
    }

    /// The other threads of a process that has ended: their tracers are told.
    pub(crate) fn tell_tracers_of_end(&mut self, pid: Pid, status: Status, turn: &mut Turn) {
        let untold = |(tid, departed): (&Tid, &Departed)| {
            (departed.pid == pid && departed.status.is_none() && tid.0 != pid.0).then_some(*tid)
        };
        let others: Vec<Tid> = self.departed.iter().filter_map(untold).collect();
        for tid in others {
            if let Some(departed) = self.departed.get_mut(&tid) {
                departed.status = Some(status);
            }
            self.tell_of_departure(tid, turn);
        }
    }

    /// The tracer has been told of an end (`reaped`), or never will be. What ended is a thread, and forgotten, or a
    /// process, and its parent's.
    pub(super) fn forget_departed(&mut self, tid: Tid, reaped: bool, turn: &mut Turn) {
        let Some(departed) = self.departed.remove(&tid) else { return };
        self.forget_tracee(Some(departed.by), tid);
        let process = self.processes.get(&departed.pid).filter(|it| it.pid.0 == tid.0);
        if let (Some(status), Some(process)) = (departed.status, process) {
            if reaped && process.parent == departed.by {
                self.reap(departed.pid, turn);
            } else {
                self.tell_parent_of_end(departed.pid, status, turn);
            }
        }
        self.disappoint_tracer(departed.by, tid, departed.pgid, turn);
    }

    /// The waits of a tracer that hope for something that it traces no more.
    fn disappoint_tracer(&mut self, tracer: Pid, tid: Tid, pgid: Pgid, turn: &mut Turn) {
        self.disappoint(tracer, pgid, None, turn);
        self.disappoint(tracer, pgid, Some(Pid(tid.0)), turn);
    }
}

/// What a new thread is to its maker, as far as tracing goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Follow {
    /// Its maker waits for it (CLONE_VFORK).
    pub vfork: bool,
    /// What its parent gets when it ends.
    pub exit_signal: u8,
    /// CLONE_PTRACE: it is traced as its maker is.
    pub traced: bool,
    /// CLONE_UNTRACED: options do not make it so.
    pub untraced: bool,
}

/// A signal number from a tracer.
///
/// # Errors
/// `EIO` for none.
pub(super) fn signal_number(word: u64) -> Result<u8, Refusal> {
    u8::try_from(word).ok().filter(|signal| *signal <= libipc::linux::signal::NSIG).ok_or(Refusal::Errno(EIO))
}

/// The options of PTRACE_SETOPTIONS.
///
/// # Errors
/// `EINVAL` for unknown ones.
pub(super) fn options(word: u64) -> Result<u32, Refusal> {
    let options = u32::try_from(word).ok().filter(|options| options & !OPTIONS == 0);
    options.filter(|options| options & NOT_OFFERED == 0).ok_or(Refusal::Errno(EINVAL))
}
