//! Faults, interruption and death of programs.

use libipc::abi::delivery::{Kind, MAKE_CALL, Occasion};
use libipc::abi::foreign::Role;
use libipc::abi::syscall::{Restart, Syscall, When, reply_flags};
use libipc::abi::{Protection, Rights};
use libipc::linux::call::{GETPID, NANOSLEEP, PAUSE, PPOLL};
use libipc::linux::errno;

use super::descriptors::{Linux, linux};
use crate::core::Trap;
use crate::core::object::ThreadState;

#[test]
fn a_page_fault_is_a_call_to_the_pager_and_the_instruction_runs_again() {
    let mut linux = linux();
    let Linux { world, program, vm, .. } = &mut linux;
    let thread = world.thread_of(program.task);
    world.run_trap(thread, Trap::PageFault { address: 0x1234, access: Protection::WRITE.bits() });
    world.ok(*vm, Syscall::Receive, &[]);
    let fault = world.delivery(*vm);
    assert_eq!((fault.kind, fault.label, fault.words[0], fault.words[1]), (Kind::Fault as u32, 1, 0x1234, 2));
    assert_eq!(fault.caller.space, program.badge);
    world.ok(*vm, Syscall::Reply, &[fault.token, 0]);
    assert_eq!(world.kernel.threads.get(thread).unwrap().state, ThreadState::Runnable);
}

#[test]
fn a_queued_call_is_withdrawn_and_starts_again_after_the_handler() {
    let mut linux = linux();
    let Linux { world, program, .. } = &mut linux;
    let proc = world.role(Role::Proc);
    assert_eq!(world.linux(program, PAUSE, &[]), None);
    world.ok(proc, Syscall::ThreadInterrupt, &[program.thread_slot, When::Now as u64]);
    assert!(!world.schedule(program));
    world.ok(proc, Syscall::Receive, &[]);
    let attention = world.delivery(proc);
    assert_eq!(attention.kind, Kind::Attention as u32, "the call itself has gone");
    assert_eq!(attention.words[0], Restart::Always as u64 | u64::from(PAUSE) << 8);
    world.ok(proc, Syscall::Reply, &[attention.token, 0]);
    assert_eq!(world.linux_result(program), Some(-i64::from(errno::EINTR)));
}

#[test]
fn a_call_in_progress_is_cancelled_once_and_its_one_answer_decides() {
    let mut linux = linux();
    let Linux { world, program, vm, .. } = &mut linux;
    let proc = world.role(Role::Proc);
    world.map(*vm, program, 0x10_0000, 1, Protection::READ);
    assert_eq!(world.linux(program, NANOSLEEP, &[0x10_0000, 0]), None);
    world.ok(proc, Syscall::Receive, &[]);
    let token = world.delivery(proc).token;
    world.ok(proc, Syscall::ThreadInterrupt, &[program.thread_slot, When::Now as u64]);
    world.ok(proc, Syscall::Receive, &[]);
    let cancel = world.delivery(proc);
    assert_eq!((cancel.kind, cancel.token), (Kind::Cancel as u32, token));
    let flags = (Restart::IfAsked as u64) << reply_flags::RESTART_SHIFT;
    let eintr = (-i64::from(errno::EINTR)) as u64;
    world.ok(proc, Syscall::ReplyForeign, &[token, flags, eintr, 0, 0]);
    assert!(!world.schedule(program));
    world.ok(proc, Syscall::Receive, &[]);
    let attention = world.delivery(proc);
    assert_eq!(attention.words[0], Restart::IfAsked as u64 | u64::from(NANOSLEEP) << 8);
}

