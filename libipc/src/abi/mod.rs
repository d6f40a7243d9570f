//! The binary interface between the kernel and everything above it: names, numbers and layouts, nothing that acts.

pub mod crash;
pub mod delivery;
pub mod doom;
pub mod error;
pub mod foreign;
pub mod journal;
pub mod manual;
mod named;
pub mod sweep;
pub mod syscall;
pub mod trace;
pub mod types;
pub mod upgrade;

pub use delivery::{Delivery, Kind, MessageBuffer, PAYLOAD_MAX};
pub use doom::{Doom, Injection, Moment};
pub use error::KernelError;
pub use types::*;
