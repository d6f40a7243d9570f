//! Making, removing and moving names: mkdir, mknod, symlink, link, unlink, rmdir and rename, with Linux's order of
//! checks, so that of several errors the same one is reported.

use crate::arena::Arena;
use crate::node::{Body, Directory, File, Ino, Node};
use crate::tree::{Target, Tree, permits};
use libipc::linux::errno::*;
use libipc::linux::mode;
use libipc::linux::open::{PATH_MAX, RENAME_EXCHANGE, RENAME_NOREPLACE};
use libipc::proto::fs::Credentials;
use libipc::server::files::{self, W_OK, X_OK};

/// On whose behalf names change, and when.
#[derive(Clone, Copy)]
pub struct Author<'a> {
    /// Who.
    pub who: &'a Credentials,
    /// When, ns of the Epoch.
    pub now_ns: i64,
    /// Directories that carry mounts: their names stay.
    pub covers: &'a [Ino],
}

/// The source of a rename.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// The directory.
    pub directory: Ino,
    /// The name in it.
    pub name: &'a [u8],
}

/// One end of a rename, looked up.
struct End<'a> {
    directory: Ino,
    name: &'a [u8],
    ino: Ino,
    is_directory: bool,
}

impl Tree {
    /// Makes a node at a name that is free. `file_mode` has the type; the umask applies to its permissions.
    pub fn create(
        &mut self,
        target: &Target,
        author: Author,
        file_mode: u32,
        body: Body,
    ) -> Result<Ino, i32> {
        let is_directory = file_mode & mode::S_IFMT == mode::S_IFDIR;
        let directory = self.free_name(target, is_directory)?;
        let ino = self.create_nameless(directory, author, file_mode, body)?;
        self.node_mut(ino)?.links = if is_directory { 2 } else { 1 };
        self.attach(directory, target.name, ino, author.now_ns)?;
        if is_directory {
            self.count_subdirectory(directory, 1);
        }
        Ok(ino)
    }

    /// Makes a node as in a directory, but without a name there.
    pub fn create_nameless(
        &mut self,
        directory: Ino,
        author: Author,
        file_mode: u32,
        body: Body,
    ) -> Result<Ino, i32> {
        let is_directory = file_mode & mode::S_IFMT == mode::S_IFDIR;
        self.may_change(directory, author.who)?;
        let parent = self.node(directory)?;
        let inherits = parent.mode & mode::S_ISGID != 0;
        let volume = parent.volume;
        let gid = if inherits { parent.gid } else { author.who.gid };
        let set_group = if inherits && is_directory { mode::S_ISGID } else { 0 };
        let file_mode = match body {
            Body::Symlink(_) => mode::S_IFLNK | 0o777,
            _ => file_mode & !(author.who.umask & 0o777) | set_group,
        };
        self.insert(Node::new(volume, file_mode, (author.who.uid, gid), author.now_ns, body))
    }

    /// mkdir(2).
    pub fn make_directory(&mut self, target: &Target, author: Author, permissions: u32) -> Result<Ino, i32> {
        let parent = target.directory.ok_or(EEXIST)?;
        let file_mode = mode::S_IFDIR | permissions & (0o777 | mode::S_ISVTX);
        self.create(target, author, file_mode, Body::Directory(Directory::new(parent)))
    }

    /// mknod(2). Only the superuser makes devices.
    pub fn make_node(
        &mut self,
        target: &Target,
        author: Author,
        file_mode: u32,
        device: u64,
    ) -> Result<Ino, i32> {
        let kind = match file_mode & mode::S_IFMT {
            0 => mode::S_IFREG,
            kind => kind,
        };
        let body = match kind {
            mode::S_IFREG => Body::File(Default::default()),
            mode::S_IFIFO | mode::S_IFSOCK => Body::Special,
            mode::S_IFCHR | mode::S_IFBLK => Body::Device(device),
            mode::S_IFDIR => return Err(EPERM),
            _ => return Err(EINVAL),
        };
        self.free_name(target, false)?;
        if matches!(body, Body::Device(_)) && author.who.uid != 0 {
            return Err(EPERM);
        }
        self.create(target, author, kind | file_mode & 0o7777, body)
    }

    /// symlink(2).
    pub fn make_symlink(&mut self, target: &Target, author: Author, text: &[u8]) -> Result<Ino, i32> {
        if text.is_empty() {
            return Err(ENOENT);
        }
        if text.len() as u64 >= u64::from(PATH_MAX) {
            return Err(ENAMETOOLONG);
        }
        self.create(target, author, mode::S_IFLNK, Body::Symlink(text.to_vec()))
    }

