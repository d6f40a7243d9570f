//! The end of threads and processes, and who inherits what.

use libipc::abi::TaskWord;
use libipc::abi::delivery::FaultKind;
use libipc::linux::signal::SIGKILL;
use libipc::server::effect::{Effect, Operation};
use libipc::server::{Event, Server};

use super::world::{DATA, STACK, World};
use crate::id::{Pid, Tid};

const ECHILD: Option<i64> = Some(-10);
const SIGCHLD: u8 = 17;
const WEXITED: u32 = 4;
const SUBREAPER: u64 = 36;
const PDEATHSIG: u64 = 1;

/// Sets up an empty robust list of one futex that a thread holds, at a place of its own. Answers the futex's address.
fn robust_futex(world: &mut World, tid: u32, at: u64, waiters: bool) -> u64 {
    let (entry, word) = (at + 64, at + 80);
    world.poke(at, &entry.to_le_bytes());
    world.poke(at + 8, &16_u64.to_le_bytes());
    world.poke(at + 16, &0_u64.to_le_bytes());
    world.poke(entry, &at.to_le_bytes());
    world.poke(word, &(tid | if waiters { 1 << 31 } else { 0 }).to_le_bytes());
    assert_eq!(world.syscall(tid, 273, &[at, 24]), Some(0));
    word
}

#[test]
fn an_exit_of_a_process_that_is_not_known_is_answered_and_not_dropped() {
    let mut world = World::started();
    let call = world.begin(2, 231, &[0]);
    let event = world.queue.pop_front().expect("a call is queued");
    // As something that writes over this server's memory might have it.
    world.proc.processes.remove(&Pid(2));
    let effects = world.proc.step(&event, &mut world.script);
    let answers = |effect: &Effect| matches!(effect, Effect::ReplyForeign { call: id, .. } if *id == call);
    assert!(effects.list.iter().any(answers), "{:?}", effects.list);
}

#[test]
fn the_first_program_is_process_2_and_leads_its_session_and_group() {
    let world = World::started();
    let words =
        [TaskWord::Pid, TaskWord::ParentPid, TaskWord::Pgid, TaskWord::Sid].map(|word| world.word(2, word));
    assert_eq!(words, [2, 1, 2, 2]);
    let slots: Vec<u32> = world.descriptors.iter().map(|(_, slot, _)| *slot).collect();
    assert_eq!(slots, [0x8000_0000, 0x8000_0001, 0, 1, 2]);
}

#[test]
fn the_end_of_the_first_program_turns_the_machine_off_with_its_status() {
    let mut world = World::started();
    world.exit(2, 7);
    assert_eq!(world.power, Some((7, false)));
    let mut world = World::started();
    world.fault(2, 13);
    assert_eq!(world.power, Some((128 + 11, false)));
    let mut world = World::new();
    world.spawn(false);
    world.exit(2, 7);
    assert_eq!(world.power, None);
}

#[test]
fn a_process_whose_task_or_thread_is_gone_has_been_killed_and_its_parent_is_told() {
    const KILLED: u32 = 9;
    for task in [true, false] {
        let mut world = World::started();
        let child = world.fork(2);
        let wait = world.begin(2, 61, &[u64::from(child), DATA, 0, 0]);
        world.run();
        assert_eq!(world.result(wait), None);
        let handle = if task { world.task(child) } else { world.handle(child) };
        world.step(Event::Lost { handle });
        world.run();
        assert_eq!(world.result(wait), Some(i64::from(child)));
        assert_eq!(world.peek32(DATA), KILLED);
        // What it was is nobody's name any more.
        world.step(Event::Lost { handle });
        assert!(world.lives(2));
    }
}

#[test]
fn a_lost_thread_that_is_not_known_ends_its_process_and_the_parent_is_told() {
    let mut world = World::started();
    let child = world.fork(2);
    let thread = world.thread(child);
    let wait = world.begin(2, 61, &[u64::from(child), DATA, 0, 0]);
    world.run();
    world.proc.threads.remove(&Tid(thread));
    world.proc.processes.get_mut(&Pid(child)).unwrap().threads.remove(&Tid(thread));
    world.fault_of_kind(thread, FaultKind::Lost, 0);
    assert_eq!(world.result(wait), Some(i64::from(child)));
    assert_eq!(world.peek32(DATA), u32::from(SIGKILL));
}

