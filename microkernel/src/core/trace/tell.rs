//! What is told, by those who do it: one function for each, which does nothing while tracing is off.

use super::*;

/// Arguments of a program's call, and where it goes.
fn linux(number: u32, to: u64, words: [u64; 6]) -> [u64; 7] {
    let [a, b, c, d, e, f] = words;
    [u64::from(number) | to << 32, a, b, c, d, e, f]
}

/// A record's header with nothing in it but what it is.
const fn plain(number: u16, values: u8) -> u64 {
    Header { number, error: 0, values, payload: 0 }.pack()
}

/// The call that a server handles which has received this; of an answer, that is not told here.
fn call_of(delivery: &Delivery) -> u64 {
    match Kind::from_number(delivery.kind) {
        Some(Kind::Answer | Kind::Notify | Kind::LastClose | Kind::Watched) | None => 0,
        Some(_) => delivery.token,
    }
}

impl<M: Machine> Kernel<M> {
    /// A program's call has become a call object.
    #[inline]
    pub(crate) fn trace_linux(&mut self, id: CallRef) {
        if self.trace.is_on() {
            self.tell_linux(id);
        }
    }

    fn tell_linux(&mut self, id: CallRef) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let (number, thread, server) = (call.number, call.thread, call.server);
        let who = self.who(thread);
        let Some(call) = self.calls.get_mut(id) else { return };
        (call.cause, call.origin) = (0, who & u64::from(u32::MAX) | u64::from(number) << 32);
        let words = thread.and_then(|thread| self.threads.get(thread)).map(Thread::arguments);
        let (head, to) = (Head::event(Event::Linux, who, id.to_word(), 0), self.number_of(server));
        if self.passes(&head, to) {
            self.tell(head, &linux(number, queued(to), words.unwrap_or_default()), &[]);
        }
    }

    /// The kernel has answered a program's call by itself.
    #[inline]
    pub(crate) fn trace_answered(&mut self, thread: ThreadId, number: u32, words: [u64; 6], result: i64) {
        if self.trace.is_on() {
            let head = Head::event(Event::Linux, self.who(Some(thread)), 0, 0);
            let process = Who::from_word(head.who);
            let Who::Program { pid, .. } = process else { return };
            let filter = &self.trace.filter;
            if filter.passes_servers([0; 2]) && filter.passes_origin(pid, Some(number)) {
                self.tell_all(head, &linux(number, 0, words), &[result as u64], &[]);
            }
        }
    }

    /// The kernel ends a call with a result.
    #[inline]
    pub(crate) fn trace_result(&mut self, id: CallRef, result: i64) {
        if self.trace.is_on()
            && let Some(call) = self.calls.get(id)
        {
            let (cause, to) = (call.cause, call.server);
            let who = self.who(call.thread);
            self.tell_call(Event::Result, who, id, cause, self.number_of(to), &[result as u64]);
        }
    }

    fn tell_call(&mut self, event: Event, who: u64, id: CallRef, cause: u64, to: u32, words: &[u64]) {
        let head = Head::event(event, who, id.to_word(), cause);
        if self.passes(&head, to) {
            self.tell(head, words, &[]);
        }
    }

    /// A server's system call is over that was not answered from its journal. Messages that went well have been told.
    #[inline]
    pub(crate) fn trace_native(&mut self, call: Syscall, a: &[u64; 6], outcome: &Outcome) {
        if self.trace.is_on() && (outcome.is_err() || !is_message(call)) {
            self.tell_native(call, a, outcome);
        }
    }

    fn tell_native(&mut self, call: Syscall, a: &[u64; 6], outcome: &Outcome) {
        let (error, values): (u8, &[u64]) = match outcome {
            Ok(values) if *values == [0; 5] => (0, &[]),
            Ok(values) => (0, values),
            Err(error) => (*error as u8, &[]),
        };
        let (who, cause) = self.acting();
        let head = Head { number: call as u16, error, who, call: token(call, a), cause };
        if self.passes(&head, 0) {
            self.tell_all(head, &a[..call.row().arguments.len()], values, &[]);
        }
    }

    /// A server's message is about to be queued.
    #[inline]
    pub(crate) fn trace_message(&mut self, by: Caller, call: Syscall, a: &[u64; 6], id: CallRef) {
        if self.trace.is_on() {
            self.tell_message(by, call, a, id);
        }
    }

    fn tell_message(&mut self, by: Caller, call: Syscall, a: &[u64; 6], id: CallRef) {
        let (who, cause) = self.acting();
        let origin = self.calls.get(CallRef::from_word(cause)).map_or(0, |call| call.origin);
        let Some(state) = self.calls.get_mut(id) else { return };
        (state.cause, state.origin) = (cause, origin);
        let to = state.server;
        let info = Info::unpack(a[1]);
        self.tell_sent(
            by,
            Head { number: call as u16, error: 0, who, call: id.to_word(), cause },
            to,
            a,
            info,
        );
    }

    fn tell_sent(&mut self, by: Caller, head: Head, to: ServerId, a: &[u64; 6], info: Info) {
        let to = self.number_of(to);
        if self.passes(&head, to) {
            let payload = self.message_payload(by.task, info.payload_len);
            let length = info.payload_len.min(PAYLOAD_KEPT) as usize;
            self.tell_all(head, a, &[queued(to)], &payload[..length]);
        }
    }

    /// A server is about to hand a call on.
    #[inline]
    pub(crate) fn trace_forward(&mut self, task: TaskId, a: &[u64; 6], to: ServerId) {
        if self.trace.is_on()
            && let Some(server) = self.server_of(task)
            && let Some(thread) = self.current
        {
            let (who, cause) = self.acting();
            let head = Head { number: Syscall::Forward as u16, error: 0, who, call: a[0], cause };
            let info = if a[2] == u64::MAX { Info::default() } else { Info::unpack(a[2]) };
            self.tell_sent(Caller { thread, task, server }, head, to, a, info);
        }
    }

    /// A server's answer is about to take effect.
    #[inline]
    pub(crate) fn trace_answer(&mut self, by: Caller, call: Syscall, a: &[u64; 6]) {
        if self.trace.is_on() {
            let (who, cause) = self.acting();
            let head = Head { number: call as u16, error: 0, who, call: a[0], cause };
            if self.passes(&head, 0) {
                let length = if call == Syscall::Reply { Info::unpack(a[1]).payload_len } else { 0 };
                let payload = self.message_payload(by.task, length);
                self.tell(head, a, &payload[..length.min(PAYLOAD_KEPT) as usize]);
            }
        }
    }

    /// A server posts notification bits.
    #[inline]
    pub(crate) fn trace_notify(&mut self, a: [u64; 2]) {
        if self.trace.is_on() {
            let (who, cause) = self.acting();
            let head = Head { number: Syscall::Notify as u16, error: 0, who, call: 0, cause };
            if self.passes(&head, 0) {
                self.tell(head, &a, &[]);
            }
        }
    }

    /// The kernel posts notification bits.
    #[inline]
    pub(crate) fn trace_notified(&mut self, to: ServerId, bits: u64) {
        if self.trace.is_on() {
            let (head, to) = (Head::event(Event::Notified, 0, 0, 0), self.number_of(to));
            if self.passes(&head, to) {
                self.tell(head, &[u64::from(to), bits], &[]);
            }
        }
    }

    /// An answer is being delivered: the server goes on with what it had sent the call for.
    #[inline]
    pub(crate) fn trace_returns(&mut self, id: CallRef) {
        if self.trace.is_on() {
            self.trace.answer = (id.to_word(), self.calls.get(id).map_or(0, |call| call.cause));
        }
    }

    /// A server has an event in its message buffer.
    #[inline]
    pub(crate) fn trace_delivered(&mut self, inbox: &Inbox) {
        if self.trace.is_on() {
            self.tell_delivered(inbox);
        }
    }

    fn tell_delivered(&mut self, inbox: &Inbox) {
        let Some(delivery) = Self::delivery(&mut self.machine, inbox.buffer) else { return };
        let delivery: Delivery = *delivery;
        let kind = Kind::from_number(delivery.kind);
        let (call, handling) = match (kind, call_of(&delivery)) {
            (Some(Kind::Answer), _) => core::mem::take(&mut self.trace.answer),
            (_, call) => (call, call),
        };
        if let Some(thread) = self.thread_of(inbox.server) {
            thread.handling = handling;
        }
        let cause = match kind {
            Some(Kind::Answer) => handling,
            _ => self.calls.get(CallRef::from_word(call)).map_or(0, |call| call.cause),
        };
        let head = Head::event(Event::Delivered, self.who_serves(inbox.server), call, cause);
        if !self.passes(&head, 0) {
            return;
        }
        let lengths = match kind {
            Some(Kind::Foreign) => u64::from(delivery.inputs[0]) | u64::from(delivery.inputs[1]) << 32,
            _ => u64::from(delivery.payload_len) | u64::from(INPUT_NULL) << 32,
        };
        let badge = if kind == Some(Kind::Answer) { delivery.token } else { delivery.badge };
        let what = u64::from(delivery.kind) | u64::from(delivery.label) << 32;
        let words = match kind {
            Some(Kind::LastClose) => [u64::from(delivery.owner), 0],
            _ => [delivery.words[0], delivery.words[1]],
        };
        let payload = self.message_payload(inbox.task, delivery.payload_len);
        let length = delivery.payload_len.min(PAYLOAD_KEPT) as usize;
        self.tell(head, &[what, badge, words[0], words[1], lengths], &payload[..length]);
    }

    /// A server that is answered from its journal is at a delivery again, which is not told.
    #[inline]
    pub(crate) fn trace_again(&mut self, id: ServerId) {
        if self.trace.is_on()
            && let Some(server) = self.servers.get(id)
            && let Some(delivery) = Self::delivery(&mut self.machine, server.buffer)
        {
            let call = call_of(delivery);
            if let Some(thread) = self.thread_of(id) {
                thread.handling = call;
            }
        }
    }

    /// A thread has faulted, or a page is missing for a call.
    #[inline]
    pub(crate) fn trace_fault(&mut self, id: CallRef) {
        if self.trace.is_on() {
            self.tell_fault(id);
        }
    }

    fn tell_fault(&mut self, id: CallRef) {
        let Some(call) = self.calls.get(id) else { return };
        let (kind, [address, access, instruction, _]) = (call.label, call.words);
        let (parent, thread, to) = (call.parent, call.thread, self.number_of(call.server));
        let who = self.who(thread);
        let origin = parent.and_then(|parent| self.calls.get(parent)).map(|parent| parent.origin);
        let cause = parent.map_or(0, |parent| parent.to_word());
        let Some(call) = self.calls.get_mut(id) else { return };
        (call.cause, call.origin) = (cause, origin.unwrap_or(who & u64::from(u32::MAX) | NO_CALL));
        let words = [u64::from(kind), address, access, instruction, queued(to)];
        self.tell_call(Event::Fault, who, id, cause, to, &words);
    }

    /// A thread comes to its process server.
    #[inline]
    pub(crate) fn trace_attention(&mut self, id: CallRef) {
        if self.trace.is_on()
            && let Some(call) = self.calls.get(id)
        {
            let [restart, occasion, ..] = call.words;
            let (who, to) = (self.who(call.thread), self.number_of(call.server));
            if let Some(call) = self.calls.get_mut(id) {
                (call.cause, call.origin) = (0, who & u64::from(u32::MAX) | NO_CALL);
            }
            self.tell_call(Event::Attention, who, id, 0, to, &[occasion, restart, queued(to)]);
        }
    }

    /// Something becomes of a call that nobody has answered: it is withdrawn, forgotten, or delivered again.
    #[inline]
    pub(crate) fn trace_call(&mut self, event: Event, id: CallRef) {
        if self.trace.is_on()
            && let Some(call) = self.calls.get(id)
        {
            let to = self.number_of(call.server);
            let word = match event {
                Event::Redelivered => queued(to),
                _ => u64::from(call.phase == Phase::Held),
            };
            let (who, cause) = self.acting();
            self.tell_call(event, who, id, cause, to, &[word]);
        }
    }

    /// Something becomes of a process or a thread.
    #[inline]
    pub(crate) fn trace_life(&mut self, event: Event, task: TaskId, rest: &[u64]) {
        if self.trace.is_on() {
            let pid = self.tasks.get(task).map_or(0, Task::pid);
            let (who, cause) = self.acting();
            let head = Head::event(event, who, 0, cause);
            if self.passes(&head, 0) {
                let mut words = [u64::from(pid), 0, 0];
                words[1..=rest.len()].copy_from_slice(rest);
                self.tell(head, &words[..=rest.len()], &[]);
            }
        }
    }

    /// Something becomes of a server. It is told whatever the filter is.
    #[inline]
    pub(crate) fn trace_server(&mut self, event: Event, id: ServerId, rest: &[u64]) {
        if self.trace.is_on() {
            if let Some(thread) = self.thread_of(id).filter(|_| event == Event::ServerStarted) {
                thread.handling = 0;
            }
            let mut words = [u64::from(self.number_of(id)), 0, 0, 0, 0];
            words[1..=rest.len()].copy_from_slice(rest);
            let (who, cause) = self.acting();
            self.tell(Head::event(event, who, 0, cause), &words[..=rest.len()], &[]);
        }
    }
}

