//! Every trap that servers make in a run, a line each: when, who, the how manieth of its traps, in which incarnation,
//! and whether it was answered from the journal.

use std::collections::BTreeMap;
use std::fmt::Write;

use libipc::abi::UserRegisters;
use libipc::abi::syscall::{Syscall, THEN_RECEIVE};

use crate::incarnation::trapped;

/// A trace being written.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Vec<String>,
    /// The line of each server's last trap, whose outcome is not known yet.
    open: BTreeMap<u32, usize>,
}

impl Trace {
    /// A server makes a trap; it is its name, incarnation, and whether it is being answered from its journal.
    pub fn made(
        &mut self,
        time_ns: u64,
        number: u32,
        (name, incarnation, replays): (&str, u32, bool),
        trap: u64,
        call: u64,
        arguments: &[u64; 6],
    ) {
        let row = Syscall::from_number(call & !THEN_RECEIVE).map(Syscall::row);
        let mut line =
            format!("{time_ns:>12} {name}@{trap} ({incarnation}{}) ", if replays { " again" } else { "" });
        let known = row.map_or(6, |row| row.arguments.len());
        let _ = write!(line, "{}{:x?}", row.map_or("unknown", |row| row.name), &arguments[..known]);
        if call & THEN_RECEIVE != 0 {
            line += " + receive";
        }
        self.open.insert(number, self.lines.len());
        self.lines.push(line);
    }

    /// A server goes on: what its last trap brought.
    pub fn brought(&mut self, number: u32, registers: &UserRegisters) {
        let Some(line) = self.open.remove(&number).and_then(|place| self.lines.get_mut(place)) else {
            return;
        };
        let _ = match trapped(registers) {
            Ok([0, 0, 0, 0, 0]) => Ok(()),
            Ok(values) => write!(line, " = {values:x?}"),
            Err(error) => write!(line, " = {error}"),
        };
    }

    /// The lines.
    pub fn finish(self) -> String {
        self.lines.join("\n") + "\n"
    }
}
