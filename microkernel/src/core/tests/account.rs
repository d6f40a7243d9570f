//! Servers that give reason to doubt them, and how they account for themselves.

use libipc::abi::delivery::{FaultKind, Kind};
use libipc::abi::journal::{SUM_START, sum};
use libipc::abi::syscall::Syscall;
use libipc::abi::{KernelError, Protection};
use libipc::linux::call::WAIT4;

use super::{Program, World};
use crate::core::account::PATIENCE_NS;
use crate::core::object::{Server, ServerState, TaskId};
use crate::core::{Resume, Trap};

fn server(world: &World, task: TaskId) -> &Server {
    world.kernel.server(task).unwrap()
}

pub(super) fn is_asked(world: &World, task: TaskId) -> bool {
    server(world, task).state == ServerState::Dead
}

/// A dead server is live again, as if its replay had come to its end.
pub(super) fn come_back(world: &mut World, task: TaskId, number: u64) {
    world.ok(world.root, Syscall::ServerRestart, &[number + 100]);
    let id = world.kernel.server_of(task).unwrap();
    world.kernel.servers.get_mut(id).unwrap().journal.as_mut().unwrap().cursor = None;
}

/// A server's journal begins anew, as after a snapshot, so that it is never full.
fn empty_journal(world: &mut World, task: TaskId) {
    let id = world.kernel.server_of(task).unwrap();
    world.kernel.servers.get_mut(id).unwrap().journal.as_mut().unwrap().end = 0;
}

/// Everybody waits for so long; the timer goes off whenever it is set.
pub(super) fn idle(world: &mut World, tasks: &[TaskId], time_ns: u64) {
    for task in tasks {
        let thread = world.thread_of(*task);
        world.kernel.unqueue(thread);
    }
    world.kernel.current = None;
    let end = world.kernel.machine.time_ns + time_ns;
    while world.kernel.machine.timer_ns <= end {
        world.kernel.machine.time_ns = world.kernel.machine.timer_ns.max(world.kernel.machine.time_ns);
        world.kernel.machine.timer_ns = u64::MAX;
        let _: Resume = world.kernel.trap(Trap::Timer);
        world.kernel.current = None;
    }
    world.kernel.machine.time_ns = end;
}

/// The program waits in a call that the process server holds.
pub(super) fn waiting() -> (World, [TaskId; 3], TaskId) {
    let (mut world, vm, proc, program) = World::with_program();
    assert_eq!(world.linux(&program, WAIT4, &[]), None);
    world.ok(proc, Syscall::Receive, &[]);
    for task in [proc, vm, world.root] {
        let _ = world.trap(task, Syscall::Receive, &[]);
    }
    let all = [world.root, vm, proc];
    (world, all, proc)
}

#[test]
fn a_server_that_has_had_a_call_for_long_is_asked_to_account_for_itself() {
    let (mut world, all, proc) = waiting();
    idle(&mut world, &all, PATIENCE_NS - 1);
    assert!(!is_asked(&world, proc));
    idle(&mut world, &all, 2);
    assert!(is_asked(&world, proc));
    assert_eq!(server(&world, proc).deaths, [1, 0], "it counts as a death from outside");
    assert!(!is_asked(&world, all[1]), "who has no call is not asked");
}

#[test]
fn a_server_that_has_received_nothing_since_is_not_asked_again() {
    let (mut world, all, proc) = waiting();
    idle(&mut world, &all, PATIENCE_NS + 1);
    come_back(&mut world, proc, 3);
    idle(&mut world, &all, 100 * PATIENCE_NS);
    assert!(!is_asked(&world, proc));
    assert_eq!(world.kernel.machine.timer_ns, u64::MAX, "and nobody looks any more");
}

