//! A server's inbox: what waits for it, in which order it is received, and who is told what about a call.
//!
//! Notification bits come first, then what there is to say about calls, then closed sessions, then new calls. Each
//! kind has its place in the object it speaks of, so nothing is ever allocated to post it and nothing can overflow.

use libipc::abi::KernelError;
use libipc::abi::syscall::Syscall;

use super::Kernel;
use super::machine::Machine;
use super::object::*;

/// Whether an attempt to deliver brought something into the server's message buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delivered {
    Yes,
    No,
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
        let Some(server) = self.tasks.get(task).and_then(|task| task.server) else { return };
        if let Some(server) = self.servers.get_mut(server) {
            server.calls.push_back(&mut self.calls, id);
        }
        self.wake_server(task);
    }

    /// Gives a waiting server the next event, if there is one.
    pub(crate) fn wake_server(&mut self, task: TaskId) {
        let Some(server) = self.server(task) else { return };
        if server.state != ServerState::Alive {
            return;
        }
        let Some(thread) = server.thread else { return };
        if self.threads.get(thread).map(|thread| thread.state) != Some(ThreadState::Receiving) {
            return;
        }
        if self.deliver_next(task) == Delivered::Yes {
            self.make_ready(thread);
        }
    }

    /// The receive half of a system call: takes the next event or waits.
    pub(crate) fn receive(&mut self, thread: ThreadId, task: TaskId) {
        if self.deliver_next(task) == Delivered::Yes {
            return;
        }
        if let Some(state) = self.threads.get_mut(thread) {
            state.state = ThreadState::Receiving;
        }
    }

    /// Delivers one event into the server's message buffer, and records it.
    fn deliver_next(&mut self, task: TaskId) -> Delivered {
        loop {
            let Some(id) = self.tasks.get(task).and_then(|task| task.server) else { return Delivered::No };
            let Some(server) = self.servers.get_mut(id) else { return Delivered::No };
            if server.buffer.count == 0 {
                return Delivered::No;
            }
            let delivered = if server.bits != 0 {
                let bits = core::mem::take(&mut server.bits);
                self.deliver_bits(task, bits);
                Delivered::Yes
            } else if let Some(call) = server.events.pop_front(&mut self.calls) {
                self.deliver_event(task, call)
            } else if let Some(watch) = server.watched.pop_front(&mut self.watchers) {
                self.deliver_watched(task, watch)
            } else if let Some(session) = server.closes.pop_front(&mut self.sessions) {
                self.deliver_close(task, session)
            } else if let Some(call) = server.calls.pop_front(&mut self.calls) {
                self.deliver_call(task, call)
            } else {
                return Delivered::No;
            };
            if delivered == Delivered::Yes {
                if let Some(server) = self.servers.get_mut(id) {
                    server.received += 1;
                }
                self.record_delivery(id, Syscall::Receive);
                return Delivered::Yes;
            }
        }
    }
}
