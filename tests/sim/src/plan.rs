//! Who dies when: everything about a run that is not the same in all of them.
//!
//! A plan is written as it is read: `vfs@123` kills vfs right after its 123rd trap, `+5` then kills whichever server
//! makes the fifth trap after that (one that recovers, most often), and a `!` behind either makes the server fault
//! instead, right before the trap. With `&` it loops there, until the watchdog finds it. A `*` makes the next message
//! that the server receives poison: it faults, in each incarnation, as soon as it has it. With `~` it loops for ever
//! instead; with `$` it does all about it that it would, but for its last trap, and faults then. `vfs^123` upgrades
//! vfs at that trap, and `vfs^123!` tries to, with an image that cannot start.
//!
//! Not all faults are deaths. With `?` something writes into the server's own memory, with `%` into the memory from
//! which it would be started again, and then it is killed. With `#` the disk fails for a while, and with `=` power
//! fails.

use std::fmt;
use std::ops::Range;

use crate::incarnation::Version;
use crate::oracle::Class;
use crate::random::Random;
use crate::world::Setup;

/// What strikes in a random run, beside kills.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, clap::ValueEnum)]
pub enum Kind {
    /// Nothing else.
    Kill,
    /// Servers fault, and a kill is soon after.
    Fault,
    /// A server loops.
    Loop,
    /// Something writes into a server's memory.
    Wild,
    /// Something writes into a server's snapshot.
    Torn,
    /// The disk fails.
    Disk,
    /// Power fails while the log is written; it must be there when the machine is started again.
    Power,
}

impl Kind {
    /// The cause that it is about, and how often it may be in one run. A server that faults once more before it has
    /// received anything new is given up, as one that dies of the same event again and again.
    fn strikes(self) -> (Cause, u32) {
        match self {
            Kind::Kill => (Cause::Kill, 0),
            Kind::Fault => (Cause::Fault, 2),
            Kind::Loop => (Cause::Loop, 1),
            Kind::Wild => (Cause::Wild, 1),
            Kind::Torn => (Cause::Torn, 1),
            Kind::Disk => (Cause::Disk, 2),
            Kind::Power => (Cause::Power, 1),
        }
    }

    /// The worst that may become of a run. What writes over a server's memory may make it tell lies before it dies.
    pub fn worst(self) -> Class {
        match self {
            Kind::Kill | Kind::Fault | Kind::Loop | Kind::Power => Class::Transparent,
            Kind::Torn | Kind::Disk => Class::Contained,
            Kind::Wild => Class::Wrong,
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kill => "kill",
            Kind::Fault => "fault",
            Kind::Loop => "loop",
            Kind::Wild => "wild",
            Kind::Torn => "torn",
            Kind::Disk => "disk",
            Kind::Power => "power",
        }
    }
}

/// After so many faults in one place without progress root gives a server up, having taken it one snapshot back and
/// passed over its journal.
const GIVEN_UP_AFTER: u64 = 16;

/// Why a server dies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cause {
    /// It is killed right after a trap of its has been carried out: between this effect and the next.
    Kill,
    /// It faults where it would have made the trap.
    Fault,
    /// The next message that it receives makes it fault, whenever it has it.
    Poison,
    /// The next message that it receives makes it loop for ever, whenever it has it.
    Hang,
    /// The next message that it receives makes it fault, whenever it has done nearly all about it.
    Late,
    /// It loops instead of making the trap.
    Loop,
    /// A byte or word of its own memory changes: of its state, or of its message buffer.
    Wild,
    /// A byte or word of its snapshot changes, and it is killed.
    Torn,
    /// The disk fails the commands it has and some that follow.
    Disk,
    /// Power fails.
    Power,
}

impl Cause {
    /// All, with the marks by which a plan tells them.
    const MARKS: [(Cause, &str); Cause::COUNT] = [
        (Cause::Kill, ""),
        (Cause::Fault, "!"),
        (Cause::Poison, "*"),
        (Cause::Hang, "~"),
        (Cause::Late, "$"),
        (Cause::Loop, "&"),
        (Cause::Wild, "?"),
        (Cause::Torn, "%"),
        (Cause::Disk, "#"),
        (Cause::Power, "="),
    ];

