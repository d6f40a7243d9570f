//! The trace: every message, fault, copy, death and restart of the whole system, in the order in which the kernel did
//! them. This page is the specification of its format. The kernel writes it (`microkernel/src/core/trace.rs`), `cargo
//! xtask run --trace` carries it to the host, `/proc/naiad/trace` shows it inside; [`Reader`] reads it.
//!
//! # A file
//!
//! A [`FileHeader`], the servers' names, a text that names the kernel's build, and then records without gaps until the
//! end. All numbers are little-endian, everything begins at a multiple of eight bytes. A file that ends in the middle
//! of a record is one whose writer was cut off: what comes before is whole.
//!
//! # A record
//!
//! | words | what |
//! |---|---|
//! | 1 | the journal's [`Header`]: number, error, count of values, bytes of payload |
//! | 1 | when: nanoseconds since boot |
//! | 1 | who acted: process id (bits 0..24), processor (24..32), thread id (32..64); a server is its number as the thread id of process 0; 0 is the kernel by itself |
//! | 1 | the call it is about, or 0 |
//! | 1 | its cause: the call that the acting server was handling, or 0 |
//! | 0–7 | arguments: as many as the number has |
//! | 0–5 | values |
//! | … | payload, padded to eight bytes |
//!
//! A number below [`FIRST_EVENT`] is a system call that a server made, as in its journal: arguments and values are
//! those of the [`Syscall`], the error is the one it was refused with. The record of a message that was sent
//! ([`Syscall::Call`], [`Syscall::Send`], [`Syscall::Forward`]) is made before it takes effect, and has one value:
//! where it goes ([`To`]). Of an answer the record is made before it takes effect, too. Every other system call is
//! recorded when it is over. `receive` is not recorded; what it brings is [`Event::Delivered`]. Other numbers are
//! [`Event`]s.
//!
//! Payload of a message, or of the inputs that a program's call gathers, is cut off at [`PAYLOAD_KEPT`] bytes; how
//! much there was is told by the message's info word, or the lengths in [`Event::Delivered`].
//!
//! # Calls
//!
//! A call has one name (a reply token, [`CallId`]) from the moment when it is made until it is answered; a name is
//! never used again. Whatever is about it has that name: it was made, delivered, handed on, its caller's memory was
//! read or written, it was told to come back, delivered again to the next incarnation of its server, answered. What a
//! server makes while it handles a call, and what is then done about that, has the call as its *cause*. The answer to a
//! message that a server sent puts it back to the call for which it had sent the message. So a program's call is the
//! root of a tree; its own cause is 0.
//!
//! A program's call is over with exactly one of these: its own record has a value ([`Event::Linux`]: the kernel
//! answered it at once); a [`Syscall::ReplyForeign`] without an error, whose third argument is the result;
//! [`Event::Result`]; [`Event::Forgotten`]: the caller is gone.
//!
//! # The ring
//!
//! The kernel writes records into a ring of memory behind a page with a [`RingHeader`]. Positions count bytes since
//! tracing began, and are never turned back; a record with the position `p` lies at `p` modulo the ring's size, in one
//! piece. The ring has [`PARTS`] parts of equal size, each of which begins with a record; what is left at the end of
//! one is filled with [`Event::Pad`]. So a reader who comes late can begin with any part that is whole. A host that
//! reads along says how far it has come; the kernel then waits before it overwrites what has not been read, and if the
//! host does not come on it drops records and counts them. The count is told by [`Event::Lost`], as the next record
//! that is not dropped. The page also tells where in memory the cores and the reproducers of dead servers lie
//! ([`Left`]).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::delivery::{FaultKind, Kind, Occasion};
use super::error::KernelError;
use super::journal::{Header, VALUES_MAX};
use super::syscall::Syscall;
use super::types::CallId;

mod filter;
mod reader;
#[cfg(test)]
mod tests;

pub use filter::{BadFilter, Filter};
pub use reader::{Damage, Names, Reader, file_header};

