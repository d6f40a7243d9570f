//! Processes and threads: who forks whom, who waits for whom, and what else they become.

use super::COMMAND;
use crate::assembler::{Arg, Assembler, nr};
use crate::cpu::{Code, Reg};
use Arg::{N, R};

/// wait4's id for any child.
const ANY: u64 = u64::MAX;

/// Forks of forks, ends with statuses, orphans.
pub fn tree(a: &mut Assembler, rounds: u64) {
    let (pair, buffer, child) = (a.room(8), a.room(8), a.room(8));
    a.repeat(Reg::Rbx, rounds, |a| {
        a.fork(N(1), |a| {
            a.fork(N(1), |a| a.exit(N(3)));
            a.wait(R(Reg::Rax));
            a.fork(N(2), |a| a.exit(R(Reg::Rbx)));
            a.wait(R(Reg::Rax));
            a.exit(N(42));
        });
        a.keep(Reg::Rax, child);
        a.fork(N(2), |a| a.exit(N(2)));
        a.wait(R(Reg::Rax));
        a.wait(Arg::At(child));
        a.told(nr::WAIT4, &[N(ANY), N(0), N(0), N(0)]);
        // The grandchild outlives its parent, and the pipe tells when it has gone.
        a.told(nr::PIPE, &[N(pair)]);
        a.fork(N(3), |a| {
            a.fork(N(1), |a| {
                a.told(nr::SCHED_YIELD, &[]);
                a.told(nr::WRITE, &[N(4), N(buffer), N(8)]);
            });
        });
        a.wait(R(Reg::Rax));
        a.told(nr::CLOSE, &[N(4)]);
        a.told(nr::READ, &[N(3), N(buffer), N(8)]);
        a.told(nr::READ, &[N(3), N(buffer), N(8)]);
        a.told(nr::CLOSE, &[N(3)]);
    });
}

/// Other programs in place of this one.
pub fn exec(a: &mut Assembler, rounds: u64) {
    let [path, missing, name] = [&format!("/{COMMAND}"), "/bin/missing", "c"].map(|text| a.text(text));
    let (arguments, environment) = (a.words(&[path, name, 0]), a.words(&[0]));
    a.repeat(Reg::Rbx, rounds, |a| {
        a.fork(N(1), |a| {
            a.told(nr::EXECVE, &[N(missing), N(arguments), N(environment)]);
            a.told(nr::EXECVE, &[N(path), N(arguments), N(environment)]);
        });
        a.wait(R(Reg::Rax));
    });
}

/// The program that [`exec`] executes: it tells its arguments under a name that follows from the second.
pub fn command() -> Vec<u8> {
    let mut a = Assembler::new();
    a.emit(Code::Load, [Reg::Rbx, Reg::Rsp, Reg::Rsp], 0);
    a.emit(Code::Load, [Reg::R12, Reg::Rsp, Reg::Rsp], 16);
    a.emit(Code::LoadByte, [Reg::R15, Reg::R12, Reg::R12], 0);
    a.note(Reg::Rbx);
    super::say(&mut a, "a command runs");
    let room = a.room(4096);
    a.fill(N(room), 512, N(9));
    a.digest(N(room), 512);
    a.exit(N(17));
    a.finish()
}

/// Threads of one process that wait for each other.
pub fn threads(a: &mut Assembler, rounds: u64) {
    /// VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, CHILD_CLEARTID, CHILD_SETTID.
    const FLAGS: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000 | 0x20_0000 | 0x100_0000;
    const WAIT: u64 = 0;
    const WAKE: u64 = 1;
    let (word, tid, stack) = (a.room(8), a.room(8), a.room(1024) + 1024);
    a.repeat(Reg::Rbx, rounds, |a| {
        let (thread, after) = (a.label(), a.label());
        a.set(Reg::R8, N(1));
        a.keep(Reg::R8, tid);
        a.set(Reg::R8, N(0));
        a.keep(Reg::R8, word);
        a.call(nr::CLONE, &[N(FLAGS), N(stack), N(0), N(tid), N(0)]);
        a.end_if_refused();
        a.jump(Code::JumpZero, Reg::Rax, Reg::Rax, thread);
        a.jump(Code::Jump, Reg::Rax, Reg::Rax, after);
        a.place(thread);
        a.emit(Code::Add, [Reg::R15, Reg::R15, Reg::R15], 1_000_000);
        a.set(Reg::R8, N(11));
        a.keep(Reg::R8, word);
        a.call(nr::FUTEX, &[N(word), N(WAKE), N(1)]);
        a.told(nr::SCHED_YIELD, &[]);
        a.call(nr::EXIT, &[N(0)]);
        a.place(after);
        until(a, word, |a, done| {
            a.set(Reg::R8, Arg::At(word));
            a.jump(Code::JumpUnequal, Reg::R8, Reg::Rsi, done);
        });
        a.note_at(word);
        // The kernel side of CHILD_CLEARTID: the word is zero when the thread has gone.
        let (again, gone) = (a.label(), a.label());
        a.place(again);
        a.set(Reg::R13, Arg::At(tid));
        a.jump(Code::JumpZero, Reg::R13, Reg::R13, gone);
        a.futex_wait(&[N(tid), N(WAIT), R(Reg::R13), N(0)]);
        a.jump(Code::Jump, Reg::R13, Reg::R13, again);
        a.place(gone);
        a.note(Reg::R13);
    });
}

/// Waits at a futex until it is no longer zero.
fn until(a: &mut Assembler, word: u64, test: impl FnOnce(&mut Assembler, crate::assembler::Label)) {
    let (again, done) = (a.label(), a.label());
    a.place(again);
    a.set(Reg::Rsi, N(0));
    test(a, done);
    a.futex_wait(&[N(word), N(0), N(0), N(0)]);
    a.jump(Code::Jump, Reg::R8, Reg::R8, again);
    a.place(done);
}
