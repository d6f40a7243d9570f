//! Which property notices that a guard is missing, and a configuration in which it does.

use crate::configurations::CONFIGURATIONS;
use crate::guard::Guard;
use crate::properties::*;
use crate::setting::{Configuration, Setting};

/// A row: a guard, and who watches over it.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// The guard.
    pub guard: Guard,
    /// The name of the configuration.
    configuration: &'static str,
    /// The property that does not hold without it.
    pub sentence: &'static str,
}

impl Watch {
    /// The configuration without the guard.
    pub fn setting(&self) -> Setting {
        let configuration = CONFIGURATIONS.iter().find(|it| it.name == self.configuration);
        let configuration = configuration.unwrap_or(&Configuration::EMPTY);
        // Without queues the way to where it goes wrong is shorter.
        Setting {
            configuration: Configuration { queues: false, ..*configuration },
            without: Some(self.guard),
        }
    }
}

const fn watch(guard: Guard, configuration: &'static str, sentence: &'static str) -> Watch {
    Watch { guard, configuration, sentence }
}

/// One row a guard.
pub const WATCHES: &[Watch] = &[
    watch(Guard::LookAndParkAtOnce, "exits", AWAKE),
    watch(Guard::OfferNews, "exits", AWAKE),
    watch(Guard::OwnChildrenOnly, "exits", RIGHTFUL),
    watch(Guard::ReapConsumes, "exits", ONCE),
    watch(Guard::NowaitLeaves, "exits", KEPT),
    watch(Guard::StopIsToldOnce, "stops", ONCE),
    watch(Guard::DisappointTheHopeless, "exits", HOPE),
    watch(Guard::CancelledWaitsLeave, "signals", ANSWERED_ONCE),
    watch(Guard::DeadWaitersLeave, "exits", ANSWERED_ONCE),
    watch(Guard::KillBeforeTelling, "exits", TRUE),
    watch(Guard::RowBeforeSignal, "signals", SIGNALLED),
    watch(Guard::ReparentTheLiving, "exits", PARENTS),
    watch(Guard::ReparentZombies, "exits", PARENTS),
    watch(Guard::TellNewParents, "signals", AWAKE),
    watch(Guard::InitReaps, "exits", PARENTS),
    watch(Guard::IgnoredLeaveNoZombies, "ignored", KEPT),
    watch(Guard::IgnoringKeepsZombies, "ignored later", KEPT),
    watch(Guard::ThreadsBequeath, "threads", ECHILD),
    watch(Guard::OfferBequeathed, "threads", AWAKE),
    watch(Guard::InterruptBeforeAnswer, "signals", IN_ORDER),
    watch(Guard::RestartUnlessHandled, "stops", EINTR),
    watch(Guard::StopHoldsEveryThread, "stopped parent", STOPPED),
    watch(Guard::ContinueLetsGo, "stops", SERVED),
    watch(Guard::ContinueReplacesStop, "stops", TRUE),
    watch(Guard::KillEndsStop, "stops", SERVED),
    watch(Guard::KillTakesNewsBack, "stops", TRUE),
    watch(Guard::TracerIsToldFirst, "tracing", RIGHTFUL),
    watch(Guard::ParentIsToldThen, "tracing", AWAKE),
    watch(Guard::TracersDetach, "tracing", PARENTS),
    watch(Guard::TraceesCount, "tracing", ECHILD),
    watch(Guard::TracedZombiesCount, "tracing", ECHILD),
    watch(Guard::TracerHearsOfSignals, "tracing", RIGHTFUL),
    watch(Guard::RecordEvents, "exits", SERVED),
    watch(Guard::RecordEffects, "exits", ANSWERED_ONCE),
    watch(Guard::RecordEffectsWhenDone, "exits", SERVED),
    watch(Guard::ReplayIsExact, "exits", KEPT),
    watch(Guard::SignalsAreTaken, "signals", REST),
    watch(Guard::StopsAreNews, "stops", NEWS),
];