/// What a trace in a file begins with.
pub const MAGIC: [u8; 8] = *b"NAIADTRC";
/// The version of this format.
pub const VERSION: u32 = 1;
/// The lowest number of a record that is no system call.
pub const FIRST_EVENT: u16 = 0x8000;
/// Words before the arguments: the header, and who, when, and about what.
pub const STAMP_WORDS: u64 = 5;
/// Most arguments of a record.
pub const ARGUMENTS_MAX: usize = 7;
/// Most bytes of payload in a record; what there was beyond is not kept.
pub const PAYLOAD_KEPT: u32 = 128;
/// Most bytes of a record, but for [`Event::Pad`].
pub const RECORD_MAX: u64 =
    8 * (STAMP_WORDS + ARGUMENTS_MAX as u64 + VALUES_MAX as u64) + PAYLOAD_KEPT as u64;

/// The first bytes of a trace in a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FileHeader {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// Bytes of this header with the texts behind it: where the records begin.
    pub header_bytes: u32,
    /// Bytes of the machine's memory.
    pub memory_bytes: u64,
    /// Bytes of the servers' names: each ends with a NUL, in the order of their numbers from 1 on.
    pub names_bytes: u32,
    /// Bytes of the text about the kernel's build, which follows the names.
    pub build_bytes: u32,
}

/// The first bytes of a ring's header page. Its fields lie apart so that writer and reader do not share cache lines.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(64))]
pub struct RingHeader {
    /// [`MAGIC`], as soon as the kernel has begun.
    pub magic: [u8; 8],
    /// Bytes of the ring behind this page.
    pub bytes: u64,
    /// A line's rest.
    pub rest: [u64; 6],
    /// Written by the kernel: records up to this position are whole.
    pub written: u64,
    /// Written by the kernel: records dropped that no record tells of yet.
    pub lost: u64,
    /// A line's rest.
    pub written_rest: [u64; 6],
    /// Written by the host: it has read up to this position.
    pub read: u64,
    /// A line's rest.
    pub read_rest: [u64; 7],
    /// Cores of servers that have died by themselves.
    pub cores: [Left; LEFT_MAX],
    /// Reproducers of what they died of.
    pub reproducers: [Left; LEFT_MAX],
}

/// Most of each kind that a ring's header page tells of.
pub const LEFT_MAX: usize = 8;

/// What is left of a dead server, and where in the machine's memory that lies: a host that reads along takes it out
/// when the machine has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Left {
    /// Its number, from 1 on. 0: there is nothing.
    pub serial: u32,
    /// The server's.
    pub server: u32,
    /// The incarnation that died.
    pub incarnation: u64,
    /// Its physical address.
    pub place: u64,
    /// Bytes of each section, one behind the other. A core has but one.
    pub lengths: [u64; 3],
    /// Snapshots that the server had made.
    pub snapshots: u64,
    /// A line's rest.
    pub rest: u64,
}

/// Parts of a ring, each of which begins with a record.
pub const PARTS: u64 = 16;

/// Where a ring's header page ends and its records begin.
pub const RING_OFFSET: u64 = super::PAGE_SIZE;

/// One row of the table of events.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The event.
    pub event: Event,
    /// Its name.
    pub name: &'static str,
    /// Its arguments in order.
    pub arguments: &'static [&'static str],
    /// What it says.
    pub meaning: &'static str,
}

