//! A server's inbox: what waits for it, in which order it is received, and who is told what about a call.
//!
//! Notification bits come first, then what there is to say about calls, then closed sessions, then new calls. Each
//! kind has its place in the object it speaks of, so nothing is ever allocated to post it and nothing can overflow.

use libipc::abi::KernelError;
use libipc::abi::trace::Event;

use super::Kernel;
use super::arena::List;
use super::ipc::Caller;
use super::journal::Journal;
use super::machine::Machine;
use super::object::*;

/// Whether an attempt to deliver brought something into the server's message buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delivered {
    Yes,
    No,
}

/// Where a delivery goes.
pub(crate) struct Inbox {
    /// The server's task.
    pub task: TaskId,
    /// The server.
    pub server: ServerId,
    /// Its message buffer.
    pub buffer: FrameRange,
    /// How full its journal is, see [`Journal::fill`]: told with each delivery, so that it takes a snapshot in time.
    pub fill: u32,
}

impl Inbox {
    fn of(id: ServerId, server: &Server) -> Inbox {
        Inbox { task: server.task, server: id, buffer: server.buffer, fill: server.fill() }
    }
}

impl Server {
    /// How full its journal is, in thousandths.
    #[inline]
    pub(crate) fn fill(&self) -> u32 {
        self.journal.as_ref().map_or(0, Journal::fill)
    }

    /// Whether nothing waits to be received.
    #[inline]
    pub(crate) fn has_no_events(&self) -> bool {
        self.bits == 0 && List::are_empty([&self.events, &self.watched, &self.closes, &self.calls])
    }
}

impl<M: Machine> Kernel<M> {
    /// The server that a task is.
    pub(crate) fn server(&self, task: TaskId) -> Option<&Server> {
        self.servers.get(self.tasks.get(task)?.server?)
    }

    /// The server that a task is, to be changed.
    pub(crate) fn server_mut(&mut self, task: TaskId) -> Option<&mut Server> {
        self.servers.get_mut(self.tasks.get(task)?.server?)
    }

    /// The message buffer of a native task.
    pub(crate) fn payload_of(&self, task: TaskId) -> Option<FrameRange> {
        self.server(task).map(|server| server.buffer).filter(|buffer| buffer.count > 0)
    }

    /// A call that the server which this task is holds.
    pub(crate) fn held_call(&self, task: TaskId, token: u64) -> Result<CallRef, KernelError> {
        let server = self.server_of(task).ok_or(KernelError::NoSuchCall)?;
        self.call_held_by(server, token)
    }

    /// A call that this server holds.
    pub(crate) fn call_held_by(&self, server: ServerId, token: u64) -> Result<CallRef, KernelError> {
        let id = CallRef::from_word(token);
        match self.calls.get(id) {
            Some(call) if call.phase == Phase::Held && call.server == server => Ok(id),
            _ => Err(KernelError::NoSuchCall),
        }
    }

    /// The name of the server that a task is.
    pub(crate) fn server_of(&self, task: TaskId) -> Option<ServerId> {
        self.tasks.get(task)?.server
    }

