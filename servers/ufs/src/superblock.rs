//! Finding the superblock and believing it: every field a reader uses is checked against the others, the place
//! it was found at, and the size of the disk. What passes is a [`Geometry`] whose sums cannot overflow.

use core::mem::size_of;

use zerocopy::FromBytes;
use zerocopy::byteorder::{BigEndian, ByteOrder, I32, LittleEndian};

use crate::blocks::{Blocks, SECTOR_BYTES};
use crate::error::Error;
use crate::geometry::{Geometry, superblock_extent};
use crate::layout::{
    BLOCK_BYTES, DIRECT, FLAG_NEEDS_FSCK, FLAG_UNCLEAN, FLAG_UPDATED, FRAGMENTS_MAX, GroupHeader, INDIRECT,
    INODE_FORMAT_44BSD, MAGIC_UFS1, MAGIC_UFS2, MAGIC_UNFINISHED, Order, SUPERBLOCK_BYTES, SUPERBLOCK_SEARCH,
    SUPERBLOCK_UFS1, Summary, Superblock, Version,
};

/// What a superblock says.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub geometry: Geometry,
    pub totals: Totals,
    pub id: [u32; 2],
    pub clean: bool,
}

/// The superblock's counts. They are as old as the last clean unmount, and only for show.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Totals {
    pub data_fragments: u64,
    pub free_blocks: u64,
    pub free_fragments: u64,
    pub free_inodes: u64,
    /// The part of the data that only the superuser may fill, in percent.
    pub reserve_percent: u32,
}

const MISPLACED: Error = Error::BadSuperblock("fs_sblockloc");

/// Find and check the superblock of a volume on a disk of this many sectors.
pub(crate) fn find(blocks: &impl Blocks, disk_sectors: u64) -> Result<Described, Error> {
    let mut failure = Error::NotUfs;
    for byte in SUPERBLOCK_SEARCH {
        let extent = superblock_extent(byte);
        if extent.end() > disk_sectors {
            continue;
        }
        match probe(blocks.get(extent)?, byte, disk_sectors) {
            Ok(Some(described)) => return Ok(described),
            Ok(None) => {}
            // A copy in the wrong place is the least interesting thing to complain of.
            Err(error) if failure == Error::NotUfs || failure == MISPLACED => failure = error,
            Err(_) => {}
        }
    }
    Err(failure)
}

/// The superblock in these bytes, if there is one.
fn probe(bytes: &[u8], byte: u64, disk_sectors: u64) -> Result<Option<Described>, Error> {
    match probe_in::<LittleEndian>(bytes, Order::Little, byte, disk_sectors)? {
        Some(described) => Ok(Some(described)),
        None => probe_in::<BigEndian>(bytes, Order::Big, byte, disk_sectors),
    }
}

fn probe_in<O: ByteOrder>(
    bytes: &[u8],
    order: Order,
    byte: u64,
    disk_sectors: u64,
) -> Result<Option<Described>, Error> {
    let Ok((raw, _)) = Superblock::<O>::ref_from_prefix(bytes) else { return Ok(None) };
    let version = match raw.magic.get() {
        MAGIC_UFS1 => Version::Ufs1,
        MAGIC_UFS2 => Version::Ufs2,
        MAGIC_UNFINISHED => return Err(Error::BadSuperblock("fs_magic (newfs did not finish)")),
        _ => return Ok(None),
    };
    check_place(raw, version, byte)?;
    let geometry = check_geometry(raw, version, order)?;
    check_volume(raw, &geometry, byte, disk_sectors)?;
    let totals = check_totals(raw, &geometry)?;
    let updated = raw.old_flags & FLAG_UPDATED != 0;
    let flags = if version == Version::Ufs2 || updated { raw.flags.get() } else { u32::from(raw.old_flags) };
    Ok(Some(Described {
        geometry,
        totals,
        id: raw.id.map(|word| word.get()),
        clean: raw.clean == 1 && flags & (FLAG_UNCLEAN | FLAG_NEEDS_FSCK) == 0,
    }))
}

/// Fail unless `good`, naming the field that is not.
fn require(good: bool, field: &'static str) -> Result<(), Error> {
    if good { Ok(()) } else { Err(Error::BadSuperblock(field)) }
}

/// A number that must not be negative.
fn natural<O: ByteOrder>(value: I32<O>, field: &'static str) -> Result<u32, Error> {
    u32::try_from(value.get()).map_err(|_| Error::BadSuperblock(field))
}

/// A superblock names the place of the standard one; in another place it is a backup. One of before the time
/// when it did (UFS1 only) has other things in that field, and was always at 8192.
fn check_place<O: ByteOrder>(raw: &Superblock<O>, version: Version, byte: u64) -> Result<(), Error> {
    let named = match version {
        Version::Ufs1 if raw.old_flags & FLAG_UPDATED == 0 => SUPERBLOCK_UFS1,
        _ => raw.sblockloc.get().cast_unsigned(),
    };
    if named == byte { Ok(()) } else { Err(MISPLACED) }
}

