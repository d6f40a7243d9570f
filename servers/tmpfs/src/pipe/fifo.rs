//! Opening a FIFO: each side waits for the other (POSIX open, "O_NONBLOCK").

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::{Pipe, interrupted};
use crate::node::{Ino, NOWHERE};
use crate::open::{Kind, New, Then};
use crate::transfer::Refusal;
use crate::{Tmpfs, Wait};
use libipc::abi::CallId;
use libipc::linux::errno::*;
use libipc::linux::mode::S_IFIFO;
use libipc::linux::open::{O_ACCMODE, O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_WRONLY};
use libipc::server::effect::Reason;
use libipc::server::files;
use libipc::server::{Effects, Env};

/// An opening that waits for the other side. Its end counts as open already.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opening {
    call: CallId,
    status: u32,
    /// It does not wait for the other side: nobody waits for that of a pipe without a name.
    at_once: bool,
    close_on_exec: bool,
    /// The descriptor reserved for it.
    descriptor: u64,
}

impl Opening {
    /// Whether the side it waits for is there, or it does not wait.
    fn is_met(&self, pipe: &Pipe) -> bool {
        match self.status & O_ACCMODE {
            _ if self.at_once => true,
            O_RDONLY => pipe.writers > 0,
            O_WRONLY => pipe.readers > 0,
            _ => true,
        }
    }
}

impl Tmpfs {
    /// A program's open(2) of a FIFO, which vfs hands on: words are the node, the flags, and the descriptor reserved.
    /// It waits until the other side opens, and whoever waited for this side goes on.
    pub(crate) fn open_fifo(
        &mut self,
        call: CallId,
        words: [u64; 4],
        env: &mut dyn Env,
    ) -> Result<Effects, Refusal> {
        let [ino, flags, descriptor, _] = words;
        let flags = flags as u32;
        if !self.tree.node(ino)?.is(S_IFIFO) {
            return Err(Refusal::Errno(ENXIO));
        }
        let status = files::status_of_open(flags);
        let unnamed = self.tree.node(ino)?.volume == NOWHERE;
        let at_once = unnamed || status & O_NONBLOCK != 0;
        if !self.pipes.contains_key(&ino) {
            self.pipes.insert(ino, Pipe::default());
        }
        let pipe = self.pipes.get_mut(&ino).ok_or(ENXIO)?;
        let nobody_reads = status & O_ACCMODE == O_WRONLY && pipe.readers == 0;
        if nobody_reads && status & O_NONBLOCK != 0 && !unnamed {
            self.forget_unused(ino);
            return Err(Refusal::Errno(ENXIO));
        }
        pipe.join(status);
        let opening = Opening { call, status, at_once, close_on_exec: flags & O_CLOEXEC != 0, descriptor };
        let reason = if opening.is_met(pipe) { Reason::Server } else { Reason::Peer };
        pipe.opening.push(opening);
        let mut effects = Effects::none();
        effects.park(call, reason);
        self.parked.insert(call, Wait::Opening(ino));
        self.complete_openings(ino, &mut effects, env);
        let settled = self.with_pipe(ino, |_, _| Ok(()));
        effects.append(settled.unwrap_or_default());
        Ok(effects)
    }

    /// Makes the sessions of all openings that wait no longer.
    fn complete_openings(&mut self, ino: Ino, effects: &mut Effects, env: &mut dyn Env) {
        let Some(pipe) = self.pipes.get_mut(&ino) else { return };
        let all = core::mem::take(&mut pipe.opening);
        let (met, waiting): (Vec<Opening>, Vec<Opening>) =
            all.into_iter().partition(|opening| opening.is_met(pipe));
        pipe.opening = waiting;
        for Opening { call, status, close_on_exec, descriptor, .. } in met {
            self.parked.remove(&call);
            let new = New { kind: Kind::Pipe(ino), status };
            let then = Then::Install { result: descriptor, outputs: Vec::new(), close_on_exec };
            self.open(call, &[new], then, effects, env);
        }
    }

    /// Gives up an opening that waits.
    pub(crate) fn cancel_opening(&mut self, ino: Ino, call: CallId) -> Effects {
        let Some(pipe) = self.pipes.get_mut(&ino) else { return Effects::none() };
        let Some(index) = pipe.opening.iter().position(|opening| opening.call == call) else {
            return Effects::none();
        };
        let status = pipe.opening.remove(index).status;
        self.parked.remove(&call);
        let left = self.with_pipe(ino, |pipe, desk| {
            pipe.leave(status, desk);
            Ok(())
        });
        self.forget_unused(ino);
        let mut effects = left.unwrap_or_default();
        interrupted(&mut effects, call);
        effects
    }
}
