//! Foreign system calls: a program's call is looked up in the table and answered from a word, carried out on the
//! program's own table, or delivered to a server.

use libipc::abi::delivery::Occasion;
use libipc::abi::foreign::{KernelCall, LINUX_CALLS, Role, Route};
use libipc::abi::trace::Who;
use libipc::abi::{KernelError, TaskWord};
use libipc::linux::errno;

use super::Kernel;
use super::deliver::row;
use super::machine::Machine;
use super::object::*;

impl<M: Machine> Kernel<M> {
    pub(crate) fn foreign_call(&mut self, thread: ThreadId, task: TaskId) {
        let each = self.threads.get(thread).is_some_and(|it| it.attention.contains(Attention::EACH_CALL));
        if !each || !self.call_for_attention(thread, Occasion::Entry) {
            self.make_foreign_call(thread, task);
        }
    }

    /// Makes the call that a thread's registers say.
    pub(crate) fn make_foreign_call(&mut self, thread: ThreadId, task: TaskId) {
        let Some(state) = self.threads.get(thread) else { return };
        let (number, arguments) = (state.registers.rax as u32, state.arguments());
        if let Err(result) = self.answer_or_send(thread, task, number, arguments) {
            self.trace_answered(thread, number, arguments, result);
            self.set_result(thread, result);
        }
    }

    /// Sends a program's call to whom it is for, or answers it: the result is the error then.
    fn answer_or_send(
        &mut self,
        thread: ThreadId,
        task: TaskId,
        number: u32,
        arguments: [u64; 6],
    ) -> Result<(), i64> {
        let row = row(number).ok_or(-i64::from(errno::ENOSYS))?;
        let server = match row.route {
            Route::Word(word) => {
                return Err(self.tasks.get(task).map_or(0, |task| i64::from(task.words[word as usize])));
            }
            Route::Kernel(call) => match self.kernel_call(call, thread, task, arguments) {
                Some(result) => return Err(result),
                None if call == KernelCall::ClockGettime => {
                    self.roles[Role::Proc as usize].map(|role| (role, None))
                }
                None => self.behind_descriptor(task, arguments[0]),
            },
            Route::Server(role) => self.roles[role as usize].map(|role| (role, None)),
            Route::Object(argument) => {
                let found = self.behind_descriptor(task, arguments[usize::from(argument)]);
                Some(found.ok_or(-i64::from(errno::EBADF))?)
            }
            Route::None => None,
        };
        let Some((server, session)) = server else {
            if number < LINUX_CALLS {
                self.enosys[number as usize] = self.enosys[number as usize].saturating_add(1);
            }
            return Err(-i64::from(errno::ENOSYS));
        };
        let server = match self.roles[Role::Proc as usize] {
            Some(first) if arguments.get(usize::from(row.masks)).is_some_and(|mask| *mask != 0) => first,
            _ => server,
        };
        self.call_for(thread, task, (server, session), number, row.reserves)
    }

    fn behind_descriptor(&self, task: TaskId, descriptor: u64) -> Option<(ServerId, Option<SessionId>)> {
        let table = self.tasks.get(task)?.table;
        match self.slot(table, u32::try_from(descriptor & 0xffff_ffff).ok()?).object {
            Object::Session(id) => Some((self.sessions.get(id)?.server, Some(id))),
            _ => None,
        }
    }

    /// Makes the call object of a program's call and hands it to the server; or the result of a call that cannot be
    /// made.
    fn call_for(
        &mut self,
        thread: ThreadId,
        task: TaskId,
        (server, session): (ServerId, Option<SessionId>),
        number: u32,
        reserves: u8,
    ) -> Result<(), i64> {
        if self.servers.get(server).is_none_or(|server| server.state == ServerState::Gone) {
            return Err(-i64::from(errno::EIO));
        }
        let mut reserved = [None; 2];
        if reserves > 0 {
            reserved = self.reserve_results(task, reserves).map_err(|errno| -i64::from(errno))?;
        }
        let call = self.new_call(CallKind::Foreign, task, server, |call| {
            call.thread = Some(thread);
            call.session = session;
            (call.label, call.number) = (number, number);
            call.reserved = reserved;
        });
        let Ok(id) = call else {
            self.release_reserved(task, reserved);
            return Err(-i64::from(errno::ENOMEM));
        };
        if let Some(state) = self.threads.get_mut(thread) {
            state.state = ThreadState::Calling(id);
        }
        self.trace_linux(id);
        self.enqueue_call(id);
        Ok(())
    }

    fn release_reserved(&mut self, task: TaskId, reserved: [Option<u32>; 2]) {
        let Some(table) = self.tasks.get(task).map(|task| task.table) else { return };
        for slot in reserved.into_iter().flatten() {
            self.release(table, slot);
        }
    }

    /// Sets aside the descriptors that a call's answer will install.
    fn reserve_results(&mut self, task: TaskId, count: u8) -> Result<[Option<u32>; 2], i32> {
        let limit = self.descriptor_limit(task);
        let table = self.tasks.get(task).map(|task| task.table).ok_or(errno::EMFILE)?;
        let mut reserved = [None; 2];
        for index in 0..usize::from(count.min(2)) {
            let free = self.lowest_free(table, 0, limit);
            let taken = free.ok_or(errno::EMFILE).and_then(|slot| self.take_slot(table, slot));
            match taken {
                Ok(slot) => reserved[index] = Some(slot),
                Err(errno) => {
                    self.release_reserved(task, reserved);
                    return Err(errno);
                }
            }
        }
        Ok(reserved)
    }

    fn take_slot(&mut self, table: TableId, slot: u32) -> Result<u32, i32> {
        self.reserve(table, slot).map(|()| slot).map_err(|error| match error {
            KernelError::Exhausted => errno::ENOMEM,
            _ => errno::EMFILE,
        })
    }

    pub(crate) fn set_result(&mut self, thread: ThreadId, result: i64) {
        if let Some(state) = self.threads.get_mut(thread) {
            state.registers.rax = result as u64;
            state.restart = 0;
        }
    }

    /// Ends a program's call with a result and lets the thread go on.
    pub(crate) fn finish_foreign(&mut self, id: CallRef, result: i64) {
        let Some(call) = self.calls.get(id) else { return };
        let thread = call.thread;
        self.trace_result(id, result);
        self.end_call(id);
        if let Some(thread) = thread {
            if self.threads.get(thread).map(|thread| thread.state) == Some(ThreadState::Calling(id)) {
                self.set_result(thread, result);
            }
            self.release_thread(thread, id);
        }
    }

    /// The value of a word, with the umask where it lives.
    pub(crate) fn set_word(&mut self, task: TaskId, word: TaskWord, value: u32) {
        let Some(state) = self.tasks.get_mut(task) else { return };
        state.words[word as usize] = value;
        if word == TaskWord::Umask
            && let Some(directories) = state.directories
            && let Some(directories) = self.directories.get_mut(directories)
        {
            directories.umask = value & 0o777;
        }
        if word == TaskWord::Pid {
            self.rename_threads(task, value);
        }
    }

    /// Has the threads of a process that has been given this number called by it.
    fn rename_threads(&mut self, task: TaskId, pid: u32) {
        let mut next = self.tasks.get(task).and_then(|task| task.first_thread);
        while let Some(thread) = next.and_then(|thread| self.threads.get_mut(thread)) {
            thread.who = Who::Program { pid, tid: thread.tid }.to_word();
            next = thread.sibling.1;
        }
    }
}
