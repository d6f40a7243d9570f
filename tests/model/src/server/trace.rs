//! Tracing, as far as waits have a part in it: ptrace(2) with PTRACE_SEIZE, PTRACE_CONT and the tracer's end.
//!
//! A tracee asks its tracer before it stops, and its end is the tracer's to reap first. Left out are the stops of
//! system calls, execs and clones, and signals that a tracer changes or swallows.

use super::{Life, Turn};
use crate::cast::{PROCESSES, Process, Thread};
use crate::guard::Guard;
use crate::protocol::{Answer, End, News, Signal, Wait};

impl Turn<'_> {
    /// PTRACE_SEIZE: from now on the caller is told first.
    pub(super) fn trace(&mut self, thread: Thread, target: Process) {
        let row = self.table.row_mut(target);
        if !row.lives() || row.tracer.is_some() {
            return self.answer(thread, Answer::Refused);
        }
        row.tracer = Some(thread.process());
        self.answer(thread, Answer::Done);
    }

    /// PTRACE_CONT with the signal that it stopped for.
    pub(super) fn let_tracee_go(&mut self, thread: Thread, target: Process) {
        let row = self.table.row(target);
        if row.tracer != Some(thread.process()) || !row.trapped {
            return self.answer(thread, Answer::Refused);
        }
        self.leave_trap(target, true);
        self.answer(thread, Answer::Done);
    }

    /// A tracee is about to stop: its tracer is told, and it is held until the tracer lets it go on.
    pub(super) fn trap(&mut self, process: Process, thread: Thread, restart: Option<Wait>) {
        let row = self.table.row_mut(process);
        (row.trapped, row.trace_news) = (true, Some(News::Stopped));
        let tracer = row.tracer;
        self.hold(thread, restart);
        tracer.into_iter().for_each(|tracer| self.send(tracer, Signal::Child));
        self.offer(process);
    }

    /// A tracee goes on with the signal for which it stopped, or without it.
    fn leave_trap(&mut self, process: Process, with_signal: bool) {
        let row = self.table.row_mut(process);
        (row.trapped, row.trace_news) = (false, None);
        if with_signal {
            self.stop(process);
            self.check_stopped(process);
        } else {
            self.let_go(process);
        }
    }

    /// A traced process has ended: it is a zombie for its tracer.
    pub(super) fn tell_tracer_of_end(&mut self, process: Process, end: End) {
        let row = self.table.row_mut(process);
        (row.life, row.news, row.trace_news) = (Life::Zombie(end), None, Some(News::Ended(end)));
        let tracer = row.tracer;
        self.disappoint();
        tracer.into_iter().for_each(|tracer| self.send(tracer, Signal::Child));
        self.offer(process);
    }

    /// The tracer has taken the status of a zombie. Now it is the parent's, unless that is who traced it.
    pub(super) fn traced_zombie_is_taken(&mut self, process: Process) {
        let row = self.table.row_mut(process);
        let (tracer, life) = (row.tracer.take(), row.life);
        row.trace_news = None;
        match life {
            _ if row.parent == tracer => self.bury(process),
            Life::Zombie(end) if self.keeps(Guard::ParentIsToldThen) => self.tell_parent_of_end(process, end),
            _ => {}
        }
    }

    /// A tracer ends: its tracees are their parents' alone. One that is about to stop does so, unless its tracer has
    /// been told of the signal, which then is lost as in Linux.
    pub(super) fn detach_tracees(&mut self, tracer: Process) {
        for tracee in PROCESSES {
            let row = *self.table.row(tracee);
            if row.tracer != Some(tracer) || !self.keeps(Guard::TracersDetach) {
                continue;
            }
            let untold = row.trace_news;
            self.table.row_mut(tracee).tracer = None;
            self.table.row_mut(tracee).trace_news = None;
            match row.life {
                Life::Zombie(end) => self.tell_parent_of_end(tracee, end),
                _ if row.trapped => self.leave_trap(tracee, untold.is_some()),
                _ => {}
            }
        }
    }
}
