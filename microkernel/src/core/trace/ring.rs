//! The ring of records: memory that the kernel writes round and round, and that a host may read meanwhile. Its layout
//! is told in [`libipc::abi::trace`].

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use libipc::abi::PAGE_SIZE;
use libipc::abi::journal::Header;
use libipc::abi::trace::{Event, MAGIC, PARTS, RingHeader};

use crate::core::machine::Machine;

/// How often the kernel looks whether a host that reads along has come on: some seconds' worth.
const LOOKS: u32 = 1 << 24;
/// Records kept by a kernel that nobody reads along with: bytes.
pub const OWN_BYTES: u64 = 1 << 18;
/// The smallest ring.
pub const BYTES_MIN: u64 = 1 << 16;
/// The largest.
pub const BYTES_MAX: u64 = 1 << 28;

/// The page before a ring: a [`RingHeader`] of words that two sides use at once.
#[repr(C, align(4096))]
pub struct RingPage([AtomicU64; PAGE_SIZE as usize / 8]);

impl RingPage {
    /// A page of zeroes.
    pub const fn new() -> RingPage {
        RingPage([const { AtomicU64::new(0) }; PAGE_SIZE as usize / 8])
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        &self.0[offset / 8]
    }
}

impl Default for RingPage {
    fn default() -> RingPage {
        RingPage::new()
    }
}

/// The memory of a ring, as the machine has set it aside.
pub struct RingMemory {
    /// The header page.
    pub page: &'static RingPage,
    /// The ring behind it: a power of two, at least [`BYTES_MIN`] bytes.
    pub words: &'static mut [u64],
    /// A host reads along.
    pub is_read_along: bool,
}

/// A ring being written.
pub struct Ring {
    page: &'static RingPage,
    words: &'static mut [u64],
    /// The position of the next record.
    at: u64,
    /// Where the part ends that is being written.
    limit: u64,
    /// Records dropped, and how many of them nobody has been told of.
    lost: u64,
    untold: u64,
    streams: bool,
    /// The host did not come on when it was waited for last.
    is_stuck: bool,
}

impl Ring {
    /// An empty ring.
    pub fn new(memory: RingMemory) -> Ring {
        let RingMemory { page, words, is_read_along } = memory;
        let bytes = words.len() as u64 * 8;
        let ring = Ring {
            page,
            at: 0,
            limit: bytes / PARTS,
            words,
            lost: 0,
            untold: 0,
            streams: is_read_along,
            is_stuck: false,
        };
        ring.page.word(offset_of!(RingHeader, bytes)).store(bytes, Ordering::Relaxed);
        ring.page.word(offset_of!(RingHeader, magic)).store(u64::from_le_bytes(MAGIC), Ordering::Release);
        ring
    }

    /// Its memory again, for another kernel.
    pub fn into_memory(self) -> RingMemory {
        self.page.0.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        RingMemory { page: self.page, words: self.words, is_read_along: self.streams }
    }

    /// Bytes it holds.
    pub fn bytes(&self) -> u64 {
        self.words.len() as u64 * 8
    }

    /// Where the next record goes.
    pub fn end(&self) -> u64 {
        self.at
    }

    /// Records dropped so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether a host reads along.
    pub fn streams(&self) -> bool {
        self.streams
    }

    fn part(&self) -> u64 {
        self.bytes() / PARTS
    }

    /// The position of the oldest part that is whole.
    pub fn oldest(&self) -> u64 {
        self.limit.saturating_sub(self.bytes())
    }

    /// Copies the bytes from a position on. What is not there is pads.
    pub fn copy_out(&self, position: u64, mut to: &mut [u8]) {
        let pad = Header { number: Event::Pad as u16, error: 0, values: 0, payload: 0 }.pack();
        let mut at = position;
        while !to.is_empty() {
            let is_there = (self.oldest()..self.at).contains(&at);
            let word = if is_there { self.words[(at >> 3) as usize & (self.words.len() - 1)] } else { pad };
            let bytes = word.to_le_bytes();
            let bytes = &bytes[(at % 8) as usize..];
            let (piece, rest) = to.split_at_mut(bytes.len().min(to.len()));
            piece.copy_from_slice(&bytes[..piece.len()]);
            at += piece.len() as u64;
            to = rest;
        }
    }

