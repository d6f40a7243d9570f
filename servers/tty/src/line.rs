//! The line discipline: what stands between the bytes of a terminal and the programs that read and write it.
//!
//! It owns the input that was not read yet, the echo that has not been shown, the cursor's column, and the
//! terminal's settings. It edits lines, echoes, recognises the characters that send signals or hold output,
//! and processes output. It must never wait, read a clock or touch a device: output goes into a bounded queue
//! the caller owns, waiting and timers are answers, and signals are asked for. What a program can observe is
//! what Linux's N_TTY does, and `tests/pty` holds it against a real one and lists the known differences.

mod echo;
mod erase;
mod input_buffer;
mod letters;
mod output;
mod read;
mod receive;
#[cfg(test)]
mod tests;

use libipc::server::Guarded;
use serde::{Deserialize, Serialize};

use crate::ioctl::Flow;
use crate::queue::ByteQueue;
use crate::signal::Signal;
use crate::termios::{ControlChar, InputFlags, LocalFlags, Termios};
use echo::Echoes;
use input_buffer::InputBuffer;
pub use read::{ReadOutcome, ReadTimer};

/// How many bytes of input a terminal holds; a line is at most this long, its end included.
pub const INPUT_CAPACITY: u32 = input_buffer::CAPACITY;

/// With this much output still waiting, a terminal does not count as writable, so that writers come in
/// batches.
const POLL_WRITABLE_BELOW: u32 = 256;

/// One terminal's line discipline.
///
/// Wherever a method takes `out`, it is the queue of bytes on their way to the terminal; its bound is what
/// limits echo and writes. When it has drained, call [`LineDiscipline::resume`] and try waiting writers
/// again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineDiscipline {
    termios: Guarded<Termios>,
    input: InputBuffer,
    echoes: Echoes,
    /// Where the cursor is, as far as processed output tells.
    column: u32,
    /// Where the cursor was when the first byte of the unfinished line was echoed.
    line_column: u32,
    /// The next byte is taken literally.
    literal_next: bool,
    /// A backslash was echoed for ECHOPRT and its closing slash is still due.
    erasing: bool,
    flow: OutputFlow,
}

/// Whether output may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum OutputFlow {
    Running,
    /// The stop character was typed.
    HeldByCharacter,
    /// A program asked for it with TCXONC; only a program can release it.
    HeldByRequest,
}

/// What the caller has to see to after something happened to the terminal.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Actions {
    /// Send this to the foreground process group.
    pub signal: Option<Signal>,
    /// Input is there: try the waiting readers again.
    pub readable: bool,
    /// Output can go on: try the waiting writers again.
    pub writable: bool,
}

impl LineDiscipline {
    /// A terminal with these settings on which nothing has happened.
    pub fn new(termios: Termios) -> Self {
        LineDiscipline {
            termios: Guarded::new(termios.with_fixed_framing()),
            input: InputBuffer::default(),
            echoes: Echoes::default(),
            column: 0,
            line_column: 0,
            literal_next: false,
            erasing: false,
            flow: OutputFlow::Running,
        }
    }

    /// Ends the server's incarnation if something has written over the settings.
    pub fn check(&self) {
        self.termios.check();
    }

    /// The settings, as TCGETS returns them.
    pub fn termios(&self) -> &Termios {
        &self.termios
    }

    /// Changes the settings at once, as TCSETS does. For TCSETSW wait until `out` is empty first; for TCSETSF
    /// call [`LineDiscipline::flush_input`], then wait likewise. Echo that is held back is not waited for: it
    /// leaves only when output is released, which may be never.
    ///
    /// Input that was typed in one mode stays for the other: switched to raw, all of it can be read, ends of
    /// file as zero bytes; switched to canonical, what is there counts as one finished line.
    pub fn set_termios(&mut self, termios: Termios, out: &mut ByteQueue) -> Actions {
        let old = self.termios.replace(termios.with_fixed_framing());
        if (old.local ^ self.termios.local).contains(LocalFlags::ICANON) {
            self.input.reframe(self.canonical());
            self.erasing = false;
            self.literal_next = false;
        }
        if old.input.contains(InputFlags::IXON) && !self.input_flag(InputFlags::IXON) {
            self.release_by_character();
        }
        self.show_echoes(out);
        Actions { signal: None, readable: self.has_input(), writable: self.takes_output() }
    }

