//! `cargo xtask bench`: guest instructions per operation, beside those of seL4 and Linux.
//!
//! The machine runs with one instruction a nanosecond, so the guest's own clock counts instructions. The kernel's rows
//! come from `boot/bench.toml`, those of programs from `tests/linux/src/bin/bench.rs`, once with a few and once with a
//! hundred times as many processes, descriptors, mappings and files around. Restarts of servers are among these: from
//! the death until the server asks for its next event, with journals of all lengths.

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use serde::Serialize;

use crate::{
    cli::{BenchArgs, RunArgs},
    image::PROGRAMS,
    run::Built,
    script, system,
};

/// What is around in the first column and in the second.
const CROWDS: [u32; 2] = [10, 1000];
/// How a row of the kernel's bench begins on the console log.
const KERNEL_ROW: &str = "bench: ";
/// The row against which tracing is measured: a message and its answer.
const MESSAGES: &str = "call + reply, 4 words, journal off";
const KERNEL_S: u64 = 120;
const PROGRAMS_S: u64 = 1200;

/// Whose figure a row is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Reference {
    #[serde(rename = "seL4")]
    Sel4,
    Linux,
}

use Reference::{Linux, Sel4};

/// The figures to beat, counted in the same way: operation, instructions, whose.
const REFERENCES: &[(&str, u64, Reference)] = &[
    ("smallest system call", 94, Sel4),
    ("call + reply, 0 words, journal off", 449, Sel4),
    ("call + reply, 4 words, journal off", 493, Sel4),
    ("call + reply, 10 words, journal off", 1663, Sel4),
    ("call + reply, 32 words, journal off", 1883, Sel4),
    ("call + reply, 100 words, journal off", 2563, Sel4),
    ("call + reply, 0 words, journal on", 449, Sel4),
    ("call + reply, 4 words, journal on", 493, Sel4),
    ("call + reply, 10 words, journal on", 1663, Sel4),
    ("call + reply, 32 words, journal on", 1883, Sel4),
    ("call + reply, 100 words, journal on", 2563, Sel4),
    ("signal + wait, journal off", 2109, Sel4),
    ("signal + wait, journal on", 2109, Sel4),
    ("page fault, without mapping", 1290, Sel4),
    ("page fault, with mapping a page", 2038, Sel4),
    ("yield to another thread", 267, Sel4),
    ("map + unmap one page", 1353, Sel4),
    ("getppid", 358, Linux),
    ("pipe round trip between two processes", 11_214, Linux),
    ("pipe, 1 byte written and read by one process", 2_373, Linux),
    ("pipe, 64 KiB written and read by one process", 44_041, Linux),
    ("fork + exit + wait4", 129_019, Linux),
    ("fork + execve + wait4", 304_375, Linux),
    ("vfork + execve + wait4", 223_871, Linux),
    ("1000 children reaped by 8 threads, per child: whole", 148_787, Linux),
    ("1000 children reaped by 8 threads, per child: reap only", 6_967, Linux),
    ("1000 children reaped by 8 threads, per child: into blocked waiters", 56_345, Linux),
    ("thread create + join", 78_030, Linux),
    ("futex ping-pong", 7_751, Linux),
    ("mmap + touch + munmap one page", 20_115, Linux),
    ("mmap + touch + munmap, per page in a batch of 256", 4_612, Linux),
    ("anonymous fault, per page", 3_307, Linux),
    ("copy-on-write fault, per page", 4_460, Linux),
    ("signal to self with handler", 3_622, Linux),
    ("SEGV handler that mprotects and retries", 8_986, Linux),
    ("open + close", 6_564, Linux),
    ("stat", 3_649, Linux),
    ("create + write 4 KiB + unlink (tmpfs)", 34_349, Linux),
    ("tmpfs write, per KiB", 1_025, Linux),
    ("tmpfs read, per KiB", 265, Linux),
    ("unix stream round trip, 1 byte", 17_908, Linux),
    ("TCP loopback round trip, 1 byte", 28_927, Linux),
    ("TCP loopback connect + accept + close", 135_603, Linux),
    ("TCP loopback, per KiB", 963, Linux),
];

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Line {
    operation: String,
    /// Instructions per operation with a few things around; none when it cannot be measured.
    instructions: Option<u64>,
    /// The same with a hundred times as many, where that makes a difference to think of.
    crowded: Option<u64>,
    reference: Option<u64>,
    system: Option<Reference>,
}

