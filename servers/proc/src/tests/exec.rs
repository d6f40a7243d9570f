//! execve.

use libipc::abi::TaskWord;
use libipc::proto::process::Exec;

use super::world::{DATA, STACK, World};

const SIGCHLD: u8 = 17;

fn handler(world: &mut World, tid: u32, signal: u8) -> u32 {
    world.syscall(tid, 13, &[u64::from(signal), 0, DATA + 700, 8]);
    world.peek32(DATA + 700)
}

/// Arguments as a program lays them out: pointers, then strings. Answers the array's address.
fn strings(world: &mut World, at: u64, strings: &[&str]) -> u64 {
    let mut text = at + 512;
    for (index, string) in strings.iter().enumerate() {
        world.poke(at + 8 * index as u64, &text.to_le_bytes());
        world.poke(text, string.as_bytes());
        world.poke(text + string.len() as u64, &[0]);
        text += string.len() as u64 + 1;
    }
    world.poke(at + 8 * strings.len() as u64, &[0; 8]);
    at
}

fn program(world: &mut World) -> Exec {
    let argv = strings(world, DATA + 8192, &["prog", "one", ""]);
    let envp = strings(world, DATA + 12288, &["HOME=/"]);
    Exec { argv, envp, filename: b"./prog".to_vec(), path: b"/usr/bin/prog".to_vec(), ..Exec::default() }
}

#[test]
fn the_program_starts_afresh_in_its_new_space() {
    let mut world = World::started();
    world.registers(2).rbx = 9;
    let call = world.exec(2);
    assert_eq!(world.result(call), Some(0));
    let registers = *world.registers(2);
    assert_eq!((registers.rip, registers.rsp, registers.rbx), (0x40_1000, STACK + 0x8000, 0));
    assert_eq!(world.spaces.keys().copied().collect::<Vec<_>>(), [2], "the old space is gone");
}

#[test]
fn arguments_and_environment_are_read_and_remembered() {
    let mut world = World::started();
    let exec = program(&mut world);
    world.script.miss_next = true;
    world.begin_exec(2, &exec);
    let process = &world.proc.processes[&crate::id::Pid(2)];
    let remembered = world.proc.programs.get(process.program).unwrap();
    assert_eq!(remembered.command_line, b"prog\0one\0\0");
    assert_eq!(remembered.environment, b"HOME=/\0");
    assert_eq!(remembered.path, b"/usr/bin/prog");
    assert_eq!(world.proc.threads[&crate::id::Tid(2)].name, b"prog");
}

#[test]
fn a_scripts_interpreter_stands_before_its_arguments() {
    let mut world = World::started();
    let prefix = vec![b"/bin/sh".to_vec(), b"-e".to_vec(), b"./prog".to_vec()];
    let exec = Exec { prefix, ..program(&mut world) };
    world.begin_exec(2, &exec);
    let process = &world.proc.processes[&crate::id::Pid(2)];
    let remembered = world.proc.programs.get(process.program).unwrap();
    assert_eq!(remembered.command_line, b"/bin/sh\0-e\0./prog\0one\0\0");
}

#[test]
fn a_program_without_arguments_is_given_an_empty_one() {
    let mut world = World::started();
    world.exec(2);
    let process = &world.proc.processes[&crate::id::Pid(2)];
    assert_eq!(world.proc.programs.get(process.program).unwrap().command_line, b"\0");
}

/// An array of pointers to one string, at an address; the string is at `DATA + 12288`.
fn repeated(world: &mut World, string: &str, times: usize) -> u64 {
    let (at, text) = (DATA + 16384, DATA + 12288);
    world.poke(text, &[string.as_bytes(), &[0]].concat());
    let pointers: Vec<u8> = std::iter::repeat_n(text, times).chain([0]).flat_map(u64::to_le_bytes).collect();
    world.poke(at, &pointers);
    at
}

