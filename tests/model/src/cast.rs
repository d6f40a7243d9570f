//! Who takes part: five processes and their six threads, and init, which is nobody here.

/// A process of the model. Its place in this list is also its age: of children with news a wait takes the oldest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Process {
    /// The parent, a child of init, with two threads.
    Parent,
    /// Its child that has a child of its own.
    First,
    /// Another child.
    Second,
    /// The third child: in some configurations it traces its siblings.
    Third,
    /// The child of the first child.
    Grandchild,
}

/// All processes, oldest first.
pub const PROCESSES: [Process; 5] =
    [Process::Parent, Process::First, Process::Second, Process::Third, Process::Grandchild];

/// A thread of the model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Thread {
    /// The parent's first thread: it takes the parent's signals while it lives.
    Main,
    /// The parent's other thread.
    Helper,
    /// The first child's only thread.
    First,
    /// The second child's.
    Second,
    /// The third child's.
    Third,
    /// The grandchild's.
    Grandchild,
}

/// All threads, those of a process together, oldest first.
pub const THREADS: [Thread; 6] =
    [Thread::Main, Thread::Helper, Thread::First, Thread::Second, Thread::Third, Thread::Grandchild];

impl Process {
    /// Its threads, dead or alive.
    pub const fn threads(self) -> &'static [Thread] {
        match self {
            Process::Parent => &[Thread::Main, Thread::Helper],
            Process::First => &[Thread::First],
            Process::Second => &[Thread::Second],
            Process::Third => &[Thread::Third],
            Process::Grandchild => &[Thread::Grandchild],
        }
    }

    /// Who makes it; `None` for init.
    pub const fn maker(self) -> Option<Process> {
        match self {
            Process::Parent => None,
            Process::First | Process::Second | Process::Third => Some(Process::Parent),
            Process::Grandchild => Some(Process::First),
        }
    }
}

impl Thread {
    /// Whose thread it is.
    pub const fn process(self) -> Process {
        match self {
            Thread::Main | Thread::Helper => Process::Parent,
            Thread::First => Process::First,
            Thread::Second => Process::Second,
            Thread::Third => Process::Third,
            Thread::Grandchild => Process::Grandchild,
        }
    }
}
