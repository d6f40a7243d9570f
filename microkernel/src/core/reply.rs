//! The answer to a program's system call: result, new file position, bytes for its memory and descriptors for its
//! table, all in one step. If a page to be written is not there, nothing happens, and the server is told when it is.

use libipc::abi::delivery::{PAYLOAD_MAX, PAYLOAD_OFFSET};
use libipc::abi::syscall::{Restart, Syscall, reply_flags as flag};
use libipc::abi::{Frame, KernelError, Protection, Rights};
use zerocopy::FromBytes;

use super::ipc::Caller;
use super::lease::WINDOW_MAX;
use super::machine::Machine;
use super::object::*;
use super::user_memory::{Direction, UserMemory, is_in_one_page};
use super::{Kernel, Outcome};

/// Most pieces of output in one answer.
const OUTPUTS_MAX: u64 = 4;

/// Pieces of output as a payload lists them: address and length of each.
type Pieces = [[u64; 2]; OUTPUTS_MAX as usize];

impl<M: Machine> Kernel<M> {
    pub(crate) fn reply_foreign(&mut self, by: Caller, arguments: [u64; 6]) -> Outcome {
        let [token, flags, result, position, install, changed] = arguments;
        let task = by.task;
        if flags & flag::READY != 0 {
            // It holds whatever becomes of the answer.
            self.session_ready(task, [changed & 0xffff_ffff, changed >> 32, 0, 0, 0, 0])?;
        }
        let id = self.call_held_by(by.server, token)?;
        let Some(call) = self.calls.get(id) else { return Err(KernelError::NoSuchCall) };
        if call.kind != CallKind::Foreign {
            return Err(KernelError::WrongState);
        }
        let (caller, thread, session, number) = (call.task, call.thread, call.session, call.number);
        let outputs = (flags >> flag::OUTPUTS_SHIFT) & 0xff;
        if outputs > OUTPUTS_MAX {
            return Err(KernelError::TooBig);
        }
        let installed = self.installed_objects(task, flags, install)?;
        let Some(thread) = thread else {
            // The caller is gone: nothing to write to. What it would have been given is given and closed, so that
            // the server hears of the last close.
            self.end_call(id);
            self.hold(&[installed[0], installed[1], Object::None, Object::None]);
            installed.into_iter().for_each(|object| self.let_go(object));
            return Ok([0; 5]);
        };
        if outputs > 0 {
            self.write_outputs(task, id, outputs)?;
        }
        self.trace_answer(by, Syscall::ReplyForeign, &arguments);
        if flags & (flag::POSITION | flag::STATUS) != 0
            && let Some(session) = session.and_then(|session| self.sessions.get_mut(session))
        {
            if flags & flag::POSITION != 0 {
                session.position = position;
            }
            if flags & flag::STATUS != 0 {
                session.status = changed as u32;
            }
        }
        self.install(caller, id, flags, installed);
        self.end_call(id);
        let restart = (flags >> flag::RESTART_SHIFT) & 3;
        if let Some(state) = self.threads.get_mut(thread) {
            state.registers.rax = result;
            state.restart =
                if restart == Restart::Never as u64 { 0 } else { restart | u64::from(number) << 8 };
        }
        self.release_thread(thread, id);
        Ok([0; 5])
    }

    fn installed_objects(&self, task: TaskId, flags: u64, install: u64) -> Result<[Object; 2], KernelError> {
        let mut objects = [Object::None; 2];
        let wanted = [flag::INSTALL_FIRST | flag::SET_CWD | flag::SET_ROOT, flag::INSTALL_SECOND];
        for (index, object) in objects.iter_mut().enumerate() {
            if flags & wanted[index] == 0 {
                continue;
            }
            let handle = (install >> (32 * index)) & 0xffff_ffff;
            *object = match self.named(task, handle, Rights::TRANSFER)? {
                Object::OwnSession(session) | Object::Session(session) => Object::Session(session),
                _ => return Err(KernelError::BadHandle),
            };
        }
        Ok(objects)
    }

    /// Checks and writes the pieces that the payload lists.
    pub(crate) fn write_outputs(&mut self, task: TaskId, id: CallRef, count: u64) -> Result<(), KernelError> {
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let caller = self.calls.get(id).map(|call| call.task).ok_or(KernelError::NoSuchCall)?;
        let space = self.tasks.get(caller).map(|task| task.space).ok_or(KernelError::NoSuchCall)?;
        let root = self.spaces.get(space).map(|space| space.root).ok_or(KernelError::NoSuchCall)?;
        match self.user_memory().write_outputs(root, buffer, count) {
            Ok(()) => Ok(()),
            Err(Unwritten::Wrong(error)) => Err(error),
            Err(Unwritten::Missing(address)) => {
                self.fault_for(id, address, Protection::WRITE)?;
                Err(KernelError::NotResident)
            }
        }
    }

