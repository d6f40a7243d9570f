//! A kernel in miniature: it carries effects out as the real one does, and panics where the real one would call the
//! server faulty: an operation on what is not there, a call dropped or answered twice, a thread run when it is dead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use libipc::abi::delivery::{FaultKind, MAKE_CALL, Named, Occasion};
use libipc::abi::foreign::{Input, LINUX};
use libipc::abi::{CallId, Handle, Readiness, TaskWord, UserRegisters};
use libipc::proto::process::{self as protocol, Exec};
use libipc::proto::{space, terminal};
use libipc::server::effect::Effect;
use libipc::server::testing::{Script, boot, step};
use libipc::server::{
    Caller, Effects, Event, Foreign, ForeignReply, Message, Names, NewSession, Request, Server, TIMER_BIT,
};

mod lower;
mod making;
pub mod moves;
mod operations;

use super::audit;
use crate::Proc;

/// Where programs keep their data.
pub const DATA: u64 = 0x10_0000;
/// From here on their data is memory that all of them share.
pub const SHARED: u64 = DATA + 0xf000;
/// Where the object is that all of them share: its header, and in this world also its entry.
pub const VDSO: u64 = DATA + 0xd000;
/// Where their stacks are.
pub const STACK: u64 = 0x7f00_0000_0000;
const REGION_BYTES: usize = 16 * 4096;
/// The number of the calls that arrive as messages: execve's.
pub const ON_BEHALF: u64 = 59;
const VM: Handle = Handle(0);
const TTY: Handle = Handle(1);

pub struct Task {
    pub words: BTreeMap<TaskWord, u64>,
    pub alive: bool,
}

pub struct Thread {
    task: Handle,
    tid: u32,
    started: bool,
    ended: bool,
    /// When it comes to the server: before it next runs, after its call, at each call.
    attention: bool,
    after_call: bool,
    each_call: bool,
    /// The call that it makes when the server lets it, having come before it.
    entering: Option<Foreign>,
    call: Option<CallId>,
    restart: u64,
}

struct Open {
    thread: Handle,
    number: u32,
    foreign: bool,
    cancelled: bool,
}

pub struct World {
    pub proc: Proc,
    pub script: Script,
    pub tasks: BTreeMap<Handle, Task>,
    pub threads: BTreeMap<Handle, Thread>,
    calls: BTreeMap<CallId, Open>,
    pub queue: VecDeque<Event>,
    pub replies: BTreeMap<CallId, ForeignReply>,
    pub native: Vec<Message>,
    pub spaces: BTreeMap<u64, Handle>,
    pub descriptors: Vec<(Handle, u32, Handle)>,
    pub power: Option<(u32, bool)>,
    pub timer: u64,
    pub forwarded: Vec<Message>,
    /// Sessions that programs were given.
    pub opened: Vec<NewSession>,
    /// What those of this server are ready for.
    pub readiness: BTreeMap<Handle, Readiness>,
    /// Calls that another server has now.
    pub elsewhere: Vec<CallId>,
    pub tty_events: Vec<terminal::Event>,
    pub foreground: u32,
    pub ended_sessions: Vec<u64>,
    pub vm_fails: Option<i32>,
    /// Strings that vm keeps for execs to come, and what it was last asked to build with.
    pub strings: BTreeMap<u64, [Vec<u8>; 2]>,
    pub built: (u32, u32, Vec<u8>),
    /// The limits that vm was last told.
    pub limits: Option<space::Limits>,
    /// How many answers to come find a page missing.
    pub misses_of_answers: u32,
    /// Where programs start.
    pub entry: u64,
    /// Where vm says that the shared object is.
    pub vdso: u64,
    pub hold_vm: bool,
    pub held: Vec<Event>,
    pub refuse: BTreeSet<&'static str>,
    pub log: Vec<Effect>,
    /// Whether the server dies before every event, and lives on from its snapshot.
    pub crashes: bool,
    /// Steps are not tried with snapshots as well, which is most of what a step costs here.
    pub swift: bool,
    next_space: u64,
    next_handle: u32,
    /// Chooses which event comes next; first come, first served without it.
    pub dice: Option<u64>,
    /// Addresses that lead nowhere are passed over, where the kernel would answer EFAULT.
    lenient: bool,
}

