//! What each argument of each Linux call is: one row per call, as its manual page declares it.
//!
//! A call without a row prints as many arguments in hexadecimal as registers go. Strings and structures that the
//! kernel gathers are not told here: `libipc::abi::foreign` says which argument they belong to.

use super::names::{self, Flags};

/// What an argument or a result is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// A file descriptor.
    Descriptor,
    /// A descriptor of a directory, or AT_FDCWD.
    Directory,
    /// A signed number of 32 bits.
    Int,
    /// A signed number of 64 bits.
    Long,
    /// A size, or another number without a sign.
    Size,
    /// An address, or NULL.
    Pointer,
    /// What the kernel gathers there, if it did; an address otherwise.
    Text,
    /// Permission bits.
    Mode,
    /// File type and permission bits.
    Node,
    /// Flags of open(2).
    Open,
    /// A set of flags.
    Any(Flags),
    /// One of several numbers.
    One(Flags),
    /// A number of several, and flags beside it.
    OneAnd(Flags, Flags),
    /// Flags of clone(2), with the signal in the lowest byte.
    Clone,
    /// A signal.
    Signal,
    /// `struct timespec` that the kernel gathered.
    Time,
    /// A set of signals that the kernel gathered.
    Signals,
    /// Elements of poll(2) that the kernel gathered.
    Polled,
    /// The call does not return.
    Never,
}

use Shape::{
    Any, Clone as CloneFlags, Descriptor as Fd, Directory as Dir, Int, Long, Mode, Never, Node, One, OneAnd,
    Open, Pointer as Ptr, Polled, Signal, Signals, Size, Text, Time,
};

/// A call's arguments and result.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signature {
    /// Its arguments in order.
    pub arguments: &'static [Shape],
    /// What it returns when it succeeds.
    pub result: Shape,
}

macro_rules! signatures {
    ($($($name:literal)|+ ($($shape:expr),*) -> $result:expr;)*) => {
        /// The signature of the call with this name.
        pub fn signature(name: &str) -> Option<Signature> {
            Some(match name {
                $($($name)|+ => Signature { arguments: const { &[$($shape),*] }, result: $result },)*
                _ => return None,
            })
        }
    };
}

