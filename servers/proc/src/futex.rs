//! futex(2): queues of threads that wait for a word of their memory to change.
//!
//! A word of a process's own memory is named by its address space and address, so that threads and processes that
//! share a space share its queues; one in shared memory by the object that is mapped there, so that every process
//! that maps it does. As in Linux, who says that a word is private (FUTEX_PRIVATE_FLAG) and who does not never meet.
//! The value is read when the call is delivered, or again in the step that parks the waiter: since wakes are
//! calls and steps too, none can fall in between.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::linux::errno::{EAGAIN, EFAULT, EINVAL, ENOSYS};
use libipc::proto::space;
use libipc::server::Message;
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::Tid;
use crate::memory::half_at;
use crate::thread::{On, Waiting};
use crate::time::nanoseconds;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno};

const FUTEX_WAIT: i32 = 0;
const FUTEX_WAKE: i32 = 1;
const FUTEX_REQUEUE: i32 = 3;
const FUTEX_CMP_REQUEUE: i32 = 4;
const FUTEX_WAKE_OP: i32 = 5;
const FUTEX_WAIT_BITSET: i32 = 9;
const FUTEX_WAKE_BITSET: i32 = 10;
const FUTEX_PRIVATE: i32 = 128;
const FUTEX_CLOCK_REALTIME: i32 = 256;
const ANY_BIT: u32 = u32::MAX;

/// A word as all know it that may wait for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Word {
    /// Of a space and said to be private: its address.
    Private(u64, u64),
    /// Of a space's own memory, but not said to be private.
    Own(u64, u64),
    /// Of an object of vm's: its number, and where in it the word is.
    Shared(u64, u64),
}

/// A thread's place in a queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FutexWait {
    word: Word,
    /// Where the word is for its waiter, and whether that is private.
    address: u64,
    private: bool,
    ticket: u64,
    bits: u32,
    /// The value it waits to see changed.
    value: u32,
    /// Until when; `None` for ever.
    pub deadline_ns: Option<u64>,
}

/// All queues that are not empty; in each, the longest waiting comes first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Futexes {
    queues: BTreeMap<Word, BTreeMap<u64, (Tid, u32)>>,
    /// How many waiters there are at words that are not private.
    open: u32,
}

impl Futexes {
    /// Adds a waiter.
    pub fn enter(&mut self, wait: &FutexWait, tid: Tid) {
        self.queues.entry(wait.word).or_default().insert(wait.ticket, (tid, wait.bits));
        self.open += u32::from(!matches!(wait.word, Word::Private(..)));
    }

    /// Removes a waiter.
    pub fn leave(&mut self, wait: &FutexWait) {
        if let Some(queue) = self.queues.get_mut(&wait.word) {
            let left = queue.remove(&wait.ticket).is_some();
            self.open -= u32::from(left && !matches!(wait.word, Word::Private(..)));
            if queue.is_empty() {
                self.queues.remove(&wait.word);
            }
        }
    }

    /// The first waiters for a word that have one of the bits, so many at most.
    fn first(&self, word: Word, most: u32, bits: u32) -> Vec<Tid> {
        let queue = self.queues.get(&word).into_iter().flat_map(|queue| queue.values());
        let matching = queue.filter(|(_, own)| own & bits != 0).map(|(tid, _)| *tid);
        matching.take(most as usize).collect()
    }

    /// How many threads wait in all.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.queues.values().map(BTreeMap::len).sum()
    }
}

impl Proc {
    pub(crate) fn futex(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let operation = asked.int(1) & !(FUTEX_PRIVATE | FUTEX_CLOCK_REALTIME);
        let wall = asked.int(1) & FUTEX_CLOCK_REALTIME != 0;
        if wall && operation != FUTEX_WAIT_BITSET {
            return errno(ENOSYS);
        }
        let address = asked.word(0);
        if !address.is_multiple_of(4) {
            return errno(EINVAL);
        }
        let (count, bits) = (asked.int(2), asked.unsigned(5));
        match operation {
            FUTEX_WAIT | FUTEX_WAIT_BITSET => {
                let bits = if operation == FUTEX_WAIT { ANY_BIT } else { bits };
                self.futex_wait(asked, operation == FUTEX_WAIT_BITSET, wall, bits, turn)
            }
            FUTEX_WAKE => self.futex_wake(asked, count, ANY_BIT, turn),
            FUTEX_WAKE_BITSET => self.futex_wake(asked, count, bits, turn),
            FUTEX_REQUEUE => self.futex_requeue(asked, None, turn),
            FUTEX_CMP_REQUEUE => self.futex_requeue(asked, Some(asked.unsigned(5)), turn),
            FUTEX_WAKE_OP => self.futex_wake_op(asked, turn),
            _ => errno(ENOSYS),
        }
    }

