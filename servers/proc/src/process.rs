//! One process: a row of the process table. What may happen to it is decided elsewhere; here is what it is.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};

use libipc::abi::{CallId, Handle};
use libipc::linux::signal::SIGCHLD;
use serde::{Deserialize, Serialize};

use crate::credentials::Credentials;
use crate::dump::Dump;
use crate::family::{Class, Family, Member};
use crate::id::{Pgid, Pid, Sid, Tid};
use crate::limits::Limits;
use crate::signal::Pending;
use crate::status::Status;
use crate::timers::Timers;
use crate::usage::Usage;

/// Where a process is in its life. The transitions are in the crate's documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Life {
    /// Being made. Its number and its place in its group are taken; nobody can wait for it or name it.
    Embryo,
    /// Its threads run.
    Running,
    /// A stop signal was taken; not all threads have come in yet.
    Stopping {
        /// The signal.
        signal: u8,
    },
    /// All threads are held.
    Stopped {
        /// The signal that did it.
        signal: u8,
    },
    /// How it ended is settled; its last writes to its memory are under way.
    Dying {
        /// How it ended.
        status: Status,
    },
    /// Nothing is left but this row, for its parent to read.
    Zombie {
        /// How it ended.
        status: Status,
    },
}

/// What a process has to tell its parent. There is one piece at most, and it is told once.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum News {
    /// It has ended.
    Exited(Status),
    /// It was stopped by this signal.
    Stopped(u8),
    /// It runs again.
    Continued,
}

/// Small settings of prctl(2), personality(2) and the scheduler.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Orphans of its descendants become its children. Not inherited; survives exec.
    pub subreaper: bool,
    /// The signal it gets when the thread that made it ends. Not inherited.
    pub parent_death_signal: u8,
    /// Whether a core image may be made of it.
    pub dumpable: u8,
    /// Set-id bits no longer count. Inherited, never cleared.
    pub no_new_privileges: bool,
    /// Capabilities stay when all user ids leave 0; here it is only remembered.
    pub keep_capabilities: bool,
    /// personality(2).
    pub personality: u32,
    /// Nice value, -20 to 19.
    pub nice: i32,
    /// Scheduling policy; only remembered.
    pub policy: u32,
    /// Its priority; only remembered.
    pub priority: u32,
    /// PR_SET_TIMERSLACK; only remembered.
    pub timer_slack_ns: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            subreaper: false,
            parent_death_signal: 0,
            dumpable: 1,
            no_new_privileges: false,
            keep_capabilities: false,
            personality: 0,
            nice: 0,
            policy: 0,
            priority: 0,
            timer_slack_ns: 50_000,
        }
    }
}

/// A process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// Whose child it is.
    pub parent: Pid,
    /// The thread of the parent that made it, or that inherited it.
    pub creator: Tid,
    /// The order in which processes were made; a wait reports the oldest first.
    pub sequence: u64,
    /// Its group.
    pub pgid: Pgid,
    /// Its session.
    pub sid: Sid,
    /// Where it is in its life.
    pub life: Life,
    /// What its parent has not been told yet.
    pub news: Option<News>,
    /// The signal its parent gets when it ends; 0 for none.
    pub exit_signal: u8,
    /// Its living threads.
    pub threads: BTreeSet<Tid>,
    /// How many of them are held by a stop.
    pub held: u32,
    /// Its kernel task.
    pub task: Handle,
    /// Its address space, by vm's badge.
    pub space: u64,
    /// Its table of signal actions.
    pub actions: u64,
    /// The program it runs.
    pub program: u64,
    /// Signals for the process, not yet taken by a thread.
    pub pending: Pending,
    /// Its children and who waits for them.
    pub family: Family,
    /// Whose it is.
    pub credentials: Credentials,
    /// What it may use.
    pub limits: Limits,
    /// What it used, once it is dead.
    pub usage: Usage,
    /// What the children it reaped used.
    pub children_usage: Usage,
    /// It has executed a program since it was forked.
    pub executed: bool,
    /// The thread that is suspended until it executes a program or ends.
    pub vfork_parent: Option<(Tid, CallId)>,
    /// Its timers that send signals.
    pub timers: Timers,
    /// The core file that it is writing.
    pub dump: Option<Box<Dump>>,
    /// Until when a kill waits for one of its threads to come in.
    pub grace_ns: Option<u64>,
    /// Descriptors that stand for it, by badge.
    pub pidfds: BTreeSet<u64>,
    /// The threads, living or not, that its threads trace.
    pub tracees: BTreeSet<Tid>,
    /// Small settings.
    pub settings: Settings,
    /// When it was made, ns since boot.
    pub start_ns: u64,
}

impl Process {
    /// A process about to be made: everything its maker does not set is empty.
    pub fn embryo(pid: Pid, parent: Pid, creator: Tid, sequence: u64, now: u64) -> Process {
        Process {
            pid,
            parent,
            creator,
            sequence,
            pgid: Pgid(pid.0),
            sid: Sid(pid.0),
            life: Life::Embryo,
            news: None,
            exit_signal: SIGCHLD,
            threads: BTreeSet::new(),
            held: 0,
            task: Handle::NONE,
            space: 0,
            actions: 0,
            program: 0,
            pending: Pending::default(),
            family: Family::default(),
            credentials: Credentials::default(),
            limits: Limits::default(),
            usage: Usage::default(),
            children_usage: Usage::default(),
            executed: false,
            vfork_parent: None,
            timers: Timers::default(),
            dump: None,
            grace_ns: None,
            pidfds: BTreeSet::new(),
            tracees: BTreeSet::new(),
            settings: Settings::default(),
            start_ns: now,
        }
    }

    /// Whether it has ended.
    pub fn is_zombie(&self) -> bool {
        matches!(self.life, Life::Zombie { .. })
    }

    /// Whether its end is settled, or has come.
    pub fn is_ending(&self) -> bool {
        matches!(self.life, Life::Dying { .. } | Life::Zombie { .. })
    }

    /// Whether a stop holds its threads, or is about to.
    pub fn is_stopping(&self) -> bool {
        matches!(self.life, Life::Stopping { .. } | Life::Stopped { .. })
    }

    /// Whether it has been made and not been reaped: the state in which programs can name it.
    pub fn is_visible(&self) -> bool {
        self.life != Life::Embryo
    }

    /// Its entry in its parent's family.
    pub fn member(&self) -> Member {
        Member {
            pid: self.pid,
            sequence: self.sequence,
            class: Class {
                pgid: self.pgid,
                clone: self.exit_signal != SIGCHLD,
                zombie: self.is_zombie(),
                creator: self.creator,
            },
            news: self.news.is_some(),
        }
    }

    /// Whether it leads its session.
    pub fn leads_session(&self) -> bool {
        self.sid.0 == self.pid.0
    }
}

/// A process group. It lives as long as it has a member, zombies included; its number is not reused before.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Group {
    /// The session it belongs to.
    pub sid: Sid,
    /// Its members.
    pub members: BTreeSet<Pid>,
    /// How many of them are stopped: an orphaned group with one of these is woken up.
    pub stopped: u32,
}

/// The sessions and the groups in each.
pub type Sessions = BTreeMap<Sid, BTreeSet<Pgid>>;
