//! The caller's buffers that a read fills.

use alloc::vec;
use alloc::vec::Vec;

use libipc::abi::{CallId, PAYLOAD_MAX};
use libipc::linux::errno::*;
use libipc::server::{Env, Foreign};

use super::linux::Refusal;

/// Most bytes that a read may ask for (MAX_RW_COUNT).
const COUNT_MAX: u64 = 0x7fff_f000;
/// Most buffers of one vectored call (UIO_MAXIOV).
const VECTORS_MAX: u64 = 1024;
/// Bytes of `struct iovec`.
const VECTOR_BYTES: u64 = 16;

/// A buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Buffer {
    /// Where it begins.
    pub address: u64,
    /// How long it is.
    pub length: u64,
}

/// A call's buffers, in order; none is empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Buffers(Vec<Buffer>);

impl Buffers {
    /// The buffer of read(2): its address is argument 1, its length argument 2.
    pub fn one(foreign: &Foreign) -> Result<Self, i32> {
        let [_, address, length, ..] = foreign.arguments;
        if i64::try_from(length).is_err() {
            return Err(EINVAL);
        }
        address.checked_add(length).ok_or(EFAULT)?;
        let buffer = Buffer { address, length: length.min(COUNT_MAX) };
        Ok(Self(if length == 0 { Vec::new() } else { vec![buffer] }))
    }

    /// The buffers of readv(2): the address of their vector is argument 1, their count argument 2.
    pub fn vectored(foreign: &Foreign, call: CallId, env: &mut dyn Env) -> Result<Self, Refusal> {
        let [_, address, count, ..] = foreign.arguments;
        if count > VECTORS_MAX {
            return Err(Refusal::Errno(EINVAL));
        }
        // The kernel has gathered as many as fit one payload.
        let mut bytes = foreign.inputs[0].clone().unwrap_or_default();
        while (bytes.len() as u64) < count * VECTOR_BYTES {
            let have = bytes.len() as u64;
            let length = (count * VECTOR_BYTES - have).min(u64::from(PAYLOAD_MAX)) as u32;
            bytes.extend(env.read_user(call, address.checked_add(have).ok_or(EFAULT)?, length)?);
        }
        let mut buffers = Vec::new();
        let mut total = 0u64;
        let (words, _) = bytes.as_chunks::<8>();
        for vector in words.chunks_exact(2).take(count as usize) {
            let [address, length] = [vector[0], vector[1]].map(u64::from_le_bytes);
            total = total.checked_add(length).filter(|total| i64::try_from(*total).is_ok()).ok_or(EINVAL)?;
            address.checked_add(length).ok_or(EFAULT)?;
            if length > 0 {
                buffers.push(Buffer { address, length });
            }
        }
        Ok(Self(buffers))
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|buffer| buffer.length).sum()
    }

    /// What is left of the buffer in which the byte behind the first `done` goes; nothing when all are full.
    pub fn behind(&self, done: u64) -> Option<Buffer> {
        let mut skip = done;
        for buffer in &self.0 {
            if skip < buffer.length {
                return Some(Buffer { address: buffer.address + skip, length: buffer.length - skip });
            }
            skip -= buffer.length;
        }
        None
    }
}
