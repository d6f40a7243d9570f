//! Messages between servers in the words of their protocols (`libipc::proto`): one row per label.
//!
//! A payload that the trace has cut, or that does not decode, is told by its length: nothing here fails.

use std::fmt::{Debug, Write};

use libipc::abi::PAYLOAD_MAX;
use libipc::proto::{block, fs, proc_tree, process, space, terminal};
use libipc::server::Message;
use serde::de::DeserializeOwned;

use crate::linux::{Gathered, errno_name, open_flags, quoted};
use crate::model::Sent;

/// A payload in words. `None` when there is nothing to say but its length.
type Payload = fn(&Message) -> Option<String>;

/// A message that one server asks another.
struct Row {
    label: u32,
    name: &'static str,
    /// What its words are, in order.
    words: &'static [&'static str],
    request: Payload,
    answer: Payload,
    /// What a label in the answer that is not 0 means.
    error: fn(u32) -> String,
}

const fn row(label: u32, name: &'static str, words: &'static [&'static str]) -> Row {
    Row { label, name, words, request: data, answer: data, error: errno }
}

impl Row {
    const fn asks(mut self, request: Payload) -> Row {
        self.request = request;
        self
    }

    const fn answers(mut self, answer: Payload) -> Row {
        self.answer = answer;
        self
    }

    const fn fails(mut self, error: fn(u32) -> String) -> Row {
        self.error = error;
        self
    }
}

static ROWS: &[Row] = &[
    row(fs::REQUEST, "fs.request", &["pid", "tid"]).asks(fs_request).answers(typed::<fs::Answer>),
    row(fs::PAGE_IN, "fs.page_in", &["object", "page", "pages"]),
    row(fs::OPEN_DEVICE, "fs.open_device", &["device", "flags", "pid", "sid_pgid"]),
    row(fs::READ_AT, "fs.read_at", &["offset", "length"]),
    row(fs::OPEN_FIFO, "fs.open_fifo", &["node", "flags", "descriptor"]),
    row(fs::SYNC, "fs.sync", &[]),
    row(fs::MOUNT, "fs.mount", &["volume", "read_only"]),
    row(fs::UNMOUNT, "fs.unmount", &["volume"]),
    row(fs::SOCKET_PLACE, "fs.socket_place", &[]).asks(typed::<fs::SocketPlace>),
    row(fs::EDGES, "fs.edges", &["badge"]),
    row(fs::WRITE_AT, "fs.write_at", &["offset"]),
    row(fs::HANDED_BACK, "fs.handed_back", &[]).asks(fs_handed_back),
    row(block::READ, "block.read", &["disk", "sector", "count"]).fails(block_error),
    row(block::WRITE, "block.write", &["disk", "sector"]).fails(block_error),
    row(block::FLUSH, "block.flush", &["disk"]).fails(block_error),
    row(block::CAPACITY, "block.capacity", &["disk"]).fails(block_error),
    row(space::REQUEST, "space.request", &[]).asks(typed::<space::Request>).answers(typed::<space::Answer>),
    row(space::SIGNAL, "space.signal", &["signal", "code", "address"]),
    row(process::REQUEST, "process.request", &[])
        .asks(typed::<process::Request>)
        .answers(typed::<process::Answer>),
    row(process::EXEC, "process.exec", &[]).asks(typed::<process::Exec>),
    row(process::BACKGROUND, "process.background", &["what"]),
    row(process::FILE_LIMIT, "process.file_limit", &[]),
    row(process::HOST_NAME, "process.host_name", &[]),
    row(process::LIMITS, "process.limits", &["pid"]),
    row(process::GROUPS, "process.groups", &["pid"]),
    row(process::DESCRIPTORS, "process.descriptors", &["pid", "first"]),
    row(terminal::TAKE_EVENTS, "terminal.take_events", &[]).answers(typed::<terminal::Events>),
    row(terminal::SESSION_ENDED, "terminal.session_ended", &["sid"]),
    row(terminal::QUERY, "terminal.query", &["sid"]),
    row(terminal::PERMITTED, "terminal.permitted", &["what"]),
    row(terminal::SESSION_BEGUN, "terminal.session_begun", &["sid", "pgid"]),
    row(proc_tree::SET_MOUNTS, "proc_tree.set_mounts", &[]).asks(typed::<proc_tree::Mounts>),
];

fn find(label: u32) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.label == label)
}

/// Every label with its name.
pub fn labels() -> impl Iterator<Item = (u32, &'static str)> {
    ROWS.iter().map(|row| (row.label, row.name))
}

