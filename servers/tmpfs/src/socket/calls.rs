//! The system calls that make sockets and use them: which function serves which.

use alloc::{vec, vec::Vec};

use super::address::Address;
use super::cargo::Credentials;
use super::message::{Incoming, Outgoing};
use super::{Socket, State, Type};
use crate::Tmpfs;
use crate::node::{Body, Ino, NOWHERE, Node};
use crate::open::{Kind, New, OpenFile, Then};
use crate::transfer::{Outcome, Refusal, value};
use libipc::linux::call as number;
use libipc::linux::errno::*;
use libipc::linux::mode::S_IFSOCK;
use libipc::linux::open::{O_CLOEXEC, O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY};
use libipc::proto::fs::SocketPlace;
use libipc::server::{Call, Effect, Effects, Env, Foreign, ForeignReply, Message, Output};

const AF_UNIX: u64 = super::address::AF_UNIX as u64;
/// The families that a socket can have on Linux, but not here yet (AF_INET, AF_INET6).
const AF_OTHERS: [u64; 2] = [2, 10];
/// The bits of a socket type that are the type.
const TYPE_MASK: u64 = 0xf;
/// One more than the highest type.
const TYPE_MAX: u64 = 11;

/// What socket(2) and socketpair(2) are to make.
struct Wanted {
    kind: Type,
    status: u32,
    close_on_exec: bool,
}

impl Wanted {
    fn decode([family, kind, protocol, ..]: [u64; 6], elsewhere: i32) -> Result<Wanted, i32> {
        let flags = kind & u64::from(u32::MAX) & !TYPE_MASK;
        if flags & !u64::from(O_CLOEXEC | O_NONBLOCK) != 0 {
            return Err(EINVAL);
        }
        let kind = kind & TYPE_MASK;
        match family & u64::from(u32::MAX) {
            AF_UNIX if kind >= TYPE_MAX => return Err(EINVAL),
            AF_UNIX => {}
            family if AF_OTHERS.contains(&family) => return Err(elsewhere),
            _ => return Err(EAFNOSUPPORT),
        }
        if !matches!(protocol & u64::from(u32::MAX), 0 | AF_UNIX) {
            return Err(EPROTONOSUPPORT);
        }
        let status = O_RDWR | (flags as u32 & O_NONBLOCK);
        Ok(Wanted { kind: Type::from_number(kind)?, status, close_on_exec: flags as u32 & O_CLOEXEC != 0 })
    }
}

impl Tmpfs {
    /// A socket that stands to no other.
    pub(super) fn new_socket(
        &mut self,
        kind: Type,
        credentials: Credentials,
        env: &dyn Env,
    ) -> Result<Ino, i32> {
        let owner = (credentials.uid, credentials.gid);
        let node = Node::new(NOWHERE, S_IFSOCK | 0o777, owner, self.wall_ns(env), Body::Special);
        let ino = self.tree.insert(node)?;
        self.sockets.all.insert(ino, Socket::new(kind, credentials));
        Ok(ino)
    }

