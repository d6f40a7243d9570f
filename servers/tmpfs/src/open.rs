//! Open files: what stands behind each session, and making and closing sessions.
//!
//! A session is made with an effect whose outcome is awaited, since the kernel may refuse one more. Until then the
//! call that wants it is parked with what is to be done after.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::Tmpfs;
use crate::devices::Device;
use crate::node::Ino;
use libipc::abi::{Badge, CallId, Handle, KernelError, Readiness, Tag};
use libipc::linux::errno::*;
use libipc::linux::open::S_MAPPABLE;
use libipc::proto::fs::{Answer, Found};
use libipc::server::effect::Reason;
use libipc::server::{Effects, Env, ForeignReply, Message, NewSession, Operation, Output};

/// What the object numbers of devices have beside the device number.
const DEVICE_OBJECT: u64 = 1 << 63;

/// What a session stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// A file or a directory, or any node opened as a mere path.
    Node(Ino),
    /// An end of a pipe, or of a FIFO.
    Pipe(Ino),
    /// A socket.
    Socket(Ino),
    /// A memory device.
    Device(Device),
    /// An event counter.
    Counter(Ino),
    /// A timer.
    Alarm(Ino),
}

impl Kind {
    /// The node whose attributes it shows. A device's own node is found by its number.
    pub fn node(self) -> Option<Ino> {
        match self {
            Kind::Node(ino) | Kind::Pipe(ino) | Kind::Counter(ino) | Kind::Alarm(ino) | Kind::Socket(ino) => {
                Some(ino)
            }
            Kind::Device(_) => None,
        }
    }
}

/// An open file.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct OpenFile {
    /// This server's own handle of the session; none of a file that a program has opened by name.
    pub owner: Handle,
    /// What it stands for.
    pub kind: Kind,
    /// What the kernel tells others is behind it.
    pub object: u64,
    /// How it was opened; what fcntl(2) changes later comes with each call.
    pub status: u32,
    /// The readiness last told to the kernel.
    told: Readiness,
    /// It is told with every event, also when it is what it was.
    edges: bool,
}

/// A session to be made.
#[derive(Clone, Copy, Debug)]
pub struct New {
    /// What it stands for.
    pub kind: Kind,
    /// Its status flags.
    pub status: u32,
}

/// What happens when a call's sessions are made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Then {
    /// vfs is told what was found.
    Found(Found),
    /// vfs gets a device.
    Device,
    /// They become descriptors.
    Install {
        /// The call's result.
        result: u64,
        /// Bytes for the caller's memory: address, bytes.
        outputs: Vec<(u64, Vec<u8>)>,
        /// They are close-on-exec.
        close_on_exec: bool,
    },
}

/// A call whose sessions are being made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opening {
    call: CallId,
    /// All of them, in order.
    badges: Vec<u64>,
    /// Of each whose outcome is known, whether it was made.
    made: Vec<bool>,
    then: Then,
}

impl Tmpfs {
    /// Begins to make the sessions of a call that has just come, and keeps it until they are made.
    pub(crate) fn open_now(
        &mut self,
        call: CallId,
        sessions: &[New],
        then: Then,
        env: &mut dyn Env,
    ) -> Effects {
        let mut effects = Effects::none();
        effects.park(call, Reason::Server);
        self.open(call, sessions, then, &mut effects, env);
        effects
    }

    /// Begins to make the sessions of a call that is parked.
    pub(crate) fn open(
        &mut self,
        call: CallId,
        sessions: &[New],
        then: Then,
        effects: &mut Effects,
        env: &mut dyn Env,
    ) {
        let tag = self.new_tag();
        let mut badges = Vec::new();
        for new in sessions {
            let owner = env.new_handle();
            let NewSession { badge, object, status, readiness, .. } = self.register(*new, owner);
            badges.push(badge.0);
            let create = Operation::SessionCreate { owner, badge, object, status, readiness, position: 0 };
            effects.attempt(tag, create);
        }
        self.opening.insert(tag, Opening { call, badges, made: Vec::new(), then });
    }

