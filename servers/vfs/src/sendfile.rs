//! sendfile(2): bytes of a file into another, whichever servers have them.
//!
//! This server becomes a holder of both files for as long as it takes, reads a message's worth from the one and writes
//! it to the other, in turn. A write never waits at its server: when there is no room, the descriptor is watched as by
//! poll(2), so that a signal finds the call here.

use alloc::vec::Vec;

use libipc::abi::syscall::Restart;
use libipc::abi::{CallId, Handle, KernelError, PAYLOAD_MAX, Readiness, Tag};
use libipc::linux::errno::*;
use libipc::linux::open::{O_APPEND, O_NONBLOCK};
use libipc::proto::fs;
use libipc::server::effect::Reason;
use libipc::server::files::{check_readable, check_writable};
use libipc::server::vectors::COUNT_MAX;
use libipc::server::{Effect, Effects, Env, ForeignReply, LeaseError, Message, Operation, Output};
use serde::{Deserialize, Serialize};

use crate::Vfs;
use crate::calls::Args;

/// A copy under way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Copying {
    call: CallId,
    from: Handle,
    to: Handle,
    /// The caller's descriptor that is written to.
    descriptor: u32,
    /// Where in the one file the next byte is.
    offset: u64,
    /// Where the caller keeps that offset; 0 when it is the file's own.
    offset_at: u64,
    /// Where in the other file it goes, if that has positions.
    position: u64,
    /// Bytes still wanted, and those that have gone.
    left: u64,
    done: u64,
    /// Bytes read and not written yet.
    pending: Vec<u8>,
    nonblock: bool,
    /// A signal has come.
    cancelled: bool,
    /// The process server.
    proc: Option<Handle>,
}

