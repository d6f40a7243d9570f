//! Time, the system's figures, what /proc shows, descriptors for processes, and that a step is a function of its
//! event.

use libipc::abi::delivery::Named;
use libipc::linux::signal::SIGALRM;
use libipc::proto::process::{self as protocol, Answer};
use libipc::server::Message;
use libipc::server::effect::{Effect, Operation};

use super::world::{DATA, STACK, World};

const HANDLER: u64 = 0x5000;

fn ask(world: &mut World, request: &protocol::Request) -> Answer {
    let answer = world.ask(Message::typed(protocol::REQUEST, request)).expect("an answer");
    answer.decode().expect("an answer of this protocol")
}

#[test]
fn a_sleep_ends_at_its_time_and_the_server_keeps_one_timer() {
    let mut world = World::started();
    let other = world.thread(2);
    let sleep = |world: &mut World, tid: u32, seconds: u64| {
        world.poke(DATA, &[seconds.to_le_bytes(), 0_u64.to_le_bytes()].concat());
        let call = world.begin(tid, 230, &[1, 0, DATA, 0]);
        world.run();
        call
    };
    let (long, short) = (sleep(&mut world, 2, 3), sleep(&mut world, other, 1));
    assert_eq!(world.timer, 1_000_000_000);
    world.pass(1_000_000_000);
    assert_eq!((world.result(long), world.result(short)), (None, Some(0)));
    assert_eq!(world.timer, 3_000_000_000);
    world.pass(2_000_000_000);
    assert_eq!((world.result(long), world.timer), (Some(0), u64::MAX));
}

#[test]
fn an_absolute_sleep_in_the_past_returns_at_once() {
    let mut world = World::started();
    world.pass(5_000_000_000);
    world.poke(DATA, &[4_u64.to_le_bytes(), 0_u64.to_le_bytes()].concat());
    assert_eq!(world.syscall(2, 230, &[1, 1, DATA, 0]), Some(0));
    assert_eq!(world.syscall(2, 230, &[3, 0, DATA, 0]), Some(-22));
}

#[test]
fn an_alarm_rings_once_and_an_interval_timer_again_and_again() {
    let mut world = World::started();
    world.registers(2).rsp = STACK + 0x8000;
    world.action(2, SIGALRM, HANDLER, 0);
    assert_eq!(world.syscall(2, 37, &[5]), Some(0));
    world.pass(2_400_000_000);
    assert_eq!(world.syscall(2, 37, &[3]), Some(3), "rounded");
    world.pass(3_000_000_000);
    assert!(world.handles(2, HANDLER));
    world.sigreturn(2);
    let timer = [0_u64, 500_000, 1, 0].map(u64::to_le_bytes).concat();
    world.poke(DATA, &timer);
    assert_eq!(world.syscall(2, 38, &[0, DATA, 0]), Some(0));
    for wait_ns in [1_000_000_000, 500_000_000, 1_600_000_000] {
        world.pass(wait_ns);
        assert!(world.handles(2, HANDLER));
        world.sigreturn(2);
        assert!(!world.handles(2, HANDLER), "rings that were missed are one");
    }
    assert_eq!(world.syscall(2, 36, &[0, DATA + 64]), Some(0));
    assert_eq!([8, 24].map(|at| world.peek32(DATA + 64 + at)), [500_000, 400_000]);
    let child = world.fork(2);
    assert_eq!(world.syscall(child, 37, &[0]), Some(0), "not inherited");
}

#[test]
fn a_timer_made_by_name_rings_counts_what_is_not_taken_and_can_be_deleted() {
    let mut world = World::started();
    world.registers(2).rsp = STACK + 0x8000;
    world.action(2, 10, HANDLER, 0);
    let event = [5_u64, 10, 0, 0, 0, 0, 0, 0].map(u64::to_le_bytes).concat();
    world.poke(DATA, &event);
    assert_eq!(world.syscall(2, 222, &[1, DATA, DATA + 100]), Some(0));
    assert_eq!(world.syscall(2, 222, &[1, DATA, DATA + 104]), Some(0));
    assert_eq!([100, 104].map(|at| world.peek32(DATA + at)), [0, 1]);
    let setting = [0_u64, 20_000_000, 0, 30_000_000].map(u64::to_le_bytes).concat();
    world.poke(DATA + 200, &setting);
    world.mask(2, 1 << 9);
    assert_eq!(world.syscall(2, 223, &[0, 0, DATA + 200, DATA + 300]), Some(0));
    world.pass(31_000_000);
    world.pass(20_000_000);
    world.pass(45_000_000);
    assert_eq!(world.syscall(2, 224, &[0, DATA + 300]), Some(0));
    assert_eq!([8, 24].map(|at| world.peek32(DATA + 300 + at)), [20_000_000, 14_000_000]);
    assert_eq!(world.syscall(2, 225, &[0]), Some(0));
    world.mask(2, 0);
    assert!(world.handles(2, HANDLER));
    assert_eq!(world.syscall(2, 225, &[0]), Some(3), "it rang at 30, 50, 70 and 90 ms");
    world.sigreturn(2);
    assert_eq!(world.syscall(2, 226, &[0]), Some(0));
    assert_eq!(
        (world.syscall(2, 226, &[0]), world.syscall(2, 224, &[0, DATA + 300])),
        (Some(-22), Some(-22))
    );
    world.pass(100_000_000);
    assert!(!world.handles(2, HANDLER));
    assert_eq!(world.syscall(2, 222, &[77, 0, DATA + 100]), Some(-22));
    world.exec(2);
    assert!(world.proc.processes[&crate::id::Pid(2)].timers == crate::timers::Timers::default());
}

