//! ptrace(2): stops, what a tracer is told of them, and what becomes of them.

use super::world::{DATA, STACK, World};
use crate::memory::word_at;

const TRACEME: u64 = 0;
const PEEK: u64 = 2;
const POKE: u64 = 5;
const CONT: u64 = 7;
const STEP: u64 = 9;
const GETREGS: u64 = 12;
const SETREGS: u64 = 13;
const DETACH: u64 = 17;
const SYSCALL: u64 = 24;
const SETOPTIONS: u64 = 0x4200;
const GETEVENTMSG: u64 = 0x4201;
const SEIZE: u64 = 0x4206;
const INTERRUPT: u64 = 0x4207;
const SYSCALL_INFO: u64 = 0x420e;

const EXITKILL: u64 = 0x10_0000;
const SYSGOOD: u64 = 1;
const TRACEFORK: u64 = 2;
const TRACEVFORK: u64 = 4;
const TRACEEXEC: u64 = 0x10;
const TRACEEXIT: u64 = 0x40;

const SIGKILL: u8 = 9;
const SIGUSR1: u8 = 10;
const SIGSTOP: u8 = 19;
const SIGTRAP: u32 = 5;
const HANDLER: u64 = 0x5000;
const REGISTERS: u64 = DATA + 2048;

/// The status word of a stop.
fn stopped(code: u32) -> u32 {
    code << 8 | 0x7f
}

fn event(number: u32) -> u32 {
    stopped(SIGTRAP | number << 8)
}

impl World {
    fn ptrace(&mut self, tracer: u32, request: u64, tid: u32, data: u64) -> Option<i64> {
        self.syscall(tracer, 101, &[request, u64::from(tid), 0, data])
    }

    /// What the tracer is told of a thread next, if anything.
    fn told(&mut self, tracer: u32, tid: u32) -> Option<u32> {
        let answer = self.wait(tracer, tid as i32, 0x4000_0001);
        (answer == Some(i64::from(tid))).then(|| self.status())
    }

    fn shown(&mut self, tracer: u32, tid: u32) -> [u64; 27] {
        assert_eq!(self.ptrace(tracer, GETREGS, tid, REGISTERS), Some(0));
        let bytes = self.peek(REGISTERS, 216);
        std::array::from_fn(|index| word_at(&bytes, 8 * index))
    }
}

/// The first program has seized its child.
fn seized(options: u64) -> (World, u32) {
    let mut world = World::started();
    world.registers(2).rsp = STACK + 0x8000;
    let child = world.fork(2);
    assert_eq!(world.ptrace(2, SEIZE, child, options), Some(0));
    (world, child)
}

#[test]
fn a_signal_is_the_tracers_to_pass_on_or_not() {
    let (mut world, child) = seized(0);
    world.action(child, SIGUSR1, HANDLER, 0);
    world.kill_process(2, child as i32, SIGUSR1);
    assert!(!world.runs(child));
    assert_eq!(world.told(2, child), Some(stopped(10)));
    assert_eq!(world.told(2, child), None, "once");
    assert_eq!(world.ptrace(2, CONT, child, 0), Some(0));
    assert!(world.runs(child) && !world.handles(child, HANDLER));
    world.kill_process(2, child as i32, SIGUSR1);
    assert_eq!(world.ptrace(2, CONT, child, u64::from(SIGUSR1)), Some(0));
    assert!(world.handles(child, HANDLER));
}

#[test]
fn even_an_ignored_signal_is_told_and_sigkill_is_not() {
    let (mut world, child) = seized(0);
    world.kill_process(2, child as i32, 17);
    assert_eq!(world.told(2, child), Some(stopped(17)));
    world.kill_process(2, child as i32, SIGKILL);
    assert_eq!(world.told(2, child), Some(9), "it ends, stopped or not");
    assert_eq!(world.told(2, child), None);
    assert!(!world.proc.processes.contains_key(&crate::id::Pid(child)));
}

#[test]
fn only_a_stopped_thread_can_be_looked_into_and_only_by_its_tracer() {
    let (mut world, child) = seized(0);
    let other = world.fork(2);
    assert_eq!(world.ptrace(2, GETREGS, child, REGISTERS), Some(-3));
    assert_eq!(world.ptrace(2, INTERRUPT, child, 0), Some(0));
    assert_eq!(world.told(2, child), Some(event(128)));
    assert_eq!(world.ptrace(other, GETREGS, child, REGISTERS), Some(-3));
    assert_eq!(world.ptrace(2, GETREGS, child, REGISTERS), Some(0));
    assert_eq!(world.ptrace(other, SEIZE, child, 0), Some(-1), "one tracer is enough");
    assert_eq!(world.ptrace(2, 77, child, 0), Some(-5));
}

