//! Waiting: what is ready, for how long, and what the caller is told.

use alloc::{vec, vec::Vec};

use libipc::server::testing::{Script, boot, step};
use libipc::server::{Caller, Event, Request, Server, TIMER_BIT};

use super::*;

const FDS: u64 = 0x1000;

struct Bench {
    vfs: Vfs,
    script: Script,
}

impl Bench {
    fn new(ready: &[(u32, Readiness)]) -> Bench {
        let mut script = Script::default();
        script.readiness = ready.iter().copied().collect();
        script.now = 1000;
        Bench { vfs: Vfs::new(&boot("vfs", &[])), script }
    }

    fn call(&mut self, number: u32, arguments: [u64; 6], inputs: [Option<Vec<u8>>; 2]) -> (CallId, Effects) {
        let foreign = Foreign { number, arguments, inputs, ..Foreign::default() };
        let call = self.script.call(Caller::default(), 0, Request::Foreign(foreign));
        (call.id, self.event(&Event::Call(call)))
    }

    fn event(&mut self, event: &Event) -> Effects {
        step(&mut self.vfs, event, &mut self.script)
    }

    fn poll(&mut self, entries: &[(i32, u16)], timeout_ms: i32) -> (CallId, Effects) {
        let arguments = [FDS, entries.len() as u64, timeout_ms as u32 as u64, 0, 0, 0];
        self.call(7, arguments, [Some(pollfds(entries, &[])), None])
    }

    fn timer(&mut self, now: u64) -> Effects {
        self.script.now = now;
        self.event(&Event::Notify { bits: TIMER_BIT })
    }
}

fn pollfds(entries: &[(i32, u16)], found: &[u16]) -> Vec<u8> {
    let found = found.iter().copied().chain(core::iter::repeat(0));
    let entry = |((fd, events), found): (&(i32, u16), u16)| {
        [&fd.to_le_bytes()[..], &events.to_le_bytes(), &found.to_le_bytes()].concat()
    };
    entries.iter().zip(found).flat_map(entry).collect()
}

fn reply(effects: &Effects) -> (i64, Vec<(u64, Vec<u8>)>) {
    let replies: Vec<&ForeignReply> = effects
        .list
        .iter()
        .filter_map(|effect| match effect {
            Effect::ReplyForeign { reply, .. } => Some(reply),
            _ => None,
        })
        .collect();
    let [reply] = replies[..] else { panic!("{effects:?}") };
    (reply.result, reply.outputs.iter().map(|output| (output.address, output.bytes.clone())).collect())
}

fn timer_of(effects: &Effects) -> Option<u64> {
    effects.list.iter().find_map(|effect| match effect {
        Effect::Do(Operation::TimerSet { deadline_ns }) => Some(*deadline_ns),
        _ => None,
    })
}

fn is_parked(effects: &Effects) -> bool {
    effects.list.iter().any(|effect| matches!(effect, Effect::Park { reason: Reason::Readiness, .. }))
}

#[test]
fn poll_tells_at_once_what_is_ready() {
    let mut bench =
        Bench::new(&[(3, Readiness::IN | Readiness::OUT), (4, Readiness::HUP), (5, Readiness::OUT)]);
    let entries = [(3, 1 | 0x40), (4, 1), (5, 1), (-1, 1), (9, 1)];
    let (_, effects) = bench.poll(&entries, -1);
    assert_eq!(reply(&effects), (3, vec![(FDS, pollfds(&entries, &[0x41, 0x10, 0, 0, 0x20]))]));
    assert_eq!(bench.poll(&[(3, 4)], 0).1.list.len(), 1);
}

#[test]
fn poll_without_waiting_answers_nothing_ready() {
    let mut bench = Bench::new(&[(3, Readiness::empty())]);
    assert_eq!(reply(&bench.poll(&[(3, 1)], 0).1).0, 0);
    assert!(bench.vfs.waits.is_empty());
}

#[test]
fn poll_wakes_when_a_descriptor_is_ready_and_not_before() {
    let mut bench = Bench::new(&[(3, Readiness::empty())]);
    let (call, effects) = bench.poll(&[(3, 1)], -1);
    assert!(is_parked(&effects));
    assert_eq!(timer_of(&effects), None, "nothing to wake up for");
    assert_eq!(bench.event(&Event::Watch { call }), Effects::none(), "somebody else was faster");
    bench.script.readiness.insert(3, Readiness::IN);
    let effects = bench.event(&Event::Watch { call });
    assert_eq!(reply(&effects), (1, vec![(FDS, pollfds(&[(3, 1)], &[1]))]));
    assert_eq!(bench.event(&Event::Watch { call }), Effects::none());
}

