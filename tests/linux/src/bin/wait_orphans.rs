//! compare
//!
//! What becomes of children whose parent ends, and of process groups that nobody of their session looks after.

use std::{
    process::ExitCode,
    ptr,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
    time::Duration,
};

use libc::{
    __WNOTHREAD, PR_GET_CHILD_SUBREAPER, PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, SIGCONT, SIGHUP, SIGKILL,
    SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, WNOHANG, WUNTRACED,
};
use linux_tests::{
    apart, call, equal, exec_self,
    memory::shared,
    ok,
    process::{self, Pid, Status, fork, kill, sleeper, until_stopped, until_zombie, wait},
    run_with,
    signals::{self, Do},
    times::{settle, until},
};

fn main() -> ExitCode {
    run_with(
        &[("subreaper", |_| i32::from(is_subreaper()))],
        &[
            || apart(to_the_subreaper),
            || apart(to_the_nearest_subreaper),
            || apart(to_another_thread),
            || apart(the_flag),
            || apart(zombies_move_on),
            || apart(death_signal),
            || apart(death_signal_of_a_thread),
            || apart(stopped_orphans),
            || apart(stopped_orphans_die),
            || apart(orphans_do_not_stop),
        ],
    )
}

fn become_subreaper() {
    call!(prctl(PR_SET_CHILD_SUBREAPER, 1)).expect("a process can be a sub-reaper");
}

fn is_subreaper() -> bool {
    let mut flag = -1;
    call!(prctl(PR_GET_CHILD_SUBREAPER, &raw mut flag)).expect("the flag can be asked for");
    flag == 1
}

fn parent() -> Pid {
    call!(getppid()).unwrap_or(0)
}

/// What an orphan does: it tells who its parent is once its first one is gone, and exits.
fn tell_parent(of: &AtomicU32, first: Pid) -> i32 {
    until(|| parent() != first);
    of.store(parent() as u32, SeqCst);
    5
}

fn to_the_subreaper() {
    let [orphan, new_parent, ..] = shared();
    become_subreaper();
    let child = fork(|| {
        let me = process::me();
        orphan.store(fork(|| tell_parent(new_parent, me)) as u32, SeqCst);
        4
    });
    equal("35 a parent ends", process::end_of(child), Status::Exited(4));
    let orphan = orphan.load(SeqCst) as Pid;
    equal("35 its child goes to the sub-reaper", wait(-1, 0), Ok(Some((orphan, Status::Exited(5)))));
    equal("35 and knows", new_parent.load(SeqCst), process::me() as u32);
}

fn to_the_nearest_subreaper() {
    let [orphan, new_parent, middle_pid, release, ..] = shared();
    become_subreaper();
    let middle = fork(|| {
        become_subreaper();
        let plain = fork(|| {
            let me = process::me();
            let pid = fork(|| {
                tell_parent(new_parent, me);
                until(|| release.load(SeqCst) == 1);
                tell_parent(new_parent, middle_pid.load(SeqCst) as Pid)
            });
            orphan.store(pid as u32, SeqCst);
            0
        });
        middle_pid.store(process::me() as u32, SeqCst);
        process::end_of(plain);
        until(|| new_parent.load(SeqCst) != 0);
        0
    });
    process::end_of(middle);
    equal("35 an orphan goes to the nearest sub-reaper", new_parent.load(SeqCst), middle as u32);
    release.store(1, SeqCst);
    let orphan = orphan.load(SeqCst) as Pid;
    equal("35 and when that ends, to the next", wait(-1, 0), Ok(Some((orphan, Status::Exited(5)))));
    equal("35 and knows", new_parent.load(SeqCst), process::me() as u32);
}

fn to_another_thread() {
    let me = process::me();
    let child = thread::spawn(move || {
        fork(|| {
            settle();
            i32::from(parent() != me)
        })
    });
    let child = child.join().expect("a thread ends");
    settle();
    let answer = wait(child, __WNOTHREAD);
    equal(
        "35 the child of an ended thread goes to another of the process",
        answer,
        Ok(Some((child, Status::Exited(0)))),
    );
}

fn the_flag() {
    become_subreaper();
    ok("36 the flag can be read", is_subreaper());
    let child = fork(|| i32::from(is_subreaper()));
    equal("36 it is not inherited by fork", process::end_of(child), Status::Exited(0));
    let child = fork(|| {
        become_subreaper();
        exec_self("subreaper", &[]);
        99
    });
    equal("36 it survives exec", process::end_of(child), Status::Exited(1));
}

fn zombies_move_on() {
    let [pids @ .., _] = shared();
    become_subreaper();
    let child = fork(|| {
        for (code, slot) in (0..3).zip(pids) {
            let zombie = fork(|| 10 + code);
            until_zombie(zombie);
            slot.store(zombie as u32, SeqCst);
        }
        4
    });
    equal("37 a parent of zombies ends", process::end_of(child), Status::Exited(4));
    let ends = [0, 1, 2].map(|at| process::end_of(pids[at].load(SeqCst) as Pid));
    equal("37 its zombies are reapable by the next parent", ends, [10, 11, 12].map(Status::Exited));
    equal("37 once", wait(-1, WNOHANG), Err(linux_tests::errno::ECHILD));
}

