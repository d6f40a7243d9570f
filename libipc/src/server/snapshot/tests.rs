//! Tests of states that leave in pieces.

use alloc::{boxed::Box, vec, vec::Vec};

use super::super::handles::HandleSlots;
use super::super::{Boot, Effects, Env, Event, Rows};
use super::*;
use crate::abi::{Handle, KernelError};
use crate::sys::{BUFFER_BYTES, Trapped};

/// Snapshot memory of so many bytes.
struct Memory {
    room: usize,
    written: Vec<u8>,
    sound: Vec<u8>,
    buffer: Box<[u8; BUFFER_BYTES]>,
}

impl Memory {
    fn new(room: usize) -> Memory {
        Memory { room, written: Vec::new(), sound: Vec::new(), buffer: Box::new([0; BUFFER_BYTES]) }
    }
}

impl Traps for Memory {
    fn trap(&mut self, call: Syscall, arguments: [u64; 6]) -> Trapped {
        let behind = arguments[1] != 0;
        if call == Syscall::SnapshotCommit {
            let written = core::mem::take(&mut self.written);
            self.sound.truncate(if behind { self.sound.len() } else { 0 });
            self.sound.extend(written);
            return Ok([0; 5]);
        }
        assert_eq!(call, Syscall::SnapshotWrite);
        let from = PAYLOAD_OFFSET as usize;
        self.written.extend_from_slice(&self.buffer[from..from + arguments[0] as usize]);
        if self.written.len() + if behind { self.sound.len() } else { 0 } > self.room {
            self.written.clear();
            return Err(KernelError::Exhausted);
        }
        Ok([0; 5])
    }

    fn buffer(&mut self) -> &mut [u8; BUFFER_BYTES] {
        &mut self.buffer
    }
}

