//! Who runs: fixed priorities, round robin within one, and the one timer that serves slices and servers' deadlines.

use libipc::server::TIMER_BIT;

use super::arena::List;
use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome, Resume};

/// How long a program runs before its equals get a turn.
const SLICE_NS: u64 = 10_000_000;
/// Bytes of a system call instruction, for calls that start again.
const CALL_INSTRUCTION_BYTES: u64 = 2;

impl<M: Machine> Kernel<M> {
    /// Puts a runnable thread into its queue.
    pub(crate) fn make_ready(&mut self, thread: ThreadId) {
        let Some(state) = self.threads.get_mut(thread) else { return };
        if matches!(state.state, ThreadState::Receiving) {
            state.state = ThreadState::Runnable;
        }
        if state.stopped || self.current == Some(thread) {
            return;
        }
        let priority = state.priority;
        self.queues[usize::from(priority)].push_back(&mut self.threads, thread);
        self.ready |= 1 << priority;
    }

    /// Takes a thread out of its queue, if it is in one.
    pub(crate) fn unqueue(&mut self, thread: ThreadId) {
        let Some(priority) = self.threads.get(thread).map(|thread| thread.priority) else { return };
        let queue: &mut List = &mut self.queues[usize::from(priority)];
        queue.remove(&mut self.threads, thread);
        if queue.is_empty() {
            self.ready &= !(1 << priority);
        }
    }

    /// Whether a thread can go on where it is.
    fn can_run(&self, thread: ThreadId) -> bool {
        self.threads
            .get(thread)
            .is_some_and(|thread| thread.state == ThreadState::Runnable && !thread.stopped)
    }

    /// Chooses what runs next. The current thread goes on unless it cannot, or somebody more important can.
    pub(crate) fn resume(&mut self) -> Resume {
        loop {
            if let Some((status, reboot)) = self.off {
                return Resume::Off { status, reboot };
            }
            let current = self.current.filter(|thread| self.can_run(*thread));
            let best = 31u32.checked_sub(self.ready.leading_zeros());
            let mine =
                current.and_then(|thread| self.threads.get(thread)).map(|thread| u32::from(thread.priority));
            let next = match (mine, best) {
                (None, None) => {
                    self.switch(None);
                    self.arm();
                    return Resume::Idle;
                }
                (Some(mine), best) if best.is_none_or(|best| mine >= best) => current,
                (mine, Some(best)) => {
                    let next = self.queues[best as usize].pop_front(&mut self.threads);
                    if self.queues[best as usize].is_empty() {
                        self.ready &= !(1 << best);
                    }
                    if let (Some(_), Some(current)) = (mine, current) {
                        self.requeue_front(current);
                    }
                    next
                }
                (Some(_), None) => current,
            };
            let Some(next) = next else { continue };
            if !self.can_run(next) {
                if self.current == Some(next) {
                    self.switch(None);
                }
                continue;
            }
            self.switch(Some(next));
            if self.ready_to_return(next) {
                self.arm();
                return Resume::Thread(next);
            }
        }
    }

    fn requeue_front(&mut self, thread: ThreadId) {
        let Some(priority) = self.threads.get(thread).map(|thread| thread.priority) else { return };
        self.queues[usize::from(priority)].push_front(&mut self.threads, thread);
        self.ready |= 1 << priority;
    }

    /// Sees to what a program's thread has to do before it runs on. Whether it may.
    pub(crate) fn ready_to_return(&mut self, thread: ThreadId) -> bool {
        let Some(state) = self.threads.get_mut(thread) else { return false };
        if state.attention {
            return !self.call_for_attention(thread);
        }
        if state.restart != 0 {
            // Interrupted, but nobody had a reason to look: the call starts again.
            state.registers.rip = state.registers.rip.wrapping_sub(CALL_INSTRUCTION_BYTES);
            state.registers.rax = state.restart >> 8;
            state.restart = 0;
        }
        true
    }

    /// Makes another thread the current one, and accounts for the time of the last.
    fn switch(&mut self, next: Option<ThreadId>) {
        if self.current == next {
            return;
        }
        let now = self.machine.now();
        let used = now.saturating_sub(self.since);
        match self.current.and_then(|thread| self.threads.get_mut(thread)) {
            Some(thread) => {
                thread.cpu_ns += used;
                thread.slice_ns = thread.slice_ns.saturating_sub(used);
            }
            None => self.idle_ns += used,
        }
        self.since = now;
        self.switches += 1;
        self.current = next;
        if let Some(next) = next.and_then(|next| self.threads.get_mut(next))
            && next.slice_ns == 0
        {
            next.slice_ns = self.jitter.slice(SLICE_NS);
        }
    }

    /// Sets the timer for the earliest thing that needs it, if it is not set for something as early.
    fn arm(&mut self) {
        let mut deadline = self.next_deadline;
        if let Some(thread) = self.current.and_then(|thread| self.threads.get(thread))
            && self.ready & 1 << thread.priority != 0
        {
            deadline = deadline.min(self.since + thread.slice_ns);
        }
        if deadline < self.armed {
            self.armed = deadline;
            self.machine.set_timer(deadline);
        }
    }

    /// The timer went off: servers whose time has come are told, and a used-up slice ends.
    pub(crate) fn timer_tick(&mut self) {
        let now = self.machine.now();
        if now >= self.next_deadline {
            self.expire(now);
        }
        let Some(current) = self.current else { return };
        let Some(thread) = self.threads.get_mut(current) else { return };
        if now.saturating_sub(self.since) < thread.slice_ns {
            return;
        }
        thread.cpu_ns += now.saturating_sub(self.since);
        thread.slice_ns = self.jitter.slice(SLICE_NS);
        self.since = now;
        if thread.state == ThreadState::Runnable && !thread.stopped {
            self.current = None;
            self.make_ready(current);
        }
    }

    fn expire(&mut self, now: u64) {
        for index in 0..self.servers.bound() {
            let Some(server) = self.servers.at(index).and_then(|id| self.servers.get_mut(id)) else {
                continue;
            };
            if server.deadline <= now {
                server.deadline = u64::MAX;
                let task = server.task;
                self.post_bits(task, TIMER_BIT);
            }
        }
        self.find_next_deadline();
    }

    fn find_next_deadline(&mut self) {
        let servers = (0..self.servers.bound()).filter_map(|index| self.servers.get(self.servers.at(index)?));
        self.next_deadline = servers.map(|server| server.deadline).min().unwrap_or(u64::MAX);
    }

    pub(crate) fn timer_set(&mut self, task: TaskId, [deadline, ..]: [u64; 6]) -> Outcome {
        let deadline = self.jitter.deadline(deadline);
        if let Some(server) = self.server_mut(task) {
            server.deadline = deadline;
        }
        self.find_next_deadline();
        Ok([0; 5])
    }

    /// sched_yield(2): to the end of the queue.
    pub(crate) fn yield_current(&mut self, thread: ThreadId) {
        let Some(state) = self.threads.get(thread) else { return };
        if self.ready & 1 << state.priority != 0 {
            self.switch(None);
            self.make_ready(thread);
        }
    }

    /// A device's interrupt: its line stays closed until the driver acknowledges it.
    pub(crate) fn interrupt(&mut self, line: u8) {
        let Some(Some((task, bit))) = self.interrupts.get(usize::from(line)).copied() else { return };
        self.machine.enable_interrupt(line, false);
        self.post_bits(task, 1 << bit);
    }
}
