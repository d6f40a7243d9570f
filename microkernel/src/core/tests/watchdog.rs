//! Servers that use CPU and do not get on.

use libipc::abi::crash::{Fall, Fault};
use libipc::abi::syscall::Syscall;
use libipc::server::env::TaskFigure;

use super::{PATIENCE_NS, World, info};
use crate::core::object::{ServerState, TaskId};
use crate::core::{Resume, Trap};

const SECOND_NS: u64 = 1_000_000_000;

/// A client and a server with an event to serve.
fn serving(journaled: bool) -> (World, TaskId, TaskId) {
    let mut world = World::new();
    let (client, server) = (world.server(2, false), world.server(3, journaled));
    world.grant(2, 0, 3);
    world.start(3);
    world.start(2);
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
    world.ok(server, Syscall::Receive, &[]);
    (world, client, server)
}

/// A server computes for so long; every time the timer is set for, it goes off.
fn compute(world: &mut World, task: TaskId, time_ns: u64) {
    let thread = world.thread_of(task);
    let end = world.kernel.machine.time_ns + time_ns;
    world.kernel.unqueue(thread);
    world.kernel.current = Some(thread);
    world.kernel.since = world.kernel.machine.time_ns;
    while world.kernel.current == Some(thread) && world.kernel.machine.timer_ns <= end {
        world.kernel.machine.time_ns = world.kernel.machine.timer_ns.max(world.kernel.machine.time_ns);
        world.kernel.machine.timer_ns = u64::MAX;
        let _: Resume = world.kernel.trap(Trap::Timer);
    }
    world.kernel.machine.time_ns = end;
}

fn state(world: &World, task: TaskId) -> ServerState {
    world.kernel.server(task).unwrap().state
}

#[test]
fn a_server_that_loops_for_ever_dies_of_it() {
    for journaled in [true, false] {
        let (mut world, _, server) = serving(journaled);
        compute(&mut world, server, PATIENCE_NS / 2);
        assert_eq!(state(&world, server), ServerState::Alive);
        compute(&mut world, server, 2 * PATIENCE_NS);
        assert_eq!(state(&world, server), ServerState::Dead);
        let values = world.ok(world.root, Syscall::TaskInfo, &[103, TaskFigure::Fall as u64]);
        let fall = Fall::from_values(values).unwrap();
        assert!(fall.fault == Fault::Watchdog && fall.disposable);
    }
}

#[test]
fn a_server_that_is_busy_with_one_event_after_the_other_lives() {
    let (mut world, client, server) = serving(true);
    for _ in 0..20 {
        compute(&mut world, server, PATIENCE_NS / 2);
        world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
        world.ok(server, Syscall::Receive, &[]);
    }
    assert_eq!(state(&world, server), ServerState::Alive);
}

#[test]
fn a_long_snapshot_and_a_long_replay_are_no_loops() {
    let (mut world, client, server) = serving(true);
    for _ in 0..5 {
        world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
        world.ok(server, Syscall::Receive, &[]);
    }
    for _ in 0..5 {
        compute(&mut world, server, PATIENCE_NS / 2);
        world.ok(server, Syscall::SnapshotWrite, &[8]);
    }
    let id = world.kernel.server_of(server).unwrap();
    world.kernel.die(id, crate::core::death::Death::Outside);
    world.ok(world.root, Syscall::ServerRestart, &[103]);
    for _ in 0..5 {
        compute(&mut world, server, PATIENCE_NS / 2);
        world.ok(server, Syscall::Receive, &[]);
    }
    assert_eq!(state(&world, server), ServerState::Alive);
}

#[test]
fn an_idle_machine_is_left_alone() {
    let (mut world, client, server) = serving(true);
    let token = world.delivery(server).token;
    world.ok(server, Syscall::Reply, &[token, 0]);
    world.ok(client, Syscall::Receive, &[]);
    assert_eq!(world.trap(server, Syscall::Receive, &[]), None);
    for task in [world.root, client] {
        let _ = world.trap(task, Syscall::Receive, &[]);
    }
    // Once somebody looks whether it has left calls unanswered.
    for _ in 0..70 {
        world.kernel.machine.time_ns += SECOND_NS;
        world.kernel.machine.timer_ns = u64::MAX;
        let _: Resume = world.kernel.trap(Trap::Timer);
    }
    assert_eq!(world.kernel.machine.timer_ns, u64::MAX, "the timer is not set");
}