fn check_geometry<O: ByteOrder>(
    raw: &Superblock<O>,
    version: Version,
    order: Order,
) -> Result<Geometry, Error> {
    let (block_shift, fragment_shift) = check_block_sizes(raw)?;
    let frag = 1u32 << (block_shift - fragment_shift);
    let (shift_step, shift_groups) = match version {
        Version::Ufs1 => (natural(raw.old_cgoffset, "fs_cgoffset")?, !raw.old_cgmask.get().cast_unsigned()),
        Version::Ufs2 => (0, 0),
    };
    let fragments = match version {
        Version::Ufs1 => u64::from(natural(raw.old_size, "fs_size")?),
        Version::Ufs2 => u64::try_from(raw.size.get()).map_err(|_| Error::BadSuperblock("fs_size"))?,
    };
    let geometry = Geometry {
        version,
        order,
        block_shift,
        fragment_shift,
        fragments,
        groups: raw.ncg.get(),
        fragments_per_group: natural(raw.fpg, "fs_fpg")?,
        inodes_per_group: raw.ipg.get(),
        superblock_at: natural(raw.sblkno, "fs_sblkno")?,
        header_at: natural(raw.cblkno, "fs_cblkno")?,
        inodes_at: natural(raw.iblkno, "fs_iblkno")?,
        data_at: natural(raw.dblkno, "fs_dblkno")?,
        header_bytes: natural(raw.cgsize, "fs_cgsize")?,
        shift_step,
        shift_groups,
        short_link_limit: check_inode_format(raw, version)?,
    };
    require(raw.nindir.get().cast_unsigned() == geometry.pointers_per_block() as u32, "fs_nindir")?;
    require(raw.inopb.get() == geometry.inodes_per_block(), "fs_inopb")?;
    check_group(&geometry, frag)?;
    Ok(geometry)
}

/// Check the sizes of blocks and fragments, and all that is derived from them; give their shifts.
fn check_block_sizes<O: ByteOrder>(raw: &Superblock<O>) -> Result<(u32, u32), Error> {
    let bsize = natural(raw.bsize, "fs_bsize")?;
    let fsize = natural(raw.fsize, "fs_fsize")?;
    require(bsize.is_power_of_two() && BLOCK_BYTES.contains(&bsize), "fs_bsize")?;
    require(fsize.is_power_of_two() && (SECTOR_BYTES..=bsize).contains(&fsize), "fs_fsize")?;
    let frag = bsize / fsize;
    require(frag <= FRAGMENTS_MAX && natural(raw.frag, "fs_frag")? == frag, "fs_frag")?;
    require(natural(raw.bshift, "fs_bshift")? == bsize.ilog2(), "fs_bshift")?;
    require(natural(raw.fshift, "fs_fshift")? == fsize.ilog2(), "fs_fshift")?;
    require(natural(raw.fragshift, "fs_fragshift")? == frag.ilog2(), "fs_fragshift")?;
    require(raw.bmask.get() == !(raw.bsize.get() - 1), "fs_bmask")?;
    require(raw.fmask.get() == !(raw.fsize.get() - 1), "fs_fmask")?;
    // Fragments per device sector, of a device whose sectors need not be ours.
    require(natural(raw.fsbtodb, "fs_fsbtodb")? <= fsize.ilog2() - SECTOR_BYTES.ilog2(), "fs_fsbtodb")?;
    let sbsize = natural(raw.sbsize, "fs_sbsize")?;
    let smallest = size_of::<Superblock<O>>() as u32;
    require((smallest..=SUPERBLOCK_BYTES).contains(&sbsize), "fs_sbsize")?;
    Ok((bsize.ilog2(), fsize.ilog2()))
}

/// Check that inodes and directories are of a format that is known here; give the limit of short links.
fn check_inode_format<O: ByteOrder>(raw: &Superblock<O>, version: Version) -> Result<u32, Error> {
    let pointer_bytes = match version {
        Version::Ufs1 => {
            require(raw.old_inodefmt.get() == INODE_FORMAT_44BSD, "fs_inodefmt")?;
            4
        }
        Version::Ufs2 => 8,
    };
    let limit = natural(raw.maxsymlinklen, "fs_maxsymlinklen")?;
    require(limit as usize <= (DIRECT + INDIRECT) * pointer_bytes, "fs_maxsymlinklen")?;
    Ok(limit)
}

/// Check how a cylinder group is laid out: superblock copy, header, inodes, data, each behind the other, and a
/// header with room for its maps.
fn check_group(geometry: &Geometry, frag: u32) -> Result<(), Error> {
    let fpg = geometry.fragments_per_group;
    let ipg = geometry.inodes_per_group;
    let (bsize, fsize) = (1u32 << geometry.block_shift, 1u32 << geometry.fragment_shift);
    let header_bytes = geometry.header_bytes;
    let maps = fpg.div_ceil(8) + ipg.div_ceil(8) + size_of::<GroupHeader<LittleEndian>>() as u32;
    require(maps <= header_bytes && header_bytes <= bsize, "fs_cgsize")?;
    require(fpg > 0 && fpg.is_multiple_of(frag), "fs_fpg")?;
    require(ipg > 0 && ipg.is_multiple_of(geometry.inodes_per_block()), "fs_ipg")?;
    let aligned = |at: u32| at.is_multiple_of(frag);
    require(aligned(geometry.superblock_at), "fs_sblkno")?;
    require(aligned(geometry.header_at) && geometry.header_at > geometry.superblock_at, "fs_cblkno")?;
    let header_fragments = header_bytes.div_ceil(fsize);
    let inodes_at = geometry.inodes_at;
    require(
        aligned(inodes_at) && inodes_at.checked_sub(geometry.header_at) >= Some(header_fragments),
        "fs_iblkno",
    )?;
    let inode_fragments = ipg / geometry.inodes_per_block() * frag;
    let data_at = geometry.data_at;
    require(aligned(data_at) && data_at.checked_sub(inodes_at) >= Some(inode_fragments), "fs_dblkno")?;
    require(data_at <= fpg, "fs_dblkno")
}

