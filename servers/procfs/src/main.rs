//! The procfs server as a program.
fn main() {}
