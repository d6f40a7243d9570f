//! Copies between a caller's memory and the server that holds its call. Each copy is checked in whole and then done
//! in whole within one trap: a page that is missing stops it before its first byte, becomes the caller's own fault,
//! and the server is told when it is there. Nothing is held meanwhile, and no copy runs twice.

use libipc::abi::delivery::{PAYLOAD_MAX, PAYLOAD_OFFSET};
use libipc::abi::{Frame, KernelError, PAGE_SIZE, Protection};
use libipc::linux::errno;
use libipc::linux::open::PATH_MAX;

use super::machine::{Machine, physical};
use super::object::*;
use super::user_memory::{Direction, part};
use super::{Kernel, Outcome};

/// Most bytes in one copy.
pub(crate) const WINDOW_MAX: u64 = 1 << 16;

/// Most frames zeroed in one trap.
const FRAMES_ZEROED_MAX: u64 = 256;

impl<M: Machine> Kernel<M> {
    /// The top table of a call's caller, if it is a program that still lives.
    pub(crate) fn lessor(&self, id: CallRef) -> Result<Frame, KernelError> {
        let call = self.calls.get(id).ok_or(KernelError::NoSuchCall)?;
        if matches!(call.kind, CallKind::Native | CallKind::Sent) || call.thread.is_none() {
            return Err(KernelError::NoSuchCall);
        }
        let task = self.tasks.get(call.task).ok_or(KernelError::NoSuchCall)?;
        self.spaces.get(task.space).map(|space| space.root).ok_or(KernelError::NoSuchCall)
    }

    /// Makes sure a window of the caller is there; a missing page is asked for on the caller's account.
    pub(crate) fn window(
        &mut self,
        id: CallRef,
        address: u64,
        length: u64,
        access: Protection,
    ) -> Result<Frame, KernelError> {
        if length > WINDOW_MAX {
            return Err(KernelError::TooBig);
        }
        let root = self.lessor(id)?;
        let end = address.checked_add(length).ok_or(KernelError::BadAddress)?;
        if end > M::USER_END {
            return Err(KernelError::BadAddress);
        }
        match self.user_memory().first_missing(root, address, length, access) {
            None => Ok(root),
            Some(missing) => {
                self.fault_for(id, missing, access)?;
                Err(KernelError::NotResident)
            }
        }
    }

    /// Copies from one piece of physical memory to a window that is known to be there.
    pub(crate) fn transfer_out(&mut self, root: Frame, address: u64, from: u64, length: u64) {
        self.user_memory().transfer(root, address, from, length, Direction::ToCaller);
    }

    pub(crate) fn lease_read(&mut self, task: TaskId, [token, address, length, ..]: [u64; 6]) -> Outcome {
        let id = self.held_call(task, token)?;
        if length > u64::from(PAYLOAD_MAX) {
            return Err(KernelError::TooBig);
        }
        let to = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let root = self.window(id, address, length, Protection::READ)?;
        let other = to.physical() + u64::from(PAYLOAD_OFFSET);
        self.user_memory().transfer(root, address, other, length, Direction::FromCaller);
        Ok([length, 0, 0, 0, 0])
    }

    /// How much of a window can be read, without a gap.
    pub(crate) fn lease_probe(&mut self, task: TaskId, [token, address, length, ..]: [u64; 6]) -> Outcome {
        let id = self.held_call(task, token)?;
        let root = self.lessor(id)?;
        let end = address.checked_add(length).filter(|end| *end <= M::USER_END);
        let there = match end
            .and_then(|_| self.user_memory().first_missing(root, address, length, Protection::READ))
        {
            Some(missing) => missing - address,
            None => length,
        };
        if length > WINDOW_MAX || there == 0 || end.is_none() {
            self.window(id, address, length.max(1), Protection::READ)?;
        }
        Ok([there, 0, 0, 0, 0])
    }

    pub(crate) fn lease_write(
        &mut self,
        task: TaskId,
        [token, address, source, length, ..]: [u64; 6],
    ) -> Outcome {
        let id = self.held_call(task, token)?;
        let own = self.tasks.get(task).map(|task| task.space).and_then(|space| self.spaces.get(space));
        let own = own.map(|space| space.root).ok_or(KernelError::WrongState)?;
        let source_end = source.checked_add(length).ok_or(KernelError::BadArgument)?;
        if length > WINDOW_MAX || source_end > M::USER_END {
            return Err(KernelError::TooBig);
        }
        if self.user_memory().first_missing(own, source, length, Protection::READ).is_some() {
            return Err(KernelError::BadArgument);
        }
        let root = self.window(id, address, length, Protection::WRITE)?;
        let (mut at, mut from, mut left) = (address, source, length);
        while left > 0 {
            let step = part(from, left);
            if let Some(piece) = self.translate(own, from, Protection::READ) {
                self.user_memory().transfer(root, at, piece, step, Direction::ToCaller);
            }
            at += step;
            from += step;
            left -= step;
        }
        Ok([0; 5])
    }

