//! Who runs: fixed priorities, round robin within one, and the one timer that serves slices and servers' deadlines.

use libipc::server::TIMER_BIT;

use super::arena::List;
use super::machine::Machine;
use super::object::*;
use super::watchdog::PERIOD_NS;
use super::{Kernel, Outcome, Resume};

/// How long a program runs before its equals get a turn.
pub(crate) const SLICE_NS: u64 = 10_000_000;
/// Bytes of a system call instruction, for calls that start again.
const CALL_INSTRUCTION_BYTES: u64 = 2;

impl<M: Machine> Kernel<M> {
    /// Makes a runnable thread wait for its turn: as the chosen one if nobody as important waits, else in its queue.
    pub(crate) fn make_ready(&mut self, thread: ThreadId) {
        let Some(state) = self.threads.get_mut(thread) else { return };
        if state.state == ThreadState::Receiving {
            state.state = ThreadState::Runnable;
        }
        if !state.is_runnable() || state.link.is_listed() || self.current == Some(thread) {
            return;
        }
        let priority = state.priority;
        match self.chosen {
            None if self.ready >> priority == 0 => self.chosen = Some((thread, priority)),
            Some((chosen, _)) if chosen == thread => {}
            Some((chosen, lower)) if lower < priority => {
                self.chosen = Some((thread, priority));
                self.enqueue_first(chosen, lower);
            }
            _ => self.enqueue(thread, priority),
        }
    }

    fn enqueue(&mut self, thread: ThreadId, priority: u8) {
        self.queues[usize::from(priority)].push_back(&mut self.threads, thread);
        self.ready |= 1 << priority;
    }

    /// Takes a thread out of those that wait for their turn, if it is among them.
    pub(crate) fn unqueue(&mut self, thread: ThreadId) {
        if self.chosen.is_some_and(|(chosen, _)| chosen == thread) {
            self.chosen = None;
            return;
        }
        let Some(priority) = self.threads.get(thread).map(|thread| thread.priority) else { return };
        let queue: &mut List = &mut self.queues[usize::from(priority)];
        queue.remove(&mut self.threads, thread);
        if queue.is_empty() {
            self.ready &= !(1 << priority);
        }
    }

    /// The thread whose turn it is, and its priority.
    #[inline]
    pub(crate) fn next_ready(&self) -> Option<(ThreadId, u8)> {
        if self.chosen.is_some() {
            return self.chosen;
        }
        let priority = 31u8.checked_sub(self.ready.leading_zeros() as u8)?;
        self.queues[usize::from(priority)].first(&self.threads).map(|first| (first, priority))
    }

    /// Takes the thread whose turn it is.
    #[inline]
    pub(crate) fn take_next(&mut self) -> Option<ThreadId> {
        if let Some((chosen, _)) = self.chosen.take() {
            return Some(chosen);
        }
        let priority = 31u32.checked_sub(self.ready.leading_zeros())?;
        let queue = &mut self.queues[priority as usize];
        let next = queue.pop_front(&mut self.threads);
        if queue.is_empty() {
            self.ready &= !(1 << priority);
        }
        next
    }

    /// Chooses what runs next. The current thread goes on unless it cannot, or somebody more important can. `ready`
    /// says which queues had somebody waiting when the kernel was entered.
    pub(crate) fn resume(&mut self, ready: u32) -> Resume {
        loop {
            if let Some((status, reboot)) = self.off {
                return Resume::Off { status, reboot };
            }
            let current = self.current.and_then(|id| {
                let thread = self.threads.get(id)?;
                thread.is_runnable().then_some((id, thread.priority))
            });
            let waiting = match self.chosen {
                Some((_, priority)) => Some(priority),
                None => 31u8.checked_sub(self.ready.leading_zeros() as u8),
            };
            let (next, priority) = match (current, waiting) {
                (Some(current), waiting) if waiting.is_none_or(|waiting| current.1 >= waiting) => current,
                (_, None) => {
                    self.switch(None);
                    self.arm(None);
                    return Resume::Idle;
                }
                (current, Some(priority)) => {
                    let Some(next) = self.take_next() else { continue };
                    if let Some((current, priority)) = current {
                        self.enqueue_first(current, priority);
                    }
                    (next, priority)
                }
            };
            let goes_on = self.current == Some(next);
            if !goes_on {
                self.switch(Some(next));
            }
            if self.ready_to_return(next) {
                let as_before = goes_on && self.ready == ready && self.chosen.is_none();
                if !as_before || self.next_deadline < self.armed || self.doomed > 0 {
                    self.arm(Some(priority));
                }
                return Resume::Thread(next);
            }
        }
    }

    /// Lets a thread run on that has something left of its slice: before all others of its priority.
    pub(crate) fn go_on(&mut self, thread: ThreadId) {
        let Some(state) = self.threads.get(thread) else { return };
        if !state.is_runnable() || state.link.is_listed() || self.current == Some(thread) {
            return;
        }
        let priority = state.priority;
        match self.chosen {
            None if self.ready >> priority <= 1 => self.chosen = Some((thread, priority)),
            Some((chosen, _)) if chosen == thread => {}
            Some((chosen, lower)) if lower <= priority => {
                self.chosen = Some((thread, priority));
                self.enqueue_first(chosen, lower);
            }
            _ => self.enqueue_first(thread, priority),
        }
    }

    fn enqueue_first(&mut self, thread: ThreadId, priority: u8) {
        self.queues[usize::from(priority)].push_front(&mut self.threads, thread);
        self.ready |= 1 << priority;
    }

