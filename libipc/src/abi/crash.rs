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
    /// What is to be done about a server's death before its next incarnation.
    Recourse {
        Dispose = 0, "the event is disposed of";
        StepBack = 1, "the server is taken back to an earlier state";
        PassOver = 2, "its journal is passed over where it does otherwise";
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
    /// Its journal can be passed over.
    pub mendable: bool,
    /// The process whose call or fault it was; 0 when it was nobody's in particular.
    pub culprit: u32,
    /// Calls that wait to be received.
    pub waiting: u32,
}

impl Fall {
    /// As the values of a system call.
    pub fn to_values(self) -> [u64; 5] {
        let can = u64::from(self.disposable) | u64::from(self.former) << 1 | u64::from(self.mendable) << 2;
        let flags = self.fault as u64 | can << 8;
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
            mendable: flags & 0x400 != 0,
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
        for can in 0..8 {
            let [disposable, former, mendable] = [1, 2, 4].map(|bit| can & bit != 0);
            let fall = Fall { fault, event, place, disposable, former, mendable, culprit: 77, waiting: 3 };
            assert_eq!(Fall::from_values(fall.to_values()), Some(fall));
        }
        assert_eq!(Fall::from_values([0; 5]), None);
    }
}
