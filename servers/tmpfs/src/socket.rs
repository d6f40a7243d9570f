//! Sockets of the local family (unix(7)): streams, datagrams, and packets in order.
//!
//! A stream's two directions are pipes, each under the number of the socket that reads it. Datagrams and packets wait
//! at their receiver, in a queue of messages. Names in the file system are vfs's to resolve: a call with one goes up
//! to it and comes back with the node; here is only which socket stands behind which node.

mod address;
mod calls;
pub mod cargo;
mod connect;
mod message;
mod options;
mod packets;
pub mod receipt;
mod transfer;

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

use crate::Tmpfs;
use crate::node::Ino;
use crate::pipe::Desk;
use address::Address;
use cargo::Credentials;
use libipc::abi::{CallId, Readiness};
use libipc::linux::errno::*;
use libipc::linux::open::{O_RDONLY, O_WRONLY};
use libipc::server::{Effects, Rows, Table};
use options::Options;
use packets::Packets;

/// What kind of socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Type {
    /// SOCK_STREAM.
    Stream,
    /// SOCK_DGRAM.
    Datagram,
    /// SOCK_SEQPACKET.
    Packets,
}

impl Type {
    /// The type with this number.
    ///
    /// # Errors
    /// `ESOCKTNOSUPPORT` for a type that the family has not, `EINVAL` for none.
    pub fn from_number(number: u64) -> Result<Type, i32> {
        match number {
            1 => Ok(Type::Stream),
            // SOCK_RAW means datagrams here, as on Linux.
            2 | 3 => Ok(Type::Datagram),
            5 => Ok(Type::Packets),
            4 | 6 | 10 => Err(ESOCKTNOSUPPORT),
            _ => Err(EINVAL),
        }
    }

    /// Its number.
    pub fn number(self) -> u32 {
        match self {
            Type::Stream => 1,
            Type::Datagram => 2,
            Type::Packets => 5,
        }
    }
}

/// How a socket stands to others.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub enum State {
    /// To none.
    #[default]
    Alone,
    /// It waits for others to connect.
    Listening(Listener),
    /// To one other; of datagram sockets, where it sends.
    Connected {
        /// The other, which may be gone.
        peer: Ino,
        /// Its address then.
        address: Address,
        /// Who made it.
        credentials: Credentials,
    },
}

/// What a listening socket knows.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Listener {
    /// How many may wait to be accepted, less one.
    backlog: u32,
    /// The sockets made for those who connected, in order.
    pending: VecDeque<Ino>,
    /// Calls that wait to accept.
    accepting: VecDeque<connect::Accepting>,
    /// Calls that wait to connect.
    connecting: VecDeque<connect::Connecting>,
}

/// A socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Socket {
    kind: Type,
    state: State,
    /// The address it is bound to.
    address: Address,
    /// The node of its name in the file system: device and number.
    place: Option<(u64, u64)>,
    /// It reads no more, it writes no more (shutdown(2)).
    shut: (bool, bool),
    /// Who made it, or made it listen.
    credentials: Credentials,
    /// An error to be told once (SO_ERROR).
    error: i32,
    options: Options,
    packets: Packets,
    /// Its session, once it has one.
    badge: Option<u64>,
    /// It was made together with the other it is connected to.
    paired: bool,
}

impl Socket {
    fn new(kind: Type, credentials: Credentials) -> Socket {
        Socket {
            kind,
            state: State::Alone,
            address: Address::default(),
            place: None,
            shut: (false, false),
            credentials,
            error: 0,
            options: Options::default(),
            packets: Packets::default(),
            badge: None,
            paired: false,
        }
    }

    fn peer(&self) -> Option<Ino> {
        match &self.state {
            State::Connected { peer, .. } => Some(*peer),
            _ => None,
        }
    }

    fn listener(&mut self) -> Option<&mut Listener> {
        match &mut self.state {
            State::Listening(listener) => Some(listener),
            _ => None,
        }
    }

    fn take_error(&mut self) -> Result<(), i32> {
        match core::mem::take(&mut self.error) {
            0 => Ok(()),
            errno => Err(errno),
        }
    }
}

/// All sockets, and which of them have which names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sockets {
    all: Rows<Ino, Socket>,
    /// Names outside the file system.
    abstracts: BTreeMap<Vec<u8>, Ino>,
    /// Names in it, by the node.
    places: BTreeMap<(u64, u64), Ino>,
    /// The last name given to a socket that wanted any.
    last_name: u32,
}

impl Sockets {
    /// The table of all sockets.
    pub fn table(&mut self) -> &mut dyn Table {
        &mut self.all
    }

    fn get(&self, ino: Ino) -> Result<&Socket, i32> {
        self.all.get(&ino).ok_or(EBADF)
    }

    fn get_mut(&mut self, ino: Ino) -> Result<&mut Socket, i32> {
        self.all.get_mut(&ino).ok_or(EBADF)
    }

    fn address_of(&self, ino: Ino) -> Address {
        self.all.get(&ino).map(|socket| socket.address.clone()).unwrap_or_default()
    }
}