#[test]
fn everything_is_given_back_when_all_have_ended() {
    let mut world = World::started();
    let child = world.fork(2);
    world.thread(child);
    world.exec(child);
    world.fork(child);
    for tid in world.tids().into_iter().rev() {
        if world.runs(tid) {
            world.exit(tid, 0);
        }
    }
    assert!(world.tids().is_empty());
    let proc = &world.proc;
    assert_eq!((proc.processes.len(), proc.threads.len(), proc.calls.len()), (1, 0, 0));
    assert_eq!((proc.spaces.len(), proc.actions.len(), proc.programs.len()), (0, 0, 0));
    assert_eq!((proc.jobs.len(), proc.timers.len(), proc.groups.len()), (0, 0, 1));
    assert_eq!((world.spaces.len(), world.leaked_calls()), (0, 0));
}

#[test]
fn descriptors_are_closed_before_a_wait_returns() {
    let mut world = World::started();
    let child = world.fork(2);
    let wait = world.begin(2, 61, &[-1_i64 as u64, 0, 0, 0]);
    world.run();
    world.log.clear();
    world.exit(child, 0);
    let place = |wanted: &dyn Fn(&Effect) -> bool| world.log.iter().position(wanted).expect("it happens");
    let killed = place(&|effect| matches!(effect, Effect::Do(Operation::TaskKill { .. })));
    let told = place(&|effect| matches!(effect, Effect::ReplyForeign { call, .. } if *call == wait));
    assert!(killed < told);
}

#[test]
fn with_the_leader_gone_and_others_alive_it_is_not_waitable_and_the_last_code_wins() {
    let mut world = World::started();
    let child = world.fork(2);
    let other = world.thread(child);
    world.exit_thread(child, 3);
    assert_eq!(world.wait(2, -1, 1), Some(0));
    assert_eq!(world.kill_process(2, child as i32, 0), 0);
    assert_eq!(world.syscall(2, 200, &[u64::from(child), 10]), Some(0), "its number is still its process's");
    world.exit_thread(other, 5);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 0x500));
}

#[test]
fn of_two_exit_groups_racing_exactly_one_code_counts() {
    let mut world = World::started();
    let child = world.fork(2);
    let other = world.thread(child);
    let first = world.begin(other, 231, &[11]);
    let second = world.begin(child, 231, &[22]);
    world.run();
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 11 << 8));
    assert!(world.result(first).is_some() && world.result(second).is_none());
    assert_eq!(world.leaked_calls(), 0);
}

#[test]
fn an_exit_group_after_a_fatal_signal_was_taken_changes_nothing() {
    let mut world = World::started();
    let child = world.fork(2);
    let other = world.thread(child);
    robust_futex(&mut world, other, DATA + 4096, false);
    world.begin(other, 34, &[]);
    world.run();
    world.kill_process(2, child as i32, 9);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 9));
}

#[test]
fn a_second_exit_while_the_last_writes_are_under_way_changes_nothing() {
    let mut world = World::started();
    let child = world.fork(2);
    let other = world.thread(child);
    robust_futex(&mut world, child, DATA + 4096, false);
    world.begin(child, 231, &[1]);
    world.begin(other, 231, &[2]);
    world.run();
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 0x100));
    assert_eq!(world.leaked_calls(), 0);
}

#[test]
fn orphans_of_a_thread_go_to_another_thread_of_the_parent() {
    let mut world = World::started();
    let other = world.thread(2);
    let child = world.fork(other);
    world.exit_thread(other, 0);
    assert_eq!(world.wait(2, -1, 0x2000_0000 | 1), Some(0), "it is the first thread's own child now");
    world.exit(child, 1);
    assert_eq!(world.wait(2, -1, 0x2000_0000), Some(i64::from(child)));
}

#[test]
fn orphans_of_a_process_go_to_the_nearest_subreaper() {
    let mut world = World::started();
    assert_eq!(world.prctl(2, SUBREAPER, 1), 0);
    let middle = world.fork(2);
    let child = world.fork(middle);
    let grandchild = world.fork(child);
    world.exit(child, 0);
    assert_eq!(world.word(grandchild, TaskWord::ParentPid), 2);
    world.exit(grandchild, 6);
    assert_eq!((world.wait(2, grandchild as i32, 0), world.status()), (Some(i64::from(grandchild)), 0x600));
}

#[test]
fn orphans_without_a_subreaper_go_to_init_which_reaps_them() {
    let mut world = World::started();
    let middle = world.fork(2);
    let child = world.fork(middle);
    world.exit(middle, 0);
    assert_eq!(world.word(child, TaskWord::ParentPid), 1);
    world.exit(child, 6);
    assert_eq!(world.kill_process(2, child as i32, 0), -3);
}

