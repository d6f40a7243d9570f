//! Reading a caller's memory: in blocks, each once per step. A block lies within a page, which is readable as a whole
//! or not at all, so reading more than was asked for does no harm. Nothing here outlives a step; what is needed later
//! is read again.

use alloc::{collections::BTreeMap, vec::Vec};

use libipc::abi::CallId;
use libipc::server::{Env, LeaseError};

/// Bytes in a block: a divisor of a page, and about what the strings of a program fill.
const BLOCK_BYTES: u64 = 512;

/// The memory of the caller of a call, as far as it has been read in this step.
pub struct UserMemory {
    call: CallId,
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl UserMemory {
    /// Nothing read yet.
    pub fn new(call: CallId) -> UserMemory {
        UserMemory { call, blocks: BTreeMap::new() }
    }

    /// How many bytes have been read in this step.
    pub fn bytes_read(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_BYTES
    }

    /// The bytes from an address to the end of its block.
    fn rest_of_block(&mut self, env: &mut dyn Env, address: u64) -> Result<&[u8], LeaseError> {
        let block = address & !(BLOCK_BYTES - 1);
        if !self.blocks.contains_key(&block) {
            let bytes = env.read_user(self.call, block, BLOCK_BYTES as u32)?;
            self.blocks.insert(block, bytes);
        }
        let bytes = self.blocks.get(&block).and_then(|bytes| bytes.get((address - block) as usize..));
        bytes.filter(|bytes| !bytes.is_empty()).ok_or(LeaseError::BadAddress)
    }

    /// So many bytes at an address.
    pub fn bytes(&mut self, env: &mut dyn Env, address: u64, length: u64) -> Result<Vec<u8>, LeaseError> {
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < length {
            let at = address.checked_add(bytes.len() as u64).ok_or(LeaseError::BadAddress)?;
            let wanted = length - bytes.len() as u64;
            let rest = self.rest_of_block(env, at)?;
            bytes.extend_from_slice(&rest[..rest.len().min(usize::try_from(wanted).unwrap_or(usize::MAX))]);
        }
        Ok(bytes)
    }

    /// A 64-bit word.
    pub fn word(&mut self, env: &mut dyn Env, address: u64) -> Result<u64, LeaseError> {
        Ok(word_at(&self.bytes(env, address, 8)?, 0))
    }

    /// A string up to its NUL and with it, or as much of it as is wanted at most.
    pub fn text(&mut self, env: &mut dyn Env, address: u64, most: u64) -> Result<Vec<u8>, LeaseError> {
        let mut text = Vec::new();
        while (text.len() as u64) < most && text.last() != Some(&0) {
            let at = address.checked_add(text.len() as u64).ok_or(LeaseError::BadAddress)?;
            let wanted = usize::try_from(most - text.len() as u64).unwrap_or(usize::MAX);
            let rest = self.rest_of_block(env, at)?;
            let rest = &rest[..rest.len().min(wanted)];
            let end = rest.iter().position(|byte| *byte == 0).map_or(rest.len(), |nul| nul + 1);
            text.extend(&rest[..end]);
        }
        Ok(text)
    }
}

/// The 64-bit little-endian word at an offset; missing bytes are zero.
pub fn word_at(bytes: &[u8], offset: usize) -> u64 {
    let rest = bytes.get(offset..).unwrap_or_default();
    if let Some(word) = rest.first_chunk() {
        return u64::from_le_bytes(*word);
    }
    let mut word = [0; 8];
    word[..rest.len()].copy_from_slice(rest);
    u64::from_le_bytes(word)
}

/// The 32-bit little-endian word at an offset; missing bytes are zero.
pub fn half_at(bytes: &[u8], offset: usize) -> u32 {
    word_at(bytes, offset) as u32
}

/// Words as they lie in memory.
pub fn words(words: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 * words.len());
    words.iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    bytes
}
