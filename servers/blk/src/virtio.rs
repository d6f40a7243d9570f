//! Virtio block devices behind PCI (Virtual I/O Device 1.2, sections 4.1 and 5.2).
//!
//! It owns the device's queue and a set of buffers in DMA memory for each command under way. All devices
//! are reset before any DMA memory is taken, since until then one may still write where the last incarnation told it
//! to.

mod memory;
mod pci;
mod slot;

use alloc::vec::Vec;

use bitflags::bitflags;
use libipc::server::Boot;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::transport::{DeviceStatus, InterruptStatus, Transport};

use crate::disk::{AttachError, Command, Disk, Finished, Properties};
use memory::Memory;
use slot::Slot;

/// Most commands that a device has at a time.
const SLOTS: usize = 16;
/// Descriptors of the queue: a power of two that gives every slot the three it may need.
const DESCRIPTORS: usize = 64;
/// Pages that the queue itself takes: one that the driver writes and one that the device writes.
const QUEUE_PAGES: usize = 2;
/// The one queue of a block device.
const QUEUE: u16 = 0;

bitflags! {
    /// The features that this driver knows how to use.
    #[derive(Clone, Copy, Debug)]
    struct Features: u64 {
        /// The disk refuses writes.
        const READ_ONLY = 1 << 5;
        /// The disk has a volatile cache and can flush it.
        const FLUSH = 1 << 9;
        /// It follows the standard, not what came before it.
        const VERSION_1 = 1 << 32;
    }
}

/// A virtio disk.
pub struct VirtioDisk {
    transport: PciTransport,
    queue: VirtQueue<Memory, DESCRIPTORS>,
    slots: Vec<Slot>,
    properties: Properties,
}

impl Disk for VirtioDisk {
    fn attach(boot: &Boot) -> Vec<Result<VirtioDisk, AttachError>> {
        memory::prepare(boot.dma, pci::windows(&boot.devices));
        let transports: Vec<_> = boot.devices.iter().map(pci::reset).collect();
        let slots = slots_per_disk(boot);
        transports.into_iter().map(|transport| VirtioDisk::bring_up(transport?, slots)).collect()
    }

    fn properties(&self) -> Properties {
        self.properties
    }

    fn submit(&mut self, command: &Command) -> Option<u32> {
        let (number, slot) = self.slots.iter_mut().enumerate().find(|(_, slot)| slot.token.is_none())?;
        slot.prepare(command);
        // SAFETY: the buffers are the slot's own DMA memory, which nobody touches while `token` says the device has
        // it.
        let added = slot.with_buffers(|inputs, outputs| unsafe { self.queue.add(inputs, outputs) });
        slot.token = Some(added.expect("the queue has three descriptors for every slot"));
        if self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
        Some(number as u32)
    }

    fn acknowledge(&mut self) {
        let status = self.transport.ack_interrupt();
        let changed = status.contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT);
        if changed && self.transport.get_status().contains(DeviceStatus::DEVICE_NEEDS_RESET) {
            panic!(
                "a disk wants to be reset: the next incarnation does so, and repeats what is not answered"
            );
        }
    }

    fn finished(&mut self) -> Option<Finished> {
        let token = self.queue.peek_used()?;
        let mut slots = self.slots.iter_mut().enumerate();
        let (number, slot) =
            slots.find(|(_, slot)| slot.token == Some(token)).expect("a device finishes what it was given");
        // SAFETY: the slot has not changed since `submit` gave these buffers for this token.
        let popped =
            slot.with_buffers(|inputs, outputs| unsafe { self.queue.pop_used(token, inputs, outputs) });
        popped.expect("the token has just been seen");
        slot.token = None;
        Some(Finished { number: number as u32, outcome: slot.outcome() })
    }
}

impl VirtioDisk {
    /// Negotiates with a device that was reset, and gives it its queue.
    fn bring_up(mut transport: PciTransport, slots: usize) -> Result<VirtioDisk, AttachError> {
        let features = transport.begin_init(Features::all());
        if !features.contains(Features::VERSION_1) {
            return Err(AttachError::Legacy);
        }
        if !transport.get_status().contains(DeviceStatus::FEATURES_OK) {
            return Err(AttachError::Refused);
        }
        let sectors = transport.read_consistent(|| {
            let low: u32 = transport.read_config_space(0)?;
            let high: u32 = transport.read_config_space(4)?;
            Ok(u64::from(high) << 32 | u64::from(low))
        });
        let properties = Properties {
            sectors: sectors.map_err(|_| AttachError::Malformed)?,
            read_only: features.contains(Features::READ_ONLY),
            volatile_cache: features.contains(Features::FLUSH),
        };
        let queue = VirtQueue::new(&mut transport, QUEUE, false, false).map_err(|error| match error {
            virtio_drivers::Error::DmaError => AttachError::NoMemory,
            _ => AttachError::Malformed,
        })?;
        let slots = slot::slots(slots)?;
        transport.finish_init();
        Ok(VirtioDisk { transport, queue, slots, properties })
    }
}

/// How many slots each disk gets, so that all disks have a fair part of the DMA memory.
fn slots_per_disk(boot: &Boot) -> usize {
    let pages = boot.dma.map_or(0, |(_, count)| count as usize);
    let share = pages / boot.devices.len().max(1);
    (share.saturating_sub(QUEUE_PAGES + slot::HEADER_PAGES) / slot::DATA_PAGES).min(SLOTS)
}
