//! compare
//!
//! SIGCHLD: what it tells, who gets it, what ignoring it does, and how handlers interrupt a wait.

use std::{
    process::ExitCode,
    ptr,
    sync::atomic::{AtomicI32, AtomicU32, Ordering::SeqCst},
    time::Duration,
};

use libc::{
    __WALL, __WCLONE, CLD_CONTINUED, CLD_EXITED, CLD_KILLED, CLD_STOPPED, SA_NOCLDWAIT, SA_RESTART, SIG_DFL,
    SIG_IGN, SIGCHLD, SIGCONT, SIGKILL, SIGSTOP, SIGTERM, SIGUSR1, WNOHANG, WNOWAIT,
};
use linux_tests::{
    apart, call, equal,
    errno::{EAGAIN, ECHILD, EINTR},
    exec_self, files,
    memory::shared,
    ok,
    process::{self, Info, Pid, Status, clone, fork, kill, sleeper, wait},
    run_with,
    signals::{self, Do, seen, set, take},
    times::{settle, sleep_ms, until},
};

const SOON: Duration = Duration::from_secs(10);
const NOW: Duration = Duration::ZERO;

fn main() -> ExitCode {
    run_with(
        &[("action", |_| match signals::action(SIGCHLD) {
            SIG_DFL => 10,
            SIG_IGN => 11,
            _ => 12,
        })],
        &[
            || apart(other_exit_signals),
            || apart(ignored),
            || apart(zombie_from_before),
            || apart(no_zombies_with_a_handler),
            || apart(across_exec),
            || apart(information),
            || apart(information_of_another_user),
            || apart(five_at_once),
            || apart(interruption),
            || apart(ready_in_the_handler),
            || apart(cancellation),
        ],
    )
}

fn other_exit_signals() {
    signals::block(&[SIGUSR1, SIGCHLD]);
    let child = clone(SIGUSR1, || 5, ptr::null_mut()).expect("clone takes any exit signal");
    equal("11 the exit signal is sent", take(&[SIGUSR1], SOON).map(|info| info.pid), Ok(child));
    equal("11 a child with another exit signal: plain wait says ECHILD", wait(-1, 0), Err(ECHILD));
    equal("11 and for its pid", wait(child, WNOHANG), Err(ECHILD));
    equal("11 __WCLONE sees it", wait(-1, __WCLONE), Ok(Some((child, Status::Exited(5)))));
    equal("11 and SIGCHLD is not sent", signals::pending(SIGCHLD), false);

    let child = clone(0, || 6, ptr::null_mut()).expect("clone needs no exit signal");
    equal(
        "11 __WALL sees a child without exit signal",
        wait(child, __WALL),
        Ok(Some((child, Status::Exited(6)))),
    );
    let child = fork(|| 7);
    equal("11 __WCLONE does not see a plain child", wait(-1, __WCLONE), Err(ECHILD));
    equal("11 __WALL does", wait(-1, __WALL), Ok(Some((child, Status::Exited(7)))));
}

fn ignored() {
    set(SIGCHLD, Do::Ignore);
    let (from, to) = files::pipe();
    for delay in [5, 20, 10] {
        fork(|| {
            sleep_ms(delay);
            0
        });
    }
    files::close(to);
    files::set_blocking(from, false);
    equal("12 with SIGCHLD ignored, wait ends with ECHILD", wait(-1, 0), Err(ECHILD));
    equal("12 when all children have ended", files::read(from, 1), Ok(vec![]));
    let child = fork(|| 0);
    equal("12 the same for one child", wait(child, 0), Err(ECHILD));
    until(|| kill(child, 0).is_err());
    ok("12 and no zombie is left", kill(child, 0).is_err());
    set(SIGCHLD, Do::Default);
    let child = fork(|| 1);
    equal(
        "12 by default, which also does nothing, a zombie stays",
        process::end_of(child),
        Status::Exited(1),
    );
}

fn zombie_from_before() {
    let child = fork(|| 8);
    process::until_zombie(child);
    set(SIGCHLD, Do::Ignore);
    settle();
    equal("13 a zombie from before SIG_IGN stays reapable", process::end_of(child), Status::Exited(8));
    equal("13 once", wait(-1, 0), Err(ECHILD));
}

fn no_zombies_with_a_handler() {
    signals::set_with(SIGCHLD, Do::Count, SA_NOCLDWAIT | SA_RESTART, &[]).expect("an action can be set");
    let child = fork(|| 0);
    equal("14 with SA_NOCLDWAIT no zombie stays", wait(child, 0), Err(ECHILD));
    ok("14 but SIGCHLD is sent", until(|| seen(SIGCHLD) == 1));
}

fn across_exec() {
    let action_after_exec = |before| {
        let child = fork(|| {
            set(SIGCHLD, before);
            exec_self("action", &[]);
            99
        });
        process::end_of(child)
    };
    equal(
        "15 an ignored SIGCHLD stays ignored across exec",
        action_after_exec(Do::Ignore),
        Status::Exited(11),
    );
    equal("15 a caught one is reset to the default", action_after_exec(Do::Count), Status::Exited(10));
}

fn information() {
    signals::block(&[SIGCHLD]);
    let news = |pid, code, status| Ok(Info { pid, uid: 0, signal: SIGCHLD, code, status });
    let child = fork(|| 9);
    equal("21 SIGCHLD tells of an exit", take(&[SIGCHLD], SOON), news(child, CLD_EXITED, 9));
    process::end_of(child);
    let child = sleeper();
    kill(child, SIGSTOP).expect("a child can be stopped");
    equal("21 of a stop", take(&[SIGCHLD], SOON), news(child, CLD_STOPPED, SIGSTOP));
    kill(child, SIGCONT).expect("a child can be continued");
    equal("21 of a continue", take(&[SIGCHLD], SOON), news(child, CLD_CONTINUED, SIGCONT));
    kill(child, SIGTERM).expect("a child can be killed");
    equal("21 of a death by signal", take(&[SIGCHLD], SOON), news(child, CLD_KILLED, SIGTERM));
    process::end_of(child);
    equal("21 and of nothing else", take(&[SIGCHLD], NOW), Err(EAGAIN));
}

