//! A small kernel around the server: it carries effects out, keeps sessions, has a serial port on an interrupt line
//! that is triggered by edges, and holds the server to the rules (every call is answered once, or parked).

use std::collections::BTreeMap;

use libipc::abi::syscall::Restart;
use libipc::abi::{Badge, CallId, Handle, KernelError, Readiness, Tag};
use libipc::linux::open::O_RDWR;
use libipc::proto::terminal::{Event as News, Events, SESSION_BEGUN, TAKE_EVENTS};
use libipc::proto::{fs, process};
use libipc::server::testing::{Ports as Wires, Script, boot, step};
use libipc::server::{
    Boot, Call, Caller, Effect, Effects, Event, ForeignReply, Message, Operation, Request, Server,
};

use crate::Tty;
use crate::server::turn::LOOK;
use crate::termios::Termios;
use crate::uart::Ports;
use crate::uart::tests::Model;

pub const CONSOLE: u64 = 0x501;
pub const TTY: u64 = 0x500;
pub const SERIAL: u64 = 0x440;
pub const PROC: Handle = Handle(0);
/// Where programs keep their buffers.
pub const BUFFER: u64 = 0x10_0000;
const BUFFER_SIZE: usize = 1 << 20;
const BASE: u16 = 0x3f8;
/// After how many events the server goes on from a snapshot of itself.
const SNAPSHOT_EVERY: usize = 7;

/// The serial port and its interrupt line.
pub struct Board {
    pub port: Model,
    /// The wire takes bytes as soon as they are there, as an emulator's does.
    pub instant: bool,
    masked: bool,
    level: bool,
    interrupt: bool,
    /// What was read, by port, for a replay.
    pub reads: BTreeMap<u16, Vec<u32>>,
}

impl Board {
    /// An edge on the line is an interrupt, and lost while the line is closed.
    fn sense(&mut self) {
        let level = self.port.interrupting();
        if level && !self.level && !self.masked {
            self.interrupt = true;
            self.masked = true;
        }
        self.level = level;
    }

    fn write(&mut self, port: u16, value: u32) {
        self.port.outb((port - BASE) as u8, value as u8);
        self.sense();
        if self.instant && !self.port.sending.is_empty() {
            self.port.drain();
            self.sense();
        }
    }

    /// What has left for the wire.
    pub fn shown(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.port.sent)).into_owned()
    }
}

impl Wires for Board {
    fn read(&mut self, port: u16, width: u8) -> u32 {
        assert_eq!(width, 1);
        let value = u32::from(self.port.inb((port - BASE) as u8));
        self.reads.entry(port).or_default().push(value);
        self.sense();
        value
    }
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    Linux(ForeignReply),
    Native(Message),
    Forwarded(Handle, Message),
}

/// A session as the kernel keeps it.
#[derive(Clone, Debug)]
pub struct Session {
    pub owner: Handle,
    pub status: u32,
    pub readiness: Readiness,
}

pub struct World {
    pub tty: Tty,
    /// The outside, with the board behind its ports.
    pub script: Script<Board>,
    pub sessions: BTreeMap<u64, Session>,
    pub ends: BTreeMap<CallId, End>,
    pub timer: u64,
    /// How often the process server was told that there is news.
    pub told: u32,
    pub session_quota: u32,
    pub log: Vec<u8>,
    /// Every event stepped, for a replay.
    pub history: Vec<(u64, Event)>,
    live: BTreeMap<CallId, bool>,
}

pub fn caller(pid: u32, pgid: u32, sid: u32) -> Caller {
    Caller { pid, tid: pid, uid: 1000, gid: 1000, pgid, sid, ..Caller::default() }
}

/// The leader of the first session, in the foreground.
pub fn shell() -> Caller {
    caller(2, 2, 2)
}

/// A job of the first session, in the background unless put into the foreground.
pub fn job() -> Caller {
    caller(30, 30, 2)
}

pub fn boot_block() -> Boot {
    Boot { epoch_s: 1000, ..boot("tty", &["proc"]) }
}

