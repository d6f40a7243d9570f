//! What a thread's end writes into its memory: the robust futexes it held are marked as orphaned, and its
//! clear_child_tid word becomes 0, each with a wake (set_robust_list(2), set_tid_address(2), CLONE_CHILD_CLEARTID).
//!
//! The writes ride on a call of the dying thread and may have to wait for a page, so the end has two halves: write
//! and answer the call with the thread called in, and when it comes in, wake and end it. A waiter therefore either
//! sees the new word or is found by the wake. The list is the program's and may be garbage: reading it stops where it
//! makes no sense, and after [`LIST_MAX`] entries.

use alloc::vec::Vec;

use libipc::abi::CallId;
use libipc::linux::errno::{EINVAL, EPERM, ESRCH};
use libipc::server::LeaseError;
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::exit::Via;
use crate::id::Tid;
use crate::memory::{half_at, word_at, words};
use crate::signal::Entry;
use crate::status::Status;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno, piece};

/// Most entries of a robust list that are looked at.
const LIST_MAX: u32 = 2048;
/// Bytes of `struct robust_list_head`.
const HEAD_BYTES: u64 = 24;
const FUTEX_WAITERS: u32 = 1 << 31;
const FUTEX_OWNER_DIED: u32 = 1 << 30;
const FUTEX_TID_MASK: u32 = (1 << 30) - 1;

/// The end of a thread under way: what is left to do when it comes in.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rites {
    /// Futexes to wake, one waiter each.
    wakes: Vec<u64>,
    /// The thread's own exit status, should it turn out to be its process's last.
    status: Status,
}

/// A word to be written, and whether waiters are woken for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LastWrite {
    address: u64,
    value: u32,
    wake: bool,
}

impl Proc {
    /// What the end of some threads writes, read through a call of one of them: they share their memory.
    pub(crate) fn last_writes(
        &self,
        call: CallId,
        tids: &[Tid],
        turn: &mut Turn,
    ) -> Result<Vec<LastWrite>, Refusal> {
        let mut writes = Vec::new();
        for thread in tids.iter().filter_map(|tid| self.threads.get(tid)) {
            match walk(call, thread.robust_list, thread.tid, turn, &mut writes) {
                Err(LeaseError::NotResident) => return Err(Refusal::Again),
                // What was found before the list led nowhere still counts.
                Ok(()) | Err(LeaseError::BadAddress | LeaseError::Gone) => {}
            }
            let others = self.processes.get(&thread.pid).is_some_and(|process| {
                process.threads.len() > tids.len() || self.spaces.users(process.space) > 1
            });
            if thread.clear_tid != 0 && others {
                writes.push(LastWrite { address: thread.clear_tid, value: 0, wake: true });
            }
        }
        Ok(writes)
    }

    /// The first half of an end: the writes, and the thread called in behind them.
    pub(crate) fn begin_rites(&mut self, via: Via, writes: &[LastWrite], status: Status, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&via.tid) else { return };
        let wakes = writes.iter().filter(|write| write.wake).map(|write| write.address).collect();
        thread.rites = Some(Rites { wakes, status });
        thread.called = false;
        self.interrupt(via.tid, turn);
        for write in writes {
            turn.copy_out(via.call, write.address, write.value.to_le_bytes().to_vec());
        }
        via.answer(turn);
    }

    /// The second half: the words are written, whoever waited for them is woken, and the thread ends.
    pub(crate) fn finish_rites(&mut self, entry: Entry, turn: &mut Turn) {
        let Some(thread) = self.threads.get_mut(&entry.tid) else { return };
        thread.called = false;
        let Some(rites) = thread.rites.take() else { return };
        if let Some(process) = self.processes.get(&entry.pid) {
            let space = process.space;
            for address in rites.wakes {
                self.wake_one(space, address, turn);
            }
        }
        let via = Via { call: entry.call, tid: entry.tid, foreign: false };
        self.end_thread(via, rites.status, turn);
    }

    pub(crate) fn set_tid_address(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        if let Some(thread) = self.threads.get_mut(&asked.tid) {
            thread.clear_tid = asked.word(0);
        }
        Ok(Reply::Value(i64::from(asked.tid.0)))
    }

    pub(crate) fn set_robust_list(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        if asked.word(1) != HEAD_BYTES {
            return errno(EINVAL);
        }
        if let Some(thread) = self.threads.get_mut(&asked.tid) {
            thread.robust_list = asked.word(0);
        }
        Reply::DONE
    }

    pub(crate) fn get_robust_list(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        let tid = if asked.int(0) == 0 { asked.tid } else { Tid(asked.unsigned(0)) };
        let Some(thread) = self.threads.get(&tid) else { return errno(ESRCH) };
        let uid = self.processes.get(&asked.pid).map_or(u32::MAX, |process| process.credentials.euid);
        let other = self.processes.get(&thread.pid).map_or(0, |process| process.credentials.uid);
        if thread.pid != asked.pid && uid != 0 && uid != other {
            return errno(EPERM);
        }
        let mut outputs = piece(asked.word(1), words(&[thread.robust_list]));
        outputs.extend(piece(asked.word(2), words(&[HEAD_BYTES])));
        Ok(Reply::Pieces(0, outputs))
    }
}

/// Walks a robust list: a ring of entries, each with its futex at a fixed distance, and one entry that was being
/// locked or unlocked.
fn walk(
    call: CallId,
    head: u64,
    tid: Tid,
    turn: &mut Turn,
    writes: &mut Vec<LastWrite>,
) -> Result<(), LeaseError> {
    if head == 0 {
        return Ok(());
    }
    let bytes = turn.env.read_user(call, head, HEAD_BYTES as u32)?;
    // Bit 0 marks a priority-inheriting futex.
    let [first, distance, pending] = [word_at(&bytes, 0) & !1, word_at(&bytes, 8), word_at(&bytes, 16) & !1];
    let mut entry = first;
    for _ in 0..LIST_MAX {
        if entry == head || entry == 0 {
            break;
        }
        let next = turn.env.read_user(call, entry, 8).map(|bytes| word_at(&bytes, 0));
        if entry != pending {
            writes.extend(orphan(call, entry.wrapping_add(distance), tid, false, turn)?);
        }
        entry = next? & !1;
    }
    if pending != 0 {
        writes.extend(orphan(call, pending.wrapping_add(distance), tid, true, turn)?);
    }
    Ok(())
}

/// The write that marks one futex, if the thread holds it.
fn orphan(
    call: CallId,
    address: u64,
    tid: Tid,
    pending: bool,
    turn: &mut Turn,
) -> Result<Option<LastWrite>, LeaseError> {
    if !address.is_multiple_of(4) {
        return Err(LeaseError::BadAddress);
    }
    let value = half_at(&turn.env.read_user(call, address, 4)?, 0);
    let owner = value & FUTEX_TID_MASK;
    if pending && owner == 0 {
        // It had been released, but the wake may not have been made.
        return Ok(Some(LastWrite { address, value, wake: true }));
    }
    let mark = LastWrite {
        address,
        value: value & FUTEX_WAITERS | FUTEX_OWNER_DIED,
        wake: value & FUTEX_WAITERS != 0,
    };
    Ok((owner == tid.0).then_some(mark))
}