impl Tmpfs {
    /// What a socket is ready for.
    pub(crate) fn socket_readiness(&self, ino: Ino) -> Readiness {
        let Some(socket) = self.sockets.all.get(&ino) else { return Readiness::HUP };
        let mut ready = match (&socket.state, socket.kind) {
            (State::Listening(listener), _) if listener.pending.is_empty() => return Readiness::empty(),
            (State::Listening(_), _) => return Readiness::IN,
            (State::Connected { peer, .. }, Type::Stream) => {
                let read = self.pipe_readiness(ino, O_RDONLY);
                let write = self.pipe_readiness(*peer, O_WRONLY);
                let mut ready = (read | write) & (Readiness::IN | Readiness::OUT);
                let no_more = read.contains(Readiness::HUP) || socket.shut.0;
                if no_more {
                    ready |= Readiness::IN | Readiness::RDHUP;
                }
                ready.set(Readiness::HUP, no_more && (write.contains(Readiness::ERR) || socket.shut.1));
                ready
            }
            (State::Alone, Type::Stream) => Readiness::OUT | Readiness::HUP,
            _ => self.packet_readiness(ino, socket),
        };
        ready.set(Readiness::ERR, socket.error != 0);
        ready
    }

    /// The pipes that the bytes of a socket go through.
    pub(crate) fn pipes_of_socket(&self, ino: Ino) -> [Option<Ino>; 2] {
        match self.sockets.all.get(&ino) {
            Some(Socket { kind: Type::Stream, state: State::Connected { peer, .. }, .. }) => {
                [Some(ino), Some(*peer)]
            }
            _ => [None, None],
        }
    }

    /// A socket has its session from now on.
    pub(crate) fn socket_opened(&mut self, ino: Ino, badge: u64) {
        if let Some(socket) = self.sockets.all.get_mut(&ino) {
            socket.badge = Some(badge);
        }
    }

    /// Tells the kernel what a socket is ready for, if it has a session and that has changed.
    fn refresh_socket(&mut self, ino: Ino, effects: &mut Effects) {
        if let Some(badge) = self.sockets.all.get(&ino).and_then(|socket| socket.badge) {
            self.refresh(badge, effects);
        }
    }

    /// The last session of a socket is closed, or it was never accepted.
    pub(crate) fn forget_socket(&mut self, ino: Ino, effects: &mut Effects) {
        let Some(mut socket) = self.sockets.all.remove(&ino) else { return };
        if let Address::Abstract(name) = &socket.address {
            self.sockets.abstracts.remove(name);
        }
        if let Some(place) = socket.place {
            self.sockets.places.remove(&place);
        }
        match core::mem::take(&mut socket.state) {
            State::Listening(listener) => self.stop_listening(listener, effects),
            State::Connected { peer, .. } if socket.kind == Type::Stream => {
                self.disconnect_stream(ino, peer, &socket, effects);
            }
            State::Connected { peer, .. } if socket.kind == Type::Packets => {
                self.peer_is_gone(peer, effects);
            }
            _ => {}
        }
        self.discard_packets(socket.packets, effects);
    }

    /// The other side of a connection of packets is gone: nothing comes and goes any more.
    fn peer_is_gone(&mut self, ino: Ino, effects: &mut Effects) {
        let Some(socket) = self.sockets.all.get_mut(&ino) else { return };
        socket.shut = (true, true);
        self.end_of_packets(ino, effects);
        self.refresh_socket(ino, effects);
    }

    /// Closes what a stream socket has not shut yet. What it leaves unread is an error to the other side.
    fn disconnect_stream(&mut self, ino: Ino, peer: Ino, socket: &Socket, effects: &mut Effects) {
        let unread = self.pipes.get(&ino).is_some_and(|pipe| pipe.length() > 0);
        if unread && let Some(other) = self.sockets.all.get_mut(&peer) {
            other.error = ECONNRESET;
            self.on_pipe(peer, effects, |pipe, desk| pipe.fail_readers(ECONNRESET, desk));
            if let Some(other) = self.sockets.all.get_mut(&peer)
                && other.badge.is_none()
            {
                other.error = 0;
            }
        }
        if !socket.shut.0 {
            self.on_pipe(ino, effects, |pipe, desk| pipe.leave(O_RDONLY, desk));
        }
        if !socket.shut.1 {
            self.on_pipe(peer, effects, |pipe, desk| pipe.leave(O_WRONLY, desk));
        }
        if let Some(badge) = socket.badge {
            for pipe in [ino, peer] {
                self.drop_end(pipe, badge);
            }
        }
        self.forget_unused(ino);
        self.forget_unused(peer);
        self.refresh_socket(peer, effects);
    }

    /// Does something with a pipe that cannot be refused.
    fn on_pipe(
        &mut self,
        ino: Ino,
        effects: &mut Effects,
        work: impl FnOnce(&mut crate::pipe::Pipe, &mut Desk),
    ) {
        let done = self.with_pipe(ino, |pipe, desk| {
            work(pipe, desk);
            Ok(())
        });
        if let Ok(done) = done {
            effects.append(done);
        }
    }

    /// A signal or kill takes a call away from a socket's queues.
    pub(crate) fn cancel_socket_call(&mut self, ino: Ino, call: CallId) -> Effects {
        let mut effects = Effects::none();
        self.parked.remove(&call);
        if let Some(socket) = self.sockets.all.get_mut(&ino) {
            if let Some(listener) = socket.listener() {
                listener.accepting.retain(|waiting| !waiting.is_call(call));
                listener.connecting.retain(|waiting| !waiting.is_call(call));
            }
            let dropped = socket.packets.remove_call(call);
            if let Some(packet) = dropped {
                packet.discard(&mut self.arena, &mut effects);
            }
        }
        crate::pipe::interrupted(&mut effects, call);
        effects
    }
}
