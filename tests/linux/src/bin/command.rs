//! compare
//!
//! Programs started as Rust starts them, with busybox as the program.

use std::{
    env, fs,
    io::{self, Read, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitCode, Output, Stdio},
    thread,
};

use libc::{SIGKILL, SIGTERM};
use linux_tests::{equal, files::Scratch, ok, run};

const BUSYBOX: &str = "/bin/busybox";

fn main() -> ExitCode {
    run(&[
        statuses,
        output,
        input,
        both_ways,
        pipeline,
        environment,
        folders,
        arguments,
        ending_them,
        failures,
        many,
        becoming,
    ])
}

/// An applet of busybox with arguments and, unless the test changes it, nothing to read.
fn busybox(arguments: &[&str]) -> Command {
    let mut command = Command::new(BUSYBOX);
    command.args(arguments).stdin(Stdio::null());
    command
}

fn shell(script: &str) -> Command {
    busybox(&["sh", "-c", script])
}

fn run_it(mut command: Command) -> Output {
    command.output().expect("busybox runs")
}

fn said(command: Command) -> String {
    String::from_utf8_lossy(&run_it(command).stdout).into_owned()
}

fn start(mut command: Command) -> Child {
    command.spawn().expect("busybox runs")
}

fn statuses() {
    let code = |command| run_it(command).status.code();
    equal("true is 0", code(busybox(&["true"])), Some(0));
    equal("false is 1", code(busybox(&["false"])), Some(1));
    equal("an exit code comes through", code(shell("exit 42")), Some(42));
    equal("an applet that does not exist is 127", code(busybox(&["no-such-applet"])), Some(127));
    let status = run_it(shell("kill -TERM $$")).status;
    equal("so does a signal", (status.code(), status.signal()), (None, Some(SIGTERM)));
}

fn output() {
    let output = run_it(shell("echo out; echo err >&2; echo more"));
    equal("output is captured", output.stdout.as_slice(), b"out\nmore\n");
    equal("apart from errors", output.stderr.as_slice(), b"err\n");
    let output = run_it(busybox(&["seq", "1", "20000"]));
    let wanted: String = (1..=20_000).map(|number| format!("{number}\n")).collect();
    ok("more than a pipe holds is captured whole", output.stdout == wanted.as_bytes());
    let mut command = shell("seq 1 9000; seq 1 9000 >&2");
    command.stderr(Stdio::piped());
    let output = run_it(command);
    ok("both at once as well", output.stdout == output.stderr && output.stdout.len() > 40_000);
}

