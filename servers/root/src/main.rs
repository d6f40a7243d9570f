//! The root server as a program.
fn main() {}
