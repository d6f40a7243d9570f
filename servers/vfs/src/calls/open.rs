//! open(2) and its relatives, chdir(2) and chroot(2).

use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::proto::fs::Operation;

use super::{AT, Args, PLAIN, PathAt};
use crate::how::open_how;
use crate::row::{Purpose, Row, Target};
use crate::walk::Limits;

/// Flags that O_PATH leaves standing.
const PATH_FLAGS: u32 = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

pub(super) fn decode(args: &Args<'_>) -> Result<Row, i32> {
    match args.foreign.number {
        2 => open(args, PLAIN, args.int(1), args.int(2)),
        85 => open(args, PLAIN, O_CREAT | O_WRONLY | O_TRUNC, args.int(1)),
        257 => open(args, AT, args.int(2), args.int(3)),
        437 => {
            let (flags, mode, limits) = open_how(args.input(1), args.word(3))?;
            limited(open(args, AT, flags, mode)?, limits)
        }
        80 => Ok(directory(args, &args.target(PLAIN)?, 1)),
        81 => {
            let at = args.directory(Some((0, 0)))?;
            Ok(directory(args, &Target { at, path: alloc::vec::Vec::new() }, 1))
        }
        _ if args.who.caller.uid != 0 => Err(EPERM),
        _ => Ok(directory(args, &args.target(PLAIN)?, 2)),
    }
}

fn open(args: &Args<'_>, path: PathAt, flags: u32, mode: u32) -> Result<Row, i32> {
    let flags = if flags & O_PATH != 0 { flags & PATH_FLAGS } else { flags };
    // A file without a name is made in a directory, and to be written.
    let nameless = flags & O_TMPFILE & !O_DIRECTORY != 0;
    if nameless && (flags & (O_TMPFILE | O_CREAT) != O_TMPFILE || flags & O_ACCMODE == O_RDONLY) {
        return Err(EINVAL);
    }
    if flags & O_CREAT != 0 && flags & O_DIRECTORY != 0 {
        return Err(EINVAL);
    }
    let target = args.target(path)?;
    if flags & O_CREAT != 0 && target.path.ends_with(b"/") {
        return Err(EISDIR);
    }
    let follow = flags & O_NOFOLLOW == 0 && flags & (O_CREAT | O_EXCL) != O_CREAT | O_EXCL;
    let slot = args.foreign.slots[0];
    let operation = Operation::Open { flags, mode: mode & 0o7777 };
    Ok(args.row(&target, follow, operation, Purpose::Open { flags, slot }))
}

fn limited(mut row: Row, limits: Limits) -> Result<Row, i32> {
    row.walk.limits = limits;
    Ok(row)
}

/// Opens a directory to stand in it; which: 1 working directory, 2 root directory.
fn directory(args: &Args<'_>, target: &Target, which: u8) -> Row {
    let operation = Operation::Open { flags: O_PATH | O_DIRECTORY, mode: 0 };
    args.row(target, true, operation, Purpose::Directory(which))
}
