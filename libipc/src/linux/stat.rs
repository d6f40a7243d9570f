//! `struct stat` and `struct statfs` of Linux x86_64, and the mode bits.

use serde::{Deserialize, Serialize};

/// What the mask of `struct statx` says is there: what stat(2) tells.
const STATX_BASIC_STATS: u32 = 0x7ff;

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

    /// The 256 bytes of `struct statx`.
    pub fn to_statx_bytes(&self) -> [u8; 256] {
        let mut bytes = [0u8; 256];
        let mut put = |at: usize, value: &[u8]| {
            if let Some(field) = bytes.get_mut(at..at + value.len()) {
                field.copy_from_slice(value);
            }
        };
        let words = [
            (0, STATX_BASIC_STATS),
            (4, self.blksize as u32),
            (16, u32::try_from(self.nlink).unwrap_or(u32::MAX)),
            (20, self.uid),
            (24, self.gid),
            // A 16-bit field, and two bytes of padding.
            (28, self.mode & 0xffff),
            (128, major(self.rdev)),
            (132, minor(self.rdev)),
            (136, major(self.dev)),
            (140, minor(self.dev)),
        ];
        words.iter().for_each(|(at, word)| put(*at, &word.to_le_bytes()));
        for (at, long) in [(32, self.ino), (40, self.size), (48, self.blocks)] {
            put(at, &long.to_le_bytes());
        }
        for (at, ns) in [(64, self.atime_ns), (96, self.ctime_ns), (112, self.mtime_ns)] {
            put(at, &ns.div_euclid(1_000_000_000).to_le_bytes());
            put(at + 8, &(ns.rem_euclid(1_000_000_000) as u32).to_le_bytes());
        }
        bytes
    }

    /// Whether it is a file of this type (`mode::S_IF…`).
    pub fn is(&self, kind: u32) -> bool {
        self.mode & mode::S_IFMT == kind
    }
}

/// Major part of a device number, as glibc's `major`.
pub fn major(device: u64) -> u32 {
    (device >> 8 & 0xfff | device >> 32 & 0xffff_f000) as u32
}

/// Minor part of a device number, as glibc's `minor`.
pub fn minor(device: u64) -> u32 {
    (device & 0xff | device >> 12 & 0xffff_ff00) as u32
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

    #[test]
    fn device_numbers_split_as_glibc_splits_them() {
        assert_eq!((major(0x0103), minor(0x0103)), (1, 3));
        let device = 0xabcd_e123_4567_8901;
        assert_eq!(major(device), 0xabcd_e789);
        assert_eq!(minor(device), 0x1234_5601);
    }

    #[test]
    fn statx_fields_lie_where_linux_has_them() {
        let stat = Stat {
            dev: 1 << 20 | 2,
            ino: 3,
            nlink: 4,
            mode: 0o100_644,
            uid: 5,
            gid: 6,
            rdev: 7 << 8 | 8,
            size: 9,
            blksize: 4096,
            blocks: 10,
            atime_ns: 1_000_000_011,
            mtime_ns: -1,
            ctime_ns: 13,
        };
        let bytes = stat.to_statx_bytes();
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!([word(0), word(4), word(16), word(20), word(24)], [0x7ff, 4096, 4, 5, 6]);
        assert_eq!((word(28), long(32), long(40), long(48)), (0o100_644, 3, 9, 10));
        assert_eq!((long(64), word(72)), (1, 11), "atime");
        assert_eq!((long(96), word(104)), (0, 13), "ctime");
        assert_eq!((long(112) as i64, word(120)), (-1, 999_999_999), "mtime");
        assert_eq!([word(128), word(132), word(136), word(140)], [7, 8, 0, 1 << 8 | 2]);
    }
}
