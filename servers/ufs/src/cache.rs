//! The blocks that were fetched, as many as a byte budget allows.
//!
//! Extents are kept as they were fetched, by their first sector. No two overlap: a new one takes the place of those
//! it overlaps, with which, on a volume that is only read, it cannot disagree. So whatever lies within one extent is
//! found by one look, at the nearest extent that begins before it.
//!
//! What has not been used for the longest time is dropped first. So an operation whose blocks fit the budget
//! ends, even if each of its attempts misses one block more: what it has just used is never what goes.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::cell::{Cell, RefCell};
use core::fmt;

use crate::blocks::{Blocks, Extent, Miss, SECTOR_BYTES};

/// Fetched extents, by their first sector. Every operation is O(log n) in their number.
#[derive(Debug)]
pub struct Cache {
    entries: BTreeMap<u64, Entry>,
    /// The first sector of each entry, by when it was last used; the first is the next to go.
    by_last_use: RefCell<BTreeMap<Tick, u64>>,
    now: Cell<Tick>,
    used_bytes: u64,
    budget_bytes: u64,
}

#[derive(Debug)]
struct Entry {
    bytes: Box<[u8]>,
    last_use: Cell<Tick>,
}

/// The cache's own time: it counts uses.
type Tick = u64;

/// The bytes handed to [`Cache::fill`] are not as long as their extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongLength;

impl fmt::Display for WrongLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes fetched are not as many as were asked for")
    }
}

impl core::error::Error for WrongLength {}

impl Cache {
    /// The smallest budget, in bytes: what one operation can need at once on a volume with the largest blocks.
    /// A server that has several operations under way wants as much for each.
    pub const MIN_BYTES: u64 = 8 * 65536;

    /// An empty cache that will hold up to `budget_bytes`, or [`MIN_BYTES`](Self::MIN_BYTES) if that is more.
    pub fn new(budget_bytes: u64) -> Self {
        Self {
            entries: BTreeMap::new(),
            by_last_use: RefCell::default(),
            now: Cell::new(0),
            used_bytes: 0,
            budget_bytes: budget_bytes.max(Self::MIN_BYTES),
        }
    }

    /// How many bytes it holds.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// Put in an extent that was fetched, dropping others if there is no room.
    pub fn fill(&mut self, extent: Extent, bytes: Box<[u8]>) -> Result<(), WrongLength> {
        let len = bytes.len() as u64;
        if len != extent.bytes() || len == 0 {
            return Err(WrongLength);
        }
        if self.find(extent).is_some() {
            return Ok(()); // two operations missed the same block
        }
        self.remove_overlapping(extent);
        while self.used_bytes + len > self.budget_bytes {
            let Some((_, oldest)) = self.by_last_use.get_mut().pop_first() else { break };
            self.remove(oldest);
        }
        let tick = self.tick();
        self.used_bytes += len;
        self.by_last_use.get_mut().insert(tick, extent.sector);
        self.entries.insert(extent.sector, Entry { bytes, last_use: Cell::new(tick) });
        Ok(())
    }

    fn remove_overlapping(&mut self, extent: Extent) {
        while let Some((sector, entry)) = self.entries.range(..extent.end()).next_back() {
            let end = sector + entry.bytes.len() as u64 / u64::from(SECTOR_BYTES);
            if end <= extent.sector {
                break;
            }
            let sector = *sector;
            self.remove(sector);
        }
    }

    fn remove(&mut self, sector: u64) {
        if let Some(entry) = self.entries.remove(&sector) {
            self.used_bytes -= entry.bytes.len() as u64;
            self.by_last_use.get_mut().remove(&entry.last_use.get());
        }
    }

    fn tick(&self) -> Tick {
        let tick = self.now.get() + 1;
        self.now.set(tick);
        tick
    }

    fn find(&self, extent: Extent) -> Option<&[u8]> {
        let (sector, entry) = self.entries.range(..=extent.sector).next_back()?;
        let start = usize::try_from(extent.sector - sector).ok()?.checked_mul(SECTOR_BYTES as usize)?;
        let end = start.checked_add(usize::try_from(extent.bytes()).ok()?)?;
        let bytes = entry.bytes.get(start..end)?;
        let tick = self.tick();
        let mut by_last_use = self.by_last_use.borrow_mut();
        by_last_use.remove(&entry.last_use.replace(tick));
        by_last_use.insert(tick, *sector);
        Some(bytes)
    }
}

impl Blocks for Cache {
    fn get(&self, extent: Extent) -> Result<&[u8], Miss> {
        self.find(extent).ok_or(Miss(extent))
    }
}

#[cfg(test)]
mod tests;
