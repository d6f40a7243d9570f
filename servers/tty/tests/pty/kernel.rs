//! A pseudoterminal of the host's Linux, to hold the line discipline against.
//!
//! A child that blocks every signal leads a session on it, so that signals stay pending where they can be
//! counted.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use tty::termios::{TERMIOS_BYTES, TERMIOS2_BYTES, Termios};

const TCGETS: u64 = 0x5401;
const TCSETS: u64 = 0x5402;
const TCGETS2: u64 = 0x802c_542a;

/// Both ends of a pseudoterminal and the leader of the session on it.
pub struct KernelPty {
    master: OwnedFd,
    slave: OwnedFd,
    leader: Child,
}

impl KernelPty {
    /// Opens a fresh pair. Without one nothing can be compared, so a host that has none fails the test.
    pub fn open() -> KernelPty {
        let (mut master, mut slave) = (-1, -1);
        let null = std::ptr::null_mut();
        // SAFETY: the two integers outlive the call, and null asks for default name, settings and size.
        let opened = unsafe { libc::openpty(&mut master, &mut slave, null, null.cast(), null.cast()) };
        assert_eq!(opened, 0, "this test needs pseudoterminals: {}", io::Error::last_os_error());
        // SAFETY: openpty succeeded, so both are open descriptors that nothing else owns.
        let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        for end in [&master, &slave] {
            // SAFETY: fcntl on an open descriptor with integer arguments touches no memory of ours.
            unsafe {
                libc::fcntl(end.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC);
                libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK);
            }
        }
        let leader = spawn_leader(slave.as_raw_fd());
        KernelPty { master, slave, leader }
    }

    /// Types bytes at the terminal.
    pub fn type_bytes(&self, bytes: &[u8]) {
        assert_eq!(write(&self.master, bytes), Some(bytes.len()), "the terminal takes what is typed");
    }

    /// What the terminal shows now, as far as it can be read at once.
    pub fn shown(&self) -> Vec<u8> {
        let mut shown = Vec::new();
        while let Some(more) = read(&self.master, 4096) {
            shown.extend(more);
        }
        shown
    }

    /// What a program reads without waiting; none where it would have to wait.
    pub fn read(&self, max_bytes: u32) -> Option<Vec<u8>> {
        read(&self.slave, max_bytes as usize)
    }

    /// How many of the bytes a program writes without waiting are taken.
    pub fn write(&self, bytes: &[u8]) -> usize {
        write(&self.slave, bytes).unwrap_or(0)
    }

    /// Whether `poll` reports the terminal readable. Asking also makes the kernel finish with what was typed,
    /// unless something can be read already.
    pub fn poll_readable(&self) -> bool {
        let mut poll = libc::pollfd { fd: self.slave.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one pollfd is passed with a count of one.
        let ready = unsafe { libc::poll(&mut poll, 1, 0) };
        ready == 1 && poll.revents & libc::POLLIN != 0
    }

    /// FIONREAD on the program's end.
    pub fn readable_bytes(&self) -> u32 {
        let mut count: libc::c_int = 0;
        // SAFETY: FIONREAD writes one int, which outlives the call.
        let done = unsafe { libc::ioctl(self.slave.as_raw_fd(), libc::FIONREAD, &mut count) };
        assert_eq!(done, 0);
        count as u32
    }

    /// The settings as TCGETS returns them.
    pub fn termios(&self) -> [u8; TERMIOS_BYTES] {
        self.get_layout(TCGETS)
    }

    /// The settings as TCGETS2 returns them.
    pub fn termios2(&self) -> [u8; TERMIOS2_BYTES] {
        self.get_layout(TCGETS2)
    }

    fn get_layout<const N: usize>(&self, request: u64) -> [u8; N] {
        // Larger than any structure the kernel may write, so that a wrong length shows as a difference.
        let mut bytes = [0xee_u8; 128];
        // SAFETY: both requests write at most 44 bytes into the 128 given.
        let done = unsafe { libc::ioctl(self.slave.as_raw_fd(), request, bytes.as_mut_ptr()) };
        assert_eq!(done, 0);
        assert!(bytes[N..].iter().all(|byte| *byte == 0xee), "the kernel's structure is longer");
        *bytes.first_chunk().unwrap()
    }

    /// TCSETS, or TCSETSF where input is to be thrown away.
    pub fn set_termios(&self, termios: &Termios, discard_input: bool) {
        let bytes = termios.to_bytes();
        let request = if discard_input { TCSETS + 2 } else { TCSETS };
        // SAFETY: the request reads the 36 bytes of the structure passed.
        let done = unsafe { libc::ioctl(self.slave.as_raw_fd(), request, bytes.as_ptr()) };
        assert_eq!(done, 0, "TCSETS: {}", io::Error::last_os_error());
    }

    /// TCFLSH or TCXONC with its argument.
    pub fn control(&self, request: u64, argument: libc::c_int) {
        // SAFETY: both requests take an integer.
        let done = unsafe { libc::ioctl(self.slave.as_raw_fd(), request, argument) };
        assert_eq!(done, 0, "ioctl: {}", io::Error::last_os_error());
    }

    /// The signals that were sent to the foreground group, bit n - 1 standing for signal n.
    pub fn signals(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.leader.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    }
}

impl Drop for KernelPty {
    fn drop(&mut self) {
        self.leader.kill().unwrap();
        self.leader.wait().unwrap();
    }
}

fn spawn_leader(slave: libc::c_int) -> Child {
    let mut command = Command::new("sleep");
    command.arg("600").stdin(Stdio::null());
    let become_leader = move || {
        // SAFETY: all of these may be called between fork and exec, and the signal set is initialised by
        // sigfillset.
        let done = unsafe {
            let mut all = std::mem::zeroed();
            libc::sigfillset(&mut all);
            libc::setsid() >= 0
                && libc::ioctl(slave, libc::TIOCSCTTY, 0) == 0
                && libc::sigprocmask(libc::SIG_BLOCK, &all, std::ptr::null_mut()) == 0
        };
        if done { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes system calls only and allocates nothing.
    unsafe { command.pre_exec(become_leader) };
    command.spawn().expect("a child to lead the session")
}

fn read(end: &OwnedFd, max_bytes: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; max_bytes];
    // SAFETY: the buffer has as many bytes as the call may write.
    let count = unsafe { libc::read(end.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
    would_wait(count)?;
    bytes.truncate(count as usize);
    Some(bytes)
}

fn write(end: &OwnedFd, bytes: &[u8]) -> Option<usize> {
    // SAFETY: the buffer has as many bytes as the call may read.
    let count = unsafe { libc::write(end.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    would_wait(count)?;
    Some(count as usize)
}

/// None where a call would have to wait; any other failure fails the test.
fn would_wait(result: isize) -> Option<()> {
    if result >= 0 {
        return Some(());
    }
    let error = io::Error::last_os_error();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{error}");
    None
}
