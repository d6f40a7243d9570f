//! read(2), pread64(2), readv(2) and preadv(2).
//!
//! What is there is handed to the caller window by window, and the answer comes with the last one. On a volume that
//! is only read it does no harm to hand out the same bytes again after a restart.

use alloc::vec::Vec;

use libipc::abi::CallId;
use libipc::linux::errno::*;
use libipc::server::{Effect, Effects, ForeignReply, Output};

use super::buffers::Buffers;
use super::disks::{Disks, Stall, WINDOW_BYTES};
use super::node::Node;
use crate::inode::FileType;
use crate::read::READ_MAX_BYTES;

/// Most bytes, and most pieces, that go to the caller as one with the reply.
const OUTPUT_BYTES_MAX: u64 = 512;
const OUTPUTS_MAX: u64 = 4;

/// A read under way.
#[derive(Clone, Debug)]
pub(super) struct Read {
    node: Node,
    /// Where in the file it begins.
    offset: u64,
    /// The session's position moves along.
    moves: bool,
    buffers: Buffers,
    /// How many bytes have been handed out.
    done: u64,
}

impl Read {
    /// A read that has just come.
    pub fn new(node: Node, offset: u64, moves: bool, buffers: Buffers) -> Self {
        Self { node, offset, moves, buffers, done: 0 }
    }

    /// Goes on.
    pub fn advance(&mut self, call: CallId, disks: &mut Disks, effects: &mut Effects) -> Result<(), Stall> {
        let (mut site, inode) = disks.find(self.node)?;
        match inode.kind {
            FileType::Regular => {}
            FileType::Directory => return Err(Stall::Errno(EISDIR)),
            _ => return Err(Stall::Errno(EINVAL)),
        }
        let length = self.buffers.total().min(READ_MAX_BYTES);
        let end = self.offset.saturating_add(length).min(inode.size).max(self.offset);
        let already = self.done;
        let mut pieces: Vec<Output> = Vec::new();
        while self.offset + self.done < end {
            let at = self.offset + self.done;
            let Some(room) = self.buffers.behind(self.done) else { break };
            let window = (at - at % WINDOW_BYTES).saturating_add(WINDOW_BYTES);
            let length = room.length.min(window.min(end) - at);
            let mut bytes = Vec::with_capacity(length as usize);
            let outcome = site.read(&inode, at, length, end, &mut bytes);
            self.done += bytes.len() as u64;
            if !bytes.is_empty() {
                pieces.push(Output { address: room.address, bytes });
            }
            if let Err(stall) = outcome {
                copy_out(call, pieces, effects);
                return Err(stall);
            }
        }
        let small = self.done <= OUTPUT_BYTES_MAX && pieces.len() as u64 <= OUTPUTS_MAX && already == 0;
        let mut reply = self.reply();
        if small {
            reply.outputs = pieces;
        } else {
            copy_out(call, pieces, effects);
        }
        effects.foreign(call, reply);
        Ok(())
    }

    /// Answers with what was read before the error, or with the error.
    pub fn fail(&self, call: CallId, errno: i32, effects: &mut Effects) {
        if self.done == 0 {
            effects.result(call, -i64::from(errno));
        } else {
            effects.foreign(call, self.reply());
        }
    }

    fn reply(&self) -> ForeignReply {
        ForeignReply {
            result: self.done as i64,
            position: self.moves.then_some(self.offset + self.done),
            ..ForeignReply::default()
        }
    }
}

fn copy_out(call: CallId, pieces: Vec<Output>, effects: &mut Effects) {
    for Output { address, bytes } in pieces {
        effects.push(Effect::CopyOut { call, address, bytes });
    }
}
