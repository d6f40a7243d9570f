//! The server's state: what a crash takes away and a replay brings back.

use crate::cast::{PROCESSES, Process, THREADS, Thread};
use crate::protocol::{ChildSignal, End, Late, News, Options, Signals, Wait};
use crate::setting::Configuration;

/// Where a process is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Life {
    /// Not made yet.
    Unborn,
    /// Its threads run.
    Running,
    /// A stop was taken; not all threads are held.
    Stopping,
    /// All threads are held.
    Stopped,
    /// Ended, and its row does not say so yet.
    Dying,
    /// Ended, for somebody to reap.
    Zombie(End),
    /// No more.
    Gone,
}

/// A row of the process table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Row {
    /// Where it is in its life.
    pub life: Life,
    /// Its parent; `None` for init.
    pub parent: Option<Process>,
    /// The thread of its parent that it belongs to.
    pub creator: Thread,
    /// What its parent has not been told.
    pub news: Option<News>,
    /// Pending signals.
    pub pending: Signals,
    /// What it does about SIGCHLD.
    pub child_signal: ChildSignal,
    /// Who traces it.
    pub tracer: Option<Process>,
    /// What its tracer has not been told.
    pub trace_news: Option<News>,
    /// It waits for its tracer's leave to stop.
    pub trapped: bool,
}

impl Row {
    /// Whether it has threads.
    pub fn lives(&self) -> bool {
        matches!(self.life, Life::Running | Life::Stopping | Life::Stopped)
    }

    /// Whether it is a zombie.
    pub fn is_zombie(&self) -> bool {
        matches!(self.life, Life::Zombie(_))
    }

    /// Whether it can be named.
    pub fn is_visible(&self) -> bool {
        !matches!(self.life, Life::Unborn | Life::Gone)
    }

    /// Whether its threads are held up.
    pub fn is_stopping(&self) -> bool {
        matches!(self.life, Life::Stopping | Life::Stopped)
    }
}

/// What the server keeps a thread's call for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum On {
    /// It keeps none.
    Nothing,
    /// A wait, and how many waits of all came before it.
    Child(Wait, u8),
    /// The thread has come in, and is held.
    Held,
}

/// The server's side of a thread.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ThreadRow {
    /// Whether there is one.
    pub lives: bool,
    /// What its call is kept for.
    pub on: On,
    /// It has been called in, and has not come yet.
    pub called: bool,
    /// The wait it was taken out of before it was held.
    pub carried: Option<Wait>,
}

/// The server's state.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Table {
    /// The processes.
    pub rows: [Row; PROCESSES.len()],
    /// Their threads.
    pub threads: [ThreadRow; THREADS.len()],
    /// What is left to do of a step that was torn in two. None is, unless a guard is missing.
    pub late: Option<Late>,
}

impl Table {
    /// The table at the beginning.
    pub fn new(configuration: &Configuration) -> Table {
        let row = |process: Process| Row {
            life: if configuration.born.contains(&process) { Life::Running } else { Life::Unborn },
            parent: process.maker(),
            creator: process.maker().map_or(Thread::Main, |maker| maker.threads()[0]),
            news: None,
            pending: Signals::default(),
            child_signal: configuration.child_signal,
            tracer: None,
            trace_news: None,
            trapped: false,
        };
        let thread = |thread: Thread| ThreadRow {
            lives: configuration.born.contains(&thread.process()),
            on: On::Nothing,
            called: false,
            carried: None,
        };
        Table { rows: PROCESSES.map(row), threads: THREADS.map(thread), late: None }
    }

    /// A process's row.
    pub fn row(&self, process: Process) -> &Row {
        &self.rows[process as usize]
    }

    /// A process's row, to be changed.
    pub fn row_mut(&mut self, process: Process) -> &mut Row {
        &mut self.rows[process as usize]
    }

    /// A thread's row.
    pub fn thread(&self, thread: Thread) -> &ThreadRow {
        &self.threads[thread as usize]
    }

    /// A thread's row, to be changed.
    pub fn thread_mut(&mut self, thread: Thread) -> &mut ThreadRow {
        &mut self.threads[thread as usize]
    }

    /// The living threads of a process.
    pub fn living(&self, process: Process) -> impl Iterator<Item = Thread> + '_ {
        process.threads().iter().copied().filter(|thread| self.thread(*thread).lives)
    }

    /// The parked waits, the oldest first.
    pub fn waits(&self) -> impl Iterator<Item = (Thread, Wait)> + '_ {
        (0..THREADS.len() as u8).filter_map(|rank| {
            THREADS.into_iter().find_map(|thread| match self.thread(thread).on {
                On::Child(wait, ticket) if ticket == rank => Some((thread, wait)),
                _ => None,
            })
        })
    }

    /// Puts a wait behind all others.
    pub fn enlist(&mut self, thread: Thread, wait: Wait) {
        let ticket = self.waits().count() as u8;
        self.thread_mut(thread).on = On::Child(wait, ticket);
    }

    /// Takes a thread's call from wherever it is kept. Those behind it move up, so that states do not differ by the
    /// numbers of tickets.
    pub fn release(&mut self, thread: Thread) {
        let on = core::mem::replace(&mut self.thread_mut(thread).on, On::Nothing);
        let On::Child(_, left) = on else { return };
        for row in &mut self.threads {
            if let On::Child(_, ticket) = &mut row.on
                && *ticket > left
            {
                *ticket -= 1;
            }
        }
    }

    /// As what a wait of a process could be told of another: its tracee, its child, or nothing at all.
    pub fn role(&self, waiter: Process, child: Process) -> Option<Role> {
        let row = self.row(child);
        match row.is_visible() {
            true if row.tracer == Some(waiter) => Some(Role::Tracer),
            true if row.parent == Some(waiter) => Some(Role::Parent),
            _ => None,
        }
    }

    /// Exchanges the second and the third child.
    pub fn exchange_twins(&mut self) {
        self.rows.swap(Process::Second as usize, Process::Third as usize);
        self.threads.swap(Thread::Second as usize, Thread::Third as usize);
    }
}

/// In which capacity a process is told.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// As its tracer.
    Tracer,
    /// As its parent.
    Parent,
}

impl Row {
    /// What there is to tell somebody of it.
    pub fn news_for(&self, role: Role) -> Option<News> {
        match role {
            Role::Tracer => self.trace_news,
            Role::Parent => self.news,
        }
    }
}

/// Whether a wait in some role is for such news: a tracer is told of stops without asking.
pub fn is_for(wait: Wait, role: Role, news: News) -> bool {
    wait.asks_for(news) || (role == Role::Tracer && news == News::Stopped)
}

/// Whether a wait can hope for news of a row: of a zombie only when it waits for ends.
pub fn hopes(wait: Wait, row: &Row) -> bool {
    !row.is_zombie() || wait.options.contains(Options::EXITED)
}
