//! Tests of names.

use libipc::linux::errno::*;
use libipc::linux::open::{O_PATH, O_RDONLY, O_RDWR};
use libipc::linux::{Stat, mode};
use libipc::proto::fs::{self, Answer, Credentials, Found, From, Operation, Request};
use libipc::server::{Caller, Event, Message};

use super::world::*;
use crate::uart::tests::Model;
use libipc::abi::Badge;

fn ask(world: &mut World, badge: u64, uid: u32, operation: Operation) -> Answer {
    let request = Request {
        from: From::Session(Badge(badge)),
        path: Vec::new(),
        barrier: None,
        covers: Vec::new(),
        follow: true,
        credentials: Credentials { uid, gid: uid, umask: 0, ..Credentials::default() },
        operation,
        program: None,
    };
    world.native(request.message()).decode().unwrap()
}

fn stat(world: &mut World, badge: u64) -> Stat {
    match ask(world, badge, 0, Operation::Stat) {
        Answer::Found(Found::Stat(stat)) => stat,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_open_terminal_is_the_device_it_was_opened_as() {
    let (mut world, console) = World::new();
    for (device, badge) in [(CONSOLE, console), (TTY, world.open(shell(), TTY, O_RDWR).unwrap())] {
        let call = world.linux(shell(), badge, 5, [0, BUFFER, 0, 0, 0, 0]);
        assert_eq!(world.result(call), Some(0));
        let stat = stat(&mut world, badge);
        assert_eq!((stat.mode, stat.rdev), (mode::S_IFCHR | 0o620, device));
        assert_eq!(world.load(BUFFER, 144), stat.to_bytes());
    }
}

#[test]
fn its_owner_and_the_superuser_change_its_permissions() {
    let (mut world, console) = World::new();
    let chmod = world.linux(shell(), console, 91, [0, 0o600, 0, 0, 0, 0]);
    assert_eq!(world.result(chmod), Some(-i64::from(EPERM)));
    let root = Caller { uid: 0, ..shell() };
    let chown = world.linux(root, console, 93, [0, 1000, u64::from(u32::MAX), 0, 0, 0]);
    let chmod = world.linux(shell(), console, 91, [0, 0o600, 0, 0, 0, 0]);
    assert_eq!((world.result(chown), world.result(chmod)), (Some(0), Some(0)));
    let stat = stat(&mut world, console);
    assert_eq!((stat.mode & 0o7777, stat.uid, stat.gid), (0o600, 1000, 0));
    assert_eq!(ask(&mut world, console, 7, Operation::SetMode(0o666)), Answer::Failed(EPERM));
    assert_eq!(ask(&mut world, console, 7, Operation::Access(4)), Answer::Failed(EACCES));
    assert_eq!(ask(&mut world, console, 1000, Operation::Access(6)), Answer::Found(Found::Done));
}

#[test]
fn opening_what_is_open_leads_to_the_device() {
    let (mut world, console) = World::new();
    let found = ask(&mut world, console, 0, Operation::Open { flags: O_RDONLY, mode: 0 });
    assert!(matches!(found, Answer::Found(Found::Device { stat }) if stat.rdev == CONSOLE));
    assert_eq!(ask(&mut world, console, 0, Operation::ReadLink), Answer::Failed(EINVAL));
    assert_eq!(ask(&mut world, console, 0, Operation::Unlink), Answer::Failed(ENOTDIR));
    assert_eq!(ask(&mut world, 77, 0, Operation::Stat), Answer::Failed(EBADF));
}

#[test]
fn what_a_terminal_cannot_do_has_the_errors_programs_expect() {
    let (mut world, console) = World::new();
    for (number, errno) in
        [(8, ESPIPE), (17, ESPIPE), (296, ESPIPE), (72, EINVAL), (217, ENOTDIR), (999, ENOSYS)]
    {
        let call = world.linux(shell(), console, number, [0, BUFFER, 1, 0, 0, 0]);
        assert_eq!(world.result(call), Some(-i64::from(errno)), "call {number}");
    }
    for number in [74, 75, 306, 138] {
        let call = world.linux(shell(), console, number, [0, BUFFER, 0, 0, 0, 0]);
        assert_eq!(world.result(call), Some(0), "call {number}");
    }
    for (request, errno) in [(0x8004_5430, ENOTTY), (0x540b, EINVAL)] {
        let call = world.ioctl(shell(), console, request, 9);
        assert_eq!(world.result(call), Some(-i64::from(errno)));
    }
    assert_ne!(world.native(Message::words(fs::PAGE_IN, [1, 0, 1, 0])).label, 0);
    let call = world.read(shell(), 77, 10);
    assert_eq!(world.result(call), Some(-i64::from(EBADF)));
}

#[test]
fn a_mere_path_can_be_looked_at_and_nothing_else() {
    let (mut world, _) = World::new();
    let badge = world.open(shell(), SERIAL, O_PATH).unwrap();
    let call = world.linux(shell(), badge, 5, [0, BUFFER, 0, 0, 0, 0]);
    assert_eq!(world.result(call), Some(0));
    let call = world.ioctl(shell(), badge, 0x5401, BUFFER);
    assert_eq!(world.result(call), Some(-i64::from(EBADF)));
}

#[test]
fn a_machine_without_a_serial_port_has_no_terminal() {
    let mut world = World::off(Model { absent: true, ..Model::default() });
    world.event(Event::Start);
    assert_eq!(world.log, b"tty: there is no serial port at these registers\n");
    for device in [CONSOLE, SERIAL] {
        assert_eq!(world.open(Caller::default(), device, O_RDWR), Err(ENXIO as u32));
    }
}
