//! Faults of programs, as the signals Linux makes of them (arch/x86/kernel/traps.c).

use libipc::abi::delivery::FaultKind;
use libipc::linux::signal::*;
use libipc::server::Call;

use crate::Proc;
use crate::id::Tid;
use crate::memory::half_at;
use crate::signal::{Detail, SigInfo};
use crate::turn::{Refusal, Turn};

/// The page fault's vector.
const PAGE_FAULT: u64 = 14;
/// In a page fault's error code: the access came from a program; it broke a protection.
const FROM_USER: u64 = 4;
const PROTECTED: u64 = 1;

/// The vectors of the two floating-point units.
const FPU: u64 = 16;
const SIMD: u64 = 19;

/// si_code of an exception of a floating-point unit: the first of those that happened and are not masked. `None` when
/// there is none, which Linux takes for a fault of the machine and passes over.
fn floating_point_code(vector: u64, state: &[u8]) -> Option<i32> {
    let (status, masked) = if vector == FPU {
        (half_at(state, 2), half_at(state, 0))
    } else {
        (half_at(state, 24), half_at(state, 24) >> 7)
    };
    // Invalid, denormal, zero divide, overflow, underflow, precision: bits 0 to 5 of both units.
    match status & !masked & 0x3f {
        happened if happened & 1 != 0 => Some(FPE_FLTINV),
        happened if happened & 4 != 0 => Some(FPE_FLTDIV),
        happened if happened & 8 != 0 => Some(FPE_FLTOVF),
        happened if happened & 0x12 != 0 => Some(FPE_FLTUND),
        happened if happened & 0x20 != 0 => Some(FPE_FLTRES),
        _ => None,
    }
}

/// The signal and code of an exception, and whether its address is the instruction's.
fn signal_of(vector: u64) -> (u8, i32, bool) {
    match vector {
        0 => (SIGFPE, FPE_INTDIV, true),
        1 => (SIGTRAP, TRAP_TRACE, true),
        3 => (SIGTRAP, SI_KERNEL, false),
        6 => (SIGILL, ILL_ILLOPN, true),
        11 | 12 => (SIGBUS, SI_KERNEL, false),
        FPU | SIMD => (SIGFPE, FPE_FLTINV, true),
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
        if kind == FaultKind::Lost {
            return self.lost(call, turn);
        }
        if kind == FaultKind::Page {
            let [address, _, instruction, _] = words;
            // The page is the program's, but its file's server could not bring it.
            let words = [u64::from(SIGBUS), BUS_ADRERR as u64, address, instruction];
            return self.memory_fault(call, words, turn);
        }
        let [vector, error, instruction, _] = words;
        let (signal, mut code, at_instruction) = signal_of(vector);
        if matches!(vector, FPU | SIMD)
            && let Some(thread) = self.threads.get(&Tid(call.caller.tid))
            && let Ok(state) = turn.env.thread(thread.handle)
        {
            match floating_point_code(vector, &state.fpu) {
                Some(found) => code = found,
                None => {
                    turn.go_on(call.id);
                    return Ok(());
                }
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floating_point_fault_tells_which_of_the_unmasked_exceptions_happened() {
        let state = |control: u16, status: u16, simd: u32| {
            let mut state = [0; 512];
            state[..2].copy_from_slice(&control.to_le_bytes());
            state[2..4].copy_from_slice(&status.to_le_bytes());
            state[24..28].copy_from_slice(&simd.to_le_bytes());
            state
        };
        let zero_divide = state(0x37b, 0x8084, 0);
        assert_eq!(floating_point_code(FPU, &zero_divide), Some(FPE_FLTDIV));
        assert_eq!(floating_point_code(FPU, &state(0x37f, 0x84, 0)), None, "all are masked");
        for (bit, code) in
            [(0, FPE_FLTINV), (1, FPE_FLTUND), (2, FPE_FLTDIV), (3, FPE_FLTOVF), (5, FPE_FLTRES)]
        {
            let simd = 0x1f80 & !(0x80 << bit) | 1 << bit;
            assert_eq!(floating_point_code(SIMD, &state(0, 0, simd)), Some(code));
        }
    }
}
