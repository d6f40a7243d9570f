//! Time as programs ask for it: sleeping, clocks. All deadlines stand in one queue behind the
//! server's one timer, in ns since boot.

use alloc::{vec, vec::Vec};

use libipc::linux::errno::{EAGAIN, EINVAL, EOPNOTSUPP, EPERM, ETIMEDOUT};
use libipc::linux::signal::SIGKILL;
use libipc::server::effect::Operation;
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::id::{Pid, Tid};
use crate::memory::{word_at, words};
use crate::process::Life;
use crate::status::Status;
use crate::thread::{On, Resume};
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno, piece};

/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// CLOCK_REALTIME.
pub const CLOCK_REALTIME: i32 = 0;
/// CLOCK_MONOTONIC.
pub const CLOCK_MONOTONIC: i32 = 1;
/// CLOCK_PROCESS_CPUTIME.
pub const CLOCK_PROCESS_CPUTIME: i32 = 2;
/// CLOCK_THREAD_CPUTIME.
pub const CLOCK_THREAD_CPUTIME: i32 = 3;
/// CLOCK_MONOTONIC_RAW.
pub const CLOCK_MONOTONIC_RAW: i32 = 4;
/// CLOCK_REALTIME_COARSE.
pub const CLOCK_REALTIME_COARSE: i32 = 5;
/// CLOCK_MONOTONIC_COARSE.
pub const CLOCK_MONOTONIC_COARSE: i32 = 6;
/// CLOCK_BOOTTIME.
pub const CLOCK_BOOTTIME: i32 = 7;
/// CLOCK_TAI.
pub const CLOCK_TAI: i32 = 11;
/// TIMER_ABSTIME.
pub const TIMER_ABSTIME: i32 = 1;

/// Whom a deadline is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Timer {
    /// The call a thread waits in.
    Thread(Tid),
    /// A process's interval timer of real time.
    Alarm(Pid),
    /// A timer of timer_create(2).
    Named(Pid, i32),
    /// A process whose CPU time is to be looked at.
    Cpu(Pid),
    /// A killed process that takes too long to end.
    Grace(Pid),
}

/// `struct timespec` as nanoseconds.
pub fn nanoseconds(bytes: &[u8]) -> Result<u64, Refusal> {
    let (seconds, rest) = (word_at(bytes, 0) as i64, word_at(bytes, 8));
    let seconds = u64::try_from(seconds).ok().filter(|_| rest < SECOND_NS).ok_or(Refusal::Errno(EINVAL))?;
    Ok(seconds.saturating_mul(SECOND_NS).saturating_add(rest))
}

/// Nanoseconds as `struct timespec`.
pub fn timespec(ns: u64) -> Vec<u8> {
    words(&[ns / SECOND_NS, ns % SECOND_NS])
}

/// `struct timeval` as nanoseconds.
pub fn from_timeval(bytes: &[u8], at: usize) -> Result<u64, Refusal> {
    let (seconds, rest) = (word_at(bytes, at) as i64, word_at(bytes, at + 8));
    let seconds = u64::try_from(seconds).ok().filter(|_| rest < 1_000_000).ok_or(Refusal::Errno(EINVAL))?;
    Ok(seconds.saturating_mul(SECOND_NS).saturating_add(rest * 1_000))
}

/// Nanoseconds as `struct timeval`.
pub fn timeval(ns: u64) -> [u64; 2] {
    [ns / SECOND_NS, ns % SECOND_NS / 1_000]
}

