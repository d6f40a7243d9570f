//! Generating a signal: who could take it, whether it is worth keeping, and whom to wake for it.

use libipc::linux::signal::{SIGCONT, SIGKILL};

use super::action::Disposition;
use super::descriptor::RECORD_BYTES;
use super::{Detail, STOPS, SigInfo, SignalSet};
use crate::Proc;
use crate::id::{INIT, Pid, Tid};
use crate::process::Life;
use crate::thread::{On, Waiting};
use crate::time::Timer;
use crate::turn::{Turn, piece};

/// Whom a signal is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Aim {
    /// A process: one of its threads takes it.
    Process(Pid),
    /// One thread.
    Thread(Tid),
}

/// How long a killed process may take for its last writes before it is ended without them: a server that does not
/// give a call back must not keep anything alive.
const GRACE_NS: u64 = 1_000_000_000;

impl Proc {
    /// Generates a signal. Permissions have been checked.
    pub(crate) fn send(&mut self, aim: Aim, info: SigInfo, turn: &mut Turn) {
        let pid = match aim {
            Aim::Process(pid) => pid,
            Aim::Thread(tid) => match self.threads.get(&tid) {
                Some(thread) => thread.pid,
                None => return,
            },
        };
        let signal = info.signal;
        if pid == INIT || self.processes.get(&pid).is_none_or(|process| process.is_ending()) {
            if signal == SIGKILL {
                self.kill_dump(pid, turn);
            }
            return;
        }
        if signal == SIGCONT {
            self.discard_pending(pid, STOPS);
            self.proceed(pid, turn);
            self.trap_all(pid, turn);
        } else if STOPS.has(signal) {
            self.discard_pending(pid, SignalSet::of(&[SIGCONT]));
        } else if signal == SIGKILL {
            return self.doom(pid, info, turn);
        }
        if self.is_ignored(aim, pid, signal) || self.hand_to_waiter(aim, pid, &info, turn) {
            return;
        }
        let added = match aim {
            Aim::Process(_) => self.processes.get_mut(&pid).is_some_and(|process| process.pending.add(info)),
            Aim::Thread(tid) => self.threads.get_mut(&tid).is_some_and(|thread| thread.pending.add(info)),
        };
        if added && let Some(tid) = self.taker(aim, pid, signal) {
            self.interrupt(tid, turn);
        }
    }

    /// Generates a signal that a thread's own instruction caused and that it cannot escape: when it is blocked or
    /// ignored, its default takes effect.
    pub(crate) fn force(&mut self, tid: Tid, info: SigInfo, turn: &mut Turn) {
        self.compel(tid, info);
        self.interrupt(tid, turn);
    }

    /// Makes a forced signal pending, for a thread that has come in or is about to.
    pub(crate) fn compel(&mut self, tid: Tid, info: SigInfo) {
        let signal = info.signal;
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let pid = thread.pid;
        let blocked = thread.blocked.has(signal);
        thread.blocked = thread.blocked.less(SignalSet::of(&[signal]));
        thread.pending.add(info);
        let actions = self.processes.get(&pid).and_then(|process| self.actions.get_mut(process.actions));
        if let Some(actions) = actions
            && (blocked || actions.disposition(signal) == Disposition::Ignore)
        {
            actions.put(signal, super::action::Action::default());
        }
    }

