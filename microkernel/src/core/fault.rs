//! Faults. A program's page fault is a call by the faulting thread to its pager, an exception one to the process
//! server; a page that a copy misses is a fault of the caller, served for the call. A server's own fault is its
//! death.

use libipc::abi::crash::Fault;
use libipc::abi::delivery::FaultKind;
use libipc::abi::foreign::Role;
use libipc::abi::{KernelError, Protection};
use libipc::linux::errno;

use super::Kernel;
use super::account::Answered;
use super::machine::Machine;
use super::object::*;

/// In the number of a call for a fault: what kind of fault it is, and above it what was tried.
const FAULT_KIND: u32 = 0xff;
const FAULT_ACCESS_SHIFT: u32 = 8;

impl<M: Machine> Kernel<M> {
    pub(crate) fn page_fault(&mut self, address: u64, access: u8) {
        let Some((thread, task)) = self.current_program_or_die(Fault::Page, address) else { return };
        let ip = self.threads.get(thread).map_or(0, |thread| thread.registers.rip);
        let Some(pager) = self.pager_of(task) else { return };
        self.note_fault(thread, [ip, address, u64::from(access)]);
        self.raise(thread, task, pager, FaultKind::Page, [address, u64::from(access), ip, 0]);
    }

    pub(crate) fn exception(&mut self, vector: u8, code: u64) {
        let Some((thread, task)) = self.current_program_or_die(Fault::Exception, u64::from(vector)) else {
            return;
        };
        let ip = self.threads.get(thread).map_or(0, |thread| thread.registers.rip);
        let Some(server) = self.roles[Role::Proc as usize] else { return };
        self.note_fault(thread, [ip, u64::from(vector), code]);
        self.raise(thread, task, server, FaultKind::Exception, [u64::from(vector), code, ip, 0]);
    }

    pub(crate) fn pager_of(&self, task: TaskId) -> Option<ServerId> {
        let space = self.tasks.get(task)?.space;
        self.spaces.get(space).map(|space| space.pager)
    }

    /// The thread that faulted, if it is a program's. A server that faults dies.
    fn current_program_or_die(&mut self, fault: Fault, detail: u64) -> Option<(ThreadId, TaskId)> {
        let thread = self.current?;
        let task = self.threads.get(thread)?.task;
        match self.tasks.get(task)?.personality {
            Personality::Linux => Some((thread, task)),
            Personality::Native => {
                self.server_fault(task, fault, detail);
                None
            }
        }
    }

    /// Makes a thread call for a fault of its own. A thread that cannot even do that tries again.
    pub(crate) fn raise(
        &mut self,
        thread: ThreadId,
        task: TaskId,
        server: ServerId,
        kind: FaultKind,
        words: [u64; 4],
    ) {
        let gone = self.servers.get(server).is_none_or(|server| server.state == ServerState::Gone);
        if gone && self.roles[Role::Proc as usize] == Some(server) {
            return self.stand_still(thread);
        }
        let call = self.new_call(CallKind::Fault, task, server, |call| {
            call.thread = Some(thread);
            call.label = kind as u32;
            call.words = words;
            // A pager that forwards it puts its own message in its place: what it is must not be lost.
            call.number = kind as u32 | (words[1] as u32) << FAULT_ACCESS_SHIFT;
            call.tag = words[0];
        });
        let Ok(id) = call else { return };
        if let Some(state) = self.threads.get_mut(thread) {
            state.state = ThreadState::Calling(id);
        }
        self.trace_fault(id);
        self.enqueue_call(id);
    }

    /// Nobody is left who could end a thread: it stands still rather than fault for ever.
    pub(crate) fn stand_still(&mut self, thread: ThreadId) {
        if let Some(state) = self.threads.get_mut(thread) {
            state.stopped = true;
        }
    }

    /// A thread cannot go on: the process server is to end its process.
    pub(crate) fn lose(&mut self, thread: ThreadId, task: TaskId) {
        let words = self.threads.get(thread).map_or([0; 4], |thread| thread.faulted.words());
        if let Some(server) = self.roles[Role::Proc as usize] {
            self.raise(thread, task, server, FaultKind::Lost, words);
        }
    }

