//! Structures byte by byte.

use super::*;

#[test]
fn device_numbers_split_as_glibc_splits_them() {
    assert_eq!((major(0x0103), minor(0x0103)), (1, 3));
    let device = 0xabcd_e123_4567_8901;
    assert_eq!(major(device), 0xabcd_e789);
    assert_eq!(minor(device), 0x1234_5601);
}

#[test]
fn statx_fields_lie_where_linux_has_them() {
    let stat = Stat {
        dev: 1 << 20 | 2,
        ino: 3,
        nlink: 4,
        mode: 0o100_644,
        uid: 5,
        gid: 6,
        rdev: 7 << 8 | 8,
        size: 9,
        blksize: 4096,
        blocks: 10,
        atime_ns: 1_000_000_011,
        mtime_ns: -1,
        ctime_ns: 13,
    };
    let bytes = statx_bytes(&stat);
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    assert_eq!([word(0), word(4), word(16), word(20), word(24)], [0x7ff, 4096, 4, 5, 6]);
    assert_eq!((word(28), long(32), long(40), long(48)), (0o100_644, 3, 9, 10));
    assert_eq!((long(64), word(72)), (1, 11), "atime");
    assert_eq!((long(96), word(104)), (0, 13), "ctime");
    assert_eq!((long(112) as i64, word(120)), (-1, 999_999_999), "mtime");
    assert_eq!([word(128), word(132), word(136), word(140)], [7, 8, 0, 1 << 8 | 2]);
}
