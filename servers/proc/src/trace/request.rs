//! ptrace(2): which request does what, and in which state of the thread it may be made.

use alloc::vec::Vec;

use libipc::linux::errno::{EFAULT, EINVAL, EIO, ENODEV, ESRCH};
use libipc::linux::ptrace::*;
use libipc::linux::signal::{SIGKILL, SIGTRAP};
use libipc::server::Output;

use super::registers::{self, REGISTERS_BYTES};
use super::{Kind, attach};
use crate::Proc;
use crate::id::Tid;
use crate::memory::{half_at, word_at, words};
use crate::signal::frame::FPU_BYTES;
use crate::signal::{Aim, Detail, SIGINFO_BYTES, SigInfo, SignalSet, UNBLOCKABLE};
use crate::thread::Thread;
use crate::turn::{Asked, Outcome, Refusal, Reply, Turn, errno, piece};

/// Most bytes that go with an answer; more are written before it.
const PIECE_MAX: usize = 256;
/// Bytes of `struct iovec`.
const IOVEC_BYTES: u32 = 16;

impl Proc {
    /// ptrace(2).
    pub(crate) fn ptrace(&mut self, asked: &Asked, turn: &mut Turn) -> Outcome {
        let (request, tid) = (asked.unsigned(0), Tid(asked.unsigned(1)));
        match request {
            PTRACE_TRACEME => return self.trace_me(asked),
            PTRACE_ATTACH | PTRACE_SEIZE => return self.attach(asked, turn),
            PTRACE_CORE_NOTES => return self.core_notes(asked, turn),
            _ => {}
        }
        let none = Refusal::Errno(ESRCH);
        let thread = self.threads.get(&tid).ok_or(none)?;
        let trace = thread.trace.as_deref().filter(|trace| trace.tracer == asked.tid).ok_or(none)?;
        match request {
            PTRACE_KILL => {
                self.send(Aim::Process(thread.pid), SigInfo::kernel(SIGKILL), turn);
                return Reply::DONE;
            }
            PTRACE_INTERRUPT if !trace.seized => return errno(EIO),
            PTRACE_INTERRUPT => {
                self.trap(tid, turn);
                return Reply::DONE;
            }
            _ => {}
        }
        let held = thread.waiting.as_ref().map(|waiting| waiting.call);
        let stopped = trace.stop.as_ref().is_some_and(|stop| !stop.listening);
        let held = held.filter(|_| stopped).ok_or(none)?;
        match request {
            PTRACE_CONT | PTRACE_SYSCALL | PTRACE_SINGLESTEP | PTRACE_DETACH | PTRACE_LISTEN => {
                self.move_tracee(asked, request, tid, turn)
            }
            PTRACE_PEEKTEXT | PTRACE_PEEKDATA => self.peek(asked, held, turn),
            PTRACE_POKETEXT | PTRACE_POKEDATA => self.poke(asked, tid, held, turn),
            PTRACE_PEEKUSER
            | PTRACE_GETREGS
            | PTRACE_GETFPREGS
            | PTRACE_GETREGSET
            | PTRACE_GET_SYSCALL_INFO => self.show_registers(asked, request, tid, turn),
            PTRACE_POKEUSER | PTRACE_SETREGS | PTRACE_SETFPREGS | PTRACE_SETREGSET => {
                self.take_registers(asked, request, tid, turn)
            }
            _ => self.look_after(asked, request, tid, turn),
        }
    }

    /// The requests after which a thread goes on, or is left alone.
    fn move_tracee(&mut self, asked: &Asked, request: u32, tid: Tid, turn: &mut Turn) -> Outcome {
        let signal = attach::signal_number(asked.word(3))?;
        match request {
            PTRACE_DETACH => self.detach(tid, signal, turn),
            PTRACE_LISTEN => return self.listen(tid, turn),
            _ => {
                self.pass(tid, signal, turn);
                self.set_calls(tid, request == PTRACE_SYSCALL, turn);
                self.set_step(tid, request == PTRACE_SINGLESTEP, turn);
                self.leave_group_stop(tid);
                self.go_on(tid, turn);
            }
        }
        Reply::DONE
    }

