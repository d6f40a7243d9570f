//! The frame's layout against the offsets that Linux's headers give, and sets and queues against a model.

use libipc::abi::UserRegisters;
use libipc::linux::signal::*;
use libipc::server::ThreadState;
use proptest::prelude::*;

use super::action::{Action, SA_ONSTACK, SA_RESTORER};
use super::frame::{self, FRAME_BYTES};
use super::*;
use crate::memory::{half_at, word_at};

fn registers() -> UserRegisters {
    UserRegisters {
        r15: 15,
        r14: 14,
        r13: 13,
        r12: 12,
        rbp: 105,
        rbx: 103,
        r11: 11,
        r10: 10,
        r9: 9,
        r8: 8,
        rax: 100,
        rcx: 102,
        rdx: 104,
        rsi: 106,
        rdi: 107,
        rip: 0x40_0000,
        rflags: 0x10_746,
        rsp: 0x7fff_0000_1234,
        fs_base: 0x1111,
        gs_base: 0x2222,
    }
}

fn thread() -> ThreadState {
    ThreadState { registers: registers(), fpu: (0..512).map(|index| index as u8).collect() }
}

fn action(flags: u64) -> Action {
    Action { handler: 0x5000, flags: flags | SA_RESTORER, restorer: 0x6000, mask: SignalSet(0) }
}

fn fault() -> SigInfo {
    let detail = Detail::Fault { address: 0xbad, vector: 14, error: 6 };
    SigInfo { signal: SIGSEGV, errno: 0, code: SEGV_MAPERR, detail }
}

#[test]
fn the_frame_lies_where_the_abi_wants_it() {
    let frame =
        frame::build(&thread(), &fault(), &action(0), SignalSet(0x77), &AlternateStack::default()).unwrap();
    assert_eq!((frame.address + 8) % 16, 0, "as after a call");
    assert!(frame.address + frame.bytes.len() as u64 <= registers().rsp - 128, "below the red zone");
    let fpu_at = word_at(&frame.bytes, 8 + 40 + 8 * 23);
    assert_eq!(fpu_at % 64, 0);
    assert_eq!(&frame.bytes[(fpu_at - frame.address) as usize..], thread().fpu);
}

#[test]
fn every_field_of_the_frame_has_its_offset() {
    let frame =
        frame::build(&thread(), &fault(), &action(0), SignalSet(0x77), &AlternateStack::default()).unwrap();
    let word = |at| word_at(&frame.bytes, at);
    assert_eq!([word(0), word(8), word(16)], [0x6000, 6, 0], "pretcode, uc_flags, uc_link");
    assert_eq!(half_at(&frame.bytes, 32), SS_DISABLE, "uc_stack.ss_flags");
    let general: Vec<u64> = (0..18).map(|index| word(48 + 8 * index)).collect();
    let own = registers();
    let expected =
        [8, 9, 10, 11, 12, 13, 14, 15, 107, 106, 105, 103, 104, 100, 102, own.rsp, own.rip, own.rflags];
    assert_eq!(general, expected);
    assert_eq!(word(48 + 144), 0x002b_0000_0000_0033, "selectors");
    assert_eq!(
        [word(200), word(208), word(216), word(224)],
        [6, 14, 0x77, 0xbad],
        "err, trapno, oldmask, cr2"
    );
    assert_eq!(word(304), 0x77, "uc_sigmask");
    let info = &frame.bytes[312..440];
    assert_eq!([half_at(info, 0), half_at(info, 8)], [11, 1]);
    assert_eq!(word_at(info, 16), 0xbad);
}

#[test]
fn the_handler_starts_as_a_function_of_three_arguments() {
    let frame =
        frame::build(&thread(), &fault(), &action(0), SignalSet(0), &AlternateStack::default()).unwrap();
    let start = frame.registers;
    assert_eq!([start.rdi, start.rsi, start.rdx], [11, frame.address + 312, frame.address + 8]);
    assert_eq!([start.rip, start.rsp, start.rax], [0x5000, frame.address, 0]);
    assert_eq!(start.rflags & (1 << 8 | 1 << 10 | 1 << 16), 0, "no tracing, strings go up");
    assert_eq!([start.fs_base, start.gs_base, start.rbx], [0x1111, 0x2222, 103]);
}

#[test]
fn a_handler_with_sa_onstack_starts_on_the_alternate_stack_unless_it_is_there() {
    let stack = AlternateStack { base: 0x10_0000, size: 0x2000, flags: 0 };
    let frame = frame::build(&thread(), &fault(), &action(SA_ONSTACK), SignalSet(0), &stack).unwrap();
    assert!(frame.address > stack.base && frame.address < stack.base + stack.size);
    let mut nested = thread();
    nested.registers.rsp = frame.address;
    let inner = frame::build(&nested, &fault(), &action(SA_ONSTACK), SignalSet(0), &stack).unwrap();
    assert!(inner.address < frame.address);
    nested.registers.rsp = stack.base + 600;
    assert_eq!(frame::build(&nested, &fault(), &action(SA_ONSTACK), SignalSet(0), &stack), None, "no room");
}

#[test]
fn no_handler_runs_without_a_restorer_or_without_a_stack() {
    let bare = Action { flags: 0, ..action(0) };
    assert_eq!(frame::build(&thread(), &fault(), &bare, SignalSet(0), &AlternateStack::default()), None);
    for rsp in [0, 100, 900, u64::MAX] {
        let mut lost = thread();
        lost.registers.rsp = rsp;
        assert_eq!(frame::build(&lost, &fault(), &action(0), SignalSet(0), &AlternateStack::default()), None);
    }
}

