//! The system calls that make pipes and use them.

use alloc::{vec, vec::Vec};

use super::{Desk, Manner, Pipe, Reader};
use crate::Tmpfs;
use crate::arena::PAGE;
use crate::node::{Body, Ino, NOWHERE, Node};
use crate::open::{Kind, New, Then};
use crate::transfer::{Outcome, Ranges, Refusal, value};
use libipc::abi::{CallId, Readiness};
use libipc::linux::call as number;
use libipc::linux::errno::*;
use libipc::linux::mode;
use libipc::linux::open::{O_ACCMODE, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY};
use libipc::server::{Call, Effects, Env, Foreign, Request};

/// Largest capacity that anyone may ask for (/proc/sys/fs/pipe-max-size).
const CAPACITY_MAX: u64 = 1 << 20;
impl Tmpfs {
    /// Lets a pipe work and then tells its ends what they are ready for.
    pub(crate) fn with_pipe(
        &mut self,
        ino: Ino,
        work: impl FnOnce(&mut Pipe, &mut Desk) -> Result<(), Refusal>,
    ) -> Outcome {
        let pipe = self.pipes.get_mut(&ino).ok_or(EBADF)?;
        let (arena, parked) = (&mut self.arena, &mut self.parked);
        let mut desk = Desk { effects: Effects::none(), arena, parked, proc: self.proc, ino };
        work(pipe, &mut desk)?;
        let mut effects = desk.effects;
        let news = pipe.news();
        if news != (false, false) {
            self.tell_ends(ino, news, &mut effects);
        }
        Ok(effects)
    }

    /// Tells the ends of a pipe what they are ready for: those that read, those that write.
    fn tell_ends(&mut self, ino: Ino, (reading, writing): (bool, bool), effects: &mut Effects) {
        let Some(pipe) = self.pipes.get_mut(&ino) else { return };
        let ends = core::mem::take(&mut pipe.ends);
        for (badge, status) in &ends {
            let concerned = match status & O_ACCMODE {
                O_RDONLY => reading,
                O_WRONLY => writing,
                _ => true,
            };
            if concerned {
                self.refresh(*badge, effects);
            }
        }
        if let Some(pipe) = self.pipes.get_mut(&ino) {
            pipe.ends = ends;
        }
    }

    /// A session of a pipe exists from now on.
    pub(crate) fn add_end(&mut self, ino: Ino, badge: u64) {
        let status = self.opens.get(&badge).map_or(O_RDWR, |open| open.status);
        if let Some(pipe) = self.pipes.get_mut(&ino) {
            pipe.ends.push((badge, status));
        }
    }

    /// A session is no end of a pipe any more, whatever else it was.
    pub(crate) fn drop_end(&mut self, ino: Ino, badge: u64) {
        if let Some(pipe) = self.pipes.get_mut(&ino) {
            pipe.ends.retain(|(end, _)| *end != badge);
        }
    }

    /// A session of a pipe is closed; the pipe goes with its last one.
    pub(crate) fn remove_end(&mut self, ino: Ino, badge: u64, status: u32, effects: &mut Effects) {
        let closed = self.with_pipe(ino, |pipe, desk| {
            pipe.ends.retain(|(end, _)| *end != badge);
            pipe.leave(status, desk);
            Ok(())
        });
        if let Ok(mut closed) = closed {
            effects.list.append(&mut closed.list);
        }
        self.forget_unused(ino);
    }

    /// Forgets the pipe of a node that nobody has open.
    pub(crate) fn forget_unused(&mut self, ino: Ino) {
        if self.pipes.get(&ino).is_some_and(Pipe::is_unused) {
            self.pipes.remove(&ino);
        }
    }

    /// What an end is ready for.
    pub(crate) fn pipe_readiness(&self, ino: Ino, status: u32) -> Readiness {
        let Some(pipe) = self.pipes.get(&ino) else { return Readiness::HUP };
        let (read, write) = pipe.readiness();
        match status & (O_WRONLY | O_RDWR) {
            O_RDONLY => read,
            O_WRONLY => write,
            _ => read | write,
        }
    }

