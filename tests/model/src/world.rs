//! The world: server, kernel and bystander together, and one event served, with a crash of the server wherever wanted.
//!
//! A step of the server is a transition of the model, its effects included. Recovery is the journal's: the event was
//! recorded with its delivery and every effect with its being carried out; the next incarnation takes the step again
//! and carries out what is not recorded.

use crate::cast::{PROCESSES, Process, THREADS};
use crate::guard::Guard;
use crate::kernel::{At, Kernel};
use crate::ledger::{Breaches, Ledger};
use crate::protocol::{Effect, Event, Request};
use crate::server::{self, Table};
use crate::setting::{Configuration, Setting};

/// A state of the model.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct State {
    /// The server's.
    pub table: Table,
    /// The kernel's.
    pub kernel: Kernel,
    /// The truth.
    pub ledger: Ledger,
}

/// A transition: an event is served, and the server dies on the way or does not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Action {
    /// What the server receives.
    pub event: Event,
    /// It dies after so many effects.
    pub crash: Option<usize>,
}

impl State {
    /// The state at the beginning.
    pub fn new(configuration: &Configuration) -> State {
        State {
            table: Table::new(configuration),
            kernel: Kernel::new(configuration),
            ledger: Ledger::new(configuration),
        }
    }

    /// Serves an event without a crash. Also answers what was done.
    pub fn serve(&mut self, setting: &Setting, event: Event) -> Vec<Effect> {
        let before = *self;
        self.deliver(event);
        let (table, effects) = server::step(setting, &self.table, event, false);
        self.table = table;
        self.carry_out(setting, event, &effects);
        self.watch_rest(&before, event);
        effects
    }

    /// Serves an event; the server dies after so many effects, and is recovered. `None` if it has no more.
    pub fn serve_and_crash(&mut self, setting: &Setting, event: Event, crash: usize) -> Option<()> {
        let before = *self;
        self.deliver(event);
        let (table, effects) = server::step(setting, &self.table, event, false);
        self.carry_out(setting, event, effects.get(..crash)?);
        if setting.keeps(Guard::RecordEvents) {
            let (replayed, effects) = server::step(setting, &before.table, event, true);
            debug_assert!(setting.without.is_some() || replayed == table);
            let recorded = match setting.without {
                Some(Guard::RecordEffects) => 0,
                Some(Guard::RecordEffectsWhenDone) => crash + 1,
                _ => crash,
            };
            self.table = replayed;
            self.carry_out(setting, event, effects.get(recorded..).unwrap_or_default());
        }
        self.watch_rest(&before, event);
        Some(())
    }

    fn deliver(&mut self, event: Event) {
        self.kernel.deliver(event);
        if let Event::Call(thread, request) = event {
            self.ledger.asked(thread.process(), request);
        }
    }

    fn carry_out(&mut self, setting: &Setting, event: Event, effects: &[Effect]) {
        let mut let_out = Vec::new();
        for effect in effects {
            match *effect {
                Effect::Interrupt(thread) if let_out.contains(&thread) => {
                    self.ledger.breaches |= Breaches::SLIPPED_OUT;
                }
                Effect::Answer(thread, _) | Effect::GoOn(thread, _) => let_out.push(thread),
                _ => {}
            }
            self.carry(setting, event, *effect);
        }
    }

    fn carry(&mut self, setting: &Setting, event: Event, effect: Effect) {
        let State { table, kernel, ledger } = self;
        match effect {
            Effect::KillTask(process, end) => {
                kernel.kill(process);
                ledger.ended(process, end, kernel, setting.configuration.subreaper);
            }
            Effect::EndThread(thread) => {
                kernel.end(thread);
                ledger.thread_ended(thread, kernel.living(thread.process()).next());
                if kernel.is_held(thread.process()) {
                    ledger.held(thread.process(), event);
                }
            }
            Effect::Start(thread) => {
                kernel.start(thread);
                if let Event::Call(maker, _) = event {
                    ledger.born(thread.process(), maker);
                }
            }
            Effect::Interrupt(thread) => kernel.interrupt(thread),
            Effect::Park(thread) => {
                kernel.park(thread);
                if kernel.is_held(thread.process()) {
                    ledger.held(thread.process(), event);
                }
            }
            Effect::Answer(thread, answer) => {
                ledger.answered(thread, answer, kernel);
                kernel.answer(thread, answer);
            }
            Effect::GoOn(thread, onward) => {
                ledger.went_on(thread, onward, setting.configuration.restarts, kernel, table);
                if kernel.is_held(thread.process()) {
                    ledger.let_go(thread.process(), event);
                }
                kernel.go_on(thread, onward);
            }
        }
    }

