//! What can be typed behind `cargo xtask`.

use std::{path::PathBuf, str::FromStr};

use clap::{Args, Parser, Subcommand, ValueEnum};
use libipc::abi::Injection;

/// The command line as a whole.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", about = "Builds, runs and tests Naiad.", max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// One verb.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Boot Naiad in QEMU, to a shell or for one command
    Run(RunArgs),
    /// Run the tests; the last line says how many passed and failed
    Test(TestArgs),
    /// Count instructions per operation, beside those of seL4 and Linux
    Bench(BenchArgs),
    /// Run servers again on this machine, over journals copied from /proc/naiad/servers/NAME/journal
    Replay(ReplayArgs),
    /// Show what `run --trace` has recorded: as tables, trees, pictures, and files for other tools
    Trace(TraceArgs),
    /// Crash servers, and compare what programs saw with a run without crashes
    Chaos(ChaosArgs),
    /// Install the Debian packages that the other commands need
    Setup,
}

/// The arguments of `run`, and of a scenario's `args` line.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Run this command with /bin/sh and exit with its status
    #[arg(short = 'c', value_name = "COMMAND", allow_hyphen_values = true)]
    pub command: Option<String>,
    /// The root file system: a folder, packed into an image, or an image (IMG:rw lets the guest change it)
    #[arg(long, value_name = "DIR|IMG")]
    pub root: Option<PathBuf>,
    /// Put a file or folder of the host into the root file system
    #[arg(long, value_name = "HOST:GUEST")]
    pub add: Vec<Addition>,
    /// A further disk (IMG:rw lets the guest change it)
    #[arg(long, value_name = "IMG")]
    pub disk: Vec<PathBuf>,
    /// The machine's architecture
    #[arg(long, value_enum, default_value = "x86_64")]
    pub arch: Arch,
    /// Processors
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub smp: u32,
    /// Memory in MiB
    #[arg(long, value_name = "MiB", default_value_t = 256)]
    pub mem: u32,
    /// Record whatever the kernel does into a file, while the machine runs
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Record no more than this: any of servers=NAME,… pids=N,… calls=NAME,… natives=NAME,…
    #[arg(long, value_name = "FILTER", default_value = "", hide_default_value = true, requires = "trace")]
    pub trace_filter: String,
    /// End the machine after so many seconds, with status 124
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Run with time slices and timers of other lengths, which follow from N: threads are interrupted elsewhere
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Build proc with bugs to be found: `hostname panic` kills it each time, `spin` makes it loop, and `lost` is lost
    #[arg(long)]
    pub seeded_bug: bool,
    /// Put the servers' images, as they are in the sources, into the guest's /boot: `upgrade NAME` takes them
    #[arg(long)]
    pub images: bool,
    /// Wait for a debugger on port 1234 before the first instruction
    #[arg(long)]
    pub gdb: bool,
    /// One instruction is one nanosecond: counts repeat exactly
    #[arg(long, hide = true)]
    pub icount: bool,
    /// Have the kernel panic after so many seconds: its epitaph is to be seen
    #[arg(long, value_name = "SECONDS", hide = true)]
    pub panic: Option<u32>,
    /// Arguments for QEMU
    #[arg(last = true, value_name = "QEMU arguments")]
    pub qemu: Vec<String>,
}

impl RunArgs {
    /// Reads what could stand behind `run`.
    ///
    /// # Errors
    /// When it could not.
    pub fn parse(words: &[impl AsRef<str>]) -> Result<Self, clap::Error> {
        Ok(Line::try_parse_from(words.iter().map(AsRef::as_ref))?.run)
    }

    /// Nothing said but after how many seconds the machine is ended.
    pub fn limited(timeout_s: u64) -> Self {
        // No argument is required, so that this cannot fail.
        Self { timeout: Some(timeout_s), ..Line::parse_from([""; 0]).run }
    }
}

/// A line that begins with the first argument of `run`.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    run: RunArgs,
}

/// A machine that Naiad may run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Arch {
    #[value(name = "x86_64")]
    X86_64,
    #[value(name = "i386")]
    I386,
}

/// A file of the host and its path in the guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Addition {
    pub host: PathBuf,
    pub guest: PathBuf,
}

impl FromStr for Addition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.rsplit_once(':').filter(|(host, guest)| !host.is_empty() && guest.starts_with('/'));
        let (host, guest) = parts.ok_or("expected HOST:GUEST, where GUEST is an absolute path")?;
        Ok(Self { host: host.into(), guest: guest.into() })
    }
}

