//! Linux calls in the words of strace: names, arguments with their flags, results and errno.
//!
//! The shapes of arguments stand in [`signature`], names of flags in [`names`]; which argument is text or a structure
//! that came along is the kernel's own table's to say. Whatever is not known prints as a number: nothing here fails.

mod names;
mod signature;

use std::fmt::Write;

use libipc::abi::foreign::{Input, LINUX};
use libipc::linux::{errno, open, signal};

use self::names::Flags;
pub use self::signature::{Shape, Signature, signature};

/// Bytes of a string that are shown at most, as strace does.
const SHOWN_MAX: usize = 32;

/// What the kernel gathered at one argument.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Gathered {
    /// The bytes, as many as the trace keeps.
    pub bytes: Vec<u8>,
    /// How many there were.
    pub len: u32,
}

/// The inputs of a call, in the order of its row in the kernel's table; `None` for one that did not come along.
pub type Inputs = [Option<Gathered>; 2];

/// The name of a call, also of one that Naiad does not have; `syscall_N` for one that has none here.
pub fn name(number: u32) -> String {
    let named = LINUX.get(number as usize).map(|row| row.name).filter(|name| *name != "unknown");
    let other =
        || names::ELSEWHERE.iter().find(|(_, known)| *known == u64::from(number)).map(|(name, _)| *name);
    named.or_else(other).map_or_else(|| format!("syscall_{number:#x}"), str::to_owned)
}

/// All calls that have a name, by number.
pub fn names() -> impl Iterator<Item = (u32, &'static str)> {
    let own = (0..).zip(LINUX.iter()).map(|(number, row)| (number, row.name));
    let others = names::ELSEWHERE.iter().map(|(name, number)| (*number as u32, *name));
    own.filter(|(_, name)| *name != "unknown").chain(others)
}

/// The number of a call by its name.
pub fn number(name: &str) -> Option<u32> {
    names().find(|(_, known)| *known == name).map(|(number, _)| number)
}

/// The name of an errno, if it has one.
pub fn errno_name(errno: i32) -> Option<&'static str> {
    errno::NAMES.iter().find(|(_, number)| *number == errno).map(|(name, _)| *name)
}

/// The errno with this name.
pub fn errno_number(name: &str) -> Option<i32> {
    errno::NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

/// The errno that a result register holds, if it is one.
pub fn errno_of(result: i64) -> Option<i32> {
    (-4095..0).contains(&result).then(|| -result as i32)
}

/// The name of a signal.
pub fn signal_name(number: u64) -> String {
    match signal::NAMES.iter().find(|(_, known)| u64::from(*known) == number) {
        Some((name, _)) => (*name).to_owned(),
        None if number >= 32 => format!("SIGRT_{}", number - 32),
        None => number.to_string(),
    }
}

/// A call with its arguments, as strace prints it.
pub fn call(number: u32, arguments: &[u64; 6], inputs: &Inputs) -> String {
    let name = name(number);
    let mut text = format!("{name}(");
    let Some(signature) = signature(&name) else {
        let all: Vec<String> = arguments.iter().map(|argument| format!("{argument:#x}")).collect();
        return format!("{text}{})", all.join(", "));
    };
    let count = given(&name, arguments, signature.arguments.len());
    for (index, shape) in signature.arguments.iter().take(count).enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&argument(*shape, arguments[index], gathered(number, index, inputs)));
    }
    text.push(')');
    text
}

/// How many of a call's arguments mean something: some do only beside others.
fn given(name: &str, arguments: &[u64; 6], all: usize) -> usize {
    let makes = |flags: u64| flags & u64::from(open::O_CREAT | open::O_TMPFILE & !open::O_DIRECTORY) != 0;
    let takes = |command: u64| {
        let command = command as u32;
        let none = [open::F_GETFD, open::F_GETFL, open::F_GETPIPE_SZ, open::F_GET_SEALS];
        !none.contains(&command)
    };
    match name {
        "open" if !makes(arguments[1]) => 2,
        "openat" if !makes(arguments[2]) => 3,
        "fcntl" if !takes(arguments[1]) => 2,
        "mremap" if arguments[3] & 2 == 0 => 4,
        "futex" if matches!(arguments[1] & 127, 1 | 10) => 3,
        "futex" if matches!(arguments[1] & 127, 0) => 4,
        "clone" if arguments[0] & 0x8_0000 == 0 && arguments[0] & 0x130_0000 == 0 => 2,
        "prctl" => 2,
        _ => all,
    }
}

/// What came along for the argument with this index.
fn gathered(number: u32, index: usize, inputs: &Inputs) -> Option<&Gathered> {
    let row = LINUX.get(number as usize)?;
    let place = row.inputs.iter().position(|input| match *input {
        Input::Text(at) | Input::Small(at, _) | Input::Bytes(at, _) => usize::from(at) == index,
        Input::Array(at, _, _) | Input::PerDescriptor(at, _, _) => usize::from(at) == index,
        Input::None => false,
    })?;
    inputs[place].as_ref()
}

