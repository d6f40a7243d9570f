//! Job control: which session a terminal belongs to, which of its process groups is in the foreground, and
//! what that lets a process do.
//!
//! It owns the terminal's session and foreground group, and decides. It must never send a signal or ask about
//! a process: what it has to know about the caller comes in as [`Caller`], and whom to signal goes out as an
//! answer. The decisions are Linux's (`tty_ioctl(2)`, `credentials(7)`), which are POSIX's where POSIX speaks
//! (XBD 11.1).

#[cfg(test)]
mod tests;

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::signal::Signal;

/// A session, named by the process id of its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Session(pub u32);

/// A process group, named by its process group id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Group(pub u32);

/// What the terminal is to the process that calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Controlling {
    /// The process has no controlling terminal.
    None,
    /// This one is its controlling terminal.
    This,
    /// Another one is.
    Another,
}

/// What has to be known about the process that calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its session.
    pub session: Session,
    /// Its process group.
    pub group: Group,
    /// Whether it leads its session.
    pub leads_session: bool,
    /// What this terminal is to it.
    pub controlling: Controlling,
    /// Whether it ignores or blocks SIGTTIN.
    pub ignores_background_read: bool,
    /// Whether it ignores or blocks SIGTTOU.
    pub ignores_background_write: bool,
    /// Whether its group is orphaned: nobody in the session is left to continue it once it has stopped.
    pub group_is_orphaned: bool,
    /// Whether it may take a terminal away from another session (CAP_SYS_ADMIN).
    pub privileged: bool,
}

/// What becomes of a call that job control has a say in.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The call goes on.
    Proceed,
    /// Send this to the caller's group; the call starts over when the group runs again.
    StopGroup(Signal),
    /// The call fails.
    Refuse(JobError),
}

/// Why job control refuses something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobError {
    /// A process that can neither be stopped nor let on reads or changes the terminal from the background.
    Background,
    /// The terminal is not the caller's controlling terminal.
    NotControlling,
    /// The caller may not have the terminal, or not put that group into the foreground.
    NotPermitted,
    /// No process group has this id.
    NoSuchGroup,
    /// This cannot be a process group's id.
    BadGroup,
}

impl JobError {
    /// The `errno` a program sees, with Linux x86_64's number.
    pub fn errno(self) -> i32 {
        match self {
            JobError::NotPermitted => 1,
            JobError::NoSuchGroup => 3,
            JobError::Background => 5,
            JobError::BadGroup => 22,
            JobError::NotControlling => 25,
        }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JobError::Background => "the process is in the background and cannot be stopped",
            JobError::NotControlling => "this is not the process's controlling terminal",
            JobError::NotPermitted => "the process may not control this terminal",
            JobError::NoSuchGroup => "there is no such process group",
            JobError::BadGroup => "a process group id is not negative",
        })
    }
}

/// Who controls a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The session whose controlling terminal it is.
    pub session: Session,
    /// The group in the foreground. It may have died; its id must not be given to another group meanwhile.
    pub foreground: Group,
}

/// How a process came to give up its controlling terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// Only the caller has lost it; its session keeps it.
    ByCaller,
    /// The leader gave it up for the whole session. The foreground group gets SIGHUP, then SIGCONT.
    BySession(Control),
}

/// The job control of one terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobControl {
    control: Option<Control>,
}

impl JobControl {
    /// Who controls the terminal. Signals that are typed go to the foreground group.
    pub fn control(&self) -> Option<Control> {
        self.control
    }

    /// Decides a read.
    pub fn check_read(&self, caller: &Caller) -> Verdict {
        self.check(caller, Signal::BackgroundRead, caller.ignores_background_read)
    }

    /// Decides a write, given whether the terminal's TOSTOP is set.
    pub fn check_write(&self, caller: &Caller, tostop: bool) -> Verdict {
        if tostop { self.check_change(caller) } else { Verdict::Proceed }
    }

    /// Decides a request that changes the terminal.
    pub fn check_change(&self, caller: &Caller) -> Verdict {
        self.check(caller, Signal::BackgroundWrite, caller.ignores_background_write)
    }

    fn check(&self, caller: &Caller, signal: Signal, ignored: bool) -> Verdict {
        let in_background = self.control.is_some_and(|control| control.foreground != caller.group);
        if caller.controlling != Controlling::This || !in_background {
            return Verdict::Proceed;
        }
        match (signal, ignored) {
            // Whoever ignores SIGTTOU may write; whoever ignores SIGTTIN must not take what was typed for
            // others.
            (Signal::BackgroundWrite, true) => Verdict::Proceed,
            (_, true) => Verdict::Refuse(JobError::Background),
            (_, false) if caller.group_is_orphaned => Verdict::Refuse(JobError::Background),
            (signal, false) => Verdict::StopGroup(signal),
        }
    }

