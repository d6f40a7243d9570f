//! The file protocol: what vfs asks about names. One request is a walk and one operation on what it finds.

use alloc::{format, vec::Vec};

use crate::arena::{PAGE, Span, Use};
use crate::contents::SIZE_MAX;
use crate::devices::Device;
use crate::names::{Author, Source};
use crate::node::{Body, File, Ino, NOWHERE, set_id_bits};
use crate::open::{Kind, New, Then};
use crate::transfer::clear;
use crate::tree::{Target, Walk, permits};
use crate::{Tmpfs, answered};
use libipc::abi::CallId;
use libipc::linux::errno::*;
use libipc::linux::mode;
use libipc::linux::open::*;
use libipc::linux::{Stat, StatFs};
use libipc::proto::fs::{Answer, Credentials, Found, From, Operation, Program, Request, Wants};
use libipc::server::files::{self, R_OK, W_OK, X_OK};
use libipc::server::{Call, Effect, Effects, Env, Message};

/// Type of a tmpfs in statfs(2).
const TMPFS_MAGIC: u64 = 0x0102_1994;
/// The bit of O_TMPFILE that is not O_DIRECTORY.
const TMPFILE_BIT: u32 = O_TMPFILE & !O_DIRECTORY;

/// What became of a request.
enum Progress {
    /// The answer.
    Answered(Answer),
    /// Open, with a session to be made.
    Opened(New, Found),
    /// The caller may not make files of that size.
    TooLarge,
}

impl Progress {
    fn found(found: Found) -> Result<Progress, i32> {
        Ok(Progress::Answered(Answer::Found(found)))
    }
}

impl Tmpfs {
    /// Serves a request of vfs.
    pub(crate) fn request(&mut self, call: &Call, message: &Message, env: &mut dyn Env) -> Effects {
        let (caller, call) = (call, call.id);
        let mut effects = Effects::none();
        let Ok(request) = Request::from_message(message) else {
            effects.reply(call, Message::label(EINVAL as u32));
            return effects;
        };
        let progress = self.carry_out(caller, &request, &mut effects, env);
        let answer = match (progress, &request.program) {
            (Ok(Progress::Opened(new, _)), Some(_)) => {
                effects.append(self.answer_opened(call, new, request.closes_on_exec(), env));
                return effects;
            }
            (Ok(Progress::Opened(new, found)), None) => {
                effects.append(self.open_now(call, &[new], Then::Found(found), env));
                return effects;
            }
            (Ok(Progress::TooLarge), _) => return self.too_large(call),
            (Ok(Progress::Answered(answer)), _) => answer,
            (Err(errno), _) => Answer::Failed(errno),
        };
        match &request.program {
            Some(program) => self.answer_program(call, &request, program, &answer, &mut effects, env),
            None => {
                effects.reply(call, Message::typed(0, &answer));
            }
        }
        effects
    }

    /// Answers a program itself. Its walk goes on at vfs, and the opening of a device too, unless that is ours.
    fn answer_program(
        &mut self,
        call: CallId,
        request: &Request,
        program: &Program,
        answer: &Answer,
        effects: &mut Effects,
        env: &mut dyn Env,
    ) {
        if let Some(reply) = program.answer(answer) {
            effects.foreign(call, reply);
            return;
        }
        if let (
            Answer::Found(Found::Device { stat }),
            Operation::Open { flags, .. },
            Wants::Descriptor(slot),
        ) = (answer, &request.operation, program.wants)
        {
            if stat.is(mode::S_IFIFO) {
                let words = [stat.ino, u64::from(*flags), u64::from(slot), 0];
                effects.append(answered(call, self.open_fifo(call, words, env)));
                return;
            }
            if let Some(device) = Device::from_number(stat.rdev).filter(|_| stat.is(mode::S_IFCHR)) {
                let new = New { kind: Kind::Device(device), status: files::status_of_open(*flags) };
                effects.append(self.answer_opened(call, new, request.closes_on_exec(), env));
                return;
            }
        }
        effects.push(Effect::Forward { call, to: self.vfs, message: request.handed_back(answer) });
    }

