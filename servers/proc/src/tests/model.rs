//! The model of waits (`tests/model`) and this server, led through the same random events: after each, both must have
//! done the same, in the same order, and stand at the same place.
//!
//! Calls, cancellations and attention calls wait for their turn as the model says; what the servers below answer does
//! not. Of tracing the ends of tracees and tracers are compared; stops have more kinds in ptrace(2) than in the model.
//! Ages are fixed in the model, so forks come in its order.

use std::collections::BTreeMap;

use libipc::abi::{CallId, Handle};
use libipc::server::effect::{Effect, Operation};
use libipc::server::{Event, ForeignReply, Request};
use model::cast::{PROCESSES, Process, THREADS, Thread};
use model::configurations::{CONFIGURATIONS, LARGE};
use model::explore;
use model::kernel::At;
use model::protocol::{self, Answer, ChildSignal, End, News, Options, Signal, Wait};
use model::server::{Life, On};
use model::setting::{Configuration, Setting};
use model::watches::WATCHES;
use model::world::{Action, State};

use super::random::Dice;
use super::world::{DATA, STACK, World};
use crate::id::{INIT, Pid, Tid};
use crate::process;
use crate::status::Status;

/// Where a call's instruction lies: behind it, a thread goes on; on it, the call is to be made again.
const CALL: u64 = 0x40_1000;
const HANDLER: u64 = 0x5000;
/// Bytes of each thread's stack.
const STACK_BYTES: u64 = 1 << 18;
/// The longest walk.
const EVENTS_MAX: u64 = 100;
const PTRACE_SEIZE: u64 = 0x4206;
const SA_NOCLDWAIT: u64 = 2;
const SA_RESTART: u64 = 0x1000_0000;
const SA_NODEFER: u64 = 0x4000_0000;

/// What a step did, as far as both can say it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    Killed(Process),
    Ended(Thread),
    Interrupted(Thread),
    Answered(Thread, Answer),
    WentOn(Thread),
}

struct Pair {
    setting: Setting,
    state: State,
    world: World,
    numbers: BTreeMap<Thread, u32>,
    handles: BTreeMap<Handle, Thread>,
    /// The call each thread made last.
    calls: BTreeMap<CallId, (Thread, protocol::Request)>,
    /// The attention call in which each thread came in last.
    comings: BTreeMap<CallId, Thread>,
}

impl Pair {
    fn new(setting: Setting) -> Pair {
        let configuration = setting.configuration;
        let mut pair = Pair {
            setting,
            state: State::new(&configuration),
            world: World::started(),
            numbers: BTreeMap::new(),
            handles: BTreeMap::new(),
            calls: BTreeMap::new(),
            comings: BTreeMap::new(),
        };
        pair.world.swift = true;
        let parent = pair.world.outsider();
        pair.introduce(Thread::Main, parent);
        pair.set_actions(parent);
        if configuration.subreaper {
            assert_eq!(pair.world.prctl(parent, 36, 1), 0);
        }
        let helper = pair.world.thread(parent);
        pair.introduce(Thread::Helper, helper);
        for process in configuration.born.iter().filter(|process| process.maker().is_some()) {
            let maker = pair.number(process.maker().unwrap().threads()[0]);
            let child = pair.world.fork(maker);
            pair.introduce(process.threads()[0], child);
        }
        pair.world.log.clear();
        pair.check();
        pair
    }

    /// A thread of the model has its number, and a stack of its own.
    fn introduce(&mut self, thread: Thread, number: u32) {
        self.numbers.insert(thread, number);
        self.handles.insert(self.world.handle(number), thread);
        // Handlers nest as deep as signals come in before the thread does.
        let stack = STACK + STACK_BYTES * (thread as u64 + 1);
        self.world.script.memory.insert(stack, vec![0; STACK_BYTES as usize]);
        let registers = self.world.registers(number);
        (registers.rsp, registers.rip) = (stack + STACK_BYTES, CALL + 2);
    }

    fn set_actions(&mut self, number: u32) {
        let configuration = &self.setting.configuration;
        let flags = SA_NODEFER | if configuration.restarts { SA_RESTART } else { 0 };
        let child = match configuration.child_signal {
            ChildSignal::Default => None,
            ChildSignal::Ignored => Some((1, 0)),
            ChildSignal::Handled => Some((HANDLER, flags)),
            ChildSignal::HandledWithoutZombies => Some((HANDLER, flags | SA_NOCLDWAIT)),
        };
        self.world.action(number, 10, HANDLER, flags);
        if let Some((handler, flags)) = child {
            self.world.action(number, 17, handler, flags);
        }
    }

