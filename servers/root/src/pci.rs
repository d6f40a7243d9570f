//! The PCI bus, as far as root needs it: which devices there are and where their registers lie.

use alloc::vec::Vec;

use libipc::manifest::PciId;
use libipc::sys::Traps;

use crate::kernel::Kernel;

const ADDRESS_PORT: u16 = 0xcf8;
const DATA_PORT: u16 = 0xcfc;
const COMMAND: u32 = 4;
const MEMORY_AND_IO: u32 = 3;

/// A device that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// bus << 8 | device << 3 | function.
    pub address: u16,
    /// What it is.
    pub id: PciId,
    /// Its interrupt line.
    pub irq: u8,
    /// Its memory BARs: number, physical address, bytes.
    pub bars: Vec<(u8, u64, u64)>,
}

fn select<T: Traps>(kernel: &mut Kernel<T>, address: u16, register: u32) {
    kernel.port_out(ADDRESS_PORT, 1 << 31 | u32::from(address) << 8 | register & 0xfc);
}

fn read<T: Traps>(kernel: &mut Kernel<T>, address: u16, register: u32) -> u32 {
    select(kernel, address, register);
    kernel.port_in(DATA_PORT)
}

fn write<T: Traps>(kernel: &mut Kernel<T>, address: u16, register: u32, value: u32) {
    select(kernel, address, register);
    kernel.port_out(DATA_PORT, value);
}

/// Every device of bus 0 with one of these identities.
pub fn find<T: Traps>(kernel: &mut Kernel<T>, wanted: &[PciId]) -> Vec<Found> {
    let mut found = Vec::new();
    if wanted.is_empty() {
        return found;
    }
    for address in 0..256u16 {
        let identity = read(kernel, address, 0);
        let id = PciId { vendor: identity as u16, device: (identity >> 16) as u16 };
        if identity != u32::MAX && wanted.contains(&id) {
            let irq = read(kernel, address, 0x3c) as u8;
            found.push(Found { address, id, irq, bars: bars(kernel, address) });
        }
    }
    found
}

/// The memory BARs. Their size is found by writing ones, with the device not decoding meanwhile.
fn bars<T: Traps>(kernel: &mut Kernel<T>, address: u16) -> Vec<(u8, u64, u64)> {
    let command = read(kernel, address, COMMAND) & 0xffff;
    write(kernel, address, COMMAND, command & !MEMORY_AND_IO);
    let mut bars = Vec::new();
    let mut number = 0u8;
    while number < 6 {
        let register = 0x10 + 4 * u32::from(number);
        let low = read(kernel, address, register);
        let wide = low & 7 == 4;
        write(kernel, address, register, u32::MAX);
        let mask = read(kernel, address, register) & !15;
        write(kernel, address, register, low);
        if low & 1 == 0 && mask != 0 {
            let high = if wide { read(kernel, address, register + 4) } else { 0 };
            let base = u64::from(high) << 32 | u64::from(low & !15);
            bars.push((number, base, u64::from(!mask) + 1));
        }
        number += if wide { 2 } else { 1 };
    }
    write(kernel, address, COMMAND, command);
    bars
}
