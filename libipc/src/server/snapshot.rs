//! A server's state on its way out, piece by piece: into the kernel's snapshot memory or into a checksum. It is never
//! in the heap as a whole, so a server that has filled half its heap can still be saved.

use postcard::ser_flavors::Flavor;
use postcard::{Error, Result};

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

/// A snapshot being written, a payload at a time; in the end its checksum.
pub(super) struct Writer<'a, T> {
    traps: &'a mut T,
    /// Bytes in the payload.
    filled: usize,
    sum: u64,
}

impl<'a, T: Traps> Writer<'a, T> {
    pub fn new(traps: &'a mut T) -> Writer<'a, T> {
        Writer { traps, filled: 0, sum: SUM_START }
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
        self.sum = sum(self.sum, &self.payload()[..filled]);
        let written = self.traps.trap(Syscall::SnapshotWrite, [filled as u64, 0, 0, 0, 0, 0]);
        written.map(|_| ()).map_err(|_| Error::SerializeBufferFull)
    }
}

impl<T: Traps> Flavor for Writer<'_, T> {
    type Output = u64;

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

    fn finalize(mut self) -> Result<u64> {
        self.flush()?;
        Ok(self.sum)
    }
}

#[cfg(test)]
mod tests;
