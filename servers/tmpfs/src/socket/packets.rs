//! Messages with borders: the queue at the receiver of datagrams and packets.

use alloc::{collections::VecDeque, vec::Vec};
use serde::{Deserialize, Serialize};

use super::cargo::{Cargo, Credentials};
use super::message::{DONT_WAIT, Incoming, OUT_OF_BAND, Outgoing, PEEK, TRUNCATE};
use super::receipt::{Delivered, Receipt, answer_receiver};
use super::{Socket, State, Type};
use crate::arena::{Arena, PAGE, Use};
use crate::node::Ino;
use crate::pipe::buffer::{Buffer, Put};
use crate::pipe::{INLINE_MAX, hand_pieces};
use crate::transfer::{Direction, Outcome, Ranges, Refusal, copy};
use crate::{Tmpfs, Wait};
use libipc::abi::{CallId, Readiness};
use libipc::linux::errno::*;
use libipc::linux::open::O_NONBLOCK;
use libipc::server::effect::Reason;
use libipc::server::{Call, Effects, Env, Operation};

/// Bytes that may wait at one receiver (net.core.wmem_default).
pub const QUEUE_BYTES: u64 = 212_992;
/// What Linux takes of that for itself.
const OVERHEAD: u64 = 32;
/// What even the smallest message takes of a queue.
const LEAST: u64 = 256;
/// Messages that may wait at a receiver from those whom it does not talk to itself (net.unix.max_dgram_qlen).
const QUEUE_LENGTH: usize = 10;

/// A message under way.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Packet {
    bytes: Buffer,
    length: u64,
    /// The sender's address.
    from: Vec<u8>,
    cargo: Cargo,
}

impl Packet {
    fn weight(&self) -> u64 {
        self.length.max(LEAST)
    }

    /// Nobody will read it.
    pub fn discard(mut self, arena: &mut Arena, effects: &mut Effects) {
        self.bytes.release(arena);
        self.cargo.discard(effects);
    }
}

/// A call that waits for a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Receiver {
    call: CallId,
    ranges: Ranges,
    peek: bool,
    /// It wants to know how long the message was.
    tells_length: bool,
    receipt: Option<Receipt>,
}

/// A call whose message waits for room. The message is here already, so that nobody depends on the sender's pages.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Sender {
    call: CallId,
    from: Ino,
    packet: Packet,
}

/// A queue of messages, and who waits for it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Packets {
    queue: VecDeque<Packet>,
    weight: u64,
    reading: VecDeque<Receiver>,
    writing: VecDeque<Sender>,
}

impl Packets {
    /// Takes a waiting call out, with its message if it was sending one.
    pub fn remove_call(&mut self, call: CallId) -> Option<Packet> {
        self.reading.retain(|receiver| receiver.call != call);
        let sender = self.writing.iter().position(|sender| sender.call == call)?;
        self.writing.remove(sender).map(|sender| sender.packet)
    }

    /// Bytes of the first message.
    pub fn first_length(&self) -> u64 {
        self.queue.front().map_or(0, |packet| packet.length)
    }

    fn has_room(&self, weight: u64, mutual: bool) -> bool {
        let short = mutual || self.queue.len() <= QUEUE_LENGTH;
        short && (self.queue.is_empty() || self.weight + weight <= QUEUE_BYTES)
    }

    fn push(&mut self, packet: Packet) {
        self.weight += packet.weight();
        self.queue.push_back(packet);
    }
}

impl Tmpfs {
    /// What a socket with a queue of messages is ready for.
    pub(super) fn packet_readiness(&self, ino: Ino, socket: &Socket) -> Readiness {
        let mut ready = Readiness::empty();
        ready.set(Readiness::IN, !socket.packets.queue.is_empty() || socket.shut.0);
        ready.set(Readiness::RDHUP, socket.shut.0);
        let alone = socket.kind == Type::Packets && socket.peer().is_none();
        ready.set(Readiness::HUP, socket.shut == (true, true) || alone);
        let other = socket.peer().and_then(|peer| self.sockets.all.get(&peer));
        let room = other.is_none_or(|other| other.packets.has_room(LEAST, other.peer() == Some(ino)));
        ready.set(Readiness::OUT, room);
        ready
    }

