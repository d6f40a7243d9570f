//! Timers as descriptors: timerfd_create(2).

use alloc::{collections::VecDeque, vec::Vec};
use serde::{Deserialize, Serialize};

use crate::node::{Body, Ino, NOWHERE, Node};
use crate::open::{Kind, New};
use crate::pipe::interrupted;
use crate::transfer::{Outcome, Ranges, Refusal, small};
use crate::{Tmpfs, Wait};
use libipc::abi::{CallId, Readiness};
use libipc::linux::errno::*;
use libipc::linux::open::{O_CLOEXEC, O_NONBLOCK, O_RDWR};
use libipc::server::effect::Reason;
use libipc::server::{Call, Effects, Env, Foreign, ForeignReply, Output};

const CLOCK_REALTIME: u64 = 0;
const CLOCK_MONOTONIC: u64 = 1;
const CLOCK_BOOTTIME: u64 = 7;
const CLOCK_REALTIME_ALARM: u64 = 8;
const CLOCK_BOOTTIME_ALARM: u64 = 9;
const TFD_TIMER_ABSTIME: u64 = 1;
const TFD_TIMER_CANCEL_ON_SET: u64 = 2;
/// Bytes of the count that is read.
const SIZE: u64 = 8;
const NS_PER_S: u64 = 1_000_000_000;

/// A timer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Alarm {
    /// Its times are of the Epoch, not since boot.
    wall: bool,
    /// When it goes off next, ns since boot.
    next_ns: Option<u64>,
    /// How often it goes off again; 0 for never.
    interval_ns: u64,
    /// How often it has gone off since it was read or set.
    expired: u64,
    badge: u64,
    reading: VecDeque<(CallId, Ranges)>,
}

impl Alarm {
    /// Goes off as often as it is due.
    fn advance(&mut self, now: u64) {
        let Some(next) = self.next_ns.filter(|next| *next <= now) else { return };
        let more = (now - next).checked_div(self.interval_ns);
        self.expired = self.expired.saturating_add(1 + more.unwrap_or(0));
        self.next_ns = more.map(|more| next.saturating_add((more + 1).saturating_mul(self.interval_ns)));
    }

    /// `struct itimerspec`: interval, and the time until it goes off.
    fn to_bytes(&self, now: u64) -> Vec<u8> {
        let left = self.next_ns.map_or(0, |next| next.saturating_sub(now).max(1));
        let words = [self.interval_ns, left].map(|ns| [ns / NS_PER_S, ns % NS_PER_S]);
        words.concat().into_iter().flat_map(u64::to_le_bytes).collect()
    }
}

/// The nanoseconds in a `struct timespec`.
fn nanoseconds(words: &[[u8; 8]]) -> Result<u64, i32> {
    let [seconds, fraction] = words else { return Err(EFAULT) };
    let (seconds, fraction) = (i64::from_le_bytes(*seconds), u64::from_le_bytes(*fraction));
    let seconds = u64::try_from(seconds).map_err(|_| EINVAL)?;
    if fraction >= NS_PER_S {
        return Err(EINVAL);
    }
    Ok(seconds.saturating_mul(NS_PER_S).saturating_add(fraction))
}

impl Tmpfs {
    /// timerfd_create(2).
    pub(crate) fn make_alarm(&mut self, call: &Call, arguments: [u64; 6], env: &mut dyn Env) -> Outcome {
        let [clock, flags, ..] = arguments;
        let flags = u32::try_from(flags).ok().filter(|flags| flags & !(O_CLOEXEC | O_NONBLOCK) == 0);
        let flags = flags.ok_or(EINVAL)?;
        let wall = match clock {
            CLOCK_REALTIME | CLOCK_REALTIME_ALARM => true,
            CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_BOOTTIME_ALARM => false,
            _ => return Err(Refusal::Errno(EINVAL)),
        };
        if matches!(clock, CLOCK_REALTIME_ALARM | CLOCK_BOOTTIME_ALARM) && call.caller.uid != 0 {
            return Err(Refusal::Errno(EPERM));
        }
        let owner = (call.caller.uid, call.caller.gid);
        let ino = self.tree.insert(Node::new(NOWHERE, 0o600, owner, self.wall_ns(env), Body::Special))?;
        self.alarms.insert(ino, Alarm { wall, badge: self.next_badge, ..Alarm::default() });
        let new = New { kind: Kind::Alarm(ino), status: O_RDWR | flags & O_NONBLOCK };
        Ok(self.answer_opened(call.id, new, flags & O_CLOEXEC != 0, env))
    }