fn argument(shape: Shape, value: u64, input: Option<&Gathered>) -> String {
    match (shape, input) {
        (Shape::Text, Some(input)) => quoted(input),
        (Shape::Time, Some(input)) => time(&input.bytes).unwrap_or_else(|| pointer(value)),
        (Shape::Signals, Some(input)) => signals(&input.bytes).unwrap_or_else(|| pointer(value)),
        (Shape::Polled, Some(input)) => polled(input),
        (Shape::Descriptor | Shape::Int, _) => (value as i32).to_string(),
        (Shape::Directory, _) if value as i32 == open::AT_FDCWD => "AT_FDCWD".to_owned(),
        (Shape::Directory, _) => (value as i32).to_string(),
        (Shape::Long, _) => (value as i64).to_string(),
        (Shape::Size, _) => value.to_string(),
        (Shape::Mode, _) => mode(value),
        (Shape::Node, _) => node(value),
        (Shape::Open, _) => open_flags(value),
        (Shape::Any(set), _) => any(set, value),
        (Shape::One(set), _) => one(set, value),
        (Shape::OneAnd(set, flags), _) => {
            let bits = flags.iter().fold(0, |bits, (_, bit)| bits | bit);
            with(one(set, value & !bits), flags, value & bits)
        }
        (Shape::Clone, _) => {
            let signal = value & 0xff;
            let flags = any(names::CLONE, value & !0xff);
            match (signal, value & !0xff) {
                (0, _) => flags,
                (_, 0) => signal_name(signal),
                _ => format!("{flags}|{}", signal_name(signal)),
            }
        }
        (Shape::Signal, _) => signal_name(value),
        (Shape::Pointer | Shape::Text | Shape::Time | Shape::Signals | Shape::Polled, _) => pointer(value),
        (Shape::Never, _) => String::new(),
    }
}

/// A result, as strace prints it behind the equals sign; `?` for a call that has none.
pub fn result(number: u32, result: Option<i64>) -> String {
    let Some(result) = result else { return "?".to_owned() };
    if let Some(errno) = errno_of(result) {
        return match errno_name(errno) {
            Some(name) => format!("-1 {name} ({})", errno_text(errno)),
            None => format!("-1 (errno {errno})"),
        };
    }
    let shape = signature(&name(number)).map_or(Shape::Long, |signature| signature.result);
    match shape {
        Shape::Never => "?".to_owned(),
        Shape::Pointer | Shape::Mode => argument(shape, result as u64, None),
        _ => result.to_string(),
    }
}

/// What the C library says of an errno.
pub fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Flags of open(2) by their names.
pub fn open_flags(flags: u64) -> String {
    let access = one(names::ACCESS_MODE, flags & u64::from(open::O_ACCMODE));
    with(access, names::OPEN, flags & !u64::from(open::O_ACCMODE))
}

fn pointer(value: u64) -> String {
    if value == 0 { "NULL".to_owned() } else { format!("{value:#x}") }
}

fn mode(value: u64) -> String {
    format!("{:0>3}", format!("0{value:o}"))
}

fn node(value: u64) -> String {
    let kind = one(names::MODE_KIND, value & 0o170000);
    format!("{kind}|{}", mode(value & 0o7777))
}

fn one(set: Flags, value: u64) -> String {
    let found = set.iter().find(|(_, number)| *number as u32 == value as u32);
    found.map_or_else(|| format!("{value:#x}"), |(name, _)| (*name).to_owned())
}

fn any(set: Flags, value: u64) -> String {
    with(String::new(), set, value)
}

/// Flags behind what comes before them; what has no name as a number.
fn with(before: String, set: Flags, value: u64) -> String {
    let mut left = value;
    let mut text = before;
    let mut add = |flag: &str| {
        let bar = if text.is_empty() { "" } else { "|" };
        let _ = write!(text, "{bar}{flag}");
    };
    for (name, bits) in set {
        if *bits != 0 && left & bits == *bits {
            add(name);
            left &= !bits;
        }
    }
    if left != 0 {
        add(&format!("{left:#x}"));
    }
    if text.is_empty() {
        let none = set.iter().find(|(_, bits)| *bits == 0);
        return none.map_or_else(|| "0".to_owned(), |(name, _)| (*name).to_owned());
    }
    text
}

/// Bytes between quotes, with the escapes of C, cut where strace cuts.
pub fn quoted(input: &Gathered) -> String {
    let shown = &input.bytes[..input.bytes.len().min(SHOWN_MAX)];
    let text: String = shown
        .iter()
        .map(|byte| match byte {
            b'\n' => "\\n".to_owned(),
            b'\t' => "\\t".to_owned(),
            b'\r' => "\\r".to_owned(),
            b'"' => "\\\"".to_owned(),
            b'\\' => "\\\\".to_owned(),
            0x20..=0x7e => char::from(*byte).to_string(),
            _ => format!("\\{byte:o}"),
        })
        .collect();
    let more = if input.len as usize > shown.len() { "..." } else { "" };
    format!("\"{text}\"{more}")
}

fn word<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn time(bytes: &[u8]) -> Option<String> {
    let (seconds, rest) = (i64::from_le_bytes(word(bytes, 0)?), i64::from_le_bytes(word(bytes, 8)?));
    Some(format!("{{tv_sec={seconds}, tv_nsec={rest}}}"))
}

fn signals(bytes: &[u8]) -> Option<String> {
    let set = u64::from_le_bytes(word(bytes, 0)?);
    let names = |set: u64| {
        let names = (1..=64).filter(|number| set >> (number - 1) & 1 == 1).map(signal_name);
        names.map(|name| name.trim_start_matches("SIG").to_owned()).collect::<Vec<_>>().join(" ")
    };
    Some(if set.count_ones() > 32 { format!("~[{}]", names(!set)) } else { format!("[{}]", names(set)) })
}

fn polled(input: &Gathered) -> String {
    let one = |chunk: &[u8]| {
        let descriptor = i32::from_le_bytes(word(chunk, 0)?);
        let events = u16::from_le_bytes(word(chunk, 4)?);
        Some(format!("{{fd={descriptor}, events={}}}", any(names::POLL, u64::from(events))))
    };
    let all: Vec<String> = input.bytes.chunks_exact(8).filter_map(one).collect();
    let more = if input.len as usize > input.bytes.len() { ", ..." } else { "" };
    format!("[{}{more}]", all.join(", "))
}

#[cfg(test)]
mod tests;
