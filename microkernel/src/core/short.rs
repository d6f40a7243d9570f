//! The short way: the messages that there are most of go straight from one thread to the other.
//!
//! It serves what a system spends its time on: a server's call of four words, a program's call that its registers say
//! all about, the answers to both, and the wait for the next event. It takes only what is in order: the receiver
//! waits, nobody who is ready would run before it, nothing is being replayed or is about to stop. Everything else goes
//! the general way, and nothing has changed by then. What the short way does is what the general way would
//! do, to the last byte of the journals: the tests run both.

use libipc::abi::delivery::{Delivery, Extent, INPUT_NULL, Kind, PAYLOAD_OFFSET};
use libipc::abi::foreign::{self, Input, LINUX_CALLS, Output, Role, Route, Row};
use libipc::abi::journal::{DELIVERY_MAX, FIXED_MAX, Header};
use libipc::abi::syscall::{Syscall, THEN_RECEIVE, reply_flags};
use libipc::abi::{Frame, Protection, Readiness, Rights, TaskWord};

use super::Kernel;
use super::jitter::Jitter;
use super::machine::Machine;
use super::native::{ABI_VERSION, set_outcome};
use super::object::*;
use super::sched::SLICE_NS;
use super::user_memory::UserMemory;

const NULL: u64 = Syscall::Null as u64;
const CALL: u64 = Syscall::Call as u64;
const REPLY: u64 = Syscall::Reply as u64 | THEN_RECEIVE;
const REPLY_FOREIGN: u64 = Syscall::ReplyForeign as u64 | THEN_RECEIVE;
const REPLY_AND_GO_ON: u64 = Syscall::ReplyForeign as u64;
const RECEIVE: u64 = Syscall::Receive as u64;
/// What an answer to a program may do: outputs, few of them, a new position, and a session's readiness.
const SIMPLE_FLAGS: u64 = reply_flags::POSITION
    | reply_flags::READY
    | OUTPUTS_MAX << reply_flags::OUTPUTS_SHIFT
    | (u32::MAX as u64) << reply_flags::PAYLOAD_SHIFT;
const OUTPUTS_MAX: u64 = 3;
/// The bits of an info word that say nothing of a payload and nothing of handles.
const LABEL_ONLY: u64 = u32::MAX as u64;
/// More than any record that is made here.
const ROOM: u64 = FIXED_MAX + DELIVERY_MAX + foreign::SMALL_MAX;

/// How a program's call can go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// The general way alone.
    General,
    /// Its registers tell all about it.
    Registers,
    /// They do, but for a small input or a buffer that its answer fills.
    Memory,
}

const fn way(row: &Row) -> Way {
    let plain = matches!(row.named, [foreign::NO_ARGUMENT, foreign::NO_ARGUMENT])
        && row.reserves == 0
        && row.passes == foreign::NO_ARGUMENT
        && row.masks == foreign::NO_ARGUMENT;
    match (row.inputs, row.output) {
        _ if !plain => Way::General,
        ([Input::None, Input::None], Output::None) => Way::Registers,
        ([Input::None | Input::Small(..), Input::None], _) => Way::Memory,
        _ => Way::General,
    }
}

static WAYS: [Way; LINUX_CALLS as usize] = {
    let mut ways = [Way::General; LINUX_CALLS as usize];
    let mut number = 0;
    while number < ways.len() {
        ways[number] = way(&foreign::LINUX[number]);
        number += 1;
    }
    ways
};

impl<M: Machine> Kernel<M> {
    /// Serves a server's system call, if the short way is open to it.
    #[inline(always)]
    pub(crate) fn short_native_call<const TRACE: bool>(&mut self, from: ThreadId, number: u64) -> Option<()> {
        self.is_open()?;
        match number {
            NULL => self.short_null::<TRACE>(from),
            CALL => self.short_call::<TRACE>(from),
            REPLY => self.short_reply::<TRACE>(from),
            REPLY_FOREIGN => self.short_reply_foreign::<TRACE>(from, true),
            REPLY_AND_GO_ON => self.short_reply_foreign::<TRACE>(from, false),
            RECEIVE => self.short_receive(from),
            _ => None,
        }
    }

    /// Whether it may be taken at all: a test can close it.
    #[inline(always)]
    fn is_open(&self) -> Option<()> {
        #[cfg(test)]
        if self.short.0 {
            return None;
        }
        Some(())
    }

