//! What a tracer is told of those it traces: by SIGCHLD, and by wait.

use libipc::linux::signal::{CLD_STOPPED, CLD_TRAPPED, SIGCHLD};

use super::Kind;
use crate::Proc;
use crate::id::{Pid, Tid};
use crate::signal::action::{SA_NOCLDSTOP, SIG_IGN};
use crate::signal::{Aim, Detail, SigInfo};
use crate::status::stopped_word;
use crate::turn::Turn;
use crate::wait::WaitFor;

/// The bits of a stop's word that are the signal.
const SIGNAL: u32 = 0x7f;

/// News, as a wait hands them out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Told {
    /// Of whom.
    pub number: u32,
    /// Its real user.
    pub uid: u32,
    /// As wait4(2) says it.
    pub word: u32,
    /// si_code.
    pub code: i32,
    /// si_status.
    pub status: u32,
    /// It has ended.
    pub ended: bool,
}

impl Proc {
    /// What there is to tell of a traced thread that its tracer has not been told.
    pub(crate) fn news_of_tracee(&self, tid: Tid) -> Option<Told> {
        if let Some(departed) = self.departed.get(&tid) {
            let status = departed.status?;
            let (word, code, number) = (status.word(), status.si_code(), status.si_status());
            return Some(Told { number: tid.0, uid: departed.uid, word, code, status: number, ended: true });
        }
        let thread = self.threads.get(&tid)?;
        let trace = thread.trace.as_deref()?;
        let stop = trace.stop.as_ref().filter(|stop| !stop.told)?;
        let uid = self.processes.get(&thread.pid).map_or(0, |process| process.credentials.uid);
        let status = trace.word(&stop.kind);
        let word = stopped_word(0) | status << 8;
        Some(Told { number: tid.0, uid, word, code: CLD_TRAPPED, status, ended: false })
    }

    /// Whether a wait is about a thread that its process traces.
    pub(crate) fn concerns_tracee(&self, wait: &WaitFor, tid: Tid) -> bool {
        if let Some(departed) = self.departed.get(&tid) {
            return wait.accepts_tracee(tid, departed.pgid, departed.tracer, departed.status.is_some());
        }
        let Some(thread) = self.threads.get(&tid) else { return false };
        let pgid = self.processes.get(&thread.pid).map(|process| process.pgid).unwrap_or_default();
        thread.trace.as_deref().is_some_and(|trace| wait.accepts_tracee(tid, pgid, trace.tracer, false))
    }

    /// A wait has told of a traced thread.
    pub(crate) fn told_of_tracee(&mut self, wait: &WaitFor, tid: Tid, turn: &mut Turn) {
        if !wait.consumes() {
            return;
        }
        if self.departed.contains_key(&tid) {
            return self.forget_departed(tid, true, turn);
        }
        let trace = self.threads.get_mut(&tid).and_then(|thread| thread.trace.as_deref_mut());
        if let Some(stop) = trace.and_then(|trace| trace.stop.as_mut()) {
            stop.told = true;
        }
    }

    /// The process that traces a thread.
    pub(crate) fn tracer_of(&self, tid: Tid) -> Option<Pid> {
        let living = self.threads.get(&tid).and_then(|thread| thread.trace.as_deref()).map(|trace| trace.by);
        living.or_else(|| self.departed.get(&tid).map(|departed| departed.by))
    }

    /// A thread has stopped for its tracer.
    pub(super) fn tell_of_stop(&mut self, tid: Tid, turn: &mut Turn) {
        let Some(tracer) = self.tracer_of(tid) else { return };
        let action = self.actions_of(tracer).map(|actions| actions.get(SIGCHLD)).unwrap_or_default();
        if action.handler != SIG_IGN
            && action.flags & SA_NOCLDSTOP == 0
            && let Some(told) = self.news_of_tracee(tid)
        {
            let code = if self.is_in_group_stop(tid) { CLD_STOPPED } else { CLD_TRAPPED };
            self.signal_tracer(tracer, Told { code, status: told.status & SIGNAL, ..told }, turn);
        }
        self.offer_tracee(tracer, tid, turn);
    }

    fn is_in_group_stop(&self, tid: Tid) -> bool {
        let trace = self.threads.get(&tid).and_then(|thread| thread.trace.as_deref());
        trace.and_then(|trace| trace.stop.as_ref()).is_some_and(|stop| matches!(stop.kind, Kind::Group(_)))
    }

    /// A traced thread has ended.
    pub(super) fn tell_of_departure(&mut self, tid: Tid, turn: &mut Turn) {
        let tracer = self.departed.get(&tid).map(|departed| departed.by);
        if let (Some(tracer), Some(told)) = (tracer, self.news_of_tracee(tid)) {
            self.signal_tracer(tracer, told, turn);
            self.offer_tracee(tracer, tid, turn);
        }
    }

    fn signal_tracer(&mut self, tracer: Pid, told: Told, turn: &mut Turn) {
        let Told { number: pid, uid, code, status, .. } = told;
        let detail = Detail::Child { pid, uid, status, ticks: [0; 2] };
        self.send(Aim::Process(tracer), SigInfo { signal: SIGCHLD, errno: 0, code, detail }, turn);
    }
}
