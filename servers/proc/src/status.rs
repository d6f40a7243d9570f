//! How a process ended, in the form in which wait(2) hands it out.

use serde::{Deserialize, Serialize};

use libipc::linux::signal::{CLD_DUMPED, CLD_EXITED, CLD_KILLED};

/// A status word: exit code << 8, or a signal in the low seven bits with 0x80 for a core image.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Status(u32);

impl Status {
    /// Ended by exit(2) or exit_group(2); of the code the low eight bits count.
    pub fn exited(code: i32) -> Status {
        Status((code as u32 & 0xff) << 8)
    }

    /// Ended by a signal.
    pub fn killed(signal: u8, core: bool) -> Status {
        Status(u32::from(signal & 0x7f) | if core { 0x80 } else { 0 })
    }

    /// As wait4(2) stores it.
    pub fn word(self) -> u32 {
        self.0
    }

    /// si_code of SIGCHLD and waitid(2).
    pub fn si_code(self) -> i32 {
        match self.0 & 0xff {
            0 => CLD_EXITED,
            low if low & 0x80 != 0 => CLD_DUMPED,
            _ => CLD_KILLED,
        }
    }

    /// si_status: the exit code or the signal.
    pub fn si_status(self) -> u32 {
        if self.0 & 0x7f == 0 { self.0 >> 8 & 0xff } else { self.0 & 0x7f }
    }

    /// As a shell shows it in `$?`: the exit code, or 128 plus the signal.
    pub fn shell(self) -> u32 {
        if self.0 & 0x7f == 0 { self.0 >> 8 & 0xff } else { 128 + (self.0 & 0x7f) }
    }
}

/// The status word of a stop.
pub fn stopped_word(signal: u8) -> u32 {
    u32::from(signal) << 8 | 0x7f
}

/// The status word of a continue.
pub const CONTINUED_WORD: u32 = 0xffff;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words_are_those_of_linux() {
        assert_eq!(Status::exited(3).word(), 0x300);
        assert_eq!(Status::exited(0x1234).word(), 0x3400);
        assert_eq!(Status::killed(9, false).word(), 9);
        assert_eq!(Status::killed(11, true).word(), 0x8b);
        assert_eq!((stopped_word(19), CONTINUED_WORD), (0x137f, 0xffff));
    }

    #[test]
    fn waitid_tells_code_and_number_apart() {
        let of = |status: Status| (status.si_code(), status.si_status(), status.shell());
        assert_eq!(of(Status::exited(7)), (1, 7, 7));
        assert_eq!(of(Status::killed(15, false)), (2, 15, 143));
        assert_eq!(of(Status::killed(6, true)), (3, 6, 134));
    }
}
