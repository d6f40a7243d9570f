//! The book, as a newcomer follows it: each command of its pages is run as it stands there, and what it prints must
//! have the lines that the book shows.
//!
//! Indented lines are a terminal. `$` begins a command, `#` and `(gdb)` what is typed into the machine or the debugger
//! that it runs, as soon as that asks for it; `^C` is that key. A command with `&` behind it runs on until the book is
//! through. All else is output: each line must be there, in the order of its block. Numbers and the width of gaps may
//! be others, `…` within a line stands for anything, and alone in a line for any lines. Pictures are files that the
//! commands have made. `UPDATE_DOCS=1 cargo xtask test qemu book:` puts in what was printed, and those files.

use std::{
    env, fs,
    io::{Read, Write},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{house, run::Built, setup};

/// Where pictures are kept.
const PICTURES: &str = "docs/pictures";
/// What all commands have printed, for whoever looks for a line that is worth showing.
const SCREENS: &str = "screens";
const PICTURE_BYTES_MAX: u64 = 200_000;
/// How the book writes what a terminal asks with, and how that looks.
const PROMPTS: [(&str, &str); 2] = [("# ", "naiad:/root# "), ("(gdb) ", "(gdb) ")];
/// Until then each command must have ended, or asked, or have printed what is shown.
const PATIENCE: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(50);
/// A machine that is to be looked at runs so long.
const QUIET: Duration = Duration::from_secs(5);

/// The way from a crash to the line of code.
pub fn crash(built: &Built) -> Result<()> {
    // What the first command would build: that may take longer than anything here.
    built.clone().with_seeded_bug()?;
    follow("docs/from-crash-to-line.md", "target/book")
}

/// What a trace is good for.
pub fn trace(_: &Built) -> Result<()> {
    follow("docs/trace.md", "target/trace")
}

/// Types what a page of the book has, in a folder.
fn follow(page: &str, folder: &str) -> Result<()> {
    ["chromium", "tshark"].into_iter().try_for_each(|package| setup::ensure_for_test(package).map(|_| ()))?;
    let book = house::root().join(page);
    let text = fs::read_to_string(&book).with_context(|| format!("cannot read {page}"))?;
    let folder = house::root().join(folder);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let update = env::var_os("UPDATE_DOCS").is_some();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (mut background, mut screens) = (Vec::new(), String::new());
    for step in steps(&text)? {
        let mut running = Running::new(&step, &folder)?;
        let found = if step.in_background {
            running.until(|screen| step.found(&screen.lines()).is_ok(), "printed what the book shows")?;
            step.found(&running.screen().lines())
        } else {
            running.work_off(&step)?;
            step.found(&running.screen().lines())
        };
        let found = found.with_context(|| format!("`{}` prints\n{}", step.command, running.screen().text))?;
        for (number, line) in found {
            if let Some(place) = lines.get_mut(number) {
                *place = format!("{INDENT}{line}");
            }
        }
        screens.push_str(&format!("$ {}\n{}\n", step.command, running.screen().text));
        fs::write(folder.join(SCREENS), &screens)?;
        background.extend(step.in_background.then_some(running));
    }
    drop(background);
    if update {
        fs::write(&book, lines.join("\n") + "\n")?;
    }
    pictures(&text).into_iter().try_for_each(|name| picture(&folder, name, update))
}

/// A picture is one that the commands have made, and is in the repository.
fn picture(folder: &Path, name: &str, update: bool) -> Result<()> {
    let (made, kept) = (folder.join(name), house::root().join(PICTURES).join(name));
    let bytes = fs::read(&made).with_context(|| format!("no command has made {name}"))?;
    if update {
        fs::create_dir_all(house::root().join(PICTURES))?;
        fs::write(&kept, &bytes)?;
    }
    let kept = fs::read(&kept).with_context(|| format!("{PICTURES}/{name} is missing"))?;
    ensure!(
        bytes.get(..4) == kept.get(..4),
        "{PICTURES}/{name} is something else than what the command makes"
    );
    ensure!(kept.len() as u64 <= PICTURE_BYTES_MAX, "{PICTURES}/{name} has {} bytes", kept.len());
    Ok(())
}

fn pictures(text: &str) -> Vec<&str> {
    text.split("](pictures/").skip(1).filter_map(|rest| rest.split_once(')')).map(|(name, _)| name).collect()
}

const INDENT: &str = "    ";
/// What stands for anything.
const ANYTHING: char = '…';

/// One command of the book.
#[derive(PartialEq, Eq, Debug, Default)]
struct Step {
    command: String,
    in_background: bool,
    /// What is typed into it.
    typed: Vec<String>,
    /// What it is shown to print, by blocks: the number of the line in the book, and the line.
    shown: Vec<Vec<(usize, String)>>,
}

/// The commands of a text.
fn steps(text: &str) -> Result<Vec<Step>> {
    let mut steps: Vec<Step> = Vec::new();
    let mut in_block = false;
    for (number, line) in text.lines().enumerate() {
        let Some(line) = line.strip_prefix(INDENT) else {
            in_block = false;
            continue;
        };
        if let Some(command) = line.strip_prefix("$ ") {
            let shorter = command.strip_suffix(" &");
            let command = shorter.unwrap_or(command).to_owned();
            steps.push(Step { command, in_background: shorter.is_some(), ..Step::default() });
        }
        let step = steps.last_mut().with_context(|| format!("line {}: nothing runs yet", number + 1))?;
        if !in_block || step.shown.is_empty() {
            step.shown.push(Vec::new());
        }
        in_block = true;
        if line.starts_with("$ ") {
            continue;
        }
        match PROMPTS.iter().find_map(|(prompt, _)| line.strip_prefix(prompt)) {
            Some(typed) => step.typed.push(typed.to_owned()),
            None if line == INTERRUPT => step.typed.push(line.to_owned()),
            None => step.shown.last_mut().into_iter().for_each(|block| block.push((number, line.to_owned()))),
        }
    }
    Ok(steps)
}

/// The key that interrupts.
const INTERRUPT: &str = "^C";

impl Step {
    /// Where each line that is shown stands among those that were printed: its number in the book, and what was printed
    /// in its place.
    fn found(&self, printed: &[&str]) -> Result<Vec<(usize, String)>> {
        let mut found = Vec::new();
        for block in &self.shown {
            let mut rest = printed.iter();
            for (number, line) in block.iter().filter(|(_, line)| line.chars().ne([ANYTHING])) {
                let actual = rest.find(|actual| agrees(line, actual));
                let actual = actual.with_context(|| format!("line {}, not printed: {line}", number + 1))?;
                let whole = !line.contains(ANYTHING);
                found.extend(whole.then(|| (*number, (*actual).to_owned())));
            }
        }
        Ok(found)
    }
}

/// Whether a line that is shown is one that was printed, but for numbers, gaps, and what is left out.
fn agrees(shown: &str, printed: &str) -> bool {
    let (shown, printed) = (shape(shown), shape(printed));
    let mut parts = shown.split(ANYTHING);
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = printed.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// A line with `0` in the place of each number, also one in hexadecimal and one with its unit, and single spaces.
fn shape(line: &str) -> String {
    let is_number = |word: &str| {
        let bare = word.strip_prefix("0x");
        let digits = bare.unwrap_or(word);
        let has_digit = bare.is_some() || digits.contains(|c: char| c.is_ascii_digit());
        has_digit && digits.chars().all(|c| c.is_ascii_hexdigit())
    };
    let is_inside = |c: char| c.is_alphanumeric() || c == '_';
    let mut shape = String::new();
    for word in line.split_whitespace() {
        // What a number is measured in goes with its size.
        let word = ["ns", "µs", "ms"].iter().fold(word, |word, unit| word.strip_prefix(unit).unwrap_or(word));
        if !shape.is_empty() && !word.is_empty() {
            shape.push(' ');
        }
        let mut rest = word;
        while let Some(first) = rest.chars().next() {
            let inside = is_inside(first);
            let end = rest.find(|c| is_inside(c) != inside).unwrap_or(rest.len());
            let (part, behind) = rest.split_at(end);
            shape.push_str(if is_number(part) { "0" } else { part });
            rest = behind;
        }
    }
    // A number may have a fraction, or none.
    shape.replace("0.0", "0")
}

/// What a command has printed so far.
#[derive(Clone, Default)]
struct Screen {
    text: String,
}

impl Screen {
    /// Takes what was printed as a terminal would show it, without what only moves the cursor.
    fn new(bytes: &[u8]) -> Screen {
        let (mut text, mut rest) = (String::new(), String::from_utf8_lossy(bytes).replace('\r', ""));
        while let Some((before, sequence)) = rest.split_once("\u{1b}[") {
            text.push_str(before);
            let end = sequence.find(|c: char| c.is_ascii_alphabetic()).map_or(sequence.len(), |end| end + 1);
            rest = sequence[end..].to_owned();
        }
        Screen { text: text + &rest }
    }

    /// Its lines, without the prompts that they were printed behind.
    fn lines(&self) -> Vec<&str> {
        self.text.lines().map(|line| prompt_of(line).map_or(line, |prompt| &line[prompt.len()..])).collect()
    }

    /// How often a line was asked for.
    fn prompts(&self) -> usize {
        self.text.lines().filter_map(prompt_of).count()
    }
}

/// The prompt that a line begins with.
fn prompt_of(line: &str) -> Option<&'static str> {
    PROMPTS.iter().map(|(_, prompt)| *prompt).find(|prompt| line.starts_with(prompt))
}

/// A command that runs, in a group of processes of its own, which ends with this value.
struct Running {
    child: Child,
    keyboard: Option<ChildStdin>,
    /// What it has said on stderr and on stdout.
    log: Arc<Mutex<Vec<u8>>>,
    printed: Arc<Mutex<Vec<u8>>>,
    command: String,
}

/// What comes out of a pipe, as it comes.
fn collected(mut pipe: impl Read + Send + 'static) -> Arc<Mutex<Vec<u8>>> {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let to = Arc::clone(&bytes);
    thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(count @ 1..) = pipe.read(&mut piece) {
            to.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..count]);
        }
    });
    bytes
}

