//! The buffers of readv(2), writev(2) and their kin, as the caller's memory lists them; and why a call gets no value.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::env::{Env, LeaseError};
use crate::abi::{CallId, PAYLOAD_MAX};
use crate::linux::errno::{EFAULT, EINVAL};

/// Most buffers of one call (UIO_MAXIOV).
pub const VECTORS_MAX: u64 = 1024;
/// Most bytes that one call moves (MAX_RW_COUNT).
pub const COUNT_MAX: u64 = 0x7fff_f000;
/// Bytes of `struct iovec`.
const VECTOR_BYTES: u64 = 16;

/// Why a call gets no value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It fails with this errno.
    Errno(i32),
    /// A page of the caller is missing: the event is wanted again, and nothing may have changed.
    Again,
}

impl From<i32> for Refusal {
    fn from(errno: i32) -> Refusal {
        Refusal::Errno(errno)
    }
}

impl From<LeaseError> for Refusal {
    fn from(error: LeaseError) -> Refusal {
        match error {
            LeaseError::NotResident => Refusal::Again,
            // Whatever is answered to a caller that is gone goes nowhere.
            LeaseError::BadAddress | LeaseError::Gone => Refusal::Errno(EFAULT),
        }
    }
}

/// A piece of the caller's memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Range {
    /// Where it begins.
    pub address: u64,
    /// How long it is.
    pub length: u64,
}

/// The pieces of `length` bytes behind the first `skip` of some buffers.
pub fn part(ranges: &[Range], skip: u64, length: u64) -> impl Iterator<Item = Range> {
    let (mut skip, mut left) = (skip, length);
    ranges.iter().filter_map(move |range| {
        let skipped = skip.min(range.length);
        skip -= skipped;
        let length = left.min(range.length - skipped);
        left -= length;
        (length > 0).then_some(Range { address: range.address + skipped, length })
    })
}

/// The buffers in an array of `count` `struct iovec` at an address, without those that are empty, up to the most bytes
/// that a call moves. `gathered` are the first bytes of the array, as many of them as the kernel has brought along.
///
/// # Errors
/// `EINVAL` for too many buffers or a negative length; `EFAULT` for what no address space could have.
pub fn vectors(
    call: CallId,
    (address, count): (u64, u64),
    gathered: Option<&[u8]>,
    env: &mut dyn Env,
) -> Result<Vec<Range>, Refusal> {
    if count > VECTORS_MAX {
        return Err(Refusal::Errno(EINVAL));
    }
    let mut bytes = gathered.unwrap_or_default().to_vec();
    read_rest(call, address, count * VECTOR_BYTES, &mut bytes, env)?;
    let mut ranges = Vec::new();
    let mut left = COUNT_MAX;
    let (words, _) = bytes.as_chunks::<8>();
    for vector in words.chunks_exact(2).take(count as usize) {
        let [address, length] = [vector[0], vector[1]].map(u64::from_le_bytes);
        i64::try_from(length).map_err(|_| EINVAL)?;
        address.checked_add(length).ok_or(EFAULT)?;
        let length = length.min(left);
        left -= length;
        if length > 0 {
            ranges.push(Range { address, length });
        }
    }
    Ok(ranges)
}

/// Reads on behind what has been gathered of `length` bytes at an address.
///
/// # Errors
/// `EFAULT` for memory that is not the caller's.
pub fn read_rest(
    call: CallId,
    address: u64,
    length: u64,
    bytes: &mut Vec<u8>,
    env: &mut dyn Env,
) -> Result<(), Refusal> {
    while (bytes.len() as u64) < length {
        let have = bytes.len() as u64;
        let want = (length - have).min(u64::from(PAYLOAD_MAX));
        bytes.extend(env.read_user(call, address.checked_add(have).ok_or(EFAULT)?, want as u32)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing::Script;

    fn array(count: u64) -> Vec<u8> {
        (0..count).flat_map(|at| [0x1000 * at, 1]).flat_map(u64::to_le_bytes).collect()
    }

    #[test]
    fn what_one_payload_does_not_hold_is_read_from_the_caller() {
        let mut script = Script::default();
        let bytes = array(1024);
        script.memory.insert(0x5000, bytes.clone());
        let gathered = &bytes[..8192];
        let ranges = vectors(CallId(1), (0x5000, 1024), Some(gathered), &mut script);
        let wanted: Vec<Range> = (0..1024).map(|at| Range { address: 0x1000 * at, length: 1 }).collect();
        assert_eq!(ranges, Ok(wanted));
    }

    #[test]
    fn too_many_or_negative_buffers_are_refused_and_too_long_ones_cut() {
        let mut script = Script::default();
        assert_eq!(vectors(CallId(1), (0, 1025), None, &mut script), Err(Refusal::Errno(EINVAL)));
        let two = |lengths: [u64; 2]| -> Vec<u8> {
            lengths.into_iter().flat_map(|length| [0x1000, length]).flat_map(u64::to_le_bytes).collect()
        };
        let negative = two([1, 1 << 63]);
        assert_eq!(vectors(CallId(1), (0, 2), Some(&negative), &mut script), Err(Refusal::Errno(EINVAL)));
        let long = two([1 << 40, 1]);
        let cut = Range { address: 0x1000, length: COUNT_MAX };
        assert_eq!(vectors(CallId(1), (0, 2), Some(&long), &mut script), Ok(alloc::vec![cut]));
        assert_eq!(vectors(CallId(1), (0x9000, 1), None, &mut script), Err(Refusal::Errno(EFAULT)));
    }
}
