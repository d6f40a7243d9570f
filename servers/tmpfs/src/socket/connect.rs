//! Listening, connecting and accepting.

use alloc::{vec, vec::Vec};
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::cargo::Credentials;
use super::{Listener, Socket, State, Type};
use crate::node::Ino;
use crate::open::{Kind, New, Then};
use crate::transfer::{Outcome, Refusal, value};
use crate::{Tmpfs, Wait};
use libipc::abi::CallId;
use libipc::linux::errno::*;
use libipc::linux::open::{O_CLOEXEC, O_NONBLOCK, O_RDWR};
use libipc::server::effect::Reason;
use libipc::server::{Call, Effects, Env, Foreign};

/// Most that may wait to be accepted (net.core.somaxconn).
const BACKLOG_MAX: u32 = 4096;

/// A call that waits to accept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accepting {
    call: CallId,
    /// The descriptor reserved for it.
    descriptor: u64,
    /// Where the address of who connected goes, how much of it, and where its length goes.
    address: Option<(u64, u32, u64)>,
    status: u32,
    close_on_exec: bool,
}

impl Accepting {
    /// Whether it is this call.
    pub fn is_call(&self, call: CallId) -> bool {
        self.call == call
    }
}

/// A call that waits until fewer wait to be accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Connecting {
    call: CallId,
    /// The socket to be connected.
    from: Ino,
}

impl Connecting {
    /// Whether it is this call.
    pub fn is_call(&self, call: CallId) -> bool {
        self.call == call
    }
}

impl Listener {
    fn is_full(&self) -> bool {
        self.pending.len() as u64 > u64::from(self.backlog)
    }
}

impl Tmpfs {
    /// listen(2).
    pub(super) fn listen(&mut self, call: &Call, ino: Ino, backlog: u64, env: &mut dyn Env) -> Outcome {
        let socket = self.sockets.get_mut(ino)?;
        if socket.kind == Type::Datagram {
            return Err(Refusal::Errno(EOPNOTSUPP));
        }
        if socket.address == Address::Unnamed {
            return Err(Refusal::Errno(EINVAL));
        }
        let backlog = (backlog as u32).min(BACKLOG_MAX);
        match &mut socket.state {
            State::Alone => socket.state = State::Listening(Listener { backlog, ..Listener::default() }),
            State::Listening(listener) => listener.backlog = backlog,
            State::Connected { .. } => return Err(Refusal::Errno(EINVAL)),
        }
        socket.credentials = Credentials::of(&call.caller);
        let mut effects = Effects::none();
        effects.result(call.id, 0);
        self.let_connect(ino, &mut effects, env);
        self.refresh_socket(ino, &mut effects);
        Ok(effects)
    }

    /// connect(2) of streams and packets, to the socket behind the address, if there is one.
    pub(super) fn connect_stream(
        &mut self,
        call: &Call,
        ino: Ino,
        target: Option<Ino>,
        env: &mut dyn Env,
    ) -> Outcome {
        let socket = self.sockets.get(ino)?;
        let kind = socket.kind;
        let other = target.and_then(|target| self.sockets.all.get(&target));
        let full = match other {
            None => return Err(Refusal::Errno(ECONNREFUSED)),
            Some(other) if other.kind != kind => return Err(Refusal::Errno(EPROTOTYPE)),
            Some(Socket { state: State::Listening(_), shut: (true, _), .. }) => {
                return Err(Refusal::Errno(ECONNREFUSED));
            }
            Some(Socket { state: State::Listening(listener), .. }) => listener.is_full(),
            Some(_) => return Err(Refusal::Errno(ECONNREFUSED)),
        };
        match socket.state {
            State::Alone => {}
            State::Listening(_) => return Err(Refusal::Errno(EINVAL)),
            State::Connected { .. } => return Err(Refusal::Errno(EISCONN)),
        }
        let target = target.ok_or(ECONNREFUSED)?;
        let mut effects = Effects::none();
        if full {
            if call.status & O_NONBLOCK != 0 {
                return Err(Refusal::Errno(EAGAIN));
            }
            if let Some(listener) = self.sockets.get_mut(target)?.listener() {
                listener.connecting.push_back(Connecting { call: call.id, from: ino });
            }
            self.parked.insert(call.id, Wait::Socket(target));
            effects.park(call.id, Reason::Peer);
            return Ok(effects);
        }
        self.make_connection(ino, target, Credentials::of(&call.caller), env)?;
        effects.result(call.id, 0);
        self.serve_accepting(target, &mut effects, env);
        self.refresh_socket(ino, &mut effects);
        Ok(effects)
    }

