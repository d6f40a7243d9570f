//! Poison: an event that its server dies of again whenever it meets it again. It is disposed of by its kind, and the
//! server goes on as if it had never come.
//!
//! The event is the last delivery in the server's journal, and behind it lies what the server did about it. If all of
//! that can be taken back, it is, and the delivery stays as a record that every later replay passes over. If the server
//! died of an effect that the kernel refused, the effect counts as carried out instead. Anything else is broken off:
//! what can be taken back is, the rest stands, and the server's memory of what it did is less than what it did. So it
//! sweeps ([`super::sweep`]). A reissued server has no memory: of the calls that it would be given again, the one it
//! died of is answered an error.

use libipc::abi::crash::{self, Disposition, Fall, Fault};
use libipc::abi::delivery::{DELIVERY_OFFSET, Delivery, Extent, FaultKind, Kind};
use libipc::abi::foreign::Role;
use libipc::abi::journal::{ARGUMENTS, DELIVERY_MAX, DISPOSED, Header, SUM_START, sum};
use libipc::abi::syscall::{Info, NO_ANSWER, Syscall};
use libipc::abi::trace::Event;
use libipc::abi::{KernelError, Owned};
use libipc::linux::call::is_exit;
use libipc::server::TIMER_BIT;
use zerocopy::FromZeros;

use super::handles::count_in;
use super::journal::Journal;
use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

/// A tick that was dropped comes again after this time.
const TICK_AGAIN_NS: u64 = 10_000_000;
/// How often root may die of one event. There is nobody to dispose of it.
const ROOT_FALLS_MAX: u32 = 3;
/// The machine's status when root does not come back.
const ROOT_LOST: u32 = 126;

/// A record of a journal: where it lies, and its header.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    header: Header,
}

/// What can be done about the event that a dead server died of.
#[derive(Clone, Copy, Debug)]
enum Remedy {
    /// The event is taken back, with all that the server did about it.
    TakeBack(Place),
    /// The same, as far as it can be. The rest stands, and the server will know nothing of it.
    BreakOff(Place),
    /// This effect, which was refused, counts as carried out.
    LeaveOut(Place),
    /// This call is answered an error.
    Refuse(CallRef),
}

/// An event that its server died of.
#[derive(Clone, Copy, Debug)]
struct Poison {
    delivery: Delivery,
    /// The record of it, if there is a journal.
    event: Option<Place>,
    remedy: Remedy,
}

impl Poison {
    /// The same event, of which no effect is left out: it is not the only one. Nobody is served by an end that does not
    /// come.
    fn broken_off(self) -> Poison {
        match (self.remedy, self.event) {
            (Remedy::LeaveOut(_), Some(event)) if !is_end(&self.delivery) => {
                Poison { remedy: Remedy::BreakOff(event), ..self }
            }
            _ => self,
        }
    }
}

/// How a trap that went well is taken back.
enum Undo {
    /// It has changed nothing that its server would miss or meet again.
    Nothing,
    /// The name in this slot goes.
    Name(u64),
    /// What these slots name goes.
    Object([u64; 2]),
    /// This kept watch ends.
    Watch(u64),
    /// The timer is set for a while later.
    Timer,
    /// Not at all.
    Never,
}

/// How a trap is taken back, given its arguments and its first two values.
fn undo(call: Syscall, arguments: [u64; 6], values: [u64; 2]) -> Undo {
    use Syscall::*;
    const NONE: u64 = u64::MAX;
    let [first, second, third, ..] = arguments;
    match call {
        Null | Clock | Log | Statistics | Sweep | TaskInfo | DescriptorInfo | ThreadRegisters => {
            Undo::Nothing
        }
        TraceSet | LeaseFromTrace | JournalSum | LeaseFromJournal | DigestAsk | Digest | PortIn | IrqAck
        | Notify => Undo::Nothing,
        LeaseRead | LeaseProbe | LeaseWrite | LeaseFromArena | FrameRead | ArenaRead => Undo::Nothing,
        // What lies in memory that is in use for nothing yet is nobody's; a write that fails may have come half-way.
        LeaseToArena | ArenaWrite | ArenaZero | ArenaCopy => Undo::Nothing,
        FrameZero | FrameCopy | FrameWrite | FrameFromLease => Undo::Nothing,
        // They tell no more than there is to see anyway.
        SessionReady | Watch | WatchChange | Keep => Undo::Nothing,
        // A question; but a handle that came with the answer is not in the record.
        Call if Info::unpack(values[0]).handles == 0 => Undo::Nothing,
        SessionCreate | SpaceCreate | TaskCreate | ThreadCreate => Undo::Object([first, NONE]),
        TaskFork => Undo::Object([first & 0xffff_ffff, first >> 32]),
        Duplicate => Undo::Name(second),
        DescriptorTake => Undo::Name(third),
        WatchKeep => Undo::Watch(values[1]),
        TimerSet => Undo::Timer,
        _ => Undo::Never,
    }
}

