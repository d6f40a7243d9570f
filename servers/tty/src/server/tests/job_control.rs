//! Tests of job_control.

use libipc::linux::errno::*;
use libipc::linux::open::{O_NOCTTY, O_RDWR, O_WRONLY};
use libipc::linux::signal::*;
use libipc::proto::terminal::{Event as News, PERMITTED, QUERY, SESSION_BEGUN, SESSION_ENDED};
use libipc::server::{Boot, Caller, Message, Server};

use super::world::*;
use crate::Tty;
use crate::termios::LocalFlags;

const TIOCSCTTY: u64 = 0x540e;
const TIOCGPGRP: u64 = 0x540f;
const TIOCSPGRP: u64 = 0x5410;
const TIOCGWINSZ: u64 = 0x5413;
const TIOCSWINSZ: u64 = 0x5414;
const TIOCNOTTY: u64 = 0x5422;
const TIOCGSID: u64 = 0x5429;

fn foreground(world: &mut World, badge: u64, pgid: i32) -> Option<i64> {
    world.store(BUFFER, &pgid.to_le_bytes());
    let call = world.ioctl(shell(), badge, TIOCSPGRP, BUFFER);
    world.result(call)
}

fn number(world: &mut World, who: Caller, badge: u64, request: u64) -> Result<u32, i64> {
    let call = world.ioctl(who, badge, request, BUFFER);
    match world.result(call).expect("it is answered at once") {
        0 => Ok(u32::from_le_bytes(world.load(BUFFER, 4).try_into().unwrap())),
        error => Err(error),
    }
}

#[test]
fn the_interrupt_character_signals_the_group_in_the_foreground() {
    let (mut world, console) = World::new();
    assert_eq!(foreground(&mut world, console, 30), Some(0));
    world.typing("half a line\x03");
    assert_eq!(world.told, 1);
    world.typing("\x03\x1a");
    assert_eq!(world.told, 1, "the process server knows already");
    let signals = [SIGINT, SIGTSTP].map(|signal| News::Signal { pgid: 30, signal });
    assert_eq!(world.news(), signals);
    assert!(world.news().is_empty());
    world.typing("\x1c");
    assert_eq!((world.told, world.news()), (2, vec![News::Signal { pgid: 30, signal: SIGQUIT }]));
}

#[test]
fn a_terminal_without_a_session_signals_nobody() {
    let (mut world, _) = World::new();
    world.native(Message::words(SESSION_ENDED, [2, 0, 0, 0]));
    world.typing("\x03");
    assert_eq!((world.told, world.news()), (0, vec![]));
}

#[test]
fn a_read_from_the_background_is_the_process_server_s_to_decide() {
    let (mut world, console) = World::new();
    let read = world.read(job(), console, 10);
    assert_eq!(world.question(read), 1);
    assert_eq!(foreground(&mut world, console, 30), Some(0));
    let read = world.read(job(), console, 10);
    world.typing("x\n");
    assert_eq!(world.got(read).as_deref(), Some("x\n"));
}

#[test]
fn a_write_from_the_background_is_decided_only_with_tostop_and_goes_on_when_permitted() {
    let (mut world, console) = World::new();
    let write = world.write(job(), console, b"one ");
    assert_eq!(world.result(write), Some(4));
    world.set(console, |termios| termios.local.insert(LocalFlags::TOSTOP));
    let write = world.write(job(), console, b"two ");
    assert_eq!(world.question(write), 2);
    assert_eq!(world.script.ports.shown(), "one ");
    world.come_back(job(), write);
    assert_eq!((world.result(write), world.script.ports.shown().as_str()), (Some(4), "two "));
}

#[test]
fn a_vectored_write_from_the_background_finds_its_buffers_again() {
    let (mut world, console) = World::new();
    world.set(console, |termios| termios.local.insert(LocalFlags::TOSTOP));
    world.store(BUFFER + 100, b"hello");
    for (index, word) in [BUFFER + 100, 5].into_iter().enumerate() {
        world.store(BUFFER + index as u64 * 8, &u64::to_le_bytes(word));
    }
    let write = world.linux(job(), console, 20, [1, BUFFER, 1, 0, 0, 0]);
    world.come_back(job(), write);
    assert_eq!((world.result(write), world.script.ports.shown().as_str()), (Some(5), "hello"));
}

