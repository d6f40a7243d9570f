//! The shape of a volume, and the arithmetic of addresses on it.
//!
//! A [`Geometry`] is made only by the superblock's checks, and those give what the sums here rely on: shifts in
//! range, groups that cover the volume exactly once, and a volume that fits its disk, whose bytes fit an `i64`.
//! So a fragment number below [`Geometry::fragments`] can be turned into bytes, and any inode number below
//! [`Geometry::inodes`] into a fragment, without a further check.

use crate::blocks::{Extent, SECTOR_BYTES};
use crate::layout::{DIRECT, Order, SUPERBLOCK_BYTES, Version};

/// The shape of a volume. A *fragment* is the unit of addresses, a *block* is 1, 2, 4 or 8 of them, and a *group*
/// is a run of fragments with its own superblock copy, header, inodes and data.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    pub version: Version,
    pub order: Order,
    pub block_shift: u32,
    pub fragment_shift: u32,
    /// The volume's length, in fragments.
    pub fragments: u64,
    pub groups: u32,
    pub fragments_per_group: u32,
    pub inodes_per_group: u32,
    /// Where a group's superblock copy, header, inodes and data lie, in fragments from the group's start.
    pub superblock_at: u32,
    pub header_at: u32,
    pub inodes_at: u32,
    pub data_at: u32,
    pub header_bytes: u32,
    /// UFS1 moves the four places above by `shift_step * (group & shift_groups)`, so that on an old disk they do
    /// not all lie under one head.
    pub shift_step: u32,
    pub shift_groups: u32,
    /// A symbolic link's target shorter than this many bytes lies in its inode.
    pub short_link_limit: u32,
}

/// A whole number of fragments, for a block or a part of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub fragment: u64,
    pub fragments: u32,
}

impl Geometry {
    pub fn block_bytes(&self) -> u64 {
        1 << self.block_shift
    }

    pub fn fragment_bytes(&self) -> u64 {
        1 << self.fragment_shift
    }

    pub fn fragments_per_block(&self) -> u32 {
        1 << (self.block_shift - self.fragment_shift)
    }

    pub fn inode_bytes(&self) -> u64 {
        match self.version {
            Version::Ufs1 => 128,
            Version::Ufs2 => 256,
        }
    }

    pub fn inodes_per_block(&self) -> u32 {
        (1u32 << self.block_shift) / self.inode_bytes() as u32
    }

    pub fn pointer_bytes(&self) -> u64 {
        match self.version {
            Version::Ufs1 => 4,
            Version::Ufs2 => 8,
        }
    }

    pub fn pointers_per_block(&self) -> u64 {
        self.block_bytes() / self.pointer_bytes()
    }

    /// The number of inodes, and so the first number that names none.
    pub fn inodes(&self) -> u32 {
        self.groups * self.inodes_per_group
    }

    /// The largest size a file can have: what triple indirection reaches, and no more than an `i64` holds.
    pub fn file_bytes_max(&self) -> u64 {
        let pointers = self.pointers_per_block();
        let blocks = DIRECT as u64 + pointers + pointers.pow(2) + pointers.pow(3);
        blocks.saturating_mul(self.block_bytes()).min(i64::MAX as u64)
    }

    /// The first fragment of a group.
    fn group_base(&self, group: u32) -> u64 {
        u64::from(group) * u64::from(self.fragments_per_group)
    }

    /// How far into a group its superblock copy, header, inodes and data are moved, in fragments.
    pub fn group_shift(&self, group: u32) -> u64 {
        u64::from(self.shift_step) * u64::from(group & self.shift_groups)
    }

    /// The fragments of a group: all alike, but for the last.
    pub fn group_fragments(&self, group: u32) -> u64 {
        let left = self.fragments.saturating_sub(self.group_base(group));
        left.min(u64::from(self.fragments_per_group))
    }

    /// The header of a group, with its maps.
    pub fn group_header(&self, group: u32) -> Run {
        Run {
            fragment: self.group_base(group) + self.group_shift(group) + u64::from(self.header_at),
            fragments: self.header_bytes.div_ceil(1 << self.fragment_shift),
        }
    }

    /// The block that holds an inode, and the inode's place in it in bytes.
    pub fn inode_place(&self, number: u32) -> (Run, u64) {
        let group = number / self.inodes_per_group;
        let block = number % self.inodes_per_group / self.inodes_per_block();
        let first = self.group_base(group) + self.group_shift(group) + u64::from(self.inodes_at);
        let fragment = first + u64::from(block) * u64::from(self.fragments_per_block());
        let place = u64::from(number % self.inodes_per_block()) * self.inode_bytes();
        (Run { fragment, fragments: self.fragments_per_block() }, place)
    }

    /// Whether a file may hold this run: in one piece in one block, on the volume, and clear of every group's
    /// own structures. What lies before the structures is data in every group but the first, where it is the
    /// boot area and the superblock.
    pub fn is_data(&self, run: Run) -> bool {
        let in_block = run.fragment % u64::from(self.fragments_per_block());
        let Some(end) = run.fragment.checked_add(u64::from(run.fragments)) else { return false };
        if run.fragments == 0
            || in_block + u64::from(run.fragments) > u64::from(self.fragments_per_block())
            || end > self.fragments
        {
            return false;
        }
        let per_group = u64::from(self.fragments_per_group);
        let group = (run.fragment / per_group) as u32; // below `groups`, because the run is on the volume
        let from = run.fragment % per_group;
        let shift = self.group_shift(group);
        let after_structures = from >= shift + u64::from(self.data_at);
        let before_structures =
            group != 0 && from + u64::from(run.fragments) <= shift + u64::from(self.superblock_at);
        after_structures || before_structures
    }

    /// The sectors of a run.
    pub fn extent(&self, run: Run) -> Extent {
        let sectors_per_fragment = (1u32 << self.fragment_shift) / SECTOR_BYTES;
        Extent {
            sector: run.fragment * u64::from(sectors_per_fragment),
            sectors: run.fragments * sectors_per_fragment,
        }
    }
}

/// The sectors of the superblock that may lie at this byte.
pub(crate) fn superblock_extent(byte: u64) -> Extent {
    Extent { sector: byte / u64::from(SECTOR_BYTES), sectors: SUPERBLOCK_BYTES / SECTOR_BYTES }
}

#[cfg(test)]
mod tests;