#[test]
fn limits_of_memory_are_vms_to_keep() {
    let mut world = World::started();
    world.poke(DATA, &[1 << 20, 2 << 20].map(u64::to_le_bytes).concat());
    assert_eq!(world.syscall(2, 160, &[9, DATA]), Some(0));
    assert_eq!(world.limits.map(|limits| limits.address_space), Some(1 << 20));
}

#[test]
fn uname_says_linux_and_the_hosts_name_is_the_superusers_to_set() {
    let mut world = World::started();
    world.poke(DATA, b"dragonfly");
    assert_eq!(world.syscall(2, 170, &[DATA, 9]), Some(0));
    assert_eq!(world.syscall(2, 63, &[DATA + 1024]), Some(0));
    let field = |world: &World, index: u64| {
        let bytes = world.peek(DATA + 1024 + 65 * index, 65);
        bytes.into_iter().take_while(|byte| *byte != 0).collect::<Vec<u8>>()
    };
    let fields = [0, 1, 2, 4, 5].map(|index| String::from_utf8(field(&world, index)).unwrap());
    assert_eq!(fields, ["Linux", "dragonfly", "6.1.0-naiad", "x86_64", "(none)"]);
    assert_eq!(world.syscall(2, 170, &[DATA, 65]), Some(-22));
    world.syscall(2, 105, &[1000]);
    assert_eq!(world.syscall(2, 170, &[DATA, 9]), Some(-1));
}

#[test]
fn sysinfo_has_linuxs_layout() {
    let mut world = World::started();
    world.pass(7_000_000_000);
    assert_eq!(world.syscall(2, 99, &[DATA]), Some(0));
    let word = |at| crate::memory::word_at(&world.peek(DATA + at, 8), 0);
    assert_eq!([0, 32, 40, 56, 80, 104].map(word), [7, 4_096_000, 1_638_400, 0, 1, 1]);
}

#[test]
fn reboot_wants_the_superuser_and_the_magic_numbers() {
    let mut world = World::started();
    assert_eq!(world.syscall(2, 169, &[1, 2, 0x0123_4567]), Some(-22));
    assert_eq!(world.syscall(2, 169, &[0xfee1_dead, 672_274_793, 0x0123_4567]), Some(0));
    assert_eq!(world.power, Some((0, true)));
}

#[test]
fn names_of_threads_are_fifteen_bytes_at_most() {
    let mut world = World::started();
    world.poke(DATA, b"a name that is too long\0");
    assert_eq!(world.prctl(2, 15, DATA), 0);
    assert_eq!(world.prctl(2, 16, DATA + 64), 0);
    assert_eq!(world.peek(DATA + 64, 16), b"a name that is \0");
    assert_eq!(world.prctl(2, 99, 0), -22);
}

#[test]
fn nice_values_are_bounded_and_only_rise_for_others_than_the_superuser() {
    let mut world = World::started();
    assert_eq!(world.syscall(2, 140, &[0, 0]), Some(20));
    assert_eq!(world.syscall(2, 141, &[0, 0, 99]), Some(0));
    assert_eq!(world.syscall(2, 140, &[0, 0]), Some(1));
    world.syscall(2, 105, &[1000]);
    assert_eq!(world.syscall(2, 141, &[0, 0, 5]), Some(-13));
    assert_eq!(world.syscall(2, 141, &[0, 1, 19]), Some(-1));
    assert_eq!(world.syscall(2, 204, &[0, 8, DATA]), Some(8));
    assert_eq!(world.peek32(DATA), 1);
}

