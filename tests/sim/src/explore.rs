//! Many runs of one workload, each with other crashes, and what became of them.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::oracle::{Class, class, difference, torn_log, unbearable, uncontained, unserved};
use crate::plan::{Cause, Crash, Kind, Place, Plan};
use crate::random::Random;
use crate::world::{self, End, Moments, Outcome, Setup};

/// Different runs that are kept to be shown; after so many an exploration stops.
const FAILURES_MAX: usize = 20;
/// Places spread over a server's run from which it recovers with a crash at every trap.
const PLACES: u64 = 12;
/// Most traps by which a server reads its snapshot.
const LOADING_TRAPS: u64 = 4;
/// Most runs spent on making a failure's schedule shorter.
const SHRINKING_MAX: usize = 200;
/// Most time spent on it. Runs that never end take long.
const SHRINKING_TIME: Duration = Duration::from_secs(60);

/// A workload and what its run without crashes came to.
pub struct Exploration<'s> {
    /// The machine and its programs.
    pub setup: &'s Setup,
    /// The seed of all runs.
    pub seed: u64,
    /// Servers sweep after every recovery.
    pub sweeps: bool,
    /// The run without crashes.
    pub clean: Outcome,
}

/// A run that came to something else.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Which of the plans it was.
    pub number: usize,
    /// Its plan, as short as it could be made.
    pub plan: Plan,
    /// What is different.
    pub what: String,
}

/// What became of many runs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Runs.
    pub runs: usize,
    /// Runs that came to the same as the one without crashes.
    pub equal: usize,
    /// Crashes that came about.
    pub crashes: u64,
    /// Deaths, by server.
    pub deaths: Vec<u64>,
    /// At which moments crashes came about.
    pub moments: Moments,
    /// What became of runs, by what struck in them: so many of each class.
    pub classes: BTreeMap<Kind, [u64; Class::ALL.len()]>,
    /// Those that did not, in the order of their plans.
    pub failures: Vec<Failure>,
    /// The time they took.
    pub time: Duration,
    /// Plans that were not tried, since time was up or too much was different.
    pub left: usize,
}

/// Runs a plan; a panic of the kernel itself is an end like any other.
pub fn run(setup: &Setup, plan: &Plan) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| world::run(setup, plan))).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        Outcome::ended(setup, End::Panic(words.unwrap_or_default()))
    })
}

