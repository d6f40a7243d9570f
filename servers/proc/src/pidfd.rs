//! pidfd_open(2), pidfd_send_signal(2): descriptors that stand for a process. They are sessions of this server,
//! readable once the process is dead, and they never come to stand for another process that is given its number.

use alloc::collections::BTreeMap;

use libipc::abi::{CallId, Handle, Readiness};
use libipc::linux::errno::{EBADF, EINVAL, ESRCH};
use libipc::linux::open::{O_NONBLOCK, O_RDWR};
use libipc::proto::process as protocol;
use libipc::server::ForeignReply;
use libipc::server::effect::Operation;
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::{Pid, Tid};
use crate::jobs::Job;
use crate::process::Process;
use crate::thread::On;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno};

/// A descriptor for a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pidfd {
    /// The process, until it is reaped.
    pid: Option<Pid>,
    /// This server's handle of the session.
    pub(crate) owner: Handle,
}

/// A descriptor being made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PidfdJob {
    call: CallId,
    tid: Tid,
    badge: u64,
    /// The descriptor it will be.
    slot: u32,
}

/// All of them, by badge.
pub type Pidfds = BTreeMap<u64, Pidfd>;

impl Proc {
    pub(crate) fn pidfd_open(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let (pid, flags) = (asked.int(0), asked.unsigned(1));
        if pid <= 0 || flags & !O_NONBLOCK != 0 {
            return errno(EINVAL);
        }
        let pid = Pid(pid.unsigned_abs());
        let process = self.processes.get_mut(&pid).filter(|process| process.is_visible());
        let Some(process) = process.map(|process| &*process) else {
            // A thread that is not its process's first is no process.
            let thread = self.threads.contains_key(&Tid(pid.0));
            return errno(if thread { EINVAL } else { ESRCH });
        };
        let pid = process.pid;
        let (badge, create) = self.pidfd_for(pid, flags, turn);
        self.park(asked.tid, asked.id, On::Server, turn);
        let slot = asked.foreign.slots[0];
        let tag = self.start(Job::Pidfd(PidfdJob { call: asked.id, tid: asked.tid, badge, slot }));
        turn.out.attempt(tag, create);
        Ok(Reply::Later)
    }

    /// A new descriptor's row, and the operation that makes its session.
    pub(crate) fn pidfd_for(&mut self, pid: Pid, flags: u32, turn: &mut Turn) -> (u64, Operation) {
        let owner = turn.env.new_handle();
        self.last_badge += 1;
        let badge = self.last_badge;
        let mut readiness = Readiness::empty();
        if let Some(process) = self.processes.get_mut(&pid) {
            process.pidfds.insert(badge);
            if process.is_zombie() {
                readiness = Readiness::IN;
            }
        }
        self.pidfds.insert(badge, Pidfd { pid: Some(pid), owner });
        let create = Operation::SessionCreate {
            owner,
            badge: libipc::abi::Badge(badge),
            object: u64::from(pid.0),
            status: O_RDWR | flags,
            readiness,
            position: 0,
        };
        (badge, create)
    }

    /// This server's handle of a descriptor's session.
    pub(crate) fn pidfd_owner(&self, badge: u64) -> Handle {
        self.pidfds.get(&badge).map_or(Handle::NONE, |pidfd| pidfd.owner)
    }

    /// The kernel has made the session, or could not.
    pub(crate) fn pidfd_made(&mut self, job: PidfdJob, made: Result<(), i32>, turn: &mut Turn) {
        let waits = self.calls.get(&job.call) == Some(&job.tid);
        let owner = self.pidfds.get(&job.badge).map(|pidfd| pidfd.owner);
        match (made, owner) {
            (Ok(()), Some(owner)) if waits => {
                self.release(job.tid);
                let install = alloc::vec![owner];
                let result = i64::from(job.slot);
                let reply = ForeignReply { result, install, close_on_exec: true, ..ForeignReply::default() };
                turn.out.foreign(job.call, reply);
            }
            (made, owner) => {
                self.forget_pidfd(job.badge);
                if let (Ok(()), Some(owner)) = (made, owner) {
                    turn.close(owner);
                }
                if waits {
                    let failed = made.err().unwrap_or(ESRCH);
                    self.finish_wait(job.tid, -i64::from(failed), alloc::vec::Vec::new(), turn);
                }
            }
        }
    }

    /// A descriptor's row goes; its session is closed by whoever knows that there is one.
    pub(crate) fn forget_pidfd(&mut self, badge: u64) {
        let pid = self.pidfds.remove(&badge).and_then(|pidfd| pidfd.pid);
        if let Some(process) = pid.and_then(|pid| self.processes.get_mut(&pid)) {
            process.pidfds.remove(&badge);
        }
    }

    /// The last descriptor of a session is closed.
    pub(crate) fn closed(&mut self, badge: u64, owner: Handle, turn: &mut Turn) {
        self.forget_pidfd(badge);
        self.signal_files.remove(&badge);
        turn.close(owner);
    }

    /// A process is dead: its descriptors are readable.
    pub(crate) fn post_pidfds(&self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.get(&pid) else { return };
        for pidfd in process.pidfds.iter().filter_map(|badge| self.pidfds.get(badge)) {
            turn.act(Operation::SessionReady { session: pidfd.owner, readiness: Readiness::IN });
        }
    }

    /// A process is reaped: its descriptors stand for nothing any more.
    pub(crate) fn orphan_pidfds(&mut self, process: &Process) {
        for badge in &process.pidfds {
            if let Some(pidfd) = self.pidfds.get_mut(badge) {
                pidfd.pid = None;
            }
        }
    }

    /// The process behind a named descriptor: `None` when it is no pidfd, `Some(None)` when the process is reaped.
    pub(crate) fn named_by_descriptor(&self, asked: &Asked, index: usize) -> Option<Option<Pid>> {
        let named = asked.foreign.names().named;
        let named = named.get(index).filter(|named| named.server == u64::from(self.number))?;
        self.pidfds.get(&named.badge).map(|pidfd| pidfd.pid)
    }

    /// Whether a wait by a descriptor of the caller is not to wait.
    pub(crate) fn is_nonblocking(&self, asked: &Asked, descriptor: u32, turn: &mut Turn) -> bool {
        let Some(process) = self.processes.get(&asked.pid) else { return false };
        let found = turn.env.descriptor(process.task, descriptor);
        found.is_ok_and(|found| found.slot == descriptor && found.status & O_NONBLOCK != 0)
    }

    /// The process whose directory in /proc a descriptor of the caller is for; `None` if it is for something else.
    fn named_by_directory(&self, asked: &Asked) -> Option<Option<Pid>> {
        let named = asked.foreign.names().named;
        let named = named.first().filter(|named| named.server == u64::from(self.procfs))?;
        let pid = Pid(protocol::of_directory(named.object)?);
        Some(self.processes.get(&pid).filter(|process| process.is_visible()).map(|process| process.pid))
    }

    pub(crate) fn pidfd_send_signal(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let target = self.named_by_descriptor(asked, 0).or_else(|| self.named_by_directory(asked));
        let target = target.ok_or(Refusal::Errno(EBADF))?;
        if asked.unsigned(3) != 0 {
            return errno(EINVAL);
        }
        let target = target.ok_or(Refusal::Errno(ESRCH))?;
        self.send_by_descriptor(asked, target, turn)
    }
}
