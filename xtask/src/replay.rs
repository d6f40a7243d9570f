//! `cargo xtask replay`: servers run again on the host, over what `/proc/naiad/servers/NAME/journal` gave.
//!
//! A file may hold several journals one behind the other. A server's code here must be that of the machine's; where it
//! is not, the replay says at which record the two part.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use libipc::server::replay::{Divergence, History, Outcome, replay};

use crate::{cli::ReplayArgs, terminal::tell};

/// Replays every journal of a file; the status to end with is 0 when none diverged.
pub fn run(args: &ReplayArgs) -> Result<u8> {
    let file = fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let histories = histories(&file).with_context(|| format!("cannot replay {}", args.file.display()))?;
    let mut diverged = false;
    for history in &histories {
        tell(&format!("replay: {} from {}", history.boot.name, beginning(history)));
        match serve(history, args.until)? {
            Ok(outcome) => println!("{}", describe(history, &outcome)),
            Err(divergence) => {
                diverged = true;
                println!("{}: diverged: {divergence}", history.boot.name);
            }
        }
    }
    Ok(diverged.into())
}

/// All histories in a file.
pub fn histories(mut file: &[u8]) -> Result<Vec<History>> {
    ensure!(!file.is_empty(), "the file is empty");
    let mut histories = Vec::new();
    while !file.is_empty() {
        let number = histories.len() + 1;
        histories.push(History::take(&mut file).with_context(|| format!("journal {number} of the file"))?);
    }
    Ok(histories)
}

/// Runs the server that a history is of.
pub fn serve(history: &History, until: Option<u64>) -> Result<Result<Outcome, Divergence>> {
    Ok(match history.boot.name.as_str() {
        "proc" => replay::<proc::Proc>(history, until),
        "procfs" => replay::<procfs::Procfs>(history, until),
        "tmpfs" => replay::<tmpfs::Tmpfs>(history, until),
        "tty" => replay::<tty::Tty>(history, until),
        "vfs" => replay::<vfs::Vfs>(history, until),
        "vm" => replay::<vm::Vm>(history, until),
        name => bail!("a server `{name}` is not known here"),
    })
}

fn beginning(history: &History) -> String {
    match history.snapshots {
        0 => "its start".to_owned(),
        number => format!("snapshot {number}"),
    }
}

fn describe(history: &History, outcome: &Outcome) -> String {
    let Outcome { digest, records, messages, told } = outcome;
    let told = match told {
        Some((told, at)) if at == messages => format!("as in the machine, {told:016x}"),
        Some((told, at)) => format!("after {at} messages {told:016x} as in the machine"),
        None => "the machine has told none within them".to_owned(),
    };
    format!(
        "{}: digest {digest:016x} after {messages} messages ({records} records); {told}",
        history.boot.name
    )
}
