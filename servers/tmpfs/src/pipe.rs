//! Pipes: a queue of bytes between writers and readers, with those who wait for it.
//!
//! FIFOs, anonymous pipes and both directions of a stream socket are pipes. Waiting readers and writers are served
//! in the order in which they came; a write of up to [`PIPE_BUF`] bytes is never mixed with another one.

pub mod buffer;
pub mod calls;
mod fifo;
mod reader;
mod writer;

use alloc::{collections::VecDeque, vec, vec::Vec};
use serde::{Deserialize, Serialize};

use crate::arena::{Arena, PAGE, Use};
use crate::node::Ino;
use crate::socket::cargo::Cargo;
use crate::transfer::{Direction, Ranges, Refusal, TRANSFER_MAX, copy, hand_out};
pub use buffer::INLINE_MAX;
use buffer::{Buffer, Put, Taken};
use libipc::abi::syscall::Restart;
use libipc::abi::{CallId, Handle, Readiness};
use libipc::linux::errno::*;
use libipc::linux::open::{O_ACCMODE, O_RDONLY, O_RDWR, O_WRONLY};
use libipc::server::effect::Reason;
use libipc::server::{Effect, Effects, Env, ForeignReply, Listed, Operation, Output};
pub use reader::{Manner, Reader, hand_pieces};
use reader::{Mark, Source, finish, hand_over};
use writer::{Fetched, Writer, acceptable, fetch};

/// Most bytes of a write that is one piece for every reader (PIPE_BUF).
pub const PIPE_BUF: u64 = PAGE;

/// A pipe.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Pipe {
    buffer: Buffer,
    /// Ends that are open, or whose opening waits for the other side.
    readers: u32,
    writers: u32,
    /// There has been a writer since there are readers, so that its absence is the end.
    had_writer: bool,
    reading: VecDeque<Reader>,
    writing: VecDeque<Writer>,
    /// Sessions of its ends: their badges, and how they were opened.
    ends: Vec<(u64, u32)>,
    opening: Vec<fifo::Opening>,
    told: (Readiness, Readiness),
    /// Some end is told of every event: how many bytes had come when it was last. None otherwise.
    edges: Option<u64>,
    /// Bytes ever taken out, by which the marks are placed.
    taken: u64,
    marks: VecDeque<Mark>,
}

/// What a pipe needs of its server while it serves a call.
pub struct Desk<'a> {
    /// What is to be done.
    pub effects: Effects,
    /// Where pages come from.
    pub arena: &'a mut Arena,
    /// Calls that wait, by what they wait for.
    pub parked: &'a mut Listed<CallId, crate::Wait>,
    /// The process server, which raises SIGPIPE.
    pub proc: Handle,
    /// The pipe's number.
    pub ino: Ino,
}

impl Desk<'_> {
    fn park(&mut self, call: CallId, reason: Reason) {
        self.parked.insert(call, crate::Wait::Pipe(self.ino));
        self.effects.park(call, reason);
    }

    fn answer(&mut self, call: CallId, result: u64) {
        self.parked.remove(&call);
        self.effects.result(call, result as i64);
    }

    fn fail(&mut self, call: CallId, errno: i32) {
        self.parked.remove(&call);
        self.effects.result(call, -i64::from(errno));
    }

    /// Answers a write into a pipe that nobody reads. The process server says EPIPE, and raises SIGPIPE.
    fn broken(&mut self, call: CallId, quiet: bool) {
        if quiet {
            return self.fail(call, EPIPE);
        }
        self.parked.remove(&call);
        self.effects.push(Effect::ForwardForeign { call, to: self.proc });
    }
}

impl Pipe {
    /// Opens an end with these status flags.
    pub fn join(&mut self, status: u32) {
        let access = status & O_ACCMODE;
        self.readers += u32::from(access != O_WRONLY);
        if access != O_RDONLY {
            self.writers += 1;
            self.had_writer = true;
        }
    }

