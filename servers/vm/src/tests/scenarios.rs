//! What programs, the process server and file servers rely on, one sentence each.

use libipc::abi::{Frame, Protection};
use libipc::linux::errno::{EAGAIN, EFAULT, EINVAL, EIO, ENOMEM, ESRCH};
use libipc::proto::space::{Answer, REQUEST, Request as Ask};
use libipc::server::{Foreign, Message};

use super::machine::{FILES, Machine, PAGE, Reply, file_byte};
use super::program::start;

const BASE: u64 = 0x10_0000_0000;
const RW: u64 = 3;
const RX: u64 = 5;
const FIXED: u64 = 0x10;
const PRIVATE: u64 = 2;
const SHARED: u64 = 1;
const ANONYMOUS: u64 = 0x20;

/// A machine with so many frames and one program.
fn machine(frames: u32) -> (Machine, u64) {
    let mut machine = Machine::new(frames, b"");
    let space = start(&mut machine).space;
    (machine, space)
}

fn map(machine: &mut Machine, space: u64, page: u64, pages: u64, protection: u64, flags: u64) -> u64 {
    let address = BASE + page * PAGE;
    let arguments = [address, pages * PAGE, protection, flags | FIXED | ANONYMOUS, u64::MAX, 0];
    assert_eq!(machine.linux(space, 9, arguments), address as i64);
    address
}

fn map_file(machine: &mut Machine, space: u64, page: u64, pages: u64, protection: u64) -> u64 {
    let address = BASE + page * PAGE;
    let arguments = [address, pages * PAGE, protection, PRIVATE | FIXED, 0, 0];
    assert_eq!(machine.map_file(space, 2, arguments), address as i64);
    address
}

#[test]
fn walking_upward_through_fresh_memory_faults_ever_more_rarely() {
    let (mut machine, space) = machine(400);
    let address = map(&mut machine, space, 0, 100, RW, PRIVATE);
    let maps = machine.count("map");
    for page in 0..100 {
        machine.write(space, address + page * PAGE, 1).unwrap();
    }
    assert!(machine.count("map") - maps <= 11, "{}", machine.count("map") - maps);
    machine.check();
}

#[test]
fn a_single_touch_takes_a_single_page() {
    let (mut machine, space) = machine(400);
    let address = map(&mut machine, space, 0, 100, RW, PRIVATE);
    machine.write(space, address, 1).unwrap();
    let free = machine.free();
    machine.write(space, address + 50 * PAGE, 1).unwrap();
    assert_eq!(machine.free(), free - 1);
}

#[test]
fn a_fork_is_few_operations_and_both_sides_keep_what_they_had() {
    let (mut machine, space) = machine(800);
    let address = map(&mut machine, space, 0, 10, RW, PRIVATE);
    for page in 0..10 {
        machine.write(space, address + page * PAGE, page as u8).unwrap();
    }
    let before: u64 = machine.operations.values().sum();
    let child = machine.fork(space).unwrap();
    let after: u64 = machine.operations.values().sum();
    assert!(after - before <= 6, "{:?}", machine.operations);
    for page in 0..10 {
        assert_eq!(machine.read(child, address + page * PAGE), Ok(page as u8));
    }
    machine.write(child, address, 77).unwrap();
    machine.write(space, address + PAGE, 88).unwrap();
    assert_eq!((machine.read(space, address), machine.read(child, address + PAGE)), (Ok(0), Ok(1)));
    machine.check();
}

