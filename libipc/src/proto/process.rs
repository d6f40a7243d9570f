//! What vfs, procfs and tty ask of the process server.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Label of a typed [`Request`].
pub const REQUEST: u32 = 0x400;
/// An execve(2) or execveat(2) that vfs has resolved and forwards, the program's call with it. Payload: [`Exec`];
/// handle 0 is the program's file session, handle 1 the interpreter's. The process server reads arguments and
/// environment from the caller.
pub const EXEC: u32 = 0x401;
/// A terminal call by a background process that tty forwards for a decision: word 0: 1 read, 2 write or 3 control;
/// the process server stops the group (the call restarts when it runs again), answers EIO, or forwards the message
/// back as [`super::terminal::PERMITTED`]. Words 1 and 2 and the payload are tty's.
pub const BACKGROUND: u32 = 0x402;
/// A write, or a change of size, that would make a file larger than its caller may (RLIMIT_FSIZE), forwarded by a
/// file server, the program's call with it: the process server raises SIGXFSZ and says EFBIG.
pub const FILE_LIMIT: u32 = 0x407;
/// Asks the host name that sethostname(2) sets. The answer's payload is the name.
pub const HOST_NAME: u32 = 0x403;
/// Asks for the resource limits of a process: words: its id. The answer's payload: soft and hard limit (u64 each) of
/// every resource in the order of Linux's numbers; a nonzero label is an errno.
pub const LIMITS: u32 = 0x404;
/// Asks for the supplementary groups of a process: words: its id. The answer's payload: a u32 each, as many as
/// a message holds; a nonzero label is an errno.
pub const GROUPS: u32 = 0x405;
/// Asks what is behind the descriptors of a process: words: its id, the first number wanted; a directory's of
/// [`crate::abi::syscall::descriptor_slot`] is answered alone. The answer's payload:
/// [`crate::server::env::Descriptor`]s in order, as many as a message holds; a nonzero label is an errno.
pub const DESCRIPTORS: u32 = 0x406;
/// Most descriptors in one answer.
pub const DESCRIPTORS_MAX: usize = 128;
/// Notification bit by which tty says "take my events" ([`super::terminal::TAKE_EVENTS`]).
pub const TERMINAL_BIT: u8 = 0;

/// Most process ids in one answer.
pub const PIDS_MAX: usize = 2000;

/// A program to execute, resolved.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Exec {
    /// Address of argv in the caller.
    pub argv: u64,
    /// Address of envp in the caller.
    pub envp: u64,
    /// Strings that replace argv[0]: for `#!` the interpreter, its optional argument, and the script's path.
    pub prefix: Vec<Vec<u8>>,
    /// The path given, for AT_EXECFN.
    pub filename: Vec<u8>,
    /// The file's path as resolved, for /proc/PID/exe.
    pub path: Vec<u8>,
    /// Server number and object of the program.
    pub file: (u64, u64),
    /// Its first 4096 bytes.
    #[serde(with = "crate::bytes")]
    pub header: Vec<u8>,
    /// ld.so: file, first bytes; handle 1.
    #[serde(with = "crate::bytes::of_file")]
    pub interpreter: Option<((u64, u64), Vec<u8>)>,
    /// Set-user-id and set-group-id ids, if the file has those bits.
    pub set_uid: Option<u32>,
    /// See `set_uid`.
    pub set_gid: Option<u32>,
}

/// What vfs and procfs ask.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "made and taken apart at once, never kept in numbers")]
pub enum Request {
    /// Start the first program: handle 0 its file, 1 the interpreter, last the three directories' and terminal
    /// sessions: handles are [program, interpreter or program again, root directory, terminal]. Descriptors 0, 1 and
    /// 2 become the terminal.
    Spawn {
        /// The resolved program; argv and envp are not used.
        exec: Exec,
        /// Arguments.
        argv: Vec<Vec<u8>>,
        /// Environment.
        env: Vec<Vec<u8>>,
        /// Whether its end turns the machine off with its status.
        exit_on_end: bool,
    },
    /// Process ids from the lowest, as many as one answer holds ([`PIDS_MAX`]). Answer: [`Answer::Pids`].
    Pids,
    /// As [`Request::Pids`], from the first id above this one; for when one answer does not hold them all.
    PidsAfter {
        /// The last id already known.
        pid: u32,
    },
    /// One process. Answer: [`Answer::Process`].
    Process {
        /// Its id.
        pid: u32,
    },
    /// Load averages, counts. Answer: [`Answer::Load`].
    Load,
}

/// Bits of the number of a node of /proc for its kind, and for each id.
pub const KIND_BITS: u32 = 16;
/// See [`KIND_BITS`].
pub const ID_BITS: u32 = 22;
/// The kind of a process's directory.
pub const DIRECTORY_KIND: u16 = 64;

/// The process whose directory in /proc has this node's number: a descriptor for it stands for the process, too.
pub fn of_directory(node: u64) -> Option<u32> {
    let (kind, id) = (node & ((1 << KIND_BITS) - 1), node >> KIND_BITS);
    u32::try_from(id).ok().filter(|_| kind == u64::from(DIRECTORY_KIND))
}

/// A process as /proc/PID/stat and status show it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ProcessInfo {
    /// Process id.
    pub pid: u32,
    /// Parent.
    pub parent: u32,
    /// Group.
    pub pgid: u32,
    /// Session.
    pub sid: u32,
    /// `R`, `S`, `T`, `Z` …
    pub state: u8,
    /// Last component of the program's path, or what PR_SET_NAME said; at most 15 bytes.
    pub name: Vec<u8>,
    /// Full path of the program.
    pub exe: Vec<u8>,
    /// Threads: ids.
    pub threads: Vec<u32>,
    /// Real, effective, saved user ids.
    pub uids: [u32; 3],
    /// Real, effective, saved group ids.
    pub gids: [u32; 3],
    /// Badge of its address space; 0 for a zombie.
    pub space: u64,
    /// User and system time in ns, own and of reaped children.
    pub times: [u64; 4],
    /// Start, ns since boot.
    pub start_ns: u64,
    /// Nice value.
    pub nice: i32,
    /// Controlling terminal's device number, 0 for none.
    pub tty: u32,
    /// Foreground group of that terminal, -1 for none.
    pub foreground: i32,
    /// Pending, blocked, ignored and caught signals.
    pub signals: [u64; 4],
    /// Arguments as given at exec, NUL-terminated each.
    pub command_line: Vec<u8>,
    /// Environment as given at exec.
    pub environment: Vec<u8>,
}

/// The process server's answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "made and taken apart at once, never kept in numbers")]
pub enum Answer {
    /// Done; the first program's pid.
    Spawned(u32),
    /// Ids in order; threads in all; last pid given.
    Pids {
        /// In order.
        pids: Vec<u32>,
    },
    /// One process.
    Process(ProcessInfo),
    /// 1, 5 and 15 minute load in hundredths, running, all threads, last pid.
    Load {
        /// In hundredths.
        averages: [u64; 3],
        /// Threads that want to run.
        running: u32,
        /// All threads.
        threads: u32,
        /// Last process id given out.
        last_pid: u32,
    },
    /// errno.
    Failed(i32),
}
