//! compare
//!
//! Tracing another process, as far as wait has a part in it.
//!
//! The tracer is told of everything first; the real parent hears of the end when the tracer has.

use std::{
    process::ExitCode,
    ptr,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
};

use libc::{
    __WALL, PTRACE_ATTACH, PTRACE_CONT, PTRACE_EVENT_EXEC, PTRACE_EVENT_STOP, PTRACE_GETEVENTMSG,
    PTRACE_INTERRUPT, PTRACE_LISTEN, PTRACE_O_EXITKILL, PTRACE_O_TRACEEXEC, PTRACE_SEIZE, PTRACE_TRACEME,
    SIGCONT, SIGKILL, SIGSTOP, SIGTRAP, WNOHANG, c_uint, c_ulong, c_void,
};
use linux_tests::{
    Errno, apart, call, equal,
    errno::{ECHILD, ESRCH},
    exec_self,
    memory::shared,
    ok,
    process::{self, Pid, Status, fork, kill, sleeper, wait},
    run_with,
    times::{settle, until},
};

fn main() -> ExitCode {
    run_with(
        &[("exit-6", |_| 6)],
        &[
            || apart(traceme),
            || apart(the_real_parent_waits),
            || apart(threads_of_others),
            || apart(the_tracer_exits),
            || apart(exec_of_another_thread),
            || apart(group_stops),
        ],
    )
}

fn ptrace(request: c_uint, pid: Pid, data: usize) -> Result<(), Errno> {
    call!(ptrace(request, pid, ptr::null_mut::<c_void>(), data)).map(drop)
}

const fn event(number: i32, signal: i32) -> Status {
    Status::Stopped(number << 8 | signal)
}

fn stopped(pid: Pid, status: Status) -> linux_tests::process::Waited {
    Ok(Some((pid, status)))
}

fn traceme() {
    let child = fork(|| {
        ptrace(PTRACE_TRACEME, 0, 0).expect("a child can ask to be traced");
        exec_self("exit-6", &[]);
        99
    });
    equal(
        "44 a traced exec stops with SIGTRAP, visible without WUNTRACED",
        wait(child, 0),
        stopped(child, Status::Stopped(SIGTRAP)),
    );
    equal("44 once", wait(child, WNOHANG), Ok(None));
    equal("44 it goes on", ptrace(PTRACE_CONT, child, 0), Ok(()));
    equal("44 to its end", process::end_of(child), Status::Exited(6));
    equal("44 and is nobody's to trace", ptrace(PTRACE_ATTACH, child, 0), Err(ESRCH));
}

/// A tracer of `pid`: it follows it until `go` is 2, and takes its end.
fn tracer(pid: Pid, go: &AtomicU32, took: &AtomicU32) -> Pid {
    fork(|| {
        ptrace(PTRACE_SEIZE, pid, 0).expect("root can trace");
        go.store(1, SeqCst);
        until(|| go.load(SeqCst) == 2);
        took.store(u32::from(wait(pid, __WALL) == Ok(Some((pid, Status::Exited(8))))), SeqCst);
        0
    })
}

fn the_real_parent_waits() {
    let [go, leave, took, ..] = shared();
    let child = fork(|| {
        until(|| leave.load(SeqCst) == 1);
        8
    });
    let tracer = tracer(child, go, took);
    until(|| go.load(SeqCst) == 1);
    leave.store(1, SeqCst);
    settle();
    equal("45 the real parent sees 0 until the tracer has reaped", wait(child, WNOHANG), Ok(None));
    go.store(2, SeqCst);
    equal("45 and then the status", wait(child, 0), Ok(Some((child, Status::Exited(8)))));
    equal("45 as the tracer did", (process::end_of(tracer), took.load(SeqCst)), (Status::Exited(0), 1));
}

fn threads_of_others() {
    let [tid, answer, ..] = shared();
    let other = fork(|| {
        thread::spawn(|| {
            tid.store(call!(gettid()).unwrap_or(0) as u32, SeqCst);
            loop {
                settle();
            }
        });
        loop {
            settle();
        }
    });
    until(|| tid.load(SeqCst) != 0);
    let tracer = fork(|| {
        let tid = tid.load(SeqCst) as Pid;
        let before = wait(tid, __WALL | WNOHANG) == Err(ECHILD);
        ptrace(PTRACE_SEIZE, tid, 0).expect("root can trace");
        ptrace(PTRACE_INTERRUPT, tid, 0).expect("what is traced can be interrupted");
        let stop = wait(tid, __WALL) == stopped(tid, event(PTRACE_EVENT_STOP, SIGTRAP));
        answer.store(u32::from(before) | u32::from(stop) << 1, SeqCst);
        0
    });
    process::end_of(tracer);
    equal("46 a tracer waits for a thread of another process by its id", answer.load(SeqCst), 3);
    equal("46 which goes on when the tracer ends", process::kill_and_reap(other), Status::Killed(SIGKILL));
}

