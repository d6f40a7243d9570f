//! Making processes and waiting for them.

use std::{mem, ptr};

use libc::{c_int, c_void, idtype_t, pid_t, siginfo_t};

use crate::{
    Errno, call,
    files::{self, Fd},
    memory::Pages,
};

/// No child may outlive its test by more than this.
const CHILD_LIMIT_S: u32 = 30;
const STACK_PAGES: usize = 16;

/// A process id.
pub type Pid = pid_t;

/// A status word, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Killed(i32),
    /// This signal ended it, and left a core.
    Dumped(i32),
    /// This signal stopped it; the upper bits are a ptrace event.
    Stopped(i32),
    /// It runs again.
    Continued,
    /// No status word looks like this.
    Unknown(i32),
}

impl Status {
    /// Takes a status word apart, by hand: the layout is part of what is tested.
    pub fn of(word: i32) -> Status {
        match (word & 0x7f, word & 0x80 != 0) {
            _ if word == 0xffff => Status::Continued,
            (0, false) => Status::Exited((word >> 8) & 0xff),
            (0x7f, false) => Status::Stopped(word >> 8),
            (signal @ 1..0x7f, false) if word >> 8 == 0 => Status::Killed(signal),
            (signal @ 1..0x7f, true) if word >> 8 == 0 => Status::Dumped(signal),
            _ => Status::Unknown(word),
        }
    }
}

/// What `waitpid` answers: a child and its status, or that none is ready.
pub type Waited = Result<Option<(Pid, Status)>, Errno>;

/// What `waitid` tells of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The child.
    pub pid: Pid,
    /// Its real user.
    pub uid: u32,
    /// The signal, which is SIGCHLD.
    pub signal: i32,
    /// CLD_EXITED and the like.
    pub code: i32,
    /// An exit code or a signal.
    pub status: i32,
}

impl From<&siginfo_t> for Info {
    fn from(info: &siginfo_t) -> Info {
        // SAFETY: these fields are plain numbers within the structure, whatever the signal.
        let (pid, uid, status) = unsafe { (info.si_pid(), info.si_uid(), info.si_status()) };
        Info { pid, uid, signal: info.si_signo, code: info.si_code, status }
    }
}

/// Ends this process at once, without anything that the C library would do.
pub fn exit(code: i32) -> ! {
    // SAFETY: it does not return, and nothing of this process is used again.
    unsafe { libc::_exit(code) }
}

/// Ends this thread only, as the raw system call does.
pub fn exit_thread(code: i32) -> ! {
    let _ = call!(syscall(libc::SYS_exit, code));
    exit(102)
}

/// Makes a child that runs `child` and exits with what it returns.
pub fn fork(child: impl FnOnce() -> i32) -> Pid {
    match call!(fork()).expect("a process can be made") {
        0 => {
            let _ = call!(alarm(CHILD_LIMIT_S));
            exit(child())
        }
        pid => pid,
    }
}

/// Makes a child that sleeps until a signal ends it.
pub fn sleeper() -> Pid {
    fork(|| {
        loop {
            let _ = call!(pause());
        }
    })
}

/// A child that stays until it is told to leave, so that until then no wait for any child says ECHILD.
pub struct Keeper {
    /// Its id.
    pub pid: Pid,
    release: Fd,
}

impl Keeper {
    /// How it ends.
    pub const CODE: i32 = 255;

    /// Makes the child. Others that are made later hold its pipe as well, so it leaves when they are gone, too.
    pub fn new() -> Keeper {
        let (from, release) = files::pipe();
        let pid = fork(|| {
            files::close(release);
            let _ = files::read(from, 1);
            Keeper::CODE
        });
        files::close(from);
        Keeper { pid, release }
    }

    /// Tells it to leave; it is reaped as any child.
    pub fn leave(self) -> Pid {
        files::close(self.release);
        self.pid
    }
}

impl Default for Keeper {
    fn default() -> Keeper {
        Keeper::new()
    }
}

/// The raw `clone`, with a stack of its own for what runs in the new process or thread.
pub fn clone(flags: c_int, run: impl FnOnce() -> i32, tid: *mut c_int) -> Result<Pid, Errno> {
    // The stack may be in use for as long as the new process lives, which nobody here knows.
    clone_on(Box::leak(Box::new(Pages::new(STACK_PAGES))), flags, run, tid)
}

/// The same on a stack that is given, and must not be in use.
pub fn clone_on(
    stack: &Pages,
    flags: c_int,
    run: impl FnOnce() -> i32,
    tid: *mut c_int,
) -> Result<Pid, Errno> {
    extern "C" fn enter(argument: *mut c_void) -> c_int {
        // SAFETY: it is the pointer made below, and only the new process takes the value behind it.
        let run = unsafe { Box::from_raw(argument.cast::<Box<dyn FnOnce() -> i32>>()) };
        run()
    }
    let run: Box<dyn FnOnce() -> i32 + '_> = Box::new(run);
    let argument: *mut c_void = Box::into_raw(Box::new(run)).cast();
    let top = stack.as_ptr_range().end.cast_mut().cast();
    call!(clone(enter, top, flags, argument, tid, ptr::null_mut::<c_void>(), tid))
}

/// `waitpid`, with the status taken apart.
pub fn wait(pid: Pid, options: c_int) -> Waited {
    let mut word = -1;
    let pid = call!(waitpid(pid, &raw mut word, options))?;
    Ok((pid != 0).then(|| (pid, Status::of(word))))
}

/// Waits for one child to end, through any signals, and says how it did.
pub fn end_of(pid: Pid) -> Status {
    loop {
        match wait(pid, libc::__WALL) {
            Ok(Some((_, status))) => return status,
            Err(Errno(libc::EINTR)) => {}
            other => panic!("a child ends: {other:?}"),
        }
    }
}

/// `waitid`, into a structure full of rubbish, as it was filled.
pub fn waitid(of: idtype_t, id: u32, options: c_int) -> Result<Info, Errno> {
    // SAFETY: the structure is plain numbers, of which any are valid.
    let mut info: siginfo_t = unsafe { mem::transmute([0x5a_u8; size_of::<siginfo_t>()]) };
    call!(waitid(of, id, &raw mut info, options))?;
    Ok(Info::from(&info))
}

/// Waits until a child has ended and leaves it a zombie.
pub fn until_zombie(pid: Pid) {
    waitid(libc::P_PID, pid as u32, libc::WEXITED | libc::WNOWAIT).expect("the child ends");
}

/// Waits until the first thread of a process has ended, whatever becomes of the others.
pub fn until_leader_gone(pid: Pid) {
    let gone = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
    };
    assert!(crate::times::until(gone), "the first thread of {pid} does not end");
}

/// Waits until a child has stopped and leaves the report to others.
pub fn until_stopped(pid: Pid) {
    waitid(libc::P_PID, pid as u32, libc::WSTOPPED | libc::WNOWAIT).expect("the child stops");
}

/// Sends a signal.
pub fn kill(pid: Pid, signal: c_int) -> Result<(), Errno> {
    call!(kill(pid, signal)).map(drop)
}

/// Kills a child and takes its status.
pub fn kill_and_reap(pid: Pid) -> Status {
    kill(pid, libc::SIGKILL).expect("a child can be killed");
    end_of(pid)
}

/// This process.
pub fn me() -> Pid {
    std::process::id() as Pid
}