    /// What changes nothing leaves the order as it was.
    #[inline(always)]
    fn short_null<const TRACE: bool>(&mut self, from: ThreadId) -> Option<()> {
        let state = self.threads.get_mut(from)?;
        if TRACE {
            self.trace.note_null(&mut self.machine, state);
        }
        set_outcome(&mut state.registers, &Ok([ABI_VERSION, 0, 0, 0, 0]));
        Some(())
    }

    /// A server's call of another.
    #[inline(always)]
    fn short_call<const TRACE: bool>(&mut self, from: ThreadId) -> Option<()> {
        let state = self.threads.get(from)?;
        let (task, [handle, info, word0, word1, word2, word3]) = (state.task, state.arguments());
        let caller = self.servers.get(state.server?)?;
        if info & !LABEL_ONLY != 0 || caller.is_replayed() {
            return None;
        }
        let slot = self.tables.get(caller.table)?.first.slots.get(handle as usize)?;
        if !slot.rights.contains(Rights::CALL) {
            return None;
        }
        let (to, session, [badge, position, status]) = match slot.object {
            Object::Inbox(to) => (to, None, [0; 3]),
            Object::Session(id) | Object::OwnSession(id) => {
                let session = self.sessions.get(id)?;
                (session.server, Some(id), [session.badge.0, session.position, u64::from(session.status)])
            }
            _ => return None,
        };
        let server = self.servers.get_mut(to).filter(|server| server.waits())?;
        let next = server.thread?;
        let (mine, other) = self.threads.two(from, next)?;
        if !Order::of(&self.chosen, self.ready).comes_first(other.priority) {
            return None;
        }
        let (id, call) = self.calls.renew().ok()?;
        self.sequence += 1;
        call.begin(CallKind::Native, task, to);
        call.be_held(from, session, (self.since, self.sequence));
        (call.label, call.words) = (info as u32, [word0, word1, word2, word3]);
        call.cause = if TRACE { mine.handling } else { call.cause };
        let now = self.machine.now();
        if let Some(delivery) = Self::delivery_in(&mut self.machine, server.message) {
            Self::head(delivery, Kind::Call, server.fill(), now);
            delivery.token = id.to_word();
            delivery.label = info as u32;
            delivery.words[..4].copy_from_slice(&[word0, word1, word2, word3]);
            (delivery.badge, delivery.position, delivery.status) = (badge, position, status as u32);
        }
        server.waiting = false;
        server.note_delivery(&mut self.machine, Extent::Message as u32, 0);
        if TRACE {
            self.trace.note_call(mine, (other, server.number), id, now);
        }
        mine.state = ThreadState::Calling(id);
        let used = now.saturating_sub(self.since);
        give_way(&mut self.machine, &mut self.jitter, mine, (next, other), used);
        self.runs(next, now)
    }

    /// A program's call: of a server, or for a word that the kernel has.
    #[inline(always)]
    pub(crate) fn short_foreign_call<const TRACE: bool>(
        &mut self,
        from: ThreadId,
        task: TaskId,
        number: u64,
    ) -> Option<()> {
        self.is_open()?;
        let number = number as u32;
        let row = super::deliver::row(number)?;
        let state = self.threads.get(from)?;
        if !state.attention.is_empty() || state.restart != 0 {
            return None;
        }
        if let Route::Word(word) = row.route {
            return self.short_word::<TRACE>(from, task, number, word);
        }
        let way = *WAYS.get(number as usize)?;
        if way == Way::General {
            return None;
        }
        let caller = self.tasks.get(task)?;
        let (to, through) = self.plain_callee(row.route, caller.table, state)?;
        let session = through.and_then(|id| self.sessions.get(id));
        let server = self.servers.get_mut(to).filter(|server| server.waits())?;
        let next = server.thread?;
        let space = self.spaces.get(caller.space)?;
        let input = if way == Way::Memory {
            let mut memory =
                UserMemory { machine: &mut self.machine, walks: &mut self.walks, frames: &self.frames };
            memory.short_memory(row, state, space.root, server.buffer)?
        } else {
            INPUT_NULL
        };
        let (mine, other) = self.threads.two(from, next)?;
        if !Order::of(&self.chosen, self.ready).comes_first(other.priority) {
            return None;
        }
        let (id, call) = self.calls.renew().ok()?;
        self.sequence += 1;
        call.begin(CallKind::Foreign, task, to);
        call.be_held(from, through, (self.since, self.sequence));
        (call.label, call.number) = (number, number);
        call.cause = if TRACE { 0 } else { call.cause };
        let now = self.machine.now();
        if let Some(delivery) = Self::delivery_in(&mut self.machine, server.message) {
            Self::head(delivery, Kind::Foreign, server.fill(), now);
            delivery.extent = Extent::Foreign as u32;
            delivery.token = id.to_word();
            delivery.label = number;
            delivery.words = mine.arguments();
            let directories = caller.directories.and_then(|id| self.directories.get(id));
            let umask = directories.map_or(0, |directories| directories.umask);
            delivery.caller = super::deliver::introduced(caller, mine.tid, umask, space.badge);
            tell_rest(delivery, session, input);
        }
        let length = if input == INPUT_NULL { 0 } else { input };
        server.waiting = false;
        server.note_delivery(&mut self.machine, Extent::Foreign as u32, length);
        if TRACE {
            self.trace.note_linux(&mut self.machine, mine, (other, server), id, (number, length), now);
        }
        mine.state = ThreadState::Calling(id);
        let used = now.saturating_sub(self.since);
        give_way(&mut self.machine, &mut self.jitter, mine, (next, other), used);
        self.runs(next, now)
    }

