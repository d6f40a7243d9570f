//! Messages, and what became of them, in words.

use std::collections::BTreeMap;

use libipc::{
    abi::{
        CallId, KernelError,
        journal::DISPOSED,
        syscall::{Info, Syscall},
    },
    server::{
        Call, DIGEST_BIT, Event, Foreign, Message as Native, Request, TIMER_BIT,
        replay::{History, trap_in_words},
    },
};
use trace::{linux, model::Sent};

pub use libipc::{abi::journal::Record, server::replay::Message};

/// Longer descriptions are cut.
const LONGEST: usize = 120;

/// What a message asks or tells, and of whom it is.
pub fn message(message: &Message) -> String {
    let Some(event) = &message.event else {
        let fate = if message.delivery.words[0] == 0 { "there" } else { "never there" };
        return format!("a page that call {:x} was missing is {fate}", message.delivery.token);
    };
    match event {
        Event::Start => "start".to_owned(),
        Event::Call(call) => self::call(call),
        Event::Answer { tag, answer: Ok(answer) } => {
            format!("answer {} to {:x}: {}", answer.label, tag.0, words(answer))
        }
        Event::Answer { tag, answer: Err(error) } => format!("answer to {:x}: {error}", tag.0),
        Event::Notify { bits } => format!("notification: {}", bits_in_words(*bits)),
        Event::Cancel { call } => format!("call {:x} is wanted back", call.0),
        Event::LastClose { badge, .. } => format!("last close of {:x}", badge.0),
        Event::Watch { call } => format!("a descriptor is ready for call {:x}", call.0),
        Event::Watched { cookie, ready: Some(ready) } => format!("watch {cookie:x} is ready for {ready:?}"),
        Event::Lost { handle } => format!("what handle {} named is gone", handle.0),
        Event::Unclaimed { space } => format!("nobody has space {} any more", space.0),
        Event::Watched { cookie, ready: None } => format!("what watch {cookie:x} was of is gone"),
        Event::Done { tag, result } => format!("outcome of {:x}: {result:?}", tag.0),
    }
}

fn bits_in_words(bits: u64) -> String {
    let known = [(TIMER_BIT, "timer"), (DIGEST_BIT, "the digest is asked for")];
    let mut words: Vec<String> =
        known.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| (*name).to_owned()).collect();
    let rest = known.iter().fold(bits, |bits, (bit, _)| bits & !bit);
    if rest != 0 {
        words.push(format!("bits {rest:#x}"));
    }
    words.join(", ")
}

fn call(call: &Call) -> String {
    let what = match &call.request {
        Request::Foreign(foreign) => system_call(foreign),
        Request::Native(message) => native(message),
        Request::Fault { kind, words: [first, second, at, _] } => {
            format!("{kind:?} fault: {first:#x}, {second:#x}, at {at:#x}")
        }
        Request::Attention { occasion, .. } => format!("comes in ({occasion:?})"),
    };
    match (call.caller.pid, call.caller.tid) {
        (0, _) => what,
        (pid, tid) if pid == tid => format!("{what} of process {pid}"),
        (pid, tid) => format!("{what} of thread {tid} of process {pid}"),
    }
}

/// A program's call, as strace prints it.
fn system_call(foreign: &Foreign) -> String {
    let gathered = |bytes: &Option<Vec<u8>>| {
        let bytes = bytes.clone()?;
        Some(linux::Gathered { len: bytes.len() as u32, bytes })
    };
    linux::call(foreign.number, &foreign.arguments, &foreign.inputs.each_ref().map(gathered))
}

fn argument(value: u64) -> String {
    match value as i64 {
        small @ -4096..=65535 => small.to_string(),
        _ if value >> 32 == 0 && value as i32 >= -4096 && (value as i32) < 0 => (value as i32).to_string(),
        _ => format!("{value:#x}"),
    }
}

/// A server's message, as its protocol names and decodes it.
fn native(message: &Native) -> String {
    let sent = Sent { message: message.clone(), full: message.payload.len() as u32 };
    cut(format!("{}({})", trace::native::name(message.label), trace::native::request(&sent)))
}

