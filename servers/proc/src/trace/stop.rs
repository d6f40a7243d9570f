//! Stopping for a tracer, and going on.

use libipc::abi::CallId;
use libipc::abi::delivery::{MAKE_CALL, Occasion};
use libipc::abi::syscall::{Restart, When};
use libipc::linux::errno::EINTR;
use libipc::linux::ptrace::*;
use libipc::linux::signal::{SI_USER, SIGKILL, SIGTRAP, TRAP_TRACE};
use libipc::server::effect::Operation;
use libipc::server::{ForeignReply, Message};

use super::{After, Kind, Stop, TRAP_FLAG};
use crate::Proc;
use crate::id::{Pid, Tid};
use crate::process::Life;
use crate::signal::{Aim, Entry, SigInfo};
use crate::status::Status;
use crate::thread::{On, Waiting};
use crate::turn::Turn;

impl Proc {
    /// A traced thread comes from a call: when it is traced so far, it stops for that.
    pub(crate) fn note_leaving(&mut self, tid: Tid, occasion: Occasion) {
        let trace = self.threads.get_mut(&tid).and_then(|thread| thread.trace.as_deref_mut());
        if let Some(trace) = trace
            && occasion == Occasion::Exit
        {
            trace.leaving = trace.calls || trace.event.is_some();
        }
    }

    /// Stops a traced thread that has come in, if there is something to stop for besides a signal. Whether it has.
    pub(crate) fn stops_for_tracer(&mut self, entry: Entry, occasion: Occasion, turn: &mut Turn) -> bool {
        let Some(life) = self.processes.get(&entry.pid).map(|process| process.life) else { return false };
        let ending = matches!(life, Life::Dying { .. } | Life::Zombie { .. }) || self.is_killed(entry.pid);
        let Some(thread) = self.threads.get_mut(&entry.tid).filter(|_| !ending) else { return false };
        let Some(trace) = thread.trace.as_deref_mut() else { return false };
        let mut after = After::ComeIn { restart: entry.restart };
        let kind = if occasion == Occasion::Entry {
            after = After::Call;
            trace.number = turn.env.registers(thread.handle).map(|it| it.rax as u32).ok();
            Kind::Entry
        } else if let Some(event) = trace.event.take() {
            trace.message = event.message;
            Kind::Event(event.number)
        } else if trace.leaving && trace.calls {
            trace.leaving = false;
            Kind::Exit
        } else {
            match life {
                Life::Stopping { signal } | Life::Stopped { signal } if !trace.past_stop => {
                    Kind::Group(signal)
                }
                _ if core::mem::take(&mut trace.trap) => Kind::Trap,
                _ if core::mem::take(&mut trace.stepped) => {
                    Kind::Signal(SigInfo { code: TRAP_TRACE, ..SigInfo::kernel(SIGTRAP) })
                }
                _ => return false,
            }
        };
        self.arrive(&entry, turn);
        self.stop_for_tracer(entry.tid, entry.call, kind, after, turn);
        true
    }

    /// Whether SIGKILL has been sent to a process.
    fn is_killed(&self, pid: Pid) -> bool {
        self.processes.get(&pid).is_some_and(|process| process.pending.set().has(SIGKILL))
    }

    /// A traced thread has a signal to take: its tracer is asked first.
    pub(crate) fn ask_tracer(&mut self, entry: Entry, info: SigInfo, turn: &mut Turn) {
        let after = After::ComeIn { restart: entry.restart };
        self.stop_for_tracer(entry.tid, entry.call, Kind::Signal(info), after, turn);
    }

    /// A traced thread whose process is being stopped stops for its tracer.
    pub(crate) fn join_stop(&mut self, entry: Entry, signal: u8, turn: &mut Turn) {
        let after = After::ComeIn { restart: entry.restart };
        self.stop_for_tracer(entry.tid, entry.call, Kind::Group(signal), after, turn);
    }

    /// The maker of a vfork child stops before it waits, if its tracer wants to know of it. Whether it has.
    pub(crate) fn stop_in_vfork(&mut self, tid: Tid, call: CallId, child: Pid, turn: &mut Turn) {
        self.release(tid);
        if let Some(trace) = self.threads.get_mut(&tid).and_then(|it| it.trace.as_deref_mut()) {
            trace.message = u64::from(child.0);
        }
        self.stop_for_tracer(tid, call, Kind::Event(PTRACE_EVENT_VFORK), After::Vfork { child }, turn);
    }

