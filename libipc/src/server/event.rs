//! What can happen to a server.

use alloc::{boxed::Box, vec::Vec};
use serde::{Deserialize, Serialize};

use super::message::Message;
pub use crate::abi::delivery::Caller;
use crate::abi::delivery::{FaultKind, Named, Occasion};
use crate::abi::{Badge, CallId, Handle, KernelError, Tag};

/// A call being served. It must be answered, forwarded or parked; a step that forgets it is a fault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Call {
    /// The call; also the reply token.
    pub id: CallId,
    /// Who calls.
    pub caller: Caller,
    /// The session it came through (its badge); 0 when it came straight to the server.
    pub badge: Badge,
    /// The session's position word: a file offset that lives in the kernel and changes with the reply.
    pub position: u64,
    /// The session's status flags, as Linux numbers them.
    pub status: u32,
    /// What is asked.
    pub request: Request,
}

/// What a call asks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// A server's message.
    Native(Message),
    /// A program's system call.
    Foreign(Foreign),
    /// A thread's fault: address, access, instruction pointer, or vector and error code.
    Fault {
        /// Page fault or exception.
        kind: FaultKind,
        /// As [`FaultKind`] says.
        words: [u64; 4],
    },
    /// A thread that was told to come.
    Attention {
        /// How the call that it was taken out of restarts: restart kind, and from bit 8 the call's number.
        restart: u64,
        /// Why it comes.
        occasion: Occasion,
    },
}

/// A Linux system call as delivered.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Foreign {
    /// Its number.
    pub number: u32,
    /// Its six arguments.
    pub arguments: [u64; 6],
    /// What was gathered of the caller's memory; `None` for a null pointer or no such input.
    pub inputs: [Option<Vec<u8>>; 2],
    /// What descriptors and directories it is about, when its row says that they are told.
    pub names: Option<Box<Names>>,
    /// The descriptor numbers reserved for its results.
    pub slots: [u32; 2],
    /// The descriptor passed along as a handle, when its row says so and there was one.
    pub passed: Option<Handle>,
}

impl Foreign {
    /// What it is about; nothing when its row does not say so.
    pub fn names(&self) -> Names {
        self.names.as_deref().copied().unwrap_or_default()
    }
}

/// The open files that a system call is about. They stand aside, so that calls without them are short.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Names {
    /// The descriptors its row names; server 0 when the argument was no descriptor (AT_FDCWD, -1).
    pub named: [Named; 2],
    /// Working directory and root directory.
    pub directories: [Named; 2],
}

/// Something that happens to a server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "made and stepped at once, never kept in numbers")]
pub enum Event {
    /// The very first event of a server's life (not of each incarnation).
    Start,
    /// Somebody calls.
    Call(Call),
    /// A call sent with [`super::Effect::Send`] has been answered.
    Answer {
        /// The tag it was sent with.
        tag: Tag,
        /// The answer; an error when the other server is gone for good.
        answer: Result<Message, KernelError>,
    },
    /// An operation that asked for an outcome has one.
    Done {
        /// The tag it was given.
        tag: Tag,
        /// Its value, or why it was refused.
        result: Result<u64, KernelError>,
    },
    /// Notification bits.
    Notify {
        /// The bits posted since the last such event; [`super::TIMER_BIT`] is the timer.
        bits: u64,
    },
    /// The caller of a call in progress wants it back (a signal came, it was killed, or it has waited for long). Reply;
    /// leave it to its end, if that comes soon; or park it once more, and the caller waits for as long as it takes.
    Cancel {
        /// The call.
        call: CallId,
    },
    /// The last handle of a session was closed.
    LastClose {
        /// The session's badge.
        badge: Badge,
        /// This server's own handle of it, to be closed.
        owner: Handle,
    },
    /// A descriptor watched for this call became ready.
    Watch {
        /// The call it was watched for.
        call: CallId,
    },
    /// A session watched from one call to the next became ready, or is gone.
    Watched {
        /// This server's name for the watch.
        cookie: u64,
        /// What it is ready for; `None` when it is gone, and the watch is only still to be ended.
        ready: Option<crate::abi::Readiness>,
    },
    /// After an inexact recovery: what a handle named that the state knows is gone, and the handle with it.
    Lost {
        /// The handle.
        handle: Handle,
    },
    /// Who asked for a space of this server's has lost it, and will never ask for its end.
    Unclaimed {
        /// This server's name for it.
        space: Badge,
    },
}
