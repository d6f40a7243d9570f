//! Servers that cannot be started from what they left: a damaged snapshot, a journal of what no sound server does.

use libipc::abi::Protection;
use libipc::abi::crash::{Disposition, Fall, Fault, Recourse};
use libipc::abi::delivery::{FaultKind, Kind};
use libipc::abi::journal::{SUM_START, sum};
use libipc::abi::syscall::Syscall;
use libipc::server::env::TaskFigure;
use libipc::server::{SWEEP_BIT, TIMER_BIT};

use super::{World, info};
use crate::core::death::Death;
use crate::core::object::{ServerState, TaskId};

fn kill(world: &mut World, task: TaskId) {
    let server = world.kernel.server_of(task).unwrap();
    world.kernel.die(server, Death::Outside);
}

/// The server receives a message with this word: the call's token.
fn serve(world: &mut World, client: TaskId, server: TaskId, word: u64) -> u64 {
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), word]);
    receive(world, server, word)
}

fn receive(world: &mut World, server: TaskId, word: u64) -> u64 {
    world.ok(server, Syscall::Receive, &[]);
    assert_eq!(world.delivery(server).words[0], word);
    world.delivery(server).token
}

fn snapshot(world: &mut World, server: TaskId, state: &[u8]) {
    world.set_payload(server, state);
    world.ok(server, Syscall::SnapshotWrite, &[state.len() as u64, 0]);
    world.ok(server, Syscall::SnapshotCommit, &[sum(SUM_START, state), 0]);
}

/// Rows that are added to a snapshot, which is `all` then.
fn add(world: &mut World, server: TaskId, rows: &[u8], all: &[u8]) {
    world.set_payload(server, rows);
    world.ok(server, Syscall::SnapshotWrite, &[rows.len() as u64, 1]);
    world.ok(server, Syscall::SnapshotCommit, &[sum(SUM_START, all), 1]);
}

#[test]
fn what_rows_were_added_to_is_not_lost_with_them() {
    let (mut world, client, server) = World::two([false, true]);
    serve(&mut world, client, server, 1);
    snapshot(&mut world, server, b"whole");
    for (word, rows, all) in [(2, " one", "whole one"), (3, " two", "whole one two")] {
        serve(&mut world, client, server, word);
        add(&mut world, server, rows.as_bytes(), all.as_bytes());
    }
    damage(&mut world);
    kill(&mut world, server);
    world.restart(3);
    assert!(starts_from(&mut world, server, b"whole one"));
    receive(&mut world, server, 3);
}

fn damage(world: &mut World) {
    world.kernel.snapshot(3)[1] ^= 1;
}

fn starts_from(world: &mut World, server: TaskId, state: &[u8]) -> bool {
    let [length, ..] = world.ok(server, Syscall::SnapshotRead, &[0]);
    length == state.len() as u64 && world.payload(server, length) == state
}

#[test]
fn a_damaged_snapshot_is_found_out_and_the_one_before_it_takes_its_place() {
    // A memory's first journal lies below the second, and its second above the first.
    for snapshots in 1..=3 {
        let (mut world, client, server) = World::two([false, true]);
        for number in 0..snapshots {
            serve(&mut world, client, server, 10 + number);
            snapshot(&mut world, server, &[number as u8; 5]);
        }
        serve(&mut world, client, server, 77);
        damage(&mut world);
        kill(&mut world, server);
        world.restart(3);
        let before = if snapshots == 1 { vec![] } else { vec![snapshots as u8 - 2; 5] };
        assert!(starts_from(&mut world, server, &before));
        receive(&mut world, server, 9 + snapshots);
        // The snapshot that it made here is behind it.
        let again = world.trap(server, Syscall::SnapshotWrite, &[5, 0]);
        assert_eq!(again, Some(Err(libipc::abi::KernelError::WrongState)));
        receive(&mut world, server, 77);
        serve(&mut world, client, server, 78);
        snapshot(&mut world, server, b"later");
        kill(&mut world, server);
        world.restart(3);
        assert!(starts_from(&mut world, server, b"later"));
        serve(&mut world, client, server, 79);
    }
}

#[test]
fn damage_while_the_next_snapshot_is_written_is_no_worse() {
    let (mut world, client, server) = World::two([false, true]);
    for (word, state) in [(1, b"one"), (2, b"two")] {
        serve(&mut world, client, server, word);
        snapshot(&mut world, server, state);
    }
    world.set_payload(server, b"three");
    world.ok(server, Syscall::SnapshotWrite, &[5, 0]);
    damage(&mut world);
    kill(&mut world, server);
    world.restart(3);
    assert!(starts_from(&mut world, server, b"one"));
    receive(&mut world, server, 2);
}

