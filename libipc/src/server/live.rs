//! [`Env`] over the kernel.

use alloc::vec::Vec;
use core::ops::Range;

use super::env::{Descriptor, Env, LeaseError, Statistic, TaskFigure, ThreadState};
use super::message::Message;
use super::receive;
use super::shell::Kept;
use crate::abi::delivery::{MessageBuffer, Named, PAYLOAD_OFFSET};
use crate::abi::journal::Source;
use crate::abi::syscall::{Info, Syscall};
use crate::abi::{CallId, Frame, Handle, KernelError, PAYLOAD_MAX, Readiness, UserRegisters};
use crate::sys::{Trapped, Traps};
use zerocopy::FromBytes;

/// The outside of a step, live.
pub struct Live<'a, T> {
    pub(super) traps: &'a mut T,
    pub(super) kept: &'a mut Kept,
    pub(super) now: u64,
    /// A call whose missing page will never come.
    pub(super) failed: Option<CallId>,
    /// The call whose caller lacked a page that was to be read.
    pub(super) missing: Option<CallId>,
}

impl<T: Traps> Live<'_, T> {
    fn payload(&mut self, length: u64) -> Vec<u8> {
        let from = PAYLOAD_OFFSET as usize;
        self.traps.buffer()[from..from + length.min(u64::from(PAYLOAD_MAX)) as usize].to_vec()
    }

    fn registers_in_payload(&mut self) -> Result<UserRegisters, KernelError> {
        let payload = &self.traps.buffer()[PAYLOAD_OFFSET as usize..];
        UserRegisters::read_from_prefix(payload)
            .map(|(registers, _)| registers)
            .map_err(|_| KernelError::WrongState)
    }

    /// Looks at a caller's memory: value 0 of the trap.
    fn lease(&mut self, what: Syscall, call: CallId, address: u64, length: u32) -> Result<u64, LeaseError> {
        match self.traps.trap(what, [call.0, address, u64::from(length), 0, 0, 0]) {
            Ok(values) => Ok(values[0]),
            Err(KernelError::NotResident) if self.failed == Some(call) => Err(LeaseError::BadAddress),
            Err(KernelError::NotResident) => {
                self.missing = Some(call);
                Err(LeaseError::NotResident)
            }
            Err(KernelError::BadAddress) => Err(LeaseError::BadAddress),
            Err(_) => Err(LeaseError::Gone),
        }
    }

    fn four(trapped: Trapped) -> Result<[u64; 4], KernelError> {
        trapped.map(|[value0, value1, value2, value3, _]| [value0, value1, value2, value3])
    }
}