fn input() {
    let mut child = start({
        let mut command = busybox(&["tr", "a-z", "A-Z"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    });
    let mut stdin = child.stdin.take().expect("it is a pipe");
    stdin.write_all(b"young of a dragonfly\n").expect("it is read");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    equal("what is written is read", output.stdout.as_slice(), b"YOUNG OF A DRAGONFLY\n");
    let mut child = start({
        let mut command = busybox(&["true"]);
        command.stdin(Stdio::piped());
        command
    });
    let mut stdin = child.stdin.take().expect("it is a pipe");
    child.wait().expect("it ends");
    let kind = stdin.write_all(b"nobody reads this").map_err(|error| error.kind());
    equal("writing to a program that is gone is an error", kind, Err(io::ErrorKind::BrokenPipe));
}

fn both_ways() {
    let mut child = start({
        let mut command = busybox(&["cat"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    });
    let bytes: Vec<u8> = (0..300_000_u32).map(|at| (at * 7 % 251) as u8).collect();
    let mut stdin = child.stdin.take().expect("it is a pipe");
    let copy = bytes.clone();
    let writer = thread::spawn(move || stdin.write_all(&copy));
    let mut back = Vec::new();
    let read = child.stdout.take().map(|mut stdout| stdout.read_to_end(&mut back));
    ok("a thread writes while another reads", writer.join().is_ok_and(|result| result.is_ok()));
    ok("and the same comes back", matches!(read, Some(Ok(300_000))) && back == bytes);
    equal(
        "the program ends when its input does",
        child.wait().ok().and_then(|status| status.code()),
        Some(0),
    );
}

fn pipeline() {
    let mut first = start({
        let mut command = busybox(&["seq", "1", "5000"]);
        command.stdout(Stdio::piped());
        command
    });
    let mut second = start({
        let mut command = busybox(&["grep", "7"]);
        command.stdin(first.stdout.take().expect("it is a pipe")).stdout(Stdio::piped());
        command
    });
    let mut third = busybox(&["wc", "-l"]);
    third.stdin(second.stdout.take().expect("it is a pipe"));
    let wanted = (1..=5000).filter(|number: &u32| number.to_string().contains('7')).count();
    equal("three programs in a row", said(third).trim(), wanted.to_string().as_str());
    ok(
        "all of them end well",
        [first, second].iter_mut().all(|child| child.wait().is_ok_and(|status| status.success())),
    );
    equal("the shell's own pipes", said(shell("seq 1 100 | tail -n 2 | tr '\\n' '.'")), "99.100.".into());
    let early = said(shell("yes | head -n 3 | tr '\\n' ' '"));
    equal("a writer without end is ended by its reader", early, "y y y ".into());
}

fn environment() {
    let mut command = busybox(&["env"]);
    command.env_clear().env("NAIAD", "young").env("EMPTY", "");
    let mut lines: Vec<String> = said(command).lines().map(str::to_owned).collect();
    lines.sort();
    equal("an environment is what was given", lines, vec!["EMPTY=".to_owned(), "NAIAD=young".to_owned()]);
    let mut command = shell("echo \"$ADDED\"");
    command.env("ADDED", "a b  c");
    equal("a value keeps its spaces", said(command), "a b  c\n".into());
}

fn folders() {
    let scratch = Scratch::new();
    fs::create_dir("inner").expect("a folder can be made");
    let mut command = busybox(&["pwd"]);
    command.current_dir("inner");
    let wanted = format!("{}/inner\n", scratch.path().display());
    ok("a program runs in the folder it was given", said(command) == wanted);
    ok("and its parent stays where it was", env::current_dir().is_ok_and(|path| path == *scratch.path()));
    let mut command = shell("echo to a file; echo and more");
    command.stdout(fs::File::create("out").expect("a file can be made"));
    ok("output goes to a file", run_it_to_the_end(command));
    equal("as it is", fs::read_to_string("out").ok().as_deref(), Some("to a file\nand more\n"));
    fs::write("script", "#!/bin/busybox sh\necho \"$#: $1 $2\"\n").expect("a file can be written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions("script", mode).expect("it can be made a program");
    let mut command = Command::new("./script");
    command.args(["one", "two"]).stdin(Stdio::null());
    equal("a script runs by its first line", said(command), "2: one two\n".into());
}

fn run_it_to_the_end(mut command: Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

fn arguments() {
    let odd = ["", " ", "a b", "\"q\"", "$HOME", "*", "\\", "ü", "-n"];
    let mut command = busybox(&["sh", "-c", "for word; do echo \"[$word]\"; done", "name"]);
    command.args(odd);
    let wanted: String = odd.iter().map(|word| format!("[{word}]\n")).collect();
    ok("arguments come through as they are", said(command) == wanted);
    let long = "x".repeat(100_000);
    let mut command = shell("echo ${#1}");
    command.args(["name", &long]);
    equal("even long ones", said(command), "100000\n".into());
    let mut command = shell("echo $#");
    command.arg("name").args((0..5000).map(|number| number.to_string()));
    equal("and many", said(command), "5000\n".into());
    let mut command = busybox(&["by its name"]);
    command.arg0("echo");
    equal("a program's name is an argument too", said(command), "by its name\n".into());
}

fn ending_them() {
    let mut child = start(busybox(&["sleep", "30"]));
    ok("a program that runs has no status", matches!(child.try_wait(), Ok(None)));
    ok("it can be killed", child.kill().is_ok());
    let status = child.wait().expect("it ends");
    equal("and that is its status", status.signal(), Some(SIGKILL));
    equal("as often as one asks", child.wait().ok().and_then(|status| status.signal()), Some(SIGKILL));
    let (mut waited_for, mut other) = (start(busybox(&["sleep", "30"])), start(busybox(&["true"])));
    ok("another ends by itself meanwhile", other.wait().is_ok_and(|status| status.success()));
    ok("and the first does not", matches!(waited_for.try_wait(), Ok(None)));
    let killer = waited_for.id().to_string();
    ok("a program can kill another", run_it_to_the_end(busybox(&["kill", &killer])));
    equal("which ends by that", waited_for.wait().ok().and_then(|status| status.signal()), Some(SIGTERM));
}

fn failures() {
    let kind =
        |path: &str| Command::new(path).stdin(Stdio::null()).spawn().map(drop).map_err(|error| error.kind());
    equal("a program that does not exist", kind("/nothing/here"), Err(io::ErrorKind::NotFound));
    equal("a folder is no program", kind("/tmp"), Err(io::ErrorKind::PermissionDenied));
    let mut command = busybox(&["true"]);
    command.current_dir("/nothing/here");
    let kind = command.spawn().map(drop).map_err(|error| error.kind());
    equal("a folder that does not exist", kind, Err(io::ErrorKind::NotFound));
    // SAFETY: the closure does nothing but fail.
    let refused =
        unsafe { busybox(&["true"]).pre_exec(|| Err(io::Error::from_raw_os_error(libc::EDOM))).spawn() };
    equal(
        "a failure before exec is told",
        refused.map(drop).map_err(|error| error.raw_os_error()),
        Err(Some(libc::EDOM)),
    );
}

fn many() {
    let children: Vec<Child> = (0..16).map(|code| start(shell(&format!("exit {code}")))).collect();
    let codes: Vec<_> =
        children.into_iter().map(|mut child| child.wait().ok().and_then(|status| status.code())).collect();
    ok("sixteen at once each have their own status", (0..16).map(Some).eq(codes));
    let mut threads = Vec::new();
    for number in 0..8 {
        threads.push(thread::spawn(move || said(shell(&format!("echo {number}"))) == format!("{number}\n")));
    }
    ok(
        "eight threads start programs at once",
        threads.into_iter().all(|thread| matches!(thread.join(), Ok(true))),
    );
}

fn becoming() {
    let child = linux_tests::process::fork(|| {
        let error = shell("exit 23").exec();
        error.raw_os_error().unwrap_or(99)
    });
    equal(
        "a process becomes another program",
        linux_tests::process::end_of(child),
        linux_tests::process::Status::Exited(23),
    );
}
