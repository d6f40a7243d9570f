//! Who dies when: everything about a run that is not the same in all of them.

use std::fmt;

/// Why a server dies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cause {
    /// It is killed right after a trap of its has been carried out: between this effect and the next.
    Kill,
    /// It faults where it would have made the trap.
    Fault,
}

/// One crash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Crash {
    /// The server's number.
    pub server: u32,
    /// Its trap, counted from 1 over all its incarnations.
    pub trap: u64,
    /// How.
    pub cause: Cause,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = match self.cause {
            Cause::Kill => "",
            Cause::Fault => "!",
        };
        write!(f, "{}@{}{mark}", self.server, self.trap)
    }
}

/// A run's seed and its crashes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// What decides slices, delays and costs.
    pub seed: u64,
    /// Who dies when.
    pub crashes: Vec<Crash>,
}

impl Plan {
    /// No crash at all.
    pub fn quiet(seed: u64) -> Plan {
        Plan { seed, crashes: Vec::new() }
    }

    /// Whether a server dies at a trap, and how.
    pub fn at(&self, server: u32, trap: u64) -> Option<Cause> {
        self.crashes
            .iter()
            .find(|crash| (crash.server, crash.trap) == (server, trap))
            .map(|crash| crash.cause)
    }
}
