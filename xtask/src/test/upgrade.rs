//! A fixed server takes the place of one with a bug while programs run: what killed the old one each time is served by
//! the new one, and nothing else is different. What the bug has cost is given back.

use anyhow::Result;

use super::TIMEOUT_S;
use crate::{cli::RunArgs, run::Built, script};

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

/// Runs the script on a server with a bug.
pub fn prove(built: &Built) -> Result<()> {
    let args = RunArgs { images: true, ..RunArgs::limited(TIMEOUT_S) };
    script::run(&built.clone().with_seeded_bug()?, &args, SCRIPT)?.must(0, SHOWN.as_bytes())
}
