//! `cargo xtask replay`: servers run again on the host, over what `/proc/naiad/servers/NAME/journal` gave.
//!
//! A file may hold several journals one behind the other. A server's code here must be that of the machine's; where it
//! is not, the replay says at which record the two part.

use std::{
    cell::RefCell,
    fs, panic,
    sync::{
        Arc, Once,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use libipc::abi::Kind;
use libipc::server::Server;
use libipc::server::replay::{Divergence, History, Outcome, replay};

use crate::{cli::ReplayArgs, terminal::tell};

/// Replays every journal of a file; the status to end with is 0 when none diverged.
pub fn run(args: &ReplayArgs) -> Result<u8> {
    let file = fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let histories = histories(&file).with_context(|| format!("cannot replay {}", args.file.display()))?;
    let mut sound = true;
    for history in &histories {
        tell(&format!("replay: {} from {}", history.boot.name, beginning(history)));
        let ending = serve(history, args.until)?;
        sound &= is_as_in_the_machine(history, &ending);
        println!("{}: {}", history.boot.name, describe(history, &ending));
    }
    Ok((!sound).into())
}

/// How a replay ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Replayed {
    /// It came to the end.
    Ended(Outcome),
    /// The server did something else than in the machine.
    Diverged(Divergence),
    /// The server panicked at this message, with these words.
    Died(u64, String),
    /// It does not come to an end with this message.
    Hangs(u64),
}

/// A message that takes longer is taken to take for ever.
const HANGS_AFTER: Duration = Duration::from_secs(10);
const STACK_BYTES: usize = 64 << 20;

thread_local! {
    /// Where the words of a panic in this thread go, when it runs a server.
    static LAST_WORDS: RefCell<Option<Sender<Result<Outcome, Replayed>>>> = const { RefCell::new(None) };
}

/// Whether what the replay came to is what happened: a server that died must die again of the same message.
fn is_as_in_the_machine(history: &History, ending: &Replayed) -> bool {
    match ending {
        Replayed::Ended(outcome) => !history.died || outcome.messages < history.messages().recorded,
        Replayed::Diverged(_) => false,
        Replayed::Died(message, _) | Replayed::Hangs(message) => {
            history.died && *message == history.messages().recorded
        }
    }
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
pub fn serve(history: &History, until: Option<u64>) -> Result<Replayed> {
    match history.boot.name.as_str() {
        "proc" => watch::<proc::Proc>(history, until),
        "procfs" => watch::<procfs::Procfs>(history, until),
        "tmpfs" => watch::<tmpfs::Tmpfs>(history, until),
        "tty" => watch::<tty::Tty>(history, until),
        "vfs" => watch::<vfs::Vfs>(history, until),
        "vm" => watch::<vm::Vm>(history, until),
        name => bail!("a server `{name}` is not known here"),
    }
}

/// Runs a server in a thread of its own, which is left behind if it does not come back: a panic ends there.
fn watch<S: Server + 'static>(history: &History, until: Option<u64>) -> Result<Replayed> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| match LAST_WORDS.take() {
            Some(words) => {
                // Who waits for them may have gone.
                let _ = words.send(Err(Replayed::Died(0, info.to_string().replace('\n', " "))));
                loop {
                    thread::park();
                }
            }
            None => usual(info),
        }));
    });
    let at = Arc::new(AtomicU64::new(0));
    let (sender, receiver) = mpsc::channel();
    let (own, begun) = (history.clone(), at.clone());
    let run = move || {
        LAST_WORDS.set(Some(sender.clone()));
        let ended = replay::<S>(&own, until, |message| begun.store(message, Ordering::Relaxed));
        let _ = sender.send(ended.map_err(Replayed::Diverged));
    };
    thread::Builder::new().stack_size(STACK_BYTES).spawn(run).context("cannot start a thread")?;
    loop {
        let before = at.load(Ordering::Relaxed);
        match receiver.recv_timeout(HANGS_AFTER) {
            Ok(Ok(outcome)) => return Ok(Replayed::Ended(outcome)),
            Ok(Err(Replayed::Died(_, words))) => {
                return Ok(Replayed::Died(at.load(Ordering::Relaxed), words));
            }
            Ok(Err(ending)) => return Ok(ending),
            Err(RecvTimeoutError::Timeout) if at.load(Ordering::Relaxed) == before => {
                return Ok(Replayed::Hangs(before));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("the replay of {} broke off", history.boot.name),
        }
    }
}

fn beginning(history: &History) -> String {
    match history.snapshots {
        0 => "its start".to_owned(),
        number => format!("snapshot {number}"),
    }
}

/// A message in words: what it is, and of whom.
fn message(history: &History, number: u64) -> String {
    let Some(delivery) = history.message(number) else { return "its start".to_owned() };
    let kind = match Kind::from_number(delivery.kind) {
        Some(Kind::Call) => format!("call {:#x}", delivery.label),
        Some(Kind::Foreign) => {
            let row = libipc::abi::foreign::LINUX.get(delivery.label as usize);
            format!("{} of process {}", row.map_or("an unknown call", |row| row.name), delivery.pid)
        }
        Some(Kind::Fault) => format!("a fault of process {}", delivery.pid),
        Some(kind) => format!("{kind:?}").to_lowercase(),
        None => "an unknown event".to_owned(),
    };
    format!("message {number} ({kind})")
}

fn describe(history: &History, ending: &Replayed) -> String {
    let Outcome { digest, records, messages, told } = match ending {
        Replayed::Ended(outcome) => outcome,
        Replayed::Diverged(divergence) => return format!("diverged: {divergence}"),
        Replayed::Died(number, words) => return format!("dies of {}: {words}", message(history, *number)),
        Replayed::Hangs(number) => {
            return format!("does not come to an end with {}", message(history, *number));
        }
    };
    let told = match told {
        Some((told, at)) if at == messages => format!("as in the machine, {told:016x}"),
        Some((told, at)) => format!("after {at} messages {told:016x} as in the machine"),
        None => "the machine has told none within them".to_owned(),
    };
    let lives = if history.died { "; it died of the last in the machine, and does not here" } else { "" };
    format!("digest {digest:016x} after {messages} messages ({records} records); {told}{lives}")
}
