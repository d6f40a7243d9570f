//! The frame of a program: its parts run one after the other, and each sentence they prove becomes a line.

use std::{
    env,
    ffi::{CString, OsString},
    fmt::Debug,
    os::unix::ffi::OsStringExt,
    panic,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use crate::{
    Errno, call,
    process::{self, Status},
};

/// No program may hang: this many seconds after its start it is killed.
const PROGRAM_LIMIT_S: u32 = 60;

/// The first argument of a program that was started by itself, to play a part in its own test.
const ROLE: &str = "--role";

/// What a program does when it was started by itself: the role's name, and what it does with its arguments.
pub type Role = (&'static str, fn(&[String]) -> i32);

static FAILED: AtomicBool = AtomicBool::new(false);
static SELF: OnceLock<PathBuf> = OnceLock::new();

/// Runs the parts of a program and says by its status whether all their sentences hold.
pub fn run(parts: &[fn()]) -> ExitCode {
    run_with(&[], parts)
}

/// The same for a program that starts itself in one of these roles.
pub fn run_with(roles: &[Role], parts: &[fn()]) -> ExitCode {
    SELF.set(own_path()).expect("a program runs once");
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [role, name, rest @ ..] = &arguments[..]
        && role == ROLE
    {
        let (_, play) = roles.iter().find(|(role, _)| role == name).expect("only known roles are played");
        process::exit(play(rest));
    }
    panic::set_hook(Box::new(|panic| {
        say(&format!("PANIC: {panic}"));
        process::exit(101);
    }));
    let _ = call!(alarm(PROGRAM_LIMIT_S));
    for part in parts {
        part();
    }
    ExitCode::from(u8::from(FAILED.load(Relaxed)))
}

/// Where this program is, as far as its first argument tells.
fn own_path() -> PathBuf {
    let first = PathBuf::from(env::args_os().next().unwrap_or_default());
    if first.components().count() > 1 {
        env::current_dir().expect("there is a current directory").join(first)
    } else {
        env::current_exe().expect("the program has a path")
    }
}

/// Becomes this program anew, in a role. It returns only what went wrong.
pub fn exec_self(role: &str, arguments: &[&str]) -> Errno {
    let path = SELF.get().map_or(Path::new(""), PathBuf::as_path);
    let text =
        |text: &str| CString::new(OsString::from(text).into_vec()).expect("arguments have no zero bytes");
    let path = text(&path.to_string_lossy());
    let words: Vec<CString> = [path.clone(), text(ROLE), text(role)]
        .into_iter()
        .chain(arguments.iter().map(|word| text(word)))
        .collect();
    let argv: Vec<_> = words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
    let envp = [std::ptr::null()];
    call!(execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()))
        .expect_err("an exec that succeeds does not return")
}

/// Prints a line with one write, so that lines of several processes do not mix.
pub fn say(line: &str) {
    let line = format!("{line}\n");
    let mut rest = line.as_bytes();
    while let Ok(written @ 1..) = call!(write(1, rest.as_ptr().cast(), rest.len())) {
        rest = rest.get(written as usize..).unwrap_or_default();
    }
}

/// Reports whether the sentence holds.
pub fn ok(sentence: &str, holds: bool) {
    if holds {
        say(&format!("ok: {sentence}"));
    } else {
        FAILED.store(true, Relaxed);
        say(&format!("FAILED: {sentence}"));
    }
}

/// Reports whether the sentence holds because two values are equal, and shows them if not.
pub fn equal<T: PartialEq + Debug>(sentence: &str, got: T, wanted: T) {
    if got == wanted {
        ok(sentence, true);
    } else {
        ok(&format!("{sentence}: got {got:?}, not {wanted:?}"), false);
    }
}

/// Runs a part in a process of its own, so that it starts without children, handlers or masks and leaves none.
pub fn apart(body: impl FnOnce()) {
    let pid = process::fork(|| {
        FAILED.store(false, Relaxed);
        body();
        i32::from(FAILED.load(Relaxed))
    });
    match process::wait(pid, 0) {
        Ok(Some((_, Status::Exited(0)))) => {}
        Ok(Some((_, Status::Exited(1)))) => FAILED.store(true, Relaxed),
        other => ok(&format!("a part runs to its end: {other:?}"), false),
    }
}
