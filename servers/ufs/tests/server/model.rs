//! The outside of the server: disks, vm and the kernel's part, as far as the server can see them. Answers come in any
//! order, and the server may be killed at any moment.

use std::collections::{BTreeMap, BTreeSet};

use libipc::abi::{Badge, CallId, Handle, KernelError, PAYLOAD_MAX, Tag};
use libipc::proto::block::{self, BlockError};
use libipc::proto::fs::{Answer, Credentials, Found, From, Operation as Op, Request as FsRequest};
use libipc::proto::space;
use libipc::server::testing::{Script, boot, step};
use libipc::server::{
    Boot, Call, Caller, Effect, Event, Foreign, ForeignReply, Message, Operation, Request, Server,
};
use ufs::Ufs;

/// Where the callers' memory lies, and how much of it there is.
pub const MEMORY: u64 = 0x7000_0000;
const MEMORY_BYTES: usize = 4 << 20;
const BLK: Handle = Handle(0);
const VM: Handle = Handle(1);
/// What the server may have asked at a time: 32 messages to blk, and in these tests few to vm.
const QUESTIONS_MAX: usize = 40;

/// A session as its holder sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    pub badge: u64,
    pub object: u64,
    pub status: u32,
    pub position: u64,
}

/// How a call was answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Native(Message, Vec<Session>),
    Foreign(ForeignReply),
}

pub struct Machine {
    pub ufs: Ufs,
    boot: Boot,
    pub script: Script,
    pub disks: Vec<Vec<u8>>,
    /// Sectors of any disk that cannot be read.
    pub bad_sectors: BTreeSet<u64>,
    /// vm has no memory left.
    pub vm_is_full: bool,
    /// The kernel has no session left.
    pub sessions_are_out: bool,
    /// Out of a hundred deliveries, how many kill the server instead.
    pub crashes: u64,
    questions: Vec<(Tag, Handle, Message)>,
    /// Questions of incarnations that are dead: their answers may come all the same.
    stale: Vec<Tag>,
    outstanding: BTreeMap<CallId, Event>,
    replies: BTreeMap<CallId, Reply>,
    /// Sessions by the server's handles.
    owned: BTreeMap<Handle, Session>,
    pub memory: Vec<u8>,
    /// Pages that vm was given: object, page.
    pub supplied: BTreeMap<(u64, u64), Vec<u8>>,
    /// What was read of the disks: disk, sector, sectors.
    pub reads: Vec<(u64, u64, u64)>,
    pub log: Vec<String>,
    random: u64,
}

impl Machine {
    pub fn new(disks: Vec<Vec<u8>>, heap_bytes: u64, seed: u64) -> Machine {
        let boot = Boot { heap_bytes, number: 7, ..boot("ufs", &["blk", "vm", "vfs"]) };
        Machine {
            ufs: Ufs::new(&boot),
            boot,
            script: Script::default(),
            disks,
            bad_sectors: BTreeSet::new(),
            vm_is_full: false,
            sessions_are_out: false,
            crashes: 0,
            questions: Vec::new(),
            stale: Vec::new(),
            outstanding: BTreeMap::new(),
            replies: BTreeMap::new(),
            owned: BTreeMap::new(),
            memory: vec![0; MEMORY_BYTES],
            supplied: BTreeMap::new(),
            reads: Vec::new(),
            log: Vec::new(),
            random: seed | 1,
        }
    }

    pub fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    /// Steps the server with an event and what follows from it.
    fn step(&mut self, event: &Event) {
        self.step_once(event);
        assert!(self.owned.is_empty(), "a session is kept that was given out");
    }

    fn step_once(&mut self, event: &Event) {
        self.script.now += 1000;
        let effects = step(&mut self.ufs, event, &mut self.script);
        if effects.again {
            return self.step_once(event);
        }
        let settled = |call: CallId| {
            effects.list.iter().any(|effect| match effect {
                Effect::Reply { call: id, .. }
                | Effect::ReplyForeign { call: id, .. }
                | Effect::Park { call: id, .. } => *id == call,
                _ => false,
            })
        };
        if let Event::Call(call) = event {
            assert!(settled(call.id), "a call is dropped");
        }
        let mut outcomes = Vec::new();
        for effect in effects.list {
            self.carry_out(effect, &mut outcomes);
        }
        assert!(self.questions.len() <= QUESTIONS_MAX, "the server asks too much at a time");
        for outcome in outcomes {
            self.step_once(&outcome);
        }
    }

