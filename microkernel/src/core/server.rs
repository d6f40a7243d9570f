//! Servers: how root makes them, what happens when one fails, and how the next incarnation starts.
//!
//! The task, its handles and its calls outlive the incarnation; only memory and registers begin anew. A journaled
//! server is then answered from its journal until it stands where it was. The others get their calls delivered again.

use libipc::abi::{Frame, KernelError, PAGE_SIZE, Rights, UserRegisters};
use libipc::linux::errno;
use libipc::server::DIGEST_BIT;

use super::arena::List;
use super::journal::Journal;
use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

/// Most servers: one notification bit of root's for each death.
const SERVERS_MAX: u64 = 48;
const HIGHEST_PRIORITY: u64 = 31;

/// Deaths are counted by where they came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Death {
    /// Somebody asked for it.
    Outside = 0,
    /// It did so itself.
    Itself = 1,
}

impl<M: Machine> Kernel<M> {
    fn is_root(&self, task: TaskId) -> Result<(), KernelError> {
        if self.root == Some(task) { Ok(()) } else { Err(KernelError::NoRight) }
    }

    pub(crate) fn server_named(
        &self,
        task: TaskId,
        handle: u64,
        rights: Rights,
    ) -> Result<ServerId, KernelError> {
        let Object::Task(id) = self.named(task, handle, rights)? else { return Err(KernelError::WrongKind) };
        self.tasks.get(id).and_then(|task| task.server).ok_or(KernelError::WrongKind)
    }

    /// A server that root makes and has not started yet.
    fn embryo(&mut self, task: TaskId, handle: u64) -> Result<&mut Server, KernelError> {
        self.is_root(task)?;
        let id = self.server_named(task, handle, Rights::CONTROL)?;
        self.servers.get_mut(id).ok_or(KernelError::BadHandle)
    }

    pub(crate) fn server_create(
        &mut self,
        task: TaskId,
        [into, space, number, class, ..]: [u64; 6],
    ) -> Outcome {
        self.is_root(task)?;
        self.check_free(task, into)?;
        let Object::Space(space) = self.named(task, space, Rights::CONTROL)? else {
            return Err(KernelError::WrongKind);
        };
        if number >= SERVERS_MAX {
            return Err(KernelError::BadArgument);
        }
        let id = self.new_server(space, number as u32, class == 1)?;
        self.put(task, into, Object::Task(id), Rights::all())?;
        Ok([0; 5])
    }

    /// A native task with an inbox.
    pub(crate) fn new_server(
        &mut self,
        space: SpaceId,
        number: u32,
        journaled: bool,
    ) -> Result<TaskId, KernelError> {
        let table = self.tables.insert(Table::new()).map_err(|_| KernelError::Exhausted)?;
        let task = Task {
            personality: Personality::Native,
            space,
            table,
            directories: None,
            words: [0; libipc::abi::TaskWord::COUNT as usize],
            first_thread: None,
            cpu_ns: 0,
            peak_pages: 0,
            server: None,
        };
        let task = self.tasks.insert(task).map_err(|_| KernelError::Exhausted)?;
        let server = Server {
            task,
            number,
            thread: None,
            state: ServerState::Embryo,
            incarnation: 0,
            deaths: [0; 2],
            buffer: FrameRange::default(),
            arena: FrameRange::default(),
            journal: journaled.then(Journal::default),
            segments: [Segment::default(); SEGMENTS as usize],
            entry: 0,
            stack: 0,
            calls: List::EMPTY,
            events: List::EMPTY,
            closes: List::EMPTY,
            watched: List::EMPTY,
            bits: 0,
            deadline: u64::MAX,
            ports: [(0, 0); 4],
            irqs: 0,
            first_free: 0,
            doom: None,
            struck: false,
            died_ns: None,
            restart_ns: 0,
            received: 0,
            waiting: false,
            digest: None,
        };
        let server = self.servers.insert(server).map_err(|_| KernelError::Exhausted)?;
        if let Some(state) = self.tasks.get_mut(task) {
            state.server = Some(server);
        }
        if let Some(space) = self.spaces.get_mut(space) {
            space.users += 1;
        }
        Ok(task)
    }

