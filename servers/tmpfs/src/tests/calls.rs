//! Event counters, memfd files and the odd calls.

use super::world::{BUFFER, World};
use libipc::abi::{CallId, Readiness};
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::server::Foreign;

const EFD_SEMAPHORE: u64 = 1;
const OTHER: u64 = BUFFER + 4096;

impl World {
    fn counter(&mut self, value: u64, flags: u64) -> u64 {
        let call = self.begin(0, 290, [value, flags, 0, 0, 0, 0]);
        self.installed(call)[0]
    }

    fn begin_add(&mut self, counter: u64, amount: u64) -> CallId {
        self.store(BUFFER, &amount.to_le_bytes());
        self.begin(counter, 1, [3, BUFFER, 8, 0, 0, 0])
    }

    fn take(&mut self, counter: u64) -> Result<u64, i64> {
        let result = self.linux(counter, 0, [3, OTHER, 8, 0, 0, 0]);
        if result < 0 { Err(result) } else { Ok(self.word()) }
    }

    fn word(&self) -> u64 {
        u64::from_le_bytes(self.load(OTHER, 8).try_into().expect("eight bytes"))
    }

    fn memory_file(&mut self, flags: u64) -> u64 {
        let inputs = [Some(b"name".to_vec()), None];
        let arguments = [0, flags, 0, 0, 0, 0];
        let call = self.begin_with(0, Foreign { number: 319, arguments, inputs, ..Foreign::default() });
        self.installed(call)[0]
    }
}

#[test]
fn a_counter_adds_up_and_is_taken_whole() {
    let mut world = World::new();
    let counter = world.counter(2, u64::from(O_NONBLOCK));
    assert_eq!(world.readiness(counter), Readiness::IN | Readiness::OUT);
    let call = world.begin_add(counter, 5);
    assert_eq!(world.result(call), Some(8));
    assert_eq!(world.take(counter), Ok(7));
    assert_eq!(world.readiness(counter), Readiness::OUT);
    assert_eq!(world.take(counter), Err(-i64::from(EAGAIN)));
    assert_eq!(world.linux(counter, 0, [3, OTHER, 7, 0, 0, 0]), -i64::from(EINVAL));
    let call = world.begin_add(counter, u64::MAX);
    assert_eq!(world.result(call), Some(-i64::from(EINVAL)));
    assert_eq!(world.linux(0, 290, [0, 2, 0, 0, 0, 0]), -i64::from(EINVAL));
}

#[test]
fn a_semaphore_gives_one_to_each_who_waits() {
    let mut world = World::new();
    let counter = world.counter(0, EFD_SEMAPHORE);
    let waiting = [0; 3].map(|_| world.begin(counter, 0, [3, OTHER, 8, 0, 0, 0]));
    let add = world.begin_add(counter, 2);
    assert_eq!(world.result(add), Some(8));
    assert_eq!(waiting.map(|call| world.result(call)), [Some(8), Some(8), None]);
    assert_eq!((world.word(), world.readiness(counter)), (1, Readiness::OUT));
    world.cancel(waiting[2]);
    assert_eq!(world.result(waiting[2]), Some(-i64::from(EINTR)));
    world.close(counter);
    assert!(world.server.counters.is_empty() && world.server.parked.is_empty());
}

#[test]
fn adding_waits_while_the_counter_would_overflow() {
    let mut world = World::new();
    let counter = world.counter(0, 0);
    let first = world.begin_add(counter, u64::MAX - 1);
    let second = world.begin_add(counter, 3);
    assert_eq!((world.result(first), world.result(second)), (Some(8), None));
    assert_eq!(world.readiness(counter), Readiness::IN);
    assert_eq!(world.take(counter), Ok(u64::MAX - 1));
    assert_eq!(world.result(second), Some(8));
    assert_eq!(world.take(counter), Ok(3));
}

#[test]
fn a_memory_file_lives_as_long_as_its_session() {
    let mut world = World::new();
    let free = world.free_pages();
    let file = world.memory_file(0);
    assert_eq!(world.write(file, b"bytes"), 5);
    assert_eq!(world.read_at(file, 9, 0), Ok(b"bytes".to_vec()));
    world.close(file);
    assert_eq!(world.free_pages(), free);
}

#[test]
fn seals_hold_and_only_where_they_are_allowed() {
    let mut world = World::new();
    let file = world.memory_file(2);
    world.write(file, b"bytes");
    let fcntl = |world: &mut World, file, command: u32, argument| {
        world.linux(file, 72, [3, u64::from(command), argument, 0, 0, 0])
    };
    assert_eq!(fcntl(&mut world, file, F_ADD_SEALS, 2), 0);
    assert_eq!(world.linux(file, 77, [3, 1, 0, 0, 0, 0]), -i64::from(EPERM));
    assert_eq!(world.linux(file, 77, [3, 9, 0, 0, 0, 0]), 0);
    assert_eq!(fcntl(&mut world, file, F_ADD_SEALS, 8 | 1), 0);
    assert_eq!(world.write(file, b"x"), -i64::from(EPERM));
    assert_eq!(fcntl(&mut world, file, F_ADD_SEALS, 4), -i64::from(EPERM));
    assert_eq!(fcntl(&mut world, file, F_GET_SEALS, 0), 11);
    let plain = world.make("f");
    assert_eq!(fcntl(&mut world, plain, F_ADD_SEALS, 2), -i64::from(EPERM));
}

#[test]
fn nonblocking_can_be_set_with_an_ioctl() {
    let mut world = World::new();
    let (read, _) = world.pipe(0);
    world.store(BUFFER, &1u32.to_le_bytes());
    assert_eq!(world.linux(read, 16, [3, 0x5421, BUFFER, 0, 0, 0]), 0);
    assert_eq!(world.read(read, 1), Err(-i64::from(EAGAIN)));
}

#[test]
fn what_is_not_here_says_so() {
    let mut world = World::new();
    let file = world.make("f");
    assert_eq!(world.linux(file, 288, [3, 0, 0, 0, 0, 0]), -i64::from(ENOTSOCK));
    let (read, _) = world.pipe(0);
    assert_eq!(world.linux(read, 74, [3, 0, 0, 0, 0, 0]), -i64::from(EINVAL));
    assert_eq!(world.linux(read, 77, [3, 0, 0, 0, 0, 0]), -i64::from(EINVAL));
    assert_eq!(world.linux(file, 74, [3, 0, 0, 0, 0, 0]), 0);
}