/// The arguments of `replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// A file with one journal, or several one behind the other
    pub file: PathBuf,
    /// Stop after so many messages; with --gdb, before message N
    #[arg(long, value_name = "N")]
    pub until: Option<u64>,
    /// Print the messages, and what became of each, without running anything
    #[arg(long)]
    pub list: bool,
    /// Print the server's state at the end
    #[arg(long)]
    pub state: bool,
    /// Print each message, or those in a range, with all that it changed in the server's state
    #[arg(long, value_name = "N..M", num_args = 0..=1, default_missing_value = "..")]
    pub diff: Option<Range>,
    /// With --list or --diff: only the last N messages
    #[arg(long, value_name = "N", conflicts_with = "until")]
    pub last: Option<u64>,
    /// Print also the traps that the server made for each message
    #[arg(long)]
    pub traps: bool,
    /// Run the server under gdb, up to its panic or to the message that --until names
    #[arg(long)]
    pub gdb: bool,
    /// What runs is being debugged: however long a message takes, it does not hang
    #[arg(long, hide = true)]
    pub debugged: bool,
    /// Arguments for gdb
    #[arg(last = true, value_name = "gdb arguments")]
    pub gdb_arguments: Vec<String>,
}

/// Numbers of messages, from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub first: u64,
    pub last: u64,
}

impl Range {
    pub fn has(self, number: u64) -> bool {
        (self.first..=self.last).contains(&number)
    }
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str, missing| match text {
            "" => Ok(missing),
            text => text.parse().map_err(|_| format!("expected N..M, and `{text}` is no number")),
        };
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        let range = Range { first: number(first, 1)?, last: number(last, u64::MAX)? };
        if range.first > range.last {
            return Err(format!("expected N..M, where M is not below N, and not {text}"));
        }
        Ok(range)
    }
}

/// The arguments of `trace`.
#[derive(Args, Debug)]
pub struct TraceArgs {
    /// What `run --trace` has written
    pub file: PathBuf,
    #[command(subcommand)]
    pub form: Option<Form>,
}

/// How a trace is shown.
#[derive(Subcommand, Debug)]
pub enum Form {
    /// Per server and operation: how often, errors, how long, how much work
    Summary {
        /// Only of what fulfils this, as for grep
        expression: Vec<String>,
    },
    /// Calls below the calls that caused them
    Tree(TreeArgs),
    /// Everything that fulfils an expression, a line each
    #[command(after_help = trace::select::HELP)]
    Grep {
        /// server=ufs and (failed or latency>1ms)
        #[arg(required = true)]
        expression: Vec<String>,
    },
    /// A sequence diagram (SVG)
    Seq(Picture),
    /// A file for ui.perfetto.dev and its trace processor
    Perfetto(Picture),
    /// A capture of all records for Wireshark and tshark, and the dissector that reads it
    Pcapng {
        /// The file to write
        output: PathBuf,
        /// Where the dissector goes, rather than beside it
        #[arg(long, value_name = "FILE")]
        dissector: Option<PathBuf>,
    },
    /// One page to look at in a browser: timeline, search, messages, causes and effects
    Html(Picture),
}

/// The arguments of `trace FILE tree`.
#[derive(Args, Debug)]
pub struct TreeArgs {
    /// Only this call, by its name (#…), and what it caused
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Only what this process did, and what was done for it
    #[arg(long, value_name = "PID")]
    pub pid: Option<u32>,
    /// Only programs' calls, in the lines of strace -f
    #[arg(long)]
    pub strace: bool,
    /// Servers' system calls that send nothing, too
    #[arg(long)]
    pub traps: bool,
    /// Only what fulfils this, as for grep, and what it caused
    pub expression: Vec<String>,
}

/// The arguments of the forms that are files.
#[derive(Args, Debug)]
pub struct Picture {
    /// The file to write
    pub output: PathBuf,
    /// Only of what fulfils this, as for grep
    pub expression: Vec<String>,
}

/// The arguments of `chaos`.
#[derive(Args, Debug)]
#[command(disable_help_flag = true)]
pub struct ChaosArgs {
    /// In the simulator, where no machine is meant
    #[arg(long)]
    pub sim: bool,
    /// In a machine, where servers fail at any instruction and by faults of every kind
    #[arg(long, conflicts_with = "sim")]
    pub qemu: bool,
    /// Arguments for the simulator or the storm in the machine: --help shows them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "arguments")]
    pub arguments: Vec<String>,
}

/// The arguments of `chaos --qemu`.
#[derive(Parser, Clone, Debug)]
#[command(name = "cargo xtask chaos --qemu", about = "Crash servers of a machine while programs work.")]
pub struct StormArgs {
    /// What fails when and how follows from N
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// How many servers fail
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub kills: u32,
    /// Which servers; all, unless said otherwise
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    pub servers: Vec<String>,
    /// How they fail: kill, ud2, load, stack, heap, divide, and loop, which needs somebody who notices
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', default_value = "kill,ud2,load,stack,heap,divide",
          value_parser = fault)]
    pub faults: Vec<Injection>,
    /// End the machine after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 1800)]
    pub timeout: u64,
}

