//! What programs, the kernel and the server say to each other: requests, events, effects, answers.

use bitflags::bitflags;

use crate::cast::{Process, Thread};

bitflags! {
    /// Options of a wait.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
    pub struct Options: u8 {
        /// WEXITED.
        const EXITED = 1;
        /// WSTOPPED.
        const STOPPED = 2;
        /// WCONTINUED.
        const CONTINUED = 4;
        /// WNOHANG.
        const NOHANG = 8;
        /// WNOWAIT.
        const NOWAIT = 16;
        /// __WNOTHREAD: the caller's own children only.
        const NOTHREAD = 32;
    }
}

/// A wait.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Wait {
    /// The child named; `None` for any.
    pub target: Option<Process>,
    /// What for, and how.
    pub options: Options,
}

impl Wait {
    /// A wait for any child.
    pub const fn any(options: Options) -> Wait {
        Wait { target: None, options }
    }

    /// A wait for one child.
    pub const fn named(process: Process, options: Options) -> Wait {
        Wait { target: Some(process), options }
    }

    /// Whether it takes what it is told, so that nobody is told again.
    pub fn consumes(self) -> bool {
        !self.options.contains(Options::NOWAIT)
    }

    /// Whether it names a process, or names none.
    pub fn names(self, process: Process) -> bool {
        self.target.is_none_or(|target| target == process)
    }

    /// Whether it asks for such news.
    pub fn asks_for(self, news: News) -> bool {
        self.options.contains(match news {
            News::Ended(_) => Options::EXITED,
            News::Stopped => Options::STOPPED,
            News::Continued => Options::CONTINUED,
        })
    }
}

/// How a process ended. The model has one code per process, so whose status it is can be seen from it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum End {
    /// By exit_group(2) or the exit(2) of its last thread.
    Exited,
    /// By SIGKILL.
    Killed,
}

/// What there is to tell of a child.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum News {
    /// It has ended.
    Ended(End),
    /// It has stopped.
    Stopped,
    /// It goes on.
    Continued,
}

/// A signal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Signal {
    /// SIGKILL.
    Kill,
    /// SIGUSR1, which has a handler.
    User,
    /// SIGCHLD.
    Child,
    /// SIGSTOP.
    Stop,
    /// SIGCONT, which is never pending: its default is to be ignored once it has done its work.
    Continue,
}

/// Pending signals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Signals(u8);

impl Signals {
    /// Adds a signal: false when it already was there.
    pub fn add(&mut self, signal: Signal) -> bool {
        let news = !self.has(signal);
        self.0 |= 1 << signal as u8;
        news
    }

    /// Takes a signal away.
    pub fn remove(&mut self, signal: Signal) {
        self.0 &= !(1 << signal as u8);
    }

    /// Whether a signal is there.
    pub fn has(self, signal: Signal) -> bool {
        self.0 & 1 << signal as u8 != 0
    }

    /// How many there are.
    pub fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// What a process does about SIGCHLD.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ChildSignal {
    /// SIG_DFL.
    Default,
    /// SIG_IGN: no signal, and no zombies.
    Ignored,
    /// A handler.
    Handled,
    /// A handler and SA_NOCLDWAIT: the signal is sent, but there are no zombies.
    HandledWithoutZombies,
}

impl ChildSignal {
    /// Whether children that end leave no zombie.
    pub fn forgets_children(self) -> bool {
        matches!(self, ChildSignal::Ignored | ChildSignal::HandledWithoutZombies)
    }

    /// Whether it runs a handler.
    pub fn is_handled(self) -> bool {
        matches!(self, ChildSignal::Handled | ChildSignal::HandledWithoutZombies)
    }
}

/// What a program asks for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Request {
    /// wait4(2), waitid(2).
    Wait(Wait),
    /// fork(2); which child it will be.
    Fork(Process),
    /// exit_group(2).
    Exit,
    /// exit(2), of a thread that is not its process's last.
    ExitThread,
    /// kill(2).
    Kill(Process, Signal),
    /// sigaction(2): SIGCHLD is ignored from now on.
    IgnoreChildren,
    /// PTRACE_SEIZE.
    Trace(Process),
    /// PTRACE_CONT, with the signal that stopped the tracee.
    LetGo(Process),
}

/// What the server receives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Event {
    /// A program makes a call. The server has not received it.
    Made(Thread, Request),
    /// A program's call.
    Call(Thread, Request),
    /// The kernel wants a parked call back, because its thread was interrupted.
    Cancel(Thread),
    /// An interrupted thread comes in before it runs its program; the wait it was taken out of, if it was.
    Attention(Thread, Option<Wait>),
    /// The second half of a step that a removed guard has torn in two.
    Late(Late),
}

/// What is left to do of a torn step.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Late {
    /// A wait that has looked is parked.
    Park(Thread, Wait),
    /// The parent's row says that a child has ended.
    Tell(Process, End),
}

/// What a step changes outside the server, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Effect {
    /// The kernel's task is killed, with its threads.
    KillTask(Process, End),
    /// One thread ends.
    EndThread(Thread),
    /// A new process's thread starts.
    Start(Thread),
    /// A thread is called in.
    Interrupt(Thread),
    /// A call is kept.
    Park(Thread),
    /// A call is answered.
    Answer(Thread, Answer),
    /// A thread that has come in goes on with its program.
    GoOn(Thread, Onward),
}

/// How a thread goes on that had come in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Onward {
    /// The wait its registers stand on again.
    pub again: Option<Wait>,
    /// The handler it runs first.
    pub handler: Option<Signal>,
}

/// The answer to a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Answer {
    /// Done.
    Done,
    /// A child's news.
    Child(Process, News),
    /// WNOHANG, and nothing yet.
    Nothing,
    /// ECHILD.
    NoChild,
    /// EINTR, to be made again if the handler asks for it.
    Interrupted,
    /// EPERM or ESRCH.
    Refused,
}
