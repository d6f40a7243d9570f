//! The one timer of this server, shared by all that waits until some time.

use alloc::collections::BTreeSet;
use serde::{Deserialize, Serialize};

use crate::Tmpfs;
use crate::node::Ino;
use libipc::abi::CallId;
use libipc::linux::errno::{EAGAIN, EINTR};
use libipc::server::{Effect, Effects, Env, Operation};

/// How many calls that have ended may stand among the limits, besides as many as wait.
const STALE_MAX: usize = 16;

/// What waits until when.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Timers {
    /// Parked calls, by when they have waited long enough. Some may have ended meanwhile.
    limits: BTreeSet<(u64, CallId)>,
    /// The timers that programs have as descriptors, by when they go off.
    alarms: BTreeSet<(u64, Ino)>,
    /// For when the kernel's timer is set.
    set_ns: Option<u64>,
}

impl Timers {
    /// A timer goes off at another time than before.
    pub fn move_alarm(&mut self, ino: Ino, before: Option<u64>, next: Option<u64>) {
        if let Some(before) = before {
            self.alarms.remove(&(before, ino));
        }
        if let Some(next) = next {
            self.alarms.insert((next, ino));
        }
    }
}

impl Tmpfs {
    /// Lets a parked call fail with EAGAIN if it waits at a time still.
    pub(crate) fn time_out_at(&mut self, call: CallId, deadline_ns: u64, effects: &mut Effects) {
        if self.timers.limits.len() > 2 * self.parked.len() + STALE_MAX {
            let parked = &self.parked;
            self.timers.limits.retain(|(_, call)| parked.contains_key(call));
        }
        self.timers.limits.insert((deadline_ns, call));
        self.set_timer(effects);
    }

    /// The timer has come.
    pub(crate) fn timer(&mut self, env: &dyn Env) -> Effects {
        let now = env.now();
        let mut effects = Effects::none();
        self.timers.set_ns = None;
        while let Some((deadline, call)) = self.timers.limits.first().copied()
            && deadline <= now
        {
            self.timers.limits.pop_first();
            effects.append(self.timed_out(call));
        }
        while let Some((due, ino)) = self.timers.alarms.first().copied()
            && due <= now
        {
            self.ring(ino, now, &mut effects);
        }
        self.set_timer(&mut effects);
        effects
    }

    /// A call has waited long enough: as if a signal had come, but it says so.
    fn timed_out(&mut self, call: CallId) -> Effects {
        let mut effects = self.cancel(call);
        for effect in &mut effects.list {
            if let Effect::ReplyForeign { call: ended, reply } = effect
                && *ended == call
                && reply.result == -i64::from(EINTR)
            {
                reply.result = -i64::from(EAGAIN);
                reply.restart = libipc::abi::syscall::Restart::Never;
            }
        }
        effects
    }

    /// Sets the kernel's timer for what comes first.
    pub(crate) fn set_timer(&mut self, effects: &mut Effects) {
        let limit = self.timers.limits.first().map(|(deadline, _)| *deadline);
        let alarm = self.timers.alarms.first().map(|(due, _)| *due);
        let earliest = limit.into_iter().chain(alarm).min();
        if earliest != self.timers.set_ns {
            self.timers.set_ns = earliest;
            effects.act(Operation::TimerSet { deadline_ns: earliest.unwrap_or(u64::MAX) });
        }
    }
}
