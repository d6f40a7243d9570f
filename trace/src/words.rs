//! Calls and marks in words: the same in every form.

use libipc::abi::Protection;

use crate::linux;
use crate::model::{Actor, Call, Event, Item, Leg, LegEnd, Mark, Outcome, Request, Sent, Trace};
use crate::native;

impl Trace {
    /// A server's name.
    pub fn server(&self, number: u32) -> String {
        self.servers.get(&number).cloned().unwrap_or_else(|| format!("server {number}"))
    }

    /// Who acts, in a word.
    pub fn who(&self, actor: Actor) -> String {
        match actor {
            Actor::Kernel => "kernel".to_owned(),
            Actor::Server(number) => self.server(number),
            Actor::Thread { pid, tid } => {
                let name = self.processes.get(&pid).map_or("", |process| process.name.as_str());
                let name = if name.is_empty() { "process" } else { name };
                if pid == tid { format!("{name}[{pid}]") } else { format!("{name}[{pid}/{tid}]") }
            }
        }
    }

    /// Which servers had a call, in order.
    pub fn route(&self, call: &Call) -> String {
        let mut names: Vec<String> = call.legs.iter().map(|leg| self.server(leg.server)).collect();
        names.dedup();
        names.join(" → ")
    }

    /// Something in one line without time and maker.
    pub fn line(&self, item: Item) -> String {
        match item {
            Item::Call(at) => {
                let call = self.call(at);
                format!("{} = {}", call.text(), call.result())
            }
            Item::Mark(at) => self.event(self.mark(at)),
        }
    }

    /// A mark in words.
    pub fn event(&self, mark: &Mark) -> String {
        match &mark.event {
            Event::Copied { bytes, into_caller: true } => format!("copies {bytes} bytes to the caller"),
            Event::Copied { bytes, into_caller: false } => format!("copies {bytes} bytes from the caller"),
            Event::Notified { server, bits } => format!("notifies {} ({bits:#x})", self.server(*server)),
            Event::LastClose { server, badge } => {
                format!("tells {} of the last close of {badge:#x}", self.server(*server))
            }
            Event::Ready { server } => format!("tells {} that a page is there", self.server(*server)),
            Event::Watched { server } => format!("tells {} that a watch is ready", self.server(*server)),
            Event::CancelAsked { server } => format!("asks {} for the call back", self.server(*server)),
            Event::Redelivered { server } => format!("delivers again to {}", self.server(*server)),
            Event::ThreadMade { pid, tid } => format!("thread {tid} of process {pid} begins"),
            Event::ThreadEnded { pid, tid } => format!("thread {tid} of process {pid} ends"),
            Event::Exec { pid, name } => format!("process {pid} runs {name}"),
            Event::ProcessEnded { pid } => format!("process {pid} ends"),
            Event::Died { server, fault: None, .. } => format!("{} is killed", self.server(*server)),
            Event::Died { server, fault: Some(fault), instruction } => {
                format!("{} dies at {instruction:#x}: {fault}", self.server(*server))
            }
            Event::Gone { server } => format!("{} is given up", self.server(*server)),
            Event::Disposed { server, how } => {
                let how = how.map_or_else(|| "disposed of".to_owned(), |how| how.to_string());
                format!("what kills {} again and again: {how}", self.server(*server))
            }
            Event::Restarted { server, incarnation } => {
                format!("{} begins incarnation {incarnation}", self.server(*server))
            }
            Event::Live { server } => format!("{} has caught up", self.server(*server)),
            Event::Lost { records } => format!("{records} records were lost"),
            Event::FilterChanged => "the filter changes".to_owned(),
            Event::Trap { name, arguments, error } => {
                let arguments: Vec<String> = arguments.iter().map(|word| format!("{word:#x}")).collect();
                let error = error.map_or_else(String::new, |error| format!(": {error}"));
                format!("{name}({}){error}", arguments.join(", "))
            }
        }
    }
}

impl Call {
    /// The operation alone: `openat`, `block.read`, `page fault`.
    pub fn operation(&self) -> String {
        match &self.request {
            Request::Linux { number, .. } => linux::name(*number),
            Request::Message(sent) => native::name(sent.message.label),
            Request::PageFault { .. } => "page fault".to_owned(),
            Request::Exception { .. } => "exception".to_owned(),
            Request::Attention => "attention".to_owned(),
            Request::Unknown => "unknown".to_owned(),
        }
    }

    /// What it asks, with its arguments.
    pub fn text(&self) -> String {
        match &self.request {
            Request::Linux { number, arguments, inputs } => linux::call(*number, arguments, inputs),
            Request::Message(sent) => sent.text(),
            Request::PageFault { address, access } => {
                let access = Protection::from_bits_truncate(*access as u8);
                let how = match () {
                    () if access.contains(Protection::WRITE) => "write",
                    () if access.contains(Protection::EXECUTE) => "execute",
                    () => "read",
                };
                format!("page fault({address:#x}, {how})")
            }
            Request::Exception { vector, instruction } => {
                format!("exception({vector}, at {instruction:#x})")
            }
            Request::Attention => "attention()".to_owned(),
            Request::Unknown => "(a call whose beginning the trace does not have)".to_owned(),
        }
    }

    /// How it ended.
    pub fn result(&self) -> String {
        match (&self.outcome, &self.request) {
            (Some(Outcome::Returned(value)), Request::Linux { number, .. }) => {
                linux::result(*number, Some(*value))
            }
            (Some(Outcome::Returned(value)), _) => {
                let errno = linux::errno_of(*value).and_then(linux::errno_name);
                errno.map_or_else(|| value.to_string(), |errno| format!("failed: {errno}"))
            }
            (Some(Outcome::Answered(answer)), Request::Message(asked)) => {
                native::answer(asked.message.label, answer).0
            }
            (Some(Outcome::Answered(answer)), _) if answer.message.label == 0 => "done".to_owned(),
            (Some(Outcome::Answered(answer)), _) => format!("error {}", answer.message.label),
            (Some(Outcome::Refused(error)), _) => format!("refused: {error}"),
            (None | Some(Outcome::Withdrawn), Request::Linux { number, .. }) => linux::result(*number, None),
            (Some(Outcome::Withdrawn), _) => "withdrawn".to_owned(),
            (None, _) => "?".to_owned(),
        }
    }
}

impl Sent {
    /// The message with its arguments.
    pub fn text(&self) -> String {
        format!("{}({})", native::name(self.message.label), native::request(self))
    }
}

impl Leg {
    /// How long the server had the call.
    pub fn duration_ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns)
    }

    /// What became of the call there.
    pub fn ending(&self) -> &'static str {
        match self.end {
            LegEnd::Open => "open",
            LegEnd::Answered => "answered",
            LegEnd::Forwarded => "forwarded",
            LegEnd::Dropped => "dropped",
        }
    }
}

/// A time or a span in the unit that suits it.
pub fn duration(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{:.1} µs", ns as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} ms", ns as f64 / 1e6),
        _ => format!("{:.2} s", ns as f64 / 1e9),
    }
}
