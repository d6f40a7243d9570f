//! Numbers of Linux x86_64 system calls, as far as code or tests name them: above all those that reach the servers of
//! open files.

macro_rules! calls {
    ($($name:ident $number:literal)*) => {
        $(#[doc = concat!("The number of `", stringify!($name), "`.")] pub const $name: u32 = $number;)*
    };
}

calls! {
    READ 0 WRITE 1 OPEN 2 CLOSE 3 STAT 4 FSTAT 5 POLL 7 LSEEK 8 IOCTL 16 PREAD64 17 PWRITE64 18 READV 19 WRITEV 20
    PIPE 22 DUP 32 DUP2 33 PAUSE 34 NANOSLEEP 35 GETPID 39 SENDFILE 40 EXIT 60 WAIT4 61
    SOCKET 41 CONNECT 42 ACCEPT 43 SENDTO 44 RECVFROM 45 SENDMSG 46 RECVMSG 47 SHUTDOWN 48 BIND 49 LISTEN 50
    GETSOCKNAME 51 GETPEERNAME 52 SOCKETPAIR 53 SETSOCKOPT 54 GETSOCKOPT 55 FCNTL 72 FLOCK 73 FSYNC 74
    FDATASYNC 75 FTRUNCATE 77 GETDENTS 78 FCHMOD 91 FCHOWN 93 FSTATFS 138 READAHEAD 187 GETDENTS64 217
    FADVISE64 221 EXIT_GROUP 231 EPOLL_CREATE 213 EPOLL_WAIT 232 EPOLL_CTL 233 PSELECT6 270 PPOLL 271 EPOLL_PWAIT 281
    TIMERFD_CREATE 283 FALLOCATE 285 TIMERFD_SETTIME 286 TIMERFD_GETTIME 287 EVENTFD 284 ACCEPT4 288 EVENTFD2 290
    EPOLL_CREATE1 291 PIPE2 293 PREADV 295 PWRITEV 296 RECVMMSG 299 SYNCFS 306 SENDMMSG 307 GETRANDOM 318
    MEMFD_CREATE 319 PREADV2 327 PWRITEV2 328 EPOLL_PWAIT2 441 SELECT 23 CREAT 85 RT_SIGTIMEDWAIT 128
    RT_SIGSUSPEND 130 FUTEX 202 RESTART_SYSCALL 219 CLOCK_NANOSLEEP 230 WAITID 247 OPENAT 257 SPLICE 275 TEE 276
    COPY_FILE_RANGE 326 OPENAT2 437
}

/// Whether a call is exit(2) or exit_group(2), to which there is no answer.
pub const fn is_exit(number: u32) -> bool {
    matches!(number, EXIT | EXIT_GROUP)
}

/// Whether a call may wait for ever for what others do; any other ends by itself. That a program is debugged, or waits
/// for the child of its vfork, is left out of account.
pub fn may_wait(number: u32) -> bool {
    matches!(
        number,
        READ | WRITE
            | PREAD64
            | PWRITE64
            | READV
            | WRITEV
            | PREADV
            | PWRITEV
            | PREADV2
            | PWRITEV2
            | SENDFILE
            | SPLICE
            | TEE
            | COPY_FILE_RANGE
            | OPEN
            | OPENAT
            | OPENAT2
            | CREAT
            | IOCTL
            | FCNTL
            | FLOCK
            | CONNECT
            | ACCEPT
            | ACCEPT4
            | SENDTO
            | SENDMSG
            | SENDMMSG
            | RECVFROM
            | RECVMSG
            | RECVMMSG
            | POLL
            | PPOLL
            | SELECT
            | PSELECT6
            | EPOLL_WAIT
            | EPOLL_PWAIT
            | EPOLL_PWAIT2
            | PAUSE
            | NANOSLEEP
            | CLOCK_NANOSLEEP
            | RESTART_SYSCALL
            | RT_SIGTIMEDWAIT
            | RT_SIGSUSPEND
            | FUTEX
            | WAIT4
            | WAITID
    )
}

/// Whether a call that may wait does so only when its path has been resolved.
pub fn begins_with_path(number: u32) -> bool {
    matches!(number, OPEN | OPENAT | OPENAT2 | CREAT | CONNECT | SENDTO | SENDMSG | SENDMMSG)
}

/// Whether a call is only for sockets.
pub fn is_of_sockets(number: u32) -> bool {
    matches!(number, CONNECT..=GETPEERNAME | SETSOCKOPT | GETSOCKOPT | ACCEPT4 | RECVMMSG | SENDMMSG)
}

/// The errno of a call that is only for special files, on a file that is none of them; `None` for other calls.
pub fn misdirected(number: u32) -> Option<i32> {
    match number {
        number if is_of_sockets(number) => Some(super::errno::ENOTSOCK),
        EPOLL_WAIT | EPOLL_CTL | EPOLL_PWAIT | TIMERFD_SETTIME | TIMERFD_GETTIME | EPOLL_PWAIT2 => {
            Some(super::errno::EINVAL)
        }
        _ => None,
    }
}
