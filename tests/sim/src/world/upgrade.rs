//! Upgrades in a run: images handed in when the plan says so, and which code an image stands for.

use libipc::abi::{Frame, PAGE_SIZE, Protection};
use libipc::server::boot::IMAGE_ADDRESS;
use libipc::server::image::Note;
use microkernel::core::machine::Machine;
use microkernel::core::object::FrameRange;

use super::World;
use crate::assembler;
use crate::cpu::translate;
use crate::incarnation::Version;

/// Who hands images in.
const UPGRADER: &str = "procfs";

impl World<'_> {
    /// What the image in this address space stands for.
    pub(super) fn version(&mut self, top: Frame) -> Option<Version> {
        let frame = translate(&mut self.kernel.machine, top, IMAGE_ADDRESS, Protection::READ)?;
        let page = self.kernel.machine.bytes(FrameRange::one(frame), 0, PAGE_SIZE);
        Version::of(assembler::note_of(page)?.schema)
    }

    /// Hands in the image that a server is to be upgraded to now, if there is one.
    pub(super) fn hand_in(&mut self, number: u32, trap: u64) {
        let due = self.upgrades.iter().find(|upgrade| (upgrade.server, upgrade.trap) == (number, trap));
        let (Some(upgrade), Some(by)) = (due, self.setup.number(UPGRADER)) else { return };
        let note = Note::new(self.setup.name(number), upgrade.version.schema(), Version::Booted.schema());
        self.kernel.hand_in(by, number, &assembler::stub(&note));
    }
}
