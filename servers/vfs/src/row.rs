//! A continuation: what remains to be done for one call while another server works on it.

use alloc::{boxed::Box, string::String, vec::Vec};

use libipc::abi::{CallId, Handle};
use libipc::proto::fs::Found;
use libipc::proto::process::Exec;
use serde::{Deserialize, Serialize};

use crate::mounts::Covered;
use crate::walk::Walk;
use crate::who::{Place, Who};

/// One call under way, kept under the tag of the question that was sent for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Row {
    /// The program's call; none for what vfs does on its own at start.
    pub call: Option<CallId>,
    /// On whose behalf.
    pub who: Who,
    /// The walk that the question belongs to.
    pub walk: Walk,
    /// What kind of answer comes.
    pub expects: Expects,
    /// What to do with it.
    pub purpose: Purpose,
}

/// The kind of answer a row waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Expects {
    /// Attributes of the caller's root directory; then the walk goes on.
    RootNode,
    /// What the walk found.
    Found,
    /// The session of a device.
    Session,
    /// The bytes of a file.
    Bytes,
    /// Done or an error, no more.
    Label,
}

/// A good answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The walk has come to its end.
    Found(Found),
    /// A device is open; or it is done, without more to tell.
    Done,
    /// Bytes of a file, and the object behind its session.
    Bytes(u64, Vec<u8>),
}

/// A path as a call names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Target {
    /// Where it begins.
    pub at: Place,
    /// The path, without leading slashes.
    pub path: Vec<u8>,
}

/// What a row is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Purpose {
    /// Result 0, whatever was found.
    Nothing,
    /// `struct stat` to this address.
    Stat(u64),
    /// `struct statx` to this address.
    StatX(u64),
    /// `struct statfs` to this address.
    StatFs(u64),
    /// The link's text to a buffer.
    ReadLink {
        /// Where the buffer lies.
        address: u64,
        /// Its size in bytes.
        size: u64,
    },
    /// A descriptor.
    Open {
        /// O_* flags.
        flags: u32,
        /// The descriptor reserved for it.
        slot: u32,
    },
    /// The caller's working directory (1) or root directory (2).
    Directory(u8),
    /// The first half of link(2) or rename(2).
    Source(Second),
    /// The second half.
    Destination,
    /// The absolute path of a directory.
    Locate(Box<Locate>),
    /// A program to execute.
    Exec(Box<Program>),
    /// A volume to mount.
    Mount(Box<Mounting>),
    /// A mount to be taken away.
    Unmount(Option<(u32, u32)>),
    /// The first program is resolved and wants its directory and terminal.
    Spawn(Box<Spawn>),
    /// proc has the first program.
    Spawned,
    /// A socket's name: the program goes back with the node to the server that has the socket.
    Socket(Box<Named>),
    /// File servers that are still to write their volumes back.
    Sync(Vec<Handle>),
    /// EOPNOTSUPP, whatever was found.
    Unsupported,
}

/// The second half of a call with two paths.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Second {
    /// Where the new name goes.
    pub to: Target,
    /// Flags of renameat2(2); none for link(2).
    pub rename: Option<u32>,
}

/// A call with a socket's name in it, as it came.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Named {
    /// Its number.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// The name.
    pub path: Vec<u8>,
}

/// A search for the absolute path of a directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Locate {
    /// The path of its volume's mount point, once the volume is known; `Some(None)` when it is not mounted any more.
    pub mount_point: Option<Option<Vec<u8>>>,
    /// What the path is wanted for.
    pub wanted: Wanted,
}

/// What an absolute path is wanted for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Wanted {
    /// getcwd(2).
    Cwd {
        /// The caller's buffer.
        address: u64,
        /// Its size.
        size: u64,
        /// The working directory's path, when the one sought is the root directory's.
        cwd: Option<Vec<u8>>,
    },
    /// readlink(2) of a name for an open file.
    ReadLink {
        /// The caller's buffer.
        address: u64,
        /// Its size.
        size: u64,
        /// The file's inode number, once it is known.
        inode: u64,
    },
    /// Where the walk to a program begins.
    Exec(Box<Program>, Target),
    /// Where a volume is to be mounted.
    Mount(Box<Mounting>),
}

/// How far the search for a program has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ExecStage {
    /// The program, or an interpreter of scripts.
    Program,
    /// The path of its dynamic linker, when it does not stand in the first bytes.
    LinkerPath,
    /// Its dynamic linker.
    Linker,
}

/// An exec under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Program {
    /// What proc will be told.
    pub exec: Exec,
    /// How far it is.
    pub stage: ExecStage,
    /// Interpreters of scripts so far.
    pub level: u32,
    /// Inode number of the file being looked at.
    pub inode: u64,
    /// The file being looked at, once it is open.
    pub file: Option<Handle>,
    /// The program's file, once the linker is being looked for.
    pub program: Option<Handle>,
}

/// A mount under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mounting {
    /// How far it is.
    pub stage: MountStage,
    /// What is mounted.
    pub source: Vec<u8>,
    /// The file system's type.
    pub kind: String,
    /// Nothing on it may be changed.
    pub read_only: bool,
    /// The volume: server and number.
    pub volume: (u32, u32),
    /// The volume's root directory, once it is known.
    pub root: u64,
    /// The mount point, once it is known.
    pub covered: Option<Covered>,
    /// The mount point as named.
    pub target: Target,
    /// Its absolute path, given at start.
    pub at: Option<Vec<u8>>,
}

/// How far a mount has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum MountStage {
    /// The volume is being made read-only.
    Prepare,
    /// Its root directory is asked for.
    Root,
    /// The mount point is asked for.
    Point,
    /// The mount point was not there and is being made (at start only).
    Make,
    /// It was made, and is asked for again.
    Made,
}

/// The first program, before it is handed to proc.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Spawn {
    /// The program.
    pub exec: Exec,
    /// The program's file, its linker's (or the program's again), then the root directory.
    pub handles: Vec<Handle>,
}

impl Row {
    /// The handles that a row holds, to be given back when it ends early.
    pub fn handles(&self) -> Vec<Handle> {
        match &self.purpose {
            Purpose::Exec(program) => program.file.into_iter().chain(program.program).collect(),
            Purpose::Spawn(spawn) => spawn.handles.clone(),
            _ => Vec::new(),
        }
    }
}
