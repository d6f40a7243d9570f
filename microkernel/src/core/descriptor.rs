//! What the kernel does itself for a Linux program: calls on its own descriptor table and words.

use libipc::abi::foreign::KernelCall;
use libipc::abi::syscall::descriptor_slot;
use libipc::abi::{KernelError, Protection, Rights};
use libipc::linux::errno;
use libipc::linux::open as flags;

use super::Kernel;
use super::machine::Machine;
use super::object::*;

/// Status flags that F_SETFL may change.
const SETTABLE: u32 =
    flags::O_APPEND | flags::O_NONBLOCK | flags::O_ASYNC | flags::O_DIRECT | flags::O_NOATIME;
/// ioctl requests that set and clear close-on-exec.
const FIOCLEX: u32 = 0x5451;
const FIONCLEX: u32 = 0x5450;
const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;
const CLOSE_RANGE_CLOEXEC: u64 = 4;

fn negative(errno: i32) -> i64 {
    -i64::from(errno)
}

impl<M: Machine> Kernel<M> {
    /// Carries a call out; `None` when it is the server's behind the descriptor, or the process server's, after all.
    pub(crate) fn kernel_call(
        &mut self,
        call: KernelCall,
        thread: ThreadId,
        task: TaskId,
        arguments: [u64; 6],
    ) -> Option<i64> {
        let table = self.tasks.get(task)?.table;
        let descriptor = arguments[0] as u32;
        Some(match call {
            KernelCall::Close => match self.empty(table, descriptor) {
                Some(_) => 0,
                None => negative(errno::EBADF),
            },
            KernelCall::Dup => self.duplicate(task, table, descriptor, 0, false),
            KernelCall::Dup2 if arguments[0] as u32 == arguments[1] as u32 => {
                match self.slot(table, descriptor).object {
                    Object::None => negative(errno::EBADF),
                    _ => i64::from(descriptor),
                }
            }
            KernelCall::Dup2 => self.duplicate_to(task, table, descriptor, arguments[1] as u32, false),
            KernelCall::Dup3 => {
                let extra = arguments[2] & !u64::from(flags::O_CLOEXEC);
                if descriptor == arguments[1] as u32 || extra != 0 {
                    return Some(negative(errno::EINVAL));
                }
                self.duplicate_to(task, table, descriptor, arguments[1] as u32, arguments[2] != 0)
            }
            KernelCall::Fcntl => {
                return self.fcntl(task, table, descriptor, arguments[1] as u32, arguments[2]);
            }
            KernelCall::Ioctl => {
                if self.slot(table, descriptor).object == Object::None {
                    return Some(negative(errno::EBADF));
                }
                let close = match arguments[1] as u32 {
                    FIOCLEX => true,
                    FIONCLEX => false,
                    _ => return None,
                };
                self.set_close_on_exec(table, descriptor, close);
                0
            }
            KernelCall::CloseRange => self.close_range(table, arguments),
            KernelCall::Yield => {
                self.yield_current(thread);
                0
            }
            KernelCall::ArchPrctl => self.arch_prctl(thread, task, arguments[0], arguments[1]),
            KernelCall::Umask => self.umask(task, arguments[0] as u32),
            KernelCall::Gettid => self.threads.get(thread).map_or(0, |thread| i64::from(thread.tid)),
            KernelCall::ClockGettime => return self.clock_gettime(task, arguments[0], arguments[1]),
            KernelCall::Getcpu => self.getcpu(task, arguments[0], arguments[1]),
        })
    }

    fn duplicate(
        &mut self,
        task: TaskId,
        table: TableId,
        from: u32,
        lowest: u32,
        close_on_exec: bool,
    ) -> i64 {
        let value = self.slot(table, from);
        if value.object == Object::None {
            return negative(errno::EBADF);
        }
        let limit = self.descriptor_limit(task);
        let Some(to) = self.lowest_free(table, lowest, limit) else { return negative(errno::EMFILE) };
        if self.reserve(table, to).is_err() {
            return negative(errno::ENOMEM);
        }
        self.fill(table, to, HandleSlot { close_on_exec, ..value });
        i64::from(to)
    }

