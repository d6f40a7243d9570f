//! What a name can stand for: files, directories, symbolic links, FIFOs, devices and sockets, with their attributes.

use alloc::{collections::BTreeMap, vec::Vec};
use serde::{Deserialize, Serialize};

use crate::arena::PAGE;
use crate::contents::Contents;
use crate::file::F_SEAL_SEAL;
use libipc::linux::open::{O_ACCMODE, O_PATH, O_RDONLY, O_RUNS};
use libipc::linux::{Stat, mode};
use libipc::server::files;

/// A node's number: st_ino, and its name in the file protocol. Never used twice.
pub type Ino = u64;

/// Volume of nodes that never had a name: pipes, sockets and memfd files.
pub const NOWHERE: u32 = u32::MAX;
/// What a directory entry adds to the size of its directory, as on Linux.
const ENTRY_SIZE: u64 = 20;
/// Directory positions of the first entry that is not `.` or `..`.
const FIRST_COOKIE: u64 = 3;
/// How old a read time may become before a read renews it though nothing was written, as with Linux's relatime.
const READ_TIME_STALE_NS: i64 = 24 * 3600 * 1_000_000_000;

/// Anything with an inode number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    /// The volume it belongs to.
    pub volume: u32,
    /// Type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names it has; a directory counts itself and its subdirectories.
    pub links: u32,
    /// Open sessions.
    pub opens: u32,
    /// How many of them may write.
    pub writers: u32,
    /// How many of them run it: then there are no writers.
    pub runs: u32,
    /// Last access, ns of the Epoch.
    pub atime_ns: i64,
    /// Last change of contents.
    pub mtime_ns: i64,
    /// Last change of anything.
    pub ctime_ns: i64,
    /// The directory and position of the entry it was last given, for telling its path.
    pub place: Option<(Ino, u64)>,
    /// What it is.
    pub body: Body,
}

/// What a node is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Body {
    /// A regular file.
    File(File),
    /// A directory.
    Directory(Directory),
    /// A symbolic link and what it says.
    Symlink(Vec<u8>),
    /// A device node and its number.
    Device(u64),
    /// A FIFO, a pipe, a socket or a counter: what is in it is kept elsewhere.
    Special,
}

/// A regular file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct File {
    /// Its bytes.
    pub contents: Contents,
    /// F_SEAL_* bits.
    pub seals: u32,
    /// It was made without a name (O_TMPFILE) and may be given one.
    pub nameless: bool,
}

impl Default for File {
    /// An empty file that cannot be sealed; only memfd files can.
    fn default() -> File {
        File { contents: Contents::default(), seals: F_SEAL_SEAL, nameless: false }
    }
}

/// The entries of a directory. Each has a position (cookie) that it keeps as long as it exists and that no other
/// entry ever gets, so that reading goes on rightly whatever is made or removed meanwhile.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Directory {
    parent: Ino,
    positions: BTreeMap<Vec<u8>, u64>,
    entries: BTreeMap<u64, (Vec<u8>, Ino)>,
    next_position: u64,
}

impl Directory {
    /// An empty one. The root of a volume is its own parent.
    pub fn new(parent: Ino) -> Directory {
        Directory {
            parent,
            positions: BTreeMap::new(),
            entries: BTreeMap::new(),
            next_position: FIRST_COOKIE,
        }
    }

    /// The directory above it.
    pub fn parent(&self) -> Ino {
        self.parent
    }

    /// Moves it below another directory.
    pub fn set_parent(&mut self, parent: Ino) {
        self.parent = parent;
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The node with this name.
    pub fn get(&self, name: &[u8]) -> Option<Ino> {
        let position = self.positions.get(name)?;
        self.entries.get(position).map(|(_, ino)| *ino)
    }

    /// The name and node at a position.
    pub fn at(&self, position: u64) -> Option<(&[u8], Ino)> {
        self.entries.get(&position).map(|(name, ino)| (name.as_slice(), *ino))
    }

    /// Gives a name to a node; a node that had the name loses it, and its position passes over. Answers the position.
    pub fn put(&mut self, name: &[u8], ino: Ino) -> u64 {
        if let Some(position) = self.positions.get(name) {
            self.entries.insert(*position, (name.to_vec(), ino));
            return *position;
        }
        let position = self.next_position;
        self.next_position += 1;
        self.positions.insert(name.to_vec(), position);
        self.entries.insert(position, (name.to_vec(), ino));
        position
    }

    /// Takes a name away.
    pub fn remove(&mut self, name: &[u8]) -> Option<Ino> {
        let position = self.positions.remove(name)?;
        self.entries.remove(&position).map(|(_, ino)| ino)
    }

    /// The entries behind a position, in order: position, name, node.
    pub fn after(&self, position: u64) -> impl Iterator<Item = (u64, &[u8], Ino)> {
        let from = position.saturating_add(1);
        self.entries.range(from..).map(|(at, (name, ino))| (*at, name.as_slice(), *ino))
    }

    fn size(&self) -> u64 {
        (self.entries.len() as u64 + 2) * ENTRY_SIZE
    }
}

/// Whether an open file may be written.
fn writes(status: u32) -> bool {
    status & O_ACCMODE != O_RDONLY && status & O_PATH == 0
}

impl Node {
    /// One more session is open on it.
    pub fn opened(&mut self, status: u32) {
        self.opens += 1;
        self.writers += u32::from(writes(status));
        self.runs += u32::from(status & O_RUNS != 0);
    }

