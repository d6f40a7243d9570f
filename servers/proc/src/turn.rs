//! One step in progress: what it may ask, what it has decided so far, and the ways in which serving a call can end.

use alloc::{vec, vec::Vec};

use libipc::abi::syscall::Restart;
use libipc::abi::{CallId, Handle};
use libipc::linux::errno::EFAULT;
use libipc::server::effect::Reason;
use libipc::server::{
    Call, Effect, Effects, Env, Foreign, ForeignReply, LeaseError, Message, Operation, Output,
};

use crate::id::{Pid, Tid};

/// A step in progress.
pub struct Turn<'a> {
    /// What may be asked.
    pub env: &'a mut dyn Env,
    /// What is to be changed outside, in order.
    pub out: Effects,
}

impl<'a> Turn<'a> {
    /// The start of a step.
    pub fn new(env: &'a mut dyn Env) -> Turn<'a> {
        Turn { env, out: Effects::none() }
    }

    /// An operation that cannot fail.
    pub fn act(&mut self, operation: Operation) {
        self.out.act(operation);
    }

    /// Gives a handle back, if it is one.
    pub fn close(&mut self, handle: Handle) {
        if handle != Handle::NONE {
            self.act(Operation::Close { handle });
        }
    }

    /// Answers a Linux call with a value or minus an errno.
    pub fn result(&mut self, call: CallId, result: i64) {
        self.out.result(call, result);
    }

    /// Answers a Linux call that a signal ended.
    pub fn interrupted(&mut self, call: CallId, restart: Restart) {
        let result = -i64::from(libipc::linux::errno::EINTR);
        self.out.foreign(call, ForeignReply { result, restart, ..ForeignReply::default() });
    }

    /// Lets a thread go on from a fault or an attention call.
    pub fn go_on(&mut self, call: CallId) {
        self.out.reply(call, Message::default());
    }

    /// Keeps a call for later.
    pub fn park(&mut self, call: CallId, reason: Reason) {
        self.out.park(call, reason);
    }

    /// Writes bytes into the memory of the caller of a call.
    pub fn copy_out(&mut self, call: CallId, address: u64, bytes: Vec<u8>) {
        self.out.push(Effect::CopyOut { call, address, bytes });
    }
}

/// Why a call is not answered with a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It fails with this errno.
    Errno(i32),
    /// A page of the caller is missing. Nothing has changed, and the event comes again.
    Again,
}

impl From<LeaseError> for Refusal {
    fn from(error: LeaseError) -> Refusal {
        match error {
            LeaseError::NotResident => Refusal::Again,
            // Whatever is answered to a caller that is gone goes nowhere.
            LeaseError::BadAddress | LeaseError::Gone => Refusal::Errno(EFAULT),
        }
    }
}

/// A call's answer when it is not refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The result register.
    Value(i64),
    /// The result register and pieces for the caller's memory.
    Pieces(i64, Vec<Output>),
    /// The call is parked, or has been answered already.
    Later,
}

impl Reply {
    /// Success without a value.
    pub const DONE: Outcome = Ok(Reply::Value(0));

    /// Success, with bytes for the caller's memory unless the address is null.
    pub fn bytes(address: u64, bytes: Vec<u8>) -> Outcome {
        Ok(Reply::Pieces(0, piece(address, bytes)))
    }
}

/// How serving a call ended.
pub type Outcome = Result<Reply, Refusal>;

/// A refusal with this errno.
pub fn errno<T>(number: i32) -> Result<T, Refusal> {
    Err(Refusal::Errno(number))
}

/// Bytes for the caller's memory; none when the address is null.
pub fn piece(address: u64, bytes: Vec<u8>) -> Vec<Output> {
    if address == 0 { Vec::new() } else { vec![Output { address, bytes }] }
}

/// A Linux call being served, and whose it is.
pub struct Asked<'a> {
    /// The reply token.
    pub id: CallId,
    /// Number, arguments and inputs.
    pub foreign: &'a Foreign,
    /// The whole call.
    pub call: &'a Call,
    /// The calling process.
    pub pid: Pid,
    /// The calling thread.
    pub tid: Tid,
}

impl Asked<'_> {
    /// An argument as the register had it.
    pub fn word(&self, index: usize) -> u64 {
        self.foreign.arguments.get(index).copied().unwrap_or(0)
    }

    /// An argument declared `int`: Linux ignores the upper half of the register.
    pub fn int(&self, index: usize) -> i32 {
        self.word(index) as i32
    }

    /// An argument declared `unsigned int`.
    pub fn unsigned(&self, index: usize) -> u32 {
        self.word(index) as u32
    }

    /// A gathered input; `None` for a null pointer.
    pub fn input(&self, index: usize) -> Option<&[u8]> {
        self.foreign.inputs.get(index)?.as_deref()
    }

    /// A gathered input that must be there.
    pub fn needed(&self, index: usize) -> Result<&[u8], Refusal> {
        self.input(index).ok_or(Refusal::Errno(EFAULT))
    }
}