/// Measures and prints; the status to end with.
pub fn bench(args: &BenchArgs) -> Result<u8> {
    if args.sizes {
        print!("{}", Built::new()?.sizes()?);
        return Ok(0);
    }
    let filter = args.filter.as_deref().unwrap_or_default();
    ensure!(!filter.contains('\''), "a filter is part of a row's name, and none has a quotation mark");
    let progress = ProgressBar::new_spinner();
    progress.enable_steady_tick(std::time::Duration::from_millis(200));
    progress.set_message("building");
    let built = Built::of(system::BENCH)?;
    progress.set_message("the kernel's own operations");
    let mut lines = kernel_lines(&built, args)?;
    progress.set_message("the same while a trace is streamed");
    lines.push(streamed_line(&built, args, &lines)?);
    lines.retain(|line| line.operation.contains(filter));
    if !args.kernel {
        let built = Built::new()?;
        let [few, many] = CROWDS.map(|crowd| {
            progress.set_message(format!("Linux programs, {crowd} processes around"));
            program_rows(&built, args, crowd, filter)
        });
        lines.extend(program_lines(few?, &many?));
    }
    progress.finish_and_clear();
    ensure!(!lines.is_empty(), "no row's name contains `{filter}`");
    if args.json {
        println!("{}", serde_json::to_string_pretty(&lines)?);
    } else {
        print!("{}", table(&lines));
    }
    Ok(0)
}

fn line(operation: String, instructions: Option<u64>, crowded: Option<u64>) -> Line {
    let found = REFERENCES.iter().find(|(name, ..)| *name == operation);
    Line {
        operation,
        instructions,
        crowded,
        reference: found.map(|(_, reference, _)| *reference),
        system: found.map(|(.., system)| *system),
    }
}

fn arguments(bench: &BenchArgs, timeout_s: u64) -> RunArgs {
    // A thousand processes more want room.
    RunArgs { icount: true, mem: 512, qemu: bench.qemu.clone(), ..RunArgs::limited(timeout_s) }
}

/// The rows of servers that only trap, and what the journal adds to a message.
fn kernel_lines(built: &Built, bench: &BenchArgs) -> Result<Vec<Line>> {
    let rows = kernel_rows(built, &arguments(bench, KERNEL_S))?;
    let find = |name: &str| rows.iter().find(|(row, _)| row == name).and_then(|(_, figure)| *figure);
    let journal =
        find("call + reply, 4 words, journal on").zip(find(MESSAGES)).map(|(on, off)| on.saturating_sub(off));
    let mut lines: Vec<Line> = rows.iter().map(|(name, figure)| line(name.clone(), *figure, None)).collect();
    lines.push(line("journal, per message of 4 words".to_owned(), journal, None));
    let ring = find(&format!("{MESSAGES}, trace ring"));
    lines.push(line("trace ring, per message of 4 words".to_owned(), each(ring, find(MESSAGES)), None));
    Ok(lines)
}

/// What tracing adds to each of two messages.
fn each(traced: Option<u64>, plain: Option<u64>) -> Option<u64> {
    traced.zip(plain).map(|(traced, plain)| traced.saturating_sub(plain).div_ceil(2))
}

/// What a trace that a host reads along adds to a message.
fn streamed_line(built: &Built, bench: &BenchArgs, lines: &[Line]) -> Result<Line> {
    let folder = tempfile::tempdir()?;
    let args = RunArgs { trace: Some(folder.path().join("trace")), ..arguments(bench, KERNEL_S) };
    let rows = kernel_rows(built, &args)?;
    let streamed = rows.iter().find(|(row, _)| row == MESSAGES).and_then(|(_, figure)| *figure);
    let plain = lines.iter().find(|line| line.operation == MESSAGES).and_then(|line| line.instructions);
    Ok(line("trace streamed, per message of 4 words".to_owned(), each(streamed, plain), None))
}

