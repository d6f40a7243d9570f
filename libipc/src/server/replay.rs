//! A server run again over its journal, on the host: every trap is answered from the record of it, and must be the
//! trap that was recorded. Where the journal ends, the run ends.

use alloc::{boxed::Box, string::String, vec::Vec};
use core::fmt;

use super::shell::{Shell, digest};
use super::{Boot, Server};
use crate::abi::delivery::{DELIVERY_OFFSET, PAYLOAD_OFFSET};
use crate::abi::journal::{DELIVERY_BYTES, Record};
use crate::abi::syscall::Syscall;
use crate::abi::{KernelError, PAYLOAD_MAX};
use crate::sys::{BUFFER_BYTES, Trapped, Traps};

/// A recovered history of a server: what `/proc/naiad/servers/NAME/journal` gives.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct History {
    /// What root told it.
    pub boot: Boot,
    /// The snapshot it starts from; empty when there is none yet.
    pub snapshot: Vec<u8>,
    /// The records since.
    pub journal: Vec<u8>,
}

/// Why a replay stopped before the journal's end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Divergence {
    /// How many records agreed.
    pub records: u64,
    /// What the journal has.
    pub recorded: String,
    /// What the server did.
    pub made: String,
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "after {} records the server made {}, but the journal has {}",
            self.records, self.made, self.recorded
        )
    }
}

impl core::error::Error for Divergence {}

/// What a replay came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// Digest of the state at the journal's end.
    pub digest: u64,
    /// Records that were answered.
    pub records: u64,
}

/// Traps answered from a journal.
struct Recorded<'a> {
    snapshot: &'a [u8],
    journal: &'a [u8],
    records: u64,
    divergence: Option<Divergence>,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl Recorded<'_> {
    fn diverge(&mut self, recorded: String, made: String) -> Trapped {
        let records = self.records;
        self.divergence.get_or_insert(Divergence { records, recorded, made });
        self.journal = &[];
        Err(KernelError::WrongState)
    }

    fn snapshot_part(&mut self, offset: u64) -> Trapped {
        let rest = self.snapshot.get(offset as usize..).unwrap_or_default();
        let part = &rest[..rest.len().min(PAYLOAD_MAX as usize)];
        let from = PAYLOAD_OFFSET as usize;
        self.buffer[from..from + part.len()].copy_from_slice(part);
        Ok([part.len() as u64, 0, 0, 0, 0])
    }

    fn put(&mut self, record: &Record) {
        let (delivery, payload) = match record.header.number == Syscall::Receive as u16 {
            true => record.payload.split_at((DELIVERY_BYTES as usize).min(record.payload.len())),
            false => (&[][..], &record.payload[..]),
        };
        let at = DELIVERY_OFFSET as usize;
        self.buffer[at..at + delivery.len()].copy_from_slice(delivery);
        let at = PAYLOAD_OFFSET as usize;
        let length = payload.len().min(BUFFER_BYTES - at);
        self.buffer[at..at + length].copy_from_slice(&payload[..length]);
    }
}

impl Traps for Recorded<'_> {
    fn trap(&mut self, call: Syscall, mut arguments: [u64; 6]) -> Trapped {
        match call {
            Syscall::SnapshotRead => return self.snapshot_part(arguments[0]),
            Syscall::SnapshotWrite | Syscall::SnapshotCommit => return Ok([0; 5]),
            // An address of the server's own memory is not recorded.
            Syscall::LeaseWrite => arguments = [arguments[0], arguments[1], 0, arguments[3], 0, 0],
            Syscall::Receive => arguments = [0; 6],
            _ => {}
        }
        let Some(record) = Record::take(&mut self.journal) else { return Err(KernelError::WrongState) };
        if record.header.number != call as u16 || record.arguments != arguments {
            let recorded = Syscall::from_number(u64::from(record.header.number));
            return self.diverge(
                alloc::format!("{recorded:?}{:x?}", record.arguments),
                alloc::format!("{call:?}{arguments:x?}"),
            );
        }
        self.records += 1;
        self.put(&record);
        match KernelError::from_number(u64::from(record.header.error)) {
            Some(error) => Err(error),
            None => Ok(record.values),
        }
    }

    fn trap_then_receive(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        let trapped = self.trap(call, arguments)?;
        // Where the journal ends there is nothing more to receive.
        if self.journal.is_empty() { Ok(trapped) } else { self.trap(Syscall::Receive, [0; 6]) }
    }

    fn buffer(&mut self) -> &mut [u8; BUFFER_BYTES] {
        &mut self.buffer
    }
}

/// Runs a server over its history.
pub fn replay<S: Server>(history: &History) -> Result<Outcome, Divergence> {
    let traps = Recorded {
        snapshot: &history.snapshot,
        journal: &history.journal,
        records: 0,
        divergence: None,
        buffer: Box::new([0; BUFFER_BYTES]),
    };
    let mut shell = Shell::<S, _>::start(&history.boot, traps);
    while shell.traps.divergence.is_none() && !shell.traps.journal.is_empty() {
        shell.serve_one();
    }
    match shell.traps.divergence.take() {
        Some(divergence) => Err(divergence),
        None => Ok(Outcome { digest: digest(&shell.state()), records: shell.traps.records }),
    }
}