fn the_tracer_exits() {
    for (options, end) in [(0, None), (PTRACE_O_EXITKILL, Some(Status::Killed(SIGKILL)))] {
        let child = sleeper();
        let tracer = fork(|| ptrace(PTRACE_SEIZE, child, options as usize).map_or(1, |()| 0));
        equal("47 a tracer ends", process::end_of(tracer), Status::Exited(0));
        settle();
        match end {
            None => {
                equal("47 what it traced goes on", wait(child, WNOHANG), Ok(None));
                process::kill_and_reap(child);
            }
            Some(end) => equal("47 with PTRACE_O_EXITKILL it is killed", process::end_of(child), end),
        }
    }
}

fn exec_of_another_thread() {
    let child = fork(|| {
        ptrace(PTRACE_TRACEME, 0, 0).expect("a child can ask to be traced");
        signals_of_thread()
    });
    equal("48 a traced child stops", wait(child, 0), stopped(child, Status::Stopped(SIGSTOP)));
    let options = PTRACE_O_TRACEEXEC | libc::PTRACE_O_TRACECLONE;
    ptrace(libc::PTRACE_SETOPTIONS, child, options as usize).expect("options can be set");
    ptrace(PTRACE_CONT, child, 0).expect("it goes on");
    let clone = wait(child, __WALL);
    equal("48 and makes a thread", clone, stopped(child, event(libc::PTRACE_EVENT_CLONE, SIGTRAP)));
    let thread = message(child);
    equal("48 that stops as well", wait(thread, __WALL), stopped(thread, Status::Stopped(SIGSTOP)));
    // The leader first: it is gone as soon as the thread execs.
    ptrace(PTRACE_CONT, child, 0).expect("the leader goes on");
    ptrace(PTRACE_CONT, thread, 0).expect("so does the thread");
    let exec = wait(-1, __WALL);
    equal("48 the exec of a thread is the leader's", exec, stopped(child, event(PTRACE_EVENT_EXEC, SIGTRAP)));
    equal("48 and tells the thread's former id", message(child), thread);
    ptrace(PTRACE_CONT, child, 0).expect("it goes on");
    equal("48 the end comes under the leader's id", wait(-1, __WALL), Ok(Some((child, Status::Exited(6)))));
    equal("48 and no other", wait(-1, __WALL), Err(ECHILD));
}

/// Stops, and then lets another thread run another program.
fn signals_of_thread() -> i32 {
    linux_tests::signals::raise(SIGSTOP);
    let exec = thread::spawn(|| exec_self("exit-6", &[]));
    let _ = exec.join();
    99
}

fn message(pid: Pid) -> Pid {
    let mut message: c_ulong = 0;
    ptrace(PTRACE_GETEVENTMSG, pid, &raw mut message as usize).expect("an event has a message");
    message as Pid
}

fn group_stops() {
    let child = sleeper();
    ptrace(PTRACE_SEIZE, child, 0).expect("root can trace");
    kill(child, SIGSTOP).expect("a child can be stopped");
    equal("49 the tracer is asked about SIGSTOP", wait(child, 0), stopped(child, Status::Stopped(SIGSTOP)));
    ptrace(PTRACE_CONT, child, SIGSTOP as usize).expect("the signal can be let through");
    let stop = wait(child, 0);
    equal("49 and told of the group's stop", stop, stopped(child, event(PTRACE_EVENT_STOP, SIGSTOP)));
    equal("49 PTRACE_LISTEN leaves it stopped", ptrace(PTRACE_LISTEN, child, 0), Ok(()));
    settle();
    equal("49 without news", wait(child, WNOHANG), Ok(None));
    kill(child, SIGCONT).expect("a child can be continued");
    let trap = wait(child, 0);
    equal("49 until SIGCONT, which is a trap", trap, stopped(child, event(PTRACE_EVENT_STOP, SIGTRAP)));
    ptrace(PTRACE_CONT, child, 0).expect("it goes on");
    equal("49 then comes the signal itself", wait(child, 0), stopped(child, Status::Stopped(SIGCONT)));
    ptrace(PTRACE_CONT, child, SIGCONT as usize).expect("the signal can be let through");
    settle();
    equal("49 and it runs", wait(child, WNOHANG), Ok(None));
    ok("49 and can be killed", process::kill_and_reap(child) == Status::Killed(SIGKILL));
}