    pub(crate) fn server_memory(
        &mut self,
        task: TaskId,
        [handle, what, first, count, ..]: [u64; 6],
    ) -> Outcome {
        self.embryo(task, handle)?;
        let (Ok(first), Ok(count)) = (u32::try_from(first), u32::try_from(count)) else {
            return Err(KernelError::BadArgument);
        };
        let range = FrameRange { first: Frame(first), count };
        let owner = match what {
            0 => {
                (first..first.saturating_add(count))
                    .try_for_each(|frame| self.frames.owned(Frame(frame), task).map(|_| ()))?;
                None
            }
            1..=3 => {
                self.frames.all_idle(range, task)?;
                Some(super::frames::NOBODY)
            }
            4 => {
                self.frames.all_idle(range, task)?;
                let Object::Task(server) = self.named(task, handle, Rights::CONTROL)? else {
                    return Err(KernelError::WrongKind);
                };
                Some(server.index() as u16)
            }
            _ => return Err(KernelError::BadArgument),
        };
        let server = self.embryo(task, handle)?;
        match (what, &mut server.journal) {
            (0, _) => server.buffer = range,
            (1, _) => server.arena = range,
            (2, Some(journal)) => journal.memory = range,
            (3, Some(journal)) => journal.snapshots = range,
            (2 | 3, None) => return Err(KernelError::BadArgument),
            _ => {}
        }
        if let Some(owner) = owner {
            self.frames.give(range, owner);
        }
        if what == 1 {
            self.machine.bytes(range, 0, range.bytes()).fill(0);
        }
        Ok([0; 5])
    }

    pub(crate) fn server_segment(&mut self, task: TaskId, arguments: [u64; 6]) -> Outcome {
        let [handle, address, pages, source, bytes, _] = arguments;
        let (Ok(pages), Ok(source), Ok(bytes)) =
            (u32::try_from(pages), u32::try_from(source), u32::try_from(bytes))
        else {
            return Err(KernelError::BadArgument);
        };
        if !address.is_multiple_of(PAGE_SIZE) || u64::from(bytes) > u64::from(pages) * PAGE_SIZE {
            return Err(KernelError::BadArgument);
        }
        let pristine = FrameRange { first: Frame(source), count: bytes.div_ceil(PAGE_SIZE as u32) };
        for frame in pristine.first.0..pristine.first.0.saturating_add(pristine.count) {
            self.frames.owned(Frame(frame), task)?;
        }
        let server = self.embryo(task, handle)?;
        let free =
            server.segments.iter_mut().find(|segment| segment.pages == 0).ok_or(KernelError::Exhausted)?;
        *free = Segment { address, pages, pristine, bytes };
        Ok([0; 5])
    }

    pub(crate) fn server_grant(
        &mut self,
        task: TaskId,
        [handle, into, given, rights, ..]: [u64; 6],
    ) -> Outcome {
        self.embryo(task, handle)?;
        let rights = u8::try_from(rights).ok().and_then(Rights::from_bits).ok_or(KernelError::BadArgument)?;
        let Object::Task(server) = self.named(task, handle, Rights::CONTROL)? else {
            return Err(KernelError::WrongKind);
        };
        // Root's handle of a server's task is what its inbox is called through.
        let object = match self.named(task, given, rights)? {
            Object::Task(callee) if rights.contains(Rights::CALL) => {
                Object::Inbox(self.server_of(callee).ok_or(KernelError::WrongKind)?)
            }
            object => object,
        };
        self.put(server, into, object, rights)?;
        if let Some(state) = self.server_mut(server) {
            state.first_free = state.first_free.max(into as u32 + 1);
        }
        Ok([0; 5])
    }

    pub(crate) fn server_device(
        &mut self,
        task: TaskId,
        [handle, what, first, count, ..]: [u64; 6],
    ) -> Outcome {
        let server = self.embryo(task, handle)?;
        match what {
            0 => {
                let (Ok(first), Ok(count)) = (u16::try_from(first), u16::try_from(count)) else {
                    return Err(KernelError::BadArgument);
                };
                let free =
                    server.ports.iter_mut().find(|(_, count)| *count == 0).ok_or(KernelError::Exhausted)?;
                *free = (first, count);
            }
            1 if first < 32 => server.irqs |= 1 << first,
            _ => return Err(KernelError::BadArgument),
        }
        Ok([0; 5])
    }