    fn word_of(&self, asked: &Asked, address: u64, turn: &mut Turn) -> Result<Word, Refusal> {
        self.word_at(asked, address, asked.int(1) & FUTEX_PRIVATE != 0, turn)
    }

    /// The name of a word of the caller. What is not private may be shared memory, which vm knows.
    fn word_at(&self, asked: &Asked, address: u64, private: bool, turn: &mut Turn) -> Result<Word, Refusal> {
        let space = self.processes.get(&asked.pid).map_or(0, |process| process.space);
        if private {
            return Ok(Word::Private(space, address));
        }
        self.open_word(space, address, turn).ok_or(Refusal::Errno(EFAULT))
    }

    /// The name of a word that is not private, if there is memory.
    fn open_word(&self, space: u64, address: u64, turn: &mut Turn) -> Option<Word> {
        let question = Message::typed(space::REQUEST, &space::Request::Place { space, address });
        match turn.env.ask(self.vm, &question).ok()?.decode().ok()? {
            space::Answer::Place { object: 0, .. } => Some(Word::Own(space, address)),
            space::Answer::Place { object, offset } => Some(Word::Shared(object, offset)),
            _ => None,
        }
    }

    /// The value of a word now, as opposed to when the call was delivered first.
    fn value_now(&self, asked: &Asked, address: u64, turn: &mut Turn) -> Result<u32, Refusal> {
        Ok(half_at(&turn.env.read_user(asked.id, address, 4)?, 0))
    }

    fn futex_wait(
        &mut self,
        asked: &Asked,
        absolute: bool,
        wall: bool,
        bits: u32,
        turn: &mut Turn,
    ) -> Outcome {
        if bits == 0 {
            return errno(EINVAL);
        }
        let timeout = match asked.word(3) {
            0 => None,
            address => Some(nanoseconds(&turn.env.read_user(asked.id, address, 16)?)?),
        };
        let now = turn.env.now();
        let deadline_ns = timeout.map(|timeout| match (absolute, wall) {
            (false, _) => now.saturating_add(timeout),
            (true, true) => timeout.saturating_sub(self.epoch_s.saturating_mul(1_000_000_000)),
            (true, false) => timeout,
        });
        let value = asked.unsigned(2);
        if asked.input(0).map(|bytes| half_at(bytes, 0)) != Some(value) {
            return errno(if asked.input(0).is_some() { EAGAIN } else { EFAULT });
        }
        let (address, private) = (asked.word(0), asked.int(1) & FUTEX_PRIVATE != 0);
        let word = self.word_at(asked, address, private, turn)?;
        let wait = FutexWait { word, address, private, ticket: 0, bits, value, deadline_ns };
        // The value came with the call, just now; unless the timeout's page was missing, and the call has come again.
        if deadline_ns.is_some() && self.value_now(asked, address, turn)? != value {
            return errno(EAGAIN);
        }
        self.futex_sleep(asked, wait, turn)
    }

    /// A wait goes on at the word it began at, if that still has its value.
    pub(crate) fn futex_resume(&mut self, asked: &Asked, wait: FutexWait, turn: &mut Turn) -> Outcome {
        if self.value_now(asked, wait.address, turn)? != wait.value {
            return errno(EAGAIN);
        }
        let word = self.word_at(asked, wait.address, wait.private, turn)?;
        self.futex_sleep(asked, FutexWait { word, ..wait }, turn)
    }

    fn futex_sleep(&mut self, asked: &Asked, wait: FutexWait, turn: &mut Turn) -> Outcome {
        if wait.deadline_ns.is_some_and(|deadline_ns| deadline_ns <= turn.env.now()) {
            return errno(libipc::linux::errno::ETIMEDOUT);
        }
        self.last_ticket += 1;
        let wait = FutexWait { ticket: self.last_ticket, ..wait };
        self.park(asked.tid, asked.id, On::Futex(wait), turn);
        Ok(Reply::Later)
    }

    /// Wakes waiters of a word. Answers how many.
    fn wake(&mut self, word: Word, most: u32, bits: u32, turn: &mut Turn) -> i64 {
        let woken = self.futexes.first(word, most, bits);
        for tid in &woken {
            self.finish_wait(*tid, 0, Vec::new(), turn);
        }
        woken.len() as i64
    }

    /// Wakes one waiter of a word in a space, for a thread that has ended. Whoever waits for that does not say that
    /// the word is private.
    pub(crate) fn wake_one(&mut self, space: u64, address: u64, turn: &mut Turn) {
        if self.futexes.open > 0
            && let Some(word) = self.open_word(space, address, turn)
        {
            self.wake(word, 1, ANY_BIT, turn);
        }
    }

    fn futex_wake(&mut self, asked: &Asked, most: i32, bits: u32, turn: &mut Turn) -> Outcome {
        if bits == 0 {
            return errno(EINVAL);
        }
        let word = self.word_of(asked, asked.word(0), turn)?;
        Ok(Reply::Value(self.wake(word, at_least_one(most), bits, turn)))
    }