    /// Sends a message: to a socket that has been looked up, or to the one connected to.
    pub(super) fn send_packet(
        &mut self,
        call: &Call,
        ino: Ino,
        outgoing: Outgoing,
        to: Option<Ino>,
        env: &mut dyn Env,
    ) -> Outcome {
        let target = self.packet_target(ino, outgoing.flags, to)?;
        let total = outgoing.ranges.total();
        if total > QUEUE_BYTES - OVERHEAD {
            return Err(Refusal::Errno(EMSGSIZE));
        }
        let other = self.sockets.get(target)?;
        let room = other.packets.writing.is_empty()
            && other.packets.has_room(total.max(LEAST), other.peer() == Some(ino));
        let nonblock = call.status & O_NONBLOCK != 0 || outgoing.flags & DONT_WAIT != 0;
        if !room && nonblock {
            return Err(Refusal::Errno(EAGAIN));
        }
        let wants_credentials = other.options.pass_credentials;
        let mut effects = Effects::none();
        let bytes = self.load(call.id, &outgoing.ranges, &mut effects, env)?;
        let mut parcel = outgoing.parcel;
        let from = self.sockets.get(ino)?;
        if wants_credentials || from.options.pass_credentials {
            parcel.credentials.get_or_insert(Credentials::of(&call.caller));
        }
        let from = from.address.of_sender();
        let cargo = match parcel.pack(call.id, &mut effects, env) {
            Ok(cargo) => cargo,
            Err(errno) => {
                effects.result(call.id, -i64::from(errno));
                return Ok(effects);
            }
        };
        let packet = Packet { bytes, length: total, from, cargo };
        let packets = &mut self.sockets.get_mut(target)?.packets;
        if room {
            packets.push(packet);
            effects.result(call.id, total as i64);
        } else {
            packets.writing.push_back(Sender { call: call.id, from: ino, packet });
            self.parked.insert(call.id, Wait::Socket(target));
            effects.park(call.id, Reason::Output);
        }
        self.serve_packets(target, &mut effects, env);
        Ok(effects)
    }

    /// The socket that a message is for.
    fn packet_target(&mut self, ino: Ino, flags: u32, to: Option<Ino>) -> Result<Ino, i32> {
        let socket = self.sockets.get(ino)?;
        let kind = socket.kind;
        if flags & OUT_OF_BAND != 0 {
            return Err(EOPNOTSUPP);
        }
        if kind == Type::Packets && socket.peer().is_none() {
            return Err(ENOTCONN);
        }
        if socket.shut.1 {
            return Err(EPIPE);
        }
        let to = if kind == Type::Packets { None } else { to };
        let target = to.or(socket.peer()).ok_or(ENOTCONN)?;
        match self.sockets.all.get(&target) {
            Some(other) if other.kind != kind => Err(EPROTOTYPE),
            Some(other) if kind == Type::Datagram && other.peer().is_some_and(|peer| peer != ino) => {
                Err(EPERM)
            }
            Some(other) if other.shut.0 => Err(EPIPE),
            Some(_) => Ok(target),
            None if kind == Type::Packets => Err(EPIPE),
            None => {
                // The connection is to nobody any more.
                if let Ok(socket) = self.sockets.get_mut(ino)
                    && socket.peer() == Some(target)
                {
                    socket.state = State::Alone;
                }
                Err(ECONNREFUSED)
            }
        }
    }

    /// Takes all of a message's bytes from the sender.
    fn load(
        &mut self,
        call: CallId,
        ranges: &Ranges,
        effects: &mut Effects,
        env: &mut dyn Env,
    ) -> Result<Buffer, Refusal> {
        let total = ranges.total();
        let mut buffer = Buffer::default();
        if !buffer.set_capacity(QUEUE_BYTES) {
            return Err(Refusal::Errno(ENOBUFS));
        }
        if total <= INLINE_MAX {
            if let Put::Write(offset, bytes) = buffer.put_bytes(ranges.gather(call, 0, total, env)?) {
                effects.act(Operation::ArenaWrite { offset, bytes });
            }
            return Ok(buffer);
        }
        if ranges.probe(call, 0, total, env)? < total {
            return Err(Refusal::Errno(EFAULT));
        }
        if self.arena.available(Use::Pipe) < total.div_ceil(PAGE) {
            return Err(Refusal::Errno(ENOBUFS));
        }
        let spans = buffer.put_pages(total, &mut self.arena);
        copy(effects, call, Direction::Write, ranges, 0, &spans);
        Ok(buffer)
    }

