//! Signals that programs wait for instead of being interrupted: masks for the time of a wait, and signalfd(2).

use libipc::abi::syscall::Restart;

use super::signals::{HANDLER, SIGUSR1, with_handler};
use super::world::{DATA, World};
use crate::memory::word_at;

/// The first program, which blocks SIGUSR1, waits in ppoll(2) with a mask that lets it through.
fn in_masked_wait() -> (World, u32) {
    let (mut world, child) = with_handler(0);
    world.mask(2, 1 << 9);
    world.poke(DATA + 900, &0_u64.to_le_bytes());
    world.begin(2, 271, &[0, 0, 0, DATA + 900, 8]);
    world.run();
    assert_eq!(world.proc.threads[&crate::id::Tid(2)].blocked.0, 0);
    (world, child)
}

#[test]
fn a_wait_with_a_mask_lets_a_signal_through_and_the_handler_returns_to_the_old_mask() {
    let (mut world, child) = in_masked_wait();
    world.kill_process(child, 2, SIGUSR1);
    world.answer_elsewhere(-4, Restart::IfNoHandler);
    assert!(world.handles(2, HANDLER));
    let frame = world.registers(2).rsp;
    assert_eq!(word_at(&world.peek(frame + 304, 8), 0), 1 << 9);
    world.sigreturn(2);
    assert_eq!(world.proc.threads[&crate::id::Tid(2)].blocked.0, 1 << 9);
}

#[test]
fn a_wait_with_a_mask_that_has_an_answer_leaves_the_signal_pending() {
    let (mut world, child) = in_masked_wait();
    world.kill_process(child, 2, SIGUSR1);
    world.answer_elsewhere(1, Restart::Never);
    assert!(world.runs(2) && !world.handles(2, HANDLER));
    assert_eq!(world.registers(2).rax, 1);
    assert_eq!(world.proc.threads[&crate::id::Tid(2)].blocked.0, 1 << 9);
    world.mask(2, 0);
    assert!(world.handles(2, HANDLER));
}

#[test]
fn a_wait_with_a_mask_of_the_wrong_size_is_refused_and_one_without_is_handed_on() {
    let (mut world, _) = with_handler(0);
    world.poke(DATA + 900, &0_u64.to_le_bytes());
    assert_eq!(world.syscall(2, 271, &[0, 0, 0, DATA + 900, 4]), Some(-22));
    world.poke(DATA + 900, &[0; 16]);
    world.begin(2, 270, &[0, 0, 0, 0, 0, DATA + 900]);
    world.run();
    world.answer_elsewhere(0, Restart::Never);
    assert!(world.runs(2));
}

/// The first program blocks SIGUSR1 and reads it from a descriptor instead.
fn with_signalfd() -> (World, u32, u64) {
    let (mut world, child) = with_handler(0);
    world.mask(2, 1 << 9);
    world.poke(DATA + 900, &(1_u64 << 9).to_le_bytes());
    assert_eq!(world.syscall(2, 289, &[u64::MAX, DATA + 900, 8, 0]), Some(3));
    let badge = world.opened.last().unwrap().badge.0;
    (world, child, badge)
}

#[test]
fn a_signal_is_read_from_a_descriptor_with_who_sent_it() {
    let (mut world, child, badge) = with_signalfd();
    let owner = world.opened.last().unwrap().owner;
    world.kill_process(child, 2, SIGUSR1);
    assert_eq!(world.readiness.get(&owner), Some(&libipc::abi::Readiness::IN));
    let call = world.call_session(2, badge, 0, 0, &[3, DATA + 2048, 1024]);
    assert_eq!(world.result(call), Some(128));
    assert_eq!([0, 8, 12].map(|at| world.peek32(DATA + 2048 + at)), [10, 0, child]);
    assert_eq!(world.readiness.get(&owner), Some(&libipc::abi::Readiness::empty()));
    let call = world.call_session(2, badge, 0x800, 0, &[3, DATA + 2048, 1024]);
    assert_eq!(world.result(call), Some(-11), "it was taken");
}

#[test]
fn a_read_of_signals_waits_for_one_and_another_signals_handler_interrupts_it() {
    let (mut world, child, badge) = with_signalfd();
    let call = world.call_session(2, badge, 0, 0, &[3, DATA + 2048, 128]);
    world.kill_process(child, 2, SIGUSR1);
    assert_eq!((world.result(call), world.peek32(DATA + 2048)), (Some(128), 10));
    world.action(2, 12, HANDLER, 0);
    let call = world.call_session(2, badge, 0, 0, &[3, DATA + 2048, 128]);
    world.kill_process(child, 2, 12);
    assert_eq!(world.result(call), Some(-4));
    assert!(world.handles(2, HANDLER));
}

#[test]
fn a_signal_descriptor_refuses_what_it_is_not() {
    let (mut world, _, badge) = with_signalfd();
    assert_eq!(world.syscall(2, 289, &[u64::MAX, DATA + 900, 4, 0]), Some(-22));
    assert_eq!(world.syscall(2, 289, &[u64::MAX, DATA + 900, 8, 1]), Some(-22));
    assert_eq!(world.syscall(2, 289, &[7, DATA + 900, 8, 0]), Some(-9), "nothing is open there");
    let call = world.call_session(2, badge, 0, 0, &[3, DATA + 2048, 127]);
    assert_eq!(world.result(call), Some(-22));
    let call = world.call_session(2, badge, 0, 1, &[3, DATA + 2048, 128]);
    assert_eq!(world.result(call), Some(-22));
    let owner = world.opened.last().unwrap().owner;
    world.step(libipc::server::Event::LastClose { badge: libipc::abi::Badge(badge), owner });
    assert!(world.proc.signal_files.is_empty());
}
