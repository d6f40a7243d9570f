//! How files are named outside: node numbers, session objects, `struct stat`.
//!
//! A node's number says all that is needed to find the file again, so that sessions need no memory here: it is a
//! session's badge, the `st_ino` that programs see, and the node in vfs's protocol. Files of the first disk have
//! their inode number alone.

use libipc::abi::Badge;
use libipc::linux::{Stat, StatFs};
use libipc::server::files::device_number;

use super::disks::Site;
use crate::inode::{FileType, Inode, InodeNumber, Timestamp};
use crate::layout::Version;
use crate::volume::Volume;

/// Where a disk's number stands in a node's.
const DISK_SHIFT: u32 = 32;
/// Where it stands in a session's object, above 24 bits of the inode's generation.
const OBJECT_DISK_SHIFT: u32 = 56;
const GENERATION_MASK: u32 = 0xff_ffff;
/// `f_type` of a UFS1 volume, as Linux's `magic.h` has it.
const UFS1_MAGIC: u64 = 0x0001_1954;
/// `f_type` of a UFS2 volume.
const UFS2_MAGIC: u64 = 0x1954_0119;
const ST_RDONLY: u64 = 1;

/// A file on a disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Node {
    /// The disk, which is also the volume's number.
    pub disk: u32,
    /// The file.
    pub inode: InodeNumber,
}

impl Node {
    /// The root directory of a volume.
    pub fn root(disk: u32) -> Self {
        Self { disk, inode: InodeNumber::ROOT }
    }

    /// The node with this number, if there can be one.
    pub fn from_number(number: u64) -> Self {
        Self { disk: (number >> DISK_SHIFT) as u32, inode: InodeNumber(number as u32) }
    }

    /// The node behind a session.
    pub fn from_badge(badge: Badge) -> Self {
        Self::from_number(badge.0)
    }

    /// Its number.
    pub fn number(self) -> u64 {
        u64::from(self.disk) << DISK_SHIFT | u64::from(self.inode.0)
    }

    /// What vm and others know a file by.
    pub fn object(self, inode: &Inode) -> u64 {
        let generation = u64::from(inode.generation & GENERATION_MASK);
        u64::from(self.disk) << OBJECT_DISK_SHIFT | generation << DISK_SHIFT | u64::from(self.inode.0)
    }
}

/// Type and permission bits as Linux has them, which are those of UFS.
pub(super) fn mode(inode: &Inode) -> u32 {
    u32::from(inode.mode)
}

/// The mode's type bits of a kind of file.
pub(super) fn type_bits(kind: FileType) -> u32 {
    (kind as u32) << 12
}

/// What stat(2) tells of an inode, to programs of this server number's sessions and to vfs alike.
pub(super) fn stat(site: &Site<'_>, server: u32, inode: &Inode) -> Stat {
    let node = site.node(inode.number);
    let (volume, _) = site.volume();
    Stat {
        dev: device_number(server, node.disk),
        ino: node.number(),
        nlink: u64::from(inode.links),
        mode: mode(inode),
        uid: inode.uid,
        gid: inode.gid,
        rdev: inode.device().unwrap_or(0),
        size: inode.size,
        blksize: u64::from(volume.statfs().block_bytes),
        blocks: inode.blocks,
        atime_ns: nanoseconds(inode.accessed),
        mtime_ns: nanoseconds(inode.modified),
        ctime_ns: nanoseconds(inode.changed),
    }
}

fn nanoseconds(time: Timestamp) -> i64 {
    time.seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(time.nanoseconds))
}

/// What statfs(2) tells of a volume. As Linux does, its block size is the unit of its counts, a fragment.
pub(super) fn stat_fs(volume: &Volume) -> StatFs {
    let room = volume.statfs();
    StatFs {
        kind: match volume.version() {
            Version::Ufs1 => UFS1_MAGIC,
            Version::Ufs2 => UFS2_MAGIC,
        },
        bsize: u64::from(room.fragment_bytes),
        blocks: room.fragments,
        bfree: room.free,
        bavail: room.available,
        files: room.inodes,
        ffree: room.free_inodes,
        frsize: u64::from(room.fragment_bytes),
        flags: ST_RDONLY,
    }
}