    fn carry_out(
        &mut self,
        call: &Call,
        request: &Request,
        effects: &mut Effects,
        env: &mut dyn Env,
    ) -> Result<Progress, i32> {
        let now_ns = self.wall_ns(env);
        let start = match request.from {
            From::Root(volume) => self.tree.root(volume, now_ns)?,
            From::Node(ino) => ino,
            From::Session(badge) => {
                self.node_of(self.opens.get(&badge.0).ok_or(EBADF)?.kind).ok_or(ENOENT)?
            }
        };
        let target = match self.tree.walk(start, request)? {
            Walk::At(target) => target,
            Walk::Stopped(stop) => return Ok(Progress::Answered(Answer::Stopped(stop))),
        };
        if let Some(errno) = files::unnamed_error(&request.operation, target.name) {
            return Err(errno);
        }
        if let Operation::Open { flags, mode } = request.operation {
            return self.open_named(request, &target, (flags, mode), effects, env);
        }
        let author = Author { who: &request.credentials, now_ns, covers: &request.covers };
        if let Some(found) = self.change_names(&request.operation, &target, author)? {
            return Progress::found(found);
        }
        let ino = target.node.ok_or(ENOENT)?;
        if let Operation::Truncate(size) = request.operation {
            return self.truncate_named(call, ino, size, author, effects);
        }
        self.operate(ino, &request.operation, author).and_then(Progress::found)
    }

    /// The operations that make, remove or move names; `None` if it is another one.
    fn change_names(
        &mut self,
        operation: &Operation,
        target: &Target,
        author: Author,
    ) -> Result<Option<Found>, i32> {
        let made = match operation {
            Operation::MakeDirectory { mode } => self.tree.make_directory(target, author, *mode)?,
            Operation::MakeNode { mode, device } => self.tree.make_node(target, author, *mode, *device)?,
            Operation::MakeSymlink { target: text } => self.tree.make_symlink(target, author, text)?,
            Operation::Link { node } => {
                self.tree.link(target, author, *node)?;
                *node
            }
            Operation::Unlink => {
                self.tree.unlink(target, author, &mut self.arena)?;
                return Ok(Some(Found::Done));
            }
            Operation::RemoveDirectory => {
                self.tree.remove_directory(target, author, &mut self.arena)?;
                return Ok(Some(Found::Done));
            }
            Operation::Rename { directory, name, flags } => {
                let source = Source { directory: *directory, name };
                self.tree.rename(source, target, *flags, author, &mut self.arena)?;
                return Ok(Some(Found::Done));
            }
            Operation::Parent => return self.parent(target).map(Some),
            _ => return Ok(None),
        };
        Ok(Some(Found::Stat(self.stat(made)?)))
    }

    fn parent(&self, target: &Target) -> Result<Found, i32> {
        if let Some(ino) = target.node
            && target.slash
        {
            self.tree.directory(ino)?;
        }
        Ok(Found::Parent { directory: target.directory.ok_or(EBUSY)?, name: target.name.to_vec() })
    }

    /// truncate(2).
    fn truncate_named(
        &mut self,
        call: &Call,
        ino: Ino,
        size: u64,
        author: Author,
        effects: &mut Effects,
    ) -> Result<Progress, i32> {
        let node = self.tree.node(ino)?;
        match node.body {
            Body::Directory(_) => return Err(EISDIR),
            Body::File(_) if permits(node, author.who, W_OK) => {}
            Body::File(_) => return Err(EACCES),
            _ => return Err(EINVAL),
        }
        if self.grows_too_large(call, ino, size)? {
            return Ok(Progress::TooLarge);
        }
        let spans = self.resize(ino, size, author.who.uid, author.now_ns)?;
        clear(effects, &spans);
        Progress::found(Found::Done)
    }

    /// The operations on a node.
    fn operate(&mut self, ino: Ino, operation: &Operation, author: Author) -> Result<Found, i32> {
        let who = author.who;
        match operation {
            Operation::Stat => Ok(Found::Stat(self.stat(ino)?)),
            Operation::Access(wanted) => {
                let allowed = permits(self.tree.node(ino)?, who, *wanted & (R_OK | W_OK | X_OK));
                if allowed { Ok(Found::Done) } else { Err(EACCES) }
            }
            Operation::ReadLink => match &self.tree.node(ino)?.body {
                Body::Symlink(text) => Ok(Found::Text(text.clone())),
                _ => Err(EINVAL),
            },
            Operation::SetMode(permissions) => self.set_mode(ino, *permissions, who, author.now_ns),
            Operation::SetOwner(uid, gid) => self.set_owner(ino, *uid, *gid, who, author.now_ns),
            Operation::SetTimes(access, change) => {
                let owner = self.tree.node(ino)?.uid;
                if ![0, owner].contains(&who.uid) {
                    return Err(EPERM);
                }
                self.set_times(ino, *access, *change, author.now_ns)
            }
            Operation::Touch(now_ns) => {
                let node = self.tree.node(ino)?;
                if ![0, node.uid].contains(&who.uid) && !permits(node, who, W_OK) {
                    return Err(EACCES);
                }
                self.set_times(ino, Some(*now_ns), Some(*now_ns), author.now_ns)
            }
            Operation::StatFs => Ok(Found::StatFs(self.stat_fs())),
            Operation::PathOf if self.tree.node(ino)?.volume == NOWHERE => Ok(Found::Text(self.title(ino)?)),
            Operation::PathOf => Ok(Found::Text(self.tree.path_of(ino)?)),
            _ => Err(EINVAL),
        }
    }

