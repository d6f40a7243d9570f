//! `trace seq`: a sequence diagram of a selection, as SVG: who takes part as columns, time downwards, an arrow for each
//! message and a broken one for its answer.

use std::fmt::Write;

use crate::model::{Actor, Event, Item, Outcome, Trace};
use crate::select::Selection;
use crate::words::duration;

/// Arrows in one picture; a larger selection is cut there, and says so.
pub const ARROWS_MAX: usize = 2000;
const COLUMN: usize = 170;
const LEFT: usize = 110;
const TOP: usize = 70;
const ROW: usize = 26;
/// Characters of a text beside an arrow.
const TEXT_MAX: usize = 56;

/// A line of the diagram.
struct Arrow {
    at_ns: u64,
    from: Actor,
    to: Actor,
    text: String,
    /// What the reader sees who points at it.
    title: String,
    class: &'static str,
}

/// The diagram.
pub fn svg(trace: &Trace, selection: &Selection<'_>) -> String {
    let mut arrows: Vec<Arrow> = Vec::new();
    for item in selection.items() {
        match item {
            Item::Call(at) => of_call(trace, at.0 as usize, &mut arrows),
            Item::Mark(at) => {
                let mark = trace.mark(at);
                if matches!(mark.event, Event::Trap { error: None, .. }) {
                    continue;
                }
                let to = mark.event.server().map_or(mark.by, Actor::Server);
                let text = trace.event(mark);
                let title = text.clone();
                arrows.push(Arrow { at_ns: mark.at_ns, from: mark.by, to, text, title, class: "mark" });
            }
        }
    }
    arrows.sort_by_key(|arrow| arrow.at_ns);
    let cut = arrows.len().saturating_sub(ARROWS_MAX);
    arrows.truncate(ARROWS_MAX);
    drawing(trace, &arrows, cut)
}

fn of_call(trace: &Trace, place: usize, arrows: &mut Vec<Arrow>) {
    let call = &trace.calls[place];
    let title = format!("{} = {}", call.text(), call.result());
    let mut from = call.by;
    for leg in &call.legs {
        let text = match &leg.carries {
            Some(sent) => sent.text(),
            None => call.text(),
        };
        let to = Actor::Server(leg.server);
        arrows.push(Arrow { at_ns: leg.from_ns, from, to, text, title: title.clone(), class: "call" });
        from = to;
    }
    if call.legs.is_empty() {
        let (text, to) = (title.clone(), Actor::Kernel);
        arrows.push(Arrow { at_ns: call.made_ns, from, to, text, title: title.clone(), class: "call" });
        from = to;
    }
    if let Some(outcome) = &call.outcome {
        let class = if call.has_failed() { "failed" } else { "answer" };
        let text = match outcome {
            Outcome::Withdrawn => "withdrawn".to_owned(),
            _ => format!("{} ({})", call.result(), duration(call.latency_ns())),
        };
        arrows.push(Arrow { at_ns: call.ended_ns, from, to: call.by, text, title, class });
    }
}

fn drawing(trace: &Trace, arrows: &[Arrow], cut: usize) -> String {
    let actors = columns(arrows);
    let x = |actor: Actor| {
        LEFT + COLUMN / 2 + COLUMN * actors.iter().position(|known| *known == actor).unwrap_or(0)
    };
    let width = LEFT + COLUMN * actors.len().max(1) + COLUMN;
    let height = TOP + ROW * (arrows.len() + 2);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"11\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <defs><marker id=\"head\" markerWidth=\"9\" markerHeight=\"8\" refX=\"8\" refY=\"4\" orient=\"auto\">\
         <path d=\"M0 0 L9 4 L0 8 z\" fill=\"context-stroke\"/></marker></defs>\n"
    );
    for actor in &actors {
        let (x, bottom, name) = (x(*actor), height - ROW, escaped(&trace.who(*actor)));
        let _ = writeln!(svg, "<line class=\"life\" x1=\"{x}\" y1=\"{TOP}\" x2=\"{x}\" y2=\"{bottom}\"/>");
        let _ = writeln!(
            svg,
            "<rect class=\"who\" x=\"{}\" y=\"{}\" width=\"140\" height=\"26\" rx=\"4\"/>\
             <text class=\"name\" x=\"{x}\" y=\"{}\">{name}</text>",
            x - 70,
            TOP - 40,
            TOP - 23
        );
    }
    let mut before = None;
    for (row, arrow) in arrows.iter().enumerate() {
        let y = TOP + ROW * (row + 1);
        let since = arrow.at_ns.saturating_sub(*before.get_or_insert(arrow.at_ns));
        let _ =
            writeln!(svg, "<text class=\"time\" x=\"{}\" y=\"{y}\">+{}</text>", LEFT - 10, duration(since));
        line(&mut svg, arrow, x(arrow.from), x(arrow.to), y);
    }
    if cut > 0 {
        let y = height - 8;
        let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{y}\">… and {cut} more arrows</text>");
    }
    svg.push_str("</svg>\n");
    svg
}

