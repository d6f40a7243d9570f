//! The ring of records: memory that the kernel writes round and round, and that a host may read meanwhile. Its layout
//! is told in [`libipc::abi::trace`].

use core::mem::offset_of;
use core::sync::atomic::{AtomicU64, Ordering};

use zerocopy::IntoBytes;

use libipc::abi::PAGE_SIZE;
use libipc::abi::journal::Header;
use libipc::abi::trace::{Event, Left, MAGIC, PARTS, RingHeader};

/// How often the kernel looks whether a host that reads along has come on: some seconds' worth.
const LOOKS: u32 = if cfg!(test) { 16 } else { 1 << 24 };
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
    /// The ring behind it: a power of two, at least [`BYTES_MIN`] bytes. A host may read them at any time.
    pub words: &'static [AtomicU64],
    /// A host reads along.
    pub is_read_along: bool,
}

/// A ring being written.
pub struct Ring {
    page: &'static RingPage,
    words: &'static [AtomicU64],
    /// What is left of the part that is being written.
    rest: &'static [AtomicU64],
    /// The position at which that ends.
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
        let rest = words.chunks(words.len() / PARTS as usize).next().unwrap_or_default();
        let limit = rest.len() as u64 * 8;
        let ring =
            Ring { page, words, rest, limit, lost: 0, untold: 0, streams: is_read_along, is_stuck: false };
        ring.page.word(offset_of!(RingHeader, bytes)).store(ring.bytes(), Ordering::Relaxed);
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

    /// The position of the next record.
    pub fn end(&self) -> u64 {
        self.limit - self.rest.len() as u64 * 8
    }

    /// Records dropped so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether a host reads along.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// Tells a host what is left of a dead server, in one of the places for its kind, which begin at an offset.
    fn leave(&self, offset: usize, index: usize, left: Left) {
        let start = offset + index * size_of::<Left>();
        let places = (start..).step_by(8).map(|at| self.page.word(at));
        for (place, word) in places.zip(left.as_bytes().as_chunks().0) {
            place.store(u64::from_le_bytes(*word), Ordering::Relaxed);
        }
    }

    /// Tells a host of a core.
    pub(crate) fn leave_core(&self, index: usize, left: Left) {
        self.leave(offset_of!(RingHeader, cores), index, left);
    }

    /// Tells a host of a reproducer.
    pub(crate) fn leave_reproducer(&self, index: usize, left: Left) {
        self.leave(offset_of!(RingHeader, reproducers), index, left);
    }

