//! The structures of UFS as they lie on the disk, generic over byte order. No field is believed here; whoever
//! reads one checks it. The names are those of FreeBSD's headers without their prefixes (`fs_`, `cg_`, `di_`,
//! `d_`), and runs of fields that a reader has no use for are kept as bytes.

use core::mem::{offset_of, size_of};

use zerocopy::byteorder::{ByteOrder, I16, I32, I64, LittleEndian, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The order of bytes in a volume's numbers: that of the machine which made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

/// The two generations of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// 4.2BSD's format: 128-byte inodes, 32-bit block addresses.
    Ufs1,
    /// FreeBSD 5's format: 256-byte inodes, 64-bit block addresses.
    Ufs2,
}

/// Where a superblock may lie, in bytes, in the order of the search.
pub(crate) const SUPERBLOCK_SEARCH: [u64; 4] = [65536, 8192, 0, 262_144];
/// The only place for a superblock that was made before superblocks named their place.
pub(crate) const SUPERBLOCK_UFS1: u64 = 8192;
/// The room reserved for a superblock, in bytes.
pub(crate) const SUPERBLOCK_BYTES: u32 = 8192;

/// `fs_magic` of UFS1.
pub(crate) const MAGIC_UFS1: i32 = 0x0001_1954;
/// `fs_magic` of UFS2.
pub(crate) const MAGIC_UFS2: i32 = 0x1954_0119;
/// `fs_magic` while newfs is at work.
pub(crate) const MAGIC_UNFINISHED: i32 = 0x1996_0408;
/// `cg_magic`.
pub(crate) const MAGIC_GROUP: i32 = 0x0009_0255;

/// `fs_flags`: mounted without having been clean.
pub(crate) const FLAG_UNCLEAN: u32 = 0x01;
/// `fs_flags`: damage was seen that background checking cannot mend.
pub(crate) const FLAG_NEEDS_FSCK: u32 = 0x04;
/// `fs_old_flags`: `fs_flags` and `fs_sblockloc` are in use.
pub(crate) const FLAG_UPDATED: u8 = 0x80;
/// `fs_old_inodefmt`: 32-bit owners and directory entries with a type.
pub(crate) const INODE_FORMAT_44BSD: i32 = 2;

/// `di_flags`: a snapshot, in whose address fields small numbers have a meaning of their own.
pub(crate) const FILE_IS_SNAPSHOT: u32 = 0x0020_0000;

/// Smallest and largest block, in bytes.
pub(crate) const BLOCK_BYTES: core::ops::RangeInclusive<u32> = 4096..=65536;
/// Most fragments in a block.
pub(crate) const FRAGMENTS_MAX: u32 = 8;
/// Block addresses in an inode that lead straight to data.
pub(crate) const DIRECT: usize = 12;
/// Levels of indirection.
pub(crate) const INDIRECT: usize = 3;
/// Directory entries do not cross multiples of this many bytes.
pub(crate) const DIRECTORY_CHUNK: u32 = 512;

/// `struct csum`: the summary of a cylinder group.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Summary<O: ByteOrder> {
    pub ndir: I32<O>,
    pub nbfree: I32<O>,
    pub nifree: I32<O>,
    pub nffree: I32<O>,
}

/// `struct csum_total`: the summary of a UFS2 volume.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct SummaryTotal<O: ByteOrder> {
    pub ndir: I64<O>,
    pub nbfree: I64<O>,
    pub nifree: I64<O>,
    pub nffree: I64<O>,
    pub numclusters: I64<O>,
    _spare: [u8; 24],
}

/// `struct fs`: the superblock.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Superblock<O: ByteOrder> {
    _link: [u8; 8],
    pub sblkno: I32<O>,
    pub cblkno: I32<O>,
    pub iblkno: I32<O>,
    pub dblkno: I32<O>,
    pub old_cgoffset: I32<O>,
    pub old_cgmask: I32<O>,
    pub old_time: I32<O>,
    pub old_size: I32<O>,
    pub old_dsize: I32<O>,
    pub ncg: U32<O>,
    pub bsize: I32<O>,
    pub fsize: I32<O>,
    pub frag: I32<O>,
    pub minfree: I32<O>,
    _rotation: [u8; 8],
    pub bmask: I32<O>,
    pub fmask: I32<O>,
    pub bshift: I32<O>,
    pub fshift: I32<O>,
    _clustering: [u8; 8],
    pub fragshift: I32<O>,
    pub fsbtodb: I32<O>,
    pub sbsize: I32<O>,
    _spare1: [u8; 8],
    pub nindir: I32<O>,
    pub inopb: U32<O>,
    _tracks: [u8; 20],
    pub id: [U32<O>; 2],
    pub old_csaddr: I32<O>,
    pub cssize: I32<O>,
    pub cgsize: I32<O>,
    _cylinders: [u8; 20],
    pub ipg: U32<O>,
    pub fpg: I32<O>,
    pub old_cstotal: Summary<O>,
    pub fmod: i8,
    pub clean: i8,
    pub ronly: i8,
    pub old_flags: u8,
    _names_and_pointers: [u8; 788],
    pub sblockloc: I64<O>,
    pub cstotal: SummaryTotal<O>,
    pub time: I64<O>,
    pub size: I64<O>,
    pub dsize: I64<O>,
    pub csaddr: I64<O>,
    _pending_and_snapshots: [u8; 208],
    pub flags: U32<O>,
    pub contigsumsize: I32<O>,
    pub maxsymlinklen: I32<O>,
    pub old_inodefmt: I32<O>,
    _derived: [u8; 44],
    pub magic: I32<O>,
}

