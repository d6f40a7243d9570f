//! read(2) and its relatives: who reads next, and how long it waits.
//!
//! Readers take turns in the order in which they came, as behind a lock: only the first looks at the input, and its
//! VTIME counts from when its turn began.

use libipc::abi::CallId;
use libipc::linux::errno::EAGAIN;
use libipc::linux::open::O_NONBLOCK;
use libipc::server::files;
use serde::{Deserialize, Serialize};

use super::Tty;
use super::call::Asked;
use super::control::READ;
use super::ranges::Ranges;
use super::turn::{Outcome, Turn};
use crate::line::{ReadOutcome, ReadTimer};

/// A tenth of a second, in which VTIME counts.
const TENTH_NS: u64 = 100_000_000;

/// A read that waits.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reader {
    pub call: CallId,
    pub badge: u64,
    ranges: Ranges,
    /// When its turn began and when input last arrived in it.
    turn: Option<(u64, u64)>,
}

impl Reader {
    /// Input has arrived.
    pub fn arrived(&mut self, now: u64) {
        if let Some((_, arrived)) = &mut self.turn {
            *arrived = now;
        }
    }

    fn max_bytes(&self) -> u32 {
        u32::try_from(self.ranges.total()).unwrap_or(u32::MAX)
    }

    /// When it stops waiting, with this timer.
    fn deadline(&self, timer: ReadTimer) -> Option<u64> {
        let (began, arrived) = self.turn?;
        let (from, tenths) = match timer {
            ReadTimer::None => return None,
            ReadTimer::SinceRead(tenths) => (began, tenths),
            ReadTimer::SinceInput(tenths) => (arrived, tenths),
        };
        Some(from.saturating_add(u64::from(tenths) * TENTH_NS))
    }
}

impl Tty {
    /// read(2) and readv(2).
    pub(super) fn read(&mut self, asked: &Asked, ranges: Ranges, turn: &mut Turn) -> Outcome {
        files::check_readable(self.open_file(asked.badge)?.status)?;
        let verdict = self.jobs.check_read(&self.caller_of(asked));
        if !self.may_proceed(verdict, READ, asked, turn)? {
            return Ok(());
        }
        let reader = Reader { call: asked.id, badge: asked.badge, ranges, turn: None };
        if asked.status & O_NONBLOCK == 0 {
            self.readers.push_back(reader);
            return Ok(());
        }
        if !self.readers.is_empty() {
            return Err(EAGAIN.into());
        }
        let bytes = match self.line.read(reader.max_bytes()) {
            ReadOutcome::Bytes(bytes) => bytes,
            ReadOutcome::Wait(_) => match self.line.read_waiting(reader.max_bytes()) {
                bytes if bytes.is_empty() => return Err(EAGAIN.into()),
                bytes => bytes,
            },
        };
        turn.bytes(reader.call, &reader.ranges, bytes);
        Ok(())
    }

    /// Lets readers go on as far as there is input for them; answers whether one was served.
    pub(super) fn serve_readers(&mut self, turn: &mut Turn) -> bool {
        let now = turn.env.now();
        let mut served = false;
        while let Some(reader) = self.readers.front_mut() {
            reader.turn.get_or_insert((now, now));
            let max_bytes = reader.max_bytes();
            let bytes = match self.line.read(max_bytes) {
                ReadOutcome::Bytes(bytes) => bytes,
                ReadOutcome::Wait(timer) if reader.deadline(timer).is_some_and(|end| end <= now) => {
                    self.line.read_waiting(max_bytes)
                }
                ReadOutcome::Wait(timer) => {
                    self.read_deadline = reader.deadline(timer);
                    return served;
                }
            };
            turn.bytes(reader.call, &reader.ranges, bytes);
            self.readers.pop_front();
            served = true;
        }
        self.read_deadline = None;
        served
    }

    /// A signal takes a reader out of its wait: with what it has, if it has had its turn and there is something.
    pub(super) fn cancel_reader(&mut self, call: CallId, turn: &mut Turn) {
        let Some(place) = self.readers.iter().position(|reader| reader.call == call) else { return };
        let Some(reader) = self.readers.remove(place) else { return };
        let bytes = match reader.turn {
            Some(_) => self.line.read_waiting(reader.max_bytes()),
            None => alloc::vec::Vec::new(),
        };
        if bytes.is_empty() {
            turn.interrupted(call);
        } else {
            turn.bytes(call, &reader.ranges, bytes);
        }
    }
}