    /// A vfork child needs its maker's memory no more, while that is stopped for its tracer.
    pub(crate) fn end_vfork_in_stop(&mut self, tid: Tid, child: Pid) -> bool {
        let trace = self.threads.get_mut(&tid).and_then(|it| it.trace.as_deref_mut());
        match trace.and_then(|trace| trace.stop.as_mut()) {
            Some(stop) if matches!(stop.after, After::Vfork { .. }) => {
                stop.after = After::Vforked { child };
                true
            }
            _ => false,
        }
    }

    /// Stops a thread that is about to end, if its tracer wants to know and has not been told. `call`: the exit call;
    /// or that of a thread that comes in, which then comes again.
    pub(crate) fn stops_before_end(
        &mut self,
        tid: Tid,
        call: CallId,
        restart: Option<u64>,
        status: Status,
        turn: &mut Turn,
    ) -> bool {
        let trace = self.threads.get_mut(&tid).and_then(|it| it.trace.as_deref_mut());
        let Some(trace) = trace.filter(|trace| trace.wants(PTRACE_O_TRACEEXIT) && !trace.ending) else {
            return false;
        };
        (trace.ending, trace.message) = (true, u64::from(status.word()));
        let after = restart.map_or(After::Exit, |restart| After::ComeIn { restart });
        self.stop_for_tracer(tid, call, Kind::Event(PTRACE_EVENT_EXIT), after, turn);
        true
    }

    /// Stops a thread: its call is held, and its tracer is told.
    pub(super) fn stop_for_tracer(
        &mut self,
        tid: Tid,
        call: CallId,
        kind: Kind,
        after: After,
        turn: &mut Turn,
    ) {
        let foreign = matches!(after, After::Vfork { .. } | After::Exit);
        self.park(tid, call, On::Traced { foreign }, turn);
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let Some(trace) = thread.trace.as_deref_mut() else { return };
        let (pid, counted) = (thread.pid, matches!(kind, Kind::Group(_)));
        trace.stop = Some(Stop { kind, told: false, listening: false, counted, after });
        if counted {
            self.count_held(tid, 1);
        }
        self.tell_of_stop(tid, turn);
        if counted {
            self.check_stopped(pid, turn);
        }
    }

    /// One more or one less of the threads of a process is held by its stop.
    pub(super) fn count_held(&mut self, tid: Tid, change: i32) {
        let pid = self.threads.get(&tid).map(|thread| thread.pid);
        if let Some(process) = pid.and_then(|pid| self.processes.get_mut(&pid)) {
            process.held = process.held.saturating_add_signed(change);
        }
    }

