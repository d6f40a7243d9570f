//! The file protocol: what vfs asks about names. One request is a walk and one operation on what it finds.
//!
//! The volume is read-only. Where Linux tells first that a name is taken, missing or no directory, and then that
//! nothing can be written, so does this.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;

use libipc::abi::{Badge, CallId, Handle, Readiness};
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::proto::fs::{Answer, Found, From, Operation, Request};
use libipc::server::files::{self, R_OK, W_OK, X_OK};
use libipc::server::{Effect, Effects, Message, NewSession};

use super::disks::{Disks, Site, Stall};
use super::node::{Node, mode, stat, stat_fs};
use super::walk::{Arrival, Target, Walk};
use super::work::{Desk, Opened, Step};
use crate::directory::Search;
use crate::inode::{FileType, Inode, InodeNumber};

/// The bit of O_TMPFILE that is not O_DIRECTORY.
const TMPFILE_BIT: u32 = O_TMPFILE & !O_DIRECTORY;
/// The flags that O_PATH leaves standing.
const PATH_FLAGS: u32 = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;

/// What every open file here is ready for, always.
pub(super) const READY: Readiness = Readiness::IN.union(Readiness::OUT).union(Readiness::ALWAYS);

/// A request and how far it has come.
#[derive(Clone, Debug)]
pub(super) struct Task {
    request: Request,
    walk: Walk,
    /// What the walk has found, when it is done.
    target: Option<Box<Target>>,
    /// The way up, when the path is asked for.
    climb: Option<Climb>,
}

/// What an operation comes to.
enum Outcome {
    Found(Found),
    Open(Opened),
}

impl Task {
    /// A request that has just come.
    pub fn new(request: Request) -> Self {
        let start = match request.from {
            From::Root(volume) => Node::root(volume),
            From::Node(number) => Node::from_number(number),
            From::Session(badge) => Node::from_badge(badge),
        };
        Self { request, walk: Walk::new(start), target: None, climb: None }
    }

    /// Goes on.
    pub fn advance(&mut self, desk: Desk, disks: &mut Disks, effects: &mut Effects) -> Result<Step, Stall> {
        if self.target.is_none() {
            match self.walk.advance(&self.request, disks)? {
                Arrival::At(target) => self.target = Some(target),
                Arrival::Stopped(stop) => {
                    answer(&self.request, desk, Answer::Stopped(stop), effects);
                    return Ok(Step::Answered);
                }
            }
        }
        let Some(target) = &self.target else { return Err(Stall::Errno(EIO)) };
        let mut site = disks.site(target.disk)?;
        match operate(&self.request, target, &mut self.climb, desk.server, &mut site)? {
            Outcome::Open(Opened { node, object, status, .. }) if self.request.program.is_some() => {
                let session = NewSession {
                    owner: Handle::NONE,
                    tells_close: false,
                    badge: Badge(node.number()),
                    object,
                    status,
                    readiness: READY,
                    close_on_exec: self.request.closes_on_exec(),
                };
                effects.reply_open(desk.call, session);
            }
            Outcome::Open(session) => return Ok(Step::Open(session)),
            Outcome::Found(found) => answer(&self.request, desk, Answer::Found(found), effects),
        }
        Ok(Step::Answered)
    }

    /// Answers with an errno.
    pub fn fail(&self, call: CallId, errno: i32, effects: &mut Effects) {
        match self.request.program {
            Some(_) => effects.result(call, -i64::from(errno)),
            None => effects.reply(call, Message::typed(0, &Answer::Failed(errno))),
        };
    }
}

/// Answers whoever asked. A program is answered itself, or goes where its walk goes on.
fn answer(request: &Request, desk: Desk, answer: Answer, effects: &mut Effects) {
    match &request.program {
        None => effects.reply(desk.call, Message::typed(0, &answer)),
        Some(program) => match program.answer(&answer) {
            Some(reply) => effects.foreign(desk.call, reply),
            None => effects.push(Effect::Forward {
                call: desk.call,
                to: desk.vfs,
                message: request.handed_back(&answer),
            }),
        },
    };
}

