//! Pipes, FIFOs and socket pairs.

use super::world::{BUFFER, End, SERVER_PROC, World};
use libipc::abi::syscall::Restart;
use libipc::abi::{CallId, Readiness};
use libipc::linux::errno::*;
use libipc::linux::mode::{S_IFIFO, S_IFMT, S_IFSOCK};
use libipc::linux::open::*;
use libipc::proto::fs::{Found, OPEN_FIFO, Operation};
use libipc::server::{Effect, Event, Foreign, Message, Request, Server};

const IN: Readiness = Readiness::IN;
const OUT: Readiness = Readiness::OUT;
/// A second buffer, so that a waiting call's is not written over.
const OTHER: u64 = BUFFER + (1 << 20);

impl World {
    fn begin_read(&mut self, badge: u64, length: u64) -> CallId {
        self.begin(badge, 0, [3, OTHER, length, 0, 0, 0])
    }

    fn begin_write(&mut self, badge: u64, bytes: &[u8]) -> CallId {
        self.store(OTHER, bytes);
        self.begin(badge, 1, [3, OTHER, bytes.len() as u64, 0, 0, 0])
    }
}

#[test]
fn a_byte_goes_through_and_readiness_follows() {
    let mut world = World::new();
    let (read, write) = world.pipe(0);
    assert_eq!((world.readiness(read), world.readiness(write)), (Readiness::empty(), OUT));
    assert_eq!(world.write(write, b"x"), 1);
    assert_eq!(world.readiness(read), IN);
    assert_eq!(world.linux(read, 16, [3, 0x541b, BUFFER, 0, 0, 0]), 0);
    assert_eq!(world.load(BUFFER, 4), 1u32.to_le_bytes());
    assert_eq!(world.read(read, 100), Ok(b"x".to_vec()));
    assert_eq!(world.readiness(read), Readiness::empty());
}

#[test]
fn the_descriptors_are_told_and_the_pipe_looks_like_one() {
    let mut world = World::new();
    let (read, write) = world.pipe(O_CLOEXEC | O_NONBLOCK);
    assert_eq!(world.load(BUFFER, 8), [3, 0, 0, 0, 4, 0, 0, 0]);
    assert_eq!((world.sessions[&read].status, world.sessions[&write].status), (O_NONBLOCK, O_NONBLOCK | 1));
    assert_eq!(world.linux(read, 5, [3, BUFFER, 0, 0, 0, 0]), 0);
    let mode = u32::from_le_bytes(world.load(BUFFER + 24, 4).try_into().expect("four bytes"));
    assert_eq!(mode, S_IFIFO | 0o600);
    assert_eq!(world.linux(read, 8, [3, 0, 0, 0, 0, 0]), -i64::from(ESPIPE));
    assert_eq!(world.linux(read, 17, [3, BUFFER, 1, 0, 0, 0]), -i64::from(ESPIPE));
    assert_eq!(world.linux(write, 0, [3, BUFFER, 1, 0, 0, 0]), -i64::from(EBADF));
    assert_eq!(world.linux(0, 293, [BUFFER, 1, 0, 0, 0, 0]), -i64::from(EINVAL));
}

#[test]
fn a_waiting_reader_gets_the_bytes_of_the_write_in_two_effects() {
    let mut world = World::new();
    let (read, write) = world.pipe(0);
    let reader = world.begin_read(read, 10);
    assert_eq!(world.result(reader), None);
    world.store(BUFFER, b"x");
    let foreign = Foreign { number: 1, arguments: [4, BUFFER, 1, 0, 0, 0], ..Foreign::default() };
    let call = world.script.call(world.caller, write, Request::Foreign(foreign));
    let effects = world.server.step(&Event::Call(call), &mut world.script);
    let replies = |effect: &Effect| matches!(effect, Effect::ReplyForeign { .. });
    assert!(effects.list.len() == 2 && effects.list.iter().all(replies), "{effects:?}");
}

