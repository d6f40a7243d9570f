//! What vm tells the process server, procfs and the file servers: regions and figures for /proc, and the pages that
//! file servers bring or take back.

use alloc::vec::Vec;

use libipc::abi::{Frame, PAGE_SIZE};
use libipc::linux::errno::{EAGAIN, EFAULT, EINVAL, ENOMEM, ESRCH};
use libipc::proto::space::{Answer, REQUEST, RegionInfo, Request};
use libipc::server::{Call, Effects, Env, Message, Operation};

use crate::Vm;
use crate::creation::answer;
use crate::fault::{self, FRAMES_NEEDED};
use crate::object::FileId;
use crate::reclaim::{forget, reserve};
use crate::region::{Backing, Purpose, Region};
use crate::space::{Memory, Space};
use crate::tables::page_of;

/// Most regions in one answer: with the rest of it they fit into a payload.
const REGIONS_IN_ANSWER: usize = 140;

impl Vm {
    /// A message from another server.
    pub(crate) fn native(&mut self, call: &Call, message: &Message, env: &mut dyn Env) -> Effects {
        let request = if message.label == REQUEST { message.decode().ok() } else { None };
        match request {
            Some(Request::Fork { space }) => {
                self.without_handles(message, |vm| vm.begin_fork(call, space, env))
            }
            Some(Request::Build(build)) => {
                self.begin_build(call, build, message.words[0], &message.handles, env)
            }
            request => self.without_handles(message, |vm| {
                let mut effects = Effects::none();
                let given = request.map(|request| vm.simple(request, message.words[0], env, &mut effects));
                let reply = given.as_ref().map_or(Message::label(EINVAL as u32), answer);
                effects.reply(call.id, reply);
                effects
            }),
        }
    }

    /// Handles that a request should not have brought are closed.
    fn without_handles(&mut self, message: &Message, serve: impl FnOnce(&mut Vm) -> Effects) -> Effects {
        let mut effects = serve(self);
        for handle in &message.handles {
            effects.act(Operation::Close { handle: *handle });
        }
        effects
    }

    /// Takes a space down that nobody will ask for any more.
    pub(crate) fn give_up(&mut self, space: u64) -> Effects {
        let mut effects = Effects::none();
        if let Some(space) = self.spaces.remove(&space) {
            space.destroy(&mut self.memory, &mut effects);
        }
        effects
    }

    /// Requests that are answered at once.
    fn simple(&mut self, request: Request, word: u64, env: &mut dyn Env, effects: &mut Effects) -> Answer {
        match request {
            Request::Destroy { space } => match self.spaces.remove(&space) {
                Some(space) => {
                    space.destroy(&mut self.memory, effects);
                    Answer::Done
                }
                None => Answer::Failed(ESRCH),
            },
            Request::Supply { object, page, data } => self.supply(object, page, &data, env.now(), effects),
            Request::Lend { object, page, frames } => self.borrow(object, page, &frames),
            Request::Regions { space } => self
                .spaces
                .get(&space)
                .map_or(Answer::Failed(ESRCH), |space| regions(space, word, &self.memory)),
            Request::Memory => Answer::Memory {
                total: u64::from(self.memory.frames.total()),
                free: u64::from(self.memory.frames.free()),
                cached: self.memory.objects.cached(),
            },
            Request::Invalidate { file, page, pages } => {
                if let Some(object) = self.memory.objects.of_file(file) {
                    let end = page.saturating_add(pages);
                    forget(object, page..end, &mut self.memory, &mut self.spaces, effects);
                }
                Answer::Done
            }
            Request::Place { space, address } => self.place_of_word(space, address),
            Request::Limits { space, limits } => match self.spaces.get_mut(&space) {
                Some(space) => {
                    space.set_limits(limits);
                    Answer::Done
                }
                None => Answer::Failed(ESRCH),
            },
            Request::Strings { key, arguments, environment } => {
                self.keep_strings(key, &arguments, &environment, effects)
            }
            Request::Poke { space, address, bytes } => self.poke(space, address, &bytes, effects),
            Request::Fork { .. } | Request::Build(_) => Answer::Failed(EINVAL),
        }
    }

