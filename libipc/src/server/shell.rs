//! The shell around a server: receive, decode, step, carry the effects out, take snapshots.
//!
//! It keeps, with the server's own state, what it holds for it: handle slots, effects that wait for a caller's page,
//! and events to be stepped again. All of it is in the snapshot; nothing else survives an incarnation.

use alloc::{collections::BTreeMap, vec::Vec};
use core::{mem, slice};
use serde::{Deserialize, Serialize};

use super::effect::{Change, Effect, Effects, ForeignReply, NewSession, Operation};
use super::event::Event;
use super::handles::HandleSlots;
use super::{Boot, DIGEST_BIT, SAVE_BIT, SWEEP_BIT, Server, carry, live::Live, receive, snapshot, sweep};
use crate::abi::delivery::{CROWDED, PAYLOAD_OFFSET};
use crate::abi::journal;
use crate::abi::syscall::Syscall;
use crate::abi::{CallId, Frame, Handle, KernelError};
use crate::linux::errno;
use crate::sys::Traps;

/// A snapshot is taken when it is nearer than this, in thousandths: see `Delivery::fill`.
const SNAPSHOT_AT: u32 = 500;
/// What the shell is notified of, and the server is not.
const OWN_BITS: u64 = DIGEST_BIT | SAVE_BIT | SWEEP_BIT;

/// What is to become of further effects of a call.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Deferred {
    /// They wait, these first, for a page of the caller.
    Waiting(Vec<Effect>),
    /// The caller's address was bad: copies are dropped, and a Linux answer becomes EFAULT.
    Bad,
}

/// What the shell keeps beside the server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// Slots of the capability space.
    pub slots: HandleSlots,
    /// The slots offered for handles that come in.
    pub offered: [Handle; 4],
    /// Effects of calls that wait for a page of their caller.
    pub deferred: BTreeMap<CallId, Deferred>,
    /// Events to be stepped again when a page of the caller is there.
    pub again: BTreeMap<CallId, Event>,
}

impl Kept {
    /// Whether no call waits for a page of its caller.
    fn waits_for_nobody(&self) -> bool {
        self.deferred.is_empty() && self.again.is_empty()
    }
}

/// A server and its shell.
pub struct Shell<S, T> {
    /// The server.
    pub server: S,
    /// What the shell keeps.
    pub kept: Kept,
    /// The way to the kernel.
    pub traps: T,
    /// The first slot of its capability space that it may choose.
    first_free: u32,
    /// The next event is in the message buffer already: the last trap received it.
    received: bool,
    /// The server has been told that there is hardly any room for more state.
    crowded: Option<bool>,
    /// The checksum of the last snapshot, if there is one.
    saved: Option<u64>,
}

impl<S: Server, T: Traps> Shell<S, T> {
    /// Starts an incarnation: from the snapshot if there is one, else from nothing.
    pub fn start(boot: &Boot, mut traps: T) -> Shell<S, T> {
        let snapshot = read_snapshot(&mut traps);
        if snapshot.is_empty() {
            let mut slots = HandleSlots::new(boot.first_free);
            let offered = [slots.take(), slots.take(), slots.take(), slots.take()];
            let kept = Kept { slots, offered, deferred: BTreeMap::new(), again: BTreeMap::new() };
            let mut shell = Shell::with(boot, S::new(boot), kept, traps, None);
            shell.offer();
            let now = shell.traps.trap(Syscall::Clock, [0; 6]).map_or(0, |values| values[0]);
            shell.step_more(&Event::Start, now, None, false);
            shell
        } else {
            let (kept, server, schema) =
                snapshot::restore(&snapshot).expect("this image reads what the server saves");
            // What is saved behind a snapshot is of the same schema.
            let saved = (schema == S::SCHEMA).then(|| digest(&snapshot));
            let mut shell = Shell::with(boot, server, kept, traps, saved);
            shell.offer();
            shell
        }
    }

    fn with(boot: &Boot, server: S, kept: Kept, traps: T, saved: Option<u64>) -> Shell<S, T> {
        let first_free = boot.first_free;
        Shell { server, kept, traps, first_free, received: false, crowded: None, saved }
    }