    /// Puts the new descriptors into the slots reserved for them.
    pub(crate) fn install(&mut self, caller: TaskId, id: CallRef, flags: u64, objects: [Object; 2]) {
        if flags & (flag::SET_CWD | flag::SET_ROOT) != 0 {
            let which = usize::from(flags & flag::SET_ROOT != 0);
            self.set_directory(caller, which, objects[0]);
            return;
        }
        let Some(table) = self.tasks.get(caller).map(|task| task.table) else { return };
        for (index, object) in objects.into_iter().enumerate() {
            if object == Object::None {
                continue;
            }
            let Some(slot) = self.calls.get_mut(id).and_then(|call| call.reserved[index].take()) else {
                continue;
            };
            let close_on_exec = flags & flag::CLOSE_ON_EXEC != 0;
            self.fill(
                table,
                slot,
                HandleSlot { object, rights: Rights::CALL | Rights::TRANSFER, close_on_exec },
            );
        }
    }

    /// Makes a session a task's working directory (0) or root directory (1).
    pub(crate) fn set_directory(&mut self, task: TaskId, which: usize, object: Object) {
        let Object::Session(session) = object else { return };
        let Some(directories) = self.tasks.get(task).and_then(|task| task.directories) else { return };
        if let Some(session) = self.sessions.get_mut(session) {
            session.holders += 1;
        }
        let Some(both) = self.directories.get_mut(directories) else { return };
        let Some(place) = both.sessions.get_mut(which) else { return };
        if let Some(old) = place.replace(session) {
            self.session_released(old);
        }
    }
}

/// Why the pieces of an answer were not written; none of them was.
pub(crate) enum Unwritten {
    /// They make no sense.
    Wrong(KernelError),
    /// The page of this address is not there.
    Missing(u64),
}

impl<M: Machine> UserMemory<'_, M> {
    /// Writes the pieces that a payload lists: address, length, then all bytes in order.
    #[inline(always)]
    pub(crate) fn write_outputs(
        &mut self,
        root: Frame,
        buffer: FrameRange,
        count: u64,
    ) -> Result<(), Unwritten> {
        let payload = u64::from(PAYLOAD_OFFSET);
        if count == 1 {
            // Most answers have one, in one page.
            let listed = self.machine.bytes(buffer, payload, size_of::<[u64; 2]>() as u64);
            if let Ok([address, length]) = <[u64; 2]>::read_from_bytes(listed)
                && is_in_one_page(address, length)
                && let Some(place) = self.translate(root, address, Protection::WRITE)
            {
                let from = buffer.physical() + payload + size_of::<[u64; 2]>() as u64;
                self.machine.copy(from, place, length);
                return Ok(());
            }
        }
        self.write_pieces(root, buffer, count)
    }

    #[inline(never)]
    fn write_pieces(&mut self, root: Frame, buffer: FrameRange, count: u64) -> Result<(), Unwritten> {
        let payload = u64::from(PAYLOAD_OFFSET);
        let listed = self.machine.bytes(buffer, payload, size_of::<Pieces>() as u64);
        let pieces =
            Pieces::read_from_bytes(listed).map_err(|_| Unwritten::Wrong(KernelError::WrongState))?;
        let pieces = pieces.get(..count as usize).ok_or(Unwritten::Wrong(KernelError::TooBig))?;
        for [address, length] in pieces {
            if *length > WINDOW_MAX || address.checked_add(*length).is_none_or(|end| end > M::USER_END) {
                return Err(Unwritten::Wrong(KernelError::BadAddress));
            }
            if let Some(missing) = self.first_missing(root, *address, *length, Protection::WRITE) {
                return Err(Unwritten::Missing(missing));
            }
        }
        let mut from = count * size_of::<[u64; 2]>() as u64;
        for [address, length] in pieces {
            if from + length <= u64::from(PAYLOAD_MAX) {
                let other = buffer.physical() + payload + from;
                self.transfer(root, *address, other, *length, Direction::ToCaller);
            }
            from += length;
        }
        Ok(())
    }
}