/// Whether a trap that was refused can count as carried out. What would have made something cannot: its server would go
/// on to use it.
pub(crate) fn makes_nothing(call: Syscall, arguments: [u64; 6]) -> bool {
    matches!(undo(call, arguments, [0; 2]), Undo::Nothing | Undo::Never | Undo::Timer)
}

/// Whether a trap only asks: its server bears being refused an answer, but not a wrong one.
pub(crate) fn is_question(call: Syscall) -> bool {
    use Syscall::*;
    matches!(
        call,
        LeaseRead
            | LeaseProbe
            | ThreadRegisters
            | TaskInfo
            | JournalSum
            | Watch
            | WatchChange
            | DescriptorInfo
            | DescriptorGive
    )
}

/// Whether an event is the end of a thread or process, to which there is no answer.
fn is_end(delivery: &Delivery) -> bool {
    match Kind::from_number(delivery.kind) {
        Some(Kind::Foreign) => is_exit(delivery.label),
        Some(Kind::Fault) => delivery.label == FaultKind::Lost as u32,
        _ => false,
    }
}

/// Kinds of events whose token is a call that the server has.
fn is_about_call(kind: Kind) -> bool {
    match kind {
        Kind::Call | Kind::Foreign | Kind::Fault | Kind::Attention => true,
        Kind::Cancel | Kind::Ready | Kind::Watch => true,
        Kind::Answer | Kind::Notify | Kind::LastClose | Kind::Watched => false,
    }
}

impl<M: Machine> Kernel<M> {
    /// How a dead server fell; see [`Fall`]. All zero if it was killed.
    pub(crate) fn fall(&mut self, id: ServerId) -> Outcome {
        let server = self.servers.get(id).ok_or(KernelError::BadHandle)?;
        let (received, journaled) = (server.received, server.journal.is_some());
        let Some(fell) = server.fell.filter(|_| server.state == ServerState::Dead) else {
            return Ok([0; 5]);
        };
        // A loop is left anywhere.
        let at = if fell.fault == Fault::Watchdog { 0 } else { fell.at };
        // What takes the place of a replay where there is no journal is as many messages as the last incarnation had.
        let end = server.journal.map_or(received - server.began_at, |journal| journal.end);
        let place = [fell.fault as u64, fell.detail, at, end].map(u64::to_le_bytes);
        let place = sum(SUM_START, place.as_flattened());
        let poison = self.poison(id);
        let call = poison.and_then(|poison| self.poisoned_call(id, &poison));
        let pid = |call: CallRef| {
            let task = self.calls.get(call).and_then(|call| self.tasks.get(call.task));
            task.map_or(0, Task::pid)
        };
        let event = match call {
            Some(call) if !journaled => call.to_word(),
            _ => received,
        };
        let waiting = count_in(&self.calls, |call| call.server == id && call.phase == Phase::Queued);
        let culprit = call.map_or(0, pid);
        let (disposable, waiting) = (poison.is_some() || self.is_mendable(id), waiting as u32);
        let former = self.has_former(id);
        Ok(Fall { fault: fell.fault, event, place, disposable, former, culprit, waiting }.to_values())
    }

    /// A dead server does not do what its journal has, and it is not known why.
    fn is_mendable(&self, id: ServerId) -> bool {
        let Some(server) = self.servers.get(id) else { return false };
        let diverged = server.fell.is_some_and(|fell| fell.fault == Fault::Diverged);
        diverged && server.journal.is_some_and(|journal| !journal.mended)
    }

