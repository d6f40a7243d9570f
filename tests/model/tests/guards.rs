//! Each guard is taken away, and the property that is there for it must notice.

use model::explore;
use model::guard::GUARDS;
use model::properties::properties;
use model::watches::WATCHES;

#[test]
fn each_guard_has_a_property_that_notices_when_it_is_missing() {
    for watch in WATCHES {
        let (guard, sentence) = (watch.guard, watch.sentence);
        let exploration = explore(watch.setting(), Some(sentence), 1);
        let path = exploration.discoveries.get(sentence);
        let path = path.unwrap_or_else(|| panic!("without {guard:?} it still holds that {sentence}"));
        println!("{guard:?}: {} events until it does not hold that {sentence}", path.len());
    }
}

#[test]
fn every_guard_and_every_property_is_in_the_table() {
    for guard in GUARDS {
        assert!(WATCHES.iter().any(|watch| watch.guard == *guard), "nobody watches {guard:?}");
    }
    for property in properties() {
        let seen = WATCHES.iter().any(|watch| watch.sentence == property.name);
        assert!(seen, "never seen to fail: {}", property.name);
    }
}
