//! The kernel's side: where each thread stands, and what becomes of it when effects are carried out.

use crate::cast::{Process, THREADS, Thread};
use crate::protocol::{Answer, Event, Late, Onward, Request, Wait};
use crate::setting::Configuration;

/// Where a thread stands.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum At {
    /// There is no such thread yet.
    Unborn,
    /// In its program.
    Program,
    /// In a call that the server has not received.
    Queued(Request),
    /// In a call that the server has received.
    Call(Request),
    /// It is to come in, and the server has not heard of it. The wait it was just taken out of.
    Attention(Option<Wait>),
    /// It has come in, and the server serves it.
    Serving,
    /// It has come in, and the server keeps it.
    Held,
    /// It is dead.
    Dead,
}

/// A thread as the kernel knows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Standing {
    /// Where it stands.
    pub at: At,
    /// It comes in before it next runs its program.
    pub interrupted: bool,
    /// The server is to be asked for its call.
    pub cancel: bool,
    /// The wait it was taken out of, while it is open whether it makes it again.
    pub owed: Option<Wait>,
    /// The call that its registers stand on: the next thing it does.
    pub again: Option<Request>,
}

impl Standing {
    const fn at(at: At) -> Standing {
        Standing { at, interrupted: false, cancel: false, owed: None, again: None }
    }
}

/// All threads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Kernel {
    threads: [Standing; THREADS.len()],
}

impl Kernel {
    /// The threads at the beginning: in their programs.
    pub fn new(configuration: &Configuration) -> Kernel {
        let born = |thread: Thread| configuration.born.contains(&thread.process());
        let standing = |thread| Standing::at(if born(thread) { At::Program } else { At::Unborn });
        Kernel { threads: THREADS.map(standing) }
    }

    /// A thread.
    pub fn thread(&self, thread: Thread) -> &Standing {
        &self.threads[thread as usize]
    }

    fn thread_mut(&mut self, thread: Thread) -> &mut Standing {
        &mut self.threads[thread as usize]
    }

    /// The living threads of a process.
    pub fn living(&self, process: Process) -> impl Iterator<Item = Thread> + '_ {
        let lives = |thread: &Thread| !matches!(self.thread(*thread).at, At::Unborn | At::Dead);
        process.threads().iter().copied().filter(lives)
    }

    /// Whether a process has threads, and all of them are held.
    pub fn is_held(&self, process: Process) -> bool {
        let held = |thread| self.thread(thread).at == At::Held;
        self.living(process).next().is_some() && self.living(process).all(held)
    }

    /// Something happens: the server receives an event, or a program makes a call.
    pub fn deliver(&mut self, event: Event) {
        match event {
            Event::Made(thread, request) => {
                let standing = self.thread_mut(thread);
                (standing.at, standing.again) = (At::Queued(request), None);
            }
            Event::Call(thread, request) => {
                let standing = self.thread_mut(thread);
                (standing.at, standing.again) = (At::Call(request), None);
            }
            Event::Cancel(thread) => self.thread_mut(thread).cancel = false,
            Event::Attention(thread, _) => self.thread_mut(thread).at = At::Serving,
            Event::Late(Late::Park(..) | Late::Tell(..)) => {}
        }
    }

    pub(crate) fn kill(&mut self, process: Process) {
        process.threads().iter().for_each(|thread| self.end(*thread));
    }

    pub(crate) fn end(&mut self, thread: Thread) {
        *self.thread_mut(thread) = Standing::at(At::Dead);
    }

    pub(crate) fn start(&mut self, thread: Thread) {
        *self.thread_mut(thread) = Standing::at(At::Program);
    }

    /// A thread is called in: at once from its program, later from a call that the server is asked for.
    pub(crate) fn interrupt(&mut self, thread: Thread) {
        let standing = self.thread_mut(thread);
        match standing.at {
            At::Program => standing.at = At::Attention(None),
            // A call that the server has not received is taken back, to be made again whatever happens.
            At::Queued(request) => (standing.at, standing.again) = (At::Attention(None), Some(request)),
            At::Call(_) => {
                standing.cancel = !standing.interrupted;
                standing.interrupted = true;
            }
            At::Attention(_) | At::Serving | At::Held => standing.interrupted = true,
            At::Unborn | At::Dead => {}
        }
    }

    pub(crate) fn park(&mut self, thread: Thread) {
        let standing = self.thread_mut(thread);
        if standing.at == At::Serving {
            standing.at = At::Held;
        }
    }

    /// A thread's call is answered.
    pub(crate) fn answer(&mut self, thread: Thread, answer: Answer) {
        let standing = self.thread_mut(thread);
        let At::Call(request) = standing.at else { return };
        standing.cancel = false;
        let taken_out = match request {
            Request::Wait(wait) => Some(wait).filter(|_| answer == Answer::Interrupted),
            _ => None,
        };
        standing.owed = taken_out;
        self.leave(thread, taken_out);
    }

    /// A thread that has come in goes on.
    pub(crate) fn go_on(&mut self, thread: Thread, onward: Onward) {
        let standing = self.thread_mut(thread);
        if let Some(wait) = onward.again {
            (standing.again, standing.owed) = (Some(Request::Wait(wait)), None);
        }
        if onward.handler.is_some() {
            standing.owed = None;
        }
        self.leave(thread, None);
    }

    /// A thread is about to run its program: one that was interrupted comes in first.
    fn leave(&mut self, thread: Thread, taken_out: Option<Wait>) {
        let standing = self.thread_mut(thread);
        standing.at = match std::mem::take(&mut standing.interrupted) {
            true => At::Attention(taken_out),
            false => At::Program,
        };
        if standing.at == At::Program && taken_out.is_some() {
            // Its call was ended for an interruption that nobody then wanted.
            (standing.again, standing.owed) = (taken_out.map(Request::Wait), None);
        }
    }

    /// Exchanges the threads of the second and the third child.
    pub(crate) fn exchange_twins(&mut self) {
        self.threads.swap(Thread::Second as usize, Thread::Third as usize);
    }
}
