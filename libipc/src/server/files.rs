//! What every file server does alike: taking paths apart, packing directory records, moving a file offset, checking
//! permission bits and how a file was opened.
//!
//! Plain functions over plain values, with errno as the error, since file servers stand at the POSIX edge. Nothing
//! here owns state or knows how a server keeps its files.

use alloc::vec::Vec;

use crate::linux::errno::*;
use crate::linux::mode;
use crate::linux::open::*;
use crate::proto::fs::{Credentials, Operation};

/// A `getdents` record's smallest alignment; records are padded to it.
const RECORD_ALIGN: u32 = 8;
/// Bytes before the name in `struct linux_dirent64`: inode, position, length of the record, type.
const HEADER_64: u32 = 8 + 8 + 2 + 1;
/// Bytes before the name in the older `struct linux_dirent`, which has its type in its last byte.
const HEADER_OLD: u32 = 8 + 8 + 2;

/// Permission to read, as in `access(2)` and in the low three mode bits.
pub const R_OK: u32 = 4;
/// Permission to write.
pub const W_OK: u32 = 2;
/// Permission to execute, or to search a directory.
pub const X_OK: u32 = 1;

/// One component of a path and what stands behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Component<'a> {
    /// The name: never empty, without slashes; may be `.` or `..`.
    pub name: &'a [u8],
    /// What follows, without leading slashes; empty for the last component.
    pub rest: &'a [u8],
    /// A slash follows, so that the name must be that of a directory.
    pub directory: bool,
}

/// Takes the first component off a path. `Ok(None)` when there is none: the path is empty or slashes alone.
///
/// # Errors
/// `ENAMETOOLONG` for a component of more than [`NAME_MAX`] bytes, `EINVAL` for one that contains NUL.
pub fn first_component(path: &[u8]) -> Result<Option<Component<'_>>, i32> {
    let path = strip_slashes(path);
    if path.is_empty() {
        return Ok(None);
    }
    let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    check_name(name)?;
    Ok(Some(Component { name, rest: strip_slashes(rest), directory: !rest.is_empty() }))
}

/// A path without its leading slashes.
pub fn strip_slashes(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    path.split_at(start).1
}

/// Whether a name may stand in a directory at all.
///
/// # Errors
/// `ENAMETOOLONG` above [`NAME_MAX`] bytes, `EINVAL` for NUL or a slash in it, `ENOENT` for an empty one.
pub fn check_name(name: &[u8]) -> Result<(), i32> {
    match name {
        [] => Err(ENOENT),
        _ if name.len() as u64 > u64::from(NAME_MAX) => Err(ENAMETOOLONG),
        _ if name.iter().any(|byte| matches!(byte, 0 | b'/')) => Err(EINVAL),
        _ => Ok(()),
    }
}

/// What an operation that makes or removes a name answers when the last component is no ordinary name: `.`, `..`, or
/// none at all (`name` empty: the path is the walk's starting point). `None` when the operation may act on it.
pub fn unnamed_error(operation: &Operation, name: &[u8]) -> Option<i32> {
    if !matches!(name, b"" | b"." | b"..") {
        return None;
    }
    match operation {
        Operation::MakeDirectory { .. }
        | Operation::MakeNode { .. }
        | Operation::MakeSymlink { .. }
        | Operation::Link { .. } => Some(EEXIST),
        Operation::Unlink => Some(EISDIR),
        Operation::RemoveDirectory => Some(match name {
            b"." => EINVAL,
            b".." => ENOTEMPTY,
            _ => EBUSY,
        }),
        Operation::Parent | Operation::Rename { .. } => Some(EBUSY),
        Operation::Open { flags, .. } if flags & O_CREAT != 0 => {
            Some(if flags & O_EXCL != 0 { EEXIST } else { EISDIR })
        }
        _ => None,
    }
}

/// The `st_dev` of a volume: each file server fills it in, alike in fstat(2) and in what it answers to vfs. It is an
/// anonymous device (major 0) whose minor number has the server in its high part.
pub fn device_number(server: u32, volume: u32) -> u64 {
    u64::from(server) << 20 | u64::from(volume & 0xff)
}

/// The volume of a device number made by [`device_number`] for this server; `None` for any other number.
pub fn volume_of_device(device: u64, server: u32) -> Option<u32> {
    let volume = (device & 0xff) as u32;
    (device == device_number(server, volume)).then_some(volume)
}

/// Whether the permission bits of a file let a caller do what `wanted` says ([`R_OK`], [`W_OK`], [`X_OK`]). The
/// superuser may do all, except execute a file that nobody may execute.
pub fn permits(file_mode: u32, owner: u32, group: u32, caller: &Credentials, wanted: u32) -> bool {
    let wanted = wanted & 7;
    if caller.uid == 0 {
        let searchable = file_mode & mode::S_IFMT == mode::S_IFDIR || file_mode & 0o111 != 0;
        return wanted & X_OK == 0 || searchable;
    }
    let class = if caller.uid == owner {
        file_mode >> 6
    } else if caller.gid == group || caller.groups.contains(&group) {
        file_mode >> 3
    } else {
        file_mode
    };
    wanted & !class == 0
}

/// Whether a directory's sticky bit keeps a caller from removing or renaming somebody's file in it.
pub fn sticky_refuses(
    directory_mode: u32,
    directory_owner: u32,
    file_owner: u32,
    caller: &Credentials,
) -> bool {
    let own = [0, directory_owner, file_owner].contains(&caller.uid);
    directory_mode & mode::S_ISVTX != 0 && !own
}

