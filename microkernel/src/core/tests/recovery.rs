//! Servers that die and come back.

use libipc::abi::delivery::{CROWDED, Kind, MessageBuffer};
use libipc::abi::journal::{SUM_START, sum};
use libipc::abi::syscall::Syscall;
use libipc::abi::{KernelError, PAGE_SIZE};
use libipc::server::env::TaskFigure;

use super::{World, info};
use crate::core::object::{ServerState, TaskId};

fn kill(world: &mut World, task: TaskId) {
    let server = world.kernel.tasks.get(task).unwrap().server.unwrap();
    world.kernel.die(server, crate::core::death::Death::Outside);
    assert_eq!(world.kernel.server(task).unwrap().state, ServerState::Dead);
}

#[test]
fn root_is_told_of_a_death_by_the_number_of_the_dead() {
    let (mut world, _, server) = World::two([false, true]);
    assert_eq!(world.trap(world.root, Syscall::Receive, &[]), None);
    kill(&mut world, server);
    let delivery = world.delivery(world.root);
    assert_eq!((delivery.kind, delivery.words[0]), (Kind::Notify as u32, 1 << 3));
}

#[test]
fn a_device_cannot_write_memory_from_the_death_of_its_server_until_the_next_incarnation_looks_after_it() {
    const DISK: u16 = 3 << 3;
    let (mut world, _, server) = World::two([false, false]);
    let may_write = |world: &World| world.kernel.machine.bus_masters.get(&DISK).copied();
    world.ok(world.root, Syscall::ServerDevice, &[103, 2, DISK.into(), 0]);
    kill(&mut world, server);
    assert_eq!(may_write(&world), Some(false));
    world.restart(3);
    assert_eq!(may_write(&world), Some(false), "it has not been reset yet");
    world.trap(server, Syscall::Receive, &[]);
    assert_eq!(may_write(&world), Some(true));
    let grant =
        |world: &mut World, what| world.trap(world.root, Syscall::ServerDevice, &[103, what, 1 << 16]);
    assert_eq!(grant(&mut world, 2), Some(Err(KernelError::BadArgument)));
    assert_eq!(grant(&mut world, 3), Some(Err(KernelError::BadArgument)));
}

#[test]
fn what_a_restart_needs_is_set_aside_and_told() {
    let (mut world, _, server) = World::two([false, true]);
    let root = world.root;
    let heap = world.frames(5);
    world.ok(root, Syscall::ServerSegment, &[103, 0x2000_0000, 5, u64::from(heap.first.0), 0]);
    let [_, _, _, bytes, _] = world.ok(root, Syscall::TaskInfo, &[103, TaskFigure::Recovery as u64]);
    let pages = u64::from(world.buffer(server).count) + 64 + 12 + 5;
    assert_eq!(bytes, pages * PAGE_SIZE);
}

#[test]
fn a_reissued_server_gets_its_calls_again_in_order() {
    let (mut world, client, server) = World::two([false, false]);
    for word in 1..=3 {
        world.ok(client, Syscall::Send, &[0, info(1, 0, 0), word]);
    }
    world.ok(server, Syscall::Receive, &[]);
    world.ok(server, Syscall::Receive, &[]);
    kill(&mut world, server);
    world.restart(3);
    let words: Vec<u64> = (0..3)
        .map(|_| {
            world.ok(server, Syscall::Receive, &[]);
            world.delivery(server).words[0]
        })
        .collect();
    assert_eq!(words, [1, 2, 3]);
}

