//! The history of a server as another may look at it.

use libipc::abi::journal::{Record, SUM_START, Section, sum};
use libipc::abi::syscall::Syscall;
use libipc::abi::{KernelError, PAGE_SIZE, Protection, Rights};
use libipc::linux::call::STAT;
use libipc::server::DIGEST_BIT;
use libipc::server::boot::{BOOT_ADDRESS, BOOT_PAGES};

use super::descriptors::{Linux, linux};
use super::{World, info};
use crate::core::Machine;
use crate::core::object::{FrameRange, Object, TaskId};

/// The slot through which vfs looks at the others.
const LOOK: u64 = 30;
const BUFFER: u64 = 0x10_0000;

/// A journaled server that has received two messages and answered one, and may be looked at by vfs.
fn busy() -> (Linux, TaskId) {
    let mut linux = linux();
    let world = &mut linux.world;
    let server = world.server(7, true);
    world.start(7);
    world.kernel.put(linux.vfs, LOOK, Object::Task(server), Rights::INSPECT).unwrap();
    world.kernel.put(linux.vfs, LOOK + 1, world.inbox(server), Rights::CALL).unwrap();
    for word in [5, 6] {
        world.ok(linux.vfs, Syscall::Send, &[LOOK + 1, info(1, 0, 0), word]);
        world.ok(server, Syscall::Receive, &[]);
    }
    (linux, server)
}

fn journal_bytes(world: &World, server: TaskId) -> u64 {
    world.kernel.server(server).unwrap().journal.unwrap().end
}

/// Gives a server a boot block.
pub fn map_boot_block(world: &mut World, number: u64) -> FrameRange {
    let (tables, pages) = (world.frames(3), world.frames(BOOT_PAGES as u32));
    let mut payload: Vec<u8> = (0..3).flat_map(|table| (tables.first.0 + table).to_le_bytes()).collect();
    payload.resize(16, 0);
    for page in 0..BOOT_PAGES as u32 {
        payload.extend_from_slice(&(BOOT_ADDRESS + u64::from(page) * PAGE_SIZE).to_le_bytes());
        payload.extend_from_slice(&(pages.first.0 + page).to_le_bytes());
        payload.extend_from_slice(&u32::from(Protection::READ.bits()).to_le_bytes());
    }
    world.set_payload(world.root, &payload);
    world.ok(world.root, Syscall::Map, &[number + 200, 3, BOOT_PAGES]);
    pages
}

/// What a program gets of a section, through the server it asked.
fn copied(linux: &mut Linux, section: Section, offset: u64, length: u64) -> Vec<u8> {
    let Linux { world, vm, vfs, program } = linux;
    let pages = world.map(*vm, program, BUFFER, 17, Protection::READ | Protection::WRITE);
    world.kernel.machine.bytes(pages, 0, 5).copy_from_slice(b"file\0");
    assert_eq!(world.linux(program, STAT, &[BUFFER, BUFFER]), None);
    world.ok(*vfs, Syscall::Receive, &[]);
    let token = world.delivery(*vfs).token;
    world.ok(*vfs, Syscall::LeaseFromJournal, &[token, BUFFER + 9, LOOK, section as u64, offset, length]);
    world.kernel.machine.bytes(pages, 9, length).to_vec()
}

#[test]
fn the_records_of_a_server_reach_a_program_as_they_are() {
    let (mut linux, server) = busy();
    let length = journal_bytes(&linux.world, server);
    let bytes = copied(&mut linux, Section::Journal, 0, length);
    let (mut rest, mut calls) = (&bytes[..], Vec::new());
    while let Some(record) = Record::take(&mut rest) {
        calls.push(record.header.number);
    }
    assert_eq!((calls, rest.len()), (vec![Syscall::Receive as u16; 2], 0));
    let summed = linux.world.ok(linux.vfs, Syscall::JournalSum, &[LOOK, 2, 0, length, SUM_START]);
    assert_eq!(summed[0], sum(SUM_START, &bytes));
}