#[test]
fn what_one_child_touched_the_next_one_touches_without_a_fault() {
    let (mut machine, space) = machine(800);
    machine.files.insert(2, 40 * PAGE);
    let own = map(&mut machine, space, 0, 2, RW, PRIVATE);
    let file = map_file(&mut machine, space, 10, 40, 1);
    machine.write(space, own, 1).unwrap();
    machine.write(space, own + PAGE, 1).unwrap();
    machine.read(space, file).unwrap();
    let child_life = |machine: &mut Machine| {
        let child = machine.fork(space).unwrap();
        let maps = machine.count("map");
        machine.write(child, own, 2).unwrap();
        assert_eq!(machine.read(child, own + PAGE), Ok(1));
        assert_eq!(machine.read(child, file), Ok(file_byte(2, 0)));
        machine.check();
        machine.destroy(child);
        machine.count("map") - maps
    };
    assert_eq!(child_life(&mut machine), 3);
    machine.write(space, own, 3).unwrap();
    assert_eq!(child_life(&mut machine), 0);
    let protects = machine.count("protect");
    machine.write(space, own, 3).unwrap();
    assert_eq!(
        machine.count("protect"),
        protects,
        "the parent's page was never protected for the second child"
    );
}

#[test]
fn shared_memory_between_private_pages_stays_writable_over_a_fork() {
    let (mut machine, space) = machine(800);
    let first = map(&mut machine, space, 0, 1, RW, PRIVATE);
    let shared = map(&mut machine, space, 1, 1, RW, SHARED);
    let last = map(&mut machine, space, 2, 1, RW, PRIVATE);
    for address in [first, shared, last] {
        machine.write(space, address, 1).unwrap();
    }
    let child = machine.fork(space).unwrap();
    machine.check();
    machine.write(child, shared, 9).unwrap();
    machine.write(child, last, 9).unwrap();
    assert_eq!((machine.read(space, shared), machine.read(space, last)), (Ok(9), Ok(1)));
}

#[test]
fn pages_written_after_one_fork_are_copied_at_once_by_the_next() {
    let (mut machine, space) = machine(800);
    let address = map(&mut machine, space, 0, 4, RW, PRIVATE);
    machine.write(space, address, 1).unwrap();
    let child = machine.fork(space).unwrap();
    machine.write(space, address, 2).unwrap();
    machine.destroy(child);
    let child = machine.fork(space).unwrap();
    let copies = machine.count("copy");
    machine.write(space, address, 3).unwrap();
    machine.write(child, address, 4).unwrap();
    assert_eq!(machine.count("copy"), copies);
    assert_eq!((machine.read(space, address), machine.read(child, address)), (Ok(3), Ok(4)));
    machine.check();
}

#[test]
fn a_page_that_is_no_longer_written_after_forks_is_no_longer_copied_at_once() {
    let (mut machine, space) = machine(800);
    let address = map(&mut machine, space, 0, 2, RW, PRIVATE);
    machine.write(space, address, 1).unwrap();
    machine.write(space, address + PAGE, 1).unwrap();
    let mut round = |always: bool| {
        let before = machine.count("copy");
        let child = machine.fork(space).unwrap();
        let at_once = machine.count("copy") - before;
        if always {
            machine.write(child, address, 2).unwrap();
        }
        machine.destroy(child);
        (at_once, machine.count("copy") - before - at_once)
    };
    // The stack, which nobody writes here, goes cold.
    for _ in 0..8 {
        round(true);
    }
    // The one page is written by every child.
    let rounds: Vec<(u64, u64)> = (0..100).map(|_| round(true)).collect();
    let faults = rounds.iter().filter(|(_, later)| *later > 0).count();
    assert!(rounds.iter().all(|(at_once, later)| at_once + later == 1));
    assert!((1..8).contains(&faults), "{faults}");
    // No child writes it any more.
    let copies: u64 = (0..100).map(|_| round(false).0).sum();
    assert!(copies <= 64, "{copies}");
    assert_eq!(round(false), (0, 0));
}

#[test]
fn a_parent_whose_child_has_gone_gets_its_pages_back_without_copying_and_many_at_a_time() {
    let (mut machine, space) = machine(800);
    let address = map(&mut machine, space, 0, 16, RW, PRIVATE);
    for page in 0..16 {
        machine.write(space, address + page * PAGE, 1).unwrap();
    }
    let child = machine.fork(space).unwrap();
    machine.destroy(child);
    let (copies, protects) = (machine.count("copy"), machine.count("protect"));
    for page in (0..16).rev() {
        machine.write(space, address + page * PAGE, 2).unwrap();
    }
    assert_eq!((machine.count("copy"), machine.count("protect") - protects), (copies, 1));
    machine.check();
}

