//! The server: a table, and steps that change it and say what is to change outside.
//!
//! It is the process server's protocol between parents and children (`servers/proc`), function for function, with
//! everything left out that waits cannot tell apart: memory, groups, sessions, credentials, time. It knows nothing of
//! the truth that the properties are about; that is the ledger's.

mod exit;
mod signal;
mod table;
mod trace;
mod wait;

pub use table::{Life, On, Role, Row, Table, ThreadRow, hopes, is_for};

use crate::cast::{Process, Thread};
use crate::guard::Guard;
use crate::protocol::{Answer, Effect, Event, Late, Request};
use crate::setting::Setting;

/// A step in progress.
pub struct Turn<'a> {
    setting: &'a Setting,
    /// The table as it is by now.
    pub table: Table,
    /// What is to be done outside, in order.
    pub effects: Vec<Effect>,
    /// A new incarnation takes this step again.
    replayed: bool,
}

/// Serves one event: the new table, and what is to be done.
pub fn step(setting: &Setting, table: &Table, event: Event, replayed: bool) -> (Table, Vec<Effect>) {
    let mut turn = Turn { setting, table: *table, effects: Vec::new(), replayed };
    match event {
        // Nothing that the server hears of.
        Event::Made(..) => {}
        Event::Call(thread, request) => turn.call(thread, request),
        Event::Cancel(thread) => turn.cancel(thread),
        Event::Attention(thread, restart) => turn.attention(thread, restart),
        Event::Late(late) => turn.late(late),
    }
    (turn.table, turn.effects)
}

impl Turn<'_> {
    fn keeps(&self, guard: Guard) -> bool {
        self.setting.keeps(guard)
    }

    fn act(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn answer(&mut self, thread: Thread, answer: Answer) {
        self.act(Effect::Answer(thread, answer));
    }

    fn call(&mut self, thread: Thread, request: Request) {
        let own = thread.process();
        match request {
            Request::Wait(wait) => self.wait(thread, wait),
            Request::Fork(child) => self.fork(thread, child),
            Request::Exit => self.finish(own, crate::protocol::End::Exited),
            Request::ExitThread => self.exit_thread(thread),
            Request::Kill(target, _) if !self.table.row(target).is_visible() => {
                self.answer(thread, Answer::Refused);
            }
            Request::Kill(target, signal) => {
                self.send(target, signal);
                self.answer(thread, Answer::Done);
            }
            Request::IgnoreChildren => {
                self.ignore_children(own);
                self.answer(thread, Answer::Done);
            }
            Request::Trace(target) => self.trace(thread, target),
            Request::LetGo(target) => self.let_tracee_go(thread, target),
        }
    }

    fn late(&mut self, late: Late) {
        self.table.late = None;
        match late {
            Late::Park(thread, wait) => {
                self.table.enlist(thread, wait);
                self.act(Effect::Park(thread));
            }
            Late::Tell(process, end) => {
                self.bury_or_keep(process, end);
                self.offer(process);
            }
        }
    }

    /// The child is published: it is its parent's, and runs.
    fn fork(&mut self, thread: Thread, child: Process) {
        let maker = thread.process();
        let child_signal = self.table.row(maker).child_signal;
        let row = self.table.row_mut(child);
        row.life = Life::Running;
        row.parent = Some(maker);
        row.creator = thread;
        row.child_signal = child_signal;
        let first = child.threads()[0];
        self.table.thread_mut(first).lives = true;
        self.act(Effect::Start(first));
        self.answer(thread, Answer::Done);
    }
}
