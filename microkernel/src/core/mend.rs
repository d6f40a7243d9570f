//! Mending: what a journaled server is started from when it cannot be from what it left.
//!
//! It owns the snapshot before the last one and the journal between the two, which are kept until the next snapshot is
//! there. A snapshot whose checksum is wrong is found out before a server starts from it. One that was made of a state
//! that something had written over is not; but a server that comes to the same end from it again and again is taken
//! one snapshot back, from where it makes its own way through both journals.
//!
//! What such a server had done before it died is in the journal, too, and a sound one does not do the same. Its
//! replay is let pass over it then: what the journal has of what it does counts as done, what the journal has besides
//! is left, and what it lacks is done now. So a server that lied to somebody goes on and has told one lie.
//!
//! None of this may ever happen to a server that has only died: its snapshot is sound, and its journal its own.

use libipc::abi::journal::{ARGUMENTS, Header, SUM_START, sum};
use libipc::abi::syscall::Syscall;
use libipc::abi::{KernelError, Rights};
use libipc::server::TIMER_BIT;

use super::journal::{Journal, SNAPSHOTS};
use super::machine::Machine;
use super::object::*;
use super::server::Line;
use super::sweep::Epoch;
use super::{Kernel, Outcome};
use crate::window::Window;

/// A snapshot: at which place, how long, and its checksum.
#[derive(Clone, Copy, Debug)]
struct Saved {
    place: u8,
    bytes: u64,
    digest: u64,
}

/// What is kept of the time before the last snapshot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Former {
    /// The journal between the two snapshots. The next one is written there; empty when that is one with the other.
    spare: FrameRange,
    /// The snapshot before the last, and how many bytes of journal are behind it.
    saved: Option<(Saved, u64)>,
    /// It has so many bytes in common with the last.
    common: u64,
    /// The journal between the two was passed over. It has said what it can say.
    mended: bool,
}

/// What a replay does where the journal is not what the server does.
pub(crate) enum Mended {
    /// This record is of the same.
    At(u64),
    /// Nothing is: it is done now.
    Live,
    /// The journal is to be believed.
    Diverged,
}

impl Journal {
    /// Gives it memory: for the records since the last snapshot, and as much for those before it.
    pub(crate) fn set_memory(&mut self, range: FrameRange, window: Window) {
        let first = range.count.div_ceil(2);
        let second = libipc::abi::Frame(range.first.0 + first);
        let own = FrameRange { count: first, ..range };
        self.lie_in(own, window.part(0, own.bytes()));
        self.former.spare = FrameRange { first: second, count: range.count - first };
    }

    /// All the memory that it has for records.
    pub(crate) fn record_bytes(&self) -> u64 {
        self.memory.bytes() + self.former.spare.bytes()
    }

    /// Nobody may be taken back to before the last snapshot: what was done then another image has done.
    pub(crate) fn forget_former(&mut self) {
        (self.former.saved, self.former.common) = (None, 0);
    }

    /// The place where the next whole snapshot goes.
    pub(crate) fn free_place(&self) -> u8 {
        let former = self.former.saved.map(|(saved, _)| saved.place);
        (0..SNAPSHOTS).find(|place| *place != self.active && former != Some(*place)).unwrap_or(0)
    }

    /// A snapshot is about to take the place of the last: the journal goes on in the other memory, and what was the
    /// last stays behind. Where it is to be the beginning of the next, it is copied.
    pub(crate) fn turn_over<M: Machine>(&mut self, machine: &mut M, behind: bool) {
        let mut last = Saved { place: self.active, bytes: self.sound_bytes, digest: self.digest };
        let common = core::mem::take(&mut self.former.common);
        if behind {
            last.place = self.former.saved.map_or(self.free_place(), |(saved, _)| saved.place);
            let at = |place| self.snapshots.physical() + self.place_offset(place) + common;
            machine.copy(at(self.active), at(last.place), last.bytes - common);
            self.former.common = last.bytes;
        }
        let between = core::mem::take(&mut self.end);
        self.former.saved = Some((last, between));
        self.former.mended = self.mended;
        if self.former.spare.count == 0 {
            self.set_memory(self.memory, self.window);
            if between > self.memory.bytes() {
                // There is no room to keep it beside a new one.
                return self.forget_former();
            }
        }
        let next = core::mem::replace(&mut self.former.spare, self.memory);
        self.lie_in(next, machine.window(next));
    }
}

impl<M: Machine> Kernel<M> {
    fn journal_of(&mut self, id: ServerId) -> Option<&mut Journal> {
        self.servers.get_mut(id)?.journal.as_mut()
    }

    fn is_sound(&mut self, journal: &Journal, Saved { place, bytes, digest }: Saved) -> bool {
        let from = journal.place_offset(place);
        bytes == 0 || sum(SUM_START, self.machine.bytes(journal.snapshots, from, bytes)) == digest
    }

    /// Makes sure that a dead server is not started from a snapshot that has suffered. One that is asked to account for
    /// itself is started from the one before, unless it has made the last when it had been mended: that is what comes
    /// of the one before.
    pub(crate) fn check_snapshot(&mut self, id: ServerId) {
        let Some(journal) = self.journal_of(id).copied() else { return };
        let account = self.servers.get_mut(id).map(|server| &mut server.account.asked);
        if account.is_some_and(core::mem::take) && !journal.former.mended && self.step_back(id) {
            return;
        }
        let last = Saved { place: journal.active, bytes: journal.sound_bytes, digest: journal.digest };
        if !self.is_sound(&journal, last) {
            let number = self.servers.get(id).map_or(0, |server| server.number);
            let mut line = Line::new();
            let _ =
                core::fmt::write(&mut line, format_args!("server {number}: its last snapshot is damaged\n"));
            self.machine.log(line.bytes());
            self.step_back(id);
        }
    }

