//! Ends that are set for servers.

use libipc::abi::delivery::Kind;
use libipc::abi::syscall::Syscall;
use libipc::abi::{Doom, Injection, Moment, Rights};

use super::{World, info};
use crate::core::Trap;
use crate::core::object::{Object, ServerState, TaskId};

/// Where [`World::start`] lets servers begin.
const ENTRY: u64 = 0x40_0000;

/// A client that may make a server fail by its handle 5, and the server.
fn two() -> (World, TaskId, TaskId) {
    let (mut world, client, server) = World::two([false, true]);
    world.kernel.put(client, 5, Object::Task(server), Rights::CRASH).unwrap();
    (world, client, server)
}

fn doom(world: &mut World, client: TaskId, moment: Moment, fault: Injection) {
    let [count, what] = Doom { moment, fault }.pack();
    world.ok(client, Syscall::Crash, &[5, count, what]);
}

fn state(world: &World, server: TaskId) -> ServerState {
    world.kernel.server(server).unwrap().state
}

/// Lets a server run for some time, and then the timer go off.
fn run(world: &mut World, server: TaskId, ns: u64) {
    let thread = world.thread_of(server);
    world.kernel.unqueue(thread);
    if let Some(current) = world.kernel.current.replace(thread)
        && current != thread
    {
        world.kernel.make_ready(current);
    }
    world.kernel.since = world.kernel.machine.time_ns;
    world.kernel.machine.time_ns += ns;
    let _ = world.kernel.trap(Trap::Timer);
}

#[test]
fn a_doomed_server_dies_right_after_the_trap_that_was_named() {
    let (mut world, client, server) = two();
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
    world.ok(client, Syscall::Crash, &[5, 2]);
    world.ok(server, Syscall::Receive, &[]);
    assert_eq!(state(&world, server), ServerState::Alive);
    let token = world.delivery(server).token;
    world.trap(server, Syscall::Reply, &[token, info(0, 0, 0), 50]);
    assert_eq!(state(&world, server), ServerState::Dead);
    world.ok(client, Syscall::Receive, &[]);
    assert_eq!(world.delivery(client).words[0], 50, "the trap was carried out");
    world.ok(world.root, Syscall::ServerRestart, &[103]);
    world.ok(server, Syscall::Receive, &[]);
    world.ok(server, Syscall::Reply, &[token, info(0, 0, 0), 50]);
    assert_eq!(state(&world, server), ServerState::Alive, "it dies once");
    assert_eq!(world.kernel.doomed, 0);
}

#[test]
fn a_doom_can_be_put_off_and_a_death_now_undoes_it() {
    let (mut world, client, server) = two();
    world.ok(client, Syscall::Crash, &[5, 1]);
    world.ok(client, Syscall::Crash, &[5, 3]);
    world.ok(server, Syscall::Clock, &[]);
    assert_eq!((state(&world, server), world.kernel.doomed), (ServerState::Alive, 1));
    world.ok(client, Syscall::Crash, &[5, 0]);
    assert_eq!((state(&world, server), world.kernel.doomed), (ServerState::Dead, 0));
}

#[test]
fn a_server_dies_when_it_has_run_for_as_long_as_was_said_and_others_time_does_not_count() {
    let (mut world, client, server) = two();
    doom(&mut world, client, Moment::CpuTime(1000), Injection::Kill);
    run(&mut world, client, 5000);
    run(&mut world, server, 600);
    assert_eq!(state(&world, server), ServerState::Alive);
    run(&mut world, client, 5000);
    run(&mut world, server, 399);
    assert_eq!(state(&world, server), ServerState::Alive);
    run(&mut world, client, 5000);
    run(&mut world, server, 1);
    assert_eq!((state(&world, server), world.kernel.doomed), (ServerState::Dead, 0));
    assert_eq!(world.kernel.server(server).unwrap().deaths, [1, 0]);
}

#[test]
fn the_timer_goes_off_when_a_servers_time_is_up() {
    let (mut world, client, server) = two();
    doom(&mut world, client, Moment::CpuTime(1000), Injection::Kill);
    for task in [world.root, client] {
        assert_eq!(world.trap(task, Syscall::Receive, &[]), None);
    }
    run(&mut world, server, 400);
    assert_eq!(world.kernel.current, Some(world.thread_of(server)));
    assert_eq!(world.kernel.armed, world.kernel.since + 1000);
}

