//! The Naiad microkernel: scheduling, the pmap and IPC. [`core`](mod@core) is the kernel as a pure value, [`arch`]
//! what it runs on.
#![cfg_attr(target_os = "none", no_std)]

pub mod arch;
#[forbid(unsafe_code)]
pub mod core;
pub mod window;