    /// How many there are.
    pub const COUNT: usize = 10;

    fn mark(self) -> &'static str {
        Cause::MARKS.iter().find(|(cause, _)| *cause == self).map_or("", |(_, mark)| mark)
    }
}

/// Where a crash is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Place {
    /// At a server's trap, counted from 1 over all its incarnations.
    Trap {
        /// The server's number.
        server: u32,
        /// Which trap.
        trap: u64,
    },
    /// At so many traps of all servers together after the crash before, or after the start.
    Later(u64),
}

/// One crash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Crash {
    /// Where.
    pub place: Place,
    /// How.
    pub cause: Cause,
}

/// One upgrade: at a server's trap, it is to go on in an image of this version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Upgrade {
    /// The server's number.
    pub server: u32,
    /// Which trap, counted from 1 over all its incarnations.
    pub trap: u64,
    /// What the image stands for.
    pub version: Version,
}

impl Upgrade {
    /// Reads one.
    fn parse(word: &str, setup: &Setup) -> Option<Upgrade> {
        let (name, trap) = word.split_once('^')?;
        let (trap, version) =
            trap.strip_suffix('!').map_or((trap, Version::Next), |trap| (trap, Version::Misfit));
        Some(Upgrade { server: setup.number(name)?, trap: trap.parse().ok()?, version })
    }
}

/// A run's seed and its crashes, which come about one after the other.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// What decides slices, delays and costs.
    pub seed: u64,
    /// Who dies when.
    pub crashes: Vec<Crash>,
    /// Who is upgraded when.
    pub upgrades: Vec<Upgrade>,
    /// The server that is to be given up: the run is not to come to the same, only to do no harm to others.
    pub gives_up: Option<u32>,
    /// The server that meets poison: it is to live on, and to do no harm to others than who sent it.
    pub poisons: Option<u32>,
    /// What strikes, of a random plan.
    pub kind: Option<Kind>,
    /// Servers sweep after every recovery, also an exact one: there must be nothing to be found.
    pub sweeps: bool,
    /// Whether every trap is written down.
    pub trace: bool,
}

impl Plan {
    /// No crash at all.
    pub fn quiet(seed: u64) -> Plan {
        Plan { seed, ..Plan::default() }
    }

    /// Crashes at distances that follow from the seed: the first anywhere in a range of traps, the others over about
    /// the rest of it. The first is what the kind says, and few of the others; so many are kills at most.
    pub fn random(seed: u64, kind: Kind, kills: u64, traps: Range<u64>) -> Plan {
        let mut random = Random::new(seed);
        let (cause, most) = kind.strikes();
        let mut struck = 0;
        let length = traps.end.saturating_sub(traps.start).max(2);
        let more = if most == 0 { kills } else { 1 + random.below(kills + 1) };
        let crashes = (0..more).map(|number| {
            // Crashes soon after another are as frequent as ones a long time after.
            let bits = random.below(u64::from(length.ilog2()) + 1);
            let distance = match number {
                0 => traps.start + random.below(length),
                _ => random.below(1 << bits),
            };
            // Nothing comes after a power cut.
            let first = if cause == Cause::Power { number + 1 == more } else { number == 0 };
            let strikes = struck < most && (first || cause != Cause::Power && random.below(4) == 0);
            struck += u32::from(strikes);
            let cause = if strikes { cause } else { Cause::Kill };
            Crash { place: Place::Later(1 + distance), cause }
        });
        Plan { seed, kind: Some(kind), crashes: crashes.collect(), ..Plan::default() }
    }

    /// A server that faults at a trap, and again in each incarnation, until it is given up.
    pub fn poison(seed: u64, server: u32, trap: u64) -> Plan {
        let fault = |again| Crash { place: Place::Trap { server, trap: trap + again }, cause: Cause::Fault };
        Plan {
            seed,
            crashes: (0..GIVEN_UP_AFTER).map(fault).collect(),
            gives_up: Some(server),
            ..Plan::default()
        }
    }

    /// A server that receives, after a trap, a message that kills it each time, or at which it loops for ever.
    pub fn poison_message(seed: u64, server: u32, trap: u64, cause: Cause) -> Plan {
        let crashes = vec![Crash { place: Place::Trap { server, trap }, cause }];
        Plan { seed, crashes, poisons: Some(server), ..Plan::default() }
    }

