//! Calls: who waits for whom, what is under way between them, and where it stands.

use super::arena::{Link, Linked};
use super::object::*;
use super::recall::Recalled;

/// What kind of call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CallKind {
    /// A server's message that it waits for.
    Native,
    /// A server's message whose answer comes as an event.
    Sent,
    /// A program's system call.
    Foreign,
    /// A thread's fault.
    Fault,
    /// A thread that comes before it runs on.
    Attention,
}

/// Where a call stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// In a server's queue.
    Queued,
    /// Its inputs wait for a page.
    Faulting,
    /// A server has it.
    Held,
    /// Answered; the sender has not taken the answer yet.
    Answered,
}

/// Something to tell the holder of a call.
pub mod signal {
    /// The caller wants it back.
    pub const CANCEL: u8 = 1;
    /// A missing page is there.
    pub const READY: u8 = 2;
    /// A missing page will never be there.
    pub const FAILED: u8 = 4;
    /// A watched session is ready.
    pub const WATCH: u8 = 8;
}

/// A call: owned by the calling task, and longer-lived than either side's thread.
pub struct Call {
    /// What kind.
    pub kind: CallKind,
    /// Where it stands.
    pub phase: Phase,
    /// What its holder is to be told ([`signal`]).
    pub signals: u8,
    /// A fault of this call's caller is being served for it.
    pub faulting: bool,
    /// A new message took the place of the caller's own (a forward).
    pub rewritten: bool,
    /// Count of `handles`.
    pub handle_count: u8,
    /// The protocol's number, the foreign call's, the fault's.
    pub label: u32,
    /// The number of the program's own call, or its fault (see `raise`), whatever message has taken its place.
    pub number: u32,
    /// The calling task.
    pub task: TaskId,
    /// The thread that waits, if it lives.
    pub thread: Option<ThreadId>,
    /// For a fault served on behalf of a call: that call.
    pub parent: Option<CallRef>,
    /// The server it is for or with.
    pub server: ServerId,
    /// The session it came through.
    pub session: Option<SessionId>,
    /// The sender's tag; for a fault the address.
    pub tag: u64,
    /// Its words, when they are not in the thread's registers.
    pub words: [u64; 4],
    /// Payload kept by the kernel.
    pub buffer: Option<u32>,
    /// Bytes of it.
    pub payload_len: u32,
    /// Handles under way (sessions are counted).
    pub handles: [Object; 4],
    /// Descriptors reserved in the caller's table for its results.
    pub reserved: [Option<u32>; 2],
    /// First of its watches.
    pub watches: Option<WatchId>,
    /// Order of delivery.
    pub sequence: u64,
    /// When it was made.
    pub since: u64,
    /// When its caller was made to want it back.
    pub recalled: Recalled,
    /// For the trace: the call that its sender was handling.
    pub cause: u64,
    /// For its filter: the process at whose wish it was made, and the number of that call in the high half.
    pub origin: u64,
    /// Place in the server's calls or events.
    pub link: Link,
}

impl Call {
    /// Begins a call in the place of one that is over and holds nothing: all else that counts of it is set anew.
    #[inline]
    pub fn begin(&mut self, kind: CallKind, task: TaskId, server: ServerId) {
        debug_assert!(self.holds_nothing());
        self.kind = kind;
        self.phase = Phase::Queued;
        self.signals = 0;
        self.faulting = false;
        self.rewritten = false;
        (self.label, self.number) = (0, 0);
        (self.task, self.server) = (task, server);
        (self.thread, self.parent, self.session) = (None, None, None);
        self.tag = 0;
        self.words = [0; 4];
        self.payload_len = 0;
    }

    /// It is with its server as soon as it is made.
    #[inline(always)]
    pub fn be_held(&mut self, by: ThreadId, through: Option<SessionId>, (since, sequence): (u64, u64)) {
        (self.phase, self.thread, self.session) = (Phase::Held, Some(by), through);
        (self.since, self.sequence) = (since, sequence);
    }

    /// The thread that waits for the answer, if this server holds the call and can simply forget it when it is over.
    #[inline(always)]
    pub fn plain_caller(&self, own: ServerId, kind: CallKind) -> Option<ThreadId> {
        let held = self.phase == Phase::Held && self.server == own && self.kind == kind;
        if held && self.holds_nothing() { self.thread } else { None }
    }

    /// What it held is let go. A call is discarded like this: who begins another in its place relies on it.
    pub fn hold_nothing(&mut self) {
        self.handle_count = 0;
        self.buffer = None;
        self.reserved = [None; 2];
        self.watches = None;
        self.link = Link::NONE;
    }

    /// Whether it can simply be forgotten when it is over.
    pub fn holds_nothing(&self) -> bool {
        self.handle_count == 0
            && self.buffer.is_none()
            && self.watches.is_none()
            && self.reserved == [None; 2]
            && !self.link.is_listed()
    }
}

impl Linked for Call {
    fn link(&mut self) -> &mut Link {
        &mut self.link
    }
}
