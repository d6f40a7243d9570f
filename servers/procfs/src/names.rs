//! The file protocol: walking the tree and doing what is asked with what a path names.

use alloc::{format, string::ToString, vec::Vec};

use libipc::abi::syscall::descriptor_slot;
use libipc::abi::{Badge, CallId};
use libipc::linux::errno::*;
use libipc::linux::mode::{S_IFLNK, S_IFMT};
use libipc::linux::open::*;
use libipc::linux::{Stat, StatFs};
use libipc::proto::fs::{Answer, Credentials, Found, From, Operation, Request, Stop};
use libipc::server::files::*;
use libipc::server::{Effects, Env, Message};

use crate::Procfs;
use crate::crash::{Core, Crash};
use crate::open::Opening;
use crate::tree::{Kind, Node, descriptor_of_name, id_of_name};

/// Type of a proc file system in statfs(2).
const PROC_MAGIC: u64 = 0x9fa0;
/// The process server itself, which has no descriptors to tell its directories by.
const INIT: u32 = 1;

/// Why a walk or an operation gives no result.
enum Ended {
    Stopped(Stop),
    Failed(i32),
    /// The file is being opened; the answer comes with its session.
    Opening(Effects),
}

impl core::convert::From<i32> for Ended {
    fn from(errno: i32) -> Ended {
        Ended::Failed(errno)
    }
}

/// The program on whose behalf a request is.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    pub pid: u32,
    pub tid: u32,
}

impl Procfs {
    /// Serves a request of vfs.
    pub(crate) fn request(&mut self, call: CallId, message: &Message, env: &mut dyn Env) -> Effects {
        let mut effects = Effects::none();
        let Ok(request) = Request::from_message(message) else {
            effects.reply(call, Message::label(EINVAL as u32));
            return effects;
        };
        let program = Program { pid: message.words[0] as u32, tid: message.words[1] as u32 };
        let answer = match self.serve(call, &request, program, env) {
            Ok(found) => Answer::Found(found),
            Err(Ended::Stopped(stop)) => Answer::Stopped(stop),
            Err(Ended::Failed(errno)) => Answer::Failed(errno),
            Err(Ended::Opening(effects)) => return effects,
        };
        effects.reply(call, Message::typed(0, &answer));
        effects
    }

    fn serve(
        &mut self,
        call: CallId,
        request: &Request,
        program: Program,
        env: &mut dyn Env,
    ) -> Result<Found, Ended> {
        let start = match request.from {
            From::Root(0) => Node::ROOT,
            From::Root(_) => return Err(ENODEV.into()),
            From::Node(number) => Node::from_number(number).ok_or(ENOENT)?,
            From::Session(badge) => self.node_of(badge).ok_or(EBADF)?,
        };
        let node = match self.walk(request, start, program, env)? {
            Named::Node(node) => node,
            Named::Last(directory, name) => {
                if let Some(outcome) = refused(&request.operation, directory, name) {
                    return Ok(outcome?);
                }
                self.lookup(directory, name, env)?
            }
        };
        let named = first_component(&request.path).ok().flatten().is_some();
        if let Some(errno) = unnamed_error(&request.operation, b"").filter(|_| !named) {
            return Err(errno.into());
        }
        self.operate(call, request, node, program, env)
    }

