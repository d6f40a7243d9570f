//! Where a receiving call wants to be told what came besides the bytes: the sender's address, control messages, flags
//! (recvfrom(2), recvmsg(2)).

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use super::cargo::{Cargo, HEADER, SCM_CREDENTIALS, SCM_RIGHTS, SOL_SOCKET};
use crate::transfer::OUTPUT_MAX;
use libipc::abi::CallId;
use libipc::server::{Effect, Effects, Env, ForeignReply, Output};

/// MSG_CTRUNC: not all control messages fitted.
const CONTROL_TRUNCATED: u32 = 0x8;
/// MSG_TRUNC: not all of the datagram fitted.
const TRUNCATED: u32 = 0x20;
/// MSG_CMSG_CLOEXEC.
const CLOSE_ON_EXEC: u32 = 0x4000_0000;
/// Where the length of the control messages stands in `struct msghdr`; the flags follow it.
const CONTROL_LENGTH: u64 = 40;

/// What a receiving call wants to be told, and where.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// Its `struct msghdr`, if it has one.
    pub message: Option<u64>,
    /// Where the sender's address goes, and how many bytes of it.
    pub address: Option<(u64, u32)>,
    /// Where the length of that address goes.
    pub address_length: Option<u64>,
    /// Where control messages go, and how many bytes of them.
    pub control: (u64, u64),
    /// Descriptors that come are closed by exec.
    pub close_on_exec: bool,
    /// It wants to know who sent each message (SO_PASSCRED).
    pub wants_credentials: bool,
    /// The address of the other side, for streams.
    pub from: Vec<u8>,
}

/// What came.
#[derive(Clone, Debug, Default)]
pub struct Delivered {
    /// What went along.
    pub cargo: Option<Cargo>,
    /// It stays where it is: the call has only looked.
    pub peeked: bool,
    /// The sender's address.
    pub address: Vec<u8>,
    /// The datagram was longer than the buffers.
    pub truncated: bool,
}

/// Answers a receiving call: what came besides the bytes goes where it wants it, and what it cannot have is given back.
pub fn answer_receiver(
    effects: &mut Effects,
    (call, result): (CallId, i64),
    receipt: Option<&Receipt>,
    delivered: Delivered,
    env: Option<&mut dyn Env>,
) {
    let outputs = match receipt {
        Some(receipt) => receipt.outputs(call, &delivered, effects, env),
        None => Vec::new(),
    };
    effects.foreign(call, ForeignReply { result, outputs, ..ForeignReply::default() });
    if !delivered.peeked
        && let Some(cargo) = delivered.cargo
    {
        // The receiver holds its own now.
        cargo.discard(effects);
    }
}

impl Receipt {
    fn outputs(
        &self,
        call: CallId,
        delivered: &Delivered,
        effects: &mut Effects,
        env: Option<&mut dyn Env>,
    ) -> Vec<Output> {
        let from = if delivered.address.is_empty() { &self.from } else { &delivered.address };
        let (control, control_truncated) = self.control_messages(call, delivered.cargo.as_ref(), env);
        let mut outputs = Vec::new();
        let mut put = |address, bytes: Vec<u8>| match bytes.len() {
            0 => {}
            length if length as u64 > OUTPUT_MAX / 4 => {
                effects.push(Effect::CopyOut { call, address, bytes });
            }
            _ => outputs.push(Output { address, bytes }),
        };
        if let Some((address, room)) = self.address {
            put(address, from.iter().take(room as usize).copied().collect());
        }
        if let Some(at) = self.address_length {
            put(at, (from.len() as u32).to_le_bytes().to_vec());
        }
        if let Some(message) = self.message {
            let flag = |set: bool, flag: u32| if set { flag } else { 0 };
            let flags = flag(control_truncated, CONTROL_TRUNCATED)
                | flag(delivered.truncated, TRUNCATED)
                | flag(self.close_on_exec, CLOSE_ON_EXEC);
            let mut tail = (control.len() as u64).to_le_bytes().to_vec();
            tail.extend(flags.to_le_bytes());
            put(message + CONTROL_LENGTH, tail);
        }
        put(self.control.0, control);
        outputs
    }

    /// The control messages that fit, and whether some did not.
    fn control_messages(
        &self,
        call: CallId,
        cargo: Option<&Cargo>,
        env: Option<&mut dyn Env>,
    ) -> (Vec<u8>, bool) {
        let mut control = Vec::new();
        let mut truncated = false;
        let Some(cargo) = cargo else { return (control, false) };
        let room = if self.control.0 == 0 { 0 } else { self.control.1 };
        if let Some(credentials) = cargo.credentials.filter(|_| self.wants_credentials) {
            truncated |= !append(&mut control, room, SCM_CREDENTIALS, &credentials.to_bytes());
        }
        if let (false, Some(env)) = (cargo.handles.is_empty(), env) {
            let room = room.saturating_sub(control.len() as u64);
            let fit = room.saturating_sub(HEADER) / 4;
            let mut numbers = Vec::new();
            for handle in cargo.handles.iter().take(fit as usize) {
                match env.give_descriptor(call, *handle, self.close_on_exec) {
                    Ok(descriptor) => numbers.extend(descriptor.to_le_bytes()),
                    Err(_) => break,
                }
            }
            truncated |= numbers.len() / 4 < cargo.handles.len();
            if !numbers.is_empty() {
                append(&mut control, self.control.1, SCM_RIGHTS, &numbers);
            }
        }
        (control, truncated)
    }
}

/// Appends a control message; cut where the room ends, which is false.
fn append(control: &mut Vec<u8>, room: u64, kind: u32, data: &[u8]) -> bool {
    let before = control.len() as u64;
    if room < before + HEADER {
        return false;
    }
    let whole = HEADER + data.len() as u64;
    let length = whole.min(room - before);
    control.extend(length.to_le_bytes());
    control.extend(SOL_SOCKET.to_le_bytes());
    control.extend(kind.to_le_bytes());
    control.extend(data.iter().take((length - HEADER) as usize));
    control.resize((before + length.next_multiple_of(8)).min(room) as usize, 0);
    length == whole
}
