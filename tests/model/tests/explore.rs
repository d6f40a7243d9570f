//! Every configuration that is small enough is explored as a whole; `cargo run --release -p model` does the others.

use model::configurations::CONFIGURATIONS;
use model::explore;
use model::setting::Setting;

#[test]
fn the_sentences_hold_in_every_state_of_every_configuration() {
    for configuration in CONFIGURATIONS {
        let exploration = explore(Setting { configuration: *configuration, without: None }, None, 1);
        let (states, transitions) = (exploration.states, exploration.transitions);
        println!("{}: {states} states, {transitions} transitions", configuration.name);
        assert!(exploration.discoveries.is_empty(), "{}: {:#?}", configuration.name, exploration.discoveries);
        assert!(exploration.crashes > transitions, "{}: the server can die everywhere", configuration.name);
    }
}
