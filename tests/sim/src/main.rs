//! The simulator as a program: `cargo xtask chaos --sim` runs it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use sim::explore::{Exploration, Failure, Tally};
use sim::oracle::Class;
use sim::plan::{Cause, Crash, Kind, Plan};
use sim::random::Random;
use sim::ticker::Ticker;
use sim::world::{Moments, Setup};
use sim::{workload, world};

/// Crashes servers of a simulated Naiad at every place, and compares what programs saw with a run without crashes
#[derive(Parser, Debug)]
#[command(name = "chaos", max_term_width = 110)]
struct Args {
    /// What decides scheduling, delays and random crashes
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Only these servers crash (all, if none is named)
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    servers: Vec<String>,
    /// What strikes in random runs, beside kills (all, if none is named); each run has one of them
    #[arg(long, value_name = "KINDS", value_delimiter = ',')]
    faults: Vec<Kind>,
    /// Crashes in each random run
    #[arg(long, value_name = "N", default_value_t = 8)]
    kills: u64,
    /// Random runs, each with the next seed
    #[arg(long, value_name = "N", default_value_t = 200)]
    runs: u64,
    /// Every single crash, while the system starts, too; crashes during recovery; pairs soon after each other
    #[arg(long)]
    exhaustive: bool,
    /// With --exhaustive: the second crash is at one of so many next traps of servers; 0 for no second
    #[arg(long, value_name = "TRAPS", default_value_t = 10)]
    window: u64,
    /// With --exhaustive and --poison: only every Nth of them
    #[arg(long, value_name = "N", default_value_t = 1)]
    stride: usize,
    /// Instead of crashes: each message kills its server whenever it has it, and each server is given up, which must
    /// not take others down
    #[arg(long)]
    poison: bool,
    /// Instead of crashes: each message makes its server loop for ever
    #[arg(long)]
    hang: bool,
    /// Servers look for what they do not know after every recovery: there must be nothing
    #[arg(long)]
    sweep: bool,
    /// Random runs: crash while the system starts, too
    #[arg(long)]
    start: bool,
    /// One run with these crashes, such as vfs@123,+5
    #[arg(long, value_name = "CRASHES")]
    plan: Option<String>,
    /// With --plan: write every trap of every server into a file
    #[arg(long, value_name = "FILE", requires = "plan")]
    trace: Option<PathBuf>,
    /// With --plan: write the kernel's trace into a file, as `cargo xtask run --trace` does
    #[arg(long, value_name = "FILE", requires = "plan")]
    records: Option<PathBuf>,
    /// Only these scripts of the workload
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    scripts: Vec<String>,
    /// How often each script does what it does
    #[arg(long, value_name = "N", default_value_t = 4)]
    rounds: u64,
    /// Runs at a time; as many as there are processors, if it is not said
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Stop after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    limit: u64,
}

fn main() -> ExitCode {
    let outcome = chaos(&Args::parse());
    outcome.unwrap_or_else(|error| {
        eprintln!("chaos: {error:#}");
        ExitCode::from(125)
    })
}