    /// Makes the other end of a connection, which waits to be accepted.
    fn make_connection(
        &mut self,
        ino: Ino,
        target: Ino,
        credentials: Credentials,
        env: &dyn Env,
    ) -> Result<(), i32> {
        let listening = self.sockets.get(target)?;
        let (kind, address) = (listening.kind, listening.address.clone());
        let (theirs, options) = (listening.credentials, listening.options.clone());
        let end = self.new_socket(kind, theirs, env)?;
        let client = self.sockets.get_mut(ino)?;
        let from = client.address.clone();
        client.credentials = credentials;
        client.state = State::Connected { peer: end, address: address.clone(), credentials: theirs };
        let made = self.sockets.get_mut(end)?;
        made.state = State::Connected { peer: ino, address: from, credentials };
        made.address = address;
        made.options = options;
        if kind == Type::Stream {
            self.open_pipes(ino, end);
        }
        if let Some(listener) = self.sockets.get_mut(target)?.listener() {
            listener.pending.push_back(end);
        }
        Ok(())
    }

    /// The two directions of a stream, both ends open. Ends that have a session already are told of by it.
    pub(super) fn open_pipes(&mut self, one: Ino, other: Ino) {
        for ino in [one, other] {
            self.pipes.insert(ino, crate::pipe::Pipe::open_both());
        }
        for ino in [one, other] {
            if let Some(badge) = self.sockets.all.get(&ino).and_then(|socket| socket.badge) {
                self.add_end(one, badge);
                self.add_end(other, badge);
            }
        }
    }

    /// accept(2) and accept4(2).
    pub(super) fn accept(
        &mut self,
        call: &Call,
        foreign: &Foreign,
        ino: Ino,
        flags: u64,
        env: &mut dyn Env,
    ) -> Outcome {
        let flags = u32::try_from(flags).ok().filter(|flags| flags & !(O_CLOEXEC | O_NONBLOCK) == 0);
        let flags = flags.ok_or(EINVAL)?;
        let [_, address, length_at, ..] = foreign.arguments;
        let socket = self.sockets.get_mut(ino)?;
        if socket.kind == Type::Datagram {
            return Err(Refusal::Errno(EOPNOTSUPP));
        }
        let shut = socket.shut.0;
        let listener = socket.listener().filter(|_| !shut).ok_or(EINVAL)?;
        if listener.pending.is_empty() && call.status & O_NONBLOCK != 0 {
            return Err(Refusal::Errno(EAGAIN));
        }
        let address = match address {
            0 => None,
            address => Some((address, super::message::length_at(call.id, length_at, env)?, length_at)),
        };
        let waiting = Accepting {
            call: call.id,
            descriptor: u64::from(foreign.slots[0]),
            address,
            status: O_RDWR | flags & O_NONBLOCK,
            close_on_exec: flags & O_CLOEXEC != 0,
        };
        let reason = if listener.pending.is_empty() { Reason::Peer } else { Reason::Server };
        listener.accepting.push_back(waiting);
        self.parked.insert(call.id, Wait::Socket(ino));
        let mut effects = Effects::none();
        effects.park(call.id, reason);
        self.serve_accepting(ino, &mut effects, env);
        Ok(effects)
    }

