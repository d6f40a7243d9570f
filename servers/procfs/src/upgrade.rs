//! Upgrades of servers: `cat FILE > /proc/naiad/servers/NAME/image`, and then `echo upgrade > ctl` beside it, which
//! takes until the server runs in that image, or tells why it does not.
//!
//! The bytes go from the writer straight into the arena, where the kernel takes the image from. One image can be there
//! at a time. Without one, the server goes back to the image that it booted from.

use libipc::abi::upgrade::Verdict;
use libipc::abi::{CallId, KernelError, Tag};
use libipc::linux::errno::*;
use libipc::server::effect::Reason;
use libipc::server::env::TaskFigure;
use libipc::server::{Call, Effect, Effects, Env, ForeignReply, Operation};
use serde::{Deserialize, Serialize};

use crate::Procfs;
use crate::open::failed;

/// The tag of the one upgrade that is tried; sessions have their badges.
pub(crate) const UPGRADE_TAG: Tag = Tag(0);
/// Most bytes that the kernel copies at once.
const WINDOW_MAX: u64 = 1 << 16;

/// The image in the arena, and the upgrade under way.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Upgrades {
    /// Bytes of the arena.
    room: u64,
    /// For which server there is an image, and its bytes so far.
    image: Option<(u32, u64)>,
    /// The server that is being upgraded.
    server: Option<u32>,
    /// The call that waits for the end of it, and its result then.
    waiter: Option<(CallId, i64)>,
}

impl Upgrades {
    pub(crate) fn new(room: u64) -> Upgrades {
        Upgrades { room, ..Upgrades::default() }
    }
}

/// The errno of a writer whose upgrade has come to this.
fn errno_of(verdict: Option<Verdict>) -> i32 {
    match verdict {
        Some(Verdict::Done) => 0,
        Some(Verdict::NotAnImage | Verdict::WrongMachine | Verdict::OtherAbi) => ENOEXEC,
        Some(Verdict::OtherServer) => EINVAL,
        Some(Verdict::TooLarge) => EFBIG,
        Some(Verdict::NoRoom) => ENOMEM,
        Some(Verdict::Schema) => EOPNOTSUPP,
        Some(Verdict::Failed) | None => EIO,
    }
}

impl Procfs {
    /// Writes a piece of an image. Each follows the one before; one at the beginning begins another image.
    pub(crate) fn write_image(
        &mut self,
        call: &Call,
        server: u32,
        at: Option<u64>,
        buffers: &[[u64; 2]],
    ) -> Effects {
        let start = at.unwrap_or(call.position);
        let upgrades = &mut self.upgrades;
        if upgrades.server.is_some() {
            return failed(call.id, EBUSY);
        }
        if start != 0 && upgrades.image != Some((server, start)) {
            return failed(call.id, EINVAL);
        }
        let length = buffers.iter().fold(0_u64, |sum, [_, length]| sum.saturating_add(*length));
        let Some(end) = start.checked_add(length).filter(|end| *end <= upgrades.room) else {
            return failed(call.id, EFBIG);
        };
        upgrades.image = Some((server, end));
        let (mut effects, mut offset) = (Effects::none(), start);
        for [address, length] in buffers {
            for done in (0..*length).step_by(WINDOW_MAX as usize) {
                let (address, length) = (address.wrapping_add(done), (length - done).min(WINDOW_MAX));
                effects.push(Effect::ToArena { call: call.id, address, offset, length });
                offset += length;
            }
        }
        let position = at.is_none().then_some(end);
        effects.foreign(call.id, ForeignReply { result: length as i64, position, ..ForeignReply::default() });
        effects
    }

    /// Hands the image in for a server in; the writer, who is told `result` if all goes well, waits for the end.
    pub(crate) fn begin_upgrade(&mut self, call: CallId, server: u32, result: i64) -> Effects {
        let upgrades = &mut self.upgrades;
        let task = self.numbers.iter().find(|(_, number)| **number == server);
        let Some(task) = task.and_then(|(name, _)| self.tasks.get(name)).copied() else {
            return failed(call, ENXIO);
        };
        if upgrades.server.is_some() {
            return failed(call, EBUSY);
        }
        let length = upgrades.image.filter(|(of, _)| *of == server).map_or(0, |(_, bytes)| bytes);
        (upgrades.server, upgrades.waiter) = (Some(server), Some((call, result)));
        let mut effects = Effects::none();
        effects.park(call, Reason::Server);
        effects.attempt(UPGRADE_TAG, Operation::Upgrade { task, length });
        effects
    }

    /// The kernel has taken the image, or not.
    pub(crate) fn upgrade_begun(&mut self, result: &Result<u64, KernelError>) -> Effects {
        match result {
            Ok(_) => Effects::none(),
            Err(KernelError::NoRight) => self.answer_upgrade(EPERM),
            Err(_) => self.answer_upgrade(EBUSY),
        }
    }

    /// An upgrade is over.
    pub(crate) fn upgrade_over(&mut self, env: &mut dyn Env) -> Effects {
        let Some(server) = self.upgrades.server else { return Effects::none() };
        let task = self.server_name(server).and_then(|name| self.tasks.get(name)).copied();
        let figures = task.and_then(|task| env.task_info(task, TaskFigure::Upgrade).ok());
        let errno = errno_of(figures.and_then(|[stage, ..]| Verdict::from_number(stage >> 8)));
        self.answer_upgrade(errno)
    }

    fn answer_upgrade(&mut self, errno: i32) -> Effects {
        (self.upgrades.server, self.upgrades.image) = (None, None);
        let Some((call, result)) = self.upgrades.waiter.take() else { return Effects::none() };
        let mut effects = Effects::none();
        effects.result(call, if errno == 0 { result } else { -i64::from(errno) });
        effects
    }

    /// A writer does not want to wait any more. The upgrade goes on.
    pub(crate) fn upgrade_cancelled(&mut self, call: CallId) -> Effects {
        match self.upgrades.waiter.take_if(|(waiter, _)| *waiter == call) {
            Some(_) => failed(call, EINTR),
            None => Effects::none(),
        }
    }
}
