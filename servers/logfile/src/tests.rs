//! Tests of the log over a disk that is a vector, and of the format on its own.

use libipc::server::testing::{Script, boot, step};
use libipc::server::{Caller, Effect};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use block::SECTOR_SIZE;

const SECTORS: u64 = 64;

/// A log server, and the disk below it.
struct Bench {
    server: Logfile,
    script: Script,
    disk: Vec<u8>,
    flushes: u32,
}

fn server() -> Logfile {
    Logfile::new(&boot("logfile", &["blk"]))
}

impl Bench {
    fn over(disk: Vec<u8>) -> Bench {
        Bench { server: server(), script: Script::default(), disk, flushes: 0 }
    }

    fn new() -> Bench {
        Bench::over(vec![0; (SECTORS * SECTOR_SIZE) as usize])
    }

    fn linux(&mut self, number: u32, arguments: [u64; 6]) -> Call {
        Call {
            status: libipc::linux::open::O_RDWR,
            ..self.script.linux(Caller::default(), number, arguments)
        }
    }

    /// An append of these bytes, as a call to be made.
    fn append(&mut self, bytes: &[u8]) -> Call {
        self.script.memory.insert(0x1000, bytes.to_vec());
        self.linux(WRITE, [3, 0x1000, bytes.len() as u64, 0, 0, 0])
    }

    /// Makes a call and lets the disk do all it is asked for: result and bytes that were read.
    fn made(&mut self, call: &Call) -> (i64, Vec<u8>) {
        let mut effects = step(&mut self.server, &Event::Call(call.clone()), &mut self.script);
        let mut read = Vec::new();
        loop {
            let mut asked = None;
            for effect in effects.list {
                match effect {
                    Effect::Send { tag, message, .. } => asked = Some((tag, self.carry_out(&message))),
                    Effect::CopyOut { bytes, .. } => read = bytes,
                    Effect::ReplyForeign { reply, .. } => return (reply.result, read),
                    Effect::Park { .. } => {}
                    other => panic!("not what a log does: {other:?}"),
                }
            }
            let (tag, answer) = asked.expect("a call that waits waits for the disk");
            effects = step(&mut self.server, &Event::Answer { tag, answer: Ok(answer) }, &mut self.script);
        }
    }

    fn carry_out(&mut self, message: &Message) -> Message {
        let [disk, first, count, _] = message.words;
        assert_eq!(disk, DISK);
        let from = (first * SECTOR_SIZE) as usize;
        match message.label {
            block::CAPACITY => Message::words(0, [self.disk.len() as u64 / SECTOR_SIZE, 0, 0, 0]),
            block::READ => {
                let payload = self.disk[from..from + (count * SECTOR_SIZE) as usize].to_vec();
                Message { payload, ..Message::default() }
            }
            block::WRITE => {
                self.disk[from..from + message.payload.len()].copy_from_slice(&message.payload);
                Message::label(0)
            }
            _ => {
                self.flushes += 1;
                Message::label(0)
            }
        }
    }

    fn crash(&mut self) {
        self.server = server();
    }

    /// The whole file, as a program reads it.
    fn contents(&mut self) -> Vec<u8> {
        let mut contents = Vec::new();
        loop {
            let read = self.linux(PREAD64, [3, 0x2000, 100_000, contents.len() as u64, 0, 0]);
            let (count, bytes) = self.made(&read);
            assert_eq!(count, bytes.len() as i64);
            if count == 0 {
                return contents;
            }
            contents.extend(bytes);
        }
    }
}

#[test]
fn what_is_appended_is_read_back_in_order_and_after_a_crash() {
    let mut bench = Bench::new();
    for text in ["one ", "two ", "three"] {
        let call = bench.append(text.as_bytes());
        assert_eq!(bench.made(&call).0, text.len() as i64);
    }
    assert_eq!(bench.contents(), b"one two three");
    bench.crash();
    assert_eq!(bench.contents(), b"one two three");
}

