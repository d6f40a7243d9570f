//! Opening a FIFO: each side waits for the other (POSIX open, "O_NONBLOCK").

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::Pipe;
use crate::node::Ino;
use crate::open::{Kind, New, Then};
use crate::{Tmpfs, Wait};
use libipc::abi::CallId;
use libipc::linux::Stat;
use libipc::linux::errno::*;
use libipc::linux::open::{O_ACCMODE, O_NONBLOCK, O_RDONLY, O_WRONLY};
use libipc::proto::fs::{Answer, Found};
use libipc::server::effect::Reason;
use libipc::server::files;
use libipc::server::{Effects, Env, Message};

/// An opening that waits for the other side. Its end counts as open already.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opening {
    call: CallId,
    status: u32,
    found: (Stat, bool),
}

impl Opening {
    /// Whether the side it waits for is there.
    fn is_met(&self, pipe: &Pipe) -> bool {
        match self.status & O_ACCMODE {
            O_RDONLY => pipe.writers > 0,
            O_WRONLY => pipe.readers > 0,
            _ => true,
        }
    }
}

impl Tmpfs {
    /// Opens a FIFO, or waits until the other side does. Whoever waited for this side goes on.
    pub(crate) fn open_fifo(
        &mut self,
        call: CallId,
        ino: Ino,
        flags: u32,
        created: bool,
        env: &mut dyn Env,
    ) -> Result<Effects, i32> {
        let stat = self.tree.node(ino)?.stat(ino, self.number);
        let status = files::status_of_open(flags);
        let pipe = self.pipes.entry(ino).or_default();
        let nobody_reads = status & O_ACCMODE == O_WRONLY && pipe.readers == 0;
        if nobody_reads && status & O_NONBLOCK != 0 {
            self.forget_unused(ino);
            return Err(ENXIO);
        }
        pipe.join(status);
        pipe.opening.push(Opening { call, status, found: (stat, created) });
        let waits = !pipe.opening.last().is_some_and(|own| own.is_met(pipe) || status & O_NONBLOCK != 0);
        let mut effects = Effects::none();
        effects.park(call, if waits { Reason::Peer } else { Reason::Server });
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
            all.into_iter().partition(|opening| opening.is_met(pipe) || opening.status & O_NONBLOCK != 0);
        pipe.opening = waiting;
        for Opening { call, status, found: (stat, created) } in met {
            self.parked.remove(&call);
            let new = New { kind: Kind::Pipe(ino), status };
            self.open(call, &[new], Then::Found(Found::Opened { stat, created }), effects, env);
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
        effects.reply(call, Message::typed(0, &Answer::Failed(EINTR)));
        effects
    }
}
