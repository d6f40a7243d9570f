//! PCI configuration space, through the ports of configuration mechanism #1 (PCI Local Bus 3.0, section 3.2.2.3.2).

use alloc::vec::Vec;
use core::hint::spin_loop;

use libipc::server::boot::Device;
use libipc::sys::bare::{port_read, port_write};
use virtio_drivers::transport::pci::bus::{Command, ConfigurationAccess, DeviceFunction, PciRoot};
use virtio_drivers::transport::pci::{PciTransport, VirtioPciError};
use virtio_drivers::transport::{DeviceStatus, Transport};

use super::memory::{Memory, Window};
use crate::disk::AttachError;

const ADDRESS_PORT: u16 = 0xcf8;
const DATA_PORT: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;
const WORD: u8 = 4;
/// The interrupt lines that PCI devices may have; 0 is the timer's and means none.
const LINES: core::ops::Range<u8> = 1..24;

/// The two ports.
struct Ports;

impl Ports {
    fn select(function: DeviceFunction, register: u8) {
        let DeviceFunction { bus, device, function } = function;
        let place = u32::from(bus) << 16 | u32::from(device) << 11 | u32::from(function) << 8;
        port_write(ADDRESS_PORT, WORD, ENABLE | place | u32::from(register & 0xfc));
    }
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, function: DeviceFunction, register: u8) -> u32 {
        Ports::select(function, register);
        port_read(DATA_PORT, WORD)
    }

    fn write_word(&mut self, function: DeviceFunction, register: u8, value: u32) {
        Ports::select(function, register);
        port_write(DATA_PORT, WORD, value);
    }

    unsafe fn unsafe_clone(&self) -> Ports {
        Ports
    }
}

fn function(device: &Device) -> DeviceFunction {
    let address = device.address;
    DeviceFunction {
        bus: (address >> 8) as u8,
        device: (address >> 3 & 31) as u8,
        function: (address & 7) as u8,
    }
}

/// Where the registers of all these devices are: physically, as their BARs say, and as root has mapped them.
pub fn windows(devices: &[Device]) -> Vec<Window> {
    let mut root = PciRoot::new(Ports);
    let mut windows = Vec::new();
    for device in devices {
        for (number, address, bytes) in &device.bars {
            let info = root.bar_info(function(device), *number).ok().flatten();
            if let Some((physical, _)) = info.and_then(|info| info.memory_address_size()) {
                windows.push(Window { physical, address: *address, bytes: *bytes });
            }
        }
    }
    windows
}

/// Stops a device, whatever it was doing for the last incarnation, and makes it ready to be brought up.
pub fn reset(device: &Device) -> Result<PciTransport, AttachError> {
    if !LINES.contains(&device.irq) {
        return Err(AttachError::NoInterrupt);
    }
    let mut root = PciRoot::new(Ports);
    let function = function(device);
    for (number, info) in root.bars(function).map_err(|_| AttachError::Malformed)?.iter().enumerate() {
        let in_memory = info.as_ref().is_some_and(|info| info.memory_address_size().is_some());
        if in_memory && !device.bars.iter().any(|(mapped, ..)| usize::from(*mapped) == number) {
            return Err(AttachError::NotMapped);
        }
    }
    let (_, command) = root.get_status_command(function);
    let decoding = (command | Command::MEMORY_SPACE) - Command::INTERRUPT_DISABLE;
    root.set_command(function, decoding);
    let mut transport = PciTransport::new::<Memory, _>(&mut root, function).map_err(|error| match error {
        VirtioPciError::MissingCommonConfig => AttachError::Legacy,
        _ => AttachError::Malformed,
    })?;
    transport.set_status(DeviceStatus::empty());
    // Reads back as zero only when no access to memory is under way any more (section 4.1.4.3.1). A device that never
    // gets there keeps the driver here until the watchdog ends it.
    while transport.get_status() != DeviceStatus::empty() {
        spin_loop();
    }
    root.set_command(function, decoding | Command::BUS_MASTER);
    Ok(transport)
}
