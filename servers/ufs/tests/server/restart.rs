//! The server is killed, the disk fails, and many calls come at once: nobody gets another answer than alone and in
//! peace.

use libipc::abi::CallId;
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::proto::fs::{self, Answer, Found, From, Operation as Op, Request};
use libipc::server::{Call, Message};

use crate::common::{Format, large_tree, noise};
use crate::model::{MEMORY, Machine, Reply, Session, request};
use crate::{image, small_image};

/// Calls of every kind, given the sessions that some of them are on.
struct Sample {
    file: Session,
    directory: Session,
}

impl Sample {
    fn new(machine: &mut Machine) -> Sample {
        Sample {
            file: machine.open(b"file-of-70000", O_RDONLY).unwrap(),
            directory: machine.open(b"", O_RDONLY).unwrap(),
        }
    }

    fn calls(&self, machine: &mut Machine) -> Vec<Call> {
        let mut native = |message: Message, session: Option<&Session>| {
            let mut call = machine.script.native(message);
            call.badge.0 = session.map_or(0, |session| session.badge);
            call
        };
        let deep = (0..12).map(|level| format!("level-{level}")).collect::<Vec<_>>().join("/");
        let asked = |path: &[u8], operation| request(From::Root(0), path, operation).message();
        let follow = Request { follow: true, ..request(From::Root(0), b"link-of-600", Op::Stat) };
        let mut calls = vec![
            native(asked(b"one", Op::Stat), None),
            native(asked(b"absent", Op::Stat), None),
            native(asked(format!("{deep}/file").as_bytes(), Op::Open { flags: 0, mode: 0 }), None),
            native(asked(deep.as_bytes(), Op::PathOf), None),
            native(asked(b"link-of-1023", Op::ReadLink), None),
            native(follow.message(), None),
            native(Message::words(fs::READ_AT, [0, 4096, 0, 0]), Some(&self.file)),
            native(Message::words(fs::PAGE_IN, [9, 14, 1, 0]), Some(&self.file)),
            native(Message::words(fs::MOUNT, [0, 1, 0, 0]), None),
            native(Message::words(fs::MOUNT, [9, 1, 0, 0]), None),
        ];
        let mut at = MEMORY;
        for (session, number, length, third) in [
            (&self.file, 0, 70_000, 0),
            (&self.file, 17, 5_000, 65_000),
            (&self.file, 8, 0, 2),
            (&self.file, 8, 0, 4),
            (&self.file, 5, 0, 0),
            (&self.directory, 217, 20_000, 0),
            (&self.directory, 138, 0, 0),
        ] {
            let first = if number == 8 { 0 } else { at };
            let second = if number == 8 { third } else { length };
            calls.push(machine.linux_call(session, number, [first, second, third, 0, 0], None));
            at += 100_000;
        }
        calls
    }
}

/// A reply without what is by chance: a listing may end sooner when the rest is not at hand.
fn settle(machine: &mut Machine, call: CallId) -> Reply {
    let mut reply = machine.finish(call);
    if let Reply::Native(message, _) = &mut reply {
        message.handles.clear();
    }
    reply
}

#[test]
fn a_restart_at_any_moment_changes_no_answer() {
    let count = {
        let mut machine = Machine::new(vec![small_image()], 0, 1);
        Sample::new(&mut machine).calls(&mut machine).len()
    };
    let mut moments = 0;
    for index in 0..count {
        let fresh = || {
            let mut machine = Machine::new(vec![small_image()], 0, 1);
            let sample = Sample::new(&mut machine);
            machine.crash();
            machine.memory.fill(0);
            let call = sample.calls(&mut machine).swap_remove(index);
            (machine, call)
        };
        let (mut peaceful, call) = fresh();
        let call = peaceful.begin(call);
        let expected = settle(&mut peaceful, call);
        for moment in 0.. {
            let (mut machine, call) = fresh();
            let call = machine.begin(call);
            for _ in 0..moment {
                machine.deliver();
            }
            if let Some(mut early) = machine.reply(call) {
                if let Reply::Native(message, _) = &mut early {
                    message.handles.clear();
                }
                assert_eq!(early, expected);
                break;
            }
            machine.crash();
            assert_eq!(settle(&mut machine, call), expected, "call {index} killed after {moment} answers");
            assert!(machine.memory == peaceful.memory && machine.supplied == peaceful.supplied);
            moments += 1;
        }
    }
    assert!(moments > 100, "only {moments} moments were tried");
}

