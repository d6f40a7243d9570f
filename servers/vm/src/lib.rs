//! The memory server: address spaces, page faults, and the frames of the whole machine.
//!
//! It owns every frame that is not the kernel's, the regions and pages of every space, and the page cache. It
//! resolves faults (`fault`), copies spaces for fork (`fork`), builds them for exec (`build`), and answers mmap(2)
//! and its relatives (`calls`). It never waits: what a file's server must bring is asked for by handing the fault on
//! to it. It knows nothing of processes; a space is a number that the process server uses.
//!
//! Reading order: `frames`, `region`, `space`, `fault`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod answers;
mod build;
mod calls;
mod creation;
mod elf;
mod extents;
mod fault;
mod fork;
mod frames;
mod gather;
mod object;
mod reclaim;
mod region;
mod runs;
mod shortage;
mod space;
mod stack;
mod tables;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use libipc::abi::delivery::FaultKind;
use libipc::abi::{Frame, Handle, Protection, Tag};
use libipc::linux::errno::EFAULT;
use libipc::proto::{fs, space as protocol};
use libipc::server::{
    Boot, Call, Effect, Effects, Env, Event, Message, Operation, Request, Rows, Server, Table,
};
use serde::{Deserialize, Serialize};

use creation::Creation;
use fault::{Fault, Outcome};
use frames::Frames;
use gather::Gathered;
use object::Objects;
use space::{Memory, Space};
use vdso::TimePage;

/// The memory server's whole state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vm {
    memory: Memory,
    spaces: Rows<u64, Space>,
    last_space: u64,
    /// How many spaces the heap has room for.
    spaces_max: u64,
    /// Spaces whose kernel objects have been asked for.
    creations: BTreeMap<Tag, Creation>,
    last_tag: u64,
    /// Arguments and environments for execs to come, by key.
    strings: BTreeMap<u64, Gathered>,
    /// The vdso's file, until the start.
    vdso_image: Vec<u8>,
    /// What its functions tell the time from.
    time_page: [u64; 3],
    /// Object and bytes of the vdso, with the page before it.
    vdso: Option<(u64, u64)>,
    /// The process server: faults that cannot be resolved are handed on to it.
    proc: Handle,
}

/// Heap that is reckoned for a space: what is known of its regions and pages.
const SPACE_BYTES: u64 = 16 << 10;

impl Server for Vm {
    const SCHEMA: u32 = 3;

    fn new(boot: &Boot) -> Vm {
        Vm {
            memory: Memory { frames: Frames::new(&boot.frames), objects: Objects::default(), crowded: false },
            spaces: Rows::new(),
            last_space: 0,
            spaces_max: boot.heap_bytes / SPACE_BYTES,
            creations: BTreeMap::new(),
            last_tag: 0,
            strings: BTreeMap::new(),
            vdso_image: boot.config.clone(),
            time_page: [boot.counter.0, boot.counter.1, boot.epoch_s],
            vdso: None,
            proc: boot.server("proc"),
        }
    }

    fn step(&mut self, event: &Event, env: &mut dyn Env) -> Effects {
        match event {
            Event::Start => {
                let mut effects = Effects::none();
                let image = core::mem::take(&mut self.vdso_image);
                let [start, ns_per_count, epoch_s] = self.time_page;
                let time = TimePage { start, ns_per_count, epoch_s };
                self.vdso = build::load_vdso(&image, &time, &mut self.memory, &mut effects);
                effects
            }
            Event::Call(call) => self.serve(call, env),
            Event::Done { tag, result } => self.created(*tag, *result, env),
            Event::Unclaimed { space } => self.give_up(space.0),
            Event::Lost { handle } => {
                let lost =
                    self.spaces.values().find(|space| space.handle == *handle).map(|space| space.badge);
                lost.map_or_else(Effects::none, |space| self.give_up(space))
            }
            Event::LastClose { owner, .. } => Effects::one(Effect::Do(Operation::Close { handle: *owner })),
            // vm calls nobody, watches nothing and answers every call in the step that brings it or the next.
            Event::Answer { .. }
            | Event::Notify { .. }
            | Event::Cancel { .. }
            | Event::Watch { .. }
            | Event::Watched { .. } => Effects::none(),
        }
    }

