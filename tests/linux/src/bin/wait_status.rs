//! compare
//!
//! The status word and waitid's fields for every way a child can end, stop and go on.

use std::process::ExitCode;

use libc::{
    CLD_CONTINUED, CLD_EXITED, CLD_KILLED, CLD_STOPPED, P_PID, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT,
    SIGKILL, SIGPIPE, SIGPOLL, SIGPROF, SIGPWR, SIGSEGV, SIGSTKFLT, SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN,
    SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH, WCONTINUED, WEXITED, WNOWAIT, WSTOPPED,
    WUNTRACED, rlimit,
};
use linux_tests::{
    call, equal, ok,
    process::{self, Info, Pid, Status, fork, kill, sleeper, waitid},
    run,
    signals::{self, Do},
};

/// Signals whose default is to end the process without a core, with the first and the last real-time signal.
const DEADLY: [i32; 16] = [
    SIGHUP, SIGINT, SIGKILL, SIGUSR1, SIGUSR2, SIGPIPE, SIGALRM, SIGTERM, SIGSTKFLT, SIGVTALRM, SIGPROF,
    SIGPOLL, SIGPWR, 34, 50, 64,
];
/// Signals whose default is to end it with a core.
const CORES: [i32; 10] = [
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    SIGSEGV,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGSYS,
];
const STOPS: [i32; 4] = [SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU];

fn main() -> ExitCode {
    run(&[exits, deaths, cores, stops, ignored])
}

/// The status word as it is.
fn word(pid: Pid, options: i32) -> i32 {
    let mut word = -1;
    assert_eq!(call!(waitpid(pid, &raw mut word, options)), Ok(pid));
    word
}

fn peek(pid: Pid, options: i32) -> Info {
    waitid(P_PID, pid as u32, options | WNOWAIT).expect("the child has news")
}

fn exits() {
    for code in [0, 1, 2, 127, 128, 255] {
        let child = fork(|| code);
        let info = peek(child, WEXITED);
        ok(
            &format!("5 exit code {code} is code << 8"),
            word(child, 0) == code << 8 && (info.code, info.status) == (CLD_EXITED, code),
        );
    }
}

/// A child that lets every signal do what it does by default, and dies of this one.
fn dies_of(signal: i32) -> Pid {
    let child = fork(|| {
        let none = rlimit { rlim_cur: 0, rlim_max: 0 };
        let _ = call!(setrlimit(libc::RLIMIT_CORE, &raw const none));
        if signal != SIGKILL {
            let _ = signals::set_with(signal, Do::Default, 0, &[]);
        }
        signals::raise(signal);
        99
    });
    process::until_zombie(child);
    child
}

fn deaths() {
    for signal in DEADLY {
        let child = dies_of(signal);
        let info = peek(child, WEXITED);
        ok(
            &format!("5 death by signal {signal} is the signal"),
            word(child, 0) == signal && (info.code, info.status) == (CLD_KILLED, signal),
        );
    }
}

fn cores() {
    for signal in CORES {
        let child = dies_of(signal);
        let info = peek(child, WEXITED);
        ok(
            &format!("5 signal {signal} without room for a core is the signal alone"),
            word(child, 0) == signal && (info.code, info.status) == (CLD_KILLED, signal),
        );
    }
}

fn stops() {
    // A group whose parent's group is another one of the session is not orphaned: its members stop for all four.
    for signal in STOPS {
        let child = sleeper();
        call!(setpgid(child, child)).expect("a child can have a group");
        kill(child, signal).expect("a child can be stopped");
        let info = peek(child, WSTOPPED);
        ok(
            &format!("5 a stop by signal {signal} is signal << 8 | 0x7f"),
            word(child, WUNTRACED) == signal << 8 | 0x7f && (info.code, info.status) == (CLD_STOPPED, signal),
        );
        kill(child, SIGCONT).expect("a child can be continued");
        let info = peek(child, WCONTINUED);
        ok(
            &format!("5 continued after signal {signal} is 0xffff"),
            word(child, WCONTINUED) == 0xffff && (info.code, info.status) == (CLD_CONTINUED, SIGCONT),
        );
        equal("5 and it can be killed", process::kill_and_reap(child), Status::Killed(SIGKILL));
    }
}

fn ignored() {
    for signal in [SIGCHLD, SIGURG, SIGWINCH, SIGCONT] {
        let child = fork(|| {
            signals::set(signal, Do::Default);
            signals::raise(signal);
            4
        });
        equal(
            &format!("5 signal {signal} does nothing by default"),
            process::end_of(child),
            Status::Exited(4),
        );
    }
}