    /// Whom a program's call goes to, unless it is one who resolves paths and so is told the caller's directories.
    #[inline(always)]
    fn plain_callee(
        &self,
        route: Route,
        table: TableId,
        state: &Thread,
    ) -> Option<(ServerId, Option<SessionId>)> {
        let (to, session) = match route {
            Route::Server(role) => (self.roles[role as usize]?, None),
            Route::Object(at) => {
                let id = self.session_in(table, state.argument(at) as u32)?;
                (self.sessions.get(id)?.server, Some(id))
            }
            Route::Word(_) | Route::Kernel(_) | Route::None => return None,
        };
        (self.roles[Role::Vfs as usize] != Some(to)).then_some((to, session))
    }

    /// A program's call for a word that the kernel has.
    #[inline(always)]
    fn short_word<const TRACE: bool>(
        &mut self,
        from: ThreadId,
        task: TaskId,
        number: u32,
        word: TaskWord,
    ) -> Option<()> {
        let caller = self.tasks.get(task)?;
        let state = self.threads.get_mut(from)?;
        let value = u64::from(caller.words[word as usize]);
        state.registers.rax = value;
        if TRACE {
            self.trace.note_word(&mut self.machine, state, (number, value));
        }
        Some(())
    }

    /// The answer to a server's call.
    #[inline(always)]
    fn short_reply<const TRACE: bool>(&mut self, from: ThreadId) -> Option<()> {
        let state = self.threads.get(from)?;
        let own = state.server?;
        let [token, info, word0, word1, word2, word3] = state.arguments();
        if info & !LABEL_ONLY != 0 {
            return None;
        }
        let id = CallRef::from_word(token);
        let call = self.calls.hold(id)?;
        let next = call.plain_caller(own, CallKind::Native)?;
        let (mine, client) = self.threads.two(from, next)?;
        if !client.waits_for(id) || !Order::of(&self.chosen, self.ready).comes_first(client.priority) {
            return None;
        }
        let (server, asker) = self.servers.two(own, client.server?)?;
        if !server.has_no_events() || !server.has_room() || !asker.has_room() {
            return None;
        }
        call.discard();
        let values = [info, word0, word1, word2, word3];
        let [a, b, c, d, e, f] = client.arguments();
        match info | word0 | word1 | word2 | word3 {
            0 => asker.note(&mut self.machine, succeeded(Syscall::Call, 0), [a, b, c, d, e, f]),
            _ => asker.note(
                &mut self.machine,
                succeeded(Syscall::Call, values.len() as u8),
                [a, b, c, d, e, f, info, word0, word1, word2, word3],
            ),
        }
        server.waiting = true;
        server.note(&mut self.machine, succeeded(Syscall::Reply, 0), mine.arguments());
        let now = self.machine.now();
        if TRACE {
            self.trace.note_answer(Syscall::Reply, mine, now);
        }
        wait(mine);
        set_outcome(&mut client.registers, &Ok(values));
        let used = now.saturating_sub(self.since);
        give_way(&mut self.machine, &mut self.jitter, mine, (next, client), used);
        self.runs(next, now)
    }

