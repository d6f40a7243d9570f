//! Event counters: eventfd(2).

use alloc::{collections::VecDeque, vec};
use serde::{Deserialize, Serialize};

use crate::node::{Body, Ino, NOWHERE, Node};
use crate::open::{Kind, New};
use crate::pipe::interrupted;
use crate::transfer::{Outcome, Range, Ranges, Refusal};
use crate::{Tmpfs, Wait};
use libipc::abi::{CallId, Readiness};
use libipc::linux::errno::*;
use libipc::linux::open::{O_CLOEXEC, O_NONBLOCK, O_RDWR};
use libipc::server::effect::Reason;
use libipc::server::{Call, Effects, Env, ForeignReply, Listed, Output};

const EFD_SEMAPHORE: u64 = 1;
/// Bytes of the counter as programs read and write it.
const SIZE: u64 = 8;
/// The largest value; one more would say that it overflowed.
const VALUE_MAX: u64 = u64::MAX - 1;

/// An event counter.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counter {
    value: u64,
    /// Reading takes one, not all.
    semaphore: bool,
    badge: u64,
    reading: VecDeque<(CallId, u64)>,
    writing: VecDeque<(CallId, u64)>,
}

impl Counter {
    /// Serves those who wait, as long as one of them can go on.
    fn serve(&mut self, parked: &mut Listed<CallId, Wait>, effects: &mut Effects) {
        loop {
            if self.value > 0
                && let Some((call, address)) = self.reading.pop_front()
            {
                parked.remove(&call);
                give(effects, call, address, self.take());
            } else if let Some((call, amount)) = self.writing.front().copied()
                && amount <= VALUE_MAX - self.value
            {
                self.writing.pop_front();
                self.value += amount;
                parked.remove(&call);
                effects.result(call, SIZE as i64);
            } else {
                return;
            }
        }
    }

    fn take(&mut self) -> u64 {
        let taken = if self.semaphore { 1 } else { self.value };
        self.value -= taken;
        taken
    }
}

fn give(effects: &mut Effects, call: CallId, address: u64, taken: u64) {
    let outputs = vec![Output { address, bytes: taken.to_le_bytes().to_vec() }];
    effects.foreign(call, ForeignReply { result: SIZE as i64, outputs, ..ForeignReply::default() });
}

/// The buffer, which must hold the counter; one call does not spread it over several.
fn buffer(ranges: &Ranges) -> Result<Range, Refusal> {
    let first = ranges.pieces().first().filter(|range| range.length >= SIZE);
    first.copied().ok_or(Refusal::Errno(EINVAL))
}

impl Tmpfs {
    /// eventfd2(2).
    pub(crate) fn make_counter(&mut self, call: &Call, arguments: [u64; 6], env: &mut dyn Env) -> Outcome {
        let [value, flags, ..] = arguments;
        let (close_on_exec, nonblock) = (u64::from(O_CLOEXEC), u64::from(O_NONBLOCK));
        if flags & !(EFD_SEMAPHORE | close_on_exec | nonblock) != 0 {
            return Err(Refusal::Errno(EINVAL));
        }
        let owner = (call.caller.uid, call.caller.gid);
        let ino = self.tree.insert(Node::new(NOWHERE, 0o600, owner, self.wall_ns(env), Body::Special))?;
        let (value, semaphore) = (value & u64::from(u32::MAX), flags & EFD_SEMAPHORE != 0);
        self.counters.insert(ino, Counter { value, semaphore, badge: self.next_badge, ..Counter::default() });
        let new = New { kind: Kind::Counter(ino), status: O_RDWR | (flags & nonblock) as u32 };
        Ok(self.answer_opened(call.id, new, flags & close_on_exec != 0, env))
    }

    /// What a counter is ready for.
    pub(crate) fn counter_readiness(&self, ino: Ino) -> Readiness {
        let mut readiness = Readiness::empty();
        if let Some(counter) = self.counters.get(&ino) {
            readiness.set(Readiness::IN, counter.value > 0);
            readiness.set(Readiness::OUT, counter.value < VALUE_MAX);
        }
        readiness
    }

    /// read(2) of a counter.
    pub(crate) fn counter_read(&mut self, call: &Call, ino: Ino, ranges: &Ranges) -> Outcome {
        let address = buffer(ranges)?.address;
        let counter = self.counters.get_mut(&ino).ok_or(EBADF)?;
        if counter.value > 0 {
            let taken = counter.take();
            let mut effects = Effects::none();
            give(&mut effects, call.id, address, taken);
            self.serve_counter(ino, &mut effects);
            return Ok(effects);
        }
        if call.status & O_NONBLOCK != 0 {
            return Err(Refusal::Errno(EAGAIN));
        }
        counter.reading.push_back((call.id, address));
        Ok(self.park_at_counter(call.id, ino, Reason::Input))
    }

    /// write(2) to a counter.
    pub(crate) fn counter_write(
        &mut self,
        call: &Call,
        ino: Ino,
        ranges: &Ranges,
        env: &mut dyn Env,
    ) -> Outcome {
        let address = buffer(ranges)?.address;
        let bytes = env.read_user(call.id, address, SIZE as u32)?;
        let amount = u64::from_le_bytes(bytes.try_into().map_err(|_| EFAULT)?);
        if amount > VALUE_MAX {
            return Err(Refusal::Errno(EINVAL));
        }
        let counter = self.counters.get_mut(&ino).ok_or(EBADF)?;
        if counter.writing.is_empty() && amount <= VALUE_MAX - counter.value {
            counter.value += amount;
            let mut effects = Effects::none();
            effects.result(call.id, SIZE as i64);
            self.serve_counter(ino, &mut effects);
            return Ok(effects);
        }
        if call.status & O_NONBLOCK != 0 {
            return Err(Refusal::Errno(EAGAIN));
        }
        counter.writing.push_back((call.id, amount));
        Ok(self.park_at_counter(call.id, ino, Reason::Output))
    }

    fn park_at_counter(&mut self, call: CallId, ino: Ino, reason: Reason) -> Effects {
        self.parked.insert(call, Wait::Counter(ino));
        let mut effects = Effects::none();
        effects.park(call, reason);
        effects
    }

    fn serve_counter(&mut self, ino: Ino, effects: &mut Effects) {
        let Some(counter) = self.counters.get_mut(&ino) else { return };
        counter.serve(&mut self.parked, effects);
        let badge = counter.badge;
        self.refresh(badge, effects);
    }

    /// A signal or kill takes a call away from a counter.
    pub(crate) fn cancel_counter_call(&mut self, ino: Ino, call: CallId) -> Effects {
        if let Some(counter) = self.counters.get_mut(&ino) {
            counter.reading.retain(|(waiting, _)| *waiting != call);
            counter.writing.retain(|(waiting, _)| *waiting != call);
        }
        self.parked.remove(&call);
        let mut effects = Effects::none();
        interrupted(&mut effects, call);
        self.serve_counter(ino, &mut effects);
        effects
    }

    /// The last session of a counter is closed.
    pub(crate) fn forget_counter(&mut self, ino: Ino, effects: &mut Effects) {
        let Some(counter) = self.counters.remove(&ino) else { return };
        for (call, _) in counter.reading.into_iter().chain(counter.writing) {
            self.parked.remove(&call);
            effects.result(call, -i64::from(EBADF));
        }
    }
}
