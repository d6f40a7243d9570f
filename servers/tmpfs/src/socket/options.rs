//! getsockopt(2) and setsockopt(2).

use alloc::{collections::BTreeMap, vec::Vec};
use serde::{Deserialize, Serialize};

use super::cargo::{Credentials, SOL_SOCKET};
use super::{State, Type};
use crate::Tmpfs;
use crate::node::Ino;
use crate::transfer::{Outcome, Refusal, value};
use libipc::linux::errno::*;
use libipc::server::{Call, Env, Foreign, ForeignReply, Output};

const SO_TYPE: u32 = 3;
const SO_ERROR: u32 = 4;
const SO_SNDBUF: u32 = 7;
const SO_RCVBUF: u32 = 8;
const SO_LINGER: u32 = 13;
const SO_PASSCRED: u32 = 16;
const SO_PEERCRED: u32 = 17;
const SO_RCVLOWAT: u32 = 18;
const SO_SNDLOWAT: u32 = 19;
const SO_RCVTIMEO: u32 = 20;
const SO_SNDTIMEO: u32 = 21;
const SO_ACCEPTCONN: u32 = 30;
const SO_SNDBUFFORCE: u32 = 32;
const SO_RCVBUFFORCE: u32 = 33;
const SO_PROTOCOL: u32 = 38;
const SO_DOMAIN: u32 = 39;
/// The same times with 64 bits on every machine.
const SO_RCVTIMEO_NEW: u32 = 66;
const SO_SNDTIMEO_NEW: u32 = 67;
/// Options that are numbers: remembered, without further effect here.
const NUMBERS: [u32; 13] = [1, 2, 5, 6, SO_SNDBUF, SO_RCVBUF, 9, 10, 11, 12, 15, SO_RCVLOWAT, 29];
/// Of those, the ones that are on or off.
const SWITCHES: [u32; 9] = [1, 2, 5, 6, 9, 10, 11, 15, 29];
/// The size of a buffer nobody has changed, and what may be asked for (net.core.wmem_default, wmem_max).
const BUFFER_BYTES: i32 = 212_992;
/// The least size of a buffer, to send and to receive.
const BUFFER_LEAST: [i32; 2] = [4608, 2304];
/// Bytes of `struct timeval`.
const TIME_BYTES: usize = 16;

/// What a socket was told.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Options {
    numbers: BTreeMap<u32, i32>,
    /// Each message tells who sent it.
    pub pass_credentials: bool,
    /// `struct linger`.
    linger: [u32; 2],
    /// How long receiving and sending wait, in microseconds; 0 for ever.
    timeouts_us: [u64; 2],
}

impl Options {
    /// How long receiving (0) or sending (1) waits; `None` for ever.
    pub fn timeout_ns(&self, which: usize) -> Option<u64> {
        self.timeouts_us.get(which).filter(|us| **us > 0).map(|us| us.saturating_mul(1000))
    }

    fn number(&self, option: u32) -> i32 {
        let fallback = match option {
            SO_SNDBUF | SO_RCVBUF => BUFFER_BYTES,
            SO_RCVLOWAT => 1,
            _ => 0,
        };
        self.numbers.get(&option).copied().unwrap_or(fallback)
    }

    fn set_number(&mut self, option: u32, given: i32) {
        let stored = match option {
            SO_SNDBUF => given.min(BUFFER_BYTES).saturating_mul(2).max(BUFFER_LEAST[0]),
            SO_RCVBUF => given.min(BUFFER_BYTES).saturating_mul(2).max(BUFFER_LEAST[1]),
            SO_RCVLOWAT => given.max(1),
            _ if SWITCHES.contains(&option) => i32::from(given != 0),
            _ => given,
        };
        self.numbers.insert(option, stored);
    }

    /// setsockopt(2) at the level of sockets.
    fn set(&mut self, option: u32, bytes: &[u8], privileged: bool) -> Result<(), i32> {
        let int = bytes.first_chunk().map(|bytes| i32::from_le_bytes(*bytes)).ok_or(EINVAL)?;
        match option {
            SO_PASSCRED => self.pass_credentials = int != 0,
            SO_SNDBUFFORCE | SO_RCVBUFFORCE if !privileged => return Err(EPERM),
            SO_SNDBUFFORCE => self.set_number(SO_SNDBUF, int),
            SO_RCVBUFFORCE => self.set_number(SO_RCVBUF, int),
            SO_LINGER => {
                let (words, _) = bytes.as_chunks::<4>();
                let [on, seconds, ..] = words else { return Err(EINVAL) };
                self.linger = [*on, *seconds].map(u32::from_le_bytes);
            }
            SO_RCVTIMEO | SO_RCVTIMEO_NEW => self.timeouts_us[0] = timeout(bytes)?,
            SO_SNDTIMEO | SO_SNDTIMEO_NEW => self.timeouts_us[1] = timeout(bytes)?,
            option if NUMBERS.contains(&option) => self.set_number(option, int),
            _ => return Err(ENOPROTOOPT),
        }
        Ok(())
    }
}

