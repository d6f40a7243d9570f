//! What the Linux test programs share: a report of one line a sentence, and safe forms of the system calls they try.
//!
//! A program proves sentences and prints each of them without process ids, addresses or times, so that its output is
//! the same bytes on every run and on every machine. It never reads standard input, and every wait in it is bounded.
#![allow(
    clippy::not_unsafe_ptr_arg_deref,
    clippy::macro_metavars_in_unsafe,
    reason = "these programs hand bad pointers to the kernel on purpose"
)]

mod error;
pub mod files;
pub mod memory;
pub mod process;
mod report;
pub mod signals;
pub mod times;

pub use error::{Answer, Errno, names as errno};
pub use libc;
pub use report::{apart, equal, exec_self, ok, run, run_with, say};

/// Calls a function of the C library and turns -1 into the error behind it.
///
/// It asks for no `unsafe` at the call: these programs hand the kernel what they like, and it must cope.
#[macro_export]
macro_rules! call {
    ($function:ident($($argument:expr),* $(,)?)) => {{
        // SAFETY: pointers are to values that live as long as the call, or wrong on purpose: then the kernel refuses.
        #[allow(unused_unsafe)]
        let answer = unsafe { $crate::libc::$function($($argument),*) };
        $crate::Errno::check(answer)
    }};
}
