//! Tests of geometry.

use super::*;
use crate::specimen::Specimen;

fn specimen() -> Geometry {
    // Superblock copy at 72, header at 80, inodes at 84, data at 92 (UFS1: two blocks of inodes).
    Specimen::new((Version::Ufs1, Order::Little)).geometry
}

fn run(fragment: u64, fragments: u32) -> Run {
    Run { fragment, fragments }
}

#[test]
fn an_inode_lies_in_its_groups_inode_blocks() {
    let geometry = specimen();
    assert_eq!(geometry.inode_place(2), (run(84, 4), 2 * 128));
    assert_eq!(geometry.inode_place(33), (run(88, 4), 128));
    assert_eq!(geometry.inode_place(64 + 31), (run(1024 + 84, 4), 31 * 128));
}

#[test]
fn the_groups_of_ufs1_can_be_shifted_against_each_other() {
    let geometry = Geometry { shift_step: 8, shift_groups: 1, ..specimen() };
    assert_eq!(geometry.group_header(0), run(80, 1));
    assert_eq!(geometry.group_header(1), run(1024 + 8 + 80, 1));
    assert_eq!(geometry.group_header(2), run(2048 + 80, 1));
    assert!(geometry.is_data(run(1024 + 76, 4)));
    assert!(!geometry.is_data(run(1024 + 96, 4)));
}

#[test]
fn the_last_group_ends_with_the_volume() {
    let geometry = specimen();
    assert_eq!([0, 1, 2].map(|group| geometry.group_fragments(group)), [1024, 1024, 552]);
}

#[test]
fn data_lies_in_one_block_clear_of_every_groups_structures() {
    let geometry = specimen();
    for (good, fragment, fragments) in [
        (false, 0, 4),         // the boot area
        (false, 68, 4),        // still before the first group's data
        (false, 88, 4),        // inodes
        (true, 92, 4),         // the first data
        (true, 93, 3),         // part of a block
        (false, 93, 4),        // across two blocks
        (false, 92, 0),        // nothing
        (true, 1020, 4),       // the end of a group
        (true, 1024, 4),       // data before the second group's structures
        (true, 1024 + 68, 4),  // up to them
        (false, 1024 + 72, 4), // the superblock copy
        (false, 1024 + 84, 4), // inodes
        (true, 2596, 4),       // the end of the volume
        (false, 2600, 1),      // beyond it
        (false, u64::MAX, 1),  // far beyond it
        (false, u64::MAX - 3, 4),
    ] {
        assert_eq!(geometry.is_data(run(fragment, fragments)), good, "{fragment}+{fragments}");
    }
}

#[test]
fn the_largest_file_is_what_triple_indirection_reaches() {
    let ufs1 = specimen().file_bytes_max();
    assert_eq!(ufs1, (12 + 1024 + (1 << 20) + (1 << 30)) * 4096);
    let huge = Geometry { block_shift: 16, fragment_shift: 13, ..specimen() }.file_bytes_max();
    assert_eq!(huge, (12 + (1 << 14) + (1 << 28) + (1 << 42)) << 16);
}

#[test]
fn a_run_is_turned_into_sectors() {
    assert_eq!(specimen().extent(run(92, 3)), Extent { sector: 184, sectors: 6 });
}
