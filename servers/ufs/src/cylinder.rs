//! Cylinder groups: each keeps the maps of its inodes and fragments. A reader of files needs none of this; a
//! checker compares it with what the inodes say, and a writer allocates from it.

use core::mem::size_of;

use zerocopy::FromBytes;
use zerocopy::byteorder::{BigEndian, ByteOrder, LittleEndian};

use crate::blocks::Blocks;
use crate::error::Error;
use crate::geometry::Geometry;
use crate::layout::{GroupHeader, MAGIC_GROUP, Order, Version};

/// A cylinder group whose header has been checked.
#[derive(Clone, Copy, Debug)]
pub struct CylinderGroup<'a> {
    /// Its index on the volume.
    pub index: u32,
    /// How many directories it holds.
    pub directories: u32,
    /// How many of its blocks are wholly free.
    pub free_blocks: u32,
    /// How many fragments are free in blocks that are partly in use.
    pub free_fragments: u32,
    /// How many of its inodes are free.
    pub free_inodes: u32,
    /// How many inodes it has.
    pub inodes: u32,
    /// How many fragments it has, its own structures included.
    pub fragments: u32,
    inode_map: &'a [u8],
    fragment_map: &'a [u8],
}

impl CylinderGroup<'_> {
    /// Whether an inode of this group, counted from the group's first, is in use; nothing beyond the last.
    pub fn is_inode_used(&self, index: u32) -> Option<bool> {
        (index < self.inodes).then(|| bit(self.inode_map, index)).flatten()
    }

    /// Whether a fragment of this group, counted from the group's first, is free; nothing beyond the last.
    pub fn is_fragment_free(&self, index: u32) -> Option<bool> {
        (index < self.fragments).then(|| bit(self.fragment_map, index)).flatten()
    }
}

/// A bit of a map; maps are bytes, lowest bit first, in either byte order.
fn bit(map: &[u8], index: u32) -> Option<bool> {
    map.get(index as usize / 8).map(|byte| byte >> (index % 8) & 1 == 1)
}

/// Read and check a group's header.
pub(crate) fn group<'a>(
    geometry: &Geometry,
    blocks: &'a impl Blocks,
    index: u32,
) -> Result<CylinderGroup<'a>, Error> {
    if index >= geometry.groups {
        return Err(Error::corrupt_group("no such group", index));
    }
    let bytes = blocks.get(geometry.extent(geometry.group_header(index)))?;
    let bytes = bytes.get(..geometry.header_bytes as usize).unwrap_or(bytes);
    match geometry.order {
        Order::Little => check::<LittleEndian>(geometry, index, bytes),
        Order::Big => check::<BigEndian>(geometry, index, bytes),
    }
}

fn check<'a, O: ByteOrder>(
    geometry: &Geometry,
    index: u32,
    bytes: &'a [u8],
) -> Result<CylinderGroup<'a>, Error> {
    let require = |good: bool, what| if good { Ok(()) } else { Err(Error::corrupt_group(what, index)) };
    let cut_short = Error::corrupt_group("a header that is cut short", index);
    let (raw, _) = GroupHeader::<O>::ref_from_prefix(bytes).map_err(|_| cut_short)?;
    require(raw.magic.get() == MAGIC_GROUP, "a header without its magic number")?;
    require(raw.cgx.get() == index, "the header of another group")?;
    let fragments = geometry.group_fragments(index) as u32; // at most fragments_per_group
    require(raw.ndblk.get() == fragments, "a wrong number of fragments")?;
    let inodes = geometry.inodes_per_group;
    let inodes_right = match geometry.version {
        Version::Ufs1 => true, // its 16-bit field does not hold every number, and nobody reads it
        Version::Ufs2 => raw.niblk.get() == inodes && raw.initediblk.get() <= inodes,
    };
    require(inodes_right, "a wrong number of inodes")?;
    require(raw.rotor.get() <= fragments && raw.frotor.get() <= fragments, "a rotor beyond its fragments")?;
    require(raw.irotor.get() <= inodes, "a rotor beyond its inodes")?;
    let count = |n: i32, most: u32| u32::try_from(n).ok().filter(|n| *n <= most);
    let count = |n, most| count(n, most).ok_or(Error::corrupt_group("a count that is out of range", index));
    let map = |offset: u32, bits: u32| {
        let behind_header = offset as usize >= size_of::<GroupHeader<O>>();
        let map = bytes.get(offset as usize..).and_then(|map| map.get(..bits.div_ceil(8) as usize));
        map.filter(|_| behind_header).ok_or(Error::corrupt_group("a map outside its header", index))
    };
    Ok(CylinderGroup {
        index,
        directories: count(raw.cs.ndir.get(), inodes)?,
        free_blocks: count(raw.cs.nbfree.get(), fragments / geometry.fragments_per_block())?,
        free_fragments: count(raw.cs.nffree.get(), fragments)?,
        free_inodes: count(raw.cs.nifree.get(), inodes)?,
        inodes,
        fragments,
        inode_map: map(raw.iusedoff.get(), inodes)?,
        fragment_map: map(raw.freeoff.get(), geometry.fragments_per_group)?,
    })
}

#[cfg(test)]
mod tests;
