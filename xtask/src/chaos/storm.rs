//! `cargo xtask chaos --qemu`: programs work in a machine while servers fail at any instruction, by faults of every
//! kind, and every byte that they print is compared with a run in which nothing fails.
//!
//! The work is `tests/chaos/work.sh`, done again and again by `tests/chaos/storm.sh` while `strike` (of
//! `tests/linux`) sets one end after the other; the kernel says on its log which server was struck where and how. What
//! there is in the kernel is counted before and after. One instruction is one nanosecond there, so that a seed
//! repeats the machine's run but for the moments at which the host's disk answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use libipc::abi::Injection;

use crate::{
    cli::{Addition, RunArgs, StormArgs},
    house,
    run::Built,
    script::{self, Ran},
};

/// Where `tests/chaos` is in the guest.
const GUEST: &str = "/chaos";
/// How a part of the frame's output begins.
const PART: &str = "=== ";
/// What is not counted: times and events only grow, and pages are kept as long as nobody needs them.
const NOT_COUNTED: [&str; 5] = ["uptime", "idle", "context switches", "traps", "MemFree"];
const CLEAN_S: u64 = 120;

/// A server that was made to fail.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Strike {
    /// Its number.
    server: usize,
    /// The instruction it would have run next.
    at: u64,
    fault: Injection,
}

/// What a storm brought.
#[derive(Debug)]
pub struct Storm {
    seed: u64,
    /// The servers' names, by number.
    names: Vec<String>,
    /// Those that were to fail, and how often all of them together.
    servers: Vec<String>,
    kills: u32,
    strikes: Vec<Strike>,
    /// What the work printed and its status, without a storm and in each round of one.
    clean: Round,
    rounds: Vec<Round>,
    /// What there was before and after.
    counts: Vec<Counts>,
    /// Deaths of their own, as the kernel counts them.
    own_deaths: u64,
    took: Duration,
}

/// One time the work was done: its output and its status.
type Round = (String, String);
/// How many there are, by name.
type Counts = BTreeMap<String, u64>;

/// Runs the machine twice: once for what the work prints, and once with the storm.
pub fn rage(built: &Built, args: &StormArgs) -> Result<Storm> {
    let names = built.server_names();
    for name in &args.servers {
        ensure!(names.contains(name), "there is no server `{name}`: they are {}", names.join(", "));
    }
    let servers = if args.servers.is_empty() { names.clone() } else { args.servers.clone() };
    let start = Instant::now();
    let calm = boot(built, &format!("echo {PART}round; sh {GUEST}/work.sh; echo {PART}status $?"), CLEAN_S)?;
    let clean = rounds(&parts(&calm.text())).pop().context("the work without a storm has no end")?;
    let faults: Vec<&str> = args.faults.iter().map(|fault| fault.name()).collect();
    let StormArgs { seed, kills, timeout, .. } = *args;
    let command = format!("sh {GUEST}/storm.sh {seed} {kills} {} {}", servers.join(","), faults.join(","));
    let ran = boot(built, &command, timeout)?;
    let text = ran.text();
    let parts = parts(&text);
    let own_deaths =
        parts.iter().filter(|(head, _)| *head == "crashes").map(|(_, table)| own_deaths(table)).sum();
    Ok(Storm {
        seed,
        names,
        servers,
        kills,
        strikes: ran.log.iter().filter_map(|line| strike(line)).collect(),
        clean,
        rounds: rounds(&parts),
        counts: ["before", "after"].into_iter().filter_map(|when| least(&parts, when)).collect(),
        own_deaths,
        took: start.elapsed(),
    })
}

/// Runs a command that succeeds in a machine of its own.
fn boot(built: &Built, command: &str, timeout_s: u64) -> Result<Ran> {
    let tests = Addition { host: house::root().join("tests/chaos"), guest: GUEST.into() };
    let args = RunArgs { icount: true, add: vec![tests], ..RunArgs::limited(timeout_s) };
    script::succeed(built, &args, command)
}