    /// link(2): another name for a node that has one already, or was made to be given one.
    pub fn link(&mut self, target: &Target, author: Author, ino: Ino) -> Result<(), i32> {
        let directory = self.free_name(target, false)?;
        let (node, parent) = (self.node(ino)?, self.node(directory)?);
        if node.volume != parent.volume {
            return Err(EXDEV);
        }
        self.may_change(directory, author.who)?;
        match node {
            Node { body: Body::Directory(_), .. } => return Err(EPERM),
            Node { links: 0, body, .. } if !matches!(body, Body::File(File { nameless: true, .. })) => {
                return Err(ENOENT);
            }
            Node { links: u32::MAX, .. } => return Err(EMLINK),
            _ => {}
        }
        self.attach(directory, target.name, ino, author.now_ns)?;
        let node = self.node_mut(ino)?;
        node.links += 1;
        node.ctime_ns = author.now_ns;
        if let Some(file) = node.file_mut() {
            file.nameless = false;
        }
        Ok(())
    }

    /// unlink(2).
    pub fn unlink(&mut self, target: &Target, author: Author, arena: &mut Arena) -> Result<(), i32> {
        let end = self.named(target)?;
        self.may_delete(&end, author)?;
        if end.is_directory {
            return Err(EISDIR);
        }
        if target.slash {
            return Err(ENOTDIR);
        }
        self.detach(&end, author.now_ns)?;
        self.drop_link(end.ino, author.now_ns, arena);
        Ok(())
    }

    /// rmdir(2).
    pub fn remove_directory(
        &mut self,
        target: &Target,
        author: Author,
        arena: &mut Arena,
    ) -> Result<(), i32> {
        let end = self.named(target)?;
        self.may_delete(&end, author)?;
        if !end.is_directory {
            return Err(ENOTDIR);
        }
        if author.covers.contains(&end.ino) {
            return Err(EBUSY);
        }
        if !self.directory(end.ino)?.1.is_empty() {
            return Err(ENOTEMPTY);
        }
        self.detach(&end, author.now_ns)?;
        self.drop_directory(end.directory, end.ino, author.now_ns, arena);
        Ok(())
    }

    /// renameat2(2).
    pub fn rename(
        &mut self,
        source: Source,
        target: &Target,
        flags: u32,
        author: Author,
        arena: &mut Arena,
    ) -> Result<(), i32> {
        let both = RENAME_EXCHANGE | RENAME_NOREPLACE;
        if flags & !both != 0 || flags & both == both {
            return Err(EINVAL);
        }
        files::check_name(source.name)?;
        if matches!(source.name, b"." | b"..") {
            return Err(EBUSY);
        }
        let directory = target.directory.ok_or(EBUSY)?;
        if self.directory(source.directory)?.0.volume != self.directory(directory)?.0.volume {
            return Err(EXDEV);
        }
        let from = self.end(source.directory, source.name)?;
        if flags & RENAME_EXCHANGE != 0 {
            return self.exchange(from, &self.named(target)?, author);
        }
        if target.node.is_some() && flags & RENAME_NOREPLACE != 0 {
            return Err(EEXIST);
        }
        if target.slash && !from.is_directory {
            return Err(ENOTDIR);
        }
        if from.is_directory && self.is_below(directory, from.ino) {
            return Err(EINVAL);
        }
        match target.node {
            Some(_) => self.replace(from, &self.named(target)?, author, arena),
            None => {
                self.may_delete(&from, author)?;
                self.may_change(directory, author.who)?;
                self.may_move(&from, directory, author)?;
                self.move_name(&from, directory, target.name, author.now_ns)
            }
        }
    }

    /// Moves a name onto one that is taken.
    fn replace(&mut self, from: End, onto: &End, author: Author, arena: &mut Arena) -> Result<(), i32> {
        if self.is_below(from.directory, onto.ino) {
            return Err(ENOTEMPTY);
        }
        if from.ino == onto.ino {
            return Ok(());
        }
        self.may_delete(&from, author)?;
        self.may_delete(onto, author)?;
        match (from.is_directory, onto.is_directory) {
            (true, false) => return Err(ENOTDIR),
            (false, true) => return Err(EISDIR),
            _ => {}
        }
        self.may_move(&from, onto.directory, author)?;
        if author.covers.contains(&onto.ino) {
            return Err(EBUSY);
        }
        if onto.is_directory && !self.directory(onto.ino)?.1.is_empty() {
            return Err(ENOTEMPTY);
        }
        self.move_name(&from, onto.directory, onto.name, author.now_ns)?;
        if onto.is_directory {
            self.drop_directory(onto.directory, onto.ino, author.now_ns, arena);
        } else {
            self.drop_link(onto.ino, author.now_ns, arena);
        }
        Ok(())
    }

    /// Lets two names change places (RENAME_EXCHANGE).
    fn exchange(&mut self, one: End, other: &End, author: Author) -> Result<(), i32> {
        if one.is_directory && self.is_below(other.directory, one.ino)
            || other.is_directory && self.is_below(one.directory, other.ino)
        {
            return Err(EINVAL);
        }
        if one.ino == other.ino {
            return Ok(());
        }
        self.may_delete(&one, author)?;
        self.may_delete(other, author)?;
        self.may_move(&one, other.directory, author)?;
        self.may_move(other, one.directory, author)?;
        for (end, place) in [(&one, other), (other, &one)] {
            self.attach(place.directory, place.name, end.ino, author.now_ns)?;
            self.adopt(end, place.directory, author.now_ns)?;
        }
        Ok(())
    }

