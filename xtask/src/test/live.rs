//! A machine under a debugger: what gdb says, by the script of `xtask/src/gdb`, of a program that sleeps, of who waits
//! for whom, and of where a server stands; and the machine goes on as if nothing had been.

use std::{
    io::{self, Write},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::TIMEOUT_S;
use crate::{
    cli::RunArgs,
    machine::{Ending, Terminal},
    run::{self, Built},
    script,
};

const SCRIPT: &str = "sleep 1000 & sleep 1; echo ready; sleep 1; kill $!; echo done";
const READY: &[u8] = b"ready\n";
/// Commands, and what each must say.
const ASKED: [(&str, &[&str]); 6] = [
    ("naiad servers", &["vfs", "Alive"]),
    ("naiad threads", &["Receiving", "clock_nanosleep of proc"]),
    ("naiad waits", &["clock_nanosleep", "held"]),
    ("naiad handles vfs", &["Inbox of proc"]),
    ("naiad journal proc", &["receive()"]),
    ("naiad bt vfs", &["libipc::server::shell::Shell", "_start"]),
];

/// Asks gdb while a machine runs.
pub fn prove(built: &Built) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("naiad-gdb-").tempdir()?;
    let socket = folder.path().join("socket").display().to_string();
    let script = built.gdb_script(&socket)?;
    let qemu = vec!["-gdb".to_owned(), format!("unix:{socket},server,nowait")];
    let args = RunArgs { qemu, ..RunArgs::limited(TIMEOUT_S) };
    let session = run::session(Some(SCRIPT), run::SCREEN, script::TERM);
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-x"]).arg(script);
    for (command, _) in ASKED {
        gdb.args(["-ex", &format!("echo == {command}\\n"), "-ex", command]);
    }
    gdb.args(["-ex", "detach"]);
    let mut watcher = Watcher { gdb, screen: Vec::new(), said: None };
    let ending = built.boot(&args, &session, Terminal::Captured(&mut watcher), &mut |_| {})?;
    let said = watcher.said.context("the machine was never ready")?;
    ensure!(ending == Ending::Status(0), "status {}; gdb says\n{said}", ending.status());
    ensure!(watcher.screen.ends_with(b"done\n"), "the machine does not go on; gdb says\n{said}");
    for (command, wanted) in ASKED {
        let part = said.split("== ").find_map(|part| part.strip_prefix(command)).unwrap_or_default();
        for words in wanted {
            ensure!(part.contains(words), "`{command}` does not say `{words}`; gdb says\n{said}");
        }
    }
    Ok(())
}

/// Reads the machine's terminal, and has gdb look at the machine when that is ready.
struct Watcher {
    gdb: Command,
    screen: Vec<u8>,
    said: Option<String>,
}

impl Write for Watcher {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.screen.extend_from_slice(bytes);
        if self.said.is_none() && self.screen.ends_with(READY) {
            let output = self.gdb.output()?;
            let text = [output.stdout, output.stderr].concat();
            self.said = Some(String::from_utf8_lossy(&text).into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
