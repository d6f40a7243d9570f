//! What a step wants changed outside its server. Each effect is one trap, carried out in order after the step.

use alloc::{boxed::Box, vec, vec::Vec};
use serde::{Deserialize, Serialize};

use super::message::Message;
use crate::abi::journal::Source;
use crate::abi::syscall::{NO_ANSWER, Restart, When};
use crate::abi::trace::Filter;
use crate::abi::{
    Badge, CallId, Doom, Frame, Handle, Protection, Readiness, Rights, Tag, TaskWord, UserRegisters,
};

/// Bytes to be written to the caller's memory with the reply.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Output {
    /// Where.
    pub address: u64,
    /// What.
    pub bytes: Vec<u8>,
}

/// The answer to a Linux system call.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ForeignReply {
    /// The result register: a value, or minus an errno.
    pub result: i64,
    /// The session's new position word, if it changes.
    pub position: Option<u64>,
    /// Up to four small pieces for the caller's memory; together with the reply they are one step, and at most 512
    /// bytes. More goes by [`Effect::CopyOut`] or from the arena.
    pub outputs: Vec<Output>,
    /// Handles that become descriptors, in the reserved slots.
    pub install: Vec<Handle>,
    /// They are close-on-exec.
    pub close_on_exec: bool,
    /// The one handle in `install` becomes the working directory (1) or the root directory (2) instead.
    pub directory: u8,
    /// How the call restarts, when it was interrupted.
    pub restart: Restart,
    /// What else changes with it.
    pub change: Change,
}

/// What an answer changes of a session beside the caller's position.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Change {
    /// Nothing.
    #[default]
    None,
    /// What one of this server's sessions is ready for.
    Ready(Handle, Readiness),
    /// The status flags of the caller's session.
    Status(u32),
}

/// A session that answers a program's call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NewSession {
    /// The server's own handle of it, or [`Handle::NONE`].
    pub owner: Handle,
    /// The last close is told also when there is no such handle.
    pub tells_close: bool,
    /// The server's name for the open file.
    pub badge: Badge,
    /// What it is of.
    pub object: u64,
    /// Status flags, as Linux numbers them.
    pub status: u32,
    /// What it is ready for.
    pub readiness: Readiness,
    /// The descriptor is close-on-exec.
    pub close_on_exec: bool,
}

/// One page to be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PageMap {
    /// Page-aligned address.
    pub address: u64,
    /// The frame.
    pub frame: Frame,
    /// How it may be accessed.
    pub protection: Protection,
}

/// How a new task stands to its parent's descriptors and directories.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Inherit {
    /// Share the descriptor table (CLONE_FILES); else copy it.
    pub share_descriptors: bool,
    /// Share the directories (CLONE_FS); else copy them.
    pub share_directories: bool,
}

/// How a copy of a thread differs from it, besides that the call it is in returns 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CopyStart {
    /// Its own stack pointer.
    pub stack: Option<u64>,
    /// Its own fs base.
    pub tls: Option<u64>,
}