impl<'s> Exploration<'s> {
    /// Runs the workload without crashes.
    pub fn new(setup: &'s Setup, seed: u64) -> Exploration<'s> {
        Exploration { setup, seed, sweeps: false, clean: run(setup, &Plan::quiet(seed)) }
    }

    /// Traps of all servers in the run without crashes.
    pub fn traps(&self) -> u64 {
        self.clean.traps.iter().sum()
    }

    /// Every single crash of these servers: at every trap of the run without crashes, or only after the start.
    pub fn singles(&self, servers: &[u32], start: bool, cause: Cause) -> Vec<Plan> {
        let mut plans = Vec::new();
        for server in servers {
            let place = *server as usize - 1;
            let first = if start { 0 } else { self.clean.booted[place] };
            for trap in first + 1..=self.clean.traps[place] {
                let crash = Crash { place: Place::Trap { server: *server, trap }, cause };
                plans.push(Plan { seed: self.seed, crashes: vec![crash], ..Plan::default() });
            }
        }
        plans
    }

    /// These servers being given up, each at every one of its traps.
    pub fn poisons(&self, servers: &[u32]) -> Vec<Plan> {
        let plans = self.singles(servers, false, Cause::Fault).into_iter();
        let poison = |plan: Plan| match plan.crashes.first()?.place {
            Place::Trap { server, trap } => Some(Plan::poison(self.seed, server, trap)),
            Place::Later(_) => None,
        };
        plans.filter_map(poison).collect()
    }

    /// Every message of these servers being poison.
    pub fn poisoned_messages(&self, servers: &[u32], cause: Cause) -> Vec<Plan> {
        let plans = self.singles(servers, false, cause).into_iter();
        let poisoned = |plan: Plan| match plan.crashes.first()?.place {
            Place::Trap { server, trap } => Some(Plan::poison_message(self.seed, server, trap, cause)),
            Place::Later(_) => None,
        };
        plans.filter_map(poisoned).collect()
    }

    /// A second crash after each of these plans, at every one of the next traps that servers make.
    pub fn pairs(&self, singles: &[Plan], window: u64) -> Vec<Plan> {
        let pair = |single: &Plan, traps| {
            let mut plan = single.clone();
            plan.crashes.push(Crash { place: Place::Later(traps), cause: Cause::Kill });
            plan
        };
        singles.iter().flat_map(|single| (1..=window).map(move |traps| pair(single, traps))).collect()
    }

    /// Where the longest recoveries of a server begin: its last trap, places spread over its run, and right before and
    /// after each snapshot of its.
    fn long_recoveries(&self, server: u32) -> Vec<u64> {
        let place = server as usize - 1;
        let (traps, commits) = (self.clean.traps[place], &self.clean.commits[place]);
        let spread = (1..=PLACES).map(|part| traps * part / PLACES);
        let around = commits.iter().flat_map(|commit| [commit - 1, *commit, commit + 1]);
        let places: BTreeSet<u64> = spread.chain(around).filter(|trap| (1..=traps).contains(trap)).collect();
        places.into_iter().collect()
    }

    /// How many traps a server makes at most before it stands again where it died: those since its last snapshot, and
    /// those that read one.
    fn recovery(&self, server: u32, trap: u64) -> u64 {
        let commits = &self.clean.commits[server as usize - 1];
        trap - commits.iter().rfind(|commit| **commit <= trap).unwrap_or(&0) + LOADING_TRAPS
    }

    /// A second crash at every trap of the longest recoveries of these servers.
    pub fn crashes_in_long_recoveries(&self, servers: &[u32]) -> Vec<Plan> {
        let places = |server: &u32| {
            let server = *server;
            let first = self.long_recoveries(server).into_iter();
            first.flat_map(move |trap| {
                (1..=self.recovery(server, trap)).map(move |later| (server, trap, later))
            })
        };
        servers.iter().flat_map(places).map(|(server, trap, later)| self.twice(server, trap, later)).collect()
    }

    /// A second crash somewhere in the recovery from each of these plans.
    pub fn crashes_in_recovery(&self, singles: &[Plan]) -> Vec<Plan> {
        let mut random = Random::new(self.seed);
        let twice = |single: &Plan| match single.crashes.first()?.place {
            Place::Trap { server, trap } => {
                let later = 1 + random.below(self.recovery(server, trap));
                Some(self.twice(server, trap, later))
            }
            Place::Later(_) => None,
        };
        singles.iter().filter_map(twice).collect()
    }

    /// A server dies at a trap, and again so many of its traps later.
    fn twice(&self, server: u32, trap: u64, later: u64) -> Plan {
        let kill = |trap| Crash { place: Place::Trap { server, trap }, cause: Cause::Kill };
        Plan { seed: self.seed, crashes: vec![kill(trap), kill(trap + later)], ..Plan::default() }
    }

    /// What a power cut leaves of the log, with a second run that starts from there.
    fn check_log(&self, plan: &Plan) -> (Outcome, Option<String>) {
        let cut = run(self.setup, plan);
        let setup = Setup { log: cut.log_disk.clone(), ..self.setup.clone() };
        // Calls are numbered alike in both.
        let next = run(&setup, &Plan::quiet(!plan.seed));
        let wrong = match (&cut.end, &next.end) {
            (End::PowerCut | End::Off(0), End::Off(0)) => torn_log(&self.clean, &cut, &next),
            ends => Some(format!("the runs ended with {ends:?}")),
        };
        (cut, wrong)
    }

    /// What is different in a run of this plan, or, where it makes root give a server up, not contained.
    pub fn check(&self, plan: &Plan) -> (Outcome, Option<String>) {
        let plan = &Plan { sweeps: self.sweeps, ..plan.clone() };
        if plan.crashes.iter().any(|crash| crash.cause == Cause::Power) {
            return self.check_log(plan);
        }
        let outcome = run(self.setup, plan);
        let inexact = plan.kind.filter(|kind| kind.worst() > Class::Transparent);
        let difference = match (plan.gives_up, plan.poisons, inexact) {
            (Some(server), ..) => uncontained(self.setup, &outcome, server),
            (None, Some(server), _) => unserved(self.setup, &outcome, server),
            (None, None, Some(kind)) => unbearable(&self.clean, &outcome, kind),
            (None, None, None) => difference(self.setup, &self.clean, &outcome),
        };
        (outcome, difference)
    }

    /// Runs all these plans on so many host threads, until the time is up or too much is different. What is found
    /// does not depend on the threads. After each run `tell` is given what there is so far, and the run's difference.
    pub fn try_all(
        &self,
        plans: &[Plan],
        jobs: usize,
        limit: Duration,
        tell: impl FnMut(&Tally, Option<&Failure>) + Send,
    ) -> Tally {
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let begin = Instant::now();
        let deaths = vec![0; self.setup.names.len()];
        let shared = Mutex::new((Tally { deaths, ..Tally::default() }, tell));
        std::thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let Some(plan) = plans.get(number) else { return };
                        let (outcome, difference) = self.check(plan);
                        let failure = difference.map(|what| Failure { number, plan: plan.clone(), what });
                        let Ok(mut shared) = shared.lock() else { return };
                        let (tally, tell) = &mut *shared;
                        tally.count(self, &outcome, plan, failure.clone());
                        let enough = tally.failures.len() >= FAILURES_MAX || begin.elapsed() >= limit;
                        stop.fetch_or(enough, Ordering::Relaxed);
                        tell(tally, failure.as_ref());
                    }
                });
            }
        });
        let mut tally = shared.into_inner().map(|(tally, _)| tally).unwrap_or_default();
        tally.failures.sort_by_key(|failure| failure.number);
        tally.time = begin.elapsed();
        tally.left = plans.len() - tally.runs;
        tally
    }

    /// The shortest schedule that can be found which still makes a difference.
    pub fn shrink(&self, failure: &Failure) -> Failure {
        let mut best = failure.clone();
        let mut left = SHRINKING_MAX;
        let begin = Instant::now();
        'again: loop {
            for without in 0..best.plan.crashes.len() {
                let mut plan = best.plan.clone();
                let gone = plan.crashes.remove(without);
                // The next one stays where it was, as nearly as can be.
                if let (Place::Later(before), Some(Crash { place: Place::Later(traps), .. })) =
                    (gone.place, plan.crashes.get_mut(without))
                {
                    *traps += before;
                }
                if left == 0 || plan.crashes.is_empty() || begin.elapsed() >= SHRINKING_TIME {
                    return best;
                }
                left -= 1;
                if let (_, Some(what)) = self.check(&plan) {
                    best = Failure { plan, what, ..best };
                    continue 'again;
                }
            }
            return best;
        }
    }
}

impl Tally {
    fn count(
        &mut self,
        exploration: &Exploration<'_>,
        outcome: &Outcome,
        plan: &Plan,
        failure: Option<Failure>,
    ) {
        self.runs += 1;
        if let Some(kind) = plan.kind {
            let class = match (kind, &failure) {
                // Programs do not outlive it.
                (Kind::Power, None) => Class::Transparent,
                (Kind::Power, Some(_)) => Class::Fatal,
                _ => class(&exploration.clean, outcome),
            };
            self.classes.entry(kind).or_default()[class as usize] += 1;
        }
        self.crashes += u64::from(outcome.crashes.iter().sum::<u32>());
        self.moments.add(outcome.moments);
        for (sum, [outside, own]) in self.deaths.iter_mut().zip(&outcome.deaths) {
            *sum += u64::from(outside + own);
        }
        match failure {
            None => self.equal += 1,
            Some(failure) => self.failures.push(failure),
        }
    }
}
