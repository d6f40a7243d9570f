//! Signals as programs see them.

use libipc::abi::syscall::Restart;
use libipc::proto::space;
use libipc::server::{Event, Message};

use super::world::{DATA, STACK, World};
use crate::memory::{half_at, word_at};

pub const SIGUSR1: u8 = 10;
const SIGSEGV: u8 = 11;
const SIGCHLD: u8 = 17;
const SIGCONT: u8 = 18;
const SIGSTOP: u8 = 19;
pub const HANDLER: u64 = 0x5000;

/// A world whose first program has a stack and a handler for SIGUSR1, and a child to send from.
pub fn with_handler(flags: u64) -> (World, u32) {
    let mut world = World::started();
    world.registers(2).rsp = STACK + 0x8000;
    let child = world.fork(2);
    world.action(2, SIGUSR1, HANDLER, flags);
    (world, child)
}

#[test]
fn a_signal_to_oneself_is_taken_before_kill_returns() {
    let (mut world, _) = with_handler(0);
    let after = world.registers(2).rip + 2;
    world.kill_process(2, 2, SIGUSR1);
    assert!(world.handles(2, HANDLER));
    world.sigreturn(2);
    let registers = *world.registers(2);
    assert_eq!((registers.rip, registers.rax), (after, 0));
}

#[test]
fn a_handlers_frame_is_on_the_stack_and_its_signal_blocked_meanwhile() {
    let (mut world, child) = with_handler(0);
    world.kill_process(child, 2, SIGUSR1);
    let frame = world.registers(2).rsp;
    let info = world.peek(frame + 312, 24);
    assert_eq!([half_at(&info, 0), half_at(&info, 8), half_at(&info, 16)], [10, 0, child]);
    assert_eq!(word_at(&world.peek(frame, 8), 0), 0x40_2000, "the restorer");
    world.kill_process(child, 2, SIGUSR1);
    assert_eq!(world.registers(2).rsp, frame, "the second waits");
    world.sigreturn(2);
    assert!(world.handles(2, HANDLER), "and comes then");
    world.sigreturn(2);
    assert!(!world.handles(2, HANDLER));
}

#[test]
fn sa_nodefer_lets_the_signal_interrupt_its_own_handler() {
    let (mut world, child) = with_handler(0x4000_0000);
    world.kill_process(child, 2, SIGUSR1);
    let outer = world.registers(2).rsp;
    world.kill_process(child, 2, SIGUSR1);
    assert!(world.registers(2).rsp < outer);
}

#[test]
fn sa_resethand_runs_the_handler_once() {
    let (mut world, child) = with_handler(0x8000_0000);
    world.kill_process(child, 2, SIGUSR1);
    assert!(world.handles(2, HANDLER));
    world.sigreturn(2);
    world.kill_process(child, 2, SIGUSR1);
    assert!(!world.lives(2));
}

#[test]
fn several_signals_at_once_give_one_frame_on_top_of_the_other() {
    let (mut world, child) = with_handler(0);
    world.action(2, 12, 0x6000, 0);
    world.mask(2, 1 << 9 | 1 << 11);
    world.kill_process(child, 2, 12);
    world.kill_process(child, 2, SIGUSR1);
    world.mask(2, 0);
    assert!(world.handles(2, 0x6000), "the lower number's frame was laid first");
    world.sigreturn(2);
    assert!(world.handles(2, HANDLER));
    world.sigreturn(2);
    assert!(!world.handles(2, HANDLER) && !world.handles(2, 0x6000));
}

#[test]
fn a_missing_stack_page_delays_the_handler_and_a_bad_stack_is_sigsegv() {
    let (mut world, child) = with_handler(0);
    world.script.miss_next = true;
    world.kill_process(child, 2, SIGUSR1);
    assert!(world.handles(2, HANDLER));
    let (mut world, child) = with_handler(0);
    world.registers(2).rsp = 0x5000_0000;
    world.kill_process(child, 2, SIGUSR1);
    assert_eq!(world.power, Some((128 + 11, false)));
}

#[test]
fn a_handler_outside_of_what_programs_have_is_sigsegv() {
    let (mut world, child) = with_handler(0);
    world.action(2, SIGUSR1, 1 << 63, 0);
    world.kill_process(child, 2, SIGUSR1);
    assert_eq!(world.power, Some((128 + 11, false)));
}