    /// Drops pending signals of a process and of all its threads.
    fn discard_pending(&mut self, pid: Pid, set: SignalSet) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.pending.discard(set);
        for tid in &process.threads {
            if let Some(thread) = self.threads.get_mut(tid) {
                thread.pending.discard(set);
            }
        }
    }

    /// Whether a signal can be forgotten at once. A blocked one cannot: its action may change before it is unblocked.
    fn is_ignored(&self, aim: Aim, pid: Pid, signal: u8) -> bool {
        if self.disposition(pid, signal) != Disposition::Ignore {
            return false;
        }
        let tid = match aim {
            Aim::Thread(tid) => Some(tid),
            Aim::Process(_) => self.first_thread(pid),
        };
        let thread = tid.and_then(|tid| self.threads.get(&tid));
        // A tracer is asked even about what is ignored.
        !thread.is_some_and(|thread| thread.blocked.has(signal) || thread.trace.is_some())
    }

    /// The thread that stands for a process: its first one, or else the oldest alive.
    pub(crate) fn first_thread(&self, pid: Pid) -> Option<Tid> {
        let threads = &self.processes.get(&pid)?.threads;
        threads.get(&Tid(pid.0)).or_else(|| threads.first()).copied()
    }

    /// Gives the signal to a thread in rt_sigtimedwait(2), if one waits for it.
    fn hand_to_waiter(&mut self, aim: Aim, pid: Pid, info: &SigInfo, turn: &mut Turn) -> bool {
        let wants = |tid: &Tid| match self.threads.get(tid).and_then(|thread| thread.waiting.as_ref()) {
            Some(Waiting { on: On::Signal { set, info: address, record, .. }, .. }) => {
                set.has(info.signal).then_some((*tid, *address, *record))
            }
            _ => None,
        };
        let found = match aim {
            Aim::Thread(tid) => wants(&tid),
            Aim::Process(_) => {
                self.processes.get(&pid).and_then(|process| process.threads.iter().find_map(wants))
            }
        };
        let Some((tid, address, record)) = found else { return false };
        self.note_timer(pid, info);
        let (result, bytes) = match record {
            true => (RECORD_BYTES as i64, info.to_record()),
            false => (i64::from(info.signal), info.to_bytes()),
        };
        self.finish_wait(tid, result, piece(address, bytes), turn);
        true
    }

    /// The thread that will take a signal: the one it is for, or the first that does not block it.
    fn taker(&self, aim: Aim, pid: Pid, signal: u8) -> Option<Tid> {
        let takes = |tid: &Tid| {
            let thread = self.threads.get(tid)?;
            (!thread.blocked.has(signal) && thread.rites.is_none()).then_some(*tid)
        };
        match aim {
            Aim::Thread(tid) => takes(&tid),
            Aim::Process(_) => {
                let process = self.processes.get(&pid)?;
                let first = self.first_thread(pid).and_then(|tid| takes(&tid));
                first.or_else(|| process.threads.iter().find_map(takes))
            }
        }
    }

    /// Finds takers for the signals of a process that are still pending, after the thread that was to take them has
    /// blocked them or ended.
    pub(crate) fn retarget(&mut self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.get(&pid) else { return };
        for signal in process.pending.set().iter() {
            if let Some(tid) = self.taker(Aim::Process(pid), pid, signal) {
                self.interrupt(tid, turn);
            }
        }
    }

    /// SIGKILL: stopped or not, every thread comes in, and the first to arrive ends the process. From now on nobody is
    /// told that it stopped or went on: it may be let go already.
    fn doom(&mut self, pid: Pid, info: SigInfo, turn: &mut Turn) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        if !process.pending.add(info) || process.life == Life::Embryo {
            return;
        }
        self.update(pid, turn, |process| process.news = None);
        self.set_grace(pid, turn);
        if self.processes.get(&pid).is_some_and(|process| process.is_stopping()) {
            self.set_life(pid, Life::Running);
            self.let_go(pid, turn);
        }
        self.wake_traced(pid, turn);
        self.interrupt_all(pid, turn);
    }

    /// Bounds how long a process may take to end.
    pub(crate) fn set_grace(&mut self, pid: Pid, turn: &mut Turn) {
        if let Some(process) = self.processes.get_mut(&pid)
            && process.grace_ns.is_none()
        {
            let deadline_ns = turn.env.now() + GRACE_NS;
            process.grace_ns = Some(deadline_ns);
            self.timers.insert((deadline_ns, Timer::Grace(pid)));
        }
    }

    /// SIGCHLD, or another exit signal, about what happened to a child.
    pub(crate) fn send_about_child(
        &mut self,
        signal: u8,
        child: Pid,
        code: i32,
        status: u32,
        turn: &mut Turn,
    ) {
        let Some(process) = self.processes.get(&child) else { return };
        let (parent, uid) = (process.parent, process.credentials.uid);
        if parent == INIT {
            return;
        }
        let usage = self.usage_of(child, turn);
        let ticks = [usage.user_ns, usage.system_ns].map(|ns| ns / crate::usage::TICK_NS);
        let detail = Detail::Child { pid: child.0, uid, status, ticks };
        self.send(Aim::Process(parent), SigInfo { signal, errno: 0, code, detail }, turn);
    }
}
