//! Tests of calls.

use libipc::abi::Protection;
use libipc::linux::errno::*;
use libipc::linux::open::{O_PATH, O_RDWR, O_WRONLY, S_MAPPABLE};
use libipc::proto::space::{Answer, Limits, Request as Ask};
use libipc::server::Foreign;

use crate::region::REGIONS_MAX;
use crate::tables::MACHINE;
use crate::tests::machine::{FILES, Machine, PAGE};
use crate::tests::program::start;

const BASE: u64 = 0x10_0000_0000;
const READ: u64 = 1;
const RW: u64 = 3;
const SHARED: u64 = 1;
const PRIVATE: u64 = 2;
const FIXED: u64 = 0x10;
const ANONYMOUS: u64 = 0x20;
const NOREPLACE: u64 = 0x10_0000;
const NOBODY: u64 = u64::MAX;
const FRAMES: u64 = 400;

struct Program {
    machine: Machine,
    space: u64,
}

impl Program {
    fn new() -> Program {
        let mut machine = Machine::new(FRAMES as u32, b"");
        let space = start(&mut machine).space;
        Program { machine, space }
    }

    fn call(&mut self, number: u32, arguments: [u64; 6]) -> i64 {
        let result = self.machine.linux(self.space, number, arguments);
        self.machine.check();
        result
    }

    fn mmap(&mut self, address: u64, length: u64, protection: u64, flags: u64) -> i64 {
        self.call(9, [address, length, protection, flags, NOBODY, 0])
    }

    fn place(&mut self, address: u64, pages: u64) {
        let flags = PRIVATE | ANONYMOUS | FIXED;
        assert_eq!(self.mmap(address, pages * PAGE, RW, flags), address as i64);
    }

    fn brk(&mut self, address: u64) -> u64 {
        self.call(12, [address, 0, 0, 0, 0, 0]) as u64
    }

    fn write(&mut self, address: u64, byte: u8) -> Result<(), (u64, i32)> {
        self.machine.write(self.space, address, byte)
    }

    fn read(&mut self, address: u64) -> Result<u8, (u64, i32)> {
        self.machine.read(self.space, address)
    }
}

fn errno(errno: i32) -> i64 {
    -i64::from(errno)
}

#[test]
fn mmap_refuses_what_linux_refuses() {
    let mut program = Program::new();
    program.place(BASE, 1);
    let anonymous = PRIVATE | ANONYMOUS;
    let cases = [
        ([0, 0, RW, anonymous, NOBODY, 0], EINVAL),
        ([0, PAGE, RW, anonymous, NOBODY, 1], EINVAL),
        ([0, PAGE, RW, ANONYMOUS, NOBODY, 0], EINVAL),
        ([0, PAGE, RW, PRIVATE, NOBODY, 0], EBADF),
        ([0, u64::MAX, READ, anonymous, NOBODY, 0], ENOMEM),
        ([0, MACHINE.user_end, READ, anonymous, NOBODY, 0], ENOMEM),
        ([0, (FRAMES + 1) * PAGE, RW, anonymous, NOBODY, 0], ENOMEM),
        ([BASE + 1, PAGE, RW, anonymous | FIXED, NOBODY, 0], EINVAL),
        ([0x1000, PAGE, RW, anonymous | FIXED, NOBODY, 0], EPERM),
        ([MACHINE.user_end, PAGE, RW, anonymous | FIXED, NOBODY, 0], ENOMEM),
        ([BASE, PAGE, RW, anonymous | NOREPLACE, NOBODY, 0], EEXIST),
        ([0, PAGE, RW, 3 | ANONYMOUS | 0x8_0000, NOBODY, 0], EOPNOTSUPP),
        ([0, PAGE, RW, anonymous | 0x4_0000, NOBODY, 0], ENOMEM),
        ([0, 2 << 30, READ, anonymous | 0x40, NOBODY, 0], ENOMEM),
    ];
    for (arguments, expected) in cases {
        assert_eq!(program.call(9, arguments), errno(expected), "{arguments:x?}");
    }
}

