//! Sessions: made by a server, held by its clients, closed when the last holder lets go. Their readiness words are
//! what poll waits on.

use libipc::abi::delivery::Kind;
use libipc::abi::syscall::{Syscall, reply_flags};
use libipc::abi::{Badge, Handle, KernelError, Owned, Readiness, Rights};

use super::arena::{Blank, Link};
use super::inbox::{Delivered, Inbox};
use super::ipc::Caller;
use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

impl<M: Machine> Kernel<M> {
    pub(crate) fn session_create(&mut self, task: TaskId, arguments: [u64; 6]) -> Outcome {
        let [into, rest @ .., _] = arguments;
        let into = u32::try_from(into).map_err(|_| KernelError::BadArgument)?;
        self.make_session(task, Some(Handle(into)), rest)?;
        Ok([0; 5])
    }

    /// Makes a session from its badge, object, state and position, with the server's own handle of it if it wants one.
    pub(crate) fn make_session(
        &mut self,
        task: TaskId,
        owned: Option<Handle>,
        [badge, object, state, position]: [u64; 4],
    ) -> Result<SessionId, KernelError> {
        let server = self.server_of(task).ok_or(KernelError::WrongState)?;
        let session = Session {
            server_number: self.servers.get(server).map_or(0, |server| server.number),
            server,
            badge: Badge(badge),
            object,
            holders: 0,
            owned,
            tells_close: false,
            closes_again: false,
            status: state as u32,
            readiness: Readiness::from_bits_truncate((state >> 32) as u32),
            position,
            watchers: None,
            link: Link::NONE,
        };
        self.charge(server, Owned::Sessions)?;
        let Ok(session) = self.sessions.insert(session) else {
            self.credit(server, Owned::Sessions);
            return Err(KernelError::Exhausted);
        };
        if let Some(into) = owned
            && let Err(error) = self.put(task, u64::from(into.0), Object::OwnSession(session), Rights::all())
        {
            self.remove_session(session);
            return Err(error);
        }
        Ok(session)
    }

    /// Answers a program's call with a new session, as the descriptor reserved for it.
    pub(crate) fn reply_open(&mut self, by: Caller, arguments: [u64; 6]) -> Outcome {
        let [token, flags, session @ ..] = arguments;
        let task = by.task;
        let id = self.call_held_by(by.server, token)?;
        let call = self.calls.get(id).filter(|call| call.kind == CallKind::Foreign);
        let Some((caller, thread, slot)) = call.map(|call| (call.task, call.thread, call.reserved[0])) else {
            return Err(KernelError::WrongState);
        };
        let slot = slot.ok_or(KernelError::WrongState)?;
        let owned = Handle((flags >> 32) as u32);
        let session = self.make_session(task, Some(owned).filter(|owned| *owned != Handle::NONE), session)?;
        if let Some(session) = self.sessions.get_mut(session) {
            session.tells_close = flags & reply_flags::TELL_CLOSE != 0;
        }
        self.trace_answer(by, Syscall::ReplyOpen, &arguments);
        match thread {
            Some(thread) => {
                self.trace_result(id, i64::from(slot));
                self.install(caller, id, flags, [Object::Session(session), Object::None]);
                self.end_call(id);
                self.set_result(thread, i64::from(slot));
                self.release_thread(thread, id);
            }
            // The caller is gone: the session was its own for no time.
            None => {
                self.end_call(id);
                self.hold(&[Object::Session(session), Object::None, Object::None, Object::None]);
                self.session_released(session);
            }
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
        self.become_ready(id, Readiness::from_bits_truncate(bits as u32));
        Ok([0; 5])
    }

    /// Sets what a session is ready for, and tells those who watch it.
    pub(crate) fn become_ready(&mut self, id: SessionId, readiness: Readiness) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.readiness = readiness;
        let mut next = session.watchers;
        while let Some(watch) = next {
            let Some(watcher) = self.watchers.get(watch) else { break };
            next = watcher.siblings.1;
            let wanted = watcher.wanted | Readiness::ERR | Readiness::HUP;
            if readiness.intersects(wanted) {
                self.tell_watcher(watch);
            }
        }
    }

