//! The terminal server: one terminal, the console on the serial port.
//!
//! It owns the terminal's state, the open files, and the calls that wait: readers, writers and requests that wait
//! for output to leave, each in the order in which they came. A step takes one event and then lets everything go on
//! as far as it can; what comes out, and when, follows from the events alone. It must never ask the process server
//! anything: signals for process groups are queued for it to fetch, and calls by processes in the background are
//! handed to it for a decision.
//!
//! Recovery class: journaled. Every byte read from the port is a recorded trap, so a restarted server has typed
//! nothing twice and lost nothing.

mod attributes;
mod call;
mod control;
mod open;
mod port;
mod ranges;
mod read;
#[cfg(test)]
mod tests;
mod turn;
mod write;

use alloc::collections::{BTreeMap, VecDeque};

use libipc::abi::{CallId, Handle, Tag};
use libipc::linux::errno::{EINVAL, ENODEV, EPERM};
use libipc::proto::fs;
use libipc::proto::process::TERMINAL_BIT;
use libipc::proto::terminal::{Events, PERMITTED, QUERY, SESSION_BEGUN, SESSION_ENDED, TAKE_EVENTS};
use libipc::server::effect::Reason;
use libipc::server::{
    Boot, Call, Effects, Env, Event, Guarded, Message, Operation, Request, Server, TIMER_BIT,
};
use serde::{Deserialize, Serialize};

use crate::jobs::JobControl;
use crate::line::LineDiscipline;
use crate::termios::{Termios, WindowSize};
use attributes::Attributes;
use control::{Drain, LineBreak};
use open::{OpenFile, Opening};
use port::Port;
use read::Reader;
use turn::{Outcome, Refusal, Turn};
use write::Writer;

/// Rows and columns of a terminal whose size nobody has told.
const SIZE: (u16, u16) = (24, 80);
/// A time that never comes.
const NEVER: u64 = u64::MAX;

/// The server's state.
#[derive(Debug, Serialize, Deserialize)]
pub struct Tty {
    /// This server's number, part of every st_dev.
    number: u32,
    proc: Handle,
    line: LineDiscipline,
    jobs: JobControl,
    window: Guarded<WindowSize>,
    attributes: Attributes,
    port: Port,
    /// Open files by the badges of their sessions.
    opens: BTreeMap<u64, OpenFile>,
    next_badge: u64,
    /// Sessions being made.
    opening: BTreeMap<Tag, Opening>,
    next_tag: u64,
    readers: VecDeque<Reader>,
    /// When the first reader stops waiting.
    read_deadline: Option<u64>,
    writers: VecDeque<Writer>,
    drains: VecDeque<Drain>,
    line_break: Option<LineBreak>,
    /// What the process server has to fetch.
    events: Events,
    /// What the timer is set to.
    timer_ns: u64,
}

impl Tty {
    fn new_tag(&mut self) -> Tag {
        // Zero is taken: `turn::LOOK`.
        self.next_tag += 1;
        Tag(self.next_tag)
    }

    fn call(&mut self, call: &Call, turn: &mut Turn) -> Outcome {
        match &call.request {
            Request::Foreign(foreign) => return self.foreign(call, foreign, turn),
            Request::Native(message) if message.label == PERMITTED => {
                return self.permitted(call, message, turn);
            }
            Request::Native(message) => self.native(call.id, message, turn),
            Request::Fault { .. } | Request::Attention { .. } => {
                turn.out.reply(call.id, Message::label(EINVAL as u32));
            }
        }
        Ok(())
    }

    fn native(&mut self, call: CallId, message: &Message, turn: &mut Turn) {
        let [word0, word1, ..] = message.words;
        let answer = match message.label {
            fs::OPEN_DEVICE => return self.open_device(call, message, turn),
            SESSION_ENDED => return self.session_ended(call, word0, turn),
            SESSION_BEGUN => Message::label(if self.session_begun(word0, word1) { 0 } else { EPERM as u32 }),
            TAKE_EVENTS => Message::typed(0, &core::mem::take(&mut self.events)),
            QUERY => self.query(word0),
            fs::REQUEST => self.request(message),
            // A terminal has no pages to be mapped.
            fs::PAGE_IN => Message::label(ENODEV as u32),
            _ => Message::label(EINVAL as u32),
        };
        turn.out.reply(call, answer);
    }

    /// Which terminal a session has, and which group is in its foreground.
    fn query(&self, sid: u64) -> Message {
        let control = self.jobs.control().filter(|control| u64::from(control.session.0) == sid);
        let words = control.map(|control| [open::SERIAL, u64::from(control.foreground.0), 0, 0]);
        Message::words(0, words.unwrap_or_default())
    }