macro_rules! events {
    ($($number:literal $name:ident $text:literal ($($argument:ident),*) $meaning:literal;)*) => {
        /// A record that is no system call of a server.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        #[repr(u16)]
        pub enum Event { $(#[doc = $meaning] $name = FIRST_EVENT + $number,)* }

        /// The events in the order of their numbers, without gaps.
        pub const EVENTS: &[Row] = &[$(Row {
            event: Event::$name,
            name: $text,
            arguments: &[$(stringify!($argument)),*],
            meaning: $meaning,
        },)*];
    };
}

events! {
    0 Pad "pad" ()
        "Nothing: fills the end of a part of the ring. Its payload means nothing and may be of any length; it has no stamp.";
    1 Lost "lost" (records) "So many records are missing here.";
    2 Filter "filter" (servers, processes, calls, natives)
        "From here on only what passes this filter is recorded; all zero: everything. servers: one bit by number; the others: how many the filter names. The first record of a trace.";
    3 Linux "linux" (call, word0, word1, word2, word3, word4, word5)
        "A program makes a system call: its number, and in the high half where it goes (To). With a value the kernel has answered it by itself, and the value is the result. Payload: a small input, if it went along at once.";
    4 Result "result" (result)
        "A call is over by the kernel's doing, with this result: of a program's call what it gets, else a negative errno.";
    5 Delivered "delivered" (kind, badge, word0, word1, lengths)
        "A server receives an event: its kind, and in the high half its label; the badge (of an answer: the tag); the lengths of a program's two inputs, or of the payload. Payload: what came along.";
    6 Fault "fault" (kind, address, access, instruction, to)
        "A program's thread faults, or (with a cause) a page of its memory is missing for a call: FaultKind; address and access, or vector and code; who is to help.";
    7 Attention "attention" (occasion, restart, to) "A thread comes to its process server before it runs on.";
    8 Cancelled "cancelled" (held)
        "The caller wants its call back. 0: it was in a queue and is withdrawn; 1: its holder is told.";
    9 Forgotten "forgotten" (held)
        "The caller of this call is gone, and the call with it, or (1) as soon as its holder answers.";
    10 Notified "notified" (to, bits) "The kernel posts notification bits: an interrupt, a timer.";
    11 Redelivered "redelivered" (to) "A call that a dead server held goes to its next incarnation.";
    12 ThreadMade "thread_made" (process, thread) "A thread is made, for this process.";
    13 ThreadEnded "thread_ended" (process, thread, cpu_ns) "A thread has ended.";
    14 Exec "exec" (process) "A process has a new program; its name is the first input of the call that is the cause.";
    15 ProcessEnded "process_ended" (process) "A process has no thread any more, and its descriptors are closed.";
    16 ServerStarted "server_started" (server, incarnation)
        "A server starts, the first time or again. It first goes through what its journal has.";
    17 ServerDied "server_died" (server, fault, detail, instruction, incarnation)
        "A server has died: of a Fault of its own with a word about it and the instruction; 0: from outside.";
    18 ServerLive "server_live" (server, incarnation, replayed)
        "A restarted server has gone through its journal's records and serves again.";
    19 ServerGone "server_gone" (server) "A server is given up.";
    20 Disposed "disposed" (server, kind, what) "The event that a server dies of again and again is disposed of.";
}

impl Event {
    /// The event with this number of a record.
    pub fn from_number(number: u16) -> Option<Event> {
        let index = number.checked_sub(FIRST_EVENT)?;
        EVENTS.get(usize::from(index)).map(|row| row.event)
    }

    /// Its row in the table.
    pub fn row(self) -> &'static Row {
        &EVENTS[(self as u16 - FIRST_EVENT) as usize]
    }
}

/// How many arguments the record with this number has. `None` when there is no such record.
pub fn arguments(number: u16) -> Option<usize> {
    match Event::from_number(number) {
        Some(event) => Some(event.row().arguments.len()),
        None => Syscall::from_number(u64::from(number)).map(|call| call.row().arguments.len()),
    }
}

/// Where a message goes: the receiver's number, and whether it has it at once. A message that it has at once has no
/// record of its delivery: the receiver handles it from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct To {
    /// The server's number; 0 is the kernel itself.
    pub server: u16,
    /// It runs with it already.
    pub at_once: bool,
}

impl To {
    /// In a word's lower half.
    pub const AT_ONCE: u64 = 1 << 16;

