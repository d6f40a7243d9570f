//! Traces read: from the records that the kernel made (`libipc::abi::trace`) to pictures and tables.
//!
//! [`read`] makes a [`model::Trace`]: calls with their causes, servers' work at them, and what happened beside. Every
//! form is a function of that model and a [`select::Selection`]. Nothing here opens a file or asks the time.

#![forbid(unsafe_code)]

pub mod dissector;
mod lanes;
pub mod linux;
pub mod model;
pub mod native;
pub mod page;
pub mod pcapng;
pub mod perfetto;
mod read;
pub mod select;
pub mod sequence;
pub mod summary;
pub mod synthetic;
pub mod tree;
pub mod words;

pub use read::read;
