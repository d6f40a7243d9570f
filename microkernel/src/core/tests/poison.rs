//! Events that kill their server again, and what becomes of them.

use libipc::abi::crash::{Disposition, Fall, Fault, Remedy};
use libipc::abi::delivery::{FaultKind, Kind, MessageBuffer};
use libipc::abi::syscall::{NO_ANSWER, Syscall};
use libipc::abi::{KernelError, Rights};
use libipc::linux::call::{EXIT_GROUP, WAIT4};
use libipc::linux::errno;
use libipc::server::env::TaskFigure;
use libipc::server::{SWEEP_BIT, TIMER_BIT};

use super::{World, info};
use crate::core::object::{Object, ServerState, TaskId};
use crate::core::{Resume, Trap};

/// The server dies of itself.
fn fall(world: &mut World, task: TaskId) {
    let thread = world.thread_of(task);
    world.run_trap(thread, Trap::Exception { vector: 6, code: 0 });
    assert_eq!(world.kernel.server(task).unwrap().state, ServerState::Dead);
}

fn told(world: &mut World, number: u64) -> Fall {
    let values = world.ok(world.root, Syscall::TaskInfo, &[number + 100, TaskFigure::Fall as u64]);
    Fall::from_values(values).expect("it died of itself")
}

fn dispose(world: &mut World, number: u64) -> (Option<Disposition>, Option<Kind>) {
    let [disposition, kind, ..] = world.ok(world.root, Syscall::ServerDispose, &[number + 100]);
    (Disposition::from_number(disposition), Kind::from_number(kind as u32))
}

fn receive(world: &mut World, task: TaskId) -> Kind {
    world.ok(task, Syscall::Receive, &[]);
    Kind::from_number(world.delivery(task).kind).unwrap()
}

fn send(world: &mut World, client: TaskId, tag: u64, word: u64) {
    world.set_header(client, MessageBuffer { tag, ..MessageBuffer::default() });
    world.ok(client, Syscall::Send, &[0, info(1, 0, 0), word]);
}

#[test]
fn a_call_that_kills_again_is_an_error_to_its_caller_alone() {
    let (mut world, client, server) = World::two([true, true]);
    send(&mut world, client, 5, 50);
    send(&mut world, client, 6, 60);
    send(&mut world, client, 7, 70);
    receive(&mut world, server);
    let before = world.delivery(server).token;
    world.ok(server, Syscall::Reply, &[before, info(0, 0, 0), 51]);
    receive(&mut world, server);
    fall(&mut world, server);
    let fall_told = told(&mut world, 3);
    assert!(fall_told.disposable && fall_told.fault == Fault::Exception && fall_told.waiting == 1);
    assert_eq!(dispose(&mut world, 3), (Some(Disposition::Refused), Some(Kind::Call)));
    assert!(!told(&mut world, 3).disposable, "what is gone cannot be disposed of again");
    world.restart(3);
    // It runs again: the first call as before, then the third.
    assert_eq!(receive(&mut world, server), Kind::Call);
    assert_eq!(world.delivery(server).words[0], 50);
    world.ok(server, Syscall::Reply, &[before, info(0, 0, 0), 51]);
    receive(&mut world, server);
    let third = world.delivery(server);
    assert_eq!(third.words[0], 70);
    world.ok(server, Syscall::Reply, &[third.token, info(0, 0, 0), 71]);
    for (tag, label, word) in [(5, 0, 51), (6, u32::MAX, 60), (7, 0, 71)] {
        assert_eq!(receive(&mut world, client), Kind::Answer);
        let answer = world.delivery(client);
        assert_eq!((answer.token, answer.label, answer.words[0]), (tag, label, word));
    }
}

#[test]
fn a_replay_passes_over_what_was_disposed_of_each_time() {
    let (mut world, client, server) = World::two([true, true]);
    send(&mut world, client, 5, 50);
    receive(&mut world, server);
    fall(&mut world, server);
    dispose(&mut world, 3);
    for word in [60, 70] {
        world.restart(3);
        for earlier in [60].into_iter().take_while(|earlier| *earlier < word) {
            receive(&mut world, server);
            assert_eq!(world.delivery(server).words[0], earlier);
        }
        send(&mut world, client, 6, word);
        receive(&mut world, server);
        assert_eq!(world.delivery(server).words[0], word);
        let id = world.kernel.server_of(server).unwrap();
        world.kernel.die(id, crate::core::death::Death::Outside);
    }
}

