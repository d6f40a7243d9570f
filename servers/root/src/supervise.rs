//! Looking after the servers: who dies is started again.

use alloc::{format, string::String};

use libipc::abi::{Handle, KernelError};
use libipc::sys::Traps;
use serde::{Deserialize, Serialize};

use crate::kernel::Kernel;

/// A snapshot is taken when the journal is fuller than this, in thousandths.
const SNAPSHOT_AT: u32 = 500;

/// A server in root's charge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Charge {
    /// Its name.
    pub name: String,
    /// Its number: its death posts the notification bit of this number.
    pub number: u32,
    /// Its task.
    pub task: Handle,
}

/// Makes what root knows the state that a later incarnation starts from.
pub fn keep<T: Traps>(kernel: &mut Kernel<T>, servers: &[Charge]) {
    let kept = postcard::to_allocvec(servers).map_err(|_| KernelError::TooBig);
    if let Err(error) = kept.and_then(|kept| kernel.write_snapshot(&kept)) {
        kernel.log(&format!("root: no snapshot: {error}\n"));
    }
}

/// Starts the next incarnation of every server that dies, for ever.
pub fn supervise<T: Traps>(kernel: &mut Kernel<T>, servers: &[Charge]) -> ! {
    loop {
        let (bits, journal_fill) = kernel.receive();
        for server in servers.iter().filter(|server| bits & 1 << server.number != 0) {
            match kernel.restart(server.task) {
                Ok(()) => {
                    let incarnation = kernel.incarnation(server.task);
                    kernel.log(&format!("root: {} runs again, incarnation {incarnation}\n", server.name));
                }
                Err(error) => kernel.log(&format!("root: {} cannot run again: {error}\n", server.name)),
            }
        }
        if journal_fill > SNAPSHOT_AT {
            keep(kernel, servers);
        }
    }
}
