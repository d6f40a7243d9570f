//! Recalls: what is done about a call that a server has had for long, and still has when it has accounted for itself.
//!
//! What something has written over a server's memory may be older than what an account begins with. Then a sound
//! journal leads from a state that was not sound to one that forgets the same caller. So it is the call that is
//! doubted: its caller wants it back, as if for a signal of which nothing is seen. A server that has the call in mind
//! ends it, or says that it keeps it ([`Syscall::Keep`]), as it may do for a process that is being debugged. One that
//! does neither within a minute has forgotten it, and the call fails: its caller is told, and waits no more.
//!
//! Calls that wait for what may never come are not recalled: whoever waits rightly is to see nothing of this. So a
//! server may still forget who reads a pipe. All else ends by itself, however long a disk takes; so does the way to the
//! file, for a call that waits only when it is there.
//!
//! [`Syscall::Keep`]: libipc::abi::syscall::Syscall::Keep

use libipc::abi::KernelError;
use libipc::abi::foreign::Role;
use libipc::linux::call::{begins_with_path, may_wait};

use super::account::PATIENCE_NS;
use super::call::signal;
use super::machine::Machine;
use super::object::*;
use super::server::Line;
use super::{Kernel, Outcome};

/// When a call was recalled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recalled {
    /// When the call was made that this is said of. Another call in the same place has not been recalled.
    made_ns: u64,
    /// It fails so long after this; never, if its server keeps it.
    at_ns: u64,
}

impl Recalled {
    /// Never.
    pub const NONE: Recalled = Recalled { made_ns: u64::MAX, at_ns: 0 };
}

impl Call {
    /// Whether its caller wants it back for no reason that the caller knows.
    pub(crate) fn is_recalled(&self) -> bool {
        self.recalled.made_ns == self.since
    }
}

impl<M: Machine> Kernel<M> {
    /// Recalls what has been held too long, and fails what was recalled in vain. When to look again.
    pub(crate) fn recall(&mut self, now: u64) -> u64 {
        let mut next = u64::MAX;
        for index in 0..self.calls.bound() {
            let Some(id) = self.calls.at(index) else { continue };
            let Some(due) = self.recall_due(id) else { continue };
            if due <= now {
                self.recall_or_fail(id, now);
            }
            next = next.min(if due > now { due } else { now + PATIENCE_NS });
        }
        next
    }

    /// When a call is to be recalled, or is to fail since it was recalled in vain.
    fn recall_due(&self, id: CallRef) -> Option<u64> {
        let call = self.calls.get(id).filter(|call| call.phase == Phase::Held)?;
        if call.is_recalled() {
            return call.recalled.at_ns.checked_add(PATIENCE_NS);
        }
        let resolved = self.roles[Role::Vfs as usize] == Some(call.server) && begins_with_path(call.number);
        if call.kind == CallKind::Foreign && (call.thread.is_none() || may_wait(call.number) && !resolved) {
            return None;
        }
        let asked_ns = self.servers.get(call.server)?.account.asked_ns();
        (asked_ns > call.since).then_some(asked_ns + PATIENCE_NS)
    }

    fn recall_or_fail(&mut self, id: CallRef, now: u64) {
        let Some(call) = self.calls.get_mut(id) else { return };
        if call.is_recalled() {
            let server = self.servers.get(call.server).map_or(0, |server| server.number);
            let mut line = Line::new();
            let text = format_args!("server {server} has forgotten call {:#x}, which fails\n", call.number);
            let _ = core::fmt::write(&mut line, text);
            self.machine.log(line.bytes());
            return self.fail_poisoned(id);
        }
        call.recalled = Recalled { made_ns: call.since, at_ns: now };
        match (call.kind, call.thread) {
            (CallKind::Foreign, Some(thread)) => self.call_in(thread),
            (CallKind::Fault | CallKind::Attention, _) => self.signal_holder(id, signal::CANCEL),
            // No server takes a message back.
            (CallKind::Sent | CallKind::Native | CallKind::Foreign, _) => {}
        }
    }

    /// A server knows a call that its caller wants back, and goes on with it.
    pub(crate) fn keep_call(&mut self, task: TaskId, [token, ..]: [u64; 6]) -> Outcome {
        let server = self.server_of(task).ok_or(KernelError::NoSuchCall)?;
        let id = self.call_held_by(server, token)?;
        if let Some(call) = self.calls.get_mut(id).filter(|call| call.is_recalled()) {
            call.recalled.at_ns = u64::MAX;
        }
        Ok([0; 5])
    }
}
