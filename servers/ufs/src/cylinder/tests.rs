//! Tests of cylinder.

use zerocopy::IntoBytes;

use super::*;
use crate::specimen::{FRAGMENT, KINDS, Specimen, group_header};

/// What is reported, and the damage that is done.
type Damage = (&'static str, fn(&mut GroupHeader<LittleEndian>));

fn put(specimen: &mut Specimen, header: &[u8]) {
    let byte = specimen.geometry.group_header(1).fragment * FRAGMENT;
    specimen.disk.put(byte, header);
}

#[test]
fn a_sound_header_gives_counts_and_maps() {
    for kind in KINDS {
        let mut specimen = Specimen::new(kind);
        match kind.1 {
            Order::Little => put(&mut specimen, group_header::<LittleEndian>().as_bytes()),
            Order::Big => put(&mut specimen, group_header::<BigEndian>().as_bytes()),
        }
        let maps = specimen.geometry.group_header(1).fragment * FRAGMENT + 168;
        specimen.disk.put(maps, &[0b0000_0101]); // inodes 0 and 2
        specimen.disk.put(maps + 8 + 127, &[0b1000_0000]); // the last fragment
        let group = specimen.volume.cylinder_group(&specimen.disk, 1).unwrap();
        assert_eq!((group.directories, group.free_blocks), (1, 2));
        assert_eq!((group.free_inodes, group.free_fragments), (3, 4));
        let used = [0, 1, 2, 63, 64].map(|index| group.is_inode_used(index));
        assert_eq!(used, [Some(true), Some(false), Some(true), Some(false), None]);
        let free = [0, 1023, 1024].map(|index| group.is_fragment_free(index));
        assert_eq!(free, [Some(false), Some(true), None]);
    }
}

#[test]
fn a_header_that_contradicts_the_superblock_is_corrupt() {
    let damages: [Damage; 13] = [
        ("a header without its magic number", |raw| raw.magic.set(0)),
        ("the header of another group", |raw| raw.cgx.set(0)),
        ("a wrong number of fragments", |raw| raw.ndblk.set(1023)),
        ("a wrong number of inodes", |raw| raw.niblk.set(63)),
        ("a wrong number of inodes", |raw| raw.initediblk.set(65)),
        ("a rotor beyond its fragments", |raw| raw.rotor.set(1025)),
        ("a rotor beyond its inodes", |raw| raw.irotor.set(65)),
        ("a count that is out of range", |raw| raw.cs.ndir.set(65)),
        ("a count that is out of range", |raw| raw.cs.nffree.set(-1)),
        ("a map outside its header", |raw| raw.iusedoff.set(167)),
        ("a map outside its header", |raw| raw.iusedoff.set(1017)),
        ("a map outside its header", |raw| raw.freeoff.set(1024 - 127)),
        ("a map outside its header", |raw| raw.freeoff.set(u32::MAX)),
    ];
    for (what, damage) in damages {
        let mut specimen = Specimen::new((Version::Ufs2, Order::Little));
        let mut header = group_header();
        damage(&mut header);
        put(&mut specimen, header.as_bytes());
        let refused = specimen.volume.cylinder_group(&specimen.disk, 1).err();
        assert_eq!(refused, Some(Error::corrupt_group(what, 1)));
    }
}

#[test]
fn there_is_no_group_behind_the_last() {
    let specimen = Specimen::new(KINDS[0]);
    assert_eq!(specimen.volume.groups(), 3);
    let refused = specimen.volume.cylinder_group(&specimen.disk, 3).err();
    assert_eq!(refused, Some(Error::corrupt_group("no such group", 3)));
}
