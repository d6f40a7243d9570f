//! A thread comes in: an attention call before it runs on, or a fault it cannot get past by itself. Here it takes its
//! signals, one handler per visit; when there is more to take it is called in again at once.
//!
//! All memory of the program is read before anything changes, so that a missing page costs nothing but time.

use alloc::boxed::Box;
use alloc::vec::Vec;

use libipc::abi::delivery::Occasion;
use libipc::abi::syscall::Restart;
use libipc::abi::{CallId, PAGE_SIZE, UserRegisters};
use libipc::linux::errno::EINTR;
use libipc::linux::signal::{SIGKILL, SIGSEGV, SIGSTOP};
use libipc::server::Call;
use libipc::server::effect::Operation;

use super::action::{Action, Disposition, SA_NODEFER, SA_RESETHAND, SA_RESTART};
use super::frame::{self, Frame};
use super::{AlternateStack, SS_AUTODISARM, SigInfo, SignalSet};
use crate::Proc;
use crate::exit::Via;
use crate::id::{Pid, Tid};
use crate::process::Life;
use crate::status::Status;
use crate::thread::On;
use crate::trace::Trace;
use crate::turn::{Refusal, Turn};

/// The number of `restart_syscall`.
const RESTART_SYSCALL: u64 = 219;

/// A thread that has come in, and the call that it made by doing so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The attention or fault call.
    pub call: CallId,
    /// The thread.
    pub tid: Tid,
    /// Its process.
    pub pid: Pid,
    /// How the call goes on that it was taken out of: a restart kind, and from bit 8 the call's number.
    pub restart: u64,
}

/// Which set a signal is taken from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Thread,
    Process,
    /// Its tracer passed it on.
    Tracer,
}

/// What a thread does next about its signals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Nothing,
    Handle(Source, u8, Action),
    Stop(Source, u8),
    /// The thread's tracer is asked first.
    Ask(Source, u8),
    Die(u8, bool),
}

impl Proc {
    /// An attention call.
    pub(crate) fn attention(
        &mut self,
        call: &Call,
        restart: u64,
        occasion: Occasion,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        let Some(entry) = self.entry(call, restart) else {
            turn.go_on(call.id);
            return Ok(());
        };
        self.note_leaving(entry.tid, occasion);
        if occasion == Occasion::Exit && self.unmask(&entry, turn) {
            return Ok(());
        }
        self.come_in(entry, occasion, turn)
    }

    fn entry(&self, call: &Call, restart: u64) -> Option<Entry> {
        let tid = Tid(call.caller.tid);
        let thread = self.threads.get(&tid)?;
        self.processes.get(&thread.pid)?;
        let restart = if thread.carried != 0 { thread.carried } else { restart };
        Some(Entry { call: call.id, tid, pid: thread.pid, restart })
    }

    fn come_in(&mut self, entry: Entry, occasion: Occasion, turn: &mut Turn) -> Result<(), Refusal> {
        if self.threads.get(&entry.tid).is_some_and(|thread| thread.rites.is_some()) {
            self.finish_rites(entry, turn);
            return Ok(());
        }
        if self.is_dumping(entry.tid) {
            self.arrive(&entry, turn);
            turn.go_on(entry.call);
            return Ok(());
        }
        if self.stops_for_tracer(entry, occasion, turn) {
            return Ok(());
        }
        if self.is_held_up(entry) {
            self.arrive(&entry, turn);
            self.hold(entry, turn);
            return Ok(());
        }
        let (skipped, next) = self.next_signal(entry.tid);
        match next {
            Next::Nothing => {
                self.arrive(&entry, turn);
                self.forget(entry, &skipped);
                self.run_on(entry, turn);
            }
            Next::Handle(source, signal, action) => {
                let info = self.pending_info(entry, source, signal).unwrap_or(SigInfo::kernel(signal));
                let frame = self.plan_frame(entry, &info, &action, turn);
                if frame == Err(Refusal::Again) {
                    return Err(Refusal::Again);
                }
                self.arrive(&entry, turn);
                self.forget(entry, &skipped);
                self.take(entry, source, signal);
                match frame {
                    Ok(frame) => self.enter_handler(entry, signal, &action, frame, turn),
                    Err(_) => self.no_stack(entry, signal, turn),
                }
            }
            Next::Stop(source, signal) => {
                self.arrive(&entry, turn);
                self.forget(entry, &skipped);
                self.take(entry, source, signal);
                self.stop(entry.pid, signal, turn);
                match self.is_traced(entry.tid) {
                    true => self.join_stop(entry, signal, turn),
                    false => self.hold(entry, turn),
                }
            }
            Next::Ask(source, signal) => {
                let info = self.pending_info(entry, source, signal).unwrap_or(SigInfo::kernel(signal));
                self.arrive(&entry, turn);
                self.take(entry, source, signal);
                self.ask_tracer(entry, info, turn);
            }
            Next::Die(signal, core) => {
                let status = self.killed_by(entry.pid, signal, core);
                let told = signal != SIGKILL
                    && self.stops_before_end(entry.tid, entry.call, Some(entry.restart), status, turn);
                if !told {
                    let pending = [Source::Thread, Source::Process, Source::Tracer];
                    let info = pending.iter().find_map(|source| self.pending_info(entry, *source, signal));
                    let info = info.unwrap_or(SigInfo::kernel(signal));
                    self.die(&entry, info, core, turn)?;
                }
            }
        }
        Ok(())
    }

