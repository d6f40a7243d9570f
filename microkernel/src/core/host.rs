//! What a host that runs the core over an emulated machine may do besides trapping: doom a server, count objects, and
//! take a kernel apart again, so that one process can run thousands of them.

use libipc::abi::foreign::LINUX_CALLS;
use libipc::abi::upgrade::Verdict;
use libipc::abi::{Doom, Injection, Moment};

use super::Kernel;
use super::boot::Memory;
use super::machine::Machine;
use super::object::{CallKind, FrameRange, Phase};

/// Objects and frames in use, by kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[allow(missing_docs)]
pub struct Used {
    pub tasks: u32,
    pub threads: u32,
    pub spaces: u32,
    pub tables: u32,
    pub directories: u32,
    pub handles: u32,
    pub sessions: u32,
    pub calls: u32,
    pub watchers: u32,
    pub buffers: u32,
    pub mapped_frames: u32,
    pub table_frames: u32,
}

/// What is known of a server from outside.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fate {
    /// Starts so far.
    pub incarnation: u32,
    /// Deaths from outside, and by its own fault.
    pub deaths: [u32; 2],
    /// Messages received.
    pub received: u64,
    /// Snapshots made; none for a reissued server.
    pub snapshots: u64,
    /// Where the next record of its journal will lie.
    pub journal_end: u64,
    /// It has a journal.
    pub journaled: bool,
    /// It is being answered from its journal.
    pub replays: bool,
    /// Its message buffer.
    pub buffer: FrameRange,
}

/// A call that somebody waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    /// The server that has it.
    pub server: u32,
    /// The server has received it.
    pub held: bool,
    /// Who called: the number of a server (0 for a program), process and thread.
    pub caller: (u32, u32, u32),
    /// It is a program's system call.
    pub foreign: bool,
    /// Label of the message, or number of the program's call.
    pub what: u32,
    /// When it was made.
    pub since_ns: u64,
}

impl<M: Machine> Kernel<M> {
    /// Dooms a server to die, as if killed, right after so many more traps of its own. Whether there is one.
    pub fn doom(&mut self, number: u32, traps: u64) -> bool {
        let mut servers = (0..self.servers.bound()).filter_map(|index| self.servers.at(index));
        let found = servers.find(|id| self.servers.get(*id).is_some_and(|server| server.number == number));
        let Some(server) = found else { return false };
        self.set_doom(server, Some(Doom { moment: Moment::Traps(traps), fault: Injection::Kill }));
        true
    }

    /// Has a server sweep when it is next live, as if its recovery were inexact.
    pub fn have_swept(&mut self, number: u32) {
        let mut servers = (0..self.servers.bound()).filter_map(|index| self.servers.at(index));
        let found = servers.find(|id| self.servers.get(*id).is_some_and(|server| server.number == number));
        if let Some(server) = found {
            self.raise_epoch(server);
        }
    }

    /// Hands in an image for a server, as if another with an arena did. Whether it was taken.
    pub fn hand_in(&mut self, by: u32, number: u32, image: &[u8]) -> bool {
        let find = |number| {
            let mut servers = (0..self.servers.bound()).filter_map(|index| self.servers.at(index));
            servers.find(|id| self.servers.get(*id).is_some_and(|server| server.number == number))
        };
        let (Some(by), Some(server)) = (find(by), find(number)) else { return false };
        let arena = self.servers.get(by).map_or(FrameRange::EMPTY, |server| server.arena);
        let bytes = image.len() as u64;
        if bytes > arena.bytes() || self.begin_upgrade(server, by, 0, bytes).is_err() {
            return false;
        }
        self.machine.bytes(arena, 0, bytes).copy_from_slice(image);
        true
    }

    /// How often a server was upgraded, and what came of the last try.
    pub fn upgrades(&self, number: u32) -> (u32, Option<Verdict>) {
        let mut servers =
            (0..self.servers.bound()).filter_map(|index| self.servers.get(self.servers.at(index)?));
        let server = servers.find(|server| server.number == number);
        server.map_or((0, None), |server| (server.upgrades, server.verdict))
    }

