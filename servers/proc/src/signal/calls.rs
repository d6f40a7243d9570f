//! The system calls by which a thread governs its own signals.

use alloc::boxed::Box;
use alloc::vec::Vec;

use libipc::abi::syscall::When;
use libipc::linux::call::{PPOLL, PSELECT6};
use libipc::linux::errno::{EAGAIN, EFAULT, EINVAL, ENOMEM, EPERM};
use libipc::linux::signal::SIGSEGV;
use libipc::server::Effect;
use libipc::server::effect::Operation;

use super::frame::{self, FRAME_BYTES};
use super::{AlternateStack, SS_AUTODISARM, SS_DISABLE, SS_ONSTACK, SigInfo, SignalSet, UNBLOCKABLE};
use crate::Proc;
use crate::memory::{half_at, word_at};
use crate::thread::{On, Thread};
use crate::time::nanoseconds;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno, piece};

/// Bytes of `sigset_t` as the calls want it named.
const SET_BYTES: u64 = 8;
/// The smallest alternate stack.
const MINSIGSTKSZ: u64 = 2048;

const SIG_BLOCK: i32 = 0;
const SIG_UNBLOCK: i32 = 1;
const SIG_SETMASK: i32 = 2;

fn set(bytes: &[u8]) -> SignalSet {
    SignalSet(word_at(bytes, 0))
}

impl Proc {
    /// The thread that makes a call. It exists: calls of threads that are over are answered before they get here.
    pub(crate) fn caller(&self, asked: &Asked) -> Result<&Thread, Refusal> {
        self.threads.get(&asked.tid).ok_or(Refusal::Errno(EFAULT))
    }

    pub(crate) fn rt_sigprocmask(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let old = self.caller(asked)?.blocked;
        if asked.word(3) != SET_BYTES {
            return errno(EINVAL);
        }
        if let Some(bytes) = asked.input(0) {
            let given = set(bytes);
            let mask = match asked.int(0) {
                SIG_BLOCK => old.or(given),
                SIG_UNBLOCK => old.less(given),
                SIG_SETMASK => given,
                _ => return errno(EINVAL),
            };
            self.set_mask(asked.tid, mask, turn);
        }
        Reply::bytes(asked.word(2), old.0.to_le_bytes().to_vec())
    }

    pub(crate) fn rt_sigpending(&mut self, asked: &Asked, _: &mut Turn) -> Outcome {
        if asked.word(1) > SET_BYTES {
            return errno(EINVAL);
        }
        let thread = self.caller(asked)?;
        let shared = self.processes.get(&asked.pid).map(|process| process.pending.set()).unwrap_or_default();
        let pending = thread.pending.set().or(shared).and(thread.blocked);
        let bytes = pending.0.to_le_bytes().into_iter().take(asked.word(1) as usize).collect();
        Reply::bytes(asked.word(0), bytes)
    }

    pub(crate) fn rt_sigsuspend(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        if asked.word(1) != SET_BYTES {
            return errno(EINVAL);
        }
        let mask = set(asked.needed(0)?);
        let old = self.caller(asked)?.blocked;
        self.set_mask(asked.tid, mask, turn);
        if let Some(thread) = self.threads.get_mut(&asked.tid) {
            thread.saved_mask = Some(old);
        }
        self.park(asked.tid, asked.id, On::Pause, turn);
        Ok(Reply::Later)
    }

    /// ppoll(2), pselect6(2), epoll_pwait(2) and epoll_pwait2(2) with a signal mask: it holds until the call is over,
    /// and the call is another server's.
    pub(crate) fn masked_wait(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let (mut address, mut size) = match asked.foreign.number {
            PPOLL => (asked.word(3), asked.word(4)),
            PSELECT6 => {
                let pair = asked.needed(1)?;
                (word_at(pair, 0), word_at(pair, 8))
            }
            _ => (asked.word(4), asked.word(5)),
        };
        if address == 0 {
            // Of pselect6: a pair that names no mask.
            (address, size) = (0, SET_BYTES);
        }
        if size != SET_BYTES {
            return errno(EINVAL);
        }
        if address != 0 {
            let mask = set(&turn.env.read_user(asked.id, address, SET_BYTES as u32)?);
            let thread = self.caller(asked)?;
            let (old, handle) = (thread.blocked, thread.handle);
            self.set_mask(asked.tid, mask, turn);
            if let Some(thread) = self.threads.get_mut(&asked.tid) {
                thread.saved_mask = Some(old);
            }
            turn.act(Operation::ThreadInterrupt { thread: handle, when: When::AfterCall });
        }
        turn.out.push(Effect::ForwardForeign { call: asked.id, to: self.vfs });
        Ok(Reply::Later)
    }

