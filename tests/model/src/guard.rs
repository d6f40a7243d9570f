//! The guards: each rule of the protocol that can be taken away, to see which property notices.

macro_rules! guards {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A rule of the protocol.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Guard {
            $($(#[$doc])* $name,)*
        }

        /// All of them.
        pub const GUARDS: &[Guard] = &[$(Guard::$name,)*];
    };
}

guards! {
    // Waiting.
    /// A wait looks and is parked in one step.
    LookAndParkAtOnce,
    /// What makes news offers them to the waits that are parked.
    OfferNews,
    /// A wait is told of the caller's own children only.
    OwnChildrenOnly,
    /// Whoever takes a status takes it away.
    ReapConsumes,
    /// WNOWAIT takes nothing away.
    NowaitLeaves,
    /// A stop is told once.
    StopIsToldOnce,
    /// A wait without children to hope for is answered ECHILD.
    DisappointTheHopeless,
    /// A wait that a signal has ended is no longer on the list.
    CancelledWaitsLeave,
    /// A wait of a thread that is gone is no longer on the list.
    DeadWaitersLeave,
    // Ending.
    /// The task is killed before anybody is told.
    KillBeforeTelling,
    /// The row says what happened before SIGCHLD is sent.
    RowBeforeSignal,
    /// The children of the dead move to another parent.
    ReparentTheLiving,
    /// Zombies among them move as well.
    ReparentZombies,
    /// The new parent is told of zombies it takes.
    TellNewParents,
    /// Init reaps what it takes.
    InitReaps,
    /// A parent that ignores SIGCHLD gets no zombies.
    IgnoredLeaveNoZombies,
    /// Ignoring SIGCHLD does nothing to zombies that are there.
    IgnoringKeepsZombies,
    /// The children of a thread that ends go to another of its process.
    ThreadsBequeath,
    /// What they have to tell is offered to that one's waits.
    OfferBequeathed,
    // Signals and stops.
    /// A thread is interrupted before its call is answered.
    InterruptBeforeAnswer,
    /// A thread that was taken out of a call makes it again unless a handler forbids it.
    RestartUnlessHandled,
    /// A stop is complete when all threads are held.
    StopHoldsEveryThread,
    /// SIGCONT lets all threads go.
    ContinueLetsGo,
    /// The continue replaces the stop as news.
    ContinueReplacesStop,
    /// SIGKILL ends a stop.
    KillEndsStop,
    /// SIGKILL takes back what nobody was told of a stop or a continue.
    KillTakesNewsBack,
    /// A signal that is taken is no longer pending.
    SignalsAreTaken,
    /// A stop is offered to the waits that ask for it.
    StopsAreNews,
    // Tracing.
    /// The parent of a traced zombie is told when the tracer has been.
    TracerIsToldFirst,
    /// When the tracer has taken the status, the parent gets it.
    ParentIsToldThen,
    /// A tracer's end is the end of tracing.
    TracersDetach,
    /// A tracer's waits count on its tracees.
    TraceesCount,
    /// A parent's waits count on children that are their tracer's to reap.
    TracedZombiesCount,
    /// A traced process asks its tracer before it stops.
    TracerHearsOfSignals,
    // Recovery.
    /// An event is recorded with its delivery.
    RecordEvents,
    /// An effect that was carried out is recorded.
    RecordEffects,
    /// An effect is recorded when it is carried out, and not before.
    RecordEffectsWhenDone,
    /// The same events lead to the same effects.
    ReplayIsExact,
}
