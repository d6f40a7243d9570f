//! Pages of files for vm, which maps them, and bytes for the servers that load programs.

use alloc::vec;
use serde::{Deserialize, Serialize};

use crate::Tmpfs;
use crate::arena::PAGE;
use crate::devices::Device;
use crate::node::Ino;
use crate::open::Kind;
use libipc::abi::{CallId, KernelError, Tag};
use libipc::linux::errno::*;
use libipc::proto::space;
use libipc::server::effect::Reason;
use libipc::server::{Call, Effects, Env, Message, Refusal};

/// Most pages supplied for one fault.
const PAGES_MAX: u64 = 8;

/// A fault whose pages are on their way to vm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Supplying {
    call: CallId,
    /// Answers of vm still to come.
    left: u64,
    failed: bool,
}

impl Tmpfs {
    /// A page fault on a mapped file: words are vm's object number, the page's index, and how many pages are wanted.
    pub(crate) fn page_in(&mut self, call: &Call, words: [u64; 4], env: &mut dyn Env) -> Effects {
        let [object, first, wanted, _] = words;
        let Some(open) = self.opens.get(&call.badge.0) else { return failed(call.id) };
        let kind = open.kind;
        let mut supplies = vec![];
        for page in first..first.saturating_add(wanted.clamp(1, PAGES_MAX)) {
            match self.page(kind, page, env) {
                // Only the page that was asked for must be answered for when it lies beyond the end.
                Ok(data) if data.is_empty() && page > first => break,
                Ok(data) => supplies.push(space::Request::Supply { object, page, data }),
                Err(_) => return failed(call.id),
            }
        }
        let tag = self.new_tag();
        let left = supplies.len() as u64;
        self.supplying.insert(tag, Supplying { call: call.id, left, failed: false });
        if let Kind::Node(ino) = kind
            && let Some(file) = self.tree.get_mut(ino).and_then(|node| node.file_mut())
        {
            file.fetched = true;
        }
        let mut effects = Effects::none();
        effects.park(call.id, Reason::Server);
        for supply in supplies {
            effects.send(self.vm, tag, Message::typed(space::REQUEST, &supply));
        }
        effects
    }

    /// The bytes of one page as vm wants them: none beyond the end, and what is missing behind them is zero.
    fn page(&self, kind: Kind, page: u64, env: &mut dyn Env) -> Result<vec::Vec<u8>, i32> {
        match kind {
            Kind::Node(ino) => {
                let offset = page.checked_mul(PAGE).ok_or(EINVAL)?;
                let file = self.tree.node(ino)?.file().ok_or(ENODEV)?;
                let is_hole =
                    file.contents.next_data(offset).is_none_or(|data| data >= offset.saturating_add(PAGE));
                if offset < file.contents.size() && is_hole {
                    Ok(vec![0])
                } else {
                    self.bytes_of(ino, offset, PAGE, env)
                }
            }
            Kind::Device(Device::Zero) => Ok(vec![0]),
            _ => Err(ENODEV),
        }
    }

    /// vm has taken a page.
    pub(crate) fn supplied(&mut self, tag: Tag, answer: &Result<Message, KernelError>) -> Effects {
        let Some(supplying) = self.supplying.get_mut(&tag) else { return Effects::none() };
        let taken = answer.as_ref().ok().and_then(|message| message.decode::<space::Answer>().ok());
        supplying.failed |= !matches!(taken, Some(space::Answer::Done));
        supplying.left -= 1;
        if supplying.left > 0 {
            return Effects::none();
        }
        let (call, bad) = (supplying.call, supplying.failed);
        self.supplying.remove(&tag);
        if bad {
            return failed(call);
        }
        let mut effects = Effects::none();
        effects.reply(call, Message::label(0));
        effects
    }

    /// A read for another server's use: words are offset and length. The answer's word 0 is the session's object.
    pub(crate) fn read_at(&self, call: &Call, words: [u64; 4], env: &mut dyn Env) -> Effects {
        let [offset, length, ..] = words;
        let open = self.opens.get(&call.badge.0);
        let bytes = match open.map(|open| open.kind) {
            Some(Kind::Node(ino)) => self.bytes_of(ino, offset, length, env),
            _ => Err(EBADF),
        };
        let message = match bytes {
            Ok(payload) => {
                let object = open.map_or(0, |open| open.object);
                Message { words: [object, 0, 0, 0], payload, ..Message::default() }
            }
            Err(errno) => Message::label(errno as u32),
        };
        let mut effects = Effects::none();
        effects.reply(call.id, message);
        effects
    }
}

impl Tmpfs {
    /// Bytes from another server ([`libipc::proto::fs::WRITE_AT`]).
    pub(crate) fn write_at(&mut self, call: &Call, message: &Message, env: &mut dyn Env) -> Effects {
        let (offset, length) = (message.words[0], message.payload.len() as u64);
        let written = match self.opens.get(&call.badge.0).map(|open| open.kind) {
            Some(Kind::Node(ino)) => self.file_put(ino, offset, &message.payload, call.caller.uid, env),
            Some(Kind::Pipe(ino)) => self.pipe_put(ino, &message.payload, env),
            Some(Kind::Socket(ino)) => match self.pipes_of_socket(ino) {
                [Some(_), Some(send)] => self.pipe_put(send, &message.payload, env),
                _ => Err(EINVAL),
            },
            Some(Kind::Device(Device::Null | Device::Zero)) => Ok((length, Effects::none())),
            Some(Kind::Device(Device::Full)) => Err(ENOSPC),
            Some(_) => Err(EINVAL),
            None => Err(EBADF),
        };
        match written {
            Ok((count, mut effects)) => {
                effects.reply(call.id, Message::words(0, [count, offset + count, 0, 0]));
                effects
            }
            Err(errno) => {
                let mut effects = Effects::none();
                effects.reply(call.id, Message::label(errno as u32));
                effects
            }
        }
    }

    /// Puts as many bytes as have room into a pipe.
    fn pipe_put(&mut self, ino: Ino, bytes: &[u8], env: &mut dyn Env) -> Result<(u64, Effects), i32> {
        let mut put = Ok(0);
        let effects = self.with_pipe(ino, |pipe, desk| {
            put = pipe.put_now(bytes, desk, env);
            Ok(())
        });
        match (put, effects) {
            (Ok(count), Ok(effects)) => Ok((count, effects)),
            (Err(errno), _) | (_, Err(Refusal::Errno(errno))) => Err(errno),
            (_, Err(Refusal::Again)) => Err(EAGAIN),
        }
    }
}

fn failed(call: CallId) -> Effects {
    let mut effects = Effects::none();
    effects.reply(call, Message::label(EIO as u32));
    effects
}
