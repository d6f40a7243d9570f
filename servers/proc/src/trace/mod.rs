//! ptrace(2): a thread that another process looks after.
//!
//! A traced thread stops at certain points of its way, and goes on when its tracer says so. To be stopped is what it
//! is for job control too: a call of its own that this server holds. Through that call its memory is read, and its
//! registers are at rest. What a tracer is told, and by which wait, is decided in `wait`; the real parent of a traced
//! process learns of its end when the tracer has.
//!
//! ```text
//!              SEIZE, ATTACH, TRACEME,        come in, with something to tell
//!              child of a traced one          ┌──────────────────────────────┐
//! (untraced) ────────────────────────► Running                             Stopped ◄─┐
//!      ▲                                 ▲ ▲  └──────────────────────────────┘ │ │   │ SIGCONT, INTERRUPT:
//!      │ DETACH, or its tracer ends      │ └───────────────────────────────────┘ │   │ it is news again
//!      └─────────────────────────────────┤    CONT, SYSCALL, SINGLESTEP, SIGKILL │   │
//!                                        │                                LISTEN ▼   │
//!                                        └─────────────────────────────────── Listening
//! ```
//!
//! | stop | when | word of the status |
//! |---|---|---|
//! | `Signal` | a signal is about to be taken, of any action; the tracer passes it on, or another, or none | signal |
//! | `Group` | the process is being stopped by a signal that was passed on | signal; seized: and EVENT_STOP |
//! | `Trap` | INTERRUPT, the start of a child of a seized one, the end of a group's stop | SIGTRAP and EVENT_STOP |
//! | `Event` | fork, vfork, clone, exec, the end of a vfork, exit, if its option is set | SIGTRAP and the event |
//! | `Entry`, `Exit` | PTRACE_SYSCALL: before a system call and after it | SIGTRAP, with TRACESYSGOOD 0x80 more |
//!
//! A thread that goes on comes in again at once, and the next thing there is to stop for, or a signal, has its turn; so
//! there is one thing at a time. Only before a system call it goes on with that call instead.
//!
//! What ends while it is traced leaves a row behind (`departed`) until its tracer has waited for it or is gone: a
//! thread's is then forgotten, a process's status goes on to its parent.
//!
//! The kernel's part is small: a thread can be told to come before and after each system call (`When::EachCall`), and
//! an answer can let it make the call. A single step is the trap flag among its registers.

mod attach;
mod memory;
mod registers;
mod request;
mod stop;
mod tell;

use alloc::collections::BTreeMap;

use libipc::linux::ptrace::*;
use libipc::linux::signal::SIGTRAP;
use serde::{Deserialize, Serialize};

use crate::id::{Pgid, Pid, Tid};
use crate::signal::SigInfo;
use crate::status::Status;

pub use attach::Follow;
pub use memory::PokeJob;
pub use tell::Told;

/// The trap flag of x86: an exception after the next instruction.
const TRAP_FLAG: u64 = 1 << 8;

/// What there is to know of a thread because it is traced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Trace {
    /// The thread that traces it.
    tracer: Tid,
    /// That one's process.
    by: Pid,
    /// PTRACE_O_….
    options: u32,
    /// By PTRACE_SEIZE, or born to one that was.
    seized: bool,
    /// Where it is stopped.
    stop: Option<Stop>,
    /// What PTRACE_GETEVENTMSG tells.
    message: u64,
    /// It comes before and after each system call.
    calls: bool,
    /// It has come from a system call, and has not stopped for that yet.
    leaving: bool,
    /// The number of the last system call at which it stopped.
    number: Option<u32>,
    /// It runs for one instruction.
    stepping: bool,
    /// It has entered a handler while it was to run for one instruction.
    stepped: bool,
    /// A trap is to come.
    trap: bool,
    /// An event to be told when it next comes in.
    event: Option<Event>,
    /// The signal that its tracer passed on.
    passed: Option<SigInfo>,
    /// It was let go while its process is stopped.
    past_stop: bool,
    /// Its end has been told.
    ending: bool,
}

