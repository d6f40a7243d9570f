//! The short way does what the general way does: kernels of which one has only the general way, and one is being
//! traced, are led through the same traps and are the same after each.

use libipc::abi::delivery::{DELIVERY_OFFSET, Delivery};
use libipc::abi::foreign::Role;
use libipc::abi::syscall::{Syscall, THEN_RECEIVE, reply_flags};
use libipc::abi::trace::Filter;
use libipc::abi::{PAGE_SIZE, Protection, Rights};
use libipc::linux::call::{DUP, GETPID, LSEEK, READ, WRITE};
use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::{Program, World, info};
use crate::core::object::{FrameRange, Object, Phase, TaskId};
use crate::core::sched::SLICE_NS;
use crate::core::{Machine, Trap};

const MAPPED: u64 = 0x10_0000;
const FILE: u64 = 0;

/// What whoever runs does next.
#[derive(Clone, Copy, Debug)]
struct Step {
    what: u8,
    words: [u64; 4],
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let word = prop_oneof![0..4u64, any::<u64>()];
    let step = (any::<u8>(), prop::array::uniform4(word)).prop_map(|(what, words)| Step { what, words });
    prop::collection::vec(step, 1..200)
}

/// A server of files, one that calls it, and two programs with a file open.
struct Scene {
    world: World,
    servers: [TaskId; 5],
    programs: [Program; 2],
    /// What is mapped in them.
    pages: [FrameRange; 2],
}

impl Scene {
    fn new(long_way_only: bool, journaled: bool) -> Scene {
        let mut world = World::new();
        let [vm, proc, vfs, file, client] =
            [2, 3, 4, 5, 6].map(|number| world.server(number, journaled && number > 4));
        world.grant(6, FILE, 5);
        (2..=6).for_each(|number| world.start(number));
        world.play(Role::Vfs, 4);
        world.play(Role::Proc, 3);
        world.play(Role::Vm, 2);
        let programs = [world.program(vm, proc), world.program(vm, proc)];
        let pages = [0, 1]
            .map(|which| world.map(vm, &programs[which], MAPPED, 1, Protection::READ | Protection::WRITE));
        world.ok(file, Syscall::SessionCreate, &[20, 77, 78, 0, 5]);
        let Ok(Object::OwnSession(session)) = world.kernel.named(file, 20, Rights::CONTROL) else { panic!() };
        let rights = Rights::CALL | Rights::TRANSFER;
        for (program, descriptor) in programs.iter().flat_map(|program| [(program, 3), (program, 100)]) {
            world.kernel.put(program.task, descriptor, Object::Session(session), rights).unwrap();
        }
        world.kernel.put(client, 1, Object::Session(session), rights).unwrap();
        world.kernel.short.0 = long_way_only;
        Scene { world, servers: [vm, proc, vfs, file, client], programs, pages }
    }

