//! The server: calls come in, blocks are fetched, answers go out.
//!
//! It may lose everything it has at any moment: its outstanding calls are then delivered again, and nobody notices.
//! So nothing here is the only copy of anything. A session's badge says which file it is of ([`node`]), its position
//! lies in the kernel, and volumes, inodes and blocks are read again when they are needed ([`disks`]).
//!
//! A call is a piece of [`work`] that goes as far as what is at hand allows. When it misses something it is kept,
//! what it misses is fetched from blk ([`fetch`]), and it goes on when that has come. Only so many calls may be under
//! way at a time that what they have fetched stays in the cache until they are done with it; the others wait in line,
//! in order.
//!
//! It must never write to a disk, and never wait.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use libipc::abi::{CallId, Handle, KernelError, Tag};
use libipc::linux::errno::*;
use libipc::proto::fs::{self, Answer, Found};
use libipc::proto::space;
use libipc::server::effect::Reason;
use libipc::server::{
    Boot, Call, Effects, Env, Event, Foreign, ForeignReply, Message, Operation, Output, Request, Server,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

mod buffers;
mod disks;
mod fetch;
mod linux;
mod listing;
mod node;
mod paging;
mod questions;
mod reading;
mod recent;
mod request;
mod seeking;
mod walk;
mod work;

use crate::cache::Cache;
use disks::{Disks, Stall};
use fetch::{Fetched, Fetcher};
use libipc::server::Refusal;
use linux::Decoded;
use node::Node;
use paging::{PageIn, ReadAt};
use questions::{Asked, Questions};
use request::Task;
use work::{Desk, Opened, Step, Work};

/// The part of the heap that fetched blocks may take up is one in so many.
const CACHE_SHARE: u64 = 2;

/// What root says. It is all that a new incarnation has, and so all there is to a snapshot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Setup {
    /// This server's number.
    number: u32,
    blk: Handle,
    vm: Handle,
    /// Where programs go whose walk ends elsewhere.
    vfs: Handle,
    cache_bytes: u64,
}

/// A session that is being made.
#[derive(Clone, Copy, Debug)]
struct Opening {
    session: Opened,
    owner: Handle,
}

/// The ufs server.
#[derive(Debug)]
pub struct Ufs {
    setup: Setup,
    disks: Disks,
    fetcher: Fetcher,
    questions: Questions,
    /// The calls that are not answered yet.
    kept: BTreeMap<CallId, Work>,
    /// Those of them that wait for blk or vm.
    under_way: BTreeSet<CallId>,
    /// Those that wait for others to be done, by when they came.
    line: BTreeMap<u64, CallId>,
    next_in_line: u64,
    /// The sessions that calls are opening.
    openings: BTreeMap<CallId, Opening>,
}

impl Server for Ufs {
    fn new(boot: &Boot) -> Ufs {
        Ufs::begin(Setup {
            number: boot.number,
            blk: boot.server("blk"),
            vm: boot.server("vm"),
            vfs: boot.server("vfs"),
            cache_bytes: (boot.heap_bytes / CACHE_SHARE).max(Cache::MIN_BYTES),
        })
    }

    fn step(&mut self, event: &Event, env: &mut dyn Env) -> Effects {
        self.questions.set_clock(env.now());
        let mut effects = match event {
            Event::Call(call) => self.call(call, env),
            Event::Answer { tag, answer } => self.answered(*tag, answer, env),
            Event::Done { tag, result } => self.opened(*tag, *result),
            Event::LastClose { owner, .. } => closed(*owner),
            // A call on a disk ends soon and is left to it.
            Event::Cancel { .. }
            | Event::Start
            | Event::Notify { .. }
            | Event::Watch { .. }
            | Event::Watched { .. }
            | Event::Lost { .. }
            | Event::Unclaimed { .. } => Effects::none(),
        };
        if effects.again {
            return effects;
        }
        self.admit(&mut effects, env);
        self.fetcher.send(&mut self.questions, &mut effects);
        for line in self.disks.take_complaints() {
            effects.act(Operation::Log { text: String::into_bytes(line) });
        }
        effects
    }
}

impl Serialize for Ufs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.setup.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Ufs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ufs, D::Error> {
        Setup::deserialize(deserializer).map(Ufs::begin)
    }
}

impl Ufs {
    fn begin(setup: Setup) -> Ufs {
        Ufs {
            setup,
            disks: Disks::new(setup.cache_bytes),
            fetcher: Fetcher::new(setup.blk),
            questions: Questions::default(),
            kept: BTreeMap::new(),
            under_way: BTreeSet::new(),
            line: BTreeMap::new(),
            next_in_line: 0,
            openings: BTreeMap::new(),
        }
    }

