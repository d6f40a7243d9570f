//! `struct open_how` of Linux (uapi/linux/openat2.h), as far as open(2) knows it.

use libipc::linux::errno::{E2BIG, EINVAL, ENOSYS};

use crate::walk::Limits;

const RESOLVE_NO_XDEV: u64 = 1;
const RESOLVE_NO_MAGICLINKS: u64 = 2;
const RESOLVE_NO_SYMLINKS: u64 = 4;
const RESOLVE_KNOWN: u64 = 0x3f;
const OPEN_HOW_BYTES: u64 = 24;

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
