//! A server's inbox: what waits for it, in which order it is received, and who is told what about a call.
//!
//! Notification bits come first, then what there is to say about calls, then closed sessions, then new calls. Each
//! kind has its place in the object it speaks of, so nothing is ever allocated to post it and nothing can overflow.

use libipc::abi::KernelError;

use super::Kernel;
use super::arena::Id;
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
    pub server: Id<Server>,
    /// Its message buffer.
    pub buffer: FrameRange,
    /// How full its journal is, in thousandths: told with each delivery, so that it takes a snapshot in time.
    pub fill: u32,
}

impl Inbox {
    fn of(id: Id<Server>, server: &Server) -> Inbox {
        let fill = server.journal.as_ref().map_or(0, Journal::fill);
        Inbox { task: server.task, server: id, buffer: server.buffer, fill }
    }
}

impl Server {
    /// Whether nothing waits to be received.
    fn has_no_events(&self) -> bool {
        self.bits == 0
            && self.events.is_empty()
            && self.watched.is_empty()
            && self.closes.is_empty()
            && self.calls.is_empty()
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

    /// A call that this server holds.
    pub(crate) fn held_call(&self, task: TaskId, token: u64) -> Result<CallRef, KernelError> {
        let id = CallRef::from_word(token);
        match self.calls.get(id) {
            Some(call) if call.phase == Phase::Held && call.server == task => Ok(id),
            _ => Err(KernelError::NoSuchCall),
        }
    }

    /// Tells a call's holder something; a call in a queue only keeps the mark.
    pub(crate) fn signal_holder(&mut self, id: CallRef, what: u8) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.signals |= what;
        if call.phase != Phase::Held {
            return;
        }
        let task = call.server;
        self.post_event(task, id);
    }

    /// Puts a call with something to say into a server's inbox.
    pub(crate) fn post_event(&mut self, task: TaskId, id: CallRef) {
        let Some(server) = self.tasks.get(task).and_then(|task| task.server) else { return };
        if let Some(server) = self.servers.get_mut(server) {
            server.events.push_back(&mut self.calls, id);
        }
        self.wake_server(task);
    }

    /// Posts notification bits.
    pub(crate) fn post_bits(&mut self, task: TaskId, bits: u64) {
        if let Some(server) = self.server_mut(task) {
            server.bits |= bits;
            self.wake_server(task);
        }
    }

    /// Puts a call into its server's queue, or straight into its hands.
    pub(crate) fn enqueue_call(&mut self, id: CallRef) {
        let Some(call) = self.calls.get_mut(id) else { return };
        call.phase = Phase::Queued;
        let task = call.server;
        let Some(index) = self.tasks.get(task).and_then(|task| task.server) else { return };
        let Some(server) = self.servers.get_mut(index) else { return };
        if server.state == ServerState::Gone {
            return self.fail_call(id);
        }
        if !server.waiting || !server.has_no_events() {
            server.calls.push_back(&mut self.calls, id);
            return self.wake_server(task);
        }
        let inbox = Inbox::of(index, server);
        // What a delivery makes come to this same server waits behind it.
        server.waiting = false;
        if self.deliver_call(&inbox, id) == Delivered::Yes {
            self.delivered(&inbox);
        } else {
            self.waits(index);
        }
    }

    /// A server waits, unless something has come for it already.
    fn waits(&mut self, id: Id<Server>) {
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.state == ServerState::Alive {
            server.waiting = true;
            let task = server.task;
            self.wake_server(task);
        }
    }

    /// A waiting server has an event in its message buffer: it is recorded, and the server runs.
    fn delivered(&mut self, inbox: &Inbox) {
        self.record_delivery(inbox);
        if let Some(thread) = self.servers.get(inbox.server).and_then(|server| server.thread) {
            self.make_ready(thread);
        }
    }

    /// Gives a waiting server the next event, if there is one.
    pub(crate) fn wake_server(&mut self, task: TaskId) {
        let Some(id) = self.tasks.get(task).and_then(|task| task.server) else { return };
        let Some(server) = self.servers.get_mut(id) else { return };
        if !server.waiting || server.has_no_events() {
            return;
        }
        server.waiting = false;
        match self.deliver_next(task) {
            Some(inbox) => self.delivered(&inbox),
            None => self.waits(id),
        }
    }

    /// The receive half of a system call: takes the next event or waits.
    pub(crate) fn receive(&mut self, thread: ThreadId, task: TaskId) {
        if let Some(inbox) = self.deliver_next(task) {
            self.record_delivery(&inbox);
            return;
        }
        if let Some(state) = self.threads.get_mut(thread) {
            state.state = ThreadState::Receiving;
        }
        if let Some(server) = self.server_mut(task) {
            server.waiting = true;
        }
    }

    /// Delivers one event into the server's message buffer, if there is one.
    fn deliver_next(&mut self, task: TaskId) -> Option<Inbox> {
        let id = self.tasks.get(task)?.server?;
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
