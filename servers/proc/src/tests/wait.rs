//! wait4 and waitid, sentence by sentence.

use super::world::{DATA, World};

const WNOHANG: u32 = 1;
const WUNTRACED: u32 = 2;
const WEXITED: u32 = 4;
const WCONTINUED: u32 = 8;
const WNOWAIT: u32 = 0x0100_0000;
const WNOTHREAD: u32 = 0x2000_0000;
const WALL: u32 = 0x4000_0000;
const WCLONE: u32 = 0x8000_0000;
const ECHILD: Option<i64> = Some(-10);
const EINVAL: Option<i64> = Some(-22);
const SIGCHLD: u8 = 17;
const CLONE_PARENT: u64 = 0x8000;

#[test]
fn without_children_a_wait_is_echild_also_with_wnohang() {
    let mut world = World::started();
    assert_eq!(world.wait(2, -1, 0), ECHILD);
    assert_eq!(world.wait(2, -1, WNOHANG), ECHILD);
    assert_eq!(world.waitid(2, 0, 0, WEXITED), ECHILD);
    assert_eq!(world.wait(2, 77, 0), ECHILD);
    assert_eq!(world.wait(2, 1, 0), ECHILD);
}

#[test]
fn wnohang_with_none_ready_is_zero_and_waitid_zeroes_pid_and_signo() {
    let mut world = World::started();
    world.fork(2);
    assert_eq!(world.wait(2, -1, WNOHANG), Some(0));
    assert_eq!(world.waitid(2, 0, 0, WEXITED | WNOHANG), Some(0));
    assert_eq!(world.info(), [0, 0, 0, 0]);
}

#[test]
fn unknown_options_or_none_of_what_to_wait_for_is_einval() {
    let mut world = World::started();
    world.fork(2);
    assert_eq!(world.wait(2, -1, 0x10), EINVAL);
    assert_eq!(world.wait(2, -1, WEXITED), EINVAL);
    assert_eq!(world.wait(2, -1, WNOWAIT), EINVAL);
    assert_eq!(world.waitid(2, 0, 0, 0), EINVAL);
    assert_eq!(world.waitid(2, 0, 0, WNOHANG | WNOWAIT), EINVAL);
    assert_eq!(world.waitid(2, 0, 0, WEXITED | 0x10), EINVAL);
    assert_eq!(world.waitid(2, 9, 0, WEXITED), EINVAL);
    assert_eq!(world.waitid(2, 1, 0, WEXITED), EINVAL);
    assert_eq!(world.waitid(2, 2, -1_i32 as u64, WEXITED), EINVAL);
}

#[test]
fn waitpid_of_int_min_is_esrch_and_a_null_infop_is_allowed() {
    let mut world = World::started();
    let child = world.fork(2);
    assert_eq!(world.wait(2, i32::MIN, 0), Some(-3));
    world.exit(child, 1);
    assert_eq!(world.syscall(2, 247, &[0, 0, 0, u64::from(WEXITED), 0]), Some(0));
    assert_eq!(world.wait(2, -1, 0), ECHILD);
}

#[test]
fn status_words_tell_exit_signal_stop_and_continue() {
    let mut world = World::started();
    let child = world.fork(2);
    world.exit(child, 3);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 0x300));
    let child = world.fork(2);
    world.kill_process(2, child as i32, 15);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 15));
    let child = world.fork(2);
    world.kill_process(2, child as i32, 19);
    assert_eq!((world.wait(2, -1, WUNTRACED), world.status()), (Some(i64::from(child)), 0x137f));
    world.kill_process(2, child as i32, 18);
    assert_eq!((world.wait(2, -1, WCONTINUED), world.status()), (Some(i64::from(child)), 0xffff));
}