    fn carry_out(&mut self, effect: Effect, outcomes: &mut Vec<Event>) {
        match effect {
            Effect::Reply { call, message } => {
                let sessions = message.handles.iter().map(|handle| self.owned[handle]).collect();
                self.settle(call, Reply::Native(message, sessions));
            }
            Effect::ReplyForeign { call, reply } => {
                for output in &reply.outputs {
                    self.write(output.address, &output.bytes);
                }
                let total: usize = reply.outputs.iter().map(|output| output.bytes.len()).sum();
                assert!(total <= 512 && reply.outputs.len() <= 4);
                self.settle(call, Reply::Foreign(reply));
            }
            Effect::CopyOut { call, address, bytes } => {
                assert!(self.outstanding.contains_key(&call) && bytes.len() <= 65536 && !bytes.is_empty());
                self.write(address, &bytes);
            }
            Effect::Park { .. } => {}
            Effect::Send { to, tag, message } => {
                assert!(message.payload.len() <= PAYLOAD_MAX as usize);
                assert!(self.questions.iter().all(|(other, ..)| *other != tag) && !self.stale.contains(&tag));
                self.questions.push((tag, to, message));
            }
            Effect::Try {
                tag,
                operation: Operation::SessionCreate { owner, badge, object, status, position, .. },
            } => {
                let result = if self.sessions_are_out {
                    Err(KernelError::Quota)
                } else {
                    self.owned.insert(owner, Session { badge: badge.0, object, status, position });
                    Ok(0)
                };
                outcomes.push(Event::Done { tag, result });
            }
            Effect::Do(Operation::Close { handle }) => {
                assert!(self.owned.remove(&handle).is_some(), "a handle is closed that is not owned");
            }
            Effect::Do(Operation::Log { text }) => self.log.push(String::from_utf8(text).unwrap()),
            other => panic!("this server has no need of {other:?}"),
        }
    }

    fn settle(&mut self, call: CallId, reply: Reply) {
        assert!(self.outstanding.remove(&call).is_some(), "a call is answered that is not outstanding");
        self.replies.insert(call, reply);
    }