    /// Gives those who accept the connections that wait.
    fn serve_accepting(&mut self, ino: Ino, effects: &mut Effects, env: &mut dyn Env) {
        while let Some(listener) = self.sockets.all.get_mut(&ino).and_then(Socket::listener) {
            if listener.pending.is_empty() || listener.accepting.is_empty() {
                break;
            }
            let (Some(end), Some(waiting)) = (listener.pending.pop_front(), listener.accepting.pop_front())
            else {
                break;
            };
            self.parked.remove(&waiting.call);
            let outputs = match (waiting.address, self.sockets.all.get(&end).map(|socket| &socket.state)) {
                (Some((at, room, length_at)), Some(State::Connected { address, .. })) => {
                    let bytes = address.to_bytes();
                    let length = (bytes.len() as u32).to_le_bytes().to_vec();
                    vec![(at, bytes.into_iter().take(room as usize).collect()), (length_at, length)]
                }
                _ => Vec::new(),
            };
            let (result, close_on_exec) = (waiting.descriptor, waiting.close_on_exec);
            let new = New { kind: Kind::Socket(end), status: waiting.status };
            self.open(waiting.call, &[new], Then::Install { result, outputs, close_on_exec }, effects, env);
        }
        self.let_connect(ino, effects, env);
        self.refresh_socket(ino, effects);
    }

    /// Connects those who waited for room.
    fn let_connect(&mut self, ino: Ino, effects: &mut Effects, env: &mut dyn Env) {
        while let Some(listener) = self.sockets.all.get_mut(&ino).and_then(Socket::listener) {
            if listener.is_full() {
                return;
            }
            let Some(Connecting { call, from }) = listener.connecting.pop_front() else { return };
            self.parked.remove(&call);
            let state = self.sockets.all.get(&from).map(|socket| &socket.state);
            let Some(State::Alone) = state else {
                effects.result(call, -i64::from(EISCONN));
                continue;
            };
            let credentials = self.sockets.all.get(&from).map(|socket| socket.credentials);
            let made = match credentials {
                Some(credentials) => self.make_connection(from, ino, credentials, env),
                None => Err(EBADF),
            };
            effects.result(call, made.map_or_else(|errno| -i64::from(errno), |()| 0));
            self.refresh_socket(from, effects);
        }
    }

    /// A listening socket is closed: nobody accepts those who connected, and nobody else connects.
    pub(super) fn stop_listening(&mut self, listener: Listener, effects: &mut Effects) {
        for waiting in listener.accepting {
            self.parked.remove(&waiting.call);
            effects.result(waiting.call, -i64::from(EINVAL));
        }
        for waiting in listener.connecting {
            self.parked.remove(&waiting.call);
            effects.result(waiting.call, -i64::from(ECONNREFUSED));
        }
        for end in listener.pending {
            let peer = self.sockets.all.get(&end).and_then(Socket::peer);
            self.forget_socket(end, effects);
            self.tree.reap(end, &mut self.arena);
            if let Some(peer) = peer
                && let Some(socket) = self.sockets.all.get_mut(&peer)
            {
                socket.error = ECONNRESET;
                self.refresh_socket(peer, effects);
            }
        }
    }

    /// connect(2) of datagrams: where they go from now on.
    pub(super) fn connect_datagrams(&mut self, call: &Call, ino: Ino, target: Option<Ino>) -> Outcome {
        let target = target.ok_or(ECONNREFUSED)?;
        let other = self.sockets.all.get(&target).ok_or(ECONNREFUSED)?;
        if other.kind != Type::Datagram {
            return Err(Refusal::Errno(EPROTOTYPE));
        }
        if other.peer().is_some_and(|peer| peer != ino) {
            return Err(Refusal::Errno(EPERM));
        }
        let (address, credentials) = (other.address.clone(), other.credentials);
        self.sockets.get_mut(ino)?.state = State::Connected { peer: target, address, credentials };
        let mut effects = value(call.id, 0)?;
        self.refresh_socket(ino, &mut effects);
        Ok(effects)
    }
}
