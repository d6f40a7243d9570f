//! Waits: looked at, answered, refused or parked in one step; and what makes news answers those that are parked.

use super::{Role, Turn, hopes, is_for};
use crate::cast::{PROCESSES, Process, Thread};
use crate::guard::Guard;
use crate::protocol::{Answer, Effect, Late, News, Options, Wait};

/// What a wait finds.
enum Found {
    Ready(Process, Role, News),
    NotYet,
    Nobody,
}

impl Turn<'_> {
    pub(super) fn wait(&mut self, thread: Thread, wait: Wait) {
        match self.look(thread, wait) {
            Found::Ready(child, role, news) => {
                self.answer(thread, Answer::Child(child, news));
                self.told(wait, child, role);
            }
            Found::Nobody => self.answer(thread, Answer::NoChild),
            Found::NotYet if wait.options.contains(Options::NOHANG) => self.answer(thread, Answer::Nothing),
            Found::NotYet if !self.keeps(Guard::LookAndParkAtOnce) && self.table.late.is_none() => {
                self.table.late = Some(Late::Park(thread, wait));
            }
            Found::NotYet => {
                self.table.enlist(thread, wait);
                self.act(Effect::Park(thread));
            }
        }
    }

    /// As what a process's waits are told of another.
    fn role(&self, waiter: Process, child: Process) -> Option<Role> {
        let row = self.table.row(child);
        let stranger = !self.keeps(Guard::OwnChildrenOnly)
            && row.is_visible()
            && row.parent.is_some_and(|parent| self.table.row(parent).parent == Some(waiter));
        let role = self.table.role(waiter, child).or(stranger.then_some(Role::Parent));
        role.filter(|role| *role == Role::Parent || self.keeps(Guard::TraceesCount))
    }

    /// Whether a wait is about a child at all, and as what.
    fn concerns(&self, thread: Thread, wait: Wait, child: Process) -> Option<Role> {
        let row = self.table.row(child);
        let role = self.role(thread.process(), child).filter(|_| wait.names(child) && hopes(wait, row))?;
        let own = role == Role::Tracer || !wait.options.contains(Options::NOTHREAD) || row.creator == thread;
        let hidden = role == Role::Parent
            && row.is_zombie()
            && row.tracer.is_some()
            && !self.keeps(Guard::TracedZombiesCount);
        (own && !hidden).then_some(role)
    }

    /// What a child has for a wait.
    fn wanted(&self, thread: Thread, wait: Wait, child: Process) -> Option<(Role, News)> {
        let role = self.concerns(thread, wait, child)?;
        let news = self.table.row(child).news_for(role)?;
        is_for(wait, role, news).then_some((role, news))
    }

    /// Looks for the oldest child with the news a wait asks for.
    fn look(&self, thread: Thread, wait: Wait) -> Found {
        let find = |child: Process| {
            self.wanted(thread, wait, child).map(|(role, news)| Found::Ready(child, role, news))
        };
        let youngest_first = self.replayed && !self.keeps(Guard::ReplayIsExact);
        let found = match youngest_first {
            true => PROCESSES.into_iter().rev().find_map(find),
            false => PROCESSES.into_iter().find_map(find),
        };
        let candidate = |child: &Process| self.concerns(thread, wait, *child).is_some();
        found.unwrap_or(if PROCESSES.iter().any(candidate) { Found::NotYet } else { Found::Nobody })
    }

    /// Somebody has been told: the only place where a status leaves the table.
    fn told(&mut self, wait: Wait, child: Process, role: Role) {
        if !wait.consumes() && self.keeps(Guard::NowaitLeaves) {
            return;
        }
        let keeps = self.keeps(Guard::ReapConsumes);
        let stops_once = self.keeps(Guard::StopIsToldOnce);
        let row = self.table.row_mut(child);
        match role {
            Role::Tracer if row.is_zombie() => self.traced_zombie_is_taken(child),
            Role::Tracer => row.trace_news = None,
            Role::Parent if row.is_zombie() => {
                if keeps {
                    self.bury(child);
                }
            }
            Role::Parent => {
                if row.news != Some(News::Stopped) || stops_once {
                    row.news = None;
                }
            }
        }
    }

    /// Offers a child's news to parked waits, the oldest first, until one has taken them.
    pub(super) fn offer(&mut self, child: Process) {
        if !self.keeps(Guard::OfferNews) {
            return;
        }
        let mut told: Vec<Thread> = Vec::new();
        loop {
            let first =
                self.table.waits().filter(|(thread, _)| !told.contains(thread)).find_map(|(thread, wait)| {
                    self.wanted(thread, wait, child).map(|(role, news)| (thread, wait, role, news))
                });
            let Some((thread, wait, role, news)) = first else { return };
            told.push(thread);
            self.table.release(thread);
            self.answer(thread, Answer::Child(child, news));
            self.told(wait, child, role);
        }
    }

    /// Answers ECHILD to the waits that nothing can answer any more.
    pub(super) fn disappoint(&mut self) {
        if !self.keeps(Guard::DisappointTheHopeless) {
            return;
        }
        let waits: Vec<(Thread, Wait)> = self.table.waits().collect();
        for (thread, wait) in waits {
            if matches!(self.look(thread, wait), Found::Nobody) {
                self.table.release(thread);
                self.answer(thread, Answer::NoChild);
            }
        }
    }

    /// The kernel wants a parked wait back.
    pub(super) fn cancel(&mut self, thread: Thread) {
        if !matches!(self.table.thread(thread).on, super::On::Child(..)) {
            return;
        }
        if self.keeps(Guard::CancelledWaitsLeave) {
            self.table.release(thread);
        }
        self.answer(thread, Answer::Interrupted);
    }

    /// A wait is parked for a thread that is gone.
    pub(super) fn forget_waits(&mut self, thread: Thread) {
        let parked = matches!(self.table.thread(thread).on, super::On::Child(..));
        if !parked || self.keeps(Guard::DeadWaitersLeave) {
            self.table.release(thread);
        }
    }

    /// The answer to a call that was parked until the step that ends it.
    pub(super) fn park_held(&mut self, thread: Thread) {
        self.table.thread_mut(thread).on = super::On::Held;
        self.act(Effect::Park(thread));
    }
}
