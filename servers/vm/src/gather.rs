//! Arguments and environment that are too long for one message: they come in pieces, and each is written at once to
//! the frames that will be the top of the program's stack. So nothing of them is kept here, however long they are.
//!
//! ```text
//! pointer, on a page                                    base, on a page                top
//! | argc | argv ... 0 | envp ... 0 | auxv | what it names | strings, one after the other |
//! ```

use alloc::vec::Vec;

use libipc::abi::{Frame, PAGE_SIZE};
use libipc::proto::space::Build;
use libipc::server::{Effects, Operation};
use serde::{Deserialize, Serialize};

use crate::build::{BuildError, scramble};
use crate::frames::Frames;
use crate::space::{Memory, Page, Space};
use crate::stack::{InitialStack, Loaded, NEVER_MORE, auxiliary_vector, named_by_vector};
use crate::tables::{MACHINE, address_of, ceil, page_of};

/// How far below the end of all addresses the strings begin at least: room for themselves and for the vdso.
const BELOW_END: u64 = 16 << 20;
/// Bytes of a pointer.
const WORD: u64 = 8;

/// A stack that is written from its two ends.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gathered {
    /// Where the first string is.
    base: u64,
    strings: Filled,
    pointers: Filled,
    /// How many arguments and environment strings there are.
    counts: [u32; 2],
    /// The last string has not come to its end yet.
    open: bool,
    /// Where the environment begins, once it has.
    environment: Option<u64>,
}

/// Frames that are filled one after the other.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
struct Filled {
    frames: Vec<Frame>,
    bytes: u64,
}

impl Filled {
    fn append(&mut self, bytes: &[u8], frames: &mut Frames, effects: &mut Effects) -> Result<(), BuildError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let used = self.bytes % PAGE_SIZE;
            if used == 0 {
                let frame = frames.take().ok_or(BuildError::NoMemory)?;
                effects.act(Operation::FrameZero { frame });
                self.frames.push(frame);
            }
            let Some(frame) = self.frames.last().copied() else { return Err(BuildError::NoMemory) };
            let (part, others) = rest.split_at(rest.len().min((PAGE_SIZE - used) as usize));
            effects.act(Operation::FrameWrite { frame, offset: used as u32, bytes: part.to_vec() });
            self.bytes += part.len() as u64;
            rest = others;
        }
        Ok(())
    }

    /// Makes them pages of a space from an address on.
    fn give(&mut self, address: u64, space: &mut Space) {
        let given = core::mem::take(&mut self.frames);
        space.pages.extend((page_of(address)..).zip(given.into_iter().map(Page::own)));
    }
}

impl Gathered {
    /// Nothing yet; the key also says where it will lie.
    pub fn new(key: u64) -> Gathered {
        Gathered {
            base: MACHINE.user_end.next_multiple_of(PAGE_SIZE)
                - BELOW_END
                - address_of(scramble(key) & 0x3f_ffff),
            strings: Filled::default(),
            pointers: Filled::default(),
            counts: [0; 2],
            open: false,
            environment: None,
        }
    }

    /// Where the stack ends.
    pub fn top(&self) -> u64 {
        self.base + address_of(self.strings.frames.len() as u64)
    }

    /// Adds a piece of each.
    pub fn add(
        &mut self,
        arguments: &[u8],
        environment: &[u8],
        frames: &mut Frames,
        effects: &mut Effects,
    ) -> Result<(), BuildError> {
        let mut words = Vec::new();
        if self.pointers.bytes == 0 {
            // The place of argc.
            words.push(0);
        }
        if !arguments.is_empty() {
            if self.environment.is_some() {
                return Err(BuildError::Malformed);
            }
            self.note(0, arguments, 0, &mut words);
        }
        if !environment.is_empty() {
            if self.environment.is_none() {
                if self.open {
                    return Err(BuildError::Malformed);
                }
                self.environment = Some(self.base + self.strings.bytes + arguments.len() as u64);
                words.push(0);
            }
            self.note(1, environment, arguments.len() as u64, &mut words);
        }
        self.strings.append(arguments, frames, effects)?;
        self.strings.append(environment, frames, effects)?;
        self.append_words(&words, frames, effects)?;
        let bytes = self.strings.bytes + self.pointers.bytes;
        if bytes > NEVER_MORE { Err(BuildError::TooBig) } else { Ok(()) }
    }

    /// The pointers to the strings that begin in a piece, which is about to come `after` so many bytes.
    fn note(&mut self, kind: usize, piece: &[u8], after: u64, words: &mut Vec<u64>) {
        let mut at = self.base + self.strings.bytes + after;
        for part in piece.split_inclusive(|byte| *byte == 0) {
            if !self.open {
                words.push(at);
                self.counts[kind] += 1;
            }
            self.open = part.last() != Some(&0);
            at += part.len() as u64;
        }
    }

    fn append_words(
        &mut self,
        words: &[u64],
        frames: &mut Frames,
        effects: &mut Effects,
    ) -> Result<(), BuildError> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.pointers.append(&bytes, frames, effects)
    }

    /// Lets go of everything.
    pub fn release(self, frames: &mut Frames) {
        for frame in self.strings.frames.into_iter().chain(self.pointers.frames) {
            frames.release(frame);
        }
    }

    /// Writes what is left and makes it all pages of the program's space, also when it fails.
    pub fn complete(
        mut self,
        build: &Build,
        loaded: &Loaded,
        space: &mut Space,
        memory: &mut Memory,
        effects: &mut Effects,
    ) -> Result<InitialStack, BuildError> {
        let end = self.base + self.strings.bytes;
        let environment = self.environment.unwrap_or(end);
        let ends: &[u64] = if self.environment.is_some() { &[0] } else { &[0, 0] };
        let vector = |named| auxiliary_vector(build, loaded, named).concat();
        let words_before = self.pointers.bytes / WORD + ends.len() as u64;
        let named_at = (words_before + vector([0; 3]).len() as u64) * WORD;
        let (named, offsets) = named_by_vector(build);
        let bytes = ceil(named_at + named.len() as u64).ok_or(BuildError::NoMemory)?;
        let pointer = self.base - bytes;
        let vector = vector(offsets.map(|offset| pointer + named_at + offset));
        let written = self
            .append_words(ends, &mut memory.frames, effects)
            .and_then(|()| self.append_words(&vector, &mut memory.frames, effects))
            .and_then(|()| self.pointers.append(&named, &mut memory.frames, effects));
        if let Some(frame) = self.pointers.frames.first().copied() {
            let bytes = u64::from(build.argc).to_le_bytes().to_vec();
            effects.act(Operation::FrameWrite { frame, offset: 0, bytes });
        }
        self.strings.give(self.base, space);
        self.pointers.give(pointer, space);
        written?;
        if self.open || self.counts != [build.argc, build.envc] {
            return Err(BuildError::Malformed);
        }
        Ok(InitialStack { pointer, bytes: Vec::new(), strings: [self.base, environment, environment, end] })
    }
}
