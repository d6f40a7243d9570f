//! How a [`Request`] travels: words, then lists. It is the message of which there are the most, so that it is written
//! and read without a serializer; what is asked for is put together from borrowed parts ([`Asking`]) for the same
//! reason.

use alloc::vec::Vec;

use super::{Credentials, From, Operation, Program, REQUEST, Request, TICKET_WORDS, Wants};
use crate::abi::Badge;
use crate::server::{Message, ProtocolError};

/// Words before the lists.
const HEAD_WORDS: usize = 10 + TICKET_WORDS;
const HEAD_BYTES: usize = HEAD_WORDS * 8;

const FOLLOW: u64 = 1;
const BARRIER: u64 = 2;
const PROGRAM: u64 = 4;

/// A request in borrowed parts; they mean what those of [`Request`] mean.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)]
pub struct Asking<'a> {
    pub from: From,
    pub path: &'a [u8],
    pub barrier: Option<u64>,
    pub covers: &'a [u64],
    pub follow: bool,
    pub uid: u32,
    pub gid: u32,
    pub umask: u32,
    pub groups: &'a [u32],
    pub operation: &'a Operation,
    pub program: Option<&'a Program>,
}

/// An operation in words: its number, three words, and its bytes.
struct Code<'a> {
    number: u8,
    words: [u64; 3],
    text: &'a [u8],
}

impl Code<'_> {
    const fn plain(number: u8, words: [u64; 3]) -> Code<'static> {
        Code { number, words, text: &[] }
    }

    fn of(operation: &Operation) -> Code<'_> {
        let id = |id: Option<u32>| id.map_or(u64::MAX, u64::from);
        match operation {
            Operation::Stat => Code::plain(0, [0; 3]),
            Operation::Open { flags, mode } => Code::plain(1, [u64::from(*flags), u64::from(*mode), 0]),
            Operation::Access(wanted) => Code::plain(2, [u64::from(*wanted), 0, 0]),
            Operation::ReadLink => Code::plain(3, [0; 3]),
            Operation::MakeDirectory { mode } => Code::plain(4, [u64::from(*mode), 0, 0]),
            Operation::MakeNode { mode, device } => Code::plain(5, [u64::from(*mode), *device, 0]),
            Operation::MakeSymlink { target } => Code { number: 6, words: [0; 3], text: target },
            Operation::Link { node } => Code::plain(7, [*node, 0, 0]),
            Operation::Unlink => Code::plain(8, [0; 3]),
            Operation::RemoveDirectory => Code::plain(9, [0; 3]),
            Operation::Parent => Code::plain(10, [0; 3]),
            Operation::Rename { directory, name, flags } => {
                Code { number: 11, words: [*directory, u64::from(*flags), 0], text: name }
            }
            Operation::SetMode(mode) => Code::plain(12, [u64::from(*mode), 0, 0]),
            Operation::SetOwner(uid, gid) => Code::plain(13, [id(*uid), id(*gid), 0]),
            Operation::SetTimes(access, change) => {
                let given = u64::from(access.is_some()) | u64::from(change.is_some()) << 1;
                Code::plain(14, [access.unwrap_or(0) as u64, change.unwrap_or(0) as u64, given])
            }
            Operation::Touch(now_ns) => Code::plain(15, [*now_ns as u64, 0, 0]),
            Operation::Truncate(length) => Code::plain(16, [*length, 0, 0]),
            Operation::StatFs => Code::plain(17, [0; 3]),
            Operation::PathOf => Code::plain(18, [0; 3]),
        }
    }

    fn operation(&self) -> Option<Operation> {
        let [first, second, third] = self.words;
        let id = |word: u64| u32::try_from(word).ok();
        Some(match self.number {
            0 => Operation::Stat,
            1 => Operation::Open { flags: first as u32, mode: second as u32 },
            2 => Operation::Access(first as u32),
            3 => Operation::ReadLink,
            4 => Operation::MakeDirectory { mode: first as u32 },
            5 => Operation::MakeNode { mode: first as u32, device: second },
            6 => Operation::MakeSymlink { target: self.text.to_vec() },
            7 => Operation::Link { node: first },
            8 => Operation::Unlink,
            9 => Operation::RemoveDirectory,
            10 => Operation::Parent,
            11 => Operation::Rename { directory: first, name: self.text.to_vec(), flags: second as u32 },
            12 => Operation::SetMode(first as u32),
            13 => Operation::SetOwner(id(first), id(second)),
            14 => {
                let given = |bit: u64, time: u64| (third & bit != 0).then_some(time as i64);
                Operation::SetTimes(given(1, first), given(2, second))
            }
            15 => Operation::Touch(first as i64),
            16 => Operation::Truncate(first),
            17 => Operation::StatFs,
            18 => Operation::PathOf,
            _ => return None,
        })
    }
}

impl Wants {
    fn words(self) -> (u64, u64) {
        match self {
            Wants::Nothing => (0, 0),
            Wants::Stat(address) => (1, address),
            Wants::StatX(address) => (2, address),
            Wants::Descriptor(slot) => (3, u64::from(slot)),
        }
    }

    fn of(number: u64, word: u64) -> Option<Wants> {
        Some(match number {
            0 => Wants::Nothing,
            1 => Wants::Stat(word),
            2 => Wants::StatX(word),
            3 => Wants::Descriptor(word as u32),
            _ => return None,
        })
    }
}

