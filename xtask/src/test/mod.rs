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
mod workers;

use std::env;

use anyhow::Result;

use crate::{
    cli::{TestArgs, TestKind},
    house, machine,
    run::Built,
    setup,
};
pub use report::difference;
use report::{Report, Tally};
use workers::two_at_a_time;

type Kind = fn(&Built, &mut Report) -> Result<()>;

/// What runs in QEMU.
const KINDS: [(TestKind, Kind); 4] = [
    (TestKind::Linux, linux::run),
    (TestKind::Qemu, scenario::run),
    (TestKind::Qemu, roots::run),
    (TestKind::Qemu, proofs),
];

/// A sentence, and what proves it in a machine or two.
type Proof = (&'static str, fn(&Built) -> Result<()>);

/// Those of which two run at a time.
const PAIRED: [Proof; 9] = [
    ("replay: every journaled server ends on the host in the state it had in the machine", replay::prove),
    ("trace: a machine that is ended by its time limit leaves its trace", trace::survives),
    ("trace: what was recorded inside can be read inside", trace::shows),
    ("strace: every call of a pipeline is there as on the host, in every form", strace::prove),
    (
        "poison: a call that kills its server each time is an error to its caller, and can be replayed",
        poison::prove,
    ),
    ("cores: gdb opens what failing programs and servers leave, with the right backtrace", cores::prove),
    ("live: gdb tells of a running machine who waits for whom, and walks the stack of a server", live::prove),
    ("epitaph: a kernel that panics tells the line of code, who ran, and the last records", epitaph::prove),
    (
        "storm: programs do not notice servers that fail at any instruction, and nothing is left of it",
        storm::prove,
    ),
];
/// Those that run alone: they measure time, type as fast as a person does, or build what others boot.
const ALONE: [Proof; 6] = [
    ("trace: of a million messages none is lost", trace::streams),
    ("page: a browser shows 100,000 messages in 3 seconds, finds one, and follows its cause", browser::prove),
    ("book: from a crash to the line of code, by the book's commands, with what the book shows", book::crash),
    ("book: every form of a trace, by the book's commands, with what the book shows", book::trace),
    ("upgrade: a fixed server takes the place of one with a bug while programs run", upgrade::prove),
    ("prompt: a person works at the shell while seven servers are killed again and again", prompt::prove),
];
/// After so many seconds a proof's machine is ended.
const TIMEOUT_S: u64 = 240;

/// Runs the tests and returns the status to end with: 0 when all passed.
pub fn test(args: &TestArgs) -> Result<u8> {
    // Scenarios name files relative to the repository.
    env::set_current_dir(house::root())?;
    setup::ensure()?;
    let wanted = |kind| args.kind.is_none_or(|only| only == kind);
    let mut report = Report::new(args.filter.as_deref());
    if wanted(TestKind::Unit) {
        unit::run(&mut report);
    }
    if wanted(TestKind::Model) {
        model::run(&mut report);
    }
    if wanted(TestKind::Sim) {
        sim::run(&mut report);
    }
    if (wanted(TestKind::Linux) || wanted(TestKind::Qemu)) && machine::interrupted().is_none() {
        match Built::new() {
            Ok(built) => {
                for (kind, run) in KINDS.into_iter().filter(|(kind, _)| wanted(*kind)) {
                    if let Err(error) = run(&built, &mut report) {
                        report.failed(&format!("{kind:?}").to_lowercase(), &format!("{error:#}"));
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

/// Runs the proofs that are asked for.
fn proofs(built: &Built, report: &mut Report) -> Result<()> {
    let mut paired = PAIRED.to_vec();
    paired.retain(|(name, _)| report.wants(name));
    report.start("proofs", paired.len() + ALONE.iter().filter(|(name, _)| report.wants(name)).count());
    two_at_a_time(&paired, |(_, prove)| prove(built), |(name, _), verdict| report.judge(name, verdict));
    for (name, prove) in ALONE {
        report.prove(name, || prove(built));
    }
    Ok(())
}
