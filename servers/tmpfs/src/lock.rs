//! Advisory locks: flock(2) on open files and record locks of fcntl(2), with those who wait for them.
//!
//! flock locks and open-file-description locks belong to a session and go with it. Record locks belong to a process:
//! they go when the process unlocks them or when the session goes through which they were set.

use alloc::{collections::BTreeMap, vec::Vec};
use serde::{Deserialize, Serialize};

use libipc::abi::CallId;

/// Whose lock it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Owner {
    /// A process's (F_SETLK).
    Process(u32),
    /// An open file's (F_OFD_SETLK).
    Description(u64),
}

/// A record lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Whose.
    pub owner: Owner,
    /// The session through which it was set.
    pub badge: u64,
    /// First byte.
    pub start: u64,
    /// Last byte; `u64::MAX` for all to come.
    pub last: u64,
    /// A write lock.
    pub exclusive: bool,
}

impl Record {
    fn overlaps(&self, other: &Record) -> bool {
        self.start <= other.last && other.start <= self.last
    }

    fn conflicts(&self, other: &Record) -> bool {
        self.owner != other.owner && self.overlaps(other) && (self.exclusive || other.exclusive)
    }
}

/// What a waiting call wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Want {
    /// A record lock.
    Record(Record),
    /// flock: for this session, exclusive or shared.
    Whole {
        /// The session.
        badge: u64,
        /// LOCK_EX.
        exclusive: bool,
    },
}

/// The locks of one file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct FileLocks {
    records: Vec<Record>,
    /// flock locks: whether exclusive, by session.
    whole: BTreeMap<u64, bool>,
    waiting: Vec<(CallId, Want)>,
}

/// All locks, by file.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Locks {
    files: BTreeMap<u64, FileLocks>,
}

impl FileLocks {
    fn is_free(&self, want: &Want) -> bool {
        match want {
            Want::Record(record) => self.conflict(record).is_none(),
            Want::Whole { badge, exclusive } => {
                !self.whole.iter().any(|(other, held)| other != badge && (*held || *exclusive))
            }
        }
    }

    fn conflict(&self, record: &Record) -> Option<&Record> {
        self.records.iter().filter(|held| held.conflicts(record)).min_by_key(|held| held.start)
    }

    fn grant(&mut self, want: &Want) {
        match *want {
            Want::Record(record) => {
                self.unlock(&record);
                self.insert(record);
            }
            Want::Whole { badge, exclusive } => {
                self.whole.insert(badge, exclusive);
            }
        }
    }

    /// Takes the owner's locks off a range; what sticks out on either side stays.
    fn unlock(&mut self, range: &Record) {
        let mut kept = Vec::new();
        for held in core::mem::take(&mut self.records) {
            if held.owner != range.owner || !held.overlaps(range) {
                kept.push(held);
                continue;
            }
            if held.start < range.start {
                kept.push(Record { last: range.start - 1, ..held });
            }
            if held.last > range.last {
                kept.push(Record { start: range.last + 1, ..held });
            }
        }
        self.records = kept;
    }

    /// Adds a record, as one with its neighbours of the same kind.
    fn insert(&mut self, record: Record) {
        let mut whole = record;
        self.records.retain(|held| {
            let same =
                (held.owner, held.badge, held.exclusive) == (whole.owner, whole.badge, whole.exclusive);
            let touches = held.last.checked_add(1) == Some(whole.start)
                || whole.last.checked_add(1) == Some(held.start);
            if same && touches {
                whole.start = whole.start.min(held.start);
                whole.last = whole.last.max(held.last);
            }
            !(same && touches)
        });
        self.records.push(whole);
    }

    /// Gives what became free to those who wait for it, in their order.
    fn wake(&mut self) -> Vec<CallId> {
        let mut woken = Vec::new();
        let mut index = 0;
        while let Some((call, want)) = self.waiting.get(index).copied() {
            if self.is_free(&want) {
                self.grant(&want);
                woken.push(call);
                self.waiting.remove(index);
            } else {
                index += 1;
            }
        }
        woken
    }
}

