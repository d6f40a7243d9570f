//! The registers of a stopped thread as tracers know them: `struct user_regs_struct` and `struct user` of
//! asm/user_64.h, `struct ptrace_syscall_info`, and the FXSAVE state.

use alloc::boxed::Box;
use alloc::vec::Vec;

use libipc::abi::UserRegisters;
use libipc::abi::syscall::Restart;
use libipc::linux::errno::{EIO, ENOSYS, ESRCH};
use libipc::linux::ptrace::*;
use libipc::server::effect::Operation;

use super::{After, Kind};
use crate::Proc;
use crate::id::Tid;
use crate::memory::{word_at, words};
use crate::signal::frame::{USER_END, sanitised};
use crate::turn::{Refusal, Turn, errno};

/// Words of `struct user_regs_struct`.
const REGISTERS: usize = 27;
/// Its size.
pub(super) const REGISTERS_BYTES: u64 = 8 * REGISTERS as u64;
/// Bytes of `struct user`, and where it has the debug registers.
const USER_BYTES: u64 = 912;
const DEBUG_AT: u64 = 848;
/// The segment selectors of a 64-bit program.
const CODE: u64 = 0x33;
const DATA: u64 = 0x2b;
/// Not in a system call, as the original rax says it.
const NO_CALL: u64 = u64::MAX;
/// Linux's codes in place of a result, of a call that is to be made again: by restart kind.
const RESTARTS: [(Restart, i64); 4] = [
    (Restart::IfAsked, -512),
    (Restart::Always, -513),
    (Restart::IfNoHandler, -514),
    (Restart::IfNoHandler, -516),
];

/// The result that a tracer is shown of a call that will be made again.
fn restart_code(restart: u64, resumes: bool) -> Option<u64> {
    let mut codes = RESTARTS.iter().filter(|(kind, _)| *kind as u64 == restart & 0xff);
    let found = if resumes { codes.next_back() } else { codes.next() };
    found.map(|(_, code)| *code as u64)
}

/// The restart word that registers stand for.
fn restart_of(rax: u64, original: u64) -> u64 {
    let kind = RESTARTS.iter().find(|(_, code)| *code as u64 == rax);
    kind.filter(|_| (original as i64) >= 0).map_or(0, |(kind, _)| *kind as u64 | original << 8)
}

impl Proc {
    /// The registers of a stopped thread, by `struct user_regs_struct`.
    pub(super) fn shown_registers(&self, tid: Tid, turn: &mut Turn) -> Result<[u64; REGISTERS], Refusal> {
        let gone = Refusal::Errno(ESRCH);
        let thread = self.threads.get(&tid).ok_or(gone)?;
        let trace = thread.trace.as_deref().ok_or(gone)?;
        let stop = trace.stop.as_ref().ok_or(gone)?;
        let r = turn.env.registers(thread.handle).map_err(|_| gone)?;
        let no_result = (-i64::from(ENOSYS)) as u64;
        let (rax, original) = match stop.after {
            After::ComeIn { restart } => match restart_code(restart, thread.resume.is_some()) {
                Some(code) => (code, restart >> 8),
                None if stop.kind == Kind::Exit => (r.rax, trace.number.map_or(NO_CALL, u64::from)),
                None => (r.rax, NO_CALL),
            },
            After::Call | After::Vfork { .. } | After::Vforked { .. } | After::Exit => (no_result, r.rax),
        };
        let flags = r.rflags & !trace.flags();
        Ok([
            r.r15, r.r14, r.r13, r.r12, r.rbp, r.rbx, r.r11, r.r10, r.r9, r.r8, rax, r.rcx, r.rdx, r.rsi,
            r.rdi, original, r.rip, CODE, flags, r.rsp, DATA, r.fs_base, r.gs_base, 0, 0, 0, 0,
        ])
    }

    /// Sets them.
    ///
    /// # Errors
    /// `EIO` for addresses that no program has.
    pub(super) fn set_shown_registers(
        &mut self,
        tid: Tid,
        shown: &[u64; REGISTERS],
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        let [r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, original, rip, ..] =
            *shown;
        let [flags, rsp, fs_base, gs_base] = [shown[18], shown[19], shown[21], shown[22]];
        if [rip, fs_base, gs_base].iter().any(|address| *address >= USER_END) {
            return errno(EIO);
        }
        let gone = Refusal::Errno(ESRCH);
        let trace = self.threads.get_mut(&tid).and_then(|it| it.trace.as_deref_mut()).ok_or(gone)?;
        let own_flags = trace.flags();
        let stop = trace.stop.as_mut().ok_or(gone)?;
        let rax = match &mut stop.after {
            After::ComeIn { restart } => {
                *restart = restart_of(rax, original);
                rax
            }
            After::Call => {
                trace.number = u32::try_from(original).ok();
                original
            }
            After::Vfork { .. } | After::Vforked { .. } | After::Exit => original,
        };
        let rflags = flags | own_flags;
        let registers = UserRegisters {
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rax,
            rcx,
            rdx,
            rsi,
            rdi,
            rip,
            rflags,
            rsp,
            fs_base,
            gs_base,
        };
        self.put_registers(tid, registers, turn);
        Ok(())
    }

