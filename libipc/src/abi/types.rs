//! Names for kernel objects as user code holds them. Each is a plain number that only the kernel can turn into an
//! object; a stale one is an error value.

use bitflags::bitflags;
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes in a page and in a frame, on every machine Naiad runs on.
pub const PAGE_SIZE: u64 = 4096;

/// A slot of the calling task's own capability space. The holder chooses the number, so that a server's handles are
/// a function of its own state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[repr(transparent)]
pub struct Handle(pub u32);

impl Handle {
    /// No handle.
    pub const NONE: Handle = Handle(u32::MAX);
}

/// A call in progress: arena index in the low half, generation in the high half. It is the reply token, and it
/// outlives either side.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[repr(transparent)]
pub struct CallId(pub u64);

/// What a server wrote on a session when it made it; the server's own name for the thing behind it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[repr(transparent)]
pub struct Badge(pub u64);

/// Chosen by the sender of a call; comes back with the answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[repr(transparent)]
pub struct Tag(pub u64);

/// A physical page frame by number: physical address divided by [`PAGE_SIZE`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[repr(transparent)]
pub struct Frame(pub u32);

/// An address in some task's user space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[repr(transparent)]
pub struct UserAddress(pub u64);

bitflags! {
    /// What the holder of a handle may do with the object.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
    pub struct Rights: u8 {
        /// Send calls to it.
        const CALL = 1;
        /// Change, control or destroy it.
        const CONTROL = 2;
        /// Look at its state.
        const INSPECT = 4;
        /// Pass it on to another task.
        const TRANSFER = 8;
        /// Make it fail on purpose.
        const CRASH = 16;
    }
}

bitflags! {
    /// How a page may be accessed. Writable and executable together are refused (W^X).
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
    pub struct Protection: u8 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXECUTE = 4;
    }
}

bitflags! {
    /// What a session is ready for, with the bits of poll(2) so that they need no translation.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
    pub struct Readiness: u32 {
        /// Data can be read (POLLIN).
        const IN = 0x001;
        /// Urgent data (POLLPRI).
        const PRI = 0x002;
        /// Data can be written (POLLOUT).
        const OUT = 0x004;
        /// An error is pending (POLLERR).
        const ERR = 0x008;
        /// The other side is gone (POLLHUP).
        const HUP = 0x010;
        /// Not open (POLLNVAL).
        const NVAL = 0x020;
        /// The other side writes no more (POLLRDHUP).
        const RDHUP = 0x2000;
        /// What it is ready for never changes, as of regular files: there is nothing to wait for. No poll bit.
        const ALWAYS = 0x8000_0000;
    }
}

/// Words of a task that the kernel keeps, attaches to deliveries and answers foreign calls from. Only the holder of
/// the task's handle with [`Rights::CONTROL`] (proc) sets them. First come those that every call brings along.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[repr(u8)]
pub enum TaskWord {
    /// Effective user id.
    EffectiveUid,
    /// Effective group id.
    EffectiveGid,
    /// Process group.
    Pgid,
    /// Session.
    Sid,
    /// How large it may make a file (RLIMIT_FSIZE), plus one, or 0 for no limit: the lower half.
    FileLimitLow,
    /// The upper half.
    FileLimitHigh,
    /// Process id, which Linux calls the thread group id.
    Pid,
    /// The parent's process id.
    ParentPid,
    /// Real user id.
    Uid,
    /// Real group id.
    Gid,
    /// File mode creation mask.
    Umask,
    /// Highest file descriptor the task may have, plus one.
    DescriptorLimit,
}

impl TaskWord {
    /// How many there are.
    pub const COUNT: u32 = 12;

    /// All of them, in order of their numbers.
    pub const ALL: [TaskWord; Self::COUNT as usize] = [
        TaskWord::EffectiveUid,
        TaskWord::EffectiveGid,
        TaskWord::Pgid,
        TaskWord::Sid,
        TaskWord::FileLimitLow,
        TaskWord::FileLimitHigh,
        TaskWord::Pid,
        TaskWord::ParentPid,
        TaskWord::Uid,
        TaskWord::Gid,
        TaskWord::Umask,
        TaskWord::DescriptorLimit,
    ];

    /// The word with this number.
    pub fn from_number(number: u64) -> Option<TaskWord> {
        Self::ALL.iter().copied().find(|word| *word as u64 == number)
    }
}

/// The registers of a thread as a personality server sees and sets them: the general purpose registers of x86_64 in
/// the order of Linux's `struct user_regs_struct`, less the segment selectors.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    Serialize,
    Deserialize,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
#[allow(missing_docs)]
pub struct UserRegisters {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rip: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub fs_base: u64,
    pub gs_base: u64,
}

impl UserRegisters {
    /// All zero.
    pub const ZERO: UserRegisters = zerocopy::transmute!([0u64; size_of::<UserRegisters>() / 8]);
}

/// What a server makes and is charged for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Owned {
    /// Tasks of programs.
    Tasks = 0,
    /// Their threads.
    Threads = 1,
    /// Address spaces.
    Spaces = 2,
    /// Sessions, as long as anybody has one.
    Sessions = 3,
    /// Watches that outlive a call.
    Watches = 4,
    /// Calls it has sent and has not been told the answer of.
    Calls = 5,
}

impl Owned {
    /// All kinds, in order of their numbers.
    pub const ALL: [Owned; 6] =
        [Owned::Tasks, Owned::Threads, Owned::Spaces, Owned::Sessions, Owned::Watches, Owned::Calls];

    /// The one with this number.
    pub fn from_number(number: u64) -> Option<Owned> {
        Owned::ALL.into_iter().find(|kind| *kind as u64 == number)
    }
}
