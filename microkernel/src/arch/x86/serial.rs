//! The console log: what kernel and servers say, on the second serial port. Written with interrupts off, byte by
//! byte.

use core::fmt;

use super::port;

const COM2: u16 = 0x2f8;
const LINE_STATUS: u16 = COM2 + 5;
const TRANSMIT_EMPTY: u32 = 0x20;
/// Polls before a byte is given up: a port that is not there must not stop the machine.
const POLLS_MAX: u32 = 100_000;

/// Sets the port to 115200 8N1 without interrupts.
pub fn initialise() {
    for (register, value) in [(1, 0), (3, 0x80), (0, 1), (1, 0), (3, 3), (2, 7)] {
        port::write(COM2 + register, 1, value);
    }
}

/// Writes bytes.
pub fn write(bytes: &[u8]) {
    for byte in bytes {
        let ready = (0..POLLS_MAX).any(|_| port::read(LINE_STATUS, 1) & TRANSMIT_EMPTY != 0);
        if ready {
            port::write(COM2, 1, u32::from(*byte));
        }
    }
}

/// The log as a place to format to.
pub struct Log;

impl fmt::Write for Log {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}
