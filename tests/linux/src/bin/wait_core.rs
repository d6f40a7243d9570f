//! compare
//!
//! A process that may leave a core says so in its status.

use std::process::ExitCode;

use libc::{P_PID, RLIM_INFINITY, RLIMIT_CORE, SIGABRT, SIGSEGV, WEXITED, WNOWAIT, rlimit};
use linux_tests::{
    call, equal,
    files::Scratch,
    process::{self, Status, fork, waitid},
    run,
    signals::{self, Do},
};

fn main() -> ExitCode {
    run(&[cores])
}

fn cores() {
    let _scratch = Scratch::new();
    for signal in [SIGSEGV, SIGABRT] {
        let child = fork(|| {
            let limit = rlimit { rlim_cur: RLIM_INFINITY, rlim_max: RLIM_INFINITY };
            call!(setrlimit(RLIMIT_CORE, &raw const limit)).expect("root may raise its limits");
            signals::set(signal, Do::Default);
            signals::raise(signal);
            99
        });
        let info = waitid(P_PID, child as u32, WEXITED | WNOWAIT).expect("the child ends");
        equal(
            &format!("5 waitid calls the end by signal {signal} CLD_DUMPED"),
            (info.code, info.status),
            (libc::CLD_DUMPED, signal),
        );
        equal(
            &format!("5 signal {signal} with a core is the signal | 0x80"),
            process::end_of(child),
            Status::Dumped(signal),
        );
    }
}
