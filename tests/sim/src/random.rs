//! Numbers that follow from a seed.

use crate::cpu::mix;

/// A generator.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Random {
        Random { state: mix(seed, 0x5eed) }
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        mix(self.state, 0)
    }

    /// Brings things into some order.
    pub fn shuffle<T>(&mut self, things: &mut [T]) {
        for last in (1..things.len()).rev() {
            things.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// One that is less than a bound; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number().checked_rem(bound).unwrap_or(0)
    }

    /// Writes over a byte of these, or over eight of them.
    pub fn damage(&mut self, bytes: &mut [u8]) {
        let at = self.below(bytes.len() as u64) as usize;
        if self.below(2) == 0 {
            let other = 1 + self.below(255) as u8;
            bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= other);
        } else {
            // What goes astray is a small number as often as any.
            let word = self.number() >> (self.below(8) * 8);
            bytes.iter_mut().skip(at & !7).zip(word.to_le_bytes()).for_each(|(byte, new)| *byte = new);
        }
    }
}
