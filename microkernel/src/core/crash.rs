//! Reproducers: what a server died of again, kept for others to look at, the newest ones. Each is the server's boot
//! block, snapshot and journal as they were at its death, in memory that root has set aside, and a few figures.

use libipc::abi::PAGE_SIZE;
use libipc::abi::crash::{Disposition, Fault};
use libipc::abi::journal::Section;
use libipc::abi::trace::{LEFT_MAX, Left};
use libipc::server::boot::BOOT_PAGES;

use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

/// Most that are kept.
pub(crate) const KEPT_MAX: usize = LEFT_MAX;

/// One server's death, and where what led to it lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reproducer {
    /// Counted from 1.
    pub serial: u32,
    /// The server's number.
    pub number: u32,
    incarnation: u32,
    fault: Fault,
    detail: u64,
    /// The kind of the event ([`libipc::abi::Kind`]); 0 for none.
    kind: u32,
    disposition: Disposition,
    /// Messages received until then.
    received: u64,
    snapshots: u64,
    /// Bytes of each section; all zero when there was no room for them, or the server has no journal.
    pub lengths: [u64; 3],
    /// Where they begin.
    start: u64,
}

/// Those that are kept.
#[derive(Debug, Default)]
pub struct Reproducers {
    /// Where their sections lie.
    pub(crate) memory: FrameRange,
    kept: [Option<Reproducer>; KEPT_MAX],
    /// How many there have been.
    count: u32,
    /// Where the newest ends.
    end: u64,
}

impl Reproducers {
    /// The one with this number.
    pub(crate) fn find(&self, serial: u32) -> Option<&Reproducer> {
        self.kept.iter().flatten().find(|kept| kept.serial == serial)
    }

    /// Where a section of a reproducer lies.
    pub(crate) fn place(&self, kept: &Reproducer, section: Section) -> u64 {
        let before: u64 = kept.lengths.iter().take(section as usize).sum();
        self.memory.physical() + kept.start + before
    }

    /// What a host is told of one.
    fn left(&self, kept: &Reproducer) -> Left {
        let &Reproducer { serial, number, incarnation, lengths, snapshots, .. } = kept;
        let place = self.place(kept, Section::Boot);
        let incarnation = incarnation.into();
        Left { serial, server: number, incarnation, place, lengths, snapshots, rest: 0 }
    }

    /// Makes room in one piece, at the cost of the oldest. `None` when there is not so much memory at all.
    fn make_room(&mut self, bytes: u64) -> Option<u64> {
        if bytes > self.memory.bytes() {
            return None;
        }
        let start = if self.end + bytes > self.memory.bytes() { 0 } else { self.end };
        self.end = start + bytes;
        for kept in self.kept.iter_mut().flatten() {
            let length: u64 = kept.lengths.iter().sum();
            if kept.start < start + bytes && start < kept.start + length {
                kept.lengths = [0; 3];
            }
        }
        Some(start)
    }
}

impl<M: Machine> Kernel<M> {
    /// Keeps what a dead server died of.
    pub(crate) fn keep_reproducer(&mut self, id: ServerId, kind: u32, disposition: Disposition) {
        let Some(server) = self.servers.get(id) else { return };
        let Some(Fell { fault, detail, .. }) = server.fell else { return };
        let (task, number, incarnation, received) =
            (server.task, server.number, server.incarnation, server.received);
        let journal = server.journal;
        let wanted =
            journal.map_or([0; 3], |journal| [BOOT_PAGES * PAGE_SIZE, journal.sound_bytes, journal.end]);
        let room = self.reproducers.make_room(wanted.iter().sum()).filter(|_| journal.is_some());
        let (start, lengths) = room.map_or((0, [0; 3]), |start| (start, wanted));
        self.reproducers.count += 1;
        let mut reproducer = Reproducer {
            serial: self.reproducers.count,
            number,
            incarnation,
            fault,
            detail,
            kind,
            disposition,
            received,
            snapshots: journal.map_or(0, |journal| journal.snapshots_made),
            lengths,
            start,
        };
        for section in Section::ALL {
            let to = self.reproducers.place(&reproducer, section);
            if self.copy_history(task, section, lengths[section as usize], to).is_err() {
                reproducer.lengths = [0; 3];
                break;
            }
        }
        let place = reproducer.serial as usize % KEPT_MAX;
        self.reproducers.kept[place] = Some(reproducer);
        // Older ones may have had to make room.
        for (index, kept) in self.reproducers.kept.iter().enumerate() {
            self.trace.ring.leave_reproducer(
                index,
                kept.as_ref().map_or(Left::default(), |kept| self.reproducers.left(kept)),
            );
        }
    }

    /// Figures about what is kept at a place; see `Statistic::Crash`.
    pub(crate) fn reproducer_figures(&self, index: u64, lengths: bool) -> Outcome {
        let Some(place) = usize::try_from(index).ok().and_then(|index| self.reproducers.kept.get(index))
        else {
            return Ok([u64::MAX, 0, 0, 0, 0]);
        };
        let Some(kept) = place else { return Ok([0; 5]) };
        if lengths {
            let [_, snapshot, journal] = kept.lengths;
            return Ok([snapshot, journal, kept.snapshots, kept.detail, 0]);
        }
        let who = u64::from(kept.serial) | u64::from(kept.number) << 32;
        let how = kept.fault as u64 | u64::from(kept.kind) << 8 | (kept.disposition as u64) << 16;
        Ok([who, u64::from(kept.incarnation), how, kept.received, 0])
    }
}
