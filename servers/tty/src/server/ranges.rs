//! The buffers of a caller: one for read and write, several for their vectored relatives.

use alloc::{vec, vec::Vec};

use libipc::abi::{CallId, PAYLOAD_MAX};
use libipc::linux::errno::EFAULT;
use libipc::server::vectors::{self, COUNT_MAX, Range, vectors};
use libipc::server::{Effect, Effects, Env, LeaseError, Output};
use serde::{Deserialize, Serialize};

use super::turn::Refusal;

/// Most bytes and pieces that go to the caller as one step with the answer.
const OUTPUT_MAX: usize = 512;
const OUTPUTS_MAX: usize = 4;

/// The caller's buffers, in order; none is empty, and none wraps around the address space.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    /// One buffer, cut where no address space goes on.
    pub fn at(address: u64, length: u64) -> Ranges {
        let length = length.min(COUNT_MAX).min(u64::MAX - address);
        Ranges(if length > 0 { vec![Range { address, length }] } else { Vec::new() })
    }

    /// One buffer.
    ///
    /// # Errors
    /// `EFAULT` if no address space could have it.
    pub fn one(address: u64, length: u64) -> Result<Ranges, Refusal> {
        let length = length.min(COUNT_MAX);
        address.checked_add(length).ok_or(EFAULT)?;
        Ok(Ranges::at(address, length))
    }

    /// The buffers of a vectored call, given as many of its `struct iovec`s as came with it.
    ///
    /// # Errors
    /// `EINVAL` for too many buffers or bytes, `EFAULT` for a bad address.
    pub fn vectored(
        call: CallId,
        (address, count): (u64, u64),
        gathered: Option<&[u8]>,
        env: &mut dyn Env,
    ) -> Result<Ranges, Refusal> {
        Ok(Ranges(vectors(call, (address, count), gathered, env)?))
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|range| range.length).sum()
    }

    /// The pieces of `length` bytes behind the first `skip`.
    fn part(&self, skip: u64, length: u64) -> impl Iterator<Item = Range> {
        vectors::part(&self.0, skip, length)
    }

    /// Bytes of the caller, at most [`PAYLOAD_MAX`], from behind the first `skip`; fewer where a buffer after the
    /// first is a bad one.
    ///
    /// # Errors
    /// `EFAULT` when the first is; [`Refusal::Again`] when a page is missing.
    pub fn gather(
        &self,
        call: CallId,
        skip: u64,
        length: u64,
        env: &mut dyn Env,
    ) -> Result<Vec<u8>, Refusal> {
        let mut bytes = Vec::new();
        for range in self.part(skip, length.min(u64::from(PAYLOAD_MAX))) {
            match env.read_user(call, range.address, range.length as u32) {
                Ok(more) => bytes.extend(more),
                Err(LeaseError::BadAddress) if !bytes.is_empty() => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(bytes)
    }

    /// Bytes for the buffers: as pieces to go with the answer when they are few, else as effects before it.
    pub fn hand_out(&self, call: CallId, bytes: Vec<u8>, effects: &mut Effects) -> Vec<Output> {
        let few = bytes.len() <= OUTPUT_MAX;
        let mut outputs = Vec::new();
        let mut rest = bytes;
        for range in self.part(0, rest.len() as u64) {
            let behind = rest.split_off(range.length as usize);
            outputs.push(Output { address: range.address, bytes: core::mem::replace(&mut rest, behind) });
        }
        if few && outputs.len() <= OUTPUTS_MAX {
            return outputs;
        }
        for Output { address, bytes } in outputs {
            effects.push(Effect::CopyOut { call, address, bytes });
        }
        Vec::new()
    }
}
