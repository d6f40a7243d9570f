//! Programs' tasks and threads, as the process server makes, changes and ends them. Ending waits for nobody: what
//! other servers hold of the dead is theirs to answer into the void.

use libipc::abi::delivery::{MAKE_CALL, Occasion, PAYLOAD_OFFSET};
use libipc::abi::foreign::Role;
use libipc::abi::syscall::{Restart, When};
use libipc::abi::trace::{Event, Who};
use libipc::abi::{KernelError, Owned, Rights, TaskWord, UserRegisters};
use libipc::linux::errno;

use super::arena::Blank;
use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};
use zerocopy::{FromBytes, IntoBytes};

/// Share the parent's descriptor table.
const SHARE_DESCRIPTORS: u64 = 1;
/// Copy it.
const COPY_DESCRIPTORS: u64 = 2;
/// Share the parent's directories.
const SHARE_DIRECTORIES: u64 = 4;
/// Copy them.
const COPY_DIRECTORIES: u64 = 8;
/// Priority of programs.
const PROGRAM_PRIORITY: u8 = 4;
/// Flags that user code may set in its flags register: arithmetic, trap, direction, alignment check, identification.
const USER_FLAGS: u64 = 0x24_0dd5;
/// Interrupts on, and the bit that is always set.
const FIXED_FLAGS: u64 = 0x202;
/// Of a copy of a thread: its stack pointer or fs base is its source's.
const AS_SOURCE: u64 = u64::MAX;
const REGISTER_BYTES: u64 = size_of::<UserRegisters>() as u64;
const FPU_BYTES: u64 = 512;

impl<M: Machine> Kernel<M> {
    /// The program that a handle names.
    pub(crate) fn program_named(&self, task: TaskId, handle: u64) -> Result<TaskId, KernelError> {
        let Object::Task(id) = self.named(task, handle, Rights::CONTROL)? else {
            return Err(KernelError::WrongKind);
        };
        match self.tasks.get(id).map(|task| task.personality) {
            Some(Personality::Linux) => Ok(id),
            Some(Personality::Native) => Err(KernelError::WrongKind),
            None => Err(KernelError::BadHandle),
        }
    }

    fn thread_named(&self, task: TaskId, handle: u64) -> Result<ThreadId, KernelError> {
        let Object::Thread(id) = self.named(task, handle, Rights::CONTROL)? else {
            return Err(KernelError::WrongKind);
        };
        self.threads.get(id).map(|_| id).ok_or(KernelError::BadHandle)
    }

    pub(crate) fn task_create(
        &mut self,
        task: TaskId,
        [into, space, parent, flags, ..]: [u64; 6],
    ) -> Outcome {
        self.check_free(task, into)?;
        let parent =
            if parent == u64::from(u32::MAX) { None } else { Some(self.program_named(task, parent)?) };
        let program = self.new_program(task, space, parent, flags)?;
        self.put(task, into, Object::Task(program), Rights::all())?;
        Ok([0; 5])
    }

    /// A task and its first thread, copies of a thread and its task: what a fork publishes.
    pub(crate) fn task_fork(
        &mut self,
        task: TaskId,
        [into, from, numbers, flags, stack, tls]: [u64; 6],
    ) -> Outcome {
        let halves = |word: u64| (word & 0xffff_ffff, word >> 32);
        let ((into, into_thread), (space, source)) = (halves(into), halves(from));
        self.check_free(task, into)?;
        self.check_free(task, into_thread)?;
        if into == into_thread {
            return Err(self.refuse_slot(task, KernelError::SlotInUse));
        }
        let source = self.thread_named(task, source)?;
        let parent = self.threads.get(source).map(|source| source.task).ok_or(KernelError::BadHandle)?;
        let start = self.start_of_copy(source, stack, tls)?;
        let program = self.new_program(task, space, Some(parent), flags)?;
        let (number, parent) = halves(numbers);
        self.set_word(program, TaskWord::Pid, number as u32);
        self.set_word(program, TaskWord::ParentPid, parent as u32);
        let made = self.new_thread(program, number as u32, PROGRAM_PRIORITY).and_then(|thread| {
            self.fill_copy(source, thread, start);
            self.put(task, into, Object::Task(program), Rights::all())?;
            self.put(task, into_thread, Object::Thread(thread), Rights::all())
        });
        if made.is_err() {
            if let Ok(table) = self.table_of(task) {
                self.empty(table, into as u32);
            }
            self.end_program(program);
        }
        made.map(|()| [0; 5])
    }

