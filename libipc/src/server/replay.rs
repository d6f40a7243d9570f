//! A server run again over its journal, on the host: every trap is answered from the record of it, and must be the
//! trap that was recorded. Where the journal ends, the run ends. A digest that the server told in the machine is such a
//! trap too, so a replay that comes to another state is found out there. The history of a server that died of a message
//! leads to the same death.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::{
    fmt::{self, Write},
    iter,
};
use serde::Serialize;

use super::shell::{Kept, Shell};
use super::{Boot, Event, Server, receive};
use crate::abi::delivery::{DELIVERY_OFFSET, Delivery, PAYLOAD_OFFSET};
use crate::abi::journal::{
    DIED, DISPOSED, EXPORT_MAGIC, EXPORT_VERSION, ExportHeader, Record, SUM_START, Section, delivery_bytes,
    sum,
};
use crate::abi::syscall::{Info, Syscall};
use crate::abi::{KernelError, PAYLOAD_MAX};
use crate::sys::{BUFFER_BYTES, Trapped, Traps};
use zerocopy::FromBytes;

/// A recovered history of a server: what `/proc/naiad/servers/NAME/journal` gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// What root told it.
    pub boot: Boot,
    /// The snapshot it starts from; empty when there is none yet.
    pub snapshot: Vec<u8>,
    /// The records since.
    pub journal: Vec<u8>,
    /// Snapshots it had made.
    pub snapshots: u64,
    /// All that the last message led to is in the journal.
    pub settled: bool,
    /// The server died of the last message.
    pub died: bool,
}

/// Why a file is no history that can be replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HistoryError {
    /// It does not begin as one.
    Unknown,
    /// It is of another version.
    Version(u32),
    /// It ends too early: bytes there are, and bytes there should be.
    Short(u64, u64),
    /// Its header is damaged.
    Header,
    /// A section is damaged.
    Damaged(Section),
    /// The boot block says nothing that this version understands.
    Boot,
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HistoryError::Unknown => f.write_str("this is no journal of a server of Naiad"),
            HistoryError::Version(version) => {
                write!(
                    f,
                    "the journal is of version {version}, and only version {EXPORT_VERSION} can be read"
                )
            }
            HistoryError::Short(there, wanted) => {
                write!(f, "the journal ends after {there} of its {wanted} bytes")
            }
            HistoryError::Header => f.write_str("the journal's header is damaged"),
            HistoryError::Damaged(section) => {
                let name = match section {
                    Section::Boot => "boot block",
                    Section::Snapshot => "snapshot",
                    Section::Journal => "list of records",
                    Section::Core => "core",
                };
                write!(f, "the journal's {name} is damaged, or changed while it was copied: copy it again")
            }
            HistoryError::Boot => f.write_str("the journal's boot block is not that of a server"),
        }
    }
}

impl core::error::Error for HistoryError {}

impl History {
    /// Takes the first history off a file that holds one or more.
    ///
    /// # Errors
    /// See [`HistoryError`]; nothing has been taken then.
    pub fn take(file: &mut &[u8]) -> Result<History, HistoryError> {
        if !file.starts_with(&EXPORT_MAGIC) {
            return Err(HistoryError::Unknown);
        }
        let short = |wanted: u64| HistoryError::Short(file.len() as u64, wanted);
        let (header, mut rest) =
            ExportHeader::read_from_prefix(file).map_err(|_| short(size_of::<ExportHeader>() as u64))?;
        if header.version != EXPORT_VERSION {
            return Err(HistoryError::Version(header.version));
        }
        if header.sum != header.own_sum()
            || u64::from(header.header_bytes) != size_of::<ExportHeader>() as u64
        {
            return Err(HistoryError::Header);
        }
        let total = header
            .lengths
            .iter()
            .fold(size_of::<ExportHeader>() as u64, |sum, length| sum.saturating_add(*length));
        let mut sections = [&[][..]; 3];
        for (place, section) in sections.iter_mut().zip(Section::ALL) {
            let length = usize::try_from(header.lengths[section as usize]).unwrap_or(usize::MAX);
            (*place, rest) = rest.split_at_checked(length).ok_or_else(|| short(total))?;
            if sum(SUM_START, place) != header.sums[section as usize] {
                return Err(HistoryError::Damaged(section));
            }
        }
        let [boot, snapshot, journal] = sections;
        let boot = Boot::from_any_block(boot).ok_or(HistoryError::Boot)?;
        *file = rest;
        Ok(History {
            boot,
            snapshot: snapshot.to_vec(),
            journal: journal.to_vec(),
            snapshots: header.snapshots,
            settled: header.settled == 1,
            died: header.settled == DIED,
        })
    }

