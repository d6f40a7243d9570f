//! The trap: how a server reaches the kernel. The shell is written against [`Traps`]; on the bare machine it is the
//! SYSCALL instruction, in the simulator the kernel core itself.

use crate::abi::delivery::BUFFER_PAGES;
use crate::abi::syscall::Syscall;
use crate::abi::{KernelError, PAGE_SIZE};

/// What a trap brings back: up to five values, or why it was refused.
pub type Trapped = Result<[u64; 5], KernelError>;

/// Bytes of a message buffer.
pub const BUFFER_BYTES: usize = (BUFFER_PAGES as u64 * PAGE_SIZE) as usize;

/// The way into the kernel.
pub trait Traps {
    /// Makes a system call.
    fn trap(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped;

    /// Makes a system call and, if it succeeds, receives. One trap where the machine has that.
    fn trap_then_receive(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        self.trap(call, arguments)?;
        self.trap(Syscall::Receive, [0; 6])
    }

    /// The message buffer.
    fn buffer(&mut self) -> &mut [u8; BUFFER_BYTES];
}

#[cfg(all(target_os = "none", feature = "program"))]
pub mod bare;
#[cfg(all(target_os = "none", feature = "program"))]
mod heap;
mod start;
