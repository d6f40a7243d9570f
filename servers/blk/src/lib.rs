//! The block driver: file servers read and write sectors of virtio disks by the protocol [`libipc::proto::block`].
//!
//! It owns the PCI devices that root found for it, and its DMA memory. Disks are numbered in the order of the boot
//! block; one that cannot be brought up keeps its number and answers [`BlockError::Device`].
//!
//! Its recovery class is *reissued*: nothing of it survives, so it may hold device objects and touch registers while
//! it steps. Every incarnation resets the devices before it uses DMA memory again, and the kernel delivers the calls
//! that were not answered once more, in order. Doing those twice is harmless because requests for overlapping sectors
//! are carried out in the order in which they came ([`queue`]).
//!
//! It must never wait for a device: what is not finished is parked, and an interrupt brings the driver back.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod disk;
pub mod queue;
#[cfg(test)]
mod tests;
#[cfg(target_os = "none")]
#[allow(unsafe_code)]
pub mod virtio;

use alloc::{collections::BTreeSet, format, vec::Vec};

use libipc::linux::errno;
use libipc::proto::block::{self, BlockError};
use libipc::server::effect::Reason;
use libipc::server::{Boot, Call, Effects, Env, Event, Message, Operation, Request, Server};
use serde::{Deserialize, Serialize};

use disk::{AttachError, Command, Disk, Properties};
use queue::Queue;

/// The driver as it runs on the machine.
#[cfg(target_os = "none")]
pub type Blk = Driver<virtio::VirtioDisk>;

/// The driver over any kind of disk.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Driver<D> {
    /// By disk number. Not state in the sense of a snapshot: an incarnation begins with devices just reset.
    #[serde(skip)]
    units: Vec<Unit<D>>,
}

/// A device and what is to be done on it.
struct Unit<D> {
    irq: u8,
    queue: Result<Queue<D>, AttachError>,
}

impl<D: Disk> Server for Driver<D> {
    fn new(boot: &Boot) -> Driver<D> {
        let queues = D::attach(boot).into_iter().map(|attached| attached.map(Queue::new));
        let units = boot.devices.iter().zip(queues).map(|(device, queue)| Unit { irq: device.irq, queue });
        Driver { units: units.collect() }
    }

    fn step(&mut self, event: &Event, _: &mut dyn Env) -> Effects {
        match event {
            Event::Start => self.start(),
            Event::Call(call) => self.call(call),
            Event::Notify { bits } => self.interrupts(*bits),
            // A request under way ends soon by itself, and nothing else is ever asked for or given out.
            Event::Cancel { .. }
            | Event::Answer { .. }
            | Event::Done { .. }
            | Event::LastClose { .. }
            | Event::Watch { .. }
            | Event::Watched { .. }
            | Event::Lost { .. }
            | Event::Unclaimed { .. } => Effects::none(),
        }
    }
}

impl<D: Disk> Driver<D> {
    /// Says which disks are not there, and has the interrupts of the others post the bit of their own number.
    fn start(&mut self) -> Effects {
        let mut effects = Effects::none();
        for (number, unit) in self.units.iter().enumerate() {
            if let Err(error) = &unit.queue {
                let text = format!("blk: disk {number} cannot be used: {error}\n").into_bytes();
                effects.act(Operation::Log { text });
            }
        }
        for irq in self.irqs() {
            effects.act(Operation::IrqBind { irq, bit: irq });
        }
        effects
    }

    /// The interrupts of the disks in use, which several may share.
    fn irqs(&self) -> BTreeSet<u8> {
        self.units.iter().filter(|unit| unit.queue.is_ok()).map(|unit| unit.irq).collect()
    }

    fn call(&mut self, call: &Call) -> Effects {
        let mut effects = Effects::none();
        match &call.request {
            Request::Native(message) => {
                match self.request(call, message) {
                    Ok(Some(answer)) => effects.reply(call.id, answer),
                    Ok(None) => effects.park(call.id, Reason::Disk),
                    Err(error) => effects.reply(call.id, Message::label(error as u32)),
                };
                // No request carries handles; what came along anyway is not kept.
                for handle in &message.handles {
                    effects.act(Operation::Close { handle: *handle });
                }
            }
            Request::Foreign(_) => {
                effects.result(call.id, -i64::from(errno::ENOSYS));
            }
            Request::Fault { .. } | Request::Attention { .. } => {
                effects.reply(call.id, Message::label(BlockError::BadRequest as u32));
            }
        }
        effects
    }

    /// The answer to a request, or none if it has been queued.
    fn request(&mut self, call: &Call, message: &Message) -> Result<Option<Message>, BlockError> {
        let number = usize::try_from(message.words[0]).map_err(|_| BlockError::NoSuchDisk)?;
        let unit = self.units.get_mut(number).ok_or(BlockError::NoSuchDisk)?;
        let queue = unit.queue.as_mut().map_err(|_| BlockError::Device)?;
        let properties = queue.properties();
        if message.label == block::CAPACITY {
            let Properties { sectors, read_only, .. } = properties;
            return Ok(Some(Message::words(0, [sectors, u64::from(read_only), 0, 0])));
        }
        match Command::decode(message, &properties)? {
            Command::Flush if !properties.volatile_cache => Ok(Some(Message::label(0))),
            command => {
                queue.push(call.id, command);
                Ok(None)
            }
        }
    }

    /// Takes what the interrupting devices have finished. The lines are level-triggered: a device lets go of its line
    /// when it is acknowledged, and only after that may the interrupt come again.
    fn interrupts(&mut self, bits: u64) -> Effects {
        let mut effects = Effects::none();
        for unit in self.units.iter_mut().filter(|unit| is_set(bits, unit.irq)) {
            if let Ok(queue) = &mut unit.queue {
                for (call, answer) in queue.take_finished() {
                    effects.reply(call, answer);
                }
            }
        }
        for irq in self.irqs().into_iter().filter(|irq| is_set(bits, *irq)) {
            effects.act(Operation::IrqAck { irq });
        }
        effects
    }
}

fn is_set(bits: u64, bit: u8) -> bool {
    bits.checked_shr(u32::from(bit)).is_some_and(|rest| rest & 1 == 1)
}
