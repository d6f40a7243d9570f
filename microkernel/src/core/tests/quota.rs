//! Quotas: what a server may own, and whom it is charged to.

use libipc::abi::delivery::MessageBuffer;
use libipc::abi::foreign::Role;
use libipc::abi::syscall::Syscall;
use libipc::abi::{KernelError, Owned};

use super::descriptors::{Linux, linux};
use super::{World, info};
use crate::core::object::TaskId;

/// What a server owns of a kind.
fn used(world: &World, server: TaskId, kind: Owned) -> u32 {
    world.kernel.server(server).unwrap().holdings.of(kind).0
}

/// Lets a server own so many more of a kind than it does.
fn allow(world: &mut World, server: TaskId, kind: Owned, more: u32) {
    let id = world.kernel.server_of(server).unwrap();
    let limit = used(world, server, kind) + more;
    world.kernel.servers.get_mut(id).unwrap().holdings.set_limit(kind, limit);
}

const QUOTA: Option<Result<[u64; 5], KernelError>> = Some(Err(KernelError::Quota));

#[test]
fn a_quota_is_a_share_of_what_the_machine_has_and_root_alone_gives_it() {
    let mut world = World::new();
    let (server, sessions) = (world.server(3, true), world.kernel.sessions.capacity());
    world.start(3);
    let quota = |world: &mut World, task, arguments: [u64; 3]| {
        world.trap(task, Syscall::ServerQuota, &arguments).unwrap().map(|[limit, ..]| limit)
    };
    let root = world.root;
    assert_eq!(quota(&mut world, root, [103, Owned::Sessions as u64, 250]), Ok(u64::from(sessions / 4)));
    assert_eq!(quota(&mut world, root, [103, Owned::Sessions as u64, 1001]), Err(KernelError::BadArgument));
    assert_eq!(quota(&mut world, root, [103, 6, 1]), Err(KernelError::BadArgument));
    assert_eq!(quota(&mut world, root, [103, Owned::Sessions as u64, 0]), Ok(0));
    assert_eq!(world.trap(server, Syscall::SessionCreate, &[50, 1, 0, 0, 0]), QUOTA);
    let own = quota(&mut world, server, [103, Owned::Sessions as u64, 1000]);
    assert_eq!(own, Err(KernelError::NoRight));
}

#[test]
fn a_session_is_charged_to_its_server_until_nobody_has_it() {
    let mut world = World::new();
    let server = world.server(3, true);
    world.start(3);
    allow(&mut world, server, Owned::Sessions, 2);
    world.ok(server, Syscall::SessionCreate, &[50, 1, 0, 0, 0]);
    // One that cannot be named is not made, and not charged.
    let taken = world.trap(server, Syscall::SessionCreate, &[50, 2, 0, 0, 0]);
    assert_eq!(taken, Some(Err(KernelError::SlotInUse)));
    world.ok(server, Syscall::SessionCreate, &[51, 2, 0, 0, 0]);
    let sessions = world.kernel.sessions.used();
    assert_eq!(world.trap(server, Syscall::SessionCreate, &[52, 3, 0, 0, 0]), QUOTA);
    assert_eq!(world.kernel.sessions.used(), sessions);
    world.ok(server, Syscall::Close, &[50]);
    world.ok(server, Syscall::SessionCreate, &[52, 3, 0, 0, 0]);
    assert_eq!(used(&world, server, Owned::Sessions), 2);
}

#[test]
fn a_call_that_was_sent_is_charged_until_its_answer_has_come() {
    let (mut world, client, server) = World::two([false, true]);
    allow(&mut world, client, Owned::Calls, 1);
    world.set_header(client, MessageBuffer::default());
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
    assert_eq!(world.trap(client, Syscall::Send, &[0, info(1, 0, 0), 6]), QUOTA);
    world.ok(server, Syscall::Receive, &[]);
    let token = world.delivery(server).token;
    world.ok(server, Syscall::Reply, &[token, info(0, 0, 0), 50]);
    assert_eq!(used(&world, client, Owned::Calls), 1, "the answer has not come yet");
    world.ok(client, Syscall::Receive, &[]);
    assert_eq!(used(&world, client, Owned::Calls), 0);
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 6]);
}

#[test]
fn tasks_and_threads_are_charged_to_who_makes_them_and_spaces_to_their_pager() {
    let Linux { mut world, vm, program, .. } = linux();
    let proc = world.role(Role::Proc);
    let before = [Owned::Tasks, Owned::Threads].map(|kind| used(&world, proc, kind));
    assert_ne!(before, [0; 2]);
    assert_ne!(used(&world, vm, Owned::Spaces), 0);
    for kind in [Owned::Tasks, Owned::Threads] {
        allow(&mut world, proc, kind, 0);
        let into =
            [5000 | 5001 << 32, program.badge | program.thread_slot << 32, 70, 2 | 8, u64::MAX, u64::MAX];
        let (tasks, threads) = (world.kernel.tasks.used(), world.kernel.threads.used());
        assert_eq!(world.trap(proc, Syscall::TaskFork, &into), QUOTA, "{kind:?}");
        assert_eq!((world.kernel.tasks.used(), world.kernel.threads.used()), (tasks, threads));
        assert_eq!([Owned::Tasks, Owned::Threads].map(|kind| used(&world, proc, kind)), before);
        allow(&mut world, proc, kind, 1);
    }
    allow(&mut world, vm, Owned::Spaces, 0);
    let top = world.frames(1);
    world.kernel.frames.give(top, vm.index() as u16);
    let space = [4000, 77, u64::from(top.first.0)];
    assert_eq!(world.trap(vm, Syscall::SpaceCreate, &space), QUOTA);
    allow(&mut world, vm, Owned::Spaces, 1);
    world.ok(vm, Syscall::SpaceCreate, &space);
    world.ok(vm, Syscall::SpaceDestroy, &[4000]);
    world.ok(proc, Syscall::TaskKill, &[program.task_slot]);
    assert_eq!(
        [Owned::Tasks, Owned::Threads].map(|kind| used(&world, proc, kind)),
        [before[0] - 1, before[1] - 1]
    );
}
