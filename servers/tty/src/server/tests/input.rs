//! Tests of input.

use libipc::abi::Readiness;
use libipc::abi::syscall::Restart;
use libipc::linux::errno::*;
use libipc::linux::open::{O_NONBLOCK, O_RDONLY, O_RDWR, O_WRONLY};
use libipc::server::Event;

use super::world::*;
use crate::termios::{ControlChar, InputFlags, LocalFlags, Termios};
use crate::uart::tests::Model;

const TENTH_NS: u64 = 100_000_000;

/// Raw mode with these values of VMIN and VTIME.
fn raw(min: u8, time: u8) -> impl FnOnce(&mut Termios) {
    move |termios| {
        termios.input = InputFlags::empty();
        termios.local.remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
        termios.set_char(ControlChar::Min, min);
        termios.set_char(ControlChar::Time, time);
    }
}

#[test]
fn a_line_that_is_typed_is_echoed_and_reaches_the_reader_when_it_ends() {
    let (mut world, console) = World::new();
    let read = world.read(shell(), console, 100);
    world.typing("hellp\x7fo");
    assert_eq!(world.result(read), None);
    world.typing("\r");
    assert_eq!(world.got(read).as_deref(), Some("hello\n"));
    assert_eq!(world.script.ports.shown(), "hellp\x08 \x08o\r\n");
}

#[test]
fn a_line_longer_than_an_answer_arrives_whole() {
    let (mut world, console) = World::new();
    let line = format!("{}\n", "x".repeat(1500));
    world.typing(&line);
    let read = world.read(shell(), console, 4000);
    assert_eq!(world.got(read), Some(line));
}

#[test]
fn readers_are_served_in_the_order_in_which_they_came() {
    let (mut world, console) = World::new();
    let first = world.read(shell(), console, 100);
    let second = world.linux(shell(), console, 0, [0, BUFFER + 500, 100, 0, 0, 0]);
    world.typing("one\n");
    assert_eq!((world.got(first).as_deref(), world.result(second)), (Some("one\n"), None));
    world.typing("two\n");
    assert_eq!(world.result(second), Some(4));
    assert_eq!(world.load(BUFFER + 500, 4), b"two\n");
}

#[test]
fn a_vectored_read_fills_one_buffer_after_the_other() {
    let (mut world, console) = World::new();
    for (index, word) in [BUFFER + 100, 2, BUFFER + 200, 50].into_iter().enumerate() {
        world.store(BUFFER + index as u64 * 8, &u64::to_le_bytes(word));
    }
    world.typing("hello\n");
    let read = world.linux(shell(), console, 19, [0, BUFFER, 2, 0, 0, 0]);
    assert_eq!(world.result(read), Some(6));
    assert_eq!(
        (world.load(BUFFER + 100, 2), world.load(BUFFER + 200, 4)),
        (b"he".to_vec(), b"llo\n".to_vec())
    );
}

#[test]
fn the_end_of_a_file_is_an_empty_read() {
    let (mut world, console) = World::new();
    let read = world.read(shell(), console, 100);
    world.typing("\x04");
    assert_eq!(world.result(read), Some(0));
}

#[test]
fn without_waiting_an_empty_terminal_has_nothing_now() {
    let (mut world, _) = World::new();
    let badge = world.open(shell(), SERIAL, O_RDWR | O_NONBLOCK).unwrap();
    let read = world.read(shell(), badge, 100);
    assert_eq!(world.result(read), Some(-i64::from(EAGAIN)));
    world.typing("a\n");
    let read = world.read(shell(), badge, 100);
    assert_eq!(world.got(read).as_deref(), Some("a\n"));
}

#[test]
fn without_waiting_nobody_overtakes_a_reader() {
    let (mut world, console) = World::new();
    let badge = world.open(shell(), SERIAL, O_RDWR | O_NONBLOCK).unwrap();
    world.set(console, raw(3, 0));
    world.read(shell(), console, 100);
    world.typing("ab");
    let read = world.read(shell(), badge, 100);
    assert_eq!(world.result(read), Some(-i64::from(EAGAIN)));
}

