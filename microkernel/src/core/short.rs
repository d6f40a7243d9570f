//! The short way: the messages that there are most of go straight from one thread to the other.
//!
//! It serves what a system spends its time on: a server's call of four words, a program's call that its registers say
//! all about, the answers to both, and the wait for the next event. It takes only what is in order: the receiver
//! waits, nobody who is ready would run before it, nothing is being replayed or is about to stop. Everything else goes
//! the general way, and nothing has changed by then. What the short way does is what the general way would
//! do, to the last byte of the journals: the tests run both.

use libipc::abi::delivery::{Extent, INPUT_NULL, Kind};
use libipc::abi::foreign::{self, Input, LINUX_CALLS, Role, Route, Row};
use libipc::abi::journal::{DELIVERY_MAX, FIXED_MAX, Header};
use libipc::abi::syscall::{Syscall, THEN_RECEIVE, reply_flags};
use libipc::abi::trace::Who;
use libipc::abi::{Frame, Protection, Readiness, Rights, TaskWord};

use super::Kernel;
use super::machine::Machine;
use super::native::{ABI_VERSION, set_outcome};
use super::object::*;
use super::sched::SLICE_NS;

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

/// Whether a program's call is told by its registers, but for a small input and a buffer that its answer fills.
const fn is_plain(row: &Row) -> bool {
    matches!(row.inputs, [Input::None | Input::Small(..), Input::None])
        && matches!(row.named, [foreign::NO_ARGUMENT, foreign::NO_ARGUMENT])
        && row.reserves == 0
        && row.passes == foreign::NO_ARGUMENT
        && row.masks == foreign::NO_ARGUMENT
}

static PLAIN: [bool; LINUX_CALLS as usize] = {
    let mut plain = [false; LINUX_CALLS as usize];
    let mut number = 0;
    while number < plain.len() {
        plain[number] = is_plain(&foreign::LINUX[number]);
        number += 1;
    }
    plain
};