    /// timerfd_settime(2).
    pub(crate) fn set_alarm(
        &mut self,
        call: &Call,
        foreign: &Foreign,
        ino: Ino,
        env: &mut dyn Env,
    ) -> Outcome {
        let [_, flags, _, old_at, ..] = foreign.arguments;
        if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
            return Err(Refusal::Errno(EINVAL));
        }
        let (words, _) = foreign.inputs[0].as_deref().ok_or(EFAULT)?.as_chunks::<8>();
        let (interval, first) = words.split_at_checked(2).ok_or(EFAULT)?;
        let (interval_ns, value_ns) = (nanoseconds(interval)?, nanoseconds(first)?);
        let (now, epoch_ns) = (env.now(), u64::try_from(self.epoch_ns).unwrap_or(0));
        let alarm = self.alarms.get_mut(&ino).ok_or(EBADF)?;
        alarm.advance(now);
        let old = alarm.to_bytes(now);
        let at = match (flags & TFD_TIMER_ABSTIME != 0, alarm.wall) {
            (true, true) => value_ns.saturating_sub(epoch_ns),
            (true, false) => value_ns,
            (false, _) => now.saturating_add(value_ns),
        };
        let before = alarm.next_ns;
        (alarm.next_ns, alarm.interval_ns, alarm.expired) = ((value_ns > 0).then_some(at), interval_ns, 0);
        let outputs = (old_at != 0).then_some(Output { address: old_at, bytes: old });
        let mut effects = Effects::none();
        effects
            .foreign(call.id, ForeignReply { outputs: outputs.into_iter().collect(), ..Default::default() });
        self.reset_alarm(ino, before);
        self.ring(ino, now, &mut effects);
        self.set_timer(&mut effects);
        Ok(effects)
    }

    /// timerfd_gettime(2).
    pub(crate) fn tell_alarm(&mut self, call: &Call, address: u64, ino: Ino, env: &dyn Env) -> Outcome {
        let now = env.now();
        let alarm = self.alarms.get(&ino).ok_or(EBADF)?;
        let mut shown = alarm.clone();
        shown.advance(now);
        small(call.id, 0, address, &shown.to_bytes(now))
    }

    /// What a timer is ready for.
    pub(crate) fn alarm_readiness(&self, ino: Ino) -> Readiness {
        let expired = self.alarms.get(&ino).is_some_and(|alarm| alarm.expired > 0);
        if expired { Readiness::IN } else { Readiness::empty() }
    }

    /// read(2) of a timer.
    pub(crate) fn alarm_read(&mut self, call: &Call, ino: Ino, ranges: Ranges, env: &dyn Env) -> Outcome {
        if ranges.total() < SIZE {
            return Err(Refusal::Errno(EINVAL));
        }
        let now = env.now();
        let alarm = self.alarms.get_mut(&ino).ok_or(EBADF)?;
        let before = alarm.next_ns;
        alarm.advance(now);
        let nothing = alarm.expired == 0;
        let mut effects = Effects::none();
        if nothing && call.status & O_NONBLOCK != 0 {
            return Err(Refusal::Errno(EAGAIN));
        }
        if nothing {
            self.parked.insert(call.id, Wait::Alarm(ino));
            effects.park(call.id, Reason::Timer);
        }
        if let Some(alarm) = self.alarms.get_mut(&ino) {
            alarm.reading.push_back((call.id, ranges));
        }
        self.reset_alarm(ino, before);
        self.ring(ino, now, &mut effects);
        self.set_timer(&mut effects);
        Ok(effects)
    }

    /// The time of a timer has come, perhaps: who waits for it is answered.
    pub(crate) fn ring(&mut self, ino: Ino, now: u64, effects: &mut Effects) {
        let Some(alarm) = self.alarms.get_mut(&ino) else { return };
        let before = alarm.next_ns;
        alarm.advance(now);
        while alarm.expired > 0
            && let Some((call, ranges)) = alarm.reading.pop_front()
        {
            self.parked.remove(&call);
            let bytes = core::mem::take(&mut alarm.expired).to_le_bytes().to_vec();
            let reply = ForeignReply { result: SIZE as i64, ..ForeignReply::default() };
            crate::transfer::hand_out(effects, call, &ranges, bytes, reply);
        }
        let badge = alarm.badge;
        self.reset_alarm(ino, before);
        self.refresh(badge, effects);
    }

    /// A timer goes off at another time than before.
    fn reset_alarm(&mut self, ino: Ino, before: Option<u64>) {
        let next = self.alarms.get(&ino).and_then(|alarm| alarm.next_ns);
        if next != before {
            self.timers.move_alarm(ino, before, next);
        }
    }

    /// A signal or kill takes a call away from a timer.
    pub(crate) fn cancel_alarm_call(&mut self, ino: Ino, call: CallId) -> Effects {
        if let Some(alarm) = self.alarms.get_mut(&ino) {
            alarm.reading.retain(|(waiting, _)| *waiting != call);
        }
        self.parked.remove(&call);
        let mut effects = Effects::none();
        interrupted(&mut effects, call);
        effects
    }

    /// The last session of a timer is closed.
    pub(crate) fn forget_alarm(&mut self, ino: Ino, effects: &mut Effects) {
        let Some(alarm) = self.alarms.remove(&ino) else { return };
        self.timers.move_alarm(ino, alarm.next_ns, None);
        for (call, _) in alarm.reading {
            self.parked.remove(&call);
            effects.result(call, -i64::from(EBADF));
        }
        self.set_timer(effects);
    }
}
