//! Bytes between processes: pipes, local sockets, and waiting for either.

use super::say;
use crate::assembler::{Arg, Assembler, nr};
use crate::cpu::Reg;
use Arg::{N, R};

const SIGPIPE: u64 = 13;
const SIG_IGN: u64 = 1;
const POLLIN: u64 = 1;
/// The descriptors that a process with the usual three gets from two calls of pipe.
const FIRST: [u64; 2] = [3, 4];
const SECOND: [u64; 2] = [5, 6];

/// A parent asks, a child answers, each through a pipe; in the end the parent closes its side.
pub fn ping_pong(a: &mut Assembler, rounds: u64) {
    let (pair, buffer) = (a.room(8), a.room(64));
    let poll = a.words(&[FIRST[0] | POLLIN << 32]);
    a.told(nr::PIPE, &[N(pair)]);
    a.note_at(pair);
    a.told(nr::POLL, &[N(poll), N(1), N(1)]);
    a.told(nr::PIPE, &[N(pair)]);
    a.fork(N(1), |a| {
        for end in [FIRST[1], SECOND[0]] {
            a.told(nr::CLOSE, &[N(end)]);
        }
        a.repeat(Reg::Rbx, 3 * rounds, |a| {
            a.told(nr::READ, &[N(FIRST[0]), N(buffer), N(64)]);
            a.digest(N(buffer), 8);
            a.told(nr::WRITE, &[N(SECOND[1]), N(buffer), N(64)]);
        });
        a.told(nr::READ, &[N(FIRST[0]), N(buffer), N(64)]);
    });
    a.set(Reg::R13, R(Reg::Rax));
    for end in [FIRST[0], SECOND[1]] {
        a.told(nr::CLOSE, &[N(end)]);
    }
    a.repeat(Reg::Rbx, 3 * rounds, |a| {
        a.fill(N(buffer), 8, R(Reg::Rbx));
        a.told(nr::WRITE, &[N(FIRST[1]), N(buffer), N(64)]);
        a.told(nr::READ, &[N(SECOND[0]), N(buffer), N(64)]);
        a.digest(N(buffer), 8);
    });
    a.told(nr::CLOSE, &[N(FIRST[1])]);
    a.wait(R(Reg::R13));
    a.told(nr::READ, &[N(SECOND[0]), N(buffer), N(64)]);
    say(a, "answers have come back");
}

/// More bytes than a pipe holds, and a pipe that nobody reads any more.
pub fn flow(a: &mut Assembler, rounds: u64) {
    let (pair, buffer) = (a.room(8), a.room(4096));
    let ignore = a.words(&[SIG_IGN, 0, 0, 0]);
    a.told(nr::SIGACTION, &[N(SIGPIPE), N(ignore), N(0), N(8)]);
    a.told(nr::PIPE, &[N(pair)]);
    a.fork(N(1), |a| {
        a.told(nr::CLOSE, &[N(FIRST[0])]);
        a.repeat(Reg::Rbx, 4 * rounds, |a| {
            a.fill(N(buffer), 512, R(Reg::Rbx));
            a.told(nr::WRITE, &[N(FIRST[1]), N(buffer), N(4096)]);
        });
    });
    a.set(Reg::R13, R(Reg::Rax));
    a.told(nr::CLOSE, &[N(FIRST[1])]);
    a.repeat(Reg::Rbx, 4 * rounds + 1, |a| {
        a.told(nr::READ, &[N(FIRST[0]), N(buffer), N(4096)]);
        a.digest(N(buffer), 512);
    });
    a.wait(R(Reg::R13));
    a.told(nr::CLOSE, &[N(FIRST[0])]);
    a.told(nr::PIPE, &[N(pair)]);
    a.told(nr::CLOSE, &[N(FIRST[0])]);
    a.told(nr::WRITE, &[N(FIRST[1]), N(buffer), N(8)]);
    a.told(nr::CLOSE, &[N(FIRST[1])]);
}

/// The same question and answer through a pair of sockets.
pub fn sockets(a: &mut Assembler, rounds: u64) {
    let (pair, buffer) = (a.room(8), a.room(256));
    a.told(nr::SOCKETPAIR, &[N(1), N(1), N(0), N(pair)]);
    a.fork(N(1), |a| {
        a.told(nr::CLOSE, &[N(FIRST[0])]);
        a.repeat(Reg::Rbx, rounds, |a| {
            a.told(nr::READ, &[N(FIRST[1]), N(buffer), N(256)]);
            a.digest(N(buffer), 32);
            a.told(nr::WRITE, &[N(FIRST[1]), N(buffer), N(128)]);
        });
    });
    a.set(Reg::R13, R(Reg::Rax));
    a.told(nr::CLOSE, &[N(FIRST[1])]);
    a.repeat(Reg::Rbx, rounds, |a| {
        a.fill(N(buffer), 32, R(Reg::Rbx));
        a.told(nr::WRITE, &[N(FIRST[0]), N(buffer), N(256)]);
        a.told(nr::READ, &[N(FIRST[0]), N(buffer), N(256)]);
        a.digest(N(buffer), 16);
    });
    a.wait(R(Reg::R13));
    a.told(nr::READ, &[N(FIRST[0]), N(buffer), N(256)]);
}
