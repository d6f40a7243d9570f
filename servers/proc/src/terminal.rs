//! What the terminal server has to say upward: signals from the keyboard, and calls by processes in the background.

use libipc::abi::KernelError;
use libipc::abi::syscall::Restart;
use libipc::linux::errno::{EINVAL, EIO};
use libipc::linux::signal::{SIGCONT, SIGHUP, SIGTTIN, SIGTTOU};
use libipc::proto::terminal::{Event, Events, PERMITTED, TAKE_EVENTS};
use libipc::server::{Call, Effect, Message};

use crate::Proc;
use crate::id::{Pid, Tid};
use crate::jobs::Job;
use crate::signal::action::SIG_IGN;
use crate::signal::{Aim, SigInfo};
use crate::turn::Turn;

/// A background process reads.
const READ: u64 = 1;

impl Proc {
    /// tty says that it has events.
    pub(crate) fn fetch_events(&mut self, turn: &mut Turn) {
        let tag = self.start(Job::Events);
        turn.out.send(self.tty, tag, Message::label(TAKE_EVENTS));
    }

    /// The events themselves.
    pub(crate) fn take_events(&mut self, answer: &Result<Message, KernelError>, turn: &mut Turn) {
        let events = answer.as_ref().ok().and_then(|message| message.decode::<Events>().ok());
        for event in events.unwrap_or_default() {
            match event {
                Event::Signal { pgid, signal } if (1..=libipc::linux::signal::NSIG).contains(&signal) => {
                    self.signal_group(crate::id::Pgid(pgid), signal, turn);
                }
                Event::Signal { .. } => {}
                Event::Hangup { sid } => {
                    for signal in [SIGHUP, SIGCONT] {
                        self.send(Aim::Process(Pid(sid)), SigInfo::kernel(signal), turn);
                    }
                }
            }
        }
    }

    /// A call on the terminal by a process in the background (POSIX XBD 11.1.4): its group is stopped and the call
    /// made again when it runs again; or it may go on, or fails, when the signal would do nothing or stop it for
    /// ever.
    pub(crate) fn background(&mut self, call: &Call, message: &Message, turn: &mut Turn) {
        let tid = Tid(call.caller.tid);
        let thread = self.threads.get(&tid);
        let process = thread.and_then(|thread| self.processes.get(&thread.pid));
        let (Some(thread), Some(process)) = (thread, process) else {
            return turn.result(call.id, -i64::from(EINVAL));
        };
        let reads = message.words[0] == READ;
        let signal = if reads { SIGTTIN } else { SIGTTOU };
        let pgid = process.pgid;
        let ignored =
            self.actions_of(process.pid).is_some_and(|actions| actions.get(signal).handler == SIG_IGN);
        let deaf = thread.blocked.has(signal) || ignored;
        if deaf && !reads {
            let permitted = Message { label: PERMITTED, ..message.clone() };
            turn.out.push(Effect::Forward { call: call.id, to: self.tty, message: permitted });
        } else if deaf || self.is_orphaned(pgid) {
            turn.result(call.id, -i64::from(EIO));
        } else {
            // The call has become a message on its way here: what it was is in its thread's register alone.
            let handle = thread.handle;
            let number = turn.env.registers(handle).map_or(0, |registers| registers.rax);
            if let Some(thread) = self.threads.get_mut(&tid) {
                thread.carried = Restart::IfAsked as u64 | number << 8;
            }
            self.signal_group(pgid, signal, turn);
            self.interrupt(tid, turn);
            turn.interrupted(call.id, Restart::IfAsked);
        }
    }
}
