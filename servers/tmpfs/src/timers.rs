//! The one timer of this server, shared by all that waits until some time.

use alloc::collections::BTreeSet;
use serde::{Deserialize, Serialize};

use crate::Tmpfs;
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
    /// For when the kernel's timer is set.
    set_ns: Option<u64>,
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

    fn set_timer(&mut self, effects: &mut Effects) {
        let earliest = self.timers.limits.first().map(|(deadline, _)| *deadline);
        if earliest != self.timers.set_ns {
            self.timers.set_ns = earliest;
            effects.act(Operation::TimerSet { deadline_ns: earliest.unwrap_or(u64::MAX) });
        }
    }
}
