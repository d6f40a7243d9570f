//! `struct stat` and `struct statfs` of Linux x86_64, and the mode bits.

use serde::{Deserialize, Serialize};

/// File type and permission bits of `st_mode`.
#[allow(missing_docs)]
pub mod mode {
    pub const S_IFMT: u32 = 0o170000;
    pub const S_IFSOCK: u32 = 0o140000;
    pub const S_IFLNK: u32 = 0o120000;
    pub const S_IFREG: u32 = 0o100000;
    pub const S_IFBLK: u32 = 0o060000;
    pub const S_IFDIR: u32 = 0o040000;
    pub const S_IFCHR: u32 = 0o020000;
    pub const S_IFIFO: u32 = 0o010000;
    pub const S_ISUID: u32 = 0o4000;
    pub const S_ISGID: u32 = 0o2000;
    pub const S_ISVTX: u32 = 0o1000;
}

/// What stat(2) tells. Times are in ns of the Epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Stat {
    /// Device of the file system: see [`crate::server::files::device_number`].
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Links.
    pub nlink: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number of a device node: major and minor as in `makedev` of glibc.
    pub rdev: u64,
    /// Size in bytes.
    pub size: u64,
    /// Preferred size of reads and writes.
    pub blksize: u64,
    /// 512-byte blocks in use.
    pub blocks: u64,
    /// Last access.
    pub atime_ns: i64,
    /// Last change of contents.
    pub mtime_ns: i64,
    /// Last change of the inode.
    pub ctime_ns: i64,
}

impl Stat {
    /// The 144 bytes of `struct stat`.
    pub fn to_bytes(&self) -> [u8; 144] {
        let mut bytes = [0u8; 144];
        let (atime, mtime, ctime) = (split(self.atime_ns), split(self.mtime_ns), split(self.ctime_ns));
        let modes = u64::from(self.mode) | u64::from(self.uid) << 32;
        let words = [
            self.dev,
            self.ino,
            self.nlink,
            modes,
            u64::from(self.gid),
            self.rdev,
            self.size,
            self.blksize,
            self.blocks,
            atime.0,
            atime.1,
            mtime.0,
            mtime.1,
            ctime.0,
            ctime.1,
        ];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Whether it is a file of this type (`mode::S_IF…`).
    pub fn is(&self, kind: u32) -> bool {
        self.mode & mode::S_IFMT == kind
    }
}

fn split(ns: i64) -> (u64, u64) {
    (ns.div_euclid(1_000_000_000) as u64, ns.rem_euclid(1_000_000_000) as u64)
}

/// What statfs(2) tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct StatFs {
    /// Magic number of the file system's type.
    pub kind: u64,
    /// Block size.
    pub bsize: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Free blocks for everyone.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Fragment size.
    pub frsize: u64,
    /// Mount flags (ST_RDONLY 1).
    pub flags: u64,
}

impl StatFs {
    /// The 120 bytes of `struct statfs`.
    pub fn to_bytes(&self) -> [u8; 120] {
        let mut bytes = [0u8; 120];
        let words = [
            self.kind,
            self.bsize,
            self.blocks,
            self.bfree,
            self.bavail,
            self.files,
            self.ffree,
            0,
            255,
            self.frsize,
            self.flags,
        ];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_fields_lie_where_linux_has_them() {
        let stat = Stat { mode: 0o100644, uid: 7, gid: 8, size: 99, mtime_ns: -1, ..Stat::default() };
        let bytes = stat.to_bytes();
        assert_eq!(bytes[24..28], 0o100644u32.to_le_bytes());
        assert_eq!(bytes[28..32], 7u32.to_le_bytes());
        assert_eq!(bytes[32..36], 8u32.to_le_bytes());
        assert_eq!(bytes[48..56], 99u64.to_le_bytes());
        assert_eq!(bytes[88..96], (-1i64).to_le_bytes());
        assert_eq!(bytes[96..104], 999_999_999u64.to_le_bytes());
    }
}