impl World {
    /// A machine that has just been switched on.
    pub fn off(port: Model) -> World {
        let mut script = Script::with_ports(Board {
            port,
            instant: true,
            masked: true,
            level: false,
            interrupt: false,
            reads: BTreeMap::new(),
        });
        script.memory.insert(BUFFER, vec![0; BUFFER_SIZE]);
        World {
            tty: Tty::new(&boot_block()),
            script,
            sessions: BTreeMap::new(),
            ends: BTreeMap::new(),
            timer: u64::MAX,
            told: 0,
            session_quota: 100,
            log: Vec::new(),
            history: Vec::new(),
            live: BTreeMap::new(),
        }
    }

    /// A machine whose first program is the leader of session 2 and has the console open; and its badge.
    pub fn new() -> (World, u64) {
        let mut world = World::off(Model::default());
        world.script.now = 1_000_000_000;
        world.event(Event::Start);
        let console = world.open(Caller::default(), CONSOLE, O_RDWR).unwrap();
        assert_eq!(world.native(Message::words(SESSION_BEGUN, [2, 2, 0, 0])).label, 0);
        (world, console)
    }

    /// Delivers an event, what it brings about, and the interrupts that follow.
    pub fn event(&mut self, event: Event) {
        self.deliver(event);
        self.settle();
    }

    /// Delivers interrupts until the line is quiet.
    pub fn settle(&mut self) {
        for _ in 0..100_000 {
            if !std::mem::take(&mut self.script.ports.interrupt) {
                return;
            }
            self.deliver(Event::Notify { bits: 1 });
        }
        panic!("the port is never quiet");
    }

    fn deliver(&mut self, event: Event) {
        let before = self.state_before(&event);
        let effects = self.tty.step(&event, &mut self.script);
        if effects.again {
            let before = before.expect("only a call is taken again");
            let unchanged = before == postcard::to_allocvec(&self.tty).unwrap();
            assert!(effects.list.is_empty() && unchanged, "a step that is taken again has changed something");
            return;
        }
        if self.history.len().is_multiple_of(SNAPSHOT_EVERY) {
            let state = postcard::to_allocvec(&self.tty).unwrap();
            self.tty = postcard::from_bytes(&state).unwrap();
            assert!(postcard::to_allocvec(&self.tty).unwrap() == state, "the state survives a snapshot");
        }
        self.history.push((self.script.now, event.clone()));
        let outcomes = self.carry_out(effects);
        for (call, handled) in &self.live {
            assert!(*handled, "{call:?} was neither answered nor parked after {event:?}");
        }
        for outcome in outcomes {
            self.deliver(outcome);
        }
    }

    /// The state before a call, which may have to be taken again.
    fn state_before(&self, event: &Event) -> Option<Vec<u8>> {
        matches!(event, Event::Call(_)).then(|| postcard::to_allocvec(&self.tty).unwrap())
    }

    fn carry_out(&mut self, effects: Effects) -> Vec<Event> {
        let mut outcomes = Vec::new();
        for effect in effects.list {
            match effect {
                Effect::Reply { call, message } => self.end(call, End::Native(message)),
                Effect::ReplyForeign { call, reply } => {
                    assert!(reply.outputs.iter().map(|output| output.bytes.len()).sum::<usize>() <= 512);
                    for output in &reply.outputs {
                        self.store(output.address, &output.bytes);
                    }
                    self.end(call, End::Linux(reply));
                }
                Effect::Forward { call, to, message } => self.end(call, End::Forwarded(to, message)),
                Effect::Park { call, .. } => *self.live.get_mut(&call).expect("a parked call is live") = true,
                Effect::CopyOut { call, address, bytes } => {
                    assert!(self.live.contains_key(&call));
                    self.store(address, &bytes);
                }
                Effect::Do(operation) => {
                    self.act(operation).unwrap();
                }
                Effect::Try { tag, operation } => {
                    let result = self.act(operation);
                    assert!(tag != LOOK || result.is_ok());
                    outcomes.push(Event::Done { tag, result });
                }
                other => panic!("{other:?}"),
            }
        }
        outcomes
    }

