//! Timers that send a signal: the interval timers of setitimer(2), those of timer_create(2), and the limit on CPU
//! time.
//!
//! A timer of a clock of the day stands in the server's queue of deadlines. CPU time cannot be waited for like that:
//! what is certain is that a processor's worth of it takes no less time of day. So a process with such timers stands
//! in the queue once, for when the first of them can be due at the earliest, and is looked at again then.

use alloc::vec::Vec;

use libipc::linux::errno::{EAGAIN, EFAULT, EINVAL, EOPNOTSUPP};
use libipc::linux::signal::{NSIG, SI_TIMER, SIGALRM, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU};
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::{Pid, Tid};
use crate::limits::{INFINITY, Resource};
use crate::memory::{half_at, word_at, words};
use crate::process::Process;
use crate::signal::{Aim, Detail, SigInfo};
use crate::time::*;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno};
use crate::usage::Usage;

const ITIMER_REAL: i32 = 0;
const ITIMER_VIRTUAL: i32 = 1;
const ITIMER_PROF: i32 = 2;

const SIGEV_SIGNAL: u32 = 0;
const SIGEV_NONE: u32 = 1;
const SIGEV_THREAD: u32 = 2;
const SIGEV_THREAD_ID: u32 = 4;

/// How soon a timer rings again, and CPU time is looked at again: shorter intervals are counted, not waited for.
const SHORTEST_NS: u64 = 1_000_000;

/// A running timer: its deadline by its clock, and how long after that again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Alarm {
    /// When it rings: ns since boot, or of CPU time.
    pub deadline_ns: u64,
    /// How long after that again; 0 for once.
    pub interval_ns: u64,
}

impl Alarm {
    /// Time until it rings; one that is due rings very soon.
    pub fn left(&self, now: u64) -> u64 {
        self.deadline_ns.saturating_sub(now).max(1)
    }

    /// It has rung by a time: how many times beyond the first, and what is left of it.
    pub fn rung(self, now: u64) -> (u64, Option<Alarm>) {
        let late = now.saturating_sub(self.deadline_ns);
        let Some(missed) = late.checked_div(self.interval_ns) else { return (0, None) };
        let next = self.deadline_ns.saturating_add(self.interval_ns.saturating_mul(missed + 1));
        let earliest = now.saturating_add(SHORTEST_NS);
        let deadline_ns =
            if next >= earliest { next } else { next + (earliest - next).next_multiple_of(self.interval_ns) };
        (missed, Some(Alarm { deadline_ns, ..self }))
    }
}

/// What a timer of timer_create(2) counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Clock {
    /// Time of day, which differs from the time since boot by a constant.
    Wall,
    /// Time since boot.
    Boot,
    /// The process's CPU time.
    Cpu,
}

/// A timer of timer_create(2).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Named {
    clock: Clock,
    /// The signal and whom it is for; `None` for SIGEV_NONE.
    signal: Option<(u8, Option<Tid>)>,
    value: u64,
    alarm: Option<Alarm>,
    /// How many times it had rung beyond the first when its signal was last taken.
    overrun: i32,
}

/// The timers of a process.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Timers {
    /// ITIMER_REAL.
    pub real: Option<Alarm>,
    /// ITIMER_VIRTUAL and ITIMER_PROF.
    cpu: [Option<Alarm>; 2],
    named: alloc::collections::BTreeMap<i32, Named>,
    /// The number of the next one, if it is free.
    next_id: i32,
    /// When its CPU time is looked at next.
    check_ns: Option<u64>,
}

impl Timers {
    /// Its entries in the queue of deadlines.
    fn queued(&self, pid: Pid) -> Vec<(u64, Timer)> {
        let real = self.real.map(|alarm| (alarm.deadline_ns, Timer::Alarm(pid)));
        let check = self.check_ns.map(|deadline_ns| (deadline_ns, Timer::Cpu(pid)));
        let named = self.named.iter().filter_map(|(id, timer)| timer.queued(pid, *id));
        real.into_iter().chain(check).chain(named).collect()
    }
}

impl Named {
    fn queued(&self, pid: Pid, id: i32) -> Option<(u64, Timer)> {
        let alarm = self.alarm.filter(|_| self.clock != Clock::Cpu)?;
        Some((alarm.deadline_ns, Timer::Named(pid, id)))
    }
}