    /// The end of a call with a signal mask of its own: unless a signal ended it, the former mask holds again before
    /// anything else. Whether that is so.
    fn unmask(&mut self, entry: &Entry, turn: &mut Turn) -> bool {
        let Some(thread) = self.threads.get(&entry.tid) else { return false };
        let Some(mask) = thread.saved_mask else { return false };
        let result = turn.env.registers(thread.handle).map(|registers| registers.rax as i64);
        if entry.restart != 0 || result == Ok(-i64::from(EINTR)) {
            return false;
        }
        self.arrive(entry, turn);
        if let Some(thread) = self.threads.get_mut(&entry.tid) {
            thread.saved_mask = None;
        }
        self.set_mask(entry.tid, mask, turn);
        self.let_in(*entry, turn);
        true
    }

    /// Whether a thread must not run on: its process is being stopped, or ends.
    fn is_held_up(&self, entry: Entry) -> bool {
        let Some(process) = self.processes.get(&entry.pid) else { return false };
        let trace = self.threads.get(&entry.tid).and_then(|thread| thread.trace.as_deref());
        process.is_ending() || process.is_stopping() && !trace.is_some_and(Trace::is_past_stop)
    }

    fn is_traced(&self, tid: Tid) -> bool {
        self.threads.get(&tid).is_some_and(|thread| thread.trace.is_some())
    }

    /// What a tracer is told about the end by a signal before it comes: with the core bit when there may be a core.
    pub(crate) fn killed_by(&self, pid: Pid, signal: u8, core: bool) -> Status {
        Status::killed(signal, core && self.may_leave_core(pid))
    }

    /// A signal ends the process of a thread that has come in or failed, after it has left a core if it is to.
    fn die(&mut self, entry: &Entry, info: SigInfo, core: bool, turn: &mut Turn) -> Result<(), Refusal> {
        let signal = info.signal;
        if core && self.may_leave_core(entry.pid) && self.begin_dump(entry, info, turn)? {
            return Ok(());
        }
        let via = Via { call: entry.call, tid: entry.tid, foreign: false };
        self.end_process(entry.pid, Status::killed(signal, false), Some(via), turn)
    }

    /// A thread's own fault. Unlike other signals it cannot wait: the instruction would only fault again.
    pub(crate) fn fault(&mut self, call: &Call, info: SigInfo, turn: &mut Turn) -> Result<(), Refusal> {
        let Some(entry) = self.entry(call, 0) else {
            turn.go_on(call.id);
            return Ok(());
        };
        let signal = info.signal;
        if self.is_dumping(entry.tid) {
            let via = Via { call: entry.call, tid: entry.tid, foreign: false };
            return self.end_dump(entry.pid, Some(via), false, turn);
        }
        if self.is_traced(entry.tid) {
            self.compel(entry.tid, info);
            return self.come_in(entry, Occasion::Called, turn);
        }
        if self.is_held_up(entry) {
            self.compel(entry.tid, info);
            self.arrive(&entry, turn);
            self.hold(entry, turn);
            return Ok(());
        }
        let blocked = self.threads.get(&entry.tid).is_some_and(|thread| thread.blocked.has(signal));
        let handled = match self.disposition(entry.pid, signal) {
            Disposition::Handle(action) if !blocked => Some(action),
            _ => None,
        };
        let Some(action) = handled else {
            return self.die(&entry, info, super::CORE.has(signal), turn);
        };
        match self.plan_frame(entry, &info, &action, turn) {
            Err(Refusal::Again) => return Err(Refusal::Again),
            Ok(frame) => self.enter_handler(entry, signal, &action, frame, turn),
            Err(_) => self.no_stack(entry, signal, turn),
        }
        Ok(())
    }