    /// The event that a dead server died of, if something can be done about it.
    fn poison(&mut self, id: ServerId) -> Option<Poison> {
        let server = self.servers.get(id)?;
        let fault = server.fell?.fault;
        if server.state != ServerState::Dead || matches!(fault, Fault::Diverged | Fault::JournalFull) {
            return None;
        }
        match server.journal {
            Some(_) => self.recorded_poison(id),
            None => self.held_poison(id),
        }
    }

    /// The same for a journaled server.
    fn recorded_poison(&mut self, id: ServerId) -> Option<Poison> {
        let journal = self.servers.get(id)?.journal?;
        if journal.cursor.is_some_and(|cursor| cursor < journal.end) {
            // It died of something that it had survived before.
            return None;
        }
        let (mut event, mut last, mut revocable) = (None, None, true);
        let mut at = 0;
        while at < journal.end {
            let (header, arguments, values) = self.record_at(&journal, at);
            let place = Place { at, header };
            match Syscall::from_number(header.number.into()) {
                Some(Syscall::Receive) => (event, last, revocable) = (Some(place), None, true),
                // What comes out of a panic.
                Some(Syscall::Log) => {}
                Some(call) => {
                    let undo = undo(call, arguments, values);
                    revocable &= header.error != 0 || !matches!(undo, Undo::Never);
                    last = (header.error != 0 && makes_nothing(call, arguments)).then_some(place);
                }
                None => event = None,
            }
            at += header.bytes();
        }
        let event: Place = event?;
        let delivery = self.recorded_delivery(&journal, event);
        let remedy = match last {
            // Nobody is served by an end that does not come.
            Some(effect) if is_end(&delivery) => Remedy::LeaveOut(effect),
            _ if revocable => Remedy::TakeBack(event),
            Some(effect) => Remedy::LeaveOut(effect),
            None => Remedy::BreakOff(event),
        };
        Some(Poison { delivery, event: Some(event), remedy })
    }

    /// The same for a reissued server: the call it was at, or else the one it has had longest.
    fn held_poison(&mut self, id: ServerId) -> Option<Poison> {
        let buffer = self.servers.get(id)?.buffer;
        let delivery = *Self::delivery(&mut self.machine, buffer)?;
        // The server can write there: what it says is believed as far as there is such a call.
        let at = self.call_held_by(id, delivery.token).ok();
        let at = at.filter(|_| Kind::from_number(delivery.kind).is_some_and(is_about_call));
        let held = (0..self.calls.bound()).filter_map(|index| {
            let call = self.calls.at(index)?;
            let state = self.calls.get(call)?;
            (state.server == id && state.phase == Phase::Held).then_some((state.sequence, call))
        });
        let call = at.or_else(|| held.min_by_key(|(sequence, _)| *sequence).map(|(_, call)| call))?;
        Some(Poison { delivery, event: None, remedy: Remedy::Refuse(call) })
    }

    /// The call that an event is about, if its server still has it.
    fn poisoned_call(&self, id: ServerId, poison: &Poison) -> Option<CallRef> {
        match poison.remedy {
            Remedy::Refuse(call) => Some(call),
            Remedy::TakeBack(_) | Remedy::BreakOff(_) | Remedy::LeaveOut(_) => {
                Kind::from_number(poison.delivery.kind).filter(|kind| is_about_call(*kind))?;
                self.call_held_by(id, poison.delivery.token).ok()
            }
        }
    }

    /// A record's header, arguments and first values.
    pub(crate) fn record_at(
        &mut self,
        journal: &Journal,
        at: u64,
    ) -> (Header, [u64; ARGUMENTS as usize], [u64; 2]) {
        let mut first = [0];
        Self::words(&mut self.machine, journal.memory, at, &mut first);
        let header = Header::unpack(first[0]);
        let (mut arguments, mut values) = ([0; ARGUMENTS as usize], [0; 2]);
        let count = header.arguments();
        Self::words(&mut self.machine, journal.memory, at + 8, &mut arguments[..count]);
        let values_at = at + 8 + 8 * count as u64;
        let there = usize::from(header.values).min(values.len());
        Self::words(&mut self.machine, journal.memory, values_at, &mut values[..there]);
        (header, arguments, values)
    }

