//! Core files: the process that leaves one writes it, and ends when it has.

use super::world::{DATA, STACK, VDSO, World};
use crate::memory::{half_at, word_at};

const SIGKILL: u8 = 9;
const SIGSEGV: u32 = 11;
const CORE: u32 = 0x80;
const NOTES: u64 = 0x4e00;
/// Where the registers begin in the first note, and in them rip and rsp.
const REGISTERS: usize = 20 + 112;
const RIP: usize = REGISTERS + 8 * 16;
const RSP: usize = REGISTERS + 8 * 19;

/// A world in which cores may be left, and a child that has failed at an instruction of its own.
fn failed() -> (World, u32) {
    let mut world = World::started();
    world.poke(DATA + 512, &[0xff; 16]);
    assert_eq!(world.syscall(2, 160, &[4, DATA + 512]), Some(0));
    let child = world.fork(2);
    world.registers(child).rip = 0x40_2345;
    world.registers(child).rsp = STACK + 0x7000;
    (world, child)
}

fn notes(world: &mut World, tid: u32, thread: u64) -> (i64, Vec<u8>) {
    let length = world.syscall(tid, 101, &[NOTES, thread, DATA + 1024, 2048]).unwrap();
    (length, world.peek(DATA + 1024, 1400))
}

#[test]
fn the_thread_that_failed_goes_on_in_the_shared_object_and_is_told_its_registers() {
    let (mut world, child) = failed();
    world.fault(child, 13);
    let registers = *world.registers(child);
    assert_eq!((registers.rip, registers.rdi), (VDSO, STACK + 0x8000));
    assert_eq!(world.wait(2, -1, 1), Some(0), "it has not ended yet");
    let (length, bytes) = notes(&mut world, child, 0);
    assert!(length > 0);
    assert_eq!((half_at(&bytes, 8), half_at(&bytes, 20)), (1, SIGSEGV));
    assert_eq!((word_at(&bytes, RIP), word_at(&bytes, RSP)), (0x40_2345, STACK + 0x7000));
    assert_eq!(notes(&mut world, child, 1).0, 0, "there is no other thread");
    assert_eq!(notes(&mut world, 2, 0).0, -1, "nobody else is told");
    world.exit(child, 0);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), SIGSEGV | CORE));
}

#[test]
fn other_threads_stand_still_meanwhile_and_are_in_the_core() {
    let (mut world, child) = failed();
    let other = world.thread(child);
    world.registers(other).rip = 0x40_9999;
    world.fault(child, 13);
    assert!(world.runs(child) && !world.runs(other));
    let (length, bytes) = notes(&mut world, child, 1);
    assert!(length > 0);
    assert_eq!((half_at(&bytes, 20), half_at(&bytes, 20 + 32)), (0, other));
    assert_eq!(word_at(&bytes, RIP), 0x40_9999);
    world.exit(child, 0);
    assert!(!world.lives(other));
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), SIGSEGV | CORE));
}

#[test]
fn a_core_that_cannot_be_written_is_not_told_of() {
    let (mut world, child) = failed();
    world.fault(child, 13);
    world.exit(child, 1);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), SIGSEGV));
}

#[test]
fn a_writer_that_fails_or_is_killed_ends_at_once() {
    let (mut world, child) = failed();
    world.fault(child, 13);
    world.fault(child, 13);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), SIGSEGV));
    let child = world.fork(2);
    world.fault(child, 13);
    assert_eq!(world.kill_process(2, child as i32, 15), 0);
    assert_eq!(world.wait(2, -1, 1), Some(0), "other signals come too late");
    assert_eq!(world.kill_process(2, child as i32, SIGKILL), 0);
    assert_eq!((world.wait(2, -1, 0), world.status()), (Some(i64::from(child)), SIGSEGV));
}
