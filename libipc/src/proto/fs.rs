//! What vfs asks of a file server: a path to walk and one operation on what it names.
//!
//! A file server owns the names below its root. It walks as far as the path stays with it and stops, telling what is
//! left, at a symbolic link, at a covered directory, and above its root; vfs takes it from there. Everything a walk
//! needs comes with the request, so that a file server keeps nothing about mounts.
//!
//! Open files are sessions: Linux calls on descriptors (read, write, lseek, fstat, getdents64, ioctl …) arrive at the
//! file server straight from the program. The file offset is the session's position word, which the kernel keeps and
//! changes with the reply.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::abi::Badge;
use crate::linux::Stat;
use crate::linux::errno::EIO;
use crate::linux::open::O_CLOEXEC;
use crate::server::{ForeignReply, Output};

mod wire;

pub use wire::Asking;

/// Label of a [`Request`]. Words: process and thread id of the program on whose behalf it is (0 for vfs
/// itself). A server of devices (tty) gets it too, for what is behind its open sessions: from [`From::Session`], with
/// an empty path. With a [`Program`] in it, it is that program's own call, forwarded: the file server answers the
/// program, or hands it back ([`HANDED_BACK`]).
pub const REQUEST: u32 = 0x100;
/// A page fault that vm forwards: words: vm's object number, page index, pages wanted at most. The file server reads
/// the data, sends it to vm ([`super::space::Request::Supply`]), and then answers the fault with label 0, or nonzero
/// on EIO.
pub const PAGE_IN: u32 = 0x101;

/// Where a walk begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum From {
    /// At the root of volume number so (a file server may serve several; tmpfs does).
    Root(u32),
    /// At a node by the number the server gave in [`Stop`] or [`Found`].
    Node(u64),
    /// At what is behind an open session of this server.
    Session(Badge),
}

/// On whose behalf: for permission checks and ownership of what is made.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Credentials {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// File mode creation mask.
    pub umask: u32,
    /// Supplementary groups; of the superuser, who may do all, they are left out.
    pub groups: Vec<u32>,
}

/// One request: walk, then do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Where to begin.
    pub from: From,
    /// Relative path, components separated by `/`; empty means the starting point itself. Leading slashes are vfs's
    /// to strip; `.`, repeated and trailing slashes are the file server's to handle (a trailing slash demands a
    /// directory).
    pub path: Vec<u8>,
    /// The node that is the caller's root directory, if it is on this server: `..` there stays there.
    pub barrier: Option<u64>,
    /// Nodes of this server that are covered by mounts: stop there.
    pub covers: Vec<u64>,
    /// Whether a symbolic link as the last component is a stop too (true) or the thing named (false).
    pub follow: bool,
    /// On whose behalf.
    pub credentials: Credentials,
    /// What to do with what the path names.
    pub operation: Operation,
    /// The program whose call this is; none when vfs itself is to be answered.
    pub program: Option<Program>,
}

/// Words of a program's [`Program::ticket`].
pub const TICKET_WORDS: usize = 5;

/// A program that waits for the answer itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// What it wants.
    pub wants: Wants,
    /// What vfs has to know of the walk should it come back: so it keeps nothing meanwhile.
    pub ticket: [u64; TICKET_WORDS],
}

impl Program {
    /// The reply to the program; none when its walk has to go on elsewhere.
    pub fn answer(&self, answer: &Answer) -> Option<ForeignReply> {
        let (result, output) = match (answer, self.wants) {
            (Answer::Stopped(_) | Answer::Found(Found::Device { .. }), _) => return None,
            (Answer::Failed(errno), _) => (-i64::from(*errno), None),
            (Answer::Found(_), Wants::Nothing) => (0, None),
            (Answer::Found(Found::Stat(stat)), Wants::Stat(address)) => {
                (0, Some(Output { address, bytes: stat.to_bytes().to_vec() }))
            }
            (Answer::Found(Found::Stat(stat)), Wants::StatX(address)) => {
                (0, Some(Output { address, bytes: stat.to_statx_bytes().to_vec() }))
            }
            (Answer::Found(_), _) => (-i64::from(EIO), None),
        };
        Some(ForeignReply { result, outputs: output.into_iter().collect(), ..ForeignReply::default() })
    }
}