fn server() -> Proc {
    Proc::new(&boot("proc", &["vm", "tty", "vfs"]))
}

impl World {
    pub fn new() -> World {
        let mut script = Script::default();
        script.memory.insert(DATA, vec![0; REGION_BYTES]);
        script.memory.insert(STACK, vec![0; REGION_BYTES]);
        script.oracle = |_, message| {
            Ok(match message.label {
                space::REQUEST => Message::typed(0, &lower::asked_of_vm(message)),
                _ => Message::words(0, [0x8801, 2, 0, 0]),
            })
        };
        let mut world = World {
            proc: server(),
            script,
            tasks: BTreeMap::new(),
            threads: BTreeMap::new(),
            calls: BTreeMap::new(),
            queue: VecDeque::new(),
            replies: BTreeMap::new(),
            native: Vec::new(),
            spaces: BTreeMap::new(),
            descriptors: Vec::new(),
            power: None,
            timer: u64::MAX,
            forwarded: Vec::new(),
            opened: Vec::new(),
            readiness: BTreeMap::new(),
            elsewhere: Vec::new(),
            tty_events: Vec::new(),
            foreground: 0,
            ended_sessions: Vec::new(),
            vm_fails: None,
            strings: BTreeMap::new(),
            built: (0, 0, Vec::new()),
            limits: None,
            misses_of_answers: 0,
            entry: 0x40_1000,
            vdso: VDSO,
            hold_vm: false,
            held: Vec::new(),
            refuse: BTreeSet::new(),
            log: Vec::new(),
            crashes: false,
            swift: false,
            next_space: 1,
            next_handle: 10_000,
            dice: None,
            lenient: false,
        };
        world.step(Event::Start);
        world
    }

    /// A world in which the first program, process 2, runs.
    pub fn started() -> World {
        let mut world = World::new();
        world.spawn(true);
        assert_eq!(world.tids(), [2]);
        world
    }

    pub fn spawn(&mut self, exit_on_end: bool) {
        let exec = Exec { filename: b"/bin/sh".to_vec(), path: b"/bin/sh".to_vec(), ..Exec::default() };
        let argv = vec![b"sh".to_vec()];
        let env = vec![b"A=B".to_vec()];
        let request = protocol::Request::Spawn { exec, argv, env, exit_on_end };
        let handles = [self.new_handle(), self.new_handle(), self.new_handle(), self.new_handle()];
        self.ask(Message::typed(protocol::REQUEST, &request).with_handles(&handles));
    }

    /// Another server's call, and what comes of it.
    pub fn ask(&mut self, message: Message) -> Option<Message> {
        let call = self.script.native(message);
        let before = self.native.len();
        self.calls
            .insert(call.id, Open { thread: Handle::NONE, number: 0, foreign: false, cancelled: false });
        self.queue.push_back(Event::Call(call));
        self.run();
        self.native.get(before).cloned()
    }

    pub fn new_handle(&mut self) -> Handle {
        self.next_handle += 1;
        Handle(self.next_handle)
    }

    /// The living threads' numbers.
    pub fn tids(&self) -> Vec<u32> {
        let mut tids: Vec<u32> = self.threads.values().filter(|it| !it.ended).map(|it| it.tid).collect();
        tids.sort();
        tids
    }

    pub fn handle(&self, tid: u32) -> Handle {
        let found = self.threads.iter().find(|(_, thread)| thread.tid == tid && !thread.ended);
        *found.unwrap_or_else(|| panic!("thread {tid} does not live")).0
    }

    /// The task of a living thread.
    pub fn task(&self, tid: u32) -> Handle {
        self.threads[&self.handle(tid)].task
    }

    pub fn lives(&self, tid: u32) -> bool {
        self.threads.values().any(|thread| thread.tid == tid && !thread.ended)
    }

    /// Whether a thread runs its program: it has been started and is in no call.
    pub fn runs(&self, tid: u32) -> bool {
        self.threads.values().any(|it| it.tid == tid && it.started && !it.ended && it.call.is_none())
    }