    /// Tells whoever watches that there is something to look at.
    fn tell_watcher(&mut self, watch: WatchId) {
        let Some(watcher) = self.watchers.get(watch) else { return };
        match watcher.by {
            WatchedBy::Call(call) => self.signal_holder(call, signal::WATCH),
            WatchedBy::Server(by, _) if !watcher.link.is_listed() => {
                if let Some(server) = self.servers.get_mut(by) {
                    server.watched.push_back(&mut self.watchers, watch);
                }
                self.wake_server(by);
            }
            WatchedBy::Server(..) => {}
        }
    }

    pub(crate) fn session_status(&mut self, task: TaskId, [handle, status, ..]: [u64; 6]) -> Outcome {
        let id = self.own_session(task, handle)?;
        self.sessions.get_mut(id).ok_or(KernelError::BadHandle)?.status = status as u32;
        Ok([0; 5])
    }

    pub(crate) fn session_move(&mut self, task: TaskId, [handle, position, ..]: [u64; 6]) -> Outcome {
        let Object::Session(id) = self.named(task, handle, Rights::CALL)? else {
            return Err(KernelError::WrongKind);
        };
        self.sessions.get_mut(id).ok_or(KernelError::BadHandle)?.position = position;
        Ok([0; 5])
    }

    /// A holder has gone. The last one tells the server, unless the session is one that the server wants to hear no
    /// more of.
    pub(crate) fn session_released(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.holders -= 1;
        if session.holders > 0 {
            return;
        }
        let (server, silent) = (session.server, session.owned.is_none() && !session.tells_close);
        self.wake_watchers(id);
        if silent {
            self.remove_session(id);
            return;
        }
        if let Some(server) = self.servers.get_mut(server) {
            server.closes.push_back(&mut self.sessions, id);
        }
        self.wake_server(server);
    }

    /// The server has given its own handle up. A session nobody holds goes at once.
    pub(crate) fn session_disowned(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        session.owned = None;
        if session.holders == 0 && !session.link.is_listed() {
            self.wake_watchers(id);
            self.remove_session(id);
        }
    }