/// The name of a label, as `protocol.message`.
pub fn name(label: u32) -> String {
    find(label).map_or_else(|| format!("message {label:#x}"), |row| row.name.to_owned())
}

/// What a message asks, behind its name.
pub fn request(sent: &Sent) -> String {
    let message = &sent.message;
    let row = find(message.label);
    let words = row.map_or(&["word0", "word1", "word2", "word3"][..], |row| row.words);
    let mut text = String::new();
    for (name, word) in words.iter().zip(message.words).filter(|(_, word)| row.is_some() || *word != 0) {
        let _ = write!(text, "{}{name}={word}", if text.is_empty() { "" } else { ", " });
    }
    append(&mut text, payload(row.map_or(data, |row| row.request), sent));
    text
}

/// How an answer to a message with that label reads, and the errno in it if it says that it failed.
pub fn answer(label: u32, sent: &Sent) -> (String, Option<i32>) {
    let message = &sent.message;
    let row = find(label);
    if message.label != 0 {
        let error = row.map_or(errno as fn(u32) -> String, |row| row.error);
        return (error(message.label), Some(message.label as i32));
    }
    let mut text = payload(row.map_or(data, |row| row.answer), sent);
    let words: Vec<String> =
        message.words.iter().filter(|word| **word != 0).map(|word| format!("{word:#x}")).collect();
    append(&mut text, words.join(" "));
    if text.is_empty() {
        text.push_str("done");
    }
    let failed = text.strip_prefix("Failed(").and_then(|rest| rest.split(')').next()?.parse().ok());
    match failed {
        Some(number) => (format!("failed: {}", errno(number as u32)), Some(number)),
        None => (text, None),
    }
}

fn append(text: &mut String, more: String) {
    if !text.is_empty() && !more.is_empty() {
        text.push_str(", ");
    }
    text.push_str(&more);
}

fn payload(decode: Payload, sent: &Sent) -> String {
    let Sent { message, full } = sent;
    if *full == 0 {
        return String::new();
    }
    let whole = message.payload.len() >= *full as usize;
    let text = match message.label {
        _ if whole => decode(message),
        fs::REQUEST => cut_fs_request(sent),
        _ => decode(&filled(sent)).map(|text| kind(&text, *full)),
    };
    text.unwrap_or_else(|| format!("{full} bytes"))
}

fn data(_: &Message) -> Option<String> {
    None
}

fn typed<T: DeserializeOwned + Debug>(message: &Message) -> Option<String> {
    message.decode::<T>().ok().map(|value| compact(&format!("{value:?}")))
}

fn fs_request(message: &Message) -> Option<String> {
    fs::Request::from_message(message).ok().map(|request| of_request(&request))
}

/// A message that the trace has cut, with zeroes for what is missing.
fn filled(sent: &Sent) -> Message {
    let mut message = sent.message.clone();
    message.payload.resize((sent.full as usize).min(PAYLOAD_MAX as usize), 0);
    message
}

/// Of a message that was cut what it is, which stands at its beginning; what it says may be made up.
fn kind(text: &str, full: u32) -> String {
    let name = text.split([' ', '(']).next().unwrap_or_default();
    format!("{name} … ({full} bytes)")
}

/// A walk that was cut: what it asks stands at its beginning, and the path is what is left of it.
fn cut_fs_request(sent: &Sent) -> Option<String> {
    let mut request = fs::Request::from_message(&filled(sent)).ok()?;
    request.path.retain(|byte| *byte != 0);
    Some(format!("{} (cut from {} bytes)", of_request(&request), sent.full))
}

fn fs_handed_back(message: &Message) -> Option<String> {
    let (request, why) = fs::Request::from_handed_back(message).ok()?;
    Some(format!("{}, {}", of_request(&request), compact(&format!("{why:?}"))))
}

fn of_request(request: &fs::Request) -> String {
    let path = quoted(&Gathered { bytes: request.path.clone(), len: request.path.len() as u32 });
    let operation = match &request.operation {
        fs::Operation::Open { flags, mode } => format!("Open({}, {mode:#o})", open_flags((*flags).into())),
        other => compact(&format!("{other:?}")),
    };
    let program = if request.program.is_some() { ", for the program" } else { "" };
    format!("{operation} {path} from {:?}{program}", request.from)
}

fn errno(label: u32) -> String {
    errno_name(label as i32).map_or_else(|| format!("error {label}"), str::to_owned)
}

