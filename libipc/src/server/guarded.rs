//! Values that nothing writes over unnoticed.
//!
//! What a server seldom changes and acts on for long, such as a terminal's settings, tells lies for as long if a stray
//! write hits it. A [`Guarded`] value has its checksum beside it: a server checks it before it acts on it, and dies
//! when it is not what was put there. Its replay then puts it there again.

use core::hash::{Hash, Hasher};
use core::ops::Deref;

use serde::ser::Error;
use serde::{Deserialize, Serialize, Serializer};

/// A value and its checksum.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Guarded<T> {
    value: T,
    sum: u64,
}

impl<T: Hash> Guarded<T> {
    /// Guards a value.
    pub fn new(value: T) -> Guarded<T> {
        Guarded { sum: sum(&value), value }
    }

    /// Puts another value in its place, and takes it out.
    pub fn replace(&mut self, value: T) -> T {
        core::mem::replace(self, Guarded::new(value)).value
    }

    /// Lets its owner change it.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> R) -> R {
        self.check();
        let result = change(&mut self.value);
        self.sum = sum(&self.value);
        result
    }

    /// Whether it is what was put here.
    pub fn is_sound(&self) -> bool {
        sum(&self.value) == self.sum
    }

    /// Ends this incarnation if it is not.
    pub fn check(&self) {
        assert!(self.is_sound(), "something has written over a guarded value");
    }
}

impl<T> Deref for Guarded<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Damage does not get into a snapshot.
impl<T: Hash + Serialize> Serialize for Guarded<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.is_sound() {
            return Err(S::Error::custom("something has written over a guarded value"));
        }
        (&self.value, self.sum).serialize(serializer)
    }
}

fn sum(value: &impl Hash) -> u64 {
    let mut words = Words(0);
    value.hash(&mut words);
    words.finish()
}

/// Mixes what it is given a word at a time. A change of one word always changes it.
struct Words(u64);

impl Hasher for Words {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(value.into());
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(value.into());
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_u64(&mut self, value: u64) {
        // Any odd number makes it a permutation; this one has its bits all over.
        self.0 = (self.0 ^ value).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Value = (u32, [u8; 19], u64);

    #[test]
    fn a_change_behind_its_back_is_noticed_wherever_it_is() {
        let value: Value = (0x8a3b, [7; 19], 38_400);
        let guarded = Guarded::new(value);
        let bytes = postcard::to_allocvec(&guarded).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Ok(damaged) = postcard::from_bytes::<Guarded<Value>>(&bytes) else { continue };
            assert!(damaged == guarded || !damaged.is_sound(), "bit {bit}");
            assert!(damaged == guarded || postcard::to_allocvec(&damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn what_is_put_in_by_its_owner_is_sound_and_saved_as_it_is() {
        let mut guarded = Guarded::new(1u32);
        assert_eq!(guarded.replace(7), 1);
        guarded.check();
        guarded.change(|value| *value = 2);
        guarded.check();
        let again: Guarded<u32> = postcard::from_bytes(&postcard::to_allocvec(&guarded).unwrap()).unwrap();
        again.check();
        assert_eq!((*guarded, again), (2, guarded));
    }

    #[test]
    #[should_panic = "written over"]
    fn acting_on_a_damaged_value_ends_the_incarnation() {
        Guarded { value: 1u32, sum: 0 }.check();
    }

    #[test]
    #[should_panic = "written over"]
    fn damage_is_not_made_sound_by_a_change() {
        Guarded { value: 1u32, sum: 0 }.change(|value| *value += 1);
    }
}