    /// A pipe without a name, open at both ends.
    fn new_pipe(&mut self, call: &Call, kind: u32, env: &dyn Env) -> Result<Ino, i32> {
        let owner = (call.caller.uid, call.caller.gid);
        let node = Node::new(NOWHERE, kind, owner, self.wall_ns(env), Body::Special);
        let ino = self.tree.insert(node)?;
        self.pipes.insert(ino, Pipe::open_both());
        Ok(ino)
    }

    /// pipe(2) and pipe2(2).
    pub(crate) fn make_pipe(
        &mut self,
        call: &Call,
        foreign: &Foreign,
        flags: u64,
        env: &mut dyn Env,
    ) -> Outcome {
        let status = allowed(flags, O_CLOEXEC | O_NONBLOCK)? & O_NONBLOCK;
        let ino = self.new_pipe(call, mode::S_IFIFO | 0o600, env)?;
        let ends = [O_RDONLY, O_WRONLY].map(|access| New { kind: Kind::Pipe(ino), status: access | status });
        self.open_pair(call, foreign, ends, foreign.arguments[0], flags, env)
    }

    fn open_pair(
        &mut self,
        call: &Call,
        foreign: &Foreign,
        ends: [New; 2],
        address: u64,
        flags: u64,
        env: &mut dyn Env,
    ) -> Outcome {
        let descriptors: Vec<u8> = foreign.slots.iter().flat_map(|slot| slot.to_le_bytes()).collect();
        let close_on_exec = flags & u64::from(O_CLOEXEC) != 0;
        let then = Then::Install { result: 0, outputs: vec![(address, descriptors)], close_on_exec };
        Ok(self.open_now(call.id, &ends, then, env))
    }

    /// read(2) of a pipe.
    pub(crate) fn pipe_read(&mut self, call: &Call, ino: Ino, ranges: Ranges, env: &mut dyn Env) -> Outcome {
        let nonblock = call.status & O_NONBLOCK != 0;
        let reader = Reader::plain(call.id, ranges);
        self.with_pipe(ino, |pipe, desk| pipe.read(reader, nonblock, desk, env))
    }

    /// write(2) to a pipe.
    pub(crate) fn pipe_write(&mut self, call: &Call, ino: Ino, ranges: Ranges, env: &mut dyn Env) -> Outcome {
        let nonblock = call.status & O_NONBLOCK != 0;
        let manner = Manner { nonblock, given: given(call), ..Manner::default() };
        self.with_pipe(ino, |pipe, desk| pipe.write(call.id, ranges, manner, desk, env))
    }

    /// F_SETPIPE_SZ.
    pub(crate) fn set_pipe_size(&mut self, call: &Call, ino: Ino, wanted: u64, env: &mut dyn Env) -> Outcome {
        let capacity = match wanted {
            0..=PAGE => PAGE,
            wanted if wanted > i32::MAX as u64 => return Err(Refusal::Errno(EINVAL)),
            wanted => wanted.next_power_of_two(),
        };
        if capacity > CAPACITY_MAX && call.caller.uid != 0 {
            return Err(Refusal::Errno(EPERM));
        }
        let mut effects = self.with_pipe(ino, |pipe, desk| pipe.resize(capacity, desk, env))?;
        effects.list.append(&mut value(call.id, capacity)?.list);
        Ok(effects)
    }

    /// A signal or kill takes a call out of a pipe's queue.
    pub(crate) fn cancel_pipe_call(&mut self, ino: Ino, call: CallId) -> Effects {
        let cancelled = self.with_pipe(ino, |pipe, desk| {
            pipe.cancel(call, desk);
            Ok(())
        });
        cancelled.unwrap_or_default()
    }
}

/// The bytes that a write(2) of few brings along.
pub fn given(call: &Call) -> Option<Vec<u8>> {
    match &call.request {
        Request::Foreign(foreign) if foreign.number == number::WRITE => foreign.inputs[0].clone(),
        _ => None,
    }
}

/// Flags, when they are no others than these.
fn allowed(flags: u64, known: u32) -> Result<u32, i32> {
    let flags = u32::try_from(flags).map_err(|_| EINVAL)?;
    if flags & !known == 0 { Ok(flags) } else { Err(EINVAL) }
}
