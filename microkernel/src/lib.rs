//! The Naiad microkernel: scheduling, the pmap and IPC. [`core`](mod@core) is the kernel as a pure value, [`arch`] what it runs on.
#![cfg_attr(not(test), no_std)]

#[cfg(test)]
extern crate alloc;

pub mod arch;
#[forbid(unsafe_code)]
pub mod core;
