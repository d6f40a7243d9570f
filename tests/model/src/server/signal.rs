//! Signals and stops: generating one, taking one when a thread comes in, and job control.

use super::{Life, On, Turn};
use crate::cast::{Process, Thread};
use crate::guard::Guard;
use crate::protocol::{ChildSignal, Effect, End, News, Onward, Signal, Wait};

/// What a thread does next about its signals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Nothing,
    Handle(Signal),
    Stop,
    Die,
}

impl Turn<'_> {
    /// Generates a signal.
    pub(super) fn send(&mut self, process: Process, signal: Signal) {
        if !self.table.row(process).lives() {
            return;
        }
        match signal {
            Signal::Continue => {
                self.table.row_mut(process).pending.remove(Signal::Stop);
                return self.proceed(process);
            }
            Signal::Kill => return self.doom(process),
            Signal::Child if !self.table.row(process).child_signal.is_handled() => return,
            _ => {}
        }
        let taker = self.table.living(process).next();
        if self.table.row_mut(process).pending.add(signal) {
            taker.into_iter().for_each(|taker| self.interrupt(taker));
        }
    }

    /// SIGKILL: stopped or not, every thread comes in.
    fn doom(&mut self, process: Process) {
        let takes_back = self.keeps(Guard::KillTakesNewsBack);
        let row = self.table.row_mut(process);
        if !row.pending.add(Signal::Kill) {
            return;
        }
        let stopping = row.is_stopping() || row.trapped;
        if takes_back {
            (row.news, row.trace_news) = (None, None);
        }
        if stopping && self.keeps(Guard::KillEndsStop) {
            let row = self.table.row_mut(process);
            row.life = Life::Running;
            row.trapped = false;
            self.let_go(process);
        }
        let threads: Vec<Thread> = self.table.living(process).collect();
        threads.into_iter().for_each(|thread| self.interrupt(thread));
    }

    /// Has a thread come in before it next runs its program.
    fn interrupt(&mut self, thread: Thread) {
        let row = self.table.thread_mut(thread);
        if row.on != On::Held && !row.called {
            row.called = true;
            self.act(Effect::Interrupt(thread));
        }
    }

    /// SIGCHLD is ignored from now on: one that is pending is dropped, and zombies stay.
    pub(super) fn ignore_children(&mut self, process: Process) {
        let row = self.table.row_mut(process);
        row.child_signal = ChildSignal::Ignored;
        row.pending.remove(Signal::Child);
        if self.keeps(Guard::IgnoringKeepsZombies) {
            return;
        }
        for child in crate::cast::PROCESSES {
            let row = self.table.row(child);
            if row.is_zombie() && row.parent == Some(process) {
                self.bury(child);
            }
        }
    }

    /// A thread has come in; `restart` is the wait it was just taken out of.
    pub(super) fn attention(&mut self, thread: Thread, restart: Option<Wait>) {
        let process = thread.process();
        if !self.table.thread(thread).lives {
            return;
        }
        let restart = self.table.thread(thread).carried.or(restart);
        let row = self.table.row(process);
        if row.is_stopping() || row.trapped {
            self.arrive(thread);
            return self.hold(thread, restart);
        }
        match self.next_signal(process) {
            Next::Nothing => {
                self.arrive(thread);
                self.go_on(thread, Onward { again: restart, handler: None });
            }
            Next::Handle(signal) => {
                self.arrive(thread);
                if self.keeps(Guard::SignalsAreTaken) {
                    self.table.row_mut(process).pending.remove(signal);
                }
                let again = restart.filter(|_| self.setting.configuration.restarts);
                self.go_on(thread, Onward { again, handler: Some(signal) });
            }
            Next::Stop => {
                self.arrive(thread);
                self.table.row_mut(process).pending.remove(Signal::Stop);
                if self.asks_its_tracer(process) {
                    self.trap(process, thread, restart);
                } else {
                    self.stop(process);
                    self.hold(thread, restart);
                }
            }
            Next::Die => self.finish(process, End::Killed),
        }
    }

    /// Whether a process leaves it to its tracer whether it stops.
    fn asks_its_tracer(&self, process: Process) -> bool {
        self.table.row(process).tracer.is_some() && self.keeps(Guard::TracerHearsOfSignals)
    }

    fn next_signal(&self, process: Process) -> Next {
        let pending = self.table.row(process).pending;
        match () {
            _ if pending.has(Signal::Kill) => Next::Die,
            _ if pending.has(Signal::User) => Next::Handle(Signal::User),
            _ if pending.has(Signal::Child) => Next::Handle(Signal::Child),
            _ if pending.has(Signal::Stop) => Next::Stop,
            _ => Next::Nothing,
        }
    }

    fn arrive(&mut self, thread: Thread) {
        let row = self.table.thread_mut(thread);
        row.called = false;
        row.carried = None;
    }

    /// Lets a thread run on; with more to take it comes in again first.
    fn go_on(&mut self, thread: Thread, onward: Onward) {
        let again = onward.again.filter(|_| self.keeps(Guard::RestartUnlessHandled));
        let more = self.next_signal(thread.process()) != Next::Nothing;
        if more && self.keeps(Guard::InterruptBeforeAnswer) {
            self.interrupt(thread);
        }
        self.act(Effect::GoOn(thread, Onward { again, ..onward }));
        if more {
            self.interrupt(thread);
        }
    }

    /// Keeps a thread that has come in while its process is stopped.
    pub(super) fn hold(&mut self, thread: Thread, restart: Option<Wait>) {
        self.table.thread_mut(thread).carried = restart;
        self.park_held(thread);
        self.check_stopped(thread.process());
    }

    /// The first step of a stop: every thread comes in.
    pub(super) fn stop(&mut self, process: Process) {
        self.table.row_mut(process).life = Life::Stopping;
        let threads: Vec<Thread> = self.table.living(process).collect();
        threads.into_iter().for_each(|thread| self.interrupt(thread));
    }

    /// The last step of a stop: all threads are held, and the parent is told.
    pub(super) fn check_stopped(&mut self, process: Process) {
        let held = |thread: Thread| self.table.thread(thread).on == On::Held;
        let complete = match self.keeps(Guard::StopHoldsEveryThread) {
            true => self.table.living(process).all(held),
            false => self.table.living(process).any(held),
        };
        if self.table.row(process).life == Life::Stopping && complete {
            self.table.row_mut(process).life = Life::Stopped;
            self.announce(process, News::Stopped);
        }
    }

    /// SIGCONT: a stop ends.
    fn proceed(&mut self, process: Process) {
        if !self.table.row(process).is_stopping() {
            return;
        }
        self.table.row_mut(process).life = Life::Running;
        if self.keeps(Guard::ContinueLetsGo) {
            self.let_go(process);
        }
        let told = self.table.row(process).news != Some(News::Stopped);
        if told || self.keeps(Guard::ContinueReplacesStop) {
            self.announce(process, News::Continued);
        }
    }

    /// Lets all held threads go. Each comes in again and takes its signals.
    pub(super) fn let_go(&mut self, process: Process) {
        let threads: Vec<Thread> = self.table.living(process).collect();
        for thread in threads {
            if self.table.thread(thread).on == On::Held {
                self.table.release(thread);
                self.interrupt(thread);
                self.act(Effect::GoOn(thread, Onward::default()));
            }
        }
    }

    /// Tells the parent of a stop or a continue.
    fn announce(&mut self, process: Process, news: News) {
        let row = self.table.row_mut(process);
        let parent = row.parent;
        if row.tracer.is_some() && row.tracer == parent {
            row.trace_news = Some(news);
        } else {
            row.news = Some(news);
        }
        parent.into_iter().for_each(|parent| self.send(parent, Signal::Child));
        if self.keeps(Guard::StopsAreNews) {
            self.offer(process);
        }
    }
}
