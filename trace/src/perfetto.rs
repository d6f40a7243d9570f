//! `trace perfetto`: a file for Perfetto. Processes with their threads, servers with a track for each call they have at
//! once, slices, and an arrow from whoever makes a call to whoever has it.
//!
//! The messages are the part that is used of the published `perfetto_trace.proto`; its field numbers never change.

use std::collections::BTreeMap;

use prost::Message as _;

use crate::lanes::{Lane, Span, lanes};
use crate::model::{Actor, CallRef, Event, Item, Trace};
use crate::select::Selection;

#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<Packet>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Packet {
    #[prost(uint64, optional, tag = "8")]
    timestamp: Option<u64>,
    #[prost(uint32, optional, tag = "10")]
    trusted_packet_sequence_id: Option<u32>,
    #[prost(message, optional, tag = "11")]
    track_event: Option<TrackEvent>,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<TrackDescriptor>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TrackDescriptor {
    #[prost(uint64, optional, tag = "1")]
    uuid: Option<u64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(message, optional, tag = "3")]
    process: Option<ProcessDescriptor>,
    #[prost(message, optional, tag = "4")]
    thread: Option<ThreadDescriptor>,
    #[prost(uint64, optional, tag = "5")]
    parent_uuid: Option<u64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ProcessDescriptor {
    #[prost(int32, optional, tag = "1")]
    pid: Option<i32>,
    #[prost(string, optional, tag = "6")]
    process_name: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ThreadDescriptor {
    #[prost(int32, optional, tag = "1")]
    pid: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    tid: Option<i32>,
    #[prost(string, optional, tag = "5")]
    thread_name: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct TrackEvent {
    #[prost(message, repeated, tag = "4")]
    debug_annotations: Vec<DebugAnnotation>,
    #[prost(enumeration = "Kind", optional, tag = "9")]
    kind: Option<i32>,
    #[prost(uint64, optional, tag = "11")]
    track_uuid: Option<u64>,
    #[prost(string, repeated, tag = "22")]
    categories: Vec<String>,
    #[prost(string, optional, tag = "23")]
    name: Option<String>,
    #[prost(fixed64, repeated, packed = "false", tag = "47")]
    flow_ids: Vec<u64>,
    #[prost(fixed64, repeated, packed = "false", tag = "48")]
    terminating_flow_ids: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, prost::Enumeration)]
#[repr(i32)]
enum Kind {
    Unspecified = 0,
    SliceBegin = 1,
    SliceEnd = 2,
    Instant = 3,
}

#[derive(Clone, PartialEq, prost::Message)]
struct DebugAnnotation {
    #[prost(string, optional, tag = "6")]
    string_value: Option<String>,
    #[prost(string, optional, tag = "10")]
    name: Option<String>,
}

/// All packets are of one sequence.
const SEQUENCE: u32 = 1;
/// Process ids of servers in the file: above all that programs have.
const SERVER_PIDS: u32 = 1 << 24;
/// The track of what concerns the whole machine.
const MACHINE_TRACK: u64 = 1;

/// The file.
pub fn file(trace: &Trace, selection: &Selection<'_>) -> Vec<u8> {
    let lanes = lanes(trace, selection);
    let mut drawing = Drawing {
        trace,
        packets: Vec::new(),
        of_leg: BTreeMap::new(),
        sent_on: BTreeMap::new(),
        flows: BTreeMap::new(),
    };
    drawing.describe(&lanes);
    for (index, lane) in lanes.iter().enumerate() {
        for span in &lane.spans {
            drawing.of_leg.insert((span.call, span.leg), track(index));
        }
    }
    for lane in &lanes {
        for span in &lane.spans {
            drawing.plan_flows(span);
        }
    }
    for (index, lane) in lanes.iter().enumerate() {
        drawing.lane(track(index), lane);
    }
    drawing.marks(selection);
    drawing.packets.sort_by_key(|packet| packet.timestamp);
    File { packet: drawing.packets }.encode_to_vec()
}

/// The track of a lane; those below are the groups'.
fn track(lane: usize) -> u64 {
    0x1_0000_0000 + lane as u64
}

/// An arrow: to this leg.
fn flow(call: CallRef, leg: u32) -> u64 {
    (u64::from(call.0) + 1) << 16 | u64::from(leg & 0xffff)
}

struct Drawing<'a> {
    trace: &'a Trace,
    packets: Vec<Packet>,
    /// On which track a call's piece is.
    of_leg: BTreeMap<(CallRef, Option<u32>), u64>,
    /// Where a server makes a call: on the track of the call that it makes it for.
    sent_on: BTreeMap<CallRef, u64>,
    /// Arrows that begin at a piece of a call.
    flows: BTreeMap<(CallRef, Option<u32>), Vec<u64>>,
}

