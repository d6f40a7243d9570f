//! What can go wrong on a volume, in words a user can act on.

use core::fmt;

use crate::blocks::Miss;
use crate::inode::InodeNumber;

/// Why an operation on a volume gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Not a failure: these sectors must be fetched before the operation is started again.
    Miss(Miss),
    /// No superblock at any of the places where one may lie.
    NotUfs,
    /// There is a superblock, but this field (by its name in `fs.h`) contradicts the others, the place where the
    /// superblock was found, or the size of the disk; or it asks for a format that is not supported.
    BadSuperblock(&'static str),
    /// The volume contradicts itself and needs `fsck`.
    Corrupt {
        /// What was found to be wrong.
        what: &'static str,
        /// Where it was found.
        place: Place,
    },
    /// No file has this inode number: it is out of range, or the inode is free.
    NoInode(InodeNumber),
    /// The directory has no entry of this name.
    NotFound,
    /// The name is longer than [`NAME_MAX`](crate::NAME_MAX) bytes.
    NameTooLong,
    /// A directory was needed, and this inode is something else.
    NotDirectory,
    /// A regular file was needed, and this inode is something else.
    NotRegular,
    /// The file is a snapshot of the volume (FreeBSD's `mksnap_ffs`), and those cannot be read here.
    Snapshot,
    /// A symbolic link was needed, and this inode is something else.
    NotSymlink,
}

/// The part of a volume in which damage was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A cylinder group, by its index.
    Group(u32),
    /// An inode or the blocks it holds.
    Inode(InodeNumber),
    /// A directory's contents.
    Directory {
        /// The directory.
        inode: InodeNumber,
        /// The offset in bytes of the entry in the directory.
        offset: u64,
    },
}

impl Error {
    pub(crate) fn corrupt_inode(what: &'static str, inode: InodeNumber) -> Self {
        Error::Corrupt { what, place: Place::Inode(inode) }
    }

    pub(crate) fn corrupt_group(what: &'static str, index: u32) -> Self {
        Error::Corrupt { what, place: Place::Group(index) }
    }
}

impl From<Miss> for Error {
    fn from(miss: Miss) -> Self {
        Error::Miss(miss)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Miss(Miss(extent)) => {
                write!(f, "{} sectors from sector {} must be read first", extent.sectors, extent.sector)
            }
            Error::NotUfs => f.write_str("this disk holds no UFS volume"),
            Error::BadSuperblock(field) => {
                write!(f, "the superblock cannot be used: its {field} is impossible or not supported")
            }
            Error::Corrupt { what, place } => write!(f, "the volume is damaged: {what} in {place}; run fsck"),
            Error::NoInode(number) => write!(f, "{number} is not a file on this volume"),
            Error::NotFound => f.write_str("no such file or directory"),
            Error::NameTooLong => f.write_str("the name is too long"),
            Error::NotDirectory => f.write_str("not a directory"),
            Error::NotRegular => f.write_str("not a regular file"),
            Error::Snapshot => f.write_str("snapshots of a volume cannot be read"),
            Error::NotSymlink => f.write_str("not a symbolic link"),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Group(index) => write!(f, "cylinder group {index}"),
            Place::Inode(inode) => write!(f, "{inode}"),
            Place::Directory { inode, offset } => write!(f, "directory {inode} at byte {offset}"),
        }
    }
}

impl core::error::Error for Error {}