#[test]
fn mmap_of_a_file_refuses_shared_stores_and_overflow_and_keeps_no_handle() {
    let mut program = Program::new();
    let space = program.space;
    let mut map = |arguments| {
        let result = program.machine.map_file(space, 2, arguments);
        program.machine.check();
        result
    };
    assert_eq!(map([0, PAGE, RW, SHARED, 3, 0]), errno(EACCES), "it was opened to be read");
    assert_eq!(map([0, 0, READ, SHARED, 3, 0]), errno(EINVAL));
    assert!(map([0, PAGE, READ, SHARED, 3, 0]) > 0);
    assert!(map([0, PAGE, RW, PRIVATE, 3, 0]) > 0);
    assert!(map([0, PAGE, READ, PRIVATE | ANONYMOUS, 3, 0]) > 0);
    for (status, refusal) in [(O_RDWR, ENODEV), (O_WRONLY | S_MAPPABLE, EACCES), (O_PATH | S_MAPPABLE, EBADF)]
    {
        program.machine.status = status;
        assert_eq!(program.machine.map_file(space, 2, [0, PAGE, READ, SHARED, 3, 0]), errno(refusal));
    }
}

#[test]
fn what_is_lent_is_mapped_where_it_lies_and_never_taken_for_vms_own() {
    let mut program = Program::new();
    let space = program.space;
    program.machine.status = O_RDWR | S_MAPPABLE;
    let first = program.machine.map_file(space, 2, [0, PAGE, RW, SHARED, 3, 0]) as u64;
    let private = program.machine.map_file(space, 2, [0, PAGE, RW, PRIVATE, 3, 0]) as u64;
    let object = program.machine.vm.memory.objects.of_file((FILES, 2)).unwrap();
    let free = program.machine.free();
    let lend = |frame| Ask::Lend { object, page: 0, frames: vec![frame] };
    let own = program.machine.vm.memory.frames.take().unwrap();
    assert_eq!(program.machine.ask(&lend(own), 0, &[]).0, Answer::Failed(EINVAL));
    program.machine.vm.memory.frames.release(own);
    let lent = program.machine.lend(7);
    assert_eq!(program.machine.ask(&lend(lent), 0, &[]).0, Answer::Done);
    program.machine.write(space, first, 42).unwrap();
    assert_eq!(program.machine.read(space, private), Ok(42));
    program.machine.write(space, private, 9).unwrap();
    assert_eq!(program.machine.read(space, first), Ok(42));
    program.call(11, [private, PAGE, 0, 0, 0, 0]);
    program.call(11, [first, PAGE, 0, 0, 0, 0]);
    assert!(program.machine.vm.memory.objects.of_file((FILES, 2)).is_none(), "nothing of it is kept");
    assert!(program.machine.free() >= free - 8);
    program.machine.check();
}

#[test]
fn limits_bound_what_is_mapped_and_what_of_it_is_data() {
    let mut program = Program::new();
    let now = program.machine.vm.spaces[&program.space].regions.total();
    let limits =
        Limits { address_space: now.bytes + 4 * PAGE, data: now.data + 2 * PAGE, ..Limits::default() };
    program.machine.ask(&Ask::Limits { space: program.space, limits }, 0, &[]);
    assert_eq!(program.mmap(0, 5 * PAGE, READ, PRIVATE | ANONYMOUS), errno(ENOMEM));
    assert_eq!(program.mmap(0, 3 * PAGE, RW, PRIVATE | ANONYMOUS), errno(ENOMEM));
    let at = program.mmap(0, 3 * PAGE, READ, PRIVATE | ANONYMOUS) as u64;
    assert_eq!(program.call(10, [at, 3 * PAGE, RW, 0, 0, 0]), errno(ENOMEM));
    assert_eq!(program.call(10, [at, 2 * PAGE, RW, 0, 0, 0]), 0);
    assert_eq!(program.mmap(at, 3 * PAGE, RW, SHARED | ANONYMOUS | FIXED), at as i64, "it takes its place");
    assert_eq!(program.call(25, [at, 3 * PAGE, 5 * PAGE, 1, 0, 0]), errno(ENOMEM));
}

#[test]
fn a_protection_is_changed_up_to_the_first_hole() {
    let mut program = Program::new();
    let at = program.mmap(BASE, 2 * PAGE, RW, PRIVATE | ANONYMOUS | FIXED) as u64;
    assert_eq!(program.call(10, [at, 3 * PAGE, READ, 0, 0, 0]), errno(ENOMEM));
    let space = program.space;
    assert_eq!(program.machine.write(space, at + PAGE, 1), Err((11, 2)));
}

