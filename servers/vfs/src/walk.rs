//! A path walk: how far it has come, and how it goes on where a file server stopped.
//!
//! A file server walks as far as the path stays with it. What is decided here, without any message: which symbolic
//! link, mount or `..` leads where, and when a walk has gone too far (ELOOP, ENAMETOOLONG, EXDEV).

use alloc::vec::Vec;

use libipc::abi::Badge;
use libipc::linux::errno::*;
use libipc::linux::open::{LINKS_MAX, O_CREAT, O_EXCL, PATH_MAX};
use libipc::proto::fs::{Asking, From, Operation, Program, Stop};
use libipc::server::files::strip_slashes;
use libipc::server::{Caller, Message};
use serde::{Deserialize, Serialize};

use crate::mounts::MountTable;
use crate::who::{Place, RootNode, Who};

/// Most mounts crossed and links followed in one walk; beyond, a file server answers in circles.
const STOPS_MAX: u32 = 256;

/// What a walk is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Aim {
    /// An operation on whatever server the path ends.
    Do(Operation),
    /// An operation that refers to a node of this server, the second half of link(2) and rename(2). On any other
    /// server the walk merely looks for the directory ([`Operation::Parent`]), and the call is EXDEV.
    Only(u32, Operation),
}

/// Limits that openat2(2) puts on a walk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Limits {
    /// RESOLVE_NO_SYMLINKS.
    pub no_links: bool,
    /// RESOLVE_NO_XDEV.
    pub no_crossing: bool,
}

/// A walk under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Walk {
    /// From where it goes on.
    pub at: Place,
    /// What is left of the path, without leading slashes.
    pub path: Vec<u8>,
    /// A symbolic link as the last component is followed.
    pub follow: bool,
    /// What for.
    pub aim: Aim,
    /// How it is limited.
    pub limits: Limits,
    /// The absolute path of the place `at`, for walks that want to know it (exec).
    pub trail: Option<Vec<u8>>,
    /// Links followed, and mounts crossed and links followed.
    pub(crate) links: u32,
    pub(crate) stops: u32,
}

impl Walk {
    /// A walk that has not begun.
    pub fn new(at: Place, path: &[u8], follow: bool, aim: Aim) -> Walk {
        Walk {
            at,
            path: strip_slashes(path).to_vec(),
            follow,
            aim,
            limits: Limits::default(),
            trail: None,
            links: 0,
            stops: 0,
        }
    }

    /// The operation to ask of the server where the walk stands.
    pub fn operation(&self) -> &Operation {
        match &self.aim {
            Aim::Do(operation) => operation,
            Aim::Only(server, operation) if *server == self.at.server => operation,
            Aim::Only(..) => &Operation::Parent,
        }
    }

    /// Whether the caller's root directory must be known before the walk goes on, so that `..` does not climb over
    /// it.
    pub fn needs_barrier(&self, who: &Who) -> bool {
        let climbs = || self.path.split(|byte| *byte == b'/').any(|name| name == b"..");
        who.root.node == RootNode::Unknown && who.root.place.server == self.at.server && climbs()
    }

    /// The request that takes the walk further: for vfs, or for the program itself.
    pub fn message(&self, who: &Who, mounts: &MountTable, program: Option<&Program>) -> Message {
        let barrier = match who.root.node {
            RootNode::Node(node) if who.root.place.server == self.at.server => Some(node),
            _ => None,
        };
        let Caller { uid, gid, umask, .. } = who.caller;
        let asking = Asking {
            from: self.at.from,
            path: &self.path,
            barrier,
            covers: &mounts.covers(self.at.server),
            // A trailing slash names what the link leads to.
            follow: self.follow || self.path.ends_with(b"/"),
            uid,
            gid,
            umask,
            groups: &who.groups,
            operation: self.operation(),
            program,
        };
        asking.message()
    }

    /// Goes on where the server stopped.
    ///
    /// # Errors
    /// errno, when the walk ends there: too many links, too long a path, a limit of the caller's, a mount point that
    /// cannot be removed, or an answer that makes no sense (EIO).
    pub fn resume(&mut self, stop: &Stop, who: &Who, mounts: &MountTable) -> Result<(), i32> {
        self.stops += 1;
        if self.stops > STOPS_MAX {
            return Err(ELOOP);
        }
        match stop {
            Stop::Symlink { directory, target, rest } => self.follow_link(*directory, target, rest, who),
            Stop::Covered { node, rest } => self.enter(*node, rest, mounts),
            Stop::Session { server, badge, rest } => self.enter_session(*server, *badge, rest),
            Stop::Above { volume, rest } => self.climb(*volume, rest, mounts),
        }
    }

    fn follow_link(&mut self, directory: u64, target: &[u8], rest: &[u8], who: &Who) -> Result<(), i32> {
        self.links += 1;
        if self.links > LINKS_MAX || self.limits.no_links {
            return Err(ELOOP);
        }
        if target.is_empty() {
            return Err(ENOENT);
        }
        self.advance_trail(rest, true);
        let path = self.joined(target, rest)?;
        if target.starts_with(b"/") {
            if self.limits.no_crossing && self.at.server != who.root.place.server {
                return Err(EXDEV);
            }
            self.at = who.root.place;
            self.trail = self.trail.take().map(|_| b"/".to_vec());
        } else {
            self.at = Place::node(self.at.server, directory);
        }
        self.path = path;
        Ok(())
    }