    /// From a word's lower half.
    pub fn from_word(word: u64) -> To {
        To { server: word as u16, at_once: word & To::AT_ONCE != 0 }
    }
}

/// Who acted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    /// The kernel by itself: an interrupt, a timer.
    Kernel,
    /// The server with this number.
    Server(u32),
    /// A program's thread.
    Program {
        /// Its process.
        pid: u32,
        /// Its thread id.
        tid: u32,
    },
}

/// The most that a process id can be in a record.
const PID_MASK: u64 = 0xff_ffff;

impl Who {
    /// As a word of a record, on processor 0.
    #[inline]
    pub const fn to_word(self) -> u64 {
        match self {
            Who::Kernel => 0,
            Who::Server(number) => (number as u64) << 32,
            Who::Program { pid, tid } => pid as u64 & PID_MASK | (tid as u64) << 32,
        }
    }

    /// From a word of a record.
    pub fn from_word(word: u64) -> Who {
        let (pid, tid) = ((word & PID_MASK) as u32, (word >> 32) as u32);
        match (pid, tid) {
            (0, 0) => Who::Kernel,
            (0, number) => Who::Server(number),
            (pid, tid) => Who::Program { pid, tid },
        }
    }
}

/// When, who, about what and why: the words that every record has behind its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Nanoseconds since boot.
    pub time_ns: u64,
    /// Who acted.
    pub who: Who,
    /// On which processor.
    pub processor: u8,
    /// The call it is about.
    pub call: Option<CallId>,
    /// The call that the acting server was handling.
    pub cause: Option<CallId>,
}

/// A record as it is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record<'a> {
    /// Where it begins, in bytes from the beginning of what is read.
    pub at: u64,
    /// Its header.
    pub header: Header,
    /// When, who, about what and why.
    pub stamp: Stamp,
    /// Its arguments: as many as its number has, then zeroes.
    pub arguments: [u64; ARGUMENTS_MAX],
    /// Its values: as many as the header says, then zeroes.
    pub values: [u64; VALUES_MAX as usize],
    /// Its payload.
    pub payload: &'a [u8],
}

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum What {
    /// A server's system call. Its arguments, values and payload are the record's.
    Native { call: Syscall, error: Option<KernelError>, to: Option<To> },
    /// [`Event::Pad`].
    Pad,
    /// [`Event::Lost`].
    Lost { records: u64 },
    /// [`Event::Filter`].
    Filter { servers: u64, processes: u64, calls: u64, natives: u64 },
    /// [`Event::Linux`].
    Linux { number: u32, to: To, arguments: [u64; 6], result: Option<i64> },
    /// [`Event::Result`].
    Result { result: i64 },
    /// [`Event::Delivered`].
    Delivered { kind: Option<Kind>, label: u32, badge: u64, words: [u64; 2], lengths: [u32; 2] },
    /// [`Event::Fault`].
    Fault { kind: Option<FaultKind>, address: u64, access: u64, instruction: u64, to: To },
    /// [`Event::Attention`].
    Attention { occasion: Option<Occasion>, restart: u64, to: To },
    /// [`Event::Cancelled`].
    Cancelled { held: bool },
    /// [`Event::Forgotten`].
    Forgotten { held: bool },
    /// [`Event::Notified`].
    Notified { to: To, bits: u64 },
    /// [`Event::Redelivered`].
    Redelivered { to: To },
    /// [`Event::ThreadMade`].
    ThreadMade { process: u32, thread: u32 },
    /// [`Event::ThreadEnded`].
    ThreadEnded { process: u32, thread: u32, cpu_ns: u64 },
    /// [`Event::Exec`].
    Exec { process: u32 },
    /// [`Event::ProcessEnded`].
    ProcessEnded { process: u32 },
    /// [`Event::ServerStarted`].
    ServerStarted { server: u32, incarnation: u32 },
    /// [`Event::ServerDied`]; fault is a number of [`crate::abi::crash::Fault`].
    ServerDied { server: u32, fault: u64, detail: u64, instruction: u64, incarnation: u32 },
    /// [`Event::ServerLive`].
    ServerLive { server: u32, incarnation: u32, replayed: u64 },
    /// [`Event::ServerGone`].
    ServerGone { server: u32 },
    /// [`Event::Disposed`].
    Disposed { server: u32, kind: Option<Kind>, what: u64 },
}