    /// Closes an end with these status flags, which ends waits of the other side.
    pub fn leave(&mut self, status: u32, desk: &mut Desk) {
        let access = status & O_ACCMODE;
        if access != O_WRONLY {
            self.readers = self.readers.saturating_sub(1);
        }
        if access != O_RDONLY {
            self.writers = self.writers.saturating_sub(1);
        }
        if self.readers == 0 {
            for writer in core::mem::take(&mut self.writing) {
                writer.cargo.discard(&mut desk.effects);
                match writer.done {
                    0 => desk.broken(writer.call, writer.quiet),
                    done => desk.answer(writer.call, done),
                }
            }
        }
        if self.writers == 0 {
            self.end_readers(desk);
        }
        if self.readers == 0 && self.writers == 0 {
            self.buffer.release(desk.arena);
            for mark in core::mem::take(&mut self.marks) {
                mark.cargo.discard(&mut desk.effects);
            }
            self.had_writer = false;
        }
    }

    /// Its ends are told of every event from now on.
    pub fn tell_edges(&mut self) {
        self.edges = Some(self.taken + self.buffer.length());
    }

    /// Whether its reading ends and its writing ends are to be told what they are ready for: when that has changed, or
    /// bytes have come and somebody wants to know each time.
    fn news(&mut self) -> (bool, bool) {
        let come = self.taken + self.buffer.length();
        let edge = self.edges.is_some_and(|told| told != come);
        self.edges = self.edges.map(|_| come);
        let readiness = self.readiness();
        let told = core::mem::replace(&mut self.told, readiness);
        (told.0 != readiness.0 || edge, told.1 != readiness.1 || edge)
    }

    /// A pipe that is open at both ends.
    pub fn open_both() -> Pipe {
        let mut pipe = Pipe::default();
        pipe.join(O_RDWR);
        pipe.told = pipe.readiness();
        pipe
    }

    /// Ends the waits of its readers as if all had been read.
    pub fn end_readers(&mut self, desk: &mut Desk) {
        for reader in core::mem::take(&mut self.reading) {
            finish(&reader, None, desk, None);
        }
    }

    /// Ends the waits of its readers with an error.
    pub fn fail_readers(&mut self, errno: i32, desk: &mut Desk) {
        for reader in core::mem::take(&mut self.reading) {
            match reader.done {
                0 => desk.fail(reader.call, errno),
                _ => finish(&reader, None, desk, None),
            }
        }
    }

    /// Whether nobody has it open.
    pub fn is_unused(&self) -> bool {
        self.readers == 0 && self.writers == 0
    }

    /// Bytes that can be read at once.
    pub fn length(&self) -> u64 {
        self.buffer.length()
    }

    /// What its two sides are ready for: the reading one, the writing one.
    pub fn readiness(&self) -> (Readiness, Readiness) {
        let mut read = Readiness::empty();
        read.set(Readiness::IN, self.buffer.length() > 0);
        read.set(Readiness::HUP, self.writers == 0 && self.had_writer);
        let mut write = Readiness::empty();
        write.set(Readiness::OUT, self.buffer.room() >= PIPE_BUF);
        write.set(Readiness::ERR, self.readers == 0);
        (read, write)
    }

    /// read(2) and its relatives.
    pub fn read(
        &mut self,
        reader: Reader,
        nonblock: bool,
        desk: &mut Desk,
        env: &mut dyn Env,
    ) -> Result<(), Refusal> {
        let wanted = reader.ranges.total();
        if wanted == 0 || self.buffer.length() == 0 && self.writers == 0 {
            finish(&reader, None, desk, None);
            return Ok(());
        }
        if self.buffer.length() == 0 {
            if nonblock {
                return Err(Refusal::Errno(EAGAIN));
            }
            return self.wait_for_bytes(reader, desk);
        }
        let mut reader = reader;
        // What waiting writers had takes the place of what is read, until there is no more of either.
        while self.buffer.length() > 0 {
            let wanted = (reader.ranges.total() - reader.done).min(self.buffer.length());
            let length = if reader.peek { 0 } else { self.up_to_mark(wanted).0 };
            let refills = self.plan_refills(self.buffer.room() + length, desk.arena, env);
            let rest = self.give(reader, nonblock, desk, env);
            self.refill(refills, desk);
            match rest {
                Some(rest) => reader = rest,
                None => return Ok(()),
            }
        }
        self.wait_for_bytes(reader, desk)
    }

