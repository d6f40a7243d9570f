//! Time: the time stamp counter and the local APIC's timer, both measured against the PIT at boot; the date from the
//! CMOS clock.

use super::{apic, port};

const PIT_HZ: u64 = 1_193_182;
const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
const SPEAKER: u16 = 0x61;
/// How long the measurement takes.
const MEASURE_NS: u64 = 10_000_000;

fn tsc() -> u64 {
    // SAFETY: RDTSC reads a counter and nothing else.
    unsafe { x86::time::rdtsc() }
}

/// The clock: counter values to nanoseconds by multiplication.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    start: u64,
    /// Nanoseconds per count, as 32.32 fixed point.
    ns_per_count: u64,
    /// Timer counts per nanosecond, as 32.32 fixed point.
    timer_per_ns: u64,
}

impl Clock {
    /// Measures both counters over 10 ms of the PIT.
    pub fn measure() -> Clock {
        let ticks = PIT_HZ * MEASURE_NS / 1_000_000_000;
        let speaker = port::read(SPEAKER, 1) & !2;
        port::write(SPEAKER, 1, speaker & !1);
        port::write(PIT_COMMAND, 1, 0xb0);
        port::write(PIT_CHANNEL_2, 1, (ticks & 0xff) as u32);
        port::write(PIT_CHANNEL_2, 1, (ticks >> 8) as u32);
        apic::start_timer(u32::MAX);
        port::write(SPEAKER, 1, speaker | 1);
        let begin = tsc();
        while port::read(SPEAKER, 1) & 0x20 == 0 {}
        let counted = tsc() - begin;
        let timer = u64::from(u32::MAX - apic::timer_count());
        apic::start_timer(0);
        Clock {
            start: begin,
            ns_per_count: (MEASURE_NS << 32) / counted.max(1),
            timer_per_ns: (timer << 32) / MEASURE_NS,
        }
    }

    /// Nanoseconds since boot.
    pub fn now(&self) -> u64 {
        let counted = tsc().wrapping_sub(self.start);
        ((u128::from(counted) * u128::from(self.ns_per_count)) >> 32) as u64
    }

    /// Where the counter stood at boot, and nanoseconds per count as 32.32 fixed point.
    pub fn counter(&self) -> (u64, u64) {
        (self.start, self.ns_per_count)
    }

    /// Sets the timer to go off at a time since boot; `u64::MAX` stops it. A time too far off goes off early.
    pub fn set_timer(&self, deadline_ns: u64) {
        if deadline_ns == u64::MAX {
            return apic::start_timer(0);
        }
        let wait = deadline_ns.saturating_sub(self.now());
        let counts = (u128::from(wait) * u128::from(self.timer_per_ns)) >> 32;
        apic::start_timer(u32::try_from(counts).unwrap_or(u32::MAX).max(1));
    }
}

fn cmos(register: u32) -> u64 {
    port::write(0x70, 1, register);
    u64::from(port::read(0x71, 1))
}

/// Seconds since the Epoch, from the CMOS clock, which is taken to be in UTC.
pub fn epoch_seconds() -> u64 {
    while cmos(0x0a) & 0x80 != 0 {}
    let binary = cmos(0x0b) & 4 != 0;
    let read = |register| {
        let value = cmos(register);
        if binary { value } else { (value >> 4) * 10 + (value & 15) }
    };
    let (second, minute, hour) = (read(0), read(2), read(4));
    let (day, month, year) = (read(7), read(8), 2000 + read(9));
    // Days of the proleptic Gregorian calendar, counted from March so that the leap day comes last.
    let (shifted_year, shifted_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * shifted_year + shifted_year / 4 - shifted_year / 100
        + shifted_year / 400
        + (153 * shifted_month + 2) / 5
        + day
        - 1
        - 719_468;
    days * 86_400 + hour * 3600 + minute * 60 + second
}

/// A number nobody can predict well: counter and clock, mixed.
pub fn entropy() -> u64 {
    let mut value = tsc() ^ epoch_seconds().rotate_left(32);
    value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}
