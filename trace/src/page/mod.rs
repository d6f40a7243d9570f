//! `trace html`: one page with everything in it, that a browser opens from the disk: a timeline, a list with search,
//! the messages in words, their causes and effects, and a sequence diagram of what belongs together.
//!
//! The page has the trace as columns of numbers, and every text once. `page.js` draws what is visible, and no more.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::lanes::lanes;
use crate::model::{Actor, Call, Event, Item, Trace};
use crate::select::Selection;

/// Bits of [`Items::flags`]; `page.js` has them, too.
mod flag {
    pub const MARK: u32 = 1;
    pub const FAILED: u32 = 2;
    pub const SLOW: u32 = 4;
    pub const UNANSWERED: u32 = 8;
    /// A servers' trap that sends nothing.
    pub const TRAP: u32 = 16;
}

#[derive(Serialize)]
struct Page {
    machine: String,
    notes: Vec<String>,
    /// Time of the first record, in ns since boot; all other times are from there.
    begin: u64,
    span: u64,
    strings: Vec<String>,
    /// Owner (a string) and number of each lane.
    lanes: Vec<(u32, u32)>,
    items: Items,
    spans: Spans,
}

/// A column for each property; strings by their places.
#[derive(Serialize, Default)]
struct Items {
    at: Vec<u64>,
    len: Vec<u64>,
    by: Vec<u32>,
    operation: Vec<u32>,
    text: Vec<u32>,
    result: Vec<u32>,
    route: Vec<u32>,
    /// The call's name in the kernel, as it is printed.
    id: Vec<u32>,
    /// Place of the cause; -1 for none.
    cause: Vec<i64>,
    flags: Vec<u32>,
}

#[derive(Serialize, Default)]
struct Spans {
    lane: Vec<u32>,
    item: Vec<u32>,
    from: Vec<u64>,
    len: Vec<u64>,
    /// What was said when the call was handed on to here.
    carries: Vec<u32>,
}

/// Texts, each once.
struct Strings {
    places: BTreeMap<String, u32>,
    all: Vec<String>,
}

impl Strings {
    fn place(&mut self, text: String) -> u32 {
        let next = self.all.len() as u32;
        *self.places.entry(text).or_insert_with_key(|text| {
            self.all.push(text.clone());
            next
        })
    }
}

/// The page.
pub fn html(trace: &Trace, selection: &Selection<'_>) -> String {
    let slow = Selection::new(trace, "slow").ok();
    let chosen: Vec<Item> = selection.items().collect();
    let places: BTreeMap<Item, u32> = (0..).zip(&chosen).map(|(place, item)| (*item, place)).collect();
    let mut strings = Strings { places: BTreeMap::new(), all: Vec::new() };
    let mut items = Items::default();
    for item in &chosen {
        let is_slow = slow.as_ref().is_some_and(|slow| slow.holds(*item));
        items.add(trace, *item, is_slow, &places, &mut strings);
    }
    let mut spans = Spans::default();
    let mut own_lanes = Vec::new();
    for (number, lane) in (0..).zip(lanes(trace, selection)) {
        own_lanes.push((strings.place(trace.who(lane.owner)), lane.number));
        for span in &lane.spans {
            let Some(place) = places.get(&Item::Call(span.call)) else { continue };
            let leg = span.leg.and_then(|leg| trace.call(span.call).legs.get(leg as usize));
            let carries =
                leg.and_then(|leg| leg.carries.as_ref()).map_or_else(String::new, |sent| sent.text());
            spans.lane.push(number);
            spans.item.push(*place);
            spans.from.push(span.from_ns.saturating_sub(trace.begin_ns));
            spans.len.push(span.to_ns.saturating_sub(span.from_ns));
            spans.carries.push(strings.place(carries));
        }
    }
    let page = Page {
        machine: trace.machine.clone(),
        notes: trace.notes.clone(),
        begin: trace.begin_ns,
        span: trace.end_ns.saturating_sub(trace.begin_ns),
        strings: strings.all,
        lanes: own_lanes,
        items,
        spans,
    };
    // What a program wrote must not end the element that it stands in.
    let data = serde_json::to_string(&page).unwrap_or_default().replace('<', "\\u003c");
    include_str!("page.html")
        .replace("/*STYLE*/", include_str!("page.css"))
        .replace("/*SCRIPT*/", include_str!("page.js"))
        .replace("/*DATA*/", &data)
}

