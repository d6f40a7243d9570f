//! What a file server asks of a disk driver. Sectors are 512 bytes.

/// Reads: words: disk number, first sector, count of sectors (at most [`SECTORS_MAX`]). The answer's payload is the
/// data.
pub const READ: u32 = 0x200;
/// Writes the payload: words: disk number, first sector.
pub const WRITE: u32 = 0x201;
/// Makes all answered writes durable: words: disk number.
pub const FLUSH: u32 = 0x202;
/// Asks the size: words: disk number. Answer words: sectors, 1 if read-only; error `NoSuchDisk` past the last.
pub const CAPACITY: u32 = 0x203;

/// Bytes in a sector.
pub const SECTOR_SIZE: u64 = 512;
/// Most sectors in one request: what one payload carries.
pub const SECTORS_MAX: u64 = crate::abi::PAYLOAD_MAX as u64 / SECTOR_SIZE;

/// Why a disk request failed: the answer's label.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[repr(u32)]
pub enum BlockError {
    /// No disk has this number.
    NoSuchDisk = 1,
    /// Sectors past the end, or a bad count.
    BadRange = 2,
    /// The device reported an error.
    Device = 3,
    /// The disk is read-only.
    ReadOnly = 4,
    /// No such request.
    BadRequest = 5,
}