#[test]
fn a_call_with_a_signal_mask_goes_to_the_process_server_which_hands_it_on_and_sees_its_end() {
    let mut linux = linux();
    let Linux { world, program, vm, vfs } = &mut linux;
    let proc = world.role(Role::Proc);
    world.map(*vm, program, 0x10_0000, 1, Protection::READ);
    assert_eq!(world.linux(program, PPOLL, &[0, 0, 0, 0x10_0000, 8]), None);
    world.ok(proc, Syscall::Receive, &[]);
    let delivery = world.delivery(proc);
    assert_eq!((delivery.kind, delivery.label, delivery.words[3]), (Kind::Foreign as u32, 271, 0x10_0000));
    let to = world.inbox(*vfs);
    world.kernel.put(proc, 900, to, Rights::CALL).unwrap();
    world.ok(proc, Syscall::ThreadInterrupt, &[program.thread_slot, When::AfterCall as u64]);
    world.ok(proc, Syscall::Forward, &[delivery.token, 900, u64::MAX]);
    world.ok(*vfs, Syscall::Receive, &[]);
    world.ok(*vfs, Syscall::ReplyForeign, &[delivery.token, 0, 7, 0, 0]);
    assert!(!world.schedule(program));
    world.ok(proc, Syscall::Receive, &[]);
    let attention = world.delivery(proc);
    assert_eq!((attention.kind, attention.words[1]), (Kind::Attention as u32, Occasion::Exit as u64));
    world.ok(proc, Syscall::Reply, &[attention.token, 0]);
    assert_eq!(world.linux_result(program), Some(7));
    assert!(world.schedule(program), "it comes once");
    assert_eq!(world.linux(program, PPOLL, &[0, 0, 0, 0, 8]), None);
    world.ok(*vfs, Syscall::Receive, &[]);
    assert_eq!(world.delivery(*vfs).label, 271, "without a mask nobody else is asked");
}

#[test]
fn a_traced_thread_comes_before_each_call_and_after_it() {
    let mut linux = linux();
    let Linux { world, program, .. } = &mut linux;
    let proc = world.role(Role::Proc);
    world.ok(proc, Syscall::ThreadInterrupt, &[program.thread_slot, When::EachCall as u64]);
    assert!(world.schedule(program), "it runs until it makes a call");
    let came = |world: &mut super::World| {
        world.ok(proc, Syscall::Receive, &[]);
        let attention = world.delivery(proc);
        (attention.token, attention.words[1])
    };
    assert_eq!(world.linux(program, GETPID, &[]), None);
    let (token, occasion) = came(world);
    assert_eq!(occasion, Occasion::Entry as u64);
    world.ok(proc, Syscall::Reply, &[token, u64::from(MAKE_CALL)]);
    assert!(!world.schedule(program), "it makes the call");
    assert_eq!(world.linux_result(program), Some(program.badge as i64));
    assert!(!world.schedule(program), "and comes");
    let (token, occasion) = came(world);
    assert_eq!(occasion, Occasion::Exit as u64);
    world.ok(proc, Syscall::ThreadInterrupt, &[program.thread_slot, When::NoCall as u64]);
    world.ok(proc, Syscall::Reply, &[token, 0]);
    assert!(world.schedule(program));
    assert_eq!(world.linux(program, GETPID, &[]), Some(program.badge as i64), "no more");
}

#[test]
fn a_killed_program_leaves_nothing_behind() {
    let mut linux = linux();
    let Linux { world, program, vm, .. } = &mut linux;
    let proc = world.role(Role::Proc);
    world.map(*vm, program, 0x10_0000, 1, Protection::READ);
    let before = (world.kernel.tasks.used(), world.kernel.threads.used());
    assert_eq!(world.linux(program, NANOSLEEP, &[0x10_0000, 0]), None);
    world.ok(proc, Syscall::Receive, &[]);
    let token = world.delivery(proc).token;
    world.ok(proc, Syscall::TaskKill, &[program.task_slot]);
    assert_eq!((world.kernel.tasks.used() + 1, world.kernel.threads.used() + 1), before);
    world.ok(proc, Syscall::ReplyForeign, &[token, 0, 0, 0, 0]);
    assert_eq!(world.kernel.calls.used(), 0, "the answer into the void ends the call");
    world.ok(*vm, Syscall::SpaceDestroy, &[program.badge]);
    assert!(world.kernel.spaces.used() > 0);
    assert_eq!(
        world.trap(proc, Syscall::ThreadStart, &[program.thread_slot]).map(|result| result.is_err()),
        Some(true)
    );
}

#[test]
fn a_stopped_thread_keeps_its_result_for_later() {
    let mut linux = linux();
    let Linux { world, program, .. } = &mut linux;
    let proc = world.role(Role::Proc);
    assert_eq!(world.linux(program, PAUSE, &[]), None);
    world.ok(proc, Syscall::Receive, &[]);
    let token = world.delivery(proc).token;
    world.ok(proc, Syscall::ThreadStop, &[program.thread_slot]);
    world.ok(proc, Syscall::ReplyForeign, &[token, 0, 5, 0, 0]);
    let thread = world.thread_of(program.task);
    assert!(!world.kernel.threads.get_mut(thread).unwrap().link.is_listed(), "it does not run");
    world.ok(proc, Syscall::ThreadStart, &[program.thread_slot]);
    assert_eq!(world.linux_result(program), Some(5));
    assert!(world.kernel.threads.get_mut(thread).unwrap().link.is_listed());
}