    /// What runs makes a trap; when nothing does, the client is woken.
    fn step(&mut self, step: Step) {
        self.world.kernel.machine.time_ns += 10;
        let [_, _, _, _, client] = self.servers;
        let Some(thread) = self.world.kernel.current else {
            let client = self.world.kernel.server_of(client).unwrap();
            self.world.kernel.post_bits(client, 1);
            let _ = self.world.kernel.resume(0);
            return;
        };
        if step.what == u8::MAX {
            // A slice is over.
            self.world.kernel.machine.time_ns += 2 * SLICE_NS;
            let _ = self.world.kernel.trap(Trap::Timer);
            return;
        }
        let task = self.world.kernel.threads.get(thread).unwrap().task;
        let [word0, word1, word2, word3] = step.words;
        let (number, arguments) = if self.programs.iter().any(|program| program.task == task) {
            let (number, arguments) = match step.what % 8 {
                0 => (GETPID, [0; 6]),
                1 => (DUP, [3, 0, 0, 0, 0, 0]),
                2 => (READ, [3, MAPPED, word0 % PAGE_SIZE, 0, 0, 0]),
                3 => (READ, [3, word0, word1, 0, 0, 0]),
                4 => (LSEEK, [word0, word1, word2, 0, 0, 0]),
                5 => (WRITE, [3, MAPPED + word0 % PAGE_SIZE, word1 % 600, 0, 0, 0]),
                _ => (LSEEK, [if word3 & 1 == 0 { 3 } else { 100 }, word0, word1, word2, word3, 0]),
            };
            (u64::from(number), arguments)
        } else {
            let token = match step.what >> 6 {
                0 => self.token(task),
                1 => word0,
                _ => self.oldest(task),
            };
            let then = if step.what & 32 != 0 { 0 } else { THEN_RECEIVE };
            match step.what % 16 {
                0 => (Syscall::Null as u64, [0; 6]),
                1 => (Syscall::Receive as u64, [0; 6]),
                2 => {
                    (Syscall::Call as u64, [FILE, info(7, word0 as u32 % 64, 0), word0, word1, word2, word3])
                }
                3 | 4 => (Syscall::Call as u64, [FILE, info(7, 0, 0), word0, word1, word2, word3]),
                5 | 6 => (Syscall::Call as u64, [1, info(word0 as u32, 0, 0), word0, word1, word2, word3]),
                7 => (Syscall::Reply as u64 | then, [token, info(1, 8, 0), word0, word1, word2, word3]),
                8..11 => (Syscall::Reply as u64 | then, [token, info(0, 0, 0), word0, word1, word2, word3]),
                11 => (Syscall::ReplyForeign as u64 | then, [token, word0, word1, word2, word3, 0]),
                12 | 13 => {
                    // One piece of output, here or elsewhere.
                    let address = if word0 & 1 != 0 { MAPPED } else { word1 };
                    let piece = [address, 8, word2];
                    self.world.set_payload(task, piece.as_bytes());
                    let flags = 1 << reply_flags::OUTPUTS_SHIFT;
                    (Syscall::ReplyForeign as u64 | then, [token, flags, word2, word3, 0, 0])
                }
                _ => {
                    let position = if word0 & 1 != 0 { reply_flags::POSITION } else { 0 };
                    let ready = if word0 & 2 != 0 { reply_flags::READY } else { 0 };
                    let changed = 20 | word3 << 32;
                    (Syscall::ReplyForeign as u64 | then, [token, position | ready, word1, word2, 0, changed])
                }
            }
        };
        let registers = &mut self.world.kernel.threads.get_mut(thread).unwrap().registers;
        registers.rax = number;
        [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9] = arguments;
        let _ = self.world.kernel.trap(Trap::Call);
    }

    fn token(&mut self, task: TaskId) -> u64 {
        if task == self.world.root { 0 } else { self.world.delivery(task).token }
    }

    /// The call that a server has had longest.
    fn oldest(&mut self, task: TaskId) -> u64 {
        let kernel = &self.world.kernel;
        let server = kernel.server_of(task);
        let calls = (0..kernel.calls.bound()).filter_map(|index| kernel.calls.at(index));
        let held = calls.filter_map(|id| {
            let call = kernel.calls.get(id)?;
            (call.phase == Phase::Held && Some(call.server) == server)
                .then_some((call.sequence, id.to_word()))
        });
        held.min().map_or(0, |(_, token)| token)
    }

