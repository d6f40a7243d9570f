//! A disk in memory that a test plays by hand.

use libipc::proto::block::{BlockError, SECTOR_SIZE};
use libipc::server::Boot;

use crate::disk::{AttachError, Command, Disk, Extent, Finished, Properties};

/// Sectors of every model disk.
pub const SECTORS: u64 = 24;
/// Commands that it takes at a time.
pub const SLOTS: usize = 4;

/// Device identity of a disk that refuses writes; 0 is one like any other.
pub const READ_ONLY: u16 = 1;
/// Device identity of a disk without a cache.
pub const WRITE_THROUGH: u16 = 2;
/// Device identity of a disk that cannot be brought up.
pub const BROKEN: u16 = 3;

/// The disk.
pub struct ModelDisk {
    pub contents: Vec<u8>,
    /// What it was given and has not carried out, oldest first.
    pub held: Vec<(u32, Command)>,
    /// How often it was told to let go of its line.
    pub acknowledged: u32,
    finished: Vec<Finished>,
    next: u32,
    kind: u16,
}

impl Disk for ModelDisk {
    fn attach(boot: &Boot) -> Vec<Result<ModelDisk, AttachError>> {
        let kinds = boot.devices.iter().map(|device| device.id.1);
        kinds
            .map(|kind| if kind == BROKEN { Err(AttachError::Legacy) } else { Ok(ModelDisk::new(kind)) })
            .collect()
    }

    fn properties(&self) -> Properties {
        Properties {
            sectors: SECTORS,
            read_only: self.kind == READ_ONLY,
            volatile_cache: self.kind != WRITE_THROUGH,
        }
    }

    fn submit(&mut self, command: &Command) -> Option<u32> {
        if self.held.len() + self.finished.len() == SLOTS {
            return None;
        }
        self.next += 1;
        self.held.push((self.next, command.clone()));
        Some(self.next)
    }

    fn acknowledge(&mut self) {
        self.acknowledged += 1;
    }

    fn finished(&mut self) -> Option<Finished> {
        if self.finished.is_empty() { None } else { Some(self.finished.remove(0)) }
    }
}

impl ModelDisk {
    fn new(kind: u16) -> ModelDisk {
        ModelDisk {
            contents: vec![0; (SECTORS * SECTOR_SIZE) as usize],
            held: Vec::new(),
            acknowledged: 0,
            finished: Vec::new(),
            next: 0,
            kind,
        }
    }

    /// Carries out the command at this place among those held.
    pub fn carry_out(&mut self, position: usize) {
        let (number, command) = self.held.remove(position);
        let outcome = match command {
            Command::Read(extent) => Ok(self.place(extent).to_vec()),
            Command::Write(extent, bytes) => {
                self.place(extent).copy_from_slice(&bytes);
                Ok(Vec::new())
            }
            Command::Flush => Ok(Vec::new()),
        };
        self.finished.push(Finished { number, outcome });
    }

    /// Fails the command at this place.
    pub fn fail(&mut self, position: usize) {
        let (number, _) = self.held.remove(position);
        self.finished.push(Finished { number, outcome: Err(BlockError::Device) });
    }

    fn place(&mut self, extent: Extent) -> &mut [u8] {
        let first = (extent.first * SECTOR_SIZE) as usize;
        &mut self.contents[first..first + extent.bytes() as usize]
    }
}
