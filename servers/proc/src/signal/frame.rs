//! The frame that a signal handler finds on its stack, exactly as Linux x86_64 lays it out (`struct rt_sigframe` of
//! arch/x86/include/asm/sigframe.h, `struct ucontext` and `struct sigcontext` of the uapi headers), and the way back.
//!
//! From low to high addresses: the return address (the restorer), ucontext, siginfo, and 64-byte aligned the 512
//! bytes of FXSAVE state. There is no extended state, and `_fpx_sw_bytes` says so by being zero.

use alloc::vec::Vec;

use libipc::abi::UserRegisters;
use libipc::server::ThreadState;

use super::action::{Action, SA_ONSTACK, SA_RESTORER};
use super::{AlternateStack, Detail, SIGINFO_BYTES, SigInfo, SignalSet, UNBLOCKABLE};
use crate::memory::{half_at, word_at, words};

/// Bytes a function may use below the stack pointer without moving it.
const RED_ZONE: u64 = 128;
/// Bytes of FXSAVE state.
pub const FPU_BYTES: u64 = 512;
const UCONTEXT_AT: u64 = 8;
const CONTEXT_AT: usize = 8 + 40;
const MASK_AT: usize = CONTEXT_AT + 256;
const SIGINFO_AT: u64 = 8 + 304;
/// Bytes of `struct rt_sigframe`.
pub const FRAME_BYTES: u64 = SIGINFO_AT + SIGINFO_BYTES as u64;
/// Code and stack segment selectors of a 64-bit program.
const SELECTORS: u64 = 0x33 | 0x2b << 48;
/// UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS: the stack selector is saved and restored.
const UCONTEXT_FLAGS: u64 = 6;
/// Trap, direction and resume flag: clear when a handler starts.
const CLEARED_FLAGS: u64 = 1 << 8 | 1 << 10 | 1 << 16;
/// The flags a program may set through a frame: CF, PF, AF, ZF, SF, TF, DF, OF, RF, AC.
const RESTORABLE_FLAGS: u64 = 0x0005_0dd5;
/// One past the highest address of a program.
pub const USER_END: u64 = 0x7fff_ffff_f000;

/// A frame ready to be written, and the registers with which its handler starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Where it goes.
    pub address: u64,
    /// What it is.
    pub bytes: Vec<u8>,
    /// The handler's registers.
    pub registers: UserRegisters,
}

/// FXSAVE state of a thread that has never used the FPU: all exceptions masked.
pub fn fresh_fpu() -> Vec<u8> {
    let mut state = alloc::vec![0; FPU_BYTES as usize];
    state[..2].copy_from_slice(&0x37f_u16.to_le_bytes());
    state[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
    state
}

/// Lays out the frame for a signal. `None` when the handler cannot be entered: no restorer, no address of a program,
/// or no room on the stack.
pub fn build(
    thread: &ThreadState,
    info: &SigInfo,
    action: &Action,
    mask: SignalSet,
    stack: &AlternateStack,
) -> Option<Frame> {
    let old = &thread.registers;
    if action.flags & SA_RESTORER == 0 || action.handler >= USER_END {
        return None;
    }
    let nested = stack.holds(old.rsp);
    let switch = action.flags & SA_ONSTACK != 0 && stack.size > 0 && !nested;
    let top = if switch { stack.base.checked_add(stack.size)? } else { old.rsp.checked_sub(RED_ZONE)? };
    let fpu_at = top.checked_sub(FPU_BYTES)? & !63;
    let address = (fpu_at.checked_sub(FRAME_BYTES)? & !15).checked_sub(8)?;
    let overflows = (switch || nested) && address < stack.base;
    if overflows || top > USER_END {
        return None;
    }
    let mut bytes = Vec::with_capacity((fpu_at - address + FPU_BYTES) as usize);
    bytes.extend(words(&[action.restorer, UCONTEXT_FLAGS, 0]));
    bytes.extend(stack.to_bytes(old.rsp));
    bytes.extend(context(old, info, mask, fpu_at));
    bytes.extend(mask.0.to_le_bytes());
    bytes.extend(info.to_bytes());
    bytes.resize((fpu_at - address) as usize, 0);
    bytes.extend_from_slice(&thread.fpu[..thread.fpu.len().min(FPU_BYTES as usize)]);
    bytes.resize((fpu_at - address + FPU_BYTES) as usize, 0);
    let registers = UserRegisters {
        rdi: u64::from(info.signal),
        rsi: address + SIGINFO_AT,
        rdx: address + UCONTEXT_AT,
        rax: 0,
        rip: action.handler,
        rsp: address,
        rflags: old.rflags & !CLEARED_FLAGS,
        ..*old
    };
    Some(Frame { address, bytes, registers })
}

/// `struct sigcontext`: 256 bytes.
fn context(old: &UserRegisters, info: &SigInfo, mask: SignalSet, fpu_at: u64) -> Vec<u8> {
    let (address, vector, error) = match info.detail {
        Detail::Fault { address, vector, error } => (address, vector, error),
        _ => (0, 0, 0),
    };
    let mut bytes = words(&[
        old.r8, old.r9, old.r10, old.r11, old.r12, old.r13, old.r14, old.r15, old.rdi, old.rsi, old.rbp,
        old.rbx, old.rdx, old.rax, old.rcx, old.rsp, old.rip, old.rflags, SELECTORS, error, vector, mask.0,
        address, fpu_at,
    ]);
    bytes.resize(256, 0);
    bytes
}

/// What a frame says when its handler returns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restored {
    /// The registers the signal found.
    pub registers: UserRegisters,
    /// The mask it found, or what the handler made of it.
    pub mask: SignalSet,
    /// The alternate stack it found.
    pub stack: AlternateStack,
    /// Where the FXSAVE state lies; 0 for a fresh one.
    pub fpu_at: u64,
}

/// Reads a frame back. `None` when a program could not run with what it says.
pub fn parse(bytes: &[u8], current: &UserRegisters) -> Option<Restored> {
    if (bytes.len() as u64) < FRAME_BYTES {
        return None;
    }
    let word = |index: usize| word_at(bytes, CONTEXT_AT + 8 * index);
    let flags = word(17) & RESTORABLE_FLAGS | current.rflags & !RESTORABLE_FLAGS;
    let registers = UserRegisters {
        r8: word(0),
        r9: word(1),
        r10: word(2),
        r11: word(3),
        r12: word(4),
        r13: word(5),
        r14: word(6),
        r15: word(7),
        rdi: word(8),
        rsi: word(9),
        rbp: word(10),
        rbx: word(11),
        rdx: word(12),
        rax: word(13),
        rcx: word(14),
        rsp: word(15),
        rip: word(16),
        rflags: flags,
        fs_base: current.fs_base,
        gs_base: current.gs_base,
    };
    let at = 8 + 16;
    let stack = AlternateStack {
        base: word_at(bytes, at),
        flags: half_at(bytes, at + 8),
        size: word_at(bytes, at + 16),
    };
    let mask = SignalSet(word_at(bytes, MASK_AT)).less(UNBLOCKABLE);
    (registers.rip < USER_END).then_some(Restored { registers, mask, stack, fpu_at: word(23) })
}

/// FXSAVE state from a program: bits that would fault when it is loaded are cleared.
pub fn sanitised(mut fpu: Vec<u8>) -> Vec<u8> {
    fpu.resize(FPU_BYTES as usize, 0);
    let control = half_at(&fpu, 24) & 0xffff;
    fpu[24..28].copy_from_slice(&control.to_le_bytes());
    fpu
}
