//! The caller's buffers that a read fills.

use alloc::vec;
use alloc::vec::Vec;

use libipc::abi::CallId;
use libipc::linux::errno::*;
use libipc::server::vectors::{COUNT_MAX, Range, vectors};
use libipc::server::{Env, Foreign, Refusal};

/// A call's buffers, in order; none is empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Buffers(Vec<Range>);

impl Buffers {
    /// The buffer of read(2): its address is argument 1, its length argument 2.
    pub fn one(foreign: &Foreign) -> Result<Self, i32> {
        let [_, address, length, ..] = foreign.arguments;
        if i64::try_from(length).is_err() {
            return Err(EINVAL);
        }
        address.checked_add(length).ok_or(EFAULT)?;
        let buffer = Range { address, length: length.min(COUNT_MAX) };
        Ok(Self(if length == 0 { Vec::new() } else { vec![buffer] }))
    }

    /// The buffers of readv(2): the address of their vector is argument 1, their count argument 2.
    pub fn vectored(foreign: &Foreign, call: CallId, env: &mut dyn Env) -> Result<Self, Refusal> {
        let [_, address, count, ..] = foreign.arguments;
        Ok(Self(vectors(call, (address, count), foreign.inputs[0].as_deref(), env)?))
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|buffer| buffer.length).sum()
    }

    /// What is left of the buffer in which the byte behind the first `done` goes; nothing when all are full.
    pub fn behind(&self, done: u64) -> Option<Range> {
        let mut skip = done;
        for buffer in &self.0 {
            if skip < buffer.length {
                return Some(Range { address: buffer.address + skip, length: buffer.length - skip });
            }
            skip -= buffer.length;
        }
        None
    }
}
