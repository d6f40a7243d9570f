//! What the comparison with Linux in `tests/pty` cannot show: bounds, timers, damaged input, and that nothing
//! panics.

use proptest::prelude::*;

use super::*;
use crate::termios::OutputFlags;

fn queue() -> ByteQueue {
    ByteQueue::new(1 << 16)
}

fn raw(min: u8, time: u8) -> Termios {
    let mut termios = Termios {
        input: InputFlags::empty(),
        output: OutputFlags::empty(),
        local: LocalFlags::empty(),
        ..Termios::default()
    };
    termios.set_char(ControlChar::Min, min);
    termios.set_char(ControlChar::Time, time);
    termios
}

/// Types bytes and answers what the last of them asked for.
fn type_bytes(line: &mut LineDiscipline, bytes: &[u8], out: &mut ByteQueue) -> Actions {
    bytes.iter().fold(Actions::default(), |_, byte| line.input(*byte, out))
}

fn bytes(bytes: &[u8]) -> ReadOutcome {
    ReadOutcome::Bytes(bytes.to_vec())
}

#[test]
fn a_finished_line_wakes_readers_and_an_unfinished_one_does_not() {
    let (mut line, mut out) = (LineDiscipline::new(Termios::console()), queue());
    assert_eq!(type_bytes(&mut line, b"ls", &mut out), Actions::default());
    assert_eq!(line.read(10), ReadOutcome::Wait(ReadTimer::None));
    assert!(type_bytes(&mut line, b"\r", &mut out).readable);
    assert_eq!(line.read(10), bytes(b"ls\n"));
    assert_eq!(out.take(99), b"ls\r\n");
}

#[test]
fn a_typed_signal_is_asked_for_and_frees_waiting_writers() {
    let (mut line, mut out) = (LineDiscipline::new(Termios::console()), queue());
    assert_eq!(line.write(b"much output", &mut out), 11);
    let actions = type_bytes(&mut line, b"\x13\x03", &mut out);
    assert_eq!(actions, Actions { signal: Some(Signal::Interrupt), readable: false, writable: true });
    assert_eq!(out.take(99), b"^C");
}

#[test]
fn the_timer_of_a_raw_read_follows_min_and_time() {
    let mut out = queue();
    for (min, time, empty, one_byte) in [
        (0, 0, bytes(b""), bytes(b"x")),
        (0, 7, ReadOutcome::Wait(ReadTimer::SinceRead(7)), bytes(b"x")),
        (1, 7, ReadOutcome::Wait(ReadTimer::None), bytes(b"x")),
        (2, 0, ReadOutcome::Wait(ReadTimer::None), ReadOutcome::Wait(ReadTimer::None)),
        (2, 7, ReadOutcome::Wait(ReadTimer::None), ReadOutcome::Wait(ReadTimer::SinceInput(7))),
    ] {
        let mut line = LineDiscipline::new(raw(min, time));
        assert_eq!(line.read(10), empty, "min {min}, time {time}");
        let _ = line.input(b'x', &mut out);
        assert_eq!(line.read(10), one_byte, "min {min}, time {time}");
    }
}

#[test]
fn a_read_whose_wait_is_over_returns_what_there_is_in_raw_mode_only() {
    let mut out = queue();
    let mut line = LineDiscipline::new(raw(5, 1));
    let _ = type_bytes(&mut line, b"abc", &mut out);
    assert_eq!(line.read_waiting(2), b"ab");
    assert_eq!(line.read_waiting(2), b"c");
    let mut line = LineDiscipline::new(Termios::default());
    let _ = type_bytes(&mut line, b"abc", &mut out);
    assert_eq!(line.read_waiting(2), b"");
}

#[test]
fn a_raw_read_waits_for_no_more_than_it_can_take_and_for_all_of_min() {
    let mut out = queue();
    let mut line = LineDiscipline::new(raw(200, 0));
    let _ = type_bytes(&mut line, &[b'x'; 198], &mut out);
    assert_eq!(line.read(200), ReadOutcome::Wait(ReadTimer::None));
    assert!(!line.poll_readable(), "VMIN is not there");
    assert!(line.input(b'x', &mut out).readable, "a reader that asks for less is to be tried");
    assert_eq!(line.read(150), bytes(&[b'x'; 150]));
}

