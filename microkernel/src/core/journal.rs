//! The journal of a server: every trap it made, with what came of it, appended in the same step as the effect, where
//! the server cannot write. A restarted server runs the same binary; its traps are answered from here until the
//! journal ends, and from there on it is live. Beside it lie the last two snapshots, and room for
//! the next. The format of records is [`libipc::abi::journal`]'s.

use libipc::abi::crash::Fault;
use libipc::abi::delivery::{CROWDED, DELIVERY_OFFSET, PAYLOAD_OFFSET};
use libipc::abi::journal::{
    ARGUMENTS, DELIVERY_MAX, DISPOSED, FIXED_MAX, Header, SUM_START, VALUES_MAX, sum,
};
use libipc::abi::syscall::Syscall;
use libipc::abi::trace::Event;
use libipc::abi::{KernelError, PAYLOAD_MAX};
use libipc::server::TIMER_BIT;

use super::inbox::Inbox;
use super::machine::Machine;
use super::mend::{Former, Mended};
use super::object::*;
use super::server::Line;
use super::{Kernel, Outcome};
use crate::window::Window;
use zerocopy::FromBytes;

/// Places for snapshots: the last one, the one before it, and one that is being written.
pub(crate) const SNAPSHOTS: u8 = 3;
/// A snapshot is due when the journal is so many times as long as what the last one wrote: then what snapshots cost is
/// a small part of what the journal does, however large the state is, and what a restart goes through is as short as
/// that allows.
const WORTH: u64 = 64;
/// Sooner than after so many bytes none is due.
const DUE_MIN: u64 = 384 << 10;
/// What a server is told when one is due, in thousandths.
const DUE: u64 = 500;
/// What is saved behind a whole snapshot may be as long as that, and by so much longer: a restart reads all of it.
const BEHIND_MIN: u64 = 64 << 10;
const VALUES: usize = VALUES_MAX as usize;
/// Longest record.
const RECORD_MAX: u64 = FIXED_MAX + 8 * VALUES as u64 + DELIVERY_MAX + PAYLOAD_MAX as u64;

/// One server's journal and snapshots.
#[derive(Clone, Copy, Debug, Default)]
pub struct Journal {
    /// Where records lie.
    pub memory: FrameRange,
    /// The same, to write them.
    pub window: Window,
    /// How much nearer a byte brings the next snapshot, in thousandths, as 32.32 fixed point.
    per_byte: u64,
    /// Bytes written.
    pub end: u64,
    /// Records written since the last snapshot.
    pub records: u64,
    /// Where the answers for a restarted server come from; `None` when it is live.
    pub cursor: Option<u64>,
    /// Memory for [`SNAPSHOTS`] snapshots.
    pub snapshots: FrameRange,
    /// At which place the last one is.
    pub active: u8,
    /// Bytes of the sound snapshot.
    pub sound_bytes: u64,
    /// Those of it that were written as a whole.
    whole_bytes: u64,
    /// What was written behind one the last time; 0 if that never happens.
    behind_bytes: u64,
    /// Digest the server gave with it.
    pub digest: u64,
    /// Snapshots made so far.
    pub snapshots_made: u64,
    /// Bytes written of the next one so far.
    pub writing_bytes: u64,
    /// When that began: with its first write, which may be one of nothing.
    snapshot_began_ns: Option<u64>,
    /// How long all snapshots took, each from then on.
    pub snapshots_ns: u64,
    /// What is kept of the time before the last snapshot.
    pub former: Former,
    /// [`CROWDED`] or 0: whether the last whole snapshot took most of what there is for one.
    pub crowded: u32,
    /// Its records are of a server that was not sound: a replay may pass over them.
    pub mended: bool,
}

impl Journal {
    /// Has records lie in this memory from now on.
    pub(crate) fn lie_in(&mut self, memory: FrameRange, window: Window) {
        (self.memory, self.window) = (memory, window);
        self.plan_next();
    }

    /// The next snapshot is due after so many bytes, or when half the memory for them is full.
    fn set_due(&mut self, bytes: u64) {
        let due = bytes.max(DUE_MIN).min(self.memory.bytes() / 2);
        self.per_byte = (DUE << 32).checked_div(due).unwrap_or(0);
    }

    /// Most bytes of one snapshot.
    pub(crate) fn place_bytes(&self) -> u64 {
        self.snapshots.bytes() / u64::from(SNAPSHOTS)
    }