    /// Receives a message.
    pub(super) fn receive_packet(
        &mut self,
        call: &Call,
        ino: Ino,
        incoming: Incoming,
        env: &mut dyn Env,
    ) -> Outcome {
        let Incoming { ranges, flags, mut receipt } = incoming;
        let socket = self.sockets.get_mut(ino)?;
        if flags & OUT_OF_BAND != 0 {
            return Err(Refusal::Errno(EOPNOTSUPP));
        }
        if socket.kind == Type::Packets && socket.peer().is_none() {
            return Err(Refusal::Errno(ENOTCONN));
        }
        if let Some(receipt) = &mut receipt {
            receipt.wants_credentials = socket.options.pass_credentials;
        }
        let nonblock = call.status & O_NONBLOCK != 0 || flags & DONT_WAIT != 0;
        if socket.packets.queue.is_empty() {
            socket.take_error()?;
            let ends = socket.shut.0 && (socket.kind == Type::Packets || !nonblock);
            if ends {
                let mut effects = Effects::none();
                let nothing = Delivered::default();
                answer_receiver(&mut effects, (call.id, 0), receipt.as_ref(), nothing, None);
                return Ok(effects);
            }
            if nonblock {
                return Err(Refusal::Errno(EAGAIN));
            }
        }
        let (peek, tells_length) = (flags & PEEK != 0, flags & TRUNCATE != 0);
        socket.packets.reading.push_back(Receiver { call: call.id, ranges, peek, tells_length, receipt });
        let mut effects = Effects::none();
        self.serve_packets(ino, &mut effects, env);
        let packets = &self.sockets.get(ino)?.packets;
        if packets.reading.iter().any(|receiver| receiver.call == call.id) {
            self.parked.insert(call.id, Wait::Socket(ino));
            effects.park(call.id, Reason::Input);
        }
        Ok(effects)
    }

    /// Hands messages to those who wait for them, and takes in what waits for room.
    fn serve_packets(&mut self, ino: Ino, effects: &mut Effects, env: &mut dyn Env) {
        while let Some(socket) = self.sockets.all.get_mut(&ino) {
            let talks_to = socket.peer();
            let packets = &mut socket.packets;
            let admits = packets.writing.front().is_some_and(|sender| {
                packets.has_room(sender.packet.weight(), talks_to == Some(sender.from))
            });
            if admits && let Some(sender) = packets.writing.pop_front() {
                self.parked.remove(&sender.call);
                effects.result(sender.call, sender.packet.length as i64);
                packets.push(sender.packet);
                continue;
            }
            if packets.queue.is_empty() {
                break;
            }
            let Some(receiver) = packets.reading.pop_front() else { break };
            self.parked.remove(&receiver.call);
            self.give_packet(ino, &receiver, effects, env);
        }
        self.refresh_socket(ino, effects);
        // Whoever is connected to it may have room to write now, or none any more.
        if let Some(peer) = self.sockets.all.get(&ino).and_then(Socket::peer) {
            self.refresh_socket(peer, effects);
        }
    }

    fn give_packet(&mut self, ino: Ino, receiver: &Receiver, effects: &mut Effects, env: &mut dyn Env) {
        let Some(socket) = self.sockets.all.get_mut(&ino) else { return };
        let packets = &mut socket.packets;
        let taken = if receiver.peek { packets.queue.front().cloned() } else { packets.queue.pop_front() };
        let Some(mut packet) = taken else { return };
        let length = receiver.ranges.total().min(packet.length);
        let pieces = packet.bytes.peek(length);
        if !receiver.peek {
            packets.weight -= packet.weight();
            packet.bytes.release(&mut self.arena);
        }
        hand_pieces(effects, receiver.call, &receiver.ranges, 0, pieces);
        let result = if receiver.tells_length { packet.length } else { length };
        let delivered = Delivered {
            cargo: Some(packet.cargo),
            peeked: receiver.peek,
            address: packet.from,
            truncated: length < packet.length,
        };
        let to = (receiver.call, result as i64);
        answer_receiver(effects, to, receiver.receipt.as_ref(), delivered, Some(env));
    }

    /// Nothing comes to a socket any more: its readers are at the end, and nobody sends to it.
    pub(super) fn end_of_packets(&mut self, ino: Ino, effects: &mut Effects) {
        let Some(socket) = self.sockets.all.get_mut(&ino) else { return };
        for receiver in core::mem::take(&mut socket.packets.reading) {
            self.parked.remove(&receiver.call);
            let nothing = Delivered::default();
            answer_receiver(effects, (receiver.call, 0), receiver.receipt.as_ref(), nothing, None);
        }
        for sender in core::mem::take(&mut socket.packets.writing) {
            self.parked.remove(&sender.call);
            effects.result(sender.call, -i64::from(EPIPE));
            sender.packet.discard(&mut self.arena, effects);
        }
    }

    /// A socket is gone, with all that waited there.
    pub(super) fn discard_packets(&mut self, packets: Packets, effects: &mut Effects) {
        for packet in packets.queue {
            packet.discard(&mut self.arena, effects);
        }
        for sender in packets.writing {
            self.parked.remove(&sender.call);
            effects.result(sender.call, -i64::from(ECONNREFUSED));
            sender.packet.discard(&mut self.arena, effects);
        }
        for receiver in packets.reading {
            self.parked.remove(&receiver.call);
            effects.result(receiver.call, -i64::from(EBADF));
        }
    }
}