fn words(message: &Native) -> String {
    let words: Vec<String> = message.words.iter().copied().map(argument).collect();
    let payload = match message.payload.len() {
        0 => String::new(),
        bytes => format!(", {bytes} bytes"),
    };
    let handles = match message.handles.len() {
        0 => String::new(),
        handles => format!(", {handles} handles"),
    };
    format!("{}{payload}{handles}", words.join(" "))
}

fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// A message of a history with all that its server did about it.
pub struct Served {
    /// The message; `None` for the server's start.
    pub message: Option<Message>,
    /// The server died of it: no replay serves it again.
    pub disposed: bool,
    /// The traps after it, in order.
    pub traps: Vec<Record>,
}

/// All messages of a history in order, after the server's start.
pub fn served(history: &History) -> Vec<Served> {
    let mut all = vec![Served { message: None, disposed: false, traps: Vec::new() }];
    for record in history.records() {
        let disposed = record.header.number == DISPOSED;
        if disposed || record.header.number == Syscall::Receive as u16 {
            all.push(Served { message: Some(Message::of(&record)), disposed, traps: Vec::new() });
        } else if let Some(served) = all.last_mut() {
            served.traps.push(record);
        }
    }
    all
}

/// Names calls by the number of the message that brought them.
#[derive(Default)]
pub struct Names(BTreeMap<CallId, Brought>);

/// What is remembered of a call: the message that brought it, and its number if it is a program's.
struct Brought {
    message: u64,
    linux: Option<u32>,
}

impl Names {
    /// Notes that a message brought a call, if it did.
    pub fn note(&mut self, number: u64, message: &Message) {
        if let Some(Event::Call(call)) = &message.event {
            let linux = match &call.request {
                Request::Foreign(foreign) => Some(foreign.number),
                _ => None,
            };
            self.0.insert(call.id, Brought { message: number, linux });
        }
    }

    /// What a server did about a message, in words: its own answer first of all, and what else was answered or sent.
    pub fn outcome(&self, number: u64, traps: &[Record]) -> String {
        let told: Vec<String> = traps.iter().filter_map(|record| self.told(number, record)).collect();
        if told.is_empty() { "nothing is answered yet".to_owned() } else { told.join("; ") }
    }

    fn told(&self, number: u64, record: &Record) -> Option<String> {
        let [token, second, third, ..] = record.arguments;
        let brought = self.0.get(&CallId(token));
        let value = match Syscall::from_number(u64::from(record.header.number))? {
            Syscall::Reply => match Info::unpack(second) {
                Info { label: 0, payload_len: 0, .. } => argument(third),
                Info { label: 0, payload_len, .. } => format!("{payload_len} bytes"),
                Info { label, .. } => format!("error {label}"),
            },
            Syscall::ReplyForeign => {
                let number = brought.and_then(|brought| brought.linux).unwrap_or(u32::MAX);
                linux::result(number, Some(third as i64))
            }
            Syscall::ReplyOpen => "a new descriptor".to_owned(),
            Syscall::Forward => "handed on".to_owned(),
            Syscall::Send => {
                return Some(format!("asks {}", trace::native::name(Info::unpack(second).label)));
            }
            _ => return None,
        };
        Some(match brought {
            Some(own) if own.message == number => format!("-> {value}"),
            Some(other) => format!("message {} -> {value}", other.message),
            None => format!("call {token:x} -> {value}"),
        })
    }
}

/// A trap with its outcome.
pub fn trap(record: &Record) -> String {
    let words = trap_in_words(record.header.number, &record.arguments);
    if let Some(error) = KernelError::from_number(u64::from(record.header.error)) {
        return format!("{words}: {error}");
    }
    let values: Vec<String> =
        record.values[..usize::from(record.header.values)].iter().copied().map(argument).collect();
    if values.is_empty() { words } else { format!("{words} = {}", values.join(" ")) }
}
