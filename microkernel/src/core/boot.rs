//! Putting the kernel together: memory that the machine has set aside becomes arenas.

use libipc::abi::foreign::{LINUX_CALLS, Role};
use libipc::abi::{Badge, Frame, KernelError, Rights};

use super::arena::{Arena, List, Slot};
use super::crash::Reproducers;
use super::frames::{FrameInfo, Frames};
use super::jitter::Jitter;
use super::machine::Machine;
use super::object::*;
use super::remains::Remains;
use super::trace::{RingMemory, Trace};
use super::user_memory::Walks;
use super::{Buffers, Kernel, PRIORITIES};

/// How much CPU root may use for one event; the start of the system is one.
const ROOT_PATIENCE_NS: u64 = 30_000_000_000;

/// How many objects of each kind there are.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Sizes {
    pub tasks: u32,
    pub threads: u32,
    pub spaces: u32,
    pub tables: u32,
    pub chunks: u32,
    pub sessions: u32,
    pub calls: u32,
    pub watchers: u32,
    pub servers: u32,
    pub buffers: u32,
}

impl Sizes {
    /// What suits a machine with so many frames: about one task per 32 frames, within bounds.
    pub fn for_frames(frames: u32) -> Sizes {
        let tasks = (frames / 24).clamp(128, 16384);
        Sizes {
            tasks,
            threads: tasks + tasks / 2,
            spaces: tasks,
            tables: tasks,
            chunks: tasks / 2,
            sessions: tasks * 4,
            calls: tasks * 2,
            watchers: tasks * 2,
            servers: 48,
            buffers: (frames / 256).clamp(48, 1024),
        }
    }
}

/// Memory of the kernel's own, as the machine set it aside.
#[allow(missing_docs)]
pub struct Memory {
    pub tasks: &'static mut [Slot<Task>],
    pub threads: &'static mut [Slot<Thread>],
    pub spaces: &'static mut [Slot<Space>],
    pub tables: &'static mut [Slot<Table>],
    pub directories: &'static mut [Slot<Directories>],
    pub rows: &'static mut [Slot<ChunkRow>],
    pub chunks: &'static mut [Slot<Chunk>],
    pub sessions: &'static mut [Slot<Session>],
    pub calls: &'static mut [Slot<Call>],
    pub watchers: &'static mut [Slot<Watcher>],
    pub servers: &'static mut [Slot<Server>],
    pub buffers: &'static mut [u32],
    pub enosys: &'static mut [u32; LINUX_CALLS as usize],
    pub frames: &'static mut [FrameInfo],
    pub ring: RingMemory,
}

impl<M: Machine> Kernel<M> {
    /// A kernel with nothing in it. `first` is the first frame that `memory.frames` speaks of; `kept` is where the
    /// payload buffers lie.
    pub fn new(machine: M, memory: Memory, first: Frame, kept: FrameRange) -> Kernel<M> {
        for (index, place) in memory.buffers.iter_mut().enumerate() {
            *place = index as u32;
        }
        let count = memory.buffers.len() as u32;
        Kernel {
            machine,
            frames: Frames::new(first, memory.frames),
            tasks: Arena::new(memory.tasks),
            threads: Arena::new(memory.threads),
            spaces: Arena::new(memory.spaces),
            tables: Arena::new(memory.tables),
            directories: Arena::new(memory.directories),
            rows: Arena::new(memory.rows),
            chunks: Arena::new(memory.chunks),
            sessions: Arena::new(memory.sessions),
            calls: Arena::new(memory.calls),
            watchers: Arena::new(memory.watchers),
            servers: Arena::new(memory.servers),
            buffers: Buffers { memory: kept, free: memory.buffers, count },
            queues: [List::EMPTY; PRIORITIES as usize],
            ready: 0,
            current: None,
            since: 0,
            chosen: None,
            next_deadline: u64::MAX,
            next_watch: u64::MAX,
            next_account: u64::MAX,
            fails_at: u64::MAX,
            jitter: Jitter::NONE,
            armed: u64::MAX,
            sequence: 0,
            roles: [None; Role::COUNT as usize],
            interrupts: [None; 32],
            root: None,
            doomed: 0,
            unusual: 0,
            trace: Trace::new(memory.ring),
            walks: Walks::NONE,
            reproducers: Reproducers::default(),
            remains: Remains::default(),
            upgrade: None,
            off: None,
            enosys: memory.enosys,
            switches: 0,
            traps: 0,
            idle_ns: 0,
            epoch_s: 0,
            counter: (0, 0),
            seed: 0,
            #[cfg(test)]
            short: (false, 0),
        }
    }

    /// Makes root's task over a top table that the machine has filled already. It owns every frame in `free`.
    pub fn make_root(&mut self, top: Frame, journaled: bool) -> Result<(TaskId, ServerId), KernelError> {
        let nobody = ServerId::from_word(0);
        let space = Space::new(top, nobody, Badge(0));
        let space = self.spaces.insert(space).map_err(|_| KernelError::Exhausted)?;
        self.frames.mark_table(top, true);
        let task = self.new_server(space, 1, journaled)?;
        self.root = Some(task);
        self.put(task, 0, Object::Space(space), Rights::all())?;
        self.put(task, 1, Object::Task(task), Rights::all())?;
        let server = self.tasks.get(task).and_then(|task| task.server).ok_or(KernelError::BadHandle)?;
        if let Some(state) = self.servers.get_mut(server) {
            state.first_free = 2;
            // Root looks at the PCI bus to hand its devices out.
            state.devices.ports[0] = (0xcf8, 8);
        }
        Ok((task, server))
    }

    /// Root's server object, to be given its memory at boot.
    pub fn boot_server(&mut self, id: ServerId) -> Option<&mut Server> {
        self.servers.get_mut(id)
    }

    /// Starts root.
    pub fn start_root(&mut self, id: ServerId, entry: u64, stack: u64) -> Result<(), KernelError> {
        self.first_start(id, entry, stack, 20, ROOT_PATIENCE_NS)
    }
}