    /// Answers a program's call with a session as its descriptor. If the kernel refuses, its last close comes next.
    pub(crate) fn answer_opened(
        &mut self,
        call: CallId,
        new: New,
        close_on_exec: bool,
        env: &mut dyn Env,
    ) -> Effects {
        let mut effects = Effects::none();
        // Of a file there is never anything to tell the kernel.
        let owner = if matches!(new.kind, Kind::Node(_)) { Handle::NONE } else { env.new_handle() };
        let session = NewSession { close_on_exec, ..self.register(new, owner) };
        effects.reply_open(call, session);
        self.begin(session.badge.0, &mut effects);
        effects
    }

    /// An open file that is about to have a session.
    fn register(&mut self, New { kind, status }: New, owner: Handle) -> NewSession {
        let badge = self.next_badge;
        self.next_badge += 1;
        let readiness = self.readiness(kind, status);
        let object = self.object_of_locks(kind);
        self.opens.insert(badge, OpenFile { owner, kind, object, status, told: readiness, edges: false });
        let mut mappable = matches!(kind, Kind::Device(Device::Zero));
        if let Some(node) = kind.node().and_then(|ino| self.tree.get_mut(ino)) {
            node.opened(status);
            mappable = matches!(kind, Kind::Node(_)) && node.file().is_some();
        }
        if let Kind::Socket(ino) = kind {
            self.socket_opened(ino, badge);
        }
        let status = if mappable { status | S_MAPPABLE } else { status };
        let badge = Badge(badge);
        NewSession { owner, tells_close: true, badge, object, status, readiness, close_on_exec: false }
    }

    /// A session exists from now on.
    fn begin(&mut self, badge: u64, effects: &mut Effects) {
        for ino in self.pipes_of(badge).into_iter().flatten() {
            self.add_end(ino, badge);
        }
        self.refresh(badge, effects);
    }

    /// The outcome of making one session; after the last one the call is answered.
    pub(crate) fn opened(&mut self, tag: Tag, result: Result<u64, KernelError>) -> Effects {
        let Some(opening) = self.opening.get_mut(&tag) else { return Effects::none() };
        opening.made.push(result.is_ok());
        if opening.made.len() < opening.badges.len() {
            return Effects::none();
        }
        let Some(opening) = self.opening.remove(&tag) else { return Effects::none() };
        if opening.made.iter().all(|made| *made) { self.all_made(opening) } else { self.not_made(opening) }
    }

    fn all_made(&mut self, opening: Opening) -> Effects {
        let mut effects = Effects::none();
        let owners: Vec<Handle> =
            opening.badges.iter().filter_map(|badge| self.opens.get(badge)).map(|open| open.owner).collect();
        match opening.then {
            Then::Found(found) => {
                let message = Message::typed(0, &Answer::Found(found)).with_handles(&owners);
                effects.reply(opening.call, message);
            }
            Then::Device => {
                effects.reply(opening.call, Message::default().with_handles(&owners));
            }
            Then::Install { result, outputs, close_on_exec } => {
                let outputs = outputs.into_iter().map(|(address, bytes)| Output { address, bytes }).collect();
                let result = result as i64;
                let reply =
                    ForeignReply { result, outputs, install: owners, close_on_exec, ..Default::default() };
                effects.foreign(opening.call, reply);
            }
        }
        for badge in opening.badges {
            self.begin(badge, &mut effects);
        }
        effects
    }

    /// The kernel had no session to spare: those made are given back, and the call fails.
    fn not_made(&mut self, opening: Opening) -> Effects {
        let mut effects = Effects::none();
        match opening.then {
            Then::Found(_) => effects.reply(opening.call, Message::typed(0, &Answer::Failed(ENFILE))),
            Then::Device => effects.reply(opening.call, Message::label(ENFILE as u32)),
            Then::Install { .. } => effects.result(opening.call, -i64::from(ENFILE)),
        };
        for (badge, made) in opening.badges.into_iter().zip(opening.made) {
            if let Some(open) = self.forget(badge, &mut effects)
                && made
            {
                effects.act(Operation::Close { handle: open.owner });
            }
        }
        effects
    }

