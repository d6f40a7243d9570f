//! Linux calls with paths, taken apart: each becomes a row with a walk and a purpose, or an error at once.

mod attributes;
mod names;
mod open;
mod sockets;

use alloc::vec::Vec;

use libipc::linux::call::{EPOLL_PWAIT, EPOLL_PWAIT2};
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::proto::fs::Operation;
use libipc::proto::process::GROUPS;
use libipc::server::{Call, Effects, Env, Foreign};

use crate::Vfs;
use crate::row::{Expects, Purpose, Row, Target};
use crate::settle::value;
use crate::walk::{Aim, Walk};
use crate::who::{Place, Who};

/// A Linux call as its decoder sees it.
pub(crate) struct Args<'a> {
    pub call: &'a Call,
    pub foreign: &'a Foreign,
    pub who: Who,
    /// The time of the Epoch, ns.
    pub now_ns: i64,
}

/// One of a call's paths: which input it is, and where its descriptor is named (argument and place in `named`).
#[derive(Clone, Copy)]
pub(crate) struct PathAt {
    pub input: usize,
    pub descriptor: Option<(usize, usize)>,
    /// An empty path means what the descriptor names.
    pub may_be_empty: bool,
}

/// The path in the first input, from the working directory.
pub(crate) const PLAIN: PathAt = PathAt { input: 0, descriptor: None, may_be_empty: false };
/// The path in the second input, from the working directory.
pub(crate) const SECOND: PathAt = PathAt { input: 1, ..PLAIN };
/// The path in the first input, from the directory in the first argument.
pub(crate) const AT: PathAt = PathAt { descriptor: Some((0, 0)), ..PLAIN };

impl PathAt {
    /// The same path; with AT_EMPTY_PATH among the flags it may be empty.
    pub fn flags(self, flags: u64) -> PathAt {
        PathAt { may_be_empty: flags & u64::from(AT_EMPTY_PATH) != 0, ..self }
    }
}

impl Args<'_> {
    /// An argument.
    pub fn word(&self, index: usize) -> u64 {
        self.foreign.arguments.get(index).copied().unwrap_or(0)
    }

    /// An argument of 32 bits.
    pub fn int(&self, index: usize) -> u32 {
        self.word(index) as u32
    }

    /// What was gathered of the caller's memory.
    pub fn input(&self, index: usize) -> Option<&[u8]> {
        self.foreign.inputs.get(index)?.as_deref()
    }

    /// Where a path argument leads from.
    ///
    /// # Errors
    /// `EFAULT` for none, `ENOENT` for an empty one, `ENAMETOOLONG`, and `EBADF` for a descriptor that is not open.
    pub fn target(&self, path: PathAt) -> Result<Target, i32> {
        let text = match self.input(path.input) {
            None if path.may_be_empty => &[],
            None => return Err(EFAULT),
            Some([]) if !path.may_be_empty => return Err(ENOENT),
            Some(text) if text.len() as u64 >= u64::from(PATH_MAX) => return Err(ENAMETOOLONG),
            Some(text) => text,
        };
        let at = if text.starts_with(b"/") { self.who.root.place } else { self.directory(path.descriptor)? };
        Ok(Target { at, path: libipc::server::files::strip_slashes(text).to_vec() })
    }

    /// Where a directory descriptor stands.
    ///
    /// # Errors
    /// `EBADF` when it is not open.
    pub fn directory(&self, descriptor: Option<(usize, usize)>) -> Result<Place, i32> {
        let Some((argument, named)) = descriptor else { return Ok(self.who.cwd) };
        if self.int(argument) as i32 == AT_FDCWD {
            return Ok(self.who.cwd);
        }
        self.foreign.names().named.get(named).and_then(Place::session).ok_or(EBADF)
    }

    /// A row that walks a path for an operation.
    pub fn walk(
        &self,
        path: PathAt,
        follow: bool,
        operation: Operation,
        purpose: Purpose,
    ) -> Result<Row, i32> {
        Ok(self.row(&self.target(path)?, follow, operation, purpose))
    }

    /// A row that walks from a target.
    pub fn row(&self, target: &Target, follow: bool, operation: Operation, purpose: Purpose) -> Row {
        Row {
            call: Some(self.call.id),
            who: self.who.clone(),
            walk: Walk::new(target.at, &target.path, follow, Aim::Do(operation)),
            expects: Expects::Found,
            purpose,
        }
    }
}

