//! Symbolic links: the target lies in the inode if it is short, and in the file's only block if it is long.

use crate::blocks::Blocks;
use crate::bmap::map_block;
use crate::error::Error;
use crate::geometry::Geometry;
use crate::inode::{Content, FileType, Inode};

/// The longest target of a symbolic link, in bytes. It is no more than the smallest block.
pub const TARGET_MAX: u64 = 4096;

/// The target of a symbolic link.
pub(crate) fn target<'a>(
    geometry: &Geometry,
    blocks: &'a impl Blocks,
    inode: &'a Inode,
) -> Result<&'a [u8], Error> {
    let target = match &inode.content {
        Content::ShortLink { target, len } => target.get(..usize::from(*len)),
        Content::Blocks(_) if inode.kind == FileType::Symlink => long_target(geometry, blocks, inode)?,
        _ => return Err(Error::NotSymlink),
    };
    let target = target.ok_or_else(|| inode.corrupt("a symbolic link that is cut short"))?;
    if target.is_empty() || target.contains(&0) {
        return Err(inode.corrupt("a symbolic link that is empty or holds a NUL"));
    }
    Ok(target)
}

fn long_target<'a>(
    geometry: &Geometry,
    blocks: &'a impl Blocks,
    inode: &Inode,
) -> Result<Option<&'a [u8]>, Error> {
    if inode.size > TARGET_MAX {
        return Err(inode.corrupt("a symbolic link that is too long"));
    }
    let run = map_block(geometry, blocks, inode, 0)?
        .ok_or_else(|| inode.corrupt("a symbolic link without its block"))?;
    Ok(blocks.get(geometry.extent(run))?.get(..inode.size as usize))
}

#[cfg(test)]
mod tests;