#[test]
fn a_journaled_server_is_answered_from_its_journal_and_nothing_happens_twice() {
    let (mut world, client, server) = World::two([false, true]);
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 6]);
    world.ok(server, Syscall::Receive, &[]);
    let first = world.delivery(server);
    world.ok(server, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    world.ok(server, Syscall::Reply, &[first.token, info(0, 0, 0), 50]);
    world.ok(server, Syscall::Receive, &[]);
    let second = world.delivery(server);
    kill(&mut world, server);
    world.restart(3);
    world.ok(server, Syscall::Receive, &[]);
    assert_eq!(world.delivery(server).token, first.token, "the same event comes again");
    world.ok(server, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    assert_eq!(world.kernel.sessions.used(), 1, "the session is the one made before");
    world.ok(server, Syscall::Reply, &[first.token, info(0, 0, 0), 50]);
    world.ok(server, Syscall::Receive, &[]);
    assert_eq!(world.delivery(server).token, second.token);
    world.ok(server, Syscall::Reply, &[second.token, info(0, 0, 0), 60]);
    for word in [50, 60] {
        world.ok(client, Syscall::Receive, &[]);
        assert_eq!(world.delivery(client).words[0], word, "each answer comes once");
    }
    assert_eq!(world.trap(client, Syscall::Receive, &[]), None);
}

#[test]
fn a_replay_that_does_something_else_is_noticed() {
    let (mut world, client, server) = World::two([false, true]);
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
    world.ok(server, Syscall::Receive, &[]);
    let token = world.delivery(server).token;
    world.ok(server, Syscall::Reply, &[token, 0]);
    kill(&mut world, server);
    world.restart(3);
    world.ok(server, Syscall::Receive, &[]);
    world.trap(server, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    assert_eq!(world.kernel.server(server).unwrap().state, ServerState::Dead);
}

#[test]
fn a_snapshot_lets_go_of_the_journal_before_it() {
    let (mut world, client, server) = World::two([false, true]);
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
    world.ok(server, Syscall::Receive, &[]);
    let token = world.delivery(server).token;
    world.ok(server, Syscall::Reply, &[token, 0]);
    world.set_payload(server, b"state");
    world.ok(server, Syscall::SnapshotWrite, &[5]);
    world.ok(server, Syscall::SnapshotCommit, &[sum(SUM_START, b"state")]);
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 6]);
    world.ok(server, Syscall::Receive, &[]);
    kill(&mut world, server);
    world.restart(3);
    assert_eq!(world.ok(server, Syscall::SnapshotRead, &[0])[0], 5);
    assert_eq!(world.payload(server, 5), b"state");
    assert_eq!(world.ok(server, Syscall::SnapshotRead, &[5])[0], 0);
    world.ok(server, Syscall::Receive, &[]);
    assert_eq!(world.delivery(server).words[0], 6);
}

#[test]
fn a_snapshot_that_was_written_over_on_its_way_is_not_the_one_to_start_from() {
    let (mut world, _, server) = World::two([false, true]);
    let mut save = |said: &[u8], written: &[u8], behind| {
        world.set_payload(server, written);
        world.ok(server, Syscall::SnapshotWrite, &[written.len() as u64, behind]);
        world.trap(server, Syscall::SnapshotCommit, &[sum(SUM_START, said), behind]).unwrap().is_ok()
    };
    assert!(!save(b"state", b"stale", 0));
    assert!(save(b"state", b"state", 0));
    assert!(!save(b"state and", b" end", 1));
    assert!(!save(b"other", b"offer", 0));
    assert!(save(b"state and", b" and", 1));
    kill(&mut world, server);
    world.restart(3);
    assert_eq!(world.ok(server, Syscall::SnapshotRead, &[0])[0], 9);
    assert_eq!(world.payload(server, 9), b"state and");
}

#[test]
fn an_addition_to_a_snapshot_counts_when_it_is_complete() {
    let (mut world, _, server) = World::two([false, true]);
    let write = |world: &mut World, bytes: &[u8], behind| {
        world.set_payload(server, bytes);
        world.ok(server, Syscall::SnapshotWrite, &[bytes.len() as u64, behind]);
    };
    write(&mut world, b"state", 0);
    let commit = |world: &mut World, all: &[u8], behind| {
        world.ok(server, Syscall::SnapshotCommit, &[sum(SUM_START, all), behind]);
    };
    commit(&mut world, b"state", 0);
    write(&mut world, b" and", 1);
    commit(&mut world, b"state and", 1);
    // The server dies before these are complete.
    write(&mut world, b" half", 1);
    kill(&mut world, server);
    world.restart(3);
    assert_eq!(world.ok(server, Syscall::SnapshotRead, &[0])[..2], [9, 9]);
    assert_eq!(world.payload(server, 9), b"state and");
    write(&mut world, b" more", 1);
    commit(&mut world, b"state and more", 1);
    world.ok(server, Syscall::SnapshotRead, &[0]);
    assert_eq!(world.payload(server, 14), b"state and more");
    // What does not fit leaves all as it was; a new snapshot takes its place.
    world.set_payload(server, &[7; 4096]);
    let mut writes = (0..).map(|_| world.trap(server, Syscall::SnapshotWrite, &[4096, 1]).unwrap());
    assert_eq!(writes.find_map(Result::err), Some(KernelError::Exhausted));
    assert_eq!(world.ok(server, Syscall::SnapshotRead, &[0])[1], 14);
    write(&mut world, b"new", 0);
    commit(&mut world, b"new", 0);
    assert_eq!(world.ok(server, Syscall::SnapshotRead, &[0])[1], 3);
}

#[test]
fn a_server_killed_while_it_waits_for_an_event_waits_again() {
    let (mut world, client, server) = World::two([false, true]);
    assert_eq!(world.trap(server, Syscall::Receive, &[]), None);
    kill(&mut world, server);
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
    world.restart(3);
    world.ok(server, Syscall::Receive, &[]);
    assert_eq!(world.delivery(server).words[0], 5);
}

