//! The driver against a disk in memory whose commands end when, and in the order in which, a test says.

mod model;

use std::collections::BTreeMap;

use libipc::abi::{CallId, Handle};
use libipc::linux::errno;
use libipc::proto::block::{CAPACITY, FLUSH, READ, SECTOR_SIZE, SECTORS_MAX, WRITE};
use libipc::server::boot::Device;
use libipc::server::event::Caller;
use libipc::server::testing::{self, Script};
use libipc::server::{Effect, Effects};
use proptest::prelude::*;

use super::*;
use model::{BROKEN, ModelDisk, READ_ONLY, SECTORS, SLOTS, WRITE_THROUGH};

const SECTOR: usize = SECTOR_SIZE as usize;

/// A driver with a disk for every device identity and interrupt.
struct Bench {
    driver: Driver<ModelDisk>,
    script: Script,
}

impl Bench {
    fn new(devices: &[(u16, u8)]) -> Bench {
        let devices =
            devices.iter().map(|(kind, irq)| Device { id: (0, *kind), irq: *irq, ..Device::default() });
        let boot = Boot { devices: devices.collect(), ..testing::boot("blk", &[]) };
        Bench { driver: Driver::new(&boot), script: Script::default() }
    }

    fn step(&mut self, event: &Event) -> Vec<Effect> {
        let Effects { list, again } = testing::step(&mut self.driver, event, &mut self.script);
        assert!(!again, "a driver never has a reason to be stepped again");
        list
    }

    fn ask(&mut self, label: u32, words: [u64; 4], payload: Vec<u8>) -> (CallId, Vec<Effect>) {
        let call = self.script.native(Message { label, words, payload, handles: Vec::new() });
        (call.id, self.step(&Event::Call(call)))
    }

    /// A request that the device has to carry out.
    fn queued(&mut self, label: u32, words: [u64; 4], payload: Vec<u8>) -> CallId {
        let (call, effects) = self.ask(label, words, payload);
        assert_eq!(effects, [Effect::Park { call, reason: Reason::Disk }]);
        call
    }

    /// A request that is answered at once.
    fn answered(&mut self, label: u32, words: [u64; 4], payload: Vec<u8>) -> Message {
        let (call, effects) = self.ask(label, words, payload);
        match &effects[..] {
            [Effect::Reply { call: id, message }] if *id == call => message.clone(),
            other => panic!("not one answer: {other:?}"),
        }
    }

    fn refused(&mut self, label: u32, words: [u64; 4], payload: Vec<u8>) -> BlockError {
        let label = self.answered(label, words, payload).label;
        let all = [
            BlockError::NoSuchDisk,
            BlockError::BadRange,
            BlockError::Device,
            BlockError::ReadOnly,
            BlockError::BadRequest,
        ];
        all.into_iter().find(|error| *error as u32 == label).expect("an error")
    }

    fn disk(&mut self, number: usize) -> &mut ModelDisk {
        self.driver.units[number].queue.as_mut().expect("attached").disk()
    }

    /// The interrupt of a line; the answers and the lines acknowledged.
    fn interrupt(&mut self, irq: u8) -> (Vec<(CallId, Message)>, Vec<u8>) {
        let mut answers = Vec::new();
        let mut acknowledged = Vec::new();
        for effect in self.step(&Event::Notify { bits: 1 << irq }) {
            match effect {
                Effect::Reply { call, message } if acknowledged.is_empty() => answers.push((call, message)),
                Effect::Do(Operation::IrqAck { irq }) => acknowledged.push(irq),
                other => panic!("not what an interrupt leads to: {other:?}"),
            }
        }
        (answers, acknowledged)
    }

    /// Ends a command of disk 0 and takes the answers.
    fn complete(&mut self, position: usize) -> Vec<(CallId, Message)> {
        self.disk(0).carry_out(position);
        self.interrupt(11).0
    }
}

fn sectors(count: u64, fill: u8) -> Vec<u8> {
    vec![fill; (count * SECTOR_SIZE) as usize]
}

#[test]
fn what_was_written_is_read_back() {
    let mut bench = Bench::new(&[(0, 11)]);
    let write = bench.queued(WRITE, [0, 3, 0, 0], sectors(2, 7));
    assert_eq!(bench.complete(0), [(write, Message::label(0))]);
    let read = bench.queued(READ, [0, 2, 3, 0], Vec::new());
    let expected = [sectors(1, 0), sectors(2, 7)].concat();
    assert_eq!(bench.complete(0), [(read, Message { payload: expected, ..Message::default() })]);
}

