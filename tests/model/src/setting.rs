//! A setting of the model: which processes there are at first, what each of their programs may do, and which guard
//! is missing.

use crate::cast::Process;
use crate::guard::Guard;
use crate::protocol::{ChildSignal, Signal, Wait};

/// A part of what can happen, explored as a whole: everything here may happen at any time.
#[derive(Clone, Copy, Debug)]
pub struct Configuration {
    /// What it is about.
    pub name: &'static str,
    /// Who lives at the beginning.
    pub born: &'static [Process],
    /// The parent and the first child may fork those who do not.
    pub forks: bool,
    /// Whose threads may wait, and how.
    pub waits: &'static [(Process, &'static [Wait])],
    /// Who may exit.
    pub exits: &'static [Process],
    /// The parent's threads may exit alone.
    pub thread_exits: bool,
    /// Who may send which signal to whom.
    pub kills: &'static [(Process, Process, Signal)],
    /// Calls are made first and served later; otherwise they are served when they are made.
    pub queues: bool,
    /// What all processes do about SIGCHLD at the beginning.
    pub child_signal: ChildSignal,
    /// Handlers have SA_RESTART.
    pub restarts: bool,
    /// The parent may decide to ignore SIGCHLD.
    pub may_ignore: bool,
    /// The parent is a sub-reaper.
    pub subreaper: bool,
    /// Who may trace whom.
    pub traces: &'static [(Process, Process)],
}

impl Configuration {
    /// Nothing but the name: a basis for others.
    pub const EMPTY: Configuration = Configuration {
        name: "",
        born: &[],
        forks: false,
        waits: &[],
        exits: &[],
        thread_exits: false,
        kills: &[],
        queues: false,
        child_signal: ChildSignal::Default,
        restarts: false,
        may_ignore: false,
        subreaper: false,
        traces: &[],
    };

    /// The waits that a process's threads may make.
    pub fn waits_of(&self, process: Process) -> impl Iterator<Item = Wait> + '_ {
        let of = self.waits.iter().filter(move |(who, _)| *who == process);
        of.flat_map(|(_, waits)| waits.iter().copied())
    }

    /// Whether nothing tells the second child from the third: then states that differ by their exchange are one.
    pub fn has_twins(&self) -> bool {
        let swapped = |process| match process {
            Process::Second => Process::Third,
            Process::Third => Process::Second,
            other => other,
        };
        let named = |process: &Process| [Process::Second, Process::Third].contains(process);
        let waits = self.waits.iter().all(|(who, waits)| {
            !named(who) && waits.iter().all(|wait| wait.target.is_none_or(|target| !named(&target)))
        });
        let lives = |list: &[Process]| list.contains(&Process::Second) == list.contains(&Process::Third);
        let kills = |(from, to, signal): &(Process, Process, Signal)| {
            self.kills.contains(&(swapped(*from), swapped(*to), *signal))
        };
        let traces = |(from, to): &(Process, Process)| self.traces.contains(&(swapped(*from), swapped(*to)));
        waits
            && !self.forks
            && lives(self.born)
            && lives(self.exits)
            && self.kills.iter().all(kills)
            && self.traces.iter().all(traces)
    }
}

/// A configuration, with one guard missing or none.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// What may happen.
    pub configuration: Configuration,
    /// The guard that is missing.
    pub without: Option<Guard>,
}

impl Setting {
    /// Whether a guard is there.
    pub fn keeps(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }
}