    /// A part of the calling server's arena, checked: its physical address.
    fn arena_part(&self, task: TaskId, offset: u64, length: u64) -> Result<u64, KernelError> {
        let arena = self.server(task).ok_or(KernelError::BadArgument)?.arena;
        match offset.checked_add(length) {
            Some(end) if end <= arena.bytes() => Ok(arena.physical() + offset),
            _ => Err(KernelError::BadArgument),
        }
    }

    pub(crate) fn lease_arena(&mut self, task: TaskId, arguments: [u64; 6], to_arena: bool) -> Outcome {
        let [token, address, offset, length, ..] = arguments;
        let id = self.held_call(task, token)?;
        let other = self.arena_part(task, offset, length)?;
        let (access, direction) = match to_arena {
            true => (Protection::READ, Direction::FromCaller),
            false => (Protection::WRITE, Direction::ToCaller),
        };
        let root = self.window(id, address, length, access)?;
        self.user_memory().transfer(root, address, other, length, direction);
        Ok([0; 5])
    }

    pub(crate) fn frame_from_lease(&mut self, task: TaskId, arguments: [u64; 6]) -> Outcome {
        let [token, address, frame, offset, length, _] = arguments;
        let id = self.held_call(task, token)?;
        let frame = self.frame_argument(task, frame)?;
        if offset.checked_add(length).is_none_or(|end| end > PAGE_SIZE) {
            return Err(KernelError::TooBig);
        }
        let root = self.window(id, address, length, Protection::READ)?;
        self.user_memory().transfer(root, address, physical(frame) + offset, length, Direction::FromCaller);
        Ok([0; 5])
    }

    pub(crate) fn arena_zero(&mut self, task: TaskId, [offset, length, ..]: [u64; 6]) -> Outcome {
        self.arena_part(task, offset, length)?;
        let arena = self.server(task).map(|server| server.arena).unwrap_or_default();
        self.machine.bytes(arena, offset, length).fill(0);
        Ok([0; 5])
    }

    pub(crate) fn arena_copy(&mut self, task: TaskId, [from, to, length, ..]: [u64; 6]) -> Outcome {
        self.arena_part(task, from, length)?;
        self.arena_part(task, to, length)?;
        let arena = self.server(task).map(|server| server.arena).unwrap_or_default();
        let start = from.min(to);
        let span = from.max(to) - start + length;
        let (from, to) = ((from - start) as usize, (to - start) as usize);
        self.machine.bytes(arena, start, span).copy_within(from..from + length as usize, to);
        Ok([0; 5])
    }

    /// Between the arena and the payload.
    pub(crate) fn arena_payload(
        &mut self,
        task: TaskId,
        [offset, length, ..]: [u64; 6],
        read: bool,
    ) -> Outcome {
        if length > u64::from(PAYLOAD_MAX) {
            return Err(KernelError::TooBig);
        }
        let arena = self.arena_part(task, offset, length)?;
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let payload = buffer.physical() + u64::from(PAYLOAD_OFFSET);
        let (from, to) = if read { (arena, payload) } else { (payload, arena) };
        self.machine.copy(from, to, length);
        Ok([if read { length } else { 0 }, 0, 0, 0, 0])
    }

    fn frame_argument(&mut self, task: TaskId, frame: u64) -> Result<Frame, KernelError> {
        let frame = Frame(u32::try_from(frame).map_err(|_| KernelError::NoRight)?);
        if self.frames.owned(frame, task)?.table {
            self.vacate(frame, task)?;
        }
        Ok(frame)
    }

    pub(crate) fn frame_zero(&mut self, task: TaskId, [first, count, ..]: [u64; 6]) -> Outcome {
        let count = count.max(1);
        if count > FRAMES_ZEROED_MAX {
            return Err(KernelError::TooBig);
        }
        let end = first.checked_add(count).and_then(|end| u32::try_from(end).ok());
        let numbers = first as u32..end.ok_or(KernelError::NoRight)?;
        for number in numbers.clone() {
            if self.frames.owned_as_is(Frame(number), task)?.table {
                self.vacate(Frame(number), task)?;
            }
        }
        for frame in numbers.map(Frame) {
            if !self.frames.owned_as_is(frame, task)?.zero {
                self.machine.bytes(FrameRange::one(frame), 0, PAGE_SIZE).fill(0);
            }
        }
        Ok([0; 5])
    }

