//! Tests of the policy: what it decides in the cases that matter, and what holds for all histories.

use libipc::abi::crash::Fault;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const NOW: Action = Action::Restart { after_ns: 0 };
const DISPOSE: Action = Action::Dispose { after_ns: 0 };

/// A server and what happens to it: an event received, then deaths of it.
#[derive(Default)]
struct Life {
    history: History,
    received: u64,
    now_ns: u64,
    waiting: u32,
    place: u64,
    former: bool,
    fault: Option<Fault>,
}

impl Life {
    fn die(&mut self, disposable: bool, culprit: u32) -> Action {
        let event = self.received;
        let (place, waiting) = (self.place, self.waiting);
        let fault = self.fault.unwrap_or(Fault::Exception);
        let fall = Fall { fault, event, place, disposable, former: self.former, culprit, waiting };
        decide(&mut self.history, Death { fall: Some(fall), received: self.received }, self.now_ns)
    }

    /// Receives an event that kills it and kills it again.
    fn meet_poison(&mut self, culprit: u32) -> [Action; 2] {
        self.received += 1;
        [self.die(true, culprit), self.die(true, culprit)]
    }

    fn wait(&mut self) {
        self.now_ns += CALM_NS;
    }
}

#[test]
fn a_server_killed_from_outside_always_comes_back_at_once() {
    let mut history = History::default();
    let death = Death { fall: None, received: 0 };
    assert!((0..100).all(|_| decide(&mut history, death, 0) == NOW));
}

#[test]
fn an_event_that_kills_twice_is_disposed_of_and_a_server_that_still_dies_is_given_up() {
    let mut life = Life::default();
    assert_eq!(life.meet_poison(7), [NOW, DISPOSE]);
    assert_eq!(life.die(true, 7), Action::Abandon);
}

#[test]
fn an_event_that_kills_in_another_place_when_it_has_been_helped_is_broken_off() {
    let mut life = Life::default();
    assert_eq!(life.meet_poison(7), [NOW, DISPOSE]);
    life.place = 1;
    assert_eq!(life.die(true, 7), Action::BreakOff { after_ns: 0 });
    assert_eq!(life.die(true, 7), Action::Abandon, "that did not help");
    life.received += 1;
    assert_eq!(life.die(true, 7), NOW, "another event is another matter");
    let mut life = Life::default();
    assert_eq!(life.meet_poison(7), [NOW, DISPOSE]);
    life.place = 1;
    assert_eq!(life.die(false, 7), Action::Abandon, "there is nothing to break off");
}

#[test]
fn a_server_that_nothing_helps_is_taken_back_to_an_earlier_state_before_it_is_given_up() {
    let mut life = Life { received: 7, former: true, ..Life::default() };
    let actions: Vec<Action> = (0..3).map(|_| life.die(false, 0)).collect();
    assert_eq!(actions, [NOW, NOW, Action::StepBack { after_ns: 0 }]);
    life.former = false;
    let actions: Vec<Action> = (0..3).map(|_| life.die(false, 0)).collect();
    assert_eq!(actions, [NOW, NOW, Action::Abandon]);
}

#[test]
fn an_event_is_blamed_when_it_kills_from_an_earlier_state_too() {
    let mut life = Life { former: true, ..Life::default() };
    assert_eq!(life.meet_poison(7), [NOW, Action::StepBack { after_ns: 0 }]);
    life.former = false;
    assert_eq!([life.die(true, 7), life.die(true, 7)], [DISPOSE, Action::Abandon]);
}

#[test]
fn a_server_that_does_not_do_what_its_journal_has_passes_over_it_and_its_event_may_still_be_disposed_of() {
    let mut life = Life { former: true, fault: Some(Fault::Diverged), ..Life::default() };
    assert_eq!(life.meet_poison(0), [NOW, DISPOSE], "what it did is wrong, not what it does");
    (life.former, life.fault) = (false, None);
    assert_eq!([life.die(true, 0), life.die(true, 0)], [DISPOSE, Action::Abandon]);
}

#[test]
fn a_server_that_was_taken_back_has_its_whole_budget_again() {
    let mut life = Life { waiting: 1, ..Life::default() };
    for culprit in 1..=DISPOSALS_MAX {
        assert_eq!(life.meet_poison(culprit), [NOW, DISPOSE]);
    }
    life.former = true;
    assert_eq!(life.meet_poison(100), [NOW, Action::StepBack { after_ns: 0 }]);
    life.former = false;
    assert_eq!(life.die(true, 100), DISPOSE);
}

#[test]
fn a_death_that_no_event_can_be_blamed_for_gives_a_server_two_more_tries() {
    let mut life = Life { received: 7, ..Life::default() };
    let actions: Vec<Action> = (0..3).map(|_| life.die(false, 0)).collect();
    assert_eq!(actions, [NOW, NOW, Action::Abandon]);
}

