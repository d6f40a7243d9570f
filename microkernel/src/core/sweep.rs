//! Sweeps: what becomes of what a server has, and does not know of any more.
//!
//! A recovery is exact when the server has gone through its own journal: then it knows all that it has. One that
//! passed over a part of it, or disposed of an event, is not, and raises the server's *epoch*. The server is told,
//! before anything else, and asks for a list of what it has: its handles, the calls it holds and has sent, the frames
//! it has in use. What its state does not know it gives back here, and that is ended: a task or thread ends, a space
//! is destroyed (a thread with its process, of which that one knows), a session is cut off from its server so that
//! whoever uses it gets an error, a call is answered one, an answer is awaited no more, a frame is mapped nowhere.
//!
//! The other way round, what a server of a later epoch does to something that is not there any more counts as done
//! ([`Kernel::excused`]).
//!
//! The kernel keeps how far the list has come, so that nothing of it is in a server's state; it never ends anything
//! that its server has not named.

use libipc::abi::delivery::PAYLOAD_OFFSET;
use libipc::abi::sweep::{Holding, NAMES_MAX};
use libipc::abi::syscall::NO_ANSWER;
use libipc::abi::{Frame, KernelError, Owned, Readiness, Rights};
use libipc::linux::open::{O_ACCMODE, O_RDONLY, O_WRONLY};
use libipc::server::SWEEP_BIT;

use super::machine::{Machine, Mapping};
use super::object::*;
use super::server::Line;
use super::user_memory::Walks;
use super::{Kernel, Outcome};

/// A server's epoch, and its sweep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Epoch {
    /// Recoveries so far after which it may not have known all that it had.
    pub number: u32,
    /// What its sweeps have ended.
    pub ended: u32,
    /// The sweep under way: what it lists next, and from which place on.
    next: Option<(Holding, u32)>,
    /// There may be spaces of its that nobody else has.
    unclaimed: bool,
}

impl Epoch {
    /// Nothing has ever been inexact.
    pub const FIRST: Epoch = Epoch { number: 0, ended: 0, next: None, unclaimed: false };
}

/// Whether a call is one that a task has sent, and waits for its answer.
fn is_awaited(call: &Call, task: TaskId) -> bool {
    call.kind == CallKind::Sent && call.task == task && call.tag != NO_ANSWER.0
}

impl<M: Machine> Kernel<M> {
    /// A journaled server's recovery is not exact: it is to sweep as soon as it is live. Root knows of no such thing.
    pub(crate) fn raise_epoch(&mut self, id: ServerId) {
        let root = self.root;
        let Some(server) = self.servers.get_mut(id) else { return };
        if server.journal.is_none() || Some(server.task) == root {
            return;
        }
        server.epoch.number += 1;
        server.epoch.next = Some((Holding::Handle, server.first_free));
        server.bits |= SWEEP_BIT;
        self.trace_notified(id, SWEEP_BIT);
        self.wake_server(id);
    }

    pub(crate) fn sweep(&mut self, task: TaskId) -> Outcome {
        let id = self.server_of(task).ok_or(KernelError::WrongState)?;
        let server = self.servers.get(id).ok_or(KernelError::WrongState)?;
        let (what, from) = server.epoch.next.ok_or(KernelError::WrongState)?;
        let (buffer, Epoch { number: epoch, unclaimed, .. }) = (server.buffer, server.epoch);
        let (mut at, mut count) = (from, 0);
        let end = self.end_of(what, task);
        while at < end && count < NAMES_MAX {
            if let Some(name) = self.name_at(what, id, task, at) {
                let place = u64::from(PAYLOAD_OFFSET) + 8 * count;
                self.machine.bytes(buffer, place, 8).copy_from_slice(&name.to_le_bytes());
                count += 1;
            }
            at += 1;
        }
        let next = match what {
            _ if at < end => Some((what, at)),
            Holding::Handle => Some((Holding::Call, 0)),
            Holding::Call => Some((Holding::Sent, 0)),
            Holding::Sent => Some((Holding::Frame, self.frames.first().0)),
            Holding::Frame if unclaimed => Some((Holding::Space, 0)),
            Holding::Frame | Holding::Space => None,
        };
        if let Some(server) = self.servers.get_mut(id) {
            server.epoch.unclaimed &= next.is_some();
            server.epoch.next = next;
            server.bits |= if next.is_some() { SWEEP_BIT } else { 0 };
        }
        let to = if at < end { at } else { u32::MAX };
        Ok([what as u64, count, epoch.into(), from.into(), to.into()])
    }

    /// One past the last place at which a server can have something.
    fn end_of(&self, what: Holding, task: TaskId) -> u32 {
        match what {
            Holding::Handle => self
                .server(task)
                .and_then(|server| self.tables.get(server.table))
                .map_or(0, |table| table.bound),
            Holding::Call | Holding::Sent => self.calls.bound(),
            Holding::Frame => self.frames.first().0 + self.frames.count(),
            Holding::Space => self.spaces.bound(),
        }
    }

