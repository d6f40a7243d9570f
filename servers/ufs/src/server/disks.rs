//! The disks and the volumes on them, as far as they are known.
//!
//! Everything here is a copy of what the disks say, made when it is first needed and let go at any time. A [`Site`]
//! is one volume while a call looks at it; what it needs and does not have ends the look with [`Stall::Missing`].

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::mem;

use libipc::linux::errno::*;
use libipc::proto::block::BlockError;

use super::fetch::{DISK_SECTORS_MAX, Want, over_all};
use super::node::Node;
use super::recent::Recent;
use crate::blocks::{Blocks, Extent, Miss};
use crate::cache::Cache;
use crate::directory::Search;
use crate::error::Error;
use crate::inode::{Inode, InodeNumber};
use crate::read::Piece;
use crate::volume::Volume;

/// Disks are numbered below this, as a node's number and `st_dev` demand.
const DISKS_MAX: u32 = 256;
/// Inodes remembered, in a generation: some 300 bytes each.
const INODES_MAX: u32 = 512;
/// Names remembered, in a generation: some 100 bytes each.
const NAMES_MAX: u32 = 2048;
/// How often a disk may be complained of in the log.
const COMPLAINTS_MAX: u32 = 8;
/// A file's data is fetched by windows of this many bytes, on their boundaries in the file, so that what is near a
/// byte that is read is there too, and the extents fetched are the same whatever part of the window is read.
pub(super) const WINDOW_BYTES: u64 = 65536;
/// How far ahead in the range that a call reads its data is fetched.
const AHEAD_BYTES: u64 = 4 * WINDOW_BYTES;

/// Why a call cannot go on now.
#[derive(Debug)]
pub(super) enum Stall {
    /// It never will: errno.
    Errno(i32),
    /// Something has to be fetched first.
    Missing {
        /// Without this it is of no use to try again.
        want: Want,
        /// What will be missed next.
        ahead: Vec<Want>,
    },
}

impl From<i32> for Stall {
    fn from(errno: i32) -> Self {
        Stall::Errno(errno)
    }
}

impl From<Want> for Stall {
    fn from(want: Want) -> Self {
        Stall::Missing { want, ahead: Vec::new() }
    }
}

/// The cached sectors of one disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    cache: &'a Cache,
    disk: u32,
}

impl Blocks for View<'_> {
    fn get(&self, extent: Extent) -> Result<&[u8], Miss> {
        self.cache.get(over_all(self.disk, extent)).map_err(|_| Miss(extent))
    }
}

/// What a directory has under a name.
#[derive(Debug)]
struct Name {
    name: Box<[u8]>,
    number: Option<InodeNumber>,
}

/// What is known of a disk.
#[derive(Debug)]
enum Disk {
    /// How many sectors it has.
    Sized(u64),
    /// The volume on it.
    Mounted(Box<Volume>),
    /// No volume can be had from it: errno.
    Refused(i32),
}

/// What was found out about files, on all volumes.
#[derive(Debug)]
struct Memory {
    inodes: Recent<Node, Rc<Inode>>,
    /// Directory entries, and names that a directory does not have, by directory and the name's hash.
    names: Recent<(Node, u64), Name>,
}

/// All disks.
#[derive(Debug)]
pub(super) struct Disks {
    cache: Cache,
    memory: Memory,
    disks: BTreeMap<u32, Disk>,
    complaints: Complaints,
}

impl Disks {
    /// Nothing is known, and the cache may grow to so many bytes.
    pub fn new(budget_bytes: u64) -> Self {
        Self {
            cache: Cache::new(budget_bytes),
            memory: Memory { inodes: Recent::new(INODES_MAX), names: Recent::new(NAMES_MAX) },
            disks: BTreeMap::new(),
            complaints: Complaints::default(),
        }
    }

