//! The native system calls of servers: looked up, carried out or answered from the journal, recorded.

use libipc::abi::syscall::{Syscall, THEN_RECEIVE};
use libipc::abi::{KernelError, UserRegisters};

use super::ipc::Caller;
use super::journal::Replayed;
use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

/// The version of this binary interface.
pub(crate) const ABI_VERSION: u64 = libipc::server::image::ABI_VERSION as u64;

/// Calls that a restarted server makes anew: their results say nothing of what happened, or are not a function of what
/// the server did before.
fn is_unrecorded(call: Syscall, arguments: &[u64; 6]) -> bool {
    match call {
        Syscall::Null | Syscall::SnapshotRead | Syscall::SnapshotWrite | Syscall::SnapshotCommit => true,
        // The last words of a server that has panicked.
        Syscall::Log => arguments[1] != 0,
        _ => false,
    }
}

/// The arguments as they are recorded: without addresses of the server's own memory, which differ between
/// incarnations.
fn recorded(call: Syscall, arguments: [u64; 6]) -> [u64; 6] {
    match (call, arguments) {
        (Syscall::LeaseWrite, [token, address, _, length, ..]) => [token, address, 0, length, 0, 0],
        _ => arguments,
    }
}

/// Bytes that a successful call leaves in the payload.
fn payload_left(call: Syscall, outcome: &Outcome) -> u32 {
    let Ok(values) = outcome else { return 0 };
    match call {
        Syscall::LeaseRead | Syscall::ArenaRead | Syscall::FrameRead | Syscall::ThreadRegisters => {
            values[0] as u32
        }
        Syscall::Sweep => 8 * values[1] as u32,
        _ => 0,
    }
}

/// Puts a call's outcome into a server's registers.
#[inline]
pub(crate) fn set_outcome(registers: &mut UserRegisters, outcome: &Outcome) {
    match outcome {
        Ok([value0, value1, value2, value3, value4]) => {
            registers.rax = 0;
            registers.rdi = *value0;
            registers.rsi = *value1;
            registers.rdx = *value2;
            registers.r10 = *value3;
            registers.r8 = *value4;
        }
        Err(error) => registers.rax = *error as u64,
    }
}

impl<M: Machine> Kernel<M> {
    #[inline(always)]
    pub(crate) fn native_call(&mut self, by: Caller) {
        let Some(state) = self.threads.get(by.thread) else { return };
        let number = state.registers.rax;
        let arguments = state.arguments();
        let then_receive = number & THEN_RECEIVE != 0;
        let Some(call) = Syscall::from_number(number & !THEN_RECEIVE) else {
            return self.set_outcome(by.thread, &Err(KernelError::BadCall));
        };
        let outcome = match call {
            Syscall::Receive => return self.receive_call(by),
            Syscall::Call => return self.call_and_wait(by, arguments),
            _ if self.is_journaled(by.server) && !is_unrecorded(call, &arguments) => {
                self.recorded_call(call, by, arguments)
            }
            _ => self.carry_out_and_tell(call, by, arguments),
        };
        self.set_outcome(by.thread, &outcome);
        if then_receive && outcome.is_ok() {
            self.receive_call(by);
        }
    }

    #[inline]
    fn is_journaled(&self, server: ServerId) -> bool {
        self.servers.get(server).is_some_and(|server| server.journal.is_some())
    }

    /// Whether a server's traps are answered from its journal.
    #[inline]
    pub(crate) fn is_replayed(&self, server: ServerId) -> bool {
        self.servers.get(server).is_some_and(Server::is_replayed)
    }

    /// The recorded result of a trap, or the live one, which is recorded then.
    fn recorded_call(&mut self, call: Syscall, by: Caller, arguments: [u64; 6]) -> Outcome {
        let noted = recorded(call, arguments);
        if self.is_replayed(by.server) {
            match self.replay(by.server, call, &noted) {
                Replayed::Answer(outcome) => return outcome,
                Replayed::Delivery => return Ok([0; 5]),
                Replayed::Diverged => {
                    self.server_diverged(by.task, call, &noted);
                    return Err(KernelError::WrongState);
                }
                Replayed::Live => {}
            }
        }
        let outcome = self.carry_out_and_tell(call, by, arguments);
        let outcome = self.excused(by.server, call, arguments, outcome);
        self.record(by.server, call, &noted, &outcome, payload_left(call, &outcome));
        outcome
    }