    /// The directory of a name that is to be made.
    fn free_name(&self, target: &Target, is_directory: bool) -> Result<Ino, i32> {
        let directory = target.directory.ok_or(EEXIST)?;
        if target.node.is_some() {
            return Err(EEXIST);
        }
        if target.slash && !is_directory {
            return Err(ENOENT);
        }
        Ok(directory)
    }

    fn end<'a>(&self, directory: Ino, name: &'a [u8]) -> Result<End<'a>, i32> {
        let ino = self.directory(directory)?.1.get(name).ok_or(ENOENT)?;
        Ok(End { directory, name, ino, is_directory: self.node(ino)?.is(mode::S_IFDIR) })
    }

    fn named<'a>(&self, target: &Target<'a>) -> Result<End<'a>, i32> {
        self.end(target.directory.ok_or(EBUSY)?, target.name)
    }

    /// Whether names may be made in a directory.
    fn may_change(&self, directory: Ino, who: &Credentials) -> Result<(), i32> {
        let (node, _) = self.directory(directory)?;
        if !permits(node, who, W_OK | X_OK) {
            return Err(EACCES);
        }
        if node.links == 0 { Err(ENOENT) } else { Ok(()) }
    }

    /// Whether a name may be taken away.
    fn may_delete(&self, end: &End, author: Author) -> Result<(), i32> {
        self.may_change(end.directory, author.who)?;
        let (directory, node) = (self.node(end.directory)?, self.node(end.ino)?);
        if files::sticky_refuses(directory.mode, directory.uid, node.uid, author.who) {
            return Err(EPERM);
        }
        Ok(())
    }

    /// Whether a node may be moved at all: a directory's `..` changes with its parent, and a mount point stays.
    fn may_move(&self, end: &End, directory: Ino, author: Author) -> Result<(), i32> {
        let moves_up = end.is_directory && end.directory != directory;
        if moves_up && !permits(self.node(end.ino)?, author.who, W_OK) {
            return Err(EACCES);
        }
        if author.covers.contains(&end.ino) { Err(EBUSY) } else { Ok(()) }
    }

    fn move_name(&mut self, from: &End, directory: Ino, name: &[u8], now_ns: i64) -> Result<(), i32> {
        self.detach(from, now_ns)?;
        self.attach(directory, name, from.ino, now_ns)?;
        self.adopt(from, directory, now_ns)
    }

    /// Notes on a moved node that it moved; a directory gets its new parent, and is counted there.
    fn adopt(&mut self, end: &End, parent: Ino, now_ns: i64) -> Result<(), i32> {
        let node = self.node_mut(end.ino)?;
        node.ctime_ns = now_ns;
        if let Some(directory) = node.directory_mut() {
            directory.set_parent(parent);
            self.count_subdirectory(end.directory, -1);
            self.count_subdirectory(parent, 1);
        }
        Ok(())
    }

    fn attach(&mut self, directory: Ino, name: &[u8], ino: Ino, now_ns: i64) -> Result<(), i32> {
        let parent = self.node_mut(directory)?;
        parent.touch_write(now_ns);
        let position = parent.directory_mut().ok_or(ENOTDIR)?.put(name, ino);
        self.node_mut(ino)?.place = Some((directory, position));
        Ok(())
    }

    fn detach(&mut self, end: &End, now_ns: i64) -> Result<(), i32> {
        let parent = self.node_mut(end.directory)?;
        parent.touch_write(now_ns);
        parent.directory_mut().ok_or(ENOTDIR)?.remove(end.name);
        Ok(())
    }

    fn drop_link(&mut self, ino: Ino, now_ns: i64, arena: &mut Arena) {
        if let Some(node) = self.get_mut(ino) {
            node.links = node.links.saturating_sub(1);
            node.ctime_ns = now_ns;
        }
        self.reap(ino, arena);
    }

    fn drop_directory(&mut self, parent: Ino, ino: Ino, now_ns: i64, arena: &mut Arena) {
        self.count_subdirectory(parent, -1);
        if let Some(node) = self.get_mut(ino) {
            node.links = 0;
            node.ctime_ns = now_ns;
        }
        self.reap(ino, arena);
    }

    /// Changes the link count of a directory that a subdirectory joins or leaves.
    fn count_subdirectory(&mut self, directory: Ino, difference: i32) {
        if let Some(node) = self.get_mut(directory) {
            node.links = node.links.saturating_add_signed(difference);
        }
    }

    /// The entries of a directory behind a position, `.` and `..` first: position, name, node.
    pub fn list(&self, ino: Ino, position: u64) -> Result<impl Iterator<Item = (u64, &[u8], Ino)>, i32> {
        let (_, directory) = self.directory(ino)?;
        let dots = [(1, b".".as_slice(), ino), (2, b"..".as_slice(), directory.parent())];
        let dots = dots.into_iter().filter(move |(at, ..)| *at > position);
        Ok(dots.chain(directory.after(position)))
    }
}
