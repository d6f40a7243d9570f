//! What is at hand is cheap: no messages, and few allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use libipc::linux::open::*;
use libipc::proto::fs::{From, Operation as Op};
use libipc::server::{Call, Event, Server};

use crate::model::{MEMORY, Machine, request};
use crate::small_image;

/// The system's allocator, which counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every request is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from the same allocator.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations a step with this call takes when nothing has to be fetched.
fn allocations(machine: &mut Machine, call: impl Fn(&mut Machine) -> Call) -> u64 {
    let first = call(machine);
    let first = machine.begin(first);
    machine.finish(first);
    let event = Event::Call(call(machine));
    let before = ALLOCATIONS.get();
    let effects = machine.ufs.step(&event, &mut machine.script);
    let count = ALLOCATIONS.get() - before;
    let sends = effects.list.iter().any(|effect| matches!(effect, libipc::server::Effect::Send { .. }));
    assert!(!sends, "nothing is missing");
    count
}

#[test]
fn what_was_read_once_is_not_fetched_again() {
    let mut machine = Machine::new(vec![small_image()], 8 << 20, 1);
    let all = |machine: &mut Machine| {
        let mut file = machine.open(b"level-0/level-1/../../file-of-70000", O_RDONLY).unwrap();
        crate::tree::read(machine, &mut file, 4096);
        let mut directory = machine.open(b"", O_RDONLY).unwrap();
        crate::tree::list(machine, &mut directory, 4096);
        assert!(machine.open(b"level-0/absent", O_RDONLY).is_err());
    };
    all(&mut machine);
    let reads = machine.reads.len();
    all(&mut machine);
    assert_eq!(machine.reads.len(), reads);
}

#[test]
fn a_warm_read_allocates_little() {
    let mut machine = Machine::new(vec![small_image()], 8 << 20, 1);
    let file = machine.open(b"file-of-70000", O_RDONLY).unwrap();
    let count = allocations(&mut machine, |machine| {
        machine.linux_call(&file, 17, [MEMORY, 4096, 60_000, 0, 0], None)
    });
    assert!(count <= 8, "{count} allocations");
}

#[test]
fn a_warm_walk_allocates_little() {
    let mut machine = Machine::new(vec![small_image()], 8 << 20, 1);
    let stat = request(From::Root(0), b"level-0/level-1/level-2/level-3/file", Op::Stat);
    let open =
        request(From::Root(0), b"level-0/level-1/level-2/level-3/file", Op::Open { flags: 0, mode: 0 });
    for asked in [stat, open] {
        let message = asked.message();
        let count = allocations(&mut machine, |machine| machine.script.native(message.clone()));
        assert!(count <= 16, "{count} allocations");
    }
}
