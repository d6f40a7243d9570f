//! The Linux calls on sessions: what each comes to on a volume that is only read.

use libipc::linux::call as number;
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::server::files::{DirentLayout, check_readable};
use libipc::server::{Call, Env, Foreign, Refusal};

use super::buffers::Buffers;
use super::listing::List;
use super::node::Node;
use super::reading::Read;
use super::seeking::Seek;
use super::work::Work;

const LOCK_SH: u64 = 1;
const LOCK_EX: u64 = 2;
const LOCK_NB: u64 = 4;
const LOCK_UN: u64 = 8;
/// F_OFD_GETLK: the commands for locks of an open file lie this far above those for locks of a process.
const OFD: u32 = 31;
const F_RDLCK: u16 = 0;
const F_WRLCK: u16 = 1;
const F_UNLCK: u16 = 2;
/// Highest POSIX_FADV_ advice.
const ADVICE_MAX: u64 = 5;

/// What a call comes to.
#[derive(Debug)]
pub(super) enum Decoded {
    /// Done, without a look at the volume.
    Done,
    /// Done; the two bytes go to this address.
    Word(u64, u16),
    /// There is something to look up first.
    Work(Work),
}

/// Takes a call apart.
pub(super) fn decode(call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Result<Decoded, Refusal> {
    // No call comes here that is not about one of our sessions.
    if call.badge.0 == 0 {
        return Err(Refusal::Errno(ENOSYS));
    }
    let node = Node::from_badge(call.badge);
    let [_, first, second, third, ..] = foreign.arguments;
    let is_path = call.status & O_PATH != 0;
    let work = match foreign.number {
        number::FSTAT => Work::Stat { node, address: first },
        number::FSTATFS => Work::StatFs { node, address: first },
        _ if is_path => return Err(Refusal::Errno(EBADF)),
        number::READ | number::PREAD64 | number::READV | number::PREADV => {
            Work::Read(read(call, foreign, env)?)
        }
        number::LSEEK => Work::Seek(Seek::new(node, call.position, first as i64, second)),
        number::GETDENTS => {
            Work::List(List::new(node, DirentLayout::Old, first, length(second), call.position))
        }
        number::GETDENTS64 => {
            Work::List(List::new(node, DirentLayout::Wide, first, length(second), call.position))
        }
        number::FCNTL => return control(call, first as u32, second, env),
        number::FSYNC | number::FDATASYNC | number::SYNCFS => return Ok(Decoded::Done),
        number::READAHEAD => {
            check_readable(call.status)?;
            return Ok(Decoded::Done);
        }
        number::FADVISE64 if third <= ADVICE_MAX => return Ok(Decoded::Done),
        number::FLOCK => return lock(first),
        other => return Err(Refusal::Errno(refuse(other))),
    };
    Ok(Decoded::Work(work))
}

/// The errno of calls that cannot be done whatever the file is.
fn refuse(number: u32) -> i32 {
    match number {
        // No session here is open for writing.
        number::WRITE | number::PWRITE64 | number::WRITEV | number::PWRITEV | number::FALLOCATE => EBADF,
        number::FTRUNCATE | number::FADVISE64 => EINVAL,
        number::FCHMOD | number::FCHOWN => EROFS,
        number::IOCTL => ENOTTY,
        _ => number::misdirected(number).unwrap_or(ENOSYS),
    }
}

/// The length argument of getdents(2), which is an unsigned int.
fn length(argument: u64) -> u64 {
    argument & u64::from(u32::MAX)
}

fn read(call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Result<Read, Refusal> {
    check_readable(call.status)?;
    let positioned = matches!(foreign.number, number::PREAD64 | number::PREADV);
    let offset = if positioned { foreign.arguments[3] } else { call.position };
    if i64::try_from(offset).is_err() {
        return Err(Refusal::Errno(EINVAL));
    }
    let buffers = match foreign.number {
        number::READ | number::PREAD64 => Buffers::one(foreign)?,
        _ => Buffers::vectored(foreign, call.id, env)?,
    };
    Ok(Read::new(Node::from_badge(call.badge), offset, !positioned, buffers))
}

/// flock(2) always succeeds: nobody can change what a lock would protect. Programs that lock each other out by a file
/// on a volume that is only read are not kept apart.
fn lock(operation: u64) -> Result<Decoded, Refusal> {
    match operation & !LOCK_NB {
        LOCK_SH | LOCK_EX | LOCK_UN => Ok(Decoded::Done),
        _ => Err(Refusal::Errno(EINVAL)),
    }
}

/// fcntl(2). Locks of ranges never meet here: to exclude others one must be able to write.
fn control(call: &Call, command: u32, argument: u64, env: &mut dyn Env) -> Result<Decoded, Refusal> {
    const SET_OFD: u32 = F_SETLK + OFD;
    const SETW_OFD: u32 = F_SETLKW + OFD;
    const GET_OFD: u32 = F_GETLK + OFD;
    match command {
        F_SETLK | F_SETLKW | SET_OFD | SETW_OFD => match lock_kind(call, argument, env)? {
            F_RDLCK | F_UNLCK => Ok(Decoded::Done),
            F_WRLCK => Err(Refusal::Errno(EBADF)),
            _ => Err(Refusal::Errno(EINVAL)),
        },
        F_GETLK | GET_OFD => match lock_kind(call, argument, env)? {
            F_RDLCK | F_WRLCK => Ok(Decoded::Word(argument, F_UNLCK)),
            _ => Err(Refusal::Errno(EINVAL)),
        },
        _ => Err(Refusal::Errno(EINVAL)),
    }
}

/// `l_type`, the first field of `struct flock`.
fn lock_kind(call: &Call, address: u64, env: &mut dyn Env) -> Result<u16, Refusal> {
    let bytes = env.read_user(call.id, address, size_of::<u16>() as u32)?;
    bytes.first_chunk().map(|bytes| u16::from_le_bytes(*bytes)).ok_or(Refusal::Errno(EFAULT))
}
