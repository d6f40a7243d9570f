//! Random interleavings of everything that touches parents and children, audited after every step (`audit`), against
//! what a bystander can know: which statuses are possible, and that each is delivered once.

use std::collections::{BTreeMap, BTreeSet};

use libipc::abi::CallId;
use libipc::proto::process::Exec;
use libipc::server::Message;
use proptest::prelude::*;

use super::world::{DATA, STACK, World};
use crate::id::Pid;

/// Numbers that look random and come out the same each time.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % sides.max(1)
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

/// Signals that may end a process in the game: sent, for a parent's death, as exit signals, for want of stack.
const FATAL: [u32; 5] = [1, 9, 10, 11, 15];

/// What a bystander knows.
#[derive(Default)]
struct Ledger {
    /// Who waits with which call: WNOWAIT ones only look.
    waits: Vec<(CallId, u32, bool)>,
    /// How each process may have ended.
    codes: BTreeMap<u32, BTreeSet<u32>>,
    /// Who has been told of.
    told: BTreeSet<u32>,
    /// They trace each other, too: then both a tracer and a parent are told of an end.
    traces: bool,
}

impl Ledger {
    fn may_end(&mut self, pid: u32, status: u32) {
        self.codes.entry(pid).or_default().insert(status);
    }

    /// Looks at the waits that have been answered.
    fn settle(&mut self, world: &World) {
        let answered = |call: &CallId| world.replies.get(call);
        for (call, _, peek) in &self.waits {
            let Some(reply) = answered(call) else { continue };
            let Some(output) = reply.outputs.first() else { continue };
            if reply.result <= 0 || *peek {
                continue;
            }
            let (pid, status) =
                (reply.result as u32, u32::from_le_bytes(output.bytes[..4].try_into().unwrap()));
            if status & 0xff == 0x7f || status == 0xffff {
                continue;
            }
            assert!(self.told.insert(pid) || self.traces, "the status of {pid} is delivered twice");
            let exited = self.codes.get(&pid).is_some_and(|codes| codes.contains(&status));
            assert!(exited || FATAL.contains(&status) || self.traces, "{pid} ended as {status:#x}");
        }
        self.waits.retain(|(call, _, _)| answered(call).is_none());
    }
}

/// Plays so many moves of the game with a seed.
pub fn play(world: &mut World, seed: u64, moves: u64, traces: bool) {
    let mut ledger = Ledger { traces, ..Ledger::default() };
    for index in 0..moves {
        let mut dice = Dice(seed.wrapping_mul(1_000_003).wrapping_add(index));
        dice.roll(1);
        let runners: Vec<u32> = world.tids().into_iter().filter(|tid| world.runs(*tid)).collect();
        if !runners.is_empty() {
            let tid = dice.pick(&runners);
            match traces && dice.roll(2) == 0 {
                true => trace(world, &mut dice, tid),
                false => make_a_move(world, &mut dice, tid, &mut ledger),
            }
        }
        for _ in 0..dice.roll(4) {
            world.run_one();
            ledger.settle(world);
        }
    }
}

fn process_of(world: &World, tid: u32) -> u32 {
    world.proc.threads[&crate::id::Tid(tid)].pid.0
}

