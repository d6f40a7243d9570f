//! From records to a [`Trace`]: who made which call, who had it when, how it ended, what it caused.
//!
//! It believes nothing of what it reads. A record about a call whose beginning is not there (the trace began later, or
//! a filter let only a part through) makes one of which no more is known.

use std::collections::BTreeMap;

use libipc::abi::crash::{Disposition, Fault};
use libipc::abi::delivery::{FaultKind, INPUT_NULL, Kind};
use libipc::abi::foreign::{Input, LINUX};
use libipc::abi::syscall::{Info, Syscall};
use libipc::abi::trace::{Damage, Reader, Record, To, What, Who};
use libipc::abi::{CallId, KernelError};
use libipc::server::Message;

use crate::linux::{Gathered, Inputs};
use crate::model::{
    Actor, Call, CallRef, Event, Item, Leg, LegEnd, Mark, MarkRef, Outcome, Request, Sent, Trace,
};

/// Reads a trace from the bytes of its file. One that is damaged or cut off somewhere is read up to there, with a note.
///
/// # Errors
/// When the file is no trace, or of another version.
pub fn read(file: &[u8]) -> Result<Trace, Damage> {
    let mut reader = Reader::new(file)?;
    let mut builder = Builder::default();
    builder.trace.servers = reader.names.iter().map(|(number, name)| (number, name.to_owned())).collect();
    let mib = reader.memory_bytes >> 20;
    builder.trace.machine =
        if reader.build.is_empty() { format!("{mib} MiB") } else { format!("{}, {mib} MiB", reader.build) };
    for record in &mut reader {
        match record {
            Ok(record) => builder.take(&record),
            Err(damage) => {
                let read = builder.trace.records;
                builder.trace.notes.push(format!("{damage}; the {read} records before it are shown"));
            }
        }
    }
    Ok(builder.finish())
}

#[derive(Default)]
struct Builder {
    trace: Trace,
    calls: BTreeMap<CallId, CallRef>,
    /// The last Linux call of each thread.
    of_thread: BTreeMap<u32, CallRef>,
    /// When the last record of each processor was made.
    before: BTreeMap<u8, u64>,
}

fn actor(who: Who) -> Actor {
    match who {
        Who::Kernel => Actor::Kernel,
        Who::Server(number) => Actor::Server(number),
        Who::Program { pid, tid } => Actor::Thread { pid, tid },
    }
}

impl Builder {
    fn take(&mut self, record: &Record<'_>) {
        let now = record.stamp.time_ns;
        if self.trace.records == 0 {
            self.trace.begin_ns = now;
        }
        self.trace.end_ns = self.trace.end_ns.max(now);
        self.meet(record.stamp.who);
        self.charge(record);
        match record.what() {
            What::Linux { number, to, arguments, result } => {
                self.linux(record, number, to, arguments, result)
            }
            What::Fault { kind, address, access, instruction, to } => {
                let request = match kind {
                    Some(FaultKind::Page) => Request::PageFault { address, access },
                    Some(FaultKind::Exception) => Request::Exception { vector: address, instruction },
                    Some(FaultKind::Lost) | None => Request::Unknown,
                };
                self.made(record, request, to);
            }
            What::Attention { to, .. } => {
                self.made(record, Request::Attention, to);
            }
            What::Delivered { kind, lengths, badge, .. } => self.delivered(record, kind, badge, lengths),
            What::Native { call, error, to } => self.native(record, call, error, to),
            What::Result { result } => self.ended(record, Outcome::Returned(result)),
            What::Forgotten { held: false } | What::Cancelled { held: false } => {
                self.ended(record, Outcome::Withdrawn);
            }
            What::Forgotten { held: true } => {}
            What::Cancelled { held: true } => {
                let server = self.about(record).and_then(|at| self.trace.call(at).server());
                self.mark(record, Event::CancelAsked { server: server.unwrap_or(0) });
            }
            What::Redelivered { to } => {
                if let Some(at) = self.about(record) {
                    self.drop_leg(at, now);
                    self.begin_leg(at, u32::from(to.server), now, None);
                }
                self.mark(record, Event::Redelivered { server: to.server.into() });
            }
            what => self.happened(record, what),
        }
        self.trace.records += 1;
    }

