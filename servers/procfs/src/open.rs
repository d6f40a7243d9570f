//! Open files: sessions, and the Linux calls on them.
//!
//! A file's text is written when it is opened and kept until its last close, so that a program that reads it in
//! pieces sees one state, and sees it again after a crash of this server.

use alloc::{vec, vec::Vec};

use libipc::abi::{Badge, CallId, Doom, Handle, KernelError, Readiness, Tag};
use libipc::linux::Stat;
use libipc::linux::call::misdirected;
use libipc::linux::errno::*;
use libipc::proto::fs::{Answer, Found};
use libipc::server::files::*;
use libipc::server::vectors::vectors;
use libipc::server::{
    Call, Effect, Effects, Env, Foreign, ForeignReply, LeaseError, Message, Operation, Output, Refusal,
};
use serde::{Deserialize, Serialize};

use crate::Procfs;
use crate::crash::{Core, Crash};
use crate::history::View;
use crate::names::stat_fs;
use crate::trace::Stream;
use crate::tree::{Kind, Node};

/// Most bytes that go with a reply.
const OUTPUTS_MAX: u64 = 512;
/// Longest command that is read from a control file.
const COMMAND_MAX: u64 = 64;
/// The same for how cores are named, with the end of its line (CORENAME_MAX_SIZE).
const CORE_PATTERN_MAX: u64 = 128;
/// The same for the trace, with its filter.
const TRACE_COMMAND_MAX: u64 = 512;
/// Where the positions of entries begin that are named by a number; below are the fixed names.
const NUMBERED: u64 = 1 << 16;

/// An open file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Open {
    /// This server's handle of the session. The kernel tells it at the last close; it is here so that a sweep finds it.
    owner: Handle,
    /// The node's number.
    pub(crate) node: u64,
    /// What it said when it was opened.
    text: Vec<u8>,
    /// For a file about a server's state: that server's task.
    pub(crate) state: Option<Handle>,
    /// What such a file says, once it has been read from.
    pub(crate) view: Option<View>,
    /// Where the reader of the trace is.
    pub(crate) stream: Option<Stream>,
}

/// A file whose session is being made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Opening {
    /// The request of vfs.
    pub call: CallId,
    /// The node's number.
    pub node: u64,
    /// Its text.
    pub text: Vec<u8>,
    /// For a file about a server's state: that server's task.
    pub state: Option<Handle>,
    /// How it is opened.
    pub status: u32,
    /// Its attributes.
    pub stat: Stat,
}

impl Procfs {
    /// Makes a session for a file.
    pub(crate) fn open(&mut self, opening: Opening, env: &mut dyn Env) -> Effects {
        let mut effects = Effects::none();
        if self.crowded {
            effects.reply(opening.call, Message::typed(0, &Answer::Failed(ENFILE)));
            return effects;
        }
        let badge = self.next_badge;
        self.next_badge += 1;
        let owner = env.new_handle();
        effects.park(opening.call, libipc::server::effect::Reason::Server);
        let session = Operation::SessionCreate {
            owner,
            badge: Badge(badge),
            object: opening.node,
            status: opening.status,
            readiness: Readiness::IN | Readiness::OUT | Readiness::ALWAYS,
            position: 0,
        };
        effects.attempt(Tag(badge), session);
        if let Some(task) = opening.state
            && Node::from_number(opening.node)
                .is_some_and(|node| matches!(node.kind, Kind::ServerDigest | Kind::ServerJournal))
        {
            effects.act(Operation::DigestAsk { task });
        }
        self.openings.insert(badge, (opening, owner));
        effects
    }

    /// The session is there, or the quota is used up.
    pub(crate) fn session_made(&mut self, tag: Tag, result: &Result<u64, KernelError>) -> Effects {
        let mut effects = Effects::none();
        let Some((opening, owner)) = self.openings.remove(&tag.0) else { return effects };
        let Opening { call, node, text, state, stat, .. } = opening;
        match result {
            Ok(_) => {
                self.opens.insert(tag.0, Open { owner, node, text, state, view: None, stream: None });
                let answer = Answer::Found(Found::Opened { stat, created: false });
                effects.reply(call, Message::typed(0, &answer).with_handles(&[owner]));
            }
            Err(_) => {
                effects.reply(call, Message::typed(0, &Answer::Failed(ENFILE)));
            }
        }
        effects
    }

    /// The last holder of a session is gone.
    pub(crate) fn closed(&mut self, badge: Badge, owner: Handle) -> Effects {
        self.opens.remove(&badge.0);
        Effects::one(Effect::Do(Operation::Close { handle: owner }))
    }

    /// A session is gone without its last close having been told.
    pub(crate) fn lost(&mut self, owner: Handle) -> Effects {
        let lost = self.opens.iter().find(|(_, open)| open.owner == owner).map(|(badge, _)| Badge(*badge));
        lost.map_or_else(Effects::none, |badge| self.closed(badge, owner))
    }