    /// Bytes for a traced program, which may lie on two pages.
    fn poke(&mut self, space: u64, address: u64, bytes: &[u8], effects: &mut Effects) -> Answer {
        reserve(FRAMES_NEEDED, &mut self.memory, &mut self.spaces, effects);
        let Some(space) = self.spaces.get_mut(&space) else { return Answer::Failed(ESRCH) };
        let room = (PAGE_SIZE - address % PAGE_SIZE) as usize;
        let (here, there) = bytes.split_at(room.min(bytes.len()));
        let next = address.wrapping_add(here.len() as u64);
        if !there.is_empty() && !space.pages.contains_key(&page_of(next)) {
            return Answer::Failed(EAGAIN);
        }
        for (address, bytes) in [(address, here), (next, there)].into_iter().filter(|(_, it)| !it.is_empty())
        {
            if let Err(errno) = fault::poke(space, &mut self.memory, address, bytes, effects) {
                return Answer::Failed(errno);
            }
        }
        Answer::Done
    }

    /// What a word is for those that wait for it to change: in shared memory it is the object's.
    fn place_of_word(&self, space: u64, address: u64) -> Answer {
        let region = self.spaces.get(&space).and_then(|space| space.regions.find(address));
        match region.map(|region| (region.shared, region.backing)) {
            Some((true, Backing::Object { object, page, .. })) => {
                let start = region.map_or(0, |region| region.start);
                Answer::Place { object, offset: page * PAGE_SIZE + (address - start) }
            }
            Some(_) => Answer::Place { object: 0, offset: address },
            None => Answer::Failed(EFAULT),
        }
    }

    /// Pages of a file are lent: they are shown where they lie. Frames that are vm's own are nobody else's to lend.
    fn borrow(&mut self, number: u64, first: u64, lent: &[Frame]) -> Answer {
        let Memory { frames, objects, .. } = &mut self.memory;
        let Some(object) = objects.get_mut(number).filter(|object| object.file.is_some()) else {
            return Answer::Done;
        };
        if lent.iter().any(|frame| frames.owns(*frame)) {
            return Answer::Failed(EINVAL);
        }
        object.lent = true;
        for (page, frame) in (first..).zip(lent).filter(|(page, _)| *page <= page_of(i64::MAX as u64)) {
            if !object.pages.contains_key(&page) {
                object.add_page(page, *frame);
            }
        }
        Answer::Done
    }

    /// Pages of a file arrive. One that is here already is newer, or the same.
    fn supply(&mut self, number: u64, first: u64, data: &[u8], now: u64, effects: &mut Effects) -> Answer {
        let pages = data.chunks(PAGE_SIZE as usize);
        reserve(pages.len() as u32 + FRAMES_NEEDED, &mut self.memory, &mut self.spaces, effects);
        let Memory { frames, objects, .. } = &mut self.memory;
        let Some(object) = objects.get_mut(number).filter(|object| object.file.is_some()) else {
            return Answer::Done;
        };
        if data.is_empty() {
            object.note_absent(first, now);
        }
        for (page, bytes) in (first..).zip(pages).filter(|(page, _)| *page <= page_of(i64::MAX as u64)) {
            if object.pages.contains_key(&page) {
                continue;
            }
            let Some(frame) = frames.take() else { return Answer::Failed(ENOMEM) };
            let mut bytes = bytes.to_vec();
            bytes.resize(PAGE_SIZE as usize, 0);
            effects.act(Operation::FrameWrite { frame, offset: 0, bytes });
            object.add_page(page, frame);
        }
        Answer::Done
    }
}

/// The regions that end above an address, and the figures of a space.
fn regions(space: &Space, from: u64, memory: &Memory) -> Answer {
    let shown: Vec<RegionInfo> = space
        .regions
        .overlapping(from..u64::MAX)
        .take(REGIONS_IN_ANSWER)
        .map(|region| info(region, memory))
        .collect();
    let marks = &space.marks;
    Answer::Regions {
        regions: shown,
        resident_pages: space.pages.len() as u64,
        marks: [marks.code.start, marks.code.end, marks.stack, space.heap.start, space.heap.end],
        strings: marks.strings,
    }
}

fn info(region: &Region, memory: &Memory) -> RegionInfo {
    let (file, offset) = match region.backing {
        Backing::Object { object, page, .. } => {
            let file: Option<FileId> = memory.objects.get(object).and_then(|object| object.file);
            (file, if file.is_some() { page * PAGE_SIZE } else { 0 })
        }
        Backing::Anonymous => (None, 0),
    };
    let name: &[u8] = match region.purpose {
        Purpose::Plain => b"",
        Purpose::Heap => b"[heap]",
        Purpose::Stack => b"[stack]",
        Purpose::Vdso => b"[vdso]",
        Purpose::Vvar => b"[vvar]",
    };
    RegionInfo {
        start: region.start,
        end: region.end,
        protection: region.protection.bits(),
        shared: region.shared,
        offset,
        file,
        name: name.to_vec(),
    }
}