    fn wait_for_bytes(&mut self, reader: Reader, desk: &mut Desk) -> Result<(), Refusal> {
        desk.park(reader.call, Reason::Input);
        self.reading.push_back(reader);
        Ok(())
    }

    /// write(2) and its relatives.
    pub fn write(
        &mut self,
        call: CallId,
        ranges: Ranges,
        manner: Manner,
        desk: &mut Desk,
        env: &mut dyn Env,
    ) -> Result<(), Refusal> {
        let Manner { nonblock, quiet, given, parcel } = manner;
        let total = ranges.total();
        if total == 0 {
            desk.answer(call, 0);
            return Ok(());
        }
        if self.readers == 0 {
            desk.broken(call, quiet);
            return Ok(());
        }
        let demand: u64 = self.reading.iter().map(|reader| reader.ranges.total()).sum();
        let room = if self.writing.is_empty() { self.buffer.room() + demand } else { 0 };
        let part = acceptable(total, total, room);
        if part == 0 && nonblock {
            return Err(Refusal::Errno(EAGAIN));
        }
        let mut held = Vec::new();
        if part < total && !nonblock {
            ranges.fault_in(call, total.min(TRANSFER_MAX), env)?;
            if part == 0 {
                held = ranges.gather(call, 0, total.min(PIPE_BUF), env)?;
            }
        }
        let mut data = None;
        if part > 0 {
            let mut pages = desk.arena.available(Use::Pipe);
            data = Some(match given.filter(|bytes| bytes.len() as u64 == part) {
                Some(bytes) => Fetched::Inline(bytes),
                None => fetch(call, &ranges, 0, part, &mut pages, env)?,
            });
        }
        // Nothing is missing any more: from here on things happen.
        let mut cargo = match parcel.pack(call, &mut desk.effects, env) {
            Ok(cargo) => cargo,
            Err(errno) => {
                desk.fail(call, errno);
                return Ok(());
            }
        };
        let done = match data {
            Some(data) => self.put_and_serve(call, &ranges, data, &mut cargo, desk, env),
            None => 0,
        };
        if done == total || done < part || nonblock {
            cargo.discard(&mut desk.effects);
            desk.answer(call, done);
        } else {
            self.writing.push_back(Writer { call, ranges, total, done, held, quiet, cargo });
            desk.park(call, Reason::Output);
        }
        Ok(())
    }

    /// Where the first reader wants all of a writer's bytes, when they came with the call and there is nothing else to
    /// be thought of.
    pub fn waits_for(&self, given: &[u8], total: u64) -> Option<u64> {
        let reader = self.reading.front()?;
        let Ranges::One(range) = reader.ranges else { return None };
        let whole = given.len() as u64 == total && total > 0 && total <= range.length;
        let alone = self.buffer.length() == 0 && self.marks.is_empty() && self.writing.is_empty();
        (whole && alone && reader.is_plain()).then_some(range.address)
    }

    /// Hands a writer's bytes to the first reader as if they had been in the queue, and answers both. Tells who reads.
    pub fn pass_on(
        &mut self,
        call: CallId,
        address: u64,
        given: &[u8],
        effects: &mut Effects,
    ) -> Option<CallId> {
        let reader = self.reading.pop_front()?;
        let result = given.len() as i64;
        self.taken += given.len() as u64;
        let outputs = vec![Output { address, bytes: given.to_vec() }];
        effects.foreign(reader.call, ForeignReply { result, outputs, ..ForeignReply::default() });
        effects.result(call, result);
        Some(reader.call)
    }

    /// Takes bytes that another server has, as many as there is room for.
    ///
    /// # Errors
    /// `EPIPE` when nobody reads, `EAGAIN` when there is no room.
    pub fn put_now(&mut self, bytes: &[u8], desk: &mut Desk, env: &mut dyn Env) -> Result<u64, i32> {
        if self.readers == 0 {
            return Err(EPIPE);
        }
        let total = bytes.len() as u64;
        let pages = desk.arena.available(Use::Pipe) * PAGE;
        let room = if self.writing.is_empty() { self.buffer.room().min(pages) } else { 0 };
        let part = acceptable(total, total, room);
        if part == 0 {
            return Err(EAGAIN);
        }
        let mut rest = bytes;
        let spans = self.buffer.put_pages(part, desk.arena);
        for span in &spans {
            for done in (0..span.length).step_by(PAGE as usize) {
                let (here, behind) = rest.split_at((span.length - done).min(PAGE) as usize);
                desk.effects.act(Operation::ArenaWrite { offset: span.offset + done, bytes: here.to_vec() });
                rest = behind;
            }
        }
        self.serve_readers(desk, env);
        Ok(total - rest.len() as u64)
    }

