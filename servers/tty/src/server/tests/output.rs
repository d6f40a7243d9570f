//! Tests of output.

use libipc::abi::Readiness;
use libipc::abi::syscall::Restart;
use libipc::linux::errno::*;
use libipc::linux::open::{O_NONBLOCK, O_RDWR};

use libipc::server::Event;

use super::world::*;
use crate::termios::{LocalFlags, OutputFlags, Termios};

/// A text whose every part can be told from every other.
fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| b'a' + (index * index % 26) as u8).collect()
}

/// A world whose wire takes a burst only when it is told to.
fn slow() -> (World, u64) {
    let (mut world, console) = World::new();
    world.script.ports.instant = false;
    (world, console)
}

#[test]
fn a_write_is_answered_when_its_last_byte_has_left() {
    let (mut world, console) = slow();
    let write = world.write(shell(), console, &text(40));
    for _ in 0..2 {
        assert_eq!(world.result(write), None);
        world.drain();
    }
    assert_eq!(world.result(write), Some(40));
    world.drain();
    assert_eq!(world.script.ports.port.sent, text(40));
}

#[test]
fn a_long_write_leaves_whole_and_in_order() {
    for instant in [true, false] {
        let (mut world, console) = World::new();
        world.script.ports.instant = instant;
        let write = world.write(shell(), console, &text(100_000));
        for _ in 0..100_000 / 16 {
            world.drain();
        }
        assert_eq!(world.result(write), Some(100_000));
        assert!(world.script.ports.port.sent == text(100_000));
    }
}

#[test]
fn an_instant_wire_needs_no_waiting() {
    let (mut world, console) = World::new();
    let before = world.history.len();
    let write = world.write(shell(), console, b"a line of output that takes some bursts\n");
    assert_eq!(world.result(write), Some(40));
    let mut after = world.history[before..].iter();
    assert!(!after.any(|(_, event)| matches!(event, Event::Notify { .. })), "no interrupt was asked for");
    assert_eq!(world.script.ports.shown(), "a line of output that takes some bursts\r\n");
}

#[test]
fn what_one_writes_stays_together() {
    let (mut world, console) = slow();
    let first = world.write(shell(), console, &[b'a'; 9000]);
    world.store(BUFFER + 10_000, &[b'b'; 9000]);
    let second = world.linux(job(), console, 1, [1, BUFFER + 10_000, 9000, 0, 0, 0]);
    while world.result(second).is_none() {
        world.drain();
    }
    world.drain();
    assert_eq!(world.result(first), Some(9000));
    let expected = [[b'a'; 9000], [b'b'; 9000]].concat();
    assert!(world.script.ports.port.sent == expected);
}

#[test]
fn a_vectored_write_leaves_in_order_and_stops_at_a_bad_buffer() {
    let (mut world, console) = World::new();
    world.store(BUFFER + 100, b"hello world");
    for (index, word) in [BUFFER + 100, 5, BUFFER + 105, 6, 7, 10].into_iter().enumerate() {
        world.store(BUFFER + index as u64 * 8, &u64::to_le_bytes(word));
    }
    let write = world.linux(shell(), console, 20, [1, BUFFER, 3, 0, 0, 0]);
    assert_eq!((world.result(write), world.script.ports.shown().as_str()), (Some(11), "hello world"));
    let bad = world.linux(shell(), console, 1, [1, 7, 10, 0, 0, 0]);
    assert_eq!(world.result(bad), Some(-i64::from(EFAULT)));
    let many = world.linux(shell(), console, 20, [1, BUFFER, 1025, 0, 0, 0]);
    assert_eq!(world.result(many), Some(-i64::from(EINVAL)));
}

#[test]
fn a_write_begins_when_its_first_page_is_there() {
    let (mut world, console) = World::new();
    world.script.missing.insert(BUFFER >> 12);
    let write = world.write(shell(), console, b"late");
    assert_eq!((world.result(write), world.script.ports.shown().as_str()), (Some(4), "late"));
}

#[test]
fn a_page_that_goes_away_makes_a_write_short_but_never_wrong() {
    let (mut world, console) = slow();
    let write = world.write(shell(), console, &text(10_000));
    world.script.missing.insert((BUFFER >> 12) + 2);
    while world.result(write).is_none() {
        world.drain();
    }
    let count = world.result(write).unwrap() as usize;
    assert!((4096..=8192).contains(&count), "{count}");
    world.drain();
    assert!(world.script.ports.port.sent == text(10_000)[..count]);
}

#[test]
fn without_waiting_a_write_takes_what_has_room() {
    let (mut world, _) = slow();
    let badge = world.open(shell(), SERIAL, O_RDWR | O_NONBLOCK).unwrap();
    let write = world.write(shell(), badge, &text(5000));
    assert_eq!(world.result(write), Some(4096));
    assert_eq!(world.sessions[&badge].readiness, Readiness::empty());
    // The port has taken a burst of it.
    let write = world.write(shell(), badge, &text(5000));
    assert_eq!(world.result(write), Some(16));
    let write = world.write(shell(), badge, &text(5000));
    assert_eq!(world.result(write), Some(-i64::from(EAGAIN)));
    while world.sessions[&badge].readiness != Readiness::OUT {
        world.drain();
    }
    let write = world.write(shell(), badge, b"more");
    assert_eq!(world.result(write), Some(4));
}

#[test]
fn a_signal_ends_a_write_with_what_was_taken_or_restarts_it() {
    let (mut world, console) = slow();
    let first = world.write(shell(), console, &text(5000));
    let second = world.linux(shell(), console, 1, [1, BUFFER, 10, 0, 0, 0]);
    world.cancel(second);
    assert_eq!((world.result(second), world.restart(second)), (Some(-i64::from(EINTR)), Restart::IfAsked));
    world.cancel(first);
    assert_eq!((world.result(first), world.restart(first)), (Some(4096 + 16), Restart::Never));
}

