//! Resource limits: getrlimit(2), setrlimit(2), prlimit64(2). Kept here; the descriptor limit is the kernel's to keep
//! to, those of memory vm's, that of CPU time and of the signal
//! queue ours.

use alloc::vec::Vec;

use libipc::abi::{Handle, TaskWord};
use libipc::linux::errno::{EFAULT, EFBIG, EINVAL, EPERM, ESRCH};
use libipc::linux::signal::{SI_KERNEL, SIGXFSZ};
use libipc::proto::space;
use libipc::server::effect::Operation;
use libipc::server::{Call, Message};
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::{Pid, Tid};
use crate::memory::{word_at, words};
use crate::signal::{Aim, SigInfo};
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno, piece};

/// No limit.
pub const INFINITY: u64 = u64::MAX;
const COUNT: usize = 16;
/// The most descriptors a process can be allowed.
const DESCRIPTORS_MAX: u64 = 4096;

/// Limits that are looked at in this server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resource {
    /// RLIMIT_CPU.
    Cpu = 0,
    /// RLIMIT_FSIZE.
    FileSize = 1,
    /// RLIMIT_DATA.
    Data = 2,
    /// RLIMIT_STACK.
    Stack = 3,
    /// RLIMIT_CORE.
    Core = 4,
    /// RLIMIT_NOFILE.
    Descriptors = 7,
    /// RLIMIT_MEMLOCK.
    Locked = 8,
    /// RLIMIT_AS.
    AddressSpace = 9,
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
        limits[Resource::Locked as usize] = (8 << 20, 8 << 20);
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

    /// Those that vm keeps to.
    pub fn of_memory(&self) -> space::Limits {
        let soft = |resource| self.get(resource).0;
        space::Limits {
            address_space: soft(Resource::AddressSpace),
            data: soft(Resource::Data),
            stack: soft(Resource::Stack),
            locked: soft(Resource::Locked),
        }
    }

    /// Moves the soft limit of a resource.
    pub fn set_soft(&mut self, resource: Resource, soft: u64) {
        self.0[resource as usize].0 = soft;
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

/// Whether a resource is one of memory.
fn limits_of_memory(number: i32) -> bool {
    let memory = [Resource::Data, Resource::Stack, Resource::Locked, Resource::AddressSpace];
    memory.iter().any(|resource| *resource as i32 == number)
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

    /// A program's call would make a file larger than it may.
    pub(crate) fn file_too_large(&mut self, call: &Call, turn: &mut Turn) {
        self.send(Aim::Thread(Tid(call.caller.tid)), SigInfo::user(SIGXFSZ, SI_KERNEL, 0, 0), turn);
        turn.result(call.id, -i64::from(EFBIG));
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
        let mut changed = false;
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
            changed = *limit != new;
            *limit = new;
            let (space, limits) = (process.space, process.limits.of_memory());
            if changed && limits_of_memory(number) && space != 0 {
                let request = space::Request::Limits { space, limits };
                turn.out.tell(self.vm, Message::typed(space::REQUEST, &request));
            }
            let task = process.task;
            if changed && number == Resource::FileSize as i32 && task != Handle::NONE {
                // The kernel attaches it to calls, for file servers to keep to.
                let value = new.0.wrapping_add(1);
                for (word, value) in
                    [(TaskWord::FileLimitLow, value & 0xffff_ffff), (TaskWord::FileLimitHigh, value >> 32)]
                {
                    turn.act(Operation::TaskWord { task, word, value });
                }
            }
            if descriptors && task != Handle::NONE {
                turn.act(Operation::TaskWord { task, word: TaskWord::DescriptorLimit, value: new.0 });
            }
        }
        if changed && number == Resource::Cpu as i32 {
            self.plan_cpu_check(pid, turn);
        }
        Ok(words(&[old.0, old.1]))
    }
}
