//! A native message and its typed form.

use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::abi::Handle;

/// A message between servers: a label, four words, payload, handles.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Message {
    /// The protocol's number for the request; 0 or an error in an answer.
    pub label: u32,
    /// Words that travel in registers.
    pub words: [u64; 4],
    /// Up to [`crate::abi::PAYLOAD_MAX`] bytes.
    pub payload: Vec<u8>,
    /// Up to four handles.
    pub handles: Vec<Handle>,
}

/// A message that does not decode as its protocol says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProtocolError;

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the message does not decode as its protocol says")
    }
}

impl core::error::Error for ProtocolError {}

impl Message {
    /// A message of a label alone.
    pub fn label(label: u32) -> Message {
        Message { label, ..Message::default() }
    }

    /// A message of a label and words.
    pub fn words(label: u32, words: [u64; 4]) -> Message {
        Message { label, words, ..Message::default() }
    }

    /// A message whose payload is a protocol's type.
    ///
    /// # Panics
    /// When the value cannot be encoded, which no protocol type allows.
    pub fn typed<T: Serialize>(label: u32, value: &T) -> Message {
        let payload = postcard::to_allocvec(value).expect("protocol types always encode");
        Message { label, payload, ..Message::default() }
    }

    /// The same message with handles.
    pub fn with_handles(mut self, handles: &[Handle]) -> Message {
        self.handles = handles.to_vec();
        self
    }

    /// The payload as a protocol's type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ProtocolError> {
        postcard::from_bytes(&self.payload).map_err(|_| ProtocolError)
    }
}
