//! A trace as its forms see it: calls with their causes, what happened beside them, and who took part.
//!
//! It is made once, by [`crate::read`], and never changed. Everything is in the order in which it began; references
//! are places in [`Trace::calls`] and [`Trace::marks`], and always valid.

use std::collections::BTreeMap;

use libipc::abi::KernelError;
use libipc::abi::crash::{Disposition, Fault};
use libipc::server::Message;

use crate::linux::{Inputs, errno_of};

/// A call by its place in [`Trace::calls`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallRef(pub u32);

/// A mark by its place in [`Trace::marks`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MarkRef(pub u32);

/// One thing that happened.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Item {
    /// A call, from its beginning to its end.
    Call(CallRef),
    /// Something that has no length.
    Mark(MarkRef),
}

/// Who acts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Actor {
    /// The kernel, for nobody in particular.
    Kernel,
    /// A server, by its number.
    Server(u32),
    /// A thread of a program.
    Thread {
        /// Its process.
        pid: u32,
        /// Its own id.
        tid: u32,
    },
}

/// A message as the trace keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The message, with as much of its payload as there is in the trace.
    pub message: Message,
    /// Bytes of its payload as it was sent.
    pub full: u32,
}

/// What a call asks.
#[derive(Clone, PartialEq, Debug)]
pub enum Request {
    /// A program's Linux call.
    Linux {
        /// Its number.
        number: u32,
        /// Its arguments.
        arguments: [u64; 6],
        /// What of the caller's memory came along.
        inputs: Inputs,
    },
    /// A message of a server.
    Message(Sent),
    /// A page that is missing, for a thread that touched it or a copy that needs it.
    PageFault {
        /// The page's address.
        address: u64,
        /// `libipc::abi::Protection` bits.
        access: u64,
    },
    /// An exception of the processor.
    Exception {
        /// Its vector.
        vector: u64,
        /// Where.
        instruction: u64,
    },
    /// A thread comes to its process server.
    Attention,
    /// The trace begins in the middle of it, or has lost its beginning.
    Unknown,
}

/// How a call ended.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// With a result for a program's register.
    Returned(i64),
    /// With an answer, whose label is 0 or the protocol's error.
    Answered(Sent),
    /// The kernel refused it, or its server is gone.
    Refused(KernelError),
    /// It was taken back, or its caller is gone.
    Withdrawn,
}

/// What ended a server's work at a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LegEnd {
    /// It still has it where the trace ends.
    Open,
    /// It answered.
    Answered,
    /// It handed the caller on.
    Forwarded,
    /// It died, or the call was taken back.
    Dropped,
}

/// The time that a call was with one server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leg {
    /// The server.
    pub server: u32,
    /// What another server that had it before said when it handed it on.
    pub carries: Option<Sent>,
    /// Time of the processor that the server has used for it.
    pub busy_ns: u64,
    /// When it got the call.
    pub from_ns: u64,
    /// When it was done with it; the trace's end if it was not.
    pub to_ns: u64,
    /// How.
    pub end: LegEnd,
}

/// One call: of a program, a server, or a thread that faults.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// Its name in the kernel; 0 for a call that the kernel answered alone.
    pub id: u64,
    /// Who made it.
    pub by: Actor,
    /// The call that its maker was serving; always an earlier one.
    pub cause: Option<CallRef>,
    /// What it asks.
    pub request: Request,
    /// When it was made, in ns since boot.
    pub made_ns: u64,
    /// When it was over; the trace's end for one that is not.
    pub ended_ns: u64,
    /// How it ended, if the trace saw that.
    pub outcome: Option<Outcome>,
    /// Which servers had it, one after the other.
    pub legs: Vec<Leg>,
    /// The number of its first record in the file.
    pub record: u64,
    /// The number of the record that ended it.
    pub last_record: Option<u64>,
}

impl Call {
    /// How long it took, or has taken so far.
    pub fn latency_ns(&self) -> u64 {
        self.ended_ns.saturating_sub(self.made_ns)
    }

    /// Whether nobody has answered it within the trace.
    pub fn is_unanswered(&self) -> bool {
        self.outcome.is_none()
    }