    /// Goes on at what an open file stands for, which is there already: there is nothing to create.
    fn enter_session(&mut self, server: u32, badge: Badge, rest: &[u8]) -> Result<(), i32> {
        self.links += 1;
        if self.links > LINKS_MAX || self.limits.no_links {
            return Err(ELOOP);
        }
        if self.limits.no_crossing {
            return Err(EXDEV);
        }
        let path = self.joined(b"", rest)?;
        if let (true, Aim::Do(Operation::Open { flags, .. })) = (path.is_empty(), &mut self.aim) {
            if *flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL {
                return Err(EEXIST);
            }
            *flags &= !O_CREAT;
        }
        (self.at, self.path, self.trail) = (Place { server, from: From::Session(badge) }, path, None);
        Ok(())
    }

    fn enter(&mut self, node: u64, rest: &[u8], mounts: &MountTable) -> Result<(), i32> {
        let mount = mounts.on(self.at.server, node).ok_or(EIO)?;
        if self.limits.no_crossing {
            return Err(EXDEV);
        }
        if rest.is_empty() {
            match *self.operation() {
                Operation::MakeDirectory { .. }
                | Operation::MakeNode { .. }
                | Operation::MakeSymlink { .. }
                | Operation::Link { .. } => return Err(EEXIST),
                Operation::Unlink
                | Operation::RemoveDirectory
                | Operation::Parent
                | Operation::Rename { .. } => {
                    return Err(EBUSY);
                }
                _ => {}
            }
        }
        self.cross(mount.place(), rest, b"")
    }

    fn climb(&mut self, volume: u32, rest: &[u8], mounts: &MountTable) -> Result<(), i32> {
        let mount = mounts.of_volume(self.at.server, volume).ok_or(EIO)?;
        match mount.covered {
            Some(_) if self.limits.no_crossing => Err(EXDEV),
            Some(covered) => self.cross(Place::node(covered.server, covered.node), rest, b".."),
            // Above the root of the namespace is the root of the namespace.
            None => self.cross(mount.place(), rest, b"."),
        }
    }

    fn cross(&mut self, to: Place, rest: &[u8], first: &[u8]) -> Result<(), i32> {
        let path = self.joined(first, rest)?;
        // The `..` that led here is told again to the server below, and must not count twice.
        self.advance_trail(rest, first == b"..");
        self.at = to;
        self.path = path;
        Ok(())
    }

    /// `head/rest`, keeping what a trailing slash of the path demands.
    fn joined(&self, head: &[u8], rest: &[u8]) -> Result<Vec<u8>, i32> {
        let mut path = strip_slashes(head).to_vec();
        if !rest.is_empty() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(strip_slashes(rest));
        }
        self.trailing(path)
    }

    fn trailing(&self, mut path: Vec<u8>) -> Result<Vec<u8>, i32> {
        if self.path.ends_with(b"/") && !path.is_empty() && !path.ends_with(b"/") {
            path.push(b'/');
        }
        if path.len() as u64 > u64::from(PATH_MAX) { Err(ENAMETOOLONG) } else { Ok(path) }
    }

    /// Moves the trail over what the server has walked: all that came before `rest`, less its last component if that
    /// was a link or a `..` told again.
    fn advance_trail(&mut self, rest: &[u8], less_last: bool) {
        let Some(trail) = self.trail.take() else { return };
        let walked = rest_begins(&self.path, rest).and_then(|at| self.path.get(..at));
        self.trail = walked.map(|walked| {
            let mut names: Vec<&[u8]> = names(walked).collect();
            if less_last {
                names.pop();
            }
            names.iter().fold(trail, |trail, name| extend_path(trail, name))
        });
    }

    /// The absolute path of what the walk names, when the server has found it without stopping again.
    pub fn full_path(&self) -> Option<Vec<u8>> {
        let trail = self.trail.clone()?;
        Some(names(&self.path).fold(trail, extend_path))
    }
}

/// Where in a path its rest begins, if the path ends with it but for slashes.
fn rest_begins(path: &[u8], rest: &[u8]) -> Option<usize> {
    let trimmed = |mut bytes: &[u8]| {
        while let Some(shorter) = bytes.strip_suffix(b"/") {
            bytes = shorter;
        }
        bytes.len()
    };
    let (path, rest) = (path.get(..trimmed(path))?, rest.get(..trimmed(rest))?);
    path.ends_with(rest).then(|| path.len() - rest.len())
}

fn names(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// One step down an absolute path without links, or up for `..`.
fn extend_path(mut path: Vec<u8>, name: &[u8]) -> Vec<u8> {
    if name == b".." {
        let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        path.truncate(parent.max(1));
        return path;
    }
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    path.extend(name);
    path
}

/// An absolute path from that of a mount point and a path below it.
pub fn join_absolute(at: &[u8], below: &[u8]) -> Vec<u8> {
    names(below).fold(at.to_vec(), extend_path)
}

#[cfg(test)]
mod tests;
