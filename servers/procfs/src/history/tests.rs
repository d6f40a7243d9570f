//! The files about a server's state, read in pieces of all sizes.

use alloc::{vec, vec::Vec};

use libipc::abi::crash::{Disposition, Fault};
use libipc::abi::journal::{EXPORT_VERSION, Section};
use libipc::abi::{Badge, Handle, KernelError, Kind};
use libipc::linux::errno::*;
use libipc::proto::fs;
use libipc::server::env::Statistic;
use libipc::server::replay::{History, HistoryError};
use libipc::server::testing::step;
use libipc::server::{Boot, Caller, Effect, Event, Message, Operation, Request};

use crate::tests::Bench;

/// The task of `tty`, as the bench gives it.
const TTY: Handle = Handle(70);

/// A bench whose servers have a history of more than one window.
fn bench() -> Bench {
    let mut bench = Bench::new();
    let encoded = postcard::to_allocvec(&Boot { name: "tty".into(), ..Boot::default() }).unwrap();
    let mut block = (encoded.len() as u32).to_le_bytes().to_vec();
    block.extend_from_slice(&[0; 8]);
    block.extend_from_slice(&encoded);
    block.resize(16384, 0);
    bench.script.histories = [block, vec![7; 5000], vec![0; 150_000]];
    bench
}

/// Reads a file to its end with buffers of one size.
fn read(bench: &mut Bench, badge: Badge, buffer: u64) -> Result<Vec<u8>, i32> {
    let (mut bytes, mut position) = (vec![], 0);
    loop {
        let (reply, effects) = bench.linux(badge, position, 0, 0, [3, 0x100, buffer, 0, 0, 0]);
        match effects.list.first() {
            Some(Effect::CopyOut { bytes: more, address: 0x100, .. }) => bytes.extend_from_slice(more),
            Some(Effect::FromJournal { task: TTY, address: 0x100, source, offset, length, .. }) => {
                let section = &bench.script.histories[source.section as usize];
                bytes.extend_from_slice(&section[*offset as usize..(offset + length) as usize]);
            }
            _ if reply.result < 0 => return Err(-reply.result as i32),
            _ => return Ok(bytes),
        }
        position = reply.position.unwrap();
        assert_eq!(position, bytes.len() as u64);
    }
}

#[test]
fn opening_asks_the_server_for_its_digest() {
    let mut bench = bench();
    let request = bench.open_request("naiad/servers/tty/digest");
    let effects = step(&mut bench.procfs, &request, &mut bench.script);
    assert!(effects.list.contains(&Effect::Do(Operation::DigestAsk { task: TTY })), "{effects:?}");
}

#[test]
fn a_journal_read_in_pieces_is_a_history_again() {
    for buffer in [13, 4096, 65536, 1 << 20] {
        let mut bench = bench();
        let badge = bench.open("naiad/servers/tty/journal", 0).unwrap();
        let file = read(&mut bench, badge, buffer).unwrap();
        let mut rest = &file[..];
        let history = History::take(&mut rest).unwrap();
        assert!(rest.is_empty());
        assert_eq!((&history.boot.name[..], history.snapshots, history.settled), ("tty", 1, true));
        let [_, snapshot, journal] = &bench.script.histories;
        assert_eq!((&history.snapshot, &history.journal), (snapshot, journal));
    }
}

#[test]
fn a_journal_that_began_anew_since_the_first_read_is_stale() {
    let mut bench = bench();
    let badge = bench.open("naiad/servers/tty/journal", 0).unwrap();
    let (reply, _) = bench.linux(badge, 0, 0, 0, [3, 0x100, 4096, 0, 0, 0]);
    let position = reply.position.unwrap();
    bench.script.snapshots_made += 1;
    assert_eq!(bench.linux(badge, position, 0, 0, [3, 0x100, 4096, 0, 0, 0]).0.result, -i64::from(ESTALE));
}

#[test]
fn a_journal_is_read_into_memory_and_not_sent_by_message() {
    let mut bench = bench();
    let badge = bench.open("naiad/servers/tty/journal", 0).unwrap();
    let request = Request::Native(Message::words(fs::READ_AT, [0, 100, 0, 0]));
    let call = bench.script.call(Caller::default(), badge.0, request);
    let effects = step(&mut bench.procfs, &Event::Call(call), &mut bench.script);
    let refused =
        |effect: &Effect| matches!(effect, Effect::Reply { message, .. } if message.label == EINVAL as u32);
    assert!(effects.list.iter().all(refused) && !effects.list.is_empty());
}

