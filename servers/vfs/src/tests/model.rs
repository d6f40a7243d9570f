//! A model of a file server by the protocol of [`libipc::proto::fs`]: the shortest thing that keeps all its rules.

use alloc::{collections::BTreeMap, vec, vec::Vec};

use libipc::abi::Badge;
use libipc::linux::errno::*;
use libipc::linux::{Stat, StatFs, mode as modes};
use libipc::proto::fs::{Answer, Found, From, Operation, Request, Stop};
use libipc::server::files::*;

#[derive(Clone, Debug)]
pub enum Content {
    Directory(BTreeMap<Vec<u8>, u64>, u64),
    File(Vec<u8>),
    Link(Vec<u8>),
    Special(u32, u64),
}

#[derive(Clone, Debug)]
pub struct Node {
    pub content: Content,
    pub mode: u32,
    pub uid: u32,
    pub volume: u32,
}

/// One file server: nodes of several volumes, and its open files.
pub struct Model {
    pub number: u32,
    pub nodes: BTreeMap<u64, Node>,
    pub sessions: BTreeMap<Badge, u64>,
    pub read_only: Vec<u32>,
    pub requests: Vec<Request>,
    next: u64,
}

impl Model {
    pub fn new(number: u32) -> Model {
        Model {
            number,
            nodes: BTreeMap::new(),
            sessions: BTreeMap::new(),
            read_only: vec![],
            requests: vec![],
            next: 100,
        }
    }

    /// The root of a volume; it exists as soon as somebody asks.
    pub fn root(&mut self, volume: u32) -> u64 {
        let root = u64::from(volume) + 2;
        let content = Content::Directory(BTreeMap::new(), root);
        self.nodes.entry(root).or_insert(Node { content, mode: modes::S_IFDIR | 0o755, uid: 0, volume });
        root
    }

    /// Puts something at a path of names separated by slashes, below a volume's root.
    pub fn put(&mut self, volume: u32, path: &str, content: Content, bits: u32) -> u64 {
        let mut parent = self.root(volume);
        let (directories, name) = path.rsplit_once('/').unwrap_or(("", path));
        for directory in directories.split('/').filter(|name| !name.is_empty()) {
            parent = self.child(parent, directory.as_bytes()).unwrap();
        }
        self.add(parent, name.as_bytes(), content, bits)
    }

    /// Takes a name out of a directory of the first volume's root.
    pub fn remove(&mut self, directory: &str, name: &str) {
        let root = self.root(0);
        let directory = self.child(root, directory.as_bytes()).unwrap();
        self.enter(directory, name.as_bytes(), None);
    }

    fn add(&mut self, parent: u64, name: &[u8], content: Content, bits: u32) -> u64 {
        let id = self.next;
        self.next += 1;
        let (content, kind) = match content {
            Content::Directory(..) => (Content::Directory(BTreeMap::new(), parent), modes::S_IFDIR),
            Content::Special(kind, device) => (Content::Special(kind, device), kind),
            Content::Link(text) => (Content::Link(text), modes::S_IFLNK),
            Content::File(data) => (Content::File(data), modes::S_IFREG),
        };
        let volume = self.nodes[&parent].volume;
        self.nodes.insert(id, Node { content, mode: kind | bits, uid: 0, volume });
        if let Content::Directory(names, _) = &mut self.nodes.get_mut(&parent).unwrap().content {
            names.insert(name.to_vec(), id);
        }
        id
    }

    fn child(&self, directory: u64, name: &[u8]) -> Result<u64, i32> {
        match &self.nodes[&directory].content {
            Content::Directory(names, _) => names.get(name).copied().ok_or(ENOENT),
            _ => Err(ENOTDIR),
        }
    }

    fn stat(&self, id: u64) -> Stat {
        let node = &self.nodes[&id];
        let (rdev, size) = match &node.content {
            Content::Special(_, device) => (*device, 0),
            Content::File(data) => (0, data.len() as u64),
            _ => (0, 0),
        };
        let dev = device_number(self.number, node.volume);
        Stat { dev, ino: id, mode: node.mode, uid: node.uid, rdev, size, nlink: 1, ..Stat::default() }
    }

