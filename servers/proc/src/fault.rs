//! Faults of programs, as the signals Linux makes of them (arch/x86/kernel/traps.c).

use libipc::abi::delivery::FaultKind;
use libipc::linux::signal::*;
use libipc::server::Call;

use crate::Proc;
use crate::signal::{Detail, SigInfo};
use crate::turn::{Refusal, Turn};

/// The page fault's vector.
const PAGE_FAULT: u64 = 14;
/// In a page fault's error code: the access came from a program; it broke a protection.
const FROM_USER: u64 = 4;
const PROTECTED: u64 = 1;

/// The signal and code of an exception, and whether its address is the instruction's.
fn signal_of(vector: u64) -> (u8, i32, bool) {
    match vector {
        0 => (SIGFPE, FPE_INTDIV, true),
        1 => (SIGTRAP, TRAP_TRACE, true),
        3 => (SIGTRAP, SI_KERNEL, false),
        6 => (SIGILL, ILL_ILLOPN, true),
        11 | 12 => (SIGBUS, SI_KERNEL, false),
        16 | 19 => (SIGFPE, FPE_FLTINV, true),
        17 => (SIGBUS, BUS_ADRALN, false),
        _ => (SIGSEGV, SI_KERNEL, false),
    }
}

impl Proc {
    /// A thread's exception. Page faults go to vm and come from there when they are a signal.
    pub(crate) fn exception(
        &mut self,
        call: &Call,
        kind: FaultKind,
        words: [u64; 4],
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        if kind == FaultKind::Page {
            let [address, _, instruction, _] = words;
            return self.memory_fault(
                call,
                [u64::from(SIGSEGV), SEGV_MAPERR as u64, address, instruction],
                turn,
            );
        }
        let [vector, error, instruction, _] = words;
        let (signal, code, at_instruction) = signal_of(vector);
        let address = if at_instruction { instruction } else { 0 };
        let detail = Detail::Fault { address, vector, error };
        self.fault(call, SigInfo { signal, errno: 0, code, detail }, turn)
    }

    /// A fault that vm cannot resolve: signal, code, address, instruction.
    pub(crate) fn memory_fault(
        &mut self,
        call: &Call,
        [signal, code, address, _]: [u64; 4],
        turn: &mut Turn,
    ) -> Result<(), Refusal> {
        let signal =
            u8::try_from(signal).ok().filter(|signal| (1..=NSIG).contains(signal)).unwrap_or(SIGSEGV);
        let code = code as i32;
        let error = if code == SEGV_ACCERR { FROM_USER | PROTECTED } else { FROM_USER };
        let detail = Detail::Fault { address, vector: PAGE_FAULT, error };
        self.fault(call, SigInfo { signal, errno: 0, code, detail }, turn)
    }
}
