//! The processor that programs run on: sixteen registers under their x86 names, a handful of instructions of sixteen
//! bytes each, fetched through the page tables that the real kernel and the real memory server made.
//!
//! A program's whole state is its registers and its memory, so fork, exec, copy-on-write, signal handlers and paging
//! are what they are on the machine. [`Code::Note`] is how a program tells the oracle what it saw; nothing of it
//! reaches the system.

use libipc::abi::{Frame, PAGE_SIZE, Protection, UserRegisters};
use microkernel::arch::emulated::Emulated;
use microkernel::core::machine::{Machine, Mapping};
use microkernel::core::object::{FrameRange, ThreadId};
use microkernel::core::{Kernel, Trap};

/// Bytes of an instruction.
pub const INSTRUCTION_BYTES: u64 = 16;
/// What an instruction that is none raises.
const INVALID_OPCODE: u8 = 6;
/// What a misaligned access raises.
const ALIGNMENT_CHECK: u8 = 17;

/// A register, under its x86 name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Reg {
    Rax = 0,
    Rcx,
    Rdx,
    Rbx,
    Rsp,
    Rbp,
    Rsi,
    Rdi,
    R8,
    R9,
    R10,
    R11,
    R12,
    R13,
    R14,
    R15,
}

macro_rules! codes {
    ($($(#[doc = $text:literal])* $name:ident)*) => {
        /// What an instruction does with its registers `a`, `b`, `c` and its number `n`.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Code { $($(#[doc = $text])* $name,)* }

        impl Code {
            const ALL: &[Code] = &[$(Code::$name),*];
        }
    };
}

codes! {
    /// Never valid: what a page of zeroes holds.
    Invalid
    /// a = n
    Set
    /// a = b + n
    Add
    /// a = b + c
    Sum
    /// a = b * n + c
    Scale
    /// a = the eight bytes at b + n
    Load
    /// The eight bytes at b + n = a
    Store
    /// a = the byte at b + n
    LoadByte
    /// The byte at b + n = a
    StoreByte
    /// Goes on at n.
    Jump
    /// Goes on at n if a is zero.
    JumpZero
    /// Goes on at n if a is negative.
    JumpNegative
    /// Goes on at n if a differs from b.
    JumpUnequal
    /// Pushes where it would go on, and goes on at n.
    Call
    /// Goes on at what it pops.
    Return
    /// A system call.
    System
    /// a = a mixed with b
    Mix
    /// Tells the oracle a, under the name that is in r15.
    Note
}

/// One instruction.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// What it does.
    pub code: Code,
    /// Registers.
    pub registers: [Reg; 3],
    /// A number or an address.
    pub number: u64,
}

impl Instruction {
    /// As it lies in memory.
    pub fn to_bytes(self) -> [u8; INSTRUCTION_BYTES as usize] {
        let mut bytes = [0; INSTRUCTION_BYTES as usize];
        bytes[0] = self.code as u8;
        for (place, register) in bytes[1..4].iter_mut().zip(self.registers) {
            *place = register as u8;
        }
        bytes[8..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }
}

/// One step of a SplitMix64 mixer: what [`Code::Mix`] computes.
pub fn mix(a: u64, b: u64) -> u64 {
    let mut number = (a ^ b).wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// What programs told: under each name, in order.
pub type Notes = std::collections::BTreeMap<u64, Vec<u64>>;

/// Pages whose place is remembered while one program runs: nothing changes its page tables meanwhile.
const PLACES: usize = 16;

/// Memory as a thread sees it.
struct View<'k> {
    machine: &'k mut Emulated,
    top: Frame,
    /// A page for one kind of access, and where it is.
    places: [Option<(u64, Protection, Frame)>; PLACES],
}

/// An access that the page tables do not allow.
fn fault(address: u64, access: Protection) -> Trap {
    Trap::PageFault { address, access: access.bits() }
}

/// The physical frame behind an address, as page tables that begin with `top` have it.
pub fn translate(machine: &mut Emulated, top: Frame, address: u64, access: Protection) -> Option<Frame> {
    if address >= Emulated::USER_END {
        return None;
    }
    let index = |level: u32| {
        (address >> (12 + Emulated::LEVEL_BITS * level)) as u32 & ((1 << Emulated::LEVEL_BITS) - 1)
    };
    let mut table = top;
    for level in (1..Emulated::LEVELS).rev() {
        let Mapping::Table(lower) = machine.entry(table, index(level)) else { return None };
        table = lower;
    }
    match machine.entry(table, index(0)) {
        Mapping::Page(frame, protection) if protection.contains(access) => Some(frame),
        _ => None,
    }
}

impl View<'_> {
    fn bytes(&mut self, address: u64, length: u64, access: Protection) -> Result<&mut [u8], Trap> {
        if !address.is_multiple_of(length) {
            return Err(Trap::Exception { vector: ALIGNMENT_CHECK, code: 0 });
        }
        let page = address / PAGE_SIZE;
        let place = (page + u64::from(access.bits()) * 5) as usize % PLACES;
        let frame = match self.places[place] {
            Some((known, like, frame)) if known == page && like == access => frame,
            _ => {
                let found = translate(self.machine, self.top, address, access);
                let frame = found.ok_or(fault(address, access))?;
                self.places[place] = Some((page, access, frame));
                frame
            }
        };
        Ok(self.machine.bytes(FrameRange::one(frame), address % PAGE_SIZE, length))
    }

    fn word(&mut self, address: u64) -> Result<u64, Trap> {
        let bytes = self.bytes(address, 8, Protection::READ)?;
        Ok(<[u8; 8]>::try_from(&*bytes).map_or(0, u64::from_le_bytes))
    }

    fn set_word(&mut self, address: u64, word: u64) -> Result<(), Trap> {
        self.bytes(address, 8, Protection::WRITE)?.copy_from_slice(&word.to_le_bytes());
        Ok(())
    }
}

fn file(registers: &UserRegisters) -> [u64; 16] {
    let r = registers;
    [
        r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
        r.r14, r.r15,
    ]
}

fn store(registers: &mut UserRegisters, file: &[u64; 16]) {
    let r = registers;
    [
        r.rax, r.rcx, r.rdx, r.rbx, r.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13,
        r.r14, r.r15,
    ] = *file;
}

/// Runs a program's thread for so many instructions at most. How many there were, and the trap they ended with.
pub fn run(
    kernel: &mut Kernel<Emulated>,
    thread: ThreadId,
    budget: u64,
    notes: &mut Notes,
) -> (u64, Option<Trap>) {
    let Some(state) = kernel.threads.get(thread) else { return (0, None) };
    let (mut registers, top) = (state.registers, state.top);
    let mut view = View { machine: &mut kernel.machine, top, places: [None; PLACES] };
    let (mut used, mut trap) = (0, None);
    while used < budget && trap.is_none() {
        used += 1;
        trap = step(&mut view, &mut registers, notes).err();
    }
    if let Some(state) = kernel.threads.get_mut(thread) {
        state.registers = registers;
    }
    (used, trap)
}

/// One instruction. What stops it has changed nothing, save that a system call is over when it traps.
fn step(view: &mut View<'_>, registers: &mut UserRegisters, notes: &mut Notes) -> Result<(), Trap> {
    // A call that is to start again has its address less two, as the instruction of x86 is two bytes long.
    let at = registers.rip & !(INSTRUCTION_BYTES - 1);
    let bytes = view.bytes(at, INSTRUCTION_BYTES, Protection::EXECUTE)?;
    let invalid = Trap::Exception { vector: INVALID_OPCODE, code: 0 };
    let [code, a, b, c] = [0, 1, 2, 3].map(|place: usize| usize::from(bytes[place]));
    let n = bytes[8..].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    let code = *Code::ALL.get(code).ok_or(invalid)?;
    if [a, b, c].iter().any(|register| *register > 15) {
        return Err(invalid);
    }
    let mut r = file(registers);
    let mut next = at + INSTRUCTION_BYTES;
    let rsp = Reg::Rsp as usize;
    match code {
        Code::Invalid => return Err(invalid),
        Code::Set => r[a] = n,
        Code::Add => r[a] = r[b].wrapping_add(n),
        Code::Sum => r[a] = r[b].wrapping_add(r[c]),
        Code::Scale => r[a] = r[b].wrapping_mul(n).wrapping_add(r[c]),
        Code::Load => r[a] = view.word(r[b].wrapping_add(n))?,
        Code::Store => view.set_word(r[b].wrapping_add(n), r[a])?,
        Code::LoadByte => {
            r[a] = u64::from(view.bytes(r[b].wrapping_add(n), 1, Protection::READ)?[0]);
        }
        Code::StoreByte => view.bytes(r[b].wrapping_add(n), 1, Protection::WRITE)?[0] = r[a] as u8,
        Code::Jump => next = n,
        Code::JumpZero if r[a] == 0 => next = n,
        Code::JumpNegative if r[a] as i64 > -1 => {}
        Code::JumpNegative => next = n,
        Code::JumpUnequal if r[a] != r[b] => next = n,
        Code::JumpZero | Code::JumpUnequal => {}
        Code::Call => {
            let pushed = r[rsp].wrapping_sub(8);
            view.set_word(pushed, next)?;
            r[rsp] = pushed;
            next = n;
        }
        Code::Return => {
            next = view.word(r[rsp])?;
            r[rsp] = r[rsp].wrapping_add(8);
        }
        Code::System => {
            r[Reg::Rcx as usize] = next;
            r[Reg::R11 as usize] = registers.rflags;
            store(registers, &r);
            registers.rip = next;
            return Err(Trap::Call);
        }
        Code::Mix => r[a] = mix(r[a], r[b]),
        Code::Note => notes.entry(r[Reg::R15 as usize]).or_default().push(r[a]),
    }
    store(registers, &r);
    registers.rip = next;
    Ok(())
}
