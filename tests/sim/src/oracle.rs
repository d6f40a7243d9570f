//! The oracle: whether a run with crashes came to what the run without came to.

use std::fmt::Write;

use microkernel::core::host::{Used, Wait};

use crate::assembler::STUB_CODE_PAGES;
use crate::plan::{Cause, Kind};
use crate::workload::files::{LOG_APPENDS, LOG_NAME, LOG_NOTES_BEFORE};
use crate::world::{End, Outcome, Setup};

/// What the log of a run says only when recovery has failed.
const BAD_WORDS: [&str; 4] = ["disagree", "given up", "cannot be seen to", "no snapshot"];
/// What it says of an object that a sweep has ended: there are none after an exact recovery.
const FOUND: &str = "was nobody's";

/// How a line of it begins that tells who waits for ever.
const WAITS: &str = "waits:";

/// Calls by which a program waits for another: read, poll, pause, wait4, rt_sigsuspend, futex, epoll_wait.
const WAITING_CALLS: [u32; 7] = [0, 7, 34, 61, 130, 202, 232];
/// An answer to a program is an error if it is not more than so much below zero.
const ERRORS: i64 = 4095;
/// Deaths of a server by one poisoned message: it is served, and served again. A server without a journal may have to
/// repeat its last incarnation first.
const POISONED_DEATHS: std::ops::Range<u32> = 2..6;
/// By one that it dies of at its end: a snapshot, or an answer, may have been the last that it had to do about it.
const POISONED_LATE_DEATHS: std::ops::Range<u32> = 1..6;

/// What is wrong with a run in which one message was poison to its server: whoever it was from may see an error, but
/// the server lives on.
pub fn unserved(setup: &Setup, run: &Outcome, poisoned: u32) -> Option<String> {
    // A program may wait for what another did not do, having been told of an error.
    let end = if only_programs_wait(run) { End::Off(0) } else { run.end.clone() };
    let run = &Outcome { end, ..run.clone() };
    let mut text = uncontained(setup, run, poisoned).unwrap_or_default();
    let [_, own] = run.deaths[poisoned as usize - 1];
    let late = run.crashes[Cause::Late as usize] > 0;
    let expected = if late { POISONED_LATE_DEATHS } else { POISONED_DEATHS };
    if own != 0 && !expected.contains(&own) {
        let _ = writeln!(text, "{} died by itself {own} times", setup.name(poisoned));
    }
    if BAD_WORDS.iter().any(|word| run.log.contains(word)) {
        let _ = writeln!(text, "the log has bad words");
    }
    (!text.is_empty()).then_some(text)
}

/// What is wrong with a run in which one server was given up: its clients may see errors, but the others must live on,
/// and nobody may wait for ever.
pub fn uncontained(setup: &Setup, run: &Outcome, given_up: u32) -> Option<String> {
    let mut text = String::new();
    if !matches!(run.end, End::Off(_)) {
        let _ = writeln!(text, "it ended with {:?}", run.end);
    }
    for (number, [_, own]) in
        (1..).zip(&run.deaths).filter(|(number, [_, own])| *number != given_up && *own > 0)
    {
        let _ = writeln!(text, "{} died by itself {own} times", setup.name(number));
    }
    if let End::Panic(words) = &run.end {
        let _ = writeln!(text, "the kernel panicked: {words}");
    }
    (!text.is_empty()).then_some(text)
}

/// Nothing will ever happen any more, but all that is waited for is what programs do for each other.
fn only_programs_wait(run: &Outcome) -> bool {
    let waits = |wait: &Wait| wait.held && wait.foreign && WAITING_CALLS.contains(&wait.what);
    run.end == End::Hang && run.waits.iter().all(waits)
}

/// Who still waits for whom, for what, and since when.
pub(crate) fn describe_wait(setup: &Setup, wait: &Wait) -> String {
    let Wait { server, held, caller: (own, pid, tid), foreign, what, since_ns } = *wait;
    let to = setup.name(server);
    let has = if held { "has" } else { "is to get" };
    let by = if own == 0 { format!("process {pid}, thread {tid}") } else { setup.name(own).to_owned() };
    let what = match libipc::abi::foreign::LINUX.get(what as usize).filter(|_| foreign) {
        Some(row) => row.name.to_owned(),
        None => format!("message {what:#x}"),
    };
    format!("{WAITS} {by} since {} ms, for {to}, which {has} its {what}\n", since_ns / 1_000_000)
}

/// What became of a run, from the view of its programs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Class {
    /// Each saw what it would have seen.
    Transparent,
    /// Some were told of an error, or ended by a signal.
    Contained,
    /// Nobody was told of an error, but somebody saw something else.
    Wrong,
    /// Somebody waits for ever, a server is gone, or the machine has stopped.
    Fatal,
}

impl Class {
    /// All, the worst last.
    pub const ALL: [Class; 4] = [Class::Transparent, Class::Contained, Class::Wrong, Class::Fatal];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Class::Transparent => "transparent",
            Class::Contained => "contained",
            Class::Wrong => "wrong",
            Class::Fatal => "fatal",
        }
    }
}

