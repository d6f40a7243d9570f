//! Signals: what they are, who may send them, and what they do to a thread.
//!
//! A signal is generated (`send`), waits in the [`Pending`] set of a thread or a process, and is taken when a thread
//! next comes in (`deliver`): ignored, obeyed by its default, or turned into a frame on the program's stack (`frame`)
//! for the handler its process has set (`action`). `calls` holds the system calls about all this.

pub mod action;
mod calls;
mod deliver;
pub mod descriptor;
pub mod frame;
mod kill;
mod queue;
mod send;

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use libipc::linux::signal::*;
use serde::{Deserialize, Serialize};

pub use deliver::Entry;
pub use queue::Pending;
pub use send::Aim;

/// A set of signals; signal n is bit n - 1, as in Linux's `sigset_t`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct SignalSet(pub u64);

impl SignalSet {
    /// The set of these.
    pub const fn of(signals: &[u8]) -> SignalSet {
        let mut set = 0;
        let mut index = 0;
        while index < signals.len() {
            set |= 1 << (signals[index] - 1);
            index += 1;
        }
        SignalSet(set)
    }

    /// Whether a signal is in it.
    pub const fn has(self, signal: u8) -> bool {
        signal >= 1 && signal <= NSIG && self.0 & 1 << (signal - 1) != 0
    }

    /// With a signal added.
    pub const fn with(self, signal: u8) -> SignalSet {
        if signal >= 1 && signal <= NSIG { SignalSet(self.0 | 1 << (signal - 1)) } else { self }
    }

    /// Without those of another set.
    pub const fn less(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 & !other.0)
    }

    /// Those in either.
    pub const fn or(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 | other.0)
    }

    /// Those in both.
    pub const fn and(self, other: SignalSet) -> SignalSet {
        SignalSet(self.0 & other.0)
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Its signals, lowest first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (1..=NSIG).filter(move |signal| self.has(*signal))
    }
}

/// Signals that nobody can block, catch or ignore.
pub const UNBLOCKABLE: SignalSet = SignalSet::of(&[SIGKILL, SIGSTOP]);
/// Signals that stop a process by default.
pub const STOPS: SignalSet = SignalSet::of(&[SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU]);
/// Signals that do nothing by default.
pub const HARMLESS: SignalSet = SignalSet::of(&[SIGCHLD, SIGCONT, SIGURG, SIGWINCH]);
/// Signals that ask for a core image by default.
pub const CORE: SignalSet =
    SignalSet::of(&[SIGQUIT, SIGILL, SIGTRAP, SIGABRT, SIGBUS, SIGFPE, SIGSEGV, SIGXCPU, SIGXFSZ, SIGSYS]);
/// Signals that a thread's own instruction causes: taken before all others.
pub const SYNCHRONOUS: SignalSet = SignalSet::of(&[SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGFPE, SIGSYS]);

/// What a signal says about itself, besides number and code.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Detail {
    /// Nothing.
    None,
    /// Who sent it.
    Sender {
        /// Process.
        pid: u32,
        /// Real user.
        uid: u32,
    },
    /// SIGCHLD: what happened to a child.
    Child {
        /// The child.
        pid: u32,
        /// Its real user.
        uid: u32,
        /// Exit code or signal.
        status: u32,
        /// Its CPU time in ticks: user, system.
        ticks: [u64; 2],
    },
    /// A fault: its address, and the exception's vector and error code for the frame.
    Fault {
        /// si_addr.
        address: u64,
        /// x86 vector.
        vector: u64,
        /// Error code.
        error: u64,
    },
    /// A timer of timer_create(2).
    Timer {
        /// Its number.
        id: i32,
        /// How many times it has rung since, beyond the first.
        overrun: i32,
        /// si_value.
        value: u64,
    },
    /// As a program made it with rt_sigqueueinfo(2): what follows the first twelve bytes.
    Raw(Vec<u8>),
}

/// A signal with what it says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SigInfo {
    /// Its number.
    pub signal: u8,
    /// si_errno.
    pub errno: i32,
    /// si_code.
    pub code: i32,
    /// The rest.
    pub detail: Detail,
}

/// Bytes of `siginfo_t`.
pub const SIGINFO_BYTES: usize = 128;

impl SigInfo {
    /// A signal from the system itself.
    pub fn kernel(signal: u8) -> SigInfo {
        SigInfo { signal, errno: 0, code: SI_KERNEL, detail: Detail::Sender { pid: 0, uid: 0 } }
    }

    /// A signal from a process.
    pub fn user(signal: u8, code: i32, pid: u32, uid: u32) -> SigInfo {
        SigInfo { signal, errno: 0, code, detail: Detail::Sender { pid, uid } }
    }

    /// `siginfo_t` as Linux lays it out.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SIGINFO_BYTES);
        for word in [i32::from(self.signal), self.errno, self.code, 0] {
            bytes.extend(word.to_le_bytes());
        }
        match &self.detail {
            Detail::None => {}
            Detail::Sender { pid, uid } => {
                bytes.extend(pid.to_le_bytes());
                bytes.extend(uid.to_le_bytes());
            }
            Detail::Child { pid, uid, status, ticks } => {
                for word in [*pid, *uid, *status, 0] {
                    bytes.extend(word.to_le_bytes());
                }
                ticks.iter().for_each(|time| bytes.extend(time.to_le_bytes()));
            }
            Detail::Fault { address, .. } => bytes.extend(address.to_le_bytes()),
            Detail::Timer { id, overrun, value } => {
                bytes.extend(id.to_le_bytes());
                bytes.extend(overrun.to_le_bytes());
                bytes.extend(value.to_le_bytes());
            }
            Detail::Raw(rest) => {
                bytes.truncate(12);
                bytes.extend(rest);
            }
        }
        bytes.resize(SIGINFO_BYTES, 0);
        bytes
    }
}

/// sigaltstack(2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AlternateStack {
    /// Lowest address.
    pub base: u64,
    /// Bytes.
    pub size: u64,
    /// SS_DISABLE, SS_AUTODISARM.
    pub flags: u32,
}

/// The thread runs on its alternate stack; only reported.
pub const SS_ONSTACK: u32 = 1;
/// There is no alternate stack.
pub const SS_DISABLE: u32 = 2;
/// The stack is disabled while a handler runs on it.
pub const SS_AUTODISARM: u32 = 1 << 31;

impl Default for AlternateStack {
    fn default() -> AlternateStack {
        AlternateStack { base: 0, size: 0, flags: SS_DISABLE }
    }
}

impl AlternateStack {
    /// Whether a stack pointer is on it. With SS_AUTODISARM the question never arises: the stack is disabled by then.
    pub fn holds(&self, stack_pointer: u64) -> bool {
        self.flags & SS_AUTODISARM == 0
            && stack_pointer > self.base
            && stack_pointer - self.base <= self.size
            && self.size > 0
    }

    /// `stack_t` as sigaltstack(2) and signal frames show it.
    pub fn to_bytes(self, stack_pointer: u64) -> Vec<u8> {
        let on_stack = if self.size > 0 && self.holds(stack_pointer) { SS_ONSTACK } else { 0 };
        crate::memory::words(&[self.base, u64::from(self.flags | on_stack), self.size])
    }
}