#[test]
fn whoever_is_asked_again_and_again_is_asked_more_and_more_seldom() {
    let (mut world, all, proc) = waiting();
    let (mut asked, mut minutes) = (Vec::new(), 0);
    while minutes < 600 {
        // Somebody else has it do something now and then.
        let id = world.kernel.server_of(proc).unwrap();
        world.kernel.servers.get_mut(id).unwrap().received += 1;
        world.kernel.begin_watch(world.kernel.machine.time_ns);
        world.kernel.arm(None);
        idle(&mut world, &all, PATIENCE_NS);
        minutes += 1;
        if is_asked(&world, proc) {
            asked.push(minutes);
            come_back(&mut world, proc, 3);
        }
    }
    let pauses: Vec<i32> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.is_sorted() && pauses[..3] == [1, 2, 4] && pauses.ends_with(&[60, 60]), "{pauses:?}");
}

/// A server makes two snapshots, the second when it has been mended or not, and is asked: what it starts from.
fn account_begins_with(mended: bool) -> Vec<u8> {
    let (mut world, all, proc) = waiting();
    for state in [b"before", b"latest"] {
        world.set_payload(proc, state);
        let thread = world.thread_of(proc);
        world.kernel.threads.get_mut(thread).unwrap().state = crate::core::object::ThreadState::Runnable;
        world.ok(proc, Syscall::SnapshotWrite, &[6, 0]);
        world.ok(proc, Syscall::SnapshotCommit, &[sum(SUM_START, state), 0]);
        let id = world.kernel.server_of(proc).unwrap();
        world.kernel.servers.get_mut(id).unwrap().journal.as_mut().unwrap().mended = mended;
    }
    let _ = world.trap(proc, Syscall::Receive, &[]);
    idle(&mut world, &all, PATIENCE_NS + 1);
    assert!(is_asked(&world, proc));
    world.ok(world.root, Syscall::ServerRestart, &[103]);
    let [length, ..] = world.ok(proc, Syscall::SnapshotRead, &[0]);
    world.payload(proc, length)
}

#[test]
fn an_account_begins_with_the_snapshot_before_the_last() {
    assert_eq!(account_begins_with(false), b"before");
}

#[test]
fn an_account_does_not_go_through_a_journal_again_that_was_passed_over() {
    assert_eq!(account_begins_with(true), b"latest");
}

#[test]
fn a_machine_in_which_nobody_has_a_call_asks_the_process_server() {
    let (mut world, vm, proc, program) = World::with_program();
    for task in [vm, proc, world.root] {
        let _ = world.trap(task, Syscall::Receive, &[]);
    }
    let thread = world.thread_of(program.task);
    world.kernel.threads.get_mut(thread).unwrap().stopped = true;
    let id = world.kernel.server_of(proc).unwrap();
    world.kernel.servers.get_mut(id).unwrap().received += 1;
    let all = [world.root, vm, proc, program.task];
    idle(&mut world, &all, PATIENCE_NS + 1);
    assert!(is_asked(&world, proc) && !is_asked(&world, vm));
    come_back(&mut world, proc, 3);
    let _ = world.trap(proc, Syscall::Receive, &[]);
    idle(&mut world, &all, PATIENCE_NS / 2);
    assert!(world.kernel.off.is_none());
    idle(&mut world, &all, PATIENCE_NS);
    assert!(world.kernel.off.is_some(), "and stops if that does not help");
}

/// The program fails at one instruction, and the process server says that it may go on. What it was told of last.
fn fail(world: &mut World, proc: TaskId, program: &Program, vector: u8) -> u32 {
    let thread = world.thread_of(program.task);
    world.run_trap(thread, Trap::Exception { vector, code: 0 });
    let mut kind = 0;
    // A fault that cannot be borne is told of in the place of the answer.
    while world.kernel.threads.get(thread).unwrap().state != crate::core::object::ThreadState::Runnable {
        world.ok(proc, Syscall::Receive, &[]);
        let delivery = world.delivery(proc);
        assert_eq!(Kind::from_number(delivery.kind), Some(Kind::Fault));
        kind = delivery.label;
        empty_journal(world, proc);
        // It may end right after its answer.
        let _ = world.trap(proc, Syscall::Reply, &[delivery.token, 0]);
        if is_asked(world, proc) {
            come_back(world, proc, 3);
        }
    }
    kind
}

