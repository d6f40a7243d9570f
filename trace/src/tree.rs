//! `trace tree`: calls under the calls that caused them, across servers; and `--strace`: programs' calls alone, in the
//! lines that strace prints.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::model::{Actor, Call, CallRef, Event, Item, Request, Trace};
use crate::select::Selection;
use crate::words::duration;

/// How far the tree is drawn to the right; what lies deeper is told by its number.
const DEPTH_MAX: usize = 40;
/// Least width of the column that says who.
const WHO_WIDTH: usize = 14;

/// What a tree shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Servers' traps that send nothing, too.
    pub traps: bool,
}

/// The trees of a selection: every chosen thing with all that it caused, but nothing twice.
pub fn tree(trace: &Trace, selection: &Selection<'_>, options: Options) -> String {
    let mut text = String::new();
    let mut shown = vec![false; trace.calls.len()];
    for item in selection.items() {
        let below = trace.cause(item).is_some_and(|cause| shown[cause.0 as usize]);
        if let Item::Call(at) = item {
            // A cause stands before its effects, so this is known by the time they come.
            shown[at.0 as usize] = true;
        }
        if !below {
            one(trace, &mut text, item, 0, options);
        }
        mark_all(trace, item, &mut shown);
    }
    text
}

/// Marks all that something caused as shown.
fn mark_all(trace: &Trace, item: Item, shown: &mut [bool]) {
    let mut left = vec![item];
    while let Some(item) = left.pop() {
        if let Item::Call(at) = item {
            shown[at.0 as usize] = true;
            let fresh = |item: &Item| !matches!(item, Item::Call(at) if shown[at.0 as usize]);
            left.extend(trace.effects(at).iter().copied().filter(fresh));
        }
    }
}

fn is_shown(trace: &Trace, item: Item, options: Options) -> bool {
    match item {
        Item::Call(_) => true,
        Item::Mark(at) => options.traps || !matches!(trace.mark(at).event, Event::Trap { error: None, .. }),
    }
}

fn line(trace: &Trace, text: &mut String, at_ns: u64, who: Actor, depth: usize, what: &str) {
    let time = format!("{}.{:09}", at_ns / 1_000_000_000, at_ns % 1_000_000_000);
    let who = trace.who(who);
    let indent = "  ".repeat(depth);
    let _ = writeln!(text, "{time:>14}  {who:WHO_WIDTH$}  {indent}{what}");
}

fn one(trace: &Trace, text: &mut String, item: Item, depth: usize, options: Options) {
    if !is_shown(trace, item, options) {
        return;
    }
    let at = match item {
        Item::Mark(at) => {
            let mark = trace.mark(at);
            let what = format!("· {}", trace.event(mark));
            return line(trace, text, mark.at_ns, mark.by, depth, &what);
        }
        Item::Call(at) => at,
    };
    let call = trace.call(at);
    line(trace, text, call.made_ns, call.by, depth, &headline(trace, call));
    if depth == DEPTH_MAX {
        let what = format!("… {} more below", trace.effects(at).len());
        return line(trace, text, call.made_ns, call.by, depth + 1, &what);
    }
    below(trace, text, at, depth + 1, options);
}

/// What a call caused, and where it was handed on to, in order of time.
fn below(trace: &Trace, text: &mut String, at: CallRef, depth: usize, options: Options) {
    let call = trace.call(at);
    let mut legs = call.legs.iter().enumerate().skip(1).peekable();
    let mut handed_on = |text: &mut String, until: u64| {
        while let Some((index, leg)) = legs.next_if(|(_, leg)| leg.from_ns <= until) {
            let with = leg.carries.as_ref().map_or_else(String::new, |sent| format!(": {}", sent.text()));
            let what = format!("↪ {}{with}", trace.server(leg.server));
            line(trace, text, leg.from_ns, Actor::Server(call.legs[index - 1].server), depth, &what);
        }
    };
    for effect in trace.effects(at) {
        handed_on(text, trace.begins_ns(*effect));
        one(trace, text, *effect, depth, options);
    }
    handed_on(text, u64::MAX);
}

fn headline(trace: &Trace, call: &Call) -> String {
    let route = match call.legs.first() {
        Some(_) => format!(" → {}", trace.route(call)),
        None => String::new(),
    };
    let end = match call.is_unanswered() {
        true => "unanswered".to_owned(),
        false => duration(call.latency_ns()),
    };
    let id = if call.id == 0 { String::new() } else { format!(", #{:x}", call.id) };
    format!("{} = {}  [{end}{route}{id}]", call.text(), call.result())
}

/// Programs' calls as `strace -f` prints them: thread, call, result, in the order in which they were made; and the
/// ends of threads.
pub fn strace(trace: &Trace, selection: &Selection<'_>) -> String {
    let mut text = String::new();
    let mut ends = trace.marks.iter().filter_map(|mark| match mark.event {
        Event::ThreadEnded { tid, .. } => Some((mark.at_ns, tid)),
        _ => None,
    });
    let mut next = ends.next();
    let mut seen = BTreeSet::new();
    for item in selection.items() {
        let Item::Call(at) = item else { continue };
        let call = trace.call(at);
        let (Actor::Thread { tid, .. }, Request::Linux { .. }) = (call.by, &call.request) else { continue };
        while let Some((_, tid)) = next.filter(|(at_ns, _)| *at_ns <= call.made_ns) {
            over(&mut text, &mut seen, tid);
            next = ends.next();
        }
        seen.insert(tid);
        let _ = writeln!(text, "{tid} {} = {}", call.text(), call.result());
    }
    for (_, tid) in next.into_iter().chain(ends) {
        over(&mut text, &mut seen, tid);
    }
    text
}

fn over(text: &mut String, seen: &mut BTreeSet<u32>, tid: u32) {
    if seen.remove(&tid) {
        let _ = writeln!(text, "{tid} +++ exited +++");
    }
}

/// `trace grep`: one line for each thing that is chosen.
pub fn grep(trace: &Trace, selection: &Selection<'_>) -> String {
    let mut text = String::new();
    for item in selection.items() {
        let what = match item {
            Item::Call(at) => headline(trace, trace.call(at)),
            Item::Mark(at) => format!("· {}", trace.event(trace.mark(at))),
        };
        line(trace, &mut text, trace.begins_ns(item), trace.by(item), 0, &what);
    }
    text
}

#[cfg(test)]
mod tests;