    /// socket(2).
    pub(crate) fn make_socket(&mut self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Outcome {
        let Wanted { kind, status, close_on_exec } = Wanted::decode(foreign.arguments, EAFNOSUPPORT)?;
        let ino = self.new_socket(kind, Credentials::of(&call.caller), env)?;
        Ok(self.answer_opened(call.id, New { kind: Kind::Socket(ino), status }, close_on_exec, env))
    }

    /// socketpair(2).
    pub(crate) fn make_socket_pair(&mut self, call: &Call, foreign: &Foreign, env: &mut dyn Env) -> Outcome {
        let Wanted { kind, status, close_on_exec } = Wanted::decode(foreign.arguments, EOPNOTSUPP)?;
        let credentials = Credentials::of(&call.caller);
        let one = self.new_socket(kind, credentials, env)?;
        let other = match self.new_socket(kind, credentials, env) {
            Ok(other) => other,
            Err(errno) => {
                self.sockets.all.remove(&one);
                self.tree.reap(one, &mut self.arena);
                return Err(Refusal::Errno(errno));
            }
        };
        for (ino, peer) in [(one, other), (other, one)] {
            let socket = self.sockets.get_mut(ino)?;
            socket.state = State::Connected { peer, address: Address::Unnamed, credentials };
            socket.paired = true;
        }
        if kind == Type::Stream {
            self.open_pipes(one, other);
        }
        let ends = [one, other].map(|ino| New { kind: Kind::Socket(ino), status });
        let descriptors: Vec<u8> = foreign.slots.iter().flat_map(|slot| slot.to_le_bytes()).collect();
        let outputs = vec![(foreign.arguments[3], descriptors)];
        let then = Then::Install { result: 0, outputs, close_on_exec };
        Ok(self.open_now(call.id, &ends, then, env))
    }

    /// The calls on an open socket.
    pub(crate) fn socket_call(
        &mut self,
        call: &Call,
        foreign: &Foreign,
        open: OpenFile,
        env: &mut dyn Env,
    ) -> Outcome {
        let Kind::Socket(ino) = open.kind else { return Err(Refusal::Errno(ENOTSOCK)) };
        let arguments = foreign.arguments;
        match foreign.number {
            number::BIND | number::CONNECT => {
                let bytes = foreign.inputs[0].as_deref().ok_or(EFAULT)?;
                if foreign.number == number::CONNECT && Address::is_unspecified(bytes) {
                    return self.disconnect(call, ino);
                }
                let address = Address::parse(bytes)?;
                self.with_address(call, foreign.number, ino, address, env)
            }
            number::SENDTO | number::SENDMSG => self.send(call, foreign, ino, env),
            number::RECVFROM | number::RECVMSG => self.receive(call, foreign, ino, env),
            number::LISTEN => self.listen(call, ino, arguments[1], env),
            number::ACCEPT => self.accept(call, foreign, ino, 0, env),
            number::ACCEPT4 => self.accept(call, foreign, ino, arguments[3], env),
            number::SHUTDOWN => self.shut_down(call, ino, arguments[1]),
            number::GETSOCKNAME => {
                let address = self.sockets.get(ino)?.address.to_bytes();
                self.tell_address(call, arguments, address, env)
            }
            number::GETPEERNAME => {
                let State::Connected { address, .. } = &self.sockets.get(ino)?.state else {
                    return Err(Refusal::Errno(ENOTCONN));
                };
                let address = address.to_bytes();
                self.tell_address(call, arguments, address, env)
            }
            number::SETSOCKOPT => self.set_option(call, foreign, ino),
            number::GETSOCKOPT => self.get_option(call, foreign, ino, env),
            _ => Err(Refusal::Errno(EOPNOTSUPP)),
        }
    }

    /// write(2), sendto(2) and their relatives.
    pub(crate) fn send(&mut self, call: &Call, foreign: &Foreign, ino: Ino, env: &mut dyn Env) -> Outcome {
        let gathered = foreign.inputs[0].as_deref();
        let outgoing = Outgoing::decode(call, foreign.number, foreign.arguments, gathered, env)?;
        let target = match (self.sockets.get(ino)?.kind, outgoing.to.as_slice()) {
            (Type::Datagram, [_, ..]) => match Address::parse(&outgoing.to)? {
                Address::Unnamed => return Err(Refusal::Errno(EINVAL)),
                Address::Path(_) => return Ok(self.resolve(call)),
                Address::Abstract(name) => Some(*self.sockets.abstracts.get(&name).ok_or(ECONNREFUSED)?),
            },
            _ => None,
        };
        let sent = self.socket_send(call, ino, outgoing, target, env)?;
        Ok(self.limit_wait(call, ino, 1, sent, env))
    }

    /// read(2), recvfrom(2) and their relatives.
    pub(crate) fn receive(&mut self, call: &Call, foreign: &Foreign, ino: Ino, env: &mut dyn Env) -> Outcome {
        let gathered = foreign.inputs[0].as_deref();
        let incoming = Incoming::decode(call, foreign.number, foreign.arguments, gathered, env)?;
        let received = self.socket_receive(call, ino, incoming, env)?;
        Ok(self.limit_wait(call, ino, 0, received, env))
    }

    /// A call that has begun to wait does so no longer than the socket was told (SO_RCVTIMEO, SO_SNDTIMEO).
    fn limit_wait(
        &mut self,
        call: &Call,
        ino: Ino,
        which: usize,
        mut effects: Effects,
        env: &dyn Env,
    ) -> Effects {
        let timeout = self.sockets.all.get(&ino).and_then(|socket| socket.options.timeout_ns(which));
        if let Some(timeout) = timeout
            && self.parked.contains_key(&call.id)
        {
            self.time_out_at(call.id, env.now().saturating_add(timeout), &mut effects);
        }
        effects
    }

    /// Sends a call up to where paths are resolved. It comes back with what the path in it names.
    fn resolve(&self, call: &Call) -> Effects {
        Effects::one(Effect::ForwardForeign { call: call.id, to: self.vfs })
    }

    /// bind(2) and connect(2).
    fn with_address(
        &mut self,
        call: &Call,
        number: u32,
        ino: Ino,
        address: Address,
        env: &mut dyn Env,
    ) -> Outcome {
        let binds = number == number::BIND;
        if binds && self.sockets.get(ino)?.address != Address::Unnamed {
            // A name is given once; asking for any has been done already.
            return if address == Address::Unnamed { value(call.id, 0) } else { Err(Refusal::Errno(EINVAL)) };
        }
        match address {
            Address::Path(_) => Ok(self.resolve(call)),
            Address::Unnamed if binds => {
                self.name_any(ino)?;
                value(call.id, 0)
            }
            Address::Unnamed => Err(Refusal::Errno(EINVAL)),
            Address::Abstract(name) if binds => {
                if self.sockets.abstracts.contains_key(&name) {
                    return Err(Refusal::Errno(EADDRINUSE));
                }
                self.sockets.abstracts.insert(name.clone(), ino);
                self.sockets.get_mut(ino)?.address = Address::Abstract(name);
                value(call.id, 0)
            }
            Address::Abstract(name) => {
                let target = self.sockets.abstracts.get(&name).copied();
                self.connect(call, ino, target, env)
            }
        }
    }

    /// Gives a socket a name that no other has: five hexadecimal digits.
    fn name_any(&mut self, ino: Ino) -> Result<(), i32> {
        const NAMES: u32 = 1 << 20;
        for _ in 0..NAMES {
            self.sockets.last_name = (self.sockets.last_name + 1) % NAMES;
            let name = alloc::format!("{:05x}", self.sockets.last_name).into_bytes();
            if !self.sockets.abstracts.contains_key(&name) {
                self.sockets.abstracts.insert(name.clone(), ino);
                self.sockets.get_mut(ino)?.address = Address::Abstract(name);
                return Ok(());
            }
        }
        Err(ENOSPC)
    }

    fn connect(&mut self, call: &Call, ino: Ino, target: Option<Ino>, env: &mut dyn Env) -> Outcome {
        let socket = self.sockets.get(ino)?;
        if socket.options.pass_credentials && socket.address == Address::Unnamed {
            self.name_any(ino)?;
        }
        match self.sockets.get(ino)?.kind {
            Type::Datagram => self.connect_datagrams(call, ino, target),
            _ => {
                let connecting = self.connect_stream(call, ino, target, env)?;
                Ok(self.limit_wait(call, ino, 1, connecting, env))
            }
        }
    }

    /// connect(2) to AF_UNSPEC: datagrams go nowhere in particular again.
    fn disconnect(&mut self, call: &Call, ino: Ino) -> Outcome {
        let socket = self.sockets.get_mut(ino)?;
        if socket.kind != Type::Datagram {
            return Err(Refusal::Errno(EINVAL));
        }
        socket.state = State::Alone;
        value(call.id, 0)
    }

    /// A call with a path comes back from vfs: with the node that was made (bind) or found.
    pub(crate) fn socket_place(&mut self, call: &Call, message: &Message, env: &mut dyn Env) -> Outcome {
        let SocketPlace { number, arguments, path, device, node } = message.decode().map_err(|_| EINVAL)?;
        let Kind::Socket(ino) = self.opens.get(&call.badge.0).ok_or(EBADF)?.kind else {
            return Err(Refusal::Errno(ENOTSOCK));
        };
        let target = self.sockets.places.get(&(device, node)).copied();
        match number {
            number::BIND => {
                let socket = self.sockets.get_mut(ino)?;
                if socket.address != Address::Unnamed {
                    return Err(Refusal::Errno(EINVAL));
                }
                socket.address = Address::Path(path);
                socket.place = Some((device, node));
                self.sockets.places.insert((device, node), ino);
                value(call.id, 0)
            }
            number::CONNECT => self.connect(call, ino, target, env),
            _ => {
                let outgoing = Outgoing::decode(call, number, arguments, None, env)?;
                let target = Some(target.ok_or(ECONNREFUSED)?);
                let sent = self.socket_send(call, ino, outgoing, target, env)?;
                Ok(self.limit_wait(call, ino, 1, sent, env))
            }
        }
    }

    /// getsockname(2) and getpeername(2).
    fn tell_address(
        &self,
        call: &Call,
        [_, at, length_at, ..]: [u64; 6],
        address: Vec<u8>,
        env: &mut dyn Env,
    ) -> Outcome {
        let room = super::message::length_at(call.id, length_at, env)?;
        let length = (address.len() as u32).to_le_bytes().to_vec();
        let bytes = address.into_iter().take(room as usize).collect();
        let outputs = vec![Output { address: at, bytes }, Output { address: length_at, bytes: length }];
        let mut effects = Effects::none();
        effects.foreign(call.id, ForeignReply { outputs, ..ForeignReply::default() });
        Ok(effects)
    }

    /// shutdown(2).
    fn shut_down(&mut self, call: &Call, ino: Ino, how: u64) -> Outcome {
        let (read, write) = match how as u32 {
            0 => (true, false),
            1 => (false, true),
            2 => (true, true),
            _ => return Err(Refusal::Errno(EINVAL)),
        };
        let socket = self.sockets.get_mut(ino)?;
        let before = socket.shut;
        socket.shut = (before.0 || read, before.1 || write);
        let (kind, peer, now) = (socket.kind, socket.peer(), socket.shut);
        let refused = socket.listener().filter(|_| read).map(|listener| {
            (core::mem::take(&mut listener.accepting), core::mem::take(&mut listener.connecting))
        });
        let mut effects = value(call.id, 0)?;
        if let Some((accepting, connecting)) = refused {
            let stopped = super::Listener { accepting, connecting, ..super::Listener::default() };
            self.stop_listening(stopped, &mut effects);
        }
        match (kind, peer) {
            (Type::Stream, Some(peer)) => {
                if now.0 && !before.0 {
                    self.on_pipe(ino, &mut effects, |pipe, desk| {
                        pipe.leave(O_RDONLY, desk);
                        pipe.end_readers(desk);
                    });
                }
                if now.1 && !before.1 {
                    self.on_pipe(peer, &mut effects, |pipe, desk| pipe.leave(O_WRONLY, desk));
                }
                self.refresh_socket(peer, &mut effects);
            }
            (Type::Packets, Some(peer)) => {
                if let Some(other) = self.sockets.all.get_mut(&peer) {
                    other.shut = (other.shut.0 || write, other.shut.1 || read);
                }
                if write {
                    self.end_of_packets(peer, &mut effects);
                }
                self.refresh_socket(peer, &mut effects);
            }
            _ => {}
        }
        if read && kind != Type::Stream {
            self.end_of_packets(ino, &mut effects);
        }
        self.refresh_socket(ino, &mut effects);
        Ok(effects)
    }

    /// The bytes that can be read at once, or that wait at the other side (SIOCINQ, SIOCOUTQ).
    pub(crate) fn socket_queue(&self, ino: Ino, outgoing: bool) -> Result<u64, i32> {
        let socket = self.sockets.get(ino)?;
        let length = |ino| self.pipes.get(&ino).map_or(0, |pipe| pipe.length());
        match (&socket.state, socket.kind, outgoing) {
            (State::Listening(_), ..) => Err(EINVAL),
            (_, Type::Stream, false) => Ok(length(ino)),
            (_, Type::Stream, true) => Ok(socket.peer().map_or(0, length)),
            (_, _, false) => Ok(socket.packets.first_length()),
            (_, _, true) => Ok(0),
        }
    }
}
