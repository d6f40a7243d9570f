//! What the process server and the file servers ask of vm, and how vm hands faults on.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::abi::Frame;

/// Label of a typed [`Request`].
pub const REQUEST: u32 = 0x300;
/// A fault vm cannot resolve, forwarded to the process server: words: signal number, si_code, address.
/// The thread waits; the answer (label 0) lets it go on where its registers then say.
pub const SIGNAL: u32 = 0x301;

/// What proc and the file servers ask.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Request {
    /// A copy-on-write copy of a space. Answer: [`Answer::Space`] with the handle.
    Fork {
        /// The space's badge.
        space: u64,
    },
    /// A new space from an image. Answer: [`Answer::Image`]; handle 0 is the space. The message carries handle 0: the
    /// program's file session, and handle 1: the interpreter's, if there is one. When arguments and environment do
    /// not fit into the message, word 0 is the key of earlier [`Request::Strings`], and `strings` is empty.
    Build(Build),
    /// No task uses the space any more.
    Destroy {
        /// The space's badge.
        space: u64,
    },
    /// A file server brings pages of a mapped file: `data` begins at page `page` of vm's object; a short last page is
    /// zero-filled, and pages that are wholly missing lie beyond the end of the file.
    Supply {
        /// vm's number for the object, from [`super::fs::PAGE_IN`].
        object: u64,
        /// Index of the first page.
        page: u64,
        /// The bytes.
        #[serde(with = "crate::bytes")]
        data: Vec<u8>,
    },
    /// A file server lends pages of a mapped file: they are shown where they lie in its arena, so that mappings and
    /// calls see the same bytes. They are its again when [`Request::Invalidate`] of them has been answered, or when
    /// vm has let go of the file's session.
    Lend {
        /// vm's number for the object, from [`super::fs::PAGE_IN`].
        object: u64,
        /// Index of the first page.
        page: u64,
        /// The frames of this one and those that follow.
        frames: Vec<Frame>,
    },
    /// What `/proc/PID/maps` and `stat` show of a space. Answer: [`Answer::Regions`]. Word 0: regions that end at or
    /// below this address are left out; an answer holds as many as fit, so one asks again from the last end until
    /// none come.
    Regions {
        /// The space's badge.
        space: u64,
    },
    /// Memory of the whole machine. Answer: [`Answer::Memory`].
    Memory,
    /// A file server says that pages of a file have changed or are gone (write(2), truncate(2)): vm forgets what it
    /// has of them, and asks again when they are touched. A server needs to say so only for files it has supplied
    /// pages of.
    Invalidate {
        /// Server number and object of the file.
        file: (u64, u64),
        /// Index of the first page.
        page: u64,
        /// How many; `u64::MAX` for all that follow.
        pages: u64,
    },
    /// What a word of memory is, for those that wait for it to change. Answer: [`Answer::Place`].
    Place {
        /// The space's badge.
        space: u64,
        /// The word's address.
        address: u64,
    },
    /// What a process may use of memory, from now on.
    Limits {
        /// The space's badge.
        space: u64,
        /// The limits.
        limits: Limits,
    },
    /// Writes a few bytes for a tracer, whatever the protection of their pages. [`Answer::Failed`] with EAGAIN when a
    /// page is not there: it is touched, and one asks again.
    Poke {
        /// The space's badge.
        space: u64,
        /// Where.
        address: u64,
        /// What: no more than a page.
        bytes: Vec<u8>,
    },
    /// A part of the arguments and environment of a [`Request::Build`] to come: NUL-terminated strings, which a part
    /// may begin and end in the middle of. No arguments come after the environment has begun. An empty part forgets
    /// the key, for an exec that ended before its time; so does vm itself when it answers that it failed.
    Strings {
        /// Chosen by the process server at random; not 0.
        key: u64,
        /// Of the arguments.
        #[serde(with = "crate::bytes")]
        arguments: Vec<u8>,
        /// Of the environment.
        #[serde(with = "crate::bytes")]
        environment: Vec<u8>,
    },
}

/// What a process may use of memory, in bytes: soft limits of setrlimit(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Limits {
    /// RLIMIT_AS: all that is mapped.
    pub address_space: u64,
    /// RLIMIT_DATA: private memory that can be written.
    pub data: u64,
    /// RLIMIT_STACK: the first thread's stack.
    pub stack: u64,
    /// RLIMIT_MEMLOCK: what is locked; for the superuser it counts for nothing.
    pub locked: u64,
}

impl Default for Limits {
    /// Those of the first process.
    fn default() -> Limits {
        Limits { address_space: u64::MAX, data: u64::MAX, stack: 8 << 20, locked: 8 << 20 }
    }
}

/// A program to build a space for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Build {
    /// The program's file, as a cache key: server number and object.
    pub file: (u64, u64),
    /// The first 4096 bytes (or fewer, if shorter) of the program.
    #[serde(with = "crate::bytes")]
    pub header: Vec<u8>,
    /// The interpreter's (ld.so) file and first bytes, if the program names one.
    #[serde(with = "crate::bytes::of_file")]
    pub interpreter: Option<((u64, u64), Vec<u8>)>,
    /// Arguments and environment, as NUL-terminated strings one after the other: counts, then bytes.
    pub argc: u32,
    /// Count of environment strings.
    pub envc: u32,
    /// The strings.
    #[serde(with = "crate::bytes")]
    pub strings: Vec<u8>,
    /// The path given to exec, for AT_EXECFN.
    pub filename: Vec<u8>,
    /// AT_UID, AT_EUID, AT_GID, AT_EGID.
    pub ids: [u32; 4],
    /// AT_SECURE.
    pub secure: bool,
    /// Bytes for AT_RANDOM.
    pub random: [u8; 16],
    /// What it may use of memory.
    pub limits: Limits,
}

/// One mapping as /proc/PID/maps shows it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RegionInfo {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// [`crate::abi::Protection`] bits.
    pub protection: u8,
    /// MAP_SHARED.
    pub shared: bool,
    /// Offset in the file.
    pub offset: u64,
    /// Server number and object of a mapped file.
    pub file: Option<(u64, u64)>,
    /// `[heap]`, `[stack]`, `[vdso]` or nothing.
    pub name: Vec<u8>,
}

/// vm's answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Done.
    Done,
    /// The new space's badge; handle 0 is the space.
    Space {
        /// Its badge.
        space: u64,
    },
    /// A program is ready to run; handle 0 is the space.
    Image {
        /// The space's badge.
        space: u64,
        /// Where it starts.
        entry: u64,
        /// Its stack pointer.
        stack: u64,
        /// Where the shared object is that every program has; 0 when there is none.
        vdso: u64,
    },
    /// The mappings of a space, its resident pages.
    Regions {
        /// In order of addresses.
        regions: Vec<RegionInfo>,
        /// Pages present.
        resident_pages: u64,
        /// Start and end of code; bottom of the stack; start of the break and the break.
        marks: [u64; 5],
        /// Where arguments and environment strings lie: start and end of each.
        strings: [u64; 4],
    },
    /// Frames in all, free, of file pages.
    Memory {
        /// All frames that programs can have.
        total: u64,
        /// Free ones.
        free: u64,
        /// Holding file pages that could be read again.
        cached: u64,
    },
    /// A word: the number of the shared object it is in, and where; 0 for a space's own memory.
    Place {
        /// vm's number of the object.
        object: u64,
        /// Bytes from its start.
        offset: u64,
    },
    /// It cannot be done: errno (ENOMEM, ENOEXEC …).
    Failed(i32),
}