    /// A fault whose serving this server died of, or of a thread that it does not know: the process ends, as by
    /// SIGKILL, and no handler is looked for.
    pub(crate) fn lost(&mut self, call: &Call, turn: &mut Turn) -> Result<(), Refusal> {
        let Some(entry) = self.entry(call, 0) else {
            let pid = Pid(call.caller.pid);
            if self.processes.get(&pid).is_some_and(|process| !process.is_zombie()) {
                self.finish(pid, self.killed_by(pid, SIGKILL, false), turn);
            }
            turn.go_on(call.id);
            return Ok(());
        };
        let status = self.killed_by(entry.pid, SIGKILL, false);
        let via = Via { call: entry.call, tid: entry.tid, foreign: false };
        self.end_process(entry.pid, status, Some(via), turn)
    }

    /// What a thread does next about its signals, and which ones it passes over as ignored. Nothing changes.
    fn next_signal(&self, tid: Tid) -> (Vec<(Source, u8)>, Next) {
        let mut skipped = Vec::new();
        let Some(thread) = self.threads.get(&tid) else { return (skipped, Next::Nothing) };
        let Some(process) = self.processes.get(&thread.pid) else { return (skipped, Next::Nothing) };
        let passed = thread.trace.as_deref().and_then(Trace::passed).map(|info| info.signal);
        if process.pending.is_empty() && thread.pending.is_empty() && passed.is_none() {
            return (skipped, Next::Nothing);
        }
        if process.pending.set().or(thread.pending.set()).has(SIGKILL) {
            return (skipped, Next::Die(SIGKILL, false));
        }
        let own = thread.pending.outside(thread.blocked).map(|signal| (Source::Thread, signal));
        let shared = process.pending.outside(thread.blocked).map(|signal| (Source::Process, signal));
        let passed = passed.map(|signal| (Source::Tracer, signal));
        for (source, signal) in passed.into_iter().chain(own).chain(shared) {
            if thread.trace.is_some() && source != Source::Tracer {
                return (skipped, Next::Ask(source, signal));
            }
            match self.disposition(thread.pid, signal) {
                Disposition::Handle(action) => return (skipped, Next::Handle(source, signal, action)),
                Disposition::Terminate => return (skipped, Next::Die(signal, false)),
                Disposition::Core => return (skipped, Next::Die(signal, true)),
                Disposition::Stop if signal == SIGSTOP || !self.is_orphaned(process.pgid) => {
                    return (skipped, Next::Stop(source, signal));
                }
                Disposition::Stop | Disposition::Ignore => skipped.push((source, signal)),
            }
        }
        (skipped, Next::Nothing)
    }

    /// Whether a thread has a signal to take, or something to stop for.
    pub(crate) fn has_signal(&self, tid: Tid) -> bool {
        let trace = self.threads.get(&tid).and_then(|thread| thread.trace.as_deref());
        trace.is_some_and(Trace::has_reason) || self.next_signal(tid).1 != Next::Nothing
    }

    /// Whether the next signal ends the thread's process.
    pub(crate) fn is_doomed(&self, tid: Tid) -> bool {
        let ending = self.threads.get(&tid).and_then(|thread| self.processes.get(&thread.pid));
        ending.is_none_or(|process| process.is_ending()) || matches!(self.next_signal(tid).1, Next::Die(..))
    }

