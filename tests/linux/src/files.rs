//! Descriptors, pipes, and a folder to work in.

use std::{env, fs, path::PathBuf};

use crate::{Errno, call};

/// A descriptor, as the kernel numbers it.
pub type Fd = i32;

/// A folder of this program's own in `/tmp`, which is its current directory until it is dropped, and is then removed.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes the folder and goes there.
    pub fn new() -> Scratch {
        let path = PathBuf::from(format!("/tmp/linux-test-{}", std::process::id()));
        fs::create_dir(&path).expect("a folder can be made in /tmp");
        env::set_current_dir(&path).expect("it can be the current directory");
        Scratch { path }
    }

    /// Where it is.
    pub fn path(&self) -> &PathBuf {
        &self.path
    }
}

impl Default for Scratch {
    fn default() -> Scratch {
        Scratch::new()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = env::set_current_dir("/");
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A pipe: the end to read from, and the one to write to.
pub fn pipe() -> (Fd, Fd) {
    let mut ends = [-1; 2];
    call!(pipe(ends.as_mut_ptr())).expect("a pipe can be made");
    (ends[0], ends[1])
}

/// Writes bytes and says how many.
pub fn write(fd: Fd, bytes: &[u8]) -> Result<isize, Errno> {
    call!(write(fd, bytes.as_ptr().cast(), bytes.len()))
}

/// Reads up to `len` bytes.
pub fn read(fd: Fd, len: usize) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; len];
    let read = call!(read(fd, bytes.as_mut_ptr().cast(), len))?;
    bytes.truncate(read as usize);
    Ok(bytes)
}

/// Closes a descriptor.
pub fn close(fd: Fd) {
    call!(close(fd)).expect("an open descriptor can be closed");
}

/// Sets or clears O_NONBLOCK.
pub fn set_blocking(fd: Fd, blocking: bool) {
    let flags = call!(fcntl(fd, libc::F_GETFL)).expect("flags can be asked for");
    let flags = if blocking { flags & !libc::O_NONBLOCK } else { flags | libc::O_NONBLOCK };
    call!(fcntl(fd, libc::F_SETFL, flags)).expect("flags can be set");
}

/// What `poll` says at once of one descriptor.
pub fn poll_now(fd: Fd, events: i16) -> i16 {
    poll(fd, events, 0)
}

/// What `poll` says of one descriptor within some milliseconds.
pub fn poll(fd: Fd, events: i16, limit_ms: i32) -> i16 {
    let mut entry = libc::pollfd { fd, events, revents: 0 };
    call!(poll(&raw mut entry, 1, limit_ms)).expect("a descriptor can be polled");
    entry.revents
}