    /// Answers a request; a second value is the node that was opened.
    pub fn serve(&mut self, request: &Request) -> (Answer, Option<u64>) {
        self.requests.push(request.clone());
        let start = match request.from {
            From::Root(volume) => self.root(volume),
            From::Node(node) => node,
            From::Session(badge) => match self.sessions.get(&badge) {
                Some(node) => *node,
                None => return (Answer::Failed(EBADF), None),
            },
        };
        match self.walk(request, start) {
            Err(Walked::Stopped(stop)) => (Answer::Stopped(stop), None),
            Err(Walked::Failed(errno)) => (Answer::Failed(errno), None),
            Ok((directory, name)) => match self.operate(request, directory, &name) {
                Ok((found, opened)) => (Answer::Found(found), opened),
                Err(Walked::Stopped(stop)) => (Answer::Stopped(stop), None),
                Err(Walked::Failed(errno)) => (Answer::Failed(errno), None),
            },
        }
    }

    /// Walks all but the last name.
    fn walk(&self, request: &Request, start: u64) -> Result<(u64, Vec<u8>), Walked> {
        let (mut at, mut path) = (start, &request.path[..]);
        loop {
            let Some(component) = first_component(path)? else { return Ok((at, vec![])) };
            if !matches!(self.nodes.get(&at).ok_or(ENOENT)?.content, Content::Directory(..)) {
                return Err(ENOTDIR.into());
            }
            if component.rest.is_empty() && !matches!(component.name, b"." | b"..") {
                return Ok((at, component.name.to_vec()));
            }
            at = self.step(request, at, component.name, component.rest)?;
            path = component.rest;
        }
    }

    fn step(&self, request: &Request, at: u64, name: &[u8], rest: &[u8]) -> Result<u64, Walked> {
        let rest = rest.to_vec();
        if name == b"." || (name == b".." && request.barrier == Some(at)) {
            return Ok(at);
        }
        if name == b".." {
            let Content::Directory(_, parent) = self.nodes[&at].content else { return Err(ENOTDIR.into()) };
            let volume = self.nodes[&at].volume;
            return if parent == at {
                Err(Walked::Stopped(Stop::Above { volume, rest }))
            } else {
                Ok(parent)
            };
        }
        let node = self.child(at, name)?;
        if request.covers.contains(&node) {
            return Err(Walked::Stopped(Stop::Covered { node, rest }));
        }
        match &self.nodes[&node].content {
            Content::Link(target) => {
                Err(Walked::Stopped(Stop::Symlink { directory: at, target: target.clone(), rest }))
            }
            _ => Ok(node),
        }
    }

    fn operate(
        &mut self,
        request: &Request,
        directory: u64,
        name: &[u8],
    ) -> Result<(Found, Option<u64>), Walked> {
        let operation = &request.operation;
        if let Some(errno) = unnamed_error(operation, name) {
            return Err(errno.into());
        }
        if matches!(operation, Operation::Rename { .. } | Operation::Unlink | Operation::RemoveDirectory)
            && let Ok(node) = self.child(directory, name)
            && request.covers.contains(&node)
        {
            return Err(Walked::Stopped(Stop::Covered { node, rest: vec![] }));
        }
        let exists = name.is_empty() || self.child(directory, name).is_ok();
        match operation {
            Operation::MakeDirectory { .. } | Operation::Link { .. } | Operation::MakeSymlink { .. }
                if exists =>
            {
                return Err(EEXIST.into());
            }
            Operation::MakeDirectory { mode } => {
                self.add(directory, name, Content::Directory(BTreeMap::new(), 0), *mode);
                return Ok((Found::Done, None));
            }
            Operation::MakeSymlink { target } => {
                self.add(directory, name, Content::Link(target.clone()), 0o777);
                return Ok((Found::Done, None));
            }
            Operation::MakeNode { mode, device } => {
                self.add(directory, name, Content::Special(mode & modes::S_IFMT, *device), mode & 0o7777);
                return Ok((Found::Done, None));
            }
            Operation::Parent => return Ok((Found::Parent { directory, name: name.to_vec() }, None)),
            Operation::Link { node } => {
                self.enter(directory, name, Some(*node));
                return Ok((Found::Done, None));
            }
            Operation::Rename { directory: from, name: old, .. } => {
                let node = self.child(*from, old)?;
                self.enter(*from, old, None);
                self.enter(directory, name, Some(node));
                return Ok((Found::Done, None));
            }
            Operation::Unlink => {
                self.child(directory, name)?;
                self.enter(directory, name, None);
                return Ok((Found::Done, None));
            }
            _ => {}
        }
        let node = if name.is_empty() { directory } else { self.last(request, directory, name)? };
        if request.path.ends_with(b"/") && !matches!(self.nodes[&node].content, Content::Directory(..)) {
            return Err(ENOTDIR.into());
        }
        self.look(request, node)
    }

