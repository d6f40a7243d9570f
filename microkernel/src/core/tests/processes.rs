//! Tasks and threads made as copies, and operations that do several things of one kind at once.

use libipc::abi::delivery::MessageBuffer;
use libipc::abi::foreign::Role;
use libipc::abi::syscall::{NO_ANSWER, Syscall};
use libipc::abi::{KernelError, PAGE_SIZE, Protection, TaskWord};

use super::descriptors::{Linux, linux};
use super::{World, info};
use crate::arch::emulated::Emulated;
use crate::core::Machine;
use crate::core::object::FrameRange;

const KEEP: u64 = u64::MAX;
const TASK: u64 = 3000;
const THREAD: u64 = 3001;
const COPY_BOTH: u64 = 2 | 8;

fn fork_arguments(space: u64, source: u64, tls: u64) -> [u64; 6] {
    [TASK | THREAD << 32, space | source << 32, 77 | 66 << 32, COPY_BOTH, 0x7000, tls]
}

#[test]
fn a_forked_task_has_numbers_of_its_own_and_its_thread_begins_where_its_source_called() {
    let Linux { mut world, program, .. } = linux();
    let proc = world.role(Role::Proc);
    world.ok(proc, Syscall::TaskWord, &[program.task_slot, TaskWord::Pgid as u64, 55]);
    let source = world.thread_of(program.task);
    let registers = &mut world.kernel.threads.get_mut(source).unwrap().registers;
    (registers.rax, registers.rip, registers.fs_base) = (57, 0x1234, 0x5678);
    world.ok(proc, Syscall::TaskFork, &fork_arguments(program.badge, program.thread_slot, KEEP));
    let task = world.kernel.program_named(proc, TASK).unwrap();
    let words = world.kernel.tasks.get(task).unwrap().words;
    let word = |word: TaskWord| words[word as usize];
    assert_eq!((word(TaskWord::Pid), word(TaskWord::ParentPid), word(TaskWord::Pgid)), (77, 66, 55));
    let copy = world.kernel.threads.get(world.thread_of(task)).unwrap();
    let registers = copy.registers;
    assert_eq!((copy.tid, registers.rax, registers.rip), (77, 0, 0x1234));
    assert_eq!((registers.rsp, registers.fs_base), (0x7000, 0x5678));
}

#[test]
fn a_fork_that_is_refused_leaves_nothing_behind() {
    let Linux { mut world, program, .. } = linux();
    let proc = world.role(Role::Proc);
    let used = |world: &World| (world.kernel.tasks.used(), world.kernel.threads.used());
    let before = used(&world);
    let high = fork_arguments(program.badge, program.thread_slot, 1 << 47);
    assert_eq!(world.trap(proc, Syscall::TaskFork, &high), Some(Err(KernelError::BadAddress)));
    let good = fork_arguments(program.badge, program.thread_slot, KEEP);
    let mut same = good;
    same[0] = TASK | TASK << 32;
    assert_eq!(world.trap(proc, Syscall::TaskFork, &same), Some(Err(KernelError::SlotInUse)));
    assert_eq!(used(&world), before);
    world.ok(proc, Syscall::TaskFork, &good);
    world.ok(proc, Syscall::TaskKill, &[TASK]);
    world.ok(proc, Syscall::Close, &[TASK | 1 << 32, THREAD]);
    assert_eq!(used(&world), before);
}

#[test]
fn several_handles_are_given_back_at_once_or_none_of_them() {
    let Linux { mut world, vm, .. } = linux();
    for slot in 500..511 {
        world.ok(vm, Syscall::SessionCreate, &[slot, slot, 0, 0, 0]);
    }
    let pairs: Vec<u64> = (501..511).step_by(2).map(|slot| slot | (slot + 1) << 32).collect();
    let all = [500 | 10 << 32, pairs[0], pairs[1], pairs[2], pairs[3], pairs[4]];
    let mut wrong = all;
    wrong[5] = 509 | 999 << 32;
    let before = world.kernel.sessions.used();
    assert_eq!(world.trap(vm, Syscall::Close, &wrong), Some(Err(KernelError::BadHandle)));
    assert_eq!(world.kernel.sessions.used(), before);
    assert_eq!(world.trap(vm, Syscall::Close, &[500 | 11 << 32]), Some(Err(KernelError::BadArgument)));
    world.ok(vm, Syscall::Close, &all);
    assert_eq!(world.kernel.sessions.used(), before - 11);
}