impl<M: Machine> Kernel<M> {
    /// Serves a server's system call, if the short way is open to it.
    #[inline(always)]
    pub(crate) fn short_native_call<const TRACE: bool>(&mut self, from: ThreadId, number: u64) -> Option<()> {
        self.is_open()?;
        match number {
            NULL if !TRACE => self.short_null(from),
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
    fn short_null(&mut self, from: ThreadId) -> Option<()> {
        let state = self.threads.get_mut(from)?;
        set_outcome(&mut state.registers, &Ok([ABI_VERSION, 0, 0, 0, 0]));
        Some(())
    }

    /// A server's call of another.
    #[inline(always)]
    fn short_call<const TRACE: bool>(&mut self, from: ThreadId) -> Option<()> {
        let state = self.threads.get(from)?;
        let (task, [handle, info, word0, word1, word2, word3]) = (state.task, state.arguments());
        let caller = self.servers.get(state.server?)?;
        let (own, cause) = (u64::from(caller.number), caller.handling);
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
        let (next, server) = self.waiting(to)?;
        let (buffer, fill) = (server.buffer, server.fill());
        let (since, sequence) = (self.since, self.sequence + 1);
        let (id, call) = self.calls.renew().ok()?;
        call.begin(CallKind::Native, task, to);
        (call.phase, call.thread, call.session) = (Phase::Held, Some(from), session);
        (call.label, call.words) = (info as u32, [word0, word1, word2, word3]);
        (call.since, call.sequence) = (since, sequence);
        call.cause = if TRACE { cause } else { call.cause };
        self.sequence = sequence;
        let now = self.machine.now();
        let delivery = Self::delivery(&mut self.machine, buffer)?;
        Self::head(delivery, Kind::Call, fill, now);
        delivery.token = id.to_word();
        delivery.label = info as u32;
        delivery.words[..4].copy_from_slice(&[word0, word1, word2, word3]);
        (delivery.badge, delivery.position, delivery.status) = (badge, position, status as u32);
        let server = self.servers.get_mut(to)?;
        server.waiting = false;
        server.note_delivery(&mut self.machine, Extent::Message as u32, 0);
        if TRACE {
            server.handling = id.to_word();
            let words = [handle, info, word0, word1, word2, word3];
            self.trace.note_call([own, cause, u64::from(server.number)], id, words, now);
        }
        self.give_way(from, |from| from.state = ThreadState::Calling(id), next, |_| {}, now)
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
        let state = self.threads.get_mut(from)?;
        if !state.attention.is_empty() || state.restart != 0 {
            return None;
        }
        let caller = self.tasks.get(task)?;
        if let Route::Word(word) = row.route {
            let (pid, value) = (caller.words[TaskWord::Pid as usize], u64::from(caller.words[word as usize]));
            state.registers.rax = value;
            if TRACE {
                let who = Who::Program { pid, tid: state.tid }.to_word();
                self.trace.note_word(&mut self.machine, who, (number, state.arguments()), value);
            }
            return Some(());
        }
        if !PLAIN[number as usize] {
            return None;
        }
        let (tid, words) = (state.tid, state.arguments());
        let (to, session) = self.plain_callee(row.route, caller.table, &words)?;
        let (next, server) = self.waiting(to)?;
        let (buffer, fill) = (server.buffer, server.fill());
        let space = self.spaces.get(caller.space)?;
        let (badge, root) = (space.badge, space.root);
        self.output_is_there(row, &words, root)?;
        let input = self.short_input(row, &words, root, buffer);
        let (since, sequence) = (self.since, self.sequence + 1);
        let (id, call) = self.calls.renew().ok()?;
        call.begin(CallKind::Foreign, task, to);
        (call.phase, call.thread, call.session) = (Phase::Held, Some(from), session);
        (call.label, call.number) = (number, number);
        (call.since, call.sequence) = (since, sequence);
        call.cause = if TRACE { 0 } else { call.cause };
        self.sequence = sequence;
        let now = self.machine.now();
        let delivery = Self::delivery(&mut self.machine, buffer)?;
        Self::head(delivery, Kind::Foreign, fill, now);
        delivery.extent = Extent::Foreign as u32;
        delivery.token = id.to_word();
        delivery.label = number;
        delivery.words = words;
        let session = session.and_then(|session| self.sessions.get(session));
        (delivery.badge, delivery.position, delivery.status) =
            session.map_or((0, 0, 0), |session| (session.badge.0, session.position, session.status));
        let caller = self.tasks.get(task)?;
        let pid = caller.words[TaskWord::Pid as usize];
        let directories = caller.directories.and_then(|id| self.directories.get(id));
        let umask = directories.map_or(0, |directories| directories.umask);
        delivery.caller = super::deliver::introduced(caller, tid, umask, badge);
        delivery.inputs = [input.unwrap_or(INPUT_NULL), INPUT_NULL];
        delivery.payload_len = input.unwrap_or(0);
        delivery.slots = [u32::MAX; 2];
        let server = self.servers.get_mut(to)?;
        server.waiting = false;
        server.note_delivery(&mut self.machine, Extent::Foreign as u32, input.unwrap_or(0));
        if TRACE {
            let made = (number, words, input.unwrap_or(0));
            self.trace.note_linux(&mut self.machine, [pid, tid], server, id, made, now);
        }
        self.give_way(from, |from| from.state = ThreadState::Calling(id), next, |_| {}, now)
    }

    /// Goes on if there is all of the memory that the answer will fill.
    #[inline(always)]
    fn output_is_there(&mut self, row: &Row, words: &[u64; 6], root: Frame) -> Option<()> {
        let (address, bytes) = super::deliver::output(row, words);
        let there = address == 0
            || bytes == 0
            || match super::lease::is_in_one_page(address, bytes) {
                true => self.translate_here(root, address, Protection::WRITE).is_some(),
                false => self.missing(root, address, bytes).is_none(),
            };
        there.then_some(())
    }

    /// The small input of a program's call, if it has one and it is there: its length in the receiver's payload.
    #[inline(always)]
    fn short_input(&mut self, row: &Row, words: &[u64; 6], root: Frame, buffer: FrameRange) -> Option<u32> {
        let Input::Small(at, count) = row.inputs[0] else { return None };
        let [address, length] = [at, count].map(|at| words.get(usize::from(at)).copied().unwrap_or(0));
        self.gather_small(root, address, length, buffer)
    }

    /// Whom a program's call goes to, unless it is one who resolves paths and so is told the caller's directories.
    #[inline(always)]
    fn plain_callee(
        &self,
        route: Route,
        table: TableId,
        words: &[u64; 6],
    ) -> Option<(ServerId, Option<SessionId>)> {
        let (to, session) = match route {
            Route::Server(role) => (self.roles[role as usize]?, None),
            Route::Object(at) => {
                let descriptor = *words.get(usize::from(at))? as u32;
                let slot = self.slot(table, descriptor);
                let Object::Session(id) = slot.object else { return None };
                (self.sessions.get(id)?.server, Some(id))
            }
            Route::Word(_) | Route::Kernel(_) | Route::None => return None,
        };
        (self.roles[Role::Vfs as usize] != Some(to)).then_some((to, session))
    }

    /// The answer to a server's call.
    #[inline(always)]
    fn short_reply<const TRACE: bool>(&mut self, from: ThreadId) -> Option<()> {
        let state = self.threads.get(from)?;
        let (own, arguments) = (state.server?, state.arguments());
        let [token, info, word0, word1, word2, word3] = arguments;
        if info & !LABEL_ONLY != 0 {
            return None;
        }
        let (id, call) = self.plainly_held(own, token, CallKind::Native)?;
        let next = self.answered(id, call, own, true)?;
        let client = self.threads.get(next)?;
        if !self.comes_first(client.priority) {
            return None;
        }
        let (asked, asker) = (client.arguments(), client.server);
        self.calls.discard(id);
        let values = [info, word0, word1, word2, word3];
        if let Some(asker) = asker.and_then(|id| self.servers.get_mut(id)) {
            let [a, b, c, d, e, f] = asked;
            match info | word0 | word1 | word2 | word3 {
                0 => asker.note(&mut self.machine, succeeded(Syscall::Call, 0), [a, b, c, d, e, f]),
                _ => asker.note(
                    &mut self.machine,
                    succeeded(Syscall::Call, values.len() as u8),
                    [a, b, c, d, e, f, info, word0, word1, word2, word3],
                ),
            }
        }
        let server = self.servers.get_mut(own)?;
        server.waiting = true;
        server.note(&mut self.machine, succeeded(Syscall::Reply, 0), arguments);
        let now = self.machine.now();
        if TRACE {
            self.trace.note_answer(Syscall::Reply, server, arguments, now);
        }
        self.give_way(from, wait, next, |next| set_outcome(&mut next.registers, &Ok(values)), now)
    }

    /// The answer to a program's call: its result, and perhaps a new position. The server goes on, or receives.
    #[inline(always)]
    fn short_reply_foreign<const TRACE: bool>(&mut self, from: ThreadId, receives: bool) -> Option<()> {
        let state = self.threads.get(from)?;
        let (task, own, arguments) = (state.task, state.server?, state.arguments());
        // Whoever goes on does so before the one that it has answered, who is the only one to be kept in mind.
        let own_priority = (!receives).then_some(state.priority);
        if own_priority.is_some_and(|own| self.chosen.is_some() || self.ready >> own != 0) {
            return None;
        }
        let [token, flags, result, position, _, changed] = arguments;
        if flags & !SIMPLE_FLAGS != 0 {
            return None;
        }
        let ready = match flags & reply_flags::READY {
            0 => None,
            _ => Some(self.unwatched(task, changed & 0xffff_ffff)?),
        };
        let (id, call) = self.plainly_held(own, token, CallKind::Foreign)?;
        let session = call.session;
        let next = self.answered(id, call, own, receives)?;
        let client = self.threads.get(next)?;
        let priority = client.priority;
        if !self.goes_on_first(client) || own_priority.is_some_and(|own| own <= priority) {
            return None;
        }
        let outputs = flags >> reply_flags::OUTPUTS_SHIFT & OUTPUTS_MAX;
        match outputs {
            0 => {}
            1 => {
                let (root, buffer) = (client.top, self.servers.get(own)?.buffer);
                self.write_output(root, buffer)?;
            }
            // When a page is missing, it is asked for now, and the general way finds that it has been.
            _ => self.write_outputs(task, id, outputs).ok()?,
        }
        if let Some(session) = ready.and_then(|session| self.sessions.get_mut(session)) {
            session.readiness = Readiness::from_bits_truncate((changed >> 32) as u32);
        }
        self.calls.discard(id);
        if flags & reply_flags::POSITION != 0
            && let Some(session) = session.and_then(|session| self.sessions.get_mut(session))
        {
            session.position = position;
        }
        let server = self.servers.get_mut(own)?;
        server.waiting = receives;
        server.note(&mut self.machine, succeeded(Syscall::ReplyForeign, 0), arguments);
        let now = if TRACE || receives { self.machine.now() } else { 0 };
        if TRACE {
            self.trace.note_answer(Syscall::ReplyForeign, server, arguments, now);
        }
        let answer = |next: &mut Thread| {
            next.registers.rax = result;
            next.restart = 0;
        };
        if receives {
            self.give_way(from, wait, next, answer, now)?;
            return self.share_time(priority);
        }
        let client = self.threads.get_mut(next)?;
        client.state = ThreadState::Runnable;
        answer(client);
        self.chosen = Some((next, priority));
        set_outcome(&mut self.threads.get_mut(from)?.registers, &Ok([0; 5]));
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
        let leave = |server: &mut Thread| {
            server.registers.rax = 0;
            server.state = ThreadState::Receiving;
        };
        self.give_way(from, leave, next, |_| {}, now)?;
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

    /// Whether a thread of this priority that is made ready comes before all others.
    #[inline(always)]
    fn comes_first(&self, priority: u8) -> bool {
        match self.chosen {
            None => self.ready >> priority == 0,
            Some((_, chosen)) => chosen < priority,
        }
    }

    /// Whether a thread whose call is over comes before all others, because of its priority, or because it has
    /// something left of its slice.
    #[inline(always)]
    fn goes_on_first(&self, state: &Thread) -> bool {
        let equal = match self.chosen {
            None => self.ready >> state.priority == 1,
            Some((_, chosen)) => chosen == state.priority,
        };
        self.comes_first(state.priority) || equal && state.slice_ns > 0
    }

    /// A session of a server's own that nobody watches.
    #[inline(always)]
    fn unwatched(&self, task: TaskId, handle: u64) -> Option<SessionId> {
        match self.named(task, handle, Rights::CONTROL) {
            Ok(Object::OwnSession(id)) if self.sessions.get(id)?.watchers.is_none() => Some(id),
            _ => None,
        }
    }

    /// A call that this server holds, if it can simply be forgotten when it is over.
    #[inline(always)]
    fn plainly_held(&self, own: ServerId, token: u64, kind: CallKind) -> Option<(CallRef, &Call)> {
        let id = CallRef::from_word(token);
        let call = self.calls.get(id)?;
        let held = call.phase == Phase::Held && call.server == own && call.kind == kind;
        (held && call.holds_nothing()).then_some((id, call))
    }

    /// The thread of a server that waits, if it would run before all others and its journal has room.
    #[inline(always)]
    fn waiting(&self, id: ServerId) -> Option<(ThreadId, &Server)> {
        let server = self.servers.get(id)?;
        if !server.waiting || !server.has_room() {
            return None;
        }
        let thread = server.thread?;
        let first = self.comes_first(self.threads.get(thread)?.priority);
        first.then_some((thread, server))
    }

    /// The thread that waits for the answer to a call, if nothing but the answer keeps it from running, and the server
    /// has nothing else to receive and room to record the answer.
    #[inline(always)]
    fn answered(&self, id: CallRef, call: &Call, own: ServerId, receives: bool) -> Option<ThreadId> {
        let server = self.servers.get(own)?;
        if receives && !server.has_no_events() || !server.has_room() {
            return None;
        }
        let thread = call.thread?;
        let state = self.threads.get(thread)?;
        if state.state != ThreadState::Calling(id) || state.stopped || !state.attention.is_empty() {
            return None;
        }
        if let Some(asker) = state.server
            && !self.servers.get(asker)?.has_room()
        {
            return None;
        }
        Some(thread)
    }

    /// The current thread gives way to another one.
    #[inline(always)]
    fn give_way(
        &mut self,
        from: ThreadId,
        leave: impl FnOnce(&mut Thread),
        next: ThreadId,
        enter: impl FnOnce(&mut Thread),
        now: u64,
    ) -> Option<()> {
        let used = now.saturating_sub(self.since);
        let state = self.threads.get_mut(from)?;
        leave(state);
        state.cpu_ns += used;
        state.slice_ns = state.slice_ns.saturating_sub(used);
        let state = self.threads.get_mut(next)?;
        enter(state);
        state.state = ThreadState::Runnable;
        if state.slice_ns == 0 {
            state.slice_ns = self.jitter.slice(SLICE_NS);
        }
        self.machine.enter(next, state);
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

/// A server has answered and waits for the next event.
#[inline(always)]
fn wait(server: &mut Thread) {
    set_outcome(&mut server.registers, &Ok([0; 5]));
    server.state = ThreadState::Receiving;
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
            Some(journal) => journal.cursor.is_none() && journal.end + ROOM <= journal.memory.bytes(),
        }
    }
}
