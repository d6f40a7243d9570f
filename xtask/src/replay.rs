//! `cargo xtask replay`: servers run again on the host, over what `/proc/naiad/servers/NAME/journal` gave.
//!
//! A file may hold several journals one behind the other. A server's code here must be that of the machine's; where it
//! is not, the replay says at which message and trap the two part.

mod gdb;
mod tree;
mod words;

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
use libipc::server::{
    replay::{Divergence, History, Onlooker, Outcome, Recorded, Replayable, replay},
    shell::Shell,
};

use crate::{
    cli::{Range, ReplayArgs},
    terminal::{say, tell},
};
use tree::Tree;
use words::{Names, Served};

/// Replays every journal of a file; the status to end with is 0 when none diverged.
pub fn run(args: &ReplayArgs) -> Result<u8> {
    let file = fs::read(&args.file).with_context(|| format!("cannot read {}", args.file.display()))?;
    let histories = histories(&file).with_context(|| format!("cannot replay {}", args.file.display()))?;
    if args.gdb {
        return gdb::run(args);
    }
    let mut sound = true;
    for history in &histories {
        if args.list {
            list(history, args);
            continue;
        }
        tell(&format!("replay: {} from {}", history.boot.name, beginning(history)));
        let ending = serve(history, &Wanted::new(history, args))?;
        sound &= is_as_in_the_machine(history, &ending);
        say(&format!("{}: {}", history.boot.name, describe(history, &ending)));
    }
    Ok((!sound).into())
}

/// What of a run is wanted.
#[derive(Clone, Default)]
pub struct Wanted {
    /// Only so many messages.
    pub until: Option<u64>,
    /// The state is printed after so many.
    state_after: Option<u64>,
    /// What these change is printed.
    diff: Option<Range>,
    /// With the traps they lead to.
    traps: bool,
    /// However long a message takes, it does not hang.
    debugged: bool,
}

impl Wanted {
    fn new(history: &History, args: &ReplayArgs) -> Wanted {
        let last = history.messages().complete;
        // Behind the last message that is of interest there is nothing to do.
        let diff =
            args.diff.map(|Range { first, last }| Range { first: first.max(first_of(history, args)), last });
        let end = diff.map(|range| range.last).filter(|last| *last < u64::MAX);
        let until = args.until.or(end);
        Wanted {
            until,
            state_after: args.state.then(|| last.min(until.unwrap_or(last))),
            diff,
            traps: args.traps,
            debugged: args.debugged,
        }
    }

    /// A run of so many messages.
    pub fn until(until: Option<u64>) -> Wanted {
        Wanted { until, ..Wanted::default() }
    }
}

/// The first message that is of interest.
fn first_of(history: &History, args: &ReplayArgs) -> u64 {
    args.last.map_or(1, |last| (history.messages().recorded + 1).saturating_sub(last))
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

type InShell<S> = Shell<S, Recorded>;

/// Runs the server that a history is of.
pub fn serve(history: &History, wanted: &Wanted) -> Result<Replayed> {
    match history.boot.name.as_str() {
        "proc" => watch::<InShell<proc::Proc>>(history, wanted),
        "procfs" => watch::<InShell<procfs::Procfs>>(history, wanted),
        "root" => watch::<root::Root<Recorded>>(history, wanted),
        "tmpfs" => watch::<InShell<tmpfs::Tmpfs>>(history, wanted),
        "tty" => watch::<InShell<tty::Tty>>(history, wanted),
        "vfs" => watch::<InShell<vfs::Vfs>>(history, wanted),
        "vm" => watch::<InShell<vm::Vm>>(history, wanted),
        name => bail!("a server `{name}` is not known here"),
    }
}

/// Has the words of a panic in a thread that runs a server sent to whoever waits for them; the thread stays.
fn hear_last_words() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| match LAST_WORDS.take() {
            Some(words) => {
                gdb::server_panics();
                // Who waits for them may have gone.
                let _ = words.send(Err(Replayed::Died(0, info.to_string().replace('\n', " "))));
                loop {
                    thread::park();
                }
            }
            None => usual(info),
        }));
    });
}

/// Runs a server in a thread of its own, which is left behind if it does not come back: a panic ends there.
fn watch<R: Replayable + 'static>(history: &History, wanted: &Wanted) -> Result<Replayed> {
    hear_last_words();
    let at = Arc::new(AtomicU64::new(0));
    let (sender, receiver) = mpsc::channel();
    let mut reporter = Reporter::new(history, wanted, at.clone());
    let (own, until) = (history.clone(), wanted.until);
    let run = move || {
        LAST_WORDS.set(Some(sender.clone()));
        let ended = replay::<R>(&own, until, &mut reporter);
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
            Err(RecvTimeoutError::Timeout) if at.load(Ordering::Relaxed) == before && !wanted.debugged => {
                return Ok(Replayed::Hangs(before));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("the replay of {} broke off", history.boot.name),
        }
    }
}