    /// Everyone who watches a session that goes is told once; their watches watch nothing from then on.
    fn wake_watchers(&mut self, id: SessionId) {
        let mut next = self.sessions.get_mut(id).and_then(|session| session.watchers.take());
        while let Some(watch) = next {
            let Some(watcher) = self.watchers.get_mut(watch) else { break };
            next = watcher.siblings.1;
            watcher.session = None;
            watcher.siblings = (None, None);
            self.tell_watcher(watch);
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
        let next = self.calls.get(call).and_then(|call| call.watches);
        let (watch, ready) = self.add_watch(id, WatchedBy::Call(call), wanted, next)?;
        if let Some(call) = self.calls.get_mut(call) {
            call.watches = Some(watch);
        }
        Ok([u64::from(ready.bits()), 0, 0, 0, 0])
    }

    /// Puts a watch among those of a session, and says what the session is ready for now.
    fn add_watch(
        &mut self,
        id: SessionId,
        by: WatchedBy,
        wanted: Readiness,
        next: Option<WatchId>,
    ) -> Result<(WatchId, Readiness), KernelError> {
        let session = self.sessions.get(id).ok_or(KernelError::BadHandle)?;
        let ready = session.readiness & (wanted | Readiness::ERR | Readiness::HUP);
        let first = session.watchers;
        let siblings = (None, first);
        let watcher = Watcher { by, session: Some(id), wanted, siblings, next, ..Watcher::BLANK };
        let watch = self.watchers.insert(watcher).map_err(|_| KernelError::Exhausted)?;
        if let Some(first) = first.and_then(|first| self.watchers.get_mut(first)) {
            first.siblings.0 = Some(watch);
        }
        if let Some(session) = self.sessions.get_mut(id) {
            session.watchers = Some(watch);
        }
        Ok((watch, ready))
    }

    /// Takes a watch away.
    fn remove_watch(&mut self, watch: WatchId) -> Option<Watcher> {
        let watcher = self.watchers.get(watch)?;
        if let (true, WatchedBy::Server(by, _)) = (watcher.link.is_listed(), watcher.by)
            && let Some(server) = self.servers.get_mut(by)
        {
            server.watched.remove(&mut self.watchers, watch);
        }
        let watcher = self.watchers.remove(watch)?;
        if let WatchedBy::Server(by, _) = watcher.by {
            self.credit(by, Owned::Watches);
        }
        let (before, after) = watcher.siblings;
        if let Some(after) = after.and_then(|after| self.watchers.get_mut(after)) {
            after.siblings.0 = before;
        }
        match before.and_then(|before| self.watchers.get_mut(before)) {
            Some(before) => before.siblings.1 = after,
            None => {
                if let Some(session) = watcher.session.and_then(|session| self.sessions.get_mut(session)) {
                    session.watchers = after;
                }
            }
        }
        Some(watcher)
    }

    /// Watches a descriptor's session for a server, from one call to the next. What is always ready cannot be watched.
    pub(crate) fn watch_keep(
        &mut self,
        task: TaskId,
        [token, descriptor, cookie, bits, ..]: [u64; 6],
    ) -> Outcome {
        let call = self.held_call(task, token)?;
        let caller = self.calls.get(call).map(|call| call.task).ok_or(KernelError::NoSuchCall)?;
        let slot = u32::try_from(descriptor).map_err(|_| KernelError::BadHandle)?;
        let table = self.tasks.get(caller).map(|task| task.table).ok_or(KernelError::NoSuchCall)?;
        let Object::Session(id) = self.slot(table, slot).object else { return Err(KernelError::BadHandle) };
        let session = self.sessions.get(id).ok_or(KernelError::BadHandle)?;
        if session.readiness.contains(Readiness::ALWAYS) {
            return Err(KernelError::WrongKind);
        }
        let wanted = Readiness::from_bits_truncate(bits as u32);
        let server = self.server_of(task).ok_or(KernelError::WrongState)?;
        self.charge(server, Owned::Watches)?;
        let added = self.add_watch(id, WatchedBy::Server(server, cookie), wanted, None);
        let (watch, ready) = added.inspect_err(|_| self.credit(server, Owned::Watches))?;
        Ok([u64::from(ready.bits()), watch.to_word(), 0, 0, 0])
    }

    fn kept_watch(&self, task: TaskId, word: u64) -> Result<WatchId, KernelError> {
        let id = WatchId::from_word(word);
        match self.watchers.get(id).map(|watcher| watcher.by) {
            Some(WatchedBy::Server(by, _)) if self.server_of(task) == Some(by) => Ok(id),
            _ => Err(KernelError::BadHandle),
        }
    }

    pub(crate) fn watch_change(&mut self, task: TaskId, [watch, bits, ..]: [u64; 6]) -> Outcome {
        let watch = self.kept_watch(task, watch)?;
        let watcher = self.watchers.get_mut(watch).ok_or(KernelError::BadHandle)?;
        watcher.wanted = Readiness::from_bits_truncate(bits as u32);
        let (session, wanted) = (watcher.session, watcher.wanted);
        let ready = session.and_then(|id| self.sessions.get(id)).map(|session| session.readiness);
        let ready = ready.unwrap_or(Readiness::HUP) & (wanted | Readiness::ERR | Readiness::HUP);
        Ok([u64::from(ready.bits()), 0, 0, 0, 0])
    }

    pub(crate) fn watch_end(&mut self, task: TaskId, [watch, ..]: [u64; 6]) -> Outcome {
        let watch = self.kept_watch(task, watch)?;
        self.remove_watch(watch);
        Ok([0; 5])
    }

    /// What a kept watch has seen.
    pub(crate) fn deliver_watched(&mut self, inbox: &Inbox, watch: WatchId) -> Delivered {
        let now = self.machine.now();
        let Some(watcher) = self.watchers.get(watch) else { return Delivered::No };
        let WatchedBy::Server(_, cookie) = watcher.by else { return Delivered::No };
        let session = watcher.session.and_then(|id| self.sessions.get(id));
        let ready =
            session.map(|session| session.readiness & (watcher.wanted | Readiness::ERR | Readiness::HUP));
        let Some(delivery) = Self::delivery(&mut self.machine, inbox.buffer) else { return Delivered::No };
        Self::head(delivery, Kind::Watched, inbox.fill, now);
        delivery.words[0] = cookie;
        delivery.words[1] = ready.map_or(0, |ready| u64::from(ready.bits()));
        delivery.words[2] = u64::from(ready.is_none());
        Delivered::Yes
    }

    /// Ends every watch of a call.
    pub(crate) fn end_watches(&mut self, call: CallRef) {
        let mut next = self.calls.get_mut(call).and_then(|call| call.watches.take());
        while let Some(watch) = next {
            next = self.remove_watch(watch).and_then(|watcher| watcher.next);
        }
    }
}