fn make_a_move(world: &mut World, dice: &mut Dice, tid: u32, ledger: &mut Ledger) {
    let pids: Vec<u32> =
        world.proc.processes.keys().map(|pid| pid.0).filter(|pid| *pid > 2).chain([2]).collect();
    let other = dice.pick(&pids);
    let own = process_of(world, tid);
    let crowded = world.tids().len() > 14;
    let stack = STACK + 0x8000;
    if world.registers(tid).rsp == 0 {
        world.registers(tid).rsp = stack;
    }
    match dice.roll(20) {
        0..=2 if !crowded => {
            world.begin(tid, 57, &[]);
        }
        3 if !crowded => {
            let flags =
                0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | if dice.roll(2) == 0 { 0x120_0000 } else { 0 };
            world.begin(tid, 56, &[flags, stack, 0, DATA + 8192 + 8 * dice.roll(16) as u64]);
        }
        4 if !crowded => {
            let flags = dice.pick(&[0x4100 | 17, 0x8000 | 17, 10, 0x100 | 17, 0x900 | 17]);
            world.begin(tid, 56, &[flags, stack]);
        }
        5 if own != 2 => {
            let code = dice.roll(200) as u32;
            ledger.may_end(own, code << 8);
            world.begin(tid, 231, &[u64::from(code)]);
        }
        6 if own != 2 => {
            let code = dice.roll(200) as u32;
            ledger.may_end(own, code << 8);
            world.begin(tid, 60, &[u64::from(code)]);
        }
        7..=10 => wait(world, dice, tid, other, ledger),
        11 | 12 => send(world, dice, tid, other),
        13 => {
            let pgid = dice.pick(&[0, other, own]);
            let pid = dice.pick(&[0, other]);
            world.begin(tid, 109, &[u64::from(pid), u64::from(pgid)]);
        }
        14 if own != 2 && dice.roll(4) == 0 => {
            world.begin(tid, 112, &[]);
        }
        15 => {
            let (handler, flags) =
                dice.pick(&[(0, 0), (1, 0), (0x5000, 0), (0x5000, 2), (0x5000, 0x1000_0001), (0, 2)]);
            let bytes = [handler, flags | 0x0400_0000, 0x40_2000, 0_u64].map(u64::to_le_bytes).concat();
            world.poke(DATA + 256, &bytes);
            world.begin(tid, 13, &[u64::from(dice.pick(&[17_u8, 10, 18, 20])), DATA + 256, 0, 8]);
        }
        16 => {
            world.poke(DATA + 320, &(dice.roll(1 << 22) as u64).to_le_bytes());
            world.begin(tid, 14, &[dice.roll(3) as u64, DATA + 320, 0, 8]);
        }
        17 => {
            let (option, argument) = dice.pick(&[(36, 1), (36, 0), (1, 15), (1, 0)]);
            world.begin(tid, 157, &[option, argument]);
        }
        18 => execute(world, tid),
        _ => sleep_or_wake(world, dice, tid),
    }
}