    /// Walks to the end of the path, or to its last name.
    fn walk<'a>(
        &self,
        request: &'a Request,
        start: Node,
        program: Program,
        env: &mut dyn Env,
    ) -> Result<Named<'a>, Ended> {
        let (mut at, mut path) = (start, &request.path[..]);
        while let Some(component) = first_component(path)? {
            if !at.is_directory() {
                return Err(ENOTDIR.into());
            }
            let last = component.rest.is_empty();
            if last && names_only(&request.operation) {
                return Ok(Named::Last(at, component.name));
            }
            let next = match component.name {
                b"." => at,
                b".." if request.barrier == Some(at.number()) => at,
                b".." if at == Node::ROOT => {
                    return Err(Ended::Stopped(Stop::Above { volume: 0, rest: component.rest.to_vec() }));
                }
                b".." => at.parent(),
                name => self.lookup(at, name, env)?,
            };
            if request.covers.contains(&next.number()) && next != at {
                let rest = component.rest.to_vec();
                return Err(Ended::Stopped(Stop::Covered { node: next.number(), rest }));
            }
            let link = next.mode() & S_IFMT == S_IFLNK;
            if link && (!last || component.directory || request.follow) {
                if let Some(stop) = self.magic_link(next, component.rest, &request.credentials, env)? {
                    return Err(Ended::Stopped(stop));
                }
                let target = self.link_text(next, program, request, env)?;
                let rest = component.rest.to_vec();
                return Err(Ended::Stopped(Stop::Symlink { directory: at.number(), target, rest }));
            }
            if component.directory && !next.is_directory() {
                return Err(ENOTDIR.into());
            }
            (at, path) = (next, component.rest);
        }
        Ok(Named::Node(at))
    }

    /// What a name in a directory names.
    fn lookup(&self, directory: Node, name: &[u8], env: &mut dyn Env) -> Result<Node, i32> {
        if let Some(child) = directory.child(name) {
            return Ok(child);
        }
        match directory.kind {
            Kind::Root => {
                let id = id_of_name(name).ok_or(ENOENT)?;
                self.process(id, env)?;
                Ok(Node { kind: Kind::Process, id, tid: 0 })
            }
            Kind::Tasks => {
                let tid = id_of_name(name).ok_or(ENOENT)?;
                let known = self.process(directory.id, env)?.threads.contains(&tid);
                if known { Ok(Node { kind: Kind::Thread, id: directory.id, tid }) } else { Err(ENOENT) }
            }
            Kind::Descriptors | Kind::DescriptorInfos => {
                let slot = descriptor_of_name(name).ok_or(ENOENT)?;
                self.descriptor(directory.id, slot, env)?;
                let fd = directory.kind == Kind::Descriptors;
                let kind = if fd { Kind::Descriptor } else { Kind::DescriptorInfo };
                Ok(Node { kind, id: directory.id, tid: slot })
            }
            Kind::Servers => {
                let named = |(known, _): &(&alloc::string::String, &u32)| known.as_bytes() == name;
                let (_, number) = self.numbers.iter().find(named).ok_or(ENOENT)?;
                Ok(Node { kind: Kind::Server, id: *number, tid: 0 })
            }
            Kind::Reproducers => {
                let id = id_of_name(name).filter(|id| Crash::kept(*id, env).is_some()).ok_or(ENOENT)?;
                Ok(Node { kind: Kind::Reproducer, id, tid: 0 })
            }
            Kind::Cores => {
                let id = id_of_name(name).filter(|id| Core::kept(*id, env).is_some()).ok_or(ENOENT)?;
                Ok(Node { kind: Kind::Core, id, tid: 0 })
            }
            _ => Err(ENOENT),
        }
    }

    fn operate(
        &mut self,
        call: CallId,
        request: &Request,
        node: Node,
        program: Program,
        env: &mut dyn Env,
    ) -> Result<Found, Ended> {
        let stat = self.stat(node, env)?;
        let who = &request.credentials;
        match &request.operation {
            Operation::Stat => Ok(Found::Stat(stat)),
            Operation::Access(wanted) => {
                let allowed = permits(stat.mode, stat.uid, stat.gid, who, *wanted);
                if allowed { Ok(Found::Done) } else { Err(EACCES.into()) }
            }
            Operation::ReadLink if stat.is(S_IFLNK) => {
                // What the link shows only the server behind it knows.
                if let Some(stop) = self.magic_link(node, b"", who, env)? {
                    return Err(Ended::Stopped(stop));
                }
                Ok(Found::Text(self.link_text(node, program, request, env)?))
            }
            Operation::ReadLink => Err(EINVAL.into()),
            Operation::StatFs => Ok(Found::StatFs(stat_fs())),
            Operation::PathOf => Ok(Found::Text(self.path_of(node))),
            Operation::Open { flags, .. } => {
                check_open(&stat, who, *flags)?;
                let readable = *flags & O_PATH == 0 && !node.is_directory();
                let text = if readable { self.text(node, env)? } else { Vec::new() };
                let state = if readable { self.state_of(node, env)? } else { None };
                let status = status_of_open(*flags);
                let opening = Opening { call, node: node.number(), text, state, status, stat };
                Err(Ended::Opening(self.open(opening, env)))
            }
            _ => Err(EPERM.into()),
        }
    }

    /// Attributes of a node. What belongs to a process belongs to its user.
    pub(crate) fn stat(&self, node: Node, env: &mut dyn Env) -> Result<Stat, i32> {
        let (uid, gid) = match node.process() {
            None => (0, 0),
            Some(pid) => {
                let info = self.process(pid, env)?;
                (info.uids[1], info.gids[1])
            }
        };
        let now_ns = self.epoch_s.saturating_mul(1_000_000_000).saturating_add(env.now());
        let now_ns = i64::try_from(now_ns).unwrap_or(i64::MAX);
        Ok(Stat {
            dev: device_number(self.number, 0),
            ino: node.number(),
            nlink: if node.is_directory() { 2 } else { 1 },
            mode: node.mode(),
            uid,
            gid,
            blksize: 1024,
            atime_ns: now_ns,
            mtime_ns: now_ns,
            ctime_ns: now_ns,
            ..Stat::default()
        })
    }

    /// Where a link leads that stands for an open file of a process; `None` for links that are text.
    fn magic_link(
        &self,
        node: Node,
        rest: &[u8],
        who: &Credentials,
        env: &mut dyn Env,
    ) -> Result<Option<Stop>, i32> {
        let slot = match node.kind {
            Kind::WorkingDirectory => descriptor_slot::CWD,
            Kind::RootDirectory => descriptor_slot::ROOT,
            Kind::Descriptor => node.tid,
            _ => return Ok(None),
        };
        if ![0, self.process(node.id, env)?.uids[1]].contains(&who.uid) {
            return Err(EACCES);
        }
        if node.id == INIT {
            return Ok(None);
        }
        let named = self.descriptor(node.id, slot, env)?.named;
        let server = u32::try_from(named.server).map_err(|_| ENOENT)?;
        Ok(Some(Stop::Session { server, badge: Badge(named.badge), rest: rest.to_vec() }))
    }

    fn link_text(
        &self,
        node: Node,
        program: Program,
        request: &Request,
        env: &mut dyn Env,
    ) -> Result<Vec<u8>, i32> {
        match node.kind {
            Kind::SelfLink if program.pid != 0 => Ok(program.pid.to_string().into_bytes()),
            Kind::ThreadSelf if program.pid != 0 => {
                Ok(format!("{}/task/{}", program.pid, program.tid).into_bytes())
            }
            Kind::Exe => {
                let info = self.process(node.id, env)?;
                if ![0, info.uids[1]].contains(&request.credentials.uid) {
                    return Err(EACCES);
                }
                if info.exe.is_empty() { Err(ENOENT) } else { Ok(info.exe) }
            }
            Kind::WorkingDirectory | Kind::RootDirectory if node.id == INIT => Ok(b"/".to_vec()),
            _ => Err(ENOENT),
        }
    }

    /// The path from the root to a directory.
    fn path_of(&self, node: Node) -> Vec<u8> {
        let mut names: Vec<Vec<u8>> = Vec::new();
        let mut at = node;
        while at != Node::ROOT {
            let parent = at.parent();
            let fixed =
                parent.children().find(|(_, child)| *child == at).map(|(name, _)| name.as_bytes().to_vec());
            names.push(fixed.unwrap_or_else(|| match at.kind {
                Kind::Server => self.server_name(at.id).unwrap_or_default().as_bytes().to_vec(),
                Kind::Thread | Kind::Descriptor | Kind::DescriptorInfo => at.tid.to_string().into_bytes(),
                _ => at.id.to_string().into_bytes(),
            }));
            at = parent;
        }
        names.reverse();
        names.join(&b'/')
    }
}