#[test]
fn proc_shows_processes_in_order_and_what_each_is() {
    let mut world = World::started();
    let child = world.fork(2);
    let zombie = world.fork(child);
    world.exit(zombie, 0);
    let stopped = world.fork(2);
    world.kill_process(2, stopped as i32, 19);
    assert_eq!(
        ask(&mut world, &protocol::Request::Pids),
        Answer::Pids { pids: vec![1, 2, child, zombie, stopped] }
    );
    let after = ask(&mut world, &protocol::Request::PidsAfter { pid: child });
    assert_eq!(after, Answer::Pids { pids: vec![zombie, stopped] });
    let mut show = |pid| match ask(&mut world, &protocol::Request::Process { pid }) {
        Answer::Process(info) => info,
        other => panic!("{other:?}"),
    };
    let info = show(child);
    assert_eq!((info.parent, info.pgid, info.sid, info.state), (2, 2, 2, b'R'));
    assert_eq!(
        (info.name, info.command_line, info.environment),
        (b"sh".to_vec(), b"sh\0".to_vec(), b"A=B\0".to_vec())
    );
    assert_eq!(
        (info.exe, info.threads, info.tty, info.foreground),
        (b"/bin/sh".to_vec(), vec![child], 0x8801, 2)
    );
    let states = [1, zombie, stopped].map(|pid| show(pid).state);
    assert_eq!(states, [b'S', b'Z', b'T']);
    assert_eq!((show(zombie).name, show(1).parent), (b"sh".to_vec(), 0));
    if let Some(process) = world.proc.processes.get_mut(&crate::id::Pid(zombie)) {
        process.usage = crate::usage::Usage { user_ns: 7, system_ns: 8, peak_pages: 0 };
    }
    let used = |answer| matches!(answer, Answer::Process(info) if info.times == [7, 8, 0, 0]);
    assert!(used(ask(&mut world, &protocol::Request::Process { pid: zombie })), "what it used stays known");
    assert_eq!(ask(&mut world, &protocol::Request::Process { pid: 99 }), Answer::Failed(3));
}

#[test]
fn a_pidfd_is_readable_when_its_process_is_dead_and_stands_for_no_other() {
    let mut world = World::started();
    let child = world.fork(2);
    assert_eq!(world.syscall(2, 434, &[u64::from(child), 0]), Some(0));
    let badge = world.log.iter().find_map(|effect| match effect {
        Effect::Try { operation: Operation::SessionCreate { badge, owner, .. }, .. } => {
            Some((badge.0, *owner))
        }
        _ => None,
    });
    let (badge, owner) = badge.expect("a session");
    let named = Named { server: 1, badge, object: u64::from(child) };
    let send = |world: &mut World, signal: u64| {
        let call = world.begin_named(2, 424, &[5, signal, 0, 0], named);
        world.run();
        world.result(call)
    };
    let wait = |world: &mut World, options: u64| {
        let call = world.begin_named(2, 247, &[3, 5, DATA, options, 0], named);
        world.run();
        world.result(call)
    };
    assert_eq!(send(&mut world, 0), Some(0));
    assert_eq!(wait(&mut world, 4 | 1), Some(0));
    let ready = |world: &World| {
        world.log.iter().any(|effect| matches!(effect, Effect::Do(Operation::SessionReady { .. })))
    };
    assert!(!ready(&world));
    assert_eq!(send(&mut world, 9), Some(0));
    assert!(ready(&world));
    assert_eq!(send(&mut world, 9), Some(0), "a zombie");
    assert_eq!(wait(&mut world, 4), Some(0));
    assert_eq!(send(&mut world, 9), Some(-3), "reaped");
    world.proc.last_pid = child - 1;
    assert_eq!(world.fork(2), child, "another has its number now");
    assert_eq!(send(&mut world, 9), Some(-3));
    assert!(world.lives(child));
    assert_eq!(wait(&mut world, 4), Some(-10));
    world.step(libipc::server::Event::LastClose { badge: libipc::abi::Badge(badge), owner });
    assert!(world.proc.pidfds.is_empty());
    assert_eq!(send(&mut world, 9), Some(-9));
}

#[test]
fn what_is_not_offered_says_so() {
    let mut world = World::started();
    assert_eq!(world.syscall(2, 164, &[0]), Some(-1), "the clock is the kernel's");
    let answer = world.ask(Message::label(0x999)).unwrap();
    assert_eq!(answer.label, 22);
}

/// A game played from its first move to its last, and the server's state at the end.
fn played(seed: u64, crashes: bool) -> (World, Vec<u8>) {
    let mut world = World::started();
    world.crashes = crashes;
    world.dice = Some(seed);
    super::random::play(&mut world, seed, 300, false);
    let state = postcard::to_allocvec(&world.proc).unwrap();
    (world, state)
}

#[test]
fn the_same_events_lead_to_the_same_effects_and_the_same_state() {
    let (one, two) = (played(7, false), played(7, false));
    assert_eq!(one.0.log, two.0.log);
    assert_eq!(one.1, two.1);
    assert_ne!(one.1, played(8, false).1);
}

#[test]
fn a_server_that_dies_before_every_event_loses_nothing_and_does_nothing_twice() {
    for seed in 0..5 {
        let (steady, crashing) = (played(seed, false), played(seed, true));
        assert_eq!(steady.0.log, crashing.0.log);
        assert_eq!(steady.1, crashing.1);
    }
}
