//! What the kernel's own operations cost: servers that do nothing but trap (`boot/bench.toml`).
//!
//! The client measures and says a row a line on the console log; two echo servers answer it, one with a journal and
//! one without. In a machine where an instruction takes a nanosecond, the figures are instructions, stubs and loops
//! included.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod client;
mod echo;
mod native;
mod program;

use libipc::server::Boot;
use libipc::sys::Traps;

use native::Native;

/// The name of the server that measures.
const CLIENT: &str = "client";

/// Plays the part that the manifest's name says, for ever.
pub fn run<T: Traps>(traps: T, boot: &Boot) -> ! {
    let native = Native::new(traps, boot.first_free);
    match boot.name.as_str() {
        CLIENT => client::measure(native, boot),
        _ => echo::serve(native, boot.server(CLIENT)),
    }
}
