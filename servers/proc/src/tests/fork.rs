//! fork, vfork, clone.

use libipc::abi::{Handle, TaskWord};
use libipc::server::effect::{Effect, Operation};
use libipc::server::{Event, Message};

use super::world::{DATA, STACK, World};

const EAGAIN: Option<i64> = Some(-11);
const ENOMEM: Option<i64> = Some(-12);
const EINVAL: Option<i64> = Some(-22);
const VM: u64 = 0x100;
const SIGHAND: u64 = 0x800;
const PIDFD: u64 = 0x1000;
const THREAD: u64 = 0x1_0000;
const CHILD_SETTID: u64 = 0x100_0000;

#[test]
fn the_child_of_a_threaded_process_has_one_thread_and_its_parent_is_the_process() {
    let mut world = World::started();
    let other = world.thread(2);
    let child = world.fork(other);
    assert_eq!(world.word(child, TaskWord::ParentPid), 2);
    assert_eq!(world.proc.processes[&crate::id::Pid(child)].threads.len(), 1);
    world.exit(child, 0);
    assert_eq!(world.wait(2, -1, 0), Some(i64::from(child)));
}

#[test]
fn the_child_goes_on_where_the_parent_called_with_zero_as_result() {
    let mut world = World::started();
    world.registers(2).rbx = 77;
    let child = world.fork(2);
    let (parent, child) = (*world.registers(2), *world.registers(child));
    assert_eq!((child.rip, child.rbx, child.rax), (parent.rip, 77, 0));
}

#[test]
fn a_refused_fork_leaves_nothing_behind_and_its_number_free() {
    for refusal in ["vm", "task", "thread"] {
        let mut world = World::started();
        let before = (world.proc.spaces.len(), world.proc.actions.len(), world.spaces.len());
        let expected = if refusal == "vm" {
            world.vm_fails = Some(12);
            ENOMEM
        } else {
            world.refuse.insert(refusal);
            EAGAIN
        };
        assert_eq!(world.syscall(2, 57, &[]), expected, "{refusal}");
        assert_eq!((world.proc.spaces.len(), world.proc.actions.len(), world.spaces.len()), before);
        assert_eq!((world.proc.processes.len(), world.proc.jobs.len()), (2, 0));
        assert_eq!(world.wait(2, -1, 0), Some(-10));
        assert!(world.tasks.values().filter(|task| task.alive).count() == 1);
    }
}

#[test]
fn a_parent_that_ends_while_its_fork_is_under_way_leaves_no_child() {
    let mut world = World::started();
    let child = world.fork(2);
    world.hold_vm = true;
    world.begin(child, 57, &[]);
    world.run();
    world.kill_process(2, child as i32, 9);
    world.hold_vm = false;
    world.pass(1_000_000_000);
    let held: Vec<_> = world.held.drain(..).collect();
    world.queue.extend(held);
    world.run();
    assert_eq!(world.tids(), [2]);
    assert_eq!((world.spaces.len(), world.proc.jobs.len(), world.leaked_calls()), (1, 0, 0));
}

#[test]
fn a_process_whose_end_is_under_way_has_no_more_children() {
    let mut world = World::started();
    let child = world.fork(2);
    let other = world.thread(child);
    let head = DATA + 4096;
    let list = [head + 64, 16, 0].map(u64::to_le_bytes).concat();
    world.poke(head, &list);
    world.poke(head + 64, &head.to_le_bytes());
    world.poke(head + 80, &other.to_le_bytes());
    world.syscall(other, 273, &[head, 24]);
    world.hold_vm = true;
    world.begin(child, 57, &[]);
    world.run();
    world.begin(other, 231, &[4]);
    world.run_one();
    assert!(world.lives(child), "its last write is under way");
    let held: Vec<_> = world.held.drain(..).collect();
    held.into_iter().for_each(|event| world.queue.push_front(event));
    world.hold_vm = false;
    world.run();
    assert_eq!(
        (world.tids(), world.wait(2, -1, 0), world.status()),
        (vec![2], Some(i64::from(child)), 0x400)
    );
    assert_eq!((world.spaces.len(), world.leaked_calls()), (1, 0));
}

#[test]
fn nobody_escapes_a_signal_to_its_group_by_being_forked() {
    let mut world = World::started();
    let parent = world.fork(2);
    world.setpgid(2, parent, parent);
    world.hold_vm = true;
    world.begin(parent, 57, &[]);
    world.run();
    assert_eq!(world.kill_process(2, -(parent as i32), 15), 0);
    world.hold_vm = false;
    let held: Vec<_> = world.held.drain(..).collect();
    world.queue.extend(held);
    world.run();
    assert_eq!(world.tids(), [2]);
}

