//! A server's state on its way out, piece by piece: into the kernel's snapshot memory or into a checksum. It is never
//! in the heap as a whole, so a server that has filled half its heap can still be saved.
//!
//! A snapshot is a whole state, and behind it any number of parts that have of each table the rows that were changed
//! ([`super::rows`]), and of everything else what it was then. Such a part is added where the last ends; when there is
//! no more room, a whole state is begun in other memory. It begins with the schema of the state, so that another image
//! of the server knows what it reads. Each part ends with its length, so that of everything but rows only what was
//! saved last is read: a restart does not decode what it would throw away.

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

/// There is no room, or no snapshot is wanted now.
const REFUSED: Error = Error::SerializeBufferFull;
/// How many bytes say how long a part is.
const LENGTH_BYTES: usize = size_of::<u64>();

/// A part of a snapshot being written, a payload at a time; in the end the checksum of all of it.
pub(super) struct Writer<'a, T> {
    traps: &'a mut T,
    /// Bytes in the payload.
    filled: usize,
    /// Bytes handed to the kernel before.
    handed: u64,
    sum: u64,
    /// What is written goes behind the last snapshot.
    behind: bool,
}

impl<'a, T: Traps> Writer<'a, T> {
    /// Begins a snapshot, or goes on behind one that has this checksum.
    pub fn new(traps: &'a mut T, last: Option<u64>) -> Writer<'a, T> {
        Writer { traps, filled: 0, handed: 0, sum: last.unwrap_or(SUM_START), behind: last.is_some() }
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
        self.handed += filled as u64;
        self.sum = sum(self.sum, &self.payload()[..filled]);
        let written =
            self.traps.trap(Syscall::SnapshotWrite, [filled as u64, self.behind.into(), 0, 0, 0, 0]);
        written.map(|_| ()).map_err(|_| REFUSED)
    }

    /// Ends the part. The checksum of the snapshot.
    pub fn end(mut self) -> Result<u64> {
        let length = self.handed + self.filled as u64;
        (&mut self).try_extend(&length.to_le_bytes())?;
        self.flush()?;
        Ok(self.sum)
    }
}

impl<T: Traps> Flavor for &mut Writer<'_, T> {
    type Output = ();

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

    fn finalize(self) -> Result<()> {
        Ok(())
    }
}

/// Saves a state: whole, or behind a snapshot with the checksum `last`. The checksum of all there is then.
pub(super) fn save<S: Server, T: Traps>(
    kept: &Kept,
    server: &mut S,
    traps: &mut T,
    last: Option<u64>,
) -> Result<u64> {
    // What it costs counts from here.
    traps.trap(Syscall::SnapshotWrite, [0, last.is_some().into(), 0, 0, 0, 0]).map_err(|_| REFUSED)?;
    let mut writer = Writer::new(traps, last);
    if last.is_some() {
        for table in server.tables() {
            table.save(&mut |bytes| (&mut writer).try_extend(bytes))?;
        }
        set_aside(server, true);
        let saved = postcard::serialize_with_flavor(&(kept, &*server), &mut writer);
        set_aside(server, false);
        saved?;
    } else {
        postcard::serialize_with_flavor(&whole(kept, server), &mut writer)?;
    }
    let sum = writer.end()?;
    let committed = traps.trap(Syscall::SnapshotCommit, [sum, last.is_some().into(), 0, 0, 0, 0]);
    committed.map_err(|_| REFUSED)?;
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

/// A snapshot whose schema is known.
pub struct Saved<'a> {
    bytes: &'a [u8],
    kept: Option<Kept>,
}

impl Saved<'_> {
    /// Reads it as a state of this type, which has these tables. `None` when it is none.
    pub fn read<T: DeserializeOwned>(&mut self, tables: fn(&mut T) -> Vec<&mut dyn Table>) -> Option<T> {
        let (kept, state) = state(self.bytes, tables).ok()?;
        self.kept = Some(kept);
        Some(state)
    }
}

/// The parts of a snapshot in order, without their lengths. `None` if it does not fall apart into parts.
fn parts(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (before, length) = bytes.split_last_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
        let (rest, part) = before.split_at(before.len().checked_sub(length)?);
        parts.push(part);
        bytes = rest;
    }
    parts.reverse();
    Some(parts)
}

fn state<T: DeserializeOwned>(bytes: &[u8], tables: fn(&mut T) -> Vec<&mut dyn Table>) -> Result<(Kept, T)> {
    let parts = parts(bytes).ok_or(Error::DeserializeUnexpectedEnd)?;
    let (first, later) = parts.split_first().ok_or(Error::DeserializeUnexpectedEnd)?;
    let (_, kept, mut state): (u32, Kept, T) = postcard::from_bytes(first)?;
    let Some((last, between)) = later.split_last() else { return Ok((kept, state)) };
    for mut part in between.iter().copied() {
        load(&mut state, tables, &mut part)?;
    }
    let mut last = *last;
    load(&mut state, tables, &mut last)?;
    let (kept, mut latest): (Kept, T) = postcard::from_bytes(last)?;
    for (table, old) in tables(&mut latest).into_iter().zip(tables(&mut state)) {
        table.adopt(old);
    }
    Ok((kept, latest))
}

/// Brings all rows up to date with a part, and takes them off it.
fn load<T>(state: &mut T, tables: fn(&mut T) -> Vec<&mut dyn Table>, part: &mut &[u8]) -> Result<()> {
    tables(state).into_iter().try_for_each(|table| table.load(part))
}

/// The state that a snapshot holds, and the schema it is saved in.
pub(super) fn restore<S: Server>(bytes: &[u8]) -> Option<(Kept, S, u32)> {
    let schema = take_from(&mut &*bytes).ok()?;
    let mut saved = Saved { bytes, kept: None };
    let mut server = S::restore(schema, &mut saved)?;
    server.restored();
    // What was made again is no change.
    server.tables().into_iter().for_each(Table::saved);
    Some((saved.kept?, server, schema))
}

#[cfg(test)]
mod tests;
