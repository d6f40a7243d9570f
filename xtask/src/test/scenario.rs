//! Scenarios: a command for the guest in `tests/qemu/NAME.sh`, and in `NAME.out` what it must print, to the byte.
//!
//! A scenario begins with a header of comments, `# key: value`: `name` (the sentence that it proves), `args` (further
//! arguments of `run`) and `expect-status`. What follows the header is the command.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, mpsc},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

use super::report::{Report, difference};
use crate::{
    cli::RunArgs,
    house,
    machine::{self, Terminal},
    run::{self, Built},
};

const WORKERS: usize = 2;
const TIMEOUT_S: u64 = 120;
const LOG_LINES_SHOWN: usize = 40;

/// One scenario, read.
#[derive(Debug)]
struct Scenario {
    /// The file's name without its ending, and the sentence from the header.
    name: String,
    args: RunArgs,
    expect_status: u8,
    command: String,
}

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Arguments {
    #[command(flatten)]
    run: RunArgs,
}

/// Runs the scenarios whose names contain `filter`, two at a time.
pub fn run(built: &Built, filter: Option<&str>, report: &mut Report) -> Result<()> {
    let paths = list(filter)?;
    report.start("scenarios", paths.len());
    let queue = Mutex::new(paths.into_iter());
    let next = || queue.lock().ok()?.next().filter(|_| machine::interrupted().is_none());
    let (results, incoming) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            let results = results.clone();
            scope.spawn(move || {
                while let Some(path) = next() {
                    // The receiver lives until all senders are gone.
                    let _ = results.send(run_one(built, &path));
                }
            });
        }
        drop(results);
        for (name, outcome) in incoming {
            match outcome {
                Ok(()) => report.passed(&name),
                Err(error) => report.failed(&name, &format!("{error:#}")),
            }
        }
    });
    Ok(())
}

fn list(filter: Option<&str>) -> Result<Vec<PathBuf>> {
    let folder = house::root().join("tests/qemu");
    let Ok(entries) = fs::read_dir(&folder) else { return Ok(Vec::new()) };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let wanted =
            path.file_stem().is_some_and(|stem| stem.to_string_lossy().contains(filter.unwrap_or_default()));
        if wanted && path.extension().is_some_and(|extension| extension == "sh") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn run_one(built: &Built, path: &Path) -> (String, Result<()>) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()));
    match text.and_then(|text| parse(&stem, &text)) {
        Ok(scenario) => (scenario.name.clone(), prove(built, path, &scenario)),
        Err(error) => (stem, Err(error)),
    }
}

fn prove(built: &Built, path: &Path, scenario: &Scenario) -> Result<()> {
    let wanted_path = path.with_extension("out");
    let wanted = fs::read(&wanted_path).with_context(|| format!("cannot read {}", wanted_path.display()))?;
    let session = run::session(Some(&scenario.command), (24, 80), "vt100");
    let (mut output, mut log) = (Vec::new(), Vec::new());
    let mut note = |line: &str| log.push(line.to_owned());
    let ending = built.boot(&scenario.args, &session, Terminal::Captured(&mut output), &mut note)?;

    let status = (ending.status() != scenario.expect_status || ending.message().is_some()).then(|| {
        let message = ending.message().unwrap_or("the command ended");
        format!("{message}; status {}, wanted {}", ending.status(), scenario.expect_status)
    });
    let complaints: Vec<String> = [status, difference(&wanted, &output)].into_iter().flatten().collect();
    if complaints.is_empty() {
        return Ok(());
    }
    let shown = log.get(log.len().saturating_sub(LOG_LINES_SHOWN)..).unwrap_or_default();
    bail!("{}\nthe console log ends with:\n{}", complaints.join("\n"), shown.join("\n"))
}

/// Reads a scenario's text. Comments that are not `# key: value` may stand in the header too.
fn parse(stem: &str, text: &str) -> Result<Scenario> {
    let header_end = text.lines().take_while(|line| line.starts_with('#')).map(|line| line.len() + 1).sum();
    let (header, command) = text.split_at_checked(header_end).unwrap_or((text, ""));
    ensure!(!command.trim().is_empty(), "the scenario has no command");
    let (mut name, mut args, mut expect_status) = (None, Vec::new(), 0);
    for line in header.lines() {
        let Some((key, value)) = line.trim_start_matches('#').split_once(": ") else { continue };
        match (key.trim(), value.trim()) {
            ("name", value) => name = Some(value),
            ("args", value) => {
                args = shell_words::split(value).context("the line `args` has an open quote")?
            }
            ("expect-status", value) => {
                expect_status = value.parse().with_context(|| format!("`{value}` is not a status"))?;
            }
            (key, _) if key.contains(' ') => {}
            (key, _) => bail!("unknown key `{key}` in the header"),
        }
    }
    let mut args = Arguments::try_parse_from(args).context("the line `args` is not sound")?.run;
    ensure!(args.command.is_none(), "the line `args` must not have a command");
    run::check(&args)?;
    args.timeout.get_or_insert(TIMEOUT_S);
    let name = name.context("the header has no line `# name: …`")?;
    Ok(Scenario { name: format!("{stem}: {name}"), args, expect_status, command: command.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = "#!/bin/sh\n# name: a status is kept\n# args: --mem 128 --add 'a b:/c'\n# expect-status: 3\n\
                         # Why: see below, this is prose\nexit 3\n";

    fn error(text: &str) -> String {
        format!("{:#}", parse("x", text).unwrap_err())
    }

    #[test]
    fn a_header_is_read_and_the_rest_is_the_command() {
        let scenario = parse("status", &SOUND.replace("# Why: see", "# Why this: see")).unwrap();
        assert_eq!(scenario.name, "status: a status is kept");
        assert_eq!((scenario.expect_status, scenario.args.mem), (3, 128));
        assert_eq!(scenario.args.add[0].host, Path::new("a b"));
        assert_eq!(scenario.args.timeout, Some(TIMEOUT_S));
        assert_eq!(scenario.command, "exit 3\n");
    }

    #[test]
    fn mistakes_in_a_header_are_named() {
        assert!(error(SOUND).contains("unknown key `Why`"));
        assert!(error("# name: n\n# expect-status: 300\ntrue\n").contains("300"));
        assert!(error("# name: n\n# args: --nonsense\ntrue\n").contains("--nonsense"));
        assert!(error("# name: n\n# args: -c true\ntrue\n").contains("command"));
        assert!(error("# name: n\n# args: 'open\ntrue\n").contains("quote"));
        assert!(error("true\n").contains("# name"));
        assert!(error("# name: n\n").contains("no command"));
        assert!(error("# name: n").contains("no command"));
    }
}