/// What the kernel's bench says. No program runs beside it.
fn kernel_rows(built: &Built, args: &RunArgs) -> Result<Vec<(String, Option<u64>)>> {
    let ran = script::succeed(built, args, "").context("the kernel's bench")?;
    Ok(rows(ran.log.iter().filter_map(|line| line.strip_prefix(KERNEL_ROW))))
}

/// What the bench among the Linux programs prints with so many processes around.
fn program_rows(
    built: &Built,
    bench: &BenchArgs,
    crowd: u32,
    filter: &str,
) -> Result<Vec<(String, Option<u64>)>> {
    let command = format!("cd /tmp; {PROGRAMS}/bench --crowd {crowd} '{filter}' 2>/dev/null");
    let ran = script::succeed(built, &arguments(bench, PROGRAMS_S), &command).context("the bench program")?;
    Ok(rows(ran.text().lines()))
}

/// Lines of a name, a tab, and a figure or a dash.
fn rows<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, Option<u64>)> {
    let row = |line: &'a str| {
        let (name, figure) = line.split_once('\t')?;
        Some((name.to_owned(), figure.trim().parse().ok()))
    };
    lines.filter_map(row).collect()
}

fn program_lines(few: Vec<(String, Option<u64>)>, many: &[(String, Option<u64>)]) -> Vec<Line> {
    let crowded = |name: &str| many.iter().find(|(row, _)| row == name).and_then(|(_, figure)| *figure);
    few.into_iter()
        .map(|(name, figure)| {
            let crowded = crowded(&name);
            line(name, figure, crowded)
        })
        .collect()
}

/// The table as text.
fn table(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.operation.len()).max().unwrap_or_default();
    let figure = |figure: Option<u64>| figure.map_or_else(|| "-".to_owned(), |figure| figure.to_string());
    let mut text = format!(
        "{:width$}  {:>12}  {:>12}  {:>12}  {:>6}\n",
        "instructions, each a nanosecond of guest time",
        format!("{} around", CROWDS[0]),
        format!("{} around", CROWDS[1]),
        "reference",
        "ratio"
    );
    for line in lines {
        let ratio = match (line.instructions, line.reference) {
            (Some(ours), Some(theirs)) => format!("{:.2}", ours as f64 / theirs as f64),
            _ => "-".to_owned(),
        };
        let system = line.system.map_or_else(String::new, |system| format!("  {system:?}"));
        text += &format!(
            "{:width$}  {:>12}  {:>12}  {:>12}  {ratio:>6}{system}\n",
            line.operation,
            figure(line.instructions),
            figure(line.crowded),
            figure(line.reference),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_name_a_tab_and_a_figure_and_other_lines_are_none() {
        let rows = rows(["getppid\t410", "it crashed", "TCP\t-"].into_iter());
        assert_eq!(rows, [("getppid".to_owned(), Some(410)), ("TCP".to_owned(), None)]);
    }

    #[test]
    fn each_line_stands_beside_its_reference_and_both_crowds() {
        let few = vec![("getppid".to_owned(), Some(179))];
        let lines = program_lines(few, &[("getppid".to_owned(), Some(180))]);
        assert_eq!((lines[0].crowded, lines[0].reference), (Some(180), Some(358)));
        let text = table(&lines);
        assert!(text.starts_with("instructions, each a nanosecond of guest time"), "{text}");
        assert!(text.contains("179") && text.contains("180") && text.contains("0.50  Linux"), "{text}");
    }

    #[test]
    fn what_could_not_be_measured_has_a_dash() {
        let text = table(&[line("TCP loopback, per KiB".to_owned(), None, None)]);
        assert!(text.lines().last().is_some_and(|line| line.contains(" - ")), "{text}");
    }
}
