//! What `recv` leaves in the receiver's message buffer.
//!
//! The message buffer is three pages of the server's own memory that the kernel also reaches: a header with what goes
//! out, the [`Delivery`] with what came in, and one payload area for both directions.

use core::mem::offset_of;

use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Most bytes of payload in one message: two paths of PATH_MAX, or two pages.
pub const PAYLOAD_MAX: u32 = 8192;
/// Most handles in one message.
pub const HANDLES_MAX: u32 = 4;
/// Pages in a message buffer.
pub const BUFFER_PAGES: u32 = 3;
/// Where the [`Delivery`] lies in a message buffer.
pub const DELIVERY_OFFSET: u32 = 64;
/// Where the payload lies in a message buffer.
pub const PAYLOAD_OFFSET: u32 = 512;

/// What kind of event a delivery is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(u32)]
pub enum Kind {
    /// A native call from another server or a native program.
    Call = 1,
    /// A foreign system call of a program.
    Foreign = 2,
    /// A page fault or exception of a thread: label is a [`FaultKind`].
    Fault = 3,
    /// A thread comes to its process server: word 0 says how an interrupted call restarts, word 1 is an [`Occasion`].
    Attention = 4,
    /// The answer to a call this server sent.
    Answer = 5,
    /// Notification bits (interrupts, timers, upward notifications).
    Notify = 6,
    /// The caller wants its call back: reply soon.
    Cancel = 7,
    /// The last handle of a session of this server is closed.
    LastClose = 8,
    /// The pages a copy was missing are there, or will never be (word 0 is nonzero).
    Ready = 9,
    /// A watched session became ready for the call in `token`.
    Watch = 10,
    /// A kept watch: words: the server's name for it, the readiness, nonzero when the session is gone.
    Watched = 11,
}

impl Kind {
    /// The kind with this number.
    pub fn from_number(number: u32) -> Option<Kind> {
        const ALL: [Kind; 11] = [
            Kind::Call,
            Kind::Foreign,
            Kind::Fault,
            Kind::Attention,
            Kind::Answer,
            Kind::Notify,
            Kind::Cancel,
            Kind::LastClose,
            Kind::Ready,
            Kind::Watch,
            Kind::Watched,
        ];
        ALL.into_iter().find(|kind| *kind as u32 == number)
    }
}

/// What a thread did that made the kernel call its pager or fault server. The number is the label of the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[repr(u32)]
pub enum FaultKind {
    /// Word 0: address, word 1: access ([`crate::abi::Protection`] bits), word 2: instruction pointer, word 3: 1
    /// when the kernel met it while copying for a call.
    Page = 1,
    /// Word 0: x86 vector, word 1: error code, word 2: instruction pointer.
    Exception = 2,
    /// The process server died of serving this thread's fault: the process cannot go on. Words as they were.
    Lost = 3,
}

impl FaultKind {
    /// The fault with this label.
    pub fn from_number(number: u32) -> Option<FaultKind> {
        match number {
            1 => Some(FaultKind::Page),
            2 => Some(FaultKind::Exception),
            3 => Some(FaultKind::Lost),
            _ => None,
        }
    }
}

/// Why a thread comes to its process server. The number is word 1 of the delivery.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[repr(u32)]
pub enum Occasion {
    /// It was called in, and is about to return to its program.
    #[default]
    Called = 0,
    /// It is about to make a system call, with its registers as they are.
    Entry = 1,
    /// The system call is over after which it was to come.
    Exit = 2,
}

impl Occasion {
    /// The occasion with this number.
    pub fn from_number(number: u64) -> Option<Occasion> {
        [Occasion::Called, Occasion::Entry, Occasion::Exit]
            .into_iter()
            .find(|occasion| *occasion as u64 == number)
    }
}

/// The label of an answer to an attention call after which the thread makes the system call that its registers say.
pub const MAKE_CALL: u32 = 1;