    /// How many messages its journal has, and which of them are there with all they led to.
    pub fn messages(&self) -> Messages {
        let recorded = self.deliveries().count() as u64;
        let complete = if self.settled || self.died { recorded } else { recorded.saturating_sub(1) };
        Messages { recorded, complete }
    }

    /// The message with this number, the first being 1.
    pub fn message(&self, number: u64) -> Option<Message> {
        let record = self.deliveries().nth(usize::try_from(number.checked_sub(1)?).ok()?)?;
        Some(Message::of(&record))
    }

    /// All records in order, those of messages that were disposed of among them.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        let mut journal = &self.journal[..];
        iter::from_fn(move || Record::take(&mut journal))
    }

    fn deliveries(&self) -> impl Iterator<Item = Record> {
        self.records().filter(|record| record.header.number == Syscall::Receive as u16)
    }
}

/// A message as it is recorded.
#[derive(Clone, Debug)]
pub struct Message {
    /// What the kernel said of it.
    pub delivery: Delivery,
    /// The event that the server was given; `None` when a page is there that the shell was waiting for.
    pub event: Option<Event>,
}

impl Message {
    /// The message of the record of a receive.
    pub fn of(record: &Record) -> Message {
        let mut buffer = Box::new([0; BUFFER_BYTES]);
        put(&mut buffer, record, true);
        let at = DELIVERY_OFFSET as usize;
        let delivery = Delivery::read_from_bytes(&buffer[at..at + size_of::<Delivery>()]).unwrap_or_default();
        let event = match receive::incoming(&buffer) {
            Some(receive::Incoming::Event(event)) => Some(event),
            _ => None,
        };
        Message { delivery, event }
    }
}

/// Counts of messages in a history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Messages {
    /// All.
    pub recorded: u64,
    /// Those with all they led to: a replay can go so far.
    pub complete: u64,
}

/// Why a replay stopped before the journal's end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Divergence {
    /// The message that the server was serving; 0 for its start.
    pub message: u64,
    /// How many records agreed.
    pub records: u64,
    /// What the journal has.
    pub recorded: String,
    /// What the server did.
    pub made: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "after {} records, serving message {}: the journal has {}, and the server made {}",
            self.records, self.message, self.recorded, self.made
        )
    }
}

impl core::error::Error for Divergence {}

/// What a replay came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Digest of the state at the end of the run.
    pub digest: u64,
    /// Records that were answered.
    pub records: u64,
    /// Messages that were served.
    pub messages: u64,
    /// The digest that the server told last in the machine within the run, and how many messages had been served when
    /// it did. The replay came to the same, or else it would have diverged.
    pub told: Option<(u64, u64)>,
}

/// What traps bring once the run has diverged: the step is let end, and its outcome is not looked at.
const NOTHING: Trapped = Ok([0; 5]);