    pub(super) fn put_registers(&mut self, tid: Tid, registers: UserRegisters, turn: &mut Turn) {
        let Some(thread) = self.threads.get(&tid).map(|thread| thread.handle) else { return };
        turn.act(Operation::ThreadSetRegisters { thread, registers: Box::new(registers), fpu: None });
    }

    /// A word of `struct user`.
    ///
    /// # Errors
    /// `EIO` for one that is not there.
    pub(super) fn user_word(&self, tid: Tid, offset: u64, turn: &mut Turn) -> Result<u64, Refusal> {
        if !offset.is_multiple_of(8) || offset >= USER_BYTES {
            return errno(EIO);
        }
        let shown = self.shown_registers(tid, turn)?;
        Ok(shown.get(offset as usize / 8).copied().unwrap_or(0))
    }

    /// Sets a word of `struct user`. No debug register can be armed.
    ///
    /// # Errors
    /// `EIO` for one that is not there.
    pub(super) fn set_user_word(
        &mut self,
        tid: Tid,
        offset: u64,
        value: u64,
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        if (DEBUG_AT..USER_BYTES).contains(&offset) && offset.is_multiple_of(8) && value == 0 {
            return Ok(());
        }
        if !offset.is_multiple_of(8) || offset >= REGISTERS_BYTES {
            return errno(EIO);
        }
        let mut shown = self.shown_registers(tid, turn)?;
        if let Some(word) = shown.get_mut(offset as usize / 8) {
            *word = value;
        }
        self.set_shown_registers(tid, &shown, turn)
    }

    /// The FXSAVE state of a stopped thread.
    pub(super) fn shown_fpu(&self, tid: Tid, turn: &mut Turn) -> Result<Vec<u8>, Refusal> {
        let gone = Refusal::Errno(ESRCH);
        let thread = self.threads.get(&tid).ok_or(gone)?;
        turn.env.thread(thread.handle).map(|state| state.fpu).map_err(|_| gone)
    }

    /// Sets it.
    pub(super) fn set_fpu(&mut self, tid: Tid, bytes: Vec<u8>, turn: &mut Turn) -> Result<(), Refusal> {
        let gone = Refusal::Errno(ESRCH);
        let thread = self.threads.get(&tid).ok_or(gone)?.handle;
        let registers = Box::new(turn.env.registers(thread).map_err(|_| gone)?);
        turn.act(Operation::ThreadSetRegisters { thread, registers, fpu: Some(sanitised(bytes)) });
        Ok(())
    }

    /// `struct ptrace_syscall_info`.
    pub(super) fn syscall_info(&self, tid: Tid, turn: &mut Turn) -> Result<Vec<u8>, Refusal> {
        let shown = self.shown_registers(tid, turn)?;
        let trace = self.threads.get(&tid).and_then(|thread| thread.trace.as_deref());
        let kind = trace.and_then(|trace| trace.stop.as_ref()).map(|stop| &stop.kind);
        let operation = match kind {
            Some(Kind::Entry) => PTRACE_SYSCALL_INFO_ENTRY,
            Some(Kind::Exit) => PTRACE_SYSCALL_INFO_EXIT,
            _ => PTRACE_SYSCALL_INFO_NONE,
        };
        let [.., r10, r9, r8, rax, _, rdx, rsi, rdi, original, rip, _, _, rsp, _, _, _, _, _, _, _] = shown;
        let mut bytes = words(&[u64::from(operation) | AUDIT_ARCH_X86_64 << 32, rip, rsp]);
        match operation {
            PTRACE_SYSCALL_INFO_ENTRY => bytes.extend(words(&[original, rdi, rsi, rdx, r10, r8, r9])),
            PTRACE_SYSCALL_INFO_EXIT => {
                bytes.extend(rax.to_le_bytes());
                bytes.push(u8::from((-4095..0).contains(&(rax as i64))));
            }
            _ => {}
        }
        Ok(bytes)
    }
}

/// Registers as a tracer gives them.
pub(super) fn parse(bytes: &[u8]) -> [u64; REGISTERS] {
    core::array::from_fn(|index| word_at(bytes, 8 * index))
}
