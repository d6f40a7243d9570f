//! I/O ports.

use x86::io;

/// Reads a port of 1, 2 or 4 bytes.
pub fn read(port: u16, width: u8) -> u32 {
    // SAFETY: reading a port cannot touch the kernel's memory; what a device does about it is the caller's right,
    // which the core has checked.
    unsafe {
        match width {
            1 => u32::from(io::inb(port)),
            2 => u32::from(io::inw(port)),
            _ => io::inl(port),
        }
    }
}

/// Writes a port of 1, 2 or 4 bytes.
pub fn write(port: u16, width: u8, value: u32) {
    // SAFETY: as for reading; devices that could write to memory are kept from it by the core.
    unsafe {
        match width {
            1 => io::outb(port, value as u8),
            2 => io::outw(port, value as u16),
            _ => io::outl(port, value),
        }
    }
}