    /// The answer to a program's call: its result, and perhaps a new position. The server goes on, or receives.
    #[inline(always)]
    fn short_reply_foreign<const TRACE: bool>(&mut self, from: ThreadId, receives: bool) -> Option<()> {
        let state = self.threads.get(from)?;
        let (task, own) = (state.task, state.server?);
        // Whoever goes on does so before the one that it has answered, who is the only one to be kept in mind.
        let own_priority = (!receives).then_some(state.priority);
        if own_priority.is_some_and(|own| self.chosen.is_some() || self.ready >> own != 0) {
            return None;
        }
        let [token, flags, result, position, _, changed] = state.arguments();
        if flags & !SIMPLE_FLAGS != 0 {
            return None;
        }
        let ready = match flags & reply_flags::READY {
            0 => None,
            _ => Some(self.unwatched(task, changed & 0xffff_ffff)?),
        };
        let id = CallRef::from_word(token);
        let call = self.calls.hold(id)?;
        let next = call.plain_caller(own, CallKind::Foreign)?;
        let (mine, client) = self.threads.two(from, next)?;
        let priority = client.priority;
        let order = Order::of(&self.chosen, self.ready);
        let first = order.goes_on_first(client) && own_priority.is_none_or(|own| own > priority);
        if !first || !client.waits_for(id) {
            return None;
        }
        let server = self.servers.get_mut(own)?;
        if receives && !server.has_no_events() || !server.has_room() {
            return None;
        }
        let outputs = flags >> reply_flags::OUTPUTS_SHIFT & OUTPUTS_MAX;
        if outputs > 0 {
            let mut memory =
                UserMemory { machine: &mut self.machine, walks: &mut self.walks, frames: &self.frames };
            memory.write_outputs(client.top, server.buffer, outputs).ok()?;
        }
        if let Some(session) = ready.and_then(|session| self.sessions.get_mut(session)) {
            session.readiness = Readiness::from_bits_truncate((changed >> 32) as u32);
        }
        if flags & reply_flags::POSITION != 0
            && let Some(session) = call.session
            && let Some(session) = self.sessions.get_mut(session)
        {
            session.position = position;
        }
        call.discard();
        server.waiting = receives;
        server.note(&mut self.machine, succeeded(Syscall::ReplyForeign, 0), mine.arguments());
        let now = if TRACE || receives { self.machine.now() } else { 0 };
        if TRACE {
            self.trace.note_answer(Syscall::ReplyForeign, mine, now);
        }
        client.registers.rax = result;
        client.restart = 0;
        if receives {
            wait(mine);
            let used = now.saturating_sub(self.since);
            give_way(&mut self.machine, &mut self.jitter, mine, (next, client), used);
            self.runs(next, now)?;
            return self.share_time(priority);
        }
        client.state = ThreadState::Runnable;
        self.chosen = Some((next, priority));
        set_outcome(&mut mine.registers, &Ok([0; 5]));
        self.took_short_way()
    }

    /// A server has nothing more to do, and somebody else is ready.
    #[inline(always)]
    fn short_receive(&mut self, from: ThreadId) -> Option<()> {
        let own = self.threads.get(from)?.server?;
        let server = self.servers.get(own)?;
        if !server.has_no_events() || server.is_replayed() || server.died_ns.is_some() {
            return None;
        }
        let (next, priority) = self.next_ready()?;
        let state = self.threads.get(next)?;
        if !state.attention.is_empty() || state.restart != 0 {
            return None;
        }
        self.take_next();
        self.servers.get_mut(own)?.waiting = true;
        let now = self.machine.now();
        let (mine, other) = self.threads.two(from, next)?;
        mine.registers.rax = 0;
        mine.state = ThreadState::Receiving;
        let used = now.saturating_sub(self.since);
        give_way(&mut self.machine, &mut self.jitter, mine, (next, other), used);
        self.runs(next, now)?;
        self.share_time(priority)
    }

    /// The timer is set for a thread that has just begun to run if others want the CPU as much.
    #[inline(always)]
    fn share_time(&mut self, priority: u8) -> Option<()> {
        if self.has_equals(priority) {
            let slice =
                self.current.and_then(|thread| self.threads.get(thread)).map_or(0, |state| state.slice_ns);
            if self.since + slice < self.armed {
                self.arm(Some(priority));
            }
        }
        Some(())
    }

    /// A session of a server's own that nobody watches.
    #[inline(always)]
    fn unwatched(&self, task: TaskId, handle: u64) -> Option<SessionId> {
        match self.named(task, handle, Rights::CONTROL) {
            Ok(Object::OwnSession(id)) if self.sessions.get(id)?.watchers.is_none() => Some(id),
            _ => None,
        }
    }

    /// Another thread runs from now on.
    #[inline(always)]
    fn runs(&mut self, next: ThreadId, now: u64) -> Option<()> {
        self.since = now;
        self.switches += 1;
        self.current = Some(next);
        self.took_short_way()
    }

