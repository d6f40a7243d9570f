//! Devices in servers' hands: I/O ports, interrupts, and the right to write memory.
//!
//! A device writes memory only while somebody looks after it: from the death of its server on it cannot, and it can
//! again when the next incarnation asks for its first event. By then that has reset it, so it does not know any more
//! what it was to write where.

use libipc::abi::KernelError;
use libipc::server::DEVICE_BITS;

use super::machine::Machine;
use super::object::*;
use super::{Kernel, Outcome};

/// What a server may use.
#[derive(Clone, Copy, Debug)]
pub struct Devices {
    /// I/O ports: first and count.
    pub ports: [(u16, u16); 4],
    /// One bit for each interrupt.
    interrupts: u32,
    /// PCI functions (bus << 8 | device << 3 | function), and how many of them count.
    functions: [u16; 16],
    count: usize,
}

impl Devices {
    /// No device.
    pub(crate) const NONE: Devices =
        Devices { ports: [(0, 0); 4], interrupts: 0, functions: [0; 16], count: 0 };

    fn grant(&mut self, what: u64, first: u64, count: u64) -> Result<(), KernelError> {
        let number = u16::try_from(first).map_err(|_| KernelError::BadArgument);
        match what {
            0 => {
                let range = (number?, u16::try_from(count).map_err(|_| KernelError::BadArgument)?);
                *self.ports.iter_mut().find(|(_, count)| *count == 0).ok_or(KernelError::Exhausted)? = range;
            }
            1 if first < 32 => self.interrupts |= 1 << first,
            2 => {
                *self.functions.get_mut(self.count).ok_or(KernelError::Exhausted)? = number?;
                self.count += 1;
            }
            _ => return Err(KernelError::BadArgument),
        }
        Ok(())
    }
}

impl<M: Machine> Kernel<M> {
    pub(crate) fn server_device(
        &mut self,
        task: TaskId,
        [handle, what, first, count, ..]: [u64; 6],
    ) -> Outcome {
        self.embryo(task, handle)?.devices.grant(what, first, count)?;
        Ok([0; 5])
    }

    /// Whether a server's devices may write memory from now on.
    pub(crate) fn set_bus_masters(&mut self, id: ServerId, on: bool) {
        let Some(server) = self.servers.get(id) else { return };
        let devices = server.devices;
        for function in devices.functions.iter().take(devices.count) {
            self.machine.set_bus_master(*function, on);
        }
    }

    fn may_use_port(&self, task: TaskId, port: u64, width: u64) -> Result<(u16, u8), KernelError> {
        if !matches!(width, 1 | 2 | 4) {
            return Err(KernelError::BadArgument);
        }
        let server = self.server(task).ok_or(KernelError::NoRight)?;
        let allowed = server.devices.ports.iter().any(|(first, count)| {
            port >= u64::from(*first) && port + width <= u64::from(*first) + u64::from(*count)
        });
        if allowed { Ok((port as u16, width as u8)) } else { Err(KernelError::NoRight) }
    }

    pub(crate) fn port_in(&mut self, task: TaskId, [port, width, ..]: [u64; 6]) -> Outcome {
        let (port, width) = self.may_use_port(task, port, width)?;
        Ok([u64::from(self.machine.port_in(port, width)), 0, 0, 0, 0])
    }

    pub(crate) fn port_out(&mut self, task: TaskId, [port, width, value, ..]: [u64; 6]) -> Outcome {
        let (port, width) = self.may_use_port(task, port, width)?;
        self.machine.port_out(port, width, value as u32);
        Ok([0; 5])
    }

    fn may_use_irq(&self, task: TaskId, irq: u64) -> Result<u8, KernelError> {
        let server = self.server(task).ok_or(KernelError::NoRight)?;
        match irq {
            0..32 if server.devices.interrupts & 1 << irq != 0 => Ok(irq as u8),
            _ => Err(KernelError::NoRight),
        }
    }

    pub(crate) fn irq_bind(&mut self, task: TaskId, [irq, bit, ..]: [u64; 6]) -> Outcome {
        let line = self.may_use_irq(task, irq)?;
        if bit >= DEVICE_BITS.into() {
            return Err(KernelError::BadArgument);
        }
        let server = self.server_of(task).ok_or(KernelError::NoRight)?;
        self.interrupts[usize::from(line)] = Some((server, bit as u8));
        self.machine.enable_interrupt(line, true);
        Ok([0; 5])
    }

    pub(crate) fn irq_ack(&mut self, task: TaskId, [irq, ..]: [u64; 6]) -> Outcome {
        let line = self.may_use_irq(task, irq)?;
        self.machine.enable_interrupt(line, true);
        Ok([0; 5])
    }
}