#[test]
fn sigsegv_for_a_bad_stack_is_handled_on_the_alternate_stack() {
    let (mut world, child) = with_handler(0);
    world.action(2, SIGSEGV, 0x6000, 0x0800_0000);
    let words = [STACK + 0x2000, 0, 0x2000];
    let bytes: Vec<u8> = words.iter().flat_map(|word: &u64| word.to_le_bytes()).collect();
    world.poke(DATA + 900, &bytes);
    assert_eq!(world.syscall(2, 131, &[DATA + 900, 0]), Some(0));
    world.registers(2).rsp = 0x5000_0000;
    world.kill_process(child, 2, SIGUSR1);
    assert!(world.handles(2, 0x6000));
    assert!((STACK + 0x2000..STACK + 0x4000).contains(&world.registers(2).rsp));
    assert_eq!(world.syscall(2, 131, &[DATA + 900, 0]), Some(-1), "not while running on it");
}

#[test]
fn a_frame_that_makes_no_sense_is_sigsegv() {
    let (mut world, child) = with_handler(0);
    world.kill_process(child, 2, SIGUSR1);
    world.registers(2).rsp = STACK + 0x100;
    world.poke(STACK + 0xf8, &[0xff; 440]);
    world.syscall(2, 15, &[]);
    assert_eq!(world.power, Some((128 + 11, false)));
}

#[test]
fn an_exception_runs_its_handler_and_blocked_or_ignored_it_kills() {
    let mut world = World::started();
    world.registers(2).rsp = STACK + 0x8000;
    world.action(2, 8, HANDLER, 0);
    let rip = world.registers(2).rip;
    world.fault(2, 0);
    assert!(world.handles(2, HANDLER));
    let frame = world.registers(2).rsp;
    let info = world.peek(frame + 312, 24);
    assert_eq!((half_at(&info, 8), word_at(&info, 16)), (1, rip), "FPE_INTDIV at the instruction");
    for blocked in [true, false] {
        let mut world = World::started();
        if blocked {
            world.action(2, 8, HANDLER, 0);
            world.mask(2, 1 << 7);
        } else {
            world.action(2, 8, 1, 0);
        }
        world.fault(2, 0);
        assert_eq!(world.power, Some((128 + 8, false)));
    }
}

#[test]
fn a_fault_whose_serving_was_lost_ends_the_process_whatever_handler_it_has() {
    let mut world = World::started();
    world.registers(2).rsp = STACK + 0x8000;
    world.action(2, 8, HANDLER, 0);
    world.fault_of_kind(2, libipc::abi::delivery::FaultKind::Lost, 0);
    assert_eq!(world.power, Some((128 + 9, false)));
}

#[test]
fn a_fault_that_vm_cannot_resolve_is_a_signal_with_its_address() {
    let mut world = World::started();
    world.registers(2).rsp = STACK + 0x8000;
    world.action(2, SIGSEGV, HANDLER, 0);
    world.on_behalf(2, false, Message::words(space::SIGNAL, [11, 2, 0xdead_b000, 0x40_1000]));
    assert!(world.handles(2, HANDLER));
    let frame = world.registers(2).rsp;
    let info = world.peek(frame + 312, 24);
    assert_eq!((half_at(&info, 8), word_at(&info, 16)), (2, 0xdead_b000));
    assert_eq!(word_at(&world.peek(frame + 224, 8), 0), 0xdead_b000, "cr2");
}

#[test]
fn sigsuspend_waits_with_its_mask_and_the_handler_sees_the_old_one() {
    let (mut world, child) = with_handler(0);
    world.mask(2, 1 << 9);
    world.kill_process(child, 2, SIGUSR1);
    assert!(!world.handles(2, HANDLER));
    world.poke(DATA + 900, &0_u64.to_le_bytes());
    let call = world.begin(2, 130, &[DATA + 900, 8]);
    world.run();
    assert_eq!(world.result(call), Some(-4));
    assert!(world.handles(2, HANDLER));
    let frame = world.registers(2).rsp;
    assert_eq!(word_at(&world.peek(frame + 304, 8), 0), 1 << 9);
    world.sigreturn(2);
    assert_eq!(world.proc.threads[&crate::id::Tid(2)].blocked.0, 1 << 9);
    assert_eq!(world.registers(2).rax, -4_i64 as u64, "never made again after a handler");
}

