//! ioctl(2) and job control: the requests of `ioctl`, decided by `jobs` from what the kernel says of the caller.
//!
//! What only the process server knows is left to it: whether a process in the background ignores the signal that
//! would stop it. That a group exists is taken on the caller's word, since nothing here may ask upward: a foreground
//! group that does not exist gets no signals and reads nothing, and the session's leader can name another.

use alloc::vec::Vec;

use libipc::abi::CallId;
use libipc::linux::errno::{EFAULT, ENOTTY, EPERM};
use libipc::linux::open::O_NONBLOCK;
use libipc::server;
use serde::{Deserialize, Serialize};

use super::Tty;
use super::call::{Asked, done};
use super::turn::{Outcome, Refusal, Turn};
use crate::ioctl::{Apply, Flow, Flush, Layout, Request};
use crate::jobs::{Caller, Controlling, GivenUp, Group, Session};
use crate::signal::Signal;
use crate::termios::{TERMIOS_BYTES, TERMIOS2_BYTES, Termios, WINSIZE_BYTES, WindowSize};
use crate::uart::Received;

/// What a call by a process in the background wants, as [`libipc::proto::process::BACKGROUND`] counts.
pub const READ: u64 = 1;
/// See [`READ`].
pub const WRITE: u64 = 2;
/// See [`READ`].
const CONTROL: u64 = 3;

/// FIONBIO, which is every file's.
const FIONBIO: u32 = 0x5421;
/// TCSBRKP, the one request for a break that says how long.
const TCSBRKP: u32 = 0x5425;
/// How long a break lasts unless the request says otherwise.
const BREAK_NS: u64 = 250_000_000;
/// What TCSBRKP counts in.
const TENTH_NS: u64 = 100_000_000;

/// A process by the words that the kernel attaches to its calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Process {
    pub pid: u32,
    pub pgid: u32,
    pub sid: u32,
}

impl Process {
    /// The process that calls.
    pub fn of(caller: &server::Caller) -> Process {
        Process { pid: caller.pid, pgid: caller.pgid, sid: caller.sid }
    }
}

/// What else job control looks at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The process server lets it go on from the background.
    pub permitted: bool,
    /// It is the superuser's.
    pub privileged: bool,
}

/// A request that waits until output has left.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Drain {
    pub call: CallId,
    pub badge: u64,
    then: Then,
}

/// What happens when output has left.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Then {
    Answer,
    Apply(Termios),
    Break { length_ns: u64 },
}

/// A break on the line.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LineBreak {
    call: CallId,
    pub until_ns: u64,
}

impl Tty {
    /// Whether the terminal is a process's controlling terminal.
    pub(super) fn controls(&self, process: &Process) -> bool {
        self.jobs.control().is_some_and(|control| control.session.0 == process.sid)
    }

    /// A process as job control wants to know it.
    pub(super) fn job_caller(&self, process: &Process, facts: Facts) -> Caller {
        let controlling = if self.controls(process) { Controlling::This } else { Controlling::None };
        Caller {
            session: Session(process.sid),
            group: Group(process.pgid),
            leads_session: process.pid != 0 && process.pid == process.sid,
            controlling,
            ignores_background_read: facts.permitted,
            ignores_background_write: facts.permitted,
            group_is_orphaned: false,
            privileged: facts.privileged,
        }
    }

    /// The caller of a call.
    pub(super) fn caller_of(&self, asked: &Asked) -> Caller {
        let facts = Facts { permitted: asked.permitted, privileged: asked.uid == 0 };
        self.job_caller(&asked.process, facts)
    }

    /// The first program's session begins, with the terminal as its own. Answers whether it was free.
    pub(super) fn session_begun(&mut self, sid: u64, pgid: u64) -> bool {
        let (Ok(sid), Ok(pgid)) = (u32::try_from(sid), u32::try_from(pgid)) else { return false };
        let leader = self.job_caller(&Process { pid: sid, pgid, sid }, Facts::default());
        self.jobs.acquire(&leader, true, false).is_ok()
    }