#[test]
fn writes_of_every_size_arrive_whole() {
    for size in [1, 511, 512, 513, 4095, 4096, 4097, 30_000, 65_536] {
        let mut world = World::new();
        let free = world.free_pages();
        let (read, write) = world.pipe(0);
        let bytes: Vec<u8> = (0..size).map(|index| (index % 253) as u8).collect();
        assert_eq!(world.write(write, &bytes), size as i64);
        assert_eq!(world.read(read, 3), Ok(bytes[..bytes.len().min(3)].to_vec()));
        let rest = &bytes[bytes.len().min(3)..];
        if !rest.is_empty() {
            assert_eq!(world.read(read, 70_000), Ok(rest.to_vec()));
        }
        assert_eq!(world.free_pages(), free);
    }
}

#[test]
fn a_large_write_waits_for_its_readers_and_counts_all() {
    let mut world = World::new();
    let (read, write) = world.pipe(0);
    let bytes: Vec<u8> = (0..200_000u32).map(|index| (index % 251) as u8).collect();
    let writer = world.begin_write(write, &bytes);
    assert_eq!(world.result(writer), None);
    assert_eq!(world.readiness(write), Readiness::empty());
    let mut read_back = Vec::new();
    while read_back.len() < bytes.len() {
        read_back.extend(world.read(read, 10_000).expect("bytes"));
    }
    assert_eq!(read_back, bytes);
    assert_eq!(world.result(writer), Some(200_000));
}

#[test]
fn a_small_write_is_never_split() {
    let mut world = World::new();
    let (read, write) = world.pipe(O_NONBLOCK);
    let fill = vec![b'a'; 65_536 - 100];
    assert_eq!(world.write(write, &fill), fill.len() as i64);
    assert_eq!(world.write(write, &[b'b'; 101]), -i64::from(EAGAIN));
    assert_eq!(world.write(write, &[b'c'; 5000]), 100);
    assert_eq!(world.write(write, b"d"), -i64::from(EAGAIN));
    assert_eq!(world.read(read, 70_000).expect("bytes").len(), 65_536);
    assert_eq!(world.read(read, 1), Err(-i64::from(EAGAIN)));
}

#[test]
fn the_last_writers_end_is_the_end_of_file() {
    let mut world = World::new();
    let (read, write) = world.pipe(0);
    world.write(write, b"bye");
    let call = world.begin_read(read, 3);
    assert_eq!(world.result(call), Some(3));
    let waiting = world.begin_read(read, 3);
    world.close(write);
    assert_eq!(world.result(waiting), Some(0));
    assert_eq!(world.readiness(read), Readiness::HUP);
    assert_eq!(world.read(read, 1), Ok(vec![]));
}

#[test]
fn a_write_that_nobody_can_read_goes_to_the_process_server() {
    let mut world = World::new();
    let (read, write) = world.pipe(0);
    let bytes = vec![1; 65_536];
    assert_eq!(world.write(write, &bytes), 65_536);
    let untouched = world.begin_write(write, b"x");
    world.close(read);
    assert_eq!(world.ends[&untouched], End::Forwarded(SERVER_PROC));
    assert_eq!(world.readiness(write), Readiness::ERR);
    let late = world.begin(write, 20, [4, 0, 0, 0, 0, 0]);
    assert_eq!(world.result(late), Some(0), "nothing written harms nobody");
    let late = world.begin_write(write, b"x");
    assert_eq!(world.ends[&late], End::Forwarded(SERVER_PROC));
    world.close(write);
    assert!(world.server.pipes.is_empty() && world.server.parked.is_empty());
}

#[test]
fn an_interrupted_call_tells_what_it_did() {
    let mut world = World::new();
    let (read, write) = world.pipe(0);
    let reader = world.begin_read(read, 1);
    world.cancel(reader);
    let End::Linux(reply) = &world.ends[&reader] else { panic!("a reply") };
    assert_eq!((reply.result, reply.restart), (-i64::from(EINTR), Restart::IfAsked));
    let writer = world.begin_write(write, &[7; 70_000]);
    world.cancel(writer);
    assert_eq!(world.result(writer), Some(65_536));
    let second = world.begin_write(write, b"y");
    world.cancel(second);
    assert_eq!(world.result(second), Some(-i64::from(EINTR)));
    assert!(world.server.parked.is_empty());
}