    /// What the kernel alone started must come to an end by itself: every event leaves less to do than there was.
    fn watch_rest(&mut self, before: &State, event: Event) {
        if !matches!(event, Event::Call(..) | Event::Made(..)) && self.unrest() >= before.unrest() {
            self.ledger.breaches |= Breaches::RESTLESS;
        }
    }

    /// How much is left to do before nothing happens but by a program's call. A process that lives can die once and
    /// tell two others; a stop can be told to two; a signal brings its taker in; a cancellation does so, too.
    fn unrest(&self) -> u32 {
        let processes = PROCESSES.into_iter().filter(|process| self.table.row(*process).lives());
        let of_processes = processes.map(|process| {
            let pending = self.table.row(process).pending;
            let stop = if pending.has(crate::protocol::Signal::Stop) { 30 } else { 0 };
            60 + 10 * pending.len() + stop
        });
        let of_threads = THREADS.into_iter().map(|thread| {
            let standing = self.kernel.thread(thread);
            let attention = matches!(standing.at, At::Attention(_) | At::Serving) || standing.interrupted;
            u32::from(attention) + 2 * u32::from(standing.cancel)
        });
        of_processes.sum::<u32>() + of_threads.sum::<u32>() + if self.table.late.is_some() { 60 } else { 0 }
    }

    /// Events that the server may receive next without a program's doing anything.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        let late = self.table.late.map(Event::Late);
        let threads = THREADS.into_iter().filter_map(|thread| {
            let standing = self.kernel.thread(thread);
            match standing.at {
                At::Queued(request) => Some(Event::Call(thread, request)),
                At::Attention(restart) => Some(Event::Attention(thread, restart)),
                _ => standing.cancel.then_some(Event::Cancel(thread)),
            }
        });
        late.into_iter().chain(threads)
    }

    /// The calls that programs may make now.
    pub fn calls(&self, configuration: &Configuration) -> Vec<Event> {
        let made = if configuration.queues { Event::Made } else { Event::Call };
        let mut calls = Vec::new();
        for thread in THREADS {
            let standing = self.kernel.thread(thread);
            let requests = match (standing.at, standing.again) {
                (At::Program, Some(request)) => vec![request],
                (At::Program, None) => self.requests(configuration, thread),
                _ => continue,
            };
            calls.extend(requests.into_iter().map(|request| made(thread, request)));
        }
        calls
    }

    fn requests(&self, configuration: &Configuration, thread: crate::cast::Thread) -> Vec<Request> {
        let own = thread.process();
        let lives = |process: &Process| self.kernel.living(*process).next().is_some();
        let mut requests: Vec<Request> = configuration.waits_of(own).map(Request::Wait).collect();
        let unborn = |child: &Process| {
            child.maker() == Some(own) && self.kernel.thread(child.threads()[0]).at == At::Unborn
        };
        if configuration.forks {
            requests.extend(PROCESSES.into_iter().find(unborn).map(Request::Fork));
        }
        if configuration.exits.contains(&own) {
            requests.push(Request::Exit);
        }
        if own == Process::Parent {
            if configuration.thread_exits && self.kernel.living(own).count() > 1 {
                requests.push(Request::ExitThread);
            }
            if configuration.may_ignore {
                requests.push(Request::IgnoreChildren);
            }
        }
        let kills = configuration.kills.iter().filter(|(from, to, _)| *from == own && lives(to));
        requests.extend(kills.map(|(_, to, signal)| Request::Kill(*to, *signal)));
        let tracees = configuration.traces.iter().filter(|(from, to)| *from == own && lives(to));
        requests.extend(tracees.flat_map(|(_, to)| [Request::Trace(*to), Request::LetGo(*to)]));
        requests
    }

    /// Of states that differ by the exchange of the twins, the lesser.
    pub fn represented(self) -> State {
        let mut other = self;
        other.table.exchange_twins();
        other.kernel.exchange_twins();
        other.ledger.exchange_twins();
        self.min(other)
    }
}
