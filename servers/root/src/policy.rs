//! What root does about a death: a pure function of what is known of the server and its death.
//!
//! Only deaths by a server's own fault count. The first of an event may be bad luck, so the server runs again, and
//! meets the event again. When that kills it in the same place, either the event is poison, or the state that the
//! server is started from is not what it should be. Nobody would notice if a sound one were taken back to an earlier
//! state, so that is tried first where there is one; of what kills the server even then, the event is disposed of.
//! When that does not let it receive anything new either, it knows something that is not so: its journal is passed
//! over, from where on what it is refused does not kill it, and it gives back what it does not know of. After that it
//! is given up. Disposing and passing over have a budget, which is filled again by messages served; a program that
//! sends poison again and again does not use it up, or any program could take a server from all others. Deaths soon
//! after each other are a storm, which is slowed, but never while somebody waits.

use libipc::abi::crash::{Fall, Fault, Recourse};
use serde::{Deserialize, Serialize};

/// Deaths of one event in one place after which a server is given up.
const REPEATS_MAX: u32 = 3;
/// Deaths of one event after which it is, wherever they were.
const TIMES_MAX: u32 = 6;
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
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// The event of the last, and the place.
    event: u64,
    place: u64,
    /// How many in a row were of that event, and in that place.
    times: u32,
    repeats: u32,
    /// The server is not in the state any more in which that event killed it at first.
    other_state: bool,
    /// That event has been disposed of.
    helped: bool,
    /// The last event for which the journal was passed over.
    passed: u64,
    /// Events disposed of or passed over since the server last made progress; those of one program in a row count once.
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
    /// This is done at once; then as above.
    Resort {
        /// What.
        recourse: Recourse,
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
    // A replay that never dies in the same place twice has no more to say after so many tries.
    let poison = history.repeats == 2 || history.times == TIMES_MAX - 1 || history.other_state;
    let recourse = if history.helped || history.repeats >= REPEATS_MAX || history.times >= TIMES_MAX {
        history.last_resort(&fall)
    } else if !poison {
        return Action::Restart { after_ns };
    } else if fall.fault == Fault::Diverged && fall.mendable {
        // It is not in the state of the one that wrote the journal: that was wrong.
        Some(Recourse::PassOver)
    } else if !fall.disposable {
        return Action::Restart { after_ns };
    } else if fall.former {
        Some(Recourse::StepBack)
    } else {
        Some(Recourse::Dispose)
    };
    match recourse {
        Some(recourse) if history.resort_to(recourse, &fall, death.received) => {
            Action::Resort { recourse, after_ns }
        }
        _ => Action::Abandon,
    }
}

impl History {
    fn count(&mut self, fall: &Fall) {
        let again = self.times > 0 && self.event == fall.event;
        let repeated = again && self.place == fall.place;
        self.times = if again { self.times + 1 } else { 1 };
        self.repeats = if repeated { self.repeats + 1 } else { 1 };
        self.helped &= again;
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

    /// What is left when nothing has helped from the state that the server is started from, with what it has done. For
    /// one event its journal is passed over once.
    fn last_resort(&self, fall: &Fall) -> Option<Recourse> {
        match fall {
            Fall { former: true, .. } => Some(Recourse::StepBack),
            Fall { mendable: true, event, .. } if *event != self.passed => Some(Recourse::PassOver),
            _ => None,
        }
    }

    /// Whether the budget allows it.
    fn resort_to(&mut self, recourse: Recourse, fall: &Fall, received: u64) -> bool {
        match recourse {
            Recourse::StepBack => {
                self.begin_anew();
                true
            }
            Recourse::Dispose => {
                self.helped = true;
                self.spend(fall, received)
            }
            Recourse::PassOver => {
                let allowed = self.spend(fall, received);
                let History { disposed, culprit, received, .. } = *self;
                self.begin_anew();
                *self = History { passed: fall.event, disposed, culprit, received, ..*self };
                allowed
            }
        }
    }

    fn spend(&mut self, fall: &Fall, received: u64) -> bool {
        if received.saturating_sub(self.received) >= PROGRESS {
            self.disposed = 0;
        }
        if fall.culprit == 0 || fall.culprit != self.culprit {
            self.disposed += 1;
        }
        (self.culprit, self.received) = (fall.culprit, received);
        self.disposed <= DISPOSALS_MAX
    }

    /// The server is going to be in another state. It may have another try with the event that killed it.
    fn begin_anew(&mut self) {
        let History { event, passed, storm, last_ns, .. } = *self;
        *self = History { event, times: 1, other_state: true, passed, storm, last_ns, ..History::default() };
    }
}

#[cfg(test)]
mod tests;
