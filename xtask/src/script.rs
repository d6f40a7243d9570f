//! A script in a machine of its own, with nobody at the terminal: how it ends, what it prints, and what the machine
//! says meanwhile are kept, and told together when they are not what was wanted.

use std::{fs, process::Command};

use anyhow::{Context, Result, bail, ensure};

use crate::{
    cli::RunArgs,
    house,
    machine::{Ending, Terminal},
    run::{self, Built},
    test::difference,
};

/// What scripts find in TERM.
pub const TERM: &str = "dumb";
const BUSYBOX: &str = "/bin/busybox";
/// Ends the text of a script whose last words are compressed.
const MARK: &[u8] = b"--\n";
const LINES_SHOWN: usize = 40;

/// What a machine leaves that has run a script.
pub struct Ran {
    pub ending: Ending,
    /// What was printed on the terminal.
    pub output: Vec<u8>,
    /// The console log.
    pub log: Vec<String>,
}

/// Boots a machine and runs a script in it.
pub fn run(built: &Built, args: &RunArgs, script: &str) -> Result<Ran> {
    let (mut output, mut log) = (Vec::new(), Vec::new());
    let session = run::session(Some(script), run::SCREEN, TERM);
    let mut note = |line: &str| log.push(line.to_owned());
    let ending = built.boot(args, &session, Terminal::Captured(&mut output), &mut note)?;
    Ok(Ran { ending, output, log })
}

/// The same for a script that succeeds.
pub fn succeed(built: &Built, args: &RunArgs, script: &str) -> Result<Ran> {
    let ran = run(built, args, script)?;
    match ran.wrong_ending(0) {
        None => Ok(ran),
        Some(complaint) => bail!("{complaint}; printed last:\n{}\n{}", end(&ran.text()), ran.last_words()),
    }
}

impl Ran {
    /// What was printed, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// Fails unless the script ended with this status and printed this, to the byte.
    pub fn must(&self, status: u8, wanted: &[u8]) -> Result<()> {
        let complaints = [self.wrong_ending(status), difference(wanted, &self.output)];
        let complaints: Vec<String> = complaints.into_iter().flatten().collect();
        ensure!(complaints.is_empty(), "{}\n{}", complaints.join("\n"), self.last_words());
        Ok(())
    }

    /// The text before a line `--`, and what `gzip -c` printed behind it.
    pub fn unpacked(&self) -> Result<(String, Vec<u8>)> {
        let mark = self.output.windows(MARK.len()).position(|bytes| bytes == MARK);
        let mark = mark.with_context(|| format!("the script broke off; {}", self.last_words()))?;
        let (text, rest) = self.output.split_at(mark);
        Ok((String::from_utf8_lossy(text).into_owned(), gunzip(&rest[MARK.len()..])?))
    }

    /// What is wrong about how it ended, if it was to end with this status.
    fn wrong_ending(&self, status: u8) -> Option<String> {
        let message = self.ending.message();
        (self.ending.status() != status || message.is_some()).then(|| {
            let message = message.unwrap_or("the script ended");
            format!("{message}; status {}, wanted {status}", self.ending.status())
        })
    }

    /// The end of the console log, as a failure tells it.
    pub fn last_words(&self) -> String {
        format!("the console log ends with:\n{}", end(&self.log.join("\n")))
    }
}

/// The last lines of a text.
fn end(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
}

fn gunzip(bytes: &[u8]) -> Result<Vec<u8>> {
    let file = tempfile::Builder::new().prefix("packed-").tempfile_in(house::target())?;
    fs::write(file.path(), bytes)?;
    let mut command = Command::new(BUSYBOX);
    command.args(["gunzip", "-c"]).stdin(fs::File::open(file.path())?);
    let output = command.output().with_context(|| format!("cannot run {BUSYBOX}"))?;
    ensure!(output.status.success(), "what the machine printed is not what gzip writes");
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ran(ending: Ending, output: &[u8]) -> Ran {
        let log = (0..100).map(|line| format!("line {line}")).collect();
        Ran { ending, output: output.to_vec(), log }
    }

    #[test]
    fn another_output_another_status_and_an_end_from_outside_are_failures() {
        assert!(ran(Ending::Status(3), b"a\n").must(3, b"a\n").is_ok());
        let error = |ending, output| format!("{:#}", ran(ending, output).must(3, b"a\n").unwrap_err());
        assert!(error(Ending::Status(3), b"b\n").contains("-a\n+b\n"));
        let both = error(Ending::Status(0), b"b\n");
        assert!(both.contains("status 0, wanted 3") && both.contains("+b\n"), "{both}");
        assert!(both.ends_with("line 99") && !both.contains("line 59\n"), "{both}");
        assert!(ran(Ending::Timeout, b"").must(124, b"").is_err());
    }

    #[test]
    fn a_script_that_breaks_off_before_its_last_words_is_found_out() {
        let error = ran(Ending::Status(0), b"text\n").unpacked().unwrap_err().to_string();
        assert!(error.contains("broke off"), "{error}");
        assert!(ran(Ending::Status(0), b"text\n--\nno gzip").unpacked().is_err());
    }
}