#[test]
fn a_signal_that_does_nothing_does_not_end_pause() {
    let (mut world, child) = with_handler(0);
    let call = world.begin(2, 34, &[]);
    world.run();
    world.kill_process(child, 2, SIGCHLD);
    world.kill_process(child, 2, 28);
    assert_eq!(world.result(call), None);
    world.kill_process(child, 2, SIGUSR1);
    assert_eq!(world.result(call), Some(-4));
}

#[test]
fn sigtimedwait_takes_a_pending_signal_or_waits_for_one() {
    let (mut world, child) = with_handler(0);
    world.mask(2, 1 << 9);
    world.poke(DATA + 900, &(1_u64 << 9).to_le_bytes());
    world.kill_process(child, 2, SIGUSR1);
    assert_eq!(world.syscall(2, 128, &[DATA + 900, DATA + 1000, 0, 8]), Some(10));
    assert_eq!(world.peek32(DATA + 1016), child);
    let call = world.begin(2, 128, &[DATA + 900, DATA + 1000, 0, 8]);
    world.run();
    assert_eq!(world.result(call), None);
    world.kill_process(child, 2, SIGUSR1);
    assert_eq!(world.result(call), Some(10));
    world.poke(DATA + 916, &[0; 16]);
    assert_eq!(world.syscall(2, 128, &[DATA + 900, 0, DATA + 916, 8]), Some(-11), "a zero timeout polls");
    world.poke(DATA + 916, &1_u64.to_le_bytes());
    let call = world.begin(2, 128, &[DATA + 900, 0, DATA + 916, 8]);
    world.run();
    world.pass(1_000_000_000);
    assert_eq!(world.result(call), Some(-11));
}

#[test]
fn a_process_signal_goes_to_a_thread_that_does_not_block_it() {
    let (mut world, child) = with_handler(0);
    let other = world.thread(2);
    world.mask(2, 1 << 9);
    world.registers(other).rsp = STACK + 0x4000;
    world.kill_process(child, 2, SIGUSR1);
    assert!(world.handles(other, HANDLER) && !world.handles(2, HANDLER));
}

#[test]
fn a_signal_left_by_a_thread_that_ends_is_taken_by_another() {
    let (mut world, child) = with_handler(0);
    let other = world.thread(2);
    world.registers(other).rsp = STACK + 0x4000;
    // The first thread's exit has been received when the signal comes, and waits for a page.
    let exit = world.begin_and_miss(2, 60, &[0]);
    world.kill_process(child, 2, SIGUSR1);
    assert!(!world.handles(other, HANDLER), "the first thread was to take it");
    world.step(exit);
    world.run();
    assert!(!world.lives(2) && world.handles(other, HANDLER));
    let (mut world, child) = with_handler(0);
    let other = world.thread(2);
    world.registers(other).rsp = STACK + 0x4000;
    world.mask(other, 1 << 9);
    world.mask(2, 1 << 9);
    world.kill_process(child, 2, SIGUSR1);
    world.exit_thread(2, 0);
    assert!(world.lives(other) && !world.handles(other, HANDLER));
    world.mask(other, 0);
    assert!(world.handles(other, HANDLER));
}

#[test]
fn tgkill_names_thread_and_process_and_tells_si_tkill() {
    let (mut world, child) = with_handler(0);
    let other = world.thread(2);
    world.registers(other).rsp = STACK + 0x4000;
    assert_eq!(world.syscall(child, 234, &[3, u64::from(other), 10]), Some(-3));
    assert_eq!(world.syscall(child, 234, &[2, u64::from(other), 10]), Some(0));
    assert!(world.handles(other, HANDLER));
    let frame = world.registers(other).rsp;
    assert_eq!(half_at(&world.peek(frame + 312, 16), 8) as i32, -6);
    assert_eq!(world.syscall(child, 234, &[2, 0, 10]), Some(-22));
    assert_eq!(world.syscall(child, 200, &[99, 10]), Some(-3));
}