    /// Asks the caller's pager for a page that a copy for a held call needs.
    pub(crate) fn fault_for(
        &mut self,
        id: CallRef,
        address: u64,
        access: Protection,
    ) -> Result<(), KernelError> {
        let call = self.calls.get(id).ok_or(KernelError::NoSuchCall)?;
        if call.faulting {
            return Ok(());
        }
        let (task, thread) = (call.task, call.thread);
        let pager = self.pager_of(task).ok_or(KernelError::NoSuchCall)?;
        let fault = self.new_call(CallKind::Fault, task, pager, |fault| {
            fault.thread = thread;
            fault.parent = Some(id);
            fault.label = FaultKind::Page as u32;
            fault.words = [address, u64::from(access.bits()), 0, 1];
        });
        let fault = fault.map_err(|_| KernelError::Exhausted)?;
        if let Some(call) = self.calls.get_mut(id) {
            call.faulting = true;
        }
        if let Some(thread) = thread {
            self.note_fault(thread, [id.to_word(), address, u64::from(access.bits())]);
        }
        self.trace_fault(fault);
        self.enqueue_call(fault);
        Ok(())
    }

    /// The same for a call that is about to be delivered: it waits, and is queued again when the page is there.
    pub(crate) fn fault_before(&mut self, id: CallRef, address: u64, access: Protection) {
        if address >= M::USER_END {
            self.finish_foreign(id, -i64::from(errno::EFAULT));
            return;
        }
        if let Some(call) = self.calls.get_mut(id) {
            call.phase = Phase::Faulting;
        }
        if self.fault_for(id, address, access).is_err() {
            self.finish_foreign(id, -i64::from(errno::EFAULT));
        }
    }

    /// A pager has answered a fault.
    pub(crate) fn fault_answered(&mut self, id: CallRef, resolved: bool) {
        let Some(call) = self.calls.get(id) else { return };
        let (thread, task, parent, server) = (call.thread, call.task, call.parent, call.server);
        let (kind, access) = (call.number & FAULT_KIND, call.number >> FAULT_ACCESS_SHIFT);
        let address = call.tag;
        self.end_call(id);
        match (parent, thread) {
            (Some(parent), thread) => {
                let answered = thread.map_or(Answered::Well, |thread| self.weigh_page(thread, server));
                self.parent_fault_answered(parent, resolved && answered == Answered::Well);
            }
            (None, Some(thread)) if resolved || kind != FaultKind::Page as u32 => {
                match self.weigh_answer(thread, server, kind) {
                    Answered::Unbearable if kind != FaultKind::Lost as u32 => self.lose(thread, task),
                    Answered::Well | Answered::Unbearable => {}
                    Answered::Lost => self.stand_still(thread),
                }
                self.release_thread(thread, id);
            }
            (None, Some(thread)) => self.page_refused(id, thread, task, address, access),
            (None, None) => {}
        }
    }

    /// A pager, or the file server it asked, cannot bring a page: the thread would fault there for ever, so the
    /// process server decides.
    fn page_refused(&mut self, fault: CallRef, thread: ThreadId, task: TaskId, address: u64, access: u32) {
        let ip = self.threads.get(thread).map_or(0, |thread| thread.registers.rip);
        let words = [address, u64::from(access), ip, 0];
        if let Some(server) = self.roles[Role::Proc as usize] {
            self.raise(thread, task, server, FaultKind::Page, words);
        }
        // Without a process server, or a call to reach it by, the instruction is tried again.
        self.release_thread(thread, fault);
    }

    fn parent_fault_answered(&mut self, id: CallRef, resolved: bool) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.faulting = false;
        let thread = call.thread;
        match call.phase {
            Phase::Faulting if resolved => {
                let wanted = thread
                    .and_then(|thread| self.threads.get(thread))
                    .is_some_and(|thread| thread.attention.contains(Attention::NOW));
                self.enqueue_call(id);
                if let (true, Some(thread)) = (wanted, thread) {
                    self.withdraw(thread);
                }
            }
            Phase::Faulting => self.finish_foreign(id, -i64::from(errno::EFAULT)),
            Phase::Held => self.signal_holder(id, if resolved { signal::READY } else { signal::FAILED }),
            // Answered or handed on meanwhile: whoever has it next asks again.
            Phase::Queued | Phase::Answered => {}
        }
    }

    /// A thread whose call is over wants to run again. What is left of its slice it has at once: a call, and what
    /// servers do for it, is no reason to let others go first.
    pub(crate) fn release_thread(&mut self, thread: ThreadId, call: CallRef) {
        let Some(state) = self.threads.get_mut(thread) else { return };
        if state.state == ThreadState::Calling(call) {
            state.state = ThreadState::Runnable;
            if state.slice_ns > 0 { self.go_on(thread) } else { self.make_ready(thread) }
        }
    }
}
