//! What 32-bit and 64-bit x86 share: ports, PCI, serial log, interrupt controllers, the clock, PVH start information,
//! ACPI.

pub mod acpi;
pub mod apic;
pub mod clock;
pub mod pci;
pub mod port;
pub mod pvh;
pub mod serial;