#[test]
fn long_arguments_reach_vm_in_pieces_and_pages_that_are_missing_are_waited_for() {
    for (string, times) in [("x", 5000), (&*"y".repeat(3000), 40), (&*"z".repeat(7935), 1)] {
        let mut world = World::started();
        let argv = repeated(&mut world, string, times);
        let envp = strings(&mut world, DATA + 8192, &["HOME=/"]);
        let prefix = vec![b"/bin/sh".to_vec(), b"./script".to_vec()];
        let exec = Exec { argv, envp, prefix, ..Exec::default() };
        world.crashes = true;
        world.misses_of_answers = 3;
        let call = world.begin_exec(2, &exec);
        assert_eq!(world.result(call), Some(0));
        let (argc, envc, all) = world.built.clone();
        assert_eq!((argc as usize, envc), (times + 1, 1));
        let rest = format!("{string}\0").repeat(times - 1);
        assert_eq!(all, format!("/bin/sh\0./script\0{rest}HOME=/\0").into_bytes());
        assert!(world.strings.is_empty());
        let process = &world.proc.processes[&crate::id::Pid(2)];
        let remembered = world.proc.programs.get(process.program).unwrap();
        assert!(remembered.command_line.len() <= crate::image::REMEMBERED);
        assert_eq!(remembered.environment, b"HOME=/\0");
    }
}

#[test]
fn too_many_arguments_are_e2big_and_bad_ones_efault() {
    let mut world = World::started();
    let argv = repeated(&mut world, &"x".repeat(4000), 600);
    let call = world.begin_exec(2, &Exec { argv, ..Exec::default() });
    assert_eq!(world.result(call), Some(-7), "two megabytes");
    let bad = DATA + 16384 + 8 * 400;
    world.poke(bad, &1_u64.to_le_bytes());
    let call = world.begin_exec(2, &Exec { argv, ..Exec::default() });
    assert_eq!(world.result(call), Some(-14));
    world.vm_fails = Some(12);
    let call = world.begin_exec(2, &Exec { argv, ..Exec::default() });
    assert_eq!(world.result(call), Some(-12));
    let call = world.begin_exec(2, &Exec { argv: 0x10, ..Exec::default() });
    assert_eq!(world.result(call), Some(-14));
    assert!(world.strings.is_empty(), "vm keeps nothing of them");
    assert!(world.runs(2) && world.spaces.len() == 1);
}

#[test]
fn one_string_is_131071_bytes_long_at_most() {
    for (length, result) in [(131_071, 0), (131_072, -7)] {
        let mut world = World::started();
        world.script.memory.insert(0x100_0000, [vec![b'x'; length], vec![0; 600]].concat());
        world.poke(DATA, &0x100_0000_u64.to_le_bytes());
        let call = world.begin_exec(2, &Exec { argv: DATA, ..Exec::default() });
        assert_eq!(world.result(call), Some(result));
    }
}

#[test]
fn a_process_that_is_killed_while_its_arguments_are_read_leaves_nothing_behind() {
    let mut world = World::started();
    let argv = repeated(&mut world, &"x".repeat(3000), 40);
    let child = world.fork(2);
    world.hold_vm = true;
    world.begin_exec(child, &Exec { argv, ..Exec::default() });
    world.syscall(2, 62, &[u64::from(child), 9]);
    world.pass(2_000_000_000);
    world.hold_vm = false;
    world.queue.extend(std::mem::take(&mut world.held));
    world.run();
    assert!(world.strings.is_empty() && world.spaces.len() == 1 && world.proc.jobs.is_empty());
}

#[test]
fn a_refused_exec_leaves_the_program_as_it_was() {
    let mut world = World::started();
    let other = world.thread(2);
    world.vm_fails = Some(8);
    let call = world.exec(2);
    assert_eq!(world.result(call), Some(-8));
    world.vm_fails = None;
    world.refuse.insert("thread");
    let call = world.exec(other);
    assert_eq!(world.result(call), Some(-11));
    assert_eq!((world.tids().len(), world.spaces.len()), (2, 1));
}

#[test]
fn a_program_that_starts_outside_of_what_programs_have_is_enoexec() {
    let mut world = World::started();
    world.entry = 1 << 63;
    let call = world.exec(2);
    assert_eq!((world.result(call), world.spaces.len()), (Some(-8), 1));
    let mut world = World::new();
    world.entry = u64::MAX;
    world.spawn(true);
    let answer = world.native.last().map(libipc::server::Message::decode);
    assert_eq!(answer, Some(Ok(libipc::proto::process::Answer::Failed(8))));
    assert_eq!((world.spaces.len(), world.proc.processes.len()), (0, 1));
}