#[test]
fn the_subreaper_flag_is_not_inherited_by_fork_and_survives_exec() {
    let mut world = World::started();
    world.prctl(2, SUBREAPER, 1);
    let flag = |world: &mut World, tid: u32| {
        world.prctl(tid, 37, DATA + 512);
        world.peek32(DATA + 512)
    };
    let child = world.fork(2);
    assert_eq!((flag(&mut world, 2), flag(&mut world, child)), (1, 0));
    world.exec(2);
    assert_eq!(flag(&mut world, 2), 1);
}

#[test]
fn a_dying_parents_zombies_move_on_and_stay_reapable() {
    let mut world = World::started();
    world.prctl(2, SUBREAPER, 1);
    world.action(2, SIGCHLD, 0x5000, 0);
    world.registers(2).rsp = STACK + 0x8000;
    let middle = world.fork(2);
    let zombie = world.fork(middle);
    world.exit(zombie, 8);
    world.exit(middle, 0);
    assert!(world.handles(2, 0x5000));
    assert_eq!((world.wait(2, zombie as i32, 0), world.status()), (Some(i64::from(zombie)), 0x800));
    assert_eq!(world.wait(2, middle as i32, 0), Some(i64::from(middle)));
}

#[test]
fn an_adopted_zombie_answers_the_wait_of_its_new_parent() {
    let mut world = World::started();
    world.prctl(2, SUBREAPER, 1);
    let middle = world.fork(2);
    let zombie = world.fork(middle);
    world.exit(zombie, 8);
    let waiter = world.thread(2);
    let any = world.begin(waiter, 61, &[-1_i64 as u64, 0, 0, 0]);
    world.run();
    world.exit(middle, 0);
    assert!([i64::from(zombie), i64::from(middle)].contains(&world.result(any).unwrap()));
}

#[test]
fn whoever_adopts_a_child_is_told_of_its_end_as_of_any() {
    let mut world = World::started();
    world.prctl(2, SUBREAPER, 1);
    let middle = world.fork(2);
    let child = world.syscall(middle, 56, &[10, 0]).unwrap() as u32;
    world.exit(middle, 0);
    world.wait(2, middle as i32, 0);
    world.exit(child, 3);
    assert_eq!(world.wait(2, -1, 0), Some(i64::from(child)), "no longer a clone child");
}

#[test]
fn a_zombie_adopted_by_one_who_ignores_sigchld_vanishes() {
    let mut world = World::started();
    world.prctl(2, SUBREAPER, 1);
    let middle = world.fork(2);
    let zombie = world.fork(middle);
    world.exit(zombie, 8);
    world.action(2, SIGCHLD, 1, 0);
    world.exit(middle, 0);
    assert_eq!(world.wait(2, -1, 0), ECHILD);
    assert_eq!(world.kill_process(2, zombie as i32, 0), -3);
}

#[test]
fn the_parent_death_signal_comes_when_the_creating_thread_exits() {
    let mut world = World::started();
    let other = world.thread(2);
    let child = world.fork(other);
    world.prctl(child, PDEATHSIG, 15);
    let bystander = world.fork(2);
    world.prctl(bystander, PDEATHSIG, 15);
    world.exit_thread(other, 0);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 15));
    assert!(world.lives(bystander));
    let grandchild = world.fork(bystander);
    world.prctl(grandchild, PDEATHSIG, 9);
    world.exit(bystander, 0);
    assert!(!world.lives(grandchild));
}

#[test]
fn a_number_is_not_reused_while_it_is_a_zombies_a_groups_or_a_sessions() {
    let mut world = World::started();
    let (zombie, founder) = (world.fork(2), world.fork(2));
    let member = world.fork(founder);
    world.setpgid(founder, 0, 0);
    world.setpgid(founder, member, founder);
    world.exit(zombie, 0);
    world.exit(founder, 0);
    assert_eq!(world.wait(2, founder as i32, 0), Some(i64::from(founder)));
    world.proc.last_pid = zombie - 1;
    let next = world.fork(2);
    assert!(![zombie, founder, member].contains(&next), "{next}");
    world.exit(member, 0);
    world.wait(2, zombie as i32, 0);
    world.proc.last_pid = zombie - 1;
    assert_eq!(world.fork(2), zombie);
    assert_eq!(world.fork(2), founder);
}

#[test]
fn numbers_start_again_after_the_highest() {
    let mut world = World::started();
    world.proc.last_pid = crate::id::PID_MAX - 2;
    assert_eq!(world.fork(2), crate::id::PID_MAX - 1);
    assert_eq!(world.fork(2), crate::id::PID_AGAIN);
}

