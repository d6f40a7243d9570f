//! compare
//!
//! signalfd: signals that are read instead of handled.

use std::{mem, process::ExitCode, ptr, thread};

use libc::{
    EPOLL_CTL_ADD, EPOLLIN, POLLIN, SFD_CLOEXEC, SFD_NONBLOCK, SIGCHLD, SIGRTMIN, SIGUSR1, SIGUSR2, c_int,
    epoll_event, signalfd_siginfo, sigset_t,
};
use linux_tests::{
    Errno, apart, call, equal,
    errno::{EAGAIN, EBADF, EINTR, EINVAL},
    files::{Fd, close, poll_now, write},
    ok,
    process::{self, Status, fork, kill, me},
    run,
    signals::{self, Do, pending, raise, seen, set_of},
    times::settle,
};

const RECORD: usize = mem::size_of::<signalfd_siginfo>();

fn main() -> ExitCode {
    run(&[
        || apart(one_signal),
        || apart(several_signals),
        || apart(waiting),
        || apart(readiness),
        || apart(children),
        || apart(changing),
        || apart(inheriting),
        || apart(refusals),
    ])
}

fn signalfd(fd: Fd, set: &sigset_t, flags: c_int) -> Result<Fd, Errno> {
    call!(signalfd(fd, ptr::from_ref(set), flags))
}

fn blocked(signals: &[c_int], flags: c_int) -> Fd {
    signals::block(signals);
    signalfd(-1, &set_of(signals), flags).expect("a descriptor can be made")
}

fn read(fd: Fd, most: usize) -> Result<Vec<signalfd_siginfo>, Errno> {
    // SAFETY: the structure is plain numbers, of which zero is valid.
    let mut records: [signalfd_siginfo; 8] = unsafe { mem::zeroed() };
    let length = call!(read(fd, records.as_mut_ptr().cast(), most))?;
    Ok(records.into_iter().take(length as usize / RECORD).collect())
}

fn numbers(fd: Fd, most: usize) -> Result<Vec<u32>, Errno> {
    read(fd, most).map(|records| records.iter().map(|record| record.ssi_signo).collect())
}

fn one_signal() {
    let fd = blocked(&[SIGUSR1], SFD_NONBLOCK);
    equal("without a signal there is nothing", numbers(fd, RECORD), Err(EAGAIN));
    kill(me(), SIGUSR1).expect("a process can signal itself");
    let records = read(fd, RECORD).expect("there is one");
    equal("a signal is a record", records.len(), 1);
    let record = records[0];
    equal("with its number and code", (record.ssi_signo, record.ssi_code), (SIGUSR1 as u32, libc::SI_USER));
    ok("and who sent it", record.ssi_pid == me() as u32 && record.ssi_uid == 0);
    equal("it is taken", (pending(SIGUSR1), numbers(fd, RECORD)), (false, Err(EAGAIN)));
}

fn several_signals() {
    let fd = blocked(&[SIGUSR1, SIGUSR2, SIGRTMIN()], SFD_NONBLOCK);
    for _ in 0..2 {
        kill(me(), SIGUSR2).expect("a process can signal itself");
        raise(SIGUSR1);
        call!(sigqueue(me(), SIGRTMIN(), libc::sigval { sival_ptr: 77 as *mut _ }))
            .expect("it can be queued");
    }
    let expected = vec![SIGUSR1 as u32, SIGUSR2 as u32, SIGRTMIN() as u32, SIGRTMIN() as u32];
    let records = read(fd, 8 * RECORD).expect("there are some");
    let found: Vec<u32> = records.iter().map(|record| record.ssi_signo).collect();
    equal("several are read at once, a thread's own first", found, expected);
    let last = records.last().expect("there is a last");
    equal("with the value that came along", (last.ssi_int, last.ssi_ptr), (77, 77));
    raise(SIGUSR1);
    raise(SIGUSR2);
    equal("or as many as there is room for", numbers(fd, 2 * RECORD - 1), Ok(vec![SIGUSR1 as u32]));
    equal("and then the rest", numbers(fd, 8 * RECORD), Ok(vec![SIGUSR2 as u32]));
}

