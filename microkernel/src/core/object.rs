//! The kernel's objects as data. What is done with them stands in the files named after what is done.

use bitflags::bitflags;
use libipc::abi::crash::Fault;
use libipc::abi::upgrade::{ImageFigures, Verdict};
use libipc::abi::{Badge, Doom, Frame, Handle, Readiness, Rights, TaskWord, UserRegisters};

use super::account::{Account, Faulted};
use super::arena::{Id, Link, Linked, List};
pub use super::call::{Call, CallKind, Phase, signal};
use super::device::Devices;
use super::journal::Journal;
use super::quota::Holdings;
use super::sweep::Epoch;
use super::watchdog::Watched;
use crate::window::Window;

/// Name of a task.
pub type TaskId = Id<Task>;
/// Name of a server.
pub type ServerId = Id<Server>;
/// Name of a thread.
pub type ThreadId = Id<Thread>;
/// Name of an address space.
pub type SpaceId = Id<Space>;
/// Name of a session.
pub type SessionId = Id<Session>;
/// Name of a call.
pub type CallRef = Id<Call>;
/// Name of a descriptor table.
pub type TableId = Id<Table>;
/// Name of a pair of directories.
pub type DirectoriesId = Id<Directories>;
/// Name of a watch.
pub type WatchId = Id<Watcher>;

/// What a handle names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Object {
    /// Nothing.
    None,
    /// A session, as one who calls through it; counted.
    Session(SessionId),
    /// A session, as the server that made it; not counted.
    OwnSession(SessionId),
    /// A server's inbox, called without a session.
    Inbox(ServerId),
    /// A task.
    Task(TaskId),
    /// A thread.
    Thread(ThreadId),
    /// An address space.
    Space(SpaceId),
}

/// A place in a table or capability space.
#[derive(Clone, Copy, Debug)]
pub struct HandleSlot {
    /// What it names.
    pub object: Object,
    /// What may be done with it.
    pub rights: Rights,
    /// Closed by exec.
    pub close_on_exec: bool,
}

impl HandleSlot {
    /// Free.
    pub const EMPTY: HandleSlot =
        HandleSlot { object: Object::None, rights: Rights::empty(), close_on_exec: false };
}

/// Slots in a chunk.
pub const CHUNK_SLOTS: u32 = 64;
/// Chunks a table can have: 65,536 slots.
pub const TABLE_CHUNKS: u32 = 1024;

/// A block of slots.
pub struct Chunk {
    /// The slots.
    pub slots: [HandleSlot; CHUNK_SLOTS as usize],
    /// One bit for each that is in use or reserved.
    pub taken: u64,
}

/// A block of a table's directory: names of chunks.
pub type ChunkRow = [Option<Id<Chunk>>; 32];

/// A handle table: the descriptors of a program, or a server's capability space.
pub struct Table {
    /// Tasks that use it.
    pub users: u32,
    /// No slot below this is free.
    pub lowest_free: u32,
    /// One past the highest slot ever used.
    pub bound: u32,
    /// The lowest slots, which most tables need alone.
    pub first: Chunk,
    /// The other chunks: 32 rows of 32, of which the very first is not used.
    pub rows: [Option<Id<ChunkRow>>; 32],
}

/// Working directory and root directory of one or more tasks.
pub struct Directories {
    /// Tasks that use them.
    pub users: u32,
    /// Working directory, root directory.
    pub sessions: [Option<SessionId>; 2],
    /// File mode creation mask.
    pub umask: u32,
}

/// What a task runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Personality {
    /// Native system calls: a server.
    Native,
    /// Linux system calls.
    Linux,
}

/// A task: a program's process or a server.
pub struct Task {
    /// What system calls it makes.
    pub personality: Personality,
    /// Its address space.
    pub space: SpaceId,
    /// Descriptors of a program, capabilities of a server.
    pub table: TableId,
    /// Directories of a program.
    pub directories: Option<DirectoriesId>,
    /// The words of [`TaskWord`].
    pub words: [u32; TaskWord::COUNT as usize],
    /// Its threads, linked through [`Thread::sibling`].
    pub first_thread: Option<ThreadId>,
    /// CPU time of ended threads.
    pub cpu_ns: u64,
    /// Most pages that were mapped at a time in spaces it has left.
    pub peak_pages: u32,
    /// The server's part.
    pub server: Option<ServerId>,
    /// The server that made it, for a program's.
    pub maker: Option<ServerId>,
}

impl Task {
    /// Its process id; 0 for a server.
    #[inline]
    pub fn pid(&self) -> u32 {
        self.words[TaskWord::Pid as usize]
    }
}

/// A range of frames in one piece.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameRange {
    /// The first.
    pub first: Frame,
    /// How many.
    pub count: u32,
}