#[test]
fn a_fork_that_the_kernel_refuses_changes_nothing() {
    let (mut machine, space) = machine(400);
    machine.space_quota = 0;
    let free = machine.free();
    assert_eq!(machine.ask(&Ask::Fork { space }, 0, &[]).0, Answer::Failed(ENOMEM));
    assert_eq!(machine.free(), free);
    assert_eq!(machine.ask(&Ask::Fork { space: 999 }, 0, &[]).0, Answer::Failed(ESRCH));
    assert_eq!(machine.ask(&Ask::Destroy { space: 999 }, 0, &[]).0, Answer::Failed(ESRCH));
    machine.check();
}

#[test]
fn there_are_as_many_spaces_as_the_heap_has_room_for() {
    let (mut machine, space) = machine(400);
    machine.vm.spaces_max = 3;
    let free = machine.free();
    let children = [machine.fork(space).unwrap(), machine.fork(space).unwrap()];
    assert_eq!(machine.ask(&Ask::Fork { space }, 0, &[]).0, Answer::Failed(ENOMEM));
    for child in children {
        assert_eq!(machine.ask(&Ask::Destroy { space: child }, 0, &[]).0, Answer::Done);
    }
    assert_eq!(machine.free(), free);
    assert!(machine.fork(space).is_some());
    machine.check();
}

#[test]
fn a_child_gets_of_each_mapping_what_was_advised() {
    let (mut machine, space) = machine(400);
    let wiped = map(&mut machine, space, 0, 1, RW, PRIVATE);
    let kept_back = map(&mut machine, space, 4, 1, RW, PRIVATE);
    for (address, advice) in [(wiped, 18), (kept_back, 10)] {
        machine.write(space, address, 5).unwrap();
        assert_eq!(machine.linux(space, 28, [address, PAGE, advice, 0, 0, 0]), 0);
    }
    let child = machine.fork(space).unwrap();
    assert_eq!((machine.read(child, wiped), machine.read(child, kept_back)), (Ok(0), Err((11, 1))));
    assert_eq!((machine.read(space, wiped), machine.read(space, kept_back)), (Ok(5), Ok(5)));
    machine.check();
}

#[test]
fn the_stack_grows_to_its_limit_and_keeps_away_from_what_lies_below() {
    let mut machine = Machine::new(400, b"");
    let started = start(&mut machine);
    let (space, stack) = (started.space, started.stack);
    machine.write(space, stack - (4 << 20), 1).unwrap();
    assert_eq!(machine.write(space, stack - (9 << 20), 1), Err((11, 1)));
    let below = (stack & !(PAGE - 1)) - (6 << 20);
    let arguments = [below, PAGE, RW, PRIVATE | FIXED | ANONYMOUS, u64::MAX, 0];
    assert_eq!(machine.linux(space, 9, arguments), below as i64);
    assert_eq!(machine.write(space, below + 100 * PAGE, 1), Err((11, 1)));
    machine.write(space, below + 257 * PAGE, 1).unwrap();
    machine.check();
}

#[test]
fn a_page_that_may_be_written_and_executed_is_only_one_of_them_at_a_time() {
    let (mut machine, space) = machine(400);
    let address = map(&mut machine, space, 0, 2, 7, PRIVATE);
    for round in 0..3 {
        machine.write(space, address, round).unwrap();
        machine.access(space, address, Protection::EXECUTE).unwrap();
        assert_eq!(machine.read(space, address), Ok(round));
        machine.check();
    }
}

