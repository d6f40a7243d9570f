//! Sockets and timers.

use libipc::abi::delivery::Named;
use libipc::abi::{CallId, Handle, Readiness};
use libipc::linux::call as number;
use libipc::linux::errno::*;
use libipc::linux::open::O_NONBLOCK;
use libipc::proto::fs::{SOCKET_PLACE, SocketPlace};
use libipc::server::{Caller, Event, Foreign, Message, Request, TIMER_BIT};

use super::world::{BUFFER, End, World};

const SERVER_VFS: Handle = Handle(2);
/// Where the tests put what goes along with a message.
const HEADER: u64 = BUFFER + 0x10_0000;
const VECTOR: u64 = HEADER + 0x100;
const CONTROL: u64 = HEADER + 0x200;
const NAME: u64 = HEADER + 0x400;
const DONT_WAIT: u64 = 0x40;
const STREAM: u64 = 1;
const DATAGRAM: u64 = 2;
const PACKETS: u64 = 5;

fn pair(world: &mut World, kind: u64) -> (u64, u64) {
    let call = world.begin(0, number::SOCKETPAIR, [1, kind, 0, BUFFER, 0, 0]);
    let [one, other] = world.installed(call)[..] else { panic!("two descriptors") };
    (one, other)
}

fn socket(world: &mut World, kind: u64) -> u64 {
    let call = world.begin(0, number::SOCKET, [1, kind, 0, 0, 0, 0]);
    world.installed(call)[0]
}

fn begin_receive(world: &mut World, badge: u64, length: u64, flags: u64) -> CallId {
    world.begin(badge, number::RECVFROM, [3, BUFFER, length, flags, 0, 0])
}

fn receive(world: &mut World, badge: u64, length: u64, flags: u64) -> Result<Vec<u8>, i64> {
    let call = begin_receive(world, badge, length, flags);
    let result = world.result(call).expect("it ends at once");
    if result < 0 { Err(result) } else { Ok(world.load(BUFFER, (result as u64).min(length))) }
}

/// A call with an address in its first input.
fn addressed(world: &mut World, badge: u64, number: u32, address: &[u8]) -> CallId {
    let arguments = [3, NAME, address.len() as u64, 0, 0, 0];
    let inputs = [Some(address.to_vec()), None];
    world.begin_with(badge, Foreign { number, arguments, inputs, slots: [3, 4], ..Foreign::default() })
}

fn listener(world: &mut World, kind: u64, backlog: u64) -> u64 {
    let listening = socket(world, kind);
    let bound = addressed(world, listening, number::BIND, b"\x01\0\0name");
    assert_eq!(world.result(bound), Some(0));
    assert_eq!(world.linux(listening, number::LISTEN, [3, backlog, 0, 0, 0, 0]), 0);
    listening
}

fn accept(world: &mut World, badge: u64) -> CallId {
    world.begin(badge, number::ACCEPT4, [3, 0, 0, 0, 0, 0])
}

fn message(world: &mut World, length: u64, control: &[u8]) {
    let words = [0, 0, VECTOR, 1, CONTROL, control.len() as u64, 0];
    world.store(HEADER, &words.into_iter().flat_map(u64::to_le_bytes).collect::<Vec<u8>>());
    world.store(VECTOR, &[BUFFER, length].into_iter().flat_map(u64::to_le_bytes).collect::<Vec<u8>>());
    world.store(CONTROL, control);
}

