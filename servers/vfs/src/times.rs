//! Time structures of the caller: what utimensat(2) and its elders say, and timeouts.

use alloc::vec::Vec;

use libipc::linux::errno::EINVAL;
use libipc::proto::fs::Operation;

const NS_PER_S: i64 = 1_000_000_000;
const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;

/// How a time is written in the caller's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// `struct timespec`: seconds and nanoseconds.
    Nanoseconds,
    /// `struct timeval`: seconds and microseconds.
    Microseconds,
}

impl Unit {
    fn per_second(self) -> i64 {
        match self {
            Unit::Nanoseconds => NS_PER_S,
            Unit::Microseconds => 1_000_000,
        }
    }
}

/// The signed 64-bit words of a structure.
fn words(bytes: &[u8]) -> Vec<i64> {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().map(|word| i64::from_le_bytes(*word)).collect()
}

/// A timeout in ns; `None` waits for ever.
///
/// # Errors
/// `EINVAL` when it is negative, or its fraction is not below a second (a `timeval` may be).
pub fn timeout(structure: Option<&[u8]>, unit: Unit) -> Result<Option<u64>, i32> {
    let Some(bytes) = structure else { return Ok(None) };
    let [seconds, fraction] = words(bytes)[..] else { return Err(EINVAL) };
    if seconds < 0 || fraction < 0 || (unit == Unit::Nanoseconds && fraction >= NS_PER_S) {
        return Err(EINVAL);
    }
    let ns = i128::from(seconds) * i128::from(NS_PER_S)
        + i128::from(fraction) * i128::from(NS_PER_S / unit.per_second());
    Ok(Some(u64::try_from(ns).unwrap_or(u64::MAX)))
}

/// What is left of a timeout, as the caller wrote it.
pub fn timeout_bytes(left_ns: u64, unit: Unit) -> Vec<u8> {
    let per_second = NS_PER_S as u64;
    let fraction = left_ns % per_second / (per_second / unit.per_second() as u64);
    [(left_ns / per_second).to_le_bytes(), fraction.to_le_bytes()].concat()
}

/// The times that utimensat(2), utimes(2) or futimesat(2) set; `now_ns` is the time of the Epoch. `None` when both
/// are to stay as they are.
///
/// # Errors
/// `EINVAL` for a fraction out of range.
pub fn pair(structure: Option<&[u8]>, unit: Unit, now_ns: i64) -> Result<Option<Operation>, i32> {
    let Some(bytes) = structure else { return Ok(Some(Operation::Touch(now_ns))) };
    let [atime_s, atime, mtime_s, mtime] = words(bytes)[..] else { return Err(EINVAL) };
    let one = |seconds: i64, fraction: i64| match fraction {
        UTIME_NOW if unit == Unit::Nanoseconds => Ok(Some(now_ns)),
        UTIME_OMIT if unit == Unit::Nanoseconds => Ok(None),
        _ if (0..unit.per_second()).contains(&fraction) => {
            let ns = fraction * (NS_PER_S / unit.per_second());
            Ok(Some(seconds.saturating_mul(NS_PER_S).saturating_add(ns)))
        }
        _ => Err(EINVAL),
    };
    if unit == Unit::Nanoseconds && (atime, mtime) == (UTIME_NOW, UTIME_NOW) {
        return Ok(Some(Operation::Touch(now_ns)));
    }
    Ok(match (one(atime_s, atime)?, one(mtime_s, mtime)?) {
        (None, None) => None,
        (atime, mtime) => Some(Operation::SetTimes(atime, mtime)),
    })
}

/// The times that utime(2) sets: whole seconds.
///
/// # Errors
/// `EINVAL` when the structure is cut.
pub fn whole_seconds(structure: Option<&[u8]>, now_ns: i64) -> Result<Operation, i32> {
    let Some(bytes) = structure else { return Ok(Operation::Touch(now_ns)) };
    let [atime, mtime] = words(bytes)[..] else { return Err(EINVAL) };
    let ns = |seconds: i64| Some(seconds.saturating_mul(NS_PER_S));
    Ok(Operation::SetTimes(ns(atime), ns(mtime)))
}

#[cfg(test)]
mod tests;
