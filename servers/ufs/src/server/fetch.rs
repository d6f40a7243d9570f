//! Fetching from the disks: what is wanted, what has been asked of blk, and who waits for it.
//!
//! Each thing is fetched once, however many calls wait for it. An extent travels in parts of one payload each,
//! several at a time, and is whole when all are there. What would be too much at once waits in the order in which it
//! was wanted.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use libipc::abi::{CallId, Handle, KernelError};
use libipc::proto::block::{self, BlockError, SECTORS_MAX};
use libipc::server::{Effects, Message};

use super::questions::{Asked, Questions};
use crate::blocks::{Extent, SECTOR_BYTES};

/// Most messages to blk that are not answered yet.
const MESSAGES_MAX: u32 = 32;
/// Where a disk's number stands in a sector number that counts over all disks.
const DISK_SHIFT: u32 = 48;
/// The most sectors of a disk that can be told apart.
pub(super) const DISK_SECTORS_MAX: u64 = 1 << DISK_SHIFT;

/// An extent of a disk as one of all disks together, which one cache can hold.
pub(super) fn over_all(disk: u32, extent: Extent) -> Extent {
    Extent { sector: u64::from(disk) << DISK_SHIFT | extent.sector, ..extent }
}

/// The disk of an extent of all disks, and the extent on it.
fn on_disk(extent: Extent) -> (u32, Extent) {
    let disk = (extent.sector >> DISK_SHIFT) as u32;
    (disk, Extent { sector: extent.sector & (DISK_SECTORS_MAX - 1), ..extent })
}

/// Something that only blk knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Want {
    /// How many sectors a disk has.
    Capacity(u32),
    /// The bytes of an extent, counted over all disks.
    Sectors(Extent),
}

impl Want {
    /// The disk it is about.
    pub fn disk(self) -> u32 {
        match self {
            Want::Capacity(disk) => disk,
            Want::Sectors(extent) => on_disk(extent).0,
        }
    }

    /// How many messages it takes.
    fn parts(self) -> u32 {
        match self {
            Want::Capacity(_) => 1,
            Want::Sectors(extent) => extent.sectors.div_ceil(SECTORS_MAX as u32),
        }
    }
}

/// One message's share of something wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Part {
    want: Want,
    /// Where its sectors begin in the extent, and how many they are.
    first: u32,
    sectors: u32,
}

/// Something that has come, or cannot come.
#[derive(Debug)]
pub(super) struct Fetched {
    /// What was wanted.
    pub want: Want,
    /// The bytes, or the sectors of a disk in the answer's first word.
    pub outcome: Result<(Vec<u8>, u64), BlockError>,
    /// Who waits, in the order of arrival.
    pub waiting: Vec<CallId>,
}

/// Something wanted.
#[derive(Debug, Default)]
struct Fetch {
    waiting: Vec<CallId>,
    bytes: Vec<u8>,
    /// Parts that are not answered yet.
    left: u32,
    /// The answer's first word.
    word: u64,
    failed: Option<BlockError>,
}

/// All that is wanted of the disks.
#[derive(Debug)]
pub(super) struct Fetcher {
    blk: Handle,
    fetches: BTreeMap<Want, Fetch>,
    /// What was not asked for yet, by when it was wanted.
    line: BTreeMap<u64, Want>,
    next_in_line: u64,
    messages: u32,
}

impl Fetcher {
    /// Nothing is wanted yet.
    pub fn new(blk: Handle) -> Self {
        Self { blk, fetches: BTreeMap::new(), line: BTreeMap::new(), next_in_line: 0, messages: 0 }
    }

    /// Wants something, for this call or ahead of any.
    pub fn want(&mut self, want: Want, call: Option<CallId>) {
        if !self.fetches.contains_key(&want) {
            self.line.insert(self.next_in_line, want);
            self.next_in_line += 1;
        }
        self.fetches.entry(want).or_default().waiting.extend(call);
    }

    /// Asks for as much of what is wanted as may be under way.
    pub fn send(&mut self, questions: &mut Questions, effects: &mut Effects) {
        while let Some((place, want)) = self.line.first_key_value().map(|(place, want)| (*place, *want)) {
            if self.messages > 0 && self.messages + want.parts() > MESSAGES_MAX {
                return;
            }
            self.line.remove(&place);
            self.ask(want, questions, effects);
        }
    }

    fn ask(&mut self, want: Want, questions: &mut Questions, effects: &mut Effects) {
        let Some(fetch) = self.fetches.get_mut(&want) else { return };
        fetch.left = want.parts();
        self.messages += fetch.left;
        let Want::Sectors(extent) = want else {
            let tag = questions.ask(Asked::Blk(Part { want, first: 0, sectors: 0 }));
            let words = [u64::from(want.disk()), 0, 0, 0];
            effects.send(self.blk, tag, Message::words(block::CAPACITY, words));
            return;
        };
        fetch.bytes = vec![0; extent.bytes() as usize];
        let (disk, on_disk) = on_disk(extent);
        for first in (0..extent.sectors).step_by(SECTORS_MAX as usize) {
            let sectors = (extent.sectors - first).min(SECTORS_MAX as u32);
            let tag = questions.ask(Asked::Blk(Part { want, first, sectors }));
            let words = [u64::from(disk), on_disk.sector + u64::from(first), u64::from(sectors), 0];
            effects.send(self.blk, tag, Message::words(block::READ, words));
        }
    }

    /// Takes an answer. When it was the last one missing, what was wanted is given out, and is wanted no more.
    pub fn answered(&mut self, part: Part, answer: &Result<Message, KernelError>) -> Option<Fetched> {
        self.messages = self.messages.saturating_sub(1);
        let fetch = self.fetches.get_mut(&part.want)?;
        fetch.left = fetch.left.saturating_sub(1);
        match take_part(fetch, part, answer) {
            Ok(()) => {}
            Err(error) => fetch.failed = Some(error),
        }
        if fetch.left > 0 {
            return None;
        }
        let Fetch { waiting, bytes, word, failed, .. } = self.fetches.remove(&part.want)?;
        Some(Fetched { want: part.want, outcome: failed.map_or(Ok((bytes, word)), Err), waiting })
    }
}

/// Puts the bytes of an answer where they belong.
fn take_part(fetch: &mut Fetch, part: Part, answer: &Result<Message, KernelError>) -> Result<(), BlockError> {
    // A driver that is gone for good is as bad as a broken disk.
    let message = answer.as_ref().map_err(|_| BlockError::Device)?;
    match message.label {
        0 => {}
        label if label == BlockError::NoSuchDisk as u32 => return Err(BlockError::NoSuchDisk),
        _ => return Err(BlockError::Device),
    }
    fetch.word = message.words[0];
    let start = part.first as usize * SECTOR_BYTES as usize;
    let length = part.sectors as usize * SECTOR_BYTES as usize;
    let room = fetch.bytes.get_mut(start..start + length).ok_or(BlockError::Device)?;
    if message.payload.len() != length {
        return Err(BlockError::Device);
    }
    room.copy_from_slice(&message.payload);
    Ok(())
}
