//! The format on the disk: records one after the other, each beginning on a sector of its own.
//!
//! A record is what one append wrote, and the proof that it was done: it has the call that it was for, and its answer
//! is its length. It has the checksum of the record before it, too, so what stands behind the end of the log (the rest
//! of a log that ended there before a power cut) never becomes part of it again.

use alloc::vec::Vec;

use libipc::abi::journal::{SUM_START, sum};
use libipc::abi::{CallId, PAYLOAD_MAX};
use libipc::proto::block::SECTOR_SIZE;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

const MAGIC: [u8; 8] = *b"NAIADLOG";

/// Most bytes of data in a record: it goes to the disk as one request.
pub const DATA_MAX: u64 = PAYLOAD_MAX as u64 - size_of::<Header>() as u64;

/// What stands before a record's data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: [u8; 8],
    /// Counted from 1.
    number: u64,
    /// What tells the system's run, in which call numbers are unique, from others.
    run: u64,
    call: u64,
    /// Bytes of data.
    length: u64,
    /// The checksum of the record before it.
    before: u64,
    /// The checksum of this header before this field, and of the data.
    sum: u64,
}

/// Where the log ends: what the next record has to follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct End {
    /// The first sector behind it.
    pub sector: u64,
    /// How many records there are.
    pub records: u64,
    /// The checksum of the last.
    sum: u64,
}

impl End {
    /// Of a log without records.
    pub const EMPTY: End = End { sector: 0, records: 0, sum: SUM_START };
}

/// A sound record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The run of the system in which it was written.
    pub run: u64,
    /// The call it was for.
    pub call: CallId,
    /// What was appended.
    pub data: Vec<u8>,
    /// Where the log ends with it.
    pub end: End,
}

/// How many sectors a record with so much data takes.
pub fn sectors(data_bytes: u64) -> u64 {
    (size_of::<Header>() as u64 + data_bytes).div_ceil(SECTOR_SIZE)
}

/// The data of a sound record in its bytes.
pub fn data(bytes: &[u8], length: u64) -> &[u8] {
    let from = size_of::<Header>();
    bytes.get(from..from + length as usize).unwrap_or_default()
}

impl Record {
    /// The next record of a log, and its bytes on the disk.
    pub fn new(end: End, run: u64, call: CallId, data: Vec<u8>) -> (Record, Vec<u8>) {
        let (number, length) = (end.records + 1, data.len() as u64);
        let mut header = Header { magic: MAGIC, number, run, call: call.0, length, before: end.sum, sum: 0 };
        header.sum = header.own_sum(&data);
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(&data);
        bytes.resize((sectors(length) * SECTOR_SIZE) as usize, 0);
        (Record { run, call, data, end: header.end(end) }, bytes)
    }

    /// The record that these bytes, from the end of a log on, begin with; none if they do not begin with a whole and
    /// sound one that follows.
    pub fn take(end: End, bytes: &[u8]) -> Option<Record> {
        let (header, rest) = Header::read_from_prefix(bytes).ok()?;
        let data = rest.get(..usize::try_from(header.length).ok()?)?;
        let follows = header.magic == MAGIC
            && (header.number, header.before) == (end.records + 1, end.sum)
            && header.length <= DATA_MAX
            && header.own_sum(data) == header.sum;
        let Header { run, call, .. } = header;
        follows.then(|| Record { run, call: CallId(call), data: data.to_vec(), end: header.end(end) })
    }
}

impl Header {
    fn own_sum(&self, data: &[u8]) -> u64 {
        let bytes = self.as_bytes();
        let own = bytes.get(..bytes.len() - size_of::<u64>()).unwrap_or_default();
        sum(sum(SUM_START, own), data)
    }

    fn end(&self, before: End) -> End {
        End { sector: before.sector + sectors(self.length), records: self.number, sum: self.sum }
    }
}

/// All records of a disk, for those who have it as a whole.
pub fn all(disk: &[u8]) -> impl Iterator<Item = Record> {
    let mut end = End::EMPTY;
    core::iter::from_fn(move || {
        let from = usize::try_from(end.sector * SECTOR_SIZE).ok()?;
        let record = Record::take(end, disk.get(from..)?)?;
        end = record.end;
        Some(record)
    })
}
