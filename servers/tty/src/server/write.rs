//! write(2) and its relatives: who writes next, and when a write is done.
//!
//! Writers take turns in the order in which they came, and what one writes stays together. A write is answered when
//! its last byte has left for the port, not when it was queued: a program that has written and then ends the machine
//! has been seen. Without waiting (O_NONBLOCK), queued is enough.

use alloc::vec::Vec;

use libipc::abi::CallId;
use libipc::linux::errno::{EAGAIN, EFAULT};
use libipc::linux::open::O_NONBLOCK;
use libipc::server::{Env, files};
use serde::{Deserialize, Serialize};

use super::Tty;
use super::call::Asked;
use super::control::WRITE;
use super::ranges::Ranges;
use super::turn::{Outcome, Turn};
use crate::line::LineDiscipline;
use crate::queue::ByteQueue;
use crate::termios::LocalFlags;
use crate::uart::TRANSMIT_CAPACITY;

/// Bytes read at once of a writer whose turn it is.
const PIECE: u64 = TRANSMIT_CAPACITY as u64;
/// Bytes read of one that comes while others wait: enough to get somewhere should its next page be gone when its turn
/// comes, and little, since many may wait.
const FIRST_PIECE: u64 = 256;

/// A write that is not done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Writer {
    pub call: CallId,
    pub badge: u64,
    ranges: Ranges,
    /// How many bytes the line discipline has taken.
    taken: u64,
    /// The next bytes, already read.
    held: Vec<u8>,
}

impl Writer {
    /// Goes on as far as there is room. The answer, when it is done: all bytes, or as many as could be had, have
    /// left.
    fn advance(&mut self, line: &mut LineDiscipline, out: &mut ByteQueue, env: &mut dyn Env) -> Option<u64> {
        let total = self.ranges.total();
        while self.taken < total {
            if out.room() == 0 {
                return None;
            }
            if self.held.is_empty() {
                match self.ranges.gather(self.call, self.taken, out.room().into(), env) {
                    Ok(bytes) if !bytes.is_empty() => self.held = bytes,
                    // A page that is missing is on its way, but nobody will say that it has come: it is tried for as
                    // long as output is leaving.
                    _ => return out.is_empty().then_some(self.taken),
                }
            }
            let count = line.write(&self.held, out);
            if count == 0 {
                return None;
            }
            self.held.drain(..count as usize);
            self.taken += u64::from(count);
        }
        out.is_empty().then_some(total)
    }
}

impl Tty {
    /// write(2) and writev(2).
    pub(super) fn write(&mut self, asked: &Asked, ranges: Ranges, turn: &mut Turn) -> Outcome {
        files::check_writable(self.open_file(asked.badge)?.status)?;
        let tostop = self.line.termios().local.contains(LocalFlags::TOSTOP);
        let verdict = self.jobs.check_write(&self.caller_of(asked), tostop);
        if !self.may_proceed(verdict, WRITE, asked, turn)? {
            return Ok(());
        }
        if ranges.total() == 0 {
            turn.out.result(asked.id, 0);
            return Ok(());
        }
        let nonblock = asked.status & O_NONBLOCK != 0;
        let first = self.writers.is_empty();
        if nonblock && !first {
            return Err(EAGAIN.into());
        }
        let held = ranges.gather(asked.id, 0, if first { PIECE } else { FIRST_PIECE }, turn.env)?;
        if held.is_empty() {
            return Err(EFAULT.into());
        }
        if nonblock {
            let taken = self.line.write(&held, self.port.uart.transmit());
            if taken == 0 {
                return Err(EAGAIN.into());
            }
            turn.out.result(asked.id, i64::from(taken));
            return Ok(());
        }
        self.writers.push_back(Writer { call: asked.id, badge: asked.badge, ranges, taken: 0, held });
        Ok(())
    }

    /// Lets writers go on as far as there is room, and answers those that are done.
    pub(super) fn serve_writers(&mut self, turn: &mut Turn) {
        while let Some(writer) = self.writers.front_mut()
            && let Some(count) = writer.advance(&mut self.line, self.port.uart.transmit(), turn.env)
        {
            turn.out.result(writer.call, count as i64);
            self.writers.pop_front();
        }
    }

    /// A signal takes a writer out of its wait.
    pub(super) fn cancel_writer(&mut self, call: CallId, turn: &mut Turn) {
        let Some(place) = self.writers.iter().position(|writer| writer.call == call) else { return };
        match self.writers.remove(place) {
            Some(writer) if writer.taken > 0 => {
                turn.out.result(call, writer.taken as i64);
            }
            _ => turn.interrupted(call),
        }
    }
}