    fn number(&self, thread: Thread) -> u32 {
        self.numbers[&thread]
    }

    fn pid(&self, process: Process) -> Option<Pid> {
        self.numbers.get(&process.threads()[0]).map(|number| Pid(*number))
    }

    fn lives(&self, thread: Thread) -> bool {
        self.numbers.get(&thread).is_some_and(|number| self.world.lives(*number))
    }

    /// The events that may come next in both.
    fn events(&self) -> Vec<protocol::Event> {
        let calls = self.state.calls(&self.setting.configuration);
        let possible = |event: &protocol::Event| match event {
            protocol::Event::Call(_, protocol::Request::Fork(child)) => {
                PROCESSES.iter().take_while(|older| *older != child).all(|older| self.pid(*older).is_some())
            }
            protocol::Event::Call(_, protocol::Request::LetGo(_)) => false,
            protocol::Event::Made(_, protocol::Request::LetGo(_)) => false,
            _ => true,
        };
        self.state.events().chain(calls.into_iter().filter(possible)).collect()
    }

    /// Leads both through an event.
    fn step(&mut self, event: protocol::Event) {
        let effects = self.state.serve(&self.setting, event);
        match event {
            protocol::Event::Made(thread, request) => self.make(thread, request),
            protocol::Event::Call(thread, request) => {
                if !self.setting.configuration.queues {
                    self.make(thread, request);
                }
                let id = *self.calls.iter().find(|(_, made)| made.0 == thread).expect("it was made").0;
                assert!(self.world.serve(|event| matches!(event, Event::Call(call) if call.id == id)));
            }
            protocol::Event::Cancel(thread) => {
                let calls = &self.calls;
                let found = self.world.serve(|event| {
                    matches!(event, Event::Cancel { call } if calls.get(call).is_some_and(|it| it.0 == thread))
                });
                assert!(found, "the kernel asks for the call of {thread:?} back");
            }
            protocol::Event::Attention(thread, _) => {
                let number = self.number(thread);
                let coming = self.world.queue.iter().find_map(|event| attention_of(event, number));
                let coming = coming.unwrap_or_else(|| panic!("{thread:?} comes in"));
                self.comings.insert(coming, thread);
                self.world.serve(|event| attention_of(event, number) == Some(coming));
            }
            protocol::Event::Late(_) => unreachable!("no guard is missing"),
        }
        self.settle();
        let deeds = self.deeds();
        assert_eq!(deeds, self.wanted(&effects), "what was done (left) and what the model did");
        THREADS.into_iter().for_each(|thread| self.leave_handlers(thread));
        self.check();
    }

    /// A thread makes a call.
    fn make(&mut self, thread: Thread, request: protocol::Request) {
        use protocol::Request;
        let own = thread.process();
        let (number, arguments): (u32, Vec<u64>) = match request {
            Request::Wait(wait) => self.wait_arguments(wait),
            Request::Fork(_) => (57, vec![]),
            Request::Exit => (231, vec![u64::from(code(own))]),
            Request::ExitThread => (60, vec![u64::from(code(own))]),
            Request::Kill(target, signal) => {
                let signal = match signal {
                    Signal::Kill => 9,
                    Signal::User => 10,
                    Signal::Child => 17,
                    Signal::Continue => 18,
                    Signal::Stop => 19,
                };
                (62, vec![u64::from(self.pid(target).unwrap().0), signal])
            }
            Request::IgnoreChildren => {
                self.world.poke(DATA + 256, &[1_u64, 0, 0, 0].map(u64::to_le_bytes).concat());
                (13, vec![17, DATA + 256, 0, 8])
            }
            Request::Trace(target) => (101, vec![PTRACE_SEIZE, u64::from(self.pid(target).unwrap().0), 0, 0]),
            Request::LetGo(_) => unreachable!("left out"),
        };
        let tid = self.number(thread);
        self.world.registers(tid).rip = CALL;
        let id = self.world.begin(tid, number, &arguments);
        // Its last call may have been taken back before it was received.
        self.calls.retain(|_, made| made.0 != thread);
        self.calls.insert(id, (thread, request));
    }

