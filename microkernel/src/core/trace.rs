//! The trace: a record of whatever happens, as it happens, for people. Its format is [`libipc::abi::trace`]'s.
//!
//! Nothing here changes anything but the ring, the word of each call that says what caused it, and the word of each
//! server's thread that says what it is handling; nobody but the trace looks at these. Whoever does something calls one
//! function of this file; while tracing is off, that is one test, and on the short way of messages none, because the
//! word that says it is looked at anyway.

use libipc::abi::delivery::{Delivery, INPUT_NULL, Kind, PAYLOAD_OFFSET};
use libipc::abi::journal::Header;
use libipc::abi::syscall::{Info, Syscall};
use libipc::abi::trace::{Event, Filter, PAYLOAD_KEPT, To, Who};
use libipc::abi::{KernelError, PAGE_SIZE, Protection, Rights};
use zerocopy::FromBytes;

use super::command_line::value;
use super::inbox::Inbox;
use super::ipc::Caller;
use super::machine::Machine;
use super::native::ABI_VERSION;
use super::object::*;
use super::server::Line;
use super::{Kernel, Outcome};

mod last;
mod ring;
mod tell;

pub use ring::{BYTES_MAX, BYTES_MIN, OWN_BYTES, Ring, RingMemory, RingPage};

/// What keeps messages from the short way, in a word that it looks at. Tracing is on: there is a short way for that.
/// The lowest of them, so that one comparison tells nothing, this alone and all else.
pub(crate) const TRACED: u8 = 1;
/// An end is set for a server.
pub(crate) const DOOMED: u8 = 2;
/// Not everything is traced.
const FILTERED: u8 = 4;
/// A server is being upgraded.
pub(crate) const UPGRADING: u8 = 8;

/// The command line's `trace=` is not followed by a number of bytes that a ring can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadRing;

/// The size of the ring that a host reads along with, when the command line has one (`trace=BYTES`).
///
/// # Errors
/// `trace=` without a power of two of at least [`BYTES_MIN`] behind it.
pub fn wanted(command_line: &[u8]) -> Result<Option<u64>, BadRing> {
    let Some(text) = value(command_line, b"trace=") else { return Ok(None) };
    let bytes = text.parse().ok().filter(|bytes: &u64| bytes.is_power_of_two());
    bytes.filter(|bytes| (BYTES_MIN..=BYTES_MAX).contains(bytes)).map(Some).ok_or(BadRing)
}

/// What is traced from boot on, when a host reads along: everything, or what `trace-filter=` says.
pub fn wanted_filter(command_line: &[u8]) -> Option<Filter> {
    value(command_line, b"trace=")?;
    Some(value(command_line, b"trace-filter=").and_then(Filter::read).unwrap_or_default())
}

/// The ring, and what is recorded.
pub struct Trace {
    /// Where records go.
    pub ring: Ring,
    on: bool,
    filter: Filter,
    /// The answer that is being delivered: the call, and what it goes back to.
    answer: (u64, u64),
}

impl Trace {
    /// Nothing is recorded yet.
    pub fn new(memory: RingMemory) -> Trace {
        Trace { ring: Ring::new(memory), on: false, filter: Filter::default(), answer: (0, 0) }
    }

    #[inline(always)]
    pub(crate) fn is_on(&self) -> bool {
        self.on
    }
}

/// The beginning of a record: what it is, who acted, about which call, and why.
#[derive(Clone, Copy)]
pub(crate) struct Head {
    pub number: u16,
    pub error: u8,
    pub who: u64,
    pub call: u64,
    pub cause: u64,
}

impl Head {
    pub(crate) fn event(event: Event, who: u64, call: u64, cause: u64) -> Head {
        Head { number: event as u16, error: 0, who, call, cause }
    }
}

/// The word that says where a message goes which is not delivered yet.
fn queued(server: u32) -> u64 {
    u64::from(server)
}

/// The calls whose first argument names the call that they are about.
fn token(call: Syscall, arguments: &[u64; 6]) -> u64 {
    if call.row().arguments.first() == Some(&"token") { arguments[0] } else { 0 }
}

/// The calls that are recorded before they take effect.
fn is_message(call: Syscall) -> bool {
    matches!(
        call,
        Syscall::Call
            | Syscall::Send
            | Syscall::Reply
            | Syscall::ReplyForeign
            | Syscall::ReplyOpen
            | Syscall::Forward
            | Syscall::Notify
    )
}

impl<M: Machine> Kernel<M> {
    /// Switches tracing on, with a filter, or off.
    pub fn set_trace(&mut self, on: bool, filter: Filter) {
        // What was noted before an interruption, or without a filter, says nothing.
        let begins = on && !self.trace.on;
        for index in 0..self.threads.bound() {
            if let Some(thread) = self.threads.at(index).and_then(|id| self.threads.get_mut(id)) {
                thread.handling = if begins { 0 } else { thread.handling };
            }
        }
        for index in 0..self.calls.bound() {
            if let Some(call) = self.calls.at(index).and_then(|id| self.calls.get_mut(id)) {
                call.cause = if begins { 0 } else { call.cause };
                call.origin = 0;
            }
        }
        (self.trace.on, self.trace.filter) = (on, filter);
        self.unusual &= !(TRACED | FILTERED);
        if on {
            self.unusual |= if filter.is_open() { TRACED } else { TRACED | FILTERED };
            self.tell(Head::event(Event::Filter, 0, 0, 0), &filter.figures(), &[]);
        }
    }

