//! What vm is asked to build a program's space from: headers, strings, and what goes on the first stack.

use alloc::vec::Vec;

use libipc::abi::{Handle, PAGE_SIZE, PAYLOAD_MAX};
use libipc::linux::errno::{E2BIG, EFAULT};
use libipc::proto::process::Exec;
use libipc::proto::space::{self, Build, Limits};
use libipc::server::{Env, Message};
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::jobs::MadeSpace;
use crate::memory::UserMemory;
use crate::turn::{Refusal, errno};

/// Longest string with its NUL, Linux's MAX_ARG_STRLEN.
const STRING_MAX: u64 = 32 * PAGE_SIZE;
/// What arguments and environment with their pointers may always take (ARG_MAX), and at most: three quarters of the
/// usual stack. In between it is a quarter of the stack's limit (execve(2)).
const STRINGS_ALWAYS: u64 = 32 * PAGE_SIZE;
const STRINGS_NEVER_MORE: u64 = 6 << 20;
/// Most bytes of strings in one message to vm.
const PIECE_BYTES: u64 = PAYLOAD_MAX as u64 - 256;
/// Most bytes that are read of the caller for one piece: what is read is also recorded.
const READ_MAX: u64 = 128 << 10;
/// Bytes of command line and of environment that are remembered for /proc: what a message shows of them.
pub const REMEMBERED: usize = 3000;

/// The strings of a program as /proc shows them, shared by the processes forked from it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Program {
    /// Its path as resolved.
    pub path: Vec<u8>,
    /// Arguments, NUL-terminated each.
    pub command_line: Vec<u8>,
    /// Environment, likewise.
    pub environment: Vec<u8>,
    /// Where its first thread's stack began.
    pub stack: u64,
    /// Where the shared object is that every program has; 0 when there is none.
    pub vdso: u64,
}

/// Arguments and environment of a program about to run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Strings {
    /// argv.
    pub arguments: Vec<Vec<u8>>,
    /// envp.
    pub environment: Vec<Vec<u8>>,
}

/// Whose program it will be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    /// AT_UID, AT_EUID, AT_GID, AT_EGID.
    pub ids: [u32; 4],
    /// AT_SECURE: it gains privileges by being executed.
    pub secure: bool,
    /// What it may use of memory.
    pub limits: Limits,
}

impl Strings {
    /// With the interpreter of a `#!` line put before a script's arguments. A program always has an argv[0].
    pub fn after(mut self, prefix: &[Vec<u8>]) -> Strings {
        if self.arguments.is_empty() {
            self.arguments.push(Vec::new());
        }
        if !prefix.is_empty() {
            self.arguments.splice(..1, prefix.iter().cloned());
        }
        self
    }

    /// Arguments, then environment.
    pub fn joined(&self) -> Vec<u8> {
        [joined(&self.arguments), joined(&self.environment)].concat()
    }

    /// The row that remembers them.
    pub fn program(&self, path: &[u8]) -> Program {
        let mut program = Program { path: path.to_vec(), ..Program::default() };
        program.remember(&[joined(&self.arguments), joined(&self.environment)]);
        program
    }
}

/// Strings one after the other, NUL-terminated each.
fn joined(strings: &[Vec<u8>]) -> Vec<u8> {
    strings.iter().flat_map(|string| string.iter().copied().chain([0])).collect()
}

/// How far the reading of argv and envp of execve(2) has come. Each piece that has been read goes to vm; none of it
/// stays here but what /proc shows.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gather {
    /// Where the next pointer is, of argv and then of envp; 0 at the end of an array, or for none.
    next: [u64; 2],
    /// How much of the string there has been read.
    inside: u64,
    /// It is argv[0] of a script: the interpreter's line stands for it.
    replaced: bool,
    /// How many bytes more there may be.
    room: u64,
    /// How many strings there are of each so far.
    pub counts: [u32; 2],
}

impl Gather {
    /// The beginning, and what stands before the arguments: for a script its interpreter's line.
    pub fn new(exec: &Exec, stack_limit: u64) -> Result<(Gather, Vec<u8>), Refusal> {
        let room = (stack_limit / 4).clamp(STRINGS_ALWAYS, STRINGS_NEVER_MORE);
        let mut gather = Gather {
            next: [exec.argv, exec.envp],
            inside: 0,
            replaced: !exec.prefix.is_empty(),
            room,
            counts: [0; 2],
        };
        gather.take_room(exec.filename.len() as u64 + 1)?;
        for string in &exec.prefix {
            gather.take_room(string.len() as u64 + 1)?;
            gather.count(0)?;
        }
        Ok((gather, joined(&exec.prefix)))
    }

    /// Whether all has been read.
    pub fn is_complete(&self) -> bool {
        self.next == [0; 2] && self.counts[0] > 0
    }