    /// How a server has fared.
    pub fn fate(&self, number: u32) -> Option<Fate> {
        let mut servers =
            (0..self.servers.bound()).filter_map(|index| self.servers.get(self.servers.at(index)?));
        let server = servers.find(|server| server.number == number)?;
        let (journal, journaled) = (server.journal.unwrap_or_default(), server.journal.is_some());
        Some(Fate {
            journaled,
            incarnation: server.incarnation,
            deaths: server.deaths,
            received: server.received,
            snapshots: journal.snapshots_made,
            journal_end: journal.end,
            replays: journal.cursor.is_some(),
            buffer: server.buffer,
        })
    }

    /// The bytes that a server would be started again from, if it has made a snapshot.
    pub fn snapshot(&mut self, number: u32) -> &mut [u8] {
        let mut servers = (0..self.servers.bound()).filter_map(|index| self.servers.at(index));
        let found = servers.find(|id| self.servers.get(*id).is_some_and(|server| server.number == number));
        let journal = found.and_then(|id| self.servers.get(id)?.journal).unwrap_or_default();
        self.machine.bytes(journal.snapshots, journal.place_offset(journal.active), journal.sound_bytes)
    }

    /// How many objects of each kind there are.
    pub fn used(&self) -> Used {
        let (mapped_frames, table_frames) = self.frames.used();
        Used {
            tasks: self.tasks.used(),
            threads: self.threads.used(),
            spaces: self.spaces.used(),
            tables: self.tables.used(),
            directories: self.directories.used(),
            handles: self.handles_used(),
            sessions: self.sessions.used(),
            calls: self.calls.used(),
            watchers: self.watchers.used(),
            buffers: self.buffers.free.len() as u32 - self.buffers.count,
            mapped_frames,
            table_frames,
        }
    }

    /// Appends what has been traced since a position, and moves that on.
    pub fn take_trace(&self, position: &mut u64, to: &mut Vec<u8>) {
        let ring = &self.trace.ring;
        let from = to.len();
        to.resize(from + ring.end().saturating_sub(*position) as usize, 0);
        ring.copy_out(*position, &mut to[from..]);
        *position = ring.end();
    }

    /// Who waits for whom.
    pub fn outstanding_calls(&self) -> impl Iterator<Item = Wait> {
        let calls = (0..self.calls.bound()).filter_map(|index| self.calls.get(self.calls.at(index)?));
        calls.map(|call| {
            let number = |server| self.servers.get(server).map_or(0, |server| server.number);
            let task = self.tasks.get(call.task);
            let pid = task.map_or(0, |task| task.pid());
            let tid = call.thread.and_then(|thread| self.threads.get(thread)).map_or(0, |thread| thread.tid);
            let own = task.and_then(|task| task.server).map_or(0, number);
            Wait {
                server: number(call.server),
                held: call.phase == Phase::Held,
                caller: (own, pid, tid),
                foreign: call.kind == CallKind::Foreign,
                what: if call.kind == CallKind::Foreign { call.number } else { call.label },
                since_ns: call.since,
            }
        })
    }

    /// Takes the kernel apart: its memory, empty, for the next one, and its machine.
    pub fn into_memory(self) -> (Memory, M) {
        *self.enosys = [0; LINUX_CALLS as usize];
        let memory = Memory {
            tasks: self.tasks.into_slots(),
            threads: self.threads.into_slots(),
            spaces: self.spaces.into_slots(),
            tables: self.tables.into_slots(),
            directories: self.directories.into_slots(),
            rows: self.rows.into_slots(),
            chunks: self.chunks.into_slots(),
            sessions: self.sessions.into_slots(),
            calls: self.calls.into_slots(),
            watchers: self.watchers.into_slots(),
            servers: self.servers.into_slots(),
            buffers: self.buffers.free,
            enosys: self.enosys,
            frames: self.frames.into_info(),
            ring: self.trace.ring.into_memory(),
        };
        (memory, self.machine)
    }
}