/// A session as a third server names it: which server, which of its sessions, and which file behind it.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Debug,
    Default,
    Serialize,
    Deserialize,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Named {
    /// The server's number in the manifest, plus one; 0 for none.
    pub server: u64,
    /// The session's badge.
    pub badge: u64,
    /// What the server says is behind the session; equal for two opens of one file.
    pub object: u64,
}

/// Who is calling: words the kernel attached, which only the process server can set.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    Serialize,
    Deserialize,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Caller {
    /// Process id; 0 for a server.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Process group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// File mode creation mask.
    pub umask: u32,
    /// Zero.
    pub reserved: u32,
    /// The badge its pager gave its address space.
    pub space: u64,
    /// How large it may make a file (RLIMIT_FSIZE), plus one; 0 for no limit.
    pub file_limit: u64,
}

impl Caller {
    /// How large it may make a file; `None` for no limit.
    #[inline]
    pub fn largest_file(&self) -> Option<u64> {
        self.file_limit.checked_sub(1)
    }
}

/// No input: the pointer was null.
pub const INPUT_NULL: u32 = u32::MAX;

/// One event as the kernel writes it. Which fields mean something depends on [`Kind`]; those from `extent` on are what
/// an earlier event has left, and mean nothing.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Delivery {
    /// A [`Kind`].
    pub kind: u32,
    /// Payload length in bytes.
    pub payload_len: u32,
    /// The call (reply token); for answers the tag.
    pub token: u64,
    /// Badge of the session called, or of the session closed.
    pub badge: u64,
    /// Message label, foreign call number, fault kind; for answers 0 or a kernel error.
    pub label: u32,
    /// How many of `handles` came along.
    pub handle_count: u32,
    /// Nanoseconds since boot.
    pub now: u64,
    /// How near the receiver's next snapshot is, in thousandths, 500 being when it is due; and [`CROWDED`].
    pub fill: u32,
    /// For `LastClose`: the owner's own handle of the session.
    pub owner: u32,
    /// Arguments.
    pub words: [u64; 6],
    /// The session's position word (a file offset).
    pub position: u64,
    /// The session's status flags (O_APPEND, O_NONBLOCK as Linux has them).
    pub status: u32,
    /// How many bytes of this count: an [`Extent`].
    pub extent: u32,
    /// Handles that came along, by the slots the receiver had offered.
    pub handles: [u32; 4],
    /// Who calls, if it is a program.
    pub caller: Caller,
    /// Lengths of the inputs gathered into the payload, one after the other; [`INPUT_NULL`] for a null pointer.
    pub inputs: [u32; 2],
    /// Descriptor slots reserved for this call's results.
    pub slots: [u32; 2],
    /// The descriptors named by the call's arguments (kind `Foreign`).
    pub named: [Named; 2],
    /// The caller's working directory and root directory.
    pub directories: [Named; 2],
}

/// In [`Delivery::fill`]: the receiver's state takes so much of what a snapshot of it may that it is to take on nothing
/// new. What it does for those whom it serves already still fits.
pub const CROWDED: u32 = 1 << 31;

/// How much of a [`Delivery`] is filled in: each of these is what comes before it and more. The journal keeps so much.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub enum Extent {
    /// An event, or a message of a server.
    Message = offset_of!(Delivery, caller) as u32,
    /// And who the calling program is.
    Caller = offset_of!(Delivery, inputs) as u32,
    /// And a system call's inputs and slots.
    Foreign = offset_of!(Delivery, named) as u32,
    /// And what its descriptors and directories are.
    Named = size_of::<Delivery>() as u32,
}

const _: () = assert!(size_of::<Delivery>() as u32 <= PAYLOAD_OFFSET - DELIVERY_OFFSET);

/// What a sender puts into the first bytes of its message buffer.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MessageBuffer {
    /// Handles to send along.
    pub send: [u32; 4],
    /// Free slots of the receiver's capability space for handles that come in.
    pub offer: [u32; 4],
    /// The tag of a `send`.
    pub tag: u64,
}

const _: () = assert!(size_of::<MessageBuffer>() as u32 <= DELIVERY_OFFSET);