#[test]
fn a_system_call_stops_twice_and_shows_number_arguments_and_result() {
    let (mut world, child) = seized(SYSGOOD);
    world.ptrace(2, INTERRUPT, child, 0);
    world.told(2, child);
    assert_eq!(world.ptrace(2, SYSCALL, child, 0), Some(0));
    world.syscall(child, 121, &[0]);
    assert_eq!(world.told(2, child), Some(stopped(0x85)));
    let shown = world.shown(2, child);
    assert_eq!((shown[10] as i64, shown[15]), (-38, 121), "the result is not there yet");
    assert_eq!(world.syscall(2, 101, &[SYSCALL_INFO, u64::from(child), 128, REGISTERS]), Some(80));
    assert_eq!([0, 24].map(|at| world.peek32(REGISTERS + at) & 0xff), [1, 121]);
    assert_eq!(world.ptrace(2, SYSCALL, child, 0), Some(0));
    assert_eq!(world.told(2, child), Some(stopped(0x85)));
    let shown = world.shown(2, child);
    assert_eq!((shown[10], shown[15]), (2, 121));
    assert_eq!(world.syscall(2, 101, &[SYSCALL_INFO, u64::from(child), 128, REGISTERS]), Some(33));
    assert_eq!(world.peek(REGISTERS, 33)[32], 0, "it is no error");
    assert_eq!(world.ptrace(2, CONT, child, 0), Some(0));
    assert!(world.runs(child));
    assert_eq!(world.syscall(child, 121, &[0]), Some(2), "it stops no more");
}

#[test]
fn registers_and_memory_can_be_changed() {
    let (mut world, child) = seized(0);
    world.ptrace(2, INTERRUPT, child, 0);
    let mut shown = world.shown(2, child);
    (shown[10], shown[16]) = (42, 0x7000);
    world.poke(REGISTERS, &shown.map(u64::to_le_bytes).concat());
    assert_eq!(world.ptrace(2, SETREGS, child, REGISTERS), Some(0));
    assert_eq!((world.registers(child).rax, world.registers(child).rip), (42, 0x7000));
    shown[16] = 1 << 47;
    world.poke(REGISTERS, &shown.map(u64::to_le_bytes).concat());
    assert_eq!(world.ptrace(2, SETREGS, child, REGISTERS), Some(-5), "no program is there");
    let place = DATA + 512;
    assert_eq!(world.syscall(2, 101, &[POKE, u64::from(child), place, 0x1234]), Some(0));
    assert_eq!(world.syscall(2, 101, &[PEEK, u64::from(child), place, REGISTERS]), Some(0));
    assert_eq!(world.peek32(REGISTERS), 0x1234);
    assert_eq!(world.syscall(2, 101, &[PEEK, u64::from(child), 8, REGISTERS]), Some(-5));
}

#[test]
fn an_interrupted_call_shows_linuxs_code_and_is_made_again_unless_the_tracer_sets_another_result() {
    for result in [None, Some(7)] {
        let (mut world, child) = seized(0);
        let after = world.registers(child).rip + 2;
        world.begin(child, 34, &[]);
        world.run();
        world.ptrace(2, INTERRUPT, child, 0);
        let mut shown = world.shown(2, child);
        assert_eq!((shown[10] as i64, shown[15], shown[16]), (-514, 34, after));
        if let Some(result) = result {
            shown[10] = result;
            world.poke(REGISTERS, &shown.map(u64::to_le_bytes).concat());
            world.ptrace(2, SETREGS, child, REGISTERS);
        }
        world.ptrace(2, CONT, child, 0);
        let registers = *world.registers(child);
        let expected = if let Some(result) = result { (after, result) } else { (after - 2, 34) };
        assert_eq!((registers.rip, registers.rax), expected);
    }
}

#[test]
fn a_step_sets_the_trap_flag_which_nobody_sees_and_its_exception_is_told() {
    let (mut world, child) = seized(0);
    world.ptrace(2, INTERRUPT, child, 0);
    world.told(2, child);
    world.ptrace(2, STEP, child, 0);
    assert_eq!(world.registers(child).rflags & 0x100, 0x100);
    world.fault(child, 1);
    assert_eq!(world.told(2, child), Some(stopped(SIGTRAP)));
    assert_eq!(world.shown(2, child)[18] & 0x100, 0);
    world.ptrace(2, CONT, child, 0);
    assert_eq!(world.registers(child).rflags & 0x100, 0);
    assert!(world.runs(child));
}

