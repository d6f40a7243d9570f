//! The record format of journals. The kernel writes records; a restarted server and the host read them.
//!
//! A record is a header word, the six arguments, the values, and the bytes that the kernel left in the message
//! buffer, padded to eight; all little-endian. For a receive the bytes are the [`Delivery`] and the payload after it;
//! for every other call they are payload.

use alloc::vec::Vec;

use super::delivery::Delivery;

/// Arguments in a record.
pub const ARGUMENTS: u32 = 6;
/// Most values in a record.
pub const VALUES_MAX: u32 = 5;
/// Bytes of header and arguments.
pub const FIXED_BYTES: u64 = 8 * (1 + ARGUMENTS as u64);
/// Bytes of a delivery at the beginning of a receive's payload.
pub const DELIVERY_BYTES: u64 = size_of::<Delivery>() as u64;

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

    /// The length of the whole record.
    pub const fn bytes(&self) -> u64 {
        FIXED_BYTES + 8 * self.values as u64 + (self.payload as u64).next_multiple_of(8)
    }
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
        for (index, argument) in arguments.iter_mut().enumerate() {
            *argument = word(1 + index)?;
        }
        let mut values = [0; VALUES_MAX as usize];
        for (index, value) in values.iter_mut().enumerate().take(usize::from(header.values)) {
            *value = word(1 + ARGUMENTS as usize + index)?;
        }
        let start = (FIXED_BYTES + 8 * u64::from(header.values)) as usize;
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
