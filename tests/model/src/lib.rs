//! The model of wait, exit, reparenting, signals, stops and tracing, whose every state is visited.
//!
//! A parent with two threads has three children and a grandchild. They wait, fork, exit, signal, stop, continue and
//! trace each other in every order, and the server that serves them may die anywhere, as often as it likes. The crate
//! `stateright` visits every state that can be reached; the server's own code is held against the model elsewhere
//! (`servers/proc/src/tests/model.rs`), where both are led through the same random events and must do the same.
//!
//! # A state
//!
//! [`server::Table`] is the server's: a row a process, a row a thread. [`server`] changes it, function for function
//! as `servers/proc` does. [`kernel::Kernel`] says where each thread stands: in its program, in a call, about to come
//! in, held. [`ledger::Ledger`] is the truth, which a bystander writes down from what the kernel carried out: who has
//! ended and how, whose child and whose tracee each is, and what has been told. The properties compare these three,
//! so a table that contradicts the truth is found even if it agrees with itself.
//!
//! # A transition
//!
//! An [`world::Action`] is an event: a program makes a call, or the server receives one, or the kernel wants a call
//! back (a signal for a thread that waits), or an interrupted thread comes in. The server takes one step and its
//! effects are carried out in order. Which of the calls and events that are there comes next is open, so every order
//! in which they can be served is explored.
//!
//! For every event the server also dies after the first, second, … of its effects, or before any. What is recorded is
//! the event and each effect that was carried out; the next incarnation takes the step again from the state before it
//! and carries out what is not recorded ([`world::State::serve_and_crash`]). With sound recovery that leads where no
//! crash leads, which is compared on the spot; where it does not, the crash becomes a transition of its own. So the
//! server may die at any number of events on a way, for the price of one.
//!
//! # What is told apart, and what is not
//!
//! - While the server serves, the others stand still. A program's call only waits for the server, and an effect
//!   concerns a thread in a call, so their order does not matter; but for one: a thread that is answered and then
//!   interrupted could run in between. That is forbidden by a property of its own, [`properties::IN_ORDER`].
//! - Without `queues` a call is served when it is made: until then it is known to nobody but its thread, which could
//!   as well not have made it yet. This reduction is tried against itself: most configurations are explored without it.
//! - Where nothing tells the second child from the third, of two states that differ by their exchange only the lesser
//!   is kept. (A wait takes the oldest child that has ended; when both have, either order leads to the same pair.)
//! - Waits have ranks and not tickets; rows and threads of the dead are all alike; handlers return at once.
//!
//! # Guards
//!
//! Each rule of the protocol is a [`guard::Guard`] that can be taken away, and [`watches::WATCHES`] says which property
//! then fails. So no property is there in vain, and no rule. The shortest way to each failure is also a walk on which
//! the server, which has the rule, differs from the model without it.
//!
//! # What is left out
//!
//! Groups and sessions, exit signals other than SIGCHLD, signal masks, exec, vfork, pidfds, resource usage, time. Of
//! ptrace(2) there is what waits can see: SEIZE, the stop before a signal, CONT, the tracer's end.

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
