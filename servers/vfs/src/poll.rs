//! poll(2), ppoll(2), select(2) and pselect6(2): waiting for descriptors to become ready.
//!
//! The kernel keeps what each session is ready for and says when a watched one changes; here is only what a call
//! waits for and until when. A call with a signal mask comes by way of the process server, which puts the mask on and,
//! when the call is over, takes it off (`masks` in `libipc/src/abi/foreign.rs`).

mod form;

use alloc::vec::Vec;

use libipc::abi::syscall::Restart;
use libipc::abi::{CallId, KernelError, Readiness};
use libipc::linux::call as number;
use libipc::linux::errno::*;
use libipc::server::effect::Reason;
use libipc::server::vectors::read_rest;
use libipc::server::{Call, Effect, Effects, Env, Foreign, ForeignReply, Operation, Output};
use serde::{Deserialize, Serialize};

use crate::Vfs;
use crate::epoll::Wanted;
use crate::settle::value;
use crate::times::{Unit, timeout, timeout_bytes};
use form::{ENTRY_BYTES, Form, Ready, Refusal};

/// Most bytes of one piece that goes with a reply.
const OUTPUT_MAX: u64 = 256;
/// Most bytes copied at once.
const WINDOW: usize = 1 << 16;

/// A call that waits.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wait {
    form: Form,
    /// Until when, ns since boot.
    deadline_ns: Option<u64>,
    /// Where the time left is written at the end, in microseconds (select) or nanoseconds (pselect6).
    time_left: Option<(u64, bool)>,
}

impl Vfs {
    /// Takes a call of the family.
    pub(crate) fn wait_for_readiness(
        &mut self,
        call: &Call,
        foreign: &Foreign,
        env: &mut dyn Env,
    ) -> Effects {
        let wait = match Wait::decode(call, foreign, env) {
            Ok(wait) => wait,
            Err(Refusal::Again) => return Effects::again(),
            Err(Refusal::Errno(errno)) => return value(call.id, -i64::from(errno)),
        };
        let now = env.now();
        if let Form::Epoll(wanted) = &wait.form {
            let mut effects = Effects::none();
            match self.epoll_look(call.id, wanted, env, &mut effects) {
                Ok(true) => {}
                Ok(false) if wait.is_over(now) => {
                    effects.append(value(call.id, 0));
                }
                Ok(false) => {
                    self.epoll_park(call.id, wanted);
                    effects.append(self.begin_wait(call.id, wait));
                }
                Err(errno) => {
                    effects.append(value(call.id, -i64::from(errno)));
                }
            }
            return effects;
        }
        match wait.look(call.id, env) {
            Err(errno) => value(call.id, -i64::from(errno)),
            Ok(ready) if ready.count > 0 || wait.is_over(now) => wait.reply(call.id, ready, now),
            Ok(_) => self.begin_wait(call.id, wait),
        }
    }

    fn begin_wait(&mut self, call: CallId, wait: Wait) -> Effects {
        if let Some(deadline) = wait.deadline_ns {
            self.deadlines.insert((deadline, call));
        }
        self.waits.insert(call, wait);
        let mut effects = Effects::none();
        effects.park(call, Reason::Readiness);
        effects.append(self.set_timer());
        effects
    }

    /// A call waits no longer.
    pub(crate) fn forget_wait(&mut self, call: CallId, effects: &mut Effects) -> Option<Wait> {
        let wait = self.waits.remove(&call)?;
        if let Some(deadline) = wait.deadline_ns {
            self.deadlines.remove(&(deadline, call));
        }
        if let Some(wanted) = wait.epoll() {
            self.epoll_leave(call, wanted);
        }
        effects.append(self.set_timer());
        Some(wait)
    }

    /// A watched descriptor became ready.
    pub(crate) fn woken(&mut self, call: CallId, env: &mut dyn Env) -> Effects {
        let Some(wait) = self.waits.get(&call) else { return Effects::none() };
        let effects = match wait.look(call, env) {
            // Another reader was faster.
            Ok(ready) if ready.count == 0 => return Effects::none(),
            Ok(ready) => wait.reply(call, ready, env.now()),
            Err(errno) => value(call, -i64::from(errno)),
        };
        self.end_wait(call, effects)
    }

    /// The timer has come: ends what has waited long enough.
    pub(crate) fn timer(&mut self, env: &mut dyn Env) -> Effects {
        self.timer_ns = None;
        let now = env.now();
        let mut effects = Effects::none();
        while let Some((deadline, call)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            let Some(wait) = self.forget_wait(call, &mut effects) else { continue };
            effects.append(match wait.look(call, env) {
                Ok(ready) => wait.reply(call, ready, now),
                Err(errno) => value(call, -i64::from(errno)),
            });
        }
        effects.append(self.set_timer());
        effects
    }