impl Running {
    fn new(step: &Step, folder: &Path) -> Result<Running> {
        let mut shell = Command::new("bash");
        shell.args(["-c", &step.command]).current_dir(folder).process_group(0);
        // gdb looks for names on the Internet otherwise.
        shell.env_remove("DEBUGINFOD_URLS").env("TERM", "dumb").env("COLUMNS", "200");
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn().context("cannot run bash")?;
        let keyboard = child.stdin.take();
        let log = collected(child.stderr.take().context("bash has no log")?);
        let printed = collected(child.stdout.take().context("bash has no output")?);
        Ok(Running { child, keyboard, log, printed, command: step.command.clone() })
    }

    /// The log, and behind it what was printed: together they would stand in each other's lines.
    fn screen(&self) -> Screen {
        let [log, printed] = [&self.log, &self.printed]
            .map(|bytes| Screen::new(&bytes.lock().unwrap_or_else(PoisonError::into_inner)).text);
        Screen { text: log + "\n" + &printed }
    }

    /// Waits until the screen is as wanted, which is called `what`.
    fn until(&mut self, wanted: impl Fn(&Screen) -> bool, what: &str) -> Result<()> {
        let begun = Instant::now();
        while !wanted(&self.screen()) {
            let over = self.child.try_wait()?.is_some() || begun.elapsed() > PATIENCE;
            // What it printed last may be on its way.
            thread::sleep(POLL);
            if over && !wanted(&self.screen()) {
                bail!("`{}` has never {what}; it prints\n{}", self.command, self.screen().text);
            }
        }
        Ok(())
    }

