//! The workload: programs that make Linux system calls and tell the oracle what they saw.
//!
//! Every script is confluent: whatever the order in which its processes run, and however often a server dies, what it
//! tells is the same. So a difference is the system's fault.

pub mod files;
mod memory;
mod pipes;
mod processes;
mod signals;
mod terminal;

use anyhow::Result;

use crate::assembler::{Arg, Assembler, nr};
use crate::cpu::Reg;
use crate::image;
use crate::world::Setup;
use Arg::{N, R};

/// Where the first program is on the disk.
const INIT: &str = "init";
/// Where the program is that others exec.
const COMMAND: &str = "bin/command";
/// A file on the disk, and its length.
const DATA: &str = "data/numbers";
const DATA_BYTES: u64 = 40_000;

/// A script, by name.
type Script = (&'static str, fn(&mut Assembler, u64));

/// All scripts; the number is how often each does what it does.
const SCRIPTS: [Script; 14] = [
    ("files", files::files),
    ("names", files::names),
    ("disk", files::disk),
    ("log", files::log),
    ("procfs", files::procfs),
    ("pipes", pipes::ping_pong),
    ("flow", pipes::flow),
    ("sockets", pipes::sockets),
    ("memory", memory::memory),
    ("processes", processes::tree),
    ("exec", processes::exec),
    ("threads", processes::threads),
    ("signals", signals::signals),
    ("terminal", terminal::terminal),
];

/// The names of all scripts.
pub fn names() -> impl Iterator<Item = &'static str> {
    SCRIPTS.iter().map(|(name, _)| *name)
}

/// The machine that runs these scripts (all, if none is named), side by side, each of them `rounds` times.
///
/// # Errors
/// The disk cannot be made, or a name is not known.
pub fn setup(only: &[String], rounds: u64) -> Result<Setup> {
    if let Some(name) = only.iter().find(|name| !names().any(|known| known == name.as_str())) {
        anyhow::bail!("no script is called `{name}`: there are {}", names().collect::<Vec<_>>().join(", "));
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    let scripts: Vec<Script> = SCRIPTS.into_iter().filter(|(name, _)| wanted(name)).collect();
    let numbers =
        (0..DATA_BYTES).map(|byte| (crate::cpu::mix(byte / 8, 1) >> (byte % 8 * 8)) as u8).collect();
    let files = [(INIT, init(&scripts, rounds)), (COMMAND, processes::command()), (DATA, numbers)];
    let manifest = image::manifest()?;
    let volume = image::volume(&files)?;
    let dialogue = if wanted("terminal") { terminal::DIALOGUE.to_vec() } else { Vec::new() };
    Setup::new(&manifest, &format!("/{INIT}"), volume, dialogue)
}

/// The first program: a process for each script, and it waits for them.
fn init(scripts: &[Script], rounds: u64) -> Vec<u8> {
    let mut a = Assembler::new();
    a.set(Reg::R15, N(1));
    say(&mut a, "the workload begins");
    let children = a.room(8 * scripts.len() as u64);
    for (number, (name, script)) in (0..).zip(scripts) {
        a.fork(N(number + 1), |a| {
            script(a, rounds);
            say(a, &format!("{name} is done"));
        });
        a.keep(Reg::Rax, children + number * 8);
    }
    for number in 0..scripts.len() as u64 {
        a.wait(Arg::At(children + number * 8));
    }
    say(&mut a, "the workload is done");
    a.exit(N(0));
    a.finish()
}

/// Writes a line to the terminal.
fn say(a: &mut Assembler, line: &str) {
    let text = a.text(&format!("{line}\n"));
    a.told(nr::WRITE, &[N(1), N(text), N(line.len() as u64 + 1)]);
}

/// Opens a file; its descriptor is told and in r12.
fn open(a: &mut Assembler, path: u64, flags: u64) {
    a.told(nr::OPEN, &[N(path), N(flags), N(0o644)]);
    a.set(Reg::R12, R(Reg::Rax));
}
