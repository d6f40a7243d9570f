//! Inexact recoveries, and what a server then has that it does not know of.

use libipc::abi::delivery::{FaultKind, Kind, MessageBuffer};
use libipc::abi::sweep::{Holding, NAMES_MAX};
use libipc::abi::syscall::Syscall;
use libipc::abi::{Frame, KernelError, Protection, Readiness, Rights};
use libipc::linux::call::WAIT4;
use libipc::linux::errno;
use libipc::server::SWEEP_BIT;
use libipc::server::env::TaskFigure;

use super::{Program, World, info};
use crate::core::Trap;
use crate::core::object::{Object, TaskId};

/// read(2) and dup(2).
const READ: u32 = 0;
const DUP: u32 = 32;

fn raise(world: &mut World, server: TaskId) {
    let id = world.kernel.server_of(server).unwrap();
    world.kernel.raise_epoch(id);
}

/// The server receives the news, if it has not yet, and the next part of its list.
fn listed(world: &mut World, server: TaskId) -> (Holding, Vec<u64>) {
    world.ok(server, Syscall::Receive, &[]);
    let delivery = world.delivery(server);
    assert_eq!((Kind::from_number(delivery.kind), delivery.words[0]), (Some(Kind::Notify), SWEEP_BIT));
    let [what, count, ..] = world.ok(server, Syscall::Sweep, &[]);
    let names = world.payload(server, 8 * count);
    let names = names.as_chunks().0.iter().map(|name| u64::from_le_bytes(*name)).collect();
    (Holding::from_number(what).unwrap(), names)
}

fn discard(world: &mut World, server: TaskId, what: Holding, name: u64) {
    world.ok(server, Syscall::Discard, &[what as u64, name]);
}

fn epoch(world: &mut World, number: u64) -> [u64; 2] {
    let [epoch, ended, ..] =
        world.ok(world.root, Syscall::TaskInfo, &[number + 100, TaskFigure::Epoch as u64]);
    [epoch, ended]
}

/// A session of proc's, as the program's descriptor 0.
fn open(world: &mut World, proc: TaskId, program: &Program, object: u64) -> u64 {
    let owner = 500 + object;
    world.ok(proc, Syscall::SessionCreate, &[owner, 42, object, 0, 0]);
    world.ok(proc, Syscall::DescriptorSet, &[program.task_slot, 0, owner, 0]);
    owner
}

#[test]
fn a_server_of_a_later_epoch_is_told_of_all_that_it_has_and_of_nothing_else() {
    let (mut world, client, server) = World::two([true, true]);
    world.grant(3, 1, 2);
    world.set_header(client, MessageBuffer { tag: 5, ..MessageBuffer::default() });
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 50]);
    world.ok(server, Syscall::Receive, &[]);
    let token = world.delivery(server).token;
    world.ok(server, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    world.set_header(server, MessageBuffer { tag: 77, ..MessageBuffer::default() });
    world.ok(server, Syscall::Send, &[1, info(1, 0, 0), 0]);
    assert_eq!(world.trap(server, Syscall::Sweep, &[]), Some(Err(KernelError::WrongState)));
    raise(&mut world, server);
    assert_eq!(listed(&mut world, server), (Holding::Handle, vec![50]), "not what it was given by root");
    assert_eq!(listed(&mut world, server), (Holding::Call, vec![token]));
    assert_eq!(listed(&mut world, server), (Holding::Sent, vec![77]));
    assert_eq!(listed(&mut world, server), (Holding::Frame, vec![]));
    assert_eq!(world.trap(server, Syscall::Receive, &[]), None, "that was all");
    assert_eq!(epoch(&mut world, 3), [1, 0]);
}