    /// Makes the terminal the controlling terminal of the caller's session (TIOCSCTTY), given whether the
    /// file is open for reading and whether the caller asks to take it from another session. The answer is
    /// the session that lost it.
    pub fn acquire(
        &mut self,
        caller: &Caller,
        readable: bool,
        steal: bool,
    ) -> Result<Option<Session>, JobError> {
        let owner = self.control.map(|control| control.session);
        if caller.leads_session && owner == Some(caller.session) {
            return Ok(None);
        }
        let may_have = caller.leads_session && caller.controlling == Controlling::None;
        let may_take = owner.is_none() || (steal && caller.privileged);
        let may_read = readable || caller.privileged;
        if !(may_have && may_take && may_read) {
            return Err(JobError::NotPermitted);
        }
        self.control = Some(Control { session: caller.session, foreground: caller.group });
        Ok(owner)
    }

    /// Makes the terminal the caller's controlling terminal if opening it does that: a session leader without
    /// one opens a terminal that has no session, for reading and without O_NOCTTY. Answers whether it did.
    pub fn acquire_by_open(&mut self, caller: &Caller, readable: bool, no_control: bool) -> bool {
        !no_control && readable && self.control.is_none() && self.acquire(caller, true, false).is_ok()
    }

    /// Gives the controlling terminal up (TIOCNOTTY).
    pub fn give_up(&mut self, caller: &Caller) -> Result<GivenUp, JobError> {
        self.require_controlling(caller)?;
        Ok(match self.control {
            Some(control) if caller.leads_session => {
                self.control = None;
                GivenUp::BySession(control)
            }
            _ => GivenUp::ByCaller,
        })
    }

    /// The foreground group's id (TIOCGPGRP); zero where there is none.
    pub fn foreground(&self, caller: &Caller) -> Result<u32, JobError> {
        self.require_controlling(caller)?;
        Ok(self.control.map_or(0, |control| control.foreground.0))
    }

    /// Puts a group into the foreground (TIOCSPGRP), given the argument as the program passed it and the
    /// session of the group it names, if that group exists.
    pub fn set_foreground(&mut self, caller: &Caller, id: i32, session_of_group: Option<Session>) -> Verdict {
        match self.check_change(caller) {
            Verdict::Proceed => {}
            Verdict::Refuse(_) => return Verdict::Refuse(JobError::NotControlling),
            stop => return stop,
        }
        match self.plan_foreground(caller, id, session_of_group) {
            Ok(control) => {
                self.control = Some(control);
                Verdict::Proceed
            }
            Err(error) => Verdict::Refuse(error),
        }
    }

    fn plan_foreground(
        &self,
        caller: &Caller,
        id: i32,
        session_of_group: Option<Session>,
    ) -> Result<Control, JobError> {
        let id = u32::try_from(id).map_err(|_| JobError::BadGroup)?;
        self.require_controlling(caller)?;
        let control = self.control.filter(|control| control.session == caller.session);
        let control = control.ok_or(JobError::NotControlling)?;
        match session_of_group {
            None => Err(JobError::NoSuchGroup),
            Some(session) if session != caller.session => Err(JobError::NotPermitted),
            Some(_) => Ok(Control { foreground: Group(id), ..control }),
        }
    }

    /// The session's id (TIOCGSID).
    pub fn session(&self, caller: &Caller) -> Result<Session, JobError> {
        self.require_controlling(caller)?;
        self.control.map(|control| control.session).ok_or(JobError::NotControlling)
    }

    /// The terminal is gone or was revoked: nobody controls it any longer. The session's leader gets SIGHUP,
    /// then SIGCONT; every process of the session loses its controlling terminal; the foreground group gets
    /// SIGHUP, then SIGCONT when the leader exits.
    pub fn hang_up(&mut self) -> Option<Control> {
        self.control.take()
    }

    /// The leader of a session has exited: if the terminal was the session's, nobody controls it any longer,
    /// and the foreground group that is answered gets SIGHUP.
    pub fn leader_exited(&mut self, session: Session) -> Option<Group> {
        let control = self.control.take_if(|control| control.session == session)?;
        Some(control.foreground)
    }

    fn require_controlling(&self, caller: &Caller) -> Result<(), JobError> {
        if caller.controlling == Controlling::This { Ok(()) } else { Err(JobError::NotControlling) }
    }
}