#[test]
fn a_sound_server_starts_from_its_last_snapshot() {
    let (mut world, client, server) = World::two([false, true]);
    serve(&mut world, client, server, 1);
    snapshot(&mut world, server, b"first");
    serve(&mut world, client, server, 2);
    snapshot(&mut world, server, b"second");
    kill(&mut world, server);
    world.restart(3);
    assert!(starts_from(&mut world, server, b"second"));
}

fn fall(world: &mut World) -> Fall {
    let values = world.ok(world.root, Syscall::TaskInfo, &[103, TaskFigure::Fall as u64]);
    Fall::from_values(values).expect("the server has died of itself")
}

#[test]
fn a_replay_passes_over_what_a_sound_server_does_not_do() {
    let (mut world, client, server) = World::two([false, true]);
    let first = serve(&mut world, client, server, 1);
    world.ok(server, Syscall::TimerSet, &[500]);
    world.ok(server, Syscall::Reply, &[first, info(9, 0, 0)]);
    let second = serve(&mut world, client, server, 2);
    kill(&mut world, server);
    world.restart(3);
    // It sets no timer, its answer is another, and there is one thing more that it would do.
    receive(&mut world, server, 1);
    assert_eq!(world.trap(server, Syscall::Reply, &[first, info(8, 0, 0)]), None);
    assert_eq!(world.kernel.server(server).unwrap().state, ServerState::Dead);
    let died = fall(&mut world);
    assert_eq!((died.fault, died.disposable, died.mendable), (Fault::Diverged, false, true));
    let [done, ..] = world.ok(world.root, Syscall::ServerDispose, &[103, Recourse::PassOver as u64]);
    assert_eq!(done, Disposition::Mended as u64);
    world.restart(3);
    receive(&mut world, server, 1);
    world.ok(server, Syscall::Reply, &[first, info(8, 0, 0)]);
    world.ok(server, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    assert_eq!(world.kernel.sessions.used(), 1);
    assert_eq!(receive(&mut world, server, 2), second);
    world.ok(server, Syscall::Reply, &[second, 0]);
    // Its timer may be set for what a lie said.
    receive(&mut world, server, TIMER_BIT | SWEEP_BIT);
    serve(&mut world, client, server, 3);
    assert_eq!(world.delivery(server).fill, 1000, "it is to make a snapshot");
}

#[test]
fn a_server_can_be_taken_back_once() {
    let (mut world, client, server) = World::two([false, true]);
    serve(&mut world, client, server, 1);
    snapshot(&mut world, server, b"written over");
    kill(&mut world, server);
    let [done, ..] = world.ok(world.root, Syscall::ServerDispose, &[103, Recourse::StepBack as u64]);
    assert_eq!(done, Disposition::SteppedBack as u64);
    let again = world.trap(world.root, Syscall::ServerDispose, &[103, Recourse::StepBack as u64]);
    assert_eq!(again, Some(Err(libipc::abi::KernelError::WrongState)));
    world.restart(3);
    assert!(starts_from(&mut world, server, b""));
    receive(&mut world, server, 1);
}

/// A pager mapped one page into a program where a sound one maps two, and destroyed the space then or did not: whether
/// the program is to end when the pager is mended.
fn is_lost(destroyed: bool) -> bool {
    let (mut world, vm, proc, program) = World::with_program();
    world.map(vm, &program, 0x40_0000, 1, Protection::READ);
    if destroyed {
        world.ok(vm, Syscall::SpaceDestroy, &[program.badge]);
    }
    kill(&mut world, vm);
    let id = world.kernel.server_of(vm).unwrap();
    assert!(world.kernel.mend(id));
    world.restart(2);
    let [created, mapped] = [&[program.badge, program.badge, 0][..], &[program.badge, 3, 2]];
    world.ok(vm, Syscall::SpaceCreate, created);
    world.ok(vm, Syscall::Map, mapped);
    if world.trap(proc, Syscall::Receive, &[]).is_none() {
        return false;
    }
    let delivery = world.delivery(proc);
    assert_eq!(Kind::from_number(delivery.kind), Some(Kind::Fault));
    assert_eq!((delivery.label, delivery.caller.pid), (FaultKind::Lost as u32, program.badge as u32));
    true
}

#[test]
fn a_program_whose_memory_is_not_what_it_should_be_ends() {
    assert!(is_lost(false));
    assert!(!is_lost(true), "it has left that memory behind");
}