#[test]
fn sigchld_says_who_and_what() {
    let mut world = World::started();
    world.registers(2).rsp = STACK + 0x8000;
    let child = world.fork(2);
    world.action(2, SIGCHLD, HANDLER, 0);
    world.syscall(child, 105, &[33]);
    world.exit(child, 5);
    let frame = world.registers(2).rsp;
    let info = world.peek(frame + 312, 32);
    assert_eq!([0, 8, 16, 20, 24].map(|at| half_at(&info, at)), [17, 1, child, 33, 5]);
}

#[test]
fn sa_nocldstop_sends_no_sigchld_on_a_stop_and_wuntraced_still_reports() {
    for (flags, sent) in [(0, true), (1, false)] {
        let mut world = World::started();
        world.registers(2).rsp = STACK + 0x8000;
        let child = world.fork(2);
        world.action(2, SIGCHLD, HANDLER, flags);
        world.kill_process(2, child as i32, SIGSTOP);
        assert_eq!(world.handles(2, HANDLER), sent);
        assert_eq!(world.wait(2, -1, 2), Some(i64::from(child)));
    }
}

#[test]
fn signals_to_a_stopped_process_stay_pending_and_sigkill_ends_it() {
    let (mut world, _) = with_handler(0);
    let child = world.fork(2);
    world.kill_process(2, child as i32, SIGSTOP);
    world.kill_process(2, child as i32, SIGUSR1);
    assert!(!world.runs(child));
    world.kill_process(2, child as i32, SIGCONT);
    assert!(world.handles(child, HANDLER));
    world.kill_process(2, child as i32, SIGSTOP);
    world.kill_process(2, child as i32, 15);
    assert!(world.lives(child));
    world.kill_process(2, child as i32, 9);
    assert_eq!((world.wait(2, child as i32, 0), world.status()), (Some(i64::from(child)), 9));
}

#[test]
fn sigcont_resumes_even_if_it_is_blocked_ignored_or_caught() {
    for kind in ["blocked", "ignored", "caught"] {
        let mut world = World::started();
        world.registers(2).rsp = STACK + 0x8000;
        let child = world.fork(2);
        match kind {
            "blocked" => world.mask(child, 1 << 17),
            "ignored" => world.action(child, SIGCONT, 1, 0),
            _ => world.action(child, SIGCONT, HANDLER, 0),
        }
        world.kill_process(2, child as i32, SIGSTOP);
        assert!(!world.runs(child));
        world.kill_process(2, child as i32, SIGCONT);
        assert!(world.runs(child), "{kind}");
        assert_eq!(world.handles(child, HANDLER), kind == "caught");
    }
}

#[test]
fn sigkill_takes_back_what_nobody_was_told_of_a_stop_or_a_continue() {
    for continued in [false, true] {
        let mut world = World::started();
        let child = world.fork(2);
        world.kill_process(2, child as i32, SIGSTOP);
        if continued {
            world.kill_process(2, child as i32, SIGCONT);
        }
        // The kill is served before the child comes in for it, and so is the wait behind it.
        let kill = world.begin(2, 62, &[u64::from(child), 9]);
        assert!(world.serve(|event| matches!(event, Event::Call(call) if call.id == kill)));
        let wait = world.begin(2, 61, &[u64::MAX, DATA, 2 | 8 | 1]);
        assert!(world.serve(|event| matches!(event, Event::Call(call) if call.id == wait)));
        assert_eq!(world.result(wait), Some(0), "it has neither stopped nor ended");
        world.run();
        assert_eq!((world.wait(2, -1, 2 | 8), world.status()), (Some(i64::from(child)), 9));
    }
}

#[test]
fn a_stopped_reader_takes_no_input_and_its_call_is_made_again() {
    let mut world = World::started();
    let child = world.fork(2);
    let rip = world.registers(child).rip;
    let call = world.begin(child, 61, &[-1_i64 as u64, 0, 0, 0]);
    world.run();
    assert_eq!(world.result(call), Some(-10));
    let grandchild = world.fork(child);
    let rip = world.registers(child).rip.max(rip);
    let call = world.begin(child, 61, &[-1_i64 as u64, 0, 0, 0]);
    world.run();
    world.kill_process(2, child as i32, SIGSTOP);
    assert_eq!(world.replies[&call].restart, Restart::IfAsked);
    world.exit(grandchild, 0);
    world.kill_process(2, child as i32, SIGCONT);
    let registers = *world.registers(child);
    assert_eq!((registers.rip, registers.rax), (rip, 61));
}