    /// Takes a waiting call out, because its caller wants it back: a partial count beats EINTR.
    pub fn cancel(&mut self, call: CallId, desk: &mut Desk) {
        let reader = self.reading.iter().position(|reader| reader.call == call);
        if let Some(reader) = reader.and_then(|index| self.reading.remove(index))
            && reader.done > 0
        {
            return finish(&reader, None, desk, None);
        }
        let writer = self.writing.iter().position(|writer| writer.call == call);
        if let Some(writer) = writer.and_then(|index| self.writing.remove(index)) {
            writer.cargo.discard(&mut desk.effects);
            if writer.done > 0 {
                return desk.answer(call, writer.done);
            }
        }
        desk.parked.remove(&call);
        interrupted(&mut desk.effects, call);
    }

    /// Changes the capacity (F_SETPIPE_SZ), which may let writers go on.
    pub fn resize(&mut self, capacity: u64, desk: &mut Desk, env: &mut dyn Env) -> Result<(), Refusal> {
        let room = capacity.checked_sub(self.buffer.length()).ok_or(EBUSY)?;
        let refills = self.plan_refills(room, desk.arena, env);
        if !self.buffer.set_capacity(capacity) {
            return Err(Refusal::Errno(EBUSY));
        }
        self.refill(refills, desk);
        Ok(())
    }

    /// Bytes it may hold (F_GETPIPE_SZ).
    pub fn capacity(&self) -> u64 {
        self.buffer.capacity()
    }

    /// Fetches what the waiting writers can put into `room` bytes, in their order; nothing for one that can go no
    /// further.
    fn plan_refills(&self, room: u64, arena: &Arena, env: &mut dyn Env) -> Vec<Option<Fetched>> {
        let mut room = room;
        let mut pages = arena.available(Use::Pipe);
        let mut refills = Vec::new();
        for writer in &self.writing {
            let left = writer.total - writer.done;
            let part = acceptable(left, writer.total, room);
            if part == 0 {
                break;
            }
            let held: Vec<u8> = writer.held.iter().take(part as usize).copied().collect();
            let data = if held.is_empty() {
                fetch(writer.call, &writer.ranges, writer.done, part, &mut pages, env).ok()
            } else {
                Some(Fetched::Inline(held))
            };
            let length = data.as_ref().map_or(left, Fetched::length);
            room -= data.as_ref().map_or(0, Fetched::length);
            refills.push(data);
            if length < left {
                break;
            }
        }
        refills
    }

    /// Takes over what was fetched of the waiting writers and answers those who are done, or whose bytes cannot be
    /// had: a partial count is an answer, too.
    fn refill(&mut self, refills: Vec<Option<Fetched>>, desk: &mut Desk) {
        for refill in refills {
            let Some(mut writer) = self.writing.pop_front() else { return };
            let goes_on = refill.is_some();
            if let Some(data) = refill {
                let from = Source { call: writer.call, ranges: &writer.ranges, skip: writer.done };
                writer.done += self.put(from, data, &mut writer.cargo, desk);
                writer.held.clear();
            }
            if goes_on && writer.done < writer.total {
                self.writing.push_front(writer);
            } else {
                writer.cargo.discard(&mut desk.effects);
                desk.answer(writer.call, writer.done);
            }
        }
    }