/// An operation on a kernel object. Handles to be made are named by the server itself ([`super::Env::new_handle`]).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Operation {
    /// A session of this server. `owner` keeps it; what is given out in replies are counted holders.
    SessionCreate {
        owner: Handle,
        badge: Badge,
        object: u64,
        status: u32,
        readiness: Readiness,
        position: u64,
    },
    SessionReady {
        session: Handle,
        readiness: Readiness,
    },
    SessionStatus {
        session: Handle,
        status: u32,
    },
    Close {
        handle: Handle,
    },
    Duplicate {
        handle: Handle,
        into: Handle,
        rights: Rights,
    },
    Notify {
        handle: Handle,
        bits: u64,
    },
    TimerSet {
        deadline_ns: u64,
    },
    WatchEnd {
        watch: u64,
    },
    /// Sets the file offset of a session that this server holds.
    SessionMove {
        session: Handle,
        position: u64,
    },
    ArenaZero {
        offset: u64,
        length: u64,
    },
    ArenaCopy {
        from: u64,
        to: u64,
        length: u64,
    },
    ArenaWrite {
        offset: u64,
        bytes: Vec<u8>,
    },
    SpaceCreate {
        into: Handle,
        badge: Badge,
        frame: Frame,
    },
    SpaceDestroy {
        space: Handle,
    },
    Map {
        space: Handle,
        tables: Vec<Frame>,
        pages: Vec<PageMap>,
    },
    Unmap {
        space: Handle,
        address: u64,
        pages: u64,
    },
    Protect {
        space: Handle,
        address: u64,
        pages: u64,
        protection: Protection,
    },
    FrameZero {
        frame: Frame,
    },
    FrameCopy {
        from: Frame,
        to: Frame,
    },
    FrameWrite {
        frame: Frame,
        offset: u32,
        bytes: Vec<u8>,
    },
    TaskCreate {
        into: Handle,
        space: Handle,
        parent: Handle,
        inherit: Inherit,
    },
    TaskWord {
        task: Handle,
        word: TaskWord,
        value: u64,
    },
    TaskExec {
        task: Handle,
        space: Handle,
    },
    TaskKill {
        task: Handle,
    },
    ThreadCreate {
        into: Handle,
        task: Handle,
        tid: u32,
        source: Handle,
        start: CopyStart,
    },
    /// A task with one thread, copies of a thread and its task but for what is said here.
    TaskFork {
        task: Handle,
        thread: Handle,
        space: Handle,
        source: Handle,
        inherit: Inherit,
        /// Number of the process and of its thread.
        number: u32,
        parent: u32,
        start: CopyStart,
    },
    ThreadSetRegisters {
        thread: Handle,
        registers: Box<UserRegisters>,
        fpu: Option<Vec<u8>>,
    },
    ThreadStart {
        thread: Handle,
    },
    ThreadStop {
        thread: Handle,
    },
    ThreadInterrupt {
        thread: Handle,
        when: When,
    },
    ThreadEnd {
        thread: Handle,
    },
    PortOut {
        port: u16,
        width: u8,
        value: u32,
    },
    IrqBind {
        irq: u8,
        bit: u8,
    },
    IrqAck {
        irq: u8,
    },
    Log {
        text: Vec<u8>,
    },
    PowerOff {
        status: u32,
        reboot: bool,
    },
    /// Sets an end for a server.
    Crash {
        task: Handle,
        doom: Doom,
    },
    /// Hands in a new image for a server: so many bytes from the start of the arena, or none for the one it booted
    /// from.
    Upgrade {
        task: Handle,
        length: u64,
    },
    /// Switches tracing, by the right to look at a server.
    TraceSet {
        task: Handle,
        on: bool,
        filter: Filter,
    },
    /// Asks a journaled server to tell the digest of its state.
    DigestAsk {
        task: Handle,
    },
    /// Puts a session into another task's table: a descriptor number, or one of
    /// [`crate::abi::syscall::descriptor_slot`].
    DescriptorSet {
        task: Handle,
        slot: u32,
        handle: Handle,
        close_on_exec: bool,
    },
}

/// Something to be changed outside.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Effect {
    /// Answers a native call, a fault (label 0: go on; else: fail) or an attention call.
    Reply { call: CallId, message: Message },
    /// Answers a Linux call.
    ReplyForeign { call: CallId, reply: ForeignReply },
    /// Answers a Linux call with a new session, as the first descriptor reserved for it. When the kernel has none to
    /// spare the answer is ENFILE, and [`super::Event::LastClose`] follows at once, without an owner.
    ReplyOpen { call: CallId, session: NewSession },
    /// Hands a caller on to another server, with a new message.
    Forward { call: CallId, to: Handle, message: Message },
    /// Hands a Linux call on to another server as it is.
    ForwardForeign { call: CallId, to: Handle },
    /// Keeps a call for later; the reason is shown in /proc/naiad/waits. After [`super::Event::Cancel`]: keeps it
    /// still.
    Park { call: CallId, reason: Reason },
    /// Calls another server; the answer comes as an event with the tag.
    Send { to: Handle, tag: Tag, message: Message },
    /// Writes into the caller's memory. It and what follows it for the same call wait if a page is missing; if the
    /// address is bad the call is answered EFAULT and the rest for it is dropped.
    CopyOut { call: CallId, address: u64, bytes: Vec<u8> },
    /// Moves the caller's bytes into the arena; waits and fails like `CopyOut`.
    ToArena { call: CallId, address: u64, offset: u64, length: u64 },
    /// Moves bytes of the arena to the caller; waits and fails like `CopyOut`.
    FromArena { call: CallId, address: u64, offset: u64, length: u64 },
    /// Copies a part of another server's history to the caller; waits and fails like `CopyOut`.
    FromJournal { call: CallId, address: u64, task: Handle, source: Source, offset: u64, length: u64 },
    /// Copies a part of the kernel's trace to the caller; waits and fails like `CopyOut`.
    FromTrace { call: CallId, address: u64, task: Handle, position: u64, length: u64 },
    /// Copies the caller's bytes into a frame; waits and fails like `CopyOut`.
    ToFrame { call: CallId, address: u64, frame: Frame, offset: u32, length: u32 },
    /// An operation that cannot fail unless the server is wrong; then the server faults.
    Do(Operation),
    /// An operation whose outcome comes as [`super::Event::Done`], before anything else is received.
    Try { tag: Tag, operation: Operation },
}