    /// What the tracer wants taken in place of the signal that it was told of, or besides.
    pub(super) fn pass(&mut self, tid: Tid, signal: u8, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&tid).filter(|_| signal != 0) else { return };
        let Some(trace) = thread.trace.as_deref_mut() else { return };
        let Some(stop) = &trace.stop else { return };
        let tracer = trace.tracer.0;
        match &stop.kind {
            Kind::Signal(info) => {
                let passed = match info.signal == signal {
                    true => info.clone(),
                    false => SigInfo::user(signal, SI_USER, tracer, 0),
                };
                if thread.blocked.has(signal) {
                    thread.pending.add(passed);
                } else {
                    trace.passed = Some(passed);
                }
            }
            Kind::Entry | Kind::Exit => {
                self.send(Aim::Thread(tid), SigInfo::user(signal, SI_USER, tracer, 0), turn);
            }
            Kind::Group(_) | Kind::Trap | Kind::Event(_) => {}
        }
    }

    /// Whether a thread comes before and after each system call from now on.
    pub(crate) fn set_calls(&mut self, tid: Tid, calls: bool, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let Some(trace) = thread.trace.as_deref_mut() else { return };
        trace.leaving &= calls;
        if core::mem::replace(&mut trace.calls, calls) != calls {
            let when = if calls { When::EachCall } else { When::NoCall };
            turn.act(Operation::ThreadInterrupt { thread: thread.handle, when });
        }
    }

    /// Whether a stopped thread goes on for one instruction only.
    pub(crate) fn set_step(&mut self, tid: Tid, step: bool, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let Some(trace) = thread.trace.as_deref_mut() else { return };
        if core::mem::replace(&mut trace.stepping, step) == step && !step {
            return;
        }
        let handle = thread.handle;
        if let Ok(mut registers) = turn.env.registers(handle) {
            registers.rflags = registers.rflags & !TRAP_FLAG | if step { TRAP_FLAG } else { 0 };
            self.put_registers(tid, registers, turn);
        }
    }

    /// A stopped thread goes on.
    pub(super) fn go_on(&mut self, tid: Tid, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let pid = thread.pid;
        let Some(stop) = thread.trace.as_deref_mut().and_then(|trace| trace.stop.take()) else { return };
        let Some(Waiting { call, .. }) = self.release(tid) else { return };
        if stop.counted {
            self.count_held(tid, -1);
        }
        match stop.after {
            After::ComeIn { restart } => {
                if restart != 0 || self.has_business(tid, pid) {
                    if let Some(thread) = self.threads.get_mut(&tid) {
                        thread.carried = restart;
                    }
                    self.interrupt(tid, turn);
                }
                turn.go_on(call);
            }
            After::Call => {
                if self.has_business(tid, pid) {
                    self.interrupt(tid, turn);
                }
                let label = if self.is_killed(pid) { 0 } else { MAKE_CALL };
                turn.out.reply(call, Message::label(label));
            }
            After::Vfork { child } => {
                self.park(tid, call, On::Vfork { child }, turn);
                if self.is_doomed(tid) {
                    self.interrupt(tid, turn);
                    self.cancel(call, turn);
                }
            }
            After::Vforked { child } => {
                self.note_vfork_done(tid, child, turn);
                if self.has_business(tid, pid) {
                    self.interrupt(tid, turn);
                }
                turn.result(call, i64::from(child.0));
            }
            After::Exit if self.is_killed(pid) => {
                self.interrupt(tid, turn);
                turn.result(call, -i64::from(EINTR));
            }
            After::Exit => {
                self.set_calls(tid, false, turn);
                let reply = ForeignReply { restart: Restart::Always, ..ForeignReply::default() };
                turn.out.foreign(call, reply);
            }
        }
    }

    /// Whether there is anything for a thread to come in for.
    fn has_business(&self, tid: Tid, pid: Pid) -> bool {
        let masked = self.threads.get(&tid).is_some_and(|thread| thread.saved_mask.is_some());
        let held = self.processes.get(&pid).is_some_and(|it| it.is_ending() || it.is_stopping());
        masked || held || self.has_signal(tid)
    }

    /// SIGKILL was sent: no stop holds a thread.
    pub(crate) fn wake_traced(&mut self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.get(&pid) else { return };
        for tid in process.threads.clone() {
            self.go_on(tid, turn);
        }
    }

    /// The stop of a process is over; a thread that it held stays stopped for its tracer.
    pub(crate) fn outlive_stop(&mut self, tid: Tid) {
        let trace = self.threads.get_mut(&tid).and_then(|thread| thread.trace.as_deref_mut());
        let Some(trace) = trace else { return };
        trace.past_stop = false;
        trace.stop.iter_mut().for_each(|stop| stop.counted = false);
    }

    /// SIGCONT was sent: seized threads trap.
    pub(crate) fn trap_all(&mut self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.get(&pid) else { return };
        for tid in process.threads.clone() {
            self.trap(tid, turn);
        }
    }

    /// Has a seized thread stop, or say again that it is stopped.
    pub(super) fn trap(&mut self, tid: Tid, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&tid) else { return };
        let Some(trace) = thread.trace.as_deref_mut().filter(|trace| trace.seized) else { return };
        let life = self.processes.get(&thread.pid).map(|process| process.life);
        match trace.stop.as_mut() {
            Some(stop) if stop.listening => {
                stop.kind = match life {
                    Some(Life::Stopping { signal } | Life::Stopped { signal }) => Kind::Group(signal),
                    _ => Kind::Trap,
                };
                (stop.listening, stop.told) = (false, false);
                self.tell_of_stop(tid, turn);
            }
            _ => {
                trace.trap = true;
                self.interrupt(tid, turn);
            }
        }
    }
}