/// What `open(2)` must be permitted to do: the bits for [`permits`] that its flags ask for.
pub fn wanted_by_open(flags: u32) -> u32 {
    if flags & O_PATH != 0 {
        return 0;
    }
    let access = match flags & O_ACCMODE {
        O_RDONLY => R_OK,
        O_WRONLY => W_OK,
        _ => R_OK | W_OK,
    };
    if flags & O_TRUNC != 0 { access | W_OK } else { access }
}

/// Whether a session with this status word may be read.
///
/// # Errors
/// `EBADF` when it was opened for writing alone, or as a mere path.
pub fn check_readable(status: u32) -> Result<(), i32> {
    let refused = status & O_PATH != 0 || status & O_ACCMODE == O_WRONLY;
    if refused { Err(EBADF) } else { Ok(()) }
}

/// Whether a session with this status word may be written.
///
/// # Errors
/// `EBADF` when it was opened for reading alone, or as a mere path.
pub fn check_writable(status: u32) -> Result<(), i32> {
    let refused = status & O_PATH != 0 || status & O_ACCMODE == O_RDONLY;
    if refused { Err(EBADF) } else { Ok(()) }
}

/// The flags of `open(2)` that a session's status word keeps: how it may be used, not how it came to be.
pub fn status_of_open(flags: u32) -> u32 {
    flags & !(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC)
}

/// The new position of `lseek(2)` on a file of `size` bytes that has no holes to tell of.
///
/// # Errors
/// `EINVAL` for an unknown `whence` or a position below zero, `EOVERFLOW` above what a file offset holds, `ENXIO`
/// when `SEEK_DATA` or `SEEK_HOLE` begins at or beyond the end.
pub fn seek(position: u64, offset: i64, whence: u64, size: u64) -> Result<u64, i32> {
    const SEEK_SET: u64 = 0;
    const SEEK_CUR: u64 = 1;
    const SEEK_END: u64 = 2;
    const SEEK_DATA: u64 = 3;
    const SEEK_HOLE: u64 = 4;
    let base = match whence {
        SEEK_SET => 0,
        SEEK_CUR => position,
        SEEK_END => size,
        SEEK_DATA | SEEK_HOLE => {
            let inside = u64::try_from(offset).ok().filter(|at| *at < size).ok_or(ENXIO)?;
            return Ok(if whence == SEEK_DATA { inside } else { size });
        }
        _ => return Err(EINVAL),
    };
    match i64::try_from(base).ok().and_then(|base| base.checked_add(offset)) {
        None if offset < 0 => Err(EINVAL),
        None => Err(EOVERFLOW),
        Some(sum) => u64::try_from(sum).map_err(|_| EINVAL),
    }
}

/// Which of the two directory calls is to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DirentLayout {
    /// `getdents64(2)`, call 217.
    Wide,
    /// `getdents(2)`, call 78, whose records have the type in their last byte.
    Old,
}

/// Packs the records of a `getdents` answer into the caller's buffer size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dirents {
    layout: DirentLayout,
    capacity: u64,
    bytes: Vec<u8>,
    position: Option<u64>,
    refused: bool,
}

impl Dirents {
    /// No records yet, for a buffer of `capacity` bytes.
    pub fn new(layout: DirentLayout, capacity: u64) -> Dirents {
        Dirents { layout, capacity, bytes: Vec::new(), position: None, refused: false }
    }

    /// Adds an entry, or says false when it does not fit any more: then the answer is complete. `next` is the
    /// position from which reading goes on behind this entry, `file_mode` the mode (its type bits are enough).
    pub fn push(&mut self, inode: u64, next: u64, file_mode: u32, name: &[u8]) -> bool {
        let kind = ((file_mode & mode::S_IFMT) >> 12) as u8;
        let header = match self.layout {
            DirentLayout::Wide => HEADER_64,
            // One byte more than the header: the type at the end.
            DirentLayout::Old => HEADER_OLD + 1,
        };
        let Some(length) = u16::try_from(name.len()).ok().and_then(|name| {
            u16::try_from((header + u32::from(name) + 1).next_multiple_of(RECORD_ALIGN)).ok()
        }) else {
            return false;
        };
        let end = self.bytes.len() as u64 + u64::from(length);
        if end > self.capacity {
            self.refused = true;
            return false;
        }
        self.bytes.extend(inode.to_le_bytes());
        self.bytes.extend(next.to_le_bytes());
        self.bytes.extend(length.to_le_bytes());
        if self.layout == DirentLayout::Wide {
            self.bytes.push(kind);
        }
        self.bytes.extend(name);
        self.bytes.resize(end as usize, 0);
        if self.layout == DirentLayout::Old
            && let Some(last) = self.bytes.last_mut()
        {
            *last = kind;
        }
        self.position = Some(next);
        true
    }

    /// The records, and the position behind the last one (`None` when there is no record: end of the directory).
    ///
    /// # Errors
    /// `EINVAL` when not even the first entry did fit.
    pub fn finish(self) -> Result<(Vec<u8>, Option<u64>), i32> {
        if self.refused && self.bytes.is_empty() { Err(EINVAL) } else { Ok((self.bytes, self.position)) }
    }
}

#[cfg(test)]
mod tests;
