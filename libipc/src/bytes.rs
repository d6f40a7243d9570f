//! Byte strings in messages, encoded and decoded as a whole: serde takes a `Vec<u8>` byte by byte, which costs some
//! forty instructions for each. For `#[serde(with = "crate::bytes")]`; the encoding is the same.

use alloc::vec::Vec;
use core::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

/// Encodes a byte string.
pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

/// Decodes a byte string.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    deserializer.deserialize_byte_buf(Whole)
}

struct Whole;

impl Visitor<'_> for Whole {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }
}

/// The same for a file's first bytes under the file's name, which may be missing.
pub mod of_file {
    use super::*;

    type FileBytes = Option<((u64, u64), Vec<u8>)>;

    struct Borrowed<'a>(&'a [u8]);
    struct Owned(Vec<u8>);

    impl Serialize for Borrowed<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            super::serialize(self.0, serializer)
        }
    }

    impl<'de> Deserialize<'de> for Owned {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Owned, D::Error> {
            super::deserialize(deserializer).map(Owned)
        }
    }

    /// Encodes it.
    pub fn serialize<S: Serializer>(value: &FileBytes, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(|(file, bytes)| (file, Borrowed(bytes))).serialize(serializer)
    }

    /// Decodes it.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<FileBytes, D::Error> {
        let value = Option::<((u64, u64), Owned)>::deserialize(deserializer)?;
        Ok(value.map(|(file, Owned(bytes))| (file, bytes)))
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Slow(Vec<u8>, Option<((u64, u64), Vec<u8>)>);

    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Quick(
        #[serde(with = "crate::bytes")] Vec<u8>,
        #[serde(with = "crate::bytes::of_file")] Option<((u64, u64), Vec<u8>)>,
    );

    #[test]
    fn bytes_moved_as_a_whole_have_the_encoding_of_bytes_moved_singly() {
        for (bytes, file) in [(vec![], None), (vec![1; 300], Some(((2, 3), vec![0xff; 200])))] {
            let encoded = postcard::to_allocvec(&Slow(bytes.clone(), file.clone())).unwrap();
            assert_eq!(postcard::to_allocvec(&Quick(bytes.clone(), file.clone())).unwrap(), encoded);
            assert_eq!(postcard::from_bytes::<Quick>(&encoded).unwrap(), Quick(bytes, file));
        }
    }

    #[test]
    fn a_byte_string_that_is_cut_short_is_an_error() {
        assert!(postcard::from_bytes::<Quick>(&[5, 1, 2]).is_err());
    }
}
