//! What goes along with the bytes of a message: descriptors, and who sent it (unix(7), SCM_RIGHTS, SCM_CREDENTIALS).

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use libipc::abi::{CallId, Handle};
use libipc::linux::errno::{EBADF, EINVAL, ENOBUFS, EPERM};
use libipc::server::vectors::{Refusal, read_rest};
use libipc::server::{Caller, Effects, Env, Operation};

/// Level of the control messages that are about sockets as such (SOL_SOCKET).
pub const SOL_SOCKET: u32 = 1;
/// Descriptors.
pub const SCM_RIGHTS: u32 = 1;
/// `struct ucred`.
pub const SCM_CREDENTIALS: u32 = 2;
/// Bytes of `struct cmsghdr`.
pub const HEADER: u64 = 16;
/// Most descriptors in one message (SCM_MAX_FD).
const DESCRIPTORS_MAX: usize = 253;
/// Most bytes of control messages with one message (net.core.optmem_max).
const CONTROL_MAX: u64 = 20480;

/// Process, user and group, as `struct ucred` has them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Credentials {
    /// Process id.
    pub pid: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Credentials {
    /// A caller's.
    pub fn of(caller: &Caller) -> Credentials {
        Credentials { pid: caller.pid, uid: caller.uid, gid: caller.gid }
    }

    /// As the structure lies in memory.
    pub fn to_bytes(self) -> Vec<u8> {
        [self.pid, self.uid, self.gid].into_iter().flat_map(u32::to_le_bytes).collect()
    }
}

/// What a sender wants to go along, by its own numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Parcel {
    /// Its descriptors.
    pub descriptors: Vec<u32>,
    /// Who it says it is, or is.
    pub credentials: Option<Credentials>,
}

impl Parcel {
    /// Whether nothing is to go along.
    pub fn is_empty(&self) -> bool {
        self.descriptors.is_empty() && self.credentials.is_none()
    }

    /// Reads the control messages of sendmsg(2): `length` bytes at an address.
    ///
    /// # Errors
    /// `EINVAL` for what is no control message of this family, `ENOBUFS` for too many bytes of them, `EPERM` for
    /// credentials of somebody else, `EFAULT`.
    pub fn read(
        call: CallId,
        (address, length): (u64, u64),
        caller: &Caller,
        env: &mut dyn Env,
    ) -> Result<Parcel, Refusal> {
        let mut parcel = Parcel::default();
        if address == 0 || length < HEADER {
            return Ok(parcel);
        }
        if length > CONTROL_MAX {
            return Err(Refusal::Errno(ENOBUFS));
        }
        let mut bytes = Vec::new();
        read_rest(call, address, length, &mut bytes, env)?;
        let mut rest = bytes.as_slice();
        while let Some((header, behind)) = rest.split_first_chunk::<{ HEADER as usize }>() {
            let word = u128::from_le_bytes(*header);
            let (size, level, kind) = (word as u64, (word >> 64) as u32, (word >> 96) as u32);
            let data = size.checked_sub(HEADER).and_then(|data| behind.get(..usize::try_from(data).ok()?));
            let data = data.ok_or(EINVAL)?;
            if level == SOL_SOCKET {
                parcel.add(kind, data, caller)?;
            }
            rest = behind.get(data.len().next_multiple_of(8)..).unwrap_or_default();
        }
        Ok(parcel)
    }

    fn add(&mut self, kind: u32, data: &[u8], caller: &Caller) -> Result<(), i32> {
        let (words, _) = data.as_chunks::<4>();
        let mut words = words.iter().map(|word| u32::from_le_bytes(*word));
        match kind {
            SCM_RIGHTS if self.descriptors.len() + words.len() > DESCRIPTORS_MAX => Err(EINVAL),
            SCM_RIGHTS => {
                self.descriptors.extend(words);
                Ok(())
            }
            SCM_CREDENTIALS => match (words.next(), words.next(), words.next(), words.next()) {
                (Some(pid), Some(uid), Some(gid), None) => {
                    let given = Credentials { pid, uid, gid };
                    if caller.uid != 0 && given != Credentials::of(caller) {
                        return Err(EPERM);
                    }
                    self.credentials = Some(given);
                    Ok(())
                }
                _ => Err(EINVAL),
            },
            _ => Err(EINVAL),
        }
    }

    /// Becomes a holder of what the descriptors stand for. Nothing may be missing any more for the call.
    ///
    /// # Errors
    /// `EBADF` when one is not open.
    pub fn pack(&self, call: CallId, effects: &mut Effects, env: &mut dyn Env) -> Result<Cargo, i32> {
        let mut cargo = Cargo { handles: Vec::new(), credentials: self.credentials };
        for descriptor in &self.descriptors {
            match env.take_descriptor(call, *descriptor) {
                Ok((handle, _)) => cargo.handles.push(handle),
                Err(_) => {
                    cargo.discard(effects);
                    return Err(EBADF);
                }
            }
        }
        Ok(cargo)
    }
}

/// What is under way with some bytes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cargo {
    /// Sessions, of which this server is a holder meanwhile.
    pub handles: Vec<Handle>,
    /// Who sent it, if the receiver may want to know.
    pub credentials: Option<Credentials>,
}

impl Cargo {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.handles.is_empty() && self.credentials.is_none()
    }

    /// Gives back what nobody received.
    pub fn discard(self, effects: &mut Effects) {
        for handle in self.handles {
            effects.act(Operation::Close { handle });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libipc::server::testing::Script;

    fn message(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = (HEADER + data.len() as u64).to_le_bytes().to_vec();
        bytes.extend(SOL_SOCKET.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn read(bytes: Vec<u8>) -> Result<Parcel, Refusal> {
        let mut script = Script::default();
        let length = bytes.len() as u64;
        script.memory.insert(0x1000, bytes);
        let caller = Caller { pid: 7, uid: 1000, gid: 100, ..Caller::default() };
        Parcel::read(CallId(1), (0x1000, length), &caller, &mut script)
    }

    #[test]
    fn control_messages_follow_each_other_at_multiples_of_eight() {
        let own = Credentials { pid: 7, uid: 1000, gid: 100 };
        let mut bytes = message(SCM_RIGHTS, &5u32.to_le_bytes());
        bytes.extend(message(SCM_CREDENTIALS, &own.to_bytes()));
        bytes.extend(message(SCM_RIGHTS, &6u32.to_le_bytes()));
        assert_eq!(read(bytes), Ok(Parcel { descriptors: alloc::vec![5, 6], credentials: Some(own) }));
    }

    #[test]
    fn what_is_no_control_message_is_refused() {
        let mut too_long = message(SCM_RIGHTS, &5u32.to_le_bytes());
        too_long[0] = 200;
        let mut too_short = message(SCM_RIGHTS, &5u32.to_le_bytes());
        too_short[0] = 15;
        let many = message(SCM_RIGHTS, &[0; 4 * 254]);
        for bytes in [too_long, too_short, many, message(77, &[])] {
            assert_eq!(read(bytes), Err(Refusal::Errno(EINVAL)));
        }
        let other = Credentials { pid: 8, uid: 1000, gid: 100 };
        assert_eq!(read(message(SCM_CREDENTIALS, &other.to_bytes())), Err(Refusal::Errno(EPERM)));
    }
}