/// Traps answered from a journal.
pub struct Recorded {
    snapshot: Vec<u8>,
    journal: Vec<u8>,
    /// Where the next record begins.
    next: usize,
    records: u64,
    /// The message that is being served.
    message: u64,
    told: Option<u64>,
    divergence: Option<Divergence>,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl Recorded {
    fn new(snapshot: &[u8], journal: &[u8]) -> Recorded {
        Recorded {
            snapshot: snapshot.to_vec(),
            journal: journal.to_vec(),
            next: 0,
            records: 0,
            message: 0,
            told: None,
            divergence: None,
            buffer: Box::new([0; BUFFER_BYTES]),
        }
    }

    fn diverge(&mut self, recorded: String, made: String) -> Trapped {
        let records = self.records;
        self.divergence.get_or_insert(Divergence { message: self.message, records, recorded, made });
        self.next = self.journal.len();
        NOTHING
    }

    /// The next record, and where the one behind it begins.
    fn peek(&self) -> Option<(Record, usize)> {
        let mut rest = self.journal.get(self.next..)?;
        Record::take(&mut rest).map(|record| (record, self.journal.len() - rest.len()))
    }

    /// The next record that the server saw: it did not see deliveries again that were disposed of.
    fn take(&mut self) -> Option<Record> {
        self.pass_disposed();
        let (record, next) = self.peek()?;
        self.next = next;
        Some(record)
    }

    fn pass_disposed(&mut self) {
        while let Some((record, next)) = self.peek()
            && record.header.number == DISPOSED
        {
            self.next = next;
        }
    }

    fn snapshot_part(&mut self, offset: u64) -> Trapped {
        let rest = self.snapshot.get(offset as usize..).unwrap_or_default();
        let part = &rest[..rest.len().min(PAYLOAD_MAX as usize)];
        let from = PAYLOAD_OFFSET as usize;
        self.buffer[from..from + part.len()].copy_from_slice(part);
        Ok([part.len() as u64, 0, 0, 0, 0])
    }
}

/// Leaves in a message buffer what a record's trap has left there: a delivery and its payload, or a payload alone.
fn put(buffer: &mut [u8; BUFFER_BYTES], record: &Record, delivers: bool) {
    let (delivery, payload) = match delivers {
        true => record.payload.split_at(delivery_bytes(&record.payload)),
        false => (&[][..], &record.payload[..]),
    };
    let at = DELIVERY_OFFSET as usize;
    buffer[at..at + delivery.len()].copy_from_slice(delivery);
    let at = PAYLOAD_OFFSET as usize;
    let length = payload.len().min(BUFFER_BYTES - at);
    buffer[at..at + length].copy_from_slice(&payload[..length]);
}

/// A trap in words: its name, and its arguments by theirs.
pub fn trap_in_words(number: u16, arguments: &[u64; 6]) -> String {
    let Some(call) = Syscall::from_number(u64::from(number)) else {
        return alloc::format!("unknown call {number}");
    };
    let row = call.row();
    let mut words = String::from(row.name);
    for (index, (name, value)) in row.arguments.iter().zip(arguments).enumerate() {
        let opening = if index == 0 { '(' } else { ' ' };
        let closing = if index + 1 == row.arguments.len() { ")" } else { "," };
        let value = Word(name, *value);
        // Writing to a string never fails.
        let _ = write!(words, "{opening}{name} {value}{closing}");
    }
    words
}

/// An argument as somebody who reads it wants it: results signed, small numbers decimal, all else hexadecimal.
struct Word(&'static str, u64);

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Word("result", value) => write!(f, "{}", value as i64),
            Word("info", value) => {
                let Info { label, payload_len, handles } = Info::unpack(value);
                write!(f, "[label {label:#x}, {payload_len} bytes, {handles} handles]")
            }
            Word(_, value) if value < 1 << 16 => write!(f, "{value}"),
            Word(_, value) => write!(f, "{value:#x}"),
        }
    }
}

