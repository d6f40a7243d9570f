//! What the driver asks of a device: [`Disk`], and the commands it is given.

use alloc::vec::Vec;
use core::fmt;

use libipc::proto::block::{self, BlockError, SECTOR_SIZE, SECTORS_MAX};
use libipc::server::{Boot, Message};

/// A device that carries out commands, several at a time and in any order.
pub trait Disk: Sized {
    /// Resets and brings up the devices of the boot block, in their order.
    fn attach(boot: &Boot) -> Vec<Result<Self, AttachError>>;

    /// What it is; the same for its whole life.
    fn properties(&self) -> Properties;

    /// Starts a command and gives it a number that no other command under way has; nothing if it can take no more.
    fn submit(&mut self, command: &Command) -> Option<u32>;

    /// Makes the device let go of its interrupt line.
    fn acknowledge(&mut self);

    /// Takes a finished command, if there is one.
    fn finished(&mut self) -> Option<Finished>;
}

/// What a disk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Properties {
    /// Its size.
    pub sectors: u64,
    /// It refuses writes.
    pub read_only: bool,
    /// An answered write may be lost until the next flush.
    pub volatile_cache: bool,
}

/// A command that a disk has finished.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// The number it was given by [`Disk::submit`].
    pub number: u32,
    /// What was read (nothing for writes and flushes), or why it failed.
    pub outcome: Result<Vec<u8>, BlockError>,
}

/// A run of sectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Extent {
    /// The first.
    pub first: u64,
    /// How many.
    pub count: u64,
}

impl Extent {
    /// A run that lies on a disk of so many sectors and fits one message.
    fn checked(first: u64, count: u64, sectors: u64) -> Result<Extent, BlockError> {
        let fits = (1..=SECTORS_MAX).contains(&count);
        match first.checked_add(count) {
            Some(end) if fits && end <= sectors => Ok(Extent { first, count }),
            _ => Err(BlockError::BadRange),
        }
    }

    /// Whether some sector is in both.
    pub fn overlaps(self, other: Extent) -> bool {
        self.first < other.first + other.count && other.first < self.first + self.count
    }

    /// Bytes in it.
    pub fn bytes(self) -> u64 {
        self.count * SECTOR_SIZE
    }
}

/// What a device is told to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Bring these sectors.
    Read(Extent),
    /// Write these sectors.
    Write(Extent, Vec<u8>),
    /// Make what has been written durable.
    Flush,
}

impl Command {
    /// The command in a request, if this disk can carry it out.
    pub fn decode(message: &Message, disk: &Properties) -> Result<Command, BlockError> {
        let [_, first, count, _] = message.words;
        match message.label {
            block::READ => Extent::checked(first, count, disk.sectors).map(Command::Read),
            block::WRITE if disk.read_only => Err(BlockError::ReadOnly),
            block::WRITE => {
                let length = message.payload.len() as u64;
                if !length.is_multiple_of(SECTOR_SIZE) {
                    return Err(BlockError::BadRange);
                }
                let extent = Extent::checked(first, length / SECTOR_SIZE, disk.sectors)?;
                Ok(Command::Write(extent, message.payload.clone()))
            }
            block::FLUSH => Ok(Command::Flush),
            _ => Err(BlockError::BadRequest),
        }
    }
}

/// Why a device cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachError {
    /// Firmware has given it no interrupt line.
    NoInterrupt,
    /// Its registers are not where root has mapped them.
    NotMapped,
    /// It has no modern virtio interface.
    Legacy,
    /// It did not accept the features it had offered itself.
    Refused,
    /// There is too little memory for DMA: `dma_kib` in system.toml.
    NoMemory,
    /// Its queue or configuration is not as the standard says.
    Malformed,
}

impl fmt::Display for AttachError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AttachError::NoInterrupt => "firmware has given it no interrupt line",
            AttachError::NotMapped => "its registers are not mapped",
            AttachError::Legacy => "it has no modern virtio interface",
            AttachError::Refused => "it does not accept the features it offers",
            AttachError::NoMemory => "too little memory for DMA (dma_kib in system.toml)",
            AttachError::Malformed => "its queue or configuration is not as the standard says",
        })
    }
}

impl core::error::Error for AttachError {}