    fn act(&mut self, operation: Operation) -> Result<u64, KernelError> {
        match operation {
            Operation::PortOut { port, width: 1, value } => self.script.ports.write(port, value),
            Operation::IrqBind { irq: 4, bit: 0 } | Operation::IrqAck { irq: 4 } => {
                self.script.ports.masked = false
            }
            Operation::TimerSet { deadline_ns } => {
                assert_ne!(self.timer, deadline_ns, "the timer is set when it changes");
                self.timer = deadline_ns;
            }
            Operation::Notify { handle: PROC, bits } => {
                assert_eq!(bits, 1 << process::TERMINAL_BIT);
                self.told += 1;
            }
            Operation::Log { text } => self.log.extend(text),
            Operation::SessionCreate { owner, badge, status, readiness, .. } => {
                self.session_quota = self.session_quota.checked_sub(1).ok_or(KernelError::Quota)?;
                self.sessions.insert(badge.0, Session { owner, status, readiness });
            }
            Operation::SessionReady { session, readiness } => {
                let session = self.session(session);
                assert_ne!(session.readiness, readiness, "readiness is told when it changes");
                session.readiness = readiness;
            }
            Operation::SessionStatus { session, status } => self.session(session).status = status,
            Operation::Close { handle } => self.sessions.retain(|_, session| session.owner != handle),
            other => panic!("{other:?}"),
        }
        Ok(0)
    }

    fn session(&mut self, handle: Handle) -> &mut Session {
        self.sessions.values_mut().find(|session| session.owner == handle).expect("a session of ours")
    }

    fn end(&mut self, call: CallId, end: End) {
        assert!(self.live.remove(&call).is_some(), "{call:?} is answered once");
        self.ends.insert(call, end);
    }

    fn call(&mut self, call: Call) -> CallId {
        let id = call.id;
        self.live.insert(id, false);
        let steps = self.history.len();
        self.event(Event::Call(call.clone()));
        if self.history.len() == steps {
            // A page was missing: it comes, and the call is taken again.
            self.script.missing.clear();
            self.event(Event::Call(call));
        }
        id
    }

    /// A system call of a program on an open file.
    pub fn linux(&mut self, who: Caller, badge: u64, number: u32, arguments: [u64; 6]) -> CallId {
        let mut call = self.script.linux(who, number, arguments);
        call.badge = Badge(badge);
        call.status = self.sessions.get(&badge).map_or(0, |session| session.status);
        self.call(call)
    }

    /// A message of a server, and its answer.
    pub fn native(&mut self, message: Message) -> Message {
        let call = self.script.native(message);
        let id = self.call(call);
        match self.ends.get(&id) {
            Some(End::Native(answer)) => answer.clone(),
            other => panic!("{other:?}"),
        }
    }

    /// A forwarded call comes back from the process server.
    pub fn come_back(&mut self, who: Caller, id: CallId) {
        let Some(End::Forwarded(PROC, message)) = self.ends.remove(&id) else { panic!("it was forwarded") };
        let message = Message { label: libipc::proto::terminal::PERMITTED, ..message };
        let call = Call {
            id,
            caller: who,
            badge: Badge(0),
            position: 0,
            status: 0,
            request: Request::Native(message),
        };
        self.call(call);
    }

    /// vfs opens a device for somebody: the badge, or an errno.
    pub fn open(&mut self, who: Caller, device: u64, flags: u32) -> Result<u64, u32> {
        let jobs = u64::from(who.sid) << 32 | u64::from(who.pgid);
        let words = [device, u64::from(flags), u64::from(who.pid), jobs];
        let answer = self.native(Message::words(fs::OPEN_DEVICE, words));
        match answer.handles.first() {
            None => Err(answer.label),
            Some(owner) => {
                let found = self.sessions.iter().find(|(_, session)| session.owner == *owner);
                Ok(*found.expect("the session exists").0)
            }
        }
    }

    pub fn close(&mut self, badge: u64) {
        let owner = self.sessions[&badge].owner;
        self.event(Event::LastClose { badge: Badge(badge), owner });
    }

    /// Somebody types.
    pub fn typing(&mut self, text: &str) {
        for byte in text.bytes() {
            assert!(
                self.script.ports.port.received.len() < self.script.ports.port.depth(),
                "the port is read"
            );
            self.script.ports.port.arrive(byte, 0);
            self.script.ports.sense();
            self.settle();
        }
    }

