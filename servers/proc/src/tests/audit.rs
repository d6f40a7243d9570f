//! What must hold after every step, whatever happened: the sentences of the crate's documentation, and that every
//! index says what the table says.

use std::collections::{BTreeMap, BTreeSet};

use crate::Proc;
use crate::family::{Audit, Target};
use crate::id::{INIT, Pgid, Pid, Sid, Tid};
use crate::process::{Life, Process};
use crate::thread::{On, Waiting};
use crate::wait::WaitFor;

use super::world::World;

pub fn check(world: &World) {
    let proc = &world.proc;
    families_say_what_the_table_says(proc);
    groups_say_what_the_table_says(proc);
    every_process_has_a_living_parent(proc);
    waits_are_parked_for_a_reason(proc);
    calls_and_threads_belong_together(proc);
    stops_are_complete(world);
    tracers_know_whom_they_trace(proc);
    shared_rows_have_as_many_users_as_they_count(proc);
}

fn families_say_what_the_table_says(proc: &Proc) {
    let mut expected: BTreeMap<Pid, Audit> = BTreeMap::new();
    for process in proc.processes.values().filter(|it| it.is_visible() && it.pid != INIT) {
        let member = process.member();
        let audit = expected.entry(process.parent).or_default();
        audit.children.insert((member.class.creator, member.pid));
        *audit.classes.entry(member.class).or_insert(0) += 1;
        if member.news {
            audit.news.insert((member.sequence, member.pid));
            audit.group_news.insert((member.class.pgid, member.sequence, member.pid));
        }
    }
    for process in proc.processes.values() {
        let expected = expected.remove(&process.pid).unwrap_or_default();
        assert_eq!(process.family.audit(), expected, "family of {:?}", process.pid);
    }
    assert!(expected.is_empty(), "children of nobody: {expected:?}");
}

fn groups_say_what_the_table_says(proc: &Proc) {
    let mut groups: BTreeMap<Pgid, (Sid, BTreeSet<Pid>, u32)> = BTreeMap::new();
    let mut sessions: BTreeMap<Sid, BTreeSet<Pgid>> = BTreeMap::new();
    for process in proc.processes.values() {
        let group = groups.entry(process.pgid).or_insert((process.sid, BTreeSet::new(), 0));
        assert_eq!(group.0, process.sid, "a group lies in one session");
        group.1.insert(process.pid);
        group.2 += u32::from(matches!(process.life, Life::Stopped { .. }));
        sessions.entry(process.sid).or_default().insert(process.pgid);
    }
    let table = proc.groups.iter().map(|(pgid, it)| (*pgid, (it.sid, it.members.clone(), it.stopped)));
    assert_eq!(table.collect::<BTreeMap<_, _>>(), groups);
    assert_eq!(proc.sessions, sessions);
}

fn every_process_has_a_living_parent(proc: &Proc) {
    // An embryo whose maker has ended is taken back when vm has answered.
    for process in proc.processes.values().filter(|process| process.is_visible()) {
        let parent = proc.processes.get(&process.parent).expect("a parent");
        assert!(!parent.is_zombie(), "{:?} is the child of a zombie", process.pid);
        if process.is_zombie() {
            let departed = proc.departed.contains_key(&Tid(process.pid.0));
            assert!(process.threads.is_empty() && (process.parent != INIT || departed));
            assert!(process.news.is_some() != departed, "a zombie that nobody can reap, or two");
        } else if process.pid != INIT {
            assert!(!process.threads.is_empty(), "{:?} lives without a thread", process.pid);
        }
    }
}

/// Nobody sleeps while there is something for it, nor when nothing will ever come. Said without the indices.
fn waits_are_parked_for_a_reason(proc: &Proc) {
    for thread in proc.threads.values() {
        let Some(Waiting { on: On::Child(wait), .. }) = &thread.waiting else { continue };
        let children = proc.processes.values().filter(|it| it.parent == thread.pid && it.is_visible());
        let concerned: Vec<&Process> = children.filter(|child| is_concerned(wait, child)).collect();
        let tracees = proc.processes[&thread.pid].tracees.iter();
        let traced: Vec<&Tid> = tracees.filter(|tid| proc.concerns_tracee(wait, **tid)).collect();
        assert!(!concerned.is_empty() || !traced.is_empty(), "{:?} waits for nothing", thread.tid);
        for tid in traced {
            assert!(proc.news_of_tracee(*tid).is_none(), "{:?} sleeps while {tid:?} has news", thread.tid);
        }
        for child in concerned {
            assert!(!wait.wants(child), "{:?} sleeps while {:?} has news", thread.tid, child.pid);
        }
    }
}

