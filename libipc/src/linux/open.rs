//! Flags of open(2) and its relatives (uapi/asm-generic/fcntl.h), and constants of the *at calls.

macro_rules! flags {
    ($($name:ident $number:literal)*) => {
        $(#[doc = concat!(stringify!($name), ".")] pub const $name: u32 = $number;)*
    };
}

flags! {
    O_ACCMODE 0o3 O_RDONLY 0 O_WRONLY 1 O_RDWR 2 O_CREAT 0o100 O_EXCL 0o200 O_NOCTTY 0o400 O_TRUNC 0o1000
    O_APPEND 0o2000 O_NONBLOCK 0o4000 O_DSYNC 0o10000 O_ASYNC 0o20000 O_DIRECT 0o40000 O_LARGEFILE 0o100000
    O_DIRECTORY 0o200000 O_NOFOLLOW 0o400000 O_NOATIME 0o1000000 O_CLOEXEC 0o2000000 O_PATH 0o10000000
    O_TMPFILE 0o20200000
    AT_SYMLINK_NOFOLLOW 0x100 AT_REMOVEDIR 0x200 AT_EACCESS 0x200 AT_SYMLINK_FOLLOW 0x400 AT_EMPTY_PATH 0x1000
    RENAME_NOREPLACE 1 RENAME_EXCHANGE 2
    F_DUPFD 0 F_GETFD 1 F_SETFD 2 F_GETFL 3 F_SETFL 4 F_GETLK 5 F_SETLK 6 F_SETLKW 7 F_DUPFD_CLOEXEC 1030
    F_SETPIPE_SZ 1031 F_GETPIPE_SZ 1032 F_ADD_SEALS 1033 F_GET_SEALS 1034 FD_CLOEXEC 1
}

/// A status flag of sessions that no program sees: what is behind it has pages that can be mapped.
pub const S_MAPPABLE: u32 = 1 << 31;
/// A flag of open that no program gives: the file is opened to be run, and while it is open so nobody may write it.
pub const O_RUNS: u32 = 1 << 30;
/// The directory descriptor that means the working directory.
pub const AT_FDCWD: i32 = -100;
/// Longest path with its NUL.
pub const PATH_MAX: u32 = 4096;
/// Longest name of one component.
pub const NAME_MAX: u32 = 255;
/// Most symbolic links followed in one walk.
pub const LINKS_MAX: u32 = 40;
