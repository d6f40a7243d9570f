//! The protocols between servers, one module each. Structured requests travel as postcard payload under the
//! protocol's label; hot ones as plain words. An answer's label is 0, or the error.

pub mod block;
pub mod config;
pub mod fs;
pub mod proc_tree;
pub mod process;
pub mod space;
pub mod terminal;
