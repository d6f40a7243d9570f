//! Who waits for room in a pipe, and how a writer's bytes are looked at before anything changes.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::PIPE_BUF;
use super::buffer::INLINE_MAX;
use crate::arena::PAGE;
use crate::socket::cargo::Cargo;
use crate::transfer::{Ranges, Refusal};
use libipc::abi::CallId;
use libipc::server::Env;

/// A call that waits for room.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Writer {
    /// The call.
    pub call: CallId,
    /// Where its bytes are.
    pub ranges: Ranges,
    /// How many there are.
    pub total: u64,
    /// How many of them are in the queue, or were.
    pub done: u64,
    /// The first bytes, as long as none are done. So there is always something to go on with when room comes, even if
    /// the writer's pages have gone meanwhile: a call cannot wait for another call's page.
    pub held: Vec<u8>,
    /// No signal when nobody reads.
    pub quiet: bool,
    /// What goes along with its first bytes.
    pub cargo: Cargo,
}

/// What was fetched of a writer's bytes before anything changes.
pub enum Fetched {
    /// The bytes.
    Inline(Vec<u8>),
    /// So many lie ready to be copied by the kernel.
    Probed(u64),
}

impl Fetched {
    /// How many bytes.
    pub fn length(&self) -> u64 {
        match self {
            Fetched::Inline(bytes) => bytes.len() as u64,
            Fetched::Probed(length) => *length,
        }
    }
}

/// How much of a write goes in at once: all or nothing of a small one.
pub fn acceptable(left: u64, total: u64, room: u64) -> u64 {
    match total <= PIPE_BUF {
        true if left <= room => left,
        true => 0,
        false => left.min(room),
    }
}

/// Looks at a writer's bytes before anything changes: takes few, and makes sure that many are there. When the arena
/// has no page left, up to one page's worth is taken all the same, so that a pipe never stops for good.
pub fn fetch(
    call: CallId,
    ranges: &Ranges,
    skip: u64,
    length: u64,
    pages: &mut u64,
    env: &mut dyn Env,
) -> Result<Fetched, Refusal> {
    if length <= INLINE_MAX || *pages == 0 {
        return Ok(Fetched::Inline(ranges.gather(call, skip, length.min(PIPE_BUF), env)?));
    }
    let length = ranges.probe(call, skip, length.min(*pages * PAGE), env)?;
    *pages = pages.saturating_sub(length.div_ceil(PAGE));
    Ok(Fetched::Probed(length))
}
