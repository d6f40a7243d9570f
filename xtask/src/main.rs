//! The command line of the house: `cargo xtask run|test|bench|trace|replay|chaos|setup`.
//!
//! It builds the kernel, the servers and a root file system, and drives QEMU. It never changes a file outside
//! `target/` and the temporary folder, except what `setup` installs after saying so.

#![forbid(unsafe_code)]

mod bench;
mod build;
mod bundle;
mod capture;
mod chaos;
mod cli;
mod console;
mod gdb;
mod house;
mod image;
mod machine;
mod qemu;
mod replay;
mod run;
mod script;
mod setup;
mod show;
mod sizes;
mod symbols;
mod system;
mod terminal;
mod test;
mod tree;

use std::process::ExitCode;

use clap::Parser;

/// The status with which xtask ends when it failed itself, apart from those of usual guest programs.
const FAILED: u8 = 125;

fn main() -> ExitCode {
    let outcome = match cli::Cli::parse().command {
        cli::Command::Setup => setup::ensure().map(|()| 0),
        cli::Command::Run(args) => run::run(&args),
        cli::Command::Replay(args) => replay::run(&args),
        cli::Command::Trace(args) => show::run(&args),
        cli::Command::Chaos(args) => chaos::run(&args),
        cli::Command::Test(args) => test::test(&args),
        cli::Command::Bench(args) => bench::bench(&args),
    };
    outcome.map_or_else(
        |error| {
            terminal::tell(&format!("xtask: {error:#}"));
            ExitCode::from(FAILED)
        },
        ExitCode::from,
    )
}