#[test]
fn the_core_bit_is_set_when_the_limit_allows_an_image() {
    let mut world = World::started();
    let child = world.fork(2);
    world.kill_process(2, child as i32, 6);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 6));
    world.poke(DATA + 512, &[0xff; 16]);
    assert_eq!(world.syscall(2, 160, &[4, DATA + 512]), Some(0));
    let child = world.fork(2);
    world.kill_process(2, child as i32, 6);
    world.exit(child, 0);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 0x86));
    let child = world.fork(2);
    world.fault(child, 6);
    world.exit(child, 0);
    assert_eq!(world.waitid(2, 0, 0, WEXITED), Some(0));
    assert_eq!(world.info(), [17, 3, child, 4]);
}

#[test]
fn exit_0x1234_gives_0x34_through_waitid_too() {
    let mut world = World::started();
    let child = world.fork(2);
    world.exit(child, 0x1234);
    assert_eq!(world.waitid(2, 0, 0, WEXITED | WNOWAIT), Some(0));
    assert_eq!(world.info(), [17, 1, child, 0x34]);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 0x3400));
}

#[test]
fn wnowait_any_number_of_times_leaves_the_child_reapable() {
    let mut world = World::started();
    let child = world.fork(2);
    world.exit(child, 1);
    for _ in 0..5 {
        assert_eq!(world.waitid(2, 1, u64::from(child), WEXITED | WNOWAIT), Some(0));
        assert_eq!(world.info()[2], child);
    }
    assert_eq!(world.wait(2, child as i32, 0), Some(i64::from(child)));
    assert_eq!(world.waitid(2, 1, u64::from(child), WEXITED | WNOWAIT), ECHILD);
}

#[test]
fn four_threads_waiting_for_one_pid_have_one_winner_and_three_echild() {
    let mut world = World::started();
    let child = world.fork(2);
    let threads = [2, world.thread(2), world.thread(2), world.thread(2)];
    let calls = threads.map(|tid| world.begin(tid, 61, &[u64::from(child), 0, 0, 0]));
    world.run();
    world.exit(child, 0);
    let results = calls.map(|call| world.result(call).expect("none hangs"));
    assert_eq!(results, [i64::from(child), -10, -10, -10]);
}

#[test]
fn any_thread_may_reap_a_child_that_another_thread_forked() {
    let mut world = World::started();
    let threads: Vec<u32> = (0..8).map(|index| if index == 0 { 2 } else { world.thread(2) }).collect();
    let (mut forked, mut reaped) = (Vec::new(), Vec::new());
    for round in 0..40 {
        let children: Vec<u32> = (0..10).map(|index| world.fork(threads[(round + index) % 8])).collect();
        for (index, child) in children.iter().enumerate() {
            let waiter = threads[(round + index * 3 + 1) % 8];
            let call = world.begin(waiter, 61, &[-1_i64 as u64, 0, 0, 0]);
            if index % 2 == 0 {
                world.run();
            }
            world.exit(*child, 0);
            reaped.push(world.result(call).expect("answered") as u32);
        }
        forked.extend(children);
    }
    reaped.sort();
    assert_eq!(reaped, forked);
    assert_eq!(world.wait(2, -1, 0), ECHILD);
}

#[test]
fn wnothread_sees_only_the_callers_own_children() {
    let mut world = World::started();
    let other = world.thread(2);
    let child = world.fork(other);
    assert_eq!(world.wait(2, -1, WNOTHREAD), ECHILD);
    assert_eq!(world.wait(2, child as i32, WNOTHREAD), ECHILD);
    world.exit(child, 0);
    assert_eq!(world.wait(2, -1, WNOTHREAD), ECHILD);
    assert_eq!(world.wait(other, -1, WNOTHREAD), Some(i64::from(child)));
}

