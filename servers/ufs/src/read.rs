//! Plans for reading a regular file: which bytes of the volume hold which bytes of the file. The data itself is
//! not this library's; a server has it moved straight to whoever asked.

use alloc::vec::Vec;

use crate::blocks::{Blocks, Extent, SECTOR_BYTES};
use crate::bmap::map_block;
use crate::error::Error;
use crate::geometry::Geometry;
use crate::inode::{FileType, Inode};
use crate::layout::FILE_IS_SNAPSHOT;

/// The most that one plan covers, in bytes. With it a plan needs a handful of indirect blocks at once, so a cache
/// of [`Cache::MIN_BYTES`](crate::Cache::MIN_BYTES) always suffices.
pub const READ_MAX_BYTES: u64 = 1 << 20;

/// A part of a file that lies in one piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Never written: so many zero bytes.
    Hole {
        /// Length in bytes.
        bytes: u64,
    },
    /// On the volume.
    Disk {
        /// Where it starts, in bytes from the start of the volume.
        address: u64,
        /// Length in bytes.
        bytes: u64,
    },
}

impl Piece {
    /// Its length in bytes; never zero.
    pub fn bytes(self) -> u64 {
        match self {
            Piece::Hole { bytes } | Piece::Disk { bytes, .. } => bytes,
        }
    }

    /// The sectors to fetch for it, and how many bytes of the first to skip; nothing for a hole.
    pub fn sectors(self) -> Option<(Extent, u32)> {
        let Piece::Disk { address, bytes } = self else { return None };
        let sector_bytes = u64::from(SECTOR_BYTES);
        let skip = address % sector_bytes;
        let sectors = (skip + bytes).div_ceil(sector_bytes);
        Some((Extent { sector: address / sector_bytes, sectors: sectors as u32 }, skip as u32))
    }

    /// This piece and the next as one, if the next goes on where this one ends.
    fn joined(self, next: Piece) -> Option<Piece> {
        match (self, next) {
            (Piece::Hole { bytes }, Piece::Hole { bytes: more }) => Some(Piece::Hole { bytes: bytes + more }),
            (Piece::Disk { address, bytes }, Piece::Disk { address: behind, bytes: more })
                if address + bytes == behind =>
            {
                Some(Piece::Disk { address, bytes: bytes + more })
            }
            _ => None,
        }
    }
}

/// The pieces that hold `len` bytes from `offset`, cut at the file's end and at [`READ_MAX_BYTES`].
pub(crate) fn plan(
    geometry: &Geometry,
    blocks: &impl Blocks,
    inode: &Inode,
    offset: u64,
    len: u64,
) -> Result<Vec<Piece>, Error> {
    let end = offset.saturating_add(len.min(READ_MAX_BYTES)).min(inode.size);
    let mut pieces: Vec<Piece> = Vec::new();
    let mut at = offset;
    while let Some(piece) = piece_at(geometry, blocks, inode, at, end)? {
        at += piece.bytes();
        match pieces.last_mut().and_then(|last| Some((last.joined(piece)?, last))) {
            Some((joined, last)) => *last = joined,
            None => pieces.push(piece),
        }
    }
    Ok(pieces)
}

/// The piece from `offset` to the end of its block or to `end`; nothing at the end.
pub(crate) fn piece_at(
    geometry: &Geometry,
    blocks: &impl Blocks,
    inode: &Inode,
    offset: u64,
    end: u64,
) -> Result<Option<Piece>, Error> {
    if inode.kind != FileType::Regular {
        return Err(Error::NotRegular);
    }
    if inode.flags & FILE_IS_SNAPSHOT != 0 {
        return Err(Error::Snapshot);
    }
    let end = end.min(inode.size);
    if offset >= end {
        return Ok(None);
    }
    let in_block = offset % geometry.block_bytes();
    let bytes = (geometry.block_bytes() - in_block).min(end - offset);
    let run = map_block(geometry, blocks, inode, offset >> geometry.block_shift)?;
    Ok(Some(match run {
        None => Piece::Hole { bytes },
        Some(run) => Piece::Disk { address: run.fragment * geometry.fragment_bytes() + in_block, bytes },
    }))
}

#[cfg(test)]
mod tests;