    /// Tells a call's holder something; a call in a queue only keeps the mark.
    pub(crate) fn signal_holder(&mut self, id: CallRef, what: u8) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.signals |= what;
        if call.phase != Phase::Held {
            return;
        }
        let server = call.server;
        if what == signal::CANCEL {
            self.trace_call(Event::Cancelled, id);
        }
        self.post_event(server, id);
    }

    /// Puts a call with something to say into a server's inbox.
    pub(crate) fn post_event(&mut self, to: ServerId, id: CallRef) {
        if let Some(server) = self.servers.get_mut(to) {
            server.events.push_back(&mut self.calls, id);
        }
        self.wake_server(to);
    }

    /// Posts notification bits.
    pub(crate) fn post_bits(&mut self, to: ServerId, bits: u64) {
        if let Some(server) = self.servers.get_mut(to) {
            server.bits |= bits;
            self.wake_server(to);
        }
    }

    /// Puts a call into its server's queue, or straight into its hands.
    pub(crate) fn enqueue_call(&mut self, id: CallRef) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.phase = Phase::Queued;
        let to = call.server;
        let Some(server) = self.servers.get_mut(to).filter(|server| server.state != ServerState::Gone) else {
            return self.fail_call(id);
        };
        if !server.waiting || !server.has_no_events() {
            server.calls.push_back(&mut self.calls, id);
            return self.wake_server(to);
        }
        let inbox = Inbox::of(to, server);
        // What a delivery makes come to this same server waits behind it.
        server.waiting = false;
        if self.deliver_call(&inbox, id) == Delivered::Yes {
            self.delivered(&inbox);
        } else {
            self.waits(to);
        }
    }

    /// A server waits, unless something has come for it already.
    fn waits(&mut self, id: ServerId) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.state == ServerState::Alive {
            server.waiting = true;
            self.wake_server(id);
        }
    }

    /// A waiting server has an event in its message buffer: it is recorded, and the server runs.
    fn delivered(&mut self, inbox: &Inbox) {
        self.trace_delivered(inbox);
        self.record_delivery(inbox);
        if let Some(thread) = self.servers.get(inbox.server).and_then(|server| server.thread) {
            self.make_ready(thread);
        }
    }

    /// Gives a waiting server the next event, if there is one.
    pub(crate) fn wake_server(&mut self, id: ServerId) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if !server.waiting || server.has_no_events() {
            return;
        }
        server.waiting = false;
        match self.deliver_next(id) {
            Some(inbox) => self.delivered(&inbox),
            None => self.waits(id),
        }
    }

    /// The receive half of a system call: takes the next event or waits.
    pub(crate) fn receive(&mut self, by: Caller) {
        if self.upgrade.is_some() && self.upgrade_receives(by.server) {
            return;
        }
        if self.servers.get(by.server).is_some_and(|server| server.died_ns.is_some()) {
            self.is_back(by.server);
        }
        let Some(state) = self.threads.get_mut(by.thread) else { return };
        state.registers.rax = 0;
        let Some(server) = self.servers.get_mut(by.server) else { return };
        if server.has_no_events() {
            server.waiting = true;
            state.state = ThreadState::Receiving;
            return;
        }
        if let Some(inbox) = self.deliver_next(by.server) {
            self.trace_delivered(&inbox);
            return self.record_delivery(&inbox);
        }
        // What seemed to have come was of no account.
        if let Some(state) = self.threads.get_mut(by.thread) {
            state.state = ThreadState::Receiving;
        }
        if let Some(server) = self.servers.get_mut(by.server) {
            server.waiting = true;
        }
    }

    /// Delivers one event into the server's message buffer, if there is one.
    fn deliver_next(&mut self, id: ServerId) -> Option<Inbox> {
        loop {
            let server = self.servers.get_mut(id)?;
            if server.buffer.count == 0 {
                return None;
            }
            let inbox = Inbox::of(id, server);
            let delivered = if server.bits != 0 {
                let bits = core::mem::take(&mut server.bits);
                self.deliver_bits(&inbox, bits);
                Delivered::Yes
            } else if let Some(call) = server.events.pop_front(&mut self.calls) {
                self.deliver_event(&inbox, call)
            } else if let Some(watch) = server.watched.pop_front(&mut self.watchers) {
                self.deliver_watched(&inbox, watch)
            } else if let Some(session) = server.closes.pop_front(&mut self.sessions) {
                self.deliver_close(&inbox, session)
            } else if let Some(call) = server.calls.pop_front(&mut self.calls) {
                self.deliver_call(&inbox, call)
            } else {
                return None;
            };
            if delivered == Delivered::Yes {
                return Some(inbox);
            }
        }
    }
}