signatures! {
    "read" (Fd, Ptr, Size) -> Long;
    "write" (Fd, Text, Size) -> Long;
    "pread64" | "pwrite64" (Fd, Ptr, Size, Long) -> Long;
    "readv" | "writev" (Fd, Ptr, Int) -> Long;
    "preadv" | "pwritev" (Fd, Ptr, Int, Long) -> Long;
    "open" (Text, Open, Mode) -> Int;
    "creat" (Text, Mode) -> Int;
    "openat" (Dir, Text, Open, Mode) -> Int;
    "openat2" (Dir, Text, Ptr, Size) -> Int;
    "close" | "fsync" | "fdatasync" | "syncfs" | "fchdir" (Fd) -> Int;
    "stat" | "lstat" (Text, Ptr) -> Int;
    "fstat" | "fstatfs" (Fd, Ptr) -> Int;
    "newfstatat" (Dir, Text, Ptr, Any(names::AT)) -> Int;
    "statx" (Dir, Text, Any(names::STATX), Any(names::STATX_MASK), Ptr) -> Int;
    "statfs" (Text, Ptr) -> Int;
    "poll" (Polled, Size, Int) -> Int;
    "ppoll" (Polled, Size, Time, Signals, Size) -> Int;
    "select" (Int, Ptr, Ptr, Ptr, Ptr) -> Int;
    "pselect6" (Int, Ptr, Ptr, Ptr, Time, Ptr) -> Int;
    "lseek" (Fd, Long, One(names::WHENCE)) -> Long;
    "mmap" (Ptr, Size, Any(names::PROTECTION), Any(names::MAP), Fd, Ptr) -> Ptr;
    "mprotect" (Ptr, Size, Any(names::PROTECTION)) -> Int;
    "munmap" | "mlock" | "munlock" (Ptr, Size) -> Int;
    "mremap" (Ptr, Size, Size, Any(names::REMAP), Ptr) -> Ptr;
    "madvise" (Ptr, Size, One(names::ADVICE)) -> Int;
    "brk" (Ptr) -> Ptr;
    "rt_sigaction" (Signal, Ptr, Ptr, Size) -> Int;
    "rt_sigprocmask" (One(names::MASKING), Signals, Ptr, Size) -> Int;
    "rt_sigsuspend" (Signals, Size) -> Int;
    "rt_sigpending" (Ptr, Size) -> Int;
    "rt_sigtimedwait" (Signals, Ptr, Time, Size) -> Signal;
    "rt_sigreturn" | "getpid" | "getppid" | "gettid" | "getuid" | "getgid" | "geteuid" | "getegid" | "getpgrp"
        | "setsid" | "fork" | "vfork" | "pause" | "sync" | "sched_yield" () -> Int;
    "sigaltstack" (Ptr, Ptr) -> Int;
    "ioctl" (Fd, One(names::IOCTL), Ptr) -> Int;
    "fcntl" (Fd, One(names::FCNTL), Ptr) -> Int;
    "access" (Text, Any(names::ACCESS)) -> Int;
    "faccessat" (Dir, Text, Any(names::ACCESS)) -> Int;
    "faccessat2" (Dir, Text, Any(names::ACCESS), Any(names::AT)) -> Int;
    "pipe" (Ptr) -> Int;
    "pipe2" (Ptr, Any(names::OPEN)) -> Int;
    "dup" (Fd) -> Int;
    "dup2" (Fd, Fd) -> Int;
    "dup3" (Fd, Fd, Any(names::OPEN)) -> Int;
    "close_range" (Size, Size, Any(names::CLOSE_RANGE)) -> Int;
    "nanosleep" (Time, Ptr) -> Int;
    "clock_nanosleep" (One(names::CLOCK), Any(names::TIMER), Time, Ptr) -> Int;
    "clock_gettime" | "clock_getres" (One(names::CLOCK), Ptr) -> Int;
    "clock_settime" (One(names::CLOCK), Time) -> Int;
    "gettimeofday" (Ptr, Ptr) -> Int;
    "time" | "times" (Ptr) -> Long;
    "getitimer" (One(names::INTERVAL), Ptr) -> Int;
    "setitimer" (One(names::INTERVAL), Ptr, Ptr) -> Int;
    "alarm" (Size) -> Int;
    "sendfile" (Fd, Fd, Ptr, Size) -> Long;
    "copy_file_range" (Fd, Ptr, Fd, Ptr, Size, Size) -> Long;
    "socket" (One(names::DOMAIN), OneAnd(names::SOCKET_KIND, names::SOCKET), Int) -> Int;
    "socketpair" (One(names::DOMAIN), OneAnd(names::SOCKET_KIND, names::SOCKET), Int, Ptr) -> Int;
    "connect" | "bind" (Fd, Ptr, Int) -> Int;
    "listen" (Fd, Int) -> Int;
    "accept" | "getsockname" | "getpeername" (Fd, Ptr, Ptr) -> Int;
    "accept4" (Fd, Ptr, Ptr, Any(names::SOCKET)) -> Int;
    "sendto" | "recvfrom" (Fd, Ptr, Size, Any(names::MESSAGE), Ptr, Ptr) -> Long;
    "sendmsg" | "recvmsg" (Fd, Ptr, Any(names::MESSAGE)) -> Long;
    "shutdown" (Fd, One(names::SHUTDOWN)) -> Int;
    "setsockopt" | "getsockopt" (Fd, Int, Int, Ptr, Ptr) -> Int;
    "clone" (CloneFlags, Ptr, Ptr, Ptr, Ptr) -> Int;
    "clone3" (Ptr, Size) -> Int;
    "execve" (Text, Ptr, Ptr) -> Int;
    "execveat" (Dir, Text, Ptr, Ptr, Any(names::AT)) -> Int;
    "exit" | "exit_group" (Int) -> Never;
    "wait4" (Int, Ptr, Any(names::WAIT), Ptr) -> Int;
    "waitid" (One(names::ID_KIND), Int, Ptr, Any(names::WAIT), Ptr) -> Int;
    "kill" | "tkill" (Int, Signal) -> Int;
    "tgkill" (Int, Int, Signal) -> Int;
    "uname" | "sysinfo" (Ptr) -> Int;
    "flock" (Fd, Any(names::FLOCK)) -> Int;
    "truncate" (Text, Long) -> Int;
    "ftruncate" (Fd, Long) -> Int;
    "fallocate" (Fd, Int, Long, Long) -> Int;
    "getdents" | "getdents64" (Fd, Ptr, Size) -> Long;
    "getcwd" (Ptr, Size) -> Long;
    "chdir" | "chroot" | "rmdir" | "unlink" (Text) -> Int;
    "rename" | "link" | "symlink" (Text, Text) -> Int;
    "renameat" (Dir, Text, Dir, Text) -> Int;
    "renameat2" (Dir, Text, Dir, Text, Any(names::RENAME)) -> Int;
    "mkdir" | "chmod" (Text, Mode) -> Int;
    "mkdirat" | "fchmodat" (Dir, Text, Mode) -> Int;
    "fchmodat2" (Dir, Text, Mode, Any(names::AT)) -> Int;
    "fchmod" (Fd, Mode) -> Int;
    "mknod" (Text, Node, Ptr) -> Int;
    "mknodat" (Dir, Text, Node, Ptr) -> Int;
    "unlinkat" (Dir, Text, Any(names::AT)) -> Int;
    "linkat" (Dir, Text, Dir, Text, Any(names::AT)) -> Int;
    "symlinkat" (Text, Dir, Text) -> Int;
    "readlink" (Text, Ptr, Size) -> Long;
    "readlinkat" (Dir, Text, Ptr, Size) -> Long;
    "chown" | "lchown" (Text, Int, Int) -> Int;
    "fchown" (Fd, Int, Int) -> Int;
    "fchownat" (Dir, Text, Int, Int, Any(names::AT)) -> Int;
    "utimensat" (Dir, Text, Ptr, Any(names::AT)) -> Int;
    "utime" | "utimes" (Text, Ptr) -> Int;
    "umask" (Mode) -> Mode;
    "getrlimit" | "setrlimit" (One(names::RESOURCE), Ptr) -> Int;
    "prlimit64" (Int, One(names::RESOURCE), Ptr, Ptr) -> Int;
    "getrusage" (One(names::USAGE), Ptr) -> Int;
    "setuid" | "setgid" | "getpgid" | "getsid" | "setfsuid" | "setfsgid" (Int) -> Int;
    "setreuid" | "setregid" | "setpgid" (Int, Int) -> Int;
    "setresuid" | "setresgid" (Int, Int, Int) -> Int;
    "getresuid" | "getresgid" (Ptr, Ptr, Ptr) -> Int;
    "getgroups" | "setgroups" (Int, Ptr) -> Int;
    "prctl" (One(names::PRCTL), Ptr, Ptr, Ptr, Ptr) -> Int;
    "arch_prctl" (One(names::ARCH_PRCTL), Ptr) -> Int;
    "mount" (Text, Text, Ptr, Ptr, Ptr) -> Int;
    "umount2" (Text, Any(names::UNMOUNT)) -> Int;
    "sethostname" | "setdomainname" (Text, Size) -> Int;
    "futex" (Ptr, One(names::FUTEX), Int, Ptr, Ptr, Size) -> Int;
    "set_tid_address" (Ptr) -> Int;
    "set_robust_list" (Ptr, Size) -> Int;
    "sched_getaffinity" | "sched_setaffinity" (Int, Size, Ptr) -> Int;
    "epoll_create" (Int) -> Int;
    "epoll_create1" (Any(names::EPOLL_CREATE)) -> Int;
    "epoll_ctl" (Fd, One(names::EPOLL), Fd, Ptr) -> Int;
    "epoll_wait" (Fd, Ptr, Int, Int) -> Int;
    "epoll_pwait" (Fd, Ptr, Int, Int, Signals, Size) -> Int;
    "eventfd" (Int) -> Int;
    "eventfd2" (Int, Any(names::EVENT_FD)) -> Int;
    "timerfd_create" (One(names::CLOCK), Any(names::TIMER_FD)) -> Int;
    "timerfd_settime" (Fd, Any(names::TIMER), Ptr, Ptr) -> Int;
    "timerfd_gettime" (Fd, Ptr) -> Int;
    "signalfd" (Fd, Signals, Size) -> Int;
    "signalfd4" (Fd, Signals, Size, Any(names::OPEN)) -> Int;
    "memfd_create" (Text, Any(names::MEMORY_FD)) -> Int;
    "getrandom" (Ptr, Size, Any(names::RANDOM)) -> Long;
    "getcpu" (Ptr, Ptr, Ptr) -> Int;
    "pidfd_open" (Int, Size) -> Int;
    "pidfd_send_signal" (Fd, Signal, Ptr, Size) -> Int;
}
