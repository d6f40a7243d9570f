//! The system calls on locks: flock(2), and F_GETLK and its relatives of fcntl(2).

use crate::lock::{Owner, Record, Want};
use crate::open::{Kind, OpenFile};
use crate::pipe::interrupted;
use crate::transfer::{Outcome, Refusal, small, value};
use crate::{Tmpfs, Wait};
use libipc::abi::CallId;
use libipc::linux::errno::*;
use libipc::linux::open::{F_GETLK, F_SETLK, F_SETLKW};
use libipc::server::effect::Reason;
use libipc::server::{Call, Effects, Env, files};

const LOCK_SH: u64 = 1;
const LOCK_EX: u64 = 2;
const LOCK_NB: u64 = 4;
const LOCK_UN: u64 = 8;

/// F_OFD_GETLK: the commands for locks of an open file lie this far above those for locks of a process.
const OFD: u32 = 31;
/// Commands of fcntl(2) that are about locks.
pub const COMMANDS: [u32; 6] = [F_GETLK, F_SETLK, F_SETLKW, F_GETLK + OFD, F_SETLK + OFD, F_SETLKW + OFD];

/// Bytes of `struct flock`.
const FLOCK_SIZE: u32 = 32;
const F_RDLCK: u16 = 0;
const F_WRLCK: u16 = 1;
const F_UNLCK: u16 = 2;

/// `struct flock` as the caller gave it.
struct Flock {
    kind: u16,
    whence: u16,
    start: i64,
    length: i64,
    pid: i32,
}

impl Flock {
    fn parse(bytes: &[u8]) -> Option<Flock> {
        let (kind, rest) = bytes.split_first_chunk::<2>()?;
        let (whence, rest) = rest.split_first_chunk::<2>()?;
        let (start, rest) = rest.get(4..)?.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<8>()?;
        let (pid, _) = rest.split_first_chunk::<4>()?;
        Some(Flock {
            kind: u16::from_le_bytes(*kind),
            whence: u16::from_le_bytes(*whence),
            start: i64::from_le_bytes(*start),
            length: i64::from_le_bytes(*length),
            pid: i32::from_le_bytes(*pid),
        })
    }

    fn to_bytes(&self) -> [u8; FLOCK_SIZE as usize] {
        let mut bytes = [0; FLOCK_SIZE as usize];
        bytes[0..2].copy_from_slice(&self.kind.to_le_bytes());
        bytes[2..4].copy_from_slice(&self.whence.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.start.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.length.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.pid.to_le_bytes());
        bytes
    }

    /// The first and last byte meant, of a file of this size read at this position.
    fn range(&self, position: u64, size: u64) -> Result<(u64, u64), i32> {
        if self.whence > 2 {
            return Err(EINVAL);
        }
        let base = files::seek(position, self.start, u64::from(self.whence), size)?;
        match self.length {
            0 => Ok((base, u64::MAX)),
            length if length > 0 => {
                let last = base.checked_add(length as u64 - 1).filter(|last| *last <= i64::MAX as u64);
                Ok((base, last.ok_or(EOVERFLOW)?))
            }
            length => {
                let start = base.checked_add_signed(length).ok_or(EINVAL)?;
                Ok((start, base - 1))
            }
        }
    }

    fn describe(record: &Record) -> Flock {
        let length = record.last.checked_sub(record.start).and_then(|length| length.checked_add(1));
        Flock {
            kind: if record.exclusive { F_WRLCK } else { F_RDLCK },
            whence: 0,
            start: record.start as i64,
            length: if record.last == u64::MAX { 0 } else { length.unwrap_or(0) as i64 },
            pid: match record.owner {
                Owner::Process(pid) => pid as i32,
                Owner::Description(_) => -1,
            },
        }
    }
}

impl Tmpfs {
    /// flock(2).
    pub(crate) fn flock(&mut self, call: &Call, kind: Kind, operation: u64) -> Outcome {
        let file = self.object_of_locks(kind);
        let badge = call.badge.0;
        let exclusive = match operation & !LOCK_NB {
            LOCK_SH => false,
            LOCK_EX => true,
            LOCK_UN => {
                let woken = self.locks.unlock_whole(file, badge);
                return Ok(self.granted(call.id, woken));
            }
            _ => return Err(Refusal::Errno(EINVAL)),
        };
        let want = Want::Whole { badge, exclusive };
        Ok(self.lock(call.id, file, want, operation & LOCK_NB == 0))
    }