#[test]
fn stop_signals_and_sigcont_cancel_each_other_while_pending() {
    let mut world = World::started();
    let child = world.fork(2);
    world.action(child, SIGCONT, HANDLER, 0);
    world.mask(child, 1 << 19 | 1 << 17);
    let pending = |world: &mut World| {
        world.syscall(child, 127, &[DATA, 8]);
        world.peek32(DATA)
    };
    world.kill_process(2, child as i32, 20);
    assert_eq!(pending(&mut world), 1 << 19);
    world.kill_process(2, child as i32, SIGCONT);
    assert_eq!(pending(&mut world), 1 << 17);
    world.kill_process(2, child as i32, 20);
    assert_eq!(pending(&mut world), 1 << 19);
}

#[test]
fn all_threads_stop_and_the_parent_is_told_when_the_last_has() {
    let mut world = World::started();
    let child = world.fork(2);
    let other = world.thread(child);
    world.silence(other);
    world.kill_process(2, child as i32, SIGSTOP);
    assert!(!world.runs(child));
    assert_eq!(world.wait(2, -1, 2 | 1), Some(0), "one thread has not come in");
    world.speak(other, Restart::Never);
    assert_eq!(world.wait(2, -1, 2 | 1), Some(i64::from(child)));
    assert!(!world.runs(other));
    world.kill_process(2, child as i32, SIGCONT);
    assert!(world.runs(child) && world.runs(other));
}

#[test]
fn a_stop_is_complete_when_the_thread_it_waits_for_ends() {
    let mut world = World::started();
    let child = world.fork(2);
    let other = world.thread(child);
    let exit = world.begin_and_miss(other, 60, &[0]);
    world.kill_process(2, child as i32, SIGSTOP);
    assert_eq!(world.wait(2, -1, 2 | 1), Some(0));
    world.step(exit);
    assert_eq!(world.wait(2, -1, 2 | 1), Some(i64::from(child)));
}

#[test]
fn a_thread_made_while_its_process_is_being_stopped_is_stopped_too() {
    let mut world = World::started();
    let child = world.fork(2);
    world.setpgid(2, child, child);
    let other = world.thread(child);
    world.mask(child, 1 << 19);
    let flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000;
    let clone = world.begin_and_miss(child, 56, &[flags, STACK + 0x4000]);
    world.kill_process(2, child as i32, 20);
    assert!(!world.runs(other), "it took the signal");
    world.step(clone);
    world.run();
    let threads: Vec<u32> = world.tids().into_iter().filter(|tid| *tid >= child).collect();
    assert_eq!((threads.len(), threads.iter().any(|tid| world.runs(*tid))), (3, false));
    assert_eq!(world.wait(2, -1, 2 | 1), Some(i64::from(child)));
}