#[test]
fn a_child_with_another_exit_signal_is_seen_by_wclone_and_wall_alone() {
    let mut world = World::started();
    let clone = |world: &mut World| world.syscall(2, 56, &[10, 0]).unwrap() as u32;
    let child = clone(&mut world);
    assert_eq!(world.wait(2, -1, 0), ECHILD);
    assert_eq!(world.wait(2, -1, WCLONE | WNOHANG), Some(0));
    world.action(2, 10, 1, 0);
    world.exit(child, 0);
    assert_eq!(world.wait(2, child as i32, 0), ECHILD);
    assert_eq!(world.wait(2, -1, WCLONE), Some(i64::from(child)));
    let child = clone(&mut world);
    world.exit(child, 0);
    assert_eq!(world.wait(2, -1, WALL), Some(i64::from(child)));
    let child = world.fork(2);
    assert_eq!(world.wait(2, -1, WCLONE), ECHILD);
    assert_eq!(world.wait(2, child as i32, WALL | WNOHANG), Some(0));
}

#[test]
fn with_sigchld_ignored_a_wait_blocks_until_all_have_ended_and_is_then_echild() {
    let mut world = World::started();
    world.action(2, SIGCHLD, 1, 0);
    let (first, second) = (world.fork(2), world.fork(2));
    let call = world.begin(2, 61, &[-1_i64 as u64, DATA, 0, 0]);
    world.run();
    world.exit(first, 0);
    assert_eq!(world.result(call), None);
    world.exit(second, 0);
    assert_eq!(world.result(call), ECHILD);
}

#[test]
fn a_zombie_from_before_sig_ign_stays_reapable() {
    let mut world = World::started();
    let child = world.fork(2);
    world.exit(child, 5);
    world.action(2, SIGCHLD, 1, 0);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 0x500));
}

#[test]
fn sa_nocldwait_with_a_handler_leaves_no_zombie_and_still_sends_sigchld() {
    let mut world = World::started();
    world.action(2, SIGCHLD, 0x5000, 2);
    world.registers(2).rsp = super::world::STACK + 0x8000;
    let child = world.fork(2);
    world.exit(child, 0);
    assert!(world.handles(2, 0x5000));
    assert_eq!(world.wait(2, -1, 0), ECHILD);
}

#[test]
fn a_stop_is_reported_once() {
    let mut world = World::started();
    let child = world.fork(2);
    world.kill_process(2, child as i32, 19);
    assert_eq!(world.wait(2, -1, WUNTRACED), Some(i64::from(child)));
    assert_eq!(world.wait(2, -1, WUNTRACED | WNOHANG), Some(0));
}

#[test]
fn stop_then_continue_before_the_wait_reports_only_the_continue() {
    let mut world = World::started();
    let child = world.fork(2);
    world.kill_process(2, child as i32, 19);
    world.kill_process(2, child as i32, 18);
    assert_eq!(world.wait(2, -1, WUNTRACED | WNOHANG), Some(0));
    assert_eq!(world.wait(2, -1, WUNTRACED | WCONTINUED), Some(i64::from(child)));
    assert_eq!(world.status(), 0xffff);
    assert_eq!(world.wait(2, -1, WUNTRACED | WCONTINUED | WNOHANG), Some(0));
}

#[test]
fn five_exits_while_blocked_are_one_sigchld_and_five_reaps() {
    let mut world = World::started();
    world.action(2, SIGCHLD, 0x5000, 0);
    world.registers(2).rsp = super::world::STACK + 0x8000;
    world.mask(2, 1 << (SIGCHLD - 1));
    let children: Vec<u32> = (0..5).map(|_| world.fork(2)).collect();
    children.iter().for_each(|child| world.exit(*child, 0));
    world.mask(2, 0);
    assert!(world.handles(2, 0x5000));
    world.sigreturn(2);
    assert!(!world.handles(2, 0x5000), "the second of five is not queued");
    let reaped: Vec<u32> = (0..5).map(|_| world.wait(2, -1, 0).unwrap() as u32).collect();
    assert_eq!(reaped, children);
    assert_eq!(world.wait(2, -1, 0), ECHILD);
}

