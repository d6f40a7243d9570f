//! What the process server asks of the terminal server, and what a terminal has to say upward.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Takes the queued events: answer payload: a list of [`Event`]. They are gone when the answer is given.
pub const TAKE_EVENTS: u32 = 0x500;
/// The session's leader has ended: words: sid. The terminal is released; answer word 0: the foreground group, 0 for
/// none.
pub const SESSION_ENDED: u32 = 0x501;
/// Answer words: device number of the session's terminal, foreground group (0 for none): words: sid.
pub const QUERY: u32 = 0x502;
/// The first program is about to start: the terminal becomes its session's own, as if the session's leader had opened
/// it, though nobody opens the console by name. Words: sid, foreground group. A nonzero label is an errno: another
/// session has it.
pub const SESSION_BEGUN: u32 = 0x504;

/// A call that came up as [`super::process::BACKGROUND`] comes back: the process may go on although it is in the
/// background. Words 0 to 2 and the payload are those the terminal server sent up, so that it can put there what it
/// needs.
pub const PERMITTED: u32 = 0x503;

/// What happened at a terminal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Event {
    /// A signal for a process group (^C, ^Z, ^\, window size).
    Signal {
        /// The group.
        pgid: u32,
        /// The signal.
        signal: u8,
    },
    /// The line was hung up.
    Hangup {
        /// The session.
        sid: u32,
    },
}

/// A list of events as it travels.
pub type Events = Vec<Event>;
