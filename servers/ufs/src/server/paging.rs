//! Pages of files for vm, which maps them, and bytes for the servers that load programs.

use alloc::vec::Vec;

use libipc::abi::{CallId, PAGE_SIZE, PAYLOAD_MAX};
use libipc::linux::errno::*;
use libipc::server::{Effects, Message};

use super::disks::{Disks, Site, Stall};
use super::node::Node;
use super::work::Step;
use crate::inode::{FileType, Inode};

/// A page fault on a mapped file. Pages go to vm one after the other; the first is a must, those behind it are given
/// as long as they are at hand.
#[derive(Clone, Debug)]
pub(super) struct PageIn {
    node: Node,
    /// vm's number of the object.
    object: u64,
    /// The page that faulted.
    first: u64,
    /// How many are wanted at most.
    wanted: u64,
    /// How many vm has taken.
    taken: u64,
}

impl PageIn {
    /// A fault that has just come, as vm's words say.
    pub fn new(node: Node, [object, first, wanted, _]: [u64; 4]) -> Self {
        Self { node, object, first, wanted: wanted.max(1), taken: 0 }
    }

    /// vm has taken the page that it was given last.
    pub fn taken(&mut self) {
        self.taken += 1;
    }

    /// Goes on.
    pub fn advance(&mut self, call: CallId, disks: &mut Disks, effects: &mut Effects) -> Result<Step, Stall> {
        match self.page(disks) {
            Err(stall) if self.taken == 0 => Err(stall),
            Ok(Some(data)) => {
                Ok(Step::Supply { object: self.object, page: self.first.saturating_add(self.taken), data })
            }
            Ok(None) | Err(_) => {
                effects.reply(call, Message::label(0));
                Ok(Step::Answered)
            }
        }
    }

    /// The bytes of the next page to give, none if it is the first and lies beyond the end; nothing if enough was
    /// given.
    fn page(&self, disks: &mut Disks) -> Result<Option<Vec<u8>>, Stall> {
        let offset = self.first.saturating_add(self.taken).saturating_mul(PAGE_SIZE);
        let (mut site, inode) = disks.find(self.node)?;
        let beyond = offset >= inode.size;
        if self.taken > 0 && (beyond || self.taken >= self.wanted) {
            return Ok(None);
        }
        let goal = offset.saturating_add(self.wanted.saturating_mul(PAGE_SIZE));
        data(&mut site, &inode, offset, PAGE_SIZE, goal).map(Some)
    }
}

/// A read of another server, for a program's first bytes.
#[derive(Clone, Debug)]
pub(super) struct ReadAt {
    node: Node,
    offset: u64,
    length: u64,
}

impl ReadAt {
    /// A read that has just come, as its words say.
    pub fn new(node: Node, [offset, length, ..]: [u64; 4]) -> Self {
        Self { node, offset, length: length.min(u64::from(PAYLOAD_MAX)) }
    }

    /// Goes on.
    pub fn advance(&mut self, call: CallId, disks: &mut Disks, effects: &mut Effects) -> Result<(), Stall> {
        let (mut site, inode) = disks.find(self.node)?;
        let payload =
            data(&mut site, &inode, self.offset, self.length, self.offset.saturating_add(self.length))?;
        let words = [self.node.object(&inode), 0, 0, 0];
        effects.reply(call, Message { words, payload, ..Message::default() });
        Ok(())
    }
}

/// Bytes of a regular file, as many as there are of `length`.
fn data(site: &mut Site<'_>, file: &Inode, offset: u64, length: u64, goal: u64) -> Result<Vec<u8>, Stall> {
    match file.kind {
        FileType::Regular => {}
        FileType::Directory => return Err(Stall::Errno(EISDIR)),
        _ => return Err(Stall::Errno(EINVAL)),
    }
    let length = length.min(file.size.saturating_sub(offset));
    let mut bytes = Vec::with_capacity(length as usize);
    site.read(file, offset, length, goal.min(file.size), &mut bytes)?;
    Ok(bytes)
}
