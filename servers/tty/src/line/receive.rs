//! Receiving: each byte that arrives is a signal, an order to edit or to hold output, or input.

use super::echo::Echo;
use super::erase::Erase;
use super::input_buffer::END_OF_FILE;
use super::letters::to_lower;
use super::{Actions, LineDiscipline};
use crate::queue::ByteQueue;
use crate::signal::Signal;
use crate::termios::{ControlChar, InputFlags, LocalFlags};

/// Marks an error in the input where the reader asked for marks; doubled, it is itself.
const MARK: u8 = 0xff;

impl LineDiscipline {
    /// Takes a byte that arrived. Where the input is full ([`LineDiscipline::accepts_input`]) it is lost,
    /// with a bell if IMAXBEL asks for one.
    pub fn input(&mut self, byte: u8, out: &mut ByteQueue) -> Actions {
        self.arrive(out, |line, out| line.receive(byte, out))
    }

    /// Takes a break condition.
    pub fn input_break(&mut self, out: &mut ByteQueue) -> Actions {
        self.arrive(out, |line, out| {
            line.literal_next = false;
            if line.input_flag(InputFlags::IGNBRK) {
                return None;
            }
            if line.input_flag(InputFlags::BRKINT) {
                line.flush_for_signal(out);
                return Some(Signal::Interrupt);
            }
            if line.input_flag(InputFlags::PARMRK) {
                line.input.push(MARK);
                line.input.push(0);
            }
            line.input.push(0);
            None
        })
    }

    /// Takes a byte that arrived with a parity or framing error.
    pub fn input_damaged(&mut self, byte: u8, out: &mut ByteQueue) -> Actions {
        self.arrive(out, |line, _| {
            line.literal_next = false;
            let checks = line.input_flag(InputFlags::INPCK);
            if checks && line.input_flag(InputFlags::IGNPAR) {
                return None;
            }
            let marks = checks && line.input_flag(InputFlags::PARMRK);
            if marks {
                line.input.push(MARK);
                line.input.push(0);
            }
            line.input.push(if checks && !marks { 0 } else { byte });
            None
        })
    }

    fn arrive(
        &mut self,
        out: &mut ByteQueue,
        take: impl FnOnce(&mut Self, &mut ByteQueue) -> Option<Signal>,
    ) -> Actions {
        if !self.accepts_input() {
            if self.input_flag(InputFlags::IMAXBEL) {
                self.echo_bytes(b"\x07");
                self.show_echoes(out);
            }
            return Actions::default();
        }
        let was_held = self.output_held();
        self.input.make_place();
        let signal = take(self, out);
        self.show_echoes(out);
        Actions {
            signal,
            readable: self.has_input(),
            writable: self.takes_output() && (was_held || signal.is_some()),
        }
    }

    fn receive(&mut self, byte: u8, out: &mut ByteQueue) -> Option<Signal> {
        let byte = self.fold(byte);
        let literal = core::mem::take(&mut self.literal_next);
        if !literal {
            if self.is_flow_control(byte) {
                return None;
            }
            if let Some(signal) = self.signal_for(byte) {
                self.take_signal_char(byte, out);
                return Some(signal);
            }
        }
        if self.input_flag(InputFlags::IXON | InputFlags::IXANY) {
            self.release_by_character();
        }
        if literal {
            self.take_ordinary(byte);
            return None;
        }
        match self.translate(byte) {
            None => {}
            Some(byte) if self.canonical() && self.edit(byte) => {}
            Some(b'\n') if byte == b'\r' => self.take_returned_newline(),
            Some(byte) => self.take_ordinary(byte),
        }
        None
    }

    /// Strips the eighth bit and folds case where the settings ask for it.
    fn fold(&self, byte: u8) -> u8 {
        let byte = if self.input_flag(InputFlags::ISTRIP) { byte & 0x7f } else { byte };
        let folds = self.input_flag(InputFlags::IUCLC) && self.local_flag(LocalFlags::IEXTEN);
        if folds { to_lower(byte) } else { byte }
    }

    /// Carriage return and newline as the settings exchange them; none where the byte is dropped.
    fn translate(&self, byte: u8) -> Option<u8> {
        match byte {
            b'\r' if self.input_flag(InputFlags::IGNCR) => None,
            b'\r' if self.input_flag(InputFlags::ICRNL) => Some(b'\n'),
            b'\n' if self.input_flag(InputFlags::INLCR) => Some(b'\r'),
            _ => Some(byte),
        }
    }