    /// Everything that anybody can see.
    fn state(&mut self) -> Vec<String> {
        let kernel = &mut self.world.kernel;
        // Whether the first of those who are ready stands before the queues or in one shows in nothing else.
        let mut ready: Vec<_> = kernel.chosen.iter().map(|(chosen, _)| *chosen).collect();
        for queue in kernel.queues.iter().rev() {
            ready.extend(queue.names(&mut kernel.threads));
        }
        let mut state = vec![format!("{:?} {ready:?}", kernel.current)];
        let figures =
            [kernel.sequence, kernel.switches, kernel.traps, kernel.since, u64::from(kernel.calls.used())];
        state.push(format!("{figures:x?} {}", kernel.armed));
        for id in (0..kernel.threads.bound()).filter_map(|index| kernel.threads.at(index)) {
            let thread = kernel.threads.get(id).unwrap();
            state.push(format!("{id:?} {:x?}", thread.registers.as_bytes()));
            let standing = (thread.state, thread.attention, thread.restart, thread.cpu_ns, thread.slice_ns);
            state.push(format!("{standing:?}"));
        }
        for id in (0..kernel.calls.bound()).filter_map(|index| kernel.calls.at(index)) {
            let call = kernel.calls.get(id).unwrap();
            let whose = (call.task, call.thread, call.server, call.session, call.parent);
            let what = (call.kind, call.phase, call.label, call.number, call.words, call.since);
            let rest = (call.signals, call.sequence, call.payload_len, call.link.is_listed());
            state.push(format!("{id:?} {whose:?} {what:x?} {rest:?}"));
        }
        for id in (0..kernel.sessions.bound()).filter_map(|index| kernel.sessions.at(index)) {
            let session = kernel.sessions.get(id).unwrap();
            state.push(format!("{id:?} {} {:?}", session.position, session.readiness));
        }
        for page in self.pages {
            state.push(format!("{:x?}", kernel.machine.bytes(page, 0, 64)));
        }
        for task in self.servers {
            let server = kernel.server(task).unwrap();
            let (buffer, journal) = (server.buffer, server.journal);
            state.push(format!("{} {} {:?}", server.waiting, server.received, journal.map(|j| j.records)));
            let delivery = size_of::<Delivery>() as u64;
            let delivery = kernel.machine.bytes(buffer, u64::from(DELIVERY_OFFSET), delivery);
            state.push(format!("{delivery:x?}"));
            if let Some(journal) = journal {
                state.push(format!("{:x?}", kernel.machine.bytes(journal.memory, 0, journal.end)));
            }
        }
        state
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_short_way_and_the_general_way_lead_to_the_same(steps in steps(), journaled in any::<bool>()) {
        let (mut short, mut long) = (Scene::new(false, journaled), Scene::new(true, journaled));
        let mut traced = Scene::new(false, journaled);
        traced.world.kernel.set_trace(true, Filter::default());
        for (number, step) in steps.into_iter().enumerate() {
            short.step(step);
            long.step(step);
            traced.step(step);
            let (short, long, traced) = (short.state(), long.state(), traced.state());
            for ((short, long), traced) in short.iter().zip(&long).zip(&traced) {
                prop_assert_eq!(short, long, "after step {}: {:?}", number, step);
                prop_assert_eq!(traced, long, "after step {}: {:?}", number, step);
            }
            prop_assert_eq!(short.len(), long.len());
            prop_assert_eq!(traced.len(), long.len());
        }
    }
}

/// Whoever runs first settles down to wait; then these steps are made, and how many of them went the short way is told.
fn short_steps(mut scene: Scene, last: u64, steps: impl Iterator<Item = u8>) -> u32 {
    let step = |scene: &mut Scene, what| scene.step(Step { what, words: [0, 1, 2, last] });
    (0..7).for_each(|_| step(&mut scene, 1));
    let before = scene.world.kernel.short.1;
    steps.for_each(|what| step(&mut scene, what));
    scene.world.kernel.short.1 - before
}

#[test]
fn the_short_way_is_open_to_what_is_common() {
    const SEEK: u8 = 6;
    const RECEIVE: u8 = 1;
    const ANSWER: u8 = 14;
    const ANSWER_OLDEST_AND_GO_ON: u8 = ANSWER | 32 | 128;
    // A low descriptor, and a high one; also while tracing is on.
    for (last, traced) in [(2, false), (3, false), (2, true), (3, true)] {
        let scene = || {
            let mut scene = Scene::new(false, true);
            scene.world.kernel.set_trace(traced, Filter::default());
            scene
        };
        // A program seeks and the file server answers, again and again.
        assert_eq!(short_steps(scene(), last, [SEEK, ANSWER].into_iter().cycle().take(20)), 20);
        // Two programs wait for each other in turn.
        let turn = [SEEK, ANSWER_OLDEST_AND_GO_ON, ANSWER, SEEK, RECEIVE];
        let turns = [SEEK, RECEIVE].into_iter().chain(turn.into_iter().cycle().take(20));
        assert_eq!(short_steps(scene(), last, turns), 22);
    }
}
