//! What vm is asked to build a program's space from: headers, strings, and what goes on the first stack.

use alloc::vec::Vec;

use libipc::abi::{Handle, PAYLOAD_MAX};
use libipc::linux::errno::{E2BIG, EFAULT};
use libipc::proto::process::Exec;
use libipc::proto::space::{self, Build};
use libipc::server::{Env, Message};
use serde::{Deserialize, Serialize};

use crate::Proc;
use crate::memory::UserMemory;
use crate::turn::{Refusal, errno};

/// Most bytes of arguments and environment with their pointers: what one message to vm carries beside the headers.
const STRINGS_MAX: u64 = PAYLOAD_MAX as u64;

/// The strings of a program as /proc shows them, shared by the processes forked from it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Program {
    /// Its path as resolved.
    pub path: Vec<u8>,
    /// Arguments, NUL-terminated each.
    pub command_line: Vec<u8>,
    /// Environment, likewise.
    pub environment: Vec<u8>,
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
    /// Soft limit of its stack in bytes.
    pub stack_limit: u64,
}

impl Strings {
    /// Reads argv and envp of execve(2) from the caller.
    pub fn read(
        memory: &mut UserMemory,
        env: &mut dyn Env,
        argv: u64,
        envp: u64,
    ) -> Result<Strings, Refusal> {
        let mut room = STRINGS_MAX;
        let arguments = read_array(memory, env, argv, &mut room)?;
        let environment = read_array(memory, env, envp, &mut room)?;
        Ok(Strings { arguments, environment })
    }

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

    /// The row that remembers them.
    pub fn program(&self, path: &[u8]) -> Program {
        Program {
            path: path.to_vec(),
            command_line: joined(&self.arguments),
            environment: joined(&self.environment),
        }
    }
}

/// Strings one after the other, NUL-terminated each.
fn joined(strings: &[Vec<u8>]) -> Vec<u8> {
    strings.iter().flat_map(|string| string.iter().copied().chain([0])).collect()
}

/// Reads a null-terminated array of strings. A null pointer is an empty array, as Linux has it.
fn read_array(
    memory: &mut UserMemory,
    env: &mut dyn Env,
    array: u64,
    room: &mut u64,
) -> Result<Vec<Vec<u8>>, Refusal> {
    let mut strings = Vec::new();
    let mut at = array;
    while at != 0 {
        let pointer = memory.word(env, at)?;
        if pointer == 0 {
            break;
        }
        let string = memory.text(env, pointer, *room)?.ok_or(Refusal::Errno(E2BIG))?;
        *room = room.checked_sub(string.len() as u64 + 9).ok_or(Refusal::Errno(E2BIG))?;
        strings.push(string);
        at = at.checked_add(8).ok_or(Refusal::Errno(EFAULT))?;
    }
    Ok(strings)
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
    /// The message that has vm build a space.
    pub(crate) fn build_message(
        &mut self,
        exec: &Exec,
        strings: &Strings,
        identity: Identity,
        files: &[Handle],
    ) -> Result<Message, Refusal> {
        let mut all = joined(&strings.arguments);
        all.extend(joined(&strings.environment));
        let interpreter = exec.interpreter.as_ref().map(|(file, page)| (*file, headers(page)));
        let mut build = Build {
            file: exec.file,
            header: headers(&exec.header),
            interpreter,
            argc: strings.arguments.len() as u32,
            envc: strings.environment.len() as u32,
            strings: all,
            filename: exec.filename.clone(),
            ids: identity.ids,
            secure: identity.secure,
            random: [0; 16],
            stack_limit: identity.stack_limit,
        };
        let fits = |build: &Build| {
            let message = Message::typed(space::REQUEST, &space::Request::Build(build.clone()));
            if message.payload.len() > PAYLOAD_MAX as usize { errno(E2BIG) } else { Ok(message) }
        };
        fits(&build)?;
        for chunk in build.random.chunks_exact_mut(8) {
            chunk.copy_from_slice(&self.random.next().to_le_bytes());
        }
        Ok(fits(&build)?.with_handles(files))
    }
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
