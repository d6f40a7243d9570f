//! Where things stand on a timeline: a track for each thread and server, and as many lanes of a track as there are
//! calls in it at once.

use std::collections::BTreeMap;

use crate::model::{Actor, CallRef, Item, Trace};
use crate::select::Selection;

/// A piece of a call on a lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The call.
    pub call: CallRef,
    /// The place in its legs; `None` on the lane of the thread that made it.
    pub leg: Option<u32>,
    /// Its begin.
    pub from_ns: u64,
    /// Its end.
    pub to_ns: u64,
}

/// A line of spans of which none cuts another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lane {
    /// Whose it is.
    pub owner: Actor,
    /// How many of the same owner stand before it.
    pub number: u32,
    /// Its spans in order of their begin.
    pub spans: Vec<Span>,
}

/// All lanes: those of servers by number, then programs' in order of process and thread.
pub fn lanes(trace: &Trace, selection: &Selection<'_>) -> Vec<Lane> {
    let mut owners: BTreeMap<Owner, Vec<Span>> = BTreeMap::new();
    for item in selection.items() {
        let Item::Call(at) = item else { continue };
        let call = trace.call(at);
        if let Actor::Thread { .. } = call.by {
            let (from_ns, to_ns) = (call.made_ns, call.ended_ns);
            owners.entry(Owner::of(call.by)).or_default().push(Span { call: at, leg: None, from_ns, to_ns });
        }
        for (index, leg) in call.legs.iter().enumerate() {
            let leg_number = Some(index as u32);
            let span = Span { call: at, leg: leg_number, from_ns: leg.from_ns, to_ns: leg.to_ns };
            owners.entry(Owner::of(Actor::Server(leg.server))).or_default().push(span);
        }
    }
    owners.into_iter().flat_map(|(owner, spans)| spread(owner.actor(), spans)).collect()
}

/// The order of owners.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Owner(u8, u32, u32);

impl Owner {
    fn of(actor: Actor) -> Owner {
        match actor {
            Actor::Server(number) => Owner(0, number, 0),
            Actor::Thread { pid, tid } => Owner(1, pid, tid),
            Actor::Kernel => Owner(2, 0, 0),
        }
    }

    fn actor(self) -> Actor {
        match self {
            Owner(0, number, _) => Actor::Server(number),
            Owner(1, pid, tid) => Actor::Thread { pid, tid },
            Owner(..) => Actor::Kernel,
        }
    }
}

/// One owner's spans on as few lanes as they need. What a thread does within a call stands inside it; of a server's
/// calls none is inside another.
fn spread(owner: Actor, mut spans: Vec<Span>) -> Vec<Lane> {
    let nests = matches!(owner, Actor::Thread { .. });
    spans.sort_by_key(|span| (span.from_ns, std::cmp::Reverse(span.to_ns)));
    let mut lanes: Vec<Lane> = Vec::new();
    let mut open: Vec<Vec<u64>> = Vec::new();
    for span in spans {
        let place = open.iter_mut().position(|ends| {
            while ends.last().is_some_and(|end| *end <= span.from_ns) {
                ends.pop();
            }
            ends.last().is_none_or(|end| nests && span.to_ns <= *end)
        });
        let place = place.unwrap_or_else(|| {
            open.push(Vec::new());
            lanes.push(Lane { owner, number: lanes.len() as u32, spans: Vec::new() });
            open.len() - 1
        });
        open[place].push(span.to_ns);
        lanes[place].spans.push(span);
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from_ns: u64, to_ns: u64) -> Span {
        Span { call: CallRef(0), leg: None, from_ns, to_ns }
    }

    #[test]
    fn a_servers_calls_stand_beside_each_other_while_they_overlap() {
        let lanes = spread(Actor::Server(1), vec![span(0, 10), span(2, 5), span(6, 8), span(10, 11)]);
        let spans: Vec<_> = lanes.iter().map(|lane| lane.spans.clone()).collect();
        assert_eq!(spans, [vec![span(0, 10), span(10, 11)], vec![span(2, 5), span(6, 8)]]);
    }

    #[test]
    fn what_a_thread_does_within_a_call_stands_inside_it() {
        let thread = Actor::Thread { pid: 1, tid: 1 };
        let lanes = spread(thread, vec![span(0, 10), span(2, 5), span(4, 12)]);
        let spans: Vec<_> = lanes.iter().map(|lane| lane.spans.clone()).collect();
        assert_eq!(spans, [vec![span(0, 10), span(2, 5)], vec![span(4, 12)]]);
    }
}
