//! Inodes: what the disk says of a file, checked and in one shape for both versions and byte orders.

use core::fmt;

use zerocopy::byteorder::{BigEndian, ByteOrder, LittleEndian};
use zerocopy::{FromBytes, IntoBytes};

use crate::error::Error;
use crate::geometry::Geometry;
use crate::layout::{DIRECT, DIRECTORY_CHUNK, Dinode1, Dinode2, INDIRECT, Order, Version};

/// The number of a file on its volume. The root directory is number 2, and no file has a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InodeNumber(pub u32);

impl InodeNumber {
    /// The root directory.
    pub const ROOT: InodeNumber = InodeNumber(2);
}

impl fmt::Display for InodeNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inode {}", self.0)
    }
}

/// The kinds of file. The discriminants are the type bits of a POSIX mode, shifted down: what a directory entry
/// stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FileType {
    /// A named pipe.
    Fifo = 1,
    /// A character device.
    CharacterDevice = 2,
    /// A directory.
    Directory = 4,
    /// A block device.
    BlockDevice = 6,
    /// A regular file.
    Regular = 8,
    /// A symbolic link.
    Symlink = 10,
    /// A local socket.
    Socket = 12,
}

impl FileType {
    /// The kind a directory entry's type byte (`DT_…`) names.
    pub(crate) fn from_entry(kind: u8) -> Option<Self> {
        let kinds = [
            FileType::Fifo,
            FileType::CharacterDevice,
            FileType::Directory,
            FileType::BlockDevice,
            FileType::Regular,
            FileType::Symlink,
            FileType::Socket,
        ];
        kinds.into_iter().find(|known| *known as u8 == kind)
    }

    fn from_mode(mode: u16) -> Option<Self> {
        Self::from_entry((mode >> 12) as u8)
    }
}

/// A moment, as seconds since 1970 (or before it, if negative) and nanoseconds of the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// A time is no reason to refuse a file: an impossible fraction counts as none.
    fn new(seconds: i64, nanoseconds: i32) -> Self {
        let nanoseconds = u32::try_from(nanoseconds).ok().filter(|n| *n < 1_000_000_000).unwrap_or(0);
        Self { seconds, nanoseconds }
    }
}

/// A file, but for its name and its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// Its number.
    pub number: InodeNumber,
    /// What kind of file it is.
    pub kind: FileType,
    /// Type and permission bits, as in POSIX `st_mode`.
    pub mode: u16,
    /// How many directory entries name it.
    pub links: u16,
    /// The user who owns it.
    pub uid: u32,
    /// The group that owns it.
    pub gid: u32,
    /// Its length in bytes.
    pub size: u64,
    /// The room it takes up, in units of 512 bytes, indirect blocks included.
    pub blocks: u64,
    /// When its data was last read.
    pub accessed: Timestamp,
    /// When its data was last changed.
    pub modified: Timestamp,
    /// When the inode was last changed.
    pub changed: Timestamp,
    /// When the file was made; UFS1 does not record it.
    pub born: Option<Timestamp>,
    /// Tells this file from earlier ones with the same number.
    pub generation: u32,
    /// The flags of `chflags(2)`.
    pub flags: u32,
    pub(crate) content: Content,
}

impl Inode {
    /// The device number of a device file, in the form its maker's system gave it.
    pub fn device(&self) -> Option<u64> {
        match self.content {
            Content::Device(number) => Some(number),
            _ => None,
        }
    }

    pub(crate) fn corrupt(&self, what: &'static str) -> Error {
        Error::corrupt_inode(what, self.number)
    }
}

/// What the address field of an inode holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Block addresses, in a directory, a regular file or a symbolic link with a long target.
    Blocks(Addresses),
    /// The target of a symbolic link: so many bytes of these.
    ShortLink { target: [u8; SHORT_LINK_MAX], len: u8 },
    /// A device number.
    Device(u64),
    /// Nothing, in a named pipe or a socket.
    Nothing,
}

/// Where a file's blocks lie, as fragment numbers; zero is a hole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub direct: [u64; DIRECT],
    pub indirect: [u64; INDIRECT],
}

/// The size of UFS2's address field, the larger one.
const SHORT_LINK_MAX: usize = (DIRECT + INDIRECT) * 8;

/// Decode and check one inode.
pub(crate) fn decode(geometry: &Geometry, number: InodeNumber, bytes: &[u8]) -> Result<Inode, Error> {
    let fields = match (geometry.version, geometry.order) {
        (Version::Ufs1, Order::Little) => {
            Dinode1::<LittleEndian>::ref_from_bytes(bytes).map(Fields::from_ufs1).ok()
        }
        (Version::Ufs1, Order::Big) => {
            Dinode1::<BigEndian>::ref_from_bytes(bytes).map(Fields::from_ufs1).ok()
        }
        (Version::Ufs2, Order::Little) => {
            Dinode2::<LittleEndian>::ref_from_bytes(bytes).map(Fields::from_ufs2).ok()
        }
        (Version::Ufs2, Order::Big) => {
            Dinode2::<BigEndian>::ref_from_bytes(bytes).map(Fields::from_ufs2).ok()
        }
    };
    let fields = fields.ok_or(Error::corrupt_inode("an inode that is cut short", number))?;
    fields.check(geometry, number)
}

