//! The devices of the simulated machine: a PCI bus with disks on it, and a serial port.
//!
//! The disk is what the real driver (`servers/blk`) drives in place of virtio: it implements [`blk::disk::Disk`], and
//! its interrupts go through the kernel. It is a device, not a server: what is under way when the driver dies goes on,
//! until the next incarnation resets it. The second disk can be written. It holds what it was given in a volatile cache
//! until it is told to flush; when power fails, some sectors of what is there reach the medium, in any order, and
//! others do not. The state is this host thread's, since a driver in its incarnation and the
//! machine under the kernel both reach it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use blk::disk::{AttachError, Command, Disk, Finished, Properties};
use libipc::proto::block::{BlockError, SECTOR_SIZE};
use libipc::server::Boot;
use microkernel::arch::emulated::Devices;

use crate::random::Random;

/// The serial port's interrupt line, and the disk's.
const SERIAL_LINE: u8 = 4;
const DISK_LINE: u8 = 11;
/// Where the disks are on the PCI bus, and what they say they are: virtio block devices.
const DISK_ADDRESSES: [u32; 2] = [0x20, 0x28];
/// The disk that can be written.
const LOG: usize = 1;
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
    /// The first disk's contents.
    image: Arc<[u8]>,
    /// What is on the second disk's medium, and what is in its cache: sectors, in the order in which they were written.
    medium: Vec<u8>,
    cache: Vec<(u64, Vec<u8>)>,
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
    disk: usize,
    number: u32,
    done_at: u64,
    told: bool,
    command: Command,
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
    pub fn power_on(&mut self, disks: [&Arc<[u8]>; 2], latency: (u64, u64), seed: u64) {
        let [image, medium] = disks;
        let random = Random::new(seed);
        *self = Bus { image: image.clone(), medium: medium.to_vec(), latency, random, ..Bus::default() };
    }

    /// Power fails, or the machine is switched off: what is on the second disk's medium then.
    pub fn power_off(&mut self) -> Vec<u8> {
        self.stop_commands();
        let mut cache = mem::take(&mut self.cache);
        self.random.shuffle(&mut cache);
        for (sector, bytes) in cache {
            if self.random.below(2) == 0 {
                self.store(sector, &bytes);
            }
        }
        mem::take(&mut self.medium)
    }

    /// The disks are reset. Of what was being written, any sectors may have been.
    fn stop_commands(&mut self) {
        for request in mem::take(&mut self.requests) {
            if let Command::Write(extent, bytes) = request.command {
                let sectors = (extent.first..).zip(bytes.chunks(SECTOR_SIZE as usize));
                let written = sectors.filter(|_| self.random.below(2) == 0);
                let written: Vec<_> = written.map(|(sector, bytes)| (sector, bytes.to_vec())).collect();
                self.cache.extend(written);
            }
        }
    }

    /// Puts a sector on the second disk's medium.
    fn store(&mut self, sector: u64, bytes: &[u8]) {
        let first = (sector * SECTOR_SIZE) as usize;
        self.medium[first..first + bytes.len()].copy_from_slice(bytes);
    }

    /// Carries a command out: what was read.
    fn carry_out(&mut self, disk: usize, command: Command) -> Vec<u8> {
        match command {
            Command::Read(extent) => {
                let first = (extent.first * SECTOR_SIZE) as usize;
                let medium = if disk == LOG { &self.medium[..] } else { &self.image[..] };
                let mut bytes = medium[first..first + extent.bytes() as usize].to_vec();
                let cached = self.cache.iter().filter(|_| disk == LOG);
                for (sector, new) in cached {
                    if let Some(place) =
                        sector.checked_sub(extent.first).filter(|place| *place < extent.count)
                    {
                        let at = (place * SECTOR_SIZE) as usize;
                        bytes[at..at + new.len()].copy_from_slice(new);
                    }
                }
                return bytes;
            }
            Command::Write(extent, bytes) => {
                let sectors = (extent.first..).zip(bytes.chunks(SECTOR_SIZE as usize));
                self.cache.extend(sectors.map(|(sector, bytes)| (sector, bytes.to_vec())));
            }
            Command::Flush => {
                for (sector, bytes) in mem::take(&mut self.cache) {
                    self.store(sector, &bytes);
                }
            }
        }
        Vec::new()
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
            (device, 0) if DISK_ADDRESSES.contains(&device) => DISK_IDENTITY,
            (device, 0x3c) if DISK_ADDRESSES.contains(&device) => u32::from(DISK_LINE),
            (device, _) if DISK_ADDRESSES.contains(&device) => 0,
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

/// A disk as its driver reaches it.
#[derive(Debug)]
pub struct SimDisk(usize);

impl Disk for SimDisk {
    fn attach(boot: &Boot) -> Vec<Result<SimDisk, AttachError>> {
        with(Bus::stop_commands);
        (0..boot.devices.len()).map(|disk| Ok(SimDisk(disk))).collect()
    }

    fn properties(&self) -> Properties {
        let writable = self.0 == LOG;
        let bytes = with(|bus| if writable { bus.medium.len() } else { bus.image.len() });
        Properties { sectors: bytes as u64 / SECTOR_SIZE, read_only: !writable, volatile_cache: writable }
    }

    fn submit(&mut self, command: &Command) -> Option<u32> {
        with(|bus| {
            if bus.requests.iter().filter(|request| request.disk == self.0).count() == DISK_COMMANDS_MAX {
                return None;
            }
            let (least, more) = bus.latency;
            let slow = if bus.random.below(SLOW_ONES) == 0 { SLOW_NS } else { 0 };
            let done_at = bus.now + least + bus.random.below(more + 1) + slow;
            bus.next_number += 1;
            let (number, command) = (bus.next_number, command.clone());
            bus.requests.push(Request { disk: self.0, number, done_at, told: false, command });
            Some(number)
        })
    }

    fn acknowledge(&mut self) {
        with(|bus| {
            let now = bus.now;
            let done = bus.requests.iter_mut().filter(|request| request.done_at <= now);
            done.filter(|request| request.disk == self.0).for_each(|request| request.told = true);
        });
    }

    fn finished(&mut self) -> Option<Finished> {
        with(|bus| {
            let ready = |request: &Request| request.disk == self.0 && request.done_at <= bus.now;
            let Request { number, command, .. } = {
                let done = bus.requests.iter().position(ready)?;
                bus.requests.remove(done)
            };
            if let Some(left) = bus.failing.checked_sub(1) {
                bus.failing = left;
                return Some(Finished { number, outcome: Err(BlockError::Device) });
            }
            Some(Finished { number, outcome: Ok(bus.carry_out(self.0, command)) })
        })
    }
}