#[test]
fn an_embryo_cannot_be_named() {
    let mut world = World::started();
    let other = world.thread(2);
    world.hold_vm = true;
    world.begin(2, 57, &[]);
    world.run();
    let embryo = 4;
    assert_eq!(world.kill_process(other, embryo, 0), -3);
    assert_eq!(world.wait(other, embryo, 0), Some(-10));
    assert_eq!(world.syscall(other, 121, &[embryo as u64]), Some(-3));
    assert_eq!(world.setpgid(other, embryo as u32, 0), -3);
}

#[test]
fn vfork_suspends_the_calling_thread_until_the_child_ends() {
    let mut world = World::started();
    let call = world.begin(2, 58, &[]);
    world.run();
    assert_eq!(world.result(call), None);
    assert_eq!(world.spaces.len(), 1, "memory is shared");
    world.exit(3, 0);
    assert_eq!(world.result(call), Some(3));
    assert_eq!(world.spaces.len(), 1);
    assert_eq!(world.wait(2, -1, 0), Some(3));
}

#[test]
fn vfork_suspends_the_calling_thread_until_the_child_executes() {
    let mut world = World::started();
    let other = world.thread(2);
    let call = world.begin(2, 58, &[]);
    world.run();
    assert!(world.runs(other), "the other threads go on");
    world.exec(4);
    assert_eq!(world.result(call), Some(4));
    assert_eq!(world.spaces.len(), 2);
    world.exit(4, 0);
    assert_eq!(world.spaces.len(), 1);
}

#[test]
fn a_parent_in_vfork_sleeps_on_through_signals_but_not_through_a_fatal_one() {
    let mut world = World::started();
    world.action(2, 10, 0x5000, 0);
    world.registers(2).rsp = STACK + 0x8000;
    let parent = world.fork(2);
    let call = world.begin(parent, 58, &[]);
    world.run();
    world.kill_process(2, parent as i32, 10);
    assert_eq!(world.result(call), None);
    world.kill_process(2, parent as i32, 9);
    assert!(!world.lives(parent));
    assert!(world.lives(parent + 1));
    world.exec(parent + 1);
    world.exit(parent + 1, 0);
    assert_eq!(world.leaked_calls(), 0);
}

#[test]
fn a_parent_in_vfork_whose_call_is_wanted_back_is_said_to_be_kept() {
    let mut world = World::started();
    let call = world.begin(2, 58, &[]);
    world.run();
    world.log.clear();
    world.step(Event::Cancel { call });
    assert!(matches!(world.log[..], [Effect::Park { call: kept, .. }] if kept == call), "{:?}", world.log);
    world.exit(3, 0);
    assert_eq!(world.result(call), Some(3));
}

#[test]
fn flags_that_contradict_each_other_are_einval() {
    let mut world = World::started();
    let pidfd_of_thread = PIDFD | THREAD | SIGHAND | VM;
    let two_at_one_address = PIDFD | 0x10_0000;
    let contradictions = [THREAD, THREAD | VM, SIGHAND, THREAD | SIGHAND, 0x2000_0000];
    for flags in contradictions.into_iter().chain([pidfd_of_thread, two_at_one_address]) {
        assert_eq!(world.syscall(2, 56, &[flags | 17, 0]), EINVAL, "{flags:#x}");
    }
}

#[test]
fn the_childs_number_is_where_it_wants_it_before_it_first_runs() {
    let mut world = World::started();
    world.script.miss_next = false;
    let child =
        world.syscall(2, 56, &[CHILD_SETTID | 0x10_0000 | 17, 0, DATA + 600, DATA + 604]).unwrap() as u32;
    assert_eq!((world.peek32(DATA + 600), world.peek32(DATA + 604)), (child, child));
    let order: Vec<&Effect> = world
        .log
        .iter()
        .filter(|effect| {
            matches!(
                effect,
                Effect::Do(Operation::ThreadStart { .. }) | Effect::Do(Operation::ThreadInterrupt { .. })
            )
        })
        .collect();
    assert!(matches!(
        order[order.len() - 2..],
        [Effect::Do(Operation::ThreadInterrupt { .. }), Effect::Do(Operation::ThreadStart { .. })]
    ));
    assert!(world.runs(child));
}