    /// The last component of a path, followed as the request says.
    fn last(&mut self, request: &Request, directory: u64, name: &[u8]) -> Result<u64, Walked> {
        if let Operation::Open { flags, mode } = request.operation
            && flags & 0o100 != 0
            && self.child(directory, name).is_err()
        {
            return Ok(self.add(directory, name, Content::File(vec![]), mode & !request.credentials.umask));
        }
        match self.step(request, directory, name, b"") {
            Err(Walked::Stopped(Stop::Symlink { .. })) if !request.follow => Ok(self.child(directory, name)?),
            other => other,
        }
    }

    fn look(&mut self, request: &Request, node: u64) -> Result<(Found, Option<u64>), Walked> {
        let stat = self.stat(node);
        Ok((
            match &request.operation {
                Operation::Open { flags, .. } => {
                    if flags & 0o200000 != 0 && !stat.is(modes::S_IFDIR) {
                        return Err(ENOTDIR.into());
                    }
                    if matches!(self.nodes[&node].content, Content::Special(..)) {
                        return Ok((Found::Device { stat }, None));
                    }
                    return Ok((Found::Opened { stat, created: false }, Some(node)));
                }
                Operation::ReadLink => match &self.nodes[&node].content {
                    Content::Link(target) => Found::Text(target.clone()),
                    _ => return Err(EINVAL.into()),
                },
                Operation::PathOf => Found::Text(self.path_of(node)),
                Operation::StatFs => {
                    Found::StatFs(StatFs { kind: u64::from(self.number), ..StatFs::default() })
                }
                Operation::SetMode(bits) => {
                    let entry = self.nodes.get_mut(&node).unwrap();
                    entry.mode = entry.mode & modes::S_IFMT | bits;
                    Found::Done
                }
                Operation::Stat => Found::Stat(stat),
                _ => Found::Done,
            },
            None,
        ))
    }

    fn enter(&mut self, directory: u64, name: &[u8], node: Option<u64>) {
        if let Content::Directory(names, _) = &mut self.nodes.get_mut(&directory).unwrap().content {
            match node {
                Some(node) => names.insert(name.to_vec(), node),
                None => names.remove(name),
            };
        }
    }

    fn path_of(&self, node: u64) -> Vec<u8> {
        let Content::Directory(_, parent) = self.nodes[&node].content else { return vec![] };
        if parent == node {
            return vec![];
        }
        let Content::Directory(names, _) = &self.nodes[&parent].content else { return vec![] };
        let name = names.iter().find(|(_, child)| **child == node).unwrap().0;
        let above = self.path_of(parent);
        if above.is_empty() { name.clone() } else { [&above[..], b"/", name].concat() }
    }
}

enum Walked {
    Stopped(Stop),
    Failed(i32),
}

impl core::convert::From<i32> for Walked {
    fn from(errno: i32) -> Walked {
        Walked::Failed(errno)
    }
}
