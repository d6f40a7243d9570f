//! Who reads and writes a pipe and how, and what a reader is given in the end.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::Desk;
use super::buffer::Taken;
use crate::socket::cargo::{Cargo, Parcel};
use crate::socket::receipt::{Delivered, Receipt, answer_receiver};
use crate::transfer::{Direction, Ranges, copy, copy_out};
use libipc::abi::CallId;
use libipc::server::{Effects, Env};

/// What goes along with some bytes of a stream socket: whoever reads the first of them gets it, and no byte behind the
/// last of them with the same call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// The first of the bytes, counted from the stream's beginning.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// What it is.
    pub cargo: Cargo,
}

/// A call that reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reader {
    /// The call.
    pub call: CallId,
    /// Where the bytes go.
    pub ranges: Ranges,
    /// How many it has got.
    pub done: u64,
    /// Leave the bytes where they are.
    pub peek: bool,
    /// Wait until all of the buffers are full.
    pub whole: bool,
    /// Where it wants to be told what went along with the bytes.
    pub receipt: Option<Receipt>,
}

impl Reader {
    /// As read(2) has it.
    pub fn plain(call: CallId, ranges: Ranges) -> Reader {
        Reader { call, ranges, done: 0, peek: false, whole: false, receipt: None }
    }

    /// Whether it is as read(2) has it, and has got nothing yet.
    pub fn is_plain(&self) -> bool {
        self.done == 0 && !self.peek && !self.whole && self.receipt.is_none()
    }
}

/// How a call writes.
#[derive(Clone, Debug, Default)]
pub struct Manner {
    /// It does not wait.
    pub nonblock: bool,
    /// No signal when nobody reads.
    pub quiet: bool,
    /// The bytes, when they came with the call.
    pub given: Option<Vec<u8>>,
    /// What goes along.
    pub parcel: Parcel,
}

/// Where a writer's bytes come from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The writer.
    pub call: CallId,
    /// Its buffers.
    pub ranges: &'a Ranges,
    /// How many bytes of them are behind it.
    pub skip: u64,
}

/// Copies what was taken out of the buffer to a reader, from behind the bytes it has got.
pub fn hand_over(reader: &Reader, skip: u64, taken: Vec<Taken>, desk: &mut Desk) {
    hand_pieces(&mut desk.effects, reader.call, &reader.ranges, skip, taken);
}

/// Copies what was taken out of a buffer to a caller's buffers, from behind the first `skip` bytes.
pub fn hand_pieces(effects: &mut Effects, call: CallId, ranges: &Ranges, skip: u64, taken: Vec<Taken>) {
    let mut skip = skip;
    for piece in taken {
        match piece {
            Taken::Bytes(bytes) => {
                copy_out(effects, call, ranges, skip, &bytes);
                skip += bytes.len() as u64;
            }
            Taken::Span(span) => {
                copy(effects, call, Direction::Read, ranges, skip, &[span]);
                skip += span.length;
            }
        }
    }
}

/// Answers a reader with what it has got, and with what went along. Descriptors need `env`.
pub fn finish(reader: &Reader, cargo: Option<Cargo>, desk: &mut Desk, env: Option<&mut dyn Env>) {
    desk.parked.remove(&reader.call);
    let result = reader.done as i64;
    let cargo = Delivered { cargo, peeked: reader.peek, ..Delivered::default() };
    answer_receiver(&mut desk.effects, (reader.call, result), reader.receipt.as_ref(), cargo, env);
}
