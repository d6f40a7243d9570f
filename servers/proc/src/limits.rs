//! Resource limits: getrlimit(2), setrlimit(2), prlimit64(2). Kept here; the descriptor limit is the kernel's to keep
//! to, the stack's vm's, the signal queue's ours.

use alloc::vec::Vec;

use libipc::abi::{Handle, TaskWord};
use libipc::linux::errno::{EFAULT, EINVAL, EPERM, ESRCH};
use libipc::server::effect::Operation;
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::Pid;
use crate::memory::{word_at, words};
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno, piece};

/// No limit.
pub const INFINITY: u64 = u64::MAX;
const COUNT: usize = 16;
/// The most descriptors a process can be allowed.
const DESCRIPTORS_MAX: u64 = 4096;

/// Limits that are looked at in this server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// RLIMIT_STACK.
    Stack = 3,
    /// RLIMIT_CORE.
    Core = 4,
    /// RLIMIT_NOFILE.
    Descriptors = 7,
    /// RLIMIT_SIGPENDING.
    PendingSignals = 11,
}

/// Soft and hard limits, in the order of Linux's numbers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits([(u64, u64); COUNT]);

impl Default for Limits {
    /// Linux's, for the first process.
    fn default() -> Limits {
        let mut limits = [(INFINITY, INFINITY); COUNT];
        limits[Resource::Stack as usize].0 = 8 << 20;
        limits[Resource::Core as usize].0 = 0;
        limits[Resource::Descriptors as usize] = (1024, DESCRIPTORS_MAX);
        limits[8] = (8 << 20, 8 << 20);
        limits[Resource::PendingSignals as usize] = (4096, 4096);
        limits[12] = (819_200, 819_200);
        limits[13] = (0, 0);
        limits[14] = (0, 0);
        Limits(limits)
    }
}

impl Limits {
    /// The soft and the hard limit of a resource.
    pub fn get(&self, resource: Resource) -> (u64, u64) {
        self.0[resource as usize]
    }

    /// Soft and hard limit of each, as other servers are told.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|(soft, hard)| [*soft, *hard]).flat_map(u64::to_le_bytes).collect()
    }

    fn of_number(&mut self, number: i32) -> Result<&mut (u64, u64), Refusal> {
        let index = usize::try_from(number).map_err(|_| Refusal::Errno(EINVAL))?;
        self.0.get_mut(index).ok_or(Refusal::Errno(EINVAL))
    }
}

impl Proc {
    pub(crate) fn getrlimit(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let old = self.limit(asked.pid, asked.int(0), None, false, turn)?;
        Reply::bytes(asked.word(1), old)
    }

    pub(crate) fn setrlimit(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let new = asked.needed(0)?;
        let privileged = self.is_superuser(asked.pid);
        self.limit(asked.pid, asked.int(0), Some(new), privileged, turn)?;
        Reply::DONE
    }

    pub(crate) fn prlimit64(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let pid = u32::try_from(asked.int(0)).map_err(|_| Refusal::Errno(ESRCH))?;
        let target = if pid == 0 { asked.pid } else { Pid(pid) };
        let privileged = self.is_superuser(asked.pid);
        let ids = |pid| self.processes.get(&pid).map(|it| (it.credentials.uid, it.credentials.gid));
        match (ids(asked.pid), ids(target)) {
            (_, None) => return errno(ESRCH),
            (own, other) if own != other && !privileged => return errno(EPERM),
            _ => {}
        }
        if asked.word(2) != 0 && asked.input(0).is_none() {
            return errno(EFAULT);
        }
        let old = self.limit(target, asked.int(1), asked.input(0), privileged, turn)?;
        Ok(Reply::Pieces(0, piece(asked.word(3), old)))
    }

    /// Sets a limit, if one is given, and answers what it was.
    fn limit(
        &mut self,
        pid: Pid,
        number: i32,
        new: Option<&[u8]>,
        privileged: bool,
        turn: &mut Turn,
    ) -> Result<Vec<u8>, Refusal> {
        let process = self.processes.get_mut(&pid).ok_or(Refusal::Errno(ESRCH))?;
        let limit = process.limits.of_number(number)?;
        let old = *limit;
        if let Some(new) = new.map(|bytes| (word_at(bytes, 0), word_at(bytes, 8))) {
            let descriptors = number == Resource::Descriptors as i32;
            if new.0 > new.1 {
                return errno(EINVAL);
            }
            if new.1 > old.1 && (!privileged || descriptors) {
                return errno(EPERM);
            }
            *limit = new;
            let task = process.task;
            if descriptors && task != Handle::NONE {
                turn.act(Operation::TaskWord { task, word: TaskWord::DescriptorLimit, value: new.0 });
            }
        }
        Ok(words(&[old.0, old.1]))
    }
}