#[test]
fn a_page_that_cannot_be_brought_is_the_process_servers_to_decide_about() {
    let mut linux = linux();
    let Linux { world, program, vm, .. } = &mut linux;
    let proc = world.role(Role::Proc);
    let thread = world.thread_of(program.task);
    world.run_trap(thread, Trap::PageFault { address: 0x1234, access: Protection::READ.bits() });
    world.ok(*vm, Syscall::Receive, &[]);
    let fault = world.delivery(*vm);
    world.ok(*vm, Syscall::Reply, &[fault.token, super::info(5, 0, 0)]);
    world.ok(proc, Syscall::Receive, &[]);
    let told = world.delivery(proc);
    assert_eq!((told.kind, told.label, told.words[0]), (Kind::Fault as u32, 1, 0x1234));
    assert_ne!(world.kernel.threads.get(thread).unwrap().state, ThreadState::Runnable);
    world.ok(proc, Syscall::Reply, &[told.token, 0]);
    assert_eq!(world.kernel.threads.get(thread).unwrap().state, ThreadState::Runnable);
}

#[test]
fn a_fault_that_was_handed_on_and_refused_is_the_process_servers_with_all_that_it_was() {
    let mut linux = linux();
    let Linux { world, program, vm, .. } = &mut linux;
    let proc = world.role(Role::Proc);
    let files = world.server(40, false);
    world.start(40);
    world.kernel.put(*vm, 900, world.inbox(files), Rights::CALL).unwrap();
    let thread = world.thread_of(program.task);
    world.run_trap(thread, Trap::PageFault { address: 0x1234, access: Protection::WRITE.bits() });
    world.ok(*vm, Syscall::Receive, &[]);
    let fault = world.delivery(*vm);
    world.ok(*vm, Syscall::Forward, &[fault.token, 900, super::info(0x101, 0, 0), 7, 8, 9]);
    world.ok(files, Syscall::Receive, &[]);
    let asked = world.delivery(files);
    assert_eq!((asked.label, asked.words[0]), (0x101, 7));
    world.ok(files, Syscall::Reply, &[asked.token, super::info(5, 0, 0)]);
    world.ok(proc, Syscall::Receive, &[]);
    let told = world.delivery(proc);
    assert_eq!((told.kind, told.label, told.words[..2].to_vec()), (Kind::Fault as u32, 1, vec![0x1234, 2]));
    assert_ne!(world.kernel.threads.get(thread).unwrap().state, ThreadState::Runnable);
}

#[test]
fn the_most_pages_that_a_program_had_mapped_are_remembered() {
    let mut linux = linux();
    let Linux { world, program, vm, .. } = &mut linux;
    let proc = world.role(Role::Proc);
    let peak = |world: &mut super::World| world.ok(proc, Syscall::TaskInfo, &[program.task_slot, 0])[2];
    let before = peak(world);
    world.map(*vm, program, 0x10_0000, 5, Protection::READ);
    world.ok(*vm, Syscall::Unmap, &[program.badge, 0x10_0000, 5]);
    world.map(*vm, program, 0x20_0000, 2, Protection::READ);
    assert_eq!(peak(world), before + 5);
}

#[test]
fn a_program_goes_on_with_its_slice_after_a_call() {
    let mut linux = linux();
    let Linux { world, program, vm, .. } = &mut linux;
    let proc = world.role(Role::Proc);
    let thread = world.thread_of(program.task);
    let other = world.program(*vm, proc);
    let second = world.thread_of(other.task);
    for (slice_ns, first) in [(1_000, thread), (0, second)] {
        assert_eq!(world.linux(program, PAUSE, &[]), None);
        world.kernel.unqueue(second);
        world.kernel.make_ready(second);
        world.kernel.threads.get_mut(thread).unwrap().slice_ns = slice_ns;
        world.ok(proc, Syscall::Receive, &[]);
        let token = world.delivery(proc).token;
        world.ok(proc, Syscall::ReplyForeign, &[token, 0, 5, 0, 0]);
        let priority = usize::from(world.kernel.threads.get(thread).unwrap().priority);
        assert_eq!(world.kernel.queues[priority].first(&world.kernel.threads), Some(first));
        world.kernel.unqueue(thread);
    }
}