    fn receive_call(&mut self, by: Caller) {
        if self.is_replayed(by.server) {
            match self.replay(by.server, Syscall::Receive, &[0; 6]) {
                Replayed::Live => {}
                Replayed::Diverged => return self.server_diverged(by.task, Syscall::Receive, &[0; 6]),
                Replayed::Answer(_) | Replayed::Delivery => return self.set_outcome(by.thread, &Ok([0; 5])),
            }
        }
        self.receive(by);
    }

    fn call_and_wait(&mut self, by: Caller, arguments: [u64; 6]) {
        if self.is_replayed(by.server) {
            match self.replay(by.server, Syscall::Call, &arguments) {
                Replayed::Answer(outcome) => return self.set_outcome(by.thread, &outcome),
                Replayed::Diverged | Replayed::Delivery => {
                    return self.server_diverged(by.task, Syscall::Call, &arguments);
                }
                Replayed::Live => {}
            }
        }
        if let Err(error) = self.send(by, arguments, true) {
            self.trace_native(Syscall::Call, &arguments, &Err(error));
            self.complete_native(by.thread, Err(error), 0);
        }
    }

    /// A blocking call is over: its result goes into the journal, and into the registers.
    pub(crate) fn complete_native(&mut self, thread: ThreadId, outcome: Outcome, payload: u32) {
        let Some(state) = self.threads.get_mut(thread) else { return };
        state.state = ThreadState::Runnable;
        let (server, arguments) = (state.server, state.arguments());
        set_outcome(&mut state.registers, &outcome);
        if let Some(server) = server
            && self.is_journaled(server)
        {
            self.record(server, Syscall::Call, &arguments, &outcome, payload);
        }
    }

    fn set_outcome(&mut self, thread: ThreadId, outcome: &Outcome) {
        if let Some(state) = self.threads.get_mut(thread) {
            set_outcome(&mut state.registers, outcome);
        }
    }

    /// One call, live, and in the trace.
    #[inline]
    fn carry_out_and_tell(&mut self, call: Syscall, by: Caller, arguments: [u64; 6]) -> Outcome {
        let outcome = self.carry_out(call, by, arguments);
        self.trace_native(call, &arguments, &outcome);
        outcome
    }

    /// One call, live.
    fn carry_out(&mut self, call: Syscall, by: Caller, a: [u64; 6]) -> Outcome {
        let task = by.task;
        match call {
            Syscall::Null => Ok([ABI_VERSION, 0, 0, 0, 0]),
            Syscall::Call | Syscall::Receive => Err(KernelError::BadCall),
            Syscall::Send => self.send(by, a, false),
            Syscall::Reply => self.reply(by, a),
            Syscall::ReplyForeign => self.reply_foreign(by, a),
            Syscall::ReplyOpen => self.reply_open(by, a),
            Syscall::Forward => self.forward(task, a),
            Syscall::Notify => self.notify(task, a),
            Syscall::TimerSet => self.timer_set(task, a),
            Syscall::Close => self.close_handles(task, a),
            Syscall::Duplicate => self.duplicate_handle(task, a),
            Syscall::SessionCreate => self.session_create(task, a),
            Syscall::SessionReady => self.session_ready(task, a),
            Syscall::SessionStatus => self.session_status(task, a),
            Syscall::Watch => self.watch(task, a),
            Syscall::LeaseRead => self.lease_read(task, a),
            Syscall::LeaseProbe => self.lease_probe(task, a),
            Syscall::LeaseWrite => self.lease_write(task, a),
            Syscall::LeaseToArena => self.lease_arena(task, a, true),
            Syscall::LeaseFromArena => self.lease_arena(task, a, false),
            Syscall::ArenaZero => self.arena_zero(task, a),
            Syscall::ArenaCopy => self.arena_copy(task, a),
            Syscall::ArenaRead => self.arena_payload(task, a, true),
            Syscall::ArenaWrite => self.arena_payload(task, a, false),
            Syscall::SpaceCreate => self.space_create(task, a),
            Syscall::SpaceDestroy => self.space_destroy(task, a),
            Syscall::Map => self.map(task, a),
            Syscall::Unmap => self.unmap(task, a),
            Syscall::Protect => self.protect(task, a),
            Syscall::FrameZero => self.frame_zero(task, a),
            Syscall::FrameCopy => self.frame_copy(task, a),
            Syscall::FrameRead => self.frame_payload(task, a, true),
            Syscall::FrameWrite => self.frame_payload(task, a, false),
            Syscall::FrameFromLease => self.frame_from_lease(task, a),
            Syscall::Sweep => self.sweep(task),
            Syscall::Discard => self.discard(task, a),
            _ => self.carry_out_control(call, task, a),
        }
    }

