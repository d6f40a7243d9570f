//! Reading: a finished line at a time, or in raw mode as many bytes as VMIN and VTIME ask for.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::LineDiscipline;
use crate::termios::ControlChar;

/// What a read comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The read returns these bytes; none at all is the end of the file, or in raw mode that nothing was
    /// there.
    Bytes(Vec<u8>),
    /// The read has to wait for input, or for the timer if there is one.
    Wait(ReadTimer),
}

/// What a waiting read waits for besides input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadTimer {
    /// Nothing: only input ends it.
    None,
    /// This many tenths of a second since the read began, and it returns nothing.
    SinceRead(u8),
    /// This many tenths of a second since input last arrived, and it returns what there is. Start it afresh
    /// on every arrival.
    SinceInput(u8),
}

impl LineDiscipline {
    /// Reads at most `max_bytes`. Reading no bytes at all never waits.
    ///
    /// When a wait is over without input enough, because the timer ran out, a signal came or the file is not
    /// to be waited on, [`LineDiscipline::read_waiting`] says what the read returns.
    pub fn read(&mut self, max_bytes: u32) -> ReadOutcome {
        if max_bytes == 0 {
            return ReadOutcome::Bytes(Vec::new());
        }
        if self.canonical() {
            return match self.input.take_line(max_bytes) {
                Some(bytes) => ReadOutcome::Bytes(bytes),
                None => ReadOutcome::Wait(ReadTimer::None),
            };
        }
        let min = u32::from(self.termios.char(ControlChar::Min));
        let time = self.termios.char(ControlChar::Time);
        let waiting = self.input.len();
        if waiting >= min.clamp(1, max_bytes) {
            return ReadOutcome::Bytes(self.input.take_bytes(max_bytes));
        }
        match (min, time) {
            (0, 0) => ReadOutcome::Bytes(Vec::new()),
            (0, time) => ReadOutcome::Wait(ReadTimer::SinceRead(time)),
            (_, time) if time > 0 && waiting > 0 => ReadOutcome::Wait(ReadTimer::SinceInput(time)),
            _ => ReadOutcome::Wait(ReadTimer::None),
        }
    }

    /// What a read that will not wait any longer returns: fewer bytes than VMIN asked for, or none, which
    /// after a timer is an empty read, after a signal EINTR, and for a file that is not waited on EAGAIN.
    pub fn read_waiting(&mut self, max_bytes: u32) -> Vec<u8> {
        if self.canonical() { Vec::new() } else { self.input.take_bytes(max_bytes) }
    }
}
