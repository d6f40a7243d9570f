//! The memory file server: files that live in memory, pipes and FIFOs, local sockets, memory devices, event counters.
//!
//! It owns the nodes of its volumes, the queues of its pipes and sockets, advisory locks on both, and the books
//! of the arena in which the bytes lie. It must never touch those bytes: the kernel moves them between a
//! caller's memory and the arena, once, as the effects of a step tell it.
//!
//! `request` serves vfs, `linux` programs; `tree` and `names` are about names, `contents` and `arena` about where
//! bytes lie, `open` about sessions. Calls that wait are rows of `parked`, and what they wait for knows them.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod alarm;
mod arena;
mod contents;
mod counter;
mod devices;
mod file;
mod linux;
mod lock;
mod locking;
mod names;
mod node;
mod open;
mod paging;
mod pipe;
mod random;
mod request;
mod socket;
mod timers;
mod transfer;
mod tree;

use alloc::{collections::BTreeMap, vec, vec::Vec};
use serde::{Deserialize, Serialize};

use alarm::Alarm;
use arena::{Arena, Span};
use counter::Counter;
use libipc::abi::{CallId, Frame, Handle, Tag};
use libipc::linux::errno::{EINVAL, ENOSYS};
use libipc::proto::fs;
use libipc::server::{
    Boot, Call, Effects, Env, Event, Listed, Message, Operation, Request, Rows, Server, TIMER_BIT, Table,
};
use lock::Locks;
use node::Ino;
use open::{OpenFile, Opening};
use paging::{Recall, Supplying};
use pipe::Pipe;
use random::Generator;
use socket::Sockets;
use timers::Timers;
use transfer::{Outcome, Refusal};
use tree::Tree;

/// Bytes of heap for each node that there may be.
const HEAP_PER_NODE: u64 = 1024;
/// Nodes there may be at least.
const NODES_MIN: u64 = 1024;

/// What a parked call waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Wait {
    /// Bytes in a pipe, or room.
    Pipe(Ino),
    /// The other side of a FIFO.
    Opening(Ino),
    /// A counter's value to change.
    Counter(Ino),
    /// A timer to go off.
    Alarm(Ino),
    /// Messages at a socket, or others to connect.
    Socket(Ino),
    /// A lock on a file.
    Lock(u64),
}

/// The server's state.
#[derive(Serialize, Deserialize)]
pub struct Tmpfs {
    /// This server's number, part of every st_dev.
    number: u32,
    vm: Handle,
    proc: Handle,
    vfs: Handle,
    /// The time of boot, ns of the Epoch.
    epoch_ns: i64,
    arena: Arena,
    /// The arena's first frame.
    arena_first: Frame,
    tree: Tree,
    pipes: Rows<Ino, Pipe>,
    counters: Rows<Ino, Counter>,
    alarms: Rows<Ino, Alarm>,
    sockets: Sockets,
    timers: Timers,
    locks: Locks,
    random: Generator,
    /// Open files by the badges of their sessions.
    opens: Rows<u64, OpenFile>,
    next_badge: u64,
    /// Calls whose sessions are being made.
    opening: BTreeMap<Tag, Opening>,
    /// Faults whose pages are on their way to vm.
    supplying: BTreeMap<Tag, Supplying>,
    /// Pages that vm is to let go of before they are given out again.
    recalls: BTreeMap<Tag, Recall>,
    next_tag: u64,
    /// Calls that wait, by what they wait for.
    parked: Listed<CallId, Wait>,
}

impl Tmpfs {
    fn wall_ns(&self, env: &dyn Env) -> i64 {
        self.epoch_ns.saturating_add(env.now() as i64)
    }

    fn new_tag(&mut self) -> Tag {
        self.next_tag += 1;
        Tag(self.next_tag)
    }

    fn call(&mut self, call: &Call, env: &mut dyn Env) -> Effects {
        match &call.request {
            Request::Foreign(foreign) => answered(call.id, self.foreign(call, foreign, env)),
            Request::Native(message) => self.native(call, message, env),
            Request::Fault { .. } | Request::Attention { .. } => label(call.id, ENOSYS),
        }
    }

