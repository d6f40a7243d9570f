//! The devices of the simulated machine: a PCI bus with disks on it, and a serial port.
//!
//! The disk is what the real driver (`servers/blk`) drives in place of virtio: it implements [`blk::disk::Disk`], and
//! its interrupts go through the kernel. It is a device, not a server: what is under way when the driver dies goes on,
//! until the next incarnation resets it. The state is this host thread's, since a driver in its incarnation and the
//! machine under the kernel both reach it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use blk::disk::{AttachError, Command, Disk, Extent, Finished, Properties};
use libipc::proto::block::{BlockError, SECTOR_SIZE};
use libipc::server::Boot;
use microkernel::arch::emulated::Devices;

use crate::random::Random;

/// The serial port's interrupt line, and the disk's.
const SERIAL_LINE: u8 = 4;
const DISK_LINE: u8 = 11;
/// Where the disk is on the PCI bus, and what it says it is: a virtio block device.
const DISK_ADDRESS: u32 = 0x20;
const DISK_IDENTITY: u32 = 0x1042_1af4;
/// One command in so many takes the disk long, and how long that is.
const SLOW_ONES: u64 = 16;
const SLOW_NS: u64 = 30_000_000;
/// Commands the disk takes at a time.
const DISK_COMMANDS_MAX: usize = 8;

/// What the machine's devices are now.
#[derive(Debug, Default)]
pub struct Bus {
    /// Nanoseconds since boot.
    pub now: u64,
    /// Interrupt lines that are open, one bit each.
    open: u32,
    pci_address: u32,
    serial: Serial,
    /// The disk's contents.
    image: Arc<[u8]>,
    requests: Vec<Request>,
    /// So many of the next commands that end have failed.
    failing: u64,
    next_number: u32,
    /// How long the disk takes for a command, in ns: at least, and by how much more.
    latency: (u64, u64),
    random: Random,
}

#[derive(Debug, Default)]
struct Serial {
    interrupts: u8,
    line_control: u8,
    /// The transmitter has become empty, and nobody has been told.
    empty: bool,
    output: Vec<u8>,
    /// What was typed and not fetched.
    input: VecDeque<u8>,
    /// What somebody at the terminal waits to see, and types then.
    dialogue: VecDeque<(&'static str, &'static str)>,
}

impl Serial {
    /// Types what answers the question that is to be seen now.
    fn answer(&mut self) {
        if let Some((question, answer)) = self.dialogue.front()
            && self.output.ends_with(question.as_bytes())
        {
            self.input.extend(answer.as_bytes());
            self.dialogue.pop_front();
        }
    }
}

/// A command that the disk has.
#[derive(Debug)]
struct Request {
    number: u32,
    done_at: u64,
    told: bool,
    read: Option<Extent>,
}

thread_local! {
    static BUS: RefCell<Bus> = RefCell::default();
}

/// Does something with this thread's devices.
pub fn with<T>(act: impl FnOnce(&mut Bus) -> T) -> T {
    BUS.with_borrow_mut(act)
}

impl Bus {
    /// Devices as they are when the machine is switched on.
    pub fn power_on(&mut self, image: &Arc<[u8]>, latency: (u64, u64), seed: u64) {
        *self = Bus { image: image.clone(), latency, random: Random::new(seed), ..Bus::default() };
    }

    /// What the serial port was given to send.
    pub fn output(&self) -> &[u8] {
        &self.serial.output
    }

    /// Somebody sits at the terminal, who types each answer when the question before it is to be seen.
    pub fn sit_down(&mut self, dialogue: &[(&'static str, &'static str)]) {
        self.serial.dialogue = dialogue.iter().copied().collect();
    }

    /// What the serial port has to tell: what its identification register says.
    fn serial_cause(&self) -> Option<u8> {
        if self.serial.interrupts & 1 != 0 && !self.serial.input.is_empty() {
            Some(0xc4)
        } else {
            (self.serial.empty && self.serial.interrupts & 2 != 0).then_some(0xc2)
        }
    }

    /// The disk fails for a while.
    pub fn fail(&mut self, commands: u64) {
        self.failing += commands;
    }

    fn is_open(&self, line: u8) -> bool {
        self.open >> line & 1 == 1
    }

    /// An open line that is asserted now.
    pub fn interrupt(&self) -> Option<u8> {
        let disk = || self.requests.iter().any(|request| !request.told && request.done_at <= self.now);
        if self.is_open(SERIAL_LINE) && self.serial_cause().is_some() {
            Some(SERIAL_LINE)
        } else {
            (self.is_open(DISK_LINE) && disk()).then_some(DISK_LINE)
        }
    }

