//! Sessions: made by a server, held by its clients, closed when the last holder lets go. Their readiness words are
//! what poll waits on.

use libipc::abi::{Badge, Handle, KernelError, Readiness, Rights};

use super::arena::Link;
use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

impl<M: Machine> Kernel<M> {
    pub(crate) fn session_create(&mut self, task: TaskId, arguments: [u64; 6]) -> Outcome {
        let [into, badge, object, state, position, _] = arguments;
        let readiness = Readiness::from_bits_truncate((state >> 32) as u32);
        self.check_free(task, into)?;
        let session = Session {
            server_number: self.server(task).map_or(0, |server| server.number),
            server: task,
            badge: Badge(badge),
            object,
            holders: 0,
            owned: Some(Handle(into as u32)),
            status: state as u32,
            readiness,
            position,
            watchers: None,
            link: Link::NONE,
        };
        let session = self.sessions.insert(session).map_err(|_| KernelError::Exhausted)?;
        if let Err(error) = self.put(task, into, Object::OwnSession(session), Rights::all()) {
            self.sessions.remove(session);
            return Err(error);
        }
        Ok([0; 5])
    }

    fn own_session(&mut self, task: TaskId, handle: u64) -> Result<SessionId, KernelError> {
        match self.named(task, handle, Rights::CONTROL)? {
            Object::OwnSession(session) => Ok(session),
            _ => Err(KernelError::WrongKind),
        }
    }

    pub(crate) fn session_ready(&mut self, task: TaskId, [handle, bits, ..]: [u64; 6]) -> Outcome {
        let id = self.own_session(task, handle)?;
        let session = self.sessions.get_mut(id).ok_or(KernelError::BadHandle)?;
        session.readiness = Readiness::from_bits_truncate(bits as u32);
        let readiness = session.readiness | Readiness::empty();
        let mut next = session.watchers;
        while let Some(watch) = next {
            let Some(watcher) = self.watchers.get(watch) else { break };
            next = watcher.siblings.1;
            let wanted = watcher.wanted | Readiness::ERR | Readiness::HUP;
            if readiness.intersects(wanted) {
                let call = watcher.call;
                self.signal_holder(call, signal::WATCH);
            }
        }
        Ok([0; 5])
    }

    pub(crate) fn session_status(&mut self, task: TaskId, [handle, status, ..]: [u64; 6]) -> Outcome {
        let id = self.own_session(task, handle)?;
        self.sessions.get_mut(id).ok_or(KernelError::BadHandle)?.status = status as u32;
        Ok([0; 5])
    }

    /// A holder has gone. The last one tells the server.
    pub(crate) fn session_released(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.holders -= 1;
        if session.holders > 0 {
            return;
        }
        let server = session.server;
        self.wake_watchers(id);
        if let Some(server) = self.server_mut(server) {
            let mut closes = server.closes;
            closes.push_back(&mut self.sessions, id);
            if let Some(server) = self.server_mut_by_session(id) {
                server.closes = closes;
            }
        }
        self.wake_server_of(id);
    }

    /// The server has given its own handle up. A session nobody holds goes at once.
    pub(crate) fn session_disowned(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.owned = None;
        if session.holders == 0 && !session.link.is_listed() {
            self.wake_watchers(id);
            self.sessions.remove(id);
        }
    }

    fn server_mut_by_session(&mut self, id: SessionId) -> Option<&mut Server> {
        let task = self.sessions.get(id)?.server;
        self.server_mut(task)
    }

    fn wake_server_of(&mut self, id: SessionId) {
        if let Some(task) = self.sessions.get(id).map(|session| session.server) {
            self.wake_server(task);
        }
    }

    /// Everyone who watches a session that goes is told once; their watches end with their calls.
    fn wake_watchers(&mut self, id: SessionId) {
        let mut next = self.sessions.get(id).and_then(|session| session.watchers);
        while let Some(watch) = next {
            let Some(watcher) = self.watchers.get(watch) else { break };
            next = watcher.siblings.1;
            let call = watcher.call;
            self.signal_holder(call, signal::WATCH);
        }
    }

    /// Watches a descriptor of the caller for a call that this server holds.
    pub(crate) fn watch(&mut self, task: TaskId, [token, descriptor, bits, ..]: [u64; 6]) -> Outcome {
        let call = self.held_call(task, token)?;
        let caller = self.calls.get(call).map(|call| call.task).ok_or(KernelError::NoSuchCall)?;
        let wanted = Readiness::from_bits_truncate(bits as u32);
        let slot = u32::try_from(descriptor).map_err(|_| KernelError::BadHandle)?;
        let table = self.tasks.get(caller).map(|task| task.table).ok_or(KernelError::NoSuchCall)?;
        let Object::Session(id) = self.slot(table, slot).object else { return Err(KernelError::BadHandle) };
        let session = self.sessions.get(id).ok_or(KernelError::BadHandle)?;
        let ready = session.readiness & (wanted | Readiness::ERR | Readiness::HUP);
        let first = session.watchers;
        let next = self.calls.get(call).and_then(|call| call.watches);
        let watcher = Watcher { call, session: id, wanted, siblings: (None, first), next };
        let watch = self.watchers.insert(watcher).map_err(|_| KernelError::Exhausted)?;
        if let Some(first) = first.and_then(|first| self.watchers.get_mut(first)) {
            first.siblings.0 = Some(watch);
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.watchers = Some(watch);
        }
        if let Some(call) = self.calls.get_mut(call) {
            call.watches = Some(watch);
        }
        Ok([u64::from(ready.bits()), 0, 0, 0, 0])
    }

    /// Ends every watch of a call.
    pub(crate) fn end_watches(&mut self, call: CallRef) {
        let mut next = self.calls.get_mut(call).and_then(|call| call.watches.take());
        while let Some(watch) = next {
            let Some(watcher) = self.watchers.remove(watch) else { break };
            next = watcher.next;
            let (before, after) = watcher.siblings;
            if let Some(after) = after.and_then(|after| self.watchers.get_mut(after)) {
                after.siblings.0 = before;
            }
            match before.and_then(|before| self.watchers.get_mut(before)) {
                Some(before) => before.siblings.1 = after,
                None => {
                    if let Some(session) = self.sessions.get_mut(watcher.session) {
                        session.watchers = after;
                    }
                }
            }
        }
    }
}