    /// A signal ends the wait.
    pub(crate) fn interrupt_wait(&mut self, call: CallId) -> Effects {
        let Some(wait) = self.waits.get(&call) else { return Effects::none() };
        // epoll_wait is never taken up again.
        let restart = if wait.epoll().is_some() { Restart::Never } else { Restart::IfNoHandler };
        let mut effects = Effects::none();
        let reply = ForeignReply { result: -i64::from(EINTR), restart, ..ForeignReply::default() };
        effects.foreign(call, reply);
        self.end_wait(call, effects)
    }

    fn end_wait(&mut self, call: CallId, mut effects: Effects) -> Effects {
        self.forget_wait(call, &mut effects);
        effects
    }

    /// Sets the timer for the earliest deadline, if it is not set so already.
    fn set_timer(&mut self) -> Effects {
        let earliest = self.deadlines.first().map(|(deadline, _)| *deadline);
        let mut effects = Effects::none();
        if earliest != self.timer_ns {
            self.timer_ns = earliest;
            effects.act(Operation::TimerSet { deadline_ns: earliest.unwrap_or(u64::MAX) });
        }
        effects
    }
}

impl Wait {
    /// The set that it waits for, if it is one.
    pub(crate) fn epoll(&self) -> Option<&Wanted> {
        match &self.form {
            Form::Epoll(wanted) => Some(wanted),
            _ => None,
        }
    }

    fn decode(call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Result<Wait, Refusal> {
        let words = foreign.arguments;
        let [first, second] = &foreign.inputs;
        let (first, second) = (first.as_deref(), second.as_deref());
        let (timeout_ns, time_left) = match foreign.number {
            7 => (milliseconds(words[2]), None),
            number::EPOLL_WAIT | number::EPOLL_PWAIT => (milliseconds(words[3]), None),
            number::EPOLL_PWAIT2 => (timeout(first, Unit::Nanoseconds)?, None),
            271 => (timeout(second, Unit::Nanoseconds)?, None),
            23 => (timeout(first, Unit::Microseconds)?, first.map(|_| (words[4], true))),
            _ => (timeout(first, Unit::Nanoseconds)?, first.map(|_| (words[4], false))),
        };
        let form = match foreign.number {
            7 | 271 => {
                let mut entries = first.unwrap_or_default().to_vec();
                let length = u64::from(words[1] as u32) * ENTRY_BYTES;
                read_rest(call.id, words[0], length, &mut entries, env)?;
                Form::poll(words[0], words[1] as u32, Some(&entries))?
            }
            number::EPOLL_WAIT | number::EPOLL_PWAIT | number::EPOLL_PWAIT2 => {
                Form::Epoll(Vfs::epoll_wanted(call.badge.0, words)?)
            }
            _ => {
                let mut read = |address, length| env.read_user(call.id, address, length);
                Form::select(words[0] as i32, [words[1], words[2], words[3]], &mut read)?
            }
        };
        let deadline_ns = timeout_ns.map(|ns| env.now().saturating_add(ns));
        Ok(Wait { form, deadline_ns, time_left })
    }

    fn is_over(&self, now: u64) -> bool {
        self.deadline_ns.is_some_and(|deadline| deadline <= now)
    }

    /// Which of the descriptors are ready now; goes on watching them.
    fn look(&self, call: CallId, env: &mut dyn Env) -> Result<Ready, i32> {
        self.form.look(&mut |descriptor, wanted| watch(call, descriptor, wanted, env))
    }

    /// The answer as things stand.
    fn reply(&self, call: CallId, mut ready: Ready, now: u64) -> Effects {
        if let (Some((address, micro)), Some(deadline)) = (self.time_left, self.deadline_ns) {
            let unit = if micro { Unit::Microseconds } else { Unit::Nanoseconds };
            ready.outputs.push((address, timeout_bytes(deadline.saturating_sub(now), unit)));
        }
        let mut effects = Effects::none();
        let mut outputs = Vec::new();
        for (address, bytes) in ready.outputs {
            if bytes.len() as u64 > OUTPUT_MAX {
                for (at, window) in bytes.chunks(WINDOW).enumerate() {
                    let address = address + (at * WINDOW) as u64;
                    effects.push(Effect::CopyOut { call, address, bytes: window.to_vec() });
                }
            } else {
                outputs.push(Output { address, bytes });
            }
        }
        let result = i64::from(ready.count);
        effects.foreign(call, ForeignReply { result, outputs, ..ForeignReply::default() });
        effects
    }
}

/// A timeout of so many milliseconds; a negative one is none.
fn milliseconds(word: u64) -> Option<u64> {
    u64::try_from(word as i32).ok().map(|ms| ms.saturating_mul(1_000_000))
}

/// What a descriptor of the caller is ready for; `None` when it is not open.
fn watch(
    call: CallId,
    descriptor: u32,
    wanted: Readiness,
    env: &mut dyn Env,
) -> Result<Option<Readiness>, i32> {
    match env.watch(call, descriptor, wanted) {
        Ok(ready) => Ok(Some(ready)),
        Err(KernelError::BadHandle) => Ok(None),
        Err(_) => Err(ENOMEM),
    }
}

#[cfg(test)]
mod tests;