    fn recorded_delivery(&mut self, journal: &Journal, event: Place) -> Delivery {
        let bytes = u64::from(event.header.payload).min(DELIVERY_MAX);
        let recorded = self.machine.bytes(journal.memory, event.at + event.header.fixed_bytes(), bytes);
        let mut delivery = Delivery::new_zeroed();
        let place = zerocopy::IntoBytes::as_mut_bytes(&mut delivery);
        place[..recorded.len()].copy_from_slice(recorded);
        delivery
    }

    /// Disposes of the event that a dead server died of.
    pub(crate) fn server_dispose(&mut self, task: TaskId, [handle, wanted, ..]: [u64; 6]) -> Outcome {
        let id = self.dead_server(task, handle)?;
        let wanted = crash::Remedy::from_number(wanted).ok_or(KernelError::BadArgument)?;
        let mended = match wanted {
            crash::Remedy::Any => self.is_mendable(id).then_some(Disposition::Mended),
            crash::Remedy::BreakOff => None,
            crash::Remedy::Former if !self.has_former(id) => return Err(KernelError::WrongState),
            crash::Remedy::Former => Some(Disposition::SteppedBack),
        };
        if let Some(disposition) = mended {
            self.keep_reproducer(id, 0, disposition);
            let back = wanted == crash::Remedy::Former;
            let done = if back { self.step_back(id) } else { self.mend(id) };
            return if done { Ok([disposition as u64, 0, 0, 0, 0]) } else { Err(KernelError::WrongState) };
        }
        let poison = self.poison(id).ok_or(KernelError::WrongState)?;
        let poison = if wanted == crash::Remedy::BreakOff { poison.broken_off() } else { poison };
        let call = self.poisoned_call(id, &poison);
        let kind = Kind::from_number(poison.delivery.kind);
        let disposition = match (poison.remedy, kind) {
            (Remedy::LeaveOut(_), _) => Disposition::LeftOut,
            (Remedy::BreakOff(_), _) => Disposition::BrokenOff,
            (Remedy::TakeBack(_), Some(Kind::Answer)) => Disposition::Failed,
            _ if call.is_some() => Disposition::Refused,
            _ => Disposition::Dropped,
        };
        let journal = self.servers.get(id).and_then(|server| server.journal);
        if let (Remedy::TakeBack(event) | Remedy::BreakOff(event), Some(journal), Some(Kind::Answer)) =
            (poison.remedy, journal, kind)
            && event.at + event.header.bytes() + answer_bytes() > journal.memory.bytes()
        {
            return Err(KernelError::Exhausted);
        }
        self.keep_reproducer(id, poison.delivery.kind, disposition);
        self.trace_server(Event::Disposed, id, &[u64::from(poison.delivery.kind), disposition as u64]);
        match (poison.remedy, journal) {
            (Remedy::TakeBack(event) | Remedy::BreakOff(event), Some(journal)) => {
                self.take_back(id, &journal, event, &poison.delivery);
            }
            (Remedy::LeaveOut(effect), Some(journal)) => self.leave_out(id, &journal, effect),
            _ => {}
        }
        if matches!(poison.remedy, Remedy::BreakOff(_) | Remedy::LeaveOut(_)) {
            self.raise_epoch(id);
        }
        if let Some(call) = call {
            self.fail_poisoned(call);
        }
        self.tell_of_unclaimed();
        Ok([disposition as u64, poison.delivery.kind.into(), 0, 0, 0])
    }

    /// Makes a refused effect one that was carried out. The call it was for, if it was for one, is answered an error.
    fn leave_out(&mut self, id: ServerId, journal: &Journal, Place { at, header }: Place) {
        let (_, [token, ..], _) = self.record_at(journal, at);
        let header = Header { error: 0, values: 0, payload: 0, ..header };
        self.set_header(journal, at, header);
        self.cut(id, at + header.bytes());
        if let Some(call) = Syscall::from_number(header.number.into()) {
            self.fail_named(id, call, token);
        }
    }

    /// An effect that was refused counts as carried out. If it was for a call, that is answered an error.
    fn fail_named(&mut self, id: ServerId, effect: Syscall, token: u64) {
        if effect.row().arguments.first() == Some(&"token")
            && let Ok(call) = self.call_held_by(id, token)
        {
            self.fail_poisoned(call);
        }
    }

