//! signalfd(2): signals that are read. The descriptor is a session of this server with a set of signals; a read takes
//! those that are pending for the thread that reads and for its process, whoever has made the descriptor. Whether it is
//! readable is said of the process that made it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::abi::{Badge, Handle, Readiness};
use libipc::linux::errno::{EAGAIN, EBADF, EINVAL, ENOTTY};
use libipc::linux::open::{O_CLOEXEC, O_NONBLOCK, O_RDWR};
use libipc::linux::{Stat, call};
use libipc::server::NewSession;
use libipc::server::effect::Operation;
use serde::{Deserialize, Serialize};

use super::{Detail, SigInfo, SignalSet, UNBLOCKABLE};
use crate::Proc;
use crate::id::{Pid, Tid};
use crate::memory::{half_at, word_at};
use crate::thread::On;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno};

/// The number of signalfd(2), which has no flags.
const WITHOUT_FLAGS: u32 = 282;
/// Bytes of `struct signalfd_siginfo`.
pub const RECORD_BYTES: usize = 128;
/// Most records in one read.
const RECORDS_MAX: u64 = 32;

/// A descriptor from which signals are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SignalFile {
    set: SignalSet,
    /// Who made it.
    pid: Pid,
    /// This server's handle of the session.
    pub(crate) owner: Handle,
    /// The kernel has been told that it is readable.
    ready: bool,
}

/// All of them, by badge.
pub type SignalFiles = BTreeMap<u64, SignalFile>;

impl SigInfo {
    /// `struct signalfd_siginfo`.
    pub fn to_record(&self) -> Vec<u8> {
        let mut record = alloc::vec![0; RECORD_BYTES];
        let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &u32::from(self.signal).to_le_bytes());
        put(4, &self.errno.to_le_bytes());
        put(8, &self.code.to_le_bytes());
        let mut sender = |pid: u32, uid: u32| {
            put(12, &pid.to_le_bytes());
            put(16, &uid.to_le_bytes());
        };
        match &self.detail {
            Detail::None => {}
            Detail::Sender { pid, uid } => sender(*pid, *uid),
            Detail::Child { pid, uid, status, ticks } => {
                sender(*pid, *uid);
                put(40, &status.to_le_bytes());
                put(56, &ticks[0].to_le_bytes());
                put(64, &ticks[1].to_le_bytes());
            }
            Detail::Fault { address, .. } => put(72, &address.to_le_bytes()),
            Detail::Timer { id, overrun, value } => {
                put(24, &id.to_le_bytes());
                put(32, &overrun.to_le_bytes());
                put(44, &(*value as u32).to_le_bytes());
                put(48, &value.to_le_bytes());
            }
            Detail::Raw(rest) => {
                sender(half_at(rest, 4), half_at(rest, 8));
                put(44, &half_at(rest, 12).to_le_bytes());
                put(48, &word_at(rest, 12).to_le_bytes());
            }
        }
        record
    }
}

impl Proc {
    /// signalfd(2) and signalfd4(2).
    pub(crate) fn signalfd(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let flags = if asked.foreign.number == WITHOUT_FLAGS { 0 } else { asked.unsigned(3) };
        if asked.word(2) != 8 || flags & !(O_CLOEXEC | O_NONBLOCK) != 0 {
            return errno(EINVAL);
        }
        let set = SignalSet(word_at(asked.needed(0)?, 0)).less(UNBLOCKABLE);
        if asked.int(0) != -1 {
            return self.change_signalfd(asked, set);
        }
        let owner = turn.env.new_handle();
        self.last_badge += 1;
        let badge = self.last_badge;
        let ready = self.has_pending(asked.pid, set);
        self.signal_files.insert(badge, SignalFile { set, pid: asked.pid, owner, ready });
        let session = NewSession {
            owner,
            tells_close: false,
            badge: Badge(badge),
            object: badge,
            status: O_RDWR | flags & O_NONBLOCK,
            readiness: readiness(ready),
            close_on_exec: flags & O_CLOEXEC != 0,
        };
        turn.out.reply_open(asked.id, session);
        Ok(Reply::Later)
    }