impl FrameRange {
    /// No frames.
    pub const EMPTY: FrameRange = FrameRange { first: Frame(0), count: 0 };

    /// Its size in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.count) * libipc::abi::PAGE_SIZE
    }
}

/// Writable memory of a server, as a restart makes it again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Segment {
    /// Where it lies in the server.
    pub address: u64,
    /// Its pages.
    pub pages: u32,
    /// The pristine contents of the first bytes; the rest is zero.
    pub pristine: FrameRange,
    /// How many bytes of `pristine` count.
    pub bytes: u32,
}

impl Segment {
    /// No memory.
    pub const EMPTY: Segment = Segment { address: 0, pages: 0, pristine: FrameRange::EMPTY, bytes: 0 };
}

/// Segments a server can have: data, heap, stack, and a spare.
pub const SEGMENTS: u32 = 4;

/// The state of a server task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerState {
    /// Made, not started.
    Embryo,
    /// It runs, or can.
    Alive,
    /// It has failed and waits for its restart.
    Dead,
    /// It failed for good: calls to it fail at once.
    Gone,
}

/// What a server died of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fell {
    /// How.
    pub fault: Fault,
    /// An address, a vector: a word about it.
    pub detail: u64,
    /// The instruction.
    pub at: u64,
}

/// What makes a task a server.
pub struct Server {
    /// Its task.
    pub task: TaskId,
    /// Its capability space: its task's table, for as long as it lives.
    pub table: TableId,
    /// Its number in the manifest, plus one.
    pub number: u32,
    /// Its one thread.
    pub thread: Option<ThreadId>,
    /// Its state.
    pub state: ServerState,
    /// Starts so far.
    pub incarnation: u32,
    /// Deaths from outside and by itself.
    pub deaths: [u32; 2],
    /// Its message buffer.
    pub buffer: FrameRange,
    /// The same, for messages.
    pub message: Window,
    /// Its arena.
    pub arena: FrameRange,
    /// Its journal, for a journaled server.
    pub journal: Option<Journal>,
    /// What a restart fills again.
    pub segments: [Segment; SEGMENTS as usize],
    /// Where it starts.
    pub entry: u64,
    /// Its first stack pointer.
    pub stack: u64,
    /// Calls that wait to be received.
    pub calls: List,
    /// Calls with something to say: answers, cancellations, ready and watch events.
    pub events: List,
    /// Sessions whose last holder has gone.
    pub closes: List,
    /// Kept watches that have something to tell.
    pub watched: List,
    /// Notification bits.
    pub bits: u64,
    /// When its timer goes off.
    pub deadline: u64,
    /// What it may use of the machine.
    pub devices: Devices,
    /// First slot that it chooses itself.
    pub first_free: u32,
    /// How often it was recovered inexactly, and the sweep that follows.
    pub epoch: Epoch,
    /// The end that is set for it.
    pub doom: Option<Doom>,
    /// It has been made to run into a fault: its instruction and stack pointer before that.
    pub struck: Option<(u64, u64)>,
    /// When it died, until the next incarnation is live.
    pub died_ns: Option<u64>,
    /// How long its last restart took, from its death until it asked for its next event; 0 while it is under way.
    pub restart_ns: u64,
    /// Messages received.
    pub received: u64,
    /// Its thread waits for an event.
    pub waiting: bool,
    /// The digest of its state that it told last, and how many messages it had received then.
    pub digest: Option<(u64, u64)>,
    /// What it died of last, if it did so itself.
    pub fell: Option<Fell>,
    /// Messages received before this incarnation.
    pub began_at: u64,
    /// How much CPU it may use for one event.
    pub patience_ns: u64,
    /// What the watchdog saw last.
    pub watched_at: Watched,
    /// When it was asked to account for itself.
    pub account: Account,
    /// How many messages it had received when it died of itself last, and how often it has done so since that message.
    pub falls: (u64, u32),
    /// What it owns and may own.
    pub holdings: Holdings,
    /// What is known of the image it runs in.
    pub image: ImageFigures,
    /// How often it was upgraded, and what came of the last try.
    pub upgrades: u32,
    /// See `upgrades`.
    pub verdict: Option<Verdict>,
}

/// What a thread is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ThreadState {
    /// Made, not started.
    Embryo,
    /// Wants the CPU or has it.
    Runnable,
    /// A server waiting for an event.
    Receiving,
    /// Waits for the answer to its call.
    Calling(CallRef),
}

/// What kind of registers a thread's last entry left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Entry {
    /// A system call: rcx and r11 are scratch.
    Call = 0,
    /// An interrupt or fault: every register counts.
    Interrupt = 1,
}

