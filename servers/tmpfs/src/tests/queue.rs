//! A pipe under random readers and writers, against a queue of bytes.

use std::collections::VecDeque;

use super::world::{BUFFER, World};
use libipc::abi::{CallId, Readiness};
use libipc::linux::errno::EINTR;
use proptest::prelude::*;

const WRITERS: u64 = 4;
const READERS: u64 = 4;
/// Memory of each party.
const SLOT: u64 = 200_000;

#[derive(Clone, Debug)]
enum Act {
    Write {
        party: u64,
        length: u64,
    },
    Read {
        party: u64,
        length: u64,
    },
    CancelWrite(u64),
    CancelRead(u64),
    /// The next page that is looked at is missing.
    Miss,
}

fn length() -> impl Strategy<Value = u64> {
    prop_oneof![1..20u64, 500..530u64, 4000..5000u64, 1..150_000u64]
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..WRITERS, length()).prop_map(|(party, length)| Act::Write { party, length }),
        4 => (0..READERS, length()).prop_map(|(party, length)| Act::Read { party, length }),
        1 => (0..WRITERS).prop_map(Act::CancelWrite),
        1 => (0..READERS).prop_map(Act::CancelRead),
        1 => Just(Act::Miss),
    ]
}

/// A call in progress: where its buffer is, and which bytes it writes.
struct Running {
    call: CallId,
    address: u64,
    bytes: Vec<u8>,
    /// How many of them came out before the call's end.
    early: usize,
}

struct Trial {
    world: World,
    read: u64,
    write: u64,
    writers: [Option<Running>; WRITERS as usize],
    readers: [Option<Running>; READERS as usize],
    /// Bytes of writes, per writer, in the order they must come out.
    sent: Vec<VecDeque<u8>>,
    serial: u8,
}

impl Trial {
    fn new(arena_bytes: u64) -> Trial {
        let mut world = World::sized(arena_bytes);
        let (read, write) = world.pipe(0);
        let sent = vec![VecDeque::new(); WRITERS as usize];
        let (writers, readers) = Default::default();
        Trial { world, read, write, writers, readers, sent, serial: 0 }
    }

    fn act(&mut self, act: &Act) {
        match *act {
            Act::Write { party, length } if self.writers[party as usize].is_none() => {
                let address = BUFFER + party * SLOT;
                self.serial = self.serial.wrapping_add(1);
                // The low bits tell the writer, the others change from byte to byte and from write to write.
                let serial = self.serial;
                let byte = |index: u64| serial.wrapping_add((index / 7) as u8) << 2 | party as u8;
                let bytes: Vec<u8> = (0..length).map(byte).collect();
                self.world.store(address, &bytes);
                let call = self.world.begin(self.write, 1, [4, address, length, 0, 0, 0]);
                self.writers[party as usize] = Some(Running { call, address, bytes, early: 0 });
            }
            Act::Read { party, length } if self.readers[party as usize].is_none() => {
                let address = BUFFER + (WRITERS + party) * SLOT;
                let call = self.world.begin(self.read, 0, [3, address, length, 0, 0, 0]);
                self.readers[party as usize] = Some(Running { call, address, bytes: Vec::new(), early: 0 });
            }
            Act::CancelWrite(party) => {
                if let Some(running) = &self.writers[party as usize] {
                    self.world.cancel(running.call);
                }
            }
            Act::CancelRead(party) => {
                if let Some(running) = &self.readers[party as usize] {
                    self.world.cancel(running.call);
                }
            }
            Act::Miss => self.world.script.miss_next = true,
            _ => {}
        }
        self.settle();
    }

    /// Takes note of every call that has ended: first what was written, then what was read.
    fn settle(&mut self) {
        for party in 0..WRITERS as usize {
            let ended = self.writers[party].as_ref().and_then(|running| self.world.result(running.call));
            if let Some(result) = ended {
                let running = self.writers[party].take().expect("it runs");
                assert_ne!(result, 0, "a write that did nothing was answered");
                let written = if result == -i64::from(EINTR) { 0 } else { result };
                let count = usize::try_from(written).expect("no error but EINTR");
                if running.bytes.len() <= 4096 {
                    assert!([0, running.bytes.len() as i64].contains(&written), "a small write was split");
                }
                self.sent[party].extend(&running.bytes[running.early..count]);
            }
        }
        for ended in std::mem::take(&mut self.world.ended) {
            let reader =
                self.readers.iter_mut().find(|reader| reader.as_ref().is_some_and(|run| run.call == ended));
            let Some(running) = reader.and_then(Option::take) else { continue };
            let result = self.world.result(ended).expect("it has ended");
            if result == -i64::from(EINTR) {
                continue;
            }
            assert!(result > 0, "{result}");
            for byte in self.world.load(running.address, result as u64) {
                self.receive(byte);
            }
        }
    }

    /// A byte came out: it must be the next of its writer, whose call may still be running.
    fn receive(&mut self, byte: u8) {
        let party = usize::from(byte & 3);
        match self.sent[party].pop_front() {
            Some(expected) => assert_eq!(byte, expected),
            None => {
                let running = self.writers[party].as_mut().expect("bytes that nobody wrote");
                assert_eq!(byte, running.bytes[running.early]);
                running.early += 1;
            }
        }
    }

    /// Whether a parked call could go on, and whether the readiness told is what it should be.
    fn check(&self) {
        let pipe = self.world.server.pipes.values().next().expect("the pipe");
        let waiting = self.readers.iter().flatten().count();
        assert!(waiting == 0 || pipe.length() == 0, "a reader waits beside {} bytes", pipe.length());
        let readable = self.world.readiness(self.read).contains(Readiness::IN);
        assert_eq!(readable, pipe.length() > 0);
        let writable = self.world.readiness(self.write).contains(Readiness::OUT);
        assert_eq!(writable, pipe.capacity() - pipe.length() >= 4096);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn bytes_come_out_as_they_went_in(acts in prop::collection::vec(act(), 1..60), pages in 17..80u64) {
        let mut trial = Trial::new((16 + pages) * 4096);
        let free = trial.world.free_pages();
        for act in &acts {
            trial.act(act);
            trial.check();
        }
        for party in 0..WRITERS {
            trial.act(&Act::CancelWrite(party));
        }
        for party in 0..READERS {
            trial.act(&Act::CancelRead(party));
        }
        trial.world.script.miss_next = false;
        while trial.world.server.pipes.values().any(|pipe| pipe.length() > 0) {
            trial.act(&Act::Read { party: 0, length: 100_000 });
        }
        assert!(trial.sent.iter().all(VecDeque::is_empty), "bytes are missing");
        trial.world.close(trial.read);
        trial.world.close(trial.write);
        assert_eq!(trial.world.free_pages(), free);
        assert!(trial.world.server.parked.is_empty());
    }
}