    pub fn registers(&mut self, tid: u32) -> &mut UserRegisters {
        let handle = self.handle(tid);
        self.script.threads.get_mut(&handle).expect("a thread has registers")
    }

    pub fn word(&self, tid: u32, word: TaskWord) -> u64 {
        let task = self.threads[&self.handle(tid)].task;
        self.tasks[&task].words.get(&word).copied().unwrap_or(0)
    }

    pub fn poke(&mut self, address: u64, bytes: &[u8]) {
        let region = self.script.memory.range_mut(..=address).next_back();
        let place = region.and_then(|(start, region)| {
            let at = (address - start) as usize;
            region.get_mut(at..at.checked_add(bytes.len())?)
        });
        match place {
            Some(place) => place.copy_from_slice(bytes),
            None => assert!(self.lenient, "{address:#x} is not mapped"),
        }
    }

    pub fn peek(&self, address: u64, length: u32) -> Vec<u8> {
        let (start, region) = self.script.memory.range(..=address).next_back().expect("mapped");
        let at = (address - start) as usize;
        region[at..at + length as usize].to_vec()
    }

    pub fn peek32(&self, address: u64) -> u32 {
        u32::from_le_bytes(self.peek(address, 4).try_into().unwrap())
    }

    fn caller(&self, thread: Handle) -> Caller {
        let thread = &self.threads[&thread];
        let words = &self.tasks[&thread.task].words;
        let of = |word| words.get(&word).copied().unwrap_or(0) as u32;
        Caller {
            pid: of(TaskWord::Pid),
            tid: thread.tid,
            uid: of(TaskWord::EffectiveUid),
            gid: of(TaskWord::EffectiveGid),
            pgid: of(TaskWord::Pgid),
            sid: of(TaskWord::Sid),
            umask: of(TaskWord::Umask),
            ..Caller::default()
        }
    }

    fn enqueue(&mut self, thread: Handle, number: u32, foreign: bool, request: Request) -> CallId {
        let call = self.script.call(self.caller(thread), 0, request);
        let id = call.id;
        self.calls.insert(id, Open { thread, number, foreign, cancelled: false });
        self.threads.get_mut(&thread).unwrap().call = Some(id);
        self.queue.push_back(Event::Call(call));
        id
    }

    /// A thread makes a Linux call; it is queued, not yet served.
    pub fn begin(&mut self, tid: u32, number: u32, arguments: &[u64]) -> CallId {
        self.begin_named(tid, number, arguments, Named::default())
    }

    pub fn begin_named(&mut self, tid: u32, number: u32, arguments: &[u64], named: Named) -> CallId {
        assert!(self.runs(tid), "thread {tid} makes a call while it is in one");
        let mut six = [0; 6];
        six[..arguments.len()].copy_from_slice(arguments);
        let registers = self.registers(tid);
        registers.rax = u64::from(number);
        registers.rip += 2;
        let named = [named, Named::default()];
        let names = Some(Box::new(Names { named, ..Names::default() }));
        let foreign = Foreign { number, arguments: six, names, ..Foreign::default() };
        let thread = self.handle(tid);
        if self.threads[&thread].each_call {
            self.threads.get_mut(&thread).unwrap().entering = Some(foreign);
            let occasion = Occasion::Entry;
            return self.enqueue(thread, 0, false, Request::Attention { restart: 0, occasion });
        }
        self.enqueue(thread, number, true, Request::Foreign(foreign))
    }

    /// Inputs are gathered when a call is delivered.
    pub fn gather_inputs(&self, event: &mut Event) {
        if let Event::Call(call) = event
            && let Request::Foreign(foreign) = &mut call.request
            && !self.lenient
        {
            foreign.inputs =
                LINUX[foreign.number as usize].inputs.map(|input| self.gather(input, &foreign.arguments));
        }
    }

