//! The one thing that the kernel does to PCI devices.

use super::port;

const ADDRESS_PORT: u16 = 0xcf8;
const DATA_PORT: u16 = 0xcfc;
const ENABLE: u32 = 1 << 31;
const COMMAND: u32 = 4;
const BUS_MASTER: u32 = 1 << 2;

/// Whether a function (bus << 8 | device << 3 | function) may write memory from now on.
pub fn set_bus_master(function: u16, on: bool) {
    // Root may be between its own choice of an address and the use of it.
    let before = port::read(ADDRESS_PORT, 4);
    port::write(ADDRESS_PORT, 4, ENABLE | u32::from(function) << 8 | COMMAND);
    // Writing zeroes to the status half changes nothing there.
    let command = port::read(DATA_PORT, 4) & 0xffff & !BUS_MASTER;
    port::write(DATA_PORT, 4, if on { command | BUS_MASTER } else { command });
    port::write(ADDRESS_PORT, 4, before);
}