/// Check the volume as a whole: its groups cover it, and it lies on the disk.
fn check_volume<O: ByteOrder>(
    raw: &Superblock<O>,
    geometry: &Geometry,
    byte: u64,
    disk_sectors: u64,
) -> Result<(), Error> {
    let size = geometry.fragments;
    let bytes = size.checked_mul(geometry.fragment_bytes()).filter(|bytes| i64::try_from(*bytes).is_ok());
    let disk_bytes = disk_sectors.saturating_mul(u64::from(SECTOR_BYTES));
    require(size > 0 && bytes.is_some_and(|bytes| bytes <= disk_bytes), "fs_size")?;
    let groups = geometry.groups;
    let fpg = u64::from(geometry.fragments_per_group);
    require(groups > 0 && size.div_ceil(fpg) == u64::from(groups), "fs_ncg")?;
    require(groups.checked_mul(geometry.inodes_per_group).is_some(), "fs_ipg")?;
    // The furthest shift of any group, or more: all bits that a group's index can have and the mask lets through.
    let index_bits = u32::MAX.checked_shr((groups - 1).leading_zeros()).unwrap_or(0);
    let furthest = u64::from(geometry.shift_step) * u64::from(geometry.shift_groups & index_bits);
    let shifted = furthest + u64::from(geometry.data_at);
    require(
        geometry.shift_step.is_multiple_of(geometry.fragments_per_block()) && shifted <= fpg,
        "fs_cgoffset",
    )?;
    // The last group is cut short by the volume's end, but not before its data.
    let last = groups - 1;
    let structures = geometry.group_shift(last) + u64::from(geometry.data_at);
    require(geometry.group_fragments(last) >= structures, "fs_size")?;
    require(
        u64::from(geometry.data_at) << geometry.fragment_shift >= byte + u64::from(SUPERBLOCK_BYTES),
        "fs_dblkno",
    )?;
    check_summary_area(raw, geometry)
}

/// Check the area of the groups' summaries: big enough, and on the volume.
fn check_summary_area<O: ByteOrder>(raw: &Superblock<O>, geometry: &Geometry) -> Result<(), Error> {
    let address = match geometry.version {
        Version::Ufs1 => u64::from(natural(raw.old_csaddr, "fs_csaddr")?),
        Version::Ufs2 => u64::try_from(raw.csaddr.get()).map_err(|_| Error::BadSuperblock("fs_csaddr"))?,
    };
    let cssize = u64::from(natural(raw.cssize, "fs_cssize")?);
    require(cssize >= u64::from(geometry.groups) * size_of::<Summary<O>>() as u64, "fs_cssize")?;
    let end = address.checked_add(cssize.div_ceil(geometry.fragment_bytes()));
    require(end.is_some_and(|end| end <= geometry.fragments), "fs_csaddr")
}

fn check_totals<O: ByteOrder>(raw: &Superblock<O>, geometry: &Geometry) -> Result<Totals, Error> {
    let (dsize, summary) = match geometry.version {
        Version::Ufs1 => {
            let total = &raw.old_cstotal;
            (
                i64::from(raw.old_dsize.get()),
                [total.nbfree, total.nffree, total.nifree].map(|n| i64::from(n.get())),
            )
        }
        Version::Ufs2 => {
            let total = &raw.cstotal;
            (raw.dsize.get(), [total.nbfree, total.nffree, total.nifree].map(|n| n.get()))
        }
    };
    let data_fragments = u64::try_from(dsize).map_err(|_| Error::BadSuperblock("fs_dsize"))?;
    require(data_fragments <= geometry.fragments, "fs_dsize")?;
    let reserve_percent = natural(raw.minfree, "fs_minfree")?;
    require(reserve_percent < 100, "fs_minfree")?;
    // A crash leaves these wrong on a volume that is otherwise sound: cut to what is possible, not refused.
    let count = |n: i64, most: u64| u64::try_from(n).unwrap_or(0).min(most);
    let blocks = data_fragments / u64::from(geometry.fragments_per_block());
    Ok(Totals {
        data_fragments,
        free_blocks: count(summary[0], blocks),
        free_fragments: count(summary[1], data_fragments),
        free_inodes: count(summary[2], u64::from(geometry.inodes())),
        reserve_percent,
    })
}

#[cfg(test)]
mod tests;
