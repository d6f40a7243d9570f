//! The blk server as a program.
fn main() {}
