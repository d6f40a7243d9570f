//! The oracle: whether a run with crashes came to what the run without came to.

use std::fmt::Write;

use microkernel::core::host::{Used, Wait};

use crate::assembler::STUB_CODE_PAGES;
use crate::world::{End, Outcome, Setup};

/// What the log of a run says only when recovery has failed.
const BAD_WORDS: [&str; 4] = ["disagree", "given up", "cannot be seen to", "no snapshot"];

/// Calls by which a program waits for another: read, poll, pause, wait4, rt_sigsuspend, futex, epoll_wait.
const WAITING_CALLS: [u32; 7] = [0, 7, 34, 61, 130, 202, 232];
/// Deaths of a server by one poisoned message: it is served, and served again. A server without a journal may have to
/// repeat its last incarnation first.
const POISONED_DEATHS: std::ops::Range<u32> = 2..6;

/// What is wrong with a run in which one message was poison to its server: whoever it was from may see an error, but
/// the server lives on.
pub fn unserved(setup: &Setup, run: &Outcome, poisoned: u32) -> Option<String> {
    // A program may wait for what another did not do, having been told of an error.
    let waits = |wait: &Wait| wait.held && wait.foreign && WAITING_CALLS.contains(&wait.what);
    let end = match run.end {
        End::Hang if run.waits.iter().all(waits) => End::Off(0),
        ref end => end.clone(),
    };
    let run = &Outcome { end, ..run.clone() };
    let mut text = uncontained(setup, run, poisoned).unwrap_or_default();
    let [_, own] = run.deaths[poisoned as usize - 1];
    if own != 0 && !POISONED_DEATHS.contains(&own) {
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

fn lines(output: &[u8]) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = output.split(|byte| *byte == b'\n').collect();
    // Lines of several processes may change places.
    lines.sort_unstable();
    lines
}

/// What is different, in words; nothing if all is equal.
pub fn difference(setup: &Setup, clean: &Outcome, run: &Outcome) -> Option<String> {
    let mut text = String::new();
    if clean.end != run.end {
        let _ = writeln!(text, "it ended with {:?} instead of {:?}", run.end, clean.end);
    }
    let names = clean.notes.keys().chain(run.notes.keys().filter(|name| !clean.notes.contains_key(name)));
    for name in names {
        let [before, now] =
            [clean, run].map(|outcome| outcome.notes.get(name).map_or(&[][..], Vec::as_slice));
        if before == now {
            continue;
        }
        let at = before.iter().zip(now).take_while(|(before, now)| before == now).count();
        let show =
            |notes: &[u64]| notes.get(at).map_or("nothing".to_owned(), |note| (*note as i64).to_string());
        let _ = writeln!(text, "process {name} saw {} instead of {} at {at}", show(now), show(before));
    }
    if lines(&clean.output) != lines(&run.output) {
        let _ = writeln!(text, "the terminal shows\n{}", String::from_utf8_lossy(&run.output));
    }
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
    if run.deaths.iter().map(|[_, own]| own).sum::<u32>() != run.crashes[1] + run.misfits {
        let _ = writeln!(text, "servers died by themselves: {}", own.join(", "));
    }
    if BAD_WORDS.iter().any(|word| run.log.contains(word) && !clean.log.contains(word)) {
        let _ = writeln!(text, "the log has bad words");
    }
    (!text.is_empty()).then_some(text)
}