fn block_error(label: u32) -> String {
    use block::BlockError::{BadRange, BadRequest, Device, NoSuchDisk, ReadOnly};
    let known = [NoSuchDisk, BadRange, Device, ReadOnly, BadRequest];
    let found = known.into_iter().find(|error| *error as u32 == label);
    found.map_or_else(|| format!("error {label}"), |error| format!("{error:?}"))
}

/// Lists of numbers that are text, as text, and long ones by their length.
fn compact(debug: &str) -> String {
    const LIST_MAX: usize = 16;
    let mut text = String::with_capacity(debug.len());
    let mut rest = debug;
    while let Some(at) = rest.find('[') {
        text.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some(end) = rest.find(']') else { break };
        let inside = &rest[1..end];
        let numbers: Option<Vec<u64>> =
            inside.split(", ").map(|number| number.parse().ok()).collect::<Option<_>>();
        let Some(numbers) = numbers else {
            text.push('[');
            rest = &rest[1..];
            continue;
        };
        let bytes: Option<Vec<u8>> = numbers.iter().map(|number| u8::try_from(*number).ok()).collect();
        match bytes {
            Some(bytes) if bytes.iter().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) => {
                text.push_str(&quoted(&Gathered { len: bytes.len() as u32, bytes }));
            }
            _ if numbers.len() > LIST_MAX => {
                let _ = write!(text, "[{} numbers]", numbers.len());
            }
            _ => text.push_str(&rest[..=end]),
        }
        rest = &rest[end + 1..];
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use libipc::linux::errno::ENOENT;

    fn sent(message: Message) -> Sent {
        let full = message.payload.len() as u32;
        Sent { message, full }
    }

    #[test]
    fn a_message_of_words_is_told_by_the_names_of_its_words() {
        let message = Message::words(block::READ, [0, 128, 8, 0]);
        assert_eq!(name(message.label), "block.read");
        assert_eq!(request(&sent(message)), "disk=0, sector=128, count=8");
        let data = Sent { message: Message::default(), full: 4096 };
        assert_eq!(answer(block::READ, &data).0, "4096 bytes");
        assert_eq!(answer(block::READ, &sent(Message::label(2))), ("BadRange".to_owned(), Some(2)));
    }

    #[test]
    fn a_typed_message_is_told_by_its_type() {
        let asked = space::Request::Place { space: 3, address: 16 };
        let message = Message::typed(space::REQUEST, &asked);
        assert_eq!(request(&sent(message)), "Place { space: 3, address: 16 }");
        let failed = sent(Message::typed(0, &space::Answer::Failed(ENOENT)));
        assert_eq!(answer(space::REQUEST, &failed), ("failed: ENOENT".to_owned(), Some(ENOENT)));
    }

    #[test]
    fn a_walk_is_told_by_its_operation_and_path() {
        let asked = fs::Request {
            from: fs::From::Root(0),
            path: b"etc/passwd".to_vec(),
            barrier: None,
            covers: vec![],
            follow: true,
            credentials: fs::Credentials::default(),
            operation: fs::Operation::Stat,
            program: None,
        };
        let mut asked = sent(asked.message());
        assert_eq!(request(&asked), "pid=0, tid=0, Stat \"etc/passwd\" from Root(0)");
        asked.message.payload.truncate(124);
        assert_eq!(request(&asked), "pid=0, tid=0, Stat \"etc/\" from Root(0) (cut from 130 bytes)");
        asked.message.payload.clear();
        asked.message.payload.push(9);
        assert_eq!(request(&asked), "pid=0, tid=0, 130 bytes");
    }

    #[test]
    fn of_a_message_that_was_cut_its_kind_is_told_and_nothing_made_up() {
        let asked = space::Request::Supply { object: 3, page: 9, data: vec![1; 4096] };
        let mut asked = sent(Message::typed(space::REQUEST, &asked));
        asked.message.payload.truncate(128);
        assert_eq!(request(&asked), format!("Supply … ({} bytes)", asked.full));
    }

    #[test]
    fn bytes_that_are_text_are_shown_as_text_and_long_lists_by_their_length() {
        assert_eq!(compact("A { b: [104, 105], c: [1, 2], d: [] }"), "A { b: \"hi\", c: [1, 2], d: [] }");
        assert_eq!(compact(&format!("{:?}", vec![[0u8; 20]])), "[[20 numbers]]");
        assert_eq!(compact("[A, B]"), "[A, B]");
    }

    #[test]
    fn every_label_stands_in_the_table_once() {
        let mut labels: Vec<u32> = labels().map(|(label, _)| label).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), ROWS.len());
        assert_eq!(request(&sent(Message::words(0x999, [0, 7, 0, 0]))), "word1=7");
    }
}
