//! Questions to other servers and their answers: every row goes out here and comes back here.

use alloc::{vec, vec::Vec};

use libipc::abi::{Handle, KernelError, PAYLOAD_MAX, Tag};
use libipc::linux::Stat;
use libipc::linux::errno::*;
use libipc::proto::fs::{self, Answer, Found, Request};
use libipc::server::{Effect, Effects, Message};

use crate::row::{Expects, Outcome, Purpose, Row};
use crate::who::RootNode;
use crate::{Vfs, close_all};

impl Vfs {
    /// Takes a row's walk one question further.
    pub(crate) fn advance(&mut self, mut row: Row) -> Effects {
        let server = row.walk.at.server;
        let Some(handle) = self.servers.get(&server).copied() else {
            let errno = if row.walk.path.is_empty() { EOPNOTSUPP } else { ENOTDIR };
            return self.fail(row, errno);
        };
        if !self.file_servers.contains(&server) {
            if !row.walk.path.is_empty() {
                return self.fail(row, ENOTDIR);
            }
            // Of the others only the terminal's server knows what files are.
            if self.numbers.get("tty") != Some(&server) {
                return self.fail(row, ENXIO);
            }
        }
        if row.walk.needs_barrier(&row.who) {
            row.expects = Expects::RootNode;
            let message = self.root_question(&row).message();
            return self.send(row, handle, message);
        }
        row.expects = Expects::Found;
        let program = self.program_of(&row);
        let mut message = row.walk.message(&row.who, &self.mounts, program.as_ref());
        if let (Some(_), Some(call)) = (program, row.call) {
            if message.payload.len() as u64 > u64::from(PAYLOAD_MAX) {
                return self.fail(row, ENAMETOOLONG);
            }
            return Effects::one(Effect::Forward { call, to: handle, message });
        }
        message.words = [u64::from(row.who.caller.pid), u64::from(row.who.caller.tid), 0, 0];
        self.send(row, handle, message)
    }

    /// Asks for the node behind the caller's root directory.
    pub(crate) fn learn_root(&mut self, mut row: Row) -> Effects {
        let Some(handle) = self.servers.get(&row.who.root.place.server).copied() else {
            return self.fail(row, EIO);
        };
        row.expects = Expects::RootNode;
        let message = self.root_question(&row).message();
        self.send(row, handle, message)
    }

    fn root_question(&self, row: &Row) -> Request {
        Request {
            from: row.who.root.place.from,
            path: Vec::new(),
            barrier: None,
            covers: Vec::new(),
            follow: false,
            credentials: row.who.credentials(),
            operation: fs::Operation::Stat,
            program: None,
        }
    }

    /// Sends a question for a row and keeps the row under its tag.
    pub(crate) fn send(&mut self, row: Row, to: Handle, message: Message) -> Effects {
        if message.payload.len() as u64 > u64::from(PAYLOAD_MAX) {
            return self.fail(row, ENAMETOOLONG);
        }
        let tag = Tag(self.next_tag);
        self.next_tag += 1;
        self.rows.insert(tag, row);
        let mut effects = Effects::none();
        effects.send(to, tag, message);
        effects
    }

    /// Goes on with the row that an answer is for.
    pub(crate) fn take_answer(&mut self, row: Row, answer: &Result<Message, KernelError>) -> Effects {
        // A server that is gone for good leaves nothing behind but an error.
        let Ok(message) = answer else { return self.settle(row, Err(EIO), None) };
        let (first, surplus) = message.handles.split_first().map_or((None, vec![]), |(first, rest)| {
            let wanted = message.label == 0 && matches!(row.expects, Expects::Found | Expects::Session);
            if wanted { (Some(*first), rest.to_vec()) } else { (None, message.handles.clone()) }
        });
        let mut effects = Effects::none();
        close_all(&mut effects, &surplus);
        let outcome = match (errno_of(message.label), row.expects) {
            (Some(errno), _) => Err(errno),
            (None, Expects::Session) if first.is_none() => Err(EIO),
            (None, Expects::Session | Expects::Label) => Ok(Outcome::Done),
            (None, Expects::Bytes) => Ok(Outcome::Bytes(message.words[0], message.payload.clone())),
            (None, Expects::Found | Expects::RootNode) => match message.decode::<Answer>() {
                Err(_) => Err(EIO),
                Ok(Answer::Failed(errno)) => Err(errno),
                Ok(Answer::Found(Found::Opened { .. })) if first.is_none() => Err(EIO),
                Ok(Answer::Found(found)) => Ok(Outcome::Found(found)),
                Ok(Answer::Stopped(stop)) => {
                    close_all(&mut effects, first.as_slice());
                    effects.append(self.stopped(row, &stop));
                    return effects;
                }
            },
        };
        if row.expects == Expects::RootNode {
            effects.append(self.root_learnt(row, outcome));
        } else {
            effects.append(self.settle(row, outcome, first));
        }
        effects
    }

    /// Goes on with a row whose walk has left a file server.
    pub(crate) fn stopped(&mut self, mut row: Row, stop: &fs::Stop) -> Effects {
        if row.expects == Expects::RootNode {
            return self.fail(row, EIO);
        }
        match row.walk.resume(stop, &row.who, &self.mounts) {
            Ok(()) if row.walk.path.is_empty() && matches!(stop, fs::Stop::Session { .. }) => {
                match row.purpose {
                    // readlink(2) is about the name, and shows the path of what is behind it.
                    Purpose::ReadLink { address, size } => self.describe(row, address, size),
                    _ => self.advance(row),
                }
            }
            Ok(()) => self.advance(row),
            Err(errno) => self.settle(row, Err(errno), None),
        }
    }

    fn root_learnt(&mut self, mut row: Row, outcome: Result<Outcome, i32>) -> Effects {
        let stat = match outcome {
            Ok(Outcome::Found(Found::Stat(stat))) => stat,
            Ok(_) => return self.fail(row, EIO),
            Err(errno) => return self.fail(row, errno),
        };
        let root = &mut row.who.root;
        root.node = if self.is_namespace_root(root.place.server, &stat) {
            self.known_root = Some((root.place.server, root.object));
            RootNode::Namespace
        } else {
            RootNode::Node(stat.ino)
        };
        self.advance(row)
    }

    fn is_namespace_root(&self, server: u32, stat: &Stat) -> bool {
        self.mounts.namespace().is_some_and(|mount| (mount.server, mount.root) == (server, stat.ino))
    }
}

/// The errno an answer's label stands for; `None` for a good answer, whose label is 0 or the request's own.
fn errno_of(label: u32) -> Option<i32> {
    const LOWEST_REQUEST: u32 = fs::REQUEST;
    match label {
        0 | LOWEST_REQUEST.. => None,
        errno => i32::try_from(errno).ok(),
    }
}
