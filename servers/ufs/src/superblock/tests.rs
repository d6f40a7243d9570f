//! Tests of superblock.

use proptest::prelude::*;
use zerocopy::IntoBytes;

use super::*;
use crate::blocks::{Extent, Miss};
use crate::specimen::{Disk, FRAGMENTS, KINDS, superblock};

type Raw = Superblock<LittleEndian>;

/// A field by its name, and how it is made impossible.
type Damage = (&'static str, fn(&mut Raw));

fn disk_with(raw: &Raw, byte: u64) -> Disk {
    let mut disk = Disk::new();
    disk.put(byte, raw.as_bytes());
    disk
}

fn found(disk: &Disk) -> Result<Described, Error> {
    find(disk, disk.sectors())
}

fn refusal(disk: &Disk) -> Error {
    found(disk).expect_err("the superblock should be refused")
}

#[test]
fn a_superblock_is_found_in_every_place_version_and_order() {
    for byte in SUPERBLOCK_SEARCH {
        for (version, order) in KINDS {
            let mut disk = Disk::new();
            match order {
                Order::Little => disk.put(byte, superblock::<LittleEndian>(version, byte).as_bytes()),
                Order::Big => disk.put(byte, superblock::<BigEndian>(version, byte).as_bytes()),
            }
            let described = found(&disk).unwrap();
            assert_eq!((described.geometry.version, described.geometry.order), (version, order));
            assert_eq!(described.geometry.fragments, FRAGMENTS);
            assert!(described.clean);
        }
    }
}

#[test]
fn the_search_goes_in_the_order_of_bsd_and_stays_on_the_disk() {
    struct Nothing;
    impl Blocks for Nothing {
        fn get(&self, extent: Extent) -> Result<&[u8], Miss> {
            Err(Miss(extent))
        }
    }
    let first = |sectors| find(&Nothing, sectors).err();
    let miss = |sector| Some(Error::Miss(Miss(Extent { sector, sectors: 16 })));
    assert_eq!(first(144), miss(128));
    assert_eq!(first(143), miss(16));
    assert_eq!(first(31), miss(0));
    assert_eq!(first(15), Some(Error::NotUfs));
}

#[test]
fn a_disk_without_a_magic_number_is_not_ufs() {
    assert_eq!(refusal(&Disk::new()), Error::NotUfs);
}

#[test]
fn a_backup_in_a_searched_place_is_passed_over() {
    let standard = superblock::<LittleEndian>(Version::Ufs1, 8192);
    let mut disk = disk_with(&standard, 65536);
    assert_eq!(refusal(&disk), MISPLACED);
    disk.put(8192, standard.as_bytes());
    assert!(found(&disk).is_ok());
}

#[test]
fn a_superblock_that_cannot_name_its_place_counts_only_at_8192() {
    let mut raw = superblock::<LittleEndian>(Version::Ufs1, 8192);
    raw.old_flags = 0;
    raw.sblockloc.set(0x5555_5555);
    raw.sblkno.set(72);
    raw.cblkno.set(80);
    raw.iblkno.set(84);
    raw.dblkno.set(92);
    assert!(found(&disk_with(&raw, 8192)).is_ok());
    assert_eq!(refusal(&disk_with(&raw, 65536)), MISPLACED);
}

#[test]
fn an_unfinished_newfs_is_named() {
    let mut raw = superblock::<LittleEndian>(Version::Ufs2, 65536);
    raw.magic.set(MAGIC_UNFINISHED);
    assert_eq!(refusal(&disk_with(&raw, 65536)), Error::BadSuperblock("fs_magic (newfs did not finish)"));
}

#[test]
fn a_volume_that_reaches_beyond_its_disk_is_refused() {
    let disk = disk_with(&superblock(Version::Ufs2, 65536), 65536);
    assert_eq!(find(&disk, FRAGMENTS * 2 - 1).err(), Some(Error::BadSuperblock("fs_size")));
    assert!(find(&disk, FRAGMENTS * 2).is_ok());
}

#[test]
fn a_volume_that_was_not_unmounted_is_not_clean() {
    let marks: [fn(&mut Raw); 3] =
        [|raw| raw.clean = 0, |raw| raw.flags.set(FLAG_UNCLEAN), |raw| raw.flags.set(FLAG_NEEDS_FSCK)];
    for mark in marks {
        let mut raw = superblock(Version::Ufs2, 65536);
        mark(&mut raw);
        assert!(!found(&disk_with(&raw, 65536)).unwrap().clean);
    }
}

#[test]
fn every_impossible_field_is_refused_by_name() {
    let damages: [Damage; 48] = [
        ("fs_bsize", |raw| raw.bsize.set(2048)),
        ("fs_bsize", |raw| raw.bsize.set(131_072)),
        ("fs_bsize", |raw| raw.bsize.set(5000)),
        ("fs_bsize", |raw| raw.bsize.set(i32::MIN)),
        ("fs_fsize", |raw| raw.fsize.set(256)),
        ("fs_fsize", |raw| raw.fsize.set(8192)),
        ("fs_fsize", |raw| raw.fsize.set(0)),
        ("fs_frag", |raw| raw.frag.set(8)),
        ("fs_frag", |raw| raw.bsize.set(65536)),
        ("fs_bshift", |raw| raw.bshift.set(13)),
        ("fs_fshift", |raw| raw.fshift.set(-1)),
        ("fs_fragshift", |raw| raw.fragshift.set(3)),
        ("fs_bmask", |raw| raw.bmask.set(4095)),
        ("fs_fmask", |raw| raw.fmask.set(0)),
        ("fs_fsbtodb", |raw| raw.fsbtodb.set(2)),
        ("fs_sbsize", |raw| raw.sbsize.set(8193)),
        ("fs_sbsize", |raw| raw.sbsize.set(1375)),
        ("fs_nindir", |raw| raw.nindir.set(1024)),
        ("fs_inopb", |raw| raw.inopb.set(32)),
        ("fs_maxsymlinklen", |raw| raw.maxsymlinklen.set(121)),
        ("fs_cgsize", |raw| raw.cgsize.set(4097)),
        ("fs_cgsize", |raw| raw.cgsize.set(168 + 8 + 127)),
        ("fs_cgsize", |raw| raw.cgsize.set(-1)),
        ("fs_cgsize", |raw| raw.fpg.set(i32::MAX)),
        ("fs_cgsize", |raw| raw.ipg.set(u32::MAX)),
        ("fs_fpg", |raw| raw.fpg.set(0)),
        ("fs_fpg", |raw| raw.fpg.set(1022)),
        ("fs_ipg", |raw| raw.ipg.set(0)),
        ("fs_ipg", |raw| raw.ipg.set(65)),
        ("fs_sblkno", |raw| raw.sblkno.set(-4)),
        ("fs_sblkno", |raw| raw.sblkno.set(71)),
        ("fs_cblkno", |raw| raw.cblkno.set(72)),
        ("fs_cblkno", |raw| raw.cblkno.set(82)),
        ("fs_iblkno", |raw| raw.iblkno.set(80)),
        ("fs_iblkno", |raw| raw.iblkno.set(85)),
        ("fs_dblkno", |raw| raw.dblkno.set(96)),
        ("fs_dblkno", |raw| raw.dblkno.set(1028)),
        ("fs_dblkno", |raw| {
            raw.sblkno.set(40);
            raw.cblkno.set(44);
            raw.iblkno.set(48);
            raw.dblkno.set(64); // the superblock itself lies there
        }),
        ("fs_size", |raw| raw.size.set(0)),
        ("fs_size", |raw| raw.size.set(i64::MAX)),
        ("fs_size", |raw| raw.size.set(2048 + 8)),
        ("fs_ncg", |raw| raw.ncg.set(0)),
        ("fs_ncg", |raw| raw.ncg.set(4)),
        ("fs_cssize", |raw| raw.cssize.set(47)),
        ("fs_csaddr", |raw| raw.csaddr.set(2600)),
        ("fs_dsize", |raw| raw.dsize.set(2601)),
        ("fs_minfree", |raw| raw.minfree.set(100)),
        ("fs_sblockloc", |raw| raw.sblockloc.set(8192)),
    ];
    for (field, damage) in damages {
        let mut raw = superblock(Version::Ufs2, 65536);
        damage(&mut raw);
        assert_eq!(refusal(&disk_with(&raw, 65536)), Error::BadSuperblock(field));
    }
}

#[test]
fn the_fields_of_ufs1_alone_are_checked_too() {
    let damages: [Damage; 6] = [
        ("fs_inodefmt", |raw| raw.old_inodefmt.set(-1)),
        ("fs_maxsymlinklen", |raw| raw.maxsymlinklen.set(61)),
        ("fs_size", |raw| raw.old_size.set(-1)),
        ("fs_cgoffset", |raw| raw.old_cgoffset.set(-4)),
        ("fs_csaddr", |raw| raw.old_csaddr.set(-1)),
        ("fs_cgoffset", |raw| {
            raw.old_cgoffset.set(4 * 250);
            raw.old_cgmask.set(!3);
        }),
    ];
    for (field, damage) in damages {
        let mut raw = superblock(Version::Ufs1, 8192);
        damage(&mut raw);
        assert_eq!(refusal(&disk_with(&raw, 8192)), Error::BadSuperblock(field));
    }
}

#[test]
fn counts_that_a_crash_left_wrong_are_cut_to_what_is_possible() {
    let mut raw = superblock(Version::Ufs2, 65536);
    raw.cstotal.nbfree.set(-1);
    raw.cstotal.nffree.set(i64::MAX);
    raw.cstotal.nifree.set(i64::MIN);
    let totals = found(&disk_with(&raw, 65536)).unwrap().totals;
    assert_eq!((totals.free_blocks, totals.free_fragments, totals.free_inodes), (0, 2000, 0));
}

proptest! {
    #[test]
    fn a_superblock_that_is_accepted_keeps_every_address_on_the_volume(
        ufs1: bool,
        words in prop::collection::vec((0usize..344, prop_oneof![any::<u32>(), 0u32..70_000]), 0..4),
    ) {
        let version = if ufs1 { Version::Ufs1 } else { Version::Ufs2 };
        let mut raw = superblock::<LittleEndian>(version, 65536);
        for (word, value) in words {
            raw.as_mut_bytes()[word * 4..word * 4 + 4].copy_from_slice(&value.to_le_bytes());
        }
        let Ok(described) = found(&disk_with(&raw, 65536)) else { return Ok(()) };
        let geometry = described.geometry;
        prop_assert!(geometry.fragments * geometry.fragment_bytes() <= FRAGMENTS * 1024);
        prop_assert!(geometry.file_bytes_max() > 0);
        for group in 0..geometry.groups {
            let header = geometry.group_header(group);
            prop_assert!(header.fragment + u64::from(header.fragments) <= geometry.fragments);
        }
        for number in 0..geometry.inodes() {
            let (run, place) = geometry.inode_place(number);
            prop_assert!(run.fragment + u64::from(run.fragments) <= geometry.fragments);
            prop_assert!(place + geometry.inode_bytes() <= geometry.block_bytes());
            prop_assert!(!geometry.is_data(run));
        }
    }
}