#[test]
fn the_end_of_a_file_is_a_bus_error_until_the_file_grows() {
    let (mut machine, space) = machine(400);
    machine.files.insert(2, 3 * PAGE + 10);
    let address = map_file(&mut machine, space, 0, 8, 1);
    assert_eq!(machine.read(space, address + 3 * PAGE + 9), Ok(file_byte(2, 3 * PAGE + 9)));
    assert_eq!(machine.read(space, address + 3 * PAGE + 10), Ok(0));
    assert_eq!(machine.read(space, address + 5 * PAGE), Err((7, 2)));
    machine.files.insert(2, 7 * PAGE);
    assert_eq!(machine.read(space, address + 5 * PAGE), Ok(file_byte(2, 5 * PAGE)));
    machine.check();
}

#[test]
fn changed_pages_of_a_file_are_seen_again_except_where_a_program_wrote() {
    let (mut machine, space) = machine(400);
    machine.files.insert(2, 4 * PAGE);
    let address = map_file(&mut machine, space, 0, 4, RW);
    machine.write(space, address, 200).unwrap();
    machine.read(space, address + PAGE).unwrap();
    machine.fetched.clear();
    let forget = Ask::Invalidate { file: (FILES, 2), page: 0, pages: u64::MAX };
    assert_eq!(machine.ask(&forget, 0, &[]).0, Answer::Done);
    machine.check();
    assert_eq!(machine.read(space, address), Ok(200));
    assert_eq!(machine.read(space, address + PAGE), Ok(file_byte(2, PAGE)));
    assert_eq!(machine.fetched, [1, 2, 3]);
}

#[test]
fn a_file_larger_than_memory_can_be_read_over_and_over() {
    let (mut machine, space) = machine(120);
    machine.files.insert(2, 300 * PAGE);
    let address = map_file(&mut machine, space, 0, 300, 1);
    for page in (0..300).chain(0..300) {
        assert_eq!(machine.read(space, address + page * PAGE), Ok(file_byte(2, page * PAGE)));
    }
    machine.check();
    let memory = machine.ask(&Ask::Memory, 0, &[]).0;
    let free = u64::from(machine.free());
    assert_eq!(memory, Answer::Memory { total: 120, free, cached: machine.vm.memory.objects.cached() });
}

#[test]
fn frames_that_very_many_programs_show_come_back_in_steps_of_bounded_length() {
    let (mut machine, space) = machine(2000);
    machine.files.insert(2, 500 * PAGE);
    let address = map_file(&mut machine, space, 0, 500, 1);
    let mut spaces = vec![space];
    spaces.extend((0..60).map(|_| machine.fork(space).unwrap()));
    for space in spaces {
        for page in 0..100 {
            machine.read(space, address + page * PAGE).unwrap();
        }
    }
    // The rest is one program's, so that enough is left for the page cache.
    for page in 100..500 {
        machine.read(space, address + page * PAGE).unwrap();
    }
    let greedy = map(&mut machine, space, 1000, 2000, RW, PRIVATE);
    let free = u64::from(machine.free());
    machine.longest = 0;
    // All the frames that are free, and then most of the file's.
    for page in 0..free + 60 {
        machine.write(space, greedy + page * PAGE, 1).unwrap();
    }
    assert!((2048..2048 + 256).contains(&machine.longest), "{}", machine.longest);
    assert!(machine.vm.memory.objects.cached() < 500);
    machine.check();
}

#[test]
fn when_memory_is_used_up_the_program_that_has_most_is_killed_and_no_other() {
    let (mut machine, space) = machine(200);
    let other = machine.fork(space).unwrap();
    let address = map(&mut machine, space, 0, 190, RW, PRIVATE);
    let outcome = (0..190).map(|page| machine.write(space, address + page * PAGE, 1)).find(Result::is_err);
    assert_eq!(outcome, Some(Err((9, 128))));
    machine.check();
    assert_eq!(machine.fault(space, address + 189 * PAGE, Protection::WRITE, true), refused());
    assert!(machine.fork(other).is_some());
    machine.check();
}