    /// The same, for one that is being refused; if it was a call of the server's own, that has failed.
    pub(crate) fn fail_refused(&mut self, id: ServerId, effect: Syscall, [token, ..]: [u64; 6]) {
        self.fail_named(id, effect, token);
        let Some((task, buffer)) = self.servers.get(id).map(|server| (server.task, server.buffer)) else {
            return;
        };
        if effect != Syscall::Send || self.charge(id, Owned::Calls).is_err() {
            return;
        }
        let tag = Self::header(&mut self.machine, buffer).map_or(NO_ANSWER.0, |header| header.tag);
        match self.new_call(CallKind::Sent, task, id, |call| call.tag = tag) {
            Ok(call) => self.fail_call(call),
            Err(_) => self.credit(id, Owned::Calls),
        }
    }

    /// Takes an event back, with all that its server did about it. The server stands before it again.
    fn take_back(&mut self, id: ServerId, journal: &Journal, event: Place, delivery: &Delivery) {
        let Some(server) = self.servers.get(id) else { return };
        let (task, end) = (server.task, event.at + event.header.bytes());
        let mut at = end;
        while at < journal.end {
            let (header, arguments, values) = self.record_at(journal, at);
            if header.error == 0
                && let Some(call) = Syscall::from_number(header.number.into())
            {
                self.take_back_trap(id, task, undo(call, arguments, values));
            }
            at += header.bytes();
        }
        for slot in delivery.handles.iter().take(delivery.handle_count as usize) {
            self.drop_name(task, u64::from(*slot));
        }
        self.set_header(journal, event.at, Header { number: DISPOSED, ..event.header });
        self.cut(id, end);
        match Kind::from_number(delivery.kind) {
            Some(Kind::Answer) => self.answer_error(id, delivery),
            Some(Kind::Notify) => self.drop_bits(id, delivery.words[0]),
            Some(Kind::LastClose) => self.close_again(task, delivery),
            Some(Kind::Watched) => self.watched_again(id, delivery.words[0]),
            _ => {}
        }
    }

    fn take_back_trap(&mut self, id: ServerId, task: TaskId, undo: Undo) {
        match undo {
            Undo::Nothing | Undo::Never => {}
            Undo::Name(slot) => self.drop_name(task, slot),
            Undo::Object(slots) => {
                for slot in slots {
                    self.end_named(task, slot);
                }
            }
            Undo::Watch(watch) => {
                let _: Outcome = self.watch_end(task, [watch, 0, 0, 0, 0, 0]);
            }
            Undo::Timer => self.drop_bits(id, TIMER_BIT),
        }
    }

    pub(crate) fn drop_name(&mut self, task: TaskId, slot: u64) {
        if let (Ok(slot), Some(table)) = (u32::try_from(slot), self.tasks.get(task).map(|task| task.table)) {
            self.empty(table, slot);
        }
    }

    fn set_header(&mut self, journal: &Journal, at: u64, header: Header) {
        let bytes = self.machine.bytes(journal.memory, at, 8);
        bytes.copy_from_slice(&header.pack().to_le_bytes());
    }

    /// Ends a journal there.
    fn cut(&mut self, id: ServerId, end: u64) {
        if let Some(journal) = self.servers.get_mut(id).and_then(|server| server.journal.as_mut()) {
            journal.end = end;
        }
    }

    /// Notification bits that are not seen: the timer goes off again, and devices may interrupt again.
    fn drop_bits(&mut self, id: ServerId, bits: u64) {
        if bits & TIMER_BIT != 0 {
            let soon = self.machine.now() + TICK_AGAIN_NS;
            self.set_deadline(id, soon);
        }
        for line in 0..self.interrupts.len() {
            if let Some((_, bit)) = self.interrupts[line].filter(|(server, _)| *server == id)
                && bits & 1 << bit != 0
            {
                self.machine.enable_interrupt(line as u8, true);
            }
        }
    }

    /// A last close that is not seen comes once more: what its server dies of may be what else it has. Dies it of that
    /// too, whoever has the other end of a pipe open will not be told that this one is closed, and gets errors.
    fn close_again(&mut self, task: TaskId, delivery: &Delivery) {
        let Some(server) = self.server_of(task) else { return };
        let found = self.named(task, delivery.owner.into(), libipc::abi::Rights::empty());
        let id = match found {
            Ok(Object::OwnSession(id)) if delivery.words[0] != 0 => return self.cut_off_counterparts(id),
            Ok(Object::OwnSession(id)) => id,
            _ if delivery.words[0] == 0 && delivery.owner == u32::MAX => {
                let nameless = [delivery.badge, 0, 0, 0];
                let Ok(id) = self.make_session(task, None, nameless) else { return };
                id
            }
            _ => return,
        };
        if let Some(session) = self.sessions.get_mut(id) {
            session.closes_again = true;
        }
        if let Some(server) = self.servers.get_mut(server) {
            server.closes.push_back(&mut self.sessions, id);
        }
    }