    /// The server that had it last.
    pub fn server(&self) -> Option<u32> {
        self.legs.last().map(|leg| leg.server)
    }

    /// The errno or protocol error it ended with.
    pub fn errno(&self) -> Option<i32> {
        match self.outcome.as_ref()? {
            Outcome::Returned(result) => errno_of(*result),
            Outcome::Answered(sent) => match &self.request {
                Request::Message(asked) => crate::native::answer(asked.message.label, sent).1,
                _ => (sent.message.label != 0).then_some(sent.message.label as i32),
            },
            Outcome::Refused(_) | Outcome::Withdrawn => None,
        }
    }

    /// Whether it ended with an error.
    pub fn has_failed(&self) -> bool {
        self.errno().is_some() || matches!(self.outcome, Some(Outcome::Refused(_)))
    }
}

/// What happened without taking time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The kernel copied bytes between a caller and a server.
    Copied {
        /// How many.
        bytes: u64,
        /// Into the caller's memory, rather than out of it.
        into_caller: bool,
    },
    /// Notification bits for a server.
    Notified {
        /// Whom.
        server: u32,
        /// The bits.
        bits: u64,
    },
    /// A server is told that nobody has a session any more.
    LastClose {
        /// Whom.
        server: u32,
        /// The session.
        badge: u64,
    },
    /// The page that a copy waited for is there.
    Ready {
        /// Whom.
        server: u32,
    },
    /// A watched session became ready.
    Watched {
        /// Whom.
        server: u32,
    },
    /// A server is told that a caller wants its call back.
    CancelAsked {
        /// Whom.
        server: u32,
    },
    /// A call goes to a server's next incarnation.
    Redelivered {
        /// The server.
        server: u32,
    },
    /// A thread begins.
    ThreadMade {
        /// Its process.
        pid: u32,
        /// Its id.
        tid: u32,
    },
    /// A thread is gone.
    ThreadEnded {
        /// Its process.
        pid: u32,
        /// Its id.
        tid: u32,
    },
    /// A process runs another program.
    Exec {
        /// The process.
        pid: u32,
        /// The program.
        name: String,
    },
    /// A process has no thread any more.
    ProcessEnded {
        /// Which.
        pid: u32,
    },
    /// A server died.
    Died {
        /// Which.
        server: u32,
        /// Of what, if of itself.
        fault: Option<Fault>,
        /// At which instruction.
        instruction: u64,
    },
    /// A server is given up.
    Gone {
        /// Which.
        server: u32,
    },
    /// An event that a server dies of again and again is disposed of.
    Disposed {
        /// The server.
        server: u32,
        /// What was done.
        how: Option<Disposition>,
    },
    /// Its next incarnation begins.
    Restarted {
        /// Which.
        server: u32,
        /// The number of the incarnation.
        incarnation: u32,
    },
    /// It has caught up with its journal.
    Live {
        /// Which.
        server: u32,
    },
    /// Records were lost here.
    Lost {
        /// How many.
        records: u64,
    },
    /// From here on other records are kept.
    FilterChanged,
    /// A server's trap that is none of the above.
    Trap {
        /// What it is called.
        name: &'static str,
        /// Its arguments.
        arguments: Vec<u64>,
        /// Why it was refused.
        error: Option<KernelError>,
    },
}

impl Event {
    /// What happened, in a word.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Copied { .. } => "copy",
            Event::Notified { .. } => "notification",
            Event::LastClose { .. } => "last close",
            Event::Ready { .. } => "ready",
            Event::Watched { .. } => "watch",
            Event::CancelAsked { .. } => "cancel",
            Event::Redelivered { .. } => "redelivery",
            Event::ThreadMade { .. } => "thread made",
            Event::ThreadEnded { .. } => "thread ended",
            Event::Exec { .. } => "exec",
            Event::ProcessEnded { .. } => "process ended",
            Event::Died { .. } => "death",
            Event::Gone { .. } => "given up",
            Event::Disposed { .. } => "disposal",
            Event::Restarted { .. } => "restart",
            Event::Live { .. } => "live",
            Event::Lost { .. } => "lost",
            Event::FilterChanged => "filter",
            Event::Trap { name, .. } => name,
        }
    }

    /// The server that it is about.
    pub fn server(&self) -> Option<u32> {
        match self {
            Event::Notified { server, .. }
            | Event::LastClose { server, .. }
            | Event::Ready { server }
            | Event::Watched { server }
            | Event::CancelAsked { server }
            | Event::Redelivered { server }
            | Event::Died { server, .. }
            | Event::Gone { server }
            | Event::Disposed { server, .. }
            | Event::Restarted { server, .. }
            | Event::Live { server } => Some(*server),
            _ => None,
        }
    }
}

