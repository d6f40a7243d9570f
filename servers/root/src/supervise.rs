//! Looking after the servers: who dies is started again.

use alloc::{format, string::String};

use libipc::abi::Handle;
use libipc::sys::Traps;

use crate::kernel::Kernel;

/// A server in root's charge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Charge {
    /// Its name.
    pub name: String,
    /// Its number: its death posts the notification bit of this number.
    pub number: u32,
    /// Its task.
    pub task: Handle,
}

/// Starts the next incarnation of every server that dies, for ever.
pub fn supervise<T: Traps>(kernel: &mut Kernel<T>, servers: &[Charge]) -> ! {
    loop {
        let bits = kernel.receive();
        for server in servers.iter().filter(|server| bits & 1 << server.number != 0) {
            match kernel.restart(server.task) {
                Ok(()) => {
                    let incarnation = kernel.incarnation(server.task);
                    kernel.log(&format!("root: {} runs again, incarnation {incarnation}\n", server.name));
                }
                Err(error) => kernel.log(&format!("root: {} cannot run again: {error}\n", server.name)),
            }
        }
    }
}
