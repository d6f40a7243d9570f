//! The guest's two serial lines as they leave QEMU: the terminal's bytes and the console log's lines.

use std::io::{self, BufRead, Read, Write};

use libipc::manifest::{OFF_LINE, PANIC_LINE, REBOOT_LINE};

/// What the guest said on its console log about its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastWords {
    pub status: Option<u8>,
    pub panicked: bool,
    /// The guest asked for the machine to start again.
    pub reboot: bool,
}

/// Reads the console log to its end, hands on every line but the one for xtask, and returns the last words.
pub fn read_log(log: impl Read, tell: &mut dyn FnMut(&str)) -> LastWords {
    let mut last_words = LastWords::default();
    let mut log = io::BufReader::new(log);
    let mut line = Vec::new();
    while log.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end_matches(['\r', '\n']);
        match text.strip_prefix(OFF_LINE).and_then(|status| status.parse().ok()) {
            Some(status) => last_words.status = Some(status),
            None => {
                last_words.panicked |= text.starts_with(PANIC_LINE);
                last_words.reboot |= text == REBOOT_LINE;
                tell(text);
            }
        }
        line.clear();
    }
    last_words
}

/// Copies what the guest wrote to its terminal as it comes, with line ends as a file has them: the guest's terminal
/// makes every `\n` a `\r\n`, and this is the inverse.
pub fn copy_output(mut from: impl Read, to: &mut dyn Write) -> io::Result<()> {
    let mut line_ends = LineEnds::default();
    let mut buffer = vec![0; 16384];
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let chunk = line_ends.undo(buffer.get(..count).unwrap_or_default());
        to.write_all(&chunk)?;
        to.flush()?;
    }
    to.write_all(line_ends.rest())?;
    to.flush()
}

/// Takes away the `\r` before each `\n`, across chunks.
#[derive(Default)]
struct LineEnds {
    held: bool,
}

impl LineEnds {
    fn undo(&mut self, chunk: &[u8]) -> Vec<u8> {
        let mut undone = Vec::with_capacity(chunk.len() + 1);
        for &byte in chunk {
            if self.held && byte != b'\n' {
                undone.push(b'\r');
            }
            self.held = byte == b'\r';
            if !self.held {
                undone.push(byte);
            }
        }
        undone
    }

    fn rest(&self) -> &'static [u8] {
        if self.held { b"\r" } else { b"" }
    }
}

/// Types what comes from `from` into the guest's terminal, and the end of file as its user would: ^D, twice behind an
/// unfinished line, which the first one only sends off.
pub fn type_input(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    const END_OF_FILE: u8 = 4;
    let mut buffer = vec![0; 4096];
    let mut last = b'\n';
    loop {
        match from.read(&mut buffer)? {
            0 => break,
            count => {
                let chunk = buffer.get(..count).unwrap_or_default();
                last = chunk.last().copied().unwrap_or(last);
                to.write_all(chunk)?;
                to.flush()?;
            }
        }
    }
    to.write_all(if last == b'\n' { &[END_OF_FILE] } else { &[END_OF_FILE, END_OF_FILE] })?;
    to.flush()
}

/// How a shell on the guest's terminal says that it is ready for a line: it asks where the cursor is.
pub const READY: &[u8] = b"\x1b[6n";

/// Somebody at the guest's terminal, who reads it and types the next line whenever the shell is ready.
pub struct Typist<'a, I> {
    lines: std::slice::Iter<'a, &'a str>,
    keyboard: Option<I>,
    screen: &'a mut (dyn Write + Send),
    /// The last bytes seen.
    tail: Vec<u8>,
}

impl<'a, I: Write> Typist<'a, I> {
    pub fn new(lines: &'a [&'a str], keyboard: Option<I>, screen: &'a mut (dyn Write + Send)) -> Self {
        Self { lines: lines.iter(), keyboard, screen, tail: Vec::new() }
    }
}

impl<I: Write> Write for Typist<'_, I> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.screen.write_all(bytes)?;
        for byte in bytes {
            self.tail.push(*byte);
            self.tail.drain(..self.tail.len().saturating_sub(READY.len()));
            if self.tail == READY
                && let (Some(line), Some(keyboard)) = (self.lines.next(), &mut self.keyboard)
            {
                keyboard.write_all(line.as_bytes())?;
                keyboard.write_all(b"\n")?;
                keyboard.flush()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.screen.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(text: &str) -> (LastWords, Vec<String>) {
        let mut lines = Vec::new();
        let last_words = read_log(text.as_bytes(), &mut |line| lines.push(line.to_owned()));
        (last_words, lines)
    }

    #[test]
    fn the_status_is_taken_from_the_log_and_hidden() {
        let (last_words, lines) = log("vm: up\r\nnaiad: off status=200\r\n");
        assert_eq!(last_words, LastWords { status: Some(200), ..LastWords::default() });
        assert_eq!(lines, ["vm: up"]);
    }

    #[test]
    fn a_status_that_is_none_stays_in_the_log() {
        let (last_words, lines) = log("naiad: off status=x\nnaiad: off status=256\n");
        assert_eq!((last_words.status, lines.len()), (None, 2));
    }

    #[test]
    fn a_reboot_is_seen() {
        assert!(log("naiad: reboot\r\n").0.reboot && !log("sh: naiad: reboot\n").0.reboot);
    }

    #[test]
    fn a_panic_is_seen_and_shown_in_full() {
        let (last_words, lines) = log("naiad: panic: oops\n  rip 1\nno newline");
        assert!(last_words.panicked);
        assert_eq!(lines, ["naiad: panic: oops", "  rip 1", "no newline"]);
    }

    #[test]
    fn line_ends_are_undone_however_the_bytes_are_cut() {
        let terminal = b"a\r\nb\r\r\nc\rd\r\n\r\n\r";
        for cut in 0..=terminal.len() {
            let (first, second) = terminal.split_at(cut);
            let mut line_ends = LineEnds::default();
            let undone = [line_ends.undo(first), line_ends.undo(second), line_ends.rest().to_vec()].concat();
            assert_eq!(undone, b"a\nb\r\nc\rd\n\n\r", "cut at {cut}");
        }
    }

    #[test]
    fn a_line_is_typed_each_time_the_shell_is_ready_however_its_bytes_are_cut() {
        let guest = b"hello\n# \x1b[6nx\n# \x1b[6n";
        for cut in 0..=guest.len() {
            let (mut keyboard, mut screen) = (Vec::new(), Vec::new());
            let mut typist = Typist::new(&["one", "two", "three"], Some(&mut keyboard), &mut screen);
            let (first, second) = guest.split_at(cut);
            typist.write_all(first).unwrap();
            typist.write_all(second).unwrap();
            assert_eq!((&keyboard[..], &screen[..]), (&b"one\ntwo\n"[..], &guest[..]), "cut at {cut}");
        }
    }

    #[test]
    fn the_end_of_input_is_typed() {
        for (input, typed) in [("", "\x04"), ("ls\n", "ls\n\x04"), ("ls", "ls\x04\x04")] {
            let mut terminal = Vec::new();
            type_input(input.as_bytes(), &mut terminal).unwrap();
            assert_eq!(terminal, typed.as_bytes());
        }
    }
}