/// An event, and what its message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Event {
    number: u8,
    message: u64,
}

/// A stop for the tracer's sake.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Stop {
    kind: Kind,
    /// The tracer has been told by a wait.
    told: bool,
    /// PTRACE_LISTEN: nothing can be done with it until something happens.
    listening: bool,
    /// It counts among those that a stop of its process holds.
    counted: bool,
    after: After,
}

/// What a stop is for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Kind {
    Signal(SigInfo),
    Group(u8),
    Trap,
    Event(u8),
    Entry,
    Exit,
}

/// What the call becomes that a stopped thread is held by, when it goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum After {
    /// An attention or fault call: it comes in again, to make the call again it was taken out of, perhaps.
    ComeIn { restart: u64 },
    /// An attention call before a system call: it makes that call.
    Call,
    /// vfork(2): it waits for its child.
    Vfork { child: Pid },
    /// vfork(2) whose child needs its memory no more.
    Vforked { child: Pid },
    /// exit(2), exit_group(2): it makes the call again.
    Exit,
}

impl Trace {
    fn new((tracer, by): (Tid, Pid), options: u32, seized: bool) -> Trace {
        Trace {
            tracer,
            by,
            options,
            seized,
            stop: None,
            message: 0,
            calls: false,
            leaving: false,
            number: None,
            stepping: false,
            stepped: false,
            trap: false,
            event: None,
            passed: None,
            past_stop: false,
            ending: false,
        }
    }

    fn wants(&self, option: u32) -> bool {
        self.options & option != 0
    }

    /// Whether it has come, or has to come, for its tracer's sake.
    pub fn has_reason(&self) -> bool {
        self.leaving && self.calls
            || self.trap
            || self.stepped
            || self.event.is_some()
            || self.passed.is_some()
    }

    /// The signal its tracer passed on.
    pub fn passed(&self) -> Option<&SigInfo> {
        self.passed.as_ref()
    }

    /// The same, taken.
    pub fn take_passed(&mut self) -> Option<SigInfo> {
        self.passed.take()
    }

    /// A new stop of its process holds it again.
    pub fn hold_again(&mut self) {
        self.past_stop = false;
    }

    /// Whether it runs although its process is stopped.
    pub fn is_past_stop(&self) -> bool {
        self.past_stop
    }

    /// Whether it is stopped and counts among those that a stop of its process holds.
    pub fn is_counted(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.counted)
    }

    /// It has entered a handler. Whether it was to run for one instruction, which that was.
    pub fn entered_handler(&mut self) {
        self.stepped |= core::mem::take(&mut self.stepping);
    }

    /// The bits of its flags that are its tracer's, and not its own.
    pub fn flags(&self) -> u64 {
        if self.stepping { TRAP_FLAG } else { 0 }
    }

    /// The status of its stop, from bit 8 on.
    fn word(&self, kind: &Kind) -> u32 {
        let (trap, event) = (u32::from(SIGTRAP), |number: u8| u32::from(number) << 8);
        match kind {
            Kind::Signal(info) => u32::from(info.signal),
            Kind::Group(signal) if self.seized => u32::from(*signal) | event(PTRACE_EVENT_STOP),
            Kind::Group(signal) => u32::from(*signal),
            Kind::Trap => trap | event(PTRACE_EVENT_STOP),
            Kind::Event(number) => trap | event(*number),
            Kind::Entry | Kind::Exit if self.wants(PTRACE_O_TRACESYSGOOD) => trap | SYSCALL_STOP,
            Kind::Entry | Kind::Exit => trap,
        }
    }
}

/// A traced thread that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Departed {
    /// Who traces it, and of which process that is.
    tracer: Tid,
    by: Pid,
    /// Its process, which may be gone.
    pid: Pid,
    pgid: Pgid,
    uid: u32,
    /// How it ended; a first thread's end is not told before all others are gone.
    status: Option<Status>,
}

/// Those that have ended and whose tracers have not been told.
pub type Departures = BTreeMap<Tid, Departed>;