    /// Puts a writer's bytes in and hands them on to waiting readers, as often as it takes. Answers how many went in.
    fn put_and_serve(
        &mut self,
        call: CallId,
        ranges: &Ranges,
        data: Fetched,
        cargo: &mut Cargo,
        desk: &mut Desk,
        env: &mut dyn Env,
    ) -> u64 {
        let mut left = data;
        let mut done = 0;
        loop {
            let room = self.buffer.room();
            let rest = match left {
                Fetched::Probed(length) => length.saturating_sub(room),
                Fetched::Inline(_) => 0,
            };
            let now = match left {
                Fetched::Probed(length) => Fetched::Probed(length - rest),
                inline => inline,
            };
            let put = self.put(Source { call, ranges, skip: done }, now, cargo, desk);
            done += put;
            self.serve_readers(desk, env);
            if rest == 0 || put == 0 {
                return done;
            }
            left = Fetched::Probed(rest);
        }
    }

    fn serve_readers(&mut self, desk: &mut Desk, env: &mut dyn Env) {
        while self.buffer.length() > 0 {
            let Some(reader) = self.reading.pop_front() else { return };
            if let Some(reader) = self.give(reader, false, desk, env) {
                self.reading.push_front(reader);
            }
        }
    }

    /// Puts a writer's bytes in, with what goes along, and answers how many.
    fn put(&mut self, from: Source, data: Fetched, cargo: &mut Cargo, desk: &mut Desk) -> u64 {
        let start = self.taken + self.buffer.length();
        let length = match data {
            Fetched::Inline(bytes) => {
                let length = bytes.len() as u64;
                if let Put::Write(offset, bytes) = self.buffer.put_bytes(bytes) {
                    desk.effects.act(Operation::ArenaWrite { offset, bytes });
                }
                length
            }
            Fetched::Probed(length) => {
                let spans = self.buffer.put_pages(length, desk.arena);
                copy(&mut desk.effects, from.call, Direction::Write, from.ranges, from.skip, &spans);
                spans.iter().map(|span| span.length).sum()
            }
        };
        if length > 0 && !cargo.is_empty() {
            self.marks.push_back(Mark { start, end: start + length, cargo: core::mem::take(cargo) });
        }
        length
    }

    /// Of the first `length` bytes, those that may go to one call, and whether something goes along.
    fn up_to_mark(&self, length: u64) -> (u64, bool) {
        match self.marks.front() {
            Some(mark) if self.taken + length > mark.start => (length.min(mark.end - self.taken), true),
            _ => (length, false),
        }
    }

    /// Hands a reader the first bytes and answers it, unless it wants more and may wait.
    fn give(
        &mut self,
        mut reader: Reader,
        nonblock: bool,
        desk: &mut Desk,
        env: &mut dyn Env,
    ) -> Option<Reader> {
        let left = reader.ranges.total() - reader.done;
        let (length, marked) = self.up_to_mark(left.min(self.buffer.length()));
        let taken = match reader.peek {
            true => self.buffer.peek(length),
            false => self.buffer.take(length, desk.arena),
        };
        let cargo = match (marked, reader.peek) {
            (false, _) => None,
            (true, true) => self.marks.front().map(|mark| mark.cargo.clone()),
            (true, false) => self.marks.pop_front().map(|mark| mark.cargo),
        };
        let skip = reader.done;
        reader.done += length;
        let mut taken = taken;
        let ends = !reader.whole || reader.peek || marked || nonblock || self.writers == 0;
        if ends || length == left {
            if !reader.peek {
                self.taken += length;
            }
            if let ([Taken::Bytes(bytes)], None, 0) = (taken.as_mut_slice(), &reader.receipt, skip) {
                let reply = ForeignReply { result: length as i64, ..ForeignReply::default() };
                desk.parked.remove(&reader.call);
                hand_out(&mut desk.effects, reader.call, &reader.ranges, core::mem::take(bytes), reply);
                if let Some(cargo) = cargo {
                    cargo.discard(&mut desk.effects);
                }
                return None;
            }
            hand_over(&reader, skip, taken, desk);
            finish(&reader, cargo, desk, Some(env));
            return None;
        }
        self.taken += length;
        hand_over(&reader, skip, taken, desk);
        Some(reader)
    }
}

/// Answers a call that a signal has interrupted before anything was done.
pub fn interrupted(effects: &mut Effects, call: CallId) {
    let restart = Restart::IfAsked;
    effects.foreign(call, ForeignReply { result: -i64::from(EINTR), restart, ..ForeignReply::default() });
}