/// A futex call, and sometimes time passes.
fn sleep_or_wake(world: &mut World, dice: &mut Dice, tid: u32) {
    let word = DATA + 8192 + 8 * dice.roll(16) as u64;
    let operation = dice.pick(&[0_u64, 1, 3]);
    world.poke(DATA + 900, &[1_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat());
    let timeout = if operation == 0 { DATA + 900 } else { 1 };
    world.begin(tid, 202, &[word, operation, u64::from(world.peek32(word)), timeout, word + 8, 0]);
    if dice.roll(3) == 0 {
        world.script.now += 400_000_000;
        if world.timer <= world.script.now {
            world.timer = u64::MAX;
            world.queue.push_back(libipc::server::Event::Notify { bits: libipc::server::TIMER_BIT });
        }
    }
}

/// ptrace(2), of anybody, most often of one that the caller traces.
fn trace(world: &mut World, dice: &mut Dice, tid: u32) {
    let own = process_of(world, tid);
    let traced: Vec<u32> = world.proc.processes[&Pid(own)].tracees.iter().map(|tid| tid.0).collect();
    let anybody = world.tids();
    let whom = dice.pick(if traced.is_empty() { &anybody } else { &traced });
    if traced.is_empty() || dice.roll(8) == 0 {
        let options = dice.pick(&[0_u64, 0x1e, 0x3f, 0x7f, 0x10_007f]);
        let request = dice.pick(&[0_u64, 16, 0x4206, 0x4206]);
        // The first process ends last.
        if whom != 2 && (request != 0 || own != 2) {
            world.begin(tid, 101, &[request, u64::from(whom), 0, options]);
        }
        return;
    }
    let signal = dice.pick(&[0_u64, 0, 0, 10, 17, 18, 19, 9]);
    let (request, data) = match dice.roll(16) {
        0..=4 => (7, signal),
        5..=7 => (24, signal),
        8 => (9, signal),
        9 => (17, signal),
        10 => (0x4208, 0),
        11 | 12 => (0x4207, 0),
        13 => (0x4200, dice.pick(&[1_u64, 0x7f, 0x10_007f])),
        14 => (12, DATA + 1024),
        _ => (dice.pick(&[1, 4, 8, 13, 14, 0x4202, 0x420e]), DATA + 1024),
    };
    world.begin(tid, 101, &[request, u64::from(whom), DATA, data]);
}

fn wait(world: &mut World, dice: &mut Dice, tid: u32, other: u32, ledger: &mut Ledger) {
    let whom = dice.pick(&[-1, -1, 0, other as i32, -(other as i32)]);
    let options = dice.pick(&[0_u64, 1, 2, 8, 10, 11, 0x4000_0000, 0x2000_0000, 0x8000_0001]);
    let call = if dice.roll(4) == 0 {
        let options = dice.pick(&[4_u64, 5, 6, 0x0100_0004, 0x0100_0005, 14, 2]);
        world.begin(tid, 247, &[0, 0, 0, options | 0x0100_0000, 0])
    } else {
        world.begin(tid, 61, &[whom as u64, DATA, options, 0])
    };
    let peek = world.queue.back().is_some_and(|event| {
        matches!(event, libipc::server::Event::Call(call) if format!("{:?}", call.request).contains("number: 247"))
    });
    ledger.waits.push((call, tid, peek));
}

fn send(world: &mut World, dice: &mut Dice, tid: u32, other: u32) {
    let signal = dice.pick(&[9_u8, 15, 10, 17, 18, 18, 18, 19, 19, 20, 1]);
    let fatal = [1, 9, 10, 15].contains(&signal);
    if other == 2 && (fatal || signal >= 19) {
        return;
    }
    let group = dice.roll(4) == 0 && world.proc.processes.get(&Pid(2)).is_some_and(|it| it.pgid.0 != other);
    let whom = if group { -(other as i32) } else { other as i32 };
    world.begin(tid, 62, &[whom as u64, u64::from(signal)]);
}

fn execute(world: &mut World, tid: u32) {
    let handle = world.new_handle();
    let message = Message::typed(libipc::proto::process::EXEC, &Exec::default()).with_handles(&[handle]);
    world.queue_on_behalf(tid, true, message);
}

/// Brings the game to its end: everybody is killed, and nothing may be left.
fn finish(world: &mut World) {
    world.dice = None;
    world.run();
    for _ in 0..3 {
        let others: Vec<u32> = world.proc.processes.keys().map(|pid| pid.0).filter(|pid| *pid > 2).collect();
        for pid in others {
            let info = crate::signal::SigInfo::kernel(9);
            let mut turn = crate::turn::Turn::new(&mut world.script);
            world.proc.send(crate::signal::Aim::Process(Pid(pid)), info, &mut turn);
            world.proc.arm(&mut turn);
            let effects = turn.out;
            world.carry_out(effects);
            world.run();
        }
        world.pass(1_000_000_000);
    }
    let info = crate::signal::SigInfo::kernel(9);
    let mut turn = crate::turn::Turn::new(&mut world.script);
    world.proc.send(crate::signal::Aim::Process(Pid(2)), info, &mut turn);
    world.proc.arm(&mut turn);
    let effects = turn.out;
    world.carry_out(effects);
    world.run();
    world.pass(1_000_000_000);
    assert!(world.tids().is_empty(), "nobody lives");
    let proc = &world.proc;
    assert_eq!(proc.processes.keys().collect::<Vec<_>>(), [&Pid(1)], "nothing but init is left");
    assert_eq!((proc.threads.len(), proc.calls.len(), proc.jobs.len(), proc.timers.len()), (0, 0, 0, 0));
    assert_eq!(
        (proc.spaces.len(), proc.actions.len(), proc.programs.len(), proc.futexes.len()),
        (0, 0, 0, 0)
    );
    assert_eq!((world.spaces.len(), world.leaked_calls()), (0, 0));
}

#[test]
fn whatever_happens_in_whatever_order_the_sentences_hold() {
    for seed in 0..150 {
        let mut world = World::started();
        world.dice = Some(seed);
        play(&mut world, seed, 120, false);
        finish(&mut world);
    }
}

#[test]
fn whoever_traces_whom_the_sentences_hold() {
    for seed in 0..60 {
        let mut world = World::started();
        world.dice = Some(seed);
        play(&mut world, seed, 160, true);
        finish(&mut world);
    }
}

#[test]
fn two_exits_two_waits_and_a_kill_end_well_in_every_order() {
    // Every order in which five calls can be served, times every event that follows from them being served late.
    let mut order = [0, 1, 2, 3, 4];
    permute(&mut order, 0, &mut |order| {
        for seed in 0..3 {
            let mut world = World::started();
            let (one, two) = (world.fork(2), world.fork(2));
            let (waiter, killer) = (world.thread(2), world.thread(2));
            let any = world.begin(2, 61, &[-1_i64 as u64, DATA, 0, 0]);
            let named = world.begin(waiter, 61, &[u64::from(one), 0, 0, 0]);
            world.begin(one, 231, &[1]);
            world.begin(two, 231, &[2]);
            world.begin(killer, 62, &[u64::from(one), 9]);
            let mut calls: Vec<_> = world.queue.drain(..).map(Some).collect();
            for index in order {
                let event = calls[*index].take().unwrap();
                world.queue.push_back(event);
            }
            world.dice = (seed > 0).then_some(seed);
            world.run();
            let (any, named) = (world.result(any).unwrap(), world.result(named).unwrap());
            let mut left = vec![i64::from(one), i64::from(two)];
            left.retain(|pid| *pid != any);
            assert!(left.len() == 1 && (named == i64::from(one) && any == i64::from(two) || named == -10));
            let last = world.wait(killer, -1, 0).unwrap();
            let told: BTreeSet<i64> = [any, named, last].into_iter().filter(|pid| *pid > 0).collect();
            assert_eq!(told, BTreeSet::from([i64::from(one), i64::from(two)]).into_iter().collect());
        }
    });
}

fn permute(order: &mut [usize; 5], from: usize, visit: &mut impl FnMut(&[usize; 5])) {
    if from == order.len() {
        return visit(order);
    }
    for index in from..order.len() {
        order.swap(from, index);
        permute(order, from + 1, visit);
        order.swap(from, index);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn any_message_from_anywhere_is_answered_and_none_panics(
        label in prop_oneof![Just(0x400_u32), Just(0x401), Just(0x402), Just(0x301), any::<u32>()],
        words: [u64; 4],
        payload in prop::collection::vec(any::<u8>(), 0..64),
        handles in 0_usize..4,
        from_program: bool,
    ) {
        let mut world = World::started();
        let handles: Vec<_> = (0..handles).map(|_| world.new_handle()).collect();
        let message = Message { label, words, payload, handles };
        if from_program && [0x401, 0x402].contains(&label) {
            world.on_behalf(2, true, message);
        } else if from_program && label == 0x301 {
            world.on_behalf(2, false, message);
        } else if ![0x401, 0x402].contains(&label) {
            world.ask(message);
        }
    }

    #[test]
    fn any_arguments_to_any_call_are_answered_or_parked_and_none_panics(
        row in 0..crate::call::CALLS.len(),
        arguments in prop::array::uniform6(prop_oneof![
            Just(0_u64), Just(DATA), Just(STACK), 0_u64..70, any::<u64>(), any::<i8>().prop_map(|it| it as u64)
        ]),
        bytes in prop::collection::vec(any::<u8>(), 128),
    ) {
        let mut world = World::started();
        world.fork(2);
        world.thread(2);
        world.begin_raw(2, crate::call::CALLS[row].0, arguments, &bytes);
        world.pass(u64::MAX / 2);
    }
}
