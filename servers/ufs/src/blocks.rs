//! Where the library's bytes come from: extents of sectors, at hand or missing.

/// The unit in which a volume is fetched, whatever the sector size of the disk under it.
pub const SECTOR_BYTES: u32 = 512;

/// A run of sectors, counted from the start of the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// The first sector.
    pub sector: u64,
    /// How many sectors; never zero in what this library asks for.
    pub sectors: u32,
}

impl Extent {
    /// The length in bytes.
    pub fn bytes(self) -> u64 {
        u64::from(self.sectors) * u64::from(SECTOR_BYTES)
    }

    /// The first sector behind the extent.
    pub fn end(self) -> u64 {
        self.sector.saturating_add(u64::from(self.sectors))
    }
}

/// These sectors are not at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss(pub Extent);

/// The blocks of a volume that are at hand.
pub trait Blocks {
    /// The bytes of exactly this extent, or the miss that says they have to be fetched. It never waits.
    fn get(&self, extent: Extent) -> Result<&[u8], Miss>;
}