/// Where a walk ended.
enum Named<'a> {
    /// At a node.
    Node(Node),
    /// At a name in a directory, for an operation that acts on names.
    Last(Node, &'a [u8]),
}

/// Whether an operation acts on the last name, rather than on what it names.
fn names_only(operation: &Operation) -> bool {
    match operation {
        Operation::Open { flags, .. } => flags & (O_CREAT | O_EXCL) == O_CREAT | O_EXCL,
        other => other.is_about_names(),
    }
}

/// What the operations on names are answered here, where names cannot be changed.
fn refused(operation: &Operation, directory: Node, name: &[u8]) -> Option<Result<Found, i32>> {
    if let Some(errno) = unnamed_error(operation, name) {
        return Some(Err(errno));
    }
    Some(match operation {
        Operation::Parent => Ok(Found::Parent { directory: directory.number(), name: name.to_vec() }),
        Operation::Open { .. } if directory.child(name).is_some() => Err(EEXIST),
        Operation::Open { .. } => Err(EACCES),
        _ => Err(EPERM),
    })
}

/// Whether a file may be opened so.
fn check_open(stat: &Stat, who: &libipc::proto::fs::Credentials, flags: u32) -> Result<(), i32> {
    let directory = stat.is(libipc::linux::mode::S_IFDIR);
    if flags & O_PATH != 0 {
        return if flags & O_DIRECTORY != 0 && !directory { Err(ENOTDIR) } else { Ok(()) };
    }
    match stat.mode & S_IFMT {
        S_IFLNK => Err(ELOOP),
        _ if directory && flags & (O_ACCMODE | O_CREAT) != O_RDONLY => Err(EISDIR),
        _ if !directory && flags & O_DIRECTORY != 0 => Err(ENOTDIR),
        _ if !permits(stat.mode, stat.uid, stat.gid, who, wanted_by_open(flags & !O_TRUNC)) => Err(EACCES),
        _ => Ok(()),
    }
}

/// What statfs(2) tells.
pub(crate) fn stat_fs() -> StatFs {
    StatFs { kind: PROC_MAGIC, bsize: 4096, frsize: 4096, ..StatFs::default() }
}
