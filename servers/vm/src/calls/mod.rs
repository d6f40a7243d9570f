//! The Linux calls that are vm's: mmap(2) and its relatives. Each checks everything first and then cannot fail, so
//! that a refused call has changed nothing.

mod advice;
mod change;
mod map;
mod remap;

use core::ops::Range;

use libipc::abi::{PAGE_SIZE, Protection};
use libipc::linux::errno::{EFAULT, EINVAL, ENOMEM, ENOSYS};
use libipc::server::{Call, Effects, Foreign, Operation};

use crate::Vm;
use crate::region::Region;
use crate::space::{Memory, Space};
use crate::tables::{MACHINE, ceil, page_of};

/// An errno, as the POSIX edge demands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Errno(i32);

/// Numbers of vm's calls (arch/x86/entry/syscalls/syscall_64.tbl).
mod number {
    pub const MMAP: u32 = 9;
    pub const MPROTECT: u32 = 10;
    pub const MUNMAP: u32 = 11;
    pub const BRK: u32 = 12;
    pub const MREMAP: u32 = 25;
    pub const MSYNC: u32 = 26;
    pub const MINCORE: u32 = 27;
    pub const MADVISE: u32 = 28;
    pub const MLOCK: u32 = 149;
    pub const MUNLOCK: u32 = 150;
    pub const MLOCKALL: u32 = 151;
    pub const MUNLOCKALL: u32 = 152;
    pub const MLOCK2: u32 = 325;
}

/// The caller's space and what its calls may change.
struct Target<'a> {
    space: &'a mut Space,
    memory: &'a mut Memory,
    effects: &'a mut Effects,
    /// The effective user who calls.
    uid: u32,
}

impl Vm {
    /// A program's call about its memory.
    pub(crate) fn linux(&mut self, call: &Call, foreign: &Foreign) -> Effects {
        let mut effects = Effects::none();
        let mut passed = foreign.passed;
        let result = match self.spaces.get_mut(&call.caller.space) {
            Some(space) => {
                let (memory, uid) = (&mut self.memory, call.caller.uid);
                let mut target = Target { space, memory, effects: &mut effects, uid };
                target.serve(call, foreign, &mut passed)
            }
            None => Err(Errno(EFAULT)),
        };
        if let Some(handle) = passed {
            effects.act(Operation::Close { handle });
        }
        effects.result(call.id, result.map_or_else(|Errno(errno)| -i64::from(errno), |value| value as i64));
        effects
    }
}

impl Target<'_> {
    /// Carries a call out. A passed handle that is kept is taken out of `passed`.
    fn serve(
        &mut self,
        call: &Call,
        foreign: &Foreign,
        passed: &mut Option<libipc::abi::Handle>,
    ) -> Result<u64, Errno> {
        let [first, second, third, fourth, fifth, _] = foreign.arguments;
        match foreign.number {
            number::MMAP => self.mmap(call.status, foreign, passed),
            number::MPROTECT => self.mprotect(first, second, third),
            number::MUNMAP => self.munmap(first, second),
            number::BRK => Ok(self.brk(first)),
            number::MREMAP => self.mremap(first, second, third, fourth, fifth),
            number::MSYNC => self.msync(first, second, third),
            number::MINCORE => self.mincore(call.id, first, second, third),
            number::MADVISE => self.madvise(first, second, third),
            number::MLOCK => self.mlock(first, second, true),
            number::MUNLOCK => self.mlock(first, second, false),
            number::MLOCK2 if third & !1 == 0 => self.mlock(first, second, true),
            number::MLOCK2 => Err(Errno(EINVAL)),
            number::MLOCKALL => self.mlockall(first),
            number::MUNLOCKALL => Ok(self.munlockall()),
            _ => Err(Errno(ENOSYS)),
        }
    }

    /// Whether memory for a private region could be found if it were all touched: Linux's heuristic, which refuses
    /// only what can never succeed.
    fn affordable(&self, bytes: u64) -> Result<(), Errno> {
        if page_of(bytes) > u64::from(self.memory.frames.total()) { Err(Errno(ENOMEM)) } else { Ok(()) }
    }
}

/// The pages from an aligned address on that a length covers: EINVAL when the address is not aligned, `overflow` when
/// the end is not an address of a program.
fn range_of(address: u64, length: u64, overflow: i32) -> Result<Range<u64>, Errno> {
    if !address.is_multiple_of(PAGE_SIZE) {
        return Err(Errno(EINVAL));
    }
    let end = ceil(length).and_then(|length| address.checked_add(length));
    match end {
        Some(end) if end <= MACHINE.user_end => Ok(address..end),
        _ => Err(Errno(overflow)),
    }
}

/// The protection that PROT_* bits ask for; nothing when there are others among them.
fn protection_of(bits: u64) -> Option<Protection> {
    /// PROT_SEM, without meaning here.
    const PROT_SEM: u64 = 8;
    u8::try_from(bits & !PROT_SEM).ok().and_then(Protection::from_bits)
}

/// Whether memory must be found for it when it is touched.
fn is_charged(region: &Region) -> bool {
    !region.shared && region.protection.contains(Protection::WRITE)
}

#[cfg(test)]
mod tests;