impl Items {
    fn add(
        &mut self,
        trace: &Trace,
        item: Item,
        is_slow: bool,
        places: &BTreeMap<Item, u32>,
        strings: &mut Strings,
    ) {
        let (len, texts, mut flags) = match item {
            Item::Call(at) => {
                let call = trace.call(at);
                (call.latency_ns(), of_call(trace, call), of_call_flags(call))
            }
            Item::Mark(at) => {
                let mark = trace.mark(at);
                let is_trap = matches!(mark.event, Event::Trap { .. });
                let is_refused = matches!(mark.event, Event::Trap { error: Some(_), .. });
                let flags = flag::MARK
                    | if is_trap { flag::TRAP } else { 0 }
                    | if is_refused { flag::FAILED } else { 0 };
                let kind = mark.event.kind().to_owned();
                (0, [kind, trace.event(mark), String::new(), String::new(), String::new()], flags)
            }
        };
        if is_slow {
            flags |= flag::SLOW;
        }
        let [operation, text, result, route, id] = texts.map(|text| strings.place(text));
        let cause = trace.cause(item).and_then(|cause| places.get(&Item::Call(cause)));
        let by = match trace.by(item) {
            Actor::Kernel => strings.place("kernel".to_owned()),
            actor => strings.place(trace.who(actor)),
        };
        self.at.push(trace.begins_ns(item).saturating_sub(trace.begin_ns));
        self.len.push(len);
        self.by.push(by);
        self.operation.push(operation);
        self.text.push(text);
        self.result.push(result);
        self.route.push(route);
        self.id.push(id);
        self.cause.push(cause.map_or(-1, |place| i64::from(*place)));
        self.flags.push(flags);
    }
}

fn of_call(trace: &Trace, call: &Call) -> [String; 5] {
    let id = if call.id == 0 { String::new() } else { format!("#{:x}", call.id) };
    [call.operation(), call.text(), call.result(), trace.route(call), id]
}

fn of_call_flags(call: &Call) -> u32 {
    let failed = if call.has_failed() { flag::FAILED } else { 0 };
    failed | if call.is_unanswered() { flag::UNANSWERED } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(rounds: u32) -> String {
        let trace = crate::read(&crate::synthetic::trace(rounds)).unwrap();
        html(&trace, &Selection::new(&trace, "").unwrap())
    }

    fn data(page: &str) -> serde_json::Value {
        let start = page.find("<script type=\"application/json\" id=\"data\">").unwrap();
        let text = &page[start..];
        let text = &text[text.find('>').unwrap() + 1..text.find("</script>").unwrap()];
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = page(2);
        for link in ["http://", "https://", "src=", "@import", "/*DATA*/", "/*SCRIPT*/", "/*STYLE*/"] {
            let at = page.find(link).map(|at| &page[at..at + 60]);
            assert!(at.is_none_or(|text| text.contains("www.w3.org/2000/svg")), "{at:?}");
        }
    }

    #[test]
    fn every_column_has_a_row_for_every_item() {
        let data = data(&page(30));
        let count = data["items"]["at"].as_array().unwrap().len();
        assert!(count > 300);
        for (name, column) in data["items"].as_object().unwrap() {
            assert_eq!(column.as_array().unwrap().len(), count, "{name}");
        }
        let causes = data["items"]["cause"].as_array().unwrap();
        assert!(causes.iter().enumerate().all(|(place, cause)| cause.as_i64().unwrap() < place as i64));
    }

    #[test]
    fn what_a_program_writes_is_no_markup() {
        let mut strings = Strings { places: BTreeMap::new(), all: Vec::new() };
        assert_eq!(
            (strings.place("a".into()), strings.place("b".into()), strings.place("a".into())),
            (0, 1, 0)
        );
        assert_eq!(page(1).matches("</script>").count(), 2);
    }
}
