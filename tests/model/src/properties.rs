//! What must hold in every state.

use stateright::Property;

use crate::Protocol;
use crate::cast::{PROCESSES, THREADS, Thread};
use crate::kernel::At;
use crate::ledger::{Breaches, Fate};
use crate::protocol::{End, Late, Request, Wait};
use crate::server::{Life, On};
use crate::world::State;

/// Names a property and says when it holds.
type Sentence = (&'static str, fn(&Protocol, &State) -> bool);

/// A status is told twice to nobody.
pub const ONCE: &str = "a status is delivered at most once";
/// Nor to a stranger.
pub const RIGHTFUL: &str = "a status goes to its tracer first and then to its parent, and to nobody else";
/// Nor a wrong one.
pub const TRUE: &str = "what is told is what is";
/// Nor is one lost.
pub const KEPT: &str = "no status is lost";
/// The race that started it all.
pub const AWAKE: &str = "no wait sleeps while a child it may reap is dead";
/// The same for stops and continues.
pub const NEWS: &str = "no wait sleeps while there is news for it";
/// Nor is there a wait for nothing.
pub const HOPE: &str = "no wait sleeps when nothing can come";
/// Nor a false end of waiting.
pub const ECHILD: &str = "ECHILD is given only when it is true";
/// Orphans have a home.
pub const PARENTS: &str = "no process is without a living parent, and no zombie is init's";
/// The kernel would call the server faulty otherwise.
pub const ANSWERED_ONCE: &str = "a call is answered once";
/// Nobody is forgotten in a call, or held for no reason, or left with a signal.
pub const SERVED: &str = "whoever can be served is served";
/// SA_RESTART means what it says.
pub const EINTR: &str = "a wait fails with EINTR only for a handler that wants it";
/// A thread cannot see what a signal told of before it takes the signal.
pub const IN_ORDER: &str = "a thread that was called in comes in before its program goes on";
/// SIGCHLD comes with waitability.
pub const SIGNALLED: &str = "a SIGCHLD handler finds its child";
/// A stop is a stop.
pub const STOPPED: &str = "nobody runs in a process that has stopped";
/// Nothing goes on for ever by itself.
pub const REST: &str = "left alone, everything comes to rest";

const SENTENCES: &[Sentence] = &[
    (ONCE, |_, state| keeps(state, Breaches::TWICE)),
    (RIGHTFUL, |_, state| keeps(state, Breaches::STRANGER)),
    (TRUE, |_, state| keeps(state, Breaches::UNTRUE)),
    (KEPT, |_, state| statuses_are_kept(state)),
    (AWAKE, |_, state| keeps(state, Breaches::OVERLOOKED) && nobody_sleeps_beside_the_dead(state)),
    (NEWS, |_, state| nobody_sleeps_beside_news(state)),
    (HOPE, |_, state| everybody_who_sleeps_has_hope(state)),
    (ECHILD, |_, state| keeps(state, Breaches::FALSE_ECHILD)),
    (PARENTS, |_, state| everybody_has_a_parent(state)),
    (ANSWERED_ONCE, |_, state| keeps(state, Breaches::NO_SUCH_CALL)),
    (SERVED, |_, state| everybody_is_served(state)),
    (EINTR, |_, state| keeps(state, Breaches::FALSE_EINTR)),
    (IN_ORDER, |_, state| keeps(state, Breaches::SLIPPED_OUT)),
    (SIGNALLED, |_, state| keeps(state, Breaches::EARLY_SIGNAL)),
    (STOPPED, |_, state| stops_are_complete(state)),
    (REST, |_, state| keeps(state, Breaches::RESTLESS)),
];

/// The properties as the checker wants them.
pub fn properties() -> Vec<Property<Protocol>> {
    SENTENCES.iter().map(|(name, holds)| Property::always(name, *holds)).collect()
}

fn keeps(state: &State, breach: Breaches) -> bool {
    !state.ledger.breaches.contains(breach)
}

/// The waits in which threads sleep, by the kernel's word: not those that are about to end or about to be parked.
fn sleepers(state: &State) -> impl Iterator<Item = (Thread, Wait)> + '_ {
    let late = match state.table.late {
        Some(Late::Park(thread, _)) => Some(thread),
        _ => None,
    };
    THREADS.into_iter().filter_map(move |thread| match state.kernel.thread(thread).at {
        At::Call(Request::Wait(wait)) if late != Some(thread) => Some((thread, wait)),
        _ => None,
    })
}

