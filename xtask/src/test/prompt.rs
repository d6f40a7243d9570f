//! A person at the prompt while servers die all the time: what is typed is echoed once, answers are right, nothing is
//! lost. The screen must be, to the byte, what it is when nothing dies.

use anyhow::{Context, Result, ensure};

use super::{TIMEOUT_S, report::same};
use crate::{
    cli::RunArgs,
    console::READY,
    machine::{Ending, Terminal},
    run::{self, Built},
};

/// A job in the background, without and with a storm.
const CALM: &str = "while true; do sleep 1; done &";
const STORM: &str = "while true; do for s in proc vfs ufs vm tty blk root; do echo crash > /proc/naiad/servers/$s/ctl; \
                     done; done &";
/// What is typed then: commands, a here-document, a mistake corrected, a line of before brought back.
const LINES: [&str; 14] = [
    "echo $((6 * 7))",
    "cd /tmp && pwd",
    "seq 1 1000 | sort -n | tail -2",
    "cat > note <<END",
    "seven servers",
    "END",
    "tr a-z A-Z < note; rm note",
    "echo corrx\x7fected",
    "\x1b[A",
    "(exit 5); echo $?",
    "sleep 4; echo rested",
    "md5sum < /bin/busybox",
    "ls / | wc -l; readlink /proc/self/cwd",
    "kill %1; exit 3",
];
const STATUS: u8 = 3;
const DEATHS_MIN: usize = 100;

/// Compares the screens without and with a storm.
pub fn prove(built: &Built) -> Result<()> {
    let (calm, _) = work(built, CALM)?;
    let (stormy, deaths) = work(built, STORM)?;
    same(&calm, &stormy).context("the screen is not what it is without deaths")?;
    ensure!(deaths >= DEATHS_MIN, "only {deaths} servers died meanwhile");
    Ok(())
}

/// Types everything behind a first line. The screen from the second prompt on, and how many servers died.
fn work(built: &Built, first: &str) -> Result<(Vec<u8>, usize)> {
    let lines: Vec<&str> = [first].into_iter().chain(LINES).collect();
    let (mut screen, mut deaths) = (Vec::new(), 0);
    let session = run::session(None, run::SCREEN, "vt100");
    let mut note = |line: &str| deaths += usize::from(line.contains(") is struck at "));
    let ending = built.boot(
        &RunArgs::limited(TIMEOUT_S),
        &session,
        Terminal::Typed(&lines, &mut screen),
        &mut note,
    )?;
    let shown = String::from_utf8_lossy(&screen);
    ensure!(ending == Ending::Status(STATUS), "status {}; the screen:\n{shown}", ending.status());
    let prompts: Vec<usize> = (0..screen.len()).filter(|at| screen[*at..].starts_with(READY)).collect();
    let second = *prompts.get(1).context("there was no second prompt")?;
    Ok((screen.split_off(second), deaths))
}
