//! Moving bytes between a caller's memory and the arena, and why a call may be refused.
//!
//! The state changes before the kernel copies, so nobody else may see the copy missing: a call's source pages are
//! looked at first, and a step that finds one missing has changed nothing and is taken again when it is there.

use alloc::{vec, vec::Vec};
use core::slice;
use serde::{Deserialize, Serialize};

use crate::arena::{Span, WINDOW};
use libipc::abi::{CallId, PAYLOAD_MAX};
use libipc::linux::errno::*;
pub use libipc::server::Refusal;
pub use libipc::server::vectors::Range;
use libipc::server::vectors::{self, vectors};
use libipc::server::{Effect, Effects, Env, Foreign, ForeignReply, LeaseError, Operation, Output};

/// Most bytes that one read or write moves to or from a file; what is above is left for the next call.
pub const TRANSFER_MAX: u64 = 1 << 20;
/// Most bytes that go to the caller as one step with the reply.
pub const OUTPUT_MAX: u64 = 512;
/// Most pieces that do.
const OUTPUTS_MAX: u64 = 4;

/// What serving a call comes to.
pub type Outcome = Result<Effects, Refusal>;

/// The effects of a call that is answered with a value alone.
pub fn value(call: CallId, result: u64) -> Outcome {
    let mut effects = Effects::none();
    effects.result(call, result as i64);
    Ok(effects)
}

/// The effects of a call that is answered with a value and a small structure.
pub fn small(call: CallId, result: u64, address: u64, bytes: &[u8]) -> Outcome {
    let outputs = vec![Output { address, bytes: bytes.to_vec() }];
    let mut effects = Effects::none();
    effects.foreign(call, ForeignReply { result: result as i64, outputs, ..ForeignReply::default() });
    Ok(effects)
}

/// The caller's buffers, in order.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ranges {
    /// Of read and write.
    One(Range),
    /// Of their vectored relatives.
    Many(Vec<Range>),
}

impl Ranges {
    /// One buffer; `EFAULT` if no address space could have it.
    pub fn one(address: u64, length: u64) -> Result<Ranges, i32> {
        address.checked_add(length).ok_or(EFAULT)?;
        Ok(Ranges::One(Range { address, length }))
    }

    /// The buffers of a vectored call: the address of the vectors is argument 1, their count argument 2.
    pub fn vectored(foreign: &Foreign, call: CallId, env: &mut dyn Env) -> Result<Ranges, Refusal> {
        let [_, address, count, ..] = foreign.arguments;
        Ok(Ranges::Many(vectors(call, (address, count), foreign.inputs[0].as_deref(), env)?))
    }

    /// The pieces.
    pub fn pieces(&self) -> &[Range] {
        match self {
            Ranges::One(range) => slice::from_ref(range),
            Ranges::Many(ranges) => ranges,
        }
    }

    /// Bytes in all.
    pub fn total(&self) -> u64 {
        match self {
            Ranges::One(range) => range.length,
            Ranges::Many(ranges) => ranges.iter().map(|range| range.length).sum(),
        }
    }

    /// The pieces of `length` bytes behind the first `skip`.
    pub fn part(&self, skip: u64, length: u64) -> impl Iterator<Item = Range> {
        vectors::part(self.pieces(), skip, length)
    }

