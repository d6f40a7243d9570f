//! Addresses: `struct sockaddr_un`.

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use libipc::linux::errno::EINVAL;

/// The family of these sockets (AF_UNIX).
pub const AF_UNIX: u16 = 1;
/// The family that takes a datagram socket's connection back (AF_UNSPEC).
pub const AF_UNSPEC: u16 = 0;
/// Bytes of `struct sockaddr_un`.
const SIZE: usize = 110;

/// An address.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Address {
    /// None.
    #[default]
    Unnamed,
    /// A name of its own, which begins with NUL: what follows that.
    Abstract(Vec<u8>),
    /// A path, without NUL.
    Path(Vec<u8>),
}

impl Address {
    /// An address as a call gives it.
    ///
    /// # Errors
    /// `EINVAL` when it is too short or too long, or of another family.
    pub fn parse(bytes: &[u8]) -> Result<Address, i32> {
        let (family, path) = bytes.split_first_chunk().ok_or(EINVAL)?;
        if u16::from_le_bytes(*family) != AF_UNIX || bytes.len() > SIZE {
            return Err(EINVAL);
        }
        Ok(match path.split_first() {
            None => Address::Unnamed,
            Some((0, name)) => Address::Abstract(name.to_vec()),
            Some(_) => Address::Path(path.iter().copied().take_while(|byte| *byte != 0).collect()),
        })
    }

    /// Whether an address says that there is none (AF_UNSPEC).
    pub fn is_unspecified(bytes: &[u8]) -> bool {
        bytes.first_chunk().is_some_and(|family| u16::from_le_bytes(*family) == AF_UNSPEC)
    }

    /// As calls tell it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = AF_UNIX.to_le_bytes().to_vec();
        match self {
            Address::Unnamed => {}
            Address::Abstract(name) => {
                bytes.push(0);
                bytes.extend(name);
            }
            Address::Path(path) => {
                bytes.extend(path);
                bytes.push(0);
            }
        }
        bytes
    }

    /// As the address of a message's sender, which is nothing when it has none.
    pub fn of_sender(&self) -> Vec<u8> {
        if *self == Address::Unnamed { Vec::new() } else { self.to_bytes() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_as_it_was_given() {
        for bytes in [&b"\x01\0"[..], b"\x01\0/a/path\0", b"\x01\0\0name", b"\x01\0\0na\0me\0", b"\x01\0\0"] {
            assert_eq!(Address::parse(bytes).map(|address| address.to_bytes()), Ok(bytes.to_vec()));
        }
    }

    #[test]
    fn a_path_ends_at_a_nul_or_where_the_address_does() {
        assert_eq!(Address::parse(b"\x01\0ab"), Ok(Address::Path(b"ab".to_vec())));
        assert_eq!(Address::parse(b"\x01\0ab\0cd"), Ok(Address::Path(b"ab".to_vec())));
    }

    #[test]
    fn other_families_and_lengths_are_refused() {
        let long = [&b"\x01\0"[..], &[b'x'; 109]].concat();
        for bytes in [&b""[..], b"\x01", b"\x02\0abc", &long] {
            assert_eq!(Address::parse(bytes), Err(EINVAL));
        }
    }
}