/// `struct cg`: the header of a cylinder group; its maps follow.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct GroupHeader<O: ByteOrder> {
    _link: [u8; 4],
    pub magic: I32<O>,
    pub old_time: I32<O>,
    pub cgx: U32<O>,
    pub old_ncyl: I16<O>,
    pub old_niblk: U16<O>,
    pub ndblk: U32<O>,
    pub cs: Summary<O>,
    pub rotor: U32<O>,
    pub frotor: U32<O>,
    pub irotor: U32<O>,
    pub frsum: [U32<O>; 8],
    pub old_btotoff: I32<O>,
    pub old_boff: I32<O>,
    pub iusedoff: U32<O>,
    pub freeoff: U32<O>,
    pub nextfreeoff: U32<O>,
    pub clustersumoff: U32<O>,
    pub clusteroff: U32<O>,
    pub nclusterblks: U32<O>,
    pub niblk: U32<O>,
    pub initediblk: U32<O>,
    _spare: [u8; 12],
    pub time: I64<O>,
    _spare64: [u8; 24],
}

/// `struct ufs1_dinode`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Dinode1<O: ByteOrder> {
    pub mode: U16<O>,
    pub nlink: I16<O>,
    pub old_ids: [U16<O>; 2],
    pub size: U64<O>,
    pub atime: I32<O>,
    pub atimensec: I32<O>,
    pub mtime: I32<O>,
    pub mtimensec: I32<O>,
    pub ctime: I32<O>,
    pub ctimensec: I32<O>,
    pub addresses: [U32<O>; DIRECT + INDIRECT],
    pub flags: U32<O>,
    pub blocks: U32<O>,
    pub generation: U32<O>,
    pub uid: U32<O>,
    pub gid: U32<O>,
    pub modrev: U64<O>,
}

/// `struct ufs2_dinode`.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct Dinode2<O: ByteOrder> {
    pub mode: U16<O>,
    pub nlink: I16<O>,
    pub uid: U32<O>,
    pub gid: U32<O>,
    pub blksize: U32<O>,
    pub size: U64<O>,
    pub blocks: U64<O>,
    pub atime: I64<O>,
    pub mtime: I64<O>,
    pub ctime: I64<O>,
    pub birthtime: I64<O>,
    pub mtimensec: I32<O>,
    pub atimensec: I32<O>,
    pub ctimensec: I32<O>,
    pub birthnsec: I32<O>,
    pub generation: U32<O>,
    pub kernflags: U32<O>,
    pub flags: U32<O>,
    pub extsize: U32<O>,
    pub ext_addresses: [U64<O>; 2],
    pub addresses: [U64<O>; DIRECT + INDIRECT],
    pub modrev: U64<O>,
    _spare: [u8; 16],
}

/// `struct direct`: the fixed part of a directory entry; the name follows.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub(crate) struct EntryHeader<O: ByteOrder> {
    pub ino: U32<O>,
    pub reclen: U16<O>,
    pub kind: u8,
    pub namlen: u8,
}

type Sample = Superblock<LittleEndian>;
const _: () = {
    assert!(size_of::<Sample>() == 1376);
    assert!(offset_of!(Sample, bmask) == 72);
    assert!(offset_of!(Sample, nindir) == 116);
    assert!(offset_of!(Sample, id) == 144);
    assert!(offset_of!(Sample, ipg) == 184);
    assert!(offset_of!(Sample, sblockloc) == 1000);
    assert!(offset_of!(Sample, flags) == 1312);
    assert!(size_of::<GroupHeader<LittleEndian>>() == 168);
    assert!(offset_of!(GroupHeader<LittleEndian>, iusedoff) == 92);
    assert!(size_of::<Dinode1<LittleEndian>>() == 128);
    assert!(size_of::<Dinode2<LittleEndian>>() == 256);
    assert!(size_of::<EntryHeader<LittleEndian>>() == 8);
};