impl Asking<'_> {
    /// The message that asks it.
    pub fn message(&self) -> Message {
        Message { label: REQUEST, payload: self.payload(0), ..Message::default() }
    }

    /// Its bytes, with room for more behind them.
    fn payload(&self, room: usize) -> Vec<u8> {
        let code = Code::of(self.operation);
        let (from, at) = match self.from {
            From::Root(volume) => (0, u64::from(volume)),
            From::Node(node) => (1, node),
            From::Session(badge) => (2, badge.0),
        };
        let (wants, wanted) = self.program.map_or((0, 0), |program| program.wants.words());
        let mut flags = 0;
        for (given, flag) in
            [(self.follow, FOLLOW), (self.barrier.is_some(), BARRIER), (self.program.is_some(), PROGRAM)]
        {
            flags |= if given { flag } else { 0 };
        }
        let pair = |low: usize, high: usize| low as u64 | (high as u64) << 32;
        let [first, second, third] = code.words;
        let [ticket0, ticket1, ticket2, ticket3, ticket4] = self.program.map_or([0; 5], |own| own.ticket);
        let head: [u64; HEAD_WORDS] = [
            from | u64::from(code.number) << 8 | flags << 16 | wants << 24 | u64::from(self.umask) << 32,
            at,
            self.barrier.unwrap_or(0),
            u64::from(self.uid) | u64::from(self.gid) << 32,
            pair(self.covers.len(), self.groups.len()),
            pair(self.path.len(), code.text.len()),
            first,
            second,
            third,
            wanted,
            ticket0,
            ticket1,
            ticket2,
            ticket3,
            ticket4,
        ];
        let lists = self.covers.len() * 8 + self.groups.len() * 4 + self.path.len() + code.text.len();
        let mut payload = Vec::with_capacity(HEAD_BYTES + lists + room);
        payload.extend_from_slice(zerocopy::IntoBytes::as_bytes(&head));
        payload.extend_from_slice(zerocopy::IntoBytes::as_bytes(self.covers));
        payload.extend_from_slice(zerocopy::IntoBytes::as_bytes(self.groups));
        payload.extend_from_slice(self.path);
        payload.extend_from_slice(code.text);
        payload
    }
}

impl Request {
    /// The same in borrowed parts.
    fn asking(&self) -> Asking<'_> {
        let Credentials { uid, gid, umask, ref groups } = self.credentials;
        Asking {
            from: self.from,
            path: &self.path,
            barrier: self.barrier,
            covers: &self.covers,
            follow: self.follow,
            uid,
            gid,
            umask,
            groups,
            operation: &self.operation,
            program: self.program.as_ref(),
        }
    }

    /// The message that asks it.
    pub fn message(&self) -> Message {
        self.asking().message()
    }

    /// The message that takes a program's walk back to vfs, with what vfs has to know to go on.
    pub fn handed_back(&self, why: &super::Answer) -> Message {
        let mut payload = self.asking().payload(64);
        payload = postcard::to_extend(why, payload).expect("protocol types always encode");
        Message { label: super::HANDED_BACK, payload, ..Message::default() }
    }

    /// What a message asks.
    ///
    /// # Errors
    /// [`ProtocolError`] when it is no request.
    pub fn from_message(message: &Message) -> Result<Request, ProtocolError> {
        let (request, rest) = Request::split(&message.payload).ok_or(ProtocolError)?;
        if rest.is_empty() { Ok(request) } else { Err(ProtocolError) }
    }

    /// A program's walk that a file server hands back, and why.
    ///
    /// # Errors
    /// [`ProtocolError`] when it is no such message.
    pub fn from_handed_back(message: &Message) -> Result<(Request, super::Answer), ProtocolError> {
        let (request, rest) = Request::split(&message.payload).ok_or(ProtocolError)?;
        let why = postcard::from_bytes(rest).map_err(|_| ProtocolError)?;
        Ok((request, why))
    }

    /// A request and what follows it.
    fn split(payload: &[u8]) -> Option<(Request, &[u8])> {
        let (head, rest) = payload.split_first_chunk::<HEAD_BYTES>()?;
        let mut words = [0; HEAD_WORDS];
        for (word, bytes) in words.iter_mut().zip(head.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        let [kinds, at, barrier, ids, lists, lengths, first, second, third, wanted, ticket @ ..] = words;
        let halves = |word: u64| (word as u32 as usize, (word >> 32) as usize);
        let ((covers, groups), (path, text)) = (halves(lists), halves(lengths));
        let (covers, rest) = rest.split_at_checked(covers.checked_mul(8)?)?;
        let (groups, rest) = rest.split_at_checked(groups.checked_mul(4)?)?;
        let (path, rest) = rest.split_at_checked(path)?;
        let (text, rest) = rest.split_at_checked(text)?;
        let flags = kinds >> 16 & 0xff;
        let code = Code { number: (kinds >> 8) as u8, words: [first, second, third], text };
        let wants = Wants::of(kinds >> 24 & 0xff, wanted)?;
        let request = Request {
            from: match kinds & 0xff {
                0 => From::Root(u32::try_from(at).ok()?),
                1 => From::Node(at),
                2 => From::Session(Badge(at)),
                _ => return None,
            },
            path: path.to_vec(),
            barrier: (flags & BARRIER != 0).then_some(barrier),
            covers: covers.as_chunks::<8>().0.iter().map(|node| u64::from_le_bytes(*node)).collect(),
            follow: flags & FOLLOW != 0,
            credentials: Credentials {
                uid: ids as u32,
                gid: (ids >> 32) as u32,
                umask: (kinds >> 32) as u32,
                groups: groups.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect(),
            },
            operation: code.operation()?,
            program: (flags & PROGRAM != 0).then_some(Program { wants, ticket }),
        };
        Some((request, rest))
    }
}

#[cfg(test)]
mod tests;
