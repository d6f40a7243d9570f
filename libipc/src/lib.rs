//! What the kernel and the servers share: the binary interface, messages and protocols, and the shell that makes a
//! pure state machine a server. It owns no state of the system and does no work of its own.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod abi;
pub mod archive;
pub mod bytes;
pub mod linux;
pub mod manifest;
pub mod proto;
pub mod server;
pub mod sys;