impl Request {
    /// Whether the descriptor of an open(2) is closed by exec.
    pub fn closes_on_exec(&self) -> bool {
        matches!(self.operation, Operation::Open { flags, .. } if flags & O_CLOEXEC != 0)
    }
}

/// What a program wants of what was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wants {
    /// Result 0, whatever it is.
    Nothing,
    /// `struct stat` at this address.
    Stat(u64),
    /// `struct statx` at this address.
    StatX(u64),
    /// It opened: as this descriptor, which is reserved.
    Descriptor(u32),
}

/// What to do with what a path names. The ones that make or remove a name act on the last component in its directory
/// and do not follow a link there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Operation {
    /// stat(2).
    Stat,
    /// open(2) with Linux's flags (O_CREAT, O_EXCL, O_TRUNC, O_DIRECTORY, O_PATH, O_APPEND …); mode for what is
    /// created, the umask not yet applied. The answer brings the session as handle 0.
    Open {
        /// O_* flags.
        flags: u32,
        /// Mode bits of a new file.
        mode: u32,
    },
    /// access(2): R_OK, W_OK, X_OK bits.
    Access(u32),
    /// readlink(2).
    ReadLink,
    /// mkdir(2).
    MakeDirectory {
        /// Mode bits.
        mode: u32,
    },
    /// mknod(2): type and mode bits, device number.
    MakeNode {
        /// Type and mode bits.
        mode: u32,
        /// Device number of a device node, as Linux encodes it in st_rdev.
        device: u64,
    },
    /// symlink(2).
    MakeSymlink {
        /// What it says.
        target: Vec<u8>,
    },
    /// link(2): a new name for the node (from an earlier [`Operation::Stat`]).
    Link {
        /// The node.
        node: u64,
    },
    /// unlink(2).
    Unlink,
    /// rmdir(2).
    RemoveDirectory,
    /// Resolves the directory of the last component, for the source of a rename: answers [`Found::Parent`].
    Parent,
    /// rename(2): the source is name in the directory node, the path names the destination. flags as renameat2(2).
    Rename {
        /// Directory of the source.
        directory: u64,
        /// Its name there.
        name: Vec<u8>,
        /// RENAME_NOREPLACE, RENAME_EXCHANGE.
        flags: u32,
    },
    /// chmod(2).
    SetMode(u32),
    /// chown(2); None leaves as is.
    SetOwner(Option<u32>, Option<u32>),
    /// utimensat(2): access and modification time in ns of the Epoch; None leaves as is.
    SetTimes(Option<i64>, Option<i64>),
    /// utimensat(2) of both times to now, in ns of the Epoch: whoever may write a file may do this, too.
    Touch(i64),
    /// truncate(2).
    Truncate(u64),
    /// statfs(2).
    StatFs,
    /// The path from the server's root to what is named, without a leading slash: for getcwd(2), and for what is
    /// behind a descriptor. Servers that keep no way up from files know only those of directories: EINVAL.
    PathOf,
}

impl Operation {
    /// Whether it makes, moves or removes a name: then the last component is not entered, whatever it is.
    pub fn is_about_names(&self) -> bool {
        matches!(
            self,
            Operation::MakeDirectory { .. }
                | Operation::MakeNode { .. }
                | Operation::MakeSymlink { .. }
                | Operation::Link { .. }
                | Operation::Unlink
                | Operation::RemoveDirectory
                | Operation::Parent
                | Operation::Rename { .. }
        )
    }
}

/// What the operation found or made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Found {
    /// Done, nothing to tell.
    Done,
    /// Attributes; the node is `stat.ino`.
    Stat(Stat),
    /// Opened: the session is handle 0.
    Opened {
        /// Attributes, for exec and for checks.
        stat: Stat,
        /// It was created just now.
        created: bool,
    },
    /// The path names a device node that the caller may open: vfs opens it at the device's server. For a FIFO, whose
    /// opening may wait for its other end, the same answer lets vfs forward the program with [`OPEN_FIFO`].
    Device {
        /// Attributes; the device is `stat.rdev`.
        stat: Stat,
    },
    /// A symbolic link's text, or a path.
    Text(#[serde(with = "crate::bytes")] Vec<u8>),
    /// Directory node and last component.
    Parent {
        /// The directory.
        directory: u64,
        /// The name in it.
        #[serde(with = "crate::bytes")]
        name: Vec<u8>,
    },
    /// statfs(2).
    StatFs(crate::linux::StatFs),
}