#[test]
fn timeouts_end_in_their_order_on_one_timer() {
    let mut bench = Bench::new(&[(3, Readiness::empty())]);
    let (_, late) = bench.poll(&[(3, 1)], 50);
    assert_eq!(timer_of(&late), Some(50_001_000));
    let (_, early) = bench.poll(&[], 20);
    assert_eq!(timer_of(&early), Some(20_001_000));
    let (_, never) = bench.poll(&[(3, 1)], -1);
    assert_eq!(timer_of(&never), None);
    let effects = bench.timer(20_001_000);
    assert_eq!(reply(&effects), (0, vec![]));
    assert_eq!(timer_of(&effects), Some(50_001_000));
    let effects = bench.timer(60_000_000);
    assert_eq!(reply(&effects).0, 0);
    assert_eq!(timer_of(&effects), None, "the timer has fired and is not set again");
    assert_eq!(bench.vfs.waits.len(), 1);
}

#[test]
fn a_signal_ends_a_wait_and_its_timer() {
    let mut bench = Bench::new(&[]);
    let (call, _) = bench.poll(&[], 50);
    let effects = bench.event(&Event::Cancel { call });
    assert_eq!(reply(&effects).0, -i64::from(EINTR));
    assert!(matches!(
        &effects.list[0],
        Effect::ReplyForeign { reply, .. } if reply.restart == Restart::IfNoHandler
    ));
    assert_eq!(timer_of(&effects), Some(u64::MAX));
    assert_eq!(bench.event(&Event::Cancel { call }), Effects::none());
}

#[test]
fn ppoll_checks_its_timeout_and_poll_its_entries() {
    let mut bench = Bench::new(&[]);
    let timespec =
        |words: [i64; 2]| Some(words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
    let mut ppoll =
        |words| reply(&bench.call(271, [FDS, 0, 1, 0, 0, 0], [Some(vec![]), timespec(words)]).1).0;
    assert_eq!(ppoll([0, 0]), 0);
    assert_eq!(ppoll([0, 1_000_000_000]), -i64::from(EINVAL));
    assert_eq!(reply(&bench.call(7, [0, 1, 0, 0, 0, 0], [None, None]).1).0, -i64::from(EFAULT));
}

#[test]
fn a_long_list_is_copied_before_the_reply() {
    let mut bench = Bench::new(&[(3, Readiness::IN)]);
    let entries = vec![(3, 1); 100];
    let (_, effects) = bench.poll(&entries, -1);
    assert!(matches!(&effects.list[0], Effect::CopyOut { bytes, .. } if bytes.len() == 800));
    assert_eq!(reply(&effects), (100, vec![]));
}

#[test]
fn select_counts_bits_in_all_sets_and_clears_the_others() {
    let mut bench = Bench::new(&[
        (0, Readiness::IN | Readiness::OUT),
        (1, Readiness::OUT),
        (2, Readiness::empty()),
        (65, Readiness::HUP),
    ]);
    let set = |words: [u64; 2]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    bench.script.memory.insert(0x100, set([0b111, 0b10]));
    bench.script.memory.insert(0x200, set([0b111, 0]));
    let (_, effects) = bench.call(23, [66, 0x100, 0x200, 0, 0, 0], [None, None]);
    let expected = vec![(0x100, set([0b001, 0b10])), (0x200, set([0b011, 0]))];
    assert_eq!(reply(&effects), (4, expected));
    bench.script.memory.insert(0x100, set([1 << 40, 0]));
    assert_eq!(reply(&bench.call(23, [66, 0x100, 0, 0, 0, 0], [None, None]).1).0, -i64::from(EBADF));
    let negative = u64::from(-1i32 as u32);
    assert_eq!(reply(&bench.call(23, [negative, 0, 0, 0, 0, 0], [None, None]).1).0, -i64::from(EINVAL));
}

#[test]
fn select_looks_only_below_its_count() {
    let mut bench = Bench::new(&[(1, Readiness::IN)]);
    bench.script.memory.insert(0x100, (1u64 << 40 | 2).to_le_bytes().to_vec());
    let (_, effects) = bench.call(23, [2, 0x100, 0, 0, 0, 0], [None, None]);
    assert_eq!(reply(&effects), (1, vec![(0x100, 2u64.to_le_bytes().to_vec())]));
}

#[test]
fn select_waits_for_a_page_of_its_sets_and_tells_the_time_left() {
    let mut bench = Bench::new(&[(0, Readiness::empty())]);
    bench.script.memory.insert(0x100, 1u64.to_le_bytes().to_vec());
    let timespec: Vec<u8> = [2i64, 0].iter().flat_map(|word| word.to_le_bytes()).collect();
    bench.script.miss_next = true;
    let arguments = [1, 0x100, 0, 0, 0x300, 0];
    assert!(bench.call(270, arguments, [Some(timespec.clone()), None]).1.again);
    let (call, effects) = bench.call(270, arguments, [Some(timespec), None]);
    assert_eq!(timer_of(&effects), Some(2_000_001_000));
    bench.script.now += 500_000_000;
    bench.script.readiness.insert(0, Readiness::IN);
    let effects = bench.event(&Event::Watch { call });
    let left = [1u64, 500_000_000].iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(reply(&effects), (1, vec![(0x100, 1u64.to_le_bytes().to_vec()), (0x300, left)]));
}
