//! The vfs server as a program.
fn main() {}
