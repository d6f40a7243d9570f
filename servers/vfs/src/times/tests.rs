//! Times as programs write them.

use alloc::vec::Vec;

use super::*;

fn bytes(words: &[i64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[test]
fn a_timeout_is_checked_and_saturates() {
    let of = |words: &[i64], unit| timeout(Some(&bytes(words)), unit);
    assert_eq!(timeout(None, Unit::Nanoseconds), Ok(None));
    assert_eq!(of(&[1, 5], Unit::Nanoseconds), Ok(Some(1_000_000_005)));
    assert_eq!(of(&[1, 5], Unit::Microseconds), Ok(Some(1_000_005_000)));
    assert_eq!(of(&[0, 2_000_000], Unit::Microseconds), Ok(Some(2_000_000_000)));
    assert_eq!(of(&[i64::MAX, 0], Unit::Nanoseconds), Ok(Some(u64::MAX)));
    for bad in [[-1, 0], [0, -1], [0, 1_000_000_000]] {
        assert_eq!(of(&bad, Unit::Nanoseconds), Err(EINVAL));
    }
    assert_eq!(of(&[0], Unit::Nanoseconds), Err(EINVAL));
}

#[test]
fn the_time_left_is_written_as_it_was_read() {
    for unit in [Unit::Nanoseconds, Unit::Microseconds] {
        assert_eq!(timeout(Some(&timeout_bytes(3_000_007_000, unit)), unit), Ok(Some(3_000_007_000)));
    }
}

#[test]
fn now_and_omit_are_special_only_among_nanoseconds() {
    let of = |words: &[i64], unit| pair(Some(&bytes(words)), unit, 77);
    let set = |atime, mtime| Ok(Some(Operation::SetTimes(atime, mtime)));
    assert_eq!(of(&[1, 2, 3, 4], Unit::Nanoseconds), set(Some(1_000_000_002), Some(3_000_000_004)));
    assert_eq!(of(&[0, UTIME_NOW, 9, UTIME_OMIT], Unit::Nanoseconds), set(Some(77), None));
    assert_eq!(of(&[0, UTIME_OMIT, 0, UTIME_OMIT], Unit::Nanoseconds), Ok(None));
    assert_eq!(of(&[-1, 5, 0, 0], Unit::Microseconds), set(Some(-999_995_000), Some(0)));
    assert_eq!(of(&[0, UTIME_NOW, 0, 0], Unit::Microseconds), Err(EINVAL));
    assert_eq!(of(&[0, 1_000_000_000, 0, 0], Unit::Nanoseconds), Err(EINVAL));
    assert_eq!(of(&[0, 0], Unit::Nanoseconds), Err(EINVAL));
    assert_eq!(pair(None, Unit::Nanoseconds, 77), Ok(Some(Operation::Touch(77))));
    assert_eq!(of(&[0, UTIME_NOW, 0, UTIME_NOW], Unit::Nanoseconds), Ok(Some(Operation::Touch(77))));
}

#[test]
fn utime_has_whole_seconds() {
    let expected = Operation::SetTimes(Some(2_000_000_000), Some(i64::MAX));
    assert_eq!(whole_seconds(Some(&bytes(&[2, i64::MAX])), 77), Ok(expected));
    assert_eq!(whole_seconds(None, 77), Ok(Operation::Touch(77)));
}
