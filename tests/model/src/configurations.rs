//! The configurations that are explored.

use crate::cast::Process::{self, First, Grandchild, Parent, Second, Third};
use crate::protocol::{ChildSignal, Options, Signal, Wait};
use crate::setting::Configuration;

const EXITED: Options = Options::EXITED;
const ANY: Wait = Wait::any(EXITED);
const POLL: Wait = Wait::any(EXITED.union(Options::NOHANG));
const PEEK: Wait = Wait::any(EXITED.union(Options::NOWAIT));
const OWN: Wait = Wait::any(EXITED.union(Options::NOTHREAD));
const EVERYTHING: Wait = Wait::any(EXITED.union(Options::STOPPED).union(Options::CONTINUED));
const STOPS: Wait = Wait::any(Options::STOPPED);

const NOBODY: Configuration = Configuration::EMPTY;
const ALL: &[Process] = &[Parent, First, Second, Third, Grandchild];
const CHILDREN: &[Process] = &[First, Second, Third, Grandchild];
const STOPS_AND_KILL: &[(Process, Process, Signal)] =
    &[(Parent, First, Signal::Stop), (Parent, First, Signal::Continue), (Parent, First, Signal::Kill)];

/// Everybody is there from the beginning, and may exit.
const FAMILY: Configuration = Configuration {
    queues: true,
    born: ALL,
    waits: &[(Parent, &[ANY, PEEK, POLL]), (First, &[ANY])],
    exits: ALL,
    subreaper: true,
    ..NOBODY
};

/// As many kinds of things happen together as can be explored at all.
const TOGETHER: Configuration = Configuration {
    name: "everything",
    born: ALL,
    waits: &[(Parent, &[EVERYTHING, PEEK]), (First, &[ANY]), (Third, &[ANY])],
    exits: ALL,
    thread_exits: true,
    kills: &[
        (Parent, First, Signal::Stop),
        (Parent, First, Signal::Continue),
        (Third, Second, Signal::Kill),
        (Second, Parent, Signal::User),
    ],
    child_signal: ChildSignal::Handled,
    may_ignore: true,
    subreaper: true,
    traces: &[(Third, First)],
    ..NOBODY
};

/// Explored by every run of the tests.
pub const CONFIGURATIONS: &[Configuration] = &[
    Configuration {
        name: "exits",
        queues: true,
        born: ALL,
        waits: &[
            (Parent, &[ANY, POLL, PEEK, Wait::named(First, EXITED), Wait::named(Grandchild, EXITED)]),
            (First, &[ANY]),
        ],
        exits: ALL,
        kills: &[(Parent, First, Signal::Kill), (Third, Parent, Signal::Kill)],
        ..NOBODY
    },
    Configuration {
        name: "threads",
        born: &[Parent],
        forks: true,
        waits: &[(Parent, &[ANY, OWN, PEEK]), (First, &[ANY])],
        exits: CHILDREN,
        thread_exits: true,
        kills: &[(First, Parent, Signal::Kill), (Second, Parent, Signal::User)],
        restarts: true,
        subreaper: true,
        ..NOBODY
    },
    Configuration {
        name: "signals",
        exits: CHILDREN,
        thread_exits: true,
        kills: &[(Third, Parent, Signal::User), (Second, Parent, Signal::Kill)],
        child_signal: ChildSignal::Handled,
        ..FAMILY
    },
    Configuration {
        name: "ignored",
        child_signal: ChildSignal::HandledWithoutZombies,
        may_ignore: true,
        ..FAMILY
    },
    Configuration { name: "ignored later", child_signal: ChildSignal::Handled, may_ignore: true, ..FAMILY },
    Configuration {
        name: "stops",
        queues: true,
        born: &[Parent, First, Second, Grandchild],
        waits: &[(Parent, &[EVERYTHING, STOPS, PEEK]), (First, &[EVERYTHING])],
        exits: &[Parent, First, Second, Grandchild],
        kills: STOPS_AND_KILL,
        subreaper: true,
        ..NOBODY
    },
    Configuration {
        name: "stopped parent",
        queues: true,
        born: &[Parent, First, Second, Grandchild],
        waits: &[(Parent, &[ANY, OWN]), (First, &[ANY])],
        exits: &[First, Grandchild],
        thread_exits: true,
        kills: &[
            (Second, Parent, Signal::Stop),
            (Second, Parent, Signal::Continue),
            (Second, Parent, Signal::Kill),
            (Second, Parent, Signal::User),
        ],
        subreaper: true,
        restarts: true,
        ..NOBODY
    },
    Configuration {
        name: "tracing",
        queues: true,
        born: &[Parent, First, Third],
        waits: &[(Parent, &[ANY, EVERYTHING, Wait::named(First, EXITED)]), (Third, &[ANY, PEEK])],
        exits: &[Parent, First, Third],
        kills: STOPS_AND_KILL,
        traces: &[(Third, First)],
        child_signal: ChildSignal::Handled,
        ..NOBODY
    },
    Configuration {
        name: "tracers",
        born: ALL,
        waits: &[(Parent, &[ANY, EVERYTHING, PEEK]), (First, &[EVERYTHING]), (Third, &[ANY, PEEK])],
        exits: ALL,
        kills: &[
            (Parent, First, Signal::Stop),
            (Parent, First, Signal::Continue),
            (Parent, First, Signal::Kill),
            (Third, Second, Signal::Kill),
        ],
        traces: &[(Third, First), (Third, Second), (Parent, First)],
        subreaper: true,
        ..NOBODY
    },
    TOGETHER,
];

/// Explored when somebody asks for it: minutes and gigabytes.
pub const LARGE: &[Configuration] = &[
    Configuration {
        name: "everything more",
        waits: &[(Parent, &[EVERYTHING, PEEK, POLL, OWN]), (First, &[ANY]), (Third, &[ANY])],
        kills: &[
            (Parent, First, Signal::Stop),
            (Parent, First, Signal::Continue),
            (Parent, First, Signal::Kill),
            (Third, Second, Signal::Kill),
            (Second, Parent, Signal::User),
        ],
        ..TOGETHER
    },
    Configuration {
        name: "stops of all",
        born: ALL,
        waits: &[(Parent, &[EVERYTHING, STOPS, PEEK]), (First, &[EVERYTHING])],
        exits: &[Parent, First, Third, Grandchild],
        kills: &[
            (Parent, First, Signal::Stop),
            (Parent, First, Signal::Continue),
            (Parent, First, Signal::Kill),
            (Third, Parent, Signal::Stop),
            (Third, Parent, Signal::Continue),
            (Third, Parent, Signal::Kill),
            (Third, Parent, Signal::User),
        ],
        subreaper: true,
        restarts: true,
        ..NOBODY
    },
];