    /// The node behind a session.
    pub(crate) fn node_of(&self, badge: Badge) -> Option<Node> {
        Node::from_number(self.opens.get(&badge.0)?.node)
    }

    /// Bytes of an open file for another server.
    pub(crate) fn read_at(&self, badge: Badge, offset: u64, length: u64) -> Message {
        match self.opens.get(&badge.0) {
            // What goes from the kernel straight to a reader's memory cannot go by message.
            Some(open) if open.state.is_some() => Message::label(EINVAL as u32),
            Some(open) => {
                let length = length.min(libipc::abi::PAYLOAD_MAX.into());
                let payload = part(&open.text, offset, length).to_vec();
                Message { words: [open.node, 0, 0, 0], payload, ..Message::default() }
            }
            None => Message::label(EBADF as u32),
        }
    }

    /// Takes a Linux call on a session.
    pub(crate) fn linux(&mut self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Effects {
        let Some(node) = self.node_of(call.badge) else { return failed(call.id, EBADF) };
        let words = foreign.arguments;
        let vectors = match foreign.number {
            19 | 20 | 295 | 296 => match buffers(call, foreign, env) {
                Ok(vectors) => vectors,
                Err(Refusal::Again) => return Effects::again(),
                Err(Refusal::Errno(errno)) => return failed(call.id, errno),
            },
            _ => Vec::new(),
        };
        match foreign.number {
            0 => self.read(call, &[[words[1], words[2]]], None, env),
            17 => self.read(call, &[[words[1], words[2]]], Some(words[3]), env),
            19 => self.read(call, &vectors, None, env),
            295 => self.read(call, &vectors, Some(words[3]), env),
            1 => self.write(call, node, &[[words[1], words[2]]], None, env),
            18 => self.write(call, node, &[[words[1], words[2]]], Some(words[3]), env),
            20 => self.write(call, node, &vectors, None, env),
            296 => self.write(call, node, &vectors, Some(words[3]), env),
            5 => match self.stat(node, env) {
                Ok(stat) => filled(call.id, words[1], stat.to_bytes().to_vec(), ForeignReply::default()),
                Err(errno) => failed(call.id, errno),
            },
            8 => match seek(call.position, words[1] as i64, words[2], 0) {
                // Positions of a directory are no byte offsets: there is no end to seek from.
                Ok(to) if words[2] < 2 || !node.is_directory() => moved(call.id, to as i64, to),
                Ok(_) => failed(call.id, EINVAL),
                Err(errno) => failed(call.id, errno),
            },
            217 => self.directory(call, node, words, DirentLayout::Wide, env),
            78 => self.directory(call, node, words, DirentLayout::Old, env),
            138 => filled(call.id, words[1], stat_fs().to_bytes().to_vec(), ForeignReply::default()),
            16 => failed(call.id, ENOTTY),
            // flock(2) excludes nobody here, and advice is nobody's duty.
            73 | 221 => failed(call.id, 0),
            72 | 74 | 75 | 77 | 187 => failed(call.id, EINVAL),
            91 | 93 => failed(call.id, EPERM),
            285 => failed(call.id, EOPNOTSUPP),
            306 => failed(call.id, 0),
            number => failed(call.id, misdirected(number).unwrap_or(ENOSYS)),
        }
    }

    /// read(2) and its relatives: into each buffer in turn; `at` for those that leave the position alone.
    fn read(&mut self, call: &Call, buffers: &[[u64; 2]], at: Option<u64>, env: &mut dyn Env) -> Effects {
        let Some(open) = self.opens.get(&call.badge.0) else { return failed(call.id, EBADF) };
        if let Err(errno) = check_readable(call.status) {
            return failed(call.id, errno);
        }
        if Node::from_number(open.node).is_none_or(Node::is_directory) {
            return failed(call.id, EISDIR);
        }
        if at.is_some_and(|at| i64::try_from(at).is_err()) {
            return failed(call.id, EINVAL);
        }
        let (open, mut effects) = (open.clone(), Effects::none());
        let start = at.unwrap_or(call.position);
        let mut offset = start;
        for [address, length] in buffers {
            let piece = (*address, offset, *length);
            let (copy, copied) = match open.state {
                None => text_piece(call.id, &open.text, piece),
                Some(_) => match self.read_from_kernel(call.id, call.badge.0, piece, env) {
                    Ok(copied) => copied,
                    Err(_) if offset > start => break,
                    Err(errno) => return failed(call.id, errno),
                },
            };
            effects.list.extend(copy);
            offset += copied;
            if copied < *length {
                break;
            }
        }
        let result = (offset - start) as i64;
        let position = at.is_none().then_some(offset);
        effects.foreign(call.id, ForeignReply { result, position, ..ForeignReply::default() });
        effects
    }

    /// Reads into one buffer what the kernel brings there.
    fn read_from_kernel(
        &mut self,
        call: CallId,
        badge: u64,
        piece: (u64, u64, u64),
        env: &mut dyn Env,
    ) -> Result<(Option<Effect>, u64), i32> {
        match self.node_of(Badge(badge)) {
            Some(Node { kind: Kind::Trace, .. }) => self.read_trace(call, badge, piece, env),
            _ => self.read_state(call, badge, piece, env),
        }
    }

    /// getdents64(2) and getdents(2).
    fn directory(
        &self,
        call: &Call,
        node: Node,
        words: [u64; 6],
        layout: DirentLayout,
        env: &mut dyn Env,
    ) -> Effects {
        if !node.is_directory() {
            return failed(call.id, ENOTDIR);
        }
        let entries = match self.entries(node, call.position, env) {
            Ok(entries) => entries,
            Err(errno) => return failed(call.id, errno),
        };
        // What one copy carries.
        const BUFFER_MAX: u64 = 64 * 1024;
        let mut records = Dirents::new(layout, (words[2] & 0xffff_ffff).min(BUFFER_MAX));
        for (next, child, name) in entries {
            if !records.push(child.number(), next, child.mode(), &name) {
                break;
            }
        }
        match records.finish() {
            Ok((bytes, position)) => {
                let result = bytes.len() as i64;
                filled(call.id, words[1], bytes, ForeignReply { result, position, ..ForeignReply::default() })
            }
            Err(errno) => failed(call.id, errno),
        }
    }

    /// The entries of a directory from a position on: the position behind each, its node and its name. Fixed names
    /// are counted; what is named by a number has it as its position, so that nothing is skipped when others come and
    /// go.
    fn entries(
        &self,
        node: Node,
        position: u64,
        env: &mut dyn Env,
    ) -> Result<Vec<(u64, Node, Vec<u8>)>, i32> {
        let dots = [(".", node), ("..", node.parent())];
        let fixed = dots.into_iter().chain(node.children()).zip(1..);
        let fixed = fixed.map(|((name, child), next)| (next, child, name.as_bytes().to_vec()));
        let members: Vec<(u32, Node, Vec<u8>)> = match node.kind {
            Kind::Root => {
                let process = |id| (id, Node { kind: Kind::Process, id, tid: 0 }, decimal(id));
                self.pids(env)?.into_iter().map(process).collect()
            }
            Kind::Tasks => {
                let thread = |tid| (tid, Node { kind: Kind::Thread, id: node.id, tid }, decimal(tid));
                let mut threads = self.process(node.id, env)?.threads;
                threads.sort_unstable();
                threads.into_iter().map(thread).collect()
            }
            Kind::Descriptors | Kind::DescriptorInfos => {
                let fd = node.kind == Kind::Descriptors;
                let kind = if fd { Kind::Descriptor } else { Kind::DescriptorInfo };
                let numbers = self.descriptor_numbers(node.id, env)?.into_iter();
                numbers.map(|slot| (slot, Node { kind, id: node.id, tid: slot }, decimal(slot))).collect()
            }
            Kind::Servers => {
                let server = |(name, number): (&alloc::string::String, &u32)| {
                    (*number, Node { kind: Kind::Server, id: *number, tid: 0 }, name.clone().into_bytes())
                };
                let mut servers: Vec<_> = self.numbers.iter().map(server).collect();
                servers.sort_unstable();
                servers
            }
            Kind::Reproducers => {
                let kept = Crash::all(env).filter(|crash| crash.is_kept()).map(|crash| {
                    let node = Node { kind: Kind::Reproducer, id: crash.serial, tid: 0 };
                    (crash.serial, node, decimal(crash.serial))
                });
                kept.collect()
            }
            Kind::Cores => {
                let node = |id| Node { kind: Kind::Core, id, tid: 0 };
                Core::all(env).map(|core| (core.serial, node(core.serial), decimal(core.serial))).collect()
            }
            _ => Vec::new(),
        };
        let members = members.into_iter().map(|(id, node, name)| (NUMBERED + u64::from(id) + 1, node, name));
        Ok(fixed.chain(members).filter(|(next, ..)| *next > position).collect())
    }

    /// write(2) and its relatives: a piece of an image, or one command to a server's control file. `at` for those that
    /// leave the position alone.
    fn write(
        &mut self,
        call: &Call,
        node: Node,
        buffers: &[[u64; 2]],
        at: Option<u64>,
        env: &mut dyn Env,
    ) -> Effects {
        if let Err(errno) = check_writable(call.status) {
            return failed(call.id, errno);
        }
        let most = match node.kind {
            Kind::ServerControl => COMMAND_MAX,
            Kind::Trace => TRACE_COMMAND_MAX,
            Kind::CorePattern => CORE_PATTERN_MAX,
            Kind::ServerImage => return self.write_image(call, node.id, at, buffers),
            _ => return failed(call.id, EIO),
        };
        let mut command = Vec::new();
        for [address, length] in buffers {
            if command.len() as u64 + length > most {
                return failed(call.id, EINVAL);
            }
            match env.read_user(call.id, *address, *length as u32) {
                Ok(bytes) => command.extend(bytes),
                Err(LeaseError::NotResident) => return Effects::again(),
                Err(LeaseError::BadAddress | LeaseError::Gone) => return failed(call.id, EFAULT),
            }
        }
        self.command(call.id, node, &command)
    }

    /// Does what a control file was told.
    fn command(&mut self, call: CallId, node: Node, command: &[u8]) -> Effects {
        let result = command.len() as i64;
        match node.kind {
            Kind::Trace => return done_first(call, result, self.trace_command(command)),
            Kind::CorePattern => return self.set_core_pattern(call, command),
            _ => {}
        }
        let words = core::str::from_utf8(command).unwrap_or_default();
        let words: Vec<&str> = words.split_ascii_whitespace().collect();
        match words.split_first() {
            Some((&"upgrade", [])) => self.begin_upgrade(call, node.id, result),
            Some((&"crash", end)) => done_first(call, result, self.crash(node, end)),
            _ => failed(call, EINVAL),
        }
    }

    /// Where programs leave their cores from now on (core(5)). Nobody runs a program for a pattern that names one.
    fn set_core_pattern(&mut self, call: CallId, command: &[u8]) -> Effects {
        let pattern = command.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if pattern.starts_with(b"|") || pattern.contains(&0) {
            return failed(call, EINVAL);
        }
        self.core_pattern = pattern.to_vec();
        let mut effects = Effects::none();
        effects.result(call, command.len() as i64);
        effects
    }

    fn crash(&self, node: Node, end: &[&str]) -> Result<Operation, i32> {
        let name = self.server_name(node.id).ok_or(ENOENT)?;
        let task = *self.tasks.get(name).ok_or(ENXIO)?;
        Ok(Operation::Crash { task, doom: Doom::parse(end).ok_or(EINVAL)? })
    }
}

/// A program has its answer before what it asked for happens, which may be the end of who the answer comes from.
fn done_first(call: CallId, result: i64, operation: Result<Operation, i32>) -> Effects {
    match operation {
        Ok(operation) => {
            let mut effects = Effects::none();
            effects.result(call, result);
            effects.act(operation);
            effects
        }
        Err(errno) => failed(call, errno),
    }
}

/// Minus an errno, or 0.
pub(crate) fn failed(call: CallId, errno: i32) -> Effects {
    let mut effects = Effects::none();
    effects.result(call, -i64::from(errno));
    effects
}

fn moved(call: CallId, result: i64, position: u64) -> Effects {
    let mut effects = Effects::none();
    effects.foreign(call, ForeignReply { result, position: Some(position), ..ForeignReply::default() });
    effects
}

/// A reply with bytes for the caller's memory.
fn filled(call: CallId, address: u64, bytes: Vec<u8>, reply: ForeignReply) -> Effects {
    let mut effects = Effects::none();
    let mut outputs = Vec::new();
    if bytes.len() as u64 > OUTPUTS_MAX {
        effects.push(Effect::CopyOut { call, address, bytes });
    } else if !bytes.is_empty() {
        outputs = vec![Output { address, bytes }];
    }
    effects.foreign(call, ForeignReply { outputs, ..reply });
    effects
}

/// A part of a text for the caller's memory, and its length.
fn text_piece(
    call: CallId,
    text: &[u8],
    (address, offset, length): (u64, u64, u64),
) -> (Option<Effect>, u64) {
    let bytes = part(text, offset, length).to_vec();
    let copied = bytes.len() as u64;
    ((copied > 0).then_some(Effect::CopyOut { call, address, bytes }), copied)
}

/// A part of a text; nothing beyond its end.
pub(crate) fn part(text: &[u8], offset: u64, length: u64) -> &[u8] {
    let start = usize::try_from(offset).unwrap_or(usize::MAX).min(text.len());
    let length = usize::try_from(length).unwrap_or(usize::MAX).min(text.len() - start);
    text.get(start..start + length).unwrap_or_default()
}

/// The buffers of readv(2) and its relatives.
fn buffers(call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Result<Vec<[u64; 2]>, Refusal> {
    let [_, address, count, ..] = foreign.arguments;
    let ranges = vectors(call.id, (address, count), foreign.inputs[0].as_deref(), env)?;
    Ok(ranges.iter().map(|range| [range.address, range.length]).collect())
}

fn decimal(id: u32) -> Vec<u8> {
    alloc::format!("{id}").into_bytes()
}