#[test]
fn a_write_takes_what_has_room_and_no_half_of_a_newline() {
    let mut line = LineDiscipline::new(Termios::default());
    let mut out = ByteQueue::new(4);
    assert_eq!(line.write(b"abc\nd", &mut out), 3);
    assert!(!line.poll_writable(&ByteQueue::new(0)));
    assert_eq!(out.take(99), b"abc");
    assert_eq!(line.write(b"\nd", &mut out), 2);
    assert_eq!(out.take(99), b"\r\nd");
}

#[test]
fn echo_without_room_waits_its_turn_before_later_writes() {
    let mut line = LineDiscipline::new(Termios::default());
    let mut out = ByteQueue::new(2);
    let _ = type_bytes(&mut line, b"abc", &mut out);
    assert_eq!(line.write(b"x", &mut out), 0);
    assert!(!line.poll_writable(&out));
    assert_eq!(out.take(99), b"ab");
    assert!(line.resume(&mut out).writable);
    assert_eq!(line.write(b"x", &mut out), 1);
    assert_eq!(out.take(99), b"cx");
}

#[test]
fn a_byte_that_finds_the_queue_full_is_lost_with_a_bell_if_asked_for() {
    for (flags, bell) in [(InputFlags::empty(), &b""[..]), (InputFlags::IMAXBEL, b"\x07")] {
        let mut out = queue();
        let mut line = LineDiscipline::new(Termios { input: flags, ..raw(1, 0) });
        while line.accepts_input() {
            let _ = line.input(b'x', &mut out);
        }
        let full = line.readable_bytes();
        assert_eq!(line.input(b'y', &mut out), Actions::default());
        assert_eq!(line.readable_bytes(), full);
        assert_eq!(out.take(99), bell);
    }
}

#[test]
fn a_break_is_ignored_or_interrupts_or_is_read() {
    type I = InputFlags;
    for (flags, signal, read) in [
        (I::IGNBRK | I::BRKINT, None, &b""[..]),
        (I::BRKINT | I::PARMRK, Some(Signal::Interrupt), b""),
        (I::PARMRK, None, b"\xff\0\0"),
        (I::empty(), None, b"\0"),
    ] {
        let mut out = queue();
        let mut line = LineDiscipline::new(Termios { input: flags, ..raw(0, 0) });
        assert_eq!(line.input_break(&mut out).signal, signal);
        assert_eq!(line.read(10), bytes(read));
    }
}

#[test]
fn a_damaged_byte_is_passed_or_dropped_or_marked() {
    type I = InputFlags;
    for (flags, read) in [
        (I::empty(), &b"x"[..]),
        (I::INPCK | I::IGNPAR | I::PARMRK, b""),
        (I::INPCK | I::PARMRK, b"\xff\0x"),
        (I::INPCK, b"\0"),
    ] {
        let mut out = queue();
        let mut line = LineDiscipline::new(Termios { input: flags, ..raw(0, 0) });
        let _ = line.input_damaged(b'x', &mut out);
        assert_eq!(line.read(10), bytes(read));
    }
}

#[test]
fn the_number_of_held_echoes_is_bounded_and_the_newest_survive() {
    let mut out = queue();
    let mut line = LineDiscipline::new(Termios::default());
    for _ in 0..100 {
        let _ = type_bytes(&mut line, b"\x13", &mut out);
        let _ = type_bytes(&mut line, &[b'x'; 99], &mut out);
    }
    let _ = type_bytes(&mut line, b"z\x15end\x11", &mut out);
    let shown = out.take(u32::MAX);
    assert!(shown.len() <= 4096 && shown.ends_with(b"end"));
}

/// Something that can happen to a terminal.
#[derive(Clone, Debug)]
enum Event {
    Type(u8),
    Damaged(u8),
    Break,
    Write(Vec<u8>),
    Read(u32),
    ReadWaiting(u32),
    Set(Box<Termios>),
    FlushInput,
    FlushOutput,
    Flow(Flow),
    Drain(u32),
}

const FLOWS: &[Flow] = &[Flow::HoldOutput, Flow::ReleaseOutput, Flow::HoldInput, Flow::ReleaseInput];