const STYLE: &str = "line{stroke:#2457a6;stroke-width:1.3}\
    .life{stroke:#ccc}.who{fill:#eef3fb;stroke:#2457a6}.name{text-anchor:middle;font-weight:bold}\
    .time{text-anchor:end;fill:#777}.answer line{stroke-dasharray:5 3;stroke:#3a8a4d}\
    .failed line{stroke-dasharray:5 3;stroke:#c22}.failed text{fill:#c22}.mark line,.mark circle{stroke:#999}\
    .mark text{fill:#777}.halo{paint-order:stroke;stroke:white;stroke-width:3px}";

fn line(svg: &mut String, arrow: &Arrow, from: usize, to: usize, y: usize) {
    let title = escaped(&arrow.title);
    let _ = write!(svg, "<g class=\"{}\"><title>{title}</title>", arrow.class);
    if from == to {
        let _ = write!(svg, "<circle cx=\"{from}\" cy=\"{y}\" r=\"3\" fill=\"#999\"/>");
    } else {
        let _ =
            write!(svg, "<line x1=\"{from}\" y1=\"{y}\" x2=\"{to}\" y2=\"{y}\" marker-end=\"url(#head)\"/>");
    }
    let text = escaped(&shortened(&arrow.text));
    let _ =
        writeln!(svg, "<text class=\"halo\" x=\"{}\" y=\"{}\">{text}</text></g>", from.min(to) + 8, y - 5);
}

/// Who takes part, from left to right: those of one rank in the order in which they come in.
fn columns(arrows: &[Arrow]) -> Vec<Actor> {
    let mut actors = Vec::new();
    for actor in arrows.iter().flat_map(|arrow| [arrow.from, arrow.to]) {
        if !actors.contains(&actor) {
            actors.push(actor);
        }
    }
    actors.sort_by_key(|actor| rank(*actor));
    actors
}

/// Programs stand at the left, then servers, and the kernel at the right.
fn rank(actor: Actor) -> u8 {
    match actor {
        Actor::Thread { .. } => 0,
        Actor::Server(_) => 1,
        Actor::Kernel => 2,
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(rounds: u32, expression: &str) -> String {
        let trace = crate::read(&crate::synthetic::trace(rounds)).unwrap();
        svg(&trace, &Selection::new(&trace, expression).unwrap())
    }

    #[test]
    fn a_call_is_an_arrow_to_each_server_and_one_back() {
        let svg = drawn(1, "call=openat and failed");
        assert_eq!(svg.matches("<g class=\"call\">").count(), 2, "{svg}");
        assert_eq!(svg.matches("<g class=\"failed\">").count(), 1, "{svg}");
        for name in [">ls[11]<", ">vfs<", ">ufs<"] {
            assert!(svg.contains(name), "{name} {svg}");
        }
    }

    #[test]
    fn what_messages_say_is_no_markup() {
        assert_eq!(escaped("<a & \"b\">\u{1}"), "&lt;a &amp; &quot;b&quot;&gt;\u{fffd}");
        assert!(drawn(1, "call=write").contains("write(1, &quot;hello\\n&quot;, 6)"));
    }

    #[test]
    fn a_large_selection_is_cut_and_says_so() {
        let svg = drawn(300, "linux");
        assert_eq!(svg.matches("<g class=").count(), ARROWS_MAX);
        assert!(svg.contains(" more arrows</text>"));
    }
}
