//! The kernel core: one value, [`Kernel`], with one entry, [`Kernel::trap`]: a trap in, what to resume out.
//!
//! It owns every kernel object and decides everything; it forbids unsafe code, never allocates and never waits. The
//! machine is reached through [`Machine`] alone, so the same core runs on the host over an emulated one. An operation
//! first checks everything and then changes everything: one that returns an error has changed nothing.

pub mod account;
pub mod arena;
mod blank;
pub mod boot;
mod call;
mod command_line;
mod crash;
mod death;
mod deliver;
mod descriptor;
mod device;
mod doom;
mod fault;
mod foreign;
pub mod frames;
mod handles;
mod history;
#[cfg(not(target_os = "none"))]
pub mod host;
mod inbox;
mod ipc;
pub mod jitter;
pub mod journal;
mod lease;
pub mod load;
pub mod machine;
mod mend;
mod native;
pub mod object;
mod pmap;
mod poison;
mod process;
mod quota;
mod remains;
mod reply;
mod sched;
mod server;
mod session;
mod short;
mod statistics;
mod sweep;
#[cfg(test)]
mod tests;
pub mod trace;
mod upgrade;
mod user_memory;
pub mod watchdog;

use libipc::abi::KernelError;
use libipc::abi::foreign::{LINUX_CALLS, Role};

use arena::{Arena, List};
use frames::Frames;
pub use machine::Machine;
use object::*;

/// Result of a native system call before it is put into registers: up to five values.
pub type Outcome = Result<[u64; 5], KernelError>;

/// Why the kernel was entered. The registers of the thread that ran are in its [`Thread`] already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trap {
    /// A system call instruction.
    Call,
    /// A page fault at an address; access in [`libipc::abi::Protection`] bits.
    PageFault {
        /// Where.
        address: u64,
        /// What was tried.
        access: u8,
    },
    /// Another exception.
    Exception {
        /// Its vector.
        vector: u8,
        /// Its error code.
        code: u64,
    },
    /// The timer went off.
    Timer,
    /// A device's interrupt line.
    Interrupt(u8),
}

/// What the machine does next. It is all that comes out of the core.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Resume {
    /// Run this thread.
    Thread(ThreadId),
    /// Wait for an interrupt.
    Idle,
    /// The machine ends: status, and whether it starts again.
    Off {
        /// What is told to the outside.
        status: u32,
        /// Reset instead of off.
        reboot: bool,
    },
}

/// Run queues: one per priority.
pub const PRIORITIES: u32 = 32;

/// The whole state of the kernel.
pub struct Kernel<M: Machine> {
    /// The machine.
    pub machine: M,
    /// Frames.
    pub frames: Frames,
    pub(crate) tasks: Arena<Task>,
    /// Threads.
    pub threads: Arena<Thread>,
    /// Address spaces.
    pub spaces: Arena<Space>,
    pub(crate) tables: Arena<Table>,
    pub(crate) directories: Arena<Directories>,
    pub(crate) rows: Arena<ChunkRow>,
    pub(crate) chunks: Arena<Chunk>,
    pub(crate) sessions: Arena<Session>,
    pub(crate) calls: Arena<Call>,
    pub(crate) watchers: Arena<Watcher>,
    pub(crate) servers: Arena<Server>,
    /// Payload buffers of calls under way.
    pub(crate) buffers: Buffers,
    pub(crate) queues: [List; PRIORITIES as usize],
    /// One bit per queue that is not empty.
    pub(crate) ready: u32,
    pub(crate) current: Option<ThreadId>,
    /// A ready thread before all that are queued, with its priority.
    pub(crate) chosen: Option<(ThreadId, u8)>,
    /// When the current thread began to run.
    pub(crate) since: u64,
    /// The earliest deadline of a server, or the watchdog's.
    pub(crate) next_deadline: u64,
    /// When the watchdog looks; never while nobody runs.
    pub(crate) next_watch: u64,
    /// When it is time to look for calls that are held for long; never while nothing has been done since the last time.
    pub(crate) next_account: u64,
    /// When it is to fail; see [`watchdog::fails_at`].
    pub fails_at: u64,
    /// What the seed of this run makes of slices and deadlines.
    pub jitter: jitter::Jitter,
    /// What the machine's timer is set to.
    pub(crate) armed: u64,
    pub(crate) sequence: u64,
    /// The last walks through page tables.
    pub(crate) walks: user_memory::Walks,
    /// The servers of the Linux personality.
    pub(crate) roles: [Option<ServerId>; Role::COUNT as usize],
    /// The server bound to each interrupt line, and its notification bit.
    pub(crate) interrupts: [Option<(ServerId, u8)>; 32],
    pub(crate) root: Option<TaskId>,
    /// How many servers have an end set for them.
    pub(crate) doomed: u32,
    /// What makes messages take another way than the shortest ([`trace::DOOMED`] and so on).
    pub(crate) unusual: u8,
    /// What is recorded of all that happens.
    pub trace: trace::Trace,
    /// What servers died of again.
    pub(crate) reproducers: crash::Reproducers,
    /// What is left of servers that have died.
    pub(crate) remains: remains::Remains,
    /// The upgrade under way.
    pub(crate) upgrade: Option<upgrade::Upgrade>,
    pub(crate) off: Option<(u32, bool)>,
    /// For tests: the short way is closed, and how often it was taken.
    #[cfg(test)]
    pub(crate) short: (bool, u32),
    /// How often each foreign call was not there.
    pub(crate) enosys: &'static mut [u32; LINUX_CALLS as usize],
    pub(crate) switches: u64,
    pub(crate) traps: u64,
    pub(crate) idle_ns: u64,
    /// Seconds of the Epoch at boot.
    pub epoch_s: u64,
    /// The counter programs read: where it stood at boot, and nanoseconds per count as 32.32 fixed point; or 0.
    pub counter: (u64, u64),
    /// Entropy gathered at boot.
    pub seed: u64,
}

