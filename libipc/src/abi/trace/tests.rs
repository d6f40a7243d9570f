use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;

/// A record as the kernel writes it.
fn record(number: u16, error: u8, stamp: [u64; 4], words: &[u64], values: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header { number, error, values, payload: payload.len() as u32 };
    let words = [header.pack()].into_iter().chain(stamp).chain(words.iter().copied());
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn file(records: &[Vec<u8>]) -> Vec<u8> {
    let names = Names::new(["root", "vm", "proc"]);
    records.iter().fold(file_header(&names, "naiad 1", 1 << 28), |mut file, record| {
        file.extend_from_slice(record);
        file
    })
}

fn read() -> Vec<u8> {
    let call = 0x5_0000_0001;
    record(
        Event::Linux as u16,
        0,
        [7, (12 << 32) | 11, call, 0],
        &[2 << 32 | To::AT_ONCE << 32, 3, 4, 5, 0, 0, 0],
        0,
        &[],
    )
}

#[test]
fn rows_stand_in_the_order_of_their_numbers() {
    for (index, row) in EVENTS.iter().enumerate() {
        assert_eq!(row.event as usize, usize::from(FIRST_EVENT) + index, "{}", row.name);
        assert!(row.arguments.len() <= ARGUMENTS_MAX, "{}", row.name);
    }
}

#[test]
fn no_system_call_has_the_number_of_an_event() {
    assert!(super::super::syscall::TABLE.len() < usize::from(FIRST_EVENT));
    assert_ne!(Event::from_number(FIRST_EVENT), None);
    assert_eq!(Event::from_number(super::super::journal::DISPOSED), None);
}

#[test]
fn a_file_gives_its_header_and_its_records_back() {
    let reply = [9, 3 << 32, 0x5_0000_0001, 0x5_0000_0001];
    let file = file(&[
        read(),
        record(Syscall::ReplyForeign as u16, 0, reply, &[0x5_0000_0001, 0, 42, 0, 0, 0], 0, &[]),
    ]);
    let mut reader = Reader::new(&file).unwrap();
    assert_eq!((reader.build.as_str(), reader.memory_bytes), ("naiad 1", 1 << 28));
    assert_eq!(
        (reader.names.name(3), reader.names.number("vm"), reader.names.name(0)),
        (Some("proc"), Some(2), None)
    );
    let first = reader.next().unwrap().unwrap();
    assert_eq!(first.stamp.who, Who::Program { pid: 11, tid: 12 });
    let to = To { server: 2, at_once: true };
    assert_eq!(first.what(), What::Linux { number: 0, to, arguments: [3, 4, 5, 0, 0, 0], result: None });
    assert_eq!(first.result(), None);
    let second = reader.next().unwrap().unwrap();
    assert_eq!((second.stamp.who, second.stamp.time_ns), (Who::Server(3), 9));
    assert_eq!(second.stamp.call, second.stamp.cause);
    assert_eq!(second.result(), Some(42));
    assert_eq!(reader.next(), None);
    assert_eq!(reader.position(), file.len() as u64);
}

#[test]
fn a_refused_answer_ends_no_call() {
    let refused =
        record(Syscall::ReplyForeign as u16, KernelError::NotResident as u8, [0; 4], &[0; 6], 0, &[]);
    let record = Reader::of_records(&refused).next().unwrap().unwrap();
    let error = Some(KernelError::NotResident);
    assert_eq!(record.what(), What::Native { call: Syscall::ReplyForeign, error, to: None });
    assert_eq!(record.result(), None);
}

#[test]
fn the_rings_end_is_passed_over() {
    let pad = |bytes: u32| {
        let header = Header { number: Event::Pad as u16, error: 0, values: 0, payload: bytes };
        let mut pad = header.pack().to_le_bytes().to_vec();
        pad.resize(8 + bytes as usize, 0xaa);
        pad
    };
    let file = file(&[pad(0), read(), pad(4000), read(), pad(8)]);
    assert_eq!(Reader::new(&file).unwrap().filter(Result::is_ok).count(), 2);
}

#[test]
fn what_is_no_trace_is_told_as_that() {
    assert_eq!(Reader::new(b"").err(), Some(Damage::NoTrace));
    assert_eq!(Reader::new(b"NAIADJNL and so on").err(), Some(Damage::NoTrace));
    assert_eq!(Reader::new(b"NAIADTRC").err(), Some(Damage::Header));
    let mut other = file(&[]);
    other[8] = 9;
    assert_eq!(Reader::new(&other).err(), Some(Damage::Version(9)));
    let short = file(&[]);
    assert_eq!(Reader::new(&short[..short.len() - 8]).err(), Some(Damage::Header));
}

#[test]
fn damage_is_told_with_its_place_and_what_is_before_it_is_read() {
    let whole = file(&[read(), read()]);
    let start = file(&[]).len() as u64;
    let second = start + read().len() as u64;
    let cut = &whole[..whole.len() - 8];
    let records: Vec<_> = Reader::new(cut).unwrap().collect();
    assert!(records[0].is_ok());
    assert_eq!(records[1..], [Err(Damage::CutOff(second))]);
    let mut unknown = whole.clone();
    unknown[second as usize + 1] = 0xff;
    assert_eq!(Reader::new(&unknown).unwrap().last(), Some(Err(Damage::Number(second, 0xff03))));
    let mut large = whole;
    large[second as usize + 5] = 1;
    assert_eq!(Reader::new(&large).unwrap().last(), Some(Err(Damage::Size(second))));
    assert!(Damage::Size(second).to_string().contains(&second.to_string()));
}

#[test]
fn nobody_is_taken_for_somebody_else() {
    for who in [Who::Kernel, Who::Server(1), Who::Server(48), Who::Program { pid: 1, tid: 1 }] {
        assert_eq!(Who::from_word(who.to_word()), who);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_to_an_end_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut file = file(&[read()]);
        file.extend_from_slice(&bytes);
        for record in Reader::new(&file).unwrap().flatten() {
            let _ = (record.what(), record.result());
        }
        let _ = Reader::new(&bytes);
    }

    #[test]
    fn every_record_that_can_be_written_is_read_as_it_was(
        number in prop::sample::select(numbers()),
        stamp in any::<[u64; 4]>(),
        words in any::<[u64; ARGUMENTS_MAX + VALUES_MAX as usize]>(),
        values in 0..=VALUES_MAX as u8,
        payload in prop::collection::vec(any::<u8>(), 0..PAYLOAD_KEPT as usize),
    ) {
        let count = arguments(number).unwrap();
        let words = &words[..count + usize::from(values)];
        let bytes = record(number, 0, stamp, words, values, &payload);
        prop_assert!(bytes.len() as u64 <= RECORD_MAX);
        let read: Vec<_> = Reader::of_records(&bytes).collect();
        let [Ok(read)] = read[..] else { panic!("{read:?}") };
        prop_assert_eq!(&read.arguments[..count], &words[..count]);
        prop_assert_eq!(&read.values[..usize::from(values)], &words[count..]);
        prop_assert_eq!(read.payload, &payload[..]);
        prop_assert_eq!(read.stamp.time_ns, stamp[0]);
    }
}

/// The numbers of all records but the one that is passed over.
fn numbers() -> Vec<u16> {
    let calls = super::super::syscall::TABLE.iter().map(|row| row.call as u16);
    calls.chain(EVENTS[1..].iter().map(|row| row.event as u16)).collect()
}
