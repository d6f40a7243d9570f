//! Whether a dead server starts again: a pure function of what is known of it.
//!
//! Only deaths by a server's own fault count, and only while it makes no progress: a journaled server that meets the
//! event that killed it dies of it again before it receives another.

use serde::{Deserialize, Serialize};

/// Deaths by a server's own fault, without progress between them, after which it is given up.
const FAULTS_MAX: u32 = 3;

/// What is remembered of a server's deaths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct History {
    /// Deaths by its own fault when root last looked.
    faults: u64,
    /// Events it had received then.
    received: u64,
    /// Deaths by its own fault in a row without an event received between them.
    in_a_row: u32,
}

/// What root does about a death.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// The next incarnation.
    Restart,
    /// No more: its clients get errors.
    Abandon,
}

/// Decides about a death, given deaths by own fault and events received so far.
pub fn decide(history: &mut History, faults: u64, received: u64) -> Action {
    let by_itself = faults > history.faults;
    let progress = received > history.received;
    history.in_a_row = match (by_itself, progress) {
        (false, _) => history.in_a_row,
        (true, true) => 1,
        (true, false) => history.in_a_row + 1,
    };
    (history.faults, history.received) = (faults, received);
    if history.in_a_row >= FAULTS_MAX { Action::Abandon } else { Action::Restart }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_killed_from_outside_always_comes_back() {
        let mut history = History::default();
        assert!((0..100).all(|_| decide(&mut history, 0, 0) == Action::Restart));
    }

    #[test]
    fn a_server_that_dies_of_the_same_event_again_and_again_is_given_up() {
        let mut history = History::default();
        let actions: Vec<Action> = (1..=3).map(|faults| decide(&mut history, faults, 7)).collect();
        assert_eq!(actions, [Action::Restart, Action::Restart, Action::Abandon]);
    }

    #[test]
    fn progress_between_faults_refills_the_budget() {
        let mut history = History::default();
        assert!((1..100).all(|faults| decide(&mut history, faults, faults) == Action::Restart));
    }
}