    /// A thread that is let go from a stop of its process runs although that goes on.
    fn leave_group_stop(&mut self, tid: Tid) {
        let trace = self.threads.get_mut(&tid).and_then(|thread| thread.trace.as_deref_mut());
        if let Some(trace) = trace
            && let Some(stop) = &trace.stop
        {
            trace.past_stop |= stop.counted;
        }
    }

    /// PTRACE_LISTEN.
    fn listen(&mut self, tid: Tid, turn: &mut Turn) -> Outcome {
        let trace = self.threads.get_mut(&tid).and_then(|thread| thread.trace.as_deref_mut());
        let trace = trace.filter(|trace| trace.seized).ok_or(Refusal::Errno(EIO))?;
        let stop = trace.stop.as_mut().filter(|stop| matches!(stop.kind, Kind::Group(_) | Kind::Trap));
        let stop = stop.ok_or(Refusal::Errno(EIO))?;
        (stop.listening, stop.told) = (true, true);
        if core::mem::take(&mut trace.trap) {
            self.trap(tid, turn);
        }
        Reply::DONE
    }

    /// The requests that read registers.
    fn show_registers(&mut self, asked: &Asked, request: u32, tid: Tid, turn: &mut Turn) -> Outcome {
        match request {
            PTRACE_PEEKUSER => {
                let word = self.user_word(tid, asked.word(2), turn)?;
                Ok(Reply::Pieces(0, piece(asked.word(3), word.to_le_bytes().to_vec())))
            }
            PTRACE_GETREGS => {
                let bytes = words(&self.shown_registers(tid, turn)?);
                answer(asked, 0, asked.word(3), bytes, Vec::new(), turn)
            }
            PTRACE_GETFPREGS => {
                let bytes = self.shown_fpu(tid, turn)?;
                answer(asked, 0, asked.word(3), bytes, Vec::new(), turn)
            }
            PTRACE_GET_SYSCALL_INFO => {
                let mut bytes = self.syscall_info(tid, turn)?;
                let length = bytes.len() as i64;
                bytes.truncate(usize::try_from(asked.word(2)).unwrap_or(usize::MAX));
                answer(asked, length, asked.word(3), bytes, Vec::new(), turn)
            }
            _ => {
                let (base, room) = self.register_set(asked, turn)?;
                let mut bytes = match asked.word(2) {
                    NT_PRSTATUS => words(&self.shown_registers(tid, turn)?),
                    _ => self.shown_fpu(tid, turn)?,
                };
                bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
                let length = (bytes.len() as u64).to_le_bytes().to_vec();
                answer(asked, 0, base, bytes, piece(asked.word(3) + 8, length), turn)
            }
        }
    }

    /// Where the registers of PTRACE_GETREGSET and PTRACE_SETREGSET lie in the tracer, and how many bytes.
    fn register_set(&self, asked: &Asked, turn: &mut Turn) -> Result<(u64, u64), Refusal> {
        match asked.word(2) {
            NT_PRSTATUS | NT_PRFPREG => {}
            // There is no extended state.
            NT_X86_XSTATE => return errno(ENODEV),
            _ => return errno(EINVAL),
        }
        let vector = turn.env.read_user(asked.id, asked.word(3), IOVEC_BYTES)?;
        Ok((word_at(&vector, 0), word_at(&vector, 8)))
    }

    /// The requests that set registers.
    fn take_registers(&mut self, asked: &Asked, request: u32, tid: Tid, turn: &mut Turn) -> Outcome {
        let (set, address, length) = match request {
            PTRACE_POKEUSER => {
                self.set_user_word(tid, asked.word(2), asked.word(3), turn)?;
                return Reply::DONE;
            }
            PTRACE_SETREGS => (NT_PRSTATUS, asked.word(3), REGISTERS_BYTES),
            PTRACE_SETFPREGS => (NT_PRFPREG, asked.word(3), FPU_BYTES),
            _ => {
                let (base, length) = self.register_set(asked, turn)?;
                (asked.word(2), base, length)
            }
        };
        let mut bytes = match set {
            NT_PRSTATUS => words(&self.shown_registers(tid, turn)?),
            _ => self.shown_fpu(tid, turn)?,
        };
        if !length.is_multiple_of(8) {
            return errno(EINVAL);
        }
        let given = turn.env.read_user(asked.id, address, length.min(bytes.len() as u64) as u32)?;
        bytes[..given.len()].copy_from_slice(&given);
        match set {
            NT_PRSTATUS => self.set_shown_registers(tid, &registers::parse(&bytes), turn)?,
            _ => self.set_fpu(tid, bytes, turn)?,
        }
        Reply::DONE
    }

