//! What only the processor can do.

mod x86_64;

pub use x86_64::{call, count, system_call, time_page};
