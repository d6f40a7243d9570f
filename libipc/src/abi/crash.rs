//! How a server dies of itself, and what is done with the event it died of, as kernel, root and /proc tell each
//! other.

use super::named::named;

named! {
    /// What a server died of.
    Fault {
        Page = 1, "page fault";
        Exception = 2, "exception";
        Diverged = 3, "divergence";
        JournalFull = 4, "full journal";
        Watchdog = 5, "watchdog";
    }
}

named! {
    /// What was done with an event that its server died of again.
    Disposition {
        Refused = 1, "caller got an error";
        Failed = 2, "answer made an error";
        Dropped = 3, "event dropped";
        LeftOut = 4, "effect left out";
        GivenUp = 5, "server given up";
        Mended = 6, "journal passed over";
        SteppedBack = 7, "earlier state restored";
        BrokenOff = 8, "event broken off";
    }
}

named! {
    /// What root wants done with the event that a server died of.
    Remedy {
        Any = 0, "whatever takes the least away";
        Former = 1, "the server is taken back to the snapshot before its last";
        BreakOff = 2, "the event is broken off, if an effect was to be left out";
    }
}

/// A server's last death, as it bears on what root does: what it died of, and the event it was at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fall {
    /// What it died of.
    pub fault: Fault,
    /// Which event: two deaths with the same name here are of the same event.
    pub event: u64,
    /// Where and how: two deaths of one event with the same word here are one that a faithful replay has repeated.
    pub place: u64,
    /// The event can be disposed of.
    pub disposable: bool,
    /// There is an earlier state that the server can be started from.
    pub former: bool,
    /// The process whose call or fault it was; 0 when it was nobody's in particular.
    pub culprit: u32,
    /// Calls that wait to be received.
    pub waiting: u32,
}

impl Fall {
    /// As the values of a system call.
    pub fn to_values(self) -> [u64; 5] {
        let flags = self.fault as u64 | u64::from(self.disposable) << 8 | u64::from(self.former) << 9;
        [flags, self.event, self.place, self.culprit.into(), self.waiting.into()]
    }

    /// From the values of a system call; `None` for a server that has not died of itself.
    pub fn from_values([flags, event, place, culprit, waiting]: [u64; 5]) -> Option<Fall> {
        Some(Fall {
            fault: Fault::from_number(flags & 0xff)?,
            event,
            place,
            disposable: flags & 0x100 != 0,
            former: flags & 0x200 != 0,
            culprit: culprit as u32,
            waiting: waiting as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fall_survives_its_values() {
        let (fault, event, place) = (Fault::Watchdog, u64::MAX, 9);
        let fall = Fall { fault, event, place, disposable: true, former: true, culprit: 77, waiting: 3 };
        assert_eq!(Fall::from_values(fall.to_values()), Some(fall));
        assert_eq!(Fall::from_values([0; 5]), None);
    }
}
