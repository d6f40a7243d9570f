//! What uname(2) and the files of `/proc/sys/kernel` call the system. Programs built for Linux compare the release
//! with the oldest kernel they run on, so it is the number of the Linux whose calls are followed.

/// `sysname`, `/proc/sys/kernel/ostype`.
pub const SYSNAME: &str = "Linux";
/// `release`, `/proc/sys/kernel/osrelease`.
pub const RELEASE: &str = "6.1.0-naiad";
/// `version`.
pub const VERSION: &str = "#1 Naiad";
/// `machine`.
pub const MACHINE: &str = "x86_64";
/// `nodename` until sethostname(2) sets another.
pub const NODENAME: &str = "naiad";