    /// wait4(2) where that can say it, waitid(2) otherwise.
    fn wait_arguments(&self, wait: Wait) -> (u32, Vec<u64>) {
        let pid = wait.target.map(|target| self.pid(target).map_or(9999, |pid| u64::from(pid.0)));
        let bits = [
            (Options::NOHANG, 1),
            (Options::STOPPED, 2),
            (Options::EXITED, 4),
            (Options::CONTINUED, 8),
            (Options::NOWAIT, 0x0100_0000),
            (Options::NOTHREAD, 0x2000_0000),
        ];
        let options: u64 = bits.iter().filter(|(bit, _)| wait.options.contains(*bit)).map(|(_, it)| it).sum();
        if is_waitid(wait) {
            (247, vec![u64::from(pid.is_some()), pid.unwrap_or(0), DATA + 64, options, 0])
        } else {
            (61, vec![pid.unwrap_or(u64::MAX), DATA, options & !4, 0])
        }
    }

    /// Serves what the servers below answer, and cancellations of calls that are over.
    fn settle(&mut self) {
        let open: Vec<CallId> = self.calls.keys().copied().collect();
        let over = |world: &World, call: &CallId| !open.contains(call) || world.replies.contains_key(call);
        loop {
            let stale: Vec<CallId> = self
                .world
                .queue
                .iter()
                .filter_map(|event| match event {
                    Event::Cancel { call } if over(&self.world, call) => Some(*call),
                    _ => None,
                })
                .collect();
            let found = self.world.serve(|event| match event {
                Event::Done { .. } | Event::Answer { .. } => true,
                Event::Cancel { call } => stale.contains(call),
                _ => false,
            });
            if !found {
                return;
            }
        }
    }

    /// A handler returns at once.
    fn leave_handlers(&mut self, thread: Thread) {
        let Some(number) = self.numbers.get(&thread).copied() else { return };
        while self.world.runs(number) && self.world.registers(number).rip == HANDLER {
            self.world.registers(number).rsp += 8;
            let id = self.world.begin(number, 15, &[]);
            assert!(self.world.serve(|event| matches!(event, Event::Call(call) if call.id == id)));
            self.world.log.clear();
        }
    }

    /// What the server has just done, and a new process's introduction.
    fn deeds(&mut self) -> Vec<Deed> {
        let mut deeds = Vec::new();
        for effect in std::mem::take(&mut self.world.log) {
            deeds.extend(self.deed(effect));
        }
        deeds
    }

    fn deed(&mut self, effect: Effect) -> Option<Deed> {
        match effect {
            Effect::Do(Operation::TaskKill { task }) => {
                let process = PROCESSES.into_iter().find(|process| self.task(*process) == Some(task));
                process.map(Deed::Killed)
            }
            Effect::Do(Operation::ThreadEnd { thread }) => Some(Deed::Ended(self.handles[&thread])),
            Effect::Do(Operation::ThreadInterrupt { thread, .. }) => {
                self.handles.get(&thread).map(|thread| Deed::Interrupted(*thread))
            }
            Effect::ReplyForeign { call, reply } => {
                let (thread, request) = *self.calls.get(&call)?;
                self.calls.remove(&call);
                if !self.lives(thread) {
                    return None;
                }
                Some(Deed::Answered(thread, self.answer(request, &reply)))
            }
            Effect::Reply { call, .. } => {
                let thread = self.comings.remove(&call)?;
                self.lives(thread).then_some(Deed::WentOn(thread))
            }
            _ => None,
        }
    }

    fn task(&self, process: Process) -> Option<Handle> {
        let handle = self.handles.iter().find(|(_, thread)| thread.process() == process)?.0;
        self.world.task_of(*handle)
    }

    /// A reply in the model's words.
    fn answer(&mut self, request: protocol::Request, reply: &ForeignReply) -> Answer {
        use protocol::Request;
        match (request, reply.result) {
            (Request::Wait(_), -10) => Answer::NoChild,
            (Request::Wait(_), -4) => Answer::Interrupted,
            (Request::Wait(wait), result) if is_waitid(wait) => {
                assert_eq!(result, 0);
                let bytes = &reply.outputs[0].bytes;
                let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
                if word(16) == 0 {
                    return Answer::Nothing;
                }
                let process = self.process_of(word(16));
                Answer::Child(process, info_news(process, word(8), word(24)))
            }
            (Request::Wait(_), 0) => Answer::Nothing,
            (Request::Wait(_), pid) => {
                let word = u32::from_le_bytes(reply.outputs[0].bytes[..4].try_into().unwrap());
                let process = self.process_of(pid as u32);
                Answer::Child(process, word_news(process, word))
            }
            (Request::Fork(child), pid) => {
                assert!(pid > 0, "fork: {pid}");
                self.introduce(child.threads()[0], pid as u32);
                Answer::Done
            }
            (Request::Kill(..), -3) | (Request::Trace(_), -1 | -3) => Answer::Refused,
            (_, 0) => Answer::Done,
            (request, result) => panic!("{request:?}: {result}"),
        }
    }