/// Kernel-owned payload blocks, each two frames.
pub struct Buffers {
    /// Where they lie.
    pub memory: FrameRange,
    /// Free ones: indices.
    pub free: &'static mut [u32],
    /// How many of `free` count.
    pub count: u32,
}

impl<M: Machine> Kernel<M> {
    /// The one entry: something happened; what runs next?
    pub fn trap(&mut self, trap: Trap) -> Resume {
        self.traps += 1;
        let mut ready = self.ready;
        match trap {
            Trap::Call => match self.system_call() {
                Ok(thread) => return Resume::Thread(thread),
                Err(before) => ready = before,
            },
            Trap::PageFault { address, access } => self.page_fault(address, access),
            Trap::Exception { vector, code } => self.exception(vector, code),
            Trap::Timer => {
                self.armed = u64::MAX;
                self.timer_tick();
            }
            Trap::Interrupt(line) => self.interrupt(line),
        }
        self.resume(ready)
    }

    /// The entry of system calls while nothing is unusual (the machine looks at `unusual` before), after most of which
    /// it is clear who runs, and the machine is ready for that: `None` then. It is [`Kernel::trap`] without the detour.
    #[inline]
    pub fn call(&mut self) -> Option<Resume> {
        self.traps += 1;
        self.serve::<true, false>().err().map(|ready| self.resume(ready))
    }

    /// The same while everything is traced, and nothing else is unusual.
    #[inline]
    pub fn traced_call(&mut self) -> Option<Resume> {
        self.traps += 1;
        self.serve::<true, true>().err().map(|ready| self.resume(ready))
    }

    /// Serves the current thread's system call, in whatever way is open to it. The thread that simply runs on then,
    /// which need not be the same any more: the machine is ready for it. Or which queues had somebody waiting before.
    fn system_call(&mut self) -> Result<ThreadId, u32> {
        match self.unusual {
            0 => self.serve::<true, false>(),
            trace::TRACED => self.serve::<true, true>(),
            _ => self.serve::<false, true>(),
        }
    }

    /// Serves it, on the short way if that is tried and open to it; there the trace is told when it wants to know.
    #[inline(always)]
    fn serve<const SHORT: bool, const TRACE: bool>(&mut self) -> Result<ThreadId, u32> {
        let Some(thread) = self.current else { return Err(self.ready) };
        let Some(state) = self.threads.get(thread) else { return Err(self.ready) };
        let (task, number) = (state.task, state.registers.rax);
        let ready;
        match state.server {
            Some(server) => {
                if SHORT && self.short_native_call::<TRACE>(thread, number).is_some() {
                    return self.current.ok_or(self.ready);
                }
                ready = self.ready;
                self.native_call(ipc::Caller { thread, task, server });
                self.count_down(server);
            }
            None => {
                if SHORT && self.short_foreign_call::<TRACE>(thread, task, number).is_some() {
                    return self.current.ok_or(self.ready);
                }
                ready = self.ready;
                self.foreign_call(thread, task);
            }
        }
        if self.runs_on(thread, ready) { Ok(thread) } else { Err(ready) }
    }

    /// The name of the thread that runs or was last to.
    pub fn current(&self) -> Option<ThreadId> {
        self.current
    }

    /// How a thread is to be described in an epitaph: server or process number, thread id.
    pub fn describe(&self, thread: ThreadId) -> (u32, u32, u32) {
        let Some(state) = self.threads.get(thread) else { return (0, 0, 0) };
        let Some(task) = self.tasks.get(state.task) else { return (0, 0, 0) };
        let server = task.server.and_then(|id| self.servers.get(id)).map_or(0, |server| server.number);
        (server, task.pid(), state.tid)
    }
}