impl Locks {
    /// Grants a lock if it is free; the first answer says whether. A session that turns its flock lock into the other
    /// kind gives it up first, as on Linux, so that others may get theirs: the second answer is their calls.
    pub fn try_lock(&mut self, file: u64, want: Want) -> (bool, Vec<CallId>) {
        let locks = self.files.entry(file).or_default();
        if let Want::Whole { badge, .. } = want {
            locks.whole.remove(&badge);
        }
        let free = locks.is_free(&want);
        if free {
            locks.grant(&want);
        }
        (free, self.change(file, |_| ()))
    }

    /// Keeps a call waiting for a lock.
    pub fn wait(&mut self, file: u64, call: CallId, want: Want) {
        self.files.entry(file).or_default().waiting.push((call, want));
    }

    /// The first lock that keeps this one from being granted.
    pub fn conflict(&self, file: u64, record: &Record) -> Option<Record> {
        self.files.get(&file)?.conflict(record).copied()
    }

    /// Whether waiting for this lock would close a circle of processes that wait for one another.
    pub fn would_deadlock(&self, file: u64, record: &Record) -> bool {
        let Owner::Process(_) = record.owner else { return false };
        let mut reached = Vec::new();
        let mut open = self.holders(file, record);
        while let Some(owner) = open.pop() {
            if owner == record.owner {
                return true;
            }
            if !reached.contains(&owner) {
                reached.push(owner);
                for (file, locks) in &self.files {
                    for (_, want) in &locks.waiting {
                        if let Want::Record(wanted) = want
                            && wanted.owner == owner
                        {
                            open.extend(self.holders(*file, wanted));
                        }
                    }
                }
            }
        }
        false
    }

    fn holders(&self, file: u64, record: &Record) -> Vec<Owner> {
        let records = self.files.get(&file).map(|locks| locks.records.as_slice()).unwrap_or_default();
        records.iter().filter(|held| held.conflicts(record)).map(|held| held.owner).collect()
    }

    /// Gives up the owner's record locks in a range. The answer is the calls that get a lock through that.
    pub fn unlock_record(&mut self, file: u64, range: &Record) -> Vec<CallId> {
        self.change(file, |locks| locks.unlock(range))
    }

    /// Gives up a session's flock lock.
    pub fn unlock_whole(&mut self, file: u64, badge: u64) -> Vec<CallId> {
        self.change(file, |locks| {
            locks.whole.remove(&badge);
        })
    }

    /// A session is gone, and with it every lock that was set through it. Answers the calls that get a lock, and
    /// those that waited through the session itself.
    pub fn close(&mut self, file: u64, badge: u64) -> (Vec<CallId>, Vec<CallId>) {
        let mut orphans = Vec::new();
        let woken = self.change(file, |locks| {
            locks.whole.remove(&badge);
            locks.records.retain(|record| record.badge != badge);
            locks.waiting.retain(|(call, want)| {
                let own = match want {
                    Want::Record(record) => record.badge == badge,
                    Want::Whole { badge: other, .. } => *other == badge,
                };
                if own {
                    orphans.push(*call);
                }
                !own
            });
        });
        (woken, orphans)
    }

    /// A call waits no longer.
    pub fn cancel(&mut self, file: u64, call: CallId) -> Vec<CallId> {
        self.change(file, |locks| locks.waiting.retain(|(waiting, _)| *waiting != call))
    }

    fn change(&mut self, file: u64, change: impl FnOnce(&mut FileLocks)) -> Vec<CallId> {
        let Some(locks) = self.files.get_mut(&file) else { return Vec::new() };
        change(locks);
        let woken = locks.wake();
        if locks.records.is_empty() && locks.whole.is_empty() && locks.waiting.is_empty() {
            self.files.remove(&file);
        }
        woken
    }
}

#[cfg(test)]
mod tests;
