//! The proc server as a program.
fn main() {}