    /// Serves for ever.
    pub fn run(&mut self) -> ! {
        loop {
            self.serve_one();
        }
    }

    /// Receives one event and sees it through.
    pub fn serve_one(&mut self) {
        if !mem::take(&mut self.received) {
            let received = self.traps.trap(Syscall::Receive, [0; 6]);
            received.expect("a server may always receive");
        }
        let head = receive::head(self.traps.buffer());
        // Looked at where it is: an event is large.
        let incoming = receive::incoming(self.traps.buffer());
        self.renew_offer(&head);
        let now = head.now;
        let mut full = (head.fill > SNAPSHOT_AT || self.crowded != Some(false)) && self.is_full(head.fill);
        match &incoming {
            Some(receive::Incoming::Event(Event::Notify { bits })) if bits & OWN_BITS != 0 => {
                full |= bits & SAVE_BIT != 0;
                if bits & SWEEP_BIT != 0 {
                    let gone = sweep::sweep(&mut self.kept, &self.server, &mut self.traps, self.first_free);
                    self.offer();
                    gone.iter().for_each(|event| self.step_more(event, now, None, false));
                }
                if bits & DIGEST_BIT != 0 {
                    self.tell_digest();
                }
                if bits & !OWN_BITS != 0 {
                    self.step_more(&Event::Notify { bits: bits & !OWN_BITS }, now, None, !full);
                }
            }
            // A snapshot has to be taken between one event and the next.
            Some(receive::Incoming::Event(event)) => self.step(event, now, None, !full),
            Some(receive::Incoming::Ready { call, failed }) => self.ready(*call, *failed, now),
            None => panic!("the kernel delivers what the shell does not know"),
        }
        if full {
            self.snapshot();
        }
    }

    /// Whether the journal is long enough for a snapshot. The server is told if its state is too large, or not any
    /// more.
    #[cold]
    fn is_full(&mut self, fill: u32) -> bool {
        let crowded = fill & CROWDED != 0;
        if self.crowded.replace(crowded) != Some(crowded) {
            self.server.crowded(crowded);
        }
        fill & !CROWDED > SNAPSHOT_AT
    }

    /// Tells the digest of the whole state. It is in the journal, so every replay is checked against it.
    fn tell_digest(&mut self) {
        let told = self.traps.trap(Syscall::Digest, [self.digest(), 0, 0, 0, 0, 0]);
        told.expect("a server may always tell its digest");
    }

    fn offer(&mut self) {
        let offered = self.kept.offered;
        receive::write_offer(self.traps.buffer(), &offered);
    }

    /// Slots that were used for incoming handles are replaced by fresh ones.
    fn renew_offer(&mut self, head: &receive::Head) {
        if head.handle_count == 0 {
            return;
        }
        for slot in &mut self.kept.offered {
            if head.handles.contains(&slot.0) {
                *slot = self.kept.slots.take();
            }
        }
        self.offer();
    }

    /// Steps an event and what follows from it. `failed` names a call whose missing page will never come; `join`
    /// lets the last effect's trap receive the next event.
    #[inline(always)]
    fn step(&mut self, event: &Event, now: u64, failed: Option<CallId>, join: bool) {
        let mut live = Live { traps: &mut self.traps, kept: &mut self.kept, now, failed, missing: None };
        let mut effects = self.server.step(event, &mut live);
        let missing = live.missing;
        // Most steps answer the call that they were given with a number, and that is all.
        if let (Event::Call(asked), [Effect::ReplyForeign { call, reply }]) = (event, &effects.list[..])
            && join
            && *call == asked.id
            && carry::is_number(reply)
            && self.kept.waits_for_nobody()
            && !effects.again
        {
            self.answer(*call, reply);
            // A number holds no memory: all that there is to give back is the list.
            mem::forget(effects.list.drain(..));
        } else {
            self.see_through(event, &effects, missing, now, join);
        }
    }

    /// Steps what comes less often than what was received.
    #[inline(never)]
    fn step_more(&mut self, event: &Event, now: u64, failed: Option<CallId>, join: bool) {
        self.step(event, now, failed, join);
    }

