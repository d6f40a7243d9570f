//! The local APIC (timer, end of interrupt) and the I/O APIC (interrupt lines), through their memory windows.

use core::ptr;
use core::sync::atomic::{AtomicU64, Ordering};

use super::acpi::Madt;

/// Vector of interrupt line 0.
pub const LINE_VECTOR: u8 = 32;
/// Lines that are served.
pub const LINES: u8 = 24;
/// Vector of the timer.
pub const TIMER_VECTOR: u8 = 64;
/// Vector that the APIC gives when there was nothing after all.
pub const SPURIOUS_VECTOR: u8 = 65;

const ID: u64 = 0x20;
const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const TIMER: u64 = 0x320;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;
const DIVIDE_BY_1: u32 = 0b1011;
const ENABLED: u32 = 0x100;

static LOCAL: AtomicU64 = AtomicU64::new(0);
static IO: AtomicU64 = AtomicU64::new(0);

fn local_read(register: u64) -> u32 {
    let address = LOCAL.load(Ordering::Relaxed) + register;
    // SAFETY: `initialise` has mapped the local APIC's page there, uncached; its registers are 32 bits wide.
    unsafe { ptr::read_volatile(address as *const u32) }
}

fn local_write(register: u64, value: u32) {
    let address = LOCAL.load(Ordering::Relaxed) + register;
    // SAFETY: as for reading; no register used here makes the APIC write memory.
    unsafe { ptr::write_volatile(address as *mut u32, value) }
}

fn io_write(register: u32, value: u32) {
    let address = IO.load(Ordering::Relaxed);
    // SAFETY: `initialise` has mapped the I/O APIC's page there: an index register and a data register at 16.
    unsafe {
        ptr::write_volatile(address as *mut u32, register);
        ptr::write_volatile((address + 16) as *mut u32, value);
    }
}

/// Starts both, given where their pages are mapped. All lines are closed; the old interrupt controllers are silenced.
pub fn initialise(local: u64, io: u64) {
    LOCAL.store(local, Ordering::Relaxed);
    IO.store(io, Ordering::Relaxed);
    super::port::write(0x21, 1, 0xff);
    super::port::write(0xa1, 1, 0xff);
    local_write(SPURIOUS, ENABLED | u32::from(SPURIOUS_VECTOR));
    local_write(DIVIDE, DIVIDE_BY_1);
    local_write(TIMER, u32::from(TIMER_VECTOR));
}

/// Starts the timer with a count; 0 stops it.
pub fn start_timer(count: u32) {
    local_write(INITIAL_COUNT, count);
}

/// What is left of the timer's count.
pub fn timer_count() -> u32 {
    local_read(CURRENT_COUNT)
}

/// The interrupt being served is seen to.
pub fn end_of_interrupt() {
    local_write(END_OF_INTERRUPT, 0);
}

/// Opens or closes an ISA interrupt line. PCI lines (9, 10, 11 on the machines served) are level-triggered.
pub fn enable_line(madt: &Madt, line: u8, enabled: bool) {
    const MASKED: u32 = 1 << 16;
    const LEVEL: u32 = 1 << 15;
    const LOW: u32 = 1 << 13;
    if line >= LINES {
        return;
    }
    let routed = madt.override_of(line);
    let (pin, flags) = routed.map_or((line, 0), |routed| (routed.pin, routed.flags));
    let low = if flags & 3 == 3 { LOW } else { 0 };
    let level = if flags >> 2 & 3 == 3 { LEVEL } else { 0 };
    let masked = if enabled { 0 } else { MASKED };
    let destination = local_read(ID) & 0xff00_0000;
    io_write(0x11 + 2 * u32::from(pin), destination);
    io_write(0x10 + 2 * u32::from(pin), u32::from(LINE_VECTOR + line) | low | level | masked);
}