    /// The name of what a server has at a place.
    fn name_at(&mut self, what: Holding, id: ServerId, task: TaskId, at: u32) -> Option<u64> {
        match what {
            Holding::Handle => {
                let table = self.servers.get(id)?.table;
                (self.slot(table, at).object != Object::None).then_some(at.into())
            }
            Holding::Call => {
                let call = self.calls.at(at)?;
                let held = |call: &&Call| call.server == id && call.phase == Phase::Held;
                self.calls.get(call).filter(held).map(|_| call.to_word())
            }
            Holding::Sent => {
                let call = self.calls.get(self.calls.at(at)?)?;
                is_awaited(call, task).then_some(call.tag)
            }
            Holding::Frame => {
                let frame = self.frames.owned_as_is(Frame(at), task).ok()?;
                (frame.table || frame.mapped > 0).then_some(at.into())
            }
            Holding::Space => {
                let space = self.spaces.at(at)?;
                let state = self.spaces.get(space).filter(|state| state.pager == id)?;
                let badge = state.badge.0;
                self.is_unclaimed(space).then_some(badge)
            }
        }
    }

    pub(crate) fn discard(&mut self, task: TaskId, [what, name, ..]: [u64; 6]) -> Outcome {
        let id = self.server_of(task).ok_or(KernelError::BadHandle)?;
        let what = Holding::from_number(what).ok_or(KernelError::BadArgument)?;
        match what {
            Holding::Handle => {
                let first_free = self.servers.get(id).map_or(0, |server| server.first_free);
                self.named(task, name, Rights::empty())?;
                if name < first_free.into() {
                    return Err(KernelError::NoRight);
                }
                self.end_named(task, name);
            }
            Holding::Call => {
                let call = self.call_held_by(id, name)?;
                self.fail_poisoned(call);
            }
            Holding::Sent => self.await_no_more(task, name),
            Holding::Frame => {
                let frame = Frame(u32::try_from(name).map_err(|_| KernelError::BadArgument)?);
                self.frames.owned_as_is(frame, task)?;
                self.unmap_everywhere(frame);
            }
            Holding::Space => return Err(KernelError::BadArgument),
        }
        let mut line = Line::new();
        if let Some(server) = self.servers.get_mut(id) {
            server.epoch.ended += 1;
            let number = server.number;
            let _ =
                core::fmt::write(&mut line, format_args!("server {number}: {what} {name:#x} was nobody's\n"));
        }
        self.machine.log(line.bytes());
        Ok([0; 5])
    }

    /// Takes a handle of a server's away, and ends what it names if the server has made that.
    pub(crate) fn end_named(&mut self, task: TaskId, slot: u64) {
        let arguments = [slot, 0, 0, 0, 0, 0];
        let own = self.server_of(task);
        let pager = |space: SpaceId| self.spaces.get(space).map(|space| space.pager);
        let _: Outcome = match self.named(task, slot, Rights::CONTROL) {
            Ok(Object::Task(_)) => self.task_kill(task, arguments),
            Ok(Object::Thread(thread)) => {
                self.end_unknown_thread(thread);
                Ok([0; 5])
            }
            Ok(Object::Space(space)) if pager(space) == own => self.space_destroy(task, arguments),
            Ok(Object::OwnSession(session)) => {
                self.cut_off(session);
                Ok([0; 5])
            }
            other => other.map(|_| [0; 5]),
        };
        self.drop_name(task, slot);
        self.tell_of_unclaimed();
    }

    /// Who has made spaces that nobody has any more is to find them.
    pub(crate) fn tell_of_unclaimed(&mut self) {
        for index in 0..self.spaces.bound() {
            let Some(id) = self.spaces.at(index).filter(|id| self.is_unclaimed(*id)) else { continue };
            let Some(pager) = self.spaces.get(id).map(|space| space.pager) else { continue };
            match self.servers.get_mut(pager) {
                Some(server) if server.epoch.unclaimed => {}
                Some(server) => {
                    server.epoch.unclaimed = true;
                    self.raise_epoch(pager);
                }
                None => {}
            }
        }
    }

    /// Whether a space is of no use to anybody but its pager: no task uses it, and no other server has a handle of it,
    /// nor is one under way.
    fn is_unclaimed(&self, id: SpaceId) -> bool {
        let Some(space) = self.spaces.get(id).filter(|space| space.users == 0 && !space.destroyed) else {
            return false;
        };
        let sent = |call: &Call| {
            call.handles.iter().take(call.handle_count.into()).any(|object| *object == Object::Space(id))
        };
        let mut calls = (0..self.calls.bound()).filter_map(|index| self.calls.get(self.calls.at(index)?));
        let mut servers = (0..self.servers.bound()).filter_map(|index| self.servers.at(index));
        !calls.any(sent) && !servers.any(|server| server != space.pager && self.has_handle(server, id))
    }

    fn has_handle(&self, server: ServerId, space: SpaceId) -> bool {
        let Some(table) = self.servers.get(server).map(|server| server.table) else { return false };
        let bound = self.tables.get(table).map_or(0, |table| table.bound);
        (0..bound).any(|slot| self.slot(table, slot).object == Object::Space(space))
    }

