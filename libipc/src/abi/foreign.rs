//! Where each Linux x86_64 system call goes, and what of the caller's memory goes with it.
//!
//! A task with the Linux personality never uses the native calls. The kernel looks its call up here and answers it
//! from a word of the task, carries it out on the task's own descriptor table, or delivers it to a server: one of the
//! personality's servers, or the one behind the descriptor in an argument. Inputs named here are gathered into the
//! delivery's payload; pages that are missing are faulted in as the caller's own fault before anything is delivered,
//! so that a server never waits for a caller's page.

use super::types::TaskWord;

/// A server of the personality, by its place in the kernel's list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Role {
    /// Names and mounts.
    Vfs,
    /// Processes, signals and time.
    Proc,
    /// Address spaces.
    Vm,
    /// Pipes and anonymous files.
    Memory,
    /// Sockets.
    Net,
}

impl Role {
    /// How many there are.
    pub const COUNT: u32 = 5;
}

/// What the kernel does itself for a Linux task, on that task's own table and words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelCall {
    /// close(2).
    Close,
    /// dup(2).
    Dup,
    /// dup2(2).
    Dup2,
    /// dup3(2).
    Dup3,
    /// fcntl(2): descriptor commands here, F_SETFL too, the rest to the object.
    Fcntl,
    /// ioctl(2): what is about the descriptor here, the rest to the object.
    Ioctl,
    /// close_range(2).
    CloseRange,
    /// sched_yield(2).
    Yield,
    /// arch_prctl(2).
    ArchPrctl,
    /// umask(2).
    Umask,
    /// gettid(2).
    Gettid,
    /// clock_gettime(2) of the clocks that are the same for everyone; the others go to the process server.
    ClockGettime,
    /// getcpu(2).
    Getcpu,
}

/// Where a call goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// Nowhere: ENOSYS, counted.
    None,
    /// Answered from a word of the task.
    Word(TaskWord),
    /// Carried out by the kernel on the task's own table.
    Kernel(KernelCall),
    /// To a server of the personality.
    Server(Role),
    /// To the server behind the descriptor in this argument; EBADF when there is none.
    Object(u8),
}

/// A piece of the caller's memory that goes with the call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// Nothing.
    None,
    /// The bytes at the first argument, as many as the second says, if they are no more than [`SMALL_MAX`] and are all
    /// there. What the call needs and does not find here its server reads itself.
    Small(u8, u8),
    /// The NUL-terminated string at this argument, without the NUL, at most PATH_MAX.
    Text(u8),
    /// So many bytes at this argument; a null pointer is passed on as such.
    Bytes(u8, u16),
    /// The bytes at the first argument, as many as the second says, times the size, up to the payload's end.
    Array(u8, u8, u16),
    /// The same, of no more elements than the caller may have descriptors: EINVAL.
    PerDescriptor(u8, u8, u16),
}

/// Most bytes of [`Input::Small`]: as many as pipes keep in their state.
pub const SMALL_MAX: u64 = 512;

/// Memory of the caller that the answer will fill: checked and faulted in before delivery, so that a bad pointer is
/// EFAULT before anything has happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// None, or only checked when the answer comes.
    None,
    /// So many bytes at this argument, unless it is null.
    Bytes(u8, u16),
    /// At the first argument, as many as the second says, up to a window.
    Buffer(u8, u8),
}

/// In place of an argument's index: there is none.
pub const NO_ARGUMENT: u8 = u8::MAX;

/// One system call.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name as Linux has it.
    pub name: &'static str,
    /// Where it goes.
    pub route: Route,
    /// What goes with it.
    pub inputs: [Input; 2],
    /// What its answer fills.
    pub output: Output,
    /// Arguments that are descriptors the server wants named ([`NO_ARGUMENT`] for none).
    pub named: [u8; 2],
    /// How many new descriptors its answer installs at most.
    pub reserves: u8,
    /// The argument that is a descriptor whose session goes along as a handle ([`NO_ARGUMENT`] for none).
    pub passes: u8,
    /// The argument that, unless it is null, names a signal mask for the time of the call ([`NO_ARGUMENT`] for none):
    /// then the process server has the call first, and hands it on.
    pub masks: u8,
}

const fn row(name: &'static str, route: Route) -> Row {
    Row {
        name,
        route,
        inputs: [Input::None, Input::None],
        output: Output::None,
        named: [NO_ARGUMENT; 2],
        reserves: 0,
        passes: NO_ARGUMENT,
        masks: NO_ARGUMENT,
    }
}