    /// The registers with which a copy of a thread begins: to it, the call returns 0.
    fn start_of_copy(&self, source: ThreadId, stack: u64, tls: u64) -> Result<UserRegisters, KernelError> {
        let source = self.threads.get(source).ok_or(KernelError::BadHandle)?;
        let mut registers = UserRegisters { rax: 0, ..source.registers };
        if stack != AS_SOURCE {
            registers.rsp = stack;
        }
        if tls != AS_SOURCE {
            registers.fs_base = tls;
        }
        if registers.fs_base >= M::USER_END {
            return Err(KernelError::BadAddress);
        }
        Ok(registers)
    }

    fn fill_copy(&mut self, source: ThreadId, thread: ThreadId, registers: UserRegisters) {
        self.machine.copy_fpu(Some(source), thread);
        if let Some(state) = self.threads.get_mut(thread) {
            state.registers = registers;
        }
    }

    /// A task that no handle names yet.
    fn new_program(
        &mut self,
        task: TaskId,
        space: u64,
        parent: Option<TaskId>,
        flags: u64,
    ) -> Result<TaskId, KernelError> {
        let Object::Space(space) = self.named(task, space, Rights::CONTROL)? else {
            return Err(KernelError::WrongKind);
        };
        self.spaces.get(space).ok_or(KernelError::BadHandle)?;
        let maker = self.server_of(task).ok_or(KernelError::WrongState)?;
        self.charge(maker, Owned::Tasks)?;
        let made = self.charged_program(maker, space, parent, flags);
        if made.is_err() {
            self.credit(maker, Owned::Tasks);
        }
        made
    }

    /// The same, charged already.
    fn charged_program(
        &mut self,
        maker: ServerId,
        space: SpaceId,
        parent: Option<TaskId>,
        flags: u64,
    ) -> Result<TaskId, KernelError> {
        let table = self.inherit_table(parent, flags)?;
        let directories = match self.inherit_directories(parent, flags) {
            Ok(directories) => directories,
            Err(error) => {
                self.drop_table(table);
                return Err(error);
            }
        };
        let words = parent
            .and_then(|parent| self.tasks.get(parent))
            .map_or_else(default_words, |parent| parent.words);
        let program = Task {
            personality: Personality::Linux,
            space,
            table,
            directories: Some(directories),
            words,
            maker: Some(maker),
            ..Task::BLANK
        };
        let program = match self.tasks.insert(program) {
            Ok(program) => program,
            Err(_) => {
                self.drop_table(table);
                self.drop_directories(directories);
                return Err(KernelError::Exhausted);
            }
        };
        if let Some(space) = self.spaces.get_mut(space) {
            space.users += 1;
        }
        Ok(program)
    }

    fn inherit_table(&mut self, parent: Option<TaskId>, flags: u64) -> Result<TableId, KernelError> {
        let from = parent.and_then(|parent| self.tasks.get(parent)).map(|parent| parent.table);
        match from {
            Some(table) if flags & SHARE_DESCRIPTORS != 0 => {
                self.tables.get_mut(table).ok_or(KernelError::BadHandle)?.users += 1;
                Ok(table)
            }
            Some(table) if flags & COPY_DESCRIPTORS != 0 => self.copy_table(table),
            _ => self.new_table(),
        }
    }

