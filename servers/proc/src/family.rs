//! A process's children, as its waits see them: which classes of children there are, which have news, and who waits.
//!
//! The indices make each step of a wait independent of how many children there are. Whether a wait can ever be
//! answered is a question about classes; what it is answered with is the oldest child among those with news.

use alloc::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::{Pgid, Pid, Tid};
use crate::wait::WaitFor;

/// Which children a wait is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Target {
    /// Any.
    Any,
    /// This one.
    Process(Pid),
    /// Those of this group.
    Group(Pgid),
}

/// What children have in common, as far as waits can tell them apart without naming them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Class {
    /// Their group.
    pub pgid: Pgid,
    /// Their exit signal is not SIGCHLD (Linux's "clone children").
    pub clone: bool,
    /// They have ended: a wait without WEXITED no longer counts on them.
    pub zombie: bool,
    /// The thread they belong to.
    pub creator: Tid,
}

/// A child as its family keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its number.
    pub pid: Pid,
    /// Its age.
    pub sequence: u64,
    /// Its class.
    pub class: Class,
    /// Whether it has something to tell.
    pub news: bool,
}

/// The children of a process and the calls that wait for them. What it says of the children follows from their rows and
/// is not saved: the row of a process with many would be long.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Family {
    #[serde(skip)]
    children: BTreeSet<(Tid, Pid)>,
    #[serde(skip)]
    classes: BTreeMap<Class, u32>,
    #[serde(skip)]
    news: BTreeSet<(u64, Pid)>,
    #[serde(skip)]
    group_news: BTreeSet<(Pgid, u64, Pid)>,
    waiters: BTreeSet<(Target, u64, Tid)>,
}

impl Family {
    /// Adds a child.
    pub fn admit(&mut self, member: &Member) {
        self.children.insert((member.class.creator, member.pid));
        *self.classes.entry(member.class).or_insert(0) += 1;
        if member.news {
            self.news.insert((member.sequence, member.pid));
            self.group_news.insert((member.class.pgid, member.sequence, member.pid));
        }
    }

    /// Removes a child. Answers whether it was the last of its class.
    pub fn dismiss(&mut self, member: &Member) -> bool {
        self.children.remove(&(member.class.creator, member.pid));
        self.news.remove(&(member.sequence, member.pid));
        self.group_news.remove(&(member.class.pgid, member.sequence, member.pid));
        let Some(count) = self.classes.get_mut(&member.class) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.classes.remove(&member.class);
        }
        last
    }

    /// All children.
    pub fn children(&self) -> impl Iterator<Item = Pid> + '_ {
        self.children.iter().map(|(_, pid)| *pid)
    }

    /// The children that belong to a thread.
    pub fn children_of(&self, creator: Tid) -> impl Iterator<Item = Pid> + '_ {
        self.children.range((creator, Pid(0))..=(creator, Pid(u32::MAX))).map(|(_, pid)| *pid)
    }

    /// Whether there is a child that a wait on any process or on a group could be answered with, now or later.
    pub fn has_candidate(&self, wait: &WaitFor) -> bool {
        match wait.target {
            Target::Any => self.classes.keys().any(|class| wait.accepts(class)),
            Target::Group(pgid) => {
                let first = Class { pgid, clone: false, zombie: false, creator: Tid(0) };
                let of_group = self.classes.range(first..).take_while(|(class, _)| class.pgid == pgid);
                of_group.map(|(class, _)| class).any(|class| wait.accepts(class))
            }
            Target::Process(_) => false,
        }
    }

    /// Children with news among which a wait chooses, oldest first.
    pub fn with_news(&self, target: Target) -> impl Iterator<Item = Pid> + '_ {
        let any = matches!(target, Target::Any).then(|| self.news.iter().map(|(_, pid)| *pid));
        let group = match target {
            Target::Group(pgid) => {
                let range = (pgid, 0, Pid(0))..=(pgid, u64::MAX, Pid(u32::MAX));
                Some(self.group_news.range(range).map(|(_, _, pid)| *pid))
            }
            _ => None,
        };
        any.into_iter().flatten().chain(group.into_iter().flatten())
    }

    /// Remembers a waiting thread.
    pub fn enlist(&mut self, wait: &WaitFor) {
        self.waiters.insert((wait.target, wait.ticket, wait.tid));
    }

    /// Forgets a waiting thread.
    pub fn discharge(&mut self, wait: &WaitFor) {
        self.waiters.remove(&(wait.target, wait.ticket, wait.tid));
    }

    /// The threads that wait for one target, the longest waiting first.
    pub fn waiters(&self, target: Target) -> impl Iterator<Item = (u64, Tid)> + '_ {
        let range = (target, 0, Tid(0))..=(target, u64::MAX, Tid(u32::MAX));
        self.waiters.range(range).map(|(_, ticket, tid)| (*ticket, *tid))
    }

    /// Whether nobody waits.
    pub fn nobody_waits(&self) -> bool {
        self.waiters.is_empty()
    }

    /// Everything the indices say, for the tests that compare them with the table.
    #[cfg(test)]
    pub fn audit(&self) -> Audit {
        Audit {
            children: self.children.clone(),
            classes: self.classes.clone(),
            news: self.news.clone(),
            group_news: self.group_news.clone(),
        }
    }
}

/// A copy of a family's indices.
#[cfg(test)]
#[derive(PartialEq, Eq, Debug, Default)]
pub struct Audit {
    pub children: BTreeSet<(Tid, Pid)>,
    pub classes: BTreeMap<Class, u32>,
    pub news: BTreeSet<(u64, Pid)>,
    pub group_news: BTreeSet<(Pgid, u64, Pid)>,
}