impl Row {
    const fn takes(mut self, first: Input) -> Row {
        if matches!(self.inputs[0], Input::None) {
            self.inputs[0] = first;
        } else {
            self.inputs[1] = first;
        }
        self
    }

    const fn fills(mut self, output: Output) -> Row {
        self.output = output;
        self
    }

    const fn names(mut self, argument: u8) -> Row {
        if self.named[0] == NO_ARGUMENT {
            self.named[0] = argument;
        } else {
            self.named[1] = argument;
        }
        self
    }

    const fn reserves(mut self, descriptors: u8) -> Row {
        self.reserves = descriptors;
        self
    }

    const fn passes(mut self, argument: u8) -> Row {
        self.passes = argument;
        self
    }

    const fn masks(mut self, argument: u8) -> Row {
        self.masks = argument;
        self
    }
}

/// One more than the highest number in the table.
pub const LINUX_CALLS: u32 = 462;

use Input::{Array, Bytes, PerDescriptor, Small, Text};
use Output::Buffer;
use Route::{Kernel, Object, Server, Word};

const VFS: Route = Server(Role::Vfs);
const PROC: Route = Server(Role::Proc);
const VM: Route = Server(Role::Vm);
const MEMORY: Route = Server(Role::Memory);
const UNKNOWN: Row = row("unknown", Route::None);

macro_rules! table {
    ($($number:literal => $row:expr),* $(,)?) => {
        /// The table, indexed by call number.
        pub static LINUX: [Row; LINUX_CALLS as usize] = {
            let mut table = [UNKNOWN; LINUX_CALLS as usize];
            $(table[$number] = $row;)*
            table
        };
    };
}

