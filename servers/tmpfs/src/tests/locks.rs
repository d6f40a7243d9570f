//! Advisory locks through the system calls.

use super::world::{BUFFER, World};
use libipc::abi::CallId;
use libipc::linux::errno::*;
use libipc::linux::open::*;

const LOCK_SH: u64 = 1;
const LOCK_EX: u64 = 2;
const LOCK_NB: u64 = 4;
const LOCK_UN: u64 = 8;
const F_RDLCK: u16 = 0;
const F_WRLCK: u16 = 1;
const F_UNLCK: u16 = 2;

impl World {
    fn store_flock(&mut self, kind: u16, start: i64, length: i64) {
        let mut bytes = vec![0; 32];
        bytes[..2].copy_from_slice(&kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&start.to_le_bytes());
        bytes[16..24].copy_from_slice(&length.to_le_bytes());
        self.store(BUFFER, &bytes);
    }

    fn begin_lock(&mut self, pid: u32, badge: u64, command: u32, kind: u16, range: (i64, i64)) -> CallId {
        self.caller.pid = pid;
        self.store_flock(kind, range.0, range.1);
        self.begin(badge, 72, [3, u64::from(command), BUFFER, 0, 0, 0])
    }

    fn lock(&mut self, pid: u32, badge: u64, command: u32, kind: u16, range: (i64, i64)) -> i64 {
        let call = self.begin_lock(pid, badge, command, kind, range);
        self.result(call).expect("the call ends at once")
    }

    fn flock(&mut self, badge: u64, operation: u64) -> i64 {
        self.linux(badge, 73, [3, operation, 0, 0, 0, 0])
    }
}

#[test]
fn flock_waits_and_goes_with_the_session() {
    let mut world = World::new();
    let (one, other) = (world.make("f"), world.make("f"));
    assert_eq!(world.flock(one, LOCK_EX), 0);
    assert_eq!(world.flock(other, LOCK_SH | LOCK_NB), -i64::from(EAGAIN));
    let waiting = world.begin(other, 73, [3, LOCK_EX, 0, 0, 0, 0]);
    assert_eq!(world.result(waiting), None);
    world.close(one);
    assert_eq!(world.result(waiting), Some(0));
    assert_eq!(world.flock(other, LOCK_UN), 0);
    assert_eq!(world.flock(other, LOCK_SH | LOCK_EX), -i64::from(EINVAL));
    assert!(world.server.parked.is_empty());
}

#[test]
fn record_locks_belong_to_processes() {
    let mut world = World::new();
    let file = world.make("f");
    assert_eq!(world.lock(1, file, F_SETLK, F_WRLCK, (0, 10)), 0);
    assert_eq!(world.lock(1, file, F_SETLK, F_WRLCK, (5, 10)), 0);
    assert_eq!(world.lock(2, file, F_SETLK, F_RDLCK, (14, 1)), -i64::from(EAGAIN));
    assert_eq!(world.lock(2, file, F_SETLK, F_RDLCK, (15, 0)), 0);
    let waiting = world.begin_lock(2, file, F_SETLKW, F_WRLCK, (0, 4));
    assert_eq!(world.result(waiting), None);
    assert_eq!(world.lock(1, file, F_SETLKW, F_WRLCK, (20, 1)), -i64::from(EDEADLK));
    assert_eq!(world.lock(1, file, F_SETLK, F_UNLCK, (0, 0)), 0);
    assert_eq!(world.result(waiting), Some(0));
}

#[test]
fn the_lock_in_the_way_is_told() {
    let mut world = World::new();
    let file = world.make("f");
    assert_eq!(world.lock(7, file, F_SETLK, F_WRLCK, (10, 5)), 0);
    assert_eq!(world.lock(8, file, F_GETLK, F_RDLCK, (0, 0)), 0);
    let bytes = world.load(BUFFER, 32);
    assert_eq!((bytes[0], bytes[8], bytes[16], bytes[24]), (F_WRLCK as u8, 10, 5, 7));
    assert_eq!(world.lock(8, file, F_GETLK, F_RDLCK, (15, 0)), 0);
    assert_eq!(world.load(BUFFER, 1), [F_UNLCK as u8]);
}

#[test]
fn ranges_may_run_backwards_and_must_begin_in_the_file() {
    let mut world = World::new();
    let file = world.make("f");
    assert_eq!(world.lock(1, file, F_SETLK, F_WRLCK, (10, -5)), 0);
    assert_eq!(world.lock(2, file, F_SETLK, F_WRLCK, (5, 5)), -i64::from(EAGAIN));
    assert_eq!(world.lock(2, file, F_SETLK, F_WRLCK, (0, 5)), 0);
    assert_eq!(world.lock(2, file, F_SETLK, F_WRLCK, (3, -5)), -i64::from(EINVAL));
    assert_eq!(world.lock(2, file, F_SETLK, F_WRLCK, (-1, 5)), -i64::from(EINVAL));
    assert_eq!(world.lock(2, file, F_SETLK, 9, (0, 5)), -i64::from(EINVAL));
}

#[test]
fn a_lock_needs_a_session_opened_for_it() {
    let mut world = World::new();
    world.make("f");
    let reader = world.open("f", O_RDONLY).expect("opened");
    assert_eq!(world.lock(1, reader, F_SETLK, F_WRLCK, (0, 0)), -i64::from(EBADF));
    assert_eq!(world.lock(1, reader, F_SETLK, F_RDLCK, (0, 0)), 0);
}

#[test]
fn locks_of_an_open_file_shut_out_its_own_process() {
    let mut world = World::new();
    let (one, other) = (world.make("f"), world.make("f"));
    let set = F_SETLK + 31;
    assert_eq!(world.lock(1, one, set, F_WRLCK, (0, 0)), 0);
    assert_eq!(world.lock(1, other, set, F_WRLCK, (0, 0)), -i64::from(EAGAIN));
    assert_eq!(world.lock(1, other, F_SETLK, F_RDLCK, (0, 0)), -i64::from(EAGAIN));
    world.close(one);
    assert_eq!(world.lock(1, other, set, F_WRLCK, (0, 0)), 0);
}

#[test]
fn a_wait_ends_with_a_signal_or_with_its_session() {
    let mut world = World::new();
    let (one, other) = (world.make("f"), world.make("f"));
    assert_eq!(world.lock(1, one, F_SETLK, F_WRLCK, (0, 0)), 0);
    let first = world.begin_lock(2, other, F_SETLKW, F_WRLCK, (0, 0));
    world.cancel(first);
    assert_eq!(world.result(first), Some(-i64::from(EINTR)));
    let second = world.begin_lock(2, other, F_SETLKW, F_WRLCK, (0, 0));
    world.close(other);
    assert_eq!(world.result(second), Some(-i64::from(EBADF)));
    assert!(world.server.parked.is_empty());
}