    /// What is about no call.
    fn happened(&mut self, record: &Record<'_>, what: What) {
        let event = match what {
            What::Lost { records } => {
                self.trace.lost = self.trace.lost.saturating_add(records);
                Event::Lost { records }
            }
            // The first record of a trace says what it is a trace of.
            What::Filter { servers: 0, processes: 0, calls: 0, natives: 0 } if self.trace.records == 0 => {
                return;
            }
            What::Filter { .. } => Event::FilterChanged,
            What::Notified { to, bits } => Event::Notified { server: to.server.into(), bits },
            What::ThreadMade { process: pid, thread: tid } => {
                self.thread_made(record, pid, tid);
                Event::ThreadMade { pid, tid }
            }
            What::ThreadEnded { process: pid, thread: tid, .. } => {
                self.thread_ended(record, tid);
                Event::ThreadEnded { pid, tid }
            }
            What::Exec { process: pid } => Event::Exec { pid, name: self.exec(record, pid) },
            What::ProcessEnded { process: pid } => Event::ProcessEnded { pid },
            What::ServerStarted { server, incarnation } => Event::Restarted { server, incarnation },
            What::ServerDied { server, fault, instruction, .. } => {
                Event::Died { server, fault: Fault::from_number(fault), instruction }
            }
            What::ServerLive { server, .. } => Event::Live { server },
            What::ServerGone { server } => Event::Gone { server },
            What::Disposed { server, what, .. } => {
                Event::Disposed { server, how: Disposition::from_number(what) }
            }
            _ => return,
        };
        self.mark(record, event);
    }

    /// Counts the time since the record before as the actor's own: on one processor nobody else was there.
    fn charge(&mut self, record: &Record<'_>) {
        let now = record.stamp.time_ns;
        let before = self.before.insert(record.stamp.processor, now).unwrap_or(now);
        let (Who::Server(server), Some(cause)) = (record.stamp.who, record.stamp.cause) else { return };
        let Some(at) = self.calls.get(&cause) else { return };
        let legs = &mut self.trace.calls[at.0 as usize].legs;
        if let Some(leg) = legs.iter_mut().rev().find(|leg| leg.server == server) {
            leg.busy_ns += now.saturating_sub(before);
        }
    }

    /// A thread that acts belongs to its process, seen or not when it was made.
    fn meet(&mut self, who: Who) {
        if let Who::Program { pid, tid } = who {
            let threads = &mut self.trace.processes.entry(pid).or_default().threads;
            if let Err(place) = threads.binary_search(&tid) {
                threads.insert(place, tid);
            }
        }
    }

    fn thread_made(&mut self, record: &Record<'_>, pid: u32, tid: u32) {
        let parent = self.cause(record).and_then(|at| match self.trace.call(at).by {
            Actor::Thread { pid, .. } => self.trace.processes.get(&pid).map(|process| process.name.clone()),
            _ => None,
        });
        let process = self.trace.processes.entry(pid).or_default();
        if process.threads.is_empty() {
            process.name = parent.unwrap_or_default();
        }
        self.meet(Who::Program { pid, tid });
    }

    /// What the thread still waited for has no end but this one.
    fn thread_ended(&mut self, record: &Record<'_>, tid: u32) {
        if let Some(at) = self.of_thread.remove(&tid)
            && self.trace.call(at).is_unanswered()
        {
            self.end(at, record.stamp.time_ns, Outcome::Withdrawn, LegEnd::Dropped);
        }
    }

    /// The name of the program that a process runs from now on: the last component of what it asked for.
    fn exec(&mut self, record: &Record<'_>, pid: u32) -> String {
        let path = self.cause(record).and_then(|at| match &self.trace.call(at).request {
            Request::Linux { inputs: [Some(path), _], .. } => {
                Some(String::from_utf8_lossy(&path.bytes).into_owned())
            }
            _ => None,
        });
        let path = path.unwrap_or_else(|| "a program".to_owned());
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        self.trace.processes.entry(pid).or_default().name = name;
        path
    }

    fn linux(&mut self, record: &Record<'_>, number: u32, to: To, arguments: [u64; 6], result: Option<i64>) {
        let row = LINUX.get(number as usize);
        let first = match row.map(|row| row.inputs[0]) {
            Some(Input::Small(_, length)) if !record.payload.is_empty() => Some(Gathered {
                bytes: record.payload.to_vec(),
                len: u32::try_from(arguments[usize::from(length)]).unwrap_or(u32::MAX),
            }),
            _ => None,
        };
        let at = self.made(record, Request::Linux { number, arguments, inputs: [first, None] }, to);
        if let Who::Program { tid, .. } = record.stamp.who {
            self.of_thread.insert(tid, at);
        }
        if let Some(result) = result {
            self.end(at, record.stamp.time_ns, Outcome::Returned(result), LegEnd::Answered);
        }
    }