#[test]
fn a_handler_without_sa_restart_gives_eintr_and_with_it_the_wait_is_made_again() {
    for (flags, again) in [(0, false), (0x1000_0000, true)] {
        let mut world = World::started();
        world.action(2, 10, 0x5000, flags);
        world.registers(2).rsp = super::world::STACK + 0x8000;
        let child = world.fork(2);
        let call = world.begin(2, 61, &[-1_i64 as u64, DATA, 0, 0]);
        world.run();
        let after = world.registers(2).rip;
        world.kill_process(child, 2, 10);
        assert!(world.handles(2, 0x5000));
        assert_eq!(world.result(call), Some(-4));
        world.sigreturn(2);
        let registers = *world.registers(2);
        let expected = if again { (after - 2, 61) } else { (after, -4_i64 as u64) };
        assert_eq!((registers.rip, registers.rax), expected);
    }
}

#[test]
fn waitpid_of_zero_and_of_minus_pgid_wait_for_that_group() {
    let mut world = World::started();
    let (own, other) = (world.fork(2), world.fork(2));
    assert_eq!(world.setpgid(2, other, 0), 0);
    world.exit(own, 0);
    world.exit(other, 0);
    assert_eq!(world.wait(2, -(other as i32), 0), Some(i64::from(other)));
    assert_eq!(world.wait(2, -(other as i32), 0), ECHILD);
    assert_eq!(world.wait(2, 0, 0), Some(i64::from(own)));
}

#[test]
fn a_wait_is_echild_at_once_when_the_awaited_child_leaves_the_group() {
    let mut world = World::started();
    let child = world.fork(2);
    let waiter = world.thread(2);
    let call = world.begin(waiter, 61, &[0, DATA, 0, 0]);
    world.run();
    assert_eq!(world.result(call), None);
    world.setpgid(child, 0, 0);
    assert_eq!(world.result(call), ECHILD);
}

#[test]
fn a_child_that_joins_a_group_with_news_answers_the_wait_for_that_group() {
    let mut world = World::started();
    let (anchor, child) = (world.fork(2), world.fork(2));
    world.setpgid(2, anchor, 0);
    let waiter = world.thread(2);
    world.kill_process(2, child as i32, 19);
    let call = world.begin(waiter, 61, &[-i64::from(anchor) as u64, DATA, u64::from(WUNTRACED), 0]);
    world.run();
    assert_eq!(world.result(call), None);
    world.setpgid(2, child, anchor);
    assert_eq!(world.result(call), Some(i64::from(child)));
}

#[test]
fn waitid_of_pgid_zero_is_the_own_group() {
    let mut world = World::started();
    let child = world.fork(2);
    world.exit(child, 0);
    assert_eq!(world.waitid(2, 2, 0, WEXITED), Some(0));
    assert_eq!(world.info()[2], child);
}

#[test]
fn a_wait_without_wexited_does_not_count_on_zombies() {
    let mut world = World::started();
    let child = world.fork(2);
    let call = world.begin(2, 247, &[0, 0, DATA, u64::from(WUNTRACED), 0]);
    world.run();
    world.exit(child, 0);
    assert_eq!(world.result(call), ECHILD);
    assert_eq!(world.wait(2, -1, 0), Some(i64::from(child)));
}

#[test]
fn sigchld_comes_with_waitability() {
    let mut world = World::started();
    world.action(2, SIGCHLD, 0x5000, 0);
    world.registers(2).rsp = super::world::STACK + 0x8000;
    let child = world.fork(2);
    world.exit(child, 0);
    assert!(world.handles(2, 0x5000));
    assert_eq!(world.wait(2, -1, WNOHANG), Some(i64::from(child)));
}

#[test]
fn a_fatal_signal_inside_wait_consumes_no_status() {
    let mut world = World::started();
    let middle = world.fork(2);
    let child = world.fork(middle);
    world.prctl(2, 36, 1);
    world.begin(middle, 61, &[-1_i64 as u64, 0, 0, 0]);
    world.run();
    // The kill is sent first; the child ends before the waiter has come in.
    let kill = world.begin(2, 62, &[u64::from(middle), 9]);
    world.begin(child, 231, &[7]);
    while world.result(kill).is_none() {
        world.run_one();
    }
    world.run();
    let reaped = [world.wait(2, -1, 0), world.wait(2, -1, 0)].map(|pid| pid.unwrap() as u32);
    assert!(reaped.contains(&middle));
}