    fn gather(&self, input: Input, arguments: &[u64; 6]) -> Option<Vec<u8>> {
        let (address, length) = match input {
            Input::None | Input::Small(..) => return None,
            Input::Bytes(at, bytes) => (arguments[at as usize], u32::from(bytes)),
            Input::Array(at, count, size) | Input::PerDescriptor(at, count, size) => {
                (arguments[at as usize], arguments[count as usize] as u32 * u32::from(size))
            }
            Input::Text(_) => unreachable!("no call of this server has a path"),
        };
        (address != 0).then(|| self.peek(address, length))
    }

    /// A thread makes a Linux call. Its result, if it has one when everything has come to rest.
    pub fn syscall(&mut self, tid: u32, number: u32, arguments: &[u64]) -> Option<i64> {
        let id = self.begin(tid, number, arguments);
        self.run();
        self.result(id)
    }

    pub fn result(&self, id: CallId) -> Option<i64> {
        self.replies.get(&id).map(|reply| reply.result)
    }

    /// A thread has an exception.
    pub fn fault(&mut self, tid: u32, vector: u64) {
        self.fault_of_kind(tid, FaultKind::Exception, vector);
    }

    /// A thread has a fault.
    pub fn fault_of_kind(&mut self, tid: u32, kind: FaultKind, vector: u64) {
        let thread = self.handle(tid);
        let rip = self.registers(tid).rip;
        let request = Request::Fault { kind, words: [vector, 0, rip, 0] };
        self.enqueue(thread, 0, false, request);
        self.run();
    }

    /// A native message on a thread's behalf: vm's signal, tty's question, vfs's exec.
    pub fn on_behalf(&mut self, tid: u32, foreign: bool, message: Message) -> CallId {
        let id = self.queue_on_behalf(tid, foreign, message);
        self.run();
        id
    }

    /// Steps until nothing is left to do.
    pub fn run(&mut self) {
        while self.run_one() {}
    }

    /// Steps one event; false when there is none.
    pub fn run_one(&mut self) -> bool {
        let outcome = self.queue.iter().position(|event| matches!(event, Event::Done { .. }));
        let index = outcome.unwrap_or_else(|| match &mut self.dice {
            Some(dice) if !self.queue.is_empty() => {
                *dice = dice.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (*dice >> 33) as usize % self.queue.len()
            }
            _ => 0,
        });
        let Some(mut event) = self.queue.remove(index) else { return false };
        self.gather_inputs(&mut event);
        self.step(event);
        true
    }

    pub fn step(&mut self, event: Event) {
        if self.crashes {
            let snapshot = postcard::to_allocvec(&self.proc).expect("the state encodes");
            self.proc = postcard::from_bytes(&snapshot).expect("a sound snapshot decodes");
            self.proc.restored();
        }
        if matches!(event, Event::Answer { .. }) && self.misses_of_answers > 0 {
            self.misses_of_answers -= 1;
            self.script.miss_next = true;
        }
        let mut effects = self.take(&event);
        while effects.again {
            effects = self.take(&event);
        }
        if let Event::Call(call) = &event {
            let kept = effects.list.iter().any(|effect| match effect {
                Effect::Reply { call: id, .. }
                | Effect::ReplyForeign { call: id, .. }
                | Effect::ReplyOpen { call: id, .. }
                | Effect::Forward { call: id, .. }
                | Effect::ForwardForeign { call: id, .. }
                | Effect::Park { call: id, .. } => *id == call.id,
                _ => false,
            });
            assert!(kept, "a call was dropped: {call:?}");
        }
        self.log.extend(effects.list.iter().cloned());
        self.apply(effects);
        audit::check(self);
    }

    fn take(&mut self, event: &Event) -> Effects {
        if self.swift {
            self.proc.step(event, &mut self.script)
        } else {
            step(&mut self.proc, event, &mut self.script)
        }
    }

