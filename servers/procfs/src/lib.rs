//! The procfs server: `/proc`, a file server whose files are written when they are opened.
//!
//! It owns the open files, what vfs last said about the mounts, and the image that some server is to be upgraded to:
//! what the files say is asked of proc, vm and the kernel at open. It stands below vfs and above proc. `/proc/naiad`
//! shows the servers themselves and, by `echo crash > /proc/naiad/servers/NAME/ctl`, lets one fail.
//!
//! It must never keep what it was told about a process: processes end behind its back.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use libipc::abi::{CallId, Handle};
use libipc::linux::errno::EINVAL;
use libipc::proto::fs;
use libipc::proto::proc_tree::{Mounts, SET_MOUNTS};
use libipc::server::{Boot, Call, Effects, Env, Event, Message, Operation, Request, Server, UPGRADED_BIT};
use serde::{Deserialize, Serialize};

mod ask;
mod crash;
mod history;
pub mod names;
pub mod open;
pub mod text;
mod trace;
pub mod tree;
mod upgrade;

use open::{Open, Opening};
use upgrade::{UPGRADE_TAG, Upgrades};

/// The procfs server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Procfs {
    number: u32,
    proc: Handle,
    vm: Handle,
    /// Each server's task, by name.
    tasks: BTreeMap<String, Handle>,
    /// Each server's number, by name.
    numbers: BTreeMap<String, u32>,
    /// Seconds of the Epoch at boot.
    epoch_s: u64,
    seed: u64,
    mounts: Mounts,
    /// What a program that leaves a core names it: `/proc/sys/kernel/core_pattern`.
    #[serde(with = "libipc::bytes")]
    core_pattern: Vec<u8>,
    /// Open files by badge.
    opens: BTreeMap<u64, Open>,
    /// Files whose session is being made, with its handle, by badge.
    openings: BTreeMap<u64, (Opening, Handle)>,
    next_badge: u64,
    upgrades: Upgrades,
    /// There is hardly any room for more open files.
    #[serde(skip)]
    crowded: bool,
}

impl Server for Procfs {
    const SCHEMA: u32 = 2;

    fn new(boot: &Boot) -> Procfs {
        Procfs {
            number: boot.number,
            proc: boot.server("proc"),
            vm: boot.server("vm"),
            tasks: boot.tasks.clone(),
            numbers: boot.numbers.clone(),
            epoch_s: boot.epoch_s,
            seed: boot.seed,
            mounts: Mounts::new(),
            core_pattern: b"core".to_vec(),
            opens: BTreeMap::new(),
            openings: BTreeMap::new(),
            next_badge: 1,
            crowded: false,
            upgrades: Upgrades::new(boot.arena_bytes),
        }
    }

    fn crowded(&mut self, crowded: bool) {
        self.crowded = crowded;
    }

    fn step(&mut self, event: &Event, env: &mut dyn Env) -> Effects {
        match event {
            Event::Call(call) => self.call(call, env),
            Event::Done { tag, result } if *tag == UPGRADE_TAG => self.upgrade_begun(result),
            Event::Done { tag, result } => self.session_made(*tag, result),
            Event::LastClose { badge, owner } => self.closed(*badge, *owner),
            Event::Lost { handle } => self.lost(*handle),
            Event::Notify { bits } if bits & UPGRADED_BIT != 0 => self.upgrade_over(env),
            Event::Cancel { call, .. } => self.upgrade_cancelled(*call),
            // Every other call is answered in the step that takes it, or right after.
            Event::Start
            | Event::Answer { .. }
            | Event::Notify { .. }
            | Event::Watch { .. }
            | Event::Watched { .. }
            | Event::Unclaimed { .. } => Effects::none(),
        }
    }
}

impl Procfs {
    fn call(&mut self, call: &Call, env: &mut dyn Env) -> Effects {
        match &call.request {
            Request::Foreign(foreign) => self.linux(call, foreign, env),
            Request::Native(message) => self.native(call, message, env),
            Request::Fault { .. } | Request::Attention { .. } => answered(call.id, EINVAL),
        }
    }

    fn native(&mut self, call: &Call, message: &Message, env: &mut dyn Env) -> Effects {
        let mut effects = Effects::none();
        match message.label {
            fs::REQUEST => return self.request(call.id, message, env),
            fs::READ_AT => {
                effects.reply(call.id, self.read_at(call.badge, message.words[0], message.words[1]));
            }
            SET_MOUNTS => match message.decode() {
                Ok(mounts) => {
                    self.mounts = mounts;
                    return answered(call.id, 0);
                }
                Err(_) => return answered(call.id, EINVAL),
            },
            // There is nothing to write back, and nothing that a volume's end would free.
            fs::SYNC | fs::UNMOUNT => return answered(call.id, 0),
            _ => {
                effects.append(answered(call.id, EINVAL));
                for handle in &message.handles {
                    effects.act(Operation::Close { handle: *handle });
                }
            }
        }
        effects
    }
}

/// Answers a message with a label alone: 0 or an errno.
fn answered(call: CallId, errno: i32) -> Effects {
    let mut effects = Effects::none();
    effects.reply(call, Message::label(errno as u32));
    effects
}

#[cfg(test)]
mod tests;