#[test]
fn what_is_appended_after_the_first_read_is_not_in_the_file() {
    let mut bench = bench();
    let badge = bench.open("naiad/servers/tty/journal", 0).unwrap();
    let (reply, _) = bench.linux(badge, 0, 0, 0, [3, 0x100, 1, 0, 0, 0]);
    assert_eq!(reply.result, 1);
    bench.script.histories[2].resize(150_500, 9);
    let file = read(&mut bench, badge, 65536).unwrap();
    assert_eq!(History::take(&mut &file[..]).unwrap().journal.len(), 150_000);
}

#[test]
fn damage_anywhere_is_found() {
    let mut bench = bench();
    bench.script.histories[2].truncate(300);
    let badge = bench.open("naiad/servers/tty/journal", 0).unwrap();
    let file = read(&mut bench, badge, 65536).unwrap();
    assert!(History::take(&mut &file[..]).is_ok());
    for at in (0..file.len()).step_by(7).chain(0..120) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        assert!(History::take(&mut &damaged[..]).is_err(), "a change of byte {at}");
        let mut cut = &file[..at];
        assert!(History::take(&mut cut).is_err(), "cut after {at} bytes");
        assert_eq!(cut.len(), at, "nothing is taken");
    }
    let damaged = |at: usize| {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        History::take(&mut &damaged[..])
    };
    assert_eq!(damaged(0), Err(HistoryError::Unknown));
    assert_eq!(damaged(8), Err(HistoryError::Version(EXPORT_VERSION ^ 1)));
    assert_eq!(damaged(40), Err(HistoryError::Header));
    assert_eq!(damaged(file.len() - 1), Err(HistoryError::Damaged(Section::Journal)));
    assert_eq!(History::take(&mut &b"GIF89a and so on"[..]), Err(HistoryError::Unknown));
}

#[test]
fn a_digest_is_there_when_the_server_has_told_it() {
    let mut bench = bench();
    let badge = bench.open("naiad/servers/tty/digest", 0).unwrap();
    assert_eq!(read(&mut bench, badge, 100), Err(EAGAIN));
    bench.script.digest = Some(0xabc);
    assert_eq!(read(&mut bench, badge, 100).unwrap(), b"0000000000000abc\n");
    bench.script.digest = Some(0xdef);
    assert_eq!(read(&mut bench, badge, 5).unwrap(), b"0000000000000abc\n", "it stays what it was");
}

#[test]
fn a_server_without_a_journal_has_no_history() {
    let mut bench = bench();
    bench.script.task_error = Some(KernelError::WrongKind);
    for file in ["digest", "journal"] {
        assert_eq!(bench.open(&alloc::format!("naiad/servers/vfs/{file}"), 0), Err(ENODATA));
    }
}

/// What vfs (number 9) died of, with what led to it; and blk's death, of which nothing is kept.
fn crashes(what: Statistic, place: u64) -> [u64; 4] {
    let how = |fault: Fault, kind: Kind, done: Disposition| {
        fault as u64 | u64::from(kind as u32) << 8 | (done as u64) << 16
    };
    match (what, place) {
        (Statistic::Crash, 1) => {
            [3 | 8 << 32, 4, how(Fault::Exception, Kind::Foreign, Disposition::Refused), 77]
        }
        (Statistic::Crash, 0) => [2 | 99 << 32, 1, how(Fault::Page, Kind::Call, Disposition::Refused), 5],
        (Statistic::CrashKept, 1) => [5000, 150_000, 2, 0],
        (Statistic::Crash, 2..) => [u64::MAX, 0, 0, 0],
        _ => [0; 4],
    }
}

#[test]
fn what_a_server_died_of_is_a_history_that_says_so() {
    let mut bench = bench();
    bench.script.statistics = crashes;
    let badge = bench.open("naiad/reproducers/3", 0).unwrap();
    let file = read(&mut bench, badge, 65536).unwrap();
    let history = History::take(&mut &file[..]).unwrap();
    assert_eq!((&history.boot.name[..], history.snapshots, history.died), ("tty", 2, true));
    assert_eq!(history.journal.len(), 150_000);
    let mut open = |path| bench.open(path, 0).map(|_| ());
    assert_eq!([open("naiad/reproducers/2"), open("naiad/reproducers/4")], [Err(ENOENT); 2]);
}

#[test]
fn what_is_not_kept_any_more_is_stale() {
    let mut bench = bench();
    bench.script.statistics = crashes;
    let badge = bench.open("naiad/reproducers/3", 0).unwrap();
    let (reply, _) = bench.linux(badge, 0, 0, 0, [3, 0x100, 4096, 0, 0, 0]);
    bench.script.statistics = |_, _| [0; 4];
    let position = reply.position.unwrap();
    assert_eq!(bench.linux(badge, position, 0, 0, [3, 0x100, 4096, 0, 0, 0]).0.result, -i64::from(ESTALE));
}