/// The parts of the frame's output: what each is, and what it says.
fn parts(output: &str) -> Vec<(&str, String)> {
    let mut parts: Vec<(&str, String)> = Vec::new();
    for line in output.split_inclusive('\n') {
        match (line.strip_prefix(PART), parts.last_mut()) {
            (Some(head), _) => parts.push((head.trim_end(), String::new())),
            (None, Some((_, text))) => text.push_str(line),
            (None, None) => {}
        }
    }
    parts
}

fn rounds(parts: &[(&str, String)]) -> Vec<Round> {
    let pairs = parts.windows(2).filter(|pair| pair[0].0 == "round");
    pairs.map(|pair| (pair[0].1.clone(), pair[1].0.to_owned())).collect()
}

/// Reads `server 4 (incarnation 2) is struck at 0x40123: ud2`.
fn strike(line: &str) -> Option<Strike> {
    let (server, rest) = line.strip_prefix("server ")?.split_once(" (incarnation ")?;
    let (at, fault) = rest.split_once(") is struck at 0x")?.1.split_once(": ")?;
    let at = u64::from_str_radix(at, 16).ok()?;
    Some(Strike { server: server.parse().ok()?, at, fault: Injection::named(fault)? })
}

/// Reads lines of a name and a figure, with something like `of 100` or `kB` behind it.
fn counts(text: &str) -> Counts {
    let figure = |line: &str| {
        let at = line.find(|letter: char| letter.is_ascii_digit())?;
        let (name, figure) = line.split_at(at);
        let figure = figure.split_ascii_whitespace().next()?.parse().ok()?;
        Some((name.trim_end_matches([' ', ':']).to_owned(), figure))
    };
    text.lines().filter_map(figure).filter(|(name, _)| !NOT_COUNTED.contains(&name.as_str())).collect()
}

/// The least of what was counted at a time, of several counts.
fn least(parts: &[(&str, String)], when: &str) -> Option<Counts> {
    let samples = parts.iter().filter(|(head, _)| *head == when).map(|(_, text)| counts(text));
    samples.reduce(|mut least, sample| {
        for (name, count) in sample {
            let free = name.starts_with("Mem");
            let best = least.entry(name).or_insert(count);
            *best = if free { count.max(*best) } else { count.min(*best) };
        }
        least
    })
}

/// The sum of a table's last column.
fn own_deaths(table: &str) -> u64 {
    let last = |line: &str| line.split_ascii_whitespace().last()?.parse::<u64>().ok();
    table.lines().filter_map(last).sum()
}

impl Storm {
    /// What was not as without a storm, in words; nothing if no program noticed and nothing is left.
    pub fn differences(&self) -> Vec<String> {
        let mut differences = Vec::new();
        for (number, round) in self.rounds.iter().enumerate().filter(|(_, round)| **round != self.clean) {
            let text =
                crate::test::difference(self.clean.0.as_bytes(), round.0.as_bytes()).unwrap_or_default();
            differences.push(format!("round {number} ended with {}, not {}\n{text}", round.1, self.clean.1));
        }
        if let [before, after] = &self.counts[..] {
            for (name, count) in before {
                let then = after.get(name);
                if then != Some(count) {
                    let then = then.map_or("nothing".to_owned(), u64::to_string);
                    differences.push(format!("{name}: {count} before, {then} after"));
                }
            }
        } else {
            differences.push("what there is was not counted twice".to_owned());
        }
        let wanted = self.kills as usize;
        if self.strikes.len() < wanted {
            differences.push(format!("{} servers were struck, {wanted} wanted", self.strikes.len()));
        }
        if self.own_deaths > 0 {
            differences.push(format!("{} deaths that nobody brought about", self.own_deaths));
        }
        differences
    }

