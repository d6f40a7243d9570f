//! Tests of bmap.

use super::*;
use crate::specimen::{BLOCK, DATA, KINDS, Specimen, addresses};

/// Fragments that are blocks of data in the second group.
const LEAF: u64 = 1500;
const MIDDLE: u64 = 1504;
const TOP: u64 = 1508;

fn map(specimen: &Specimen, inode: &Inode, index: u64) -> Result<Option<Run>, Error> {
    map_block(&specimen.geometry, &specimen.disk, inode, index)
}

#[test]
fn each_level_of_indirection_starts_where_the_last_one_ends() {
    for kind in KINDS {
        let mut specimen = Specimen::new(kind);
        let fan_out = specimen.geometry.pointers_per_block();
        let levels = [
            (12, addresses(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, LEAF])),
            (12 + fan_out, addresses(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, MIDDLE])),
            (12 + fan_out + fan_out * fan_out, addresses(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, TOP])),
        ];
        for (parent, child) in [(TOP, MIDDLE), (MIDDLE, LEAF), (LEAF, DATA)] {
            for index in [0, fan_out - 1] {
                specimen.put_address(parent, index, child);
            }
        }
        for (level, (first, field)) in levels.into_iter().enumerate() {
            let last = first + fan_out.pow(level as u32 + 1) - 1;
            let file = specimen.file((last + 1) * BLOCK, field);
            let data = Some(Run { fragment: DATA, fragments: 4 });
            assert_eq!(map(&specimen, &file, first), Ok(data));
            assert_eq!(map(&specimen, &file, last), Ok(data));
            assert_eq!(map(&specimen, &file, first + 1), Ok(None));
            assert_eq!(map(&specimen, &file, first - 1), Ok(None));
        }
    }
}

#[test]
fn a_hole_in_an_upper_level_is_a_hole_below() {
    let mut specimen = Specimen::new(KINDS[0]);
    let file = specimen.file(1 << 40, addresses(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, TOP]));
    specimen.put_address(TOP, 0, MIDDLE);
    let first = 12 + 1024 + 1024 * 1024;
    assert_eq!(map(&specimen, &file, first), Ok(None));
    assert_eq!(map(&specimen, &file, first + 1024 * 1024), Ok(None));
}

#[test]
fn the_last_block_of_a_small_file_is_only_as_long_as_it_must_be() {
    let mut specimen = Specimen::new(KINDS[3]);
    let field = addresses(&[DATA, DATA + 5]);
    for (size, fragments) in [(BLOCK + 1, 1), (BLOCK + 1024, 1), (BLOCK + 1025, 2), (BLOCK + 3072, 3)] {
        let file = specimen.file(size, field);
        assert_eq!(map(&specimen, &file, 0), Ok(Some(Run { fragment: DATA, fragments: 4 })));
        assert_eq!(map(&specimen, &file, 1), Ok(Some(Run { fragment: DATA + 5, fragments })));
    }
}

#[test]
fn an_address_outside_the_data_area_is_corrupt_at_every_level() {
    for kind in KINDS {
        let outside = match kind.0 {
            Version::Ufs1 => 0x8000_0000, // negative on disk
            Version::Ufs2 => 1 << 63,
        };
        for bad in [1, 84, 2600, DATA + 1, outside] {
            let mut specimen = Specimen::new(kind);
            let direct = specimen.file(1 << 30, addresses(&[bad]));
            assert_eq!(
                map(&specimen, &direct, 0),
                Err(direct.corrupt("a block address outside the data area"))
            );
            let root = specimen.file(1 << 30, addresses(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, bad]));
            assert_eq!(map(&specimen, &root, 12), Err(root.corrupt("a block address outside the data area")));
            let leaf = specimen.file(1 << 30, addresses(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, LEAF]));
            specimen.put_address(LEAF, 3, bad);
            assert_eq!(map(&specimen, &leaf, 15), Err(leaf.corrupt("a block address outside the data area")));
        }
    }
}

#[test]
fn a_block_beyond_triple_indirection_is_corrupt() {
    let mut specimen = Specimen::new(KINDS[0]);
    let file = specimen.file(BLOCK, [0; 15]);
    assert!(map(&specimen, &file, u64::MAX).is_err());
}
