//! The system calls on open regular files and directories.

use alloc::vec::Vec;

use crate::Tmpfs;
use crate::arena::PAGE;
use crate::contents::SIZE_MAX;
use crate::node::{File, Ino};
use crate::transfer::{Direction, Outcome, Ranges, Refusal, TRANSFER_MAX, clear, copy, hand_out, value};
use libipc::abi::CallId;
use libipc::linux::errno::*;
use libipc::linux::open::O_APPEND;
use libipc::proto::process;
use libipc::server::files::{self, DirentLayout, Dirents};
use libipc::server::{Call, Effect, Effects, Env, ForeignReply, Message, Operation};

const SEEK_SET: u64 = 0;
const SEEK_CUR: u64 = 1;
const SEEK_DATA: u64 = 3;
const SEEK_HOLE: u64 = 4;
const FALLOC_FL_KEEP_SIZE: u64 = 1;
const FALLOC_FL_PUNCH_HOLE: u64 = 2;
const FALLOC_FL_ZERO_RANGE: u64 = 16;
/// Most bytes of directory records in one answer.
const RECORDS_MAX: u64 = 32768;
/// Bytes of a caller's buffer that the kernel has faulted in before a plain read is delivered.
const PREFAULTED: u64 = 65536;

/// No more seals (fcntl F_ADD_SEALS).
pub const F_SEAL_SEAL: u32 = 1;
const F_SEAL_SHRINK: u32 = 2;
const F_SEAL_GROW: u32 = 4;
const F_SEAL_WRITE: u32 = 8;
const F_SEAL_FUTURE_WRITE: u32 = 16;
const F_SEAL_ALL: u32 = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;

impl File {
    /// Whether seals allow this size.
    pub fn may_resize(&self, size: u64) -> Result<(), i32> {
        let seal = match size.cmp(&self.contents.size()) {
            core::cmp::Ordering::Less => F_SEAL_SHRINK,
            core::cmp::Ordering::Equal => 0,
            core::cmp::Ordering::Greater => F_SEAL_GROW,
        };
        if self.seals & seal != 0 { Err(EPERM) } else { Ok(()) }
    }

    /// Whether seals allow writing up to `end`.
    fn may_write(&self, end: u64) -> Result<(), i32> {
        if self.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE) != 0 {
            return Err(EPERM);
        }
        self.may_resize(end.max(self.contents.size()))
    }
}

impl Tmpfs {
    /// read(2) and its relatives. `at` is the offset of those that have one of their own.
    pub(crate) fn file_read(
        &mut self,
        call: &Call,
        ino: Ino,
        ranges: &Ranges,
        at: Option<u64>,
        env: &mut dyn Env,
    ) -> Outcome {
        let now_ns = self.wall_ns(env);
        let node = self.tree.node_mut(ino)?;
        let size = match node.file() {
            Some(file) => file.contents.size(),
            None if node.directory().is_some() => return Err(Refusal::Errno(EISDIR)),
            None => return Err(Refusal::Errno(EINVAL)),
        };
        let offset = at.unwrap_or(call.position);
        let wanted = ranges.total().min(TRANSFER_MAX).min(size.saturating_sub(offset));
        if wanted == 0 {
            return value(call.id, 0);
        }
        let ready = match ranges {
            Ranges::One(_) => wanted.min(PREFAULTED),
            Ranges::Many(_) => 0,
        };
        let length = match wanted - ready {
            0 => wanted,
            rest => ready + ranges.probe(call.id, ready, rest, env)?,
        };
        let spans = node.file().map(|file| file.contents.read(offset, length)).unwrap_or_default();
        node.touch_read(now_ns);
        let mut effects = Effects::none();
        copy(&mut effects, call.id, Direction::Read, ranges, 0, &spans);
        finish(&mut effects, call, length, at.is_none().then(|| offset + length));
        Ok(effects)
    }