fn operate(
    request: &Request,
    target: &Target,
    climb: &mut Option<Climb>,
    server: u32,
    site: &mut Site<'_>,
) -> Result<Outcome, Stall> {
    let operation = &request.operation;
    if let Some(errno) = files::unnamed_error(operation, &target.name) {
        return Err(Stall::Errno(errno));
    }
    match operation {
        Operation::Parent => {
            let directory = site.node(target.directory.ok_or(EBUSY)?).number();
            return Ok(Outcome::Found(Found::Parent { directory, name: target.name.clone() }));
        }
        Operation::Unlink | Operation::RemoveDirectory | Operation::Rename { .. } => {
            return Err(Stall::Errno(EROFS));
        }
        Operation::MakeDirectory { .. } => return Err(Stall::Errno(cannot_make(target, true))),
        Operation::MakeNode { .. } | Operation::MakeSymlink { .. } | Operation::Link { .. } => {
            return Err(Stall::Errno(cannot_make(target, false)));
        }
        Operation::Open { flags, .. } => {
            let inode = open(request, target, *flags)?;
            let stat = stat(site, server, inode);
            if is_device(inode) && flags & O_PATH == 0 {
                return Ok(Outcome::Found(Found::Device { stat }));
            }
            let node = site.node(inode.number);
            let flags = if flags & O_PATH != 0 { flags & PATH_FLAGS } else { *flags };
            let mappable = if inode.kind == FileType::Regular { S_MAPPABLE } else { 0 };
            let status = files::status_of_open(flags) | mappable;
            return Ok(Outcome::Open(Opened { node, object: node.object(inode), status, stat }));
        }
        _ => {}
    }
    let inode = target.inode.as_ref().ok_or(ENOENT)?;
    let found = match operation {
        Operation::Stat => Found::Stat(stat(site, server, inode)),
        Operation::Access(wanted) => {
            check_access(request, inode, *wanted & (R_OK | W_OK | X_OK))?;
            Found::Done
        }
        Operation::ReadLink => {
            let (volume, view) = site.volume();
            let text = volume.read_link(&view, inode).map(<[u8]>::to_vec);
            Found::Text(text.map_err(|error| site.stall(error))?)
        }
        Operation::StatFs => Found::StatFs(stat_fs(site.volume().0)),
        Operation::PathOf => Found::Text(climb.get_or_insert_with(|| Climb::new(inode)).advance(site)?),
        Operation::Truncate(_) if inode.kind == FileType::Directory => return Err(Stall::Errno(EISDIR)),
        Operation::Truncate(_) if inode.kind != FileType::Regular => return Err(Stall::Errno(EINVAL)),
        // Those left would change attributes.
        _ => return Err(Stall::Errno(EROFS)),
    };
    Ok(Outcome::Found(found))
}

/// Why a name cannot be made.
fn cannot_make(target: &Target, directory: bool) -> i32 {
    match &target.inode {
        Some(_) => EEXIST,
        None if target.slash && !directory => ENOENT,
        None => EROFS,
    }
}

fn is_device(inode: &Inode) -> bool {
    matches!(inode.kind, FileType::CharacterDevice | FileType::BlockDevice)
}

/// Kinds of file that a read-only volume keeps from being written; what is behind the others is not on the volume.
fn is_stored(inode: &Inode) -> bool {
    matches!(inode.kind, FileType::Regular | FileType::Directory | FileType::Symlink)
}

/// Whether the caller may use a file so.
fn check_access(request: &Request, inode: &Inode, wanted: u32) -> Result<(), i32> {
    if wanted & W_OK != 0 && is_stored(inode) {
        return Err(EROFS);
    }
    let permitted = files::permits(mode(inode), inode.uid, inode.gid, &request.credentials, wanted);
    if permitted { Ok(()) } else { Err(EACCES) }
}