#[test]
fn a_server_that_takes_a_slot_for_free_which_is_not_is_to_look_what_it_has() {
    let (mut world, _, server) = World::two([true, true]);
    world.ok(server, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    for (slot, error) in [(50, KernelError::SlotInUse), (1 << 16, KernelError::BadArgument)] {
        let made = world.trap(server, Syscall::SessionCreate, &[slot, 42, 0, 0, 0]);
        assert_eq!(made, Some(Err(error)));
        assert_eq!(listed(&mut world, server), (Holding::Handle, vec![50]));
    }
}

#[test]
fn a_long_list_comes_in_parts() {
    let (mut world, _, server) = World::two([true, true]);
    let all = 100..100 + NAMES_MAX + 3;
    for handle in all.clone() {
        world.ok(server, Syscall::SessionCreate, &[handle, 42, 0, 0, 0]);
    }
    raise(&mut world, server);
    let (first, second) = (listed(&mut world, server), listed(&mut world, server));
    assert_eq!((first.0, first.1.len() as u64), (Holding::Handle, NAMES_MAX));
    assert_eq!([first.1, second.1].concat(), all.collect::<Vec<u64>>());
}

#[test]
fn a_restarted_server_sweeps_with_the_same_answers() {
    let (mut world, _, server) = World::two([true, true]);
    world.ok(server, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    raise(&mut world, server);
    listed(&mut world, server);
    discard(&mut world, server, Holding::Handle, 50);
    let id = world.kernel.server_of(server).unwrap();
    world.kernel.die(id, crate::core::death::Death::Outside);
    world.restart(3);
    world.ok(server, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    assert_eq!(listed(&mut world, server), (Holding::Handle, vec![50]));
    discard(&mut world, server, Holding::Handle, 50);
    assert_eq!(listed(&mut world, server), (Holding::Call, vec![]), "it is live");
    assert_eq!((world.kernel.sessions.used(), epoch(&mut world, 3)), (0, [1, 1]));
}

#[test]
fn a_task_a_thread_and_a_space_that_are_nobodys_end() {
    let (mut world, vm, proc, program) = World::with_program();
    let used = world.kernel.used();
    discard(&mut world, proc, Holding::Handle, program.thread_slot);
    discard(&mut world, proc, Holding::Handle, program.task_slot);
    discard(&mut world, vm, Holding::Handle, program.badge);
    let now = world.kernel.used();
    let gone = [used.threads - now.threads, used.tasks - now.tasks, used.spaces - now.spaces];
    assert_eq!((gone, used.table_frames - now.table_frames), ([1, 1, 1], 1));
    assert_eq!(world.kernel.named(proc, program.task_slot, Rights::empty()), Err(KernelError::BadHandle));
}

#[test]
fn a_thread_that_is_nobodys_does_not_end_alone_unless_it_has_never_run() {
    let (mut world, _, proc, program) = World::with_program();
    world.ok(proc, Syscall::ThreadCreate, &[900, program.task_slot, 77, u64::from(u32::MAX)]);
    let threads = world.kernel.used().threads;
    discard(&mut world, proc, Holding::Handle, 900);
    assert_eq!(world.kernel.used().threads, threads - 1);
    assert_eq!(world.linux(&program, WAIT4, &[]), None);
    world.ok(proc, Syscall::Receive, &[]);
    discard(&mut world, proc, Holding::Handle, program.thread_slot);
    world.ok(proc, Syscall::Receive, &[]);
    assert_eq!(Kind::from_number(world.delivery(proc).kind), Some(Kind::Cancel), "of what it waited for");
    world.ok(proc, Syscall::Receive, &[]);
    let delivery = world.delivery(proc);
    assert_eq!(Kind::from_number(delivery.kind), Some(Kind::Fault));
    assert_eq!((delivery.label, delivery.caller.pid), (FaultKind::Lost as u32, program.badge as u32));
    discard(&mut world, proc, Holding::Handle, program.task_slot);
    assert_eq!(world.kernel.used().threads, threads - 2);
}

#[test]
fn a_session_that_is_cut_off_fails_for_whoever_has_it() {
    let (mut world, _, proc, program) = World::with_program();
    let owner = open(&mut world, proc, &program, 9);
    let Ok(Object::OwnSession(session)) = world.kernel.named(proc, owner, Rights::empty()) else { panic!() };
    let sessions = world.kernel.sessions.used();
    assert_eq!(world.linux(&program, READ, &[0, 0x5000, 0]), None);
    world.ok(proc, Syscall::Receive, &[]);
    discard(&mut world, proc, Holding::Handle, owner);
    let failed = Some(-i64::from(errno::EIO));
    assert_eq!(world.linux_result(&program), failed, "a call that was under way");
    assert_eq!(world.linux(&program, READ, &[0, 0x5000, 0]), failed, "and one that comes later");
    let ready = world.kernel.sessions.get(session).unwrap().readiness;
    assert!(ready.contains(Readiness::ERR | Readiness::HUP));
    assert_eq!(world.linux(&program, DUP, &[0]), Some(1), "but it is still an open file");
    world.ok(proc, Syscall::TaskKill, &[program.task_slot]);
    assert_eq!(world.kernel.sessions.used(), sessions - 1);
    assert_eq!(world.trap(proc, Syscall::Receive, &[]), None, "its server hears no more of it");
}

#[test]
fn a_server_that_calls_through_a_session_that_was_cut_off_has_a_failed_answer() {
    let (mut world, client, server) = World::two([true, true]);
    world.set_header(client, MessageBuffer { offer: [60, 61, 62, 63], ..MessageBuffer::default() });
    assert_eq!(world.trap(client, Syscall::Call, &[0, info(1, 0, 0)]), None);
    world.ok(server, Syscall::Receive, &[]);
    let token = world.delivery(server).token;
    world.ok(server, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    world.set_header(server, MessageBuffer { send: [50, 0, 0, 0], ..MessageBuffer::default() });
    world.ok(server, Syscall::Reply, &[token, info(0, 0, 1)]);
    discard(&mut world, server, Holding::Handle, 50);
    world.set_header(client, MessageBuffer { tag: 8, ..MessageBuffer::default() });
    world.ok(client, Syscall::Send, &[60, info(1, 0, 0)]);
    world.ok(client, Syscall::Receive, &[]);
    assert_eq!((world.delivery(client).token, world.delivery(client).label), (8, u32::MAX));
    assert_eq!(world.trap(client, Syscall::Call, &[60, info(1, 0, 0)]), Some(Err(KernelError::PeerDead)));
}

#[test]
fn a_call_that_its_holder_does_not_know_is_answered_an_error() {
    let (mut world, _, proc, program) = World::with_program();
    let _ = open(&mut world, proc, &program, 9);
    assert_eq!(world.linux(&program, READ, &[0, 0x5000, 0]), None);
    world.ok(proc, Syscall::Receive, &[]);
    let token = world.delivery(proc).token;
    discard(&mut world, proc, Holding::Call, token);
    assert_eq!(world.linux_result(&program), Some(-i64::from(errno::EIO)));
    let again = world.trap(proc, Syscall::Discard, &[Holding::Call as u64, token]);
    assert_eq!(again, Some(Err(KernelError::NoSuchCall)));
}

#[test]
fn an_answer_that_nobody_waits_for_does_not_come() {
    for answered in [false, true] {
        let (mut world, client, server) = World::two([true, true]);
        world.set_header(client, MessageBuffer { tag: 5, ..MessageBuffer::default() });
        world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 50]);
        world.ok(server, Syscall::Receive, &[]);
        let reply = [world.delivery(server).token, info(0, 0, 0)];
        if answered {
            world.ok(server, Syscall::Reply, &reply);
        }
        discard(&mut world, client, Holding::Sent, 5);
        if !answered {
            world.ok(server, Syscall::Reply, &reply);
        }
        assert_eq!(world.trap(client, Syscall::Receive, &[]), None);
        assert_eq!(world.kernel.calls.used(), 0);
    }
}

#[test]
fn a_frame_that_is_nobodys_is_mapped_nowhere() {
    let (mut world, vm, _, program) = World::with_program();
    let before = world.kernel.used();
    let pages = world.map(vm, &program, 0x40_0000, 2, Protection::READ);
    let page = |number| u64::from(pages.first.0 + number);
    raise(&mut world, vm);
    for _ in 0..3 {
        listed(&mut world, vm);
    }
    let (what, frames) = listed(&mut world, vm);
    assert_eq!(what, Holding::Frame);
    assert_eq!(frames.len(), 1 + 3 + 2, "the tables, too");
    discard(&mut world, vm, Holding::Frame, page(0));
    assert_eq!(world.kernel.used().mapped_frames, before.mapped_frames + 1, "the other is still there");
    assert!(world.kernel.frames.idle(pages.first, vm).is_ok());
    // A page table goes with all that is below it.
    let table = frames.iter().find(|frame| **frame == page(0) - 1).copied().unwrap();
    assert!(world.kernel.frames.idle(Frame(table as u32), vm).is_err());
    discard(&mut world, vm, Holding::Frame, table);
    world.ok(vm, Syscall::FrameZero, &[table]);
    assert_eq!(world.kernel.used().mapped_frames, before.mapped_frames);
}

#[test]
fn a_frame_that_a_server_of_a_later_epoch_uses_anew_is_taken_from_where_it_was() {
    let (mut world, vm, _, program) = World::with_program();
    let pages = world.map(vm, &program, 0x40_0000, 1, Protection::READ);
    let page = u64::from(pages.first.0);
    let space =
        |world: &mut World, into: u64| world.trap(vm, Syscall::SpaceCreate, &[into, 7, page]).unwrap();
    assert_eq!(space(&mut world, 300), Err(KernelError::FrameInUse));
    assert_eq!(
        world.trap(vm, Syscall::FrameZero, &[page - 1]),
        Some(Err(KernelError::FrameInUse)),
        "a page table"
    );
    let mapped = world.kernel.used().mapped_frames;
    raise(&mut world, vm);
    assert!(space(&mut world, 300).is_ok());
    assert_eq!(world.kernel.used().mapped_frames, mapped - 1);
    world.ok(vm, Syscall::FrameZero, &[page - 1]);
    assert_eq!(space(&mut world, 301), Err(KernelError::FrameInUse), "the top table of a space stays");
}

#[test]
fn a_map_without_its_page_tables_ends_no_server_of_a_later_epoch() {
    let (mut world, vm, _, program) = World::with_program();
    let pages = world.map(vm, &program, 0x40_0000, 1, Protection::READ);
    let far = [0x4000_0000, u64::from(pages.first.0) | u64::from(Protection::READ.bits()) << 32];
    let map = |world: &mut World| {
        world.set_payload(vm, far.map(u64::to_le_bytes).as_flattened());
        world.trap(vm, Syscall::Map, &[program.badge, 0, 1]).unwrap()
    };
    assert_eq!(map(&mut world), Err(KernelError::NeedTable));
    raise(&mut world, vm);
    assert_eq!(map(&mut world), Ok([0; 5]));
}

#[test]
fn nobody_can_discard_what_is_not_its_own() {
    let (mut world, vm, proc, program) = World::with_program();
    let pages = world.map(vm, &program, 0x40_0000, 1, Protection::READ);
    let by_proc = |world: &mut World, what: Holding, name| {
        world.trap(proc, Syscall::Discard, &[what as u64, name]).unwrap().unwrap_err()
    };
    assert_eq!(by_proc(&mut world, Holding::Frame, pages.first.0.into()), KernelError::NoRight);
    assert_eq!(by_proc(&mut world, Holding::Call, 77), KernelError::NoSuchCall);
    assert_eq!(by_proc(&mut world, Holding::Handle, 9999), KernelError::BadHandle);
    let unknown = world.trap(proc, Syscall::Discard, &[99, 0]);
    assert_eq!(unknown, Some(Err(KernelError::BadArgument)));
    let (mut world, client, _) = World::two([true, true]);
    let granted = world.trap(client, Syscall::Discard, &[Holding::Handle as u64, 0]);
    assert_eq!(granted, Some(Err(KernelError::NoRight)), "what root has given it stays");
}

#[test]
fn what_a_later_epoch_does_to_what_is_gone_counts_as_done() {
    let (mut world, client, server) = World::two([true, true]);
    let close = |world: &mut World| world.trap(client, Syscall::Close, &[77]).unwrap();
    assert_eq!(close(&mut world), Err(KernelError::BadHandle));
    raise(&mut world, client);
    assert_eq!(close(&mut world), Ok([0; 5]));
    // Whoever would wait for ever is told.
    world.set_header(client, MessageBuffer { tag: 5, send: [77, 0, 0, 0], ..MessageBuffer::default() });
    world.ok(client, Syscall::Send, &[0, info(1, 0, 1), 50]);
    world.ok(client, Syscall::Receive, &[]);
    world.ok(client, Syscall::Receive, &[]);
    assert_eq!((world.delivery(client).token, world.delivery(client).label), (5, u32::MAX));
    assert_eq!(world.trap(server, Syscall::Receive, &[]), None);
    // A question is not answered wrongly.
    let asked = world.trap(client, Syscall::ThreadRegisters, &[77, 0]);
    assert_eq!(asked, Some(Err(KernelError::BadHandle)));
    // Nor is made what cannot be.
    let made = world.trap(client, Syscall::Duplicate, &[77, 78, 0]);
    assert_eq!(made, Some(Err(KernelError::BadHandle)));
}

#[test]
fn a_call_whose_answer_names_what_is_gone_fails() {
    let (mut world, _, proc, program) = World::with_program();
    let _ = open(&mut world, proc, &program, 9);
    raise(&mut world, proc);
    world.ok(proc, Syscall::Receive, &[]);
    assert_eq!(world.linux(&program, READ, &[0, 0x5000, 0]), None);
    world.ok(proc, Syscall::Receive, &[]);
    let token = world.delivery(proc).token;
    // Its session's readiness goes with the answer.
    let ready = libipc::abi::syscall::reply_flags::READY;
    world.ok(proc, Syscall::ReplyForeign, &[token, ready, 0, 0, 0, 999]);
    assert_eq!(world.linux_result(&program), Some(-i64::from(errno::EIO)));
}

#[test]
fn root_and_servers_without_a_journal_have_one_epoch() {
    let (mut world, _, server) = World::two([true, false]);
    let root = world.root;
    for task in [server, root] {
        raise(&mut world, task);
        assert_eq!(world.kernel.server(task).unwrap().bits, 0);
    }
    let thread = world.thread_of(server);
    world.run_trap(thread, Trap::Exception { vector: 6, code: 0 });
    assert_eq!(epoch(&mut world, 3), [0, 0]);
}

#[test]
fn a_space_that_nobody_else_has_any_more_is_told_to_its_pager() {
    let (mut world, vm, proc, program) = World::with_program();
    world.ok(proc, Syscall::TaskKill, &[program.task_slot]);
    assert_eq!(epoch(&mut world, 2), [0, 0], "proc has a handle of it");
    // What is not its own it lets go, and no more.
    discard(&mut world, proc, Holding::Handle, program.badge);
    assert_eq!(epoch(&mut world, 2), [1, 0]);
    assert!(world.kernel.named(vm, program.badge, Rights::empty()).is_ok(), "it is vm that ends it");
    for _ in 0..4 {
        listed(&mut world, vm);
    }
    assert_eq!(listed(&mut world, vm), (Holding::Space, vec![program.badge]));
    world.ok(vm, Syscall::SpaceDestroy, &[program.badge]);
    assert_eq!(world.trap(vm, Syscall::Receive, &[]), None, "that was all");
}

#[test]
fn a_space_whose_handle_was_in_an_answer_that_kills_is_told_to_its_pager() {
    let (mut world, client, server) = World::two([true, true]);
    world.set_header(client, MessageBuffer { tag: 5, offer: [60, 61, 62, 63], ..MessageBuffer::default() });
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 50]);
    world.ok(server, Syscall::Receive, &[]);
    let token = world.delivery(server).token;
    let top = world.frames(1);
    world.kernel.frames.give(top, server.index() as u16);
    world.ok(server, Syscall::SpaceCreate, &[50, 7, u64::from(top.first.0)]);
    world.set_header(server, MessageBuffer { send: [50, 0, 0, 0], ..MessageBuffer::default() });
    world.ok(server, Syscall::Reply, &[token, info(0, 0, 1)]);
    world.kernel.tell_of_unclaimed();
    assert_eq!(epoch(&mut world, 3), [0, 0], "it is under way");
    world.ok(client, Syscall::Receive, &[]);
    let thread = world.thread_of(client);
    world.run_trap(thread, Trap::Exception { vector: 6, code: 0 });
    world.ok(world.root, Syscall::ServerDispose, &[102]);
    assert_eq!(epoch(&mut world, 3), [1, 0]);
    for _ in 0..4 {
        listed(&mut world, server);
    }
    assert_eq!(listed(&mut world, server), (Holding::Space, vec![7]));
}
