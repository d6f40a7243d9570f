//! Programs of `tests/linux` that must behave in Naiad as they do on the host: same output, same status.
//!
//! A program takes part when its source begins with `//! compare`, or when the filter is its whole name. All run in
//! one boot, between marks; one that hangs or takes the machine down fails, and those behind it get a boot of their
//! own.

use std::{fs, path::Path, process::Command, time::SystemTime};

use anyhow::{Context, Result, ensure};

use super::report::{Report, difference};
use crate::{
    build,
    cli::RunArgs,
    image::PROGRAMS,
    machine::{self, Ending},
    run::{self, Built},
    script::{self, Ran},
};

const BOOT_S: u64 = 60;
const PROGRAM_S: u64 = 10;

/// What a program printed, and its status as a shell sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    output: Vec<u8>,
    status: String,
}

/// What became of a program that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Progress {
    Ended(Outcome),
    /// It had begun when the output stopped.
    Begun(Vec<u8>),
    NotBegun,
}

/// Runs the programs that are asked for on the host and in Naiad.
pub fn run(built: &Built, report: &mut Report) -> Result<()> {
    let names = programs(report)?;
    let Some(folder) = built.programs.first().and_then(|program| program.parent()) else { return Ok(()) };
    report.start("Linux programs", names.len());
    let mark = mark();
    let host = on_host(folder, &names, &mark)?;
    let mut left = &names[..];
    while !left.is_empty() && machine::interrupted().is_none() {
        let Ran { ending, output, .. } = in_naiad(built, left, &mark)?;
        let begun =
            left.iter().take_while(|name| progress(&output, &mark, name) != Progress::NotBegun).count();
        // Without any progress another boot would not help.
        let judged = if begun == 0 { left.len() } else { begun };
        let (now, later) = left.split_at(judged);
        for name in now {
            judge(name, progress(&host, &mark, name), progress(&output, &mark, name), ending, report);
        }
        left = later;
    }
    Ok(())
}

fn judge(name: &str, host: Progress, naiad: Progress, ending: Ending, report: &mut Report) {
    let name = format!("linux/{name}");
    let why = ending.message().unwrap_or("the shell ended before it");
    match (host, naiad) {
        (Progress::Ended(wanted), Progress::Ended(got)) => compare(&name, &wanted, &got, report),
        (Progress::Ended(_), Progress::Begun(so_far)) => {
            report.failed(&name, &format!("{why}; it had printed:\n{}", String::from_utf8_lossy(&so_far)));
        }
        (Progress::Ended(_), Progress::NotBegun) => report.failed(&name, &format!("{why}; it had not begun")),
        (Progress::Begun(_) | Progress::NotBegun, _) => report.failed(&name, "it does not end on the host"),
    }
}

fn programs(report: &Report) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for source in build::linux_sources()? {
        let text =
            fs::read_to_string(&source).with_context(|| format!("cannot read {}", source.display()))?;
        let name = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let chosen = text.starts_with("//! compare") && report.wants(&name);
        if chosen || report.filter() == name {
            names.push(name);
        }
    }
    Ok(names)
}

fn compare(name: &str, wanted: &Outcome, got: &Outcome, report: &mut Report) {
    let status = (wanted.status != got.status)
        .then(|| format!("status {} in Naiad, {} on the host", got.status, wanted.status));
    let complaints: Vec<String> =
        [status, difference(&wanted.output, &got.output)].into_iter().flatten().collect();
    if complaints.is_empty() { report.passed(name) } else { report.failed(name, &complaints.join("\n")) }
}

/// The same shell runs the same script on both sides, so that what it says itself is the same too.
fn script(folder: &Path, names: &[String], mark: &str) -> String {
    format!(
        "cd /tmp\nfor name in {}; do\necho \"{mark} begin $name\"\n{}/$name\necho \"{mark} end $name $?\"\ndone\n",
        names.join(" "),
        folder.display()
    )
}

