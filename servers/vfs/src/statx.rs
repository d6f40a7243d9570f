//! `struct statx` and `struct open_how` of Linux (uapi/linux/stat.h, openat2.h), as far as stat(2) and open(2) know.

use libipc::linux::Stat;
use libipc::linux::errno::{E2BIG, EINVAL, ENOSYS};

use crate::walk::Limits;

const STATX_BASIC_STATS: u32 = 0x7ff;
const RESOLVE_NO_XDEV: u64 = 1;
const RESOLVE_NO_MAGICLINKS: u64 = 2;
const RESOLVE_NO_SYMLINKS: u64 = 4;
const RESOLVE_KNOWN: u64 = 0x3f;
const OPEN_HOW_BYTES: u64 = 24;

/// Major part of a device number, as glibc's `major`.
pub fn major(device: u64) -> u32 {
    (device >> 8 & 0xfff | device >> 32 & 0xffff_f000) as u32
}

/// Minor part of a device number, as glibc's `minor`.
pub fn minor(device: u64) -> u32 {
    (device & 0xff | device >> 12 & 0xffff_ff00) as u32
}

/// The 256 bytes of `struct statx`.
pub fn statx_bytes(stat: &Stat) -> [u8; 256] {
    let mut bytes = [0u8; 256];
    let mut put = |at: usize, value: &[u8]| {
        if let Some(field) = bytes.get_mut(at..at + value.len()) {
            field.copy_from_slice(value);
        }
    };
    let words = [
        (0, STATX_BASIC_STATS),
        (4, stat.blksize as u32),
        (16, u32::try_from(stat.nlink).unwrap_or(u32::MAX)),
        (20, stat.uid),
        (24, stat.gid),
        // A 16-bit field, and two bytes of padding.
        (28, stat.mode & 0xffff),
        (128, major(stat.rdev)),
        (132, minor(stat.rdev)),
        (136, major(stat.dev)),
        (140, minor(stat.dev)),
    ];
    words.iter().for_each(|(at, word)| put(*at, &word.to_le_bytes()));
    for (at, long) in [(32, stat.ino), (40, stat.size), (48, stat.blocks)] {
        put(at, &long.to_le_bytes());
    }
    for (at, ns) in [(64, stat.atime_ns), (96, stat.ctime_ns), (112, stat.mtime_ns)] {
        put(at, &ns.div_euclid(1_000_000_000).to_le_bytes());
        put(at + 8, &(ns.rem_euclid(1_000_000_000) as u32).to_le_bytes());
    }
    bytes
}

/// Flags, mode and limits that openat2(2) was given.
///
/// # Errors
/// `EINVAL` for a short structure or unknown bits, `E2BIG` for a longer structure than is known here, `ENOSYS` for
/// the limits that are not there (RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_CACHED), so that programs fall back to
/// openat(2).
pub fn open_how(structure: Option<&[u8]>, size: u64) -> Result<(u32, u32, Limits), i32> {
    if size > OPEN_HOW_BYTES {
        return Err(E2BIG);
    }
    let (words, rest) = structure.unwrap_or_default().as_chunks::<8>();
    let ([flags, mode, resolve], []) = (words, rest) else { return Err(EINVAL) };
    let [flags, mode, resolve] = [*flags, *mode, *resolve].map(u64::from_le_bytes);
    let flags = u32::try_from(flags).map_err(|_| EINVAL)?;
    if size < OPEN_HOW_BYTES || mode & !0o7777 != 0 || resolve & !RESOLVE_KNOWN != 0 {
        return Err(EINVAL);
    }
    if resolve & !(RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS) != 0 {
        return Err(ENOSYS);
    }
    let limits =
        Limits { no_links: resolve & RESOLVE_NO_SYMLINKS != 0, no_crossing: resolve & RESOLVE_NO_XDEV != 0 };
    Ok((flags, mode as u32, limits))
}

#[cfg(test)]
mod tests;
