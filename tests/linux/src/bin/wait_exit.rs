//! compare
//!
//! What has happened when a process has ended: its id, its descriptors and locks, its threads, its one status.

use std::{process::ExitCode, ptr, sync::atomic::Ordering::SeqCst, thread};

use libc::{
    CLONE_CHILD_CLEARTID, CLONE_VM, F_SETLK, FUTEX_OWNER_DIED, FUTEX_TID_MASK, LOCK_EX, LOCK_NB, SIGCHLD,
    SIGKILL, SIGTERM, WNOHANG, c_long, flock,
};
use linux_tests::{
    apart, call, equal,
    errno::{EAGAIN, ECHILD, ESRCH},
    exec_self,
    files::{self, Scratch},
    memory::shared,
    ok,
    process::{self, Pid, Status, clone, exit_thread, fork, kill, wait},
    run_with,
    times::{settle, until},
};

fn main() -> ExitCode {
    run_with(
        &[("same-process", |arguments| {
            let pid: Result<Pid, _> = arguments.first().map_or("", String::as_str).parse();
            let leads = call!(gettid()) == Ok(process::me());
            i32::from(pid != Ok(process::me()) || !leads)
        })],
        &[
            signals_to_a_zombie,
            || apart(descriptors_are_closed),
            || apart(locks_are_dropped),
            || apart(thread_id_is_cleared),
            || apart(robust_futexes),
            || apart(leader_gone),
            || apart(exec_by_another_thread),
            || apart(racing_exits),
            || apart(racing_signal),
            || apart(ids_are_not_reused),
        ],
    )
}

fn signals_to_a_zombie() {
    let child = fork(|| 3);
    process::until_zombie(child);
    equal("29 a zombie can be signalled", kill(child, 0), Ok(()));
    equal("29 even killed", kill(child, SIGTERM), Ok(()));
    equal("29 and keeps its status", process::end_of(child), Status::Exited(3));
    equal("29 after the reap it is gone", kill(child, 0), Err(ESRCH));
}

fn descriptors_are_closed() {
    let round = |_| {
        let (from, to) = files::pipe();
        let child = fork(|| {
            settle();
            0
        });
        files::close(to);
        files::set_blocking(from, false);
        let open = files::read(from, 1) == Err(EAGAIN);
        process::end_of(child);
        let closed = files::read(from, 1) == Ok(vec![]);
        files::close(from);
        open && closed
    };
    ok("30 descriptors are closed before wait returns", (0..5).all(round));
}

fn locks_are_dropped() {
    let _scratch = Scratch::new();
    let [ready, go, ..] = shared();
    let open =
        || call!(open(c"locked".as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600)).expect("a file can be made");
    let (first, second) = (open(), open());
    let lock = |fd| {
        // SAFETY: the structure is plain numbers, of which zero is valid.
        let mut range: flock = unsafe { std::mem::zeroed() };
        range.l_type = libc::F_WRLCK as i16;
        call!(fcntl(fd, F_SETLK, &raw const range)).map(drop)
    };
    let child = fork(|| {
        let own = open();
        let locked = lock(own).is_ok() && call!(flock(own, LOCK_EX)).is_ok();
        ready.store(1, SeqCst);
        until(|| go.load(SeqCst) == 1);
        i32::from(!locked)
    });
    until(|| ready.load(SeqCst) == 1);
    equal("30 another process holds a record lock", lock(first), Err(EAGAIN));
    equal("30 and a lock of the whole file", call!(flock(second, LOCK_EX | LOCK_NB)).map(drop), Err(EAGAIN));
    go.store(1, SeqCst);
    equal("30 it ends with both", process::end_of(child), Status::Exited(0));
    equal("30 the record lock is dropped before wait returns", lock(first), Ok(()));
    equal("30 and so is the other", call!(flock(second, LOCK_EX | LOCK_NB)).map(drop), Ok(()));
}

fn thread_id_is_cleared() {
    let [tid, ..] = shared();
    let round = |_| {
        tid.store(77, SeqCst);
        // The thread id is only cleared for others who share the memory.
        let child = clone(CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, || 0, tid.as_ptr().cast());
        let child = child.expect("a process can share its parent's memory");
        let ended = process::end_of(child) == Status::Exited(0);
        ended && tid.load(SeqCst) == 0
    };
    ok("30 clear_child_tid is done before wait returns", (0..50).all(round));
}

/// The head of a list of robust futexes with one entry, as the kernel reads it.
#[repr(C)]
struct RobustList {
    first: *mut RobustEntry,
    futex_offset: c_long,
    pending: *mut RobustEntry,
}