#[test]
fn exec_by_the_leader_ends_the_others_unreported() {
    let mut world = World::started();
    let child = world.fork(2);
    let other = world.thread(child);
    world.begin(other, 34, &[]);
    world.run();
    world.exec(child);
    assert_eq!(world.tids(), [2, child]);
    assert_eq!(world.wait(2, -1, 1), Some(0));
    assert_eq!(world.leaked_calls(), 0);
}

#[test]
fn exec_by_another_thread_keeps_the_pid_and_the_others_vanish_unreported() {
    let mut world = World::started();
    let child = world.fork(2);
    let (first, second) = (world.thread(child), world.thread(child));
    world.begin(first, 34, &[]);
    world.run();
    world.exec(second);
    assert_eq!(world.tids(), [2, child]);
    assert_eq!(world.registers(child).rip, 0x40_1000);
    assert!(world.runs(child));
    assert_eq!(world.wait(2, -1, 1), Some(0));
    world.exit(child, 4);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), 0x400));
    assert_eq!(world.leaked_calls(), 0);
}

#[test]
fn exec_after_the_leader_is_gone_brings_its_number_back() {
    let mut world = World::started();
    let child = world.fork(2);
    let other = world.thread(child);
    let grandchild = world.fork(other);
    world.exit_thread(child, 0);
    world.exec(other);
    assert_eq!(world.tids(), [2, child, grandchild]);
    world.exit(grandchild, 0);
    assert_eq!(
        world.wait(child, -1, 0x2000_0000),
        Some(i64::from(grandchild)),
        "its children are its own again"
    );
}

#[test]
fn ignored_sigchld_survives_exec_and_a_caught_one_resets() {
    let mut world = World::started();
    world.action(2, SIGCHLD, 1, 0);
    world.action(2, 10, 0x5000, 0);
    world.exec(2);
    assert_eq!((handler(&mut world, 2, SIGCHLD), handler(&mut world, 2, 10)), (1, 0));
}

#[test]
fn mask_and_pending_signals_survive_exec() {
    let mut world = World::started();
    world.mask(2, 1 << 9);
    world.kill_process(2, 2, 10);
    world.exec(2);
    assert_eq!(world.syscall(2, 127, &[DATA, 8]), Some(0));
    assert_eq!(world.peek32(DATA), 1 << 9);
}

#[test]
fn set_id_bits_change_the_effective_ids_unless_no_new_privileges() {
    let mut world = World::started();
    let child = world.fork(2);
    world.syscall(child, 105, &[1000]);
    let exec = Exec { set_uid: Some(0), set_gid: Some(5), ..Exec::default() };
    let second = world.fork(child);
    world.begin_exec(child, &exec);
    let ids = |world: &World, tid| {
        [TaskWord::Uid, TaskWord::EffectiveUid, TaskWord::EffectiveGid].map(|it| world.word(tid, it))
    };
    assert_eq!(ids(&world, child), [1000, 0, 5]);
    world.prctl(second, 38, 1);
    world.begin_exec(second, &exec);
    assert_eq!(ids(&world, second), [1000, 1000, 0]);
}

#[test]
fn a_killed_process_does_not_execute() {
    let mut world = World::started();
    let child = world.fork(2);
    world.hold_vm = true;
    world.exec(child);
    world.kill_process(2, child as i32, 9);
    world.pass(1_000_000_000);
    assert!(!world.lives(child));
    world.hold_vm = false;
    let held: Vec<_> = world.held.drain(..).collect();
    world.queue.extend(held);
    world.run();
    assert_eq!((world.spaces.len(), world.proc.jobs.len(), world.leaked_calls()), (1, 0, 0));
}

#[test]
fn of_two_threads_that_execute_one_prevails() {
    let mut world = World::started();
    let other = world.thread(2);
    world.hold_vm = true;
    world.exec(2);
    world.exec(other);
    let held: Vec<_> = world.held.drain(..).collect();
    world.hold_vm = false;
    world.queue.extend(held);
    world.run();
    assert_eq!((world.tids(), world.spaces.len()), (vec![2], 1));
    assert_eq!((world.proc.jobs.len(), world.leaked_calls()), (0, 0));
}
