//! lseek(2).

use libipc::abi::CallId;
use libipc::linux::errno::*;
use libipc::server::{Effects, ForeignReply, files};

use super::disks::{Disks, Site, Stall};
use super::node::Node;
use crate::inode::{FileType, Inode};
use crate::read::Piece;

const SEEK_DATA: u64 = 3;
const SEEK_HOLE: u64 = 4;
/// Most blocks that one search for data or for a hole looks at. Where it ends without result a caller is told of
/// data, which a hole may always be taken for.
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
            // A negative offset has been refused.
            self.searched = self.searched.max(self.offset as u64);
            position = self.search(&inode, &mut site)?;
        }
        let result = position as i64;
        effects.foreign(call, ForeignReply { result, position: Some(position), ..ForeignReply::default() });
        Ok(())
    }

    /// Where the next data or hole begins. Every file ends with a hole.
    fn search(&mut self, file: &Inode, site: &mut Site<'_>) -> Result<u64, Stall> {
        let data = self.whence == SEEK_DATA;
        loop {
            let (volume, view) = site.volume();
            match volume.block_map(&view, file, self.searched).map_err(|error| site.stall(error))? {
                None if data => return Err(Stall::Errno(ENXIO)),
                None => return Ok(file.size),
                Some(piece) if matches!(piece, Piece::Disk { .. }) == data => return Ok(self.searched),
                Some(_) if self.blocks == BLOCKS_MAX => {
                    return Ok(if data { self.searched } else { file.size });
                }
                Some(piece) => {
                    self.blocks += 1;
                    self.searched += piece.bytes();
                }
            }
        }
    }
}