    fn notified(&mut self, bits: u64, turn: &mut Turn) {
        let due = self.port.retry_ns.is_some_and(|due| due <= turn.env.now());
        if bits & 1 << turn::IRQ_BIT != 0 {
            self.port_interrupted(turn);
        } else if due {
            self.look(turn);
        }
        if bits & TIMER_BIT != 0 {
            self.timer_ns = NEVER;
        }
    }

    fn cancel(&mut self, call: CallId, turn: &mut Turn) {
        self.cancel_reader(call, turn);
        self.cancel_writer(call, turn);
        self.cancel_drain(call, turn);
    }

    /// Lets everything go on as far as it can.
    fn go_on(&mut self, turn: &mut Turn) {
        let now = turn.env.now();
        loop {
            let took = self.take_input(now);
            let served = self.serve_readers(turn);
            if !took && !served {
                break;
            }
        }
        self.serve_writers(turn);
        let sent = self.send(turn);
        self.serve_drains(turn);
        self.serve_writers(turn);
        self.ask_port(sent, turn);
        self.tell_readiness(turn);
        self.set_timer(turn);
    }

    fn set_timer(&mut self, turn: &mut Turn) {
        let ends =
            [self.read_deadline, self.line_break.map(|line_break| line_break.until_ns), self.port.retry_ns];
        let deadline_ns = ends.into_iter().flatten().min().unwrap_or(NEVER);
        if deadline_ns != self.timer_ns {
            self.timer_ns = deadline_ns;
            turn.out.act(Operation::TimerSet { deadline_ns });
        }
    }

    /// What a call waits for, if it does.
    fn waits(&self, call: CallId) -> Option<Reason> {
        if self.readers.iter().any(|reader| reader.call == call) {
            Some(Reason::Input)
        } else if self.writers.iter().any(|writer| writer.call == call) || self.is_draining(call) {
            Some(Reason::Output)
        } else {
            None
        }
    }
}

impl Server for Tty {
    const SCHEMA: u32 = 2;

    fn new(boot: &Boot) -> Tty {
        let told: Option<(u16, u16)> = postcard::from_bytes(&boot.config).ok();
        let (rows, columns) = told.filter(|(rows, columns)| *rows != 0 && *columns != 0).unwrap_or(SIZE);
        let born_ns = i64::try_from(boot.epoch_s).unwrap_or(0).saturating_mul(1_000_000_000);
        Tty {
            number: boot.number,
            proc: boot.server("proc"),
            line: LineDiscipline::new(Termios::console()),
            jobs: JobControl::default(),
            window: Guarded::new(WindowSize { rows, columns, ..WindowSize::default() }),
            attributes: Attributes::new(born_ns),
            port: Port::default(),
            opens: BTreeMap::new(),
            next_badge: 1,
            opening: BTreeMap::new(),
            next_tag: 0,
            readers: VecDeque::new(),
            read_deadline: None,
            writers: VecDeque::new(),
            drains: VecDeque::new(),
            line_break: None,
            events: Events::new(),
            timer_ns: NEVER,
        }
    }

    fn step(&mut self, event: &Event, env: &mut dyn Env) -> Effects {
        self.line.check();
        self.window.check();
        let mut turn = Turn::new(env);
        let had_events = !self.events.is_empty();
        match event {
            Event::Start => self.start_port(&mut turn),
            Event::Call(call) => match self.call(call, &mut turn) {
                Ok(()) => {}
                Err(Refusal::Again) => return Effects::again(),
                Err(Refusal::Errno(errno)) => {
                    turn.out.result(call.id, -i64::from(errno));
                }
            },
            Event::Done { tag: turn::LOOK, .. } => self.look(&mut turn),
            Event::Done { tag, result } => self.opened(*tag, *result, &mut turn),
            Event::Notify { bits } => self.notified(*bits, &mut turn),
            Event::Cancel { call } => self.cancel(*call, &mut turn),
            Event::LastClose { badge, owner } => self.closed(*badge, *owner, &mut turn),
            Event::Lost { handle } => self.lost(*handle, &mut turn),
            // This server sends no calls and watches no descriptors.
            Event::Answer { .. } | Event::Watch { .. } | Event::Watched { .. } | Event::Unclaimed { .. } => {}
        }
        if !matches!(event, Event::Done { tag: turn::LOOK, .. }) {
            self.rest_port();
        }
        self.go_on(&mut turn);
        if let Event::Call(call) = event
            && let Some(reason) = self.waits(call.id)
        {
            turn.out.park(call.id, reason);
        }
        if !had_events && !self.events.is_empty() {
            turn.out.act(Operation::Notify { handle: self.proc, bits: 1 << TERMINAL_BIT });
        }
        turn.finish()
    }
}
