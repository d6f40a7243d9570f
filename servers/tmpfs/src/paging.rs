//! Pages of files for vm, which maps them, and bytes for the servers that load programs.

use alloc::{vec, vec::Vec};
use serde::{Deserialize, Serialize};

use crate::Tmpfs;
use crate::arena::{Page, Span};
use crate::devices::Device;
use crate::node::Ino;
use crate::open::Kind;
use crate::transfer::clear;
use libipc::abi::{CallId, Frame, KernelError, Tag};
use libipc::linux::errno::*;
use libipc::proto::space;
use libipc::server::effect::Reason;
use libipc::server::{Call, Effect, Effects, Env, Message, Refusal};

/// Most pages supplied, and lent, for one fault.
const PAGES_MAX: u64 = 8;
const LENT_MAX: u64 = 16;

/// A fault whose pages are on their way to vm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Supplying {
    call: CallId,
    /// Answers of vm still to come.
    left: u64,
    failed: bool,
}

/// Pages that vm is to let go of.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recall {
    ino: Ino,
    /// The first index in the file that they had.
    first: u64,
    pages: Vec<Page>,
    told: bool,
}

impl Tmpfs {
    /// A page fault on a mapped file: words are vm's object number, the page's index, and how many pages are wanted.
    pub(crate) fn page_in(&mut self, call: &Call, words: [u64; 4]) -> Effects {
        let [object, first, wanted, _] = words;
        let Some(open) = self.opens.get(&call.badge.0) else { return failed(call.id) };
        let kind = open.kind;
        if let Kind::Node(ino) = kind {
            match self.lend(ino, object, first, wanted) {
                Ok(Some((lent, clear))) => return self.hand_over(call.id, vec![lent], &clear),
                // Beyond the end: vm is told so.
                Ok(None) => {}
                Err(_) => return failed(call.id),
            }
        }
        let mut supplies = vec![];
        for page in first..first.saturating_add(wanted.clamp(1, PAGES_MAX)) {
            match self.page(kind) {
                // Only the page that was asked for must be answered for when it lies beyond the end.
                Ok(data) if data.is_empty() && page > first => break,
                Ok(data) => supplies.push(space::Request::Supply { object, page, data }),
                Err(_) => return failed(call.id),
            }
        }
        self.hand_over(call.id, supplies, &[])
    }

    /// Sends pages to vm; the fault waits until vm has them.
    fn hand_over(&mut self, call: CallId, pages: Vec<space::Request>, to_clear: &[Span]) -> Effects {
        let tag = self.new_tag();
        self.supplying.insert(tag, Supplying { call, left: pages.len() as u64, failed: false });
        let mut effects = Effects::none();
        effects.park(call, Reason::Server);
        clear(&mut effects, to_clear);
        for page in pages {
            effects.send(self.vm, tag, Message::typed(space::REQUEST, &page));
        }
        effects
    }

    /// Pages of a file from `first` on, to be shown where they lie, and what of them to clear. `None` beyond the end.
    fn lend(
        &mut self,
        ino: Ino,
        object: u64,
        first: u64,
        wanted: u64,
    ) -> Result<Option<(space::Request, Vec<Span>)>, i32> {
        let file = self.tree.node_mut(ino)?.file_mut().ok_or(ENODEV)?;
        let (pages, clear) = file.contents.lend(first, wanted.clamp(1, LENT_MAX), &mut self.arena)?;
        let frames: Vec<Frame> = pages.iter().map(|page| page.frame(self.arena_first)).collect();
        let lend = space::Request::Lend { object, page: first, frames };
        Ok((!pages.is_empty()).then_some((lend, clear)))
    }

    /// Pages of a file from `first` on have been taken away that vm may show: it is told in the same step, and they
    /// are given out again when it has let go of them.
    pub(crate) fn recall(&mut self, ino: Ino, first: u64) {
        let pages = self.arena.retired();
        if !pages.is_empty() {
            let tag = self.new_tag();
            self.recalls.insert(tag, Recall { ino, first, pages, told: false });
        }
    }

    /// Tells vm of the pages taken away in this step, before anything else is done to them.
    pub(crate) fn tell_recalls(&mut self, effects: &mut Effects) {
        for (tag, recall) in self.recalls.iter_mut().filter(|(_, recall)| !recall.told) {
            recall.told = true;
            let file = (u64::from(self.number), recall.ino);
            let request = space::Request::Invalidate { file, page: recall.first, pages: u64::MAX };
            let message = Message::typed(space::REQUEST, &request);
            effects.list.insert(0, Effect::Send { to: self.vm, tag: *tag, message });
        }
    }

    /// vm shows the pages no more.
    pub(crate) fn recalled(&mut self, tag: Tag) -> bool {
        let Some(recall) = self.recalls.remove(&tag) else { return false };
        recall.pages.into_iter().for_each(|page| self.arena.give_back(page));
        true
    }

    /// The bytes of one page as vm wants them: none beyond the end of a file.
    fn page(&self, kind: Kind) -> Result<Vec<u8>, i32> {
        match kind {
            Kind::Node(_) => Ok(vec![]),
            Kind::Device(Device::Zero) => Ok(vec![0]),
            _ => Err(ENODEV),
        }
    }

    /// vm has taken a page.
    pub(crate) fn supplied(&mut self, tag: Tag, answer: &Result<Message, KernelError>) -> Effects {
        if self.recalled(tag) {
            return Effects::none();
        }
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