#[test]
fn a_fork_is_an_event_and_its_child_is_traced_and_stops_first() {
    let (mut world, child) = seized(TRACEFORK);
    world.syscall(child, 57, &[]);
    assert_eq!(world.told(2, child), Some(event(1)));
    assert_eq!(world.ptrace(2, GETEVENTMSG, child, REGISTERS), Some(0));
    let grandchild = world.peek32(REGISTERS);
    assert!(!world.runs(grandchild));
    assert_eq!(world.told(2, grandchild), Some(event(128)));
    world.ptrace(2, CONT, child, 0);
    world.ptrace(2, CONT, grandchild, 0);
    assert!(world.runs(child) && world.runs(grandchild));
    world.exit(grandchild, 3);
    assert_eq!(world.wait(child, grandchild as i32, 1), Some(0), "its parent waits for the tracer");
    assert_eq!(world.told(2, grandchild), Some(0x300));
    assert_eq!(world.told(2, grandchild), None);
    assert_eq!(world.told(2, child), Some(stopped(17)), "now its parent is told");
    world.ptrace(2, CONT, child, 0);
    assert_eq!(world.wait(child, grandchild as i32, 1), Some(i64::from(grandchild)));
}

#[test]
fn a_vfork_stops_before_the_wait_and_may_be_over_before_it_goes_on() {
    for early in [false, true] {
        let (mut world, child) = seized(TRACEVFORK);
        let call = world.begin(child, 58, &[]);
        world.run();
        assert_eq!(world.told(2, child), Some(event(2)));
        world.ptrace(2, GETEVENTMSG, child, REGISTERS);
        let grandchild = world.peek32(REGISTERS);
        world.ptrace(2, CONT, grandchild, 0);
        if early {
            world.exit(grandchild, 0);
            assert_eq!(world.result(call), None);
        }
        world.ptrace(2, CONT, child, 0);
        if !early {
            assert_eq!(world.result(call), None, "it waits for its child");
            world.exit(grandchild, 0);
        }
        assert_eq!(world.result(call), Some(i64::from(grandchild)));
        assert!(world.runs(child));
    }
}

#[test]
fn an_exec_is_an_event_or_a_signal() {
    let (mut world, child) = seized(TRACEEXEC);
    world.exec(child);
    assert_eq!(world.told(2, child), Some(event(4)));
    let mut world = World::started();
    let child = world.fork(2);
    assert_eq!(world.syscall(child, 101, &[TRACEME]), Some(0));
    world.exec(child);
    assert_eq!(world.told(2, child), Some(stopped(SIGTRAP)));
}

#[test]
fn an_end_is_an_event_first_and_its_message_the_status() {
    let (mut world, child) = seized(TRACEEXIT);
    world.exit(child, 5);
    assert_eq!(world.told(2, child), Some(event(6)));
    world.ptrace(2, GETEVENTMSG, child, REGISTERS);
    assert_eq!(world.peek32(REGISTERS), 0x500);
    world.ptrace(2, CONT, child, 0);
    assert_eq!(world.registers(child).rax, 231, "the call is made again");
    world.exit(child, 5);
    assert_eq!(world.told(2, child), Some(0x500));
}

#[test]
fn a_thread_of_another_process_leaves_its_status_to_its_tracer() {
    let mut world = World::started();
    let (child, tracer) = (world.fork(2), world.fork(2));
    let thread = world.thread(child);
    assert_eq!(world.ptrace(tracer, SEIZE, thread, 0), Some(0));
    assert_eq!(world.wait(tracer, thread as i32, 1), Some(0));
    world.exit_thread(thread, 4);
    assert_eq!(world.told(tracer, thread), Some(0x400));
    assert_eq!(world.wait(tracer, thread as i32, 1), Some(-10));
    assert!(world.runs(child));
}

#[test]
fn the_tracers_end_lets_go_or_kills() {
    for (options, lives) in [(0, true), (EXITKILL, false)] {
        let mut world = World::started();
        let (child, tracer) = (world.fork(2), world.fork(2));
        world.ptrace(tracer, SEIZE, child, options);
        world.ptrace(tracer, INTERRUPT, child, 0);
        assert!(!world.runs(child));
        world.exit(tracer, 0);
        assert_eq!(world.lives(child) && world.runs(child), lives);
    }
}

#[test]
fn a_detached_thread_takes_the_signal_that_it_is_given() {
    let (mut world, child) = seized(0);
    world.kill_process(2, child as i32, SIGSTOP);
    world.told(2, child);
    assert_eq!(world.ptrace(2, DETACH, child, u64::from(SIGSTOP)), Some(0));
    assert_eq!(world.wait(2, child as i32, 3), Some(i64::from(child)));
    assert_eq!(world.status(), stopped(19), "as its child");
    assert_eq!(world.ptrace(2, SETOPTIONS, child, 0), Some(-3));
}

#[test]
fn a_stop_survives_a_restart_of_the_server() {
    let (mut world, child) = seized(SYSGOOD);
    world.crashes = true;
    world.ptrace(2, INTERRUPT, child, 0);
    world.ptrace(2, SYSCALL, child, 0);
    world.syscall(child, 121, &[0]);
    assert_eq!(world.told(2, child), Some(stopped(0x85)));
    world.ptrace(2, CONT, child, 0);
    assert!(world.runs(child));
}
