//! What a process does about each signal: rt_sigaction(2).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::linux::errno::EINVAL;
use libipc::linux::signal::{NSIG, SIGCHLD};
use serde::{Deserialize, Serialize};

use super::{CORE, HARMLESS, STOPS, SignalSet, UNBLOCKABLE};
use crate::Proc;
use crate::id::Pid;
use crate::memory::{word_at, words};
use crate::turn::{Asked, Outcome, Reply, Turn, errno};

/// No SIGCHLD when a child stops or continues.
pub const SA_NOCLDSTOP: u64 = 1;
/// Children leave no zombie.
pub const SA_NOCLDWAIT: u64 = 2;
/// The action has a restorer, without which no handler can run.
pub const SA_RESTORER: u64 = 0x0400_0000;
/// The handler runs on the alternate stack.
pub const SA_ONSTACK: u64 = 0x0800_0000;
/// Calls that the handler interrupted are made again.
pub const SA_RESTART: u64 = 0x1000_0000;
/// The signal is not blocked while its handler runs.
pub const SA_NODEFER: u64 = 0x4000_0000;
/// The handler runs once.
pub const SA_RESETHAND: u64 = 0x8000_0000;

/// The default action.
pub const SIG_DFL: u64 = 0;
/// The signal is ignored.
pub const SIG_IGN: u64 = 1;

/// What is done about one signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Action {
    /// SIG_DFL, SIG_IGN or an address.
    pub handler: u64,
    /// SA_* flags.
    pub flags: u64,
    /// Where a handler returns to.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: SignalSet,
}

impl Action {
    /// From `struct sigaction` as the kernel has it: 32 bytes.
    fn from_bytes(bytes: &[u8]) -> Action {
        let [handler, flags, restorer, mask] = [0, 8, 16, 24].map(|at| word_at(bytes, at));
        Action { handler, flags, restorer, mask: SignalSet(mask).less(UNBLOCKABLE) }
    }

    fn to_bytes(self) -> Vec<u8> {
        words(&[self.handler, self.flags, self.restorer, self.mask.0])
    }
}

/// What a signal would do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// Nothing.
    Ignore,
    /// Run this handler.
    Handle(Action),
    /// Stop the process.
    Stop,
    /// End it.
    Terminate,
    /// End it and ask for a core image.
    Core,
}

/// The actions of a process, or of several that share them (CLONE_SIGHAND): those that are not the default.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Actions {
    set: BTreeMap<u8, Action>,
}

impl Actions {
    /// The action for a signal.
    pub fn get(&self, signal: u8) -> Action {
        self.set.get(&signal).copied().unwrap_or_default()
    }

    /// Sets the action for a signal.
    pub fn put(&mut self, signal: u8, action: Action) {
        if action == Action::default() {
            self.set.remove(&signal);
        } else {
            self.set.insert(signal, action);
        }
    }

    /// What a signal would do.
    pub fn disposition(&self, signal: u8) -> Disposition {
        let action = self.get(signal);
        match action.handler {
            SIG_IGN => Disposition::Ignore,
            SIG_DFL if HARMLESS.has(signal) => Disposition::Ignore,
            SIG_DFL if STOPS.has(signal) => Disposition::Stop,
            SIG_DFL if CORE.has(signal) => Disposition::Core,
            SIG_DFL => Disposition::Terminate,
            _ => Disposition::Handle(action),
        }
    }

    /// After exec: what was ignored stays ignored, handlers are gone with the program they were in.
    pub fn after_exec(&self) -> Actions {
        let ignored = self.set.iter().filter(|(_, action)| action.handler == SIG_IGN);
        let ignored = ignored.map(|(signal, _)| (*signal, Action { handler: SIG_IGN, ..Action::default() }));
        Actions { set: ignored.collect() }
    }

    /// The signals that are ignored by choice, and those that have a handler.
    pub fn sets(&self) -> (SignalSet, SignalSet) {
        self.set.iter().fold(
            (SignalSet::default(), SignalSet::default()),
            |(ignored, caught), (signal, action)| match action.handler {
                SIG_IGN => (ignored.with(*signal), caught),
                SIG_DFL => (ignored, caught),
                _ => (ignored, caught.with(*signal)),
            },
        )
    }

    /// Whether children that end leave no zombie, and whether not even SIGCHLD is sent.
    pub fn forgets_children(&self) -> (bool, bool) {
        let action = self.get(SIGCHLD);
        let ignored = action.handler == SIG_IGN;
        (ignored || action.flags & SA_NOCLDWAIT != 0, ignored)
    }
}

impl Proc {
    /// The actions of a process; `None` for one that is over.
    pub(crate) fn actions_of(&self, pid: Pid) -> Option<&Actions> {
        self.processes.get(&pid).and_then(|process| self.actions.get(process.actions))
    }

    /// What a signal would do to a process.
    pub(crate) fn disposition(&self, pid: Pid, signal: u8) -> Disposition {
        self.actions_of(pid).map_or(Disposition::Ignore, |actions| actions.disposition(signal))
    }

    pub(crate) fn rt_sigaction(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        let signal = u8::try_from(asked.int(0)).ok().filter(|signal| (1..=NSIG).contains(signal));
        let Some(signal) = signal else { return errno(EINVAL) };
        let new = asked.input(0).map(Action::from_bytes);
        if asked.word(3) != 8 || (new.is_some() && UNBLOCKABLE.has(signal)) {
            return errno(EINVAL);
        }
        let Some(process) = self.processes.get_mut(&asked.pid) else { return Reply::DONE };
        let Some(actions) = self.actions.get_mut(process.actions) else { return Reply::DONE };
        let old = actions.get(signal);
        if let Some(new) = new {
            actions.put(signal, new);
            if actions.disposition(signal) == Disposition::Ignore {
                // POSIX: setting a signal to be ignored discards the pending ones, blocked or not.
                let discarded = SignalSet::of(&[signal]);
                process.pending.discard(discarded);
                for tid in &process.threads {
                    if let Some(thread) = self.threads.get_mut(tid) {
                        thread.pending.discard(discarded);
                    }
                }
            }
        }
        Reply::bytes(asked.word(2), old.to_bytes())
    }
}
