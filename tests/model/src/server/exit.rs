//! The end of threads and processes, and what the survivors inherit.

use super::{Life, Turn};
use crate::cast::{PROCESSES, Process, Thread};
use crate::guard::Guard;
use crate::protocol::{ChildSignal, Effect, End, Late, News, Signal, Signals};

impl Turn<'_> {
    /// The end of a process, all of it in one step.
    pub(super) fn finish(&mut self, process: Process, end: End) {
        let kill = Effect::KillTask(process, end);
        let kill_first = self.keeps(Guard::KillBeforeTelling);
        if kill_first {
            self.act(kill);
        }
        let threads: Vec<Thread> = self.table.living(process).collect();
        for thread in threads {
            self.remove_thread(thread);
        }
        let row = self.table.row_mut(process);
        row.life = Life::Dying;
        row.pending = Signals::default();
        row.trapped = false;
        self.give_away_children(process);
        self.detach_tracees(process);
        self.tell_of_end(process, end);
        if !kill_first {
            self.act(kill);
        }
    }

    fn remove_thread(&mut self, thread: Thread) {
        self.forget_waits(thread);
        let row = self.table.thread_mut(thread);
        row.lives = false;
        row.called = false;
        row.carried = None;
    }

    /// One thread ends; its process with it, if that was all that was left of it.
    pub(super) fn exit_thread(&mut self, thread: Thread) {
        let process = thread.process();
        if self.table.living(process).count() == 1 {
            return self.finish(process, End::Exited);
        }
        self.act(Effect::EndThread(thread));
        self.remove_thread(thread);
        self.bequeath(process, thread);
        self.check_stopped(process);
    }

    /// The children of a thread that has ended belong to another of its process.
    fn bequeath(&mut self, process: Process, thread: Thread) {
        let Some(heir) = self.table.living(process).next() else { return };
        if !self.keeps(Guard::ThreadsBequeath) {
            return;
        }
        for child in PROCESSES {
            let row = self.table.row_mut(child);
            if row.is_visible() && row.parent == Some(process) && row.creator == thread {
                row.creator = heir;
                self.disappoint();
                if self.keeps(Guard::OfferBequeathed) {
                    self.offer(child);
                }
            }
        }
    }

    /// The living process that takes a process's orphans: a sub-reaper above it, or init.
    fn reaper_for(&self, process: Process) -> Option<Process> {
        let mut ancestor = self.table.row(process).parent;
        while let Some(candidate) = ancestor {
            let row = self.table.row(candidate);
            if self.setting.configuration.subreaper && candidate == Process::Parent && row.lives() {
                return ancestor;
            }
            ancestor = row.parent;
        }
        None
    }

    /// Gives a dead process's children to who takes orphans; zombies among them are told of anew.
    fn give_away_children(&mut self, process: Process) {
        let heir = self.reaper_for(process);
        let creator = heir.and_then(|heir| self.table.living(heir).next()).unwrap_or(Thread::Main);
        for child in PROCESSES {
            let row = *self.table.row(child);
            let kept = match row.life {
                Life::Zombie(_) => !self.keeps(Guard::ReparentZombies),
                _ => !self.keeps(Guard::ReparentTheLiving),
            };
            if !row.is_visible() || row.parent != Some(process) || kept {
                continue;
            }
            let row = self.table.row_mut(child);
            (row.parent, row.creator) = (heir, creator);
            match row.life {
                Life::Zombie(end) if row.tracer.is_none() => {
                    row.news = None;
                    if self.keeps(Guard::TellNewParents) {
                        self.tell_parent_of_end(child, end);
                    } else {
                        self.bury_or_keep(child, end);
                    }
                }
                _ => self.offer(child),
            }
        }
    }

    /// Tells whoever is to hear first that a process has ended.
    fn tell_of_end(&mut self, process: Process, end: End) {
        if self.table.row(process).tracer.is_none() {
            return self.tell_parent_of_end(process, end);
        }
        self.tell_tracer_of_end(process, end);
        if !self.keeps(Guard::TracerIsToldFirst) && self.table.row(process).is_zombie() {
            self.table.row_mut(process).news = Some(News::Ended(end));
            self.offer(process);
        }
    }

    /// A dead process becomes a zombie for its parent to reap, or vanishes if its parent does not want to know.
    pub(super) fn tell_parent_of_end(&mut self, process: Process, end: End) {
        let parent = self.table.row(process).parent;
        let late = !self.keeps(Guard::RowBeforeSignal) && self.table.late.is_none();
        if late {
            self.table.late = Some(Late::Tell(process, end));
        } else {
            self.keep_or_forget(process, end);
        }
        parent.into_iter().for_each(|parent| self.send(parent, Signal::Child));
        if !late {
            self.bury_the_forgotten(process);
            self.offer(process);
        }
    }

    /// What becomes of the row of a dead process, in one go.
    pub(super) fn bury_or_keep(&mut self, process: Process, end: End) {
        self.keep_or_forget(process, end);
        self.bury_the_forgotten(process);
    }

    /// Whether a process's parent wants to know of its end.
    fn is_forgotten(&self, process: Process) -> bool {
        match self.table.row(process).parent {
            None => self.keeps(Guard::InitReaps),
            Some(parent) => {
                self.table.row(parent).child_signal.forgets_children()
                    && self.keeps(Guard::IgnoredLeaveNoZombies)
            }
        }
    }

    fn keep_or_forget(&mut self, process: Process, end: End) {
        if self.is_forgotten(process) {
            self.table.row_mut(process).life = Life::Dying;
        } else {
            let row = self.table.row_mut(process);
            (row.life, row.news) = (Life::Zombie(end), Some(News::Ended(end)));
            self.disappoint();
        }
    }

    fn bury_the_forgotten(&mut self, process: Process) {
        if self.table.row(process).life == Life::Dying {
            self.bury(process);
        }
    }

    /// Removes a process from the table, and the last trace of it from all waits.
    pub(super) fn bury(&mut self, process: Process) {
        let row = self.table.row_mut(process);
        (row.life, row.news, row.trace_news, row.tracer) = (Life::Gone, None, None, None);
        // Rows that are no more do not differ.
        (row.parent, row.creator, row.trapped) = (None, Thread::Main, false);
        row.child_signal = ChildSignal::Default;
        self.disappoint();
    }
}