table! {
    0 => row("read", Object(0)).fills(Buffer(1, 2)),
    1 => row("write", Object(0)).takes(Small(1, 2)),
    2 => row("open", VFS).takes(Text(0)).reserves(1),
    3 => row("close", Kernel(KernelCall::Close)),
    4 => row("stat", VFS).takes(Text(0)).fills(Output::Bytes(1, 144)),
    5 => row("fstat", Object(0)).fills(Output::Bytes(1, 144)),
    6 => row("lstat", VFS).takes(Text(0)).fills(Output::Bytes(1, 144)),
    7 => row("poll", VFS).takes(PerDescriptor(0, 1, 8)),
    8 => row("lseek", Object(0)),
    9 => row("mmap", VM).names(4).passes(4),
    10 => row("mprotect", VM),
    11 => row("munmap", VM),
    12 => row("brk", VM),
    13 => row("rt_sigaction", PROC).takes(Bytes(1, 32)),
    14 => row("rt_sigprocmask", PROC).takes(Bytes(1, 8)),
    15 => row("rt_sigreturn", PROC),
    16 => row("ioctl", Kernel(KernelCall::Ioctl)),
    17 => row("pread64", Object(0)).fills(Buffer(1, 2)),
    18 => row("pwrite64", Object(0)),
    19 => row("readv", Object(0)).takes(Array(1, 2, 16)),
    20 => row("writev", Object(0)).takes(Array(1, 2, 16)),
    21 => row("access", VFS).takes(Text(0)),
    22 => row("pipe", MEMORY).fills(Output::Bytes(0, 8)).reserves(2),
    23 => row("select", VFS).takes(Bytes(4, 16)),
    24 => row("sched_yield", Kernel(KernelCall::Yield)),
    25 => row("mremap", VM),
    26 => row("msync", VM),
    27 => row("mincore", VM),
    28 => row("madvise", VM),
    32 => row("dup", Kernel(KernelCall::Dup)),
    33 => row("dup2", Kernel(KernelCall::Dup2)),
    34 => row("pause", PROC),
    35 => row("nanosleep", PROC).takes(Bytes(0, 16)),
    36 => row("getitimer", PROC).fills(Output::Bytes(1, 32)),
    37 => row("alarm", PROC),
    38 => row("setitimer", PROC).takes(Bytes(1, 32)),
    39 => row("getpid", Word(TaskWord::Pid)),
    40 => row("sendfile", VFS).takes(Bytes(2, 8)).names(0).names(1),
    41 => row("socket", MEMORY).reserves(1),
    42 => row("connect", Object(0)).takes(Array(1, 2, 1)),
    43 => row("accept", Object(0)).reserves(1),
    44 => row("sendto", Object(0)).takes(Array(4, 5, 1)),
    45 => row("recvfrom", Object(0)),
    46 => row("sendmsg", Object(0)).takes(Bytes(1, 56)),
    47 => row("recvmsg", Object(0)).takes(Bytes(1, 56)),
    48 => row("shutdown", Object(0)),
    49 => row("bind", Object(0)).takes(Array(1, 2, 1)),
    50 => row("listen", Object(0)),
    51 => row("getsockname", Object(0)).takes(Bytes(2, 4)),
    52 => row("getpeername", Object(0)).takes(Bytes(2, 4)),
    53 => row("socketpair", MEMORY).fills(Output::Bytes(3, 8)).reserves(2),
    54 => row("setsockopt", Object(0)).takes(Array(3, 4, 1)),
    55 => row("getsockopt", Object(0)).takes(Bytes(4, 4)),
    56 => row("clone", PROC),
    57 => row("fork", PROC),
    58 => row("vfork", PROC),
    59 => row("execve", VFS).takes(Text(0)),
    60 => row("exit", PROC),
    61 => row("wait4", PROC).fills(Output::Bytes(1, 4)),
    62 => row("kill", PROC),
    63 => row("uname", PROC).fills(Output::Bytes(0, 390)),
    72 => row("fcntl", Kernel(KernelCall::Fcntl)),
    73 => row("flock", Object(0)),
    74 => row("fsync", Object(0)),
    75 => row("fdatasync", Object(0)),
    76 => row("truncate", VFS).takes(Text(0)),
    77 => row("ftruncate", Object(0)),
    78 => row("getdents", Object(0)).fills(Buffer(1, 2)),
    79 => row("getcwd", VFS).fills(Buffer(0, 1)),
    80 => row("chdir", VFS).takes(Text(0)),
    81 => row("fchdir", VFS).names(0),
    82 => row("rename", VFS).takes(Text(0)).takes(Text(1)),
    83 => row("mkdir", VFS).takes(Text(0)),
    84 => row("rmdir", VFS).takes(Text(0)),
    85 => row("creat", VFS).takes(Text(0)).reserves(1),
    86 => row("link", VFS).takes(Text(0)).takes(Text(1)),
    87 => row("unlink", VFS).takes(Text(0)),
    88 => row("symlink", VFS).takes(Text(0)).takes(Text(1)),
    89 => row("readlink", VFS).takes(Text(0)).fills(Buffer(1, 2)),
    90 => row("chmod", VFS).takes(Text(0)),
    91 => row("fchmod", Object(0)),
    92 => row("chown", VFS).takes(Text(0)),
    93 => row("fchown", Object(0)),
    94 => row("lchown", VFS).takes(Text(0)),
    95 => row("umask", Kernel(KernelCall::Umask)),
    96 => row("gettimeofday", PROC),
    97 => row("getrlimit", PROC).fills(Output::Bytes(1, 16)),
    98 => row("getrusage", PROC).fills(Output::Bytes(1, 144)),
    99 => row("sysinfo", PROC).fills(Output::Bytes(0, 112)),
    100 => row("times", PROC).fills(Output::Bytes(0, 32)),
    101 => row("ptrace", PROC),
    102 => row("getuid", Word(TaskWord::Uid)),
    103 => row("syslog", PROC),
    104 => row("getgid", Word(TaskWord::Gid)),
    105 => row("setuid", PROC),
    106 => row("setgid", PROC),
    107 => row("geteuid", Word(TaskWord::EffectiveUid)),
    108 => row("getegid", Word(TaskWord::EffectiveGid)),
    109 => row("setpgid", PROC),
    110 => row("getppid", Word(TaskWord::ParentPid)),
    111 => row("getpgrp", Word(TaskWord::Pgid)),
    112 => row("setsid", PROC),
    113 => row("setreuid", PROC),
    114 => row("setregid", PROC),
    115 => row("getgroups", PROC),
    116 => row("setgroups", PROC).takes(Array(1, 0, 4)),
    117 => row("setresuid", PROC),
    118 => row("getresuid", PROC),
    119 => row("setresgid", PROC),
    120 => row("getresgid", PROC),
    121 => row("getpgid", PROC),
    122 => row("setfsuid", PROC),
    123 => row("setfsgid", PROC),
    124 => row("getsid", PROC),
    125 => row("capget", PROC).takes(Bytes(0, 8)),
    126 => row("capset", PROC).takes(Bytes(0, 8)),
    127 => row("rt_sigpending", PROC),
    128 => row("rt_sigtimedwait", PROC).takes(Bytes(0, 8)).takes(Bytes(2, 16)),
    129 => row("rt_sigqueueinfo", PROC).takes(Bytes(2, 128)),
    130 => row("rt_sigsuspend", PROC).takes(Bytes(0, 8)),
    131 => row("sigaltstack", PROC).takes(Bytes(0, 24)),
    132 => row("utime", VFS).takes(Text(0)).takes(Bytes(1, 16)),
    133 => row("mknod", VFS).takes(Text(0)),
    135 => row("personality", PROC),
    137 => row("statfs", VFS).takes(Text(0)).fills(Output::Bytes(1, 120)),
    138 => row("fstatfs", Object(0)).fills(Output::Bytes(1, 120)),
    140 => row("getpriority", PROC),
    141 => row("setpriority", PROC),
    142 => row("sched_setparam", PROC).takes(Bytes(1, 4)),
    143 => row("sched_getparam", PROC),
    144 => row("sched_setscheduler", PROC).takes(Bytes(2, 4)),
    145 => row("sched_getscheduler", PROC),
    146 => row("sched_get_priority_max", PROC),
    147 => row("sched_get_priority_min", PROC),
    148 => row("sched_rr_get_interval", PROC).fills(Output::Bytes(1, 16)),
    149 => row("mlock", VM),
    150 => row("munlock", VM),
    151 => row("mlockall", VM),
    152 => row("munlockall", VM),
    157 => row("prctl", PROC),
    158 => row("arch_prctl", Kernel(KernelCall::ArchPrctl)),
    160 => row("setrlimit", PROC).takes(Bytes(1, 16)),
    161 => row("chroot", VFS).takes(Text(0)),
    162 => row("sync", VFS),
    164 => row("settimeofday", PROC).takes(Bytes(0, 16)),
    165 => row("mount", VFS).takes(Text(0)).takes(Text(1)),
    166 => row("umount2", VFS).takes(Text(0)),
    169 => row("reboot", PROC),
    170 => row("sethostname", PROC).takes(Array(0, 1, 1)),
    171 => row("setdomainname", PROC).takes(Array(0, 1, 1)),
    186 => row("gettid", Kernel(KernelCall::Gettid)),
    187 => row("readahead", Object(0)),
    188 => row("setxattr", VFS).takes(Text(0)),
    189 => row("lsetxattr", VFS).takes(Text(0)),
    190 => row("fsetxattr", VFS).names(0),
    191 => row("getxattr", VFS).takes(Text(0)),
    192 => row("lgetxattr", VFS).takes(Text(0)),
    193 => row("fgetxattr", VFS).names(0),
    194 => row("listxattr", VFS).takes(Text(0)),
    195 => row("llistxattr", VFS).takes(Text(0)),
    196 => row("flistxattr", VFS).names(0),
    197 => row("removexattr", VFS).takes(Text(0)),
    198 => row("lremovexattr", VFS).takes(Text(0)),
    199 => row("fremovexattr", VFS).names(0),
    200 => row("tkill", PROC),
    201 => row("time", PROC),
    202 => row("futex", PROC).takes(Bytes(0, 4)),
    203 => row("sched_setaffinity", PROC),
    204 => row("sched_getaffinity", PROC),
    213 => row("epoll_create", VFS).reserves(1),
    217 => row("getdents64", Object(0)).fills(Buffer(1, 2)),
    218 => row("set_tid_address", PROC),
    219 => row("restart_syscall", PROC),
    221 => row("fadvise64", Object(0)),
    222 => row("timer_create", PROC).takes(Bytes(1, 64)).fills(Output::Bytes(2, 4)),
    223 => row("timer_settime", PROC).takes(Bytes(2, 32)).fills(Output::Bytes(3, 32)),
    224 => row("timer_gettime", PROC).fills(Output::Bytes(1, 32)),
    225 => row("timer_getoverrun", PROC),
    226 => row("timer_delete", PROC),
    227 => row("clock_settime", PROC).takes(Bytes(1, 16)),
    228 => row("clock_gettime", Kernel(KernelCall::ClockGettime)),
    229 => row("clock_getres", PROC),
    230 => row("clock_nanosleep", PROC).takes(Bytes(2, 16)),
    231 => row("exit_group", PROC),
    232 => row("epoll_wait", Object(0)),
    233 => row("epoll_ctl", Object(0)).takes(Bytes(3, 12)).names(0).names(2),
    234 => row("tgkill", PROC),
    235 => row("utimes", VFS).takes(Text(0)).takes(Bytes(1, 32)),
    247 => row("waitid", PROC).fills(Output::Bytes(2, 128)).names(1),
    257 => row("openat", VFS).takes(Text(1)).names(0).reserves(1),
    258 => row("mkdirat", VFS).takes(Text(1)).names(0),
    259 => row("mknodat", VFS).takes(Text(1)).names(0),
    260 => row("fchownat", VFS).takes(Text(1)).names(0),
    261 => row("futimesat", VFS).takes(Text(1)).takes(Bytes(2, 32)).names(0),
    262 => row("newfstatat", VFS).takes(Text(1)).names(0).fills(Output::Bytes(2, 144)),
    263 => row("unlinkat", VFS).takes(Text(1)).names(0),
    264 => row("renameat", VFS).takes(Text(1)).takes(Text(3)).names(0).names(2),
    265 => row("linkat", VFS).takes(Text(1)).takes(Text(3)).names(0).names(2),
    266 => row("symlinkat", VFS).takes(Text(0)).takes(Text(2)).names(1),
    267 => row("readlinkat", VFS).takes(Text(1)).names(0).fills(Buffer(2, 3)),
    268 => row("fchmodat", VFS).takes(Text(1)).names(0),
    269 => row("faccessat", VFS).takes(Text(1)).names(0),
    270 => row("pselect6", VFS).takes(Bytes(4, 16)).takes(Bytes(5, 16)).masks(5),
    271 => row("ppoll", VFS).takes(PerDescriptor(0, 1, 8)).takes(Bytes(2, 16)).masks(3),
    273 => row("set_robust_list", PROC),
    274 => row("get_robust_list", PROC),
    280 => row("utimensat", VFS).takes(Text(1)).takes(Bytes(2, 32)).names(0),
    281 => row("epoll_pwait", Object(0)).takes(Bytes(4, 8)).masks(4),
    282 => row("signalfd", PROC).takes(Bytes(1, 8)).names(0).reserves(1),
    283 => row("timerfd_create", MEMORY).reserves(1),
    285 => row("fallocate", Object(0)),
    286 => row("timerfd_settime", Object(0)).takes(Bytes(2, 32)),
    287 => row("timerfd_gettime", Object(0)).fills(Output::Bytes(1, 32)),
    288 => row("accept4", Object(0)).reserves(1),
    284 => row("eventfd", MEMORY).reserves(1),
    289 => row("signalfd4", PROC).takes(Bytes(1, 8)).names(0).reserves(1),
    290 => row("eventfd2", MEMORY).reserves(1),
    291 => row("epoll_create1", VFS).reserves(1),
    292 => row("dup3", Kernel(KernelCall::Dup3)),
    293 => row("pipe2", MEMORY).fills(Output::Bytes(0, 8)).reserves(2),
    295 => row("preadv", Object(0)).takes(Array(1, 2, 16)),
    296 => row("pwritev", Object(0)).takes(Array(1, 2, 16)),
    297 => row("rt_tgsigqueueinfo", PROC).takes(Bytes(3, 128)),
    302 => row("prlimit64", PROC).takes(Bytes(2, 16)),
    306 => row("syncfs", Object(0)),
    309 => row("getcpu", Kernel(KernelCall::Getcpu)),
    316 => row("renameat2", VFS).takes(Text(1)).takes(Text(3)).names(0).names(2),
    318 => row("getrandom", MEMORY).fills(Buffer(0, 1)),
    319 => row("memfd_create", MEMORY).takes(Text(0)).reserves(1),
    322 => row("execveat", VFS).takes(Text(1)).names(0),
    325 => row("mlock2", VM),
    326 => row("copy_file_range", VFS).names(0).names(2),
    332 => row("statx", VFS).takes(Text(1)).names(0).fills(Output::Bytes(4, 256)),
    334 => UNKNOWN,
    424 => row("pidfd_send_signal", PROC).takes(Bytes(2, 128)).names(0),
    434 => row("pidfd_open", PROC).reserves(1),
    435 => row("clone3", PROC).takes(Array(0, 1, 1)),
    436 => row("close_range", Kernel(KernelCall::CloseRange)),
    437 => row("openat2", VFS).takes(Text(1)).takes(Bytes(2, 24)).names(0).reserves(1),
    441 => row("epoll_pwait2", Object(0)).takes(Bytes(3, 16)).takes(Bytes(4, 8)).masks(4),
    439 => row("faccessat2", VFS).takes(Text(1)).names(0),
    452 => row("fchmodat2", VFS).takes(Text(1)).names(0),
}
