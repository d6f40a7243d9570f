//! Damaged volumes: whatever their bytes are, every call is answered, and the server stays.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use libipc::linux::errno::EIO;
use libipc::linux::mode;
use libipc::linux::open::*;
use libipc::proto::fs::{self, Answer, Found, From, Operation as Op, Request};
use libipc::server::Message;
use proptest::prelude::*;

use crate::common::{Format, small_tree};
use crate::image;
use crate::model::{MEMORY, Machine, Session, request};

/// More than any sound image here has.
const FILES_MAX: usize = 150;

/// Uses everything that can be reached from the root. Gives the number of files that were read to their ends.
fn exercise(machine: &mut Machine) -> usize {
    let mut seen = BTreeSet::from([2]);
    let mut ahead = vec![2];
    let mut sound = 0;
    while let Some(node) = ahead.pop() {
        let open = request(From::Node(node), b"", Op::Open { flags: O_RDONLY, mode: 0 });
        let (Answer::Found(Found::Opened { stat, .. }), Some(mut session)) = machine.ask(&open) else {
            let text = machine.ask(&request(From::Node(node), b"", Op::ReadLink)).0;
            sound += usize::from(matches!(text, Answer::Found(Found::Text(_))));
            continue;
        };
        if stat.is(mode::S_IFDIR) {
            let names = names(machine, &mut session);
            sound += usize::from(names.is_some());
            let _ = machine.ask(&request(From::Node(node), b"", Op::PathOf));
            let _ = machine.ask(&request(From::Node(node), b"../../absent/..", Op::Stat));
            for (name, inode) in names.unwrap_or_default() {
                let follow = Request { follow: true, ..request(From::Node(node), &name, Op::Access(4)) };
                let _ = machine.ask(&follow);
                if seen.len() < FILES_MAX && seen.insert(inode) {
                    ahead.push(inode);
                }
            }
        } else {
            sound += usize::from(read(machine, &mut session, stat.size));
        }
    }
    sound
}

fn names(machine: &mut Machine, session: &mut Session) -> Option<Vec<(Vec<u8>, u64)>> {
    let mut names = Vec::new();
    for _ in 0..100 {
        let length = machine.linux(session, 217, [MEMORY, 30_000, 0, 0, 0]).result;
        if length <= 0 {
            return (length == 0).then_some(names);
        }
        let mut rest = machine.at_memory(0, length as usize);
        while !rest.is_empty() {
            let inode = u64::from_le_bytes(rest[..8].try_into().unwrap());
            let record = usize::from(u16::from_le_bytes(rest[16..18].try_into().unwrap()));
            names.push((rest[19..record].iter().copied().take_while(|byte| *byte != 0).collect(), inode));
            rest = &rest[record..];
        }
    }
    None
}

fn read(machine: &mut Machine, session: &mut Session, size: u64) -> bool {
    let count = machine.linux(session, 0, [MEMORY, 1 << 20, 0, 0, 0]).result;
    for whence in [2, 3, 4] {
        machine.linux(session, 8, [size / 3, whence, 0, 0, 0]);
    }
    let far = size.saturating_sub(5000);
    machine.linux(session, 17, [MEMORY, 9000, far, 0, 0]);
    machine.native(Some(session), Message::words(fs::PAGE_IN, [1, far / 4096, 8, 0]));
    machine.native(Some(session), Message::words(fs::READ_AT, [0, 4096, 0, 0]));
    count as u64 == size.min(1 << 20)
}

/// A sound image, and where its bytes were read.
struct Sample {
    bytes: Vec<u8>,
    read: Vec<(u64, u64)>,
    files: usize,
}