    /// Where a place for a snapshot begins in their memory.
    pub(crate) fn place_offset(&self, place: u8) -> u64 {
        u64::from(place) * self.place_bytes()
    }

    /// How near the next snapshot is, in thousandths, and whether the server's state is crowded.
    pub(crate) fn fill(&self) -> u32 {
        // A snapshot is to take the place of a journal that was mended as soon as can be.
        let fill = if self.mended { 1000 } else { ((self.end * self.per_byte) >> 32) as u32 };
        self.crowded | fill
    }

    /// Forgets the snapshot that is being written.
    pub(crate) fn stop_writing(&mut self) {
        (self.writing_bytes, self.snapshot_began_ns) = (0, None);
    }

    /// Decides when the next snapshot is due, by what it is going to write: what was written behind one the last time,
    /// or a whole one if that never happens.
    fn plan_next(&mut self) {
        let next = if self.behind_bytes > 0 { self.behind_bytes } else { self.whole_bytes };
        self.set_due(next.saturating_mul(WORTH));
    }

    /// Most bytes of a snapshot that is added to.
    fn room_behind(&self) -> u64 {
        self.place_bytes().min(2 * self.whole_bytes + BEHIND_MIN)
    }

    /// Notes how much of what there is for a whole snapshot its server's state takes. What half a journal may add to it
    /// still fits when it is crowded.
    fn note_state(&mut self, bytes: u64) {
        self.crowded = if bytes * 8 > self.place_bytes() * 5 { CROWDED } else { 0 };
    }
}

