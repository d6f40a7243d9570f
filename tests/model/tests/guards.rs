//! Each guard is taken away, and the property that is there for it must notice.

use model::configurations::CONFIGURATIONS;
use model::explore;
use model::guard::{GUARDS, Guard};
use model::properties::*;
use model::setting::Setting;

/// Which property notices that a guard is missing, and a configuration in which it does.
const WATCHES: &[(Guard, &str, &str)] = &[
    (Guard::LookAndParkAtOnce, "exits", AWAKE),
    (Guard::OfferNews, "exits", AWAKE),
    (Guard::OwnChildrenOnly, "exits", RIGHTFUL),
    (Guard::ReapConsumes, "exits", ONCE),
    (Guard::NowaitLeaves, "exits", KEPT),
    (Guard::StopIsToldOnce, "stops", ONCE),
    (Guard::DisappointTheHopeless, "exits", HOPE),
    (Guard::CancelledWaitsLeave, "signals", ANSWERED_ONCE),
    (Guard::DeadWaitersLeave, "exits", ANSWERED_ONCE),
    (Guard::KillBeforeTelling, "exits", TRUE),
    (Guard::RowBeforeSignal, "signals", SIGNALLED),
    (Guard::ReparentTheLiving, "exits", PARENTS),
    (Guard::ReparentZombies, "exits", PARENTS),
    (Guard::TellNewParents, "signals", AWAKE),
    (Guard::InitReaps, "exits", PARENTS),
    (Guard::IgnoredLeaveNoZombies, "ignored", KEPT),
    (Guard::IgnoringKeepsZombies, "ignored later", KEPT),
    (Guard::ThreadsBequeath, "threads", ECHILD),
    (Guard::OfferBequeathed, "threads", AWAKE),
    (Guard::InterruptBeforeAnswer, "signals", IN_ORDER),
    (Guard::RestartUnlessHandled, "stops", EINTR),
    (Guard::StopHoldsEveryThread, "stopped parent", STOPPED),
    (Guard::ContinueLetsGo, "stops", SERVED),
    (Guard::ContinueReplacesStop, "stops", TRUE),
    (Guard::KillEndsStop, "stops", SERVED),
    (Guard::KillTakesNewsBack, "stops", TRUE),
    (Guard::TracerIsToldFirst, "tracing", RIGHTFUL),
    (Guard::ParentIsToldThen, "tracing", AWAKE),
    (Guard::TracersDetach, "tracing", PARENTS),
    (Guard::TraceesCount, "tracing", ECHILD),
    (Guard::TracedZombiesCount, "tracing", ECHILD),
    (Guard::TracerHearsOfSignals, "tracing", RIGHTFUL),
    (Guard::RecordEvents, "exits", SERVED),
    (Guard::RecordEffects, "exits", ANSWERED_ONCE),
    (Guard::RecordEffectsWhenDone, "exits", SERVED),
    (Guard::ReplayIsExact, "exits", KEPT),
    (Guard::SignalsAreTaken, "signals", REST),
    (Guard::StopsAreNews, "stops", NEWS),
];

#[test]
fn each_guard_has_a_property_that_notices_when_it_is_missing() {
    for (guard, name, sentence) in WATCHES {
        let configuration = CONFIGURATIONS.iter().find(|it| it.name == *name).expect("a configuration");
        let setting = Setting { configuration: *configuration, without: Some(*guard) };
        let exploration = explore(setting, Some(sentence), 1);
        let path = exploration.discoveries.get(sentence);
        let path = path.unwrap_or_else(|| panic!("without {guard:?} it still holds that {sentence}"));
        println!("{guard:?}: {} events until it does not hold that {sentence}", path.len());
    }
}

#[test]
fn every_guard_and_every_property_is_in_the_table() {
    for guard in GUARDS {
        assert!(WATCHES.iter().any(|(of, ..)| of == guard), "nobody watches {guard:?}");
    }
    for property in properties() {
        assert!(
            WATCHES.iter().any(|(.., name)| *name == property.name),
            "never seen to fail: {}",
            property.name
        );
    }
}
