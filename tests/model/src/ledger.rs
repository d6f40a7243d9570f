//! The truth, kept by a bystander: who has ended and how, whose child and tracee each is, and who has been told.
//!
//! It is made of what the kernel carried out alone, and never of the server's table; so a server that forgets, or
//! remembers twice, is found out.

use bitflags::bitflags;

use crate::cast::{PROCESSES, Process, Thread};
use crate::kernel::{At, Kernel};
use crate::protocol::{Answer, ChildSignal, End, Event, News, Onward, Options, Request, Signal, Wait};
use crate::server::{Role, Table};
use crate::setting::Configuration;

bitflags! {
    /// What was done that must not be. The properties name them.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct Breaches: u16 {
        /// A status was told that had been told.
        const TWICE = 1;
        /// Somebody was told who is neither parent nor tracer, or a parent before the tracer.
        const STRANGER = 1 << 1;
        /// What was told is not what is.
        const UNTRUE = 1 << 2;
        /// ECHILD, and there was a child.
        const FALSE_ECHILD = 1 << 3;
        /// WNOHANG was told that there is nothing, and there was.
        const OVERLOOKED = 1 << 4;
        /// A call was answered that was over.
        const NO_SUCH_CALL = 1 << 5;
        /// A thread could run between its answer and its interruption.
        const SLIPPED_OUT = 1 << 6;
        /// A wait failed with EINTR, and no handler had asked for it.
        const FALSE_EINTR = 1 << 7;
        /// A SIGCHLD handler ran before its child could be waited for.
        const EARLY_SIGNAL = 1 << 8;
        /// An event led to more to do than there was before.
        const RESTLESS = 1 << 9;
    }
}

/// What has become of a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Fate {
    /// Not made yet.
    Unborn,
    /// It lives.
    Alive,
    /// It has ended, and somebody is to be told.
    Ended(End),
    /// Its status has been taken, or was nobody's.
    Gone,
}

/// The truth about a process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Truth {
    /// What has become of it.
    pub fate: Fate,
    /// Its parent; `None` for init.
    pub parent: Option<Process>,
    /// The thread of its parent that it belongs to.
    pub creator: Thread,
    /// Its tracer.
    pub tracer: Option<Process>,
    /// What it does about SIGCHLD.
    child_signal: ChildSignal,
    /// A stop or a continue that its parent has not been told.
    untold: Option<News>,
    /// It is held for its tracer's leave, and whether the tracer has been told.
    trapped: Option<bool>,
}

impl Truth {
    /// As what a process may be told of this one.
    pub fn role(&self, waiter: Process) -> Option<Role> {
        match self.fate {
            Fate::Unborn | Fate::Gone => None,
            _ if self.tracer == Some(waiter) => Some(Role::Tracer),
            _ => (self.parent == Some(waiter)).then_some(Role::Parent),
        }
    }

    /// Whether a wait may hope for it.
    pub fn is_candidate(&self, thread: Thread, wait: Wait) -> bool {
        let Some(role) = self.role(thread.process()) else { return false };
        let own = role == Role::Tracer || !wait.options.contains(Options::NOTHREAD) || self.creator == thread;
        own && (self.fate == Fate::Alive || wait.options.contains(Options::EXITED))
    }

    /// Whether a wait may take its status.
    pub fn is_reapable(&self, thread: Thread, wait: Wait) -> bool {
        let ended = matches!(self.fate, Fate::Ended(_)) && wait.options.contains(Options::EXITED);
        let hidden = self.tracer.is_some() && self.tracer != Some(thread.process());
        ended && !hidden && self.is_candidate(thread, wait)
    }
}

/// The bystander's book.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ledger {
    of: [Truth; PROCESSES.len()],
    /// What was done that must not be.
    pub breaches: Breaches,
}

impl Ledger {
    /// The book at the beginning.
    pub fn new(configuration: &Configuration) -> Ledger {
        let truth = |process: Process| Truth {
            fate: if configuration.born.contains(&process) { Fate::Alive } else { Fate::Unborn },
            parent: process.maker(),
            creator: process.maker().map_or(Thread::Main, |maker| maker.threads()[0]),
            tracer: None,
            child_signal: configuration.child_signal,
            untold: None,
            trapped: None,
        };
        Ledger { of: PROCESSES.map(truth), breaches: Breaches::default() }
    }

    /// The truth about a process.
    pub fn of(&self, process: Process) -> &Truth {
        &self.of[process as usize]
    }