#[test]
fn a_program_that_wants_little_gets_it_from_the_largest_which_dies_when_it_runs() {
    for flags in [PRIVATE, SHARED] {
        let (mut machine, large) = machine(200);
        let small = machine.fork(large).unwrap();
        let kept = map(&mut machine, small, 0, 30, RW, PRIVATE);
        let most = map(&mut machine, large, 0, 190, RW, flags);
        for page in 0..160 {
            machine.write(large, most + page * PAGE, 1).unwrap();
        }
        for page in 0..30 {
            machine.write(small, kept + page * PAGE, 1).unwrap();
        }
        assert!(machine.free() > 100, "{}", machine.free());
        assert_eq!(machine.read(large, most), Err((9, 128)));
        machine.check();
    }
}

#[test]
fn what_is_kept_for_the_page_cache_is_not_taken_by_programs() {
    let (mut machine, space) = machine(1400);
    machine.files.insert(2, 40 * PAGE);
    let code = map_file(&mut machine, space, 0, 40, 1);
    let greedy = map(&mut machine, space, 1000, 1400, RW, PRIVATE);
    let outcome = (0..1400).find_map(|page| {
        machine
            .read(space, code + page % 40 * PAGE)
            .and_then(|_| machine.write(space, greedy + page * PAGE, 1))
            .err()
    });
    assert_eq!(outcome, Some((9, 128)));
    assert!(machine.fetched.len() < 200, "{}", machine.fetched.len());
    machine.check();
}

fn refused() -> Reply {
    Reply::Native(Message::label(EFAULT as u32))
}

#[test]
fn what_the_kernel_cannot_copy_is_refused_and_no_signal_is_sent() {
    let (mut machine, space) = machine(400);
    machine.files.insert(2, 10);
    let beyond = map_file(&mut machine, space, 0, 2, 1) + PAGE;
    assert_eq!(machine.fault(space, 0, Protection::READ, true), refused());
    assert_eq!(machine.fault(space, u64::MAX, Protection::READ, true), refused());
    assert_eq!(machine.fault(space, beyond, Protection::WRITE, true), refused());
    assert_eq!(machine.fault(999, beyond, Protection::READ, false), refused());
    machine.check();
}

#[test]
fn pages_that_nobody_asked_for_are_not_kept() {
    let (mut machine, _) = machine(400);
    let free = machine.free();
    let supply = Ask::Supply { object: 999, page: 0, data: vec![1; 100] };
    assert_eq!(machine.ask(&supply, 0, &[]).0, Answer::Done);
    assert_eq!(machine.free(), free);
}

#[test]
fn a_message_of_no_protocol_is_refused_and_its_handles_are_closed() {
    let (mut machine, space) = machine(400);
    for message in [Message::label(REQUEST), Message::label(1), Message::words(REQUEST, [5; 4])] {
        let handle = machine.session(3);
        let reply = machine.native(message.with_handles(&[handle]));
        assert_eq!(reply, Reply::Native(Message::label(EINVAL as u32)));
    }
    let handle = machine.session(3);
    assert_eq!(machine.ask(&Ask::Destroy { space }, 0, &[handle]).0, Answer::Done);
    machine.check();
}

#[test]
fn two_programs_share_the_frames_of_one_file_and_a_writer_gets_its_own() {
    let (mut machine, first) = machine(400);
    let second = start(&mut machine).space;
    machine.files.insert(2, 4 * PAGE);
    let address = map_file(&mut machine, first, 0, 4, RW);
    map_file(&mut machine, second, 0, 4, RW);
    let frame = |machine: &mut Machine, space: u64, access| machine.access(space, address, access).unwrap();
    let shown: [Frame; 2] = [first, second].map(|space| frame(&mut machine, space, Protection::READ));
    assert_eq!(shown[0], shown[1]);
    assert_ne!(frame(&mut machine, first, Protection::WRITE), shown[0]);
    assert_eq!(frame(&mut machine, second, Protection::READ), shown[0]);
    machine.check();
}