    /// F_GETLK, F_SETLK, F_SETLKW and their relatives for open files.
    pub(crate) fn record_lock(
        &mut self,
        call: &Call,
        open: OpenFile,
        command: u32,
        address: u64,
        env: &mut dyn Env,
    ) -> Outcome {
        let described = command > OFD;
        let bytes = env.read_user(call.id, address, FLOCK_SIZE)?;
        let flock = Flock::parse(&bytes).ok_or(EFAULT)?;
        let size =
            open.kind.node().and_then(|ino| self.tree.get(ino)?.file()).map(|file| file.contents.size());
        let (start, last) = flock.range(call.position, size.unwrap_or(0))?;
        if described && flock.pid != 0 {
            return Err(Refusal::Errno(EINVAL));
        }
        let owner =
            if described { Owner::Description(call.badge.0) } else { Owner::Process(call.caller.pid) };
        let exclusive = flock.kind == F_WRLCK;
        let record = Record { owner, badge: call.badge.0, start, last, exclusive };
        let file = self.object_of_locks(open.kind);
        let command = if described { command - OFD } else { command };
        if command == F_GETLK {
            return self.query_lock(call.id, file, flock, &record, address);
        }
        match flock.kind {
            F_RDLCK => files::check_readable(open.status)?,
            F_WRLCK => files::check_writable(open.status)?,
            F_UNLCK => {
                let woken = self.locks.unlock_record(file, &record);
                return Ok(self.granted(call.id, woken));
            }
            _ => return Err(Refusal::Errno(EINVAL)),
        }
        if command == F_SETLKW && self.locks.would_deadlock(file, &record) {
            return Err(Refusal::Errno(EDEADLK));
        }
        Ok(self.lock(call.id, file, Want::Record(record), command == F_SETLKW))
    }

    fn query_lock(&self, call: CallId, file: u64, flock: Flock, record: &Record, address: u64) -> Outcome {
        if !matches!(flock.kind, F_RDLCK | F_WRLCK) {
            return Err(Refusal::Errno(EINVAL));
        }
        let answer = match self.locks.conflict(file, record) {
            Some(held) => Flock::describe(&held),
            None => Flock { kind: F_UNLCK, ..flock },
        };
        small(call, 0, address, &answer.to_bytes())
    }

    /// Locks, waits, or refuses.
    fn lock(&mut self, call: CallId, file: u64, want: Want, waits: bool) -> Effects {
        let (free, woken) = self.locks.try_lock(file, want);
        let mut effects = Effects::none();
        self.answer_all(&mut effects, woken, 0);
        if free {
            effects.result(call, 0);
        } else if waits {
            self.locks.wait(file, call, want);
            self.parked.insert(call, Wait::Lock(file));
            effects.park(call, Reason::Lock);
        } else {
            effects.result(call, -i64::from(EAGAIN));
        }
        effects
    }

    fn granted(&mut self, call: CallId, woken: alloc::vec::Vec<CallId>) -> Effects {
        let mut effects = value(call, 0).unwrap_or_default();
        self.answer_all(&mut effects, woken, 0);
        effects
    }

    fn answer_all(&mut self, effects: &mut Effects, calls: alloc::vec::Vec<CallId>, result: i64) {
        for call in calls {
            self.parked.remove(&call);
            effects.result(call, result);
        }
    }

    /// A session is gone: its locks go too, and whoever waited through it is told.
    pub(crate) fn release_locks(&mut self, file: u64, badge: u64, effects: &mut Effects) {
        let (woken, orphans) = self.locks.close(file, badge);
        self.answer_all(effects, woken, 0);
        self.answer_all(effects, orphans, -i64::from(EBADF));
    }

    /// A signal or kill takes a call away from a lock.
    pub(crate) fn cancel_lock_call(&mut self, file: u64, call: CallId) -> Effects {
        let woken = self.locks.cancel(file, call);
        self.parked.remove(&call);
        let mut effects = Effects::none();
        interrupted(&mut effects, call);
        self.answer_all(&mut effects, woken, 0);
        effects
    }
}
