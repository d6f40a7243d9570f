//! All nodes and the volumes they hang in, and walking a path through them.
//!
//! A walk stays within one volume. Mounts and the caller's root directory come with each request; nothing about them
//! is kept.

use alloc::{collections::BTreeMap, vec::Vec};
use serde::{Deserialize, Serialize};

use crate::arena::Arena;
use crate::node::{Body, Directory, Ino, Node};
use libipc::linux::errno::*;
use libipc::linux::mode;
use libipc::linux::open::{O_CREAT, O_EXCL};
use libipc::proto::fs::{Credentials, Operation, Request, Stop};
use libipc::server::{Rows, Table, files};

/// Most volumes.
const VOLUMES_MAX: u32 = 64;
/// The volume that is mounted at /dev.
pub const DEV_VOLUME: u32 = 1;

/// All nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tree {
    nodes: Rows<Ino, Node>,
    roots: BTreeMap<u32, Ino>,
    next_ino: Ino,
    nodes_max: u64,
    /// There is hardly any room for more state.
    #[serde(skip)]
    pub crowded: bool,
}

/// What the last component of a path stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    /// The directory it stands in; none when the path was empty.
    pub directory: Option<Ino>,
    /// The last component: empty for the start of the walk, or `.` or `..`.
    pub name: &'a [u8],
    /// The node it names, if there is one.
    pub node: Option<Ino>,
    /// A slash follows the name.
    pub slash: bool,
}

/// How a walk ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Walk<'a> {
    /// At its end.
    At(Target<'a>),
    /// Where it leaves the volume, or at a symbolic link.
    Stopped(Stop),
}

impl Tree {
    /// No volumes yet, and at most so many nodes.
    pub fn new(nodes_max: u64) -> Tree {
        Tree { nodes: Rows::new(), roots: BTreeMap::new(), next_ino: 1, nodes_max, crowded: false }
    }

    /// The table of all nodes.
    pub fn table(&mut self) -> &mut dyn Table {
        &mut self.nodes
    }

    /// The root of a volume, which is made when it is first asked for. Anyone may write into a new volume, but /dev.
    pub fn root(&mut self, volume: u32, now_ns: i64) -> Result<Ino, i32> {
        if let Some(root) = self.roots.get(&volume) {
            return Ok(*root);
        }
        if volume >= VOLUMES_MAX {
            return Err(ENOENT);
        }
        let permissions = if volume == DEV_VOLUME { 0o755 } else { 0o1777 };
        let root = self.next_ino;
        let body = Body::Directory(Directory::new(root));
        let mut node = Node::new(volume, mode::S_IFDIR | permissions, (0, 0), now_ns, body);
        node.links = 2;
        let root = self.insert(node)?;
        self.roots.insert(volume, root);
        Ok(root)
    }

    /// The root of a volume that exists.
    pub fn root_of(&self, volume: u32) -> Option<Ino> {
        self.roots.get(&volume).copied()
    }

    /// Adds a node and gives it its number.
    pub fn insert(&mut self, node: Node) -> Result<Ino, i32> {
        if self.crowded || self.nodes.len() as u64 >= self.nodes_max {
            return Err(ENOSPC);
        }
        let ino = self.next_ino;
        self.next_ino += 1;
        self.nodes.insert(ino, node);
        Ok(ino)
    }

    /// A node.
    pub fn get(&self, ino: Ino) -> Option<&Node> {
        self.nodes.get(&ino)
    }

    /// A node, to be changed.
    pub fn get_mut(&mut self, ino: Ino) -> Option<&mut Node> {
        self.nodes.get_mut(&ino)
    }

    /// A node that a caller names by number; it may be gone.
    pub fn node(&self, ino: Ino) -> Result<&Node, i32> {
        self.nodes.get(&ino).ok_or(ENOENT)
    }

    /// As [`Tree::node`], to be changed.
    pub fn node_mut(&mut self, ino: Ino) -> Result<&mut Node, i32> {
        self.nodes.get_mut(&ino).ok_or(ENOENT)
    }

    /// A directory that a caller names by number.
    pub fn directory(&self, ino: Ino) -> Result<(&Node, &Directory), i32> {
        let node = self.node(ino)?;
        node.directory().map(|directory| (node, directory)).ok_or(ENOTDIR)
    }

    /// Nodes in all, and how many more there may be.
    pub fn count(&self) -> (u64, u64) {
        let used = self.nodes.len() as u64;
        (used, self.nodes_max.saturating_sub(used))
    }

    /// Forgets a node that has neither a name nor an open session left.
    pub fn reap(&mut self, ino: Ino, arena: &mut Arena) {
        let dead = self.nodes.get(&ino).is_some_and(|node| node.links == 0 && node.opens == 0);
        if !dead {
            return;
        }
        if let Some(Node { body: Body::File(mut file), .. }) = self.nodes.remove(&ino) {
            file.contents.release(arena);
        }
    }

    /// Forgets a volume with all that is in it, unless something of it is open. /dev stays.
    pub fn discard(&mut self, volume: u64, arena: &mut Arena) -> Result<(), i32> {
        let volume = u32::try_from(volume).ok().filter(|volume| *volume < VOLUMES_MAX).ok_or(EINVAL)?;
        let in_use = self.nodes.values().any(|node| node.volume == volume && node.opens > 0);
        if in_use || volume == DEV_VOLUME {
            return Err(EBUSY);
        }
        let nodes = self.nodes.iter().filter(|(_, node)| node.volume == volume);
        let gone: Vec<Ino> = nodes.map(|(ino, _)| *ino).collect();
        for ino in gone {
            if let Some(Node { body: Body::File(mut file), .. }) = self.nodes.remove(&ino) {
                file.contents.release(arena);
            }
        }
        self.roots.remove(&volume);
        Ok(())
    }

