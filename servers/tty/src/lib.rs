//! The terminal server: what a terminal does between a keyboard, a screen and the programs that use them.
//!
//! Its core owns the settings of a terminal (`termios`), the line discipline that edits input and answers reads
//! (`line`), job control (`jobs`), the requests programs make of a terminal (`ioctl`), and the driver of the
//! 16550 serial port behind the console (`uart`). Around it, `server` takes calls and interrupts. Everything here
//! is data and decisions: no I/O, no clock, no system calls. Time, device registers and the caller's identity
//! come in as arguments, and what is to be done goes out as effects, so a step replays to the same state.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod ioctl;
pub mod jobs;
pub mod line;
pub mod queue;
pub mod server;
pub mod signal;
pub mod termios;
pub mod uart;

pub use server::Tty;
