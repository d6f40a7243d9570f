//! Tests of read.

use super::*;
use crate::specimen::{BLOCK, DATA, FRAGMENT, KINDS, Specimen, addresses};

fn plan_of(specimen: &Specimen, file: &Inode, offset: u64, len: u64) -> Vec<Piece> {
    specimen.volume.plan_read(&specimen.disk, file, offset, len).unwrap()
}

fn disk(fragment: u64, bytes: u64) -> Piece {
    Piece::Disk { address: fragment * FRAGMENT, bytes }
}

#[test]
fn blocks_that_follow_each_other_are_one_piece_and_so_are_holes() {
    let mut specimen = Specimen::new(KINDS[0]);
    let file = specimen.file(7 * BLOCK, addresses(&[DATA, DATA + 4, 0, 0, DATA + 8, DATA + 16, DATA + 12]));
    assert_eq!(
        plan_of(&specimen, &file, 0, 7 * BLOCK),
        [
            disk(DATA, 2 * BLOCK),
            Piece::Hole { bytes: 2 * BLOCK },
            disk(DATA + 8, BLOCK),
            disk(DATA + 16, BLOCK),
            disk(DATA + 12, BLOCK),
        ]
    );
}

#[test]
fn a_plan_ends_with_the_file_and_with_the_largest_plan() {
    let mut specimen = Specimen::new(KINDS[0]);
    let small = specimen.file(5000, addresses(&[DATA, DATA + 4]));
    assert_eq!(
        plan_of(&specimen, &small, 4999, u64::MAX),
        [Piece::Disk { address: DATA * FRAGMENT + 4999, bytes: 1 }]
    );
    for offset in [5000, 5001, u64::MAX] {
        assert_eq!(plan_of(&specimen, &small, offset, u64::MAX), []);
    }
    assert_eq!(plan_of(&specimen, &small, 0, 0), []);
    let large = specimen.file(1 << 40, [0; 15]);
    assert_eq!(plan_of(&specimen, &large, 1, u64::MAX), [Piece::Hole { bytes: READ_MAX_BYTES }]);
}

#[test]
fn a_map_reaches_from_the_offset_to_the_end_of_its_block() {
    let mut specimen = Specimen::new(KINDS[2]);
    let file = specimen.file(5000, addresses(&[0, DATA]));
    let map = |offset| specimen.volume.block_map(&specimen.disk, &file, offset).unwrap();
    assert_eq!(map(4000), Some(Piece::Hole { bytes: 96 }));
    assert_eq!(map(4100), Some(Piece::Disk { address: DATA * FRAGMENT + 4, bytes: 900 }));
    assert_eq!(map(5000), None);
}

#[test]
fn a_piece_knows_its_sectors() {
    let piece = Piece::Disk { address: 1000, bytes: 30 };
    assert_eq!(piece.sectors(), Some((Extent { sector: 1, sectors: 2 }, 488)));
    let piece = Piece::Disk { address: 1024, bytes: 512 };
    assert_eq!(piece.sectors(), Some((Extent { sector: 2, sectors: 1 }, 0)));
    assert_eq!(Piece::Hole { bytes: 5 }.sectors(), None);
}

#[test]
fn only_a_regular_file_is_read() {
    let mut specimen = Specimen::new(KINDS[0]);
    let directory = specimen.directory(&[0; 512]);
    assert_eq!(specimen.volume.plan_read(&specimen.disk, &directory, 0, 1), Err(Error::NotRegular));
    assert_eq!(specimen.volume.block_map(&specimen.disk, &directory, 0), Err(Error::NotRegular));
}

#[test]
fn a_snapshot_is_refused_and_not_called_damaged() {
    let mut specimen = Specimen::new(KINDS[2]);
    let snapshot = Inode { flags: FILE_IS_SNAPSHOT, ..specimen.file(BLOCK, addresses(&[1])) };
    assert_eq!(specimen.volume.plan_read(&specimen.disk, &snapshot, 0, 1), Err(Error::Snapshot));
}