    /// Takes a session away from its server. Calls through it fail, now and from now on, and whoever watches it sees
    /// that.
    pub(crate) fn cut_off(&mut self, id: SessionId) {
        const BROKEN: Readiness =
            Readiness::ERR.union(Readiness::HUP).union(Readiness::IN).union(Readiness::OUT);
        let Some(session) = self.sessions.get_mut(id) else { return };
        let own = core::mem::replace(&mut session.server, ServerId::NOTHING);
        session.tells_close = false;
        if session.link.is_listed()
            && let Some(server) = self.servers.get_mut(own)
        {
            server.closes.remove(&mut self.sessions, id);
        }
        self.credit(own, Owned::Sessions);
        self.become_ready(id, BROKEN);
        for index in 0..self.calls.bound() {
            let Some(call) = self.calls.at(index) else { continue };
            let through = |call: &Call| {
                let waits = matches!(call.phase, Phase::Queued | Phase::Held);
                waits && call.server == own && call.session == Some(id)
            };
            if self.calls.get(call).is_some_and(through) {
                self.fail_call(call);
            }
        }
    }

    /// Cuts off those sessions of what is behind another which are open for the other direction alone.
    pub(crate) fn cut_off_counterparts(&mut self, id: SessionId) {
        let Some(closed) = self.sessions.get(id) else { return };
        let (server, object, mode) = (closed.server, closed.object, closed.status & O_ACCMODE);
        for index in 0..self.sessions.bound() {
            let Some(other) = self.sessions.at(index) else { continue };
            let faces = |session: &Session| {
                let modes = [mode, session.status & O_ACCMODE];
                let opposite = modes == [O_RDONLY, O_WRONLY] || modes == [O_WRONLY, O_RDONLY];
                opposite && session.server == server && session.object == object
            };
            if self.sessions.get(other).is_some_and(faces) {
                self.cut_off(other);
            }
        }
    }

    /// Ends a thread of which its process server does not know. Its process waits for what it would have done, and is
    /// to end; but nobody waits for one that has never run.
    pub(crate) fn end_unknown_thread(&mut self, thread: ThreadId) {
        let Some(state) = self.threads.get_mut(thread) else { return };
        let task = state.task;
        match core::mem::replace(&mut state.state, ThreadState::Embryo) {
            ThreadState::Embryo => return self.end_thread(thread),
            ThreadState::Calling(id) => self.leave_call(id),
            ThreadState::Runnable | ThreadState::Receiving => {}
        }
        self.unqueue(thread);
        self.lose(thread, task);
        if self.threads.get(thread).is_some_and(|state| state.state == ThreadState::Embryo) {
            self.end_thread(thread);
        }
    }

    /// The answers to calls that a task has sent with a tag go nowhere.
    fn await_no_more(&mut self, task: TaskId, tag: u64) {
        for index in 0..self.calls.bound() {
            let Some(id) = self.calls.at(index) else { continue };
            let Some(call) = self.calls.get_mut(id).filter(|call| is_awaited(call, task)) else { continue };
            if call.tag != tag {
                continue;
            }
            call.tag = NO_ANSWER.0;
            if call.phase == Phase::Answered {
                self.end_call(id);
            }
        }
    }

    /// A server wants to use a frame for something new that is in use. One of a later epoch may be right about that:
    /// what it has let go of since its last sweep counts as done even where it was not. So the frame is mapped nowhere
    /// from now on. That of another is in use, and so is the top table of a space.
    #[cold]
    pub(crate) fn vacate(&mut self, frame: Frame, task: TaskId) -> Result<(), KernelError> {
        self.frames.owned_as_is(frame, task)?;
        if self.server(task).is_some_and(|server| server.epoch.number > 0) {
            self.unmap_everywhere(frame);
        }
        self.frames.idle_as_is(frame, task).map(|_| ())
    }

    /// Takes a frame out of all spaces: as a page, or as a page table with all that is below it.
    fn unmap_everywhere(&mut self, frame: Frame) {
        for index in 0..self.spaces.bound() {
            let Some(space) = self.spaces.at(index).and_then(|id| self.spaces.get(id)) else { continue };
            let root = space.root;
            self.unmap_below(root, M::LEVELS - 1, frame);
            self.machine.flush(root, u64::MAX);
        }
        self.walks = Walks::NONE;
    }

    fn unmap_below(&mut self, table: Frame, level: u32, frame: Frame) {
        for entry in self.frames.entries(table) {
            match self.machine.entry(table, entry) {
                Mapping::Page(page, _) if page == frame => self.frames.count_mapping(frame, false),
                Mapping::Table(lower) if lower == frame && level > 0 => {
                    self.clear_table(lower, level - 1);
                    self.frames.unmark_empty_table(lower);
                }
                Mapping::Table(lower) if level > 0 => {
                    self.unmap_below(lower, level - 1, frame);
                    continue;
                }
                _ => continue,
            }
            self.machine.set_entry(table, entry, Mapping::Absent);
        }
    }
}
