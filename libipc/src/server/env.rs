//! What a step may ask while it runs: answers without effect.

use alloc::vec::Vec;
use core::{fmt, ops::Range};

use super::message::Message;
use crate::abi::delivery::Named;
use crate::abi::journal::Source;
use crate::abi::{CallId, Handle, KernelError, PAGE_SIZE, Readiness, UserRegisters};

/// Why bytes of a caller's memory could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseError {
    /// A page is not there yet. Return [`super::Effects::again`]: the event comes again when it is.
    NotResident,
    /// The address is not the caller's (EFAULT).
    BadAddress,
    /// The caller is gone; whatever is answered goes nowhere.
    Gone,
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LeaseError::NotResident => "a page of the caller is not there yet",
            LeaseError::BadAddress => "the address is not the caller's",
            LeaseError::Gone => "the caller is gone",
        })
    }
}

impl core::error::Error for LeaseError {}

/// A thread as its process server sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ThreadState {
    /// Its registers. For a thread in a call: as they were at the call.
    pub registers: UserRegisters,
    /// Its FPU and SSE state in FXSAVE form, 512 bytes.
    pub fpu: Vec<u8>,
}

/// An open file of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Descriptor {
    /// Its number.
    pub slot: u32,
    /// What is behind it.
    pub named: Named,
    /// Status flags as Linux numbers them.
    pub status: u32,
    /// It is closed by exec.
    pub close_on_exec: bool,
    /// The file offset.
    pub position: u64,
}

/// The outside as a step may see it.
pub trait Env {
    /// Nanoseconds since boot, the same throughout a step.
    fn now(&self) -> u64;

    /// A slot of the server's own capability space for an object about to be made.
    fn new_handle(&mut self) -> Handle;

    /// Bytes of the memory of the caller of a call being served; at most [`crate::abi::PAYLOAD_MAX`].
    fn read_user(&mut self, call: CallId, address: u64, length: u32) -> Result<Vec<u8>, LeaseError>;

    /// How many bytes of the memory of the caller of a call being served can be read from an address on, up to
    /// `length` (64 KiB at most) and the first page that is missing. It is never 0.
    fn probe_user(&mut self, call: CallId, address: u64, length: u32) -> Result<u64, LeaseError> {
        self.read_user(call, address, 1)?;
        Ok((PAGE_SIZE - address % PAGE_SIZE).min(u64::from(length)))
    }

    /// A question without effect to a lower server that never waits.
    fn ask(&mut self, server: Handle, message: &Message) -> Result<Message, KernelError>;

    /// Bytes of the arena; at most [`crate::abi::PAYLOAD_MAX`].
    fn read_arena(&mut self, offset: u64, length: u32) -> Vec<u8>;

    /// Bytes of a frame this server owns.
    fn read_frame(&mut self, frame: crate::abi::Frame, offset: u32, length: u32) -> Vec<u8>;

    /// The registers of a thread, and its FPU and SSE state.
    fn thread(&mut self, thread: Handle) -> Result<ThreadState, KernelError>;

    /// The registers of a thread, without its FPU and SSE state.
    fn registers(&mut self, thread: Handle) -> Result<UserRegisters, KernelError> {
        self.thread(thread).map(|state| state.registers)
    }

    /// A figure about a task: see [`crate::abi::syscall::Syscall::TaskInfo`].
    fn task_info(&mut self, task: Handle, what: TaskFigure) -> Result<[u64; 4], KernelError>;

    /// The checksum of a part of another server's history, continued from `start`; at most 64 KiB at once.
    fn journal_sum(
        &mut self,
        task: Handle,
        source: Source,
        part: Range<u64>,
        start: u64,
    ) -> Result<u64, KernelError>;

    /// A counter of the kernel.
    fn statistic(&mut self, what: Statistic, index: u64) -> [u64; 4];

    /// Watches a descriptor of the caller for a call being served (until its reply), and says what it is ready for
    /// now.
    fn watch(
        &mut self,
        call: CallId,
        descriptor: u32,
        readiness: Readiness,
    ) -> Result<Readiness, KernelError>;

    /// Watches the session behind a descriptor of the caller of a call being served, until it goes or
    /// [`super::Operation::WatchEnd`]: [`super::Event::Watched`] tells of it by the cookie. Answers what it is
    /// ready for now, and the watch. It happens at once, as below. `WrongKind` for what is always ready.
    fn keep_watch(
        &mut self,
        call: CallId,
        descriptor: u32,
        cookie: u64,
        readiness: Readiness,
    ) -> Result<(Readiness, u64), KernelError>;

