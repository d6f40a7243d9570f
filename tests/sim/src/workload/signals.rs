//! Signals: handlers, masks, interrupted calls, and ends by signal.

use crate::assembler::{Arg, Assembler, nr};
use crate::cpu::{Code, Reg};
use Arg::{N, R};

const SIGKILL: u64 = 9;
const SIGUSR1: u64 = 10;
const SIGTERM: u64 = 15;
const SA_RESTORER: u64 = 0x0400_0000;
const SA_RESTART: u64 = 0x1000_0000;
const BLOCK: u64 = 0;
const UNBLOCK: u64 = 1;

/// All of it.
pub fn signals(a: &mut Assembler, rounds: u64) {
    let count = a.room(8);
    let set = a.words(&[1 << (SIGUSR1 - 1)]);
    let empty = a.words(&[0]);
    let moment = a.words(&[0, 50_000]);
    let (pair, buffer, child) = (a.room(8), a.room(8), a.room(8));
    install(a, count);
    a.repeat(Reg::Rbx, rounds, |a| {
        a.call(nr::GETPID, &[]);
        a.set(Reg::Rbp, R(Reg::Rax));
        a.told(nr::KILL, &[R(Reg::Rbp), N(SIGUSR1)]);
        a.note_at(count);
        // Blocked, it waits.
        a.told(nr::SIGPROCMASK, &[N(BLOCK), N(set), N(0), N(8)]);
        a.told(nr::KILL, &[R(Reg::Rbp), N(SIGUSR1)]);
        a.note_at(count);
        a.told(nr::SIGPROCMASK, &[N(UNBLOCK), N(set), N(0), N(8)]);
        a.note_at(count);
        // Waited for.
        a.told(nr::SIGPROCMASK, &[N(BLOCK), N(set), N(0), N(8)]);
        a.fork(N(1), |a| {
            a.call(nr::GETPPID, &[]);
            a.set(Reg::R12, R(Reg::Rax));
            a.told(nr::NANOSLEEP, &[N(moment), N(0)]);
            a.told(nr::KILL, &[R(Reg::R12), N(SIGUSR1)]);
        });
        a.keep(Reg::Rax, child);
        a.told(nr::SIGSUSPEND, &[N(empty), N(8)]);
        a.note_at(count);
        a.told(nr::SIGPROCMASK, &[N(UNBLOCK), N(set), N(0), N(8)]);
        a.wait(Arg::At(child));
        // A call that is interrupted goes on. Should nothing be written, the pipe's end is seen.
        a.told(nr::PIPE, &[N(pair)]);
        a.fork(N(2), |a| {
            a.told(nr::CLOSE, &[N(4)]);
            a.told(nr::READ, &[N(3), N(buffer), N(8)]);
            a.note_at(buffer);
        });
        a.keep(Reg::Rax, child);
        a.repeat(Reg::R13, 2, |a| {
            a.told(nr::NANOSLEEP, &[N(moment), N(0)]);
            a.told(nr::KILL, &[Arg::At(child), N(SIGUSR1)]);
        });
        a.told(nr::WRITE, &[N(4), N(set), N(8)]);
        a.told(nr::CLOSE, &[N(4)]);
        a.wait(Arg::At(child));
        a.told(nr::CLOSE, &[N(3)]);
        // Ends.
        for (number, signal) in [(3, SIGKILL), (4, SIGTERM)] {
            a.fork(N(number), |a| {
                a.call(nr::PAUSE, &[]);
                a.told(nr::PAUSE, &[]);
            });
            a.keep(Reg::Rax, child);
            a.told(nr::KILL, &[Arg::At(child), N(signal)]);
            a.wait(Arg::At(child));
        }
    });
}

/// Makes SIGUSR1 add one to a word, by a handler that calls are made again after.
fn install(a: &mut Assembler, count: u64) {
    let (handler, restorer, after) = (a.label(), a.label(), a.label());
    let action = a.room(32);
    a.jump(Code::Jump, Reg::R8, Reg::R8, after);
    a.place(handler);
    a.set(Reg::R9, N(count));
    a.emit(Code::Load, [Reg::R8, Reg::R9, Reg::R9], 0);
    a.emit(Code::Add, [Reg::R8, Reg::R8, Reg::R8], 1);
    a.emit(Code::Store, [Reg::R8, Reg::R9, Reg::R9], 0);
    a.emit(Code::Return, [Reg::R8; 3], 0);
    a.place(restorer);
    a.call(nr::SIGRETURN, &[]);
    a.place(after);
    a.address_of(Reg::R8, handler);
    a.keep(Reg::R8, action);
    a.set(Reg::R8, N(SA_RESTORER | SA_RESTART));
    a.keep(Reg::R8, action + 8);
    a.address_of(Reg::R8, restorer);
    a.keep(Reg::R8, action + 16);
    a.told(nr::SIGACTION, &[N(SIGUSR1), N(action), N(0), N(8)]);
}
