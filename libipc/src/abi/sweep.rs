//! Sweeps, as kernel and servers tell each other of them: see [`crate::server::SWEEP_BIT`].

use super::named::named;

named! {
    /// What a server can have without knowing.
    Holding {
        Handle = 0, "handle";
        Call = 1, "call";
        Sent = 2, "sent call";
        Frame = 3, "frame";
        Space = 4, "space";
    }
}

/// Most names in one answer. A step ends at most as many objects.
pub const NAMES_MAX: u64 = 256;
