//! The UFS file server: UFS1 and UFS2 volumes, in either byte order, read-only.
//!
//! Below is the library: it owns the meaning of the bytes on a volume and nothing else. The bytes come in through
//! [`Blocks`], and no operation ever waits. One that needs bytes which are not at hand ends in [`Error::Miss`],
//! having changed nothing; its caller has them fetched, fills the [`Cache`], and starts the operation again. That
//! caller is [`server`], which owns the calls under way.
//!
//! The volume is untrusted. [`Volume::mount`] checks the superblock until no later arithmetic can overflow, and
//! every inode, block address, directory entry and cylinder group is checked when it is read. A damaged volume
//! gives [`Error::Corrupt`]; it must never cause a panic or a loop without end.
//!
//! A reading order: `layout` is the disk's structures, `superblock` makes the [`Volume`], `geometry` turns
//! numbers into addresses, `inode` and `bmap` find a file's blocks, and `directory`, `symlink` and `read` are
//! what is built from those; then `server`.
//!
//! Sources: McKusick et al., "A Fast File System for UNIX" (1984), and FreeBSD's `fs.h`, `dinode.h`, `dir.h`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod blocks;
mod bmap;
mod cache;
mod cylinder;
mod directory;
mod error;
mod geometry;
mod inode;
mod layout;
mod read;
pub mod server;
mod superblock;
mod symlink;
mod volume;

#[cfg(test)]
mod specimen;

pub use blocks::{Blocks, Extent, Miss, SECTOR_BYTES};
pub use cache::{Cache, WrongLength};
pub use cylinder::CylinderGroup;
pub use directory::{DirEntries, DirEntry, NAME_MAX, Search};
pub use error::{Error, Place};
pub use inode::{FileType, Inode, InodeNumber, Timestamp};
pub use layout::{Order, Version};
pub use read::{Piece, READ_MAX_BYTES};
pub use server::Ufs;
pub use symlink::TARGET_MAX;
pub use volume::{Statfs, Volume};