fn waiting() {
    let fd = blocked(&[SIGUSR1], 0);
    let this = call!(gettid()).expect("a thread has a number");
    let sender = thread::spawn(move || {
        settle();
        call!(syscall(libc::SYS_tgkill, me(), this, SIGUSR1)).expect("a thread can be signalled");
    });
    equal("a read waits for a signal", numbers(fd, RECORD), Ok(vec![SIGUSR1 as u32]));
    sender.join().expect("it ends");
    signals::set(SIGUSR2, Do::Count);
    let sender = thread::spawn(move || {
        settle();
        call!(syscall(libc::SYS_tgkill, me(), this, SIGUSR2)).expect("a thread can be signalled");
    });
    equal("another's handler interrupts it", numbers(fd, RECORD), Err(EINTR));
    sender.join().expect("it ends");
    equal("once", seen(SIGUSR2), 1);
}

fn readiness() {
    let fd = blocked(&[SIGUSR1], 0);
    equal("without a signal it is not ready", poll_now(fd, POLLIN), 0);
    raise(SIGUSR1);
    equal("with one it is", poll_now(fd, POLLIN), POLLIN);
    let set = call!(epoll_create1(0)).expect("a set can be made");
    let mut event = epoll_event { events: EPOLLIN as u32, u64: 5 };
    call!(epoll_ctl(set, EPOLL_CTL_ADD, fd, &raw mut event)).expect("it can be watched");
    let mut told = epoll_event { events: 0, u64: 0 };
    equal("as epoll tells", call!(epoll_wait(set, &raw mut told, 1, 0)), Ok(1));
    equal("until it is read", numbers(fd, RECORD), Ok(vec![SIGUSR1 as u32]));
    equal("by both", (poll_now(fd, POLLIN), call!(epoll_wait(set, &raw mut told, 1, 0))), (0, Ok(0)));
    raise(SIGUSR1);
    signals::set(SIGUSR1, Do::Count);
    signals::unblock(&[SIGUSR1]);
    equal("or handled", (seen(SIGUSR1), poll_now(fd, POLLIN)), (1, 0));
}

fn children() {
    let fd = blocked(&[SIGCHLD], 0);
    let child = fork(|| 3);
    let records = read(fd, RECORD).expect("its end is a signal");
    let record = records[0];
    ok("a child's end tells which", record.ssi_pid == child as u32);
    equal("and how", (record.ssi_code, record.ssi_status), (libc::CLD_EXITED, 3));
    equal("it is there to be reaped", process::end_of(child), Status::Exited(3));
}

fn changing() {
    let fd = blocked(&[SIGUSR1, SIGUSR2], SFD_NONBLOCK);
    raise(SIGUSR2);
    equal("its set can be changed", signalfd(fd, &set_of(&[SIGUSR1]), 0), Ok(fd));
    equal(
        "then what is not in it stays pending",
        (numbers(fd, RECORD), pending(SIGUSR2)),
        (Err(EAGAIN), true),
    );
    equal("and changed again", signalfd(fd, &set_of(&[SIGUSR2]), 0), Ok(fd));
    equal("it is there", numbers(fd, RECORD), Ok(vec![SIGUSR2 as u32]));
    let flags = call!(fcntl(signalfd(-1, &set_of(&[]), SFD_CLOEXEC).expect("one more"), libc::F_GETFD));
    equal("it can be close-on-exec", flags, Ok(libc::FD_CLOEXEC));
}

fn inheriting() {
    let fd = blocked(&[SIGUSR1], SFD_NONBLOCK);
    raise(SIGUSR1);
    let child = fork(|| {
        let nothing = numbers(fd, RECORD) == Err(EAGAIN);
        raise(SIGUSR1);
        i32::from(nothing) | i32::from(numbers(fd, RECORD) == Ok(vec![SIGUSR1 as u32])) << 1
    });
    equal("a child reads its own signals", process::end_of(child), Status::Exited(3));
    equal("and leaves its parent's", numbers(fd, RECORD), Ok(vec![SIGUSR1 as u32]));
}

fn refusals() {
    let fd = blocked(&[SIGUSR1], SFD_NONBLOCK);
    equal("a record does not fit into less", numbers(fd, RECORD - 1), Err(EINVAL));
    equal("it is not written", write(fd, b"x").map(drop), Err(EINVAL));
    equal("nor moved in", call!(lseek(fd, 5, libc::SEEK_SET)), Ok(0));
    equal("flags are known", signalfd(-1, &set_of(&[]), 1), Err(EINVAL));
    equal("what is not open has no set", signalfd(999, &set_of(&[]), 0), Err(EBADF));
    equal("nor has what is something else", signalfd(1, &set_of(&[]), 0), Err(EINVAL));
    let raw = call!(syscall(libc::SYS_signalfd4, -1, &raw const fd, 4, 0));
    equal("a set has eight bytes", raw, Err(EINVAL));
    close(fd);
    equal("closed it is gone", numbers(fd, RECORD), Err(EBADF));
}