impl<T: Traps> Env for Live<'_, T> {
    fn now(&self) -> u64 {
        self.now
    }

    fn new_handle(&mut self) -> Handle {
        self.kept.slots.take()
    }

    fn read_user(&mut self, call: CallId, address: u64, length: u32) -> Result<Vec<u8>, LeaseError> {
        let length = self.lease(Syscall::LeaseRead, call, address, length)?;
        Ok(self.payload(length))
    }

    fn probe_user(&mut self, call: CallId, address: u64, length: u32) -> Result<u64, LeaseError> {
        self.lease(Syscall::LeaseProbe, call, address, length)
    }

    fn ask(&mut self, server: Handle, message: &Message) -> Result<Message, KernelError> {
        let from = PAYLOAD_OFFSET as usize;
        let buffer = self.traps.buffer();
        buffer[from..from + message.payload.len()].copy_from_slice(&message.payload);
        receive::write_header(buffer, &message.handles, 0);
        let info = Info {
            label: message.label,
            payload_len: message.payload.len() as u32,
            handles: message.handles.len() as u32,
        };
        let [word0, word1, word2, word3] = message.words;
        let values =
            self.traps.trap(Syscall::Call, [u64::from(server.0), info.pack(), word0, word1, word2, word3])?;
        let [info, word0, word1, word2, word3] = values;
        let info = Info::unpack(info);
        let mut handles = Vec::new();
        if info.handles > 0 {
            if let Ok((header, _)) = MessageBuffer::read_from_prefix(&self.traps.buffer()[..]) {
                handles = header.send.iter().take(info.handles as usize).map(|slot| Handle(*slot)).collect();
            }
            for slot in &mut self.kept.offered {
                if handles.contains(slot) {
                    *slot = self.kept.slots.take();
                }
            }
            let offered = self.kept.offered;
            receive::write_offer(self.traps.buffer(), &offered);
        }
        let payload = self.payload(u64::from(info.payload_len));
        Ok(Message { label: info.label, words: [word0, word1, word2, word3], payload, handles })
    }

    fn read_arena(&mut self, offset: u64, length: u32) -> Vec<u8> {
        match self.traps.trap(Syscall::ArenaRead, [offset, u64::from(length), 0, 0, 0, 0]) {
            Ok(values) => self.payload(values[0]),
            Err(error) => panic!("{error}: reading {length} bytes of the arena at {offset}"),
        }
    }

    fn read_frame(&mut self, frame: Frame, offset: u32, length: u32) -> Vec<u8> {
        let arguments = [u64::from(frame.0), u64::from(offset), u64::from(length), 0, 0, 0];
        match self.traps.trap(Syscall::FrameRead, arguments) {
            Ok(values) => self.payload(values[0]),
            Err(error) => panic!("{error}: reading frame {}", frame.0),
        }
    }

    fn thread(&mut self, thread: Handle) -> Result<ThreadState, KernelError> {
        let values = self.traps.trap(Syscall::ThreadRegisters, [u64::from(thread.0), 0, 0, 0, 0, 0])?;
        let registers = self.registers_in_payload()?;
        let from = PAYLOAD_OFFSET as usize;
        let fpu = &self.traps.buffer()[from + size_of::<UserRegisters>()..from + values[0] as usize];
        Ok(ThreadState { registers, fpu: fpu.to_vec() })
    }

    fn registers(&mut self, thread: Handle) -> Result<UserRegisters, KernelError> {
        self.traps.trap(Syscall::ThreadRegisters, [u64::from(thread.0), 1, 0, 0, 0, 0])?;
        self.registers_in_payload()
    }

    fn task_info(&mut self, task: Handle, what: TaskFigure) -> Result<[u64; 4], KernelError> {
        Self::four(self.traps.trap(Syscall::TaskInfo, [u64::from(task.0), what as u64, 0, 0, 0, 0]))
    }

    fn journal_sum(
        &mut self,
        task: Handle,
        source: Source,
        part: Range<u64>,
        start: u64,
    ) -> Result<u64, KernelError> {
        let length = part.end.saturating_sub(part.start);
        let arguments = [u64::from(task.0), source.to_word(), part.start, length, start, 0];
        self.traps.trap(Syscall::JournalSum, arguments).map(|values| values[0])
    }

    fn statistic(&mut self, what: Statistic, index: u64) -> [u64; 4] {
        Self::four(self.traps.trap(Syscall::Statistics, [what as u64, index, 0, 0, 0, 0])).unwrap_or([0; 4])
    }

    fn watch(
        &mut self,
        call: CallId,
        descriptor: u32,
        readiness: Readiness,
    ) -> Result<Readiness, KernelError> {
        let arguments = [call.0, u64::from(descriptor), u64::from(readiness.bits()), 0, 0, 0];
        let values = self.traps.trap(Syscall::Watch, arguments)?;
        Ok(Readiness::from_bits_truncate(values[0] as u32))
    }

    fn keep_watch(
        &mut self,
        call: CallId,
        descriptor: u32,
        cookie: u64,
        readiness: Readiness,
    ) -> Result<(Readiness, u64), KernelError> {
        let arguments = [call.0, u64::from(descriptor), cookie, u64::from(readiness.bits()), 0, 0];
        let [ready, watch, ..] = self.traps.trap(Syscall::WatchKeep, arguments)?;
        Ok((Readiness::from_bits_truncate(ready as u32), watch))
    }

    fn change_watch(&mut self, watch: u64, readiness: Readiness) -> Result<Readiness, KernelError> {
        let arguments = [watch, u64::from(readiness.bits()), 0, 0, 0, 0];
        let values = self.traps.trap(Syscall::WatchChange, arguments)?;
        Ok(Readiness::from_bits_truncate(values[0] as u32))
    }

    fn descriptor(&mut self, task: Handle, slot: u32) -> Result<Descriptor, KernelError> {
        let arguments = [u64::from(task.0), u64::from(slot), 0, 0, 0, 0];
        let [which, badge, object, status, position] = self.traps.trap(Syscall::DescriptorInfo, arguments)?;
        let named = Named { server: which >> 32, badge, object };
        let (slot, close_on_exec) = (which as u32, status >> 32 != 0);
        Ok(Descriptor { slot, named, status: status as u32, close_on_exec, position })
    }

    fn take_descriptor(
        &mut self,
        call: CallId,
        descriptor: u32,
    ) -> Result<(Handle, Descriptor), KernelError> {
        let into = self.kept.slots.take();
        let arguments = [call.0, u64::from(descriptor), u64::from(into.0), 0, 0, 0];
        match self.traps.trap(Syscall::DescriptorTake, arguments) {
            Ok([server, badge, object, status, position]) => {
                let named = Named { server, badge, object };
                let (status, close_on_exec) = (status as u32, status >> 32 != 0);
                Ok((into, Descriptor { slot: descriptor, named, status, close_on_exec, position }))
            }
            Err(error) => {
                self.kept.slots.give_back(into);
                Err(error)
            }
        }
    }

    fn give_descriptor(
        &mut self,
        call: CallId,
        handle: Handle,
        close_on_exec: bool,
    ) -> Result<u32, KernelError> {
        let arguments = [call.0, u64::from(handle.0), u64::from(close_on_exec), 0, 0, 0];
        self.traps.trap(Syscall::DescriptorGive, arguments).map(|values| values[0] as u32)
    }

    fn port_in(&mut self, port: u16, width: u8) -> u32 {
        match self.traps.trap(Syscall::PortIn, [u64::from(port), u64::from(width), 0, 0, 0, 0]) {
            Ok(values) => values[0] as u32,
            Err(error) => panic!("{error}: reading port {port:#x}"),
        }
    }
}