impl Record<'_> {
    /// What it says. Its number is one that there is: the reader has seen to that.
    pub fn what(&self) -> What {
        let [a, b, c, d, e, ..] = self.arguments;
        let (low, high) = (a as u32, a >> 32);
        let Some(event) = Event::from_number(self.header.number) else { return self.native() };
        match event {
            Event::Pad => What::Pad,
            Event::Lost => What::Lost { records: a },
            Event::Filter => What::Filter { servers: a, processes: b, calls: c, natives: d },
            Event::Linux => {
                let [_, arguments @ ..] = self.arguments;
                let result = (self.header.values > 0).then_some(self.values[0] as i64);
                What::Linux { number: low, to: To::from_word(high), arguments, result }
            }
            Event::Result => What::Result { result: a as i64 },
            Event::Delivered => What::Delivered {
                kind: Kind::from_number(low),
                label: high as u32,
                badge: b,
                words: [c, d],
                lengths: [e as u32, (e >> 32) as u32],
            },
            Event::Fault => What::Fault {
                kind: FaultKind::from_number(low),
                address: b,
                access: c,
                instruction: d,
                to: To::from_word(e),
            },
            Event::Attention => {
                What::Attention { occasion: Occasion::from_number(a), restart: b, to: To::from_word(c) }
            }
            Event::Cancelled => What::Cancelled { held: a != 0 },
            Event::Forgotten => What::Forgotten { held: a != 0 },
            Event::Notified => What::Notified { to: To::from_word(a), bits: b },
            Event::Redelivered => What::Redelivered { to: To::from_word(a) },
            _ => self.of_lives(event),
        }
    }

    /// The events about threads, processes and servers.
    fn of_lives(&self, event: Event) -> What {
        let [a, b, c, d, e, ..] = self.arguments;
        let (first, second) = (a as u32, b as u32);
        match event {
            Event::ThreadMade => What::ThreadMade { process: first, thread: second },
            Event::ThreadEnded => What::ThreadEnded { process: first, thread: second, cpu_ns: c },
            Event::Exec => What::Exec { process: first },
            Event::ProcessEnded => What::ProcessEnded { process: first },
            Event::ServerStarted => What::ServerStarted { server: first, incarnation: second },
            Event::ServerDied => {
                What::ServerDied { server: first, fault: b, detail: c, instruction: d, incarnation: e as u32 }
            }
            Event::ServerLive => What::ServerLive { server: first, incarnation: second, replayed: c },
            Event::ServerGone => What::ServerGone { server: first },
            Event::Disposed => What::Disposed { server: first, kind: Kind::from_number(second), what: c },
            _ => What::Pad,
        }
    }

    fn native(&self) -> What {
        let Some(call) = Syscall::from_number(u64::from(self.header.number)) else { return What::Pad };
        let error = KernelError::from_number(u64::from(self.header.error));
        let sends = matches!(call, Syscall::Call | Syscall::Send | Syscall::Forward);
        let to = (sends && self.header.values > 0).then(|| To::from_word(self.values[0]));
        What::Native { call, error, to }
    }

    /// The result with which a program's call is over, when this record says so; its name is [`Stamp::call`], and there
    /// is none when the kernel answered it at once.
    pub fn result(&self) -> Option<i64> {
        match self.what() {
            What::Linux { result, .. } => result,
            What::Result { result } => Some(result),
            What::Native { call: Syscall::ReplyForeign, error: None, .. } => Some(self.arguments[2] as i64),
            _ => None,
        }
    }
}