    /// Whether a server could be started from the snapshot before its last, and might be another then.
    pub(crate) fn has_former(&self, id: ServerId) -> bool {
        let journal = self.servers.get(id).and_then(|server| server.journal.as_ref());
        journal.is_some_and(|journal| journal.former.saved.is_some() && !journal.former.mended)
    }

    /// Takes a dead server one snapshot back; the journals before and after the last become one. Whether there was one.
    pub(crate) fn step_back(&mut self, id: ServerId) -> bool {
        let Some(journal) = self.journal_of(id).copied() else { return false };
        let Some((saved, between)) = journal.former.saved else { return false };
        let (own, spare) = (journal.memory, journal.former.spare);
        let sound = self.is_sound(&journal, saved);
        if let Some(journal) = self.journal_of(id) {
            journal.former.saved = None;
        }
        if !sound {
            return false;
        }
        let first = own.first.min(spare.first);
        let whole = FrameRange { first, count: own.count + spare.count };
        if own.first < spare.first {
            let bytes = self.machine.bytes(whole, 0, whole.bytes());
            bytes.rotate_left(own.bytes() as usize);
        }
        let from = whole.physical() + spare.bytes();
        self.machine.copy(from, whole.physical() + between, journal.end);
        let window = self.machine.window(whole);
        if let Some(journal) = self.journal_of(id) {
            journal.lie_in(whole, window);
            journal.end += between;
            (journal.active, journal.sound_bytes, journal.digest) = (saved.place, saved.bytes, saved.digest);
            journal.former = Former::default();
            journal.stop_writing();
        }
        true
    }

    /// Lets a dead server's replay pass over what it does not do. Whether it did not before.
    pub(crate) fn mend(&mut self, id: ServerId) -> bool {
        self.raise_epoch(id);
        self.journal_of(id).is_some_and(|journal| !core::mem::replace(&mut journal.mended, true))
    }

    /// A server that is being mended may want to do what it has done already, and one of a later epoch what nobody can
    /// do any more. A refusal that is the end of a sound server counts as done; whoever waits for what was refused is
    /// told of an error.
    #[inline]
    pub(crate) fn excused(
        &mut self,
        id: ServerId,
        call: Syscall,
        arguments: [u64; 6],
        outcome: Outcome,
    ) -> Outcome {
        use KernelError::*;
        let Err(BadHandle | WrongKind | NoRight | FrameInUse | NotMapped | NeedTable | WrongState) = outcome
        else {
            return outcome;
        };
        let Some(server) = self.servers.get(id) else { return outcome };
        let mended = server.journal.is_some_and(|journal| journal.mended);
        // A right that it lacks, or an object in another state, is nothing that a recovery has left behind.
        let gone = server.epoch != Epoch::FIRST && !matches!(outcome, Err(NoRight | WrongState));
        let done = (mended || gone) && super::poison::makes_nothing(call, arguments);
        if !done || super::poison::is_question(call) {
            return outcome;
        }
        self.fail_refused(id, call, arguments);
        Ok([0; 5])
    }

    /// A replay has come to another trap than the journal: which record of the same event tells of it.
    pub(crate) fn mended(
        &mut self,
        id: ServerId,
        call: Syscall,
        arguments: &[u64; ARGUMENTS as usize],
    ) -> Mended {
        let Some(journal) = self.journal_of(id).filter(|journal| journal.mended) else {
            return Mended::Diverged;
        };
        let journal = *journal;
        let mut alike = None;
        let mut at = journal.cursor.unwrap_or(journal.end);
        while at < journal.end {
            let (header, recorded, _) = self.record_at(&journal, at);
            let Header { number, error, .. } = header;
            let (same, count) = (number == call as u16, header.arguments());
            match number == Syscall::Receive as u16 {
                true if same => return Mended::At(at),
                true => break,
                false if same && recorded[..count] == arguments[..count] => return Mended::At(at),
                false if same && error == 0 && recorded[0] == arguments[0] => {
                    alike.get_or_insert(at);
                }
                false => {}
            }
            at += header.bytes();
        }
        if call == Syscall::Receive
            && let Some(server) = self.servers.get_mut(id)
            && let Some(journal) = server.journal.as_mut()
        {
            journal.cursor = None;
            server.bits |= TIMER_BIT;
        }
        if let (Some(at), Syscall::Map) = (alike, call) {
            self.end_deceived(id, &journal, (at, arguments[0]));
        }
        alike.map_or(Mended::Live, Mended::At)
    }

    /// What a server mapped into this space, as its journal has it there, is not what should be there: its programs run
    /// on what they have never written. They end, unless the space has gone since then.
    fn end_deceived(&mut self, id: ServerId, journal: &Journal, (from, slot): (u64, u64)) {
        let Some(server) = self.servers.get(id).map(|server| server.task) else { return };
        let mut at = from;
        while at < journal.end {
            let (header, [name, ..], _) = self.record_at(journal, at);
            if header.number == Syscall::SpaceDestroy as u16 && header.error == 0 && name == slot {
                return;
            }
            at += header.bytes();
        }
        let Ok(Object::Space(space)) = self.named(server, slot, Rights::empty()) else { return };
        for index in 0..self.tasks.bound() {
            let task = self.tasks.at(index).and_then(|id| self.tasks.get(id));
            if let Some(thread) = task.filter(|task| task.space == space).and_then(|task| task.first_thread) {
                self.end_unknown_thread(thread);
            }
        }
    }
}
