//! What sendto(2), recvfrom(2) and their relatives say: buffers, flags, addresses.

use alloc::vec::Vec;

use super::cargo::Parcel;
use super::receipt::Receipt;
use crate::transfer::{Ranges, Refusal};
use libipc::abi::CallId;
use libipc::linux::call as number;
use libipc::linux::errno::*;
use libipc::server::vectors::{COUNT_MAX, VECTORS_MAX, vectors};
use libipc::server::{Call, Env};

/// MSG_OOB.
pub const OUT_OF_BAND: u32 = 0x1;
/// MSG_PEEK.
pub const PEEK: u32 = 0x2;
/// MSG_TRUNC.
pub const TRUNCATE: u32 = 0x20;
/// MSG_DONTWAIT.
pub const DONT_WAIT: u32 = 0x40;
/// MSG_WAITALL.
pub const WAIT_ALL: u32 = 0x100;
/// MSG_NOSIGNAL.
pub const NO_SIGNAL: u32 = 0x4000;
/// MSG_CMSG_CLOEXEC.
const CLOSE_ON_EXEC: u32 = 0x4000_0000;
/// Bytes of `struct msghdr`.
const HEADER: u32 = 56;
/// Where the length of the address stands in it.
const ADDRESS_LENGTH: u64 = 8;
/// Longest address that is looked at (sockaddr_storage).
const ADDRESS_MAX: u32 = 128;

/// `struct msghdr`.
struct Header {
    address: (u64, u32),
    vectors: (u64, u64),
    control: (u64, u64),
}

impl Header {
    fn read(call: CallId, address: u64, env: &mut dyn Env) -> Result<Header, Refusal> {
        let bytes = env.read_user(call, address, HEADER)?;
        let (words, _) = bytes.as_chunks::<8>();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let mut next = || words.next().unwrap_or(0);
        let (name, name_length) = (next(), next() as u32);
        if i32::try_from(name_length).is_err() {
            return Err(Refusal::Errno(EINVAL));
        }
        let vectors = (next(), next());
        if vectors.1 > VECTORS_MAX {
            return Err(Refusal::Errno(EMSGSIZE));
        }
        let length = if name == 0 { 0 } else { name_length.min(ADDRESS_MAX) };
        Ok(Header { address: (name, length), vectors, control: (next(), next()) })
    }
}

/// What a call sends.
pub struct Outgoing {
    /// The bytes.
    pub ranges: Ranges,
    /// MSG_*.
    pub flags: u32,
    /// To whom, as given; empty for nobody in particular.
    pub to: Vec<u8>,
    /// What goes along.
    pub parcel: Parcel,
}

impl Outgoing {
    /// Takes write(2), sendto(2), sendmsg(2) and their relatives apart.
    pub fn decode(
        call: &Call,
        number: u32,
        arguments: [u64; 6],
        gathered: Option<&[u8]>,
        env: &mut dyn Env,
    ) -> Result<Outgoing, Refusal> {
        let [_, first, second, third, fourth, fifth] = arguments;
        let plain = |ranges| Outgoing { ranges, flags: 0, to: Vec::new(), parcel: Parcel::default() };
        match number {
            number::WRITE => Ok(plain(Ranges::one(first, second.min(COUNT_MAX))?)),
            number::SENDTO => {
                let length = fifth as u32;
                let to = match fourth {
                    0 => Vec::new(),
                    _ if length > ADDRESS_MAX => return Err(Refusal::Errno(EINVAL)),
                    address => env.read_user(call.id, address, length)?,
                };
                let ranges = Ranges::one(first, second.min(COUNT_MAX))?;
                Ok(Outgoing { flags: third as u32, to, ..plain(ranges) })
            }
            number::SENDMSG => {
                let header = Header::read(call.id, first, env)?;
                let ranges = Ranges::Many(vectors(call.id, header.vectors, None, env)?);
                let to = match header.address {
                    (_, 0) => Vec::new(),
                    (address, length) => env.read_user(call.id, address, length)?,
                };
                let parcel = Parcel::read(call.id, header.control, &call.caller, env)?;
                Ok(Outgoing { ranges, flags: second as u32, to, parcel })
            }
            _ => Ok(plain(Ranges::Many(vectors(call.id, (first, second), gathered, env)?))),
        }
    }
}

/// What a call receives.
pub struct Incoming {
    /// Where the bytes go.
    pub ranges: Ranges,
    /// MSG_*.
    pub flags: u32,
    /// What else it wants to be told; read(2) wants nothing.
    pub receipt: Option<Receipt>,
}

impl Incoming {
    /// Takes read(2), recvfrom(2), recvmsg(2) and their relatives apart.
    pub fn decode(
        call: &Call,
        number: u32,
        arguments: [u64; 6],
        gathered: Option<&[u8]>,
        env: &mut dyn Env,
    ) -> Result<Incoming, Refusal> {
        let [_, first, second, third, fourth, fifth] = arguments;
        let plain = |ranges| Incoming { ranges, flags: 0, receipt: None };
        match number {
            number::READ => Ok(plain(Ranges::one(first, second.min(COUNT_MAX))?)),
            number::RECVFROM => {
                let ranges = Ranges::one(first, second.min(COUNT_MAX))?;
                let receipt = match (fourth, fifth) {
                    (0, _) => None,
                    (_, 0) => return Err(Refusal::Errno(EFAULT)),
                    (address, at) => {
                        let room = length_at(call.id, at, env)?;
                        Some(Receipt {
                            address: Some((address, room)),
                            address_length: Some(at),
                            ..Receipt::default()
                        })
                    }
                };
                Ok(Incoming { flags: third as u32, receipt, ..plain(ranges) })
            }
            number::RECVMSG => {
                let header = Header::read(call.id, first, env)?;
                let ranges = Ranges::Many(vectors(call.id, header.vectors, None, env)?);
                let flags = second as u32;
                let receipt = Receipt {
                    message: Some(first),
                    address: (header.address.0 != 0).then_some(header.address),
                    address_length: (header.address.0 != 0).then_some(first + ADDRESS_LENGTH),
                    control: header.control,
                    close_on_exec: flags & CLOSE_ON_EXEC != 0,
                    ..Receipt::default()
                };
                Ok(Incoming { ranges, flags, receipt: Some(receipt) })
            }
            _ => Ok(plain(Ranges::Many(vectors(call.id, (first, second), gathered, env)?))),
        }
    }
}

/// The length of an address that a call has room for.
///
/// # Errors
/// `EINVAL` for a negative one, `EFAULT`.
pub fn length_at(call: CallId, address: u64, env: &mut dyn Env) -> Result<u32, Refusal> {
    let bytes = env.read_user(call, address, 4)?;
    let length = bytes.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    if i32::try_from(length).is_ok() { Ok(length) } else { Err(Refusal::Errno(EINVAL)) }
}