#[test]
fn the_capacity_changes_by_pages_and_not_below_what_is_in_it() {
    let mut world = World::new();
    let (read, write) = world.pipe(0);
    let fcntl = |world: &mut World, command: u32, size: u64| {
        world.linux(write, 72, [4, u64::from(command), size, 0, 0, 0])
    };
    assert_eq!(fcntl(&mut world, F_GETPIPE_SZ, 0), 65_536);
    assert_eq!(fcntl(&mut world, F_SETPIPE_SZ, 5000), 8192);
    let writer = world.begin_write(write, &[7; 10_000]);
    assert_eq!(fcntl(&mut world, F_SETPIPE_SZ, 4096), -i64::from(EBUSY));
    assert_eq!(world.result(writer), None);
    assert_eq!(fcntl(&mut world, F_SETPIPE_SZ, 1 << 20), 1 << 20);
    assert_eq!(world.result(writer), Some(10_000));
    assert_eq!(world.read(read, 20_000).expect("bytes").len(), 10_000);
    world.caller.uid = 5;
    assert_eq!(fcntl(&mut world, F_SETPIPE_SZ, 2 << 20), -i64::from(EPERM));
}

#[test]
fn pipes_work_while_files_fill_the_arena() {
    let mut world = World::sized(1 << 20);
    let file = world.make("f");
    while world.write(file, &[1; 65_536]) > 0 {}
    let pipes: Vec<(u64, u64)> = (0..3).map(|_| world.pipe(O_NONBLOCK)).collect();
    for (_, write) in &pipes {
        while world.write(*write, &[2; 4096]) > 0 {}
    }
    for (read, _) in &pipes {
        let mut total = 0;
        while let Ok(bytes) = world.read(*read, 65_536) {
            assert!(bytes.iter().all(|byte| *byte == 2));
            total += bytes.len();
        }
        assert_eq!(total, 65_536);
    }
}

/// What vfs does for open(2) of the FIFO: asks, and hands the program's call on.
fn open_fifo(world: &mut World, flags: u32) -> CallId {
    let found = world.request("fifo", Operation::Open { flags, mode: 0 });
    let Ok(Found::Device { stat }) = found else { panic!("{found:?}") };
    assert!(stat.is(S_IFIFO));
    let message = Message::words(OPEN_FIFO, [stat.ino, u64::from(flags), 7, 0]);
    let call = world.script.call(world.caller, 0, Request::Native(message));
    world.begin_call(call)
}

fn fifo() -> World {
    let mut world = World::new();
    world.request("fifo", Operation::MakeNode { mode: S_IFIFO | 0o666, device: 0 }).expect("made");
    world
}

#[test]
fn each_side_of_a_fifo_waits_for_the_other() {
    let mut world = fifo();
    let reader = open_fifo(&mut world, O_RDONLY);
    assert_eq!(world.result(reader), None);
    let writer = open_fifo(&mut world, O_WRONLY | O_CLOEXEC);
    assert_eq!((world.result(reader), world.result(writer)), (Some(7), Some(7)));
    let [read, write] = [reader, writer].map(|call| world.installed(call)[0]);
    assert_eq!(world.write(write, b"hi"), 2);
    assert_eq!(world.readiness(read), IN);
    assert_eq!(world.read(read, 9), Ok(b"hi".to_vec()));
    world.close(write);
    assert_eq!(world.readiness(read), Readiness::HUP);
    assert_eq!(world.read(read, 9), Ok(vec![]));
    let again = open_fifo(&mut world, O_WRONLY);
    assert_eq!(world.result(again), Some(7));
    assert_eq!(world.readiness(read), Readiness::empty());
}

#[test]
fn a_fifo_does_not_wait_when_told_so() {
    let mut world = fifo();
    let writer = open_fifo(&mut world, O_WRONLY | O_NONBLOCK);
    assert_eq!(world.result(writer), Some(-i64::from(ENXIO)));
    assert!(world.server.pipes.is_empty());
    let reader = open_fifo(&mut world, O_RDONLY | O_NONBLOCK);
    let read = world.installed(reader)[0];
    assert_eq!(world.readiness(read), Readiness::empty(), "no writer yet is no hang-up");
    assert_eq!(world.read(read, 1), Ok(vec![]));
    let writer = open_fifo(&mut world, O_WRONLY | O_NONBLOCK);
    assert_eq!(world.result(writer), Some(7));
    assert_eq!(world.read(read, 1), Err(-i64::from(EAGAIN)));
    let both = open_fifo(&mut world, O_RDWR);
    assert_eq!(world.result(both), Some(7));
}