#[test]
fn the_stop_character_holds_output_until_the_start_character() {
    let (mut world, console) = World::new();
    world.typing("\x13");
    let write = world.write(shell(), console, b"held");
    assert_eq!((world.result(write), world.script.ports.shown().as_str()), (None, ""));
    world.typing("\x11");
    assert_eq!((world.result(write), world.script.ports.shown().as_str()), (Some(4), "held"));
}

#[test]
fn a_program_that_holds_output_releases_it() {
    let (mut world, console) = slow();
    let write = world.write(shell(), console, &text(30));
    world.ioctl(shell(), console, 0x540a, 0);
    world.drain();
    assert_eq!((world.result(write), world.script.ports.port.sent.len()), (None, 16));
    world.ioctl(shell(), console, 0x540a, 1);
    assert_eq!(world.result(write), Some(30));
}

#[test]
fn output_is_thrown_away_on_request() {
    let (mut world, console) = slow();
    let write = world.write(shell(), console, &text(1000));
    let count = world.ioctl(shell(), console, 0x5411, BUFFER);
    assert_eq!(world.result(count), Some(0));
    assert_eq!(world.load(BUFFER, 4), 984_u32.to_le_bytes());
    world.ioctl(shell(), console, 0x540b, 1);
    assert_eq!(world.result(write), Some(1000));
    world.drain();
    assert_eq!(world.script.ports.port.sent, text(16));
}

#[test]
fn tcdrain_waits_for_output_and_can_be_interrupted() {
    let (mut world, console) = slow();
    world.write(shell(), console, &text(30));
    let drain = world.ioctl(shell(), console, 0x5409, 1);
    let other = world.ioctl(shell(), console, 0x5409, 1);
    assert_eq!(world.result(drain), None);
    world.cancel(other);
    assert_eq!(world.result(other), Some(-i64::from(EINTR)));
    world.drain();
    assert_eq!(world.result(drain), Some(0));
    let idle = world.ioctl(shell(), console, 0x5409, 1);
    assert_eq!(world.result(idle), Some(0));
}

#[test]
fn tcdrain_waits_for_no_writer_that_has_not_had_its_turn() {
    let (mut world, console) = slow();
    let first = world.write(shell(), console, &text(30));
    let second = world.write(shell(), console, &text(5000));
    let drain = world.ioctl(shell(), console, 0x5409, 1);
    world.drain();
    assert_eq!([first, drain, second].map(|call| world.result(call)), [Some(30), Some(0), None]);
}

#[test]
fn many_writers_that_wait_take_little_memory() {
    let (mut world, console) = slow();
    for _ in 0..20 {
        world.write(shell(), console, &text(9000));
    }
    let state = postcard::to_allocvec(&world.tty).unwrap();
    assert!(state.len() < 16_000, "{}", state.len());
}

#[test]
fn settings_that_wait_for_output_apply_to_what_comes_after_it() {
    let (mut world, console) = slow();
    world.typing("typed\n");
    world.drain();
    world.drain();
    assert_eq!(world.script.ports.shown(), "typed\r\n");
    let write = world.write(shell(), console, b"0123456789abcdef\n");
    let mut termios = Termios::console();
    termios.output.remove(OutputFlags::OPOST);
    world.store(BUFFER, &termios.to_bytes());
    let set = world.ioctl(shell(), console, 0x5404, BUFFER);
    assert_eq!(world.result(set), None);
    world.drain();
    assert_eq!((world.result(write), world.result(set)), (Some(17), Some(0)));
    world.drain();
    world.write(shell(), console, b"\n");
    world.drain();
    assert_eq!(world.script.ports.shown(), "0123456789abcdef\r\n\n");
    let read = world.read(shell(), console, 10);
    assert_eq!(world.result(read), None, "what was typed before is gone");
}

#[test]
fn a_break_lasts_its_time_and_the_next_waits_for_its_end() {
    let (mut world, console) = World::new();
    let first = world.ioctl(shell(), console, 0x5409, 0);
    let second = world.ioctl(shell(), console, 0x5425, 3);
    assert_eq!((world.result(first), world.script.ports.port.line_control), (None, 0x43));
    world.wait_ns(250_000_000);
    assert_eq!((world.result(first), world.result(second)), (Some(0), None));
    assert_eq!(world.script.ports.port.line_control, 0x43);
    world.wait_ns(299_999_999);
    assert_eq!(world.result(second), None);
    world.wait_ns(1);
    assert_eq!((world.result(second), world.script.ports.port.line_control), (Some(0), 0x03));
    let third = world.ioctl(shell(), console, 0x5409, 0);
    world.cancel(third);
    assert_eq!((world.result(third), world.script.ports.port.line_control), (Some(-i64::from(EINTR)), 0x03));
}

#[test]
fn an_interrupt_that_comes_while_its_line_is_closed_is_not_missed() {
    let (mut world, console) = slow();
    world.set(console, |termios| termios.local.remove(LocalFlags::ECHO));
    let read = world.read(shell(), console, 10);
    let write = world.write(shell(), console, &text(100));
    // Every byte comes with the transmitter's interrupt under way.
    for byte in *b"abcdef\n" {
        world.script.ports.port.drain();
        world.script.ports.port.arrive(byte, 0);
        world.drain();
    }
    assert_eq!(world.result(write), Some(100));
    assert_eq!(world.got(read).as_deref(), Some("abcdef\n"));
}