fn death_signal() {
    let [ready, got, ..] = shared();
    become_subreaper();
    let middle = fork(|| {
        fork(|| {
            signals::block(&[SIGUSR1]);
            call!(prctl(PR_SET_PDEATHSIG, SIGUSR1)).expect("a death signal can be asked for");
            ready.store(1, SeqCst);
            let signal = signals::take(&[SIGUSR1], Duration::from_secs(10));
            got.store(signal.map_or(0, |info| info.signal as u32), SeqCst);
            0
        });
        until(|| ready.load(SeqCst) == 1);
        0
    });
    process::end_of(middle);
    ok("38 PDEATHSIG fires when the parent ends", until(|| got.load(SeqCst) == SIGUSR1 as u32));
    let _ = wait(-1, 0);
}

fn death_signal_of_a_thread() {
    let [ready, ..] = shared();
    let child = thread::spawn(|| {
        let child = fork(|| {
            signals::block(&[SIGUSR1]);
            call!(prctl(PR_SET_PDEATHSIG, SIGUSR1)).expect("a death signal can be asked for");
            ready.store(1, SeqCst);
            let signal = signals::take(&[SIGUSR1], Duration::from_secs(10));
            i32::from(signal.is_ok_and(|info| info.signal == SIGUSR1))
        });
        until(|| ready.load(SeqCst) == 1);
        child
    });
    let child = child.join().expect("a thread ends");
    equal("38 PDEATHSIG fires when the creating thread exits", process::end_of(child), Status::Exited(1));
}

static ORDER: AtomicU32 = AtomicU32::new(0);

extern "C" fn note(signal: i32) {
    ORDER.store(ORDER.load(SeqCst) * 100 + signal as u32, SeqCst);
}

/// Makes a stopped member of a group that becomes orphaned when its parent, the session's leader, ends: its new
/// parent is of another session.
fn stopped_orphan(body: impl FnOnce() -> i32) -> Pid {
    let [pid, ..] = shared();
    become_subreaper();
    let leader = fork(|| {
        call!(setsid()).expect("a child can make a session");
        let member = fork(body);
        call!(setpgid(member, member)).expect("a child can have a group");
        until_stopped(member);
        pid.store(member as u32, SeqCst);
        0
    });
    equal("39 the parent of a stopped group ends", process::end_of(leader), Status::Exited(0));
    pid.load(SeqCst) as Pid
}

fn stopped_orphans() {
    let member = stopped_orphan(|| {
        for signal in [SIGHUP, SIGCONT] {
            signals::set_with(signal, Do::Handle(note), 0, &[SIGHUP, SIGCONT]).expect("an action can be set");
        }
        signals::raise(SIGSTOP);
        until(|| ORDER.load(SeqCst) > 100);
        i32::from(ORDER.load(SeqCst) == (SIGHUP * 100 + SIGCONT) as u32)
    });
    equal("39 a newly orphaned group gets SIGHUP, then SIGCONT", process::end_of(member), Status::Exited(1));
}

fn stopped_orphans_die() {
    let member = stopped_orphan(|| {
        signals::set(SIGHUP, Do::Default);
        signals::raise(SIGSTOP);
        99
    });
    equal("39 which ends it by default", process::end_of(member), Status::Killed(SIGHUP));
    running_orphans_live_on();
}

fn running_orphans_live_on() {
    let [pid, ..] = shared();
    let leader = fork(|| {
        call!(setsid()).expect("a child can make a session");
        let member = sleeper();
        call!(setpgid(member, member)).expect("a child can have a group");
        pid.store(member as u32, SeqCst);
        0
    });
    process::end_of(leader);
    settle();
    let member = pid.load(SeqCst) as Pid;
    equal("39 a group without stopped members gets nothing", wait(member, WNOHANG), Ok(None));
    process::kill_and_reap(member);
}

fn orphans_do_not_stop() {
    for signal in [SIGTSTP, SIGTTIN, SIGTTOU] {
        let child = fork(|| {
            call!(setsid()).expect("a child can make a session");
            signals::raise(signal);
            3
        });
        let answer = call!(waitpid(child, ptr::null_mut(), WUNTRACED)) == Ok(child);
        ok(&format!("40 a member of an orphaned group does not stop for signal {signal}"), answer);
        ok("40 but ends", kill(child, 0).is_err());
    }
    let child = fork(|| {
        call!(setsid()).expect("a child can make a session");
        signals::raise(SIGSTOP);
        3
    });
    equal("40 it stops for SIGSTOP", wait(child, WUNTRACED), Ok(Some((child, Status::Stopped(SIGSTOP)))));
    equal("40 and can be killed", process::kill_and_reap(child), Status::Killed(SIGKILL));
}