    fn write(&mut self, address: u64, bytes: &[u8]) {
        let at = (address - MEMORY) as usize;
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Delivers one answer, any of those due; or kills the server. False when nothing is due.
    pub fn deliver(&mut self) -> bool {
        if self.random(100) < self.crashes {
            self.crash();
            return true;
        }
        if !self.stale.is_empty() && self.random(4) == 0 {
            let index = self.random(self.stale.len() as u64) as usize;
            let tag = self.stale.swap_remove(index);
            let garbage = Message { payload: vec![0xee; 8192], words: [1, 0, 0, 0], ..Message::default() };
            self.step(&Event::Answer { tag, answer: Ok(garbage) });
            return true;
        }
        if self.questions.is_empty() {
            return false;
        }
        let index = self.random(self.questions.len() as u64) as usize;
        let (tag, to, message) = self.questions.swap_remove(index);
        let answer = if to == BLK { self.blk(&message) } else { self.vm(to, &message) };
        self.step(&Event::Answer { tag, answer: Ok(answer) });
        true
    }

    fn blk(&mut self, message: &Message) -> Message {
        let [disk, sector, sectors, _] = message.words;
        let Some(image) = self.disks.get(disk as usize) else {
            return Message::label(BlockError::NoSuchDisk as u32);
        };
        if message.label == block::CAPACITY {
            return Message::words(0, [image.len() as u64 / 512, 0, 0, 0]);
        }
        assert_eq!(message.label, block::READ);
        assert!((1..=block::SECTORS_MAX).contains(&sectors));
        self.reads.push((disk, sector, sectors));
        if self.bad_sectors.range(sector..sector + sectors).next().is_some() {
            return Message::label(BlockError::Device as u32);
        }
        let range = sector as usize * 512..(sector + sectors) as usize * 512;
        let payload = image.get(range).expect("reads stay on the disk").to_vec();
        Message { payload, ..Message::default() }
    }

    fn vm(&mut self, to: Handle, message: &Message) -> Message {
        assert_eq!((to, message.label), (VM, space::REQUEST));
        let Ok(space::Request::Supply { object, page, data }) = message.decode() else {
            panic!("vm is only given pages")
        };
        if self.vm_is_full {
            return Message::typed(0, &space::Answer::Failed(libipc::linux::errno::ENOMEM));
        }
        self.supplied.insert((object, page), data);
        Message::typed(0, &space::Answer::Done)
    }

    /// Kills the server. The next incarnation starts from nothing, and gets the outstanding calls again.
    pub fn crash(&mut self) {
        self.ufs = Ufs::new(&self.boot);
        self.owned.clear();
        let dead = std::mem::take(&mut self.questions);
        self.stale.extend(dead.into_iter().map(|(tag, ..)| tag));
        self.step(&Event::Start);
        let again: Vec<Event> = self.outstanding.values().cloned().collect();
        for event in again {
            self.step(&event);
        }
    }

    /// Delivers a call, and whatever it waits for not yet.
    pub fn begin(&mut self, call: Call) -> CallId {
        let id = call.id;
        let event = Event::Call(call);
        self.outstanding.insert(id, event.clone());
        self.step(&event);
        id
    }

    /// The answer to a call, if it is there.
    pub fn reply(&mut self, call: CallId) -> Option<Reply> {
        self.replies.remove(&call)
    }

    /// Waits for the answer to a call.
    pub fn finish(&mut self, call: CallId) -> Reply {
        let mut deliveries = 0;
        loop {
            if let Some(reply) = self.replies.remove(&call) {
                return reply;
            }
            assert!(self.deliver(), "a call hangs");
            deliveries += 1;
            assert!(deliveries < 200_000, "a call does not end");
        }
    }

    /// Lets the server take an event that is no call.
    pub fn event(&mut self, event: &Event) {
        self.step(event);
    }

    /// Whether anything has been asked and not answered.
    pub fn is_quiet(&self) -> bool {
        self.questions.is_empty() && self.outstanding.is_empty()
    }

    /// How many questions are open.
    pub fn questions(&self) -> usize {
        self.questions.len()
    }

    pub fn native(&mut self, session: Option<&Session>, message: Message) -> (Message, Vec<Session>) {
        let mut call = self.script.native(message);
        if let Some(session) = session {
            (call.badge, call.status) = (Badge(session.badge), session.status);
        }
        let call = self.begin(call);
        match self.finish(call) {
            Reply::Native(message, sessions) => (message, sessions),
            other => panic!("{other:?} is no answer to a native call"),
        }
    }

    /// A request of vfs.
    pub fn ask(&mut self, request: &FsRequest) -> (Answer, Option<Session>) {
        let (message, sessions) = self.native(None, request.message());
        assert_eq!(message.label, 0);
        (message.decode().unwrap(), sessions.first().copied())
    }

    /// An operation on a path from the root of a disk, by the superuser.
    pub fn at(&mut self, disk: u32, path: &[u8], operation: Op) -> Answer {
        self.ask(&request(From::Root(disk), path, operation)).0
    }

    /// Opens a path from the root of disk 0.
    pub fn open(&mut self, path: &[u8], flags: u32) -> Result<Session, i32> {
        let answer = self.ask(&request(From::Root(0), path, Op::Open { flags, mode: 0o666 }));
        match answer {
            (Answer::Found(Found::Opened { stat, created: false }), Some(session)) => {
                assert_eq!(session.badge, stat.ino);
                Ok(session)
            }
            (Answer::Failed(errno), None) => Err(errno),
            other => panic!("{other:?}"),
        }
    }

    /// A Linux call on a session.
    pub fn linux(&mut self, session: &mut Session, number: u32, arguments: [u64; 5]) -> ForeignReply {
        let call = self.linux_call(session, number, arguments, None);
        let call = self.begin(call);
        self.finish_linux(session, call)
    }

    pub fn linux_call(
        &mut self,
        session: &Session,
        number: u32,
        arguments: [u64; 5],
        input: Option<Vec<u8>>,
    ) -> Call {
        let [a, b, c, d, e] = arguments;
        let arguments = [3, a, b, c, d, e];
        let foreign = Foreign { number, arguments, inputs: [input, None], ..Foreign::default() };
        let mut call = self.script.call(Caller::default(), session.badge, Request::Foreign(foreign));
        (call.status, call.position) = (session.status, session.position);
        call
    }

    pub fn finish_linux(&mut self, session: &mut Session, call: CallId) -> ForeignReply {
        match self.finish(call) {
            Reply::Foreign(reply) => {
                session.position = reply.position.unwrap_or(session.position);
                reply
            }
            other => panic!("{other:?} is no answer to a Linux call"),
        }
    }

    /// What lies in the callers' memory.
    pub fn at_memory(&self, offset: usize, length: usize) -> &[u8] {
        &self.memory[offset..offset + length]
    }
}

/// A request of the superuser.
pub fn request(from: From, path: &[u8], operation: Op) -> FsRequest {
    FsRequest {
        from,
        path: path.to_vec(),
        barrier: None,
        covers: Vec::new(),
        follow: false,
        credentials: Credentials::default(),
        operation,
        program: None,
    }
}