    fn process_of(&self, pid: u32) -> Process {
        let found = PROCESSES.into_iter().find(|process| self.pid(*process) == Some(Pid(pid)));
        found.unwrap_or_else(|| panic!("{pid} is in the model"))
    }

    /// What the model did, in the same words.
    fn wanted(&self, effects: &[protocol::Effect]) -> Vec<Deed> {
        let deed = |effect: &protocol::Effect| match *effect {
            protocol::Effect::KillTask(process, _) => Some(Deed::Killed(process)),
            protocol::Effect::EndThread(thread) => Some(Deed::Ended(thread)),
            protocol::Effect::Interrupt(thread) => Some(Deed::Interrupted(thread)),
            protocol::Effect::Answer(thread, answer) => Some(Deed::Answered(thread, answer)),
            protocol::Effect::GoOn(thread, _) => Some(Deed::WentOn(thread)),
            protocol::Effect::Start(_) | protocol::Effect::Park(_) => None,
        };
        effects.iter().filter_map(deed).collect()
    }

    /// Both stand at the same place.
    fn check(&mut self) {
        THREADS.into_iter().for_each(|thread| self.check_thread(thread));
        PROCESSES.into_iter().for_each(|process| self.check_process(process));
    }

    fn check_thread(&mut self, thread: Thread) {
        let standing = *self.state.kernel.thread(thread);
        let Some(number) = self.numbers.get(&thread).copied() else {
            return assert_eq!(standing.at, At::Unborn, "{thread:?}");
        };
        let row = self.world.proc.threads.get(&Tid(number));
        let held = row.is_some_and(|row| row.is_held());
        let waits = row.is_some_and(|row| row.waiting.is_some()) && !held;
        let attention = self.world.queue.iter().any(|event| attention_of(event, number).is_some());
        let queued = self.world.queue.iter().any(|event| is_call_of(event, number));
        let at = match (self.world.lives(number), self.world.runs(number)) {
            (false, _) => At::Dead,
            (true, true) => At::Program,
            _ if held => At::Held,
            _ if attention => At::Attention(None),
            _ if queued => standing.at,
            _ if waits => standing.at,
            _ => panic!("{thread:?} is nowhere"),
        };
        let expected = match standing.at {
            At::Attention(_) => At::Attention(None),
            other => other,
        };
        assert_eq!(at, expected, "where {thread:?} stands");
        assert_eq!(queued, matches!(standing.at, At::Queued(_)), "whether {thread:?} has been heard");
        assert_eq!(
            waits,
            matches!(self.state.table.thread(thread).on, On::Child(..)),
            "whether {thread:?} waits"
        );
        if at == At::Program {
            let again = self.world.registers(number).rip == CALL;
            assert_eq!(again, standing.again.is_some(), "whether {thread:?} makes its call again");
        }
    }

    fn check_process(&self, process: Process) {
        let row = self.state.table.row(process);
        let real = self.pid(process).and_then(|pid| self.world.proc.processes.get(&pid));
        let Some(real) = real else {
            return assert!(!row.is_visible(), "{process:?} is no more, and {:?} in the model", row.life);
        };
        let life = match real.life {
            process::Life::Running => Life::Running,
            process::Life::Stopping { .. } => Life::Stopping,
            process::Life::Stopped { .. } => Life::Stopped,
            process::Life::Zombie { status } => Life::Zombie(end(process, status)),
            other => panic!("{process:?} is {other:?}"),
        };
        assert_eq!(life, row.life, "the life of {process:?}");
        let parent = row.parent.map_or(INIT, |parent| self.pid(parent).unwrap());
        assert_eq!(real.parent, parent, "the parent of {process:?}");
        if row.parent.is_some() {
            assert_eq!(real.creator.0, self.number(row.creator), "whose child {process:?} is");
        }
        let news = real.news.map(|news| match news {
            process::News::Exited(status) => News::Ended(end(process, status)),
            process::News::Stopped(_) => News::Stopped,
            process::News::Continued => News::Continued,
        });
        assert_eq!(news, row.news, "the news of {process:?}");
        for (signal, number) in
            [(Signal::Kill, 9), (Signal::User, 10), (Signal::Child, 17), (Signal::Stop, 19)]
        {
            assert_eq!(real.pending.set().has(number), row.pending.has(signal), "{signal:?} of {process:?}");
        }
    }
}

/// Each process has a code of its own.
fn code(process: Process) -> u8 {
    10 + process as u8
}

fn is_waitid(wait: Wait) -> bool {
    wait.options.contains(Options::NOWAIT) || !wait.options.contains(Options::EXITED)
}