/// Where and why a walk left the server, with what is left of the path (without leading slashes).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Stop {
    /// A symbolic link in the directory node: go on with its target, then the rest.
    Symlink {
        /// The directory in which it stands.
        directory: u64,
        /// Its text.
        #[serde(with = "crate::bytes")]
        target: Vec<u8>,
        /// What follows it.
        #[serde(with = "crate::bytes")]
        rest: Vec<u8>,
    },
    /// A covered directory.
    Covered {
        /// The directory.
        node: u64,
        /// What follows it.
        #[serde(with = "crate::bytes")]
        rest: Vec<u8>,
    },
    /// At a name for what is behind an open session of some server (`/proc/PID/fd/N`): go on there.
    Session {
        /// The server's number.
        server: u32,
        /// The session.
        badge: Badge,
        /// What follows the name.
        #[serde(with = "crate::bytes")]
        rest: Vec<u8>,
    },
    /// Above the root of a volume: what follows the `..`.
    Above {
        /// The volume.
        volume: u32,
        /// What follows the `..`.
        #[serde(with = "crate::bytes")]
        rest: Vec<u8>,
    },
}

/// The answer to a request; errors are Linux errno values, since the file namespace is the POSIX edge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Found(Found),
    /// The walk left the server.
    Stopped(Stop),
    /// It cannot be done: errno.
    Failed(i32),
}

/// Label of a request to open a device node, which vfs sends to the server that has the device: words: device number,
/// O_* flags, caller's pid, caller's sid << 32 | pgid; payload: the [`Stat`] of the node. The answer's handle 0
/// is the session; a nonzero label is an errno.
pub const OPEN_DEVICE: u32 = 0x102;
/// Label of a read for another server's use (exec headers): words: offset, length; needs an open session. The
/// answer's payload is the data, its word 0 what the session was given as its object; a nonzero label is an errno.
pub const READ_AT: u32 = 0x103;
/// A program's open(2) of a FIFO, forwarded with the program's call: words: node, O_* flags, the descriptor reserved.
/// Permission has been checked. The file server answers the program: the session as descriptor, or minus an errno; it
/// sees the cancellation too.
pub const OPEN_FIFO: u32 = 0x104;
/// Makes all that was answered durable: no words. A nonzero label is an errno.
pub const SYNC: u32 = 0x105;
/// A volume is about to be used: words: volume, 1 if nothing on it may be changed. A nonzero label is an errno. Sent
/// only where a request by [`From::Root`] would not do: to make a volume read-only.
pub const MOUNT: u32 = 0x106;
/// A volume is no longer in use and what lives in memory alone may go: words: volume. A nonzero label is an errno:
/// EBUSY while files on it are open.
pub const UNMOUNT: u32 = 0x107;
/// A program's call with the path of a socket in it (bind(2), connect(2), sendto(2), sendmsg(2)) comes back to the file
/// server that has the socket, which forwarded it to vfs as it was: a typed [`SocketPlace`]. It comes through the
/// program's own session, and is answered to the program.
pub const SOCKET_PLACE: u32 = 0x108;

/// The call as it was, and the node that its path names: made for bind(2), looked up for the others.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SocketPlace {
    /// The number of the call.
    pub number: u32,
    /// Its arguments.
    pub arguments: [u64; 6],
    /// The path as it was given.
    pub path: Vec<u8>,
    /// The node's device.
    pub device: u64,
    /// The node's number.
    pub node: u64,
}
/// Every event of a session is to be told with its readiness from now on, also when that is what it was: words: the
/// badge. For programs that wait for events rather than states (EPOLLET).
pub const EDGES: u32 = 0x109;
/// A write for another server's use (sendfile(2)), which never waits: words: offset, where the file has
/// offsets; payload: the bytes; needs an open session. The answer's words: how many were written, and the
/// offset behind them; a nonzero label is an errno: EAGAIN when there is no room, EPIPE when nobody reads.
pub const WRITE_AT: u32 = 0x10a;
/// A program's walk comes back to vfs: the [`Request`], and an [`Answer`] that says why. A file server hands its caller
/// on so where its own part ends: at a [`Stop`], or at a [`Found::Device`].
pub const HANDED_BACK: u32 = 0x10b;