    fn inherit_directories(
        &mut self,
        parent: Option<TaskId>,
        flags: u64,
    ) -> Result<DirectoriesId, KernelError> {
        let from = parent.and_then(|parent| self.tasks.get(parent)).and_then(|parent| parent.directories);
        let (sessions, umask) = match from {
            Some(id) if flags & SHARE_DIRECTORIES != 0 => {
                self.directories.get_mut(id).ok_or(KernelError::BadHandle)?.users += 1;
                return Ok(id);
            }
            Some(id) if flags & COPY_DIRECTORIES != 0 => self
                .directories
                .get(id)
                .map(|both| (both.sessions, both.umask))
                .ok_or(KernelError::BadHandle)?,
            _ => ([None; 2], 0o022),
        };
        let both = Directories { users: 1, sessions, umask };
        let id = self.directories.insert(both).map_err(|_| KernelError::Exhausted)?;
        for session in sessions.into_iter().flatten() {
            if let Some(session) = self.sessions.get_mut(session) {
                session.holders += 1;
            }
        }
        Ok(id)
    }

    fn drop_directories(&mut self, id: DirectoriesId) {
        let Some(both) = self.directories.get_mut(id) else { return };
        both.users -= 1;
        if both.users > 0 {
            return;
        }
        let sessions = both.sessions;
        self.directories.remove(id);
        for session in sessions.into_iter().flatten() {
            self.session_released(session);
        }
    }

    pub(crate) fn task_word(&mut self, task: TaskId, [handle, word, value, ..]: [u64; 6]) -> Outcome {
        let program = self.program_named(task, handle)?;
        let word = TaskWord::from_number(word).ok_or(KernelError::BadArgument)?;
        let value = u32::try_from(value).map_err(|_| KernelError::BadArgument)?;
        self.set_word(program, word, value);
        Ok([0; 5])
    }

    pub(crate) fn task_exec(&mut self, task: TaskId, [handle, space, ..]: [u64; 6]) -> Outcome {
        let program = self.program_named(task, handle)?;
        let Object::Space(space) = self.named(task, space, Rights::CONTROL)? else {
            return Err(KernelError::WrongKind);
        };
        self.spaces.get(space).ok_or(KernelError::BadHandle)?;
        let (old_space, table) =
            self.tasks.get(program).map(|task| (task.space, task.table)).ok_or(KernelError::BadHandle)?;
        let shared = self.tables.get(table).is_some_and(|table| table.users > 1);
        let own = if shared { self.copy_table(table)? } else { table };
        if shared {
            self.drop_table(table);
        }
        self.close_where(own, |slot| slot.close_on_exec);
        let Some(state) = self.spaces.get_mut(space) else { return Err(KernelError::BadHandle) };
        state.users += 1;
        let top = state.root;
        let peak_pages = self.spaces.get(old_space).map_or(0, |space| space.peak_pages);
        let mut next = None;
        if let Some(state) = self.tasks.get_mut(program) {
            (state.space, state.table) = (space, own);
            state.peak_pages = state.peak_pages.max(peak_pages);
            next = state.first_thread;
        }
        while let Some(thread) = next.and_then(|thread| self.threads.get_mut(thread)) {
            thread.top = top;
            next = thread.sibling.1;
        }
        self.leave_space(old_space);
        self.trace_life(Event::Exec, program, &[]);
        Ok([0; 5])
    }

    fn leave_space(&mut self, space: SpaceId) {
        if let Some(state) = self.spaces.get_mut(space) {
            state.users -= 1;
        }
        self.free_space_if_unused(space);
    }

    pub(crate) fn task_kill(&mut self, task: TaskId, [handle, ..]: [u64; 6]) -> Outcome {
        let program = self.program_named(task, handle)?;
        self.end_program(program);
        Ok([0; 5])
    }

    fn end_program(&mut self, program: TaskId) {
        while let Some(thread) = self.tasks.get(program).and_then(|task| task.first_thread) {
            self.end_thread(thread);
        }
        self.trace_life(Event::ProcessEnded, program, &[]);
        let Some(state) = self.tasks.remove(program) else { return };
        if let Some(maker) = state.maker {
            self.credit(maker, Owned::Tasks);
        }
        self.drop_table(state.table);
        if let Some(directories) = state.directories {
            self.drop_directories(directories);
        }
        self.leave_space(state.space);
    }

