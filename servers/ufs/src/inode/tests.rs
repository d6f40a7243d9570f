//! Tests of inode.

use super::*;
use crate::specimen::{BLOCK, DATA, FRAGMENT, KINDS, Specimen, addresses};

fn refusal(specimen: &Specimen, number: u32) -> Error {
    specimen.volume.inode(&specimen.disk, InodeNumber(number)).expect_err("the inode should be refused")
}

#[test]
fn every_version_and_order_gives_the_same_inode() {
    for kind in KINDS {
        let mut specimen = Specimen::new(kind);
        let inode = specimen.file(5000, addresses(&[DATA, DATA + 4]));
        assert_eq!((inode.kind, inode.mode, inode.links), (FileType::Regular, 0o100_644, 2));
        assert_eq!((inode.uid, inode.gid, inode.size, inode.blocks), (1000, 100, 5000, 8));
        assert_eq!(inode.modified, Timestamp { seconds: -5, nanoseconds: 999_999_999 });
        assert_eq!(inode.generation, 0xfeed);
        let expected = Addresses {
            direct: core::array::from_fn(|i| [DATA, DATA + 4].get(i).copied().unwrap_or(0)),
            indirect: [0; 3],
        };
        assert_eq!(inode.content, Content::Blocks(expected));
        let born = Timestamp { seconds: 77, nanoseconds: 0 };
        assert_eq!(inode.born, (kind.0 == Version::Ufs2).then_some(born));
    }
}

#[test]
fn an_impossible_fraction_of_a_second_counts_as_none() {
    let inode = Specimen::new(KINDS[0]).file(0, [0; 15]);
    assert_eq!(inode.changed, Timestamp { seconds: 0, nanoseconds: 0 });
}

#[test]
fn numbers_out_of_range_and_free_inodes_name_no_file() {
    let specimen = Specimen::new(KINDS[0]);
    for number in [0, 1, 3, 3 * 64 - 1, 3 * 64, u32::MAX] {
        assert_eq!(refusal(&specimen, number), Error::NoInode(InodeNumber(number)));
    }
}

#[test]
fn a_device_has_a_number_and_no_blocks() {
    for kind in KINDS {
        let mut specimen = Specimen::new(kind);
        specimen.put_inode(9, 0o020_600, 0, addresses(&[0x0501]));
        assert_eq!(specimen.inode(9).device(), Some(0x0501));
        assert_eq!(specimen.file(0, [0; 15]).device(), None);
    }
}

#[test]
fn an_inode_that_contradicts_itself_is_corrupt() {
    for kind in KINDS {
        for (mode, size, what) in [
            (0o160_644, 0, "an unknown type of file"),
            (0o000_644, 0, "an unknown type of file"),
            (0o100_644, u64::MAX, "a size that no file can have"),
            (0o100_644, 12 * BLOCK + (1 << 53), "a size that no file can have"),
            (0o040_755, 0, "a size that no directory can have"),
            (0o040_755, 513, "a size that no directory can have"),
            (0o040_755, 1 << 31, "a size that no directory can have"),
        ] {
            let mut specimen = Specimen::new(kind);
            specimen.put_inode(5, mode, size, [0; 15]);
            assert_eq!(refusal(&specimen, 5), Error::corrupt_inode(what, InodeNumber(5)));
        }
    }
}

#[test]
fn a_root_that_is_a_file_is_corrupt() {
    let mut specimen = Specimen::new(KINDS[0]);
    specimen.put_inode(2, 0o100_644, 0, [0; 15]);
    let refused = specimen.volume.root(&specimen.disk);
    assert_eq!(refused, Err(Error::corrupt_inode("a root that is not a directory", InodeNumber::ROOT)));
}

#[test]
fn a_directory_larger_than_its_blocks_is_corrupt() {
    let mut specimen = Specimen::new((Version::Ufs2, Order::Little));
    specimen.put_inode(6, 0o040_755, 2 * BLOCK, addresses(&[DATA, DATA + 4]));
    assert_eq!(specimen.inode(6).blocks, 16);
    let (run, place) = specimen.geometry.inode_place(6);
    let field = core::mem::offset_of!(Dinode2::<LittleEndian>, blocks) as u64;
    specimen.disk.put(run.fragment * FRAGMENT + place + field, &[15]);
    let what = "a directory larger than its blocks";
    assert_eq!(refusal(&specimen, 6), Error::corrupt_inode(what, InodeNumber(6)));
}