#[test]
fn what_is_locked_is_not_invalidated() {
    let mut program = Program::new();
    let at = program.mmap(0, 2 * PAGE, RW, PRIVATE | ANONYMOUS) as u64;
    assert_eq!(program.call(149, [at, PAGE, 0, 0, 0, 0]), 0);
    assert_eq!(program.call(26, [at, 2 * PAGE, 2, 0, 0, 0]), errno(EBUSY));
    assert_eq!(program.call(150, [at, PAGE, 0, 0, 0, 0]), 0);
    assert_eq!(program.call(26, [at, 2 * PAGE, 2, 0, 0, 0]), 0);
    assert_eq!(program.call(151, [1, 0, 0, 0, 0, 0]), 0);
    assert_eq!(program.call(26, [at + PAGE, PAGE, 2, 0, 0, 0]), errno(EBUSY));
    assert_eq!(program.call(152, [0; 6]), 0);
    assert_eq!(program.call(26, [at + PAGE, PAGE, 2, 0, 0, 0]), 0);
}

#[test]
fn a_hint_is_taken_if_it_is_free_and_otherwise_ignored() {
    let mut program = Program::new();
    let anonymous = PRIVATE | ANONYMOUS;
    assert_eq!(program.mmap(BASE + 5, PAGE, RW, anonymous), (BASE + PAGE) as i64);
    let elsewhere = program.mmap(BASE + PAGE, PAGE, RW, anonymous);
    assert!(elsewhere > 0 && elsewhere != (BASE + PAGE) as i64);
    assert!(program.mmap(0x1000, PAGE, RW, anonymous) >= 0x1_0000);
    assert!(program.mmap(u64::MAX - PAGE, PAGE, RW, anonymous) > 0);
    let free = BASE + 8 * PAGE;
    assert_eq!(program.mmap(free, PAGE, RW, anonymous | NOREPLACE), free as i64);
}

#[test]
fn mappings_without_a_wish_are_placed_downward_side_by_side_and_low_ones_below_2_gib() {
    let mut program = Program::new();
    let anonymous = PRIVATE | ANONYMOUS;
    let first = program.mmap(0, 3 * PAGE, RW, anonymous);
    let second = program.mmap(0, PAGE, READ, anonymous);
    assert_eq!(second + PAGE as i64, first);
    assert_eq!(program.call(11, [first as u64, 3 * PAGE, 0, 0, 0, 0]), 0);
    assert_eq!(program.mmap(0, 2 * PAGE, RW, anonymous), first + PAGE as i64, "the hole is used again");
    let low = program.mmap(0, PAGE, RW, anonymous | 0x40);
    assert_eq!((low, program.mmap(0, PAGE, READ, anonymous | 0x40)), (0x4000_0000, 0x4000_1000));
}

#[test]
fn a_fixed_mapping_replaces_what_was_there() {
    let mut program = Program::new();
    program.place(BASE, 4);
    for page in 0..4 {
        program.write(BASE + page * PAGE, 9).unwrap();
    }
    program.place(BASE + PAGE, 2);
    let seen: Vec<u8> = (0..4).map(|page| program.read(BASE + page * PAGE).unwrap()).collect();
    assert_eq!(seen, [9, 0, 0, 9]);
}

#[test]
fn memory_that_nobody_could_ever_have_may_be_reserved_but_not_claimed() {
    let mut program = Program::new();
    let huge = 64 << 30;
    let reserved = program.mmap(0, huge, 0, PRIVATE | ANONYMOUS);
    assert!(reserved > 0);
    assert!(program.mmap(0, huge, RW, PRIVATE | ANONYMOUS | 0x4000) > 0);
    assert_eq!(program.call(10, [reserved as u64, huge, RW, 0, 0, 0]), errno(ENOMEM));
    assert_eq!(program.call(10, [reserved as u64, 16 * PAGE, RW, 0, 0, 0]), 0);
    program.write(reserved as u64, 1).unwrap();
    assert_eq!(program.write(reserved as u64 + 16 * PAGE, 1), Err((11, 2)));
}