/// What became of a run.
pub fn class(clean: &Outcome, run: &Outcome) -> Class {
    let different = |name: &u64| run.notes.get(name) != clean.notes.get(name);
    let names = clean.notes.keys().chain(run.notes.keys());
    let mut differing = names.filter(|name| different(name));
    let told = |name: &u64| {
        let [before, now] = notes(clean, run, *name);
        let first = now.get(first_difference(before, now));
        // A number that is an error; or it told no more, having been ended.
        first.is_none_or(|note| (-ERRORS..0).contains(&(*note as i64)))
    };
    let is_told = differing.clone().any(told);
    let ended = matches!(run.end, End::Off(_)) || only_programs_wait(run) && is_told;
    if !ended || run.log.contains("given up") {
        Class::Fatal
    } else if is_told {
        Class::Contained
    } else if differing.next().is_some() || !seen(clean, run).is_empty() {
        Class::Wrong
    } else {
        Class::Transparent
    }
}

/// What a process told in either run.
fn notes<'o>(clean: &'o Outcome, run: &'o Outcome, name: u64) -> [&'o [u64]; 2] {
    [clean, run].map(|outcome| outcome.notes.get(&name).map_or(&[][..], Vec::as_slice))
}

fn first_difference(before: &[u64], now: &[u64]) -> usize {
    before.iter().zip(now).take_while(|(before, now)| before == now).count()
}

fn lines(output: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = output.split(|byte| *byte == b'\n').collect();
    // Lines of several processes may change places.
    lines.sort_unstable();
    lines
}

/// What is different for programs and whoever sits at the terminal.
fn seen(clean: &Outcome, run: &Outcome) -> String {
    let mut text = String::new();
    if clean.end != run.end {
        let _ = writeln!(text, "it ended with {:?} instead of {:?}", run.end, clean.end);
    }
    let names = clean.notes.keys().chain(run.notes.keys().filter(|name| !clean.notes.contains_key(name)));
    for name in names {
        let [before, now] = notes(clean, run, *name);
        if before == now {
            continue;
        }
        let at = first_difference(before, now);
        let show =
            |notes: &[u64]| notes.get(at).map_or("nothing".to_owned(), |note| (*note as i64).to_string());
        let _ = writeln!(text, "process {name} saw {} instead of {} at {at}", show(now), show(before));
    }
    if lines(&clean.output) != lines(&run.output) {
        let _ = writeln!(text, "the terminal shows\n{}", String::from_utf8_lossy(&run.output));
    }
    text
}

/// What is wrong with a run in which something beside crashes struck: the worst that may become of it depends on what
/// it was.
pub fn unbearable(clean: &Outcome, run: &Outcome, kind: Kind) -> Option<String> {
    let class = class(clean, run);
    let waits = run.log.lines().filter(|line| line.starts_with(WAITS));
    let waits: String = waits.map(|line| format!("{line}\n")).collect();
    (class > kind.worst()).then(|| format!("{class:?}\n{waits}{}", seen(clean, run)))
}

/// What is wrong with the log on a disk after a power cut, and after one more run of the same workload, which read what
/// was left and went on behind it.
pub fn torn_log(clean: &Outcome, cut: &Outcome, next: &Outcome) -> Option<String> {
    let appended = |run: &Outcome| -> Vec<Vec<u8>> {
        logfile::record::all(&run.log_disk).map(|record| record.data).collect()
    };
    let [all, kept, then] = [clean, cut, next].map(appended);
    let told = cut.notes.get(&LOG_NAME).map_or(0, Vec::len).saturating_sub(LOG_NOTES_BEFORE);
    let synced = (told / (LOG_APPENDS as usize + 1) * LOG_APPENDS as usize).min(all.len());
    let mut text = String::new();
    if kept.len() < synced {
        let _ = writeln!(text, "of {synced} appends that were made durable {} are there", kept.len());
    }
    if !all.starts_with(&kept) {
        let _ = writeln!(text, "the log is not what was appended, in its order");
    }
    if next.end == clean.end && then != [kept, all].concat() {
        let _ = writeln!(text, "what was appended later does not stand behind what was there");
    }
    (!text.is_empty()).then_some(text)
}

/// What is different, in words; nothing if all is equal.
pub fn difference(setup: &Setup, clean: &Outcome, run: &Outcome) -> Option<String> {
    let mut text = seen(clean, run);
    // Code of an image in the boot archive stays mapped there; that of one which was handed in is mapped once more.
    let upgraded = run.upgrades.iter().filter(|upgrades| **upgrades > 0).count() as u32;
    let wanted = Used { mapped_frames: clean.used.mapped_frames + upgraded * STUB_CODE_PAGES, ..clean.used };
    if wanted != run.used {
        let _ = writeln!(text, "objects in use are {:?} instead of {wanted:?}", run.used);
    }
    let own: Vec<String> = (1..)
        .zip(&run.deaths)
        .filter(|(_, [_, own])| *own > 0)
        .map(|(number, [_, own])| format!("{} {own}", setup.name(number)))
        .collect();
    let meant = run.crashes[Cause::Fault as usize] + run.crashes[Cause::Loop as usize] + run.misfits;
    if run.deaths.iter().map(|[_, own]| own).sum::<u32>() != meant {
        let _ = writeln!(text, "servers died by themselves: {}", own.join(", "));
    }
    if BAD_WORDS.iter().any(|word| run.log.contains(word) && !clean.log.contains(word)) {
        let _ = writeln!(text, "the log has bad words");
    }
    for found in run.log.lines().filter(|line| line.contains(FOUND)) {
        let _ = writeln!(text, "{found}");
    }
    (!text.is_empty()).then_some(text)
}