    pub(crate) fn thread_create(
        &mut self,
        task: TaskId,
        [into, handle, tid, source, stack, tls]: [u64; 6],
    ) -> Outcome {
        self.check_free(task, into)?;
        let program = self.program_named(task, handle)?;
        let copied = match source {
            none if none == u64::from(u32::MAX) => None,
            source => {
                let source = self.thread_named(task, source)?;
                Some((source, self.start_of_copy(source, stack, tls)?))
            }
        };
        let thread = self.new_thread(program, tid as u32, PROGRAM_PRIORITY)?;
        match copied {
            Some((source, registers)) => self.fill_copy(source, thread, registers),
            None => self.machine.copy_fpu(None, thread),
        }
        self.put(task, into, Object::Thread(thread), Rights::all())?;
        Ok([0; 5])
    }

    /// A thread that does not run yet.
    pub(crate) fn new_thread(
        &mut self,
        task: TaskId,
        tid: u32,
        priority: u8,
    ) -> Result<ThreadId, KernelError> {
        let registers = UserRegisters { rflags: FIXED_FLAGS, ..UserRegisters::default() };
        let owner = self.tasks.get(task).ok_or(KernelError::BadHandle)?;
        let top = self.spaces.get(owner.space).map(|space| space.root).ok_or(KernelError::BadHandle)?;
        let server = owner.server;
        let number = server.and_then(|server| self.servers.get(server)).map(|server| server.number);
        let who = number.map_or(Who::Program { pid: owner.pid(), tid }, Who::Server).to_word();
        let thread =
            Thread { registers, task, tid, priority, server, top, stopped: false, who, ..Thread::BLANK };
        self.charge_thread(task)?;
        let Ok(thread) = self.threads.insert(thread) else {
            self.credit_thread(task);
            return Err(KernelError::Exhausted);
        };
        let first = self.tasks.get_mut(task).and_then(|task| task.first_thread.replace(thread));
        if let Some(state) = self.threads.get_mut(thread) {
            state.sibling.1 = first;
        }
        if let Some(first) = first.and_then(|first| self.threads.get_mut(first)) {
            first.sibling.0 = Some(thread);
        }
        if server.is_none() {
            self.trace_life(Event::ThreadMade, task, &[u64::from(tid)]);
        }
        Ok(thread)
    }

    pub(crate) fn thread_registers(&mut self, task: TaskId, [handle, what, ..]: [u64; 6]) -> Outcome {
        let thread = self.thread_named(task, handle)?;
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let state = self.threads.get(thread).ok_or(KernelError::BadHandle)?;
        let (registers, restart) = (state.registers, state.restart);
        let bytes = self.machine.bytes(buffer, u64::from(PAYLOAD_OFFSET), REGISTER_BYTES);
        bytes.copy_from_slice(registers.as_bytes());
        if what == 1 {
            return Ok([REGISTER_BYTES, restart, 0, 0, 0]);
        }
        let mut image = [0; FPU_BYTES as usize];
        self.machine.read_fpu(thread, &mut image);
        self.machine
            .bytes(buffer, u64::from(PAYLOAD_OFFSET) + REGISTER_BYTES, FPU_BYTES)
            .copy_from_slice(&image);
        Ok([REGISTER_BYTES + FPU_BYTES, restart, 0, 0, 0])
    }

    pub(crate) fn thread_set_registers(&mut self, task: TaskId, [handle, what, ..]: [u64; 6]) -> Outcome {
        let thread = self.thread_named(task, handle)?;
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        if what & 1 != 0 {
            let bytes = self.machine.bytes(buffer, u64::from(PAYLOAD_OFFSET), REGISTER_BYTES);
            let mut registers = UserRegisters::read_from_bytes(bytes).map_err(|_| KernelError::WrongState)?;
            if registers.rip >= M::USER_END
                || registers.fs_base >= M::USER_END
                || registers.gs_base >= M::USER_END
            {
                return Err(KernelError::BadAddress);
            }
            registers.rflags = registers.rflags & USER_FLAGS | FIXED_FLAGS;
            let state = self.threads.get_mut(thread).ok_or(KernelError::BadHandle)?;
            state.registers = registers;
            state.entry = Entry::Interrupt;
            state.restart = 0;
        }
        if what & 2 != 0 {
            let mut image = [0; FPU_BYTES as usize];
            let at = u64::from(PAYLOAD_OFFSET) + REGISTER_BYTES;
            image.copy_from_slice(self.machine.bytes(buffer, at, FPU_BYTES));
            self.machine.write_fpu(thread, &image);
        }
        Ok([0; 5])
    }

