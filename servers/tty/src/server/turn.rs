//! One step in progress: what it may ask, what it has decided so far, and why a call may be refused.

use alloc::vec::Vec;

use libipc::abi::syscall::Restart;
use libipc::abi::{CallId, Tag};
use libipc::linux::errno::{EFAULT, EINTR, EINVAL, ENOTTY};
pub use libipc::server::Refusal;
use libipc::server::{Effects, Env, ForeignReply, Operation};

use super::ranges::Ranges;
use crate::ioctl::DecodeError;
use crate::jobs::JobError;
use crate::termios::LayoutError;
use crate::uart::Ports;

/// First I/O port of the serial port behind the console.
const BASE: u16 = 0x3f8;
/// Its interrupt.
const IRQ: u8 = 4;
/// The notification bit its interrupt posts.
pub const IRQ_BIT: u8 = 0;
/// The outcome of the last write of a step to the port, which is the moment to look at the port again.
pub const LOOK: Tag = Tag(0);

/// A step in progress.
pub struct Turn<'a> {
    /// What may be asked.
    pub env: &'a mut dyn Env,
    /// What is to be changed outside, in order, without the writes to the port.
    pub out: Effects,
    /// The writes to the port, in order: register and value.
    writes: Vec<(u8, u8)>,
    /// The interrupt line is to be opened again.
    pub acknowledge: bool,
    /// The port is to be looked at again when all this is done.
    pub look: bool,
}

impl<'a> Turn<'a> {
    /// The start of a step.
    pub fn new(env: &'a mut dyn Env) -> Turn<'a> {
        Turn { env, out: Effects::none(), writes: Vec::new(), acknowledge: false, look: false }
    }

    /// Has the port's interrupt delivered here.
    pub fn bind_interrupt(&mut self) {
        self.out.act(Operation::IrqBind { irq: IRQ, bit: IRQ_BIT });
    }

    /// Answers a Linux call that a signal ended.
    pub fn interrupted(&mut self, call: CallId) {
        let (result, restart) = (-i64::from(EINTR), Restart::IfAsked);
        self.out.foreign(call, ForeignReply { result, restart, ..ForeignReply::default() });
    }

    /// Answers a Linux call with bytes for its buffers and their count.
    pub fn bytes(&mut self, call: CallId, ranges: &Ranges, bytes: Vec<u8>) {
        let result = bytes.len() as i64;
        self.output(call, ranges, bytes, result);
    }

    /// Answers a Linux call with a structure at an address.
    pub fn structure(&mut self, call: CallId, address: u64, bytes: &[u8]) {
        self.output(call, &Ranges::at(address, bytes.len() as u64), bytes.to_vec(), 0);
    }

    fn output(&mut self, call: CallId, ranges: &Ranges, bytes: Vec<u8>, result: i64) {
        let outputs = ranges.hand_out(call, bytes, &mut self.out);
        self.out.foreign(call, ForeignReply { result, outputs, ..ForeignReply::default() });
    }

    /// The effects of the step. Opening the interrupt line comes last, so that looking at the port again sees
    /// what came while it was closed: the line is triggered by edges, and an edge on a closed line is lost.
    pub fn finish(mut self) -> Effects {
        let mut operations: Vec<Operation> = self
            .writes
            .iter()
            .map(|(register, value)| Operation::PortOut {
                port: BASE + u16::from(*register),
                width: 1,
                value: u32::from(*value),
            })
            .collect();
        // Opening a line that is open changes nothing, and its outcome comes like any other.
        if self.acknowledge || self.look && operations.is_empty() {
            operations.push(Operation::IrqAck { irq: IRQ });
        }
        let last = if self.look || self.acknowledge { operations.pop() } else { None };
        for operation in operations {
            self.out.act(operation);
        }
        if let Some(operation) = last {
            self.out.attempt(LOOK, operation);
        }
        self.out
    }
}

impl Ports for Turn<'_> {
    fn inb(&mut self, register: u8) -> u8 {
        self.env.port_in(BASE + u16::from(register), 1) as u8
    }

    fn outb(&mut self, register: u8, value: u8) {
        self.writes.push((register, value));
    }
}

impl From<JobError> for Refusal {
    fn from(error: JobError) -> Refusal {
        Refusal::Errno(error.errno())
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Refusal {
        Refusal::Errno(match error {
            DecodeError::Unknown => ENOTTY,
            DecodeError::BadArgument => EINVAL,
        })
    }
}

impl From<LayoutError> for Refusal {
    fn from(_: LayoutError) -> Refusal {
        Refusal::Errno(EFAULT)
    }
}

/// How serving a call ended: answered, forwarded or among those that wait; or refused.
pub type Outcome = Result<(), Refusal>;