#[test]
fn an_append_that_is_delivered_again_is_answered_and_not_done_twice() {
    let mut bench = Bench::new();
    let first = bench.append(b"first ");
    assert_eq!(bench.made(&first).0, 6);
    bench.crash();
    assert_eq!(bench.made(&first).0, 6);
    let second = bench.append(b"second");
    assert_eq!(bench.made(&second).0, 6);
    assert_eq!(bench.contents(), b"first second");
}

#[test]
fn calls_of_another_run_of_the_system_are_other_calls() {
    let mut bench = Bench::new();
    let call = bench.append(b"again");
    bench.made(&call);
    bench.crash();
    bench.server.run ^= 1;
    bench.made(&call);
    assert_eq!(bench.contents(), b"againagain");
}

#[test]
fn a_sync_flushes_the_disk() {
    let mut bench = Bench::new();
    let sync = bench.linux(FSYNC, [3, 0, 0, 0, 0, 0]);
    assert_eq!((bench.made(&sync).0, bench.flushes), (0, 1));
}

#[test]
fn a_large_append_is_cut_short_and_a_full_disk_says_so() {
    let mut bench = Bench::new();
    let large = vec![7; 10_000];
    let mut written = 0;
    let error = loop {
        let call = bench.append(&large);
        match bench.made(&call).0 {
            length @ 1.. => written += length,
            error => break error,
        }
    };
    assert_eq!(error, -i64::from(ENOSPC));
    assert_eq!(bench.contents().len() as i64, written);
    assert_eq!(written, 4 * DATA_MAX as i64);
}

#[test]
fn a_disk_that_fails_is_an_error_for_that_call_alone() {
    let mut bench = Bench::new();
    let call = bench.append(b"lost");
    let effects = step(&mut bench.server, &Event::Call(call.clone()), &mut bench.script);
    let tag = effects.list.iter().find_map(|effect| match effect {
        Effect::Send { tag, .. } => Some(*tag),
        _ => None,
    });
    let answer = Ok(Message::label(3));
    let event = Event::Answer { tag: tag.expect("the disk is asked"), answer };
    let effects = step(&mut bench.server, &event, &mut bench.script);
    assert!(
        matches!(&effects.list[..], [Effect::ReplyForeign { reply, .. }] if reply.result == -i64::from(EIO))
    );
    let call = bench.append(b"kept");
    assert_eq!(bench.made(&call).0, 4);
    assert_eq!(bench.contents(), b"kept");
}

proptest! {
    #[test]
    fn a_log_that_is_damaged_somewhere_ends_there_and_goes_on(
        appends in vec(vec(any::<u8>(), 1..900), 1..8),
        damage in any::<prop::sample::Index>(),
        more in vec(any::<u8>(), 1..900),
    ) {
        let mut bench = Bench::new();
        let mut starts = Vec::new();
        for bytes in &appends {
            starts.push(bench.server.end.sector * SECTOR_SIZE);
            let call = bench.append(bytes);
            bench.made(&call);
        }
        let end = bench.server.end.sector * SECTOR_SIZE;
        let at = damage.index(end as usize);
        bench.disk[at] ^= 0x55;
        // What fills a record up to the next sector is nothing of it.
        let hit = starts.partition_point(|start| *start <= at as u64) - 1;
        let padding = at as u64 >= starts[hit] + 56 + appends[hit].len() as u64;
        let sound = if padding { appends.len() } else { hit };
        let expected = appends[..sound].concat();
        bench.crash();
        prop_assert_eq!(bench.contents(), expected.clone());
        // Nothing of what stood behind the damage comes back, whatever takes its place.
        bench.server.run ^= 1;
        let call = bench.append(&more);
        bench.made(&call);
        bench.crash();
        prop_assert_eq!(bench.contents(), [expected, more].concat());
        let read: Vec<u8> = record::all(&bench.disk).flat_map(|record| record.data).collect();
        prop_assert_eq!(read, bench.contents());
    }
}