/// The inode to open, if it may be opened so; the checks are in Linux's order.
fn open<'a>(request: &Request, target: &'a Target, flags: u32) -> Result<&'a Rc<Inode>, i32> {
    if flags & O_PATH != 0 {
        let inode = target.inode.as_ref().ok_or(ENOENT)?;
        let refused = flags & O_DIRECTORY != 0 && inode.kind != FileType::Directory;
        return if refused { Err(ENOTDIR) } else { Ok(inode) };
    }
    let creates = flags & O_CREAT != 0;
    let inode = match &target.inode {
        Some(_) if creates && flags & O_EXCL != 0 => return Err(EEXIST),
        Some(inode) => inode,
        None if creates && target.slash => return Err(EISDIR),
        None if creates => return Err(EROFS),
        None => return Err(ENOENT),
    };
    let wanted = files::wanted_by_open(flags);
    match inode.kind {
        FileType::Directory if creates => return Err(EISDIR),
        FileType::Directory if flags & TMPFILE_BIT != 0 => return Err(EROFS),
        FileType::Directory if wanted & W_OK != 0 => return Err(EISDIR),
        FileType::Directory => {}
        _ if flags & O_DIRECTORY != 0 => return Err(ENOTDIR),
        FileType::Regular if flags & O_TRUNC != 0 => return Err(EROFS),
        FileType::Symlink => return Err(ELOOP),
        _ => {}
    }
    check_access(request, inode, wanted)?;
    let owner = [0, inode.uid].contains(&request.credentials.uid);
    if flags & O_NOATIME != 0 && !owner {
        return Err(EPERM);
    }
    // The other end of a pipe or socket cannot be here.
    if matches!(inode.kind, FileType::Fifo | FileType::Socket) { Err(ENXIO) } else { Ok(inode) }
}

/// The search for a directory's path: from parent to parent, and in each for the name.
#[derive(Clone, Debug)]
struct Climb {
    at: InodeNumber,
    /// The names found, the last one first.
    names: Vec<Vec<u8>>,
    /// Their length with slashes.
    length: u32,
    search: Search,
    /// The entries of the parent before this cookie were looked at.
    cookie: u64,
}

impl Climb {
    fn new(directory: &Inode) -> Self {
        Self { at: directory.number, names: Vec::new(), length: 0, search: Search::default(), cookie: 0 }
    }

    fn advance(&mut self, site: &mut Site<'_>) -> Result<Vec<u8>, Stall> {
        while self.at != InodeNumber::ROOT {
            let directory = site.inode(self.at)?;
            let parent = site.lookup(&directory, b"..", &mut self.search)?.ok_or(ENOENT)?;
            let parent = site.inode(parent)?;
            let name = self.name_in(&parent, site)?;
            self.length += name.len() as u32 + 1;
            // A path this long has no use, and in a damaged volume no end.
            if self.length > PATH_MAX {
                return Err(Stall::Errno(ENAMETOOLONG));
            }
            self.names.push(name);
            (self.at, self.search, self.cookie) = (parent.number, Search::default(), 0);
        }
        let names: Vec<&[u8]> = self.names.iter().rev().map(Vec::as_slice).collect();
        Ok(names.join(&b'/'))
    }

    /// The name by which the parent knows the directory.
    fn name_in(&mut self, parent: &Inode, site: &mut Site<'_>) -> Result<Vec<u8>, Stall> {
        loop {
            let (volume, view) = site.volume();
            let mut entries = match volume.read_dir(&view, parent, self.cookie) {
                Ok(entries) => entries,
                Err(error) => return Err(site.stall(error)),
            };
            let next = entries.next_block();
            let ours =
                |entry: &crate::DirEntry<'_>| entry.number == self.at && !matches!(entry.name, b"." | b"..");
            let found = entries.find(|entry| entry.as_ref().map_or(true, ours));
            match found.map(|entry| entry.map(|entry| entry.name.to_vec())) {
                Some(Ok(name)) => return Ok(name),
                Some(Err(error)) => return Err(site.stall(error)),
                None => self.cookie = next.ok_or(ENOENT)?,
            }
        }
    }
}
