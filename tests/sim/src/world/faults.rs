//! How faults come about in a run: what the plan says is done to a server, to the disk, or to a program that was told
//! of an error.

use libipc::abi::delivery::DELIVERY_OFFSET;
use libipc::abi::syscall::{Syscall, THEN_RECEIVE};
use libipc::abi::{Delivery, Kind};
use libipc::linux::errno;
use microkernel::core::Trap;
use microkernel::core::machine::Machine;
use microkernel::core::object::ThreadId;
use zerocopy::FromBytes;

use super::World;
use crate::cpu;
use crate::devices;
use crate::incarnation::Buffer;
use crate::plan::Cause;
use crate::random::Random;

/// How many commands in a row fail at most.
const DISK_FAILS_MAX: u64 = 4;
/// How long a server that loops runs at a time.
const LOOP_NS: u64 = 100_000_000;
/// exit_group(2), and the status of a program that was told EIO.
const EXIT_GROUP: u64 = 231;
const EXIT_STATUS: u64 = 5;

/// A message that its server dies of, at once or when it is nearly done, or at which it loops.
#[derive(Clone, Copy)]
pub(super) struct Curse {
    server: u32,
    pub(super) cause: Cause,
    /// The message; none as long as the server has not received it.
    message: Option<Message>,
}

/// At which moments crashes came about, each counted where it belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Moments {
    /// While the server was answered from its journal.
    pub replaying: u64,
    /// While it read the snapshot that it started from.
    pub loading: u64,
    /// While it made one.
    pub saving: u64,
    /// In the midst of an event, between one effect and the next.
    pub between_effects: u64,
}

impl Moments {
    /// A crash at this trap of a server that is answered from its journal, or not.
    fn note(&mut self, call: u64, replays: bool) {
        let joined = call & THEN_RECEIVE != 0;
        let call = Syscall::from_number(call & !THEN_RECEIVE);
        let saves = matches!(call, Some(Syscall::SnapshotWrite | Syscall::SnapshotCommit));
        self.loading += u64::from(call == Some(Syscall::SnapshotRead));
        self.saving += u64::from(saves);
        self.replaying += u64::from(replays && call != Some(Syscall::SnapshotRead));
        let effect = !joined && !saves && !matches!(call, Some(Syscall::SnapshotRead | Syscall::Receive));
        self.between_effects += u64::from(effect && !replays);
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: Moments) {
        self.replaying += other.replaying;
        self.loading += other.loading;
        self.saving += other.saving;
        self.between_effects += other.between_effects;
    }
}

/// What tells a message from others: its kind, its call, its label, and when it came. A reissued server gets its calls
/// again at other times.
type Message = (u32, u64, u32, Option<u64>);

impl World<'_> {
    /// Where a message is poison, the program whose call it was is told EIO, and ends, as one that looks at errors
    /// does: others may wait for what it would have done. Whether it makes that call now.
    pub(super) fn ends_of_error(&mut self, thread: ThreadId) -> bool {
        let errors = [Cause::Wild, Cause::Torn, Cause::Disk].iter().any(|cause| self.plan.came(*cause));
        if !self.calling.remove(&thread.index()) || self.curse.is_none() && !errors {
            return false;
        }
        let Some(state) = self.kernel.threads.get_mut(thread) else { return false };
        let failed = state.registers.rax as i64 == -i64::from(errno::EIO);
        if failed {
            (state.registers.rax, state.registers.rdi) = (EXIT_GROUP, EXIT_STATUS);
            self.calling.insert(thread.index());
        }
        failed
    }

    /// A fault comes about as a server makes a trap. What it does instead of that trap, if it does not come to it.
    pub(super) fn strike(
        &mut self,
        cause: Cause,
        thread: ThreadId,
        (number, count, call): (u32, u64, u64),
        buffer: &mut Buffer,
    ) -> Option<Trap> {
        self.moments.note(call, self.kernel.fate(number).is_some_and(|fate| fate.replays));
        let mut random = Random::new(cpu::mix(self.seed, self.all_traps));
        match cause {
            Cause::Fault => {
                self.hosts.remove(&number);
                if let Some(state) = self.kernel.threads.get_mut(thread).filter(|_| !self.plan.one_fault) {
                    // Faults that have nothing to do with each other are at different instructions.
                    state.registers.rip += count;
                }
                return Some(Trap::Exception { vector: 13, code: 0 });
            }
            Cause::Loop => {
                if let Some(host) = self.hosts.get_mut(&number) {
                    host.hangs = true;
                }
                return Some(self.loop_on());
            }
            Cause::Kill => {
                self.kernel.doom(number, 1);
            }
            Cause::Wild => {
                // A reissued server's state has no serialised form.
                let known = self.kernel.fate(number).is_some_and(|fate| fate.journaled);
                match self.hosts.get_mut(&number).filter(|_| known && random.below(4) > 0) {
                    Some(host) => host.wild = Some(random),
                    None => random.damage(&mut buffer[..]),
                }
            }
            Cause::Torn => {
                self.torn = Some((number, random));
                self.kernel.doom(number, 1);
            }
            Cause::Disk => devices::with(|bus| bus.fail(1 + random.below(DISK_FAILS_MAX))),
            // The loop sees it.
            Cause::Power => {}
            Cause::Poison | Cause::Hang | Cause::Late => {
                self.curse = Some(Curse { server: number, cause, message: None })
            }
        }
        None
    }

    /// Whether the message that a server has just received is cursed. The first after the curse is.
    pub(super) fn is_cursed(&mut self, number: u32) -> bool {
        let (Some(curse), Some(host)) =
            (self.curse.filter(|curse| curse.server == number), self.hosts.get(&number))
        else {
            return false;
        };
        let bytes =
            self.kernel.machine.bytes(host.memory, DELIVERY_OFFSET.into(), size_of::<Delivery>() as u64);
        let Ok(delivery) = Delivery::read_from_bytes(bytes) else { return false };
        let journaled = self.kernel.fate(number).is_some_and(|fate| fate.journaled);
        let message = (delivery.kind, delivery.token, delivery.label, journaled.then_some(delivery.now));
        let is_call =
            [Kind::Call, Kind::Foreign, Kind::Fault].iter().any(|kind| *kind as u32 == delivery.kind);
        match curse.message {
            // Of other events a reissued server remembers nothing, and so they do not come again.
            None if journaled || is_call => {
                self.curse = Some(Curse { message: Some(message), ..curse });
                true
            }
            cursed => cursed == Some(message),
        }
    }

    /// A server that loops lets time pass until something else happens.
    pub(super) fn loop_on(&mut self) -> Trap {
        let machine = &self.kernel.machine;
        let until = machine.timer_ns.min(devices::with(|bus| bus.next_event()).unwrap_or(u64::MAX));
        let time_ns = until.saturating_sub(machine.time_ns).clamp(1, LOOP_NS);
        self.pass(time_ns);
        self.due().unwrap_or(Trap::Timer)
    }
}