    #[inline(always)]
    fn took_short_way(&mut self) -> Option<()> {
        #[cfg(test)]
        {
            self.short.1 += 1;
        }
        Some(())
    }
}

/// The header of the record of a trap that went well.
const fn succeeded(call: Syscall, values: u8) -> Header {
    Header { number: call as u16, error: 0, values, payload: 0 }
}

/// What a delivery says of the session that a program's call came through, and of its input.
#[inline(always)]
fn tell_rest(delivery: &mut Delivery, session: Option<&Session>, input: u32) {
    (delivery.badge, delivery.position, delivery.status) =
        session.map_or((0, 0, 0), |session| (session.badge.0, session.position, session.status));
    delivery.inputs = [input, INPUT_NULL];
    delivery.payload_len = if input == INPUT_NULL { 0 } else { input };
    delivery.slots = [u32::MAX; 2];
}

/// A server has answered and waits for the next event.
#[inline(always)]
fn wait(server: &mut Thread) {
    set_outcome(&mut server.registers, &Ok([0; 5]));
    server.state = ThreadState::Receiving;
}

/// The current thread, which has used so much time, gives way to another one.
#[inline(always)]
fn give_way<M: Machine>(
    machine: &mut M,
    jitter: &mut Jitter,
    current: &mut Thread,
    (id, next): (ThreadId, &mut Thread),
    used_ns: u64,
) {
    current.cpu_ns += used_ns;
    current.slice_ns = current.slice_ns.saturating_sub(used_ns);
    next.state = ThreadState::Runnable;
    if next.slice_ns == 0 {
        next.slice_ns = jitter.slice(SLICE_NS);
    }
    machine.enter(id, next);
}

/// Whom a thread that is made ready would have to come before.
#[derive(Clone, Copy)]
struct Order {
    /// The priority of the one who has been chosen.
    chosen: Option<u8>,
    /// One bit for each priority of which somebody waits.
    ready: u32,
}

impl Order {
    #[inline(always)]
    fn of(chosen: &Option<(ThreadId, u8)>, ready: u32) -> Order {
        Order { chosen: chosen.map(|(_, priority)| priority), ready }
    }

    /// Whether a thread of this priority that is made ready comes before all others.
    #[inline(always)]
    fn comes_first(self, priority: u8) -> bool {
        match self.chosen {
            None => self.ready >> priority == 0,
            Some(chosen) => chosen < priority,
        }
    }

    /// Whether a thread whose call is over comes before all others, because of its priority, or because it has
    /// something left of its slice.
    #[inline(always)]
    fn goes_on_first(self, state: &Thread) -> bool {
        let equal = match self.chosen {
            None => self.ready >> state.priority == 1,
            Some(chosen) => chosen == state.priority,
        };
        self.comes_first(state.priority) || equal && state.slice_ns > 0
    }
}

impl<M: Machine> UserMemory<'_, M> {
    /// Sees to the memory of a program's call before it is made: whether all that its answer will fill is there, and
    /// its small input, which goes into the receiver's payload: how long that is.
    #[inline(always)]
    fn short_memory(&mut self, row: &Row, state: &Thread, root: Frame, message: FrameRange) -> Option<u32> {
        let (address, bytes) = super::deliver::output(row, &state.arguments());
        if address != 0 && bytes != 0 && !self.is_there(root, address, bytes, Protection::WRITE) {
            return None;
        }
        let Input::Small(address, length) = row.inputs[0] else { return Some(INPUT_NULL) };
        let (address, length) = (state.argument(address), state.argument(length));
        let to = message.physical() + u64::from(PAYLOAD_OFFSET);
        Some(self.gather_small(root, address, length, to).unwrap_or(INPUT_NULL))
    }
}

impl Thread {
    /// Whether nothing but the answer to a call keeps it from running.
    #[inline(always)]
    fn waits_for(&self, call: CallRef) -> bool {
        self.state == ThreadState::Calling(call) && !self.stopped && self.attention.is_empty()
    }
}

impl Server {
    /// Whether its traps are answered from its journal.
    #[inline(always)]
    pub(crate) fn is_replayed(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.cursor.is_some())
    }

    /// Whether it is not being replayed and its journal has room for any record of the short way.
    #[inline(always)]
    fn has_room(&self) -> bool {
        match &self.journal {
            None => true,
            Some(journal) => journal.cursor.is_none() && journal.end + ROOM <= journal.window.bytes(),
        }
    }

    /// Whether it waits for an event, which can be recorded.
    #[inline(always)]
    fn waits(&self) -> bool {
        self.waiting && self.has_room()
    }
}
