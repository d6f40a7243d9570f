//! The history of a server for others to look at: its boot block, its snapshot and its journal, summed up and copied
//! out piece by piece, and the digest of its state. Nothing is held meanwhile: a snapshot that is made between two
//! pieces shows in the count of snapshots, and in the sums.

use libipc::abi::journal::{Section, Source, sum};
use libipc::abi::{KernelError, PAGE_SIZE, Protection, Rights};
use libipc::server::DIGEST_BIT;
use libipc::server::boot::{BOOT_ADDRESS, BOOT_PAGES};

use super::lease::WINDOW_MAX;
use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

/// A part of a history: whose, what, from where on, how many bytes.
#[derive(Clone, Copy)]
struct Part {
    task: TaskId,
    section: Section,
    /// Where the section lies in one piece, if it is of a reproducer.
    kept: Option<u64>,
    offset: u64,
    length: u64,
}

impl<M: Machine> Kernel<M> {
    /// The part that a trap's arguments name, checked.
    fn history_part(
        &self,
        task: TaskId,
        [handle, source, offset, length]: [u64; 4],
    ) -> Result<Part, KernelError> {
        let Object::Task(id) = self.named(task, handle, Rights::INSPECT)? else {
            return Err(KernelError::WrongKind);
        };
        let server = self.server(id).ok_or(KernelError::WrongKind)?;
        let Source { section, reproducer } = Source::from_word(source).ok_or(KernelError::BadArgument)?;
        let journal = server.journal.as_ref().ok_or(KernelError::WrongKind);
        if length > WINDOW_MAX {
            return Err(KernelError::TooBig);
        }
        let (kept, bytes) = match (reproducer, section) {
            (0, Section::Boot) => (None, BOOT_PAGES * PAGE_SIZE),
            (0, Section::Snapshot) => (None, journal?.place_bytes()),
            (0, Section::Journal) => (None, journal?.memory.bytes()),
            (serial, Section::Core) => {
                let (place, bytes) = self.remains.find(serial, server.number)?;
                (Some(place), bytes)
            }
            (serial, section) => {
                let kept = self.reproducers.find(serial).filter(|kept| kept.number == server.number);
                let kept = kept.ok_or(KernelError::BadArgument)?;
                (Some(self.reproducers.place(kept, section)), kept.lengths[section as usize])
            }
        };
        match offset.checked_add(length) {
            Some(end) if end <= bytes => Ok(Part { task: id, section, kept, offset, length }),
            _ => Err(KernelError::BadArgument),
        }
    }

    /// Where the byte at an offset of a section lies. What it is part of is in one piece to the end of the page.
    fn history_place(&mut self, task: TaskId, section: Section, offset: u64) -> Result<u64, KernelError> {
        let journal = self.server(task).and_then(|server| server.journal).ok_or(KernelError::WrongKind)?;
        match section {
            Section::Boot => {
                let space = self.tasks.get(task).and_then(|task| self.spaces.get(task.space));
                let root = space.map(|space| space.root).ok_or(KernelError::BadHandle)?;
                self.translate(root, BOOT_ADDRESS + offset, Protection::READ).ok_or(KernelError::BadArgument)
            }
            Section::Snapshot => {
                Ok(journal.snapshots.physical() + journal.place_offset(journal.active) + offset)
            }
            Section::Journal => Ok(journal.memory.physical() + offset),
            Section::Core => Err(KernelError::BadArgument),
        }
    }

    /// Does something with each piece of a part: its place and its length.
    fn history_pieces(
        &mut self,
        part: Part,
        mut each: impl FnMut(&mut Self, u64, u64),
    ) -> Result<(), KernelError> {
        let Part { task, section, kept, mut offset, length } = part;
        let end = offset + length;
        while offset < end {
            let (place, whole) = match kept {
                Some(start) => (start + offset, PAGE_SIZE - (start + offset) % PAGE_SIZE),
                None => (self.history_place(task, section, offset)?, PAGE_SIZE - offset % PAGE_SIZE),
            };
            let step = whole.min(end - offset);
            each(self, place, step);
            offset += step;
        }
        Ok(())
    }

    /// Copies the beginning of a section of a server's history.
    pub(crate) fn copy_history(
        &mut self,
        task: TaskId,
        section: Section,
        length: u64,
        to: u64,
    ) -> Result<(), KernelError> {
        let part = Part { task, section, kept: None, offset: 0, length };
        let mut at = to;
        self.history_pieces(part, |kernel, place, step| {
            kernel.machine.copy(place, at, step);
            at += step;
        })
    }

    pub(crate) fn journal_sum(&mut self, task: TaskId, arguments: [u64; 6]) -> Outcome {
        let [handle, section, offset, length, start, _] = arguments;
        let part = self.history_part(task, [handle, section, offset, length])?;
        let mut so_far = start;
        self.history_pieces(part, |kernel, place, step| {
            let frame = FrameRange::one(libipc::abi::Frame((place / PAGE_SIZE) as u32));
            so_far = sum(so_far, kernel.machine.bytes(frame, place % PAGE_SIZE, step));
        })?;
        Ok([so_far, 0, 0, 0, 0])
    }

    pub(crate) fn lease_from_journal(&mut self, task: TaskId, arguments: [u64; 6]) -> Outcome {
        let [token, address, handle, section, offset, length] = arguments;
        let id = self.held_call(task, token)?;
        let part = self.history_part(task, [handle, section, offset, length])?;
        let root = self.window(id, address, length, Protection::WRITE)?;
        let mut at = address;
        self.history_pieces(part, |kernel, place, step| {
            kernel.transfer_out(root, at, place, step);
            at += step;
        })?;
        Ok([0; 5])
    }

    /// Figures about a journaled server's history; see `TaskFigure::History`.
    pub(crate) fn history_figures(&self, server: &Server) -> Outcome {
        let journal = server.journal.as_ref().ok_or(KernelError::WrongKind)?;
        let thread = server.thread.and_then(|thread| self.threads.get(thread));
        let waits = thread.is_some_and(|thread| thread.state == ThreadState::Receiving);
        Ok([journal.snapshots_made, journal.sound_bytes, journal.end, u64::from(waits), 0])
    }

    pub(crate) fn digest_ask(&mut self, task: TaskId, [handle, ..]: [u64; 6]) -> Outcome {
        let Object::Task(id) = self.named(task, handle, Rights::INSPECT)? else {
            return Err(KernelError::WrongKind);
        };
        let id = self.server_of(id).ok_or(KernelError::WrongKind)?;
        self.servers.get(id).and_then(|server| server.journal.as_ref()).ok_or(KernelError::WrongKind)?;
        self.post_bits(id, DIGEST_BIT);
        Ok([0; 5])
    }

    pub(crate) fn digest(&mut self, task: TaskId, [digest, ..]: [u64; 6]) -> Outcome {
        if let Some(server) = self.server_mut(task) {
            server.digest = Some((digest, server.received));
        }
        Ok([0; 5])
    }
}