fn fault(name: &str) -> Result<Injection, String> {
    let known = || Injection::NAMES.map(|(name, _)| name).join(", ");
    Injection::named(name).ok_or_else(|| format!("the faults are {}", known()))
}

/// The arguments of `test`.
#[derive(Args, Debug)]
pub struct TestArgs {
    /// Only this kind of tests
    pub kind: Option<TestKind>,
    /// Only tests whose name contains this
    pub filter: Option<String>,
}

/// The arguments of `bench`.
#[derive(Args, Debug)]
pub struct BenchArgs {
    /// Only rows whose name contains this
    pub filter: Option<String>,
    /// Print the rows as JSON
    #[arg(long)]
    pub json: bool,
    /// Only the kernel's own operations
    #[arg(long)]
    pub kernel: bool,
    /// How much code each server has for recovery alone, instead
    #[arg(long)]
    pub sizes: bool,
    /// Arguments for QEMU
    #[arg(last = true, value_name = "QEMU arguments")]
    pub qemu: Vec<String>,
}

/// Kinds of tests, from the quickest to the slowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TestKind {
    /// Formatting, lints, and the crates' own tests on the host
    Unit,
    /// The model of waits, explored as a whole
    Model,
    /// Crashes of servers in the simulator: a sample
    Sim,
    /// Linux programs that must behave in Naiad as they do on the host
    Linux,
    /// What takes whole machines: scenarios (tests/qemu/*.sh), replays, a storm
    Qemu,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn run_without_arguments_has_the_documented_defaults() {
        let args = RunArgs::limited(7);
        assert_eq!(args.timeout, Some(7));
        assert_eq!((args.command, args.mem, args.smp, args.arch), (None, 256, 1, Arch::X86_64));
    }

    #[test]
    fn all_flags_of_run_are_read() {
        let line = "-c -x --root r --add a:/b --add c:d:/e --disk 1 --disk 2 --mem 64 --timeout 9 \
                    --seed 18446744073709551615 --gdb -- -d int";
        let line: Vec<&str> = ["xtask", "run"].into_iter().chain(line.split(' ')).collect();
        let Command::Run(args) = Cli::try_parse_from(&line).unwrap().command else {
            panic!("`run` was read as something else")
        };
        assert_eq!(args.command.as_deref(), Some("-x"));
        let addition = |host: &str, guest: &str| Addition { host: host.into(), guest: guest.into() };
        assert_eq!(args.add, [addition("a", "/b"), addition("c:d", "/e")]);
        assert_eq!(args.disk, [PathBuf::from("1"), PathBuf::from("2")]);
        assert_eq!((args.mem, args.timeout, args.seed, args.gdb), (64, Some(9), Some(u64::MAX), true));
        assert_eq!(args.qemu, ["-d", "int"]);
    }

    #[test]
    fn what_follows_chaos_is_the_simulators() {
        let line = "xtask chaos --sim --seed 3 --exhaustive --help";
        let Command::Chaos(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("`chaos` was read as something else")
        };
        assert!(args.sim && !args.qemu);
        assert_eq!(args.arguments, ["--seed", "3", "--exhaustive", "--help"]);
    }

    #[test]
    fn a_storm_has_every_fault_but_the_endless_loop_unless_faults_are_named() {
        let storm = |line: &str| StormArgs::try_parse_from(format!("x {line}").split_ascii_whitespace());
        let plain = storm("").unwrap();
        assert_eq!((plain.seed, plain.kills, plain.servers.len()), (1, 100, 0));
        assert!(!plain.faults.contains(&Injection::Loop) && plain.faults.len() == 6);
        let named = storm("--seed 7 --kills 9 --servers vm,proc --faults loop,ud2").unwrap();
        assert_eq!(named.servers, ["vm", "proc"]);
        assert_eq!(named.faults, [Injection::Loop, Injection::Undefined]);
        assert!(storm("--faults ud3").unwrap_err().to_string().contains("heap"));
    }

    #[test]
    fn an_addition_needs_an_absolute_guest_path() {
        for text in ["a", "a:", "a:b", ":/b"] {
            assert!(RunArgs::parse(&["--add", text]).is_err(), "{text}");
        }
    }

    #[test]
    fn a_range_of_messages_may_lack_either_end() {
        let range = |text: &str| text.parse::<Range>();
        assert_eq!(range("3..7"), Ok(Range { first: 3, last: 7 }));
        assert_eq!(range("..7"), Ok(Range { first: 1, last: 7 }));
        assert_eq!(range(".."), Ok(Range { first: 1, last: u64::MAX }));
        assert_eq!(range("5"), Ok(Range { first: 5, last: 5 }));
        assert!(range("7..3").is_err() && range("x").is_err());
    }

    #[test]
    fn an_unknown_architecture_is_refused() {
        assert!(RunArgs::parse(&["--arch", "vax"]).is_err());
    }
}