    /// The same for what a kept watch tells.
    fn watched_again(&mut self, id: ServerId, cookie: u64) {
        let mut watches = (0..self.watchers.bound()).filter_map(|index| self.watchers.at(index));
        let own = |watch: &WatchId| {
            self.watchers.get(*watch).is_some_and(|watcher| watcher.by == WatchedBy::Server(id, cookie))
        };
        let Some(watch) = watches.find(own) else { return };
        let Some(watcher) = self.watchers.get_mut(watch) else { return };
        if !core::mem::replace(&mut watcher.tells_again, true)
            && !watcher.link.is_listed()
            && let Some(server) = self.servers.get_mut(id)
        {
            server.watched.push_back(&mut self.watchers, watch);
        }
    }

    /// In the place of an answer that killed its receiver: one that says that there is none.
    fn answer_error(&mut self, id: ServerId, delivery: &Delivery) {
        let Some(server) = self.servers.get(id) else { return };
        let failed = Delivery {
            label: u32::MAX,
            payload_len: 0,
            handle_count: 0,
            extent: Extent::Message as u32,
            ..*delivery
        };
        if let Some(place) = Self::delivery(&mut self.machine, server.buffer) {
            *place = failed;
        }
        let received = server.received;
        if let Some(server) = self.servers.get_mut(id) {
            server.note_delivery(&mut self.machine, Extent::Message as u32, 0);
            // It is the same event.
            server.received = received;
        }
    }

    /// Ends a call that killed its server. A fault that killed the process server is not raised again as it was, a
    /// thread that it cannot bring its signals does not run on without them, and one that would exit does not run on
    /// at all: their processes end.
    pub(crate) fn fail_poisoned(&mut self, id: CallRef) {
        let Some(call) = self.calls.get(id) else { return };
        let (task, words, label) = (call.task, call.words, call.label);
        let exit = call.kind == CallKind::Foreign && is_exit(call.number);
        let raised = matches!(call.kind, CallKind::Fault | CallKind::Attention) && call.parent.is_none();
        let own =
            call.thread.filter(|_| (raised || exit) && self.roles[Role::Proc as usize] == Some(call.server));
        let (Some(thread), server) = (own, call.server) else { return self.fail_call(id) };
        let again = call.kind == CallKind::Fault && label == FaultKind::Lost as u32 && !call.rewritten;
        self.end_call(id);
        if again {
            self.stand_still(thread);
            return self.release_thread(thread, id);
        }
        self.raise(thread, task, server, FaultKind::Lost, words);
    }

    /// Starts root again, unless it dies of the same event each time: then the machine stops.
    pub(crate) fn restart_root(&mut self, id: ServerId) {
        let falls = self.servers.get(id).map_or(0, |server| server.falls.1);
        if falls < ROOT_FALLS_MAX {
            return self.restart(id);
        }
        let disposition = match (self.is_mendable(id), self.has_former(id)) {
            (true, _) => Disposition::Mended,
            (false, true) => Disposition::SteppedBack,
            (false, false) => Disposition::GivenUp,
        };
        self.keep_reproducer(id, 0, disposition);
        if disposition == Disposition::Mended && self.mend(id) || self.step_back(id) {
            if let Some(server) = self.servers.get_mut(id) {
                server.falls = (0, 0);
            }
            return self.restart(id);
        }
        self.machine.log(b"root dies of the same event again and again: the machine stops\n");
        self.off = Some((ROOT_LOST, false));
    }
}

/// What the record of an answer without payload takes.
fn answer_bytes() -> u64 {
    let payload = Extent::Message as u32;
    Header { number: Syscall::Receive as u16, error: 0, values: 0, payload }.bytes()
}

const _: () = assert!(DELIVERY_OFFSET as u64 + DELIVERY_MAX <= 512);
