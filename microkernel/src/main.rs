//! microkernel
fn main() {}