    pub(crate) fn thread_start(&mut self, task: TaskId, [handle, ..]: [u64; 6]) -> Outcome {
        let thread = self.thread_named(task, handle)?;
        let state = self.threads.get_mut(thread).ok_or(KernelError::BadHandle)?;
        state.stopped = false;
        if state.state == ThreadState::Embryo {
            state.state = ThreadState::Runnable;
        }
        if state.state == ThreadState::Runnable {
            self.make_ready(thread);
        }
        Ok([0; 5])
    }

    pub(crate) fn thread_stop(&mut self, task: TaskId, [handle, ..]: [u64; 6]) -> Outcome {
        let thread = self.thread_named(task, handle)?;
        self.unqueue(thread);
        if let Some(state) = self.threads.get_mut(thread) {
            state.stopped = true;
        }
        Ok([0; 5])
    }

    pub(crate) fn thread_interrupt(&mut self, task: TaskId, [handle, when, ..]: [u64; 6]) -> Outcome {
        let thread = self.thread_named(task, handle)?;
        let when = When::from_number(when).ok_or(KernelError::BadArgument)?;
        let Some(state) = self.threads.get_mut(thread) else { return Err(KernelError::BadHandle) };
        match when {
            When::Now => self.call_in(thread),
            When::AfterCall => state.attention |= Attention::AFTER_CALL,
            When::EachCall => state.attention |= Attention::EACH_CALL,
            When::NoCall => state.attention -= Attention::EACH_CALL,
        }
        Ok([0; 5])
    }

    /// Makes a thread come before it next runs, out of a call if it waits in one.
    pub(crate) fn call_in(&mut self, thread: ThreadId) {
        if let Some(state) = self.threads.get_mut(thread) {
            state.attention |= Attention::NOW;
        }
        self.withdraw(thread);
    }

    /// Takes a thread out of the call it waits in: at once if no server has seen it, else by asking its server.
    pub(crate) fn withdraw(&mut self, thread: ThreadId) {
        let Some(ThreadState::Calling(id)) = self.threads.get(thread).map(|thread| thread.state) else {
            return;
        };
        let Some(call) = self.calls.get(id) else { return };
        if call.kind != CallKind::Foreign {
            return;
        }
        match call.phase {
            Phase::Queued if !call.rewritten => {
                let number = call.number;
                self.trace_call(Event::Cancelled, id);
                self.trace_result(id, -i64::from(errno::EINTR));
                self.end_call(id);
                if let Some(state) = self.threads.get_mut(thread) {
                    state.registers.rax = (-i64::from(errno::EINTR)) as u64;
                    state.restart = Restart::Always as u64 | u64::from(number) << 8;
                }
                self.release_thread(thread, id);
            }
            Phase::Queued | Phase::Held => self.signal_holder(id, signal::CANCEL),
            Phase::Faulting | Phase::Answered => {}
        }
    }

    pub(crate) fn thread_end(&mut self, task: TaskId, [handle, ..]: [u64; 6]) -> Outcome {
        let thread = self.thread_named(task, handle)?;
        self.end_thread(thread);
        Ok([0; 5])
    }

