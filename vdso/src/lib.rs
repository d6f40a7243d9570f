//! The clock that programs read by themselves: what vm writes on the page before the shared object (`main.rs`), and
//! what it means. It is the kernel's own arithmetic (`microkernel/src/arch/x86/clock.rs`), so that both tell one time.
#![no_std]
#![forbid(unsafe_code)]

pub mod image;

/// Nanoseconds in a second.
const SECOND_NS: u64 = 1_000_000_000;

/// What is on the page. It is written once, before the first program.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct TimePage {
    /// Where the counter stood at boot.
    pub start: u64,
    /// Nanoseconds per count, as 32.32 fixed point; 0 when programs have no counter that they could read.
    pub ns_per_count: u64,
    /// Seconds of the Epoch at boot.
    pub epoch_s: u64,
}

/// Which time a clock tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    /// Since the Epoch.
    Real,
    /// Since boot.
    Monotonic,
}

impl Clock {
    /// The clock with this number, if it is one that everybody reads alike: CLOCK_REALTIME, CLOCK_REALTIME_COARSE,
    /// CLOCK_TAI; CLOCK_MONOTONIC, its raw and its coarse form, CLOCK_BOOTTIME.
    pub fn from_number(number: i32) -> Option<Clock> {
        match number {
            0 | 5 | 11 => Some(Clock::Real),
            1 | 4 | 6 | 7 => Some(Clock::Monotonic),
            _ => None,
        }
    }
}

impl TimePage {
    /// As it lies in memory.
    pub fn to_bytes(self) -> [u8; 24] {
        let mut bytes = [0; 24];
        let words = [self.start, self.ns_per_count, self.epoch_s];
        for (place, word) in bytes.as_chunks_mut().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        bytes
    }

    /// What a clock shows when the counter stands there: seconds and nanoseconds. `None` without a counter.
    #[inline]
    pub fn read(&self, clock: Clock, count: u64) -> Option<(u64, u64)> {
        if self.ns_per_count == 0 {
            return None;
        }
        let counted = count.wrapping_sub(self.start);
        let since_boot = ((u128::from(counted) * u128::from(self.ns_per_count)) >> 32) as u64;
        let (seconds, ns) = (since_boot / SECOND_NS, since_boot % SECOND_NS);
        Some(match clock {
            Clock::Real => (self.epoch_s.wrapping_add(seconds), ns),
            Clock::Monotonic => (seconds, ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_counts_from_boot_or_from_the_epoch() {
        // A counter of 4 GHz.
        let page = TimePage { start: 1000, ns_per_count: 1 << 30, epoch_s: 7 };
        assert_eq!(page.read(Clock::Monotonic, 1000), Some((0, 0)));
        assert_eq!(page.read(Clock::Monotonic, 1000 + 4_000_000_004), Some((1, 1)));
        assert_eq!(page.read(Clock::Real, 1000 + 4_000_000_004), Some((8, 1)));
        let year = 4_000_000_000 * 86400 * 365;
        assert_eq!(page.read(Clock::Monotonic, 1000 + year), Some((86400 * 365, 0)));
    }

    #[test]
    fn without_a_counter_there_is_no_time() {
        assert_eq!(TimePage::default().read(Clock::Real, 5), None);
    }

    #[test]
    fn the_page_lies_as_it_is_declared() {
        let bytes = TimePage { start: 1, ns_per_count: 2, epoch_s: 3 }.to_bytes();
        assert_eq!([bytes[0], bytes[8], bytes[16]], [1, 2, 3]);
        assert_eq!(size_of::<TimePage>(), bytes.len());
    }
}
