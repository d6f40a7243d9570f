//! Tests of volume.

use super::*;
use crate::specimen::{KINDS, Specimen};

#[test]
fn free_room_is_counted_in_fragments_with_and_without_the_reserve() {
    for kind in KINDS {
        let statfs = Specimen::new(kind).volume.statfs();
        assert_eq!((statfs.block_bytes, statfs.fragment_bytes), (4096, 1024));
        assert_eq!((statfs.fragments, statfs.free, statfs.available), (2000, 403, 403 - 160));
        assert_eq!((statfs.inodes, statfs.free_inodes, statfs.id), (3 * 64 - 2, 50, [7, 9]));
    }
}

#[test]
fn errors_say_what_happened_in_plain_words() {
    let said = |error: Error| alloc::string::ToString::to_string(&error);
    let error = Error::corrupt_inode("a size that no file can have", InodeNumber(9));
    assert_eq!(said(error), "the volume is damaged: a size that no file can have in inode 9; run fsck");
    let error = Error::BadSuperblock("fs_bsize");
    assert_eq!(said(error), "the superblock cannot be used: its fs_bsize is impossible or not supported");
}