    /// How many of `length` bytes behind the first `skip` can be read from the caller now, up to the first bad page.
    ///
    /// # Errors
    /// `EFAULT` when it is none; [`Refusal::Again`] when a page is missing.
    pub fn probe(&self, call: CallId, skip: u64, length: u64, env: &mut dyn Env) -> Result<u64, Refusal> {
        let mut good = 0;
        for range in self.part(skip, length) {
            let end = range.address + range.length;
            let mut at = range.address;
            while at < end {
                match env.probe_user(call, at, (end - at).min(WINDOW) as u32) {
                    Ok(there) => {
                        good += there;
                        at += there;
                    }
                    Err(LeaseError::NotResident) => return Err(Refusal::Again),
                    Err(_) if good > 0 => return Ok(good),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(good)
    }

    /// Makes the pages of the first `length` bytes come in, as far as they are the caller's at all.
    ///
    /// # Errors
    /// [`Refusal::Again`] when a page is missing.
    pub fn fault_in(&self, call: CallId, length: u64, env: &mut dyn Env) -> Result<(), Refusal> {
        match self.probe(call, 0, length, env) {
            Err(Refusal::Again) => Err(Refusal::Again),
            _ => Ok(()),
        }
    }

    /// Bytes of the caller, at most [`PAYLOAD_MAX`], from behind the first `skip`.
    pub fn gather(
        &self,
        call: CallId,
        skip: u64,
        length: u64,
        env: &mut dyn Env,
    ) -> Result<Vec<u8>, Refusal> {
        let mut parts = self.part(skip, length.min(u64::from(PAYLOAD_MAX)));
        let Some(first) = parts.next() else { return Ok(Vec::new()) };
        let mut bytes = env.read_user(call, first.address, first.length as u32)?;
        for range in parts {
            bytes.extend(env.read_user(call, range.address, range.length as u32)?);
        }
        Ok(bytes)
    }
}

/// Clears spans of the arena.
pub fn clear(effects: &mut Effects, spans: &[Span]) {
    for span in spans {
        let mut done = 0;
        while done < span.length {
            let length = (span.length - done).min(WINDOW);
            effects.act(Operation::ArenaZero { offset: span.offset + done, length });
            done += length;
        }
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the caller into the arena.
    Write,
    /// From the arena to the caller.
    Read,
}

/// Moves bytes between the caller's buffers, from behind the first `skip`, and spans of the arena.
pub fn copy(
    effects: &mut Effects,
    call: CallId,
    direction: Direction,
    ranges: &Ranges,
    skip: u64,
    spans: &[Span],
) {
    let total = spans.iter().map(|span| span.length).sum();
    let mut spans = spans.iter().copied();
    let mut span = Span { offset: 0, length: 0 };
    for range in ranges.part(skip, total) {
        let mut done = 0;
        while done < range.length {
            while span.length == 0 {
                let Some(next) = spans.next() else { return };
                span = next;
            }
            let length = span.length.min(range.length - done).min(WINDOW);
            let (address, offset) = (range.address + done, span.offset);
            effects.push(match direction {
                Direction::Write => Effect::ToArena { call, address, offset, length },
                Direction::Read => Effect::FromArena { call, address, offset, length },
            });
            done += length;
            span = Span { offset: span.offset + length, length: span.length - length };
        }
    }
}

/// Hands bytes of the server to the caller and answers: in one step with the reply when they are few.
pub fn hand_out(effects: &mut Effects, call: CallId, ranges: &Ranges, bytes: Vec<u8>, reply: ForeignReply) {
    let length = bytes.len() as u64;
    let pieces = ranges.part(0, length).count() as u64;
    let mut reply = reply;
    if length <= OUTPUT_MAX && pieces <= OUTPUTS_MAX {
        reply.outputs = outputs(ranges, bytes);
    } else {
        copy_out(effects, call, ranges, 0, &bytes);
    }
    effects.foreign(call, reply);
}

fn outputs(ranges: &Ranges, bytes: Vec<u8>) -> Vec<Output> {
    let length = bytes.len() as u64;
    let mut rest = bytes;
    let mut outputs = Vec::new();
    for range in ranges.part(0, length) {
        let behind = rest.split_off(range.length as usize);
        outputs.push(Output { address: range.address, bytes: core::mem::replace(&mut rest, behind) });
    }
    outputs
}

/// Hands bytes of the server to the caller's buffers, from behind the first `skip`.
pub fn copy_out(effects: &mut Effects, call: CallId, ranges: &Ranges, skip: u64, bytes: &[u8]) {
    let mut rest = bytes;
    for range in ranges.part(skip, bytes.len() as u64) {
        let (here, behind) = rest.split_at(range.length as usize);
        rest = behind;
        for (index, window) in here.chunks(WINDOW as usize).enumerate() {
            let address = range.address + index as u64 * WINDOW;
            effects.push(Effect::CopyOut { call, address, bytes: window.to_vec() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges() -> Ranges {
        Ranges::Many(vec![
            Range { address: 100, length: 10 },
            Range { address: 1000, length: 5 },
            Range { address: 2000, length: 100_000 },
        ])
    }

    #[test]
    fn a_part_of_buffers_begins_and_ends_inside_them() {
        let part: Vec<Range> = ranges().part(8, 5).collect();
        assert_eq!(part, [Range { address: 108, length: 2 }, Range { address: 1000, length: 3 }]);
    }

    #[test]
    fn no_effect_moves_more_than_a_window() {
        let mut effects = Effects::none();
        let spans = [Span { offset: 0, length: 9 }, Span { offset: 90_000, length: 80_000 }];
        copy(&mut effects, CallId(1), Direction::Read, &ranges(), 0, &spans);
        let lengths: Vec<u64> = effects
            .list
            .iter()
            .map(|effect| match effect {
                Effect::FromArena { length, .. } => *length,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(lengths, [9, 1, 5, WINDOW, 80_000 - 6 - WINDOW]);
    }

    #[test]
    fn few_bytes_go_with_the_reply() {
        let mut effects = Effects::none();
        hand_out(&mut effects, CallId(1), &ranges(), b"twelve bytes".to_vec(), ForeignReply::default());
        let [Effect::ReplyForeign { reply, .. }] = effects.list.as_slice() else { panic!("one effect") };
        assert_eq!(reply.outputs[0], Output { address: 100, bytes: b"twelve byt".to_vec() });
        assert_eq!(reply.outputs[1], Output { address: 1000, bytes: b"es".to_vec() });
    }

    #[test]
    fn many_bytes_go_in_windows_before_the_reply() {
        let mut effects = Effects::none();
        hand_out(&mut effects, CallId(1), &ranges(), vec![7; 70_000], ForeignReply::default());
        assert_eq!(effects.list.len(), 5);
    }
}