fn rights(descriptors: &[u32]) -> Vec<u8> {
    let mut bytes = (16 + 4 * descriptors.len() as u64).to_le_bytes().to_vec();
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    bytes.extend(descriptors.iter().flat_map(|descriptor| descriptor.to_le_bytes()));
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

#[test]
fn packets_keep_their_borders_and_what_does_not_fit_is_lost() {
    for kind in [DATAGRAM, PACKETS] {
        let mut world = World::new();
        let (one, other) = pair(&mut world, kind);
        for packet in [&b"one"[..], b"", &[7; 5000]] {
            assert_eq!(world.write(one, packet), packet.len() as i64);
        }
        assert_eq!(receive(&mut world, other, 10, 0x2), Ok(b"one".to_vec()), "a look");
        assert_eq!(receive(&mut world, other, 10, 0), Ok(b"one".to_vec()));
        assert_eq!(receive(&mut world, other, 10, 0), Ok(vec![]));
        let call = begin_receive(&mut world, other, 100, 0x20);
        assert_eq!(world.result(call), Some(5000), "MSG_TRUNC tells how long it was");
        assert_eq!(world.load(BUFFER, 100), [7; 100]);
        assert_eq!(receive(&mut world, other, 10, DONT_WAIT), Err(-i64::from(EAGAIN)));
        let pages = world.free_pages();
        assert_eq!(world.write(one, &[1; 5000]), 5000);
        world.close(one);
        world.close(other);
        assert_eq!(world.free_pages(), pages, "what nobody read is given back");
    }
}

#[test]
fn a_sender_waits_for_room_and_its_bytes_are_those_it_had() {
    let mut world = World::new();
    let (one, other) = pair(&mut world, PACKETS);
    let mut sent = 0;
    let waiting = loop {
        world.store(BUFFER, &[sent as u8; 60_000]);
        let call = world.begin(one, number::SENDTO, [3, BUFFER, 60_000, 0, 0, 0]);
        match world.result(call) {
            Some(result) => assert_eq!(result, 60_000),
            None => break call,
        }
        sent += 1;
    };
    assert!(!world.readiness(one).contains(Readiness::OUT) || sent > 0);
    world.store(BUFFER, &[0xff; 60_000]);
    for number in 0..=sent {
        assert_eq!(receive(&mut world, other, 60_000, 0), Ok(vec![number as u8; 60_000]));
    }
    assert_eq!(world.result(waiting), Some(60_000));
}

#[test]
fn a_receiver_that_waits_gets_what_comes_or_the_end() {
    let mut world = World::new();
    let (one, other) = pair(&mut world, PACKETS);
    let waiting = begin_receive(&mut world, other, 10, 0);
    assert_eq!(world.result(waiting), None);
    assert_eq!(world.write(one, b"late"), 4);
    assert_eq!(world.result(waiting), Some(4));
    let waiting = begin_receive(&mut world, other, 10, 0);
    world.cancel(waiting);
    assert_eq!(world.result(waiting), Some(-i64::from(EINTR)));
    let waiting = begin_receive(&mut world, other, 10, 0);
    world.close(one);
    assert_eq!(world.result(waiting), Some(0));
    assert_eq!(world.write(other, b"x"), -i64::from(EPIPE));
}

#[test]
fn a_stream_is_shut_one_way_at_a_time() {
    let mut world = World::new();
    let (one, other) = pair(&mut world, STREAM);
    assert_eq!(world.write(one, b"before"), 6);
    assert_eq!(world.linux(one, number::SHUTDOWN, [3, 1, 0, 0, 0, 0]), 0);
    assert_eq!(world.read(other, 10), Ok(b"before".to_vec()));
    assert_eq!(world.read(other, 10), Ok(vec![]));
    let quiet = world.begin(one, number::SENDTO, [3, BUFFER, 1, 0x4000, 0, 0]);
    assert_eq!(world.result(quiet), Some(-i64::from(EPIPE)));
    assert_eq!(world.write(other, b"back"), 4);
    assert_eq!(world.linux(one, number::SHUTDOWN, [3, 0, 0, 0, 0, 0]), 0);
    assert_eq!(world.read(one, 10), Ok(b"back".to_vec()), "what had come is still read");
    assert_eq!(world.read(one, 10), Ok(vec![]));
    assert!(world.readiness(one).contains(Readiness::HUP));
    world.close(one);
    world.close(other);
    assert!(world.server.pipes.is_empty());
}

#[test]
fn waiting_for_all_takes_what_comes_in_pieces() {
    let mut world = World::new();
    let (one, other) = pair(&mut world, STREAM);
    let waiting = begin_receive(&mut world, other, 6, 0x100);
    world.store(BUFFER + 100, b"abcdefgh");
    for at in [0, 2] {
        assert_eq!(world.linux(one, number::SENDTO, [3, BUFFER + 100 + at, 2, 0, 0, 0]), 2);
        assert_eq!(world.result(waiting), None);
    }
    assert_eq!(world.linux(one, number::SENDTO, [3, BUFFER + 104, 4, 0, 0, 0]), 4);
    assert_eq!(world.result(waiting), Some(6));
    assert_eq!(world.load(BUFFER, 6), b"abcdef");
    assert_eq!(receive(&mut world, other, 9, 0x2), Ok(b"gh".to_vec()));
    assert_eq!(receive(&mut world, other, 9, 0), Ok(b"gh".to_vec()));
}

#[test]
fn descriptors_come_with_the_first_of_their_bytes_and_go_with_their_sockets() {
    for kind in [STREAM, PACKETS] {
        let mut world = World::new();
        let (one, other) = pair(&mut world, kind);
        let named = Named { server: 9, badge: 8, object: 7 };
        world.script.descriptors.insert(5, named);
        assert_eq!(world.write(one, b"plain"), 5);
        message(&mut world, 4, &rights(&[5]));
        assert_eq!(world.linux(one, number::SENDMSG, [3, HEADER, 0, 0, 0, 0]), 4);
        message(&mut world, 4, &rights(&[6]));
        assert_eq!(world.linux(one, number::SENDMSG, [3, HEADER, 0, 0, 0, 0]), -i64::from(EBADF));
        assert_eq!(world.read(other, 5), Ok(b"plain".to_vec()));
        world.script.miss_next = true;
        message(&mut world, 100, &[0; 24]);
        assert_eq!(world.linux(other, number::RECVMSG, [3, HEADER, 0, 0, 0, 0]), 4);
        assert_eq!(world.load(CONTROL + 16, 4), 0u32.to_le_bytes(), "the lowest free descriptor");
        assert_eq!(world.load(HEADER + 40, 8), 24u64.to_le_bytes());
        assert_eq!(world.script.descriptors[&0], named);
        message(&mut world, 4, &rights(&[5, 5]));
        assert_eq!(world.linux(one, number::SENDMSG, [3, HEADER, 0, 0, 0, 0]), 4);
        message(&mut world, 4, &[0; 20]);
        assert_eq!(world.linux(other, number::RECVMSG, [3, HEADER, DONT_WAIT, 0, 0, 0]), 4);
        let flags = world.load(HEADER + 48, 4);
        assert_eq!(flags, 0x8u32.to_le_bytes(), "MSG_CTRUNC: one did not fit");
        message(&mut world, 4, &rights(&[5]));
        assert_eq!(world.linux(one, number::SENDMSG, [3, HEADER, 0, 0, 0, 0]), 4);
        world.close(one);
        world.close(other);
        assert_eq!(world.returned(), world.script.taken.len(), "none is kept");
    }
}

#[test]
fn a_connection_waits_to_be_accepted_and_a_full_queue_makes_others_wait() {
    for kind in [STREAM, PACKETS] {
        let mut world = World::new();
        let listening = listener(&mut world, kind, 0);
        let (first, second) = (socket(&mut world, kind), socket(&mut world, kind));
        let connected = addressed(&mut world, first, number::CONNECT, b"\x01\0\0name");
        assert_eq!(world.result(connected), Some(0));
        assert_eq!(world.readiness(listening), Readiness::IN);
        let waiting = addressed(&mut world, second, number::CONNECT, b"\x01\0\0name");
        assert_eq!(world.result(waiting), None);
        assert_eq!(world.write(first, b"hello"), 5);
        let accepted = accept(&mut world, listening);
        let end = world.installed(accepted)[0];
        assert_eq!(world.read(end, 9), Ok(b"hello".to_vec()));
        assert_eq!(world.result(waiting), Some(0));
        let accepted = accept(&mut world, listening);
        let other_end = world.installed(accepted)[0];
        let waiting = accept(&mut world, listening);
        world.cancel(waiting);
        assert_eq!(world.result(waiting), Some(-i64::from(EINTR)));
        let again = addressed(&mut world, first, number::CONNECT, b"\x01\0\0name");
        assert_eq!(world.result(again), Some(-i64::from(EISCONN)));
        let third = socket(&mut world, kind);
        let pending = addressed(&mut world, third, number::CONNECT, b"\x01\0\0name");
        assert_eq!(world.result(pending), Some(0));
        world.close(listening);
        assert!(world.readiness(third).contains(Readiness::HUP), "nobody will accept it");
        let refused = socket(&mut world, kind);
        let call = addressed(&mut world, refused, number::CONNECT, b"\x01\0\0name");
        assert_eq!(world.result(call), Some(-i64::from(ECONNREFUSED)));
        for badge in [first, second, third, end, other_end, refused] {
            world.close(badge);
        }
        assert!(world.server.pipes.is_empty());
    }
}

#[test]
fn a_path_is_resolved_above_and_the_call_comes_back_with_the_node() {
    let mut world = World::new();
    let (server, client) = (socket(&mut world, DATAGRAM), socket(&mut world, DATAGRAM));
    let place = |number, arguments| {
        let place = SocketPlace { number, arguments, path: b"/run/it".to_vec(), device: 3, node: 4 };
        Request::Native(Message::typed(SOCKET_PLACE, &place))
    };
    let bind = addressed(&mut world, server, number::BIND, b"\x01\0/run/it\0");
    assert_eq!(world.ends[&bind], End::Forwarded(SERVER_VFS));
    let back = world.script.call(Caller::default(), server, place(number::BIND, [0; 6]));
    let back = world.begin_call(back);
    assert_eq!(world.result(back), Some(0));
    world.store(NAME, b"\x01\0/run/it\0");
    world.store(BUFFER, b"letter");
    let send = world.begin(client, number::SENDTO, [3, BUFFER, 6, 0, NAME, 10]);
    assert_eq!(world.ends[&send], End::Forwarded(SERVER_VFS));
    let arguments = [3, BUFFER, 6, 0, NAME, 10];
    let back = world.script.call(Caller::default(), client, place(number::SENDTO, arguments));
    let back = world.begin_call(back);
    assert_eq!(world.result(back), Some(6));
    assert_eq!(receive(&mut world, server, 10, 0), Ok(b"letter".to_vec()));
    world.close(server);
    let back = world.script.call(Caller::default(), client, place(number::SENDTO, arguments));
    let back = world.begin_call(back);
    assert_eq!(world.result(back), Some(-i64::from(ECONNREFUSED)), "the name outlives the socket");
}

#[test]
fn a_receiver_waits_no_longer_than_it_was_told() {
    let mut world = World::new();
    let (one, _) = pair(&mut world, STREAM);
    let time: Vec<u8> = [2u64, 500_000].into_iter().flat_map(u64::to_le_bytes).collect();
    let inputs = [Some(time), None];
    let arguments = [3, 1, 20, BUFFER, 16, 0];
    let foreign = Foreign { number: number::SETSOCKOPT, arguments, inputs, ..Foreign::default() };
    let set = world.begin_with(one, foreign);
    assert_eq!(world.result(set), Some(0));
    let waiting = begin_receive(&mut world, one, 10, 0);
    for (now, result) in [(2_499_999_999, None), (2_500_000_000, Some(-i64::from(EAGAIN)))] {
        world.script.now = now;
        world.event(&Event::Notify { bits: TIMER_BIT });
        assert_eq!(world.result(waiting), result);
    }
}

#[test]
fn a_timer_counts_how_often_it_went_off() {
    let mut world = World::new();
    let made = world.begin(0, number::TIMERFD_CREATE, [1, u64::from(O_NONBLOCK), 0, 0, 0, 0]);
    let timer = world.installed(made)[0];
    let times: Vec<u8> = [0u64, 100, 0, 250].into_iter().flat_map(u64::to_le_bytes).collect();
    let inputs = [Some(times), None];
    let foreign = Foreign {
        number: number::TIMERFD_SETTIME,
        arguments: [3, 0, BUFFER, 0, 0, 0],
        inputs,
        ..Foreign::default()
    };
    let set = world.begin_with(timer, foreign);
    assert_eq!(world.result(set), Some(0));
    assert_eq!(world.read(timer, 8), Err(-i64::from(EAGAIN)));
    assert_eq!(world.readiness(timer), Readiness::empty());
    world.script.now = 451;
    world.event(&Event::Notify { bits: TIMER_BIT });
    assert_eq!(world.readiness(timer), Readiness::IN);
    assert_eq!(world.read(timer, 8), Ok(3u64.to_le_bytes().to_vec()), "at 250, 350 and 450");
    assert_eq!(world.readiness(timer), Readiness::empty());
    assert_eq!(world.linux(timer, number::TIMERFD_GETTIME, [3, BUFFER, 0, 0, 0, 0]), 0);
    let words = world.load(BUFFER, 32);
    assert_eq!((words[8], words[24]), (100, 99), "interval, and what is left");
    world.close(timer);
}