#[test]
fn a_server_whose_answers_to_a_fault_never_help_is_asked_and_then_nobody_is() {
    let (mut world, _, proc, program) = World::with_program();
    let deaths = |world: &World| server(world, proc).deaths;
    for _ in 0..64 {
        assert_eq!(fail(&mut world, proc, &program, 6), FaultKind::Exception as u32);
        assert_eq!(deaths(&world), [0, 0]);
    }
    fail(&mut world, proc, &program, 6);
    assert_eq!(deaths(&world), [1, 0], "it ends right after its answer");
    let told: Vec<u32> = (0..250).map(|_| fail(&mut world, proc, &program, 6)).collect();
    assert_eq!(told[0], FaultKind::Exception as u32);
    assert_eq!(told[249], FaultKind::Lost as u32, "its process is to end");
    assert_eq!(deaths(&world), [1, 0], "it is not asked again so soon");
    for _ in 0..300 {
        let thread = world.thread_of(program.task);
        if world.kernel.threads.get(thread).unwrap().stopped {
            return;
        }
        fail(&mut world, proc, &program, 6);
    }
    panic!("a thread that cannot even be ended fails for ever");
}

#[test]
fn a_server_is_not_doubted_while_threads_get_on() {
    const BREAKPOINT: u8 = 3;
    let (mut world, _, proc, program) = World::with_program();
    for step in 0..400 {
        fail(&mut world, proc, &program, BREAKPOINT);
        let thread = world.thread_of(program.task);
        world.kernel.threads.get_mut(thread).unwrap().registers.rip += step % 2;
        fail(&mut world, proc, &program, 6);
    }
    assert_eq!(server(&world, proc).deaths, [0, 0]);
}

#[test]
fn a_pager_that_says_a_page_is_there_is_not_believed_for_ever() {
    let (mut world, vm, _, program) = World::with_program();
    let thread = world.thread_of(program.task);
    let touch = |world: &mut World| {
        world.run_trap(thread, Trap::PageFault { address: 0x5000, access: Protection::READ.bits() });
        world.ok(vm, Syscall::Receive, &[]);
        let token = world.delivery(vm).token;
        empty_journal(world, vm);
        let _ = world.trap(vm, Syscall::Reply, &[token, 0]);
    };
    for _ in 0..64 {
        touch(&mut world);
    }
    assert!(!is_asked(&world, vm));
    touch(&mut world);
    assert!(is_asked(&world, vm));
    come_back(&mut world, vm, 2);
    // A program may miss one page again and again, if it gives it back each time.
    world.map(vm, &program, 0x5000, 1, Protection::READ);
    for _ in 0..1000 {
        touch(&mut world);
    }
    assert_eq!(server(&world, vm).deaths, [1, 0]);
}

#[test]
fn a_server_that_sets_its_timer_to_the_past_for_ever_is_asked() {
    let (mut world, _, proc, _) = World::with_program();
    let tick = |world: &mut World, deadline_ns: u64| {
        empty_journal(world, proc);
        world.kernel.machine.time_ns += 1000;
        let _ = world.trap(proc, Syscall::TimerSet, &[deadline_ns]);
    };
    world.kernel.machine.time_ns = 1_000_000_000;
    for _ in 0..20 {
        (0..60).for_each(|_| tick(&mut world, 5));
        tick(&mut world, 1 << 60);
    }
    assert!(!is_asked(&world, proc), "late now and then is no loop");
    (0..2000).for_each(|_| tick(&mut world, 5));
    assert_eq!(server(&world, proc).deaths, [1, 0]);
}

#[test]
fn what_a_mended_server_cannot_do_any_more_counts_as_done() {
    let (mut world, _, proc, program) = World::with_program();
    let close = |world: &mut World| world.trap(proc, Syscall::TaskKill, &[program.task_slot + 7]);
    assert_eq!(close(&mut world), Some(Err(KernelError::BadHandle)));
    let id = world.kernel.server_of(proc).unwrap();
    world.kernel.servers.get_mut(id).unwrap().journal.as_mut().unwrap().mended = true;
    assert_eq!(close(&mut world), Some(Ok([0; 5])));
    // But what it would go on to use is there, or it is told.
    let create = world.trap(proc, Syscall::TaskCreate, &[900, 901, u64::from(u32::MAX), 0]);
    assert_eq!(create, Some(Err(KernelError::BadHandle)));
}