    pub(crate) fn trace_set(&mut self, task: TaskId, [handle, on, ..]: [u64; 6]) -> Outcome {
        self.server_named(task, handle, Rights::INSPECT)?;
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let payload = Self::payload(&mut self.machine, buffer, size_of::<Filter>() as u64);
        let filter = Filter::read_from_bytes(payload).map_err(|_| KernelError::BadArgument)?;
        if on > 1 {
            return Err(KernelError::BadArgument);
        }
        self.set_trace(on == 1, filter);
        Ok([0; 5])
    }

    /// Figures about the trace; see `Statistic::Trace`.
    pub(crate) fn trace_figures(&self, index: u64) -> Outcome {
        let ring = &self.trace.ring;
        let mode = u64::from(self.trace.on) | u64::from(ring.streams()) << 1;
        match index {
            0 => Ok([mode, ring.oldest(), ring.end(), ring.lost(), 0]),
            _ => Ok([ring.bytes(), 0, 0, 0, 0]),
        }
    }

    pub(crate) fn lease_from_trace(&mut self, task: TaskId, arguments: [u64; 6]) -> Outcome {
        let [token, address, handle, position, length, _] = arguments;
        self.server_named(task, handle, Rights::INSPECT)?;
        let id = self.held_call(task, token)?;
        let root = self.window(id, address, length, Protection::WRITE)?;
        let mut copied = 0;
        while copied < length {
            let at = address + copied;
            let place = self.translate(root, at, Protection::WRITE).ok_or(KernelError::BadAddress)?;
            let piece = (PAGE_SIZE - at % PAGE_SIZE).min(length - copied);
            let frame = FrameRange::one(libipc::abi::Frame((place / PAGE_SIZE) as u32));
            let to = self.machine.bytes(frame, place % PAGE_SIZE, piece);
            self.trace.ring.copy_out(position.saturating_add(copied), to);
            copied += piece;
        }
        Ok([0; 5])
    }

    /// Appends a record, unless the filter keeps it back.
    pub(crate) fn tell(&mut self, head: Head, words: &[u64], payload: &[u8]) {
        self.tell_all(head, words, &[], payload);
    }

    fn tell_all(&mut self, head: Head, arguments: &[u64], values: &[u64], payload: &[u8]) {
        let kept = payload.len().min(PAYLOAD_KEPT as usize);
        let header = Header {
            number: head.number,
            error: head.error,
            values: values.len() as u8,
            payload: kept as u32,
        };
        let stamp = [header.pack(), self.machine.now(), head.who, head.call, head.cause];
        let mut words = [0; 12];
        let (first, second) = words.split_at_mut(arguments.len());
        first.copy_from_slice(arguments);
        second[..values.len()].copy_from_slice(values);
        let words = &words[..arguments.len() + values.len()];
        self.trace.ring.append_with(stamp[1], &stamp, words, &payload[..kept]);
    }

    /// Whether the filter lets a record pass that is made by, or sent to, these servers.
    fn passes(&self, head: &Head, to: u32) -> bool {
        if self.unusual & FILTERED == 0 {
            return true;
        }
        let filter = &self.trace.filter;
        let by = match Who::from_word(head.who) {
            Who::Server(number) => number,
            Who::Kernel | Who::Program { .. } => 0,
        };
        let origin = |word: u64| self.calls.get(CallRef::from_word(word)).map_or(0, |call| call.origin);
        let origin = match (origin(head.call), Who::from_word(head.who)) {
            (0, Who::Program { pid, .. }) => u64::from(pid) | NO_CALL,
            (0, _) => origin(head.cause),
            (origin, _) => origin,
        };
        let call = (origin & NO_CALL != NO_CALL).then_some((origin >> 32) as u32);
        filter.passes_servers([by, to])
            && filter.passes_origin(origin as u32, call.filter(|_| origin != 0))
            && (head.number >= libipc::abi::trace::FIRST_EVENT || filter.passes_native(head.number))
    }

    /// Tells the last records on the console log, if there are any.
    pub(crate) fn log_last_records(&mut self) {
        if !self.trace.is_on() {
            return;
        }
        for record in self.trace.ring.last() {
            let mut line = Line::new();
            let _ = core::fmt::write(&mut line, format_args!("  {record}\n"));
            self.machine.log(line.bytes());
        }
    }

    /// Who a thread is, in a record.
    fn who(&self, thread: Option<ThreadId>) -> u64 {
        thread.and_then(|thread| self.threads.get(thread)).map_or(0, |thread| thread.who)
    }

    fn who_serves(&self, server: ServerId) -> u64 {
        Who::Server(self.number_of(server)).to_word()
    }

    fn number_of(&self, server: ServerId) -> u32 {
        self.servers.get(server).map_or(0, |server| server.number)
    }

    /// Who acts, and for which call, if it is a server.
    fn acting(&self) -> (u64, u64) {
        let thread = self.current.and_then(|thread| self.threads.get(thread));
        thread.map_or((0, 0), |thread| (thread.who, thread.handling))
    }

    /// A server's thread, to say what it handles.
    fn thread_of(&mut self, server: ServerId) -> Option<&mut Thread> {
        let thread = self.servers.get(server)?.thread?;
        self.threads.get_mut(thread)
    }

    /// The payload that a server's message has.
    fn message_payload(&mut self, task: TaskId, length: u32) -> [u8; PAYLOAD_KEPT as usize] {
        let mut bytes = [0; PAYLOAD_KEPT as usize];
        let length = length.min(PAYLOAD_KEPT);
        if let Some(buffer) = self.payload_of(task).filter(|_| length > 0) {
            let from = self.machine.bytes(buffer, u64::from(PAYLOAD_OFFSET), u64::from(length));
            bytes[..from.len()].copy_from_slice(from);
        }
        bytes
    }
}

/// In the place of the number of a program's call: something that a thread does by itself.
const NO_CALL: u64 = (u32::MAX as u64) << 32;