fn on_host(folder: &Path, names: &[String], mark: &str) -> Result<Vec<u8>> {
    let script = format!("exec 2>&1 </dev/null\n{}", script(folder, names, mark));
    let limit = (PROGRAM_S * (names.len() as u64 + 1)).to_string();
    let output = Command::new("timeout")
        .args([&limit, "/bin/busybox", "sh", "-c", &script])
        .env_clear()
        .envs(run::ENVIRONMENT)
        .env("TERM", script::TERM)
        .output()
        .context("cannot run the programs on the host")?;
    ensure!(!output.stdout.is_empty(), "the programs say nothing on the host");
    Ok(output.stdout)
}

fn in_naiad(built: &Built, names: &[String], mark: &str) -> Result<Ran> {
    let args = RunArgs::limited(BOOT_S + PROGRAM_S * names.len() as u64);
    script::run(built, &args, &script(Path::new(PROGRAMS), names, mark))
}

/// A word that no program prints by chance.
fn mark() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("@@{:x}", now.as_nanos())
}

/// Finds a program's part in the output of all.
fn progress(output: &[u8], mark: &str, name: &str) -> Progress {
    let Some((_, rest)) = split(output, &format!("{mark} begin {name}\n")) else { return Progress::NotBegun };
    let ended = split(rest, &format!("{mark} end {name} "))
        .and_then(|(output, rest)| Some((output, split(rest, "\n")?.0)))
        .map(|(output, status)| Outcome {
            output: output.to_vec(),
            status: String::from_utf8_lossy(status).into_owned(),
        });
    ended.map_or_else(|| Progress::Begun(rest.to_vec()), Progress::Ended)
}

fn split<'a>(bytes: &'a [u8], at: &str) -> Option<(&'a [u8], &'a [u8])> {
    let start = bytes.windows(at.len()).position(|window| window == at.as_bytes())?;
    Some((bytes.get(..start)?, bytes.get(start + at.len()..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(output: &str, status: &str) -> Progress {
        Progress::Ended(Outcome { output: output.into(), status: status.into() })
    }

    #[test]
    fn each_program_gets_its_own_part_of_the_output() {
        let output =
            b"@@1 begin a\nhello\n@@1 end a 0\n@@1 begin ab\nno newline@@1 end ab 139\n@@1 begin c\nhal";
        assert_eq!(progress(output, "@@1", "a"), outcome("hello\n", "0"));
        assert_eq!(progress(output, "@@1", "ab"), outcome("no newline", "139"));
        assert_eq!(progress(output, "@@1", "c"), Progress::Begun(b"hal".to_vec()));
        assert_eq!(progress(output, "@@1", "d"), Progress::NotBegun);
    }

    #[test]
    fn a_program_that_took_the_machine_down_fails_with_what_it_printed() {
        let host = outcome("ok\n", "0");
        let mut report = Report::default();
        judge("a", host.clone(), Progress::Begun(b"o".to_vec()), Ending::Panic, &mut report);
        judge("b", host.clone(), Progress::NotBegun, Ending::Timeout, &mut report);
        judge("c", Progress::NotBegun, host, Ending::Status(0), &mut report);
        let tally = report.finish();
        assert_eq!((tally.passed, tally.failed), (0, 3));
    }

    #[test]
    fn output_or_status_that_differs_is_a_failure() {
        let host = Outcome { output: b"a\n".to_vec(), status: "0".into() };
        let mut report = Report::default();
        compare("same", &host, &host, &mut report);
        compare("status", &host, &Outcome { status: "1".into(), ..host.clone() }, &mut report);
        compare("output", &host, &Outcome { output: vec![], ..host.clone() }, &mut report);
        let tally = report.finish();
        assert_eq!((tally.passed, tally.failed), (1, 2));
    }

    #[test]
    fn the_script_of_the_host_really_marks_its_programs() {
        let names = ["true".to_owned(), "false".to_owned()];
        let output = on_host(Path::new("/bin"), &names, "@@2").unwrap();
        assert_eq!(progress(&output, "@@2", "true"), outcome("", "0"));
        assert_eq!(progress(&output, "@@2", "false"), outcome("", "1"));
    }
}