    /// The calls that control tasks, threads, servers and devices.
    fn carry_out_control(&mut self, call: Syscall, task: TaskId, a: [u64; 6]) -> Outcome {
        match call {
            Syscall::TaskCreate => self.task_create(task, a),
            Syscall::TaskFork => self.task_fork(task, a),
            Syscall::TaskWord => self.task_word(task, a),
            Syscall::TaskExec => self.task_exec(task, a),
            Syscall::TaskKill => self.task_kill(task, a),
            Syscall::TaskInfo => self.task_info(task, a),
            Syscall::ThreadCreate => self.thread_create(task, a),
            Syscall::ThreadRegisters => self.thread_registers(task, a),
            Syscall::ThreadSetRegisters => self.thread_set_registers(task, a),
            Syscall::ThreadStart => self.thread_start(task, a),
            Syscall::ThreadStop => self.thread_stop(task, a),
            Syscall::ThreadInterrupt => self.thread_interrupt(task, a),
            Syscall::ThreadEnd => self.thread_end(task, a),
            Syscall::PortIn => self.port_in(task, a),
            Syscall::PortOut => self.port_out(task, a),
            Syscall::IrqBind => self.irq_bind(task, a),
            Syscall::IrqAck => self.irq_ack(task, a),
            Syscall::Log => self.log(task, a),
            Syscall::PowerOff => self.power_off(task, a),
            Syscall::SnapshotWrite => self.snapshot_write(task, a),
            Syscall::SnapshotCommit => self.snapshot_commit(task, a),
            Syscall::SnapshotRead => self.snapshot_read(task, a),
            Syscall::Crash => self.crash(task, a),
            Syscall::Clock => Ok([self.machine.now(), self.epoch_s, 0, 0, 0]),
            Syscall::ServerCreate => self.server_create(task, a),
            Syscall::ServerMemory => self.server_memory(task, a),
            Syscall::ServerSegment => self.server_segment(task, a),
            Syscall::ServerGrant => self.server_grant(task, a),
            Syscall::ServerDevice => self.server_device(task, a),
            Syscall::ServerStart => self.server_start(task, a),
            Syscall::ServerRestart => self.server_restart(task, a),
            Syscall::Personality => self.personality(task, a),
            Syscall::Statistics => self.statistics(a),
            Syscall::ServerAbandon => self.server_abandon(task, a),
            Syscall::ServerDispose => self.server_dispose(task, a),
            Syscall::ServerQuota => self.server_quota(task, a),
            Syscall::Upgrade => self.upgrade(task, a),
            Syscall::UpgradeImage => self.upgrade_image(task, a),
            Syscall::UpgradeStep => self.upgrade_step(task, a),
            Syscall::JournalSum => self.journal_sum(task, a),
            Syscall::LeaseFromJournal => self.lease_from_journal(task, a),
            Syscall::DigestAsk => self.digest_ask(task, a),
            Syscall::Digest => self.digest(task, a),
            Syscall::DescriptorSet => self.descriptor_set(task, a),
            Syscall::WatchKeep => self.watch_keep(task, a),
            Syscall::WatchChange => self.watch_change(task, a),
            Syscall::WatchEnd => self.watch_end(task, a),
            Syscall::SessionMove => self.session_move(task, a),
            Syscall::DescriptorInfo => self.descriptor_info(task, a),
            Syscall::DescriptorTake => self.descriptor_take(task, a),
            Syscall::DescriptorGive => self.descriptor_give(task, a),
            Syscall::TraceSet => self.trace_set(task, a),
            Syscall::LeaseFromTrace => self.lease_from_trace(task, a),
            _ => Err(KernelError::BadCall),
        }
    }
}