/// Why a call is parked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum Reason {
    Child,
    Signal,
    Timer,
    Futex,
    Server,
    Disk,
    Input,
    Output,
    Readiness,
    Lock,
    Stopped,
    Peer,
    Vfork,
}

/// Effects that most steps have no more than.
const FEW: usize = 3;

/// The ordered effects of one step.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[must_use = "what a step wants changed is lost when its effects are dropped"]
pub struct Effects {
    /// In the order in which they are carried out.
    pub list: Vec<Effect>,
    /// The step met a page that is not there yet and has changed nothing: step the same event again when it is.
    pub again: bool,
}

impl Effects {
    /// None.
    pub fn none() -> Effects {
        Effects::default()
    }

    /// One.
    pub fn one(effect: Effect) -> Effects {
        Effects { list: vec![effect], again: false }
    }

    /// The step has changed nothing and wants the event again when the missing page is there.
    pub fn again() -> Effects {
        Effects { list: Vec::new(), again: true }
    }

    /// Adds an effect. It is made where it will lie: an effect is large.
    #[inline(always)]
    pub fn push(&mut self, effect: Effect) -> &mut Effects {
        if self.list.capacity() == 0 {
            // Said beforehand, it costs a third of what it does to grow.
            self.list = Vec::with_capacity(FEW);
        }
        self.list.push(effect);
        self
    }

    /// Adds an operation that cannot fail.
    pub fn act(&mut self, operation: Operation) -> &mut Effects {
        self.push(Effect::Do(operation))
    }

    /// Adds an operation whose outcome is wanted.
    pub fn attempt(&mut self, tag: Tag, operation: Operation) -> &mut Effects {
        self.push(Effect::Try { tag, operation })
    }

    /// Adds a message to another server whose answer says nothing new.
    pub fn tell(&mut self, to: Handle, message: Message) -> &mut Effects {
        self.send(to, NO_ANSWER, message)
    }

    /// Adds a call to another server.
    pub fn send(&mut self, to: Handle, tag: Tag, message: Message) -> &mut Effects {
        self.push(Effect::Send { to, tag, message })
    }

    /// Adds an answer to a native call, a fault or an attention call.
    pub fn reply(&mut self, call: CallId, message: Message) -> &mut Effects {
        self.push(Effect::Reply { call, message })
    }

    /// Adds a Linux result: a value, or minus an errno.
    #[inline]
    pub fn result(&mut self, call: CallId, result: i64) -> &mut Effects {
        self.push(Effect::ReplyForeign { call, reply: ForeignReply { result, ..ForeignReply::default() } })
    }

    /// Adds a full answer to a Linux call.
    #[inline(always)]
    pub fn foreign(&mut self, call: CallId, reply: ForeignReply) -> &mut Effects {
        self.push(Effect::ReplyForeign { call, reply })
    }

    /// Adds a change of what a session is ready for: to the answer before it, if there is one with nothing else to
    /// change.
    pub fn ready(&mut self, session: Handle, readiness: Readiness) -> &mut Effects {
        if let Some(Effect::ReplyForeign { reply, .. }) = self.list.last_mut()
            && reply.change == Change::None
        {
            reply.change = Change::Ready(session, readiness);
            return self;
        }
        self.act(Operation::SessionReady { session, readiness })
    }

    /// Adds an answer to a Linux call that is a new descriptor.
    pub fn reply_open(&mut self, call: CallId, session: NewSession) -> &mut Effects {
        self.push(Effect::ReplyOpen { call, session })
    }

    /// Keeps a call for later.
    pub fn park(&mut self, call: CallId, reason: Reason) -> &mut Effects {
        self.push(Effect::Park { call, reason })
    }

    /// Appends another step's effects.
    pub fn append(&mut self, mut other: Effects) -> &mut Effects {
        self.list.append(&mut other.list);
        self.again |= other.again;
        self
    }
}
