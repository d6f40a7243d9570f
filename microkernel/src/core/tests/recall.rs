//! Calls that their servers have forgotten, and exits that their server does not bring about.

use libipc::abi::KernelError;
use libipc::abi::delivery::{FaultKind, Kind};
use libipc::abi::foreign::Role;
use libipc::abi::syscall::{Restart, Syscall, reply_flags};
use libipc::linux::call::{EXIT_GROUP, OPENAT, WAIT4};
use libipc::linux::errno;

use super::account::{come_back, idle, is_asked};
use super::{Program, World};
use crate::core::account::PATIENCE_NS;
use crate::core::object::{Phase, TaskId, ThreadState};
use crate::core::{Resume, Trap};

const SETPGID: u32 = 109;

/// The program is in a call that the process server holds; all wait.
fn held(number: u32) -> (World, [TaskId; 3], TaskId, Program) {
    let (mut world, vm, proc, program) = World::with_program();
    assert_eq!(world.linux(&program, number, &[]), None);
    world.ok(proc, Syscall::Receive, &[]);
    for task in [proc, vm, world.root] {
        let _ = world.trap(task, Syscall::Receive, &[]);
    }
    let all = [world.root, vm, proc];
    (world, all, proc, program)
}

/// The process server has accounted for itself and has the call still, and a minute more has gone by.
fn recalled(number: u32) -> (World, [TaskId; 3], TaskId, Program) {
    let (mut world, all, proc, program) = held(number);
    recall(&mut world, &all, proc);
    (world, all, proc, program)
}

fn recall(world: &mut World, all: &[TaskId], proc: TaskId) {
    idle(world, all, PATIENCE_NS + 1);
    come_back(world, proc, 3);
    let _ = world.trap(proc, Syscall::Receive, &[]);
    idle(world, all, PATIENCE_NS + 1);
    // What it has received may be a reason to ask it again.
    if is_asked(world, proc) {
        come_back(world, proc, 3);
    }
}

#[test]
fn the_way_to_a_file_ends_by_itself_whatever_the_call_waits_for_there() {
    for (resolves, given_back) in [(true, Some(Kind::Cancel)), (false, None)] {
        let (mut world, all, proc, _) = held(WAIT4);
        if resolves {
            world.kernel.roles[Role::Vfs as usize] = world.kernel.server_of(proc);
        }
        let call = (0..world.kernel.calls.bound()).find_map(|index| world.kernel.calls.at(index)).unwrap();
        world.kernel.calls.get_mut(call).unwrap().number = OPENAT;
        recall(&mut world, &all, proc);
        assert_eq!(given(&mut world, proc), given_back);
        assert!(is_held(&world));
    }
}

/// What a server that waited has been given.
fn given(world: &mut World, task: TaskId) -> Option<Kind> {
    let thread = world.thread_of(task);
    let waits = world.kernel.threads.get(thread).unwrap().state == ThreadState::Receiving;
    Kind::from_number(world.delivery(task).kind).filter(|_| !waits)
}

fn is_held(world: &World) -> bool {
    let calls = &world.kernel.calls;
    (0..calls.bound()).any(|index| {
        calls.at(index).and_then(|id| calls.get(id)).is_some_and(|call| call.phase == Phase::Held)
    })
}

#[test]
fn a_call_that_its_server_has_forgotten_fails() {
    let (mut world, all, proc, program) = recalled(SETPGID);
    assert_eq!(given(&mut world, proc), Some(Kind::Cancel), "its server is asked first");
    let _ = world.trap(proc, Syscall::Receive, &[]);
    assert!(is_held(&world));
    idle(&mut world, &all, PATIENCE_NS + 1);
    let thread = world.thread_of(program.task);
    assert_eq!(world.kernel.threads.get(thread).unwrap().registers.rax as i64, -i64::from(errno::EIO));
    assert_eq!(given(&mut world, proc), Some(Kind::Attention), "it has been called in");
}

#[test]
fn a_call_that_its_server_keeps_is_left_to_it() {
    let (mut world, all, proc, _) = recalled(SETPGID);
    assert_eq!(given(&mut world, proc), Some(Kind::Cancel));
    let token = world.delivery(proc).token;
    world.ok(proc, Syscall::Keep, &[token]);
    assert_eq!(world.trap(proc, Syscall::Keep, &[token + (1 << 32)]), Some(Err(KernelError::NoSuchCall)));
    let _ = world.trap(proc, Syscall::Receive, &[]);
    idle(&mut world, &all, 100 * PATIENCE_NS);
    assert!(is_held(&world));
}

#[test]
fn a_call_that_waits_for_what_may_never_come_is_not_recalled() {
    let (mut world, all, proc, _) = recalled(WAIT4);
    idle(&mut world, &all, 100 * PATIENCE_NS);
    assert!(is_held(&world));
    assert_eq!(given(&mut world, proc), None);
}

#[test]
fn a_call_is_not_recalled_before_its_server_has_accounted_for_itself() {
    let (mut world, all, proc, _) = held(SETPGID);
    idle(&mut world, &all, PATIENCE_NS / 2);
    assert!(is_held(&world));
    assert_eq!(given(&mut world, proc), None);
}

#[test]
fn an_exit_that_is_forgotten_ends_by_the_process_server() {
    let (mut world, all, proc, _) = recalled(EXIT_GROUP);
    assert_eq!(given(&mut world, proc), Some(Kind::Cancel));
    let _ = world.trap(proc, Syscall::Receive, &[]);
    idle(&mut world, &all, PATIENCE_NS + 1);
    assert_eq!(given(&mut world, proc), Some(Kind::Fault));
    assert_eq!(world.delivery(proc).label, FaultKind::Lost as u32);
}

#[test]
fn nobody_returns_from_an_exit_that_is_answered() {
    let (mut world, _, proc, program) = World::with_program();
    assert_eq!(world.linux(&program, EXIT_GROUP, &[]), None);
    world.ok(proc, Syscall::Receive, &[]);
    let token = world.delivery(proc).token;
    world.ok(proc, Syscall::ReplyForeign, &[token, 0, -i64::from(errno::ESRCH) as u64]);
    let _: Resume = world.kernel.trap(Trap::Timer);
    assert!(!world.schedule(&program));
    assert!(world.kernel.tasks.get(program.task).is_none(), "its process is no more");
}

#[test]
fn an_exit_that_is_to_be_made_again_is_made_again() {
    let (mut world, _, proc, program) = World::with_program();
    assert_eq!(world.linux(&program, EXIT_GROUP, &[]), None);
    world.ok(proc, Syscall::Receive, &[]);
    let token = world.delivery(proc).token;
    let again = (Restart::Always as u64) << reply_flags::RESTART_SHIFT;
    world.ok(proc, Syscall::ReplyForeign, &[token, again, 0]);
    let _: Resume = world.kernel.trap(Trap::Timer);
    let thread = world.thread_of(program.task);
    assert!(world.schedule(&program), "its tracer has been told, and lets it go on");
    assert_eq!(world.kernel.threads.get(thread).unwrap().registers.rax, u64::from(EXIT_GROUP));
}