    /// Appends a record of these words.
    #[inline(always)]
    pub fn append<M: Machine, const N: usize>(&mut self, machine: &mut M, words: [u64; N]) {
        let bytes = N as u64 * 8;
        if self.at + bytes > self.limit && !self.make_room(machine) {
            return;
        }
        let place = self.place();
        if let Some(to) = self.words.get_mut(place..).and_then(|rest| rest.first_chunk_mut::<N>()) {
            *to = words;
        }
        self.publish(bytes);
    }

    /// Appends a record whose payload, or number of words, is not known beforehand.
    pub fn append_with<M: Machine>(
        &mut self,
        machine: &mut M,
        first: &[u64],
        second: &[u64],
        payload: &[u8],
    ) {
        let words = first.len() + second.len();
        let bytes = words as u64 * 8 + (payload.len() as u64).next_multiple_of(8);
        if self.at + bytes > self.limit && !self.make_room(machine) {
            return;
        }
        let place = self.place();
        let Some(to) = self.words.get_mut(place..place + bytes as usize / 8) else { return };
        let (fixed, rest) = to.split_at_mut(words);
        for (to, word) in fixed.iter_mut().zip(first.iter().chain(second)) {
            *to = *word;
        }
        for (to, bytes) in rest.iter_mut().zip(payload.chunks(8)) {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            *to = u64::from_le_bytes(word);
        }
        self.publish(bytes);
    }

    #[inline(always)]
    fn place(&self) -> usize {
        (self.at >> 3) as usize & (self.words.len() - 1)
    }

    #[inline(always)]
    fn publish(&mut self, bytes: u64) {
        self.at += bytes;
        self.page.word(offset_of!(RingHeader, written)).store(self.at, Ordering::Release);
    }

    /// Goes on to the next part, as soon as the host has read what is there. `false` when it does not: then a record is
    /// lost.
    #[cold]
    #[inline(never)]
    fn make_room<M: Machine>(&mut self, machine: &mut M) -> bool {
        if self.streams && !self.wait() {
            self.lost += 1;
            self.untold += 1;
            self.tell_lost();
            return false;
        }
        let (place, rest) = (self.place(), self.limit - self.at);
        if let Some(to) = self.words.get_mut(place).filter(|_| rest > 0) {
            let payload = rest as u32 - 8;
            *to = Header { number: Event::Pad as u16, error: 0, values: 0, payload }.pack();
        }
        self.at = self.limit;
        self.limit += self.part();
        if self.untold > 0 {
            let untold = core::mem::take(&mut self.untold);
            self.tell_lost();
            let header = Header { number: Event::Lost as u16, error: 0, values: 0, payload: 0 };
            let now = machine.now();
            self.append(machine, [header.pack(), now, 0, 0, 0, untold]);
        }
        true
    }

    fn tell_lost(&self) {
        self.page.word(offset_of!(RingHeader, lost)).store(self.untold, Ordering::Relaxed);
    }

    /// Waits until the host has read the part that is written next. Whether it has.
    fn wait(&mut self) -> bool {
        let wanted = (self.limit + self.part()).saturating_sub(self.bytes());
        let looks = if self.is_stuck { 1 } else { LOOKS };
        let read = || self.page.word(offset_of!(RingHeader, read)).load(Ordering::Acquire);
        let comes_on = (0..looks).any(|look| {
            if look > 0 {
                core::hint::spin_loop();
            }
            read() >= wanted
        });
        self.is_stuck = !comes_on;
        comes_on
    }
}