    /// Answers a call with a number, and receives.
    #[inline(always)]
    fn answer(&mut self, call: CallId, reply: &ForeignReply) {
        match carry::reply_number(&mut carry::Joined(&mut self.traps), call, reply) {
            Ok(()) => self.received = true,
            // The caller is gone.
            Err(KernelError::NoSuchCall) => {}
            Err(error) => panic!("{error}: {reply:?}"),
        }
    }

    /// What follows from a step.
    #[inline(never)]
    fn see_through(
        &mut self,
        event: &Event,
        effects: &Effects,
        missing: Option<CallId>,
        now: u64,
        join: bool,
    ) {
        if effects.again {
            let call = missing.expect("an event comes again when a page that was missing is there");
            self.kept.again.insert(call, event.clone());
            return;
        }
        if let Event::Call(call) = event {
            assert!(settles(effects, call.id), "a step has dropped the call it was given");
        }
        if let Event::Cancel { call } = event
            && effects
                .list
                .iter()
                .any(|effect| matches!(effect, Effect::Park { call: kept, .. } if kept == call))
        {
            // Its caller may be gone by now, like that of an answer.
            let _ = self.traps.trap(Syscall::Keep, [call.0, 0, 0, 0, 0, 0]);
        }
        self.carry_out(&effects.list, now, join);
    }

    /// Carries effects out in order; the outcomes of those that were attempted are stepped after the last.
    fn carry_out(&mut self, list: &[Effect], now: u64, join: bool) {
        match list {
            // Most steps answer a call, or keep it, and that is all.
            [Effect::Park { .. }] => {}
            [answer @ (Effect::ReplyForeign { .. } | Effect::Reply { .. })] if self.kept.again.is_empty() => {
                self.carry_one(answer, join);
            }
            list => self.carry_list(list, now, join),
        }
    }

    fn carry_list(&mut self, list: &[Effect], now: u64, join: bool) {
        let mut outcomes = Vec::new();
        let mut left = list;
        while let Some((effect, rest)) = left.split_first() {
            let together = self.carry_together(left);
            if together > 0 {
                left = &left[together..];
                continue;
            }
            left = rest;
            match effect {
                Effect::Try { tag, operation } => {
                    let result = carry::operate(&mut self.traps, &mut self.kept.slots, operation);
                    outcomes.push(Event::Done { tag: *tag, result });
                }
                Effect::ReplyOpen { call, session } => {
                    let join = join && left.is_empty() && outcomes.is_empty();
                    outcomes.extend(self.open(*call, *session, join));
                }
                effect if self.kept.again.is_empty() => {
                    self.carry_one(effect, join && left.is_empty() && outcomes.is_empty());
                }
                effect => {
                    self.carry_one(effect, false);
                    outcomes.extend(self.left_waiting(effect));
                }
            }
        }
        let count = outcomes.len();
        for (number, outcome) in (1..).zip(outcomes) {
            self.step_more(&outcome, now, None, join && number == count);
        }
    }

    /// An event that waits for a page of a call's caller, when the call has just been answered: no page will come any
    /// more, so it is stepped again now.
    fn left_waiting(&mut self, effect: &Effect) -> Option<Event> {
        match effect {
            Effect::Reply { call, .. } | Effect::ReplyForeign { call, .. } => self.kept.again.remove(call),
            _ => None,
        }
    }