impl Drawing<'_> {
    fn push(&mut self, timestamp: Option<u64>, packet: Packet) {
        self.packets.push(Packet { timestamp, trusted_packet_sequence_id: Some(SEQUENCE), ..packet });
    }

    fn descriptor(&mut self, descriptor: TrackDescriptor) {
        self.push(None, Packet { track_descriptor: Some(descriptor), ..Packet::default() });
    }

    fn event(&mut self, at_ns: u64, event: TrackEvent) {
        self.push(Some(at_ns), Packet { track_event: Some(event), ..Packet::default() });
    }

    /// Who has which track. A server is shown as a process, so that it is a group of its own.
    fn describe(&mut self, lanes: &[Lane]) {
        let name = Some("Machine".to_owned());
        self.descriptor(TrackDescriptor { uuid: Some(MACHINE_TRACK), name, ..TrackDescriptor::default() });
        let mut groups = BTreeMap::new();
        for (index, lane) in lanes.iter().enumerate() {
            let (pid, name) = match lane.owner {
                Actor::Thread { pid, .. } => (
                    pid,
                    self.trace.processes.get(&pid).map_or_else(String::new, |process| process.name.clone()),
                ),
                Actor::Server(number) => (SERVER_PIDS + number, self.trace.server(number)),
                Actor::Kernel => (0, "kernel".to_owned()),
            };
            let group = u64::from(pid) + 2;
            if groups.insert(pid, ()).is_none() {
                let process = ProcessDescriptor { pid: Some(pid as i32), process_name: Some(name.clone()) };
                self.descriptor(TrackDescriptor {
                    uuid: Some(group),
                    process: Some(process),
                    ..TrackDescriptor::default()
                });
            }
            let thread = match lane.owner {
                Actor::Thread { pid, tid } if lane.number == 0 => Some(ThreadDescriptor {
                    pid: Some(pid as i32),
                    tid: Some(tid as i32),
                    thread_name: Some(name.clone()),
                }),
                _ => None,
            };
            self.descriptor(TrackDescriptor {
                uuid: Some(track(index)),
                name: thread.is_none().then_some(name),
                parent_uuid: thread.is_none().then_some(group),
                thread,
                ..TrackDescriptor::default()
            });
        }
    }

    /// An arrow begins where a call was handed on, or at the thread that made it. Those of servers' calls begin at an
    /// instant of their own, if it is known what the server was doing.
    fn plan_flows(&mut self, span: &Span) {
        let Some(leg) = span.leg else { return };
        let call = self.trace.call(span.call);
        let from = (span.call, leg.checked_sub(1));
        if self.of_leg.contains_key(&from) {
            self.flows.entry(from).or_default().push(flow(span.call, leg));
        } else if leg == 0
            && let Some(track) = call.cause.and_then(|cause| self.track_of(cause, call.by))
        {
            self.sent_on.insert(span.call, track);
        }
    }

    /// The arrow that ends at a piece of a call.
    fn arrives(&self, span: &Span) -> Option<u64> {
        let leg = span.leg?;
        let begins = self.flows.contains_key(&(span.call, leg.checked_sub(1)))
            || leg == 0 && self.sent_on.contains_key(&span.call);
        begins.then(|| flow(span.call, leg))
    }

    fn lane(&mut self, track: u64, lane: &Lane) {
        let mut open: Vec<u64> = Vec::new();
        for span in &lane.spans {
            while let Some(end) = open.pop_if(|end| *end <= span.from_ns) {
                self.slice_end(track, end);
            }
            self.slice_begin(track, span);
            open.push(span.to_ns);
        }
        while let Some(end) = open.pop() {
            self.slice_end(track, end);
        }
    }

    fn slice_end(&mut self, track: u64, at_ns: u64) {
        let kind = Some(Kind::SliceEnd.into());
        self.event(at_ns, TrackEvent { kind, track_uuid: Some(track), ..TrackEvent::default() });
    }

    fn slice_begin(&mut self, track: u64, span: &Span) {
        let call = self.trace.call(span.call);
        let carried = span.leg.and_then(|leg| call.legs[leg as usize].carries.as_ref());
        let mut notes = vec![
            note("call", call.text()),
            note("result", call.result()),
            note("by", self.trace.who(call.by)),
            note("id", format!("{:#x}", call.id)),
        ];
        if let Some(sent) = carried {
            notes.push(note("carries", sent.text()));
        }
        let category = if call.has_failed() { "failed" } else { "call" };
        self.event(
            span.from_ns,
            TrackEvent {
                debug_annotations: notes,
                kind: Some(Kind::SliceBegin.into()),
                track_uuid: Some(track),
                categories: vec![category.to_owned()],
                name: Some(call.operation()),
                flow_ids: self.flows.get(&(span.call, span.leg)).cloned().unwrap_or_default(),
                terminating_flow_ids: self.arrives(span).into_iter().collect(),
            },
        );
        if span.leg == Some(0)
            && let Some(track) = self.sent_on.get(&span.call)
        {
            self.sent(span.call, *track);
        }
    }

    /// A server's call as a point on the track of the call that it made it for, whence the arrow comes.
    fn sent(&mut self, at: CallRef, track: u64) {
        let call = self.trace.call(at);
        let event = TrackEvent {
            kind: Some(Kind::Instant.into()),
            track_uuid: Some(track),
            categories: vec!["sent".to_owned()],
            name: Some(format!("{} →", call.operation())),
            flow_ids: vec![flow(at, 0)],
            ..TrackEvent::default()
        };
        self.event(call.made_ns, event);
    }

    /// The track on which somebody works at a call.
    fn track_of(&self, call: CallRef, by: Actor) -> Option<u64> {
        let legs = &self.trace.call(call).legs;
        let leg = legs.iter().rposition(|leg| Actor::Server(leg.server) == by);
        self.of_leg.get(&(call, leg.map(|leg| leg as u32))).copied()
    }

    /// What happened without taking time, where it happened; servers' other traps are left out.
    fn marks(&mut self, selection: &Selection<'_>) {
        for item in selection.items() {
            let Item::Mark(at) = item else { continue };
            let mark = self.trace.mark(at);
            if matches!(mark.event, Event::Trap { error: None, .. }) {
                continue;
            }
            let track = mark.cause.and_then(|cause| self.track_of(cause, mark.by)).unwrap_or(MACHINE_TRACK);
            let event = TrackEvent {
                debug_annotations: vec![note("by", self.trace.who(mark.by))],
                kind: Some(Kind::Instant.into()),
                track_uuid: Some(track),
                categories: vec![mark.event.kind().to_owned()],
                name: Some(self.trace.event(mark)),
                ..TrackEvent::default()
            };
            self.event(mark.at_ns, event);
        }
    }
}