    pub(crate) fn frame_copy(&mut self, task: TaskId, pairs: [u64; 6]) -> Outcome {
        let copies = self.frame_pairs(task, pairs)?;
        for (from, to) in copies.into_iter().flatten().filter(|(from, to)| from != to) {
            self.machine.copy(physical(from), physical(to), PAGE_SIZE);
        }
        Ok([0; 5])
    }

    /// Checks a list of frames and of where they are to be copied.
    pub(crate) fn frame_pairs<const COUNT: usize>(
        &mut self,
        task: TaskId,
        pairs: [u64; COUNT],
    ) -> Result<[Option<(Frame, Frame)>; COUNT], KernelError> {
        let mut copies = [None; COUNT];
        for (copy, pair) in copies.iter_mut().zip(pairs).take_while(|(_, pair)| *pair != 0) {
            let (from, to) = (pair & 0xffff_ffff, pair >> 32);
            let to = self.frame_argument(task, to)?;
            let lent = u32::try_from(from).ok().map(Frame).filter(|from| self.is_lent(*from, task));
            let from = lent.map_or_else(|| self.frame_argument(task, from), Ok)?;
            *copy = Some((from, to));
        }
        Ok(copies)
    }

    /// Copies frames, and zeroes those that are named twice.
    pub(crate) fn fill_frames(&mut self, pairs: impl Iterator<Item = (Frame, Frame)>) {
        for (from, to) in pairs {
            if from == to {
                self.machine.bytes(FrameRange::one(to), 0, PAGE_SIZE).fill(0);
            } else {
                self.machine.copy(physical(from), physical(to), PAGE_SIZE);
            }
        }
    }

    /// Between a frame and the payload.
    pub(crate) fn frame_payload(
        &mut self,
        task: TaskId,
        [frame, offset, length, ..]: [u64; 6],
        read: bool,
    ) -> Outcome {
        let frame = self.frame_argument(task, frame)?;
        if offset.checked_add(length).is_none_or(|end| end > PAGE_SIZE) {
            return Err(KernelError::TooBig);
        }
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let payload = buffer.physical() + u64::from(PAYLOAD_OFFSET);
        let piece = physical(frame) + offset;
        let (from, to) = if read { (piece, payload) } else { (payload, piece) };
        self.machine.copy(from, to, length);
        Ok([if read { length } else { 0 }, 0, 0, 0, 0])
    }

    // Gathering: the same, into the payload of the server a call is being delivered to.

    /// Whether the memory an answer will fill can be written; if not, the call is on its way to the pager.
    pub(crate) fn check_output(&mut self, id: CallRef, address: u64, length: u64) -> bool {
        let Ok(root) = self.lessor(id) else { return true };
        match self.user_memory().first_missing(root, address, length, Protection::WRITE) {
            None => true,
            Some(missing) => {
                self.fault_before(id, missing, Protection::WRITE);
                false
            }
        }
    }

    /// So many bytes; `None` when a page is missing and the call is on its way to the pager.
    pub(crate) fn gather_bytes(
        &mut self,
        id: CallRef,
        address: u64,
        length: u64,
        buffer: FrameRange,
        at: u32,
    ) -> Result<Option<u32>, i32> {
        let root = self.lessor(id).map_err(|_| errno::EFAULT)?;
        if let Some(missing) = self.user_memory().first_missing(root, address, length, Protection::READ) {
            self.fault_before(id, missing, Protection::READ);
            return Ok(None);
        }
        let other = buffer.physical() + u64::from(PAYLOAD_OFFSET + at);
        self.user_memory().transfer(root, address, other, length, Direction::FromCaller);
        Ok(Some(length as u32))
    }

    /// A string up to its NUL, which is left off.
    pub(crate) fn gather_text(
        &mut self,
        id: CallRef,
        address: u64,
        buffer: FrameRange,
        at: u32,
    ) -> Result<Option<u32>, i32> {
        let root = self.lessor(id).map_err(|_| errno::EFAULT)?;
        let room = u64::from((PAYLOAD_MAX - at).min(PATH_MAX));
        let mut length = 0;
        while length < room {
            let from = address.wrapping_add(length);
            let Some(mine) = self.translate(root, from, Protection::READ) else {
                self.fault_before(id, from, Protection::READ);
                return Ok(None);
            };
            let step = part(from, room - length);
            let to = u64::from(PAYLOAD_OFFSET + at) + length;
            self.machine.copy(mine, buffer.physical() + to, step);
            let copied = self.machine.bytes(buffer, to, step);
            if let Some(end) = copied.iter().position(|byte| *byte == 0) {
                return Ok(Some((length + end as u64) as u32));
            }
            length += step;
        }
        Err(errno::ENAMETOOLONG)
    }
}