#[test]
fn an_opening_that_is_given_up_leaves_nothing_behind() {
    let mut world = fifo();
    let reader = open_fifo(&mut world, O_RDONLY);
    world.cancel(reader);
    assert_eq!(world.result(reader), Some(-i64::from(EINTR)));
    assert!(world.server.pipes.is_empty() && world.server.parked.is_empty());
}

#[test]
fn a_waiting_writer_whose_page_has_gone_is_answered_and_holds_nobody_up() {
    let mut world = World::new();
    let (read, write) = world.pipe(0);
    let writer = world.begin_write(write, &[7; 100_000]);
    world.script.miss_next = true;
    assert_eq!(world.read(read, 10_000).expect("bytes").len(), 10_000);
    assert_eq!(world.result(writer), Some(65_536), "what went in counts");
    let full = world.begin_write(write, &[8; 50_000]);
    let small = world.begin_write(write, &[9; 4096]);
    world.script.miss_next = true;
    let mut rest = Vec::new();
    while world.result(small).is_none() {
        rest.extend(world.read(read, 30_000).expect("bytes"));
    }
    rest.extend(world.read(read, 70_000).expect("bytes"));
    let written = world.result(full).expect("answered") as usize;
    assert_eq!(world.result(small), Some(4096));
    assert_eq!(rest.iter().filter(|byte| **byte == 8).count(), written);
    assert_eq!(rest[rest.len() - 4096..], [9; 4096]);
}

#[test]
fn a_socket_pair_talks_both_ways_until_one_end_closes() {
    let mut world = World::new();
    let call = world.begin(0, 53, [1, 1, 0, BUFFER, 0, 0]);
    let [one, other] = world.installed(call)[..] else { panic!("two descriptors") };
    assert_eq!(world.write(one, b"ping"), 4);
    assert_eq!((world.readiness(one), world.readiness(other)), (OUT, IN | OUT));
    assert_eq!(world.read(other, 9), Ok(b"ping".to_vec()));
    assert_eq!(world.write(other, b"pong"), 4);
    assert_eq!(world.read(one, 9), Ok(b"pong".to_vec()));
    assert_eq!(world.linux(one, 5, [3, BUFFER, 0, 0, 0, 0]), 0);
    let mode = u32::from_le_bytes(world.load(BUFFER + 24, 4).try_into().expect("four bytes"));
    assert_eq!(mode & S_IFMT, S_IFSOCK);
    world.close(other);
    assert_eq!(world.readiness(one), IN | OUT | Readiness::HUP | Readiness::RDHUP);
    assert_eq!(world.read(one, 1), Ok(vec![]));
    let broken = world.begin_write(one, b"x");
    assert_eq!(world.ends[&broken], End::Forwarded(SERVER_PROC));
    world.close(one);
    assert!(world.server.pipes.is_empty());
    for (arguments, errno) in [
        ([2, 1, 0], EOPNOTSUPP),
        ([200, 1, 0], EAFNOSUPPORT),
        ([1, 4, 0], ESOCKTNOSUPPORT),
        ([1, 77, 0], EINVAL),
        ([1, 1, 5], EPROTONOSUPPORT),
    ] {
        let [domain, kind, protocol] = arguments;
        assert_eq!(world.linux(0, 53, [domain, kind, protocol, BUFFER, 0, 0]), -i64::from(errno));
    }
}

#[test]
fn an_end_whose_session_is_lost_counts_as_closed() {
    let mut world = World::new();
    let (read, write) = world.pipe(0);
    let reader = world.begin_read(read, 10);
    let handle = world.sessions[&write].owner;
    world.event(&Event::Lost { handle });
    assert_eq!(world.result(reader), Some(0), "the end of the file");
    // It is told of once.
    world.event(&Event::Lost { handle });
}
