//! Arenas that run out at every step: what finds no room is refused and has changed nothing, and what was refused
//! half-way through a longer piece of work can be undone to the last object.

use libipc::abi::delivery::{Kind, MessageBuffer};
use libipc::abi::foreign::Role;
use libipc::abi::syscall::Syscall;
use libipc::abi::{KernelError, Rights};

use super::descriptors::{Linux, linux_in};
use super::{World, info};
use crate::arch::emulated;
use crate::core::arena::Slot;
use crate::core::boot::Memory;
use crate::core::host::Used;
use crate::core::object::TaskId;

/// Shortens one arena to so many places, or says how many it had in use.
type Arena = (&'static str, fn(&mut Memory, usize), fn(&World) -> u32);

/// More places than the work below needs.
const ENOUGH: u32 = 12;
const TASK: u64 = 3000;
const THREAD: u64 = 3001;
const SPACE: u64 = 900;
const PAYLOAD: u32 = 100;

fn shorten<T>(places: &mut &'static mut [Slot<T>], count: usize) {
    *places = &mut core::mem::take(places)[..count];
}

const ARENAS: [Arena; 8] = [
    ("tasks", |memory, count| shorten(&mut memory.tasks, count), |world| world.kernel.tasks.used()),
    ("threads", |memory, count| shorten(&mut memory.threads, count), |world| world.kernel.threads.used()),
    ("spaces", |memory, count| shorten(&mut memory.spaces, count), |world| world.kernel.spaces.used()),
    ("tables", |memory, count| shorten(&mut memory.tables, count), |world| world.kernel.tables.used()),
    ("chunks", |memory, count| shorten(&mut memory.chunks, count), |world| world.kernel.chunks.used()),
    ("sessions", |memory, count| shorten(&mut memory.sessions, count), |world| world.kernel.sessions.used()),
    ("calls", |memory, count| shorten(&mut memory.calls, count), |world| world.kernel.calls.used()),
    (
        "buffers",
        |memory, count| memory.buffers = &mut core::mem::take(&mut memory.buffers)[..count.max(1)],
        |world| world.kernel.buffers.free.len() as u32 - world.kernel.buffers.count,
    ),
];

/// A system that does a bit of everything, one step at a time.
struct Work {
    linux: Linux,
    proc: TaskId,
    refusals: u32,
}

/// What there is. Chunks of slots are not in it: a table keeps those it has grown by.
fn used(world: &World) -> Used {
    world.kernel.used()
}

impl Work {
    fn new(world: World) -> Work {
        let mut linux = linux_in(world);
        let proc = linux.world.role(Role::Proc);
        let inbox = linux.world.inbox(linux.vfs);
        linux.world.kernel.put(proc, 0, inbox, Rights::CALL).unwrap();
        Work { linux, proc, refusals: 0 }
    }

    /// One step: it succeeds, or there was no room and all is as before.
    fn step(&mut self, task: TaskId, call: Syscall, arguments: &[u64]) {
        let before = used(&self.linux.world);
        match self.linux.world.trap(task, call, arguments).expect("no step waits") {
            Ok(_) => {}
            Err(KernelError::Exhausted | KernelError::Quota) => {
                self.refusals += 1;
                assert_eq!(used(&self.linux.world), before, "{call:?} was refused");
            }
            // What an earlier step would have made is not there.
            Err(KernelError::BadHandle) if self.refusals > 0 => {}
            Err(error) => panic!("{call:?}: {error}"),
        }
    }

    fn all(&mut self) {
        let (vm, vfs, proc) = (self.linux.vm, self.linux.vfs, self.proc);
        let top = self.linux.world.frames(1);
        self.linux.world.kernel.frames.give(top, vm.index() as u16);
        self.step(vm, Syscall::SpaceCreate, &[SPACE, SPACE, u64::from(top.first.0)]);
        let [space, source] = [self.linux.program.badge, self.linux.program.thread_slot];
        let fork = [TASK | THREAD << 32, space | source << 32, 77 | 66 << 32, 2 | 8, 0x7000, u64::MAX];
        self.step(proc, Syscall::TaskFork, &fork);
        for badge in [70, 71, 200] {
            self.step(vfs, Syscall::SessionCreate, &[badge, badge, 0, 0, 0]);
        }
        let header = MessageBuffer { send: [space as u32, 0, 0, 0], ..MessageBuffer::default() };
        self.linux.world.set_header(proc, header);
        for length in [0, PAYLOAD, PAYLOAD] {
            self.step(proc, Syscall::Send, &[0, info(1, length, 1), 9]);
        }
    }

    /// Undoes whatever of it there is.
    fn undo(&mut self) {
        let (vm, vfs, proc) = (self.linux.vm, self.linux.vfs, self.proc);
        let world = &mut self.linux.world;
        let bad = |result: Option<Result<_, KernelError>>| {
            assert!(matches!(result, Some(Ok(_) | Err(KernelError::BadHandle))), "{result:?}");
        };
        bad(world.trap(proc, Syscall::TaskKill, &[TASK]));
        bad(world.trap(proc, Syscall::Close, &[TASK | 1 << 32, THREAD]));
        bad(world.trap(vm, Syscall::SpaceDestroy, &[SPACE]));
        bad(world.trap(vm, Syscall::Close, &[SPACE]));
        for badge in [70, 71, 200] {
            bad(world.trap(vfs, Syscall::Close, &[badge]));
        }
        while world.trap(vfs, Syscall::Receive, &[]).is_some() {
            let delivery = world.delivery(vfs);
            assert_eq!(delivery.kind, Kind::Call as u32);
            for handle in delivery.handles.into_iter().filter(|handle| *handle != u32::MAX) {
                world.ok(vfs, Syscall::Close, &[u64::from(handle)]);
            }
            world.ok(vfs, Syscall::Reply, &[delivery.token, 0]);
        }
        while world.trap(proc, Syscall::Receive, &[]).is_some() {}
    }
}

#[test]
fn what_finds_no_room_is_refused_and_changes_nothing_whichever_arena_is_full() {
    for (name, shorten, count) in ARENAS {
        let plenty = Work::new(World::new());
        let (least, empty) = (count(&plenty.linux.world), used(&plenty.linux.world));
        let mut refusals = Vec::new();
        for room in 0..=ENOUGH {
            let mut memory = emulated::memory(4096);
            shorten(&mut memory, (least + room) as usize);
            let mut work = Work::new(World::over(memory));
            assert_eq!(used(&work.linux.world), empty, "{name} with room for {room}");
            work.all();
            refusals.push(work.refusals);
            work.undo();
            assert_eq!(used(&work.linux.world), empty, "{name} with room for {room}: something is left");
        }
        assert!(refusals[0] > 0 && refusals[ENOUGH as usize] == 0, "{name}: {refusals:?}");
        assert!(refusals.is_sorted_by(|more, less| more >= less), "{name}: {refusals:?}");
    }
}
