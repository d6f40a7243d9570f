//! The trace as a file: read in pieces, read on, and switched.

use alloc::vec::Vec;

use libipc::abi::Badge;
use libipc::abi::trace::{Reader, What};
use libipc::linux::errno::*;
use libipc::linux::open::*;
use libipc::server::env::Statistic;
use libipc::server::{Effect, Operation};

use crate::tests::Bench;

const PATH: &str = "naiad/trace";
/// A ring of 64 KiB, of which parts have 4 KiB.
const RING: u64 = 1 << 16;

/// A trace that has just begun.
fn young(what: Statistic, index: u64) -> [u64; 4] {
    match (what, index) {
        (Statistic::Trace, 0) => [1, 0, 400, 0],
        (Statistic::Trace, 1) => [RING, 0, 0, 0],
        _ => [0; 4],
    }
}

/// The same later.
fn older(what: Statistic, index: u64) -> [u64; 4] {
    if (what, index) == (Statistic::Trace, 0) { [1, 0, 1000, 0] } else { young(what, index) }
}

/// A trace of which the beginning has been overwritten.
fn old(what: Statistic, index: u64) -> [u64; 4] {
    if (what, index) == (Statistic::Trace, 0) { [1, 36_864, 100_000, 0] } else { young(what, index) }
}

/// What a read gives: bytes of the header, or the position and length of what the kernel copies; or an errno.
type Got = Result<(Vec<u8>, Option<(u64, u64)>), i64>;

fn read(bench: &mut Bench, badge: Badge, offset: u64, length: u64) -> Got {
    let (reply, effects) = bench.linux(badge, offset, 0, 0, [3, 0x100, length, 0, 0, 0]);
    if reply.result < 0 {
        return Err(reply.result);
    }
    match effects.list.first() {
        Some(Effect::CopyOut { bytes, .. }) => Ok((bytes.clone(), None)),
        Some(Effect::FromTrace { position, length, .. }) => Ok((Vec::new(), Some((*position, *length)))),
        _ => Ok((Vec::new(), None)),
    }
}

#[test]
fn a_trace_is_a_header_and_then_what_the_kernel_has() {
    let mut bench = Bench::new();
    bench.script.statistics = young;
    let badge = bench.open(PATH, 0).unwrap();
    let (header, _) = read(&mut bench, badge, 0, 4096).unwrap();
    let reader = Reader::new(&header).unwrap();
    assert_eq!((reader.names.number("tty"), reader.names.number("vfs")), (Some(8), Some(9)));
    let start = header.len() as u64;
    assert_eq!(read(&mut bench, badge, start, 100), Ok((Vec::new(), Some((0, 100)))));
    assert_eq!(read(&mut bench, badge, start + 100, 4096), Ok((Vec::new(), Some((100, 300)))));
}

#[test]
fn it_ends_where_it_ended_when_reading_began_and_goes_on_for_who_reads_on() {
    let mut bench = Bench::new();
    bench.script.statistics = young;
    let badge = bench.open(PATH, 0).unwrap();
    let start = read(&mut bench, badge, 0, 4096).unwrap().0.len() as u64;
    bench.script.statistics = older;
    assert_eq!(read(&mut bench, badge, start, 4096), Ok((Vec::new(), Some((0, 400)))));
    assert_eq!(read(&mut bench, badge, start + 400, 4096), Ok((Vec::new(), None)));
    assert_eq!(read(&mut bench, badge, start + 400, 4096), Ok((Vec::new(), Some((400, 600)))));
}

#[test]
fn what_has_been_overwritten_before_it_was_read_shows_as_a_record() {
    let mut bench = Bench::new();
    bench.script.statistics = young;
    let badge = bench.open(PATH, 0).unwrap();
    let start = read(&mut bench, badge, 0, 4096).unwrap().0.len() as u64;
    read(&mut bench, badge, start, 400).unwrap();
    bench.script.statistics = old;
    let (gap, _) = read(&mut bench, badge, start + 400, 4096).unwrap();
    let records: Vec<_> = Reader::of_records(&gap).map(|record| record.unwrap().what()).collect();
    assert_eq!(records, [What::Lost { records: 0 }]);
    // As much as is whole even if another part is written meanwhile.
    let at = start + 400 + gap.len() as u64;
    assert_eq!(read(&mut bench, badge, at, 512), Ok((Vec::new(), None)), "that was the end");
    assert_eq!(read(&mut bench, badge, at, 512), Ok((Vec::new(), Some((45_056, 512)))));
    assert_eq!(read(&mut bench, badge, start, 512), Err(-i64::from(ESTALE)));
}

#[test]
fn writing_switches_tracing_with_a_filter_or_is_refused() {
    let mut bench = Bench::new();
    let badge = bench.open(PATH, O_WRONLY).unwrap();
    let mut write = |text: &str| {
        bench.script.memory.insert(0x500, text.as_bytes().to_vec());
        let words = [3, 0x500, text.len() as u64, 0, 0, 0];
        let (reply, effects) = bench.linux(badge, 0, O_WRONLY, 1, words);
        let set = effects.list.into_iter().find_map(|effect| match effect {
            Effect::Do(Operation::TraceSet { on, filter, .. }) => Some((on, filter.is_open())),
            _ => None,
        });
        (reply.result, set)
    };
    assert_eq!(write("on\n"), (3, Some((true, true))));
    assert_eq!(write("on servers=vfs calls=read"), (25, Some((true, false))));
    assert_eq!(write("off"), (3, Some((false, true))));
    for bad in ["", "on servers=xfs", "off servers=vfs", "of", "servers=vfs"] {
        assert_eq!(write(bad), (-i64::from(EINVAL), None), "{bad}");
    }
}
