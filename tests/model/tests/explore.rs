//! The configurations without their queues are explored in seconds. `cargo run --release -p model` explores all.

use model::configurations::CONFIGURATIONS;
use model::explore;
use model::setting::{Configuration, Setting};

#[test]
fn the_sentences_hold_in_every_state() {
    for queueing in CONFIGURATIONS.iter().filter(|configuration| configuration.queues) {
        let configuration = Configuration { queues: false, ..*queueing };
        let exploration = explore(Setting { configuration, without: None }, None, 1);
        let (states, transitions) = (exploration.states, exploration.transitions);
        println!("{}: {states} states, {transitions} transitions", configuration.name);
        assert!(exploration.discoveries.is_empty(), "{}: {:#?}", configuration.name, exploration.discoveries);
        assert!(exploration.crashes > transitions, "{}: the server can die everywhere", configuration.name);
    }
}