#[test]
fn munmap_and_mprotect_refuse_what_linux_refuses() {
    let mut program = Program::new();
    program.place(BASE, 2);
    for (address, length) in [(BASE + 1, PAGE), (BASE, 0), (MACHINE.user_end, PAGE), (BASE, u64::MAX)] {
        assert_eq!(program.call(11, [address, length, 0, 0, 0, 0]), errno(EINVAL), "{address:x} {length:x}");
    }
    let cases = [
        ([BASE + 1, PAGE, READ], EINVAL),
        ([BASE, PAGE, 0x40], EINVAL),
        ([BASE, 3 * PAGE, READ], ENOMEM),
        ([BASE, u64::MAX, READ], ENOMEM),
    ];
    for ([address, length, bits], expected) in cases {
        assert_eq!(program.call(10, [address, length, bits, 0, 0, 0]), errno(expected));
    }
    assert_eq!(program.call(10, [BASE, 0, READ, 0, 0, 0]), 0);
    assert_eq!(program.call(10, [BASE, 2 * PAGE, READ | 8, 0, 0, 0]), 0);
    assert_eq!(program.call(11, [BASE + 8 * PAGE, PAGE, 0, 0, 0, 0]), 0, "a hole is fine");
}

#[test]
fn protection_is_taken_away_at_once_and_given_back_without_a_fault() {
    let mut program = Program::new();
    program.place(BASE, 3);
    for page in 0..3 {
        program.write(BASE + page * PAGE, 7).unwrap();
    }
    assert_eq!(program.call(10, [BASE + PAGE, PAGE, READ, 0, 0, 0]), 0);
    assert_eq!(program.write(BASE + PAGE, 8), Err((11, 2)));
    program.write(BASE + 2 * PAGE, 8).unwrap();
    assert_eq!(program.call(10, [BASE, 3 * PAGE, 0, 0, 0, 0]), 0);
    assert_eq!(program.read(BASE), Err((11, 2)));
    assert_eq!(program.call(10, [BASE, 3 * PAGE, READ, 0, 0, 0]), 0);
    assert_eq!((program.read(BASE + PAGE), program.write(BASE, 1)), (Ok(7), Err((11, 2))));
    assert_eq!(program.call(10, [BASE, 3 * PAGE, RW, 0, 0, 0]), 0);
    let faults = program.machine.count("map") + program.machine.count("protect");
    program.write(BASE + PAGE, 9).unwrap();
    assert_eq!(program.machine.count("map") + program.machine.count("protect"), faults);
}

#[test]
fn a_shared_file_cannot_be_made_writable() {
    let mut program = Program::new();
    let space = program.space;
    let address = program.machine.map_file(space, 2, [0, PAGE, READ, SHARED, 3, 0]) as u64;
    assert_eq!(program.call(10, [address, PAGE, RW, 0, 0, 0]), errno(EACCES));
    assert_eq!(program.call(10, [address, PAGE, 5, 0, 0, 0]), 0);
}

#[test]
fn no_program_has_more_mappings_than_the_limit() {
    let mut program = Program::new();
    let before = program.machine.vm.spaces[&program.space].regions.iter().count() as u64;
    let pages = 2 * REGIONS_MAX;
    assert_eq!(program.mmap(BASE, pages * PAGE, READ, PRIVATE | ANONYMOUS | FIXED), BASE as i64);
    let space = program.machine.vm.spaces.get_mut(&program.space).unwrap();
    for cut in 0..(REGIONS_MAX - before - 1) / 2 {
        let at = BASE + (2 * cut + 1) * PAGE;
        space.regions.change(at..at + PAGE, |region| region.protection = Protection::empty());
    }
    let full = space.regions.iter().count() as u64;
    assert!(REGIONS_MAX - full <= 1);
    let last = BASE + (pages - 8) * PAGE;
    let calls: [(u32, [u64; 6]); 4] = [
        (10, [last, PAGE, 0, 0, 0, 0]),
        (11, [last, PAGE, 0, 0, 0, 0]),
        (28, [last, PAGE, 10, 0, 0, 0]),
        (25, [last, PAGE, PAGE, 3, 0x20_0000_0000, 0]),
    ];
    if full < REGIONS_MAX {
        let arguments = [0x30_0000_0000, PAGE, 5, PRIVATE | ANONYMOUS | FIXED, NOBODY, 0];
        assert!(program.machine.linux(program.space, 9, arguments) > 0);
    }
    for (number, arguments) in calls {
        assert_eq!(program.machine.linux(program.space, number, arguments), errno(ENOMEM), "{number}");
    }
    let arguments = [0, PAGE, 0, PRIVATE | ANONYMOUS, NOBODY, 0];
    assert_eq!(program.machine.linux(program.space, 9, arguments), errno(ENOMEM));
}

