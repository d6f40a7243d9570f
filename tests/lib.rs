//! Tests of the whole house; the crate's library is empty.
//!
//! `tidy.rs` checks style, `qemu/` holds scenarios, `linux/` programs that run on Linux and on Naiad alike.