    fn crowded(&mut self, crowded: bool) {
        self.memory.crowded = crowded;
    }

    fn is_free(&self, frame: Frame) -> bool {
        self.memory.frames.owns(frame) && self.memory.frames.holders(frame) == 0
    }

    fn tables(&mut self) -> Vec<&mut dyn Table> {
        let Memory { frames, objects, .. } = &mut self.memory;
        alloc::vec![&mut self.spaces, objects.table(), frames]
    }

    fn restored(&mut self) {
        let spaces = self.spaces.iter();
        let mapped =
            spaces.flat_map(|(badge, space)| space.objects().map(|(object, pages)| (object, *badge, pages)));
        let kept = self.vdso.map(|(object, bytes)| (object, object::SYSTEM, tables::page_of(bytes)));
        self.memory.objects.restored(mapped.chain(kept));
    }
}

impl Vm {
    fn serve(&mut self, call: &Call, env: &mut dyn Env) -> Effects {
        match &call.request {
            Request::Fault { kind: FaultKind::Page, words } => self.page_fault(call, *words, env.now()),
            // Exceptions are the process server's; the kernel sends none here.
            Request::Fault { kind: FaultKind::Exception | FaultKind::Lost, .. } => refuse(call),
            Request::Foreign(foreign) => self.linux(call, foreign),
            Request::Native(message) => self.native(call, message, env),
            Request::Attention { .. } => {
                let mut effects = Effects::none();
                effects.reply(call.id, Message::default());
                effects
            }
        }
    }

    fn page_fault(&mut self, call: &Call, [address, access, _, copying]: [u64; 4], now: u64) -> Effects {
        let mut effects = Effects::none();
        reclaim::reserve(fault::FRAMES_NEEDED, &mut self.memory, &mut self.spaces, &mut effects);
        let fault = Fault { address, access: Protection::from_bits_truncate(access as u8), now };
        let outcome = self
            .spaces
            .get_mut(&call.caller.space)
            .map(|space| fault::resolve(space, &mut self.memory, &fault, &mut effects));
        match outcome {
            Some(Outcome::Resolved) => {
                self.learn(call.caller.space, &fault);
                effects.reply(call.id, Message::default());
            }
            Some(Outcome::Fetch { session, object, page, count }) => {
                let message = Message::words(fs::PAGE_IN, [object, page, count, 0]);
                effects.push(Effect::Forward { call: call.id, to: session, message });
            }
            Some(Outcome::Signal { number, code }) if copying == 0 => {
                let message = Message::words(protocol::SIGNAL, [u64::from(number), code as u64, address, 0]);
                effects.push(Effect::Forward { call: call.id, to: self.proc, message });
            }
            Some(Outcome::Signal { .. }) | None => {
                effects.append(refuse(call));
            }
        }
        effects
    }

    /// What a child touches soon after a fork, its parent has mapped at once for the next child.
    fn learn(&mut self, child: u64, fault: &Fault) {
        let Some(space) = self.spaces.get_mut(&child).filter(|space| space.lessons > 0) else { return };
        space.lessons -= 1;
        let parent = space.parent;
        if let Some(parent) = self.spaces.get_mut(&parent) {
            fork::learn(parent, tables::page_of(fault.address), fault.access.contains(Protection::WRITE));
        }
    }
}

/// Answers a fault that cannot be resolved; a copy of the kernel's ends in EFAULT.
fn refuse(call: &Call) -> Effects {
    let mut effects = Effects::none();
    effects.reply(call.id, Message::label(EFAULT as u32));
    effects
}

#[cfg(test)]
mod tests;
