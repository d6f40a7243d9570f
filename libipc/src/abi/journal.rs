//! The record format of journals. The kernel writes records; a restarted server and the host read them.
//!
//! A record is a header word, the arguments that the call has, the values, and the bytes that the kernel left in the
//! message buffer, padded to eight; all little-endian. For a receive the bytes are the [`Delivery`] as far as it is
//! filled in, and the payload after it; for every other call they are payload. A delivery that killed its server again
//! stays, as [`DISPOSED`], and is passed over.
//!
//! A history for the host is one file: an [`ExportHeader`], and behind it the [`Section`]s in order.

use alloc::vec::Vec;
use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::delivery::{Delivery, Extent};
use super::syscall::Syscall;

/// Arguments in a record.
pub const ARGUMENTS: u32 = 6;
/// Most values in a record.
pub const VALUES_MAX: u32 = 5;
/// Most bytes of header and arguments.
pub const FIXED_MAX: u64 = 8 * (1 + ARGUMENTS as u64);
/// In the place of a receive's number: a delivery that its server died of, and does not see again. The record is a
/// receive's otherwise.
pub const DISPOSED: u16 = u16::MAX;
/// Most bytes of a delivery at the beginning of a receive's payload.
pub const DELIVERY_MAX: u64 = size_of::<Delivery>() as u64;

/// What a server's history consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Section {
    /// Its boot block as it is mapped: what root told it.
    Boot = 0,
    /// The snapshot that a new incarnation would start from.
    Snapshot = 1,
    /// The records since.
    Journal = 2,
    /// What is left of an incarnation that has died by itself: an ELF core file. It is part of no history, and its
    /// number is its own.
    Core = 3,
}

impl Section {
    /// Those of a history, in the order in which they stand in a file.
    pub const ALL: [Section; 3] = [Section::Boot, Section::Snapshot, Section::Journal];

    /// From its number.
    pub fn from_number(number: u64) -> Option<Section> {
        let all = Section::ALL.into_iter().chain([Section::Core]);
        all.into_iter().find(|section| *section as u64 == number)
    }
}

/// Where a part of a server's history is taken from: a section of it as it is, or, with the number of a reproducer, as
/// it was when the server died of something again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct Source {
    /// The section.
    pub section: Section,
    /// The reproducer, or the core; 0 for the history as it is.
    pub reproducer: u32,
}

impl Source {
    /// As an argument of a system call: the reproducer in the high half.
    pub fn to_word(self) -> u64 {
        self.section as u64 | u64::from(self.reproducer) << 32
    }

    /// From such an argument.
    pub fn from_word(word: u64) -> Option<Source> {
        let section = Section::from_number(word & 0xffff_ffff)?;
        Some(Source { section, reproducer: (word >> 32) as u32 })
    }
}

/// What a file with a history begins with.
pub const EXPORT_MAGIC: [u8; 8] = *b"NAIADJNL";
/// The version of this format.
pub const EXPORT_VERSION: u32 = 4;

/// In the place of [`ExportHeader::settled`]: the server died of the last message.
pub const DIED: u64 = 2;

/// The first bytes of a server's history in a file. Its sections follow it without gaps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExportHeader {
    /// [`EXPORT_MAGIC`].
    pub magic: [u8; 8],
    /// [`EXPORT_VERSION`].
    pub version: u32,
    /// Bytes of this header.
    pub header_bytes: u32,
    /// Snapshots that the server had made.
    pub snapshots: u64,
    /// 1 when it waited for its next message: what the last one led to is all there. [`DIED`] when it died of that.
    pub settled: u64,
    /// Bytes of each section.
    pub lengths: [u64; 3],
    /// Checksum of each section.
    pub sums: [u64; 3],
    /// Checksum of this header before this field.
    pub sum: u64,
}

impl ExportHeader {
    /// The header with its own checksum set.
    pub fn sealed(mut self) -> ExportHeader {
        self.sum = self.own_sum();
        self
    }

