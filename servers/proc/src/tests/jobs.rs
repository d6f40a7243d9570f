//! Job control: sessions, orphaned groups, the terminal.

use libipc::proto::process::BACKGROUND;
use libipc::proto::terminal::{Event, PERMITTED};
use libipc::server::Message;

use super::world::World;

const SIGHUP: u8 = 1;
const SIGINT: u8 = 2;
const SIGCONT: u8 = 18;
const SIGSTOP: u8 = 19;
const SIGTSTP: u8 = 20;
const HANDLER: u64 = 0x5000;
const EIO: i64 = -5;

/// A shell (process 2 here) with a job in a group of its own.
fn with_job() -> (World, u32) {
    let mut world = World::started();
    world.registers(2).rsp = super::world::STACK + 0x8000;
    let job = world.fork(2);
    world.setpgid(2, job, job);
    (world, job)
}

fn background(world: &mut World, tid: u32, what: u64) -> libipc::abi::CallId {
    let message = Message { payload: vec![7], ..Message::words(BACKGROUND, [what, 11, 22, 33]) };
    world.on_behalf(tid, true, message)
}

#[test]
fn what_is_typed_goes_to_the_foreground_group() {
    let (mut world, job) = with_job();
    let second = world.fork(job);
    world.typed(Event::Signal { pgid: job, signal: SIGINT });
    assert!(!world.lives(job) && !world.lives(second) && world.lives(2));
}

#[test]
fn a_suspended_job_stops_and_the_shell_is_told() {
    let (mut world, job) = with_job();
    let wait = world.begin(2, 61, &[-1_i64 as u64, 0, 2, 0]);
    world.run();
    world.typed(Event::Signal { pgid: job, signal: SIGTSTP });
    assert_eq!(world.result(wait), Some(i64::from(job)));
    assert!(!world.runs(job));
}

#[test]
fn a_hangup_reaches_the_sessions_leader() {
    let mut world = World::started();
    world.typed(Event::Hangup { sid: 2 });
    assert_eq!(world.power, Some((128 + 1, false)));
}

#[test]
fn a_newly_orphaned_group_with_a_stopped_member_gets_sighup_then_sigcont() {
    let mut world = World::started();
    let shell = world.fork(2);
    let job = world.fork(shell);
    let fellow = world.fork(job);
    for pid in [job, fellow] {
        assert_eq!(world.setpgid(pid, 0, job), 0);
        world.action(pid, SIGHUP, HANDLER, 0);
        world.registers(pid).rsp = super::world::STACK + 0x8000;
    }
    world.kill_process(2, fellow as i32, SIGSTOP);
    world.exit(shell, 0);
    assert!(world.handles(fellow, HANDLER), "hung up and continued");
    assert!(world.handles(job, HANDLER), "every member is");
}

#[test]
fn a_group_that_was_orphaned_before_gets_nothing() {
    let mut world = World::started();
    let shell = world.fork(2);
    let job = world.fork(shell);
    let fellow = world.fork(job);
    world.setpgid(job, 0, 0);
    world.setpgid(fellow, 0, job);
    world.exit(shell, 0);
    world.kill_process(2, fellow as i32, SIGSTOP);
    world.exit(job, 0);
    assert!(world.lives(fellow) && !world.runs(fellow));
}

#[test]
fn the_exit_of_a_job_that_anchors_another_orphans_it() {
    let mut world = World::started();
    let job = world.fork(2);
    world.setpgid(2, job, job);
    let inner = world.fork(job);
    world.setpgid(job, inner, inner);
    world.kill_process(2, inner as i32, SIGSTOP);
    world.exit(job, 0);
    assert!(!world.lives(inner), "SIGHUP's default");
}

#[test]
fn members_of_an_orphaned_group_do_not_stop_for_the_terminals_signals() {
    let mut world = World::started();
    let outsider = world.outsider();
    for signal in [20, 21, 22] {
        world.kill_process(2, outsider as i32, signal);
        assert!(world.runs(outsider), "{signal}");
    }
    world.kill_process(2, outsider as i32, SIGSTOP);
    assert!(!world.runs(outsider), "SIGSTOP is not the terminal's");
}

#[test]
fn a_background_read_stops_the_group_and_is_made_again() {
    let (mut world, job) = with_job();
    let rip = world.registers(job).rip;
    let call = background(&mut world, job, 1);
    assert_eq!(world.result(call), Some(-4));
    assert_eq!((world.wait(2, -1, 2), world.status()), (Some(i64::from(job)), 0x157f));
    world.kill_process(2, -(job as i32), SIGCONT);
    let registers = *world.registers(job);
    assert_eq!((registers.rip, registers.rax), (rip, super::world::ON_BEHALF));
    assert!(world.runs(job));
}

#[test]
fn a_background_read_with_sigttin_ignored_or_blocked_or_by_an_orphan_is_eio() {
    let (mut world, job) = with_job();
    world.action(job, 21, 1, 0);
    let call = background(&mut world, job, 1);
    assert_eq!(world.result(call), Some(EIO));
    world.action(job, 21, 0, 0);
    world.mask(job, 1 << 20);
    let call = background(&mut world, job, 1);
    assert_eq!(world.result(call), Some(EIO));
    let outsider = world.outsider();
    let call = background(&mut world, outsider, 1);
    assert_eq!(world.result(call), Some(EIO));
}

#[test]
fn a_background_write_with_sigttou_ignored_goes_back_to_tty_with_what_tty_sent() {
    let (mut world, job) = with_job();
    world.action(job, 22, 1, 0);
    background(&mut world, job, 2);
    let expected = Message { payload: vec![7], ..Message::words(PERMITTED, [2, 11, 22, 33]) };
    assert_eq!(world.forwarded, [expected]);
    let (mut world, job) = with_job();
    background(&mut world, job, 3);
    assert_eq!((world.wait(2, -1, 2), world.status()), (Some(i64::from(job)), 0x167f));
    let outsider = world.outsider();
    let call = background(&mut world, outsider, 2);
    assert_eq!(world.result(call), Some(EIO));
}

#[test]
fn a_background_reader_with_a_handler_is_interrupted_by_it() {
    let (mut world, job) = with_job();
    world.registers(job).rsp = super::world::STACK + 0x8000;
    world.action(job, 21, HANDLER, 0);
    let call = background(&mut world, job, 1);
    assert_eq!(world.result(call), Some(-4));
    assert!(world.handles(job, HANDLER));
}

#[test]
fn a_session_leaders_exit_releases_the_terminal_and_hangs_up_the_foreground_group() {
    let mut world = World::new();
    world.spawn(false);
    let job = world.fork(2);
    world.setpgid(2, job, job);
    world.kill_process(2, job as i32, SIGSTOP);
    world.foreground = job;
    world.exit(2, 0);
    assert_eq!(world.ended_sessions, [2]);
    assert!(!world.lives(job));
}

#[test]
fn a_group_lives_on_after_its_leader_is_reaped_and_can_be_signalled() {
    let mut world = World::started();
    let leader = world.fork(2);
    world.setpgid(2, leader, leader);
    let member = world.fork(leader);
    world.exit(leader, 0);
    world.wait(2, leader as i32, 0);
    assert_eq!(world.kill_process(2, -(leader as i32), 0), 0);
    assert_eq!(world.kill_process(2, -(leader as i32), 15), 0);
    assert!(!world.lives(member));
    assert_eq!(world.kill_process(2, -(leader as i32), 0), -3);
}