    /// The words from a position on, up to where the ring goes round; what is there is told by the positions.
    pub fn words_at(&self, position: u64) -> &'static [AtomicU64] {
        self.words.get((position >> 3) as usize & (self.words.len() - 1)..).unwrap_or_default()
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
            let is_there = (self.oldest()..self.end()).contains(&at);
            let word = self.words_at(at).first().filter(|_| is_there);
            let word = word.map_or(pad, |word| word.load(Ordering::Relaxed));
            let bytes = word.to_le_bytes();
            let bytes = &bytes[(at % 8) as usize..];
            let (piece, rest) = to.split_at_mut(bytes.len().min(to.len()));
            piece.copy_from_slice(&bytes[..piece.len()]);
            at += piece.len() as u64;
            to = rest;
        }
    }

    /// Appends a record of these words, which are asked for when there is room. `now` is told if it has to be told
    /// that others are lost.
    #[inline(always)]
    pub fn append<const N: usize>(&mut self, now: u64, words: impl FnOnce() -> [u64; N]) {
        let (to, rest) = match self.rest.split_first_chunk::<N>() {
            Some(split) => split,
            None => {
                if !self.make_room(now) {
                    return;
                }
                let Some(split) = self.rest.split_first_chunk::<N>() else { return };
                split
            }
        };
        for (to, word) in to.iter().zip(words()) {
            to.store(word, Ordering::Relaxed);
        }
        self.publish(rest, N);
    }

    /// Appends a record whose payload, or number of words, is not known beforehand.
    pub fn append_with(&mut self, now: u64, first: &[u64], second: &[u64], payload: &[u8]) {
        let length = first.len() + second.len() + payload.len().div_ceil(8);
        if self.rest.len() < length && !self.make_room(now) {
            return;
        }
        let Some((to, rest)) = self.rest.split_at_checked(length) else { return };
        let payload = payload.chunks(8).map(|bytes| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        });
        for (to, word) in to.iter().zip(first.iter().chain(second).copied().chain(payload)) {
            to.store(word, Ordering::Relaxed);
        }
        self.publish(rest, length);
    }

    /// So many words are written; what is left is the rest.
    #[inline(always)]
    fn publish(&mut self, rest: &'static [AtomicU64], words: usize) {
        self.rest = rest;
        let written = self.page.word(offset_of!(RingHeader, written));
        written.store(written.load(Ordering::Relaxed) + words as u64 * 8, Ordering::Release);
    }

    /// Goes on to the next part, as soon as the host has read what is there. `false` when it does not: then a record is
    /// lost.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, now: u64) -> bool {
        if self.streams && !self.wait() {
            self.lost += 1;
            self.untold += 1;
            self.tell_lost();
            return false;
        }
        if let [first, others @ ..] = self.rest {
            let payload = others.len() as u32 * 8;
            let pad = Header { number: Event::Pad as u16, error: 0, values: 0, payload };
            first.store(pad.pack(), Ordering::Relaxed);
            self.publish(&[], 1 + others.len());
        }
        let next = self.words_at(self.limit);
        let part = self.words.len() / PARTS as usize;
        self.rest = next.get(..part).unwrap_or_default();
        self.limit += part as u64 * 8;
        if self.untold > 0 {
            let untold = core::mem::take(&mut self.untold);
            self.tell_lost();
            let header = Header { number: Event::Lost as u16, error: 0, values: 0, payload: 0 };
            self.append(now, || [header.pack(), now, 0, 0, 0, untold]);
        }
        true
    }

    fn tell_lost(&self) {
        self.page.word(offset_of!(RingHeader, lost)).store(self.untold, Ordering::Relaxed);
    }

    /// Waits until the host has read the part that is written next. Whether it has.
    fn wait(&mut self) -> bool {
        let wanted = (self.limit + self.bytes() / PARTS).saturating_sub(self.bytes());
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

#[cfg(test)]
mod tests {
    use libipc::abi::trace::{Reader, What};

    use super::*;

    fn ring(is_read_along: bool) -> Ring {
        let words = Box::leak((0..BYTES_MIN / 8).map(|_| AtomicU64::new(0)).collect());
        Ring::new(RingMemory { page: Box::leak(Box::default()), words, is_read_along })
    }

    /// Appends a record with a number.
    fn append(ring: &mut Ring, number: u64) {
        let header = Header { number: Event::Result as u16, error: 0, values: 0, payload: 0 };
        ring.append(0, || [header.pack(), 0, 0, 0, 0, number]);
    }

    fn append_many(ring: &mut Ring, numbers: core::ops::Range<u64>) {
        let header = Header { number: Event::Result as u16, error: 0, values: 0, payload: 3 };
        for number in numbers {
            let head = [header.pack(), 0, 0, 0, 0];
            ring.append_with(0, &head, &[number], b"abc");
        }
    }

    fn read(ring: &Ring, position: u64) -> Vec<What> {
        let mut bytes = vec![0; (ring.end() - position) as usize];
        ring.copy_out(position, &mut bytes);
        Reader::of_records(&bytes).map(|record| record.unwrap().what()).collect()
    }

    #[test]
    fn the_newest_records_are_there_whole_however_often_the_ring_went_round() {
        let mut ring = ring(false);
        append_many(&mut ring, 0..10_000);
        append(&mut ring, 10_000);
        assert!(ring.end() > 4 * ring.bytes() && ring.oldest() > 0);
        let records = read(&ring, ring.oldest());
        let first = 10_001 - records.len() as i64;
        assert!(records.len() > 900);
        for (number, record) in (first..).zip(&records) {
            assert_eq!(*record, What::Result { result: number });
        }
        assert_eq!(ring.lost(), 0);
    }

    #[test]
    fn what_a_host_does_not_read_in_time_is_lost_and_told_when_it_goes_on() {
        let mut ring = ring(true);
        append_many(&mut ring, 0..5000);
        let (kept, end) = (read(&ring, 0), ring.end());
        assert!(end <= ring.bytes());
        assert_eq!(ring.lost() + kept.len() as u64, 5000);
        let untold = ring.page.word(offset_of!(RingHeader, lost)).load(Ordering::Relaxed);
        assert_eq!(untold, ring.lost());
        ring.page.word(offset_of!(RingHeader, read)).store(end, Ordering::Relaxed);
        append_many(&mut ring, 5000..5010);
        let more = read(&ring, end);
        assert_eq!(more[0], What::Lost { records: ring.lost() });
        let wanted: Vec<What> = (5000..5010).map(|number| What::Result { result: number }).collect();
        assert_eq!(more[1..], wanted);
    }

    #[test]
    fn what_is_not_there_any_more_reads_as_nothing() {
        let mut ring = ring(false);
        append_many(&mut ring, 0..5000);
        let mut bytes = [1; 4099];
        ring.copy_out(3, &mut bytes);
        assert_eq!(Reader::of_records(&bytes[5..][..4088]).count(), 0);
    }
}