    /// Whether the thread that was running can run on without a look at anybody else. `ready` says which queues had
    /// somebody waiting when the kernel was entered.
    pub(crate) fn runs_on(&self, thread: ThreadId, ready: u32) -> bool {
        if self.chosen.is_some() || self.ready != ready || self.current != Some(thread) {
            return false;
        }
        let Some(state) = self.threads.get(thread) else { return false };
        state.is_runnable()
            && state.attention.is_empty()
            && state.restart == 0
            && self.next_deadline >= self.armed
            && self.off.is_none()
    }

    /// Sees to what a program's thread has to do before it runs on. Whether it may.
    pub(crate) fn ready_to_return(&mut self, thread: ThreadId) -> bool {
        let Some(state) = self.threads.get_mut(thread) else { return false };
        if !state.attention.is_empty() {
            return self.attend(thread);
        }
        if state.restart != 0 {
            return self.begin_again(thread);
        }
        true
    }

    /// A thread whose call was interrupted without anybody having a reason to look makes it again.
    pub(crate) fn begin_again(&mut self, thread: ThreadId) -> bool {
        let Some(state) = self.threads.get_mut(thread) else { return false };
        if state.restart != 0 {
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
        if self.doomed > 0 {
            self.age(used);
        }
        match self.current.and_then(|thread| self.threads.get_mut(thread)) {
            Some(thread) => {
                thread.cpu_ns += used;
                thread.slice_ns = thread.slice_ns.saturating_sub(used);
            }
            None => {
                self.idle_ns += used;
                self.begin_watch(now);
            }
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

    /// Sets the timer for the earliest thing that needs it, if it is not set for something as early. `running` is the
    /// priority of the thread that runs next.
    pub(crate) fn arm(&mut self, running: Option<u8>) {
        let mut deadline = self.next_deadline;
        if let Some(priority) = running
            && self.has_equals(priority)
            && let Some(thread) = self.current.and_then(|thread| self.threads.get(thread))
        {
            deadline = deadline.min(self.since + thread.slice_ns);
        }
        let since = self.since;
        if self.doomed > 0
            && let Some((_, left)) = self.time_left()
        {
            deadline = deadline.min(since.saturating_add(*left));
        }
        if deadline < self.armed {
            self.armed = deadline;
            self.machine.set_timer(deadline);
        }
    }

    /// Whether somebody as important as the current thread waits for a turn.
    pub(crate) fn has_equals(&self, priority: u8) -> bool {
        self.ready & 1 << priority != 0 || self.chosen.is_some_and(|(_, chosen)| chosen == priority)
    }

    /// The timer went off: servers whose time has come are told, and a used-up slice ends.
    pub(crate) fn timer_tick(&mut self) {
        let now = self.machine.now();
        if now >= self.next_deadline {
            self.expire(now);
        }
        if self.doomed > 0 {
            self.strike_in_time(now.saturating_sub(self.since));
        }
        let Some(current) = self.current else { return };
        let Some(thread) = self.threads.get_mut(current) else { return };
        if now.saturating_sub(self.since) < thread.slice_ns {
            return;
        }
        thread.cpu_ns += now.saturating_sub(self.since);
        thread.slice_ns = self.jitter.slice(SLICE_NS);
        let used = now.saturating_sub(core::mem::replace(&mut self.since, now));
        if self.doomed > 0 {
            self.age(used);
        }
        let Some(thread) = self.threads.get(current) else { return };
        if thread.is_runnable() {
            self.current = None;
            self.make_ready(current);
        }
    }

    fn expire(&mut self, now: u64) {
        if now >= self.next_watch {
            self.watch_current(now);
            self.next_watch = if self.current.is_some() { now + PERIOD_NS } else { u64::MAX };
        }
        if now >= self.next_account {
            self.look_at_calls(now);
        }
        for index in 0..self.servers.bound() {
            let Some(id) = self.servers.at(index) else { continue };
            let Some(server) = self.servers.get_mut(id) else { continue };
            if server.deadline <= now {
                server.deadline = u64::MAX;
                self.trace_notified(id, TIMER_BIT);
                self.post_bits(id, TIMER_BIT);
            }
        }
        self.find_next_deadline();
    }

    fn find_next_deadline(&mut self) {
        let servers = (0..self.servers.bound()).filter_map(|index| self.servers.get(self.servers.at(index)?));
        let earliest = servers.map(|server| server.deadline).min().unwrap_or(u64::MAX);
        self.next_deadline = earliest.min(self.next_watch).min(self.next_account);
    }

    pub(crate) fn timer_set(&mut self, task: TaskId, [deadline, ..]: [u64; 6]) -> Outcome {
        let deadline = self.jitter.deadline(deadline);
        if let Some(server) = self.server_of(task) {
            self.note_timer(server, deadline);
            self.set_deadline(server, deadline);
        }
        Ok([0; 5])
    }

    pub(crate) fn set_deadline(&mut self, id: ServerId, deadline: u64) {
        if let Some(server) = self.servers.get_mut(id) {
            server.deadline = deadline;
        }
        self.find_next_deadline();
    }

    /// sched_yield(2): to the end of the queue.
    pub(crate) fn yield_current(&mut self, thread: ThreadId) {
        let Some(state) = self.threads.get(thread) else { return };
        if self.has_equals(state.priority) {
            self.switch(None);
            self.make_ready(thread);
        }
    }

    /// A device's interrupt: its line stays closed until the driver acknowledges it.
    pub(crate) fn interrupt(&mut self, line: u8) {
        let Some(Some((task, bit))) = self.interrupts.get(usize::from(line)).copied() else { return };
        self.machine.enable_interrupt(line, false);
        self.trace_notified(task, 1 << bit);
        self.post_bits(task, 1 << bit);
    }
}