    /// ioctl(2).
    pub(super) fn control(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let [_, number, argument, ..] = asked.arguments;
        let number = number as u32;
        if number == FIONBIO {
            return self.set_nonblocking(asked, argument, turn);
        }
        let request = Request::decode(number, argument)?;
        if request == Request::SetForeground {
            return self.set_foreground(asked, argument, turn);
        }
        if request.changes_terminal() {
            let verdict = self.jobs.check_change(&self.caller_of(asked));
            if !self.may_proceed(verdict, CONTROL, asked, turn)? {
                return Ok(());
            }
        }
        match request {
            Request::SetTermios(layout, apply) => self.set_termios(asked, argument, (layout, apply), turn),
            Request::SendBreak => {
                let tenths = if number == TCSBRKP { argument } else { 0 };
                let length_ns = if tenths == 0 { BREAK_NS } else { tenths.saturating_mul(TENTH_NS) };
                self.after_output(asked, Then::Break { length_ns });
                Ok(())
            }
            Request::Drain => {
                self.after_output(asked, Then::Answer);
                Ok(())
            }
            Request::SetWindowSize => self.set_window_size(asked, argument, turn),
            Request::TypeByte => self.type_byte(asked, argument, turn),
            Request::AcquireControl(steal) => {
                let readable = self.open_file(asked.badge)?.is_readable();
                self.jobs.acquire(&self.caller_of(asked), readable, steal)?;
                done(asked, Ok(()), turn)
            }
            Request::GiveUpControl => self.give_up_control(asked, turn),
            Request::Flow(flow) => {
                self.control_flow(flow);
                done(asked, Ok(()), turn)
            }
            Request::Flush(flush) => {
                self.flush(flush);
                done(asked, Ok(()), turn)
            }
            _ => {
                let told = self.tell(request, asked)?;
                turn.structure(asked.id, argument, &told);
                Ok(())
            }
        }
    }

    /// The answers to requests that only look.
    fn tell(&self, request: Request, asked: &Asked) -> Result<Vec<u8>, Refusal> {
        let caller = self.caller_of(asked);
        let termios = self.line.termios();
        Ok(match request {
            Request::GetTermios(Layout::Termios) => termios.to_bytes().to_vec(),
            Request::GetTermios(Layout::Termios2) => termios.to_termios2_bytes().to_vec(),
            Request::GetWindowSize => self.window.to_bytes().to_vec(),
            Request::GetForeground => self.jobs.foreground(&caller)?.to_le_bytes().to_vec(),
            Request::GetSession => self.jobs.session(&caller)?.0.to_le_bytes().to_vec(),
            Request::CountOutput => self.port.uart.waiting().to_le_bytes().to_vec(),
            Request::CountInput => self.line.readable_bytes().to_le_bytes().to_vec(),
            _ => return Err(Refusal::Errno(ENOTTY)),
        })
    }

    fn set_nonblocking(&self, asked: &Asked, argument: u64, turn: &mut Turn) -> Outcome {
        let wanted = turn.env.read_user(asked.id, argument, 4)?;
        let nonblock = if wanted.iter().any(|byte| *byte != 0) { O_NONBLOCK } else { 0 };
        self.set_status(asked.badge, asked.status & !O_NONBLOCK | nonblock, turn);
        done(asked, Ok(()), turn)
    }

    fn set_foreground(&mut self, asked: &Asked, argument: u64, turn: &mut Turn) -> Outcome {
        let bytes = turn.env.read_user(asked.id, argument, 4)?;
        let id = i32::from_le_bytes(bytes.try_into().map_err(|_| EFAULT)?);
        let caller = self.caller_of(asked);
        let group_session = (id > 0).then_some(caller.session);
        let verdict = self.jobs.set_foreground(&caller, id, group_session);
        if self.may_proceed(verdict, CONTROL, asked, turn)? {
            turn.out.result(asked.id, 0);
        }
        Ok(())
    }

    fn set_termios(
        &mut self,
        asked: &Asked,
        address: u64,
        (layout, apply): (Layout, Apply),
        turn: &mut Turn,
    ) -> Outcome {
        let termios = match layout {
            Layout::Termios => {
                let bytes = turn.env.read_user(asked.id, address, TERMIOS_BYTES as u32)?;
                Termios::parse(&bytes, self.line.termios())?
            }
            Layout::Termios2 => {
                Termios::parse_termios2(&turn.env.read_user(asked.id, address, TERMIOS2_BYTES as u32)?)?
            }
        };
        match apply {
            Apply::Now => {
                let _ = self.line.set_termios(termios, self.port.uart.transmit());
                turn.out.result(asked.id, 0);
            }
            Apply::AfterOutput => self.after_output(asked, Then::Apply(termios)),
            Apply::AfterOutputDiscardingInput => {
                self.flush(Flush::Input);
                self.after_output(asked, Then::Apply(termios));
            }
        }
        Ok(())
    }

