//! The history of a server for others to look at: its boot block, its snapshot and its journal, summed up and copied
//! out piece by piece, and the digest of its state. Nothing is held meanwhile: a snapshot that is made between two
//! pieces shows in the count of snapshots, and in the sums.

use libipc::abi::journal::{Section, sum};
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
    offset: u64,
    length: u64,
}

impl<M: Machine> Kernel<M> {
    /// The part that a trap's arguments name, checked.
    fn history_part(
        &self,
        task: TaskId,
        [handle, section, offset, length]: [u64; 4],
    ) -> Result<Part, KernelError> {
        let Object::Task(id) = self.named(task, handle, Rights::INSPECT)? else {
            return Err(KernelError::WrongKind);
        };
        let journal = self.server(id).and_then(|server| server.journal.as_ref());
        let journal = journal.ok_or(KernelError::WrongKind)?;
        let section = Section::from_number(section).ok_or(KernelError::BadArgument)?;
        if length > WINDOW_MAX {
            return Err(KernelError::TooBig);
        }
        let bytes = match section {
            Section::Boot => BOOT_PAGES * PAGE_SIZE,
            Section::Snapshot => journal.snapshots.bytes() / 2,
            Section::Journal => journal.memory.bytes(),
        };
        match offset.checked_add(length) {
            Some(end) if end <= bytes => Ok(Part { task: id, section, offset, length }),
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
            Section::Snapshot => Ok(journal.snapshots.physical() + journal.half_offset(true) + offset),
            Section::Journal => Ok(journal.memory.physical() + offset),
        }
    }

    /// Does something with each piece of a part: its place and its length.
    fn history_pieces(
        &mut self,
        part: Part,
        mut each: impl FnMut(&mut Self, u64, u64),
    ) -> Result<(), KernelError> {
        let Part { task, section, mut offset, length } = part;
        let end = offset + length;
        while offset < end {
            let step = (PAGE_SIZE - offset % PAGE_SIZE).min(end - offset);
            let place = self.history_place(task, section, offset)?;
            each(self, place, step);
            offset += step;
        }
        Ok(())
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