#[test]
fn a_fault_that_is_put_into_a_servers_way_counts_as_a_death_from_outside() {
    let (mut world, client, server) = two();
    for (number, fault) in (1..).zip([Injection::Undefined, Injection::Load, Injection::Heap]) {
        doom(&mut world, client, Moment::CpuTime(10), fault);
        run(&mut world, server, 10);
        let thread = world.thread_of(server);
        let at = world.kernel.threads.get(thread).unwrap().registers.rip;
        assert_eq!(at, ENTRY - fault.bytes_before_entry());
        world.run_trap(thread, Trap::Exception { vector: 6, code: 0 });
        assert_eq!(state(&world, server), ServerState::Dead);
        assert_eq!(world.kernel.server(server).unwrap().deaths, [number, 0]);
        world.ok(world.root, Syscall::ServerRestart, &[103]);
    }
    let thread = world.thread_of(server);
    world.run_trap(thread, Trap::Exception { vector: 6, code: 0 });
    assert_eq!(world.kernel.server(server).unwrap().deaths, [3, 1], "a fault of its own is one");
}

#[test]
fn a_server_that_waits_runs_into_its_fault_with_the_next_event() {
    let (mut world, client, server) = two();
    assert_eq!(world.trap(server, Syscall::Receive, &[]), None);
    doom(&mut world, client, Moment::Traps(0), Injection::Undefined);
    assert_eq!(state(&world, server), ServerState::Alive);
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
    let thread = world.thread_of(server);
    assert_eq!(world.kernel.threads.get(thread).unwrap().registers.rip, ENTRY - 16);
    world.run_trap(thread, Trap::Exception { vector: 6, code: 0 });
    world.ok(world.root, Syscall::ServerRestart, &[103]);
    world.ok(server, Syscall::Receive, &[]);
    assert_eq!(world.delivery(server).words[0], 5);
}

#[test]
fn the_death_of_a_dead_server_waits_for_its_restart() {
    let (mut world, client, server) = two();
    doom(&mut world, client, Moment::Traps(0), Injection::Kill);
    doom(&mut world, client, Moment::Traps(0), Injection::Kill);
    assert_eq!(world.kernel.server(server).unwrap().deaths, [1, 0]);
    world.ok(world.root, Syscall::ServerRestart, &[103]);
    world.trap(server, Syscall::Clock, &[]);
    assert_eq!((world.kernel.server(server).unwrap().deaths, world.kernel.doomed), ([2, 0], 0));
}

#[test]
fn no_end_is_set_for_a_server_that_was_given_up() {
    let (mut world, client, server) = two();
    doom(&mut world, client, Moment::Traps(0), Injection::Kill);
    doom(&mut world, client, Moment::CpuTime(1000), Injection::Kill);
    world.ok(world.root, Syscall::ServerAbandon, &[103]);
    assert_eq!((state(&world, server), world.kernel.doomed), (ServerState::Gone, 0));
    doom(&mut world, client, Moment::Traps(0), Injection::Undefined);
    assert_eq!(world.kernel.doomed, 0, "the short way of messages is open");
}

#[test]
fn last_words_are_in_no_journal_and_so_need_not_come_again() {
    let (mut world, client, server) = two();
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
    world.ok(server, Syscall::Receive, &[]);
    world.ok(server, Syscall::Log, &[4, 1]);
    let thread = world.thread_of(server);
    world.run_trap(thread, Trap::Exception { vector: 6, code: 0 });
    world.ok(world.root, Syscall::ServerRestart, &[103]);
    world.ok(server, Syscall::Receive, &[]);
    let delivery = world.delivery(server);
    assert_eq!((delivery.kind, delivery.words[0]), (Kind::Call as u32, 5));
    world.ok(server, Syscall::Reply, &[delivery.token, 0]);
    assert_eq!(state(&world, server), ServerState::Alive);
}

#[test]
fn a_restart_takes_from_the_death_until_the_next_event_is_asked_for() {
    let (mut world, client, server) = two();
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
    world.ok(server, Syscall::Receive, &[]);
    let restart_ns = |world: &World| world.kernel.server(server).unwrap().restart_ns;
    world.kernel.machine.time_ns = 1000;
    doom(&mut world, client, Moment::Traps(0), Injection::Kill);
    world.kernel.machine.time_ns = 1700;
    world.ok(world.root, Syscall::ServerRestart, &[103]);
    world.ok(server, Syscall::Receive, &[]);
    assert_eq!(restart_ns(&world), 0, "that was answered from the journal");
    world.kernel.machine.time_ns = 1900;
    assert_eq!(world.trap(server, Syscall::Receive, &[]), None);
    assert!((900..1000).contains(&restart_ns(&world)), "{}", restart_ns(&world));
}
