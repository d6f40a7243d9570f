//! model
pub mod cast;
pub mod configurations;
pub mod guard;
pub mod kernel;
pub mod ledger;
pub mod properties;
pub mod protocol;
pub mod server;
pub mod setting;
pub mod watches;
pub mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

use crate::setting::Setting;
use crate::world::{Action, State};

/// The model, for the checker.
pub struct Protocol {
    setting: Setting,
    twins: bool,
    crashes: Arc<AtomicU64>,
}

/// What an exploration found.
pub struct Exploration {
    /// Different states.
    pub states: u64,
    /// Transitions, not counting the crashes that led to the same state as no crash.
    pub transitions: u64,
    /// Crashes that were tried.
    pub crashes: u64,
    /// How long it took.
    pub time: Duration,
    /// The properties that do not hold, and the shortest way to a state in which one does not.
    pub discoveries: BTreeMap<&'static str, Vec<Action>>,
}

/// Explores all states of a setting, or as many as it takes to see one property fail.
pub fn explore(setting: Setting, until: Option<&'static str>, threads: usize) -> Exploration {
    let (start, crashes) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let twins = setting.configuration.has_twins();
    let protocol = Protocol { setting, twins, crashes: Arc::clone(&crashes) };
    let enough = match until {
        Some(sentence) => HasDiscoveries::AnyOf([sentence].into()),
        None => HasDiscoveries::AnyFailures,
    };
    let checker = protocol.checker().threads(threads).finish_when(enough).spawn_bfs().join();
    Exploration {
        states: checker.unique_state_count() as u64,
        transitions: checker.state_count() as u64,
        crashes: crashes.load(Ordering::Relaxed),
        time: start.elapsed(),
        discoveries: checker
            .discoveries()
            .into_iter()
            .map(|(name, path)| (name, path.into_actions()))
            .collect(),
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(&self.setting.configuration)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if !state.ledger.breaches.is_empty() {
            return;
        }
        let calls = state.calls(&self.setting.configuration);
        for event in state.events().chain(calls) {
            actions.push(Action { event, crash: None });
            let mut quiet = *state;
            quiet.serve(&self.setting, event);
            for crash in 0.. {
                let mut crashed = *state;
                if crashed.serve_and_crash(&self.setting, event, crash).is_none() {
                    break;
                }
                self.crashes.fetch_add(1, Ordering::Relaxed);
                if crashed != quiet {
                    actions.push(Action { event, crash: Some(crash) });
                }
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = *state;
        match action.crash {
            None => {
                next.serve(&self.setting, action.event);
            }
            Some(crash) => next.serve_and_crash(&self.setting, action.event, crash)?,
        }
        Some(if self.twins { next.represented() } else { next })
    }

    fn properties(&self) -> Vec<Property<Protocol>> {
        properties::properties()
    }
}