/// The short way's records: everything is at hand, and nothing is filtered.
impl Trace {
    /// A server's call of another, which runs with it at once: who calls whom.
    #[inline(always)]
    pub(crate) fn note_call(&mut self, by: &Thread, (next, to): (&mut Thread, u32), id: CallRef, now: u64) {
        next.handling = id.to_word();
        self.ring.append(now, || {
            let header = const { plain(Syscall::Call as u16, 1) };
            let [a, b, c, d, e, f] = by.arguments();
            let to = u64::from(to) | To::AT_ONCE;
            [header, now, by.who, id.to_word(), by.handling, a, b, c, d, e, f, to]
        });
    }

    /// A server's answer to such a call, or to a program's.
    #[inline(always)]
    pub(crate) fn note_answer(&mut self, call: Syscall, by: &Thread, now: u64) {
        self.ring.append(now, || {
            let [a, b, c, d, e, f] = by.arguments();
            [plain(call as u16, 0), now, by.who, a, by.handling, a, b, c, d, e, f]
        });
    }

    /// A program's call, with which a server runs at once; so many bytes of input are in its message buffer.
    #[inline(always)]
    pub(crate) fn note_linux<M: Machine>(
        &mut self,
        machine: &mut M,
        by: &Thread,
        (next, to): (&mut Thread, &Server),
        id: CallRef,
        (number, input): (u32, u32),
        now: u64,
    ) {
        let id = id.to_word();
        next.handling = id;
        let to_word = u64::from(to.number) | To::AT_ONCE;
        if input > 0 {
            let header =
                Header { number: Event::Linux as u16, error: 0, values: 0, payload: input.min(PAYLOAD_KEPT) };
            let length = u64::from(header.payload);
            let payload = machine.bytes(to.buffer, u64::from(PAYLOAD_OFFSET), length);
            let head = [header.pack(), now, by.who, id, 0];
            return self.ring.append_with(now, &head, &linux(number, to_word, by.arguments()), payload);
        }
        self.ring.append(now, || {
            let header = const { plain(Event::Linux as u16, 0) };
            let [first, a, b, c, d, e, f] = linux(number, to_word, by.arguments());
            [header, now, by.who, id, 0, first, a, b, c, d, e, f]
        });
    }

    /// A program's call that the kernel answers from a word.
    #[inline(always)]
    pub(crate) fn note_word<M: Machine>(
        &mut self,
        machine: &mut M,
        by: &Thread,
        (number, result): (u32, u64),
    ) {
        let now = machine.now();
        self.ring.append(now, || {
            let header = const { plain(Event::Linux as u16, 1) };
            let [first, a, b, c, d, e, f] = linux(number, 0, by.arguments());
            [header, now, by.who, 0, 0, first, a, b, c, d, e, f, result]
        });
    }

    /// A server's call of nothing.
    #[inline(always)]
    pub(crate) fn note_null<M: Machine>(&mut self, machine: &mut M, by: &Thread) {
        let now = machine.now();
        self.ring.append(now, || {
            let header = const { plain(Syscall::Null as u16, 5) };
            [header, now, by.who, 0, by.handling, ABI_VERSION, 0, 0, 0, 0]
        });
    }
}
