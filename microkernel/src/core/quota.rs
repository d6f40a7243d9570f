//! Quotas: how many objects of each kind a server owns, and how many it may. What a server makes is charged to it and
//! credited when the object goes, each in one addition; who has used a quota up is refused, and nobody else is.

use libipc::abi::{KernelError, Owned};

use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

const KINDS: usize = Owned::ALL.len();

/// What one server owns, and may own at most, by the numbers of [`Owned`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holdings {
    used: [u32; KINDS],
    limits: [u32; KINDS],
}

impl Holdings {
    /// Nothing, and no limit.
    pub const UNLIMITED: Holdings = Holdings { used: [0; KINDS], limits: [u32::MAX; KINDS] };

    /// For tests: says how many objects of a kind there may be.
    #[cfg(test)]
    pub(crate) fn set_limit(&mut self, kind: Owned, limit: u32) {
        self.limits[kind as usize] = limit;
    }

    /// How many objects of a kind there are, and may be.
    pub fn of(&self, kind: Owned) -> (u32, u32) {
        (self.used[kind as usize], self.limits[kind as usize])
    }
}

impl<M: Machine> Kernel<M> {
    /// Sets what a server may own of a kind, in thousandths of what the machine has of it.
    pub(crate) fn server_quota(&mut self, task: TaskId, [handle, kind, share, ..]: [u64; 6]) -> Outcome {
        self.is_root(task)?;
        let id = self.server_named(task, handle, libipc::abi::Rights::CONTROL)?;
        let kind = Owned::from_number(kind).ok_or(KernelError::BadArgument)?;
        if share > 1000 {
            return Err(KernelError::BadArgument);
        }
        let all = match kind {
            Owned::Tasks => self.tasks.capacity(),
            Owned::Threads => self.threads.capacity(),
            Owned::Spaces => self.spaces.capacity(),
            Owned::Sessions => self.sessions.capacity(),
            Owned::Watches => self.watchers.capacity(),
            Owned::Calls => self.calls.capacity(),
        };
        let limit = (u64::from(all) * share).div_ceil(1000) as u32;
        let server = self.servers.get_mut(id).ok_or(KernelError::BadHandle)?;
        server.holdings.limits[kind as usize] = limit;
        Ok([u64::from(limit), 0, 0, 0, 0])
    }

    /// Charges an object that is about to be made.
    #[inline]
    pub(crate) fn charge(&mut self, server: ServerId, kind: Owned) -> Result<(), KernelError> {
        let Some(server) = self.servers.get_mut(server) else { return Ok(()) };
        let holdings = &mut server.holdings;
        if holdings.used[kind as usize] >= holdings.limits[kind as usize] {
            return Err(KernelError::Quota);
        }
        holdings.used[kind as usize] += 1;
        Ok(())
    }

    /// Credits one that is gone, or was not made after all.
    #[inline]
    pub(crate) fn credit(&mut self, server: ServerId, kind: Owned) {
        if let Some(server) = self.servers.get_mut(server) {
            let used = &mut server.holdings.used[kind as usize];
            *used = used.saturating_sub(1);
        }
    }

    /// The server that a program's task, and its threads, are charged to.
    fn maker_of(&self, task: TaskId) -> Option<ServerId> {
        self.tasks.get(task)?.maker
    }

    /// Charges a thread of a task to whoever made the task.
    pub(crate) fn charge_thread(&mut self, task: TaskId) -> Result<(), KernelError> {
        self.maker_of(task).map_or(Ok(()), |maker| self.charge(maker, Owned::Threads))
    }

    /// Credits one.
    pub(crate) fn credit_thread(&mut self, task: TaskId) {
        if let Some(maker) = self.maker_of(task) {
            self.credit(maker, Owned::Threads);
        }
    }

    /// Credits a call that this task had sent.
    pub(crate) fn credit_sent(&mut self, task: TaskId) {
        if let Some(server) = self.server_of(task) {
            self.credit(server, Owned::Calls);
        }
    }

    /// Takes a session away.
    pub(crate) fn remove_session(&mut self, id: SessionId) {
        if let Some(session) = self.sessions.remove(id) {
            self.credit(session.server, Owned::Sessions);
        }
    }
}