    /// What stands for the path of a node that never had one.
    fn title(&self, ino: Ino) -> Result<Vec<u8>, i32> {
        let node = self.tree.node(ino)?;
        Ok(match node.mode & mode::S_IFMT {
            mode::S_IFIFO => format!("pipe:[{ino}]"),
            mode::S_IFSOCK => format!("socket:[{ino}]"),
            _ if self.counters.contains_key(&ino) => "anon_inode:[eventfd]".into(),
            _ if self.alarms.contains_key(&ino) => "anon_inode:[timerfd]".into(),
            _ => "/memfd: (deleted)".into(),
        }
        .into_bytes())
    }

    fn open_named(
        &mut self,
        request: &Request,
        target: &Target,
        (flags, permissions): (u32, u32),
        effects: &mut Effects,
        env: &mut dyn Env,
    ) -> Result<Progress, i32> {
        let path_only = flags & O_PATH != 0;
        let flags = if path_only { flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) } else { flags };
        let creates = flags & O_CREAT != 0;
        if creates && flags & O_DIRECTORY != 0 {
            return Err(EINVAL);
        }
        let now_ns = self.wall_ns(env);
        if flags & TMPFILE_BIT != 0 {
            let body = Body::File(File { nameless: flags & O_EXCL == 0, ..File::default() });
            let author = Author { who: &request.credentials, now_ns, covers: &request.covers };
            let directory = target.node.ok_or(ENOENT)?;
            let file_mode = mode::S_IFREG | permissions & 0o7777;
            let ino = self.tree.create_nameless(directory, author, file_mode, body)?;
            return self.opening(ino, flags, true);
        }
        let (ino, created) = match target.node {
            Some(_) if creates && flags & O_EXCL != 0 => return Err(EEXIST),
            Some(ino) => (ino, false),
            None if !creates => return Err(ENOENT),
            None if target.slash => return Err(EISDIR),
            None => {
                let author = Author { who: &request.credentials, now_ns, covers: &request.covers };
                let file_mode = mode::S_IFREG | permissions & 0o7777;
                (self.tree.create(target, author, file_mode, Body::File(Default::default()))?, true)
            }
        };
        let node = self.tree.node(ino)?;
        if !created && !path_only {
            check_open(node, &request.credentials, flags)?;
        }
        if flags & O_DIRECTORY != 0 && node.directory().is_none() {
            return Err(ENOTDIR);
        }
        let stat = node.stat(ino, self.number);
        match node.body {
            Body::Special if !path_only && !stat.is(mode::S_IFIFO) => return Err(ENXIO),
            // vfs opens a device at its server, and hands the open of a FIFO on to us.
            Body::Device(_) | Body::Special if !path_only => return Progress::found(Found::Device { stat }),
            Body::File(_) if flags & O_TRUNC != 0 && !created => {
                let spans = self.resize(ino, 0, request.credentials.uid, now_ns)?;
                clear(effects, &spans);
            }
            _ => {}
        }
        self.opening(ino, flags, created)
    }

    fn opening(&self, ino: Ino, flags: u32, created: bool) -> Result<Progress, i32> {
        let new = New { kind: Kind::Node(ino), status: files::status_of_open(flags) };
        Ok(Progress::Opened(new, Found::Opened { stat: self.stat(ino)?, created }))
    }

    /// The node behind a session.
    pub(crate) fn node_of(&self, kind: Kind) -> Option<Ino> {
        match kind {
            Kind::Device(device) => self.device_node(device),
            _ => kind.node(),
        }
    }

    /// What stat(2) tells of a node.
    pub(crate) fn stat(&self, ino: Ino) -> Result<Stat, i32> {
        Ok(self.tree.node(ino)?.stat(ino, self.number))
    }

    /// What statfs(2) tells: all volumes share the arena.
    pub(crate) fn stat_fs(&self) -> StatFs {
        let (nodes, free_nodes) = self.tree.count();
        let free = self.arena.available(Use::File);
        StatFs {
            kind: TMPFS_MAGIC,
            bsize: PAGE,
            blocks: self.arena.total(),
            bfree: free,
            bavail: free,
            files: nodes + free_nodes,
            ffree: free_nodes,
            frsize: PAGE,
            flags: 0,
        }
    }

    /// Sets a file's size. The answer is what to clear in the arena.
    pub(crate) fn resize(&mut self, ino: Ino, size: u64, uid: u32, now_ns: i64) -> Result<Vec<Span>, i32> {
        if size > SIZE_MAX {
            return Err(EINVAL);
        }
        let node = self.tree.node_mut(ino)?;
        if node.runs > 0 {
            return Err(ETXTBSY);
        }
        let file = node.file_mut().ok_or(EINVAL)?;
        file.may_resize(size)?;
        let spans = file.contents.resize(size, &mut self.arena);
        node.drop_privileges(uid);
        node.touch_write(now_ns);
        self.recall(ino, size / PAGE);
        Ok(spans)
    }

    /// chmod(2) and fchmod(2).
    pub(crate) fn set_mode(
        &mut self,
        ino: Ino,
        permissions: u32,
        who: &Credentials,
        now_ns: i64,
    ) -> Result<Found, i32> {
        let node = self.tree.node_mut(ino)?;
        if node.is(mode::S_IFLNK) {
            return Err(EOPNOTSUPP);
        }
        if ![0, node.uid].contains(&who.uid) {
            return Err(EPERM);
        }
        let foreign_group = who.uid != 0 && who.gid != node.gid;
        let dropped = if foreign_group { mode::S_ISGID } else { 0 };
        node.mode = node.mode & mode::S_IFMT | permissions & 0o7777 & !dropped;
        node.ctime_ns = now_ns;
        Ok(Found::Done)
    }

    /// chown(2) and fchown(2).
    pub(crate) fn set_owner(
        &mut self,
        ino: Ino,
        uid: Option<u32>,
        gid: Option<u32>,
        who: &Credentials,
        now_ns: i64,
    ) -> Result<Found, i32> {
        let node = self.tree.node_mut(ino)?;
        let own = who.uid == node.uid;
        let gives_away = uid.is_some_and(|uid| !own || uid != node.uid);
        let changes_group =
            gid.is_some_and(|gid| !own || gid != node.gid && gid != who.gid && !who.groups.contains(&gid));
        if who.uid != 0 && (gives_away || changes_group) {
            return Err(EPERM);
        }
        node.uid = uid.unwrap_or(node.uid);
        node.gid = gid.unwrap_or(node.gid);
        if !node.is(mode::S_IFDIR) && (uid.is_some() || gid.is_some()) {
            node.mode &= !set_id_bits(node.mode);
        }
        node.ctime_ns = now_ns;
        Ok(Found::Done)
    }

    fn set_times(
        &mut self,
        ino: Ino,
        access: Option<i64>,
        change: Option<i64>,
        now_ns: i64,
    ) -> Result<Found, i32> {
        let node = self.tree.node_mut(ino)?;
        node.atime_ns = access.unwrap_or(node.atime_ns);
        node.mtime_ns = change.unwrap_or(node.mtime_ns);
        if access.is_some() || change.is_some() {
            node.ctime_ns = now_ns;
        }
        Ok(Found::Done)
    }
}

/// Whether a node that exists may be opened so.
fn check_open(node: &crate::node::Node, who: &Credentials, flags: u32) -> Result<(), i32> {
    let writes = flags & O_ACCMODE != O_RDONLY || flags & O_TRUNC != 0;
    let is_directory = node.directory().is_some();
    if flags & O_DIRECTORY != 0 && !is_directory {
        return Err(ENOTDIR);
    }
    match node.body {
        Body::Symlink(_) => return Err(ELOOP),
        Body::Directory(_) if writes || flags & O_CREAT != 0 => return Err(EISDIR),
        _ => {}
    }
    if !permits(node, who, files::wanted_by_open(flags)) {
        return Err(EACCES);
    }
    let busy = if flags & O_RUNS != 0 { node.writers > 0 } else { writes && node.runs > 0 };
    if busy {
        return Err(ETXTBSY);
    }
    if flags & O_NOATIME != 0 && ![0, node.uid].contains(&who.uid) {
        return Err(EPERM);
    }
    Ok(())
}
