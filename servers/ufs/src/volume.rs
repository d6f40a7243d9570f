//! A mounted volume and everything that can be asked of it.
//!
//! A [`Volume`] holds what the superblock says and nothing that changes, so it can be made again at any time.
//! Each operation takes the blocks that are at hand and gives its whole result or [`Error::Miss`].

use alloc::vec::Vec;

use crate::blocks::Blocks;
use crate::cylinder::{self, CylinderGroup};
use crate::directory::{self, DirEntries, Search};
use crate::error::Error;
use crate::inode::{self, Inode, InodeNumber};
use crate::layout::{Order, Version};
use crate::read::{self, Piece};
use crate::superblock::{self, Described};
use crate::symlink;

/// A UFS volume, mounted read-only.
#[derive(Clone, Debug)]
pub struct Volume {
    described: Described,
}

/// How much room a volume has, in the terms of `statvfs(3)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statfs {
    /// The size of a block, which is the best size for a transfer, in bytes.
    pub block_bytes: u32,
    /// The size of a fragment, the unit of the three counts below, in bytes.
    pub fragment_bytes: u32,
    /// Room for data.
    pub fragments: u64,
    /// Room that is free.
    pub free: u64,
    /// Room that is free for everyone, with the superuser's reserve taken off.
    pub available: u64,
    /// How many inodes there are.
    pub inodes: u64,
    /// How many of them are free.
    pub free_inodes: u64,
    /// The volume's random identity.
    pub id: [u32; 2],
}

impl Volume {
    /// Find and check the superblock of the volume on a disk of this many sectors.
    pub fn mount(blocks: &impl Blocks, disk_sectors: u64) -> Result<Self, Error> {
        superblock::find(blocks, disk_sectors).map(|described| Self { described })
    }

    /// Which generation of the format it is.
    pub fn version(&self) -> Version {
        self.described.geometry.version
    }

    /// The order of bytes in its numbers.
    pub fn order(&self) -> Order {
        self.described.geometry.order
    }

    /// Whether it was unmounted in good order and no damage has been seen. One that was not can be read, but its
    /// counts are stale and `fsck` has work to do.
    pub fn is_clean(&self) -> bool {
        self.described.clean
    }

    /// How many cylinder groups it has.
    pub fn groups(&self) -> u32 {
        self.described.geometry.groups
    }

    /// How much room it has, as of its last clean unmount.
    pub fn statfs(&self) -> Statfs {
        let Described { geometry, totals, id, .. } = &self.described;
        let in_blocks = totals.free_blocks * u64::from(geometry.fragments_per_block());
        let free = (in_blocks + totals.free_fragments).min(totals.data_fragments);
        let percent = u128::from(totals.data_fragments) * u128::from(totals.reserve_percent) / 100;
        Statfs {
            block_bytes: 1 << geometry.block_shift,
            fragment_bytes: 1 << geometry.fragment_shift,
            fragments: totals.data_fragments,
            free,
            available: free.saturating_sub(percent as u64), // a part of a u64
            inodes: u64::from(geometry.inodes()) - u64::from(InodeNumber::ROOT.0),
            free_inodes: totals.free_inodes,
            id: *id,
        }
    }

    /// The file with this number.
    pub fn inode(&self, blocks: &impl Blocks, number: InodeNumber) -> Result<Inode, Error> {
        let geometry = &self.described.geometry;
        if number < InodeNumber::ROOT || number.0 >= geometry.inodes() {
            return Err(Error::NoInode(number));
        }
        let (run, place) = geometry.inode_place(number.0);
        let block = blocks.get(geometry.extent(run))?;
        let bytes = block.get(place as usize..).and_then(|rest| rest.get(..geometry.inode_bytes() as usize));
        inode::decode(geometry, number, bytes.unwrap_or_default())
    }

    /// The root directory.
    pub fn root(&self, blocks: &impl Blocks) -> Result<Inode, Error> {
        let root = self.inode(blocks, InodeNumber::ROOT)?;
        match root.kind {
            inode::FileType::Directory => Ok(root),
            _ => Err(root.corrupt("a root that is not a directory")),
        }
    }

    /// The number of the file that a directory knows by this name; `.` and `..` are names like any other. The
    /// search goes on where `search` says, and on a miss `search` says how far it has come.
    pub fn lookup(
        &self,
        blocks: &impl Blocks,
        directory: &Inode,
        name: &[u8],
        search: &mut Search,
    ) -> Result<InodeNumber, Error> {
        directory::lookup(&self.described.geometry, blocks, directory, name, search)
    }

    /// The entries of a directory from this cookie to the end of its block; cookie 0 is the first entry, and
    /// [`DirEntries::next_block`] leads on.
    pub fn read_dir<'a>(
        &self,
        blocks: &'a impl Blocks,
        directory: &Inode,
        cookie: u64,
    ) -> Result<DirEntries<'a>, Error> {
        directory::entries(&self.described.geometry, blocks, directory, cookie)
    }

    /// The target of a symbolic link: 1 to [`TARGET_MAX`](crate::TARGET_MAX) bytes, none of them NUL.
    pub fn read_link<'a>(&self, blocks: &'a impl Blocks, link: &'a Inode) -> Result<&'a [u8], Error> {
        symlink::target(&self.described.geometry, blocks, link)
    }

    /// What holds a regular file's bytes from this offset to the end of their block or of the file; nothing at
    /// the file's end.
    pub fn block_map(&self, blocks: &impl Blocks, file: &Inode, offset: u64) -> Result<Option<Piece>, Error> {
        read::piece_at(&self.described.geometry, blocks, file, offset, file.size)
    }

    /// What holds `len` bytes of a regular file from this offset, in order and each piece as long as it can be.
    /// The pieces end at the file's end, and cover no more than [`READ_MAX_BYTES`](crate::READ_MAX_BYTES).
    pub fn plan_read(
        &self,
        blocks: &impl Blocks,
        file: &Inode,
        offset: u64,
        len: u64,
    ) -> Result<Vec<Piece>, Error> {
        read::plan(&self.described.geometry, blocks, file, offset, len)
    }

    /// A cylinder group's header and maps, checked. No other operation looks at them.
    pub fn cylinder_group<'a>(
        &self,
        blocks: &'a impl Blocks,
        index: u32,
    ) -> Result<CylinderGroup<'a>, Error> {
        cylinder::group(&self.described.geometry, blocks, index)
    }
}

#[cfg(test)]
mod tests;