    /// Whether `ino` is `ancestor` or lies below it.
    pub fn is_below(&self, ino: Ino, ancestor: Ino) -> bool {
        let mut at = ino;
        loop {
            if at == ancestor {
                return true;
            }
            match self.nodes.get(&at).and_then(Node::directory) {
                Some(directory) if directory.parent() != at => at = directory.parent(),
                _ => return false,
            }
        }
    }

    /// The path of a node from the root of its volume.
    pub fn path_of(&self, ino: Ino) -> Result<Vec<u8>, i32> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut at = ino;
        while let Some((parent, position)) = self.node(at)?.place {
            let (_, directory) = self.directory(parent)?;
            let (name, _) = directory.at(position).filter(|(_, node)| *node == at).ok_or(ENOENT)?;
            names.push(name);
            at = parent;
        }
        if !self.roots.values().any(|root| *root == at) {
            return Err(ENOENT);
        }
        names.reverse();
        Ok(names.join(&b'/'))
    }

    /// Walks the path of a request from a node.
    pub fn walk<'a>(&self, start: Ino, request: &'a Request) -> Result<Walk<'a>, i32> {
        let walker = Walker { tree: self, request, manner: Manner::of(request) };
        walker.walk(start)
    }
}

/// How the last component is to be treated.
#[derive(Clone, Copy)]
struct Manner {
    /// The operation makes or removes a name: the last component is not entered, whatever it is.
    names: bool,
    /// A symbolic link as the last component is followed.
    follow: bool,
    /// A covered directory as the last component is left to vfs.
    cross: bool,
}

impl Manner {
    fn of(request: &Request) -> Manner {
        match &request.operation {
            operation if operation.is_about_names() => Manner { names: true, follow: false, cross: false },
            Operation::Open { flags, .. } if flags & O_CREAT != 0 => {
                Manner { names: true, follow: request.follow && flags & O_EXCL == 0, cross: true }
            }
            _ => Manner { names: false, follow: request.follow, cross: true },
        }
    }
}

struct Walker<'w, 'a> {
    tree: &'w Tree,
    request: &'a Request,
    manner: Manner,
}

impl<'a> Walker<'_, 'a> {
    fn walk(&self, start: Ino) -> Result<Walk<'a>, i32> {
        let mut at = start;
        let mut path = self.request.path.as_slice();
        let mut target = Target { directory: None, name: b"", node: Some(start), slash: false };
        self.tree.node(start)?;
        while let Some(component) = files::first_component(path)? {
            let (node, directory) = self.tree.directory(at)?;
            if !permits(node, &self.request.credentials, files::X_OK) {
                return Err(EACCES);
            }
            let last = component.rest.is_empty();
            path = component.rest;
            target =
                Target { directory: Some(at), name: component.name, node: None, slash: component.directory };
            target.node = match component.name {
                b"." | b".." if last && self.manner.names => return Ok(Walk::At(target)),
                b"." => Some(at),
                b".." if self.request.barrier == Some(at) => Some(at),
                b".." if directory.parent() == at => {
                    let rest = component.rest.to_vec();
                    return Ok(Walk::Stopped(Stop::Above { volume: node.volume, rest }));
                }
                b".." => Some(directory.parent()),
                name => directory.get(name),
            };
            if let Some(next) = target.node
                && let Some(stop) = self.stop(&target, next, component.rest)?
            {
                return Ok(Walk::Stopped(stop));
            }
            match target.node {
                None if !last => return Err(ENOENT),
                None => break,
                Some(next) => at = next,
            }
        }
        self.check_slash(&target)?;
        Ok(Walk::At(target))
    }

    /// Whether vfs has to go on from here: a link to follow, or a mount to enter.
    fn stop(&self, target: &Target<'a>, next: Ino, rest: &[u8]) -> Result<Option<Stop>, i32> {
        let node = self.tree.node(next)?;
        let last = rest.is_empty();
        if let Body::Symlink(text) = &node.body {
            let through = self.manner.follow || target.slash && !self.manner.names;
            if last && !through {
                return Ok(None);
            }
            let directory = target.directory.unwrap_or(next);
            return Ok(Some(Stop::Symlink { directory, target: text.clone(), rest: rest.to_vec() }));
        }
        let covered = target.name != b"." && self.request.covers.contains(&next);
        if covered && (!last || self.manner.cross) {
            return Ok(Some(Stop::Covered { node: next, rest: rest.to_vec() }));
        }
        Ok(None)
    }

    /// A name with a slash behind it is that of a directory; the operations on names judge for themselves.
    fn check_slash(&self, target: &Target) -> Result<(), i32> {
        match target.node {
            Some(ino) if target.slash && !self.manner.names => self.tree.directory(ino).map(|_| ()),
            _ => Ok(()),
        }
    }
}

/// Whether somebody may use a node so.
pub fn permits(node: &Node, who: &Credentials, wanted: u32) -> bool {
    files::permits(node.mode, node.uid, node.gid, who, wanted)
}

#[cfg(test)]
mod tests;
