//! Pipes: a queue of bytes between writers and readers, with those who wait for it.
//!
//! FIFOs, anonymous pipes and both halves of a stream socket pair are pipes. Waiting readers and writers are served
//! in the order in which they came; a write of up to [`PIPE_BUF`] bytes is never mixed with another one.

pub mod buffer;
mod calls;
mod fifo;

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

use crate::arena::{Arena, PAGE, Use};
use crate::node::Ino;
use crate::transfer::{Direction, Ranges, Refusal, TRANSFER_MAX, copy, copy_out, hand_out};
use buffer::{Buffer, INLINE_MAX, Put, Taken};
use libipc::abi::syscall::Restart;
use libipc::abi::{CallId, Handle, Readiness};
use libipc::linux::errno::*;
use libipc::linux::open::{O_ACCMODE, O_RDONLY, O_WRONLY};
use libipc::server::effect::Reason;
use libipc::server::{Effect, Effects, Env, ForeignReply, Operation};

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
    /// Sessions of its ends, by badge.
    ends: Vec<u64>,
    opening: Vec<fifo::Opening>,
    told: (Readiness, Readiness),
}

/// A call that waits for bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Reader {
    call: CallId,
    ranges: Ranges,
}

/// A call that waits for room.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Writer {
    call: CallId,
    ranges: Ranges,
    total: u64,
    done: u64,
    /// The first bytes, as long as none are done. So there is always something to go on with when room comes, even if
    /// the writer's pages have gone meanwhile: a call cannot wait for another call's page.
    held: Vec<u8>,
}

/// What was fetched of a writer's bytes before anything changes.
enum Fetched {
    /// The bytes.
    Inline(Vec<u8>),
    /// So many lie ready to be copied by the kernel.
    Probed(u64),
}

impl Fetched {
    fn length(&self) -> u64 {
        match self {
            Fetched::Inline(bytes) => bytes.len() as u64,
            Fetched::Probed(length) => *length,
        }
    }
}