#[test]
fn many_calls_at_once_get_the_answers_that_each_gets_alone() {
    for (seed, crashes) in [(1, 0), (2, 0), (3, 3), (4, 3), (5, 15)] {
        let mut machine = Machine::new(vec![small_image()], 2 << 20, seed);
        let sample = Sample::new(&mut machine);
        let calls = sample.calls(&mut machine);
        let listing = calls.len() - 2;
        let alone: Vec<Reply> = calls
            .into_iter()
            .map(|call| {
                let call = machine.begin(call);
                settle(&mut machine, call)
            })
            .collect();
        machine.crash();
        machine.crashes = crashes;
        let mut under_way = Vec::new();
        for _ in 0..10 {
            for (index, call) in sample.calls(&mut machine).into_iter().enumerate() {
                under_way.push((index, machine.begin(call)));
            }
        }
        for (index, call) in under_way {
            let reply = settle(&mut machine, call);
            assert!(reply == alone[index] || index == listing, "call {index}: {reply:?}");
        }
        while machine.deliver() && machine.crashes == 0 {}
        assert!(machine.crashes > 0 || machine.is_quiet());
    }
}

#[test]
fn what_several_calls_miss_is_fetched_once() {
    let mut machine = Machine::new(vec![small_image()], 64 << 20, 1);
    let mut file = machine.open(b"file-of-70000", O_RDONLY).unwrap();
    machine.reads.clear();
    let calls: Vec<CallId> = (0..20)
        .map(|_| {
            let call = machine.linux_call(&file, 17, [MEMORY, 70_000, 0, 0, 0], None);
            machine.begin(call)
        })
        .collect();
    for call in calls {
        assert_eq!(machine.finish_linux(&mut file, call).result, 70_000);
    }
    let sectors: u64 = machine.reads.iter().map(|(_, _, sectors)| sectors).sum();
    assert!(sectors <= 70_000 / 512 + 1 + 3 * 8, "{sectors} sectors were read");
    assert!(machine.at_memory(0, 70_000) == noise(70_000, 9));
}

#[test]
fn a_small_cache_serves_many_large_reads_at_once() {
    many_large_reads(0);
}

#[test]
fn a_large_cache_serves_many_large_reads_at_once() {
    many_large_reads(64 << 20);
}

fn many_large_reads(heap_bytes: u64) {
    let format = Format { version: 1, order: "le", block: 32768, fragment: 4096 };
    let mut machine = Machine::new(vec![image(large_tree, format)], heap_bytes, 21);
    let mut file = machine.open(b"large", O_RDONLY).unwrap();
    let content = noise(5_000_001, 99);
    let calls: Vec<(u64, CallId)> = (0..40)
        .map(|index| {
            let offset = index * 120_000;
            let call = machine.linux_call(&file, 17, [MEMORY, 1 << 20, offset, 0, 0], None);
            (offset, machine.begin(call))
        })
        .collect();
    for (offset, call) in calls {
        let rest = content.len() as u64 - offset;
        assert_eq!(machine.finish_linux(&mut file, call).result as u64, rest.min(1 << 20));
    }
    let call = machine.linux_call(&file, 17, [MEMORY, 1 << 20, 3_333_333, 0, 0], None);
    let call = machine.begin(call);
    machine.finish_linux(&mut file, call);
    assert!(machine.at_memory(0, 1 << 20) == &content[3_333_333..][..1 << 20]);
}

#[test]
fn calls_that_have_to_wait_are_served_in_the_order_in_which_they_came() {
    // With the smallest cache one call is under way at a time.
    let mut machine = Machine::new(vec![small_image()], 0, 8);
    let names = ["one", "file-of-513", "file-of-4097", "file-of-49153", "level-0/file", "file-of-70000"];
    let sessions = names.map(|name| machine.open(name.as_bytes(), O_RDONLY).unwrap());
    let calls = sessions.map(|session| {
        let call = machine.linux_call(&session, 17, [MEMORY, 100_000, 0, 0, 0], None);
        machine.begin(call)
    });
    assert!(machine.questions() > 0 && machine.reply(calls[0]).is_none());
    for call in calls {
        assert!(machine.reply(call).is_none(), "a later call came first");
        while machine.deliver() {
            if machine.reply(call).is_some() {
                break;
            }
        }
    }
    assert!(machine.is_quiet());
}