#[repr(C)]
struct RobustEntry {
    next: *mut RobustList,
}

fn robust_futexes() {
    let [futex, ..] = shared();
    let child = fork(|| {
        let entry = Box::leak(Box::new(RobustEntry { next: ptr::null_mut() }));
        let distance = futex.as_ptr() as c_long - &raw const *entry as c_long;
        let head = Box::leak(Box::new(RobustList {
            first: entry,
            futex_offset: distance,
            pending: ptr::null_mut(),
        }));
        entry.next = head;
        futex.store(process::me() as u32, SeqCst);
        let len = size_of::<RobustList>();
        call!(syscall(libc::SYS_set_robust_list, &raw const *head, len)).map_or(1, |_| process::exit(0))
    });
    equal("30 a child ends with a robust futex held", process::end_of(child), Status::Exited(0));
    let word = futex.load(SeqCst);
    equal(
        "30 the futex says that its owner died before wait returns",
        word & !FUTEX_TID_MASK,
        FUTEX_OWNER_DIED,
    );
}

fn leader_gone() {
    let [go, ..] = shared();
    let child = fork(|| {
        thread::spawn(|| {
            until(|| go.load(SeqCst) == 1);
            exit_thread(7);
        });
        exit_thread(5);
    });
    process::until_leader_gone(child);
    equal("31 a process whose leader is gone is not waitable", wait(child, WNOHANG), Ok(None));
    equal("31 and alive", kill(child, 0), Ok(()));
    go.store(1, SeqCst);
    equal("31 the code of the last thread wins", process::end_of(child), Status::Exited(7));
    let child = fork(|| {
        let own = process::me();
        thread::spawn(move || {
            process::until_leader_gone(own);
            process::exit(9);
        });
        exit_thread(5);
    });
    equal("31 or that of an exit of all", process::end_of(child), Status::Exited(9));
    let child = fork(|| {
        thread::spawn(|| {
            loop {
                settle();
            }
        });
        exit_thread(5);
    });
    process::until_leader_gone(child);
    equal("31 a signal to such a process ends it", process::kill_and_reap(child), Status::Killed(SIGKILL));
}

fn exec_by_another_thread() {
    let child = fork(|| {
        for _ in 0..3 {
            thread::spawn(|| {
                loop {
                    settle();
                }
            });
        }
        let pid = process::me().to_string();
        let exec = thread::spawn(move || exec_self("same-process", &[&pid]));
        let _ = exec.join();
        99
    });
    equal(
        "32 exec by a thread that does not lead keeps the pid, and it leads",
        process::end_of(child),
        Status::Exited(0),
    );
    equal("32 the other threads vanish unreported", wait(-1, WNOHANG | libc::__WALL), Err(ECHILD));
}

fn racing_exits() {
    let round = |_| {
        let [start, ..] = shared();
        let child = fork(|| {
            for code in [3, 4] {
                thread::spawn(move || {
                    start.fetch_add(1, SeqCst);
                    while start.load(SeqCst) < 2 {
                        thread::yield_now();
                    }
                    process::exit(code)
                });
            }
            loop {
                settle();
            }
        });
        let status = process::end_of(child);
        status == Status::Exited(3) || status == Status::Exited(4)
    };
    ok("33 of two exits of all at once exactly one gives the code, fifty times", (0..50).all(round));
}

fn racing_signal() {
    let round = |_| {
        let [start, ..] = shared();
        let child = fork(|| {
            start.store(1, SeqCst);
            while start.load(SeqCst) < 2 {
                thread::yield_now();
            }
            process::exit(3)
        });
        until(|| start.load(SeqCst) == 1);
        start.store(2, SeqCst);
        let _ = kill(child, SIGKILL);
        let status = process::end_of(child);
        status == Status::Exited(3) || status == Status::Killed(SIGKILL)
    };
    ok("33 of an exit and a fatal signal exactly one gives the status, fifty times", (0..50).all(round));
    equal("33 and nothing else is left", wait(-1, WNOHANG), Err(ECHILD));
}

fn ids_are_not_reused() {
    let zombie = fork(|| 0);
    let leader = fork(|| 0);
    let member = process::sleeper();
    call!(setpgid(leader, leader)).expect("a child can lead a group");
    call!(setpgid(member, leader)).expect("a child can join it");
    process::until_zombie(zombie);
    process::end_of(leader);
    let taken = |_| {
        let child = fork(|| 0);
        process::end_of(child);
        child == zombie || child == leader
    };
    ok("28 no new process has the id of a zombie or of a group", !(0..100).any(taken));
    process::kill_and_reap(member);
    process::end_of(zombie);
}