    /// The volume on a disk.
    pub fn site(&mut self, disk: u32) -> Result<Site<'_>, Stall> {
        if disk >= DISKS_MAX {
            return Err(Stall::Errno(ENXIO));
        }
        if let Some(Disk::Sized(sectors)) = self.disks.get(&disk) {
            let sectors = *sectors;
            self.mount(disk, sectors)?;
        }
        match self.disks.get(&disk) {
            Some(Disk::Mounted(volume)) => {
                let view = View { cache: &self.cache, disk };
                Ok(Site { disk, view, volume, memory: &mut self.memory, complaints: &mut self.complaints })
            }
            Some(Disk::Refused(errno)) => Err(Stall::Errno(*errno)),
            Some(Disk::Sized(_)) | None => Err(Want::Capacity(disk).into()),
        }
    }

    /// The inode of a node, and the volume it is on.
    pub fn find(&mut self, node: Node) -> Result<(Site<'_>, Rc<Inode>), Stall> {
        let mut site = self.site(node.disk)?;
        let inode = site.inode(node.inode)?;
        Ok((site, inode))
    }

    fn mount(&mut self, disk: u32, sectors: u64) -> Result<(), Stall> {
        let view = View { cache: &self.cache, disk };
        let known = match Volume::mount(&view, sectors) {
            Ok(volume) => Disk::Mounted(Box::new(volume)),
            Err(Error::Miss(Miss(extent))) => return Err(Want::Sectors(over_all(disk, extent)).into()),
            Err(error) => {
                self.complaints.add(disk, &error);
                Disk::Refused(if error == Error::NotUfs { EINVAL } else { EIO })
            }
        };
        self.disks.insert(disk, known);
        Ok(())
    }

    /// Takes in what was fetched, or that it cannot be had.
    pub fn fetched(&mut self, want: Want, outcome: Result<(Vec<u8>, u64), BlockError>) -> Result<(), i32> {
        let disk = want.disk();
        match (want, outcome) {
            (Want::Capacity(_), Ok((_, sectors))) => {
                self.disks.insert(disk, Disk::Sized(sectors.min(DISK_SECTORS_MAX)));
            }
            (Want::Sectors(extent), Ok((bytes, _))) => {
                self.cache.fill(extent, bytes.into()).map_err(|_| EIO)?;
            }
            (Want::Capacity(_), Err(BlockError::NoSuchDisk)) => return Err(ENXIO),
            (_, Err(_)) => {
                self.complaints.add(disk, &"the disk reports an error");
                return Err(EIO);
            }
        }
        Ok(())
    }

    /// Forgets what a disk is, so that it is looked at anew when it is next used.
    pub fn forget(&mut self, disk: u32) {
        self.disks.remove(&disk);
    }

    /// What there is to complain of, for the log; it is told once.
    pub fn take_complaints(&mut self) -> Vec<String> {
        mem::take(&mut self.complaints.lines)
    }
}

/// What is wrong with disks and volumes, in words. A damaged volume must not flood the log.
#[derive(Debug, Default)]
struct Complaints {
    lines: Vec<String>,
    counts: BTreeMap<u32, u32>,
}

impl Complaints {
    fn add(&mut self, disk: u32, what: &dyn fmt::Display) {
        let count = self.counts.entry(disk).or_default();
        *count += 1;
        match *count {
            ..COMPLAINTS_MAX => self.lines.push(format!("ufs: disk{disk}: {what}\n")),
            COMPLAINTS_MAX => self.lines.push(format!("ufs: disk{disk}: {what}; no more is said of it\n")),
            _ => {}
        }
    }
}

/// One volume while a call looks at it.
#[derive(Debug)]
pub(super) struct Site<'a> {
    disk: u32,
    view: View<'a>,
    volume: &'a Volume,
    memory: &'a mut Memory,
    complaints: &'a mut Complaints,
}

impl<'a> Site<'a> {
    /// The node of an inode here.
    pub fn node(&self, inode: InodeNumber) -> Node {
        Node { disk: self.disk, inode }
    }

    /// The volume, for what is not remembered.
    pub fn volume(&self) -> (&'a Volume, View<'a>) {
        (self.volume, self.view)
    }

    /// What the library's error means for a call.
    pub fn stall(&mut self, error: Error) -> Stall {
        match error {
            Error::Miss(Miss(extent)) => Want::Sectors(over_all(self.disk, extent)).into(),
            Error::NotFound => Stall::Errno(ENOENT),
            Error::NameTooLong => Stall::Errno(ENAMETOOLONG),
            Error::NotDirectory => Stall::Errno(ENOTDIR),
            Error::NotRegular | Error::NotSymlink => Stall::Errno(EINVAL),
            Error::Snapshot => Stall::Errno(EOPNOTSUPP),
            Error::Corrupt { .. } | Error::NoInode(_) | Error::NotUfs | Error::BadSuperblock(_) => {
                self.complaints.add(self.disk, &error);
                Stall::Errno(EIO)
            }
        }
    }