    fn apply(&mut self, effects: Effects) {
        for effect in effects.list {
            match effect {
                Effect::Reply { call, message } => self.reply(call, None, message),
                Effect::ReplyForeign { call, reply } => self.reply(call, Some(reply), Message::default()),
                Effect::ReplyOpen { call, session } => {
                    self.opened.push(session);
                    let reply = ForeignReply { result: 3, ..ForeignReply::default() };
                    self.reply(call, Some(reply), Message::default());
                }
                Effect::Forward { call, message, .. } => {
                    self.calls.remove(&call).expect("a call in progress");
                    self.forwarded.push(message);
                }
                Effect::ForwardForeign { call, .. } => {
                    assert!(self.calls.contains_key(&call), "handed on a call that is over");
                    self.elsewhere.push(call);
                }
                Effect::Park { call, .. } => {
                    assert!(self.calls.contains_key(&call), "parked a call that is over")
                }
                Effect::Send { to, tag, message } => self.send(to, tag, &message),
                Effect::CopyOut { call, address, bytes } => {
                    let open = self.calls.get(&call).expect("a call in progress");
                    if !self.threads[&open.thread].ended {
                        self.poke(address, &bytes);
                    }
                }
                Effect::Do(operation) => self.operate(operation).expect("the operation cannot fail"),
                Effect::Try { tag, operation } => {
                    let result = self.operate(operation).map(|()| 0);
                    self.queue.push_back(Event::Done { tag, result });
                }
                other => panic!("not an effect of this server: {other:?}"),
            }
        }
    }

    fn reply(&mut self, call: CallId, foreign: Option<ForeignReply>, message: Message) {
        let open = self.calls.remove(&call).unwrap_or_else(|| panic!("{call:?} is answered twice"));
        if open.thread == Handle::NONE {
            self.native.push(message);
            return;
        }
        assert_eq!(open.foreign, foreign.is_some(), "the answer has the form of its call");
        let thread = self.threads.get_mut(&open.thread).unwrap();
        if let Some(reply) = foreign {
            let word = reply.restart as u64 | u64::from(open.number) << 8;
            thread.restart = if reply.restart as u64 != 0 { word } else { 0 };
            if !thread.ended {
                if let Some(registers) = self.script.threads.get_mut(&open.thread) {
                    registers.rax = reply.result as u64;
                }
                for output in &reply.outputs {
                    self.poke(output.address, &output.bytes);
                }
            }
            self.replies.insert(call, reply);
        }
        let thread = self.threads.get_mut(&open.thread).unwrap();
        if thread.call == Some(call) {
            thread.call = None;
        }
        match thread.entering.take() {
            Some(entering) if message.label == MAKE_CALL && !thread.ended => {
                thread.after_call = thread.each_call;
                let number = self.script.threads[&open.thread].rax as u32;
                let entering = Foreign { number, ..entering };
                self.enqueue(open.thread, number, true, Request::Foreign(entering));
            }
            _ => self.about_to_run(open.thread),
        }
    }

    /// A thread is about to return to its program: if it was interrupted it makes an attention call instead, and if
    /// its call was ended for an interruption that nobody then wanted, it makes it again.
    fn about_to_run(&mut self, handle: Handle) {
        let thread = self.threads.get_mut(&handle).unwrap();
        if !thread.started || thread.ended || thread.call.is_some() {
            return;
        }
        let restart = std::mem::take(&mut thread.restart);
        let after_call = std::mem::take(&mut thread.after_call);
        if std::mem::take(&mut thread.attention) || after_call {
            let occasion = if after_call { Occasion::Exit } else { Occasion::Called };
            self.enqueue(handle, 0, false, Request::Attention { restart, occasion });
        } else if restart != 0 {
            let registers = self.script.threads.get_mut(&handle).unwrap();
            (registers.rip, registers.rax) = (registers.rip - 2, restart >> 8);
        }
    }

    /// tty has something to say.
    pub fn typed(&mut self, event: terminal::Event) {
        self.tty_events.push(event);
        self.queue.push_back(Event::Notify { bits: 1 << protocol::TERMINAL_BIT });
        self.run();
    }

    /// Time passes.
    pub fn pass(&mut self, ns: u64) {
        self.script.now += ns;
        if self.timer <= self.script.now {
            self.timer = u64::MAX;
            self.queue.push_back(Event::Notify { bits: TIMER_BIT });
        }
        self.run();
    }

    /// The calls that no answer has been given to, of threads that are dead.
    pub fn leaked_calls(&self) -> usize {
        self.calls.values().filter(|open| self.threads.get(&open.thread).is_some_and(|it| it.ended)).count()
    }
}
