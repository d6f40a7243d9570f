//! A small kernel around the server: it carries effects out on memory and arena, keeps sessions and their positions,
//! and holds the server to the rules (every call is answered once, or parked).

use std::collections::{BTreeMap, BTreeSet};

use libipc::abi::{Badge, CallId, Handle, Readiness};
use libipc::linux::Stat;
use libipc::linux::errno::ENFILE;
use libipc::linux::open::{O_CREAT, O_RDWR};
use libipc::proto::fs::{Answer, Credentials, Found, From, Operation, Request as FsRequest};
use libipc::server::testing::{Script, boot, step};
use libipc::server::{
    Call, Caller, Change, Effect, Effects, Event, Foreign, ForeignReply, Message, NewSession,
    Operation as Act, Request, Server,
};

use crate::Tmpfs;
use crate::arena::Use;

pub const SERVER_PROC: Handle = Handle(1);
/// Where tests keep their buffers: as much memory as the largest transfer needs.
pub const BUFFER: u64 = 0x10_0000;
const BUFFER_SIZE: usize = 3 << 20;

/// A session as the kernel keeps it.
#[derive(Clone, Debug)]
pub struct Session {
    pub owner: Handle,
    pub object: u64,
    pub status: u32,
    pub readiness: Readiness,
    pub position: u64,
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Linux(ForeignReply),
    Native(Message),
    Forwarded(Handle),
    Handed(Message),
}

pub struct World {
    pub server: Tmpfs,
    pub script: Script,
    pub sessions: BTreeMap<u64, Session>,
    pub ends: BTreeMap<CallId, End>,
    /// The calls that have ended, in order.
    pub ended: Vec<CallId>,
    pub sent: Vec<(libipc::abi::Tag, Message)>,
    pub log: Vec<u8>,
    pub caller: Caller,
    /// How many sessions the kernel still grants.
    pub session_quota: u32,
    live: BTreeMap<CallId, bool>,
    badges: BTreeMap<CallId, u64>,
    closed: BTreeSet<Handle>,
}

impl World {
    pub fn new() -> World {
        World::sized(1 << 20)
    }

    pub fn sized(arena_bytes: u64) -> World {
        let mut boot = boot("tmpfs", &["vm", "proc", "vfs"]);
        boot.arena_bytes = arena_bytes;
        boot.epoch_s = 1000;
        // What the arena held before must never show.
        let mut script = Script::default();
        script.arena = vec![0xee; arena_bytes as usize];
        script.memory.insert(BUFFER, vec![0; BUFFER_SIZE]);
        let mut world = World {
            server: Tmpfs::new(&boot),
            script,
            sessions: BTreeMap::new(),
            ends: BTreeMap::new(),
            ended: Vec::new(),
            sent: Vec::new(),
            log: Vec::new(),
            caller: Caller { pid: 10, tid: 10, ..Caller::default() },
            session_quota: u32::MAX,
            live: BTreeMap::new(),
            badges: BTreeMap::new(),
            closed: BTreeSet::new(),
        };
        world.event(&Event::Start);
        world
    }

    /// Arena pages that are free.
    pub fn free_pages(&self) -> u64 {
        self.server.arena.available(Use::Pipe)
    }

    /// Delivers an event, carries the effects out, and then delivers the outcomes it asked for.
    pub fn event(&mut self, event: &Event) {
        let mut effects = step(&mut self.server, event, &mut self.script);
        while effects.again {
            assert!(matches!(event, Event::Call(_)), "only a call is taken again");
            effects = step(&mut self.server, event, &mut self.script);
        }
        for outcome in self.carry_out(effects) {
            self.event(&outcome);
        }
        for (call, handled) in &self.live {
            assert!(*handled, "{call:?} was neither answered nor parked after {event:?}");
        }
    }

