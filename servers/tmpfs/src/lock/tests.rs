//! Tests of lock.

use super::*;

fn record(pid: u32, start: u64, last: u64, exclusive: bool) -> Record {
    Record { owner: Owner::Process(pid), badge: u64::from(pid), start, last, exclusive }
}

fn lock(locks: &mut Locks, record: Record) -> bool {
    locks.try_lock(1, Want::Record(record)).0
}

#[test]
fn readers_share_and_a_writer_is_alone() {
    let mut locks = Locks::default();
    assert!(lock(&mut locks, record(1, 0, 9, false)));
    assert!(lock(&mut locks, record(2, 5, 20, false)));
    assert!(!lock(&mut locks, record(3, 20, 30, true)));
    assert!(lock(&mut locks, record(3, 21, 30, true)));
    assert!(!lock(&mut locks, record(1, 0, 25, false)));
}

#[test]
fn unlocking_the_middle_leaves_both_ends() {
    let mut locks = Locks::default();
    assert!(lock(&mut locks, record(1, 0, u64::MAX, true)));
    assert!(locks.unlock_record(1, &record(1, 10, 19, true)).is_empty());
    assert!(lock(&mut locks, record(2, 10, 19, true)));
    assert!(!lock(&mut locks, record(2, 9, 9, false)));
    assert_eq!(locks.conflict(1, &record(2, 15, 25, true)), Some(record(1, 20, u64::MAX, true)));
}

#[test]
fn neighbours_become_one_record() {
    let mut locks = Locks::default();
    for start in [0, 20, 10] {
        assert!(lock(&mut locks, record(1, start, start + 9, true)));
    }
    assert_eq!(locks.files[&1].records, [record(1, 0, 29, true)]);
}

#[test]
fn waiters_get_the_lock_in_their_order() {
    let mut locks = Locks::default();
    assert!(lock(&mut locks, record(1, 0, 9, true)));
    for pid in [2, 3] {
        locks.wait(1, CallId(pid), Want::Record(record(pid as u32, 0, 9, true)));
    }
    assert_eq!(locks.unlock_record(1, &record(1, 0, 9, true)), [CallId(2)]);
    assert_eq!(locks.close(1, 2), (vec![CallId(3)], vec![]));
    assert_eq!(locks.close(1, 3), (vec![], vec![]));
    assert!(locks.files.is_empty());
}

#[test]
fn a_circle_of_waiting_processes_is_seen() {
    let mut locks = Locks::default();
    for pid in [1, 2, 3] {
        assert!(lock(&mut locks, record(pid, u64::from(pid), u64::from(pid), true)));
    }
    locks.wait(1, CallId(1), Want::Record(record(1, 2, 2, true)));
    locks.wait(1, CallId(2), Want::Record(record(2, 3, 3, true)));
    assert!(locks.would_deadlock(1, &record(3, 1, 1, true)));
    assert!(!locks.would_deadlock(1, &record(4, 1, 1, true)));
}

#[test]
fn a_session_that_changes_its_flock_lets_the_readers_in() {
    let mut locks = Locks::default();
    let whole = |badge, exclusive| Want::Whole { badge, exclusive };
    assert!(locks.try_lock(1, whole(1, true)).0);
    assert!(!locks.try_lock(1, whole(2, false)).0);
    locks.wait(1, CallId(2), whole(2, false));
    assert_eq!(locks.try_lock(1, whole(1, false)), (true, vec![CallId(2)]));
    assert!(!locks.try_lock(1, whole(1, true)).0);
}