    /// An inode.
    pub fn inode(&mut self, number: InodeNumber) -> Result<Rc<Inode>, Stall> {
        let node = self.node(number);
        if let Some(known) = self.memory.inodes.get(node, Rc::clone) {
            return Ok(known);
        }
        let inode = Rc::new(self.volume.inode(&self.view, number).map_err(|error| self.stall(error))?);
        self.memory.inodes.insert(node, Rc::clone(&inode));
        Ok(inode)
    }

    /// The inode that a directory knows by this name, if it knows one. `search` is kept while something is fetched.
    pub fn lookup(
        &mut self,
        directory: &Inode,
        name: &[u8],
        search: &mut Search,
    ) -> Result<Option<InodeNumber>, Stall> {
        let key = (self.node(directory.number), hash(name));
        let same = |known: &Name| (*known.name == *name).then_some(known.number);
        if let Some(number) = self.memory.names.get(key, same).flatten() {
            return Ok(number);
        }
        let number = match self.volume.lookup(&self.view, directory, name, search) {
            Ok(number) => Some(number),
            Err(Error::NotFound) => None,
            Err(error) => return Err(self.stall(error)),
        };
        self.memory.names.insert(key, Name { name: name.into(), number });
        Ok(number)
    }

    /// Appends `length` bytes of a regular file, which must lie within it, or those before the first that cannot be
    /// had. For a call that will read on to `goal`, what comes next is fetched as well.
    pub fn read(
        &mut self,
        file: &Inode,
        offset: u64,
        length: u64,
        goal: u64,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Stall> {
        let end = offset + length;
        let mut at = offset;
        while at < end {
            let piece = self.volume.block_map(&self.view, file, at);
            let Some(piece) = piece.map_err(|error| self.stall(error))? else { break };
            let length = piece.bytes().min(end - at);
            let part = match piece {
                Piece::Hole { .. } => Piece::Hole { bytes: length },
                Piece::Disk { address, .. } => Piece::Disk { address, bytes: length },
            };
            match part.sectors() {
                None => bytes.resize(bytes.len() + length as usize, 0),
                Some((extent, skip)) => {
                    let Ok(sectors) = self.view.get(extent) else {
                        return Err(self.data_missing(file, at, extent, goal));
                    };
                    let data = sectors.get(skip as usize..).and_then(|data| data.get(..length as usize));
                    bytes.extend_from_slice(data.unwrap_or_default());
                }
            }
            at += length;
        }
        Ok(())
    }

    /// What to fetch when the data at `offset`, which lies in this extent, is missing: the extent that holds it with
    /// what is near it, and what is missing behind it up to `goal`.
    fn data_missing(&mut self, file: &Inode, offset: u64, extent: Extent, goal: u64) -> Stall {
        let first = offset - offset % WINDOW_BYTES;
        let goal = goal.min(first.saturating_add(AHEAD_BYTES)).max(offset + 1);
        let mut missing: Vec<Extent> = Vec::new();
        for start in (first..goal).step_by(WINDOW_BYTES as usize) {
            let pieces = match self.volume.plan_read(&self.view, file, start, WINDOW_BYTES) {
                Ok(pieces) => pieces,
                Err(error @ Error::Miss(_)) if missing.is_empty() => return self.stall(error),
                // What comes later is looked at when it is its turn.
                Err(_) => break,
            };
            let mut at = start;
            for piece in pieces {
                let wanted = at < goal && at + piece.bytes() > offset;
                at += piece.bytes();
                if let Some((extent, _)) = piece.sectors().filter(|_| wanted)
                    && self.view.get(extent).is_err()
                {
                    missing.push(extent);
                }
            }
        }
        let mut missing = missing.into_iter().map(|extent| Want::Sectors(over_all(self.disk, extent)));
        // Damage beside the data must not keep it from being read.
        let want = missing.next().unwrap_or(Want::Sectors(over_all(self.disk, extent)));
        Stall::Missing { want, ahead: missing.collect() }
    }
}

/// FNV-1a. Names that share a hash only displace each other.
fn hash(name: &[u8]) -> u64 {
    name.iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