    fn of_mut(&mut self, process: Process) -> &mut Truth {
        &mut self.of[process as usize]
    }

    /// Exchanges what is known of the second and the third child.
    pub(crate) fn exchange_twins(&mut self) {
        self.of.swap(Process::Second as usize, Process::Third as usize);
    }

    /// A process was made by a thread.
    pub(crate) fn born(&mut self, child: Process, maker: Thread) {
        let child_signal = self.of(maker.process()).child_signal;
        let truth = self.of_mut(child);
        (truth.fate, truth.parent, truth.creator) = (Fate::Alive, Some(maker.process()), maker);
        truth.child_signal = child_signal;
    }

    /// A thread's children are another's now.
    pub(crate) fn thread_ended(&mut self, thread: Thread, heir: Option<Thread>) {
        for truth in &mut self.of {
            if truth.creator == thread && truth.parent == Some(thread.process()) {
                truth.creator = heir.unwrap_or(truth.creator);
            }
        }
    }

    /// A process's task was killed; `kernel` knows who still lives.
    pub(crate) fn ended(&mut self, process: Process, end: End, kernel: &Kernel, subreaper: bool) {
        let heir = self.reaper_for(process, kernel, subreaper);
        let creator = heir.and_then(|heir| kernel.living(heir).next()).unwrap_or(Thread::Main);
        let truth = self.of_mut(process);
        (truth.fate, truth.untold, truth.trapped) = (Fate::Ended(end), None, None);
        for child in PROCESSES {
            let truth = self.of_mut(child);
            let bequeathed = truth.parent == Some(process) && truth.fate != Fate::Unborn;
            if bequeathed {
                (truth.parent, truth.creator) = (heir, creator);
            }
            let freed = truth.tracer == Some(process);
            if freed {
                truth.tracer = None;
                if truth.trapped.take() == Some(false) {
                    truth.untold = Some(News::Stopped);
                }
            }
            if bequeathed || freed {
                self.offer_to_parent(child);
            }
        }
        self.offer_to_parent(process);
    }

    fn reaper_for(&self, process: Process, kernel: &Kernel, subreaper: bool) -> Option<Process> {
        let mut ancestor = self.of(process).parent;
        while let Some(candidate) = ancestor {
            if subreaper && candidate == Process::Parent && kernel.living(candidate).next().is_some() {
                return ancestor;
            }
            ancestor = self.of(candidate).parent;
        }
        None
    }

    /// A status that nobody else is to hear first is its parent's: nobody's, if that does not want to know.
    fn offer_to_parent(&mut self, process: Process) {
        let truth = self.of(process);
        let forgets = truth.parent.is_none_or(|parent| self.of(parent).child_signal.forgets_children());
        if matches!(truth.fate, Fate::Ended(_)) && truth.tracer.is_none() && forgets {
            self.bury(process);
        }
    }

    fn bury(&mut self, process: Process) {
        let truth = self.of_mut(process);
        *truth = Truth { fate: Fate::Gone, parent: None, creator: Thread::Main, tracer: None, ..*truth };
        (truth.untold, truth.trapped, truth.child_signal) = (None, None, ChildSignal::Default);
    }

    /// All threads of a process are held from now on.
    pub(crate) fn held(&mut self, process: Process, event: Event) {
        let truth = self.of_mut(process);
        if truth.tracer.is_some() && matches!(event, Event::Attention(..)) {
            truth.trapped = Some(false);
        } else {
            truth.untold = Some(News::Stopped);
        }
    }

    /// They are no longer.
    pub(crate) fn let_go(&mut self, process: Process, event: Event) {
        let continued = matches!(event, Event::Call(_, Request::Kill(_, Signal::Continue)));
        let truth = self.of_mut(process);
        truth.trapped = None;
        if continued {
            truth.untold = Some(News::Continued);
        }
    }

    /// A program has asked for what nobody can refuse it.
    pub(crate) fn asked(&mut self, process: Process, request: Request) {
        match request {
            Request::Kill(target, Signal::Kill) => self.of_mut(target).untold = None,
            Request::LetGo(target) => {
                let truth = self.of_mut(target);
                if truth.tracer == Some(process) && truth.trapped.take().is_some() {
                    truth.untold = Some(News::Stopped);
                }
            }
            _ => {}
        }
    }

    /// A request of a program was granted.
    fn granted(&mut self, process: Process, request: Request) {
        match request {
            Request::IgnoreChildren => self.of_mut(process).child_signal = ChildSignal::Ignored,
            Request::Trace(target) => self.of_mut(target).tracer = Some(process),
            _ => {}
        }
    }

