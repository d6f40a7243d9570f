//! Walking a path on one volume.
//!
//! A walk stays on its volume and stops where vfs has to go on: at a symbolic link, at a covered directory, above the
//! root. It remembers how far it has come, so that it goes on from there when something had to be fetched.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;

use libipc::linux::errno::*;
use libipc::linux::open::{O_CREAT, O_EXCL};
use libipc::proto::fs::{Operation, Request, Stop};
use libipc::server::files::{Component, X_OK, first_component, permits, strip_slashes};

use super::disks::{Disks, Site, Stall};
use super::node::{Node, mode};
use crate::directory::Search;
use crate::inode::{FileType, Inode, InodeNumber};

/// What the last component of a path stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    /// The volume.
    pub disk: u32,
    /// The directory it stands in; none when the path was empty.
    pub directory: Option<InodeNumber>,
    /// The last component: empty for the start of the walk, or `.` or `..`.
    pub name: Vec<u8>,
    /// The file it names, if there is one and it was looked for.
    pub inode: Option<Rc<Inode>>,
    /// A slash follows the name.
    pub slash: bool,
}

/// How a walk ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Arrival {
    /// At its end.
    At(Box<Target>),
    /// Where vfs has to go on.
    Stopped(Stop),
}

/// What the walk does with the last component.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Last {
    /// Nothing: the operation fails whatever it names.
    Leave,
    /// Looks whether it is there, and what it is: the operation would make it.
    Look,
    /// Enters it, as any other.
    Enter {
        /// A symbolic link is followed.
        follow: bool,
    },
    /// Enters it if it is there.
    MayCreate {
        /// A symbolic link is followed.
        follow: bool,
    },
}

impl Last {
    fn of(request: &Request) -> Self {
        let follow = request.follow;
        match &request.operation {
            Operation::Unlink | Operation::RemoveDirectory | Operation::Parent | Operation::Rename { .. } => {
                Last::Leave
            }
            Operation::MakeDirectory { .. }
            | Operation::MakeNode { .. }
            | Operation::MakeSymlink { .. }
            | Operation::Link { .. } => Last::Look,
            Operation::Open { flags, .. } if flags & O_CREAT != 0 => {
                Last::MayCreate { follow: follow && flags & O_EXCL == 0 }
            }
            _ => Last::Enter { follow },
        }
    }
}

/// A walk and how far it has come.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    at: Node,
    /// How much of the path lies behind.
    walked: u32,
    search: Search,
}

impl Walk {
    /// A walk that has not begun.
    pub fn new(start: Node) -> Self {
        Self { at: start, walked: 0, search: Search::default() }
    }

    /// Walks on as far as it can.
    pub fn advance(&mut self, request: &Request, disks: &mut Disks) -> Result<Arrival, Stall> {
        let (site, mut here) = disks.find(self.at)?;
        let mut stepper = Stepper { request, last: Last::of(request), disk: self.at.disk, site };
        loop {
            let rest = request.path.get(self.walked as usize..).unwrap_or_default();
            if strip_slashes(rest).is_empty() {
                return Ok(stepper.arrive(None, b"", Some(here), false));
            }
            match stepper.take(&here, rest, &mut self.search)? {
                Taken::Arrived(arrival) => return Ok(arrival),
                Taken::Step(next, left) => {
                    self.walked = (request.path.len() - left) as u32;
                    (self.at.inode, self.search) = (next.number, Search::default());
                    here = next;
                }
            }
        }
    }
}

/// What taking one component came to.
enum Taken {
    /// The walk stands here, with so many bytes of the path left.
    Step(Rc<Inode>, usize),
    /// It has ended.
    Arrived(Arrival),
}

struct Stepper<'a> {
    request: &'a Request,
    last: Last,
    disk: u32,
    site: Site<'a>,
}

impl Stepper<'_> {
    fn take(&mut self, directory: &Rc<Inode>, rest: &[u8], search: &mut Search) -> Result<Taken, Stall> {
        if directory.kind != FileType::Directory {
            return Err(Stall::Errno(ENOTDIR));
        }
        let who = &self.request.credentials;
        if !permits(mode(directory), directory.uid, directory.gid, who, X_OK) {
            return Err(Stall::Errno(EACCES));
        }
        let Some(component) = first_component(rest)? else { return Ok(Taken::Step(Rc::clone(directory), 0)) };
        let Component { name, rest, directory: slash } = component;
        let is_last = rest.is_empty();
        let here = directory.number;
        let dots = matches!(name, b"." | b"..");
        if is_last && (self.last == Last::Leave || dots && !matches!(self.last, Last::Enter { .. })) {
            return Ok(Taken::Arrived(self.arrive(Some(here), name, None, slash)));
        }
        let found = match name {
            b"." => Some(here),
            b".." if self.request.barrier == Some(self.site.node(here).number()) => Some(here),
            b".." if here == InodeNumber::ROOT => {
                let stop = Stop::Above { volume: self.disk, rest: rest.to_vec() };
                return Ok(Taken::Arrived(Arrival::Stopped(stop)));
            }
            name => self.site.lookup(directory, name, search)?,
        };
        let Some(found) = found else {
            let missing = is_last.then(|| Taken::Arrived(self.arrive(Some(here), name, None, slash)));
            return missing.ok_or(Stall::Errno(ENOENT));
        };
        let inode = self.site.inode(found)?;
        if let Some(stop) = self.stop(here, &inode, &component)? {
            return Ok(Taken::Arrived(Arrival::Stopped(stop)));
        }
        if !is_last {
            return Ok(Taken::Step(inode, rest.len()));
        }
        if slash && inode.kind != FileType::Directory && self.last != Last::Look {
            return Err(Stall::Errno(ENOTDIR));
        }
        Ok(Taken::Arrived(self.arrive(Some(here), name, Some(inode), slash)))
    }

    fn arrive(
        &self,
        directory: Option<InodeNumber>,
        name: &[u8],
        inode: Option<Rc<Inode>>,
        slash: bool,
    ) -> Arrival {
        Arrival::At(Box::new(Target { disk: self.disk, directory, name: name.to_vec(), inode, slash }))
    }

    /// Whether vfs has to go on from what a component names: a link to follow, or a mount to enter.
    fn stop(
        &mut self,
        directory: InodeNumber,
        inode: &Inode,
        component: &Component<'_>,
    ) -> Result<Option<Stop>, Stall> {
        let is_last = component.rest.is_empty();
        let (follow, cross) = match self.last {
            _ if !is_last => (true, true),
            Last::Leave | Last::Look => (false, false),
            Last::Enter { follow } => (follow || component.directory, true),
            Last::MayCreate { follow } => (follow, true),
        };
        if inode.kind == FileType::Symlink && follow {
            let (volume, view) = self.site.volume();
            let target = volume.read_link(&view, inode).map(<[u8]>::to_vec);
            let target = target.map_err(|error| self.site.stall(error))?;
            let directory = self.site.node(directory).number();
            return Ok(Some(Stop::Symlink { directory, target, rest: component.rest.to_vec() }));
        }
        let node = self.site.node(inode.number).number();
        let covered = cross && component.name != b"." && self.request.covers.contains(&node);
        Ok(covered.then(|| Stop::Covered { node, rest: component.rest.to_vec() }))
    }
}
