//! The memory server.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod frames;
mod region;
mod tables;