    /// The server that dies first, if it is named.
    pub fn first_server(&self) -> Option<u32> {
        match self.crashes.first()?.place {
            Place::Trap { server, .. } => Some(server),
            Place::Later(_) => None,
        }
    }

    /// Reads the crashes of a plan.
    ///
    /// # Errors
    /// A word is no crash, or the server is not known.
    pub fn parse(seed: u64, text: &str, setup: &Setup) -> anyhow::Result<Plan> {
        let crash = |word: &str| {
            let marked = Cause::MARKS.iter().skip(1);
            let marked = marked.filter_map(|(cause, mark)| Some((word.strip_suffix(mark)?, *cause))).next();
            let (place, cause) = marked.unwrap_or((word, Cause::Kill));
            let place = match place.split_once('@') {
                Some((name, trap)) => Place::Trap { server: setup.number(name)?, trap: trap.parse().ok()? },
                None => Place::Later(place.strip_prefix('+')?.parse().ok()?),
            };
            Some(Crash { place, cause })
        };
        let words = text.split([',', ' ']).filter(|word| !word.is_empty());
        let (upgrades, words): (Vec<&str>, Vec<&str>) = words.partition(|word| word.contains('^'));
        let upgrades = upgrades.into_iter().map(|word| {
            let upgrade = Upgrade::parse(word, setup);
            upgrade.ok_or_else(|| anyhow::anyhow!("`{word}` is no upgrade such as vfs^123 or vfs^123!"))
        });
        let upgrades = upgrades.collect::<anyhow::Result<_>>()?;
        let crashes = words.into_iter().map(|word| {
            crash(word).ok_or_else(|| anyhow::anyhow!("`{word}` is no crash such as vfs@123, +5 or +5!"))
        });
        Ok(Plan { seed, upgrades, crashes: crashes.collect::<anyhow::Result<_>>()?, ..Plan::default() })
    }

    /// The crashes in words.
    pub fn describe<'a>(&'a self, setup: &'a Setup) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| {
            for Upgrade { server, trap, version } in &self.upgrades {
                let mark = if *version == Version::Misfit { "!" } else { "" };
                write!(f, "{}^{trap}{mark},", setup.name(*server))?;
            }
            for (number, crash) in self.crashes.iter().enumerate() {
                let mark = crash.cause.mark();
                let comma = if number > 0 { "," } else { "" };
                match crash.place {
                    Place::Trap { server, trap } => write!(f, "{comma}{}@{trap}{mark}", setup.name(server))?,
                    Place::Later(traps) => write!(f, "{comma}+{traps}{mark}")?,
                }
            }
            Ok(())
        })
    }
}

/// A plan being followed.
#[derive(Clone, Debug)]
pub struct Progress<'p> {
    left: &'p [Crash],
    /// Faults are one that repeats, not each another.
    pub one_fault: bool,
    /// Traps of all servers since the last crash.
    since: u64,
    /// Crashes that came about, by cause.
    pub done: [u32; Cause::COUNT],
}

impl<'p> Progress<'p> {
    /// The plan's beginning.
    pub fn new(plan: &'p Plan) -> Progress<'p> {
        Progress {
            left: &plan.crashes,
            one_fault: plan.gives_up.is_some(),
            since: 0,
            done: [0; Cause::COUNT],
        }
    }

    /// Whether something of this cause has come about.
    pub fn came(&self, cause: Cause) -> bool {
        self.done[cause as usize] > 0
    }

    /// A server makes a trap, so many it has made with it. Whether it dies of it, and how.
    pub fn trap(&mut self, server: u32, trap: u64) -> Option<Cause> {
        self.since += 1;
        let (next, rest) = self.left.split_first()?;
        let here = match next.place {
            Place::Trap { .. } => next.place == Place::Trap { server, trap },
            Place::Later(traps) => self.since == traps,
        };
        if !here {
            return None;
        }
        (self.left, self.since) = (rest, 0);
        self.done[next.cause as usize] += 1;
        Some(next.cause)
    }
}
