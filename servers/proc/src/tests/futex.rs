//! futex(2): waits, wakes, requeues and timeouts.

use super::world::{DATA, SHARED, STACK, World};

const WAIT: u64 = 0;
const WAKE: u64 = 1;
const REQUEUE: u64 = 3;
const CMP_REQUEUE: u64 = 4;
const WAKE_OP: u64 = 5;
const WAIT_BITSET: u64 = 9;
const WAKE_BITSET: u64 = 10;
const PRIVATE: u64 = 128;
const WORD: u64 = DATA + 4096;
const OTHER: u64 = DATA + 4100;

fn wait(world: &mut World, tid: u32, value: u64) -> libipc::abi::CallId {
    let call = world.begin(tid, 202, &[WORD, WAIT, value, 0, 0, 0]);
    world.run();
    call
}

fn timespec(world: &mut World, seconds: u64, ns: u64) -> u64 {
    world.poke(DATA + 900, &seconds.to_le_bytes());
    world.poke(DATA + 908, &ns.to_le_bytes());
    DATA + 900
}

#[test]
fn a_wait_with_another_value_is_eagain() {
    let mut world = World::started();
    assert_eq!(world.syscall(2, 202, &[WORD, WAIT, 1, 0, 0, 0]), Some(-11));
    assert_eq!(world.syscall(2, 202, &[WORD + 1, WAIT, 0, 0, 0, 0]), Some(-22));
    assert_eq!(world.syscall(2, 202, &[0, WAIT, 0, 0, 0, 0]), Some(-14));
}

#[test]
fn waiters_are_woken_in_order_and_as_many_as_asked() {
    let mut world = World::started();
    let threads: Vec<u32> = (0..3).map(|_| world.thread(2)).collect();
    let calls: Vec<_> = threads.iter().map(|tid| wait(&mut world, *tid, 0)).collect();
    assert_eq!(world.syscall(2, 202, &[WORD, WAKE, 2, 0, 0, 0]), Some(2));
    let results: Vec<_> = calls.iter().map(|call| world.result(*call)).collect();
    assert_eq!(results, [Some(0), Some(0), None]);
    assert_eq!(world.syscall(2, 202, &[WORD, WAKE, i32::MAX as u64, 0, 0, 0]), Some(1));
    assert_eq!(world.syscall(2, 202, &[WORD, WAKE, 1, 0, 0, 0]), Some(0));
}

#[test]
fn a_wake_between_the_call_and_its_serving_is_not_lost() {
    let mut world = World::started();
    let thread = world.thread(2);
    for timed in [false, true] {
        let timeout = if timed { timespec(&mut world, 1, 0) } else { 0 };
        // The word changes and the wake is served while the wait is queued, or waits for the page of its timeout.
        let call = world.begin(thread, 202, &[WORD, WAIT, 0, timeout, 0, 0]);
        let mut waiting = world.queue.pop_front().unwrap();
        if timed {
            world.gather_inputs(&mut waiting);
        }
        world.poke(WORD, &1_u32.to_le_bytes());
        assert_eq!(world.syscall(2, 202, &[WORD, WAKE, 1, 0, 0, 0]), Some(0));
        if timed {
            world.step(waiting);
        } else {
            world.queue.push_back(waiting);
            world.run();
        }
        assert_eq!(world.result(call), Some(-11));
        world.poke(WORD, &0_u32.to_le_bytes());
    }
}

#[test]
fn processes_with_spaces_of_their_own_do_not_share_queues() {
    let mut world = World::started();
    let child = world.fork(2);
    wait(&mut world, child, 0);
    assert_eq!(world.syscall(2, 202, &[WORD, WAKE, 1, 0, 0, 0]), Some(0));
    let sharing = world.syscall(2, 56, &[0x100 | 17, STACK + 0x4000]).unwrap() as u32;
    let call = wait(&mut world, sharing, 0);
    assert_eq!(world.syscall(2, 202, &[WORD, WAKE, 1, 0, 0, 0]), Some(1));
    assert_eq!(world.result(call), Some(0));
}

#[test]
fn a_wait_ends_at_its_timeout() {
    let mut world = World::started();
    let timeout = timespec(&mut world, 1, 500);
    world.script.miss_next = true;
    let call = world.begin(2, 202, &[WORD, WAIT, 0, timeout, 0, 0]);
    world.run();
    world.pass(1_000_000_499);
    assert_eq!(world.result(call), None);
    world.pass(1);
    assert_eq!(world.result(call), Some(-110));
    let absolute = timespec(&mut world, 1, 0);
    assert_eq!(world.syscall(2, 202, &[WORD, WAIT_BITSET, 0, absolute, 0, 1]), Some(-110), "it is past");
    let nonsense = timespec(&mut world, 1, 1_000_000_000);
    assert_eq!(world.syscall(2, 202, &[WORD, WAIT, 0, nonsense, 0, 0]), Some(-22));
}