#[test]
fn a_blocking_call_that_kills_again_is_refused() {
    let (mut world, client, server) = World::two([true, true]);
    assert_eq!(world.trap(client, Syscall::Call, &[0, info(1, 0, 0), 50]), None);
    receive(&mut world, server);
    fall(&mut world, server);
    dispose(&mut world, 3);
    assert_eq!(world.result(client), Some(Err(KernelError::PeerDead)));
    assert_eq!(world.kernel.calls.used(), 0);
}

#[test]
fn a_message_without_an_answer_that_kills_again_is_forgotten() {
    let (mut world, client, server) = World::two([true, true]);
    send(&mut world, client, NO_ANSWER.0, 50);
    receive(&mut world, server);
    fall(&mut world, server);
    dispose(&mut world, 3);
    assert_eq!(world.trap(client, Syscall::Receive, &[]), None, "nobody is told");
    assert_eq!(world.kernel.calls.used(), 0);
}

#[test]
fn what_the_server_made_for_the_event_is_taken_back() {
    let (mut world, client, server) = World::two([true, true]);
    send(&mut world, client, 5, 50);
    receive(&mut world, server);
    world.ok(server, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    world.ok(server, Syscall::Duplicate, &[50, 51, u64::from(Rights::CALL.bits())]);
    world.set_payload(server, b"panicked");
    world.ok(server, Syscall::Log, &[8]);
    fall(&mut world, server);
    assert!(told(&mut world, 3).disposable);
    dispose(&mut world, 3);
    assert_eq!(world.kernel.sessions.used(), 0);
    world.restart(3);
    send(&mut world, client, 6, 60);
    receive(&mut world, server);
    assert_eq!(world.delivery(server).words[0], 60);
    world.ok(server, Syscall::SessionCreate, &[50, 43, 0, 0, 0]);
}

#[test]
fn handles_that_came_with_the_event_go_with_it() {
    let (mut world, client, server) = World::two([true, true]);
    world.set_header(server, MessageBuffer { offer: [60, 61, 62, 63], ..MessageBuffer::default() });
    world.ok(client, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    world.set_header(client, MessageBuffer { send: [50, 0, 0, 0], tag: 5, ..MessageBuffer::default() });
    world.ok(client, Syscall::Send, &[0, info(1, 0, 1)]);
    receive(&mut world, server);
    assert_eq!(world.delivery(server).handles[0], 60);
    fall(&mut world, server);
    dispose(&mut world, 3);
    assert_eq!(world.kernel.named(server, 60, Rights::empty()), Err(KernelError::BadHandle));
    assert_eq!(receive(&mut world, client), Kind::Answer);
    assert_eq!(receive(&mut world, client), Kind::LastClose, "nobody holds the session any more");
}

#[test]
fn an_event_whose_effects_have_been_seen_is_broken_off() {
    let (mut world, client, server) = World::two([true, true]);
    send(&mut world, client, 5, 50);
    send(&mut world, client, 6, 60);
    receive(&mut world, server);
    let token = world.delivery(server).token;
    world.ok(server, Syscall::SessionCreate, &[50, 42, 0, 0, 0]);
    world.ok(server, Syscall::Reply, &[token, info(0, 0, 0), 51]);
    fall(&mut world, server);
    assert!(told(&mut world, 3).disposable);
    assert_eq!(dispose(&mut world, 3), (Some(Disposition::BrokenOff), Some(Kind::Call)));
    assert_eq!(world.kernel.sessions.used(), 0, "what can be taken back is");
    assert_eq!(receive(&mut world, client), Kind::Answer);
    assert_eq!(world.delivery(client).words[0], 51, "what was seen stands");
    world.restart(3);
    assert_eq!(receive(&mut world, server), Kind::Notify, "it does not see the event again");
    assert_eq!(world.delivery(server).words[0], SWEEP_BIT);
    receive(&mut world, server);
    assert_eq!(world.delivery(server).words[0], 60);
}

#[test]
fn a_call_that_was_kept_when_its_event_was_broken_off_fails() {
    let (mut world, client, server) = World::two([true, true]);
    world.grant(3, 1, 2);
    send(&mut world, client, 5, 50);
    receive(&mut world, server);
    world.set_header(server, MessageBuffer { tag: 9, ..MessageBuffer::default() });
    world.ok(server, Syscall::Send, &[1, info(1, 0, 0)]);
    fall(&mut world, server);
    assert_eq!(dispose(&mut world, 3), (Some(Disposition::BrokenOff), Some(Kind::Call)));
    assert_eq!(receive(&mut world, client), Kind::Answer);
    assert_eq!((world.delivery(client).token, world.delivery(client).label), (5, u32::MAX));
}

#[test]
fn an_effect_that_was_refused_counts_as_carried_out_when_others_have_been_seen() {
    let (mut world, client, server) = World::two([true, true]);
    send(&mut world, client, 5, 50);
    send(&mut world, client, 6, 60);
    receive(&mut world, server);
    let token = world.delivery(server).token;
    let twice = [token, info(0, 0, 0), 51];
    world.ok(server, Syscall::Reply, &twice);
    assert_eq!(world.trap(server, Syscall::SessionReady, &[9, 1]), Some(Err(KernelError::BadHandle)));
    fall(&mut world, server);
    assert_eq!(dispose(&mut world, 3).0, Some(Disposition::LeftOut));
    world.restart(3);
    receive(&mut world, server);
    world.ok(server, Syscall::Reply, &twice);
    world.ok(server, Syscall::SessionReady, &[9, 1]);
    for word in [SWEEP_BIT, 60] {
        receive(&mut world, server);
        assert_eq!(world.delivery(server).words[0], word, "it is live");
    }
}

#[test]
fn an_event_of_which_one_effect_was_left_out_and_another_is_refused_is_broken_off() {
    let (mut world, client, server) = World::two([true, true]);
    send(&mut world, client, 5, 50);
    send(&mut world, client, 6, 60);
    receive(&mut world, server);
    let token = world.delivery(server).token;
    let answer = [token, info(0, 0, 0), 51];
    world.ok(server, Syscall::Reply, &answer);
    let refused = Some(Err(KernelError::NoRight));
    assert_eq!(world.trap(server, Syscall::FrameZero, &[1]), refused);
    fall(&mut world, server);
    assert_eq!(dispose(&mut world, 3).0, Some(Disposition::LeftOut));
    world.restart(3);
    receive(&mut world, server);
    world.ok(server, Syscall::Reply, &answer);
    world.ok(server, Syscall::FrameZero, &[1]);
    assert_eq!(world.trap(server, Syscall::FrameZero, &[2]), refused);
    fall(&mut world, server);
    let [done, ..] = world.ok(world.root, Syscall::ServerDispose, &[103, Remedy::BreakOff as u64]);
    assert_eq!(done, Disposition::BrokenOff as u64);
    world.restart(3);
    for word in [SWEEP_BIT, 60] {
        receive(&mut world, server);
        assert_eq!(world.delivery(server).words[0], word, "it is live");
    }
}

#[test]
fn an_answer_that_kills_again_becomes_one_that_failed() {
    let (mut world, client, server) = World::two([true, true]);
    send(&mut world, client, 5, 50);
    receive(&mut world, server);
    let token = world.delivery(server).token;
    world.set_payload(server, b"bad bytes");
    world.ok(server, Syscall::Reply, &[token, info(0, 9, 0), 51]);
    receive(&mut world, client);
    fall(&mut world, client);
    let first = told(&mut world, 2);
    assert_eq!(dispose(&mut world, 2), (Some(Disposition::Failed), Some(Kind::Answer)));
    for _ in 0..2 {
        world.restart(2);
        send(&mut world, client, 5, 50);
        assert_eq!(receive(&mut world, client), Kind::Answer);
        let answer = world.delivery(client);
        assert_eq!((answer.token, answer.label, answer.payload_len), (5, u32::MAX, 0));
        fall(&mut world, client);
        assert_eq!(told(&mut world, 2).event, first.event, "it is still the same event");
    }
}

#[test]
fn a_tick_that_kills_again_comes_later() {
    let (mut world, _, server) = World::two([true, true]);
    world.ok(server, Syscall::TimerSet, &[1000]);
    world.kernel.machine.time_ns = 2000;
    let _: Resume = world.kernel.trap(Trap::Timer);
    assert_eq!(receive(&mut world, server), Kind::Notify);
    assert_eq!(world.delivery(server).words[0], TIMER_BIT);
    fall(&mut world, server);
    assert_eq!(dispose(&mut world, 3), (Some(Disposition::Dropped), Some(Kind::Notify)));
    world.restart(3);
    world.ok(server, Syscall::TimerSet, &[1000]);
    assert_eq!(world.trap(server, Syscall::Receive, &[]), None);
    world.kernel.machine.time_ns += 1_000_000_000;
    let _: Resume = world.kernel.trap(Trap::Timer);
    assert_eq!(world.delivery(server).words[0], TIMER_BIT);
}

/// A session of the server's that the client has closed. The server has received that.
fn closed(world: &mut World, client: TaskId, server: TaskId, status: u64) {
    world.set_header(client, MessageBuffer { offer: [60, 61, 62, 63], ..MessageBuffer::default() });
    assert_eq!(world.trap(client, Syscall::Call, &[0, info(1, 0, 0)]), None);
    receive(world, server);
    let token = world.delivery(server).token;
    world.ok(server, Syscall::SessionCreate, &[50, 42, 7, status, 0]);
    world.set_header(server, MessageBuffer { send: [50, 0, 0, 0], ..MessageBuffer::default() });
    world.ok(server, Syscall::Reply, &[token, info(0, 0, 1)]);
    world.ok(client, Syscall::Close, &[60]);
    assert_eq!(receive(world, server), Kind::LastClose);
}

/// What a server that starts again did before the event that was disposed of.
fn replay_closed(world: &mut World, server: TaskId, status: u64) {
    world.restart(3);
    receive(world, server);
    let token = world.delivery(server).token;
    world.ok(server, Syscall::SessionCreate, &[50, 42, 7, status, 0]);
    world.ok(server, Syscall::Reply, &[token, info(0, 0, 1)]);
}

#[test]
fn a_last_close_that_kills_again_comes_once_more() {
    let (mut world, client, server) = World::two([true, true]);
    closed(&mut world, client, server, 0);
    fall(&mut world, server);
    assert_eq!(dispose(&mut world, 3), (Some(Disposition::Dropped), Some(Kind::LastClose)));
    replay_closed(&mut world, server, 0);
    assert_eq!(receive(&mut world, server), Kind::LastClose);
    assert_eq!((world.delivery(server).badge, world.delivery(server).owner), (42, 50));
    world.ok(server, Syscall::Close, &[50]);
    assert_eq!(world.kernel.sessions.used(), 0);
}

#[test]
fn a_last_close_that_always_kills_cuts_off_the_other_end() {
    const WRITE_ONLY: u64 = 1;
    let (mut world, client, server) = World::two([true, true]);
    closed(&mut world, client, server, WRITE_ONLY);
    fall(&mut world, server);
    dispose(&mut world, 3);
    replay_closed(&mut world, server, WRITE_ONLY);
    // The reading end, the writing end of another pipe, and a terminal.
    for (handle, object, status) in [(70, 7, 0), (71, 8, 0), (72, 7, 2)] {
        world.ok(server, Syscall::SessionCreate, &[handle, handle, object, status, 0]);
    }
    let session = |world: &World, handle| match world.kernel.named(server, handle, Rights::empty()) {
        Ok(Object::OwnSession(id)) => id,
        other => panic!("{other:?}"),
    };
    let ends = [70, 71, 72].map(|handle| session(&world, handle));
    assert_eq!(receive(&mut world, server), Kind::LastClose);
    fall(&mut world, server);
    assert_eq!(dispose(&mut world, 3), (Some(Disposition::Dropped), Some(Kind::LastClose)));
    let own = world.kernel.server_of(server);
    let served = ends.map(|end| Some(world.kernel.sessions.get(end).unwrap().server) == own);
    assert_eq!(served, [false, true, true]);
}

#[test]
fn a_reissued_servers_call_that_kills_again_is_answered_an_error() {
    let (mut world, client, server) = World::two([true, false]);
    for (tag, word) in [(5, 50), (6, 60)] {
        send(&mut world, client, tag, word);
        receive(&mut world, server);
    }
    fall(&mut world, server);
    let first = told(&mut world, 3);
    world.restart(3);
    for word in [50, 60] {
        receive(&mut world, server);
        assert_eq!(world.delivery(server).words[0], word);
    }
    fall(&mut world, server);
    assert_eq!(told(&mut world, 3), first, "it dies of the same call");
    assert_eq!(dispose(&mut world, 3), (Some(Disposition::Refused), Some(Kind::Call)));
    assert_eq!(receive(&mut world, client), Kind::Answer);
    assert_eq!((world.delivery(client).token, world.delivery(client).label), (6, u32::MAX));
    world.restart(3);
    receive(&mut world, server);
    assert_eq!(world.delivery(server).words[0], 50, "the other call comes again");
}

#[test]
fn a_programs_call_that_kills_again_fails_with_eio() {
    let (mut world, _, proc, program) = World::with_program();
    assert_eq!(world.linux(&program, WAIT4, &[]), None);
    assert_eq!(receive(&mut world, proc), Kind::Foreign);
    fall(&mut world, proc);
    assert_eq!(told(&mut world, 3).culprit, program.badge as u32, "it is known whose call it was");
    dispose(&mut world, 3);
    assert_eq!(world.linux_result(&program), Some(-i64::from(errno::EIO)));
}

#[test]
fn a_program_whose_exit_kills_again_is_ended_in_another_way() {
    let (mut world, _, proc, program) = World::with_program();
    assert_eq!(world.linux(&program, EXIT_GROUP, &[]), None);
    receive(&mut world, proc);
    fall(&mut world, proc);
    dispose(&mut world, 3);
    assert_eq!(world.linux_result(&program), None, "it does not run on");
    world.restart(3);
    let id = world.kernel.server_of(proc).unwrap();
    world.kernel.servers.get_mut(id).unwrap().journal.as_mut().unwrap().cursor = None;
    assert_eq!(receive(&mut world, proc), Kind::Fault);
    assert_eq!(world.delivery(proc).label, FaultKind::Lost as u32);
}

#[test]
fn an_exit_whose_effect_is_refused_goes_on_without_it() {
    let (mut world, _, proc, program) = World::with_program();
    assert_eq!(world.linux(&program, EXIT_GROUP, &[]), None);
    receive(&mut world, proc);
    assert_eq!(world.trap(proc, Syscall::TaskKill, &[999]), Some(Err(KernelError::BadHandle)));
    fall(&mut world, proc);
    assert_eq!(dispose(&mut world, 3).0, Some(Disposition::LeftOut));
}

#[test]
fn a_page_fault_that_kills_again_goes_to_the_process_server() {
    let (mut world, vm, proc, program) = World::with_program();
    let thread = world.thread_of(program.task);
    world.run_trap(thread, Trap::PageFault { address: 0x5000, access: 1 });
    assert_eq!(receive(&mut world, vm), Kind::Fault);
    fall(&mut world, vm);
    dispose(&mut world, 2);
    assert_eq!(receive(&mut world, proc), Kind::Fault);
    let delivery = world.delivery(proc);
    assert_eq!((delivery.label, delivery.words[0]), (FaultKind::Page as u32, 0x5000));
}

#[test]
fn a_fault_that_kills_the_process_server_ends_the_process_and_else_stops_the_thread() {
    let (mut world, _, proc, program) = World::with_program();
    let thread = world.thread_of(program.task);
    world.run_trap(thread, Trap::Exception { vector: 0, code: 0 });
    receive(&mut world, proc);
    fall(&mut world, proc);
    dispose(&mut world, 3);
    world.restart(3);
    world.kernel.unqueue(thread);
    // The journal of the test's set-up comes first.
    let id = world.kernel.server_of(proc).unwrap();
    world.kernel.servers.get_mut(id).unwrap().journal.as_mut().unwrap().cursor = None;
    assert_eq!(receive(&mut world, proc), Kind::Fault);
    assert_eq!(world.delivery(proc).label, FaultKind::Lost as u32);
    fall(&mut world, proc);
    dispose(&mut world, 3);
    let state = world.kernel.threads.get(thread).unwrap();
    assert!(state.stopped && !state.is_runnable(), "it does not fault for ever");
    assert_eq!(world.kernel.calls.used(), 0);
}

#[test]
fn a_death_in_the_middle_of_a_replay_is_no_events_fault() {
    let (mut world, client, server) = World::two([true, true]);
    for word in [50, 60] {
        send(&mut world, client, 5, word);
        receive(&mut world, server);
        let token = world.delivery(server).token;
        world.ok(server, Syscall::Reply, &[token, info(0, 0, 0)]);
    }
    fall(&mut world, server);
    world.restart(3);
    receive(&mut world, server);
    fall(&mut world, server);
    assert!(!told(&mut world, 3).disposable);
}

#[test]
fn a_journal_that_stays_full_is_one_death_that_repeats() {
    let (mut world, client, server) = World::two([true, true]);
    let id = world.kernel.server_of(server).unwrap();
    let mut falls = Vec::new();
    for word in 0..3 {
        let journal = world.kernel.servers.get_mut(id).unwrap().journal.as_mut().unwrap();
        journal.end = journal.memory.bytes() - 8;
        journal.cursor = None;
        assert_eq!(world.trap(server, Syscall::Receive, &[]), None);
        send(&mut world, client, 5, word);
        falls.push(told(&mut world, 3));
        world.restart(3);
    }
    assert!(
        falls.iter().all(|fall| *fall == falls[0] && fall.fault == Fault::JournalFull && !fall.disposable)
    );
}

#[test]
fn the_machine_stops_when_root_dies_of_one_event_again_and_again() {
    let mut world = World::new();
    let root = world.root;
    let thread = world.thread_of(root);
    for _ in 0..2 {
        world.run_trap(thread, Trap::Exception { vector: 6, code: 0 });
        assert_eq!(world.kernel.server(root).unwrap().state, ServerState::Alive);
    }
    world.kernel.unqueue(thread);
    world.kernel.current = Some(thread);
    let end = world.kernel.trap(Trap::Exception { vector: 6, code: 0 });
    assert_eq!(end, Resume::Off { status: 126, reboot: false });
    let number = world.kernel.server(root).unwrap().number;
    let kept = world.kernel.reproducers.find(1).expect("what it died of is kept");
    assert_eq!(kept.number, number);
    assert!(world.kernel.reproducers.find(2).is_none(), "once, when nothing has helped");
}

#[test]
fn what_a_server_died_of_again_is_kept_and_can_be_read() {
    use libipc::abi::journal::Section;
    let mut world = World::new();
    let (client, server) = (world.server(2, true), world.server(3, true));
    world.grant(2, 0, 3);
    super::history::map_boot_block(&mut world, 3);
    let memory = world.frames(64);
    world.memory(3, 5, memory);
    world.start(3);
    world.start(2);
    world.kernel.put(client, 5, Object::Task(server), Rights::INSPECT).unwrap();
    send(&mut world, client, 5, 50);
    receive(&mut world, server);
    let journal = world.kernel.server(server).unwrap().journal.unwrap();
    let sum = |world: &mut World, section: u64, length: u64| {
        world.trap(client, Syscall::JournalSum, &[5, section, 0, length, 0])
    };
    let wanted = sum(&mut world, Section::Journal as u64, journal.end);
    fall(&mut world, server);
    dispose(&mut world, 3);
    let statistic = |world: &mut World, what, index| world.ok(client, Syscall::Statistics, &[what, index]);
    let places: Vec<_> = (0..8).map(|index| statistic(&mut world, 5, index)).collect();
    let index = places.iter().position(|values| values[0] != 0).expect("one is kept") as u64;
    assert_eq!(places[index as usize][0], 1 | 3 << 32);
    assert_eq!(statistic(&mut world, 5, 8)[0], u64::MAX);
    assert_eq!(statistic(&mut world, 6, index)[..2], [0, journal.end]);
    let kept = Section::Journal as u64 | 1 << 32;
    assert_eq!(
        sum(&mut world, kept, journal.end),
        wanted,
        "it is as it was before the event was disposed of"
    );
    assert_eq!(sum(&mut world, kept, journal.end + 1), Some(Err(KernelError::BadArgument)));
    assert_eq!(sum(&mut world, kept + (1 << 32), 8), Some(Err(KernelError::BadArgument)));
}
