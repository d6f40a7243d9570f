//! A replay under gdb: it stops where the server panics, or before a message.

use std::{env, fs, os::unix::process::CommandExt, path::Path, process::Command};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{cli::ReplayArgs, house, terminal::tell};

const GDB: &str = "/usr/bin/gdb";
/// What gdb is told: where to stop, and what to show there.
const SCRIPT: &str = include_str!("stop.py");

/// gdb stops here when a message is about to be served.
#[inline(never)]
pub fn message_begins(number: u64) {
    std::hint::black_box(number);
}

/// gdb stops here when a server has panicked: its frames are above those of the panic.
#[inline(never)]
pub fn server_panics() {
    std::hint::black_box(());
}

/// Runs this very replay once more, under gdb, which takes over.
pub fn run(args: &ReplayArgs) -> Result<u8> {
    ensure!(Path::new(GDB).exists(), "there is no {GDB}; install it with `apt-get install gdb`");
    let script = house::target().join("replay-stop.py");
    fs::write(&script, SCRIPT).with_context(|| format!("cannot write {}", script.display()))?;
    let mut gdb = Command::new(GDB);
    gdb.args(["-q", "-nx", "-iex", "set debuginfod enabled off", "-x"]).arg(&script);
    gdb.args(&args.gdb_arguments).arg("--args").arg(env::current_exe()?);
    gdb.args(["replay", "--debugged"]).arg(&args.file);
    gdb.env("NAIAD_STOP_BEFORE", args.until.map(|number| number.to_string()).unwrap_or_default());
    tell("replay: gdb runs the server on this machine");
    Err(anyhow!(gdb.exec())).with_context(|| format!("cannot run {GDB}"))
}
