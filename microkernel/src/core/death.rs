//! Deaths of servers, and how the next incarnation starts.
//!
//! The task, its handles and its calls outlive the incarnation; only memory and registers begin anew. A journaled
//! server is then answered from its journal until it stands where it was. The others get their calls delivered again.
//! A server that is given up is nobody's: the calls it has, and those still to come, fail at once.

use libipc::abi::crash::{Disposition, Fault};
use libipc::abi::syscall::NO_ANSWER;
use libipc::abi::trace::Event;
use libipc::abi::{KernelError, Rights, UserRegisters};
use libipc::linux::errno;
use libipc::linux::signal::{SIGABRT, SIGFPE, SIGILL, SIGSEGV, SIGXCPU};

use super::machine::Machine;
use super::object::*;
use super::server::Line;
use super::{Kernel, Outcome};

/// Deaths are counted by where they came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Death {
    /// Somebody asked for it.
    Outside = 0,
    /// It did so itself.
    Itself = 1,
}

impl<M: Machine> Kernel<M> {
    pub(crate) fn begin_incarnation(&mut self, id: ServerId) {
        let Some(server) = self.servers.get_mut(id) else { return };
        server.incarnation += 1;
        server.began_at = server.received;
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
        let incarnation = self.servers.get(id).map_or(0, |server| server.incarnation);
        self.trace_server(Event::ServerStarted, id, &[u64::from(incarnation)]);
    }

    /// A server that had died asks for its first event.
    pub(crate) fn is_back(&mut self, id: ServerId) {
        let now = self.machine.now();
        let Some(server) = self.servers.get_mut(id) else { return };
        let died_ns = server.died_ns.take();
        server.restart_ns = now.saturating_sub(died_ns.unwrap_or(now));
        self.set_bus_masters(id, true);
    }

    /// A server has done what a server must not do.
    pub(crate) fn server_fault(&mut self, task: TaskId, fault: Fault, detail: u64) {
        let Some(id) = self.tasks.get(task).and_then(|task| task.server) else { return };
        let Some(server) = self.servers.get(id).filter(|server| server.state == ServerState::Alive) else {
            return;
        };
        let registers =
            server.thread.and_then(|thread| self.threads.get(thread)).map(|thread| thread.registers);
        let registers = registers.unwrap_or_default();
        let mut line = Line::new();
        let _ = core::fmt::write(
            &mut line,
            format_args!(
                "server {} (incarnation {}) died of {fault} {detail:#x} at {:#x}, stack {:#x}",
                server.number, server.incarnation, registers.rip, registers.rsp
            ),
        );
        if let serial @ 1.. = self.keep_core(id, signal_of(fault, detail)) {
            let _ = core::fmt::write(&mut line, format_args!(", core {serial}"));
        }
        let _ = core::fmt::Write::write_str(&mut line, "\n");
        self.machine.log(line.bytes());
        self.log_last_records();
        // A fault that was put into its way is none of its own.
        if self.servers.get_mut(id).is_some_and(|server| server.struck.take().is_some()) {
            return self.die(id, Death::Outside);
        }
        if let Some(server) = self.servers.get_mut(id) {
            server.fell = Some(Fell { fault, detail, at: registers.rip });
            let (event, times) = server.falls;
            server.falls = (server.received, if event == server.received { times + 1 } else { 1 });
        }
        self.upgrade_died(id);
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
        (server.waiting, server.struck) = (false, None);
        server.deaths[death as usize] += 1;
        if death == Death::Outside {
            server.fell = None;
        }
        let (task, thread, number) = (server.task, server.thread, server.number);
        self.set_bus_masters(id, false);
        let Some(server) = self.servers.get(id) else { return };
        let fell = server.fell.map_or([0; 3], |fell| [fell.fault as u64, fell.detail, fell.at]);
        let [fault, detail, at] = if death == Death::Itself { fell } else { [0; 3] };
        let incarnation = u64::from(server.incarnation);
        self.trace_server(Event::ServerDied, id, &[fault, detail, at, incarnation]);
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
            self.restart_root(id);
        } else if let Some(root) = self.root.and_then(|root| self.server_of(root)) {
            self.post_bits(root, 1 << number);
        }
    }

    /// A dead server that root names.
    pub(crate) fn dead_server(&self, task: TaskId, handle: u64) -> Result<ServerId, KernelError> {
        self.is_root(task)?;
        let id = self.server_named(task, handle, Rights::CONTROL)?;
        match self.servers.get(id).map(|server| server.state) {
            Some(ServerState::Dead) => Ok(id),
            _ => Err(KernelError::WrongState),
        }
    }

    pub(crate) fn server_restart(&mut self, task: TaskId, [handle, entry, ..]: [u64; 6]) -> Outcome {
        self.is_root(task)?;
        let id = self.server_named(task, handle, Rights::CONTROL)?;
        let server = self.servers.get_mut(id).ok_or(KernelError::BadHandle)?;
        if !matches!(server.state, ServerState::Dead | ServerState::Gone) {
            return Err(KernelError::WrongState);
        }
        if entry >= M::USER_END {
            return Err(KernelError::BadAddress);
        }
        if entry != 0 {
            server.entry = entry;
        }
        self.restart(id);
        Ok([0; 5])
    }

    pub(crate) fn server_abandon(&mut self, task: TaskId, [handle, ..]: [u64; 6]) -> Outcome {
        let id = self.dead_server(task, handle)?;
        self.keep_reproducer(id, 0, Disposition::GivenUp);
        if let Some(server) = self.servers.get_mut(id) {
            server.state = ServerState::Gone;
        }
        self.trace_server(Event::ServerGone, id, &[]);
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
        if call.kind != CallKind::Foreign {
            self.trace_result(id, -i64::from(errno::EIO));
        }
        let Some(call) = self.calls.get(id) else { return };
        match call.kind {
            CallKind::Foreign => self.finish_foreign(id, -i64::from(errno::EIO)),
            CallKind::Fault => self.fault_answered(id, false),
            CallKind::Attention => self.finish_attention(id, 0),
            CallKind::Native => {
                self.end_call(id);
                if let Some(thread) = thread {
                    self.complete_native(thread, Err(KernelError::PeerDead), 0);
                    self.make_ready(thread);
                }
            }
            CallKind::Sent if call.tag == NO_ANSWER.0 => self.end_call(id),
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
    pub(crate) fn restart(&mut self, id: ServerId) {
        let Some(server) = self.servers.get(id) else { return };
        let (task, segments, journaled) = (server.task, server.segments, server.journal.is_some());
        let Some(space) = self.tasks.get(task).map(|task| task.space) else { return };
        for segment in segments {
            self.refill(space, segment);
        }
        if journaled {
            self.check_snapshot(id);
        } else {
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
            self.trace_call(Event::Redelivered, call);
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
}

/// The signal that a program would get for the same: what a debugger says of the core.
fn signal_of(fault: Fault, detail: u64) -> u8 {
    const DIVIDE: u64 = 0;
    const INVALID_OPCODE: u64 = 6;
    match (fault, detail) {
        (Fault::Exception, DIVIDE) => SIGFPE,
        (Fault::Exception, INVALID_OPCODE) => SIGILL,
        (Fault::Exception | Fault::Page, _) => SIGSEGV,
        (Fault::Watchdog, _) => SIGXCPU,
        (Fault::Diverged | Fault::JournalFull, _) => SIGABRT,
    }
}