    /// Ends a thread. A call of its that a server holds lives on without it.
    pub(crate) fn end_thread(&mut self, thread: ThreadId) {
        self.unqueue(thread);
        let Some(state) = self.threads.remove(thread) else { return };
        self.credit_thread(state.task);
        if self.current == Some(thread) {
            self.current = None;
        }
        let (before, after) = state.sibling;
        if let Some(after) = after.and_then(|after| self.threads.get_mut(after)) {
            after.sibling.0 = before;
        }
        if let Some(before) = before.and_then(|before| self.threads.get_mut(before)) {
            before.sibling.1 = after;
        }
        if let Some(task) = self.tasks.get_mut(state.task) {
            if before.is_none() {
                task.first_thread = after;
            }
            task.cpu_ns += state.cpu_ns;
        }
        self.trace_life(Event::ThreadEnded, state.task, &[u64::from(state.tid), state.cpu_ns]);
        if let ThreadState::Calling(id) = state.state {
            self.leave_call(id);
        }
    }

    /// A call's thread does not wait for it any more. What a server holds lives on without it.
    pub(crate) fn leave_call(&mut self, id: CallRef) {
        self.trace_call(Event::Forgotten, id);
        let Some(call) = self.calls.get_mut(id) else { return };
        call.thread = None;
        match call.phase {
            Phase::Queued => self.end_call(id),
            Phase::Held => self.signal_holder(id, signal::CANCEL),
            Phase::Faulting => self.end_call(id),
            Phase::Answered => {}
        }
    }

    /// Sees to a thread that is not simply to run on. Whether it may.
    pub(crate) fn attend(&mut self, thread: ThreadId) -> bool {
        let Some(state) = self.threads.get_mut(thread) else { return false };
        let task = state.task;
        if state.attention.contains(Attention::MAKE_CALL) {
            state.attention -= Attention::MAKE_CALL;
            self.make_foreign_call(thread, task);
            if self.threads.get(thread).is_some_and(|state| state.attention.contains(Attention::NOW)) {
                self.withdraw(thread);
            }
            return false;
        }
        let occasion = if state.attention.contains(Attention::AFTER_CALL) {
            Occasion::Exit
        } else if state.attention.contains(Attention::NOW) {
            Occasion::Called
        } else if state.attention.contains(Attention::ENDS) && state.restart == 0 {
            // Its process server answers, but does not end it: it does not know it any more, nor will anybody else.
            self.end_program(task);
            return false;
        } else {
            state.attention -= Attention::ENDS;
            return self.begin_again(thread);
        };
        !self.call_for_attention(thread, occasion)
    }

    /// A thread comes to the process server. Whether it now waits there.
    pub(crate) fn call_for_attention(&mut self, thread: ThreadId, occasion: Occasion) -> bool {
        let Some(server) = self.roles[Role::Proc as usize] else { return false };
        let Some(state) = self.threads.get(thread) else { return false };
        let (task, restart) = (state.task, state.restart);
        let call = self.new_call(CallKind::Attention, task, server, |call| {
            call.thread = Some(thread);
            (call.words[0], call.words[1]) = (restart, occasion as u64);
        });
        let Ok(id) = call else { return false };
        if let Some(state) = self.threads.get_mut(thread) {
            // What comes at a call's entry has not yet seen to the rest.
            if occasion != Occasion::Entry {
                state.attention -= Attention::NOW | Attention::AFTER_CALL | Attention::ENDS;
            }
            state.restart = 0;
            state.state = ThreadState::Calling(id);
        }
        self.trace_attention(id);
        self.enqueue_call(id);
        true
    }

    /// The process server lets a thread run on, or make its call.
    pub(crate) fn finish_attention(&mut self, id: CallRef, label: u32) {
        let thread = self.calls.get(id).and_then(|call| call.thread);
        self.end_call(id);
        let Some(thread) = thread else { return };
        if label == MAKE_CALL
            && let Some(state) = self.threads.get_mut(thread)
        {
            state.attention |= Attention::MAKE_CALL;
            if state.attention.contains(Attention::EACH_CALL) {
                state.attention |= Attention::AFTER_CALL;
            }
        }
        self.release_thread(thread, id);
    }
}

fn default_words() -> [u32; TaskWord::COUNT as usize] {
    let mut words = [0; TaskWord::COUNT as usize];
    words[TaskWord::DescriptorLimit as usize] = 1024;
    words
}