    fn native(&mut self, call: &Call, message: &Message, env: &mut dyn Env) -> Effects {
        match message.label {
            fs::REQUEST => self.request(call, message, env),
            fs::PAGE_IN => self.page_in(call, message.words),
            fs::OPEN_DEVICE => self.open_device(call.id, message.words, env),
            fs::OPEN_FIFO => answered(call.id, self.open_fifo(call.id, message.words, env)),
            fs::SOCKET_PLACE => answered(call.id, self.socket_place(call, message, env)),
            fs::WRITE_AT => self.write_at(call, message, env),
            fs::EDGES => label(call.id, self.tell_edges(message.words[0]).err().unwrap_or(0)),
            fs::READ_AT => self.read_at(call, message.words, env),
            // Nothing here is ever more durable than it is.
            fs::SYNC => label(call.id, 0),
            fs::UNMOUNT => {
                label(call.id, self.tree.discard(message.words[0], &mut self.arena).err().unwrap_or(0))
            }
            _ => label(call.id, EINVAL),
        }
    }

    fn cancel(&mut self, call: CallId) -> Effects {
        match self.parked.get(&call) {
            Some(Wait::Pipe(ino)) => self.cancel_pipe_call(*ino, call),
            Some(Wait::Opening(ino)) => self.cancel_opening(*ino, call),
            Some(Wait::Alarm(ino)) => self.cancel_alarm_call(*ino, call),
            Some(Wait::Socket(ino)) => self.cancel_socket_call(*ino, call),
            Some(Wait::Counter(ino)) => self.cancel_counter_call(*ino, call),
            Some(Wait::Lock(file)) => self.cancel_lock_call(*file, call),
            None => Effects::none(),
        }
    }
}

/// The effects of a program's call: what serving it came to, or its error.
fn answered(call: CallId, outcome: Outcome) -> Effects {
    match outcome {
        Ok(effects) => effects,
        Err(Refusal::Again) => Effects::again(),
        Err(Refusal::Errno(errno)) => {
            let mut effects = Effects::none();
            effects.result(call, -i64::from(errno));
            effects
        }
    }
}

/// Answers a server with an error, or 0, alone.
fn label(call: CallId, errno: i32) -> Effects {
    let mut effects = Effects::none();
    effects.reply(call, Message::label(errno as u32));
    effects
}

impl Server for Tmpfs {
    const SCHEMA: u32 = 3;

    fn new(boot: &Boot) -> Tmpfs {
        let epoch_ns = i64::try_from(boot.epoch_s).unwrap_or(0).saturating_mul(1_000_000_000);
        let mut tree = Tree::new((boot.heap_bytes / HEAP_PER_NODE).max(NODES_MIN));
        devices::populate(&mut tree, epoch_ns).expect("a new tree has room for /dev");
        Tmpfs {
            number: boot.number,
            vm: boot.server("vm"),
            proc: boot.server("proc"),
            vfs: boot.server("vfs"),
            epoch_ns,
            arena: Arena::new(boot.arena_bytes),
            arena_first: boot.arena_first,
            tree,
            pipes: Rows::new(),
            counters: Rows::new(),
            alarms: Rows::new(),
            sockets: Sockets::default(),
            timers: Timers::default(),
            locks: Locks::default(),
            random: Generator::new(boot.seed, boot.epoch_s),
            opens: Rows::new(),
            next_badge: 1,
            opening: BTreeMap::new(),
            supplying: BTreeMap::new(),
            recalls: BTreeMap::new(),
            next_tag: 0,
            parked: Listed::new(),
        }
    }

    fn step(&mut self, event: &Event, env: &mut dyn Env) -> Effects {
        let mut effects = match event {
            Event::Start => {
                let mut effects = Effects::none();
                let Span { offset, length } = Span::ZEROES;
                effects.act(Operation::ArenaZero { offset, length });
                effects
            }
            Event::Call(call) => self.call(call, env),
            Event::Answer { tag, answer } => self.supplied(*tag, answer),
            Event::Done { tag, result } => self.opened(*tag, *result),
            Event::Cancel { call } => self.cancel(*call),
            Event::LastClose { badge, owner } => self.last_close(*badge, *owner),
            Event::Notify { bits } if bits & TIMER_BIT != 0 => self.timer(env),
            Event::Lost { handle } => self.lost(*handle),
            Event::Notify { .. } | Event::Watch { .. } | Event::Watched { .. } | Event::Unclaimed { .. } => {
                Effects::none()
            }
        };
        if !self.recalls.is_empty() {
            self.tell_recalls(&mut effects);
        }
        effects
    }

    fn crowded(&mut self, crowded: bool) {
        self.tree.crowded = crowded;
    }

    fn tables(&mut self) -> Vec<&mut dyn Table> {
        vec![
            self.tree.table(),
            &mut self.opens,
            &mut self.pipes,
            &mut self.counters,
            &mut self.alarms,
            &mut self.parked,
            self.sockets.table(),
        ]
    }
}

#[cfg(test)]
mod tests;