#[test]
fn a_death_that_the_replay_does_not_repeat_is_bad_luck() {
    let mut life = Life { received: 7, ..Life::default() };
    let mut actions = Vec::new();
    for place in 1..=TIMES_MAX {
        life.place = place.into();
        actions.push(life.die(true, 0));
    }
    assert_eq!(actions, [NOW, NOW, NOW, NOW, DISPOSE, Action::Abandon], "but luck ends");
}

#[test]
fn a_kill_from_outside_between_two_deaths_of_an_event_changes_nothing() {
    let mut life = Life { received: 7, ..Life::default() };
    assert_eq!(life.die(true, 0), NOW);
    assert_eq!(decide(&mut life.history, Death { fall: None, received: 7 }, 0), NOW);
    assert_eq!(life.die(true, 0), DISPOSE);
}

#[test]
fn a_program_that_sends_poison_for_ever_does_not_take_the_server_from_others() {
    let mut life = Life::default();
    for _ in 0..100 {
        life.wait();
        assert_eq!(life.meet_poison(7), [NOW, DISPOSE]);
    }
}

#[test]
fn a_server_to_which_everything_is_poison_is_given_up() {
    let mut life = Life::default();
    for culprit in 1..=DISPOSALS_MAX {
        life.wait();
        assert_eq!(life.meet_poison(culprit), [NOW, DISPOSE]);
    }
    life.wait();
    assert_eq!(life.meet_poison(99), [NOW, Action::Abandon]);
}

#[test]
fn messages_served_fill_the_budget_again() {
    let mut life = Life::default();
    for culprit in 1..100 {
        life.wait();
        life.received += PROGRESS;
        assert_eq!(life.meet_poison(culprit), [NOW, DISPOSE]);
    }
}

#[test]
fn a_storm_is_slowed_more_and_more_until_it_is_calm() {
    let mut life = Life::default();
    let mut pauses = Vec::new();
    for _ in 0..30 {
        life.received += 1;
        let Action::Restart { after_ns } = life.die(true, 7) else { panic!() };
        pauses.push(after_ns);
        life.now_ns += after_ns;
    }
    let free = FREE as usize;
    assert!(pauses[..free].iter().all(|pause| *pause == 0));
    assert_eq!(pauses[free..free + 3], [PAUSE_NS, 2 * PAUSE_NS, 4 * PAUSE_NS]);
    assert_eq!(pauses[29], PAUSE_MAX_NS);
    life.wait();
    life.received += 1;
    assert_eq!(life.die(true, 7), NOW);
}

#[test]
fn nobody_waits_for_a_storm_to_calm() {
    let mut life = Life { waiting: 1, ..Life::default() };
    for _ in 0..100 {
        life.received += 1;
        assert_eq!(life.die(true, 7), NOW);
    }
}

proptest! {
    /// Whatever happens: one event kills at most six times, and three times in one place; only what the replay has
    /// repeated and can be disposed of is, and again only where it comes further; no pause is too long; nobody waits
    /// for it.
    #[test]
    fn a_server_is_given_up_only_after_deaths_of_one_event_or_of_many_origins(
        steps in vec((0u64..3, 0u64..2, any::<bool>(), 0u32..4, 0u32..2, 0u64..2_000_000_000), 1..200),
    ) {
        let (mut life, mut in_a_row, mut disposed) = (Life::default(), 0, false);
        for (news, place, disposable, culprit, waiting, time) in steps {
            life.received += news;
            life.now_ns += time;
            life.waiting = waiting;
            let again = news == 0 && life.place == place;
            life.place = place;
            in_a_row = if news > 0 { 1 } else { in_a_row + 1 };
            disposed &= news == 0;
            match life.die(disposable, culprit) {
                Action::Restart { after_ns } => {
                    prop_assert!(in_a_row < TIMES_MAX && !disposed);
                    prop_assert!(after_ns <= PAUSE_MAX_NS && (waiting == 0 || after_ns == 0));
                }
                Action::Dispose { after_ns } => {
                    let enough = again || in_a_row == TIMES_MAX - 1;
                    prop_assert!(disposable && enough && in_a_row < TIMES_MAX && !disposed);
                    disposed = true;
                    prop_assert!(after_ns <= PAUSE_MAX_NS && (waiting == 0 || after_ns == 0));
                }
                Action::BreakOff { after_ns } => {
                    prop_assert!(disposable && disposed && !again && in_a_row < TIMES_MAX);
                    prop_assert!(after_ns <= PAUSE_MAX_NS && (waiting == 0 || after_ns == 0));
                }
                Action::StepBack { .. } => prop_assert!(false, "there is no earlier state"),
                Action::Abandon => {
                    let hopeless = disposed || in_a_row >= REPEATS_MAX;
                    prop_assert!(hopeless || life.history.disposed > DISPOSALS_MAX);
                    return Ok(());
                }
            }
        }
    }
}
