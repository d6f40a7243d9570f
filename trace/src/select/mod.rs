//! The expressions by which records are chosen: `server=ufs and (failed or latency>1ms)`.
//!
//! ```text
//! expression = all { "or" all }
//! all        = one { [ "and" ] one }
//! one        = "not" one | "(" expression ")" | flag | field comparison value { "," value }
//! comparison = "=" | "!=" | "<" | "<=" | ">" | ">=" | "~"
//! ```
//!
//! `~` asks whether a text contains the value; several values mean any of them. Values with blanks stand between
//! double quotes. A field that something does not have (the errno of a page fault) fulfils no comparison but `!=`.

mod parse;

use std::collections::BTreeMap;

use crate::model::{Actor, Event, Item, Request, Trace};

pub use self::parse::BadExpression;

/// Something that is so or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flag {
    /// It ended with an error.
    Failed,
    /// It took ten times as long as half of the calls of its operation, or longer.
    Slow,
    /// Nobody has answered it within the trace.
    Unanswered,
    /// A Linux call.
    Linux,
    /// A message between servers.
    Message,
    /// A page fault or an exception.
    Fault,
    /// No call, but something that happened.
    Mark,
    /// A server died, came again, or got a call again.
    Restart,
}

/// Flags by their names.
pub const FLAGS: &[(&str, Flag)] = &[
    ("failed", Flag::Failed),
    ("slow", Flag::Slow),
    ("unanswered", Flag::Unanswered),
    ("linux", Flag::Linux),
    ("message", Flag::Message),
    ("fault", Flag::Fault),
    ("mark", Flag::Mark),
    ("restart", Flag::Restart),
];

/// What can be compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// The operation: a Linux call's name, `block.read`, `page fault`.
    Call,
    /// A server that had it; of a mark, the one it is about.
    Server,
    /// Who made it: a server, or a program's name.
    By,
    /// The line that forms print of it.
    Text,
    /// The process that made it, or on whose behalf it was made.
    Pid,
    /// The thread that made it.
    Tid,
    /// The errno or protocol error it ended with.
    Errno,
    /// What it returned.
    Result,
    /// How long it took.
    Latency,
    /// When it began, since boot.
    Time,
    /// Its name in the kernel.
    Id,
    /// The name of the call that caused it.
    Cause,
    /// The operation of the call at the root: what all of this was done for.
    Root,
}

/// What can be said in an expression, for those who ask.
pub const HELP: &str = "\
Fields, compared with = != < <= > >= ~ (contains); several values: server=ufs,blk
  call     operation: openat, block.read, \"page fault\"
  root     operation of the call that it was all done for: a program's, most often
  server   a server that had it        by      who made it: a server, or a program's name
  pid      process, its servers' work for it included
  tid      thread that made it         text    the line that is printed of it
  errno    ENOENT, 2                   result  what a Linux call returned
  latency  1500, 20us, 1ms, 2s         time    when it began, since boot
  id       the call's name, 0x…        cause   the name of the call that caused it
Conditions
  failed   slow (ten times the median of its operation)   unanswered   restart
  linux    message (between servers)    fault              mark (no call)
Together: and, or, not, parentheses";

/// What a field's values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Values {
    Text,
    Number,
    /// With a unit.
    Time,
    /// A number or its name.
    Errno,
}

/// Fields by their names.
pub const FIELDS: &[(&str, Field)] = &[
    ("call", Field::Call),
    ("server", Field::Server),
    ("by", Field::By),
    ("text", Field::Text),
    ("pid", Field::Pid),
    ("tid", Field::Tid),
    ("errno", Field::Errno),
    ("result", Field::Result),
    ("latency", Field::Latency),
    ("time", Field::Time),
    ("id", Field::Id),
    ("cause", Field::Cause),
    ("root", Field::Root),
];

impl Field {
    fn values(self) -> Values {
        match self {
            Field::Call | Field::Server | Field::By | Field::Text | Field::Root => Values::Text,
            Field::Latency | Field::Time => Values::Time,
            Field::Errno => Values::Errno,
            Field::Pid | Field::Tid | Field::Result | Field::Id | Field::Cause => Values::Number,
        }
    }
}

/// How a field is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
    Contains,
}

#[derive(Clone, PartialEq, Debug)]
enum Value {
    Text(String),
    Number(i128),
}

/// An expression, read and checked.
#[derive(Clone, PartialEq, Debug)]
enum Expression {
    Flag(Flag),
    Compare(Field, Comparison, Vec<Value>),
    Not(Box<Expression>),
    All(Vec<Expression>),
    Any(Vec<Expression>),
}

/// An expression over one trace.
#[derive(Debug)]
pub struct Selection<'a> {
    trace: &'a Trace,
    expression: Expression,
    /// Of each operation, the latency of the call in the middle.
    medians: BTreeMap<String, u64>,
}

