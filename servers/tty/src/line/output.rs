//! Output processing: what becomes of the bytes programs write.

use super::LineDiscipline;
use super::letters::{is_continuation, is_control, to_upper};
use crate::queue::ByteQueue;
use crate::termios::{InputFlags, OutputFlags};

impl LineDiscipline {
    /// Writes bytes to the terminal and answers how many were taken; the rest does not fit now, or output is
    /// held, and is to be written again when [`super::Actions::writable`] says so or `out` has drained.
    pub fn write(&mut self, bytes: &[u8], out: &mut ByteQueue) -> u32 {
        self.show_echoes(out);
        if !self.takes_output() {
            return 0;
        }
        let mut taken = 0;
        for byte in bytes {
            if !self.emit(*byte, out) {
                break;
            }
            taken += 1;
        }
        taken
    }

    /// Sends one byte through output processing, or changes nothing and answers false where there is no room.
    pub(super) fn emit(&mut self, byte: u8, out: &mut ByteQueue) -> bool {
        if !self.output_flag(OutputFlags::OPOST) {
            return out.push(byte);
        }
        if out.room() == 0 {
            return false;
        }
        match byte {
            b'\n' => self.emit_newline(out),
            b'\r' => self.emit_return(out),
            b'\t' => self.emit_tab(out),
            b'\x08' => {
                self.column = self.column.saturating_sub(1);
                out.push(byte)
            }
            _ if is_control(byte) => out.push(byte),
            _ => {
                let byte = if self.output_flag(OutputFlags::OLCUC) { to_upper(byte) } else { byte };
                if !(self.input_flag(InputFlags::IUTF8) && is_continuation(byte)) {
                    self.column = self.column.wrapping_add(1);
                }
                out.push(byte)
            }
        }
    }

    fn emit_newline(&mut self, out: &mut ByteQueue) -> bool {
        if self.output_flag(OutputFlags::ONLCR) {
            let sent = out.push_all(b"\r\n");
            if sent {
                self.column = 0;
                self.line_column = 0;
            }
            return sent;
        }
        if self.output_flag(OutputFlags::ONLRET) {
            self.column = 0;
        }
        self.line_column = self.column;
        out.push(b'\n')
    }

    fn emit_return(&mut self, out: &mut ByteQueue) -> bool {
        if self.output_flag(OutputFlags::ONOCR) && self.column == 0 {
            return true;
        }
        let becomes_newline = self.output_flag(OutputFlags::OCRNL);
        if !becomes_newline || self.output_flag(OutputFlags::ONLRET) {
            self.column = 0;
            self.line_column = 0;
        }
        out.push(if becomes_newline { b'\n' } else { b'\r' })
    }

    fn emit_tab(&mut self, out: &mut ByteQueue) -> bool {
        let width = 8 - self.column % 8;
        let expand = (self.termios.output & OutputFlags::TABDLY) == OutputFlags::XTABS;
        let sent = if expand { out.push_all(&[b' '; 8][..width as usize]) } else { out.push(b'\t') };
        if sent {
            self.column = self.column.wrapping_add(width);
        }
        sent
    }

    fn output_flag(&self, flag: OutputFlags) -> bool {
        self.termios.output.contains(flag)
    }
}