#[test]
fn the_break_moves_up_and_down_and_stops_at_a_mapping() {
    let mut program = Program::new();
    let start = program.brk(0);
    assert_eq!(start, 0x40_7000);
    assert_eq!(program.brk(start + 100), start + 100);
    program.write(start + 99, 5).unwrap();
    assert_eq!(program.brk(start + 3 * PAGE), start + 3 * PAGE);
    program.write(start + 2 * PAGE, 6).unwrap();
    assert_eq!(program.brk(start + 50), start + 50);
    assert_eq!((program.read(start + 99), program.read(start + PAGE)), (Ok(5), Err((11, 1))));
    assert_eq!(program.brk(start + 3 * PAGE), start + 3 * PAGE);
    assert_eq!(program.read(start + 2 * PAGE), Ok(0), "memory given back comes again as zeroes");
    program.place(start + 5 * PAGE, 1);
    for beyond in [start - 1, start + 6 * PAGE, start + (FRAMES + 10) * PAGE, u64::MAX] {
        assert_eq!(program.brk(beyond), start + 3 * PAGE, "{beyond:x}");
    }
}

#[test]
fn mremap_grows_in_place_moves_shrinks_and_keeps_what_was_written() {
    let mut program = Program::new();
    program.place(BASE, 3);
    for page in 0..3 {
        program.write(BASE + page * PAGE, page as u8 + 1).unwrap();
    }
    let remap = |program: &mut Program, arguments| program.call(25, arguments);
    assert_eq!(remap(&mut program, [BASE, 3 * PAGE, 5 * PAGE, 0, 0, 0]), BASE as i64);
    program.write(BASE + 4 * PAGE, 5).unwrap();
    program.place(BASE + 5 * PAGE, 1);
    assert_eq!(program.call(10, [BASE + 5 * PAGE, PAGE, READ, 0, 0, 0]), 0);
    assert_eq!(remap(&mut program, [BASE, 5 * PAGE, 8 * PAGE, 0, 0, 0]), errno(ENOMEM));
    let moved = remap(&mut program, [BASE, 5 * PAGE, 8 * PAGE, 1, 0, 0]) as u64;
    let seen: Vec<u8> = (0..8).map(|page| program.read(moved + page * PAGE).unwrap()).collect();
    assert_eq!(seen, [1, 2, 3, 0, 5, 0, 0, 0]);
    assert_eq!(program.read(BASE), Err((11, 1)));
    assert_eq!(remap(&mut program, [moved, 8 * PAGE, 2 * PAGE, 0, 0, 0]), moved as i64);
    assert_eq!((program.read(moved + PAGE), program.read(moved + 2 * PAGE)), (Ok(2), Err((11, 1))));
    let target = BASE + 5 * PAGE;
    assert_eq!(remap(&mut program, [moved, 2 * PAGE, PAGE, 3, target, 0]), target as i64);
    assert_eq!((program.read(target), program.read(moved)), (Ok(1), Err((11, 1))));
}

#[test]
fn mremap_refuses_what_linux_refuses() {
    let mut program = Program::new();
    program.place(BASE, 4);
    assert_eq!(program.call(10, [BASE + 2 * PAGE, PAGE, READ, 0, 0, 0]), 0);
    let cases = [
        ([BASE, PAGE, PAGE, 8, 0, 0], EINVAL),
        ([BASE, PAGE, PAGE, 2, BASE + 8 * PAGE, 0], EINVAL),
        ([BASE + 1, PAGE, PAGE, 0, 0, 0], EINVAL),
        ([BASE, PAGE, 0, 0, 0, 0], EINVAL),
        ([BASE, 0, PAGE, 1, 0, 0], EINVAL),
        ([BASE, 2 * PAGE, 2 * PAGE, 3, BASE + PAGE, 0], EINVAL),
        ([BASE, PAGE, PAGE, 3, BASE + 1, 0], EINVAL),
        ([BASE, 4 * PAGE, 8 * PAGE, 1, 0, 0], EFAULT),
        ([BASE + 64 * PAGE, PAGE, 2 * PAGE, 1, 0, 0], EFAULT),
        ([BASE, PAGE, (FRAMES + 9) * PAGE, 1, 0, 0], ENOMEM),
    ];
    for (arguments, expected) in cases {
        assert_eq!(program.call(25, arguments), errno(expected), "{arguments:x?}");
    }
}

