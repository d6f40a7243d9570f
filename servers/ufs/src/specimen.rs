//! A small volume built by hand, for the unit tests: 4096-byte blocks of four fragments, three groups, the last
//! of them cut short.

use alloc::vec;
use alloc::vec::Vec;

use zerocopy::byteorder::{BigEndian, ByteOrder, LittleEndian, U32, U64};
use zerocopy::{FromZeros, IntoBytes};

use crate::blocks::{Blocks, Extent, Miss, SECTOR_BYTES};
use crate::geometry::Geometry;
use crate::inode::{Inode, InodeNumber};
use crate::layout::{
    Dinode1, Dinode2, EntryHeader, FLAG_UPDATED, GroupHeader, INODE_FORMAT_44BSD, MAGIC_GROUP, MAGIC_UFS1,
    MAGIC_UFS2, Order, Superblock, Version,
};
use crate::superblock;
use crate::volume::Volume;

pub(crate) const FRAGMENT: u64 = 1024;
pub(crate) const BLOCK: u64 = 4096;
pub(crate) const FRAGMENTS_PER_GROUP: u32 = 1024;
pub(crate) const FRAGMENTS: u64 = 2600;
pub(crate) const INODES_PER_GROUP: u32 = 64;
/// A block of data in the first group, clear of the group's structures wherever the superblock is.
pub(crate) const DATA: u64 = 512;
/// What the four combinations of format and byte order are.
pub(crate) const KINDS: [(Version, Order); 4] = [
    (Version::Ufs1, Order::Little),
    (Version::Ufs1, Order::Big),
    (Version::Ufs2, Order::Little),
    (Version::Ufs2, Order::Big),
];

/// A disk wholly in memory.
pub(crate) struct Disk(pub Vec<u8>);

impl Disk {
    pub fn new() -> Self {
        Self(vec![0; (FRAGMENTS * FRAGMENT) as usize])
    }

    pub fn sectors(&self) -> u64 {
        self.0.len() as u64 / u64::from(SECTOR_BYTES)
    }

