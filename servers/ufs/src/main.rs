//! The ufs server as a program.
fn main() {}