    /// write(2) and its relatives.
    pub(crate) fn file_write(
        &mut self,
        call: &Call,
        ino: Ino,
        ranges: &Ranges,
        at: Option<u64>,
        env: &mut dyn Env,
    ) -> Outcome {
        let now_ns = self.wall_ns(env);
        let wanted = ranges.total().min(TRANSFER_MAX);
        let node = self.tree.node_mut(ino)?;
        let file = node.file_mut().ok_or(EINVAL)?;
        if wanted == 0 {
            return value(call.id, 0);
        }
        let appends = call.status & O_APPEND != 0;
        let offset = if appends { file.contents.size() } else { at.unwrap_or(call.position) };
        let wanted = wanted.min(SIZE_MAX.saturating_sub(offset));
        if wanted == 0 {
            return Err(Refusal::Errno(EFBIG));
        }
        let wanted = match call.caller.largest_file() {
            Some(limit) if offset >= limit => return Ok(self.too_large(call.id)),
            Some(limit) => wanted.min(limit - offset),
            None => wanted,
        };
        file.may_write(offset + wanted)?;
        let length = ranges.probe(call.id, 0, wanted, env)?;
        let room = file.contents.write(offset, length, &mut self.arena);
        if room.length == 0 {
            return Err(Refusal::Errno(ENOSPC));
        }
        node.drop_privileges(call.caller.uid);
        node.touch_write(now_ns);
        let mut effects = Effects::none();
        clear(&mut effects, &room.clear);
        copy(&mut effects, call.id, Direction::Write, ranges, 0, &room.spans);
        finish(&mut effects, call, room.length, at.is_none().then(|| offset + room.length));
        Ok(effects)
    }

    /// Puts bytes that another server has into a file.
    pub(crate) fn file_put(
        &mut self,
        ino: Ino,
        offset: u64,
        bytes: &[u8],
        uid: u32,
        env: &dyn Env,
    ) -> Result<(u64, Effects), i32> {
        let now_ns = self.wall_ns(env);
        let node = self.tree.node_mut(ino)?;
        let file = node.file_mut().ok_or(EINVAL)?;
        let wanted = (bytes.len() as u64).min(SIZE_MAX.saturating_sub(offset));
        if wanted == 0 {
            return Err(EFBIG);
        }
        file.may_write(offset + wanted)?;
        let room = file.contents.write(offset, wanted, &mut self.arena);
        if room.length == 0 {
            return Err(ENOSPC);
        }
        node.drop_privileges(uid);
        node.touch_write(now_ns);
        let mut effects = Effects::none();
        clear(&mut effects, &room.clear);
        let mut rest = bytes;
        for span in &room.spans {
            let (here, behind) = rest.split_at((span.length as usize).min(rest.len()));
            effects.act(Operation::ArenaWrite { offset: span.offset, bytes: here.to_vec() });
            rest = behind;
        }
        Ok((room.length, effects))
    }

    /// lseek(2).
    pub(crate) fn file_seek(&self, call: &Call, ino: Ino, offset: i64, whence: u64) -> Outcome {
        let node = self.tree.node(ino)?;
        let position = match node.file() {
            Some(File { contents, .. }) if matches!(whence, SEEK_DATA | SEEK_HOLE) => {
                let from = files::seek(call.position, offset, SEEK_DATA, contents.size())?;
                if whence == SEEK_HOLE {
                    contents.next_hole(from)
                } else {
                    contents.next_data(from).ok_or(ENXIO)?
                }
            }
            Some(file) => files::seek(call.position, offset, whence, file.contents.size())?,
            None if matches!(whence, SEEK_SET | SEEK_CUR) => files::seek(call.position, offset, whence, 0)?,
            None => return Err(Refusal::Errno(EINVAL)),
        };
        let mut effects = Effects::none();
        finish(&mut effects, call, position, Some(position));
        Ok(effects)
    }

    /// ftruncate(2).
    pub(crate) fn truncate_open(&mut self, call: &Call, ino: Ino, size: u64, env: &dyn Env) -> Outcome {
        if self.grows_too_large(call, ino, size)? {
            return Ok(self.too_large(call.id));
        }
        let spans = self.resize(ino, size, call.caller.uid, self.wall_ns(env))?;
        let mut effects = Effects::none();
        clear(&mut effects, &spans);
        effects.result(call.id, 0);
        Ok(effects)
    }

    /// Whether a size is beyond what a caller may make of a file that is smaller.
    pub(crate) fn grows_too_large(&self, call: &Call, ino: Ino, size: u64) -> Result<bool, i32> {
        let now = self.tree.node(ino)?.file().map_or(u64::MAX, |file| file.contents.size());
        Ok(size > now && call.caller.largest_file().is_some_and(|limit| size > limit))
    }

    /// Hands a call on that would make a file larger than its caller may: the process server says so.
    pub(crate) fn too_large(&self, call: CallId) -> Effects {
        let message = Message::label(process::FILE_LIMIT);
        Effects::one(Effect::Forward { call, to: self.proc, message })
    }