    /// Holds or releases output if the byte is there for that.
    fn is_flow_control(&mut self, byte: u8) -> bool {
        if !self.input_flag(InputFlags::IXON) {
            return false;
        }
        if self.termios.is(ControlChar::Start, byte) {
            self.release_by_character();
        } else if self.termios.is(ControlChar::Stop, byte) {
            self.hold_by_character();
        } else {
            return false;
        }
        true
    }

    fn signal_for(&self, byte: u8) -> Option<Signal> {
        if !self.local_flag(LocalFlags::ISIG) {
            return None;
        }
        [
            (ControlChar::Interrupt, Signal::Interrupt),
            (ControlChar::Quit, Signal::Quit),
            (ControlChar::Suspend, Signal::Suspend),
        ]
        .into_iter()
        .find_map(|(which, signal)| self.termios.is(which, byte).then_some(signal))
    }

    fn take_signal_char(&mut self, byte: u8, out: &mut ByteQueue) {
        self.flush_for_signal(out);
        if self.input_flag(InputFlags::IXON) {
            self.release_by_character();
        }
        if self.local_flag(LocalFlags::ECHO) {
            self.echo_char(byte);
        }
    }

    /// A signal throws away what was typed and what was about to be shown, unless NOFLSH keeps it.
    fn flush_for_signal(&mut self, out: &mut ByteQueue) {
        if !self.local_flag(LocalFlags::NOFLSH) {
            self.flush_input();
            self.echoes.clear();
            out.clear();
        }
    }

    /// Does what the byte orders in canonical mode; false where it is input like any other.
    fn edit(&mut self, byte: u8) -> bool {
        let extended = self.local_flag(LocalFlags::IEXTEN);
        let echo = self.local_flag(LocalFlags::ECHO);
        let is = |which| self.termios.is(which, byte);
        if is(ControlChar::Erase) {
            self.erase(Erase::Character);
        } else if extended && is(ControlChar::WordErase) {
            self.erase(Erase::Word);
        } else if is(ControlChar::Kill) {
            self.erase(Erase::Line);
        } else if extended && is(ControlChar::LiteralNext) {
            self.take_literal_next();
        } else if extended && echo && is(ControlChar::Reprint) {
            self.reprint(byte);
        } else if byte == b'\n' {
            if echo || self.local_flag(LocalFlags::ECHONL) {
                self.echo_bytes(b"\n");
            }
            self.input.finish_line(byte);
        } else if is(ControlChar::EndOfFile) {
            self.input.finish_line(END_OF_FILE);
        } else if is(ControlChar::EndOfLine) || (extended && is(ControlChar::EndOfLine2)) {
            self.end_line_with(byte);
        } else {
            return false;
        }
        true
    }

    fn take_literal_next(&mut self) {
        self.literal_next = true;
        if self.local_flag(LocalFlags::ECHO) {
            self.finish_erasing();
            if self.local_flag(LocalFlags::ECHOCTL) {
                self.echo_bytes(b"^\x08");
            }
        }
    }

    fn reprint(&mut self, byte: u8) {
        self.finish_erasing();
        self.echo_char(byte);
        self.echo_bytes(b"\n");
        let line: alloc::vec::Vec<u8> = self.input.unfinished().collect();
        for byte in line {
            self.echo_char(byte);
        }
    }

    fn end_line_with(&mut self, byte: u8) {
        if self.local_flag(LocalFlags::ECHO) {
            self.mark_line_start();
            self.echo_char(byte);
        }
        if byte == MARK && self.input_flag(InputFlags::PARMRK) {
            self.input.push(byte);
        }
        self.input.finish_line(byte);
    }

    /// A newline that a carriage return became, in raw mode: it moves the cursor rather than showing as `^J`.
    fn take_returned_newline(&mut self) {
        if self.local_flag(LocalFlags::ECHO) {
            self.finish_erasing();
            self.echo_bytes(b"\n");
        }
        self.input.push(b'\n');
    }

    fn take_ordinary(&mut self, byte: u8) {
        if self.local_flag(LocalFlags::ECHO) {
            self.finish_erasing();
            self.mark_line_start();
            self.echo_char(byte);
        }
        if byte == MARK && self.input_flag(InputFlags::PARMRK) {
            self.input.push(byte);
        }
        self.input.push(byte);
    }

    fn mark_line_start(&mut self) {
        if self.input.unfinished_len() == 0 {
            self.echoes.push(Echo::MarkLine);
        }
    }
}