#[test]
fn a_sum_goes_on_from_part_to_part_over_page_bounds() {
    let (mut linux, server) = busy();
    let vfs = linux.vfs;
    let world = &mut linux.world;
    for _ in 0..40 {
        world.ok(server, Syscall::Clock, &[]);
        world.ok(vfs, Syscall::Send, &[LOOK + 1, info(1, 0, 0), 1]);
        world.ok(server, Syscall::Receive, &[]);
    }
    let length = journal_bytes(world, server);
    assert!(length > PAGE_SIZE);
    let mut part =
        |from: u64, to: u64, start| world.ok(vfs, Syscall::JournalSum, &[LOOK, 2, from, to - from, start])[0];
    let whole = part(0, length, SUM_START);
    let half = part(0, PAGE_SIZE - 1, SUM_START);
    assert_eq!(part(PAGE_SIZE - 1, length, half), whole);
}

#[test]
fn the_boot_block_is_read_where_the_server_has_it() {
    let (mut linux, _) = busy();
    let length = BOOT_PAGES * PAGE_SIZE;
    assert_eq!(
        linux.world.trap(linux.vfs, Syscall::JournalSum, &[LOOK, 0, 0, length, SUM_START]),
        Some(Err(KernelError::BadArgument)),
        "it has none yet"
    );
    let pages = map_boot_block(&mut linux.world, 7);
    linux.world.kernel.machine.bytes(pages, PAGE_SIZE - 2, 4).copy_from_slice(b"boot");
    assert_eq!(copied(&mut linux, Section::Boot, PAGE_SIZE - 2, 4), b"boot");
}

#[test]
fn parts_that_are_none_and_lookers_without_the_right_are_refused() {
    let (mut linux, _) = busy();
    let (vfs, vm) = (linux.vfs, linux.vm);
    let world = &mut linux.world;
    let mut sum_of = |task, handle, section, offset, length| {
        world.trap(task, Syscall::JournalSum, &[handle, section, offset, length, 0]).unwrap()
    };
    // Half of what it was given is for the time before its last snapshot.
    let memory = 32 * PAGE_SIZE;
    assert_eq!(sum_of(vfs, LOOK, 3, 0, 1), Err(KernelError::BadArgument));
    assert_eq!(sum_of(vfs, LOOK, 2, memory, 1), Err(KernelError::BadArgument));
    assert_eq!(sum_of(vfs, LOOK, 2, u64::MAX, 1), Err(KernelError::BadArgument));
    assert_eq!(sum_of(vfs, LOOK, 2, 0, (1 << 16) + 1), Err(KernelError::TooBig));
    assert_eq!(sum_of(vm, LOOK, 2, 0, 1), Err(KernelError::BadHandle));
    assert_eq!(sum_of(vfs, LOOK + 1, 2, 0, 1), Err(KernelError::NoRight));
    assert!(sum_of(vfs, LOOK, 2, memory - 1, 1).is_ok());
    world.kernel.put(vm, LOOK, Object::Task(vfs), Rights::INSPECT).unwrap();
    let unjournaled = world.trap(vm, Syscall::DigestAsk, &[LOOK]);
    assert_eq!(unjournaled, Some(Err(KernelError::WrongKind)));
}

#[test]
fn a_digest_that_is_asked_for_is_told_and_a_replay_must_tell_the_same() {
    let (mut linux, server) = busy();
    let vfs = linux.vfs;
    let world = &mut linux.world;
    assert_eq!(world.ok(vfs, Syscall::TaskInfo, &[LOOK, 5])[2], 0);
    world.ok(vfs, Syscall::DigestAsk, &[LOOK]);
    world.ok(server, Syscall::Receive, &[]);
    assert_eq!(world.delivery(server).words[0], DIGEST_BIT);
    world.ok(server, Syscall::Digest, &[77]);
    assert_eq!(world.ok(vfs, Syscall::TaskInfo, &[LOOK, 5])[..3], [77, 3, 1]);
    for (digest, state) in [(77, true), (78, false)] {
        let id = world.kernel.tasks.get(server).unwrap().server.unwrap();
        world.kernel.die(id, crate::core::death::Death::Outside);
        world.ok(world.root, Syscall::ServerRestart, &[107]);
        for _ in 0..3 {
            world.ok(server, Syscall::Receive, &[]);
        }
        world.trap(server, Syscall::Digest, &[digest]);
        let alive = world.kernel.server(server).unwrap().state == crate::core::object::ServerState::Alive;
        assert_eq!(alive, state, "digest {digest}");
    }
}
