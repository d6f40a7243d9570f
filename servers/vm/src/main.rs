//! The vm server as a program.
fn main() {}
