//! Upgrades: a server goes on in another image. The kernel keeps how far the one upgrade under way has come and sees to
//! what must be one step with something else; what is put where is root's.
//!
//! A journaled server stops in the very step in which it has saved its state, so that nothing comes between. The new
//! image is on trial as long as it is answered from the journal: it has changed nothing then, and the old image could
//! go on in its place. With its first trap that is carried out it has taken over. A reissued server has taken over
//! when it receives. An image that dies by itself on trial has failed; one that is killed starts again, like any.

use libipc::abi::upgrade::{ImageFigures, Stage, Step, Verdict};
use libipc::abi::{Frame, KernelError, PAGE_SIZE, Rights};
use libipc::server::{SAVE_BIT, UPGRADED_BIT};

use super::death::Death;
use super::journal::Journal;
use super::machine::{Machine, physical};
use super::object::*;
use super::trace::UPGRADING;
use super::{Kernel, Outcome};

/// Most pages of an image copied in one trap.
const PAGES_MAX: u64 = 64;

/// An upgrade under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Upgrade {
    /// The server that is upgraded.
    server: ServerId,
    /// Who handed the image in.
    by: ServerId,
    stage: Stage,
    /// Where the image begins in memory, and its length; 0 for the one from the boot archive.
    at: u64,
    bytes: u64,
}

impl<M: Machine> Kernel<M> {
    /// Takes an image in, and tells root.
    pub(crate) fn upgrade(&mut self, task: TaskId, [handle, offset, bytes, ..]: [u64; 6]) -> Outcome {
        let server = self.server_named(task, handle, Rights::CRASH)?;
        let by = self.server_of(task).ok_or(KernelError::WrongKind)?;
        self.begin_upgrade(server, by, offset, bytes)
    }

    /// The same for the image at an offset of that server's arena.
    pub(crate) fn begin_upgrade(
        &mut self,
        server: ServerId,
        by: ServerId,
        offset: u64,
        bytes: u64,
    ) -> Outcome {
        let (number, target) = self
            .servers
            .get(server)
            .filter(|server| server.state != ServerState::Embryo)
            .map(|server| (server.number, server.task))
            .ok_or(KernelError::WrongState)?;
        let root = self.root.filter(|root| *root != target).ok_or(KernelError::NoRight)?;
        if self.upgrade.is_some() {
            return Err(KernelError::WrongState);
        }
        let arena = self.servers.get(by).map_or(FrameRange::EMPTY, |server| server.arena);
        if offset.checked_add(bytes).is_none_or(|end| end > arena.bytes()) {
            return Err(KernelError::BadArgument);
        }
        self.unusual |= UPGRADING;
        self.upgrade =
            Some(Upgrade { server, by, stage: Stage::Asked, at: arena.physical() + offset, bytes });
        if let Some(root) = self.server_of(root) {
            self.post_bits(root, 1 << number);
        }
        Ok([0; 5])
    }

    /// Copies pages of the image handed in to frames of root's. What is behind the image's end is zero.
    pub(crate) fn upgrade_image(&mut self, task: TaskId, [offset, frame, count, ..]: [u64; 6]) -> Outcome {
        self.is_root(task)?;
        let Upgrade { at, bytes, .. } = self.upgrade.ok_or(KernelError::WrongState)?;
        let first = u32::try_from(frame).map_err(|_| KernelError::BadArgument)?;
        if count > PAGES_MAX || !offset.is_multiple_of(PAGE_SIZE) || offset > bytes {
            return Err(KernelError::BadArgument);
        }
        let place = FrameRange { first: Frame(first), count: count as u32 };
        self.frames.all_idle(place, task)?;
        let length = (bytes - offset).min(place.bytes());
        self.machine.copy(at + offset, physical(place.first), length);
        self.machine.bytes(place, length, place.bytes() - length).fill(0);
        Ok([0; 5])
    }

    /// Root goes on with an upgrade.
    pub(crate) fn upgrade_step(&mut self, task: TaskId, [step, verdict, image, ..]: [u64; 6]) -> Outcome {
        self.is_root(task)?;
        let step = Step::from_words([step, verdict, image]).ok_or(KernelError::BadArgument)?;
        let upgrade = self.upgrade.ok_or(KernelError::WrongState)?;
        match (step, upgrade.stage) {
            (Step::Save, Stage::Asked) => self.have_saved(upgrade.server),
            (Step::Try, Stage::Stopped) => self.reach(Stage::Trial),
            (Step::End(verdict, image), _) => return self.end_upgrade(upgrade, verdict, image),
            _ => return Err(KernelError::WrongState),
        }
        Ok([self.upgrade.map_or(0, |upgrade| upgrade.stage as u64), 0, 0, 0, 0])
    }

