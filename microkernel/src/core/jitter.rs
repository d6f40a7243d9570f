//! Times that look random but follow from a seed: slices of all lengths and timers that are a little late, so that
//! programs are interrupted at other places in every run. Without a seed every time is what it says.
//!
//! The seed is a word of the kernel's command line, `seed=N`; it must never reach anything but times.

use super::command_line::value;

/// The shortest slice, as a power of two: 16 microseconds.
const SLICE_BITS_MIN: u32 = 14;
/// How many powers of two above it a slice may be: up to 16 milliseconds.
const SLICE_BITS_RANGE: u32 = 10;
/// How late a server's timer may go off.
const LATE_MAX_NS: u64 = 1 << 20;

/// The source of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Jitter {
    /// State of a SplitMix64 generator; `None` without a seed.
    state: Option<u64>,
}

/// The command line's `seed=` is not followed by a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadSeed;

impl Jitter {
    /// Times as they are.
    pub const NONE: Jitter = Jitter { state: None };

    /// Times that follow from a seed.
    pub fn from_seed(seed: u64) -> Jitter {
        Jitter { state: Some(seed) }
    }

    /// What the kernel's command line asks for: words apart by spaces, `seed=N` among them or not.
    ///
    /// # Errors
    /// `seed=` without a decimal number of 64 bits behind it.
    pub fn from_command_line(line: &[u8]) -> Result<Jitter, BadSeed> {
        match value(line, b"seed=") {
            None => Ok(Jitter::NONE),
            Some(number) => number.parse().map(Jitter::from_seed).map_err(|_| BadSeed),
        }
    }

    /// The next number, if there is a seed.
    fn next(&mut self) -> Option<u64> {
        let state = self.state.as_mut()?;
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = *state;
        number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Some(number ^ number >> 31)
    }

    /// How long a thread may run that is given `slice_ns`. Never 0; short ones are as frequent as long ones.
    pub fn slice(&mut self, slice_ns: u64) -> u64 {
        let Some(number) = self.next() else { return slice_ns };
        let bits = SLICE_BITS_MIN + (number >> 32) as u32 % SLICE_BITS_RANGE;
        (1 << bits) + (number & ((1 << bits) - 1))
    }

    /// When a timer that is set to `deadline_ns` goes off: never before. A timer that is stopped stays so.
    pub fn deadline(&mut self, deadline_ns: u64) -> u64 {
        match self.next() {
            Some(number) if deadline_ns != u64::MAX => deadline_ns.saturating_add(number % LATE_MAX_NS),
            _ => deadline_ns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLICE_NS: u64 = 10_000_000;

    #[test]
    fn without_a_seed_every_time_is_what_it_says() {
        let mut jitter = Jitter::from_command_line(b"quiet seeds=3").unwrap();
        assert_eq!(jitter, Jitter::NONE);
        assert_eq!((jitter.slice(SLICE_NS), jitter.deadline(5)), (SLICE_NS, 5));
    }

    #[test]
    fn one_seed_gives_one_sequence_and_another_seed_another() {
        let slices = |seed| {
            let mut jitter = Jitter::from_seed(seed);
            (0..64).map(|_| jitter.slice(SLICE_NS)).collect::<Vec<_>>()
        };
        assert_eq!(slices(1), slices(1));
        assert_ne!(slices(0), slices(1));
        assert_ne!(slices(1), slices(2));
    }

    #[test]
    fn slices_of_every_order_occur_and_none_is_empty_or_endless() {
        let mut jitter = Jitter::from_seed(7);
        let slices: Vec<u64> = (0..10_000).map(|_| jitter.slice(SLICE_NS)).collect();
        assert!(slices.iter().all(|slice| (1 << 14..1 << 24).contains(slice)));
        for bits in 14..24 {
            assert!(slices.iter().any(|slice| slice.ilog2() == bits), "none of 2^{bits} ns");
        }
    }

    #[test]
    fn a_timer_is_late_by_a_millisecond_at_most_and_never_early() {
        let mut jitter = Jitter::from_seed(7);
        for deadline in [0, 1, 1 << 40, u64::MAX - 1] {
            let late = jitter.deadline(deadline);
            assert!(late >= deadline && late - deadline < LATE_MAX_NS);
        }
        assert_eq!(jitter.deadline(u64::MAX), u64::MAX);
    }

    #[test]
    fn the_seed_is_a_word_of_the_command_line() {
        assert_eq!(
            Jitter::from_command_line(b"quiet seed=18446744073709551615 x"),
            Ok(Jitter::from_seed(u64::MAX))
        );
        for bad in [&b"seed="[..], b"seed=x", b"seed=-1", b"seed=18446744073709551616", b"seed=\xff"] {
            assert_eq!(Jitter::from_command_line(bad), Err(BadSeed));
        }
    }
}