    /// Reads the next piece of both, after `first`. What has been read before does not change when it must be read
    /// again.
    pub fn read(
        &mut self,
        memory: &mut UserMemory,
        env: &mut dyn Env,
        first: Vec<u8>,
    ) -> Result<[Vec<u8>; 2], Refusal> {
        let mut piece = [first, Vec::new()];
        let length = |piece: &[Vec<u8>; 2]| piece.iter().map(|part| part.len() as u64).sum::<u64>();
        while !self.is_complete() && length(&piece) < PIECE_BYTES && memory.bytes_read() < READ_MAX {
            let kind = usize::from(self.next[0] == 0);
            let at = self.next[kind];
            let pointer = if at == 0 { 0 } else { memory.word(env, at)? };
            if pointer == 0 {
                self.next[kind] = 0;
                if self.counts[0] == 0 {
                    // A program always has an argv[0].
                    piece[0].push(0);
                    self.take_room(1)?;
                    self.count(0)?;
                }
                continue;
            }
            let following = at.checked_add(8).ok_or(Refusal::Errno(EFAULT))?;
            if kind == 0 && core::mem::take(&mut self.replaced) {
                self.next[0] = following;
                continue;
            }
            let from = pointer.checked_add(self.inside).ok_or(Refusal::Errno(EFAULT))?;
            let wanted = (PIECE_BYTES - length(&piece)).min(STRING_MAX - self.inside);
            let part = memory.text(env, from, wanted)?;
            self.take_room(part.len() as u64)?;
            self.inside += part.len() as u64;
            if part.last() == Some(&0) {
                self.count(kind)?;
                self.next[kind] = following;
                self.inside = 0;
            } else if self.inside >= STRING_MAX {
                return errno(E2BIG);
            }
            piece[kind].extend(part);
        }
        Ok(piece)
    }

    fn take_room(&mut self, bytes: u64) -> Result<(), Refusal> {
        self.room = self.room.checked_sub(bytes).ok_or(Refusal::Errno(E2BIG))?;
        Ok(())
    }

    fn count(&mut self, kind: usize) -> Result<(), Refusal> {
        self.take_room(8)?;
        self.counts[kind] += 1;
        Ok(())
    }
}

impl Program {
    /// Remembers where vm has put what everybody needs to find who looks into the program.
    pub fn is_at(&mut self, made: &MadeSpace) {
        (self.stack, self.vdso) = (made.start.1, made.vdso);
    }

    /// Remembers a piece of arguments and environment, as much as is shown.
    pub fn remember(&mut self, [arguments, environment]: &[Vec<u8>; 2]) {
        for (kept, part) in [(&mut self.command_line, arguments), (&mut self.environment, environment)] {
            let room = REMEMBERED.saturating_sub(kept.len());
            kept.extend(part.iter().take(room));
        }
    }
}

/// As much of a program's first page as says how to load it: the ELF header and the program headers. A message holds
/// two of these beside the strings, but not two pages.
fn headers(first_page: &[u8]) -> Vec<u8> {
    let field = |at: usize, bytes: usize| {
        let field = first_page.iter().skip(at).take(bytes).rev();
        field.fold(0_u64, |value, byte| value << 8 | u64::from(*byte))
    };
    let end = field(32, 8).saturating_add(field(54, 2) * field(56, 2)).max(64);
    let is_elf = first_page.starts_with(b"\x7fELF");
    let kept = if is_elf { usize::try_from(end).unwrap_or(usize::MAX) } else { usize::MAX };
    first_page.iter().take(kept).copied().collect()
}

impl Proc {
    /// What vm is to build, but for the strings.
    pub(crate) fn build(&mut self, exec: &Exec, identity: Identity) -> Build {
        let mut random = [0; 16];
        for chunk in random.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.random.next().to_le_bytes());
        }
        Build {
            file: exec.file,
            header: headers(&exec.header),
            interpreter: exec.interpreter.as_ref().map(|(file, page)| (*file, headers(page))),
            argc: 0,
            envc: 0,
            strings: Vec::new(),
            filename: exec.filename.clone(),
            ids: identity.ids,
            secure: identity.secure,
            random,
            limits: identity.limits,
        }
    }
}

/// The message that has vm build a space; E2BIG when it is too long for one.
pub fn build_message(build: Build, files: &[Handle]) -> Result<Message, Refusal> {
    let message = Message::typed(space::REQUEST, &space::Request::Build(build));
    if message.payload.len() > PAYLOAD_MAX as usize { errno(E2BIG) } else { Ok(message.with_handles(files)) }
}

/// A stream of numbers for AT_RANDOM: SplitMix64, from the entropy of this boot.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Random(pub u64);

impl Random {
    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
