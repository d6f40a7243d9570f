//! Tests of states that leave in pieces.

use alloc::{boxed::Box, vec, vec::Vec};

use super::*;
use crate::abi::KernelError;
use crate::sys::{BUFFER_BYTES, Trapped};

/// Snapshot memory of so many bytes.
struct Memory {
    room: usize,
    written: Vec<u8>,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl Memory {
    fn new(room: usize) -> Memory {
        Memory { room, written: Vec::new(), buffer: Box::new([0; BUFFER_BYTES]) }
    }
}

impl Traps for Memory {
    fn trap(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        assert_eq!(call, Syscall::SnapshotWrite);
        let from = PAYLOAD_OFFSET as usize;
        self.written.extend_from_slice(&self.buffer[from..from + arguments[0] as usize]);
        if self.written.len() > self.room { Err(KernelError::Exhausted) } else { Ok([0; 5]) }
    }

    fn buffer(&mut self) -> &mut [u8; BUFFER_BYTES] {
        &mut self.buffer
    }
}

#[test]
fn the_pieces_are_the_whole_and_the_checksum_is_the_same_either_way() {
    let piece = PAYLOAD_MAX as usize;
    for length in [0, 1, 100, piece - 3, piece - 2, piece - 1, piece, 3 * piece + 5] {
        // Pairs, so that there are single bytes and long runs of them.
        let state: (Vec<u32>, Vec<u8>) = ((0..length as u32).collect(), vec![7; length]);
        let whole = postcard::to_allocvec(&state).unwrap();
        let mut memory = Memory::new(usize::MAX);
        let digest = postcard::serialize_with_flavor(&state, Writer::new(&mut memory)).unwrap();
        assert_eq!(memory.written, whole);
        assert_eq!(digest, sum(SUM_START, &whole));
        assert_eq!(postcard::serialize_with_flavor(&state, Sum::new()).unwrap(), digest);
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let mut memory = Memory::new(20_000);
    let state = vec![0_u64; 30_000];
    assert!(postcard::serialize_with_flavor(&state, Writer::new(&mut memory)).is_err());
}
