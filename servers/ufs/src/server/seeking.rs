//! lseek(2).

use libipc::abi::CallId;
use libipc::linux::errno::*;
use libipc::server::{Effects, ForeignReply, files};

use super::disks::{Disks, Stall};
use super::node::Node;
use crate::inode::FileType;
use crate::read::Piece;

const SEEK_DATA: u64 = 3;
const SEEK_HOLE: u64 = 4;
/// Most blocks that one search for data or for a hole looks at. Where it ends without result a caller is told of data,
/// which a hole may always be taken for.
const BLOCKS_MAX: u32 = 4096;

/// A seek under way.
#[derive(Clone, Debug)]
pub(super) struct Seek {
    node: Node,
    position: u64,
    offset: i64,
    whence: u64,
    /// How far the search has come, and over how many blocks.
    searched: u64,
    blocks: u32,
}

impl Seek {
    /// A seek that has just come, on a session at this position.
    pub fn new(node: Node, position: u64, offset: i64, whence: u64) -> Self {
        Self { node, position, offset, whence, searched: 0, blocks: 0 }
    }

    /// Goes on.
    pub fn advance(&mut self, call: CallId, disks: &mut Disks, effects: &mut Effects) -> Result<(), Stall> {
        let (mut site, inode) = disks.find(self.node)?;
        let mut position = files::seek(self.position, self.offset, self.whence, inode.size)?;
        if inode.kind == FileType::Regular && matches!(self.whence, SEEK_DATA | SEEK_HOLE) {
            self.searched = self.searched.max(self.offset as u64); // not below zero, or it would have been refused
            let data = self.whence == SEEK_DATA;
            loop {
                let (volume, view) = site.volume();
                let piece = volume.block_map(view, &inode, self.searched).map_err(|error| site.stall(error))?;
                let Some(piece) = piece else {
                    position = if data { Err(ENXIO)? } else { inode.size };
                    break;
                };
                if matches!(piece, Piece::Disk { .. }) == data {
                    position = self.searched;
                    break;
                }
                if self.blocks == BLOCKS_MAX {
                    position = if data { self.searched } else { inode.size };
                    break;
                }
                self.blocks += 1;
                self.searched += piece.bytes();
            }
        }
        let result = position as i64;
        effects.foreign(call, ForeignReply { result, position: Some(position), ..ForeignReply::default() });
        Ok(())
    }
}