    /// The requests about options, events, signals and masks.
    fn look_after(&mut self, asked: &Asked, request: u32, tid: Tid, turn: &mut Turn) -> Outcome {
        let given = match request {
            PTRACE_SETSIGINFO => turn.env.read_user(asked.id, asked.word(3), SIGINFO_BYTES as u32)?,
            PTRACE_SETSIGMASK => turn.env.read_user(asked.id, asked.word(3), 8)?,
            _ => Vec::new(),
        };
        let Some(thread) = self.threads.get_mut(&tid) else { return errno(ESRCH) };
        let blocked = thread.saved_mask.unwrap_or(thread.blocked);
        if matches!(request, PTRACE_GETSIGMASK | PTRACE_SETSIGMASK) && asked.word(2) != 8 {
            return errno(EINVAL);
        }
        let Some(trace) = thread.trace.as_deref_mut() else { return errno(ESRCH) };
        match request {
            PTRACE_SETOPTIONS => trace.options = attach::options(asked.word(3))?,
            PTRACE_GETEVENTMSG => return needed(asked.word(3), trace.message.to_le_bytes().to_vec()),
            PTRACE_GETSIGINFO => {
                let info = siginfo(thread).ok_or(Refusal::Errno(EINVAL))?;
                return needed(asked.word(3), info.to_bytes());
            }
            PTRACE_SETSIGINFO => match trace.stop.as_mut().map(|stop| &mut stop.kind) {
                Some(Kind::Signal(info)) => *info = parsed(&given, info.signal),
                _ => return errno(EINVAL),
            },
            PTRACE_GETSIGMASK => return needed(asked.word(3), blocked.0.to_le_bytes().to_vec()),
            PTRACE_SETSIGMASK => thread.blocked = SignalSet(word_at(&given, 0)).less(UNBLOCKABLE),
            _ => return errno(EIO),
        }
        Reply::DONE
    }
}

/// What PTRACE_GETSIGINFO tells of a stop; nothing of a group's, of a thread that was not seized.
fn siginfo(thread: &Thread) -> Option<SigInfo> {
    let trace = thread.trace.as_deref()?;
    let kind = &trace.stop.as_ref()?.kind;
    match kind {
        Kind::Signal(info) => Some(info.clone()),
        Kind::Group(_) if !trace.seized => None,
        Kind::Group(_) | Kind::Trap | Kind::Event(_) | Kind::Entry | Kind::Exit => {
            let code = trace.word(kind) as i32;
            let signal = if let Kind::Group(signal) = kind { *signal } else { SIGTRAP };
            let detail = Detail::Sender { pid: thread.tid.0, uid: 0 };
            Some(SigInfo { signal, errno: 0, code, detail })
        }
    }
}

/// `siginfo_t` from a tracer.
fn parsed(bytes: &[u8], signal: u8) -> SigInfo {
    let signal = u8::try_from(half_at(bytes, 0)).unwrap_or(signal);
    let (errno, code) = (half_at(bytes, 4) as i32, half_at(bytes, 8) as i32);
    SigInfo { signal, errno, code, detail: Detail::Raw(bytes.get(12..).unwrap_or_default().to_vec()) }
}

/// An answer with bytes for an address that must be one.
fn needed(address: u64, bytes: Vec<u8>) -> Outcome {
    if address == 0 { errno(EFAULT) } else { Ok(Reply::Pieces(0, piece(address, bytes))) }
}

/// An answer with bytes, be they few or many.
fn answer(
    asked: &Asked,
    result: i64,
    address: u64,
    bytes: Vec<u8>,
    mut outputs: Vec<Output>,
    turn: &mut Turn,
) -> Outcome {
    if bytes.len() > PIECE_MAX {
        turn.copy_out(asked.id, address, bytes);
    } else if !bytes.is_empty() {
        outputs.push(Output { address, bytes });
    }
    Ok(Reply::Pieces(result, outputs))
}
