//! The kernel's trace, made by the whole system: whole calls can be followed in it, whoever crashes.

use std::collections::{BTreeMap, BTreeSet};

use libipc::abi::syscall::Syscall;
use libipc::abi::trace::{Names, Reader, Record, What, Who};
use libipc::abi::{CallId, Kind};
use sim::plan::{Cause, Crash, Place, Plan};
use sim::workload;
use sim::world::{self, End, Outcome, Setup};

const READ: u32 = 0;
const OPEN: u32 = 2;

fn traced(scripts: &[&str], crashes: &[(&str, u64)]) -> (Setup, Outcome) {
    let scripts: Vec<String> = scripts.iter().map(|script| (*script).to_owned()).collect();
    let setup = workload::setup(&scripts, 1).unwrap();
    let crash = |(server, trap): &(&str, u64)| {
        let place = Place::Trap { server: setup.number(server).unwrap(), trap: *trap };
        Crash { place, cause: Cause::Kill }
    };
    let crashes = crashes.iter().map(crash).collect();
    let outcome = world::run(&setup, &Plan { trace: true, crashes, ..Plan::quiet(1) });
    assert_eq!(outcome.end, End::Off(0), "{}", outcome.log);
    (setup, outcome)
}

/// The records of a run, whole, with the servers' names.
fn records(outcome: &Outcome) -> (Names, Vec<Record<'_>>) {
    let reader = Reader::new(&outcome.records).unwrap();
    (reader.names.clone(), reader.map(|record| record.unwrap()).collect())
}

/// What is about a call, or was caused by it.
fn about<'a, 'r>(records: &'a [Record<'r>], call: CallId) -> impl Iterator<Item = &'a Record<'r>> {
    records.iter().filter(move |record| record.stamp.call == Some(call) || record.stamp.cause == Some(call))
}