#[test]
fn fionbio_is_the_session_s_status() {
    let (mut world, console) = World::new();
    world.store(BUFFER, &1_u32.to_le_bytes());
    world.ioctl(shell(), console, 0x5421, BUFFER);
    assert_eq!(world.sessions[&console].status, O_RDWR | O_NONBLOCK);
    world.store(BUFFER, &0_u32.to_le_bytes());
    world.ioctl(shell(), console, 0x5421, BUFFER);
    assert_eq!(world.sessions[&console].status, O_RDWR);
}

#[test]
fn a_raw_read_waits_for_as_many_bytes_as_vmin_says() {
    let (mut world, console) = World::new();
    world.set(console, raw(3, 0));
    let read = world.read(shell(), console, 10);
    world.typing("ab");
    assert_eq!((world.result(read), world.timer), (None, u64::MAX));
    world.typing("c");
    assert_eq!(world.got(read).as_deref(), Some("abc"));
}

#[test]
fn vtime_counts_from_the_last_byte_where_vmin_waits() {
    let (mut world, console) = World::new();
    world.set(console, raw(3, 5));
    let read = world.read(shell(), console, 10);
    assert_eq!(world.timer, u64::MAX, "nothing has come, so nothing is timed");
    world.typing("a");
    world.wait_ns(4 * TENTH_NS);
    world.typing("b");
    world.wait_ns(4 * TENTH_NS);
    assert_eq!(world.result(read), None);
    world.wait_ns(TENTH_NS);
    assert_eq!(world.got(read).as_deref(), Some("ab"));
    assert_eq!(world.timer, u64::MAX);
}

#[test]
fn vtime_alone_counts_from_the_turn_of_the_read_and_ends_it_empty() {
    let (mut world, console) = World::new();
    world.set(console, raw(0, 2));
    let first = world.read(shell(), console, 10);
    let second = world.read(shell(), console, 10);
    world.wait_ns(2 * TENTH_NS);
    assert_eq!((world.result(first), world.result(second)), (Some(0), None));
    world.wait_ns(2 * TENTH_NS);
    assert_eq!(world.result(second), Some(0));
}

#[test]
fn a_signal_ends_a_read_with_what_there_is_or_restarts_it() {
    let (mut world, console) = World::new();
    let line = world.read(shell(), console, 10);
    world.cancel(line);
    assert_eq!((world.result(line), world.restart(line)), (Some(-i64::from(EINTR)), Restart::IfAsked));
    world.set(console, raw(3, 0));
    let bytes = world.read(shell(), console, 10);
    let behind = world.read(shell(), console, 10);
    world.typing("ab");
    world.cancel(behind);
    assert_eq!(world.result(behind), Some(-i64::from(EINTR)), "the bytes are for the one before it");
    world.cancel(bytes);
    assert_eq!(world.got(bytes).as_deref(), Some("ab"));
}

#[test]
fn a_cancelled_call_that_is_answered_already_is_ignored() {
    let (mut world, console) = World::new();
    world.typing("a\n");
    let read = world.read(shell(), console, 10);
    world.cancel(read);
    assert_eq!(world.got(read).as_deref(), Some("a\n"));
}

#[test]
fn readiness_is_told_as_it_is() {
    let (mut world, console) = World::new();
    assert_eq!(world.sessions[&console].readiness, Readiness::OUT);
    world.typing("a");
    assert_eq!(world.sessions[&console].readiness, Readiness::OUT);
    world.typing("\n");
    assert_eq!(world.sessions[&console].readiness, Readiness::IN | Readiness::OUT);
    world.read(shell(), console, 10);
    assert_eq!(world.sessions[&console].readiness, Readiness::OUT);
}