    fn after_output(&mut self, asked: &Asked, then: Then) {
        self.drains.push_back(Drain { call: asked.id, badge: asked.badge, then });
    }

    /// Output has left: whoever waited for that goes on, in order. A break has to end before another begins.
    pub(super) fn serve_drains(&mut self, turn: &mut Turn) {
        if let Some(line_break) = self.line_break
            && line_break.until_ns <= turn.env.now()
        {
            self.end_break(turn);
            turn.out.result(line_break.call, 0);
        }
        while self.port.uart.waiting() == 0
            && self.line_break.is_none()
            && let Some(drain) = self.drains.pop_front()
        {
            match drain.then {
                Then::Break { length_ns } => {
                    self.port.uart.set_break(true, turn);
                    let until_ns = turn.env.now().saturating_add(length_ns);
                    self.line_break = Some(LineBreak { call: drain.call, until_ns });
                    return;
                }
                Then::Apply(termios) => {
                    let _ = self.line.set_termios(termios, self.port.uart.transmit());
                }
                Then::Answer => {}
            }
            turn.out.result(drain.call, 0);
        }
    }

    fn end_break(&mut self, turn: &mut Turn) {
        self.line_break = None;
        self.port.uart.set_break(false, turn);
    }

    /// A signal takes a caller out of its wait for output to leave, or for its break to end.
    pub(super) fn cancel_drain(&mut self, call: CallId, turn: &mut Turn) {
        if self.line_break.is_some_and(|line_break| line_break.call == call) {
            self.end_break(turn);
            turn.interrupted(call);
        } else if let Some(place) = self.drains.iter().position(|drain| drain.call == call) {
            self.drains.remove(place);
            turn.interrupted(call);
        }
    }

    /// Whether a call waits for output to leave, or for its break to end.
    pub(super) fn is_draining(&self, call: CallId) -> bool {
        self.line_break.is_some_and(|line_break| line_break.call == call)
            || self.drains.iter().any(|drain| drain.call == call)
    }

    fn control_flow(&mut self, flow: Flow) {
        let _ = self.line.control_flow(flow, self.port.uart.transmit());
    }

    fn flush(&mut self, flush: Flush) {
        if flush != Flush::Output {
            self.line.flush_input();
            self.port.discard_input();
        }
        if flush != Flush::Input {
            let _ = self.line.flush_output(self.port.uart.transmit());
        }
    }

    fn set_window_size(&mut self, asked: &Asked, address: u64, turn: &mut Turn) -> Outcome {
        let bytes = turn.env.read_user(asked.id, address, WINSIZE_BYTES as u32)?;
        let window = WindowSize::parse(&bytes)?;
        if window != *self.window {
            self.window.replace(window);
            self.signal_foreground(Signal::WindowChange);
        }
        done(asked, Ok(()), turn)
    }

    fn type_byte(&mut self, asked: &Asked, address: u64, turn: &mut Turn) -> Outcome {
        let caller = self.caller_of(asked);
        if caller.controlling != Controlling::This && !caller.privileged {
            return Err(EPERM.into());
        }
        let bytes = turn.env.read_user(asked.id, address, 1)?;
        let byte = *bytes.first().ok_or(EFAULT)?;
        self.type_in(Received::Byte(byte));
        done(asked, Ok(()), turn)
    }

    /// TIOCNOTTY. Only a session's leader gives the terminal up here: whether another process still has its session's
    /// terminal is not known, so for such a one nothing changes.
    fn give_up_control(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        if let GivenUp::BySession(control) = self.jobs.give_up(&self.caller_of(asked))? {
            self.signal_group(control.foreground.0, Signal::HangUp);
            self.signal_group(control.foreground.0, Signal::Continue);
        }
        done(asked, Ok(()), turn)
    }
}