    fn carry_out(&mut self, effects: Effects) -> Vec<Event> {
        let mut outcomes = Vec::new();
        for effect in effects.list {
            match effect {
                Effect::Reply { call, message } => self.end(call, End::Native(message)),
                Effect::ReplyForeign { call, reply } => self.reply(call, reply),
                Effect::ReplyOpen { call, session } => {
                    let NewSession { owner, badge, object, status, readiness, .. } = session;
                    let granted = self.session_quota > 0;
                    let mut reply = ForeignReply { result: -i64::from(ENFILE), ..ForeignReply::default() };
                    if granted {
                        self.session_quota -= 1;
                        let session = Session { owner, object, status, readiness, position: 0 };
                        self.sessions.insert(badge.0, session);
                        (reply.result, reply.install) = (3, vec![owner]);
                    } else {
                        outcomes.push(Event::LastClose { badge, owner: Handle::NONE });
                    }
                    self.end(call, End::Linux(reply));
                }
                Effect::ForwardForeign { call, to } => self.end(call, End::Forwarded(to)),
                Effect::Forward { call, message, .. } => self.end(call, End::Handed(message)),
                Effect::Park { call, .. } => *self.live.get_mut(&call).expect("a parked call is live") = true,
                Effect::Send { tag, message, .. } => self.sent.push((tag, message)),
                Effect::CopyOut { call, address, bytes } => {
                    self.check_window(call, bytes.len() as u64);
                    self.store(address, &bytes);
                }
                Effect::ToArena { call, address, offset, length } => {
                    self.check_window(call, length);
                    let bytes = self.load(address, length);
                    self.arena(offset, length).copy_from_slice(&bytes);
                }
                Effect::FromArena { call, address, offset, length } => {
                    self.check_window(call, length);
                    let bytes = self.arena(offset, length).to_vec();
                    self.store(address, &bytes);
                }
                Effect::Do(operation) => self.act(operation),
                Effect::Try { tag, operation } => {
                    let Act::SessionCreate { owner, badge, object, status, readiness, position } = operation
                    else {
                        panic!("{operation:?}")
                    };
                    let granted = self.session_quota > 0;
                    if granted {
                        self.session_quota -= 1;
                        let session = Session { owner, object, status, readiness, position };
                        self.sessions.insert(badge.0, session);
                    }
                    let result = if granted { Ok(0) } else { Err(libipc::abi::KernelError::Quota) };
                    outcomes.push(Event::Done { tag, result });
                }
                other => panic!("{other:?}"),
            }
        }
        outcomes
    }

    fn reply(&mut self, call: CallId, reply: ForeignReply) {
        for output in &reply.outputs {
            self.store(output.address, &output.bytes);
        }
        assert!(reply.outputs.iter().map(|output| output.bytes.len()).sum::<usize>() <= 512);
        if let Some(session) = self.badges.get(&call).and_then(|badge| self.sessions.get_mut(badge)) {
            session.position = reply.position.unwrap_or(session.position);
            if let Change::Status(status) = reply.change {
                session.status = status;
            }
        }
        if let Change::Ready(session, readiness) = reply.change {
            self.session_of(session).readiness = readiness;
        }
        self.end(call, End::Linux(reply));
    }

    fn act(&mut self, operation: Act) {
        match operation {
            Act::SessionReady { session, readiness } => {
                self.session_of(session).readiness = readiness;
            }
            Act::SessionStatus { session, status } => self.session_of(session).status = status,
            Act::Close { handle } => {
                assert!(self.closed.insert(handle), "{handle:?} is closed twice");
                self.sessions.retain(|_, session| session.owner != handle);
            }
            Act::ArenaZero { offset, length } => {
                assert!(length <= 65536);
                self.arena(offset, length).fill(0);
            }
            Act::ArenaWrite { offset, bytes } => {
                self.arena(offset, bytes.len() as u64).copy_from_slice(&bytes);
            }
            Act::TimerSet { .. } => {}
            Act::Log { text } => self.log.extend(text),
            other => panic!("{other:?}"),
        }
    }

    fn session_of(&mut self, owner: Handle) -> &mut Session {
        self.sessions.values_mut().find(|session| session.owner == owner).expect("the session exists")
    }

    fn check_window(&self, call: CallId, length: u64) {
        assert!(self.live.contains_key(&call), "bytes move for {call:?}, which is over");
        assert!((1..=65536).contains(&length), "an effect moves {length} bytes");
    }