    /// Wakes some waiters of one word and moves others to another's queue. The third and fourth arguments count them.
    fn futex_requeue(&mut self, asked: &Asked, compare: Option<u32>, turn: &mut Turn) -> Outcome {
        let (wakes, moves) = (asked.int(2), asked.int(3));
        let target = asked.word(4);
        if wakes < 0 || moves < 0 || !target.is_multiple_of(4) {
            return errno(EINVAL);
        }
        if let Some(value) = compare
            && self.value_now(asked, asked.word(0), turn)? != value
        {
            return errno(EAGAIN);
        }
        let from = self.word_of(asked, asked.word(0), turn)?;
        let to = self.word_of(asked, target, turn)?;
        let woken = self.wake(from, wakes.unsigned_abs(), ANY_BIT, turn);
        let moved = self.futexes.first(from, moves.unsigned_abs(), ANY_BIT);
        for tid in &moved {
            self.requeue(*tid, to);
        }
        Ok(Reply::Value(woken + moved.len() as i64))
    }

    fn requeue(&mut self, tid: Tid, to: Word) {
        self.last_ticket += 1;
        let waiting = self.threads.get_mut(&tid).and_then(|thread| thread.waiting.as_mut());
        if let Some(Waiting { on: On::Futex(wait), .. }) = waiting {
            self.futexes.leave(wait);
            (wait.word, wait.ticket) = (to, self.last_ticket);
            self.futexes.enter(wait, tid);
        }
    }

    /// FUTEX_WAKE_OP: changes a second word, wakes waiters of the first, and of the second if its old value compares.
    ///
    /// The change is a read here and a write with the effects. No thread of the space runs in between while the
    /// machine has one processor, unless the page must first be made writable.
    fn futex_wake_op(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let second = asked.word(4);
        if !second.is_multiple_of(4) {
            return errno(EINVAL);
        }
        let old = self.value_now(asked, second, turn)?;
        let operation = WakeOp(asked.unsigned(5));
        let (Some(new), Some(compares)) = (operation.apply(old), operation.compare(old)) else {
            return errno(ENOSYS);
        };
        let first = self.word_of(asked, asked.word(0), turn)?;
        let other = self.word_of(asked, second, turn)?;
        turn.copy_out(asked.id, second, new.to_le_bytes().to_vec());
        let mut woken = self.wake(first, at_least_one(asked.int(2)), ANY_BIT, turn);
        if compares {
            woken += self.wake(other, at_least_one(asked.int(3)), ANY_BIT, turn);
        }
        Ok(Reply::Value(woken))
    }
}

/// Linux wakes one even when asked for none.
fn at_least_one(most: i32) -> u32 {
    most.max(1).unsigned_abs()
}

/// The sixth argument of FUTEX_WAKE_OP: operation, comparison and an argument for each.
#[derive(Clone, Copy)]
struct WakeOp(u32);

impl WakeOp {
    /// A signed twelve-bit argument.
    fn argument(self, shift: u32) -> i32 {
        ((self.0 >> shift << 20) as i32) >> 20
    }

    fn apply(self, old: u32) -> Option<u32> {
        let shifted = self.0 >> 31 != 0;
        let argument = self.argument(12);
        let argument = if shifted { 1_u32.checked_shl(argument as u32 & 31)? } else { argument as u32 };
        Some(match self.0 >> 28 & 7 {
            0 => argument,
            1 => old.wrapping_add(argument),
            2 => old | argument,
            3 => old & !argument,
            4 => old ^ argument,
            _ => return None,
        })
    }

    fn compare(self, old: u32) -> Option<bool> {
        let (old, argument) = (old as i32, self.argument(0));
        Some(match self.0 >> 24 & 15 {
            0 => old == argument,
            1 => old != argument,
            2 => old < argument,
            3 => old <= argument,
            4 => old > argument,
            5 => old >= argument,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_op_decodes_operation_comparison_and_signed_arguments() {
        let add_one_if_equal_minus_one = WakeOp(1 << 28 | 1 << 12 | 0xfff);
        assert_eq!(add_one_if_equal_minus_one.apply(7), Some(8));
        assert_eq!(add_one_if_equal_minus_one.compare(u32::MAX), Some(true));
        assert_eq!(add_one_if_equal_minus_one.compare(0), Some(false));
        let or_bit_three_if_greater = WakeOp(8 << 28 | 2 << 28 | 4 << 24 | 3 << 12);
        assert_eq!(or_bit_three_if_greater.apply(1), Some(9));
        assert_eq!(or_bit_three_if_greater.compare(1), Some(true));
        assert_eq!(WakeOp(7 << 28).apply(0), None);
    }
}