    /// A call begins.
    fn made(&mut self, record: &Record<'_>, request: Request, to: To) -> CallRef {
        let cause = self.cause(record);
        let now = record.stamp.time_ns;
        let known = record.stamp.call.and_then(|id| self.calls.get(&id).copied());
        let at = match known {
            Some(at) if self.trace.call(at).request == Request::Unknown => {
                let call = &mut self.trace.calls[at.0 as usize];
                call.request = request;
                call.by = actor(record.stamp.who);
                at
            }
            Some(_) | None => {
                let at = self.push(record.stamp.call, actor(record.stamp.who), cause, request, now);
                if let Some(id) = record.stamp.call {
                    self.calls.insert(id, at);
                }
                at
            }
        };
        if to.at_once && to.server != 0 {
            self.begin_leg(at, to.server.into(), now, None);
        }
        at
    }

    fn push(
        &mut self,
        id: Option<CallId>,
        by: Actor,
        cause: Option<CallRef>,
        request: Request,
        now: u64,
    ) -> CallRef {
        let at = CallRef(self.trace.calls.len() as u32);
        self.trace.calls.push(Call {
            id: id.map_or(0, |id| id.0),
            by,
            cause,
            request,
            made_ns: now,
            ended_ns: now,
            outcome: None,
            legs: Vec::new(),
            record: self.trace.records,
            last_record: None,
        });
        self.trace.effects.push(Vec::new());
        self.belongs(Item::Call(at), cause);
        at
    }

    fn belongs(&mut self, item: Item, cause: Option<CallRef>) {
        self.trace.items.push(item);
        if let Some(cause) = cause {
            self.trace.effects[cause.0 as usize].push(item);
        }
    }

    /// The call with this name, which may be one whose beginning was not seen.
    fn named(&mut self, id: CallId, now: u64) -> CallRef {
        if let Some(at) = self.calls.get(&id) {
            return *at;
        }
        let at = self.push(Some(id), Actor::Kernel, None, Request::Unknown, now);
        self.calls.insert(id, at);
        at
    }

    fn about(&mut self, record: &Record<'_>) -> Option<CallRef> {
        record.stamp.call.map(|id| self.named(id, record.stamp.time_ns))
    }

    fn cause(&mut self, record: &Record<'_>) -> Option<CallRef> {
        record.stamp.cause.map(|id| self.named(id, record.stamp.time_ns))
    }

    fn mark(&mut self, record: &Record<'_>, event: Event) {
        let cause = match self.about(record) {
            None => self.cause(record),
            about => about,
        };
        let at = MarkRef(self.trace.marks.len() as u32);
        let (at_ns, by) = (record.stamp.time_ns, actor(record.stamp.who));
        self.trace.marks.push(Mark { at_ns, by, cause, event, record: self.trace.records });
        self.belongs(Item::Mark(at), cause);
    }

    fn begin_leg(&mut self, at: CallRef, server: u32, now: u64, carries: Option<Sent>) {
        let call = &mut self.trace.calls[at.0 as usize];
        // Most calls have one, and there may be millions.
        call.legs.reserve_exact(1);
        call.legs.push(Leg { server, carries, busy_ns: 0, from_ns: now, to_ns: now, end: LegEnd::Open });
    }

    fn drop_leg(&mut self, at: CallRef, now: u64) {
        self.end_leg(at, now, LegEnd::Dropped);
    }

    fn end_leg(&mut self, at: CallRef, now: u64, end: LegEnd) {
        if let Some(leg) = self.trace.calls[at.0 as usize].legs.last_mut()
            && leg.end == LegEnd::Open
        {
            (leg.to_ns, leg.end) = (now, end);
        }
    }

    fn end(&mut self, at: CallRef, now: u64, outcome: Outcome, end: LegEnd) {
        self.end_leg(at, now, end);
        let call = &mut self.trace.calls[at.0 as usize];
        (call.ended_ns, call.outcome, call.last_record) = (now, Some(outcome), Some(self.trace.records));
    }

    fn ended(&mut self, record: &Record<'_>, outcome: Outcome) {
        let Some(at) = self.about(record) else { return };
        let end = if outcome == Outcome::Withdrawn { LegEnd::Dropped } else { LegEnd::Answered };
        self.end(at, record.stamp.time_ns, outcome, end);
    }

