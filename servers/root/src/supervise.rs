//! Looking after the servers: who dies is started again, without the event it died of if it must be, and who is
//! upgraded in another image.

use alloc::{format, string::String, vec::Vec};

use libipc::abi::crash::Remedy;
use libipc::abi::{Frame, Handle, KernelError};
use libipc::server::DIGEST_BIT;
use libipc::server::shell::digest;
use libipc::sys::Traps;
use serde::{Deserialize, Serialize};

use crate::kernel::{Kernel, News};
use crate::policy::{Action, History, decide};
use crate::upgrade::Installed;

/// A snapshot is taken when it is nearer than this, in thousandths: see `Delivery::fill`.
const SNAPSHOT_AT: u32 = 500;
/// The machine's status when a server is gone without which it cannot go on.
const SERVER_LOST: u32 = 126;

/// What root knows: the state that a later incarnation starts from.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The servers in its charge.
    pub servers: Vec<Charge>,
    /// Memory for images that servers are upgraded to: first frame and count.
    pub images: (Frame, u32),
}

/// A server in root's charge.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Charge {
    /// Its name.
    pub name: String,
    /// Its number: its death posts the notification bit of this number.
    pub number: u32,
    /// Its task.
    pub task: Handle,
    /// Its address space.
    pub space: Handle,
    /// The machine cannot go on without it.
    pub vital: bool,
    /// What is remembered of its deaths.
    pub history: History,
    /// When it is to start again, if that has been put off.
    pub due_ns: Option<u64>,
    /// It has been given up.
    pub gone: bool,
    /// The image that it booted from.
    pub booted: Installed,
    /// The image that it runs in.
    pub image: Installed,
    /// While it is upgraded: the image in waiting, or, when that is on trial, the old one.
    pub other: Option<Installed>,
}

impl State {
    /// Its serialised form, of which the digest is told.
    pub fn to_bytes(&self) -> Result<Vec<u8>, KernelError> {
        postcard::to_allocvec(self).map_err(|_| KernelError::TooBig)
    }

    /// The digest of it.
    pub fn digest(&self) -> u64 {
        self.to_bytes().map_or(0, |bytes| digest(&bytes))
    }
}

/// Makes what root knows the state that a later incarnation starts from.
pub fn keep<T: Traps>(kernel: &mut Kernel<T>, state: &State) {
    match state.to_bytes().and_then(|kept| kernel.write_snapshot(&kept)) {
        // A replay has come past a snapshot that was made.
        Ok(()) | Err(KernelError::WrongState) => {}
        Err(error) => kernel.log(&format!("root: no snapshot: {error}\n")),
    }
}

/// Root, when the system has been started.
pub struct Root<T> {
    /// The way to the kernel.
    pub(crate) kernel: Kernel<T>,
    /// What it knows.
    pub(crate) state: State,
}

impl<T: Traps> Root<T> {
    /// Sees to every server that dies or is to be upgraded, for ever.
    pub fn run(&mut self) -> ! {
        loop {
            self.serve_one();
        }
    }

    /// Waits for news, and sees to them.
    pub fn serve_one(&mut self) {
        let Root { kernel, state } = self;
        let News { bits, now_ns, journal_fill } = kernel.receive();
        if bits & DIGEST_BIT != 0 {
            kernel.tell_digest(state.digest());
        }
        for index in 0..state.servers.len() {
            if bits & 1 << state.servers[index].number != 0 {
                look_after(kernel, state, index, now_ns);
            }
        }
        for server in &mut state.servers {
            if server.due_ns.take_if(|due_ns| *due_ns <= now_ns).is_some() {
                start_again(kernel, server);
            }
        }
        let next = state.servers.iter().filter_map(|server| server.due_ns).min();
        if let Some(next) = next {
            kernel.set_timer(next);
        }
        if journal_fill > SNAPSHOT_AT {
            keep(kernel, state);
        }
    }
}

/// Something has happened to a server: its upgrade has come further, or it has died, or both.
fn look_after<T: Traps>(kernel: &mut Kernel<T>, state: &mut State, index: usize, now_ns: u64) {
    let task = state.servers[index].task;
    if let Some(stage) = kernel.upgrade_stage(task) {
        state.upgrade(kernel, index, stage);
    }
    let server = &mut state.servers[index];
    // A death that has been seen to is not seen to again.
    if server.due_ns.is_none() && !server.gone && kernel.is_dead(task) {
        see_to(kernel, server, now_ns);
    }
}

fn see_to<T: Traps>(kernel: &mut Kernel<T>, server: &mut Charge, now_ns: u64) {
    let death = kernel.death(server.task);
    let (after_ns, done) = match decide(&mut server.history, death, now_ns) {
        Action::Restart { after_ns } => (after_ns, Ok(())),
        Action::Dispose { after_ns } => (after_ns, dispose(kernel, server, Remedy::Any)),
        Action::BreakOff { after_ns } => (after_ns, dispose(kernel, server, Remedy::BreakOff)),
        Action::StepBack { after_ns } => (after_ns, dispose(kernel, server, Remedy::Former)),
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

fn dispose<T: Traps>(kernel: &mut Kernel<T>, server: &Charge, remedy: Remedy) -> Result<(), KernelError> {
    let done = kernel.dispose(server.task, remedy)?;
    let done = done.map(|done| format!(": {done}")).unwrap_or_default();
    kernel.log(&format!("root: {} dies of one event again{done}\n", server.name));
    Ok(())
}

fn start_again<T: Traps>(kernel: &mut Kernel<T>, server: &Charge) {
    match kernel.restart(server.task, 0) {
        Ok(()) => {
            let incarnation = kernel.incarnation(server.task);
            kernel.log(&format!("root: {} runs again, incarnation {incarnation}\n", server.name));
        }
        Err(error) => kernel.log(&format!("root: {} cannot be seen to: {error}\n", server.name)),
    }
}

/// A server's clients get errors from now on; without some servers the machine cannot go on.
fn give_up<T: Traps>(kernel: &mut Kernel<T>, server: &mut Charge) {
    server.gone = true;
    match kernel.abandon(server.task) {
        Ok(()) => kernel.log(&format!("root: {} dies again and again and is given up\n", server.name)),
        Err(error) => kernel.log(&format!("root: {} cannot be seen to: {error}\n", server.name)),
    }
    if server.vital {
        kernel.log(&format!("root: without {} no program can go on: the machine stops\n", server.name));
        kernel.power_off(SERVER_LOST);
    }
}
