//! The journal of a server: every trap it made, with what came of it, appended in the same step as the effect, where
//! the server cannot write. A restarted server runs the same binary; its traps are answered from here until the
//! journal ends, and from there on it is live. Beside it lie two halves for snapshots, one sound and one being
//! written. The format of records is [`libipc::abi::journal`]'s.

use libipc::abi::delivery::{DELIVERY_OFFSET, PAYLOAD_OFFSET};
use libipc::abi::journal::{DELIVERY_BYTES, FIXED_BYTES, Header, VALUES_MAX};
use libipc::abi::syscall::Syscall;
use libipc::abi::{KernelError, PAYLOAD_MAX};

use super::arena::Id;
use super::inbox::Inbox;
use super::machine::Machine;
use super::object::*;
use super::server::Line;
use super::{Kernel, Outcome};
use zerocopy::FromBytes;

const VALUES: usize = VALUES_MAX as usize;
/// Longest record.
const RECORD_MAX: u64 = FIXED_BYTES + 8 * VALUES as u64 + DELIVERY_BYTES + PAYLOAD_MAX as u64;

/// One server's journal and snapshots.
#[derive(Clone, Copy, Debug, Default)]
pub struct Journal {
    /// Where records lie.
    pub memory: FrameRange,
    /// Bytes written.
    pub end: u64,
    /// Records written since the last snapshot.
    pub records: u64,
    /// Where the answers for a restarted server come from; `None` when it is live.
    pub cursor: Option<u64>,
    /// Two halves of snapshot memory.
    pub snapshots: FrameRange,
    /// Which half is sound.
    pub active: u8,
    /// Bytes of the sound snapshot.
    pub sound_bytes: u64,
    /// Digest the server gave with it.
    pub digest: u64,
    /// Snapshots made so far.
    pub snapshots_made: u64,
    /// Bytes written to the other half so far.
    pub writing_bytes: u64,
}

impl Journal {
    fn half_bytes(&self) -> u64 {
        self.snapshots.bytes() / 2
    }

    pub(crate) fn half_offset(&self, active: bool) -> u64 {
        let index = if active { self.active } else { 1 - self.active };
        u64::from(index) * self.half_bytes()
    }

    /// How full it is, in thousandths.
    pub(crate) fn fill(&self) -> u32 {
        match self.memory.bytes() {
            0 => 0,
            bytes => (self.end * 1000 / bytes) as u32,
        }
    }
}

/// What a replay finds for a trap.
pub(crate) enum Replayed {
    /// The recorded result.
    Answer(Outcome),
    /// A recorded delivery, now in the message buffer.
    Delivery,
    /// The journal has ended: carry the trap out.
    Live,
    /// The server did something else than it did before.
    Diverged,
}

