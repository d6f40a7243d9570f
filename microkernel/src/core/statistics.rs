//! Figures about tasks and the machine, for /proc and for tests.

use libipc::abi::{KernelError, Rights};

use super::handles::count_in;
use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

impl<M: Machine> Kernel<M> {
    pub(crate) fn task_info(&mut self, task: TaskId, [handle, what, ..]: [u64; 6]) -> Outcome {
        let Object::Task(id) = self.named(task, handle, Rights::INSPECT)? else {
            return Err(KernelError::WrongKind);
        };
        let state = self.tasks.get(id).ok_or(KernelError::BadHandle)?;
        let (own, server) = (state.server, self.server(id));
        match (what, server) {
            (0, _) => {
                let now = self.spaces.get(state.space).map_or(0, |space| space.peak_pages);
                Ok([self.cpu_time(state), 0, u64::from(state.peak_pages.max(now)), 0, 0])
            }
            (1, Some(server)) => {
                let dead = u64::from(server.state != ServerState::Alive);
                let [outside, itself] = server.deaths.map(u64::from);
                Ok([u64::from(server.incarnation), dead, outside, itself, 0])
            }
            (2, Some(server)) => {
                let (used, size) =
                    server.journal.map_or((0, 0), |journal| (journal.end, journal.memory.bytes()));
                Ok([server.received, self.cpu_time(state), used, size, 0])
            }
            (3, _) => {
                let calls = count_in(&self.calls, |call| call.task == id || Some(call.server) == own);
                let sessions = count_in(&self.sessions, |session| Some(session.server) == own);
                let bound = self.tables.get(state.table).map_or(0, |table| table.bound);
                let handles =
                    (0..bound).filter(|slot| self.slot(state.table, *slot).object != Object::None).count();
                Ok([handles as u64, sessions, calls, 0, 0])
            }
            (4, Some(server)) => self.history_figures(server),
            (5, Some(server)) => {
                server.journal.ok_or(KernelError::WrongKind)?;
                let (digest, received) = server.digest.unwrap_or_default();
                Ok([digest, received, u64::from(server.digest.is_some()), 0, 0])
            }
            (6, Some(server)) => {
                let journal = server.journal.unwrap_or_default();
                Ok([
                    server.restart_ns,
                    journal.snapshots_made,
                    journal.snapshots_ns,
                    server.bytes_set_aside(),
                    0,
                ])
            }
            (7, Some(_)) => self.fall(own.ok_or(KernelError::WrongKind)?),
            (8, Some(_)) => self.upgrade_figures(own.ok_or(KernelError::WrongKind)?),
            (9, Some(server)) => Ok([server.epoch.number.into(), server.epoch.ended.into(), 0, 0, 0]),
            _ => Err(KernelError::BadArgument),
        }
    }

    fn cpu_time(&self, task: &Task) -> u64 {
        let mut sum = task.cpu_ns;
        let mut next = task.first_thread;
        while let Some(thread) = next.and_then(|thread| self.threads.get(thread)) {
            sum += thread.cpu_ns;
            next = thread.sibling.1;
        }
        sum
    }

    pub(crate) fn statistics(&mut self, [what, index, ..]: [u64; 6]) -> Outcome {
        match what {
            0 => {
                let [mapped, tables] = <[u32; 2]>::from(self.frames.used()).map(u64::from);
                Ok([u64::from(self.frames.count()), u64::from(self.frames.first().0), mapped, tables, 0])
            }
            1 => {
                let count = usize::try_from(index).ok().and_then(|index| self.enosys.get(index));
                Ok([count.copied().map_or(u64::MAX, u64::from), 0, 0, 0, 0])
            }
            2 => Ok([self.idle_ns, self.machine.now(), self.switches, self.traps, 0]),
            3 => self.objects(index),
            4 => Ok(self.outstanding(index)),
            5 | 6 => self.reproducer_figures(index, what == 6),
            7 => self.trace_figures(index),
            8 => self.remains.figures(index),
            _ => Err(KernelError::BadArgument),
        }
    }

    fn objects(&self, kind: u64) -> Outcome {
        let (used, capacity) = match kind {
            0 => (self.tasks.used(), self.tasks.capacity()),
            1 => (self.threads.used(), self.threads.capacity()),
            2 => (self.spaces.used(), self.spaces.capacity()),
            3 => (self.tables.used(), self.tables.capacity()),
            4 => (self.chunks.used(), self.chunks.capacity()),
            5 => (self.sessions.used(), self.sessions.capacity()),
            6 => (self.calls.used(), self.calls.capacity()),
            7 => (self.watchers.used(), self.watchers.capacity()),
            8 => (self.directories.used(), self.directories.capacity()),
            9 => (self.buffers.free.len() as u32 - self.buffers.count, self.buffers.free.len() as u32),
            10 => (self.handles_used(), self.chunks.capacity() * CHUNK_SLOTS),
            _ => return Err(KernelError::BadArgument),
        };
        Ok([u64::from(used), u64::from(capacity), 0, 0, 0])
    }

    /// Handles in all tables.
    pub(crate) fn handles_used(&self) -> u32 {
        let tables = (0..self.tables.bound()).filter_map(|index| self.tables.at(index));
        let slots = tables.flat_map(|table| {
            let bound = self.tables.get(table).map_or(0, |table| table.bound);
            (0..bound).map(move |slot| (table, slot))
        });
        slots.filter(|(table, slot)| self.slot(*table, *slot).object != Object::None).count() as u32
    }

    /// The call at an index of the arena: who waits for whom.
    fn outstanding(&self, index: u64) -> [u64; 5] {
        if index >= u64::from(self.calls.bound()) {
            return [u64::MAX, 0, 0, 0, 0];
        }
        let Some(call) = self.calls.at(index as u32).and_then(|id| self.calls.get(id)) else { return [0; 5] };
        let server = self.servers.get(call.server).map_or(0, |server| server.number);
        let held = u64::from(call.phase != Phase::Queued);
        let waits = u64::from(call.kind == CallKind::Native) << 1;
        let caller = self.tasks.get(call.task);
        let pid = caller.map_or(0, Task::pid);
        let tid = call.thread.and_then(|thread| self.threads.get(thread)).map_or(0, |thread| thread.tid);
        let number = caller.and_then(|task| self.servers.get(task.server?)).map(|server| server.number);
        let who = u64::from(pid) << 32 | u64::from(number.unwrap_or(tid));
        let what = if call.kind == CallKind::Foreign { call.number } else { call.label };
        [u64::from(server) | (held | waits) << 32, who, u64::from(what), call.since, 0]
    }
}