#[test]
fn changing_the_terminal_from_the_background_is_decided_and_looking_is_not() {
    let (mut world, console) = World::new();
    assert_eq!(number(&mut world, job(), console, TIOCGPGRP), Ok(2));
    world.store(BUFFER, &30_u32.to_le_bytes());
    let set = world.ioctl(job(), console, TIOCSPGRP, BUFFER);
    assert_eq!(world.question(set), 3);
    let flush = world.ioctl(job(), console, 0x540b, 0);
    assert_eq!(world.question(flush), 3);
    world.come_back(job(), set);
    assert_eq!(world.result(set), Some(0));
    assert_eq!(number(&mut world, shell(), console, TIOCGPGRP), Ok(30));
}

#[test]
fn a_permission_that_nobody_asked_for_is_an_error() {
    let (mut world, _) = World::new();
    assert_eq!(world.native(Message::label(PERMITTED)).label, EINVAL as u32);
    assert_eq!(world.native(Message::label(0x77)).label, EINVAL as u32);
}

#[test]
fn the_foreground_is_told_to_the_session_and_changed_by_it_alone() {
    let (mut world, console) = World::new();
    let stranger = caller(50, 50, 50);
    assert_eq!(number(&mut world, shell(), console, TIOCGSID), Ok(2));
    assert_eq!(number(&mut world, stranger, console, TIOCGSID), Err(-i64::from(ENOTTY)));
    assert_eq!(number(&mut world, stranger, console, TIOCGPGRP), Err(-i64::from(ENOTTY)));
    assert_eq!(foreground(&mut world, console, 0), Some(-i64::from(ESRCH)));
    assert_eq!(foreground(&mut world, console, -5), Some(-i64::from(EINVAL)));
}

#[test]
fn a_new_window_size_is_told_once_to_the_foreground() {
    let (mut world, console) = World::new();
    let get = world.ioctl(shell(), console, TIOCGWINSZ, BUFFER);
    assert_eq!(world.result(get), Some(0));
    assert_eq!(world.load(BUFFER, 8), [24, 0, 80, 0, 0, 0, 0, 0]);
    for news in [vec![News::Signal { pgid: 2, signal: SIGWINCH }], vec![]] {
        world.store(BUFFER, &[50, 0, 132, 0, 0, 0, 0, 0]);
        let set = world.ioctl(shell(), console, TIOCSWINSZ, BUFFER);
        assert_eq!((world.result(set), world.told, world.news()), (Some(0), 1, news));
    }
}

#[test]
fn the_manifest_may_say_how_large_the_window_is() {
    let config = postcard::to_allocvec(&(30_u16, 100_u16)).unwrap();
    let tty = Tty::new(&Boot { config, ..boot_block() });
    assert_eq!((tty.window.rows, tty.window.columns), (30, 100));
    let config = postcard::to_allocvec(&(0_u16, 0_u16)).unwrap();
    let tty = Tty::new(&Boot { config, ..boot_block() });
    assert_eq!((tty.window.rows, tty.window.columns), (24, 80));
}

#[test]
fn dev_tty_is_the_caller_s_own_terminal_or_none() {
    let (mut world, _) = World::new();
    assert!(world.open(job(), TTY, O_RDWR).is_ok());
    assert_eq!(world.open(caller(50, 50, 50), TTY, O_RDWR), Err(ENXIO as u32));
    assert_eq!(world.open(Caller::default(), TTY, O_RDWR), Err(ENXIO as u32));
    for pseudo in [0x8800, 0x502, 0x444] {
        assert_eq!(world.open(job(), pseudo, O_RDWR), Err(ENXIO as u32));
    }
}

