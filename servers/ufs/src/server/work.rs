//! Calls that look at a volume, as pieces of work that can be taken up again when what they missed has come.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use libipc::abi::{CallId, Handle};
use libipc::linux::Stat;
use libipc::server::{Effects, ForeignReply, Message, Output};

use super::disks::{Disks, Stall};
use super::listing::List;
use super::node::{Node, stat, stat_fs};
use super::paging::{PageIn, ReadAt};
use super::reading::Read;
use super::request::Task;
use super::seeking::Seek;

/// A call that is being served, and by whom.
#[derive(Clone, Copy, Debug)]
pub(super) struct Desk {
    /// The call.
    pub call: CallId,
    /// This server's number.
    pub server: u32,
    /// Where programs go whose walk ends elsewhere.
    pub vfs: Handle,
}

/// A session to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opened {
    /// What it stands for.
    pub node: Node,
    /// What others know that by.
    pub object: u64,
    /// Its status flags.
    pub status: u32,
    /// What vfs is told of the file.
    pub stat: Stat,
}

/// What an advance came to.
#[derive(Debug)]
pub(super) enum Step {
    /// The call is answered.
    Answered,
    /// A session is to be made before it can be.
    Open(Opened),
    /// vm is to take a page before the work goes on.
    Supply {
        /// vm's number of the object.
        object: u64,
        /// The page's index.
        page: u64,
        /// Its bytes; those that are missing are zero.
        data: Vec<u8>,
    },
}

/// A call that looks at a volume.
#[derive(Debug)]
pub(super) enum Work {
    /// What vfs asks.
    Request(Box<Task>),
    /// read(2) and its relatives.
    Read(Read),
    /// getdents(2) and getdents64(2).
    List(List),
    /// lseek(2).
    Seek(Seek),
    /// fstat(2): where the answer goes.
    Stat { node: Node, address: u64 },
    /// fstatfs(2): where the answer goes.
    StatFs { node: Node, address: u64 },
    /// A page fault on a mapped file.
    PageIn(PageIn),
    /// A read for another server.
    ReadAt(ReadAt),
    /// A volume is about to be used.
    Mount { disk: u32 },
}

impl Work {
    /// Goes on with a call, as far as what is at hand allows.
    pub fn advance(&mut self, desk: Desk, disks: &mut Disks, effects: &mut Effects) -> Result<Step, Stall> {
        let Desk { call, server, .. } = desk;
        match self {
            Work::Request(task) => return task.advance(desk, disks, effects),
            Work::PageIn(fault) => return fault.advance(call, disks, effects),
            Work::Read(read) => read.advance(call, disks, effects)?,
            Work::List(list) => list.advance(call, disks, effects)?,
            Work::Seek(seek) => seek.advance(call, disks, effects)?,
            Work::ReadAt(read) => read.advance(call, disks, effects)?,
            Work::Stat { node, address } => {
                let (site, inode) = disks.find(*node)?;
                hand_out(call, *address, stat(&site, server, &inode).to_bytes().to_vec(), effects);
            }
            Work::StatFs { node, address } => {
                let site = disks.site(node.disk)?;
                hand_out(call, *address, stat_fs(site.volume().0).to_bytes().to_vec(), effects);
            }
            Work::Mount { disk } => {
                disks.site(*disk)?;
                effects.reply(call, Message::label(0));
            }
        }
        Ok(Step::Answered)
    }

    /// Answers the call with an errno, in its own manner.
    pub fn fail(&self, call: CallId, errno: i32, effects: &mut Effects) {
        match self {
            Work::Request(task) => task.fail(call, errno, effects),
            Work::PageIn(_) | Work::ReadAt(_) | Work::Mount { .. } => {
                effects.reply(call, Message::label(errno as u32));
            }
            Work::Read(read) => read.fail(call, errno, effects),
            Work::List(_) | Work::Seek(_) | Work::Stat { .. } | Work::StatFs { .. } => {
                effects.result(call, -i64::from(errno));
            }
        }
    }
}

/// Answers a Linux call with a structure.
fn hand_out(call: CallId, address: u64, bytes: Vec<u8>, effects: &mut Effects) {
    effects
        .foreign(call, ForeignReply { outputs: vec![Output { address, bytes }], ..ForeignReply::default() });
}