    /// The last holder of a session is gone.
    pub(crate) fn last_close(&mut self, badge: Badge, owner: Handle) -> Effects {
        let mut effects = Effects::none();
        if self.forget(badge.0, &mut effects).is_some() && owner != Handle::NONE {
            effects.act(Operation::Close { handle: owner });
        }
        effects
    }

    /// A session is gone without its last close having been told.
    pub(crate) fn lost(&mut self, owner: Handle) -> Effects {
        let lost = self.opens.iter().find(|(_, open)| open.owner == owner).map(|(badge, _)| Badge(*badge));
        lost.map_or_else(Effects::none, |badge| self.last_close(badge, owner))
    }

    fn forget(&mut self, badge: u64, effects: &mut Effects) -> Option<OpenFile> {
        let open = self.opens.remove(&badge)?;
        self.release_locks(self.object_of_locks(open.kind), badge, effects);
        match open.kind {
            Kind::Pipe(ino) => self.remove_end(ino, badge, open.status, effects),
            Kind::Socket(ino) => self.forget_socket(ino, effects),
            Kind::Counter(ino) => self.forget_counter(ino, effects),
            Kind::Alarm(ino) => self.forget_alarm(ino, effects),
            Kind::Node(_) | Kind::Device(_) => {}
        }
        if let Some(ino) = open.kind.node() {
            self.close_node(ino, open.status);
        }
        Some(open)
    }

    fn close_node(&mut self, ino: Ino, status: u32) {
        if let Some(node) = self.tree.get_mut(ino) {
            node.closed(status);
        }
        self.tree.reap(ino, &mut self.arena);
    }

    fn pipes_of(&self, badge: u64) -> [Option<Ino>; 2] {
        match self.opens.get(&badge).map(|open| open.kind) {
            Some(Kind::Pipe(ino)) => [Some(ino), None],
            Some(Kind::Socket(ino)) => self.pipes_of_socket(ino),
            _ => [None, None],
        }
    }

    /// Tells the kernel what a session is ready for, if that has changed.
    pub(crate) fn refresh(&mut self, badge: u64, effects: &mut Effects) {
        let Some(open) = self.opens.get(&badge) else { return };
        let readiness = self.readiness(open.kind, open.status);
        if readiness == open.told && !open.edges || open.owner == Handle::NONE {
            return;
        }
        effects.ready(open.owner, readiness);
        if let Some(open) = self.opens.get_mut(&badge) {
            open.told = readiness;
        }
    }

    /// Every event of a session is to be told from now on ([`libipc::proto::fs::EDGES`]).
    pub(crate) fn tell_edges(&mut self, badge: u64) -> Result<(), i32> {
        self.opens.get_mut(&badge).ok_or(EBADF)?.edges = true;
        for ino in self.pipes_of(badge).into_iter().flatten() {
            if let Some(pipe) = self.pipes.get_mut(&ino) {
                pipe.tell_edges();
            }
        }
        Ok(())
    }

    fn readiness(&self, kind: Kind, status: u32) -> Readiness {
        match kind {
            Kind::Pipe(ino) => self.pipe_readiness(ino, status),
            Kind::Socket(ino) => self.socket_readiness(ino),
            Kind::Counter(ino) => self.counter_readiness(ino),
            Kind::Alarm(ino) => self.alarm_readiness(ino),
            Kind::Device(Device::Random | Device::Urandom) => Readiness::IN | Readiness::OUT,
            Kind::Node(_) | Kind::Device(_) => Readiness::IN | Readiness::OUT | Readiness::ALWAYS,
        }
    }

    /// How vm and others tell whether two sessions are of one file.
    pub(crate) fn object_of_locks(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Device(device) => DEVICE_OBJECT | device.number(),
            _ => kind.node().unwrap_or_default(),
        }
    }
}