/// When the limits on CPU time of a process are reached: the soft and the hard one, ns.
fn limits(process: &Process) -> [u64; 2] {
    let (soft, hard) = process.limits.get(Resource::Cpu);
    // Linux takes no time at all for a second of it.
    [soft, hard]
        .map(|seconds| if seconds == INFINITY { u64::MAX } else { seconds.max(1).saturating_mul(SECOND_NS) })
}

fn total(usage: &Usage) -> u64 {
    usage.user_ns.saturating_add(usage.system_ns)
}

impl Proc {
    /// Takes all timers of a process off the queue: it is over.
    pub(crate) fn drop_timers(&mut self, pid: Pid) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        for entry in core::mem::take(&mut process.timers).queued(pid) {
            self.timers.remove(&entry);
        }
    }

    /// The timers of timer_create(2) do not survive an exec; the others do.
    pub(crate) fn drop_named_timers(&mut self, pid: Pid) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.timers.next_id = 0;
        for (id, timer) in core::mem::take(&mut process.timers.named) {
            if let Some(entry) = timer.queued(pid, id) {
                self.timers.remove(&entry);
            }
        }
    }

    /// Sets a process's timer of real time. Answers what was set before: time left and interval.
    pub(crate) fn set_alarm(&mut self, pid: Pid, after_ns: u64, interval_ns: u64, now: u64) -> (u64, u64) {
        let Some(process) = self.processes.get_mut(&pid) else { return (0, 0) };
        let old = process.timers.real.take();
        if let Some(old) = old {
            self.timers.remove(&(old.deadline_ns, Timer::Alarm(pid)));
        }
        if after_ns > 0 {
            let deadline_ns = now.saturating_add(after_ns);
            process.timers.real = Some(Alarm { deadline_ns, interval_ns });
            self.timers.insert((deadline_ns, Timer::Alarm(pid)));
        }
        old.map_or((0, 0), |old| (old.left(now), old.interval_ns))
    }

    pub(crate) fn alarm_rings(&mut self, pid: Pid, turn: &mut Turn) {
        let now = turn.env.now();
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.timers.real = process.timers.real.and_then(|alarm| alarm.rung(now).1);
        if let Some(next) = process.timers.real {
            self.timers.insert((next.deadline_ns, Timer::Alarm(pid)));
        }
        self.send(Aim::Process(pid), SigInfo::kernel(SIGALRM), turn);
    }

    /// The time by the clock of an interval timer of CPU time.
    fn cpu_of_timer(&self, pid: Pid, which: i32, turn: &mut Turn) -> u64 {
        let usage = self.usage_of(pid, turn);
        if which == ITIMER_VIRTUAL { usage.user_ns } else { total(&usage) }
    }

    /// The place of an interval timer of CPU time; `None` for the one of real time.
    fn cpu_timer(which: i32) -> Result<Option<usize>, Refusal> {
        match which {
            ITIMER_REAL => Ok(None),
            ITIMER_VIRTUAL => Ok(Some(0)),
            ITIMER_PROF => Ok(Some(1)),
            _ => errno(EINVAL),
        }
    }

    pub(crate) fn setitimer(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let which = Self::cpu_timer(asked.int(0))?;
        let (interval_ns, after_ns) = match asked.input(0) {
            Some(bytes) => (from_timeval(bytes, 0)?, from_timeval(bytes, 16)?),
            None => (0, 0),
        };
        let (left_ns, old_interval_ns) = match which {
            None => self.set_alarm(asked.pid, after_ns, interval_ns, turn.env.now()),
            Some(index) => {
                let used_ns = self.cpu_of_timer(asked.pid, asked.int(0), turn);
                let Some(process) = self.processes.get_mut(&asked.pid) else { return Reply::DONE };
                let slot = &mut process.timers.cpu[index];
                let old = slot.take();
                if after_ns > 0 {
                    *slot = Some(Alarm { deadline_ns: used_ns.saturating_add(after_ns), interval_ns });
                }
                self.plan_cpu_check(asked.pid, turn);
                old.map_or((0, 0), |old| (old.left(used_ns), old.interval_ns))
            }
        };
        Reply::bytes(asked.word(2), words(&[timeval(old_interval_ns), timeval(left_ns)].concat()))
    }

    pub(crate) fn getitimer(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let which = Self::cpu_timer(asked.int(0))?;
        let now = match which {
            None => turn.env.now(),
            Some(_) => self.cpu_of_timer(asked.pid, asked.int(0), turn),
        };
        let timers = self.processes.get(&asked.pid).map(|process| &process.timers);
        let alarm = timers.and_then(|timers| which.map_or(timers.real, |index| timers.cpu[index]));
        let (interval_ns, left_ns) = alarm.map_or((0, 0), |alarm| (alarm.interval_ns, alarm.left(now)));
        Reply::bytes(asked.word(1), words(&[timeval(interval_ns), timeval(left_ns)].concat()))
    }

    /// Has a process's CPU time looked at when the first of its timers and limits can be due.
    pub(crate) fn plan_cpu_check(&mut self, pid: Pid, turn: &mut Turn) {
        let Some(process) = self.processes.get(&pid).filter(|process| !process.is_ending()) else { return };
        let timers = &process.timers;
        let named = timers.named.values().filter(|timer| timer.clock == Clock::Cpu);
        let alarms = timers.cpu.iter().copied().chain(named.map(|timer| timer.alarm)).flatten();
        let first = alarms.map(|alarm| alarm.deadline_ns).chain(limits(process)).min();
        let planned = timers.check_ns;
        let next = first.filter(|first_ns| *first_ns != u64::MAX).map(|first_ns| {
            let left_ns = first_ns.saturating_sub(total(&self.usage_of(pid, turn)));
            turn.env.now().saturating_add(left_ns.max(SHORTEST_NS))
        });
        if let Some(planned) = planned {
            self.timers.remove(&(planned, Timer::Cpu(pid)));
        }
        if let Some(next) = next {
            self.timers.insert((next, Timer::Cpu(pid)));
        }
        if let Some(process) = self.processes.get_mut(&pid) {
            process.timers.check_ns = next;
        }
    }

    /// Looks at a process's CPU time: what is due rings.
    pub(crate) fn check_cpu(&mut self, pid: Pid, turn: &mut Turn) {
        let usage = self.usage_of(pid, turn);
        let used_ns = total(&usage);
        let Some(process) = self.processes.get_mut(&pid) else { return };
        process.timers.check_ns = None;
        let mut signals = Vec::new();
        for (index, signal) in [SIGVTALRM, SIGPROF].into_iter().enumerate() {
            let now = if signal == SIGVTALRM { usage.user_ns } else { used_ns };
            let slot = &mut process.timers.cpu[index];
            if let Some(alarm) = slot.filter(|alarm| alarm.deadline_ns <= now) {
                *slot = alarm.rung(now).1;
                signals.push(signal);
            }
        }
        let [soft, hard] = limits(process);
        if used_ns >= hard {
            signals.push(SIGKILL);
        } else if used_ns >= soft {
            // Once a second from then on.
            process.limits.set_soft(Resource::Cpu, used_ns / SECOND_NS + 1);
            signals.push(SIGXCPU);
        }
        let due = |timer: &Named| {
            timer.clock == Clock::Cpu && timer.alarm.is_some_and(|alarm| alarm.deadline_ns <= used_ns)
        };
        let named = process.timers.named.iter().filter(|(_, timer)| due(timer)).map(|(id, _)| *id);
        for id in named.collect::<Vec<i32>>() {
            self.named_rings(pid, id, used_ns, turn);
        }
        for signal in signals {
            self.send(Aim::Process(pid), SigInfo::kernel(signal), turn);
        }
        self.plan_cpu_check(pid, turn);
    }

    /// A timer of timer_create(2) rings, at a time by its clock.
    pub(crate) fn named_rings(&mut self, pid: Pid, id: i32, now: u64, turn: &mut Turn) {
        let Some(process) = self.processes.get_mut(&pid) else { return };
        let Some(timer) = process.timers.named.get_mut(&id) else { return };
        let Some(alarm) = timer.alarm else { return };
        let (missed, next) = alarm.rung(now);
        timer.alarm = next;
        let (signal, value) = (timer.signal, timer.value);
        if let Some(entry) = timer.queued(pid, id) {
            self.timers.insert(entry);
        }
        let Some((signal, thread)) = signal else { return };
        let missed = i32::try_from(missed).unwrap_or(i32::MAX);
        // While its signal has not been taken, a timer only counts.
        let pending = match thread {
            Some(tid) => self.threads.get_mut(&tid).map(|thread| &mut thread.pending),
            None => self.processes.get_mut(&pid).map(|process| &mut process.pending),
        };
        let waiting = pending.and_then(|pending| pending.find(signal, |info| is_of_timer(info, id)));
        if let Some(SigInfo { detail: Detail::Timer { overrun, .. }, .. }) = waiting {
            *overrun = overrun.saturating_add(missed.saturating_add(1));
            return;
        }
        let detail = Detail::Timer { id, overrun: missed, value };
        let info = SigInfo { signal, errno: 0, code: SI_TIMER, detail };
        self.send(thread.map_or(Aim::Process(pid), Aim::Thread), info, turn);
    }

    /// A signal has been taken: its timer remembers what it was told about.
    pub(crate) fn note_timer(&mut self, pid: Pid, info: &SigInfo) {
        if let Detail::Timer { id, overrun, .. } = info.detail
            && let Some(process) = self.processes.get_mut(&pid)
            && let Some(timer) = process.timers.named.get_mut(&id)
        {
            timer.overrun = overrun;
        }
    }

    pub(crate) fn timer_create(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        let clock = match asked.int(0) {
            CLOCK_REALTIME | CLOCK_TAI => Clock::Wall,
            CLOCK_MONOTONIC | CLOCK_BOOTTIME => Clock::Boot,
            CLOCK_PROCESS_CPUTIME | CLOCK_THREAD_CPUTIME => Clock::Cpu,
            CLOCK_MONOTONIC_RAW | CLOCK_REALTIME_COARSE | CLOCK_MONOTONIC_COARSE => return errno(EOPNOTSUPP),
            _ => return errno(EINVAL),
        };
        let event = match (asked.word(1), asked.input(0)) {
            (0, _) => None,
            (_, Some(bytes)) => {
                Some((word_at(bytes, 0), half_at(bytes, 8), half_at(bytes, 12), half_at(bytes, 16)))
            }
            (_, None) => return errno(EFAULT),
        };
        if asked.word(2) == 0 {
            return errno(EFAULT);
        }
        let Some(process) = self.processes.get_mut(&asked.pid) else { return errno(EAGAIN) };
        if process.timers.named.len() as u64 >= process.limits.get(Resource::PendingSignals).0 {
            return errno(EAGAIN);
        }
        let id = free_id(&process.timers);
        let (signal, value) = match event {
            None => (Some((SIGALRM, None)), id as u64),
            Some((value, _, SIGEV_NONE, _)) => (None, value),
            Some((value, signal, how, tid)) => {
                let signal = u8::try_from(signal).ok().filter(|signal| (1..=NSIG).contains(signal));
                let signal = signal.ok_or(Refusal::Errno(EINVAL))?;
                let thread = match how {
                    SIGEV_SIGNAL | SIGEV_THREAD => None,
                    SIGEV_THREAD_ID if process.threads.contains(&Tid(tid)) => Some(Tid(tid)),
                    _ => return errno(EINVAL),
                };
                (Some((signal, thread)), value)
            }
        };
        process.timers.next_id = id.checked_add(1).unwrap_or(0);
        process.timers.named.insert(id, Named { clock, signal, value, alarm: None, overrun: 0 });
        Reply::bytes(asked.word(2), id.to_le_bytes().to_vec())
    }

    fn named_timer(&mut self, asked: &Asked) -> Result<&mut Named, Refusal> {
        let process = self.processes.get_mut(&asked.pid).ok_or(Refusal::Errno(EINVAL))?;
        process.timers.named.get_mut(&asked.int(0)).ok_or(Refusal::Errno(EINVAL))
    }

    /// The time by the clock of a timer: of day for none, since their deadlines are since boot.
    fn time_of(&self, clock: Clock, pid: Pid, turn: &mut Turn) -> u64 {
        match clock {
            Clock::Wall | Clock::Boot => turn.env.now(),
            Clock::Cpu => total(&self.usage_of(pid, turn)),
        }
    }

    pub(crate) fn timer_settime(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let given = asked.input(0).ok_or(Refusal::Errno(if asked.word(2) == 0 { EINVAL } else { EFAULT }))?;
        let interval_ns = nanoseconds(given)?;
        let value_ns = nanoseconds(given.get(16..).unwrap_or_default())?;
        let clock = self.named_timer(asked)?.clock;
        let now = self.time_of(clock, asked.pid, turn);
        let epoch_ns = self.epoch_s.saturating_mul(SECOND_NS);
        let (pid, id) = (asked.pid, asked.int(0));
        let timer = self.named_timer(asked)?;
        let (old, queued, signal) = (timer.alarm, timer.queued(pid, id), timer.signal);
        let deadline_ns = match (asked.int(1) & TIMER_ABSTIME != 0, clock) {
            (false, _) => now.saturating_add(value_ns),
            (true, Clock::Wall) => value_ns.saturating_sub(epoch_ns),
            (true, _) => value_ns,
        };
        timer.alarm = (value_ns > 0).then_some(Alarm { deadline_ns, interval_ns });
        timer.overrun = 0;
        let entry = timer.queued(pid, id);
        queued.iter().for_each(|entry| {
            self.timers.remove(entry);
        });
        self.timers.extend(entry);
        if let Some((signal, thread)) = signal {
            // What the old setting sent and nobody has taken yet is forgotten.
            let pending = match thread {
                Some(tid) => self.threads.get_mut(&tid).map(|thread| &mut thread.pending),
                None => self.processes.get_mut(&pid).map(|process| &mut process.pending),
            };
            pending.into_iter().for_each(|pending| pending.remove(signal, |info| is_of_timer(info, id)));
        }
        if clock == Clock::Cpu {
            self.plan_cpu_check(pid, turn);
        }
        Reply::bytes(asked.word(3), setting(old, now))
    }

    pub(crate) fn timer_gettime(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let timer = self.named_timer(asked)?;
        let (clock, alarm) = (timer.clock, timer.alarm);
        let now = self.time_of(clock, asked.pid, turn);
        Reply::bytes(asked.word(1), setting(alarm, now))
    }

    pub(crate) fn timer_getoverrun(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        Ok(Reply::Value(i64::from(self.named_timer(asked)?.overrun)))
    }

    pub(crate) fn timer_delete(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        self.named_timer(asked)?;
        let (pid, id) = (asked.pid, asked.int(0));
        let process = self.processes.get_mut(&pid).ok_or(Refusal::Errno(EINVAL))?;
        if let Some(entry) = process.timers.named.remove(&id).and_then(|timer| timer.queued(pid, id)) {
            self.timers.remove(&entry);
        }
        self.plan_cpu_check(pid, turn);
        Reply::DONE
    }
}

