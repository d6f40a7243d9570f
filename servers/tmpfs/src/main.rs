//! The tmpfs server as a program.
fn main() {}