    fn duplicate_to(&mut self, task: TaskId, table: TableId, from: u32, to: u32, close_on_exec: bool) -> i64 {
        let value = self.slot(table, from);
        if value.object == Object::None || to >= self.descriptor_limit(task) {
            return negative(errno::EBADF);
        }
        // Held once more first: closing the target must not be the end of what is being duplicated.
        if let Object::Session(session) = value.object
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.holders += 1;
        }
        self.empty(table, to);
        let result = match self.reserve(table, to) {
            Ok(()) => {
                self.fill(table, to, HandleSlot { close_on_exec, ..value });
                i64::from(to)
            }
            Err(KernelError::SlotInUse) => negative(errno::EBUSY),
            Err(_) => negative(errno::ENOMEM),
        };
        self.let_go(value.object);
        result
    }

    fn fcntl(
        &mut self,
        task: TaskId,
        table: TableId,
        descriptor: u32,
        command: u32,
        argument: u64,
    ) -> Option<i64> {
        let value = self.slot(table, descriptor);
        let Object::Session(session) = value.object else { return Some(negative(errno::EBADF)) };
        Some(match command {
            flags::F_DUPFD | flags::F_DUPFD_CLOEXEC => {
                let Ok(lowest) = u32::try_from(argument) else { return Some(negative(errno::EINVAL)) };
                if lowest >= self.descriptor_limit(task) {
                    return Some(negative(errno::EINVAL));
                }
                self.duplicate(task, table, descriptor, lowest, command == flags::F_DUPFD_CLOEXEC)
            }
            flags::F_GETFD => i64::from(value.close_on_exec),
            flags::F_SETFD => {
                self.set_close_on_exec(table, descriptor, argument & u64::from(flags::FD_CLOEXEC) != 0);
                0
            }
            flags::F_GETFL => {
                let status = self.sessions.get(session)?.status & !(flags::S_MAPPABLE | flags::O_RUNS);
                i64::from(status | flags::O_LARGEFILE)
            }
            flags::F_SETFL => {
                let session = self.sessions.get_mut(session)?;
                session.status = session.status & !SETTABLE | argument as u32 & SETTABLE;
                0
            }
            _ => return None,
        })
    }

    fn close_range(&mut self, table: TableId, [first, last, how, ..]: [u64; 6]) -> i64 {
        let (first, last) = (first as u32, last as u32);
        if first > last || how & !CLOSE_RANGE_CLOEXEC != 0 {
            return negative(errno::EINVAL);
        }
        let bound = self.tables.get(table).map_or(0, |table| table.bound);
        for slot in first..bound.min(last.saturating_add(1)) {
            if how & CLOSE_RANGE_CLOEXEC != 0 {
                self.set_close_on_exec(table, slot, true);
            } else {
                self.empty(table, slot);
            }
        }
        0
    }

    fn umask(&mut self, task: TaskId, mask: u32) -> i64 {
        let directories = self.tasks.get(task).and_then(|task| task.directories);
        let Some(both) = directories.and_then(|id| self.directories.get_mut(id)) else { return 0 };
        i64::from(core::mem::replace(&mut both.umask, mask & 0o777))
    }

    fn arch_prctl(&mut self, thread: ThreadId, task: TaskId, code: u64, address: u64) -> i64 {
        let Some(state) = self.threads.get_mut(thread) else { return negative(errno::EINVAL) };
        let value = match code {
            ARCH_SET_FS | ARCH_SET_GS if address >= M::USER_END => return negative(errno::EPERM),
            ARCH_SET_FS | ARCH_SET_GS => {
                let registers = &mut state.registers;
                let base = if code == ARCH_SET_FS { &mut registers.fs_base } else { &mut registers.gs_base };
                *base = address;
                self.machine.set_bases(registers.fs_base, registers.gs_base);
                return 0;
            }
            ARCH_GET_FS => state.registers.fs_base,
            ARCH_GET_GS => state.registers.gs_base,
            _ => return negative(errno::EINVAL),
        };
        self.write_now(task, address, &value.to_le_bytes())
    }

    /// Writes a few bytes to the running program, if they are mapped: EFAULT otherwise.
    fn write_now(&mut self, task: TaskId, address: u64, bytes: &[u8]) -> i64 {
        let space = self.tasks.get(task).and_then(|task| self.spaces.get(task.space));
        let Some(root) = space.map(|space| space.root) else { return negative(errno::EFAULT) };
        let mut places = [(FrameRange::default(), 0u64); 16];
        if bytes.len() > places.len() {
            return negative(errno::EFAULT);
        }
        for (index, place) in places.iter_mut().enumerate().take(bytes.len()) {
            let Some(physical) = self.translate(root, address.wrapping_add(index as u64), Protection::WRITE)
            else {
                return negative(errno::EFAULT);
            };
            let frame = libipc::abi::Frame((physical / libipc::abi::PAGE_SIZE) as u32);
            *place = (FrameRange::one(frame), physical % libipc::abi::PAGE_SIZE);
        }
        for (byte, (range, offset)) in bytes.iter().zip(places) {
            self.machine.bytes(range, offset, 1)[0] = *byte;
        }
        0
    }

    /// The clocks that need nobody; `None` for the CPU clocks, or when the page is not there (the server's path
    /// faults it in).
    fn clock_gettime(&mut self, task: TaskId, clock: u64, address: u64) -> Option<i64> {
        let since_boot = self.machine.now();
        let ns = match clock as u32 {
            0 | 5 | 11 => self.epoch_s * 1_000_000_000 + since_boot,
            1 | 4 | 6 | 7 => since_boot,
            _ => return None,
        };
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(ns / 1_000_000_000).to_le_bytes());
        bytes[8..].copy_from_slice(&(ns % 1_000_000_000).to_le_bytes());
        match self.write_now(task, address, &bytes) {
            0 => Some(0),
            _ => None,
        }
    }

    fn getcpu(&mut self, task: TaskId, cpu: u64, node: u64) -> i64 {
        for address in [cpu, node] {
            if address != 0 {
                let result = self.write_now(task, address, &0u32.to_le_bytes());
                if result != 0 {
                    return result;
                }
            }
        }
        0
    }

    /// Puts a handle of a server into a program's table or directories: how the first program gets its own.
    pub(crate) fn descriptor_set(&mut self, task: TaskId, arguments: [u64; 6]) -> super::Outcome {
        let [handle, slot, given, close_on_exec, ..] = arguments;
        let program = self.program_named(task, handle)?;
        let object = match self.named(task, given, Rights::TRANSFER)? {
            Object::OwnSession(session) | Object::Session(session) => Object::Session(session),
            _ => return Err(KernelError::WrongKind),
        };
        let lowest = slot == u64::from(descriptor_slot::LOWEST);
        if slot >> 31 == 1 && !lowest {
            self.set_directory(program, (slot & 1) as usize, object);
            return Ok([0; 5]);
        }
        let table = self.tasks.get(program).map(|task| task.table).ok_or(KernelError::BadHandle)?;
        let slot = if lowest {
            let limit = self.descriptor_limit(program);
            self.lowest_free(table, 0, limit).ok_or(KernelError::Exhausted)?
        } else {
            let slot = u32::try_from(slot).map_err(|_| KernelError::BadArgument)?;
            self.empty(table, slot);
            slot
        };
        self.reserve(table, slot)?;
        let rights = Rights::CALL | Rights::TRANSFER;
        self.fill(table, slot, HandleSlot { object, rights, close_on_exec: close_on_exec != 0 });
        Ok([u64::from(slot), 0, 0, 0, 0])
    }

    /// The descriptor table of the program whose call a server holds.
    fn table_of_caller(&self, task: TaskId, token: u64) -> Result<(TaskId, TableId), KernelError> {
        let caller = self.calls.get(self.held_call(task, token)?).map(|call| call.task);
        let caller = caller.ok_or(KernelError::NoSuchCall)?;
        let program = self.tasks.get(caller).filter(|task| task.personality == Personality::Linux);
        program.map(|task| (caller, task.table)).ok_or(KernelError::NoSuchCall)
    }

    /// What a program sends along with a message: the server becomes a holder of what is behind the descriptor.
    pub(crate) fn descriptor_take(
        &mut self,
        task: TaskId,
        [token, descriptor, into, ..]: [u64; 6],
    ) -> super::Outcome {
        let (_, table) = self.table_of_caller(task, token)?;
        let slot = u32::try_from(descriptor).map_err(|_| KernelError::BadHandle)?;
        let HandleSlot { object, close_on_exec, .. } = self.slot(table, slot);
        let Object::Session(session) = object else { return Err(KernelError::BadHandle) };
        self.put(task, into, object, Rights::CALL | Rights::TRANSFER)?;
        let named = self.name_of(object);
        let session = self.sessions.get(session).ok_or(KernelError::BadHandle)?;
        let status = u64::from(session.status) | u64::from(close_on_exec) << 32;
        Ok([named.server, named.badge, named.object, status, session.position])
    }

    /// What is behind a directory of a program, or behind its first descriptor from a slot on.
    pub(crate) fn descriptor_info(&mut self, task: TaskId, [handle, slot, ..]: [u64; 6]) -> super::Outcome {
        let Object::Task(program) = self.named(task, handle, Rights::INSPECT)? else {
            return Err(KernelError::WrongKind);
        };
        let state = self.tasks.get(program).ok_or(KernelError::BadHandle)?;
        let (slot, value) = if slot >> 31 == 1 {
            let both = state.directories.and_then(|id| self.directories.get(id));
            let session = both.and_then(|both| both.sessions[(slot & 1) as usize]);
            let object = session.map_or(Object::None, Object::Session);
            (slot, HandleSlot { object, ..HandleSlot::EMPTY })
        } else {
            let table = state.table;
            let bound = self.tables.get(table).map_or(0, |table| table.bound);
            let first = u32::try_from(slot).map_err(|_| KernelError::BadArgument)?;
            let mut used = (first..bound).map(|slot| (slot, self.slot(table, slot)));
            let found = used.find(|(_, value)| value.object != Object::None);
            let (slot, value) = found.ok_or(KernelError::BadArgument)?;
            (u64::from(slot), value)
        };
        let Object::Session(session) = value.object else { return Err(KernelError::BadArgument) };
        let named = self.name_of(value.object);
        let session = self.sessions.get(session).ok_or(KernelError::BadHandle)?;
        let status = u64::from(session.status) | u64::from(value.close_on_exec) << 32;
        Ok([slot | named.server << 32, named.badge, named.object, status, session.position])
    }

    /// What a program receives with a message: the session becomes its lowest free descriptor.
    pub(crate) fn descriptor_give(
        &mut self,
        task: TaskId,
        [token, handle, flags, ..]: [u64; 6],
    ) -> super::Outcome {
        let (caller, table) = self.table_of_caller(task, token)?;
        let object = match self.named(task, handle, Rights::TRANSFER)? {
            Object::OwnSession(session) | Object::Session(session) => Object::Session(session),
            _ => return Err(KernelError::WrongKind),
        };
        let limit = self.descriptor_limit(caller);
        let slot = self.lowest_free(table, 0, limit).ok_or(KernelError::SlotInUse)?;
        self.reserve(table, slot)?;
        let rights = Rights::CALL | Rights::TRANSFER;
        self.fill(table, slot, HandleSlot { object, rights, close_on_exec: flags & 1 != 0 });
        Ok([u64::from(slot), 0, 0, 0, 0])
    }
}
