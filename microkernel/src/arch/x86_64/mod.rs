//! The 64-bit PC: entry from boot loader and user mode, descriptor tables, page tables, and the [`Machine`] the core
//! runs on.
//!
//! [`Machine`]: crate::core::Machine

pub mod boot;
pub mod cpu;
pub mod entry;
pub mod machine;
pub mod paging;
pub mod panic;
pub mod tables;
pub mod trap;