/// What a pipe needs of its server while it serves a call.
pub struct Desk<'a> {
    /// What is to be done.
    pub effects: Effects,
    /// Where pages come from.
    pub arena: &'a mut Arena,
    /// Calls that wait, by what they wait for.
    pub parked: &'a mut BTreeMap<CallId, crate::Wait>,
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

    /// Answers a write into a pipe that nobody reads. The process server says EPIPE, and raises SIGPIPE.
    fn broken(&mut self, call: CallId) {
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
                match writer.done {
                    0 => desk.broken(writer.call),
                    done => desk.answer(writer.call, done),
                }
            }
        }
        if self.writers == 0 {
            for reader in core::mem::take(&mut self.reading) {
                desk.answer(reader.call, 0);
            }
        }
        if self.readers == 0 && self.writers == 0 {
            self.buffer.release(desk.arena);
            self.had_writer = false;
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

    /// read(2).
    pub fn read(
        &mut self,
        call: CallId,
        ranges: Ranges,
        nonblock: bool,
        desk: &mut Desk,
        env: &mut dyn Env,
    ) -> Result<(), Refusal> {
        let wanted = ranges.total();
        if wanted == 0 || self.buffer.length() == 0 && self.writers == 0 {
            desk.answer(call, 0);
            return Ok(());
        }
        if self.buffer.length() == 0 {
            if nonblock {
                return Err(Refusal::Errno(EAGAIN));
            }
            self.reading.push_back(Reader { call, ranges });
            desk.park(call, Reason::Input);
            return Ok(());
        }
        let length = wanted.min(self.buffer.length());
        let refills = self.plan_refills(self.buffer.room() + length, desk.arena, env);
        self.give(call, &ranges, length, desk);
        self.refill(refills, desk);
        Ok(())
    }

    /// write(2).
    pub fn write(
        &mut self,
        call: CallId,
        ranges: Ranges,
        nonblock: bool,
        desk: &mut Desk,
        env: &mut dyn Env,
    ) -> Result<(), Refusal> {
        let total = ranges.total();
        if total == 0 {
            desk.answer(call, 0);
            return Ok(());
        }
        if self.readers == 0 {
            desk.broken(call);
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
        let mut done = 0;
        if part > 0 {
            let mut pages = desk.arena.available(Use::Pipe);
            let data = fetch(call, &ranges, 0, part, &mut pages, env)?;
            done = self.put_and_serve(call, &ranges, data, desk);
        }
        if done == total || done < part || nonblock {
            desk.answer(call, done);
        } else {
            self.writing.push_back(Writer { call, ranges, total, done, held });
            desk.park(call, Reason::Output);
        }
        Ok(())
    }

    /// Takes a waiting call out, because its caller wants it back: a partial count beats EINTR.
    pub fn cancel(&mut self, call: CallId, desk: &mut Desk) {
        self.reading.retain(|reader| reader.call != call);
        let index = self.writing.iter().position(|writer| writer.call == call);
        match index.and_then(|index| self.writing.remove(index)) {
            Some(writer) if writer.done > 0 => desk.answer(call, writer.done),
            _ => {
                desk.parked.remove(&call);
                interrupted(&mut desk.effects, call);
            }
        }
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
                writer.done += self.put(writer.call, &writer.ranges, writer.done, data, desk);
                writer.held.clear();
            }
            if goes_on && writer.done < writer.total {
                self.writing.push_front(writer);
            } else {
                desk.answer(writer.call, writer.done);
            }
        }
    }

    /// Puts a writer's bytes in and hands them on to waiting readers, as often as it takes. Answers how many went in.
    fn put_and_serve(&mut self, call: CallId, ranges: &Ranges, data: Fetched, desk: &mut Desk) -> u64 {
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
            let put = self.put(call, ranges, done, now, desk);
            done += put;
            self.serve_readers(desk);
            if rest == 0 || put == 0 {
                return done;
            }
            left = Fetched::Probed(rest);
        }
    }

    fn serve_readers(&mut self, desk: &mut Desk) {
        while self.buffer.length() > 0 {
            let Some(reader) = self.reading.pop_front() else { return };
            let length = reader.ranges.total().min(self.buffer.length());
            desk.parked.remove(&reader.call);
            self.give(reader.call, &reader.ranges, length, desk);
        }
    }

    /// Puts a writer's bytes in and answers how many.
    fn put(&mut self, call: CallId, ranges: &Ranges, skip: u64, data: Fetched, desk: &mut Desk) -> u64 {
        match data {
            Fetched::Inline(bytes) => {
                let length = bytes.len() as u64;
                if let Put::Write(offset, bytes) = self.buffer.put_bytes(bytes) {
                    desk.effects.act(Operation::ArenaWrite { offset, bytes });
                }
                length
            }
            Fetched::Probed(length) => {
                let spans = self.buffer.put_pages(length, desk.arena);
                copy(&mut desk.effects, call, Direction::Write, ranges, skip, &spans);
                spans.iter().map(|span| span.length).sum()
            }
        }
    }

    /// Answers a reader with the first bytes.
    fn give(&mut self, call: CallId, ranges: &Ranges, length: u64, desk: &mut Desk) {
        let reply = ForeignReply { result: length as i64, ..ForeignReply::default() };
        let mut taken = self.buffer.take(length, desk.arena);
        if let [Taken::Bytes(bytes)] = taken.as_mut_slice() {
            hand_out(&mut desk.effects, call, ranges, core::mem::take(bytes), reply);
            return;
        }
        let mut skip = 0;
        for piece in taken {
            match piece {
                Taken::Bytes(bytes) => {
                    copy_out(&mut desk.effects, call, ranges, skip, &bytes);
                    skip += bytes.len() as u64;
                }
                Taken::Span(span) => {
                    copy(&mut desk.effects, call, Direction::Read, ranges, skip, &[span]);
                    skip += span.length;
                }
            }
        }
        desk.effects.foreign(call, reply);
    }
}

/// How much of a write goes in at once: all or nothing of a small one.
fn acceptable(left: u64, total: u64, room: u64) -> u64 {
    match total <= PIPE_BUF {
        true if left <= room => left,
        true => 0,
        false => left.min(room),
    }
}

/// Looks at a writer's bytes before anything changes: takes few, and makes sure that many are there. When the arena
/// has no page left, up to one page's worth is taken all the same, so that a pipe never stops for good.
fn fetch(
    call: CallId,
    ranges: &Ranges,
    skip: u64,
    length: u64,
    pages: &mut u64,
    env: &mut dyn Env,
) -> Result<Fetched, Refusal> {
    if length <= INLINE_MAX || *pages == 0 {
        return Ok(Fetched::Inline(ranges.gather(call, skip, length.min(PIPE_BUF), env)?));
    }
    let length = ranges.probe(call, skip, length.min(*pages * PAGE), env)?;
    *pages = pages.saturating_sub(length.div_ceil(PAGE));
    Ok(Fetched::Probed(length))
}

/// Answers a call that a signal has interrupted before anything was done.
pub fn interrupted(effects: &mut Effects, call: CallId) {
    let restart = Restart::IfAsked;
    effects.foreign(call, ForeignReply { result: -i64::from(EINTR), restart, ..ForeignReply::default() });
}
