//! One command as a block device reads it: a header, the data, and a byte for the outcome, each in DMA memory.

use alloc::vec::Vec;

use libipc::abi::{PAGE_SIZE, PAYLOAD_MAX};
use libipc::proto::block::BlockError;

use super::memory;
use crate::disk::{AttachError, Command, Extent};

/// Pages of data in a slot.
pub const DATA_PAGES: usize = (PAYLOAD_MAX as u64 / PAGE_SIZE) as usize;
/// Pages for the headers and outcomes of all slots of a disk.
pub const HEADER_PAGES: usize = 1;

/// Bytes of `struct virtio_blk_req` before the data: type, a reserved word, first sector.
const HEADER_BYTES: usize = 16;
/// What a slot takes of the header page: the header and the outcome, apart so that they share no cache line.
const STRIDE: usize = 128;
const OUTCOME_AT: usize = 64;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;

/// The outcome of a command that was carried out.
const OK: u8 = 0;
/// An outcome that no device writes.
const PENDING: u8 = 0xff;

/// Buffers for one command.
pub struct Slot {
    /// While the device has them: its name for the command.
    pub token: Option<u16>,
    header: &'static mut [u8],
    data: &'static mut [u8],
    outcome: &'static mut [u8],
    /// Which way the data goes, and how much of it.
    transfer: Transfer,
}

#[derive(Clone, Copy)]
enum Transfer {
    ToDriver(usize),
    ToDevice(usize),
    Nothing,
}

/// So many slots out of the DMA memory.
pub fn slots(count: usize) -> Result<Vec<Slot>, AttachError> {
    if count == 0 {
        return Err(AttachError::NoMemory);
    }
    let page = memory::pages(HEADER_PAGES).ok_or(AttachError::NoMemory)?;
    let headers = page.chunks_exact_mut(STRIDE).take(count);
    let slots = headers.map(|chunk| {
        let (front, back) = chunk.split_at_mut(OUTCOME_AT);
        Ok(Slot {
            token: None,
            header: front.split_at_mut(HEADER_BYTES).0,
            data: memory::pages(DATA_PAGES).ok_or(AttachError::NoMemory)?,
            outcome: back.split_at_mut(1).0,
            transfer: Transfer::Nothing,
        })
    });
    slots.collect()
}

impl Slot {
    /// Writes a command into the buffers, which the device does not have.
    pub fn prepare(&mut self, command: &Command) {
        let (kind, first) = match command {
            Command::Read(extent) => {
                self.transfer = Transfer::ToDriver(length(*extent));
                (IN, extent.first)
            }
            Command::Write(extent, bytes) => {
                self.transfer = Transfer::ToDevice(length(*extent));
                self.data[..length(*extent)].copy_from_slice(bytes);
                (OUT, extent.first)
            }
            Command::Flush => {
                self.transfer = Transfer::Nothing;
                (FLUSH, 0)
            }
        };
        self.header[..4].copy_from_slice(&kind.to_le_bytes());
        self.header[8..].copy_from_slice(&first.to_le_bytes());
        self.outcome[0] = PENDING;
    }

    /// Calls with the buffers that the device reads and those it writes, in the standard's order.
    pub fn with_buffers<R>(
        &mut self,
        act: impl for<'a> FnOnce(&'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> R,
    ) -> R {
        match self.transfer {
            Transfer::ToDriver(length) => act(&[self.header], &mut [&mut self.data[..length], self.outcome]),
            Transfer::ToDevice(length) => act(&[self.header, &self.data[..length]], &mut [self.outcome]),
            Transfer::Nothing => act(&[self.header], &mut [self.outcome]),
        }
    }

    /// How the command ended, when the device has given the buffers back.
    pub fn outcome(&self) -> Result<Vec<u8>, BlockError> {
        match (self.outcome[0], self.transfer) {
            (OK, Transfer::ToDriver(length)) => Ok(self.data[..length].to_vec()),
            (OK, _) => Ok(Vec::new()),
            _ => Err(BlockError::Device),
        }
    }
}

fn length(extent: Extent) -> usize {
    extent.bytes() as usize
}