    /// The table of kills, and what is different.
    pub fn describe(&self) -> String {
        let faults: BTreeSet<Injection> = self.strikes.iter().map(|strike| strike.fault).collect();
        let mut text = format!("{:8}", "server");
        let mut row = |head: &str, cells: &mut dyn Iterator<Item = String>| {
            // Writing to a string does not fail.
            let _ = write!(text, "{head}");
            cells.for_each(|cell| text += &format!("{cell:>8}"));
            text.push('\n');
        };
        let heads = faults.iter().map(|fault| fault.name().to_owned());
        row("", &mut heads.chain(["all", "places"].map(str::to_owned)));
        for name in &self.servers {
            let number = self.names.iter().position(|known| known == name).map_or(0, |at| at + 1);
            let own: Vec<&Strike> = self.strikes.iter().filter(|strike| strike.server == number).collect();
            let of = |fault: &Injection| own.iter().filter(|strike| strike.fault == *fault).count();
            let places = own.iter().map(|strike| strike.at).collect::<BTreeSet<_>>().len();
            let cells = faults.iter().map(of).chain([own.len(), places]);
            row(&format!("{name:8}"), &mut cells.map(|count| count.to_string()));
        }
        let equal = self.rounds.iter().filter(|round| **round == self.clean).count();
        let _ = writeln!(
            text,
            "seed {}: {} kills in {} rounds of the work, {equal} with equal output and status; {:.0} s",
            self.seed,
            self.strikes.len(),
            self.rounds.len(),
            self.took.as_secs_f64(),
        );
        for difference in self.differences() {
            let _ = writeln!(text, "{}", difference.trim_end());
        }
        if let Some(after) = self.counts.last() {
            let list = after.iter().map(|(name, count)| format!("{name} {count}"));
            let _ = writeln!(text, "in the kernel afterwards: {}", list.collect::<Vec<_>>().join(", "));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frames_output_falls_apart_into_rounds_and_counts() {
        let frame = "noise\n=== round\na\nb\n=== status 42\n\
                     === before\ntasks 10 of 2703\npage tables 9\nMemFree: 12 kB\nMemAvailable:  240 kB\n\
                     === before\ntasks 10 of 2703\npage tables 8\nMemFree: 99 kB\nMemAvailable:  244 kB\n\
                     === after\ntasks 11 of 2703\n";
        let parts = parts(frame);
        assert_eq!(rounds(&parts), [("a\nb\n".to_owned(), "status 42".to_owned())]);
        let expected = [("MemAvailable", 244), ("page tables", 8), ("tasks", 10)];
        let expected = BTreeMap::from(expected.map(|(name, count)| (name.to_owned(), count)));
        assert_eq!(least(&parts, "before"), Some(expected));
        assert_eq!(least(&parts, "after"), Some(BTreeMap::from([("tasks".to_owned(), 11)])));
        assert_eq!(least(&parts, "later"), None);
    }

    #[test]
    fn a_strike_is_read_from_the_log_and_other_lines_are_none() {
        let line = "server 9 (incarnation 8) is struck at 0x454c81: load";
        assert_eq!(strike(line), Some(Strike { server: 9, at: 0x45_4c81, fault: Injection::Load }));
        for other in
            ["server 9 (incarnation 8) died of exception 0xd at 0x40003a", "root: vfs runs again", ""]
        {
            assert_eq!(strike(other), None);
        }
    }

    fn storm() -> Storm {
        let round = ("a\n".to_owned(), "status 0".to_owned());
        let count = BTreeMap::from([("tasks".to_owned(), 10)]);
        Storm {
            seed: 1,
            names: vec!["root".into(), "vm".into()],
            servers: vec!["vm".into()],
            kills: 1,
            strikes: vec![Strike { server: 2, at: 0x40_0000, fault: Injection::Kill }],
            clean: round.clone(),
            rounds: vec![round],
            counts: vec![count.clone(), count],
            own_deaths: 0,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn whatever_is_not_as_without_a_storm_is_a_difference() {
        assert_eq!(storm().differences(), [""; 0]);
        assert!(storm().describe().contains("vm             1       1       1\n"), "{}", storm().describe());
        let changes: [fn(&mut Storm); 6] = [
            |storm| storm.rounds[0].0.push('b'),
            |storm| storm.rounds[0].1 = "status 1".to_owned(),
            |storm| *storm.counts[1].entry("tasks".to_owned()).or_default() = 11,
            |storm| drop(storm.counts.pop()),
            |storm| storm.strikes.clear(),
            |storm| storm.own_deaths = 1,
        ];
        for change in changes {
            let mut other = storm();
            change(&mut other);
            assert_eq!(other.differences().len(), 1, "{}", other.describe());
        }
    }
}
