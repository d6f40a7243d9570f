//! The driver of a 16550 serial port, as a state machine over its eight registers.
//!
//! It owns what it has been told to send and has not, and which interrupts it has asked for. It touches the
//! port only through [`Ports`], so every register access is the caller's to make, record and replay; it must
//! never wait for the hardware. The port is set to 115200 bits a second, eight bits, no parity, one stop bit,
//! and stays so. Registers: the PC16550D data sheet.
//!
//! Writes may be put off: a caller that works in steps carries them out, in order, when the step is over. So
//! nothing here reads a register to learn what a write of the same step has done, and [`Uart::send`] is for
//! once a step. Initialisation writes blindly; whether the port has FIFOs shows when it next identifies an
//! interrupt.

#[cfg(test)]
pub(crate) mod tests;

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use crate::queue::ByteQueue;

/// How many bytes wait to be sent at most.
pub const TRANSMIT_CAPACITY: u32 = 4096;

/// How many bytes one call takes from the port at most, so that a port gone mad cannot hold the caller for
/// ever.
pub const RECEIVE_BATCH: usize = 256;

/// The registers of the port, by their offset.
mod register {
    /// Received byte when read, byte to send when written; low half of the divisor with DLAB.
    pub const DATA: u8 = 0;
    /// Interrupt enable; high half of the divisor with DLAB.
    pub const INTERRUPT_ENABLE: u8 = 1;
    /// Interrupt identification when read, FIFO control when written.
    pub const INTERRUPT_OR_FIFO: u8 = 2;
    pub const LINE_CONTROL: u8 = 3;
    pub const MODEM_CONTROL: u8 = 4;
    pub const LINE_STATUS: u8 = 5;
}

const ENABLE_RECEIVED: u8 = 0x01;
const ENABLE_TRANSMITTER_EMPTY: u8 = 0x02;
const ENABLE_LINE_STATUS: u8 = 0x04;

const IDENTIFY_NOTHING: u8 = 0x01;
const IDENTIFY_FIFOS: u8 = 0xc0;

/// FIFOs on, nothing cleared, an interrupt when eight of the sixteen places are taken or bytes have waited for
/// four times their length.
const FIFO_ENABLE: u8 = 0x81;
const FIFO_DEPTH: u8 = 16;

const LINE_8N1: u8 = 0x03;
const LINE_BREAK: u8 = 0x40;
const LINE_DIVISOR_ACCESS: u8 = 0x80;
/// The base clock of 1.8432 MHz over sixteen is 115200.
const DIVISOR_115200: u8 = 1;

/// Data terminal ready, request to send, and the gate between the port and the interrupt line.
const MODEM_READY: u8 = 0x0b;

const STATUS_DATA_READY: u8 = 0x01;
const STATUS_OVERRUN: u8 = 0x02;
const STATUS_PARITY_ERROR: u8 = 0x04;
const STATUS_FRAMING_ERROR: u8 = 0x08;
const STATUS_BREAK: u8 = 0x10;
const STATUS_TRANSMITTER_EMPTY: u8 = 0x20;
/// The last bit has left, too.
const STATUS_TRANSMITTER_IDLE: u8 = 0x40;
const STATUS_ERRORS: u8 = STATUS_PARITY_ERROR | STATUS_FRAMING_ERROR | STATUS_BREAK;

/// What every register of an empty bus reads as.
const NOBODY: u8 = 0xff;

/// Access to the registers of one port, by offset from its base. Reading can have effects.
pub trait Ports {
    /// Reads a register.
    fn inb(&mut self, reg: u8) -> u8;
    /// Writes a register.
    fn outb(&mut self, reg: u8, value: u8);
}

/// Why a port cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UartError {
    /// Nothing answers at these registers.
    Absent,
}

impl fmt::Display for UartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UartError::Absent => f.write_str("there is no serial port at these registers"),
        }
    }
}

/// Something the port received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Received {
    /// A sound byte.
    Byte(u8),
    /// A byte with a parity or framing error.
    Damaged(u8),
    /// A break condition.
    Break,
}

/// What one look at the port brought.
#[must_use]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intake {
    /// What was received, in order; at most [`RECEIVE_BATCH`].
    pub received: Vec<Received>,
    /// The port may have more: call again, since an edge-triggered interrupt will not tell a second time.
    pub more: bool,
}

/// The state of one serial port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uart {
    transmit: ByteQueue,
    /// Its FIFOs have been asked for.
    fifos: bool,
    /// How many bytes the port takes at once when its transmitter is empty.
    burst: u8,
    /// The interrupt enable register as last written.
    enabled: u8,
    /// Sending is held; what waits, waits.
    held: bool,
    /// Received bytes are fetched. While they are not, they stay in the port, and a sender that can be made to
    /// wait waits.
    listening: bool,
    /// Errors the line status told of the byte that is fetched next. Reading the status clears them in the
    /// port.
    errors: u8,
    /// How often the port lost bytes because they were not fetched in time.
    overruns: u64,
}

impl Default for Uart {
    /// A port that has not been set up.
    fn default() -> Self {
        Uart {
            transmit: ByteQueue::new(TRANSMIT_CAPACITY),
            fifos: false,
            burst: 1,
            enabled: 0,
            held: false,
            listening: true,
            errors: 0,
            overruns: 0,
        }
    }
}

