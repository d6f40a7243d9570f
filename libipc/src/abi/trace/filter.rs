//! Which records are made. A filter is text for people, and a few words for the kernel.
//!
//! The text is any of these, apart by spaces; what is not named is not restricted:
//!
//! | word | records made |
//! |---|---|
//! | `servers=vfs,ufs` | by one of these servers, or sent to it |
//! | `pids=3,17` | by one of these processes (four at most), and all that is done on behalf of their calls |
//! | `calls=openat,read` | about these system calls of programs, and all that is done on behalf of them |
//! | `natives=call,reply` | of the servers' own system calls only these; other records are not restricted |
//!
//! What the kernel tells of lost records, deaths and restarts is recorded whatever the filter is.

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Names;
use crate::abi::foreign::{LINUX, LINUX_CALLS};
use crate::abi::syscall::TABLE;

/// Words for a set of the programs' system calls.
const CALL_WORDS: usize = LINUX_CALLS.div_ceil(64) as usize;
/// Words for a set of the servers' system calls.
const NATIVE_WORDS: usize = 2;
/// Most processes.
const PROCESSES: usize = 4;

const _: () = assert!(TABLE.len() <= NATIVE_WORDS * 64);

/// Which records are made; of zeroes: all. It is the payload of `trace_set`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    Debug,
    Default,
    serde::Serialize,
    serde::Deserialize,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct Filter {
    /// One bit for each server, by number.
    servers: u64,
    /// Processes; 0 for none.
    processes: [u32; PROCESSES],
    /// One bit for each system call of programs.
    calls: [u64; CALL_WORDS],
    /// One bit for each system call of servers.
    natives: [u64; NATIVE_WORDS],
}

/// Why a text is no filter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadFilter<'a> {
    /// It is none of `servers=`, `pids=`, `calls=` and `natives=`.
    Word(&'a str),
    /// There is no server with this name.
    Server(&'a str),
    /// This is no process id, or one too many.
    Process(&'a str),
    /// No system call has this name.
    Call(&'a str),
}

impl fmt::Display for BadFilter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadFilter::Word(word) => {
                write!(f, "`{word}`: a filter consists of servers=, pids=, calls= and natives=")
            }
            BadFilter::Server(name) => write!(f, "there is no server `{name}`"),
            BadFilter::Process(text) => write!(f, "`{text}` is no process id, or the fifth"),
            BadFilter::Call(name) => write!(f, "there is no system call `{name}`"),
        }
    }
}

fn contains(set: &[u64], number: u32) -> bool {
    set.get(number as usize / 64).is_some_and(|word| word & 1 << (number % 64) != 0)
}

fn insert(set: &mut [u64], number: usize) {
    if let Some(word) = set.get_mut(number / 64) {
        *word |= 1 << (number % 64);
    }
}

impl Filter {
    /// Whether it lets everything pass.
    pub fn is_open(&self) -> bool {
        *self == Filter::default()
    }

