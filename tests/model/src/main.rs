//! Explores every configuration, and prints how many states there were: `cargo run --release -p model`.

use std::process::ExitCode;

use clap::Parser;
use model::configurations::{CONFIGURATIONS, LARGE};
use model::setting::Setting;
use model::{Exploration, explore};

/// Every interleaving of a parent with two threads, its children and a grandchild.
#[derive(Parser)]
struct Arguments {
    /// Only configurations whose name contains this
    filter: Option<String>,
    /// The large ones as well, which take minutes and gigabytes
    #[arg(long)]
    large: bool,
    /// Threads to explore with
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let large = if arguments.large { LARGE } else { &[] };
    let filter = arguments.filter.unwrap_or_default();
    let chosen = CONFIGURATIONS.iter().chain(large).filter(|it| it.name.contains(&filter));
    println!(
        "{:16} {:>10} {:>11} {:>11} {:>8}",
        "configuration", "states", "transitions", "crashes", "seconds"
    );
    let mut good = true;
    for configuration in chosen {
        let setting = Setting { configuration: *configuration, without: None };
        let Exploration { states, transitions, crashes, time, discoveries } =
            explore(setting, None, arguments.threads);
        let seconds = time.as_secs_f64();
        println!("{:16} {states:>10} {transitions:>11} {crashes:>11} {seconds:>8.1}", configuration.name);
        for (sentence, path) in &discoveries {
            println!("    it does not hold that {sentence}:");
            path.iter().for_each(|action| println!("        {action:?}"));
        }
        good &= discoveries.is_empty();
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
