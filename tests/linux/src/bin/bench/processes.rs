//! Rows about processes and threads, and about what passes between them.

use std::{
    arch::asm,
    os::unix::fs::PermissionsExt,
    ptr,
    sync::atomic::{AtomicU32, Ordering::SeqCst},
    thread,
};

use libc::{
    AF_UNIX, CLOCK_MONOTONIC, CLONE_VFORK, CLONE_VM, FUTEX_PRIVATE_FLAG, FUTEX_WAIT, FUTEX_WAKE, SIGCHLD,
    SOCK_STREAM, SYS_futex, c_int, c_long, timespec,
};
use linux_tests::{
    call,
    files::{Fd, pipe, read, write},
    memory::Pages,
    process::{self, fork},
};

use crate::{Plan, Row, nanoseconds, per_operation};

pub const ROWS: &[Row] = &[
    ("getppid", |_| {
        per_operation(9, 1000, || {
            for _ in 0..1000 {
                let _ = call!(getppid());
            }
        })
    }),
    ("clock_gettime", |_| {
        let mut time = timespec { tv_sec: 0, tv_nsec: 0 };
        per_operation(9, 1000, || {
            for _ in 0..1000 {
                let _ = call!(clock_gettime(CLOCK_MONOTONIC, &raw mut time));
            }
        })
    }),
    ("pipe round trip between two processes", |_| round_trips(two_pipes)),
    ("unix stream round trip, 1 byte", |_| round_trips(two_sockets)),
    ("pipe, 1 byte written and read by one process", |_| through_a_pipe(1, 300)),
    ("pipe, 64 KiB written and read by one process", |_| through_a_pipe(65_536, 20)),
    ("fork + exit + wait4", |_| {
        per_operation(7, 20, || {
            for _ in 0..20 {
                reap(fork_bare(|| 0));
            }
        })
    }),
    ("fork + execve + wait4", |_| {
        make_program();
        per_operation(7, 10, || {
            for _ in 0..10 {
                reap(fork_bare(exec));
            }
        })
    }),
    ("vfork + execve + wait4", |_| {
        make_program();
        let stack = Pages::new(16);
        let exec = || exec() as i32;
        let vfork = || process::clone_on(&stack, CLONE_VM | CLONE_VFORK | SIGCHLD, exec, ptr::null_mut());
        per_operation(7, 10, || (0..10).for_each(|_| reap(vfork().expect("vfork works"))))
    }),
    ("1000 children reaped by 8 threads, per child: whole", whole),
    ("1000 children reaped by 8 threads, per child: reap only", reap_only),
    ("1000 children reaped by 8 threads, per child: into blocked waiters", into_waiters),
    ("thread create + join", |_| {
        per_operation(7, 20, || {
            for _ in 0..20 {
                thread::spawn(|| ()).join().expect("a thread ends");
            }
        })
    }),
    ("futex ping-pong", |_| ping_pong()),
];

/// A system call without a library around it. A new process has to fault in all the code that it runs, so the less of
/// it and the closer together, the more it is the system's cost that is measured.
#[inline(always)]
fn bare(number: c_long, first: usize, second: usize, third: usize) -> isize {
    let answer;
    // SAFETY: the calls made here end the process, replace it, read into a byte of ours, or copy all of it.
    unsafe {
        asm!(
            "syscall", inlateout("rax") number as isize => answer,
            in("rdi") first, in("rsi") second, in("rdx") third, out("rcx") _, out("r11") _, options(nostack),
        );
    }
    answer
}

/// Makes a child that does one thing and exits.
#[inline(always)]
fn fork_bare(child: impl Fn() -> isize) -> c_int {
    let pid = bare(libc::SYS_fork, 0, 0, 0);
    if pid == 0 {
        let code = child();
        bare(libc::SYS_exit_group, code as usize, 0, 0);
    }
    pid as c_int
}

fn reap(pid: c_int) {
    let mut status = 0;
    let reaped = call!(wait4(pid, &raw mut status, 0, ptr::null_mut()));
    assert!(reaped == Ok(pid) && status == 0, "the child ends well");
}

const PROGRAM: &std::ffi::CStr = c"program";

/// The smallest static program: it exits. What a larger one does when it starts is not the system's.
fn make_program() {
    const CODE: [u8; 9] = [0x31, 0xff, 0xb8, 0x3c, 0x00, 0x00, 0x00, 0x0f, 0x05];
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    for word in [BASE + HEADERS, 64, 0] {
        file.extend(u64::to_le_bytes(word));
    }
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    let len = HEADERS + CODE.len() as u64;
    for word in [0, BASE, BASE, len, len, 4096] {
        file.extend(u64::to_le_bytes(word));
    }
    file.extend(CODE);
    std::fs::write("program", file).expect("a program can be written");
    std::fs::set_permissions("program", PermissionsExt::from_mode(0o755)).expect("and made one");
}

/// Becomes that program; the pointers are to two empty lists.
#[inline(always)]
fn exec() -> isize {
    let nothing = [0_usize];
    let list = nothing.as_ptr() as usize;
    bare(libc::SYS_execve, PROGRAM.as_ptr() as usize, list, list)
}

/// Two ends to talk by: where to read and where to write, of this side and of the other.
type Ends = ((Fd, Fd), (Fd, Fd));