    /// When the disk has something to say next, if its line is open.
    pub fn next_event(&self) -> Option<u64> {
        let waiting = self.requests.iter().filter(|request| !request.told).map(|request| request.done_at);
        waiting.min().filter(|_| self.is_open(DISK_LINE))
    }

    fn pci_read(&self) -> u32 {
        let (device, register) = (self.pci_address >> 8 & 0xff, self.pci_address & 0xfc);
        match (device, register) {
            (DISK_ADDRESS, 0) => DISK_IDENTITY,
            (DISK_ADDRESS, 0x3c) => u32::from(DISK_LINE),
            (DISK_ADDRESS, _) => 0,
            _ => u32::MAX,
        }
    }

    fn serial_read(&mut self, register: u16) -> u8 {
        match register {
            0 => self.serial.input.pop_front().unwrap_or(0),
            1 => self.serial.interrupts,
            2 => {
                let cause = self.serial_cause().unwrap_or(0xc1);
                self.serial.empty &= cause != 0xc2;
                cause
            }
            3 => self.serial.line_control,
            5 => 0x60 | u8::from(!self.serial.input.is_empty()),
            _ => 0,
        }
    }

    fn serial_write(&mut self, register: u16, value: u8) {
        let divisor = self.serial.line_control & 0x80 != 0;
        match register {
            0 if !divisor => {
                self.serial.output.push(value);
                self.serial.empty = true;
                self.serial.answer();
            }
            1 if !divisor => {
                self.serial.empty |= value & 2 != 0 && self.serial.interrupts & 2 == 0;
                self.serial.interrupts = value;
            }
            3 => self.serial.line_control = value,
            _ => {}
        }
    }
}

/// The devices as the machine under the kernel reaches them.
#[derive(Debug)]
pub struct Plugged;

impl Devices for Plugged {
    fn port_in(&mut self, port: u16, _: u8) -> u32 {
        with(|bus| match port {
            0xcfc => bus.pci_read(),
            0x3f8..=0x3ff => u32::from(bus.serial_read(port - 0x3f8)),
            _ => u32::MAX,
        })
    }

    fn port_out(&mut self, port: u16, _: u8, value: u32) {
        with(|bus| match port {
            0xcf8 => bus.pci_address = value,
            0x3f8..=0x3ff => bus.serial_write(port - 0x3f8, value as u8),
            _ => {}
        });
    }

    fn enable_interrupt(&mut self, line: u8, enabled: bool) {
        with(|bus| {
            bus.open &= !(1 << line);
            bus.open |= u32::from(enabled) << line;
        });
    }
}

/// The disk as its driver reaches it.
#[derive(Debug)]
pub struct SimDisk(());

impl Disk for SimDisk {
    fn attach(boot: &Boot) -> Vec<Result<SimDisk, AttachError>> {
        with(|bus| bus.requests.clear());
        boot.devices.iter().map(|_| Ok(SimDisk(()))).collect()
    }

    fn properties(&self) -> Properties {
        let sectors = with(|bus| bus.image.len() as u64 / SECTOR_SIZE);
        Properties { sectors, read_only: true, volatile_cache: false }
    }

    fn submit(&mut self, command: &Command) -> Option<u32> {
        with(|bus| {
            if bus.requests.len() == DISK_COMMANDS_MAX {
                return None;
            }
            let read = match command {
                Command::Read(extent) => Some(*extent),
                Command::Write(..) | Command::Flush => None,
            };
            let (least, more) = bus.latency;
            let slow = if bus.random.below(SLOW_ONES) == 0 { SLOW_NS } else { 0 };
            let done_at = bus.now + least + bus.random.below(more + 1) + slow;
            bus.next_number += 1;
            bus.requests.push(Request { number: bus.next_number, done_at, told: false, read });
            Some(bus.next_number)
        })
    }

    fn acknowledge(&mut self) {
        with(|bus| {
            let now = bus.now;
            bus.requests
                .iter_mut()
                .filter(|request| request.done_at <= now)
                .for_each(|request| request.told = true);
        });
    }

    fn finished(&mut self) -> Option<Finished> {
        with(|bus| {
            let done = bus.requests.iter().position(|request| request.done_at <= bus.now)?;
            let Request { number, read, .. } = bus.requests.remove(done);
            if let Some(left) = bus.failing.checked_sub(1) {
                bus.failing = left;
                return Some(Finished { number, outcome: Err(BlockError::Device) });
            }
            let bytes = |extent: Extent| {
                let first = (extent.first * SECTOR_SIZE) as usize;
                bus.image[first..first + extent.bytes() as usize].to_vec()
            };
            Some(Finished { number, outcome: Ok(read.map(bytes).unwrap_or_default()) })
        })
    }
}
