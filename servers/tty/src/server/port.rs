//! The terminal's way to the serial port: when to look at it, what waits before the line discipline, and when to
//! let the port make its sender wait.
//!
//! A step reads the port as it goes, and its writes are carried out when it is over. So a step looks at most
//! once and sends at most one burst. While a burst has just been taken and more waits, it looks again at once,
//! since the port of an emulator is always ready; after [`LOOKS_MAX`] times it leaves the rest to the interrupt.

use alloc::collections::VecDeque;

use libipc::proto::terminal::Event;
use libipc::server::Operation;
use serde::{Deserialize, Serialize};

use super::Tty;
use super::turn::Turn;
use crate::signal::Signal;
use crate::uart::{Received, Uart};

/// How often the port is looked at in a row before others have their turn.
const LOOKS_MAX: u8 = 16;
/// A line on which nothing has arrived for this long is taken to be quiet.
const QUIET_NS: u64 = 50_000_000;
/// When to look again at a port that had more to say than was listened to.
const RETRY_NS: u64 = 10_000_000;
/// Most events kept for the process server, which takes them as soon as it is told.
const EVENTS_MAX: usize = 256;

/// The serial port.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Port {
    pub uart: Uart,
    /// There is one.
    pub present: bool,
    /// What was received and has no place in the line discipline yet.
    pending: VecDeque<Received>,
    /// When something last arrived.
    arrived_ns: u64,
    /// How often it was looked at in a row.
    looks: u8,
    /// When to look again without being told.
    pub retry_ns: Option<u64>,
}

impl Port {
    /// Throws away what waits before the line discipline.
    pub fn discard_input(&mut self) {
        self.pending.clear();
    }
}

impl Tty {
    /// Sets the port up.
    pub(super) fn start_port(&mut self, turn: &mut Turn) {
        match self.port.uart.init(turn) {
            Ok(()) => {
                self.port.present = true;
                turn.bind_interrupt();
                turn.acknowledge = true;
            }
            Err(error) => {
                let text = alloc::format!("tty: {error}\n").into_bytes();
                turn.out.act(Operation::Log { text });
            }
        }
    }

    /// The port has interrupted. Its line stays closed until the end of the step.
    pub(super) fn port_interrupted(&mut self, turn: &mut Turn) {
        turn.acknowledge = true;
        self.look(turn);
    }

    /// Others had their turn: the port may be looked at in a row again.
    pub(super) fn rest_port(&mut self) {
        self.port.looks = 0;
    }

    /// Looks at the port and takes what it has received.
    pub(super) fn look(&mut self, turn: &mut Turn) {
        let port = &mut self.port;
        if !port.present {
            return;
        }
        port.looks = port.looks.saturating_add(1);
        let now = turn.env.now();
        let intake = port.uart.receive(turn);
        port.retry_ns = intake.more.then_some(now.saturating_add(RETRY_NS));
        if !intake.received.is_empty() {
            port.arrived_ns = now;
        } else if now.saturating_sub(port.arrived_ns) >= QUIET_NS {
            port.uart.start_fifos(turn);
        }
        port.pending.extend(intake.received);
    }

    /// Gives the line discipline what has arrived, as far as it has room; answers whether it took anything.
    pub(super) fn take_input(&mut self, now: u64) -> bool {
        let mut took = false;
        while self.line.accepts_input()
            && let Some(received) = self.port.pending.pop_front()
        {
            self.type_in(received);
            took = true;
        }
        if took && let Some(reader) = self.readers.front_mut() {
            reader.arrived(now);
        }
        took
    }

    /// Takes one thing that arrived, or that a program pretends has.
    pub(super) fn type_in(&mut self, received: Received) {
        let out = self.port.uart.transmit();
        let actions = match received {
            Received::Byte(byte) => self.line.input(byte, out),
            Received::Damaged(byte) => self.line.input_damaged(byte, out),
            Received::Break => self.line.input_break(out),
        };
        if let Some(signal) = actions.signal {
            self.signal_foreground(signal);
        }
    }

    /// Sends what the port takes now, unless output is held.
    pub(super) fn send(&mut self, turn: &mut Turn) -> bool {
        let port = &mut self.port;
        let _ = self.line.resume(port.uart.transmit());
        port.uart.hold(self.line.output_held());
        let sent = port.present && port.uart.send(turn);
        if sent {
            let _ = self.line.resume(port.uart.transmit());
        }
        sent
    }

    /// Decides how the port is heard of next, given whether a burst was just sent.
    pub(super) fn ask_port(&mut self, sent: bool, turn: &mut Turn) {
        let port = &mut self.port;
        if !port.present {
            return;
        }
        let may_look = port.looks < LOOKS_MAX;
        let more_to_send = sent && port.uart.waiting() > 0;
        let more_to_take = port.retry_ns.is_some();
        turn.look = may_look && (more_to_send || more_to_take);
        if turn.look {
            port.retry_ns = None;
        }
        port.uart.listen(port.pending.is_empty() && self.line.accepts_input());
        port.uart.ask(turn.look && more_to_send, turn);
    }

    /// Queues a signal for the group in the foreground, if a session has the terminal.
    pub(super) fn signal_foreground(&mut self, signal: Signal) {
        if let Some(control) = self.jobs.control() {
            self.signal_group(control.foreground.0, signal);
        }
    }

    /// Queues a signal for a group. A signal that waits already is not sent twice, as everywhere.
    pub(super) fn signal_group(&mut self, pgid: u32, signal: Signal) {
        let event = Event::Signal { pgid, signal: signal.number() as u8 };
        if !self.events.contains(&event) && self.events.len() < EVENTS_MAX {
            self.events.push(event);
        }
    }
}