#[test]
fn a_leader_without_a_terminal_gets_a_free_one_by_opening_it_by_name() {
    let (mut world, _) = World::new();
    let leader = caller(50, 50, 50);
    let session = |world: &mut World, badge| number(world, leader, badge, TIOCGSID);
    let badge = world.open(leader, SERIAL, O_RDWR).unwrap();
    assert!(session(&mut world, badge).is_err(), "another session has it");
    world.native(Message::words(SESSION_ENDED, [2, 0, 0, 0]));
    for (device, flags) in [(CONSOLE, O_RDWR), (SERIAL, O_RDWR | O_NOCTTY), (SERIAL, O_WRONLY)] {
        let badge = world.open(leader, device, flags).unwrap();
        assert!(session(&mut world, badge).is_err());
    }
    let badge = world.open(caller(51, 50, 50), SERIAL, O_RDWR).unwrap();
    assert!(session(&mut world, badge).is_err(), "only its leader gets a session its terminal");
    let badge = world.open(leader, SERIAL, O_RDWR).unwrap();
    assert_eq!(session(&mut world, badge), Ok(50));
}

#[test]
fn a_terminal_that_could_not_be_opened_is_nobody_s() {
    let (mut world, _) = World::new();
    world.native(Message::words(SESSION_ENDED, [2, 0, 0, 0]));
    world.session_quota = 0;
    let leader = caller(50, 50, 50);
    assert_eq!(world.open(leader, SERIAL, O_RDWR), Err(ENFILE as u32));
    assert_eq!(world.native(Message::words(QUERY, [50, 0, 0, 0])).words, [0; 4]);
}

#[test]
fn tiocsctty_gives_a_free_terminal_and_the_superuser_may_take_one() {
    let (mut world, console) = World::new();
    let leader = caller(50, 50, 50);
    let refused = world.ioctl(leader, console, TIOCSCTTY, 1);
    assert_eq!(world.result(refused), Some(-i64::from(EPERM)));
    let taken = world.ioctl(Caller { uid: 0, ..leader }, console, TIOCSCTTY, 1);
    assert_eq!(world.result(taken), Some(0));
    assert_eq!(world.native(Message::words(QUERY, [50, 0, 0, 0])).words, [SERIAL, 50, 0, 0]);
    assert_eq!(world.native(Message::words(QUERY, [2, 0, 0, 0])).words, [0; 4]);
    assert_eq!(world.native(Message::words(SESSION_BEGUN, [60, 60, 0, 0])).label, EPERM as u32);
}

#[test]
fn a_leader_that_gives_its_terminal_up_hangs_up_on_the_foreground() {
    let (mut world, console) = World::new();
    foreground(&mut world, console, 30);
    let other = world.ioctl(job(), console, TIOCNOTTY, 0);
    assert_eq!((world.result(other), world.told), (Some(0), 0));
    let given = world.ioctl(shell(), console, TIOCNOTTY, 0);
    assert_eq!(world.result(given), Some(0));
    let signals = [SIGHUP, SIGCONT].map(|signal| News::Signal { pgid: 30, signal });
    assert_eq!(world.news(), signals);
    assert_eq!(world.native(Message::words(QUERY, [2, 0, 0, 0])).words, [0; 4]);
}

#[test]
fn the_end_of_a_leader_hangs_up_what_was_opened_by_name_and_leaves_the_console() {
    let (mut world, console) = World::new();
    let serial = world.open(job(), SERIAL, O_RDWR).unwrap();
    foreground(&mut world, console, 30);
    let reads = [serial, console].map(|badge| world.read(job(), badge, 10));
    let answer = world.native(Message::words(SESSION_ENDED, [99, 0, 0, 0]));
    assert_eq!((answer.words[0], world.result(reads[0])), (0, None));
    let answer = world.native(Message::words(SESSION_ENDED, [2, 0, 0, 0]));
    assert_eq!((answer.words[0], world.result(reads[0]), world.result(reads[1])), (30, Some(0), None));
    let read = world.read(job(), serial, 10);
    let write = world.write(job(), serial, b"x");
    let control = world.ioctl(job(), serial, TIOCGWINSZ, BUFFER);
    let errors = [Some(0), Some(-i64::from(EIO)), Some(-i64::from(EIO))];
    assert_eq!([read, write, control].map(|call| world.result(call)), errors);
    assert_eq!(world.sessions[&serial].readiness.bits(), 0x1d);
    world.typing("for the next\n");
    assert_eq!(world.result(reads[1]), Some(10));
    world.close(serial);
    assert!(!world.sessions.contains_key(&serial));
}