    fn end(&mut self, call: CallId, end: End) {
        assert!(self.live.remove(&call).is_some(), "{call:?} is answered twice");
        self.ends.insert(call, end);
        self.ended.push(call);
    }

    fn arena(&mut self, offset: u64, length: u64) -> &mut [u8] {
        &mut self.script.arena[offset as usize..(offset + length) as usize]
    }

    /// Writes into the callers' memory.
    pub fn store(&mut self, address: u64, bytes: &[u8]) {
        let (start, memory) = self.script.memory.range_mut(..=address).next_back().expect("an address");
        let at = (address - start) as usize;
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Reads the callers' memory.
    pub fn load(&self, address: u64, length: u64) -> Vec<u8> {
        let (start, memory) = self.script.memory.range(..=address).next_back().expect("an address");
        let at = (address - start) as usize;
        memory[at..at + length as usize].to_vec()
    }

    /// Begins a call made by hand.
    pub fn begin_call(&mut self, call: Call) -> CallId {
        let id = call.id;
        self.live.insert(id, false);
        self.badges.insert(id, call.badge.0);
        self.event(&Event::Call(call));
        id
    }

    /// Begins a system call on a session (0: on none).
    pub fn begin(&mut self, badge: u64, number: u32, arguments: [u64; 6]) -> CallId {
        self.begin_with(badge, Foreign { number, arguments, slots: [3, 4], ..Foreign::default() })
    }

    /// Begins a system call with inputs.
    pub fn begin_with(&mut self, badge: u64, foreign: Foreign) -> CallId {
        let mut call = self.script.call(self.caller, badge, Request::Foreign(foreign));
        if let Some(session) = self.sessions.get(&badge) {
            call.position = session.position;
            call.status = session.status;
        }
        self.begin_call(call)
    }

    /// The result of a call, if it has ended.
    pub fn result(&self, call: CallId) -> Option<i64> {
        match self.ends.get(&call)? {
            End::Linux(reply) => Some(reply.result),
            other => panic!("{other:?}"),
        }
    }

    /// A system call that must end at once.
    pub fn linux(&mut self, badge: u64, number: u32, arguments: [u64; 6]) -> i64 {
        let call = self.begin(badge, number, arguments);
        self.result(call).expect("the call ends at once")
    }

    /// A native call that must end at once.
    pub fn native(&mut self, badge: u64, message: Message) -> Message {
        let call = self.script.call(Caller::default(), badge, Request::Native(message));
        let id = self.begin_call(call);
        match self.ends.get(&id) {
            Some(End::Native(message)) => message.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// Begins a request of vfs.
    pub fn begin_request(&mut self, request: &FsRequest) -> CallId {
        let message = request.message();
        let call = self.script.call(Caller::default(), 0, Request::Native(message));
        self.begin_call(call)
    }

    /// The answer of a request that has ended, and the badge of the session that came with it.
    pub fn answer(&self, call: CallId) -> Option<(Answer, Option<u64>)> {
        let End::Native(message) = self.ends.get(&call)? else { panic!("a native answer") };
        let answer = message.decode().expect("an answer");
        let handle = message.handles.first();
        let session = self.sessions.iter().find(|(_, session)| Some(&session.owner) == handle);
        Some((answer, session.map(|(badge, _)| *badge)))
    }

    /// A request of the superuser from the root of volume 0 that must end at once.
    pub fn request(&mut self, path: &str, operation: Operation) -> Result<Found, i32> {
        self.request_as(&Credentials::default(), path, operation)
    }

    /// The same for somebody else.
    pub fn request_as(&mut self, who: &Credentials, path: &str, operation: Operation) -> Result<Found, i32> {
        let call = self.begin_request(&from_root(who, path, operation));
        match self.answer(call).expect("the request ends at once").0 {
            Answer::Found(found) => Ok(found),
            Answer::Failed(errno) => Err(errno),
            Answer::Stopped(stop) => panic!("{stop:?}"),
        }
    }

    /// Opens a file and answers its session.
    pub fn open(&mut self, path: &str, flags: u32) -> Result<u64, i32> {
        let operation = Operation::Open { flags, mode: 0o644 };
        let call = self.begin_request(&from_root(&Credentials::default(), path, operation));
        match self.answer(call).expect("the open ends at once") {
            (Answer::Found(Found::Opened { .. }), badge) => Ok(badge.expect("a session")),
            (Answer::Failed(errno), _) => Err(errno),
            other => panic!("{other:?}"),
        }
    }

    /// Opens a file for reading and writing, made if need be.
    pub fn make(&mut self, path: &str) -> u64 {
        self.open(path, O_CREAT | O_RDWR).expect("a file")
    }

    pub fn stat(&mut self, path: &str) -> Result<Stat, i32> {
        match self.request(path, Operation::Stat)? {
            Found::Stat(stat) => Ok(stat),
            other => panic!("{other:?}"),
        }
    }

    /// Closes the last holder of a session.
    pub fn close(&mut self, badge: u64) {
        let owner = self.sessions[&badge].owner;
        self.event(&Event::LastClose { badge: Badge(badge), owner });
        self.sessions.retain(|other, session| *other != badge || session.owner != Handle::NONE);
        assert!(!self.sessions.contains_key(&badge), "the owner's handle was not closed");
    }

    pub fn cancel(&mut self, call: CallId) {
        self.event(&Event::Cancel { call });
    }

    /// write(2) from the buffer.
    pub fn write(&mut self, badge: u64, bytes: &[u8]) -> i64 {
        self.store(BUFFER, bytes);
        self.linux(badge, 1, [3, BUFFER, bytes.len() as u64, 0, 0, 0])
    }

    /// pwrite64(2) from the buffer.
    pub fn write_at(&mut self, badge: u64, bytes: &[u8], offset: u64) -> i64 {
        self.store(BUFFER, bytes);
        self.linux(badge, 18, [3, BUFFER, bytes.len() as u64, offset, 0, 0])
    }

    /// read(2) through the buffer.
    pub fn read(&mut self, badge: u64, length: u64) -> Result<Vec<u8>, i64> {
        self.store(BUFFER, &vec![0xaa; length as usize]);
        let result = self.linux(badge, 0, [3, BUFFER, length, 0, 0, 0]);
        if result < 0 { Err(result) } else { Ok(self.load(BUFFER, result as u64)) }
    }

    /// pread64(2) through the buffer.
    pub fn read_at(&mut self, badge: u64, length: u64, offset: u64) -> Result<Vec<u8>, i64> {
        self.store(BUFFER, &vec![0xaa; length as usize]);
        let result = self.linux(badge, 17, [3, BUFFER, length, offset, 0, 0]);
        if result < 0 { Err(result) } else { Ok(self.load(BUFFER, result as u64)) }
    }

    /// pipe2(2): the sessions of its reading and writing end.
    pub fn pipe(&mut self, flags: u32) -> (u64, u64) {
        let call = self.begin(0, 293, [BUFFER, u64::from(flags), 0, 0, 0, 0]);
        let [read, write] = self.installed(call)[..] else { panic!("two descriptors") };
        (read, write)
    }

    /// The sessions that became a call's descriptors.
    pub fn installed(&self, call: CallId) -> Vec<u64> {
        let Some(End::Linux(reply)) = self.ends.get(&call) else { panic!("an answer") };
        assert!(reply.result >= 0, "{}", reply.result);
        let badge = |owner: &Handle| self.sessions.iter().find(|(_, session)| session.owner == *owner);
        reply.install.iter().map(|owner| *badge(owner).expect("a session").0).collect()
    }

    /// How many sessions of callers were given back.
    pub fn returned(&self) -> usize {
        self.script.taken.keys().filter(|handle| self.closed.contains(handle)).count()
    }

    pub fn readiness(&self, badge: u64) -> Readiness {
        self.sessions[&badge].readiness
    }
}

/// A request from the root of volume 0.
pub fn from_root(who: &Credentials, path: &str, operation: Operation) -> FsRequest {
    FsRequest {
        from: From::Root(0),
        path: path.as_bytes().to_vec(),
        barrier: None,
        covers: Vec::new(),
        follow: false,
        credentials: who.clone(),
        operation,
        program: None,
    }
}

pub fn user(uid: u32) -> Credentials {
    Credentials { uid, gid: uid, umask: 0o022, ..Credentials::default() }
}
