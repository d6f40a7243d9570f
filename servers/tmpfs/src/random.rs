//! Random bytes for programs: ChaCha20 (RFC 8439) with a key that is replaced after every use.
//!
//! The generator is part of the server's state, so the same events give the same bytes on replay. It is written out
//! here because the crates for it want vector registers, which servers do not have.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

const BLOCK: u64 = 64;
const ROUNDS: u32 = 20;

/// A ChaCha20 key.
pub type Key = [u32; 8];

/// A generator of random bytes. What it gave out cannot be computed from what it is now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Generator {
    key: Key,
}

impl Generator {
    /// A generator from what is known at boot.
    pub fn new(seed: u64, other: u64) -> Generator {
        let words = [seed as u32, (seed >> 32) as u32, other as u32, (other >> 32) as u32];
        let mut generator = Generator { key: [words[0], words[1], words[2], words[3], 0, 0, 0, 0] };
        generator.rekey();
        generator
    }

    /// Mixes in something an observer may not know. It never makes the output more predictable.
    pub fn stir(&mut self, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            let word = index / 4 % self.key.len();
            self.key[word] ^= u32::from(*byte) << (index % 4 * 8);
            if (index + 1) % (self.key.len() * 4) == 0 {
                self.rekey();
            }
        }
        self.rekey();
    }

    /// So many random bytes.
    pub fn bytes(&mut self, length: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Block 0 becomes the next key.
        for counter in 1..=length.div_ceil(BLOCK) {
            let nonce = [(counter >> 32) as u32, 0, 0];
            bytes.extend(block(&self.key, counter as u32, nonce).into_iter().flat_map(u32::to_le_bytes));
        }
        self.rekey();
        bytes.truncate(length as usize);
        bytes
    }

    fn rekey(&mut self) {
        let fresh = block(&self.key, 0, [0; 3]);
        self.key.copy_from_slice(&fresh[..8]);
    }
}

/// The ChaCha20 block function (RFC 8439, section 2.3).
fn block(key: &Key, counter: u32, nonce: [u32; 3]) -> [u32; 16] {
    let mut start =
        [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574, 0, 0, 0, 0, 0, 0, 0, 0, counter, 0, 0, 0];
    start[4..12].copy_from_slice(key);
    start[13..].copy_from_slice(&nonce);
    let mut state = start;
    for _ in 0..ROUNDS / 2 {
        for column in 0..4 {
            quarter_round(&mut state, [column, column + 4, column + 8, column + 12]);
        }
        for diagonal in 0..4 {
            let at = [diagonal, 4 + (diagonal + 1) % 4, 8 + (diagonal + 2) % 4, 12 + (diagonal + 3) % 4];
            quarter_round(&mut state, at);
        }
    }
    for (word, first) in state.iter_mut().zip(start) {
        *word = word.wrapping_add(first);
    }
    state
}

fn quarter_round(state: &mut [u32; 16], [a, b, c, d]: [usize; 4]) {
    for (left, right, rotation) in [(a, d, 16), (c, b, 12), (a, d, 8), (c, b, 7)] {
        let partner = if left == a { b } else { d };
        state[left] = state[left].wrapping_add(state[partner]);
        state[right] = (state[right] ^ state[left]).rotate_left(rotation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quarter_round_is_that_of_rfc_8439_section_2_1_1() {
        let mut state = [0; 16];
        (state[0], state[1], state[2], state[3]) = (0x1111_1111, 0x0102_0304, 0x9b8d_6f43, 0x0123_4567);
        quarter_round(&mut state, [0, 1, 2, 3]);
        assert_eq!(state[..4], [0xea2a_92f4, 0xcb1c_f8ce, 0x4581_472e, 0x5881_c4bb]);
    }

    #[test]
    fn the_block_function_is_that_of_rfc_8439_section_2_3_2() {
        let key = core::array::from_fn(|word| {
            u32::from_le_bytes(core::array::from_fn(|byte| (word * 4 + byte) as u8))
        });
        let block = block(&key, 1, [0x0900_0000, 0x4a00_0000, 0]);
        let expected = [
            0xe4e7_f110,
            0x1559_3bd1,
            0x1fdd_0f50,
            0xc471_20a3,
            0xc7f4_d1c7,
            0x0368_c033,
            0x9aaa_2204,
            0x4e6c_d4c3,
            0x4664_82d2,
            0x09aa_9f07,
            0x05d7_c214,
            0xa202_8bd9,
            0xd19c_12b5,
            0xb94e_16de,
            0xe883_d0cb,
            0x4e3c_50a2,
        ];
        assert_eq!(block, expected);
    }

    #[test]
    fn what_is_stirred_in_changes_what_comes_out() {
        let (mut one, mut other) = (Generator::new(1, 2), Generator::new(1, 2));
        assert_eq!(one.bytes(100), other.bytes(100));
        one.stir(b"x");
        assert_ne!(one.bytes(100), other.bytes(100));
    }

    #[test]
    fn no_bytes_come_twice() {
        let mut generator = Generator::new(7, 7);
        let (first, second) = (generator.bytes(256), generator.bytes(256));
        assert_eq!((first.len(), second.len()), (256, 256));
        assert!(first.chunks(16).all(|chunk| second.windows(16).all(|other| other != chunk)));
    }
}