    /// Has a server stop, after it has saved its state if it keeps one. One that cannot live has stopped already.
    fn have_saved(&mut self, id: ServerId) {
        let Some(server) = self.servers.get(id) else { return };
        match (server.state, server.journal, server.fell) {
            (ServerState::Alive, Some(_), _) | (ServerState::Dead, Some(_), None) => {
                self.reach(Stage::Saving);
                self.post_bits(id, SAVE_BIT);
            }
            (ServerState::Alive, None, _) => self.stop(id),
            _ => self.reach(Stage::Stopped),
        }
    }

    fn reach(&mut self, stage: Stage) {
        if let Some(upgrade) = &mut self.upgrade {
            upgrade.stage = stage;
        }
    }

    fn stop(&mut self, id: ServerId) {
        self.reach(Stage::Stopped);
        if let Some(server) = self.servers.get_mut(id) {
            server.bits &= !SAVE_BIT;
        }
        self.die(id, Death::Outside);
    }

    fn end_upgrade(&mut self, upgrade: Upgrade, verdict: Verdict, image: ImageFigures) -> Outcome {
        self.upgrade = None;
        self.unusual &= !UPGRADING;
        if let Some(server) = self.servers.get_mut(upgrade.server) {
            server.bits &= !SAVE_BIT;
            server.verdict = Some(verdict);
            if verdict == Verdict::Done {
                server.image = image;
                server.upgrades += 1;
                server.journal.iter_mut().for_each(Journal::forget_former);
            }
        }
        self.post_bits(upgrade.by, UPGRADED_BIT);
        Ok([0; 5])
    }

    /// How far the upgrade of this server has come.
    pub(crate) fn upgrade_stage(&self, id: ServerId) -> Option<Stage> {
        self.upgrade.filter(|upgrade| upgrade.server == id).map(|upgrade| upgrade.stage)
    }

    /// A server has saved its state.
    pub(crate) fn upgrade_saved(&mut self, id: ServerId) {
        if self.upgrade_stage(id) == Some(Stage::Saving) {
            self.stop(id);
        }
    }

    /// A server is about to receive, live. Whether it stops instead: it was to save its state and could not, so that
    /// its successor starts from its journal.
    pub(crate) fn upgrade_receives(&mut self, id: ServerId) -> bool {
        match self.upgrade_stage(id) {
            Some(Stage::Saving) => {
                let asked = self.servers.get(id).is_some_and(|server| server.bits & SAVE_BIT == 0);
                if asked {
                    self.stop(id);
                }
                asked
            }
            Some(Stage::Trial) => {
                self.upgrade_live(id);
                false
            }
            _ => false,
        }
    }

    /// A server does something that is in no journal yet.
    pub(crate) fn upgrade_live(&mut self, id: ServerId) {
        if self.upgrade_stage(id) == Some(Stage::Trial) {
            self.reach(Stage::Live);
            let number = self.servers.get(id).map_or(0, |server| server.number);
            if let Some(root) = self.root.and_then(|root| self.server_of(root)) {
                self.post_bits(root, 1 << number);
            }
        }
    }

    /// A server has died by itself.
    pub(crate) fn upgrade_died(&mut self, id: ServerId) {
        match self.upgrade_stage(id) {
            Some(Stage::Saving) => self.reach(Stage::Stopped),
            Some(Stage::Trial) => self.reach(Stage::Failed),
            _ => {}
        }
    }

    /// See `TaskFigure::Upgrade`.
    pub(crate) fn upgrade_figures(&self, id: ServerId) -> Outcome {
        let server = self.servers.get(id).ok_or(KernelError::BadHandle)?;
        let stage = self.upgrade_stage(id).map_or(0, |stage| stage as u64);
        let verdict = server.verdict.map_or(0, |verdict| verdict as u64);
        let bytes = self.upgrade.filter(|upgrade| upgrade.server == id).map_or(0, |upgrade| upgrade.bytes);
        Ok([stage | verdict << 8, server.image.to_word(), server.upgrades.into(), bytes, 0])
    }
}