#[test]
fn an_interrupted_wait_consumes_no_status() {
    let mut world = World::started();
    world.action(2, 10, 0x5000, 0);
    world.registers(2).rsp = super::world::STACK + 0x8000;
    let (killer, child) = (world.fork(2), world.fork(2));
    let call = world.begin(2, 61, &[u64::from(child), DATA, 0, 0]);
    world.run();
    world.kill_process(killer, 2, 10);
    assert_eq!(world.result(call), Some(-4));
    world.exit(child, 9);
    world.sigreturn(2);
    assert_eq!((world.wait(2, child as i32, 0), world.status()), (Some(i64::from(child)), 0x900));
}

#[test]
fn there_is_no_false_echild_while_another_thread_does_wnowait_on_the_same_child() {
    let mut world = World::started();
    let child = world.fork(2);
    let [peeker, waiter] = [world.thread(2), world.thread(2)];
    let peek = world.begin(peeker, 247, &[1, u64::from(child), DATA, u64::from(WEXITED | WNOWAIT), 0]);
    let wait = world.begin(waiter, 61, &[u64::from(child), 0, 0, 0]);
    let late = world.begin(2, 247, &[1, u64::from(child), DATA, u64::from(WEXITED | WNOWAIT), 0]);
    world.run();
    world.exit(child, 0);
    assert_eq!(world.result(peek), Some(0));
    assert_eq!(world.result(wait), Some(i64::from(child)));
    assert_eq!(world.result(late), ECHILD, "a child that is reaped is no child");
}

#[test]
fn rusage_of_children_grows_on_reap_alone_and_not_on_wnowait() {
    let mut world = World::started();
    let child = world.fork(2);
    world.exit(child, 0);
    if let Some(process) = world.proc.processes.get_mut(&crate::id::Pid(child)) {
        process.usage = crate::usage::Usage { user_ns: 5_000_000_000, system_ns: 2_000_000, peak_pages: 0 };
    }
    let children = |world: &mut World| {
        assert_eq!(world.syscall(2, 98, &[-1_i64 as u64, DATA + 1024]), Some(0));
        world.peek32(DATA + 1024)
    };
    world.waitid(2, 0, 0, WEXITED | WNOWAIT);
    assert_eq!(children(&mut world), 0);
    assert_eq!(world.syscall(2, 61, &[-1_i64 as u64, 0, 0, DATA + 2048]), Some(i64::from(child)));
    assert_eq!(world.peek32(DATA + 2048), 5, "the wait tells what the child used");
    assert_eq!(children(&mut world), 5);
}

#[test]
fn auto_reaped_children_add_nothing_to_rusage() {
    let mut world = World::started();
    world.action(2, SIGCHLD, 1, 0);
    let child = world.fork(2);
    let grandchild = world.fork(child);
    if let Some(process) = world.proc.processes.get_mut(&crate::id::Pid(child)) {
        process.children_usage = crate::usage::Usage { user_ns: 5_000_000_000, system_ns: 0, peak_pages: 0 };
    }
    world.exit(grandchild, 0);
    world.exit(child, 0);
    assert_eq!(world.syscall(2, 98, &[-1_i64 as u64, DATA + 1024]), Some(0));
    assert_eq!(world.peek32(DATA + 1024), 0);
}

#[test]
fn clone_parent_makes_a_sibling_that_the_callers_parent_reaps() {
    let mut world = World::started();
    let child = world.fork(2);
    let sibling = world.syscall(child, 56, &[CLONE_PARENT | 17, 0]).unwrap() as u32;
    world.exit(sibling, 4);
    assert_eq!(world.wait(child, -1, 0), ECHILD);
    assert_eq!(world.wait(2, sibling as i32, 0), Some(i64::from(sibling)));
}