impl Vfs {
    /// sendfile(2).
    ///
    /// # Errors
    /// `EBADF` for descriptors that are not open so, `EINVAL` for what cannot be read at an offset or is appended to,
    /// `EFAULT`.
    pub(crate) fn send_file(&mut self, args: &Args<'_>, env: &mut dyn Env) -> Result<Effects, i32> {
        let call = args.call.id;
        let offset_at = args.word(2);
        let given = match offset_at {
            0 => None,
            at => match env.read_user(call, at, 8) {
                Ok(bytes) => Some(bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))),
                Err(LeaseError::NotResident) => return Ok(Effects::again()),
                Err(_) => return Err(EFAULT),
            },
        };
        if given.is_some_and(|offset| i64::try_from(offset).is_err()) {
            return Err(EINVAL);
        }
        let (from, source) = env.take_descriptor(call, args.int(1)).map_err(|_| EBADF)?;
        let (to, target) = match env.take_descriptor(call, args.int(0)) {
            Ok(taken) => taken,
            Err(_) => {
                let mut effects = crate::settle::value(call, -i64::from(EBADF));
                effects.act(Operation::Close { handle: from });
                return Ok(effects);
            }
        };
        let copying = Copying {
            call,
            from,
            to,
            descriptor: args.int(0),
            offset: given.unwrap_or(source.position),
            offset_at,
            position: target.position,
            left: args.word(3).min(COUNT_MAX),
            done: 0,
            pending: Vec::new(),
            nonblock: target.status & O_NONBLOCK != 0,
            cancelled: false,
            proc: self.server("proc"),
        };
        let allowed = check_readable(source.status).and_then(|()| check_writable(target.status));
        Ok(match allowed {
            Err(errno) => Self::copied(copying, Err(errno)),
            Ok(()) if target.status & O_APPEND != 0 => Self::copied(copying, Err(EINVAL)),
            Ok(()) => {
                let mut effects = Effects::none();
                effects.park(call, Reason::Server);
                effects.append(self.copy_on(copying));
                effects
            }
        })
    }

    /// The next question of a copy: more bytes, or where they go.
    fn copy_on(&mut self, copying: Copying) -> Effects {
        if copying.cancelled || copying.left == 0 && copying.pending.is_empty() {
            return Self::copied(copying, Err(EINTR));
        }
        let (to, message) = if copying.pending.is_empty() {
            let length = copying.left.min(u64::from(PAYLOAD_MAX));
            (copying.from, Message::words(fs::READ_AT, [copying.offset, length, 0, 0]))
        } else {
            let payload = copying.pending.clone();
            let words = [copying.position, 0, 0, 0];
            (copying.to, Message { words, payload, ..Message::label(fs::WRITE_AT) })
        };
        let tag = Tag(self.next_tag);
        self.next_tag += 1;
        self.copies.insert(tag, copying);
        let mut effects = Effects::none();
        effects.send(to, tag, message);
        effects
    }

    /// An answer for a copy.
    pub(crate) fn copy_answered(
        &mut self,
        mut copying: Copying,
        answer: &Result<Message, KernelError>,
        env: &mut dyn Env,
    ) -> Effects {
        let Ok(answer) = answer else { return Self::copied(copying, Err(EIO)) };
        let reading = copying.pending.is_empty();
        match (answer.label as i32, reading) {
            (0, true) if answer.payload.is_empty() => Self::copied(copying, Err(0)),
            (0, true) => {
                copying.pending = answer.payload.clone();
                self.copy_on(copying)
            }
            (0, false) => {
                let [count, position, ..] = answer.words;
                let count = count.min(copying.pending.len() as u64);
                copying.pending.drain(..count as usize);
                copying.position = position;
                copying.offset += count;
                copying.done += count;
                copying.left -= count.min(copying.left);
                self.copy_on(copying)
            }
            (EIO, true) => Self::copied(copying, Err(EIO)),
            // Programs go on with read(2) and write(2) after EINVAL.
            (_, true) => Self::copied(copying, Err(EINVAL)),
            (EAGAIN, false) if copying.done == 0 && !copying.nonblock => self.copy_stalled(copying, env),
            (errno, false) => Self::copied(copying, Err(errno)),
        }
    }

    /// There is no room: waits until there is.
    fn copy_stalled(&mut self, copying: Copying, env: &mut dyn Env) -> Effects {
        match env.watch(copying.call, copying.descriptor, Readiness::OUT) {
            Ok(ready) if ready.is_empty() => {
                self.stalled.insert(copying.call, copying);
                Effects::none()
            }
            Ok(_) => self.copy_on(copying),
            Err(_) => Self::copied(copying, Err(EAGAIN)),
        }
    }

    /// A watched descriptor became ready: whether that was what a copy waited for.
    pub(crate) fn copy_woken(&mut self, call: CallId) -> Option<Effects> {
        let copying = self.stalled.remove(&call)?;
        Some(self.copy_on(copying))
    }

    /// A signal wants a call back: a copy that waits ends now, one that is at work when its next answer comes.
    pub(crate) fn copy_cancelled(&mut self, call: CallId) -> Effects {
        if let Some(mut copying) = self.stalled.remove(&call) {
            copying.cancelled = true;
            return Self::copied(copying, Err(EINTR));
        }
        if let Some(copying) = self.copies.values_mut().find(|copying| copying.call == call) {
            copying.cancelled = true;
        }
        Effects::none()
    }

    /// Ends a copy: what has gone counts more than why no more did.
    fn copied(copying: Copying, why: Result<(), i32>) -> Effects {
        let Copying { call, from, to, offset, offset_at, position, done, .. } = copying;
        let mut effects = Effects::none();
        let mut outputs = Vec::new();
        if done > 0 {
            match offset_at {
                0 => effects.act(Operation::SessionMove { session: from, position: offset }),
                address => {
                    outputs.push(Output { address, bytes: offset.to_le_bytes().to_vec() });
                    &mut effects
                }
            };
            effects.act(Operation::SessionMove { session: to, position });
        }
        match (why.err().filter(|_| done == 0 && (copying.cancelled || copying.left > 0)), copying.proc) {
            // As with write(2), the other side's end is a signal, which the process server raises.
            (Some(EPIPE), Some(proc)) => {
                effects.push(Effect::ForwardForeign { call, to: proc });
            }
            (errno, _) => {
                let result = errno.map_or(done as i64, |errno| -i64::from(errno));
                let restart = if errno == Some(EINTR) { Restart::IfAsked } else { Restart::Never };
                effects.foreign(call, ForeignReply { result, outputs, restart, ..ForeignReply::default() });
            }
        }
        for handle in [from, to] {
            effects.act(Operation::Close { handle });
        }
        effects
    }
}

#[cfg(test)]
mod tests;