#[test]
fn a_message_without_an_answer_ends_with_its_reply() {
    let Linux { mut world, vm, .. } = linux();
    let proc = world.role(Role::Proc);
    world.grant(2, 900, 3);
    let (from, to) = (world.role(Role::Vm), proc);
    assert_eq!(from, vm);
    world.set_header(from, MessageBuffer { tag: NO_ANSWER.0, ..MessageBuffer::default() });
    world.ok(from, Syscall::Send, &[900, info(5, 0, 0)]);
    world.ok(to, Syscall::Receive, &[]);
    let token = world.delivery(to).token;
    world.ok(to, Syscall::Reply, &[token, 0]);
    assert_eq!(world.kernel.calls.used(), 0);
    assert_eq!(world.trap(from, Syscall::Receive, &[]), None, "there is nothing to receive");
}

#[test]
fn a_table_that_was_one_before_is_empty_whatever_was_done_to_its_frame_meanwhile() {
    let Linux { mut world, program, vm, .. } = linux();
    let frames = world.frames(4);
    world.kernel.frames.give(frames, vm.index() as u16);
    let numbers = (0..3).map(|table| frames.first.0 + table);
    let mut payload: Vec<u8> = numbers.flat_map(u32::to_le_bytes).collect();
    payload.resize(16, 0);
    payload.extend_from_slice(&0x40_0000_u64.to_le_bytes());
    payload.extend_from_slice(&(frames.first.0 + 3).to_le_bytes());
    payload.extend_from_slice(&u32::from(Protection::READ.bits()).to_le_bytes());
    let (other, top) = (700, world.frames(2));
    world.kernel.frames.give(top, vm.index() as u16);
    for round in 0..3_u64 {
        let root = u64::from(top.first.0) + round % 2;
        world.ok(vm, Syscall::SpaceCreate, &[other, 99, root]);
        world.set_payload(vm, &payload);
        world.ok(vm, Syscall::Map, &[other, 3, 1]);
        let root = libipc::abi::Frame(root as u32);
        let mapped = |world: &mut World, address| world.kernel.translate(root, address, Protection::READ);
        assert!(mapped(&mut world, 0x40_0000).is_some(), "round {round}");
        assert!((1..512).all(|page| mapped(&mut world, 0x40_0000 + page * PAGE_SIZE).is_none()));
        world.ok(vm, Syscall::SpaceDestroy, &[other]);
        world.ok(vm, Syscall::Close, &[other]);
        let lowest = FrameRange { first: libipc::abi::Frame(frames.first.0 + 2), count: 1 };
        let clean = world.kernel.machine.bytes(lowest, 0, PAGE_SIZE).iter().all(|byte| *byte == 0);
        assert!(clean, "a table that is given up is empty");
        if round == 1 {
            world.set_payload(vm, &[0xff; 4096]);
            world.ok(vm, Syscall::FrameWrite, &[u64::from(lowest.first.0), 0, 4096]);
        }
    }
    assert_eq!(program.badge, 11);
}

