//! What sets tell, when, and to whom.

use alloc::{vec, vec::Vec};

use libipc::abi::delivery::Named;
use libipc::server::testing::{Script, boot, step};
use libipc::server::{Caller, Event, Names, Request, Server, TIMER_BIT};

use super::*;

const EVENTS_AT: u64 = 0x1000;
const IN: u32 = 1;
const OUT: u32 = 4;

struct Bench {
    vfs: Vfs,
    script: Script,
    badge: u64,
}

impl Bench {
    /// A set, and descriptors 5 and 6 that are pipes.
    fn new() -> Bench {
        let mut script = Script::default();
        script.readiness = [(5, Readiness::empty()), (6, Readiness::OUT)].into();
        let mut bench = Bench { vfs: Vfs::new(&boot("vfs", &[])), script, badge: 0 };
        bench.badge = bench.make();
        bench
    }

    fn make(&mut self) -> u64 {
        let (_, effects) = self.call(0, number::EPOLL_CREATE1, [0; 6], [None, None], 0);
        let badge = effects.list.iter().find_map(|effect| match effect {
            Effect::Try { operation: Operation::SessionCreate { badge, .. }, .. } => Some(badge.0),
            _ => None,
        });
        let badge = badge.expect("a session is made");
        let _ = self.event(&Event::Done { tag: Tag(badge), result: Ok(0) });
        badge
    }

    fn event(&mut self, event: &Event) -> Effects {
        step(&mut self.vfs, event, &mut self.script)
    }

    fn call(
        &mut self,
        badge: u64,
        number: u32,
        arguments: [u64; 6],
        inputs: [Option<Vec<u8>>; 2],
        descriptor: u32,
    ) -> (CallId, Effects) {
        // Descriptors are named as if each were a session of server 9; below 3 they are sets.
        let own = Named { server: 1, badge, object: badge };
        let other = match descriptor {
            0..3 => Named { server: 1, badge: u64::from(descriptor), object: 0 },
            _ => Named { server: 9, badge: u64::from(descriptor), object: 0 },
        };
        let named = [own, other];
        let names = Some(Box::new(Names { named, ..Names::default() }));
        let foreign = Foreign { number, arguments, inputs, names, ..Foreign::default() };
        let call = self.script.call(Caller::default(), badge, Request::Foreign(foreign));
        (call.id, self.event(&Event::Call(call)))
    }

    fn control(&mut self, operation: u32, descriptor: u32, events: u32) -> i64 {
        let mut event = events.to_le_bytes().to_vec();
        event.extend(u64::from(descriptor).to_le_bytes());
        let arguments = [3, u64::from(operation), u64::from(descriptor), 0, 0, 0];
        let (call, effects) =
            self.call(self.badge, number::EPOLL_CTL, arguments, [Some(event), None], descriptor);
        result(&effects, call).expect("it ends at once").0
    }

    fn wait(&mut self, timeout_ms: i32) -> (CallId, Effects) {
        let arguments = [3, EVENTS_AT, 8, timeout_ms as u32 as u64, 0, 0];
        self.call(self.badge, number::EPOLL_WAIT, arguments, [None, None], 3)
    }

    /// What is ready now, as events and data.
    fn ready(&mut self) -> Vec<(u32, u64)> {
        let (call, effects) = self.wait(0);
        told(&effects, call).expect("it ends at once")
    }

    /// A descriptor becomes ready for something, and its watch tells.
    fn change(&mut self, descriptor: u32, ready: Readiness) -> Effects {
        self.script.readiness.insert(descriptor, ready);
        let watch = self.script.watches.iter().find(|(_, watched)| **watched == descriptor);
        let cookie = watch.expect("it is watched").0 - 1000;
        self.event(&Event::Watched { cookie, ready: Some(ready) })
    }
}

fn result(effects: &Effects, call: CallId) -> Option<(i64, Vec<u8>)> {
    effects.list.iter().find_map(|effect| match effect {
        Effect::ReplyForeign { call: ended, reply } if *ended == call => {
            Some((reply.result, reply.outputs.first().map(|output| output.bytes.clone()).unwrap_or_default()))
        }
        _ => None,
    })
}

fn told(effects: &Effects, call: CallId) -> Option<Vec<(u32, u64)>> {
    let (count, bytes) = result(effects, call)?;
    let events: Vec<(u32, u64)> = bytes
        .as_chunks::<12>()
        .0
        .iter()
        .map(|event| {
            let (events, data) = event.split_at(4);
            (u32::from_le_bytes(events.try_into().unwrap()), u64::from_le_bytes(data.try_into().unwrap()))
        })
        .collect();
    assert_eq!(count, events.len() as i64);
    Some(events)
}

