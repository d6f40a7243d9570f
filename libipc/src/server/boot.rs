//! What root tells a server about itself: the boot block, mapped read-only at a fixed address.

use alloc::{collections::BTreeMap, string::String, vec::Vec};
use serde::{Deserialize, Serialize};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::abi::{Frame, Handle};
use crate::manifest::ROOT;

/// Where images are linked, and how much address space there is for one. It is what one page table maps, so that any
/// image fits where another was.
pub const IMAGE_ADDRESS: u64 = 0x40_0000;
/// See [`IMAGE_ADDRESS`].
pub const IMAGE_BYTES: u64 = 0x20_0000;
/// Where a server's message buffer is mapped.
pub const MESSAGE_BUFFER_ADDRESS: u64 = 0x1000_0000;
/// Where its boot block is mapped: see [`Boot::from_block`].
pub const BOOT_ADDRESS: u64 = 0x1100_0000;
/// Pages of a boot block.
pub const BOOT_PAGES: u64 = 4;
/// Where its memory for direct memory access is mapped, if it has any.
pub const DMA_ADDRESS: u64 = 0x1200_0000;
/// Where its devices' registers are mapped, one after the other.
pub const DEVICE_ADDRESS: u64 = 0x1800_0000;
/// Where its heap is mapped.
pub const HEAP_ADDRESS: u64 = 0x2000_0000;
/// The end of its stack; an unmapped page guards the other end.
pub const STACK_TOP: u64 = 0x0f00_0000;
/// Pages of stack.
pub const STACK_PAGES: u64 = 32;

/// Where root finds the boot archive, read-only.
pub const ARCHIVE_ADDRESS: u64 = 0x4000_0000;

/// Root's number.
pub const ROOT_NUMBER: u32 = 1;
/// What root's boot block begins with. Another's begins with a length, and is shorter than that.
pub const ROOT_MAGIC: [u8; 8] = *b"NAIADRUT";

/// What the kernel tells root: the first words at root's [`BOOT_ADDRESS`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RootBoot {
    /// [`ROOT_MAGIC`], which no other server's boot block begins with.
    pub magic: [u8; 8],
    /// First frame that is root's to give out.
    pub free_first: u64,
    /// How many.
    pub free_count: u64,
    /// First frame of the boot archive.
    pub archive_first: u64,
    /// Its length.
    pub archive_bytes: u64,
    /// Seconds of the Epoch at boot.
    pub epoch_s: u64,
    /// Bits of entropy.
    pub seed: u64,
    /// Bytes of root's heap.
    pub heap_bytes: u64,
    /// Where the processor's counter stood at boot.
    pub counter_start: u64,
    /// Nanoseconds per count, as 32.32 fixed point; 0 when programs cannot read the counter.
    pub ns_per_count: u64,
}

/// A device that a driver was given.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Device {
    /// PCI address: bus << 8 | device << 3 | function.
    pub address: u16,
    /// PCI vendor and device id.
    pub id: (u16, u16),
    /// Where each memory BAR is mapped in the driver: (BAR number, virtual address, bytes).
    pub bars: Vec<(u8, u64, u64)>,
    /// Its interrupt.
    pub irq: u8,
}

/// What a server knows of itself and the system when it starts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Boot {
    /// Its name in the manifest.
    pub name: String,
    /// Its number: place in the manifest plus one.
    pub number: u32,
    /// The servers it may call, by name.
    pub servers: BTreeMap<String, Handle>,
    /// For the servers that control others (procfs): each server's task.
    pub tasks: BTreeMap<String, Handle>,
    /// The number of every server, by name.
    pub numbers: BTreeMap<String, u32>,
    /// The first slot of its capability space that is free.
    pub first_free: u32,
    /// Bytes of heap at [`HEAP_ADDRESS`].
    pub heap_bytes: u64,
    /// Bytes of arena.
    pub arena_bytes: u64,
    /// Its first frame, for telling the memory server which frames to show.
    pub arena_first: Frame,
    /// Frames for direct memory access at [`DMA_ADDRESS`]: first frame and count.
    pub dma: Option<(Frame, u32)>,
    /// Ranges of frames that are this server's to use (vm: all that is free).
    pub frames: Vec<(Frame, u32)>,
    /// The devices of a driver.
    pub devices: Vec<Device>,
    /// What the manifest says for this server alone, as the server's own type in postcard form.
    pub config: Vec<u8>,
    /// Seconds of the Epoch at boot.
    pub epoch_s: u64,
    /// Bits of entropy gathered at boot; the same in every incarnation.
    pub seed: u64,
    /// The processor's counter: where it stood at boot, and nanoseconds per count as 32.32 fixed point, or 0 when
    /// programs cannot read it.
    pub counter: (u64, u64),
}

impl Boot {
    /// Reads a boot block: the length of the encoded form (u32), the heap's (u64), the encoded form.
    pub fn from_block(block: &[u8]) -> Option<Boot> {
        let length = u32::from_le_bytes(block.get(..4)?.try_into().ok()?);
        postcard::from_bytes(block.get(12..)?.get(..length as usize)?).ok()
    }

    /// The same of any server, be it root, of which there is less to say.
    pub fn from_any_block(block: &[u8]) -> Option<Boot> {
        let (root, _) = RootBoot::read_from_prefix(block).ok()?;
        if root.magic != ROOT_MAGIC {
            return Boot::from_block(block);
        }
        Some(Boot {
            name: String::from(ROOT),
            number: ROOT_NUMBER,
            heap_bytes: root.heap_bytes,
            epoch_s: root.epoch_s,
            seed: root.seed,
            counter: (root.counter_start, root.ns_per_count),
            ..Boot::default()
        })
    }

    /// The handle of a server that the manifest lets this one call.
    ///
    /// # Panics
    /// When the manifest does not list it: a fault of the build, found at first start.
    pub fn server(&self, name: &str) -> Handle {
        *self
            .servers
            .get(name)
            .unwrap_or_else(|| panic!("system.toml does not let {} call {name}", self.name))
    }
}