fn chaos(args: &Args) -> Result<ExitCode> {
    let setup = workload::setup(&args.scripts, args.rounds)?;
    let exploration = Exploration { sweeps: args.sweep, ..Exploration::new(&setup, args.seed) };
    describe(&exploration);
    if let Some(plan) = &args.plan {
        let trace = args.trace.is_some() || args.records.is_some();
        let mut plan = Plan { trace, ..Plan::parse(args.seed, plan, &setup)? };
        let first = plan.first_server();
        let cursed = |crash: &Crash| matches!(crash.cause, Cause::Poison | Cause::Hang | Cause::Late);
        let message = plan.crashes.first().is_some_and(cursed);
        plan.kind = args.faults.first().copied();
        plan.poisons = first.filter(|_| message);
        plan.gives_up = first.filter(|_| args.poison && !message);
        return one(&exploration, &plan, args);
    }
    let mut servers = Vec::new();
    for name in &args.servers {
        servers.push(setup.number(name).with_context(|| format!("no server is called `{name}`"))?);
    }
    if servers.is_empty() {
        servers = (1..=setup.names.len() as u32).collect();
    }
    let mut sound = true;
    for (what, plans) in plans(args, &exploration, &servers) {
        sound &= try_all(args, &exploration, what, &plans);
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The plans to be tried, in groups with names.
fn plans(args: &Args, exploration: &Exploration, servers: &[u32]) -> Vec<(&'static str, Vec<Plan>)> {
    let every = |plans: Vec<Plan>| {
        let mut plans = plans.into_iter().step_by(args.stride.max(1)).collect::<Vec<_>>();
        // So that what is tried before time is up is of all kinds.
        Random::new(args.seed).shuffle(&mut plans);
        plans
    };
    if args.poison {
        // Without root nobody would be given up.
        let others: Vec<u32> = servers.iter().copied().filter(|server| *server != world::ROOT).collect();
        let messages = |cause| every(exploration.poisoned_messages(&others, cause));
        return vec![
            ("poisoned messages", messages(Cause::Poison)),
            ("poisoned at their end", messages(Cause::Late)),
            ("servers given up", every(exploration.poisons(&others))),
        ];
    }
    if args.hang {
        let others: Vec<u32> = servers.iter().copied().filter(|server| *server != world::ROOT).collect();
        return vec![("endless loops", every(exploration.poisoned_messages(&others, Cause::Hang)))];
    }
    if !args.exhaustive {
        let start = if args.start { 0 } else { exploration.clean.booted.iter().sum() };
        // Whatever the seed, programs see the same, so one run without crashes is enough to compare with.
        let all = Kind::value_variants();
        let kinds = if args.faults.is_empty() { all } else { &args.faults };
        let random = |number| {
            let seed = args.seed.wrapping_add(number);
            let kind = kinds[(seed % kinds.len() as u64) as usize];
            Plan::random(seed, kind, args.kills, start..exploration.traps())
        };
        return vec![("random", (0..args.runs).map(random).collect())];
    }
    let kills = exploration.singles(servers, true, Cause::Kill);
    let faults = exploration.singles(servers, true, Cause::Fault);
    let long = exploration.crashes_in_long_recoveries(servers);
    let somewhere = exploration.crashes_in_recovery(&kills);
    let pairs = exploration.pairs(&kills, args.window);
    vec![
        ("single kills", every(kills)),
        ("single faults", every(faults)),
        ("kills at every trap of long recoveries", every(long)),
        ("kills at one trap of each recovery", every(somewhere)),
        ("pairs of kills", every(pairs)),
    ]
}

/// Says what the run without crashes was.
fn describe(exploration: &Exploration) {
    let clean = &exploration.clean;
    println!(
        "seed {}: without crashes {:?} after {} ms of simulated time, {} messages, {} traps",
        exploration.seed,
        clean.end,
        clean.time_ns / 1_000_000,
        clean.messages.iter().sum::<u64>(),
        exploration.traps(),
    );
    println!("{:>8} {:>8} {:>8} {:>9} {:>9}", "server", "messages", "traps", "of start", "snapshots");
    for (place, name) in exploration.setup.names.iter().enumerate() {
        let (traps, booted) = (clean.traps[place], clean.booted[place]);
        println!(
            "{name:>8} {:>8} {traps:>8} {booted:>9} {:>9}",
            clean.messages[place], clean.snapshots[place]
        );
    }
}

/// One run, in detail.
fn one(exploration: &Exploration, plan: &Plan, args: &Args) -> Result<ExitCode> {
    let (outcome, difference) = exploration.check(plan);
    for (path, bytes) in [(&args.trace, outcome.trace.as_bytes()), (&args.records, &outcome.records[..])] {
        if let Some(path) = path {
            std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    print!("{}", outcome.log);
    println!(
        "{:?}, crashes that came about: {:?}, deaths {:?}",
        outcome.end, outcome.crashes, outcome.deaths
    );
    match difference {
        None => {
            println!("equal");
            Ok(ExitCode::SUCCESS)
        }
        Some(what) => {
            println!("different: {what}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn try_all(args: &Args, exploration: &Exploration, what: &str, plans: &[Plan]) -> bool {
    let jobs = args.jobs.or_else(|| std::thread::available_parallelism().ok().map(usize::from));
    let limit = Duration::from_secs(args.limit);
    let mut ticker = Ticker::new(what);
    let tally = exploration.try_all(plans, jobs.unwrap_or(1), limit, |tally, failure| {
        if let Some(Failure { plan, what, .. }) = failure {
            ticker.clear();
            println!("different: {}\n{}", command(args, exploration.setup, plan), indent(what));
        }
        ticker.tick(tally, plans.len());
    });
    Ticker::new(what).clear();
    let Tally { runs, equal, crashes, moments, left, time, deaths, classes, failures } = &tally;
    println!(
        "{what}: {runs} runs with {crashes} crashes in {:.1} s: {equal} equal, {} different",
        time.as_secs_f64(),
        failures.len(),
    );
    if *left > 0 {
        let why = if *time >= limit { "the time was up" } else { "enough was different" };
        println!("  {runs} of the {} runs that were wanted: {why}", plans.len());
    }
    let deaths = exploration.setup.names.iter().zip(deaths).map(|(name, deaths)| format!("{name} {deaths}"));
    println!("  deaths: {}", deaths.collect::<Vec<_>>().join(", "));
    let Moments { replaying, loading, saving, between_effects } = moments;
    println!(
        "  crashes in a replay: {replaying}, in the midst of reading a snapshot: {loading}, of making one: {saving}, \
         of an event, after one of its effects: {between_effects}"
    );
    describe_classes(classes);
    for failure in failures {
        let Failure { plan, what, .. } = exploration.shrink(failure);
        if plan != failure.plan {
            println!("shorter: {}\n{}", command(args, exploration.setup, &plan), indent(&what));
        }
    }
    failures.is_empty()
}

/// The command that repeats a run.
fn command(args: &Args, setup: &Setup, plan: &Plan) -> String {
    let mut command = format!("cargo xtask chaos --seed {}", plan.seed);
    let usual = Args::parse_from(["chaos"]);
    if args.scripts != usual.scripts {
        command += &format!(" --scripts {}", args.scripts.join(","));
    }
    if args.rounds != usual.rounds {
        command += &format!(" --rounds {}", args.rounds);
    }
    if let Some(kind) = plan.kind {
        command += &format!(" --faults {}", kind.name());
    }
    if plan.gives_up.is_some() {
        command += " --poison";
    }
    if args.sweep {
        command += " --sweep";
    }
    command + &format!(" --plan '{}'", plan.describe(setup))
}

/// Says what became of runs, by what struck in them.
fn describe_classes(classes: &BTreeMap<Kind, [u64; Class::ALL.len()]>) {
    if classes.is_empty() {
        return;
    }
    let percent = |part: u64, all: u64| format!("{part} ({:.2} %)", 100.0 * part as f64 / all as f64);
    let [transparent, contained, wrong, fatal] = Class::ALL.map(Class::name);
    println!("{:>8} {:>8} {transparent:>18} {contained:>16} {wrong:>16} {fatal:>16}", "", "runs");
    for (kind, counts) in classes {
        let all = counts.iter().sum();
        let [transparent, contained, wrong, fatal] = counts.map(|count| percent(count, all));
        println!("{:>8} {all:>8} {transparent:>18} {contained:>16} {wrong:>16} {fatal:>16}", kind.name());
    }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