#[test]
fn clone3_reads_its_arguments_and_refuses_what_it_does_not_know() {
    let mut world = World::started();
    let arguments = |world: &mut World, words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        world.poke(DATA + 1024, &bytes);
        (DATA + 1024, bytes.len() as u64)
    };
    let (at, size) = arguments(&mut world, &[0, 0, 0, 0, 17, STACK + 0x1000, 0x1000, 0]);
    let child = world.syscall(2, 435, &[at, size]).unwrap() as u32;
    assert_eq!(world.registers(child).rsp, STACK + 0x2000);
    assert_eq!(world.syscall(2, 435, &[at, 32]), EINVAL);
    let (at, size) = arguments(&mut world, &[17, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(world.syscall(2, 435, &[at, size]), EINVAL, "the exit signal is not in the flags");
    let (at, size) = arguments(&mut world, &[0, 0, 0, 0, 17, STACK, 0, 0]);
    assert_eq!(world.syscall(2, 435, &[at, size]), EINVAL, "half a stack");
    let (at, size) = arguments(&mut world, &[0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(world.syscall(2, 435, &[at, size]), Some(-7), "a field from the future");
}

#[test]
fn a_thread_has_its_own_stack_and_thread_pointer() {
    let mut world = World::started();
    let flags = VM | 0x200 | 0x400 | SIGHAND | THREAD | 0x8_0000;
    let thread = world.syscall(2, 56, &[flags, STACK + 0x4000, 0, 0, 0x7777_0000]).unwrap() as u32;
    let registers = *world.registers(thread);
    assert_eq!((registers.rsp, registers.fs_base, registers.rax), (STACK + 0x4000, 0x7777_0000, 0));
    assert_eq!(world.word(thread, TaskWord::Pid), 2);
    assert_eq!(world.syscall(2, 56, &[flags, STACK + 0x4000, 0, 0, 1 << 63]), Some(-1));
}

#[test]
fn forked_actions_are_the_childs_own_and_clone_sighand_shares_them() {
    let mut world = World::started();
    world.action(2, 10, 0x5000, 0);
    let child = world.fork(2);
    world.action(child, 10, 1, 0);
    let handler = |world: &mut World, tid: u32| {
        world.syscall(tid, 13, &[10, 0, DATA + 700, 8]);
        world.peek32(DATA + 700)
    };
    assert_eq!((handler(&mut world, 2), handler(&mut world, child)), (0x5000, 1));
    let sharing = world.syscall(2, 56, &[VM | SIGHAND | 17, STACK + 0x4000]).unwrap() as u32;
    world.action(sharing, 10, 0x6000, 0);
    assert_eq!(handler(&mut world, 2), 0x6000);
    world.exec(sharing);
    assert_eq!((handler(&mut world, 2), handler(&mut world, sharing)), (0x6000, 0));
}

#[test]
fn a_spawn_that_fails_says_so_and_leaves_nothing() {
    let mut world = World::new();
    world.vm_fails = Some(8);
    world.spawn(true);
    let answer = world.native.last().map(Message::decode);
    assert_eq!(answer, Some(Ok(libipc::proto::process::Answer::Failed(8))));
    assert_eq!((world.proc.processes.len(), world.proc.groups.len()), (1, 1));
    world.vm_fails = None;
    world.spawn(true);
    assert_eq!(world.tids(), [3]);
    assert!(world.threads.keys().all(|handle| *handle != Handle::NONE));
}

#[test]
fn a_fork_can_give_its_maker_a_descriptor_of_the_child() {
    for vfork in [0, 0x4000 | VM] {
        let mut world = World::started();
        world.poke(DATA + 600, &[0xff; 4]);
        let call = world.begin(2, 56, &[PIDFD | vfork | 17, 0, DATA + 600]);
        world.run();
        assert_eq!(world.peek32(DATA + 600), 0, "the number that the kernel has chosen");
        let child = *world.tids().last().unwrap();
        world.exit(child, 3);
        assert_eq!(world.result(call), Some(i64::from(child)));
        let (_, _, handle) = *world.descriptors.last().unwrap();
        assert_eq!(world.proc.pidfds.len(), 1);
        let ready = |effect: &Effect| match effect {
            Effect::Do(Operation::SessionReady { session, .. }) => *session == handle,
            _ => false,
        };
        assert!(world.log.iter().any(ready), "it is readable");
    }
}

#[test]
fn a_fork_whose_descriptor_cannot_be_had_leaves_nothing_behind() {
    let mut world = World::started();
    world.refuse.insert("descriptor");
    assert_eq!(world.syscall(2, 56, &[PIDFD | 17, 0, DATA + 600]), Some(-24));
    assert_eq!((world.tids(), world.spaces.len(), world.proc.pidfds.len()), (vec![2], 1, 0));
}