fn two_pipes() -> Ends {
    let ((from, to_us), (from_us, to)) = (pipe(), pipe());
    ((from, to), (from_us, to_us))
}

fn two_sockets() -> Ends {
    let mut ends = [-1; 2];
    call!(socketpair(AF_UNIX, SOCK_STREAM, 0, ends.as_mut_ptr())).expect("a pair can be made");
    ((ends[0], ends[0]), (ends[1], ends[1]))
}

/// A byte goes to another process and comes back.
fn round_trips(ends: fn() -> Ends) -> u64 {
    let ((from, to), (other_from, other_to)) = ends();
    let child = fork(|| {
        // It has only its own ends, so that it sees when the other side is gone.
        for fd in [from, to] {
            let _ = call!(close(fd));
        }
        echo(other_from, other_to);
        0
    });
    let time = per_operation(9, 100, || (0..100).for_each(|_| send_and_wait(from, to)));
    process::kill_and_reap(child);
    time
}

/// Sends back what comes, byte by byte, until the end.
pub fn echo(from: Fd, to: Fd) {
    let mut byte = 0_u8;
    while call!(read(from, (&raw mut byte).cast(), 1)) == Ok(1) {
        let _ = call!(write(to, (&raw const byte).cast(), 1));
    }
}

pub fn send_and_wait(from: Fd, to: Fd) {
    let mut byte = 1_u8;
    let sent = call!(write(to, (&raw const byte).cast(), 1));
    let got = call!(read(from, (&raw mut byte).cast(), 1));
    assert!(sent == Ok(1) && got == Ok(1), "a byte comes back");
}

fn through_a_pipe(len: usize, operations: u64) -> u64 {
    let (from, to) = pipe();
    let mut bytes = vec![1_u8; len];
    per_operation(7, operations, || {
        for _ in 0..operations {
            let written = call!(write(to, bytes.as_ptr().cast(), len));
            let got = call!(read(from, bytes.as_mut_ptr().cast(), len));
            assert!(written == Ok(len as isize) && got == Ok(len as isize), "all goes through");
        }
    })
}

/// Eight threads come, reap any child until there is none, and go.
struct Reapers {
    threads: Vec<thread::JoinHandle<()>>,
}

impl Reapers {
    fn new() -> Reapers {
        let reap = || while call!(waitpid(-1, ptr::null_mut(), 0)).is_ok() {};
        Reapers { threads: (0..8).map(|_| thread::spawn(reap)).collect() }
    }

    fn end(self) {
        for thread in self.threads {
            thread.join().expect("a thread ends");
        }
    }
}

/// The children are made first: how many threads there are is then not a part of what making them costs.
fn herd(count: u32, child: impl Fn() -> isize) -> Vec<c_int> {
    (0..count).map(|_| fork_bare(&child)).collect()
}

fn whole(plan: &Plan) -> u64 {
    let time = nanoseconds(|| {
        herd(plan.children, || 0);
        Reapers::new().end();
    });
    time / u64::from(plan.children)
}

fn reap_only(plan: &Plan) -> u64 {
    herd(plan.children, || 0).into_iter().for_each(process::until_zombie);
    nanoseconds(|| Reapers::new().end()) / u64::from(plan.children)
}

fn into_waiters(plan: &Plan) -> u64 {
    let (from, to) = pipe();
    herd(plan.children, || {
        let mut byte = 0_u8;
        bare(libc::SYS_read, from as usize, &raw mut byte as usize, 1) - 1
    });
    let reapers = Reapers::new();
    // The threads, and all children, reach the places where they block.
    linux_tests::times::sleep_ms(200);
    let time = nanoseconds(|| {
        // A byte each sets them free.
        write(to, &vec![0; plan.children as usize]).expect("a pipe takes bytes");
        reapers.end();
    });
    time / u64::from(plan.children)
}

/// Two threads take turns at a word, each sleeping until it is its turn; a round trip is two turns.
fn ping_pong() -> u64 {
    const TURNS: u32 = 2000;
    let word = AtomicU32::new(0);
    let play = |side: u32| {
        loop {
            let turn = word.load(SeqCst);
            if turn >= TURNS {
                return;
            }
            if turn % 2 == side {
                word.store(turn + 1, SeqCst);
                let _ = call!(syscall(SYS_futex, word.as_ptr(), FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1));
            } else {
                let _ = call!(syscall(SYS_futex, word.as_ptr(), FUTEX_WAIT | FUTEX_PRIVATE_FLAG, turn, 0));
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| play(1));
        nanoseconds(|| play(0)) / u64::from(TURNS / 2)
    })
}

/// Bytes that a process sends as fast as another takes them, per KiB.
pub fn stream(from: Fd, to: Fd, kibibytes: u64) -> u64 {
    const CHUNK: usize = 65_536;
    let bytes = vec![1_u8; CHUNK];
    let total = kibibytes as usize * 1024;
    let child = fork(|| {
        let mut left = total;
        while left > 0 {
            left -= read(from, CHUNK).map_or(left, |bytes| bytes.len());
        }
        i32::from(write(from, b"!") != Ok(1))
    });
    let time = nanoseconds(|| {
        let mut left = total;
        while left > 0 {
            left -=
                call!(write(to, bytes.as_ptr().cast(), CHUNK.min(left))).expect("it takes bytes") as usize;
        }
        read(to, 1).expect("the other has it all");
    });
    process::end_of(child);
    time / kibibytes
}
