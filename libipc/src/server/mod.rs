//! The server shell: what every server is made of.
//!
//! A server is a value that implements [`Server`]: `step(event, env) -> effects`. It is a deterministic state
//! machine: it asks through [`Env`], changes only itself, and returns what is to be changed outside. The [`shell`]
//! receives events, steps, and carries the effects out, one trap each. Since the kernel records every trap of a
//! journaled server together with its effect, stepping the same events again leads to the same state, on the machine
//! or on the host.

pub mod boot;
mod carry;
pub mod effect;
pub mod env;
pub mod event;
pub mod files;
mod guarded;
pub mod handles;
pub mod image;
pub mod listed;
mod live;
pub mod message;
pub mod numbered;
pub mod receive;
pub mod replay;
pub mod rows;
pub mod shell;
mod snapshot;
mod sweep;
pub mod testing;
pub mod vectors;

pub use boot::Boot;
pub use carry::map as map_pages;
pub use effect::{Change, Effect, Effects, ForeignReply, NewSession, Operation, Output};
pub use env::{Env, LeaseError, ThreadState};
pub use event::{Call, Caller, Event, Foreign, Names, Request};
pub use guarded::Guarded;
pub use listed::Listed;
pub use message::{Message, ProtocolError};
pub use numbered::{Number, Numbered};
pub use rows::{Rows, Table};
pub use snapshot::Saved;
pub use vectors::Refusal;

use alloc::vec::Vec;

use crate::abi::{Badge, CallId, Frame};

/// A server as a deterministic state machine. Its whole state is serialisable: a snapshot is its serialised form and
/// its digest is the hash of that.
pub trait Server: serde::Serialize + serde::de::DeserializeOwned {
    /// The form in which the state is saved. It grows by one whenever the type of the state changes in a way that
    /// changes its serialised form.
    const SCHEMA: u32 = 1;
    /// The oldest form that [`Server::restore`] reads.
    const OLDEST_SCHEMA: u32 = Self::SCHEMA;

    /// The state of a first incarnation, before [`Event::Start`].
    fn new(boot: &Boot) -> Self;

    /// Takes one event. When the effects are [`Effects::again`], nothing may have changed.
    fn step(&mut self, event: &Event, env: &mut dyn Env) -> Effects;

    /// There is hardly any room for a larger state, or there is again. While there is none, the server refuses whatever
    /// would make it larger for longer than a call takes. It is told before the event from which on it counts, in each
    /// incarnation, so it need not be in the snapshot.
    fn crowded(&mut self, _crowded: bool) {}

    /// Whether nobody uses this frame, as far as the state knows. Handles and calls are not asked about: those that the
    /// state knows are found in it.
    fn is_free(&self, _frame: Frame) -> bool {
        false
    }

    /// The tables of the state that grow with what there is, always in the same order. A snapshot saves their rows
    /// one by one, and everything else each time.
    fn tables(&mut self) -> Vec<&mut dyn Table> {
        Vec::new()
    }

    /// A state has been restored: what follows from its tables, and is not saved therefore, is to be made again.
    fn restored(&mut self) {}

    /// The state that another incarnation has saved in this form. An image that reads older forms, too, reads each as
    /// the type it was, and makes the state of today of it. `None` when it cannot.
    fn restore(schema: u32, saved: &mut Saved<'_>) -> Option<Self> {
        if schema == Self::SCHEMA { saved.read(Self::tables) } else { None }
    }
}

/// The bit of a notification that the task's own timer posts.
pub const TIMER_BIT: u64 = 1 << 63;

/// The bit of a notification by which the kernel asks for the digest of the state. The shell answers it; no server
/// sees it.
pub const DIGEST_BIT: u64 = 1 << 62;

/// The bit of a notification by which the kernel asks a server to save its state, before another image takes over.
/// The shell sees to it, too.
pub const SAVE_BIT: u64 = 1 << 61;

/// The bit of a notification that tells who handed in an image for a server that the upgrade is over.
pub const UPGRADED_BIT: u64 = 1 << 60;

/// The bit of a notification by which the kernel tells a server that it may not know all that it has ([`sweep`]). The
/// shell sees to it.
pub const SWEEP_BIT: u64 = 1 << 59;

/// Devices post the bits below this one.
pub const DEVICE_BITS: u32 = SWEEP_BIT.trailing_zeros();

/// A session's two names together, as parked work remembers them.
pub type Parked = (CallId, Badge);
