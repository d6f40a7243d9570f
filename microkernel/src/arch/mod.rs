//! Machines: `x86_64` on the bare metal (over what both widths share in `x86`), `emulated` for the host.

#[cfg(not(target_os = "none"))]
pub mod emulated;
#[cfg(target_os = "none")]
pub mod x86;
#[cfg(target_os = "none")]
pub mod x86_64;