fn is_of_timer(info: &SigInfo, id: i32) -> bool {
    matches!(info.detail, Detail::Timer { id: own, .. } if own == id)
}

/// A number that no timer of a process has.
fn free_id(timers: &Timers) -> i32 {
    let mut id = timers.next_id;
    while timers.named.contains_key(&id) {
        id = id.checked_add(1).unwrap_or(0);
    }
    id
}

/// `struct itimerspec` of a timer.
fn setting(alarm: Option<Alarm>, now: u64) -> Vec<u8> {
    let (interval_ns, left_ns) = alarm.map_or((0, 0), |alarm| (alarm.interval_ns, alarm.left(now)));
    [timespec(interval_ns), timespec(left_ns)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_counts_what_it_missed_and_rings_next_where_it_would_have() {
        let alarm = |deadline_ns, interval_ns| Alarm { deadline_ns, interval_ns };
        const MS: u64 = 1_000_000;
        assert_eq!(alarm(10, 0).rung(10), (0, None));
        assert_eq!(alarm(10 * MS, 5 * MS).rung(10 * MS), (0, Some(alarm(15 * MS, 5 * MS))));
        assert_eq!(alarm(10 * MS, 5 * MS).rung(22 * MS), (2, Some(alarm(25 * MS, 5 * MS))));
        let (missed, next) = alarm(0, 7).rung(70);
        assert_eq!((missed, next.unwrap().deadline_ns % 7), (10, 0));
        assert!(next.unwrap().deadline_ns >= 70 + SHORTEST_NS, "an interval of 7 ns is not waited for");
    }
}