impl Uart {
    /// Sets the port up. What it has received before is kept, to be fetched like everything after: a terminal's
    /// user may type ahead.
    pub fn init(&mut self, ports: &mut impl Ports) -> Result<(), UartError> {
        use register::*;
        if ports.inb(LINE_STATUS) == NOBODY && ports.inb(INTERRUPT_OR_FIFO) == NOBODY {
            return Err(UartError::Absent);
        }
        self.start_fifos(ports);
        ports.outb(LINE_CONTROL, LINE_DIVISOR_ACCESS);
        ports.outb(DATA, DIVISOR_115200);
        ports.outb(INTERRUPT_ENABLE, 0);
        ports.outb(LINE_CONTROL, LINE_8N1);
        ports.outb(MODEM_CONTROL, MODEM_READY);
        self.ask(false, ports);
        Ok(())
    }

    /// Turns the FIFOs on, unless they are. That throws away what the port holds, so it is done only where the
    /// port holds nothing; a byte that arrives at that very moment is lost, so call it when none has arrived for
    /// a while.
    pub fn start_fifos(&mut self, ports: &mut impl Ports) {
        let holds = STATUS_DATA_READY | STATUS_TRANSMITTER_IDLE;
        if !self.fifos && self.status(ports) & holds == STATUS_TRANSMITTER_IDLE {
            ports.outb(register::INTERRUPT_OR_FIFO, FIFO_ENABLE);
            self.fifos = true;
        }
    }

    /// What waits to be sent. After adding to it call [`Uart::send`] and [`Uart::ask`].
    pub fn transmit(&mut self) -> &mut ByteQueue {
        &mut self.transmit
    }

    /// How many bytes wait to be sent.
    pub fn waiting(&self) -> u32 {
        self.transmit.len()
    }

    /// How often the port lost bytes because they were not fetched in time.
    pub fn overruns(&self) -> u64 {
        self.overruns
    }

    /// Answers an interrupt, or looks whether there is one: takes what was received, until the port has nothing
    /// to report.
    pub fn receive(&mut self, ports: &mut impl Ports) -> Intake {
        let mut intake = Intake::default();
        // An interrupt line shared or triggered by edges needs the port quiet at the end, not just one cause
        // handled.
        for _ in 0..RECEIVE_BATCH {
            let cause = ports.inb(register::INTERRUPT_OR_FIFO);
            self.burst = if cause & IDENTIFY_FIFOS == IDENTIFY_FIFOS { FIFO_DEPTH } else { 1 };
            if cause & IDENTIFY_NOTHING != 0 {
                return intake;
            }
            self.fetch(&mut intake.received, ports);
            if intake.received.len() >= RECEIVE_BATCH {
                break;
            }
        }
        intake.more = true;
        intake
    }

    /// Gives the port what it takes at once of what waits, if its transmitter is empty; answers whether it did.
    /// Then call [`Uart::ask`]. Not again before the writes are carried out, since until then the transmitter
    /// still seems empty.
    pub fn send(&mut self, ports: &mut impl Ports) -> bool {
        let ready = self.may_send() && self.status(ports) & STATUS_TRANSMITTER_EMPTY != 0;
        if ready {
            for byte in self.transmit.take(u32::from(self.burst)) {
                ports.outb(register::DATA, byte);
            }
        }
        ready
    }

    /// Asks for the interrupts that are needed now: not for an empty transmitter if the caller will look for
    /// itself.
    pub fn ask(&mut self, looks: bool, ports: &mut impl Ports) {
        let mut wanted = ENABLE_LINE_STATUS;
        if self.listening {
            wanted |= ENABLE_RECEIVED;
        }
        if self.may_send() && !looks {
            wanted |= ENABLE_TRANSMITTER_EMPTY;
        }
        if self.enabled != wanted {
            self.enabled = wanted;
            ports.outb(register::INTERRUPT_ENABLE, wanted);
        }
    }

    /// Holds sending, or lets it go on with the next [`Uart::send`].
    pub fn hold(&mut self, held: bool) {
        self.held = held;
    }

    /// Leaves received bytes in the port, or fetches them again; [`Uart::ask`] then sees to the interrupt.
    pub fn listen(&mut self, listening: bool) {
        self.listening = listening;
    }

    /// Puts the line into the break condition, or ends it; how long it lasts is the caller's to time.
    pub fn set_break(&mut self, on: bool, ports: &mut impl Ports) {
        ports.outb(register::LINE_CONTROL, LINE_8N1 | if on { LINE_BREAK } else { 0 });
    }

    fn may_send(&self) -> bool {
        !self.held && !self.transmit.is_empty()
    }

    /// Fetches what was received, and reads the line status in any case: that answers its interrupt.
    fn fetch(&mut self, received: &mut Vec<Received>, ports: &mut impl Ports) {
        while received.len() < RECEIVE_BATCH {
            if self.status(ports) & STATUS_DATA_READY == 0 || !self.listening {
                return;
            }
            let byte = ports.inb(register::DATA);
            let errors = core::mem::take(&mut self.errors);
            received.push(if errors & STATUS_BREAK != 0 {
                Received::Break
            } else if errors != 0 {
                Received::Damaged(byte)
            } else {
                Received::Byte(byte)
            });
        }
    }

    /// Reads the line status, keeping what only this one read of it tells.
    fn status(&mut self, ports: &mut impl Ports) -> u8 {
        let status = ports.inb(register::LINE_STATUS);
        self.errors |= status & STATUS_ERRORS;
        if status & STATUS_OVERRUN != 0 {
            self.overruns += 1;
        }
        status
    }
}