#[test]
fn the_pieces_are_the_whole_and_the_checksum_is_the_same_either_way() {
    let piece = PAYLOAD_MAX as usize;
    for length in [0, 1, 100, piece - 3, piece - 2, piece - 1, piece, 3 * piece + 5] {
        // Pairs, so that there are single bytes and long runs of them.
        let state: (Vec<u32>, Vec<u8>) = ((0..length as u32).collect(), vec![7; length]);
        let whole = postcard::to_allocvec(&state).unwrap();
        let mut memory = Memory::new(usize::MAX);
        let mut writer = Writer::new(&mut memory, None);
        postcard::serialize_with_flavor(&state, &mut writer).unwrap();
        let checksum = writer.end().unwrap();
        assert_eq!(parts(&memory.written), Some(vec![&whole[..]]));
        assert_eq!(checksum, sum(SUM_START, &memory.written));
        let digest = postcard::serialize_with_flavor(&state, Sum::new()).unwrap();
        assert_eq!(digest, sum(SUM_START, &whole));
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused() {
    let mut memory = Memory::new(20_000);
    let state = vec![0_u64; 30_000];
    assert!(postcard::serialize_with_flavor(&state, &mut Writer::new(&mut memory, None)).is_err());
}

/// A server with a table.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
struct Books {
    rows: Rows<u32, Vec<u8>>,
    last: u32,
}

impl Server for Books {
    fn new(_: &Boot) -> Books {
        Books { rows: (0..1000).map(|key| (key, vec![1; 10])).collect(), last: 0 }
    }

    fn step(&mut self, _: &Event, _: &mut dyn Env) -> Effects {
        Effects::none()
    }

    fn tables(&mut self) -> Vec<&mut dyn Table> {
        vec![&mut self.rows]
    }
}

fn kept() -> Kept {
    let slots = HandleSlots::new(9);
    Kept { slots, offered: [Handle(1); 4], deferred: Default::default(), again: Default::default() }
}

#[test]
fn an_addition_has_the_rows_that_were_changed_and_the_whole_comes_back() {
    let (mut books, mut memory) = (Books::new(&Boot::default()), Memory::new(20_000));
    let mut last = save(&kept(), &mut books, &mut memory, None).unwrap();
    let whole = memory.sound.len();
    for round in 0..20 {
        books.last += 1;
        books.rows.get_mut(&(round * 7)).unwrap().push(2);
        books.rows.remove(&(round * 5 + 1));
        books.rows.insert(2000 + round, vec![3]);
        last = save(&kept(), &mut books, &mut memory, Some(last)).unwrap();
        assert!(memory.sound.len() < whole + 60 * (round as usize + 1));
        assert_eq!(last, sum(SUM_START, &memory.sound));
        assert_eq!(restore::<Books>(&memory.sound).unwrap(), (kept(), books.clone(), 1));
    }
}

#[test]
fn of_everything_but_rows_only_what_was_saved_last_is_read() {
    let (mut books, mut memory) = (Books::new(&Boot::default()), Memory::new(20_000));
    let mut last = save(&kept(), &mut books, &mut memory, None).unwrap();
    for _ in 0..2 {
        books.rows.get_mut(&7).unwrap().push(2);
        last = save(&kept(), &mut books, &mut memory, Some(last)).unwrap();
    }
    // What is behind the rows of the part between is unreadable, and nobody minds.
    let lengths =
        parts(&memory.sound).unwrap().iter().map(|part| part.len() + LENGTH_BYTES).collect::<Vec<_>>();
    let end = lengths[0] + lengths[1] - LENGTH_BYTES;
    memory.sound[end - 3..end].fill(0xff);
    assert_eq!(restore::<Books>(&memory.sound), Some((kept(), books, 1)));
}

#[test]
fn what_does_not_fall_apart_into_parts_is_no_snapshot() {
    let (mut books, mut memory) = (Books::new(&Boot::default()), Memory::new(20_000));
    save(&kept(), &mut books, &mut memory, None).unwrap();
    let sound = memory.sound;
    for end in [1, LENGTH_BYTES, sound.len() - 1] {
        assert_eq!(restore::<Books>(&sound[..end]), None, "{end}");
    }
    assert_eq!(parts(&[u8::MAX; LENGTH_BYTES]), None);
    assert_eq!(restore::<Books>(&[]), None);
}

#[test]
fn an_addition_that_does_not_fit_leaves_what_was_there_and_a_whole_state_takes_its_place() {
    let (mut books, mut memory) = (Books::new(&Boot::default()), Memory::new(15_000));
    let last = save(&kept(), &mut books, &mut memory, None).unwrap();
    let before = memory.sound.clone();
    *books.rows.get_mut(&3).unwrap() = vec![4; 2000];
    (500..1000).for_each(|key| drop(books.rows.remove(&key)));
    assert!(save(&kept(), &mut books, &mut memory, Some(last)).is_err());
    assert_eq!(memory.sound, before);
    save(&kept(), &mut books, &mut memory, None).unwrap();
    assert_eq!(restore::<Books>(&memory.sound).unwrap(), (kept(), books, 1));
}

/// The same server, whose next version counts in other units and keeps no text.
#[derive(Clone, PartialEq, Debug, serde::Serialize, serde::Deserialize)]
struct Ledger {
    lengths: Rows<u32, u64>,
    last: i64,
}

impl Server for Ledger {
    const SCHEMA: u32 = 2;
    const OLDEST_SCHEMA: u32 = 1;

    fn new(_: &Boot) -> Ledger {
        Ledger { lengths: Rows::new(), last: 0 }
    }

    fn step(&mut self, _: &Event, _: &mut dyn Env) -> Effects {
        Effects::none()
    }

    fn tables(&mut self) -> Vec<&mut dyn Table> {
        vec![&mut self.lengths]
    }

    fn restore(schema: u32, saved: &mut Saved<'_>) -> Option<Ledger> {
        match schema {
            1 => {
                let books = saved.read(Books::tables)?;
                let lengths = books.rows.iter().map(|(key, text)| (*key, text.len() as u64)).collect();
                Some(Ledger { lengths, last: books.last.into() })
            }
            Ledger::SCHEMA => saved.read(Ledger::tables),
            _ => None,
        }
    }
}

#[test]
fn a_later_version_reads_what_an_earlier_one_saved_with_all_that_was_added_to_it() {
    let (mut books, mut memory) = (Books::new(&Boot::default()), Memory::new(20_000));
    let last = save(&kept(), &mut books, &mut memory, None).unwrap();
    books.rows.get_mut(&7).unwrap().push(2);
    books.rows.remove(&8);
    books.last = 5;
    save(&kept(), &mut books, &mut memory, Some(last)).unwrap();
    let (own, mut ledger, schema) = restore::<Ledger>(&memory.sound).unwrap();
    assert_eq!((own, schema, ledger.last), (kept(), 1, 5));
    assert_eq!((ledger.lengths[&7], ledger.lengths.get(&8), ledger.lengths[&9]), (11, None, 10));
    save(&kept(), &mut ledger, &mut memory, None).unwrap();
    assert_eq!(restore::<Ledger>(&memory.sound), Some((kept(), ledger, 2)));
}

#[test]
fn an_earlier_version_does_not_take_what_a_later_one_saved() {
    let (mut ledger, mut memory) = (Ledger::new(&Boot::default()), Memory::new(20_000));
    save(&kept(), &mut ledger, &mut memory, None).unwrap();
    assert_eq!(restore::<Books>(&memory.sound), None);
}