#[test]
fn what_a_large_read_needs_next_is_fetched_with_what_it_needs_now() {
    let format = Format { version: 2, order: "le", block: 16384, fragment: 2048 };
    let mut machine = Machine::new(vec![image(large_tree, format)], 8 << 20, 8);
    let mut file = machine.open(b"large", O_RDONLY).unwrap();
    machine.linux(&mut file, 17, [MEMORY, 1, 4_000_000, 0, 0]);
    let call = machine.linux_call(&file, 17, [MEMORY, 200_000, 0, 0, 0], None);
    let call = machine.begin(call);
    assert!(machine.questions() >= 200_000 / 8192, "{} messages", machine.questions());
    assert_eq!(machine.finish_linux(&mut file, call).result, 200_000);
}

#[test]
fn a_bad_sector_fails_the_calls_that_need_it_and_no_other() {
    let mut machine = Machine::new(vec![small_image()], 0, 1);
    let mut file = machine.open(b"file-of-70000", O_RDONLY).unwrap();
    machine.reads.clear();
    machine.linux(&mut file, 17, [MEMORY, 1, 69_999, 0, 0]);
    let last = machine.reads.iter().map(|(_, sector, _)| *sector).max().unwrap();
    machine.crash();
    machine.bad_sectors.extend(last..last + 8);
    // What lies before the bad sector is read, and the error comes with the next read.
    let reply = machine.linux(&mut file, 0, [MEMORY, 100_000, 0, 0, 0]);
    assert_eq!((reply.result, file.position), (65_536, 65_536));
    assert!(machine.at_memory(0, 65_536) == &noise(70_000, 9)[..65_536]);
    let reply = machine.linux(&mut file, 0, [MEMORY, 100_000, 0, 0, 0]);
    assert_eq!((reply.result, file.position), (-i64::from(EIO), 65_536));
    let (answer, _) = machine.native(Some(&file), Message::words(fs::READ_AT, [69_000, 10, 0, 0]));
    assert_eq!(answer.label, EIO as u32);
    let (answer, _) = machine.native(Some(&file), Message::words(fs::PAGE_IN, [1, 16, 4, 0]));
    assert_eq!(answer.label, EIO as u32);
    assert!(machine.open(b"one", O_RDONLY).is_ok());
    assert!(!machine.log.is_empty() && machine.log.len() <= 8);
    // A disk that has recovered is read again.
    machine.bad_sectors.clear();
    assert_eq!(machine.linux(&mut file, 0, [MEMORY, 100_000, 0, 0, 0]).result, 70_000 - 65_536);
}

#[test]
fn a_disk_that_fails_wholly_fails_every_call_and_floods_no_log() {
    let mut machine = Machine::new(vec![small_image()], 0, 1);
    let sample = Sample::new(&mut machine);
    machine.crash();
    machine.bad_sectors.extend(0..1 << 16);
    let calls = sample.calls(&mut machine);
    let begun: Vec<CallId> = calls.into_iter().map(|call| machine.begin(call)).collect();
    for (index, call) in begun.into_iter().enumerate() {
        let errno = match settle(&mut machine, call) {
            Reply::Foreign(reply) => -reply.result as i32,
            Reply::Native(message, _) if message.label != 0 => message.label as i32,
            Reply::Native(message, _) => match message.decode() {
                Ok(Answer::Failed(errno)) => errno,
                other => panic!("{other:?}"),
            },
        };
        assert!(errno == EIO || errno == ENXIO && index == 9, "call {index}: {errno}");
    }
    assert!(machine.is_quiet() && machine.log.len() <= 8);
    machine.bad_sectors.clear();
    assert!(matches!(machine.at(0, b"one", Op::Stat), Answer::Found(Found::Stat(_))));
}

#[test]
fn a_signal_leaves_a_call_to_its_end() {
    let mut machine = Machine::new(vec![small_image()], 0, 1);
    let mut file = machine.open(b"file-of-70000", O_RDONLY).unwrap();
    let call = machine.linux_call(&file, 0, [MEMORY, 10, 0, 0, 0], None);
    let call = machine.begin(call);
    assert!(machine.questions() > 0);
    machine.event(&libipc::server::Event::Cancel { call });
    assert_eq!(machine.finish_linux(&mut file, call).result, 10);
}