#[test]
fn what_is_ready_is_told_as_long_as_it_is() {
    let mut bench = Bench::new();
    assert_eq!(bench.control(ADD, 5, IN), 0);
    assert_eq!(bench.control(ADD, 6, OUT), 0);
    assert_eq!(bench.ready(), [(OUT, 6)]);
    let _ = bench.change(5, Readiness::IN);
    assert_eq!(bench.ready(), [(OUT, 6), (IN, 5)]);
    bench.script.readiness.insert(5, Readiness::empty());
    assert_eq!(bench.ready(), [(OUT, 6)]);
    assert_eq!(bench.control(MODIFY, 6, 0), 0);
    assert_eq!(bench.ready(), []);
    let _ = bench.change(6, Readiness::HUP);
    assert_eq!(bench.ready(), [(0x10, 6)], "an end needs no asking");
}

#[test]
fn an_edge_is_told_once_and_one_shot_until_it_is_changed() {
    let mut bench = Bench::new();
    assert_eq!(bench.control(ADD, 5, IN | EDGE), 0);
    for _ in 0..2 {
        let _ = bench.change(5, Readiness::IN);
        assert_eq!(bench.ready(), [(IN, 5)]);
        assert_eq!(bench.ready(), []);
    }
    assert_eq!(bench.control(MODIFY, 5, IN | ONE_SHOT), 0);
    assert_eq!(bench.ready(), [(IN, 5)]);
    let _ = bench.change(5, Readiness::IN);
    assert_eq!(bench.ready(), []);
    assert_eq!(bench.control(MODIFY, 5, IN | ONE_SHOT), 0);
    assert_eq!(bench.ready(), [(IN, 5)]);
}

#[test]
fn a_waiter_is_answered_when_something_comes_or_its_time_is_over_or_a_signal() {
    let mut bench = Bench::new();
    bench.control(ADD, 5, IN);
    let (call, effects) = bench.wait(-1);
    assert_eq!(result(&effects, call), None);
    let effects = bench.change(5, Readiness::IN);
    assert_eq!(told(&effects, call), Some(vec![(IN, 5)]));
    bench.script.readiness.insert(5, Readiness::empty());
    assert_eq!(bench.ready(), []);
    let (call, _) = bench.wait(10);
    bench.script.now = 10_000_000;
    let effects = bench.event(&Event::Notify { bits: TIMER_BIT });
    assert_eq!(told(&effects, call), Some(vec![]));
    let (call, _) = bench.wait(-1);
    let effects = bench.event(&Event::Cancel { call });
    assert_eq!(result(&effects, call).map(|(result, _)| result), Some(-i64::from(EINTR)));
    assert!(bench.vfs.waits.is_empty() && bench.vfs.deadlines.is_empty());
}

#[test]
fn one_of_several_waiters_is_answered_when_it_is_told_once() {
    let mut bench = Bench::new();
    bench.control(ADD, 5, IN | EDGE);
    let (first, _) = bench.wait(-1);
    let (second, _) = bench.wait(-1);
    let effects = bench.change(5, Readiness::IN);
    assert_eq!((told(&effects, first), told(&effects, second)), (Some(vec![(IN, 5)]), None));
}

#[test]
fn what_is_closed_is_forgotten_and_what_is_always_ready_is_not_taken() {
    let mut bench = Bench::new();
    bench.script.readiness.insert(7, Readiness::IN | Readiness::OUT | Readiness::ALWAYS);
    assert_eq!(bench.control(ADD, 7, IN), -i64::from(EPERM));
    assert_eq!(bench.control(ADD, 8, IN), -i64::from(EBADF));
    assert_eq!(bench.control(DELETE, 5, 0), -i64::from(ENOENT));
    assert_eq!(bench.control(ADD, 5, IN), 0);
    assert_eq!(bench.control(ADD, 5, IN), -i64::from(EEXIST));
    let _ = bench.change(5, Readiness::IN);
    let _ = bench.event(&Event::Watched { cookie: 1, ready: None });
    assert_eq!(bench.ready(), []);
    assert_eq!(bench.control(DELETE, 5, 0), -i64::from(ENOENT));
    let owner = bench.vfs.epolls.sets[&bench.badge].owner;
    let _ = bench.event(&Event::LastClose { badge: Badge(bench.badge), owner });
    assert_eq!((bench.vfs.epolls.sets.len(), bench.vfs.epolls.items.len()), (0, 0));
}

#[test]
fn sets_do_not_stand_in_circles() {
    let mut bench = Bench::new();
    let other = bench.make();
    bench.script.readiness.extend([(1, Readiness::empty()), (2, Readiness::empty())]);
    assert_eq!((bench.badge, other), (1, 2));
    assert_eq!(bench.control(ADD, 1, IN), -i64::from(EINVAL), "itself");
    assert_eq!(bench.control(ADD, 2, IN), 0);
    bench.badge = other;
    assert_eq!(bench.control(ADD, 1, IN), -i64::from(ELOOP));
}