    pub(crate) fn pause(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        self.park(asked.tid, asked.id, On::Pause, turn);
        Ok(Reply::Later)
    }

    pub(crate) fn rt_sigtimedwait(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        if asked.word(3) != SET_BYTES {
            return errno(EINVAL);
        }
        let set = set(asked.needed(0)?).less(UNBLOCKABLE);
        let timeout = asked.input(1).map(nanoseconds).transpose()?;
        if let Some(info) = self.take_one_of(asked.tid, set) {
            return Ok(Reply::Pieces(i64::from(info.signal), piece(asked.word(1), info.to_bytes())));
        }
        if timeout == Some(0) {
            return errno(EAGAIN);
        }
        let deadline_ns = timeout.map(|timeout| turn.env.now().saturating_add(timeout));
        self.park(
            asked.tid,
            asked.id,
            On::Signal { set, info: asked.word(1), deadline_ns, record: false },
            turn,
        );
        Ok(Reply::Later)
    }

    pub(crate) fn sigaltstack(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let thread = self.caller(asked)?;
        let old = thread.alternate;
        let registers = turn.env.registers(thread.handle).map_err(|_| Refusal::Errno(EFAULT))?;
        let stack_pointer = registers.rsp;
        if let Some(bytes) = asked.input(0) {
            if old.size > 0 && old.holds(stack_pointer) {
                return errno(EPERM);
            }
            let new = alternate_stack(bytes)?;
            if let Some(thread) = self.threads.get_mut(&asked.tid) {
                thread.alternate = new;
            }
        }
        Reply::bytes(asked.word(1), old.to_bytes(stack_pointer))
    }

    pub(crate) fn rt_sigreturn(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        match self.read_frame(asked, turn) {
            Ok((restored, fpu)) => {
                let Some(thread) = self.threads.get_mut(&asked.tid) else { return Reply::DONE };
                thread.alternate = restored.stack;
                let (thread, registers) = (thread.handle, restored.registers);
                self.set_mask(asked.tid, restored.mask, turn);
                turn.act(Operation::ThreadSetRegisters {
                    thread,
                    registers: Box::new(registers),
                    fpu: Some(fpu),
                });
                Ok(Reply::Value(restored.registers.rax as i64))
            }
            Err(Refusal::Again) => Err(Refusal::Again),
            Err(Refusal::Errno(_)) => {
                self.force(asked.tid, SigInfo::kernel(SIGSEGV), turn);
                Reply::DONE
            }
        }
    }

    /// Reads the frame that a handler returns through, and the FPU state it points to.
    fn read_frame(&self, asked: &Asked, turn: &mut Turn) -> Result<(frame::Restored, Vec<u8>), Refusal> {
        let bad = Refusal::Errno(EFAULT);
        let thread = self.caller(asked)?;
        let registers = turn.env.registers(thread.handle).map_err(|_| bad)?;
        // The handler's return has taken the restorer's address off the stack.
        let address = registers.rsp.checked_sub(8).ok_or(bad)?;
        let bytes = turn.env.read_user(asked.id, address, FRAME_BYTES as u32)?;
        let restored = frame::parse(&bytes, &registers).ok_or(bad)?;
        let fpu = match restored.fpu_at {
            0 => frame::fresh_fpu(),
            at => frame::sanitised(turn.env.read_user(asked.id, at, frame::FPU_BYTES as u32)?),
        };
        Ok((restored, fpu))
    }
}

/// `stack_t` from a program.
fn alternate_stack(bytes: &[u8]) -> Result<AlternateStack, Refusal> {
    let (base, flags, size) = (word_at(bytes, 0), half_at(bytes, 8), word_at(bytes, 16));
    match flags & !SS_AUTODISARM {
        SS_DISABLE => Ok(AlternateStack { flags, ..AlternateStack::default() }),
        0 | SS_ONSTACK if size < MINSIGSTKSZ => errno(ENOMEM),
        0 | SS_ONSTACK => Ok(AlternateStack { base, size, flags: flags & SS_AUTODISARM }),
        _ => errno(EINVAL),
    }
}