fn samples() -> &'static [Sample] {
    static SAMPLES: OnceLock<Vec<Sample>> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        let sample = |format| {
            let bytes = image(small_tree, format);
            let mut machine = Machine::new(vec![bytes.clone()], 0, 1);
            let files = exercise(&mut machine);
            assert!(files > 40, "only {files} files could be read of a sound image");
            let read: BTreeSet<_> =
                machine.reads.iter().map(|(_, sector, sectors)| (*sector, *sectors)).collect();
            Sample { bytes, read: read.into_iter().collect(), files }
        };
        Format::all(4096, 512).map(sample).into()
    })
}

/// A byte to change: in which of the extents read, where in it, and to what.
fn change() -> impl Strategy<Value = (prop::sample::Index, prop::sample::Index, u8)> {
    let value = prop_oneof![Just(0), Just(0xff), Just(0x7f), 1u8..16, any::<u8>()];
    (any::<prop::sample::Index>(), any::<prop::sample::Index>(), value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_call_on_a_damaged_volume_is_answered(
        kind in 0usize..4,
        changes in prop::collection::vec(change(), 1..60),
        swaps in prop::collection::vec(any::<[prop::sample::Index; 2]>(), 0..4),
        seed: u64,
    ) {
        let sample = &samples()[kind];
        let mut bytes = sample.bytes.clone();
        let place = |(sector, sectors): &(u64, u64)| (*sector as usize * 512, *sectors as usize * 512);
        for (extent, offset, value) in changes {
            let (start, length) = place(extent.get(&sample.read));
            bytes[start + offset.index(length)] = value;
        }
        for pair in swaps {
            let [(from, one), (to, other)] = pair.map(|index| place(index.get(&sample.read)));
            bytes.copy_within(from..from + one.min(other), to);
        }
        let mut machine = Machine::new(vec![bytes], 0, seed);
        exercise(&mut machine);
        prop_assert!(machine.is_quiet() || machine.questions() > 0);
        while machine.deliver() {}
        prop_assert!(machine.is_quiet() && machine.log.len() <= 8);
    }
}

#[test]
fn damage_to_one_directory_leaves_the_rest_readable_and_is_logged() {
    for sample in samples() {
        let mut bytes = sample.bytes.clone();
        let name = b"level-5\0";
        let place = bytes.windows(name.len()).position(|window| window == name).unwrap();
        bytes[place] = b'/';
        let mut machine = Machine::new(vec![bytes], 0, 1);
        let sound = exercise(&mut machine);
        assert!(sound < sample.files && sound > 30, "{sound} of {}", sample.files);
        assert!(
            machine.log[0].contains("a name with a slash or a NUL in directory inode"),
            "{:?}",
            machine.log
        );
    }
}

#[test]
fn what_lies_before_a_damaged_block_address_can_be_read() {
    let format = Format { version: 2, order: "le", block: 4096, fragment: 512 };
    let mut bytes = image(small_tree, format);
    let is_file = |inode: &[u8]| inode[16..24] == 70_000u64.to_le_bytes() && inode[1] == 0x81;
    let inode = bytes.chunks_exact(256).position(is_file).unwrap() * 256;
    bytes[inode + 112 + 5 * 8..inode + 112 + 6 * 8].fill(0x7f);
    let mut machine = Machine::new(vec![bytes], 0, 1);
    let mut file = machine.open(b"file-of-70000", O_RDONLY).unwrap();
    let content = crate::common::noise(70_000, 9);
    for result in [5 * 4096, -i64::from(EIO)] {
        assert_eq!(machine.linux(&mut file, 0, [MEMORY, 65_536, 0, 0, 0]).result, result);
    }
    assert!(machine.at_memory(0, 5 * 4096) == &content[..5 * 4096]);
    for (offset, result) in [(0, 4096), (4 * 4096, 4096), (5 * 4096, -i64::from(EIO)), (6 * 4096, 4096)] {
        assert_eq!(machine.linux(&mut file, 17, [MEMORY, 4096, offset, 0, 0]).result, result);
        if result > 0 {
            assert!(machine.at_memory(0, 4096) == &content[offset as usize..][..4096]);
        }
    }
}