fn is_call_of(event: &Event, number: u32) -> bool {
    matches!(event, Event::Call(call)
        if call.caller.tid == number && matches!(call.request, Request::Foreign(_)))
}

fn attention_of(event: &Event, number: u32) -> Option<CallId> {
    match event {
        Event::Call(call) if call.caller.tid == number => {
            matches!(call.request, Request::Attention { .. }).then_some(call.id)
        }
        _ => None,
    }
}

fn end(process: Process, status: Status) -> End {
    match status {
        _ if status == Status::exited(i32::from(code(process))) => End::Exited,
        _ if status == Status::killed(9, false) => End::Killed,
        other => panic!("{process:?} ended as {other:?}"),
    }
}

fn word_news(process: Process, word: u32) -> News {
    match word {
        0x137f => News::Stopped,
        0xffff => News::Continued,
        9 => News::Ended(End::Killed),
        word => {
            assert_eq!(word, u32::from(code(process)) << 8, "the status of {process:?}");
            News::Ended(End::Exited)
        }
    }
}

fn info_news(process: Process, info_code: u32, status: u32) -> News {
    match (info_code, status) {
        (5, 19) => News::Stopped,
        (6, 18) => News::Continued,
        (2, 9) => News::Ended(End::Killed),
        told => {
            assert_eq!(told, (1, u32::from(code(process))), "the siginfo of {process:?}");
            News::Ended(End::Exited)
        }
    }
}

/// Everything the model can do, but stops of what is traced: there ptrace(2) has more to tell than the model knows.
fn configurations() -> impl Iterator<Item = Configuration> {
    let all = CONFIGURATIONS.iter().chain(LARGE);
    all.map(|configuration| match configuration.name {
        "tracing" => {
            Configuration { kills: &[(Process::Parent, Process::First, Signal::Kill)], ..*configuration }
        }
        _ => Configuration { traces: &[], ..*configuration },
    })
}

/// Walks both with a seed, for so many events or until everybody is dead. Answers how many there were.
fn walk(setting: Setting, seed: u64) -> u64 {
    println!("{}, seed {seed}", setting.configuration.name);
    let mut dice = Dice(seed);
    let mut pair = Pair::new(setting);
    pair.world.crashes = seed.is_multiple_of(4);
    let fatal = |event: &protocol::Event| {
        use protocol::Request::{Exit, Kill};
        matches!(event, protocol::Event::Call(_, Exit | Kill(_, Signal::Kill)))
    };
    for steps in 0..EVENTS_MAX {
        let events = pair.events();
        if events.is_empty() {
            return steps;
        }
        // Ends are rare, or there would be nothing else.
        let event = dice.pick(&events);
        let event = if fatal(&event) { dice.pick(&events) } else { event };
        pair.step(event);
    }
    EVENTS_MAX
}

fn walks(each: u64) {
    let (mut walks, mut steps) = (0, 0);
    for configuration in configurations() {
        for seed in 0..each {
            steps += walk(Setting { configuration, without: None }, seed);
            walks += 1;
        }
    }
    println!("{walks} walks, {steps} events");
}

#[test]
fn the_server_does_what_the_model_does() {
    walks(200);
}

#[test]
#[ignore = "minutes of the same"]
fn the_server_does_what_the_model_does_for_long() {
    walks(2000);
}

/// Whether this test can follow a path: it tears no step, has no crashes, and nobody stops who may be traced.
fn can_follow(path: &[Action]) -> bool {
    use protocol::{Event, Request::*};
    let traces = path.iter().any(|action| matches!(action.event, Event::Call(_, Trace(_))));
    path.iter().all(|action| {
        let stops = matches!(action.event, Event::Call(_, LetGo(_) | Kill(_, Signal::Stop)));
        action.crash.is_none() && !matches!(action.event, Event::Late(_)) && !(traces && stops)
    })
}

/// The shortest way on which a model without a guard goes wrong is one on which it differs from the server, too.
#[test]
fn the_server_has_every_guard_of_the_model() {
    let mut followed = 0;
    for watch in WATCHES {
        let found = explore(watch.setting(), Some(watch.sentence), 1).discoveries;
        let path = &found[watch.sentence];
        if !can_follow(path) {
            continue;
        }
        let lead = |setting| {
            let mut pair = Pair::new(setting);
            path.iter().for_each(|action| pair.step(action.event));
        };
        let differs = std::panic::catch_unwind(|| lead(watch.setting())).is_err();
        assert!(differs, "a model without {:?} is no different from the server", watch.guard);
        followed += 1;
    }
    assert_eq!(followed, 29, "guards within reach");
}