    /// Effects that stand together and that one trap can serve: handles that are given back, frames that are filled and
    /// the pages mapped with them. How many it has served.
    fn carry_together(&mut self, effects: &[Effect]) -> usize {
        if !matches!(effects, [Effect::Do(_), Effect::Do(_), ..]) {
            return 0;
        }
        let mut handles = [Handle::NONE; carry::CLOSES_MAX];
        let mut fills = [(Frame(0), Frame(0)); carry::COPIES_MAX];
        let (mut closed, mut filled, mut zeroed, mut mapped) = (0, 0, false, 0);
        let mut result = Ok(());
        for effect in effects {
            let Effect::Do(operation) = effect else { break };
            match operation {
                Operation::Close { handle } if filled == 0 && closed < handles.len() => {
                    handles[closed] = *handle;
                    closed += 1;
                }
                Operation::FrameCopy { from, to } if closed == 0 && filled < fills.len() => {
                    fills[filled] = (*from, *to);
                    filled += 1;
                }
                Operation::FrameZero { frame } if closed == 0 && filled < fills.len() => {
                    fills[filled] = (*frame, *frame);
                    (filled, zeroed) = (filled + 1, true);
                }
                Operation::Map { space, tables, pages } if (1..=carry::FILLS_MAX).contains(&filled) => {
                    let fills = &fills[..filled];
                    result = carry::fill_and_map(&mut self.traps, fills, *space, tables, pages).map(|_| ());
                    mapped = 1;
                    break;
                }
                _ => break,
            }
        }
        if closed > 1 {
            result = carry::close(&mut self.traps, &mut self.kept.slots, &handles[..closed]);
        } else if filled > 1 && !zeroed && mapped == 0 {
            result = carry::copy_frames(&mut self.traps, &fills[..filled]).map(|_| ());
        } else if mapped == 0 {
            return 0;
        }
        let together = closed + filled + mapped;
        result.unwrap_or_else(|error| panic!("{error}: {:?}", &effects[..together]));
        together
    }

    /// One effect's trap, with the next receive joined to it if that is wanted and can be.
    fn carry(&mut self, effect: &Effect, join: bool) -> Result<(), KernelError> {
        if join && carry::is_joinable(effect) {
            carry::carry(&mut carry::Joined(&mut self.traps), &mut self.kept.slots, effect)?;
            self.received = true;
            return Ok(());
        }
        carry::carry(&mut self.traps, &mut self.kept.slots, effect)
    }

    /// Answers a call with a session; when that cannot be made the open file's end is what happens next.
    fn open(&mut self, call: CallId, session: NewSession, join: bool) -> Option<Event> {
        match self.carry(&Effect::ReplyOpen { call, session }, join) {
            Ok(()) => return None,
            Err(KernelError::Exhausted | KernelError::Quota) => {
                let reply = ForeignReply { result: -i64::from(errno::ENFILE), ..ForeignReply::default() };
                self.carry_one(&Effect::ReplyForeign { call, reply }, false);
            }
            Err(KernelError::NoSuchCall) => {}
            Err(error) => panic!("{error}: {session:?}"),
        }
        if session.owner != Handle::NONE {
            self.kept.slots.give_back(session.owner);
        }
        Some(Event::LastClose { badge: session.badge, owner: Handle::NONE })
    }

    fn carry_one(&mut self, effect: &Effect, join: bool) {
        let Some(call) = carry::call_of(effect) else {
            let result = self.carry(effect, join);
            return result.unwrap_or_else(|error| panic!("{error}: {effect:?}"));
        };
        let rest;
        let effect = match self.kept.deferred.get(&call) {
            Some(Deferred::Waiting(_)) => return self.defer(call, effect.clone()),
            Some(Deferred::Bad) => match self.after_bad_address(call, effect) {
                Some(effect) => {
                    rest = effect;
                    &rest
                }
                None => return,
            },
            None => effect,
        };
        match self.carry(effect, join) {
            // The caller is gone: what was to be done for it goes nowhere.
            Ok(()) | Err(KernelError::NoSuchCall) => {}
            Err(KernelError::NotResident) => {
                self.kept.deferred.insert(call, Deferred::Waiting(Vec::new()));
                self.defer(call, effect.clone());
            }
            Err(KernelError::BadAddress) => self.bad_address(call, slice::from_ref(effect)),
            Err(error) => panic!("{error}: {effect:?}"),
        }
    }

    /// Puts an effect behind those that wait for a page. What it changes beside its call does not wait.
    fn defer(&mut self, call: CallId, mut effect: Effect) {
        if let Effect::ReplyForeign { reply, .. } = &mut effect
            && let Change::Ready(session, readiness) = reply.change
        {
            reply.change = Change::None;
            self.carry_one(&Effect::Do(Operation::SessionReady { session, readiness }), false);
        }
        if let Some(Deferred::Waiting(waiting)) = self.kept.deferred.get_mut(&call) {
            waiting.push(effect);
        }
    }

