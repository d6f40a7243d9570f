//! Nice values and the sched_* calls. The kernel schedules all programs alike; what a program sets is remembered and
//! shown, within the bounds and permissions Linux has.

use alloc::vec::Vec;

use libipc::linux::errno::{EACCES, EINVAL, EPERM, ESRCH};

use crate::Proc;
use crate::id::{Pgid, Pid, Tid};
use crate::memory::half_at;
use crate::process::Process;
use crate::time::timespec;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno};

const PRIO_PROCESS: i32 = 0;
const PRIO_PGRP: i32 = 1;
const PRIO_USER: i32 = 2;
const NICEST: i32 = 19;
const RUDEST: i32 = -20;

const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const SCHED_BATCH: u32 = 3;
const SCHED_IDLE: u32 = 5;
const SCHED_RESET_ON_FORK: u32 = 0x4000_0000;
/// Bytes of the processor mask, and the mask: one processor.
const MASK: u64 = 1;
const MASK_BYTES: usize = 8;
/// What round robin's slice is said to be.
const SLICE_NS: u64 = 100_000_000;

/// Lowest and highest priority of a policy.
fn priorities(policy: u32) -> Result<(u32, u32), Refusal> {
    match policy {
        SCHED_FIFO | SCHED_RR => Ok((1, 99)),
        0 | SCHED_BATCH | SCHED_IDLE => Ok((0, 0)),
        _ => errno(EINVAL),
    }
}

impl Proc {
    /// The processes that the first two arguments of getpriority(2) name.
    fn those_named(&self, asked: &Asked) -> Result<Vec<Pid>, Refusal> {
        let (which, who) = (asked.int(0), asked.unsigned(1));
        let own = self.processes.get(&asked.pid).ok_or(Refusal::Errno(ESRCH))?;
        let named: Vec<Pid> = match which {
            PRIO_PROCESS if who == 0 => Vec::from([asked.pid]),
            PRIO_PROCESS => self.scheduled(who).into_iter().collect(),
            PRIO_PGRP => self.members(if who == 0 { own.pgid } else { Pgid(who) }),
            PRIO_USER => {
                let uid = if who == 0 { own.credentials.uid } else { who };
                let of_user = self.processes.values().filter(|process| process.credentials.uid == uid);
                of_user.map(|process| process.pid).collect()
            }
            _ => return errno(EINVAL),
        };
        if named.is_empty() { errno(ESRCH) } else { Ok(named) }
    }

    /// The process of a process's or thread's number.
    fn scheduled(&self, number: u32) -> Option<Pid> {
        let thread = self.threads.get(&Tid(number)).map(|thread| thread.pid);
        thread.or_else(|| self.processes.get(&Pid(number)).filter(|it| it.is_visible()).map(|it| it.pid))
    }

    pub(crate) fn getpriority(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        let named = self.those_named(asked)?;
        let nice =
            named.iter().filter_map(|pid| self.processes.get(pid)).map(|process| process.settings.nice);
        // The call cannot return a negative value: 40 is the rudest, 1 the nicest.
        Ok(Reply::Value(i64::from(20 - nice.min().unwrap_or(0))))
    }

    pub(crate) fn setpriority(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        let nice = asked.int(2).clamp(RUDEST, NICEST);
        let named = self.those_named(asked)?;
        let own = self.processes.get(&asked.pid).map(|it| it.credentials.clone()).unwrap_or_default();
        let mut outcome = Reply::DONE;
        for pid in named {
            let Some(process) = self.processes.get_mut(&pid) else { continue };
            let other = &process.credentials;
            if !own.is_superuser() && ![other.uid, other.euid].contains(&own.euid) {
                outcome = errno(EPERM);
            } else if !own.is_superuser() && nice < process.settings.nice {
                outcome = errno(EACCES);
            } else {
                process.settings.nice = nice;
            }
        }
        outcome
    }

    /// The process that a sched_* call is about.
    fn scheduled_by(&self, asked: &Asked) -> Result<Pid, Refusal> {
        match asked.int(0) {
            pid if pid < 0 => errno(EINVAL),
            0 => Ok(asked.pid),
            pid => self.scheduled(pid.unsigned_abs()).ok_or(Refusal::Errno(ESRCH)),
        }
    }

    fn scheduled_process(&mut self, asked: &Asked) -> Result<&mut Process, Refusal> {
        let pid = self.scheduled_by(asked)?;
        self.processes.get_mut(&pid).ok_or(Refusal::Errno(ESRCH))
    }

    fn set_policy(&mut self, asked: &Asked, policy: Option<u32>) -> Outcome {
        let priority = half_at(asked.needed(0)?, 0);
        let privileged = self.is_superuser(asked.pid);
        let process = self.scheduled_process(asked)?;
        let policy = policy.unwrap_or(process.settings.policy) & !SCHED_RESET_ON_FORK;
        let (lowest, highest) = priorities(policy)?;
        if !(lowest..=highest).contains(&priority) {
            return errno(EINVAL);
        }
        if highest > 0 && !privileged {
            return errno(EPERM);
        }
        (process.settings.policy, process.settings.priority) = (policy, priority);
        Reply::DONE
    }

    pub(crate) fn sched_setparam(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        self.set_policy(asked, None)
    }

    pub(crate) fn sched_setscheduler(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        self.set_policy(asked, Some(asked.unsigned(1)))
    }

    pub(crate) fn sched_getparam(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        let priority = self.scheduled_process(asked)?.settings.priority;
        Reply::bytes(asked.word(1), priority.to_le_bytes().to_vec())
    }

    pub(crate) fn sched_getscheduler(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        Ok(Reply::Value(i64::from(self.scheduled_process(asked)?.settings.policy)))
    }

    pub(crate) fn sched_get_priority_max(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        Ok(Reply::Value(i64::from(priorities(asked.unsigned(0))?.1)))
    }

    pub(crate) fn sched_get_priority_min(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        Ok(Reply::Value(i64::from(priorities(asked.unsigned(0))?.0)))
    }

    pub(crate) fn sched_rr_get_interval(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        self.scheduled_by(asked)?;
        Reply::bytes(asked.word(1), timespec(SLICE_NS))
    }

    pub(crate) fn sched_setaffinity(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        self.scheduled_by(asked)?;
        let bytes = asked.word(1).min(MASK_BYTES as u64) as u32;
        if bytes == 0 {
            return errno(EINVAL);
        }
        let mask = turn.env.read_user(asked.id, asked.word(2), bytes)?;
        if crate::memory::word_at(&mask, 0) & MASK == 0 { errno(EINVAL) } else { Reply::DONE }
    }

    pub(crate) fn sched_getaffinity(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        let room = asked.word(1);
        if room < MASK_BYTES as u64 || !room.is_multiple_of(MASK_BYTES as u64) {
            return errno(EINVAL);
        }
        self.scheduled_by(asked)?;
        Ok(Reply::Pieces(MASK_BYTES as i64, crate::turn::piece(asked.word(2), MASK.to_le_bytes().to_vec())))
    }
}