    /// A call was answered.
    pub(crate) fn answered(&mut self, thread: Thread, answer: Answer, kernel: &Kernel) {
        let At::Call(request) = kernel.thread(thread).at else {
            self.breaches |= Breaches::NO_SUCH_CALL;
            return;
        };
        let Request::Wait(wait) = request else {
            if answer == Answer::Done {
                self.granted(thread.process(), request);
            }
            return;
        };
        let named = |process: &Process| wait.names(*process);
        match answer {
            Answer::Child(child, news) => self.told(thread, wait, child, news, kernel),
            Answer::NoChild => {
                let exists = |child: Process| self.of(child).is_candidate(thread, wait);
                if PROCESSES.into_iter().filter(named).any(exists) {
                    self.breaches |= Breaches::FALSE_ECHILD;
                }
            }
            Answer::Nothing => {
                let dead = |child: Process| self.of(child).is_reapable(thread, wait);
                if PROCESSES.into_iter().filter(named).any(dead) {
                    self.breaches |= Breaches::OVERLOOKED;
                }
            }
            Answer::Done | Answer::Interrupted | Answer::Refused => {}
        }
    }

    /// A thread was told of a child.
    fn told(&mut self, thread: Thread, wait: Wait, child: Process, news: News, kernel: &Kernel) {
        let waiter = thread.process();
        let truth = *self.of(child);
        if truth.fate == Fate::Gone {
            self.breaches |= Breaches::TWICE;
            return;
        }
        let Some(role) = truth.role(waiter) else {
            self.breaches |= Breaches::STRANGER;
            return;
        };
        match news {
            News::Ended(end) => {
                let dead = kernel.living(child).next().is_none();
                if truth.fate != Fate::Ended(end) || !dead || !wait.asks_for(news) {
                    self.breaches |= Breaches::UNTRUE;
                }
                if role == Role::Parent && truth.tracer.is_some() {
                    self.breaches |= Breaches::STRANGER;
                }
                if wait.consumes() {
                    self.taken(child, role);
                }
            }
            News::Stopped | News::Continued => self.told_of_stop(wait, child, role, news, kernel),
        }
    }

    /// A status was taken: by the tracer, and then it is the parent's; or by the parent, and then it is no more.
    fn taken(&mut self, child: Process, role: Role) {
        let truth = self.of_mut(child);
        if role == Role::Tracer && truth.tracer != truth.parent {
            truth.tracer = None;
            self.offer_to_parent(child);
        } else {
            self.bury(child);
        }
    }

    fn told_of_stop(&mut self, wait: Wait, child: Process, role: Role, news: News, kernel: &Kernel) {
        let held = kernel.is_held(child);
        let truth = self.of_mut(child);
        let as_is = held == (news == News::Stopped);
        if role == Role::Tracer && truth.trapped.is_some() {
            let before = truth.trapped.replace(wait.consumes());
            if before == Some(true) {
                self.breaches |= Breaches::TWICE;
            }
            return;
        }
        if role == Role::Parent && truth.trapped.is_some() && news == News::Stopped {
            self.breaches |= Breaches::STRANGER;
        } else if truth.untold != Some(news) {
            self.breaches |= if as_is { Breaches::TWICE } else { Breaches::UNTRUE };
        }
        if wait.consumes() {
            self.of_mut(child).untold = None;
        }
    }

    /// A thread that had come in went on.
    pub(crate) fn went_on(
        &mut self,
        thread: Thread,
        onward: Onward,
        restarts: bool,
        kernel: &Kernel,
        table: &Table,
    ) {
        let standing = kernel.thread(thread);
        if !matches!(standing.at, At::Serving | At::Held) {
            self.breaches |= Breaches::NO_SUCH_CALL;
        }
        let runs = !standing.interrupted || onward.handler.is_some();
        let excused = onward.again.is_some() || (onward.handler.is_some() && !restarts);
        if standing.owed.is_some() && runs && !excused {
            self.breaches |= Breaches::FALSE_EINTR;
        }
        let unseen = |child: &Process| {
            let truth = self.of(*child);
            let ended = matches!(truth.fate, Fate::Ended(_)) && truth.parent == Some(thread.process());
            ended && !table.row(*child).is_zombie()
        };
        if onward.handler == Some(Signal::Child) && PROCESSES.iter().any(unseen) {
            self.breaches |= Breaches::EARLY_SIGNAL;
        }
    }
}
