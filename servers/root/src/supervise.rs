//! Looking after the servers: who dies is started again, without the event it died of if it must be.

use alloc::{format, string::String, vec::Vec};

use libipc::abi::{Handle, KernelError};
use libipc::sys::Traps;
use serde::{Deserialize, Serialize};

use crate::kernel::{Kernel, News};
use crate::policy::{Action, History, decide};

/// A snapshot is taken when the journal is fuller than this, in thousandths.
const SNAPSHOT_AT: u32 = 500;
/// The machine's status when a server is gone without which it cannot go on.
const SERVER_LOST: u32 = 126;

/// A server in root's charge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Charge {
    /// Its name.
    pub name: String,
    /// Its number: its death posts the notification bit of this number.
    pub number: u32,
    /// Its task.
    pub task: Handle,
    /// The machine cannot go on without it.
    pub vital: bool,
    /// What is remembered of its deaths.
    pub history: History,
    /// When it is to start again, if that has been put off.
    pub due_ns: Option<u64>,
}

/// Makes what root knows the state that a later incarnation starts from.
pub fn keep<T: Traps>(kernel: &mut Kernel<T>, servers: &[Charge]) {
    let kept = postcard::to_allocvec(servers).map_err(|_| KernelError::TooBig);
    match kept.and_then(|kept| kernel.write_snapshot(&kept)) {
        // A replay has come past a snapshot that was made.
        Ok(()) | Err(KernelError::WrongState) => {}
        Err(error) => kernel.log(&format!("root: no snapshot: {error}\n")),
    }
}

/// Sees to every server that dies, for ever.
pub fn supervise<T: Traps>(kernel: &mut Kernel<T>, mut servers: Vec<Charge>) -> ! {
    loop {
        let News { bits, now_ns, journal_fill } = kernel.receive();
        for server in servers.iter_mut().filter(|server| bits & 1 << server.number != 0) {
            see_to(kernel, server, now_ns);
        }
        for server in &mut servers {
            if server.due_ns.take_if(|due_ns| *due_ns <= now_ns).is_some() {
                start_again(kernel, server);
            }
        }
        let next = servers.iter().filter_map(|server| server.due_ns).min();
        if let Some(next) = next {
            kernel.set_timer(next);
        }
        if journal_fill > SNAPSHOT_AT {
            keep(kernel, &servers);
        }
    }
}

fn see_to<T: Traps>(kernel: &mut Kernel<T>, server: &mut Charge, now_ns: u64) {
    let death = kernel.death(server.task);
    let (after_ns, done) = match decide(&mut server.history, death, now_ns) {
        Action::Restart { after_ns } => (after_ns, Ok(())),
        Action::Dispose { after_ns } => (after_ns, dispose(kernel, server, false)),
        Action::StepBack { after_ns } => (after_ns, dispose(kernel, server, true)),
        Action::Abandon => return give_up(kernel, server),
    };
    match done {
        Ok(()) => server.due_ns = Some(now_ns.saturating_add(after_ns)),
        Err(error) => {
            kernel.log(&format!("root: what {} died of stays: {error}\n", server.name));
            give_up(kernel, server);
        }
    }
}

fn dispose<T: Traps>(kernel: &mut Kernel<T>, server: &Charge, former: bool) -> Result<(), KernelError> {
    let done = kernel.dispose(server.task, former)?;
    let done = done.map(|done| format!(": {done}")).unwrap_or_default();
    kernel.log(&format!("root: {} dies of one event again{done}\n", server.name));
    Ok(())
}

fn start_again<T: Traps>(kernel: &mut Kernel<T>, server: &Charge) {
    match kernel.restart(server.task) {
        Ok(()) => {
            let incarnation = kernel.incarnation(server.task);
            kernel.log(&format!("root: {} runs again, incarnation {incarnation}\n", server.name));
        }
        Err(error) => kernel.log(&format!("root: {} cannot be seen to: {error}\n", server.name)),
    }
}

/// A server's clients get errors from now on; without some servers the machine cannot go on.
fn give_up<T: Traps>(kernel: &mut Kernel<T>, server: &Charge) {
    match kernel.abandon(server.task) {
        Ok(()) => kernel.log(&format!("root: {} dies again and again and is given up\n", server.name)),
        Err(error) => kernel.log(&format!("root: {} cannot be seen to: {error}\n", server.name)),
    }
    if server.vital {
        kernel.log(&format!("root: without {} no program can go on: the machine stops\n", server.name));
        kernel.power_off(SERVER_LOST);
    }
}