impl Journal {
    /// Appends a record of a header and these words, and keeps so many bytes behind it for its payload.
    #[inline(always)]
    fn put<M: Machine, const N: usize>(
        &mut self,
        machine: &mut M,
        header: Header,
        words: [u64; N],
        payload: u64,
    ) {
        let (at, bytes) = (self.end, 8 + 8 * N as u64);
        self.end += bytes + payload;
        self.records += 1;
        let bytes = machine.view(self.window, at, bytes);
        if let Some((first, rest)) = bytes.split_first_chunk_mut::<8>()
            && let Ok(places) = <[[u8; 8]; N]>::mut_from_bytes(rest)
        {
            *first = header.pack().to_le_bytes();
            for (place, word) in places.iter_mut().zip(words) {
                *place = word.to_le_bytes();
            }
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
    pub(crate) fn words(machine: &mut M, memory: FrameRange, at: u64, words: &mut [u64]) {
        let bytes = machine.bytes(memory, at, words.len() as u64 * 8);
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = <[u8; 8]>::try_from(chunk).map_or(0, u64::from_le_bytes);
        }
    }

    /// Makes sure that there is room for a record of a server that is live and has a journal, or ends the server.
    fn room(&mut self, id: ServerId, bytes: u64) -> Option<&mut Server> {
        let server = self.servers.get(id)?;
        let (task, journal) = (server.task, server.journal.as_ref()?);
        if journal.cursor.is_some() || journal.memory.count == 0 {
            return None;
        }
        if journal.end + bytes > journal.memory.bytes() {
            self.server_fault(task, Fault::JournalFull, 0);
            return None;
        }
        self.servers.get_mut(id)
    }

    /// Records a finished trap with its result and the payload it left.
    pub(crate) fn record(
        &mut self,
        id: ServerId,
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
        if self.room(id, header.bytes()).is_none() {
            return;
        }
        let Some(server) = self.servers.get_mut(id) else { return };
        let buffer = server.buffer;
        let Some(to) = server.append(&mut self.machine, &header, arguments, values) else { return };
        if payload > 0 {
            let from = buffer.physical() + u64::from(PAYLOAD_OFFSET);
            self.machine.copy(from, to, u64::from(payload));
        }
    }

    /// Records what a receive brought.
    pub(crate) fn record_delivery(&mut self, inbox: &Inbox) {
        let Some(delivery) = Self::delivery(&mut self.machine, inbox.buffer) else { return };
        let (extent, length) = (delivery.extent, delivery.payload_len);
        let room = self.room(inbox.server, received(extent, length).bytes()).is_some();
        let Some(server) = self.servers.get_mut(inbox.server) else { return };
        match room {
            true => server.note_delivery(&mut self.machine, extent, length),
            // What it died of for want of room it has not received: it is the same death the next time.
            false if server.state == ServerState::Dead => {}
            false => server.received += 1,
        }
    }

    /// The header and the arguments of the record that a replay has come to, and its place in the journal.
    pub(crate) fn next_recorded(&mut self, id: ServerId) -> Option<(Header, [u64; ARGUMENTS as usize], u64)> {
        let Journal { cursor: Some(at), end, memory, .. } = self.servers.get(id)?.journal? else {
            return None;
        };
        if at >= end {
            return None;
        }
        let mut first = [0];
        Self::words(&mut self.machine, memory, at, &mut first);
        let header = Header::unpack(first[0]);
        let mut arguments = [0; ARGUMENTS as usize];
        Self::words(&mut self.machine, memory, at + 8, &mut arguments[..header.arguments()]);
        Some((header, arguments, at))
    }

    /// A replay goes on behind deliveries that the server does not see again.
    fn pass_disposed(&mut self, id: ServerId) {
        while let Some((header, _, at)) = self.next_recorded(id).filter(|(next, ..)| next.number == DISPOSED)
        {
            if let Some(journal) = self.servers.get_mut(id).and_then(|server| server.journal.as_mut()) {
                journal.cursor = Some(at + header.bytes());
            }
        }
    }

    /// Answers a trap of a restarted server from its journal.
    pub(crate) fn replay(&mut self, id: ServerId, call: Syscall, arguments: &[u64; 6]) -> Replayed {
        self.pass_disposed(id);
        let Some(server) = self.servers.get(id) else { return Replayed::Live };
        let buffer = server.buffer;
        let Some(journal @ Journal { cursor: Some(at), end, memory, .. }) = server.journal else {
            return Replayed::Live;
        };
        if at >= end {
            if let Some(server) = self.servers.get_mut(id)
                && let Some(journal) = server.journal.as_mut()
            {
                journal.cursor = None;
                let (figures, mended) = ([u64::from(server.incarnation), journal.records], journal.mended);
                // The timer may be set as a lie said.
                server.bits |= if mended { TIMER_BIT } else { 0 };
                self.trace_server(Event::ServerLive, id, &figures);
            }
            self.upgrade_live(id);
            return Replayed::Live;
        }
        let Some((mut header, recorded, mut at)) = self.next_recorded(id) else { return Replayed::Live };
        let count = header.arguments();
        if header.number != call as u16 || recorded[..count] != arguments[..count] {
            match self.mended(id, call, arguments) {
                Mended::At(place) => (header, at) = (self.record_at(&journal, place).0, place),
                Mended::Live => return Replayed::Live,
                Mended::Diverged => return Replayed::Diverged,
            }
        }
        if let Some(journal) = self.servers.get_mut(id).and_then(|server| server.journal.as_mut()) {
            journal.cursor = Some(at + header.bytes());
        }
        let payload_at = memory.physical() + at + header.fixed_bytes();
        if call == Syscall::Receive {
            let to = buffer.physical() + u64::from(DELIVERY_OFFSET);
            self.machine.copy(payload_at, to, u64::from(header.payload).min(DELIVERY_MAX));
            let extent = Self::delivery(&mut self.machine, buffer).map_or(0, |delivery| delivery.extent);
            let extent = u64::from(extent);
            let length = u64::from(header.payload).saturating_sub(extent);
            let to = buffer.physical() + u64::from(PAYLOAD_OFFSET);
            self.machine.copy(payload_at + extent, to, length);
            self.trace_again(id);
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
        let values_at = at + header.fixed_bytes() - 8 * count as u64;
        Self::words(&mut self.machine, memory, values_at, &mut values[..count]);
        Replayed::Answer(Ok(values))
    }

    /// A restarted server did not do what it had done before.
    pub(crate) fn server_diverged(&mut self, task: TaskId, call: Syscall, arguments: &[u64; 6]) {
        let id = self.tasks.get(task).and_then(|task| task.server);
        let end = id.and_then(|id| self.servers.get(id)?.journal).map_or(0, |journal| journal.end);
        let mut line = Line::new();
        if let Some((header, recorded, before)) = id.and_then(|id| self.next_recorded(id)) {
            let name =
                Syscall::from_number(u64::from(header.number)).map_or("nothing", |call| call.row().name);
            let made = call.row().name;
            let _ = core::fmt::write(
                &mut line,
                format_args!(
                    "journal and server disagree at byte {before} of {end}: {name}{recorded:x?} became \
                     {made}{arguments:x?}\n"
                ),
            );
        }
        self.machine.log(line.bytes());
        self.server_fault(task, Fault::Diverged, call as u64);
    }

    fn own_journal(&mut self, task: TaskId) -> Result<&mut Journal, KernelError> {
        self.server_mut(task).and_then(|server| server.journal.as_mut()).ok_or(KernelError::WrongState)
    }

    pub(crate) fn snapshot_write(&mut self, task: TaskId, [length, behind, ..]: [u64; 6]) -> Outcome {
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let now = self.machine.now();
        let journal = self.own_journal(task)?;
        if length > u64::from(PAYLOAD_MAX) {
            return Err(KernelError::TooBig);
        }
        if journal.cursor.is_some_and(|at| at < journal.end) {
            // It was made, but is not to start from any more; there may not be one here that forgets what follows.
            return Err(KernelError::WrongState);
        }
        let behind = behind != 0;
        let from = if behind { journal.sound_bytes } else { 0 } + journal.writing_bytes;
        if from + length > if behind { journal.room_behind() } else { journal.place_bytes() } {
            journal.writing_bytes = 0;
            if !behind {
                journal.stop_writing();
                journal.note_state(from + length);
            }
            return Err(KernelError::Exhausted);
        }
        let place = if behind { journal.active } else { journal.free_place() };
        let to = journal.snapshots.physical() + journal.place_offset(place) + from;
        journal.snapshot_began_ns.get_or_insert(now);
        journal.writing_bytes += length;
        self.machine.copy(buffer.physical() + u64::from(PAYLOAD_OFFSET), to, length);
        Ok([0; 5])
    }

    /// The snapshot just written is the one to start from, or what was written behind the last is part of it: the
    /// journal before it is not needed any more.
    pub(crate) fn snapshot_commit(&mut self, task: TaskId, [digest, behind, ..]: [u64; 6]) -> Outcome {
        let now = self.machine.now();
        let id = self.server_of(task).ok_or(KernelError::WrongState)?;
        let server = self.servers.get_mut(id).and_then(|server| server.journal.as_mut());
        let journal = server.filter(|journal| journal.writing_bytes > 0).ok_or(KernelError::WrongState)?;
        let written = core::mem::take(&mut journal.writing_bytes);
        let place = journal.free_place();
        let (at, from, start) = match behind {
            0 => (place, 0, SUM_START),
            _ => (journal.active, journal.sound_bytes, journal.digest),
        };
        let at = journal.place_offset(at) + from;
        if sum(start, self.machine.bytes(journal.snapshots, at, written)) != digest {
            // On its way here something was written over. The one that there is stays, and the journal with it.
            return Err(KernelError::BadArgument);
        }
        journal.turn_over(&mut self.machine, behind != 0);
        if behind != 0 {
            journal.sound_bytes += written;
            journal.behind_bytes = written;
        } else {
            journal.active = place;
            (journal.sound_bytes, journal.whole_bytes) = (written, written);
            journal.note_state(written);
        }
        journal.plan_next();
        journal.digest = digest;
        journal.snapshots_made += 1;
        journal.snapshots_ns += now.saturating_sub(journal.snapshot_began_ns.take().unwrap_or(now));
        journal.records = 0;
        journal.mended = false;
        // A replay that comes to the snapshot it was making when it died has come to the journal's end.
        journal.cursor = None;
        if let Some(id) = self.server_of(task) {
            self.upgrade_live(id);
            self.upgrade_saved(id);
        }
        Ok([0; 5])
    }

    pub(crate) fn snapshot_read(&mut self, task: TaskId, [offset, ..]: [u64; 6]) -> Outcome {
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let Ok(journal) = self.own_journal(task) else { return Ok([0; 5]) };
        let total = journal.sound_bytes;
        let length = total.saturating_sub(offset).min(u64::from(PAYLOAD_MAX));
        let from = journal.snapshots.physical()
            + journal.place_offset(journal.active)
            + offset.min(journal.sound_bytes);
        self.machine.copy(from, buffer.physical() + u64::from(PAYLOAD_OFFSET), length);
        Ok([length, total, 0, 0, 0])
    }
}

/// The header of a receive's record. The payload follows the delivery as if the gap between them were not there.
#[inline]
fn received(extent: u32, length: u32) -> Header {
    Header { number: Syscall::Receive as u16, error: 0, values: 0, payload: extent + length }
}

impl Server {
    /// Records a delivery that is in the message buffer. There must be room, if there is a journal.
    #[inline(always)]
    pub(crate) fn note_delivery<M: Machine>(&mut self, machine: &mut M, extent: u32, length: u32) {
        self.received += 1;
        let message = self.message;
        let Some(journal) = self.journal.as_mut() else { return };
        let (header, extent) = (received(extent, length), u64::from(extent));
        let at = journal.end;
        journal.put(machine, header, [], (extent + u64::from(length)).next_multiple_of(8));
        machine.copy_windows((message, DELIVERY_OFFSET.into()), (journal.window, at + 8), extent);
        if length > 0 {
            let to = (journal.window, at + 8 + extent);
            machine.copy_windows((message, PAYLOAD_OFFSET.into()), to, length.into());
        }
    }

    /// Records a trap whose arguments and values are these words. There must be room, if there is a journal.
    #[inline(always)]
    pub(crate) fn note<M: Machine, const N: usize>(
        &mut self,
        machine: &mut M,
        header: Header,
        words: [u64; N],
    ) {
        if let Some(journal) = self.journal.as_mut() {
            journal.put(machine, header, words, 0);
        }
    }

    /// Appends a record but for its payload: where that goes. There must be room, if there is a journal.
    #[inline]
    fn append<M: Machine>(
        &mut self,
        machine: &mut M,
        header: &Header,
        arguments: &[u64; 6],
        values: &[u64],
    ) -> Option<u64> {
        let journal = self.journal.as_mut()?;
        let (at, fixed) = (journal.end, header.fixed_bytes());
        journal.end += header.bytes();
        journal.records += 1;
        let bytes = machine.bytes(journal.memory, at, fixed);
        if let Ok([first, rest @ ..]) = <[[u8; 8]]>::mut_from_bytes(bytes) {
            *first = header.pack().to_le_bytes();
            let (first, second) = rest.split_at_mut(header.arguments().min(rest.len()));
            for (place, word) in first.iter_mut().zip(arguments) {
                *place = word.to_le_bytes();
            }
            for (place, word) in second.iter_mut().zip(values) {
                *place = word.to_le_bytes();
            }
        }
        Some(journal.memory.physical() + at + fixed)
    }
}

const _: () = assert!(RECORD_MAX < 1 << 16);

#[cfg(test)]
mod tests {
    use super::*;

    /// One with 2 MiB for records and 1 MiB for each snapshot, of which these were written.
    fn journal(whole_bytes: u64, behind_bytes: u64) -> Journal {
        let mut journal = Journal { whole_bytes, behind_bytes, ..Journal::default() };
        journal.snapshots = FrameRange { count: 3 * 256, ..FrameRange::default() };
        journal.lie_in(FrameRange { count: 512, ..FrameRange::default() }, Window::default());
        journal.plan_next();
        journal
    }

    /// After how many KiB of records a server with a journal is told that a snapshot is due.
    fn due_kib(mut journal: Journal) -> u64 {
        let due = |kib: &u64| {
            journal.end = kib << 10;
            u64::from(journal.fill()) > DUE
        };
        (0..4096).find(due).unwrap()
    }

    #[test]
    fn a_snapshot_is_due_when_the_journal_is_many_times_what_it_will_write_and_before_there_is_no_room() {
        assert_eq!(due_kib(journal(8 << 10, 0)), 514);
        assert_eq!(due_kib(journal(0, 0)), 385, "nobody knows yet");
        assert_eq!(due_kib(journal(500 << 10, 8 << 10)), 514, "rows alone will be written");
        assert_eq!(due_kib(journal(500 << 10, 100)), 385, "not for every message");
        assert_eq!(due_kib(journal(500 << 10, 400 << 10)), 1027, "half of it is full");
    }

    #[test]
    fn what_lies_behind_a_whole_snapshot_is_not_much_longer_than_that() {
        assert_eq!(journal(10_000, 10).room_behind(), 20_000 + BEHIND_MIN);
        assert_eq!(journal(600_000, 10).room_behind(), 1 << 20, "there is no more");
    }
}
