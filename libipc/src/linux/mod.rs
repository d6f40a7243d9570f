//! Linux's x86_64 binary interface: errno values, flags and structure layouts, as in the kernel's uapi headers.

pub mod call;
pub mod errno;
pub mod open;
pub mod ptrace;
pub mod signal;
mod stat;
pub mod uts;

pub use stat::{Stat, StatFs, major, minor, mode};