impl Traps for Recorded {
    fn trap(&mut self, call: Syscall, mut arguments: [u64; 6]) -> Trapped {
        match call {
            Syscall::SnapshotRead => return self.snapshot_part(arguments[0]),
            Syscall::SnapshotWrite | Syscall::SnapshotCommit => return Ok([0; 5]),
            // An address of the server's own memory is not recorded.
            Syscall::LeaseWrite => arguments = [arguments[0], arguments[1], 0, arguments[3], 0, 0],
            Syscall::Receive => arguments = [0; 6],
            _ => {}
        }
        let Some(record) = self.take() else { return NOTHING };
        if record.header.number != call as u16 || record.arguments != arguments {
            return self.diverge(
                trap_in_words(record.header.number, &record.arguments),
                trap_in_words(call as u16, &arguments),
            );
        }
        self.records += 1;
        if call == Syscall::Digest {
            self.told = Some(arguments[0]);
        }
        put(&mut self.buffer, &record, call == Syscall::Receive);
        match KernelError::from_number(u64::from(record.header.error)) {
            Some(error) => Err(error),
            None => Ok(record.values),
        }
    }

    fn trap_then_receive(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        let trapped = self.trap(call, arguments)?;
        self.pass_disposed();
        // Where the journal ends there is nothing more to receive.
        if self.next == self.journal.len() { Ok(trapped) } else { self.trap(Syscall::Receive, [0; 6]) }
    }

    fn buffer(&mut self) -> &mut [u8; BUFFER_BYTES] {
        &mut self.buffer
    }
}

/// What runs over recorded traps: a server in its shell, or root.
pub trait Replayable: Sized {
    /// Starts as a new incarnation does.
    fn begin(boot: &Boot, traps: Recorded) -> Self;

    /// Receives one message and sees it through.
    fn serve_one(&mut self);

    /// The way to the kernel.
    fn traps(&mut self) -> &mut Recorded;

    /// The digest of its state, as it tells it in the machine.
    fn digest(&self) -> u64;

    /// Its state, for those who want to read it.
    fn state(&self) -> impl Serialize + '_;
}

/// The whole state of a server in its shell, by name.
#[derive(Serialize)]
struct Whole<'a, S> {
    server: &'a S,
    shell: &'a Kept,
}

impl<S: Server> Replayable for Shell<S, Recorded> {
    fn begin(boot: &Boot, traps: Recorded) -> Self {
        Shell::start(boot, traps)
    }

    fn serve_one(&mut self) {
        Shell::serve_one(self);
    }

    fn traps(&mut self) -> &mut Recorded {
        &mut self.traps
    }

    fn digest(&self) -> u64 {
        Shell::digest(self)
    }

    fn state(&self) -> impl Serialize + '_ {
        Whole { server: &self.server, shell: &self.kept }
    }
}

/// Looks on while a server is run again.
pub trait Onlooker<R> {
    /// The message with this number is about to be served.
    fn before(&mut self, number: u64);

    /// This is how it stands after so many messages; 0 is its start.
    fn after(&mut self, number: u64, run: &R) {
        let _ = (number, run);
    }
}

/// Runs a server over its history, to its end or for so many messages. A message whose consequences are not all
/// recorded is left out, unless the server died of it.
///
/// # Errors
/// What the server did first that it had not done in the machine.
///
/// # Panics
/// Where the server does.
pub fn replay<R: Replayable>(
    history: &History,
    until: Option<u64>,
    onlooker: &mut impl Onlooker<R>,
) -> Result<Outcome, Divergence> {
    let last = history.messages().complete.min(until.unwrap_or(u64::MAX));
    let mut run = R::begin(&history.boot, Recorded::new(&history.snapshot, &history.journal));
    let (mut messages, mut told) = (0, None);
    onlooker.after(messages, &run);
    while run.traps().divergence.is_none() && messages < last {
        run.traps().message = messages + 1;
        onlooker.before(messages + 1);
        run.serve_one();
        messages += 1;
        if run.traps().divergence.is_none() {
            onlooker.after(messages, &run);
        }
        told = run.traps().told.take().map(|digest| (digest, messages)).or(told);
    }
    match run.traps().divergence.take() {
        Some(divergence) => Err(divergence),
        None => Ok(Outcome { digest: run.digest(), records: run.traps().records, messages, told }),
    }
}

#[cfg(test)]
mod tests;