/// The servers that are in the tree below a call, by what they did there.
fn tree(records: &[Record<'_>], call: CallId) -> BTreeSet<u32> {
    let (mut calls, mut servers, mut next) = (BTreeSet::new(), BTreeSet::new(), vec![call]);
    while let Some(call) = next.pop() {
        if !calls.insert(call) {
            continue;
        }
        for record in about(records, call) {
            if let Who::Server(number) = record.stamp.who {
                servers.insert(number);
            }
            next.extend(record.stamp.call.filter(|_| record.stamp.cause == Some(call)));
        }
    }
    servers
}

/// The calls of programs with a number: their names and where they began.
fn linux_calls(records: &[Record<'_>], number: u32) -> Vec<(CallId, usize)> {
    let calls = records.iter().enumerate().filter_map(|(place, record)| match record.what() {
        What::Linux { number: made, result: None, .. } if made == number => Some((record.stamp.call?, place)),
        _ => None,
    });
    calls.collect()
}

#[test]
fn one_read_of_a_file_on_a_disk_is_followed_from_the_program_through_ufs_to_blk_and_back() {
    let (_, outcome) = traced(&["disk"], &[]);
    let (names, records) = records(&outcome);
    let [ufs, blk] = ["ufs", "blk"].map(|name| names.number(name).unwrap());
    let reads = linux_calls(&records, READ);
    let (call, _) = reads.into_iter().find(|(call, _)| tree(&records, *call).contains(&blk)).unwrap();
    let story: Vec<(Who, What)> =
        about(&records, call).map(|record| (record.stamp.who, record.what())).collect();
    let place = |wanted: &dyn Fn(&Who, &What) -> bool| {
        let found = story.iter().position(|(who, what)| wanted(who, what));
        found.unwrap_or_else(|| panic!("it is not in {story:#?}"))
    };
    let by = |who: &Who, server| *who == Who::Server(server);
    let made = place(&|who, what| {
        matches!(what, What::Linux { to, .. } if u32::from(to.server) == ufs)
            && matches!(who, Who::Program { .. })
    });
    let asked = place(&|who, what| {
        matches!(what, What::Native { call: Syscall::Send, to: Some(to), .. } if u32::from(to.server) == blk)
            && by(who, ufs)
    });
    let came =
        place(&|who, what| matches!(what, What::Delivered { kind: Some(Kind::Call), .. } if by(who, blk)));
    let back =
        place(&|who, what| matches!(what, What::Delivered { kind: Some(Kind::Answer), .. } if by(who, ufs)));
    let copied =
        place(&|who, what| matches!(what, What::Native { call: Syscall::LeaseWrite, .. } if by(who, ufs)));
    let done =
        place(&|who, what| matches!(what, What::Native { call: Syscall::ReplyForeign, .. } if by(who, ufs)));
    assert!([made, asked, came, back, copied, done].is_sorted(), "{story:#?}");
    // The answer of blk is about the message that ufs had sent, which is caused by the read.
    let sent = about(&records, call).find_map(|record| match record.what() {
        What::Native { call: Syscall::Send, .. } => record.stamp.call,
        _ => None,
    });
    let answered = about(&records, sent.unwrap()).any(|record| {
        record.stamp.who == Who::Server(blk)
            && matches!(record.what(), What::Native { call: Syscall::Reply, error: None, .. })
    });
    assert!(answered);
}

#[test]
fn an_open_is_followed_from_vfs_to_the_file_server_it_is_handed_on_to() {
    let (_, outcome) = traced(&["disk"], &[]);
    let (names, records) = records(&outcome);
    let [vfs, ufs] = ["vfs", "ufs"].map(|name| names.number(name).unwrap());
    let opens = linux_calls(&records, OPEN);
    assert!(!opens.is_empty());
    for (call, place) in opens {
        let servers = tree(&records, call);
        assert!(servers.contains(&vfs) && servers.contains(&ufs), "{:?}", records[place]);
        let named = about(&records, call).any(|record| {
            matches!(record.what(), What::Delivered { kind: Some(Kind::Foreign), .. })
                && record.payload.starts_with(b"/data")
        });
        assert!(named, "the path is in the delivery");
    }
}

/// What must hold of the trace of any run.
fn check(records: &[Record<'_>]) {
    let mut open: BTreeMap<CallId, usize> = BTreeMap::new();
    let mut known = BTreeSet::new();
    let mut calling = BTreeMap::new();
    let mut time_ns = 0;
    for (place, record) in records.iter().enumerate() {
        assert!(record.stamp.time_ns >= time_ns, "time goes on: {record:?}");
        time_ns = record.stamp.time_ns;
        let call = record.stamp.call;
        match record.what() {
            What::Linux { result: None, .. } => {
                let call = call.expect("a call that is not answered has a name");
                assert!(known.insert(call), "no name is used twice: {record:?}");
                open.insert(call, place);
                assert_eq!(calling.insert(record.stamp.who, call), None, "a thread makes one call at a time");
            }
            What::Native { call: Syscall::Send | Syscall::Call, error: None, .. }
            | What::Fault { .. }
            | What::Attention { .. } => {
                assert!(known.insert(call.unwrap()), "no name is used twice: {record:?}");
            }
            What::Delivered { kind: Some(Kind::Call | Kind::Foreign | Kind::Fault), .. } => {
                assert!(known.contains(&call.unwrap()), "what is delivered was made: {record:?}");
            }
            _ => {}
        }
        let over = record.result().is_some() || matches!(record.what(), What::Forgotten { .. });
        if let Some(call) = call.filter(|call| over && open.remove(call).is_some()) {
            calling.retain(|_, made| *made != call);
        }
    }
    let left: Vec<_> = open.values().map(|place| &records[*place]).collect();
    assert!(left.len() <= 1, "every call is over, but for that which ended the machine: {left:#?}");
}

#[test]
fn every_call_of_every_program_is_made_once_and_is_over_once() {
    let (_, outcome) = traced(&[], &[]);
    let (_, records) = records(&outcome);
    assert!(records.len() > 4000, "{} records", records.len());
    check(&records);
}

#[test]
fn a_restart_is_in_the_trace_and_the_calls_that_it_interrupts_go_on_under_their_names() {
    let (setup, quiet) = traced(&["disk"], &[]);
    let middle = |server: &str| {
        let place = setup.number(server).unwrap() as usize - 1;
        (quiet.booted[place] + quiet.traps[place]) / 2
    };
    let (_, outcome) = traced(&["disk"], &[("ufs", middle("ufs")), ("vm", middle("vm"))]);
    let (names, records) = records(&outcome);
    check(&records);
    for (name, journaled) in [("ufs", false), ("vm", true)] {
        let number = names.number(name).unwrap();
        let place = |wanted: &dyn Fn(What) -> bool| records.iter().position(|record| wanted(record.what()));
        let died = place(&|what| matches!(what, What::ServerDied { server, .. } if server == number));
        let starts = place(&|what| what == What::ServerStarted { server: number, incarnation: 2 });
        let live = place(
            &|what| matches!(what, What::ServerLive { server, incarnation: 2, .. } if server == number),
        );
        assert!(died.is_some() && died < starts, "{name}");
        assert_eq!(live.is_some(), journaled, "{name}");
        assert!(!journaled || starts < live, "{name}");
    }
}
