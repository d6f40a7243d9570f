//! The vfs server: names. It owns the mounts and the path walks under way, and nothing per process: working
//! directory, root directory and umask come with each call.
//!
//! A Linux call with a path becomes a walk ([`walk`]) that is sent from file server to file server until the path is
//! used up; the file server at its end does what the call asks for in the same message. What remains to be done for
//! the call meanwhile is a [`row::Row`] under the tag of the question sent. Opened files are sessions of the file
//! servers, so read(2) and its kin never come here. exec is resolved here ([`exec`]) and forwarded to the process
//! server; poll and select ([`poll`]) watch the readiness words that the kernel keeps, and so do the sets of
//! [`epoll`], which are the only sessions of this server's own.
//!
//! It must never keep a path or a node across calls (files are renamed behind its back), and never call upward.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use libipc::abi::{CallId, Handle, KernelError, Tag};
use libipc::proto::config::VfsConfig;
use libipc::proto::fs::HANDED_BACK;
use libipc::server::{
    Boot, Call, Effect, Effects, Env, Event, Message, Operation, Request, Server, TIMER_BIT,
};
use serde::{Deserialize, Serialize};

pub mod ask;
pub mod calls;
pub mod epoll;
pub mod exec;
pub mod hand_on;
pub mod how;
pub mod image;
pub mod locate;
pub mod mounting;
pub mod mounts;
pub mod poll;
pub mod row;
pub mod sendfile;
pub mod settle;
pub mod startup;
pub mod times;
pub mod walk;
pub mod who;

use epoll::Epolls;
use mounts::MountTable;
use poll::Wait;
use row::Row;
use sendfile::Copying;

/// The file servers to which programs are handed on; procfs asks in steps of its own, and answers vfs.
const ANSWERING: [&str; 2] = ["ufs", "tmpfs"];
/// The type of a file system, and the server that has such.
const KINDS: [(&str, &str); 3] = [("ufs", "ufs"), ("tmpfs", "tmpfs"), ("proc", "procfs")];

/// The vfs server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vfs {
    config: Option<VfsConfig>,
    /// The servers below, by number.
    servers: BTreeMap<u32, Handle>,
    /// Their numbers, by name.
    numbers: BTreeMap<alloc::string::String, u32>,
    /// Those of them that have paths.
    file_servers: BTreeSet<u32>,
    /// Those of these that answer programs themselves.
    answering: BTreeSet<u32>,
    /// Seconds of the Epoch at boot.
    epoch_s: u64,
    mounts: MountTable,
    /// Server and object of the namespace's root directory, learnt from the first caller in it.
    known_root: Option<(u32, u64)>,
    rows: BTreeMap<Tag, Row>,
    next_tag: u64,
    /// Calls that wait for descriptors to become ready.
    waits: BTreeMap<CallId, Wait>,
    /// Those of them that end at some time, by it.
    deadlines: BTreeSet<(u64, CallId)>,
    /// For when the timer is set.
    timer_ns: Option<u64>,
    epolls: Epolls,
    /// Copies under way, by the tag of the question sent, and those that wait for room.
    copies: BTreeMap<Tag, Copying>,
    stalled: BTreeMap<CallId, Copying>,
    /// This server's number.
    own_number: u32,
    /// There is hardly any room for more watches.
    #[serde(skip)]
    crowded: bool,
}

impl Server for Vfs {
    fn new(boot: &Boot) -> Vfs {
        let numbers: BTreeMap<_, _> =
            boot.servers.keys().filter_map(|name| Some((name.clone(), *boot.numbers.get(name)?))).collect();
        let servers = boot.servers.iter().filter_map(|(name, handle)| Some((*numbers.get(name)?, *handle)));
        let file_servers = KINDS.iter().filter_map(|(_, server)| numbers.get(*server).copied());
        Vfs {
            config: libipc::manifest::decode(&boot.config).ok(),
            servers: servers.collect(),
            file_servers: file_servers.collect(),
            answering: ANSWERING.iter().filter_map(|name| numbers.get(*name).copied()).collect(),
            numbers,
            epoch_s: boot.epoch_s,
            mounts: MountTable::default(),
            known_root: None,
            rows: BTreeMap::new(),
            next_tag: 1,
            waits: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            timer_ns: None,
            epolls: Epolls::default(),
            copies: BTreeMap::new(),
            stalled: BTreeMap::new(),
            own_number: boot.number,
            crowded: false,
        }
    }