/// `struct timeval` as microseconds.
fn timeout(bytes: &[u8]) -> Result<u64, i32> {
    let (words, _) = bytes.as_chunks::<8>();
    let [seconds, micro, ..] = words else { return Err(EINVAL) };
    let [seconds, micro] = [*seconds, *micro].map(i64::from_le_bytes);
    if !(0..1_000_000).contains(&micro) {
        return Err(EDOM);
    }
    // A time before now is none at all, as on Linux.
    Ok(u64::try_from(seconds).map_or(1, |seconds| seconds.saturating_mul(1_000_000) + micro as u64))
}

impl Tmpfs {
    /// setsockopt(2).
    pub(super) fn set_option(&mut self, call: &Call, foreign: &Foreign, ino: Ino) -> Outcome {
        let [_, level, option, _, length, _] = foreign.arguments;
        let bytes = foreign.inputs[0].as_deref().unwrap_or_default();
        if i32::try_from(length as u32).is_err() {
            return Err(Refusal::Errno(EINVAL));
        }
        if level as u32 != SOL_SOCKET {
            return Err(Refusal::Errno(EOPNOTSUPP));
        }
        if bytes.is_empty() && length > 0 {
            return Err(Refusal::Errno(EFAULT));
        }
        self.sockets.get_mut(ino)?.options.set(option as u32, bytes, call.caller.uid == 0)?;
        value(call.id, 0)
    }

    /// getsockopt(2).
    pub(super) fn get_option(
        &mut self,
        call: &Call,
        foreign: &Foreign,
        ino: Ino,
        env: &mut dyn Env,
    ) -> Outcome {
        let [_, level, option, address, length_at, _] = foreign.arguments;
        let room = super::message::length_at(call.id, length_at, env)?;
        if level as u32 != SOL_SOCKET {
            return Err(Refusal::Errno(EOPNOTSUPP));
        }
        let mut bytes = self.option(ino, option as u32)?;
        bytes.truncate(room as usize);
        let length = (bytes.len() as u32).to_le_bytes().to_vec();
        let outputs = [Output { address, bytes }, Output { address: length_at, bytes: length }].into();
        let mut effects = libipc::server::Effects::none();
        effects.foreign(call.id, ForeignReply { outputs, ..ForeignReply::default() });
        if option as u32 == SO_ERROR {
            self.refresh_socket(ino, &mut effects);
        }
        Ok(effects)
    }

    fn option(&mut self, ino: Ino, option: u32) -> Result<Vec<u8>, i32> {
        let socket = self.sockets.get_mut(ino)?;
        let options = &socket.options;
        let number = match option {
            SO_TYPE => socket.kind.number() as i32,
            SO_ERROR => core::mem::take(&mut socket.error),
            SO_PASSCRED => i32::from(options.pass_credentials),
            SO_SNDLOWAT => 1,
            SO_ACCEPTCONN => i32::from(matches!(socket.state, State::Listening(_))),
            SO_PROTOCOL => 0,
            SO_DOMAIN => i32::from(super::address::AF_UNIX),
            SO_LINGER => return Ok(options.linger.iter().flat_map(|word| word.to_le_bytes()).collect()),
            SO_RCVTIMEO | SO_RCVTIMEO_NEW => return Ok(time_bytes(options.timeouts_us[0])),
            SO_SNDTIMEO | SO_SNDTIMEO_NEW => return Ok(time_bytes(options.timeouts_us[1])),
            SO_PEERCRED => {
                let nobody = Credentials { pid: 0, uid: u32::MAX, gid: u32::MAX };
                let peer = match &socket.state {
                    State::Connected { credentials, .. }
                        if socket.kind != Type::Datagram || socket.paired =>
                    {
                        *credentials
                    }
                    State::Listening(_) => socket.credentials,
                    _ => nobody,
                };
                return Ok(peer.to_bytes());
            }
            option if NUMBERS.contains(&option) => options.number(option),
            _ => return Err(ENOPROTOOPT),
        };
        Ok(number.to_le_bytes().to_vec())
    }
}

fn time_bytes(us: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(TIME_BYTES);
    bytes.extend((us / 1_000_000).to_le_bytes());
    bytes.extend((us % 1_000_000).to_le_bytes());
    bytes
}
