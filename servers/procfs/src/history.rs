//! The files about a server's state: `digest` and `journal` in `/proc/naiad/servers/NAME`, and the histories in
//! `/proc/naiad/reproducers` that led to a death.
//!
//! Opening one asks the server for the digest of its state; what the file says is fixed when it is first read, by
//! when the server has told it. A journal's bytes go from the kernel straight to the reader: they would not fit here.

use alloc::{format, vec::Vec};

use libipc::abi::CallId;
use libipc::abi::journal::{DIED, EXPORT_MAGIC, EXPORT_VERSION, ExportHeader, SUM_START, Section, Source};
use libipc::abi::{Handle, PAGE_SIZE};
use libipc::linux::errno::*;
use libipc::server::boot::BOOT_PAGES;
use libipc::server::env::TaskFigure;
use libipc::server::{Effect, Env};
use serde::{Deserialize, Serialize};

use crate::Procfs;
use crate::crash::Crash;
use crate::open::part;
use crate::tree::{Kind, Node};

/// Most bytes that the kernel sums up or copies at once.
const WINDOW_MAX: u64 = 1 << 16;
/// How often a journal is looked at anew because its server made a snapshot meanwhile.
const TRIES: u32 = 4;

/// What an open file of a server's state shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct View {
    task: Handle,
    /// The digest's line, or a journal's header.
    text: Vec<u8>,
    /// Snapshots the server had made, and bytes of each section behind the header.
    sections: Option<(u64, [u64; 3])>,
    /// The reproducer; 0 for the server's history as it is.
    reproducer: u32,
}

impl Procfs {
    /// Whether a node is about a server's state, and then whose. A server without a journal has none to show.
    ///
    /// # Errors
    /// `ENODATA` for a server without a journal, `ENOENT` for a reproducer that is not kept any more.
    pub(crate) fn state_of(&self, node: Node, env: &mut dyn Env) -> Result<Option<Handle>, i32> {
        if node.kind == Kind::Reproducer {
            let crash = Crash::kept(node.id, env).ok_or(ENOENT)?;
            let name = self.server_name(crash.server).ok_or(ENOENT)?;
            return self.tasks.get(name).copied().map(Some).ok_or(ENOENT);
        }
        if node.kind == Kind::Trace {
            return self.any_task().map(Some);
        }
        if !matches!(node.kind, Kind::ServerDigest | Kind::ServerJournal) {
            return Ok(None);
        }
        let task = self.server_name(node.id).and_then(|name| self.tasks.get(name)).copied().ok_or(ENOENT)?;
        env.task_info(task, TaskFigure::History).map_err(|_| ENODATA)?;
        Ok(Some(task))
    }

    /// What such a file says from now on.
    ///
    /// # Errors
    /// `EAGAIN` while the server has not told a digest, or makes one snapshot after the other.
    fn view(&self, node: Node, task: Handle, env: &mut dyn Env) -> Result<View, i32> {
        if matches!(node.kind, Kind::ServerJournal | Kind::Reproducer) {
            let reproducer = if node.kind == Kind::Reproducer { node.id } else { 0 };
            let (header, made) = (0..TRIES).find_map(|_| header(task, reproducer, env)).ok_or(EAGAIN)?;
            let sections = Some((made, header.lengths));
            return Ok(View { task, text: header.to_bytes(), sections, reproducer });
        }
        match env.task_info(task, TaskFigure::Digest).map_err(|_| EIO)? {
            [digest, _, 1, _] => {
                let text = format!("{digest:016x}\n").into_bytes();
                Ok(View { task, text, sections: None, reproducer: 0 })
            }
            _ => Err(EAGAIN),
        }
    }

    /// Reads from such a file into one buffer: the copy, if anything is left, and its length.
    ///
    /// # Errors
    /// See [`Procfs::view`]; `ESTALE` when the server has made a snapshot, and its journal began anew, since the first
    /// read.
    pub(crate) fn read_state(
        &mut self,
        call: CallId,
        badge: u64,
        (address, offset, length): (u64, u64, u64),
        env: &mut dyn Env,
    ) -> Result<(Option<Effect>, u64), i32> {
        let open = self.opens.get(&badge).ok_or(EBADF)?;
        let (node, task) = (Node::from_number(open.node).ok_or(EBADF)?, open.state.ok_or(EBADF)?);
        let view = match &open.view {
            Some(view) => view.clone(),
            None => self.view(node, task, env)?,
        };
        let copied = copy(call, &view, (address, offset, length), env)?;
        if let Some(open) = self.opens.get_mut(&badge) {
            open.view = Some(view);
        }
        Ok(copied)
    }
}

/// One piece of a view for the caller's memory.
fn copy(
    call: CallId,
    view: &View,
    (address, offset, length): (u64, u64, u64),
    env: &mut dyn Env,
) -> Result<(Option<Effect>, u64), i32> {
    let bytes = part(&view.text, offset, length).to_vec();
    if !bytes.is_empty() {
        let copied = bytes.len() as u64;
        return Ok((Some(Effect::CopyOut { call, address, bytes }), copied));
    }
    let Some((made, lengths)) = view.sections else { return Ok((None, 0)) };
    if figures(view.task, view.reproducer, env)?.0 != made {
        return Err(ESTALE);
    }
    let mut start = view.text.len() as u64;
    for (section, bytes) in Section::ALL.into_iter().zip(lengths) {
        let within = offset.saturating_sub(start);
        if within < bytes {
            let length = length.min(bytes - within).min(WINDOW_MAX);
            let effect = (length > 0).then_some(Effect::FromJournal {
                call,
                address,
                task: view.task,
                source: Source { section, reproducer: view.reproducer },
                offset: within,
                length,
            });
            return Ok((effect, length));
        }
        start += bytes;
    }
    Ok((None, 0))
}

/// Snapshots made, bytes of each section, and whether the server waits, or has died.
fn figures(task: Handle, reproducer: u32, env: &mut dyn Env) -> Result<(u64, [u64; 3], u64), i32> {
    if reproducer != 0 {
        let Crash { snapshot_bytes, journal_bytes, snapshots, .. } =
            Crash::kept(reproducer, env).ok_or(ESTALE)?;
        return Ok((snapshots, [BOOT_PAGES * PAGE_SIZE, snapshot_bytes, journal_bytes], DIED));
    }
    let [made, snapshot, journal, settled] = env.task_info(task, TaskFigure::History).map_err(|_| EIO)?;
    Ok((made, [BOOT_PAGES * PAGE_SIZE, snapshot, journal], settled))
}

/// The header of a server's history as it is, and how many snapshots the server had made. Nothing when it made one
/// meanwhile.
fn header(task: Handle, reproducer: u32, env: &mut dyn Env) -> Option<(ExportHeader, u64)> {
    let (made, lengths, settled) = figures(task, reproducer, env).ok()?;
    let mut sums = [SUM_START; 3];
    for ((section, bytes), sum) in Section::ALL.into_iter().zip(lengths).zip(&mut sums) {
        let mut at = 0;
        while at < bytes {
            let end = bytes.min(at + WINDOW_MAX);
            *sum = env.journal_sum(task, Source { section, reproducer }, at..end, *sum).ok()?;
            at = end;
        }
    }
    let header = ExportHeader {
        magic: EXPORT_MAGIC,
        version: EXPORT_VERSION,
        header_bytes: size_of::<ExportHeader>() as u32,
        snapshots: made,
        settled,
        lengths,
        sums,
        sum: 0,
    };
    (figures(task, reproducer, env).ok()?.0 == made).then_some((header.sealed(), made))
}

#[cfg(test)]
mod tests;