#[test]
fn a_map_fills_frames_first_and_nothing_happens_when_one_of_them_is_not_the_callers() {
    let Linux { mut world, program, vm, .. } = linux();
    let source = world.map(vm, &program, 0x40_0000, 1, Protection::READ).first;
    world.kernel.machine.bytes(FrameRange::one(source), 0, 3).copy_from_slice(b"abc");
    let fresh = world.frames(2);
    world.kernel.frames.give(fresh, vm.index() as u16);
    world.kernel.machine.bytes(fresh, 0, 2 * PAGE_SIZE).fill(0xff);
    let (copy, zeroes) = (u64::from(fresh.first.0), u64::from(fresh.first.0) + 1);
    let mut payload = Vec::new();
    for (address, frame) in [(0x40_1000_u64, copy), (0x40_2000, zeroes)] {
        payload.extend_from_slice(&address.to_le_bytes());
        payload.extend_from_slice(&(frame | u64::from(Protection::READ.bits()) << 32).to_le_bytes());
    }
    world.set_payload(vm, &payload);
    let fill = u64::from(source.0) | copy << 32;
    let stranger = [program.badge, 0, 2, fill, 1 | 1 << 32, 0];
    assert_eq!(world.trap(vm, Syscall::Map, &stranger), Some(Err(KernelError::NoRight)));
    assert_eq!(world.kernel.machine.bytes(fresh, 0, 3), [0xff; 3]);
    world.ok(vm, Syscall::Map, &[program.badge, 0, 2, fill, zeroes | zeroes << 32, 0]);
    assert_eq!(world.kernel.machine.bytes(fresh, 0, 4), b"abc\0");
    assert!(world.kernel.machine.bytes(fresh, PAGE_SIZE, PAGE_SIZE).iter().all(|byte| *byte == 0));
}

/// Tables and pages as a map trap takes them.
fn map_payload(tables: &[u32], pages: &[(u64, u32)]) -> Vec<u8> {
    let mut payload: Vec<u8> = tables.iter().flat_map(|table| table.to_le_bytes()).collect();
    payload.resize(payload.len().next_multiple_of(8), 0);
    for (address, frame) in pages {
        payload.extend_from_slice(&address.to_le_bytes());
        payload.extend_from_slice(&frame.to_le_bytes());
        payload.extend_from_slice(&u32::from(Protection::READ.bits()).to_le_bytes());
    }
    payload
}

#[test]
fn a_map_that_lacks_a_table_or_is_given_one_twice_changes_nothing() {
    let mut world = World::new();
    let (vm, proc) = (world.server(2, false), world.server(3, false));
    world.start(2);
    world.start(3);
    let program = world.program(vm, proc);
    let frames = world.frames(9);
    world.kernel.frames.give(frames, vm.index() as u16);
    let frame = |number| frames.first.0 + number;
    // Two tables of the lowest level under one of each higher one, and the second page is back under the first.
    let span = PAGE_SIZE << Emulated::LEVEL_BITS;
    let pages = [(span, frame(4)), (2 * span, frame(5)), (span + PAGE_SIZE, frame(6))];
    let wanted = Emulated::LEVELS as u64;
    let tables: Vec<u32> = (0..wanted as u32).map(frame).collect();
    let map = |world: &mut World, tables: &[u32], pages: &[(u64, u32)]| {
        world.set_payload(vm, &map_payload(tables, pages));
        let arguments = [program.badge, tables.len() as u64, pages.len() as u64];
        world.trap(vm, Syscall::Map, &arguments).unwrap().map(|[used, ..]| used)
    };
    let before = world.kernel.used();
    assert_eq!(map(&mut world, &tables[1..], &pages), Err(KernelError::NeedTable));
    let mut twice = tables.clone();
    twice[1] = twice[0];
    assert_eq!(map(&mut world, &twice, &pages), Err(KernelError::FrameInUse));
    let both = [(span, tables[0])];
    assert_eq!(map(&mut world, &tables, &both), Err(KernelError::FrameInUse), "a table is not mapped");
    assert_eq!(world.kernel.used(), before);
    assert_eq!(map(&mut world, &tables, &pages), Ok(wanted), "no table too many is asked for");
    assert_eq!(map(&mut world, &[], &[(span + 2 * PAGE_SIZE, frame(7))]), Ok(0));
}