#[test]
fn capacity_tells_size_and_protection_and_counts_the_disks() {
    let mut bench = Bench::new(&[(0, 11), (READ_ONLY, 10)]);
    assert_eq!(bench.answered(CAPACITY, [0; 4], Vec::new()), Message::words(0, [SECTORS, 0, 0, 0]));
    assert_eq!(bench.answered(CAPACITY, [1, 0, 0, 0], Vec::new()), Message::words(0, [SECTORS, 1, 0, 0]));
    assert_eq!(bench.refused(CAPACITY, [2, 0, 0, 0], Vec::new()), BlockError::NoSuchDisk);
    assert_eq!(bench.refused(CAPACITY, [u64::MAX, 0, 0, 0], Vec::new()), BlockError::NoSuchDisk);
}

#[test]
fn a_request_outside_the_disk_or_of_a_bad_length_is_refused() {
    let mut bench = Bench::new(&[(0, 11)]);
    for (first, count) in
        [(SECTORS, 1), (SECTORS - 1, 2), (0, 0), (0, SECTORS_MAX + 1), (u64::MAX, 1), (1, u64::MAX)]
    {
        assert_eq!(bench.refused(READ, [0, first, count, 0], Vec::new()), BlockError::BadRange);
    }
    for (first, length) in
        [(SECTORS, SECTOR), (SECTORS - 1, 2 * SECTOR), (0, 0), (0, SECTOR - 1), (u64::MAX, SECTOR)]
    {
        assert_eq!(bench.refused(WRITE, [0, first, 0, 0], vec![0; length]), BlockError::BadRange);
    }
    bench.queued(READ, [0, SECTORS - 1, 1, 0], Vec::new());
    assert_eq!(bench.refused(0x2ff, [0; 4], Vec::new()), BlockError::BadRequest);
}

#[test]
fn a_read_only_disk_refuses_writes_and_gives_reads() {
    let mut bench = Bench::new(&[(READ_ONLY, 11)]);
    assert_eq!(bench.refused(WRITE, [0; 4], sectors(1, 1)), BlockError::ReadOnly);
    bench.queued(READ, [0, 0, 1, 0], Vec::new());
}

#[test]
fn a_flush_without_a_cache_is_done_already() {
    let mut bench = Bench::new(&[(WRITE_THROUGH, 11), (0, 11)]);
    assert_eq!(bench.answered(FLUSH, [0; 4], Vec::new()), Message::label(0));
    bench.queued(FLUSH, [1, 0, 0, 0], Vec::new());
}

#[test]
fn an_error_of_the_device_is_the_answer_to_its_request_alone() {
    let mut bench = Bench::new(&[(0, 11)]);
    let bad = bench.queued(READ, [0, 1, 1, 0], Vec::new());
    let good = bench.queued(READ, [0, 1, 1, 0], Vec::new());
    bench.disk(0).fail(0);
    assert_eq!(bench.interrupt(11).0, [(bad, Message::label(BlockError::Device as u32))]);
    assert_eq!(bench.complete(0), [(good, Message { payload: sectors(1, 0), ..Message::default() })]);
}

#[test]
fn a_device_that_did_not_attach_keeps_its_number_and_is_told_of() {
    let mut bench = Bench::new(&[(BROKEN, 9), (0, 11)]);
    let effects = bench.step(&Event::Start);
    let [Effect::Do(Operation::Log { text }), Effect::Do(Operation::IrqBind { irq: 11, bit: 11 })] =
        &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert!(text.starts_with(b"blk: disk 0 cannot be used: "));
    assert_eq!(bench.refused(READ, [0, 0, 1, 0], Vec::new()), BlockError::Device);
    assert_eq!(bench.refused(CAPACITY, [0; 4], Vec::new()), BlockError::Device);
    bench.queued(READ, [1, 0, 1, 0], Vec::new());
}

#[test]
fn disks_on_one_line_are_both_acknowledged_and_the_line_is_opened_once_and_last() {
    let mut bench = Bench::new(&[(0, 11), (0, 11), (0, 10)]);
    assert_eq!(bench.step(&Event::Start).len(), 2);
    let first = bench.queued(READ, [0, 0, 1, 0], Vec::new());
    let second = bench.queued(READ, [1, 0, 1, 0], Vec::new());
    bench.queued(READ, [2, 0, 1, 0], Vec::new());
    (0..3).for_each(|number| bench.disk(number).carry_out(0));
    let (answers, acknowledged) = bench.interrupt(11);
    assert_eq!(answers.iter().map(|(call, _)| *call).collect::<Vec<_>>(), [first, second]);
    assert_eq!(acknowledged, [11]);
    assert_eq!([0, 1, 2].map(|number| bench.disk(number).acknowledged), [1, 1, 0]);
}

#[test]
fn an_interrupt_with_nothing_finished_only_opens_the_line_again() {
    let mut bench = Bench::new(&[(0, 11)]);
    bench.queued(READ, [0, 0, 1, 0], Vec::new());
    assert_eq!(bench.interrupt(11), (Vec::new(), vec![11]));
    assert_eq!(bench.step(&Event::Notify { bits: 1 << 63 }), []);
}