    /// The wire takes what the port has to send.
    pub fn drain(&mut self) {
        self.script.ports.port.drain();
        self.script.ports.sense();
        self.settle();
    }

    /// Time passes; the timer rings if it is due.
    pub fn wait_ns(&mut self, time_ns: u64) {
        self.script.now += time_ns;
        if self.timer <= self.script.now {
            self.timer = u64::MAX;
            self.event(Event::Notify { bits: libipc::server::TIMER_BIT });
        }
    }

    pub fn store(&mut self, address: u64, bytes: &[u8]) {
        let memory = self.script.memory.get_mut(&BUFFER).unwrap();
        let at = (address - BUFFER) as usize;
        memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub fn load(&self, address: u64, length: u64) -> Vec<u8> {
        let at = (address - BUFFER) as usize;
        self.script.memory[&BUFFER][at..at + length as usize].to_vec()
    }

    /// The result of a call that has been answered; none while it waits.
    pub fn result(&self, call: CallId) -> Option<i64> {
        match self.ends.get(&call)? {
            End::Linux(reply) => Some(reply.result),
            other => panic!("{other:?}"),
        }
    }

    pub fn restart(&self, call: CallId) -> Restart {
        match &self.ends[&call] {
            End::Linux(reply) => reply.restart,
            other => panic!("{other:?}"),
        }
    }

    /// The background question a call was forwarded with.
    pub fn question(&self, call: CallId) -> u64 {
        match &self.ends[&call] {
            End::Forwarded(PROC, message) if message.label == process::BACKGROUND => message.words[0],
            other => panic!("{other:?}"),
        }
    }

    pub fn read(&mut self, who: Caller, badge: u64, length: u64) -> CallId {
        self.linux(who, badge, 0, [3, BUFFER, length, 0, 0, 0])
    }

    /// What a read has brought.
    pub fn got(&self, call: CallId) -> Option<String> {
        let length = self.result(call)?;
        let bytes = self.load(BUFFER, u64::try_from(length).expect("the read succeeds"));
        Some(String::from_utf8(bytes).unwrap())
    }

    pub fn write(&mut self, who: Caller, badge: u64, bytes: &[u8]) -> CallId {
        self.store(BUFFER, bytes);
        self.linux(who, badge, 1, [3, BUFFER, bytes.len() as u64, 0, 0, 0])
    }

    pub fn ioctl(&mut self, who: Caller, badge: u64, request: u64, argument: u64) -> CallId {
        self.linux(who, badge, 16, [3, request, argument, 0, 0, 0])
    }

    /// Changes the settings with TCSETS.
    pub fn set(&mut self, badge: u64, change: impl FnOnce(&mut Termios)) {
        let get = self.ioctl(shell(), badge, 0x5401, BUFFER);
        assert_eq!(self.result(get), Some(0));
        let mut termios = Termios::parse(&self.load(BUFFER, 36), &Termios::console()).unwrap();
        change(&mut termios);
        self.store(BUFFER, &termios.to_bytes());
        let set = self.ioctl(shell(), badge, 0x5402, BUFFER);
        assert_eq!(self.result(set), Some(0));
    }

    pub fn cancel(&mut self, call: CallId) {
        self.event(Event::Cancel { call });
    }

    /// The process server takes the news.
    pub fn news(&mut self) -> Vec<News> {
        self.native(Message::label(TAKE_EVENTS)).decode::<Events>().unwrap()
    }

    /// Runs the same events again on a fresh server, with the answers it was given.
    pub fn replay(&self) -> Tty {
        let mut script = Script::default();
        script.ports = self.script.ports.reads.clone();
        script.memory = self.script.memory.clone();
        let mut tty = Tty::new(&boot_block());
        for (now, event) in &self.history {
            script.now = *now;
            assert!(!step(&mut tty, event, &mut script).again);
        }
        tty
    }
}

/// The tag that says "look at the port again" is none of those that sessions are made with.
#[test]
fn tags_of_sessions_begin_above_the_one_of_the_port() {
    let (world, _) = World::new();
    let made = world.history.iter().filter(|(_, event)| matches!(event, Event::Done { tag: Tag(1), .. }));
    assert_eq!(made.count(), 1);
}
