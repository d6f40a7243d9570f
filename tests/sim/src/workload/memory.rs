//! Memory: mapped, shared, copied on write, protected, taken away.

use crate::assembler::{Arg, Assembler, nr};
use crate::cpu::{Code, Reg};
use Arg::{N, R};

const PAGE: u64 = 4096;
const PAGES: u64 = 8;
const READ: u64 = 1;
const READ_WRITE: u64 = 3;
const SHARED: u64 = 0x21;
const PRIVATE: u64 = 0x22;

/// Touches every page of an area: adds a number to its first word, and tells what it was.
fn touch(a: &mut Assembler, area: Reg, add: u64) {
    a.set(Reg::R12, R(area));
    a.repeat(Reg::R13, PAGES, |a| {
        a.emit(Code::Load, [Reg::R8, Reg::R12, Reg::R12], 0);
        a.note(Reg::R8);
        a.emit(Code::Add, [Reg::R8, Reg::R8, Reg::R8], add);
        a.emit(Code::Store, [Reg::R8, Reg::R12, Reg::R12], 0);
        a.emit(Code::Add, [Reg::R12, Reg::R12, Reg::R12], PAGE);
    });
}

/// Maps an area of this kind; its address is in the register.
fn map(a: &mut Assembler, area: Reg, kind: u64) {
    a.call(nr::MMAP, &[N(0), N(PAGES * PAGE), N(READ_WRITE), N(kind), N(u64::MAX), N(0)]);
    a.set(area, R(Reg::Rax));
}

/// All of it, with children that write, and one that may not.
pub fn memory(a: &mut Assembler, rounds: u64) {
    let child = a.room(8);
    a.repeat(Reg::Rbx, rounds.div_ceil(2), |a| {
        map(a, Reg::Rbp, PRIVATE);
        touch(a, Reg::Rbp, 5);
        a.fork(N(1), |a| touch(a, Reg::Rbp, 100));
        a.keep(Reg::Rax, child);
        touch(a, Reg::Rbp, 10);
        a.wait(Arg::At(child));
        touch(a, Reg::Rbp, 0);
        a.told(nr::MPROTECT, &[R(Reg::Rbp), N(PAGE), N(READ)]);
        a.fork(N(2), |a| touch(a, Reg::Rbp, 1));
        a.wait(R(Reg::Rax));
        a.told(nr::MUNMAP, &[R(Reg::Rbp), N(PAGES * PAGE)]);
        a.fork(N(3), |a| touch(a, Reg::Rbp, 1));
        a.wait(R(Reg::Rax));
        map(a, Reg::Rbp, SHARED);
        a.fork(N(4), |a| touch(a, Reg::Rbp, 3));
        a.wait(R(Reg::Rax));
        touch(a, Reg::Rbp, 0);
        a.told(nr::MUNMAP, &[R(Reg::Rbp), N(PAGES * PAGE)]);
        a.call(nr::BRK, &[N(0)]);
        a.set(Reg::Rbp, R(Reg::Rax));
        a.emit(Code::Add, [Reg::Rdi, Reg::Rax, Reg::Rax], PAGES * PAGE);
        a.set(Reg::Rax, N(nr::BRK));
        a.emit(Code::System, [Reg::Rax; 3], 0);
        a.fill(R(Reg::Rbp), 1024, R(Reg::Rbx));
        a.digest(R(Reg::Rbp), 1024);
        a.call(nr::BRK, &[R(Reg::Rbp)]);
    });
}