#[test]
fn requests_beyond_the_slots_wait_and_start_in_order() {
    let mut bench = Bench::new(&[(0, 11)]);
    let calls: Vec<_> =
        (0..SLOTS + 2).map(|sector| bench.queued(READ, [0, sector as u64, 1, 0], Vec::new())).collect();
    assert_eq!(bench.disk(0).held.len(), SLOTS);
    assert_eq!(bench.complete(SLOTS - 1)[0].0, calls[SLOTS - 1]);
    let next = Command::Read(disk::Extent { first: SLOTS as u64, count: 1 });
    assert_eq!(bench.disk(0).held.last().map(|(_, command)| command), Some(&next));
}

#[test]
fn a_request_waits_for_the_write_it_overlaps_and_not_for_others() {
    let mut bench = Bench::new(&[(0, 11)]);
    bench.queued(READ, [0, 4, 4, 0], Vec::new());
    bench.queued(READ, [0, 6, 4, 0], Vec::new());
    bench.queued(WRITE, [0, 10, 0, 0], sectors(2, 1));
    bench.queued(FLUSH, [0; 4], Vec::new());
    assert_eq!(bench.disk(0).held.len(), 4);
    bench.queued(READ, [0, 11, 1, 0], Vec::new());
    assert_eq!(bench.disk(0).held.len(), 4);
    bench.complete(0);
    assert_eq!(bench.disk(0).held.len(), 3);
    bench.complete(1);
    assert_eq!(bench.disk(0).held.len(), 3);
}

#[test]
fn handles_that_come_along_are_closed() {
    let mut bench = Bench::new(&[(0, 11)]);
    let call = bench.script.native(Message::label(CAPACITY).with_handles(&[Handle(70), Handle(71)]));
    let effects = bench.step(&Event::Call(call));
    let closed = [70, 71].map(|slot| Effect::Do(Operation::Close { handle: Handle(slot) }));
    assert_eq!(effects[1..], closed);
}

#[test]
fn a_linux_call_is_not_implemented_here() {
    let mut bench = Bench::new(&[(0, 11)]);
    let call = bench.script.linux(Caller::default(), 0, [0; 6]);
    let Effects { list, .. } = bench.driver.step(&Event::Call(call), &mut bench.script);
    let [Effect::ReplyForeign { reply, .. }] = &list[..] else { panic!("{list:?}") };
    assert_eq!(reply.result, -i64::from(errno::ENOSYS));
}

#[derive(Clone, Debug)]
enum Action {
    Read(u64, u64),
    Write(u64, u64, u8),
    Flush,
    Complete(usize),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        (0..SECTORS, 1u64..6).prop_map(|(first, count)| Action::Read(first, count.min(SECTORS - first))),
        (0..SECTORS, 1u64..6, 1u8..).prop_map(|(first, count, fill)| Action::Write(
            first,
            count.min(SECTORS - first),
            fill
        )),
        Just(Action::Flush),
        (0..SLOTS).prop_map(Action::Complete),
    ]
}

proptest! {
    /// Against a disk that does one request at a time.
    #[test]
    fn every_request_is_answered_once_with_what_the_requests_before_it_left(
        actions in prop::collection::vec(action(), 0..120)
    ) {
        let mut bench = Bench::new(&[(0, 11)]);
        let mut contents = vec![0; (SECTORS * SECTOR_SIZE) as usize];
        let mut expected = BTreeMap::new();
        for action in actions {
            match action {
                Action::Read(first, count) => {
                    let call = bench.queued(READ, [0, first, count, 0], Vec::new());
                    let range = first as usize * SECTOR..(first + count) as usize * SECTOR;
                    expected.insert(call, contents[range].to_vec());
                }
                Action::Write(first, count, fill) => {
                    let call = bench.queued(WRITE, [0, first, 0, 0], sectors(count, fill));
                    contents[first as usize * SECTOR..(first + count) as usize * SECTOR].fill(fill);
                    expected.insert(call, Vec::new());
                }
                Action::Flush => {
                    let call = bench.queued(FLUSH, [0; 4], Vec::new());
                    expected.insert(call, Vec::new());
                }
                Action::Complete(position) => {
                    let held = bench.disk(0).held.len();
                    if held > 0 {
                        for (call, answer) in bench.complete(position % held) {
                            prop_assert_eq!(answer.label, 0);
                            prop_assert_eq!(expected.remove(&call), Some(answer.payload));
                        }
                    }
                }
            }
        }
        while !bench.disk(0).held.is_empty() {
            for (call, answer) in bench.complete(0) {
                prop_assert_eq!(expected.remove(&call), Some(answer.payload));
            }
        }
        prop_assert!(expected.is_empty(), "never answered: {:?}", expected.keys());
        prop_assert_eq!(&bench.disk(0).contents, &contents);
    }
}