#[test]
fn discarded_memory_comes_again_as_it_was_mapped() {
    let mut program = Program::new();
    let space = program.space;
    program.machine.files.insert(2, 2 * PAGE);
    program.place(BASE, 1);
    let file = program.machine.map_file(space, 2, [0, PAGE, RW, PRIVATE, 3, 0]) as u64;
    let original = program.read(file).unwrap();
    for address in [BASE, file] {
        program.write(address, original.wrapping_add(1)).unwrap();
        assert_eq!(program.call(28, [address, PAGE, 4, 0, 0, 0]), 0);
    }
    assert_eq!((program.read(BASE), program.read(file)), (Ok(0), Ok(original)));
}

#[test]
fn advice_is_checked_even_where_nothing_is_done() {
    let mut program = Program::new();
    program.place(BASE, 2);
    for advice in [0, 1, 2, 3, 8, 12, 13, 14, 15, 16, 17, 19, 20, 21] {
        assert_eq!(program.call(28, [BASE, 2 * PAGE, advice, 0, 0, 0]), 0, "{advice}");
        assert_eq!(program.call(28, [BASE, 3 * PAGE, advice, 0, 0, 0]), errno(ENOMEM), "{advice}");
    }
    for advice in [5, 6, 7, 9, 22, 23, 100] {
        assert_eq!(program.call(28, [BASE, PAGE, advice, 0, 0, 0]), errno(EINVAL), "{advice}");
    }
    assert_eq!(program.call(28, [BASE + 1, PAGE, 4, 0, 0, 0]), errno(EINVAL));
    assert_eq!(program.call(28, [0x40_0000, PAGE, 18, 0, 0, 0]), errno(EINVAL), "a file is not wiped");
}

#[test]
fn msync_and_mlock_check_that_all_is_mapped() {
    let mut program = Program::new();
    program.place(BASE, 2);
    assert_eq!(program.call(26, [BASE, 2 * PAGE, 4, 0, 0, 0]), 0);
    assert_eq!(program.call(26, [BASE, 3 * PAGE, 4, 0, 0, 0]), errno(ENOMEM));
    assert_eq!(program.call(26, [BASE, PAGE, 5, 0, 0, 0]), errno(EINVAL));
    assert_eq!(program.call(26, [BASE, PAGE, 8, 0, 0, 0]), errno(EINVAL));
    assert_eq!(program.call(149, [BASE + 1, PAGE, 0, 0, 0, 0]), 0);
    assert_eq!(program.call(150, [BASE, 3 * PAGE, 0, 0, 0, 0]), errno(ENOMEM));
    assert_eq!(program.call(149, [u64::MAX, PAGE, 0, 0, 0, 0]), errno(EINVAL));
    assert_eq!(program.call(325, [BASE, PAGE, 1, 0, 0, 0]), 0);
    assert_eq!(program.call(325, [BASE, PAGE, 2, 0, 0, 0]), errno(EINVAL));
    assert_eq!(program.call(151, [3, 0, 0, 0, 0, 0]), 0);
    assert_eq!(program.call(151, [4, 0, 0, 0, 0, 0]), errno(EINVAL));
    assert_eq!(program.call(152, [0; 6]), 0);
    assert_eq!(program.call(999, [0; 6]), errno(ENOSYS));
}

#[test]
fn mincore_tells_what_is_in_memory() {
    let mut program = Program::new();
    let space = program.space;
    program.machine.files.insert(2, 2 * PAGE);
    program.place(BASE, 3);
    program.write(BASE + PAGE, 1).unwrap();
    let arguments = [BASE + 3 * PAGE, 20 * PAGE, READ, PRIVATE | FIXED, 3, 0];
    program.machine.map_file(space, 2, arguments);
    program.read(BASE + 3 * PAGE).unwrap();
    let mut ask = |address, pages: u64| {
        let arguments = [address, pages * PAGE, 0x7000, 0, 0, 0];
        program.machine.foreign(space, Foreign { number: 27, arguments, ..Foreign::default() })
    };
    assert_eq!(ask(BASE, 6), (0, vec![0, 1, 0, 1, 1, 0]));
    assert_eq!(ask(BASE, 40), (errno(ENOMEM), vec![]));
    assert_eq!(ask(BASE + 1, 1), (errno(EINVAL), vec![]));
    let huge = program.mmap(0, 4 << 30, 0, PRIVATE | ANONYMOUS) as u64;
    let arguments = [huge, 4 << 30, 0x7000, 0, 0, 0];
    assert_eq!(program.call(27, arguments), errno(EAGAIN));
}