    fn crowded(&mut self, crowded: bool) {
        self.crowded = crowded;
    }

    fn step(&mut self, event: &Event, env: &mut dyn Env) -> Effects {
        match event {
            Event::Start => self.start(),
            Event::Call(call) => self.call(call, env),
            Event::Answer { tag, answer } => self.answer(*tag, answer, env),
            Event::Watch { call } => match self.copy_woken(*call) {
                Some(effects) => effects,
                None => self.woken(*call, env),
            },
            Event::Notify { bits } if bits & TIMER_BIT != 0 => self.timer(env),
            Event::Cancel { call } => self.cancel(*call),
            Event::Watched { cookie, ready } => self.epoll_watched(*cookie, *ready, env),
            Event::Done { tag, result } => self.epoll_made(tag.0, *result),
            Event::LastClose { badge, owner } => self.epoll_closed(badge.0, *owner),
            Event::Lost { handle } => self.epoll_lost(*handle),
            Event::Notify { .. } | Event::Unclaimed { .. } => Effects::none(),
        }
    }
}

impl Vfs {
    fn call(&mut self, call: &Call, env: &mut dyn Env) -> Effects {
        match &call.request {
            Request::Foreign(foreign) => parked(call, self.linux(call, foreign, env)),
            Request::Native(message) if message.label == HANDED_BACK => {
                parked(call, self.handed_back(call, message))
            }
            // Nobody below may call, and faults go to vm and proc.
            Request::Native(message) => {
                let mut effects = Effects::none();
                effects.reply(call.id, Message::label(libipc::linux::errno::EINVAL as u32));
                close_all(&mut effects, &message.handles);
                effects
            }
            Request::Fault { .. } | Request::Attention { .. } => {
                let mut effects = Effects::none();
                effects.reply(call.id, Message::label(libipc::linux::errno::EINVAL as u32));
                effects
            }
        }
    }

    /// Walks end soon and are left to it; a wait for readiness ends now.
    fn cancel(&mut self, call: CallId) -> Effects {
        let mut effects = self.interrupt_wait(call);
        effects.append(self.copy_cancelled(call));
        effects
    }

    fn answer(&mut self, tag: Tag, answer: &Result<Message, KernelError>, env: &mut dyn Env) -> Effects {
        if let Some(copying) = self.copies.remove(&tag) {
            return self.copy_answered(copying, answer, env);
        }
        let Some(row) = self.rows.remove(&tag) else {
            let mut effects = Effects::none();
            if let Ok(message) = answer {
                close_all(&mut effects, &message.handles);
            }
            return effects;
        };
        self.take_answer(row, answer)
    }
}

/// A call that is neither answered nor handed on waits for a server.
fn parked(call: &Call, mut effects: Effects) -> Effects {
    if !effects.again && !effects.list.iter().any(|effect| disposes_of(effect, call.id)) {
        effects.park(call.id, libipc::server::effect::Reason::Server);
    }
    effects
}

/// Whether an effect answers a call, hands it on, or parks it.
fn disposes_of(effect: &Effect, id: CallId) -> bool {
    match effect {
        Effect::Reply { call, .. }
        | Effect::ReplyForeign { call, .. }
        | Effect::Forward { call, .. }
        | Effect::ForwardForeign { call, .. }
        | Effect::Park { call, .. } => *call == id,
        _ => false,
    }
}

fn close_all(effects: &mut Effects, handles: &[Handle]) {
    let closes: Vec<Operation> = handles.iter().map(|handle| Operation::Close { handle: *handle }).collect();
    for close in closes {
        effects.act(close);
    }
}

#[cfg(test)]
mod tests;