/// An event, and where it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// When, in ns since boot.
    pub at_ns: u64,
    /// Who did it, or for whom it was done.
    pub by: Actor,
    /// The call it belongs to: the one it is about, or the one its maker was serving.
    pub cause: Option<CallRef>,
    /// What happened.
    pub event: Event,
    /// The number of its record in the file.
    pub record: u64,
}

/// A program's process.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Process {
    /// What it ran last, as far as the trace tells.
    pub name: String,
    /// Its threads that were seen, in order of their ids.
    pub threads: Vec<u32>,
}

/// All that a trace tells.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Trace {
    /// Names of servers, by number.
    pub servers: BTreeMap<u32, String>,
    /// What the machine was.
    pub machine: String,
    /// Calls in the order in which they began.
    pub calls: Vec<Call>,
    /// Marks in the order in which they happened.
    pub marks: Vec<Mark>,
    /// Calls and marks in order of time; what was caused stands behind its cause.
    pub items: Vec<Item>,
    /// Of each call, what it caused, in order.
    pub effects: Vec<Vec<Item>>,
    /// Processes by id.
    pub processes: BTreeMap<u32, Process>,
    /// Time of the first record.
    pub begin_ns: u64,
    /// Time of the last record.
    pub end_ns: u64,
    /// Records in all.
    pub records: u64,
    /// Records that were lost before they reached the file.
    pub lost: u64,
    /// What a reader has to know: gaps, damage, an end before its time.
    pub notes: Vec<String>,
}

impl Trace {
    /// The call at a place.
    pub fn call(&self, at: CallRef) -> &Call {
        &self.calls[at.0 as usize]
    }

    /// The mark at a place.
    pub fn mark(&self, at: MarkRef) -> &Mark {
        &self.marks[at.0 as usize]
    }

    /// What a call caused, in order.
    pub fn effects(&self, at: CallRef) -> &[Item] {
        &self.effects[at.0 as usize]
    }

    /// The call that something belongs to.
    pub fn cause(&self, item: Item) -> Option<CallRef> {
        match item {
            Item::Call(at) => self.call(at).cause,
            Item::Mark(at) => self.mark(at).cause,
        }
    }

    /// When something began.
    pub fn begins_ns(&self, item: Item) -> u64 {
        match item {
            Item::Call(at) => self.call(at).made_ns,
            Item::Mark(at) => self.mark(at).at_ns,
        }
    }

    /// Who did something.
    pub fn by(&self, item: Item) -> Actor {
        match item {
            Item::Call(at) => self.call(at).by,
            Item::Mark(at) => self.mark(at).by,
        }
    }

    /// The call at the root of a chain of causes: most often a program's.
    pub fn root_of(&self, mut at: CallRef) -> CallRef {
        while let Some(cause) = self.call(at).cause {
            at = cause;
        }
        at
    }

    /// The process that did something, or on whose behalf it was done.
    pub fn process_of(&self, item: Item) -> Option<u32> {
        let of = |actor| match actor {
            Actor::Thread { pid, .. } => Some(pid),
            _ => None,
        };
        of(self.by(item)).or_else(|| of(self.call(self.root_of(self.cause(item)?)).by))
    }

    /// All calls with their places.
    pub fn numbered(&self) -> impl Iterator<Item = (CallRef, &Call)> {
        self.calls.iter().enumerate().map(|(at, call)| (CallRef(at as u32), call))
    }
}
