//! `/proc/naiad/trace`: what the kernel has recorded, as a file that begins as one of `cargo xtask run --trace` does.
//!
//! Reading goes on until what was there when it began; who reads on after that end gets what has come since. The bytes
//! go from the kernel straight to the reader. Writing `on`, with a filter behind it or not, and `off` switches.

use alloc::string::String;
use alloc::vec::Vec;

use libipc::abi::journal::Header;
use libipc::abi::trace::{Event, Filter, Names, PARTS, file_header};
use libipc::abi::{CallId, Handle, PAGE_SIZE};
use libipc::linux::errno::*;
use libipc::server::env::Statistic;
use libipc::server::{Effect, Env, Operation};
use serde::{Deserialize, Serialize};

use crate::Procfs;
use crate::open::part;

/// Most bytes that the kernel copies at once.
const WINDOW_MAX: u64 = 1 << 16;
/// A record that says that something is missing; how much, nobody has counted.
const GAP: [u64; 6] =
    [Header { number: Event::Lost as u16, error: 0, values: 0, payload: 0 }.pack(), 0, 0, 0, 0, 0];

/// An open trace that has been read from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Stream {
    /// What stands at `start`: the file's header, or a record of what is missing.
    text: Vec<u8>,
    /// The offset of that text, and the position of the record behind it.
    start: u64,
    position: u64,
    /// Where the reader finds an end for now.
    end: Option<u64>,
}

/// What of the kernel's ring can be read: from where on, also if as much as a part of it is written meanwhile, and up
/// to where.
fn readable(env: &mut dyn Env) -> (u64, u64) {
    let ([_, oldest, end, _], [bytes, ..]) =
        (env.statistic(Statistic::Trace, 0), env.statistic(Statistic::Trace, 1));
    let part = bytes / PARTS;
    let kept = (end + 2 * part).saturating_sub(bytes).next_multiple_of(part.max(1));
    (kept.max(oldest), end)
}

impl Procfs {
    /// Some server: who may look at one may look at the trace.
    pub(crate) fn any_task(&self) -> Result<Handle, i32> {
        self.tasks.values().next().copied().ok_or(ENXIO)
    }

    /// What a trace begins with.
    fn trace_header(&self, env: &mut dyn Env) -> Vec<u8> {
        let highest = self.numbers.values().copied().max().unwrap_or_default();
        let name = |number| {
            let found = self.numbers.iter().find(|(_, known)| **known == number);
            found.map_or("", |(name, _)| name.as_str())
        };
        let [frames, ..] = env.statistic(Statistic::Frames, 0);
        let build = concat!("naiad ", env!("CARGO_PKG_VERSION"));
        file_header(&Names::new((1..=highest).map(name)), build, frames * PAGE_SIZE)
    }

    /// Reads from the trace into one buffer: the copy, if anything is left, and its length.
    ///
    /// # Errors
    /// `ESTALE` for a place before one at which records were missing.
    pub(crate) fn read_trace(
        &mut self,
        call: CallId,
        badge: u64,
        (address, offset, length): (u64, u64, u64),
        env: &mut dyn Env,
    ) -> Result<(Option<Effect>, u64), i32> {
        let open = self.opens.get(&badge).ok_or(EBADF)?;
        let (task, stream) = (open.state.ok_or(EBADF)?, open.stream.clone());
        let (oldest, end) = readable(env);
        let mut stream = stream.unwrap_or_else(|| Stream {
            text: self.trace_header(env),
            start: 0,
            position: oldest,
            end: Some(end),
        });
        let piece = stream.piece(call, task, (address, offset, length), (oldest, end))?;
        if let Some(open) = self.opens.get_mut(&badge) {
            open.stream = Some(stream);
        }
        Ok(piece)
    }

    /// What writing to the trace does.
    ///
    /// # Errors
    /// `EINVAL` for anything but `off`, and `on` with a filter.
    pub(crate) fn trace_command(&self, command: &[u8]) -> Result<Operation, i32> {
        let text = core::str::from_utf8(command).map_err(|_| EINVAL)?.trim();
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        let mut names: Vec<(u32, &String)> =
            self.numbers.iter().map(|(name, number)| (*number, name)).collect();
        names.sort_unstable();
        let names = Names::new(names.into_iter().map(|(_, name)| name.as_str()));
        let filter = Filter::parse(rest, &names).map_err(|_| EINVAL)?;
        let on = match verb {
            "on" => true,
            "off" if filter.is_open() => false,
            _ => return Err(EINVAL),
        };
        let task = self.any_task()?;
        Ok(Operation::TraceSet { task, on, filter })
    }
}

impl Stream {
    fn piece(
        &mut self,
        call: CallId,
        task: Handle,
        (address, offset, length): (u64, u64, u64),
        (oldest, end): (u64, u64),
    ) -> Result<(Option<Effect>, u64), i32> {
        let behind = self.start + self.text.len() as u64;
        let position = offset.checked_sub(behind).map(|bytes| self.position.saturating_add(bytes));
        if position.is_some_and(|position| position < oldest) {
            // What would have come next has been overwritten.
            *self = Stream {
                text: GAP.into_iter().flat_map(u64::to_le_bytes).collect(),
                start: offset,
                position: oldest,
                end: self.end,
            };
        }
        let within = offset.checked_sub(self.start).ok_or(ESTALE)?;
        let bytes = part(&self.text, within, length).to_vec();
        if !bytes.is_empty() {
            let copied = bytes.len() as u64;
            return Ok((Some(Effect::CopyOut { call, address, bytes }), copied));
        }
        let position = self.position + (within - self.text.len() as u64);
        let until = *self.end.get_or_insert(end);
        let length = length.min(until.saturating_sub(position)).min(WINDOW_MAX);
        if length == 0 {
            self.end = None;
            return Ok((None, 0));
        }
        Ok((Some(Effect::FromTrace { call, address, task, position, length }), length))
    }
}
