//! Which page tables an address space needs: the frames a map operation is handed beforehand.

use alloc::collections::BTreeSet;

/// Bits of address below each table's entries, from the lowest level up, for tables of 512 entries and pages of 4
/// KiB.
const SHIFTS: [u32; 3] = [21, 30, 39];

/// The tables a space has below its top one.
#[derive(Clone, Debug, Default)]
pub struct Tables(BTreeSet<(u32, u64)>);

impl Tables {
    /// Counts the tables that are missing for the pages of a range, and notes them as there.
    pub fn missing(&mut self, address: u64, pages: u64) -> u32 {
        let last = address + pages.max(1) * 4096 - 1;
        let before = self.0.len();
        for shift in SHIFTS {
            (address >> shift..=last >> shift).for_each(|area| {
                self.0.insert((shift, area));
            });
        }
        (self.0.len() - before) as u32
    }
}
