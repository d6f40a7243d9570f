//! The tty server as a program.
fn main() {}