    /// A page that a call was missing is there, or never will be.
    fn ready(&mut self, call: CallId, failed: bool, now: u64) {
        match self.kept.deferred.remove(&call) {
            Some(Deferred::Waiting(waiting)) if failed => self.bad_address(call, &waiting),
            Some(Deferred::Waiting(waiting)) => {
                waiting.iter().for_each(|effect| self.carry_one(effect, false));
            }
            Some(Deferred::Bad) => {
                self.kept.deferred.insert(call, Deferred::Bad);
            }
            None => {}
        }
        if let Some(event) = self.kept.again.remove(&call) {
            self.step_more(&event, now, failed.then_some(call), false);
        }
    }

    fn bad_address(&mut self, call: CallId, waiting: &[Effect]) {
        self.kept.deferred.insert(call, Deferred::Bad);
        waiting.iter().for_each(|effect| self.carry_one(effect, false));
    }

    /// What remains of an effect of a call whose address was bad.
    fn after_bad_address(&mut self, call: CallId, effect: &Effect) -> Option<Effect> {
        match effect {
            Effect::ReplyForeign { reply: ForeignReply { change, .. }, .. } => {
                self.kept.deferred.remove(&call);
                let result = -i64::from(errno::EFAULT);
                let reply = ForeignReply { result, change: *change, ..ForeignReply::default() };
                Some(Effect::ReplyForeign { call, reply })
            }
            Effect::Reply { .. }
            | Effect::ReplyOpen { .. }
            | Effect::Forward { .. }
            | Effect::ForwardForeign { .. } => {
                self.kept.deferred.remove(&call);
                Some(effect.clone())
            }
            _ => None,
        }
    }

    /// The whole state in its serialised form.
    pub fn state(&self) -> Vec<u8> {
        postcard::to_allocvec(&snapshot::whole(&self.kept, &self.server)).expect("state always encodes")
    }

    /// The next snapshot is a whole one: somebody has changed the state behind its tables' backs.
    pub fn save_whole(&mut self) {
        self.saved = None;
    }

    /// The digest of the whole state.
    pub fn digest(&self) -> u64 {
        let state = snapshot::whole(&self.kept, &self.server);
        postcard::serialize_with_flavor(&state, snapshot::Sum::new()).expect("state always encodes")
    }

    /// Gives the kernel the state to restart from. When it does not fit, the journal simply grows on.
    fn snapshot(&mut self) {
        let by_rows = !self.server.tables().is_empty();
        let mut save = |last| snapshot::save(&self.kept, &mut self.server, &mut self.traps, last).ok();
        let behind = self.saved.filter(|_| by_rows).and_then(|last| save(Some(last)));
        if let Some(sum) = behind.or_else(|| save(None)) {
            self.saved = Some(sum);
        }
    }
}

/// Whether the effects see to a call: answer it, hand it on or keep it.
fn settles(effects: &Effects, call: CallId) -> bool {
    effects.list.iter().any(|effect| match effect {
        Effect::Reply { call: id, .. }
        | Effect::ReplyForeign { call: id, .. }
        | Effect::ReplyOpen { call: id, .. }
        | Effect::Forward { call: id, .. }
        | Effect::ForwardForeign { call: id, .. }
        | Effect::Park { call: id, .. } => *id == call,
        _ => false,
    })
}

fn read_snapshot<T: Traps>(traps: &mut T) -> Vec<u8> {
    let mut snapshot = Vec::new();
    loop {
        let offset = snapshot.len() as u64;
        let length = match traps.trap(Syscall::SnapshotRead, [offset, 0, 0, 0, 0, 0]) {
            Ok(values) => {
                // All of it at once: a list that grows by doubling may need more than the heap has.
                snapshot.reserve_exact((values[1] as usize).saturating_sub(snapshot.len()));
                values[0] as usize
            }
            Err(_) => 0,
        };
        if length == 0 {
            return snapshot;
        }
        let from = PAYLOAD_OFFSET as usize;
        snapshot.extend_from_slice(&traps.buffer()[from..from + length]);
    }
}

/// The digest of a state: the checksum of its serialised form.
pub fn digest(state: &[u8]) -> u64 {
    journal::sum(journal::SUM_START, state)
}