/// Prints what is wanted of a run while it goes on.
struct Reporter {
    wanted: Wanted,
    /// The message that is being served.
    at: Arc<AtomicU64>,
    served: Vec<Served>,
    names: Names,
    /// The state after the last message.
    before: Option<Tree>,
}

impl Reporter {
    fn new(history: &History, wanted: &Wanted, at: Arc<AtomicU64>) -> Reporter {
        let mut served = if wanted.diff.is_some() { words::served(history) } else { Vec::new() };
        served.retain(|served| !served.disposed);
        Reporter { wanted: wanted.clone(), at, served, names: Names::default(), before: None }
    }

    /// Prints a message before it is served, so that it is seen if the server dies of it.
    fn announce(&mut self, number: u64) {
        let Some(Served { message: Some(message), traps, .. }) = self.served.get(number as usize) else {
            return;
        };
        self.names.note(number, message);
        if self.wanted.diff.is_some_and(|range| range.has(number)) {
            say(&line(number, message, &self.names, traps));
            if self.wanted.traps {
                traps.iter().for_each(|record| say(&format!("      {}", words::trap(record))));
            }
        }
    }

    fn compare(&mut self, number: u64, state: &Tree) {
        if let Some(before) = &self.before {
            before.changes(state).iter().for_each(|change| say(&format!("    {change}")));
        } else if number > 0 {
            say("    (the state before it was not looked at)");
        }
    }
}

impl<R: Replayable> Onlooker<R> for Reporter {
    fn before(&mut self, number: u64) {
        self.at.store(number, Ordering::Relaxed);
        self.announce(number);
        gdb::message_begins(number);
    }

    fn after(&mut self, number: u64, run: &R) {
        let last = self.wanted.state_after == Some(number);
        let differs = |number| self.wanted.diff.is_some_and(|range| range.has(number));
        let (now, next) = (differs(number), differs(number + 1));
        if !(last || now || next) {
            return;
        }
        let state = Tree::of(&run.state());
        let state = state.unwrap_or_else(|error| Tree::Leaf(error.to_string()));
        if now {
            self.compare(number, &state);
        }
        if last {
            let mut text = String::new();
            state.write("", 0, &mut text);
            say(text.trim_end());
        }
        self.before = next.then_some(state);
    }
}

/// A message in a line: number, time, what it is, and what became of it.
fn line(number: u64, message: &words::Message, names: &Names, traps: &[words::Record]) -> String {
    let time = message.delivery.now as f64 / 1e9;
    format!("{number:>6} {time:>11.6}  {}  {}", words::message(message), names.outcome(number, traps))
}

/// Prints the messages of a history.
fn list(history: &History, args: &ReplayArgs) {
    say(&format!(
        "{}: {} messages since {}",
        history.boot.name,
        history.messages().recorded,
        beginning(history)
    ));
    let (mut number, mut names, first) = (0, Names::default(), first_of(history, args));
    for Served { message, disposed, traps } in &words::served(history) {
        let Some(message) = message else { continue };
        if *disposed {
            if number + 1 < first {
                continue;
            }
            say(&format!(
                "     - {:>11.6}  {}  disposed of",
                message.delivery.now as f64 / 1e9,
                words::message(message)
            ));
            continue;
        }
        number += 1;
        names.note(number, message);
        if args.until.is_some_and(|until| number > until) {
            break;
        }
        if number < first {
            continue;
        }
        say(&line(number, message, &names, traps));
        if args.traps {
            traps.iter().for_each(|record| say(&format!("      {}", words::trap(record))));
        }
    }
}

fn beginning(history: &History) -> String {
    match history.snapshots {
        0 => "its start".to_owned(),
        number => format!("snapshot {number}"),
    }
}

/// A message in words: its number, and what it is.
fn message(history: &History, number: u64) -> String {
    match history.message(number) {
        Some(message) => format!("message {number} ({})", words::message(&message)),
        None => "its start".to_owned(),
    }
}

fn describe(history: &History, ending: &Replayed) -> String {
    let Outcome { digest, records, messages, told } = match ending {
        Replayed::Ended(outcome) => outcome,
        Replayed::Diverged(divergence) => return diverged(history, divergence),
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
    let is_all = *messages == history.messages().recorded;
    let lives =
        if history.died && is_all { "; it died of the last in the machine, and does not here" } else { "" };
    format!("digest {digest:016x} after {messages} messages ({records} records); {told}{lives}")
}

/// Where a server does something else than in the machine.
fn diverged(history: &History, divergence: &Divergence) -> String {
    let Divergence { message, records, recorded, made } = divergence;
    let message = self::message(history, *message);
    format!(
        "diverged at {message}, after {records} records\n  in the machine: {recorded}\n  here:           {made}"
    )
}
