//! Machines: `x86_64` on the bare metal (over what both widths share in `x86`), `emulated` for the host.