    /// Types what is to be typed, each line when it is asked for, and waits for the end.
    fn work_off(&mut self, step: &Step) -> Result<()> {
        let mut typed = 0;
        for line in &step.typed {
            if line == INTERRUPT {
                thread::sleep(QUIET);
                self.signal(Signal::INT);
                continue;
            }
            self.until(|screen| screen.prompts() > typed, "asked for a line")?;
            typed += 1;
            let keyboard = self.keyboard.as_mut().context("there is no keyboard")?;
            keyboard.write_all(line.as_bytes()).and_then(|()| keyboard.write_all(b"\n"))?;
        }
        self.keyboard = None;
        let begun = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(begun.elapsed() < PATIENCE, "`{}` does not end:\n{}", step.command, self.screen().text);
            thread::sleep(POLL);
        }
        thread::sleep(POLL);
        Ok(())
    }

    fn signal(&self, signal: Signal) {
        // It fails when all have ended.
        let _ = Pid::from_raw(self.child.id() as i32).map(|group| kill_process_group(group, signal));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# Title

    $ run &
    ready

Prose.

    $ gdb
    (gdb) bt
    #0  main

    more
    ^C
    …
    last
";

    fn step(command: &str, in_background: bool, typed: &[&str], shown: &[&[(usize, &str)]]) -> Step {
        let typed = typed.iter().map(|line| (*line).to_owned()).collect();
        let block =
            |block: &&[(usize, &str)]| block.iter().map(|(at, line)| (*at, (*line).to_owned())).collect();
        Step { command: command.to_owned(), in_background, typed, shown: shown.iter().map(block).collect() }
    }

    #[test]
    fn a_page_is_commands_what_is_typed_and_what_is_shown() {
        let gdb: [&[(usize, &str)]; 2] = [&[(9, "#0  main")], &[(11, "more"), (13, "…"), (14, "last")]];
        let wanted = [step("run", true, &[], &[&[(3, "ready")]]), step("gdb", false, &["bt", "^C"], &gdb)];
        assert_eq!(steps(PAGE).unwrap(), wanted);
        assert!(steps("    output of nothing\n").is_err());
        assert_eq!(pictures("![a](pictures/a.svg) [b](c)"), ["a.svg"]);
    }

    #[test]
    fn only_numbers_and_gaps_may_differ_and_what_is_left_out() {
        for (shown, printed) in [
            ("  1.5 ms  sh[3] at 0x5c: #5f00000002", "12.25 µs sh[12] at 0xffff: #00000001"),
            ("at run.rs:8, 16 KiB.", "at run.rs:312, 9 KiB."),
            ("threads.7.name: 0.412", "threads.12.name: 3"),
            ("#… in trip_over (…) at …:8", "#4  0x12 in trip_over (name=...) at a/b.rs:9"),
        ] {
            assert!(agrees(shown, printed), "{shown}: {}, {}", shape(shown), shape(printed));
        }
        for (shown, printed) in
            [("proc dies", "vfs dies"), ("a …c", "a b"), ("errno 2", "errno two"), ("a", "a b")]
        {
            assert!(!agrees(shown, printed), "{shown}");
        }
    }

    #[test]
    fn a_line_that_is_not_printed_is_named_and_others_are_found_in_order() {
        let step = step("x", false, &[], &[&[(4, "a 1"), (5, "…"), (6, "b …")], &[(8, "a 7")]]);
        let found = step.found(&["log", "a 2", "c", "b x"]).unwrap();
        assert_eq!(found, [(4, "a 2".to_owned()), (8, "a 2".to_owned())]);
        assert!(step.found(&["b x", "a 2"]).unwrap_err().to_string().contains("line 7"));
    }

    #[test]
    fn a_screen_is_without_what_moves_the_cursor_and_counts_what_it_asked() {
        let screen = Screen::new(b"naiad:/root# \x1b[6nls\r\nbin\r\nnaiad:/root# log\n(gdb) ");
        assert_eq!(screen.lines(), ["ls", "bin", "log", ""]);
        assert_eq!(screen.prompts(), 3);
    }
}
