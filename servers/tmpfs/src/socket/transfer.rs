//! Sending and receiving: by which way a socket's bytes go.

use super::cargo::Credentials;
use super::message::{DONT_WAIT, Incoming, NO_SIGNAL, OUT_OF_BAND, Outgoing, PEEK, WAIT_ALL};
use super::receipt::{Delivered, answer_receiver};
use super::{State, Type};
use crate::Tmpfs;
use crate::node::Ino;
use crate::pipe::calls::given;
use crate::pipe::{Manner, Reader};
use crate::transfer::{Outcome, Refusal};
use libipc::linux::errno::*;
use libipc::linux::open::O_NONBLOCK;
use libipc::server::{Call, Effect, Effects, Env};

impl Tmpfs {
    /// Sends; `to` is a socket that has been looked up.
    pub(super) fn socket_send(
        &mut self,
        call: &Call,
        ino: Ino,
        outgoing: Outgoing,
        to: Option<Ino>,
        env: &mut dyn Env,
    ) -> Outcome {
        let socket = self.sockets.get_mut(ino)?;
        if socket.kind != Type::Stream {
            return self.send_packet(call, ino, outgoing, to, env);
        }
        let Outgoing { ranges, flags, to, mut parcel } = outgoing;
        let State::Connected { peer, .. } = socket.state else {
            return Err(Refusal::Errno(if to.is_empty() { ENOTCONN } else { EOPNOTSUPP }));
        };
        if !to.is_empty() {
            return Err(Refusal::Errno(EISCONN));
        }
        if flags & OUT_OF_BAND != 0 {
            return Err(Refusal::Errno(EOPNOTSUPP));
        }
        let quiet = flags & NO_SIGNAL != 0;
        if socket.shut.1 {
            if quiet {
                return Err(Refusal::Errno(EPIPE));
            }
            return Ok(Effects::one(Effect::ForwardForeign { call: call.id, to: self.proc }));
        }
        let passes = |socket: &super::Socket| socket.options.pass_credentials;
        if passes(socket) || self.sockets.all.get(&peer).is_some_and(passes) {
            parcel.credentials.get_or_insert(Credentials::of(&call.caller));
        }
        let nonblock = call.status & O_NONBLOCK != 0 || flags & DONT_WAIT != 0;
        if parcel.is_empty()
            && let Some(effects) = self.pass_on(call, peer, &ranges)
        {
            return Ok(effects);
        }
        let given = given(call).map(<[u8]>::to_vec);
        let manner = Manner { nonblock, quiet, given, parcel };
        self.with_pipe(peer, |pipe, desk| pipe.write(call.id, ranges, manner, desk, env))
    }

    /// Receives.
    pub(super) fn socket_receive(
        &mut self,
        call: &Call,
        ino: Ino,
        incoming: Incoming,
        env: &mut dyn Env,
    ) -> Outcome {
        let socket = self.sockets.get_mut(ino)?;
        if socket.kind != Type::Stream {
            return self.receive_packet(call, ino, incoming, env);
        }
        let Incoming { ranges, flags, mut receipt } = incoming;
        let State::Connected { peer, .. } = &socket.state else { return Err(Refusal::Errno(EINVAL)) };
        if flags & OUT_OF_BAND != 0 {
            return Err(Refusal::Errno(EOPNOTSUPP));
        }
        let peer = *peer;
        let (shut, wants_credentials) = (socket.shut.0, socket.options.pass_credentials);
        if self.pipes.get(&ino).is_none_or(|pipe| pipe.length() == 0) {
            let error = self.sockets.get_mut(ino)?.take_error();
            if error.is_err() {
                let mut effects = Effects::none();
                effects.result(call.id, -i64::from(error.err().unwrap_or(ECONNRESET)));
                self.refresh_socket(ino, &mut effects);
                return Ok(effects);
            }
            if shut {
                let mut effects = Effects::none();
                let nothing = Delivered::default();
                answer_receiver(&mut effects, (call.id, 0), receipt.as_ref(), nothing, None);
                return Ok(effects);
            }
        }
        if let Some(receipt) = &mut receipt {
            receipt.wants_credentials = wants_credentials;
            receipt.from = self.sockets.address_of(peer).of_sender();
        }
        let nonblock = call.status & O_NONBLOCK != 0 || flags & DONT_WAIT != 0;
        let (peek, whole) = (flags & PEEK != 0, flags & WAIT_ALL != 0);
        let reader = Reader { call: call.id, ranges, done: 0, peek, whole, receipt };
        self.with_pipe(ino, |pipe, desk| pipe.read(reader, nonblock, desk, env))
    }
}