    /// As it stands in a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    /// What the header's own checksum should be.
    pub fn own_sum(&self) -> u64 {
        let bytes = self.as_bytes();
        sum(SUM_START, bytes.get(..bytes.len() - size_of::<u64>()).unwrap_or_default())
    }
}

/// The checksum of nothing.
pub const SUM_START: u64 = 0xcbf2_9ce4_8422_2325;

/// Continues a checksum (FNV-1a) over more bytes.
pub fn sum(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A record's header word, taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The system call.
    pub number: u16,
    /// 0, or the kernel error it was refused with.
    pub error: u8,
    /// How many values follow the arguments.
    pub values: u8,
    /// Bytes that follow the values.
    pub payload: u32,
}

impl Header {
    /// As a word.
    pub const fn pack(&self) -> u64 {
        self.number as u64
            | (self.error as u64) << 16
            | (self.values as u64) << 24
            | (self.payload as u64) << 32
    }

    /// From a word.
    pub const fn unpack(word: u64) -> Header {
        Header {
            number: word as u16,
            error: (word >> 16) as u8,
            values: (word >> 24) as u8,
            payload: (word >> 32) as u32,
        }
    }

    /// How many arguments follow the header.
    #[inline]
    pub fn arguments(&self) -> usize {
        match Syscall::from_number(u64::from(self.number)) {
            Some(call) => call.row().arguments.len(),
            None if self.number == DISPOSED => 0,
            None => ARGUMENTS as usize,
        }
    }

    /// Bytes of header, arguments and values.
    #[inline]
    pub fn fixed_bytes(&self) -> u64 {
        8 * (1 + self.arguments() as u64 + u64::from(self.values))
    }

    /// The length of the whole record.
    #[inline]
    pub fn bytes(&self) -> u64 {
        self.fixed_bytes() + u64::from(self.payload).next_multiple_of(8)
    }
}

/// How much of a recorded receive's bytes is the delivery.
pub fn delivery_bytes(payload: &[u8]) -> usize {
    let at = offset_of!(Delivery, extent);
    let extent =
        payload.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    (extent as usize).clamp(Extent::Message as usize, DELIVERY_MAX as usize).min(payload.len())
}

/// A record as the host reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its header.
    pub header: Header,
    /// The arguments of the trap.
    pub arguments: [u64; 6],
    /// Its values.
    pub values: [u64; 5],
    /// What it left in the message buffer.
    pub payload: Vec<u8>,
}

impl Record {
    /// Takes the first record off a journal. `None` at its end, or where it is damaged.
    pub fn take(journal: &mut &[u8]) -> Option<Record> {
        let word = |at: usize| {
            let bytes = journal.get(at * 8..at * 8 + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let header = Header::unpack(word(0)?);
        let mut arguments = [0; ARGUMENTS as usize];
        let count = header.arguments();
        for (index, argument) in arguments.iter_mut().enumerate().take(count) {
            *argument = word(1 + index)?;
        }
        let mut values = [0; VALUES_MAX as usize];
        for (index, value) in values.iter_mut().enumerate().take(usize::from(header.values)) {
            *value = word(1 + count + index)?;
        }
        let start = header.fixed_bytes() as usize;
        let payload = journal.get(start..start + header.payload as usize)?.to_vec();
        *journal = journal.get(header.bytes() as usize..)?;
        Some(Record { header, arguments, values, payload })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_its_word() {
        let header = Header { number: 68, error: 11, values: 5, payload: 8000 };
        assert_eq!(Header::unpack(header.pack()), header);
        assert_eq!(header.bytes() % 8, 0);
    }

    #[test]
    fn a_damaged_journal_ends_where_the_damage_is() {
        let header = Header { number: 3, error: 0, values: 0, payload: 100 };
        let mut bytes = header.pack().to_le_bytes().to_vec();
        bytes.resize(60, 0);
        assert_eq!(Record::take(&mut &bytes[..]), None);
        assert_eq!(Record::take(&mut &[][..]), None);
    }
}