fn information_of_another_user() {
    signals::block(&[SIGCHLD]);
    let child = fork(|| {
        call!(setresuid(1234, 0, 0)).expect("root can change its real user");
        3
    });
    let wanted = Info { pid: child, uid: 1234, signal: SIGCHLD, code: CLD_EXITED, status: 3 };
    equal("21 SIGCHLD has the child's real user", take(&[SIGCHLD], SOON), Ok(wanted));
    let info = process::waitid(libc::P_PID, child as u32, libc::WEXITED);
    equal("21 and so has waitid", info, Ok(wanted));
}

fn five_at_once() {
    signals::block(&[SIGCHLD]);
    set(SIGCHLD, Do::Count);
    let children: Vec<Pid> = (0..5).map(|code| fork(|| code)).collect();
    children.iter().for_each(|&child| process::until_zombie(child));
    signals::unblock(&[SIGCHLD]);
    equal("22 five exits while SIGCHLD is blocked are one SIGCHLD", seen(SIGCHLD), 1);
    let reaped = (0..5).filter(|_| matches!(wait(-1, 0), Ok(Some(_)))).count();
    equal("22 and five reaps", reaped, 5);
    equal("22 and no more", wait(-1, 0), Err(ECHILD));
}

/// A child that sends SIGUSR1 to its parent until `stop` is set, and then exits.
fn pest(stop: &'static AtomicU32) -> Pid {
    let parent = process::me();
    fork(|| {
        while stop.load(SeqCst) == 0 {
            sleep_ms(2);
            let _ = kill(parent, SIGUSR1);
        }
        0
    })
}

fn interruption() {
    let [stop, stop_other, restarted, ..] = shared();
    let pest_pid = pest(stop);
    set(SIGUSR1, Do::Count);
    let child = sleeper();
    equal("23 a handler without SA_RESTART ends wait with EINTR", wait(child, 0), Err(EINTR));
    equal("23 and waitid", process::waitid(libc::P_ALL, 0, libc::WEXITED).map(drop), Err(EINTR));
    stop.store(1, SeqCst);
    process::kill_and_reap(child);
    while wait(pest_pid, 0) == Err(EINTR) {}

    signals::set_with(SIGUSR1, Do::Count, SA_RESTART, &[]).expect("an action can be set");
    let pest_pid = pest(stop_other);
    let before = seen(SIGUSR1);
    let child = fork(|| {
        until(|| restarted.load(SeqCst) == 1);
        11
    });
    let helper = std::thread::spawn(move || {
        until(|| seen(SIGUSR1) > before + 5);
        restarted.store(1, SeqCst);
    });
    equal("23 with SA_RESTART the wait goes on", wait(child, 0), Ok(Some((child, Status::Exited(11)))));
    helper.join().expect("a thread ends");
    ok("23 through several signals", seen(SIGUSR1) > before + 5);
    stop_other.store(1, SeqCst);
    equal("23 to the end", process::end_of(pest_pid), Status::Exited(0));
}

static FOUND: AtomicI32 = AtomicI32::new(0);

extern "C" fn reap(_: i32) {
    FOUND.store(call!(waitpid(-1, ptr::null_mut(), WNOHANG)).unwrap_or(-1), SeqCst);
}

fn ready_in_the_handler() {
    set(SIGCHLD, Do::Handle(reap));
    let round = |_| {
        FOUND.store(0, SeqCst);
        signals::block(&[SIGCHLD]);
        let child = fork(|| 0);
        signals::unblock(&[SIGCHLD]);
        until(|| FOUND.load(SeqCst) != 0) && FOUND.load(SeqCst) == child
    };
    ok("52 WNOHANG in SIGCHLD's handler finds the child, forty times", (0..40).all(round));
}

fn cancellation() {
    set(SIGUSR1, Do::Count);
    let parent = process::me();
    let round = |code| {
        let child = fork(|| {
            let _ = kill(parent, SIGUSR1);
            code
        });
        let mut answer = wait(child, 0);
        while answer == Err(EINTR) {
            answer = wait(child, 0);
        }
        answer == Ok(Some((child, Status::Exited(code))))
    };
    ok("53 a handler that interrupts a wait consumes no status, in a hundred races", (0..100).all(round));
    a_waiter_is_killed();
}

fn a_waiter_is_killed() {
    let [pid_of_inner, release, ..] = shared();
    call!(prctl(libc::PR_SET_CHILD_SUBREAPER, 1)).expect("a process can be a sub-reaper");
    let waiter = fork(|| {
        let inner = fork(|| {
            until(|| release.load(SeqCst) == 1);
            9
        });
        pid_of_inner.store(inner as u32, SeqCst);
        let _ = wait(inner, 0);
        99
    });
    until(|| pid_of_inner.load(SeqCst) != 0);
    settle();
    equal("53 a waiter is killed in its wait", process::kill_and_reap(waiter), Status::Killed(SIGKILL));
    release.store(1, SeqCst);
    let inner = pid_of_inner.load(SeqCst) as Pid;
    let peek = process::waitid(libc::P_PID, inner as u32, libc::WEXITED | WNOWAIT).map(|info| info.status);
    equal("53 the child it waited for is there", peek, Ok(9));
    equal("53 with its status", process::end_of(inner), Status::Exited(9));
}
