//! Reads a trace, believing nothing: whatever the bytes are, each is looked at once, and damage is told with its place.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use zerocopy::{FromBytes, IntoBytes};

use super::*;

/// Why a trace cannot be read, or not to its end. What comes before the place can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    /// It does not begin like a trace.
    NoTrace,
    /// It is of another version.
    Version(u32),
    /// Its header says what cannot be.
    Header,
    /// It ends in the middle of the record at this offset.
    CutOff(u64),
    /// There is no record with this number, which stands at this offset.
    Number(u64, u16),
    /// The record at this offset has more values or payload than any has.
    Size(u64),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::NoTrace => write!(f, "this is not a trace of Naiad: it does not begin with NAIADTRC"),
            Damage::Version(version) => {
                write!(f, "a trace of version {version}; this program reads version {VERSION}")
            }
            Damage::Header => write!(f, "the trace's header is damaged"),
            Damage::CutOff(at) => write!(f, "the trace ends in the middle of the record at byte {at}"),
            Damage::Number(at, number) => {
                write!(f, "the trace is damaged at byte {at}: there is no record with the number {number}")
            }
            Damage::Size(at) => {
                write!(f, "the trace is damaged at byte {at}: a record with more in it than there can be")
            }
        }
    }
}

impl core::error::Error for Damage {}

/// The servers' names by number, from 1 on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Names(Vec<String>);

impl Names {
    /// Names in the order of the servers' numbers.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Names {
        Names(names.into_iter().map(ToOwned::to_owned).collect())
    }

    /// The name of the server with this number.
    pub fn name(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.0.get(index).map(String::as_str)
    }

    /// The number of the server with this name.
    pub fn number(&self, name: &str) -> Option<u32> {
        let index = self.0.iter().position(|known| known == name)?;
        u32::try_from(index + 1).ok()
    }

    /// Numbers and names.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str)> {
        (1..).zip(self.0.iter().map(String::as_str))
    }
}

/// The header that a trace begins with, as bytes: header, names, build.
pub fn file_header(names: &Names, build: &str, memory_bytes: u64) -> Vec<u8> {
    let mut text: Vec<u8> = names.iter().flat_map(|(_, name)| name.bytes().chain([0])).collect();
    let names_bytes = text.len() as u32;
    text.extend_from_slice(build.as_bytes());
    let texts = (text.len() as u32).next_multiple_of(8);
    text.resize(texts as usize, 0);
    let header = FileHeader {
        magic: MAGIC,
        version: VERSION,
        header_bytes: size_of::<FileHeader>() as u32 + texts,
        memory_bytes,
        names_bytes,
        build_bytes: build.len() as u32,
    };
    let mut bytes = header.as_bytes().to_vec();
    bytes.append(&mut text);
    bytes
}

/// A trace being read: what its header says, and as an iterator its records, without [`Event::Pad`]. After damage
/// there is nothing more.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    /// The servers' names.
    pub names: Names,
    /// What the kernel is.
    pub build: String,
    /// Bytes of the machine's memory.
    pub memory_bytes: u64,
    rest: &'a [u8],
    at: u64,
}

impl<'a> Reader<'a> {
    /// Begins to read a file.
    ///
    /// # Errors
    /// [`Damage`] when it does not begin as a trace must.
    pub fn new(file: &'a [u8]) -> Result<Reader<'a>, Damage> {
        if file.get(..MAGIC.len()) != Some(&MAGIC) {
            return Err(Damage::NoTrace);
        }
        let (header, _) = FileHeader::read_from_prefix(file).map_err(|_| Damage::Header)?;
        if header.version != VERSION {
            return Err(Damage::Version(header.version));
        }
        let (start, own) = (header.header_bytes as usize, size_of::<FileHeader>());
        let texts = file.get(own..start).filter(|_| start.is_multiple_of(8)).ok_or(Damage::Header)?;
        let names = texts.get(..header.names_bytes as usize).ok_or(Damage::Header)?;
        let build = texts.get(names.len()..).and_then(|rest| rest.get(..header.build_bytes as usize));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let names = names.split_inclusive(|byte| *byte == 0);
        Ok(Reader {
            names: Names(names.map(|name| text(name.strip_suffix(&[0]).unwrap_or(name))).collect()),
            build: text(build.ok_or(Damage::Header)?),
            memory_bytes: header.memory_bytes,
            rest: file.get(start..).ok_or(Damage::Header)?,
            at: u64::from(header.header_bytes),
        })
    }

    /// Records alone, as they lie in a ring.
    pub fn of_records(records: &'a [u8]) -> Reader<'a> {
        let (names, build) = (Names::default(), String::new());
        Reader { names, build, memory_bytes: 0, rest: records, at: 0 }
    }

    /// How far it has read.
    pub fn position(&self) -> u64 {
        self.at
    }

    fn take(&mut self) -> Result<Record<'a>, Damage> {
        let (at, rest) = (self.at, self.rest);
        let word = |index: usize| {
            let bytes = rest.get(index * 8..index * 8 + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u64::from_le_bytes).ok_or(Damage::CutOff(at))
        };
        let header = Header::unpack(word(0)?);
        let count = super::arguments(header.number).ok_or(Damage::Number(at, header.number))?;
        let is_pad = header.number == Event::Pad as u16;
        if u32::from(header.values) > VALUES_MAX || !is_pad && header.payload > PAYLOAD_KEPT {
            return Err(Damage::Size(at));
        }
        let length = bytes(&header, count);
        let whole = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length));
        let (_, behind) = whole.ok_or(Damage::CutOff(at))?;
        let mut record = Record {
            at,
            header,
            stamp: Stamp { time_ns: 0, who: Who::Kernel, processor: 0, call: None, cause: None },
            arguments: [0; ARGUMENTS_MAX],
            values: [0; VALUES_MAX as usize],
            payload: &[],
        };
        if !is_pad {
            let about = |word: u64| (word != 0).then_some(CallId(word));
            let who = word(2)?;
            record.stamp = Stamp {
                time_ns: word(1)?,
                who: Who::from_word(who),
                processor: (who >> 24) as u8,
                call: about(word(3)?),
                cause: about(word(4)?),
            };
            let start = STAMP_WORDS as usize;
            for (index, argument) in record.arguments.iter_mut().take(count).enumerate() {
                *argument = word(start + index)?;
            }
            for (index, value) in record.values.iter_mut().take(usize::from(header.values)).enumerate() {
                *value = word(start + count + index)?;
            }
            let start = (start + count + usize::from(header.values)) * 8;
            record.payload = rest.get(start..start + header.payload as usize).ok_or(Damage::CutOff(at))?;
        }
        (self.rest, self.at) = (behind, at + length);
        Ok(record)
    }
}

/// The length of a record with so many arguments.
fn bytes(header: &Header, arguments: usize) -> u64 {
    let payload = u64::from(header.payload).next_multiple_of(8);
    if header.number == Event::Pad as u16 {
        return 8 + payload;
    }
    8 * (STAMP_WORDS + arguments as u64 + u64::from(header.values)) + payload
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Record<'a>, Damage>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.rest.is_empty() {
                return None;
            }
            match self.take() {
                Ok(record) if record.header.number == Event::Pad as u16 => {}
                Ok(record) => return Some(Ok(record)),
                Err(damage) => {
                    self.rest = &[];
                    return Some(Err(damage));
                }
            }
        }
    }
}
