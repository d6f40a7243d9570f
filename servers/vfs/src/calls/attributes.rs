//! Calls that look at what a path names, and calls that change its attributes.

use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::proto::fs::Operation;

use super::{AT, Args, PLAIN, PathAt, check_flags, follows};
use crate::row::{Purpose, Row};
use crate::times::{self, Unit};

const AT_NO_AUTOMOUNT: u32 = 0x800;
const AT_STATX_SYNC_TYPE: u32 = 0x6000;
const STATX_RESERVED: u32 = 0x8000_0000;
/// The first of the calls on extended attributes.
const SETXATTR: u32 = 188;

pub(super) fn look(args: &Args<'_>) -> Result<Row, i32> {
    match args.foreign.number {
        4 => args.walk(PLAIN, true, Operation::Stat, Purpose::Stat(args.word(1))),
        6 => args.walk(PLAIN, false, Operation::Stat, Purpose::Stat(args.word(1))),
        262 => stat(args, args.word(3), 0, Purpose::Stat(args.word(2))),
        332 => {
            let sync = args.int(2) & AT_STATX_SYNC_TYPE;
            if args.int(3) & STATX_RESERVED != 0 || sync == AT_STATX_SYNC_TYPE {
                return Err(EINVAL);
            }
            stat(args, args.word(2), AT_STATX_SYNC_TYPE, Purpose::StatX(args.word(4)))
        }
        21 => access(args, PLAIN, args.int(1), 0),
        269 => access(args, AT, args.int(2), 0),
        439 => access(args, AT, args.int(2), args.word(3)),
        89 => read_link(args, PLAIN, args.word(1), args.int(2)),
        267 => read_link(args, PathAt { may_be_empty: true, ..AT }, args.word(2), args.int(3)),
        76 => {
            let length = u64::try_from(args.word(1) as i64).map_err(|_| EINVAL)?;
            args.walk(PLAIN, true, Operation::Truncate(length), Purpose::Nothing)
        }
        _ => args.walk(PLAIN, true, Operation::StatFs, Purpose::StatFs(args.word(1))),
    }
}

/// Extended attributes: no file has any, nor can it be given one.
pub(super) fn extended(args: &Args<'_>) -> Result<Row, i32> {
    // Set, get, list and remove come one behind the other, each by a path, by that of a link itself, by a descriptor.
    let index = args.foreign.number.saturating_sub(SETXATTR);
    let purpose = if index / 3 == 2 { Purpose::Nothing } else { Purpose::Unsupported };
    let path = if index % 3 == 2 { PathAt { may_be_empty: true, ..AT } } else { PLAIN };
    args.walk(path, index % 3 != 1, Operation::Stat, purpose)
}

fn stat(args: &Args<'_>, flags: u64, known: u32, purpose: Purpose) -> Result<Row, i32> {
    check_flags(flags, known | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT)?;
    args.walk(AT.flags(flags), follows(flags), Operation::Stat, purpose)
}

/// access(2) asks for the effective ids, which is what AT_EACCESS says: the kernel attaches no others.
fn access(args: &Args<'_>, path: PathAt, wanted: u32, flags: u64) -> Result<Row, i32> {
    check_flags(flags, AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    if wanted & !7 != 0 {
        return Err(EINVAL);
    }
    args.walk(path.flags(flags), follows(flags), Operation::Access(wanted), Purpose::Nothing)
}

fn read_link(args: &Args<'_>, path: PathAt, address: u64, size: u32) -> Result<Row, i32> {
    let size = u64::try_from(size as i32).ok().filter(|size| *size > 0).ok_or(EINVAL)?;
    args.walk(path, false, Operation::ReadLink, Purpose::ReadLink { address, size })
}

pub(super) fn change(args: &Args<'_>) -> Result<Option<Row>, i32> {
    match args.foreign.number {
        90 => set_mode(args, PLAIN, args.int(1), 0),
        268 => set_mode(args, AT, args.int(2), 0),
        452 => set_mode(args, AT, args.int(2), args.word(3)),
        92 => set_owner(args, PLAIN, [args.int(1), args.int(2)], 0),
        94 => set_owner(args, PLAIN, [args.int(1), args.int(2)], u64::from(AT_SYMLINK_NOFOLLOW)),
        260 => set_owner(args, AT, [args.int(2), args.int(3)], args.word(4)),
        132 => set_times(args, PLAIN, 0, Some(times::whole_seconds(args.input(1), args.now_ns)?)),
        235 => set_times(args, PLAIN, 0, times::pair(args.input(1), Unit::Microseconds, args.now_ns)?),
        261 => set_times(
            args,
            file_itself(args),
            0,
            times::pair(args.input(1), Unit::Microseconds, args.now_ns)?,
        ),
        _ => {
            let operation = times::pair(args.input(1), Unit::Nanoseconds, args.now_ns)?;
            set_times(args, file_itself(args), args.word(3), operation)
        }
    }
}

/// utimensat(2) and futimesat(2) with a null path change what the descriptor names.
fn file_itself(args: &Args<'_>) -> PathAt {
    let descriptor = args.int(0) as i32 != AT_FDCWD;
    PathAt { may_be_empty: args.input(0).is_none() && descriptor, ..AT }
}

fn set_mode(args: &Args<'_>, path: PathAt, mode: u32, flags: u64) -> Result<Option<Row>, i32> {
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let operation = Operation::SetMode(mode & 0o7777);
    args.walk(path.flags(flags), follows(flags), operation, Purpose::Nothing).map(Some)
}

fn set_owner(args: &Args<'_>, path: PathAt, ids: [u32; 2], flags: u64) -> Result<Option<Row>, i32> {
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let [uid, gid] = ids.map(|id| (id != u32::MAX).then_some(id));
    let operation = Operation::SetOwner(uid, gid);
    args.walk(path.flags(flags), follows(flags), operation, Purpose::Nothing).map(Some)
}

fn set_times(
    args: &Args<'_>,
    path: PathAt,
    flags: u64,
    operation: Option<Operation>,
) -> Result<Option<Row>, i32> {
    check_flags(flags, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)?;
    let Some(operation) = operation else { return Ok(None) };
    let may_be_empty = path.may_be_empty || flags & u64::from(AT_EMPTY_PATH) != 0;
    args.walk(PathAt { may_be_empty, ..path }, follows(flags), operation, Purpose::Nothing).map(Some)
}