    /// Throws away input that was not read: TCIFLUSH. Bytes that wait outside for a place are the caller's to
    /// throw away.
    pub fn flush_input(&mut self) {
        self.input.clear();
        self.erasing = false;
    }

    /// Throws away output that has not left: TCOFLUSH. Echo that is held back stays, as on Linux.
    pub fn flush_output(&mut self, out: &mut ByteQueue) -> Actions {
        out.clear();
        self.resume(out)
    }

    /// Holds or releases output, or asks the other end to stop or go on: TCXONC.
    pub fn control_flow(&mut self, request: Flow, out: &mut ByteQueue) -> Actions {
        match request {
            Flow::HoldOutput => self.flow = OutputFlow::HeldByRequest,
            Flow::ReleaseOutput if self.flow == OutputFlow::HeldByRequest => self.flow = OutputFlow::Running,
            Flow::ReleaseOutput => {}
            Flow::HoldInput => self.send_flow_char(ControlChar::Stop, out),
            Flow::ReleaseInput => self.send_flow_char(ControlChar::Start, out),
        }
        self.resume(out)
    }

    /// Goes on with echo that found no room, after `out` has drained.
    pub fn resume(&mut self, out: &mut ByteQueue) -> Actions {
        self.show_echoes(out);
        Actions { signal: None, readable: false, writable: self.takes_output() }
    }

    /// Whether output is held, by the stop character or by a program. A device must not send while it is.
    pub fn output_held(&self) -> bool {
        self.flow != OutputFlow::Running
    }

    /// Whether another byte of input has a place. While it has none, a sender that can wait should be made
    /// to.
    pub fn accepts_input(&self) -> bool {
        let room = self.input.room(self.input_flag(InputFlags::PARMRK));
        // An unfinished line that fills the buffer must still be able to end, or it could never be read.
        room > 0 || (self.canonical() && !self.input.has_line())
    }

    /// How many bytes wait to be read: FIONREAD. In canonical mode only finished lines count.
    pub fn readable_bytes(&self) -> u32 {
        if self.canonical() { self.input.line_bytes() } else { self.input.len() }
    }

    /// Whether `poll` reports the terminal readable.
    pub fn poll_readable(&self) -> bool {
        if self.canonical() {
            return self.input.has_line();
        }
        let min = u32::from(self.termios.char(ControlChar::Min));
        let timed = self.termios.char(ControlChar::Time) != 0;
        self.input.len() >= if timed { 1 } else { min.max(1) }
    }

    /// Whether `poll` reports the terminal writable.
    pub fn poll_writable(&self, out: &ByteQueue) -> bool {
        self.takes_output() && out.len() < POLL_WRITABLE_BELOW && out.room() > 0
    }

    /// Whether a read could return input, given that it asks for little enough.
    fn has_input(&self) -> bool {
        if self.canonical() { self.input.has_line() } else { self.input.len() > 0 }
    }

    /// Whether a write is next in turn: output runs, and no echo waits in front of it.
    fn takes_output(&self) -> bool {
        !self.output_held() && self.echoes.is_empty()
    }

    fn canonical(&self) -> bool {
        self.local_flag(LocalFlags::ICANON)
    }

    fn input_flag(&self, flag: InputFlags) -> bool {
        self.termios.input.contains(flag)
    }

    fn local_flag(&self, flag: LocalFlags) -> bool {
        self.termios.local.contains(flag)
    }

    fn hold_by_character(&mut self) {
        if self.flow == OutputFlow::Running {
            self.flow = OutputFlow::HeldByCharacter;
        }
    }

    fn release_by_character(&mut self) {
        if self.flow == OutputFlow::HeldByCharacter {
            self.flow = OutputFlow::Running;
        }
    }

    /// Sends a flow control character, past output that the stop character holds. Where a program holds
    /// output or there is no room it is lost, as on Linux.
    fn send_flow_char(&mut self, which: ControlChar, out: &mut ByteQueue) {
        let byte = self.termios.char(which);
        if byte != 0 && self.flow != OutputFlow::HeldByRequest {
            let _ = out.push(byte);
        }
    }
}