    /// From its text.
    ///
    /// # Errors
    /// [`BadFilter`] for the first word that is none of a filter's.
    pub fn parse<'a>(text: &'a str, names: &Names) -> Result<Filter, BadFilter<'a>> {
        let mut filter = Filter::default();
        for word in text.split_ascii_whitespace() {
            let (what, list) = word.split_once('=').ok_or(BadFilter::Word(word))?;
            for name in list.split(',') {
                filter.add(what, name, names).ok_or(match what {
                    "servers" => BadFilter::Server(name),
                    "pids" => BadFilter::Process(name),
                    "calls" | "natives" => BadFilter::Call(name),
                    _ => BadFilter::Word(word),
                })?;
            }
        }
        Ok(filter)
    }

    fn add(&mut self, what: &str, name: &str, names: &Names) -> Option<()> {
        match what {
            "servers" => insert(core::slice::from_mut(&mut self.servers), names.number(name)? as usize),
            "pids" => {
                let free = self.processes.iter_mut().find(|place| **place == 0)?;
                *free = name.parse().ok().filter(|pid| *pid != 0)?;
            }
            "calls" => insert(&mut self.calls, LINUX.iter().position(|row| row.name == name)?),
            "natives" => insert(&mut self.natives, TABLE.iter().position(|row| row.name == name)?),
            _ => return None,
        }
        Some(())
    }

    /// Whether a record about one of these servers (numbers; 0 for none) passes.
    pub fn passes_servers(&self, servers: [u32; 2]) -> bool {
        self.servers == 0 || servers.iter().any(|server| contains(&[self.servers], *server))
    }

    /// Whether a record passes that is made on behalf of this system call of this process.
    pub fn passes_origin(&self, process: u32, call: Option<u32>) -> bool {
        let process = self.processes == [0; PROCESSES] || process != 0 && self.processes.contains(&process);
        let call = self.calls == [0; CALL_WORDS] || call.is_some_and(|call| contains(&self.calls, call));
        process && call
    }

    /// Whether the record of a server's system call passes.
    pub fn passes_native(&self, call: u16) -> bool {
        self.natives == [0; NATIVE_WORDS] || contains(&self.natives, u32::from(call))
    }

    /// What [`super::Event::Filter`] says of it.
    pub fn figures(&self) -> [u64; 4] {
        let count = |set: &[u64]| set.iter().map(|word| u64::from(word.count_ones())).sum();
        let processes = self.processes.iter().filter(|process| **process != 0).count() as u64;
        [self.servers, processes, count(&self.calls), count(&self.natives)]
    }

    /// As words of a command line: hexadecimal numbers apart by commas.
    pub fn write(&self, to: &mut impl fmt::Write) -> fmt::Result {
        for (index, byte) in self.as_bytes().chunks(8).enumerate() {
            let word = byte.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
            write!(to, "{}{word:x}", if index > 0 { "," } else { "" })?;
        }
        Ok(())
    }

    /// From such words.
    pub fn read(text: &str) -> Option<Filter> {
        let mut filter = Filter::default();
        let mut words = text.split(',');
        for bytes in filter.as_mut_bytes().chunks_mut(8) {
            let word = u64::from_str_radix(words.next()?, 16).ok()?;
            bytes.copy_from_slice(word.to_le_bytes().get(..bytes.len())?);
        }
        words.next().is_none().then_some(filter)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    fn names() -> Names {
        Names::new(["root", "vm", "vfs"])
    }

    #[test]
    fn a_filter_of_nothing_lets_all_pass() {
        let filter = Filter::parse(" ", &names()).unwrap();
        assert!(filter.is_open() && filter.passes_servers([0, 0]));
        assert!(filter.passes_origin(0, None) && filter.passes_native(7));
    }

    #[test]
    fn each_word_restricts_what_it_names() {
        let filter = Filter::parse("servers=vfs,vm pids=7 calls=openat,read natives=call", &names()).unwrap();
        assert!(filter.passes_servers([3, 0]) && filter.passes_servers([0, 2]));
        assert!(!filter.passes_servers([1, 0]));
        assert!(filter.passes_origin(7, Some(0)) && filter.passes_origin(7, Some(257)));
        assert!(!filter.passes_origin(7, Some(1)) && !filter.passes_origin(8, Some(0)));
        assert!(!filter.passes_origin(0, Some(0)) && !filter.passes_origin(7, None));
        assert!(filter.passes_native(1) && !filter.passes_native(2));
        assert_eq!(filter.figures(), [0b1100, 1, 2, 1]);
    }

    #[test]
    fn what_is_no_filter_is_named() {
        let error = |text| Filter::parse(text, &names()).unwrap_err();
        assert_eq!(error("vfs"), BadFilter::Word("vfs"));
        assert_eq!(error("server=vfs"), BadFilter::Word("server=vfs"));
        assert_eq!(error("servers=vm,xfs"), BadFilter::Server("xfs"));
        assert_eq!(error("pids=0"), BadFilter::Process("0"));
        assert_eq!(error("pids=1,2,3,4,5"), BadFilter::Process("5"));
        assert_eq!(error("calls=read,"), BadFilter::Call(""));
        assert_eq!(error("natives=open"), BadFilter::Call("open"));
    }

    #[test]
    fn a_filter_survives_the_command_line() {
        let filter =
            Filter::parse("servers=vfs pids=70000,3 calls=getcpu natives=trace_set", &names()).unwrap();
        let mut text = String::new();
        filter.write(&mut text).unwrap();
        assert_eq!(Filter::read(&text), Some(filter));
        assert_eq!((Filter::read(""), Filter::read(&(text + ",0"))), (None, None));
    }
}