#[test]
fn bitsets_choose_whom_to_wake() {
    let mut world = World::started();
    let (one, two) = (world.thread(2), world.thread(2));
    let begin = |world: &mut World, tid: u32, bits: u64| {
        let call = world.begin(tid, 202, &[WORD, WAIT_BITSET, 0, 0, 0, bits]);
        world.run();
        call
    };
    let calls = [begin(&mut world, one, 1), begin(&mut world, two, 2)];
    assert_eq!(world.syscall(2, 202, &[WORD, WAKE_BITSET, 9, 0, 0, 2]), Some(1));
    assert_eq!(calls.map(|call| world.result(call)), [None, Some(0)]);
    assert_eq!(world.syscall(2, 202, &[WORD, WAKE_BITSET, 9, 0, 0, 0]), Some(-22));
}

#[test]
fn requeued_waiters_wait_for_the_other_word() {
    let mut world = World::started();
    let threads: Vec<u32> = (0..3).map(|_| world.thread(2)).collect();
    let calls: Vec<_> = threads.iter().map(|tid| wait(&mut world, *tid, 0)).collect();
    assert_eq!(world.syscall(2, 202, &[WORD, CMP_REQUEUE, 1, 9, OTHER, 7]), Some(-11));
    assert_eq!(world.syscall(2, 202, &[WORD, CMP_REQUEUE, 1, 1, OTHER, 0]), Some(2));
    assert_eq!(world.syscall(2, 202, &[OTHER, WAKE, 9, 0, 0, 0]), Some(1));
    assert_eq!(world.result(calls[1]), Some(0));
    assert_eq!(world.syscall(2, 202, &[WORD, REQUEUE, 0, 9, OTHER, 0]), Some(1));
    assert_eq!(world.syscall(2, 202, &[OTHER, WAKE, 9, 0, 0, 0]), Some(1));
}

#[test]
fn wake_op_changes_the_second_word_and_wakes_by_its_old_value() {
    let mut world = World::started();
    let (one, two) = (world.thread(2), world.thread(2));
    wait(&mut world, one, 0);
    world.begin(two, 202, &[OTHER, WAIT, 0, 0, 0, 0]);
    world.run();
    let set_five_if_equal_zero = 5 << 12;
    assert_eq!(world.syscall(2, 202, &[WORD, WAKE_OP, 1, 1, OTHER, set_five_if_equal_zero]), Some(2));
    assert_eq!(world.peek32(OTHER), 5);
}

#[test]
fn an_untimed_wait_is_eintr_or_made_again_and_a_timed_one_goes_on_after_a_stop() {
    let mut world = World::started();
    let child = world.fork(2);
    let timeout = timespec(&mut world, 10, 0);
    world.begin(child, 202, &[WORD, WAIT, 0, timeout, 0, 0]);
    world.run();
    world.kill_process(2, child as i32, 19);
    world.pass(4_000_000_000);
    world.kill_process(2, child as i32, 18);
    let registers = *world.registers(child);
    assert_eq!(registers.rax, 219);
    let call = world.begin(child, 219, &[]);
    world.run();
    world.pass(5_999_999_999);
    assert_eq!(world.result(call), None);
    world.pass(1);
    assert_eq!(world.result(call), Some(-110));
}

#[test]
fn a_word_in_shared_memory_is_one_word_to_all_processes_unless_it_is_said_to_be_private() {
    let mut world = World::started();
    let child = world.fork(2);
    let call = world.begin(child, 202, &[SHARED, 0, 0, 0, 0, 0]);
    world.run();
    assert_eq!(world.syscall(2, 202, &[SHARED, WAKE | PRIVATE, 1, 0, 0, 0]), Some(0));
    assert_eq!(world.syscall(2, 202, &[SHARED, WAKE, 1, 0, 0, 0]), Some(1));
    assert_eq!(world.result(call), Some(0));
    let private = world.begin(child, 202, &[SHARED, PRIVATE, 0, 0, 0, 0]);
    world.run();
    assert_eq!(world.syscall(2, 202, &[SHARED, WAKE, 1, 0, 0, 0]), Some(0));
    assert_eq!(world.syscall(2, 202, &[SHARED, WAKE | PRIVATE, 1, 0, 0, 0]), Some(0));
    assert_eq!(world.result(private), None);
    assert_eq!(world.syscall(2, 202, &[SHARED, 3, 1, 1, 0x1000, 0]), Some(-14), "a word where nothing is");
}