    pub fn put(&mut self, byte: u64, bytes: &[u8]) {
        let start = byte as usize;
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

impl Blocks for Disk {
    fn get(&self, extent: Extent) -> Result<&[u8], Miss> {
        let start = extent.sector as usize * SECTOR_BYTES as usize;
        self.0.get(start..start + extent.bytes() as usize).ok_or(Miss(extent))
    }
}

/// A sound superblock for this place.
pub(crate) fn superblock<O: ByteOrder>(version: Version, byte: u64) -> Superblock<O> {
    let mut raw = Superblock::<O>::new_zeroed();
    let (magic, inopb, nindir, short_link) = match version {
        Version::Ufs1 => (MAGIC_UFS1, 32, 1024, 60),
        Version::Ufs2 => (MAGIC_UFS2, 16, 512, 120),
    };
    let sblkno = (byte + 8192).div_ceil(BLOCK) as i32 * 4;
    raw.sblkno.set(sblkno);
    raw.cblkno.set(sblkno + 8);
    raw.iblkno.set(sblkno + 12);
    raw.dblkno.set(sblkno + 12 + INODES_PER_GROUP as i32 / inopb * 4);
    raw.old_cgmask.set(-1);
    raw.ncg.set(3);
    raw.bsize.set(4096);
    raw.fsize.set(1024);
    raw.frag.set(4);
    raw.minfree.set(8);
    raw.bmask.set(!4095);
    raw.fmask.set(!1023);
    raw.bshift.set(12);
    raw.fshift.set(10);
    raw.fragshift.set(2);
    raw.fsbtodb.set(1);
    raw.sbsize.set(2048);
    raw.nindir.set(nindir);
    raw.inopb.set(inopb as u32);
    raw.id = [7.into(), 9.into()];
    raw.cssize.set(1024);
    raw.cgsize.set(1024);
    raw.ipg.set(INODES_PER_GROUP);
    raw.fpg.set(FRAGMENTS_PER_GROUP as i32);
    raw.clean = 1;
    raw.old_flags = FLAG_UPDATED;
    raw.sblockloc.set(byte as i64);
    raw.maxsymlinklen.set(short_link);
    raw.old_inodefmt.set(INODE_FORMAT_44BSD);
    raw.magic.set(magic);
    match version {
        Version::Ufs1 => {
            raw.old_size.set(FRAGMENTS as i32);
            raw.old_dsize.set(2000);
            raw.old_csaddr.set(DATA as i32);
            raw.old_cstotal.nbfree.set(100);
            raw.old_cstotal.nffree.set(3);
            raw.old_cstotal.nifree.set(50);
        }
        Version::Ufs2 => {
            raw.size.set(FRAGMENTS as i64);
            raw.dsize.set(2000);
            raw.csaddr.set(DATA as i64);
            raw.cstotal.nbfree.set(100);
            raw.cstotal.nffree.set(3);
            raw.cstotal.nifree.set(50);
        }
    }
    raw
}

/// A sound header of the second group, whose maps follow it directly.
pub(crate) fn group_header<O: ByteOrder>() -> GroupHeader<O> {
    let mut raw = GroupHeader::<O>::new_zeroed();
    raw.magic.set(MAGIC_GROUP);
    raw.cgx.set(1);
    raw.ndblk.set(FRAGMENTS_PER_GROUP);
    raw.cs.ndir.set(1);
    raw.cs.nbfree.set(2);
    raw.cs.nifree.set(3);
    raw.cs.nffree.set(4);
    raw.iusedoff.set(168);
    raw.freeoff.set(168 + INODES_PER_GROUP / 8);
    raw.niblk.set(INODES_PER_GROUP);
    raw.initediblk.set(INODES_PER_GROUP);
    raw
}

/// A directory entry, its name padded to the length of the record.
pub(crate) fn entry(order: Order, ino: u32, reclen: u16, kind: u8, name: &[u8]) -> Vec<u8> {
    let namlen = name.len() as u8;
    let mut bytes = match order {
        Order::Little => {
            let header = EntryHeader::<LittleEndian> { ino: ino.into(), reclen: reclen.into(), kind, namlen };
            header.as_bytes().to_vec()
        }
        Order::Big => {
            let header = EntryHeader::<BigEndian> { ino: ino.into(), reclen: reclen.into(), kind, namlen };
            header.as_bytes().to_vec()
        }
    };
    bytes.extend_from_slice(name);
    bytes.resize(bytes.len().max(usize::from(reclen)), 0);
    bytes
}

/// A mounted volume and its disk.
pub(crate) struct Specimen {
    pub disk: Disk,
    pub volume: Volume,
    pub geometry: Geometry,
}

impl Specimen {
    pub fn new((version, order): (Version, Order)) -> Self {
        let mut disk = Disk::new();
        match order {
            Order::Little => disk.put(65536, superblock::<LittleEndian>(version, 65536).as_bytes()),
            Order::Big => disk.put(65536, superblock::<BigEndian>(version, 65536).as_bytes()),
        }
        let volume = Volume::mount(&disk, disk.sectors()).expect("the specimen is sound");
        let geometry = superblock::find(&disk, disk.sectors()).expect("the specimen is sound").geometry;
        Self { disk, volume, geometry }
    }

    /// Write an inode with this mode, size and address field.
    pub fn put_inode(&mut self, number: u32, mode: u16, size: u64, addresses: [u64; 15]) {
        let bytes = match (self.geometry.version, self.geometry.order) {
            (Version::Ufs1, Order::Little) => dinode1::<LittleEndian>(mode, size, addresses),
            (Version::Ufs1, Order::Big) => dinode1::<BigEndian>(mode, size, addresses),
            (Version::Ufs2, Order::Little) => dinode2::<LittleEndian>(mode, size, addresses),
            (Version::Ufs2, Order::Big) => dinode2::<BigEndian>(mode, size, addresses),
        };
        let (run, place) = self.geometry.inode_place(number);
        self.disk.put(run.fragment * FRAGMENT + place, &bytes);
    }

    /// Write one address into an indirect block.
    pub fn put_address(&mut self, block: u64, index: u64, address: u64) {
        let (narrow, wide) = (address as u32, address);
        let bytes = match (self.geometry.version, self.geometry.order) {
            (Version::Ufs1, Order::Little) => U32::<LittleEndian>::new(narrow).as_bytes().to_vec(),
            (Version::Ufs1, Order::Big) => U32::<BigEndian>::new(narrow).as_bytes().to_vec(),
            (Version::Ufs2, Order::Little) => U64::<LittleEndian>::new(wide).as_bytes().to_vec(),
            (Version::Ufs2, Order::Big) => U64::<BigEndian>::new(wide).as_bytes().to_vec(),
        };
        self.disk.put(block * FRAGMENT + index * bytes.len() as u64, &bytes);
    }

    pub fn inode(&self, number: u32) -> Inode {
        self.volume.inode(&self.disk, InodeNumber(number)).expect("the inode is sound")
    }

    /// A file of this size with these addresses, as inode 5.
    pub fn file(&mut self, size: u64, addresses: [u64; 15]) -> Inode {
        self.put_inode(5, 0o100_644, size, addresses);
        self.inode(5)
    }

    /// A directory of these bytes, in a block of its own, as inode 6.
    pub fn directory(&mut self, bytes: &[u8]) -> Inode {
        self.disk.put(DATA * FRAGMENT, bytes);
        self.put_inode(6, 0o040_755, bytes.len() as u64, addresses(&[DATA]));
        self.inode(6)
    }
}

/// An address field that starts with these and is zero behind them.
pub(crate) fn addresses(first: &[u64]) -> [u64; 15] {
    core::array::from_fn(|index| first.get(index).copied().unwrap_or(0))
}

/// `di_blocks`: enough for a directory of this size.
fn blocks(mode: u16, size: u64) -> u64 {
    let directory = mode & 0o170_000 == 0o040_000;
    if directory { (size / 512).max(8) } else { 8 }
}

/// A dinode with what both versions have in it.
macro_rules! dinode {
    ($kind:ty, $mode:expr, $size:expr) => {{
        let mut raw = <$kind>::new_zeroed();
        raw.mode.set($mode);
        raw.nlink.set(2);
        raw.uid.set(1000);
        raw.gid.set(100);
        raw.size.set($size);
        raw.blocks.set(blocks($mode, $size) as _);
        raw.mtime.set(-5);
        raw.mtimensec.set(999_999_999);
        raw
    }};
}

fn dinode1<O: ByteOrder>(mode: u16, size: u64, addresses: [u64; 15]) -> Vec<u8> {
    let mut raw = dinode!(Dinode1::<O>, mode, size);
    raw.ctimensec.set(1_000_000_000);
    raw.generation.set(0xfeed);
    raw.addresses = addresses.map(|address| (address as u32).into());
    raw.as_bytes().to_vec()
}

fn dinode2<O: ByteOrder>(mode: u16, size: u64, addresses: [u64; 15]) -> Vec<u8> {
    let mut raw = dinode!(Dinode2::<O>, mode, size);
    raw.birthtime.set(77);
    raw.generation.set(0xfeed);
    raw.addresses = addresses.map(|address| address.into());
    raw.as_bytes().to_vec()
}