    /// One session fewer.
    pub fn closed(&mut self, status: u32) {
        self.opens = self.opens.saturating_sub(1);
        self.writers = self.writers.saturating_sub(u32::from(writes(status)));
        self.runs = self.runs.saturating_sub(u32::from(status & O_RUNS != 0));
    }

    /// A node without a name, made now.
    pub fn new(volume: u32, file_mode: u32, owner: (u32, u32), now_ns: i64, body: Body) -> Node {
        Node {
            volume,
            mode: file_mode,
            uid: owner.0,
            gid: owner.1,
            links: 0,
            opens: 0,
            writers: 0,
            runs: 0,
            atime_ns: now_ns,
            mtime_ns: now_ns,
            ctime_ns: now_ns,
            place: None,
            body,
        }
    }

    /// Whether its type is this one (`mode::S_IF…`).
    pub fn is(&self, kind: u32) -> bool {
        self.mode & mode::S_IFMT == kind
    }

    /// It as a directory.
    pub fn directory(&self) -> Option<&Directory> {
        match &self.body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// It as a directory, to be changed.
    pub fn directory_mut(&mut self) -> Option<&mut Directory> {
        match &mut self.body {
            Body::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// It as a regular file.
    pub fn file(&self) -> Option<&File> {
        match &self.body {
            Body::File(file) => Some(file),
            _ => None,
        }
    }

    /// It as a regular file, to be changed.
    pub fn file_mut(&mut self) -> Option<&mut File> {
        match &mut self.body {
            Body::File(file) => Some(file),
            _ => None,
        }
    }

    /// What stat(2) tells of it.
    pub fn stat(&self, ino: Ino, server: u32) -> Stat {
        let (size, pages, rdev) = match &self.body {
            Body::File(file) => (file.contents.size(), file.contents.pages(), 0),
            Body::Directory(directory) => (directory.size(), 0, 0),
            Body::Symlink(target) => (target.len() as u64, 0, 0),
            Body::Device(device) => (0, 0, *device),
            Body::Special => (0, 0, 0),
        };
        Stat {
            dev: files::device_number(server, self.volume),
            ino,
            nlink: u64::from(if self.volume == NOWHERE { 1 } else { self.links }),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            rdev,
            size,
            blksize: PAGE,
            blocks: pages * (PAGE / 512),
            atime_ns: self.atime_ns,
            mtime_ns: self.mtime_ns,
            ctime_ns: self.ctime_ns,
        }
    }

    /// Notes a read, unless the read time is fresh enough.
    pub fn touch_read(&mut self, now_ns: i64) {
        let unread = self.atime_ns <= self.mtime_ns || self.atime_ns <= self.ctime_ns;
        if unread || now_ns - self.atime_ns >= READ_TIME_STALE_NS {
            self.atime_ns = now_ns;
        }
    }

    /// Notes a change of contents.
    pub fn touch_write(&mut self, now_ns: i64) {
        self.mtime_ns = now_ns;
        self.ctime_ns = now_ns;
    }

    /// Takes the set-id bits away when somebody but the superuser changes the contents.
    pub fn drop_privileges(&mut self, uid: u32) {
        if uid != 0 && self.is(mode::S_IFREG) {
            self.mode &= !set_id_bits(self.mode);
        }
    }
}

/// The set-id bits that mean privileges: set-group-id without group execution means mandatory locking, and stays.
pub fn set_id_bits(file_mode: u32) -> u32 {
    let group = if file_mode & 0o010 != 0 { mode::S_ISGID } else { 0 };
    file_mode & (mode::S_ISUID | group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_never_given_twice_and_survives_replacement() {
        let mut directory = Directory::new(1);
        let first = directory.put(b"a", 10);
        assert_eq!(directory.put(b"a", 11), first);
        assert_eq!(directory.remove(b"a"), Some(11));
        assert!(directory.put(b"a", 12) > first);
        assert!(directory.is_empty() == directory.after(0).next().is_none());
    }

    #[test]
    fn reading_behind_a_removed_position_goes_on_with_the_next() {
        let mut directory = Directory::new(1);
        let positions: Vec<u64> =
            [b"a", b"b", b"c"].iter().map(|name| directory.put(name.as_slice(), 9)).collect();
        let _ = directory.remove(b"b");
        let rest: Vec<u64> = directory.after(positions[0]).map(|(at, ..)| at).collect();
        assert_eq!(rest, [positions[2]]);
    }

    #[test]
    fn set_group_id_without_group_execution_is_no_privilege() {
        assert_eq!(set_id_bits(0o2755), 0o2000);
        assert_eq!(set_id_bits(0o2745), 0);
        assert_eq!(set_id_bits(0o4644), 0o4000);
    }
}
