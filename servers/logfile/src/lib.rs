//! The log server: a file at whose end bytes are appended, on a disk that may lose power at any moment.
//!
//! It has one file, a device whose number is [`DEVICE`], on one disk ([`DISK`]). write(2) appends a record, whatever
//! the file offset; fsync(2) makes all that was appended durable; read(2) and pread(2) read it back. It is small on
//! purpose: it carries the tests of torn and lost disk writes until a file system does.
//!
//! Its recovery class is *reissued*, and it is transactional: a record on the disk is the commit record of the call it
//! was for. A new incarnation reads the log to its last sound record, and a call that is delivered to it again and has
//! one is answered, and not done twice. One thing is done at a time, so calls are carried out in the order in which
//! they came; what an incarnation had under way when it died is the same bytes in the same place the next time.
//!
//! It must never answer an append before the disk has the record, nor a sync before the disk has flushed.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod record;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use libipc::abi::{Badge, CallId, Handle, KernelError, Readiness, Tag};
use libipc::linux::call::*;
use libipc::linux::errno::*;
use libipc::proto::block::{self, SECTORS_MAX};
use libipc::proto::fs;
use libipc::server::effect::Reason;
use libipc::server::files::{check_readable, check_writable, status_of_open};
use libipc::server::{
    Boot, Call, Effect, Effects, Env, Event, Foreign, ForeignReply, LeaseError, Message, Operation, Request,
    Server,
};
use serde::{Deserialize, Serialize};

use record::{DATA_MAX, End, Record};

/// The file's device number: major 240, of those for local use, and minor 0.
pub const DEVICE: u64 = 240 << 8;
/// The disk it is on: the second.
pub const DISK: u64 = 1;

/// What a call wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Job {
    /// These bytes at the end.
    Append(Vec<u8>),
    /// What there is, durable.
    Sync,
    /// Bytes from an offset on: to this address, so many at most; and whether the file offset moves.
    Read { offset: u64, address: u64, length: u64, moves: bool },
}

/// What the disk has been asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Asked {
    Capacity,
    /// Sectors behind the last record that is known.
    Scan,
    /// A record to be written: where the log ends with it, and the bytes of data in it.
    Write(End, u64),
    Flush,
    /// The record at this place.
    Read(Place),
}

/// Where a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Place {
    sector: u64,
    /// Its first byte in the file, and how many it has.
    offset: u64,
    length: u64,
}

/// The log server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Logfile {
    blk: Handle,
    /// What tells this run of the system from others.
    run: u64,
    /// How many sectors the disk has, once it is known.
    sectors: Option<u64>,
    end: End,
    /// The log has been read to its end.
    recovered: bool,
    records: Vec<Place>,
    /// The appends of this run that the log has, and their answers.
    done: BTreeMap<CallId, u64>,
    jobs: VecDeque<(CallId, Job)>,
    /// What the disk is at, for the first job or for the recovery.
    asked: Option<(Tag, Asked)>,
    next_tag: u64,
    /// Sessions being made.
    openings: BTreeMap<Tag, (CallId, Handle)>,
}

impl Server for Logfile {
    fn new(boot: &Boot) -> Logfile {
        Logfile {
            blk: boot.server("blk"),
            run: boot.seed ^ boot.epoch_s.rotate_left(32),
            sectors: None,
            end: End::EMPTY,
            recovered: false,
            records: Vec::new(),
            done: BTreeMap::new(),
            jobs: VecDeque::new(),
            asked: None,
            next_tag: 0,
            openings: BTreeMap::new(),
        }
    }

    fn step(&mut self, event: &Event, env: &mut dyn Env) -> Effects {
        // Tags follow the clock, so that none is that of an earlier incarnation's question.
        self.next_tag = self.next_tag.max(env.now());
        let mut effects = match event {
            Event::Call(call) => self.call(call, env),
            Event::Answer { tag, answer } => self.answered(*tag, answer),
            Event::Done { tag, result } => self.opened(*tag, result),
            Event::LastClose { owner, .. } => Effects::one(Effect::Do(Operation::Close { handle: *owner })),
            // A call ends soon and is left to it.
            Event::Cancel { .. }
            | Event::Start
            | Event::Notify { .. }
            | Event::Watch { .. }
            | Event::Watched { .. }
            | Event::Lost { .. }
            | Event::Unclaimed { .. } => Effects::none(),
        };
        if !effects.again {
            self.go_on(&mut effects);
        }
        effects
    }
}

