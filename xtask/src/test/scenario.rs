//! Scenarios: a command for the guest in `tests/qemu/NAME.sh` or `tests/failures/NAME.sh`, and in `NAME.out` what it
//! must print, to the byte.
//!
//! A scenario begins with a header of comments, `# key: value`: `name` (the sentence that it proves), `args` (further
//! arguments of `run`), `expect-status`, and `seeds` (`1-100`: one boot with each of these scheduling seeds, all of
//! which must go as wanted). What follows the header is the command.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use anyhow::{Context, Result, bail, ensure};

use super::{report::Report, workers::two_at_a_time};
use crate::{
    cli::RunArgs,
    house,
    run::{self, Built},
    script,
};

/// Where scenarios are.
const FOLDERS: [&str; 2] = ["tests/qemu", "tests/failures"];
const TIMEOUT_S: u64 = 120;

/// One scenario, read.
#[derive(Debug)]
struct Scenario {
    /// The file's name without its ending, and the sentence from the header.
    name: String,
    args: RunArgs,
    expect_status: u8,
    /// The scheduling seed of each of its boots.
    seeds: Vec<Option<u64>>,
    command: String,
}

/// Runs the scenarios that are asked for, two boots at a time.
pub fn run(built: &Built, report: &mut Report) -> Result<()> {
    let paths = list(report)?;
    report.start("scenarios", paths.len());
    let mut trials = Vec::new();
    for path in paths {
        match read(&path) {
            Ok((scenario, wanted)) => trials.push(Trial::new(scenario, wanted)),
            Err(error) => report.judge(&stem(&path), Err(error)),
        }
    }
    let boots = trials.iter().flat_map(|trial| trial.scenario.seeds.iter().map(move |seed| (trial, *seed)));
    let boots: Vec<(&Trial, Option<u64>)> = boots.collect();
    two_at_a_time(
        &boots,
        |(trial, seed)| trial.boot(built, *seed),
        |(trial, _), verdict| {
            if let Some(verdict) = verdict {
                report.judge(&trial.scenario.name, verdict);
            }
        },
    );
    Ok(())
}

/// A scenario under way: its boots succeed together or fail one by one.
struct Trial {
    scenario: Scenario,
    wanted: Vec<u8>,
    /// Boots that have not succeeded yet.
    left: AtomicUsize,
    failed: AtomicBool,
}

impl Trial {
    fn new(scenario: Scenario, wanted: Vec<u8>) -> Self {
        let left = AtomicUsize::new(scenario.seeds.len());
        Self { scenario, wanted, left, failed: AtomicBool::new(false) }
    }

    /// Makes one boot. The verdict on the scenario, if this boot brings it: the last success or the first failure.
    fn boot(&self, built: &Built, seed: Option<u64>) -> Option<Result<()>> {
        if self.failed.load(Ordering::Relaxed) {
            return None;
        }
        match prove(built, &self.scenario, &self.wanted, seed) {
            Ok(()) => (self.left.fetch_sub(1, Ordering::Relaxed) == 1).then_some(Ok(())),
            Err(error) => {
                let error = match seed {
                    Some(seed) => error.context(format!("with --seed {seed}")),
                    None => error,
                };
                (!self.failed.swap(true, Ordering::Relaxed)).then_some(Err(error))
            }
        }
    }
}

fn list(report: &Report) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for folder in FOLDERS {
        collect(&house::root().join(folder), report, &mut paths)?;
    }
    paths.sort();
    Ok(paths)
}

/// Adds the scenarios of a folder that are asked for.
fn collect(folder: &Path, report: &Report, paths: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        let wanted = path.file_stem().is_some_and(|stem| report.wants(&stem.to_string_lossy()));
        if wanted && path.extension().is_some_and(|extension| extension == "sh") {
            paths.push(path);
        }
    }
    Ok(())
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads a scenario and what it must print.
fn read(path: &Path) -> Result<(Scenario, Vec<u8>)> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let scenario = parse(&stem(path), &text)?;
    let wanted = path.with_extension("out");
    let wanted = fs::read(&wanted).with_context(|| format!("cannot read {}", wanted.display()))?;
    Ok((scenario, wanted))
}

fn prove(built: &Built, scenario: &Scenario, wanted: &[u8], seed: Option<u64>) -> Result<()> {
    let args = RunArgs { seed: seed.or(scenario.args.seed), ..scenario.args.clone() };
    script::run(built, &args, &scenario.command)?.must(scenario.expect_status, wanted)
}

/// Reads a scenario's text. Comments that are not `# key: value` may stand in the header too.
fn parse(stem: &str, text: &str) -> Result<Scenario> {
    let header_end = text.lines().take_while(|line| line.starts_with('#')).map(|line| line.len() + 1).sum();
    let (header, command) = text.split_at_checked(header_end).unwrap_or((text, ""));
    ensure!(!command.trim().is_empty(), "the scenario has no command");
    let (mut name, mut args, mut expect_status, mut seeds) = (None, Vec::new(), 0, vec![None]);
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
            ("seeds", value) => {
                seeds = range(value).with_context(|| format!("`{value}` is no range of seeds"))?
            }
            (key, _) if key.contains(' ') => {}
            (key, _) => bail!("unknown key `{key}` in the header"),
        }
    }
    let mut args = RunArgs::parse(&args).context("the line `args` is not sound")?;
    ensure!(args.command.is_none(), "the line `args` must not have a command");
    run::check(&args)?;
    args.timeout.get_or_insert(TIMEOUT_S);
    let name = format!("{stem}: {}", name.context("the header has no line `# name: …`")?);
    Ok(Scenario { name, args, expect_status, seeds, command: command.to_owned() })
}

/// Reads `FIRST-LAST`.
fn range(text: &str) -> Option<Vec<Option<u64>>> {
    let (first, last) = text.split_once('-')?;
    let seeds: Vec<_> = (first.parse().ok()?..=last.parse().ok()?).map(Some).collect();
    (!seeds.is_empty()).then_some(seeds)
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
        assert_eq!(scenario.seeds, [None]);
    }

    #[test]
    fn a_range_of_seeds_is_one_boot_each() {
        let seeds = |text| parse("x", &format!("# name: n\n# seeds: {text}\ntrue\n"));
        assert_eq!(seeds("7-9").unwrap().seeds, [Some(7), Some(8), Some(9)]);
        for bad in ["7", "9-7", "-", "1-x", ""] {
            assert!(seeds(bad).is_err(), "{bad}");
        }
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
