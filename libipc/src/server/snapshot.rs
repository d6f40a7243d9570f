//! A server's state on its way out, piece by piece: into the kernel's snapshot memory or into a checksum. It is never
//! in the heap as a whole, so a server that has filled half its heap can still be saved.
//!
//! A snapshot is a whole state, and behind it any number of later ones that have of each table only the rows that were
//! changed ([`super::rows`]). Such a one is added where the last ends; when there is no more room, a whole one is begun
//! in other memory. It begins with the schema of the state, so that another image of the server knows what it reads.

use alloc::vec::Vec;

use postcard::ser_flavors::Flavor;
use postcard::{Error, Result};
use serde::de::DeserializeOwned;

use super::Server;
use super::rows::{Table, take_from};
use super::shell::Kept;
use crate::abi::PAYLOAD_MAX;
use crate::abi::delivery::PAYLOAD_OFFSET;
use crate::abi::journal::{SUM_START, sum};
use crate::abi::syscall::Syscall;
use crate::sys::Traps;

/// Only the checksum of what is serialised.
pub(super) struct Sum(u64);

impl Sum {
    pub fn new() -> Sum {
        Sum(SUM_START)
    }
}

impl Flavor for Sum {
    type Output = u64;

    fn try_push(&mut self, byte: u8) -> Result<()> {
        self.try_extend(&[byte])
    }

    fn try_extend(&mut self, bytes: &[u8]) -> Result<()> {
        self.0 = sum(self.0, bytes);
        Ok(())
    }

    fn finalize(self) -> Result<u64> {
        Ok(self.0)
    }
}

/// A snapshot being written, a payload at a time; in the end its checksum.
pub(super) struct Writer<'a, T> {
    traps: &'a mut T,
    /// Bytes in the payload.
    filled: usize,
    sum: u64,
    /// What is written goes behind the last snapshot.
    behind: bool,
}

impl<'a, T: Traps> Writer<'a, T> {
    /// Begins a snapshot, or goes on behind one that has this checksum.
    pub fn new(traps: &'a mut T, last: Option<u64>) -> Writer<'a, T> {
        Writer { traps, filled: 0, sum: last.unwrap_or(SUM_START), behind: last.is_some() }
    }

    fn payload(&mut self) -> &mut [u8] {
        let from = PAYLOAD_OFFSET as usize;
        &mut self.traps.buffer()[from..from + PAYLOAD_MAX as usize]
    }

    /// Hands what is in the payload to the kernel.
    fn flush(&mut self) -> Result<()> {
        let filled = core::mem::take(&mut self.filled);
        if filled == 0 {
            return Ok(());
        }
        self.sum = sum(self.sum, &self.payload()[..filled]);
        let written =
            self.traps.trap(Syscall::SnapshotWrite, [filled as u64, self.behind.into(), 0, 0, 0, 0]);
        written.map(|_| ()).map_err(|_| Error::SerializeBufferFull)
    }
}

impl<T: Traps> Flavor for Writer<'_, T> {
    type Output = u64;

    fn try_push(&mut self, byte: u8) -> Result<()> {
        let at = self.filled;
        self.payload()[at] = byte;
        self.filled += 1;
        if self.filled == PAYLOAD_MAX as usize { self.flush() } else { Ok(()) }
    }

    fn try_extend(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let at = self.filled;
            let room = PAYLOAD_MAX as usize - at;
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            self.payload()[at..at + part.len()].copy_from_slice(part);
            self.filled += part.len();
            if self.filled == PAYLOAD_MAX as usize {
                self.flush()?;
            }
            bytes = rest;
        }
        Ok(())
    }

    fn finalize(mut self) -> Result<u64> {
        self.flush()?;
        Ok(self.sum)
    }
}

/// Saves a state: whole, or behind a snapshot with the checksum `last`. The checksum of all there is then.
pub(super) fn save<S: Server, T: Traps>(
    kept: &Kept,
    server: &mut S,
    traps: &mut T,
    last: Option<u64>,
) -> Result<u64> {
    set_aside(server, last.is_some());
    let writer = Writer::new(traps, last);
    let saved = match last {
        Some(_) => postcard::serialize_with_flavor(&(kept, &*server), writer),
        None => postcard::serialize_with_flavor(&whole(kept, server), writer),
    };
    set_aside(server, false);
    let mut sum = saved?;
    if last.is_some() {
        let mut writer = Writer::new(traps, Some(sum));
        for table in server.tables() {
            table.save(&mut |bytes| writer.try_extend(bytes))?;
        }
        sum = writer.finalize()?;
    }
    let committed = traps.trap(Syscall::SnapshotCommit, [sum, last.is_some().into(), 0, 0, 0, 0]);
    committed.map_err(|_| Error::SerializeBufferFull)?;
    server.tables().into_iter().for_each(Table::saved);
    Ok(sum)
}

fn set_aside<S: Server>(server: &mut S, aside: bool) {
    server.tables().into_iter().for_each(|table| table.set_aside(aside));
}

/// What a snapshot begins with: a whole state, and before it its schema.
pub(super) fn whole<'a, S: Server>(kept: &'a Kept, server: &'a S) -> (u32, &'a Kept, &'a S) {
    (S::SCHEMA, kept, server)
}

/// A snapshot behind its schema.
pub struct Saved<'a> {
    bytes: &'a [u8],
    kept: Option<Kept>,
}

impl Saved<'_> {
    /// Reads it as a state of this type, which has these tables. `None` when it is none.
    pub fn read<T: DeserializeOwned>(&mut self, tables: fn(&mut T) -> Vec<&mut dyn Table>) -> Option<T> {
        let mut bytes = self.bytes;
        let (kept, state) = states(&mut bytes, tables).ok()?;
        self.kept = Some(kept);
        Some(state)
    }
}

fn states<T: DeserializeOwned>(
    bytes: &mut &[u8],
    tables: fn(&mut T) -> Vec<&mut dyn Table>,
) -> Result<(Kept, T)> {
    let (mut kept, mut state): (Kept, T) = take_from(bytes)?;
    while !bytes.is_empty() {
        let (later, mut next): (Kept, T) = take_from(bytes)?;
        for (table, old) in tables(&mut next).into_iter().zip(tables(&mut state)) {
            table.adopt(old);
            table.load(bytes)?;
        }
        (kept, state) = (later, next);
    }
    Ok((kept, state))
}

/// The state that a snapshot holds, and the schema it is saved in.
pub(super) fn restore<S: Server>(mut bytes: &[u8]) -> Option<(Kept, S, u32)> {
    let schema = take_from(&mut bytes).ok()?;
    let mut saved = Saved { bytes, kept: None };
    let server = S::restore(schema, &mut saved)?;
    Some((saved.kept?, server, schema))
}

#[cfg(test)]
mod tests;