/// Refuses flags that a call does not know.
///
/// # Errors
/// `EINVAL`.
fn check_flags(flags: u64, known: u32) -> Result<(), i32> {
    if flags & !u64::from(known) & 0xffff_ffff != 0 { Err(EINVAL) } else { Ok(()) }
}

/// Whether the final link is followed by a call that takes AT_SYMLINK_NOFOLLOW.
fn follows(flags: u64) -> bool {
    flags & u64::from(AT_SYMLINK_NOFOLLOW) == 0
}

impl Vfs {
    /// Takes a Linux call.
    pub(crate) fn linux(&mut self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Effects {
        match foreign.number {
            _ if call.badge.0 != 0 => return self.epoll_call(call, foreign, env),
            7 | 23 | 270 | 271 => return self.wait_for_readiness(call, foreign, env),
            213 | 291 => return self.make_epoll(call, foreign, env),
            // Of a descriptor that is no set: a wait with a signal mask comes here all the same.
            EPOLL_PWAIT | EPOLL_PWAIT2 => return value(call.id, -i64::from(EINVAL)),
            _ => {}
        }
        let Some(namespace) = self.mounts.namespace() else { return value(call.id, -i64::from(ENOENT)) };
        let mut who =
            Who::program(call.caller, &foreign.names().directories, namespace.place(), self.known_root);
        who.groups = self.groups_of(&call.caller, env);
        let now_ns = self.epoch_s.saturating_mul(1_000_000_000).saturating_add(env.now());
        let args = Args { call, foreign, who, now_ns: i64::try_from(now_ns).unwrap_or(i64::MAX) };
        let outcome = match foreign.number {
            42 | 44 | 46 | 49 => self.socket_name(&args, env),
            40 => self.send_file(&args, env),
            59 | 322 => self.exec(&args),
            79 => self.getcwd(&args),
            162 => Ok(self.sync(&args)),
            165 => self.mount(&args, env),
            166 => self.unmount(&args),
            _ => decode(&args).map(|row| match row {
                Some(row) => self.advance(row),
                None => value(call.id, 0),
            }),
        };
        outcome.unwrap_or_else(|errno| value(call.id, -i64::from(errno)))
    }

    /// The supplementary groups of a caller, whom they may let do something.
    fn groups_of(&self, caller: &libipc::server::Caller, env: &mut dyn Env) -> Vec<u32> {
        let Some(proc) = self.server("proc").filter(|_| caller.uid != 0) else { return Vec::new() };
        let question = libipc::server::Message::words(GROUPS, [u64::from(caller.pid), 0, 0, 0]);
        let payload = env.ask(proc, &question).ok().filter(|answer| answer.label == 0);
        let payload = payload.map(|answer| answer.payload).unwrap_or_default();
        payload.as_chunks::<4>().0.iter().map(|group| u32::from_le_bytes(*group)).collect()
    }

    fn sync(&mut self, args: &Args<'_>) -> Effects {
        let servers: Vec<_> =
            self.file_servers.iter().filter_map(|server| self.servers.get(server)).collect();
        let left = servers.into_iter().copied().collect();
        let here = Target { at: args.who.cwd, path: Vec::new() };
        let row = args.row(&here, false, Operation::Stat, Purpose::Nothing);
        self.sync_next(row, left)
    }
}

/// The calls that are one walk with one purpose, or two. `None` when there is nothing to do.
fn decode(args: &Args<'_>) -> Result<Option<Row>, i32> {
    match args.foreign.number {
        2 | 80 | 81 | 85 | 161 | 257 | 437 => open::decode(args).map(Some),
        4 | 6 | 21 | 76 | 89 | 137 | 262 | 267 | 269 | 332 | 439 => attributes::look(args).map(Some),
        188..=199 => attributes::extended(args).map(Some),
        90 | 92 | 94 | 132 | 235 | 260 | 261 | 268 | 280 | 452 => attributes::change(args),
        82..=84 | 86..=88 | 133 | 258 | 259 | 263..=266 | 316 => names::decode(args).map(Some),
        // copy_file_range(2): ENOSYS is what makes coreutils, Rust and Go copy by read and write from then on.
        _ => Err(ENOSYS),
    }
}