#[test]
fn input_that_has_no_place_stays_in_the_port_until_it_is_read() {
    let (mut world, console) = World::new();
    world.set(console, raw(1, 0));
    let mut typed = 0_u32;
    while world.script.ports.port.received.len() < world.script.ports.port.depth() {
        world.script.ports.port.arrive(typed as u8, 0);
        typed += 1;
        // What the kernel does when the edge comes.
        world.event(Event::Notify { bits: 0 });
        world.event(Event::Notify { bits: 1 });
    }
    assert_eq!(typed, 4095 + 16, "the buffer and the port");
    let mut seen = 0_u32;
    while seen < typed {
        let read = world.read(shell(), console, 1000);
        let count = world.result(read).expect("there is more to read");
        for byte in world.load(BUFFER, count as u64) {
            assert_eq!(byte, seen as u8);
            seen += 1;
        }
    }
}

#[test]
fn discarding_input_discards_what_waits_for_a_place_too() {
    let (mut world, console) = World::new();
    world.set(console, raw(1, 0));
    world.typing(&"x".repeat(4090));
    for byte in *b"sixteen at once!" {
        world.script.ports.port.arrive(byte, 0);
    }
    world.event(Event::Notify { bits: 1 });
    let flush = world.ioctl(shell(), console, 0x540b, 0);
    assert_eq!(world.result(flush), Some(0));
    let count = world.ioctl(shell(), console, 0x541b, BUFFER);
    assert_eq!((world.result(count), world.load(BUFFER, 4)), (Some(0), vec![0; 4]));
    world.typing("y");
    let read = world.read(shell(), console, 10);
    assert_eq!(world.got(read).as_deref(), Some("y"));
}

#[test]
fn a_port_with_more_than_a_batch_is_looked_at_again_at_once() {
    let (mut world, console) = World::new();
    world.set(console, raw(1, 0));
    world.script.ports.port.received.extend((0..600).map(|_| (b'x', 0)));
    world.event(Event::Notify { bits: 1 });
    let read = world.read(shell(), console, 1000);
    assert_eq!(world.result(read), Some(600));
}

#[test]
fn what_was_typed_before_the_start_is_read() {
    let mut port = Model::default();
    port.arrive(b'l', 0);
    let mut world = World::off(port);
    world.event(Event::Start);
    world.typing("s\n");
    let console = world.open(Default::default(), CONSOLE, O_RDWR).unwrap();
    let read = world.read(shell(), console, 100);
    assert_eq!(world.got(read).as_deref(), Some("ls\n"));
    assert_eq!(world.script.ports.port.depth(), 1, "the line was not quiet yet");
    world.wait_ns(TENTH_NS);
    world.write(shell(), console, b"some output");
    assert_eq!(world.script.ports.port.depth(), 16);
    assert_eq!(world.script.ports.shown(), "ls\r\nsome output");
}

#[test]
fn how_it_was_opened_says_what_may_be_done() {
    let (mut world, _) = World::new();
    let badge = world.open(shell(), SERIAL, O_WRONLY).unwrap();
    let read = world.read(shell(), badge, 10);
    assert_eq!(world.result(read), Some(-i64::from(EBADF)));
    let badge = world.open(shell(), SERIAL, O_RDONLY).unwrap();
    let write = world.write(shell(), badge, b"x");
    assert_eq!(world.result(write), Some(-i64::from(EBADF)));
}

#[test]
fn a_program_may_type_at_its_own_terminal_only() {
    let (mut world, console) = World::new();
    let read = world.read(shell(), console, 10);
    world.store(BUFFER + 50, b"\n");
    let stranger = world.ioctl(caller(50, 50, 50), console, 0x5412, BUFFER + 50);
    assert_eq!(world.result(stranger), Some(-i64::from(EPERM)));
    assert_eq!(world.result(read), None);
    let own = world.ioctl(job(), console, 0x5412, BUFFER + 50);
    assert_eq!((world.result(own), world.got(read).as_deref()), (Some(0), Some("\n")));
}