#[test]
fn the_regions_of_a_space_with_many_come_in_several_answers() {
    let (mut machine, space) = machine(400);
    for index in 0..400 {
        map(&mut machine, space, index * 2, 1, 1, PRIVATE);
    }
    let (mut from, mut seen) = (0, Vec::new());
    loop {
        let Answer::Regions { regions, .. } = machine.ask(&Ask::Regions { space }, from, &[]).0 else {
            panic!()
        };
        let Some(last) = regions.last() else { break };
        from = last.end;
        seen.extend(regions);
    }
    assert_eq!(
        seen.iter().filter(|region| region.start >= BASE && region.end <= BASE + 800 * PAGE).count(),
        400
    );
    assert!(seen.windows(2).all(|pair| pair[0].end <= pair[1].start));
    assert_eq!(seen.iter().filter(|region| region.name == b"[stack]").count(), 1);
}

#[test]
fn a_mapping_call_of_a_program_without_a_space_closes_what_it_brought() {
    let (mut machine, _) = machine(400);
    let passed = Some(machine.session(2));
    let arguments = [0, PAGE, 1, PRIVATE, 3, 0];
    let call = Foreign { number: 9, arguments, passed, ..Foreign::default() };
    assert_eq!(machine.foreign(999, call).0, -i64::from(EFAULT));
    machine.check();
}

#[test]
fn what_a_tracer_writes_into_code_is_that_programs_alone() {
    let (mut machine, space) = machine(400);
    machine.files.insert(2, 4 * PAGE);
    let address = map_file(&mut machine, space, 0, 2, RX);
    let child = machine.fork(space).unwrap();
    let poke = |machine: &mut Machine, address| {
        machine.ask(&Ask::Poke { space: child, address, bytes: vec![0xcc, 0xcd] }, 0, &[]).0
    };
    assert_eq!(poke(&mut machine, address + 7), Answer::Failed(EAGAIN), "nothing is there yet");
    for of in [space, child] {
        assert_eq!(machine.read(of, address + 7), Ok(file_byte(2, 7)));
    }
    assert_eq!(poke(&mut machine, address + 7), Answer::Done);
    assert_eq!(machine.read(child, address + 7), Ok(0xcc));
    assert_eq!(machine.read(child, address + 6), Ok(file_byte(2, 6)), "the rest is the file's");
    assert_eq!(machine.read(space, address + 7), Ok(file_byte(2, 7)));
    assert!(machine.write(child, address, 1).is_err(), "the program itself may not write there");
    machine.read(child, address + PAGE).unwrap();
    assert_eq!(poke(&mut machine, address + PAGE - 1), Answer::Done, "two pages at once");
    assert_eq!([0, 1].map(|at| machine.read(child, address + PAGE - 1 + at)), [Ok(0xcc), Ok(0xcd)]);
    assert_eq!(poke(&mut machine, BASE - PAGE), Answer::Failed(EIO));
    machine.destroy(child);
    machine.destroy(space);
    machine.check();
}

#[test]
fn a_space_that_nobody_has_any_more_gives_all_its_memory_back() {
    let (mut machine, space) = machine(400);
    let address = map(&mut machine, space, 0, 4, RW, PRIVATE);
    machine.write(space, address, 1).unwrap();
    let free = machine.free();
    let child = machine.fork(space).unwrap();
    machine.write(child, address, 2).unwrap();
    assert!(machine.free() < free);
    machine.unclaim(child);
    machine.check();
    assert_eq!(machine.free(), free);
    // Whoever asks for its end all the same comes too late.
    machine.unclaim(child);
    assert_eq!(machine.ask(&Ask::Destroy { space: child }, 0, &[]).0, Answer::Failed(ESRCH));
}

#[test]
fn no_frame_that_is_in_use_counts_as_free() {
    let (mut machine, space) = machine(400);
    let address = map(&mut machine, space, 0, 40, RW, PRIVATE);
    for page in 0..40 {
        machine.write(space, address + page * PAGE, 1).unwrap();
    }
    assert_eq!(machine.frames_both_free_and_used(), 0);
}