    /// Changes what a kept watch waits for, at once, and says which of it its session is ready for now.
    fn change_watch(&mut self, watch: u64, readiness: Readiness) -> Result<Readiness, KernelError>;

    /// What is behind a directory of a task ([`crate::abi::syscall::descriptor_slot`]), or behind its first descriptor
    /// from a number on. `BadArgument` when there is none.
    fn descriptor(&mut self, task: Handle, slot: u32) -> Result<Descriptor, KernelError>;

    /// Becomes a holder of what is behind a descriptor of the caller of a call being served: a handle, and what it
    /// names. It happens at once, so the step must not end in [`super::Effects::again`] any more; a handle that is not
    /// kept after all is given back with an effect.
    fn take_descriptor(&mut self, call: CallId, descriptor: u32)
    -> Result<(Handle, Descriptor), KernelError>;

    /// Makes a handle's session the caller's lowest free descriptor, and tells its number. It happens at once, as
    /// above; the handle stays this server's. `SlotInUse` when the caller may have no more descriptors.
    fn give_descriptor(
        &mut self,
        call: CallId,
        handle: Handle,
        close_on_exec: bool,
    ) -> Result<u32, KernelError>;

    /// Reads an I/O port. The value is recorded, since reading may change the device.
    fn port_in(&mut self, port: u16, width: u8) -> u32;
}

/// Figures about a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum TaskFigure {
    /// CPU time of its threads: user ns, and ns of servers working for it; most pages that it had mapped at a time.
    CpuTime = 0,
    /// Server: incarnation, state (0 running, 1 dead), deaths from outside, deaths by itself.
    Incarnation = 1,
    /// Server: messages received, CPU ns, journal bytes used, journal bytes in all.
    Activity = 2,
    /// Objects it holds: handles, sessions, calls outstanding, frames.
    Holdings = 3,
    /// Journaled server: snapshots made, bytes of the last, bytes of the journal since, and 1 if it waits for a
    /// message.
    History = 4,
    /// Journaled server: the digest it told last, how many messages it had received then, and 1 if it ever told one.
    Digest = 5,
    /// Server: how long its last restart took, in ns, from its death until it asked for its next event (0 while it is
    /// under way); snapshots made, and how long all of them took, in ns; bytes of memory that are set aside for it.
    Recovery = 6,
    /// Server: how it died; see [`crate::abi::crash::Fall`]; the number of waiting calls is left out here.
    Fall = 7,
    /// Server: how far its upgrade has come ([`crate::abi::upgrade::Stage`], 0 for none) and what came of the last
    /// one << 8 ([`crate::abi::upgrade::Verdict`]); [`crate::abi::upgrade::ImageFigures`]; how often it was upgraded;
    /// bytes of the image handed in.
    Upgrade = 8,
    /// Journaled server: how often it was recovered inexactly, and how much that it did not know has been ended since.
    Epoch = 9,
}

/// Counters of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Statistic {
    /// Frames: all that can be given out, those before the first of them, mapped ones, page tables.
    Frames = 0,
    /// How often a foreign call with the number `index` had no implementation.
    Enosys = 1,
    /// Idle ns, ns since boot, context switches, traps.
    Cpu = 2,
    /// Objects in use and possible: index is the kind.
    Objects = 3,
    /// An outstanding call, by arena index: server number, in its high half 1 if in progress and 2 if its caller is a
    /// server that does nothing else until it is answered; caller pid << 32 | tid, or a server's number; label; since
    /// ns. All zero when there is none; value 0 is u64::MAX past the last.
    Waits = 4,
    /// A death that was of an event its server had died of before, by place: its number and the server's << 32 (0 for
    /// none, u64::MAX past the last place); incarnation; [`crate::abi::crash::Fault`], kind of event << 8 and
    /// [`crate::abi::crash::Disposition`] << 16; messages received.
    Crash = 5,
    /// Of the same: bytes of snapshot and of journal that are kept, snapshots made, a word about the fault.
    CrashKept = 6,
    /// The trace: 1 if it is on and 2 if a host reads along, the oldest position that is there and the one behind the
    /// newest record, records dropped; with index 1 the ring's bytes.
    Trace = 7,
    /// The core of a dead server that is kept at a place: its number, the server's in the high half; the incarnation;
    /// its length. Zeroes for none, and all bits behind the last place.
    Core = 8,
}