    /// How many calls may be under way: each may need as much of the cache as an operation can.
    fn under_way_max(&self) -> u64 {
        self.setup.cache_bytes / Cache::MIN_BYTES
    }

    fn call(&mut self, call: &Call, env: &mut dyn Env) -> Effects {
        match &call.request {
            Request::Foreign(foreign) => self.foreign(call, foreign, env),
            Request::Native(message) => self.native(call, message, env),
            Request::Fault { .. } | Request::Attention { .. } => label(call.id, EINVAL),
        }
    }

    fn foreign(&mut self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Effects {
        let mut effects = Effects::none();
        match linux::decode(call, foreign, env) {
            Err(Refusal::Again) => return Effects::again(),
            Err(Refusal::Errno(errno)) => {
                effects.result(call.id, -i64::from(errno));
            }
            Ok(Decoded::Done) => {
                effects.result(call.id, 0);
            }
            Ok(Decoded::Word(address, word)) => {
                let outputs = [Output { address, bytes: word.to_le_bytes().into() }].into();
                effects.foreign(call.id, ForeignReply { outputs, ..ForeignReply::default() });
            }
            Ok(Decoded::Work(work)) => effects = self.take(call.id, work, env),
        }
        if let Some(handle) = foreign.passed {
            effects.act(Operation::Close { handle });
        }
        effects
    }

    fn native(&mut self, call: &Call, message: &Message, env: &mut dyn Env) -> Effects {
        let mut effects = match (message.label, message.words) {
            (fs::REQUEST, _) => match fs::Request::from_message(message) {
                Ok(request) => self.take(call.id, Work::Request(Box::new(Task::new(request))), env),
                Err(_) => label(call.id, EINVAL),
            },
            (fs::PAGE_IN | fs::READ_AT, _) if call.badge.0 == 0 => label(call.id, EBADF),
            (fs::PAGE_IN, words) => {
                self.take(call.id, Work::PageIn(PageIn::new(Node::from_badge(call.badge), words)), env)
            }
            (fs::READ_AT, words) => {
                self.take(call.id, Work::ReadAt(ReadAt::new(Node::from_badge(call.badge), words)), env)
            }
            (fs::MOUNT, [volume, ..]) => match u32::try_from(volume) {
                Ok(disk) => self.take(call.id, Work::Mount { disk }, env),
                Err(_) => label(call.id, ENXIO),
            },
            // Sessions still open find their volume again.
            (fs::UNMOUNT, [volume, ..]) => {
                self.disks.forget(volume as u32);
                label(call.id, 0)
            }
            (fs::SYNC, _) => label(call.id, 0),
            _ => label(call.id, EINVAL),
        };
        for handle in &message.handles {
            effects.act(Operation::Close { handle: *handle });
        }
        effects
    }

    /// Begins with a call.
    fn take(&mut self, call: CallId, work: Work, env: &mut dyn Env) -> Effects {
        let mut effects = Effects::none();
        if !self.advance(call, work, &mut effects, env) {
            effects.park(call, Reason::Disk);
        }
        effects
    }

    /// Goes on with a call, and keeps it if it is not done. Whether it is answered.
    fn advance(&mut self, call: CallId, mut work: Work, effects: &mut Effects, env: &mut dyn Env) -> bool {
        let allowed = self.under_way.contains(&call) || (self.under_way.len() as u64) < self.under_way_max();
        let desk = Desk { call, server: self.setup.number, vfs: self.setup.vfs };
        match work.advance(desk, &mut self.disks, effects) {
            Ok(Step::Answered) => self.leave(call),
            Ok(Step::Open(session)) => {
                self.leave(call);
                self.open(call, session, effects, env);
                return false;
            }
            Err(Stall::Errno(errno)) => {
                work.fail(call, errno, effects);
                self.leave(call);
            }
            Ok(Step::Supply { object, page, data }) if allowed => {
                let supply = space::Request::Supply { object, page, data };
                let tag = self.questions.ask(Asked::Vm(call));
                effects.send(self.setup.vm, tag, Message::typed(space::REQUEST, &supply));
                return self.keep(call, work);
            }
            Err(Stall::Missing { want, ahead }) if allowed => {
                self.fetcher.want(want, Some(call));
                for want in ahead {
                    self.fetcher.want(want, None);
                }
                return self.keep(call, work);
            }
            Ok(Step::Supply { .. }) | Err(Stall::Missing { .. }) => {
                self.line.insert(self.next_in_line, call);
                self.next_in_line += 1;
                self.kept.insert(call, work);
                return false;
            }
        }
        true
    }

    fn keep(&mut self, call: CallId, work: Work) -> bool {
        self.under_way.insert(call);
        self.kept.insert(call, work);
        false
    }

    fn leave(&mut self, call: CallId) {
        self.under_way.remove(&call);
    }

    /// Lets calls in line go on while there is room for them.
    fn admit(&mut self, effects: &mut Effects, env: &mut dyn Env) {
        while (self.under_way.len() as u64) < self.under_way_max() {
            let Some((_, call)) = self.line.pop_first() else { return };
            if let Some(work) = self.kept.remove(&call) {
                self.advance(call, work, effects, env);
            }
        }
    }

    fn answered(&mut self, tag: Tag, answer: &Result<Message, KernelError>, env: &mut dyn Env) -> Effects {
        let mut effects = Effects::none();
        match self.questions.answered(tag) {
            Some(Asked::Blk(part)) => {
                if let Some(fetched) = self.fetcher.answered(part, answer) {
                    self.fetched(fetched, &mut effects, env);
                }
            }
            Some(Asked::Vm(call)) => self.supplied(call, answer, &mut effects, env),
            // A session's outcome does not come as an answer, and other tags are an earlier incarnation's.
            Some(Asked::Session(_)) | None => {}
        }
        for handle in answer.iter().flat_map(|message| &message.handles) {
            effects.act(Operation::Close { handle: *handle });
        }
        effects
    }

    /// Something has come from a disk: those who waited for it go on.
    fn fetched(&mut self, fetched: Fetched, effects: &mut Effects, env: &mut dyn Env) {
        let Fetched { want, outcome, waiting } = fetched;
        let outcome = self.disks.fetched(want, outcome);
        for call in waiting {
            let Some(work) = self.kept.remove(&call) else { continue };
            match outcome {
                Ok(()) => {
                    self.advance(call, work, effects, env);
                }
                Err(errno) => {
                    work.fail(call, errno, effects);
                    self.leave(call);
                }
            }
        }
    }

    /// vm has taken a page, or could not.
    fn supplied(
        &mut self,
        call: CallId,
        answer: &Result<Message, KernelError>,
        effects: &mut Effects,
        env: &mut dyn Env,
    ) {
        let Some(mut work) = self.kept.remove(&call) else { return };
        let taken = answer.as_ref().ok().and_then(|message| message.decode::<space::Answer>().ok());
        match (taken, &mut work) {
            (Some(space::Answer::Done), Work::PageIn(fault)) => {
                fault.taken();
                self.advance(call, work, effects, env);
            }
            _ => {
                work.fail(call, EIO, effects);
                self.leave(call);
            }
        }
    }

    /// Begins to make a session, which the kernel may refuse.
    fn open(&mut self, call: CallId, session: Opened, effects: &mut Effects, env: &mut dyn Env) {
        let owner = env.new_handle();
        let tag = self.questions.ask(Asked::Session(call));
        self.openings.insert(call, Opening { session, owner });
        let create = Operation::SessionCreate {
            owner,
            badge: libipc::abi::Badge(session.node.number()),
            object: session.object,
            status: session.status,
            readiness: request::READY,
            position: 0,
        };
        effects.attempt(tag, create);
    }

    /// A session is made, or refused. Its holders keep it alive: there is nothing here that its end would have to
    /// tell.
    fn opened(&mut self, tag: Tag, result: Result<u64, KernelError>) -> Effects {
        let mut effects = Effects::none();
        let Some(Asked::Session(call)) = self.questions.answered(tag) else { return effects };
        let Some(Opening { session, owner }) = self.openings.remove(&call) else { return effects };
        match result {
            Ok(_) => {
                let found = Found::Opened { stat: session.stat, created: false };
                let message = Message::typed(0, &Answer::Found(found)).with_handles(&[owner]);
                effects.reply(call, message).act(Operation::Close { handle: owner });
            }
            Err(_) => {
                effects.reply(call, Message::typed(0, &Answer::Failed(ENFILE)));
            }
        }
        effects
    }
}

/// The last holder of a session is gone. Only one whose call died with an earlier incarnation can still have an
/// owner.
fn closed(owner: Handle) -> Effects {
    let mut effects = Effects::none();
    if owner != Handle::NONE {
        effects.act(Operation::Close { handle: owner });
    }
    effects
}

/// An answer of a label alone.
fn label(call: CallId, errno: i32) -> Effects {
    let mut effects = Effects::none();
    effects.reply(call, Message::label(errno as u32));
    effects
}