fn note(name: &str, value: String) -> DebugAnnotation {
    DebugAnnotation { string_value: Some(value), name: Some(name.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(expression: &str) -> File {
        let trace = crate::read(&crate::synthetic::trace(30)).unwrap();
        let bytes = file(&trace, &Selection::new(&trace, expression).unwrap());
        File::decode(&bytes[..]).unwrap()
    }

    fn events(file: &File) -> impl Iterator<Item = (u64, &TrackEvent)> {
        file.packet.iter().filter_map(|packet| Some((packet.timestamp?, packet.track_event.as_ref()?)))
    }

    #[test]
    fn every_slice_ends_and_none_cuts_another() {
        let mut open: BTreeMap<u64, u32> = BTreeMap::new();
        for (_, event) in events(&drawn("")) {
            let depth = open.entry(event.track_uuid.unwrap()).or_default();
            match event.kind() {
                Kind::SliceBegin => *depth += 1,
                Kind::SliceEnd => *depth = depth.checked_sub(1).expect("an end without a begin"),
                Kind::Instant | Kind::Unspecified => {}
            }
        }
        assert!(open.values().all(|depth| *depth == 0), "{open:?}");
    }

    #[test]
    fn every_arrow_has_both_its_ends() {
        for expression in ["", "message", "linux"] {
            arrows_of(&drawn(expression), expression != "message");
        }
    }

    fn arrows_of(file: &File, some: bool) {
        let all = |ids: fn(&TrackEvent) -> &Vec<u64>| {
            let mut all: Vec<u64> = events(file).flat_map(|(_, event)| ids(event).clone()).collect();
            all.sort_unstable();
            all
        };
        let (begun, ended) = (all(|event| &event.flow_ids), all(|event| &event.terminating_flow_ids));
        assert_eq!(!begun.is_empty(), some);
        assert_eq!(begun, ended);
    }

    #[test]
    fn servers_and_threads_have_tracks_of_their_names() {
        let file = drawn("");
        let descriptors = || file.packet.iter().filter_map(|packet| packet.track_descriptor.as_ref());
        let threads: Vec<i32> = descriptors().filter_map(|one| one.thread.as_ref()?.tid).collect();
        assert_eq!(threads, [10, 11]);
        let named = |name: &str| {
            descriptors()
                .any(|one| one.process.as_ref().and_then(|own| own.process_name.as_deref()) == Some(name))
        };
        assert!(named("ufs") && named("ls"));
    }
}
