//! What a PVH boot loader leaves (Xen's `hvm_start_info`): the memory map, modules, the command
//! line, and ACPI's root pointer.

use super::acpi::Reader;

const MAGIC: u64 = 0x336e_c578;
const RAM: u64 = 1;
/// Most bytes of a command line that are looked at.
const COMMAND_LINE_MAX: u64 = 1024;

/// A range of physical memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// One past the last.
    pub end: u64,
}

/// The start information, as far as it is used.
#[derive(Clone, Copy, Debug, Default)]
pub struct StartInfo {
    /// The boot archive: the first module.
    pub archive: Option<Range>,
    /// ACPI's root pointer.
    pub acpi_root: u64,
    /// The kernel's command line.
    pub command_line: &'static [u8],
    /// RAM, at most eight ranges.
    pub memory: [Range; 8],
}

impl StartInfo {
    /// Reads the structure at a physical address.
    pub fn read(address: u64, read: Reader) -> Option<StartInfo> {
        let info = read(address, 56)?;
        if word(info, 0, 4)? != MAGIC {
            return None;
        }
        let mut found = StartInfo { acpi_root: word(info, 32, 8)?, ..StartInfo::default() };
        if word(info, 12, 4)? > 0 {
            let module = read(word(info, 16, 8)?, 32)?;
            let start = word(module, 0, 8)?;
            found.archive = Some(Range { start, end: start.checked_add(word(module, 8, 8)?)? });
        }
        let line = word(info, 24, 8)?;
        if line != 0 {
            let line = read(line, COMMAND_LINE_MAX)?;
            found.command_line = line.split(|byte| *byte == 0).next().unwrap_or_default();
        }
        let entries = word(info, 48, 4)?.min(128);
        let map = read(word(info, 40, 8)?, entries * 24)?;
        let mut ranges = found.memory.iter_mut();
        for entry in map.chunks_exact(24) {
            let (start, length) = (word(entry, 0, 8)?, word(entry, 8, 8)?);
            if word(entry, 16, 4)? == RAM
                && let (Some(end), Some(place)) = (start.checked_add(length), ranges.next())
            {
                *place = Range { start, end };
            }
        }
        Some(found)
    }
}

fn word(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let bytes = bytes.get(at..at + width)?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}
