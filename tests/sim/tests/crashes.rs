//! What the simulator itself must be able to do: repeat a run exactly, see nothing where nothing is wrong, and see what
//! is wrong.

use libipc::manifest::Class;
use sim::assembler::{self, Arg, Assembler, nr};
use sim::cpu::Reg;
use sim::explore::Exploration;
use sim::image;
use sim::incarnation::Version;
use sim::oracle;
use sim::plan::{Cause, Crash, Kind, Place, Plan, Upgrade};
use sim::workload;
use sim::world::{self, End, Outcome, Setup};

fn kill(setup: &Setup, server: &str, trap: u64) -> Plan {
    let server = setup.number(server).expect("the server is known");
    let crash = Crash { place: Place::Trap { server, trap }, cause: Cause::Kill };
    Plan { crashes: vec![crash], ..Plan::quiet(1) }
}

#[test]
fn every_server_has_something_to_do_and_every_program_ends_well() {
    let setup = workload::setup(&[], 1).unwrap();
    let outcome = world::run(&setup, &Plan::quiet(1));
    assert_eq!(outcome.end, End::Off(0), "{}", outcome.log);
    let idle =
        (1..).zip(&outcome.messages).find(|(number, messages)| *number != world::ROOT && **messages < 20);
    assert_eq!(idle, None);
    assert_eq!(outcome.log, "");
}

#[test]
fn a_plan_is_one_run_and_another_seed_another() {
    let setup = workload::setup(&[], 1).unwrap();
    let traced = |plan: Plan| world::run(&setup, &Plan { trace: true, ..plan }).trace;
    let random = |seed| Plan::random(seed, Kind::Kill, 5, 1000..2000);
    assert_eq!(traced(random(1)), traced(random(1)));
    assert_ne!(traced(Plan::quiet(1)), traced(Plan::quiet(2)));
}