bitflags! {
    /// When a thread comes to its process server, and what it does before.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct Attention: u8 {
        /// Before it next runs.
        const NOW = 1;
        /// When its call is over.
        const AFTER_CALL = 2;
        /// Before and after each call.
        const EACH_CALL = 4;
        /// It first makes the call that its registers say.
        const MAKE_CALL = 8;
    }
}

/// A thread. Its registers come first: the entry code stores and loads them by offset.
#[repr(C)]
pub struct Thread {
    /// As at its last entry to the kernel.
    pub registers: UserRegisters,
    /// How it entered.
    pub entry: Entry,
    /// Its task.
    pub task: TaskId,
    /// What it is doing.
    pub state: ThreadState,
    /// Thread id.
    pub tid: u32,
    /// 0 is lowest, 31 highest.
    pub priority: u8,
    /// Whose it is, when it is a server's; a program's thread may use the FPU.
    pub server: Option<ServerId>,
    /// The top table of its address space.
    pub top: Frame,
    /// Told to stop: it does not run until it is told to start.
    pub stopped: bool,
    /// When it comes to the process server.
    pub attention: Attention,
    /// How its interrupted call restarts: restart kind, call number << 8.
    pub restart: u64,
    /// Place in a run queue.
    pub link: Link,
    /// CPU time used.
    pub cpu_ns: u64,
    /// Time left of its slice.
    pub slice_ns: u64,
    /// Neighbours among the threads of its task.
    pub sibling: (Option<ThreadId>, Option<ThreadId>),
    /// Its last fault.
    pub faulted: Faulted,
    /// Who it is in the trace: it or its server.
    pub who: u64,
    /// For the trace: the call that it has received last, or whose answer, if it is a server's.
    pub handling: u64,
}

impl Thread {
    /// The arguments of the system call that it makes.
    pub fn arguments(&self) -> [u64; 6] {
        let registers = &self.registers;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9]
    }

    /// One of them, most often the first; 0 where there is none.
    #[inline(always)]
    pub fn argument(&self, index: u8) -> u64 {
        if index == 0 { self.registers.rdi } else { self.other_argument(index) }
    }

    #[inline(never)]
    fn other_argument(&self, index: u8) -> u64 {
        self.arguments().get(usize::from(index)).copied().unwrap_or(0)
    }

    /// Whether it can go on where it is.
    pub fn is_runnable(&self) -> bool {
        self.state == ThreadState::Runnable && !self.stopped
    }
}

impl Linked for Thread {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// An address space.
pub struct Space {
    /// Its top table.
    pub root: Frame,
    /// The server that maps it and takes its faults.
    pub pager: ServerId,
    /// That server's name for it.
    pub badge: Badge,
    /// Tasks that use it.
    pub users: u32,
    /// Its pager has given it up.
    pub destroyed: bool,
    /// Pages that are mapped in it.
    pub mapped_pages: u32,
    /// The most there were at a time.
    pub peak_pages: u32,
}

impl Space {
    /// An empty space with nobody in it.
    pub const fn new(root: Frame, pager: ServerId, badge: Badge) -> Space {
        Space { root, pager, badge, users: 0, destroyed: false, mapped_pages: 0, peak_pages: 0 }
    }
}

/// A session: one client's connection to a server.
pub struct Session {
    /// The server.
    pub server: ServerId,
    /// That server's number in the manifest, plus one.
    pub server_number: u32,
    /// The server's name for it.
    pub badge: Badge,
    /// What is behind it.
    pub object: u64,
    /// Handles that clients hold, in tables and in messages.
    pub holders: u32,
    /// The server still has its own handle.
    pub owned: Option<Handle>,
    /// Its last close is told although the server has no handle.
    pub tells_close: bool,
    /// Its server has died of its last close, and is told of it once more.
    pub closes_again: bool,
    /// Status flags as Linux numbers them.
    pub status: u32,
    /// What it is ready for.
    pub readiness: Readiness,
    /// The position word.
    pub position: u64,
    /// Who watches it.
    pub watchers: Option<WatchId>,
    /// Place in the server's list of closes.
    pub link: Link,
}

impl Linked for Session {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// Who is told when a watched session becomes ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WatchedBy {
    /// The holder of a call, as long as it holds it.
    Call(CallRef),
    /// A server, by its own name for the watch, until it ends it.
    Server(ServerId, u64),
}

/// A watch of a session.
pub struct Watcher {
    /// Who is told.
    pub by: WatchedBy,
    /// The session; none when it is gone.
    pub session: Option<SessionId>,
    /// What it waits for.
    pub wanted: Readiness,
    /// Neighbours among the session's watchers.
    pub siblings: (Option<WatchId>, Option<WatchId>),
    /// Next of the same call.
    pub next: Option<WatchId>,
    /// Its server has died of what it tells, and is told once more.
    pub tells_again: bool,
    /// Place among what its server is to be told.
    pub link: Link,
}

impl Linked for Watcher {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}