    /// The descriptor is there already, and gets another set.
    fn change_signalfd(&mut self, asked: &Asked, set: SignalSet) -> Outcome {
        let [named, _] = asked.foreign.names().named;
        if named.server == 0 {
            return errno(EBADF);
        }
        let own = named.server == u64::from(self.number);
        let file = self.signal_files.get_mut(&named.badge).filter(|_| own).ok_or(Refusal::Errno(EINVAL))?;
        file.set = set;
        Ok(Reply::Value(i64::from(asked.int(0))))
    }

    /// A call on such a descriptor.
    pub(crate) fn signalfd_call(&mut self, asked: &Asked, badge: u64, turn: &mut Turn) -> Outcome {
        let set = self.signal_files.get(&badge).ok_or(Refusal::Errno(EBADF))?.set;
        match asked.foreign.number {
            call::READ => self.read_signals(asked, set, turn),
            call::FSTAT => {
                let stat = Stat { ino: badge, mode: 0o600, nlink: 1, blksize: 4096, ..Stat::default() };
                Reply::bytes(asked.word(1), stat.to_bytes().to_vec())
            }
            call::LSEEK => Reply::DONE,
            call::IOCTL => errno(ENOTTY),
            _ => errno(EINVAL),
        }
    }

    fn read_signals(&mut self, asked: &Asked, set: SignalSet, turn: &mut Turn) -> Outcome {
        let room = (asked.word(2) / RECORD_BYTES as u64).min(RECORDS_MAX);
        if room == 0 {
            return errno(EINVAL);
        }
        let mut records = Vec::new();
        while (records.len() as u64) < room * RECORD_BYTES as u64
            && let Some(info) = self.take_one_of(asked.tid, set)
        {
            records.extend(info.to_record());
        }
        if !records.is_empty() {
            let length = records.len() as i64;
            turn.copy_out(asked.id, asked.word(1), records);
            return Ok(Reply::Value(length));
        }
        if asked.call.status & O_NONBLOCK != 0 {
            return errno(EAGAIN);
        }
        let on = On::Signal { set, info: asked.word(1), deadline_ns: None, record: true };
        self.park(asked.tid, asked.id, on, turn);
        Ok(Reply::Later)
    }

    /// Takes the first pending signal of a set: a thread's own before its process's.
    pub(super) fn take_one_of(&mut self, tid: Tid, set: SignalSet) -> Option<SigInfo> {
        let thread = self.threads.get_mut(&tid)?;
        let pid = thread.pid;
        let process = self.processes.get_mut(&pid)?;
        let taken = [&mut thread.pending, &mut process.pending].into_iter().find_map(|pending| {
            let first = pending.outside(SignalSet(!set.0)).next();
            first.and_then(|signal| pending.take(signal))
        });
        taken.inspect(|info| self.note_timer(pid, info))
    }

    /// Whether a signal of a set is pending for a process or one of its threads.
    fn has_pending(&self, pid: Pid, set: SignalSet) -> bool {
        let Some(process) = self.processes.get(&pid) else { return false };
        let threads = process.threads.iter().filter_map(|tid| self.threads.get(tid));
        let own = threads.map(|thread| &thread.pending);
        [&process.pending].into_iter().chain(own).any(|pending| !pending.set().and(set).is_empty())
    }

    /// Tells the kernel which descriptors have come to be readable, or are no more, in this step.
    pub(crate) fn post_signal_files(&mut self, turn: &mut Turn) {
        if self.signal_files.is_empty() {
            return;
        }
        let mut files = core::mem::take(&mut self.signal_files);
        for file in files.values_mut() {
            let ready = self.has_pending(file.pid, file.set);
            if core::mem::replace(&mut file.ready, ready) != ready {
                turn.act(Operation::SessionReady { session: file.owner, readiness: readiness(ready) });
            }
        }
        self.signal_files = files;
    }
}

fn readiness(ready: bool) -> Readiness {
    if ready { Readiness::IN } else { Readiness::empty() }
}