    /// The thread is in: it need not be called again, and its number goes where its maker wanted it.
    pub(crate) fn arrive(&mut self, entry: &Entry, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&entry.tid) else { return };
        thread.called = false;
        thread.carried = 0;
        let address = core::mem::take(&mut thread.set_tid);
        if address != 0 {
            turn.copy_out(entry.call, address, entry.tid.0.to_le_bytes().to_vec());
        }
    }

    fn pending_info(&self, entry: Entry, source: Source, signal: u8) -> Option<SigInfo> {
        let info = match source {
            Source::Thread => self.threads.get(&entry.tid)?.pending.peek(signal),
            Source::Process => self.processes.get(&entry.pid)?.pending.peek(signal),
            Source::Tracer => self.threads.get(&entry.tid)?.trace.as_deref()?.passed(),
        };
        info.cloned()
    }

    fn take(&mut self, entry: Entry, source: Source, signal: u8) {
        let taken = match source {
            Source::Thread => self.threads.get_mut(&entry.tid).and_then(|it| it.pending.take(signal)),
            Source::Process => self.processes.get_mut(&entry.pid).and_then(|it| it.pending.take(signal)),
            Source::Tracer => {
                let trace = self.threads.get_mut(&entry.tid).and_then(|it| it.trace.as_deref_mut());
                trace.and_then(Trace::take_passed)
            }
        };
        if let Some(info) = taken {
            self.note_timer(entry.pid, &info);
        }
    }

    fn forget(&mut self, entry: Entry, skipped: &[(Source, u8)]) {
        for (source, signal) in skipped {
            self.take(entry, *source, *signal);
        }
    }

    /// Goes on with the program, no handler having been run.
    fn run_on(&mut self, entry: Entry, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&entry.tid) else { return };
        if let Some(mask) = thread.saved_mask.take() {
            thread.blocked = mask;
        }
        if let Some(restart) = Again::decide(entry.restart, None) {
            let number = if thread.resume.is_some() { RESTART_SYSCALL } else { restart.number };
            if let Ok(registers) = turn.env.registers(thread.handle) {
                let registers = rewound(registers, number);
                turn.act(Operation::ThreadSetRegisters {
                    thread: thread.handle,
                    registers: Box::new(registers),
                    fpu: None,
                });
            }
        }
        self.let_in(entry, turn);
    }

    /// Lets the thread run; if it has more to take, it comes in again first.
    fn let_in(&mut self, entry: Entry, turn: &mut Turn) {
        if self.has_signal(entry.tid) {
            self.interrupt(entry.tid, turn);
        }
        turn.go_on(entry.call);
    }

    /// Lays the frame out, and makes sure that the program's stack can take it.
    fn plan_frame(
        &self,
        entry: Entry,
        info: &SigInfo,
        action: &Action,
        turn: &mut Turn,
    ) -> Result<Frame, Refusal> {
        let bad = Refusal::Errno(libipc::linux::errno::EFAULT);
        let thread = self.threads.get(&entry.tid).ok_or(bad)?;
        let mut state = turn.env.thread(thread.handle).map_err(|_| bad)?;
        if let Some(restart) = Again::decide(entry.restart, Some(action)) {
            state.registers = rewound(state.registers, restart.number);
        }
        state.registers.rflags &= !thread.trace.as_deref().map_or(0, Trace::flags);
        let mask = thread.saved_mask.unwrap_or(thread.blocked);
        let frame = frame::build(&state, info, action, mask, &thread.alternate).ok_or(bad)?;
        let last = frame.address + frame.bytes.len() as u64 - 1;
        turn.env.read_user(entry.call, frame.address, 1)?;
        if last / PAGE_SIZE != frame.address / PAGE_SIZE {
            turn.env.read_user(entry.call, last, 1)?;
        }
        Ok(frame)
    }

    fn enter_handler(&mut self, entry: Entry, signal: u8, action: &Action, frame: Frame, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&entry.tid) else { return };
        thread.saved_mask = None;
        thread.resume = None;
        thread.trace.iter_mut().for_each(|trace| trace.entered_handler());
        thread.blocked = thread.blocked.or(action.mask);
        if action.flags & SA_NODEFER == 0 {
            thread.blocked = thread.blocked.with(signal);
        }
        if thread.alternate.flags & SS_AUTODISARM != 0 {
            thread.alternate = AlternateStack::default();
        }
        turn.copy_out(entry.call, frame.address, frame.bytes);
        let fpu = Some(frame::fresh_fpu());
        turn.act(Operation::ThreadSetRegisters {
            thread: thread.handle,
            registers: Box::new(frame.registers),
            fpu,
        });
        if action.flags & SA_RESETHAND != 0 {
            let actions = self.processes.get(&entry.pid).and_then(|it| self.actions.get_mut(it.actions));
            actions.into_iter().for_each(|actions| actions.put(signal, Action::default()));
        }
        self.let_in(entry, turn);
    }

    /// The handler's stack cannot take the frame: SIGSEGV, and when it was SIGSEGV's own frame there is no escape.
    fn no_stack(&mut self, entry: Entry, signal: u8, turn: &mut Turn) {
        if signal == SIGSEGV
            && let Some(thread) = self.threads.get_mut(&entry.tid)
        {
            thread.blocked = thread.blocked.with(SIGSEGV);
        }
        if let Some(thread) = self.threads.get_mut(&entry.tid) {
            thread.carried = entry.restart;
        }
        self.force(entry.tid, SigInfo::kernel(SIGSEGV), turn);
        turn.go_on(entry.call);
    }

    /// Keeps a thread that has come in, for as long as its process is stopped or takes to end.
    fn hold(&mut self, entry: Entry, turn: &mut Turn) {
        self.park(entry.tid, entry.call, On::Held { restart: entry.restart }, turn);
        if let Some(process) = self.processes.get_mut(&entry.pid) {
            process.held += 1;
        }
        self.check_stopped(entry.pid, turn);
    }

    /// Lets all held threads of a process go. Each comes in again and takes its signals.
    pub(crate) fn let_go(&mut self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.held = 0;
        for tid in process.threads.clone() {
            self.outlive_stop(tid);
            if !self.threads.get(&tid).is_some_and(|thread| thread.is_held()) {
                continue;
            }
            let Some(waiting) = self.release(tid) else { continue };
            if let (On::Held { restart }, Some(thread)) = (&waiting.on, self.threads.get_mut(&tid)) {
                thread.carried = *restart;
            }
            self.interrupt(tid, turn);
            turn.go_on(waiting.call);
        }
    }

    /// The first step of a stop: every thread comes in.
    fn stop(&mut self, pid: Pid, signal: u8, turn: &mut Turn) {
        self.set_life(pid, Life::Stopping { signal });
        for tid in self.processes.get(&pid).map(|process| process.threads.clone()).unwrap_or_default() {
            let trace = self.threads.get_mut(&tid).and_then(|thread| thread.trace.as_deref_mut());
            trace.into_iter().for_each(Trace::hold_again);
        }
        self.interrupt_all(pid, turn);
    }

    /// Blocks and unblocks signals for a thread, with what follows from it.
    pub(crate) fn set_mask(&mut self, tid: Tid, mask: SignalSet, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let pid = thread.pid;
        let newly_blocked = mask.less(thread.blocked);
        thread.blocked = mask.less(super::UNBLOCKABLE);
        let orphaned = self.processes.get(&pid).is_some_and(|process| {
            !process.pending.set().and(newly_blocked).is_empty() && process.threads.len() > 1
        });
        if orphaned {
            self.retarget(pid, turn);
        }
        if self.has_signal(tid) {
            self.interrupt(tid, turn);
        }
    }
}

/// A call that is to be made again.
struct Again {
    number: u64,
}

impl Again {
    /// Whether the call a thread was taken out of is made again, given the handler that runs first, if one does.
    fn decide(word: u64, handler: Option<&Action>) -> Option<Again> {
        const IF_ASKED: u64 = Restart::IfAsked as u64;
        const IF_NO_HANDLER: u64 = Restart::IfNoHandler as u64;
        const ALWAYS: u64 = Restart::Always as u64;
        let again = match word & 0xff {
            IF_ASKED => handler.is_none_or(|action| action.flags & SA_RESTART != 0),
            IF_NO_HANDLER => handler.is_none(),
            ALWAYS => true,
            _ => false,
        };
        again.then_some(Again { number: word >> 8 })
    }
}

/// The registers with which a thread makes its call again: on the two-byte instruction, with the call's number.
fn rewound(registers: UserRegisters, number: u64) -> UserRegisters {
    UserRegisters { rip: registers.rip.saturating_sub(2), rax: number, ..registers }
}