fn failed(call: CallId, errno: i32) -> Effects {
    let mut effects = Effects::none();
    effects.result(call, -i64::from(errno));
    effects
}

impl Logfile {
    fn tag(&mut self) -> Tag {
        self.next_tag += 1;
        Tag(self.next_tag)
    }

    /// Bytes in the file.
    fn size(&self) -> u64 {
        self.records.last().map_or(0, |last| last.offset + last.length)
    }

    fn call(&mut self, call: &Call, env: &mut dyn Env) -> Effects {
        match &call.request {
            Request::Foreign(foreign) => match self.job(call, foreign, env) {
                Ok(job) => {
                    self.jobs.push_back((call.id, job));
                    Effects::one(Effect::Park { call: call.id, reason: Reason::Disk })
                }
                Err(None) => Effects::again(),
                Err(Some(errno)) => failed(call.id, errno),
            },
            Request::Native(message) => self.native(call.id, message, env),
            Request::Fault { .. } | Request::Attention { .. } => {
                let mut effects = Effects::none();
                effects.reply(call.id, Message::label(EINVAL as u32));
                effects
            }
        }
    }

    /// What a Linux call wants; an errno, or none if it has to come again.
    fn job(&self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Result<Job, Option<i32>> {
        let [_, address, length, offset, ..] = foreign.arguments;
        match foreign.number {
            READ | PREAD64 => {
                check_readable(call.status)?;
                let moves = foreign.number == READ;
                let offset = if moves { call.position } else { offset };
                Ok(Job::Read { offset, address, length, moves })
            }
            WRITE => {
                check_writable(call.status)?;
                let bytes = env.read_user(call.id, address, length.min(DATA_MAX) as u32);
                Ok(Job::Append(bytes.map_err(|error| match error {
                    LeaseError::NotResident => None,
                    LeaseError::BadAddress | LeaseError::Gone => Some(EFAULT),
                })?))
            }
            FSYNC | FDATASYNC => Ok(Job::Sync),
            LSEEK => Err(Some(ESPIPE)),
            IOCTL => Err(Some(ENOTTY)),
            number => Err(Some(misdirected(number).unwrap_or(ENOSYS))),
        }
    }

    fn native(&mut self, call: CallId, message: &Message, env: &mut dyn Env) -> Effects {
        let mut effects = Effects::none();
        let [device, flags, ..] = message.words;
        match message.label {
            fs::OPEN_DEVICE if device == DEVICE => {
                let (owner, tag) = (env.new_handle(), self.tag());
                let readiness = Readiness::IN | Readiness::OUT | Readiness::ALWAYS;
                let status = status_of_open(flags as u32);
                let badge = Badge(1);
                let session =
                    Operation::SessionCreate { owner, badge, object: DEVICE, status, readiness, position: 0 };
                self.openings.insert(tag, (call, owner));
                effects.park(call, Reason::Server);
                effects.attempt(tag, session);
            }
            fs::OPEN_DEVICE => {
                effects.reply(call, Message::label(ENXIO as u32));
            }
            fs::PAGE_IN => {
                effects.reply(call, Message::label(ENODEV as u32));
            }
            _ => {
                effects.reply(call, Message::label(EINVAL as u32));
            }
        }
        for handle in &message.handles {
            effects.act(Operation::Close { handle: *handle });
        }
        effects
    }

    /// The session is there, or there are too many.
    fn opened(&mut self, tag: Tag, result: &Result<u64, KernelError>) -> Effects {
        let mut effects = Effects::none();
        if let Some((call, owner)) = self.openings.remove(&tag) {
            effects.reply(
                call,
                match result {
                    Ok(_) => Message::default().with_handles(&[owner]),
                    Err(_) => Message::label(ENFILE as u32),
                },
            );
        }
        effects
    }

    /// Asks the disk for what comes next, as long as there is something that the disk need not be asked for.
    fn go_on(&mut self, effects: &mut Effects) {
        while self.asked.is_none()
            && let Some((call, job)) = self.jobs.front().cloned()
        {
            let (asked, question) = match (self.sectors, job) {
                (None, _) => (Asked::Capacity, Message::words(block::CAPACITY, [DISK, 0, 0, 0])),
                (Some(sectors), _) if !self.recovered => {
                    let count = SECTORS_MAX.min(sectors - self.end.sector);
                    if count == 0 {
                        self.recovered = true;
                        continue;
                    }
                    (Asked::Scan, Message::words(block::READ, [DISK, self.end.sector, count, 0]))
                }
                (Some(sectors), Job::Append(data)) => match self.append(call, data, sectors) {
                    Ok(next) => next,
                    Err(result) => {
                        self.finish(result, effects);
                        continue;
                    }
                },
                (Some(_), Job::Sync) => (Asked::Flush, Message::words(block::FLUSH, [DISK, 0, 0, 0])),
                (Some(_), Job::Read { offset, .. }) => {
                    let after = self.records.partition_point(|place| place.offset <= offset);
                    let place = after.checked_sub(1).and_then(|last| self.records.get(last)).copied();
                    let Some(place) = place.filter(|_| offset < self.size()) else {
                        self.finish(0, effects);
                        continue;
                    };
                    let count = record::sectors(place.length);
                    (Asked::Read(place), Message::words(block::READ, [DISK, place.sector, count, 0]))
                }
            };
            let tag = self.tag();
            self.asked = Some((tag, asked));
            effects.send(self.blk, tag, question);
        }
    }

    /// The record of an append; or its answer, if there is one without.
    fn append(&mut self, call: CallId, data: Vec<u8>, sectors: u64) -> Result<(Asked, Message), i64> {
        if let Some(length) = self.done.get(&call) {
            return Err(*length as i64);
        }
        if data.is_empty() {
            return Err(0);
        }
        let length = data.len() as u64;
        let (record, payload) = Record::new(self.end, self.run, call, data);
        if record.end.sector > sectors {
            return Err(-i64::from(ENOSPC));
        }
        let words = [DISK, self.end.sector, 0, 0];
        Ok((Asked::Write(record.end, length), Message { payload, ..Message::words(block::WRITE, words) }))
    }

    /// The first job is done.
    fn finish(&mut self, result: i64, effects: &mut Effects) {
        if let Some((call, _)) = self.jobs.pop_front() {
            effects.result(call, result);
        }
    }

    fn answered(&mut self, tag: Tag, answer: &Result<Message, KernelError>) -> Effects {
        let mut effects = Effects::none();
        // Others are of an earlier incarnation.
        let Some((_, asked)) = self.asked.take_if(|(asked, _)| *asked == tag) else { return effects };
        let Ok(answer) = answer.as_ref().map_err(|_| ()).and_then(|answer| match answer.label {
            0 => Ok(answer),
            _ => Err(()),
        }) else {
            self.finish(-i64::from(EIO), &mut effects);
            return effects;
        };
        match asked {
            Asked::Capacity => self.sectors = Some(answer.words[0]),
            Asked::Scan => self.scanned(&answer.payload),
            Asked::Write(end, length) => {
                if let Some((call, _)) = self.jobs.front() {
                    self.add(*call, self.run, end, length);
                }
                self.finish(length as i64, &mut effects);
            }
            Asked::Flush => self.finish(0, &mut effects),
            Asked::Read(place) => self.read(place, record::data(&answer.payload, place.length), &mut effects),
        }
        effects
    }

    /// Notes a record that is on the disk.
    fn add(&mut self, call: CallId, run: u64, end: End, length: u64) {
        self.records.push(Place { sector: self.end.sector, offset: self.size(), length });
        if run == self.run {
            self.done.insert(call, length);
        }
        self.end = end;
    }

    /// Takes the records that sectors behind the last one begin with.
    fn scanned(&mut self, mut bytes: &[u8]) {
        let before = self.end;
        while let Some(Record { run, call, data, end }) = Record::take(self.end, bytes) {
            let length = data.len() as u64;
            self.add(call, run, end, length);
            let taken = (record::sectors(length) * block::SECTOR_SIZE) as usize;
            bytes = bytes.get(taken..).unwrap_or_default();
        }
        // One that begins further on may have been cut off.
        self.recovered = self.end == before;
    }

    /// Bytes of a record have come for the first job.
    fn read(&mut self, place: Place, data: &[u8], effects: &mut Effects) {
        let Some((call, Job::Read { offset, address, length, moves })) = self.jobs.pop_front() else {
            return;
        };
        let from = ((offset - place.offset) as usize).min(data.len());
        let count = (data.len() - from).min(usize::try_from(length).unwrap_or(usize::MAX));
        let bytes = data[from..from + count].to_vec();
        if !bytes.is_empty() {
            effects.push(Effect::CopyOut { call, address, bytes });
        }
        let position = moves.then_some(offset + count as u64);
        effects.foreign(call, ForeignReply { result: count as i64, position, ..ForeignReply::default() });
    }
}