fn is_concerned(wait: &WaitFor, child: &Process) -> bool {
    let named = match wait.target {
        Target::Any => true,
        Target::Process(pid) => child.pid == pid,
        Target::Group(pgid) => child.pgid == pgid,
    };
    named && wait.accepts(&child.member().class)
}

fn calls_and_threads_belong_together(proc: &Proc) {
    let waiting =
        proc.threads.values().filter_map(|it| it.waiting.as_ref().map(|waiting| (waiting.call, it.tid)));
    assert_eq!(proc.calls, waiting.collect(), "parked calls");
    for thread in proc.threads.values() {
        let process = proc.processes.get(&thread.pid).expect("a thread has a process");
        assert!(process.threads.contains(&thread.tid));
    }
    for process in proc.processes.values() {
        for tid in &process.threads {
            assert_eq!(proc.threads.get(tid).map(|thread| thread.pid), Some(process.pid));
        }
        let held = process.threads.iter().filter(|tid| proc.threads[tid].is_held()).count();
        assert_eq!(process.held as usize, held, "held threads of {:?}", process.pid);
    }
    let asleep =
        proc.threads.values().filter(|it| matches!(it.waiting, Some(Waiting { on: On::Futex(_), .. })));
    assert_eq!(proc.futexes.len(), asleep.count(), "futex queues");
}

/// Every traced thread, living or not, is in one living process's list, and every list is of such threads.
fn tracers_know_whom_they_trace(proc: &Proc) {
    let mut traced: BTreeMap<Pid, BTreeSet<Tid>> = BTreeMap::new();
    for tid in proc.threads.keys().chain(proc.departed.keys()) {
        if let Some(tracer) = proc.tracer_of(*tid) {
            assert!(traced.entry(tracer).or_default().insert(*tid), "{tid:?} is traced twice");
        }
    }
    for process in proc.processes.values() {
        let expected = traced.remove(&process.pid).unwrap_or_default();
        assert_eq!(process.tracees, expected, "those that {:?} traces", process.pid);
        assert!(!process.is_zombie() || expected.is_empty());
    }
    assert!(traced.is_empty(), "traced by nobody: {traced:?}");
}

/// A stopped process has no thread that runs; a dead one none at all.
fn stops_are_complete(world: &World) {
    for process in world.proc.processes.values() {
        // A tracer may let one go on all the same, and one that it gives up comes in.
        let thread = |tid: &Tid| &world.proc.threads[tid];
        let excused = |tid: &Tid| {
            thread(tid).called || thread(tid).trace.as_deref().is_some_and(|trace| trace.is_past_stop())
        };
        let all_held = process.threads.iter().all(|tid| thread(tid).is_held());
        if let Life::Stopped { .. } = process.life {
            let mut others = process.threads.iter().filter(|tid| !excused(tid));
            assert!(others.all(|tid| thread(tid).is_held() && !world.runs(tid.0)));
        }
        if let Life::Stopping { .. } = process.life {
            assert!(!all_held, "a stop that is complete and not told");
        }
    }
    for tid in world.tids() {
        let embryo = world.proc.processes.values().any(|it| it.pid.0 == tid && !it.is_visible());
        let known = world.proc.threads.contains_key(&Tid(tid));
        let in_the_making = !world.proc.jobs.is_empty();
        assert!(known || embryo || in_the_making, "thread {tid} lives and nobody knows it");
    }
}

fn shared_rows_have_as_many_users_as_they_count(proc: &Proc) {
    let count = |number: fn(&Process) -> u64| {
        let mut users: BTreeMap<u64, u32> = BTreeMap::new();
        for process in proc.processes.values().filter(|process| number(process) != 0) {
            *users.entry(number(process)).or_insert(0) += 1;
        }
        users
    };
    for (number, users) in count(|process| process.actions) {
        assert_eq!(proc.actions.users(number), users, "users of actions {number}");
    }
    for (number, users) in count(|process| process.program) {
        assert_eq!(proc.programs.users(number), users, "users of program {number}");
    }
    for (number, users) in count(|process| process.space) {
        assert!(proc.spaces.users(number) >= users, "users of space {number}");
    }
}