#[test]
fn a_sleep_that_was_resumed_is_not_resumed_again_in_place_of_another_call() {
    let (mut world, _) = with_handler(0);
    let child = world.fork(2);
    world.poke(DATA + 900, &[1_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat());
    world.begin(child, 35, &[DATA + 900, 0]);
    world.run();
    world.kill_process(2, child as i32, SIGSTOP);
    world.kill_process(2, child as i32, SIGCONT);
    let resumed = world.begin(child, 219, &[]);
    world.run();
    world.pass(1_000_000_000);
    assert_eq!(world.result(resumed), Some(0));
    world.silence(child);
    world.kill_process(2, child as i32, SIGSTOP);
    world.speak(child, Restart::IfNoHandler);
    world.kill_process(2, child as i32, SIGCONT);
    assert_eq!(world.registers(child).rax, u64::from(super::world::moves::SILENT));
}

#[test]
fn a_stop_that_is_continued_before_all_have_come_in_never_happened() {
    let mut world = World::started();
    let child = world.fork(2);
    let other = world.thread(child);
    world.silence(other);
    world.kill_process(2, child as i32, SIGSTOP);
    world.kill_process(2, child as i32, SIGCONT);
    world.speak(other, Restart::Never);
    assert!(world.runs(child) && world.runs(other));
    assert_eq!(world.wait(2, -1, 2 | 8 | 1), Some(i64::from(child)));
    assert_eq!(world.status(), 0xffff);
}

#[test]
fn setting_a_signal_to_be_ignored_discards_it() {
    let (mut world, child) = with_handler(0);
    world.mask(2, 1 << 9);
    world.kill_process(child, 2, SIGUSR1);
    world.action(2, SIGUSR1, 1, 0);
    world.action(2, SIGUSR1, HANDLER, 0);
    world.mask(2, 0);
    assert!(!world.handles(2, HANDLER));
}

#[test]
fn real_time_signals_queue_up_to_the_limit_and_carry_what_was_sent() {
    let (mut world, child) = with_handler(0);
    world.action(2, 40, HANDLER, 0);
    world.mask(2, 1 << 39);
    world.poke(DATA + 1000, &[0; 128]);
    world.poke(DATA + 1008, &(-1_i32).to_le_bytes());
    world.poke(DATA + 1024, &77_u64.to_le_bytes());
    for _ in 0..3 {
        assert_eq!(world.syscall(child, 129, &[2, 40, DATA + 1000]), Some(0));
    }
    world.poke(DATA + 1100, &[3_u64.to_le_bytes(), 3_u64.to_le_bytes()].concat());
    assert_eq!(world.syscall(2, 160, &[11, DATA + 1100]), Some(0));
    assert_eq!(world.syscall(child, 129, &[2, 40, DATA + 1000]), Some(-11));
    world.mask(2, 0);
    for _ in 0..3 {
        assert!(world.handles(2, HANDLER));
        let frame = world.registers(2).rsp;
        assert_eq!(word_at(&world.peek(frame + 312 + 24, 8), 0), 77, "si_value as made");
        world.sigreturn(2);
    }
    assert!(!world.handles(2, HANDLER));
    world.poke(DATA + 1008, &0_i32.to_le_bytes());
    assert_eq!(world.syscall(child, 129, &[2, 40, DATA + 1000]), Some(-1), "no impersonating kill");
}

#[test]
fn only_the_same_user_the_superuser_and_sigcont_in_a_session_may_signal() {
    let mut world = World::started();
    let (one, two) = (world.fork(2), world.fork(2));
    world.syscall(one, 105, &[1000]);
    world.syscall(two, 105, &[1001]);
    assert_eq!(world.kill_process(one, two as i32, SIGUSR1), -1);
    assert_eq!(world.kill_process(one, two as i32, SIGCONT), 0);
    world.syscall(two, 112, &[]);
    assert_eq!(world.kill_process(one, two as i32, SIGCONT), -1);
    assert_eq!(world.kill_process(one, -1, 0), -1, "nobody is left that it may signal");
    assert_eq!(world.kill_process(2, two as i32, SIGUSR1), 0);
    assert_eq!(world.kill_process(2, one as i32, 65), -22);
}

#[test]
fn kill_of_a_zombie_is_zero_and_after_the_reap_esrch() {
    let mut world = World::started();
    let child = world.fork(2);
    world.exit(child, 0);
    assert_eq!(world.kill_process(2, child as i32, 9), 0);
    world.wait(2, -1, 0);
    assert_eq!(world.kill_process(2, child as i32, 9), -3);
}

#[test]
fn nobody_can_signal_init() {
    let mut world = World::started();
    assert_eq!(world.kill_process(2, 1, 9), 0);
    let child = world.fork(2);
    let orphan = world.fork(child);
    world.exit(child, 0);
    world.exit(orphan, 0);
    assert_eq!(world.kill_process(2, orphan as i32, 0), -3, "init still reaps");
}

#[test]
fn a_relative_sleep_tells_what_is_left_and_goes_on_after_a_stop() {
    let (mut world, child) = with_handler(0);
    world.poke(DATA + 900, &[10_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat());
    let call = world.begin(2, 35, &[DATA + 900, DATA + 950]);
    world.run();
    world.pass(4_000_000_000);
    world.kill_process(child, 2, SIGUSR1);
    assert_eq!((world.result(call), world.peek32(DATA + 950)), (Some(-4), 6));
    world.sigreturn(2);
    assert_eq!(world.registers(2).rax, -4_i64 as u64, "a handler ran: not again");
    world.poke(DATA + 900, &[10_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat());
    world.begin(child, 35, &[DATA + 900, 0]);
    world.run();
    world.kill_process(2, child as i32, SIGSTOP);
    world.kill_process(2, child as i32, SIGCONT);
    assert_eq!(world.registers(child).rax, 219);
}