#[test]
fn a_frame_read_back_is_what_was_interrupted() {
    let stack = AlternateStack { base: 0x10_0000, size: 0x2000, flags: 0 };
    let frame = frame::build(&thread(), &fault(), &action(0), SignalSet(0x77), &stack).unwrap();
    let current =
        UserRegisters { fs_base: 0x1111, gs_base: 0x2222, rflags: 0x10_202, ..UserRegisters::default() };
    let restored = frame::parse(&frame.bytes, &current).unwrap();
    assert_eq!(restored.registers, registers());
    assert_eq!((restored.mask, restored.stack), (SignalSet(0x77), stack));
}

#[test]
fn a_frame_can_set_neither_privileged_flags_nor_the_unblockable_mask_nor_a_kernel_address() {
    let mut bytes = frame::build(&thread(), &fault(), &action(0), SignalSet(0), &AlternateStack::default())
        .unwrap()
        .bytes;
    bytes[48 + 8 * 17..48 + 8 * 18].copy_from_slice(&u64::MAX.to_le_bytes());
    bytes[304..312].copy_from_slice(&u64::MAX.to_le_bytes());
    let current = UserRegisters { rflags: 0x202, ..UserRegisters::default() };
    let restored = frame::parse(&bytes, &current).unwrap();
    assert_eq!(restored.registers.rflags & !0x5_0dd5, 0x202, "interrupt flag and privilege stay");
    assert!(!restored.mask.has(SIGKILL) && !restored.mask.has(SIGSTOP));
    bytes[48 + 8 * 16..48 + 8 * 17].copy_from_slice(&0x8000_0000_0000_u64.to_le_bytes());
    assert_eq!(frame::parse(&bytes, &current), None);
    assert_eq!(frame::parse(&bytes[..439], &current), None);
}

#[test]
fn fpu_state_from_a_program_cannot_fault_when_it_is_loaded() {
    let cleaned = frame::sanitised(vec![0xff; 300]);
    assert_eq!((cleaned.len(), half_at(&cleaned, 24)), (512, 0xffff));
    let fresh = frame::fresh_fpu();
    assert_eq!((half_at(&fresh, 0), half_at(&fresh, 24)), (0x37f, 0x1f80));
}

#[test]
fn siginfo_has_linuxs_layout_for_each_kind() {
    let bytes = SigInfo::user(SIGTERM, SI_USER, 7, 8).to_bytes();
    assert_eq!([0, 8, 16, 20].map(|at| half_at(&bytes, at)), [15, 0, 7, 8]);
    let detail = Detail::Child { pid: 7, uid: 8, status: 9, ticks: [10, 11] };
    let bytes = SigInfo { signal: SIGCHLD, errno: 0, code: CLD_EXITED, detail }.to_bytes();
    assert_eq!([0, 8, 16, 20, 24].map(|at| half_at(&bytes, at)), [17, 1, 7, 8, 9]);
    assert_eq!([word_at(&bytes, 32), word_at(&bytes, 40)], [10, 11]);
    let raw = SigInfo { signal: 34, errno: 1, code: SI_QUEUE, detail: Detail::Raw(vec![1; 116]) }.to_bytes();
    assert_eq!((raw.len(), half_at(&raw, 12), word_at(&raw, 24)), (128, 0x0101_0101, 0x0101_0101_0101_0101));
}

#[test]
fn instructions_come_before_all_else_then_the_lowest_number() {
    let mut pending = Pending::default();
    for signal in [SIGTERM, 40, SIGSEGV, SIGHUP] {
        assert!(pending.add(SigInfo::kernel(signal)));
    }
    let order: Vec<u8> = pending.outside(SignalSet::default()).collect();
    assert_eq!(order, [SIGSEGV, SIGHUP, SIGTERM, 40]);
    assert_eq!(pending.outside(SignalSet::of(&[SIGSEGV])).next(), Some(SIGHUP));
}

#[test]
fn only_real_time_signals_queue() {
    let mut pending = Pending::default();
    let results = [SIGTERM, SIGTERM, 33, 33].map(|signal| pending.add(SigInfo::kernel(signal)));
    assert_eq!((results, pending.len()), ([true, false, true, true], 3));
    pending.take(33);
    assert!(pending.set().has(33));
    pending.take(33);
    assert!(!pending.set().has(33));
}

proptest! {
    #[test]
    fn any_bytes_as_a_frame_give_registers_a_program_may_have_or_none(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let current = UserRegisters { rflags: 0x202, ..UserRegisters::default() };
        if let Some(restored) = frame::parse(&bytes, &current) {
            prop_assert!(bytes.len() as u64 >= FRAME_BYTES);
            prop_assert!(restored.registers.rip < frame::USER_END);
            prop_assert_eq!(restored.registers.rflags & !0x5_0dd5, 0x202);
        }
    }

    #[test]
    fn any_stack_pointer_gives_a_frame_below_it_or_none(rsp: u64, base: u64, size: u64, flags: u64) {
        let mut thread = thread();
        thread.registers.rsp = rsp;
        let stack = AlternateStack { base, size, flags: 0 };
        if let Some(frame) = frame::build(&thread, &fault(), &action(flags), SignalSet(0), &stack) {
            prop_assert_eq!((frame.address + 8) % 16, 0);
            prop_assert!(frame.address.checked_add(frame.bytes.len() as u64).is_some());
        }
    }
}