#[test]
fn a_server_whose_journal_is_full_when_something_comes_dies_and_does_not_run() {
    let (mut world, client, server) = World::two([false, true]);
    assert_eq!(world.trap(server, Syscall::Receive, &[]), None, "it waits");
    let id = world.kernel.tasks.get(server).unwrap().server.unwrap();
    let journal = world.kernel.servers.get_mut(id).unwrap().journal.as_mut().unwrap();
    journal.end = journal.memory.bytes() - 8;
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
    assert_eq!(world.kernel.server(server).unwrap().state, ServerState::Dead);
    let thread = world.thread_of(server);
    let waits_for_a_turn = world.kernel.threads.get(thread).unwrap().link.is_listed();
    let chosen = world.kernel.chosen.map(|(chosen, _)| chosen);
    assert!(!waits_for_a_turn && chosen != Some(thread) && world.kernel.current() != Some(thread));
}

fn give_up(world: &mut World, task: TaskId, number: u64) {
    kill(world, task);
    world.ok(world.root, Syscall::ServerAbandon, &[number + 100]);
}

#[test]
fn a_message_to_a_server_that_is_given_up_is_answered_at_once() {
    let (mut world, client, server) = World::two([false, true]);
    world.set_header(client, MessageBuffer { tag: 5, ..MessageBuffer::default() });
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0)]);
    give_up(&mut world, server, 3);
    world.set_header(client, MessageBuffer { tag: 6, ..MessageBuffer::default() });
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0)]);
    for tag in [5, 6] {
        world.ok(client, Syscall::Receive, &[]);
        let delivery = world.delivery(client);
        assert_eq!((delivery.kind, delivery.token, delivery.label), (Kind::Answer as u32, tag, u32::MAX));
    }
    assert_eq!(world.trap(client, Syscall::Call, &[0, info(1, 0, 0)]), Some(Err(KernelError::PeerDead)));
    assert_eq!(world.kernel.calls.used(), 0);
}

#[test]
fn handles_in_a_message_to_a_server_that_is_given_up_are_let_go() {
    let (mut world, client, server) = World::two([false, true]);
    world.ok(client, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    give_up(&mut world, server, 3);
    world.set_header(client, MessageBuffer { send: [50, 0, 0, 0], tag: 5, ..MessageBuffer::default() });
    world.ok(client, Syscall::Send, &[0, info(1, 0, 1)]);
    world.ok(client, Syscall::Receive, &[]);
    assert_eq!((world.delivery(client).kind, world.delivery(client).handle_count), (Kind::Answer as u32, 0));
    world.ok(client, Syscall::Receive, &[]);
    assert_eq!(world.delivery(client).kind, Kind::LastClose as u32);
}

#[test]
fn a_caller_that_is_forwarded_to_a_server_that_is_given_up_gets_an_error() {
    let mut world = World::new();
    let [client, middle, gone] = [2, 3, 4].map(|number| world.server(number, false));
    world.grant(2, 0, 3);
    world.grant(3, 0, 4);
    [4, 3, 2].into_iter().for_each(|number| world.start(number));
    give_up(&mut world, gone, 4);
    assert_eq!(world.trap(client, Syscall::Call, &[0, info(1, 0, 0)]), None);
    world.ok(middle, Syscall::Receive, &[]);
    let token = world.delivery(middle).token;
    world.ok(middle, Syscall::Forward, &[token, 0, info(2, 0, 0)]);
    assert_eq!(world.result(client), Some(Err(KernelError::PeerDead)));
}

#[test]
fn a_server_whose_state_takes_most_of_a_snapshots_room_is_told() {
    let (mut world, client, server) = World::two([false, true]);
    let save = |world: &mut World, bytes: u64| {
        world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
        world.ok(server, Syscall::Receive, &[]);
        let state = vec![7; bytes as usize];
        for piece in state.chunks(4096) {
            world.set_payload(server, piece);
            world.trap(server, Syscall::SnapshotWrite, &[piece.len() as u64, 0]).unwrap().ok()?;
        }
        world.ok(server, Syscall::SnapshotCommit, &[sum(SUM_START, &state), 0]);
        Some(())
    };
    let crowded = |world: &mut World| {
        world.ok(client, Syscall::Send, &[0, info(1, 0, 0), 5]);
        world.ok(server, Syscall::Receive, &[]);
        world.delivery(server).fill & CROWDED != 0
    };
    // There are four pages for each snapshot.
    for (bytes, wanted) in [(8192, false), (12288, true), (8192, false), (20480, true), (100, false)] {
        assert_eq!(save(&mut world, bytes).is_some(), bytes <= 16384);
        assert_eq!(crowded(&mut world), wanted, "{bytes}");
    }
}
