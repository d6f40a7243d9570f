//! `cargo xtask test`: every kind of test, one after the other, and one line with the sum.

mod book;
mod browser;
mod cores;
mod epitaph;
mod linux;
mod live;
mod model;
mod perfetto;
mod poison;
mod prompt;
mod replay;
mod report;
mod roots;
mod scenario;
mod sim;
mod storm;
mod strace;
mod trace;
mod unit;
mod upgrade;

use std::env;

use anyhow::Result;
use clap::Parser;

use crate::{
    cli::{RunArgs, TestArgs, TestKind},
    house, machine,
    run::Built,
    setup,
};
pub use report::difference;
use report::{Report, Tally};

/// Runs the tests and returns the status to end with: 0 when all passed.
pub fn test(args: &TestArgs) -> Result<u8> {
    // Scenarios name files relative to the repository.
    env::set_current_dir(house::root())?;
    setup::ensure()?;
    let wanted = |kind| args.kind.is_none_or(|only| only == kind);
    let filter = args.filter.as_deref();
    let mut report = Report::default();
    if wanted(TestKind::Unit) {
        unit::run(filter, &mut report);
    }
    if wanted(TestKind::Model) && machine::interrupted().is_none() {
        model::run(filter, &mut report);
    }
    if wanted(TestKind::Sim) && machine::interrupted().is_none() {
        sim::run(filter, &mut report);
    }
    if (wanted(TestKind::Linux) || wanted(TestKind::Qemu)) && machine::interrupted().is_none() {
        match Built::new() {
            Ok(built) => {
                for (kind, run) in KINDS {
                    if wanted(kind) && machine::interrupted().is_none() {
                        run(&built, filter, &mut report).unwrap_or_else(|error| {
                            report.failed(&format!("{kind:?}").to_lowercase(), &format!("{error:#}"));
                        });
                    }
                }
            }
            Err(error) => report.failed("build", &format!("{error:#}")),
        }
    }
    let Tally { passed, failed } = report.finish();
    println!("{passed} passed, {failed} failed");
    Ok(machine::interrupted().map_or(u8::from(failed > 0), machine::Ending::status))
}

type Kind = fn(&Built, Option<&str>, &mut Report) -> Result<()>;

/// What runs in QEMU.
const KINDS: [(TestKind, Kind); 15] = [
    (TestKind::Linux, linux::run),
    (TestKind::Qemu, scenario::run),
    (TestKind::Qemu, replay::run),
    (TestKind::Qemu, trace::run),
    (TestKind::Qemu, strace::run),
    (TestKind::Qemu, poison::run),
    (TestKind::Qemu, cores::run),
    (TestKind::Qemu, live::run),
    (TestKind::Qemu, epitaph::run),
    (TestKind::Qemu, upgrade::run),
    (TestKind::Qemu, roots::run),
    (TestKind::Qemu, book::run),
    (TestKind::Qemu, browser::run),
    (TestKind::Qemu, storm::run),
    (TestKind::Qemu, prompt::run),
];

/// Arguments of `run` as a test gives them.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Arguments {
    #[command(flatten)]
    run: RunArgs,
}