impl<'a> Selection<'a> {
    /// What an expression chooses of a trace; an empty one everything.
    ///
    /// # Errors
    /// [`BadExpression`], which says where and what would have been right.
    pub fn new(trace: &'a Trace, expression: &str) -> Result<Selection<'a>, BadExpression> {
        let expression = parse::expression(expression)?;
        let medians = if expression.asks(Flag::Slow) { medians(trace) } else { BTreeMap::new() };
        Ok(Selection { trace, expression, medians })
    }

    /// Whether something is chosen.
    pub fn holds(&self, item: Item) -> bool {
        self.test(&self.expression, item)
    }

    /// All that is chosen, in order of time.
    pub fn items(&self) -> impl Iterator<Item = Item> {
        self.trace.items.iter().copied().filter(|item| self.holds(*item))
    }

    fn test(&self, expression: &Expression, item: Item) -> bool {
        match expression {
            Expression::Flag(flag) => self.flag(*flag, item),
            Expression::Compare(field, comparison, values) => self.compare(*field, *comparison, values, item),
            Expression::Not(inner) => !self.test(inner, item),
            Expression::All(parts) => parts.iter().all(|part| self.test(part, item)),
            Expression::Any(parts) => parts.iter().any(|part| self.test(part, item)),
        }
    }

    fn flag(&self, flag: Flag, item: Item) -> bool {
        let call = match item {
            Item::Call(at) => self.trace.call(at),
            Item::Mark(at) => {
                let event = &self.trace.mark(at).event;
                return match flag {
                    Flag::Mark => true,
                    Flag::Failed => matches!(event, Event::Trap { error: Some(_), .. }),
                    Flag::Restart => matches!(
                        event,
                        Event::Died { .. }
                            | Event::Restarted { .. }
                            | Event::Live { .. }
                            | Event::Redelivered { .. }
                    ),
                    _ => false,
                };
            }
        };
        match flag {
            Flag::Failed => call.has_failed(),
            Flag::Slow => {
                let median = self.medians.get(&call.operation());
                median.is_some_and(|median| call.latency_ns() >= median.saturating_mul(10).max(1))
            }
            Flag::Unanswered => call.is_unanswered(),
            Flag::Linux => matches!(call.request, Request::Linux { .. }),
            Flag::Message => matches!(call.request, Request::Message { .. }),
            Flag::Fault => matches!(call.request, Request::PageFault { .. } | Request::Exception { .. }),
            Flag::Mark | Flag::Restart => false,
        }
    }

    fn compare(&self, field: Field, comparison: Comparison, values: &[Value], item: Item) -> bool {
        let any = match field.values() {
            Values::Text => {
                let texts = self.texts(field, item);
                values.iter().any(|value| texts.iter().any(|text| matches(text, comparison, value)))
            }
            _ => {
                let number = self.number(field, item);
                values.iter().any(|value| number.is_some_and(|number| stands(number, comparison, value)))
            }
        };
        any != (comparison == Comparison::Unequal)
    }

    /// What a field says of something: of servers there may be several.
    fn texts(&self, field: Field, item: Item) -> Vec<String> {
        let trace = self.trace;
        match (field, item) {
            (Field::Text, item) => vec![trace.line(item)],
            (Field::By, item) => match trace.by(item) {
                Actor::Thread { pid, .. } => {
                    vec![trace.processes.get(&pid).map_or_else(String::new, |process| process.name.clone())]
                }
                actor => vec![trace.who(actor)],
            },
            (Field::Server, Item::Call(at)) => {
                trace.call(at).legs.iter().map(|leg| trace.server(leg.server)).collect()
            }
            (Field::Server, Item::Mark(at)) => {
                trace.mark(at).event.server().map(|server| trace.server(server)).into_iter().collect()
            }
            (Field::Root, mut item) => {
                while let Some(cause) = trace.cause(item) {
                    item = Item::Call(cause);
                }
                self.texts(Field::Call, item)
            }
            (_, Item::Call(at)) => vec![trace.call(at).operation()],
            (_, Item::Mark(at)) => vec![trace.mark(at).event.kind().to_owned()],
        }
    }

    fn number(&self, field: Field, item: Item) -> Option<i128> {
        let trace = self.trace;
        let id = |at| i128::from(trace.call(at).id);
        match (field, item) {
            (Field::Time, item) => Some(trace.begins_ns(item).into()),
            (Field::Pid, item) => trace.process_of(item).map(i128::from),
            (Field::Tid, item) => match trace.by(item) {
                Actor::Thread { tid, .. } => Some(tid.into()),
                _ => None,
            },
            (Field::Cause, item) => trace.cause(item).map(id),
            (Field::Id, Item::Call(at)) => Some(id(at)),
            (Field::Errno, Item::Call(at)) => trace.call(at).errno().map(i128::from),
            (Field::Latency, Item::Call(at)) => Some(trace.call(at).latency_ns().into()),
            (Field::Result, Item::Call(at)) => match trace.call(at).outcome {
                Some(crate::model::Outcome::Returned(result)) => Some(result.into()),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Expression {
    fn asks(&self, flag: Flag) -> bool {
        match self {
            Expression::Flag(own) => *own == flag,
            Expression::Compare(..) => false,
            Expression::Not(inner) => inner.asks(flag),
            Expression::All(parts) | Expression::Any(parts) => parts.iter().any(|part| part.asks(flag)),
        }
    }
}

fn matches(text: &str, comparison: Comparison, value: &Value) -> bool {
    let Value::Text(value) = value else { return false };
    match comparison {
        Comparison::Contains => text.contains(value.as_str()),
        _ => text == value,
    }
}

fn stands(number: i128, comparison: Comparison, value: &Value) -> bool {
    let Value::Number(value) = *value else { return false };
    match comparison {
        Comparison::Equal | Comparison::Unequal | Comparison::Contains => number == value,
        Comparison::Less => number < value,
        Comparison::LessOrEqual => number <= value,
        Comparison::More => number > value,
        Comparison::MoreOrEqual => number >= value,
    }
}

fn medians(trace: &Trace) -> BTreeMap<String, u64> {
    let mut latencies: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for call in trace.calls.iter().filter(|call| !call.is_unanswered()) {
        latencies.entry(call.operation()).or_default().push(call.latency_ns());
    }
    latencies
        .into_iter()
        .map(|(operation, mut all)| (operation, crate::summary::percentile(&mut all, 50)))
        .collect()
}

#[cfg(test)]
mod tests;