#[test]
fn clear_child_tid_is_written_and_woken_when_a_thread_ends() {
    let mut world = World::started();
    let word = DATA + 4096;
    let flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x20_0000;
    let thread = world.syscall(2, 56, &[flags, STACK + 0x4000, 0, word]).unwrap() as u32;
    world.poke(word, &thread.to_le_bytes());
    let join = world.begin(2, 202, &[word, 0, u64::from(thread), 0, 0, 0]);
    world.run();
    assert_eq!(world.result(join), None);
    world.exit_thread(thread, 0);
    assert_eq!((world.result(join), world.peek32(word)), (Some(0), 0));
    assert!(!world.lives(thread));
    assert_eq!(world.leaked_calls(), 0);
}

#[test]
fn a_join_that_begins_while_the_thread_ends_does_not_sleep_for_ever() {
    let mut world = World::started();
    let word = DATA + 4096;
    let flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x20_0000;
    let thread = world.syscall(2, 56, &[flags, STACK + 0x4000, 0, word]).unwrap() as u32;
    world.poke(word, &thread.to_le_bytes());
    // The word is gathered before the exit is served, and compared after it.
    world.begin(thread, 60, &[0]);
    let join = world.begin(2, 202, &[word, 0, u64::from(thread), 0, 0, 0]);
    world.run();
    assert_eq!(world.result(join), Some(-11));
}

#[test]
fn robust_futexes_of_a_thread_that_ends_are_marked_and_woken() {
    let mut world = World::started();
    let thread = world.thread(2);
    let word = robust_futex(&mut world, thread, DATA + 4096, true);
    let value = world.peek32(word);
    let lock = world.begin(2, 202, &[word, 0, u64::from(value), 0, 0, 0]);
    world.run();
    world.exit_thread(thread, 0);
    assert_eq!(world.result(lock), Some(0));
    assert_eq!(world.peek32(word), 1 << 31 | 1 << 30);
}

#[test]
fn robust_futexes_of_a_killed_process_are_marked_before_its_parent_is_told() {
    let mut world = World::started();
    let killer = world.outsider();
    let child = world.fork(2);
    let word = robust_futex(&mut world, child, DATA + 4096, true);
    world.begin(child, 34, &[]);
    let wait = world.begin(2, 61, &[-1_i64 as u64, 0, 0, 0]);
    world.run();
    world.kill_process(killer, child as i32, 9);
    assert_eq!(world.result(wait), Some(i64::from(child)));
    assert_eq!(world.peek32(word), 1 << 31 | 1 << 30);
}

#[test]
fn a_robust_list_without_end_or_sense_is_left_alone() {
    let mut world = World::started();
    for (first, distance) in [(DATA + 4096 + 64, 3), (DATA + 4096 + 64, 8), (0xdead_0000, 0)] {
        let child = world.fork(2);
        let head = DATA + 4096;
        world.poke(head, &u64::to_le_bytes(first));
        world.poke(head + 8, &i64::to_le_bytes(distance));
        world.poke(head + 64, &(head + 64).to_le_bytes());
        assert_eq!(world.syscall(child, 273, &[head, 24]), Some(0));
        world.exit(child, 0);
        assert_eq!(world.wait(2, -1, 0), Some(i64::from(child)));
    }
}

#[test]
fn a_killed_process_whose_call_is_never_given_back_ends_all_the_same() {
    let mut world = World::started();
    let killer = world.outsider();
    let child = world.fork(2);
    world.silence(child);
    let wait = world.begin(2, 61, &[-1_i64 as u64, DATA, 0, 0]);
    world.run();
    world.kill_process(killer, child as i32, 9);
    assert_eq!(world.result(wait), None);
    world.pass(1_000_000_000);
    assert_eq!((world.result(wait), world.status()), (Some(i64::from(child)), 9));
}

#[test]
fn a_missing_page_at_the_end_of_a_process_costs_nothing_but_time() {
    let mut world = World::started();
    let child = world.fork(2);
    robust_futex(&mut world, child, DATA + 4096, false);
    world.script.miss_next = true;
    world.exit(child, 3);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 0x300));
}

#[test]
fn waitid_tells_the_childs_user() {
    let mut world = World::started();
    let child = world.fork(2);
    assert_eq!(world.syscall(child, 105, &[1000]), Some(0));
    world.exit(child, 0);
    world.waitid(2, 0, 0, WEXITED);
    assert_eq!(world.peek32(DATA + 64 + 20), 1000);
}