fn termios() -> impl Strategy<Value = Termios> {
    // Small values make control characters meet one another and the bytes that are typed.
    (any::<[u32; 4]>(), prop::array::uniform::<_, 19>(0..32_u8)).prop_map(
        |([input, output, control, local], chars)| Termios {
            input: InputFlags::from_bits_retain(input),
            output: OutputFlags::from_bits_retain(output),
            control: crate::termios::ControlFlags::from_bits_retain(control),
            local: LocalFlags::from_bits_retain(local),
            chars,
            ..Termios::default()
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let byte = || prop_oneof![0..32_u8, any::<u8>()];
    prop_oneof![
        20 => byte().prop_map(Event::Type),
        1 => byte().prop_map(Event::Damaged),
        1 => Just(Event::Break),
        4 => prop::collection::vec(byte(), 0..40).prop_map(Event::Write),
        4 => (0..20_u32).prop_map(Event::Read),
        1 => (0..20_u32).prop_map(Event::ReadWaiting),
        2 => termios().prop_map(|termios| Event::Set(Box::new(termios))),
        1 => Just(Event::FlushInput),
        1 => Just(Event::FlushOutput),
        1 => prop::sample::select(FLOWS).prop_map(Event::Flow),
        2 => (0..40_u32).prop_map(Event::Drain),
    ]
}

/// Does one event; answers the bytes a read returned, and fails where more came back than was asked for.
fn happen(line: &mut LineDiscipline, event: &Event, out: &mut ByteQueue) -> Result<Vec<u8>, TestCaseError> {
    let mut read = Vec::new();
    match event {
        Event::Type(byte) => _ = line.input(*byte, out),
        Event::Damaged(byte) => _ = line.input_damaged(*byte, out),
        Event::Break => _ = line.input_break(out),
        Event::Write(bytes) => prop_assert!(line.write(bytes, out) as usize <= bytes.len()),
        Event::Read(max_bytes) => {
            let ready = line.poll_readable();
            match line.read(*max_bytes) {
                ReadOutcome::Bytes(bytes) => read = bytes,
                // With VMIN and VTIME both set, `poll` looks at the first byte and a read at all of VMIN.
                ReadOutcome::Wait(ReadTimer::SinceInput(_)) => {}
                ReadOutcome::Wait(_) => prop_assert!(!ready, "poll promised more than read keeps"),
            }
            prop_assert!(read.len() <= *max_bytes as usize);
        }
        Event::ReadWaiting(max_bytes) => {
            read = line.read_waiting(*max_bytes);
            prop_assert!(read.len() <= *max_bytes as usize);
        }
        Event::Set(termios) => _ = line.set_termios((**termios).clone(), out),
        Event::FlushInput => line.flush_input(),
        Event::FlushOutput => _ = line.flush_output(out),
        Event::Flow(request) => _ = line.control_flow(*request, out),
        Event::Drain(max_bytes) => {
            out.take(*max_bytes);
            let _ = line.resume(out);
        }
    }
    Ok(read)
}

proptest! {
    #[test]
    fn whatever_happens_nothing_panics_and_every_bound_holds(
        first in termios(),
        room in 0..64_u32,
        events in prop::collection::vec(event(), 0..300),
    ) {
        let (mut line, mut out) = (LineDiscipline::new(first), ByteQueue::new(room));
        for event in &events {
            let before = line.readable_bytes();
            let read = happen(&mut line, event, &mut out)?;
            prop_assert!(read.len() as u32 <= before);
            prop_assert!(line.readable_bytes() <= INPUT_CAPACITY);
            prop_assert!(out.len() <= room);
        }
    }

    #[test]
    fn a_terminal_restored_from_its_snapshot_goes_on_the_same(
        first in termios(),
        events in prop::collection::vec(event(), 1..80),
        at: prop::sample::Index,
    ) {
        let (mut line, mut out) = (LineDiscipline::new(first), ByteQueue::new(64));
        let (before, after) = events.split_at(at.index(events.len()));
        for event in before {
            happen(&mut line, event, &mut out)?;
        }
        let snapshot = postcard::to_allocvec(&(&line, &out)).unwrap();
        let (mut line2, mut out2): (LineDiscipline, ByteQueue) = postcard::from_bytes(&snapshot).unwrap();
        for event in after {
            let read = happen(&mut line, event, &mut out)?;
            prop_assert_eq!(read, happen(&mut line2, event, &mut out2)?);
        }
        prop_assert_eq!((line, out), (line2, out2));
    }
}