/// The fields of either version, in one shape and unchecked.
struct Fields {
    mode: u16,
    links: i16,
    uid: u32,
    gid: u32,
    size: u64,
    blocks: u64,
    accessed: Timestamp,
    modified: Timestamp,
    changed: Timestamp,
    born: Option<Timestamp>,
    generation: u32,
    flags: u32,
    addresses: [u64; DIRECT + INDIRECT],
    /// The same bytes as the addresses, for short links.
    target: [u8; SHORT_LINK_MAX],
}

impl Fields {
    fn from_ufs1<O: ByteOrder>(raw: &Dinode1<O>) -> Self {
        Self {
            mode: raw.mode.get(),
            links: raw.nlink.get(),
            uid: raw.uid.get(),
            gid: raw.gid.get(),
            size: raw.size.get(),
            blocks: u64::from(raw.blocks.get()),
            accessed: Timestamp::new(raw.atime.get().into(), raw.atimensec.get()),
            modified: Timestamp::new(raw.mtime.get().into(), raw.mtimensec.get()),
            changed: Timestamp::new(raw.ctime.get().into(), raw.ctimensec.get()),
            born: None,
            generation: raw.generation.get(),
            flags: raw.flags.get(),
            addresses: raw.addresses.map(|address| address.get().into()),
            target: padded(raw.addresses.as_bytes()),
        }
    }

    fn from_ufs2<O: ByteOrder>(raw: &Dinode2<O>) -> Self {
        Self {
            mode: raw.mode.get(),
            links: raw.nlink.get(),
            uid: raw.uid.get(),
            gid: raw.gid.get(),
            size: raw.size.get(),
            blocks: raw.blocks.get(),
            accessed: Timestamp::new(raw.atime.get(), raw.atimensec.get()),
            modified: Timestamp::new(raw.mtime.get(), raw.mtimensec.get()),
            changed: Timestamp::new(raw.ctime.get(), raw.ctimensec.get()),
            born: Some(Timestamp::new(raw.birthtime.get(), raw.birthnsec.get())),
            generation: raw.generation.get(),
            flags: raw.flags.get(),
            addresses: raw.addresses.map(|address| address.get()),
            target: padded(raw.addresses.as_bytes()),
        }
    }

    fn check(self, geometry: &Geometry, number: InodeNumber) -> Result<Inode, Error> {
        if self.mode == 0 {
            return Err(Error::NoInode(number));
        }
        let corrupt = |what| Error::corrupt_inode(what, number);
        let kind = FileType::from_mode(self.mode).ok_or(corrupt("an unknown type of file"))?;
        let links = u16::try_from(self.links).map_err(|_| corrupt("a negative link count"))?;
        if self.size > geometry.file_bytes_max() {
            return Err(corrupt("a size that no file can have"));
        }
        let directory_chunks = self.size.is_multiple_of(u64::from(DIRECTORY_CHUNK)) && self.size > 0;
        if kind == FileType::Directory && (!directory_chunks || self.size > i32::MAX as u64) {
            return Err(corrupt("a size that no directory can have"));
        }
        if self.blocks > geometry.fragments * (geometry.fragment_bytes() / 512) {
            return Err(corrupt("more blocks than the volume has"));
        }
        // A directory has no holes. Without this a small volume could hold one that takes minutes to search.
        if kind == FileType::Directory && self.size / 512 > self.blocks {
            return Err(corrupt("a directory larger than its blocks"));
        }
        Ok(Inode {
            number,
            kind,
            mode: self.mode,
            links,
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            blocks: self.blocks,
            accessed: self.accessed,
            modified: self.modified,
            changed: self.changed,
            born: self.born,
            generation: self.generation,
            flags: self.flags,
            content: self.content(geometry, kind),
        })
    }

    fn content(&self, geometry: &Geometry, kind: FileType) -> Content {
        match kind {
            FileType::Symlink if self.is_short_link(geometry) => {
                Content::ShortLink { target: self.target, len: self.size as u8 }
            }
            FileType::Directory | FileType::Regular | FileType::Symlink => {
                let [d @ .., single, double, triple] = self.addresses;
                Content::Blocks(Addresses { direct: d, indirect: [single, double, triple] })
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let [number, ..] = self.addresses;
                Content::Device(number)
            }
            FileType::Fifo | FileType::Socket => Content::Nothing,
        }
    }

    /// A target below the superblock's limit lies in the inode. So does one that would just fit there and has no
    /// block of its own; some systems count the limit itself as short.
    fn is_short_link(&self, geometry: &Geometry) -> bool {
        let room = (DIRECT + INDIRECT) as u64 * geometry.pointer_bytes();
        self.size < u64::from(geometry.short_link_limit) || (self.blocks == 0 && self.size <= room)
    }
}

fn padded(bytes: &[u8]) -> [u8; SHORT_LINK_MAX] {
    let mut target = [0; SHORT_LINK_MAX];
    for (to, from) in target.iter_mut().zip(bytes) {
        *to = *from;
    }
    target
}

#[cfg(test)]
mod tests;
