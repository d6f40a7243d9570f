//! Core files: what a program and a server leave when they fail is opened in gdb on the host, and the backtrace must be
//! that of the failure.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::TIMEOUT_S;
use crate::{
    cli::{Addition, RunArgs},
    house,
    run::Built,
    script,
};

const PROGRAM: &str = "tests/cores/crash.rs";
/// How the program fails, what its shell says of the status, and what gdb says of the signal.
const FAILURES: [(&str, u8, &str); 5] = [
    ("load", 139, "SIGSEGV"),
    ("null", 139, "SIGSEGV"),
    ("ud2", 132, "SIGILL"),
    ("divide", 136, "SIGFPE"),
    ("abort", 134, "SIGABRT"),
];
/// What the failing thread was in, from within, and the other one.
const FRAMES: [&str; 5] =
    ["crash::waits_for_ever", "crash::waiter", "crash::inner", "crash::outer", "crash::main"];
/// The server that is made to fail, and how.
const SERVER: &str = "vfs";
const STRIKES: [&str; 3] = ["ud2", "load", "divide"];
/// What any server is in.
const SERVER_FRAME: &str = "libipc::server::shell::Shell";

/// Lets programs and servers fail, and has gdb look at each.
pub fn prove(built: &Built) -> Result<()> {
    let program = program()?;
    let (text, cores) = cores(built, &program)?;
    let wanted: String = FAILURES.iter().map(|(kind, status, _)| format!("{kind} {status}\n")).collect();
    ensure!(text.contains(&wanted) && text.contains("small:\n"), "the machine says\n{text}");
    let (of_program, of_server) = cores.split_at(FAILURES.len().min(cores.len()));
    for ((kind, _, signal), core) in FAILURES.iter().zip(of_program) {
        let said = backtrace(&program, core)?;
        ensure!(said.contains(signal), "{kind}: gdb does not say {signal}:\n{said}");
        in_order(&said, &FRAMES).with_context(|| format!("{kind}: gdb says\n{said}"))?;
    }
    ensure!(of_server.len() == STRIKES.len(), "{} cores of servers", of_server.len());
    let image = built.server_image(SERVER).context("there is no such server")?;
    for (kind, core) in STRIKES.iter().zip(of_server) {
        let said = backtrace(image, core)?;
        ensure!(said.contains(SERVER_FRAME), "{SERVER} struck by {kind}: gdb says\n{said}");
    }
    Ok(())
}

/// The program that fails, with all that gdb can know of it.
fn program() -> Result<PathBuf> {
    let program = house::target().join("crash");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition", "2024", "-g", "-C", "target-feature=+crt-static", "-o"]).arg(&program);
    let status = rustc.arg(PROGRAM).current_dir(house::root()).status().context("cannot run rustc")?;
    ensure!(status.success(), "{PROGRAM} cannot be built");
    Ok(program)
}

/// What the machine prints, and the cores that were left in it.
fn cores(built: &Built, program: &Path) -> Result<(String, Vec<Vec<u8>>)> {
    let kinds = FAILURES.map(|(kind, ..)| kind).join(" ");
    // The last program is told to leave its core in a folder, by a name that is put together.
    let script = format!(
        "cd /tmp; ulimit -c unlimited; mkdir cores; pattern=/proc/sys/kernel/core_pattern\n\
         for k in {kinds}; do\n\
         [ $k = abort ] && echo '/tmp/cores/%e-%u%%' >$pattern\n\
         crash $k 2>/dev/null; echo $k $?; \n\
         mv core core.$k 2>/dev/null || mv cores/crash-0% core.$k\n\
         done; echo core >$pattern\n\
         (ulimit -c 0; crash load); echo small: $(ls core 2>/dev/null)\n\
         n=0; for f in {}; do n=$((n + 1)); echo crash 40000ns $f >/proc/naiad/servers/{SERVER}/ctl\n\
         until [ -e /proc/naiad/cores/$n ]; do ls -l /bin >/dev/null; done; done\n\
         for n in $(ls /proc/naiad/cores); do cat /proc/naiad/cores/$n >server.$n; done\n\
         all=\"$(for k in {kinds}; do echo core.$k; done) $(ls server.*)\"\n\
         wc -c $all | sed '$d'\n\
         echo --\n\
         cat $all | gzip -c\n",
        STRIKES.join(" ")
    );
    let add = vec![Addition { host: program.to_owned(), guest: "/bin/crash".into() }];
    let args = RunArgs { add, ..RunArgs::limited(TIMEOUT_S) };
    let (text, all) = script::succeed(built, &args, &script)?.unpacked()?;
    let cores = cut(&text, &all)?;
    Ok((text, cores))
}

/// Takes files apart that lie one behind the other, by the list of their lengths.
fn cut(text: &str, mut all: &[u8]) -> Result<Vec<Vec<u8>>> {
    let lengths = text.lines().filter_map(|line| {
        let (length, name) = line.trim().split_once(' ')?;
        let core = name.starts_with("core.") || name.starts_with("server.");
        length.parse().ok().filter(|_| core)
    });
    let cut = lengths.map(|length: usize| {
        let (core, rest) =
            all.split_at_checked(length).context("the files are shorter than they should be")?;
        all = rest;
        Ok(core.to_vec())
    });
    cut.collect()
}

/// What gdb says of a core and of all threads in it.
fn backtrace(program: &Path, core: &[u8]) -> Result<String> {
    let file = tempfile::Builder::new().prefix("core-").tempfile_in(house::target())?;
    fs::write(file.path(), core)?;
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", "thread apply all backtrace"]);
    let output = gdb.arg(program).arg(file.path()).output().context("cannot run gdb")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a text has these words one behind the other.
fn in_order(text: &str, words: &[&str]) -> Result<()> {
    let mut rest = text;
    for word in words {
        let at = rest.find(word).with_context(|| format!("`{word}` is not where it should be"))?;
        rest = &rest[at + word.len()..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_cut_by_their_lengths_and_a_list_that_lies_is_found_out() {
        let text = "load 139\nsmall: \n   3 core.load\n      2 server.1\n";
        assert_eq!(cut(text, b"abcde").unwrap(), [b"abc".to_vec(), b"de".to_vec()]);
        assert!(cut(text, b"abc").is_err());
        assert!(in_order("a b c", &["a", "c"]).is_ok() && in_order("a b c", &["c", "a"]).is_err());
    }
}
