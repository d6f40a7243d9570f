//! What root does about a death: a pure function of what is known of the server and its death.
//!
//! Only deaths by a server's own fault count. The first of an event may be bad luck, so the server runs again, and
//! meets the event again. When that kills it in the same place, either the event is poison, or the state that the
//! server is started from is not what it should be. Nobody would notice if a sound one were taken back to an earlier
//! state, so that is tried first where there is one; of what kills the server even then, the event is disposed of. A
//! server that this does not let receive anything new is given up. What was done may have been to leave one effect out,
//! and the next one kills it: then the event is broken off. Disposing has a budget, which is filled again by
//! messages served; a program that sends poison again and again does not use it up, or any program could take a server
//! from all others. Deaths soon after each other are a storm, which is slowed, but never while somebody waits.

use libipc::abi::crash::{Fall, Fault};
use serde::{Deserialize, Serialize};

/// Deaths of one event in one place after which a server is given up.
const REPEATS_MAX: u32 = 3;
/// Deaths of one event after which it is, wherever they were.
const TIMES_MAX: u32 = 6;
/// How often something is done about one event.
const HELPS_MAX: u8 = 4;
/// Events of different origins that are disposed of in a row.
const DISPOSALS_MAX: u32 = 8;
/// Messages received after which disposing may begin anew.
const PROGRESS: u64 = 16;
/// A death so long after the last is the first of its storm.
const CALM_NS: u64 = 10_000_000_000;
/// So many deaths are not slowed.
const FREE: u32 = 6;
/// How long the first that is slowed has to wait, and any at most; each waits twice as long as the one before.
const PAUSE_NS: u64 = 1_000_000;
const PAUSE_MAX_NS: u64 = 1_000_000_000;

/// What is remembered of a server's deaths by its own fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// The event of the last, and the place.
    event: u64,
    place: u64,
    /// How many in a row were of that event, and in that place.
    times: u32,
    repeats: u32,
    /// The server is not in the state any more in which that event killed it at first.
    other_state: bool,
    /// How often something has been done about that event.
    helps: u8,
    /// Events disposed of since the server last made progress; those of one program in a row count once.
    disposed: u32,
    /// Whose the last of them was; 0 for nobody in particular.
    culprit: u32,
    /// Messages it had received then.
    received: u64,
    /// Deaths in the storm so far, and when the last was.
    storm: u32,
    last_ns: u64,
}

/// A death, as the kernel tells of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Death {
    /// How the server fell; none when it was killed from outside.
    pub fall: Option<Fall>,
    /// Messages received so far.
    pub received: u64,
}

/// What root does about a death.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The next incarnation, after this time.
    Restart {
        /// Nanoseconds.
        after_ns: u64,
    },
    /// The event is disposed of at once; then as above.
    Dispose {
        /// Nanoseconds.
        after_ns: u64,
    },
    /// The same; and as it did not help to leave an effect out, the event is broken off.
    BreakOff {
        /// Nanoseconds.
        after_ns: u64,
    },
    /// It is taken back to an earlier state; then as above.
    StepBack {
        /// Nanoseconds.
        after_ns: u64,
    },
    /// No more: its clients get errors.
    Abandon,
}

/// Decides about a death.
pub fn decide(history: &mut History, death: Death, now_ns: u64) -> Action {
    let Some(fall) = death.fall else { return Action::Restart { after_ns: 0 } };
    history.count(&fall);
    let after_ns = history.pause(&fall, now_ns);
    let further =
        (1..HELPS_MAX).contains(&history.helps) && history.repeats == 1 && history.times < TIMES_MAX;
    if further && fall.disposable {
        // It has got past the place in which something was done about it, and dies of what comes then.
        return match history.dispose(&fall, death.received, after_ns) {
            Action::Dispose { after_ns } => Action::BreakOff { after_ns },
            other => other,
        };
    }
    if history.helps > 0 || history.repeats >= REPEATS_MAX || history.times >= TIMES_MAX {
        return history.give_up(&fall, after_ns);
    }
    // A replay that never dies in the same place twice has no more to say after so many tries.
    let poison = history.repeats == 2 || history.times == TIMES_MAX - 1 || history.other_state;
    match (poison && fall.disposable, fall.fault) {
        (false, _) => Action::Restart { after_ns },
        // It is not in the state of the one that wrote the journal: that was wrong, and the journal is passed over.
        (true, Fault::Diverged) => {
            history.begin_anew();
            Action::Dispose { after_ns }
        }
        (true, _) if fall.former => history.take_back(after_ns),
        (true, _) => history.dispose(&fall, death.received, after_ns),
    }
}

impl History {
    fn count(&mut self, fall: &Fall) {
        let again = self.times > 0 && self.event == fall.event;
        let repeated = again && self.place == fall.place;
        self.times = if again { self.times + 1 } else { 1 };
        self.repeats = if repeated { self.repeats + 1 } else { 1 };
        self.helps = if again { self.helps } else { 0 };
        self.other_state &= again;
        (self.event, self.place) = (fall.event, fall.place);
    }

    fn pause(&mut self, fall: &Fall, now_ns: u64) -> u64 {
        let calm = now_ns.saturating_sub(self.last_ns) >= CALM_NS;
        self.storm = if calm { 1 } else { self.storm.saturating_add(1) };
        self.last_ns = now_ns;
        match self.storm.checked_sub(FREE + 1) {
            Some(doublings) if fall.waiting == 0 => (PAUSE_NS << doublings.min(20)).min(PAUSE_MAX_NS),
            _ => 0,
        }
    }

    fn dispose(&mut self, fall: &Fall, received: u64, after_ns: u64) -> Action {
        if received.saturating_sub(self.received) >= PROGRESS {
            self.disposed = 0;
        }
        if fall.culprit == 0 || fall.culprit != self.culprit {
            self.disposed += 1;
        }
        (self.culprit, self.received, self.helps) = (fall.culprit, received, self.helps.saturating_add(1));
        if self.disposed > DISPOSALS_MAX { Action::Abandon } else { Action::Dispose { after_ns } }
    }

    /// Nothing has helped from the state it is started from; from an earlier one its life begins anew.
    fn give_up(&mut self, fall: &Fall, after_ns: u64) -> Action {
        if fall.former { self.take_back(after_ns) } else { Action::Abandon }
    }

    fn take_back(&mut self, after_ns: u64) -> Action {
        self.begin_anew();
        Action::StepBack { after_ns }
    }

    /// The server is going to be in another state. It may have another try with the event that killed it.
    fn begin_anew(&mut self) {
        let History { event, storm, last_ns, .. } = *self;
        *self = History { event, times: 1, other_state: true, storm, last_ns, ..History::default() };
    }
}

#[cfg(test)]
mod tests;
