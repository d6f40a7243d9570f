//! A fixed server takes the place of one with a bug while programs run: what killed the old one each time is served by
//! the new one, and nothing else is different. What the bug has cost is given back.

use anyhow::{Result, ensure};
use clap::Parser;

use super::{
    Arguments,
    report::{Report, difference},
};
use crate::{
    machine::{Ending, Terminal},
    run::{self, Built},
};

const NAME: &str = "upgrade: a fixed server takes the place of one with a bug while programs run";
const TIMEOUT_S: u64 = 240;
/// Objects are counted before and after, by a shell that has done all it does once.
const SCRIPT: &str = "cd /tmp
objects() {
    sed -n '/^mapped\\|^page tables\\|^tasks\\|^threads\\|^spaces\\|^tables\\|^sessions\\|^calls\\|^handles/p' \
        /proc/naiad/counters
}
hostname panic 2>&1; echo panic: $?
objects > before; objects > before
for i in 1 2 3 4 5; do hostname panic 2> why || cat why; done
objects > after
cmp before after && echo nothing is left behind
(i=0; while [ $i -lt 50 ]; do echo line $i | tr a-z A-Z; i=$((i+1)); done | md5sum > sum) &
upgrade proc; echo upgrade: $?
wait; cat sum
hostname panic; echo panic: $?; hostname
echo crash > /proc/naiad/servers/proc/ctl
hostname panic; echo panic: $?
sed -n 's/^image: *//p' /proc/naiad/servers/proc/status | sed 's/.*, //'
";
const SHOWN: &str = "hostname: sethostname: Input/output error
panic: 1
hostname: sethostname: Input/output error
hostname: sethostname: Input/output error
hostname: sethostname: Input/output error
hostname: sethostname: Input/output error
hostname: sethostname: Input/output error
nothing is left behind
upgrade: 0
15685edd9fc9df307444a7525f390968  -
panic: 0
panic
panic: 0
upgraded 1 times
";
/// Runs the test, if its name contains `filter`.
pub fn run(built: &Built, filter: Option<&str>, report: &mut Report) -> Result<()> {
    if !NAME.contains(filter.unwrap_or_default()) {
        return Ok(());
    }
    report.start("upgrade", 1);
    match prove(built.clone()) {
        Ok(()) => report.passed(NAME),
        Err(error) => report.failed(NAME, &format!("{error:#}")),
    }
    Ok(())
}

fn prove(built: Built) -> Result<()> {
    let built = built.with_seeded_bug()?;
    let mut args = Arguments::try_parse_from(["--images"])?.run;
    args.timeout = Some(TIMEOUT_S);
    let session = run::session(Some(SCRIPT), (24, 80), "dumb");
    let (mut output, mut log) = (Vec::new(), Vec::new());
    let mut note = |line: &str| log.push(line.to_owned());
    let ending = built.boot(&args, &session, Terminal::Captured(&mut output), &mut note)?;
    let log = log.join("\n");
    ensure!(
        ending == Ending::Status(0),
        "the machine ended with status {}; its log:\n{log}",
        ending.status()
    );
    if let Some(difference) = difference(SHOWN.as_bytes(), &output) {
        anyhow::bail!("{difference}\nthe log:\n{log}");
    }
    Ok(())
}