impl<M: Machine> Kernel<M> {
    fn words(machine: &mut M, memory: FrameRange, at: u64, words: &mut [u64]) {
        let bytes = machine.bytes(memory, at, words.len() as u64 * 8);
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = <[u8; 8]>::try_from(chunk).map_or(0, u64::from_le_bytes);
        }
    }

    /// Makes room for a record of a server that is live and has a journal: where it goes, and the message buffer.
    fn room(&mut self, id: Id<Server>, bytes: u64) -> Option<(FrameRange, u64, FrameRange)> {
        let server = self.servers.get_mut(id)?;
        let (task, buffer) = (server.task, server.buffer);
        let journal = server.journal.as_mut()?;
        if journal.cursor.is_some() || journal.memory.count == 0 {
            return None;
        }
        let at = journal.end;
        if at + bytes > journal.memory.bytes() {
            self.server_fault(task, "journal full", 0);
            return None;
        }
        journal.end += bytes;
        journal.records += 1;
        Some((journal.memory, at, buffer))
    }

    /// Records a finished trap with its result and the payload it left.
    pub(crate) fn record(
        &mut self,
        id: Id<Server>,
        call: Syscall,
        arguments: &[u64; 6],
        outcome: &Outcome,
        payload: u32,
    ) {
        let (error, values): (u8, &[u64]) = match outcome {
            Ok(values) if values.iter().fold(0, |all, value| all | value) == 0 => (0, &[]),
            Ok(values) => (0, values),
            Err(error) => (*error as u8, &[]),
        };
        let header = Header { number: call as u16, error, values: values.len() as u8, payload };
        let Some((memory, at, buffer)) = self.room(id, header.bytes()) else { return };
        let fixed = self.machine.bytes(memory, at, FIXED_BYTES);
        if let Ok(words) = <[[u8; 8]]>::mut_from_bytes(fixed)
            && let [first, rest @ ..] = words
        {
            *first = header.pack().to_le_bytes();
            for (place, word) in rest.iter_mut().zip(arguments) {
                *place = word.to_le_bytes();
            }
        }
        if !values.is_empty() {
            let bytes = self.machine.bytes(memory, at + FIXED_BYTES, values.len() as u64 * 8);
            for (place, word) in bytes.chunks_exact_mut(8).zip(values) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
        if payload > 0 {
            let to = memory.physical() + at + FIXED_BYTES + 8 * values.len() as u64;
            let from = buffer.physical() + u64::from(PAYLOAD_OFFSET);
            self.machine.copy(from, to, u64::from(payload));
        }
    }

    /// Records what a receive brought.
    pub(crate) fn record_delivery(&mut self, inbox: &Inbox) {
        let Some(server) = self.servers.get_mut(inbox.server) else { return };
        server.received += 1;
        if server.journal.is_none() {
            return;
        }
        let length =
            Self::delivery(&mut self.machine, inbox.buffer).map_or(0, |delivery| delivery.payload_len);
        // The payload follows the delivery in the record as if the gap between them were not there.
        let payload = DELIVERY_BYTES as u32 + length;
        let header = Header { number: Syscall::Receive as u16, error: 0, values: 0, payload };
        let Some((memory, at, buffer)) = self.room(inbox.server, header.bytes()) else { return };
        let fixed = self.machine.bytes(memory, at, FIXED_BYTES);
        if let Some((first, rest)) = fixed.split_first_chunk_mut::<8>() {
            *first = header.pack().to_le_bytes();
            rest.fill(0);
        }
        let to = memory.physical() + at + FIXED_BYTES;
        self.machine.copy(buffer.physical() + u64::from(DELIVERY_OFFSET), to, DELIVERY_BYTES);
        if length > 0 {
            let from = buffer.physical() + u64::from(PAYLOAD_OFFSET);
            self.machine.copy(from, to + DELIVERY_BYTES, u64::from(length));
        }
    }

    /// The header and the arguments of the record that a replay has come to, and its place in the journal.
    pub(crate) fn next_recorded(&mut self, id: Id<Server>) -> Option<([u64; 7], u64)> {
        let Journal { cursor: Some(at), memory, .. } = self.servers.get(id)?.journal? else { return None };
        let mut fixed = [0; 7];
        Self::words(&mut self.machine, memory, at, &mut fixed);
        Some((fixed, at))
    }

    /// Answers a trap of a restarted server from its journal.
    pub(crate) fn replay(&mut self, id: Id<Server>, call: Syscall, arguments: &[u64; 6]) -> Replayed {
        let Some(server) = self.servers.get(id) else { return Replayed::Live };
        let buffer = server.buffer;
        let Some(Journal { cursor: Some(at), end, memory, .. }) = &server.journal else {
            return Replayed::Live;
        };
        let (at, end, memory) = (*at, *end, *memory);
        if at >= end {
            if let Some(journal) = self.servers.get_mut(id).and_then(|server| server.journal.as_mut()) {
                journal.cursor = None;
            }
            return Replayed::Live;
        }
        let Some((fixed, _)) = self.next_recorded(id) else { return Replayed::Live };
        let header = Header::unpack(fixed[0]);
        if header.number != call as u16 || (call != Syscall::Receive && fixed[1..] != arguments[..]) {
            return Replayed::Diverged;
        }
        if let Some(journal) = self.servers.get_mut(id).and_then(|server| server.journal.as_mut()) {
            journal.cursor = Some(at + header.bytes());
        }
        let values_at = at + FIXED_BYTES;
        let payload_at = memory.physical() + values_at + 8 * u64::from(header.values);
        if call == Syscall::Receive {
            let to = buffer.physical() + u64::from(DELIVERY_OFFSET);
            self.machine.copy(payload_at, to, DELIVERY_BYTES);
            let length = u64::from(header.payload).saturating_sub(DELIVERY_BYTES);
            let to = buffer.physical() + u64::from(PAYLOAD_OFFSET);
            self.machine.copy(payload_at + DELIVERY_BYTES, to, length);
            return Replayed::Delivery;
        }
        self.machine.copy(
            payload_at,
            buffer.physical() + u64::from(PAYLOAD_OFFSET),
            u64::from(header.payload),
        );
        if let Some(error) = KernelError::from_number(u64::from(header.error)) {
            return Replayed::Answer(Err(error));
        }
        let mut values = [0; VALUES];
        let count = usize::from(header.values).min(values.len());
        Self::words(&mut self.machine, memory, values_at, &mut values[..count]);
        Replayed::Answer(Ok(values))
    }

    /// A restarted server did not do what it had done before.
    pub(crate) fn server_diverged(&mut self, task: TaskId, call: Syscall, arguments: &[u64; 6]) {
        let id = self.tasks.get(task).and_then(|task| task.server);
        let (recorded, before) = id.and_then(|id| self.next_recorded(id)).unwrap_or_default();
        let end = id.and_then(|id| self.servers.get(id)?.journal).map_or(0, |journal| journal.end);
        let name = Syscall::from_number(recorded[0] & 0xffff).map_or("nothing", |call| call.row().name);
        let mut line = Line::new();
        let _ = core::fmt::write(
            &mut line,
            format_args!(
                "journal and server disagree at byte {before} of {end}: {name}{:x?} became {}{arguments:x?}\n",
                &recorded[1..],
                call.row().name
            ),
        );
        self.machine.log(line.bytes());
        self.server_fault(task, call.row().name, 0);
    }

    fn own_journal(&mut self, task: TaskId) -> Result<&mut Journal, KernelError> {
        self.server_mut(task).and_then(|server| server.journal.as_mut()).ok_or(KernelError::WrongState)
    }

    pub(crate) fn snapshot_write(&mut self, task: TaskId, [length, behind, ..]: [u64; 6]) -> Outcome {
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let journal = self.own_journal(task)?;
        if length > u64::from(PAYLOAD_MAX) {
            return Err(KernelError::TooBig);
        }
        let behind = behind != 0;
        let from = if behind { journal.sound_bytes } else { 0 } + journal.writing_bytes;
        if from + length > journal.half_bytes() {
            journal.writing_bytes = 0;
            return Err(KernelError::Exhausted);
        }
        let to = journal.snapshots.physical() + journal.half_offset(behind) + from;
        journal.writing_bytes += length;
        self.machine.copy(buffer.physical() + u64::from(PAYLOAD_OFFSET), to, length);
        Ok([0; 5])
    }

    /// The snapshot just written is the one to start from, or what was written behind the last is part of it: the
    /// journal before it is not needed any more.
    pub(crate) fn snapshot_commit(&mut self, task: TaskId, [digest, behind, ..]: [u64; 6]) -> Outcome {
        let journal = self.own_journal(task)?;
        if journal.writing_bytes == 0 {
            return Err(KernelError::WrongState);
        }
        let written = core::mem::take(&mut journal.writing_bytes);
        if behind != 0 {
            journal.sound_bytes += written;
        } else {
            journal.active = 1 - journal.active;
            journal.sound_bytes = written;
        }
        journal.digest = digest;
        journal.snapshots_made += 1;
        journal.end = 0;
        journal.records = 0;
        // A replay that comes to the snapshot it was making when it died has come to the journal's end.
        journal.cursor = None;
        Ok([0; 5])
    }

    pub(crate) fn snapshot_read(&mut self, task: TaskId, [offset, ..]: [u64; 6]) -> Outcome {
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let Ok(journal) = self.own_journal(task) else { return Ok([0; 5]) };
        let total = journal.sound_bytes;
        let length = total.saturating_sub(offset).min(u64::from(PAYLOAD_MAX));
        let from = journal.snapshots.physical() + journal.half_offset(true) + offset.min(journal.sound_bytes);
        self.machine.copy(from, buffer.physical() + u64::from(PAYLOAD_OFFSET), length);
        Ok([length, total, 0, 0, 0])
    }
}

const _: () = assert!(RECORD_MAX < 1 << 16);
