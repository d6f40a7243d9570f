//! Looking after the servers: who dies is started again.

use alloc::{format, string::String, vec::Vec};

use libipc::abi::{Handle, KernelError};
use libipc::sys::Traps;
use serde::{Deserialize, Serialize};

use crate::kernel::Kernel;
use crate::policy::{Action, History, decide};

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
    /// What is remembered of its deaths.
    pub history: History,
}

/// Makes what root knows the state that a later incarnation starts from.
pub fn keep<T: Traps>(kernel: &mut Kernel<T>, servers: &[Charge]) {
    let kept = postcard::to_allocvec(servers).map_err(|_| KernelError::TooBig);
    if let Err(error) = kept.and_then(|kept| kernel.write_snapshot(&kept)) {
        kernel.log(&format!("root: no snapshot: {error}\n"));
    }
}

/// Sees to every server that dies, for ever.
pub fn supervise<T: Traps>(kernel: &mut Kernel<T>, mut servers: Vec<Charge>) -> ! {
    loop {
        let (bits, journal_fill) = kernel.receive();
        for server in servers.iter_mut().filter(|server| bits & 1 << server.number != 0) {
            see_to(kernel, server);
        }
        if journal_fill > SNAPSHOT_AT {
            keep(kernel, &servers);
        }
    }
}

fn see_to<T: Traps>(kernel: &mut Kernel<T>, server: &mut Charge) {
    let (faults, received) = kernel.fate(server.task);
    let done = match decide(&mut server.history, faults, received) {
        Action::Restart => kernel.restart(server.task).map(|()| {
            let incarnation = kernel.incarnation(server.task);
            format!("root: {} runs again, incarnation {incarnation}\n", server.name)
        }),
        Action::Abandon => kernel.abandon(server.task).map(|()| {
            format!("root: {} dies of the same event again and again and is given up\n", server.name)
        }),
    };
    match done {
        Ok(line) => kernel.log(&line),
        Err(error) => kernel.log(&format!("root: {} cannot be seen to: {error}\n", server.name)),
    }
}