    /// A server receives an event.
    fn delivered(&mut self, record: &Record<'_>, kind: Option<Kind>, badge: u64, lengths: [u32; 2]) {
        let Who::Server(server) = record.stamp.who else { return };
        match kind {
            Some(Kind::Call | Kind::Foreign | Kind::Fault | Kind::Attention) => {
                let Some(at) = self.about(record) else { return };
                if kind == Some(Kind::Foreign) {
                    self.gathered(at, record.payload, lengths);
                }
                let held = self.trace.call(at).legs.last();
                if !held.is_some_and(|leg| leg.server == server && leg.end == LegEnd::Open) {
                    self.begin_leg(at, server, record.stamp.time_ns, None);
                }
            }
            Some(Kind::LastClose) => self.mark(record, Event::LastClose { server, badge }),
            Some(Kind::Ready) => self.mark(record, Event::Ready { server }),
            Some(Kind::Watch | Kind::Watched) => self.mark(record, Event::Watched { server }),
            // The answer and the cancellation have records of their own, and so do bits that are posted.
            Some(Kind::Answer | Kind::Notify | Kind::Cancel) | None => {}
        }
    }

    /// What the kernel has gathered for a program's call, one input behind the other.
    fn gathered(&mut self, at: CallRef, mut payload: &[u8], lengths: [u32; 2]) {
        let Request::Linux { number, inputs, .. } = &mut self.trace.calls[at.0 as usize].request else {
            return;
        };
        let Some(row) = LINUX.get(*number as usize) else { return };
        let mut all: Inputs = [None, None];
        for ((own, len), input) in all.iter_mut().zip(lengths).zip(row.inputs) {
            if input == Input::None || len == INPUT_NULL {
                continue;
            }
            let (bytes, rest) = payload.split_at(payload.len().min(len as usize));
            payload = rest;
            *own = (len == 0 || !bytes.is_empty()).then(|| Gathered { bytes: bytes.to_vec(), len });
        }
        if all.iter().any(Option::is_some) {
            *inputs = all;
        }
    }

    /// A server's own system call.
    fn native(&mut self, record: &Record<'_>, call: Syscall, error: Option<KernelError>, to: Option<To>) {
        let now = record.stamp.time_ns;
        let arguments = record.arguments;
        let sent = |info: u64, words: &[u64]| {
            let info = Info::unpack(info);
            let mut message = Message { payload: record.payload.to_vec(), ..Message::label(info.label) };
            message.words[..words.len()].copy_from_slice(words);
            Sent { message, full: info.payload_len }
        };
        match (call, error) {
            (Syscall::Call | Syscall::Send, error) => {
                let request = Request::Message(sent(arguments[1], &arguments[2..6]));
                let at = self.made(record, request, to.unwrap_or(To { server: 0, at_once: false }));
                if let Some(error) = error {
                    self.end(at, now, Outcome::Refused(error), LegEnd::Dropped);
                }
            }
            (Syscall::Forward, None) => {
                let Some(at) = self.about(record) else { return };
                self.end_leg(at, now, LegEnd::Forwarded);
                let server = to.map_or(0, |to| u32::from(to.server));
                self.begin_leg(at, server, now, Some(sent(arguments[2], &arguments[3..6])));
            }
            (Syscall::Reply, None) => {
                self.ended(record, Outcome::Answered(sent(arguments[1], &arguments[2..6])));
            }
            (Syscall::ReplyForeign, None) => self.ended(record, Outcome::Returned(arguments[2] as i64)),
            (Syscall::LeaseRead | Syscall::LeaseToArena | Syscall::FrameFromLease, None) => {
                let bytes = if call == Syscall::LeaseRead { arguments[2] } else { arguments[3] };
                let bytes = if call == Syscall::FrameFromLease { arguments[4] } else { bytes };
                self.mark(record, Event::Copied { bytes, into_caller: false });
            }
            (Syscall::LeaseWrite | Syscall::LeaseFromArena, None) => {
                self.mark(record, Event::Copied { bytes: arguments[3], into_caller: true });
            }
            (Syscall::Notify, None) if to.is_some() => {
                let server = to.map_or(0, |to| u32::from(to.server));
                self.mark(record, Event::Notified { server, bits: arguments[1] });
            }
            _ => {
                let row = call.row();
                let arguments = arguments[..row.arguments.len()].to_vec();
                self.mark(record, Event::Trap { name: row.name, arguments, error });
            }
        }
    }

    fn finish(mut self) -> Trace {
        let end = self.trace.end_ns;
        for call in &mut self.trace.calls {
            if call.outcome.is_none() {
                call.ended_ns = end;
            }
            if let Some(leg) = call.legs.last_mut().filter(|leg| leg.end == LegEnd::Open) {
                leg.to_ns = end;
            }
        }
        if self.trace.lost > 0 {
            self.trace.notes.push(format!("{} records were lost while it was recorded", self.trace.lost));
        }
        self.trace
    }
}

#[cfg(test)]
mod tests;