#[test]
fn programs_see_the_same_whatever_the_seed() {
    let setup = workload::setup(&[], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    for seed in 2..6 {
        assert_eq!(exploration.check(&Plan::quiet(seed)).1, None, "seed {seed}");
    }
}

#[test]
fn no_program_notices_a_crash_of_any_server() {
    let setup = workload::setup(&[], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    for (number, traps) in (1..).zip(&exploration.clean.traps) {
        let plan = kill(&setup, setup.name(number), traps / 2);
        let (outcome, difference) = exploration.check(&plan);
        assert_eq!(
            (outcome.crashes[Cause::Kill as usize], difference),
            (1, None),
            "{}",
            plan.describe(&setup)
        );
    }
}

/// A server is upgraded at that of its traps, and somebody dies then.
fn upgrade(server: u32, trap: u64, version: Version, crash: Option<Crash>) -> Plan {
    let upgrades = vec![Upgrade { server, trap, version }];
    Plan { upgrades, crashes: crash.into_iter().collect(), ..Plan::quiet(1) }
}

/// The servers that can be upgraded, and a trap of each in the middle of its work.
fn upgradable(exploration: &Exploration<'_>) -> impl Iterator<Item = (u32, u64)> {
    let traps = (1..).zip(exploration.clean.traps.clone());
    let booted = exploration.clean.booted.clone();
    let middle = move |(number, traps): (u32, u64)| (number, (booted[number as usize - 1] + traps) / 2);
    traps.filter(|(number, _)| *number != world::ROOT).map(middle)
}

#[test]
fn no_program_notices_that_a_server_goes_on_in_another_image() {
    let setup = workload::setup(&[], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    for (server, trap) in upgradable(&exploration) {
        let plan = upgrade(server, trap, Version::Next, None);
        let (outcome, difference) = exploration.check(&plan);
        assert_eq!(difference, None, "{}: {}", plan.describe(&setup), outcome.log);
        assert_eq!(outcome.upgrades[server as usize - 1], 1, "{}: {}", plan.describe(&setup), outcome.log);
    }
}

#[test]
fn no_program_notices_an_image_that_cannot_start() {
    let setup = workload::setup(&[], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    for (server, trap) in upgradable(&exploration) {
        let plan = upgrade(server, trap, Version::Misfit, None);
        let (outcome, difference) = exploration.check(&plan);
        assert_eq!(difference, None, "{}: {}", plan.describe(&setup), outcome.log);
        assert_eq!((outcome.misfits, &outcome.upgrades[..]), (1, &vec![0; setup.names.len()][..]));
    }
}

#[test]
fn no_program_notices_a_crash_in_the_middle_of_an_upgrade() {
    let setup = workload::setup(&[], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    let root = exploration.clean.traps[world::ROOT as usize - 1];
    for (server, trap) in upgradable(&exploration) {
        let own = (1..16).map(|later| (server, trap + later));
        let roots = (1..48).step_by(3).map(|later| (world::ROOT, root + later));
        for (who, trap_of_crash) in own.chain(roots) {
            for cause in [Cause::Kill, Cause::Fault] {
                let crash = Crash { place: Place::Trap { server: who, trap: trap_of_crash }, cause };
                let plan = upgrade(server, trap, Version::Next, Some(crash));
                let (outcome, difference) = exploration.check(&plan);
                assert_eq!(difference, None, "{}: {}", plan.describe(&setup), outcome.log);
                // An image that faults on trial makes room for the old one.
                let upgrades = outcome.upgrades[server as usize - 1];
                let wanted = if cause == Cause::Fault { 0..=1 } else { 1..=1 };
                assert!(wanted.contains(&upgrades), "{}: {}", plan.describe(&setup), outcome.log);
            }
        }
    }
}

#[test]
fn a_server_that_is_given_up_takes_no_other_with_it() {
    let setup = workload::setup(&[], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    for (number, traps) in (1..).zip(&exploration.clean.traps).filter(|(number, _)| *number != world::ROOT) {
        let plan = Plan::poison(1, number, traps - traps / 4);
        let (outcome, harm) = exploration.check(&plan);
        assert_eq!(harm, None, "{}", plan.describe(&setup));
        // As each is somewhere else: six from the last state, five more from the one before it, if there is one, and
        // five where the journal has been passed over. Without a journal it depends on how many calls there are to be
        // answered errors first.
        assert!((3..=16).contains(&outcome.crashes[Cause::Fault as usize]), "{}", plan.describe(&setup));
        // A server without a journal has calls that can be answered errors first.
        let reissued = ["blk", "ufs", "logfile"].contains(&setup.name(number));
        assert!(reissued || outcome.log.contains("is given up"), "{}", outcome.log);
    }
}

#[test]
fn an_exact_recovery_leaves_nothing_that_is_nobodys() {
    let setup = workload::setup(&[], 1).unwrap();
    let exploration = Exploration { sweeps: true, ..Exploration::new(&setup, 1) };
    let traps = exploration.clean.booted.iter().sum()..exploration.traps();
    for kind in [Kind::Kill, Kind::Fault, Kind::Loop] {
        for seed in 0..12 {
            let plan = Plan::random(seed, kind, 4, traps.clone());
            assert_eq!(exploration.check(&plan).1, None, "{}", plan.describe(&setup));
        }
    }
}

#[test]
fn what_a_server_had_done_about_a_message_that_it_cannot_bear_does_not_take_it_away() {
    let setup = workload::setup(&[], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    let mut broken_off = 0;
    for name in ["vm", "proc", "tmpfs", "tty", "vfs", "procfs"] {
        let number = setup.number(name).unwrap();
        let place = number as usize - 1;
        let (first, last) = (exploration.clean.booted[place], exploration.clean.traps[place]);
        for trap in (first + 1..last).step_by(((last - first) / 20).max(1) as usize) {
            let plan = Plan::poison_message(1, number, trap, Cause::Late);
            let (outcome, harm) = exploration.check(&plan);
            assert_eq!(harm, None, "{}: {}", plan.describe(&setup), outcome.log);
            broken_off += u32::from(outcome.log.contains("event broken off"));
        }
    }
    assert!(broken_off > 10, "{broken_off}");
}

#[test]
fn a_message_that_no_incarnation_can_bear_takes_no_server_away() {
    let setup = workload::setup(&[], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    for cause in [Cause::Poison, Cause::Hang] {
        for (number, traps) in
            (1..).zip(&exploration.clean.traps).filter(|(number, _)| *number != world::ROOT)
        {
            let plan = Plan::poison_message(1, number, traps - traps / 4, cause);
            let (outcome, harm) = exploration.check(&plan);
            assert_eq!(harm, None, "{}", plan.describe(&setup));
            assert!(outcome.deaths[number as usize - 1][1] >= 2, "{}", plan.describe(&setup));
            assert!(outcome.log.contains("dies of one event again"), "{}", outcome.log);
        }
    }
}

#[test]
fn without_a_vital_server_the_machine_stops() {
    let setup = workload::setup(&[], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    for name in ["proc", "vm"] {
        let number = setup.number(name).unwrap();
        let traps = exploration.clean.traps[number as usize - 1];
        let (outcome, _) = exploration.check(&Plan::poison(1, number, traps / 2));
        assert_eq!(outcome.end, End::Off(126), "{name}");
        assert!(outcome.log.contains(&format!("without {name} no program can go on")), "{}", outcome.log);
    }
}

/// The seeds of these many random runs of a kind that came to something unbearable.
fn unborne(exploration: &Exploration<'_>, kind: Kind, runs: u64) -> Vec<u64> {
    let traps = exploration.clean.booted.iter().sum()..exploration.traps();
    let fails = |seed: &u64| exploration.check(&Plan::random(*seed, kind, 4, traps.clone())).1.is_some();
    (0..runs).filter(fails).collect()
}

#[test]
fn what_stops_a_server_is_seen_by_no_program() {
    let setup = workload::setup(&[], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    for kind in [Kind::Kill, Kind::Fault, Kind::Loop] {
        assert_eq!(unborne(&exploration, kind, 20), [], "{}", kind.name());
    }
}

#[test]
fn damage_and_a_failing_disk_are_borne() {
    let setup = workload::setup(&[], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    for kind in [Kind::Torn, Kind::Wild, Kind::Disk] {
        assert_eq!(unborne(&exploration, kind, 20), [], "{}", kind.name());
    }
}

#[test]
fn a_snapshot_that_is_damaged_is_not_started_from() {
    let setup = workload::setup(&[], 2).unwrap();
    let exploration = Exploration::new(&setup, 1);
    let server = setup.number("proc").unwrap();
    let trap = exploration.clean.traps[server as usize - 1] * 9 / 10;
    let crash = Crash { place: Place::Trap { server, trap }, cause: Cause::Torn };
    let (outcome, difference) = exploration.check(&Plan { crashes: vec![crash], ..Plan::quiet(1) });
    assert!(outcome.log.contains("snapshot is damaged"), "{}", outcome.log);
    assert_eq!(difference, None);
}

#[test]
fn what_was_made_durable_outlives_a_power_cut() {
    let setup = workload::setup(&["log".to_owned()], 2).unwrap();
    let exploration = Exploration::new(&setup, 1);
    assert_eq!(unborne(&exploration, Kind::Power, 30), []);
}

#[test]
fn a_log_that_has_lost_something_is_found_out() {
    let setup = workload::setup(&["log".to_owned()], 2).unwrap();
    let clean = Exploration::new(&setup, 1).clean;
    assert_eq!(logfile::record::all(&clean.log_disk).count(), 12);
    let mut twice = setup.clone();
    twice.log = clean.log_disk.clone();
    let next = world::run(&twice, &Plan::quiet(2));
    assert_eq!(oracle::torn_log(&clean, &clean, &next), None);
    let empty = Outcome { log_disk: image::log(), ..clean.clone() };
    let lost = oracle::torn_log(&clean, &empty, &clean).expect("nothing is there");
    assert_eq!(lost, "of 12 appends that were made durable 0 are there\n");
    let doubled = oracle::torn_log(&clean, &next, &next).expect("it is there twice");
    assert!(doubled.starts_with("the log is not what was appended"), "{doubled}");
}

#[test]
fn a_server_that_forgets_is_found_out() {
    let only = ["pipes".to_owned()];
    let sound = workload::setup(&only, 1).unwrap();
    let mut manifest = image::manifest().unwrap();
    let tmpfs = manifest.servers.iter_mut().find(|server| server.name == "tmpfs").unwrap();
    (tmpfs.class, tmpfs.journal_kib, tmpfs.snapshot_kib) = (Class::Reissued, 0, 0);
    let forgetful = Setup::new(&manifest, "/init", sound.volume.clone(), Vec::new()).unwrap();
    let exploration = Exploration::new(&forgetful, 1);
    assert_eq!(exploration.clean.end, End::Off(0));
    let traps = exploration.clean.traps[forgetful.number("tmpfs").unwrap() as usize - 1];
    let (outcome, difference) = exploration.check(&kill(&forgetful, "tmpfs", traps / 2));
    assert_eq!(outcome.crashes[Cause::Kill as usize], 1);
    assert_ne!(difference, None);
}

/// Faults without progress after which root gives vfs up.
const GIVES_VFS_UP: &str =
    "vfs@24!,vfs@25!,vfs@26!,vfs@27!,vfs@28!,vfs@29!,vfs@30!,vfs@31!,vfs@32!,vfs@33!,vfs@34!";

#[test]
fn a_schedule_is_made_as_short_as_it_can_be() {
    let setup = workload::setup(&["pipes".to_owned()], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    let text = format!("+400,+200,{GIVES_VFS_UP},+9");
    let plan = Plan::parse(1, &text, &setup).unwrap();
    assert_eq!(plan.describe(&setup).to_string(), text);
    let (_, what) = exploration.check(&plan);
    let failure = sim::explore::Failure { number: 0, plan, what: what.expect("vfs is given up") };
    let short = exploration.shrink(&failure);
    assert_eq!(short.plan.describe(&setup).to_string(), GIVES_VFS_UP);
}

#[test]
fn what_is_found_does_not_depend_on_how_many_threads_look() {
    let setup = workload::setup(&["pipes".to_owned()], 1).unwrap();
    let exploration = Exploration::new(&setup, 1);
    let kind = |seed: u64| [Kind::Kill, Kind::Wild, Kind::Torn][(seed % 3) as usize];
    let mut plans: Vec<Plan> =
        (1..40).map(|seed| Plan::random(seed, kind(seed), 4, 1000..exploration.traps())).collect();
    // So that there is something to be found.
    plans.extend((40..44).map(|seed| Plan::parse(seed, GIVES_VFS_UP, &setup).unwrap()));
    let limit = std::time::Duration::from_secs(600);
    let found = |jobs| {
        let mut told = Vec::new();
        let tally = exploration.try_all(&plans, jobs, limit, |_, failure| told.extend(failure.cloned()));
        told.sort_by_key(|failure| failure.number);
        assert_eq!(told, tally.failures);
        (tally.runs, tally.equal, tally.crashes, tally.deaths, tally.classes, tally.failures)
    };
    let alone = found(1);
    assert!(alone.5.len() >= 4);
    assert_eq!(alone, found(3));
}

/// A program that forks until it must not, and how much memory the process server has for its journal and snapshots.
fn bomb(journal_kib: u32, snapshot_kib: u32) -> Setup {
    let mut a = Assembler::new();
    a.set(Reg::R15, Arg::N(1));
    a.repeat(Reg::Rbx, 1000, |a| {
        a.fork(Arg::N(1), |a| a.call(nr::PAUSE, &[]));
    });
    a.exit(Arg::N(0));
    let mut manifest = image::manifest().unwrap();
    let proc = manifest.servers.iter_mut().find(|server| server.name == "proc").unwrap();
    (proc.journal_kib, proc.snapshot_kib) = (journal_kib, snapshot_kib);
    let volume = image::volume(&[("init", a.finish())]).unwrap();
    Setup::new(&manifest, "/init", volume, Vec::new()).unwrap()
}

#[test]
fn a_server_whose_state_outgrows_its_snapshots_refuses_new_work_and_lives() {
    let [little, much] = [(64, 24), (512, 768)].map(|(journal_kib, snapshot_kib)| {
        let setup = bomb(journal_kib, snapshot_kib);
        let outcome = world::run(&setup, &Plan::quiet(1));
        assert_eq!(outcome.end, End::Off(assembler::REFUSED as u32), "{}", outcome.log);
        assert_eq!(outcome.log, "");
        let proc = setup.number("proc").unwrap() as usize - 1;
        outcome.messages[proc]
    });
    assert!(little < much, "with more room there are more processes: {little} and {much} messages");
}