fn nobody_sleeps_beside_the_dead(state: &State) -> bool {
    sleepers(state).all(|(thread, wait)| {
        let reapable = |process| wait.names(process) && state.ledger.of(process).is_reapable(thread, wait);
        state.table.late.is_some() || !PROCESSES.into_iter().any(reapable)
    })
}

fn everybody_who_sleeps_has_hope(state: &State) -> bool {
    sleepers(state).all(|(thread, wait)| {
        let candidate = |process| wait.names(process) && state.ledger.of(process).is_candidate(thread, wait);
        PROCESSES.into_iter().any(candidate)
    })
}

fn nobody_sleeps_beside_news(state: &State) -> bool {
    state.table.waits().all(|(thread, wait)| {
        let news = |process| {
            let role = state.table.role(thread.process(), process)?;
            let row = state.table.row(process);
            let own = state.ledger.of(process).is_candidate(thread, wait);
            let news = row.news_for(role).filter(|_| wait.names(process) && own)?;
            crate::server::is_for(wait, role, news).then_some(())
        };
        state.table.late.is_some() || PROCESSES.into_iter().all(|process| news(process).is_none())
    })
}

/// Whoever has ended is a zombie until its status is taken; whoever lives is not.
fn statuses_are_kept(state: &State) -> bool {
    PROCESSES.into_iter().all(|process| {
        let life = state.table.row(process).life;
        match state.ledger.of(process).fate {
            Fate::Unborn => life == Life::Unborn,
            Fate::Alive => state.table.row(process).lives(),
            Fate::Ended(end) => life == Life::Zombie(end) || is_late(state, end),
            Fate::Gone => life == Life::Gone || is_late(state, End::Exited) || is_late(state, End::Killed),
        }
    })
}

fn is_late(state: &State, end: End) -> bool {
    matches!(state.table.late, Some(Late::Tell(_, of)) if of == end)
}

fn everybody_has_a_parent(state: &State) -> bool {
    PROCESSES.into_iter().filter(|process| state.table.row(*process).is_visible()).all(|process| {
        let row = state.table.row(process);
        let lives = |process: crate::cast::Process| state.table.row(process).lives();
        let unwanted = row.is_zombie() && row.parent.is_none() && row.tracer.is_none();
        row.parent.is_none_or(lives) && row.tracer.is_none_or(lives) && !unwanted
    })
}

/// Server and kernel agree on who waits in what; nobody is held whose process goes on; and for every signal that
/// somebody would take, somebody is on its way.
fn everybody_is_served(state: &State) -> bool {
    let threads = THREADS.into_iter().all(|thread| {
        let row = state.table.row(thread.process());
        let late = matches!(state.table.late, Some(Late::Park(late, _)) if late == thread);
        match (state.kernel.thread(thread).at, state.table.thread(thread).on) {
            (At::Call(Request::Wait(wait)), On::Child(parked, _)) => parked == wait,
            (At::Call(Request::Wait(_)), On::Nothing) => late,
            (At::Held, On::Held) => row.is_stopping() || row.trapped,
            (At::Unborn | At::Program | At::Queued(_) | At::Attention(_) | At::Dead, On::Nothing) => true,
            _ => false,
        }
    });
    threads && PROCESSES.into_iter().all(|process| signals_find_a_taker(state, process))
}

fn signals_find_a_taker(state: &State, process: crate::cast::Process) -> bool {
    let row = state.table.row(process);
    let coming = |thread| {
        let standing = state.kernel.thread(thread);
        matches!(standing.at, At::Attention(_)) || standing.cancel
    };
    let held_up = row.is_stopping() || row.trapped;
    let waits = held_up && !row.pending.has(crate::protocol::Signal::Kill);
    row.pending.is_empty() || waits || state.kernel.living(process).any(coming)
}

fn stops_are_complete(state: &State) -> bool {
    PROCESSES
        .into_iter()
        .all(|process| state.table.row(process).life != Life::Stopped || state.kernel.is_held(process))
}
