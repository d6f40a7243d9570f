//! Signals that have been generated and not been taken.

use alloc::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::{SYNCHRONOUS, SigInfo, SignalSet};

/// The first signal that is queued as often as it is sent.
pub const REALTIME: u8 = 32;

/// Pending signals of a thread or a process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Pending {
    queues: BTreeMap<u8, VecDeque<SigInfo>>,
}

impl Pending {
    /// Adds a signal. A signal below the real-time ones is pending once at most: false when it already was.
    pub fn add(&mut self, info: SigInfo) -> bool {
        let queue = self.queues.entry(info.signal).or_default();
        if info.signal < REALTIME && !queue.is_empty() {
            return false;
        }
        queue.push_back(info);
        true
    }

    /// Takes the oldest of a signal.
    pub fn take(&mut self, signal: u8) -> Option<SigInfo> {
        let queue = self.queues.get_mut(&signal)?;
        let info = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&signal);
        }
        info
    }

    /// The oldest of a signal.
    pub fn peek(&self, signal: u8) -> Option<&SigInfo> {
        self.queues.get(&signal)?.front()
    }

    /// The first of a signal that fits.
    pub fn find(&mut self, signal: u8, fits: impl Fn(&SigInfo) -> bool) -> Option<&mut SigInfo> {
        self.queues.get_mut(&signal)?.iter_mut().find(|info| fits(info))
    }

    /// Drops those of a signal that fit.
    pub fn remove(&mut self, signal: u8, fits: impl Fn(&SigInfo) -> bool) {
        if let Some(queue) = self.queues.get_mut(&signal) {
            queue.retain(|info| !fits(info));
            if queue.is_empty() {
                self.queues.remove(&signal);
            }
        }
    }

    /// Drops every signal of a set.
    pub fn discard(&mut self, set: SignalSet) {
        self.queues.retain(|signal, _| !set.has(*signal));
    }

    /// Which signals are pending.
    pub fn set(&self) -> SignalSet {
        self.queues.keys().fold(SignalSet::default(), |set, signal| set.with(*signal))
    }

    /// Pending signals outside a mask, in the order in which they are taken: those an instruction caused first, then
    /// by number.
    pub fn outside(&self, mask: SignalSet) -> impl Iterator<Item = u8> + '_ {
        let open = self.set().less(mask);
        open.and(SYNCHRONOUS).iter().chain(open.less(SYNCHRONOUS).iter())
    }

    /// Whether nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// How many are queued in all.
    pub fn len(&self) -> u64 {
        self.queues.values().map(|queue| queue.len() as u64).sum()
    }
}
