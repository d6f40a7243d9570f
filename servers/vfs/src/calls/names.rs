//! Calls that make, move and remove names.

use libipc::linux::errno::*;
use libipc::linux::mode;
use libipc::linux::open::*;
use libipc::proto::fs::Operation;

use super::{AT, Args, PLAIN, PathAt, SECOND, check_flags};
use crate::row::{Purpose, Row, Second};

/// The second path of linkat(2) and renameat(2), from the directory in the third argument.
const AT_SECOND: PathAt = PathAt { descriptor: Some((2, 1)), ..SECOND };
/// The path of symlinkat(2), from the directory in the second argument.
const AT_LINK: PathAt = PathAt { descriptor: Some((1, 0)), ..SECOND };
/// RENAME_WHITEOUT, which only overlay file systems know.
const RENAME_KNOWN: u32 = RENAME_NOREPLACE | RENAME_EXCHANGE;

pub(super) fn decode(args: &Args<'_>) -> Result<Row, i32> {
    match args.foreign.number {
        82 => rename(args, PLAIN, SECOND, 0),
        264 => rename(args, AT, AT_SECOND, 0),
        316 => rename(args, AT, AT_SECOND, args.int(4)),
        83 => make_directory(args, PLAIN, args.int(1)),
        258 => make_directory(args, AT, args.int(2)),
        84 => remove(args, PLAIN, Operation::RemoveDirectory),
        87 => remove(args, PLAIN, Operation::Unlink),
        263 => {
            check_flags(args.word(2), AT_REMOVEDIR)?;
            let directory = args.int(2) & AT_REMOVEDIR != 0;
            remove(args, AT, if directory { Operation::RemoveDirectory } else { Operation::Unlink })
        }
        86 => link(args, PLAIN, SECOND, 0),
        265 => link(args, AT, AT_SECOND, args.word(4)),
        88 => make_link(args, SECOND),
        266 => make_link(args, AT_LINK),
        133 => make_node(args, PLAIN, args.int(1), args.word(2)),
        _ => make_node(args, AT, args.int(2), args.word(3)),
    }
}

fn rename(args: &Args<'_>, from: PathAt, to: PathAt, flags: u32) -> Result<Row, i32> {
    if flags & !RENAME_KNOWN != 0 || flags == RENAME_KNOWN {
        return Err(EINVAL);
    }
    let second = Second { to: args.target(to)?, rename: Some(flags) };
    args.walk(from, false, Operation::Parent, Purpose::Source(second))
}

fn link(args: &Args<'_>, from: PathAt, to: PathAt, flags: u64) -> Result<Row, i32> {
    check_flags(flags, AT_SYMLINK_FOLLOW | AT_EMPTY_PATH)?;
    let from = from.flags(flags);
    if from.may_be_empty && args.who.caller.uid != 0 {
        return Err(ENOENT);
    }
    let second = Second { to: args.target(to)?, rename: None };
    let follow = flags & u64::from(AT_SYMLINK_FOLLOW) != 0;
    args.walk(from, follow, Operation::Stat, Purpose::Source(second))
}

fn make_directory(args: &Args<'_>, path: PathAt, mode: u32) -> Result<Row, i32> {
    args.walk(path, false, Operation::MakeDirectory { mode: mode & 0o1777 }, Purpose::Nothing)
}

fn remove(args: &Args<'_>, path: PathAt, operation: Operation) -> Result<Row, i32> {
    args.walk(path, false, operation, Purpose::Nothing)
}

fn make_link(args: &Args<'_>, path: PathAt) -> Result<Row, i32> {
    let target = match args.input(0) {
        None => return Err(EFAULT),
        Some([]) => return Err(ENOENT),
        Some(target) => target.to_vec(),
    };
    args.walk(path, false, Operation::MakeSymlink { target }, Purpose::Nothing)
}

fn make_node(args: &Args<'_>, path: PathAt, node_mode: u32, device: u64) -> Result<Row, i32> {
    let kind = match node_mode & mode::S_IFMT {
        0 => mode::S_IFREG,
        mode::S_IFDIR => return Err(EPERM),
        mode::S_IFCHR | mode::S_IFBLK if args.who.caller.uid != 0 => return Err(EPERM),
        kind @ (mode::S_IFREG | mode::S_IFCHR | mode::S_IFBLK | mode::S_IFIFO | mode::S_IFSOCK) => kind,
        _ => return Err(EINVAL),
    };
    let is_device = matches!(kind, mode::S_IFCHR | mode::S_IFBLK);
    let device = if is_device { device & 0xffff_ffff } else { 0 };
    args.walk(path, false, Operation::MakeNode { mode: kind | node_mode & 0o7777, device }, Purpose::Nothing)
}