impl Proc {
    /// The time: whoever waited until now goes on.
    pub(crate) fn ring(&mut self, turn: &mut Turn) {
        self.armed_ns = u64::MAX;
        let now = turn.env.now();
        while let Some((deadline_ns, timer)) = self.timers.first().copied().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(deadline_ns, timer));
            match timer {
                Timer::Thread(tid) => self.time_up(tid, turn),
                Timer::Alarm(pid) => self.alarm_rings(pid, turn),
                Timer::Named(pid, id) => self.named_rings(pid, id, now, turn),
                Timer::Cpu(pid) => self.check_cpu(pid, turn),
                Timer::Grace(pid) => {
                    let status = match self.processes.get(&pid).map(|process| process.life) {
                        Some(Life::Dying { status }) => status,
                        _ => Status::killed(SIGKILL, false),
                    };
                    self.finish(pid, status, turn);
                }
            }
        }
    }

    /// Keeps the server's timer at the first deadline.
    pub(crate) fn arm(&mut self, turn: &mut Turn) {
        let deadline_ns = self.timers.first().map_or(u64::MAX, |(deadline_ns, _)| *deadline_ns);
        if deadline_ns != self.armed_ns {
            self.armed_ns = deadline_ns;
            turn.act(Operation::TimerSet { deadline_ns });
        }
    }

    fn time_up(&mut self, tid: Tid, turn: &mut Turn) {
        let on = self.threads.get(&tid).and_then(|thread| thread.waiting.as_ref()).map(|waiting| &waiting.on);
        let result = match on {
            Some(On::Sleep { .. }) => 0,
            Some(On::Futex(_)) => -ETIMEDOUT,
            Some(On::Signal { .. }) => -EAGAIN,
            _ => return,
        };
        self.finish_wait(tid, i64::from(result), Vec::new(), turn);
    }

    pub(crate) fn alarm(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let after_ns = u64::from(asked.unsigned(0)) * SECOND_NS;
        let (left_ns, _) = self.set_alarm(asked.pid, after_ns, 0, turn.env.now());
        // Rounded to the nearest second, but a timer that runs is never reported as none.
        let seconds = (left_ns + SECOND_NS / 2) / SECOND_NS;
        Ok(Reply::Value(if left_ns > 0 { seconds.max(1) as i64 } else { 0 }))
    }

    pub(crate) fn nanosleep(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let length_ns = nanoseconds(asked.needed(0)?)?;
        let deadline_ns = turn.env.now().saturating_add(length_ns);
        self.sleep(asked, deadline_ns, asked.word(1), false, turn)
    }

    pub(crate) fn clock_nanosleep(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        match asked.int(0) {
            CLOCK_REALTIME | CLOCK_MONOTONIC | CLOCK_BOOTTIME | CLOCK_TAI => {}
            CLOCK_PROCESS_CPUTIME => return errno(EOPNOTSUPP),
            _ => return errno(EINVAL),
        }
        let given_ns = nanoseconds(asked.needed(0)?)?;
        if asked.int(1) & TIMER_ABSTIME == 0 {
            let deadline_ns = turn.env.now().saturating_add(given_ns);
            return self.sleep(asked, deadline_ns, asked.word(3), false, turn);
        }
        let deadline_ns = match asked.int(0) {
            CLOCK_REALTIME | CLOCK_TAI => given_ns.saturating_sub(self.epoch_s.saturating_mul(SECOND_NS)),
            _ => given_ns,
        };
        self.sleep(asked, deadline_ns, 0, true, turn)
    }

    fn sleep(
        &mut self,
        asked: &Asked,
        deadline_ns: u64,
        remainder: u64,
        absolute: bool,
        turn: &mut Turn,
    ) -> Outcome {
        if deadline_ns <= turn.env.now() {
            return Reply::DONE;
        }
        self.park(asked.tid, asked.id, On::Sleep { deadline_ns, remainder, absolute }, turn);
        Ok(Reply::Later)
    }

    /// A sleep or futex wait with a timeout goes on after a stop, until the time it was first given.
    pub(crate) fn restart_syscall(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        match self.caller(asked)?.resume.clone() {
            Some(Resume::Sleep { deadline_ns, remainder }) => {
                self.forget_resume(asked.tid);
                self.sleep(asked, deadline_ns, remainder, false, turn)
            }
            Some(Resume::Futex(wait)) => {
                let outcome = self.futex_resume(asked, wait, turn);
                if outcome != Err(Refusal::Again) {
                    self.forget_resume(asked.tid);
                }
                outcome
            }
            None => errno(libipc::linux::errno::EINTR),
        }
    }

    fn forget_resume(&mut self, tid: Tid) {
        if let Some(thread) = self.threads.get_mut(&tid) {
            thread.resume = None;
        }
    }

    /// Nanoseconds of the Epoch.
    fn wall_ns(&self, now: u64) -> u64 {
        self.epoch_s.saturating_mul(SECOND_NS).saturating_add(now)
    }

    pub(crate) fn gettimeofday(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let mut outputs = piece(asked.word(0), words(&timeval(self.wall_ns(turn.env.now()))));
        outputs.extend(piece(asked.word(1), vec![0; 8]));
        Ok(Reply::Pieces(0, outputs))
    }

    pub(crate) fn time(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let seconds = self.wall_ns(turn.env.now()) / SECOND_NS;
        Ok(Reply::Pieces(seconds as i64, piece(asked.word(0), words(&[seconds]))))
    }

    /// The kernel sets the clock once, from the machine's: not even the superuser can change it here.
    pub(crate) fn set_clock(&mut self, _: &Asked, _: &mut Turn) -> Outcome {
        errno(EPERM)
    }

    /// A clock's time, ns.
    fn read_clock(&self, asked: &Asked, turn: &mut Turn) -> Result<u64, Refusal> {
        let clock = asked.int(0);
        let now = turn.env.now();
        match clock {
            CLOCK_REALTIME | CLOCK_REALTIME_COARSE | CLOCK_TAI => Ok(self.wall_ns(now)),
            CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_BOOTTIME => Ok(now),
            CLOCK_PROCESS_CPUTIME | CLOCK_THREAD_CPUTIME => Ok(self.cpu_ns(asked.pid, turn)),
            _ if clock < 0 => {
                // The CPU clock of a process, as clock_getcpuclockid(3) names it: the number inverted above bit 3.
                let number = !(clock >> 3) as u32;
                let pid = if number == 0 { asked.pid } else { Pid(number) };
                let owner = self.threads.get(&Tid(number)).map(|thread| thread.pid);
                let known = self.processes.contains_key(&pid).then_some(pid).or(owner);
                Ok(self.cpu_ns(known.ok_or(Refusal::Errno(EINVAL))?, turn))
            }
            _ => errno(EINVAL),
        }
    }

    fn cpu_ns(&self, pid: Pid, turn: &mut Turn) -> u64 {
        let usage = self.usage_of(pid, turn);
        usage.user_ns.saturating_add(usage.system_ns)
    }

    pub(crate) fn clock_gettime(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let ns = self.read_clock(asked, turn)?;
        Reply::bytes(asked.word(1), timespec(ns))
    }

    pub(crate) fn clock_getres(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        self.read_clock(asked, turn)?;
        Reply::bytes(asked.word(1), timespec(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timespec_that_is_no_time_is_refused() {
        let of = |seconds: i64, rest: i64| nanoseconds(&words(&[seconds as u64, rest as u64]));
        assert_eq!(of(2, 5), Ok(2_000_000_005));
        assert_eq!(of(-1, 0), Err(Refusal::Errno(EINVAL)));
        assert_eq!(of(0, 1_000_000_000), Err(Refusal::Errno(EINVAL)));
        assert_eq!(of(0, -1), Err(Refusal::Errno(EINVAL)));
        assert_eq!(of(i64::MAX, 0), Ok(u64::MAX));
    }
}