    pub(crate) fn server_start(
        &mut self,
        task: TaskId,
        [handle, entry, stack, priority, ..]: [u64; 6],
    ) -> Outcome {
        self.is_root(task)?;
        let id = self.server_named(task, handle, Rights::CONTROL)?;
        if entry >= M::USER_END || stack >= M::USER_END {
            return Err(KernelError::BadAddress);
        }
        if priority > HIGHEST_PRIORITY {
            return Err(KernelError::BadArgument);
        }
        self.first_start(id, entry, stack, priority as u8)?;
        Ok([0; 5])
    }

    /// Starts a server's first incarnation.
    pub(crate) fn first_start(
        &mut self,
        id: ServerId,
        entry: u64,
        stack: u64,
        priority: u8,
    ) -> Result<(), KernelError> {
        let task = self.servers.get(id).map(|server| server.task).ok_or(KernelError::BadHandle)?;
        let thread = self.new_thread(task, 0, priority)?;
        if let Some(server) = self.servers.get_mut(id) {
            (server.entry, server.stack, server.thread) = (entry, stack, Some(thread));
        }
        self.begin_incarnation(id);
        Ok(())
    }

    fn begin_incarnation(&mut self, id: ServerId) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.incarnation += 1;
        server.state = ServerState::Alive;
        let Some(thread) = server.thread else { return };
        let registers = UserRegisters {
            rip: server.entry,
            rsp: server.stack,
            rflags: 0x202,
            rdi: u64::from(server.incarnation),
            ..UserRegisters::default()
        };
        if let Some(journal) = &mut server.journal
            && server.incarnation > 1
        {
            journal.cursor = Some(0);
            journal.writing_bytes = 0;
        }
        if let Some(state) = self.threads.get_mut(thread) {
            state.registers = registers;
            state.entry = Entry::Interrupt;
            state.state = ThreadState::Runnable;
            self.make_ready(thread);
        }
    }

    /// A server has done what a server must not do.
    pub(crate) fn server_fault(&mut self, task: TaskId, what: &str, detail: u64) {
        let Some(id) = self.tasks.get(task).and_then(|task| task.server) else { return };
        let Some(server) = self.servers.get(id) else { return };
        let registers =
            server.thread.and_then(|thread| self.threads.get(thread)).map(|thread| thread.registers);
        let registers = registers.unwrap_or_default();
        let mut line = Line::new();
        let _ = core::fmt::write(
            &mut line,
            format_args!(
                "server {} (incarnation {}) died of {what} {detail:#x} at {:#x}, stack {:#x}\n",
                server.number, server.incarnation, registers.rip, registers.rsp
            ),
        );
        self.machine.log(line.bytes());
        self.die(id, Death::Itself);
    }

    /// Ends an incarnation. Root is told; root itself starts again at once.
    pub(crate) fn die(&mut self, id: ServerId, death: Death) {
        let now = self.machine.now();
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.state != ServerState::Alive {
            return;
        }
        server.state = ServerState::Dead;
        // A death on the way back from another is part of that one.
        server.died_ns.get_or_insert(now);
        server.restart_ns = 0;
        // A fault that was put into its way is none of its own.
        let death = if core::mem::take(&mut server.struck) { Death::Outside } else { death };
        server.waiting = false;
        server.deaths[death as usize] += 1;
        let (task, thread, number) = (server.task, server.thread, server.number);
        if let Some(thread) = thread {
            self.unqueue(thread);
            let state = self
                .threads
                .get_mut(thread)
                .map(|thread| core::mem::replace(&mut thread.state, ThreadState::Embryo));
            // A question it was waiting for is asked again by the next incarnation.
            if let Some(ThreadState::Calling(call)) = state {
                if let Some(call) = self.calls.get_mut(call) {
                    call.thread = None;
                }
                if self.calls.get(call).is_some_and(|call| call.phase == Phase::Queued) {
                    self.end_call(call);
                }
            }
        }
        if self.root == Some(task) {
            self.restart(id);
        } else if let Some(root) = self.root.and_then(|root| self.server_of(root)) {
            self.post_bits(root, 1 << number);
        }
    }

    pub(crate) fn server_restart(&mut self, task: TaskId, [handle, ..]: [u64; 6]) -> Outcome {
        self.is_root(task)?;
        let id = self.server_named(task, handle, Rights::CONTROL)?;
        if self.servers.get(id).map(|server| server.state) != Some(ServerState::Dead) {
            return Err(KernelError::WrongState);
        }
        self.restart(id);
        Ok([0; 5])
    }

    pub(crate) fn server_abandon(&mut self, task: TaskId, [handle, ..]: [u64; 6]) -> Outcome {
        self.is_root(task)?;
        let id = self.server_named(task, handle, Rights::CONTROL)?;
        let server = self.servers.get_mut(id).ok_or(KernelError::BadHandle)?;
        if server.state != ServerState::Dead {
            return Err(KernelError::WrongState);
        }
        server.state = ServerState::Gone;
        self.set_doom(id, None);
        for index in 0..self.calls.bound() {
            let Some(call) = self.calls.at(index) else { continue };
            let waits = |call: &Call| call.server == id && matches!(call.phase, Phase::Queued | Phase::Held);
            if self.calls.get(call).is_some_and(waits) {
                self.fail_call(call);
            }
        }
        Ok([0; 5])
    }

    /// Ends a call that nobody will answer.
    pub(crate) fn fail_call(&mut self, id: CallRef) {
        let Some(call) = self.calls.get(id) else { return };
        let thread = call.thread;
        match call.kind {
            CallKind::Foreign => self.finish_foreign(id, -i64::from(errno::EIO)),
            CallKind::Fault => self.fault_answered(id, false),
            CallKind::Attention => self.finish_attention(id),
            CallKind::Native => {
                self.end_call(id);
                if let Some(thread) = thread {
                    self.complete_native(thread, Err(KernelError::PeerDead), 0);
                    self.make_ready(thread);
                }
            }
            CallKind::Sent => {
                self.unlink(id);
                let Some(call) = self.calls.get_mut(id) else { return };
                let (handles, count) = (call.handles, core::mem::take(&mut call.handle_count));
                handles.into_iter().take(usize::from(count)).for_each(|object| self.let_go(object));
                let Some(call) = self.calls.get_mut(id) else { return };
                call.phase = Phase::Answered;
                call.label = u32::MAX;
                call.payload_len = 0;
                call.signals = 0;
                let sender = call.task;
                if let Some(sender) = self.server_of(sender) {
                    self.post_event(sender, id);
                }
            }
        }
    }

    /// Fills a dead server's memory as it was at first, sees to its calls, and starts it.
    fn restart(&mut self, id: ServerId) {
        let Some(server) = self.servers.get(id) else { return };
        let (task, segments, journaled) = (server.task, server.segments, server.journal.is_some());
        let Some(space) = self.tasks.get(task).map(|task| task.space) else { return };
        for segment in segments {
            self.refill(space, segment);
        }
        if !journaled {
            self.forget_own(task);
            self.deliver_again(id);
        }
        self.begin_incarnation(id);
    }

    /// A reissued server starts with nothing of its own: its handles and the calls it had sent go.
    fn forget_own(&mut self, task: TaskId) {
        let Some(first) = self.server(task).map(|server| server.first_free) else { return };
        let Some(table) = self.tasks.get(task).map(|task| task.table) else { return };
        let bound = self.tables.get(table).map_or(0, |table| table.bound);
        for slot in first..bound {
            self.empty(table, slot);
        }
        for index in 0..self.calls.bound() {
            let Some(id) = self.calls.at(index) else { continue };
            if self.calls.get(id).is_some_and(|call| call.task == task && call.kind == CallKind::Sent) {
                self.end_call(id);
            }
        }
    }

    /// The calls a dead server held come again, in the order in which they came first, before any new one.
    fn deliver_again(&mut self, id: ServerId) {
        let mut before = u64::MAX;
        while let Some((sequence, call)) = self.latest_held(id, before) {
            before = sequence;
            self.unlink(call);
            self.end_watches(call);
            if let Some(state) = self.calls.get_mut(call) {
                state.phase = Phase::Queued;
                state.signals &= signal::CANCEL;
            }
            if let Some(server) = self.servers.get_mut(id) {
                server.calls.push_front(&mut self.calls, call);
            }
        }
    }

    fn latest_held(&self, server: ServerId, before: u64) -> Option<(u64, CallRef)> {
        let held = (0..self.calls.bound()).filter_map(|index| {
            let id = self.calls.at(index)?;
            let call = self.calls.get(id)?;
            (call.server == server && call.phase == Phase::Held && call.sequence < before)
                .then_some((call.sequence, id))
        });
        held.max_by_key(|(sequence, _)| *sequence)
    }

    pub(crate) fn personality(&mut self, task: TaskId, [index, handle, ..]: [u64; 6]) -> Outcome {
        self.is_root(task)?;
        let Object::Task(server) = self.named(task, handle, Rights::CONTROL)? else {
            return Err(KernelError::WrongKind);
        };
        let server = self.server_of(server).ok_or(KernelError::WrongKind)?;
        *self.roles.get_mut(index as usize).ok_or(KernelError::BadArgument)? = Some(server);
        Ok([0; 5])
    }

    fn may_use_port(&self, task: TaskId, port: u64, width: u64) -> Result<(u16, u8), KernelError> {
        if !matches!(width, 1 | 2 | 4) {
            return Err(KernelError::BadArgument);
        }
        let server = self.server(task).ok_or(KernelError::NoRight)?;
        let allowed = server.ports.iter().any(|(first, count)| {
            port >= u64::from(*first) && port + width <= u64::from(*first) + u64::from(*count)
        });
        if allowed { Ok((port as u16, width as u8)) } else { Err(KernelError::NoRight) }
    }

    pub(crate) fn port_in(&mut self, task: TaskId, [port, width, ..]: [u64; 6]) -> Outcome {
        let (port, width) = self.may_use_port(task, port, width)?;
        Ok([u64::from(self.machine.port_in(port, width)), 0, 0, 0, 0])
    }

    pub(crate) fn port_out(&mut self, task: TaskId, [port, width, value, ..]: [u64; 6]) -> Outcome {
        let (port, width) = self.may_use_port(task, port, width)?;
        self.machine.port_out(port, width, value as u32);
        Ok([0; 5])
    }

    fn may_use_irq(&self, task: TaskId, irq: u64) -> Result<u8, KernelError> {
        let server = self.server(task).ok_or(KernelError::NoRight)?;
        match irq {
            0..32 if server.irqs & 1 << irq != 0 => Ok(irq as u8),
            _ => Err(KernelError::NoRight),
        }
    }

    pub(crate) fn irq_bind(&mut self, task: TaskId, [irq, bit, ..]: [u64; 6]) -> Outcome {
        let line = self.may_use_irq(task, irq)?;
        if bit >= DIGEST_BIT.trailing_zeros().into() {
            return Err(KernelError::BadArgument);
        }
        let server = self.server_of(task).ok_or(KernelError::NoRight)?;
        self.interrupts[usize::from(line)] = Some((server, bit as u8));
        self.machine.enable_interrupt(line, true);
        Ok([0; 5])
    }

    pub(crate) fn irq_ack(&mut self, task: TaskId, [irq, ..]: [u64; 6]) -> Outcome {
        let line = self.may_use_irq(task, irq)?;
        self.machine.enable_interrupt(line, true);
        Ok([0; 5])
    }

    pub(crate) fn log(&mut self, task: TaskId, [length, ..]: [u64; 6]) -> Outcome {
        if length > u64::from(libipc::abi::PAYLOAD_MAX) {
            return Err(KernelError::TooBig);
        }
        let buffer = self.payload_of(task).ok_or(KernelError::WrongState)?;
        let mut line = Line::new();
        for byte in Self::payload(&mut self.machine, buffer, length).iter() {
            line.push(*byte);
        }
        self.machine.log(line.bytes());
        Ok([0; 5])
    }

    pub(crate) fn power_off(&mut self, task: TaskId, [status, how, ..]: [u64; 6]) -> Outcome {
        let own = self.server_of(task);
        let trusted = own.is_some() && self.roles.contains(&own) || self.root == Some(task);
        if !trusted {
            return Err(KernelError::NoRight);
        }
        self.off = Some((status as u32, how == 1));
        Ok([0; 5])
    }
}

/// A line of text being put together without memory of its own.
pub(crate) struct Line {
    text: [u8; 512],
    length: usize,
}

impl Line {
    pub(crate) fn new() -> Line {
        Line { text: [0; 512], length: 0 }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }
}

impl core::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}
