
//! An emulated machine for the host.
