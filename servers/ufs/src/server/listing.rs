//! getdents(2) and getdents64(2). The session's position is the library's cookie, an offset in the directory.

use libipc::abi::CallId;
use libipc::linux::errno::*;
use libipc::server::files::{DirentLayout, Dirents};
use libipc::server::{Effect, Effects, ForeignReply};

use super::disks::{Disks, Site, Stall};
use super::node::{Node, type_bits};
use crate::directory::DirEntry;
use crate::inode::{FileType, Inode};

/// Most bytes of records in one answer.
const RECORDS_MAX: u64 = 65536;

/// A listing under way.
#[derive(Clone, Debug)]
pub(super) struct List {
    node: Node,
    layout: DirentLayout,
    address: u64,
    capacity: u64,
    /// The entries before this one were listed, or are free.
    cookie: u64,
}

impl List {
    /// A listing that has just come.
    pub fn new(node: Node, layout: DirentLayout, address: u64, length: u64, position: u64) -> Self {
        Self { node, layout, address, capacity: length.min(RECORDS_MAX), cookie: position }
    }

    /// Goes on.
    pub fn advance(&mut self, call: CallId, disks: &mut Disks, effects: &mut Effects) -> Result<(), Stall> {
        let (mut site, directory) = disks.find(self.node)?;
        if directory.kind != FileType::Directory {
            return Err(Stall::Errno(ENOTDIR));
        }
        let mut records = Dirents::new(self.layout, self.capacity);
        let mut any = false;
        let stall = loop {
            match self.list_block(&directory, &mut site, &mut records, &mut any) {
                Ok(true) => {}
                Ok(false) => break None,
                Err(stall) => break Some(stall),
            }
        };
        // An answer may be shorter than it could be.
        if let Some(stall) = stall.filter(|_| !any) {
            return Err(stall);
        }
        let (bytes, position) = records.finish()?;
        let result = bytes.len() as i64;
        if !bytes.is_empty() {
            effects.push(Effect::CopyOut { call, address: self.address, bytes });
        }
        effects.foreign(call, ForeignReply { result, position, ..ForeignReply::default() });
        Ok(())
    }

    /// Lists the entries from the cookie to the end of its block; whether there is more to list.
    fn list_block(
        &mut self,
        directory: &Inode,
        site: &mut Site<'_>,
        records: &mut Dirents,
        any: &mut bool,
    ) -> Result<bool, Stall> {
        let (volume, view) = site.volume();
        let entries = match volume.read_dir(&view, directory, self.cookie) {
            Ok(entries) => entries,
            Err(error) => return Err(site.stall(error)),
        };
        let next = entries.next_block();
        for entry in entries {
            let DirEntry { number, kind, name, next } = match entry {
                Ok(entry) => entry,
                Err(error) => return Err(site.stall(error)),
            };
            let mode = kind.map_or(0, type_bits);
            if !records.push(site.node(number).number(), next, mode, name) {
                return Ok(false);
            }
            *any = true;
        }
        self.cookie = next.unwrap_or(self.cookie);
        Ok(next.is_some())
    }
}