    /// fallocate(2).
    pub(crate) fn allocate(&mut self, call: &Call, ino: Ino, arguments: [u64; 6], env: &dyn Env) -> Outcome {
        let [_, how, offset, length, ..] = arguments;
        let now_ns = self.wall_ns(env);
        let end = match (i64::try_from(offset), i64::try_from(length)) {
            (Ok(_), Ok(1..)) => offset + length,
            _ => return Err(Refusal::Errno(EINVAL)),
        };
        if how & (FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE) == 0 && self.grows_too_large(call, ino, end)? {
            return Ok(self.too_large(call.id));
        }
        let node = self.tree.node_mut(ino)?;
        if node.directory().is_some() {
            return Err(Refusal::Errno(EISDIR));
        }
        let file = node.file_mut().ok_or(ENODEV)?;
        if end > SIZE_MAX {
            return Err(Refusal::Errno(EFBIG));
        }
        let keeps = how & FALLOC_FL_KEEP_SIZE != 0;
        let size = if keeps { file.contents.size() } else { end.max(file.contents.size()) };
        let punches = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
        let spans = match how {
            0 | FALLOC_FL_KEEP_SIZE => {
                file.may_resize(size)?;
                file.contents.allot(offset, end, &mut self.arena).ok_or(ENOSPC)?
            }
            how if how == punches || how & !FALLOC_FL_KEEP_SIZE == FALLOC_FL_ZERO_RANGE => {
                file.may_write(size)?;
                file.contents.punch(offset, end, &mut self.arena)
            }
            _ => return Err(Refusal::Errno(EOPNOTSUPP)),
        };
        file.contents.grow(size);
        node.touch_write(now_ns);
        self.recall(ino, offset / PAGE);
        let mut effects = Effects::none();
        clear(&mut effects, &spans);
        effects.result(call.id, 0);
        Ok(effects)
    }

    /// getdents64(2) and getdents(2): argument 1 is the buffer, 2 its size.
    pub(crate) fn read_directory(
        &mut self,
        call: &Call,
        ino: Ino,
        layout: DirentLayout,
        ranges: &Ranges,
        env: &dyn Env,
    ) -> Outcome {
        if self.tree.node(ino)?.links == 0 {
            return Err(Refusal::Errno(ENOENT));
        }
        let mut records = Dirents::new(layout, ranges.total().min(RECORDS_MAX));
        for (position, name, entry) in self.tree.list(ino, call.position)? {
            let file_mode = self.tree.get(entry).map_or(0, |node| node.mode);
            if !records.push(entry, position, file_mode, name) {
                break;
            }
        }
        let (bytes, position) = records.finish()?;
        let now_ns = self.wall_ns(env);
        self.tree.node_mut(ino)?.touch_read(now_ns);
        let mut effects = Effects::none();
        let reply = ForeignReply { result: bytes.len() as i64, position, ..ForeignReply::default() };
        hand_out(&mut effects, call.id, ranges, bytes, reply);
        Ok(effects)
    }

    /// F_GET_SEALS.
    pub(crate) fn seals(&self, call: &Call, ino: Ino) -> Outcome {
        let file = self.tree.node(ino)?.file().ok_or(EINVAL)?;
        value(call.id, u64::from(file.seals))
    }

    /// F_ADD_SEALS.
    pub(crate) fn add_seals(&mut self, call: &Call, ino: Ino, seals: u64) -> Outcome {
        let seals = u32::try_from(seals).ok().filter(|seals| seals & !F_SEAL_ALL == 0).ok_or(EINVAL)?;
        let file = self.tree.node_mut(ino)?.file_mut().ok_or(EINVAL)?;
        if file.seals & F_SEAL_SEAL != 0 {
            return Err(Refusal::Errno(EPERM));
        }
        file.seals |= seals;
        value(call.id, 0)
    }

    /// Bytes of a file, at most a payload, for another server.
    pub(crate) fn bytes_of(
        &self,
        ino: Ino,
        offset: u64,
        length: u64,
        env: &mut dyn Env,
    ) -> Result<Vec<u8>, i32> {
        let file = self.tree.node(ino)?.file().ok_or(EINVAL)?;
        let length = length.min(u64::from(libipc::abi::PAYLOAD_MAX));
        let mut bytes = Vec::new();
        for span in file.contents.read(offset, length) {
            bytes.extend(env.read_arena(span.offset, span.length as u32));
        }
        Ok(bytes)
    }
}

#[inline]
fn finish(effects: &mut Effects, call: &Call, result: u64, position: Option<u64>) {
    effects.foreign(call.id, ForeignReply { result: result as i64, position, ..ForeignReply::default() });
}
